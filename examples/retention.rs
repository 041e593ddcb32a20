//! What is kept and for how long: by age, by size, until consumed, and never more than.
//!
//! ```text
//! cargo run --release --example retention
//! ```
//!
//! The clock is a manual one and the broker has no thread of its own, so that two days pass in a
//! moment and every step happens when the example says so.

use std::sync::Arc;
use std::time::Duration;

use sapwood::{
    Broker, BrokerBuilder, Error, ManualClock, Partition, Record, Result, Timestamp, TopicConfig,
    WhenFull,
};

const HOUR: Duration = Duration::from_secs(3_600);

fn main() -> Result<()> {
    let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_700_000_000_000)));
    let broker = BrokerBuilder::in_memory().clock(clock.clone()).background_thread(false).open()?;
    // Segments are what is deleted, whole: small ones show it better.
    let small = || TopicConfig::default().segment_bytes(64 << 10).max_message_bytes(32 << 10);

    let by_age = broker.create_topic("by-age", small().retention_ms(24 * HOUR))?.partition(0)?;
    for _ in 0..48 {
        fill(&by_age, 20)?;
        clock.advance(HOUR);
        broker.run_maintenance()?;
    }
    show("kept for a day, two days later", &by_age);

    let config = small().retention_ms(None).retention_bytes(256 << 10);
    let by_size = broker.create_topic("by-size", config)?.partition(0)?;
    fill(&by_size, 1_000)?;
    pass(&broker, &clock)?;
    show("at least the last 256 KiB", &by_size);

    let config = small().retention_ms(None).retention_groups(["billing"]);
    let until_consumed = broker.create_topic("until-consumed", config)?.partition(0)?;
    fill(&until_consumed, 1_000)?;
    pass(&broker, &clock)?;
    show("until consumed, by nobody yet", &until_consumed);
    let consumer = broker.consumer().group("billing").max_poll_records(600);
    let mut consumer = consumer.subscribe(["until-consumed"])?;
    consumer.poll(Duration::ZERO)?;
    consumer.commit()?;
    pass(&broker, &clock)?;
    show("the group has committed 600", &until_consumed);

    let config = small().max_bytes(512 << 10).when_full(WhenFull::Refuse);
    let capped = broker.create_topic("capped", config)?.partition(0)?;
    match fill(&capped, 1_000) {
        Err(error @ Error::TopicFull { .. }) => println!("refused: {error}"),
        other => other?,
    }
    broker.alter_topic("capped", capped.topic().config().when_full(WhenFull::DropOldest))?;
    fill(&capped, 1_000)?;
    show("never more than 512 KiB", &capped);
    broker.close()
}

/// Appends records of a kilobyte.
fn fill(partition: &Partition, records: usize) -> Result<()> {
    let value = [b'x'; 1_024];
    (0..records).try_for_each(|_| partition.append(&[Record::new(&value)]).map(drop))
}

/// Lets enough time go by that retention is looked at.
fn pass(broker: &Broker, clock: &ManualClock) -> Result<()> {
    clock.advance(Duration::from_secs(300));
    broker.run_maintenance()
}

fn show(what: &str, partition: &Partition) {
    println!(
        "{what}: offsets {} to {}, {} KiB",
        partition.log_start_offset(),
        partition.log_end_offset(),
        partition.size() / 1_024
    );
}
