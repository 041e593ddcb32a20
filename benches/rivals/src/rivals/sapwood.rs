//! Sapwood: one topic of one partition, appended to directly, read by a consumer.

use std::path::Path;
use std::time::Duration;

use sapwood::{Broker, Consumer, Error, Partition, Record, TopicConfig, TopicPartition};

use crate::log::{Contender, Durability, Log, RandomReads, Result, Visit};

pub(super) const CONTENDER: Contender = Contender {
    name: "sapwood",
    open,
    written: "",
    synced: "",
    reads: "",
    random_reads: RandomReads::Possible(""),
};

const TOPIC: &str = "t";

struct Sapwood {
    broker: Broker,
    partition: Partition,
    /// Polls one record at a time.
    one: Consumer,
}

fn open(directory: &Path, durability: Durability) -> Result<Box<dyn Log>> {
    let broker = Broker::open(directory)?;
    let topic = match broker.topic(TOPIC) {
        Err(Error::UnknownTopic { .. }) => {
            let durability = match durability {
                Durability::Written => {
                    sapwood::Durability::Written { flush_interval: Duration::from_secs(1) }
                }
                Durability::Synced => sapwood::Durability::Fsync,
            };
            broker.create_topic(TOPIC, TopicConfig::default().durability(durability))?
        }
        found => found?,
    };
    let one = broker.consumer().max_poll_records(1).assign([TopicPartition::new(TOPIC, 0)])?;
    Ok(Box::new(Sapwood { partition: topic.partition(0)?, broker, one }))
}

impl Log for Sapwood {
    fn append(&self, values: &[&[u8]]) -> Result<()> {
        let records: Vec<_> = values.iter().map(Record::new).collect();
        self.partition.append(&records)?;
        Ok(())
    }

    fn read_at(&mut self, offset: u64, visit: &mut Visit<'_>) -> Result<()> {
        self.one.seek(&TopicPartition::new(TOPIC, 0), offset)?;
        for record in &self.one.poll(Duration::ZERO)? {
            visit(record.value().unwrap_or_default())?;
        }
        Ok(())
    }

    fn read_all(&mut self, visit: &mut Visit<'_>) -> Result<()> {
        let of = TopicPartition::new(TOPIC, 0);
        let mut consumer = self.broker.consumer().max_poll_records(10_000).assign([of.clone()])?;
        consumer.seek_to_beginning();
        while consumer.position(&of)? < self.partition.high_watermark() {
            for record in &consumer.poll(Duration::from_secs(1))? {
                visit(record.value().unwrap_or_default())?;
            }
        }
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(self.broker.close()?)
    }
}
