//! Letting go of the files of a log that has not been appended to for a while.
//!
//! Such a log is synced, cut to its true length and checkpointed, as if it had been closed, and holds
//! neither a descriptor nor a mapping. It can be read as before; the next append opens its files.

use std::sync::Arc;

use crate::error::Result;
use crate::log::PartitionLog;
use crate::log::open_logs::{Marked, UseMark};

impl Marked for PartitionLog {
    fn use_mark(&self) -> &UseMark {
        &self.use_mark
    }
}

impl PartitionLog {
    /// Notes that this log has opened its files, and closes those of others if too many have. Called
    /// without any lock: it may have to wait for syncs of the others.
    pub(super) fn admit_to_open_logs(&self) {
        let open_logs = &self.environment.open_logs;
        // Before anybody can look at it: it is about to be used.
        self.use_mark.set();
        for victim in open_logs.admit(self.this.clone()) {
            match victim.let_go_of_files() {
                Ok(true) => {}
                // What could not be synced now keeps its files; for how long, its own callers are
                // told, and not the one that happens to append here.
                Ok(false) | Err(_) => open_logs.readmit(Arc::downgrade(&victim)),
            }
        }
    }

    /// Syncs everything and closes the files. `false` if it was appended to meanwhile.
    fn let_go_of_files(&self) -> Result<bool> {
        if self.is_closed() || self.flush.failure().is_some() {
            // It will not be appended to any more, and keeps its files until it is dropped.
            return Ok(true);
        }
        self.flush()?;
        self.sync_checkpoint()?;
        let mut appender = self.appender.lock();
        let synced = self.flush.recovery_point() >= self.ends.log_end()
            && appender.sealed.is_empty()
            && self.checkpoint.lock().is_durable();
        let Some(writer) = appender.writer.as_mut().filter(|_| synced) else {
            return Ok(appender.writer.is_none());
        };
        writer.let_go()?;
        Ok(true)
    }
}
