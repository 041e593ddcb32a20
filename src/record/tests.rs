//! The format as a whole. Goal: read everything Apache Kafka and its clients write, write what they
//! read, and survive any other bytes. Method: golden batches, Kafka's own verdicts on odd ones,
//! random records through every codec, damaged and arbitrary bytes.

mod edge_cases;
mod golden;
mod hostile;
mod interop;
mod round_trip;

use crate::record::Record;
use crate::record::batch::{BatchError, RecordBatch, RecordRef};
use crate::time::Timestamp;

/// More than any batch of these tests holds.
const LIMIT: usize = 16 << 20;

/// A record with nothing borrowed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct OwnedRecord {
    offset: u64,
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Option<Vec<u8>>)>,
}

impl OwnedRecord {
    fn of(record: &RecordRef<'_>) -> Self {
        let headers = record.headers();
        assert_eq!(headers.len(), headers.clone().count());
        Self {
            offset: record.offset(),
            timestamp: record.timestamp().as_millis(),
            key: record.key().map(<[u8]>::to_vec),
            value: record.value().map(<[u8]>::to_vec),
            headers: headers
                .map(|header| (header.name().to_owned(), header.value().map(<[u8]>::to_vec)))
                .collect(),
        }
    }

    /// The record as a user would build it.
    fn to_record(&self) -> Record<'_> {
        let mut record = Record::without_value();
        record.key = self.key.as_deref();
        record.value = self.value.as_deref();
        for (name, value) in &self.headers {
            record = match value {
                Some(value) => record.header(name, value),
                None => record.null_header(name),
            };
        }
        record
    }

    fn timestamp(&self) -> Timestamp {
        Timestamp::from_millis(self.timestamp)
    }
}

/// Everything that a consumer would do with a batch.
fn read(bytes: &[u8]) -> Result<Vec<OwnedRecord>, BatchError> {
    let batch = RecordBatch::parse(bytes)?;
    batch.verify_checksum()?;
    let mut buffer = Vec::new();
    batch.records(&mut buffer, LIMIT)?.map(|record| Ok(OwnedRecord::of(&record?))).collect()
}
