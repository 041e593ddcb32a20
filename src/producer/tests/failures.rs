//! What becomes of sends when the disk, the topic, the broker or the user's code fails.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::*;
use crate::error::Error;
use crate::fs::faults::Operation;
use crate::topic::partitioner::{DefaultPartitioner, Partitioner, Placement};

fn source(error: &Error) -> &Error {
    match error {
        Error::SendFailed { source, .. } => source,
        other => panic!("{other}"),
    }
}

/// Fails every write to a log file for want of space.
fn fill_disk(world: &World) {
    world.fs.fail_when(|operation, path| {
        let is_log = path.extension().is_some_and(|extension| extension == "log");
        (operation == Operation::Write && is_log).then(|| io::ErrorKind::StorageFull.into())
    });
}

#[test]
fn a_failed_append_is_told_to_every_delivery_of_the_batch_and_the_next_batch_goes_on() {
    let world = World::new();
    let topic = world.topic(TopicConfig::default());
    let producer = world.producer(|builder| builder.buffer_memory(16_384));
    let deliveries: Vec<_> = (0..3).map(|_| send(&producer, &topic, "lost")).collect();
    fill_disk(&world);
    for delivery in deliveries {
        let error = delivery.wait().unwrap_err();
        assert!(matches!(source(&error), Error::StorageFull { .. }), "{error}");
        assert!(error.is_retriable());
    }
    assert_eq!(producer.buffer_available(), 16_384);
    world.fs.heal();
    assert_eq!(send(&producer, &topic, "kept").wait().unwrap().offset, 0);
    producer.flush().expect("the failure was heard of already");
    assert_eq!(values(&topic, 0), ["kept"]);
}

#[test]
fn a_failure_that_nobody_heard_of_comes_out_of_the_next_flush_and_only_there() {
    let world = World::new();
    let topic = world.topic(TopicConfig::default());
    let producer = world.producer(|builder| builder);
    fill_disk(&world);
    drop(send(&producer, &topic, "lost"));
    let error = producer.flush().unwrap_err();
    assert!(matches!(source(&error), Error::StorageFull { .. }), "{error}");
    producer.flush().unwrap();
    // Also when the background thread was the one that failed.
    drop(send(&producer, &topic, "lost"));
    world.clock.advance(LONG);
    world.broker.run_maintenance().unwrap();
    world.fs.heal();
    send(&producer, &topic, "kept").wait().unwrap();
    assert!(producer.flush().is_err());
    producer.flush().unwrap();
}

#[test]
fn failures_that_are_never_asked_about_take_no_memory() {
    let world = World::new();
    let topic = world.topic(TopicConfig::default());
    let producer = world.producer(|builder| builder.linger(Duration::ZERO));
    fill_disk(&world);
    for _ in 0..100 {
        drop(send(&producer, &topic, "lost"));
    }
    assert!(producer.0.accumulator.unheard.lock().len() <= 2);
    assert!(producer.flush().is_err());
    assert!(producer.0.accumulator.unwritten.lock().batches.is_empty());
}

#[test]
fn a_failed_sync_fails_those_who_wait_and_the_flush_and_every_later_send() {
    let world = World::new();
    let topic = world.topic(TopicConfig::default());
    let producer = world.producer(|builder| builder.linger(Duration::ZERO));
    let (waiting, polling) = (send(&producer, &topic, "a"), send(&producer, &topic, "b"));
    world.fs.fail_next(Operation::SyncData, ".log", io::Error::from_raw_os_error(5));
    let error = waiting.wait().unwrap_err();
    assert!(matches!(source(&error), Error::PartitionFailed { .. }) && error.is_fatal(), "{error}");
    assert!(polling.poll().unwrap().is_err(), "nobody will ever sync it");
    assert!(matches!(producer.flush().unwrap_err(), Error::PartitionFailed { .. }));
    let error = producer.send(&topic, Record::new("c")).unwrap_err();
    assert!(matches!(error, Error::PartitionFailed { .. }), "{error}");
}

#[test]
fn a_sync_that_fails_in_the_background_comes_out_of_flush() {
    let world = World::new();
    let topic = world.topic(TopicConfig::default());
    let producer = world.producer(|builder| builder.linger(Duration::ZERO));
    drop(send(&producer, &topic, "a"));
    world.fs.fail_next(Operation::SyncData, ".log", io::Error::from_raw_os_error(5));
    assert!(world.broker.run_maintenance().is_err());
    assert!(matches!(producer.flush().unwrap_err(), Error::PartitionFailed { .. }));
}

#[test]
fn a_deleted_topic_answers_with_closed() {
    let world = World::new();
    let topic = world.topic(written());
    let producer = world.producer(|builder| builder);
    let delivery = send(&producer, &topic, "a");
    world.broker.delete_topic("orders").unwrap();
    assert!(matches!(delivery.wait().unwrap_err(), Error::Closed { .. }));
    let error = producer.send(&topic, Record::new("b")).unwrap_err();
    assert!(matches!(error, Error::Closed { .. }), "{error}");
    // A topic of the same name is another one.
    let again = world.topic(written());
    assert_eq!(send(&producer, &again, "c").wait().unwrap().offset, 0);
}

#[test]
fn a_deleted_topic_is_let_go_of() {
    let world = World::new();
    let topic = world.topic(TopicConfig::default());
    let producer = world.producer(|builder| builder.linger(Duration::ZERO));
    drop(send(&producer, &topic, "a"));
    world.broker.delete_topic("orders").unwrap();
    let log = Arc::downgrade(topic.partition(0).unwrap().log());
    drop(topic);
    assert!(log.upgrade().is_none(), "the producer keeps no files of it open");
    producer.flush().unwrap();
}

#[test]
fn closing_the_broker_writes_what_is_buffered_and_answers_it() {
    let world = World::new();
    let topic = world.topic(TopicConfig::default());
    let producer = world.producer(|builder| builder);
    let delivery = send(&producer, &topic, "a");
    world.broker.close().unwrap();
    assert_eq!(delivery.poll().unwrap().unwrap().offset, 0);
    let error = producer.send(&topic, Record::new("b")).unwrap_err();
    assert!(matches!(error, Error::Closed { what: "the broker" }), "{error}");
    assert!(matches!(world.broker.producer().build().unwrap_err(), Error::Closed { .. }));
    let reopened = on(&world.fs).open();
    drop((topic, producer, world.broker));
    let reopened = reopened.or_else(|_| on(&world.fs).open()).unwrap();
    assert_eq!(values(&reopened.topic("orders").unwrap(), 0), ["a"]);
}

#[test]
fn dropping_the_last_clone_writes_what_is_buffered() {
    let world = World::new();
    let topic = world.topic(written());
    let producer = world.producer(|builder| builder);
    let clone = producer.clone();
    let delivery = send(&producer, &topic, "a");
    drop(producer);
    assert!(delivery.poll().is_none(), "a clone is left");
    drop(clone);
    assert_eq!(delivery.poll().unwrap().unwrap().offset, 0);
    assert_eq!(delivery.wait().unwrap().offset, 0);
}

#[test]
fn a_read_only_broker_has_no_producer() {
    let world = World::new();
    world.broker.close().unwrap();
    let reader = on(&world.fs).open_read_only().unwrap();
    let error = reader.producer().build().unwrap_err();
    assert!(matches!(error, Error::ReadOnly { .. }), "{error}");
}

#[test]
fn a_panicking_partitioner_leaves_no_lock_held_and_no_half_batch() {
    #[derive(Debug)]
    struct Panicky;
    impl Partitioner for Panicky {
        fn place(&self, key: Option<&[u8]>, value: Option<&[u8]>, partitions: u32) -> Placement {
            assert_ne!(key, Some(&b"bad"[..]), "on purpose");
            DefaultPartitioner.place(key, value, partitions)
        }
    }
    let world = World::new();
    let topic = world.topic(written());
    let producer = world.producer(|builder| builder.partitioner(Panicky));
    send(&producer, &topic, "a");
    let bad = AssertUnwindSafe(|| producer.send(&topic, Record::new("x").key("bad")));
    assert!(catch_unwind(bad).is_err());
    send(&producer, &topic, "b");
    producer.flush().unwrap();
    let all = stored(&topic.partition(0).unwrap());
    assert_eq!(all.iter().map(|record| record.base_offset).collect::<Vec<_>>(), [0, 0]);
}

#[test]
fn a_clock_that_panics_while_a_batch_is_written_fails_that_batch_alone() {
    use std::sync::atomic::{AtomicBool, Ordering};
    #[derive(Debug)]
    struct Panicky(AtomicBool);
    impl crate::time::Clock for Panicky {
        fn now(&self) -> Timestamp {
            assert!(!self.0.swap(false, Ordering::SeqCst), "on purpose");
            T0
        }
        fn monotonic(&self) -> Duration {
            Duration::ZERO
        }
    }
    let clock = Arc::new(Panicky(AtomicBool::new(false)));
    let builder = BrokerBuilder::in_memory().clock(clock.clone()).background_thread(false);
    let broker = builder.open().unwrap();
    let topic = broker.create_topic("orders", written()).unwrap();
    let producer = broker.producer().linger(LONG).build().unwrap();
    let (first, second) = (send(&producer, &topic, "a"), send(&producer, &topic, "b"));
    clock.0.store(true, Ordering::SeqCst);
    assert!(catch_unwind(AssertUnwindSafe(|| first.wait())).is_err());
    let error = second.wait().unwrap_err();
    assert!(matches!(source(&error), Error::InvalidState(_)), "{error}");
    assert_eq!(producer.buffer_available(), 32 << 20);
    assert_eq!(send(&producer, &topic, "c").wait().unwrap().offset, 0);
}

#[test]
fn internal_topics_take_no_records_from_users() {
    let world = World::new();
    let config = written();
    let internal = world.broker.manager().create_topic("__internal", config).unwrap();
    let producer = world.producer(|builder| builder);
    let error = producer.send(&internal, Record::new("v")).unwrap_err();
    assert!(matches!(error, Error::InvalidState(_)), "{error}");
}

#[test]
fn records_without_a_key_avoid_a_partition_that_has_failed() {
    let world = World::new();
    let topic = world.topic(TopicConfig::default().partitions(3));
    let producer = world.producer(|builder| builder.linger(Duration::ZERO));
    let failing = producer.send(&topic, Record::new("a").partition(1)).unwrap();
    world.fs.fail_next(Operation::SyncData, ".log", io::Error::from_raw_os_error(5));
    assert!(failing.wait().is_err());
    for _ in 0..6 {
        send(&producer, &topic, "b").wait().unwrap();
    }
    let ends: Vec<_> = topic.partitions().iter().map(Partition::log_end_offset).collect();
    assert_eq!(ends[1], 1);
    assert!(ends[0] > 0 && ends[2] > 0, "{ends:?}");
}
