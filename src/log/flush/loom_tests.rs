//! Goal: an answer means that the bytes are on disk, a failure is the last word, and nobody waits
//! for a sync that does not come.
//!
//! Method: loom runs each test in every order in which its threads can come. Whoever waits for ever
//! is a deadlock to it.

use std::sync::atomic::{AtomicBool as PlainBool, AtomicUsize as PlainUsize};

use loom::thread;

use super::*;
use crate::concurrency::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::concurrency::explore_few_preemptions;

/// A file of which it is known how much is on disk.
struct Disk {
    written: AtomicU64,
    synced: AtomicU64,
    /// What only an assertion asks for is plain, to keep the number of orders down.
    syncing: PlainBool,
    syncs: PlainUsize,
    /// Whether the first sync fails. The ones after it would succeed, as the kernel's do.
    fails: bool,
}

impl Disk {
    fn new(fails: bool) -> Self {
        Self {
            written: AtomicU64::new(0),
            synced: AtomicU64::new(0),
            syncing: PlainBool::new(false),
            syncs: PlainUsize::new(0),
            fails,
        }
    }

    /// Returns the offset after what was written.
    fn write(&self) -> u64 {
        self.written.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// Only what was written before it began is certain to be on disk after it.
    fn sync(&self) -> Result<u64, Error> {
        assert!(!self.syncing.swap(true, Ordering::AcqRel), "two syncs at the same time");
        let written = self.written.load(Ordering::Acquire);
        let fails = self.fails && self.syncs.load(Ordering::Relaxed) == 0;
        self.syncs.fetch_add(1, Ordering::Relaxed);
        if !fails {
            self.synced.store(written, Ordering::Release);
        }
        self.syncing.store(false, Ordering::Release);
        if fails { Err(Error::Closed { what: "the disk" }) } else { Ok(written) }
    }

    fn synced(&self) -> u64 {
        self.synced.load(Ordering::Acquire)
    }
}

fn queue_and_disk(fails: bool) -> (Arc<FlushQueue>, Arc<Disk>) {
    (Arc::new(FlushQueue::new(0)), Arc::new(Disk::new(fails)))
}

/// Writes and waits until that is synced, in a thread of its own.
fn spawn_writer(queue: &Arc<FlushQueue>, disk: &Arc<Disk>) -> thread::JoinHandle<()> {
    let (queue, disk) = (Arc::clone(queue), Arc::clone(disk));
    thread::spawn(move || write_and_reach(&queue, &disk))
}

fn write_and_reach(queue: &FlushQueue, disk: &Disk) {
    let offset = disk.write();
    queue.reach(offset, || disk.sync()).unwrap();
    assert!(disk.synced() >= offset, "answered for what is not synced");
    assert!(queue.recovery_point() >= offset);
}

#[test]
fn a_sync_never_answers_for_a_write_that_completed_after_it_began() {
    loom::model(|| {
        let (queue, disk) = queue_and_disk(false);
        let writer = spawn_writer(&queue, &disk);
        write_and_reach(&queue, &disk);
        writer.join().unwrap();
        assert_eq!((queue.recovery_point(), disk.synced()), (2, 2));
    });
}

#[test]
fn one_sync_at_a_time_serves_everyone_who_waits() {
    explore_few_preemptions(|| {
        let (queue, disk) = queue_and_disk(false);
        let writers = [(); 2].map(|()| spawn_writer(&queue, &disk));
        write_and_reach(&queue, &disk);
        for writer in writers {
            writer.join().unwrap();
        }
        assert_eq!((queue.recovery_point(), disk.synced()), (3, 3));
        assert!(disk.syncs.load(Ordering::Relaxed) <= 3, "nobody syncs what is synced");
    });
}

/// `sync_now` is for what no offset stands for: a sync that began before will not do.
#[test]
fn sync_now_begins_a_sync_of_its_own() {
    loom::model(|| {
        let (queue, disk) = queue_and_disk(false);
        let writer = spawn_writer(&queue, &disk);
        let offset = disk.write();
        queue.sync_now(|| disk.sync()).unwrap();
        assert!(disk.synced() >= offset, "answered for what is not synced");
        writer.join().unwrap();
        assert_eq!((queue.recovery_point(), disk.synced()), (2, 2));
    });
}

#[test]
fn a_failure_is_final_and_reaches_everyone() {
    explore_few_preemptions(|| {
        let (queue, disk) = queue_and_disk(true);
        let writers = [(); 2].map(|()| {
            let (queue, disk) = (Arc::clone(&queue), Arc::clone(&disk));
            thread::spawn(move || {
                let offset = disk.write();
                assert!(queue.reach(offset, || disk.sync()).is_err());
            })
        });
        assert!(queue.sync_now(|| disk.sync()).is_err());
        for writer in writers {
            writer.join().unwrap();
        }
        assert_eq!(disk.syncs.load(Ordering::Relaxed), 1, "a failed sync is not repeated");
        assert_eq!(queue.recovery_point(), 0);
    });
}

/// A checkpoint that cannot be synced stops the log beside the queue.
#[test]
fn a_failure_told_from_outside_is_final_as_well() {
    explore_few_preemptions(|| {
        let (queue, disk) = queue_and_disk(false);
        let writers = [(); 2].map(|()| {
            let (queue, disk) = (Arc::clone(&queue), Arc::clone(&disk));
            thread::spawn(move || {
                let offset = disk.write();
                match queue.reach(offset, || disk.sync()) {
                    Ok(()) => assert!(disk.synced() >= offset),
                    Err(failure) => assert!(Arc::ptr_eq(&failure, queue.failure().unwrap())),
                }
            })
        });
        let failure = queue.fail(Error::Closed { what: "the checkpoint" });
        let answer = queue.reach(0, || unreachable!("the log has stopped"));
        assert!(Arc::ptr_eq(&answer.unwrap_err(), &failure));
        for writer in writers {
            writer.join().unwrap();
        }
    });
}

#[test]
fn of_two_failures_the_first_is_told_to_everyone() {
    loom::model(|| {
        let (queue, disk) = queue_and_disk(true);
        let outside = {
            let queue = Arc::clone(&queue);
            thread::spawn(move || queue.fail(Error::Closed { what: "the checkpoint" }))
        };
        let here = queue.reach(1, || disk.sync()).unwrap_err();
        assert!(Arc::ptr_eq(&here, &outside.join().unwrap()));
    });
}

/// Loom cannot unwind one thread while another runs, so this does what unwinding does: the leader's
/// [`Lead`] is dropped, and nothing after the sync happens.
#[test]
fn a_leader_that_panics_leaves_nobody_waiting() {
    loom::model(|| {
        let (queue, disk) = queue_and_disk(false);
        let leader = {
            let queue = Arc::clone(&queue);
            thread::spawn(move || {
                let mut state = queue.state.lock();
                if !state.syncing {
                    state.syncing = true;
                    drop(state);
                    drop(Lead { queue: &queue });
                }
            })
        };
        let writer = spawn_writer(&queue, &disk);
        queue.wait_until_idle();
        leader.join().unwrap();
        writer.join().unwrap();
        assert!(!queue.state.lock().syncing);
    });
}

/// A log that closes gives up its files then.
#[test]
fn whoever_waits_until_the_queue_is_idle_has_no_sync_from_before_behind_its_back() {
    loom::model(|| {
        let (queue, disk) = queue_and_disk(false);
        let begun = Arc::new(AtomicBool::new(false));
        let ended = Arc::new(AtomicBool::new(false));
        let writer = {
            let (queue, disk) = (Arc::clone(&queue), Arc::clone(&disk));
            let (begun, ended) = (Arc::clone(&begun), Arc::clone(&ended));
            thread::spawn(move || {
                let offset = disk.write();
                let sync = || {
                    begun.store(true, Ordering::Release);
                    let synced = disk.sync();
                    ended.store(true, Ordering::Release);
                    synced
                };
                queue.reach(offset, sync).unwrap();
            })
        };
        let had_begun = begun.load(Ordering::Acquire);
        queue.wait_until_idle();
        assert!(!had_begun || ended.load(Ordering::Acquire));
        writer.join().unwrap();
    });
}
