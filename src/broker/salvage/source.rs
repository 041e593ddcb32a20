//! What there is to be salvaged: which topics, and where their partitions are.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::dump::{DirectoryDump, PartitionDump};
use crate::error::{Error, Result};
use crate::fs::{FileSystem, Kind, Lock};
use crate::group::offset_store::{OFFSETS_TOPIC, offsets_topic_config};
use crate::log::checkpoint::WATERMARK_FILE;
use crate::log::config::TopicConfig;
use crate::topic::log_manager::{LOCK_FILE, load_registry, partitions_made};
use crate::topic::registry::{REGISTRY_FILE, RegisteredTopic, Registry, TopicState};
use crate::topic::topic_id::TopicId;
use crate::topic_partition::TopicPartition;

/// A directory to be salvaged.
pub(super) struct Source {
    pub(super) directory: PathBuf,
    /// The topics that the new directory will have, with all of their partitions.
    pub(super) registry: Registry,
    /// The directories of their partitions, as far as they are there.
    pub(super) partitions: BTreeMap<TopicPartition, PathBuf>,
    /// What had to be made up.
    pub(super) notes: Vec<String>,
    /// Keeps out a broker that would write. `None` where nobody can.
    _lock: Option<Box<dyn Lock>>,
}

impl Source {
    /// Looks at a directory, and keeps it from being written to. Changes nothing.
    pub(super) fn find(fs: &Arc<dyn FileSystem>, directory: &Path) -> Result<Self> {
        let dump = DirectoryDump::open_on(Arc::clone(fs), directory)?;
        let lock = lock(&**fs, directory)?;
        let mut found = Vec::new();
        for partition in dump.partitions()? {
            if is_partition(&**fs, &partition)? {
                found.push(partition);
            }
        }
        let mut notes = Vec::new();
        let registry = match load_registry(&**fs, directory) {
            Ok(Some(registry)) => finished(registry),
            Ok(None) if found.is_empty() => {
                let (path, reason) = (directory.to_owned(), "it holds no partition");
                return Err(Error::NotALogDirectory { path, reason });
            }
            Ok(None) => made_up(&found, "is missing", &mut notes),
            Err(Error::Corrupt(damage)) => {
                made_up(&found, &format!("is damaged ({})", damage.reason), &mut notes)
            }
            Err(error) => return Err(error),
        };
        let partitions = found.iter().map(|partition| {
            (partition.topic_partition().clone(), partition.directory().to_owned())
        });
        let is_registered = |of: &TopicPartition| {
            let topic = registry.topics.get(of.topic());
            topic.is_some_and(|topic| of.partition() < topic.config.partitions)
        };
        let partitions = partitions.filter(|(of, _)| is_registered(of)).collect();
        let directory = directory.to_owned();
        Ok(Self { directory, registry, partitions, notes, _lock: lock })
    }
}

/// Takes the lock of a directory, if it has one: whoever has opened it for writing has made the file.
fn lock(fs: &dyn FileSystem, directory: &Path) -> Result<Option<Box<dyn Lock>>> {
    use std::io::ErrorKind::{ReadOnlyFilesystem, WouldBlock};
    let path = directory.join(LOCK_FILE);
    if fs.kind(&path).map_err(|error| Error::io("look at", &path, error))?.is_none() {
        return Ok(None);
    }
    match fs.lock(&path) {
        Err(error) if error.kind() == WouldBlock => Err(Error::Locked { path }),
        Err(error) if error.kind() == ReadOnlyFilesystem => Ok(None),
        taken => taken.map(Some).map_err(|error| Error::io("lock", &path, error)),
    }
}

/// Whether a directory that is named like a partition holds anything of one.
fn is_partition(fs: &dyn FileSystem, partition: &PartitionDump) -> Result<bool> {
    let checkpoint = partition.directory().join(WATERMARK_FILE);
    let kind = fs.kind(&checkpoint).map_err(|error| Error::io("look at", &checkpoint, error))?;
    Ok(kind == Some(Kind::File) || partition.segments()?.next().is_some())
}

/// The topics as an open would find them: those that are half created or deleted are not there.
fn finished(registry: Registry) -> Registry {
    let topics = registry.topics.into_iter().filter_map(|(name, topic)| {
        let partitions = partitions_made(&topic);
        let config = topic.config.partitions(partitions);
        (partitions > 0)
            .then_some((name, RegisteredTopic { state: TopicState::Live, config, ..topic }))
    });
    Registry { topics: topics.collect() }
}

/// Topics after the directories that are there.
fn made_up(found: &[PartitionDump], what: &str, notes: &mut Vec<String>) -> Registry {
    let mut topics: BTreeMap<String, RegisteredTopic> = BTreeMap::new();
    for partition in found {
        let of = partition.topic_partition();
        let config = topics
            .get(of.topic())
            .map_or_else(|| default_config(of.topic()), |topic| topic.config.clone());
        let count = config.partitions.max(of.partition().saturating_add(1));
        let config = config.partitions(count);
        if let Err(error) = config.validate() {
            notes.push(format!("{of} was left behind: {error}"));
            continue;
        }
        let id = match topics.get(of.topic()) {
            Some(topic) => topic.id,
            None => partition_id(partition).unwrap_or_else(TopicId::random),
        };
        let state = TopicState::Live;
        topics.insert(of.topic().to_owned(), RegisteredTopic { id, state, config });
    }
    notes.push(format!(
        "{REGISTRY_FILE} {what}: the topics were made up from the directories, with default settings \
         and without retention"
    ));
    Registry { topics }
}

fn default_config(topic: &str) -> TopicConfig {
    match topic {
        OFFSETS_TOPIC => offsets_topic_config(),
        _ => TopicConfig::default().retention_ms(None),
    }
}

/// The id that a partition's directory says, if it says one.
fn partition_id(partition: &PartitionDump) -> Option<TopicId> {
    partition.topic_id().ok()??.parse().ok()
}
