//! Walking everything: every batch of every partition, checksums, codecs and records.
//!
//! Partitions are shared out among threads, each of which has one read and one decompressed batch in
//! memory at a time. Whoever asked is told between two reads, in its own thread, and can break off.

use std::cmp::Reverse;
use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use crate::broker::Broker;
use crate::error::{Corruption, Error, Result};
use crate::log::read::{Fetched, ReadCursor};
use crate::record::batch::{BatchError, RecordBatch};
use crate::topic::{DECOMPRESSED_MAX, Partition, Topic};
use crate::topic_partition::TopicPartition;

/// How much is read at a time.
const READ_LEN: usize = 4 << 20;

/// Too little for two batches: so much is read at a time to get one.
const ONE_BATCH: usize = 1;

/// The outcome of [`Broker::verify`](crate::Broker::verify) and
/// [`Broker::verify_with`](crate::Broker::verify_with).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct VerifyReport {
    /// Every partition of every topic, internal ones included, in order of topic and number. Of a
    /// verification that was broken off: those that were looked at, the last ones in part.
    pub partitions: Vec<PartitionVerification>,
    /// Whether everything was read: `false` if the verification was broken off.
    pub is_complete: bool,
}

impl VerifyReport {
    /// Whether no damage was found. In a report that is not complete that says nothing of what was
    /// not read.
    pub fn is_intact(&self) -> bool {
        self.damaged().next().is_none()
    }

    /// The partitions that are damaged.
    ///
    /// ```
    /// # let broker = sapwood::Broker::in_memory()?;
    /// for damage in broker.verify()?.damaged().flat_map(|partition| &partition.damage) {
    ///     eprintln!("{damage}");
    /// }
    /// # assert_eq!(broker.verify()?.damaged().count(), 0);
    /// # Ok::<(), sapwood::Error>(())
    /// ```
    pub fn damaged(&self) -> impl Iterator<Item = &PartitionVerification> {
        self.partitions.iter().filter(|partition| !partition.damage.is_empty())
    }

    /// Records that were read and found right.
    pub fn records(&self) -> u64 {
        self.partitions.iter().map(|partition| partition.records).sum()
    }
}

/// What was found in one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartitionVerification {
    /// The partition.
    pub topic_partition: TopicPartition,
    /// Batches that are right.
    pub batches: u64,
    /// Records in them.
    pub records: u64,
    /// Bytes of them, as stored.
    pub bytes: u64,
    /// All damage that was found, in order. Behind a batch whose bytes are not those that were
    /// written, the rest of its segment was not looked at: nothing vouches for where the next batch
    /// begins. [`SegmentDump`](crate::SegmentDump) shows what lies there.
    pub damage: Vec<Corruption>,
}

/// How far a verification has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct VerifyProgress {
    /// Bytes of batches that are done with: read, or passed over as damaged or deleted meanwhile.
    pub bytes_done: u64,
    /// Bytes of batches there were when the verification began. What is appended later is verified
    /// too and not counted, so that `bytes_done` ends here.
    pub bytes_total: u64,
    /// Partitions that are done with.
    pub partitions_done: usize,
    /// Partitions there are.
    pub partitions_total: usize,
    /// Places at which damage was found.
    pub damage_found: u64,
}

impl VerifyProgress {
    fn add(&mut self, step: &Step) {
        self.bytes_done += step.bytes;
        self.partitions_done += usize::from(step.ends_partition);
        self.damage_found += step.damage;
    }
}

/// Verifies on the calling thread.
pub(super) fn verify(broker: &Broker) -> Result<VerifyReport> {
    let work = Work::of(broker);
    let verified = work.take_on(&mut |_| ControlFlow::Continue(()))?;
    broker.check_open()?;
    Ok(report([verified]))
}

/// Verifies on several threads, and tells the calling one how far they are.
pub(super) fn verify_with(
    broker: &Broker,
    threads: NonZeroUsize,
    watch: &mut dyn FnMut(VerifyProgress) -> ControlFlow<()>,
) -> Result<VerifyReport> {
    let work = Work::of(broker);
    let (tell, steps) = sync_channel(threads.get());
    let verified: Vec<_> = thread::scope(|scope| {
        let start = |_| {
            let (tell, work) = (SyncSender::clone(&tell), &work);
            let begun = thread::Builder::new().name("sapwood-verify".to_owned());
            let begun = begun.spawn_scoped(scope, move || work.take_on_and_tell(&tell));
            begun.map_err(|error| Error::io("start a thread for", broker.directory(), error))
        };
        let count = threads.get().min(work.shares.len());
        let workers = (0..count).map(start).collect::<Result<Vec<_>>>()?;
        drop(tell);
        let mut progress = work.progress();
        // Once nobody takes the steps any more, however this ends, the threads end too.
        for step in steps {
            progress.add(&step?);
            if watch(progress).is_break() {
                break;
            }
        }
        let join = |worker: thread::ScopedJoinHandle<'_, _>| {
            worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        Ok::<_, Error>(workers.into_iter().map(join).collect())
    })?;
    broker.check_open()?;
    Ok(report(verified))
}

/// What there is to verify, taken on partition by partition.
struct Work<'a> {
    broker: &'a Broker,
    /// The largest first, so that no thread is left alone with it at the end.
    shares: Vec<Share>,
    next: AtomicUsize,
}

/// One partition, and its part of the whole in bytes.
struct Share {
    partition: Partition,
    bytes: u64,
}

/// What one thread has found, and whether it came to the end of the work.
#[derive(Default)]
struct Verified {
    partitions: Vec<PartitionVerification>,
    is_complete: bool,
}

/// What has been done since the last time that anybody was told.
struct Step {
    bytes: u64,
    damage: u64,
    ends_partition: bool,
}

type Tell<'t> = &'t mut dyn FnMut(Step) -> ControlFlow<()>;

impl<'a> Work<'a> {
    fn of(broker: &'a Broker) -> Self {
        let topics = broker.manager().topics();
        let mut shares: Vec<_> = topics
            .iter()
            .flat_map(Topic::partitions)
            .map(|partition| Share { bytes: partition.size(), partition })
            .collect();
        shares.sort_by_key(|share| Reverse(share.bytes));
        Self { broker, shares, next: AtomicUsize::new(0) }
    }

    fn progress(&self) -> VerifyProgress {
        VerifyProgress {
            bytes_total: self.shares.iter().map(|share| share.bytes).sum(),
            partitions_total: self.shares.len(),
            ..VerifyProgress::default()
        }
    }

    /// Verifies partitions that nobody has taken on yet until there are none left, or whoever is
    /// told does not want more.
    fn take_on(&self, tell: Tell<'_>) -> Result<Verified> {
        let mut partitions = Vec::new();
        while let Some(share) = self.shares.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            self.broker.check_open()?;
            let mut walk = Walk::new(share);
            let walked = walk.run(tell);
            // What is found, or not found, in a topic that was deleted meanwhile says nothing.
            if share.partition.log().is_closed() {
                self.broker.check_open()?;
            } else {
                let flow = walked?;
                partitions.push(walk.verified);
                if flow.is_break() {
                    return Ok(Verified { partitions, is_complete: false });
                }
            }
            let rest = Step { bytes: walk.bytes_left, damage: 0, ends_partition: true };
            if tell(rest).is_break() {
                return Ok(Verified { partitions, is_complete: false });
            }
        }
        Ok(Verified { partitions, is_complete: true })
    }

    /// The same in a thread of its own.
    fn take_on_and_tell(&self, tell: &SyncSender<Result<Step>>) -> Verified {
        let verified = self.take_on(&mut |step| match tell.send(Ok(step)) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        });
        verified.unwrap_or_else(|error| {
            // Nobody hears of it if another thread has failed before, or it was broken off.
            let _ = tell.send(Err(error));
            Verified::default()
        })
    }
}

fn report(verified: impl IntoIterator<Item = Verified>) -> VerifyReport {
    let mut report = VerifyReport { partitions: Vec::new(), is_complete: true };
    for verified in verified {
        report.partitions.extend(verified.partitions);
        report.is_complete &= verified.is_complete;
    }
    report.partitions.sort_by(|a, b| a.topic_partition.cmp(&b.topic_partition));
    report
}

/// The walk through one partition.
struct Walk<'a> {
    partition: &'a Partition,
    /// Bytes of its share that nobody was told of yet.
    bytes_left: u64,
    verified: PartitionVerification,
    offset: u64,
    cursor: Option<ReadCursor>,
    read_len: usize,
    buffer: Vec<u8>,
}

impl<'a> Walk<'a> {
    fn new(share: &'a Share) -> Self {
        let partition = &share.partition;
        let verified = PartitionVerification {
            topic_partition: partition.topic_partition().clone(),
            batches: 0,
            records: 0,
            bytes: 0,
            damage: Vec::new(),
        };
        Self {
            bytes_left: share.bytes,
            offset: partition.log_start_offset(),
            partition,
            verified,
            cursor: None,
            read_len: READ_LEN,
            buffer: Vec::new(),
        }
    }

    fn run(&mut self, tell: Tell<'_>) -> Result<ControlFlow<()>> {
        loop {
            let log = self.partition.log();
            let damage_before = self.verified.damage.len();
            let bytes = match log.read(self.offset, self.cursor.as_ref(), self.read_len) {
                Ok(Some(fetched)) => self.take(fetched),
                Ok(None) => return Ok(ControlFlow::Continue(())),
                // Retention has passed by.
                Err(Error::OffsetOutOfRange { log_start_offset, .. })
                    if log_start_offset > self.offset =>
                {
                    self.go_on_at(log_start_offset);
                    0
                }
                // A read that meets damage gives nothing of what lies before it: from here on batch
                // by batch.
                Err(Error::Corrupt(_)) if self.read_len == READ_LEN => {
                    self.read_len = ONE_BATCH;
                    continue;
                }
                Err(Error::Corrupt(damage)) => {
                    self.verified.damage.push(*damage);
                    let Some(next) = log.segment_after(self.offset) else {
                        let damage = 1;
                        return Ok(tell(Step { bytes: 0, damage, ends_partition: false }));
                    };
                    self.go_on_at(next);
                    0
                }
                Err(error) => return Err(error),
            };
            let bytes = self.bytes_left.min(bytes);
            self.bytes_left -= bytes;
            let damage = (self.verified.damage.len() - damage_before) as u64;
            if tell(Step { bytes, damage, ends_partition: false }).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
    }

    fn go_on_at(&mut self, offset: u64) {
        (self.offset, self.cursor, self.read_len) = (offset, None, READ_LEN);
    }

    /// Checks batches that were read; returns how many bytes they are.
    fn take(&mut self, fetched: Fetched) -> u64 {
        let Fetched { bytes, next_offset, cursor } = fetched;
        let mut rest: &[u8] = &bytes;
        let mut file_position = cursor.file_position() - bytes.len() as u64;
        while let Ok(batch) = RecordBatch::parse(rest) {
            let end = file_position + batch.size() as u64;
            match check_records(&batch, &mut self.buffer) {
                Ok(()) => {
                    self.verified.batches += 1;
                    self.verified.records += u64::from(batch.record_count());
                    self.verified.bytes += batch.size() as u64;
                }
                // Its checksum is right, so the next batch is where it should be.
                Err(error) => self.verified.damage.push(Corruption {
                    topic_partition: Some(self.partition.topic_partition().clone()),
                    path: cursor.path().to_owned(),
                    bytes: file_position..end,
                    offsets: batch.base_offset()..batch.next_offset(),
                    reason: error.to_string(),
                }),
            }
            rest = rest.get(batch.size()..).unwrap_or_default();
            file_position = end;
        }
        debug_assert!(rest.is_empty(), "a read gives whole batches");
        (self.offset, self.cursor) = (next_offset, Some(cursor));
        bytes.len() as u64
    }
}

/// Decompresses a batch and reads every record in it.
fn check_records(batch: &RecordBatch<'_>, buffer: &mut Vec<u8>) -> Result<(), BatchError> {
    batch.records(buffer, DECOMPRESSED_MAX)?.try_for_each(|record| record.map(drop))
}
