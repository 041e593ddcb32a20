//! Which logs hold files open, so that a process with many partitions does not run out of
//! descriptors: [`OpenLogs`].
//!
//! A log opens its files when it is first appended to, and is then on the list. Once the list is
//! full, a log that has not been appended to for a while is taken off it for every one that is
//! added, and has to let go of its files. Which one is found by the second-chance rule, also called
//! CLOCK (Corbató, "A Paging Experiment with the Multics System", 1968), an approximation of least
//! recently used that costs an append no more than a store to memory of its own: each log notes
//! that it was used, and the first one without a note goes; those before it lose their notes.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

/// Whether something was used since anybody last asked.
#[derive(Debug, Default)]
pub(crate) struct UseMark(AtomicBool);

impl UseMark {
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

/// What can be told to have been used.
pub(crate) trait Marked {
    fn use_mark(&self) -> &UseMark;
}

/// The logs that hold files open, in the order in which they will be looked at.
#[derive(Debug)]
pub(crate) struct OpenLogs<T> {
    limit: usize,
    open: Mutex<VecDeque<Weak<T>>>,
}

/// Any number of logs.
impl<T> Default for OpenLogs<T> {
    fn default() -> Self {
        Self { limit: usize::MAX, open: Mutex::default() }
    }
}

impl<T: Marked> OpenLogs<T> {
    /// A list of at most `limit` logs, and of one at least.
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit: limit.max(1), open: Mutex::default() }
    }

    /// Adds a log that is not on the list. Returns those that are no longer on it and have to let go
    /// of their files.
    pub(crate) fn admit(&self, newcomer: Weak<T>) -> Vec<Arc<T>> {
        let mut victims = Vec::new();
        let mut open = self.open.lock();
        // One round takes all notes away, so that the second one finds somebody.
        while open.len() >= self.limit {
            let Some(candidate) = open.pop_front() else { break };
            let Some(log) = candidate.upgrade() else { continue };
            if log.use_mark().take() {
                open.push_back(candidate);
            } else {
                victims.push(log);
            }
        }
        open.push_back(newcomer);
        victims
    }

    /// Puts a log back that could not let go, in spite of the limit.
    pub(crate) fn readmit(&self, log: Weak<T>) {
        self.open.lock().push_back(log);
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.open.lock().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Log(char, UseMark);

    impl Marked for Log {
        fn use_mark(&self) -> &UseMark {
            &self.1
        }
    }

    fn logs() -> Vec<Arc<Log>> {
        ('a'..='e').map(|name| Arc::new(Log(name, UseMark::default()))).collect()
    }

    fn names(logs: &[Arc<Log>]) -> String {
        logs.iter().map(|log| log.0).collect()
    }

    #[test]
    fn nobody_has_to_go_before_the_list_is_full() {
        let (list, logs) = (OpenLogs::new(5), logs());
        for log in &logs {
            assert_eq!(names(&list.admit(Arc::downgrade(log))), "");
        }
    }

    #[test]
    fn the_first_that_was_not_used_since_it_was_last_looked_at_goes() {
        let (list, logs) = (OpenLogs::new(3), logs());
        logs[..3].iter().for_each(|log| drop(list.admit(Arc::downgrade(log))));
        logs[0].1.set();
        logs[2].1.set();
        assert_eq!(names(&list.admit(Arc::downgrade(&logs[3]))), "b");
        logs[3].1.set();
        // c, a and d were used, and lose their marks in this order; then it is c's turn.
        logs[0].1.set();
        assert_eq!(names(&list.admit(Arc::downgrade(&logs[4]))), "c");
        assert_eq!(list.len(), 3);
    }

    #[test]
    fn a_log_that_is_gone_makes_room() {
        let (list, mut logs) = (OpenLogs::new(2), logs());
        logs[..2].iter().for_each(|log| drop(list.admit(Arc::downgrade(log))));
        logs.remove(0);
        assert_eq!(names(&list.admit(Arc::downgrade(&logs[1]))), "");
        assert_eq!(list.len(), 2);
    }

    #[test]
    fn one_that_could_not_let_go_is_asked_again() {
        let (list, logs) = (OpenLogs::new(1), logs());
        list.admit(Arc::downgrade(&logs[0]));
        let victims = list.admit(Arc::downgrade(&logs[1]));
        assert_eq!(names(&victims), "a");
        list.readmit(Arc::downgrade(&logs[0]));
        assert_eq!(list.len(), 2, "one more than the limit");
        assert_eq!(names(&list.admit(Arc::downgrade(&logs[2]))), "ba");
    }
}
