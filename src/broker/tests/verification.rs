//! Verification finds what is damaged, says where, and is not led astray by what happens meanwhile.

use std::io::ErrorKind;
use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::path::Path;
use std::thread;

use super::{append, open};
use crate::error::Error;
use crate::fs::faults::{FailingFileSystem, Operation};
use crate::fs::{Access, FileSystem};
use crate::group::OffsetAndMetadata;
use crate::log::config::TopicConfig;
use crate::segment::file_name::{self, Suffix};
use crate::topic::Topic;
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
    let [damage] = &report.partitions[1].damage[..] else { panic!("{report:?}") };
    assert_eq!(damage.topic_partition, Some(TopicPartition::new("orders", 1)));
    assert_eq!(damage.bytes.start, ends[3]);
    assert_eq!((damage.offsets.start, records[1]), (4, 4));
    assert!(damage.path.ends_with("orders-1/00000000000000000000.log"));
    assert!(report.partitions[0].damage.is_empty() && report.partitions[2].damage.is_empty());
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
    assert_eq!((partition.batches, partition.records), (4, 4), "the batches behind it are right");
    let [damage] = &partition.damage[..] else { panic!("{report:?}") };
    assert_eq!((&damage.offsets, &damage.bytes), (&(2..3), &(ends[1]..ends[2])));
}

/// A partition of several segments; returns their base offsets, and the offset after the last record.
fn several_segments(fs: &FailingFileSystem, topic: &Topic) -> (Vec<u64>, u64) {
    for _ in 0..40 {
        append(topic, 0, "some record").unwrap();
    }
    let names = fs.list(Path::new("data/orders-0")).unwrap().into_iter().map(|entry| entry.name);
    let parsed = names.filter_map(|name| file_name::parse(&name));
    let logs = parsed.filter(|(_, suffix)| *suffix == Suffix::Log);
    let mut bases: Vec<_> = logs.map(|(base_offset, _)| base_offset).collect();
    bases.sort_unstable();
    assert!(bases.len() > 3, "{bases:?}");
    (bases, topic.partition(0).unwrap().log_end_offset())
}

#[test]
fn behind_damage_verification_goes_on_with_the_next_segment() {
    let fs = FailingFileSystem::over_memory();
    let broker = open(&fs);
    let config = TopicConfig::default().max_message_bytes(200).segment_bytes(1_024);
    let orders = broker.create_topic("orders", config).unwrap();
    let (bases, end) = several_segments(&fs, &orders);
    let path = |base: u64| file_name::path(Path::new("data/orders-0"), base, Suffix::Log);
    let (second, last) = (bases[1], bases[bases.len() - 1]);
    for base in [second, last] {
        damage(&fs, path(base).to_str().unwrap(), 65);
    }
    let report = broker.verify().unwrap();
    let [partition] = &report.partitions[..] else { panic!("{report:?}") };
    let found: Vec<_> = partition.damage.iter().map(|d| (d.path.clone(), d.bytes.start)).collect();
    assert_eq!(found, [(path(second), 0), (path(last), 0)]);
    assert_eq!(partition.records, end - (bases[2] - second) - (end - last));
}

#[test]
fn any_number_of_threads_finds_the_same_and_progress_ends_where_it_said() {
    let fs = FailingFileSystem::over_memory();
    let broker = open(&fs);
    let orders = broker.create_topic("orders", TopicConfig::default().partitions(5)).unwrap();
    for partition in [0, 1, 1, 1, 3, 3, 4] {
        append(&orders, partition, "some record").unwrap();
    }
    damage(&fs, "data/orders-1/00000000000000000000.log", 65);
    let expected = broker.verify().unwrap();
    assert!(expected.is_complete && !expected.is_intact());
    for threads in [1, 2, 9] {
        let mut seen = Vec::new();
        let watch = |progress| {
            seen.push(progress);
            ControlFlow::Continue(())
        };
        let threads = NonZeroUsize::new(threads).unwrap();
        assert_eq!(broker.verify_with(threads, watch).unwrap(), expected);
        assert!(seen.is_sorted_by_key(|progress| progress.bytes_done));
        let last = seen.last().unwrap();
        assert_eq!((last.bytes_done, last.bytes_total), (orders.size(), orders.size()));
        assert_eq!((last.partitions_done, last.partitions_total), (5, 5));
        assert_eq!(last.damage_found, 1);
    }
}

#[test]
fn a_verification_that_is_broken_off_ends_and_says_that_it_is_not_complete() {
    let broker = open(&FailingFileSystem::over_memory());
    let orders = broker.create_topic("orders", TopicConfig::default().partitions(50)).unwrap();
    for partition in 0..50 {
        append(&orders, partition, "some record").unwrap();
    }
    let mut told = 0;
    let watch = |_| {
        told += 1;
        ControlFlow::Break(())
    };
    let report = broker.verify_with(NonZeroUsize::new(2).unwrap(), watch).unwrap();
    assert_eq!(told, 1);
    assert!(!report.is_complete && report.is_intact());
    assert!(report.records() < 50, "{} were read all the same", report.records());
}

#[test]
fn a_read_that_fails_in_one_thread_ends_all_of_them_and_is_told() {
    let fs = FailingFileSystem::over_memory();
    let broker = open(&fs);
    let orders = broker.create_topic("orders", TopicConfig::default().partitions(9)).unwrap();
    for partition in 0..9 {
        append(&orders, partition, "some record").unwrap();
    }
    fs.fail_next(Operation::Read, "orders-4/00000000000000000000.log", ErrorKind::Other);
    let threads = NonZeroUsize::new(3).unwrap();
    let failed = broker.verify_with(threads, |_| ControlFlow::Continue(()));
    assert!(matches!(failed, Err(Error::Io { operation: "read", .. })), "{failed:?}");
    assert!(broker.verify().unwrap().is_intact());
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
