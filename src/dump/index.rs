//! The sparse indexes beside a `.log` file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::segment::{SegmentDump, SegmentPart};
use crate::error::{Corruption, Result};
use crate::fs::durably;
use crate::segment::offset_index::{self, OffsetEntry};
use crate::segment::time_index::{self, TimeEntry};
use crate::time::Timestamp;

/// No index file of ours or Kafka's is longer: its positions are 31 bits.
const LEN_MAX: u64 = 1 << 31;

/// An entry of a segment's offset index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct OffsetIndexEntry {
    /// The last offset of a batch.
    pub offset: u64,
    /// Where in the `.log` file that batch begins, in bytes.
    pub file_position: u32,
}

/// An entry of a segment's time index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct TimeIndexEntry {
    /// The largest timestamp in the segment up to a batch.
    pub timestamp: Timestamp,
    /// The last offset of the batch that brought it.
    pub offset: u64,
}

impl SegmentDump {
    /// The entries of the `.index` file beside this file, without the unused zeros at its end. `None`
    /// if there is no such file.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`](crate::Error::Corrupt) if it is far too long, or this file is not named
    /// like a segment; [`Error::Io`](crate::Error::Io).
    pub fn offset_index(&self) -> Result<Option<Vec<OffsetIndexEntry>>> {
        let base_offset = self.named_base_offset()?;
        let entry = |bytes: &[u8; offset_index::ENTRY_SIZE]| {
            let entry = OffsetEntry::decode(*bytes);
            let offset = base_offset.saturating_add(entry.relative_offset.into());
            OffsetIndexEntry { offset, file_position: entry.file_position }
        };
        let bytes = self.index_bytes(&self.index_path("index"))?;
        Ok(bytes.map(|bytes| used(&bytes).iter().map(entry).collect()))
    }

    /// The entries of the `.timeindex` file beside this file, without the unused zeros at its end.
    /// `None` if there is no such file.
    ///
    /// # Errors
    ///
    /// As [`Self::offset_index`].
    pub fn time_index(&self) -> Result<Option<Vec<TimeIndexEntry>>> {
        let base_offset = self.named_base_offset()?;
        let entry = |bytes: &[u8; time_index::ENTRY_SIZE]| {
            let entry = TimeEntry::decode(bytes);
            let offset = base_offset.saturating_add(entry.relative_offset.into());
            TimeIndexEntry { timestamp: entry.timestamp, offset }
        };
        let bytes = self.index_bytes(&self.index_path("timeindex"))?;
        Ok(bytes.map(|bytes| used(&bytes).iter().map(entry).collect()))
    }

    /// Holds both indexes against the batches, and returns what does not fit, by Kafka's rules: an
    /// offset entry names the last offset of the batch at its file position; a time entry names the
    /// last offset and the largest timestamp of one batch, and timestamps ascend.
    ///
    /// Indexes are hints, and Sapwood checks each entry before it follows it: what is found here costs
    /// time and no records. Remove the file, and it is made anew. Reads the whole `.log` file.
    ///
    /// # Errors
    ///
    /// As [`Self::offset_index`].
    pub fn check_indexes(&self) -> Result<Vec<Corruption>> {
        let offsets = self.offset_index()?.unwrap_or_default();
        let times = self.time_index()?.unwrap_or_default();
        let mut check = IndexCheck {
            by_position: offsets.iter().map(|entry| (entry.file_position.into(), *entry)).collect(),
            by_offset: times.iter().map(|entry| (entry.offset, *entry)).collect(),
        };
        for part in self.parts()? {
            if let SegmentPart::Batch(batch) = part? {
                check.see(batch.file_position, batch.last_offset, batch.max_timestamp);
            }
        }
        let mut wrong = check.left(self);
        let ascends = times.is_sorted_by(|one, next| one.timestamp < next.timestamp);
        if !ascends {
            let reason = "its timestamps do not ascend";
            wrong.push(Corruption::of_file(&self.index_path("timeindex"), reason));
        }
        Ok(wrong)
    }

    fn named_base_offset(&self) -> Result<u64> {
        self.base_offset().ok_or_else(|| {
            let reason = "it is not named after an offset, so nothing says what is in its indexes";
            Corruption::of_file(&self.path, reason).into()
        })
    }

    fn index_path(&self, extension: &str) -> PathBuf {
        self.path.with_extension(extension)
    }

    fn index_bytes(&self, path: &Path) -> Result<Option<Vec<u8>>> {
        durably::read(&*self.fs, path, LEN_MAX)
    }
}

/// The entries in an index file. Kafka makes the file as long as it can get, and cuts it later; and
/// what a crash has left may end within an entry.
fn used<const N: usize>(bytes: &[u8]) -> &[[u8; N]] {
    let entries = bytes.as_chunks::<N>().0;
    let end = entries.iter().rposition(|entry| *entry != [0; N]).map_or(0, |last| last + 1);
    entries.get(..end).unwrap_or_default()
}

/// Entries that no batch has been found for yet.
struct IndexCheck {
    by_position: BTreeMap<u64, OffsetIndexEntry>,
    by_offset: BTreeMap<u64, TimeIndexEntry>,
}

impl IndexCheck {
    fn see(&mut self, file_position: u64, last_offset: u64, max_timestamp: Timestamp) {
        if self.by_position.get(&file_position).is_some_and(|entry| entry.offset == last_offset) {
            self.by_position.remove(&file_position);
        }
        if self.by_offset.get(&last_offset).is_some_and(|entry| entry.timestamp == max_timestamp) {
            self.by_offset.remove(&last_offset);
        }
    }

    fn left(&self, segment: &SegmentDump) -> Vec<Corruption> {
        let offset = |entry: &OffsetIndexEntry| {
            let OffsetIndexEntry { offset, file_position } = entry;
            let reason = format!("no batch at byte {file_position} ends with offset {offset}");
            Corruption::of_file(&segment.index_path("index"), reason)
        };
        let time = |entry: &TimeIndexEntry| {
            let TimeIndexEntry { offset, timestamp } = entry;
            let reason =
                format!("no batch ends with offset {offset} and has {timestamp} as its latest");
            Corruption::of_file(&segment.index_path("timeindex"), reason)
        };
        let offsets = self.by_position.values().map(offset);
        offsets.chain(self.by_offset.values().map(time)).collect()
    }
}
