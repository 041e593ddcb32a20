//! What a member and its group share without a lock: the member says that it is alive, the group that
//! there is news.
//!
//! A poll of a member that nothing has changed for is one exchange and one load here. Whether a member is
//! still in its group is decided in one word, so that a poll and its expiry cannot both win: either the
//! poll comes first, and the member is alive for another interval, or it finds that it is out.

use std::sync::Arc;
use std::time::Duration;

use crate::concurrency::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::log::end_offsets::Wakeup;

/// It waits in a poll, and is alive as long as it does.
const WAITING: u64 = u64::MAX - 2;
/// Its group has gone on without it: it has not polled for too long.
const EXPIRED: u64 = u64::MAX - 1;
/// Another member has come under its instance id.
const REPLACED: u64 = u64::MAX;

/// Why a member is in its group no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It did not poll for too long.
    Expired,
    /// Another consumer has its instance id now.
    Replaced,
}

/// The member's thread beats and waits; threads of other members expire it and announce.
#[derive(Debug)]
pub(crate) struct Pulse {
    /// When it last polled, in nanoseconds of the broker's monotonic clock; or one of the words above.
    /// Those that end it are never changed again.
    last_poll: AtomicU64,
    /// Something has changed for it.
    news: AtomicBool,
    wakeup: Arc<Wakeup>,
}

impl Pulse {
    /// Of a member that has joined just now.
    pub(crate) fn new(now: Duration, wakeup: Arc<Wakeup>) -> Self {
        Self { last_poll: AtomicU64::new(nanos(now)), news: AtomicBool::new(false), wakeup }
    }

    /// The member polls.
    ///
    /// # Errors
    ///
    /// Why it is in the group no more.
    pub(crate) fn beat(&self, now: Duration) -> Result<(), Ended> {
        self.say(nanos(now))
    }

    /// The member begins to wait: it is alive until it beats again, however long that takes.
    pub(crate) fn wait(&self) -> Result<(), Ended> {
        self.say(WAITING)
    }

    fn say(&self, word: u64) -> Result<(), Ended> {
        let before = self.last_poll.load(Ordering::Relaxed);
        if let Some(ended) = ended(before) {
            return Err(ended);
        }
        // Nobody but the member itself writes another time: if this fails, it was ended.
        let said =
            self.last_poll.compare_exchange(before, word, Ordering::AcqRel, Ordering::Acquire);
        said.map(drop).map_err(|now| ended(now).unwrap_or(Ended::Expired))
    }

    /// Ends the member if it has not polled for longer than `interval`. Whether it is out, now or since
    /// before.
    pub(crate) fn expire(&self, now: Duration, interval: Duration) -> bool {
        let last = self.last_poll.load(Ordering::Acquire);
        if ended(last).is_some() {
            return true;
        }
        let silent = now.saturating_sub(Duration::from_nanos(last));
        last != WAITING
            && silent > interval
            && self
                .last_poll
                .compare_exchange(last, EXPIRED, Ordering::AcqRel, Ordering::Acquire)
                .is_ok()
    }

    /// Ends the member: another one has its instance id now.
    pub(crate) fn replace(&self) {
        self.last_poll.swap(REPLACED, Ordering::AcqRel);
    }

    pub(crate) fn ended(&self) -> Option<Ended> {
        ended(self.last_poll.load(Ordering::Acquire))
    }

    #[cfg(test)]
    pub(crate) fn is_waiting(&self) -> bool {
        self.last_poll.load(Ordering::Acquire) == WAITING
    }

    /// Tells the member that something has changed for it, and wakes it if it waits.
    pub(crate) fn announce(&self) {
        self.news.store(true, Ordering::Release);
        self.wakeup.wake();
    }

    /// Whether something was announced since this was last asked.
    pub(crate) fn take_news(&self) -> bool {
        self.news.load(Ordering::Relaxed) && self.news.swap(false, Ordering::AcqRel)
    }
}

fn ended(word: u64) -> Option<Ended> {
    match word {
        EXPIRED => Some(Ended::Expired),
        REPLACED => Some(Ended::Replaced),
        _ => None,
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).map_or(WAITING - 1, |nanos| nanos.min(WAITING - 1))
}

#[cfg(test)]
#[cfg(loom)]
mod loom_tests;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Deadline;

    const MINUTE: Duration = Duration::from_secs(60);

    fn pulse() -> Pulse {
        Pulse::new(Duration::ZERO, Arc::default())
    }

    #[test]
    fn a_member_that_polls_often_enough_is_never_expired() {
        let pulse = pulse();
        for n in 1..10 {
            assert!(!pulse.expire(MINUTE * n, MINUTE), "exactly as long as allowed");
            pulse.beat(MINUTE * n).unwrap();
        }
    }

    #[test]
    fn a_member_that_was_expired_finds_out_with_its_next_poll() {
        let pulse = pulse();
        assert!(pulse.expire(MINUTE + Duration::from_nanos(1), MINUTE));
        assert_eq!(pulse.beat(MINUTE * 2), Err(Ended::Expired));
        assert_eq!(pulse.wait(), Err(Ended::Expired));
        assert!(pulse.expire(Duration::ZERO, MINUTE), "and stays out");
    }

    #[test]
    fn a_member_that_waits_in_a_poll_is_alive_however_long_it_takes() {
        let pulse = pulse();
        pulse.wait().unwrap();
        assert!(!pulse.expire(MINUTE * 100, MINUTE));
        pulse.beat(MINUTE * 100).unwrap();
        assert!(!pulse.expire(MINUTE * 101, MINUTE), "the interval begins when the wait ends");
    }

    #[test]
    fn a_replaced_member_is_told_so_also_while_it_waits() {
        let pulse = pulse();
        pulse.wait().unwrap();
        pulse.replace();
        assert_eq!(pulse.beat(MINUTE), Err(Ended::Replaced));
        assert_eq!(pulse.ended(), Some(Ended::Replaced));
    }

    #[test]
    fn news_are_taken_once_and_wake_whoever_waits() {
        let wakeup = Arc::new(Wakeup::default());
        let pulse = Pulse::new(Duration::ZERO, Arc::clone(&wakeup));
        assert!(!pulse.take_news());
        pulse.announce();
        assert!(wakeup.wait(Deadline::after(Duration::ZERO)));
        assert!(pulse.take_news() && !pulse.take_news());
    }

    #[test]
    fn of_a_poll_and_an_expiry_at_the_same_time_exactly_one_wins() {
        for _ in 0..1_000 {
            let pulse = pulse();
            let (polled, expired) = std::thread::scope(|scope| {
                let poll = scope.spawn(|| pulse.beat(MINUTE * 2).is_ok());
                let expiry = scope.spawn(|| pulse.expire(MINUTE * 2, MINUTE));
                (poll.join().unwrap(), expiry.join().unwrap())
            });
            assert_ne!(polled, expired);
        }
    }
}
