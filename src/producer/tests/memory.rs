//! What a producer buffers, and what it does when that is used up.

use super::*;
use crate::error::Error;
use crate::log::config::WhenFull;

const ONE_BATCH: usize = 1_000;

fn two_batches(builder: ProducerBuilder) -> ProducerBuilder {
    builder.batch_size(ONE_BATCH).buffer_memory(2 * ONE_BATCH)
}

#[test]
fn try_send_gives_the_record_back_when_the_memory_is_used_up() {
    let world = World::new();
    let topic = world.topic(written().partitions(3));
    let producer = world.producer(two_batches);
    for partition in 0..2 {
        producer.try_send(&topic, Record::new("v").partition(partition)).unwrap();
    }
    assert_eq!(producer.buffer_available(), 0);
    let record = Record::new("w").key("k").header("h", "1").partition(2);
    let refused = producer.try_send(&topic, record.clone()).unwrap_err();
    assert!(matches!(refused.error, Error::BufferFull { limit: 2_000 }), "{}", refused.error);
    assert_eq!(refused.record, record);
    // What joins an open batch needs no memory.
    producer.try_send(&topic, Record::new("x").partition(0)).unwrap();
    producer.flush().unwrap();
    assert_eq!(producer.buffer_available(), 2_000);
    producer.try_send(&topic, refused.record).unwrap();
}

#[test]
fn send_writes_the_oldest_batch_to_make_room() {
    let world = World::new();
    let topic = world.topic(written().partitions(3));
    let producer = world.producer(two_batches);
    let deliveries: Vec<_> = (0..3)
        .map(|partition| producer.send(&topic, Record::new("v").partition(partition)).unwrap())
        .collect();
    let answered: Vec<_> = deliveries.iter().map(|delivery| delivery.poll().is_some()).collect();
    assert_eq!(answered, [true, false, false]);
}

#[test]
fn a_batch_that_is_full_makes_room_for_its_successor() {
    let world = World::new();
    let topic = world.topic(written());
    let producer = world.producer(|builder| builder.batch_size(200).buffer_memory(200));
    for _ in 0..10 {
        producer.try_send(&topic, Record::new(&"x".repeat(100))).unwrap();
    }
    producer.flush().unwrap();
    assert_eq!(values(&topic, 0).len(), 10);
}

#[test]
fn a_record_that_is_too_large_is_refused_before_anything_is_buffered() {
    let world = World::new();
    let topic = world.topic(written().max_message_bytes(2_000));
    let producer = world.producer(|builder| builder.batch_size(500).buffer_memory(1_000));
    let waiting = send(&producer, &topic, "a");
    for (len, expected) in [(1_940, "max.message.bytes"), (1_000, "buffer.memory")] {
        match producer.send(&topic, Record::new(&"x".repeat(len))).unwrap_err() {
            Error::RecordTooLarge { setting, size, .. } => {
                assert_eq!(setting, expected);
                assert!(size > len as u64);
            }
            other => panic!("{other}"),
        }
        assert!(waiting.poll().is_none(), "the open batch is left alone");
        assert_eq!(producer.buffer_available(), 500);
    }
    waiting.wait().unwrap();
    assert_eq!(producer.buffer_available(), 1_000);
}

#[test]
fn every_way_out_gives_the_memory_back() {
    let world = World::new();
    let topic = world.topic(written().partitions(2).max_message_bytes(1_000));
    let gone = world.broker.create_topic("gone", written()).unwrap();
    let producer = world.producer(|builder| builder.batch_size(500).buffer_memory(5_000));
    let lost = send(&producer, &gone, "v");
    world.broker.delete_topic("gone").unwrap();
    assert!(matches!(lost.wait().unwrap_err(), Error::Closed { .. }));
    assert!(producer.send(&gone, Record::new("v")).is_err());
    assert!(producer.send(&topic, Record::new(&"x".repeat(1_000))).is_err());
    assert!(producer.send(&topic, Record::new("v").partition(9)).is_err());
    let future = T0.saturating_add(Duration::from_secs(7_200));
    assert!(producer.send(&topic, Record::new("v").timestamp(future)).is_err());
    drop(send(&producer, &topic, &"x".repeat(900)));
    assert_eq!(producer.buffer_available(), 5_000);
    let other = producer.clone();
    producer.close().unwrap();
    assert!(matches!(other.send(&topic, Record::new("v")).unwrap_err(), Error::Closed { .. }));
    assert_eq!(other.buffer_available(), 5_000);
}

/// A topic that is full and waits for room, and a producer whose memory one batch for it uses up.
fn stuck(world: &World, max_block: Duration) -> (Topic, Topic, Producer) {
    let config = written()
        .max_message_bytes(1_024)
        .segment_bytes(1_024)
        .max_bytes(2_048)
        .when_full(WhenFull::Block);
    let full = world.broker.create_topic("full", config).unwrap();
    // Two segments: the first one can go.
    for _ in 0..2 {
        full.partition(0).unwrap().append(&[Record::new(&"x".repeat(900))]).unwrap();
    }
    let free = world.broker.create_topic("free", written()).unwrap();
    let producer =
        world.producer(|builder| builder.batch_size(500).buffer_memory(500).max_block(max_block));
    (full, free, producer)
}

#[test]
fn a_send_that_finds_no_memory_in_time_says_so_and_keeps_what_it_waited_for() {
    let world = World::new();
    let (full, free, producer) = stuck(&world, Duration::from_millis(30));
    let kept = send(&producer, &full, &"y".repeat(200));
    let error = producer.send(&free, Record::new("v")).unwrap_err();
    assert!(matches!(error, Error::TimedOut { .. }), "{error}");
    let timeout = Duration::from_millis(1);
    let refused = producer.send_timeout(&free, Record::new("v"), timeout).unwrap_err();
    assert!(matches!(refused.error, Error::TimedOut { timeout: t, .. } if t == timeout));
    assert_eq!(refused.record.value(), Some(&b"v"[..]));
    assert!(kept.wait_timeout(Duration::from_millis(1)).unwrap().is_none(), "it may still go");
    full.partition(0).unwrap().delete_records(1).unwrap();
    producer.send(&free, refused.record).unwrap();
    assert_eq!(kept.poll().unwrap().unwrap().offset, 2);
}

#[test]
fn a_send_waits_for_memory_until_somebody_makes_room() {
    let world = World::new();
    let (full, free, producer) = stuck(&world, Duration::from_secs(60));
    let kept = send(&producer, &full, &"y".repeat(200));
    std::thread::scope(|scope| {
        let sending = scope.spawn(|| producer.send(&free, Record::new("v")).unwrap());
        full.partition(0).unwrap().delete_records(1).unwrap();
        sending.join().unwrap().wait().unwrap();
    });
    assert_eq!(kept.wait().unwrap().offset, 2);
}

#[test]
fn a_batch_for_a_full_topic_fails_when_max_block_is_over() {
    let world = World::new();
    let (full, _, producer) = stuck(&world, Duration::from_millis(20));
    let waited_for = send(&producer, &full, &"y".repeat(200));
    let error = waited_for.wait().unwrap_err();
    assert!(error.is_retriable(), "{error}");
    // And without anybody waiting for it: by the chore.
    let lingering = send(&producer, &full, &"y".repeat(200));
    world.clock.advance(LONG);
    world.broker.run_maintenance().unwrap();
    assert!(lingering.poll().is_none());
    world.clock.advance(Duration::from_millis(20));
    world.broker.run_maintenance().unwrap();
    assert!(matches!(lingering.poll().unwrap().unwrap_err(), Error::SendFailed { .. }));
    assert_eq!(producer.buffer_available(), 500);
}

#[test]
fn batches_that_wait_for_room_keep_their_order() {
    let world = World::new();
    let (full, _, _) = stuck(&world, LONG);
    let producer = world.producer(|builder| builder.batch_size(300));
    // Each but the first is tried in passing and put back.
    for value in ["a", "b", "c"] {
        producer.try_send(&full, Record::new(&value.repeat(200))).unwrap();
    }
    full.partition(0).unwrap().delete_records(1).unwrap();
    producer.flush().unwrap();
    let first = |value: &String| value[..1].to_owned();
    assert_eq!(values(&full, 0).iter().map(first).collect::<Vec<_>>(), ["x", "a", "b", "c"]);
}
