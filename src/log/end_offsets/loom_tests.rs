//! Goal: no reader sleeps through an append, and what is published is in place and in order.
//!
//! Method: loom runs each test in every order in which its threads can come, and lets weakly
//! ordered loads see every value that they may. A wake-up that is lost is a deadlock to it.

use std::time::Duration;

use loom::thread;

use super::*;
use crate::concurrency::atomic::AtomicBool;
use crate::concurrency::explore_few_preemptions;

/// What a consumer does in `poll`, until it has seen an offset.
fn wait_for(ends: &EndOffsets, offset: u64) {
    let wakeup = Arc::new(Wakeup::default());
    while ends.high_watermark() < offset {
        ends.register(&wakeup);
        if ends.high_watermark() < offset {
            assert!(wakeup.wait(Deadline::NEVER));
        }
        ends.unregister(&wakeup);
    }
}

fn assert_nobody_is_registered(ends: &EndOffsets) {
    assert_eq!(ends.waiting.load(Ordering::Relaxed), 0);
    assert!(ends.waiters.lock().is_empty());
}

#[test]
fn a_wake_up_is_never_lost() {
    loom::model(|| {
        let ends = Arc::new(EndOffsets::new(0, 0, 2));
        let reader = {
            let ends = Arc::clone(&ends);
            thread::spawn(move || wait_for(&ends, 2))
        };
        ends.raise_high_watermark(1);
        ends.raise_high_watermark(2);
        reader.join().unwrap();
        assert_nobody_is_registered(&ends);
    });
}

#[test]
fn every_reader_is_woken() {
    explore_few_preemptions(|| {
        let ends = Arc::new(EndOffsets::new(0, 0, 1));
        let readers = [(); 2].map(|()| {
            let ends = Arc::clone(&ends);
            thread::spawn(move || wait_for(&ends, 1))
        });
        ends.raise_high_watermark(1);
        for reader in readers {
            reader.join().unwrap();
        }
        assert_nobody_is_registered(&ends);
    });
}

/// A consumer waits on all its partitions with one wakeup.
#[test]
fn an_append_to_any_of_several_logs_wakes_the_reader() {
    explore_few_preemptions(|| {
        let logs = [(); 2].map(|()| Arc::new(EndOffsets::new(0, 0, 1)));
        let writers = logs.clone().map(|ends| thread::spawn(move || ends.raise_high_watermark(1)));
        let wakeup = Arc::new(Wakeup::default());
        let seen = || logs.iter().filter(|ends| ends.high_watermark() == 1).count();
        for wanted in 1..=2 {
            while seen() < wanted {
                for ends in &logs {
                    ends.register(&wakeup);
                }
                if seen() < wanted {
                    assert!(wakeup.wait(Deadline::NEVER));
                }
                for ends in &logs {
                    ends.unregister(&wakeup);
                }
            }
        }
        for writer in writers {
            writer.join().unwrap();
        }
    });
}

/// A log that closes says so first and wakes then, as the high watermark does.
#[test]
fn a_reader_is_woken_by_a_log_that_closes() {
    loom::model(|| {
        let ends = Arc::new(EndOffsets::new(0, 0, 0));
        let closed = Arc::new(AtomicBool::new(false));
        let reader = {
            let (ends, closed) = (Arc::clone(&ends), Arc::clone(&closed));
            thread::spawn(move || {
                let wakeup = Arc::new(Wakeup::default());
                ends.register(&wakeup);
                if !closed.load(Ordering::Relaxed) {
                    assert!(wakeup.wait(Deadline::NEVER));
                }
                ends.unregister(&wakeup);
            })
        };
        closed.store(true, Ordering::Relaxed);
        ends.wake();
        reader.join().unwrap();
    });
}

#[test]
fn a_wake_up_that_meets_the_deadline_counts_for_the_next_wait() {
    loom::model(|| {
        let wakeup = Arc::new(Wakeup::default());
        let waker = {
            let wakeup = Arc::clone(&wakeup);
            thread::spawn(move || wakeup.wake())
        };
        if !wakeup.wait(Deadline::after(Duration::ZERO)) {
            assert!(wakeup.wait(Deadline::NEVER));
        }
        waker.join().unwrap();
        assert!(!wakeup.wait(Deadline::after(Duration::ZERO)), "one wake-up is told once");
    });
}

#[test]
fn offsets_are_in_order_for_every_reader() {
    loom::model(|| {
        let ends = Arc::new(EndOffsets::new(0, 0, 0));
        let writer = {
            let ends = Arc::clone(&ends);
            thread::spawn(move || {
                for offset in 1..=2 {
                    ends.advance_log_end(offset);
                    ends.raise_high_watermark(offset);
                }
            })
        };
        let retention = {
            let ends = Arc::clone(&ends);
            thread::spawn(move || ends.advance_log_start(ends.high_watermark()))
        };
        let offsets = (ends.log_start(), ends.high_watermark(), ends.log_end());
        assert!(offsets.0 <= offsets.1 && offsets.1 <= offsets.2, "{offsets:?}");
        writer.join().unwrap();
        retention.join().unwrap();
    });
}

/// `bytes` stands for a segment: written first, then published, by either offset.
#[test]
fn what_is_below_a_published_offset_is_in_place() {
    loom::model(|| {
        let ends = Arc::new(EndOffsets::new(0, 0, 0));
        let bytes = Arc::new(AtomicU64::new(0));
        let writer = {
            let (ends, bytes) = (Arc::clone(&ends), Arc::clone(&bytes));
            thread::spawn(move || {
                for offset in 1..=2 {
                    bytes.store(offset, Ordering::Relaxed);
                    ends.advance_log_end(offset);
                }
                ends.raise_high_watermark(1);
            })
        };
        let log_end = ends.log_end();
        assert!(bytes.load(Ordering::Relaxed) >= log_end);
        if ends.high_watermark() == 1 {
            assert_eq!(bytes.load(Ordering::Relaxed), 2);
        }
        writer.join().unwrap();
    });
}

/// It is raised by an append and by a flush, with no lock in common.
#[test]
fn the_high_watermark_never_goes_back() {
    loom::model(|| {
        let ends = Arc::new(EndOffsets::new(0, 0, 2));
        let raisers = [1, 2].map(|offset| {
            let ends = Arc::clone(&ends);
            thread::spawn(move || ends.raise_high_watermark(offset))
        });
        let before = ends.high_watermark();
        assert!(ends.high_watermark() >= before);
        for raiser in raisers {
            raiser.join().unwrap();
        }
        assert_eq!(ends.high_watermark(), 2);
    });
}
