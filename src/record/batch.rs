#![doc = include_str!("format.md")]

use std::fmt;

use crate::record::checksum::batch_checksum;
use crate::record::compression::Codec;
use crate::record::header::{self, BATCH_BYTES_MAX, LENGTH_PREFIX};
use crate::time::Timestamp;

pub(crate) use crate::record::batch_error::BatchError;
pub(crate) use crate::record::header::{Attributes, BATCH_OVERHEAD, BatchHeader, TimestampType};
pub(crate) use crate::record::records::{RecordRef, Records, RecordsProgress};

/// A batch where it lies in a file or a buffer, with its header read and checked.
///
/// Neither the checksum nor the records are checked yet: see [`verify_checksum`] and
/// [`check_records`]. Copying one copies the header, not the batch.
///
/// [`verify_checksum`]: RecordBatch::verify_checksum
/// [`check_records`]: RecordBatch::check_records
#[derive(Clone, Copy)]
pub(crate) struct RecordBatch<'a> {
    /// Exactly the batch; at least [`BATCH_OVERHEAD`] bytes.
    bytes: &'a [u8],
    payload: &'a [u8],
    header: BatchHeader,
    checksum: u32,
}

/// How much room a batch takes, in bytes and in offsets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BatchSpan {
    pub(crate) size: usize,
    pub(crate) base_offset: u64,
    pub(crate) last_offset: u64,
}

impl<'a> RecordBatch<'a> {
    /// Reads the batch at the start of `bytes`, which may go on behind it.
    ///
    /// Size, magic, attributes, offsets and counts are checked, and they are as soon as the header
    /// is there: bytes that cannot be a batch are never called an incomplete one.
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, BatchError> {
        let size = Self::size_of(bytes)?;
        let Some((header_bytes, _)) = bytes.split_first_chunk() else {
            return Err(BatchError::incomplete(size.unwrap_or(BATCH_OVERHEAD), bytes.len()));
        };
        let header = BatchHeader::parse(header_bytes)?;
        let checksum = header::stored_checksum(header_bytes);
        let size = size.unwrap_or(BATCH_OVERHEAD);
        let Some((bytes, _)) = bytes.split_at_checked(size) else {
            return Err(BatchError::incomplete(size, bytes.len()));
        };
        let payload = bytes.get(BATCH_OVERHEAD..).unwrap_or_default();
        Ok(Self { bytes, payload, header, checksum })
    }

    /// The size in bytes of the batch that begins `bytes`, from its length field alone; `None` if
    /// there are fewer than the 12 bytes that hold it.
    ///
    /// Zeros have the length 0, which no batch has: zeroed space never looks like a batch.
    pub(crate) fn size_of(bytes: &[u8]) -> Result<Option<usize>, BatchError> {
        let Some(prefix) = bytes.first_chunk::<LENGTH_PREFIX>() else { return Ok(None) };
        let length = header::stored_length(prefix);
        let size =
            usize::try_from(length).ok().and_then(|length| length.checked_add(LENGTH_PREFIX));
        match size {
            Some(size @ BATCH_OVERHEAD..=BATCH_BYTES_MAX) => Ok(Some(size)),
            _ => Err(BatchError::corrupt(format!("the batch has length {length}"))),
        }
    }

    /// What it takes to pass over the batch that begins `bytes`, and no more is looked at: much
    /// cheaper than [`parse`](Self::parse). `None` if it is not there whole, or cannot be a batch.
    #[inline]
    pub(crate) fn span_of(bytes: &[u8]) -> Option<BatchSpan> {
        let size = Self::size_of(bytes).ok()??;
        let (base_offset, last_offset) = BatchHeader::offsets(bytes.first_chunk()?)?;
        (size <= bytes.len()).then_some(BatchSpan { size, base_offset, last_offset })
    }

    /// How many bytes it takes to parse what begins here, if that is more than there are; from the
    /// length field alone, whether or not the rest makes a batch.
    #[inline]
    pub(crate) fn needed(bytes: &[u8]) -> Option<u64> {
        match Self::size_of(bytes) {
            Ok(None) => Some(BATCH_OVERHEAD as u64),
            Ok(Some(size)) if size > bytes.len() => Some(size as u64),
            _ => None,
        }
    }

    /// Compares the stored checksum with that of the bytes.
    pub(crate) fn verify_checksum(&self) -> Result<(), BatchError> {
        let computed = batch_checksum(self.bytes);
        if computed == self.checksum {
            return Ok(());
        }
        let stored = self.checksum;
        Err(BatchError::corrupt(format!("checksum is {computed:#010x}, expected {stored:#010x}")))
    }

    /// The whole batch, header included.
    pub(crate) fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The checksum as it stands in the header.
    pub(crate) fn stored_checksum(&self) -> u32 {
        self.checksum
    }

    /// The size in bytes, header included.
    pub(crate) fn size(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn base_offset(&self) -> u64 {
        self.header.base_offset
    }

    /// The offset of the last record the batch was written with, even if it is gone by now.
    pub(crate) fn last_offset(&self) -> u64 {
        self.header.base_offset + u64::from(self.header.last_offset_delta)
    }

    /// The offset of whatever follows this batch.
    pub(crate) fn next_offset(&self) -> u64 {
        self.last_offset() + 1
    }

    #[cfg(test)]
    pub(crate) fn last_offset_delta(&self) -> u32 {
        self.header.last_offset_delta
    }

    #[cfg(test)]
    pub(crate) fn partition_leader_epoch(&self) -> i32 {
        self.header.leader_epoch
    }

    pub(crate) fn attributes(&self) -> Attributes {
        self.header.attributes
    }

    #[cfg(test)]
    /// What the records' timestamps are relative to, in milliseconds; -1 in a batch without
    /// records; the delete horizon if the attributes say so.
    pub(crate) fn base_timestamp(&self) -> i64 {
        self.header.base_timestamp
    }

    pub(crate) fn max_timestamp(&self) -> Timestamp {
        self.header.max_timestamp
    }

    #[cfg(test)]
    pub(crate) fn producer_id(&self) -> i64 {
        self.header.producer_id
    }

    #[cfg(test)]
    pub(crate) fn producer_epoch(&self) -> i16 {
        self.header.producer_epoch
    }

    /// The sequence of the record at the base offset; -1 if the producer numbers none.
    #[cfg(test)]
    pub(crate) fn base_sequence(&self) -> i32 {
        self.header.base_sequence
    }

    /// How many records there are; 0 is possible after compaction.
    pub(crate) fn record_count(&self) -> u32 {
        self.header.record_count
    }

    pub(crate) fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// What follows the header: the records as they are stored, compressed or not.
    pub(crate) fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// The records. Those of a compressed batch are decompressed into `buffer`, whose contents are
    /// replaced, and which never holds more than `limit` bytes of them; others are borrowed from
    /// the batch, and `buffer` is left alone.
    pub(crate) fn records<'b>(
        &self,
        buffer: &'b mut Vec<u8>,
        limit: usize,
    ) -> Result<Records<'b>, BatchError>
    where
        'a: 'b,
    {
        if !self.is_compressed() {
            return Ok(self.iter_payload(self.payload));
        }
        self.decompress_into(buffer, limit)?;
        Ok(self.iter_payload(buffer))
    }

    /// Whether there is anything to decompress. A batch that compaction has emptied may still name
    /// a codec, as Kafka reads it.
    pub(crate) fn is_compressed(&self) -> bool {
        self.header.attributes.codec() != Codec::None && !self.payload.is_empty()
    }

    /// Replaces the contents of `buffer` with the records as they are uncompressed, at most `limit`
    /// bytes of them.
    pub(crate) fn decompress_into(
        &self,
        buffer: &mut Vec<u8>,
        limit: usize,
    ) -> Result<(), BatchError> {
        let codec = if self.is_compressed() { self.header.attributes.codec() } else { Codec::None };
        codec.decompress(self.payload, buffer, limit)
    }

    /// Checks that `payload`, already decompressed, is exactly the records the header announces.
    #[cfg(test)]
    pub(crate) fn check_records(&self, payload: &[u8]) -> Result<(), BatchError> {
        self.iter_payload(payload).try_for_each(|record| record.map(drop))
    }

    /// The records in `payload`, already decompressed. After an error nothing more comes.
    pub(crate) fn iter_payload<'p>(&self, payload: &'p [u8]) -> Records<'p> {
        let fixed_timestamp = match self.header.attributes.timestamp_type() {
            TimestampType::CreateTime => None,
            TimestampType::LogAppendTime => Some(self.header.max_timestamp),
        };
        Records::new(payload, &self.header, fixed_timestamp)
    }
}

impl fmt::Debug for RecordBatch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordBatch")
            .field("size", &self.bytes.len())
            .field("header", &self.header)
            .finish_non_exhaustive()
    }
}

/// Reads `bytes` as batches up to their end and checks everything about them: headers, checksums,
/// streams, records. Returns how many records there are.
///
/// No record may take more than `limit` bytes decompressed. For tests and fuzzing, and for whoever
/// wants to verify a file without understanding it.
#[cfg(any(test, fuzzing))]
pub(crate) fn check_batches(mut bytes: &[u8], limit: usize) -> Result<u64, BatchError> {
    let mut buffer = Vec::new();
    let mut record_count = 0;
    while !bytes.is_empty() {
        let batch = RecordBatch::parse(bytes)?;
        batch.verify_checksum()?;
        for record in batch.records(&mut buffer, limit)? {
            let _: RecordRef<'_> = record?;
            record_count += 1;
        }
        bytes = bytes.get(batch.size()..).unwrap_or_default();
    }
    Ok(record_count)
}
