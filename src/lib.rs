//! Apache Kafka's log and client semantics in your process: topics, partitions, producers, consumers
//! and consumer groups over a segmented log on disk, called directly. No server, no network, no
//! async runtime.

#![warn(missing_docs, unreachable_pub)]
#![warn(clippy::pedantic, clippy::unwrap_used, clippy::disallowed_methods)]
// Kafka's words for different things resemble one another, and the field's names repeat a module's.
#![allow(clippy::similar_names, clippy::module_name_repetitions)]
// Most of what can be asked of a handle can be asked for nothing.
#![allow(clippy::must_use_candidate)]

mod broker;
mod consumer;
mod error;
mod fs;
mod group;
mod log;
mod metrics;
mod producer;
mod record;
mod segment;
mod time;
mod topic;
mod topic_partition;

pub use broker::Broker;
pub use broker::config::BrokerBuilder;
pub use broker::verify::{PartitionVerification, VerifyReport};
pub use consumer::config::{AutoOffsetReset, ConsumerBuilder};
pub use consumer::records::{ConsumerRecord, ConsumerRecords, ConsumerRecordsIter, OwnedRecord};
pub use consumer::{Consumer, WakeupHandle};
pub use error::{Corruption, Error, Result, TrySendError};
pub use group::{GroupDescription, GroupOffset, OffsetAndMetadata};
pub use log::config::{Durability, TopicConfig, WhenFull};
pub use log::recovery::{CutTail, PartitionRecovery, RecoveryMode};
pub use metrics::{GroupLag, LatencySnapshot, MetricsSnapshot};
pub use producer::{Delivery, Producer, ProducerBuilder};
pub use record::{Compression, Header, Headers, Record, TimestampType};
pub use segment::records_file::ReadMode;
pub use time::{Clock, ManualClock, SystemClock, Timestamp};
pub use topic::log_manager::RecoveryReport;
pub use topic::partitioner::{DefaultPartitioner, Partitioner, Placement};
pub use topic::{Partition, RecordMetadata, Topic};
pub use topic_partition::TopicPartition;

/// What is promised, and what is assumed of the disk.
pub mod durability {
    #![doc = include_str!("log/durability.md")]
}
