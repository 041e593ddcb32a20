//! What time demands, in one place: lingering batches, syncs, checkpoints, retention.
//!
//! One loop, on the broker's background thread or driven by hand. Each turn does whatever is due
//! and says when it wants to run next; [`Maintenance::wake_by`] can only make that earlier. A
//! failure never ends the loop: it is remembered, counted, and the work is tried again when it is
//! due again. A partition whose sync has failed has stopped by itself, and says so to its callers.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::thread::{JoinHandle, current};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::broker::coordinators::Coordinators;
use crate::error::{Error, Result};
use crate::events;
use crate::group::coordinator::GroupCoordinator;
use crate::log::PartitionLog;
use crate::log::config::Durability;
use crate::time::{Clock, Timestamp};
use crate::topic::Topic;

/// Checkpoints are made durable this often while something changes (contract, clause 13).
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(1);

/// The loop runs at least this often: half of what a checkpoint may wait.
const TURN_MAX: Duration = Duration::from_millis(500);

/// Work of an upper layer that has to be done when its time comes.
pub(crate) trait Chore: Send + Sync {
    /// Does what is due at `now`, a time of the broker's monotonic clock; returns when it wants to
    /// run next, if it has anything to wait for.
    fn run(&self, now: Duration) -> Option<Duration>;

    /// Does the rest at once and refuses more: the broker is being closed.
    fn close(&self) -> Result<()>;
}

/// The loop and what it works on. Any thread may register a chore or ask for an early turn.
pub(crate) struct Maintenance {
    clock: Arc<dyn Clock>,
    retention_check_interval: Duration,
    chores: Mutex<Vec<Weak<dyn Chore>>>,
    /// When the next turn is due, in nanoseconds of the monotonic clock.
    next_turn: AtomicU64,
    /// Whether the thread is to end. Guards the condition it waits on.
    stopped: Mutex<bool>,
    woken: Condvar,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// One turn at a time, be it the thread's or a caller's.
    turn: Mutex<Turn>,
}

/// What one turn leaves for the next.
#[derive(Debug)]
struct Turn {
    last_checkpoint: Duration,
    last_retention: Duration,
    age_clock: AgeClock,
}

impl Maintenance {
    pub(crate) fn new(clock: Arc<dyn Clock>, retention_check_interval: Duration) -> Self {
        let now = clock.monotonic();
        Self {
            turn: Mutex::new(Turn {
                last_checkpoint: now,
                last_retention: now,
                age_clock: AgeClock { wall: clock.now(), monotonic: now },
            }),
            clock,
            retention_check_interval,
            chores: Mutex::default(),
            next_turn: AtomicU64::new(0),
            stopped: Mutex::new(false),
            woken: Condvar::new(),
            thread: Mutex::default(),
        }
    }

    /// Adds work. It goes when its owner does.
    pub(crate) fn register(&self, chore: Weak<dyn Chore>) {
        let mut chores = self.chores.lock();
        // Where nobody runs maintenance nobody else would forget those that are gone.
        chores.retain(|chore| chore.strong_count() > 0);
        chores.push(chore);
    }

    /// When the next turn is due, by the monotonic clock.
    #[cfg(test)]
    pub(crate) fn next_turn(&self) -> Duration {
        Duration::from_nanos(self.next_turn.load(Ordering::Acquire))
    }

    #[cfg(test)]
    pub(crate) fn chore_count(&self) -> usize {
        self.chores.lock().len()
    }

    /// Sees to it that the next turn comes no later than at a time of the monotonic clock. Costs a
    /// load when one is due by then anyway.
    pub(crate) fn wake_by(&self, at: Duration) {
        let at = nanos(at);
        if self.next_turn.load(Ordering::Acquire) <= at {
            return;
        }
        // Under the lock: the thread is either about to look at the new time or waits already.
        let _stopped = self.stopped.lock();
        if self.next_turn.fetch_min(at, Ordering::AcqRel) > at {
            self.woken.notify_one();
        }
    }

    /// Starts the background thread. It ends with [`Self::stop`], or when the broker is gone.
    pub(crate) fn start(self: &Arc<Self>, coordinators: &Arc<Coordinators>) -> Result<()> {
        let directory = coordinators.groups.manager().directory().to_owned();
        let (this, coordinators) = (Arc::clone(self), Arc::downgrade(coordinators));
        let thread = std::thread::Builder::new()
            .name("sapwood-maintenance".to_owned())
            .spawn(move || this.run_until_stopped(&coordinators))
            .map_err(|error| Error::io("start the background thread for", &directory, error))?;
        *self.thread.lock() = Some(thread);
        Ok(())
    }

    fn run_until_stopped(&self, coordinators: &Weak<Coordinators>) {
        loop {
            let Some(coordinators) = coordinators.upgrade() else { return };
            if let Err(error) = self.run(&coordinators) {
                events::maintenance_failed(&error);
                let environment = coordinators.groups.manager().environment();
                environment.metrics.maintenance_failures.increment();
            }
            drop(coordinators);
            if self.wait_for_turn() {
                return;
            }
        }
    }

    /// Waits until the next turn is due; `true` if there is none.
    fn wait_for_turn(&self) -> bool {
        let mut stopped = self.stopped.lock();
        loop {
            if *stopped {
                return true;
            }
            let now = nanos(self.clock.monotonic());
            let next = self.next_turn.load(Ordering::Acquire);
            if next <= now {
                return false;
            }
            // A manual clock may stand still: look at it again after a while.
            let wait = Duration::from_nanos(next - now).min(TURN_MAX);
            self.woken.wait_for(&mut stopped, wait);
        }
    }

    /// Ends the background thread, after the turn it is in. When this returns the thread holds
    /// nothing of the broker any more, so that the directory is free as soon as its owner lets go
    /// of it.
    ///
    /// The thread itself may get here, when it drops the last handle: it cannot wait for itself.
    pub(crate) fn stop(&self) {
        *self.stopped.lock() = true;
        self.woken.notify_all();
        let thread = self.thread.lock().take();
        if let Some(thread) = thread.filter(|thread| thread.thread().id() != current().id()) {
            // A panic in it was told where panics are told; ended it is all the same.
            let _ = thread.join();
        }
    }

    /// Ends the thread, and has the upper layers write out what they hold.
    pub(crate) fn close(&self) -> Result<()> {
        self.stop();
        // Waits for a turn that somebody runs by hand.
        let _turn = self.turn.lock();
        let chores: Vec<_> = self.chores.lock().iter().filter_map(Weak::upgrade).collect();
        let mut result = Ok(());
        for chore in chores {
            result = result.and(chore.close());
        }
        result
    }

    /// One turn: does everything that is due. Goes on after a failure, and returns the first.
    pub(crate) fn run(&self, coordinators: &Coordinators) -> Result<()> {
        let groups = &coordinators.groups;
        let mut turn = self.turn.lock();
        let _span = events::maintaining();
        let now = self.clock.monotonic();
        // Whoever asks for an earlier turn from here on is heard.
        self.next_turn.store(u64::MAX, Ordering::Release);
        let mut next = now + TURN_MAX;
        let mut failures = Failures::default();
        if let Some(due) = self.run_chores(now) {
            next = next.min(due);
        }
        let topics = groups.manager().topics();
        let mut written = Written { topics: &topics, clock: &*self.clock, due: Duration::ZERO };
        written.flush_due(&mut failures);
        for topic in topics.iter().filter(|topic| flush_interval(topic).is_none()) {
            // Batches that nobody waits for become visible here.
            for log in topic.logs().iter() {
                failures.note(log, log.flush());
                written.flush_due(&mut failures);
            }
        }
        if now.saturating_sub(turn.last_checkpoint) >= CHECKPOINT_INTERVAL / 2 {
            turn.last_checkpoint = now;
            for log in topics.iter().flat_map(|topic| topic.logs().to_vec()) {
                failures.note(&log, log.sync_checkpoint());
                written.flush_due(&mut failures);
            }
            #[cfg(feature = "metrics")]
            publish(coordinators);
        }
        let by_clock = now.saturating_sub(turn.last_retention) >= self.retention_check_interval;
        if by_clock {
            turn.last_retention = now;
        }
        let ages = turn.age_clock.read(&*self.clock);
        for topic in topics.iter().filter(|topic| by_clock || topic.room().is_wanted()) {
            apply_retention(topic, groups, ages, &mut written, &mut failures);
        }
        next = next.min(written.due);
        // The thread may be waiting for a later time, if this turn was run by hand.
        self.wake_by(next);
        failures.first()
    }

    fn run_chores(&self, now: Duration) -> Option<Duration> {
        let chores: Vec<_> = {
            let mut chores = self.chores.lock();
            chores.retain(|chore| chore.strong_count() > 0);
            chores.iter().filter_map(Weak::upgrade).collect()
        };
        chores.iter().filter_map(|chore| chore.run(now)).min()
    }
}

/// Hands the counters to whatever recorder the program has.
#[cfg(feature = "metrics")]
fn publish(coordinators: &Coordinators) {
    // A broker that is being closed has nothing to tell any more.
    if let Ok(snapshot) = coordinators.snapshot() {
        snapshot.publish(&coordinators.groups.manager().directory().to_string_lossy());
    }
}

/// The topics under `Written`, and when the first of their logs has to be synced. Everything else in
/// a turn may take its time, and asks in between.
struct Written<'a> {
    topics: &'a [Topic],
    clock: &'a dyn Clock,
    due: Duration,
}

impl Written<'_> {
    /// Syncs what is due. Costs a look at the clock when nothing is.
    fn flush_due(&mut self, failures: &mut Failures) {
        if self.clock.monotonic() < self.due {
            return;
        }
        self.due = Duration::MAX;
        for topic in self.topics {
            let Some(interval) = flush_interval(topic) else { continue };
            for log in topic.logs().iter() {
                let wait = log.flush_if_due(interval).unwrap_or_else(|error| {
                    failures.note(log, Err(error));
                    interval
                });
                self.due = self.due.min(self.clock.monotonic().saturating_add(wait));
            }
        }
    }
}

/// `None` for a topic whose sends are answered after a sync anyway.
fn flush_interval(topic: &Topic) -> Option<Duration> {
    match topic.shared_config().durability {
        Durability::Fsync => None,
        Durability::Written { flush_interval } => Some(flush_interval),
    }
}

fn apply_retention(
    topic: &Topic,
    groups: &GroupCoordinator,
    now: Timestamp,
    written: &mut Written<'_>,
    failures: &mut Failures,
) {
    let config = topic.shared_config();
    for log in topic.logs().iter() {
        let consumed = groups.consumed(&config.retention_groups, log.topic_partition());
        failures.note(log, log.apply_retention(now, consumed).map(drop));
        written.flush_due(failures);
    }
    topic.room().changed();
}

/// Keeps the first failure of a turn. What happens to a log that was closed or deleted meanwhile is
/// none: its files may be gone.
#[derive(Debug, Default)]
struct Failures(Option<Error>);

impl Failures {
    fn note(&mut self, log: &PartitionLog, result: Result<()>) {
        if let Err(error) = result
            && !log.is_closed()
        {
            self.0.get_or_insert(error);
        }
    }

    fn first(self) -> Result<()> {
        self.0.map_or(Ok(()), Err)
    }
}

/// The wall clock by which records age.
///
/// A wall clock that is set a year ahead would make every record a year old, and a single retention
/// run would delete them all (contract, clause 32). So this one follows the wall clock only as long
/// as that moves at about the pace of the monotonic clock; after a jump it goes on from where it
/// was, until the broker is opened again.
#[derive(Debug, Clone, Copy)]
struct AgeClock {
    wall: Timestamp,
    monotonic: Duration,
}

/// A correction of up to this much between two looks is believed.
const JUMP_MAX: Duration = Duration::from_secs(60);

impl AgeClock {
    fn read(&mut self, clock: &dyn Clock) -> Timestamp {
        let monotonic = clock.monotonic();
        let expected = self.wall.saturating_add(monotonic.saturating_sub(self.monotonic));
        let actual = clock.now();
        let jumped = actual > expected.saturating_add(JUMP_MAX)
            || actual < expected.saturating_sub(JUMP_MAX);
        *self = Self { wall: if jumped { expected } else { actual }, monotonic };
        self.wall
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::ManualClock;

    const T0: Timestamp = Timestamp::from_millis(1_700_000_000_000);

    #[test]
    fn records_do_not_age_by_a_jump_of_the_wall_clock() {
        let clock = ManualClock::new(T0);
        let mut ages = AgeClock { wall: T0, monotonic: clock.monotonic() };
        let year = Duration::from_secs(365 * 24 * 60 * 60);
        for jump in [T0.saturating_add(year), T0.saturating_sub(year)] {
            clock.jump_to(jump);
            let before = ages.wall;
            clock.advance(Duration::from_secs(10));
            assert_eq!(ages.read(&clock), before.saturating_add(Duration::from_secs(10)));
        }
    }

    #[test]
    fn small_corrections_of_the_wall_clock_are_followed() {
        let clock = ManualClock::new(T0);
        let mut ages = AgeClock { wall: T0, monotonic: clock.monotonic() };
        let corrected = T0.saturating_add(Duration::from_secs(59));
        clock.jump_to(corrected);
        assert_eq!(ages.read(&clock), corrected);
    }
}
