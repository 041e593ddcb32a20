//! The segments of a log in order of their base offsets, as an immutable snapshot.
//!
//! Readers take the snapshot and never meet the appender again: a roll or a deletion makes a new
//! one. A segment that is deleted lives on for those who hold it.

use std::sync::Arc;

use parking_lot::RwLock;

use crate::segment::Segment;

/// The current snapshot. Any thread may take it; it is replaced under the log's append lock.
#[derive(Debug)]
pub(crate) struct Segments(RwLock<Arc<Vec<Arc<Segment>>>>);

impl Segments {
    /// Segments in ascending order. There is always at least one: the active one, which is last.
    pub(crate) fn new(segments: Vec<Arc<Segment>>) -> Self {
        assert!(!segments.is_empty(), "a log has at least one segment");
        debug_assert!(segments.is_sorted_by_key(|segment| segment.base_offset()));
        Self(RwLock::new(Arc::new(segments)))
    }

    /// The segments as they are now.
    pub(crate) fn snapshot(&self) -> Arc<Vec<Arc<Segment>>> {
        Arc::clone(&self.0.read())
    }

    /// The segment in which an offset lies if it lies anywhere, and the ones after it.
    pub(crate) fn floor(&self, offset: u64) -> Option<Arc<Segment>> {
        let segments = self.0.read();
        let after = segments.partition_point(|segment| segment.base_offset() <= offset);
        segments.get(after.checked_sub(1)?).cloned()
    }

    /// The segment that follows one.
    pub(crate) fn after(&self, base_offset: u64) -> Option<Arc<Segment>> {
        let segments = self.0.read();
        let at = segments.partition_point(|segment| segment.base_offset() <= base_offset);
        segments.get(at).cloned()
    }

    /// The active segment.
    pub(crate) fn active(&self) -> Arc<Segment> {
        Arc::clone(self.0.read().last().expect("a log has at least one segment"))
    }

    /// Adds a new active segment.
    pub(crate) fn push(&self, segment: Arc<Segment>) {
        let mut slot = self.0.write();
        debug_assert!(slot.last().is_none_or(|last| last.base_offset() < segment.base_offset()));
        let mut segments = Vec::clone(&slot);
        segments.push(segment);
        *slot = Arc::new(segments);
    }

    /// Takes out the segments before a base offset, which must be that of a segment.
    pub(crate) fn remove_before(&self, base_offset: u64) -> Vec<Arc<Segment>> {
        let mut slot = self.0.write();
        let (removed, kept) =
            slot.iter().cloned().partition(|segment| segment.base_offset() < base_offset);
        let kept: Vec<_> = kept;
        assert!(!kept.is_empty(), "the active segment stays");
        *slot = Arc::new(kept);
        removed
    }

    /// Takes over the segments of another set.
    pub(crate) fn replace(&self, other: &Segments) {
        *self.0.write() = other.snapshot();
    }

    /// Bytes of batches in all segments.
    pub(crate) fn size(&self) -> u64 {
        self.0.read().iter().map(|segment| segment.len()).sum()
    }
}
