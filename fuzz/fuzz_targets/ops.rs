//! Arbitrary operations on a broker and on a model: both agree all the time.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| sapwood::fuzzing::ops(bytes));
