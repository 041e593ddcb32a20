//! Locks, condition variables and atomics of the few small types at which threads meet.
//!
//! Ordinarily these are those of `parking_lot` and of the standard library, and cost nothing more.
//! Under `--cfg loom` the unit tests get stand-ins by which loom runs a test once for every order
//! in which its threads can come, and for every value that a weakly ordered load may see
//! (`.ci/concurrency`). That is feasible only for what is small: a type that is checked so imports
//! from here, and everything else from where these come from.

#[cfg(not(all(test, loom)))]
pub(crate) use std::sync::{OnceLock, atomic};

#[cfg(all(test, loom))]
pub(crate) use loom::sync::atomic;
#[cfg(not(all(test, loom)))]
pub(crate) use parking_lot::{Condvar, Mutex, MutexGuard};

#[cfg(all(test, loom))]
pub(crate) use self::explored::{Condvar, Mutex, MutexGuard, OnceLock, explore_few_preemptions};

/// Loom's types in the shape of those that they stand in for.
#[cfg(all(test, loom))]
mod explored {
    use std::ops::{Deref, DerefMut};
    use std::time::Instant;

    use super::atomic::{AtomicBool, Ordering};

    /// Runs a test that has too many orders for all of them: in those in which threads that could
    /// go on are made to wait three times at most. `LOOM_MAX_PREEMPTIONS` allows more.
    pub(crate) fn explore_few_preemptions(test: impl Fn() + Send + Sync + 'static) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = builder.preemption_bound.or(Some(3));
        builder.check(test);
    }

    const NOT_POISONED: &str = "no test panics with a lock held";
    const HELD: &str = "a guard is without its lock only while it waits";

    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

    #[derive(Debug)]
    pub(crate) struct MutexGuard<'a, T> {
        mutex: &'a loom::sync::Mutex<T>,
        /// `None` while it waits: loom's condition variables want the guard itself.
        held: Option<loom::sync::MutexGuard<'a, T>>,
    }

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        #[track_caller]
        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            MutexGuard { mutex: &self.0, held: Some(self.0.lock().expect(NOT_POISONED)) }
        }
    }

    impl<T> Deref for MutexGuard<'_, T> {
        type Target = T;

        fn deref(&self) -> &T {
            self.held.as_deref().expect(HELD)
        }
    }

    impl<T> DerefMut for MutexGuard<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            self.held.as_deref_mut().expect(HELD)
        }
    }

    #[derive(Debug, Default)]
    pub(crate) struct Condvar(loom::sync::Condvar);

    pub(crate) struct WaitTimeoutResult(bool);

    impl Condvar {
        pub(crate) fn new() -> Self {
            Self::default()
        }

        #[track_caller]
        pub(crate) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
            let held = guard.held.take().expect(HELD);
            guard.held = Some(self.0.wait(held).expect(NOT_POISONED));
        }

        /// Loom has no time. An instant that lies in the past ends the wait after whatever others
        /// may do meanwhile; one that lies ahead never comes, so that a wake-up which is lost is
        /// found as a deadlock and not waited for.
        #[track_caller]
        pub(crate) fn wait_until<T>(
            &self,
            guard: &mut MutexGuard<'_, T>,
            instant: Instant,
        ) -> WaitTimeoutResult {
            // `Deadline` of `time.rs` stands above this module.
            #[allow(clippy::disallowed_methods)]
            let has_passed = Instant::now() >= instant;
            if has_passed {
                drop(guard.held.take());
                guard.held = Some(guard.mutex.lock().expect(NOT_POISONED));
            } else {
                self.wait(guard);
            }
            WaitTimeoutResult(has_passed)
        }

        #[track_caller]
        pub(crate) fn notify_one(&self) {
            self.0.notify_one();
        }

        #[track_caller]
        pub(crate) fn notify_all(&self) {
            self.0.notify_all();
        }
    }

    impl WaitTimeoutResult {
        pub(crate) fn timed_out(&self) -> bool {
            self.0
        }
    }

    /// Loom has none. The value is in an ordinary one; whether it is there is asked of loom, which
    /// does not let another thread run between the two.
    #[derive(Debug)]
    pub(crate) struct OnceLock<T> {
        value: std::sync::OnceLock<T>,
        is_set: AtomicBool,
    }

    impl<T> OnceLock<T> {
        pub(crate) fn new() -> Self {
            Self { value: std::sync::OnceLock::new(), is_set: AtomicBool::new(false) }
        }

        #[track_caller]
        pub(crate) fn get(&self) -> Option<&T> {
            if self.is_set.load(Ordering::Acquire) { self.value.get() } else { None }
        }

        #[track_caller]
        pub(crate) fn set(&self, value: T) -> Result<(), T> {
            self.is_set.swap(true, Ordering::AcqRel);
            self.value.set(value)
        }

        #[track_caller]
        pub(crate) fn get_or_init(&self, value: impl FnOnce() -> T) -> &T {
            self.is_set.swap(true, Ordering::AcqRel);
            self.value.get_or_init(value)
        }
    }
}
