//! The fault machine over the simulated disk: every promise of the contract, held against a process
//! that is killed, power that fails, and calls that fail, at every single call. Feature `sim`.
//!
//! - [`workload`]: what a program does, and the journal of what it was promised;
//! - [`journal`]: what must be there after a crash, and the judge;
//! - [`crashes`]: a crash before every change of every short sequence of operations, and in long
//!   random ones; then a crash before every change of the recovery;
//! - [`failures`]: every call fails once, writes come out short, the disk is full at every size;
//! - [`damage`]: every byte of a directory flipped, zeroed, cut off;
//! - [`races`]: what happens beside a sync, and what lies behind the end of a log;
//! - [`share`]: share groups, with a crash before every change;
//! - [`mutants`]: the library is broken on purpose, and a harness must notice.
//!
//! Everything is decided by numbers that a failing case prints. `SAPWOOD_LONG=1` runs the long set;
//! `.ci/long` runs the long sets of everything that looks for faults. `SAPWOOD_SEQUENCES=3` explores
//! the sequences of up to so many operations (2 otherwise, 4 in the long set; each more takes eleven
//! times as long).

mod crashes;
mod damage;
mod failures;
mod journal;
#[cfg(feature = "mutants")]
mod mutants;
mod races;
mod share;
mod workload;

/// How many operations the longest of the sequences has that are explored one and all.
fn sequence_len_max() -> u32 {
    let set = std::env::var("SAPWOOD_SEQUENCES").ok();
    set.map_or(if long() { 4 } else { 2 }, |text| {
        text.parse().expect("SAPWOOD_SEQUENCES is a number")
    })
}

/// Whether to run everything rather than a sample.
fn long() -> bool {
    std::env::var_os("SAPWOOD_LONG").is_some_and(|value| value != "0")
}
