//! Power cuts at every call, over several lives of a log: what a flush answered for is there, what
//! is left is a gap-free prefix of what was appended, and no offset that was flushed is used again.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::config::{Durability, TopicConfig};
use super::fixture::{NOW, WRITTEN, append, config, number_text, read_all};
use super::recovery::plan;
use super::{Environment, PartitionLog};
use crate::error::{Error, Result};
use crate::fs::FileSystem;
use crate::fs::sim::{DiskCallKind, PowerLoss, Random, SimulatedDisk, Verdict};
use crate::segment::records_file::ReadMode;
use crate::time::ManualClock;
use crate::topic_partition::TopicPartition;

const DIRECTORY: &str = "p";

/// What the log has promised so far.
#[derive(Debug, Default)]
struct Promises {
    /// Every offset below it was flushed.
    flushed: u64,
    /// Every record by its offset, answered or not. No two are alike, so that one that was lost
    /// and comes back in the place of another is noticed.
    records: Vec<String>,
    /// How many records there ever were.
    count: u64,
    /// Records before it were deleted, and the call has returned.
    deleted: u64,
    /// A deletion up to here was asked for.
    asked_to_delete: u64,
}

struct Life {
    disk: SimulatedDisk,
    config: Arc<TopicConfig>,
    promises: Promises,
}

/// Cuts the power before the `calls`-th change, and lets the `syncs`-th sync of a file fail.
fn plan_trouble(disk: &SimulatedDisk, calls: u64, syncs: Option<u64>) {
    let (last, synced) = (disk.calls() + calls, AtomicU64::new(0));
    disk.on_call(move |call| {
        if call.kind.is_change() && call.number >= last {
            return Verdict::Stops;
        }
        let fails = call.kind == DiskCallKind::Sync
            && syncs == Some(synced.fetch_add(1, Ordering::Relaxed));
        if fails { Verdict::Fails(5) } else { Verdict::Proceeds }
    });
}

impl Life {
    fn new(durability: Durability, mapped_tails: bool) -> Self {
        let directory = Path::new(DIRECTORY);
        let disk = SimulatedDisk::new();
        disk.set_mapped_tails(mapped_tails);
        disk.create_directory(directory).unwrap();
        disk.sync_directory(Path::new("")).unwrap();
        PartitionLog::create(&disk, directory).unwrap();
        let settings = config(durability)
            .segment_bytes(1_500)
            .max_message_bytes(1_500)
            .index_interval_bytes(200)
            .retention_bytes(2_500);
        Self { disk, config: Arc::new(settings), promises: Promises::default() }
    }

    fn has_power(&self) -> bool {
        self.disk.kind(Path::new("")).is_ok()
    }

    fn open(&self) -> Result<Arc<PartitionLog>> {
        let environment = Environment {
            fs: Arc::new(self.disk.clone()),
            clock: Arc::new(ManualClock::new(NOW)),
            metrics: Arc::default(),
            read_mode: ReadMode::Mapped,
            open_logs: Arc::default(),
        };
        let directory: Arc<Path> = Path::new(DIRECTORY).into();
        let address = TopicPartition::new("orders", 0);
        let plan = plan(&environment, &address, &directory, &self.config)?;
        Ok(PartitionLog::open(&environment, plan, Arc::clone(&self.config))?.0)
    }

    /// Works until the power is gone.
    fn work(&mut self, random: &mut Random) -> Error {
        loop {
            let mut log = match self.open() {
                Ok(log) => log,
                // A sync has failed in the middle of it.
                Err(error) if self.has_power() && !matches!(error, Error::Corrupt(_)) => {
                    continue;
                }
                Err(error) => return error,
            };
            let end = loop {
                if let Err(error) = self.step(&mut log, random) {
                    break error;
                }
            };
            // After a failed sync it is opened anew, by a process that sees the same files.
            if !self.has_power() || matches!(end, Error::Corrupt(_)) {
                return end;
            }
        }
    }

    fn step(&mut self, log: &mut Arc<PartitionLog>, random: &mut Random) -> Result<()> {
        match random.below(24) {
            0..10 => self.append(log),
            10..15 => self.flush(log),
            15..17 => log.sync_checkpoint(),
            17 => {
                let end = log.ends().high_watermark();
                let start = log.ends().log_start();
                let offset = start + random.below(end - start + 1);
                self.promises.asked_to_delete = self.promises.asked_to_delete.max(offset);
                log.delete_records(offset)?;
                self.promises.deleted = self.promises.deleted.max(offset);
                Ok(())
            }
            18 => {
                self.promises.asked_to_delete = self.promises.records.len() as u64;
                log.apply_retention(NOW, None).map(drop)
            }
            19 => {
                self.flush(log)?;
                log.fence();
                log.close()?;
                *log = self.open()?;
                Ok(())
            }
            20 => {
                *log = self.open()?;
                Ok(())
            }
            _ => (0..random.below(20)).try_for_each(|_| self.append(log)),
        }
    }

    fn append(&mut self, log: &PartitionLog) -> Result<()> {
        let number = log.ends().log_end();
        assert!(number >= self.promises.flushed, "offset {number} was flushed before");
        let promises = &mut self.promises;
        promises.count += 1;
        let record = format!("{} {:06}", number_text(number), promises.count);
        promises.records.truncate(usize::try_from(number).unwrap());
        promises.records.push(record.clone());
        append(log, &[record]).map(drop)
    }

    fn flush(&mut self, log: &PartitionLog) -> Result<()> {
        let end = log.ends().log_end();
        log.flush()?;
        self.promises.flushed = self.promises.flushed.max(end);
        Ok(())
    }

    /// The power comes back.
    fn next(mut self, random: &mut Random) -> Self {
        let loss = PowerLoss::Random(random.below(u64::MAX));
        self.disk = self.disk.power_loss(loss);
        self
    }

    /// Opens without any trouble and looks whether the promises were kept.
    fn check(&mut self) {
        let log = self.open().unwrap();
        let (start, end) = (log.ends().log_start(), log.ends().log_end());
        let promises = &mut self.promises;
        for (offset, record) in read_all(&log) {
            let expected = promises.records.get(usize::try_from(offset).unwrap());
            assert_eq!(Some(&*record), expected.map(String::as_bytes), "offset {offset}");
        }
        assert_eq!(read_all(&log).len() as u64, end - start);
        let given_out = promises.records.len() as u64;
        assert!(end >= promises.flushed, "{end} of {given_out}, flushed {}", promises.flushed);
        assert!(end <= given_out, "{end} of {given_out}");
        assert!(start >= promises.deleted, "{start}, deleted {}", promises.deleted);
        assert!(start <= promises.asked_to_delete, "{start} of {}", promises.asked_to_delete);
        // What was served after an open in order must stay.
        promises.records.truncate(usize::try_from(end).unwrap());
        promises.asked_to_delete = start;
        promises.deleted = start;
        if self.config.durability == Durability::Fsync {
            promises.flushed = end;
        }
    }
}

fn live_and_die(seed: u64, durability: Durability, mapped_tails: bool) {
    let mut random = Random::new(seed);
    let mut life = Life::new(durability, mapped_tails);
    for _ in 0..4 {
        let calls = random.below(150);
        let syncs = random.one_in(3).then(|| random.below(20));
        plan_trouble(&life.disk, calls, syncs);
        let end = life.work(&mut random);
        assert!(!matches!(end, Error::Corrupt(_)), "{end}");
        assert!(!life.has_power(), "{end:?}");
        life = life.next(&mut random);
        // The recovery may be cut short, too.
        if random.one_in(2) {
            plan_trouble(&life.disk, random.below(30), None);
            match life.open() {
                Err(Error::Corrupt(damage)) => panic!("{damage}"),
                opened => drop(opened),
            }
            life = life.next(&mut random);
        }
        life.check();
    }
}

#[test]
fn whatever_a_power_cut_leaves_the_promises_are_kept() {
    for seed in 0..200 {
        for durability in [Durability::Fsync, WRITTEN] {
            for mapped_tails in [true, false] {
                let lived = std::panic::catch_unwind(|| {
                    live_and_die(seed, durability, mapped_tails);
                });
                assert!(lived.is_ok(), "seed {seed}, {durability:?}, mapped: {mapped_tails}");
            }
        }
    }
}
