//! Latencies under a load that comes at a fixed rate, counted from when each send was due: a send
//! that has to wait for the one before it counts its waiting (no coordinated omission).

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use sapwood::{Broker, Delivery, Record, Topic, TopicPartition};

/// So many sends a second, for so long.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    pub per_second: u32,
    pub time: Duration,
}

impl Load {
    /// Calls `send` at the rate, whatever the last call took, with the time at which it should have
    /// been.
    pub fn offer(self, mut send: impl FnMut(Instant)) {
        let start = Instant::now();
        for n in 0..(self.time.as_secs_f64() * f64::from(self.per_second)) as u32 {
            let due = start + Duration::from_secs(1) * n / self.per_second;
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
}

/// What becomes of the deliveries that sends return.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deliveries {
    Dropped,
    /// A thread waits for each in turn, and by that has what was sent meanwhile synced.
    AwaitedInTurn,
}

/// Times from a send to a consumer that is blocked in a poll, sorted: values of 100 bytes, no linger,
/// partition 0 of a topic that is empty.
pub fn send_to_poll(
    broker: &Broker,
    topic: &Topic,
    load: Load,
    deliveries: Deliveries,
) -> Vec<Duration> {
    let producer = broker.producer().linger(Duration::ZERO).build().unwrap();
    let mut consumer = broker.consumer().assign([TopicPartition::new(topic.name(), 0)]).unwrap();
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
        let (sent, to_await) = mpsc::channel();
        if deliveries == Deliveries::AwaitedInTurn {
            let wait = |delivery: Delivery| drop(delivery.wait().unwrap());
            scope.spawn(move || to_await.iter().for_each(wait));
        }
        let mut value = [0; 100];
        let mut send = |nanos: u64| {
            value[..8].copy_from_slice(&nanos.to_be_bytes());
            let delivery = producer.send(topic, Record::new(&value)).unwrap();
            if deliveries == Deliveries::AwaitedInTurn {
                sent.send(delivery).unwrap();
            }
        };
        load.offer(|due| send(due.duration_since(base).as_nanos() as u64));
        send(u64::MAX);
        receiver.join().unwrap()
    });
    latencies.sort_unstable();
    latencies
}
