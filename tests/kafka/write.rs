//! Writes what Apache Kafka is to read, and says what is in it. `tests/kafka/run` calls it.
//!
//! ```text
//! kafka_write topics OUT          OUT/data, a directory of topics, and beside it what is in it
//! kafka_write endless DIRECTORY   appends until it is killed; says how many records are acknowledged
//! kafka_write records COUNT       prints the first records that `endless` appends
//! kafka_write recover OUT         opens and closes OUT/data, which a killed process has left; says what is in it
//! kafka_write backup DIRECTORY TO copies a directory that is in use
//! kafka_write salvage FROM TO     makes a Sapwood directory of partitions that Kafka has written
//! kafka_write continue DIRECTORY  appends to every partition
//! kafka_write partitions FILE     checks lines of key, number of partitions and partition
//! ```

#[path = "../interop/line.rs"]
mod line;

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::Duration;

use sapwood::{
    Broker, Compression, DefaultPartitioner, OffsetAndMetadata, Partition, Partitioner, Placement,
    Record, Timestamp, TimestampType, Topic, TopicConfig, TopicPartition,
};
use serde_json::json;

use crate::line::Line;

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

/// 14 November 2023, 22:13:20 UTC. Fixed, so that every run writes the same.
const T0: i64 = 1_700_000_000_000;

fn main() -> Result<()> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["topics", out] => topics(Path::new(out)),
        ["endless", directory] => endless(Path::new(directory)),
        ["records", count] => {
            write_endless(BufWriter::new(std::io::stdout().lock()), count.parse()?)
        }
        ["recover", directory] => recover(Path::new(directory)),
        ["backup", directory, to] => {
            Broker::open_read_only(directory)?.backup(to)?;
            Ok(())
        }
        ["salvage", from, to] => salvage(from, to),
        ["continue", directory] => go_on(directory),
        ["partitions", file] => partitions(Path::new(file)),
        _ => Err("see the top of tests/kafka/write.rs".into()),
    }
}

/// A record as it was sent.
#[derive(Debug, Clone, Default)]
struct Sent {
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(&'static str, Option<Vec<u8>>)>,
    timestamp: i64,
}

impl Sent {
    fn record(&self) -> Record<'_> {
        let record = match (&self.value, &self.key) {
            (Some(value), Some(key)) => Record::new(value).key(key),
            (Some(value), None) => Record::new(value),
            (None, key) => Record::tombstone(key.as_deref().unwrap_or_default()),
        };
        let timed = record.timestamp(Timestamp::from_millis(self.timestamp));
        self.headers.iter().fold(timed, |record, (name, value)| match value {
            Some(value) => record.header(name, value),
            None => record.null_header(name),
        })
    }

    fn line<'a>(&'a self, at: &'a TopicPartition, offset: u64, timestamp: i64) -> Line<'a> {
        let headers = self.headers.iter();
        Line {
            topic: at.topic(),
            partition: at.partition(),
            offset,
            timestamp,
            key: self.key.as_deref(),
            value: self.value.as_deref(),
            headers: headers.map(|(name, value)| (*name, value.as_deref())).collect(),
        }
    }
}

/// The record of a number: every kind of null and empty, short and long fields, timestamps that run
/// backwards, headers of all sorts.
fn sent(number: u64) -> Sent {
    let text = |repeats: usize| format!("record {number} ").repeat(repeats).into_bytes();
    let plain = Sent {
        key: Some(format!("key {}", number % 7).into_bytes()),
        value: Some(text(1 + usize::try_from(number % 5).expect("it is small"))),
        timestamp: T0 + i64::try_from(number).expect("few records") * 100,
        ..Sent::default()
    };
    match number % 11 {
        0 => Sent { key: None, ..plain },
        1 => Sent { key: Some(Vec::new()), ..plain },
        2 => Sent { value: None, ..plain },
        3 => Sent { value: Some(Vec::new()), ..plain },
        4 => Sent { key: None, value: Some(Vec::new()), timestamp: plain.timestamp - 950, ..plain },
        5 => Sent { value: Some((0..=255).collect()), ..plain },
        6 => Sent { value: Some(text(100)), ..plain },
        7 => Sent {
            headers: vec![
                ("trace", Some(vec![0, 1, 255])),
                ("trace", None),
                ("", Some(Vec::new())),
                ("größe", Some("大".into())),
            ],
            ..plain
        },
        _ => plain,
    }
}

/// How a topic is written.
struct Case {
    name: &'static str,
    config: TopicConfig,
    records: u64,
    /// How many records go into one batch, at most.
    batch: u64,
}

fn cases() -> Vec<Case> {
    // The records are old: by default retention would take them at once.
    let kept = || TopicConfig::default().retention_ms(None);
    let small = || kept().segment_bytes(16 << 10).max_message_bytes(8 << 10);
    let case = |name, config, records, batch| Case { name, config, records, batch };
    vec![
        case("plain", kept().partitions(3), 500, 40),
        case("singly", kept(), 200, 1),
        case("lz4", kept().compression(Compression::Lz4), 500, 40),
        // Records of more than 64 KiB in a batch take several blocks of LZ4.
        case("lz4-large", kept().compression(Compression::Lz4), 2_000, 1_000),
        case("zstd", kept().compression(Compression::zstd()), 500, 40),
        case("zstd-large", kept().compression(Compression::zstd()), 2_000, 1_000),
        case("append-time", kept().message_timestamp_type(TimestampType::LogAppendTime), 100, 10),
        case("rolls", small().index_interval_bytes(256), 1_000, 10),
        case("rolls-by-time", small().segment_ms(Duration::from_secs(5)), 400, 10),
        case("rolls-by-index", small().index_interval_bytes(1).segment_index_bytes(120), 200, 3),
        case("retained", small().retention_bytes(64 << 10), 3_000, 10),
        case("deleted", small(), 300, 10),
        case("empty", kept().partitions(2), 0, 1),
    ]
}

/// Writes every topic and closes, with everything that is known of them beside the directory.
fn topics(out: &Path) -> Result<()> {
    fs::create_dir_all(out)?;
    let builder = Broker::builder(out.join("data")).background_thread(false);
    let broker = builder.retention_check_interval(Duration::from_millis(1)).open()?;
    let mut lines = BufWriter::new(File::create(out.join("records.jsonl"))?);
    for case in cases() {
        let topic = broker.create_topic(case.name, case.config.clone())?;
        for partition in topic.partitions() {
            let written = append(&partition, &case)?;
            give_up_some(&broker, &partition)?;
            let kept = usize::try_from(partition.log_start_offset())?;
            written.iter().skip(kept).try_for_each(|line| writeln!(lines, "{line}"))?;
        }
    }
    produce_keyed(&broker, &mut lines)?;
    lines.flush()?;
    commit_offsets(&broker)?;
    describe(&broker, out)?;
    Ok(broker.close()?)
}

/// Appends in batches of changing length. Returns a line for each record.
fn append(partition: &Partition, case: &Case) -> Result<Vec<String>> {
    let mut written = Vec::new();
    let mut next = 0;
    while next < case.records {
        let end = case.records.min(next + 1 + next * 7 % case.batch);
        let batch: Vec<_> = (next..end).map(sent).collect();
        let records: Vec<_> = batch.iter().map(Sent::record).collect();
        let first = partition.append(&records)?;
        if first.offset != next {
            return Err(format!("offset {} where {next} is due", first.offset).into());
        }
        let at_append = case.name == "append-time";
        written.extend(batch.iter().zip(next..).map(|(sent, offset)| {
            let timestamp = if at_append { first.timestamp.as_millis() } else { sent.timestamp };
            sent.line(&first.topic_partition, offset, timestamp).to_string()
        }));
        next = end;
    }
    Ok(written)
}

/// Has retention do its work, and deletes up to the middle of a segment.
fn give_up_some(broker: &Broker, partition: &Partition) -> Result<()> {
    broker.run_maintenance()?;
    let name = partition.topic().name().to_owned();
    if name == "deleted" {
        partition.delete_records(123)?;
    }
    let gave_up = partition.log_start_offset() > 0;
    if gave_up != ["retained", "deleted"].contains(&name.as_str()) {
        return Err(format!("{name} begins at {}", partition.log_start_offset()).into());
    }
    Ok(())
}

/// What a producer makes of it: batches as they come, partitions by key.
fn produce_keyed(broker: &Broker, lines: &mut impl Write) -> Result<()> {
    let config = TopicConfig::default().retention_ms(None).partitions(4);
    let topic = broker.create_topic("produced", config)?;
    let producer = broker.producer().compression(Compression::Lz4).build()?;
    let batch: Vec<_> = (0..2_000).map(sent).collect();
    let sends = batch.iter().map(|sent| producer.send(&topic, sent.record()));
    let deliveries = sends.collect::<sapwood::Result<Vec<_>>>()?;
    let mut written = Vec::new();
    for (sent, delivery) in batch.iter().zip(deliveries) {
        let at = delivery.wait()?;
        let line = sent.line(&at.topic_partition, at.offset, sent.timestamp).to_string();
        written.push((at.topic_partition, at.offset, line));
    }
    written.sort();
    Ok(written.iter().try_for_each(|(_, _, line)| writeln!(lines, "{line}"))?)
}

/// A group that has come to the middle of everything, and one that is at the end of one topic.
fn commit_offsets(broker: &Broker) -> Result<()> {
    let user_topics = broker.topics()?.into_iter().filter(|topic| !topic.is_internal());
    let partitions: Vec<_> = user_topics.flat_map(|topic| topic.partitions()).collect();
    let middle = partitions.iter().map(|partition| {
        let offset = partition.log_start_offset().midpoint(partition.log_end_offset());
        (partition.topic_partition().clone(), OffsetAndMetadata::new(offset).metadata("half"))
    });
    broker.reset_group("billing", middle)?;
    let plain = partitions.iter().filter(|partition| partition.topic().name() == "plain");
    let ends = plain.map(|partition| {
        (partition.topic_partition().clone(), OffsetAndMetadata::new(partition.log_end_offset()))
    });
    Ok(broker.reset_group("audit", ends)?)
}

/// Writes down what Kafka is to say of a directory.
fn describe(broker: &Broker, out: &Path) -> Result<()> {
    Ok(fs::write(out.join("expected.json"), expected(broker)?.to_string())?)
}

/// What Kafka is to say of the directory.
fn expected(broker: &Broker) -> Result<serde_json::Value> {
    let topics = broker.topics()?;
    let user_topics: Vec<_> = topics.iter().filter(|topic| !topic.is_internal()).collect();
    let mut partitions = Vec::new();
    for partition in user_topics.iter().flat_map(|topic| topic.partitions()) {
        partitions.push(json!({
            "topic": partition.topic().name(),
            "partition": partition.topic_partition().partition(),
            "start": partition.log_start_offset(),
            "end": partition.log_end_offset(),
            "timestamps": timestamps(&partition)?,
        }));
    }
    let mut offsets = Vec::new();
    for group in broker.list_groups()? {
        let description = broker.describe_group(&group)?.ok_or("a listed group is not there")?;
        offsets.extend(description.offsets.iter().map(|offset| {
            let at = &offset.topic_partition;
            json!([group, at.topic(), at.partition(), offset.committed.offset])
        }));
    }
    let topics: Vec<_> = user_topics.iter().map(|topic| kafkas_topic(topic)).collect();
    Ok(json!({ "topics": topics, "partitions": partitions, "offsets": offsets }))
}

/// The topic as Kafka is to have it, with every setting that is one of Kafka's too.
fn kafkas_topic(topic: &Topic) -> serde_json::Value {
    /// Kafka has no smaller segments.
    const SEGMENT_BYTES_MIN: u64 = 1 << 20;
    let ours = ["durability", "flush.ms", "max.bytes", "max.bytes.policy", "retention.groups"];
    let mut settings = serde_json::Map::new();
    for (name, value) in topic.config().properties() {
        let small = name == "segment.bytes"
            && value.parse::<u64>().is_ok_and(|bytes| bytes < SEGMENT_BYTES_MIN);
        let value = if small { SEGMENT_BYTES_MIN.to_string() } else { value };
        if !ours.contains(&name) {
            settings.insert(name.to_owned(), value.into());
        }
    }
    json!({ "name": topic.name(), "config": settings })
}

/// Points in time around those of the records, and the record that Sapwood finds for each.
fn timestamps(partition: &Partition) -> Result<Vec<serde_json::Value>> {
    let after = (0..20).map(|n| T0 - 500 + n * 5_037);
    let mut found = Vec::new();
    for timestamp in after {
        let first = partition.offset_for_timestamp(Timestamp::from_millis(timestamp))?;
        let (offset, at) = first
            .map_or((-1, -1), |(offset, at)| (i64::try_from(offset).unwrap_or(-1), at.as_millis()));
        found.push(json!([timestamp, offset, at]));
    }
    Ok(found)
}

const ENDLESS: &str = "endless";

fn endless_config() -> TopicConfig {
    let small = TopicConfig::default().segment_bytes(256 << 10).max_message_bytes(32 << 10);
    small.index_interval_bytes(1_024).retention_ms(None).compression(None)
}

/// Appends until the process is killed, and says after each batch how many records it has come to.
fn endless(directory: &Path) -> Result<()> {
    let broker = Broker::open(directory)?;
    let topic = broker.create_topic(ENDLESS, endless_config())?;
    let partition = topic.partition(0)?;
    let mut out = std::io::stdout();
    for first in (0..).step_by(10) {
        let batch: Vec<_> = (first..first + 10).map(sent).collect();
        let records: Vec<_> = batch.iter().map(Sent::record).collect();
        partition.append(&records)?;
        writeln!(out, "{}", first + 10)?;
        // So that a slow reader does not see more than `records` is asked for.
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// The first records of the endless topic.
fn write_endless(mut out: impl Write, count: u64) -> Result<()> {
    let at = TopicPartition::new(ENDLESS, 0);
    for offset in 0..count {
        let sent = sent(offset);
        writeln!(out, "{}", sent.line(&at, offset, sent.timestamp))?;
    }
    Ok(out.flush()?)
}

/// Opens what a killed process has left, which cuts off what was not finished, and closes.
fn recover(out: &Path) -> Result<()> {
    let broker = Broker::builder(out.join("data")).create(false).open()?;
    let count = broker.topic(ENDLESS)?.partition(0)?.log_end_offset();
    write_endless(BufWriter::new(File::create(out.join("records.jsonl"))?), count)?;
    describe(&broker, out)?;
    Ok(broker.close()?)
}

/// Makes a directory of Sapwood's of what is in one that Kafka has written.
fn salvage(from: &str, to: &str) -> Result<()> {
    for partition in sapwood::salvage(from, to)?.partitions {
        let (of, lost) = (&partition.topic_partition, &partition.lost);
        eprintln!(
            "{of}: {} to {}, gaps {lost:?}",
            partition.log_start_offset, partition.log_end_offset
        );
    }
    Ok(())
}

/// Appends a few records to every partition.
fn go_on(directory: &str) -> Result<()> {
    let broker = Broker::builder(directory).create(false).open()?;
    let batch: Vec<_> = (0..12).map(sent).collect();
    let records: Vec<_> = batch.iter().map(Sent::record).collect();
    for topic in broker.topics()? {
        topic.partitions().iter().try_for_each(|partition| partition.append(&records).map(drop))?;
    }
    Ok(broker.close()?)
}

/// Whether the keys of a file go to the partitions that stand beside them.
fn partitions(file: &Path) -> Result<()> {
    for line in fs::read_to_string(file)?.lines() {
        let fields: Vec<_> = line.split(' ').collect();
        let [key, partitions, expected] = fields[..] else { return Err(line.into()) };
        let key = bytes(key.trim_start_matches('-'))?;
        let found = DefaultPartitioner.place(Some(&key), None, partitions.parse()?);
        if found != Placement::Partition(expected.parse()?) {
            return Err(format!("{found:?}, where Kafka says: {line}").into());
        }
    }
    Ok(())
}

fn bytes(hex: &str) -> Result<Vec<u8>> {
    let pairs = (0..hex.len()).step_by(2).map(|at| hex.get(at..at + 2).unwrap_or_default());
    Ok(pairs.map(|pair| u8::from_str_radix(pair, 16)).collect::<Result<_, _>>()?)
}
