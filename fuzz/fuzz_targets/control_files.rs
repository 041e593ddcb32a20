//! Arbitrary bytes as the files that are ours: registry, checkpoint, clean-shutdown marker.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| sapwood::fuzzing::control_files(bytes));
