//! One partition's log.
//!
//! [`PartitionLog`] owns the segments of one directory, appends to the last of them, reads from all,
//! syncs, and deletes what retention gives up. It knows batches and offsets; which records make a
//! batch, and who reads them, is decided above.
//!
//! # Offsets
//!
//! `log start offset <= high watermark <= log end offset` and `recovery point <= log end offset`.
//! Below the recovery point everything is synced. Below the high watermark everything satisfies the
//! topic's durability: that is how far readers see. Under [`Durability::Fsync`] the high watermark
//! follows the recovery point, under [`Durability::Written`] the log end offset.
//!
//! # Locks
//!
//! In this order; none is held while code of the user runs:
//!
//! 1. `retention`: one deletion at a time; in a log that follows another, `follower`.
//! 2. `appender`: the active segment's writer and what it has not synced yet. Held over the write
//!    of one batch and over a roll, never over a sync.
//! 3. `checkpoint`: the watermark file.
//! 4. The locks inside [`Segments`], [`FlushQueue`] and [`EndOffsets`], each held for a few
//!    instructions.
//!
//! Readers take none of the first three: they work on a snapshot of the segments and on the
//! published offsets. Those that want nothing of aborted transactions take `transactions`, before all
//! others, while they look for markers in what has come since somebody did.

pub(crate) mod append;
pub(crate) mod backup;
pub(crate) mod checkpoint;
pub(crate) mod config;
mod delete;
pub(crate) mod end_offsets;
pub(crate) mod flush;
mod flush_deadline;
pub(crate) mod follow;
mod held_files;
pub(crate) mod open_logs;
pub(crate) mod read;
pub(crate) mod recovery;
pub(crate) mod retention;
pub(crate) mod segments;
mod sync;
pub(crate) mod transactions;

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod fixture;
#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

use self::append::{OFFSET_MAX, RollFacts};
use self::checkpoint::{Checkpoint, CheckpointWriter, WATERMARK_FILE};
use self::config::{Durability, TopicConfig};
use self::end_offsets::EndOffsets;
use self::flush::FlushQueue;
use self::flush_deadline::FlushDeadline;
use self::follow::Follower;
use self::open_logs::{OpenLogs, UseMark};
use self::recovery::execute::{Recovered, execute};
use self::recovery::{PartitionRecovery, Plan};
use self::segments::Segments;
use self::sync::CheckpointFile;
use self::transactions::Transactions;
use crate::error::{Error, Result};
use crate::events;
use crate::fs::{Access, FileSystem, durably};
use crate::metrics::Metrics;
use crate::record::TimestampType;
use crate::record::batch::BatchHeader;
use crate::record::builder::SealedBatch;
use crate::segment::file_name::{self, Suffix};
use crate::segment::indexer::Indexer;
use crate::segment::records_file::ReadMode;
use crate::segment::writer::{BatchFacts, SegmentWriter, Store, WriterLimits};
use crate::segment::{Extent, Segment};
use crate::time::{Clock, Timestamp};
use crate::topic_partition::TopicPartition;

/// The leader epoch of everything we write. There is one leader, this process; a Kafka broker that
/// takes the directory over goes on with higher ones.
pub(crate) const LEADER_EPOCH: i32 = 0;

/// What a log needs from outside.
#[derive(Debug, Clone)]
pub(crate) struct Environment {
    pub(crate) fs: Arc<dyn FileSystem>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) read_mode: ReadMode,
    pub(crate) open_logs: Arc<OpenLogs<PartitionLog>>,
}

/// One partition's log. Any thread may call anything.
#[derive(Debug)]
pub(crate) struct PartitionLog {
    topic_partition: TopicPartition,
    directory: Arc<Path>,
    environment: Environment,
    ends: EndOffsets,
    segments: Segments,
    flush: FlushQueue,
    retention: Mutex<()>,
    appender: Mutex<Appender>,
    checkpoint: Mutex<CheckpointFile>,
    /// What readers that want nothing of aborted transactions have found out.
    transactions: Mutex<Transactions>,
    /// What has been closed, for those who still ask: the broker, or a topic that was deleted.
    closed: OnceLock<&'static str>,
    /// Set by every append.
    use_mark: UseMark,
    this: Weak<Self>,
    /// Present if the log follows one that another process writes, and changes nothing.
    follower: Option<Mutex<Follower>>,
}

/// What the append lock guards.
#[derive(Debug)]
struct Appender {
    config: Arc<TopicConfig>,
    /// `None` when the log was opened read-only, and once it is closed.
    writer: Option<SegmentWriter>,
    /// Segments that have ended and are not synced yet, oldest first.
    sealed: Vec<SegmentWriter>,
    /// The directory has names that are not synced yet.
    new_names: bool,
    /// Batches appended since the last sync began.
    unsynced_batches: u64,
    flush_deadline: FlushDeadline,
}

/// What a log is put together from.
struct Parts {
    topic_partition: TopicPartition,
    directory: Arc<Path>,
    config: Arc<TopicConfig>,
    segments: Segments,
    /// Log start offset, high watermark, log end offset.
    offsets: [u64; 3],
    checkpoint: Checkpoint,
    checkpoint_writer: Option<CheckpointWriter>,
    writer: Option<SegmentWriter>,
    follower: Option<Mutex<Follower>>,
}

impl Appender {
    fn writer(&mut self) -> Result<&mut SegmentWriter> {
        // A log opened read-only is refused earlier.
        match &mut self.writer {
            Some(writer) => Ok(writer),
            None => Err(Error::Closed { what: "the broker" }),
        }
    }
}

/// Where an appended batch went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Appended {
    /// The offset of its first record.
    pub(crate) base_offset: u64,
    /// The log end offset after it.
    pub(crate) next_offset: u64,
    /// The timestamp of all its records, where the log sets it and not the producer.
    pub(crate) log_append_time: Option<Timestamp>,
}

impl PartitionLog {
    /// Makes the files of a new, empty log in an existing directory. Repeating it after a failure
    /// or a crash is safe; a log that is there already is left as it is.
    pub(crate) fn create(fs: &dyn FileSystem, directory: &Path) -> Result<()> {
        let checkpoint_path = directory.join(WATERMARK_FILE);
        let kind = fs.kind(&checkpoint_path);
        if kind.map_err(|error| Error::io("look at", &checkpoint_path, error))?.is_some() {
            return Ok(());
        }
        let log = file_name::path(directory, 0, Suffix::Log);
        if fs.kind(&log).map_err(|error| Error::io("look at", &log, error))?.is_none() {
            durably::create(fs, &log, &[])?;
        }
        // Last, since it vouches for the others.
        durably::replace(fs, &checkpoint_path, &checkpoint::encode_file(&Checkpoint::default()))
    }

    /// Carries out a recovery plan and opens the log for writing.
    pub(crate) fn open(
        environment: &Environment,
        plan: Plan,
        config: Arc<TopicConfig>,
    ) -> Result<(Arc<Self>, PartitionRecovery)> {
        let topic_partition = plan.topic_partition.clone();
        let directory = Arc::clone(&plan.directory);
        let recovered = execute(plan, environment, &config)?;
        let report = recovered.report.clone();
        let log = Self::from_recovered(environment, topic_partition, directory, config, recovered);
        Ok((log, report))
    }

    fn from_recovered(
        environment: &Environment,
        topic_partition: TopicPartition,
        directory: Arc<Path>,
        config: Arc<TopicConfig>,
        recovered: Recovered,
    ) -> Arc<Self> {
        let segments = make_segments(environment, &directory, recovered.segments);
        let active = segments.active();
        let limits = writer_limits(environment, &directory, &config);
        let writer = SegmentWriter::new(active, recovered.active_indexer, limits);
        let log_end = writer.end().base_offset;
        let log_start = recovered.report.log_start_offset;
        let high_watermark = match config.durability {
            Durability::Fsync => recovered.checkpoint.recovery_point.max(log_start),
            Durability::Written { .. } => log_end,
        };
        let parts = Parts {
            topic_partition,
            directory,
            config,
            segments,
            offsets: [log_start, high_watermark, log_end],
            checkpoint: Checkpoint { log_start_offset: log_start, ..recovered.checkpoint },
            checkpoint_writer: Some(recovered.checkpoint_writer),
            writer: Some(writer),
            follower: None,
        };
        Self::from_parts(environment, parts)
    }

    fn from_parts(environment: &Environment, parts: Parts) -> Arc<Self> {
        let [log_start, high_watermark, log_end] = parts.offsets;
        let checkpoint_path = parts.directory.join(WATERMARK_FILE);
        let flush_deadline = if parts.checkpoint.recovery_point < log_end {
            FlushDeadline::passed()
        } else {
            FlushDeadline::default()
        };
        Arc::new_cyclic(|this| Self {
            ends: EndOffsets::new(log_start, high_watermark, log_end),
            segments: parts.segments,
            flush: FlushQueue::new(parts.checkpoint.recovery_point),
            retention: Mutex::new(()),
            appender: Mutex::new(Appender {
                config: Arc::new(TopicConfig::clone(&parts.config)),
                writer: parts.writer,
                sealed: Vec::new(),
                new_names: false,
                unsynced_batches: 0,
                flush_deadline,
            }),
            checkpoint: Mutex::new(CheckpointFile::new(
                parts.checkpoint,
                parts.checkpoint_writer,
                checkpoint_path,
                Arc::clone(&environment.fs),
            )),
            transactions: Mutex::default(),
            closed: OnceLock::new(),
            follower: parts.follower,
            topic_partition: parts.topic_partition,
            directory: parts.directory,
            environment: environment.clone(),
            use_mark: UseMark::default(),
            this: Weak::clone(this),
        })
    }

    pub(crate) fn topic_partition(&self) -> &TopicPartition {
        &self.topic_partition
    }

    /// The published offsets.
    pub(crate) fn ends(&self) -> &EndOffsets {
        &self.ends
    }

    /// Every offset below it is synced.
    pub(crate) fn recovery_point(&self) -> u64 {
        self.flush.recovery_point()
    }

    /// Bytes of batches in all segments.
    pub(crate) fn size(&self) -> u64 {
        self.segments.size()
    }

    /// The settings in force. They are this log's own, so that threads that append to different
    /// partitions share nothing, not even a reference count.
    pub(crate) fn config(&self) -> Arc<TopicConfig> {
        Arc::clone(&self.appender.lock().config)
    }

    /// Changes the settings. They hold from the next append on; a stricter durability holds for
    /// what is in the log already too, once the following flush has returned.
    pub(crate) fn set_config(&self, config: &TopicConfig) -> Result<()> {
        self.check_open()?;
        let limits = writer_limits(&self.environment, &self.directory, config);
        {
            let mut appender = self.appender.lock();
            if let Some(writer) = &mut appender.writer {
                writer.set_limits(limits);
            }
            appender.config = Arc::new(config.clone());
        }
        self.flush()
    }

    /// Appends a batch. When this returns the operating system has it; with
    /// [`Durability::Written`] that makes it visible, with [`Durability::Fsync`] a flush does.
    ///
    /// Under [`Durability::Written`] it waits for a sync first if what was appended longer than the
    /// flush interval ago is not synced yet. `now` is the time by the wall clock, which whoever made
    /// the batch has at hand.
    ///
    /// # Errors
    ///
    /// After [`Error::StorageFull`] and after a refusal (too large, bad timestamp) the log is as
    /// before and takes the next append. Any other failed write stops the log.
    pub(crate) fn append(&self, mut batch: SealedBatch<'_>, now: Timestamp) -> Result<Appended> {
        let (mut appender, flush_by) = self.lock_appender()?;
        self.use_mark.set();
        let base_offset = self.ends.log_end();
        append::check_batch(&batch, &self.topic_partition, &appender.config, now)?;
        let mut facts = self.batch_facts(batch.header(), base_offset)?;
        let log_append_time = match appender.config.message_timestamp_type {
            TimestampType::CreateTime => None,
            TimestampType::LogAppendTime => Some(now),
        };
        if let Some(now) = log_append_time {
            batch.set_log_append_time(now);
            facts.max_timestamp = now;
        }
        self.roll_if_due(&mut appender, batch.size() as u64, facts)?;
        batch.assign(base_offset, LEADER_EPOCH);
        let (store, visible) = match appender.config.durability {
            Durability::Fsync => (Store::Positioned, false),
            Durability::Written { .. } => (Store::Window, true),
        };
        let written = appender.writer()?.append(batch.bytes(), facts, store);
        written.map_err(|error| self.stop_unless_full(error))?;
        appender.unsynced_batches += 1;
        if let Some(flush_by) = flush_by {
            appender.flush_deadline.note(flush_by);
        }
        let next_offset = facts.last_offset + 1;
        self.ends.advance_log_end(next_offset);
        drop(appender);
        if visible {
            self.ends.raise_high_watermark(next_offset);
        }
        Ok(Appended { base_offset, next_offset, log_append_time })
    }

    /// Returns once an append has nothing to wait for, as far as can be known before it.
    pub(crate) fn wait_until_ready(&self) -> Result<()> {
        self.lock_appender().map(drop)
    }

    /// Takes the append lock once a batch may be appended; says by when that has to be synced, if
    /// nobody waits for the sync.
    fn lock_appender(&self) -> Result<(MutexGuard<'_, Appender>, Option<Duration>)> {
        loop {
            let mut appender = self.appender.lock();
            self.check_open()?;
            if !appender.writer()?.is_open() {
                appender.writer()?.open()?;
                drop(appender);
                self.admit_to_open_logs();
                continue;
            }
            let Durability::Written { flush_interval } = appender.config.durability else {
                return Ok((appender, None));
            };
            let now = self.environment.clock.monotonic();
            if appender.flush_deadline.earliest().is_none_or(|deadline| now < deadline) {
                return Ok((appender, Some(now.saturating_add(flush_interval))));
            }
            drop(appender);
            self.sync_to(self.ends.log_end())?;
        }
    }

    fn batch_facts(&self, batch: &BatchHeader, base_offset: u64) -> Result<BatchFacts> {
        // By the delta: a batch that was refused once by a full disk still carries the base offset
        // of that attempt.
        let last_offset = base_offset
            .checked_add(batch.last_offset_delta.into())
            .filter(|last| *last < OFFSET_MAX)
            .ok_or_else(|| Error::InvalidRecord {
                topic_partition: self.topic_partition.clone(),
                reason: "the partition has used up all offsets".to_owned(),
            })?;
        Ok(BatchFacts { last_offset, max_timestamp: batch.max_timestamp })
    }

    /// A full disk leaves the log as it was. Any other failed write says that the file can no
    /// longer be relied upon: the log stops (clause 8).
    fn stop_unless_full(&self, error: Error) -> Error {
        if error.is_retriable() {
            return error;
        }
        events::stopped(&self.topic_partition, &error);
        self.failed(self.flush.fail(error))
    }

    fn failed(&self, source: Arc<Error>) -> Error {
        if let Error::Closed { what } = *source {
            return Error::Closed { what };
        }
        Error::PartitionFailed { topic_partition: self.topic_partition.clone(), source }
    }

    /// Refuses everything once the log is closed, and what changes it once it has stopped or if it
    /// was opened read-only.
    pub(crate) fn check_open(&self) -> Result<()> {
        self.check_not_closed()?;
        if self.follower.is_some() {
            return Err(Error::ReadOnly { operation: "change a partition" });
        }
        match self.flush.failure() {
            Some(failure) => Err(self.failed(Arc::clone(failure))),
            None => Ok(()),
        }
    }

    fn check_not_closed(&self) -> Result<()> {
        match self.closed.get() {
            Some(what) => Err(Error::Closed { what }),
            None => Ok(()),
        }
    }

    fn roll_if_due(&self, appender: &mut Appender, size: u64, facts: BatchFacts) -> Result<()> {
        let writer = appender.writer()?;
        let roll = RollFacts {
            size: writer.end().file_position,
            base_offset: writer.segment().base_offset(),
            first_timestamp: writer.first_timestamp(),
            index_entries: writer.index_entries(),
            batch_size: size,
            batch_last_offset: facts.last_offset,
            batch_timestamp: facts.max_timestamp,
        };
        match append::roll_reason(&roll, &appender.config) {
            Some(_) => self.roll(appender),
            None => Ok(()),
        }
    }

    /// Ends the active segment, which must not be empty, and begins the next. Syncs nothing: the
    /// next flush syncs the old segment, then the directory, then the new segment, in this order.
    ///
    /// After an error the old segment is still the active one.
    fn roll(&self, appender: &mut Appender) -> Result<()> {
        let limits = writer_limits(&self.environment, &self.directory, &appender.config);
        let writer = appender.writer()?;
        let was_open = writer.is_open();
        let sealed = writer.finish_indexes().and_then(|()| writer.cut());
        sealed.map_err(|error| self.stop_unless_full(error))?;
        let base_offset = self.ends.log_end();
        let extent = Extent { len: 0, next_offset: base_offset };
        let segment = self.make_segment(base_offset, extent);
        let file = self
            .create_or_reuse(&segment.path(Suffix::Log))
            .map_err(|error| self.stop_unless_full(error))?;
        let indexer = Indexer::begin(base_offset, limits.index_interval);
        let mut next = SegmentWriter::new(Arc::clone(&segment), indexer, limits);
        if was_open {
            next.take(file);
        }
        let old = appender.writer.replace(next);
        appender.sealed.extend(old);
        appender.new_names = true;
        self.segments.push(segment);
        self.environment.metrics.segments_rolled.increment();
        events::segment_rolled(&self.topic_partition, base_offset);
        Ok(())
    }

    /// Creates the file of a new segment. An empty one of that name is left from a roll that did
    /// not come to its end.
    fn create_or_reuse(&self, path: &Path) -> Result<Arc<dyn crate::fs::File>> {
        let fs = &self.environment.fs;
        let io = |error| Error::io("create", path, error);
        match fs.create_new(path) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                let file = fs.open(path, Access::ReadWrite).map_err(io)?;
                if file.len().map_err(io)? == 0 { Ok(file) } else { Err(io(error)) }
            }
            other => other.map_err(io),
        }
    }

    fn make_segment(&self, base_offset: u64, extent: Extent) -> Arc<Segment> {
        let (fs, directory) = (Arc::clone(&self.environment.fs), Arc::clone(&self.directory));
        let read_mode = self.environment.read_mode;
        Arc::new(Segment::new(fs, directory, base_offset, extent, read_mode))
    }

    /// Refuses all further calls, on this log and through every handle to it.
    pub(crate) fn fence(&self) {
        self.close_as("the broker");
    }

    /// The same for a log whose topic is gone while the broker goes on.
    pub(crate) fn fence_deleted(&self) {
        self.close_as("the deleted topic");
    }

    fn close_as(&self, what: &'static str) {
        // Whatever closed it first is what is told.
        self.closed.get_or_init(|| what);
        self.ends.wake();
    }

    /// Whether the log is fenced.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.get().is_some()
    }

    /// Fences the log, and stops what had begun before that: when this returns nobody changes its
    /// files any more, nor will. What is not synced is left so.
    pub(crate) fn abandon(&self) {
        self.fence();
        // An append that is done already may still ask for a sync, which writes index files.
        self.flush.fail(Error::Closed { what: self.closed.get().unwrap_or(&"the broker") });
        self.wait_until_quiet();
    }

    /// Returns once no call is under way any more that had begun before the log was fenced and still
    /// changes files.
    pub(crate) fn wait_until_quiet(&self) {
        let _no_deletion = self.retention.lock();
        self.flush.wait_until_idle();
        drop(self.appender.lock());
    }

    /// Ends the log in order: synced, cut to its true length, indexes and checkpoint up to date.
    /// The log must be fenced. May be repeated after an error, and does nothing after a success.
    pub(crate) fn close(&self) -> Result<()> {
        if self.follower.is_some() {
            return Ok(());
        }
        let mut appender = self.lock_when_synced()?;
        let Some(writer) = &mut appender.writer else { return Ok(()) };
        if !writer.is_open() && self.checkpoint.lock().tells_of_a_close(writer.end())? {
            appender.writer = None;
            return Ok(());
        }
        writer.cut()?;
        let indexes = writer.finish_indexes().and_then(|()| writer.sync_indexes());
        let indexes_synced = indexes.is_ok();
        // A full disk is no reason not to close: indexes can be rebuilt.
        unless_full(indexes)?;
        let path = writer.segment().records().path().to_owned();
        if let Err(error) = writer.file_to_sync()?.sync_data() {
            self.note_failed_sync();
            return Err(self.failed(self.flush.fail(Error::io("sync", &path, error))));
        }
        durably::sync_directory(&*self.environment.fs, &self.directory)?;
        let mut checkpoint = self.checkpoint.lock();
        checkpoint.advance(writer.segment().base_offset(), writer.end());
        if indexes_synced {
            checkpoint.vouch_for_indexes();
        }
        self.sync_checkpoint_file(&mut checkpoint)?;
        writer.segment().records().release();
        appender.writer = None;
        Ok(())
    }

    /// The append lock, once nothing is left to sync. An append that had begun when the log was
    /// fenced may end, and even begin a new segment, after a first sync.
    fn lock_when_synced(&self) -> Result<MutexGuard<'_, Appender>> {
        loop {
            self.flush()?;
            let appender = self.appender.lock();
            if self.flush.recovery_point() >= self.ends.log_end() && appender.sealed.is_empty() {
                return Ok(appender);
            }
            drop(appender);
            self.sync_now()?;
        }
    }

    /// Adds the partition to an error that comes from below, where partitions are not known.
    fn locate_error(&self, error: Error) -> Error {
        match error {
            Error::Corrupt(mut corruption) => {
                corruption.topic_partition = Some(self.topic_partition.clone());
                Error::Corrupt(corruption)
            }
            other => other,
        }
    }
}

fn make_segments(
    environment: &Environment,
    directory: &Arc<Path>,
    extents: Vec<(u64, Extent)>,
) -> Segments {
    let segment = |(base_offset, extent)| {
        let (fs, directory) = (Arc::clone(&environment.fs), Arc::clone(directory));
        Arc::new(Segment::new(fs, directory, base_offset, extent, environment.read_mode))
    };
    Segments::new(extents.into_iter().map(segment).collect())
}

fn writer_limits(
    environment: &Environment,
    directory: &Path,
    config: &TopicConfig,
) -> WriterLimits {
    WriterLimits {
        len_max: u64::from(config.segment_bytes),
        index_interval: u64::from(config.index_interval_bytes),
        tail_writes: environment.fs.tail_writes(directory),
    }
}

/// A full disk does not count: what could not be written can be written later, or done without.
fn unless_full(result: Result<()>) -> Result<()> {
    result.or_else(|error| if error.is_retriable() { Ok(()) } else { Err(error) })
}
