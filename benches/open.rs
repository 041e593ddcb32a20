//! Opening: row R8 of the speed table. One GiB in one partition, after a clean close and after the
//! process was killed with 64 MiB above the last checkpoint, beside a checksum over those 64 MiB.

mod bare;

use std::path::Path;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use sapwood::{Broker, Durability, Record, TopicConfig};

const VALUE: [u8; 100] = [b'v'; 100];
const TOTAL: u64 = 1 << 30;
const TAIL: u64 = 64 << 20;

/// A broker on which nothing happens by itself: no checkpoint is written behind our back.
fn open(directory: &Path) -> Broker {
    Broker::builder(directory).background_thread(false).open().unwrap()
}

/// Fills the topic up to a size.
fn fill(broker: &Broker, size: u64) {
    let topic = broker.topic("r8").unwrap();
    let producer = broker.producer().batch_size(64 << 10).build().unwrap();
    while topic.size() < size {
        for _ in 0..10_000 {
            producer.send(&topic, Record::new(&VALUE)).unwrap();
        }
        producer.flush().unwrap();
    }
}

fn r8_open(criterion: &mut Criterion) {
    let directory = tempfile::tempdir().unwrap();
    let broker = open(directory.path());
    let durability = Durability::Written { flush_interval: Duration::from_secs(3_600) };
    let config = TopicConfig::default().durability(durability).segment_bytes(2_000_000_000);
    broker.create_topic("r8", config).unwrap();
    fill(&broker, TOTAL - TAIL);
    broker.close().unwrap();

    let mut group = criterion.benchmark_group("R8 open 1 GiB");
    group.bench_function("after a clean close", |bencher| {
        bencher.iter_custom(|n| {
            let mut elapsed = Duration::ZERO;
            for _ in 0..n {
                let started = Instant::now();
                let broker = open(directory.path());
                elapsed += started.elapsed();
                broker.close().unwrap();
            }
            elapsed
        });
    });

    fill(&open(directory.path()), TOTAL);
    let tail = vec![0x5a_u8; usize::try_from(TAIL).unwrap()];
    group.bench_function("bare: checksum of 64 MiB", |bencher| {
        bencher.iter(|| crc32c::crc32c(&tail));
    });
    // Dropped without being closed, each of these finds what the one before it found.
    group.bench_function("killed with 64 MiB above the checkpoint", |bencher| {
        bencher.iter_custom(|n| {
            let mut elapsed = Duration::ZERO;
            for _ in 0..n {
                let started = Instant::now();
                let broker = open(directory.path());
                elapsed += started.elapsed();
                let scanned = broker.recovery_report().partitions[0].bytes_scanned;
                assert!(scanned >= TAIL, "only {scanned} bytes were scanned");
            }
            elapsed
        });
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10).measurement_time(Duration::from_secs(5));
    targets = r8_open
}
criterion_main!(benches);
