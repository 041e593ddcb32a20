//! fjall: an LSM tree behind a journal; the offset is the key.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use crate::log::{Contender, Durability, Log, RandomReads, Result, Visit};

pub(super) const CONTENDER: Contender = Contender {
    name: "fjall",
    open,
    written: "",
    synced: "",
    reads: "",
    random_reads: RandomReads::Possible(""),
};

struct Fjall {
    database: Database,
    records: Keyspace,
    next_offset: AtomicU64,
    durability: Durability,
}

fn open(directory: &Path, durability: Durability) -> Result<Box<dyn Log>> {
    let database = Database::builder(directory).open()?;
    let records = database.keyspace("records", KeyspaceCreateOptions::default)?;
    Ok(Box::new(Fjall { database, records, next_offset: AtomicU64::new(0), durability }))
}

impl Log for Fjall {
    fn append(&self, values: &[&[u8]]) -> Result<()> {
        let first = self.next_offset.fetch_add(values.len() as u64, Ordering::Relaxed);
        if let [value] = values {
            self.records.insert(first.to_be_bytes(), *value)?;
        } else {
            let mut batch = self.database.batch();
            for (offset, value) in (first..).zip(values) {
                batch.insert(&self.records, offset.to_be_bytes(), *value);
            }
            batch.commit()?;
        }
        if self.durability == Durability::Synced {
            self.database.persist(PersistMode::SyncData)?;
        }
        Ok(())
    }

    fn read_at(&mut self, offset: u64, visit: &mut Visit<'_>) -> Result<()> {
        if let Some(value) = self.records.get(offset.to_be_bytes())? {
            visit(&value)?;
        }
        Ok(())
    }

    fn read_all(&mut self, visit: &mut Visit<'_>) -> Result<()> {
        for record in self.records.iter() {
            visit(&record.value()?)?;
        }
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(self.database.persist(PersistMode::SyncAll)?)
    }
}
