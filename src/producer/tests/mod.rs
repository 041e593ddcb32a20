//! The producer against time, full buffers, faults and threads.

mod batching;
mod failures;
mod memory;
mod threads;

use std::sync::Arc;
use std::time::Duration;

use super::{Producer, ProducerBuilder};
use crate::broker::Broker;
use crate::broker::config::BrokerBuilder;
use crate::fs::faults::FailingFileSystem;
use crate::log::config::{Durability, TopicConfig};
use crate::record::Record;
use crate::record::batch::RecordBatch;
use crate::time::{ManualClock, Timestamp};
use crate::topic::{Partition, Topic};

const T0: Timestamp = Timestamp::from_millis(1_700_000_000_000);

/// Long enough that only a mistake takes so long.
const LONG: Duration = Duration::from_secs(3600);

/// A broker on a file system of the test's own.
fn on(fs: &FailingFileSystem) -> BrokerBuilder {
    BrokerBuilder::in_memory().file_system(Arc::new(fs.clone()))
}

/// A broker in which nothing happens by itself, on a disk that fails on demand.
struct World {
    broker: Broker,
    clock: Arc<ManualClock>,
    fs: FailingFileSystem,
}

impl World {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::new(T0));
        let fs = FailingFileSystem::over_memory();
        let builder = on(&fs).clock(clock.clone());
        let broker = builder.background_thread(false).open().unwrap();
        Self { broker, clock, fs }
    }

    fn topic(&self, config: TopicConfig) -> Topic {
        self.broker.create_topic("orders", config).unwrap()
    }

    fn producer(&self, set: impl FnOnce(ProducerBuilder) -> ProducerBuilder) -> Producer {
        set(self.broker.producer().linger(LONG)).build().unwrap()
    }
}

fn written() -> TopicConfig {
    TopicConfig::default().durability(Durability::Written { flush_interval: LONG })
}

/// A record as it was read back.
#[derive(Debug, PartialEq, Eq)]
struct Stored {
    value: String,
    offset: u64,
    timestamp: Timestamp,
    base_offset: u64,
}

/// Every visible record of a partition.
fn stored(partition: &Partition) -> Vec<Stored> {
    let mut offset = partition.log_start_offset();
    let (mut all, mut buffer) = (Vec::new(), Vec::new());
    while let Some(fetched) = partition.log().read(offset, None, 1 << 20).unwrap() {
        let mut bytes: &[u8] = &fetched.bytes;
        while !bytes.is_empty() {
            let batch = RecordBatch::parse(bytes).unwrap();
            for record in batch.records(&mut buffer, 1 << 20).unwrap() {
                let record = record.unwrap();
                all.push(Stored {
                    value: String::from_utf8(record.value().unwrap().to_vec()).unwrap(),
                    offset: record.offset(),
                    timestamp: record.timestamp(),
                    base_offset: batch.base_offset(),
                });
            }
            bytes = &bytes[batch.size()..];
        }
        offset = fetched.next_offset;
    }
    all
}

fn values(topic: &Topic, partition: u32) -> Vec<String> {
    let stored = stored(&topic.partition(partition).unwrap());
    stored.into_iter().map(|record| record.value).collect()
}

fn send(producer: &Producer, topic: &Topic, value: &str) -> super::Delivery {
    producer.send(topic, Record::new(value)).unwrap()
}
