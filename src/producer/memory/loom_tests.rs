//! Goal: never more than the limit is given out, and nobody sleeps while what it waits for is there.
//!
//! Method: loom runs each test in every order in which its threads can come. Whoever waits for ever
//! is a deadlock to it.

use std::sync::Arc;
use std::time::Duration;

use loom::thread;

use super::*;
use crate::concurrency::atomic::{AtomicUsize, Ordering};

/// What the accumulator does for a new batch.
fn reserve(memory: &BufferMemory, bytes: usize) -> Reservation<'_> {
    loop {
        if let Some(reservation) = memory.try_reserve(bytes) {
            return reservation;
        }
        memory.wait_for(bytes, Deadline::NEVER);
    }
}

fn assert_all_is_free(memory: &BufferMemory) {
    assert_eq!(memory.available(), memory.limit());
    assert_eq!(memory.state.lock().waiting, 0);
}

#[test]
fn no_more_is_ever_reserved_than_the_limit() {
    loom::model(|| {
        let memory = Arc::new(BufferMemory::new(2));
        let in_use = Arc::new(AtomicUsize::new(0));
        let threads = [1, 2].map(|bytes| {
            let (memory, in_use) = (Arc::clone(&memory), Arc::clone(&in_use));
            thread::spawn(move || {
                let reservation = reserve(&memory, bytes);
                assert!(in_use.fetch_add(bytes, Ordering::Relaxed) + bytes <= 2);
                in_use.fetch_sub(bytes, Ordering::Relaxed);
                drop(reservation);
            })
        });
        if let Some(reservation) = memory.try_reserve(1) {
            assert!(in_use.fetch_add(1, Ordering::Relaxed) < 2);
            in_use.fetch_sub(1, Ordering::Relaxed);
            memory.release(reservation.into_bytes());
        }
        for thread in threads {
            thread.join().unwrap();
        }
        assert_all_is_free(&memory);
    });
}

#[test]
fn a_release_wakes_whoever_waits_for_it() {
    loom::model(|| {
        let memory = Arc::new(BufferMemory::new(1));
        let held = memory.try_reserve(1).unwrap().into_bytes();
        let waiting = [(); 2].map(|()| {
            let memory = Arc::clone(&memory);
            thread::spawn(move || drop(reserve(&memory, 1)))
        });
        memory.release(held);
        for thread in waiting {
            thread.join().unwrap();
        }
        assert_all_is_free(&memory);
    });
}

#[test]
fn one_who_wants_much_does_not_take_the_wake_up_of_one_who_wants_little() {
    loom::model(|| {
        let memory = Arc::new(BufferMemory::new(2));
        let held = memory.try_reserve(2).unwrap().into_bytes();
        let [much, little] = [2, 1].map(|bytes| {
            let memory = Arc::clone(&memory);
            thread::spawn(move || drop(reserve(&memory, bytes)))
        });
        memory.release(held - 1);
        little.join().unwrap();
        memory.release(1);
        much.join().unwrap();
        assert_all_is_free(&memory);
    });
}

#[test]
fn whoever_gives_up_at_the_deadline_is_not_counted_any_more() {
    loom::model(|| {
        let memory = Arc::new(BufferMemory::new(1));
        let held = memory.try_reserve(1).unwrap().into_bytes();
        let impatient = {
            let memory = Arc::clone(&memory);
            thread::spawn(move || memory.wait_for(1, Deadline::after(Duration::ZERO)))
        };
        let patient = {
            let memory = Arc::clone(&memory);
            thread::spawn(move || drop(reserve(&memory, 1)))
        };
        memory.release(held);
        patient.join().unwrap();
        impatient.join().unwrap();
        assert_all_is_free(&memory);
    });
}
