//! Dead letters: a record that is given up is copied to a topic where somebody will look at it, with the
//! reason in its headers. The headers are Kafka's (KIP-1191).

use std::fmt;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::record::batch::{BatchError, RecordBatch, RecordRef};
use crate::record::builder::BatchBuilder;
use crate::record::{Compression, Record};
use crate::share_group::partition::SharePartition;
use crate::share_group::window::StateRange;
use crate::time::Deadline;
use crate::topic::{DECOMPRESSED_MAX, Partition, Topic};

/// The topic that the record was in.
const TOPIC: &str = "__dlq.errors.topic";
/// The number of its partition there.
const PARTITION: &str = "__dlq.errors.partition";
/// Its offset there.
const OFFSET: &str = "__dlq.errors.offset";
/// The group that has given it up.
const GROUP: &str = "__dlq.errors.group";
/// How often it was delivered to that group.
const DELIVERY_COUNT: &str = "__dlq.errors.delivery.count";
/// Why it was given up, for people.
const MESSAGE: &str = "__dlq.errors.message";

/// So much of the source is read at a time: a batch, whatever its size.
const READ_LEN: usize = 1;

/// A batch of dead letters that has reached this size is written.
const BATCH_LEN: usize = 256 << 10;

/// Why a record is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason<'a> {
    /// A worker has rejected it, and said why.
    Rejected(&'a str),
    /// It was delivered as often as a record may be.
    DeliveredTooOften { limit: u16 },
}

impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rejected(why) => f.write_str(why),
            Self::DeliveredTooOften { limit } => {
                write!(f, "not acknowledged in {limit} deliveries")
            }
        }
    }
}

/// Copies records to a dead-letter topic. They are on disk there when this returns, whatever the topic's
/// durability. Records that retention has deleted meanwhile are left out: there is nothing to copy.
///
/// The copy has the key, value and headers of the record, and the time at which it was given up. It goes
/// to the partition of the same number, modulo the number of partitions.
///
/// # Errors
///
/// What reading the one and appending to the other can give. Some of the records may be there then.
pub(crate) fn copy(
    share: &SharePartition,
    records: &[StateRange],
    reason: Reason<'_>,
    to: &Topic,
) -> Result<()> {
    let number = share.topic_partition().partition() % to.partition_count().max(1);
    let to = to.partition(number)?;
    let mut letters = Letters {
        share,
        message: Arc::from(reason.to_string()),
        to: &to,
        builder: BatchBuilder::new(),
        next_offset: None,
    };
    for range in records {
        letters.copy_range(range)?;
    }
    letters.write()?;
    letters.next_offset.map_or(Ok(()), |offset| to.log().flush_to(offset))
}

/// Dead letters on their way.
struct Letters<'a> {
    share: &'a SharePartition,
    message: Arc<str>,
    to: &'a Partition,
    builder: BatchBuilder,
    /// Behind what was appended.
    next_offset: Option<u64>,
}

impl Letters<'_> {
    fn copy_range(&mut self, StateRange { offsets, state }: &StateRange) -> Result<()> {
        let log = self.share.partition().log();
        let mut at = offsets.start.max(self.share.partition().log_start_offset());
        let mut buffer = Vec::new();
        while at < offsets.end {
            let fetched = match log.read(at, None, READ_LEN) {
                Ok(Some(fetched)) => fetched,
                Ok(None) => break,
                // Retention was faster.
                Err(Error::OffsetOutOfRange { log_start_offset, .. }) if log_start_offset > at => {
                    at = log_start_offset;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let mut bytes: &[u8] = &fetched.bytes;
            while !bytes.is_empty() {
                let invalid =
                    |error: BatchError| self.share.partition().invalid(&error.to_string());
                let batch = RecordBatch::parse(bytes).map_err(invalid)?;
                bytes = bytes.get(batch.size()..).unwrap_or_default();
                if batch.attributes().is_control() {
                    continue;
                }
                for record in batch.records(&mut buffer, DECOMPRESSED_MAX).map_err(invalid)? {
                    let record = record.map_err(invalid)?;
                    if offsets.contains(&record.offset()) {
                        self.add(&record, state.delivery_count())?;
                    }
                }
            }
            at = fetched.next_offset;
        }
        Ok(())
    }

    fn add(&mut self, record: &RecordRef<'_>, delivery_count: u16) -> Result<()> {
        let of = self.share.topic_partition();
        let (partition, offset) = (of.partition().to_string(), record.offset().to_string());
        let delivery_count = delivery_count.to_string();
        let message = Arc::clone(&self.message);
        let headers = record.headers().map(|header| (header.name(), header.value()));
        let reasons = [
            (TOPIC, Some(of.topic().as_bytes())),
            (PARTITION, Some(partition.as_bytes())),
            (OFFSET, Some(offset.as_bytes())),
            (GROUP, Some(self.share.group().as_bytes())),
            (DELIVERY_COUNT, Some(delivery_count.as_bytes())),
            (MESSAGE, Some(message.as_bytes())),
        ];
        let letter = Record::from_parts(record.key(), record.value(), headers.chain(reasons));
        let now = self.to.topic().environment().clock.now();
        let max = usize::try_from(self.to.topic().shared_config().max_message_bytes);
        let max = max.unwrap_or(usize::MAX).min(BATCH_LEN);
        if !self.builder.is_empty()
            && self.builder.size().saturating_add(self.builder.size_of_next(&letter, now)) > max
        {
            self.write()?;
        }
        let added = self.builder.append(&letter, now);
        added.map(drop).map_err(|error| self.to.invalid(&error.to_string()))
    }

    fn write(&mut self) -> Result<()> {
        if self.builder.is_empty() {
            return Ok(());
        }
        let now = self.to.topic().environment().clock.now();
        let compression = self.to.topic().shared_config().compression;
        let sealed = self.builder.seal(compression.unwrap_or(Compression::None));
        sealed.map_err(|error| self.to.invalid(&error.to_string()))?;
        let count = usize::try_from(self.builder.record_count()).unwrap_or(usize::MAX);
        // In a capped topic that is full this does not wait: the record stays where it is for now.
        let room = Some(Deadline::after(std::time::Duration::ZERO));
        let appended = self.to.append_sealed(self.builder.sealed(), count, now, room)?;
        self.builder.clear();
        self.share.count_dead_letters(count as u64);
        self.next_offset = Some(appended.next_offset);
        Ok(())
    }
}
