//! The bound on what a producer buffers: `buffer.memory`.

use crate::concurrency::{Condvar, Mutex};
use crate::time::Deadline;

/// Counts the bytes that batches may take, and lets threads wait for some to be released. Any
/// thread may call anything.
#[derive(Debug)]
pub(super) struct BufferMemory {
    limit: usize,
    state: Mutex<State>,
    released: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Never above the limit.
    used: usize,
    /// How many threads wait.
    waiting: usize,
}

impl BufferMemory {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, state: Mutex::default(), released: Condvar::new() }
    }

    /// How many bytes there are in all.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// How many bytes could be reserved now.
    pub(super) fn available(&self) -> usize {
        self.limit - self.state.lock().used
    }

    /// Reserves bytes if they are there.
    pub(super) fn try_reserve(&self, bytes: usize) -> Option<Reservation<'_>> {
        let mut state = self.state.lock();
        if bytes > self.limit - state.used {
            return None;
        }
        state.used += bytes;
        Some(Reservation { memory: self, bytes })
    }

    /// Waits until this many bytes are there, and says whether they are; somebody else may still be
    /// faster. At the deadline it gives up.
    pub(super) fn wait_for(&self, bytes: usize, deadline: Deadline) -> bool {
        let mut state = self.state.lock();
        state.waiting += 1;
        while bytes > self.limit - state.used {
            match deadline.instant() {
                Some(instant) => {
                    if self.released.wait_until(&mut state, instant).timed_out() {
                        break;
                    }
                }
                None => self.released.wait(&mut state),
            }
        }
        state.waiting -= 1;
        bytes <= self.limit - state.used
    }

    /// Gives back what a [`Reservation`] was turned into.
    pub(super) fn release(&self, bytes: usize) {
        let mut state = self.state.lock();
        debug_assert!(bytes <= state.used, "{bytes} bytes released of {}", state.used);
        state.used = state.used.saturating_sub(bytes);
        if state.waiting > 0 {
            self.released.notify_all();
        }
    }
}

/// Reserved bytes. Dropped, they are free again, so that no error on the way leaks any.
#[derive(Debug)]
pub(super) struct Reservation<'a> {
    memory: &'a BufferMemory,
    bytes: usize,
}

impl Reservation<'_> {
    /// Hands the bytes over to a batch, whose end releases them.
    pub(super) fn into_bytes(mut self) -> usize {
        std::mem::take(&mut self.bytes)
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.memory.release(self.bytes);
        }
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
    fn no_more_is_reserved_than_there_is_and_a_dropped_reservation_is_free_again() {
        let memory = BufferMemory::new(100);
        let first = memory.try_reserve(60).unwrap();
        assert!(memory.try_reserve(41).is_none());
        let second = memory.try_reserve(40).unwrap();
        assert_eq!(memory.available(), 0);
        drop(first);
        assert_eq!(memory.available(), 60);
        memory.release(second.into_bytes());
        assert_eq!(memory.available(), 100);
        assert!(memory.try_reserve(usize::MAX).is_none());
    }

    #[test]
    fn a_waiting_thread_goes_on_when_enough_is_released() {
        let memory = BufferMemory::new(100);
        let held = memory.try_reserve(100).unwrap();
        assert!(!memory.wait_for(1, Deadline::after(Duration::ZERO)));
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| memory.wait_for(70, Deadline::NEVER));
            memory.release(30);
            memory.release(40);
            assert!(waiting.join().unwrap());
        });
        memory.state.lock().used += 70;
        drop(held);
        assert_eq!(memory.available(), 100);
    }
}
