//! What share groups know as records of `__share_group_state`, in Kafka's schemas: the bytes of their keys
//! and values.
//!
//! A *snapshot* says everything about one partition of one group; an *update* says what has changed since.
//! Their keys differ in the version alone. Sources: `ShareSnapshotKey.json`, `ShareSnapshotValue.json`,
//! `ShareUpdateKey.json` and `ShareUpdateValue.json` of Kafka's share coordinator (4.1 and later). Epochs
//! are of no use in one process and are written as 0.

use std::ops::Range;
use std::time::Duration;

use crate::share_group::state::DeliveryState;
use crate::time::Timestamp;
use crate::topic::topic_id::TopicId;

#[cfg(test)]
mod tests;

/// The version of a key is the type of its record.
const SNAPSHOT_KEY: i16 = 0;
const UPDATE_KEY: i16 = 1;

const VALUE_VERSION: i16 = 0;

/// Kafka's numbers for states. What is acquired is stored as available: see [`DeliveryState::stored`].
const AVAILABLE: i8 = 0;
const ACKNOWLEDGED: i8 = 2;
const ARCHIVED: i8 = 4;

/// An update that leaves the start as it is.
const SAME_START: i64 = -1;

/// One partition of one group: what a record is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ShareKey {
    pub(crate) group: String,
    pub(crate) topic_id: TopicId,
    pub(crate) partition: u32,
}

/// Which of the two records about a key it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ShareRecordKind {
    Snapshot,
    Update,
}

/// The states that a record tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ShareStates {
    /// Everything below it is done. `None` in an update that does not say.
    pub(crate) start: Option<u64>,
    pub(crate) batches: Vec<(Range<u64>, DeliveryState)>,
}

/// A record of the state topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ShareRecord {
    Snapshot(ShareKey, ShareStates),
    Update(ShareKey, ShareStates),
    /// The group has nothing to do with the partition any more.
    Tombstone(ShareKey),
    /// Something that a newer Kafka keeps here.
    Skip,
}

/// Why a record cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ShareRecordError {
    #[error("a state of a share group is of version {0}; this build reads version 0")]
    Unsupported(i16),
    /// The bytes do not follow the schema that they say they follow.
    #[error("a record of share group state is malformed: {0}")]
    Malformed(&'static str),
}

use ShareRecordError::Malformed;

impl ShareKey {
    /// The key of the records of one kind. The group's name is at most 249 bytes and the partition exists,
    /// so both fit.
    pub(crate) fn encode(&self, kind: ShareRecordKind) -> Vec<u8> {
        let version = match kind {
            ShareRecordKind::Snapshot => SNAPSHOT_KEY,
            ShareRecordKind::Update => UPDATE_KEY,
        };
        let mut key = version.to_be_bytes().to_vec();
        let len = i16::try_from(self.group.len()).expect("names of groups are checked");
        key.extend(len.to_be_bytes());
        key.extend(self.group.as_bytes());
        key.extend(self.topic_id.to_bytes());
        key.extend(self.partition.to_be_bytes());
        key
    }
}

/// Writes the value of an update. `value` is overwritten.
pub(crate) fn encode_update(
    value: &mut Vec<u8>,
    start: u64,
    batches: impl ExactSizeIterator<Item = (Range<u64>, DeliveryState)>,
) {
    value.clear();
    value.extend(VALUE_VERSION.to_be_bytes());
    value.extend([0; 8]); // snapshot epoch, leader epoch
    value.extend(stored_offset(start).to_be_bytes());
    put_batches(value, batches);
    value.push(0); // no tagged fields
}

/// Writes the value of a snapshot. `value` is overwritten.
pub(crate) fn encode_snapshot(
    value: &mut Vec<u8>,
    start: u64,
    batches: impl ExactSizeIterator<Item = (Range<u64>, DeliveryState)>,
    now: Timestamp,
) {
    value.clear();
    value.extend(VALUE_VERSION.to_be_bytes());
    value.extend([0; 12]); // snapshot epoch, state epoch, leader epoch
    value.extend(stored_offset(start).to_be_bytes());
    value.extend(now.as_millis().to_be_bytes()); // created
    value.extend(now.as_millis().to_be_bytes()); // written
    put_batches(value, batches);
    value.push(0);
}

fn put_batches(
    value: &mut Vec<u8>,
    batches: impl ExactSizeIterator<Item = (Range<u64>, DeliveryState)>,
) {
    let len = u32::try_from(batches.len()).unwrap_or(u32::MAX);
    put_unsigned_varint(value, len.saturating_add(1));
    for (offsets, state) in batches {
        let number = match state {
            DeliveryState::Available { .. } | DeliveryState::Acquired { .. } => AVAILABLE,
            DeliveryState::Acknowledged => ACKNOWLEDGED,
            DeliveryState::Archived => ARCHIVED,
        };
        let count = i16::try_from(state.delivery_count()).unwrap_or(i16::MAX);
        value.extend(stored_offset(offsets.start).to_be_bytes());
        value.extend(stored_offset(offsets.end.saturating_sub(1)).to_be_bytes());
        value.extend(number.to_be_bytes());
        value.extend(count.to_be_bytes());
        value.push(0);
    }
}

/// Offsets of a log are below `i64::MAX`.
fn stored_offset(offset: u64) -> i64 {
    i64::try_from(offset).unwrap_or(i64::MAX)
}

/// Kafka's unsigned varint: seven bits a byte, the low ones first.
fn put_unsigned_varint(bytes: &mut Vec<u8>, mut number: u32) {
    while number >= 0x80 {
        bytes.push(number.to_be_bytes()[3] | 0x80);
        number >>= 7;
    }
    bytes.push(number.to_be_bytes()[3]);
}

/// Reads a record's key and value.
pub(crate) fn decode(
    key: Option<&[u8]>,
    value: Option<&[u8]>,
) -> Result<ShareRecord, ShareRecordError> {
    let mut fields = Fields(key.ok_or(Malformed("it has no key"))?);
    let version = fields.i16()?;
    if version != SNAPSHOT_KEY && version != UPDATE_KEY {
        return Ok(ShareRecord::Skip);
    }
    let key = decode_key(fields)?;
    let Some(value) = value else { return Ok(ShareRecord::Tombstone(key)) };
    let mut fields = Fields(value);
    match fields.i16()? {
        VALUE_VERSION => {}
        version => return Err(ShareRecordError::Unsupported(version)),
    }
    if version == UPDATE_KEY {
        let (_snapshot_epoch, _leader_epoch) = (fields.i32()?, fields.i32()?);
        let start = fields.i64()?;
        let start = if start == SAME_START { None } else { Some(offset(start)?) };
        let batches = fields.batches()?;
        fields.skip_tagged_fields()?;
        fields.end()?;
        return Ok(ShareRecord::Update(key, ShareStates { start, batches }));
    }
    let (_snapshot_epoch, _state_epoch, _leader_epoch) =
        (fields.i32()?, fields.i32()?, fields.i32()?);
    let start = Some(offset(fields.i64()?)?);
    let (_created, _written) = (fields.i64()?, fields.i64()?);
    let batches = fields.batches()?;
    fields.skip_tagged_fields()?;
    fields.end()?;
    Ok(ShareRecord::Snapshot(key, ShareStates { start, batches }))
}

fn decode_key(mut fields: Fields<'_>) -> Result<ShareKey, ShareRecordError> {
    let len = usize::try_from(fields.i16()?).map_err(|_| Malformed("the group is null"))?;
    let group = str::from_utf8(fields.bytes(len)?)
        .map_err(|_| Malformed("the group is not UTF-8"))?
        .to_owned();
    let topic_id = TopicId::from_bytes(fields.take()?);
    let partition =
        u32::try_from(fields.i32()?).map_err(|_| Malformed("the partition is negative"))?;
    fields.end()?;
    Ok(ShareKey { group, topic_id, partition })
}

fn offset(stored: i64) -> Result<u64, ShareRecordError> {
    u64::try_from(stored).map_err(|_| Malformed("an offset is negative"))
}

/// The fields of a key or value that are still to be read.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    const CUT_SHORT: ShareRecordError = Malformed("it is cut short");

    /// A batch takes at least this much, so that a length that lies takes no memory.
    const BATCH_LEN: usize = 8 + 8 + 1 + 2 + 1;

    fn take<const N: usize>(&mut self) -> Result<[u8; N], ShareRecordError> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or(Self::CUT_SHORT)?;
        self.0 = rest;
        Ok(*bytes)
    }

    fn i8(&mut self) -> Result<i8, ShareRecordError> {
        self.take().map(i8::from_be_bytes)
    }

    fn i16(&mut self) -> Result<i16, ShareRecordError> {
        self.take().map(i16::from_be_bytes)
    }

    fn i32(&mut self) -> Result<i32, ShareRecordError> {
        self.take().map(i32::from_be_bytes)
    }

    fn i64(&mut self) -> Result<i64, ShareRecordError> {
        self.take().map(i64::from_be_bytes)
    }

    fn bytes(&mut self, len: usize) -> Result<&'a [u8], ShareRecordError> {
        let (bytes, rest) = self.0.split_at_checked(len).ok_or(Self::CUT_SHORT)?;
        self.0 = rest;
        Ok(bytes)
    }

    fn unsigned_varint(&mut self) -> Result<usize, ShareRecordError> {
        let mut number: u64 = 0;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.take()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return usize::try_from(number).map_err(|_| Malformed("a number is too large"));
            }
        }
        Err(Malformed("a number is too long"))
    }

    fn batches(&mut self) -> Result<Vec<(Range<u64>, DeliveryState)>, ShareRecordError> {
        let count = self.unsigned_varint()?.checked_sub(1);
        let count = count.ok_or(Malformed("the batches are null"))?;
        if count > self.0.len() / Self::BATCH_LEN {
            return Err(Self::CUT_SHORT);
        }
        (0..count).map(|_| self.batch()).collect()
    }

    fn batch(&mut self) -> Result<(Range<u64>, DeliveryState), ShareRecordError> {
        let (first, last) = (offset(self.i64()?)?, offset(self.i64()?)?);
        let (number, count) = (self.i8()?, self.i16()?);
        self.skip_tagged_fields()?;
        if last < first {
            return Err(Malformed("a batch ends before it begins"));
        }
        let state = match number {
            AVAILABLE => DeliveryState::Available {
                delivery_count: u16::try_from(count)
                    .map_err(|_| Malformed("a delivery count is negative"))?,
                not_before: Duration::ZERO,
            },
            ACKNOWLEDGED => DeliveryState::Acknowledged,
            ARCHIVED => DeliveryState::Archived,
            _ => return Err(Malformed("there is no such delivery state")),
        };
        Ok((first..last + 1, state))
    }

    /// Fields that a later release may add without a new version; none of them matters here.
    fn skip_tagged_fields(&mut self) -> Result<(), ShareRecordError> {
        for _ in 0..self.unsigned_varint()? {
            let _tag = self.unsigned_varint()?;
            let len = self.unsigned_varint()?;
            self.bytes(len)?;
        }
        Ok(())
    }

    fn end(&self) -> Result<(), ShareRecordError> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed("bytes are left over")) }
    }
}
