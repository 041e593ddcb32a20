//! Appending: rows R1 (batched through a producer), R2 (one record, one batch, `Written`) and R3
//! (one record, one fsync) of the speed table, each beside its bare loop.
//!
//! 100-byte values, one thread, one partition, uncompressed. Prints records per second.

mod bare;

use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sapwood::{Broker, Durability, Record, Topic, TopicConfig};

const VALUE: [u8; 100] = [b'v'; 100];
const BATCH_BYTES: usize = 16 << 10;
const SPACE: usize = 256 << 20;

/// Space is given back by retention, outside of what is measured.
const KEPT: u64 = 1 << 30;

fn topic(broker: &Broker, name: &str, durability: Durability) -> Topic {
    let config = TopicConfig::default().durability(durability).retention_bytes(KEPT);
    broker.create_topic(name, config.segment_bytes(256 << 20)).unwrap()
}

fn written() -> Durability {
    Durability::Written { flush_interval: Duration::from_secs(1) }
}

/// Runs `work` for `n` records and counts only that.
fn timed(broker: &Broker, topic: &Topic, n: u64, work: impl FnOnce(u64)) -> Duration {
    let started = Instant::now();
    work(n);
    let elapsed = started.elapsed();
    if topic.size() > KEPT {
        let partition = topic.partition(0).unwrap();
        partition.delete_records(partition.high_watermark()).unwrap();
    }
    broker.run_maintenance().unwrap();
    elapsed
}

fn r1_batched(criterion: &mut Criterion) {
    let directory = tempfile::tempdir().unwrap();
    let broker = Broker::open(directory.path().join("log")).unwrap();
    let topic = topic(&broker, "r1", written());
    let producer = broker.producer().batch_size(BATCH_BYTES).build().unwrap();
    let mut space = bare::Space::new(&directory.path().join("bare"), SPACE);
    let mut buffer = Vec::with_capacity(BATCH_BYTES + 256);

    let mut group = criterion.benchmark_group("R1 batched, written");
    group.throughput(Throughput::Elements(1));
    group.bench_function("bare", |bencher| {
        bencher.iter_custom(|n| {
            let started = Instant::now();
            let mut left = n;
            while left > 0 {
                bare::begin(&mut buffer);
                let mut count = 0;
                while left > 0 && buffer.len() + 110 <= BATCH_BYTES {
                    bare::record(&mut buffer, i64::from(count), &VALUE);
                    (count, left) = (count + 1, left - 1);
                }
                bare::finish(&mut buffer, count);
                space.store(&buffer);
            }
            started.elapsed()
        });
    });
    group.bench_function("sapwood", |bencher| {
        bencher.iter_custom(|n| {
            timed(&broker, &topic, n, |n| {
                for _ in 0..n {
                    producer.send(&topic, Record::new(&VALUE)).unwrap();
                }
                producer.flush().unwrap();
            })
        });
    });
    group.finish();
}

fn r2_single(criterion: &mut Criterion) {
    let directory = tempfile::tempdir().unwrap();
    let broker = Broker::open(directory.path().join("log")).unwrap();
    let topic = topic(&broker, "r2", written());
    let partition = topic.partition(0).unwrap();
    let mut space = bare::Space::new(&directory.path().join("bare"), SPACE);
    let mut buffer = Vec::new();

    let mut group = criterion.benchmark_group("R2 one record per batch, written");
    group.throughput(Throughput::Elements(1));
    group.bench_function("bare", |bencher| {
        bencher.iter(|| {
            bare::begin(&mut buffer);
            bare::record(&mut buffer, 0, &VALUE);
            bare::finish(&mut buffer, 1);
            space.store(&buffer);
        });
    });
    group.bench_function("sapwood", |bencher| {
        bencher.iter_custom(|n| {
            timed(&broker, &topic, n, |n| {
                for _ in 0..n {
                    partition.append(&[Record::new(&VALUE)]).unwrap();
                }
            })
        });
    });
    group.finish();
}

fn r3_fsync(criterion: &mut Criterion) {
    let directory = tempfile::tempdir().unwrap();
    let broker = Broker::open(directory.path().join("log")).unwrap();
    let topic = topic(&broker, "r3", Durability::Fsync);
    let partition = topic.partition(0).unwrap();
    let mut space = bare::Space::new(&directory.path().join("bare"), SPACE);
    let mut buffer = Vec::new();

    let mut group = criterion.benchmark_group("R3 one record per fsync");
    group.throughput(Throughput::Elements(1));
    group.bench_function("bare", |bencher| {
        bencher.iter(|| {
            bare::begin(&mut buffer);
            bare::record(&mut buffer, 0, &VALUE);
            bare::finish(&mut buffer, 1);
            space.write_and_sync(&buffer);
        });
    });
    group.bench_function("sapwood", |bencher| {
        bencher.iter(|| partition.append(&[Record::new(&VALUE)]).unwrap());
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).measurement_time(Duration::from_secs(4));
    targets = r1_batched, r2_single, r3_fsync
}
criterion_main!(benches);
