//! Arbitrary bytes as record batches: an answer or an error, within bounds.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| sapwood::fuzzing::record_batch(bytes));
