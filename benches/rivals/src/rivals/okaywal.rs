//! okaywal: a write-ahead log whose entries are meant to be taken over by something else.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use okaywal::{
    Configuration, Entry, EntryId, LogManager, LogPosition, SegmentReader, WriteAheadLog,
};

use crate::log::{Contender, Durability, Log, RandomReads, Result, Visit};

pub(super) const CONTENDER: Contender = Contender {
    name: "okaywal",
    open,
    written: "always syncs",
    synced: "",
    reads: "reads by opening the log again",
    random_reads: RandomReads::Possible("the benchmark keeps the positions"),
};

/// Space made ahead, as much as a run can fill: what is checkpointed can no longer be read.
const SPACE: u32 = 64 << 20;

struct Okaywal {
    directory: PathBuf,
    log: Option<WriteAheadLog>,
    positions: Mutex<Vec<LogPosition>>,
    /// What was there when the log was opened.
    recovered: Recovered,
}

fn open(directory: &Path, _durability: Durability) -> Result<Box<dyn Log>> {
    let recovered = Recovered::default();
    Ok(Box::new(Okaywal {
        directory: directory.to_owned(),
        log: Some(recover(directory, &recovered)?),
        positions: Mutex::default(),
        recovered,
    }))
}

fn recover(directory: &Path, into: &Recovered) -> Result<WriteAheadLog> {
    let configuration = Configuration::default_for(directory)
        .preallocate_bytes(SPACE)
        .checkpoint_after_bytes(u64::MAX);
    Ok(configuration.open(into.clone())?)
}

impl Okaywal {
    fn log(&self) -> Result<&WriteAheadLog> {
        self.log.as_ref().ok_or_else(|| "the log is closed".into())
    }
}

impl Log for Okaywal {
    fn append(&self, values: &[&[u8]]) -> Result<()> {
        let mut entry = self.log()?.begin_entry()?;
        // Taken while the entry has the file, so that positions stand in the order of the file.
        let mut positions = self.positions.lock().unwrap_or_else(PoisonError::into_inner);
        for value in values {
            positions.push(entry.write_chunk(value)?.position);
        }
        drop(positions);
        entry.commit()?;
        Ok(())
    }

    fn read_at(&mut self, offset: u64, visit: &mut Visit<'_>) -> Result<()> {
        let positions = self.positions.lock().unwrap_or_else(PoisonError::into_inner);
        let position = *positions.get(offset as usize).ok_or("no such record")?;
        let mut value = Vec::new();
        let mut reader = self.log()?.read_at(position)?;
        reader.read_to_end(&mut value)?;
        if reader.crc_is_valid()? {
            visit(&value)?;
        }
        Ok(())
    }

    fn read_all(&mut self, visit: &mut Visit<'_>) -> Result<()> {
        if let Some(log) = self.log.take()
            && self.recovered.lock().is_empty()
        {
            log.shutdown()?;
            self.log = Some(recover(&self.directory, &self.recovered)?);
        }
        self.recovered.lock().iter().try_for_each(|value| visit(value))
    }

    fn close(self: Box<Self>) -> Result<()> {
        match self.log {
            Some(log) => Ok(log.shutdown()?),
            None => Ok(()),
        }
    }
}

/// Collects the values of every entry that recovery finds.
#[derive(Clone, Debug, Default)]
struct Recovered(Arc<Mutex<Vec<Vec<u8>>>>);

impl Recovered {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LogManager for Recovered {
    fn recover(&mut self, entry: &mut Entry<'_>) -> std::io::Result<()> {
        if let Some(values) = entry.read_all_chunks()? {
            self.lock().extend(values);
        }
        Ok(())
    }

    fn checkpoint_to(
        &mut self,
        _last: EntryId,
        _entries: &mut SegmentReader,
        _log: &WriteAheadLog,
    ) -> std::io::Result<()> {
        Ok(())
    }
}
