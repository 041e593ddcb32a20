//! Real files go in, a consumer group gets every line back.
//!
//! ```text
//! cargo run --release --example quickstart -- [--dir DIR] [FILE...]
//! ```
//!
//! Every line of every file becomes a keyed record in a topic of four partitions, compressed with
//! lz4. Then a consumer group reads them all back, and a digest per key proves that every line came
//! back byte for byte and in order. Without files the example makes up a log of its own. Run it
//! again on the same directory and the group goes on where it left off.

use std::collections::BTreeMap;
use std::fs::File;
use std::hash::{DefaultHasher, Hasher};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use sapwood::{
    AutoOffsetReset, Broker, Compression, Consumer, Error, Partition, Producer, Record, Topic,
    TopicConfig,
};

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

const TOPIC: &str = "lines";
const GROUP: &str = "quickstart";
const PARTITIONS: u32 = 4;

/// Lines of one file are dealt to this many keys, so that they spread over the partitions.
const KEYS_PER_FILE: u64 = 64;

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("quickstart: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<bool> {
    let arguments = Arguments::parse()?;
    let broker = Broker::open(&arguments.directory)?;
    for partition in broker.recovery_report().cut() {
        if let Some(cut) = &partition.cut {
            let address = &partition.topic_partition;
            println!("{address}: an unfinished write was cut off at offset {}", cut.offset);
        }
    }
    let topic = match broker.topic(TOPIC) {
        Ok(topic) => topic,
        Err(Error::UnknownTopic { .. }) => {
            let config = TopicConfig::default().partitions(PARTITIONS);
            broker.create_topic(TOPIC, config.compression(Compression::Lz4))?
        }
        Err(error) => return Err(error.into()),
    };

    let before: Vec<u64> = topic.partitions().iter().map(Partition::log_end_offset).collect();
    let produced = produce_all(&broker, &topic, &arguments.files)?;
    let (consumed, lag) = consume_all(&broker, &before)?;

    print_table(&topic, &before, &produced, &consumed);
    let same = produced.digests == consumed.digests;
    if !same {
        println!("some lines did not come back as they were sent");
    }
    let on_disk = bytes(size_on_disk(&arguments.directory)?);
    println!("{} takes {on_disk} on disk", arguments.directory.display());
    broker.close()?;
    println!("produced {}, consumed {}, lag {lag}", produced.records, consumed.records);
    Ok(same && produced.records == consumed.records && lag == 0)
}

/// What went one way, and how fast.
#[derive(Default)]
struct Tally {
    records: u64,
    bytes: u64,
    digests: BTreeMap<Vec<u8>, Digest>,
    elapsed: Duration,
}

/// A running digest of the lines of one key, in their order.
#[derive(Default)]
struct Digest(DefaultHasher);

impl PartialEq for Digest {
    fn eq(&self, other: &Self) -> bool {
        self.0.finish() == other.0.finish()
    }
}

impl Tally {
    fn add(&mut self, key: &[u8], line: &[u8]) {
        self.records += 1;
        self.bytes += line.len() as u64;
        if !self.digests.contains_key(key) {
            self.digests.insert(key.to_vec(), Digest::default());
        }
        if let Some(Digest(digest)) = self.digests.get_mut(key) {
            digest.write_usize(line.len());
            digest.write(line);
        }
    }
}

fn produce_all(broker: &Broker, topic: &Topic, files: &[PathBuf]) -> Result<Tally> {
    let producer = broker.producer().batch_size(64 << 10).build()?;
    let started = Instant::now();
    let mut tally = Tally::default();
    if files.is_empty() {
        produce(&producer, topic, "sample", made_up_log().as_slice(), &mut tally)?;
    }
    for path in files {
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
        let file = File::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
        produce(&producer, topic, &name, BufReader::with_capacity(1 << 20, file), &mut tally)?;
    }
    // Everything sent so far is on disk when this returns.
    producer.flush()?;
    tally.elapsed = started.elapsed();
    Ok(tally)
}

fn produce(
    producer: &Producer,
    topic: &Topic,
    name: &str,
    mut lines: impl BufRead,
    tally: &mut Tally,
) -> Result<()> {
    let keys: Vec<String> = (0..KEYS_PER_FILE).map(|n| format!("{name}/{n}")).collect();
    let mut line = Vec::new();
    for key in keys.iter().cycle() {
        line.clear();
        if lines.read_until(b'\n', &mut line)? == 0 {
            break;
        }
        let value = line.strip_suffix(b"\n").unwrap_or(&line);
        // The delivery may be dropped: `flush` waits for all of them, and tells of any failure.
        producer.send(topic, Record::new(value).key(key))?;
        tally.add(key.as_bytes(), value);
    }
    Ok(())
}

fn consume_all(broker: &Broker, before: &[u64]) -> Result<(Tally, u64)> {
    let mut consumer = broker
        .consumer()
        .group(GROUP)
        .auto_offset_reset(AutoOffsetReset::Earliest)
        .max_poll_records(10_000)
        .subscribe([TOPIC])?;
    let started = Instant::now();
    let mut tally = Tally::default();
    let mut left_over = 0;
    while lag(&consumer)? > 0 {
        let records = consumer.poll(Duration::from_secs(1))?;
        for record in &records {
            // A run that was interrupted may have left lines that nobody had read yet.
            if record.offset() < before[record.partition() as usize] {
                left_over += 1;
                continue;
            }
            tally.add(record.key().unwrap_or_default(), record.value().unwrap_or_default());
        }
        consumer.commit()?;
    }
    tally.elapsed = started.elapsed();
    if left_over > 0 {
        println!("{left_over} records were left from an earlier run");
    }
    let lag = lag(&consumer)?;
    consumer.close()?;
    Ok((tally, lag))
}

fn lag(consumer: &Consumer) -> Result<u64> {
    let mut total = 0;
    for partition in consumer.assignment() {
        total += consumer.lag(&partition)?;
    }
    Ok(total)
}

fn print_table(topic: &Topic, before: &[u64], produced: &Tally, consumed: &Tally) {
    println!("{:<12} {:>12} {:>15} {:>12}", "partition", "new records", "log end offset", "size");
    for (partition, before) in topic.partitions().iter().zip(before) {
        println!(
            "{:<12} {:>12} {:>15} {:>12}",
            partition.topic_partition().to_string(),
            partition.log_end_offset() - before,
            partition.log_end_offset(),
            bytes(partition.size()),
        );
    }
    println!();
    println!(
        "{:<12} {:>12} {:>15} {:>12} {:>14} {:>10}",
        "", "records", "bytes", "seconds", "records/s", "MB/s"
    );
    for (name, tally) in [("produced", produced), ("consumed", consumed)] {
        let seconds = tally.elapsed.as_secs_f64().max(1e-9);
        println!(
            "{name:<12} {:>12} {:>15} {seconds:>12.3} {:>14.0} {:>10.1}",
            tally.records,
            tally.bytes,
            tally.records as f64 / seconds,
            tally.bytes as f64 / seconds / 1e6,
        );
    }
    println!();
}

fn bytes(n: u64) -> String {
    match n {
        0..1_024 => format!("{n} B"),
        1_024..1_048_576 => format!("{:.1} KiB", n as f64 / 1_024.0),
        _ => format!("{:.1} MiB", n as f64 / 1_048_576.0),
    }
}

fn size_on_disk(directory: &Path) -> Result<u64> {
    let mut total = 0;
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        total += if metadata.is_dir() { size_on_disk(&entry.path())? } else { metadata.len() };
    }
    Ok(total)
}

/// Something that looks like the log of a web server.
fn made_up_log() -> Vec<u8> {
    let mut log = String::new();
    for n in 0..20_000_u32 {
        let (host, path) = (n.wrapping_mul(2_654_435_761) % 250, n % 97);
        let (status, size) = (if n % 41 == 0 { 404 } else { 200 }, n * 7 % 5_000);
        log += &format!("10.0.0.{host} - - \"GET /item/{path} HTTP/1.1\" {status} {size}\n");
    }
    log.into_bytes()
}

struct Arguments {
    directory: PathBuf,
    files: Vec<PathBuf>,
}

impl Arguments {
    fn parse() -> Result<Self> {
        let mut parsed = Self { directory: PathBuf::from("sapwood-quickstart"), files: Vec::new() };
        let mut arguments = std::env::args_os().skip(1);
        while let Some(argument) = arguments.next() {
            if argument == "--dir" {
                parsed.directory = arguments.next().ok_or("--dir takes a directory")?.into();
            } else if argument.to_string_lossy().starts_with("--") {
                return Err("usage: quickstart [--dir DIR] [FILE...]".into());
            } else {
                parsed.files.push(argument.into());
            }
        }
        Ok(parsed)
    }
}
