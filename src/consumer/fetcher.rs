//! Goes round the partitions of a consumer and reads what comes at its positions.
//!
//! Relies on the log for the checksums of batches, and on [`Buffered`] for their records.

use std::sync::Arc;

use crate::consumer::buffered::{Budget, BufferPool, Buffered, Source};
use crate::consumer::config::{ConsumerConfig, IsolationLevel};
use crate::consumer::records::ConsumerRecords;
use crate::consumer::subscription::{Assigned, StartPolicy, Subscription};
use crate::error::{Error, Result};
use crate::topic::log_manager::OpenMode;

/// Fetches for one consumer.
#[derive(Debug)]
pub(crate) struct Fetcher {
    start: StartPolicy,
    max_poll_records: usize,
    fetch_max_bytes: usize,
    max_partition_fetch_bytes: usize,
    /// The broker was opened read-only: logs have to be asked whether they have grown.
    follows: bool,
    buffers: BufferPool,
}

impl Fetcher {
    pub(crate) fn new(start: StartPolicy, config: &ConsumerConfig) -> Self {
        Self {
            follows: start.broker.manager().mode() == OpenMode::ReadOnly,
            start,
            max_poll_records: config.max_poll_records,
            fetch_max_bytes: config.fetch_max_bytes,
            max_partition_fetch_bytes: config.max_partition_fetch_bytes,
            buffers: BufferPool::default(),
        }
    }

    pub(crate) fn start(&self) -> &StartPolicy {
        &self.start
    }

    pub(crate) fn follows(&self) -> bool {
        self.follows
    }

    /// Takes what is there, without waiting, beginning with the partition after the one that was
    /// served last.
    ///
    /// An error of one partition is told when there is nothing else to return; then the next fetch
    /// begins with the partition after it, so that none keeps the others from being read.
    pub(crate) fn fetch(&mut self, subscription: &mut Subscription) -> Result<ConsumerRecords> {
        let mut records = ConsumerRecords::default();
        let mut budget = Budget { records: self.max_poll_records, bytes: self.fetch_max_bytes };
        let count = subscription.assigned.len();
        let read_len = self.read_len(count);
        let mut at = subscription.next;
        for _ in 0..count {
            at = if at < count { at } else { 0 };
            let Some(assigned) = subscription.assigned.get_mut(at) else { break };
            if !assigned.paused {
                let before = records.len();
                let fetched = self.fetch_partition(assigned, read_len, &mut budget, &mut records);
                match fetched {
                    Ok(()) if records.len() > before => subscription.next = at + 1,
                    Ok(()) => {}
                    Err(error) if records.is_empty() => {
                        subscription.next = at + 1;
                        return Err(self.explain(error, subscription, at));
                    }
                    Err(_) => {
                        // Its position is as it was: the next fetch begins here and tells.
                        subscription.next = at;
                        break;
                    }
                }
            }
            if budget.is_exhausted() {
                break;
            }
            at += 1;
        }
        let metrics = self.start.broker.metrics_registry();
        metrics.records_consumed.add(records.len() as u64);
        Ok(records)
    }

    /// How much is read of a partition at a time, at most. What all of them together hold back is
    /// bounded by the bytes that one poll may return, as long as a batch is not larger than that.
    fn read_len(&self, partitions: usize) -> usize {
        let share = self.fetch_max_bytes / partitions.max(1);
        self.max_partition_fetch_bytes.min(share).max(1)
    }

    /// A log that is closed while the broker is open belongs to a topic that was deleted.
    fn explain(&self, error: Error, subscription: &mut Subscription, at: usize) -> Error {
        match error {
            Error::Closed { .. } if self.start.broker.check_open().is_ok() => {
                subscription.remove_deleted(at)
            }
            error => error,
        }
    }

    fn fetch_partition(
        &mut self,
        assigned: &mut Assigned,
        read_len: usize,
        budget: &mut Budget,
        records: &mut ConsumerRecords,
    ) -> Result<()> {
        let mut position = match assigned.position {
            Some(position) => position,
            None => self.start.begin(assigned)?,
        };
        if position < assigned.partition.log_start_offset() {
            // Retention has passed by; what was read ahead counts no more than what was not.
            assigned.seek(position);
        }
        let outside = budget.bytes.saturating_sub(self.max_partition_fetch_bytes);
        while !budget.is_exhausted() && budget.bytes > outside {
            let buffered = match &mut assigned.buffered {
                Some(buffered) => buffered,
                None => match self.read(assigned, read_len)? {
                    Some(buffered) => {
                        position = assigned.position.unwrap_or(position);
                        assigned.buffered.insert(buffered)
                    }
                    None => break,
                },
            };
            let mut source = Source { partition: &assigned.partition, buffers: &mut self.buffers };
            let taken = buffered.take(&mut position, budget, &mut source);
            assigned.position = Some(position);
            if let Some(run) = taken? {
                records.push(run);
            }
            if buffered.is_used_up() {
                assigned.cursor = assigned.buffered.take().map(Buffered::into_cursor);
            }
        }
        Ok(())
    }

    /// Reads what comes at the position, which the reset policy moves if it is gone.
    fn read(&self, assigned: &mut Assigned, read_len_max: usize) -> Result<Option<Buffered>> {
        let read_len = assigned.read_ahead.next(read_len_max);
        let log = Arc::clone(assigned.partition.log());
        let mut position = assigned.position.unwrap_or_default();
        if self.follows && position >= log.ends().high_watermark() {
            log.refresh()?;
        }
        assigned.stable = match self.start.isolation_level {
            IsolationLevel::ReadUncommitted => None,
            IsolationLevel::ReadCommitted => Some(log.stable_end()?),
        };
        let end = assigned.stable.map_or(log.ends().high_watermark(), |of| of.last_stable_offset);
        let mut fetched = log.read_below(end, position, assigned.cursor.as_ref(), read_len);
        // Once more if retention has passed by again since the reset.
        while let Err(Error::OffsetOutOfRange { .. }) = &fetched
            && let Some(reset) = self.start.reset(&assigned.partition)?
            && reset != position
        {
            assigned.seek(reset);
            position = reset;
            fetched = log.read_below(end, position, None, read_len);
        }
        if matches!(fetched, Err(Error::Corrupt(_))) {
            // Perhaps the damage lies behind batches that are sound: those are handed out first.
            fetched = log.read_below(end, position, assigned.cursor.as_ref(), 1);
        }
        let Some(fetched) = fetched? else { return Ok(None) };
        let aborted = match assigned.stable {
            None => Vec::new(),
            Some(_) => log.aborted_transactions(position..fetched.next_offset),
        };
        Ok(Some(Buffered::new(fetched, aborted)))
    }
}
