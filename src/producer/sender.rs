//! The writing half of the accumulator: batches go into the logs, in order, on whichever thread
//! wants them written.
//!
//! One thread at a time writes a queue: it has the *turn*. It takes the first batch, seals and
//! appends it while others go on filling the next one, and answers it. Whoever cannot wait for a
//! turn leaves the batch it filled to the thread that has it.

use std::collections::btree_map::Entry;
use std::ops::Bound;
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::accumulator::{
    Accumulator, Batch, OpenBatch, Outcome, PartitionQueue, Patience, Pending, RETRY_INTERVAL,
    ThenBatch, Unflushed,
};
use crate::broker::maintenance::Chore;
use crate::concurrency::MutexGuard;
use crate::concurrency::atomic::Ordering;
use crate::error::{Error, Result};
use crate::log::Appended;
use crate::log::config::WhenFull;
use crate::time::Deadline;

/// How many batches a thread writes for others after its own, before it leaves the rest to the
/// background thread: no send takes for ever because others send too.
const FAVOURS_MAX: usize = 16;

/// Whoever waits for a delivery syncs by itself. Where nobody does, the background thread does after
/// so long: consumers see the records then, and one sync serves all that were written meanwhile.
const SYNC_DELAY: Duration = Duration::from_millis(10);

/// The right and duty to write the first batch of a queue. However it ends, also by a panic in a
/// user's clock, the batch is answered or back in the queue, and the next thread has its turn.
struct Turn<'a> {
    accumulator: &'a Accumulator,
    queue: &'a PartitionQueue,
    batch: Option<OpenBatch>,
    /// `None` until the batch is written, and for ever if that panics.
    end: Option<TurnEnd>,
}

enum TurnEnd {
    Answered(Outcome),
    /// The topic has no room for it now.
    PutBack,
}

impl Turn<'_> {
    /// Seals and appends the batch.
    fn take(&mut self, patience: &Patience) {
        if let Some(open) = &mut self.batch {
            self.end = Some(self.accumulator.seal_and_append(open, patience));
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let Some(open) = self.batch.take() else { return };
        let put_back = match self.end.take() {
            Some(TurnEnd::PutBack) => Some(open),
            Some(TurnEnd::Answered(outcome)) => {
                self.accumulator.answer(open, outcome);
                None
            }
            None => {
                let panicked = Error::InvalidState("the thread that was writing it panicked");
                self.accumulator.answer(open, Outcome::Failed(Arc::new(panicked)));
                None
            }
        };
        let mut pending = self.queue.pending.lock();
        if let Some(open) = put_back {
            pending.full.push_front(open);
        }
        pending.writing = false;
        if pending.waiting > 0 {
            self.queue.turn_ended.notify_all();
        }
    }
}

impl Accumulator {
    /// Writes a batch and those that come before it in its queue, waiting for the turn as long as
    /// patience lasts. `false` if it is not answered then.
    pub(super) fn write(&self, batch: &Batch, patience: &Patience) -> bool {
        let queue = &*batch.queue;
        let mut pending = queue.pending.lock();
        while batch.outcome.get().is_none() {
            if !pending.writing {
                let put_back;
                (pending, put_back) = self.write_first(queue, pending, patience);
                if put_back {
                    self.leave_to_maintenance(RETRY_INTERVAL);
                    return false;
                }
            } else if !queue.wait_for_turn(&mut pending, patience) {
                return false;
            }
        }
        self.write_for_others(queue, pending);
        true
    }

    /// Writes what others have left behind because this thread had the turn: full batches, and
    /// every batch where nothing lingers.
    fn write_for_others<'a>(
        &self,
        queue: &'a PartitionQueue,
        mut pending: MutexGuard<'a, Pending>,
    ) {
        for _ in 0..FAVOURS_MAX {
            let is_left = !pending.full.is_empty() || (!self.lingers() && pending.open.is_some());
            // Whoever waits for the turn, or has it, does the same when it ends.
            if !is_left || pending.writing || pending.waiting > 0 {
                return;
            }
            let put_back;
            (pending, put_back) = self.write_first(queue, pending, &Patience::never());
            if put_back {
                return self.leave_to_maintenance(RETRY_INTERVAL);
            }
        }
        self.leave_to_maintenance(Duration::ZERO);
    }

    /// What this thread does not write the background thread does.
    fn leave_to_maintenance(&self, delay: Duration) {
        let at = self.broker.clock().monotonic().saturating_add(delay);
        self.broker.maintenance().wake_by(at);
    }

    /// Writes the first batch of a queue. `true` if it had to be put back.
    fn write_first<'a>(
        &self,
        queue: &'a PartitionQueue,
        mut pending: MutexGuard<'a, Pending>,
        patience: &Patience,
    ) -> (MutexGuard<'a, Pending>, bool) {
        let batch = pending.take_first();
        debug_assert!(batch.is_some(), "a batch that is wanted is in its queue");
        pending.writing = batch.is_some();
        drop(pending);
        let mut turn = Turn { accumulator: self, queue, batch, end: None };
        turn.take(patience);
        let put_back = matches!(turn.end, Some(TurnEnd::PutBack));
        drop(turn);
        (queue.pending.lock(), put_back)
    }

    fn seal_and_append(&self, open: &mut OpenBatch, patience: &Patience) -> TurnEnd {
        let partition = &open.batch.partition;
        let config = partition.log().config();
        let compression = config.compression.unwrap_or(self.config.compression);
        if let Err(error) = open.builder.seal(compression) {
            return failed(partition.invalid(&error.to_string()));
        }
        let record_count = usize::try_from(open.builder.record_count()).unwrap_or(usize::MAX);
        let deadline = || patience.deadline().unwrap_or_else(|| Deadline::after(Duration::ZERO));
        let room = config.max_bytes.map(|_| deadline());
        let now = self.broker.clock().now();
        let sealed = open.builder.sealed();
        match partition.append_sealed(sealed, record_count, now, room) {
            Ok(appended) => TurnEnd::Answered(Outcome::Written(appended)),
            Err(Error::TopicFull { .. })
                if config.when_full == WhenFull::Block && self.may_wait_on(open, patience) =>
            {
                TurnEnd::PutBack
            }
            Err(error) => failed(error),
        }
    }

    /// Whether a batch for which there is no room may wait for it still. Who writes it only in
    /// passing, or with less patience than `max.block.ms`, does not decide that it fails.
    fn may_wait_on(&self, open: &OpenBatch, patience: &Patience) -> bool {
        let give_up = open.batch.due.saturating_add(self.config.max_block);
        patience.then() == ThenBatch::Stays && self.broker.clock().monotonic() < give_up
    }

    /// Ends a batch: tells its deliveries, and lets go of what it held.
    fn answer(&self, open: OpenBatch, outcome: Outcome) {
        let OpenBatch { builder, batch, reserved, .. } = open;
        match &outcome {
            Outcome::Written(appended) => self.note_unflushed(&batch, appended),
            Outcome::Failed(_) => self.note_unheard(&batch),
        }
        // Nobody else sets it: a batch is taken out of its queue once.
        let first = batch.outcome.set(outcome).is_ok();
        debug_assert!(first, "a batch is answered once");
        self.unwritten.lock().batches.remove(&batch.number);
        self.recycle(builder, reserved);
    }

    /// Remembers that a flush has to sync this log, and sees to it that somebody syncs it soon: under
    /// `Written` it is visible already.
    fn note_unflushed(&self, batch: &Batch, appended: &Appended) {
        let log = batch.partition.log();
        if log.ends().high_watermark() >= appended.next_offset {
            return;
        }
        let unflushed = Unflushed { log: Arc::downgrade(log), next_offset: appended.next_offset };
        self.unflushed.lock().insert(Arc::as_ptr(log).addr(), unflushed);
        self.leave_to_maintenance(SYNC_DELAY);
    }

    /// Remembers a failed batch for the next flush. One whose deliveries are all gone is certain to
    /// be told there, and a flush tells one: after it no more need be kept. The others are bounded
    /// by the deliveries that the user keeps.
    fn note_unheard(&self, batch: &Arc<Batch>) {
        let mut unheard = self.unheard.lock();
        unheard.retain(|batch| !batch.heard.load(Ordering::Relaxed));
        if unheard.iter().all(|batch| Arc::strong_count(batch) > 1) {
            unheard.push(Arc::clone(batch));
        }
    }

    /// Writes the oldest batch that nobody else is writing. `false` if there is none that could be
    /// written.
    pub(super) fn write_oldest(&self) -> bool {
        let mut last = None;
        while let Some(batch) = self.unwritten_after(last) {
            if self.write(&batch, &Patience::never()) {
                return true;
            }
            last = Some(batch.number);
        }
        false
    }

    fn unwritten_after(&self, number: Option<u64>) -> Option<Arc<Batch>> {
        let from = number.map_or(Bound::Unbounded, Bound::Excluded);
        let unwritten = self.unwritten.lock();
        unwritten.batches.range((from, Bound::Unbounded)).next().map(|(_, batch)| Arc::clone(batch))
    }

    /// Returns once a batch is answered. One for which its topic has no room is answered with a
    /// failure when `max.block.ms` is over.
    pub(super) fn write_batch(&self, batch: &Batch) {
        while batch.outcome.get().is_none() {
            self.write(batch, &Patience::of(self.config.max_block, ThenBatch::Fails));
        }
    }

    /// Returns once all batches that are open now are answered.
    pub(super) fn write_out(&self) {
        let batches: Vec<_> = self.unwritten.lock().batches.values().map(Arc::clone).collect();
        for batch in batches {
            self.write_batch(&batch);
        }
    }

    /// Returns once every send before it is answered, and tells the first failure that nobody has
    /// heard of.
    pub(super) fn flush(&self) -> Result<()> {
        self.write_out();
        let flushed = self.flush_logs();
        let unheard = std::mem::take(&mut *self.unheard.lock());
        let first = unheard.iter().find(|batch| !batch.heard.load(Ordering::Relaxed));
        match first.and_then(|batch| Some((batch, batch.outcome.get()?))) {
            Some((batch, Outcome::Failed(error))) => Err(batch.failure(error)),
            _ => flushed,
        }
    }

    /// Flushes the logs that this producer has written to. All of them, even if one fails.
    fn flush_logs(&self) -> Result<()> {
        // They stay listed until they are flushed, or a second flush at the same time would return
        // too early.
        let unflushed = self.unflushed.lock().clone();
        let mut result = Ok(());
        for (address, Unflushed { log, next_offset }) in unflushed {
            if let Some(log) = Weak::upgrade(&log) {
                result = result.and(log.flush_to(next_offset));
            }
            if let Entry::Occupied(listed) = self.unflushed.lock().entry(address)
                && listed.get().next_offset <= next_offset
            {
                listed.remove();
            }
        }
        result
    }

    /// Flushes, and refuses every batch from here on.
    pub(super) fn close(&self, what: &'static str) -> Result<()> {
        self.unwritten.lock().closed.get_or_insert(what);
        self.flush()
    }

    /// Forgets logs that somebody else has flushed, or that are gone.
    fn forget_flushed(&self) {
        self.unflushed.lock().retain(|_, unflushed| {
            let log = Weak::upgrade(&unflushed.log);
            log.is_some_and(|log| log.ends().high_watermark() < unflushed.next_offset)
        });
    }
}

fn failed(error: Error) -> TurnEnd {
    TurnEnd::Answered(Outcome::Failed(Arc::new(error)))
}

impl PartitionQueue {
    /// Waits until the thread that has the turn is done; `false` if patience ends before.
    fn wait_for_turn(&self, pending: &mut MutexGuard<'_, Pending>, patience: &Patience) -> bool {
        let Some(deadline) = patience.deadline() else { return false };
        pending.waiting += 1;
        match deadline.instant() {
            Some(instant) => {
                self.turn_ended.wait_until(pending, instant);
            }
            None => self.turn_ended.wait(pending),
        }
        pending.waiting -= 1;
        // The turn may have ended at the same moment: then it is this thread's.
        !pending.writing || !deadline.has_passed()
    }
}

impl Batch {
    /// A failure of the batch as the user gets it.
    pub(super) fn failure(&self, error: &Arc<Error>) -> Error {
        match **error {
            Error::Closed { what } => Error::Closed { what },
            _ => Error::SendFailed {
                topic_partition: self.partition.topic_partition().clone(),
                source: Arc::clone(error),
            },
        }
    }
}

impl Chore for Accumulator {
    /// Writes the batches that have lingered long enough. They are due in the order in which they
    /// were opened, since all of them linger equally long.
    fn run(&self, now: Duration) -> Option<Duration> {
        self.forget_flushed();
        let (mut last, mut retry) = (None, None);
        while let Some(batch) = self.unwritten_after(last) {
            if batch.due > now {
                return Some(retry.map_or(batch.due, |retry: Duration| retry.min(batch.due)));
            }
            if !self.write(&batch, &Patience::never()) {
                retry = Some(now.saturating_add(RETRY_INTERVAL));
            }
            last = Some(batch.number);
        }
        retry
    }

    fn close(&self) -> Result<()> {
        self.close("the broker")
    }
}

#[cfg(test)]
#[cfg(loom)]
mod loom_tests;
