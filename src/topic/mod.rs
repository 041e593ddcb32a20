//! Topics: their partitions, settings, and the room they may take.
//!
//! [`log_manager::LogManager`] opens, creates and deletes them under one directory, and keeps the
//! registry that says which there are. A [`Topic`] and a [`Partition`] are handles: cheap to clone,
//! usable from any thread, alive until the broker is closed or the topic deleted.

pub(crate) mod internal_log;
pub(crate) mod kafka_files;
pub(crate) mod log_manager;
pub(crate) mod new_directory;
pub(crate) mod partitioner;
pub(crate) mod registry;
pub(crate) mod room;
pub(crate) mod topic_id;

use std::any::Any;
use std::cell::RefCell;
use std::fmt;
use std::sync::{Arc, Weak};

use parking_lot::RwLock;

use self::room::Room;
use self::topic_id::TopicId;
use crate::error::{Error, Result};
use crate::log::config::{Durability, TopicConfig};
use crate::log::{Appended, Environment, PartitionLog};
use crate::record::builder::{BatchBuilder, SealedBatch};
use crate::record::{Compression, Record};
use crate::time::{Deadline, Timestamp};
use crate::topic_partition::TopicPartition;

/// A topic: a named log in one or more partitions.
///
/// A handle: cheap to clone, and usable from any thread. Get one from
/// [`Broker::create_topic`](crate::Broker::create_topic) or
/// [`Broker::topic`](crate::Broker::topic). It outlives neither the broker's `close` nor the topic's
/// deletion: after those, calls give [`Error::Closed`]. A handle keeps the broker alive.
#[derive(Clone)]
pub struct Topic {
    shared: Arc<TopicShared>,
    /// The broker, for handles that users have: without it nothing would flush what they append.
    /// The broker's own handles have none, or it would keep itself alive.
    broker: Option<Arc<dyn Any + Send + Sync>>,
}

struct TopicShared {
    name: Arc<str>,
    id: TopicId,
    environment: Environment,
    config: RwLock<Arc<TopicConfig>>,
    partitions: RwLock<Arc<Vec<Arc<PartitionLog>>>>,
    room: Room,
}

/// What became of a record: where it is, and the timestamp it has there.
///
/// ```
/// # use sapwood::{Broker, Record, TopicConfig};
/// # let broker = Broker::in_memory()?;
/// # let orders = broker.create_topic("orders", TopicConfig::default())?;
/// let stored = orders.partition(0)?.append(&[Record::new("paid")])?;
/// assert_eq!(stored.to_string(), "orders-0@0");
/// # Ok::<(), sapwood::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecordMetadata {
    /// The partition it went to.
    pub topic_partition: TopicPartition,
    /// Its offset there.
    pub offset: u64,
    /// The timestamp it was stored with.
    pub timestamp: Timestamp,
}

impl RecordMetadata {
    pub(crate) fn new(topic_partition: TopicPartition, offset: u64, timestamp: Timestamp) -> Self {
        Self { topic_partition, offset, timestamp }
    }
}

/// As Kafka shows it: `orders-3@17` is offset 17 in partition 3 of `orders`.
impl fmt::Display for RecordMetadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.topic_partition, self.offset)
    }
}

impl Topic {
    pub(crate) fn new(
        name: &str,
        id: TopicId,
        environment: Environment,
        config: Arc<TopicConfig>,
    ) -> Self {
        let shared = Arc::new(TopicShared {
            name: Arc::from(name),
            id,
            environment,
            config: RwLock::new(config),
            partitions: RwLock::default(),
            room: Room::default(),
        });
        Self { shared, broker: None }
    }

    /// The handle as a user gets it.
    pub(crate) fn kept_alive_by(mut self, broker: Arc<dyn Any + Send + Sync>) -> Self {
        self.broker = Some(broker);
        self
    }

    /// Tells topics apart: no other one has this number as long as a handle, or a [`WeakTopic`], to
    /// this one is there.
    pub(crate) fn address(&self) -> usize {
        Arc::as_ptr(&self.shared).addr()
    }

    pub(crate) fn downgrade(&self) -> WeakTopic {
        WeakTopic(Arc::downgrade(&self.shared))
    }

    /// The topic's name.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// The topic's id, as Kafka writes ids: 22 digits of base64url. A topic that is deleted and
    /// created again has another one.
    pub fn id(&self) -> String {
        self.shared.id.to_string()
    }

    pub(crate) fn topic_id(&self) -> TopicId {
        self.shared.id
    }

    /// Its settings as they are now. The number of partitions among them is the present one.
    pub fn config(&self) -> TopicConfig {
        TopicConfig::clone(&self.shared.config.read())
    }

    pub(crate) fn shared_config(&self) -> Arc<TopicConfig> {
        Arc::clone(&self.shared.config.read())
    }

    /// How many partitions it has. They are numbered from 0.
    pub fn partition_count(&self) -> u32 {
        u32::try_from(self.shared.partitions.read().len()).unwrap_or(u32::MAX)
    }

    /// One of its partitions.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownPartition`] if there is no such partition.
    pub fn partition(&self, partition: u32) -> Result<Partition> {
        let partitions = self.shared.partitions.read();
        let index = usize::try_from(partition).unwrap_or(usize::MAX);
        match partitions.get(index) {
            Some(log) => Ok(Partition { topic: self.clone(), log: Arc::clone(log) }),
            None => Err(Error::UnknownPartition {
                topic: self.name().to_owned(),
                partition,
                partitions: u32::try_from(partitions.len()).unwrap_or(u32::MAX),
            }),
        }
    }

    /// All of its partitions, in order.
    pub fn partitions(&self) -> Vec<Partition> {
        let wrap =
            |log: &Arc<PartitionLog>| Partition { topic: self.clone(), log: Arc::clone(log) };
        self.shared.partitions.read().iter().map(wrap).collect()
    }

    /// Bytes of record batches in all partitions, without indexes and without space made ready for
    /// later.
    pub fn size(&self) -> u64 {
        self.logs().iter().map(|log| log.size()).sum()
    }

    /// Whether the topic is Sapwood's own, like the one that holds committed offsets.
    pub fn is_internal(&self) -> bool {
        self.name().starts_with("__")
    }

    pub(crate) fn logs(&self) -> Arc<Vec<Arc<PartitionLog>>> {
        Arc::clone(&self.shared.partitions.read())
    }

    pub(crate) fn add_logs(&self, logs: impl IntoIterator<Item = Arc<PartitionLog>>) {
        let mut partitions = self.shared.partitions.write();
        let mut all = Vec::clone(&partitions);
        all.extend(logs);
        *partitions = Arc::new(all);
    }

    pub(crate) fn set_config(&self, config: Arc<TopicConfig>) {
        *self.shared.config.write() = config;
        self.shared.room.changed();
    }

    pub(crate) fn room(&self) -> &Room {
        &self.shared.room
    }

    pub(crate) fn environment(&self) -> &Environment {
        &self.shared.environment
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Topic")
            .field("name", &self.shared.name)
            .field("partitions", &self.partition_count())
            .finish_non_exhaustive()
    }
}

/// Remembers a topic without keeping anything of it.
pub(crate) struct WeakTopic(Weak<TopicShared>);

impl WeakTopic {
    /// Whether a handle is one to this topic.
    pub(crate) fn is(&self, topic: &Topic) -> bool {
        std::ptr::eq(self.0.as_ptr(), Arc::as_ptr(&topic.shared))
    }
}

/// One partition of a topic: the log itself.
///
/// A handle: cheap to clone, and usable from any thread. Most programs send through a
/// [`Producer`](crate::Producer) and read through a [`Consumer`](crate::Consumer); this is for
/// whoever wants to append a batch and know that it is stored when the call returns, or to look at
/// the log's offsets.
///
/// ```
/// use sapwood::{Broker, Record, TopicConfig};
///
/// let broker = Broker::in_memory()?;
/// let orders = broker.create_topic("orders", TopicConfig::default())?;
/// let log = orders.partition(0)?;
/// let first = log.append(&[Record::new("paid"), Record::new("shipped")])?;
/// assert_eq!(first.offset, 0);
/// assert_eq!(log.log_end_offset(), 2);
/// # Ok::<(), sapwood::Error>(())
/// ```
#[derive(Clone)]
pub struct Partition {
    topic: Topic,
    log: Arc<PartitionLog>,
}

/// How many bytes the records of one batch may take when decompressed. A batch as stored is at most
/// `max.message.bytes`, also in a topic whose limit was lowered since; nothing honest is compressed
/// further than this.
pub(crate) const DECOMPRESSED_MAX: usize = 256 << 20;

thread_local! {
    /// Where this thread encodes what it appends directly, so that an append allocates nothing.
    static SCRATCH: RefCell<BatchBuilder> = RefCell::new(BatchBuilder::new());
}

/// A larger buffer is not kept for the next append.
const SCRATCH_LEN_MAX: usize = 1 << 20;

impl Partition {
    /// Topic and number.
    pub fn topic_partition(&self) -> &TopicPartition {
        self.log.topic_partition()
    }

    /// The topic it belongs to.
    pub fn topic(&self) -> &Topic {
        &self.topic
    }

    /// Appends records as one batch: all of them or none, next to each other. Returns where the
    /// first one is; the others follow it.
    ///
    /// When it returns the batch satisfies the topic's [`Durability`]: under
    /// [`Fsync`](Durability::Fsync) it is on disk, and one sync serves all threads that wait for
    /// one; under [`Written`](Durability::Written) the operating system has it. Blocks for the
    /// write, for the sync (under `Written` only where the disk has not kept up with the flush
    /// interval), and on a full topic with [`WhenFull::Block`](crate::WhenFull::Block)
    /// for at most a minute.
    ///
    /// # Errors
    ///
    /// [`Error::RecordTooLarge`], [`Error::InvalidRecord`] (also for an empty slice and for a record
    /// that names another partition) and [`Error::TopicFull`] before anything is written;
    /// [`Error::StorageFull`] with nothing changed; [`Error::PartitionFailed`] if the disk failed:
    /// then it is unknown whether the records will be there after a restart.
    /// [`Error::InvalidState`] for an internal topic, [`Error::ReadOnly`], and [`Error::Closed`].
    pub fn append(&self, records: &[Record<'_>]) -> Result<RecordMetadata> {
        self.check_not_internal()?;
        let config = self.log.config();
        let now = self.topic.environment().clock.now();
        SCRATCH.with_borrow_mut(|builder| {
            builder.clear();
            // Only a capped topic ever waits: no other append has to read this clock.
            let room = config.max_bytes.map(|_| Deadline::after(room::BLOCK_MAX));
            let appended = self
                .encode(builder, records, now, &config)
                .and_then(|()| self.append_sealed(builder.sealed(), records.len(), now, room));
            if builder.size() > SCRATCH_LEN_MAX {
                *builder = BatchBuilder::new();
            }
            let appended = appended?;
            if config.durability == Durability::Fsync {
                self.log.flush_to(appended.next_offset)?;
            }
            let first = records.first().and_then(Record::timestamp_set).unwrap_or(now);
            let timestamp = appended.log_append_time.unwrap_or(first);
            Ok(RecordMetadata::new(self.topic_partition().clone(), appended.base_offset, timestamp))
        })
    }

    fn encode(
        &self,
        builder: &mut BatchBuilder,
        records: &[Record<'_>],
        now: Timestamp,
        config: &TopicConfig,
    ) -> Result<()> {
        if records.is_empty() {
            return Err(self.invalid("there is none: a batch holds at least one"));
        }
        for record in records {
            if record.partition_set().is_some_and(|n| n != self.topic_partition().partition()) {
                return Err(self.invalid("it names another partition"));
            }
            let timestamp = record.timestamp_set().unwrap_or(now);
            let appended = builder.append(record, timestamp);
            appended.map_err(|error| self.invalid(&error.to_string()))?;
        }
        let compression = config.compression.unwrap_or(Compression::None);
        builder.seal(compression).map_err(|error| self.invalid(&error.to_string()))
    }

    pub(crate) fn invalid(&self, reason: &str) -> Error {
        Error::InvalidRecord {
            topic_partition: self.topic_partition().clone(),
            reason: reason.to_owned(),
        }
    }

    /// Appends a sealed batch, once the topic has room for it if it is capped: waits for that until
    /// the deadline. Does not wait for any sync.
    pub(crate) fn append_sealed(
        &self,
        batch: SealedBatch<'_>,
        record_count: usize,
        now: Timestamp,
        room: Option<Deadline>,
    ) -> Result<Appended> {
        let size = batch.size() as u64;
        let appended = match room {
            None => self.log.append(batch, now),
            Some(until) => self.append_within_limit(size, until, || self.log.append(batch, now)),
        }?;
        self.topic.environment().metrics.appends.add(record_count as u64, size);
        Ok(appended)
    }

    /// The first offset that can be read. Retention and [`Self::delete_records`] move it.
    pub fn log_start_offset(&self) -> u64 {
        self.log.ends().log_start()
    }

    /// The offset below which records satisfy the topic's durability: consumers read up to it.
    pub fn high_watermark(&self) -> u64 {
        self.log.ends().high_watermark()
    }

    /// The offset that the next record will get.
    pub fn log_end_offset(&self) -> u64 {
        self.log.ends().log_end()
    }

    /// The offset below which no transaction is open: how far consumers with
    /// [`IsolationLevel::ReadCommitted`](crate::IsolationLevel::ReadCommitted) read. At most the high
    /// watermark, and the same as that where nobody has written in transactions.
    ///
    /// Only Kafka's producers have transactions so far. One that was left open when the log was taken over
    /// stays open; Kafka calls that a hanging transaction. The first call reads the headers of all batches
    /// there are, and later ones of those that have come since.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] if one of these batches is damaged, [`Error::Io`], [`Error::Closed`].
    pub fn last_stable_offset(&self) -> Result<u64> {
        Ok(self.log.stable_end()?.last_stable_offset)
    }

    /// The offset below which everything is known to be on disk.
    pub fn recovery_point(&self) -> u64 {
        self.log.recovery_point()
    }

    /// Bytes of record batches.
    pub fn size(&self) -> u64 {
        self.log.size()
    }

    /// The first record with this timestamp or a later one: its offset and its timestamp. `None`
    /// if there is none (yet).
    ///
    /// Looks at the sparse time index and then at a few batches. Where records are out of order in
    /// time, it is still the first one in the log that is late enough.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] if a batch on the way is damaged; I/O errors.
    pub fn offset_for_timestamp(&self, timestamp: Timestamp) -> Result<Option<(u64, Timestamp)>> {
        self.log.offset_for_timestamp(timestamp, DECOMPRESSED_MAX)
    }

    /// Gives up the records before an offset: it becomes the log start offset, and segments that
    /// lie before it are deleted. Durable when it returns. Returns the log start offset.
    ///
    /// # Errors
    ///
    /// [`Error::OffsetOutOfRange`] if the offset lies above the high watermark; an offset at or
    /// below the log start offset changes nothing. [`Error::InvalidState`] for an internal topic,
    /// [`Error::ReadOnly`], [`Error::Closed`], and I/O errors.
    pub fn delete_records(&self, before: u64) -> Result<u64> {
        self.check_not_internal()?;
        self.give_up_records(before)
    }

    /// Gives up the records before an offset, in internal topics too.
    pub(crate) fn give_up_records(&self, before: u64) -> Result<u64> {
        let log_start_offset = self.log.delete_records(before)?;
        self.topic.room().changed();
        Ok(log_start_offset)
    }

    /// Returns once everything appended before the call is on disk, whatever the topic's
    /// durability.
    ///
    /// # Errors
    ///
    /// [`Error::PartitionFailed`] if the sync fails, or one has failed earlier.
    pub fn flush(&self) -> Result<()> {
        self.log.flush()
    }

    /// Takes in what the process that writes to the directory has done since the last look, so that the
    /// offsets and the size here are those of this moment. For a broker that was opened read-only, whose
    /// consumers do the same when they poll; in any other there is nothing to do. Costs one small read
    /// if nothing has happened, and else the reading of what was appended.
    ///
    /// ```
    /// # use sapwood::{Broker, Record, TopicConfig};
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let broker = Broker::open(directory.path())?;
    /// # let orders = broker.create_topic("orders", TopicConfig::default())?;
    /// let follower = Broker::open_read_only(directory.path())?;
    /// let followed = follower.topic("orders")?.partition(0)?;
    /// orders.partition(0)?.append(&[Record::new("paid")])?;
    /// followed.refresh()?;
    /// assert_eq!(followed.high_watermark(), 1);
    /// # Ok::<(), sapwood::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] if what was appended is damaged; [`Error::Io`]; [`Error::Closed`], also once
    /// the topic is deleted. What was known before stays.
    pub fn refresh(&self) -> Result<()> {
        self.log.refresh()
    }

    pub(crate) fn log(&self) -> &Arc<PartitionLog> {
        &self.log
    }

    /// What internal topics hold is written by the crate alone; a foreign record among it would keep
    /// the broker from opening again.
    fn check_not_internal(&self) -> Result<()> {
        if self.topic.is_internal() {
            return Err(Error::InvalidState("internal topics are read, not written to"));
        }
        Ok(())
    }
}

impl fmt::Debug for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Partition")
            .field("topic_partition", self.topic_partition())
            .field("log_start_offset", &self.log_start_offset())
            .field("high_watermark", &self.high_watermark())
            .field("log_end_offset", &self.log_end_offset())
            .finish_non_exhaustive()
    }
}
