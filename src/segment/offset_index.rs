//! The sparse offset index of a segment: `.index`.
//!
//! An entry is 8 bytes, `i32` last offset of a batch relative to the segment's base offset and `i32`
//! file position at which that same batch starts (Kafka `OffsetIndex`). It is a hint: a reader
//! checks that the batch at the position ends with the offset, and starts at the beginning of the
//! segment if it does not.

use std::array;

use super::entries::Entries;

/// Size of an entry in bytes.
pub(crate) const ENTRY_SIZE: usize = 8;

/// One entry: a batch by its last offset, and where it starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OffsetEntry {
    /// Last offset of the batch, relative to the segment's base offset.
    pub(crate) relative_offset: u32,
    /// Where the batch starts in the `.log` file.
    pub(crate) file_position: u32,
}

impl OffsetEntry {
    pub(crate) fn decode(bytes: [u8; ENTRY_SIZE]) -> Self {
        Self {
            relative_offset: u32::from_be_bytes(array::from_fn(|i| bytes[i])),
            file_position: u32::from_be_bytes(array::from_fn(|i| bytes[4 + i])),
        }
    }

    fn encode(self) -> [u8; ENTRY_SIZE] {
        let mut bytes = [0; ENTRY_SIZE];
        bytes[..4].copy_from_slice(&self.relative_offset.to_be_bytes());
        bytes[4..].copy_from_slice(&self.file_position.to_be_bytes());
        bytes
    }
}

/// The index of one segment.
#[derive(Debug)]
pub(crate) struct OffsetIndex {
    pub(super) entries: Entries<ENTRY_SIZE>,
}

impl OffsetIndex {
    pub(crate) fn new() -> Self {
        Self { entries: Entries::new() }
    }

    /// The last batch known to end at or before the offset.
    pub(crate) fn floor(&self, relative_offset: u32) -> Option<OffsetEntry> {
        let after = self.entries.partition_point(|entry| {
            OffsetEntry::decode(*entry).relative_offset <= relative_offset
        });
        let entry = self.entries.entry(after.checked_sub(1)?).copied().map(OffsetEntry::decode);
        // In a damaged index, which need not ascend, the search may end anywhere.
        entry.filter(|entry| entry.relative_offset <= relative_offset)
    }

    pub(crate) fn last(&self) -> Option<OffsetEntry> {
        self.entries.last().copied().map(OffsetEntry::decode)
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The entries as they go into the file.
    pub(crate) fn entries(&self) -> &Entries<ENTRY_SIZE> {
        &self.entries
    }

    pub(crate) fn push(&mut self, entry: OffsetEntry) {
        debug_assert!(self.last().is_none_or(|last| last.relative_offset < entry.relative_offset));
        self.entries.push(entry.encode());
    }

    /// Keeps the leading entries that ascend and point below `file_position`; the rest was never
    /// written whole, or is damaged.
    pub(crate) fn keep_plausible(&mut self, file_position: u64) {
        let mut previous: Option<OffsetEntry> = None;
        let mut count = 0;
        for entry in self.entries.iter().copied().map(OffsetEntry::decode) {
            let ascends = previous.is_none_or(|previous| {
                previous.relative_offset < entry.relative_offset
                    && previous.file_position < entry.file_position
            });
            // The first batch of a segment never gets an entry, so position 0 is a hole of zeros.
            if !ascends
                || entry.file_position == 0
                || u64::from(entry.file_position) >= file_position
            {
                break;
            }
            previous = Some(entry);
            count += 1;
        }
        self.entries.truncate(count);
    }

    /// Keeps the entries for batches that end at or before an offset.
    pub(crate) fn keep_up_to(&mut self, relative_offset: u32) {
        let count = self.entries.partition_point(|entry| {
            OffsetEntry::decode(*entry).relative_offset <= relative_offset
        });
        self.entries.truncate(count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(entries: &[(u32, u32)]) -> OffsetIndex {
        let mut index = OffsetIndex::new();
        for &(relative_offset, file_position) in entries {
            index.entries.push(OffsetEntry { relative_offset, file_position }.encode());
        }
        index
    }

    #[test]
    fn floor_finds_the_last_batch_that_ends_at_or_before_the_offset() {
        let index = index(&[(13, 526), (21, 1243)]);
        let found = |offset| index.floor(offset).map(|entry| entry.file_position);
        assert_eq!(found(12), None);
        assert_eq!(found(13), Some(526));
        assert_eq!(found(20), Some(526));
        assert_eq!(found(u32::MAX), Some(1243));
    }

    #[test]
    fn entries_are_laid_out_as_kafka_does() {
        assert_eq!(index(&[(13, 526)]).entries.bytes_from(0), [0, 0, 0, 13, 0, 0, 2, 14]);
    }

    #[test]
    fn a_hole_of_zeros_or_a_step_back_ends_the_plausible_part() {
        for (entries, kept) in [
            (&[(13, 526), (21, 1243)][..], 2),
            (&[(13, 526), (0, 0), (21, 1243)], 1),
            (&[(13, 526), (12, 1243)], 1),
            (&[(13, 526), (21, 526)], 1),
            (&[(13, 526), (21, 9_999)], 1),
            (&[(0, 0), (0, 0)], 0),
        ] {
            let mut index = index(entries);
            index.keep_plausible(2_000);
            assert_eq!(index.len(), kept, "{entries:?}");
        }
    }
}
