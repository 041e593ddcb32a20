//! Consumer groups, broker side: who is in a group, who reads what, and what has been committed.
//!
//! A group is a name under which consumers share their work and their progress. Its members divide the
//! partitions of the topics that they subscribe to: each partition is read by one of them at a time.
//!
//! # Members
//!
//! Members live in this process and end with it: membership is not stored, and the first consumer after a
//! restart finds an empty group. What is stored is what was committed, below. A member joins when its
//! consumer is made, is alive as long as it polls ([`pulse`]), and leaves when the consumer is dropped,
//! also by a panic. One that has not polled for its `max_poll_interval` is expired as soon as anybody
//! looks: another member, which does so every second, or whoever describes the group.
//!
//! Whatever an assignment goes by makes another *generation*: members that come and go, topics that they
//! subscribe to, partitions that these get. Then
//!
//! ```text
//!            join                    changed
//!  Empty ───────────▶ Assigning ◀────────────────────────┐
//!    ▲                 │      ▲                          │
//!    │        assigned │      │ changed                  │
//!    │                 ▼      │        all has arrived   │
//!    │                Reconciling ────────────────────▶ Stable
//!    │                     │    ◀────────────────────    │
//!    │                     │     a partition was let go  │
//!    └─────────────────────┴─────────────────────────────┘
//!            the last member leaves or expires
//! ```
//!
//! - *Assigning*: one member, on its own thread and without a lock, asks the [`assignor`] who is to have
//!   what. Nothing changes hands meanwhile.
//! - *Reconciling*: a member that has what it is not to have gives it back with its next poll, and a member
//!   takes what it is to have once nobody has it ([`state::Group::step`]). So a partition is never read by
//!   two, and one that stays where it is is read on without a break: members for which nothing changes
//!   learn nothing of it.
//! - *Stable*: everybody has what they are to have.
//!
//! These are Kafka's states since KIP-848, where the assignment is the group's and not a member's work.
//!
//! A commit counts if it comes from a member and is about partitions that this member has; in a group
//! without members, from anybody who has not been one. So a member that is late, be it that it was expired
//! or that a partition has moved on, changes nothing.
//!
//! # Offsets
//!
//! What a group has committed lives in the internal topic `__consumer_offsets`, in Kafka's record schemas
//! ([`offset_records`]), one record per group and partition; the latest one counts, and a tombstone
//! forgets. A change is decided, appended, synced and only then applied; opening applies the same records
//! again ([`shard::Shard`], under the [`coordinator::GroupCoordinator`]).

pub(crate) mod assignor;
pub(crate) mod committed;
pub(crate) mod coordinator;
pub(crate) mod members;
pub(crate) mod offset_records;
pub(crate) mod offset_store;
pub(crate) mod pulse;
pub(crate) mod shard;
pub(crate) mod state;

use std::fmt;

use crate::error::{Error, Result};
use crate::time::Timestamp;
use crate::topic_partition::TopicPartition;

/// The longest group id, in bytes. Kafka has no limit but that of its strings; this one leaves room
/// for more than any name needs, and bounds what a commit takes.
pub(crate) const GROUP_ID_LENGTH_MAX: usize = 249;

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
    /// How far it has come in dividing its partitions.
    pub state: GroupState,
    /// The consumers that are in it now, of this process: those with an instance id in order of these,
    /// then the others as they have joined.
    pub members: Vec<MemberDescription>,
    /// Counts up with every change of members, of topics and of partitions, from 0 when the broker is
    /// opened or the group made.
    pub generation: u32,
    /// The name of the [`Assignor`](crate::Assignor) that its members use; `None` without members.
    pub assignor: Option<String>,
    /// What it has committed, in order of topic and partition.
    pub offsets: Vec<GroupOffset>,
}

/// How far a group has come in dividing its partitions. Kafka's states of consumer groups (KIP-848).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GroupState {
    /// It has no members.
    Empty,
    /// It has changed, and who is to have what is not decided yet.
    Assigning,
    /// It is decided, and some partitions are on their way: given back with the next poll of a member, or
    /// taken by one with its next.
    Reconciling,
    /// Every member has what it is to have.
    Stable,
}

/// As Kafka's tools write it: `Stable`.
impl fmt::Display for GroupState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// One consumer of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemberDescription {
    /// Identifies it: its client id and a number that no other member of this broker has.
    pub member_id: String,
    /// What the program calls it: [`client_id`](crate::ConsumerBuilder::client_id).
    pub client_id: String,
    /// What it is called across restarts: [`instance_id`](crate::ConsumerBuilder::instance_id).
    pub instance_id: Option<String>,
    /// The partitions that it has, in order. None if it has an instance id and was dropped, and its share
    /// waits for its successor.
    pub assignment: Vec<TopicPartition>,
    /// The partitions that it is to have once the group is stable, in order.
    pub target_assignment: Vec<TopicPartition>,
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
