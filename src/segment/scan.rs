//! Reads a `.log` file of which nothing is known, batch by batch, and says where it stops making
//! sense.
//!
//! This is recovery's eye. It reads through `pread`, so that a failing disk is an error and not a
//! signal, with one buffer that only grows to the largest batch there is; a length field is believed
//! no further than the file is long.

use std::ops::RangeInclusive;
use std::path::Path;

use super::BatchPosition;
use crate::error::{Error, Result};
use crate::fs::File;
use crate::record::batch::{BATCH_OVERHEAD, BatchError, RecordBatch};

/// How much is read at a time, at first and later on: whoever looks for a little should not have to
/// read a lot.
const READ_LEN_FIRST: usize = 64 << 10;
const READ_LEN: usize = 1 << 20;

/// What a scan found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Scan {
    /// Where the valid batches end, and the offset that comes next.
    pub(crate) end: BatchPosition,
    /// What comes after them.
    pub(crate) then: Then,
}

/// What lies behind the last valid batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Then {
    /// The end of the file.
    EndOfFile,
    /// Zeros up to the end of the file: space made ready and not used.
    Zeros,
    /// The offset at which the scan was to stop: the next segment begins with it.
    Limit,
    /// Something that is no batch.
    Bad {
        /// Why not.
        reason: String,
        /// Where its last byte other than zero lies, plus one.
        end: u64,
    },
}

/// Scans a file from a position up to its end, or up to the batch that begins with `limit`.
///
/// `visit` sees every valid batch.
pub(crate) fn scan(
    file: &dyn File,
    path: &Path,
    from: BatchPosition,
    limit: Option<u64>,
    visit: &mut dyn FnMut(&RecordBatch<'_>, BatchPosition),
) -> Result<Scan> {
    let mut scanner = Scanner::open(file, path)?;
    let mut at = from;
    loop {
        if scanner.len() <= at.file_position {
            return Ok(Scan { end: at, then: Then::EndOfFile });
        }
        if limit == Some(at.base_offset) {
            return Ok(Scan { end: at, then: Then::Limit });
        }
        match scanner.batch(at)? {
            Ok(batch) => {
                visit(&batch, at);
                at = after(&batch, at);
            }
            Err(reason) => {
                let end = scanner.content_end(at.file_position)?;
                let then = match end {
                    None => Then::Zeros,
                    Some(end) => Then::Bad { reason, end },
                };
                return Ok(Scan { end: at, then });
            }
        }
    }
}

/// Where the batch after one lies that is at a position.
pub(crate) fn after(batch: &RecordBatch<'_>, at: BatchPosition) -> BatchPosition {
    BatchPosition {
        file_position: at.file_position + batch.size() as u64,
        base_offset: batch.next_offset(),
    }
}

/// Finds batches in a file, with a stretch of it in memory.
pub(crate) struct Scanner<'a> {
    file: &'a dyn File,
    path: &'a Path,
    len: u64,
    buffer: Vec<u8>,
    start: u64,
}

impl<'a> Scanner<'a> {
    pub(crate) fn open(file: &'a dyn File, path: &'a Path) -> Result<Self> {
        let len = file.len().map_err(|error| Error::io("read", path, error))?;
        Ok(Self { file, path, len, buffer: Vec::new(), start: 0 })
    }

    /// How long the file was when the scanner was made.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Loads at least `needed` bytes at a position, or what there is.
    fn load(&mut self, position: u64, needed: usize) -> Result<()> {
        let rest = usize::try_from(self.len.saturating_sub(position)).unwrap_or(usize::MAX);
        let stretch = if self.buffer.is_empty() { READ_LEN_FIRST } else { READ_LEN };
        let wanted = needed.max(stretch).min(rest);
        self.buffer
            .try_reserve(wanted.saturating_sub(self.buffer.len()))
            .map_err(|_| Error::io("read", self.path, std::io::ErrorKind::OutOfMemory.into()))?;
        self.buffer.resize(wanted, 0);
        let read = self
            .file
            .read_at(&mut self.buffer, position)
            .map_err(|error| Error::io("read", self.path, error))?;
        self.buffer.truncate(read);
        self.start = position;
        Ok(())
    }

    fn at(&self, position: u64) -> &[u8] {
        position
            .checked_sub(self.start)
            .and_then(|skip| self.buffer.get(usize::try_from(skip).ok()?..))
            .unwrap_or_default()
    }

    /// The batch at a position, whole, with the expected offset and a right checksum; or why there
    /// is none.
    pub(crate) fn batch(
        &mut self,
        at: BatchPosition,
    ) -> Result<std::result::Result<RecordBatch<'_>, String>> {
        let batch = match self.whole(at.file_position)? {
            Ok(batch) => batch,
            Err(reason) => return Ok(Err(reason)),
        };
        if batch.base_offset() != at.base_offset {
            let (found, expected) = (batch.base_offset(), at.base_offset);
            return Ok(Err(format!("the batch starts at offset {found}, expected {expected}")));
        }
        Ok(batch.verify_checksum().map(|()| batch).map_err(|error| error.to_string()))
    }

    /// The batch at a position, whole, whatever its offset and its checksum; or why there is none.
    pub(crate) fn whole(
        &mut self,
        position: u64,
    ) -> Result<std::result::Result<RecordBatch<'_>, String>> {
        if self.at(position).is_empty() {
            self.load(position, 0)?;
        }
        // Twice at most: the header may lie across the end of what is loaded, then the batch.
        while let Err(BatchError::Incomplete { needed, .. }) = RecordBatch::parse(self.at(position))
        {
            if needed <= self.len.saturating_sub(position) {
                self.load(position, usize::try_from(needed).unwrap_or(usize::MAX))?;
            }
            let available = self.at(position).len() as u64;
            if available < needed {
                let reason =
                    format!("the batch needs {needed} bytes, of which {available} are there");
                return Ok(Err(reason));
            }
        }
        Ok(RecordBatch::parse(self.at(position)).map_err(|error| error.to_string()))
    }

    /// The first batch at or behind a position that is whole, has a right checksum, begins with one
    /// of the offsets and is `wanted`. For finding one's way behind damage, where every byte may be
    /// the first of a batch.
    pub(crate) fn find(
        &mut self,
        position: u64,
        offsets: &RangeInclusive<u64>,
        wanted: &dyn Fn(&RecordBatch<'_>) -> bool,
    ) -> Result<Option<BatchPosition>> {
        let mut at = position;
        loop {
            if self.at(at).len() < BATCH_OVERHEAD {
                self.load(at, 0)?;
            }
            let Some(prefix) = self.at(at).first_chunk().filter(|_| at < self.len) else {
                return Ok(None);
            };
            let candidate =
                BatchPosition { file_position: at, base_offset: u64::from_be_bytes(*prefix) };
            // The offset alone rules out nearly every place, before anything larger is read.
            if offsets.contains(&candidate.base_offset)
                && self.batch(candidate)?.is_ok_and(|batch| wanted(&batch))
            {
                return Ok(Some(candidate));
            }
            at += 1;
        }
    }

    /// The position after the last byte from `position` on that is not zero; `None` if all are.
    pub(crate) fn content_end(&mut self, position: u64) -> Result<Option<u64>> {
        let mut end = None;
        let mut at = position;
        while at < self.len {
            self.load(at, 0)?;
            if self.buffer.is_empty() {
                break;
            }
            if let Some(last) = self.buffer.iter().rposition(|byte| *byte != 0) {
                end = Some(at + last as u64 + 1);
            }
            at += self.buffer.len() as u64;
        }
        Ok(end)
    }
}
