//! From thread to thread over a queue with a lock and a condition: at once, or with a write and a sync
//! on the way.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use super::Space;
use super::growing::Growing;
use crate::timing::fixed_rate::Load;

/// When a send was due; `None` ends it.
type Due = Option<Instant>;

#[derive(Default)]
struct Queue {
    items: Mutex<VecDeque<Due>>,
    pushed: Condvar,
}

impl Queue {
    fn push(&self, due: Due) {
        self.items.lock().unwrap().push_back(due);
        self.pushed.notify_one();
    }

    fn push_all(&self, dues: VecDeque<Due>) {
        self.items.lock().unwrap().extend(dues);
        self.pushed.notify_one();
    }

    /// All there is, when there is something.
    fn take(&self) -> VecDeque<Due> {
        let mut items = self.items.lock().unwrap();
        while items.is_empty() {
            items = self.pushed.wait(items).unwrap();
        }
        std::mem::take(&mut *items)
    }

    /// Takes to the end; returns how late each was, sorted.
    fn drain(&self) -> Vec<Duration> {
        let mut latencies = Vec::new();
        loop {
            for due in self.take() {
                let Some(due) = due else {
                    latencies.sort_unstable();
                    return latencies;
                };
                latencies.push(Instant::now().duration_since(due));
            }
        }
    }
}

/// Times from a push to a pop.
pub fn hand_over(load: Load) -> Vec<Duration> {
    let queue = Queue::default();
    thread::scope(|scope| {
        let receiver = scope.spawn(|| queue.drain());
        load.offer(|due| queue.push(Some(due)));
        queue.push(None);
        receiver.join().unwrap()
    })
}

/// The same with a batch stored into a file that grows before each push.
pub fn stored_hand_over(load: Load, file: &mut Growing, batch: &[u8]) -> Vec<Duration> {
    let queue = Queue::default();
    thread::scope(|scope| {
        let receiver = scope.spawn(|| queue.drain());
        load.offer(|due| {
            file.append(batch);
            queue.push(Some(due));
        });
        queue.push(None);
        receiver.join().unwrap()
    })
}

/// Times from a push to a pop, with a thread between that writes what has come as one batch, and syncs.
pub fn synced_hand_over(load: Load, space: &mut Space, value: &[u8]) -> Vec<Duration> {
    let (sent, synced) = (Queue::default(), Queue::default());
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut buffer = Vec::new();
            loop {
                let taken = sent.take();
                let ends = taken.back().is_some_and(Option::is_none);
                super::batch(&mut buffer, taken.len() as u32, value);
                space.write_and_sync(&buffer);
                synced.push_all(taken);
                if ends {
                    return;
                }
            }
        });
        let receiver = scope.spawn(|| synced.drain());
        load.offer(|due| sent.push(Some(due)));
        sent.push(None);
        receiver.join().unwrap()
    })
}
