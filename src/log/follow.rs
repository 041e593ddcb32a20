//! Following a log that another process writes: opened without a lock, and changing nothing.
//!
//! The writer's files tell all there is to know. Batches behind the known end are taken once they
//! are whole and their checksums hold; one that is half written is simply not there yet. A new
//! segment is named after the offset at which the one before it ended. The checkpoint says how far
//! everything is synced, and where the log starts now. Since the writer may cut the zeros off a file
//! at any time, files are read and never mapped.
//!
//! A writer that was started anew may have split or rewritten what its predecessor had not synced.
//! Then the segments are looked up from scratch; their records are the same.

use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::error::{Corruption, Error, Result};
use crate::fs::Access;
use crate::log::checkpoint::Checkpoint;
use crate::log::config::{Durability, TopicConfig};
use crate::log::recovery::{self, Plan};
use crate::log::{Environment, PartitionLog};
use crate::segment::file_name::{self, Suffix};
use crate::segment::indexer::{IndexRule, Indexer};
use crate::segment::records_file::ReadMode;
use crate::segment::scan::{Scanner, after};
use crate::segment::{Extent, Segment};
use crate::topic_partition::TopicPartition;

/// How often a look from scratch is repeated when the writer changes the files meanwhile.
const ATTEMPTS: u32 = 10;

/// What a log that follows knows besides its segments.
#[derive(Debug)]
pub(super) struct Follower {
    /// Goes on with the indexes of the last segment.
    rule: IndexRule,
}

/// Looks at a partition whose writer may be at work, for [`PartitionLog::open_read_only`].
///
/// # Errors
///
/// As [`recovery::plan`].
pub(crate) fn plan(
    environment: &Environment,
    topic_partition: &TopicPartition,
    directory: &Arc<Path>,
    config: &TopicConfig,
) -> Result<Plan> {
    let mut attempt = 1;
    loop {
        let planned = recovery::plan(environment, topic_partition, directory, config);
        match planned {
            // A file that was listed is gone by now, or the checkpoint is newer than the list.
            Err(Error::Corrupt(_) | Error::Io { .. }) if attempt < ATTEMPTS => attempt += 1,
            planned => return planned,
        }
    }
}

impl PartitionLog {
    /// Opens a log for reading only, beside the process that writes it if there is one. Takes no
    /// lock and writes nothing; everything that would is answered with [`Error::ReadOnly`].
    ///
    /// What it shows is what the log held when it was opened or last [refreshed](Self::refresh).
    pub(crate) fn open_read_only(
        environment: &Environment,
        plan: Plan,
        config: Arc<TopicConfig>,
    ) -> Result<Arc<Self>> {
        let environment = Environment { read_mode: ReadMode::Copied, ..environment.clone() };
        let (topic_partition, directory) = (plan.topic_partition.clone(), plan.directory.clone());
        let (checkpoint, log_start) = (plan.checkpoint(), plan.log_start_offset());
        let (extents, Indexer { indexes, rule }) = plan.into_followed();
        let segments = super::make_segments(&environment, &directory, extents);
        segments.active().grow_indexes(indexes);
        let log_end = segments.active().next_offset();
        let high_watermark = high_watermark(&config, checkpoint, log_end).max(log_start);
        let parts = super::Parts {
            topic_partition,
            directory,
            config,
            segments,
            offsets: [log_start, high_watermark, log_end],
            checkpoint: checkpoint.unwrap_or_default(),
            checkpoint_writer: None,
            writer: None,
            follower: Some(Mutex::new(Follower { rule })),
        };
        let log = Self::from_parts(&environment, parts);
        // The plan may have been made a while ago.
        log.refresh()?;
        Ok(log)
    }

    /// Takes in what the writer has done since the last look: new batches and segments, how far
    /// they are synced, what was deleted. Costs one small read if nothing has happened. On a log
    /// that is not read-only there is nothing to do.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] if the log has lost records that were shown, or they are damaged; I/O
    /// errors. What was known before stays.
    pub(crate) fn refresh(&self) -> Result<()> {
        let Some(follower) = &self.follower else { return Ok(()) };
        let mut follower = follower.lock();
        self.check_not_closed()?;
        // Read first: what it vouches for is in the files by then.
        let checkpoint =
            recovery::read_checkpoint(&*self.environment.fs, &self.directory)?.newest();
        if self.take_new_batches(&mut follower)? == Found::AnotherLog
            || checkpoint.is_some_and(|at| at.log_start_offset > self.end_of_segments())
        {
            self.start_over(&mut follower)?;
        }
        self.publish(checkpoint);
        Ok(())
    }

    /// Looks the segments up from scratch, after a read has found them changed.
    pub(super) fn refresh_segments(&self) -> Result<()> {
        let Some(follower) = &self.follower else { return Ok(()) };
        self.start_over(&mut follower.lock())
    }

    fn end_of_segments(&self) -> u64 {
        self.segments.active().next_offset()
    }

    /// Reads on behind the known end, from segment to segment.
    fn take_new_batches(&self, follower: &mut Follower) -> Result<Found> {
        loop {
            let active = self.segments.active();
            if self.take_new_batches_of(&active, follower)? == Found::AnotherLog {
                return Ok(Found::AnotherLog);
            }
            // The next segment is named after the end of this one, which is final by then.
            let next = active.next_offset();
            if next == active.base_offset() || !self.has_segment(next)? {
                return Ok(Found::SameLog);
            }
            active.change_indexes(|indexes| follower.rule.finish(indexes));
            let interval = self.config().index_interval_bytes.into();
            let Indexer { indexes, rule } = Indexer::begin(next, interval);
            follower.rule = rule;
            let segment = self.make_segment(next, Extent { len: 0, next_offset: next });
            segment.grow_indexes(indexes);
            self.segments.push(segment);
            active.unload_indexes();
        }
    }

    fn has_segment(&self, base_offset: u64) -> Result<bool> {
        let path = file_name::path(&self.directory, base_offset, Suffix::Log);
        let kind = self.environment.fs.kind(&path);
        Ok(kind.map_err(|error| Error::io("look at", &path, error))?.is_some())
    }

    fn take_new_batches_of(&self, active: &Segment, follower: &mut Follower) -> Result<Found> {
        let path = active.records().path();
        let file = match self.environment.fs.open(path, Access::Read) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Found::AnotherLog);
            }
            opened => opened.map_err(|error| Error::io("open", path, error))?,
        };
        let mut scanner = Scanner::open(&*file, path)?;
        let mut at = active.end();
        if scanner.len() < at.file_position {
            return Ok(Found::AnotherLog);
        }
        while scanner.len() > at.file_position {
            let Ok(batch) = scanner.batch(at)? else { break };
            let due =
                follower.rule.due(batch.last_offset(), batch.max_timestamp(), at.file_position);
            let next = after(&batch, at);
            if let Some(entry) = due {
                active.change_indexes(|indexes| follower.rule.push(indexes, entry));
            }
            active.note_largest_timestamp(follower.rule.largest_timestamp());
            active.follow_to(next);
            at = next;
        }
        Ok(Found::SameLog)
    }

    fn start_over(&self, follower: &mut Follower) -> Result<()> {
        let config = self.config();
        let plan = plan(&self.environment, &self.topic_partition, &self.directory, &config)?;
        let log_end = plan.log_end_offset();
        if log_end < self.ends.log_end() {
            let known = self.ends.log_end();
            let mut lost = Corruption::of_file(
                &self.directory,
                format!("the log ends at {log_end} and did at {known} before"),
            );
            lost.topic_partition = Some(self.topic_partition.clone());
            lost.offsets = log_end..known;
            return Err(lost.into());
        }
        let (extents, Indexer { indexes, rule }) = plan.into_followed();
        let segments = super::make_segments(&self.environment, &self.directory, extents);
        segments.active().grow_indexes(indexes);
        self.segments.replace(&segments);
        follower.rule = rule;
        Ok(())
    }

    fn publish(&self, checkpoint: Option<Checkpoint>) {
        let log_end = self.end_of_segments();
        let high_watermark = high_watermark(&self.config(), checkpoint, log_end);
        self.ends.advance_log_end(log_end);
        self.ends.raise_high_watermark(high_watermark);
        let Some(checkpoint) = checkpoint else { return };
        self.flush.follow_to(checkpoint.recovery_point.min(log_end));
        let log_start = checkpoint.log_start_offset.min(self.ends.high_watermark());
        self.ends.advance_log_start(log_start);
        if let Some(first) = self.segments.floor(log_start) {
            self.segments.remove_before(first.base_offset());
        }
    }
}

/// Whether the files are still those of the log that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    SameLog,
    AnotherLog,
}

/// How far a reader may look. Without a checkpoint nothing was written by a log of this crate, and
/// everything that is valid counts.
fn high_watermark(config: &TopicConfig, checkpoint: Option<Checkpoint>, log_end: u64) -> u64 {
    match (config.durability, checkpoint) {
        (Durability::Fsync, Some(checkpoint)) => checkpoint.recovery_point.min(log_end),
        _ => log_end,
    }
}

#[cfg(test)]
mod tests;
