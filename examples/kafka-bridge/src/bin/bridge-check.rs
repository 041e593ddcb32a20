//! Writes what the bridge is to mirror, and compares what has arrived with it: for the script `test`.
//!
//! ```text
//! bridge-check write DIR SECONDS TOPIC...     writes for a while, all kinds of records, and says how many
//! bridge-check kafka-has DIR BOOTSTRAP TOPIC once|repeated
//! bridge-check directory-has DIR OTHER TOPIC once|repeated
//! ```
//!
//! The last two print a line of `ok:` or `FAILED:`. `once` means the same records in the same order;
//! `repeated` that some may have come again, each time with those that followed them.

use std::collections::HashSet;
use std::path::Path;
use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{Headers as _, Message as _};
use rdkafka::{Offset, TopicPartitionList};
use sapwood::{Broker, Error, Partition, Record, Timestamp, TopicConfig, TopicPartition};

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

const PARTITIONS: u32 = 3;
/// 14 November 2023, 22:13:20 UTC: each record has a time of its own, a millisecond after the one before.
const T0: i64 = 1_700_000_000_000;
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match &arguments[..] {
        ["write", directory, seconds, topics @ ..] => {
            write(Path::new(directory), Duration::from_secs(seconds.parse()?), topics)
        }
        ["kafka-has", directory, bootstrap, topic, how] => {
            let kafka = |number| of_kafka(bootstrap, topic, number);
            compare("Kafka", directory, topic, how, kafka)
        }
        ["directory-has", directory, other, topic, how] => {
            let other = Broker::open_read_only(other)?;
            let found = |number| of_sapwood(&other.topic(topic)?.partition(number)?);
            compare("the new directory", directory, topic, how, found)
        }
        _ => Err("see the top of bridge-check.rs".into()),
    }
}

fn write(directory: &Path, how_long: Duration, topics: &[&str]) -> Result<()> {
    let broker = Broker::open(directory)?;
    let mut partitions = Vec::new();
    for name in topics {
        let topic = match broker.topic(name) {
            Err(Error::UnknownTopic { .. }) => {
                broker.create_topic(name, TopicConfig::default().partitions(PARTITIONS))?
            }
            found => found?,
        };
        partitions.extend(topic.partitions());
    }
    let (started, mut written) = (Instant::now(), 0);
    while started.elapsed() < how_long {
        for partition in &partitions {
            let first = partition.log_end_offset();
            let batch: Vec<Sent> = (first..first + 20).map(Sent::number).collect();
            let records: Vec<Record<'_>> = batch.iter().map(Sent::record).collect();
            partition.append(&records)?;
            written += records.len();
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    broker.close()?;
    println!("{written}");
    Ok(())
}

/// Keys, values and headers of every kind, null and empty ones too.
struct Sent {
    key: Option<String>,
    value: Option<String>,
    headers: Vec<(&'static str, Option<String>)>,
    timestamp: Timestamp,
}

impl Sent {
    fn number(n: u64) -> Self {
        let key = match n % 5 {
            0 => None,
            1 => Some(String::new()),
            _ => Some(format!("key {}", n % 97)),
        };
        let value = match n % 7 {
            0 => None,
            1 => Some(String::new()),
            2 => Some("long ".repeat(400)),
            _ => Some(format!("value {n}")),
        };
        let headers = match n % 4 {
            0 => Vec::new(),
            1 => vec![("number", Some(n.to_string()))],
            2 => vec![("null", None), ("empty", Some(String::new()))],
            _ => vec![("twice", Some("a".to_owned())), ("twice", Some("ä".to_owned()))],
        };
        Self { key, value, headers, timestamp: Timestamp::from_millis(T0 + n.cast_signed()) }
    }

    fn record(&self) -> Record<'_> {
        let record = self.value.as_ref().map_or(Record::without_value(), Record::new);
        let record = self.key.iter().fold(record, Record::key);
        let mut record = record.timestamp(self.timestamp);
        for (name, value) in &self.headers {
            record = match value {
                Some(value) => record.header(name, value),
                None => record.null_header(name),
            };
        }
        record
    }
}

/// A record as it was found, but for its offset.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Found {
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Option<Vec<u8>>)>,
}

fn of_sapwood(partition: &Partition) -> Result<Vec<Found>> {
    let (mut found, mut offset) = (Vec::new(), partition.log_start_offset());
    while offset < partition.high_watermark() {
        let records = partition.read(offset, 10_000)?;
        found.extend(records.iter().map(|record| {
            let record = record.to_owned();
            Found {
                timestamp: record.timestamp.as_millis(),
                key: record.key,
                value: record.value,
                headers: record.headers,
            }
        }));
        offset = records.next_offsets().next().map_or(offset, |(_, next)| next);
    }
    Ok(found)
}

fn of_kafka(bootstrap: &str, topic: &str, number: u32) -> Result<Vec<Found>> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", "bridge-check")
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .create()?;
    let number = number.cast_signed();
    let (_, end) = consumer.fetch_watermarks(topic, number, CALL_TIMEOUT)?;
    let mut assignment = TopicPartitionList::new();
    assignment.add_partition_offset(topic, number, Offset::Beginning)?;
    consumer.assign(&assignment)?;
    let (mut found, deadline) = (Vec::new(), Instant::now() + CALL_TIMEOUT);
    loop {
        if let Some(message) = consumer.poll(Duration::from_millis(200)) {
            let message = message?;
            let header = |header: rdkafka::message::Header<'_, &[u8]>| {
                (header.key.to_owned(), header.value.map(<[u8]>::to_vec))
            };
            found.push(Found {
                timestamp: message.timestamp().to_millis().unwrap_or(-1),
                key: message.key().map(<[u8]>::to_vec),
                value: message.payload().map(<[u8]>::to_vec),
                headers: message
                    .headers()
                    .into_iter()
                    .flat_map(|all| all.iter().map(header))
                    .collect(),
            });
            continue;
        }
        // Behind the last record there may be the end of a transaction.
        let positions = consumer.position()?;
        match positions.find_partition(topic, number).map(|of| of.offset()) {
            Some(Offset::Offset(at)) if at >= end => return Ok(found),
            _ if end == 0 => return Ok(found),
            at if Instant::now() > deadline => {
                return Err(format!("{topic}-{number}: at {at:?}, not at its end {end}").into());
            }
            _ => {}
        }
    }
}

fn compare(
    who: &str,
    directory: &str,
    topic: &str,
    how: &str,
    found: impl Fn(u32) -> Result<Vec<Found>>,
) -> Result<()> {
    let broker = Broker::open_read_only(directory)?;
    for partition in broker.topic(topic)?.partitions() {
        let of: &TopicPartition = partition.topic_partition();
        let expected = of_sapwood(&partition)?;
        let found = found(of.partition())?;
        let all = found.len();
        let found = if how == "repeated" { first_of_each(found) } else { found };
        let repeated = all - found.len();
        if found == expected {
            println!(
                "ok: {who} has all {} records of {of} in order, {repeated} of them repeated",
                expected.len()
            );
        } else {
            let differs =
                found.iter().zip(&expected).position(|(found, expected)| found != expected);
            let (found, expected) = (found.len(), expected.len());
            println!(
                "FAILED: {who} has {found} records of {of}, expected {expected}; differs at {differs:?}"
            );
        }
    }
    Ok(())
}

fn first_of_each(found: Vec<Found>) -> Vec<Found> {
    let mut seen = HashSet::new();
    found.into_iter().filter(|record| seen.insert(record.clone())).collect()
}
