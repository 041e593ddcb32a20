//! Goal: what a record costs stays what it is: allocations, system calls, syncs and bytes read, which
//! unlike times are the same on every machine.
//!
//! Method: allocations of the test's thread are counted by the allocator, write calls by the kernel
//! (`/proc/thread-self/io`), syncs and reads by the broker's metrics. Brokers without a background
//! thread, so that nobody else does any of it.

use std::fs;
use std::path::Path;
use std::time::Duration;

use allocation_counter::measure;
use sapwood::{Broker, Durability, Record, Topic, TopicConfig, TopicPartition};

const VALUE: [u8; 100] = [b'v'; 100];
const WRITTEN: Durability = Durability::Written { flush_interval: Duration::from_secs(3_600) };

fn open(directory: &Path) -> Broker {
    Broker::builder(directory).background_thread(false).open().unwrap()
}

fn topic(broker: &Broker, name: &str, durability: Durability) -> Topic {
    broker.create_topic(name, TopicConfig::default().durability(durability)).unwrap()
}

/// How many read and write calls this thread has made, and how many bytes it has read by them.
fn calls() -> (u64, u64) {
    let io = fs::read_to_string("/proc/thread-self/io").unwrap();
    let number = |name: &str| -> u64 {
        let line = io.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_once(": ").unwrap().1.parse().unwrap()
    };
    (number("syscw"), number("rchar"))
}

fn written_by(work: impl FnOnce()) -> u64 {
    let before = calls().0;
    work();
    calls().0 - before
}

#[test]
fn a_producer_allocates_per_batch_and_never_per_record() {
    let directory = tempfile::tempdir().unwrap();
    let broker = open(directory.path());
    let topic = topic(&broker, "t", WRITTEN);
    let producer = broker.producer().batch_size(16 << 10).build().unwrap();
    let send = |count: u64| {
        for _ in 0..count {
            drop(producer.send(&topic, Record::new(&VALUE)).unwrap());
        }
    };
    send(2_000);
    producer.flush().unwrap();
    let batches_before = broker.metrics().unwrap().batches_appended;
    let records = 20_000;
    let allocated = measure(|| send(records)).count_total;
    producer.flush().unwrap();
    let batches = broker.metrics().unwrap().batches_appended - batches_before;
    assert!(batches * 100 < records, "{batches} batches: they are full");
    // The batch's own shared state and its place in the list of unwritten ones; an index entry.
    assert!(allocated <= 4 * batches, "{allocated} allocations for {batches} batches");
}

#[test]
fn an_append_of_one_record_allocates_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let broker = open(directory.path());
    let partition = topic(&broker, "t", WRITTEN).partition(0).unwrap();
    let append = |count: u32| {
        for _ in 0..count {
            partition.append(&[Record::new(&VALUE)]).unwrap();
        }
    };
    append(5_000);
    // Indexes double, windows are mapped anew: that gets rarer and rarer.
    let allocated = measure(|| append(5_000)).count_total;
    assert!(allocated <= 50, "{allocated} allocations for 5,000 appends");
}

#[test]
fn a_consumer_allocates_per_poll_and_never_per_record() {
    let directory = tempfile::tempdir().unwrap();
    let broker = open(directory.path());
    let partition = topic(&broker, "t", WRITTEN).partition(0).unwrap();
    let batch = vec![Record::new(&VALUE); 100];
    (0..1_000).for_each(|_| drop(partition.append(&batch).unwrap()));
    let consumer = broker.consumer().max_poll_records(5_000);
    let mut consumer = consumer.assign([TopicPartition::new("t", 0)]).unwrap();
    let mut read = |records: usize| {
        let (mut seen, mut bytes) = (0, 0);
        while seen < records {
            for record in &consumer.poll(Duration::ZERO).unwrap() {
                bytes += record.value().unwrap().len();
                seen += 1;
            }
        }
        assert_eq!((seen, bytes), (records, records * VALUE.len()));
    };
    read(50_000);
    let allocated = measure(|| read(50_000)).count_total;
    // Ten polls, each of which returns a run or two.
    assert!(allocated <= 10 * 4, "{allocated} allocations for 50,000 records");
}

#[test]
fn small_appends_make_a_write_call_for_every_stretch_of_zeros_and_large_ones_one_each() {
    // Where tails may be mapped whatever the temporary directory is on.
    let directory = tempfile::tempdir_in("/dev/shm").unwrap();
    let broker = open(directory.path());
    let partition = topic(&broker, "t", WRITTEN).partition(0).unwrap();
    // So that windows are as long as they get.
    let large = vec![Record::new(&VALUE); 1_000];
    let calls = written_by(|| (0..50).for_each(|_| drop(partition.append(&large).unwrap())));
    assert!((50..=52).contains(&calls), "{calls} calls for 50 large batches");
    let small = [Record::new(&VALUE)];
    let before = partition.size();
    let calls = written_by(|| (0..20_000).for_each(|_| drop(partition.append(&small).unwrap())));
    let bytes = partition.size() - before;
    let zeros = bytes.div_ceil(64 << 10) + 1;
    assert!(calls <= zeros + 2, "{calls} calls for {bytes} bytes in 20,000 batches");
}

#[test]
fn a_send_under_fsync_makes_one_sync_and_a_batch_of_them_one_as_well() {
    let directory = tempfile::tempdir().unwrap();
    let broker = open(directory.path());
    let topic = topic(&broker, "t", Durability::Fsync);
    let partition = topic.partition(0).unwrap();
    partition.append(&[Record::new(&VALUE)]).unwrap();
    let syncs = |work: &dyn Fn()| {
        let before = broker.metrics().unwrap().syncs;
        work();
        broker.metrics().unwrap().syncs - before
    };
    let singly = || (0..50).for_each(|_| drop(partition.append(&[Record::new(&VALUE)]).unwrap()));
    assert_eq!(syncs(&singly), 50);
    let producer = broker.producer().build().unwrap();
    let batched = || {
        (0..1_000).for_each(|_| drop(producer.send(&topic, Record::new(&VALUE)).unwrap()));
        producer.flush().unwrap();
    };
    assert_eq!(syncs(&batched), 1);
}

#[test]
fn opening_after_a_close_reads_as_much_whatever_the_size_and_after_a_kill_what_was_new() {
    let bytes_read = |megabytes: u64, tail: u64| {
        let directory = tempfile::tempdir().unwrap();
        let broker = open(directory.path());
        let config = TopicConfig::default().durability(WRITTEN).segment_bytes(4 << 20);
        let partition = broker.create_topic("t", config).unwrap().partition(0).unwrap();
        let batch = vec![Record::new(&VALUE); 1_000];
        let fill = |size| {
            while partition.size() < size {
                partition.append(&batch).unwrap();
            }
        };
        fill(megabytes << 20);
        partition.flush().unwrap();
        if tail == 0 {
            broker.close().unwrap();
        } else {
            broker.run_maintenance().unwrap();
            fill((megabytes << 20) + (tail << 10));
        }
        drop((partition, broker));
        let before = calls().1;
        let broker = open(directory.path());
        let read = calls().1 - before;
        assert_eq!(broker.recovery_report().clean_shutdown, tail == 0);
        read
    };
    let (small, large) = (bytes_read(1, 0), bytes_read(40, 0));
    assert!(large <= small + 2_048, "1 MiB: {small} bytes, 40 MiB: {large} bytes");
    let killed = bytes_read(40, 500);
    assert!(killed > 500 << 10, "{killed} bytes for a tail of 500 KiB");
    // The tail, the space made ready behind it, the end of the segment before.
    assert!(killed < 3 << 20, "{killed} bytes for a tail of 500 KiB");
}

#[test]
fn reading_one_record_somewhere_reads_one_batch() {
    let directory = tempfile::tempdir().unwrap();
    let broker = open(directory.path());
    let partition = topic(&broker, "t", WRITTEN).partition(0).unwrap();
    let batch = vec![Record::new(&VALUE); 10];
    (0..5_000).for_each(|_| drop(partition.append(&batch).unwrap()));
    let of = TopicPartition::new("t", 0);
    let mut consumer = broker.consumer().max_poll_records(1).assign([of.clone()]).unwrap();
    let before = broker.metrics().unwrap().bytes_read;
    for offset in [49_999, 12_345, 0, 31_415] {
        consumer.seek(&of, offset).unwrap();
        assert_eq!(consumer.poll(Duration::ZERO).unwrap().iter().next().unwrap().offset(), offset);
    }
    let read = broker.metrics().unwrap().bytes_read - before;
    assert!(read < 4 * 1_300, "{read} bytes for four records in batches of 1,200 bytes");
}
