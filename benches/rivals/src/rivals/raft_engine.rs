//! raft-engine: log files shared by Raft groups, of which there is one here.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use protobuf::descriptor::UninterpretedOption;
use raft_engine::{Config, Engine, LogBatch, MessageExt, ReadableSize};

use crate::log::{Contender, Durability, Log, RandomReads, Result, Visit};

pub(super) const CONTENDER: Contender = Contender {
    name: "raft-engine",
    open,
    written: "",
    synced: "a Raft group has one writer at a time",
    reads: "",
    random_reads: RandomReads::Possible(""),
};

/// The Raft group.
const GROUP: u64 = 1;

/// How many entries are read at once.
const READ_ENTRIES: u64 = 1_000;

/// An entry has to be a protobuf message that knows its index. This one comes with protobuf, and has
/// the two fields that a Raft entry needs here: an integer and bytes. It saves generating code.
#[derive(Clone)]
struct Indexed;

impl MessageExt for Indexed {
    type Entry = UninterpretedOption;

    fn index(entry: &Self::Entry) -> u64 {
        entry.get_positive_int_value()
    }
}

struct RaftEngine {
    engine: Engine,
    /// Entries have to be written in the order of their indices, as a Raft group does.
    next_index: Mutex<u64>,
    durability: Durability,
}

fn open(directory: &Path, durability: Durability) -> Result<Box<dyn Log>> {
    let config = Config {
        dir: directory.to_str().ok_or("the directory is not UTF-8")?.to_owned(),
        // No compression, as everywhere here.
        batch_compression_threshold: ReadableSize::kb(0),
        ..Config::default()
    };
    let engine = Engine::open(config)?;
    let next_index = Mutex::new(engine.last_index(GROUP).map_or(0, |last| last + 1));
    Ok(Box::new(RaftEngine { engine, next_index, durability }))
}

impl Log for RaftEngine {
    fn append(&self, values: &[&[u8]]) -> Result<()> {
        let mut next_index = self.next_index.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = |(index, value): (u64, &&[u8])| {
            let mut entry = UninterpretedOption::new();
            entry.set_positive_int_value(index);
            entry.set_string_value(value.to_vec());
            entry
        };
        let entries: Vec<_> = (*next_index..).zip(values).map(entry).collect();
        let mut batch = LogBatch::with_capacity(1);
        batch.add_entries::<Indexed>(GROUP, &entries)?;
        self.engine.write(&mut batch, self.durability == Durability::Synced)?;
        *next_index += values.len() as u64;
        Ok(())
    }

    fn read_at(&mut self, offset: u64, visit: &mut Visit<'_>) -> Result<()> {
        if let Some(entry) = self.engine.get_entry::<Indexed>(GROUP, offset)? {
            visit(entry.get_string_value())?;
        }
        Ok(())
    }

    fn read_all(&mut self, visit: &mut Visit<'_>) -> Result<()> {
        let end = self.engine.last_index(GROUP).map_or(0, |last| last + 1);
        let mut entries = Vec::new();
        for from in (0..end).step_by(READ_ENTRIES as usize) {
            entries.clear();
            let to = end.min(from + READ_ENTRIES);
            self.engine.fetch_entries_to::<Indexed>(GROUP, from, to, None, &mut entries)?;
            entries.iter().try_for_each(|entry| visit(entry.get_string_value()))?;
        }
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(self.engine.sync()?)
    }
}
