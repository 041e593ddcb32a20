//! The sparse time index of a segment: `.timeindex`.
//!
//! An entry is 12 bytes, `i64` largest timestamp seen so far in the segment and `i32` last offset of
//! the first batch that reached it, relative to the segment's base offset (Kafka `TimeIndex`).
//! Timestamps ascend strictly. A hint like the offset index, and never the only witness when
//! something is to be deleted.

use std::array;

use super::entries::Entries;
use crate::time::Timestamp;

/// Size of an entry in bytes.
pub(crate) const ENTRY_SIZE: usize = 12;

/// One entry: up to the batch that ends with the offset, no timestamp is larger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TimeEntry {
    /// The largest timestamp so far.
    pub(crate) timestamp: Timestamp,
    /// Last offset of the batch that brought it, relative to the segment's base offset.
    pub(crate) relative_offset: u32,
}

impl TimeEntry {
    pub(crate) fn decode(bytes: &[u8; ENTRY_SIZE]) -> Self {
        Self {
            timestamp: Timestamp::from_millis(i64::from_be_bytes(array::from_fn(|i| bytes[i]))),
            relative_offset: u32::from_be_bytes(array::from_fn(|i| bytes[8 + i])),
        }
    }

    fn encode(self) -> [u8; ENTRY_SIZE] {
        let mut bytes = [0; ENTRY_SIZE];
        bytes[..8].copy_from_slice(&self.timestamp.as_millis().to_be_bytes());
        bytes[8..].copy_from_slice(&self.relative_offset.to_be_bytes());
        bytes
    }
}

/// The index of one segment.
#[derive(Debug)]
pub(crate) struct TimeIndex {
    pub(super) entries: Entries<ENTRY_SIZE>,
}

impl TimeIndex {
    pub(crate) fn new() -> Self {
        Self { entries: Entries::new() }
    }

    /// The last entry whose timestamp lies before the given one: every batch up to its offset is
    /// older.
    pub(crate) fn before(&self, timestamp: Timestamp) -> Option<TimeEntry> {
        let after =
            self.entries.partition_point(|entry| TimeEntry::decode(entry).timestamp < timestamp);
        let entry = self.entries.entry(after.checked_sub(1)?).map(TimeEntry::decode);
        // In a damaged index, which need not ascend, the search may end anywhere.
        entry.filter(|entry| entry.timestamp < timestamp)
    }

    pub(crate) fn last(&self) -> Option<TimeEntry> {
        self.entries.last().map(TimeEntry::decode)
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The entries as they go into the file.
    pub(crate) fn entries(&self) -> &Entries<ENTRY_SIZE> {
        &self.entries
    }

    /// Adds an entry if it is later than all there are, as Kafka's `maybeAppend`.
    pub(crate) fn push_if_later(&mut self, entry: TimeEntry) {
        let last = self.last().map_or(Timestamp::NONE, |last| last.timestamp);
        if entry.timestamp > last {
            self.entries.push(entry.encode());
        }
    }

    /// Keeps the leading entries that ascend and speak of offsets up to `relative_offset`.
    pub(crate) fn keep_plausible(&mut self, relative_offset: u32) {
        let mut previous: Option<TimeEntry> = None;
        let mut count = 0;
        for entry in self.entries.iter().map(TimeEntry::decode) {
            let ascends = previous.is_none_or(|previous| {
                previous.timestamp < entry.timestamp
                    && previous.relative_offset <= entry.relative_offset
            });
            if !ascends || entry.relative_offset > relative_offset {
                break;
            }
            previous = Some(entry);
            count += 1;
        }
        self.entries.truncate(count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(millis: i64, relative_offset: u32) -> TimeEntry {
        TimeEntry { timestamp: Timestamp::from_millis(millis), relative_offset }
    }

    #[test]
    fn only_later_timestamps_get_an_entry() {
        let mut index = TimeIndex::new();
        for (millis, offset) in [(100, 3), (90, 5), (100, 7), (101, 9)] {
            index.push_if_later(entry(millis, offset));
        }
        assert_eq!(index.len(), 2);
        assert_eq!(index.last(), Some(entry(101, 9)));
    }

    #[test]
    fn records_without_timestamp_get_no_entry() {
        let mut index = TimeIndex::new();
        index.push_if_later(entry(-1, 3));
        assert_eq!(index.len(), 0);
    }

    #[test]
    fn before_finds_the_last_entry_that_is_older() {
        let mut index = TimeIndex::new();
        index.push_if_later(entry(100, 3));
        index.push_if_later(entry(200, 9));
        let found =
            |millis| index.before(Timestamp::from_millis(millis)).map(|e| e.relative_offset);
        assert_eq!(found(100), None);
        assert_eq!(found(101), Some(3));
        assert_eq!(found(201), Some(9));
    }

    #[test]
    fn entries_are_laid_out_as_kafka_does() {
        let bytes = entry(0x0102_0304_0506_0708, 13).encode();
        assert_eq!(bytes, [1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 13]);
        assert_eq!(TimeEntry::decode(&bytes), entry(0x0102_0304_0506_0708, 13));
    }
}
