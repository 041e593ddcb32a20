//! Goal: positions go where they are sent, and where an offset does not exist the reset policy
//! decides; a consumer never hangs on it (contract, clause 29).

use std::time::Duration;

use sapwood::{
    AutoOffsetReset, Broker, Consumer, Error, OffsetAndMetadata, Record, Timestamp, Topic,
    TopicConfig, TopicPartition,
};

fn address(partition: u32) -> TopicPartition {
    TopicPartition::new("orders", partition)
}

/// Two partitions of ten records; record n has the timestamp 1000 + 10 n.
fn orders(broker: &Broker) -> Topic {
    let topic = broker.create_topic("orders", TopicConfig::default().partitions(2)).unwrap();
    for partition in topic.partitions() {
        for n in 0..10 {
            let record = Record::new("x").timestamp(Timestamp::from_millis(1000 + 10 * n));
            partition.append(&[record]).unwrap();
        }
    }
    topic
}

fn consumer(broker: &Broker, policy: AutoOffsetReset) -> Consumer {
    let consumer = broker.consumer().group("g").auto_commit(None).auto_offset_reset(policy);
    consumer.assign([address(0)]).unwrap()
}

fn poll(consumer: &mut Consumer) -> Vec<u64> {
    consumer.poll(Duration::ZERO).unwrap().iter().map(|record| record.offset()).collect()
}

#[test]
fn without_a_committed_offset_the_policy_says_where_to_begin() {
    let broker = Broker::in_memory().unwrap();
    let orders = orders(&broker);
    assert_eq!(poll(&mut consumer(&broker, AutoOffsetReset::Earliest)).len(), 10);
    let mut latest = consumer(&broker, AutoOffsetReset::Latest);
    orders.partition(0).unwrap().append(&[Record::new("sent before the first poll")]).unwrap();
    assert_eq!(poll(&mut latest), [10]);
    let mut none = consumer(&broker, AutoOffsetReset::Error);
    for _ in 0..3 {
        let error = none.poll(Duration::MAX).unwrap_err();
        assert!(matches!(error, Error::NoCommittedOffset { .. }), "{error}");
    }
    assert!(matches!(none.position(&address(0)), Err(Error::NoCommittedOffset { .. })));
    none.seek(&address(0), 9).unwrap();
    assert_eq!(poll(&mut none), [9, 10]);
}

#[test]
fn a_committed_offset_counts_more_than_the_policy() {
    let broker = Broker::in_memory().unwrap();
    orders(&broker);
    broker.reset_group("g", [(address(0), OffsetAndMetadata::new(8))]).unwrap();
    for policy in [AutoOffsetReset::Earliest, AutoOffsetReset::Latest, AutoOffsetReset::Error] {
        assert_eq!(poll(&mut consumer(&broker, policy)), [8, 9]);
    }
}

#[test]
fn a_position_that_is_gone_is_for_the_policy() {
    for too_low in [true, false] {
        let broker = Broker::in_memory().unwrap();
        let orders = orders(&broker);
        orders.partition(0).unwrap().delete_records(4).unwrap();
        let gone = if too_low { 3 } else { 11 };
        let at = |policy| {
            let mut consumer = consumer(&broker, policy);
            consumer.seek(&address(0), gone).unwrap();
            consumer
        };
        assert_eq!(poll(&mut at(AutoOffsetReset::Earliest)), [4, 5, 6, 7, 8, 9]);
        let mut latest = at(AutoOffsetReset::Latest);
        assert_eq!(poll(&mut latest), Vec::<u64>::new());
        assert_eq!(latest.position(&address(0)).unwrap(), 10);
        let mut none = at(AutoOffsetReset::Error);
        let error = none.poll(Duration::MAX).unwrap_err();
        assert!(matches!(error, Error::OffsetOutOfRange { offset, .. } if offset == gone));
        assert_eq!(none.position(&address(0)).unwrap(), gone, "unchanged");
    }
}

#[test]
fn what_was_read_ahead_counts_no_more_than_the_log_start() {
    let broker = Broker::in_memory().unwrap();
    let orders = orders(&broker);
    let consumer = broker.consumer().max_poll_records(1);
    let mut consumer = consumer.assign([address(0)]).unwrap();
    assert_eq!(poll(&mut consumer), [0]);
    orders.partition(0).unwrap().delete_records(7).unwrap();
    assert_eq!(poll(&mut consumer), [7]);
}

#[test]
fn at_the_end_of_the_log_nothing_is_reset() {
    let broker = Broker::in_memory().unwrap();
    let orders = orders(&broker);
    let mut consumer = consumer(&broker, AutoOffsetReset::Earliest);
    consumer.seek(&address(0), 10).unwrap();
    for _ in 0..3 {
        assert!(poll(&mut consumer).is_empty());
    }
    orders.partition(0).unwrap().append(&[Record::new("new")]).unwrap();
    assert_eq!(poll(&mut consumer), [10]);
}

#[test]
fn seeks_go_to_offsets_ends_and_times() {
    let broker = Broker::in_memory().unwrap();
    let orders = orders(&broker);
    orders.partition(0).unwrap().delete_records(2).unwrap();
    let mut consumer = broker.consumer().subscribe(["orders"]).unwrap();
    let positions = |consumer: &Consumer| {
        [0, 1].map(|partition| consumer.position(&address(partition)).unwrap())
    };
    consumer.seek(&address(0), 7).unwrap();
    assert_eq!(positions(&consumer), [7, 0]);
    consumer.seek_to_end().unwrap();
    assert_eq!(positions(&consumer), [10, 10]);
    consumer.seek_to_beginning();
    assert_eq!(positions(&consumer), [2, 0]);
    consumer.seek_to_end_of(&address(1)).unwrap();
    assert_eq!(positions(&consumer), [2, 10]);
    consumer.seek_to_beginning_of(&address(1)).unwrap();
    assert_eq!(positions(&consumer), [2, 0]);
    for (millis, offset) in [(0, 2), (1000, 2), (1050, 5), (1051, 6), (1090, 9), (1091, 10)] {
        consumer.seek_to_timestamp(&address(0), Timestamp::from_millis(millis)).unwrap();
        assert_eq!(positions(&consumer), [offset, 0], "{millis}");
    }
    consumer.seek(&address(0), 8).unwrap();
    consumer.seek(&address(1), 9).unwrap();
    let records = consumer.poll(Duration::ZERO).unwrap();
    let mut seen: Vec<_> = records.iter().map(|r| (r.partition(), r.offset())).collect();
    seen.sort_unstable();
    assert_eq!(seen, [(0, 8), (0, 9), (1, 9)]);
}

#[test]
fn a_seek_forgets_what_was_read_ahead() {
    let broker = Broker::in_memory().unwrap();
    let topic = broker.create_topic("orders", TopicConfig::default()).unwrap();
    topic.partition(0).unwrap().append(&vec![Record::new("x"); 10]).unwrap();
    let consumer = broker.consumer().max_poll_records(3);
    let mut consumer = consumer.assign([address(0)]).unwrap();
    assert_eq!(poll(&mut consumer), [0, 1, 2]);
    consumer.seek(&address(0), 6).unwrap();
    assert_eq!(poll(&mut consumer), [6, 7, 8], "in the middle of the batch");
    consumer.seek(&address(0), 1).unwrap();
    assert_eq!(poll(&mut consumer), [1, 2, 3]);
    assert_eq!(poll(&mut consumer), [4, 5, 6]);
}

#[test]
fn paused_partitions_wait_where_they_are() {
    let broker = Broker::in_memory().unwrap();
    let orders = orders(&broker);
    let mut consumer = broker.consumer().max_poll_records(4).subscribe(["orders"]).unwrap();
    let first = consumer.poll(Duration::ZERO).unwrap();
    let served = first.partitions().next().unwrap().clone();
    let other = address(1 - served.partition());
    consumer.pause(std::slice::from_ref(&served)).unwrap();
    assert_eq!(consumer.paused(), std::slice::from_ref(&served));
    for _ in 0..5 {
        let records = consumer.poll(Duration::ZERO).unwrap();
        assert!(records.partitions().all(|of| *of == other));
    }
    assert_eq!(consumer.position(&served).unwrap(), 4);
    orders.partition(served.partition()).unwrap().append(&[Record::new("x")]).unwrap();
    assert!(consumer.poll(Duration::from_millis(10)).unwrap().is_empty(), "nor does it wake");
    consumer.resume(std::slice::from_ref(&served)).unwrap();
    assert_eq!(consumer.poll(Duration::ZERO).unwrap().iter().next().unwrap().offset(), 4);
}

#[test]
fn lag_is_what_is_left_to_read() {
    let broker = Broker::in_memory().unwrap();
    let orders = orders(&broker);
    let mut consumer = broker.consumer().max_poll_records(4).subscribe(["orders"]).unwrap();
    assert_eq!(consumer.total_lag().unwrap(), 20);
    let served = consumer.poll(Duration::ZERO).unwrap().partitions().next().unwrap().clone();
    assert_eq!((consumer.lag(&served).unwrap(), consumer.total_lag().unwrap()), (6, 16));
    consumer.seek_to_end().unwrap();
    assert_eq!(consumer.total_lag().unwrap(), 0);
    orders.partition(1).unwrap().append(&[Record::new("x")]).unwrap();
    assert_eq!(consumer.lag(&address(1)).unwrap(), 1);
}
