//! Looking at a directory file by file, as it lies on the disk: what Kafka's `kafka-dump-log` shows,
//! and what Sapwood's own files say.
//!
//! Nothing here needs a broker, nor that one could be opened: each file is read for itself, and what
//! is damaged is told with its place. Nothing is changed and nothing is mapped, so that a failing disk
//! is an error. A process that writes to the directory at the same time does no harm; what it has half
//! written looks like damage.

pub(crate) mod batch;
pub(crate) mod index;
pub(crate) mod segment;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use self::segment::SegmentDump;
use crate::error::{Corruption, Error, Result};
use crate::fs::disk::DiskFileSystem;
use crate::fs::{Entry, FileSystem, Kind, durably};
use crate::log::config::TopicConfig;
use crate::log::recovery::read_checkpoint;
use crate::segment::file_name::{self, Suffix};
use crate::topic::kafka_files::{
    KafkaFileError, PARTITION_METADATA_FILE, parse_partition_metadata,
};
use crate::topic::log_manager::load_registry;
use crate::topic::registry::TopicState;
use crate::topic_partition::TopicPartition;

/// `partition.metadata` is never longer.
const METADATA_LEN_MAX: u64 = 4096;

/// A directory of topics, to be looked at whatever state it is in.
///
/// ```
/// use sapwood::{Broker, DirectoryDump, Record, SegmentPart, TopicConfig};
///
/// # let directory = tempfile::tempdir().unwrap();
/// # let directory = directory.path().join("data");
/// # let broker = Broker::open(&directory)?;
/// # let orders = broker.create_topic("orders", TopicConfig::default())?;
/// # orders.partition(0)?.append(&[Record::new("paid").key("alice")])?;
/// # broker.close()?;
/// for partition in DirectoryDump::open(&directory)?.partitions()? {
///     for segment in partition.segments()? {
///         for part in segment?.parts()? {
///             match part? {
///                 SegmentPart::Batch(batch) => {
///                     println!("{}: offsets {} to {}", batch.file_position, batch.base_offset, batch.last_offset);
///                     for record in batch.records()?.iter() {
///                         assert_eq!(record?.key, Some(&b"alice"[..]));
///                     }
///                 }
///                 SegmentPart::Zeros(bytes) => println!("{}: zeros", bytes.start),
///                 SegmentPart::Damage(damage) => eprintln!("{damage}"),
///                 _ => {}
///             }
///         }
///     }
/// }
/// # Ok::<(), sapwood::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct DirectoryDump {
    fs: Arc<dyn FileSystem>,
    directory: PathBuf,
}

/// What the registry says of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicDump {
    /// Its name.
    pub name: String,
    /// Its id, as Kafka writes ids.
    pub id: String,
    /// Whether it is being created or deleted.
    pub state: TopicState,
    /// Its settings and, in them, the number of partitions.
    pub config: TopicConfig,
}

/// The directory of a partition.
#[derive(Debug, Clone)]
pub struct PartitionDump {
    fs: Arc<dyn FileSystem>,
    topic_partition: TopicPartition,
    directory: PathBuf,
}

/// What the watermark checkpoint of a partition says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct CheckpointDump {
    /// Every offset below it is on disk.
    pub recovery_point: u64,
    /// The base offset of the segment in which that offset lies, or will.
    pub segment_base_offset: u64,
    /// Where in that segment's `.log` it lies, in bytes.
    pub file_position: u32,
    /// The first offset that can be read.
    pub log_start_offset: u64,
    /// A sync has failed: what lies above the recovery point may be lost with the next power cut.
    pub sync_failed: bool,
    /// The index files of that segment are on disk as well.
    pub indexes_synced: bool,
}

impl DirectoryDump {
    /// Looks at a directory, which need not be one that a broker can open.
    ///
    /// # Errors
    ///
    /// [`Error::NotALogDirectory`] if it is not there or no directory; [`Error::Io`].
    pub fn open(directory: impl AsRef<Path>) -> Result<Self> {
        Self::open_on(Arc::new(DiskFileSystem), directory.as_ref())
    }

    pub(crate) fn open_on(fs: Arc<dyn FileSystem>, directory: &Path) -> Result<Self> {
        let kind = fs.kind(directory).map_err(|error| Error::io("look at", directory, error))?;
        let reason = match kind {
            Some(Kind::Directory) => return Ok(Self { fs, directory: directory.to_owned() }),
            Some(_) => "it is not a directory",
            None => "it does not exist",
        };
        Err(Error::NotALogDirectory { path: directory.to_owned(), reason })
    }

    /// What the registry says, in order of the topics' names. `None` if there is no registry.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] if it is damaged, which is all or nothing; [`Error::UnsupportedFormat`] if
    /// a newer version has written it; [`Error::Io`].
    pub fn topics(&self) -> Result<Option<Vec<TopicDump>>> {
        let Some(registry) = load_registry(&*self.fs, &self.directory)? else { return Ok(None) };
        let dump = |(name, topic): (String, crate::topic::registry::RegisteredTopic)| TopicDump {
            name,
            id: topic.id.to_string(),
            state: topic.state,
            config: topic.config,
        };
        Ok(Some(registry.topics.into_iter().map(dump).collect()))
    }

    /// The directories that are named like a partition, in order of topic and number, whether or not
    /// the registry knows them.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn partitions(&self) -> Result<Vec<PartitionDump>> {
        let directories =
            list(&*self.fs, &self.directory)?.into_iter().filter(|e| e.kind == Kind::Directory);
        let partition = |entry: Entry| {
            let topic_partition = TopicPartition::from_directory_name(entry.name.to_str()?)?;
            let (fs, directory) = (Arc::clone(&self.fs), self.directory.join(entry.name));
            Some(PartitionDump { fs, topic_partition, directory })
        };
        let mut partitions: Vec<_> = directories.filter_map(partition).collect();
        partitions.sort_by(|a, b| a.topic_partition.cmp(&b.topic_partition));
        Ok(partitions)
    }
}

impl PartitionDump {
    /// Topic and number, by the directory's name.
    pub fn topic_partition(&self) -> &TopicPartition {
        &self.topic_partition
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The id of the topic that the directory says it belongs to. `None` if it does not say.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] if the file that says it is damaged, [`Error::UnsupportedFormat`] if it is
    /// of a version that is not known; [`Error::Io`].
    pub fn topic_id(&self) -> Result<Option<String>> {
        let path = self.directory.join(PARTITION_METADATA_FILE);
        let Some(file) = durably::read(&*self.fs, &path, METADATA_LEN_MAX)? else {
            return Ok(None);
        };
        match parse_partition_metadata(&file) {
            Ok(id) => Ok(Some(id.to_string())),
            Err(error @ KafkaFileError::Unsupported(_)) => {
                Err(Error::UnsupportedFormat { path, reason: error.to_string() })
            }
            Err(error) => Err(Corruption::of_file(&path, error.to_string()).into()),
        }
    }

    /// The newest watermark checkpoint. `None` if there is no file, or nothing in it is whole.
    ///
    /// # Errors
    ///
    /// [`Error::UnsupportedFormat`] if a newer version has written it; [`Error::Io`].
    pub fn checkpoint(&self) -> Result<Option<CheckpointDump>> {
        let newest = read_checkpoint(&*self.fs, &self.directory)?.newest();
        Ok(newest.map(|checkpoint| CheckpointDump {
            recovery_point: checkpoint.recovery_point,
            segment_base_offset: checkpoint.segment_base,
            file_position: checkpoint.file_position,
            log_start_offset: checkpoint.log_start_offset,
            sync_failed: checkpoint.sync_failed,
            indexes_synced: checkpoint.indexes_synced,
        }))
    }

    /// The segments, in order of their base offsets. Each is opened when its turn comes.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], here and from the iterator.
    pub fn segments(&self) -> Result<impl Iterator<Item = Result<SegmentDump>>> {
        let entries = list(&*self.fs, &self.directory)?.into_iter();
        let mut paths: Vec<_> = entries
            .filter(|entry| entry.kind == Kind::File)
            .filter(|entry| matches!(file_name::parse(&entry.name), Some((_, Suffix::Log))))
            .map(|entry| self.directory.join(entry.name))
            .collect();
        paths.sort();
        let fs = Arc::clone(&self.fs);
        Ok(paths.into_iter().map(move |path| SegmentDump::open_on(Arc::clone(&fs), &path)))
    }
}

fn list(fs: &dyn FileSystem, directory: &Path) -> Result<Vec<Entry>> {
    fs.list(directory).map_err(|error| Error::io("list", directory, error))
}
