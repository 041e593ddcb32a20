//! The settings of a broker.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use parking_lot::Mutex;

use crate::broker::coordinators::Coordinators;
use crate::broker::maintenance::Maintenance;
use crate::broker::{Broker, Shared};
use crate::error::{Error, Result};
use crate::events;
use crate::fs::FileSystem;
use crate::fs::disk::DiskFileSystem;
use crate::fs::memory::MemoryFileSystem;
#[cfg(any(test, feature = "sim"))]
use crate::fs::sim::SimulatedDisk;
use crate::group::coordinator::GroupCoordinator;
use crate::log::Environment;
use crate::log::open_logs::OpenLogs;
use crate::log::recovery::RecoveryMode;
use crate::metrics::Metrics;
use crate::segment::records_file::ReadMode;
use crate::share_group::coordinator::ShareCoordinator;
use crate::time::{Clock, SystemClock};
use crate::topic::log_manager::{LogManager, OpenMode, RecoveryReport, check_is_a_log_directory};

/// How often retention is applied, as in Kafka: five minutes.
const RETENTION_CHECK_INTERVAL: Duration = Duration::from_secs(300);

/// A log that is appended to holds its segment and its checkpoint open.
const FILES_PER_LOG: usize = 2;

/// How many members a group may have unless the builder says otherwise (contract, clause 11).
const GROUP_MAX_SIZE: usize = 1_000;

/// Settings of a [`Broker`], and the way to open it. See [`Broker::builder`].
///
/// ```
/// use std::sync::Arc;
/// use std::time::Duration;
/// use sapwood::{BrokerBuilder, ManualClock, Timestamp};
///
/// // A broker for a test: in memory, and nothing happens by itself.
/// let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_700_000_000_000)));
/// let broker =
///     BrokerBuilder::in_memory().clock(clock.clone()).background_thread(false).open()?;
/// clock.advance(Duration::from_secs(3600));
/// broker.run_maintenance()?;
/// # Ok::<(), sapwood::Error>(())
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct BrokerBuilder {
    directory: PathBuf,
    fs: Arc<dyn FileSystem>,
    clock: Arc<dyn Clock>,
    read_mode: ReadMode,
    recovery_mode: RecoveryMode,
    create: bool,
    background_thread: bool,
    retention_check_interval: Duration,
    max_open_files: Option<usize>,
    group_max_size: usize,
}

impl BrokerBuilder {
    pub(crate) fn new(directory: PathBuf) -> Self {
        Self {
            directory,
            fs: Arc::new(DiskFileSystem),
            clock: Arc::new(SystemClock::new()),
            read_mode: ReadMode::default(),
            recovery_mode: RecoveryMode::default(),
            create: true,
            background_thread: true,
            retention_check_interval: RETENTION_CHECK_INTERVAL,
            max_open_files: None,
            group_max_size: GROUP_MAX_SIZE,
        }
    }

    /// A broker whose files are in memory and go with it. See [`Broker::in_memory`].
    pub fn in_memory() -> Self {
        let fs = Arc::new(MemoryFileSystem::new());
        Self { fs, ..Self::new(PathBuf::from("memory")) }
    }

    /// A broker in the directory `data` of a simulated disk, whose failures are yours to decide.
    /// Feature `sim`.
    #[cfg(any(test, feature = "sim"))]
    pub fn simulated(disk: &SimulatedDisk) -> Self {
        Self { fs: Arc::new(disk.clone()), ..Self::new(PathBuf::from("data")) }
    }

    /// Files other than those of the disk.
    pub(crate) fn file_system(mut self, fs: Arc<dyn FileSystem>) -> Self {
        self.fs = fs;
        self
    }

    /// Where time comes from. Default: the operating system's clocks.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// How consumers get at the bytes of segments. Default: [`ReadMode::Mapped`]. Brokers that are
    /// read-only or in memory always copy.
    pub fn read_mode(mut self, read_mode: ReadMode) -> Self {
        self.read_mode = read_mode;
        self
    }

    /// What to do about damage to records that were safely stored. Default:
    /// [`RecoveryMode::Refuse`]. Brokers that are opened read-only always refuse.
    pub fn recovery_mode(mut self, recovery_mode: RecoveryMode) -> Self {
        self.recovery_mode = recovery_mode;
        self
    }

    /// Whether a directory that no broker has been opened in for writing is made into one, as is one
    /// that does not exist. Default: `true`. With `false` opening it gives
    /// [`Error::NotALogDirectory`] and leaves no trace, so that a slip in a path is noticed.
    ///
    /// ```
    /// # use sapwood::{Broker, Error};
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let directory = directory.path().join("data");
    /// let refused = Broker::builder(&directory).create(false).open();
    /// assert!(matches!(refused, Err(Error::NotALogDirectory { .. })));
    /// assert!(!directory.exists());
    ///
    /// Broker::open(&directory)?.close()?;
    /// Broker::builder(&directory).create(false).open()?;
    /// # Ok::<(), sapwood::Error>(())
    /// ```
    pub fn create(mut self, create: bool) -> Self {
        self.create = create;
        self
    }

    /// Whether the broker has its one background thread, which writes lingering batches, syncs what
    /// is due and applies retention. Default: `true`. Without it call
    /// [`Broker::run_maintenance`] yourself: sends under `Fsync` that nobody waits for, flush
    /// intervals and retention depend on it.
    pub fn background_thread(mut self, background_thread: bool) -> Self {
        self.background_thread = background_thread;
        self
    }

    /// How often retention is applied; Kafka's `log.retention.check.interval.ms`. Default: 5
    /// minutes; at least 1 ms.
    pub fn retention_check_interval(mut self, interval: Duration) -> Self {
        self.retention_check_interval = interval;
        self
    }

    /// How many files the broker holds open from one append to the next. Default: half of what the
    /// process may have open (`ulimit -n`) when the broker is opened.
    ///
    /// A partition that is appended to holds two files, and one more for each segment that has ended
    /// and is not synced yet. Once there would be more than this, the partition that was appended to
    /// least recently, or nearly so, is synced and its files are closed; reading it needs none, and
    /// the next append opens them again. So there may be any number of partitions, but where more
    /// than half this many are appended to in turn, appends wait for syncs and for opening files:
    /// then raise the process's limit.
    pub fn max_open_files(mut self, max_open_files: usize) -> Self {
        self.max_open_files = Some(max_open_files);
        self
    }

    /// How many members a consumer group may have. One more is refused with
    /// [`Error::GroupMaxSizeReached`]. Default: 1,000. Kafka: `group.max.size`, which has no limit unless
    /// it is set.
    pub fn group_max_size(mut self, group_max_size: usize) -> Self {
        self.group_max_size = group_max_size;
        self
    }

    /// Opens the broker for writing. See [`Broker::open`].
    ///
    /// # Errors
    ///
    /// As [`Broker::open`]; [`Error::InvalidConfig`] for settings that make no sense.
    pub fn open(self) -> Result<Broker> {
        self.open_as(OpenMode::Write)
    }

    /// Opens the broker for reading only. See [`Broker::open_read_only`].
    ///
    /// # Errors
    ///
    /// As [`Broker::open_read_only`].
    pub fn open_read_only(self) -> Result<Broker> {
        self.open_as(OpenMode::ReadOnly)
    }

    fn open_as(self, mode: OpenMode) -> Result<Broker> {
        if self.retention_check_interval < Duration::from_millis(1) {
            return Err(Error::InvalidConfig {
                name: "log.retention.check.interval.ms".to_owned(),
                value: self.retention_check_interval.as_millis().to_string(),
                reason: "it must be at least 1".to_owned(),
            });
        }
        if !self.create {
            check_is_a_log_directory(&*self.fs, &self.directory)?;
        }
        // Whoever follows another process must not map a file that the other may cut at any time.
        let read_mode = if mode == OpenMode::ReadOnly { ReadMode::Copied } else { self.read_mode };
        let open_files = self.max_open_files.unwrap_or_else(|| self.fs.open_files_max() / 2);
        let open_logs = open_files / FILES_PER_LOG;
        let environment = Environment {
            fs: self.fs,
            clock: Arc::clone(&self.clock),
            metrics: Arc::new(Metrics::default()),
            read_mode,
            open_logs: Arc::new(OpenLogs::new(open_logs)),
        };
        let _span = events::opening(&self.directory);
        let found = LogManager::look(environment, self.directory, mode, self.recovery_mode)?;
        GroupCoordinator::check(&found)?;
        ShareCoordinator::check(&found)?;
        let (manager, report) = found.open()?;
        tell(&report);
        let manager = Arc::new(manager);
        let groups = GroupCoordinator::open(&manager, self.group_max_size)?;
        let shares = ShareCoordinator::open(&manager)?;
        let coordinators = Arc::new(Coordinators { groups, shares });
        let maintenance = Arc::new(Maintenance::new(self.clock, self.retention_check_interval));
        let shared = Arc::new(Shared {
            manager,
            maintenance: Arc::clone(&maintenance),
            coordinators: Arc::clone(&coordinators),
            report,
            closed: AtomicBool::new(false),
            closing: Mutex::new(()),
            changing_topics: Mutex::new(()),
        });
        if self.background_thread && mode == OpenMode::Write {
            maintenance.start(&coordinators)?;
        }
        Ok(Broker(shared))
    }
}

/// Tells of what opening has found.
fn tell(report: &RecoveryReport) {
    for partition in &report.partitions {
        let of = &partition.topic_partition;
        if let Some(cut) = &partition.cut {
            events::tail_cut(of, cut.offset, cut.bytes, &cut.reason);
        }
        if !partition.lost.is_empty() {
            events::offsets_lost(of, partition.lost.len());
        }
    }
    events::opened(report.partitions.len(), report.clean_shutdown);
}
