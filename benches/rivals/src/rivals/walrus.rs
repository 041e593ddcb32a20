//! walrus-rust: topics in blocks of large files, read by a cursor that the log keeps.

use std::path::Path;

use walrus_rust::{FsyncSchedule, ReadConsistency, Walrus as Wal};

use crate::log::{Contender, Durability, Log, RandomReads, Result, Visit};

pub(super) const CONTENDER: Contender = Contender {
    name: "walrus-rust",
    open,
    written: "",
    synced: "",
    reads: "reading consumes; the cursor is saved every 1,000 records",
    random_reads: RandomReads::Impossible("has a cursor and no offsets"),
};

const TOPIC: &str = "t";

/// How much is read at once; the log stops at 2,000 records anyway.
const READ_BYTES: usize = 1 << 20;

struct Walrus(Wal);

/// The log picks its directory itself: under `WALRUS_DATA_DIR`, which `main` sets, one named by the
/// key. The parent of `directory` is that place.
fn open(directory: &Path, durability: Durability) -> Result<Box<dyn Log>> {
    let key = directory.file_name().and_then(|name| name.to_str()).ok_or("no key")?;
    let consistency = ReadConsistency::AtLeastOnce { persist_every: 1_000 };
    let schedule = match durability {
        Durability::Written => FsyncSchedule::Milliseconds(1_000),
        Durability::Synced => FsyncSchedule::SyncEach,
    };
    let wal = Wal::with_consistency_and_schedule_for_key(key, consistency, schedule)?;
    Ok(Box::new(Walrus(wal)))
}

impl Log for Walrus {
    fn append(&self, values: &[&[u8]]) -> Result<()> {
        match values {
            [value] => Ok(self.0.append_for_topic(TOPIC, value)?),
            _ => Ok(self.0.batch_append_for_topic(TOPIC, values)?),
        }
    }

    fn read_at(&mut self, _offset: u64, _visit: &mut Visit<'_>) -> Result<()> {
        Err("has a cursor and no offsets".into())
    }

    fn read_all(&mut self, visit: &mut Visit<'_>) -> Result<()> {
        loop {
            let entries = self.0.batch_read_for_topic(TOPIC, READ_BYTES, true)?;
            if entries.is_empty() {
                return Ok(());
            }
            entries.iter().try_for_each(|entry| visit(&entry.data))?;
        }
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}
