//! One sync for everyone who waits, and the end of it all when a sync fails.
//!
//! The first thread to ask syncs; those who come while it does wait for it to return, and then one
//! of them syncs for all of them. There is no timer: the next sync starts when the last one has
//! returned, and takes along everything written meanwhile. This is the leader/follower scheme that
//! databases call group commit.
//!
//! After a failed sync the kernel has marked the pages clean, so that a second sync would succeed
//! over lost data (contract, clause 9). The failure is therefore final: it is kept here, and every
//! later request is answered with it.

use std::sync::Arc;

use crate::concurrency::{Condvar, Mutex, MutexGuard, OnceLock};
use crate::error::Error;

/// Who syncs, and how far everything is synced. Any thread may ask.
#[derive(Debug)]
pub(crate) struct FlushQueue {
    state: Mutex<State>,
    returned: Condvar,
    failure: OnceLock<Arc<Error>>,
}

#[derive(Debug)]
struct State {
    /// Every offset below it is synced: the recovery point.
    recovery_point: u64,
    /// Somebody is syncing.
    syncing: bool,
}

impl FlushQueue {
    pub(crate) fn new(recovery_point: u64) -> Self {
        let state = State { recovery_point, syncing: false };
        Self { state: Mutex::new(state), returned: Condvar::new(), failure: OnceLock::new() }
    }

    /// Every offset below it is synced.
    pub(crate) fn recovery_point(&self) -> u64 {
        self.state.lock().recovery_point
    }

    /// Another process has synced up to here.
    pub(crate) fn follow_to(&self, offset: u64) {
        let mut state = self.state.lock();
        state.recovery_point = state.recovery_point.max(offset);
    }

    /// What stopped the log, if anything has.
    pub(crate) fn failure(&self) -> Option<&Arc<Error>> {
        self.failure.get()
    }

    /// Stops the log for good. The first failure is the one that is told.
    pub(crate) fn fail(&self, error: Error) -> Arc<Error> {
        Arc::clone(self.failure.get_or_init(|| Arc::new(error)))
    }

    /// Returns once every offset below `offset` is synced.
    ///
    /// `sync` syncs everything whose write has completed before it began, and says up to which
    /// offset that is. It runs without a lock of the queue being held, and in one thread at a time.
    pub(crate) fn reach(
        &self,
        offset: u64,
        mut sync: impl FnMut() -> Result<u64, Error>,
    ) -> Result<(), Arc<Error>> {
        let mut state = self.state.lock();
        loop {
            if let Some(failure) = self.failure() {
                return Err(Arc::clone(failure));
            }
            if state.recovery_point >= offset {
                return Ok(());
            }
            if state.syncing {
                self.returned.wait(&mut state);
            } else {
                state = self.lead(state, &mut sync);
            }
        }
    }

    /// Returns once nobody is syncing.
    pub(crate) fn wait_until_idle(&self) {
        let mut state = self.state.lock();
        while state.syncing {
            self.returned.wait(&mut state);
        }
    }

    /// Syncs in any case, also if there is no offset to be reached.
    pub(crate) fn sync_now(
        &self,
        mut sync: impl FnMut() -> Result<u64, Error>,
    ) -> Result<(), Arc<Error>> {
        let mut state = self.state.lock();
        while state.syncing {
            self.returned.wait(&mut state);
        }
        if self.failure().is_none() {
            drop(self.lead(state, &mut sync));
        }
        self.failure().map_or(Ok(()), |failure| Err(Arc::clone(failure)))
    }

    /// Syncs for all who wait, without the lock.
    fn lead<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        sync: &mut dyn FnMut() -> Result<u64, Error>,
    ) -> MutexGuard<'a, State> {
        state.syncing = true;
        drop(state);
        let lead = Lead { queue: self };
        let result = sync();
        lead.give_back();
        let reached = result.map_err(|error| self.fail(error));
        let mut state = self.state.lock();
        state.syncing = false;
        if let Ok(reached) = reached {
            state.recovery_point = state.recovery_point.max(reached);
        }
        self.returned.notify_all();
        state
    }
}

/// The right to sync. Dropped by a panic in the middle of it, it lets the next in line try, so that
/// nobody waits for ever.
struct Lead<'a> {
    queue: &'a FlushQueue,
}

impl Lead<'_> {
    /// The normal end: whoever led says what was reached in the same breath.
    fn give_back(self) {
        std::mem::forget(self);
    }
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        self.queue.state.lock().syncing = false;
        self.queue.returned.notify_all();
    }
}

#[cfg(test)]
#[cfg(loom)]
mod loom_tests;

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn what_is_synced_already_is_not_synced_again() {
        let queue = FlushQueue::new(10);
        queue.reach(10, || unreachable!("nothing to do")).unwrap();
    }

    #[test]
    fn those_who_wait_share_the_next_sync() {
        let queue = Arc::new(FlushQueue::new(0));
        let (written, syncs) = (Arc::new(AtomicU64::new(1)), Arc::new(AtomicUsize::new(0)));
        let (started, has_started) = mpsc::channel();
        let (release, may_return) = mpsc::channel::<()>();
        let leader = {
            let (queue, syncs) = (Arc::clone(&queue), Arc::clone(&syncs));
            std::thread::spawn(move || {
                queue.reach(1, || {
                    syncs.fetch_add(1, Ordering::SeqCst);
                    started.send(()).unwrap();
                    may_return.recv().unwrap();
                    Ok(1)
                })
            })
        };
        has_started.recv().unwrap();
        // Written while the first sync runs: it does not answer for them.
        written.store(9, Ordering::SeqCst);
        let followers: Vec<_> = (2..=9)
            .map(|offset| {
                let (queue, written, syncs) =
                    (Arc::clone(&queue), Arc::clone(&written), Arc::clone(&syncs));
                std::thread::spawn(move || {
                    queue.reach(offset, || {
                        syncs.fetch_add(1, Ordering::SeqCst);
                        Ok(written.load(Ordering::SeqCst))
                    })
                })
            })
            .collect();
        release.send(()).unwrap();
        leader.join().unwrap().unwrap();
        for follower in followers {
            follower.join().unwrap().unwrap();
        }
        assert_eq!(syncs.load(Ordering::SeqCst), 2);
        assert_eq!(queue.recovery_point(), 9);
    }

    #[test]
    fn a_sync_that_panics_leaves_the_next_one_to_the_next_in_line() {
        let queue = Arc::new(FlushQueue::new(0));
        let leader = {
            let queue = Arc::clone(&queue);
            std::thread::spawn(move || queue.reach(1, || panic!("for the test")))
        };
        leader.join().unwrap_err();
        queue.wait_until_idle();
        queue.reach(1, || Ok(1)).unwrap();
        assert_eq!(queue.recovery_point(), 1);
    }

    #[test]
    fn a_failed_sync_is_final_and_never_repeated() {
        let queue = FlushQueue::new(0);
        let syncs = AtomicUsize::new(0);
        for _ in 0..3 {
            let answer = queue.reach(1, || {
                syncs.fetch_add(1, Ordering::SeqCst);
                Err(Error::Closed { what: "the disk" })
            });
            assert!(answer.is_err());
        }
        assert_eq!(syncs.load(Ordering::SeqCst), 1);
        assert_eq!(queue.recovery_point(), 0);
    }
}
