//! Where to begin scanning a segment whose first part is known to be synced.
//!
//! Beginning late is what keeps an open short. What is skipped must be in the indexes completely: a
//! time entry says "nothing later than this so far", and after a gap in what the rule has seen, new
//! entries would lie and make a search by timestamp skip records.

use crate::error::{Error, Result};
use crate::segment::indexer::{Indexer, Indexes};
use crate::segment::time_index::TimeEntry;
use crate::segment::{BatchPosition, Segment};

/// How far the index files can be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum IndexFiles {
    /// They were synced: both of them tell of everything up to the same batch.
    Synced,
    /// They were written without a sync, so that after a power loss one may lack entries that the
    /// other has. They are cut back to where both must be complete, which is the batch that brought
    /// the largest timestamp. Timestamps mostly rise, so that is not far.
    Unsynced,
}

/// A place to begin scanning so that everything from `until` on is seen, and the indexes of what
/// comes before it: the last entries of the index files that prove right, or the segment's start.
pub(super) fn resume(
    segment: &Segment,
    until: BatchPosition,
    index_files: IndexFiles,
    interval: u64,
) -> Result<(BatchPosition, Indexer)> {
    let from_start = || (segment.start(), Indexer::begin(segment.base_offset(), interval));
    if until.file_position == 0 {
        return Ok(from_start());
    }
    let mut batches = segment.batches_from(segment.start());
    let first = batches.next()?.map(|(_, first)| first.max_timestamp());
    let Some(mut indexes) = segment.load_indexes() else { return Ok(from_start()) };
    Ok(match prove(segment, until, index_files, &mut indexes)? {
        Some(position) => {
            (position, Indexer::resume(segment.base_offset(), interval, indexes, first))
        }
        None => from_start(),
    })
}

/// Cuts indexes back to what can be believed; returns where they end.
fn prove(
    segment: &Segment,
    until: BatchPosition,
    index_files: IndexFiles,
    indexes: &mut Indexes,
) -> Result<Option<BatchPosition>> {
    indexes.offsets.keep_plausible(until.file_position);
    let Some(last) = indexes.offsets.last() else { return Ok(None) };
    let relative_end = until.base_offset.saturating_sub(segment.base_offset());
    indexes.times.keep_plausible(match index_files {
        IndexFiles::Synced => u32::try_from(relative_end).unwrap_or(u32::MAX),
        IndexFiles::Unsynced => last.relative_offset,
    });
    let Some(latest) = indexes.times.last() else { return Ok(None) };
    // From here on the batch with the latest time entry is looked for.
    let position = match indexes.offsets.floor(latest.relative_offset) {
        Some(before) => segment.check_entry(before),
        None => Some(segment.start()),
    };
    let Some(position) = position else { return Ok(None) };
    if !is_right(segment, position, latest)? {
        return Ok(None);
    }
    let position = match index_files {
        IndexFiles::Synced => segment.check_entry(last),
        IndexFiles::Unsynced => {
            indexes.offsets.keep_up_to(latest.relative_offset);
            Some(position)
        }
    };
    Ok(position.filter(|position| position.base_offset <= until.base_offset))
}

/// Whether the batch that a time entry speaks of has its timestamp.
fn is_right(segment: &Segment, from: BatchPosition, entry: TimeEntry) -> Result<bool> {
    let offset = segment.base_offset().saturating_add(entry.relative_offset.into());
    let mut batches = segment.batches_from(from);
    loop {
        match batches.next() {
            Ok(Some((_, batch))) if batch.last_offset() < offset => {}
            Ok(Some((_, batch))) => {
                return Ok(
                    batch.last_offset() == offset && batch.max_timestamp() == entry.timestamp
                );
            }
            // Whatever is wrong here, the scan will find it.
            Ok(None) | Err(Error::Corrupt(_)) => return Ok(false),
            Err(error) => return Err(error),
        }
    }
}
