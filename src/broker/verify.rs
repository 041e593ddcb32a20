//! Walking everything: every batch of every partition, checksums, codecs and records.

use crate::broker::Broker;
use crate::error::{Corruption, Error, Result};
use crate::log::read::ReadCursor;
use crate::record::batch::{BatchError, RecordBatch};
use crate::topic::{DECOMPRESSED_MAX, Partition, Topic};
use crate::topic_partition::TopicPartition;

/// How much is read at a time.
const READ_LEN: usize = 4 << 20;

/// The outcome of [`Broker::verify`](crate::Broker::verify).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct VerifyReport {
    /// Every partition of every topic, internal ones included.
    pub partitions: Vec<PartitionVerification>,
}

impl VerifyReport {
    /// Whether no damage was found.
    pub fn is_intact(&self) -> bool {
        self.partitions.iter().all(|partition| partition.damage.is_none())
    }

    /// The partitions that are damaged.
    ///
    /// ```
    /// # let broker = sapwood::Broker::in_memory()?;
    /// for damage in broker.verify()?.damaged().filter_map(|partition| partition.damage.as_ref()) {
    ///     eprintln!("{damage}");
    /// }
    /// # assert_eq!(broker.verify()?.damaged().count(), 0);
    /// # Ok::<(), sapwood::Error>(())
    /// ```
    pub fn damaged(&self) -> impl Iterator<Item = &PartitionVerification> {
        self.partitions.iter().filter(|partition| partition.damage.is_some())
    }

    /// Records that were read and found right.
    pub fn records(&self) -> u64 {
        self.partitions.iter().map(|partition| partition.records).sum()
    }
}

/// What was found in one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartitionVerification {
    /// The partition.
    pub topic_partition: TopicPartition,
    /// Batches that are right.
    pub batches: u64,
    /// Records in them.
    pub records: u64,
    /// Bytes of them, as stored.
    pub bytes: u64,
    /// The first damage. What lies behind it in the same partition was not looked at.
    pub damage: Option<Corruption>,
}

pub(super) fn verify(broker: &Broker) -> Result<VerifyReport> {
    let mut report = VerifyReport::default();
    for partition in broker.manager().topics().iter().flat_map(Topic::partitions) {
        let verified = verify_partition(&partition);
        broker.check_open()?;
        // What is found, or not found, in a topic that was deleted meanwhile says nothing.
        if !partition.log().is_closed() {
            report.partitions.push(verified?);
        }
    }
    Ok(report)
}

fn verify_partition(partition: &Partition) -> Result<PartitionVerification> {
    let mut verified = PartitionVerification {
        topic_partition: partition.topic_partition().clone(),
        batches: 0,
        records: 0,
        bytes: 0,
        damage: None,
    };
    match walk(partition, &mut verified) {
        Ok(()) => {}
        Err(Error::Corrupt(damage)) => verified.damage = Some(*damage),
        Err(error) => return Err(error),
    }
    Ok(verified)
}

fn walk(partition: &Partition, verified: &mut PartitionVerification) -> Result<()> {
    let mut offset = partition.log_start_offset();
    let mut cursor: Option<ReadCursor> = None;
    let mut buffer = Vec::new();
    let mut read_len = READ_LEN;
    loop {
        let fetched = match partition.log().read(offset, cursor.as_ref(), read_len) {
            Ok(Some(fetched)) => fetched,
            Ok(None) => return Ok(()),
            // Retention has passed by.
            Err(Error::OffsetOutOfRange { log_start_offset, .. }) if log_start_offset > offset => {
                (offset, cursor) = (log_start_offset, None);
                continue;
            }
            // A read that meets damage gives nothing of what lies before it: from here on batch by
            // batch, which any length too small for two of them asks for.
            Err(Error::Corrupt(_)) if read_len == READ_LEN => {
                read_len = 1;
                continue;
            }
            Err(error) => return Err(error),
        };
        let mut bytes: &[u8] = &fetched.bytes;
        while !bytes.is_empty() {
            let batch = check(bytes, &mut buffer, verified)
                .map_err(|error| damaged(partition, &fetched.cursor, offset, &error))?;
            offset = batch.next_offset();
            bytes = bytes.get(batch.size()..).unwrap_or_default();
        }
        offset = fetched.next_offset;
        cursor = Some(fetched.cursor);
    }
}

/// Checks the first batch and its records.
fn check<'a>(
    bytes: &'a [u8],
    buffer: &mut Vec<u8>,
    verified: &mut PartitionVerification,
) -> Result<RecordBatch<'a>, BatchError> {
    let batch = RecordBatch::parse(bytes)?;
    for record in batch.records(buffer, DECOMPRESSED_MAX)? {
        record?;
    }
    verified.batches += 1;
    verified.records += u64::from(batch.record_count());
    verified.bytes += batch.size() as u64;
    Ok(batch)
}

fn damaged(partition: &Partition, cursor: &ReadCursor, offset: u64, error: &BatchError) -> Error {
    let mut damage = Corruption::of_file(cursor.path(), error.to_string());
    damage.topic_partition = Some(partition.topic_partition().clone());
    damage.offsets = offset..partition.high_watermark();
    damage.into()
}
