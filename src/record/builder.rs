//! Writing batches: records are encoded as they come, and sealing adds header, compression and
//! checksum.
//!
//! The size of a record is computed before it is encoded, so that the batch's size is known at any
//! time and a record is written once, into its final place.

use std::fmt;

use crate::record::batch::BatchError;
#[cfg(test)]
use crate::record::batch::RecordBatch;
use crate::record::checksum::batch_checksum;
use crate::record::compression::{Codec, Compression};
use crate::record::header::{
    self, Attributes, BATCH_BYTES_MAX, BATCH_OVERHEAD, BatchHeader, HeaderBytes,
};
use crate::record::varint::{
    put_byte, put_bytes, put_varint, put_varlong, varint_size, varlong_size,
};
use crate::record::{Header, Record};
use crate::time::Timestamp;

/// Collects records into a batch. Reusable: after [`clear`](Self::clear) it keeps its memory.
///
/// One thread at a time may use it. The order of calls is: `append` as often as needed, `seal`,
/// `sealed`; an `append` after that reopens the batch, and it must be sealed again.
pub(crate) struct BatchBuilder {
    /// Room for the header, then the records up to `end`, then room to spare: its length is never
    /// cut, so that encoding need not fill anything twice.
    space: Vec<u8>,
    /// Where the records end in `space`; at least [`BATCH_OVERHEAD`].
    end: usize,
    /// The sealed batch if it is compressed; used like `space`.
    compressed: Vec<u8>,
    sealed: Sealed,
    /// All that is known of the header so far; offsets and codec are up to `seal`.
    header: BatchHeader,
}

/// Where the sealed batch lies.
#[derive(Debug, Clone, Copy)]
enum Sealed {
    No,
    /// In `space`, up to `end`.
    Plain,
    /// In `compressed`, up to here.
    Compressed(usize),
}

impl BatchBuilder {
    /// An empty builder that takes no memory before the first record.
    pub(crate) fn new() -> Self {
        Self::with_capacity(0)
    }

    /// An empty builder with memory for a batch of `bytes` bytes, uncompressed.
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self {
            space: vec![0; bytes],
            end: BATCH_OVERHEAD,
            compressed: Vec::new(),
            sealed: Sealed::No,
            header: EMPTY_HEADER,
        }
    }

    /// Forgets the records and everything set, and keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.end = BATCH_OVERHEAD;
        self.sealed = Sealed::No;
        self.header = EMPTY_HEADER;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.header.record_count == 0
    }

    pub(crate) fn record_count(&self) -> u32 {
        self.header.record_count
    }

    /// The size in bytes that the batch has uncompressed, header included. Sealing never makes it
    /// larger.
    pub(crate) fn size(&self) -> usize {
        self.end
    }

    /// By how many bytes [`size`](Self::size) grows if `record` is appended next. Saturates for a
    /// record that is too large for any batch.
    #[inline]
    pub(crate) fn size_of_next(&self, record: &Record<'_>, timestamp: Timestamp) -> usize {
        self.next_layout(record, timestamp).map_or(usize::MAX, |next| next.size())
    }

    /// Appends a record and returns its offset relative to the batch's first one.
    ///
    /// # Errors
    ///
    /// [`BatchError::TooLarge`] if the batch, or a part of the record, would be 2 GiB or more. The
    /// batch is as before then.
    #[inline]
    pub(crate) fn append(
        &mut self,
        record: &Record<'_>,
        timestamp: Timestamp,
    ) -> Result<u32, BatchError> {
        let layout = self.next_layout(record, timestamp)?;
        self.encode(&layout, record, timestamp)
    }

    /// Appends a record if the batch, uncompressed, is then no larger than `size_max` bytes.
    ///
    /// # Errors
    ///
    /// As for [`append`](Self::append).
    #[inline]
    pub(crate) fn append_within(
        &mut self,
        size_max: usize,
        record: &Record<'_>,
        timestamp: Timestamp,
    ) -> Result<Option<u32>, BatchError> {
        let layout = self.next_layout(record, timestamp)?;
        if layout.size() > size_max.saturating_sub(self.end) {
            return Ok(None);
        }
        self.encode(&layout, record, timestamp).map(Some)
    }

    #[inline]
    fn encode(
        &mut self,
        layout: &Layout,
        record: &Record<'_>,
        timestamp: Timestamp,
    ) -> Result<u32, BatchError> {
        let end = self.end + layout.size();
        if end > self.space.len() {
            self.grow(end)?;
        }
        layout.write(record, &mut self.space[self.end..end]);
        self.end = end;
        self.sealed = Sealed::No;
        if self.is_empty() {
            self.header.base_timestamp = base_timestamp(timestamp);
            self.header.max_timestamp = timestamp;
        } else {
            self.header.max_timestamp = self.header.max_timestamp.max(timestamp);
        }
        let relative_offset = self.header.record_count;
        self.header.record_count += 1;
        self.header.last_offset_delta = relative_offset;
        Ok(relative_offset)
    }

    #[inline]
    fn next_layout(&self, record: &Record<'_>, timestamp: Timestamp) -> Result<Layout, BatchError> {
        let base_timestamp =
            if self.is_empty() { base_timestamp(timestamp) } else { self.header.base_timestamp };
        // A record takes at least 7 bytes and a batch less than 2 GiB, so counts fit.
        let offset_delta = i32::try_from(self.header.record_count)
            .map_err(|_| BatchError::too_large(self.end, BATCH_BYTES_MAX))?;
        // Timestamps may be any distance apart; Kafka's arithmetic wraps, and undoes it in reading.
        let timestamp_delta = timestamp.as_millis().wrapping_sub(base_timestamp);
        Layout::of(record, timestamp_delta, offset_delta)
    }

    #[cold]
    fn grow(&mut self, end: usize) -> Result<(), BatchError> {
        if end > BATCH_BYTES_MAX {
            return Err(BatchError::too_large(end, BATCH_BYTES_MAX));
        }
        let doubled = self.space.len().saturating_mul(2).min(BATCH_BYTES_MAX);
        self.space.resize(end.max(doubled), 0);
        Ok(())
    }

    /// Says who produces the batch: producer id, its epoch, and the sequence of the first record.
    /// Without it the batch has none (-1 each).
    #[cfg(test)]
    pub(crate) fn set_producer(&mut self, id: i64, epoch: i16, base_sequence: i32) {
        self.header.producer_id = id;
        self.header.producer_epoch = epoch;
        self.header.base_sequence = base_sequence;
        self.sealed = Sealed::No;
    }

    /// Makes the batch part of a transaction.
    #[cfg(test)]
    pub(crate) fn set_transactional(&mut self, transactional: bool) {
        self.header.attributes = self.header.attributes.with_transactional(transactional);
        self.sealed = Sealed::No;
    }

    /// Makes the batch one for the log itself, which consumers never see.
    #[cfg(test)]
    pub(crate) fn set_control(&mut self, control: bool) {
        self.header.attributes = self.header.attributes.with_control(control);
        self.sealed = Sealed::No;
    }

    /// Compresses the records if that makes the batch smaller, and writes the header with base
    /// offset 0, leader epoch 0 and the checksum. Sealing again gives the same batch anew.
    ///
    /// # Errors
    ///
    /// [`BatchError::Unsupported`] if the codec fails, for want of memory.
    ///
    /// # Panics
    ///
    /// If there are no records.
    pub(crate) fn seal(&mut self, compression: Compression) -> Result<(), BatchError> {
        assert!(!self.is_empty(), "a batch is sealed when it has records");
        let payload = &self.space[BATCH_OVERHEAD..self.end];
        let compressed = compression.compress(payload, &mut self.compressed, BATCH_OVERHEAD)?;
        let codec = if compressed.is_some() { compression.codec() } else { Codec::None };
        self.header.attributes = self.header.attributes.with_codec(codec);
        if let Some(end) = compressed {
            write_header(&self.header, &mut self.compressed[..end]);
            self.sealed = Sealed::Compressed(end);
        } else {
            write_header(&self.header, &mut self.space[..self.end]);
            self.sealed = Sealed::Plain;
        }
        Ok(())
    }

    /// The sealed batch.
    ///
    /// # Panics
    ///
    /// If the batch was not sealed after the last change.
    pub(crate) fn sealed(&mut self) -> SealedBatch<'_> {
        let bytes = match self.sealed {
            Sealed::No => None,
            Sealed::Plain => self.space.get_mut(..self.end),
            Sealed::Compressed(end) => self.compressed.get_mut(..end),
        };
        let bytes = bytes.expect("a batch is sealed before it is used");
        SealedBatch { bytes, header: self.header }
    }
}

impl Default for BatchBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for BatchBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchBuilder")
            .field("size", &self.end)
            .field("sealed", &self.sealed)
            .field("header", &self.header)
            .finish_non_exhaustive()
    }
}

/// A whole batch that only lacks its place in a log.
pub(crate) struct SealedBatch<'a> {
    bytes: &'a mut [u8],
    /// As it stands in the bytes.
    header: BatchHeader,
}

#[cfg(test)]
impl<'a> SealedBatch<'a> {
    /// Takes `bytes`, which must be exactly one batch with a right checksum, as a sealed batch.
    pub(crate) fn new(bytes: &'a mut [u8]) -> Result<Self, BatchError> {
        let batch = RecordBatch::parse(bytes)?;
        if batch.size() != bytes.len() {
            return Err(BatchError::corrupt("more bytes follow than the batch has"));
        }
        batch.verify_checksum()?;
        let header = *batch.header();
        Ok(Self { bytes, header })
    }
}

impl SealedBatch<'_> {
    pub(crate) fn bytes(&self) -> &[u8] {
        self.bytes
    }

    /// The size in bytes, as stored.
    pub(crate) fn size(&self) -> usize {
        self.bytes.len()
    }

    #[cfg(test)]
    pub(crate) fn batch(&self) -> RecordBatch<'_> {
        RecordBatch::parse(self.bytes).expect("a sealed batch is a batch")
    }

    pub(crate) fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// Writes base offset and leader epoch, which lie outside the checksum.
    ///
    /// # Panics
    ///
    /// If the base offset is above `i64::MAX`.
    pub(crate) fn assign(&mut self, base_offset: u64, leader_epoch: i32) {
        (self.header.base_offset, self.header.leader_epoch) = (base_offset, leader_epoch);
        let header = header_mut(self.bytes);
        header::write_base_offset(header, base_offset);
        header::write_leader_epoch(header, leader_epoch);
    }

    /// Gives all records the time `now`, as a topic with `LogAppendTime` does. Base timestamp and
    /// deltas stay as they are, so that what producers said is not lost.
    pub(crate) fn set_log_append_time(&mut self, now: Timestamp) {
        self.header.attributes = self.header.attributes.with_log_append_time();
        self.header.max_timestamp = now;
        write_header(&self.header, self.bytes);
    }
}

impl fmt::Debug for SealedBatch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SealedBatch").field(&self.header).finish()
    }
}

/// A batch without records that covers the offsets from `base_offset` to `base_offset +
/// last_offset_delta`: it keeps the log contiguous where records are gone.
///
/// # Panics
///
/// If the delta is negative, or the last offset above `i64::MAX`.
pub(crate) fn empty_batch(
    base_offset: u64,
    last_offset_delta: i32,
    leader_epoch: i32,
    max_timestamp: Timestamp,
) -> HeaderBytes {
    let last_offset_delta = u32::try_from(last_offset_delta).expect("a batch has an offset");
    let header =
        BatchHeader { base_offset, leader_epoch, last_offset_delta, max_timestamp, ..EMPTY_HEADER };
    let mut bytes = [0; BATCH_OVERHEAD];
    write_header(&header, &mut bytes);
    bytes
}

const EMPTY_HEADER: BatchHeader = BatchHeader {
    base_offset: 0,
    leader_epoch: 0,
    attributes: Attributes::NONE,
    last_offset_delta: 0,
    base_timestamp: Timestamp::NONE.as_millis(),
    max_timestamp: Timestamp::NONE,
    producer_id: -1,
    producer_epoch: -1,
    base_sequence: -1,
    record_count: 0,
};

/// The base timestamp of a batch whose first record has this one. The format has no negative base
/// but -1; records may well lie before it, with a negative delta.
#[inline]
fn base_timestamp(first: Timestamp) -> i64 {
    first.max(Timestamp::NONE).as_millis()
}

/// Writes the header of `batch`, whose records are in place, and the checksum over both.
fn write_header(header: &BatchHeader, batch: &mut [u8]) {
    let size = batch.len();
    header.write(header_mut(batch), size);
    let checksum = batch_checksum(batch);
    header::write_checksum(header_mut(batch), checksum);
}

fn header_mut(batch: &mut [u8]) -> &mut HeaderBytes {
    batch.first_chunk_mut().expect("a batch has a header")
}

/// A record about to be encoded: its deltas, and its size without its own length field. Exists only
/// if every length fits its field.
struct Layout {
    timestamp_delta: i64,
    offset_delta: i32,
    body_size: i32,
}

impl Layout {
    #[inline]
    fn of(
        record: &Record<'_>,
        timestamp_delta: i64,
        offset_delta: i32,
    ) -> Result<Self, BatchError> {
        let mut body_size = ATTRIBUTES_LEN
            + varlong_size(timestamp_delta)
            + varint_size(offset_delta)
            + nullable_size(record.key)
            + nullable_size(record.value)
            + varint_size(size_field(record.headers.len())?);
        for header in &record.headers {
            body_size = body_size.saturating_add(header_size(header));
        }
        // The parts are smaller than the whole, so their lengths fit if the whole does.
        Ok(Self { timestamp_delta, offset_delta, body_size: size_field(body_size)? })
    }

    /// The size of the record with its length.
    #[inline]
    fn size(&self) -> usize {
        varint_size(self.body_size) + usize::try_from(self.body_size).unwrap_or(usize::MAX)
    }

    /// Encodes `record` into `out`, which has exactly the right size.
    #[inline]
    fn write(&self, record: &Record<'_>, out: &mut [u8]) {
        let out = put_varint(out, self.body_size);
        let out = put_byte(out, 0);
        let out = put_varlong(out, self.timestamp_delta);
        let out = put_varint(out, self.offset_delta);
        let out = put_nullable(out, record.key);
        let out = put_nullable(out, record.value);
        let mut out = put_length(out, record.headers.len());
        for header in &record.headers {
            out = put_nullable(out, Some(header.name.as_bytes()));
            out = put_nullable(out, header.value);
        }
        debug_assert!(out.is_empty(), "the size was computed exactly");
    }
}

const ATTRIBUTES_LEN: usize = 1;
/// The length that stands for null.
const NULL: i32 = -1;

/// A size or count as its field holds it.
#[inline]
fn size_field(size: usize) -> Result<i32, BatchError> {
    i32::try_from(size).map_err(|_| BatchError::too_large(size, BATCH_BYTES_MAX))
}

/// Saturates far above anything a field can hold, rather than to overflow on the way there.
fn header_size(header: &Header<'_>) -> usize {
    nullable_size(Some(header.name.as_bytes())).saturating_add(nullable_size(header.value))
}

#[inline]
fn nullable_size(bytes: Option<&[u8]>) -> usize {
    match bytes {
        None => varint_size(NULL),
        Some(bytes) => length_size(bytes.len()) + bytes.len(),
    }
}

#[inline]
fn length_size(length: usize) -> usize {
    i64::try_from(length).map_or(usize::BITS as usize, varlong_size)
}

#[inline]
fn put_nullable<'o>(out: &'o mut [u8], bytes: Option<&[u8]>) -> &'o mut [u8] {
    match bytes {
        None => put_varint(out, NULL),
        Some(bytes) => put_bytes(put_length(out, bytes.len()), bytes),
    }
}

#[inline]
fn put_length(out: &mut [u8], length: usize) -> &mut [u8] {
    put_varlong(out, i64::try_from(length).expect("the layout has checked all lengths"))
}
