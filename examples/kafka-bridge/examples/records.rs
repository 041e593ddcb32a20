//! Writes what the bridge is to mirror, and says what is in a directory. `test` calls it.
//!
//! ```text
//! records write DIRECTORY COUNT SECONDS TOPIC...   appends so many to each partition, the first half at
//!                                                  once and the others in half that time, and closes
//! records dump DIRECTORY                           prints each record as a line of JSON
//! ```

#[path = "../../../tests/interop/line.rs"]
mod line;

use std::io::{BufWriter, Write as _};
use std::thread;
use std::time::Duration;

use sapwood::{Broker, Record, Timestamp, TopicConfig};

use crate::line::Line;

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

const PARTITIONS: u32 = 2;
/// How many records of a partition are appended at once.
const BATCH: u64 = 50;
/// 14 November 2023, 22:13:20 UTC. Fixed, so that every run writes the same.
const T0: i64 = 1_700_000_000_000;

fn main() -> Result<()> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["write", directory, count, seconds, ref topics @ ..] => {
            write(directory, count.parse()?, seconds.parse()?, topics)
        }
        ["dump", directory] => dump(directory),
        _ => Err("see the top of examples/records.rs".into()),
    }
}

fn write(directory: &str, count: u64, seconds: u64, topics: &[&str]) -> Result<()> {
    let broker = Broker::open(directory)?;
    let config = TopicConfig::default().partitions(PARTITIONS).retention_ms(None);
    let topics = topics.iter().map(|name| broker.create_topic(name, config.clone()));
    let topics = topics.collect::<sapwood::Result<Vec<_>>>()?;
    let pause = Duration::from_secs(seconds) / u32::try_from(count.div_ceil(BATCH))?;
    for first in (0..count).step_by(usize::try_from(BATCH)?) {
        let texts: Vec<_> = (first..count.min(first + BATCH)).map(Text::of).collect();
        let records: Vec<_> = texts.iter().map(Text::record).collect();
        for partition in topics.iter().flat_map(sapwood::Topic::partitions) {
            partition.append(&records)?;
        }
        if first >= count / 2 {
            thread::sleep(pause);
        }
    }
    Ok(broker.close()?)
}

/// What a record is made of. Its number is in it, so that no two are the same.
struct Text {
    number: u64,
    timestamp: i64,
    key: String,
    value: String,
}

impl Text {
    fn of(number: u64) -> Self {
        let text = format!("record {number} ");
        let value = match number % 10_000 {
            // Now and then there are two after one another that are too large for one batch.
            49 => text.repeat(500_000 / text.len()),
            50 => text.repeat(600_000 / text.len()),
            more => text.repeat(1 + usize::try_from(more % 5).unwrap_or(0)),
        };
        // Now and then they run backwards.
        let late = if number.is_multiple_of(13) { 950 } else { 0 };
        let timestamp = T0 + number.cast_signed() * 100 - late;
        Self { number, timestamp, key: format!("key {}", number % 7), value }
    }

    /// Every kind of null and empty, and headers of all sorts.
    fn record(&self) -> Record<'_> {
        let record = match self.number % 11 {
            0 => Record::new(&self.value),
            1 => Record::new(&self.value).key(""),
            2 => Record::tombstone(&self.key),
            3 => Record::new("").key(&self.key),
            4 => Record::new(""),
            _ => Record::new(&self.value).key(&self.key),
        };
        let record = record.timestamp(Timestamp::from_millis(self.timestamp));
        if self.number.is_multiple_of(6) {
            let record = record.header("trace", b"\x00\x01\xff").null_header("trace");
            record.header("", "").header("größe", "大")
        } else {
            record
        }
    }
}

fn dump(directory: &str) -> Result<()> {
    let broker = Broker::open_read_only(directory)?;
    let mut out = BufWriter::new(std::io::stdout().lock());
    for partition in broker.topics()?.iter().flat_map(sapwood::Topic::partitions) {
        let of = partition.topic_partition().clone();
        let mut consumer = broker.consumer().assign([of.clone()])?;
        while consumer.position(&of)? < partition.high_watermark() {
            for record in &consumer.poll(Duration::from_secs(1))? {
                writeln!(out, "{}", Line::from(&record))?;
            }
        }
    }
    Ok(out.flush()?)
}
