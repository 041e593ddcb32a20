//! A directory with something of everything in it, and ways to look at one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::append;
use crate::broker::Broker;
use crate::broker::config::BrokerBuilder;
use crate::fs::{FileSystem, Kind, durably};
use crate::group::OffsetAndMetadata;
use crate::log::config::{Durability, TopicConfig};
use crate::record::batch::RecordBatch;
use crate::topic::{Partition, Topic};
use crate::topic_partition::TopicPartition;

pub(super) const GROUP: &str = "billing";

fn small_segments() -> TopicConfig {
    TopicConfig::default().max_message_bytes(600).segment_bytes(1_024).index_interval_bytes(150)
}

fn written() -> TopicConfig {
    small_segments().durability(Durability::Written { flush_interval: Duration::from_secs(1) })
}

pub(super) fn on(fs: &(impl FileSystem + Clone + 'static), directory: &str) -> BrokerBuilder {
    Broker::builder(directory).file_system(Arc::new(fs.clone())).background_thread(false)
}

/// A broker with a topic of each durability, several segments each, and a group half-way through.
pub(super) fn fill(broker: &Broker) {
    let synced = broker.create_topic("synced", small_segments().partitions(2)).unwrap();
    let written = broker.create_topic("written", written()).unwrap();
    for n in 0..30 {
        for (topic, partition) in [(&synced, 0), (&synced, 1), (&written, 0)] {
            append(topic, partition, &format!("record {n} of {partition} {:.>60}", "|")).unwrap();
        }
    }
    synced.partition(1).unwrap().delete_records(17).unwrap();
    let at = |topic, offset| (TopicPartition::new(topic, 0), OffsetAndMetadata::new(offset));
    broker.reset_group(GROUP, [at("synced", 12), at("written", 30)]).unwrap();
    written.partition(0).unwrap().flush().unwrap();
}

pub(super) type Records = Vec<(u64, String)>;

pub(super) fn records(partition: &Partition) -> Records {
    let start = partition.log_start_offset();
    let (mut records, mut buffer, mut offset) = (Vec::new(), Vec::new(), start);
    while let Some(fetched) = partition.log().read(offset, None, 1 << 20).unwrap() {
        let mut bytes: &[u8] = &fetched.bytes;
        while !bytes.is_empty() {
            let batch = RecordBatch::parse(bytes).unwrap();
            for record in batch.records(&mut buffer, 1 << 20).unwrap() {
                let record = record.unwrap();
                if record.offset() >= start {
                    let value = String::from_utf8_lossy(record.value().unwrap());
                    records.push((record.offset(), value.into_owned()));
                }
            }
            bytes = &bytes[batch.size()..];
        }
        offset = fetched.next_offset;
    }
    records
}

/// Everything that users can see: topics with ids and settings, records, groups.
pub(super) fn everything(broker: &Broker) -> impl PartialEq + std::fmt::Debug + use<> {
    let partition = |partition: &Partition| (partition.log_start_offset(), records(partition));
    let topic = |topic: &Topic| {
        let partitions: Vec<_> = topic.partitions().iter().map(partition).collect();
        (topic.name().to_owned(), topic.id(), topic.config(), partitions)
    };
    let topics: Vec<_> = broker.topics().unwrap().iter().map(topic).collect();
    let groups: Vec<_> =
        broker.list_groups().unwrap().iter().map(|g| broker.describe_group(g).unwrap()).collect();
    (topics, groups)
}

/// All files of a directory and their bytes.
pub(super) fn contents(fs: &dyn FileSystem, directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs.list(directory).unwrap() {
        let path = directory.join(entry.name);
        if entry.kind == Kind::Directory {
            files.extend(contents(fs, &path));
        } else {
            let bytes = durably::read(fs, &path, 1 << 30).unwrap().unwrap();
            files.insert(path, bytes);
        }
    }
    files
}

pub(super) fn is_log(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "log")
}
