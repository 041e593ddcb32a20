//! One `.log` file: what lies in it from its first byte to its last.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::batch::BatchDump;
use crate::error::{Corruption, Error, Result};
use crate::fs::disk::DiskFileSystem;
use crate::fs::{Access, File, FileSystem};
use crate::record::batch::RecordBatch;
use crate::segment::file_name;
use crate::segment::scan::Scanner;

/// How many offsets a segment can span: they are indexed by 31 bits. A batch behind damage that
/// begins further on is none of this segment.
const SEGMENT_SPAN: u64 = 1 << 31;

/// A `.log` file of Sapwood's or Kafka's, to be looked at whatever state it is in. Nothing is mapped
/// or locked.
///
/// See [`DirectoryDump`](crate::DirectoryDump) for an example.
#[derive(Debug)]
pub struct SegmentDump {
    pub(super) fs: Arc<dyn FileSystem>,
    file: Arc<dyn File>,
    pub(super) path: Arc<Path>,
    len: u64,
}

/// A stretch of a `.log` file. The parts of a file follow each other without gaps, from its first byte
/// to its last.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum SegmentPart {
    /// A batch of records. Its checksum may be wrong: see [`BatchDump::is_valid`].
    Batch(BatchDump),
    /// Zeros up to the end of the file, at these bytes: space made ready for batches to come, or what
    /// a power cut has left of some.
    Zeros(Range<u64>),
    /// Bytes that are no batch: what is wrong, and where. What comes next is the first whole batch
    /// with a right checksum behind them, if there is one that can belong there.
    Damage(Corruption),
}

impl SegmentPart {
    /// Where in the file it lies.
    pub fn bytes(&self) -> Range<u64> {
        match self {
            SegmentPart::Batch(batch) => batch.file_position..batch.file_position + batch.size,
            SegmentPart::Zeros(bytes) => bytes.clone(),
            SegmentPart::Damage(damage) => damage.bytes.clone(),
        }
    }
}

impl SegmentDump {
    /// Opens one file.
    ///
    /// # Errors
    ///
    /// [`Error::Io`]. What is in the file does not matter yet.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_on(Arc::new(DiskFileSystem), path.as_ref())
    }

    pub(crate) fn open_on(fs: Arc<dyn FileSystem>, path: &Path) -> Result<Self> {
        let file = fs.open(path, Access::Read).map_err(|error| Error::io("open", path, error))?;
        let len = file.len().map_err(|error| Error::io("read", path, error))?;
        Ok(Self { fs, file, path: Arc::from(path), len })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many bytes it had when it was opened.
    pub fn size(&self) -> u64 {
        self.len
    }

    /// The offset at which the segment begins, by its name; `None` if it is not named like one.
    pub fn base_offset(&self) -> Option<u64> {
        file_name::parse(self.path.file_name()?).map(|(base_offset, _)| base_offset)
    }

    /// What lies in the file, in order. Reads as it goes, a megabyte at a time.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], here and from the iterator, which ends with it. Damage is no error: it is a
    /// part of the file.
    pub fn parts(&self) -> Result<SegmentParts<'_>> {
        let scanner = Scanner::open(&*self.file, &self.path)?;
        let expected = self.base_offset().unwrap_or(0);
        Ok(SegmentParts { segment: self, scanner, at: 0, expected })
    }
}

/// The parts of a `.log` file, in order. Made by [`SegmentDump::parts`].
pub struct SegmentParts<'a> {
    segment: &'a SegmentDump,
    scanner: Scanner<'a>,
    /// Where the next part begins.
    at: u64,
    /// The offset that comes next.
    expected: u64,
}

impl std::fmt::Debug for SegmentParts<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (path, at) = (&self.segment.path, self.at);
        f.debug_struct("SegmentParts").field("path", path).field("at", &at).finish_non_exhaustive()
    }
}

impl Iterator for SegmentParts<'_> {
    type Item = Result<SegmentPart>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.segment.len {
            return None;
        }
        let part = self.read();
        self.at = part.as_ref().map_or(self.segment.len, |part| part.bytes().end);
        Some(part)
    }
}

impl SegmentParts<'_> {
    fn read(&mut self) -> Result<SegmentPart> {
        let (at, expected) = (self.at, self.expected);
        let reason = match self.scanner.whole(at)? {
            Ok(batch) => {
                let dump = BatchDump::new(&batch, at, expected, &self.segment.path);
                if dump.is_valid || self.goes_on_at(at + dump.size, dump.last_offset + 1)? {
                    self.expected = dump.last_offset + 1;
                    return Ok(SegmentPart::Batch(dump));
                }
                "its checksum is wrong, and nothing follows where it says it ends".to_owned()
            }
            Err(reason) => reason,
        };
        let Some(content_end) = self.scanner.content_end(at)? else {
            return Ok(SegmentPart::Zeros(at..self.segment.len));
        };
        self.damage(content_end, reason)
    }

    /// Whether it looks as if a batch ended here whose checksum is wrong: nothing else vouches for
    /// its length.
    fn goes_on_at(&mut self, at: u64, offset: u64) -> Result<bool> {
        if at == self.segment.len {
            return Ok(true);
        }
        if let Ok(batch) = self.scanner.whole(at)? {
            return Ok(batch.base_offset() == offset);
        }
        Ok(self.scanner.content_end(at)?.is_none())
    }

    /// Damage from here up to the next batch, or to where nothing but zeros follows.
    fn damage(&mut self, content_end: u64, reason: String) -> Result<SegmentPart> {
        let (at, expected) = (self.at, self.expected);
        let offsets = expected..=expected.saturating_add(SEGMENT_SPAN);
        let found = self.scanner.find(at + 1, &offsets, &|_: &RecordBatch<'_>| true)?;
        let (end, next_offset) = match found {
            Some(found) => (found.file_position, found.base_offset),
            None => (content_end, expected),
        };
        self.expected = next_offset;
        Ok(SegmentPart::Damage(Corruption {
            topic_partition: None,
            path: self.segment.path.to_path_buf(),
            bytes: at..end,
            offsets: expected..next_offset,
            reason,
        }))
    }
}
