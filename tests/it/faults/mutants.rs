//! Negative controls: a harness counts only if it notices a library that is broken (reliability
//! contract, section 3). Each mutant is planted on this thread, and the harness named beside it must
//! fail; without a mutant it must not.
//!
//! | mutant | is noticed by |
//! |---|---|
//! | (a) a directory is not synced | crashes: roll |
//! | (b) a send is answered before fdatasync | crashes: append |
//! | (c) a failed sync is repeated | failures: each change |
//! | (d) the header is not covered by the checksum | damage: each byte |
//! | (e) a log is truncated below its watermark | damage: each byte |
//! | (f) a file is renamed without having been synced | crashes: create a topic |
//! | (g) a torn tail is left before the first append | races: fill a hole |
//! | (h) a sync answers for an unfinished write | races: send during a sync |

use std::panic::{AssertUnwindSafe, catch_unwind};

use sapwood::mutants::{Mutant, plant};

use super::crashes::{Depth, explore};
use super::damage::damage_everything;
use super::failures::fail_each_change;
use super::races::{fill_a_hole_before_valid_batches, send_during_sync};
use super::workload::{Op, Setup};

type Harness = fn() -> Result<(), String>;

fn crash_in(ops: &[Op]) -> Result<(), String> {
    let depth = Depth { random: 2, recovery_every: 1_000 };
    explore(ops, Setup::ALL[0], depth).wrong.into_iter().next().map_or(Ok(()), Err)
}

const CONTROLS: [(Mutant, &str, Harness); 8] = [
    (Mutant::SkipsDirectorySync, "crashes: roll", || crash_in(&[Op::AppendSynced, Op::Roll])),
    (Mutant::AnswersBeforeSync, "crashes: append", || crash_in(&[Op::AppendSynced])),
    (Mutant::RepeatsFailedSync, "failures: each change", fail_each_change),
    (Mutant::LeavesHeaderUnchecked, "damage: each byte", || damage_everything(true, 1).map(drop)),
    (Mutant::TruncatesBelowWatermark, "damage: each byte", || damage_everything(true, 1).map(drop)),
    (Mutant::RenamesWithoutSync, "crashes: create a topic", || crash_in(&[Op::CreateOrDelete])),
    (Mutant::KeepsTailBeforeFirstAppend, "races: fill a hole", fill_a_hole_before_valid_batches),
    (Mutant::SyncAnswersForUnfinishedWrites, "races: send during a sync", send_during_sync),
];

/// What a harness finds; a panic is a find as well.
fn run(harness: Harness) -> Result<(), String> {
    catch_unwind(AssertUnwindSafe(harness)).unwrap_or_else(|_| Err("a panic".to_owned()))
}

#[test]
fn mutants_are_all_noticed() {
    for (mutant, name, harness) in CONTROLS {
        let planted = plant(mutant);
        let found = run(harness);
        drop(planted);
        match found {
            Ok(()) => panic!("{mutant:?} was not noticed by {name}"),
            Err(what) => println!("{mutant:?} is noticed by {name}: {what:.300}"),
        }
    }
}

#[test]
fn mutants_are_not_seen_where_none_is_planted() {
    for (mutant, name, harness) in CONTROLS {
        if let Err(what) = run(harness) {
            panic!("{name}, meant for {mutant:?}, finds without it: {what}");
        }
    }
}
