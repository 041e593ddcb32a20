//! Time through one seam: record timestamps, the clock they come from, and deadlines for waits.
//!
//! Two kinds of time are kept apart (contract, clause 32). The *wall clock* stamps records and ages
//! them; it may jump. The *monotonic clock* measures how long something has taken: linger, flush
//! interval, check intervals. Waiting threads wait on the operating system's monotonic clock
//! whichever [`Clock`] is in use, so a manual clock can never hang a caller.

use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A point in wall-clock time as Kafka stores it: milliseconds since 1970-01-01T00:00:00Z.
///
/// `-1` ([`Timestamp::NONE`]) means that a record carries no timestamp.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// No timestamp, stored as `-1`.
    pub const NONE: Timestamp = Timestamp(-1);

    /// From milliseconds since the Unix epoch.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// The time that lies `duration` earlier, or the earliest one that can be expressed.
    #[must_use]
    pub fn saturating_sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)))
    }

    /// The time that lies `duration` later, or the latest one that can be expressed.
    #[must_use]
    pub fn saturating_add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)))
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        let millis = match time.duration_since(UNIX_EPOCH) {
            // Without the 128 bits that `as_millis` takes: this is asked for every batch.
            Ok(after) => i64::try_from(after.as_secs())
                .ok()
                .and_then(|seconds| seconds.checked_mul(1_000))
                .map_or(i64::MAX, |millis| millis.saturating_add(after.subsec_millis().into())),
            Err(before) => {
                i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |millis| -millis)
            }
        };
        Self(millis)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Timestamp({})", self.0)
    }
}

/// Where a broker takes its time from.
///
/// [`SystemClock`] is the default. Tests give the broker a [`ManualClock`] and decide themselves
/// when linger, flush intervals and retention have passed.
pub trait Clock: fmt::Debug + Send + Sync {
    /// The wall clock. May jump in either direction.
    fn now(&self) -> Timestamp;

    /// Time since some fixed moment. Never goes backwards.
    fn monotonic(&self) -> Duration;
}

/// The operating system's clocks.
#[derive(Debug)]
pub struct SystemClock {
    started: Instant,
}

impl SystemClock {
    /// A clock whose monotonic time starts now.
    #[allow(clippy::disallowed_methods)] // the one place that may
    pub fn new() -> Self {
        Self { started: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods)]
    fn now(&self) -> Timestamp {
        Timestamp::from(SystemTime::now())
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }
}

/// A clock that moves only when told to.
///
/// ```
/// use std::time::Duration;
/// use sapwood::{Clock, ManualClock, Timestamp};
///
/// let clock = ManualClock::new(Timestamp::from_millis(1_700_000_000_000));
/// clock.advance(Duration::from_secs(5));
/// assert_eq!(clock.now(), Timestamp::from_millis(1_700_000_005_000));
/// ```
#[derive(Debug)]
pub struct ManualClock {
    wall_millis: AtomicI64,
    monotonic_nanos: AtomicU64,
}

impl ManualClock {
    /// A clock that shows `now` until it is moved.
    pub fn new(now: Timestamp) -> Self {
        Self { wall_millis: AtomicI64::new(now.as_millis()), monotonic_nanos: AtomicU64::new(0) }
    }

    /// Moves both clocks forward.
    pub fn advance(&self, duration: Duration) {
        let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.wall_millis.fetch_add(millis, Ordering::SeqCst);
        self.monotonic_nanos.fetch_add(nanos, Ordering::SeqCst);
    }

    /// Lets the wall clock alone jump, in either direction, as an administrator or a time server
    /// can make it do.
    pub fn jump_to(&self, now: Timestamp) {
        self.wall_millis.store(now.as_millis(), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.wall_millis.load(Ordering::SeqCst))
    }

    fn monotonic(&self) -> Duration {
        Duration::from_nanos(self.monotonic_nanos.load(Ordering::SeqCst))
    }
}

/// When a wait ends, on the operating system's monotonic clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline(Option<Instant>);

impl Deadline {
    /// `timeout` from now. A timeout too long to express never ends.
    #[allow(clippy::disallowed_methods)]
    pub(crate) fn after(timeout: Duration) -> Self {
        Self(Instant::now().checked_add(timeout))
    }

    /// Never.
    #[cfg(test)]
    pub(crate) const NEVER: Deadline = Deadline(None);

    /// The instant to hand to a condition variable; `None` waits without end.
    pub(crate) fn instant(self) -> Option<Instant> {
        self.0
    }

    /// Whether it lies in the past.
    #[allow(clippy::disallowed_methods)]
    pub(crate) fn has_passed(self) -> bool {
        self.0.is_some_and(|instant| Instant::now() >= instant)
    }

    /// The earlier of this deadline and one `timeout` from now.
    pub(crate) fn capped(self, timeout: Duration) -> Self {
        let other = Self::after(timeout);
        match (self.0, other.0) {
            (Some(a), Some(b)) => Self(Some(a.min(b))),
            (a, b) => Self(a.or(b)),
        }
    }
}

/// Measures how long something took, for metrics.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts measuring.
    #[allow(clippy::disallowed_methods)]
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    /// Time since the start.
    pub(crate) fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_before_1970_are_negative() {
        let time = UNIX_EPOCH - Duration::from_millis(1500);
        assert_eq!(Timestamp::from(time), Timestamp::from_millis(-1500));
    }

    #[test]
    fn arithmetic_saturates_instead_of_wrapping() {
        let huge = Duration::from_secs(u64::MAX);
        assert_eq!(Timestamp::from_millis(5).saturating_add(huge).as_millis(), i64::MAX);
        assert_eq!(Timestamp::from_millis(-5).saturating_sub(huge).as_millis(), i64::MIN);
    }

    #[test]
    fn a_wall_clock_jump_leaves_the_monotonic_clock_alone() {
        let clock = ManualClock::new(Timestamp::from_millis(1_000));
        clock.advance(Duration::from_millis(10));
        clock.jump_to(Timestamp::from_millis(-7));
        assert_eq!(clock.now(), Timestamp::from_millis(-7));
        assert_eq!(clock.monotonic(), Duration::from_millis(10));
    }

    #[test]
    fn a_deadline_too_far_away_never_passes() {
        assert!(Deadline::after(Duration::MAX).instant().is_none());
        assert!(!Deadline::NEVER.has_passed());
        assert!(Deadline::after(Duration::ZERO).has_passed());
    }
}
