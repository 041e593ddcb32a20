//! Commits of offsets, which are durable when they return, beside the bare machine: as many bytes
//! written and synced, once for all threads that wait.
//!
//! ```text
//! cargo bench --bench commit    # under a minute
//! ```
//!
//! By threads (1, 2, 8, 64), each with a consumer in a group of its own that commits one partition: all
//! of them share the one partition of `__consumer_offsets`, and its syncs. By partitions (1, 10, 100) in
//! one commit of one consumer. Values are those of a commit without metadata; checksums are on, nothing
//! is compressed.

mod bare;
mod timing;

use std::path::Path;
use std::sync::Mutex;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sapwood::{Broker, Consumer, OffsetAndMetadata, Record, TopicConfig, TopicPartition};

use bare::Space;
use bare::group_commit::GroupCommit;
use timing::beside::{self, Beside};
use timing::{file_system, in_threads, scratch};

/// What there is to commit offsets of.
const RECORDS: u64 = 100;
const SPACE: usize = 16 << 20;

/// A broker with a topic of so many partitions.
fn open(directory: &Path, partitions: u32) -> Broker {
    let broker = Broker::open(directory.join("data")).unwrap();
    let topic = broker.create_topic("log", TopicConfig::default().partitions(partitions)).unwrap();
    for partition in topic.partitions() {
        partition.append(&vec![Record::new("value"); RECORDS as usize]).unwrap();
    }
    broker
}

fn partitions(count: u32) -> Vec<TopicPartition> {
    (0..count).map(|partition| TopicPartition::new("log", partition)).collect()
}

fn consumer(broker: &Broker, group: usize, partitions: &[TopicPartition]) -> Consumer {
    let consumer = broker.consumer().group(format!("group-{group:02}")).auto_commit(None);
    consumer.assign(partitions.to_vec()).unwrap()
}

fn commit(consumer: &mut Consumer, partitions: &[TopicPartition], offset: u64) {
    let offset = OffsetAndMetadata::new(offset % RECORDS);
    consumer.commit_offsets(partitions.iter().map(|of| (of.clone(), offset.clone()))).unwrap();
}

/// How many bytes a commit writes.
fn commit_len(broker: &Broker, consumer: &mut Consumer, partitions: &[TopicPartition]) -> usize {
    let size = || broker.topic("__consumer_offsets").unwrap().size();
    commit(consumer, partitions, 1);
    let before = size();
    commit(consumer, partitions, 2);
    (size() - before) as usize
}

/// The value with which a bare batch of so many records has, but for a few, as many bytes.
fn bare_value_len(len: usize, records: u32) -> usize {
    let mut buffer = Vec::new();
    let fits = |value_len: &usize| {
        bare::batch(&mut buffer, records, &vec![b'v'; *value_len]);
        buffer.len() <= len
    };
    (0..len).take_while(fits).last().unwrap()
}

/// The work to be done is one commit by each thread.
fn commits(suite: &mut Beside<'_>, name: &str, threads: usize, count: u32) {
    let directory = scratch();
    let broker = open(directory.path(), count);
    let partitions = partitions(count);
    let mut consumers: Vec<_> = (0..threads).map(|n| consumer(&broker, n, &partitions)).collect();
    let len = commit_len(&broker, &mut consumers[0], &partitions);
    let bare = GroupCommit::new(Space::new(&directory.path().join("bare"), SPACE));
    let value_len = bare_value_len(len, count);
    let consumers: Vec<_> = consumers.into_iter().map(Mutex::new).collect();
    suite.pair(
        &format!("{name}, {len} B"),
        Throughput::Elements(threads as u64),
        |n| {
            in_threads(threads, |_| {
                let (value, mut buffer) = (vec![b'v'; value_len], Vec::new());
                for _ in 0..n {
                    bare::batch(&mut buffer, count, &value);
                    bare.append(&buffer);
                }
            })
        },
        |n| {
            in_threads(threads, |thread| {
                let mut consumer = consumers[thread].lock().unwrap();
                (0..n).for_each(|offset| commit(&mut consumer, &partitions, offset));
            })
        },
    );
}

fn settings() -> String {
    format!("commit_offsets, durable, checksums, no compression, {}", file_system(scratch().path()))
}

fn by_threads(criterion: &mut Criterion) {
    let settings = format!("1 partition in a commit, {}", settings());
    let mut suite = Beside::new(criterion, "commit, by threads", &settings);
    for threads in [1, 2, 8, 64] {
        commits(&mut suite, &format!("{threads} threads"), threads, 1);
    }
    suite.finish();
}

fn by_partitions(criterion: &mut Criterion) {
    let settings = format!("1 thread, {}", settings());
    let mut suite = Beside::new(criterion, "commit, by partitions", &settings);
    for count in [1, 10, 100] {
        commits(&mut suite, &format!("{count} partitions"), 1, count);
    }
    suite.finish();
}

criterion_group! {
    name = benches;
    config = beside::criterion();
    targets = by_threads, by_partitions
}
criterion_main!(benches);
