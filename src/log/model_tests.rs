//! Random operations on a log and on a model that is a list of records: whatever the order of
//! appends, flushes, reads, deletions, closes and kills, both agree on every offset and every byte.
//!
//! A kill is a log that is dropped without a close: what the operating system was given stays.

use std::time::Duration;

use proptest::prelude::*;

use super::config::Durability;
use super::fixture::{Fixture, NOW, WRITTEN, append_at, config, read_from};
use super::*;
use crate::fs::TailWrites;
use crate::fs::memory::MemoryFileSystem;

#[derive(Debug, Clone)]
enum Operation {
    /// This many records of this length, in one batch.
    Append {
        count: usize,
        len: usize,
    },
    Flush,
    FlushIfDue,
    SyncCheckpoint,
    /// Reads from a place between log start and log end, in per mille.
    Read {
        at: u64,
    },
    FindTimestamp {
        at: u64,
    },
    DeleteRecords {
        at: u64,
    },
    RetentionBySize {
        keep: u64,
    },
    RetentionByAge {
        seconds: u64,
    },
    DropOldest,
    SetDurability {
        fsync: bool,
    },
    Close,
    Kill,
    /// Loses a derived file while the log is closed.
    LoseIndexes,
}

fn operation() -> impl Strategy<Value = Operation> {
    use Operation::*;
    prop_oneof![
        12 => (1..5_usize, prop_oneof![4 => 0..60_usize, 1 => 60..900_usize])
            .prop_map(|(count, len)| Append { count, len }),
        4 => Just(Flush),
        1 => Just(FlushIfDue),
        2 => Just(SyncCheckpoint),
        4 => (0..=1_000_u64).prop_map(|at| Read { at }),
        2 => (0..=1_000_u64).prop_map(|at| FindTimestamp { at }),
        1 => (0..=1_000_u64).prop_map(|at| DeleteRecords { at }),
        1 => (0..6_000_u64).prop_map(|keep| RetentionBySize { keep }),
        1 => (0..60_u64).prop_map(|seconds| RetentionByAge { seconds }),
        1 => Just(DropOldest),
        1 => any::<bool>().prop_map(|fsync| SetDurability { fsync }),
        2 => Just(Close),
        3 => Just(Kill),
        1 => Just(LoseIndexes),
    ]
}

/// What the log should be.
struct Model {
    /// Every record ever appended, by offset, with its timestamp.
    records: Vec<(Vec<u8>, Timestamp)>,
    /// No record before it can be read. Deletion goes by segments, so the log tells the model.
    log_start: u64,
    /// At least this much is visible.
    visible: u64,
    durability: Durability,
}

impl Model {
    fn end(&self) -> u64 {
        self.records.len() as u64
    }

    fn from(&self, offset: u64, end: u64) -> Vec<(u64, Vec<u8>)> {
        let at = |offset: u64| self.records[usize::try_from(offset).unwrap()].0.clone();
        (offset..end).map(|offset| (offset, at(offset))).collect()
    }

    /// An offset within the log.
    fn place(&self, per_mille: u64, end: u64) -> u64 {
        self.log_start + (end - self.log_start) * per_mille / 1_000
    }
}

struct Run {
    fixture: Fixture,
    log: Arc<PartitionLog>,
    model: Model,
}

impl Run {
    fn new(durability: Durability, tail_writes: TailWrites) -> Self {
        let settings = config(durability)
            .segment_bytes(2_048)
            .max_message_bytes(2_048)
            .index_interval_bytes(300);
        let memory = MemoryFileSystem::new().with_tail_writes(tail_writes);
        let fixture = Fixture::in_memory(memory, settings);
        let model = Model { records: Vec::new(), log_start: 0, visible: 0, durability };
        Self { log: fixture.open(), fixture, model }
    }

    fn apply(&mut self, operation: &Operation) {
        self.fixture.clock.advance(Duration::from_millis(700));
        match *operation {
            Operation::Append { count, len } => self.append(count, len),
            Operation::Flush => {
                self.log.flush().unwrap();
                self.model.visible = self.model.end();
            }
            Operation::FlushIfDue => {
                self.log.flush_if_due(Duration::from_secs(2)).map(drop).unwrap();
            }
            Operation::SyncCheckpoint => self.log.sync_checkpoint().unwrap(),
            Operation::Read { at } => self.read(at),
            Operation::FindTimestamp { at } => self.find_timestamp(at),
            Operation::DeleteRecords { at } => {
                let offset = self.model.place(at, self.log.ends().high_watermark());
                assert_eq!(self.log.delete_records(offset).unwrap(), offset);
                self.model.log_start = offset;
            }
            Operation::RetentionBySize { keep } => {
                self.retain(|config| config.retention_bytes(keep));
            }
            Operation::RetentionByAge { seconds } => {
                self.retain(|config| config.retention_ms(Duration::from_secs(seconds)));
            }
            Operation::DropOldest => {
                let dropped = self.log.drop_oldest_segment().unwrap();
                assert!(dropped || self.log.size() == 0);
                self.follow_log_start();
            }
            Operation::SetDurability { fsync } => self.set_durability(fsync),
            Operation::Close => {
                self.log.fence();
                self.log.close().unwrap();
                self.reopen();
            }
            Operation::Kill => self.reopen(),
            Operation::LoseIndexes => {
                for name in self.fixture.tree().keys().filter(|name| name.ends_with("index")) {
                    self.fixture.fs.remove_file(&self.fixture.path(name)).unwrap();
                }
                self.reopen();
            }
        }
        self.check();
    }

    fn append(&mut self, count: usize, len: usize) {
        let len = len.min(1_800 / count);
        let first = self.model.end();
        // Timestamps mostly rise.
        let back = Duration::from_secs(first % 7 * 3);
        let timestamp = self.fixture.environment.clock.now().saturating_sub(back);
        let value = |number: usize| {
            let mut value = (first + number as u64).to_be_bytes().to_vec();
            value.resize(8 + len, b'x');
            value
        };
        let values: Vec<_> = (0..count).map(value).collect();
        let appended = append_at(&self.log, &values, timestamp).unwrap();
        assert_eq!((appended.base_offset, appended.next_offset), (first, first + count as u64));
        self.model.records.extend(values.into_iter().map(|value| (value, timestamp)));
        if self.model.durability != Durability::Fsync {
            self.model.visible = self.model.end();
        }
    }

    fn read(&self, at: u64) {
        let high_watermark = self.log.ends().high_watermark();
        let offset = self.model.place(at, high_watermark);
        let found = read_from(&self.log, offset).unwrap();
        assert_eq!(found, self.model.from(offset, high_watermark));
    }

    fn find_timestamp(&self, at: u64) {
        let high_watermark = self.log.ends().high_watermark();
        let Ok(place) = usize::try_from(self.model.place(at, high_watermark)) else { return };
        let since = self.model.records.get(place).map_or(NOW, |record| record.1);
        let expected = (self.model.log_start..high_watermark)
            .map(|offset| (offset, self.model.records[usize::try_from(offset).unwrap()].1))
            .find(|(_, timestamp)| *timestamp >= since);
        assert_eq!(self.log.offset_for_timestamp(since, 1 << 20).unwrap(), expected);
    }

    fn retain(&mut self, rule: impl Fn(TopicConfig) -> TopicConfig) {
        let settings = self.log.config();
        self.log.set_config(&rule(settings.as_ref().clone())).unwrap();
        self.log.apply_retention(self.fixture.environment.clock.now(), None).unwrap();
        self.log.set_config(&settings).unwrap();
        self.model.visible = self.model.end();
        self.follow_log_start();
    }

    /// Segments go whole, so the log start lands where one begins; it never goes back.
    fn follow_log_start(&mut self) {
        let log_start = self.log.ends().log_start();
        assert!(log_start >= self.model.log_start);
        self.model.log_start = log_start;
    }

    fn set_durability(&mut self, fsync: bool) {
        let durability = if fsync { Durability::Fsync } else { WRITTEN };
        let settings = self.log.config().as_ref().clone().durability(durability);
        self.fixture.config = Arc::new(settings);
        self.log.set_config(&self.fixture.config).unwrap();
        self.model.durability = durability;
        self.model.visible = self.model.end();
    }

    fn reopen(&mut self) {
        let (log, report) = self.fixture.try_open().unwrap();
        assert_eq!(report.cut, None, "nothing was torn");
        self.log = log;
        self.model.visible = self.model.end();
    }

    fn check(&self) {
        let ends = self.log.ends();
        assert_eq!((ends.log_start(), ends.log_end()), (self.model.log_start, self.model.end()));
        assert!(ends.high_watermark() >= self.model.visible);
        assert!(ends.high_watermark() >= ends.log_start());
        let durable = self.log.recovery_point();
        assert!(durable <= ends.log_end());
        if self.model.durability == Durability::Fsync {
            assert!(ends.high_watermark() <= durable.max(ends.log_start()));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn a_log_agrees_with_a_list_of_records_whatever_happens_to_it(
        fsync in any::<bool>(),
        window in any::<bool>(),
        operations in prop::collection::vec(operation(), 1..80),
    ) {
        let durability = if fsync { Durability::Fsync } else { WRITTEN };
        let tail_writes = if window { TailWrites::MAPPED } else { TailWrites::Positioned };
        let mut run = Run::new(durability, tail_writes);
        for operation in &operations {
            run.apply(operation);
        }
        run.log.flush().unwrap();
        run.model.visible = run.model.end();
        let start = run.model.log_start;
        prop_assert_eq!(read_from(&run.log, start).unwrap(), run.model.from(start, run.model.end()));
    }
}
