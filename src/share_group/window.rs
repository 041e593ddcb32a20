//! The records of one partition that a share group is concerned with, as ranges of equal state.
//!
//! A window begins at the first record that is not done with and ends where nothing was handed out yet.
//! Everything below it is done, everything above it has never been handed out. Records next to each other
//! in the same state are one range, so a poll that is acknowledged whole costs two ranges for a moment
//! and none afterwards, however many records it had.
//!
//! Pure, and bounded: the more ranges there are, the less is acquired ([`Limits`]).

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use crate::share_group::state::{AcquisitionId, DeliveryEvent, DeliveryState, FRESH};

#[cfg(test)]
mod tests;

/// Offsets next to each other whose records are in the same state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StateRange {
    /// Half-open.
    pub(crate) offsets: Range<u64>,
    pub(crate) state: DeliveryState,
}

/// How many records of a window are in which state. Those that are done with are not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counts {
    /// Workers have them.
    pub(crate) acquired: u64,
    /// They have been handed out before and wait to be handed out again.
    pub(crate) to_redeliver: u64,
    /// They have never been handed out although others behind them have: it is not their time yet.
    pub(crate) delayed: u64,
    /// Of those that wait, how many could be handed out at once.
    pub(crate) ready: u64,
}

impl Counts {
    /// What `max_in_flight` limits.
    pub(crate) fn in_flight(self) -> u64 {
        self.acquired + self.to_redeliver
    }

    fn places(&mut self, state: DeliveryState) -> [Option<&mut u64>; 2] {
        match state {
            DeliveryState::Acquired { .. } => [Some(&mut self.acquired), None],
            DeliveryState::Available { delivery_count, not_before } => {
                let waiting =
                    if delivery_count == 0 { &mut self.delayed } else { &mut self.to_redeliver };
                [Some(waiting), not_before.is_zero().then_some(&mut self.ready)]
            }
            DeliveryState::Acknowledged | DeliveryState::Archived => [None, None],
        }
    }

    fn add(&mut self, state: DeliveryState, records: u64) {
        self.places(state).into_iter().flatten().for_each(|place| *place += records);
    }

    fn subtract(&mut self, state: DeliveryState, records: u64) {
        self.places(state).into_iter().flatten().for_each(|place| *place -= records);
    }
}

/// What may be acquired.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// By one call.
    pub(crate) records_max: u64,
    /// Records in flight. Those that were handed out before are already.
    pub(crate) in_flight_max: u64,
    /// Records that wait for their time.
    pub(crate) delayed_max: u64,
    /// Records that were handed out as often are not handed out again.
    pub(crate) delivery_count_max: u16,
    /// Where the visible records end.
    pub(crate) high_watermark: u64,
}

/// The ranges of one partition.
///
/// Invariants: the ranges lie next to each other from `start` to `end`; no two neighbours are in the same
/// state; the first is not done with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Window {
    start: u64,
    end: u64,
    ranges: VecDeque<StateRange>,
    counts: Counts,
    /// Nothing happens by itself before this time.
    quiet_until: Duration,
}

impl Window {
    /// Nothing is done at or above `start`, and nothing was handed out.
    pub(crate) fn new(start: u64) -> Self {
        Self {
            start,
            end: start,
            ranges: VecDeque::new(),
            counts: Counts::default(),
            quiet_until: Duration::MAX,
        }
    }

    /// Everything below it is done.
    pub(crate) fn start(&self) -> u64 {
        self.start
    }

    /// Nothing at or above it was handed out.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    /// How many offsets are still to be done, in the window and behind it.
    pub(crate) fn lag(&self, high_watermark: u64) -> u64 {
        let counts = self.counts;
        counts.in_flight() + counts.delayed + high_watermark.saturating_sub(self.end)
    }

    pub(crate) fn ranges(&self) -> impl ExactSizeIterator<Item = &StateRange> {
        self.ranges.iter()
    }

    /// When something happens by itself at the earliest: a lock times out, a waiting time ends.
    /// [`Duration::MAX`] if nothing does.
    pub(crate) fn quiet_until(&self) -> Duration {
        self.quiet_until
    }

    /// Lets an event happen to some records of the window, as far as it can. Calls `refused` for those to
    /// which it cannot, and for those outside of the window.
    pub(crate) fn change(
        &mut self,
        offsets: Range<u64>,
        event: DeliveryEvent,
        mut refused: impl FnMut(Range<u64>),
    ) {
        let inside = offsets.start.max(self.start)..offsets.end.min(self.end);
        if inside.is_empty() {
            if !offsets.is_empty() {
                refused(offsets);
            }
            return;
        }
        if offsets.start < inside.start {
            refused(offsets.start..inside.start);
        }
        let (first, last) = (self.split(inside.start), self.split(inside.end));
        for at in first..last {
            let Some(range) = self.ranges.get_mut(at) else { break };
            match range.state.next(event) {
                Ok(state) => {
                    let records = range.offsets.end - range.offsets.start;
                    self.counts.subtract(range.state, records);
                    self.counts.add(state, records);
                    range.state = state;
                    if let Some(due) = state.due() {
                        self.quiet_until = self.quiet_until.min(due);
                    }
                }
                Err(_) => refused(range.offsets.clone()),
            }
        }
        self.join(first, last);
        if inside.end < offsets.end {
            refused(inside.end..offsets.end);
        }
        self.advance();
    }

    /// What the records at some offsets of the window are in, range by range.
    pub(crate) fn states(&self, offsets: Range<u64>) -> impl Iterator<Item = StateRange> {
        let first = self.ranges.partition_point(|range| range.offsets.end <= offsets.start);
        let from_first = self.ranges.iter().skip(first);
        let end = offsets.end;
        from_first.take_while(move |range| range.offsets.start < end).map(move |range| {
            let within = range.offsets.start.max(offsets.start)..range.offsets.end.min(end);
            StateRange { offsets: within, state: range.state }
        })
    }

    /// Lets locks time out and waiting times end. `backoff` says how long a record waits whose worker had
    /// its time, by how often it has been delivered. Costs a look at a clock when nothing is due. Returns
    /// how many records have lost their locks.
    pub(crate) fn let_time_pass(
        &mut self,
        now: Duration,
        backoff: impl Fn(u16) -> Duration,
    ) -> u64 {
        if now < self.quiet_until {
            return 0;
        }
        let mut lost = 0;
        self.quiet_until = Duration::MAX;
        for range in &mut self.ranges {
            let not_before = match backoff(range.state.delivery_count()) {
                Duration::ZERO => Duration::ZERO,
                wait => now.saturating_add(wait),
            };
            let timed_out = range.state.next(DeliveryEvent::TimeOut { now, not_before });
            let passed = timed_out.or_else(|_| range.state.next(DeliveryEvent::ComeDue { now }));
            if let Ok(state) = passed {
                let records = range.offsets.end - range.offsets.start;
                lost += if timed_out.is_ok() { records } else { 0 };
                self.counts.subtract(range.state, records);
                self.counts.add(state, records);
                range.state = state;
            }
            if let Some(due) = range.state.due() {
                self.quiet_until = self.quiet_until.min(due);
            }
        }
        self.join(0, self.ranges.len());
        lost
    }

    /// The log begins at `log_start` by now. Records before it that nobody has are archived; those that a
    /// worker has stay with it.
    pub(crate) fn pass(&mut self, log_start: u64) {
        if log_start <= self.start {
            return;
        }
        if self.end < log_start {
            self.extend(log_start, FRESH);
        }
        let free: Vec<Range<u64>> = self
            .states(self.start..log_start)
            .filter(|range| matches!(range.state, DeliveryState::Available { .. }))
            .map(|range| range.offsets)
            .collect();
        for offsets in free {
            self.change(offsets, DeliveryEvent::Vanish, |_| {});
        }
    }

    /// Acquires what is ready, oldest first, then what was never handed out, within the limits. Returns
    /// by way of `acquired` what that is, in the order of the log.
    pub(crate) fn acquire(
        &mut self,
        by: AcquisitionId,
        until: Duration,
        limits: &Limits,
        acquired: &mut Vec<StateRange>,
    ) {
        let mut left = limits.records_max;
        let mut room = limits.in_flight_max.saturating_sub(self.counts.in_flight());
        let first = acquired.len();
        if self.counts.ready > 0 {
            self.choose_ready(limits, &mut left, &mut room, acquired);
        }
        let new = left.min(room).min(limits.high_watermark.saturating_sub(self.end));
        if new > 0 && self.takes_more(limits) {
            let offsets = self.end..self.end + new;
            self.extend(offsets.end, FRESH);
            match acquired
                .last_mut()
                .filter(|last| last.offsets.end == offsets.start && last.state == FRESH)
            {
                Some(last) => last.offsets.end = offsets.end,
                None => acquired.push(StateRange { offsets, state: FRESH }),
            }
        }
        let event = DeliveryEvent::Acquire { by, until };
        for range in acquired.iter_mut().skip(first) {
            self.change(range.offsets.clone(), event, |_| {});
            range.state = range.state.next(event).unwrap_or(range.state);
        }
    }

    /// Takes what was handed out too often to be handed out again, to be given up.
    pub(crate) fn condemn(
        &mut self,
        by: AcquisitionId,
        until: Duration,
        limits: &Limits,
    ) -> Vec<StateRange> {
        if self.counts.ready == 0 || self.counts.to_redeliver == 0 {
            return Vec::new();
        }
        let mut left = limits.records_max;
        let mut condemned = Vec::new();
        for StateRange { offsets, state } in &self.ranges {
            let DeliveryState::Available { delivery_count, not_before: Duration::ZERO } = *state
            else {
                continue;
            };
            if delivery_count >= limits.delivery_count_max && left > 0 {
                let taken = left.min(offsets.end - offsets.start);
                left -= taken;
                let offsets = offsets.start..offsets.start + taken;
                condemned.push(StateRange { offsets, state: *state });
            }
        }
        for range in &condemned {
            let event = DeliveryEvent::Condemn { by, until };
            self.change(range.offsets.clone(), event, |_| {});
        }
        condemned
    }

    fn choose_ready(
        &self,
        limits: &Limits,
        left: &mut u64,
        room: &mut u64,
        chosen: &mut Vec<StateRange>,
    ) {
        for StateRange { offsets, state } in &self.ranges {
            let DeliveryState::Available { delivery_count, not_before: Duration::ZERO } = *state
            else {
                continue;
            };
            if delivery_count >= limits.delivery_count_max {
                continue;
            }
            let len = offsets.end - offsets.start;
            let taken =
                if delivery_count == 0 { len.min(*left).min(*room) } else { len.min(*left) };
            if taken == 0 {
                continue;
            }
            *left -= taken;
            if delivery_count == 0 {
                *room -= taken;
            }
            chosen
                .push(StateRange { offsets: offsets.start..offsets.start + taken, state: *state });
        }
    }

    /// Whether [`Self::acquire`] or [`Self::condemn`] would find anything.
    pub(crate) fn has_something(&self, limits: &Limits) -> bool {
        let room = self.counts.in_flight() < limits.in_flight_max;
        if room && self.end < limits.high_watermark && self.takes_more(limits) {
            return true;
        }
        // What never was handed out needs room; the rest has it already.
        self.counts.ready > 0
            && self.ranges.iter().any(|range| match range.state {
                DeliveryState::Available { delivery_count, not_before: Duration::ZERO } => {
                    delivery_count > 0 || room
                }
                _ => false,
            })
    }

    /// Whether records may be acquired that are not in the window yet. There are at most two ranges for
    /// each record that is not done with, and one for what lies between it and the next.
    fn takes_more(&self, limits: &Limits) -> bool {
        let ranges_max = limits.in_flight_max.saturating_add(limits.delayed_max).saturating_mul(2);
        self.counts.delayed < limits.delayed_max && (self.ranges.len() as u64) < ranges_max
    }

    /// Sets what a stored record says of some offsets. Those between the end of the window and there have
    /// never been handed out.
    pub(crate) fn set_stored(&mut self, offsets: Range<u64>, state: DeliveryState) {
        let offsets = offsets.start.max(self.start)..offsets.end;
        if offsets.is_empty() {
            return;
        }
        if self.end < offsets.start {
            self.extend(offsets.start, FRESH);
        }
        let known = offsets.start..offsets.end.min(self.end);
        if !known.is_empty() {
            let (first, last) = (self.split(known.start), self.split(known.end));
            for range in self.ranges.range_mut(first..last) {
                let records = range.offsets.end - range.offsets.start;
                self.counts.subtract(range.state, records);
                self.counts.add(state, records);
                range.state = state;
            }
            self.join(first, last);
        }
        if self.end < offsets.end {
            self.extend(offsets.end, state);
        }
        self.advance();
    }

    /// Sets what a stored record says about the start: everything below it is done.
    pub(crate) fn set_start(&mut self, start: u64) {
        if start >= self.end {
            *self = Self::new(start.max(self.start));
        } else if start > self.start {
            let first = self.split(start);
            for range in self.ranges.drain(..first) {
                self.counts.subtract(range.state, range.offsets.end - range.offsets.start);
            }
            self.start = start;
            self.advance();
        }
    }

    /// Forgets everything from `end` on: the log ends there.
    pub(crate) fn cut(&mut self, end: u64) {
        if end <= self.start {
            *self = Self::new(end);
        } else if end < self.end {
            let first = self.split(end);
            for range in self.ranges.drain(first..) {
                self.counts.subtract(range.state, range.offsets.end - range.offsets.start);
            }
            self.end = end;
        }
    }

    /// The window as it would be found after a restart.
    #[cfg(test)]
    pub(crate) fn stored(&self) -> Self {
        let mut stored = Self::new(self.start);
        for range in &self.ranges {
            stored.set_stored(range.offsets.clone(), range.state.stored());
        }
        stored
    }

    fn extend(&mut self, end: u64, state: DeliveryState) {
        let offsets = self.end..end;
        self.counts.add(state, end - self.end);
        self.end = end;
        match self.ranges.back_mut() {
            Some(last) if last.state == state => last.offsets.end = end,
            _ => self.ranges.push_back(StateRange { offsets, state }),
        }
    }

    /// Has a range begin at an offset of the window, or where it ends; returns its place.
    fn split(&mut self, offset: u64) -> usize {
        let at = self.ranges.partition_point(|range| range.offsets.end <= offset);
        let Some(range) = self.ranges.get_mut(at).filter(|range| range.offsets.start < offset)
        else {
            return at;
        };
        let behind = StateRange { offsets: offset..range.offsets.end, state: range.state };
        range.offsets.end = offset;
        self.ranges.insert(at + 1, behind);
        at + 1
    }

    /// Makes one range of neighbours in the same state, among the ranges from `first` up to and including
    /// `last`, and the one before.
    fn join(&mut self, first: usize, last: usize) {
        let mut kept = first.saturating_sub(1);
        let end = last.saturating_add(1).min(self.ranges.len());
        for at in kept + 1..end {
            let Some(range) = self.ranges.get(at).cloned() else { break };
            match self.ranges.get_mut(kept) {
                Some(before) if before.state == range.state => {
                    before.offsets.end = range.offsets.end;
                }
                _ => {
                    kept += 1;
                    if let Some(place) = self.ranges.get_mut(kept) {
                        *place = range;
                    }
                }
            }
        }
        if kept + 1 < end {
            self.ranges.drain(kept + 1..end);
        }
    }

    fn advance(&mut self) {
        while let Some(first) = self.ranges.front().filter(|first| first.state.is_terminal()) {
            self.start = first.offsets.end;
            self.ranges.pop_front();
        }
        if self.ranges.is_empty() {
            self.start = self.end;
        }
    }

    /// Whether the invariants hold.
    #[cfg(test)]
    pub(crate) fn assert_sound(&self) {
        let mut at = self.start;
        let mut counts = Counts::default();
        let mut before: Option<DeliveryState> = None;
        for range in &self.ranges {
            assert_eq!(range.offsets.start, at, "{self:?}");
            assert!(!range.offsets.is_empty() && before != Some(range.state), "{self:?}");
            if let Some(due) = range.state.due() {
                assert!(self.quiet_until <= due, "{self:?}");
            }
            counts.add(range.state, range.offsets.end - range.offsets.start);
            (at, before) = (range.offsets.end, Some(range.state));
        }
        assert_eq!((at, counts), (self.end, self.counts), "{self:?}");
        assert!(self.ranges.front().is_none_or(|first| !first.state.is_terminal()), "{self:?}");
    }
}
