//! The workloads, run for one contender, and the check that nothing was lost.

use std::fs;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::time::{Duration, Instant};

use crate::log::{Contender, Durability, Log, RandomReads, Result};
use crate::values::{AnyOrder, BATCH_MAX, Counts, End, InOrder, VALUE_BYTES, Values};

/// How many threads append at once in [`Workload::AppendSyncedThreads`].
pub(crate) const THREADS: usize = 8;

/// Reading everything is given up after so many times the time of a workload.
const PATIENCE: u32 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Workload {
    AppendBatches,
    AppendSingly,
    AppendSynced,
    AppendSyncedThreads,
    ReadInOrder,
    ReadAtRandom,
}

impl Workload {
    pub(crate) const ALL: [Self; 6] = [
        Self::AppendBatches,
        Self::AppendSingly,
        Self::AppendSynced,
        Self::AppendSyncedThreads,
        Self::ReadInOrder,
        Self::ReadAtRandom,
    ];

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::AppendBatches => "W1 append in batches of 100, not synced",
            Self::AppendSingly => "W2 append one at a time, not synced",
            Self::AppendSynced => "W3 append one at a time, each synced",
            Self::AppendSyncedThreads => "W4 the same from 8 threads",
            Self::ReadInOrder => "W5 read everything in order",
            Self::ReadAtRandom => "W6 read one record at random",
        }
    }

    /// The title where there is little room.
    pub(crate) fn short_title(self) -> &'static str {
        match self {
            Self::AppendBatches => "W1 batches",
            Self::AppendSingly => "W2 singly",
            Self::AppendSynced => "W3 synced",
            Self::AppendSyncedThreads => "W4 8 threads",
            Self::ReadInOrder => "W5 in order",
            Self::ReadAtRandom => "W6 at random",
        }
    }

    /// What this contender does differently here.
    pub(crate) fn remark(self, contender: &Contender) -> &'static str {
        match self {
            Self::AppendBatches | Self::AppendSingly => contender.written,
            Self::AppendSynced | Self::AppendSyncedThreads => contender.synced,
            Self::ReadInOrder => contender.reads,
            Self::ReadAtRandom => match contender.random_reads {
                RandomReads::Possible(remark) | RandomReads::Impossible(remark) => remark,
            },
        }
    }
}

/// What one contender did in one workload of one round.
#[derive(Default)]
pub(crate) struct Outcome {
    /// Records per second, if it came that far.
    pub(crate) rate: Option<f64>,
    /// What went wrong.
    pub(crate) fault: Option<String>,
}

/// What one contender did in one round.
pub(crate) struct Round {
    /// In the order of [`Workload::ALL`].
    pub(crate) outcomes: [Outcome; 6],
    /// What the disk itself did in a second at that time; see [`Plan::bare_syncs`].
    pub(crate) bare_syncs: f64,
}

/// How much is done in a round.
pub(crate) struct Plan {
    /// Everything happens in directories under this one.
    pub(crate) root: PathBuf,
    /// How long a workload appends or reads at random.
    pub(crate) time: Duration,
    /// The most records it appends.
    pub(crate) records_max: u64,
    pub(crate) values: Values,
}

impl Plan {
    /// All workloads for one contender. Every group of them has a
    /// new directory, which is removed afterwards.
    pub(crate) fn round(&self, contender: &Contender, round: usize) -> Round {
        let [mut w1, mut w2, mut w3, mut w4, mut w5, mut w6] = <[Outcome; 6]>::default();
        let written = Durability::Written;
        let synced = Durability::Synced;
        self.in_directory(contender, round, "batches", [&mut w1, &mut w5, &mut w6], |at, out| {
            self.batches(contender, at, out)
        });
        self.in_directory(contender, round, "singly", [&mut w2], |at, [out]| {
            self.singly(contender, at, written, 64, out)
        });
        let bare_syncs = self.bare_syncs();
        self.in_directory(contender, round, "synced", [&mut w3], |at, [out]| {
            self.singly(contender, at, synced, 1, out)
        });
        self.in_directory(contender, round, "threads", [&mut w4], |at, [out]| {
            self.threads(contender, at, out)
        });
        Round { outcomes: [w1, w2, w3, w4, w5, w6], bare_syncs }
    }

    /// Runs `work` in a new directory; what goes wrong there is the fault of whatever has no rate.
    fn in_directory<const N: usize>(
        &self,
        contender: &Contender,
        round: usize,
        name: &str,
        mut outcomes: [&mut Outcome; N],
        work: impl FnOnce(&Path, [&mut Outcome; N]) -> Result<()>,
    ) {
        let directory = self.root.join(format!("{}-{name}-{round}", contender.name));
        fs::create_dir(&directory).expect("the directory can be written to");
        let lent = outcomes.each_mut().map(|outcome| &mut **outcome);
        let result = catch_unwind(AssertUnwindSafe(|| work(&directory, lent)));
        let fault = match result {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(format!("FAILED: {error}")),
            Err(_) => Some("PANICKED".to_owned()),
        };
        if let Some(fault) = fault {
            let first = outcomes.iter().position(|outcome| outcome.rate.is_none()).unwrap_or(0);
            for outcome in &mut outcomes[first..] {
                outcome.fault.get_or_insert_with(|| fault.clone());
            }
        }
        // A contender may still be at work in there behind our back: then it stays until the end.
        drop(fs::remove_dir_all(&directory));
    }

    /// W1, then W6 and W5 on what it wrote.
    fn batches(
        &self,
        contender: &Contender,
        directory: &Path,
        [append, read_all, read_one]: [&mut Outcome; 3],
    ) -> Result<()> {
        let mut log = (contender.open)(directory, Durability::Written)?;
        let (records, elapsed) = self.append(&*log, BATCH_MAX, 1)?;
        append.rate = Some(rate(records, elapsed));

        if let RandomReads::Possible(_) = contender.random_reads {
            self.read_at_random(&mut *log, records, read_one)
                .unwrap_or_else(|error| read_one.fault = Some(format!("FAILED: {error}")));
        }

        let mut check = InOrder::new(&self.values);
        let started = Instant::now();
        let end = self.read(&mut *log, |value| check.see(value))?;
        read_all.rate = Some(rate(check.seen(), started.elapsed()));
        read_all.fault = check.fault(records, end);
        log.close()
    }

    /// W2 and W3; `look` is how many appends there are between two looks at the clock.
    fn singly(
        &self,
        contender: &Contender,
        directory: &Path,
        durability: Durability,
        look: u64,
        outcome: &mut Outcome,
    ) -> Result<()> {
        let log = (contender.open)(directory, durability)?;
        let (records, elapsed) = self.append(&*log, 1, look)?;
        outcome.rate = Some(rate(records, elapsed));
        log.close()?;

        let mut check = InOrder::new(&self.values);
        let end = self.reopen_and_read(contender, directory, durability, |v| check.see(v))?;
        outcome.fault = check.fault(records, end);
        Ok(())
    }

    /// W4.
    fn threads(
        &self,
        contender: &Contender,
        directory: &Path,
        outcome: &mut Outcome,
    ) -> Result<()> {
        let log = (contender.open)(directory, Durability::Synced)?;
        let barrier = Barrier::new(THREADS + 1);
        let (appended, elapsed) = std::thread::scope(|scope| {
            let work = || {
                barrier.wait();
                self.append(&*log, 1, 1)
            };
            let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
            barrier.wait();
            let started = Instant::now();
            let results: Vec<_> = threads
                .into_iter()
                .map(|thread| thread.join().map_err(|_| "a thread panicked")?)
                .collect();
            let appended = results.into_iter().map(|result| Ok(result?.0));
            Result::Ok((appended.collect::<Result<Vec<u64>>>()?, started.elapsed()))
        })?;
        outcome.rate = Some(rate(appended.iter().sum(), elapsed));
        log.close()?;

        let mut expected = Counts::default();
        for records in appended {
            expected.add(&self.values.count(records));
        }
        let mut check = AnyOrder::new(&self.values);
        let synced = Durability::Synced;
        let end = self.reopen_and_read(contender, directory, synced, |v| check.see(v))?;
        outcome.fault = check.fault(&expected, end);
        Ok(())
    }

    /// Appends until the time is up or there are enough, and tells how many records in which time.
    fn append(&self, log: &dyn Log, batch: usize, look: u64) -> Result<(u64, Duration)> {
        let row = self.values.row();
        let started = Instant::now();
        let mut records = 0;
        while records < self.records_max && started.elapsed() < self.time {
            for _ in 0..look {
                log.append(row.batch(records, batch))?;
                records += batch as u64;
            }
        }
        Ok((records, started.elapsed()))
    }

    fn read_at_random(&self, log: &mut dyn Log, records: u64, out: &mut Outcome) -> Result<()> {
        let mut random = 0x2545_f491_4f6c_dd1d_u64;
        let (mut reads, mut right) = (0_u64, 0_u64);
        let started = Instant::now();
        while started.elapsed() < self.time / 2 {
            for _ in 0..64 {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                let offset = random % records;
                log.read_at(offset, &mut |value| {
                    right += u64::from(value == self.values.at(offset));
                    Ok(())
                })?;
                reads += 1;
            }
        }
        out.rate = Some(rate(reads, started.elapsed()));
        out.fault = (right != reads).then(|| format!("WRONG: {right} of {reads} reads right"));
        Ok(())
    }

    fn reopen_and_read(
        &self,
        contender: &Contender,
        directory: &Path,
        durability: Durability,
        see: impl FnMut(&[u8]),
    ) -> Result<End> {
        let mut log = (contender.open)(directory, durability)
            .map_err(|error| format!("opening again: {error}"))?;
        let end = self.read(&mut *log, see)?;
        log.close()?;
        Ok(end)
    }

    /// Reads everything, or until the patience is at its end.
    fn read(&self, log: &mut dyn Log, mut see: impl FnMut(&[u8])) -> Result<End> {
        let started = Instant::now();
        let mut seen = 0_u64;
        let result = log.read_all(&mut |value| {
            see(value);
            seen += 1;
            if seen.is_multiple_of(64) && started.elapsed() > PATIENCE * self.time {
                return Err(OutOfTime.into());
            }
            Ok(())
        });
        match result {
            Ok(()) => Ok(End::Reached),
            Err(error) if error.is::<OutOfTime>() => Ok(End::OutOfTime),
            Err(error) => Err(error),
        }
    }

    /// How often the disk itself can do what W3 asks for: a write over space that was written
    /// before, and `fdatasync`.
    fn bare_syncs(&self) -> f64 {
        const SPACE: usize = 1 << 20;
        let path = self.root.join("bare");
        let file = fs::File::create(&path).expect("the directory can be written to");
        file.write_all_at(&[0; SPACE], 0).expect("the disk has space");
        file.sync_all().expect("the disk can sync");
        let record = [b'r'; VALUE_BYTES];
        let mut places = (0..=SPACE - VALUE_BYTES).step_by(VALUE_BYTES).cycle();
        let started = Instant::now();
        let mut syncs = 0;
        while started.elapsed() < self.time / 4 {
            let at = places.next().expect("the places never end") as u64;
            file.write_all_at(&record, at).expect("the disk can write");
            file.sync_data().expect("the disk can sync");
            syncs += 1;
        }
        rate(syncs, started.elapsed())
    }
}

/// Ends a reading that takes too long.
#[derive(Debug)]
struct OutOfTime;

impl std::error::Error for OutOfTime {}

impl std::fmt::Display for OutOfTime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("out of time")
    }
}

fn rate(records: u64, elapsed: Duration) -> f64 {
    records as f64 / elapsed.as_secs_f64()
}
