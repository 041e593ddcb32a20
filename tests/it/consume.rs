//! Goal: a consumer gets every record once and in order, whatever the sizes of polls and batches;
//! it waits no longer than it was told to, and wakes when there is something.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sapwood::{
    AutoOffsetReset, Broker, BrokerBuilder, Compression, Consumer, Durability, Error, ManualClock,
    Record, Timestamp, Topic, TopicConfig, TopicPartition,
};

const LONG: Duration = Duration::from_secs(60);

fn topic(broker: &Broker, name: &str, partitions: u32) -> Topic {
    broker.create_topic(name, TopicConfig::default().partitions(partitions)).unwrap()
}

/// Appends values `from..to` as text, in batches of so many records.
fn append(topic: &Topic, partition: u32, numbers: std::ops::Range<u64>, batch: usize) {
    let values: Vec<String> = numbers.map(|n| n.to_string()).collect();
    for values in values.chunks(batch) {
        let records: Vec<_> = values.iter().map(Record::new).collect();
        topic.partition(partition).unwrap().append(&records).unwrap();
    }
}

/// Everything that is there now: partition, offset, value.
fn drain(consumer: &mut Consumer) -> Vec<(u32, u64, String)> {
    let mut all = Vec::new();
    loop {
        let records = consumer.poll(Duration::ZERO).unwrap();
        if records.is_empty() {
            return all;
        }
        for record in &records {
            let value = String::from_utf8(record.value().unwrap().to_vec()).unwrap();
            all.push((record.partition(), record.offset(), value));
        }
    }
}

fn expected(partition: u32, numbers: std::ops::Range<u64>) -> Vec<(u32, u64, String)> {
    numbers.map(|n| (partition, n, n.to_string())).collect()
}

#[test]
fn every_record_comes_once_and_in_order_however_polls_and_batches_are_cut() {
    for compression in [Compression::None, Compression::Lz4, Compression::Zstd { level: 3 }] {
        let broker = Broker::in_memory().unwrap();
        let config = TopicConfig::default().compression(compression);
        let topic = broker.create_topic("orders", config).unwrap();
        append(&topic, 0, 0..100, 1);
        append(&topic, 0, 100..1000, 300);
        append(&topic, 0, 1000..1007, 7);
        for (max_records, max_bytes) in
            [(1, 1 << 20), (7, 1 << 20), (500, 1 << 20), (5000, 1 << 20), (50, 1), (500, 1000)]
        {
            let consumer = broker
                .consumer()
                .max_poll_records(max_records)
                .max_partition_fetch_bytes(max_bytes);
            let mut consumer = consumer.subscribe(["orders"]).unwrap();
            assert_eq!(drain(&mut consumer), expected(0, 0..1007), "{max_records} {max_bytes}");
            assert_eq!(consumer.position(&TopicPartition::new("orders", 0)).unwrap(), 1007);
        }
    }
}

#[test]
fn a_poll_returns_no_more_than_it_was_told_to_at_once() {
    let broker = Broker::in_memory().unwrap();
    let orders = topic(&broker, "orders", 1);
    append(&orders, 0, 0..2000, 100);
    let mut consumer = broker.consumer().max_poll_records(30).subscribe(["orders"]).unwrap();
    assert_eq!(consumer.poll(LONG).unwrap().len(), 30);
    let consumer = broker.consumer().fetch_max_bytes(1500);
    let mut consumer = consumer.subscribe(["orders"]).unwrap();
    let len = consumer.poll(LONG).unwrap().len();
    assert!((100..=200).contains(&len), "{len}: whole batches of about a kilobyte");
}

#[test]
fn records_have_all_their_parts() {
    let broker = Broker::in_memory().unwrap();
    let orders = topic(&broker, "orders", 2);
    let when = Timestamp::from_millis(1_234_567);
    let full = Record::new("value").key("key").header("a", b"1").null_header("a").timestamp(when);
    orders.partition(1).unwrap().append(&[full, Record::tombstone("gone")]).unwrap();

    let mut consumer = broker.consumer().subscribe(["orders"]).unwrap();
    let records = consumer.poll(LONG).unwrap();
    let mut iter = records.iter();
    assert_eq!(iter.len(), 2);
    let first = iter.next().unwrap();
    assert_eq!((first.topic(), first.partition(), first.offset()), ("orders", 1, 0));
    assert_eq!(first.timestamp(), when);
    assert_eq!((first.key(), first.value()), (Some(&b"key"[..]), Some(&b"value"[..])));
    let headers: Vec<_> = first.headers().map(|h| (h.name(), h.value())).collect();
    assert_eq!(headers, [("a", Some(&b"1"[..])), ("a", None)]);
    let second = iter.next().unwrap().to_owned();
    assert_eq!((second.key.as_deref(), second.value), (Some(&b"gone"[..]), None));
    assert!(iter.next().is_none());
    let owned = first.to_owned();
    assert_eq!(owned.headers, [("a".to_owned(), Some(b"1".to_vec())), ("a".to_owned(), None)]);
    assert_eq!(owned.topic_partition, TopicPartition::new("orders", 1));
}

#[test]
fn partitions_take_turns_and_can_be_told_apart() {
    let broker = Broker::in_memory().unwrap();
    let orders = topic(&broker, "orders", 3);
    for partition in 0..3 {
        append(&orders, partition, 0..100, 10);
    }
    let mut consumer = broker.consumer().max_poll_records(40).subscribe(["orders"]).unwrap();
    let mut first_served = Vec::new();
    for _ in 0..3 {
        let records = consumer.poll(LONG).unwrap();
        first_served.push(records.partitions().next().unwrap().partition());
        let by_partition: usize =
            records.partitions().map(|of| records.of_partition(of).count()).sum();
        assert_eq!(by_partition, records.len());
        for (of, next_offset) in records.next_offsets() {
            assert_eq!(consumer.position(of).unwrap(), next_offset);
            assert_eq!(records.of_partition(of).last().unwrap().offset() + 1, next_offset);
        }
    }
    first_served.sort_unstable();
    assert_eq!(first_served, [0, 1, 2], "none waits until another is empty");
    let mut all = drain(&mut consumer);
    all.sort();
    assert_eq!(all.len(), 300 - 120);
}

#[test]
fn records_outlive_the_consumer_and_the_deletion_of_their_segment() {
    let directory = tempfile::tempdir().unwrap();
    let broker = Broker::open(directory.path()).unwrap();
    let orders = topic(&broker, "orders", 1);
    append(&orders, 0, 0..50, 10);
    let mut consumer = broker.consumer().subscribe(["orders"]).unwrap();
    let records = consumer.poll(LONG).unwrap();
    drop(consumer);
    broker.delete_topic("orders").unwrap();
    broker.close().unwrap();
    let values: Vec<_> = records.iter().map(|record| record.value().unwrap().to_vec()).collect();
    assert_eq!(values.len(), 50);
    assert_eq!(values[49], b"49");
}

#[test]
fn a_poll_without_records_takes_its_timeout_and_no_longer() {
    let broker = Broker::in_memory().unwrap();
    topic(&broker, "orders", 4);
    let mut consumer = broker.consumer().subscribe(["orders"]).unwrap();
    let started = Instant::now();
    assert!(consumer.poll(Duration::ZERO).unwrap().is_empty());
    assert!(started.elapsed() < Duration::from_secs(10), "it did not wait");
    let (timeout, started) = (Duration::from_millis(50), Instant::now());
    assert!(consumer.poll(timeout).unwrap().is_empty());
    assert!(started.elapsed() >= timeout);
}

#[test]
fn a_waiting_poll_wakes_when_another_thread_appends() {
    for durability in
        [Durability::Fsync, Durability::Written { flush_interval: Duration::from_secs(1) }]
    {
        let broker = Broker::in_memory().unwrap();
        let config = TopicConfig::default().durability(durability);
        let orders = broker.create_topic("orders", config).unwrap();
        let mut consumer = broker.consumer().subscribe(["orders"]).unwrap();
        let waiting = std::thread::spawn(move || {
            // Should it not be woken, this would never end.
            let records = consumer.poll(Duration::MAX).unwrap();
            records.iter().map(|record| record.offset()).collect::<Vec<_>>()
        });
        append(&orders, 0, 0..1, 1);
        assert_eq!(waiting.join().unwrap(), [0]);
    }
}

#[test]
fn records_that_were_sent_come_to_a_consumer_that_waits_one_by_one() {
    let broker = Broker::in_memory().unwrap();
    let there = topic(&broker, "there", 1);
    let back = topic(&broker, "back", 1);
    let mut on_there = broker.consumer().subscribe(["there"]).unwrap();
    let echo = std::thread::spawn(move || {
        let mut seen = 0;
        while seen < 200 {
            for record in &on_there.poll(LONG).unwrap() {
                back.partition(0).unwrap().append(&[Record::new(record.value().unwrap())]).unwrap();
                seen += 1;
            }
        }
    });
    let mut on_back = broker.consumer().subscribe(["back"]).unwrap();
    for number in 0..200 {
        append(&there, 0, number..number + 1, 1);
        let records = on_back.poll(LONG).unwrap();
        assert_eq!(records.len(), 1);
    }
    echo.join().unwrap();
}

#[test]
fn a_wakeup_ends_the_poll_under_way_or_else_the_next_one_and_only_that() {
    let broker = Broker::in_memory().unwrap();
    let orders = topic(&broker, "orders", 1);
    let mut consumer = broker.consumer().subscribe(["orders"]).unwrap();
    let handle = consumer.wakeup_handle();
    handle.wakeup();
    assert!(consumer.poll(Duration::MAX).unwrap().is_empty(), "it was called before");
    append(&orders, 0, 0..1, 1);
    assert_eq!(consumer.poll(Duration::MAX).unwrap().len(), 1, "nothing is lost");
    let timeout = Duration::from_millis(20);
    let started = Instant::now();
    assert!(consumer.poll(timeout).unwrap().is_empty());
    assert!(started.elapsed() >= timeout, "it was used up");
    let waiting = std::thread::spawn(move || consumer.poll(Duration::MAX).unwrap().len());
    handle.wakeup();
    assert_eq!(waiting.join().unwrap(), 0);
}

#[test]
fn closing_the_broker_ends_a_poll_that_waits() {
    let broker = Broker::in_memory().unwrap();
    topic(&broker, "orders", 1);
    let mut consumer = broker.consumer().group("g").subscribe(["orders"]).unwrap();
    let waiting = std::thread::spawn(move || {
        let error = consumer.poll(Duration::MAX).unwrap_err();
        assert!(matches!(error, Error::Closed { .. }), "{error}");
        let error = consumer.commit().unwrap_err();
        assert!(matches!(error, Error::Closed { .. }), "{error}");
    });
    broker.close().unwrap();
    waiting.join().unwrap();
}

#[test]
fn new_partitions_of_a_subscribed_topic_are_read_from_their_start() {
    let broker = Broker::in_memory().unwrap();
    let orders = topic(&broker, "orders", 1);
    append(&orders, 0, 0..5, 5);
    let consumer = broker.consumer().auto_offset_reset(AutoOffsetReset::Latest);
    let mut consumer = consumer.subscribe(["orders"]).unwrap();
    broker.add_partitions("orders", 3).unwrap();
    append(&orders, 2, 0..3, 3);
    assert_eq!(drain(&mut consumer), expected(2, 0..3), "though the policy is latest");
    assert_eq!(consumer.assignment().len(), 3);
    assert_eq!(consumer.subscription().collect::<Vec<_>>(), ["orders"]);
}

#[test]
fn a_poll_that_waits_notices_new_partitions() {
    let broker = Broker::in_memory().unwrap();
    let orders = topic(&broker, "orders", 1);
    let mut consumer = broker.consumer().subscribe(["orders"]).unwrap();
    let waiting = std::thread::spawn(move || {
        consumer.poll(Duration::MAX).unwrap().partitions().map(|of| of.partition()).next()
    });
    broker.add_partitions("orders", 2).unwrap();
    append(&orders, 1, 0..1, 1);
    assert_eq!(waiting.join().unwrap(), Some(1));
}

#[test]
fn a_deleted_topic_is_told_once_and_found_again_when_it_comes_back() {
    let broker = Broker::in_memory().unwrap();
    append(&topic(&broker, "orders", 2), 0, 0..5, 5);
    append(&topic(&broker, "other", 1), 0, 0..1, 1);
    let mut consumer = broker.consumer().subscribe(["orders", "other"]).unwrap();
    assert_eq!(drain(&mut consumer).len(), 6);
    broker.delete_topic("orders").unwrap();
    let error = consumer.poll(LONG).unwrap_err();
    assert!(matches!(&error, Error::UnknownTopic { topic } if topic == "orders"), "{error}");
    assert!(consumer.poll(Duration::ZERO).unwrap().is_empty());
    assert_eq!(consumer.assignment(), [TopicPartition::new("other", 0)]);
    append(&topic(&broker, "orders", 1), 0, 0..2, 2);
    assert_eq!(drain(&mut consumer), expected(0, 0..2));
}

#[test]
fn what_makes_no_sense_is_refused() {
    let broker = Broker::in_memory().unwrap();
    topic(&broker, "orders", 1);
    let nothing: [&str; 0] = [];
    assert!(matches!(
        broker.consumer().subscribe(nothing).unwrap_err(),
        Error::InvalidConfig { .. }
    ));
    assert!(matches!(
        broker.consumer().subscribe(["nowhere"]).unwrap_err(),
        Error::UnknownTopic { .. }
    ));
    assert!(matches!(
        broker.consumer().assign([TopicPartition::new("orders", 1)]).unwrap_err(),
        Error::UnknownPartition { .. }
    ));
    assert!(matches!(
        broker.consumer().group("").subscribe(["orders"]).unwrap_err(),
        Error::InvalidGroup { .. }
    ));
    for consumer in [
        broker.consumer().max_poll_records(0),
        broker.consumer().fetch_max_bytes(0),
        broker.consumer().max_partition_fetch_bytes(0),
        broker.consumer().auto_commit(Duration::ZERO),
    ] {
        let error = consumer.subscribe(["orders"]).unwrap_err();
        assert!(matches!(error, Error::InvalidConfig { .. }), "{error}");
    }
    for (name, value) in [("group_id", "g"), ("max.poll.records", "many")] {
        let error = broker.consumer().property(name, value).unwrap_err();
        assert!(matches!(error, Error::InvalidConfig { .. }), "{error}");
    }
    let mut consumer = broker.consumer().subscribe(["orders"]).unwrap();
    let elsewhere = TopicPartition::new("orders", 9);
    assert!(matches!(consumer.seek(&elsewhere, 0), Err(Error::NotAssigned { .. })));
    assert!(matches!(consumer.lag(&elsewhere), Err(Error::NotAssigned { .. })));
    assert!(matches!(consumer.commit(), Err(Error::InvalidGroup { .. })));
}

#[test]
fn properties_are_settings_by_kafkas_names() {
    let broker = Broker::in_memory().unwrap();
    let orders = topic(&broker, "orders", 1);
    append(&orders, 0, 0..100, 10);
    let properties = [
        ("group.id", "g"),
        ("auto.offset.reset", "none"),
        ("enable.auto.commit", "false"),
        ("max.poll.records", "3"),
        ("fetch.max.bytes", "100000"),
        ("max.partition.fetch.bytes", "100000"),
    ];
    let set = |consumer: sapwood::ConsumerBuilder, (name, value)| consumer.property(name, value);
    let consumer = properties.into_iter().try_fold(broker.consumer(), set).unwrap();
    let mut consumer = consumer.subscribe(["orders"]).unwrap();
    let error = consumer.poll(Duration::ZERO).unwrap_err();
    assert!(matches!(error, Error::NoCommittedOffset { .. }), "{error}");
    consumer.seek_to_beginning();
    assert_eq!(consumer.poll(Duration::ZERO).unwrap().len(), 3);
}

/// The one segment file of a partition.
fn segment_file(directory: &Path, partition: &str) -> PathBuf {
    directory.join(partition).join("00000000000000000000.log")
}

#[test]
fn damage_is_told_after_everything_before_it_and_keeps_nobody_else_waiting() {
    let directory = tempfile::tempdir().unwrap();
    let broker = Broker::open(directory.path()).unwrap();
    let orders = topic(&broker, "orders", 2);
    // Batches of the same size each.
    append(&orders, 0, 10..40, 10);
    append(&orders, 1, 10..40, 10);
    let size = orders.partition(0).unwrap().size() / 3;
    // In the value of a record of the second batch, under the open broker.
    flip_a_bit(&segment_file(directory.path(), "orders-0"), 2 * size - 5);

    let consumer = broker.consumer().max_poll_records(4);
    let mut consumer = consumer.subscribe(["orders"]).unwrap();
    let (mut good, mut errors) = (Vec::new(), 0);
    let damaged = TopicPartition::new("orders", 0);
    while good.len() < 40 || errors < 3 {
        match consumer.poll(Duration::ZERO) {
            Ok(records) => good.extend(records.iter().map(|r| (r.partition(), r.offset()))),
            Err(Error::Corrupt(damage)) => {
                assert_eq!(damage.topic_partition.as_ref(), Some(&damaged));
                assert_eq!(consumer.position(&damaged).unwrap(), 10, "where the damage is");
                errors += 1;
            }
            Err(other) => panic!("{other}"),
        }
    }
    good.sort_unstable();
    let expected = (0..10).map(|n| (0, n)).chain((0..30).map(|n| (1, n)));
    assert_eq!(good, expected.collect::<Vec<_>>());
    consumer.seek(&damaged, 20).unwrap();
    let behind: Vec<_> = drain(&mut consumer).into_iter().map(|(_, offset, _)| offset).collect();
    assert_eq!(behind, (20..30).collect::<Vec<_>>());
}

fn flip_a_bit(path: &Path, at: u64) {
    let file = std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
}

#[test]
fn no_flipped_bit_ever_yields_a_wrong_record() {
    let directory = tempfile::tempdir().unwrap();
    let broker = Broker::open(directory.path()).unwrap();
    append(&topic(&broker, "orders", 1), 0, 0..6, 3);
    broker.close().unwrap();
    let path = segment_file(directory.path(), "orders-0");
    let intact = std::fs::read(&path).unwrap();
    for bit in 0..intact.len() * 8 {
        let mut bytes = intact.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        std::fs::write(&path, &bytes).unwrap();
        // Either the open refuses it or the consumer does; what is returned is right.
        let Ok(broker) = Broker::builder(directory.path()).background_thread(false).open() else {
            continue;
        };
        let mut consumer = broker.consumer().subscribe(["orders"]).unwrap();
        let mut next = 0;
        while let Ok(records) = consumer.poll(Duration::ZERO) {
            if records.is_empty() {
                break;
            }
            for record in &records {
                assert_eq!(record.offset(), next, "bit {bit}");
                assert_eq!(record.value(), Some(next.to_string().as_bytes()), "bit {bit}");
                next += 1;
            }
        }
    }
}

#[test]
fn a_panic_while_iterating_harms_nobody() {
    let broker = Broker::in_memory().unwrap();
    let orders = topic(&broker, "orders", 1);
    append(&orders, 0, 0..10, 10);
    let in_other_thread = broker.clone();
    let panicked = std::thread::spawn(move || {
        let consumer = in_other_thread.consumer().group("g").auto_commit(None);
        let mut consumer = consumer.subscribe(["orders"]).unwrap();
        for record in &consumer.poll(LONG).unwrap() {
            assert!(record.offset() < 5, "as user code does");
        }
    });
    assert!(panicked.join().is_err());
    append(&orders, 0, 10..11, 1);
    let mut next = broker.consumer().group("g").subscribe(["orders"]).unwrap();
    assert_eq!(drain(&mut next), expected(0, 0..11), "it left the group and committed nothing");
}

#[test]
fn consumers_and_what_they_return_go_to_other_threads() {
    fn sends<T: Send>() {}
    fn shares<T: Sync>() {}
    sends::<Consumer>();
    sends::<sapwood::ConsumerRecords>();
    shares::<sapwood::ConsumerRecords>();
    sends::<sapwood::WakeupHandle>();
    shares::<sapwood::WakeupHandle>();
}

#[test]
fn a_manual_clock_hangs_nobody() {
    let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_700_000_000_000)));
    let broker = BrokerBuilder::in_memory().clock(clock.clone()).background_thread(false);
    let broker = broker.open().unwrap();
    topic(&broker, "orders", 1);
    let consumer = broker.consumer().group("g").auto_commit(Duration::from_millis(1));
    let mut consumer = consumer.subscribe(["orders"]).unwrap();
    clock.advance(Duration::from_secs(1));
    assert!(consumer.poll(Duration::from_millis(30)).unwrap().is_empty());
}

#[test]
fn a_read_only_broker_follows_a_writer_while_its_poll_waits() {
    let directory = tempfile::tempdir().unwrap();
    let broker = Broker::open(directory.path()).unwrap();
    let orders = topic(&broker, "orders", 1);
    append(&orders, 0, 0..3, 1);
    let reader = Broker::open_read_only(directory.path()).unwrap();
    let mut consumer = reader.consumer().subscribe(["orders"]).unwrap();
    assert_eq!(drain(&mut consumer), expected(0, 0..3));
    let waiting = std::thread::spawn(move || {
        let records = consumer.poll(Duration::MAX).unwrap();
        records.iter().map(|record| record.offset()).collect::<Vec<_>>()
    });
    append(&orders, 0, 3..4, 1);
    assert_eq!(waiting.join().unwrap(), [3]);
}

#[test]
fn brokers_producers_and_consumers_can_be_sent_to_threads_and_shared_by_them() {
    fn check<T: Send + Sync>() {}
    check::<sapwood::Broker>();
    check::<sapwood::Producer>();
    check::<sapwood::ConsumerBuilder>();
    check::<sapwood::Consumer>();
}

#[test]
fn a_consumer_that_retention_overtakes_again_and_again_goes_on_at_the_log_start() {
    const RECORDS: u64 = 500_000;
    let broker = Broker::in_memory().unwrap();
    let topic = topic(&broker, "orders", 1);
    let partition = topic.partition(0).unwrap();
    let mut consumer = broker.consumer().max_poll_records(1).subscribe(["orders"]).unwrap();
    std::thread::scope(|scope| {
        let retention = scope.spawn(|| {
            for number in 0..RECORDS {
                append(&topic, 0, number..number + 1, 1);
                partition.delete_records(number + 1).unwrap();
            }
        });
        while !retention.is_finished() {
            consumer.poll(Duration::ZERO).unwrap();
        }
    });
    append(&topic, 0, RECORDS..RECORDS + 1, 1);
    assert_eq!(drain(&mut consumer).last(), Some(&(0, RECORDS, RECORDS.to_string())));
}
