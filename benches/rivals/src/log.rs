//! What every contender has to do, and how it is introduced.

use std::error::Error;
use std::path::Path;

pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Called with each value that is read; reading ends with its first error.
pub(crate) type Visit<'a> = dyn FnMut(&[u8]) -> Result<()> + 'a;

/// When an append may return.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// Once the operating system has the bytes, or as near to that as the contender comes.
    Written,
    /// Once the disk has the bytes.
    Synced,
}

/// One log in a directory of its own. Appends may come from many threads at once.
pub(crate) trait Log: Sync {
    /// Appends `values` in their order, as one batch if the contender knows batches.
    fn append(&self, values: &[&[u8]]) -> Result<()>;

    /// Visits the value at `offset`, counted from 0.
    fn read_at(&mut self, offset: u64, visit: &mut Visit<'_>) -> Result<()>;

    /// Visits every value, oldest first. Nothing else is asked of a log after this but to close.
    fn read_all(&mut self, visit: &mut Visit<'_>) -> Result<()>;

    /// Closes the log in the orderly way.
    fn close(self: Box<Self>) -> Result<()>;
}

/// A contender, and what has to be known to read its numbers. A remark is empty where the contender
/// does what Sapwood does.
pub(crate) struct Contender {
    /// The name of its crate.
    pub(crate) name: &'static str,
    /// Opens the log in a directory, which exists and may be empty.
    pub(crate) open: fn(&Path, Durability) -> Result<Box<dyn Log>>,
    /// What an append under [`Durability::Written`] does instead.
    pub(crate) written: &'static str,
    /// What an append under [`Durability::Synced`] does instead.
    pub(crate) synced: &'static str,
    /// What is different about reading in order.
    pub(crate) reads: &'static str,
    /// What is different about reading at random, or why it cannot be done.
    pub(crate) random_reads: RandomReads,
}

/// Whether a contender finds a record by its number.
#[derive(Clone, Copy)]
pub(crate) enum RandomReads {
    /// It does, with this remark.
    Possible(&'static str),
    /// It does not, for this reason.
    Impossible(&'static str),
}
