//! Rows R1 to R4 and R9: appending.

use std::hint::black_box;
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use sapwood::{Broker, Durability, Partition, Record, Topic, TopicConfig};

use crate::bare::group_commit::GroupCommit;
use crate::bare::growing::Growing;
use crate::bare::{self, Space};
use crate::measure::{Pairs, Report, Target};
use crate::timing::{percentiles, rate, scratch, seconds};

pub const VALUE: [u8; 100] = [b'v'; 100];
const BATCH_BYTES: usize = 16 << 10;
const SPACE: usize = 256 << 20;
/// What a batch of one record takes.
const SINGLE: usize = 171;

pub fn written() -> Durability {
    Durability::Written { flush_interval: Duration::from_secs(1) }
}

pub fn topic(broker: &Broker, name: &str, partitions: u32, durability: Durability) -> Topic {
    let config = TopicConfig::default().partitions(partitions).durability(durability);
    broker.create_topic(name, config.segment_bytes(SPACE as u32)).unwrap()
}

/// Gives space back and syncs, outside of what is measured.
fn settle(topic: &Topic) {
    for partition in topic.partitions() {
        partition.flush().unwrap();
        partition.delete_records(partition.high_watermark()).unwrap();
    }
}

/// The same records in the same batches, with something done besides for each record.
fn bare_batched(
    mut store: impl FnMut(&[u8]),
    mut besides: impl FnMut(),
    buffer: &mut Vec<u8>,
    records: u64,
) {
    let mut left = records;
    while left > 0 {
        bare::begin(buffer);
        let mut count = 0;
        while left > 0 && buffer.len() + 110 <= BATCH_BYTES {
            besides();
            bare::record(buffer, i64::from(count), &VALUE);
            (count, left) = (count + 1, left - 1);
        }
        bare::finish(buffer, count);
        store(buffer);
    }
}

fn bare_single(mut store: impl FnMut(&[u8]), buffer: &mut Vec<u8>, records: u64) {
    for _ in 0..records {
        bare::batch(buffer, 1, &VALUE);
        store(buffer);
    }
}

/// R1: one thread, a producer with batches of 16 KiB. Beside a mapping of space that was written to
/// before, beside a file that grows as the log does, and beside that with what a producer needs that
/// any thread may send through and that tells of each record: a lock to take, and a handle to share.
pub fn batched(report: &mut Report) {
    const RECORDS: u64 = 1_000_000;
    let directory = scratch();
    let broker = Broker::open(directory.path().join("log")).unwrap();
    let topic = topic(&broker, "r1", 1, written());
    let producer = broker.producer().batch_size(BATCH_BYTES).build().unwrap();
    let mut space = Space::new(&directory.path().join("bare"), SPACE);
    let mut growing = Growing::new(&directory.path().join("growing"));
    let mut buffer = Vec::with_capacity(BATCH_BYTES);
    let mut bare =
        || rate(RECORDS, || bare_batched(|bytes| space.store(bytes), || (), &mut buffer, RECORDS));
    let mut ours = || {
        let rate = rate(RECORDS, || {
            for _ in 0..RECORDS {
                producer.send(&topic, Record::new(&VALUE)).unwrap();
            }
            // Written, not synced: that is what `Written` promises.
            producer.flush().unwrap();
        });
        settle(&topic);
        rate
    };
    let how = "producer, batches of 16 KiB, Written, 1 thread";
    let pairs = Pairs::of(9, &mut bare, &mut ours);
    let detail = format!("{how}: {}", pairs.millions());
    report.row("R1", pairs.ratio(), Target::Least(0.6), &detail);
    let mut buffer = Vec::with_capacity(BATCH_BYTES);
    let mut beside_growing = |besides: &dyn Fn()| {
        let bare = || {
            growing.start_over();
            let store = |bytes: &[u8]| growing.write(bytes);
            rate(RECORDS, || bare_batched(store, besides, &mut buffer, RECORDS))
        };
        Pairs::of(9, bare, &mut ours)
    };
    let pairs = beside_growing(&|| ());
    let detail = format!("{how}, beside a file that grows: {}", pairs.millions());
    report.row("R1-growing", pairs.ratio(), Target::Least(0.6), &detail);
    let shared = Arc::new(Mutex::new(0_u64));
    let pairs = beside_growing(&|| {
        *black_box(&shared).lock().unwrap() += 1;
        drop(black_box(Arc::clone(&shared)));
    });
    let detail = format!("the same, with a lock and a handle per record: {}", pairs.millions());
    report.row("R1-shared", pairs.ratio(), Target::Least(0.6), &detail);
}

/// R2: one thread, each record its own batch, visible when the call returns. Beside the same three,
/// but nothing is told later, so the lock alone.
pub fn single(report: &mut Report) {
    const RECORDS: u64 = 500_000;
    let directory = scratch();
    let broker = Broker::open(directory.path().join("log")).unwrap();
    let topic = topic(&broker, "r2", 1, written());
    let partition = topic.partition(0).unwrap();
    let mut space = Space::new(&directory.path().join("bare"), SPACE);
    let mut growing = Growing::new(&directory.path().join("growing"));
    let mut buffer = Vec::with_capacity(SINGLE);
    let bare = || rate(RECORDS, || bare_single(|bytes| space.store(bytes), &mut buffer, RECORDS));
    let mut ours = || {
        let rate = rate(RECORDS, || (0..RECORDS).for_each(|_| append_one(&partition)));
        settle(&topic);
        rate
    };
    let pairs = Pairs::of(9, bare, &mut ours);
    let mut latencies: Vec<_> = (0..200_000)
        .map(|_| {
            let started = Instant::now();
            partition.append(&[Record::new(&VALUE)]).unwrap();
            started.elapsed()
        })
        .collect();
    latencies.sort_unstable();
    let (rates, latencies) = (pairs.millions(), percentiles(&latencies));
    let detail = format!("a batch for each record, Written, 1 thread: {rates}; {latencies}");
    report.row("R2", pairs.ratio(), Target::Least(0.4), &detail);
    let mut buffer = Vec::with_capacity(SINGLE);
    let mut beside_growing = |besides: &dyn Fn()| {
        let bare = || {
            growing.start_over();
            let store = |bytes: &[u8]| {
                besides();
                growing.store(bytes);
            };
            rate(RECORDS, || bare_single(store, &mut buffer, RECORDS))
        };
        Pairs::of(9, bare, &mut ours)
    };
    let pairs = beside_growing(&|| ());
    let detail = format!("the same, beside a file that grows: {}", pairs.millions());
    report.row("R2-growing", pairs.ratio(), Target::Least(0.4), &detail);
    let shared = Mutex::new(0_u64);
    let pairs = beside_growing(&|| *black_box(&shared).lock().unwrap() += 1);
    let detail = format!("the same, with a lock per record: {}", pairs.millions());
    report.row("R2-shared", pairs.ratio(), Target::Least(0.4), &detail);
}

/// R3: one thread, each record its own batch and its own sync.
pub fn synced(report: &mut Report) {
    let pairs = synced_pairs();
    let [bare, ours] = [pairs.bare(), pairs.ours()].map(|seconds| seconds * 1e6);
    let detail =
        format!("a sync for each record, 1 thread: bare {bare:.0} us, sapwood {ours:.0} us");
    report.row("R3", pairs.ratio(), Target::Most(1.1), &detail);
}

/// Seconds per record.
fn synced_pairs() -> Pairs {
    const RECORDS: u32 = 200;
    let directory = scratch();
    let broker = Broker::builder(directory.path().join("log")).background_thread(false);
    let broker = broker.open().unwrap();
    let partition = topic(&broker, "r3", 1, Durability::Fsync).partition(0).unwrap();
    let mut space = Space::new(&directory.path().join("bare"), 16 << 20);
    let mut buffer = Vec::new();
    let mut bare = || {
        bare::batch(&mut buffer, 1, &VALUE);
        space.write_and_sync(&buffer);
    };
    let mut pairs = Pairs::default();
    for _ in 0..11 {
        // One by one, so that both meet the disk in the same mood.
        let (mut of_bare, mut of_ours) = (0.0, 0.0);
        for _ in 0..RECORDS {
            of_bare += seconds(&mut bare);
            of_ours += seconds(|| drop(partition.append(&[Record::new(&VALUE)]).unwrap()));
        }
        pairs.push(of_bare / f64::from(RECORDS), of_ours / f64::from(RECORDS));
    }
    pairs
}

/// R4: many threads, each of which waits for a sync of its record.
pub fn synced_by_many(report: &mut Report) {
    for (name, threads, partitions) in [("R4a", 8, 1), ("R4b", 8, 8), ("R4c", 64, 1)] {
        let directory = scratch();
        let broker = Broker::builder(directory.path().join("log")).background_thread(false);
        let broker = broker.open().unwrap();
        let topic = topic(&broker, "r4", partitions as u32, Durability::Fsync);
        let logs: Vec<_> = topic.partitions();
        let bare: Vec<_> = (0..partitions)
            .map(|n| GroupCommit::new(Space::new(&directory.path().join(format!("{n}")), 4 << 20)))
            .collect();
        let each = 100 * 8 / threads as u64 + 20;
        let in_threads = |work: &(dyn Fn(usize) + Sync)| {
            let barrier = Barrier::new(threads);
            rate(each * threads as u64, || {
                thread::scope(|scope| {
                    for thread in 0..threads {
                        let barrier = &barrier;
                        scope.spawn(move || {
                            barrier.wait();
                            (0..each).for_each(|_| work(thread));
                        });
                    }
                });
            })
        };
        let pairs = Pairs::of(
            7,
            || {
                in_threads(&|thread| {
                    let mut buffer = Vec::with_capacity(SINGLE);
                    bare::batch(&mut buffer, 1, &VALUE);
                    bare[thread % partitions].append(&buffer);
                })
            },
            || in_threads(&|thread| append_one(&logs[thread % partitions])),
        );
        let detail = format!(
            "a sync for each, {threads} threads, {partitions} partitions: bare {:.1} k/s, sapwood {:.1} k/s",
            pairs.bare() / 1e3,
            pairs.ours() / 1e3
        );
        report.row(name, pairs.ratio(), Target::Least(1.0), &detail);
        if threads == 64 {
            let one = synced_pairs();
            let times = pairs.ours() * one.ours();
            report.row("R4d", times, Target::Least(30.0), "64 threads by one (R3)");
        }
    }
}

fn append_one(partition: &Partition) {
    partition.append(&[Record::new(&VALUE)]).unwrap();
}

/// R9: two threads into eight partitions beside twice one thread into one.
pub fn two_threads(report: &mut Report) {
    const RECORDS: u64 = 500_000;
    let directory = scratch();
    let broker = Broker::open(directory.path().join("log")).unwrap();
    let topics = [topic(&broker, "one", 1, written()), topic(&broker, "many", 8, written())];
    let producers = [0, 1].map(|_| broker.producer().batch_size(BATCH_BYTES).build().unwrap());
    let single = |topic: &Topic, thread: usize| {
        let logs = topic.partitions();
        let own: Vec<_> = logs.iter().skip(thread).step_by(2.min(logs.len())).collect();
        for n in 0..RECORDS as usize {
            append_one(own[n % own.len()]);
        }
    };
    let batched = |topic: &Topic, thread: usize| {
        let count = topic.partition_count();
        let own: Vec<_> = (0..count).skip(thread).step_by(2.min(count as usize)).collect();
        for n in 0..2 * RECORDS as usize {
            // A few hundred to one partition, then to the next, as keys or stickiness make it.
            let record = Record::new(&VALUE).partition(own[n / 256 % own.len()]);
            producers[thread].send(topic, record).unwrap();
        }
        producers[thread].flush().unwrap();
    };
    type Work<'a> = &'a (dyn Fn(&Topic, usize) + Sync);
    let work: [(&str, Work<'_>, u64); 2] =
        [("R9a", &single, RECORDS), ("R9b", &batched, 2 * RECORDS)];
    for (name, work, records) in work {
        let pairs = Pairs::of(
            5,
            || {
                let rate = rate(records, || work(&topics[0], 0));
                settle(&topics[0]);
                2.0 * rate
            },
            || {
                let rate = rate(2 * records, || {
                    thread::scope(|scope| {
                        for thread in 0..2 {
                            let topic = &topics[1];
                            scope.spawn(move || work(topic, thread));
                        }
                    });
                });
                settle(&topics[1]);
                rate
            },
        );
        let how = if name == "R9a" { "a batch for each record" } else { "batched" };
        let detail =
            format!("2 threads, 8 partitions, {how}, by twice 1 thread: {}", pairs.millions());
        report.row(name, pairs.ratio(), Target::Least(0.8), &detail);
    }
}
