//! Control records, which end a transaction: consumers pass over them, and dumps show them. Sapwood
//! has no transactions of its own yet, so it is tests alone that write some.

use crate::record::batch::{BatchError, RecordRef};

const ABORT: i16 = 0;
const COMMIT: i16 = 1;

/// How a transaction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransactionResult {
    /// Its records count.
    Commit,
    /// Its records are to be skipped.
    Abort,
}

/// What a record of a control batch says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ControlRecord {
    /// The open transaction of the batch's producer ends here.
    EndTransaction {
        /// How.
        result: TransactionResult,
        /// The epoch of the coordinator that decided it.
        coordinator_epoch: i32,
    },
    /// A record of this type, which concerns Kafka's own metadata or is not known; it is skipped.
    Other(i16),
}

impl ControlRecord {
    /// Reads a record of a control batch. Bytes beyond the known fields are ignored, and so are
    /// versions above 0, which only add such bytes.
    pub(crate) fn parse(record: &RecordRef<'_>) -> Result<Self, BatchError> {
        let key = record.key().unwrap_or_default();
        let (_, record_type) = split_version(key).ok_or_else(|| damaged("key"))?;
        let record_type = record_type.first_chunk().ok_or_else(|| damaged("key"))?;
        let result = match i16::from_be_bytes(*record_type) {
            ABORT => TransactionResult::Abort,
            COMMIT => TransactionResult::Commit,
            other => return Ok(Self::Other(other)),
        };
        let value = record.value().unwrap_or_default();
        let (_, epoch) = split_version(value).ok_or_else(|| damaged("value"))?;
        let epoch = epoch.first_chunk().ok_or_else(|| damaged("value"))?;
        Ok(Self::EndTransaction { result, coordinator_epoch: i32::from_be_bytes(*epoch) })
    }
}

/// Splits the version off; `None` if it is missing or negative.
fn split_version(bytes: &[u8]) -> Option<(u16, &[u8])> {
    let (&version, rest) = bytes.split_first_chunk()?;
    Some((u16::try_from(i16::from_be_bytes(version)).ok()?, rest))
}

#[cold]
fn damaged(part: &str) -> BatchError {
    BatchError::corrupt(format!("a control record has a damaged {part}"))
}

#[cfg(test)]
pub(crate) use self::writing::EndTransactionMarker;

#[cfg(test)]
mod writing {
    use super::{ABORT, COMMIT, TransactionResult};
    use crate::record::Record;
    use crate::record::batch::BatchError;
    use crate::record::builder::BatchBuilder;
    use crate::record::compression::Compression;
    use crate::time::Timestamp;

    /// The size of the batch that holds a marker.
    pub(crate) const MARKER_BATCH_BYTES: usize = 78;

    const VERSION: [u8; 2] = [0; 2];

    /// The record that ends a producer's transaction in a partition.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) struct EndTransactionMarker {
        pub(crate) result: TransactionResult,
        pub(crate) producer_id: i64,
        pub(crate) producer_epoch: i16,
        pub(crate) coordinator_epoch: i32,
    }

    impl EndTransactionMarker {
        /// The sealed batch that holds the marker, at base offset 0.
        pub(crate) fn batch(
            &self,
            timestamp: Timestamp,
        ) -> Result<[u8; MARKER_BATCH_BYTES], BatchError> {
            let record_type = match self.result {
                TransactionResult::Abort => ABORT,
                TransactionResult::Commit => COMMIT,
            };
            let key = [VERSION, record_type.to_be_bytes()].concat();
            let value = [&VERSION[..], &self.coordinator_epoch.to_be_bytes()].concat();
            let mut builder = BatchBuilder::with_capacity(MARKER_BATCH_BYTES);
            builder.set_producer(self.producer_id, self.producer_epoch, -1);
            builder.set_transactional(true);
            builder.set_control(true);
            builder.append(&Record::new(&value).key(&key), timestamp)?;
            builder.seal(Compression::None)?;
            let batch = builder.sealed();
            Ok(*batch.bytes().first_chunk().expect("a marker has but fields of fixed size"))
        }
    }
}
