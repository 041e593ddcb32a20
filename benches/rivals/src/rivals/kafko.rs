//! kafko: a topic of one partition behind an asynchronous API, called from outside its runtime.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use kafko::{Kafko as Broker, Partition, Producer, Topic};
use tokio::runtime::Runtime;

use crate::log::{Contender, Durability, Log, RandomReads, Result, Visit};

pub(super) const CONTENDER: Contender = Contender {
    name: "kafko",
    open,
    written: "",
    synced: "Partition::sync after each append",
    reads: "reads the rest of the segment for each record",
    random_reads: RandomReads::Possible("reads the rest of the segment for each record"),
};

const TOPIC: &str = "t";

struct Kafko {
    runtime: Runtime,
    broker: Broker,
    topic: Arc<Topic>,
    producer: Producer,
    durability: Durability,
}

fn open(directory: &Path, durability: Durability) -> Result<Box<dyn Log>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let (broker, topic, producer) = runtime.block_on(async {
        let broker = Broker::open(directory).await?;
        if !broker.has_topic(TOPIC).await {
            broker.create_topic(TOPIC).await?;
        }
        let topic = broker.topic(TOPIC).await.ok_or("the topic is gone")?;
        let producer = broker.producer_for(TOPIC).await?;
        Result::Ok((broker, topic, producer))
    })?;
    Ok(Box::new(Kafko { runtime, broker, topic, producer, durability }))
}

impl Kafko {
    fn partition(&self) -> &Partition {
        &self.topic.partitions()[0]
    }
}

impl Log for Kafko {
    fn append(&self, values: &[&[u8]]) -> Result<()> {
        self.runtime.block_on(async {
            if let [value] = values {
                self.producer.send(None, Bytes::copy_from_slice(value)).await?;
            } else {
                let batch = values.iter().map(|value| (None, Bytes::copy_from_slice(value)));
                self.producer.send_batch(batch.collect()).await?;
            }
            if self.durability == Durability::Synced {
                self.partition().sync().await?;
            }
            Ok(())
        })
    }

    fn read_at(&mut self, offset: u64, visit: &mut Visit<'_>) -> Result<()> {
        if let Some(record) = self.runtime.block_on(self.partition().read_record_at(offset))? {
            visit(record.value())?;
        }
        Ok(())
    }

    fn read_all(&mut self, visit: &mut Visit<'_>) -> Result<()> {
        self.runtime.block_on(async {
            let mut consumer = self.broker.consumer_for(TOPIC).await?;
            consumer.seek_all(0);
            for _ in 0..self.partition().high_water_mark() {
                visit(consumer.next_record().await?.value())?;
            }
            Ok(())
        })
    }

    fn close(self: Box<Self>) -> Result<()> {
        let Self { runtime, broker, topic, producer, .. } = *self;
        drop((topic, producer));
        Ok(runtime.block_on(broker.shutdown())?)
    }
}
