//! Prints every record of a directory as one line of JSON, in the form of `parse_log.py`, so that
//! the two can be compared.
//!
//! ```text
//! cargo run --release --example interop_dump -- DIRECTORY
//! ```

use std::fmt::Write as _;
use std::io::{BufWriter, Write as _};
use std::time::Duration;

use sapwood::{Broker, ConsumerRecord, TopicPartition};
use serde_json::json;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = std::env::args_os().nth(1).ok_or("usage: interop_dump DIRECTORY")?;
    let broker = Broker::open_read_only(directory)?;
    let mut out = BufWriter::new(std::io::stdout().lock());
    for topic in broker.topics()? {
        for partition in topic.partitions() {
            let address = partition.topic_partition().clone();
            let mut consumer = broker.consumer().assign([address.clone()])?;
            while consumer.position(&address)? < partition.high_watermark() {
                for record in &consumer.poll(Duration::from_secs(1))? {
                    writeln!(out, "{}", line(&address, &record))?;
                }
            }
        }
    }
    Ok(())
}

fn line(address: &TopicPartition, record: &ConsumerRecord<'_>) -> serde_json::Value {
    let headers: Vec<_> =
        record.headers().map(|header| json!([header.name(), header.value().map(hex)])).collect();
    json!({
        "topic": address.topic(),
        "partition": address.partition(),
        "offset": record.offset(),
        "timestamp": record.timestamp().as_millis(),
        "key": record.key().map(hex),
        "value": record.value().map(hex),
        "headers": headers,
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes everything");
        text
    })
}
