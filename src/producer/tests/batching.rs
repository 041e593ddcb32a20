//! When batches are written, and what is in them.

use super::*;
use crate::error::Error;
use crate::record::{Compression, TimestampType};
use crate::topic::partitioner::{Partitioner, Placement};

#[test]
fn a_batch_lingers_until_its_time_has_come_and_no_longer() {
    let world = World::new();
    let topic = world.topic(written());
    let producer = world.broker.producer().linger(Duration::from_millis(5)).build().unwrap();
    let delivery = send(&producer, &topic, "a");
    world.clock.advance(Duration::from_millis(4));
    world.broker.run_maintenance().unwrap();
    assert!(delivery.poll().is_none());
    send(&producer, &topic, "b");
    world.clock.advance(Duration::from_millis(1));
    world.broker.run_maintenance().unwrap();
    assert_eq!(delivery.poll().unwrap().unwrap().offset, 0);
    assert_eq!(
        values(&topic, 0),
        ["a", "b"],
        "the second one counts from when the batch was opened"
    );
}

#[test]
fn the_background_thread_is_woken_for_linger() {
    let broker = Broker::in_memory().unwrap();
    let topic = broker.create_topic("orders", TopicConfig::default()).unwrap();
    let producer = broker.producer().linger(Duration::from_millis(1)).build().unwrap();
    let wakeup = Arc::new(crate::log::end_offsets::Wakeup::default());
    let partition = topic.partition(0).unwrap();
    let ends = partition.log().ends();
    ends.register(&wakeup);
    let delivery = send(&producer, &topic, "a");
    // Without being woken the thread would run twice a second; what is measured here is only that
    // somebody writes and syncs at all.
    assert!(wakeup.wait(crate::time::Deadline::after(Duration::from_secs(60))));
    assert_eq!(delivery.poll().unwrap().unwrap().offset, 0);
    ends.unregister(&wakeup);
}

#[test]
fn without_linger_every_record_is_written_at_once() {
    let world = World::new();
    let topic = world.topic(written());
    let producer = world.broker.producer().linger(Duration::ZERO).build().unwrap();
    for (offset, value) in ["a", "b", "c"].into_iter().enumerate() {
        let delivery = send(&producer, &topic, value);
        assert_eq!(delivery.poll().unwrap().unwrap().offset, offset as u64);
    }
    let bases: Vec<_> =
        stored(&topic.partition(0).unwrap()).iter().map(|r| r.base_offset).collect();
    assert_eq!(bases, [0, 1, 2]);
}

#[test]
fn waiting_for_one_record_writes_its_batch_and_those_before_it_and_no_later_one() {
    let world = World::new();
    let topic = world.topic(written().partitions(2));
    // Room for one record of 100 bytes and no second one.
    let producer = world.producer(|builder| builder.batch_size(200));
    let value = "x".repeat(100);
    let deliveries: Vec<_> =
        (0..3).map(|_| producer.send(&topic, Record::new(&value).partition(0)).unwrap()).collect();
    let elsewhere = producer.send(&topic, Record::new(&value).partition(1)).unwrap();
    assert!(deliveries[1].poll().is_some(), "the third record has pushed the second one out");
    assert!(deliveries[2].poll().is_none());
    assert_eq!(deliveries.into_iter().nth(2).unwrap().wait().unwrap().offset, 2);
    assert!(elsewhere.poll().is_none());
}

#[test]
fn a_batch_never_grows_beyond_its_size_and_a_larger_record_has_its_own() {
    let world = World::new();
    let topic = world.topic(written());
    let producer = world.producer(|builder| builder.batch_size(1_000));
    let large = "y".repeat(5_000);
    for _ in 0..20 {
        send(&producer, &topic, &"x".repeat(100));
    }
    let own = send(&producer, &topic, &large);
    assert!(own.poll().is_some(), "a batch that is full from the beginning is written at once");
    send(&producer, &topic, "z");
    producer.flush().unwrap();
    let all = stored(&topic.partition(0).unwrap());
    assert_eq!(all.len(), 22);
    // 61 bytes of header and 107 for each record.
    let first = all.iter().filter(|record| record.base_offset == 0).count();
    assert_eq!(first, (1_000 - 61) / 107);
    let alone: Vec<_> = all.iter().filter(|record| record.base_offset == 20).collect();
    assert_eq!(alone.len(), 1);
    assert_eq!(alone[0].value, large);
}

#[test]
fn records_are_not_joined_to_a_batch_that_their_topic_would_refuse() {
    let world = World::new();
    let topic = world.topic(written().max_message_bytes(512));
    let producer = world.producer(|builder| builder);
    for _ in 0..100 {
        send(&producer, &topic, &"x".repeat(100));
    }
    producer.flush().unwrap();
    assert_eq!(values(&topic, 0).len(), 100);
}

#[test]
fn flush_answers_every_send_of_every_partition() {
    let world = World::new();
    let topic = world.topic(TopicConfig::default().partitions(3));
    let producer = world.producer(|builder| builder);
    let deliveries: Vec<_> = (0..30)
        .map(|i| producer.send(&topic, Record::new("v").partition(i % 3)).unwrap())
        .collect();
    assert_eq!(topic.partition(0).unwrap().log_end_offset(), 0);
    producer.flush().unwrap();
    for delivery in &deliveries {
        assert!(delivery.poll().unwrap().is_ok());
    }
    for partition in topic.partitions() {
        assert_eq!(partition.recovery_point(), 10);
    }
    assert!(producer.0.accumulator.unflushed.lock().is_empty(), "there is nothing left to flush");
    producer.flush().unwrap();
}

#[test]
fn under_fsync_nothing_is_answered_nor_visible_before_the_sync() {
    let world = World::new();
    let topic = world.topic(TopicConfig::default());
    let producer = world.broker.producer().linger(Duration::ZERO).build().unwrap();
    let delivery = send(&producer, &topic, "a");
    let partition = topic.partition(0).unwrap();
    assert_eq!((partition.log_end_offset(), partition.high_watermark()), (1, 0));
    assert!(delivery.poll().is_none());
    assert_eq!(values(&topic, 0), Vec::<String>::new());
    let at = delivery.wait().unwrap();
    assert_eq!((at.offset, partition.recovery_point()), (0, 1));
    assert_eq!(values(&topic, 0), ["a"]);
}

#[test]
fn one_wait_syncs_once_for_the_whole_batch() {
    let world = World::new();
    let topic = world.topic(TopicConfig::default());
    let producer = world.producer(|builder| builder);
    let deliveries: Vec<_> = (0..10).map(|_| send(&producer, &topic, "v")).collect();
    let before = world.broker.metrics().unwrap().syncs;
    for (offset, delivery) in deliveries.into_iter().enumerate() {
        assert_eq!(delivery.wait().unwrap().offset, offset as u64);
    }
    assert_eq!(world.broker.metrics().unwrap().syncs - before, 1);
}

#[test]
fn wait_timeout_writes_and_syncs_too() {
    let world = World::new();
    let topic = world.topic(TopicConfig::default());
    let producer = world.producer(|builder| builder);
    let delivery = send(&producer, &topic, "a");
    let at = delivery.wait_timeout(Duration::ZERO).unwrap().unwrap();
    assert_eq!(at.offset, 0);
    assert_eq!(delivery.wait_timeout(LONG).unwrap().unwrap(), at, "it may be asked again");
}

#[test]
fn a_timestamp_is_the_records_own_or_that_of_the_opening_of_its_batch() {
    let world = World::new();
    let topic = world.topic(written());
    let producer = world.producer(|builder| builder);
    let first = send(&producer, &topic, "a");
    world.clock.advance(Duration::from_secs(1));
    let own = Timestamp::from_millis(T0.as_millis() - 77);
    let second = producer.send(&topic, Record::new("b").timestamp(own)).unwrap();
    let third = send(&producer, &topic, "c");
    let told: Vec<_> =
        [first, second, third].map(|delivery| delivery.wait().unwrap().timestamp).into();
    assert_eq!(told, [T0, own, T0]);
    let all = stored(&topic.partition(0).unwrap());
    assert_eq!(all.iter().map(|record| record.timestamp).collect::<Vec<_>>(), told);
}

#[test]
fn a_topic_that_stamps_records_itself_says_so_in_the_answer() {
    let world = World::new();
    let topic = world.topic(written().message_timestamp_type(TimestampType::LogAppendTime));
    let producer = world.producer(|builder| builder);
    let delivery = producer.send(&topic, Record::new("a").timestamp(Timestamp::NONE)).unwrap();
    world.clock.advance(Duration::from_secs(1));
    let later = T0.saturating_add(Duration::from_secs(1));
    assert_eq!(delivery.wait().unwrap().timestamp, later);
    assert_eq!(stored(&topic.partition(0).unwrap())[0].timestamp, later);
}

#[test]
fn a_timestamp_that_the_topic_refuses_harms_no_other_record() {
    let world = World::new();
    let topic = world.topic(written().message_timestamp_before_max(Duration::from_secs(60)));
    let producer = world.producer(|builder| builder);
    let good = send(&producer, &topic, "good");
    for millis in [-61_000, 3_601_000] {
        let timestamp = Timestamp::from_millis(T0.as_millis() + millis);
        let error = producer.send(&topic, Record::new("bad").timestamp(timestamp)).unwrap_err();
        assert!(matches!(error, Error::InvalidRecord { .. }), "{error}");
        assert!(error.to_string().contains("message.timestamp."), "{error}");
    }
    good.wait().unwrap();
    // And as the first of a batch.
    let timestamp = Timestamp::from_millis(T0.as_millis() + 3_601_000);
    assert!(producer.send(&topic, Record::new("bad").timestamp(timestamp)).is_err());
    producer.flush().unwrap();
    assert_eq!(values(&topic, 0), ["good"]);
}

#[test]
fn batches_are_compressed_as_the_topic_says_and_else_as_the_producer_says() {
    let world = World::new();
    let size = |name: &str, of_topic: Option<Compression>| {
        let config = written().compression(of_topic);
        let topic = world.broker.create_topic(name, config).unwrap();
        let producer = world.producer(|builder| builder.compression(Compression::Lz4));
        send(&producer, &topic, &"x".repeat(1_000)).wait().unwrap();
        assert_eq!(values(&topic, 0), ["x".repeat(1_000)]);
        topic.size()
    };
    assert!(size("producers", None) < 200);
    assert!(size("plain", Some(Compression::None)) > 1_000);
}

#[test]
fn keys_go_where_kafka_puts_them_and_a_chosen_partition_wins() {
    let world = World::new();
    let topic = world.topic(written().partitions(50));
    let producer = world.producer(|builder| builder);
    // Key and partition of 50, from Kafka's own hash.
    for (key, partition) in [("", 31), ("a", 24), ("user-1", 28), ("日本語", 20), ("key", 31)] {
        let delivery = producer.send(&topic, Record::new("v").key(key)).unwrap();
        assert_eq!(delivery.wait().unwrap().topic_partition.partition(), partition, "{key:?}");
    }
    let chosen = producer.send(&topic, Record::new("v").key("a").partition(3)).unwrap();
    assert_eq!(chosen.wait().unwrap().topic_partition.partition(), 3);
}

#[test]
fn records_without_a_key_fill_one_batch_and_then_go_to_the_next_partition() {
    let world = World::new();
    let topic = world.topic(written().partitions(3));
    // Three records of 10 bytes fit.
    let producer = world.producer(|builder| builder.batch_size(61 + 3 * 17));
    let deliveries: Vec<_> = (0..18).map(|_| send(&producer, &topic, "0123456789")).collect();
    producer.flush().unwrap();
    let partitions: Vec<_> = deliveries
        .into_iter()
        .map(|delivery| delivery.wait().unwrap().topic_partition.partition())
        .collect();
    for three in partitions.chunks(3) {
        assert_eq!(three, [three[0]; 3]);
    }
    let turns: Vec<_> = partitions.chunks(3).map(|three| three[0]).collect();
    for pair in turns.windows(2) {
        assert_eq!(pair[1], (pair[0] + 1) % 3, "{turns:?}");
    }
}

#[test]
fn partitions_that_are_added_are_used_by_a_running_producer() {
    let world = World::new();
    let topic = world.topic(written());
    let producer = world.producer(|builder| builder.linger(Duration::ZERO));
    send(&producer, &topic, "a");
    let error = producer.send(&topic, Record::new("b").partition(3)).unwrap_err();
    assert!(matches!(error, Error::UnknownPartition { partition: 3, partitions: 1, .. }));
    world.broker.add_partitions("orders", 4).unwrap();
    producer.send(&topic, Record::new("b").partition(3)).unwrap();
    for _ in 0..8 {
        send(&producer, &topic, "c");
    }
    world.broker.add_partitions("orders", 6).unwrap();
    for _ in 0..12 {
        send(&producer, &topic, "d");
    }
    for partition in topic.partitions() {
        assert!(partition.log_end_offset() >= 2, "{partition:?}");
    }
}

#[test]
fn a_partitioner_that_chooses_what_is_not_there_fails_that_send_alone() {
    #[derive(Debug)]
    struct Beyond;
    impl Partitioner for Beyond {
        fn place(&self, key: Option<&[u8]>, _: Option<&[u8]>, partitions: u32) -> Placement {
            Placement::Partition(if key.is_some() { partitions } else { 0 })
        }
    }
    let world = World::new();
    let topic = world.topic(written().partitions(2));
    let producer = world.producer(|builder| builder.partitioner(Beyond));
    let error = producer.send(&topic, Record::new("v").key("k")).unwrap_err();
    assert!(matches!(error, Error::UnknownPartition { partition: 2, .. }), "{error}");
    assert_eq!(send(&producer, &topic, "v").wait().unwrap().offset, 0);
}

#[test]
fn many_topics_are_told_apart() {
    let world = World::new();
    let producer = world.producer(|builder| builder);
    // More topics than there are buckets for them.
    let topics: Vec<_> =
        (0..300).map(|i| world.broker.create_topic(&format!("t{i}"), written()).unwrap()).collect();
    for round in 0..2 {
        for topic in &topics {
            producer.send(topic, Record::new(topic.name())).unwrap();
        }
        producer.flush().unwrap();
        for topic in &topics {
            assert_eq!(values(topic, 0), vec![topic.name(); round + 1]);
        }
    }
}

#[test]
fn a_timestamp_is_judged_by_the_time_of_its_send() {
    let world = World::new();
    let topic = world.topic(written().message_timestamp_after_max(Duration::ZERO));
    let producer = world.producer(|builder| builder);
    for second in 0..3 {
        let now = T0.saturating_add(Duration::from_secs(second));
        producer.send(&topic, Record::new("v").timestamp(now)).unwrap();
        world.clock.advance(Duration::from_secs(1));
    }
    producer.flush().unwrap();
    assert_eq!(values(&topic, 0).len(), 3);
}
