//! Everything wired together: the handle that users open.
//!
//! A [`Broker`] owns the log manager, the groups and the one background thread. Producers and
//! consumers are built on it, in their own modules.

pub(crate) mod backup;
pub(crate) mod config;
pub(crate) mod coordinators;
pub(crate) mod groups;
pub(crate) mod maintenance;
pub(crate) mod salvage;
pub(crate) mod verify;

#[cfg(test)]
mod tests;

use std::fmt;
use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use self::config::BrokerBuilder;
use self::coordinators::Coordinators;
use self::maintenance::Maintenance;
use self::verify::{VerifyProgress, VerifyReport};
use crate::error::{Error, Result};
use crate::group::coordinator::GroupCoordinator;
use crate::log::config::TopicConfig;
use crate::metrics::{Metrics, MetricsSnapshot};
use crate::share_group::coordinator::ShareCoordinator;
use crate::time::Clock;
use crate::topic::Topic;
use crate::topic::log_manager::{LogManager, OpenMode, RecoveryReport};

/// A directory of topics, open in this process: what is a server elsewhere is a value here.
///
/// A handle: cheap to clone, and usable from any thread; topics, producers and consumers that were
/// made with it keep it alive. One process at a time may have a directory
/// open for writing; any number may have it open read-only beside it.
///
/// Close it with [`Broker::close`] when you are done. Dropping the last handle without closing is
/// safe and equals killing the process: nothing that was acknowledged is lost, the next open just
/// has a little more to look at.
///
/// ```
/// use std::time::Duration;
/// use sapwood::{Broker, Record, TopicConfig};
///
/// # let directory = tempfile::tempdir().unwrap();
/// # let directory = directory.path().join("data");
/// let broker = Broker::open(&directory)?;
/// let orders = broker.create_topic("orders", TopicConfig::default().partitions(4))?;
///
/// let producer = broker.producer().build()?;
/// let delivery = producer.send(&orders, Record::new("paid").key("alice"))?;
/// println!("stored at {}", delivery.wait()?.offset);
///
/// let mut consumer = broker.consumer().group("billing").subscribe(["orders"])?;
/// for record in &consumer.poll(Duration::from_secs(1))? {
///     assert_eq!(record.value(), Some(&b"paid"[..]));
/// }
/// consumer.commit()?;
/// broker.close()?;
/// # Ok::<(), sapwood::Error>(())
/// ```
#[derive(Clone)]
pub struct Broker(Arc<Shared>);

struct Shared {
    manager: Arc<LogManager>,
    maintenance: Arc<Maintenance>,
    coordinators: Arc<Coordinators>,
    report: RecoveryReport,
    closed: AtomicBool,
    /// Taken to close: whoever closes too returns when the directory is free.
    closing: Mutex<()>,
    /// Taken to create or delete a topic together with what groups know of it. A topic created by
    /// one thread must not lose its groups' offsets to the deletion of its predecessor by another.
    changing_topics: Mutex<()>,
}

impl Broker {
    /// Opens a directory for writing, with default settings; it is created if it does not exist.
    ///
    /// Blocks for as long as recovery takes: a few milliseconds after [`Broker::close`]; otherwise
    /// in proportion to what was written in the last second before the process ended.
    /// [`Broker::recovery_report`] says what was found.
    ///
    /// # Errors
    ///
    /// [`Error::Locked`] if it is open for writing elsewhere; [`Error::Corrupt`] if records that
    /// were safely stored are damaged (nothing on disk is changed then, see
    /// [`RecoveryMode`](crate::RecoveryMode) for what can be done); [`Error::NotALogDirectory`],
    /// [`Error::UnsupportedFormat`], [`Error::StorageFull`] and [`Error::Io`].
    pub fn open(directory: impl AsRef<Path>) -> Result<Self> {
        Self::builder(directory).open()
    }

    /// Opens a directory for reading only. Nothing is written, nothing is locked, and a process that
    /// writes to it at the same time is followed: consumers see new records within milliseconds, and
    /// new partitions of their topics within a second. [`Broker::topic`] and [`Broker::topics`] know
    /// of topics that were created since.
    ///
    /// # Errors
    ///
    /// [`Error::NotALogDirectory`] if there is none, or none that was ever opened for writing;
    /// otherwise as for [`Broker::open`].
    pub fn open_read_only(directory: impl AsRef<Path>) -> Result<Self> {
        Self::builder(directory).open_read_only()
    }

    /// A broker whose files are in memory and go with it: for tests, and for queues that need not
    /// outlive the process. Everything else is the same.
    ///
    /// # Errors
    ///
    /// None in practice; the signature is that of [`Broker::open`].
    pub fn in_memory() -> Result<Self> {
        BrokerBuilder::in_memory().open()
    }

    /// Starts setting up a broker with settings other than the default ones.
    pub fn builder(directory: impl AsRef<Path>) -> BrokerBuilder {
        BrokerBuilder::new(directory.as_ref().to_owned())
    }

    /// Creates a topic with all of its partitions. Durable when it returns; a crash before leaves
    /// all of it or nothing.
    ///
    /// ```
    /// # use sapwood::{Broker, Compression, TopicConfig};
    /// # let broker = Broker::in_memory()?;
    /// let config = TopicConfig::default().partitions(4).compression(Compression::Lz4);
    /// let orders = broker.create_topic("orders", config)?;
    /// assert_eq!(orders.partition_count(), 4);
    /// # Ok::<(), sapwood::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::InvalidTopicName`], [`Error::InvalidConfig`], [`Error::TopicExists`];
    /// [`Error::StorageFull`] and [`Error::Io`]: then call it again, or open the broker again, and
    /// the creation is finished.
    pub fn create_topic(&self, name: &str, config: TopicConfig) -> Result<Topic> {
        self.check_open()?;
        refuse_internal(name)?;
        let _one_at_a_time = self.0.changing_topics.lock();
        // Should forgetting have failed when a topic of this name was deleted: no group may take
        // records of the new one for consumed.
        if matches!(self.0.manager.topic(name), Err(Error::UnknownTopic { .. })) {
            self.groups().forget_topic(name)?;
        }
        let topic = self.0.manager.create_topic(name, config)?;
        self.look_at_flush_intervals();
        Ok(self.hand_out(topic))
    }

    /// A topic by name.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownTopic`]; [`Error::Closed`]; in a broker that was opened read-only also those
    /// of reading which topics the writing process has created.
    pub fn topic(&self, name: &str) -> Result<Topic> {
        self.check_open()?;
        self.0.manager.follow_topics()?;
        Ok(self.hand_out(self.0.manager.topic(name)?))
    }

    /// All topics in order of their names. Internal ones, whose names begin with `__`, are left out.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`]; in a broker that was opened read-only also those of reading which topics
    /// the writing process has created.
    pub fn topics(&self) -> Result<Vec<Topic>> {
        self.check_open()?;
        self.0.manager.follow_topics()?;
        let topics = self.0.manager.topics().into_iter();
        Ok(topics.filter(|topic| !topic.is_internal()).map(|topic| self.hand_out(topic)).collect())
    }

    /// A topic as users get it: it keeps the broker alive.
    pub(crate) fn hand_out(&self, topic: Topic) -> Topic {
        let broker: Arc<Shared> = Arc::clone(&self.0);
        topic.kept_alive_by(broker)
    }

    /// Deletes a topic and everything in it. Once this has returned it is gone, also after a crash;
    /// handles to it give [`Error::Closed`], and the offsets that groups had committed in it are
    /// forgotten.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownTopic`]; [`Error::StorageFull`] and [`Error::Io`]: then the topic is either as
    /// before, or it is gone for everyone and its files go when this is called again or the broker is
    /// next opened.
    pub fn delete_topic(&self, name: &str) -> Result<()> {
        self.check_open()?;
        refuse_internal(name)?;
        let _one_at_a_time = self.0.changing_topics.lock();
        let id = self.0.manager.topic(name).map(|topic| topic.topic_id());
        self.0.manager.delete_topic(name)?;
        self.groups().forget_topic(name)?;
        id.map_or(Ok(()), |id| self.shares().forget_topic(id))
    }

    /// Changes settings of a topic, durably; they hold from then on, also for handles that exist.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use sapwood::{Broker, TopicConfig};
    /// # let broker = Broker::in_memory()?;
    /// # let orders = broker.create_topic("orders", TopicConfig::default())?;
    /// let day = Duration::from_secs(24 * 60 * 60);
    /// broker.alter_topic("orders", orders.config().retention_ms(day))?;
    /// assert_eq!(orders.config().get("retention.ms").as_deref(), Some("86400000"));
    /// # Ok::<(), sapwood::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::UnknownTopic`]; [`Error::InvalidConfig`], also for another number of partitions
    /// (see [`Broker::add_partitions`]).
    pub fn alter_topic(&self, name: &str, config: TopicConfig) -> Result<()> {
        self.check_open()?;
        refuse_internal(name)?;
        self.0.manager.alter_topic(name, config)?;
        self.look_at_flush_intervals();
        Ok(())
    }

    /// Has the background thread look again when the next flush is due: it may be sooner than any it
    /// knew of.
    fn look_at_flush_intervals(&self) {
        self.0.maintenance.wake_by(Duration::ZERO);
    }

    /// Gives a topic more partitions, `total` in all. Durable when it returns.
    ///
    /// Records already in the log stay where they are, and keys may go to another partition than
    /// before: the order of a key's records is kept within each partition only.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownTopic`]; [`Error::InvalidConfig`] if that is not more than there are.
    pub fn add_partitions(&self, name: &str, total: u32) -> Result<()> {
        self.check_open()?;
        refuse_internal(name)?;
        self.0.manager.add_partitions(name, total)
    }

    /// What opening the directory found, and what was done about it.
    ///
    /// ```
    /// # let broker = sapwood::Broker::in_memory()?;
    /// for partition in broker.recovery_report().cut() {
    ///     eprintln!("{}: {:?}", partition.topic_partition, partition.cut);
    /// }
    /// # assert_eq!(broker.recovery_report().cut().count(), 0);
    /// # Ok::<(), sapwood::Error>(())
    /// ```
    pub fn recovery_report(&self) -> &RecoveryReport {
        &self.0.report
    }

    /// What the broker has done since it was opened, how far its groups are behind, and what its share
    /// groups do.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`]; in a broker that was opened read-only also those of reading what the
    /// writing process has stored.
    pub fn metrics(&self) -> Result<MetricsSnapshot> {
        self.check_open()?;
        self.0.coordinators.snapshot()
    }

    /// Reads every record of every topic and checks everything about it: checksums, codecs, the
    /// records in them, and that one batch follows the other. Blocks for as long as reading all files
    /// takes, on the calling thread; appends and reads go on meanwhile. Changes nothing.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`] and I/O errors. Damage is no error: it is in the report.
    pub fn verify(&self) -> Result<VerifyReport> {
        self.check_open()?;
        verify::verify(self)
    }

    /// As [`Broker::verify`], on several threads and watched. Each thread takes one partition after
    /// the other, and has at most one read of 4 MiB (or one larger batch) and one decompressed batch
    /// in memory.
    ///
    /// `watch` is called on the calling thread, after each read of any of the threads and without
    /// any lock being held. When it returns [`ControlFlow::Break`] the verification ends after the
    /// reads that are under way, and the report says that it is not complete.
    ///
    /// ```
    /// use std::ops::ControlFlow;
    /// use std::thread::available_parallelism;
    ///
    /// # let broker = sapwood::Broker::in_memory()?;
    /// let report = broker.verify_with(available_parallelism().unwrap(), |progress| {
    ///     println!("{} of {} bytes", progress.bytes_done, progress.bytes_total);
    ///     ControlFlow::Continue(())
    /// })?;
    /// assert!(report.is_complete && report.is_intact());
    /// # Ok::<(), sapwood::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Broker::verify`], and [`Error::Io`] if a thread cannot be started.
    pub fn verify_with(
        &self,
        threads: NonZeroUsize,
        mut watch: impl FnMut(VerifyProgress) -> ControlFlow<()>,
    ) -> Result<VerifyReport> {
        self.check_open()?;
        verify::verify_with(self, threads, &mut watch)
    }

    /// Does what the background thread would do now: writes lingering batches, syncs what is due,
    /// applies retention. For brokers that were built
    /// [without a thread](BrokerBuilder::background_thread). In a broker that was opened read-only
    /// there is nothing to do.
    ///
    /// # Errors
    ///
    /// The first failure. What it concerns is tried again the next time, except for a partition
    /// whose sync has failed.
    pub fn run_maintenance(&self) -> Result<()> {
        self.check_open()?;
        match self.0.manager.mode() {
            OpenMode::Write => self.0.maintenance.run(&self.0.coordinators),
            OpenMode::ReadOnly => Ok(()),
        }
    }

    /// Closes the broker: sends that are buffered are written, everything is synced, and the files
    /// are left exactly as long as what they hold. From then on every handle gives
    /// [`Error::Closed`], and the directory may be opened again, here or elsewhere.
    ///
    /// Sends that wait for room in a full topic are not waited for: they fail. Closing a closed
    /// broker does nothing; while another thread closes it, this waits for that.
    ///
    /// # Errors
    ///
    /// The first failure; everything is closed all the same. The directory is safe to open again
    /// in any case.
    pub fn close(&self) -> Result<()> {
        let _one_at_a_time = self.0.closing.lock();
        if self.0.closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        self.0.manager.end_waiting_for_room();
        let flushed = self.0.maintenance.close();
        self.0.manager.fence();
        // A member that has no partition waits for none of the logs that were just fenced.
        self.groups().members().wake_all();
        let closed = self.0.manager.close();
        flushed.and(closed)
    }

    /// Where the files are.
    pub fn directory(&self) -> &Path {
        self.0.manager.directory()
    }

    pub(crate) fn manager(&self) -> &Arc<LogManager> {
        &self.0.manager
    }

    pub(crate) fn groups(&self) -> &GroupCoordinator {
        &self.0.coordinators.groups
    }

    pub(crate) fn shares(&self) -> &ShareCoordinator {
        &self.0.coordinators.shares
    }

    pub(crate) fn maintenance(&self) -> &Maintenance {
        &self.0.maintenance
    }

    pub(crate) fn clock(&self) -> &Arc<dyn Clock> {
        &self.0.manager.environment().clock
    }

    pub(crate) fn metrics_registry(&self) -> &Metrics {
        &self.0.manager.environment().metrics
    }

    pub(crate) fn check_open(&self) -> Result<()> {
        if self.0.closed.load(Ordering::Acquire) {
            return Err(Error::Closed { what: "the broker" });
        }
        Ok(())
    }
}

/// Topics whose names begin with `__` are Sapwood's own: users read them, and leave them as they are.
fn refuse_internal(name: &str) -> Result<()> {
    if name.starts_with("__") {
        let reason = "names that begin with `__` are reserved for internal topics";
        return Err(Error::InvalidTopicName { topic: name.to_owned(), reason });
    }
    Ok(())
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.maintenance.stop();
    }
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broker")
            .field("directory", &self.directory())
            .field("closed", &self.0.closed.load(Ordering::Relaxed))
            .finish_non_exhaustive()
    }
}
