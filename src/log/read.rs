//! Reading: from an offset, as far as the high watermark, without meeting the appender.

use std::path::Path;
use std::sync::Arc;

use crate::error::{Corruption, Error, Result};
use crate::log::PartitionLog;
use crate::record::batch::{BatchError, RecordBatch};
use crate::segment::records_file::Chunk;
use crate::segment::{BatchPosition, BatchRun, Segment};
use crate::time::Timestamp;

/// Where a reader left off, so that going on needs no look-up. Worth nothing for another offset.
#[derive(Debug, Clone)]
pub(crate) struct ReadCursor {
    pub(super) segment: Arc<Segment>,
    pub(super) at: BatchPosition,
}

impl ReadCursor {
    /// The file that is being read.
    pub(crate) fn path(&self) -> &Path {
        self.segment.records().path()
    }

    /// Where in it the next batch lies, or will lie.
    pub(crate) fn file_position(&self) -> u64 {
        self.at.file_position
    }
}

/// Whole batches, their checksums checked.
#[derive(Debug)]
pub(crate) struct Fetched {
    /// The batches end to end. The first one may begin before the offset that was asked for.
    pub(crate) bytes: Chunk,
    /// The offset after the last batch.
    pub(crate) next_offset: u64,
    /// Where to go on.
    pub(crate) cursor: ReadCursor,
}

impl PartitionLog {
    /// Reads from `offset` on: at least one batch if one is visible, then more of the same segment
    /// as long as they fit `max_bytes`. `None` if nothing is visible yet.
    ///
    /// # Errors
    ///
    /// [`Error::OffsetOutOfRange`] before the log start offset and beyond the log end offset;
    /// [`Error::Corrupt`] if what is there is not what was written.
    pub(crate) fn read(
        &self,
        offset: u64,
        cursor: Option<&ReadCursor>,
        max_bytes: usize,
    ) -> Result<Option<Fetched>> {
        self.read_below(self.ends.high_watermark(), offset, cursor, max_bytes)
    }

    /// As [`read`](Self::read), but nothing from `end` on, which is not above the high watermark.
    pub(crate) fn read_below(
        &self,
        end: u64,
        offset: u64,
        cursor: Option<&ReadCursor>,
        max_bytes: usize,
    ) -> Result<Option<Fetched>> {
        self.check_not_closed()?;
        let high_watermark = self.ends.high_watermark();
        if offset < self.ends.log_start() || offset > self.ends.log_end() {
            return Err(self.out_of_range(offset, high_watermark));
        }
        if offset >= end {
            return Ok(None);
        }
        match self.read_at(offset, cursor, max_bytes, end) {
            Ok(fetched) => Ok(Some(fetched)),
            // Retention was faster: the files went while they were being opened.
            Err(_) if offset < self.ends.log_start() => {
                Err(self.out_of_range(offset, high_watermark))
            }
            Err(error) if self.follower.is_none() => {
                // The same with all of them, if the topic was deleted meanwhile.
                self.check_not_closed()?;
                Err(self.locate_error(error))
            }
            // The writer was started anew and has split or deleted the segment.
            Err(_) => {
                self.refresh()?;
                self.refresh_segments()?;
                if offset < self.ends.log_start() {
                    return Err(self.out_of_range(offset, high_watermark));
                }
                let fetched = self.read_at(offset, None, max_bytes, end);
                fetched.map(Some).map_err(|error| self.locate_error(error))
            }
        }
    }

    /// The base offset of the first segment that begins behind an offset.
    pub(crate) fn segment_after(&self, offset: u64) -> Option<u64> {
        self.segments.after(offset).map(|segment| segment.base_offset())
    }

    pub(super) fn out_of_range(&self, offset: u64, end_offset: u64) -> Error {
        Error::OffsetOutOfRange {
            topic_partition: self.topic_partition.clone(),
            offset,
            log_start_offset: self.ends.log_start(),
            end_offset,
        }
    }

    fn read_at(
        &self,
        offset: u64,
        cursor: Option<&ReadCursor>,
        max_bytes: usize,
        end_offset: u64,
    ) -> Result<Fetched> {
        let cursor = match cursor.filter(|cursor| cursor.at.base_offset == offset) {
            Some(cursor) => cursor.clone(),
            None => self.locate(offset)?,
        };
        let ReadCursor { segment, at } = self.past_the_end(cursor)?;
        let BatchRun { bytes, next } = segment.read(at, max_bytes, end_offset)?;
        if bytes.is_empty() {
            let reason = format!("it ends at offset {}, expected more", at.base_offset);
            return Err(segment.damage_at(at, &reason));
        }
        segment.records().passed(at.file_position, next.file_position);
        let metrics = &self.environment.metrics;
        metrics.reads.increment();
        metrics.bytes_read.add(bytes.len() as u64);
        let cursor = ReadCursor { segment, at: next };
        Ok(Fetched { bytes, next_offset: next.base_offset, cursor })
    }

    pub(super) fn locate(&self, offset: u64) -> Result<ReadCursor> {
        let segment = self.segments.floor(offset).ok_or_else(|| {
            let path = self.directory.join("*.log");
            Error::from(Corruption::of_file(&path, format!("no segment holds offset {offset}")))
        })?;
        let at = segment.locate(offset)?;
        Ok(ReadCursor { segment, at })
    }

    /// At the end of a segment, goes on to the next. It must begin where this one ends.
    pub(super) fn past_the_end(&self, mut cursor: ReadCursor) -> Result<ReadCursor> {
        while cursor.at.file_position >= cursor.segment.len() {
            let Some(next) = self.segments.after(cursor.segment.base_offset()) else { break };
            if next.base_offset() != cursor.at.base_offset {
                let (found, expected) = (next.base_offset(), cursor.at.base_offset);
                let reason =
                    format!("the next segment starts at offset {found}, expected {expected}");
                return Err(cursor.segment.damage_at(cursor.at, &reason));
            }
            cursor.segment.records().left();
            cursor = ReadCursor { at: next.start(), segment: next };
        }
        Ok(cursor)
    }

    /// The first visible record at or after a timestamp: its offset and timestamp.
    ///
    /// `decompressed_max` bounds what is taken for decompressing one batch.
    pub(crate) fn offset_for_timestamp(
        &self,
        timestamp: Timestamp,
        decompressed_max: usize,
    ) -> Result<Option<(u64, Timestamp)>> {
        self.check_not_closed()?;
        let mut from = self.ends.log_start();
        let mut buffer = Vec::new();
        for segment in self.segments.snapshot().iter() {
            match self.record_since(segment, timestamp, from, &mut buffer, decompressed_max) {
                Ok(None) => {}
                // Retention was faster: what went is no answer any more.
                Err(_) if segment.next_offset() <= self.ends.log_start() => {}
                Err(error) => {
                    self.check_not_closed()?;
                    return Err(self.locate_error(error));
                }
                found => return found,
            }
            from = from.max(segment.next_offset());
        }
        Ok(None)
    }

    /// The first visible record of a segment at or after a timestamp and an offset.
    fn record_since(
        &self,
        segment: &Segment,
        timestamp: Timestamp,
        mut from: u64,
        buffer: &mut Vec<u8>,
        decompressed_max: usize,
    ) -> Result<Option<(u64, Timestamp)>> {
        let end = segment.next_offset().min(self.ends.high_watermark());
        while from < end {
            let Some(at) = segment.locate_timestamp(timestamp, from)? else { break };
            if at.base_offset >= end {
                break;
            }
            let run = segment.read(at, 1, end)?;
            let found = first_record_since(&run.bytes, timestamp, from, buffer, decompressed_max)
                .map_err(|error| segment.damage_at(at, &error.to_string()))?;
            if found.is_some() {
                return Ok(found);
            }
            // The batch's largest timestamp was that of a record before `from`, or a lie.
            from = run.next.base_offset;
        }
        Ok(None)
    }
}

/// The first record of a batch with at least the timestamp and the offset.
fn first_record_since(
    bytes: &[u8],
    timestamp: Timestamp,
    from: u64,
    buffer: &mut Vec<u8>,
    decompressed_max: usize,
) -> Result<Option<(u64, Timestamp)>, BatchError> {
    let batch = RecordBatch::parse(bytes)?;
    if batch.attributes().is_control() {
        return Ok(None);
    }
    for record in batch.records(buffer, decompressed_max)? {
        let record = record?;
        if record.timestamp() >= timestamp && record.offset() >= from {
            return Ok(Some((record.offset(), record.timestamp())));
        }
    }
    Ok(None)
}
