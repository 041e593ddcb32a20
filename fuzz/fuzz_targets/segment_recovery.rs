//! Arbitrary bytes as the segment of a partition that was not closed in order.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| sapwood::fuzzing::segment_recovery(bytes));
