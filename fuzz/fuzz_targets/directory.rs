//! Arbitrary edits to a valid directory: what can be read of it is right, or there is an error.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| sapwood::fuzzing::directory(bytes));
