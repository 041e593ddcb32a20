//! Salvaging: what is intact of a damaged directory, in a new one.
//!
//! The source is only read. Each partition is looked through as
//! [`RecoveryMode::Salvage`](crate::RecoveryMode) does it, and what that would write is written
//! elsewhere. Then the new directory is opened in the ordinary way, which proves that it can be, and
//! every batch of the source is looked for in it: the account is not of what was meant to be done, but
//! of what is there.

mod account;
mod source;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use self::account::{Fate, FileAccount, FilePart};
use self::source::Source;
use crate::broker::Broker;
use crate::broker::config::BrokerBuilder;
use crate::error::{Error, Result};
use crate::fs::disk::DiskFileSystem;
use crate::fs::{FileSystem, durably};
use crate::group::offset_store::OFFSETS_TOPIC;
use crate::log::recovery::salvage_into;
use crate::log::{Environment, PartitionLog};
use crate::metrics::Metrics;
use crate::segment::records_file::ReadMode;
use crate::time::SystemClock;
use crate::topic::Topic;
use crate::topic::kafka_files::{
    LEADER_EPOCH_FILE, PARTITION_METADATA_FILE, encode_leader_epochs, encode_partition_metadata,
};
use crate::topic::new_directory::NewDirectory;
use crate::topic::registry::RegisteredTopic;
use crate::topic_partition::TopicPartition;

/// The outcome of [`salvage`](crate::salvage).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SalvageReport {
    /// The new directory.
    pub directory: PathBuf,
    /// Every partition in it, internal ones included, in order of topic and number.
    pub partitions: Vec<PartitionSalvage>,
    /// Every file of the source, and what became of each of its bytes.
    pub files: Vec<FileAccount>,
    /// What could not be carried over and was made up instead, as sentences: which topics there are,
    /// where the registry is gone; partitions of which nothing is left.
    pub notes: Vec<String>,
}

impl SalvageReport {
    /// Bytes of the source of which this became.
    pub fn bytes(&self, fate: Fate) -> u64 {
        let parts = self.files.iter().flat_map(|file| &file.parts);
        parts.filter(|part| part.fate == fate).map(|part| part.bytes.end - part.bytes.start).sum()
    }

    /// Whether nothing is known to be lost: no offset is missing, no byte was damaged, nothing had to
    /// be made up.
    pub fn is_complete(&self) -> bool {
        let no_loss = self.partitions.iter().all(|partition| partition.lost.is_empty());
        no_loss && self.notes.is_empty() && self.bytes(Fate::Damaged) == 0
    }
}

/// What there is of one partition in the new directory.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartitionSalvage {
    /// The partition.
    pub topic_partition: TopicPartition,
    /// The first offset that can be read.
    pub log_start_offset: u64,
    /// The offset that the next record will get.
    pub log_end_offset: u64,
    /// Offsets that were safely stored and are lost, in order. Batches without records stand in their
    /// place, so that all others are what they were.
    pub lost: Vec<Range<u64>>,
}

/// Reads a directory that may be damaged in any way, and makes a new one of what is intact: every
/// whole record batch at its old offset, the topics with their ids and settings, and what groups have
/// committed. Says of every byte of the source what became of it. The source is not changed.
///
/// Where offsets are lost there are batches without records in the new directory, so that nothing
/// else moves. Records that were never safely stored and do not connect to the others are left behind,
/// as at every open. If the registry is gone, topics are made up from the partitions' directories: with
/// the ids found there, and the default settings but without retention, so that nothing of what was
/// salvaged goes because of its age; the report tells of that. A committed offset beyond the end of what
/// is left is set to that end.
///
/// `to` must not exist, or be an empty directory; it is made under that name with `.unfinished` added,
/// and appears when it is complete and durable. Blocks for as long as reading the source three times
/// and writing it takes, on the calling thread.
///
/// [`RecoveryMode::Salvage`](crate::RecoveryMode) does the same in the directory itself.
///
/// ```
/// use sapwood::{Broker, Fate, Record, TopicConfig};
///
/// # let directory = tempfile::tempdir().unwrap();
/// # let (data, saved) = (directory.path().join("data"), directory.path().join("saved"));
/// # let broker = Broker::open(&data)?;
/// # let orders = broker.create_topic("orders", TopicConfig::default())?;
/// # orders.partition(0)?.append(&[Record::new("paid")])?;
/// # broker.close()?;
/// let report = sapwood::salvage(&data, &saved)?;
/// for file in &report.files {
///     for part in file.parts.iter().filter(|part| part.fate == Fate::Damaged) {
///         eprintln!("{}: bytes {:?} are lost", file.path.display(), part.bytes);
///     }
/// }
/// assert!(report.is_complete());
/// assert_eq!(Broker::open(&saved)?.topic("orders")?.partition(0)?.log_end_offset(), 1);
/// # Ok::<(), sapwood::Error>(())
/// ```
///
/// # Errors
///
/// [`Error::Locked`] if a broker has the source open for writing, or somebody else salvages to the
/// same place; [`Error::NotALogDirectory`] if there is nothing like a partition in the source;
/// [`Error::InvalidTarget`] if there is something at `to`, or it lies in the source;
/// [`Error::UnsupportedFormat`] if a newer version has written the source; [`Error::Corrupt`] if a
/// partition lacks more offsets than batches without records can stand for, which a file that does not
/// belong there makes believe; [`Error::StorageFull`] and [`Error::Io`], also for a place that the disk
/// cannot read: then copy the directory with a tool that reads around such places, and salvage the
/// copy. After an error there is nothing at `to`.
pub fn salvage(from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<SalvageReport> {
    salvage_on(&(Arc::new(DiskFileSystem) as Arc<dyn FileSystem>), from.as_ref(), to.as_ref())
}

pub(crate) fn salvage_on(
    fs: &Arc<dyn FileSystem>,
    from: &Path,
    to: &Path,
) -> Result<SalvageReport> {
    let source = Source::find(fs, from)?;
    let new = NewDirectory::begin(fs, to, from)?;
    new.make(|new| Salvage { fs, source, new, lost: Vec::new() }.run(to))
}

/// A directory that is being salvaged.
struct Salvage<'a> {
    fs: &'a Arc<dyn FileSystem>,
    source: Source,
    new: &'a mut NewDirectory,
    lost: Vec<(TopicPartition, Vec<Range<u64>>)>,
}

impl Salvage<'_> {
    fn run(mut self, to: &Path) -> Result<SalvageReport> {
        for (name, topic) in self.source.registry.topics.clone() {
            for partition in 0..topic.config.partitions {
                self.add_partition(&TopicPartition::new(name.as_str(), partition), &topic)?;
            }
        }
        self.new.register(&self.source.registry)?;
        // It is opened under its present name, by a broker with a lock of its own.
        self.new.unlock();
        let broker = self.open()?;
        self.remove_tails(&broker)?;
        let partitions = self.partitions(&broker);
        let files = account::of(self.fs, &self.source, &broker)?;
        broker.close()?;
        Ok(SalvageReport { directory: to.to_owned(), partitions, files, notes: self.source.notes })
    }

    fn add_partition(&mut self, of: &TopicPartition, topic: &RegisteredTopic) -> Result<()> {
        let directory = self.new.create_partition(of)?;
        let found = self.source.partitions.get(of).cloned();
        let metadata = encode_partition_metadata(topic.id);
        let path = directory.join(PARTITION_METADATA_FILE);
        durably::replace(&**self.fs, &path, metadata.as_bytes())?;
        let epochs = directory.join(LEADER_EPOCH_FILE);
        if let Some(found) = &found {
            durably::copy_if_there(&**self.fs, &found.join(LEADER_EPOCH_FILE), &epochs)?;
        }
        if self.fs.kind(&epochs).map_err(|error| Error::io("look at", &epochs, error))?.is_none() {
            durably::create(&**self.fs, &epochs, encode_leader_epochs(0).as_bytes())?;
        }
        let Some(found) = found else {
            self.source.notes.push(format!("the directory of {of} is missing: it begins anew"));
            return PartitionLog::create(&**self.fs, &directory);
        };
        let environment = self.environment();
        let (from, to) = (Arc::from(found), Arc::from(directory));
        let lost = salvage_into(&environment, of, &from, &to, &topic.config)?;
        self.lost.push((of.clone(), lost));
        Ok(())
    }

    fn environment(&self) -> Environment {
        Environment {
            fs: Arc::clone(self.fs),
            clock: Arc::new(SystemClock::new()),
            metrics: Arc::new(Metrics::default()),
            open_logs: Arc::default(),
            read_mode: ReadMode::Copied,
        }
    }

    /// Opens what was made. Should what groups have committed make no sense, although all checksums
    /// are right, it is left behind.
    fn open(&mut self) -> Result<Broker> {
        let path = self.new.path().to_owned();
        let open = || {
            let builder = BrokerBuilder::new(path.clone()).file_system(Arc::clone(self.fs));
            builder.background_thread(false).read_mode(ReadMode::Copied).open()
        };
        let damage = match open() {
            Err(Error::Corrupt(damage)) => damage,
            opened => return opened,
        };
        let is_of_offsets = |of: &TopicPartition| of.topic() == OFFSETS_TOPIC;
        if !damage.topic_partition.as_ref().is_some_and(is_of_offsets) {
            return Err(Error::Corrupt(damage));
        }
        self.source.notes.push(format!("what groups have committed was left behind: {damage}"));
        let Some(topic) = self.source.registry.topics.remove(OFFSETS_TOPIC) else {
            return Err(Error::Corrupt(damage));
        };
        self.lost.retain(|(of, _)| !is_of_offsets(of));
        for partition in 0..topic.config.partitions {
            self.new.remove_partition(&TopicPartition::new(OFFSETS_TOPIC, partition))?;
        }
        self.new.register(&self.source.registry)?;
        open()
    }

    /// Removes what the open has cut off and kept: the source has it, too.
    fn remove_tails(&self, broker: &Broker) -> Result<()> {
        let kept = broker.recovery_report().cut().filter_map(|partition| partition.cut.as_ref());
        kept.flat_map(|cut| &cut.kept_in).try_for_each(|path| durably::remove(&**self.fs, path))
    }

    fn partitions(&self, broker: &Broker) -> Vec<PartitionSalvage> {
        let topics = broker.manager().topics();
        let salvaged = topics.iter().flat_map(Topic::partitions).map(|partition| {
            let of = partition.topic_partition();
            let lost = self.lost.iter().find(|(lost_of, _)| lost_of == of);
            PartitionSalvage {
                topic_partition: of.clone(),
                log_start_offset: partition.log_start_offset(),
                log_end_offset: partition.log_end_offset(),
                lost: lost.map(|(_, lost)| lost.clone()).unwrap_or_default(),
            }
        });
        salvaged.collect()
    }
}
