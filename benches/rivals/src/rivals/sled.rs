//! sled: a B-tree over a log; the offset is the key.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use sled::{Batch, Db};

use crate::log::{Contender, Durability, Log, RandomReads, Result, Visit};

pub(super) const CONTENDER: Contender = Contender {
    name: "sled",
    open,
    written: "in the process until flushed, every second",
    synced: "ACKNOWLEDGES EARLY: by sync_file_range, which leaves the data in the cache of the disk",
    reads: "",
    random_reads: RandomReads::Possible(""),
};

struct Sled {
    database: Db,
    next_offset: AtomicU64,
    durability: Durability,
}

fn open(directory: &Path, durability: Durability) -> Result<Box<dyn Log>> {
    let database = sled::Config::new().path(directory).flush_every_ms(Some(1_000)).open()?;
    Ok(Box::new(Sled { database, next_offset: AtomicU64::new(0), durability }))
}

impl Log for Sled {
    fn append(&self, values: &[&[u8]]) -> Result<()> {
        let first = self.next_offset.fetch_add(values.len() as u64, Ordering::Relaxed);
        if let [value] = values {
            self.database.insert(first.to_be_bytes(), *value)?;
        } else {
            let mut batch = Batch::default();
            for (offset, value) in (first..).zip(values) {
                batch.insert(&offset.to_be_bytes(), *value);
            }
            self.database.apply_batch(batch)?;
        }
        if self.durability == Durability::Synced {
            self.database.flush()?;
        }
        Ok(())
    }

    fn read_at(&mut self, offset: u64, visit: &mut Visit<'_>) -> Result<()> {
        if let Some(value) = self.database.get(offset.to_be_bytes())? {
            visit(&value)?;
        }
        Ok(())
    }

    fn read_all(&mut self, visit: &mut Visit<'_>) -> Result<()> {
        for record in self.database.iter() {
            visit(&record?.1)?;
        }
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.database.flush()?;
        Ok(())
    }
}
