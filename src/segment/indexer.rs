//! Makes the two sparse indexes of a segment, batch by batch and by Kafka's rule.
//!
//! The same rule runs while batches are appended, when recovery scans them and when a reader has to
//! rebuild an index; so what they leave is the same, and is what Kafka leaves.

use super::offset_index::{OffsetEntry, OffsetIndex};
use super::time_index::{TimeEntry, TimeIndex};
use crate::record::batch::RecordBatch;
use crate::time::Timestamp;

/// Kafka's default distance between index entries, for indexes that are rebuilt by a reader.
pub(crate) const INDEX_INTERVAL_BYTES: u64 = 4096;

/// The two sparse indexes, which grow together.
#[derive(Debug)]
pub(crate) struct Indexes {
    pub(crate) offsets: OffsetIndex,
    pub(crate) times: TimeIndex,
}

impl Indexes {
    pub(crate) fn new() -> Self {
        Self { offsets: OffsetIndex::new(), times: TimeIndex::new() }
    }
}

/// When an index entry is due: batch by batch, whenever more than the interval has gone by since
/// the last one; with it goes the largest timestamp so far.
#[derive(Debug)]
pub(crate) struct IndexRule {
    base_offset: u64,
    pub(super) interval: u64,
    last_indexed: u64,
    largest: TimeEntry,
    first_timestamp: Option<Timestamp>,
    /// How many entries the two indexes have.
    entries: (usize, usize),
}

impl IndexRule {
    fn begin(base_offset: u64, interval: u64) -> Self {
        let largest = TimeEntry { timestamp: Timestamp::NONE, relative_offset: 0 };
        let first_timestamp = None;
        Self { base_offset, interval, last_indexed: 0, largest, first_timestamp, entries: (0, 0) }
    }

    /// Takes a batch into account; returns the offset entry that is due, if one is. Batches come
    /// in order, none twice.
    pub(crate) fn due(
        &mut self,
        last_offset: u64,
        timestamp: Timestamp,
        at: u64,
    ) -> Option<OffsetEntry> {
        if at == 0 {
            self.first_timestamp = Some(timestamp);
        }
        let relative_offset = u32::try_from(last_offset.checked_sub(self.base_offset)?).ok()?;
        if timestamp > self.largest.timestamp {
            self.largest = TimeEntry { timestamp, relative_offset };
        }
        if at.saturating_sub(self.last_indexed) <= self.interval {
            return None;
        }
        Some(OffsetEntry { relative_offset, file_position: u32::try_from(at).ok()? })
    }

    /// Adds an entry that was due.
    pub(crate) fn push(&mut self, indexes: &mut Indexes, entry: OffsetEntry) {
        self.last_indexed = entry.file_position.into();
        indexes.offsets.push(entry);
        self.finish(indexes);
    }

    /// Adds the final time entry that a segment gets when it is sealed.
    pub(crate) fn finish(&mut self, indexes: &mut Indexes) {
        indexes.times.push_if_later(self.largest);
        self.entries = (indexes.offsets.len(), indexes.times.len());
    }

    /// The largest timestamp so far.
    pub(crate) fn largest_timestamp(&self) -> Timestamp {
        self.largest.timestamp
    }

    /// The largest timestamp of the first batch, by which a segment's age is counted.
    pub(crate) fn first_timestamp(&self) -> Option<Timestamp> {
        self.first_timestamp
    }

    /// How many entries the two indexes have.
    pub(crate) fn entries(&self) -> (usize, usize) {
        self.entries
    }
}

/// Indexes in the making: those of the batches up to some point, and the state to go on from it.
#[derive(Debug)]
pub(crate) struct Indexer {
    pub(crate) indexes: Indexes,
    pub(crate) rule: IndexRule,
}

impl Indexer {
    /// Nothing indexed yet.
    pub(crate) fn begin(base_offset: u64, interval: u64) -> Self {
        Self { indexes: Indexes::new(), rule: IndexRule::begin(base_offset, interval) }
    }

    /// Goes on where indexes that were found end. The batches to come begin with the one that the
    /// last offset entry stands for.
    ///
    /// The last time entry must lie at or behind that batch: otherwise nobody knows whether a
    /// larger timestamp came in between, and an entry that says "nothing later than this so far"
    /// would be a lie that makes a search by timestamp skip records.
    pub(crate) fn resume(
        base_offset: u64,
        interval: u64,
        indexes: Indexes,
        first_timestamp: Option<Timestamp>,
    ) -> Self {
        let mut rule = IndexRule::begin(base_offset, interval);
        rule.first_timestamp = first_timestamp;
        rule.last_indexed = indexes.offsets.last().map_or(0, |entry| entry.file_position.into());
        rule.largest = indexes.times.last().unwrap_or(rule.largest);
        rule.entries = (indexes.offsets.len(), indexes.times.len());
        Self { indexes, rule }
    }

    /// Takes a batch into account and adds what is due.
    pub(crate) fn add(&mut self, batch: &RecordBatch<'_>, at: u64) {
        if let Some(entry) = self.rule.due(batch.last_offset(), batch.max_timestamp(), at) {
            self.rule.push(&mut self.indexes, entry);
        }
    }

    /// Adds the final time entry.
    pub(crate) fn finish(&mut self) {
        self.rule.finish(&mut self.indexes);
    }
}
