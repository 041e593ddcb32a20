//! What the library tells of itself while it works: events and spans of the crate `tracing`, with the
//! feature of that name; without it nothing.
//!
//! Only what happens now and then is told, never what happens for every record. The target of all is
//! `sapwood`; a failure is an error, what recovery had to give up a warning, and what comes with
//! ordinary work is for debugging.

#![cfg_attr(not(feature = "tracing"), allow(unused_variables))]

use std::path::Path;
use std::time::Duration;

use crate::error::Error;
use crate::topic_partition::TopicPartition;

/// Ends a span when it is dropped.
pub(crate) struct Span {
    #[cfg(feature = "tracing")]
    _entered: tracing::span::EnteredSpan,
}

/// The span of opening a directory, recovery included.
pub(crate) fn opening(directory: &Path) -> Span {
    Span {
        #[cfg(feature = "tracing")]
        _entered: tracing::info_span!(target: "sapwood", "open", directory = %directory.display())
            .entered(),
    }
}

/// The span of one turn of the maintenance.
pub(crate) fn maintaining() -> Span {
    Span {
        #[cfg(feature = "tracing")]
        _entered: tracing::trace_span!(target: "sapwood", "maintenance").entered(),
    }
}

pub(crate) fn opened(partitions: usize, clean_shutdown: bool) {
    #[cfg(feature = "tracing")]
    tracing::info!(target: "sapwood", partitions, clean_shutdown, "opened");
}

pub(crate) fn tail_cut(of: &TopicPartition, offset: u64, bytes: u64, reason: &str) {
    #[cfg(feature = "tracing")]
    tracing::warn!(target: "sapwood", partition = %of, offset, bytes, reason, "cut off a torn tail");
}

pub(crate) fn offsets_lost(of: &TopicPartition, ranges: usize) {
    #[cfg(feature = "tracing")]
    tracing::warn!(target: "sapwood", partition = %of, ranges, "offsets are lost");
}

pub(crate) fn stopped(of: &TopicPartition, error: &Error) {
    #[cfg(feature = "tracing")]
    tracing::error!(target: "sapwood", partition = %of, %error, "the partition has stopped");
}

pub(crate) fn maintenance_failed(error: &Error) {
    #[cfg(feature = "tracing")]
    tracing::error!(target: "sapwood", %error, "maintenance failed, and is tried again");
}

pub(crate) fn synced(of: &TopicPartition, end_offset: u64, batches: u64, elapsed: Duration) {
    #[cfg(feature = "tracing")]
    tracing::trace!(target: "sapwood", partition = %of, end_offset, batches, ?elapsed, "synced");
}

pub(crate) fn segment_rolled(of: &TopicPartition, base_offset: u64) {
    #[cfg(feature = "tracing")]
    tracing::debug!(target: "sapwood", partition = %of, base_offset, "began a segment");
}

pub(crate) fn segments_deleted(of: &TopicPartition, segments: usize, log_start_offset: u64) {
    #[cfg(feature = "tracing")]
    tracing::debug!(target: "sapwood", partition = %of, segments, log_start_offset, "deleted segments");
}

pub(crate) fn topic_created(topic: &str, partitions: u32) {
    #[cfg(feature = "tracing")]
    tracing::info!(target: "sapwood", topic, partitions, "created a topic, or partitions of it");
}

pub(crate) fn topic_deleted(topic: &str) {
    #[cfg(feature = "tracing")]
    tracing::info!(target: "sapwood", topic, "deleted a topic");
}
