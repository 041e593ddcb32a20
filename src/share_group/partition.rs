//! One partition as one share group sees it: who has which records, and the log of what has become of them.
//!
//! Whatever has to outlive the process is decided, appended to the state topic, and only then applied; the
//! lock is held over the append, so that the order of decisions is that of the log. Three things are
//! stored: that records are handed out, before they are; that they are accepted; that they are archived.
//! That a worker lets records go is not: after a restart nobody has anything, and what was handed out and
//! not acknowledged is available with the count that it had.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

use crate::error::{Error, Result};
use crate::log::end_offsets::Wakeup;
use crate::metrics::ShareTotals;
use crate::record::Record;
use crate::record::builder::BatchBuilder;
use crate::share_group::backoff::Backoff;
use crate::share_group::state::{AcquisitionId, DeliveryEvent, DeliveryState};
use crate::share_group::state_log::StateLog;
use crate::share_group::state_records::{
    ShareKey, ShareRecordKind, encode_snapshot, encode_update,
};
use crate::share_group::window::{Limits, StateRange, Window};
use crate::time::{Clock, Timestamp};
use crate::topic::Partition;
use crate::topic_partition::TopicPartition;

/// A buffer larger than this is not kept for the next record.
const SCRATCH_LEN_MAX: usize = 64 << 10;

/// One partition of one group. Any thread may call anything.
///
/// Lock order: the state, then the locks of the state topic's log.
#[derive(Debug)]
pub(crate) struct SharePartition {
    key: ShareKey,
    partition: Partition,
    log: Arc<StateLog>,
    snapshot_key: Vec<u8>,
    update_key: Vec<u8>,
    state: Mutex<PartitionState>,
}

#[derive(Debug)]
struct PartitionState {
    window: Window,
    /// The next poll that acquires something.
    next_acquisition: u64,
    /// Where its last snapshot is; `None` if the next record has to be one.
    snapshot_at: Option<u64>,
    /// The group was deleted, or its topic.
    is_forgotten: bool,
    /// A poll has left records because too many are in flight.
    has_left_some: bool,
    waiters: Vec<Arc<Wakeup>>,
    totals: ShareTotals,
    scratch: Scratch,
}

/// Memory for records, kept from one to the next.
struct Scratch {
    builder: BatchBuilder,
    value: Vec<u8>,
    changes: Vec<(Range<u64>, DeliveryState)>,
}

impl std::fmt::Debug for Scratch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scratch").field("changes", &self.changes).finish_non_exhaustive()
    }
}

/// How a poll acquires.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Acquiring {
    pub(crate) records_max: u64,
    pub(crate) in_flight_max: u64,
    pub(crate) delayed_max: u64,
    pub(crate) delivery_count_max: u16,
    pub(crate) lock_duration: Duration,
    pub(crate) backoff: Backoff,
}

/// What became of records that were acquired and are not handed out.
#[derive(Debug, Default)]
pub(crate) struct NotHandedOut {
    /// There is no record at these offsets.
    pub(crate) absent: Vec<Range<u64>>,
    /// It is not their time yet: wait until then, by the monotonic clock.
    pub(crate) delayed: Vec<(Range<u64>, Duration)>,
    /// They were not read.
    pub(crate) unread: Vec<Range<u64>>,
}

impl NotHandedOut {
    pub(crate) fn clear(&mut self) {
        self.absent.clear();
        self.delayed.clear();
        self.unread.clear();
    }
}

/// What is said of records that somebody has: by the worker that has them, or, the last two, by who has
/// [condemned](SharePartition::condemn) them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Acknowledgement {
    Accept,
    /// Deliver again, after the time that the group's backoff says.
    Release(Backoff),
    /// Deliver again after this time.
    ReleaseAfter(Duration),
    /// Never deliver again.
    Reject,
    /// The lock is to last this long from now.
    Renew(Duration),
    /// They were delivered too often: never deliver them again.
    GiveUp,
    /// They cannot be given up now. Try again after this time.
    Postpone(Duration),
}

/// What became of an acknowledgement.
#[derive(Debug, Default)]
pub(crate) struct Acknowledged {
    /// It is durable once the state topic is, up to here. `None` if nothing has to be.
    pub(crate) stored_to: Option<u64>,
    /// The worker does not have these any more: nothing has changed for them.
    pub(crate) late: Vec<Range<u64>>,
}

impl SharePartition {
    /// `snapshot_at` says where its last snapshot is; without one the next record is one.
    pub(crate) fn new(
        key: ShareKey,
        partition: Partition,
        log: Arc<StateLog>,
        (window, snapshot_at): (Window, Option<u64>),
    ) -> Self {
        Self {
            snapshot_key: key.encode(ShareRecordKind::Snapshot),
            update_key: key.encode(ShareRecordKind::Update),
            key,
            partition,
            log,
            state: Mutex::new(PartitionState {
                window,
                next_acquisition: 0,
                snapshot_at,
                is_forgotten: false,
                has_left_some: false,
                waiters: Vec::new(),
                totals: ShareTotals::default(),
                scratch: Scratch {
                    builder: BatchBuilder::new(),
                    value: Vec::new(),
                    changes: Vec::new(),
                },
            }),
        }
    }

    pub(crate) fn key(&self) -> &ShareKey {
        &self.key
    }

    pub(crate) fn group(&self) -> &str {
        &self.key.group
    }

    pub(crate) fn partition(&self) -> &Partition {
        &self.partition
    }

    pub(crate) fn topic_partition(&self) -> &TopicPartition {
        self.partition.topic_partition()
    }

    fn clock(&self) -> &dyn Clock {
        &*self.partition.topic().environment().clock
    }

    fn limits(&self, acquiring: &Acquiring) -> Limits {
        Limits {
            records_max: acquiring.records_max,
            in_flight_max: acquiring.in_flight_max,
            delayed_max: acquiring.delayed_max,
            delivery_count_max: acquiring.delivery_count_max,
            high_watermark: self.partition.high_watermark(),
        }
    }

    /// The state as of now: what has come due by now has happened.
    fn lock_now(&self, now: Duration, backoff: Backoff) -> MutexGuard<'_, PartitionState> {
        let mut state = self.state.lock();
        let lost = state.window.let_time_pass(now, |delivery_count| backoff.after(delivery_count));
        state.totals.timed_out += lost;
        state.window.pass(self.partition.log_start_offset());
        state
    }

    /// Acquires records for a poll, in memory alone: before they are handed out,
    /// [`Self::hand_out`] has to store that. `None` if there are none.
    pub(crate) fn acquire(
        &self,
        acquiring: &Acquiring,
        acquired: &mut Vec<StateRange>,
    ) -> Option<AcquisitionId> {
        let limits = self.limits(acquiring);
        let now = self.clock().monotonic();
        let mut state = self.lock_now(now, acquiring.backoff);
        if state.is_forgotten {
            return None;
        }
        let id = AcquisitionId(state.next_acquisition);
        let until = now.saturating_add(acquiring.lock_duration);
        state.window.acquire(id, until, &limits, acquired);
        let taken: u64 = acquired.iter().map(|range| range.offsets.end - range.offsets.start).sum();
        state.has_left_some =
            taken < limits.records_max && state.window.end() < limits.high_watermark;
        if taken == 0 {
            return None;
        }
        state.next_acquisition += 1;
        Some(id)
    }

    /// Takes records that were delivered too often, to be given up. Nobody else is given them meanwhile.
    pub(crate) fn condemn(
        &self,
        acquiring: &Acquiring,
    ) -> Option<(AcquisitionId, Vec<StateRange>)> {
        let limits = self.limits(acquiring);
        let now = self.clock().monotonic();
        let mut state = self.lock_now(now, acquiring.backoff);
        if state.is_forgotten {
            return None;
        }
        let id = AcquisitionId(state.next_acquisition);
        let until = now.saturating_add(acquiring.lock_duration);
        let condemned = state.window.condemn(id, until, &limits);
        if condemned.is_empty() {
            return None;
        }
        state.next_acquisition += 1;
        Some((id, condemned))
    }

    /// Stores that records are handed out, all but some of those that were acquired. If that cannot be
    /// stored, all are as they were before.
    pub(crate) fn hand_out(
        &self,
        id: AcquisitionId,
        acquired: &[StateRange],
        not: &NotHandedOut,
    ) -> Result<()> {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let give_back = |window: &mut Window, offsets: &Range<u64>, not_before| {
            let event = DeliveryEvent::GiveBack { by: id, not_before };
            window.change(offsets.clone(), event, |_| {});
        };
        for offsets in &not.absent {
            state.window.change(offsets.clone(), DeliveryEvent::Vanish, |_| {});
        }
        for (offsets, not_before) in &not.delayed {
            give_back(&mut state.window, offsets, *not_before);
        }
        for offsets in &not.unread {
            give_back(&mut state.window, offsets, Duration::ZERO);
        }
        state.scratch.changes.clear();
        for range in acquired {
            for StateRange { offsets, state: delivery } in
                state.window.states(range.offsets.clone())
            {
                if delivery.delivery_count() > 0 || delivery.is_terminal() {
                    state.scratch.changes.push((offsets, delivery.stored()));
                }
            }
        }
        let stored = self.write(state);
        if stored.is_err() {
            for range in acquired {
                give_back(&mut state.window, &range.offsets, Duration::ZERO);
            }
        }
        if stored.is_err() || !not.unread.is_empty() || !not.delayed.is_empty() {
            state.wake();
        }
        stored.map(drop)
    }

    /// Everything that a poll has acquired is as it was before.
    pub(crate) fn give_back(&self, id: AcquisitionId, acquired: &[StateRange], wait: Duration) {
        let not_before = self.after(wait);
        let mut state = self.state.lock();
        for range in acquired {
            let event = DeliveryEvent::GiveBack { by: id, not_before };
            state.window.change(range.offsets.clone(), event, |_| {});
        }
        state.wake();
    }

    /// A point of the monotonic clock; zero for at once.
    fn after(&self, wait: Duration) -> Duration {
        if wait.is_zero() { wait } else { self.clock().monotonic().saturating_add(wait) }
    }

    /// Acknowledges records, as far as the worker has them still. What is accepted or rejected is stored
    /// when this returns, and durable once the state topic is.
    ///
    /// # Errors
    ///
    /// As [`append`](crate::log::PartitionLog::append); then nothing has changed.
    pub(crate) fn acknowledge<'a>(
        &self,
        id: AcquisitionId,
        offsets: impl Iterator<Item = &'a Range<u64>> + Clone,
        what: Acknowledgement,
    ) -> Result<Acknowledged> {
        let is_stored = what.is_stored();
        let now = if is_stored { Duration::ZERO } else { self.clock().monotonic() };
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let mut late = Vec::new();
        state.scratch.changes.clear();
        for offsets in offsets {
            let mut at = offsets.start;
            for StateRange { offsets, state: delivery } in state.window.states(offsets.clone()) {
                note_late(&mut late, at..offsets.start);
                at = offsets.end;
                let event = what.event(id, now, delivery.delivery_count());
                match delivery.next(event) {
                    Ok(next) => state.scratch.changes.push((offsets, next)),
                    Err(_) => note_late(&mut late, offsets),
                }
            }
            note_late(&mut late, at..offsets.end);
        }
        let stored_to =
            if is_stored && !state.scratch.changes.is_empty() { self.write(state)? } else { None };
        let changes = std::mem::take(&mut state.scratch.changes);
        let mut records = 0;
        for (offsets, _) in &changes {
            records += offsets.end - offsets.start;
            let count = state.window.states(offsets.clone()).next();
            let count = count.map_or(0, |range| range.state.delivery_count());
            state.window.change(offsets.clone(), what.event(id, now, count), |_| {});
        }
        state.scratch.changes = changes;
        what.count(records, &mut state.totals);
        let is_let_go = !is_stored && !matches!(what, Acknowledgement::Renew(_));
        if is_let_go || std::mem::take(&mut state.has_left_some) {
            state.wake();
        }
        Ok(Acknowledged { stored_to, late })
    }

    /// Appends what stands in the scratch as an update, behind a snapshot if one is due. Returns up to
    /// where the log has to be synced for it to be durable.
    fn write(&self, state: &mut PartitionState) -> Result<Option<u64>> {
        if state.is_forgotten {
            return Err(Error::UnknownTopic { topic: self.topic_partition().topic().to_owned() });
        }
        let PartitionState { window, scratch: Scratch { builder, value, changes }, .. } = state;
        let needs_snapshot = state.snapshot_at.is_none();
        if changes.is_empty() && !needs_snapshot {
            return Ok(None);
        }
        let now = self.clock().now();
        builder.clear();
        if needs_snapshot {
            put_snapshot(value, window, now);
            self.log.log().add(builder, &Record::new(&*value).key(&self.snapshot_key), now)?;
        }
        encode_update(value, window.start(), changes.iter().cloned());
        self.log.log().add(builder, &Record::new(&*value).key(&self.update_key), now)?;
        let stored = self.log.append(builder, now)?;
        if needs_snapshot {
            state.snapshot_at = Some(stored.appended.base_offset);
        }
        if builder.size() > SCRATCH_LEN_MAX {
            *builder = BatchBuilder::new();
            *value = Vec::new();
        }
        Ok(Some(stored.appended.next_offset))
    }

    /// Says everything anew, unless the last snapshot is not older than `from`. Returns how large a
    /// snapshot is.
    pub(crate) fn write_snapshot(&self, from: u64) -> Result<u64> {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        if state.is_forgotten {
            return Ok(0);
        }
        if state.snapshot_at.is_none_or(|at| at < from) {
            state.snapshot_at = None;
            state.scratch.changes.clear();
            self.write(state)?;
        }
        Ok((self.snapshot_key.len() + state.scratch.value.len()) as u64)
    }

    /// The group has nothing to do with the partition any more. Returns up to where the log has to be
    /// synced for that to be durable.
    pub(crate) fn forget(&self) -> Result<Option<u64>> {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        if state.is_forgotten {
            return Ok(None);
        }
        let now = self.clock().now();
        state.scratch.builder.clear();
        let tombstone = Record::tombstone(&self.snapshot_key);
        self.log.log().add(&mut state.scratch.builder, &tombstone, now)?;
        let stored = self.log.append(&mut state.scratch.builder, now)?;
        state.is_forgotten = true;
        state.wake();
        Ok(Some(stored.appended.next_offset))
    }

    /// Returns once everything up to an offset of the state topic is durable.
    pub(crate) fn flush_to(&self, offset: u64) -> Result<()> {
        self.log.flush_to(offset)
    }

    /// How long there is nothing to acquire unless something happens; zero if there is something.
    pub(crate) fn quiet_for(&self, acquiring: &Acquiring) -> Duration {
        let limits = self.limits(acquiring);
        let now = self.clock().monotonic();
        let state = self.lock_now(now, acquiring.backoff);
        if !state.is_forgotten && state.window.has_something(&limits) {
            return Duration::ZERO;
        }
        state.window.quiet_until().saturating_sub(now)
    }

    /// Leaves a wakeup here until [`Self::unregister`]. The caller looks again before it waits.
    pub(crate) fn register(&self, wakeup: &Arc<Wakeup>) {
        self.state.lock().waiters.push(Arc::clone(wakeup));
    }

    pub(crate) fn unregister(&self, wakeup: &Arc<Wakeup>) {
        let mut state = self.state.lock();
        if let Some(at) = state.waiters.iter().position(|waiter| Arc::ptr_eq(waiter, wakeup)) {
            state.waiters.swap_remove(at);
        }
    }

    /// Copies of its records were made in a dead-letter topic.
    pub(crate) fn count_dead_letters(&self, records: u64) {
        self.state.lock().totals.dead_letters += records;
    }

    /// Where the window begins and ends, what is in it, and what became of what was.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&Window, ShareTotals) -> T) -> T {
        let state = self.state.lock();
        look(&state.window, state.totals)
    }
}

impl PartitionState {
    fn wake(&self) {
        self.waiters.iter().for_each(|waiter| waiter.wake());
    }
}

impl Acknowledgement {
    /// Whether it has to outlive the process.
    fn is_stored(self) -> bool {
        matches!(self, Self::Accept | Self::Reject | Self::GiveUp)
    }

    fn count(self, records: u64, totals: &mut ShareTotals) {
        match self {
            Self::Accept => totals.accepted += records,
            Self::Release(_) | Self::ReleaseAfter(_) => totals.released += records,
            Self::Reject => totals.rejected += records,
            Self::GiveUp => totals.given_up += records,
            Self::Renew(_) | Self::Postpone(_) => {}
        }
    }

    /// What it does to a record that was delivered so often.
    fn event(self, by: AcquisitionId, now: Duration, delivery_count: u16) -> DeliveryEvent {
        let after = |wait: Duration| {
            if wait.is_zero() { wait } else { now.saturating_add(wait) }
        };
        match self {
            Self::Accept => DeliveryEvent::Accept { by },
            Self::Reject | Self::GiveUp => DeliveryEvent::Reject { by },
            Self::Release(backoff) => {
                DeliveryEvent::Release { by, not_before: after(backoff.after(delivery_count)) }
            }
            Self::ReleaseAfter(wait) | Self::Postpone(wait) => {
                DeliveryEvent::Release { by, not_before: after(wait) }
            }
            Self::Renew(wait) => DeliveryEvent::Renew { by, until: now.saturating_add(wait) },
        }
    }
}

fn put_snapshot(value: &mut Vec<u8>, window: &Window, now: Timestamp) {
    let batches = window.ranges().map(|range| (range.offsets.clone(), range.state.stored()));
    encode_snapshot(value, window.start(), batches, now);
}

fn note_late(late: &mut Vec<Range<u64>>, offsets: Range<u64>) {
    match late.last_mut() {
        _ if offsets.is_empty() => {}
        Some(last) if last.end == offsets.start => last.end = offsets.end,
        _ => late.push(offsets),
    }
}
