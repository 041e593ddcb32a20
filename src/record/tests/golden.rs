//! Batches written by Apache Kafka, kafka-python and aiokafka.

use serde_json::Value;

use super::{LIMIT, OwnedRecord, read};
use crate::record::batch::{BATCH_OVERHEAD, BatchError, RecordBatch, check_batches};
use crate::record::builder::{BatchBuilder, SealedBatch, empty_batch};
use crate::record::compression::{Codec, Compression};
use crate::record::control::{ControlRecord, EndTransactionMarker, TransactionResult};
use crate::record::header::TimestampType;
use crate::record::vectors::{hex, load, nullable_hex};
use crate::time::Timestamp;

struct Golden {
    name: String,
    bytes: Vec<u8>,
    header: Value,
    records: Vec<OwnedRecord>,
}

fn golden() -> Vec<Golden> {
    let vectors = load();
    let shared = &vectors["shared_records"];
    let batches = vectors["batches"].as_array().unwrap();
    let golden = batches.iter().map(|batch| {
        let records = match batch["records_ref"].as_str() {
            Some(name) => &shared[name],
            None => &batch["records"],
        };
        Golden {
            name: batch["name"].as_str().unwrap().to_owned(),
            bytes: hex(&batch["hex"]),
            header: batch["header"].clone(),
            records: records.as_array().unwrap().iter().map(record).collect(),
        }
    });
    golden.collect()
}

fn record(json: &Value) -> OwnedRecord {
    let headers = json["headers"].as_array().unwrap().iter();
    OwnedRecord {
        offset: json["offset"].as_u64().unwrap(),
        timestamp: json["timestamp"].as_i64().unwrap(),
        key: nullable_hex(&json["key"]),
        value: nullable_hex(&json["value"]),
        headers: headers
            .map(|header| (header[0].as_str().unwrap().to_owned(), nullable_hex(&header[1])))
            .collect(),
    }
}

fn named(name: &str) -> Golden {
    golden().into_iter().find(|golden| golden.name == name).unwrap()
}

/// Whether this build can read the codec.
fn is_available(codec: Codec) -> bool {
    match codec {
        Codec::Gzip => cfg!(feature = "gzip"),
        Codec::Snappy => cfg!(feature = "snappy"),
        Codec::None | Codec::Lz4 | Codec::Zstd => true,
    }
}

#[test]
fn every_header_field_is_read_as_kafka_reads_it() {
    let all = golden();
    assert_eq!(all.len(), 27);
    for Golden { name, bytes, header, .. } in all {
        let batch = RecordBatch::parse(&bytes).unwrap();
        let attributes = batch.attributes();
        let timestamp_type = match attributes.timestamp_type() {
            TimestampType::CreateTime => "CreateTime",
            TimestampType::LogAppendTime => "LogAppendTime",
        };
        let ours = serde_json::json!({
            "base_offset": batch.base_offset(),
            "batch_length": batch.size() - 12,
            "partition_leader_epoch": batch.partition_leader_epoch(),
            "magic": 2,
            "crc32c": header["crc32c"],
            "attributes": header["attributes"],
            "compression": attributes.codec().to_string(),
            "timestamp_type": timestamp_type,
            "is_transactional": attributes.is_transactional(),
            "is_control": attributes.is_control(),
            "has_delete_horizon": attributes.has_delete_horizon(),
            "last_offset_delta": batch.last_offset_delta(),
            "base_timestamp": batch.base_timestamp(),
            "max_timestamp": batch.max_timestamp().as_millis(),
            "producer_id": batch.producer_id(),
            "producer_epoch": batch.producer_epoch(),
            "base_sequence": batch.base_sequence(),
            "records_count": batch.record_count(),
            "last_offset": batch.last_offset(),
            "next_offset": batch.next_offset(),
        });
        assert_eq!(ours, header, "{name}");
        assert_eq!(batch.bytes(), bytes, "{name}");
        batch.verify_checksum().unwrap();
    }
}

#[test]
fn every_record_is_read_as_kafka_reads_it() {
    for Golden { name, bytes, records, .. } in golden() {
        let codec = RecordBatch::parse(&bytes).unwrap().attributes().codec();
        if is_available(codec) {
            assert_eq!(read(&bytes).unwrap(), records, "{name}");
        } else {
            assert_eq!(read(&bytes), Err(BatchError::CodecUnavailable { codec }), "{name}");
        }
    }
}

#[test]
fn what_a_producer_wrote_uncompressed_is_written_byte_for_byte() {
    let mut rewritten = 0;
    let mut builder = BatchBuilder::new();
    for Golden { name, bytes, records, .. } in golden() {
        let batch = RecordBatch::parse(&bytes).unwrap();
        let attributes = batch.attributes();
        // No producer writes gaps, empty batches or delete horizons: those are the cleaner's.
        let is_complete = u64::from(batch.record_count())
            == batch.next_offset() - batch.base_offset()
            && !attributes.has_delete_horizon();
        if attributes.codec() != Codec::None || !is_complete || batch.record_count() == 0 {
            continue;
        }
        builder.clear();
        let (id, epoch) = (batch.producer_id(), batch.producer_epoch());
        builder.set_producer(id, epoch, batch.base_sequence());
        builder.set_transactional(attributes.is_transactional());
        builder.set_control(attributes.is_control());
        let appended_at_once = attributes.timestamp_type() == TimestampType::LogAppendTime;
        for (record, original) in records.iter().zip(original_timestamps(&batch)) {
            let (record, timestamp) = (record.to_record(), Timestamp::from_millis(original));
            let size = builder.size() + builder.size_of_next(&record, timestamp);
            builder.append(&record, timestamp).unwrap();
            assert_eq!(builder.size(), size, "{name}");
        }
        assert_eq!(builder.size(), bytes.len(), "{name}");
        builder.seal(Compression::None).unwrap();
        let mut sealed = builder.sealed();
        sealed.assign(batch.base_offset(), batch.partition_leader_epoch());
        if appended_at_once {
            sealed.set_log_append_time(batch.max_timestamp());
        }
        assert_eq!(sealed.bytes(), bytes, "{name}");
        rewritten += 1;
    }
    assert_eq!(rewritten, 11);
}

/// The timestamps as their producer gave them, also where the batch says otherwise.
fn original_timestamps(batch: &RecordBatch<'_>) -> Vec<i64> {
    let mut as_created = *batch.header();
    as_created.base_timestamp = batch.base_timestamp();
    crate::record::records::Records::new(batch.payload(), &as_created, None)
        .map(|record| record.unwrap().timestamp().as_millis())
        .collect()
}

#[test]
fn transaction_markers_are_read_and_written_as_kafka_does() {
    for (name, result) in
        [("control_commit", TransactionResult::Commit), ("control_abort", TransactionResult::Abort)]
    {
        let Golden { bytes, .. } = named(name);
        let batch = RecordBatch::parse(&bytes).unwrap();
        let record = batch.iter_payload(batch.payload()).next().unwrap().unwrap();
        let expected = ControlRecord::EndTransaction { result, coordinator_epoch: 5 };
        assert_eq!(ControlRecord::parse(&record).unwrap(), expected);

        let marker = EndTransactionMarker {
            result,
            producer_id: batch.producer_id(),
            producer_epoch: batch.producer_epoch(),
            coordinator_epoch: 5,
        };
        let mut ours = marker.batch(batch.max_timestamp()).unwrap();
        let mut sealed = SealedBatch::new(&mut ours).unwrap();
        sealed.assign(batch.base_offset(), 0);
        assert_eq!(sealed.bytes(), bytes, "{name}");
    }
}

#[test]
fn an_empty_batch_has_the_shape_that_kafkas_cleaner_leaves() {
    let Golden { bytes, .. } = named("empty_retained");
    let theirs = RecordBatch::parse(&bytes).unwrap();
    let ours = empty_batch(400, 9, 0, theirs.max_timestamp());
    let ours = RecordBatch::parse(&ours).unwrap();
    ours.verify_checksum().unwrap();
    let mut expected = *theirs.header();
    (expected.producer_id, expected.producer_epoch, expected.base_sequence) = (-1, -1, -1);
    assert_eq!(*ours.header(), expected);
    assert_eq!((ours.size(), ours.next_offset()), (BATCH_OVERHEAD, 410));
    assert_eq!(read(ours.bytes()).unwrap(), []);
}

#[test]
fn segments_that_kafka_wrote_are_read_to_their_end() {
    let vectors = load();
    let directory = &vectors["log_directory"];
    let segments = directory["expect"]["segments"].as_array().unwrap();
    let mut next_offset = 0;
    for segment in segments {
        let name = format!("{:020}.log", segment["base_offset"].as_u64().unwrap());
        let bytes = hex(&directory["files"][&name]);
        let mut at = 0;
        while at < bytes.len() {
            let batch = RecordBatch::parse(&bytes[at..]).unwrap();
            assert_eq!(batch.base_offset(), next_offset);
            (at, next_offset) = (at + batch.size(), batch.next_offset());
        }
        if cfg!(all(feature = "gzip", feature = "snappy")) {
            assert!(check_batches(&bytes, LIMIT).unwrap() > 0);
        }
    }
    assert_eq!(next_offset, directory["expect"]["log_end_offset"].as_u64().unwrap());
}
