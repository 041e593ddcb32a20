//! Prints every record of a directory as one line of JSON, in the form of `parse_log.py`, so that
//! the two can be compared.
//!
//! ```text
//! cargo run --release --example interop_dump -- DIRECTORY
//! ```

mod line;

use std::io::{BufWriter, Write as _};
use std::time::Duration;

use sapwood::Broker;

use crate::line::Line;

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
                    writeln!(out, "{}", Line::from(&record))?;
                }
            }
        }
    }
    Ok(())
}
