//! The segments of a log in order of their base offsets, as an immutable snapshot.
//!
//! Readers take the snapshot and never meet the appender again: a roll or a deletion makes a new
//! one. A segment that is deleted lives on for those who hold it.

use std::sync::Arc;

use parking_lot::RwLock;

use crate::segment::Segment;

/// The current snapshot. Any thread may take it; it is replaced under the log's append lock.
#[derive(Debug)]
pub(crate) struct Segments(RwLock<Set>);

#[derive(Debug)]
struct Set {
    segments: Arc<Vec<Arc<Segment>>>,
    /// Bytes of all but the active one, which have their final lengths.
    sealed_len: u64,
}

impl Set {
    fn new(segments: Arc<Vec<Arc<Segment>>>) -> Self {
        let sealed = segments.split_last().map_or(&[][..], |(_active, sealed)| sealed);
        let sealed_len = sealed.iter().map(|segment| segment.len()).sum();
        Self { segments, sealed_len }
    }

    fn active(&self) -> &Arc<Segment> {
        self.segments.last().expect("a log has at least one segment")
    }
}

impl Segments {
    /// Segments in ascending order. There is always at least one: the active one, which is last.
    pub(crate) fn new(segments: Vec<Arc<Segment>>) -> Self {
        assert!(!segments.is_empty(), "a log has at least one segment");
        debug_assert!(segments.is_sorted_by_key(|segment| segment.base_offset()));
        Self(RwLock::new(Set::new(Arc::new(segments))))
    }

    /// The segments as they are now.
    pub(crate) fn snapshot(&self) -> Arc<Vec<Arc<Segment>>> {
        Arc::clone(&self.0.read().segments)
    }

    /// The segment in which an offset lies if it lies anywhere, and the ones after it.
    pub(crate) fn floor(&self, offset: u64) -> Option<Arc<Segment>> {
        let segments = &self.0.read().segments;
        let after = segments.partition_point(|segment| segment.base_offset() <= offset);
        segments.get(after.checked_sub(1)?).cloned()
    }

    /// The segment that follows one.
    pub(crate) fn after(&self, base_offset: u64) -> Option<Arc<Segment>> {
        let segments = &self.0.read().segments;
        let at = segments.partition_point(|segment| segment.base_offset() <= base_offset);
        segments.get(at).cloned()
    }

    /// The active segment.
    pub(crate) fn active(&self) -> Arc<Segment> {
        Arc::clone(self.0.read().active())
    }

    /// Adds a new active segment.
    pub(crate) fn push(&self, segment: Arc<Segment>) {
        let mut set = self.0.write();
        debug_assert!(set.active().base_offset() < segment.base_offset());
        set.sealed_len += set.active().len();
        // Copied only while somebody holds the snapshot: a log may have many thousand segments.
        Arc::make_mut(&mut set.segments).push(segment);
    }

    /// Takes out the segments before a base offset, which must be that of a segment.
    pub(crate) fn remove_before(&self, base_offset: u64) -> Vec<Arc<Segment>> {
        let mut set = self.0.write();
        let count = set.segments.partition_point(|segment| segment.base_offset() < base_offset);
        assert!(count < set.segments.len(), "the active segment stays");
        let removed: Vec<_> = Arc::make_mut(&mut set.segments).drain(..count).collect();
        set.sealed_len -= removed.iter().map(|segment| segment.len()).sum::<u64>();
        removed
    }

    /// Takes over the segments of another set.
    pub(crate) fn replace(&self, other: &Segments) {
        *self.0.write() = Set::new(other.snapshot());
    }

    /// Bytes of batches in all segments.
    pub(crate) fn size(&self) -> u64 {
        let set = self.0.read();
        set.sealed_len + set.active().len()
    }
}
