//! Consumer groups, broker side: who is in a group, and what it has committed.
//!
//! A group is a name under which consumers share their progress. What it has committed lives in
//! the internal topic `__consumer_offsets`, in Kafka's record schemas ([`offset_records`]), one
//! record per group and partition; the latest one counts, and a tombstone forgets. A change is
//! decided, appended, synced and only then applied; opening applies the same records again
//! ([`shard::Shard`], under the [`coordinator::GroupCoordinator`]). Membership is not stored: members live in this process and
//! end with it.
//!
//! ```text
//!            join                    generation: +1 with every arrow.
//!  Empty ───────────▶ Stable         A commit must come from the present generation, or, in an
//!    ▲                   │           empty group, from somebody who never joined.
//!    └───────────────────┘
//!            leave
//! ```
//!
//! A group has one member at a time so far; dividing partitions among several needs another state
//! between the two, and changes nothing of what is stored.

pub(crate) mod assignor;
pub(crate) mod coordinator;
pub(crate) mod offset_records;
pub(crate) mod offset_store;
pub(crate) mod shard;
pub(crate) mod state;

use crate::error::{Error, Result};
use crate::time::Timestamp;
use crate::topic_partition::TopicPartition;

/// The longest group id, in bytes. Kafka has no limit but that of its strings; this one leaves room
/// for more than any name needs, and bounds what a commit takes.
const GROUP_ID_LENGTH_MAX: usize = 249;

/// What a group commits for a partition: where to resume, and whatever else it wants to remember.
///
/// ```
/// use sapwood::OffsetAndMetadata;
///
/// let committed = OffsetAndMetadata::new(42).metadata("after the nightly run");
/// assert_eq!(committed.offset, 42);
/// # assert_eq!(OffsetAndMetadata::from(7), OffsetAndMetadata::new(7));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub struct OffsetAndMetadata {
    /// The next offset to read: one more than that of the last record that is done with.
    pub offset: u64,
    /// Any text of at most 4096 bytes; most commits leave it empty.
    pub metadata: String,
}

impl OffsetAndMetadata {
    /// An offset to resume at, without metadata.
    #[must_use]
    pub fn new(offset: u64) -> Self {
        Self { offset, metadata: String::new() }
    }

    /// Sets the metadata: at most 4096 bytes, or the commit is refused.
    #[must_use]
    pub fn metadata(mut self, metadata: impl Into<String>) -> Self {
        self.metadata = metadata.into();
        self
    }
}

impl From<u64> for OffsetAndMetadata {
    fn from(offset: u64) -> Self {
        Self::new(offset)
    }
}

/// What is known of a group at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupDescription {
    /// The group's id.
    pub group: String,
    /// How many consumers are in it now.
    pub members: usize,
    /// Counts up whenever a consumer joins or leaves, from 0 when the broker is opened.
    pub generation: u32,
    /// What it has committed, in order of topic and partition.
    pub offsets: Vec<GroupOffset>,
}

/// How far a group has come in one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupOffset {
    /// The partition.
    pub topic_partition: TopicPartition,
    /// Where the group resumes, and what it has noted.
    pub committed: OffsetAndMetadata,
    /// When that was committed.
    pub commit_timestamp: Timestamp,
    /// How many offsets lie between there and the last visible record. Offsets without records
    /// (control records, those that compaction removed) count too.
    pub lag: u64,
}

/// Checks a group id: 1 to 249 bytes of any text.
pub(crate) fn check_group_id(group: &str) -> Result<()> {
    let reason = if group.is_empty() {
        "it is empty"
    } else if group.len() > GROUP_ID_LENGTH_MAX {
        "it is longer than 249 bytes"
    } else {
        return Ok(());
    };
    Err(Error::InvalidGroup { group: group.to_owned(), reason })
}
