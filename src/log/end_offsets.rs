//! The published offsets of a log, and waiting for them to move.
//!
//! Readers ask without a lock. Whoever waits (a consumer in `poll`, over any number of partitions)
//! brings a [`Wakeup`] and leaves it with each log for the time of the wait; an append looks for
//! waiters only after it has published, and finds none for the price of one load.

use std::sync::Arc;

use crate::concurrency::atomic::{AtomicU64, AtomicUsize, Ordering, fence};
use crate::concurrency::{Condvar, Mutex};
use crate::time::Deadline;

/// `log start offset <= high watermark <= log end offset`.
///
/// Any thread may read. The log start offset is moved under the log's retention lock, the log end
/// offset under its append lock, the high watermark by either an append or a flush.
#[derive(Debug)]
pub(crate) struct EndOffsets {
    log_start: AtomicU64,
    high_watermark: AtomicU64,
    log_end: AtomicU64,
    waiting: AtomicUsize,
    waiters: Mutex<Vec<Arc<Wakeup>>>,
}

impl EndOffsets {
    pub(crate) fn new(log_start: u64, high_watermark: u64, log_end: u64) -> Self {
        assert!(
            log_start <= high_watermark && high_watermark <= log_end,
            "offsets out of order: {log_start}, {high_watermark}, {log_end}"
        );
        Self {
            log_start: AtomicU64::new(log_start),
            high_watermark: AtomicU64::new(high_watermark),
            log_end: AtomicU64::new(log_end),
            waiting: AtomicUsize::new(0),
            waiters: Mutex::default(),
        }
    }

    pub(crate) fn log_start(&self) -> u64 {
        self.log_start.load(Ordering::Acquire)
    }

    pub(crate) fn high_watermark(&self) -> u64 {
        self.high_watermark.load(Ordering::Acquire)
    }

    pub(crate) fn log_end(&self) -> u64 {
        self.log_end.load(Ordering::Acquire)
    }

    /// Moves the log end offset; the bytes below it are in place (`Release` publishes them).
    pub(crate) fn advance_log_end(&self, to: u64) {
        debug_assert!(to >= self.log_end());
        self.log_end.store(to, Ordering::Release);
    }

    /// Raises the high watermark and wakes whoever waits. A lower value changes nothing.
    pub(crate) fn raise_high_watermark(&self, to: u64) {
        debug_assert!(to <= self.log_end(), "high watermark {to} beyond {}", self.log_end());
        if self.high_watermark.fetch_max(to, Ordering::AcqRel) < to {
            self.wake();
        }
    }

    /// Moves the log start offset up. It never passes the high watermark.
    pub(crate) fn advance_log_start(&self, to: u64) {
        debug_assert!(to <= self.high_watermark());
        self.log_start.fetch_max(to, Ordering::AcqRel);
    }

    /// Wakes all waiters, whatever they wait for: used when a log closes too.
    pub(crate) fn wake(&self) {
        // Pairs with the fence in `register`: either the waiter sees the new high watermark, or
        // this load sees the waiter.
        fence(Ordering::SeqCst);
        if self.waiting.load(Ordering::Relaxed) == 0 {
            return;
        }
        for waiter in self.waiters.lock().iter() {
            waiter.wake();
        }
    }

    /// Leaves a wakeup here until [`Self::unregister`]. The caller looks at the offsets again
    /// after this and before it waits.
    pub(crate) fn register(&self, wakeup: &Arc<Wakeup>) {
        self.waiters.lock().push(Arc::clone(wakeup));
        self.waiting.fetch_add(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    pub(crate) fn unregister(&self, wakeup: &Arc<Wakeup>) {
        let mut waiters = self.waiters.lock();
        if let Some(at) = waiters.iter().position(|waiter| Arc::ptr_eq(waiter, wakeup)) {
            waiters.swap_remove(at);
            self.waiting.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Wakes one waiting thread. A wake-up that comes before the wait is not lost.
#[derive(Debug, Default)]
pub(crate) struct Wakeup {
    woken: Mutex<bool>,
    condition: Condvar,
}

impl Wakeup {
    pub(crate) fn wake(&self) {
        *self.woken.lock() = true;
        self.condition.notify_one();
    }

    /// Waits until woken or the deadline has passed, and says which: `true` when woken. Forgets
    /// the wake-up.
    pub(crate) fn wait(&self, deadline: Deadline) -> bool {
        let mut woken = self.woken.lock();
        while !*woken {
            match deadline.instant() {
                Some(instant) => {
                    if self.condition.wait_until(&mut woken, instant).timed_out() {
                        break;
                    }
                }
                None => self.condition.wait(&mut woken),
            }
        }
        std::mem::take(&mut *woken)
    }
}

#[cfg(test)]
#[cfg(loom)]
mod loom_tests;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_wake_up_before_the_wait_is_not_lost() {
        let wakeup = Wakeup::default();
        wakeup.wake();
        assert!(wakeup.wait(Deadline::NEVER));
        assert!(!wakeup.wait(Deadline::after(Duration::ZERO)), "it is forgotten afterwards");
    }

    #[test]
    fn raising_the_high_watermark_wakes_those_who_registered_and_nobody_else() {
        let ends = EndOffsets::new(0, 0, 10);
        let (registered, gone) = (Arc::new(Wakeup::default()), Arc::new(Wakeup::default()));
        ends.register(&registered);
        ends.register(&gone);
        ends.unregister(&gone);
        ends.raise_high_watermark(3);
        assert!(registered.wait(Deadline::after(Duration::ZERO)));
        assert!(!gone.wait(Deadline::after(Duration::ZERO)));
        ends.raise_high_watermark(2);
        assert_eq!(ends.high_watermark(), 3);
        assert!(!registered.wait(Deadline::after(Duration::ZERO)), "nothing moved");
    }

    #[test]
    fn a_waiting_thread_sees_every_advance() {
        let ends = Arc::new(EndOffsets::new(0, 0, 1_000));
        let reader = {
            let ends = Arc::clone(&ends);
            std::thread::spawn(move || {
                let wakeup = Arc::new(Wakeup::default());
                while ends.high_watermark() < 1_000 {
                    ends.register(&wakeup);
                    if ends.high_watermark() < 1_000 {
                        assert!(wakeup.wait(Deadline::after(Duration::from_secs(60))));
                    }
                    ends.unregister(&wakeup);
                }
            })
        };
        for offset in 1..=1_000 {
            ends.raise_high_watermark(offset);
        }
        reader.join().unwrap();
    }
}
