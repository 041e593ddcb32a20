//! Share groups, broker side: a topic as a durable work queue.
//!
//! In a consumer group a partition belongs to one member, and the group remembers how far it has come. In
//! a share group every record is handed out by itself: any number of workers take records of the same
//! partition, each acknowledges what it has done, and what it does not acknowledge is handed out again.
//! The semantics are those of Kafka's share groups (KIP-932), the dead letters those of KIP-1191.
//!
//! For each group and partition there is a *window* of offsets: below it everything is done, above it
//! nothing was handed out yet. A record in it is in exactly one of four states:
//!
//! ```text
//!                  acquire (delivery count + 1)              accept
//!   ┌───────────┐ ─────────────────────────────▶ ┌──────────┐ ─────▶ ┌──────────────┐
//!   │ Available │                                │ Acquired │        │ Acknowledged │
//!   └───────────┘ ◀───────────────────────────── └──────────┘        └──────────────┘
//!         │         release, lock times out         │ reject
//!         │                                         ▼
//!         │  delivered too often, or the log  ┌──────────┐
//!         └──────────────────────────────────▶│ Archived │
//!            does not have it any more        └──────────┘
//! ```
//!
//! - [`state`]: these states and the one function by which they change. Pure.
//! - [`window`]: the states of a partition's records, as ranges. Pure.
//! - [`partition`]: the lock over a window, and what of it is stored when.
//! - [`state_records`], [`state_log`]: what is stored, in Kafka's schemas, in `__share_group_state`; and
//!   reading it again.
//! - [`dead_letter`]: copying a record that is given up to where somebody will look at it.
//! - [`coordinator`]: all of a broker's share groups.
//!
//! # What survives what
//!
//! Each record is delivered *at least once*: it is done only when a worker has accepted or rejected it, or
//! it was delivered as often as it may be, and until then it is handed out again. That a record is handed
//! out is appended to the state topic before it is, so delivery counts survive the process being killed:
//! a record that kills its worker each time gets to the limit. An acknowledgement is appended before it
//! counts. Under [`Durability::Fsync`](crate::Durability::Fsync) of the topic that the record is in it is
//! on disk when the call returns; under `Written` a power cut may take it, and the record comes again.
//! Locks are of this process: after a restart, whatever was not acknowledged is available at once.
//!
//! A dead letter is on disk before its record is archived. A crash between the two copies it again: dead
//! letters, too, are written at least once.

pub(crate) mod backoff;
pub(crate) mod coordinator;
pub(crate) mod dead_letter;
pub(crate) mod partition;
pub(crate) mod state;
pub(crate) mod state_log;
pub(crate) mod state_records;
pub(crate) mod window;

use crate::record::Headers;
use crate::time::Timestamp;
use crate::topic_partition::TopicPartition;

/// The name of the header that says when a record may be handed out to share consumers at the earliest:
/// *delayed* or *scheduled* delivery.
///
/// Its value is a point in wall-clock time as text: milliseconds since 1970, as a [`Timestamp`] is written.
/// Any other value is as if there were none. Plain consumers take no notice of it.
///
/// A record that waits for its time holds up nobody behind it. How many may wait in a partition is limited,
/// see [`ShareConsumerBuilder::max_delayed`](crate::ShareConsumerBuilder::max_delayed).
///
/// ```
/// use std::time::Duration;
/// use sapwood::{Broker, Clock, NOT_BEFORE_HEADER, Record, SystemClock, TopicConfig};
///
/// let broker = Broker::in_memory()?;
/// let jobs = broker.create_topic("jobs", TopicConfig::default())?;
/// let in_an_hour = SystemClock::new().now().saturating_add(Duration::from_secs(3_600)).to_string();
/// let later = Record::new("later").header(NOT_BEFORE_HEADER, &in_an_hour);
/// jobs.partition(0)?.append(&[later, Record::new("now")])?;
///
/// let mut worker = broker.share_consumer("workers").subscribe(["jobs"])?;
/// let records = worker.poll(Duration::ZERO)?;
/// let values: Vec<_> = records.iter().map(|record| record.value()).collect();
/// assert_eq!(values, [Some(&b"now"[..])]);
/// # Ok::<(), sapwood::Error>(())
/// ```
pub const NOT_BEFORE_HEADER: &str = "sapwood.not-before";

/// When a record with these headers may be handed out, if they say.
pub(crate) fn not_before(headers: Headers<'_>) -> Option<Timestamp> {
    if headers.len() == 0 {
        return None;
    }
    let found = headers.filter(|header| header.name() == NOT_BEFORE_HEADER).last()?;
    let text = str::from_utf8(found.value()?).ok()?;
    text.trim().parse().ok().map(Timestamp::from_millis)
}

/// What is known of a share group at one moment. See [`Broker::describe_share_group`](crate::Broker::describe_share_group).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShareGroupDescription {
    /// The group's id.
    pub group: String,
    /// How many consumers of this process are in it.
    pub members: usize,
    /// The partitions that it has been given, in order.
    pub partitions: Vec<SharePartitionDescription>,
}

/// How far a share group is in one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SharePartitionDescription {
    /// The partition.
    pub topic_partition: TopicPartition,
    /// Everything below this offset is done: acknowledged or archived.
    pub start_offset: u64,
    /// Nothing from this offset on has been handed out.
    pub end_offset: u64,
    /// Records that workers have.
    pub acquired: u64,
    /// Those, and records that have been handed out before and wait to be again.
    pub in_flight: u64,
    /// Records between the two offsets that were never handed out: it is not their time yet.
    pub delayed: u64,
    /// How often the records between the two offsets that are not done have been handed out.
    pub delivery_counts: DeliveryCounts,
    /// How many offsets are still to be done: those in flight, delayed, and behind `end_offset`. Offsets
    /// without records count too until they are come to.
    pub lag: u64,
}

/// How many records have been handed out how often.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DeliveryCounts(Vec<(u16, u64)>);

impl DeliveryCounts {
    pub(crate) fn add(&mut self, delivery_count: u16, records: u64) {
        match self.0.binary_search_by_key(&delivery_count, |(count, _)| *count) {
            Ok(at) => {
                if let Some((_, sum)) = self.0.get_mut(at) {
                    *sum += records;
                }
            }
            Err(at) => self.0.insert(at, (delivery_count, records)),
        }
    }

    /// Each delivery count that some record has, with the number of these records, rising.
    pub fn iter(&self) -> impl Iterator<Item = (u16, u64)> {
        self.0.iter().copied()
    }

    /// The highest delivery count; 0 if nothing has been handed out.
    pub fn highest(&self) -> u16 {
        self.0.last().map_or(0, |(count, _)| *count)
    }
}
