//! Row R7: from a send to a consumer that is blocked in a poll.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use sapwood::{Broker, Record, TopicPartition};

use crate::measure::{Report, Target, percentiles, permille};
use crate::producing::{topic, written};
use crate::scratch;

const TIME: Duration = Duration::from_millis(600);

/// Calls `send` at a fixed rate, whatever the last call took, with the time at which it should have
/// been: what comes late counts from then (no coordinated omission).
fn at_rate(per_second: u32, mut send: impl FnMut(Instant)) {
    let start = Instant::now();
    for n in 0..(TIME.as_secs_f64() * f64::from(per_second)) as u32 {
        let due = start + Duration::from_secs(1) * n / per_second;
        while let Some(wait) = due.checked_duration_since(Instant::now()) {
            if wait > Duration::from_micros(100) {
                thread::sleep(wait - Duration::from_micros(70));
            } else {
                thread::yield_now();
            }
        }
        send(due);
    }
}

/// Times from a push to a pop, over a queue with a lock and a condition.
fn bare(per_second: u32) -> Vec<Duration> {
    let (queue, pushed) = (Mutex::new(VecDeque::new()), Condvar::new());
    let mut latencies = thread::scope(|scope| {
        let receiver = scope.spawn(|| {
            let mut latencies = Vec::new();
            loop {
                let mut queue = queue.lock().unwrap();
                while queue.is_empty() {
                    queue = pushed.wait(queue).unwrap();
                }
                let taken = std::mem::take(&mut *queue);
                drop(queue);
                for due in taken {
                    let Some(due) = due else { return latencies };
                    latencies.push(Instant::now().duration_since(due));
                }
            }
        });
        let push = |due| {
            queue.lock().unwrap().push_back(due);
            pushed.notify_one();
        };
        at_rate(per_second, |due| push(Some(due)));
        push(None);
        receiver.join().unwrap()
    });
    latencies.sort_unstable();
    latencies
}

fn sapwood(broker: &Broker, name: &str, per_second: u32) -> Vec<Duration> {
    let topic = topic(broker, name, 1, written());
    let producer = broker.producer().linger(Duration::ZERO).build().unwrap();
    let mut consumer = broker.consumer().assign([TopicPartition::new(name, 0)]).unwrap();
    let base = Instant::now();
    let mut latencies = thread::scope(|scope| {
        let receiver = scope.spawn(|| {
            let mut latencies = Vec::new();
            loop {
                for record in &consumer.poll(Duration::from_secs(1)).unwrap() {
                    let bytes = record.value().unwrap_or_default();
                    let Ok(nanos) = bytes[..8].try_into() else { return latencies };
                    let nanos = u64::from_be_bytes(nanos);
                    if nanos == u64::MAX {
                        return latencies;
                    }
                    let due = base + Duration::from_nanos(nanos);
                    latencies.push(Instant::now().duration_since(due));
                }
            }
        });
        let mut value = [0; 100];
        let mut send = |nanos: u64| {
            value[..8].copy_from_slice(&nanos.to_be_bytes());
            producer.send(&topic, Record::new(&value)).unwrap();
        };
        at_rate(per_second, |due| send(due.duration_since(base).as_nanos() as u64));
        send(u64::MAX);
        receiver.join().unwrap()
    });
    latencies.sort_unstable();
    latencies
}

/// R7: at fixed rates, beside a hand-over from thread to thread.
pub fn send_to_seen(report: &mut Report) {
    let directory = scratch();
    let broker = Broker::open(directory.path()).unwrap();
    for (name, per_second) in [("R7a", 10_000), ("R7b", 100_000)] {
        let mut rounds: Vec<_> = (0..5)
            .map(|round| {
                (bare(per_second), sapwood(&broker, &format!("{name}-{round}"), per_second))
            })
            .collect();
        for (part, percentile) in [(500, "p50"), (990, "p99")] {
            let ratio = |(bare, ours): &(Vec<Duration>, Vec<Duration>)| {
                permille(ours, part).as_secs_f64() / permille(bare, part).as_secs_f64()
            };
            rounds.sort_by(|a, b| ratio(a).total_cmp(&ratio(b)));
            let middle = &rounds[rounds.len() / 2];
            let (bare, ours) = (percentiles(&middle.0), percentiles(&middle.1));
            let detail = format!("{per_second}/s, Written, no linger: bare {bare}; sapwood {ours}");
            let name = format!("{name}-{percentile}");
            report.row(&name, ratio(middle), Target::Most(1.5), &detail);
        }
    }
}
