//! Many threads on one producer.

use std::collections::BTreeMap;
use std::sync::mpsc;
use std::thread;

use super::*;
use crate::error::Error;
use crate::fs::faults::Operation;

const THREADS: usize = 8;

/// Holds every write to a log file back until it is let go; the file system does nothing else
/// meanwhile.
fn hold_writes(world: &World) -> (mpsc::Receiver<()>, mpsc::Sender<()>) {
    let (entered, has_entered) = mpsc::channel();
    let (release, may_go) = mpsc::channel::<()>();
    world.fs.fail_when(move |operation, path| {
        let is_log = path.extension().is_some_and(|extension| extension == "log");
        if operation == Operation::Write && is_log {
            entered.send(()).ok();
            may_go.recv().ok();
        }
        None
    });
    (has_entered, release)
}

/// Checks that the records of each thread are there once each and in the order it sent them.
fn assert_in_order(values: &[String], expected: &BTreeMap<usize, usize>) {
    let mut next: BTreeMap<usize, usize> = BTreeMap::new();
    for value in values {
        let (thread, n) = value.split_once(':').unwrap();
        let seen = next.entry(thread.parse().unwrap()).or_default();
        assert_eq!(n.parse::<usize>().unwrap(), *seen, "records of thread {thread}");
        *seen += 1;
    }
    assert_eq!(&next, expected);
}

#[test]
fn records_of_one_thread_keep_their_order_whatever_the_others_do() {
    const RECORDS: usize = 2_000;
    for linger in [Duration::ZERO, Duration::from_millis(1), LONG] {
        let broker = Broker::in_memory().unwrap();
        let topic = broker.create_topic("orders", written()).unwrap();
        let builder = broker.producer().linger(linger).batch_size(700).buffer_memory(5_000);
        let producer = builder.build().unwrap();
        thread::scope(|scope| {
            for thread in 0..THREADS {
                let (producer, topic) = (&producer, &topic);
                scope.spawn(move || {
                    for n in 0..RECORDS {
                        let value = format!("{thread}:{n}");
                        let mut record = Record::new(&value);
                        // Some come without waiting, and again if they have to.
                        if n % 3 == 0 {
                            match producer.try_send(topic, record) {
                                Ok(_) => continue,
                                Err(refused) => record = refused.record,
                            }
                        }
                        let delivery = producer.send(topic, record).unwrap();
                        if n % 97 == 0 {
                            delivery.wait().unwrap();
                        }
                    }
                });
            }
        });
        producer.flush().unwrap();
        let expected = (0..THREADS).map(|thread| (thread, RECORDS)).collect();
        assert_in_order(&values(&topic, 0), &expected);
        assert_eq!(producer.buffer_available(), 5_000);
    }
}

#[test]
fn closing_during_sends_stores_what_is_answered_and_answers_everything_else_with_an_error() {
    for round in 0..20 {
        let world = World::new();
        let topic = world.topic(written().partitions(2));
        let linger = if round % 2 == 0 { LONG } else { Duration::ZERO };
        let producer =
            world.producer(|builder| builder.linger(linger).batch_size(300).buffer_memory(2_000));
        let answers: Vec<Vec<_>> = thread::scope(|scope| {
            let sending: Vec<_> = (0..THREADS)
                .map(|thread| {
                    let (producer, topic) = (&producer, &topic);
                    scope.spawn(move || send_until_closed(producer, topic, thread))
                })
                .collect();
            while topic.size() < 20_000 {
                thread::yield_now();
            }
            world.broker.close().unwrap();
            sending.into_iter().map(|sending| sending.join().unwrap()).collect()
        });
        let mut expected: [BTreeMap<u64, String>; 2] = Default::default();
        for (value, delivery) in answers.into_iter().flatten() {
            let at = delivery.wait().unwrap();
            let partition = usize::try_from(at.topic_partition.partition()).unwrap();
            assert_eq!(expected[partition].insert(at.offset, value), None);
        }
        drop((topic, producer, world.broker));
        let broker = on(&world.fs).open().unwrap();
        for (partition, expected) in (0..).zip(expected) {
            let topic = broker.topic("orders").unwrap();
            let found: BTreeMap<_, _> = stored(&topic.partition(partition).unwrap())
                .into_iter()
                .map(|record| (record.offset, record.value))
                .collect();
            assert_eq!(found, expected, "round {round}");
        }
    }
}

/// Every send that was taken, until one is refused because the broker was closed.
fn send_until_closed(
    producer: &Producer,
    topic: &Topic,
    thread: usize,
) -> Vec<(String, super::super::Delivery)> {
    let mut taken = Vec::new();
    for n in 0.. {
        let value = format!("{thread}:{n}");
        match producer.send(topic, Record::new(&value)) {
            Ok(delivery) => taken.push((value, delivery)),
            Err(Error::Closed { .. }) => return taken,
            Err(other) => panic!("{other}"),
        }
    }
    taken
}

#[test]
fn while_one_thread_writes_others_go_on_filling_and_nothing_is_left_behind() {
    let world = World::new();
    let topic = world.topic(TopicConfig::default());
    let producer = world.producer(|builder| builder.linger(Duration::ZERO).batch_size(200));
    let (has_entered, release) = hold_writes(&world);
    thread::scope(|scope| {
        let writing = scope.spawn(|| send(&producer, &topic, "0:0"));
        has_entered.recv().unwrap();
        // None of these waits for the one that is being written, though they fill many batches.
        let deliveries: Vec<_> = (1..20)
            .map(|n| {
                let value = format!("0:{n}{}", "");
                producer.try_send(&topic, Record::new(&value)).unwrap()
            })
            .collect();
        assert!(deliveries.iter().all(|delivery| delivery.poll().is_none()));
        drop(release);
        writing.join().unwrap();
    });
    // The thread that had the turn has written for the others too.
    assert_eq!(topic.partition(0).unwrap().log_end_offset(), 20);
    world.fs.heal();
    producer.flush().unwrap();
    assert_in_order(&values(&topic, 0), &BTreeMap::from([(0, 20)]));
}

#[test]
fn what_a_thread_does_not_write_for_others_maintenance_does() {
    let world = World::new();
    let topic = world.topic(TopicConfig::default());
    // One record fills a batch.
    let producer = world.producer(|builder| builder.linger(Duration::ZERO).batch_size(1));
    let (has_entered, release) = hold_writes(&world);
    thread::scope(|scope| {
        let writing = scope.spawn(|| send(&producer, &topic, "0:0"));
        has_entered.recv().unwrap();
        for n in 1..50 {
            producer.try_send(&topic, Record::new(&format!("0:{n}"))).unwrap();
        }
        drop(release);
        writing.join().unwrap();
    });
    let partition = topic.partition(0).unwrap();
    assert!(partition.log_end_offset() < 50, "a send does not write for ever for others");
    world.broker.run_maintenance().unwrap();
    assert_in_order(&values(&topic, 0), &BTreeMap::from([(0, 50)]));
}

#[test]
fn waiting_no_longer_than_a_timeout_ends_also_while_another_thread_writes() {
    let world = World::new();
    let topic = world.topic(TopicConfig::default());
    let producer = world.producer(|builder| builder);
    let first = send(&producer, &topic, "a");
    let (has_entered, release) = hold_writes(&world);
    thread::scope(|scope| {
        let writing = scope.spawn(|| first.wait().unwrap());
        has_entered.recv().unwrap();
        let second = send(&producer, &topic, "b");
        assert!(second.wait_timeout(Duration::from_millis(5)).unwrap().is_none());
        drop(release);
        writing.join().unwrap();
        assert_eq!(second.wait().unwrap().offset, 1);
    });
}

#[test]
fn a_flush_waits_for_batches_that_another_thread_is_writing() {
    let world = World::new();
    let topic = world.topic(TopicConfig::default());
    let producer = world.producer(|builder| builder);
    let first = send(&producer, &topic, "a");
    let (has_entered, release) = hold_writes(&world);
    thread::scope(|scope| {
        let writing = scope.spawn(|| first.wait().unwrap());
        has_entered.recv().unwrap();
        let flushing = scope.spawn(|| producer.flush().unwrap());
        let partition = topic.partition(0).unwrap();
        assert_eq!(partition.recovery_point(), 0);
        drop(release);
        flushing.join().unwrap();
        assert_eq!(partition.recovery_point(), 1);
        writing.join().unwrap();
    });
}
