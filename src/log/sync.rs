//! Making a log durable: the flush, and the checkpoint that remembers how far it got.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::events;
use crate::fs::{File, FileSystem, durably};
use crate::log::checkpoint::{Checkpoint, CheckpointWriter, encode_file};
use crate::log::{PartitionLog, unless_full};
use crate::mutants::{Mutant, is_planted};
use crate::segment::BatchPosition;
use crate::segment::file_name::{self, Suffix};
use crate::segment::writer::SegmentWriter;
use crate::time::Stopwatch;

/// What the checkpoint lock guards.
#[derive(Debug)]
pub(super) struct CheckpointFile {
    value: Checkpoint,
    /// `None` when the log was opened read-only.
    writer: Option<CheckpointWriter>,
    path: PathBuf,
    fs: Arc<dyn FileSystem>,
    state: CheckpointState,
}

/// How far the value has come on its way to the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CheckpointState {
    /// It could not be written yet: the disk was full.
    Owed,
    Written,
    Durable,
}

impl CheckpointFile {
    pub(super) fn new(
        value: Checkpoint,
        writer: Option<CheckpointWriter>,
        path: PathBuf,
        fs: Arc<dyn FileSystem>,
    ) -> Self {
        Self { value, writer, path, fs, state: CheckpointState::Durable }
    }

    /// Everything up to a position is synced. It never goes back.
    pub(super) fn advance(&mut self, segment_base: u64, end: BatchPosition) {
        if end.base_offset < self.value.recovery_point {
            return;
        }
        let before = self.value;
        self.value.recovery_point = end.base_offset;
        self.value.segment_base = segment_base;
        self.value.file_position =
            u32::try_from(end.file_position).expect("a segment is smaller than 2 GiB");
        if self.value != before {
            self.value.indexes_synced = false;
            self.state = CheckpointState::Owed;
        }
    }

    /// The index files are synced, too.
    pub(super) fn vouch_for_indexes(&mut self) {
        if !self.value.indexes_synced {
            self.value.indexes_synced = true;
            self.state = CheckpointState::Owed;
        }
    }

    /// Writes the value if it is not in the file yet.
    fn write(&mut self) -> Result<()> {
        let Some(writer) = self.writer.as_mut().filter(|_| self.state == CheckpointState::Owed)
        else {
            return Ok(());
        };
        if let Err(error) = writer.write(&self.value) {
            return Err(self.failed("write", error));
        }
        self.state = CheckpointState::Written;
        Ok(())
    }

    pub(super) fn is_durable(&self) -> bool {
        self.state == CheckpointState::Durable
    }

    /// Whether the log was closed in order with this end, and nothing has happened to it since.
    pub(super) fn tells_of_a_close(&mut self, end: BatchPosition) -> Result<bool> {
        let closed = self.is_durable()
            && self.value.indexes_synced
            && self.value.recovery_point == end.base_offset
            && u64::from(self.value.file_position) == end.file_position;
        if closed {
            // The process that closed it may have been killed before this sync.
            self.sync()?;
        }
        Ok(closed)
    }

    fn sync(&mut self) -> Result<()> {
        if let Some(Err(error)) = self.writer.as_mut().map(CheckpointWriter::sync) {
            return Err(self.failed("sync", error));
        }
        if let Some(writer) = &mut self.writer {
            writer.let_go();
        }
        self.state = CheckpointState::Durable;
        Ok(())
    }

    /// Once the file itself cannot be relied upon, a new one takes its place, and says so.
    fn failed(&mut self, operation: &'static str, error: io::Error) -> Error {
        let error = Error::io(operation, &self.path, error);
        if !error.is_retriable() {
            self.replace_after_failure();
        }
        error
    }

    /// Leaves word for the next open that what the page cache shows may not be on disk. Should that
    /// fail as well, the failure that is being reported already says enough.
    fn note_failed_sync(&mut self) {
        self.value.sync_failed = true;
        self.state = CheckpointState::Owed;
        // In place first: that needs no space. When it fails, it replaces the file itself.
        if self.write().and_then(|()| self.sync()).is_err_and(|error| error.is_retriable()) {
            self.replace_after_failure();
        }
    }

    fn replace_after_failure(&mut self) {
        self.value.sync_failed = true;
        if self.writer.take().is_some() {
            durably::replace(&*self.fs, &self.path, &encode_file(&self.value)).ok();
        }
    }
}

/// One sync, never a second one after a failure.
fn sync_file(file: &dyn File) -> io::Result<()> {
    let synced = file.sync_data();
    if is_planted(Mutant::RepeatsFailedSync) {
        synced.or_else(|_| file.sync_data())
    } else {
        synced
    }
}

/// What a sync will have made durable.
struct SyncTarget {
    sealed: Vec<SegmentWriter>,
    new_names: bool,
    file: Arc<dyn File>,
    segment_base: u64,
    end: BatchPosition,
    batches: u64,
}

impl PartitionLog {
    /// Returns once everything appended before the call is synced.
    pub(crate) fn flush(&self) -> Result<()> {
        self.flush_to(self.ends.log_end())
    }

    /// Returns once every offset below `offset` is synced. One sync serves all who wait.
    ///
    /// # Errors
    ///
    /// [`Error::PartitionFailed`] if a sync fails, now or earlier: the log has stopped.
    pub(crate) fn flush_to(&self, offset: u64) -> Result<()> {
        if self.follower.is_some() {
            return Err(Error::ReadOnly { operation: "flush a partition" });
        }
        if is_planted(Mutant::AnswersBeforeSync) {
            self.ends.raise_high_watermark(offset);
            return Ok(());
        }
        self.sync_to(offset)
    }

    pub(super) fn sync_to(&self, offset: u64) -> Result<()> {
        self.flush.reach(offset, || self.sync()).map_err(|failure| self.failed(failure))
    }

    /// Flushes if something has been waiting for it for half of the flush interval, so that with
    /// the rest for the sync itself no append has to wait. Returns how long the next call can wait.
    pub(crate) fn flush_if_due(&self, interval: Duration) -> Result<Duration> {
        if self.follower.is_some() || self.flush.failure().is_some() {
            return Ok(interval);
        }
        let Some(deadline) = self.appender.lock().flush_deadline.earliest() else {
            return Ok(interval / 2);
        };
        let due = deadline.saturating_sub(interval / 2);
        match due.checked_sub(self.environment.clock.monotonic()) {
            Some(rest) if !rest.is_zero() => Ok(rest),
            _ => self.flush().map(|()| interval / 2),
        }
    }

    /// Syncs, also if every record is synced already: a roll leaves names and a checkpoint behind
    /// that no record waits for.
    pub(super) fn sync_now(&self) -> Result<()> {
        self.flush.sync_now(|| self.sync()).map_err(|failure| self.failed(failure))
    }

    /// Syncs what has been written up to now; returns the offset up to which that is.
    fn sync(&self) -> Result<u64> {
        let mut target = self.sync_target()?;
        let stopwatch = Stopwatch::start();
        if let Err(error) = self.sync_files(&target) {
            events::stopped(&self.topic_partition, &error);
            self.note_failed_sync();
            return Err(error);
        }
        if is_planted(Mutant::SyncAnswersForUnfinishedWrites) {
            target.end = self.sync_target()?.end;
        }
        self.appender.lock().flush_deadline.end_sync();
        let metrics = &self.environment.metrics;
        let elapsed = stopwatch.elapsed();
        metrics.sync_latency.record(elapsed);
        metrics.syncs.increment();
        metrics.batches_synced.add(target.batches);
        let end_offset = target.end.base_offset;
        events::synced(&self.topic_partition, end_offset, target.batches, elapsed);
        for ended in &target.sealed {
            ended.segment().records().release();
            ended.segment().unload_indexes();
        }
        // The records are safe now, and whoever waits for them is told so even if the disk is too
        // full for the checkpoint: an older one only makes the next open read more. It is owed,
        // and `sync_checkpoint` reports it if it stays so.
        unless_full(self.checkpoint_at(target.segment_base, target.end))?;
        if !target.sealed.is_empty() {
            unless_full(self.settle_checkpoint())?;
        }
        self.ends.raise_high_watermark(target.end.base_offset);
        Ok(target.end.base_offset)
    }

    /// What is to be synced. Taken under the append lock, so that every write it answers for has
    /// completed.
    fn sync_target(&self) -> Result<SyncTarget> {
        let mut appender = self.appender.lock();
        let writer = appender.writer()?;
        let (file, end) = (writer.file_to_sync()?, writer.end());
        let segment_base = writer.segment().base_offset();
        appender.flush_deadline.begin_sync();
        Ok(SyncTarget {
            sealed: std::mem::take(&mut appender.sealed),
            new_names: std::mem::take(&mut appender.new_names),
            batches: std::mem::take(&mut appender.unsynced_batches),
            file,
            segment_base,
            end,
        })
    }

    /// Older segments first, then their names, then the active segment: whatever a power loss
    /// takes, it takes from the end.
    fn sync_files(&self, target: &SyncTarget) -> Result<()> {
        for ended in &target.sealed {
            let path = ended.segment().records().path();
            sync_file(&*ended.file_to_sync()?).map_err(|error| Error::io("sync", path, error))?;
            ended.sync_indexes()?;
        }
        if target.new_names {
            durably::sync_directory(&*self.environment.fs, &self.directory)?;
        }
        let path = || file_name::path(&self.directory, target.segment_base, Suffix::Log);
        sync_file(&*target.file).map_err(|error| Error::io("sync", &path(), error))
    }

    /// Leaves word for the next open that a sync has failed.
    pub(super) fn note_failed_sync(&self) {
        self.checkpoint.lock().note_failed_sync();
    }

    /// Writes down how far everything is synced.
    fn checkpoint_at(&self, segment_base: u64, end: BatchPosition) -> Result<()> {
        let mut checkpoint = self.checkpoint.lock();
        checkpoint.advance(segment_base, end);
        checkpoint.write()
    }

    /// Makes the checkpoint durable if it has changed, and brings the index files up to date with
    /// it, so that the next open has no more to read than what was appended since.
    ///
    /// # Errors
    ///
    /// [`Error::StorageFull`] leaves it for the next call; a failed sync stops the log.
    pub(crate) fn sync_checkpoint(&self) -> Result<()> {
        self.check_open()?;
        self.settle_checkpoint()
    }

    /// The same for a flush, which goes on while the log is being closed.
    fn settle_checkpoint(&self) -> Result<()> {
        if self.checkpoint.lock().state == CheckpointState::Durable {
            return Ok(());
        }
        let indexes = self.appender.lock().writer()?.persist_indexes();
        self.sync_checkpoint_file(&mut self.checkpoint.lock())?;
        // Told last: indexes can be rebuilt, and must not keep the checkpoint from being synced.
        indexes
    }

    /// Writes and syncs the checkpoint. Once a sync of it has failed, nothing written to it can be
    /// made durable any more, and so nothing appended could be vouched for: the log stops.
    pub(super) fn sync_checkpoint_file(&self, checkpoint: &mut CheckpointFile) -> Result<()> {
        checkpoint.write().map_err(|error| self.stop_unless_full(error))?;
        if checkpoint.state == CheckpointState::Durable {
            return Ok(());
        }
        checkpoint.sync().map_err(|error| self.failed(self.flush.fail(error)))
    }

    /// The base offset of the segment that the checkpoint speaks of.
    pub(super) fn checkpoint_segment(&self) -> u64 {
        self.checkpoint.lock().value.segment_base
    }

    /// Makes a new log start offset durable.
    pub(super) fn checkpoint_log_start(&self, offset: u64) -> Result<()> {
        let mut checkpoint = self.checkpoint.lock();
        let before = checkpoint.value.log_start_offset;
        checkpoint.value.log_start_offset = offset;
        checkpoint.state = CheckpointState::Owed;
        let synced = self.sync_checkpoint_file(&mut checkpoint);
        if synced.is_err() {
            checkpoint.value.log_start_offset = before;
            checkpoint.state = CheckpointState::Owed;
        }
        synced
    }
}
