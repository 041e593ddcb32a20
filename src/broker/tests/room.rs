//! The cap of a topic holds to the byte whatever happens at the same time, and whoever waits for room
//! is told at once when there is no more to wait for.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::{append, open};
use crate::broker::Broker;
use crate::error::{Error, Result};
use crate::fs::faults::{FailingFileSystem, Operation};
use crate::log::config::{Durability, TopicConfig, WhenFull};
use crate::record::Record;
use crate::time::{ManualClock, Timestamp};
use crate::topic::Topic;

const LIMIT: u64 = 20_000;
const VALUE: [u8; 900] = [7; 900];

fn capped(broker: &Broker, when_full: WhenFull) -> Topic {
    let config = TopicConfig::default()
        .partitions(2)
        .max_bytes(LIMIT)
        .max_message_bytes(2_000)
        .segment_bytes(4_000)
        .when_full(when_full)
        .durability(Durability::Written { flush_interval: Duration::from_secs(1) });
    broker.create_topic("capped", config).unwrap()
}

fn fill(topic: &Topic) {
    while topic.size() + 1_000 < LIMIT {
        topic.partition(0).unwrap().append(&[Record::new(&VALUE)]).unwrap();
    }
}

/// Starts an append to a full topic, and returns when it waits for room.
fn blocked_append(topic: &Topic, partition: u32) -> thread::JoinHandle<Result<u64>> {
    let waiting = topic.clone();
    let appender = thread::spawn(move || {
        waiting.partition(partition)?.append(&[Record::new(&VALUE)]).map(|at| at.offset)
    });
    while !topic.room().is_wanted() {
        thread::yield_now();
    }
    appender
}

#[test]
fn the_cap_holds_to_the_byte_under_many_threads_and_every_policy() {
    for when_full in [WhenFull::Refuse, WhenFull::DropOldest, WhenFull::Block] {
        let fs = FailingFileSystem::over_memory();
        let broker = open(&fs);
        let topic = capped(&broker, when_full);
        let done = Arc::new(AtomicBool::new(false));
        let watcher = {
            let (topic, done) = (topic.clone(), Arc::clone(&done));
            thread::spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    assert!(topic.size() <= LIMIT, "{}", topic.size());
                    if when_full == WhenFull::Block {
                        for partition in topic.partitions() {
                            partition.delete_records(partition.high_watermark()).unwrap();
                        }
                    }
                    thread::yield_now();
                }
            })
        };
        let appenders = (0..4).map(|n| {
            let topic = topic.clone();
            thread::spawn(move || {
                let log = topic.partition(n % 2).unwrap();
                (0..100).filter(|_| log.append(&[Record::new(&VALUE)]).is_ok()).count()
            })
        });
        let appenders: Vec<_> = appenders.collect();
        let appended: usize = appenders.into_iter().map(|t| t.join().unwrap()).sum();
        done.store(true, Ordering::Relaxed);
        watcher.join().unwrap();
        if when_full == WhenFull::Refuse {
            assert!((18..=21).contains(&appended), "{appended}");
        } else {
            assert_eq!(appended, 400);
        }
    }
}

#[test]
fn closing_the_broker_ends_an_append_that_waits_for_room() {
    let broker = open(&FailingFileSystem::over_memory());
    let topic = capped(&broker, WhenFull::Block);
    fill(&topic);
    let appender = blocked_append(&topic, 1);
    broker.close().unwrap();
    assert!(matches!(appender.join().unwrap(), Err(Error::Closed { .. })));
}

#[test]
fn deleting_the_topic_ends_an_append_that_waits_for_room() {
    let broker = open(&FailingFileSystem::over_memory());
    let topic = capped(&broker, WhenFull::Block);
    fill(&topic);
    let appender = blocked_append(&topic, 1);
    broker.delete_topic("capped").unwrap();
    assert!(matches!(appender.join().unwrap(), Err(Error::Closed { .. })));
}

#[test]
fn closing_the_broker_does_not_wait_for_room_for_what_producers_hold() {
    let broker = open(&FailingFileSystem::over_memory());
    let topic = capped(&broker, WhenFull::Block);
    fill(&topic);
    let producer = broker.producer().linger(Duration::from_secs(60)).build().unwrap();
    let delivery = producer.send(&topic, Record::new(&VALUE)).unwrap();
    let error = broker.close().unwrap_err();
    let is_full = |error: &Error| match error {
        Error::SendFailed { source, .. } => matches!(**source, Error::TopicFull { .. }),
        _ => false,
    };
    assert!(is_full(&error), "{error}");
    assert!(is_full(&delivery.wait().unwrap_err()));
}

#[test]
fn room_that_retention_makes_is_given_to_who_waits() {
    let fs = FailingFileSystem::over_memory();
    let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_700_000_000_000)));
    let broker = super::builder(&fs).clock(clock.clone()).open().unwrap();
    let topic = capped(&broker, WhenFull::Block);
    fill(&topic);
    let appender = blocked_append(&topic, 1);
    clock.advance(Duration::from_secs(10));
    let hour = Duration::from_secs(1);
    broker.alter_topic("capped", topic.config().retention_ms(hour)).unwrap();
    while !appender.is_finished() {
        // Not the time for retention yet; but somebody wants room.
        broker.run_maintenance().unwrap();
    }
    assert_eq!(appender.join().unwrap().unwrap(), 0);
}

#[test]
fn a_higher_limit_is_room() {
    let broker = open(&FailingFileSystem::over_memory());
    let topic = capped(&broker, WhenFull::Block);
    fill(&topic);
    let appender = blocked_append(&topic, 1);
    broker.alter_topic("capped", topic.config().max_bytes(2 * LIMIT)).unwrap();
    assert_eq!(appender.join().unwrap().unwrap(), 0);
}

#[test]
fn a_partition_that_has_failed_does_not_keep_others_from_making_room() {
    let fs = FailingFileSystem::over_memory();
    let broker = open(&fs);
    let topic = capped(&broker, WhenFull::DropOldest);
    append(&topic, 1, "the oldest record of all").unwrap();
    fill(&topic);
    fs.fail_next(Operation::SyncData, "capped-1/00000000000000000000.log", ErrorKind::Other);
    topic.partition(1).unwrap().flush().unwrap_err();
    for _ in 0..50 {
        topic.partition(0).unwrap().append(&[Record::new(&VALUE)]).unwrap();
        assert!(topic.size() <= LIMIT);
    }
}

#[test]
fn a_failed_append_leaves_the_room_to_others() {
    let fs = FailingFileSystem::over_memory();
    let broker = open(&fs);
    let topic = capped(&broker, WhenFull::Refuse);
    fs.fail_next(Operation::Write, ".log", ErrorKind::StorageFull);
    assert!(matches!(append(&topic, 0, "x"), Err(Error::StorageFull { .. })));
    assert_eq!(topic.size(), 0);
    fill(&topic);
    assert!(matches!(
        topic.partition(1).unwrap().append(&[Record::new(&VALUE), Record::new(&VALUE)]),
        Err(Error::TopicFull { .. })
    ));
}
