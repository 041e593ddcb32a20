//! Deleting from the front of a log: what its settings give up, and what its users do.
//!
//! The order is always the same. What is to stay is synced, the new log start offset is made
//! durable, readers are told, and only then are files renamed and removed: a crash in between leaves
//! leftovers, never a log that lacks what it speaks of.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::events;
use crate::fs::durably;
use crate::log::PartitionLog;
use crate::log::retention::{LogFacts, OldestSegment, RetentionReason, reason_to_delete};
use crate::segment::Segment;
use crate::segment::file_name::Suffix;
use crate::time::Timestamp;

impl PartitionLog {
    /// Moves the log start offset up to `offset`: records before it can no longer be read, and
    /// segments that lie wholly before it are deleted. Durable when it returns.
    ///
    /// # Errors
    ///
    /// [`Error::OffsetOutOfRange`] above the high watermark.
    pub(crate) fn delete_records(&self, offset: u64) -> Result<u64> {
        let _one_at_a_time = self.retention.lock();
        self.check_open()?;
        let high_watermark = self.ends.high_watermark();
        if offset > high_watermark {
            return Err(self.out_of_range(offset, high_watermark));
        }
        self.delete_before(offset)?;
        Ok(self.ends.log_start())
    }

    /// Deletes the segments that the settings give up. `consumed` is the lowest offset committed by
    /// the groups in `retention.groups`. Returns how many segments went.
    pub(crate) fn apply_retention(&self, now: Timestamp, consumed: Option<u64>) -> Result<usize> {
        let _one_at_a_time = self.retention.lock();
        self.check_open()?;
        let mut keep_from = None;
        let mut deleted = 0;
        let mut size = self.size();
        for segment in self.segments.snapshot().iter() {
            // Taken before the decision: what is appended after it has not been judged.
            let next_offset = segment.next_offset();
            let reason = self.reason_to_delete(segment, next_offset, size, now, consumed)?;
            if reason.is_none() || !self.end_if_unchanged(segment, next_offset)? {
                break;
            }
            size = size.saturating_sub(segment.len());
            deleted += 1;
            keep_from = Some(next_offset);
        }
        if let Some(keep_from) = keep_from {
            self.delete_before(keep_from)?;
        }
        Ok(deleted)
    }

    fn reason_to_delete(
        &self,
        segment: &Segment,
        next_offset: u64,
        size: u64,
        now: Timestamp,
        consumed: Option<u64>,
    ) -> Result<Option<RetentionReason>> {
        let config = self.config();
        let log = LogFacts {
            log_start_offset: self.ends.log_start(),
            high_watermark: self.ends.high_watermark(),
            size,
            consumed,
            now,
        };
        let mut oldest =
            OldestSegment { next_offset, size: segment.len(), largest_timestamp: Timestamp::NONE };
        // The largest timestamp can cost a walk through the segment: only when it decides.
        if let Some(reason) = reason_to_delete(&oldest, &log, &config) {
            return Ok(Some(reason));
        }
        if config.retention_ms.is_none() {
            return Ok(None);
        }
        oldest.largest_timestamp = segment.largest_timestamp().map_err(|e| self.locate_error(e))?;
        Ok(reason_to_delete(&oldest, &log, &config))
    }

    /// Sees to it that a segment is not the active one, so that it may be deleted. `false` if it
    /// has grown meanwhile: then it must stay.
    pub(super) fn end_if_unchanged(
        &self,
        segment: &Arc<Segment>,
        next_offset: u64,
    ) -> Result<bool> {
        let mut appender = self.appender.lock();
        if segment.next_offset() != next_offset {
            return Ok(false);
        }
        if appender.writer()?.segment().base_offset() == segment.base_offset() {
            self.roll(&mut appender)?;
        }
        Ok(true)
    }

    /// Deletes the oldest segment, whatever the rules say, to make room. `false` if there is
    /// nothing that may go.
    pub(crate) fn drop_oldest_segment(&self) -> Result<bool> {
        let _one_at_a_time = self.retention.lock();
        self.check_open()?;
        let segments = self.segments.snapshot();
        let Some(oldest) = segments.first().filter(|oldest| !oldest.is_empty()) else {
            return Ok(false);
        };
        while !self.end_if_unchanged(oldest, oldest.next_offset())? {}
        self.delete_before(oldest.next_offset())?;
        Ok(true)
    }

    /// The largest timestamp of the oldest segment, to choose between logs.
    pub(crate) fn oldest_timestamp(&self) -> Result<Timestamp> {
        let segments = self.segments.snapshot();
        let oldest = segments.first().filter(|segment| !segment.is_empty());
        let oldest = oldest
            .map_or(Ok(Timestamp::from_millis(i64::MAX)), |segment| segment.largest_timestamp());
        oldest.map_err(|error| self.locate_error(error))
    }

    /// Moves the log start offset, durably, and deletes the segments that lie wholly before it.
    fn delete_before(&self, offset: u64) -> Result<()> {
        let segments = self.segments.snapshot();
        let kept = segments.partition_point(|segment| segment.base_offset() <= offset);
        let Some(first_kept) = kept.checked_sub(1).and_then(|at| segments.get(at)) else {
            return Ok(());
        };
        if offset > self.ends.log_start() {
            self.flush()?;
            self.checkpoint_log_start(offset)?;
            self.ends.advance_log_start(offset);
        }
        // The checkpoint on disk must not speak of a segment that is about to go, also if no record
        // is left that anybody would flush.
        if self.checkpoint_segment() < first_kept.base_offset() {
            self.sync_now()?;
        }
        self.sync_checkpoint_file(&mut self.checkpoint.lock())?;
        self.delete_segments_before(first_kept.base_offset())
    }

    fn delete_segments_before(&self, base_offset: u64) -> Result<()> {
        let removed = self.segments.remove_before(base_offset);
        if removed.is_empty() {
            return Ok(());
        }
        // One that fails does not keep the others: the next open removes what is left.
        let deleted = removed.iter().map(|segment| self.delete_files(segment)).collect::<Vec<_>>();
        self.environment.metrics.segments_deleted.add(removed.len() as u64);
        events::segments_deleted(&self.topic_partition, removed.len(), self.ends.log_start());
        durably::sync_directory(&*self.environment.fs, &self.directory)?;
        deleted.into_iter().collect()
    }

    /// The rename takes the segment out of the log in one step; a crash after it leaves leftovers
    /// that the next open removes.
    fn delete_files(&self, segment: &Segment) -> Result<()> {
        let fs = &*self.environment.fs;
        let (log, deleted) = (segment.path(Suffix::Log), segment.path(Suffix::Deleted));
        fs.rename(&log, &deleted).map_err(|error| Error::io("delete", &log, error))?;
        for suffix in
            [Suffix::Deleted, Suffix::Index, Suffix::TimeIndex, Suffix::TxnIndex, Suffix::Snapshot]
        {
            let path = segment.path(suffix);
            match fs.remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::io("delete", &path, error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}
