//! Where records wait to be written: an open batch per partition, in bounded memory.
//!
//! A record is encoded into its partition's open batch as it is sent. A batch that has no room for
//! the next record joins the full ones of its queue; from there, and from lingering, `sender.rs`
//! writes them, in the order in which they were opened.
//!
//! # Locks
//!
//! A queue's `pending` comes before `unwritten`; all others are leaves. None is held while a batch
//! is sealed or appended, nor while code of the user runs.

use std::cell::OnceCell;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::ops::RangeInclusive;
use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::broker::Broker;
use crate::concurrency::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::concurrency::{Condvar, Mutex, OnceLock};
use crate::error::{Error, Result};
use crate::log::append::check_size;
use crate::log::config::TopicConfig;
use crate::log::{Appended, PartitionLog};
use crate::producer::config::ProducerConfig;
use crate::producer::memory::{BufferMemory, Reservation};
use crate::record::builder::BatchBuilder;
use crate::record::{Record, TimestampType};
use crate::time::{Deadline, Timestamp};
use crate::topic::Partition;

/// How often a thread that waits for memory looks for batches that it could write itself: room in
/// a full topic is nothing that memory tells of.
pub(super) const RETRY_INTERVAL: Duration = Duration::from_millis(10);

/// All batches of a producer that are not written yet, and what they need. Any thread may call
/// anything.
pub(super) struct Accumulator {
    pub(super) broker: Broker,
    pub(super) config: ProducerConfig,
    pub(super) memory: BufferMemory,
    next_number: AtomicU64,
    pub(super) unwritten: Mutex<Unwritten>,
    /// Builders of written batches, for the next ones. There are never more than were in use at
    /// one time, which `memory` bounds.
    builders: Mutex<Vec<BatchBuilder>>,
    /// Failed batches that nobody has heard of yet.
    pub(super) unheard: Mutex<Vec<Arc<Batch>>>,
    /// Up to where this producer has written to logs that were not synced that far, by address.
    pub(super) unflushed: Mutex<BTreeMap<usize, Unflushed>>,
}

/// The batches that have been opened and are not answered yet.
#[derive(Default)]
pub(super) struct Unwritten {
    /// Oldest first.
    pub(super) batches: BTreeMap<u64, Arc<Batch>>,
    /// Why no batch may be opened any more: what has been closed.
    pub(super) closed: Option<&'static str>,
}

/// A log that has to be flushed up to an offset. Does not keep a deleted topic alive.
#[derive(Clone)]
pub(super) struct Unflushed {
    pub(super) log: Weak<PartitionLog>,
    pub(super) next_offset: u64,
}

/// What the deliveries of a batch share.
pub(super) struct Batch {
    /// Weak, because deliveries may be kept for long: they need the producer only while it still
    /// has something to write, and then it is there.
    pub(super) accumulator: Weak<Accumulator>,
    pub(super) queue: Arc<PartitionQueue>,
    pub(super) partition: Partition,
    /// Batches of a producer are numbered in the order in which they are opened.
    pub(super) number: u64,
    /// When it has lingered long enough, on the monotonic clock.
    pub(super) due: Duration,
    /// Set once, before the queue's turn ends.
    pub(super) outcome: OnceLock<Outcome>,
    /// Somebody was told that it failed.
    pub(super) heard: AtomicBool,
}

/// What became of a batch.
#[derive(Debug)]
pub(super) enum Outcome {
    Written(Appended),
    Failed(Arc<Error>),
}

/// A record's place in a batch.
pub(super) struct Ticket {
    pub(super) batch: Arc<Batch>,
    /// The record's offset relative to the first one of the batch.
    pub(super) relative_offset: u32,
    pub(super) timestamp: Timestamp,
}

/// The batches of one partition, in the order in which they are to be written.
#[derive(Default)]
pub(super) struct PartitionQueue {
    pub(super) pending: Mutex<Pending>,
    /// A batch was written, or put back.
    pub(super) turn_ended: Condvar,
}

#[derive(Default)]
pub(super) struct Pending {
    /// Older than the open one, oldest first.
    pub(super) full: VecDeque<OpenBatch>,
    /// Takes further records. Never empty.
    pub(super) open: Option<OpenBatch>,
    /// Somebody is writing the batch that came before all of these. One at a time, so that batches
    /// keep their order.
    pub(super) writing: bool,
    /// How many threads wait for their turn to write.
    pub(super) waiting: usize,
}

/// A batch that still has its records in memory.
pub(super) struct OpenBatch {
    pub(super) builder: BatchBuilder,
    pub(super) batch: Arc<Batch>,
    /// Bytes of `buffer.memory`, released when it is answered.
    pub(super) reserved: usize,
    limits: Limits,
}

/// What a batch takes, decided when it is opened.
pub(super) struct Limits {
    /// How many bytes, uncompressed.
    size_max: usize,
    /// The timestamp of records that bring none.
    timestamp: Timestamp,
    /// Which timestamps records may bring. One outside would have the log refuse the whole batch,
    /// and punish others for it. They are those of the time at which the batch was opened: a record
    /// outside may still be fine for a new one.
    timestamps: RangeInclusive<Timestamp>,
}

/// How long a call may wait that cannot do its work at once, and what then becomes of a batch for
/// which its topic has no room.
pub(super) struct Patience {
    timeout: Option<Duration>,
    then: ThenBatch,
    /// Set when the wait begins: most calls never wait, and need not read a clock.
    deadline: OnceCell<Deadline>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ThenBatch {
    Stays,
    Fails,
}

impl Patience {
    /// Waits for nobody. A batch for which there is no room stays where it is.
    pub(super) fn never() -> Self {
        Self { timeout: None, then: ThenBatch::Stays, deadline: OnceCell::new() }
    }

    pub(super) fn of(timeout: Duration, then: ThenBatch) -> Self {
        Self { timeout: Some(timeout), then, deadline: OnceCell::new() }
    }

    pub(super) fn then(&self) -> ThenBatch {
        self.then
    }

    /// When waiting ends; `None` if there is no waiting at all.
    pub(super) fn deadline(&self) -> Option<Deadline> {
        self.timeout.map(|timeout| *self.deadline.get_or_init(|| Deadline::after(timeout)))
    }
}

impl OpenBatch {
    fn has_room_for(&self, record: &Record<'_>) -> bool {
        let Some(timestamp) = self.limits.timestamp_of(record) else { return false };
        let size = self.builder.size_of_next(record, timestamp);
        self.builder.size().saturating_add(size) <= self.limits.size_max
    }

    /// Appends a record; `None` if there is no room for it.
    #[inline]
    fn append(&mut self, record: &Record<'_>) -> Result<Option<Ticket>> {
        let Some(timestamp) = self.limits.timestamp_of(record) else { return Ok(None) };
        let appended = self.builder.append_within(self.limits.size_max, record, timestamp);
        match appended {
            Ok(Some(relative_offset)) => {
                Ok(Some(Ticket { batch: Arc::clone(&self.batch), relative_offset, timestamp }))
            }
            Ok(None) => Ok(None),
            Err(error) => Err(self.batch.partition.invalid(&error.to_string())),
        }
    }

    fn is_full(&self) -> bool {
        self.builder.size() >= self.limits.size_max
    }
}

impl Limits {
    /// The timestamp of a record, if the batch takes it.
    #[inline]
    fn timestamp_of(&self, record: &Record<'_>) -> Option<Timestamp> {
        match record.timestamp_set() {
            None => Some(self.timestamp),
            Some(timestamp) => self.allow(timestamp).then_some(timestamp),
        }
    }

    fn allow(&self, timestamp: Timestamp) -> bool {
        timestamp == Timestamp::NONE || self.timestamps.contains(&timestamp)
    }

    fn refusal(&self, timestamp: Timestamp, partition: &Partition) -> Error {
        let (setting, limit) = if timestamp < *self.timestamps.start() {
            ("message.timestamp.before.max.ms", self.timestamps.start())
        } else {
            ("message.timestamp.after.max.ms", self.timestamps.end())
        };
        let reason =
            format!("its timestamp {timestamp} lies beyond {limit}, which {setting} allows");
        partition.invalid(&reason)
    }
}

/// The timestamps that a topic lets in now.
fn timestamps_allowed(config: &TopicConfig, now: Timestamp) -> RangeInclusive<Timestamp> {
    let (first, last) = (Timestamp::from_millis(i64::MIN), Timestamp::from_millis(i64::MAX));
    if config.message_timestamp_type == TimestampType::LogAppendTime {
        return first..=last;
    }
    let earliest = config.message_timestamp_before_max.map_or(first, |age| now.saturating_sub(age));
    earliest..=now.saturating_add(config.message_timestamp_after_max)
}

impl Pending {
    /// Puts a record into the open batch, if that has room.
    #[inline]
    fn join(&mut self, record: &Record<'_>) -> Result<Option<Ticket>> {
        match &mut self.open {
            Some(open) => open.append(record),
            None => Ok(None),
        }
    }

    /// The last of the full batches.
    fn last_full(&self) -> Option<Arc<Batch>> {
        self.full.back().map(|open| Arc::clone(&open.batch))
    }

    fn close_open(&mut self) {
        self.full.extend(self.open.take());
    }

    /// Takes the batch whose turn it is.
    pub(super) fn take_first(&mut self) -> Option<OpenBatch> {
        self.full.pop_front().or_else(|| self.open.take())
    }
}

/// A batch about to be opened: all that can be made ready without a lock.
struct NewBatch<'a> {
    partition: Partition,
    due: Duration,
    limits: Limits,
    builder: BatchBuilder,
    reservation: Reservation<'a>,
}

impl PartitionQueue {
    /// Puts a record into the open batch; `None` if there is none with room for it. This is the way
    /// of nearly every record: one lock, no clock, nothing allocated.
    ///
    /// Where nothing lingers, the caller goes on to [`Accumulator::write_if_idle`].
    #[inline]
    pub(super) fn join(&self, record: &Record<'_>) -> Result<Option<Ticket>> {
        self.pending.lock().join(record)
    }
}

impl Accumulator {
    pub(super) fn new(broker: Broker, config: ProducerConfig) -> Self {
        Self {
            broker,
            memory: BufferMemory::new(config.buffer_memory),
            config,
            next_number: AtomicU64::new(0),
            unwritten: Mutex::default(),
            builders: Mutex::default(),
            unheard: Mutex::default(),
            unflushed: Mutex::default(),
        }
    }

    /// Whether batches wait for further records; otherwise they are written as soon as nobody else is
    /// writing to their partition.
    #[inline]
    pub(super) fn lingers(&self) -> bool {
        !self.config.linger.is_zero()
    }

    /// Writes a batch, unless somebody is writing to its partition: then that thread does it next.
    pub(super) fn write_if_idle(&self, batch: &Batch, patience: &Patience) {
        let writing = batch.queue.pending.lock().writing;
        if !writing {
            self.write(batch, patience);
        }
    }

    /// Closes the open batch if it has no room for a record, and writes the full ones.
    pub(super) fn make_way(
        &self,
        queue: &PartitionQueue,
        record: &Record<'_>,
        patience: &Patience,
    ) {
        let mut pending = queue.pending.lock();
        if pending.open.as_ref().is_some_and(|open| !open.has_room_for(record)) {
            pending.close_open();
        }
        let full = pending.last_full();
        drop(pending);
        if let Some(full) = full {
            self.write(&full, patience);
        }
    }

    /// Puts a record into a new batch, or into one that somebody else has opened meanwhile.
    pub(super) fn append(
        self: &Arc<Self>,
        queue: &Arc<PartitionQueue>,
        partition: Partition,
        record: &Record<'_>,
        patience: &Patience,
    ) -> Result<Ticket> {
        partition.log().check_open()?;
        let limits = self.limits_of_new_batch(&partition, record)?;
        self.make_way(queue, record, patience);
        let reservation = self.reserve(limits.size_max, patience)?;
        let builder = self.take_builder(limits.size_max);
        let due = self.broker.clock().monotonic().saturating_add(self.config.linger);
        let new = NewBatch { partition, due, limits, builder, reservation };
        let mut pending = queue.pending.lock();
        let ticket = match pending.join(record)? {
            Some(ticket) => ticket,
            None => self.open(queue, &mut pending, new, record)?,
        };
        if pending.open.as_ref().is_some_and(OpenBatch::is_full) {
            pending.close_open();
        }
        let (full, writing) = (pending.last_full(), pending.writing);
        drop(pending);
        if self.lingers() {
            if let Some(full) = full {
                self.write(&full, patience);
            }
            self.broker.maintenance().wake_by(due);
        } else if !writing {
            self.write(&ticket.batch, patience);
        }
        Ok(ticket)
    }

    /// Opens a batch with its first record.
    fn open(
        self: &Arc<Self>,
        queue: &Arc<PartitionQueue>,
        pending: &mut Pending,
        new: NewBatch<'_>,
        record: &Record<'_>,
    ) -> Result<Ticket> {
        let batch = Arc::new(Batch {
            accumulator: Arc::downgrade(self),
            queue: Arc::clone(queue),
            partition: new.partition,
            number: self.next_number.fetch_add(1, Ordering::Relaxed),
            due: new.due,
            outcome: OnceLock::new(),
            heard: AtomicBool::new(false),
        });
        let mut open = OpenBatch { builder: new.builder, batch, reserved: 0, limits: new.limits };
        let no_room = || Error::InvalidState("a new batch has no room for its first record");
        let ticket = open.append(record)?.ok_or_else(no_room)?;
        self.register(&open.batch)?;
        open.reserved = new.reservation.into_bytes();
        pending.close_open();
        pending.open = Some(open);
        Ok(ticket)
    }

    /// From here on the batch will be written, whoever closes what. Taken under the queue's lock:
    /// who finds it here and goes to write it waits until it is in the queue.
    fn register(&self, batch: &Arc<Batch>) -> Result<()> {
        let mut unwritten = self.unwritten.lock();
        if let Some(what) = unwritten.closed {
            return Err(Error::Closed { what });
        }
        unwritten.batches.insert(batch.number, Arc::clone(batch));
        Ok(())
    }

    /// Refuses a record that cannot be stored, and decides what a batch that begins with it takes.
    pub(super) fn limits_of_new_batch(
        &self,
        partition: &Partition,
        record: &Record<'_>,
    ) -> Result<Limits> {
        let topic = partition.topic();
        let config = topic.shared_config();
        let now = self.broker.clock().now();
        let empty = BatchBuilder::new();
        let timestamp = record.timestamp_set().unwrap_or(now);
        let size = empty.size().saturating_add(empty.size_of_next(record, timestamp));
        check_size(size as u64, topic.name(), &config)?;
        if size > self.memory.limit() {
            return Err(Error::RecordTooLarge {
                topic: topic.name().to_owned(),
                size: size as u64,
                limit: self.memory.limit() as u64,
                setting: "buffer.memory",
            });
        }
        // Records must not become too large for their topic by being joined.
        let stored_max = config.max_message_bytes.min(config.segment_bytes);
        let stored_max = usize::try_from(stored_max).unwrap_or(usize::MAX);
        let limits = Limits {
            size_max: size.max(self.config.batch_size.min(stored_max)),
            timestamp: now,
            timestamps: timestamps_allowed(&config, now),
        };
        if !limits.allow(timestamp) {
            return Err(limits.refusal(timestamp, partition));
        }
        Ok(limits)
    }

    /// Reserves memory for a batch. Without any left it writes batches out itself, oldest first,
    /// and then waits for those whom others write.
    fn reserve(&self, bytes: usize, patience: &Patience) -> Result<Reservation<'_>> {
        loop {
            if let Some(reservation) = self.memory.try_reserve(bytes) {
                return Ok(reservation);
            }
            let Some(deadline) = patience.deadline() else {
                return Err(Error::BufferFull { limit: self.memory.limit() as u64 });
            };
            if self.write_oldest() {
                continue;
            }
            let wait = deadline.capped(RETRY_INTERVAL);
            if !self.memory.wait_for(bytes, wait) && deadline.has_passed() {
                return Err(Error::BufferFull { limit: self.memory.limit() as u64 });
            }
        }
    }

    fn take_builder(&self, size: usize) -> BatchBuilder {
        let pooled = if size <= self.config.batch_size { self.builders.lock().pop() } else { None };
        pooled.unwrap_or_else(|| BatchBuilder::with_capacity(size))
    }

    /// Takes back what a batch needed while it was in memory. Builders of larger records are not
    /// kept.
    pub(super) fn recycle(&self, mut builder: BatchBuilder, reserved: usize) {
        if reserved <= self.config.batch_size {
            builder.clear();
            self.builders.lock().push(builder);
        }
        self.memory.release(reserved);
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("partition", self.partition.topic_partition())
            .field("outcome", &self.outcome)
            .finish_non_exhaustive()
    }
}
