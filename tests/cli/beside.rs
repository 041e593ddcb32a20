//! `consume --follow` beside a process that appends as fast as it can.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sapwood::{Broker, Durability, Record, TopicConfig};

use crate::scene::{Scene, interrupt};

/// How many records are followed at least; segments are small, so that many are rolled on the way.
const RECORDS: u64 = 100_000;
const PARTITIONS: u32 = 2;

/// Appends until it is told to stop; the value of each record is its offset. Returns the ends.
fn append(broker: &Broker, stop: &AtomicBool) -> Vec<u64> {
    let partitions = broker.topic("fast").unwrap().partitions();
    let mut number = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        for partition in &partitions {
            let next = partition.log_end_offset();
            let values: Vec<_> = (next..=next + number % 40).map(|at| at.to_string()).collect();
            let records: Vec<_> = values.iter().map(Record::new).collect();
            assert_eq!(partition.append(&records).unwrap().offset, next);
        }
        number += 1;
    }
    partitions.iter().map(sapwood::Partition::log_end_offset).collect()
}

#[test]
fn nothing_is_lost_doubled_or_changed_beside_a_writer_at_full_speed() {
    let scene = Scene::bare();
    let broker = scene.open();
    let config = TopicConfig::default()
        .partitions(PARTITIONS)
        .durability(Durability::Written { flush_interval: Duration::from_millis(100) })
        .max_message_bytes(16 << 10)
        .segment_bytes(64 << 10);
    broker.create_topic("fast", config).unwrap();
    let mut child =
        scene.start("consume fast --follow --from-beginning --format %t\\t%p\\t%o\\t%s\\n");
    let stop = Arc::new(AtomicBool::new(false));
    let writer = {
        let (broker, stop) = (broker.clone(), Arc::clone(&stop));
        std::thread::spawn(move || append(&broker, &stop))
    };
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next: BTreeMap<u32, u64> = BTreeMap::new();
    let mut check = |line: String| {
        let parts: Vec<_> = line.split('\t').collect();
        let [topic, partition, offset, value] = parts.as_slice() else { panic!("{line:?}") };
        let next = next.entry(partition.parse().unwrap()).or_default();
        assert_eq!((*topic, *offset, *value), ("fast", &*next.to_string(), &*next.to_string()));
        *next += 1;
    };
    (0..RECORDS).for_each(|_| check(lines.next().unwrap().unwrap()));
    stop.store(true, Ordering::Relaxed);
    let ends = writer.join().unwrap();
    // What was appended until the writer stopped is printed too.
    (RECORDS..ends.iter().sum()).for_each(|_| check(lines.next().unwrap().unwrap()));
    interrupt(&child);
    assert!(lines.next().is_none());
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
    assert_eq!(output.status.code(), Some(130));
    assert_eq!(next.into_values().collect::<Vec<_>>(), ends);
    assert!(broker.metrics().unwrap().segments_rolled > 10);
}
