//! Verification finds what is damaged, says where, and is not led astray by what happens meanwhile.

use std::path::Path;
use std::thread;

use super::{append, open};
use crate::error::Error;
use crate::fs::faults::FailingFileSystem;
use crate::fs::{Access, FileSystem};
use crate::group::OffsetAndMetadata;
use crate::log::config::TopicConfig;
use crate::topic_partition::TopicPartition;

/// Flips a bit of a file.
fn damage(fs: &FailingFileSystem, path: &str, at: u64) {
    let file = fs.open(Path::new(path), Access::ReadWrite).unwrap();
    let mut byte = [0];
    file.read_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
}

#[test]
fn damage_in_one_partition_is_located_and_the_others_are_verified_all_the_same() {
    let fs = FailingFileSystem::over_memory();
    let broker = open(&fs);
    let orders = broker.create_topic("orders", TopicConfig::default().partitions(3)).unwrap();
    let mut ends = Vec::new();
    for _ in 0..10 {
        for partition in 0..3 {
            append(&orders, partition, "some record").unwrap();
        }
        ends.push(orders.partition(1).unwrap().size());
    }
    damage(&fs, "data/orders-1/00000000000000000000.log", ends[3] + 65);
    let report = broker.verify().unwrap();
    assert!(!report.is_intact());
    let records: Vec<_> = report.partitions.iter().map(|p| p.records).collect();
    assert_eq!((records[0], records[2]), (10, 10));
    let damage = report.partitions[1].damage.as_ref().unwrap();
    assert_eq!(damage.topic_partition, Some(TopicPartition::new("orders", 1)));
    assert_eq!((damage.offsets.start, records[1]), (4, 4));
    assert!(damage.path.ends_with("orders-1/00000000000000000000.log"));
    assert!(report.partitions[0].damage.is_none() && report.partitions[2].damage.is_none());
}

#[test]
fn damage_behind_a_right_checksum_is_found_in_its_batch() {
    let fs = FailingFileSystem::over_memory();
    let broker = open(&fs);
    let orders = broker.create_topic("orders", TopicConfig::default()).unwrap();
    let mut ends = Vec::new();
    for _ in 0..5 {
        append(&orders, 0, "some record").unwrap();
        ends.push(orders.size());
    }
    // The length of the record in the third batch, and the checksum of what that makes of it.
    let path = "data/orders-0/00000000000000000000.log";
    damage(&fs, path, ends[1] + 61);
    let file = fs.open(Path::new(path), Access::ReadWrite).unwrap();
    let mut bytes = vec![0; usize::try_from(ends[2] - ends[1] - 21).unwrap()];
    file.read_at(&mut bytes, ends[1] + 21).unwrap();
    file.write_all_at(&crc32c::crc32c(&bytes).to_be_bytes(), ends[1] + 17).unwrap();
    let report = broker.verify().unwrap();
    let [partition] = &report.partitions[..] else { panic!("{report:?}") };
    assert_eq!((partition.batches, partition.records), (2, 2));
    assert_eq!(partition.damage.as_ref().unwrap().offsets, 2..5);
}

#[test]
fn internal_topics_are_verified_too() {
    let broker = open(&FailingFileSystem::over_memory());
    broker.create_topic("orders", TopicConfig::default()).unwrap();
    let at = (TopicPartition::new("orders", 0), OffsetAndMetadata::new(0));
    broker.reset_group("g", [at]).unwrap();
    let report = broker.verify().unwrap();
    let internal = report.partitions.iter().find(|p| p.topic_partition.topic().starts_with("__"));
    assert_eq!(internal.unwrap().records, 1);
}

#[test]
fn retention_and_deletion_do_not_disturb_a_verification() {
    let fs = FailingFileSystem::over_memory();
    let broker = open(&fs);
    let config = TopicConfig::default().max_message_bytes(200).segment_bytes(1_024);
    let kept = broker.create_topic("kept", config.clone()).unwrap();
    thread::scope(|scope| {
        let verifying = scope.spawn(|| {
            for _ in 0..100 {
                let report = broker.verify().unwrap();
                assert!(report.is_intact(), "{report:?}");
            }
        });
        while !verifying.is_finished() {
            let passing = broker.create_topic("passing", config.clone()).unwrap();
            for _ in 0..50 {
                append(&kept, 0, "some record").unwrap();
                append(&passing, 0, "some record").unwrap();
            }
            let log = kept.partition(0).unwrap();
            log.delete_records(log.high_watermark() - 3).unwrap();
            broker.delete_topic("passing").unwrap();
        }
    });
}

#[test]
fn a_verification_that_is_overtaken_by_close_says_so() {
    let broker = open(&FailingFileSystem::over_memory());
    broker.create_topic("orders", TopicConfig::default()).unwrap();
    broker.close().unwrap();
    assert!(matches!(super::super::verify::verify(&broker), Err(Error::Closed { .. })));
}
