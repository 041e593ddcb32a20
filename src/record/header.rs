//! The 61 bytes in front of every batch: where each field lies, and what values it may have.

use std::array;

use crate::record::batch_error::BatchError;
use crate::record::compression::Codec;
use crate::time::Timestamp;

const BASE_OFFSET_AT: usize = 0;
const LENGTH_AT: usize = BASE_OFFSET_AT + 8;
const LEADER_EPOCH_AT: usize = LENGTH_AT + 4;
const MAGIC_AT: usize = LEADER_EPOCH_AT + 4;
const CRC_AT: usize = MAGIC_AT + 1;
const ATTRIBUTES_AT: usize = CRC_AT + 4;
const LAST_OFFSET_DELTA_AT: usize = ATTRIBUTES_AT + 2;
const BASE_TIMESTAMP_AT: usize = LAST_OFFSET_DELTA_AT + 4;
const MAX_TIMESTAMP_AT: usize = BASE_TIMESTAMP_AT + 8;
const PRODUCER_ID_AT: usize = MAX_TIMESTAMP_AT + 8;
const PRODUCER_EPOCH_AT: usize = PRODUCER_ID_AT + 8;
const BASE_SEQUENCE_AT: usize = PRODUCER_EPOCH_AT + 2;
const RECORD_COUNT_AT: usize = BASE_SEQUENCE_AT + 4;

/// The size of a batch without records.
pub(crate) const BATCH_OVERHEAD: usize = RECORD_COUNT_AT + 4;

/// The bytes that the batch length does not count: base offset and the length itself.
pub(crate) const LENGTH_PREFIX: usize = LEADER_EPOCH_AT;

/// The first byte the checksum covers; it goes on to the end of the batch.
pub(crate) const CHECKSUM_FROM: usize = ATTRIBUTES_AT;

/// The largest batch whose length field can be written.
pub(crate) const BATCH_BYTES_MAX: usize = i32::MAX as usize;

const MAGIC: u8 = 2;

/// The raw bytes of a header.
pub(crate) type HeaderBytes = [u8; BATCH_OVERHEAD];

/// Which time the records of a topic are stamped with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum TimestampType {
    /// The time the sender gave the record. Records may be out of order in time.
    #[default]
    CreateTime,
    /// The time at which the log took the batch; what the sender gave is replaced.
    LogAppendTime,
}

/// The attribute bits of a batch; only values that are fully understood exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Attributes {
    bits: u16,
    codec: Codec,
}

impl Attributes {
    const CODEC_MASK: u16 = 0b111;
    const LOG_APPEND_TIME: u16 = 1 << 3;
    const TRANSACTIONAL: u16 = 1 << 4;
    const CONTROL: u16 = 1 << 5;
    const DELETE_HORIZON: u16 = 1 << 6;
    const KNOWN: u16 = 0b0111_1111;

    /// Nothing set: uncompressed, with the producers' own timestamps.
    pub(crate) const NONE: Self = Self { bits: 0, codec: Codec::None };

    /// Kafka ignores bits it does not know. They may change what the rest means, so a log that
    /// promises never to misread refuses them (contract, clause 20).
    fn parse(bits: u16) -> Result<Self, BatchError> {
        if bits & !Self::KNOWN != 0 {
            let reason = format!("the batch has attributes {bits:#06x}, of which some are unknown");
            return Err(BatchError::unsupported(reason));
        }
        let id = bits & Self::CODEC_MASK;
        let codec = Codec::from_id(id)
            .ok_or_else(|| BatchError::unsupported(format!("the batch has unknown codec {id}")))?;
        Ok(Self { bits, codec })
    }

    pub(crate) fn codec(self) -> Codec {
        self.codec
    }

    pub(crate) fn timestamp_type(self) -> TimestampType {
        if self.has(Self::LOG_APPEND_TIME) {
            TimestampType::LogAppendTime
        } else {
            TimestampType::CreateTime
        }
    }

    pub(crate) fn is_transactional(self) -> bool {
        self.has(Self::TRANSACTIONAL)
    }

    pub(crate) fn is_control(self) -> bool {
        self.has(Self::CONTROL)
    }

    /// Whether the base timestamp holds the time at which compaction may drop tombstones.
    pub(crate) fn has_delete_horizon(self) -> bool {
        self.has(Self::DELETE_HORIZON)
    }

    fn has(self, bit: u16) -> bool {
        self.bits & bit != 0
    }

    fn with(self, bit: u16, set: bool) -> Self {
        let cleared = self.bits & !bit;
        Self { bits: if set { cleared | bit } else { cleared }, ..self }
    }

    pub(crate) fn with_codec(self, codec: Codec) -> Self {
        Self { bits: self.bits & !Self::CODEC_MASK | codec.id(), codec }
    }

    #[cfg(test)]
    pub(crate) fn with_transactional(self, set: bool) -> Self {
        self.with(Self::TRANSACTIONAL, set)
    }

    #[cfg(test)]
    pub(crate) fn with_control(self, set: bool) -> Self {
        self.with(Self::CONTROL, set)
    }

    pub(crate) fn with_log_append_time(self) -> Self {
        self.with(Self::LOG_APPEND_TIME, true)
    }
}

/// The fields of a header, checked. Length and checksum are not among them: they describe bytes,
/// and belong to whoever holds those.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BatchHeader {
    /// With `last_offset_delta` added it still fits an `i64`.
    pub(crate) base_offset: u64,
    pub(crate) leader_epoch: i32,
    pub(crate) attributes: Attributes,
    /// Fits an `i32`.
    pub(crate) last_offset_delta: u32,
    pub(crate) base_timestamp: i64,
    pub(crate) max_timestamp: Timestamp,
    pub(crate) producer_id: i64,
    pub(crate) producer_epoch: i16,
    pub(crate) base_sequence: i32,
    /// At most `last_offset_delta + 1`.
    pub(crate) record_count: u32,
}

impl BatchHeader {
    /// Reads all fields and checks each by itself and against the others.
    pub(crate) fn parse(bytes: &HeaderBytes) -> Result<Self, BatchError> {
        let [magic] = field::<MAGIC_AT, 1>(bytes);
        if magic != MAGIC {
            let reason = format!("the batch has format version {magic}; only version 2 is known");
            return Err(BatchError::unsupported(reason));
        }
        let header = Self {
            base_offset: natural_u64(
                "base offset",
                i64::from_be_bytes(field::<BASE_OFFSET_AT, 8>(bytes)),
            )?,
            leader_epoch: i32::from_be_bytes(field::<LEADER_EPOCH_AT, 4>(bytes)),
            attributes: Attributes::parse(u16::from_be_bytes(field::<ATTRIBUTES_AT, 2>(bytes)))?,
            last_offset_delta: natural_u32(
                "last offset delta",
                i32::from_be_bytes(field::<LAST_OFFSET_DELTA_AT, 4>(bytes)),
            )?,
            base_timestamp: i64::from_be_bytes(field::<BASE_TIMESTAMP_AT, 8>(bytes)),
            max_timestamp: Timestamp::from_millis(i64::from_be_bytes(
                field::<MAX_TIMESTAMP_AT, 8>(bytes),
            )),
            producer_id: i64::from_be_bytes(field::<PRODUCER_ID_AT, 8>(bytes)),
            producer_epoch: i16::from_be_bytes(field::<PRODUCER_EPOCH_AT, 2>(bytes)),
            base_sequence: i32::from_be_bytes(field::<BASE_SEQUENCE_AT, 4>(bytes)),
            record_count: natural_u32(
                "record count",
                i32::from_be_bytes(field::<RECORD_COUNT_AT, 4>(bytes)),
            )?,
        };
        header.check()?;
        Ok(header)
    }

    /// The first and the last offset. Only what vouches for them is looked at: the magic, and that
    /// there is an offset for each record. `None` if they cannot be right.
    #[inline]
    pub(crate) fn offsets(bytes: &HeaderBytes) -> Option<(u64, u64)> {
        let base_offset = i64::from_be_bytes(field::<BASE_OFFSET_AT, 8>(bytes));
        let delta = i32::from_be_bytes(field::<LAST_OFFSET_DELTA_AT, 4>(bytes));
        let record_count = i32::from_be_bytes(field::<RECORD_COUNT_AT, 4>(bytes));
        let base_offset = u64::try_from(base_offset).ok()?;
        let last_offset = base_offset + u64::from(u32::try_from(delta).ok()?);
        (field::<MAGIC_AT, 1>(bytes) == [MAGIC] && record_count <= delta.saturating_add(1))
            .then_some((base_offset, last_offset))
    }

    fn check(&self) -> Result<(), BatchError> {
        if self.base_timestamp < Timestamp::NONE.as_millis() {
            let reason = format!("the batch has base timestamp {}", self.base_timestamp);
            return Err(BatchError::corrupt(reason));
        }
        if self.record_count > self.last_offset_delta.saturating_add(1) {
            let reason = format!(
                "the batch has {} records and only {} offsets",
                self.record_count,
                u64::from(self.last_offset_delta) + 1
            );
            return Err(BatchError::corrupt(reason));
        }
        // The offset after the last one must be writable too: it is the next batch's.
        let next_offset = self.base_offset + u64::from(self.last_offset_delta) + 1;
        if i64::try_from(next_offset).is_err() {
            let reason = format!("the batch ends at offset {next_offset}, past the largest one");
            return Err(BatchError::corrupt(reason));
        }
        Ok(())
    }

    /// Writes everything but the checksum; that takes [`write_checksum`], once the rest of the
    /// batch is in place.
    ///
    /// # Panics
    ///
    /// If an offset or a count breaks the limits stated at the fields, or `size` those of a batch.
    pub(crate) fn write(&self, bytes: &mut HeaderBytes, size: usize) {
        let length = i32::try_from(size - LENGTH_PREFIX).expect("a batch is smaller than 2 GiB");
        let delta = i32::try_from(self.last_offset_delta).expect("deltas fit an i32");
        let count = i32::try_from(self.record_count).expect("counts fit an i32");
        write_base_offset(bytes, self.base_offset);
        put::<LENGTH_AT, 4>(bytes, length.to_be_bytes());
        write_leader_epoch(bytes, self.leader_epoch);
        put::<MAGIC_AT, 1>(bytes, [MAGIC]);
        put::<ATTRIBUTES_AT, 2>(bytes, self.attributes.bits.to_be_bytes());
        put::<LAST_OFFSET_DELTA_AT, 4>(bytes, delta.to_be_bytes());
        put::<BASE_TIMESTAMP_AT, 8>(bytes, self.base_timestamp.to_be_bytes());
        put::<MAX_TIMESTAMP_AT, 8>(bytes, self.max_timestamp.as_millis().to_be_bytes());
        put::<PRODUCER_ID_AT, 8>(bytes, self.producer_id.to_be_bytes());
        put::<PRODUCER_EPOCH_AT, 2>(bytes, self.producer_epoch.to_be_bytes());
        put::<BASE_SEQUENCE_AT, 4>(bytes, self.base_sequence.to_be_bytes());
        put::<RECORD_COUNT_AT, 4>(bytes, count.to_be_bytes());
    }
}

/// The length field of a batch that begins with `prefix`, unchecked.
pub(crate) fn stored_length(prefix: &[u8; LENGTH_PREFIX]) -> i32 {
    i32::from_be_bytes(array::from_fn(|i| prefix[LENGTH_AT + i]))
}

/// The checksum as it stands in the header.
pub(crate) fn stored_checksum(bytes: &HeaderBytes) -> u32 {
    u32::from_be_bytes(field::<CRC_AT, 4>(bytes))
}

pub(crate) fn write_checksum(bytes: &mut HeaderBytes, checksum: u32) {
    put::<CRC_AT, 4>(bytes, checksum.to_be_bytes());
}

/// # Panics
///
/// If the offset is above `i64::MAX`.
pub(crate) fn write_base_offset(bytes: &mut HeaderBytes, base_offset: u64) {
    let base_offset = i64::try_from(base_offset).expect("offsets stay below 2^63");
    put::<BASE_OFFSET_AT, 8>(bytes, base_offset.to_be_bytes());
}

pub(crate) fn write_leader_epoch(bytes: &mut HeaderBytes, leader_epoch: i32) {
    put::<LEADER_EPOCH_AT, 4>(bytes, leader_epoch.to_be_bytes());
}

/// The `LEN` bytes at `AT`. Where they lie is checked when this is compiled.
#[inline]
fn field<const AT: usize, const LEN: usize>(bytes: &HeaderBytes) -> [u8; LEN] {
    const { assert!(AT + LEN <= BATCH_OVERHEAD) };
    array::from_fn(|i| bytes[AT + i])
}

#[inline]
fn put<const AT: usize, const LEN: usize>(bytes: &mut HeaderBytes, value: [u8; LEN]) {
    const { assert!(AT + LEN <= BATCH_OVERHEAD) };
    bytes[AT..AT + LEN].copy_from_slice(&value);
}

fn natural_u64(name: &str, value: i64) -> Result<u64, BatchError> {
    u64::try_from(value).map_err(|_| BatchError::corrupt(format!("the batch has {name} {value}")))
}

/// Kafka reads a negative last offset delta. Nothing writes one, and a batch that ends before it
/// begins would make offsets run backwards.
fn natural_u32(name: &str, value: i32) -> Result<u32, BatchError> {
    u32::try_from(value).map_err(|_| BatchError::corrupt(format!("the batch has {name} {value}")))
}
