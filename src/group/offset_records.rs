//! Committed offsets as records of `__consumer_offsets`, in Kafka's schemas: the bytes of their keys
//! and values, and which partition a group's records are in.
//!
//! Written are key version 1 and value version 3, as by Kafka 4; read is every version there is. Such
//! a topic may also come from a broker, which keeps other things there under other key versions:
//! those are skipped. Sources: `OffsetCommitKey.json`, `OffsetCommitValue.json` and
//! `GroupMetadataKey.json` of Kafka's group coordinator.

#[cfg(test)]
mod tests;

use crate::time::Timestamp;
use crate::topic_partition::{TopicPartition, check_topic_name};

/// The longest metadata a commit may carry, in bytes (Kafka's `offset.metadata.max.bytes`).
pub(crate) const METADATA_BYTES_MAX: usize = 4096;

/// The longest string that the schemas can hold, in bytes: its length is an i16.
const STRING_BYTES_MAX: usize = i16::MAX.unsigned_abs() as usize;

const OFFSET_COMMIT_KEY_VERSION: i16 = 1;
const GROUP_METADATA_KEY_VERSION: i16 = 2;
const OFFSET_COMMIT_VALUE_VERSION: i16 = 3;

/// What a group has committed for a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CommittedOffset<'a> {
    /// The next offset to read.
    pub(crate) offset: u64,
    /// The leader epoch of the last record read, where the committer knew it.
    pub(crate) leader_epoch: Option<u32>,
    /// Whatever the committer wanted to remember; at most [`METADATA_BYTES_MAX`] bytes.
    pub(crate) metadata: &'a str,
    pub(crate) commit_timestamp: Timestamp,
}

/// A record of `__consumer_offsets`, as far as it is about offsets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum OffsetRecord<'a> {
    /// The group has committed an offset.
    Commit { group: &'a str, topic_partition: TopicPartition, committed: CommittedOffset<'a> },
    /// What the group had committed for this partition is forgotten.
    Tombstone { group: &'a str, topic_partition: TopicPartition },
    /// The members and generation of a group, or with a null value that it is gone. The offsets of
    /// a group do not depend on it.
    GroupMetadata { group: &'a str },
    /// Something that newer groups of Kafka keep here.
    Skip,
}

/// Why a record cannot be written or read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OffsetRecordError {
    #[error("the {what} has {len} bytes, and at most {max} are allowed")]
    TooLong { what: &'static str, len: usize, max: usize },
    #[error("{what} {value} is more than Kafka's format can hold")]
    TooLarge { what: &'static str, value: u64 },
    /// A committed offset in a version of its schema that is not known here.
    #[error("a committed offset is of version {0}; this build reads versions 0 to 4")]
    Unsupported(i16),
    /// The bytes do not follow the schema that they say they follow.
    #[error("a record of committed offsets is malformed: {0}")]
    Malformed(&'static str),
}

/// The partition of `__consumer_offsets` that holds a group's records, out of at least one
/// (Kafka's `GroupCoordinatorService.partitionFor`).
pub(crate) fn partition_for(group: &str, partitions: u32) -> u32 {
    // Java's String.hashCode: over UTF-16 code units, wrapping. Kafka takes the absolute value, and
    // 0 for the one number that has none.
    let hash = group
        .encode_utf16()
        .fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    hash.checked_abs().unwrap_or(0).unsigned_abs() % partitions.max(1)
}

/// The key of the records that say what a group has committed for a partition.
pub(crate) fn encode_key(
    group: &str,
    topic_partition: &TopicPartition,
) -> Result<Vec<u8>, OffsetRecordError> {
    let partition = topic_partition.partition();
    let partition_on_disk = i32::try_from(partition).map_err(|_| OffsetRecordError::TooLarge {
        what: "partition",
        value: u64::from(partition),
    })?;
    let mut key = OFFSET_COMMIT_KEY_VERSION.to_be_bytes().to_vec();
    put_string(&mut key, "group id", group)?;
    put_string(&mut key, "topic name", topic_partition.topic())?;
    key.extend(partition_on_disk.to_be_bytes());
    Ok(key)
}

/// The value of a record that says what a group has committed. (A null value is a tombstone.)
pub(crate) fn encode_value(committed: &CommittedOffset<'_>) -> Result<Vec<u8>, OffsetRecordError> {
    let too_large = |what, value| OffsetRecordError::TooLarge { what, value };
    let offset =
        i64::try_from(committed.offset).map_err(|_| too_large("offset", committed.offset))?;
    let leader_epoch = committed.leader_epoch.map_or(Ok(-1), |epoch| {
        i32::try_from(epoch).map_err(|_| too_large("leader epoch", u64::from(epoch)))
    })?;
    check_len("metadata", committed.metadata, METADATA_BYTES_MAX)?;
    let mut value = OFFSET_COMMIT_VALUE_VERSION.to_be_bytes().to_vec();
    value.extend(offset.to_be_bytes());
    value.extend(leader_epoch.to_be_bytes());
    put_string(&mut value, "metadata", committed.metadata)?;
    value.extend(committed.commit_timestamp.as_millis().to_be_bytes());
    Ok(value)
}

/// Reads a record's key and value.
pub(crate) fn decode<'a>(
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
) -> Result<OffsetRecord<'a>, OffsetRecordError> {
    let mut fields = Fields(key.ok_or(OffsetRecordError::Malformed("it has no key"))?);
    match fields.i16()? {
        0 | OFFSET_COMMIT_KEY_VERSION => {
            let (group, topic_partition) = decode_commit_key(fields)?;
            Ok(match value {
                Some(value) => {
                    let committed = decode_value(value)?;
                    OffsetRecord::Commit { group, topic_partition, committed }
                }
                None => OffsetRecord::Tombstone { group, topic_partition },
            })
        }
        GROUP_METADATA_KEY_VERSION => {
            let group = fields.string()?;
            fields.end()?;
            Ok(OffsetRecord::GroupMetadata { group })
        }
        _ => Ok(OffsetRecord::Skip),
    }
}

fn decode_commit_key(mut fields: Fields<'_>) -> Result<(&str, TopicPartition), OffsetRecordError> {
    let group = fields.string()?;
    let topic = fields.string()?;
    let partition = u32::try_from(fields.i32()?)
        .map_err(|_| OffsetRecordError::Malformed("the partition is negative"))?;
    fields.end()?;
    check_topic_name(topic)
        .map_err(|_| OffsetRecordError::Malformed("the topic's name is not allowed"))?;
    Ok((group, TopicPartition::new(topic, partition)))
}

fn decode_value(value: &[u8]) -> Result<CommittedOffset<'_>, OffsetRecordError> {
    let mut fields = Fields(value);
    let version = fields.i16()?;
    if !(0..=4).contains(&version) {
        return Err(OffsetRecordError::Unsupported(version));
    }
    let offset = u64::try_from(fields.i64()?)
        .map_err(|_| OffsetRecordError::Malformed("the offset is negative"))?;
    // Unknown is -1.
    let leader_epoch = if version >= 3 { u32::try_from(fields.i32()?).ok() } else { None };
    let metadata = if version >= 4 { fields.compact_string()? } else { fields.string()? };
    let commit_timestamp = Timestamp::from_millis(fields.i64()?);
    if version == 1 {
        // When the offset was to be forgotten. Kafka has long ceased to write it.
        fields.i64()?;
    }
    if version >= 4 {
        fields.skip_tagged_fields()?;
    }
    fields.end()?;
    Ok(CommittedOffset { offset, leader_epoch, metadata, commit_timestamp })
}

fn check_len(what: &'static str, text: &str, max: usize) -> Result<(), OffsetRecordError> {
    let len = text.len();
    if len > max { Err(OffsetRecordError::TooLong { what, len, max }) } else { Ok(()) }
}

fn put_string(
    bytes: &mut Vec<u8>,
    what: &'static str,
    text: &str,
) -> Result<(), OffsetRecordError> {
    check_len(what, text, STRING_BYTES_MAX)?;
    let len = i16::try_from(text.len()).expect("just checked");
    bytes.extend(len.to_be_bytes());
    bytes.extend(text.as_bytes());
    Ok(())
}

/// The fields of a key or value that are still to be read.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    const CUT_SHORT: OffsetRecordError = OffsetRecordError::Malformed("it is cut short");

    fn take<const N: usize>(&mut self) -> Result<[u8; N], OffsetRecordError> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or(Self::CUT_SHORT)?;
        self.0 = rest;
        Ok(*bytes)
    }

    fn i16(&mut self) -> Result<i16, OffsetRecordError> {
        self.take().map(i16::from_be_bytes)
    }

    fn i32(&mut self) -> Result<i32, OffsetRecordError> {
        self.take().map(i32::from_be_bytes)
    }

    fn i64(&mut self) -> Result<i64, OffsetRecordError> {
        self.take().map(i64::from_be_bytes)
    }

    /// Kafka's unsigned varint: seven bits a byte, the low ones first, 32 in all.
    fn unsigned_varint(&mut self) -> Result<u32, OffsetRecordError> {
        let mut number: u64 = 0;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.take()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return u32::try_from(number)
                    .map_err(|_| OffsetRecordError::Malformed("a number is too large"));
            }
        }
        Err(OffsetRecordError::Malformed("a number is too long"))
    }

    /// A string behind its length of 16 bits.
    fn string(&mut self) -> Result<&'a str, OffsetRecordError> {
        let len = usize::try_from(self.i16()?)
            .map_err(|_| OffsetRecordError::Malformed("a string is null"))?;
        self.text(len)
    }

    /// A string behind its length plus one, 0 standing for null.
    fn compact_string(&mut self) -> Result<&'a str, OffsetRecordError> {
        let len = self
            .length()?
            .checked_sub(1)
            .ok_or(OffsetRecordError::Malformed("a string is null"))?;
        self.text(len)
    }

    fn length(&mut self) -> Result<usize, OffsetRecordError> {
        // A length that no pointer can address is cut short for certain.
        self.unsigned_varint().and_then(|len| usize::try_from(len).map_err(|_| Self::CUT_SHORT))
    }

    fn bytes(&mut self, len: usize) -> Result<&'a [u8], OffsetRecordError> {
        let (bytes, rest) = self.0.split_at_checked(len).ok_or(Self::CUT_SHORT)?;
        self.0 = rest;
        Ok(bytes)
    }

    fn text(&mut self, len: usize) -> Result<&'a str, OffsetRecordError> {
        str::from_utf8(self.bytes(len)?)
            .map_err(|_| OffsetRecordError::Malformed("a string is not UTF-8"))
    }

    /// Fields that a later release may add without a new version; none of them matters here.
    fn skip_tagged_fields(&mut self) -> Result<(), OffsetRecordError> {
        for _ in 0..self.unsigned_varint()? {
            let _tag = self.unsigned_varint()?;
            let len = self.length()?;
            self.bytes(len)?;
        }
        Ok(())
    }

    fn end(&self) -> Result<(), OffsetRecordError> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(OffsetRecordError::Malformed("bytes are left over"))
        }
    }
}
