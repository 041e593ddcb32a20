//! Goal: whatever users do, in whatever order, what they find is what they stored: every record byte
//! for byte at its offset, every committed offset, every setting; also after the broker was closed
//! or killed and opened again, and for whoever reads along.
//!
//! Method: random operations on a real directory, and the same on plain vectors; the two are compared
//! all the time. Time stands still unless an operation moves it. A failing sequence is shrunk and
//! printed; kept below as a regression under a name of its own. `SAPWOOD_MODEL_CASES` sets how many
//! sequences are tried.

mod expected;
mod world;

use std::path::Path;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tempfile::TempDir;

use self::world::World;

/// One thing a user does. Numbers that choose among what is there are taken modulo.
#[derive(Debug, Clone)]
enum Op {
    /// One batch, straight into a partition.
    Append {
        topic: usize,
        partition: usize,
        sizes: Vec<usize>,
        age: Option<u16>,
    },
    /// Records with keys through the producer, and waits for them.
    Send {
        topic: usize,
        keys: Vec<u8>,
        size: usize,
    },
    /// Records for one partition through the producer, left to linger.
    SendAndGo {
        topic: usize,
        partition: usize,
        sizes: Vec<usize>,
    },
    Flush,
    Consume {
        topic: usize,
        group: usize,
        polls: usize,
        max_records: usize,
        commit: bool,
    },
    /// Goes somewhere, and reads on from there.
    Seek {
        topic: usize,
        partition: usize,
        to: usize,
    },
    SeekToTimestamp {
        topic: usize,
        partition: usize,
        of: usize,
    },
    DeleteRecords {
        topic: usize,
        partition: usize,
        before: usize,
    },
    AddPartition {
        topic: usize,
    },
    CreateTopic {
        topic: usize,
        settings: Settings,
    },
    DeleteTopic {
        topic: usize,
    },
    Alter {
        topic: usize,
        settings: Settings,
    },
    /// Time passes, and maintenance runs.
    Pass {
        seconds: u16,
    },
    ReadAlong,
    Check,
    CloseAndReopen,
    KillAndReopen,
}

#[derive(Debug, Clone, Copy)]
struct Settings {
    segment_bytes: u32,
    written: bool,
    compression: u8,
    retention: Retention,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Retention {
    Unlimited,
    Minutes(u8),
    Kilobytes(u8),
}

fn settings() -> impl Strategy<Value = Settings> {
    let retention = prop_oneof![
        2 => Just(Retention::Unlimited),
        1 => (1..10_u8).prop_map(Retention::Minutes),
        1 => (0..8_u8).prop_map(Retention::Kilobytes),
    ];
    (prop::sample::select(vec![1024, 2048, 4096]), any::<bool>(), 0..3_u8, retention).prop_map(
        |(segment_bytes, written, compression, retention)| Settings {
            segment_bytes,
            written,
            compression,
            retention,
        },
    )
}

fn op() -> impl Strategy<Value = Op> {
    let (topic, partition, number) = (0..2_usize, 0..3_usize, any::<usize>());
    let sizes = || prop::collection::vec(0..300_usize, 1..6);
    prop_oneof![
        8 => (topic.clone(), partition.clone(), sizes(), prop::option::of(0..1_000_u16)).prop_map(
            |(topic, partition, sizes, age)| Op::Append { topic, partition, sizes, age }),
        4 => (topic.clone(), prop::collection::vec(0..8_u8, 1..12), 0..300_usize)
            .prop_map(|(topic, keys, size)| Op::Send { topic, keys, size }),
        4 => (topic.clone(), partition.clone(), sizes())
            .prop_map(|(topic, partition, sizes)| Op::SendAndGo { topic, partition, sizes }),
        2 => Just(Op::Flush),
        5 => (topic.clone(), 0..2_usize, 0..4_usize, 1..20_usize, any::<bool>()).prop_map(
            |(topic, group, polls, max_records, commit)| {
                Op::Consume { topic, group, polls, max_records, commit }
            }),
        2 => (topic.clone(), partition.clone(), number)
            .prop_map(|(topic, partition, to)| Op::Seek { topic, partition, to }),
        2 => (topic.clone(), partition.clone(), number)
            .prop_map(|(topic, partition, of)| Op::SeekToTimestamp { topic, partition, of }),
        2 => (topic.clone(), partition.clone(), number)
            .prop_map(|(topic, partition, before)| Op::DeleteRecords { topic, partition, before }),
        1 => topic.clone().prop_map(|topic| Op::AddPartition { topic }),
        3 => (topic.clone(), settings())
            .prop_map(|(topic, settings)| Op::CreateTopic { topic, settings }),
        1 => topic.clone().prop_map(|topic| Op::DeleteTopic { topic }),
        2 => (topic, settings()).prop_map(|(topic, settings)| Op::Alter { topic, settings }),
        3 => (1..400_u16).prop_map(|seconds| Op::Pass { seconds }),
        2 => Just(Op::ReadAlong),
        1 => Just(Op::Check),
        2 => Just(Op::CloseAndReopen),
        3 => Just(Op::KillAndReopen),
    ]
}

fn run(directory: TempDir, ops: &[Op]) {
    let mut world = World::new(directory);
    for op in ops {
        world.apply(op);
    }
    world.check();
    world.apply(&Op::KillAndReopen);
    world.apply(&Op::CloseAndReopen);
}

/// Tries so many sequences, each in a directory of its own.
fn try_sequences(cases: u32, directory: impl Fn() -> TempDir) {
    let cases = std::env::var("SAPWOOD_MODEL_CASES").map_or(cases, |text| text.parse().unwrap());
    let config = Config { failure_persistence: None, max_shrink_iters: 2_000, ..Config::default() };
    let sequence = ((settings(), settings()), prop::collection::vec(op(), 1..80));
    let tried =
        TestRunner::new(Config { cases, ..config }).run(&sequence, |((one, other), ops)| {
            // Without topics most operations do nothing: begin with both.
            let both = [one, other].into_iter().enumerate();
            let created = both.map(|(topic, settings)| Op::CreateTopic { topic, settings });
            run(directory(), &created.chain(ops).collect::<Vec<_>>());
            Ok(())
        });
    tried.unwrap_or_else(|failure| panic!("{failure}"));
}

/// Where syncs cost nothing, if there is such a place: what they are good for is not the question
/// here, and there are thousands.
fn without_syncs() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        tempfile::tempdir_in(memory).unwrap()
    } else {
        tempfile::tempdir().unwrap()
    }
}

#[test]
fn what_users_find_is_what_they_stored() {
    try_sequences(250, without_syncs);
}

#[test]
fn what_users_find_on_a_disk_is_what_they_stored() {
    try_sequences(8, || tempfile::tempdir().unwrap());
}
