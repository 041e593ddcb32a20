//! Until when what is not synced may stay so, under [`Durability::Written`].
//!
//! A power cut may take the records of one flush interval (contract, clause 2). Whoever appends
//! looks here first, and once the oldest unsynced batch is as old as the interval it waits for a
//! sync: however slow the disk is, the records that can be lost were acknowledged within one
//! interval of each other.
//!
//! [`Durability::Written`]: crate::Durability::Written

use std::time::Duration;

/// The deadlines of the oldest batches that are not synced, by the monotonic clock. Lives under the
/// append lock.
#[derive(Debug, Default)]
pub(super) struct FlushDeadline {
    /// Of the first batch that no sync has begun for.
    waiting: Option<Duration>,
    /// Of the first batch that the running sync is for. Never later than `waiting`.
    syncing: Option<Duration>,
}

impl FlushDeadline {
    /// What an open has found beyond the recovery point: nobody knows for how long it has been
    /// there.
    pub(super) fn passed() -> Self {
        Self { waiting: Some(Duration::ZERO), syncing: None }
    }

    /// A batch was appended that has to be synced by then.
    pub(super) fn note(&mut self, deadline: Duration) {
        self.waiting.get_or_insert(deadline);
    }

    /// A sync begins, for everything noted so far.
    pub(super) fn begin_sync(&mut self) {
        self.syncing = self.syncing.or(self.waiting);
        self.waiting = None;
    }

    /// The sync has succeeded. After one that failed the log takes no more appends.
    pub(super) fn end_sync(&mut self) {
        self.syncing = None;
    }

    /// The deadline of the oldest batch that is not synced.
    pub(super) fn earliest(&self) -> Option<Duration> {
        self.syncing.or(self.waiting)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc::channel;
    use std::thread;

    use super::*;
    use crate::fs::faults::Operation;
    use crate::log::PartitionLog;
    use crate::log::fixture::{Fixture, WRITTEN, append, config};

    const SECOND: Duration = Duration::from_secs(1);

    fn append_one(log: &PartitionLog) {
        append(log, &["x"]).unwrap();
    }

    #[test]
    fn an_append_waits_for_a_sync_of_what_is_as_old_as_the_flush_interval() {
        let fixture = Fixture::new(config(WRITTEN));
        let log = fixture.open();
        append_one(&log);
        fixture.clock.advance(SECOND * 9 / 10);
        append_one(&log);
        assert_eq!(log.recovery_point(), 0, "the first may wait a little longer");
        fixture.clock.advance(SECOND / 10);
        append_one(&log);
        assert_eq!(log.recovery_point(), 2, "all but the last");
    }

    #[test]
    fn an_append_waits_also_for_what_the_running_sync_has_not_answered_for() {
        // Through a window, so that an append makes no call: they wait for each other here.
        let fixture = Fixture::with_window(config(WRITTEN));
        let log = Arc::new(fixture.open());
        append_one(&log);
        let (reached, syncing) = channel();
        let (go_on, may_return) = channel::<()>();
        let ends = std::sync::Mutex::new((reached, may_return));
        fixture.fs.fail_when(move |operation, path| {
            if operation == Operation::SyncData && path.ends_with("00000000000000000000.log") {
                let ends = ends.lock().unwrap();
                // From the second sync on nobody listens any more.
                if ends.0.send(()).is_ok() {
                    ends.1.recv().ok();
                }
            }
            None
        });
        let flush = thread::spawn({
            let log = Arc::clone(&log);
            move || log.flush()
        });
        syncing.recv().unwrap();
        fixture.clock.advance(SECOND);
        let (answered, is_answered) = channel();
        let appending = thread::spawn({
            let log = Arc::clone(&log);
            move || {
                append_one(&log);
                answered.send(())
            }
        });
        // Time for an append that does not wait; one that does is right at any moment.
        let early = is_answered.recv_timeout(Duration::from_millis(20));
        assert!(early.is_err(), "it was answered before the sync had returned");
        go_on.send(()).unwrap();
        drop((go_on, syncing));
        flush.join().unwrap().unwrap();
        appending.join().unwrap().unwrap();
        assert_eq!((log.recovery_point(), log.ends().log_end()), (1, 2));
    }

    #[test]
    fn what_a_kill_has_left_unsynced_is_synced_before_anything_is_added() {
        let fixture = Fixture::new(config(WRITTEN));
        let log = fixture.open();
        append_one(&log);
        drop(log);
        let log = fixture.open();
        assert_eq!((log.recovery_point(), log.ends().log_end()), (0, 1));
        append_one(&log);
        assert_eq!(log.recovery_point(), 1);
    }

    #[test]
    fn what_a_kill_has_left_unsynced_is_flushed_as_soon_as_anybody_looks() {
        let fixture = Fixture::new(config(WRITTEN));
        append_one(&fixture.open());
        let log = fixture.open();
        log.flush_if_due(SECOND).unwrap();
        assert_eq!(log.recovery_point(), 1);
    }
}
