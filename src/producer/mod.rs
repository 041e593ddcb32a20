//! The producer: how records get into topics.
//!
//! A [`Producer`] chooses the partition of a record ([`topic_table`] finds its queue) and encodes it
//! into the partition's open batch ([`accumulator`]). Whoever fills a batch, waits for it or flushes
//! writes it, on the thread it is on ([`sender`]); the broker's background thread writes those that
//! have lingered long enough. A [`Delivery`] is the answer.

mod accumulator;
mod config;
mod delivery;
mod memory;
mod sender;
#[cfg(test)]
mod tests;
mod topic_table;

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use self::accumulator::{Accumulator, PartitionQueue, Patience, ThenBatch, Ticket};
use self::config::ProducerConfig;
pub use self::delivery::Delivery;
use self::topic_table::{TopicQueues, TopicTable};
use crate::broker::Broker;
use crate::broker::maintenance::Chore;
use crate::error::{Error, Result, TrySendError};
use crate::record::{Compression, Record};
use crate::topic::log_manager::OpenMode;
use crate::topic::partitioner::{DefaultPartitioner, Partitioner, Placement};
use crate::topic::{Partition, Topic};

/// Sends records to topics, in batches.
///
/// A handle: cheap to clone, and usable from any number of threads at the same time; clones share
/// their batches and settings. Make one with [`Broker::producer`]; one is enough for a whole
/// program.
///
/// # What becomes of a record
///
/// [`send`](Self::send) encodes the record into its partition's open batch and returns a
/// [`Delivery`]. The batch is written when it is full, when it has lingered long enough, or when
/// somebody waits for one of its deliveries or calls [`flush`](Self::flush): by that thread, and
/// there is no thread in between. A send counts as done when the record satisfies its topic's
/// [`Durability`](crate::Durability).
///
/// - Records that one thread sends to one partition keep their order, and batches are written in the
///   order in which they were opened.
/// - A batch is stored whole or not at all. When it cannot be stored, every delivery of it says so,
///   and nothing is tried again in silence. Batches after it are written all the same.
/// - A failure that no delivery was asked about comes out of the next [`flush`](Self::flush). None
///   is lost in silence.
///
/// # The end
///
/// Dropping the last clone writes what is buffered, without syncing it and without telling anybody
/// how that went: call [`flush`](Self::flush) or [`close`](Self::close) before. So does
/// [`Broker::close`].
///
/// ```
/// use sapwood::{Broker, Record, TopicConfig};
///
/// let broker = Broker::in_memory()?;
/// let orders = broker.create_topic("orders", TopicConfig::default().partitions(4))?;
/// let producer = broker.producer().build()?;
///
/// // Know that it is stored:
/// let at = producer.send(&orders, Record::new("paid").key("alice"))?.wait()?;
/// assert_eq!((at.topic_partition.topic(), at.offset), ("orders", 0));
///
/// // Or send many, and know it of all of them:
/// for _ in 0..1000 {
///     producer.send(&orders, Record::new("viewed").key("bob"))?;
/// }
/// producer.flush()?;
/// # Ok::<(), sapwood::Error>(())
/// ```
#[derive(Clone)]
pub struct Producer(Arc<Client>);

/// What the clones of a producer share.
struct Client {
    accumulator: Arc<Accumulator>,
    topics: TopicTable,
    partitioner: Box<dyn Partitioner>,
}

/// Settings of a [`Producer`], and the way to build it. See [`Broker::producer`].
///
/// Every setting has Kafka's name, meaning and default. They can also be given as text, by
/// [`property`](Self::property).
#[must_use]
pub struct ProducerBuilder {
    broker: Broker,
    config: ProducerConfig,
    partitioner: Box<dyn Partitioner>,
}

impl Broker {
    /// Starts setting up a producer.
    ///
    /// ```
    /// use std::time::Duration;
    /// use sapwood::{Broker, Compression};
    ///
    /// # let broker = Broker::in_memory()?;
    /// let producer = broker
    ///     .producer()
    ///     .linger(Duration::from_millis(20))
    ///     .batch_size(64 << 10)
    ///     .compression(Compression::Lz4)
    ///     .build()?;
    /// # Ok::<(), sapwood::Error>(())
    /// ```
    pub fn producer(&self) -> ProducerBuilder {
        ProducerBuilder {
            broker: self.clone(),
            config: ProducerConfig::default(),
            partitioner: Box::new(DefaultPartitioner),
        }
    }
}

impl ProducerBuilder {
    /// How long a batch waits for further records before it is written.
    ///
    /// It costs nobody any time who waits for a delivery or flushes: that writes the batch at once.
    /// With zero a batch is written as soon as nobody else is writing to its partition, so that
    /// records share a batch only where threads compete. Default 5 ms. Kafka: `linger.ms`.
    pub fn linger(mut self, linger: Duration) -> Self {
        self.config.linger = linger;
        self
    }

    /// How large a batch may grow before it is written, in bytes before compression, header
    /// included.
    ///
    /// A record that is larger gets a batch of its own. Topics with smaller `max.message.bytes` get
    /// smaller batches. Default 16,384; 1 to 2,147,483,647. Kafka: `batch.size`.
    pub fn batch_size(mut self, bytes: usize) -> Self {
        self.config.batch_size = bytes;
        self
    }

    /// How many bytes all batches that are not written yet may take together.
    ///
    /// An open batch takes [`batch_size`](Self::batch_size) bytes, whatever is in it. Compression
    /// needs as much again, which is not counted. Default 32 MiB; no less than `batch_size`. Kafka:
    /// `buffer.memory`.
    pub fn buffer_memory(mut self, bytes: usize) -> Self {
        self.config.buffer_memory = bytes;
        self
    }

    /// How long [`Producer::send`] waits when the memory is used up, and how long a batch waits for
    /// room in a topic that is full and set to [`WhenFull::Block`](crate::WhenFull::Block).
    ///
    /// Default 60 s. Kafka: `max.block.ms`.
    pub fn max_block(mut self, timeout: Duration) -> Self {
        self.config.max_block = timeout;
        self
    }

    /// How batches are compressed for topics that leave it to the producer, as they do by default.
    ///
    /// Default [`Compression::None`]. Kafka: `compression.type`.
    pub fn compression(mut self, compression: Compression) -> Self {
        self.config.set_compression(compression);
        self
    }

    /// Chooses the partitions of records that do not say theirs. Default [`DefaultPartitioner`],
    /// which does it as Kafka's clients do.
    pub fn partitioner(mut self, partitioner: impl Partitioner + 'static) -> Self {
        self.partitioner = Box::new(partitioner);
        self
    }

    /// Sets a property by Kafka's name, the value given as text: `linger.ms`, `batch.size`,
    /// `buffer.memory`, `max.block.ms`, `compression.type` (`none`, `lz4` or `zstd`) or
    /// `compression.zstd.level`.
    ///
    /// ```
    /// # use sapwood::Broker;
    /// # let broker = Broker::in_memory()?;
    /// let producer = broker.producer().property("linger.ms", "20")?.build()?;
    /// assert!(broker.producer().property("linger", "20").is_err());
    /// # Ok::<(), sapwood::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::InvalidConfig`] when there is no such property or the value cannot be read. Ranges
    /// are checked by [`build`](Self::build).
    pub fn property(mut self, name: &str, value: &str) -> Result<Self> {
        self.config.set(name, value)?;
        Ok(self)
    }

    /// Builds the producer.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidConfig`] with the first setting that is not allowed; [`Error::ReadOnly`] on
    /// a broker that was opened read-only; [`Error::Closed`].
    pub fn build(self) -> Result<Producer> {
        self.broker.check_open()?;
        if self.broker.manager().mode() == OpenMode::ReadOnly {
            return Err(Error::ReadOnly { operation: "build a producer" });
        }
        self.config.validate()?;
        let accumulator = Arc::new(Accumulator::new(self.broker, self.config));
        let chore: Weak<dyn Chore> = Arc::<Accumulator>::downgrade(&accumulator);
        accumulator.broker.maintenance().register(chore);
        // Closed between the check and the registration it would never be told.
        accumulator.broker.check_open()?;
        let topics = TopicTable::new();
        Ok(Producer(Arc::new(Client { accumulator, topics, partitioner: self.partitioner })))
    }
}

impl Producer {
    /// Sends a record. Returns when it is in its batch, or the batch it filled is written.
    ///
    /// Blocks when [`buffer_memory`](ProducerBuilder::buffer_memory) is used up: then this thread
    /// writes open batches itself, the oldest first, and waits for other threads that write, at
    /// most [`max_block`](ProducerBuilder::max_block). It also waits its turn when it has filled a
    /// batch while another thread is writing to the same partition. Under
    /// [`Written`](crate::Durability::Written), whoever writes a batch waits for a sync if the disk
    /// has not kept up with the flush interval.
    ///
    /// The record goes to the partition it names, or to the one that the
    /// [`Partitioner`] chooses. Without a timestamp it gets the time at which its batch was opened.
    ///
    /// # Errors
    ///
    /// The record was not taken: [`Error::RecordTooLarge`] (measured before compression and with the
    /// header of a batch), [`Error::InvalidRecord`] for a timestamp that the topic does not let
    /// in, [`Error::UnknownPartition`], [`Error::TimedOut`] when no memory came free,
    /// [`Error::PartitionFailed`], [`Error::Closed`], and [`Error::InvalidState`] for an internal
    /// topic. What happens to it later is said by the [`Delivery`].
    // A record is handed over, here as in `try_send`, which can give it back.
    #[allow(clippy::needless_pass_by_value)]
    pub fn send(&self, topic: &Topic, record: Record<'_>) -> Result<Delivery> {
        let max_block = self.0.accumulator.config.max_block;
        let patience = Patience::of(max_block, ThenBatch::Fails);
        self.0.enqueue(topic, &record, &patience).map_err(|error| timed_out(error, max_block))
    }

    /// Sends a record if that needs no waiting, and gives it back otherwise.
    ///
    /// It may write the batch that the record fills, and what [`send`](Self::send) says of a disk that
    /// does not keep up holds for it too; but it waits neither for memory nor for other threads, nor
    /// for room in a topic.
    ///
    /// ```
    /// use std::time::Duration;
    /// use sapwood::{Broker, Error, Record, TopicConfig};
    ///
    /// # let broker = Broker::in_memory()?;
    /// let orders = broker.create_topic("orders", TopicConfig::default().partitions(2))?;
    /// // Two partitions, and memory for one batch, which lingers.
    /// let producer = broker
    ///     .producer()
    ///     .batch_size(1000)
    ///     .buffer_memory(1000)
    ///     .linger(Duration::from_secs(60))
    ///     .build()?;
    /// producer.try_send(&orders, Record::new("paid").partition(0))?;
    ///
    /// let refused = producer.try_send(&orders, Record::new("shipped").partition(1)).unwrap_err();
    /// assert!(matches!(refused.error, Error::BufferFull { .. }));
    /// producer.send(&orders, refused.record)?;
    /// # Ok::<(), sapwood::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::BufferFull`] when the memory is used up; otherwise as for [`send`](Self::send).
    /// The record comes back with the error.
    // The record itself is what makes the error large; a box would cost an allocation.
    #[allow(clippy::result_large_err)]
    pub fn try_send<'r>(
        &self,
        topic: &Topic,
        record: Record<'r>,
    ) -> Result<Delivery, TrySendError<'r>> {
        let sent = self.0.enqueue(topic, &record, &Patience::never());
        sent.map_err(|error| TrySendError { record, error })
    }

    /// Sends a record like [`send`](Self::send), but waits for memory, for other threads and for
    /// room in a topic no longer than `timeout`. Calls to the operating system that this thread makes
    /// itself take as long as they take.
    ///
    /// # Errors
    ///
    /// [`Error::TimedOut`] when no memory came free in time; otherwise as for [`send`](Self::send).
    /// The record comes back with the error.
    #[allow(clippy::result_large_err)] // as in `try_send`
    pub fn send_timeout<'r>(
        &self,
        topic: &Topic,
        record: Record<'r>,
        timeout: Duration,
    ) -> Result<Delivery, TrySendError<'r>> {
        let patience = Patience::of(timeout, ThenBatch::Stays);
        let sent = self.0.enqueue(topic, &record, &patience);
        sent.map_err(|error| TrySendError { record, error: timed_out(error, timeout) })
    }

    /// Returns once every send before it, by any thread, is answered: written, and synced where the
    /// topic's durability asks for it.
    ///
    /// # Errors
    ///
    /// [`Error::SendFailed`] with the first failure that no delivery was asked about; it is told
    /// once. [`Error::PartitionFailed`] if a sync fails. Everything that can be written is written
    /// all the same.
    pub fn flush(&self) -> Result<()> {
        self.0.accumulator.flush()
    }

    /// Flushes, and ends the producer: all clones of it give [`Error::Closed`] from then on.
    ///
    /// # Errors
    ///
    /// As for [`flush`](Self::flush). The producer is closed all the same.
    pub fn close(self) -> Result<()> {
        self.0.accumulator.close("the producer")
    }

    /// How many bytes of [`buffer_memory`](ProducerBuilder::buffer_memory) are free now.
    pub fn buffer_available(&self) -> usize {
        self.0.accumulator.memory.available()
    }
}

/// Waiting for memory is what `send` does; that it took too long is what its caller wants to know.
fn timed_out(error: Error, timeout: Duration) -> Error {
    match error {
        Error::BufferFull { .. } => Error::TimedOut { operation: "waiting for memory", timeout },
        other => other,
    }
}

impl Client {
    #[inline]
    fn enqueue(&self, topic: &Topic, record: &Record<'_>, patience: &Patience) -> Result<Delivery> {
        let queues = self.topics.queues_of(topic);
        let placement = match record.partition_set() {
            Some(number) => Placement::Partition(number),
            None => self.partitioner.place(record.key_bytes(), record.value(), queues.partitions()),
        };
        let number = match placement {
            Placement::Partition(number) => number,
            Placement::Sticky => queues.sticky(),
        };
        if let Some(queue) = queues.queue(number)
            && let Some(ticket) = queue.join(record)?
        {
            if !self.accumulator.lingers() {
                self.accumulator.write_if_idle(&ticket.batch, patience);
            }
            return Ok(Delivery::new(ticket));
        }
        let place = Place { topic, queues, number, is_sticky: placement == Placement::Sticky };
        self.enqueue_in_new_batch(&place, record, patience).map(Delivery::new)
    }

    /// The way of a record that finds no open batch with room for it. It is here that partitions
    /// which were added to the topic come into view, and that records without a key move on.
    #[cold]
    fn enqueue_in_new_batch(
        &self,
        place: &Place<'_>,
        record: &Record<'_>,
        patience: &Patience,
    ) -> Result<Ticket> {
        let Place { topic, queues, mut number, is_sticky } = *place;
        if topic.is_internal() {
            return Err(Error::InvalidState("internal topics are read, not written to"));
        }
        queues.refresh(topic);
        let mut partition = topic.partition(number)?;
        if is_sticky {
            // Refused before anything is written on its account.
            self.accumulator.limits_of_new_batch(&partition, record)?;
            if let Some(queue) = queues.queue(number) {
                self.accumulator.make_way(queue, record, patience);
            }
            (number, partition) = Self::next_sticky(place)?;
        }
        let unknown = || Error::InvalidState("the topic has lost a partition");
        let queue: &Arc<PartitionQueue> = queues.queue(number).ok_or_else(unknown)?;
        self.accumulator.append(queue, partition, record, patience)
    }

    /// The next partition for records without a key, past those that have failed if there are
    /// others.
    fn next_sticky(place: &Place<'_>) -> Result<(u32, Partition)> {
        let Place { topic, queues, mut number, .. } = *place;
        let mut tries = queues.partitions();
        loop {
            number = queues.move_sticky(number);
            let partition = topic.partition(number)?;
            tries = tries.saturating_sub(1);
            if tries == 0 || partition.log().check_open().is_ok() {
                return Ok((number, partition));
            }
        }
    }
}

/// Where a record is to go.
#[derive(Clone, Copy)]
struct Place<'a> {
    topic: &'a Topic,
    queues: &'a TopicQueues,
    number: u32,
    is_sticky: bool,
}

impl Drop for Client {
    /// Nothing that was sent is forgotten; nobody is left to hear how it went but the deliveries.
    fn drop(&mut self) {
        self.accumulator.write_out();
    }
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer")
            .field("config", &self.0.accumulator.config)
            .field("partitioner", &self.0.partitioner)
            .field("buffer_available", &self.buffer_available())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for ProducerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProducerBuilder")
            .field("config", &self.config)
            .field("partitioner", &self.partitioner)
            .finish_non_exhaustive()
    }
}
