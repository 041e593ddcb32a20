//! Handles come and go in any order and on any thread: nothing hangs, no thread is left, and the
//! directory is free when it must be.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use super::{append, builder, open};
use crate::broker::Broker;
use crate::error::Error;
use crate::fs::faults::{FailingFileSystem, Operation};
use crate::group::OffsetAndMetadata;
use crate::log::config::TopicConfig;
use crate::record::Record;
use crate::topic_partition::TopicPartition;

#[test]
fn the_directory_is_free_when_the_last_handle_has_gone_even_in_the_middle_of_a_turn() {
    let fs = FailingFileSystem::over_memory();
    for n in 0..200 {
        let broker = builder(&fs).background_thread(true).open().unwrap();
        if n == 0 {
            broker.create_topic("orders", TopicConfig::default()).unwrap();
        }
        let topic = broker.topic("orders").unwrap();
        drop(broker);
        append(&topic, 0, "x").unwrap();
        if n % 2 == 0 {
            thread::yield_now();
        }
        drop(topic);
    }
    assert_eq!(open(&fs).topic("orders").unwrap().partition(0).unwrap().log_end_offset(), 200);
}

#[test]
fn a_turn_under_way_ends_before_the_directory_is_free() {
    let fs = FailingFileSystem::over_memory();
    let broker = builder(&fs).background_thread(true).open().unwrap();
    let orders = broker.create_topic("orders", TopicConfig::default()).unwrap();
    // Appended, and left to the background thread to sync.
    let mut batch = crate::record::builder::BatchBuilder::new();
    batch.append(&Record::new("x"), crate::time::Timestamp::from_millis(0)).unwrap();
    batch.seal(crate::record::Compression::None).unwrap();
    let in_turn = Arc::new(Barrier::new(2));
    let (meets, mut is_first) = (Arc::clone(&in_turn), true);
    fs.fail_when(move |operation, path| {
        if operation == Operation::SyncData
            && path.ends_with("orders-0/00000000000000000000.log")
            && is_first
        {
            is_first = false;
            meets.wait();
            // Time enough for the handles to go while the turn is still under way.
            (0..1_000).for_each(|_| thread::yield_now());
        }
        None
    });
    let log = Arc::clone(orders.partition(0).unwrap().log());
    log.append(batch.sealed(), crate::time::Timestamp::NONE).unwrap();
    broker.maintenance().wake_by(Duration::ZERO);
    in_turn.wait();
    drop((log, orders, broker));
    drop(open(&fs));
}

#[test]
fn a_broker_that_is_closed_or_dropped_leaves_no_thread() {
    // Counted by what it holds: other tests have threads in this process, too.
    let closed = Broker::in_memory().unwrap();
    let dropped = Broker::in_memory().unwrap();
    let threads = [&closed, &dropped].map(|broker| Arc::downgrade(&broker.0.maintenance));
    closed.close().unwrap();
    assert_eq!(threads[0].strong_count(), 1, "the broker's own");
    drop(dropped);
    assert_eq!(threads[1].strong_count(), 0);
}

#[test]
fn who_closes_second_returns_when_the_directory_is_free() {
    for _ in 0..50 {
        let fs = FailingFileSystem::over_memory();
        let broker = open(&fs);
        broker.create_topic("orders", TopicConfig::default().partitions(8)).unwrap();
        let start = Barrier::new(2);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    start.wait();
                    broker.close().unwrap();
                    match builder(&fs).open() {
                        Ok(reopened) => reopened.close().unwrap(),
                        // Open in the other thread by now.
                        Err(Error::Locked { .. }) => {}
                        Err(other) => panic!("{other}"),
                    }
                });
            }
        });
        open(&fs);
    }
}

/// Deletes while records are appended, rolled, flushed and deleted: none of it may leave a file
/// behind that the deletion stumbles over.
#[test]
fn a_topic_can_be_deleted_in_the_middle_of_everything() {
    let fs = FailingFileSystem::over_memory();
    let broker = builder(&fs).background_thread(true).open().unwrap();
    let done = AtomicBool::new(false);
    let config = TopicConfig::default().max_message_bytes(200).segment_bytes(1_024).partitions(2);
    thread::scope(|scope| {
        for n in 0..3 {
            let (broker, done) = (&broker, &done);
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    let Ok(topic) = broker.topic("orders") else { continue };
                    let log = topic.partition(n % 2).unwrap();
                    match log.append(&[Record::new(&[0; 100])]) {
                        Ok(_) | Err(Error::Closed { .. } | Error::PartitionFailed { .. }) => {}
                        Err(other) => panic!("{other}"),
                    }
                    match log.delete_records(log.high_watermark()) {
                        Ok(_) | Err(Error::Closed { .. } | Error::PartitionFailed { .. }) => {}
                        Err(other) => panic!("{other}"),
                    }
                }
            });
        }
        let run = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 0..100 {
                let topic = broker.create_topic("orders", config.clone()).unwrap();
                append(&topic, 0, "x").unwrap();
                broker.alter_topic("orders", config.clone().index_interval_bytes(100)).unwrap();
                broker.add_partitions("orders", 3).unwrap();
                assert!(broker.verify().unwrap().is_intact());
                broker.delete_topic("orders").unwrap();
            }
        }));
        done.store(true, Ordering::Relaxed);
        run.unwrap();
    });
    broker.close().unwrap();
    let broker = open(&fs);
    assert!(broker.recovery_report().clean_shutdown);
    assert!(broker.recovery_report().ignored.is_empty());
}

#[test]
fn closing_in_the_middle_of_everything_loses_nothing_acknowledged() {
    for _ in 0..20 {
        let fs = FailingFileSystem::over_memory();
        let broker = builder(&fs).background_thread(true).open().unwrap();
        let config =
            TopicConfig::default().partitions(2).max_message_bytes(1_000).segment_bytes(1_024);
        broker.create_topic("orders", config).unwrap();
        let acknowledged = [AtomicU64::new(0), AtomicU64::new(0)];
        let created = AtomicU64::new(0);
        let closed = |error: Error| assert!(matches!(error, Error::Closed { .. }), "{error}");
        thread::scope(|scope| {
            for (n, acknowledged) in (0..).zip(&acknowledged) {
                let topic = broker.topic("orders").unwrap();
                scope.spawn(move || {
                    loop {
                        match append(&topic, n, "some record or other") {
                            Ok(offset) => acknowledged.store(offset + 1, Ordering::Relaxed),
                            Err(error) => return closed(error),
                        }
                    }
                });
            }
            scope.spawn(|| {
                for n in 0.. {
                    match broker.create_topic(&format!("t{n}"), TopicConfig::default()) {
                        Ok(_) => created.store(n + 1, Ordering::Relaxed),
                        Err(error) => return closed(error),
                    }
                }
            });
            let mut consumer = broker.consumer().group("g").subscribe(["orders"]).unwrap();
            scope.spawn(move || {
                loop {
                    let polled = consumer.poll(Duration::from_secs(60)).map(drop);
                    if let Err(error) = polled.and_then(|()| consumer.commit()) {
                        return closed(error);
                    }
                }
            });
            while acknowledged[0].load(Ordering::Relaxed) < 20
                || created.load(Ordering::Relaxed) == 0
            {
                thread::yield_now();
            }
            broker.close().unwrap();
        });
        let broker = open(&fs);
        assert!(broker.recovery_report().clean_shutdown);
        let topic = broker.topic("orders").unwrap();
        for (partition, acknowledged) in topic.partitions().iter().zip(acknowledged) {
            assert!(partition.log_end_offset() >= acknowledged.into_inner());
        }
        for n in 0..created.into_inner() {
            broker.topic(&format!("t{n}")).unwrap();
        }
    }
}

#[test]
fn a_new_topic_keeps_what_groups_commit_in_it_while_its_predecessor_is_forgotten() {
    let fs = FailingFileSystem::over_memory();
    let broker = open(&fs);
    let at = TopicPartition::new("orders", 0);
    for _ in 0..100 {
        broker.create_topic("orders", TopicConfig::default()).unwrap();
        broker.reset_group("g", [(at.clone(), OffsetAndMetadata::new(0))]).unwrap();
        thread::scope(|scope| {
            scope.spawn(|| broker.delete_topic("orders").unwrap());
            let orders = loop {
                match broker.create_topic("orders", TopicConfig::default()) {
                    Ok(orders) => break orders,
                    Err(Error::TopicExists { .. }) => thread::yield_now(),
                    Err(other) => panic!("{other}"),
                }
            };
            let offset = append(&orders, 0, "x").unwrap() + 1;
            broker.reset_group("g", [(at.clone(), OffsetAndMetadata::new(offset))]).unwrap();
        });
        let group = broker.describe_group("g").unwrap().unwrap();
        assert_eq!(group.offsets[0].committed.offset, 1);
        broker.delete_topic("orders").unwrap();
    }
}
