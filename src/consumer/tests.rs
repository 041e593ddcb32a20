//! What the public API cannot write: batches without records, a transaction's markers, and batches
//! whose records are not what their header says.

mod isolation;

use std::sync::Arc;
use std::time::Duration;

use crate::broker::Broker;
use crate::broker::config::BrokerBuilder;
use crate::consumer::Consumer;
use crate::error::Error;
use crate::log::config::TopicConfig;
use crate::record::builder::{BatchBuilder, SealedBatch, empty_batch};
use crate::record::checksum::crc32c;
use crate::record::control::{EndTransactionMarker, TransactionResult};
use crate::record::{Compression, Record};
use crate::time::{Deadline, ManualClock, Timestamp};
use crate::topic::Partition;
use crate::topic_partition::TopicPartition;

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

fn partition(broker: &Broker) -> Partition {
    let config = TopicConfig::default().compression(Compression::Lz4);
    broker.create_topic("orders", config).unwrap().partition(0).unwrap()
}

fn append_bytes(partition: &Partition, batch: &mut [u8]) {
    let batch = SealedBatch::new(batch).unwrap();
    let appended = partition.append_sealed(batch, 0, NOW, None).unwrap();
    partition.log().flush_to(appended.next_offset).unwrap();
}

fn append_marker(partition: &Partition) {
    let marker = EndTransactionMarker {
        result: TransactionResult::Commit,
        producer_id: 1 << 62,
        producer_epoch: 0,
        coordinator_epoch: 0,
    };
    append_bytes(partition, &mut marker.batch(NOW).unwrap());
}

/// A batch of ten records that can be compressed.
fn append_ten(partition: &Partition) {
    partition.append(&vec![Record::new(&[b'v'; 100]); 10]).unwrap();
}

fn poll(consumer: &mut Consumer) -> Vec<u64> {
    consumer.poll(Duration::ZERO).unwrap().iter().map(|record| record.offset()).collect()
}

#[test]
fn batches_without_records_for_consumers_are_passed_over() {
    let broker = Broker::in_memory().unwrap();
    let log = partition(&broker);
    append_marker(&log);
    append_ten(&log);
    append_marker(&log);
    append_bytes(&log, &mut empty_batch(0, 4, 0, NOW));
    append_ten(&log);
    append_marker(&log);
    assert_eq!(log.log_end_offset(), 28);
    for max_poll_records in [1, 7, 500] {
        let consumer = broker.consumer().max_poll_records(max_poll_records);
        let mut consumer = consumer.subscribe(["orders"]).unwrap();
        let mut offsets = Vec::new();
        loop {
            let polled = poll(&mut consumer);
            if polled.is_empty() {
                break;
            }
            offsets.extend(polled);
        }
        assert_eq!(offsets, (1..11).chain(17..27).collect::<Vec<_>>());
        let position = consumer.position(&TopicPartition::new("orders", 0)).unwrap();
        assert_eq!(position, 28, "behind the last marker: nothing is left");
    }
}

#[test]
fn a_log_of_nothing_but_markers_keeps_nobody_busy() {
    let broker = Broker::in_memory().unwrap();
    let log = partition(&broker);
    let mut consumer = broker.consumer().subscribe(["orders"]).unwrap();
    for _ in 0..3 {
        append_marker(&log);
        assert!(consumer.poll(Duration::from_millis(5)).unwrap().is_empty());
    }
    assert_eq!(consumer.total_lag().unwrap(), 0);
}

#[test]
fn a_batch_with_a_right_checksum_and_wrong_records_is_damage() {
    let broker = Broker::in_memory().unwrap();
    let log = partition(&broker);
    append_ten(&log);
    let mut builder = BatchBuilder::new();
    builder.append(&Record::new("one"), NOW).unwrap();
    builder.append(&Record::new("two"), NOW).unwrap();
    builder.seal(Compression::None).unwrap();
    let mut bytes = builder.sealed().bytes().to_vec();
    // The length of the last value: one more than there is.
    let at = bytes.len() - 5;
    bytes[at] += 2;
    let checksum = crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&checksum.to_be_bytes());
    append_bytes(&log, &mut bytes);

    let mut consumer = broker.consumer().subscribe(["orders"]).unwrap();
    assert_eq!(poll(&mut consumer).len(), 10);
    for _ in 0..2 {
        match consumer.poll(Duration::MAX).unwrap_err() {
            Error::Corrupt(damage) => assert_eq!(damage.offsets, 10..12),
            other => panic!("{other}"),
        }
    }
    append_ten(&log);
    consumer.seek(log.topic_partition(), 12).unwrap();
    assert_eq!(poll(&mut consumer).len(), 10);
}

#[test]
fn decompression_buffers_are_used_again_once_nobody_reads_from_them() {
    let broker = Broker::in_memory().unwrap();
    let log = partition(&broker);
    for _ in 0..4 {
        append_ten(&log);
    }
    let mut consumer = broker.consumer().max_poll_records(10).subscribe(["orders"]).unwrap();
    let address = |records: &crate::consumer::records::ConsumerRecords| {
        records.iter().next().unwrap().value().unwrap().as_ptr()
    };
    let first = consumer.poll(Duration::ZERO).unwrap();
    let second = consumer.poll(Duration::ZERO).unwrap();
    assert_ne!(address(&first), address(&second), "the first is still read");
    let freed = address(&first);
    drop(first);
    let third = consumer.poll(Duration::ZERO).unwrap();
    assert_eq!(address(&third), freed);
    assert!(second.iter().chain(&third).all(|record| record.value() == Some(&[b'v'; 100])));
}

#[test]
fn a_wakeup_is_left_with_partitions_only_while_a_poll_waits() {
    let broker = Broker::in_memory().unwrap();
    let log = partition(&broker);
    let mut consumer = broker.consumer().subscribe(["orders"]).unwrap();
    let registered = consumer.subscription.register(&consumer.interrupt.wakeup);
    append_ten(&log);
    drop(registered);
    assert!(consumer.interrupt.wakeup.wait(Deadline::after(Duration::ZERO)));
    append_ten(&log);
    assert!(!consumer.interrupt.wakeup.wait(Deadline::after(Duration::ZERO)));
    assert_eq!(poll(&mut consumer).len(), 20);
}

#[test]
fn a_member_that_waits_in_a_poll_is_alive_however_long_it_waits() {
    let clock = Arc::new(ManualClock::new(NOW));
    let broker = BrokerBuilder::in_memory().clock(clock.clone()).background_thread(false);
    let broker = broker.open().unwrap();
    partition(&broker);
    let minute = Duration::from_secs(60);
    let consumer = broker.consumer().group("g").auto_commit(None).max_poll_interval(minute);
    let mut consumer = consumer.subscribe(["orders"]).unwrap();
    let handle = consumer.wakeup_handle();
    let pulse = consumer.member.as_ref().unwrap().pulse().unwrap();
    let waiting = std::thread::spawn(move || {
        consumer.poll(Duration::MAX).unwrap();
        consumer
    });
    while !pulse.is_waiting() {
        std::thread::yield_now();
    }
    // It looks at the clock every now and then, but does not wait for that.
    clock.advance(100 * minute);
    assert_eq!(broker.describe_group("g").unwrap().unwrap().members.len(), 1);
    handle.wakeup();
    let consumer = waiting.join().unwrap();
    assert_eq!(consumer.assignment().len(), 1);
    clock.advance(2 * minute);
    assert!(broker.describe_group("g").unwrap().is_none(), "it has not polled since");
}

#[test]
fn closing_the_broker_wakes_a_member_that_has_no_partition() {
    let broker = Broker::in_memory().unwrap();
    partition(&broker);
    let join = || broker.consumer().group("g").subscribe(["orders"]).unwrap();
    let (_has_it, waits) = (join(), join());
    assert!(waits.assignment().is_empty());
    let pulse = waits.member.as_ref().unwrap().pulse().unwrap();
    pulse.take_news();
    broker.close().unwrap();
    assert!(waits.interrupt.wakeup.wait(Deadline::after(Duration::ZERO)));
    assert!(pulse.take_news());
}
