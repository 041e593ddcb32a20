//! What a send hands out: the answer to it, once there is one.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::concurrency::atomic::Ordering;
use crate::error::{Error, Result};
use crate::log::Appended;
use crate::producer::accumulator::{Outcome, Patience, ThenBatch, Ticket};
use crate::topic::RecordMetadata;

/// The answer to a send: where the record is, or why it is not there.
///
/// Ask for it when you need to know: [`wait`](Self::wait) writes the record's batch at once,
/// instead of letting it linger, and returns when the record satisfies its topic's
/// [`Durability`](crate::Durability). Or drop it, and call
/// [`Producer::flush`](crate::Producer::flush) later: the record is sent all the same, and a
/// failure that no delivery was asked about comes out there.
///
/// ```
/// # use std::time::Duration;
/// # use sapwood::{Broker, Record, TopicConfig};
/// # let broker = Broker::in_memory()?;
/// # let orders = broker.create_topic("orders", TopicConfig::default())?;
/// let producer = broker.producer().linger(Duration::from_secs(60)).build()?;
/// let paid = producer.send(&orders, Record::new("paid"))?;
/// let shipped = producer.send(&orders, Record::new("shipped"))?;
/// assert!(shipped.poll().is_none(), "both linger in the same batch");
///
/// assert_eq!(shipped.wait()?.offset, 1);
/// assert_eq!(paid.wait()?.offset, 0);
/// # Ok::<(), sapwood::Error>(())
/// ```
pub struct Delivery {
    ticket: Ticket,
}

impl Delivery {
    pub(super) fn new(ticket: Ticket) -> Self {
        Self { ticket }
    }

    /// Returns once the send is answered.
    ///
    /// If the record's batch is still open it is written now, on this thread. Under
    /// [`Durability::Fsync`](crate::Durability::Fsync) this thread then syncs the partition, or
    /// waits for another thread's sync that takes the record along.
    ///
    /// # Errors
    ///
    /// [`Error::SendFailed`] with what failed as its source; all records of the batch share it.
    /// Nothing is sent again by itself: if [`Error::is_retriable`] says that it may help (the disk
    /// or the topic is full) send the record again. [`Error::Closed`] if the topic was deleted or
    /// the broker closed before the record could be written.
    pub fn wait(self) -> Result<RecordMetadata> {
        let batch = &self.ticket.batch;
        if batch.outcome.get().is_none()
            && let Some(accumulator) = batch.accumulator.upgrade()
        {
            accumulator.write_batch(batch);
        }
        match self.written() {
            Some(written) => self.synced(written?),
            None => Err(Error::InvalidState("the producer went without writing the record")),
        }
    }

    /// Returns once the send is answered, or with `None` when it is not within `timeout`; then ask
    /// again.
    ///
    /// Like [`wait`](Self::wait) it writes the batch at once and syncs it if need be. The timeout
    /// bounds how long it waits for other threads, and for room in a full topic; calls to the
    /// operating system that it makes itself take as long as they take. Without any time it does
    /// only what needs no waiting for others.
    ///
    /// # Errors
    ///
    /// As for [`wait`](Self::wait).
    pub fn wait_timeout(&self, timeout: Duration) -> Result<Option<RecordMetadata>> {
        let batch = &self.ticket.batch;
        if batch.outcome.get().is_none()
            && let Some(accumulator) = batch.accumulator.upgrade()
        {
            let patience = Patience::of(timeout, ThenBatch::Stays);
            accumulator.write(batch, &patience);
        }
        self.written().map(|written| self.synced(written?)).transpose()
    }

    /// The answer, if there is one already. Neither waits nor writes anything: a record that
    /// lingers, or that is not synced yet under [`Durability::Fsync`](crate::Durability::Fsync), is
    /// not answered.
    ///
    /// An error is given each time it is asked for, in the same words as by [`wait`](Self::wait).
    pub fn poll(&self) -> Option<Result<RecordMetadata>> {
        let written = match self.written()? {
            Ok(written) => written,
            Err(error) => return Some(Err(error)),
        };
        let log = self.ticket.batch.partition.log();
        if log.ends().high_watermark() >= written.next_offset {
            return Some(Ok(self.metadata(written)));
        }
        match log.check_open() {
            Ok(()) => None,
            // It was synced when the broker was closed, or is being synced, or will never be: what
            // it says now stays true.
            Err(Error::Closed { .. }) => Some(self.synced(written)),
            Err(error) => Some(Err(self.ticket.batch.failure(&Arc::new(error)))),
        }
    }

    /// Where the log has put the batch, if anywhere yet.
    fn written(&self) -> Option<Result<Appended>> {
        match self.ticket.batch.outcome.get()? {
            Outcome::Written(appended) => Some(Ok(*appended)),
            Outcome::Failed(error) => {
                self.ticket.batch.heard.store(true, Ordering::Relaxed);
                Some(Err(self.ticket.batch.failure(error)))
            }
        }
    }

    /// Returns when a batch that was written satisfies its topic's durability.
    fn synced(&self, written: Appended) -> Result<RecordMetadata> {
        let log = self.ticket.batch.partition.log();
        if log.ends().high_watermark() < written.next_offset {
            let flushed = log.flush_to(written.next_offset);
            flushed.map_err(|error| self.ticket.batch.failure(&Arc::new(error)))?;
        }
        Ok(self.metadata(written))
    }

    fn metadata(&self, written: Appended) -> RecordMetadata {
        let Ticket { batch, relative_offset, timestamp } = &self.ticket;
        let topic_partition = batch.partition.topic_partition().clone();
        let offset = written.base_offset + u64::from(*relative_offset);
        let timestamp = written.log_append_time.unwrap_or(*timestamp);
        RecordMetadata::new(topic_partition, offset, timestamp)
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("topic_partition", self.ticket.batch.partition.topic_partition())
            .field("outcome", &self.ticket.batch.outcome.get())
            .finish_non_exhaustive()
    }
}
