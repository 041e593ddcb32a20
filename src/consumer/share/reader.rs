//! Reads the records that a poll has acquired, and finds out which of them are not to be handed out.
//!
//! What is acquired are offsets. Only the log says which of them have records, and only a record's headers
//! say that it is not its time yet; such records are given back before anybody sees them.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use crate::consumer::buffered::{Budget, BufferPool, Buffered, Source};
use crate::consumer::records::Run;
use crate::consumer::subscription::Assigned;
use crate::error::{Error, Result};
use crate::share_group::not_before;
use crate::share_group::partition::NotHandedOut;
use crate::share_group::window::StateRange;
use crate::time::{Clock, Timestamp};

/// Damaged records are tried again after this time; what lies behind them goes on.
const DAMAGED_WAIT: Duration = Duration::from_secs(1);

/// What was read of what was acquired.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) runs: Vec<Run>,
    /// Everything below it was read.
    to: u64,
}

/// Reads what was acquired, in order, as far as the budget goes.
///
/// # Errors
///
/// If the first of it cannot be read. What could be read before an error is returned without it: the
/// rest is given back, and the next poll meets it first.
pub(super) fn read(
    assigned: &mut Assigned,
    acquired: &[StateRange],
    read_len: usize,
    budget: &mut Budget,
    buffers: &mut BufferPool,
) -> Result<Read> {
    let mut read = Read { runs: Vec::with_capacity(1), to: 0 };
    let mut ranges = acquired.iter().map(|range| range.offsets.clone()).peekable();
    while let Some(mut span) = ranges.next() {
        // Records that were delivered differently often may lie next to each other.
        while let Some(next) = ranges.next_if(|next| next.start == span.end) {
            span.end = next.end;
        }
        if read.runs.is_empty() && read.to == 0 {
            read.to = span.start;
        }
        if budget.is_exhausted() {
            break;
        }
        match read_span(assigned, span.clone(), read_len, (budget, buffers), &mut read.runs) {
            Ok(to) => read.to = to,
            Err(error) if read.runs.is_empty() => return Err(error),
            Err(_told_by_the_next_poll) => break,
        }
        if read.to < span.end {
            break;
        }
    }
    Ok(read)
}

/// Reads a span of offsets that follow each other; returns up to where.
fn read_span(
    assigned: &mut Assigned,
    span: Range<u64>,
    read_len: usize,
    (budget, buffers): (&mut Budget, &mut BufferPool),
    runs: &mut Vec<Run>,
) -> Result<u64> {
    let mut position = span.start;
    if assigned.position.is_none_or(|at| at > position) {
        assigned.seek(position);
    }
    while position < span.end && !budget.is_exhausted() {
        let buffered = match &mut assigned.buffered {
            Some(buffered) => buffered,
            None => match read_batches(assigned, position, read_len) {
                Ok(Some(buffered)) => assigned.buffered.insert(buffered),
                Ok(None) => break,
                // Retention was faster.
                Err(Error::OffsetOutOfRange { log_start_offset, .. })
                    if log_start_offset > position =>
                {
                    position = log_start_offset;
                    continue;
                }
                Err(error) => return Err(error),
            },
        };
        let left = usize::try_from(span.end - position).unwrap_or(usize::MAX);
        let mut part = Budget { records: budget.records.min(left), bytes: budget.bytes };
        let mut source = Source { partition: &assigned.partition, buffers };
        let before = part.records;
        let taken = buffered.take(&mut position, &mut part, &mut source);
        assigned.position = Some(position);
        if let Some(run) = taken? {
            runs.push(run);
        }
        budget.records -= before - part.records;
        budget.bytes = part.bytes;
        if buffered.is_used_up() {
            assigned.cursor = assigned.buffered.take().map(Buffered::into_cursor);
        }
    }
    Ok(position)
}

fn read_batches(
    assigned: &mut Assigned,
    position: u64,
    read_len_max: usize,
) -> Result<Option<Buffered>> {
    let read_len = assigned.read_ahead.next(read_len_max);
    let log = Arc::clone(assigned.partition.log());
    let mut fetched = log.read(position, assigned.cursor.as_ref(), read_len);
    if matches!(fetched, Err(Error::Corrupt(_))) {
        // Perhaps the damage lies behind batches that are sound: those are handed out first.
        fetched = log.read(position, assigned.cursor.as_ref(), 1);
    }
    Ok(fetched?.map(|fetched| Buffered::new(fetched, Vec::new())))
}

/// Sorts what was acquired into what is handed out and what is not.
pub(super) fn sort(
    read: &Read,
    acquired: &[StateRange],
    clock: &dyn Clock,
    not: &mut NotHandedOut,
) -> Vec<StateRange> {
    let mut sorter = Sorter {
        clock,
        now: None,
        read_to: read.to,
        not,
        handed_out: Vec::with_capacity(acquired.len()),
    };
    let mut ranges = acquired.iter();
    let mut range = ranges.next();
    // Up to where the present range is sorted.
    let mut at = range.map_or(0, |range| range.offsets.start);
    for record in read.runs.iter().flat_map(Run::iter) {
        let offset = record.offset();
        while let Some(passed) = range.filter(|range| range.offsets.end <= offset) {
            sorter.no_record(at..passed.offsets.end);
            range = ranges.next();
            at = range.map_or(0, |range| range.offsets.start);
        }
        let Some(StateRange { offsets, state }) = range else { break };
        if offset < offsets.start {
            continue;
        }
        sorter.no_record(at..offset);
        at = offset + 1;
        // What has been handed out before was due then.
        let waits = if state.delivery_count() > 1 { None } else { not_before(record.headers()) };
        match waits.and_then(|not_before| sorter.wait_until(not_before)) {
            Some(until) => sorter.not.delayed.push((offset..at, until)),
            None => sorter.hand_out(StateRange { offsets: offset..at, state: *state }),
        }
    }
    while let Some(passed) = range {
        sorter.no_record(at..passed.offsets.end);
        range = ranges.next();
        at = range.map_or(0, |range| range.offsets.start);
    }
    sorter.handed_out
}

struct Sorter<'a> {
    clock: &'a dyn Clock,
    /// Read once it is needed: by the wall clock, and by the monotonic one.
    now: Option<(Timestamp, Duration)>,
    read_to: u64,
    not: &'a mut NotHandedOut,
    handed_out: Vec<StateRange>,
}

impl Sorter<'_> {
    /// No record was found there: there is none, or it was not read.
    fn no_record(&mut self, offsets: Range<u64>) {
        let absent = offsets.start..offsets.end.min(self.read_to);
        let unread = offsets.start.max(self.read_to)..offsets.end;
        if !absent.is_empty() {
            self.not.absent.push(absent);
        }
        if !unread.is_empty() {
            self.not.unread.push(unread);
        }
    }

    #[inline]
    fn hand_out(&mut self, record: StateRange) {
        match self.handed_out.last_mut() {
            Some(last)
                if last.offsets.end == record.offsets.start && last.state == record.state =>
            {
                last.offsets.end = record.offsets.end;
            }
            _ => self.handed_out.push(record),
        }
    }

    /// That point of the monotonic clock; `None` if it has passed.
    fn wait_until(&mut self, not_before: Timestamp) -> Option<Duration> {
        let clock = self.clock;
        let (wall, monotonic) = *self.now.get_or_insert_with(|| (clock.now(), clock.monotonic()));
        let wait = not_before.as_millis().checked_sub(wall.as_millis()).filter(|wait| *wait > 0)?;
        Some(monotonic.saturating_add(Duration::from_millis(wait.unsigned_abs())))
    }
}

/// What is given back after an error: what is damaged waits for a while, so that it holds up nothing
/// behind it.
pub(super) fn give_back(
    error: &Error,
    acquired: &[StateRange],
    clock: &dyn Clock,
    not: &mut NotHandedOut,
) {
    let damaged = match error {
        Error::Corrupt(damage) => damage.offsets.clone(),
        _ => 0..0,
    };
    let until = clock.monotonic().saturating_add(DAMAGED_WAIT);
    for StateRange { offsets, .. } in acquired {
        let inside = offsets.start.max(damaged.start)..offsets.end.min(damaged.end);
        if inside.is_empty() {
            not.unread.push(offsets.clone());
            continue;
        }
        not.unread.push(offsets.start..inside.start);
        not.unread.push(inside.end..offsets.end);
        not.delayed.push((inside, until));
    }
}
