//! A segment with everything that is ever written, for Kafka's own clients to read.
//!
//! The test reads it back itself. With `SAPWOOD_INTEROP_DIR` set, it leaves the segment and what is
//! to be found in it (`expected.jsonl`) in that directory, for `tests/interop/run.sh` to show them
//! to kafka-python and aiokafka.

use std::env;
use std::fs;
use std::path::Path;

use serde_json::json;

use super::round_trip::{COMPRESSIONS, append_all};
use super::{LIMIT, OwnedRecord};
use crate::record::batch::{RecordBatch, check_batches};
use crate::record::builder::{BatchBuilder, SealedBatch, empty_batch};
use crate::record::compression::Compression;
use crate::record::control::{EndTransactionMarker, TransactionResult};
use crate::time::Timestamp;

const T0: i64 = 1_700_000_000_000;

/// A segment under construction, and the data records in it.
#[derive(Default)]
struct Segment {
    bytes: Vec<u8>,
    next_offset: u64,
    expected: Vec<OwnedRecord>,
}

impl Segment {
    fn push(&mut self, mut batch: SealedBatch<'_>) {
        batch.assign(self.next_offset, 0);
        self.next_offset = batch.batch().next_offset();
        self.bytes.extend_from_slice(batch.bytes());
    }

    fn append(&mut self, records: &[OwnedRecord], builder: &mut BatchBuilder, codec: Compression) {
        append_all(builder, records);
        builder.seal(codec).unwrap();
        self.expected.extend(
            records
                .iter()
                .cloned()
                .zip(self.next_offset..)
                .map(|(record, offset)| OwnedRecord { offset, ..record }),
        );
        self.push(builder.sealed());
    }
}

/// Every kind of null and empty, long and multi-byte fields, timestamps that run backwards, and
/// enough bytes for several blocks of LZ4.
fn records() -> Vec<OwnedRecord> {
    let plain = OwnedRecord { timestamp: T0, ..OwnedRecord::default() };
    let bytes = |length: usize| Some(b"all is in flux ".repeat(length));
    let header = |name: &str, value: Option<&[u8]>| (name.to_owned(), value.map(<[u8]>::to_vec));
    vec![
        OwnedRecord { value: bytes(1), ..plain.clone() },
        OwnedRecord { key: bytes(0), value: bytes(0), timestamp: T0 - 5, ..plain.clone() },
        OwnedRecord { key: bytes(9), value: None, timestamp: T0 + 70_000, ..plain.clone() },
        OwnedRecord { value: bytes(20_000), ..plain.clone() },
        OwnedRecord {
            value: Some((0..=255).collect()),
            headers: vec![
                header("trace", Some(&[0, 1, 255])),
                header("trace", None),
                header("", Some(b"")),
                header("größe", Some("大".as_bytes())),
            ],
            ..plain
        },
    ]
}

fn segment() -> Segment {
    let mut segment = Segment::default();
    let mut builder = BatchBuilder::new();
    for codec in COMPRESSIONS {
        builder.clear();
        segment.append(&records(), &mut builder, codec);
        builder.clear();
        builder.set_producer(1 << 62, 0, i32::MAX - 1);
        segment.append(&records(), &mut builder, codec);
    }
    builder.clear();
    builder.set_producer(1 << 62, 1, 0);
    builder.set_transactional(true);
    segment.append(&records(), &mut builder, Compression::Lz4);
    let marker = EndTransactionMarker {
        result: TransactionResult::Commit,
        producer_id: 1 << 62,
        producer_epoch: 1,
        coordinator_epoch: 0,
    };
    let mut marker = marker.batch(Timestamp::from_millis(T0)).unwrap();
    segment.push(SealedBatch::new(&mut marker).unwrap());
    let mut gap = empty_batch(0, 41, 0, Timestamp::from_millis(T0));
    segment.push(SealedBatch::new(&mut gap).unwrap());
    append_at_log_time(&mut segment);
    segment
}

fn append_at_log_time(segment: &mut Segment) {
    let mut builder = BatchBuilder::new();
    append_all(&mut builder, &records());
    builder.seal(Compression::zstd()).unwrap();
    let mut batch = builder.sealed();
    batch.set_log_append_time(Timestamp::from_millis(T0 + 9));
    let offsets = segment.next_offset..;
    segment.expected.extend(
        records().into_iter().zip(offsets).map(|(record, offset)| OwnedRecord {
            offset,
            timestamp: T0 + 9,
            ..record
        }),
    );
    segment.push(batch);
}

#[expect(clippy::disallowed_methods, reason = "what other programs read must be on a real disk")]
fn write_for_others(directory: &Path, segment: &Segment) {
    let hex = |bytes: &[u8]| {
        let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 0xf]);
        digits.filter_map(|digit| char::from_digit(digit.into(), 16)).collect::<String>()
    };
    let lines = segment.expected.iter().map(|record| {
        let headers = record.headers.iter();
        let line = json!({
            "topic": "interop",
            "partition": 3,
            "offset": record.offset,
            "timestamp": record.timestamp,
            "key": record.key.as_deref().map(hex),
            "value": record.value.as_deref().map(hex),
            "headers": headers
                .map(|(name, value)| json!([name, value.as_deref().map(hex)]))
                .collect::<Vec<_>>(),
        });
        format!("{line}\n")
    });
    let partition = directory.join("interop-3");
    fs::create_dir_all(&partition).unwrap();
    // An active segment ends in zeros.
    let bytes = [&segment.bytes[..], &[0; 5000]].concat();
    fs::write(partition.join("00000000000000000000.log"), bytes).unwrap();
    fs::write(directory.join("expected.jsonl"), lines.collect::<String>()).unwrap();
}

#[test]
fn a_segment_with_every_kind_of_batch_is_read_back() {
    let segment = segment();
    let mut found = Vec::new();
    let mut rest = &segment.bytes[..];
    let mut buffer = Vec::new();
    while !rest.is_empty() {
        let batch = RecordBatch::parse(rest).unwrap();
        if !batch.attributes().is_control() {
            let records = batch.records(&mut buffer, LIMIT).unwrap();
            found.extend(records.map(|record| OwnedRecord::of(&record.unwrap())));
        }
        rest = &rest[batch.size()..];
    }
    assert!(found == segment.expected);
    // The marker is a record as well.
    let count = u64::try_from(found.len()).unwrap() + 1;
    assert_eq!(check_batches(&segment.bytes, LIMIT), Ok(count));
    if let Some(directory) = env::var_os("SAPWOOD_INTEROP_DIR") {
        write_for_others(Path::new(&directory), &segment);
    }
}
