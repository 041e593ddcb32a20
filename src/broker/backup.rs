//! Backing up: a copy of a whole directory while it is in use.

use std::path::{Path, PathBuf};

use crate::broker::Broker;
use crate::error::Result;
use crate::fs::durably;
use crate::log::PartitionLog;
use crate::topic::Topic;
use crate::topic::kafka_files::{LEADER_EPOCH_FILE, PARTITION_METADATA_FILE};
use crate::topic::log_manager::OpenMode;
use crate::topic::new_directory::NewDirectory;
use crate::topic::registry::{RegisteredTopic, Registry, TopicState};
use crate::topic_partition::TopicPartition;

/// How often the copy of a partition is begun anew because its files have changed.
const ATTEMPTS: u32 = 10;

/// The outcome of [`Broker::backup`](crate::Broker::backup).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackupReport {
    /// Where the copy is.
    pub directory: PathBuf,
    /// Every partition in it, internal ones included, in order of topic and number.
    pub partitions: Vec<PartitionBackup>,
}

impl BackupReport {
    /// Bytes of record batches in files that the broker's directory and the copy have in common.
    pub fn bytes_linked(&self) -> u64 {
        self.partitions.iter().map(|partition| partition.bytes_linked).sum()
    }

    /// Bytes of record batches that were copied.
    pub fn bytes_copied(&self) -> u64 {
        self.partitions.iter().map(|partition| partition.bytes_copied).sum()
    }
}

/// What a backup holds of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartitionBackup {
    /// The partition.
    pub topic_partition: TopicPartition,
    /// The first offset in it.
    pub log_start_offset: u64,
    /// The offset after the last one in it.
    pub end_offset: u64,
    /// Bytes of record batches in files that the broker's directory and the copy have in common.
    pub bytes_linked: u64,
    /// Bytes of record batches that were copied.
    pub bytes_copied: u64,
}

impl Broker {
    /// Makes a copy of the directory while it is in use: one that opens as if it had been closed in
    /// order, with all records below the high watermarks of this moment, the topics with their ids and
    /// settings, and what groups have committed. Appends, reads and commits go on meanwhile.
    ///
    /// Each partition is copied as it is at one moment after the call. What groups have committed is
    /// copied first, so that it never lies beyond the records. A topic that is created meanwhile is
    /// not in the copy; one that is deleted meanwhile may not be.
    ///
    /// A broker that was opened read-only makes backups too, of what it sees. Of a broker in memory the
    /// copy is in its memory, and goes with it.
    ///
    /// Where both directories lie on one file system, segments that have ended take no space in the
    /// copy: their files get a second name in it (a hard link). The two directories do not influence
    /// one another all the same, whatever is done to either of them through Sapwood. Other programs
    /// may change files where they are: give those a copy of the copy. And a disk that loses a file
    /// loses it for both: keep backups on another disk.
    ///
    /// `to` must not exist, or be an empty directory. All is made under the name of `to` with
    /// `.unfinished` added, synced, and then renamed: after a crash there is either a complete copy
    /// under the name of `to` or none. What was left unfinished is cleared away by the next backup to
    /// the same place. Blocks until everything is durable.
    ///
    /// ```
    /// use sapwood::{Broker, Record, TopicConfig};
    ///
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let directory = directory.path();
    /// let broker = Broker::open(directory.join("data"))?;
    /// let orders = broker.create_topic("orders", TopicConfig::default())?;
    /// orders.partition(0)?.append(&[Record::new("paid")])?;
    ///
    /// let report = broker.backup(directory.join("backup"))?;
    /// assert_eq!(report.partitions[0].end_offset, 1);
    ///
    /// let copy = Broker::open(directory.join("backup"))?;
    /// assert_eq!(copy.topic("orders")?.partition(0)?.log_end_offset(), 1);
    /// # Ok::<(), sapwood::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::InvalidTarget`](crate::Error::InvalidTarget) if there is something at `to`, or it lies
    /// in the broker's directory; [`Error::Locked`](crate::Error::Locked) if another backup to the same
    /// place is under way; [`Error::Closed`](crate::Error::Closed);
    /// [`Error::Corrupt`](crate::Error::Corrupt) if the place at which a partition is to be cut cannot be
    /// found; [`Error::StorageFull`](crate::Error::StorageFull) and [`Error::Io`](crate::Error::Io). After
    /// an error there is nothing at `to`. A partition that has stopped after a failed write is no error:
    /// what can be read of it is copied.
    pub fn backup(&self, to: impl AsRef<Path>) -> Result<BackupReport> {
        self.check_open()?;
        let fs = &self.manager().environment().fs;
        let target = to.as_ref();
        let new = NewDirectory::begin(fs, target, self.directory())?;
        let partitions = new.make(|new| {
            let new = &*new;
            let mut backup = Backup { broker: self, new, registry: Registry::default() };
            let partitions = backup.add_topics()?;
            new.register(&backup.registry)?;
            new.mark_clean()?;
            Ok(partitions)
        })?;
        Ok(BackupReport { directory: target.to_owned(), partitions })
    }

    /// The topics that are there, with what the registry says of them; the committed offsets first.
    fn topics_to_back_up(&self) -> Result<Vec<(Topic, RegisteredTopic)>> {
        self.manager().follow_topics()?;
        let registry = self.manager().registered();
        let topics = self.manager().topics().into_iter();
        let mut topics: Vec<_> = topics
            .filter_map(|topic| {
                let registered = registry.topics.get(topic.name())?;
                (registered.id.to_string() == topic.id()).then(|| (topic, registered.clone()))
            })
            .collect();
        topics.sort_by_key(|(topic, _)| !topic.is_internal());
        Ok(topics)
    }
}

/// A backup that is being made.
struct Backup<'a> {
    broker: &'a Broker,
    new: &'a NewDirectory,
    registry: Registry,
}

impl Backup<'_> {
    fn add_topics(&mut self) -> Result<Vec<PartitionBackup>> {
        let mut partitions = Vec::new();
        for (topic, registered) in self.broker.topics_to_back_up()? {
            partitions.extend(self.add_topic(&topic, registered)?);
        }
        partitions.sort_by(|a, b| a.topic_partition.cmp(&b.topic_partition));
        Ok(partitions)
    }

    /// Copies a topic; nothing of it if it is deleted meanwhile.
    fn add_topic(
        &mut self,
        topic: &Topic,
        mut registered: RegisteredTopic,
    ) -> Result<Vec<PartitionBackup>> {
        let logs = topic.logs();
        let copied = logs.iter().map(|log| self.add_partition(log)).collect::<Result<Vec<_>>>();
        self.broker.check_open()?;
        if copied.is_err() {
            // It may have been deleted by the process that is being followed.
            self.broker.manager().follow_topics()?;
        }
        if logs.iter().any(|log| log.is_closed()) {
            self.broker.check_open()?;
            logs.iter().try_for_each(|log| self.new.remove_partition(log.topic_partition()))?;
            return Ok(Vec::new());
        }
        let copied = copied?;
        registered.state = TopicState::Live;
        let count = u32::try_from(copied.len()).unwrap_or(u32::MAX);
        registered.config = registered.config.partitions(count);
        self.registry.topics.insert(topic.name().to_owned(), registered);
        Ok(copied)
    }

    /// Copies a partition. Starts over where the files have changed under the copy: retention has
    /// deleted what it was to begin with, or the process that is being followed was started anew.
    fn add_partition(&self, log: &PartitionLog) -> Result<PartitionBackup> {
        let follows = self.broker.manager().mode() == OpenMode::ReadOnly;
        let mut attempt = 1;
        loop {
            let log_start = log.ends().log_start();
            let copied = self.try_add_partition(log);
            let has_changed = follows || log.ends().log_start() > log_start;
            if copied.is_ok() || log.is_closed() || !has_changed || attempt == ATTEMPTS {
                return copied;
            }
            self.new.remove_partition(log.topic_partition())?;
            attempt += 1;
        }
    }

    fn try_add_partition(&self, log: &PartitionLog) -> Result<PartitionBackup> {
        let topic_partition = log.topic_partition();
        let directory = self.new.create_partition(topic_partition)?;
        let fs = &*self.broker.manager().environment().fs;
        let source = self.broker.directory().join(topic_partition.directory_name());
        for name in [PARTITION_METADATA_FILE, LEADER_EPOCH_FILE] {
            durably::copy_if_there(fs, &source.join(name), &directory.join(name))?;
        }
        let copy = log.copy_to(&directory)?;
        Ok(PartitionBackup {
            topic_partition: topic_partition.clone(),
            log_start_offset: copy.log_start_offset,
            end_offset: copy.end_offset,
            bytes_linked: copy.bytes_linked,
            bytes_copied: copy.bytes_copied,
        })
    }
}
