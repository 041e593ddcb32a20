//! commitlog: segments and an index of every message.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use commitlog::message::{MessageBuf, MessageSet};
use commitlog::{CommitLog, LogOptions, ReadLimit};

use crate::log::{Contender, Durability, Log, RandomReads, Result, Visit};

pub(super) const CONTENDER: Contender = Contender {
    name: "commitlog",
    open,
    written: "",
    synced: "ACKNOWLEDGES EARLY: flush() syncs the index, never the messages",
    reads: "",
    random_reads: RandomReads::Possible(""),
};

/// How much is read at once: the default is 8 KB.
const READ_BYTES: usize = 1 << 20;

/// Enough for one message, too little for two.
const ONE_MESSAGE: usize = 150;

struct Commitlog {
    log: Mutex<CommitLog>,
    durability: Durability,
}

fn open(directory: &Path, durability: Durability) -> Result<Box<dyn Log>> {
    let log = Mutex::new(CommitLog::new(LogOptions::new(directory))?);
    Ok(Box::new(Commitlog { log, durability }))
}

impl Commitlog {
    fn log(&mut self) -> &mut CommitLog {
        self.log.get_mut().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Log for Commitlog {
    fn append(&self, values: &[&[u8]]) -> Result<()> {
        let mut messages: MessageBuf = values.iter().collect();
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.append(&mut messages)?;
        if self.durability == Durability::Synced {
            log.flush()?;
        }
        Ok(())
    }

    fn read_at(&mut self, offset: u64, visit: &mut Visit<'_>) -> Result<()> {
        let messages = self.log().read(offset, ReadLimit::max_bytes(ONE_MESSAGE))?;
        messages.iter().try_for_each(|message| visit(message.payload()))?;
        Ok(())
    }

    fn read_all(&mut self, visit: &mut Visit<'_>) -> Result<()> {
        let mut offset = 0;
        loop {
            let messages = self.log().read(offset, ReadLimit::max_bytes(READ_BYTES))?;
            if messages.is_empty() {
                return Ok(());
            }
            offset += messages.len() as u64;
            messages.iter().try_for_each(|message| visit(message.payload()))?;
        }
    }

    fn close(mut self: Box<Self>) -> Result<()> {
        Ok(self.log().flush()?)
    }
}
