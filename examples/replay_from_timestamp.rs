//! Going back in time: what happened since a moment, and what happened in between.
//!
//! ```text
//! cargo run --release --example replay_from_timestamp
//! ```
//!
//! A sensor has reported every minute of a day. The example asks for everything since 18:00, and
//! then for the hour from 03:00 to 04:00. Only the batches around the answer are read.

use std::time::Duration;

use sapwood::{Broker, Consumer, Record, Result, Timestamp, TopicConfig, TopicPartition};

const MIDNIGHT: Timestamp = Timestamp::from_millis(1_700_006_400_000);
const MINUTE: Duration = Duration::from_secs(60);

fn main() -> Result<()> {
    let broker = Broker::in_memory()?;
    let readings = broker.create_topic("readings", TopicConfig::default().retention_ms(None))?;
    let producer = broker.producer().build()?;
    for minute in 0..24 * 60 {
        let value = format!("{:.1} degrees", 15.0 + f64::from(minute % 600) / 60.0);
        let at = MIDNIGHT.saturating_add(MINUTE * minute);
        producer.send(&readings, Record::new(&value).key("roof").timestamp(at))?;
    }
    producer.flush()?;

    let log = TopicPartition::new("readings", 0);
    let mut consumer = broker.consumer().assign([log.clone()])?;

    let evening = MIDNIGHT.saturating_add(MINUTE * 18 * 60);
    consumer.seek_to_timestamp(&log, evening)?;
    println!("since 18:00: {} readings", count_until(&mut consumer, None)?);

    let (from, to) = (MIDNIGHT.saturating_add(MINUTE * 180), MIDNIGHT.saturating_add(MINUTE * 240));
    consumer.seek_to_timestamp(&log, from)?;
    println!("from 03:00 to 04:00: {} readings", count_until(&mut consumer, Some(to))?);
    broker.close()
}

/// How many records there are from the position on, up to a timestamp or the end.
fn count_until(consumer: &mut Consumer, end: Option<Timestamp>) -> Result<usize> {
    let mut count = 0;
    loop {
        let records = consumer.poll(Duration::ZERO)?;
        if records.is_empty() {
            return Ok(count);
        }
        for record in &records {
            if end.is_some_and(|end| record.timestamp() >= end) {
                return Ok(count);
            }
            count += 1;
        }
    }
}
