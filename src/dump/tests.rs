//! Goal: a dump shows what is in a file as it is, whatever state that is in.
//!
//! Method: batches and a partition's directory that Apache Kafka has written, beside what Kafka says
//! of them; then damage at every byte.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use super::DirectoryDump;
use super::batch::BatchDump;
use super::segment::{SegmentDump, SegmentPart};
use crate::broker::config::BrokerBuilder;
use crate::error::Error;
use crate::fs::memory::MemoryFileSystem;
use crate::fs::{Access, FileSystem, durably};
use crate::log::config::TopicConfig;
use crate::record::Record;
use crate::record::control::{ControlRecord, TransactionResult};
use crate::record::vectors::{self, hex, nullable_hex};
use crate::topic::registry::TopicState;

/// A file in memory, as a segment to be dumped.
fn segment(name: &str, bytes: &[u8]) -> SegmentDump {
    let fs = MemoryFileSystem::new();
    durably::create(&fs, Path::new(name), bytes).unwrap();
    SegmentDump::open_on(Arc::new(fs), Path::new(name)).unwrap()
}

fn parts(segment: &SegmentDump) -> Vec<SegmentPart> {
    let parts: Vec<_> = segment.parts().unwrap().collect::<Result<_, _>>().unwrap();
    let mut end = 0;
    for part in &parts {
        assert_eq!(part.bytes().start, end, "parts follow each other");
        assert!(part.bytes().end > end, "no part is empty");
        end = part.bytes().end;
    }
    assert_eq!(end, segment.size(), "the last part ends with the file");
    parts
}

fn batches(segment: &SegmentDump) -> Vec<BatchDump> {
    let batch = |part| match part {
        SegmentPart::Batch(batch) => batch,
        other => panic!("{other:?}"),
    };
    parts(segment).into_iter().map(batch).collect()
}

fn is_readable(vector: &Value) -> bool {
    let codec = vector["header"]["compression"].as_str().unwrap();
    (codec != "gzip" || cfg!(feature = "gzip")) && (codec != "snappy" || cfg!(feature = "snappy"))
}

#[test]
fn every_field_is_what_kafka_says_it_is() {
    for vector in vectors::load()["batches"].as_array().unwrap() {
        let name = vector["name"].as_str().unwrap();
        let header = &vector["header"];
        let dumped = batches(&segment("batch", &hex(&vector["hex"])));
        let [batch] = &dumped[..] else { panic!("{name}: {dumped:?}") };
        let shown = [
            ("base_offset", Value::from(batch.base_offset)),
            ("batch_length", Value::from(batch.size - 12)),
            ("partition_leader_epoch", Value::from(batch.partition_leader_epoch)),
            ("magic", Value::from(batch.magic)),
            ("crc32c", Value::from(format!("{:08x}", batch.crc))),
            ("compression", Value::from(batch.codec.to_string())),
            ("timestamp_type", Value::from(format!("{:?}", batch.timestamp_type))),
            ("is_transactional", Value::from(batch.is_transactional)),
            ("is_control", Value::from(batch.is_control)),
            ("has_delete_horizon", Value::from(batch.delete_horizon.is_some())),
            ("base_timestamp", Value::from(batch.base_timestamp.as_millis())),
            ("max_timestamp", Value::from(batch.max_timestamp.as_millis())),
            ("producer_id", Value::from(batch.producer_id)),
            ("producer_epoch", Value::from(batch.producer_epoch)),
            ("base_sequence", Value::from(batch.base_sequence)),
            ("records_count", Value::from(batch.record_count)),
            ("last_offset", Value::from(batch.last_offset)),
        ];
        for (field, value) in shown {
            assert_eq!(value, header[field], "{name}: {field}");
        }
        assert!(batch.is_valid, "{name}");
        if is_readable(vector) {
            check_records(name, batch, vector);
        }
    }
}

fn check_records(name: &str, batch: &BatchDump, vector: &Value) {
    // Some vectors name the list that they share.
    let Some(expected) = vector["records"].as_array() else { return };
    let records = batch.records().unwrap();
    let shown: Vec<_> = records.iter().collect::<Result<_, _>>().unwrap();
    assert_eq!(shown.len(), expected.len(), "{name}");
    for (record, expected) in shown.iter().zip(expected) {
        assert_eq!(Value::from(record.offset), expected["offset"], "{name}");
        assert_eq!(Value::from(record.timestamp.as_millis()), expected["timestamp"], "{name}");
        assert_eq!(Value::from(record.sequence), expected["sequence"], "{name}");
        assert_eq!(record.key.map(<[u8]>::to_vec), nullable_hex(&expected["key"]), "{name}");
        assert_eq!(record.value.map(<[u8]>::to_vec), nullable_hex(&expected["value"]), "{name}");
        let headers = expected["headers"].as_array().unwrap();
        assert_eq!(record.headers.len(), headers.len(), "{name}");
        for (header, expected) in record.headers.clone().zip(headers) {
            assert_eq!(Value::from(header.name()), expected[0], "{name}");
            assert_eq!(header.value().map(<[u8]>::to_vec), nullable_hex(&expected[1]), "{name}");
        }
        assert_eq!(record.control.is_some(), batch.is_control, "{name}");
    }
    if let Some(last) = shown.last().filter(|last| last.offset == batch.last_offset) {
        assert_eq!(last.sequence, batch.last_sequence, "{name}");
    }
}

#[test]
fn the_end_of_a_transaction_is_shown() {
    let vectors = vectors::load();
    let ends = [
        ("control_commit", TransactionResult::Commit),
        ("control_abort", TransactionResult::Abort),
    ];
    for (name, result) in ends {
        let all = vectors["batches"].as_array().unwrap();
        let vector = all.iter().find(|vector| vector["name"] == name).unwrap();
        let dumped = batches(&segment("batch", &hex(&vector["hex"])));
        let records = dumped[0].records().unwrap();
        let record = records.iter().next().unwrap().unwrap();
        let expected = ControlRecord::EndTransaction { result, coordinator_epoch: 5 };
        assert_eq!(record.control, Some(expected));
    }
}

/// The directory of a partition that Kafka has written.
fn kafkas_directory() -> (MemoryFileSystem, Value) {
    let fs = MemoryFileSystem::new();
    fs.create_directory(Path::new("orders-0")).unwrap();
    let mut document = vectors::load();
    let written = document["log_directory"].take();
    for (name, bytes) in written["files"].as_object().unwrap() {
        durably::create(&fs, &Path::new("orders-0").join(name), &hex(bytes)).unwrap();
    }
    (fs, written["expect"].clone())
}

fn pairs(value: &Value) -> Vec<(i64, i64)> {
    let pair = |pair: &Value| (pair[0].as_i64().unwrap(), pair[1].as_i64().unwrap());
    value.as_array().unwrap().iter().map(pair).collect()
}

#[test]
fn the_indexes_that_kafka_has_written_are_shown_and_found_right() {
    let (fs, expected) = kafkas_directory();
    let dump = DirectoryDump::open_on(Arc::new(fs), Path::new(".")).unwrap();
    assert_eq!(dump.topics().unwrap(), None, "Kafka has no such file");
    let [partition] = &dump.partitions().unwrap()[..] else { panic!("{dump:?}") };
    assert_eq!(partition.topic_partition().to_string(), "orders-0");
    assert!(partition.topic_id().unwrap().is_some());
    assert_eq!(partition.checkpoint().unwrap(), None);
    let segments: Vec<_> = partition.segments().unwrap().map(Result::unwrap).collect();
    let expected = expected["segments"].as_array().unwrap();
    assert_eq!(segments.len(), expected.len());
    for (segment, expected) in segments.iter().zip(expected) {
        assert_eq!(segment.base_offset(), expected["base_offset"].as_u64());
        assert_eq!(segment.size(), expected["log_bytes"].as_u64().unwrap());
        let entries = segment.offset_index().unwrap().unwrap().into_iter();
        let entries = entries.map(|entry| (entry.offset.cast_signed(), entry.file_position.into()));
        assert_eq!(entries.collect::<Vec<(i64, i64)>>(), pairs(&expected["index_entries"]));
        let entries = segment.time_index().unwrap().unwrap().into_iter();
        let entries =
            entries.map(|entry| (entry.timestamp.as_millis(), entry.offset.cast_signed()));
        assert_eq!(entries.collect::<Vec<_>>(), pairs(&expected["time_index_entries"]));
        assert_eq!(segment.check_indexes().unwrap(), []);
        assert!(batches(segment).iter().all(|batch| batch.is_valid && batch.is_consecutive));
    }
}

#[test]
fn every_flipped_bit_of_an_index_is_told() {
    let (fs, _) = kafkas_directory();
    for name in ["00000000000000000000.index", "00000000000000000000.timeindex"] {
        let path = Path::new("orders-0").join(name);
        let file = fs.open(&path, Access::ReadWrite).unwrap();
        for at in 0..file.len().unwrap() {
            let mut byte = [0];
            file.read_at(&mut byte, at).unwrap();
            file.write_all_at(&[byte[0] ^ 4], at).unwrap();
            let log = Path::new("orders-0/00000000000000000000.log");
            let segment = SegmentDump::open_on(Arc::new(fs.clone()), log).unwrap();
            let wrong = segment.check_indexes().unwrap();
            assert!(wrong.iter().any(|damage| damage.path == path), "byte {at}: {wrong:?}");
            file.write_all_at(&byte, at).unwrap();
        }
    }
}

fn first_segment() -> (String, Vec<u8>) {
    let (fs, _) = kafkas_directory();
    let name = "00000000000000000000.log";
    let bytes = durably::read(&fs, &Path::new("orders-0").join(name), 1 << 20).unwrap().unwrap();
    (name.to_owned(), bytes)
}

#[test]
fn damage_at_any_byte_is_told_and_all_other_batches_are_shown() {
    let (name, intact) = first_segment();
    let whole = batches(&segment(&name, &intact));
    for at in 0..intact.len() {
        let mut bytes = intact.clone();
        bytes[at] ^= 0x10;
        let hit = whole.iter().position(|batch| at as u64 - batch.file_position < batch.size);
        let hit = &whole[hit.unwrap()];
        let found = parts(&segment(&name, &bytes));
        for batch in whole.iter().filter(|batch| batch.file_position != hit.file_position) {
            let is_there = found.iter().any(|part| {
                matches!(part, SegmentPart::Batch(found)
                    if found.file_position == batch.file_position && found.is_valid)
            });
            assert!(is_there, "byte {at}: the batch at {} is gone", batch.file_position);
        }
        // The leader epoch lies outside the checksum, and so does the base offset.
        let told = found.iter().any(|part| match part {
            SegmentPart::Batch(found) => !found.is_valid || !found.is_consecutive,
            _ => true,
        });
        let in_epoch = (12..16).contains(&(at as u64 - hit.file_position));
        assert!(told || in_epoch, "byte {at}");
    }
}

#[test]
fn a_file_cut_anywhere_ends_in_what_is_missing() {
    let (name, intact) = first_segment();
    let whole = batches(&segment(&name, &intact));
    for len in 0..intact.len() {
        let found = parts(&segment(&name, &intact[..len]));
        let kept = whole.iter().filter(|batch| batch.file_position + batch.size <= len as u64);
        let batches = found.iter().filter(|part| matches!(part, SegmentPart::Batch(_)));
        assert_eq!(batches.count(), kept.clone().count(), "cut at {len}");
        let ends_whole = kept.map(|batch| batch.size).sum::<u64>() == len as u64;
        let damaged = matches!(found.last(), Some(SegmentPart::Damage(_) | SegmentPart::Zeros(_)));
        assert_eq!(damaged, !ends_whole, "cut at {len}");
    }
}

#[test]
fn zeros_at_the_end_are_told_from_damage() {
    let (name, mut bytes) = first_segment();
    let len = bytes.len() as u64;
    bytes.resize(bytes.len() + 5_000, 0);
    let found = parts(&segment(&name, &bytes));
    let Some(SegmentPart::Zeros(zeros)) = found.last() else { panic!("{found:?}") };
    assert_eq!(*zeros, len..len + 5_000);
    // A batch that was never finished lies before them.
    bytes[usize::try_from(len).unwrap()..][..30].fill(7);
    let found = parts(&segment(&name, &bytes));
    let [.., SegmentPart::Damage(damage), SegmentPart::Zeros(zeros)] = &found[..] else {
        panic!("{found:?}")
    };
    assert_eq!((damage.bytes.clone(), zeros.start), (len..len + 30, len + 30));
}

#[test]
fn a_directory_that_does_not_open_is_shown_all_the_same() {
    let fs = MemoryFileSystem::new();
    let open =
        || BrokerBuilder::new(PathBuf::from("data")).file_system(Arc::new(fs.clone())).open();
    let broker = open().unwrap();
    let config = TopicConfig::default().partitions(2).segment_bytes(2_000_000);
    let orders = broker.create_topic("orders", config.clone()).unwrap();
    orders.partition(1).unwrap().append(&[Record::new("paid"), Record::new("sent")]).unwrap();
    broker.close().unwrap();
    let log = Path::new("data/orders-1/00000000000000000000.log");
    fs.open(log, Access::ReadWrite).unwrap().set_len(20).unwrap();
    fs.remove_file(Path::new("data/orders-0/watermark.checkpoint")).unwrap();
    assert!(matches!(open(), Err(Error::Corrupt(_))));

    let dump = DirectoryDump::open_on(Arc::new(fs.clone()), Path::new("data")).unwrap();
    let topics = dump.topics().unwrap().unwrap();
    let [topic] = &topics[..] else { panic!("{topics:?}") };
    assert_eq!((topic.name.as_str(), &topic.id), ("orders", &orders.id()));
    assert_eq!((topic.state, &topic.config), (TopicState::Live, &config));
    let partitions = dump.partitions().unwrap();
    assert_eq!(partitions.len(), 2);
    assert_eq!(partitions[0].checkpoint().unwrap(), None);
    let checkpoint = partitions[1].checkpoint().unwrap().unwrap();
    assert_eq!((checkpoint.recovery_point, checkpoint.log_start_offset), (2, 0));
    assert_eq!(partitions[1].topic_id().unwrap(), Some(orders.id()));
    let first = partitions[1].segments().unwrap().next().unwrap().unwrap();
    let found = parts(&first);
    assert!(matches!(&found[..], [SegmentPart::Damage(damage)] if damage.bytes == (0..20)));

    let registry = fs.open(Path::new("data/sapwood.topics"), Access::ReadWrite).unwrap();
    registry.write_all_at(b"x", 3).unwrap();
    assert!(matches!(dump.topics(), Err(Error::Corrupt(_))));
    assert_eq!(dump.partitions().unwrap().len(), 2, "they are there without a registry");
}

#[test]
fn what_is_no_directory_is_refused() {
    let fs = MemoryFileSystem::new();
    fs.create_new(Path::new("file")).unwrap();
    for path in ["file", "missing"] {
        let opened = DirectoryDump::open_on(Arc::new(fs.clone()), Path::new(path));
        assert!(matches!(opened, Err(Error::NotALogDirectory { .. })), "{path}");
    }
}
