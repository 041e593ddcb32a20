//! Goal: what a Kafka broker has written is read as Kafka's consumer reads it, and can be gone on with.
//!
//! Method: directories that a broker of version 4.4 has left, with each codec, several segments, transactions,
//! log-append time and a compacted topic, and what its consumer has read of them.
//! `tests/kafka/run --write-data` writes them; it also has the broker read on what Sapwood has appended.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sapwood::{Broker, DirectoryDump, Record, Topic, TopicPartition};

#[path = "../interop/line.rs"]
mod line;

use line::Line;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/from-kafka")
}

/// What Kafka's consumer has read of a topic.
fn expected(topic: &str) -> Vec<String> {
    expected_in("records.jsonl", topic)
}

fn expected_in(file: &str, topic: &str) -> Vec<String> {
    let lines = fs::read_to_string(golden().join(file)).unwrap();
    let topic = format!("\"topic\":\"{topic}\"");
    lines.lines().filter(|line| line.contains(&topic)).map(str::to_owned).collect()
}

/// Whether this build can decompress what is in a topic.
fn is_readable(topic: &Topic) -> bool {
    let gzip = cfg!(feature = "gzip") || topic.name() != "from-gzip";
    let snappy = cfg!(feature = "snappy") || topic.name() != "from-snappy";
    gzip && snappy
}

fn read(broker: &Broker, topic: &Topic) -> Vec<String> {
    read_at("read_uncommitted", broker, topic)
}

fn read_at(level: &str, broker: &Broker, topic: &Topic) -> Vec<String> {
    let address = TopicPartition::new(topic.name(), 0);
    let consumer = broker.consumer().property("isolation.level", level).unwrap();
    let mut consumer = consumer.assign([address.clone()]).unwrap();
    let mut lines = Vec::new();
    while consumer.lag(&address).unwrap() > 0 {
        for record in &consumer.poll(Duration::from_secs(10)).unwrap() {
            lines.push(Line::from(&record).to_string());
        }
    }
    lines
}

/// A directory of Sapwood's, made of Kafka's.
fn salvaged() -> (tempfile::TempDir, Broker) {
    let directory = tempfile::tempdir().unwrap();
    let ours = directory.path().join("ours");
    sapwood::salvage(golden().join("data"), &ours).unwrap();
    let broker = Broker::open(&ours).unwrap();
    (directory, broker)
}

#[test]
fn kafkas_records_are_read_as_its_consumer_reads_them() {
    let (_directory, broker) = salvaged();
    let topics = broker.topics().unwrap();
    assert_eq!(topics.len(), 9);
    for topic in topics.iter().filter(|topic| is_readable(topic)) {
        assert_eq!(read(&broker, topic), expected(topic.name()), "{}", topic.name());
    }
}

#[test]
fn kafkas_transactions_are_read_as_its_read_committed_consumer_reads_them() {
    let (_directory, broker) = salvaged();
    let mut left_out = 0;
    for topic in broker.topics().unwrap().iter().filter(|topic| is_readable(topic)) {
        let committed = read_at("read_committed", &broker, topic);
        assert_eq!(committed, expected_in("committed.jsonl", topic.name()), "{}", topic.name());
        left_out += expected(topic.name()).len() - committed.len();
    }
    assert!(left_out > 0, "there are aborted transactions");
}

#[test]
fn a_log_of_kafkas_is_gone_on_with_at_its_end_and_keeps_its_records() {
    let (_directory, broker) = salvaged();
    for topic in broker.topics().unwrap().iter().filter(|topic| is_readable(topic)) {
        let partition = topic.partition(0).unwrap();
        let end = partition.log_end_offset();
        assert_eq!(partition.append(&[Record::new("ours")]).unwrap().offset, end);
        let lines = read(&broker, topic);
        let (last, before) = lines.split_last().unwrap();
        assert_eq!(before, expected(topic.name()), "{}", topic.name());
        assert!(last.contains(&format!("\"offset\":{end},")), "{last}");
    }
    // What this build cannot decompress it cannot vouch for.
    let topics = broker.topics().unwrap();
    let unreadable = topics.iter().filter(|topic| !is_readable(topic)).map(Topic::name);
    let report = broker.verify().unwrap();
    let damaged = report.damaged().map(|partition| partition.topic_partition.topic());
    assert!(damaged.eq(unreadable), "{report:?}");
}

#[test]
fn kafkas_segments_and_indexes_look_whole_in_a_dump() {
    let mut segments = 0;
    for partition in DirectoryDump::open(golden().join("data")).unwrap().partitions().unwrap() {
        assert!(partition.topic_id().unwrap().is_some());
        for segment in partition.segments().unwrap() {
            let segment = segment.unwrap();
            let damage = segment.check_indexes().unwrap();
            assert!(damage.is_empty(), "{}: {damage:?}", segment.path().display());
            segments += 1;
        }
    }
    assert!(segments > 9, "there are topics with several segments");
}
