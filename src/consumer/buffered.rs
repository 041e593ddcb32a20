//! Batches that were read, on their way out: their records are checked and cut into what one poll
//! may return.
//!
//! What a poll does not take stays here, so that a batch is read, checked and decompressed once
//! however small the polls are.

use std::sync::Arc;

use crate::consumer::records::{Run, has_records};
use crate::error::{Corruption, Error, Result};
use crate::log::read::{Fetched, ReadCursor};
use crate::log::transactions::AbortedTransaction;
use crate::record::batch::{BatchError, RecordBatch, RecordsProgress};
use crate::segment::records_file::Chunk;
use crate::topic::{DECOMPRESSED_MAX, Partition};

/// How many decompression buffers are kept for later, and how large each of them may be.
const BUFFERS_MAX: usize = 32;
const BUFFER_LEN_MAX: usize = 1 << 20;

/// What the present poll may still return.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Budget {
    pub(crate) records: usize,
    pub(crate) bytes: usize,
}

impl Budget {
    pub(crate) fn is_exhausted(self) -> bool {
        self.records == 0 || self.bytes == 0
    }
}

/// Batches of one partition that were read and not wholly handed out.
#[derive(Debug)]
pub(crate) struct Buffered {
    /// Batches end to end, all of one segment.
    batches: Chunk,
    next: Next,
    /// The transactions whose batches among them are left out.
    aborted: Vec<AbortedTransaction>,
    /// Behind the last of the batches.
    cursor: ReadCursor,
}

/// The batch that comes next.
#[derive(Debug, Default)]
struct Next {
    /// Where it begins.
    at: usize,
    /// How far it has been handed out.
    progress: Option<RecordsProgress>,
    /// Its records, if it is compressed and has been begun.
    decompressed: Option<Arc<Vec<u8>>>,
}

/// What was taken of one batch.
struct Taken {
    records: usize,
    /// Where the first of them is.
    start: RecordsProgress,
    /// The records of the batch, if it is compressed.
    decompressed: Option<Arc<Vec<u8>>>,
}

impl Buffered {
    pub(crate) fn new(fetched: Fetched, aborted: Vec<AbortedTransaction>) -> Self {
        Self { batches: fetched.bytes, next: Next::default(), aborted, cursor: fetched.cursor }
    }

    /// Where to read on when everything has been handed out.
    pub(crate) fn into_cursor(self) -> ReadCursor {
        self.cursor
    }

    pub(crate) fn is_used_up(&self) -> bool {
        self.next.at >= self.batches.len()
    }

    /// Takes records from `position` on, as many as the budget allows, and moves the position
    /// behind them; also behind batches that have no records.
    ///
    /// Damage is told once everything before it has been handed out.
    pub(crate) fn take(
        &mut self,
        position: &mut u64,
        budget: &mut Budget,
        source: &mut Source<'_>,
    ) -> Result<Option<Run>> {
        let bytes: &[u8] = &self.batches;
        let mut first: Option<(usize, RecordsProgress)> = None;
        let (mut end, mut records, mut decompressed) = (self.next.at, 0, Vec::new());
        while self.next.at < bytes.len() && !budget.is_exhausted() {
            let at = self.next.at;
            let rest = bytes.get(at..).unwrap_or_default();
            let batch = RecordBatch::parse(rest).expect("the log hands out whole batches");
            if self.aborted.iter().any(|aborted| aborted.holds(&batch)) {
                // A run has the records of all its batches, so this one ends before it.
                if first.is_some() {
                    break;
                }
                *position = batch.next_offset().max(*position);
                self.next.finish(&batch);
                continue;
            }
            let taken = match self.next.take(&batch, position, budget.records, source.buffers) {
                Ok(taken) => taken,
                Err(_) if first.is_some() => break,
                Err(error) => {
                    return Err(damaged(&error, &batch, &self.cursor, source.partition));
                }
            };
            let Some(taken) = taken else { continue };
            let payload_len = taken.decompressed.as_ref().map_or(0, |payload| payload.len());
            budget.records -= taken.records;
            budget.bytes = budget.bytes.saturating_sub(batch.size().max(payload_len));
            first.get_or_insert((at, taken.start));
            end = at + batch.size();
            records += taken.records;
            decompressed.extend(taken.decompressed);
        }
        Ok(first.map(|(at, start)| Run {
            topic_partition: source.partition.topic_partition().clone(),
            batches: self.batches.slice(at..end),
            decompressed,
            start,
            records,
            next_offset: *position,
        }))
    }
}

impl Next {
    /// Takes up to `limit` records from `position` on, which moves behind them, and checks them. `None` if
    /// there are none for consumers.
    fn take(
        &mut self,
        batch: &RecordBatch<'_>,
        position: &mut u64,
        limit: usize,
        buffers: &mut BufferPool,
    ) -> Result<Option<Taken>, BatchError> {
        if !has_records(batch) || batch.next_offset() <= *position {
            *position = batch.next_offset().max(*position);
            self.finish(batch);
            return Ok(None);
        }
        let decompressed = match &self.decompressed {
            Some(payload) => Some(Arc::clone(payload)),
            None if batch.is_compressed() => Some(buffers.decompress(batch, DECOMPRESSED_MAX)?),
            None => None,
        };
        let payload = decompressed.as_ref().map_or(batch.payload(), |payload| payload.as_slice());
        let mut records = batch.iter_payload(payload);
        if let Some(progress) = self.progress {
            records = records.resume(progress);
        }
        // Behind where the batch was left, it may be that somebody else has taken what comes next.
        records.skip_to(*position)?;
        let start = records.progress();
        let checked = records.check(limit)?;
        let end = records.progress();
        if end.left() == 0 {
            records.check_end()?;
            *position = batch.next_offset();
            self.finish(batch);
        } else {
            *position = checked.map_or(*position, |(_, next_offset)| next_offset);
            self.progress = Some(end);
            self.decompressed.clone_from(&decompressed);
        }
        let count = checked.map_or(0, |(count, _)| count);
        Ok((count > 0).then_some(Taken { records: count, start, decompressed }))
    }

    fn finish(&mut self, batch: &RecordBatch<'_>) {
        *self = Self { at: self.at + batch.size(), ..Self::default() };
    }
}

/// Where batches come from and what decompressing them takes.
pub(crate) struct Source<'a> {
    pub(crate) partition: &'a Partition,
    pub(crate) buffers: &'a mut BufferPool,
}

fn damaged(
    error: &BatchError,
    batch: &RecordBatch<'_>,
    cursor: &ReadCursor,
    partition: &Partition,
) -> Error {
    let path = cursor.path();
    if let BatchError::Unsupported(_) | BatchError::CodecUnavailable { .. } = error {
        return Error::UnsupportedFormat { path: path.to_owned(), reason: error.to_string() };
    }
    let mut damage = Corruption::of_file(path, error.to_string());
    damage.topic_partition = Some(partition.topic_partition().clone());
    damage.offsets = batch.base_offset()..batch.next_offset();
    damage.into()
}

/// Buffers that records are decompressed into. One that nobody reads from any more, neither the
/// consumer nor what it returned, is used again.
#[derive(Debug, Default)]
pub(crate) struct BufferPool(Vec<Arc<Vec<u8>>>);

impl BufferPool {
    fn decompress(
        &mut self,
        batch: &RecordBatch<'_>,
        limit: usize,
    ) -> Result<Arc<Vec<u8>>, BatchError> {
        let idle = self.0.iter().position(|buffer| Arc::strong_count(buffer) == 1);
        let idle = idle.map(|at| self.0.swap_remove(at)).and_then(Arc::into_inner);
        let mut buffer = idle.unwrap_or_default();
        batch.decompress_into(&mut buffer, limit)?;
        let keep = buffer.capacity() <= BUFFER_LEN_MAX && self.0.len() < BUFFERS_MAX;
        let buffer = Arc::new(buffer);
        if keep {
            self.0.push(Arc::clone(&buffer));
        }
        Ok(buffer)
    }
}
