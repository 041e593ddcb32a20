//! Reading: row R5 of the speed table, a consumer that catches up on a log in the page cache with
//! every checksum checked, beside its bare loop over the same file.

mod bare;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sapwood::{Broker, Durability, Record, TopicConfig, TopicPartition};

const VALUE: [u8; 100] = [b'v'; 100];
const RECORDS: u64 = 2_000_000;

fn fill(broker: &Broker) {
    let durability = Durability::Written { flush_interval: Duration::from_secs(1) };
    let topic = broker.create_topic("r5", TopicConfig::default().durability(durability)).unwrap();
    let producer = broker.producer().build().unwrap();
    for _ in 0..RECORDS {
        producer.send(&topic, Record::new(&VALUE)).unwrap();
    }
    producer.flush().unwrap();
    topic.partition(0).unwrap().flush().unwrap();
}

/// Only the mapping of the one segment, read by the shortest loop.
fn map(directory: &Path) -> memmap2::Mmap {
    let path = directory.join("r5-0/00000000000000000000.log");
    let file = fs::File::open(path).unwrap();
    #[allow(unsafe_code)]
    // SAFETY: the log is not written to while the benchmark runs.
    unsafe { memmap2::Mmap::map(&file) }.unwrap()
}

fn r5_catch_up(criterion: &mut Criterion) {
    let directory = tempfile::tempdir().unwrap();
    let broker = Broker::open(directory.path()).unwrap();
    fill(&broker);
    let size = broker.topic("r5").unwrap().size();
    let file = map(directory.path());
    let bytes = &file[..usize::try_from(size).unwrap()];

    let mut group = criterion.benchmark_group("R5 catch up");
    group.throughput(Throughput::Elements(RECORDS));
    group.bench_function("bare", |bencher| {
        bencher.iter(|| {
            let (records, sum) = bare::read_all(bytes);
            assert_eq!(records, RECORDS);
            sum
        });
    });
    group.bench_function("sapwood", |bencher| {
        bencher.iter_custom(|n| {
            let consumer = broker.consumer().max_poll_records(10_000);
            let mut consumer = consumer.assign([TopicPartition::new("r5", 0)]).unwrap();
            let started = Instant::now();
            for _ in 0..n {
                consumer.seek_to_beginning();
                let (mut records, mut sum) = (0, 0);
                while records < RECORDS {
                    for record in &consumer.poll(Duration::from_secs(1)).unwrap() {
                        let value = record.value().unwrap_or_default();
                        sum += u64::from(value[0]) + value.len() as u64;
                        records += 1;
                    }
                }
                std::hint::black_box(sum);
            }
            started.elapsed()
        });
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10).measurement_time(Duration::from_secs(5));
    targets = r5_catch_up
}
criterion_main!(benches);
