//! merkql: a content-addressed store under a Merkle tree.

use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use merkql::broker::{Broker, BrokerConfig, BrokerRef};
use merkql::partition::Partition;
use merkql::record::Record;

use crate::log::{Contender, Durability, Log, RandomReads, Result, Visit};

pub(super) const CONTENDER: Contender = Contender {
    name: "merkql",
    open,
    written: "always syncs, and hashes every record",
    synced: "several syncs and renames an append; hashes every record",
    reads: "",
    random_reads: RandomReads::Possible(""),
};

const TOPIC: &str = "t";

/// How many records are read at once.
const READ_RECORDS: u64 = 10_000;

struct Merkql {
    partition: Arc<RwLock<Partition>>,
    /// Keeps the topic open.
    _broker: BrokerRef,
}

fn open(directory: &Path, _durability: Durability) -> Result<Box<dyn Log>> {
    let broker = Broker::open(BrokerConfig::new(directory))?;
    broker.ensure_topic(TOPIC)?;
    let topic = broker.topic(TOPIC).ok_or("the topic is gone")?;
    let partition = topic.partition(0).ok_or("the partition is gone")?;
    Ok(Box::new(Merkql { partition, _broker: broker }))
}

impl Log for Merkql {
    /// By the partition: `Producer::send_batch` syncs after every record.
    fn append(&self, values: &[&[u8]]) -> Result<()> {
        let record = |value: &&[u8]| {
            Ok(Record {
                key: None,
                value: std::str::from_utf8(value)?.to_owned(),
                topic: TOPIC.to_owned(),
                partition: 0,
                offset: 0,
                timestamp: SystemTime::now().into(),
            })
        };
        let mut records = values.iter().map(record).collect::<Result<Vec<_>>>()?;
        let mut partition = self.partition.write().unwrap_or_else(PoisonError::into_inner);
        partition.append_batch(&mut records)?;
        Ok(())
    }

    fn read_at(&mut self, offset: u64, visit: &mut Visit<'_>) -> Result<()> {
        let partition = self.partition.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(record) = partition.read(offset)? {
            visit(record.value.as_bytes())?;
        }
        Ok(())
    }

    fn read_all(&mut self, visit: &mut Visit<'_>) -> Result<()> {
        let partition = self.partition.read().unwrap_or_else(PoisonError::into_inner);
        for from in (0..partition.next_offset()).step_by(READ_RECORDS as usize) {
            for record in partition.read_range(from, from + READ_RECORDS)? {
                visit(record.value.as_bytes())?;
            }
        }
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}
