//! What the program `sapwood` does not measure: a consumer in the process that writes, and the latency
//! from send to seen at a fixed rate. The Java programs beside this do the same.
//!
//! ```text
//! sapwood-side-by-side consume DIR TOPIC
//! sapwood-side-by-side latency DIR RECORD_SIZE PER_SECOND WARM_UP_SECONDS SECONDS
//! ```
//!
//! Prints records per second, p50, p99, p99.9 in microseconds, CPU seconds per million records; `-` for
//! what was not measured.

use std::thread;
use std::time::{Duration, Instant};

use sapwood::{Broker, Durability, Record, Result, TopicConfig, TopicPartition};

fn main() -> Result<()> {
    let words: Vec<_> = std::env::args().skip(1).collect();
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["consume", directory, topic] => consume(directory, topic),
        ["latency", directory, size, rate, warm_up, time] => {
            let number = |word: &str| word.parse::<u32>().expect("a number");
            latency(directory, number(size) as usize, number(rate), [warm_up, time].map(number))
        }
        _ => panic!("see the head of main.rs"),
    }
}

fn consume(directory: &str, topic: &str) -> Result<()> {
    let broker = Broker::open(directory)?;
    let partition = TopicPartition::new(topic, 0);
    let end = broker.topic(topic)?.partition(0)?.log_end_offset();
    let mut consumer = broker.consumer().assign([partition])?;
    let (mut records, mut bytes) = (0, 0);
    let (cpu, started) = (cpu_seconds(), Instant::now());
    while records < end {
        for record in &consumer.poll(Duration::from_secs(1))? {
            bytes += record.value().map_or(0, <[u8]>::len);
            records += 1;
        }
    }
    let took = started.elapsed().as_secs_f64();
    assert!(bytes > 0, "there are values");
    println!(
        "{:.0} - - - {:.3}",
        records as f64 / took,
        (cpu_seconds() - cpu) * 1e6 / records as f64
    );
    drop(consumer);
    broker.close()
}

fn latency(directory: &str, size: usize, rate: u32, [warm_up, time]: [u32; 2]) -> Result<()> {
    let broker = Broker::open(directory)?;
    let durability = Durability::Written { flush_interval: Duration::from_secs(1) };
    let topic = broker.create_topic("latency", TopicConfig::default().durability(durability))?;
    let producer = broker.producer().linger(Duration::ZERO).build()?;
    let mut consumer = broker.consumer().assign([TopicPartition::new("latency", 0)])?;
    let (ignored, all) = (warm_up * rate, (warm_up + time) * rate);
    let base = Instant::now();
    let mut cpu = 0.0;
    let mut latencies = thread::scope(|scope| -> Result<_> {
        let receiver = scope.spawn(move || -> Result<Vec<u64>> {
            let (mut seen, mut latencies) = (0, Vec::with_capacity((all - ignored) as usize));
            while seen < all {
                for record in &consumer.poll(Duration::from_secs(1))? {
                    let due =
                        record.value().and_then(|value| value.first_chunk()).expect("8 bytes");
                    let now = base.elapsed().as_nanos() as u64;
                    if seen >= ignored {
                        latencies.push(now.saturating_sub(u64::from_be_bytes(*due)));
                    }
                    seen += 1;
                }
            }
            Ok(latencies)
        });
        let mut value = vec![b'v'; size];
        for n in 0..all {
            if n == ignored {
                cpu = cpu_seconds();
            }
            // Counted from when the send was due: one that has to wait for those before counts that.
            let due = Duration::from_secs(1) * n / rate;
            while let Some(wait) = due.checked_sub(base.elapsed()) {
                if wait > Duration::from_micros(100) {
                    thread::sleep(wait - Duration::from_micros(70));
                } else {
                    thread::yield_now();
                }
            }
            value[..8].copy_from_slice(&(due.as_nanos() as u64).to_be_bytes());
            producer.send(&topic, Record::new(&value))?;
        }
        receiver.join().expect("the consumer does not panic")
    })?;
    latencies.sort_unstable();
    let cpu = (cpu_seconds() - cpu) * 1e6 / latencies.len() as f64;
    let at = |part: f64| latencies[(latencies.len() as f64 * part) as usize] as f64 / 1e3;
    println!("- {:.1} {:.1} {:.1} {cpu:.3}", at(0.5), at(0.99), at(0.999));
    broker.close()
}

/// User and system time of this process, in ticks of which there are a hundred a second.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("/proc is mounted");
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: f64 = fields.skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
    ticks / 100.0
}
