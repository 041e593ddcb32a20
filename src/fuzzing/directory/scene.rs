//! A valid directory, written once and kept as bytes, and what is in it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::broker::Broker;
use crate::broker::config::BrokerBuilder;
use crate::consumer::records::OwnedRecord;
use crate::error::{Error, Result};
use crate::fs::memory::MemoryFileSystem;
use crate::fs::{Access, FileSystem, Kind};
use crate::group::OffsetAndMetadata;
use crate::log::config::{Durability, TopicConfig};
use crate::record::{Compression, Record};
use crate::time::{ManualClock, Timestamp};
use crate::topic::Partition;
use crate::topic_partition::TopicPartition;

const GROUP: &str = "audit";
const T0: Timestamp = Timestamp::from_millis(1_700_000_000_000);

/// Everything below the root, by path from there.
pub(super) type Files = BTreeMap<PathBuf, Vec<u8>>;

/// What a partition held.
pub(super) struct Held {
    pub(super) log_start: u64,
    /// Everything below it was synced, and the checkpoint says so.
    pub(super) watermark: u64,
    /// By offset, from 0 on, what was deleted since included.
    pub(super) records: Vec<OwnedRecord>,
}

/// Two topics with three partitions, each of several segments, and a group.
pub(super) struct Scene {
    pub(super) files: Files,
    pub(super) held: BTreeMap<TopicPartition, Held>,
    /// All that the group ever committed, in order.
    pub(super) commits: Vec<BTreeMap<TopicPartition, u64>>,
}

impl Scene {
    /// As a close leaves it.
    pub(super) fn closed() -> &'static Self {
        static CLOSED: OnceLock<Scene> = OnceLock::new();
        CLOSED.get_or_init(|| Self::new(|broker| broker.close().expect("memory does not fail")))
    }

    /// As a kill leaves it: with records above the watermark.
    pub(super) fn killed() -> &'static Self {
        static KILLED: OnceLock<Scene> = OnceLock::new();
        KILLED.get_or_init(|| Self::new(|_| ()))
    }

    fn new(end: impl FnOnce(&Broker)) -> Self {
        let fs = Arc::new(MemoryFileSystem::new());
        let broker = builder(&fs).open().expect("an empty directory opens");
        create_topics(&broker);
        let partitions = partitions_of(&broker);
        for partition in &partitions {
            fill(partition);
        }
        let commits: Vec<_> = [3, 20].map(|first| commit(&broker, first)).into();
        let hold = |partition: &Partition| {
            let of = partition.topic_partition().clone();
            let (records, error) = read(&broker, &of, 0);
            assert!(error.is_none(), "{error:?}");
            // In the middle of a segment: the record is still there.
            partition.delete_records(1).expect("there is more than one");
            (of, Held { log_start: 1, watermark: 0, records })
        };
        let mut held: BTreeMap<_, _> = partitions.iter().map(hold).collect();
        end(&broker);
        for partition in &partitions {
            let held = held.get_mut(partition.topic_partition()).expect("it was just read");
            held.watermark = partition.recovery_point();
        }
        let mut files = read_files(&*fs, broker.directory());
        files.remove(Path::new(".lock"));
        let segments = files.keys().filter(|path| path.extension().is_some_and(|e| e == "log"));
        assert!(segments.count() > 3 * 3, "{:?}", files.keys());
        Self { files, held, commits }
    }
}

fn create_topics(broker: &Broker) {
    let small = TopicConfig::default()
        .segment_bytes(1024)
        .max_message_bytes(1024)
        .index_interval_bytes(100)
        .retention_ms(None);
    let written = Durability::Written { flush_interval: Duration::from_secs(60) };
    let payments = small.clone().durability(written).compression(Compression::Lz4);
    broker.create_topic("orders", small.partitions(2)).expect("the topic is new");
    broker.create_topic("payments", payments).expect("the topic is new");
}

/// Records that say where they belong.
fn fill(partition: &Partition) {
    let of = partition.topic_partition();
    let batch_len = 2 + u64::from(of.partition());
    for batch in 0..12 {
        let first = partition.log_end_offset();
        // What cannot be compressed much, so that all logs are about as long.
        let noise = |offset: u64| (offset + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let value = |offset| format!("{of}@{offset} {:032x}", u128::from(noise(offset)).pow(2));
        let values: Vec<_> = (first..first + batch_len).map(value).collect();
        // Not all in order.
        let timestamp = T0.saturating_add(Duration::from_millis(1_000 * batch + batch % 3 * 5_000));
        let record =
            |value| Record::new(value).key("key").header("h", b"\0\x01").timestamp(timestamp);
        partition.append(&values.iter().map(record).collect::<Vec<_>>()).expect("there is room");
        if batch == 8 {
            partition.flush().expect("memory does not fail");
        }
    }
}

fn commit(broker: &Broker, first: u64) -> BTreeMap<TopicPartition, u64> {
    let offsets = [("orders", 0, first), ("orders", 1, first + 2), ("payments", 0, first + 1)];
    let offsets = offsets.map(|(topic, number, at)| (TopicPartition::new(topic, number), at));
    let committed = offsets.clone().map(|(of, at)| (of, OffsetAndMetadata::new(at)));
    broker.reset_group(GROUP, committed).expect("memory does not fail");
    offsets.into()
}

/// The partitions that users have.
pub(super) fn partitions_of(broker: &Broker) -> Vec<Partition> {
    let topics = broker.topics().expect("it is open");
    let partitions = topics.iter().flat_map(crate::topic::Topic::partitions);
    partitions.filter(|partition| !partition.topic().is_internal()).collect()
}

/// A broker over these files that does nothing of its own accord.
pub(super) fn builder(fs: &Arc<MemoryFileSystem>) -> BrokerBuilder {
    let fs: Arc<MemoryFileSystem> = Arc::clone(fs);
    let clock = Arc::new(ManualClock::new(T0.saturating_add(Duration::from_secs(60))));
    BrokerBuilder::in_memory().file_system(fs).clock(clock).background_thread(false)
}

/// What a consumer gets from an offset on, and what stopped it if not the end.
pub(super) fn read(
    broker: &Broker,
    of: &TopicPartition,
    from: u64,
) -> (Vec<OwnedRecord>, Option<Error>) {
    /// Nothing that was edited holds as many.
    const MANY: usize = 10_000;
    let mut found = Vec::new();
    let read = broker.consumer().assign([of.clone()]).and_then(|mut consumer| {
        consumer.seek(of, from)?;
        loop {
            let records = consumer.poll(Duration::ZERO)?;
            if records.is_empty() {
                return Ok(());
            }
            found.extend(records.iter().map(|record| record.to_owned()));
            assert!(found.len() < MANY, "{of}: reading does not come to an end");
        }
    });
    (found, read.err())
}

/// What the group has committed.
pub(super) fn committed(broker: &Broker) -> Result<BTreeMap<TopicPartition, u64>> {
    let offsets = broker.describe_group(GROUP)?.map(|group| group.offsets).unwrap_or_default();
    Ok(offsets.into_iter().map(|at| (at.topic_partition, at.committed.offset)).collect())
}

pub(super) fn read_files(fs: &dyn FileSystem, root: &Path) -> Files {
    let mut files = Files::new();
    let mut open = vec![root.to_owned()];
    while let Some(below) = open.pop() {
        for entry in fs.list(&below).expect("memory does not fail") {
            let path = below.join(entry.name);
            if entry.kind == Kind::Directory {
                open.push(path);
                continue;
            }
            let mut bytes = vec![0; usize::try_from(entry.len).expect("it is small")];
            let file = fs.open(&path, Access::Read).expect("it is there");
            file.read_at(&mut bytes, 0).expect("memory does not fail");
            files.insert(path.strip_prefix(root).expect("it is below").to_owned(), bytes);
        }
    }
    files
}

pub(super) fn write_files(fs: &dyn FileSystem, root: &Path, files: &Files) {
    for (name, bytes) in files {
        let path = root.join(name);
        let above: Vec<_> = path.ancestors().skip(1).collect();
        for directory in above.into_iter().rev() {
            if fs.kind(directory).expect("memory does not fail").is_none() {
                fs.create_directory(directory).expect("the name is free");
            }
        }
        let file = fs.create_new(&path).expect("the name is free");
        file.write_all_at(bytes, 0).expect("memory does not fail");
    }
}
