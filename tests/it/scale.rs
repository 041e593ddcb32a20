//! Goal: what grows with the number of partitions and segments, and what does not, is as
//! [`sapwood::costs`] says.
//!
//! Method: counted on a simulated disk, where every call and every open file can be seen, and by the
//! allocator; nothing is timed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use allocation_counter::measure;
use sapwood::{
    Broker, BrokerBuilder, DiskCallKind, Durability, ManualClock, PowerLoss, Record, SimulatedDisk,
    Timestamp, Topic, TopicConfig, TopicPartition, Verdict,
};

const WRITTEN: Durability = Durability::Written { flush_interval: Duration::from_secs(3_600) };

fn open(disk: &SimulatedDisk, open_files: usize) -> Broker {
    // Time stands still: index entries depend on it.
    let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_700_000_000_000)));
    let builder = BrokerBuilder::simulated(disk).background_thread(false).clock(clock);
    builder.max_open_files(open_files).open().unwrap()
}

fn topic(broker: &Broker, name: &str, partitions: u32, durability: Durability) -> Topic {
    let config = TopicConfig::default().partitions(partitions).durability(durability);
    broker.create_topic(name, config).unwrap()
}

fn append(topic: &Topic, partition: u32, value: &str) {
    topic.partition(partition).unwrap().append(&[Record::new(value)]).unwrap();
}

/// Every record of a partition.
fn read(broker: &Broker, topic: &str, partition: u32) -> Vec<String> {
    let of = TopicPartition::new(topic, partition);
    let mut consumer = broker.consumer().assign([of]).unwrap();
    let mut values = Vec::new();
    loop {
        let records = consumer.poll(Duration::ZERO).unwrap();
        if records.is_empty() {
            return values;
        }
        let text = |value: &[u8]| String::from_utf8(value.to_vec()).unwrap();
        values.extend(records.iter().map(|record| text(record.value().unwrap())));
    }
}

/// How many calls of each kind some work makes.
fn calls(disk: &SimulatedDisk, work: impl FnOnce()) -> BTreeMap<DiskCallKind, u64> {
    let counts = Arc::new(Mutex::new(BTreeMap::new()));
    let counting = Arc::clone(&counts);
    disk.on_call(move |call| {
        *counting.lock().unwrap().entry(call.kind).or_default() += 1;
        Verdict::Proceeds
    });
    work();
    disk.revive();
    std::mem::take(&mut counts.lock().unwrap())
}

#[test]
fn however_many_partitions_are_appended_to_no_more_files_stay_open_than_allowed() {
    let disk = SimulatedDisk::new();
    let broker = open(&disk, 20);
    let topics = [topic(&broker, "w", 40, WRITTEN), topic(&broker, "f", 40, Durability::Fsync)];
    assert_eq!(disk.open_files(), 0, "nothing was appended to yet");
    let mut most = 0;
    for round in 0..3 {
        for (topic, partition) in topics.iter().flat_map(|t| (0..40).map(move |p| (t, p))) {
            append(topic, partition, &format!("{round} in {partition}"));
            most = most.max(disk.open_files());
        }
    }
    assert!((10..=20).contains(&most), "{most} files");
    for (topic, partition) in topics.iter().flat_map(|t| (0..40).map(move |p| (t, p))) {
        let expected: Vec<_> = (0..3).map(|round| format!("{round} in {partition}")).collect();
        assert_eq!(read(&broker, topic.name(), partition), expected);
    }
    assert!(disk.open_files() <= 20, "reading holds none");
}

#[test]
fn the_partition_that_was_not_appended_to_for_longest_closes_its_files() {
    let disk = SimulatedDisk::new();
    let broker = open(&disk, 6);
    let topic = topic(&broker, "t", 4, WRITTEN);
    (0..3).for_each(|partition| append(&topic, partition, "first"));
    let syncs = || broker.metrics().unwrap().syncs;
    append(&topic, 3, "closes the files of one, and with them all marks of use");
    let before = syncs();
    append(&topic, 3, "still open");
    assert_eq!(syncs(), before);
    // 0 was the first to go; 1 and 2 are open, and 1 is used again.
    append(&topic, 1, "used");
    append(&topic, 0, "opens its files again");
    let before = syncs();
    append(&topic, 1, "was spared");
    append(&topic, 3, "was spared");
    assert_eq!(syncs(), before, "an append to an open log syncs nothing");
    append(&topic, 2, "opens its files again");
    assert_eq!(syncs(), before + 1);
}

#[test]
fn what_was_acknowledged_before_the_files_were_closed_survives_a_power_cut() {
    let disk = SimulatedDisk::new();
    let broker = open(&disk, 2);
    let topic = topic(&broker, "t", 2, WRITTEN);
    (0..10).for_each(|number| append(&topic, 0, &number.to_string()));
    append(&topic, 1, "closes the other's files");
    let found = disk.power_loss(PowerLoss::LosesEverything);
    let expected: Vec<_> = (0..10).map(|number: u32| number.to_string()).collect();
    assert_eq!(read(&open(&found, 2), "t", 0), expected);
}

#[test]
fn opening_and_closing_untouched_partitions_costs_the_same_few_calls_for_each() {
    let counted = |partitions: u32| {
        let disk = SimulatedDisk::new();
        let broker = open(&disk, 1_000);
        let topic = topic(&broker, "t", partitions, WRITTEN);
        for partition in 0..partitions {
            (0..100).for_each(|_| append(&topic, partition, "x"));
        }
        broker.close().unwrap();
        drop((topic, broker));
        let calls = calls(&disk, || open(&disk, 100).close().unwrap());
        assert_eq!(disk.open_files(), 0);
        calls
    };
    let (few, many) = (counted(10), counted(110));
    let per_partition = |kind| {
        let more = many.get(&kind).unwrap_or(&0) - few.get(&kind).unwrap_or(&0);
        assert_eq!(more % 100, 0, "{kind:?}: {few:?}, {many:?}");
        more / 100
    };
    let kinds: Vec<_> = many.keys().copied().filter(|kind| per_partition(*kind) > 0).collect();
    println!("{:?}", kinds.iter().map(|kind| (*kind, per_partition(*kind))).collect::<Vec<_>>());
    let changes: u64 =
        kinds.iter().filter(|kind| kind.is_change()).map(|k| per_partition(*k)).sum();
    assert_eq!(changes, 1, "one sync of a checkpoint that is synced already");
    let all: u64 = kinds.iter().map(|kind| per_partition(*kind)).sum();
    assert!(all <= 30, "{all} calls");
}

#[test]
fn opening_looks_at_the_names_of_all_segments_and_into_one() {
    let counted = |segments: u32| {
        let disk = SimulatedDisk::new();
        let broker = open(&disk, 100);
        let config = TopicConfig::default().segment_bytes(1_024).max_message_bytes(1_000);
        let topic = broker.create_topic("t", config.durability(WRITTEN)).unwrap();
        (0..segments).for_each(|_| append(&topic, 0, &"x".repeat(800)));
        broker.close().unwrap();
        drop((topic, broker));
        calls(&disk, || drop(open(&disk, 100)))
    };
    assert_eq!(counted(10), counted(500));
}

#[test]
fn a_partition_or_a_segment_that_nobody_uses_takes_little_memory() {
    let kept = |partitions: u32, segments: u32| {
        let disk = SimulatedDisk::new();
        let broker = open(&disk, 1_000);
        let config = TopicConfig::default().segment_bytes(1_024).max_message_bytes(1_000);
        let config = config.partitions(partitions).durability(WRITTEN);
        let topic = broker.create_topic("t", config).unwrap();
        for partition in 0..partitions {
            (0..segments).for_each(|_| append(&topic, partition, &"x".repeat(800)));
        }
        broker.close().unwrap();
        drop((topic, broker));
        let mut opened = None;
        let kept = measure(|| opened = Some(open(&disk, 1_000))).bytes_current;
        drop(opened);
        kept
    };
    let base = kept(10, 1);
    let per_partition = (kept(110, 1) - base) / 100;
    let per_segment = (kept(10, 101) - base) / 1_000;
    println!("{per_partition} bytes per partition, {per_segment} per segment");
    assert!(per_partition <= 4_096, "{per_partition} bytes per partition");
    assert!(per_segment <= 512, "{per_segment} bytes per segment");
}
