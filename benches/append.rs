//! Appending, beside the bare machine: the same batches, encoded and with their checksum, into files
//! without a log around them.
//!
//! ```text
//! cargo bench --bench append               # three to six minutes
//! cargo bench --bench append -- threads    # one group
//! ```
//!
//! The matrix is walked one axis at a time, at both durability levels, from one base point: batches of
//! 10 records of 100 bytes, appended with `Partition::append` by 1 thread to 1 partition. All of its 384
//! points would take hours and say no more. The axes are records per batch (1, 10, 100, 1,000), value
//! size (100 B, 1 KiB, 16 KiB), threads (1, 2, 8, 64) and partitions (1, 8, 64, 256, in turn). Then the
//! producer, which makes the batches itself. Nothing is compressed; checksums are on.
//!
//! Under `Written` the bare machine lets a file grow; under `Fsync` it writes and syncs space that is
//! there already, once for all threads that wait. What is `Written` is synced and given back between the
//! samples, on both sides, outside of what is measured. Rows R1 to R4 and R9 of the yardstick are points
//! like these.

mod bare;
mod timing;

use std::path::Path;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sapwood::{Broker, Durability, Partition, Record, Topic, TopicConfig};

use bare::log::BareLog;
use timing::beside::{self, Beside};
use timing::{DURABILITIES, WRITTEN, file_system, in_threads, scratch, time};

/// Space is given back when there is more than this.
const KEPT: usize = 256 << 20;
/// What the bare machine writes to over and over, in all partitions together.
const SPACE: usize = 64 << 20;
const BATCH_BYTES: usize = 16 << 10;
const VALUE_LENS: [usize; 3] = [100, 1 << 10, 16 << 10];

/// A point of the matrix.
#[derive(Clone, Copy)]
struct Point {
    batch: u32,
    value_len: usize,
    threads: usize,
    partitions: u32,
}

const BASE: Point = Point { batch: 10, value_len: 100, threads: 1, partitions: 1 };

fn topic(directory: &Path, partitions: u32, durability: Durability) -> (Broker, Topic) {
    let broker = Broker::open(directory.join("data")).unwrap();
    let config = TopicConfig::default().partitions(partitions).durability(durability);
    let topic = broker.create_topic("log", config.segment_bytes(KEPT as u32)).unwrap();
    (broker, topic)
}

/// Syncs what is not, and gives space back.
fn settle(logs: &[Partition]) {
    let size: u64 = logs.iter().map(Partition::size).sum();
    for log in logs {
        log.flush().unwrap();
        if size > KEPT as u64 {
            log.delete_records(log.high_watermark()).unwrap();
        }
    }
}

/// `Partition::append` at one point. The work to be done is one batch by each thread, to one partition
/// after the other.
fn append(suite: &mut Beside<'_>, name: &str, durability: Durability, point: Point) {
    let Point { batch, value_len, threads, partitions } = point;
    let directory = scratch();
    let (_broker, topic) = topic(directory.path(), partitions, durability);
    let logs = topic.partitions();
    let count = logs.len();
    let bare_log = |n: usize| {
        BareLog::new(&directory.path().join(format!("bare-{n}")), durability, SPACE / count)
    };
    let bare_logs: Vec<_> = (0..count).map(bare_log).collect();
    let value = vec![b'v'; value_len];
    let records = vec![Record::new(&value); batch as usize];
    warm_up(&bare_logs, &logs, &records);
    suite.pair(
        name,
        Throughput::Elements(u64::from(batch) * threads as u64),
        |n| {
            let took = in_threads(threads, |thread| {
                let mut buffer = Vec::new();
                for at in in_turn(thread, count, n) {
                    bare::batch(&mut buffer, batch, &value);
                    bare_logs[at].append(&buffer);
                }
            });
            bare_logs.iter().for_each(|log| log.settle(KEPT / count));
            took
        },
        |n| {
            let took = in_threads(threads, |thread| {
                for at in in_turn(thread, count, n) {
                    logs[at].append(&records).unwrap();
                }
            });
            settle(&logs);
            took
        },
    );
}

/// Puts a batch into each partition: the first one costs more, and is none of the axes.
fn warm_up(bare_logs: &[BareLog], logs: &[Partition], records: &[Record<'_>]) {
    let mut buffer = Vec::new();
    bare::batch(&mut buffer, records.len() as u32, records[0].value().unwrap());
    bare_logs.iter().for_each(|log| log.append(&buffer));
    logs.iter().for_each(|log| drop(log.append(records).unwrap()));
}

/// `n` partitions, one after the other, beginning with the thread's own.
fn in_turn(thread: usize, partitions: usize, n: u64) -> impl Iterator<Item = usize> {
    (0..n as usize).map(move |turn| (thread + turn) % partitions)
}

/// One axis, at both durability levels.
fn axis(criterion: &mut Criterion, name: &str, settings: &str, points: &[(String, Point)]) {
    let on = file_system(scratch().path());
    let settings = format!("{settings}, Partition::append, checksums, no compression, {on}");
    let mut suite = Beside::new(criterion, name, &settings);
    for (level, durability) in DURABILITIES {
        for (name, point) in points {
            append(&mut suite, &format!("{level}, {name}"), durability, *point);
        }
    }
    suite.finish();
}

fn batches(criterion: &mut Criterion) {
    let points = [1, 10, 100, 1_000].map(|batch| {
        let records = if batch == 1 { "record" } else { "records" };
        (format!("{batch} {records}"), Point { batch, ..BASE })
    });
    axis(criterion, "append, by batch", "values of 100 B, 1 thread, 1 partition", &points);
}

fn values(criterion: &mut Criterion) {
    let points = VALUE_LENS
        .map(|value_len| (format!("values of {value_len} B"), Point { value_len, ..BASE }));
    axis(criterion, "append, by value size", "batches of 10, 1 thread, 1 partition", &points);
}

fn threads(criterion: &mut Criterion) {
    let points =
        [1, 2, 8, 64].map(|threads| (format!("{threads} threads"), Point { threads, ..BASE }));
    axis(criterion, "append, by threads", "batches of 10 x 100 B, 1 partition", &points);
}

fn partitions(criterion: &mut Criterion) {
    let points = [1, 8, 64, 256]
        .map(|partitions| (format!("{partitions} partitions"), Point { partitions, ..BASE }));
    axis(criterion, "append, by partitions", "batches of 10 x 100 B, 1 thread", &points);
}

/// A producer that fills batches of 16 KiB and is flushed at the end of each sample. Under `Fsync` how
/// much goes into one sync depends on the moment, and there is no bare line that does the same.
fn producer(criterion: &mut Criterion) {
    let on = file_system(scratch().path());
    let settings = format!(
        "Written, batches of 16 KiB, 1 thread, 1 partition, checksums, no compression, {on}"
    );
    let mut suite = Beside::new(criterion, "producer, by value size", &settings);
    for value_len in VALUE_LENS {
        let directory = scratch();
        let (broker, topic) = topic(directory.path(), 1, WRITTEN);
        let producer = broker.producer().batch_size(BATCH_BYTES).build().unwrap();
        let bare = BareLog::new(&directory.path().join("bare"), WRITTEN, 0);
        let value = vec![b'v'; value_len];
        let per_batch = ((BATCH_BYTES - bare::HEADER) / (value_len + 10)).max(1) as u64;
        let mut buffer = Vec::new();
        suite.pair(
            &format!("values of {value_len} B"),
            Throughput::Elements(1),
            |n| {
                let took = time(|| {
                    for first in (0..n).step_by(per_batch as usize) {
                        bare::batch(&mut buffer, per_batch.min(n - first) as u32, &value);
                        bare.append(&buffer);
                    }
                });
                bare.settle(KEPT);
                took
            },
            |n| {
                let took = time(|| {
                    for _ in 0..n {
                        producer.send(&topic, Record::new(&value)).unwrap();
                    }
                    producer.flush().unwrap();
                });
                settle(&topic.partitions());
                took
            },
        );
    }
    suite.finish();
}

criterion_group! {
    name = benches;
    config = beside::criterion();
    targets = batches, values, threads, partitions, producer
}
criterion_main!(benches);
