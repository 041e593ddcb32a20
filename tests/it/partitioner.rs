//! Goal: a key is found in the partition where Kafka's producer would have put it.

use std::fs;

use sapwood::{DefaultPartitioner, Partitioner, Placement};

/// Lines of key, number of partitions and partition, as Kafka's `BuiltInPartitioner` says. Written by
/// `tests/kafka/run --write-data`, which compares ten thousand.
const KAFKAS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/kafka-partitions.txt");

fn bytes(hex: &str) -> Vec<u8> {
    let digits = hex.strip_prefix('-').unwrap_or(hex);
    let pairs = (0..digits.len()).step_by(2).map(|at| &digits[at..at + 2]);
    pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
}

#[test]
fn keys_of_any_length_go_where_kafkas_producer_puts_them() {
    let lines = fs::read_to_string(KAFKAS).unwrap();
    for line in lines.lines() {
        let fields: Vec<_> = line.split(' ').collect();
        let [key, partitions, partition] = fields[..] else { panic!("{line}") };
        let placement =
            DefaultPartitioner.place(Some(&bytes(key)), None, partitions.parse().unwrap());
        assert_eq!(placement, Placement::Partition(partition.parse().unwrap()), "{line}");
    }
    assert_eq!(lines.lines().count(), 50);
}
