//! All topics under one directory: which there are, and opening, creating, changing and deleting
//! them.
//!
//! The registry (`sapwood.topics`) is the truth, and every change of it is one atomic replacement.
//! What takes more steps than one is first written there as an intention, then done, then written
//! as done; an open after a crash finds the intention and finishes the work. A topic is therefore
//! there with all its partitions or not at all.
//!
//! The root also holds the lock file, and the marker that says that the last writer closed in
//! order. The marker is gone, durably, before anything is written.

mod changes;
mod following;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};

use crate::error::{Corruption, Error, Result};
use crate::fs::{FileSystem, Kind, Lock, durably};
use crate::log::checkpoint::WATERMARK_FILE;
use crate::log::config::TopicConfig;
use crate::log::follow;
use crate::log::recovery::{self, PartitionRecovery, Plan, RecoveryMode};
use crate::log::{Environment, PartitionLog};
use crate::topic::kafka_files::{
    KafkaFileError, PARTITION_METADATA_FILE, parse_partition_metadata,
};
use crate::topic::registry::{
    self, REGISTRY_FILE, RegisteredTopic, Registry, RegistryError, TopicState,
};
use crate::topic::room::config_for_logs;
use crate::topic::topic_id::TopicId;
use crate::topic::{Partition, Topic};
use crate::topic_partition::TopicPartition;

/// The lock file. Kafka's name and Kafka's kind of lock: a running Kafka broker is kept out too.
pub(crate) const LOCK_FILE: &str = ".lock";

/// Says that the last writer closed in order. Derived: without it the next open looks at more.
pub(crate) const CLEAN_SHUTDOWN_FILE: &str = "sapwood.clean-shutdown";

/// What it holds.
pub(crate) const CLEAN_SHUTDOWN: &str = "sapwood-clean-shutdown 1\n";

/// No registry is longer, neither when it is read nor when it is written: ten thousand topics with
/// every setting set.
const REGISTRY_LEN_MAX: u64 = 64 << 20;

/// What opening a directory found, and what was done about it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct RecoveryReport {
    /// The last writer closed the broker; nothing had to be looked for. `false` also for a directory
    /// that has had no writer yet.
    pub clean_shutdown: bool,
    /// Every partition, in order of topic and number.
    pub partitions: Vec<PartitionRecovery>,
    /// What lies in the directory and is not Sapwood's. It was left alone.
    pub ignored: Vec<PathBuf>,
    /// Topics whose creation, growth or deletion an earlier process had begun and which could not
    /// be brought to its end now either, for want of space for example: a sentence for each that
    /// says why. Until then such a topic is what it was before, or not there. It is tried again
    /// when the broker is next opened, or the call is repeated.
    pub unfinished: Vec<String>,
}

impl RecoveryReport {
    /// The partitions whose tail was cut off.
    pub fn cut(&self) -> impl Iterator<Item = &PartitionRecovery> {
        self.partitions.iter().filter(|partition| partition.cut.is_some())
    }
}

/// How a directory is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OpenMode {
    /// For writing; the directory is created if it is missing, and locked.
    Write,
    /// Nothing is written, nothing is locked; a writer may be at work.
    ReadOnly,
}

/// Topics by name. Any thread may call anything; changes to the registry come one at a time.
#[derive(Debug)]
pub(crate) struct LogManager {
    environment: Environment,
    directory: PathBuf,
    mode: OpenMode,
    recovery_mode: RecoveryMode,
    closed: AtomicBool,
    /// Held until the broker is closed, or gone. `None` when it was opened read-only.
    lock: Mutex<Option<Box<dyn Lock>>>,
    /// Taken before `topics`.
    registry: Mutex<Registry>,
    topics: RwLock<BTreeMap<String, Topic>>,
    /// Counts how often topics have come, gone or grown.
    topics_version: AtomicU64,
}

/// A directory that was looked at, and locked if it is to be written, and not changed yet: whoever
/// finds a reason to refuse it still can.
pub(crate) struct Found {
    manager: LogManager,
    plans: Vec<Plan>,
    report: RecoveryReport,
}

impl Found {
    /// The partitions of a topic as far as they are safe, for reading. Empty if there is no such topic.
    pub(crate) fn peek(&self, name: &str) -> Result<Vec<Partition>> {
        let registry = self.manager.registry.lock();
        let Some(topic) = registry.topics.get(name) else { return Ok(Vec::new()) };
        let config = Arc::new(topic.config.clone());
        let handle = self.manager.topic_handle(name, topic.id, &config);
        // What is read here is read again by whoever opens the directory, and counts then.
        let environment =
            Environment { metrics: Arc::default(), ..self.manager.environment.clone() };
        for partition in 0..partitions_made(topic) {
            let plan = self.manager.plan(&TopicPartition::new(name, partition), topic)?;
            let log = PartitionLog::open_read_only(&environment, plan, Arc::clone(&config))?;
            handle.add_logs([log]);
        }
        Ok(handle.partitions())
    }

    /// How the directory is to be opened.
    pub(crate) fn mode(&self) -> OpenMode {
        self.manager.mode
    }

    /// What is to be done about damage.
    pub(crate) fn recovery_mode(&self) -> RecoveryMode {
        self.manager.recovery_mode
    }

    /// Recovers and opens everything.
    ///
    /// # Errors
    ///
    /// I/O errors.
    pub(crate) fn open(self) -> Result<(LogManager, RecoveryReport)> {
        let Self { manager, plans, mut report } = self;
        match manager.mode {
            OpenMode::Write => manager.open_for_writing(plans, &mut report)?,
            OpenMode::ReadOnly => manager.open_for_reading(plans, &mut report)?,
        }
        Ok((manager, report))
    }
}

impl LogManager {
    /// Looks at a directory and everything in it, for it to be opened.
    ///
    /// # Errors
    ///
    /// [`Error::Locked`], [`Error::NotALogDirectory`], [`Error::Corrupt`],
    /// [`Error::UnsupportedFormat`], I/O errors. Unless it is an I/O error, not a byte has changed.
    pub(crate) fn look(
        environment: Environment,
        directory: PathBuf,
        mode: OpenMode,
        recovery_mode: RecoveryMode,
    ) -> Result<Found> {
        let lock = Self::prepare_directory(&environment, &directory, mode)?;
        let registry = read_registry(&environment, &directory)?;
        let manager = Self {
            environment,
            directory,
            mode,
            recovery_mode,
            closed: AtomicBool::new(false),
            lock: Mutex::new(lock),
            registry: Mutex::new(registry),
            topics: RwLock::default(),
            topics_version: AtomicU64::new(0),
        };
        let report = manager.look_around()?;
        let plans = manager.plan_all()?;
        Ok(Found { manager, plans, report })
    }

    fn prepare_directory(
        environment: &Environment,
        directory: &Path,
        mode: OpenMode,
    ) -> Result<Option<Box<dyn Lock>>> {
        let fs = &*environment.fs;
        if mode == OpenMode::ReadOnly {
            return check_is_a_log_directory(fs, directory).map(|()| None);
        }
        if !is_directory(fs, directory)? {
            durably::create_directory_all(fs, directory)?;
        }
        let path = directory.join(LOCK_FILE);
        match fs.lock(&path) {
            Ok(lock) => Ok(Some(lock)),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                Err(Error::Locked { path })
            }
            Err(error) => Err(Error::io("lock", &path, error)),
        }
    }

    /// What is in the root besides our files, and whether the last writer closed in order.
    fn look_around(&self) -> Result<RecoveryReport> {
        let fs = &*self.environment.fs;
        let marker = self.directory.join(CLEAN_SHUTDOWN_FILE);
        let limit = CLEAN_SHUTDOWN.len() as u64;
        let clean_shutdown = match durably::read(fs, &marker, limit) {
            Ok(content) => content.as_deref() == Some(CLEAN_SHUTDOWN.as_bytes()),
            // Some other file of that name: no reason to believe it, nor to stop.
            Err(Error::Corrupt(_)) => false,
            Err(error) => return Err(error),
        };
        let entries =
            fs.list(&self.directory).map_err(|error| Error::io("list", &self.directory, error))?;
        let mut ignored: Vec<_> = entries
            .iter()
            .filter(|entry| !self.is_ours(&entry.name))
            .map(|entry| self.directory.join(&entry.name))
            .collect();
        ignored.sort();
        Ok(RecoveryReport { clean_shutdown, ignored, ..RecoveryReport::default() })
    }

    fn is_ours(&self, name: &OsStr) -> bool {
        let Some(name) = name.to_str() else { return false };
        if [LOCK_FILE, CLEAN_SHUTDOWN_FILE, REGISTRY_FILE].contains(&name)
            || name == format!("{REGISTRY_FILE}.tmp")
            || name == format!("{CLEAN_SHUTDOWN_FILE}.tmp")
        {
            return true;
        }
        let registry = self.registry.lock();
        TopicPartition::from_directory_name(name).is_some_and(|address| {
            let topic = registry.topics.get(address.topic());
            topic.is_some_and(|topic| address.partition() < topic.config.partitions)
        })
    }

    /// Plans the recovery of every partition that must exist. Changes nothing.
    fn plan_all(&self) -> Result<Vec<Plan>> {
        let registry = self.registry.lock();
        let mut plans = Vec::new();
        for (name, topic) in &registry.topics {
            for partition in 0..partitions_made(topic) {
                plans.push(self.plan(&TopicPartition::new(name.as_str(), partition), topic)?);
            }
        }
        Ok(plans)
    }

    fn plan(&self, address: &TopicPartition, topic: &RegisteredTopic) -> Result<Plan> {
        let directory: Arc<Path> = Arc::from(self.partition_directory(address));
        let kind = self.environment.fs.kind(&directory);
        if kind.map_err(|error| Error::io("look at", &directory, error))? != Some(Kind::Directory) {
            let mut missing =
                Corruption::of_file(&directory, "the partition's directory is missing");
            missing.topic_partition = Some(address.clone());
            return Err(missing.into());
        }
        self.check_belongs(address, topic, &directory)?;
        let config = config_for_logs(&Arc::new(topic.config.clone()));
        match self.mode {
            OpenMode::Write => {
                let mode = self.recovery_mode;
                recovery::plan_in(mode, &self.environment, address, &directory, &config)
            }
            OpenMode::ReadOnly => follow::plan(&self.environment, address, &directory, &config),
        }
    }

    /// Refuses the directory of another topic under this one's name (contract, clause 16). A file
    /// that is missing proves nothing: it is only there for Kafka.
    fn check_belongs(
        &self,
        address: &TopicPartition,
        topic: &RegisteredTopic,
        directory: &Path,
    ) -> Result<()> {
        const LEN_MAX: u64 = 4096;
        let path = directory.join(PARTITION_METADATA_FILE);
        let Some(file) = durably::read(&*self.environment.fs, &path, LEN_MAX)? else {
            return Ok(());
        };
        let reason = match parse_partition_metadata(&file) {
            Ok(id) if id == topic.id => return Ok(()),
            Ok(id) => format!("it belongs to topic id {id}, expected {}", topic.id),
            Err(error @ KafkaFileError::Unsupported(_)) => {
                return Err(Error::UnsupportedFormat { path, reason: error.to_string() });
            }
            Err(error) => error.to_string(),
        };
        let mut foreign = Corruption::of_file(&path, reason);
        foreign.topic_partition = Some(address.clone());
        Err(foreign.into())
    }

    fn partition_directory(&self, address: &TopicPartition) -> PathBuf {
        self.directory.join(address.directory_name())
    }

    fn open_for_writing(&self, plans: Vec<Plan>, report: &mut RecoveryReport) -> Result<()> {
        let fs = &*self.environment.fs;
        // From here on the directory changes, so it is no longer as it was closed (clause 18).
        durably::remove(fs, &self.directory.join(CLEAN_SHUTDOWN_FILE))?;
        let mut registry = self.registry.lock();
        let mut plans = plans.into_iter().peekable();
        for (name, topic) in &registry.topics {
            let config = Arc::new(topic.config.clone());
            let handle = self.topic_handle(name, topic.id, &config);
            while let Some(plan) = plans.next_if(|plan| plan.topic_partition.topic() == name) {
                let (log, recovered) =
                    PartitionLog::open(&self.environment, plan, config_for_logs(&config))?;
                handle.add_logs([log]);
                report.partitions.push(recovered);
            }
            // A topic without partitions is not there yet, or no more.
            if handle.partition_count() > 0 {
                self.topics.write().insert(name.clone(), handle);
            }
        }
        report.unfinished = self.finish_changes(&mut registry);
        Ok(())
    }

    fn open_for_reading(&self, plans: Vec<Plan>, report: &mut RecoveryReport) -> Result<()> {
        let registry = self.registry.lock();
        for plan in plans {
            let name = plan.topic_partition.topic().to_owned();
            let Some(topic) = registry.topics.get(&name) else { continue };
            let config = Arc::new(topic.config.clone());
            report.partitions.push(plan.report());
            let log =
                PartitionLog::open_read_only(&self.environment, plan, config_for_logs(&config))?;
            let mut topics = self.topics.write();
            let handle = topics
                .entry(name.clone())
                .or_insert_with(|| self.topic_handle(&name, topic.id, &config));
            handle.add_logs([log]);
        }
        Ok(())
    }

    fn topic_handle(&self, name: &str, id: TopicId, config: &Arc<TopicConfig>) -> Topic {
        Topic::new(name, id, self.environment.clone(), Arc::clone(config))
    }

    /// What the registry says.
    pub(crate) fn registered(&self) -> Registry {
        self.registry.lock().clone()
    }

    /// Where everything is.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(crate) fn environment(&self) -> &Environment {
        &self.environment
    }

    pub(crate) fn mode(&self) -> OpenMode {
        self.mode
    }

    /// A topic by name.
    pub(crate) fn topic(&self, name: &str) -> Result<Topic> {
        let found = self.topics.read().get(name).cloned();
        found.ok_or_else(|| Error::UnknownTopic { topic: name.to_owned() })
    }

    /// All topics in order of their names, internal ones included.
    pub(crate) fn topics(&self) -> Vec<Topic> {
        self.topics.read().values().cloned().collect()
    }

    /// Another one whenever a topic has come, gone or got more partitions: whoever has seen it and then
    /// looks at the topics need not look again before it is another.
    pub(crate) fn topics_version(&self) -> u64 {
        self.topics_version.load(Ordering::Acquire)
    }

    fn topics_have_changed(&self) {
        self.topics_version.fetch_add(1, Ordering::AcqRel);
    }

    /// The log of a partition.
    pub(crate) fn partition(&self, address: &TopicPartition) -> Result<super::Partition> {
        self.topic(address.topic())?.partition(address.partition())
    }

    fn check_writable(&self, operation: &'static str) -> Result<()> {
        match self.mode {
            OpenMode::ReadOnly => Err(Error::ReadOnly { operation }),
            OpenMode::Write if self.closed.load(Ordering::Acquire) => {
                Err(Error::Closed { what: "the broker" })
            }
            OpenMode::Write => Ok(()),
        }
    }

    /// Refuses all further calls through any handle.
    pub(crate) fn fence(&self) {
        self.closed.store(true, Ordering::Release);
        self.topics.read().values().for_each(fence);
    }

    /// From here on nobody waits for room in a full topic: the broker is being closed, and nothing
    /// will make any.
    pub(crate) fn end_waiting_for_room(&self) {
        self.topics.read().values().for_each(|topic| topic.room().end_waiting());
    }

    /// Closes every log in order, leaves the marker and lets go of the lock. The logs must be
    /// fenced. All of them are closed even if some fail; the first failure is told, and then there
    /// is no marker.
    pub(crate) fn close(&self) -> Result<()> {
        if self.mode == OpenMode::ReadOnly {
            return Ok(());
        }
        // Waits for a change of topics that is under way.
        let _registry = self.registry.lock();
        self.fence();
        let closed = self.close_logs();
        // A deletion that had begun before must not remove files under the next writer.
        for topic in self.topics.read().values() {
            topic.logs().iter().for_each(|log| log.wait_until_quiet());
        }
        *self.lock.lock() = None;
        closed
    }

    fn close_logs(&self) -> Result<()> {
        let mut first_failure = None;
        for topic in self.topics.read().values() {
            for log in topic.logs().iter() {
                if let Err(error) = log.close() {
                    // Its writer is still there, and must not be used beside the next one.
                    log.abandon();
                    first_failure.get_or_insert(error);
                }
            }
        }
        if let Some(error) = first_failure {
            return Err(error);
        }
        let path = self.directory.join(CLEAN_SHUTDOWN_FILE);
        durably::replace(&*self.environment.fs, &path, CLEAN_SHUTDOWN.as_bytes())
    }
}

/// Refuses all further calls to a topic, and wakes whoever waits for something in it.
fn fence(topic: &Topic) {
    topic.logs().iter().for_each(|log| log.fence());
    topic.room().changed();
}

/// Whether it is there; what is there and is something else is refused.
fn is_directory(fs: &dyn FileSystem, directory: &Path) -> Result<bool> {
    if directory.as_os_str().is_empty() {
        return Err(not_a_directory(directory, "the path is empty"));
    }
    match fs.kind(directory).map_err(|error| Error::io("look at", directory, error))? {
        Some(Kind::Directory) => Ok(true),
        Some(_) => Err(not_a_directory(directory, "it is not a directory")),
        None => Ok(false),
    }
}

/// Refuses a directory that no writer has ever opened: before somebody waits in it for ever for
/// topics that are elsewhere, or makes a second one by a slip in the path.
///
/// # Errors
///
/// [`Error::NotALogDirectory`], I/O errors.
pub(crate) fn check_is_a_log_directory(fs: &dyn FileSystem, directory: &Path) -> Result<()> {
    if !is_directory(fs, directory)? {
        return Err(not_a_directory(directory, "it does not exist"));
    }
    for name in [REGISTRY_FILE, LOCK_FILE] {
        let path = directory.join(name);
        if fs.kind(&path).map_err(|error| Error::io("look at", &path, error))?.is_some() {
            return Ok(());
        }
    }
    Err(not_a_directory(directory, "no broker has been opened there for writing"))
}

/// How many of a topic's partitions must be there.
pub(crate) fn partitions_made(topic: &RegisteredTopic) -> u32 {
    match topic.state {
        TopicState::Live => topic.config.partitions,
        TopicState::Creating { first_partition } => first_partition,
        TopicState::Deleting => 0,
    }
}

fn not_a_directory(path: &Path, reason: &'static str) -> Error {
    Error::NotALogDirectory { path: path.to_owned(), reason }
}

/// Reads the registry. A directory without one is new, unless partitions of ours are in it.
fn read_registry(environment: &Environment, directory: &Path) -> Result<Registry> {
    if let Some(registry) = load_registry(&*environment.fs, directory)? {
        return Ok(registry);
    }
    check_nothing_is_registered(environment, directory, &directory.join(REGISTRY_FILE))?;
    Ok(Registry::default())
}

/// Reads the registry, if there is one.
///
/// # Errors
///
/// [`Error::Corrupt`], [`Error::UnsupportedFormat`], I/O errors.
pub(crate) fn load_registry(fs: &dyn FileSystem, directory: &Path) -> Result<Option<Registry>> {
    let path = directory.join(REGISTRY_FILE);
    let Some(bytes) = durably::read(fs, &path, REGISTRY_LEN_MAX)? else { return Ok(None) };
    registry::decode(&bytes).map(Some).map_err(|error| match error {
        RegistryError::Damaged(reason) => Corruption::of_file(&path, reason).into(),
        RegistryError::Unsupported(reason) => Error::UnsupportedFormat { path, reason },
    })
}

/// A registry that has gone missing must not pass for a directory without topics.
fn check_nothing_is_registered(
    environment: &Environment,
    directory: &Path,
    registry: &Path,
) -> Result<()> {
    let entries =
        environment.fs.list(directory).map_err(|error| Error::io("list", directory, error))?;
    for entry in entries.iter().filter(|entry| entry.kind == Kind::Directory) {
        let checkpoint = directory.join(&entry.name).join(WATERMARK_FILE);
        let kind = environment.fs.kind(&checkpoint);
        if kind.map_err(|error| Error::io("look at", &checkpoint, error))?.is_some() {
            let name = entry.name.to_string_lossy();
            let reason = format!("the file is missing, and the directory holds partition {name}");
            return Err(Corruption::of_file(registry, reason).into());
        }
    }
    Ok(())
}
