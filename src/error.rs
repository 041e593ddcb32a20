//! What can go wrong, said so that the caller knows what to do next.
//!
//! One enum for the whole crate and three questions about it: may the same call succeed later
//! ([`Error::is_retriable`]), must a transaction be aborted ([`Error::requires_abort`]), is the
//! handle done for ([`Error::is_fatal`]). At most one of them is true.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::record::Record;
use crate::topic_partition::TopicPartition;

/// The result of every fallible call of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, where, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A call to the operating system failed.
    #[error("cannot {operation} {}: {source}", .path.display())]
    Io {
        /// What was being done, as a verb: `read`, `create`, `sync` ...
        operation: &'static str,
        /// The file or directory it was done to.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },

    /// The disk or a quota is full. Nothing was changed by the call; free some space and repeat it.
    #[error("cannot {operation} {}: no space left; free some and try again", .path.display())]
    StorageFull {
        /// What was being done.
        operation: &'static str,
        /// The file or directory it was done to.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },

    /// Bytes that were once safely stored are damaged or missing. Nothing was changed on disk.
    #[error("{0}")]
    Corrupt(Box<Corruption>),

    /// A file was written by a newer version of this crate or uses a feature this build lacks.
    #[error("{} cannot be read: {reason}", .path.display())]
    UnsupportedFormat {
        /// The file.
        path: PathBuf,
        /// What is not understood, and what would understand it.
        reason: String,
    },

    /// Another process, or another handle in this one, has the directory open for writing.
    #[error(
        "{} is held by another writer, in this process or another: close that broker or drop all \
         that was made with it, or open the directory read-only",
        .path.display()
    )]
    Locked {
        /// The lock file.
        path: PathBuf,
    },

    /// The directory to open holds no log, or is not a directory.
    #[error("{} cannot be opened as a log directory: {reason}", .path.display())]
    NotALogDirectory {
        /// What was to be opened.
        path: PathBuf,
        /// Why it cannot be.
        reason: &'static str,
    },

    /// A directory was to be made where none can be. Choose another place, or empty that one.
    #[error("cannot make a directory at {}: {reason}", .path.display())]
    InvalidTarget {
        /// Where it was to be made.
        path: PathBuf,
        /// Why it cannot be.
        reason: &'static str,
    },

    /// The topic name breaks the rules (Kafka's: 1 to 249 of `a-z A-Z 0-9 . _ -`).
    #[error("topic name {topic:?} is not allowed: {reason}")]
    InvalidTopicName {
        /// The name.
        topic: String,
        /// Which rule it breaks.
        reason: &'static str,
    },

    /// There is no such topic. Create it first.
    #[error("topic {topic:?} does not exist; create it with `create_topic`")]
    UnknownTopic {
        /// The name.
        topic: String,
    },

    /// The topic exists already.
    #[error("topic {topic:?} exists already")]
    TopicExists {
        /// The name.
        topic: String,
    },

    /// The topic has no such partition.
    #[error(
        "topic {topic:?} has {partitions} partition(s), numbered from 0; there is no {partition}"
    )]
    UnknownPartition {
        /// The topic.
        topic: String,
        /// The partition that was asked for.
        partition: u32,
        /// How many there are.
        partitions: u32,
    },

    /// A setting has a value that cannot be used, or is not known.
    #[error("setting {name} = {value:?} is not allowed: {reason}")]
    InvalidConfig {
        /// The setting's name, as Kafka names it.
        name: String,
        /// The offending value.
        value: String,
        /// What is allowed.
        reason: String,
    },

    /// A record cannot be stored as it is.
    #[error("the record for {topic_partition} cannot be stored: {reason}")]
    InvalidRecord {
        /// Where it was to go.
        topic_partition: TopicPartition,
        /// What is wrong with it.
        reason: String,
    },

    /// A record or batch is larger than its topic allows. Nothing was written.
    #[error("{size} bytes for {topic} are more than {setting} = {limit} allows")]
    RecordTooLarge {
        /// The topic.
        topic: String,
        /// How large it is, in bytes as stored.
        size: u64,
        /// How large it may be.
        limit: u64,
        /// The setting that says so, by Kafka's name.
        setting: &'static str,
    },

    /// The offset lies before the first or after the last readable one.
    #[error(
        "offset {offset} of {topic_partition} is out of range: \
         readable are {log_start_offset} up to {end_offset}"
    )]
    OffsetOutOfRange {
        /// The partition.
        topic_partition: TopicPartition,
        /// The offset asked for.
        offset: u64,
        /// The first readable offset.
        log_start_offset: u64,
        /// The first offset that is not readable (yet).
        end_offset: u64,
    },

    /// A group has no committed offset and its reset policy is to say so.
    #[error(
        "{} has no committed offset for {topic_partition}, and \
         auto.offset.reset leaves it at that: seek, or choose another policy",
        who(.group)
    )]
    NoCommittedOffset {
        /// The group, empty for a consumer without one.
        group: String,
        /// The partition.
        topic_partition: TopicPartition,
    },

    /// The topic has reached the size its `max_bytes` allows and refuses more.
    #[error(
        "topic {topic:?} is full: {size} bytes of at most {limit}; \
         let retention or consumers make room, or raise the limit"
    )]
    TopicFull {
        /// The topic.
        topic: String,
        /// Its size with the refused bytes.
        size: u64,
        /// How large it may be.
        limit: u64,
    },

    /// The producer's memory is used up by records that are not written yet.
    #[error("the producer's buffer.memory of {limit} bytes is used up; wait, or use `send`")]
    BufferFull {
        /// How many bytes it may buffer.
        limit: u64,
    },

    /// Something did not happen in the time given.
    #[error("{operation} did not finish within {timeout:?}")]
    TimedOut {
        /// What was being waited for.
        operation: &'static str,
        /// How long.
        timeout: Duration,
    },

    /// A write or sync of this partition failed earlier; it takes no more records until the broker
    /// is opened again. What was safely stored can still be read.
    #[error("{topic_partition} has stopped taking records until it is reopened, because: {source}")]
    PartitionFailed {
        /// The partition.
        topic_partition: TopicPartition,
        /// The failure that stopped it.
        source: Arc<Error>,
    },

    /// A send could not be completed. All records of its batch share this fate.
    #[error("the send to {topic_partition} failed: {source}")]
    SendFailed {
        /// Where the batch was to go.
        topic_partition: TopicPartition,
        /// Why it did not get there.
        source: Arc<Error>,
    },

    /// The broker (or this handle) was closed.
    #[error("{what} is closed")]
    Closed {
        /// The thing that is closed.
        what: &'static str,
    },

    /// The broker was opened read-only.
    #[error("cannot {operation}: the broker was opened read-only")]
    ReadOnly {
        /// What would have written.
        operation: &'static str,
    },

    /// The consumer does not have this partition: it never had, or its group has given it to another.
    #[error("{topic_partition} is not assigned to this consumer, or not any more")]
    NotAssigned {
        /// The partition.
        topic_partition: TopicPartition,
    },

    /// The worker of a share group does not have these records, or not any more: their locks have timed out,
    /// or they were acknowledged before. Nothing has changed for them; those whose locks have timed out are
    /// delivered again, or have been. To have longer, renew, or raise the consumer's `lock_duration`.
    #[error(
        "share group {group:?}: not acquired by this worker, or not any more: {}",
        offsets_of(.records)
    )]
    NotAcquired {
        /// The group.
        group: String,
        /// The offsets, half-open.
        records: Vec<(TopicPartition, Range<u64>)>,
    },

    /// A call makes no sense in the state the object is in.
    #[error("{0}")]
    InvalidState(&'static str),

    /// The group has members, and only they may change what it has committed.
    #[error("group {group:?} has members; drop or close these consumers first")]
    GroupOccupied {
        /// The group.
        group: String,
    },

    /// The group has gone on without this member, which has not polled for its `max.poll.interval.ms`:
    /// its commits no longer count. Its next poll joins again, and begins where the group is.
    #[error(
        "group {group:?} is at generation {current}, and this member, which has not polled for too \
         long, at {generation}: it is out until it polls again"
    )]
    FencedGeneration {
        /// The group.
        group: String,
        /// The last generation that the member has heard of.
        generation: u32,
        /// The group's.
        current: u32,
    },

    /// Another consumer has joined under this one's instance id, or the member was removed: this
    /// consumer is out for good.
    #[error(
        "group {group:?} has another consumer as {instance_id:?} by now, or has removed it: this one is out"
    )]
    FencedInstanceId {
        /// The group.
        group: String,
        /// The instance id.
        instance_id: String,
    },

    /// The group has no such member.
    #[error("group {group:?} has no member with the instance id {instance_id:?}")]
    UnknownMember {
        /// The group.
        group: String,
        /// The instance id.
        instance_id: String,
    },

    /// The group has as many members as it may have: the broker's `group_max_size`.
    #[error("group {group:?} is full: it has {max_size} members, the broker's group.max.size")]
    GroupMaxSizeReached {
        /// The group.
        group: String,
        /// How many it may have.
        max_size: usize,
    },

    /// The group's members divide its partitions by another assignor.
    #[error("group {group:?} goes by the assignor {expected:?}, and this consumer by {assignor:?}")]
    InconsistentAssignor {
        /// The group.
        group: String,
        /// The name of the consumer's assignor.
        assignor: String,
        /// The name of the group's.
        expected: String,
    },

    /// A group id is missing, empty or too long.
    #[error("group id {group:?} is not allowed: {reason}")]
    InvalidGroup {
        /// The id.
        group: String,
        /// What is wrong with it.
        reason: &'static str,
    },
}

/// Where damage was found and what it touches. Boxed inside [`Error::Corrupt`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Corruption {
    /// The partition, where the file belongs to one.
    pub topic_partition: Option<TopicPartition>,
    /// The damaged file.
    pub path: PathBuf,
    /// The bytes in question; empty where it is not about a range of bytes.
    pub bytes: Range<u64>,
    /// The offsets that are lost or in doubt; empty where it is not about records.
    pub offsets: Range<u64>,
    /// What is wrong: expected and found.
    pub reason: String,
}

impl Corruption {
    /// Damage to a file that is not about particular bytes or records.
    pub(crate) fn of_file(path: &Path, reason: impl Into<String>) -> Self {
        Self {
            topic_partition: None,
            path: path.to_owned(),
            bytes: 0..0,
            offsets: 0..0,
            reason: reason.into(),
        }
    }
}

impl fmt::Display for Corruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is damaged", self.path.display())?;
        if !self.bytes.is_empty() {
            write!(f, " at bytes {}..{}", self.bytes.start, self.bytes.end)?;
        }
        if let Some(topic_partition) = &self.topic_partition {
            write!(f, " ({topic_partition}")?;
            if !self.offsets.is_empty() {
                write!(f, ", offsets {}..{}", self.offsets.start, self.offsets.end)?;
            }
            write!(f, ")")?;
        }
        write!(f, ": {}", self.reason)
    }
}

impl From<Corruption> for Error {
    fn from(corruption: Corruption) -> Self {
        Error::Corrupt(Box::new(corruption))
    }
}

impl Error {
    /// Whether the same call may succeed later without anybody reopening anything: space was
    /// freed, a buffer drained, a descriptor became free.
    pub fn is_retriable(&self) -> bool {
        match self {
            Error::StorageFull { .. }
            | Error::TopicFull { .. }
            | Error::BufferFull { .. }
            | Error::TimedOut { .. }
            | Error::Locked { .. }
            | Error::GroupOccupied { .. }
            | Error::GroupMaxSizeReached { .. } => true,
            Error::Io { source, .. } => is_passing(source),
            Error::SendFailed { source, .. } => source.is_retriable(),
            _ => false,
        }
    }

    /// Whether the transaction in which it happened must be aborted before going on.
    pub fn requires_abort(&self) -> bool {
        // No error of a transaction exists yet; the question is asked through this method so that
        // callers written today go on being right.
        false
    }

    /// Whether the handle it came from is done for: reopen the broker, subscribe again, or give
    /// up. Repeating the call on the same handle cannot help.
    pub fn is_fatal(&self) -> bool {
        match self {
            Error::PartitionFailed { .. }
            | Error::Closed { .. }
            | Error::Corrupt(_)
            | Error::UnsupportedFormat { .. }
            | Error::FencedInstanceId { .. } => true,
            Error::SendFailed { source, .. } => source.is_fatal(),
            _ => false,
        }
    }

    /// Wraps what the operating system said, keeping a full disk apart from everything else.
    pub(crate) fn io(operation: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge => Error::StorageFull { operation, path, source },
            _ => Error::Io { operation, path, source },
        }
    }
}

/// Whose offsets they would be; a consumer without a group has none to commit.
fn who(group: &str) -> String {
    if group.is_empty() {
        "a consumer without a group".to_owned()
    } else {
        format!("group {group:?}")
    }
}

/// Partitions with offsets, as `orders-3@17` and, for several, `orders-3@17..20`.
fn offsets_of(records: &[(TopicPartition, Range<u64>)]) -> String {
    let text = |(of, offsets): &(TopicPartition, Range<u64>)| match offsets.end - offsets.start {
        1 => format!("{of}@{}", offsets.start),
        _ => format!("{of}@{}..{}", offsets.start, offsets.end),
    };
    records.iter().map(text).collect::<Vec<_>>().join(", ")
}

/// Whether an operating-system error is of the kind that goes away by itself.
fn is_passing(source: &io::Error) -> bool {
    const EMFILE: i32 = 24;
    const ENFILE: i32 = 23;
    matches!(source.raw_os_error(), Some(EMFILE | ENFILE))
        || matches!(
            source.kind(),
            io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock | io::ErrorKind::OutOfMemory
        )
}

/// A send that did not wait: the refused record comes back together with the reason.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct TrySendError<'a> {
    /// The record, untouched.
    pub record: Record<'a>,
    /// Why it was not taken.
    #[source]
    pub error: Error,
}

impl From<TrySendError<'_>> for Error {
    fn from(refused: TrySendError<'_>) -> Self {
        refused.error
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn io_error(code: i32) -> Error {
        Error::io("write", Path::new("d/orders-0/x.log"), io::Error::from_raw_os_error(code))
    }

    #[test]
    fn a_full_disk_a_quota_and_a_size_limit_are_retriable_storage_errors() {
        for code in [28, 122, 27] {
            let error = io_error(code);
            assert!(matches!(error, Error::StorageFull { .. }), "{error}");
            assert!(error.is_retriable() && !error.is_fatal());
        }
    }

    #[test]
    fn running_out_of_descriptors_is_retriable_and_a_broken_disk_is_not() {
        assert!(io_error(24).is_retriable());
        assert!(!io_error(5).is_retriable());
    }

    #[test]
    fn at_most_one_of_the_three_questions_is_answered_with_yes() {
        let topic_partition = TopicPartition::new("orders", 0);
        let failed = Error::PartitionFailed {
            topic_partition: topic_partition.clone(),
            source: Arc::new(io_error(28)),
        };
        let sent = Error::SendFailed { topic_partition, source: Arc::new(failed) };
        for error in [io_error(28), sent, Error::Closed { what: "the broker" }] {
            let yes = [error.is_retriable(), error.requires_abort(), error.is_fatal()];
            assert_eq!(yes.iter().filter(|yes| **yes).count(), 1, "{error}");
        }
    }

    #[test]
    fn corruption_names_partition_file_bytes_offsets_and_reason() {
        let text = Corruption {
            topic_partition: Some(TopicPartition::new("orders", 3)),
            path: PathBuf::from("d/orders-3/00000000000000000000.log"),
            bytes: 4096..4200,
            offsets: 17..20,
            reason: "checksum is 1, expected 2".into(),
        }
        .to_string();
        assert_eq!(
            text,
            "d/orders-3/00000000000000000000.log is damaged at bytes 4096..4200 \
             (orders-3, offsets 17..20): checksum is 1, expected 2"
        );
    }
}
