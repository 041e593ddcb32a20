//! Apache Kafka's log and client semantics in your process: topics, partitions, producers, consumers
//! and consumer groups over a segmented log on disk, called directly. No server, no network, no
//! async runtime.
//!
//! # Hello
//!
//! A [`Broker`] is a directory. A topic is a named log; records are appended to it and read in
//! order, by as many readers as there are, for as long as they are kept.
//!
//! ```
//! use std::time::Duration;
//! use sapwood::{Broker, Record, TopicConfig};
//!
//! let broker = Broker::in_memory()?; // or Broker::open("data")
//! let greetings = broker.create_topic("greetings", TopicConfig::default())?;
//!
//! let producer = broker.producer().build()?;
//! producer.send(&greetings, Record::new("hello"))?.wait()?;
//!
//! let mut consumer = broker.consumer().subscribe(["greetings"])?;
//! let records = consumer.poll(Duration::from_secs(1))?;
//! assert_eq!(records.iter().next().unwrap().value(), Some(&b"hello"[..]));
//! # Ok::<(), sapwood::Error>(())
//! ```
//!
//! # Topics and keys
//!
//! A topic has one or more partitions, each a log of its own with its own offsets. Records are in
//! order within a partition. A record's key decides which one it goes to, by the same hash as in
//! Kafka, so that all records of a key stay in order; records without a key go where there is a
//! batch to be filled.
//!
//! ```
//! # use sapwood::{Broker, Record, TopicConfig};
//! # let broker = Broker::in_memory()?;
//! let orders = broker.create_topic("orders", TopicConfig::default().partitions(4))?;
//! let producer = broker.producer().build()?;
//! let paid = producer.send(&orders, Record::new("paid").key("alice"))?.wait()?;
//! let sent = producer.send(&orders, Record::new("shipped").key("alice"))?.wait()?;
//! assert_eq!(paid.topic_partition, sent.topic_partition);
//! assert_eq!(paid.offset + 1, sent.offset);
//! # Ok::<(), sapwood::Error>(())
//! ```
//!
//! # Deliveries
//!
//! [`Producer::send`] puts the record into a batch and returns a [`Delivery`]. Wait for it to learn
//! that the record is safe and where it is; or drop it, and call [`Producer::flush`] when it matters.
//! A send that fails says so at `send`, at `wait` or at `flush`, and never in silence.
//!
//! # Positions and commits
//!
//! A [`Consumer`] has a position in each of its partitions: the offset of the record it will be given
//! next. Without a group the position is all there is. With one, it commits how far it has come, and
//! whoever has the partition next goes on there. [`Consumer::commit`] is durable when it returns.
//!
//! ```
//! # use std::time::Duration;
//! # use sapwood::{Broker, Record, TopicConfig, TopicPartition};
//! # let broker = Broker::in_memory()?;
//! # let orders = broker.create_topic("orders", TopicConfig::default())?;
//! let log = orders.partition(0)?;
//! log.append(&[Record::new("a"), Record::new("b"), Record::new("c")])?;
//!
//! let mut consumer = broker.consumer().group("billing").max_poll_records(2).subscribe(["orders"])?;
//! assert_eq!(consumer.poll(Duration::ZERO)?.len(), 2);
//! consumer.commit()?;
//! consumer.close()?;
//!
//! let mut consumer = broker.consumer().group("billing").subscribe(["orders"])?;
//! let records = consumer.poll(Duration::ZERO)?;
//! assert_eq!(records.iter().next().unwrap().value(), Some(&b"c"[..]));
//! # Ok::<(), sapwood::Error>(())
//! ```
//!
//! Commit after the work is done, and a crash has some records come again: *at least once*. Commit
//! before, and a crash loses some: *at most once*.
//!
//! A consumer can also go where it likes: [`Consumer::seek`], [`Consumer::seek_to_beginning`],
//! [`Consumer::seek_to_end`], [`Consumer::seek_to_timestamp`].
//!
//! # Many workers
//!
//! Several consumers of one group, each on a thread of its own, divide the partitions: each partition is
//! read by one of them at a time, and so the records of a key are worked on in order. When a consumer is
//! made, dropped (also by a panic), or does not poll for
//! [`max_poll_interval`](ConsumerBuilder::max_poll_interval), partitions move, each from where the group
//! has committed; those that stay where they are are read on meanwhile.
//!
//! ```
//! # use std::time::Duration;
//! # use sapwood::{Broker, Record, Result, TopicConfig};
//! # let broker = Broker::in_memory()?;
//! # let orders = broker.create_topic("orders", TopicConfig::default().partitions(4))?;
//! # for partition in orders.partitions() { partition.append(&[Record::new("x")])?; }
//! let worker = || -> Result<usize> {
//!     let mut consumer = broker.consumer().group("billing").subscribe(["orders"])?;
//!     let mut done = 0;
//!     loop {
//!         let records = consumer.poll(Duration::from_millis(50))?;
//!         if records.is_empty() {
//!             return consumer.close().map(|()| done);
//!         }
//!         done += records.len();
//!     }
//! };
//! let done = std::thread::scope(|scope| {
//!     let workers = [scope.spawn(worker), scope.spawn(worker)];
//!     workers.map(|worker| worker.join().expect("no worker panics"))
//! });
//! let [one, other] = done;
//! assert_eq!(one? + other?, 4);
//! # Ok::<(), sapwood::Error>(())
//! ```
//!
//! A [`RebalanceListener`] is told what comes and goes, in time to commit. [`Broker::describe_group`] shows
//! who has what. A worker that is restarted finds its partitions waiting for it if it has an
//! [`instance_id`](ConsumerBuilder::instance_id). Members are of this process and end with it; what is
//! stored is what was committed.
//!
//! # A queue of jobs
//!
//! Where there is no order to keep, a *share group* hands out single records, so any number of workers can
//! share a partition, and none waits behind a record that takes long or fails. A worker says of each record
//! what is to become of it; what it says nothing of comes again, to anybody.
//!
//! ```
//! # use std::time::Duration;
//! # use sapwood::{Broker, Record, TopicConfig};
//! # let broker = Broker::in_memory()?;
//! # let jobs = broker.create_topic("jobs", TopicConfig::default())?;
//! # broker.create_topic("jobs.failed", TopicConfig::default())?;
//! # jobs.partition(0)?.append(&[Record::new("resize"), Record::new("nonsense"), Record::new("send")])?;
//! let workers = broker.share_consumer("workers").dead_letter_topic("jobs.failed");
//! let mut worker = workers.max_delivery_count(3).subscribe(["jobs"])?;
//! for job in &worker.poll(Duration::from_secs(1))? {
//!     match job.value() {
//!         Some(b"nonsense") => job.reject("no such job")?,
//!         Some(b"send") => job.release()?,
//!         _ => job.accept()?,
//!     }
//! }
//! # let left = broker.describe_share_group("workers")?.expect("it has been there");
//! # assert_eq!(left.partitions[0].lag, 1);
//! # Ok::<(), sapwood::Error>(())
//! ```
//!
//! See [`ShareConsumer`], and [`NOT_BEFORE_HEADER`] for jobs that are to be done later.
//!
//! # Durability
//!
//! Each topic says what an acknowledgement means, with [`TopicConfig::durability`]. Under
//! [`Durability::Fsync`], the default, a send is answered, and the record seen by consumers, once it
//! is on disk; all sends that wait share the next sync. Under [`Durability::Written`] it is answered
//! once the operating system has it: that survives the process, and a power loss takes at most the
//! last flush interval. What exactly is promised, and what is assumed of the disk, is written down in
//! [`durability`].
//!
//! # Retention
//!
//! Records are kept for a time ([`TopicConfig::retention_ms`], a week by default) and up to a size
//! ([`TopicConfig::retention_bytes`]), whichever ends first; and not before certain groups have
//! consumed them, if the topic names such groups ([`TopicConfig::retention_groups`]). With groups and
//! neither time nor size, records go as soon as they are consumed. Whole segments are deleted, oldest
//! first. [`TopicConfig::max_bytes`] is a hard limit, with a choice of what happens when it is
//! reached: [`WhenFull`].
//!
//! # Looking after a directory
//!
//! [`Broker::verify`] reads everything and says what is damaged; [`Broker::verify_with`] does so on all
//! cores, watched. [`Broker::backup`] makes a copy while the directory is in use, mostly of hard links.
//! [`salvage`] makes a new directory of what is intact of a damaged one, and says of each byte what
//! became of it. [`DirectoryDump`] shows what lies in a directory file by file, whether it can be
//! opened or not.
//!
//! # Many partitions
//!
//! There may be thousands of partitions. One that is not appended to costs next to nothing: files are
//! held open only for those that are, and for no more of them at a time than
//! [`BrokerBuilder::max_open_files`] allows. What grows with what is written down in [`costs`].
//!
//! # Errors
//!
//! There is one [`Error`], and three questions to ask it: [`Error::is_retriable`],
//! [`Error::requires_abort`], [`Error::is_fatal`]. A failed write or sync stops its partition, and only
//! that, until the broker is opened again.
//!
//! # What will bite you
//!
//! - Retention goes by the records' own timestamps: importing old data into a topic with the default
//!   retention deletes it at the next look.
//! - A handle to a topic, a producer, a consumer: each keeps its broker open, and the directory
//!   locked, after the [`Broker`] itself is dropped. [`Broker::close`] ends them all.
//! - More partitions later ([`Broker::add_partitions`]) move keys to other partitions.
//! - A consumer that does not commit starts again where the group last committed.
//! - In a share group work is done twice now and then: after a crash, and when a lock has timed out while a
//!   slow worker was still at it. There is no order.
//! - A member of a group that stops polling, because it is slow or waits for something else, holds up what
//!   its group asks of it, and after five minutes loses its partitions.
//! - [`ReadMode::Mapped`], the default, borrows records from mapped files. If the disk fails under
//!   them, or another program truncates them, the process is ended by `SIGBUS`.
//! - After [`std::process::exit`] or a panic in `main` nothing is lost that was acknowledged, but
//!   sends that are still being batched are. Flush, or [`Broker::close`].
//!
//! # Crate features
//!
//! | feature | for |
//! |---|---|
//! | `cli` | the program `sapwood`, with which people look into a directory; nothing for the library |
//! | `gzip` | reading batches that Kafka clients compressed with gzip |
//! | `snappy` | reading batches that Kafka clients compressed with snappy |
//! | `metrics` | the broker's counters, the lags of its groups and what its share groups do for the crate `metrics`, see [`MetricsSnapshot`] |
//! | `tracing` | events and spans for the crate `tracing`: opening, recovery, rolls, failures |
//! | `sim` | `SimulatedDisk`: running a program over a disk that fails and loses power, in tests |
//!
//! # Where the format comes from
//!
//! Partition directories are Apache Kafka's: record batches of magic 2, segments, sparse indexes,
//! `partition.metadata` and `leader-epoch-checkpoint`, as Kafka's classes `DefaultRecordBatch`,
//! `LogSegment`, `OffsetIndex` and `TimeIndex` write and read them. Committed offsets are records of
//! Kafka's schema in the topic `__consumer_offsets`. The files that Kafka does not have are ours, have
//! names that it ignores, and carry a version and a checksum.
//!
//! What a Kafka broker has written is read too, once [`salvage`] has made a directory of it. There may be
//! transactions in it: [`IsolationLevel`] says which of their records a consumer returns.

#![warn(missing_docs, unreachable_pub)]
#![warn(clippy::pedantic, clippy::unwrap_used, clippy::disallowed_methods)]
// Kafka's words for different things resemble one another, and the field's names repeat a module's.
#![allow(clippy::similar_names, clippy::module_name_repetitions)]
// Most of what can be asked of a handle can be asked for nothing.
#![allow(clippy::must_use_candidate)]

mod broker;
mod concurrency;
mod consumer;
mod dump;
mod error;
mod events;
mod fs;
#[cfg(fuzzing)]
pub mod fuzzing;
mod group;
mod log;
mod metrics;
#[cfg(feature = "mutants")]
pub mod mutants;
#[cfg(not(feature = "mutants"))]
mod mutants;
mod producer;
mod record;
mod segment;
mod share_group;
mod time;
mod topic;
mod topic_partition;

pub use broker::Broker;
pub use broker::backup::{BackupReport, PartitionBackup};
pub use broker::config::BrokerBuilder;
pub use broker::groups::{OffsetSpec, PlannedReset};
pub use broker::salvage::{Fate, FileAccount, FilePart, PartitionSalvage, SalvageReport, salvage};
pub use broker::verify::{PartitionVerification, VerifyProgress, VerifyReport};
pub use consumer::config::{AutoOffsetReset, ConsumerBuilder, IsolationLevel};
pub use consumer::listener::RebalanceListener;
pub use consumer::records::{ConsumerRecord, ConsumerRecords, ConsumerRecordsIter, OwnedRecord};
pub use consumer::share::ShareConsumer;
pub use consumer::share::config::{AcknowledgementMode, ShareConsumerBuilder};
pub use consumer::share::records::{ShareRecord, ShareRecords, ShareRecordsIter};
pub use consumer::{Consumer, WakeupHandle};
pub use dump::batch::{BatchDump, RecordDump, RecordsDump};
pub use dump::index::{OffsetIndexEntry, TimeIndexEntry};
pub use dump::segment::{SegmentDump, SegmentPart, SegmentParts};
pub use dump::{CheckpointDump, DirectoryDump, PartitionDump, TopicDump};
pub use error::{Corruption, Error, Result, TrySendError};
#[cfg(any(test, feature = "sim"))]
pub use fs::sim::{DiskCall, DiskCallKind, PowerLoss, SimulatedDisk, Verdict};
pub use group::assignor::range::RangeAssignor;
pub use group::assignor::round_robin::RoundRobinAssignor;
pub use group::assignor::sticky::CooperativeStickyAssignor;
pub use group::assignor::{Assignor, GroupSubscription, MemberSubscription};
pub use group::{GroupDescription, GroupOffset, GroupState, MemberDescription, OffsetAndMetadata};
pub use log::config::{Durability, TopicConfig, WhenFull};
pub use log::recovery::{CutTail, PartitionRecovery, RecoveryMode};
pub use metrics::{GroupLag, LatencySnapshot, MetricsSnapshot, ShareGroupMetrics, ShareTotals};
pub use producer::{Delivery, Producer, ProducerBuilder};
pub use record::compression::Codec;
pub use record::control::{ControlRecord, TransactionResult};
pub use record::{Compression, Header, Headers, Record, TimestampType};
pub use segment::records_file::ReadMode;
pub use share_group::{
    DeliveryCounts, NOT_BEFORE_HEADER, ShareGroupDescription, SharePartitionDescription,
};
pub use time::{Clock, ManualClock, SystemClock, Timestamp};
pub use topic::log_manager::RecoveryReport;
pub use topic::partitioner::{DefaultPartitioner, Partitioner, Placement};
pub use topic::registry::TopicState;
pub use topic::{Partition, RecordMetadata, Topic};
pub use topic_partition::TopicPartition;

/// What is promised, and what is assumed of the disk.
pub mod durability {
    #![doc = include_str!("log/durability.md")]
}

/// What a broker needs of the machine, and what that grows with.
pub mod costs {
    #![doc = include_str!("broker/costs.md")]
}

/// The tour in the README is a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
