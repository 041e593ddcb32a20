//! One partition of `__consumer_offsets`: changes to what groups have committed go in as records
//! and come out again by replay.
//!
//! Knows the records and the log, not who may change what.

use std::path::Path;

use crate::error::{Error, Result};
use crate::group::committed::{Change, Committed};
use crate::group::offset_records::{self, CommittedOffset, OffsetRecord, OffsetRecordError};
use crate::log::config::{Durability, TopicConfig};
use crate::record::Record;
use crate::record::batch::RecordRef;
use crate::record::builder::BatchBuilder;
use crate::time::Timestamp;
use crate::topic::Partition;
use crate::topic::internal_log::{InternalLog, Replayed, Stored};

/// The internal topic of committed offsets, by Kafka's name.
pub(crate) const OFFSETS_TOPIC: &str = "__consumer_offsets";

/// The largest commit, and the size of a segment.
const LEN_MAX: u32 = 16 << 20;

/// Where many changes are written at once, a batch holds about this much.
const BATCH_LEN: usize = 64 << 10;

/// The settings of the internal topic.
///
/// Kafka gives it 50 partitions to spread it over brokers; in one process more than one would only
/// split the sync that commits share. A commit is one batch, and a consumer of ten thousand
/// partitions commits more than the usual 1 MiB. Segments are small because what a rewrite leaves
/// behind is deleted a segment at a time.
pub(crate) fn offsets_topic_config() -> TopicConfig {
    TopicConfig::default()
        .partitions(1)
        .durability(Durability::Fsync)
        .retention_ms(None)
        .max_message_bytes(LEN_MAX)
        .segment_bytes(LEN_MAX)
}

/// One partition of the internal topic. Any thread may call anything; the caller keeps the order of
/// changes that must have one.
#[derive(Debug)]
pub(crate) struct OffsetStore {
    log: InternalLog,
}

impl OffsetStore {
    pub(crate) fn new(partition: Partition) -> Self {
        Self { log: InternalLog::new(partition) }
    }

    pub(crate) fn partition(&self) -> &Partition {
        self.log.partition()
    }

    /// Appends changes as one batch: after a crash all of them are there, or none. Not durable
    /// before [`Self::flush_to`].
    ///
    /// # Errors
    ///
    /// [`Error::RecordTooLarge`] if they do not fit one batch; as
    /// [`append`](crate::log::PartitionLog::append).
    pub(crate) fn append(&self, changes: &[Change], now: Timestamp) -> Result<Stored> {
        let mut builder = BatchBuilder::new();
        for change in changes {
            self.encode(&mut builder, change, now)?;
        }
        self.log.append(&mut builder, now)
    }

    /// Appends changes as as many batches as they need; a crash may leave some of them.
    pub(crate) fn append_all(
        &self,
        changes: impl Iterator<Item = Change>,
        now: Timestamp,
    ) -> Result<u64> {
        let mut bytes = 0;
        let mut builder = BatchBuilder::new();
        for change in changes {
            self.encode(&mut builder, &change, now)?;
            if builder.size() >= BATCH_LEN {
                bytes += self.log.append(&mut builder, now)?.bytes;
                builder.clear();
            }
        }
        if !builder.is_empty() {
            bytes += self.log.append(&mut builder, now)?.bytes;
        }
        Ok(bytes)
    }

    fn encode(&self, builder: &mut BatchBuilder, change: &Change, now: Timestamp) -> Result<()> {
        let refused = |error: &dyn std::fmt::Display| self.partition().invalid(&error.to_string());
        let key = offset_records::encode_key(&change.group, &change.topic_partition);
        let key = key.map_err(|error| refused(&error))?;
        let record = match &change.committed {
            None => return self.log.add(builder, &Record::tombstone(&key), now),
            Some(committed) => offset_records::encode_value(&CommittedOffset {
                offset: committed.offset,
                leader_epoch: committed.leader_epoch,
                metadata: &committed.metadata,
                commit_timestamp: committed.timestamp,
            }),
        };
        let value = record.map_err(|error| refused(&error))?;
        self.log.add(builder, &Record::new(&value).key(&key), now)
    }

    /// Returns once every change below an offset is on disk. One sync serves all who wait.
    pub(crate) fn flush_to(&self, offset: u64) -> Result<()> {
        self.log.flush_to(offset)
    }

    /// Every change below it is durable.
    pub(crate) fn durable_to(&self) -> u64 {
        self.log.durable_to()
    }

    /// Reads all durable changes from an offset on.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] for damage and for records that break their schema,
    /// [`Error::UnsupportedFormat`] for those of a later version: never a change left out.
    pub(crate) fn replay(&self, from: u64, apply: &mut dyn FnMut(Change)) -> Result<Replayed> {
        self.log.replay(from, &mut |record, path| {
            if let Some(change) = self.change(record, path)? {
                apply(change);
            }
            Ok(())
        })
    }

    fn change(&self, record: &RecordRef<'_>, path: &Path) -> Result<Option<Change>> {
        let decoded = offset_records::decode(record.key(), record.value());
        let decoded = decoded.map_err(|error| match error {
            OffsetRecordError::Unsupported(_) => {
                Error::UnsupportedFormat { path: path.to_owned(), reason: error.to_string() }
            }
            _ => self.log.damaged(path, record.offset()..record.offset() + 1, &error),
        })?;
        Ok(match decoded {
            OffsetRecord::Commit { group, topic_partition, committed } => Some(Change {
                group: group.to_owned(),
                topic_partition,
                committed: Some(Committed {
                    offset: committed.offset,
                    leader_epoch: committed.leader_epoch,
                    metadata: committed.metadata.to_owned(),
                    timestamp: committed.commit_timestamp,
                }),
            }),
            OffsetRecord::Tombstone { group, topic_partition } => {
                Some(Change { group: group.to_owned(), topic_partition, committed: None })
            }
            OffsetRecord::GroupMetadata { .. } | OffsetRecord::Skip => None,
        })
    }
}
