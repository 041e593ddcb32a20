//! redb: copy-on-write B-trees; the offset is the key.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

use crate::log::{Contender, Durability, Log, RandomReads, Result, Visit};

pub(super) const CONTENDER: Contender = Contender {
    name: "redb",
    open,
    written: "in the process until a synced commit",
    synced: "",
    reads: "",
    random_reads: RandomReads::Possible(""),
};

const RECORDS: TableDefinition<u64, &[u8]> = TableDefinition::new("records");

struct Redb {
    database: Database,
    next_offset: AtomicU64,
    durability: redb::Durability,
}

fn open(directory: &Path, durability: Durability) -> Result<Box<dyn Log>> {
    let database = Database::create(directory.join("records.redb"))?;
    let durability = match durability {
        Durability::Written => redb::Durability::None,
        Durability::Synced => redb::Durability::Immediate,
    };
    Ok(Box::new(Redb { database, next_offset: AtomicU64::new(0), durability }))
}

impl Log for Redb {
    fn append(&self, values: &[&[u8]]) -> Result<()> {
        let first = self.next_offset.fetch_add(values.len() as u64, Ordering::Relaxed);
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(self.durability)?;
        {
            let mut table = transaction.open_table(RECORDS)?;
            for (offset, value) in (first..).zip(values) {
                table.insert(offset, *value)?;
            }
        }
        Ok(transaction.commit()?)
    }

    fn read_at(&mut self, offset: u64, visit: &mut Visit<'_>) -> Result<()> {
        let table = self.database.begin_read()?.open_table(RECORDS)?;
        if let Some(value) = table.get(offset)? {
            visit(value.value())?;
        }
        Ok(())
    }

    fn read_all(&mut self, visit: &mut Visit<'_>) -> Result<()> {
        for record in self.database.begin_read()?.open_table(RECORDS)?.iter()? {
            visit(record?.1.value())?;
        }
        Ok(())
    }

    /// What was committed without durability is persisted by a commit with it.
    fn close(self: Box<Self>) -> Result<()> {
        Ok(self.database.begin_write()?.commit()?)
    }
}
