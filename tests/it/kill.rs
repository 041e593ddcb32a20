//! Goal: a process that is killed at any moment loses nothing that was acknowledged, invents
//! nothing, repeats nothing and reuses no offset (contract, clauses 1 to 4, 19, 28; fault F1).
//!
//! Method: this test starts itself as a child that appends as fast as it can, to topics of both
//! durabilities with small segments, and says on a pipe what was acknowledged. After a random time
//! it gets SIGKILL, the directory is opened, and every record is judged by what it says of itself.
//! `SAPWOOD_KILL_ROUNDS` sets the number of rounds.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use sapwood::{Broker, Durability, Partition, Record, Topic, TopicConfig, TopicPartition};

const CHILD: &str = "SAPWOOD_KILL_DIRECTORY";
const TOPICS: [&str; 2] = ["fsync", "written"];

fn rounds() -> u32 {
    std::env::var("SAPWOOD_KILL_ROUNDS").map_or(12, |text| text.parse().unwrap())
}

/// A value that can be judged alone: number, length, checksum of the rest.
fn value(number: u64) -> Vec<u8> {
    let filler = vec![b'a' + (number % 26) as u8; (number.wrapping_mul(7_919) % 3_000) as usize];
    let mut value = format!("{number}|{}|", filler.len()).into_bytes();
    value.extend(filler);
    let crc = crc32fast::hash(&value);
    value.extend(format!("|{crc:08x}").into_bytes());
    value
}

fn topics(broker: &Broker) -> Vec<Topic> {
    let interval = Duration::from_millis(50);
    let durabilities = [Durability::Fsync, Durability::Written { flush_interval: interval }];
    let config = |durability| {
        let small = TopicConfig::default().segment_bytes(64 << 10).max_message_bytes(16 << 10);
        small.durability(durability)
    };
    let make = |(name, durability)| {
        broker.topic(name).or_else(|_| broker.create_topic(name, config(durability))).unwrap()
    };
    TOPICS.into_iter().zip(durabilities).map(make).collect()
}

/// What the child does until it is killed.
#[test]
fn child() {
    let Ok(directory) = std::env::var(CHILD) else { return };
    let broker = Broker::open(directory).unwrap();
    let partitions: Vec<Partition> =
        topics(&broker).iter().map(|topic| topic.partition(0).unwrap()).collect();
    let mut out = std::io::stdout().lock();
    loop {
        for partition in &partitions {
            // Sometimes a batch of several records, which must be there whole.
            let next = partition.log_end_offset();
            let values: Vec<_> = (next..next + 1 + next % 3).map(value).collect();
            let records: Vec<_> = values.iter().map(Record::new).collect();
            let at = partition.append(&records).unwrap();
            let end = at.offset + records.len() as u64;
            writeln!(out, "acknowledged {} {end}", at.topic_partition.topic()).unwrap();
            out.flush().unwrap();
        }
    }
}

#[test]
fn a_killed_process_loses_nothing_that_was_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let mut acknowledged: BTreeMap<String, u64> = BTreeMap::new();
    for round in 0..rounds() {
        let delay = RandomState::new().hash_one(round) % 50;
        println!("round {round}: killed after {delay} ms");
        for (topic, end) in run_and_kill(directory.path(), Duration::from_millis(delay)) {
            acknowledged.insert(topic, end);
        }
        check(directory.path(), &acknowledged);
    }
    assert_eq!(acknowledged.len(), TOPICS.len(), "the child has come to work");
}

/// Runs the child for a while; returns the last acknowledgement of each topic.
fn run_and_kill(directory: &Path, delay: Duration) -> BTreeMap<String, u64> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "kill::child", "--nocapture"])
        .env(CHILD, directory)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let output = child.stdout.take().unwrap();
    let reader = std::thread::spawn(move || {
        let mut last = BTreeMap::new();
        // The last line may be torn: it ends in a newline or it does not count.
        let mut lines = BufReader::new(output);
        let mut line = String::new();
        while lines.read_line(&mut line).unwrap() > 0 && line.ends_with('\n') {
            if let Some(rest) = line.trim_end().strip_prefix("acknowledged ") {
                let (topic, end) = rest.split_once(' ').unwrap();
                last.insert(topic.to_owned(), end.parse().unwrap());
            }
            line.clear();
        }
        last
    });
    // The start of a process takes a while of its own; the kill may come before the first append.
    std::thread::sleep(delay + Duration::from_millis(10));
    child.kill().unwrap();
    child.wait().unwrap();
    reader.join().unwrap()
}

fn check(directory: &Path, acknowledged: &BTreeMap<String, u64>) {
    let broker = Broker::open(directory).unwrap();
    assert!(broker.verify().unwrap().is_intact());
    for topic in topics(&broker) {
        let partition = topic.partition(0).unwrap();
        let end = partition.log_end_offset();
        let promised = acknowledged.get(topic.name()).copied().unwrap_or(0);
        assert!(end >= promised, "{}: {promised} acknowledged, {end} found", topic.name());
        assert_eq!(partition.high_watermark(), end, "what was found is there to be read");
        read_and_judge(&broker, topic.name(), end);
    }
    // Dropped, not closed: the next round recovers again.
}

fn read_and_judge(broker: &Broker, topic: &str, end: u64) {
    let mut consumer = broker.consumer().assign([TopicPartition::new(topic, 0)]).unwrap();
    let mut next = 0;
    while next < end {
        let records = consumer.poll(Duration::from_secs(10)).unwrap();
        assert!(!records.is_empty(), "{topic}: nothing after {next} of {end}");
        for record in &records {
            assert_eq!(record.offset(), next, "{topic}: no gap, nothing twice");
            assert_eq!(record.value(), Some(value(next).as_slice()), "{topic} @ {next}");
            next += 1;
        }
    }
}
