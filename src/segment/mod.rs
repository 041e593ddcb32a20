//! One segment of a log: a base offset and the files named after it.
//!
//! A [`Segment`] is what any number of readers share; the one thread that may append holds the
//! [`writer::SegmentWriter`] to it. Segments know bytes, offsets and timestamps; producers, topics
//! and policies are the log's affair.
//!
//! Sparse indexes are hints (see [`offset_index`]): every look-up ends at a batch header in the
//! `.log` that proves it right, and falls back to walking the segment from its start if it does
//! not. In the same way every batch read must begin at the offset at which the one before it ended:
//! base offset and length lie outside a batch's checksum, and this is what vouches for them.

pub(crate) mod entries;
pub(crate) mod file_name;
pub(crate) mod indexer;
pub(crate) mod offset_index;
pub(crate) mod records_file;
pub(crate) mod scan;
pub(crate) mod time_index;
pub(crate) mod walk;
pub(crate) mod writer;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use parking_lot::RwLock;

use self::entries::Entries;
use self::file_name::Suffix;
use self::indexer::{INDEX_INTERVAL_BYTES, Indexer, Indexes};
use self::offset_index::{OffsetEntry, OffsetIndex};
use self::records_file::{Chunk, ReadMode, RecordsFile};
use self::time_index::{TimeEntry, TimeIndex};
use self::walk::Batches;
use crate::error::{Corruption, Error, Result};
use crate::fs::FileSystem;
use crate::record::batch::{BatchError, RecordBatch};
use crate::time::Timestamp;

/// One segment, as readers share it.
#[derive(Debug)]
pub(crate) struct Segment {
    base_offset: u64,
    directory: Arc<Path>,
    fs: Arc<dyn FileSystem>,
    records: RecordsFile,
    /// The offset after the last batch. Moved by the writer after the bytes are in place.
    next_offset: AtomicU64,
    /// The largest timestamp, [`UNKNOWN_TIMESTAMP`] until somebody has looked.
    largest_timestamp: AtomicI64,
    indexes: RwLock<IndexSlot>,
}

/// The indexes of a segment, as far as anybody has asked for them.
#[derive(Debug)]
enum IndexSlot {
    /// On disk, or lost.
    NotLoaded,
    /// Read from their files or rebuilt. Rebuilt once more if they turn out to be wrong.
    Loaded(Indexes),
    /// Those of a segment that grows; only its writer changes them.
    Growing(Indexes),
}

impl IndexSlot {
    fn indexes(&self) -> Option<&Indexes> {
        match self {
            IndexSlot::NotLoaded => None,
            IndexSlot::Loaded(indexes) | IndexSlot::Growing(indexes) => Some(indexes),
        }
    }
}

/// How much is asked for at once at least when batches are read.
const READ_LEN_MIN: usize = 4 << 10;

/// Stands for a largest timestamp that nobody has looked up; no record can carry it.
const UNKNOWN_TIMESTAMP: i64 = i64::MIN;

/// Where a batch lies: the file position of its first byte and the offset it must begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BatchPosition {
    pub(crate) file_position: u64,
    pub(crate) base_offset: u64,
}

/// A run of whole, checked batches of one segment.
#[derive(Debug)]
pub(crate) struct BatchRun {
    /// The batches' bytes, end to end.
    pub(crate) bytes: Chunk,
    /// Where the batch after the last one lies, or will lie.
    pub(crate) next: BatchPosition,
}

impl Segment {
    /// A segment on disk whose first `len` bytes are valid and end at `next_offset`.
    pub(crate) fn new(
        fs: Arc<dyn FileSystem>,
        directory: Arc<Path>,
        base_offset: u64,
        extent: Extent,
        read_mode: ReadMode,
    ) -> Self {
        let path = file_name::path(&directory, base_offset, Suffix::Log);
        Self {
            base_offset,
            records: RecordsFile::new(Arc::clone(&fs), path, extent.len, read_mode),
            directory,
            fs,
            next_offset: AtomicU64::new(extent.next_offset),
            largest_timestamp: AtomicI64::new(UNKNOWN_TIMESTAMP),
            indexes: RwLock::new(IndexSlot::NotLoaded),
        }
    }

    /// The first offset the segment may hold; its files are named after it.
    pub(crate) fn base_offset(&self) -> u64 {
        self.base_offset
    }

    /// The offset after its last record.
    pub(crate) fn next_offset(&self) -> u64 {
        self.next_offset.load(Ordering::Acquire)
    }

    /// Bytes of batches, without what is zeroed ahead.
    pub(crate) fn len(&self) -> u64 {
        self.records.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The `.log` file.
    pub(crate) fn records(&self) -> &RecordsFile {
        &self.records
    }

    /// The path of one of its files.
    pub(crate) fn path(&self, suffix: Suffix) -> PathBuf {
        file_name::path(&self.directory, self.base_offset, suffix)
    }

    /// Its first byte.
    pub(crate) fn start(&self) -> BatchPosition {
        BatchPosition { file_position: 0, base_offset: self.base_offset }
    }

    /// Where its next batch goes.
    pub(crate) fn end(&self) -> BatchPosition {
        BatchPosition { file_position: self.len(), base_offset: self.next_offset() }
    }

    /// Its end moves on: batches up to here are in the file.
    pub(crate) fn follow_to(&self, end: BatchPosition) {
        self.records.written_end().advance(end.file_position);
        self.next_offset.store(end.base_offset, Ordering::Release);
    }

    /// Gives the segment the indexes that its writer goes on with.
    pub(crate) fn grow_indexes(&self, indexes: Indexes) {
        *self.indexes.write() = IndexSlot::Growing(indexes);
    }

    /// Lets the writer change the indexes it has given the segment.
    pub(crate) fn change_indexes(&self, change: impl FnOnce(&mut Indexes)) {
        if let IndexSlot::Growing(indexes) = &mut *self.indexes.write() {
            change(indexes);
        }
    }

    /// Lets the writer look at the indexes it has given the segment. Readers do not wait.
    fn with_growing_indexes(&self, read: impl FnOnce(&Indexes) -> Result<()>) -> Result<()> {
        match &*self.indexes.read() {
            IndexSlot::Growing(indexes) => read(indexes),
            _ => Ok(()),
        }
    }

    /// Lets go of the indexes of a segment that has stopped growing and whose index files are
    /// written: a log may have any number of segments, and not all its indexes fit in memory.
    pub(crate) fn unload_indexes(&self) {
        *self.indexes.write() = IndexSlot::NotLoaded;
    }

    #[cfg(test)]
    pub(crate) fn has_indexes(&self) -> bool {
        self.indexes.read().indexes().is_some()
    }

    /// Runs `read` on the indexes, loading or rebuilding them first if nobody has yet.
    pub(crate) fn with_indexes<T>(&self, read: impl Fn(&Indexes) -> T) -> Result<T> {
        if let Some(indexes) = self.indexes.read().indexes() {
            return Ok(read(indexes));
        }
        // Entries are all that a long segment can lack by mistake: a short one may have none.
        let has_entries =
            |indexes: &Indexes| indexes.offsets.len() > 0 || self.len() <= INDEX_INTERVAL_BYTES;
        let loaded = match self.load_indexes().filter(has_entries) {
            Some(indexes) => indexes,
            None => self.rebuild_indexes()?,
        };
        let answer = read(&loaded);
        let mut slot = self.indexes.write();
        if slot.indexes().is_none() {
            *slot = IndexSlot::Loaded(loaded);
        }
        Ok(answer)
    }

    /// Opens the index files; `None` when one is missing or is visibly not an index. What cannot
    /// be read is as good as lost, too: indexes can be rebuilt.
    pub(crate) fn load_indexes(&self) -> Option<Indexes> {
        let mapped = self.records.read_mode() == ReadMode::Mapped;
        let offsets = Entries::open(&*self.fs, &self.path(Suffix::Index), mapped).ok()??;
        let times = Entries::open(&*self.fs, &self.path(Suffix::TimeIndex), mapped).ok()??;
        Some(Indexes {
            offsets: OffsetIndex { entries: offsets },
            times: TimeIndex { entries: times },
        })
    }

    /// Makes the indexes anew from the batch headers.
    fn rebuild_indexes(&self) -> Result<Indexes> {
        let mut indexer = Indexer::begin(self.base_offset, INDEX_INTERVAL_BYTES);
        let mut batches = self.batches_from(self.start());
        while let Some((position, batch)) = batches.next()? {
            indexer.add(&batch, position.file_position);
        }
        indexer.finish();
        Ok(indexer.indexes)
    }

    /// Replaces indexes that were loaded and have turned out to be wrong. `false` if that is not
    /// possible: the log itself is damaged then, which is for those to report who read it.
    fn replace_indexes(&self) -> bool {
        if let IndexSlot::Growing(_) = &*self.indexes.read() {
            return false;
        }
        let Ok(rebuilt) = self.rebuild_indexes() else { return false };
        let mut slot = self.indexes.write();
        let growing = matches!(*slot, IndexSlot::Growing(_));
        if !growing {
            *slot = IndexSlot::Loaded(rebuilt);
        }
        !growing
    }

    /// The batch that holds an offset, which must lie in this segment.
    pub(crate) fn locate(&self, offset: u64) -> Result<BatchPosition> {
        self.walk_towards(offset)?.go_to(offset)
    }

    /// A walk that comes to the batch that holds an offset: from the best index entry on if that
    /// proves right.
    fn walk_towards(&self, offset: u64) -> Result<Batches<'_>> {
        let relative = u32::try_from(offset.saturating_sub(self.base_offset)).unwrap_or(u32::MAX);
        let floor = || self.with_indexes(|indexes| indexes.offsets.floor(relative));
        let Some(entry) = floor()? else { return Ok(self.batches_from(self.start())) };
        if let Some(batches) = self.follow_entry(entry) {
            return Ok(batches);
        }
        let entry = if self.replace_indexes() { floor()? } else { None };
        let batches = entry.and_then(|entry| self.follow_entry(entry));
        Ok(batches.unwrap_or_else(|| self.batches_from(self.start())))
    }

    /// Follows an offset entry. `None` if there is no batch there that ends with its offset.
    pub(crate) fn check_entry(&self, entry: OffsetEntry) -> Option<BatchPosition> {
        let (position, _) = self.follow_entry(entry)?.next().ok()??;
        Some(position)
    }

    /// A walk from where an offset entry points; of the batch there it has seen no more than that it
    /// ends with the entry's offset.
    fn follow_entry(&self, entry: OffsetEntry) -> Option<Batches<'_>> {
        let last_offset = self.base_offset.checked_add(u64::from(entry.relative_offset))?;
        Batches::at_entry(self, u64::from(entry.file_position), last_offset)
    }

    /// The first batch that may hold a record at or after a timestamp, at or after `from`.
    pub(crate) fn locate_timestamp(
        &self,
        timestamp: Timestamp,
        from: u64,
    ) -> Result<Option<BatchPosition>> {
        let start = self.older_than(timestamp)?.max(from).max(self.base_offset);
        let mut batches = self.batches_from(self.locate(start)?);
        while let Some((position, batch)) = batches.next()? {
            if batch.max_timestamp() >= timestamp && batch.last_offset() >= from {
                return Ok(Some(position));
            }
        }
        Ok(None)
    }

    /// An offset up to which all records are older than a timestamp, from the best entry of the
    /// time index if it proves right; the base offset if there is none.
    ///
    /// Right means that its batch has its timestamp. That no batch before has a larger one is taken
    /// on trust: only their headers would tell, and the index is there to spare them. In the index of
    /// another log, whose timestamps and offsets happen to agree, an entry may be wrong about that.
    fn older_than(&self, timestamp: Timestamp) -> Result<u64> {
        let before = || self.with_indexes(|indexes| indexes.times.before(timestamp));
        let Some(entry) = before()? else { return Ok(self.base_offset) };
        if let Some(offset) = self.check_time_entry(entry)? {
            return Ok(offset);
        }
        let entry = if self.replace_indexes() { before()? } else { None };
        let proven = entry.map_or(Ok(None), |entry| self.check_time_entry(entry))?;
        Ok(proven.unwrap_or(self.base_offset))
    }

    /// The offset of a time entry. `None` if the batch that ends with it has another timestamp.
    pub(crate) fn check_time_entry(&self, entry: TimeEntry) -> Result<Option<u64>> {
        let offset = self.base_offset.saturating_add(u64::from(entry.relative_offset));
        let mut batches = self.walk_towards(offset)?;
        while let Some((_, batch)) = batches.next()? {
            if batch.last_offset() >= offset {
                let right =
                    batch.last_offset() == offset && batch.max_timestamp() == entry.timestamp;
                return Ok(right.then_some(offset));
            }
        }
        Ok(None)
    }

    /// The largest timestamp of its batches, from their headers and not from the time index: this
    /// is what retention goes by. [`Timestamp::NONE`] if no record has one.
    pub(crate) fn largest_timestamp(&self) -> Result<Timestamp> {
        let known = self.largest_timestamp.load(Ordering::Relaxed);
        if known != UNKNOWN_TIMESTAMP {
            return Ok(Timestamp::from_millis(known));
        }
        let mut largest = Timestamp::NONE;
        let mut batches = self.batches_from(self.start());
        while let Some((_, batch)) = batches.next()? {
            largest = largest.max(batch.max_timestamp());
        }
        self.note_largest_timestamp(largest);
        Ok(largest)
    }

    /// Remembers the largest timestamp, for whoever has seen every batch.
    pub(crate) fn note_largest_timestamp(&self, timestamp: Timestamp) {
        self.largest_timestamp.store(timestamp.as_millis(), Ordering::Relaxed);
    }

    /// Reads whole batches from a position on: at least one if there is one, then more up to
    /// `max_bytes`, none beginning at or after `end_offset`. Checksums are checked.
    pub(crate) fn read(
        &self,
        from: BatchPosition,
        max_bytes: usize,
        end_offset: u64,
    ) -> Result<BatchRun> {
        let file_end = self.len();
        // More than a header at once: where files are not mapped, a small batch is one call then.
        let want = u64::try_from(max_bytes.max(READ_LEN_MIN)).unwrap_or(u64::MAX);
        let range_end = from.file_position.saturating_add(want).min(file_end);
        let mut bytes = self.records.bytes(from.file_position..range_end)?;
        if let Some(needed) = RecordBatch::needed(&bytes)
            && from.file_position.saturating_add(needed) <= file_end
        {
            bytes = self.records.bytes(from.file_position..from.file_position + needed)?;
        }
        let mut len = 0;
        let mut next = from;
        while next.base_offset < end_offset && next.file_position < file_end {
            if len > 0 && len >= max_bytes {
                break;
            }
            let rest = bytes.get(len..).unwrap_or_default();
            let batch = match RecordBatch::parse(rest) {
                Ok(batch) => batch,
                Err(BatchError::Incomplete { .. }) if len > 0 => break,
                Err(error) => return Err(self.damage_at(next, &error.to_string())),
            };
            if len > 0 && len + batch.size() > max_bytes {
                break;
            }
            self.check_follows(next, &batch)?;
            batch.verify_checksum().map_err(|error| self.damage_at(next, &error.to_string()))?;
            len += batch.size();
            next = BatchPosition {
                file_position: next.file_position + batch.size() as u64,
                base_offset: batch.next_offset(),
            };
        }
        bytes.truncate(len);
        Ok(BatchRun { bytes, next })
    }

    /// Walks batch by batch, checking headers and their succession but no checksums.
    pub(crate) fn batches_from(&self, position: BatchPosition) -> Batches<'_> {
        Batches::new(self, position)
    }

    fn check_follows(&self, expected: BatchPosition, batch: &RecordBatch<'_>) -> Result<()> {
        if batch.base_offset() == expected.base_offset {
            return Ok(());
        }
        let reason = format!(
            "the batch starts at offset {}, expected {}",
            batch.base_offset(),
            expected.base_offset
        );
        Err(self.damage_at(expected, &reason))
    }

    /// Describes damage found at a batch.
    pub(crate) fn damage_at(&self, position: BatchPosition, reason: &str) -> Error {
        Corruption {
            topic_partition: None,
            path: self.records.path().to_owned(),
            bytes: position.file_position..self.len(),
            offsets: position.base_offset..self.next_offset(),
            reason: reason.to_owned(),
        }
        .into()
    }
}

/// How much of a segment's `.log` is valid, and which offset comes after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) len: u64,
    pub(crate) next_offset: u64,
}
