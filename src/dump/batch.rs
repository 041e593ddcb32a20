//! One batch as it lies in a file, and the records in it.

use std::path::Path;
use std::sync::Arc;

use crate::error::{Corruption, Error, Result};
use crate::record::batch::{BatchError, BatchHeader, RecordBatch, RecordRef};
use crate::record::compression::Codec;
use crate::record::control::ControlRecord;
use crate::record::{Headers, TimestampType};
use crate::time::Timestamp;
use crate::topic::DECOMPRESSED_MAX;

/// A batch of records, with everything its header says. Names and meanings are Kafka's.
#[derive(Debug, Clone)]
#[non_exhaustive]
#[allow(clippy::struct_excessive_bools, reason = "these are the bits of the format")]
pub struct BatchDump {
    /// Where it begins in the file, in bytes.
    pub file_position: u64,
    /// How many bytes it takes, header included.
    pub size: u64,
    /// The offset of its first record.
    pub base_offset: u64,
    /// The offset of its last record, even if compaction has taken that out.
    pub last_offset: u64,
    /// How many records there are.
    pub record_count: u32,
    /// The sequence number of its first record; -1 if its producer numbers none.
    pub base_sequence: i32,
    /// That of its last record; -1 if its producer numbers none.
    pub last_sequence: i32,
    /// Which idempotent producer has sent it; -1 if none.
    pub producer_id: i64,
    /// The producer's epoch; -1 without a producer.
    pub producer_epoch: i16,
    /// The leader epoch in which it was appended.
    pub partition_leader_epoch: i32,
    /// It is part of a transaction.
    pub is_transactional: bool,
    /// Its records are for the log itself, such as the end of a transaction, and no consumer's.
    pub is_control: bool,
    /// When compaction may drop the tombstones in it.
    pub delete_horizon: Option<Timestamp>,
    /// Whose time the timestamps are.
    pub timestamp_type: TimestampType,
    /// What the records' timestamps are stored relative to; [`Timestamp::NONE`] in a batch without
    /// records.
    pub base_timestamp: Timestamp,
    /// The largest timestamp of its records.
    pub max_timestamp: Timestamp,
    /// What its records are compressed with.
    pub codec: Codec,
    /// The version of the format.
    pub magic: u8,
    /// The checksum that stands in the header.
    pub crc: u32,
    /// Whether that is the checksum of its bytes. If not, everything else here may be wrong.
    pub is_valid: bool,
    /// Whether it begins at the offset at which what comes before it ends, as all batches do that
    /// Sapwood has written. Compaction by Kafka leaves gaps.
    pub is_consecutive: bool,
    path: Arc<Path>,
    bytes: Vec<u8>,
}

/// The only version of the format that is read.
const MAGIC: u8 = 2;

impl BatchDump {
    pub(super) fn new(
        batch: &RecordBatch<'_>,
        file_position: u64,
        expected: u64,
        path: &Arc<Path>,
    ) -> Self {
        let header = batch.header();
        let attributes = batch.attributes();
        Self {
            file_position,
            size: batch.size() as u64,
            base_offset: batch.base_offset(),
            last_offset: batch.last_offset(),
            record_count: batch.record_count(),
            base_sequence: header.base_sequence,
            last_sequence: sequence_at(header, header.last_offset_delta),
            producer_id: header.producer_id,
            producer_epoch: header.producer_epoch,
            partition_leader_epoch: header.leader_epoch,
            is_transactional: attributes.is_transactional(),
            is_control: attributes.is_control(),
            delete_horizon: attributes
                .has_delete_horizon()
                .then(|| Timestamp::from_millis(header.base_timestamp)),
            timestamp_type: attributes.timestamp_type(),
            base_timestamp: Timestamp::from_millis(header.base_timestamp),
            max_timestamp: batch.max_timestamp(),
            codec: attributes.codec(),
            magic: MAGIC,
            crc: batch.stored_checksum(),
            is_valid: batch.verify_checksum().is_ok(),
            is_consecutive: batch.base_offset() == expected,
            path: Arc::clone(path),
            bytes: batch.bytes().to_vec(),
        }
    }

    /// Its bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Its records, decompressed. They may take 256 MiB; more is refused.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] if they cannot be decompressed.
    pub fn records(&self) -> Result<RecordsDump<'_>> {
        let batch = RecordBatch::parse(&self.bytes).map_err(|error| self.damage(&error))?;
        let mut decompressed = Vec::new();
        if batch.is_compressed() {
            let done = batch.decompress_into(&mut decompressed, DECOMPRESSED_MAX);
            done.map_err(|error| self.damage(&error))?;
        }
        Ok(RecordsDump { dump: self, batch, decompressed })
    }

    fn damage(&self, error: &BatchError) -> Error {
        Corruption {
            topic_partition: None,
            path: self.path.to_path_buf(),
            bytes: self.file_position..self.file_position + self.size,
            offsets: self.base_offset..self.last_offset + 1,
            reason: error.to_string(),
        }
        .into()
    }
}

/// The records of a batch. Made by [`BatchDump::records`].
#[derive(Debug)]
pub struct RecordsDump<'a> {
    dump: &'a BatchDump,
    batch: RecordBatch<'a>,
    decompressed: Vec<u8>,
}

impl RecordsDump<'_> {
    /// The records in order.
    ///
    /// # Errors
    ///
    /// The items give [`Error::Corrupt`] for a record that breaks the format; after it nothing more
    /// comes.
    pub fn iter(&self) -> impl Iterator<Item = Result<RecordDump<'_>>> {
        let compressed = self.batch.is_compressed();
        let payload = if compressed { &self.decompressed } else { self.batch.payload() };
        self.batch.iter_payload(payload).map(|record| {
            let record = record.and_then(|record| self.record(&record));
            record.map_err(|error| self.dump.damage(&error))
        })
    }

    fn record<'r>(&self, record: &RecordRef<'r>) -> Result<RecordDump<'r>, BatchError> {
        let control = if self.dump.is_control { Some(ControlRecord::parse(record)?) } else { None };
        let delta = u32::try_from(record.offset() - self.dump.base_offset).unwrap_or(u32::MAX);
        Ok(RecordDump {
            offset: record.offset(),
            timestamp: record.timestamp(),
            sequence: sequence_at(self.batch.header(), delta),
            key: record.key(),
            value: record.value(),
            headers: record.headers(),
            control,
        })
    }
}

/// A record as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecordDump<'a> {
    /// Its offset.
    pub offset: u64,
    /// Its timestamp.
    pub timestamp: Timestamp,
    /// Its sequence number; -1 if its producer numbers none.
    pub sequence: i32,
    /// Its key, if it has one.
    pub key: Option<&'a [u8]>,
    /// Its value; `None` for a tombstone.
    pub value: Option<&'a [u8]>,
    /// Its headers.
    pub headers: Headers<'a>,
    /// What it says, if it is for the log itself.
    pub control: Option<ControlRecord>,
}

/// The sequence number of a record of a batch. After the largest one comes 0 (Kafka:
/// `DefaultRecordBatch.incrementSequence`).
fn sequence_at(header: &BatchHeader, offset_delta: u32) -> i32 {
    if header.base_sequence < 0 {
        return header.base_sequence;
    }
    let sequence = i64::from(header.base_sequence) + i64::from(offset_delta);
    i32::try_from(sequence % (i64::from(i32::MAX) + 1)).unwrap_or(i32::MAX)
}
