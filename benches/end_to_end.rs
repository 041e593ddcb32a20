//! From a send to a consumer that is blocked in a poll, at fixed rates: percentiles of the latency.
//!
//! ```text
//! cargo bench --bench end_to_end            # about three minutes
//! cargo bench --bench end_to_end -- 10000   # one rate, in sends a second
//! ```
//!
//! The load is open: sends come at 1,000, 10,000 and 100,000 a second whatever became of those before,
//! and each latency counts from the time at which its send was due. So a stall counts for all that had
//! to wait behind it (no coordinated omission). One producer without linger, one partition, one
//! consumer, values of 100 bytes, checksums, no compression.
//!
//! Under `Fsync` a thread waits for the deliveries in turn: that is what asks for a sync. Where nobody
//! waits, the background thread syncs when it next comes by, at the latest after half a second; that is
//! a line of its own. Under `Written` deliveries are dropped.
//!
//! Beside `Written` stands a hand-over from thread to thread over a queue with a lock and a condition;
//! beside `Fsync` the same with a thread between that writes and syncs all that has come. They take
//! turns for some rounds, and the percentiles are of all rounds together. Not criterion, which measures
//! how long something takes that is done over and over, and not what comes at a rate.

mod bare;
mod timing;

use std::time::Duration;

use sapwood::{Broker, Durability, TopicConfig};

use bare::Space;
use bare::hand_over::{hand_over, synced_hand_over};
use timing::fixed_rate::{Deliveries, Load, send_to_poll};
use timing::{WRITTEN, file_system, percentiles, permille, scratch};

const RATES: [u32; 3] = [1_000, 10_000, 100_000];
const ROUNDS: u32 = 3;
const TIME: Duration = Duration::from_secs(3);
const VALUE: [u8; 100] = [b'v'; 100];

fn main() {
    let words: Vec<_> = std::env::args().skip(1).collect();
    let wanted: Vec<u32> = words.iter().filter_map(|word| word.parse().ok()).collect();
    println!(
        "send to poll: no linger, values of {} B, 1 partition, checksums, no compression, {}; \
         {ROUNDS} rounds of {TIME:?}",
        VALUE.len(),
        file_system(scratch().path()),
    );
    for per_second in RATES.into_iter().filter(|rate| wanted.is_empty() || wanted.contains(rate)) {
        for line in &LINES {
            print(line, per_second, &measure(line, Load { per_second, time: TIME }));
        }
    }
}

struct Line {
    name: &'static str,
    durability: Durability,
    deliveries: Deliveries,
}

const LINES: [Line; 3] = [
    Line { name: "Written", durability: WRITTEN, deliveries: Deliveries::Dropped },
    Line {
        name: "Fsync, awaited",
        durability: Durability::Fsync,
        deliveries: Deliveries::AwaitedInTurn,
    },
    Line {
        name: "Fsync, nobody waits",
        durability: Durability::Fsync,
        deliveries: Deliveries::Dropped,
    },
];

/// Latencies, sorted.
struct Pair {
    bare: Vec<Duration>,
    sapwood: Vec<Duration>,
}

fn measure(line: &Line, load: Load) -> Pair {
    let directory = scratch();
    let broker = Broker::open(directory.path().join("data")).unwrap();
    let mut space = Space::new(&directory.path().join("bare"), 64 << 20);
    let mut pair = Pair { bare: Vec::new(), sapwood: Vec::new() };
    for round in 0..ROUNDS {
        pair.bare.extend(match line.durability {
            Durability::Fsync => synced_hand_over(load, &mut space, &VALUE),
            _ => hand_over(load),
        });
        let config = TopicConfig::default().durability(line.durability);
        let topic = broker.create_topic(&format!("round-{round}"), config).unwrap();
        pair.sapwood.extend(send_to_poll(&broker, &topic, load, line.deliveries));
    }
    pair.bare.sort_unstable();
    pair.sapwood.sort_unstable();
    pair
}

fn print(line: &Line, per_second: u32, Pair { bare, sapwood }: &Pair) {
    println!("{}, {per_second}/s", line.name);
    println!("  bare     {}", percentiles(bare));
    println!("  sapwood  {}", percentiles(sapwood));
    let ratio = |part| permille(sapwood, part).as_secs_f64() / permille(bare, part).as_secs_f64();
    let [p50, p99, p999] = [500, 990, 999].map(ratio);
    println!(
        "  ratio    p50 {p50:.2}, p99 {p99:.2}, p99.9 {p999:.2}  (sapwood by bare: less is better)"
    );
}
