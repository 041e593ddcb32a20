//! Batches that were read, on their way out: their records are checked and cut into what one poll
//! may return.
//!
//! What a poll does not take stays here, so that a batch is read, checked and decompressed once
//! however small the polls are.

use std::sync::Arc;

use crate::consumer::records::{Run, has_records};
use crate::error::{Corruption, Error, Result};
use crate::log::read::{Fetched, ReadCursor};
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
    /// Where the batch begins that comes next.
    at: usize,
    /// How far that one has been handed out.
    progress: Option<RecordsProgress>,
    /// Its records, if it is compressed and has been begun.
    decompressed: Option<Arc<Vec<u8>>>,
    /// Behind the last of the batches.
    cursor: ReadCursor,
}

/// What was taken of one batch.
struct Taken {
    records: usize,
    /// Where the first of them is.
    start: RecordsProgress,
    /// The records of the batch, if it is compressed.
    decompressed: Option<Arc<Vec<u8>>>,
    next_position: u64,
}

impl Buffered {
    pub(crate) fn new(fetched: Fetched) -> Self {
        Self {
            batches: fetched.bytes,
            at: 0,
            progress: None,
            decompressed: None,
            cursor: fetched.cursor,
        }
    }

    /// Where to read on when everything has been handed out.
    pub(crate) fn into_cursor(self) -> ReadCursor {
        self.cursor
    }

    pub(crate) fn is_used_up(&self) -> bool {
        self.at >= self.batches.len()
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
        let batches = self.batches.clone();
        let mut first: Option<(usize, RecordsProgress)> = None;
        let (mut end, mut records, mut decompressed) = (self.at, 0, Vec::new());
        while !self.is_used_up() && !budget.is_exhausted() {
            let at = self.at;
            let rest = batches.get(at..).unwrap_or_default();
            let batch = RecordBatch::parse(rest).expect("the log hands out whole batches");
            let taken = match self.take_batch(&batch, *position, budget.records, source) {
                Ok(taken) => taken,
                Err(_) if first.is_some() => break,
                Err(error) => return Err(error),
            };
            *position = taken.next_position;
            if taken.records == 0 {
                continue;
            }
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
            batches: batches.slice(at..end),
            decompressed,
            start,
            records,
            next_offset: *position,
        }))
    }

    /// Takes up to `limit` records of the batch that comes next, and checks them.
    fn take_batch(
        &mut self,
        batch: &RecordBatch<'_>,
        position: u64,
        limit: usize,
        source: &mut Source<'_>,
    ) -> Result<Taken> {
        if !has_records(batch) || batch.next_offset() <= position {
            self.finish_batch(batch);
            let next_position = position.max(batch.next_offset());
            let start = batch.iter_payload(&[]).progress();
            return Ok(Taken { records: 0, start, decompressed: None, next_position });
        }
        let damaged = |error: BatchError| damaged(&error, batch, &self.cursor, source.partition);
        let decompressed = match &self.decompressed {
            Some(payload) => Some(Arc::clone(payload)),
            None if batch.is_compressed() => {
                let limit = DECOMPRESSED_MAX;
                Some(source.buffers.decompress(batch, limit).map_err(damaged)?)
            }
            None => None,
        };
        let payload = decompressed.as_ref().map_or(batch.payload(), |payload| payload.as_slice());
        let mut records = batch.iter_payload(payload);
        match self.progress {
            Some(progress) => records = records.resume(progress),
            None => records.skip_to(position).map_err(damaged)?,
        }
        let start = records.progress();
        let checked = records.check(limit).map_err(damaged)?;
        let (count, mut next_position) = checked.unwrap_or((0, position));
        let end = records.progress();
        if end.left() == 0 {
            records.check_end().map_err(damaged)?;
            next_position = batch.next_offset();
            self.finish_batch(batch);
        } else {
            self.progress = Some(end);
            self.decompressed.clone_from(&decompressed);
        }
        Ok(Taken { records: count, start, decompressed, next_position })
    }

    fn finish_batch(&mut self, batch: &RecordBatch<'_>) {
        self.at += batch.size();
        self.progress = None;
        self.decompressed = None;
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
