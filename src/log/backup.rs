//! Copying a log that is in use: what its readers can see, as it is at one moment.
//!
//! Segments that have ended need no copy of their bytes: they get a second name. That is safe because
//! nothing changes them any more. Deleting and salvaging take names away and leave the files; a
//! recovery cuts and appends at and behind the segment that the durable checkpoint speaks of, so only
//! those before that are linked; and should one of them become the last segment all the same, because
//! the ones behind it were lost, a recovery puts a copy in its place first
//! (`recovery/site.rs`, `separate`). Index files are copied: they may be rewritten where they are.
//!
//! The tail is copied first and the segments after it, from the youngest on: retention deletes the
//! oldest, and where one is gone all before it are, and the copy begins there.

use std::path::Path;

use crate::error::{Error, Result};
use crate::fs::durably;
use crate::log::PartitionLog;
use crate::log::checkpoint::{self, Checkpoint, WATERMARK_FILE};
use crate::log::recovery::read_checkpoint;
use crate::segment::file_name::{self, Suffix};
use crate::segment::{BatchPosition, Segment};

/// What a copy of a log holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct LogCopy {
    pub(crate) log_start_offset: u64,
    pub(crate) end_offset: u64,
    /// Bytes of batches in files that the log and the copy have in common.
    pub(crate) bytes_linked: u64,
    /// Bytes of batches that were copied.
    pub(crate) bytes_copied: u64,
}

impl PartitionLog {
    /// Copies all records below the high watermark into an empty directory, as a log that was closed
    /// in order. All of it is durable when it returns, but for the directory's own name.
    ///
    /// # Errors
    ///
    /// What reading and writing can give. A log that follows another may meet files that the writer
    /// has just replaced: then the call can be repeated, into another directory.
    pub(crate) fn copy_to(&self, directory: &Path) -> Result<LogCopy> {
        let linked_before = self.settle_for_copy()?;
        let fs = &*self.environment.fs;
        let (log_start, end_offset) = (self.ends.log_start(), self.ends.high_watermark());
        let segments = self.segments.snapshot();
        let (tail, sealed) = split_at(&segments, end_offset).ok_or_else(|| {
            // Retention has deleted them, and more was appended than the copy would have shown.
            self.out_of_range(end_offset, end_offset)
        })?;
        let end = self.end_in(tail, end_offset)?;
        let mut copy = LogCopy {
            log_start_offset: log_start,
            end_offset,
            bytes_linked: 0,
            bytes_copied: end.file_position,
        };
        self.copy_bytes(tail, end.file_position, directory)?;
        let mut first = tail.base_offset();
        for segment in sealed.iter().rev() {
            let may_be_linked = segment.next_offset() <= linked_before;
            match self.copy_sealed(segment, may_be_linked, directory) {
                Ok(Copied::Linked) => copy.bytes_linked += segment.len(),
                Ok(Copied::Bytes) => copy.bytes_copied += segment.len(),
                // Retention was faster.
                Err(_) if segment.next_offset() <= self.ends.log_start() => break,
                Err(error) => return Err(self.locate_error(error)),
            }
            first = segment.base_offset();
        }
        copy.log_start_offset = log_start.max(first);
        let checkpoint = Checkpoint {
            recovery_point: end_offset,
            segment_base: tail.base_offset(),
            file_position: u32::try_from(end.file_position).unwrap_or(u32::MAX),
            log_start_offset: copy.log_start_offset,
            sync_failed: false,
            indexes_synced: false,
        };
        // Last: with its name all others in the directory become durable.
        let path = directory.join(WATERMARK_FILE);
        durably::create(fs, &path, &checkpoint::encode_file(&checkpoint))?;
        Ok(copy)
    }

    /// Makes as much as possible durable, so that as much as possible can be linked; or, in a log
    /// that follows another, looks at how that is now. Returns the base offset of a segment before
    /// which no recovery cuts anything.
    fn settle_for_copy(&self) -> Result<u64> {
        if self.follower.is_some() {
            self.refresh_segments()?;
            self.refresh()?;
        } else if let Some(segment_base) = self.settle_writer_for_copy()? {
            return Ok(segment_base);
        }
        Ok(read_checkpoint(&*self.environment.fs, &self.directory)?.untouched_before())
    }

    /// Returns the segment of a checkpoint that is durable. What a log that has stopped holds, or one
    /// on a full disk, is copied as far as it can be read: that is when a copy is wanted most.
    fn settle_writer_for_copy(&self) -> Result<Option<u64>> {
        let settle = || {
            self.flush()?;
            let segment_base = self.checkpoint_segment();
            self.sync_checkpoint().map(|()| Some(segment_base))
        };
        match settle() {
            Err(Error::PartitionFailed { .. } | Error::StorageFull { .. }) => Ok(None),
            settled => settled,
        }
    }

    /// Where in a segment the batch lies, or will lie, that begins with an offset.
    fn end_in(&self, segment: &Segment, offset: u64) -> Result<BatchPosition> {
        if offset == segment.base_offset() {
            return Ok(segment.start());
        }
        let at = segment.locate(offset).map_err(|error| self.locate_error(error))?;
        if at.base_offset == offset {
            return Ok(at);
        }
        let reason = format!("no batch begins with offset {offset}, the high watermark");
        Err(self.locate_error(segment.damage_at(at, &reason)))
    }

    fn copy_sealed(
        &self,
        segment: &Segment,
        may_be_linked: bool,
        directory: &Path,
    ) -> Result<Copied> {
        if may_be_linked && self.link(segment, directory)? {
            self.copy_indexes(segment, directory)?;
            return Ok(Copied::Linked);
        }
        self.copy_bytes(segment, segment.len(), directory)?;
        Ok(Copied::Bytes)
    }

    /// Gives a segment's `.log` a second name. `false` where that cannot be; whether anything is
    /// wrong shows when it is copied instead.
    fn link(&self, segment: &Segment, directory: &Path) -> Result<bool> {
        let fs = &*self.environment.fs;
        let from = segment.path(Suffix::Log);
        let to = file_name::path(directory, segment.base_offset(), Suffix::Log);
        if fs.hard_link(&from, &to).is_err() {
            return Ok(false);
        }
        let file = fs.open(&to, crate::fs::Access::Read);
        let len =
            file.and_then(|file| file.len()).map_err(|error| Error::io("read", &to, error))?;
        if len == segment.len() {
            return Ok(true);
        }
        // Not the file that is known, but one that the writer has put in its place.
        fs.remove_file(&to).map_err(|error| Error::io("remove", &to, error))?;
        Ok(false)
    }

    fn copy_bytes(&self, segment: &Segment, len: u64, directory: &Path) -> Result<()> {
        let from = segment.path(Suffix::Log);
        let to = file_name::path(directory, segment.base_offset(), Suffix::Log);
        durably::copy(&*self.environment.fs, &from, 0..len, &to)?;
        self.copy_indexes(segment, directory)
    }

    /// Copies a segment's other files. They may be missing, and may say more than the copy holds: all
    /// of it can be made anew, and is held against the batches before it is believed.
    fn copy_indexes(&self, segment: &Segment, directory: &Path) -> Result<()> {
        let suffixes = [Suffix::Index, Suffix::TimeIndex, Suffix::TxnIndex, Suffix::Snapshot];
        suffixes.into_iter().try_for_each(|suffix| {
            let to = file_name::path(directory, segment.base_offset(), suffix);
            durably::copy_if_there(&*self.environment.fs, &segment.path(suffix), &to)
        })
    }
}

/// How a segment got into a copy.
enum Copied {
    Linked,
    Bytes,
}

/// The segment in which an offset lies, or will lie, and those before it.
fn split_at<S: std::ops::Deref<Target = Segment>>(
    segments: &[S],
    offset: u64,
) -> Option<(&Segment, &[S])> {
    let count = segments.partition_point(|segment| segment.base_offset() <= offset);
    let (tail, sealed) = segments.get(..count)?.split_last()?;
    Some((tail, sealed))
}
