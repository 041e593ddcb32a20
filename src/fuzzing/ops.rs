//! Random operations on a broker, and the same on plain vectors; the two are compared after each.
//!
//! Input: a row of operations, each a few bytes. What users find must be what they stored: every
//! record byte for byte at its offset, every committed offset, every setting, also after a close or a
//! kill, and for whoever reads along (contract, clauses 2 to 4, 19, 28, 29, 31, 32).

mod model;
mod reader;
mod world;

use self::world::World;
use super::input::Input;

/// So many operations do all that more would do.
const OPS_MAX: usize = 60;

/// Runs the operations that the bytes stand for, and shows them if `SAPWOOD_FUZZ_SHOW` is set: a
/// fuzzer ends at the panic, when it is too late to tell what came before.
pub fn ops(bytes: &[u8]) {
    let show = std::env::var_os("SAPWOOD_FUZZ_SHOW").is_some();
    let mut input = Input::new(bytes);
    let mut world = World::new();
    for _ in 0..OPS_MAX {
        let Some(op) = Op::decode(&mut input) else { break };
        if show {
            eprintln!("{op:?}");
        }
        world = world.run(op);
        world.compare_offsets();
    }
    world.compare_all();
    world.run(Op::Reopen { close: false }).run(Op::Reopen { close: true });
}

/// One thing a user does. Numbers that choose among what is there are taken modulo.
#[derive(Debug, Clone, Copy)]
pub(super) enum Op {
    Create {
        topic: bool,
        settings: Settings,
    },
    Delete {
        topic: bool,
    },
    Alter {
        topic: bool,
        settings: Settings,
    },
    AddPartition {
        topic: bool,
    },
    /// One batch, straight into a partition.
    Append {
        topic: bool,
        partition: u8,
        count: u8,
        len: u8,
        age: Option<u8>,
    },
    /// Through a producer, by key.
    Send {
        topic: bool,
        count: u8,
        len: u8,
        key: u8,
    },
    Flush {
        topic: bool,
        partition: u8,
    },
    DeleteRecords {
        topic: bool,
        partition: u8,
        before: u8,
    },
    /// Time passes, and maintenance runs.
    Pass {
        minutes: u8,
    },
    /// The wall clock alone is set, by so many days.
    Jump {
        days: i8,
    },
    Subscribe {
        group: bool,
        to_end: bool,
        records_max: u8,
    },
    Poll,
    Seek {
        topic: bool,
        partition: u8,
        to: u8,
    },
    SeekToTimestamp {
        topic: bool,
        partition: u8,
        of: u8,
    },
    SeekToEdge {
        end: bool,
    },
    Commit,
    Leave,
    ResetGroup {
        group: bool,
        topic: bool,
        partition: u8,
        to: u8,
    },
    DeleteGroup {
        group: bool,
    },
    ReadAlong,
    Compare,
    Reopen {
        close: bool,
    },
}

impl Op {
    fn decode(input: &mut Input<'_>) -> Option<Self> {
        let kind = input.byte()?;
        // One bit of the kind chooses between two of whatever there are two of.
        let topic = kind & 0x80 != 0;
        Some(match kind % 28 {
            0 => Op::Create { topic, settings: Settings::decode(input)? },
            1 => Op::Delete { topic },
            2 => Op::Alter { topic, settings: Settings::decode(input)? },
            3 => Op::AddPartition { topic },
            4..=8 => {
                let (partition, count) = (input.byte()?, input.byte()? % 8);
                let (len, age) = (input.byte()?, input.byte()?);
                let age = (age != 0).then_some(age);
                Op::Append { topic, partition, count, len, age }
            }
            9 | 10 => {
                let (count, len, key) = (input.byte()? % 12, input.byte()?, input.byte()?);
                Op::Send { topic, count, len, key }
            }
            11 => Op::Flush { topic, partition: input.byte()? },
            12 => Op::DeleteRecords { topic, partition: input.byte()?, before: input.byte()? },
            13 | 14 => Op::Pass { minutes: input.byte()? },
            15 => Op::Jump { days: i8::from_be_bytes([input.byte()?]) },
            16 => {
                let how = input.byte()?;
                Op::Subscribe { group: topic, to_end: how & 1 != 0, records_max: 1 + how / 8 }
            }
            17 | 18 => Op::Poll,
            19 => Op::Seek { topic, partition: input.byte()?, to: input.byte()? },
            20 => Op::SeekToTimestamp { topic, partition: input.byte()?, of: input.byte()? },
            21 => Op::SeekToEdge { end: topic },
            22 => Op::Commit,
            23 => Op::Leave,
            24 => {
                let (partition, to) = (input.byte()?, input.byte()?);
                Op::ResetGroup { group: partition & 0x80 != 0, topic, partition, to }
            }
            25 => Op::DeleteGroup { group: topic },
            26 if topic => Op::ReadAlong,
            26 => Op::Compare,
            _ => Op::Reopen { close: topic },
        })
    }
}

/// The settings of a topic, each a few bits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settings(u8);

impl Settings {
    fn decode(input: &mut Input<'_>) -> Option<Self> {
        input.byte().map(Self)
    }

    /// One of so many choices, by the bits from a place on.
    fn choice(self, from: u8, choices: u8) -> u8 {
        (self.0 >> from) % choices
    }
}
