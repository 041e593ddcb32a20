//! Prints every record of a directory as one line of JSON, in the form of `parse_log.py`, so that
//! the two can be compared.
//!
//! ```text
//! cargo run --release --example interop_dump -- DIRECTORY [ISOLATION-LEVEL]
//! ```

mod line;

use std::io::{BufWriter, Write as _};
use std::time::Duration;

use sapwood::Broker;

use crate::line::Line;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let directory = arguments.next().ok_or("usage: interop_dump DIRECTORY [ISOLATION-LEVEL]")?;
    let level = arguments.next().unwrap_or_else(|| "read_uncommitted".to_owned());
    let broker = Broker::open_read_only(directory)?;
    let mut out = BufWriter::new(std::io::stdout().lock());
    for topic in broker.topics()? {
        for partition in topic.partitions() {
            let address = partition.topic_partition().clone();
            let consumer = broker.consumer().property("isolation.level", &level)?;
            let mut consumer = consumer.assign([address.clone()])?;
            while consumer.lag(&address)? > 0 {
                for record in &consumer.poll(Duration::from_secs(1))? {
                    writeln!(out, "{}", Line::from(&record))?;
                }
            }
        }
    }
    Ok(())
}
