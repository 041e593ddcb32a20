//! The share consumer: a worker of a queue.
//!
//! [`ShareConsumer`] ties together the partitions of its topics ([`subscription`](super::subscription)), the
//! group's view of each ([`SharePartition`]), and the reading ([`reader`]). What it returns carries its own
//! acknowledgement ([`records`]). It works on the caller's thread alone.

pub(crate) mod config;
pub(crate) mod reader;
pub(crate) mod records;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use self::config::{AcknowledgementMode, ShareConfig, ShareConsumerBuilder};
use self::records::{Holding, Holdings, Settle, ShareRecords, Terms};
use super::buffered::{Budget, BufferPool};
use super::config::AutoOffsetReset;
use super::subscription::Subscription;
use super::{DISCOVERY_INTERVAL, Interrupt, WakeupHandle};
use crate::broker::Broker;
use crate::error::{Error, Result};
use crate::log::end_offsets::Wakeup;
use crate::share_group::ShareGroupDescription;
use crate::share_group::dead_letter::{self, Reason};
use crate::share_group::partition::{Acknowledgement, NotHandedOut, SharePartition};
use crate::share_group::window::StateRange;
use crate::time::Deadline;
use crate::topic::{Partition, Topic};
use crate::topic_partition::TopicPartition;

/// A dead letter that could not be written is tried again after this time.
const DEAD_LETTER_WAIT: Duration = Duration::from_secs(1);

impl Broker {
    /// Starts setting up a worker of a share group: a consumer that takes single records of a topic, as of
    /// a queue, and acknowledges each. [`subscribe`](ShareConsumerBuilder::subscribe) makes it.
    ///
    /// ```
    /// use std::time::Duration;
    /// use sapwood::{Broker, Record, TopicConfig};
    ///
    /// let broker = Broker::in_memory()?;
    /// let jobs = broker.create_topic("jobs", TopicConfig::default())?;
    /// jobs.partition(0)?.append(&[Record::new("one"), Record::new("two")])?;
    ///
    /// // Both work on the same partition.
    /// let worker = || broker.share_consumer("workers").max_poll_records(1).subscribe(["jobs"]);
    /// let (mut a, mut b) = (worker()?, worker()?);
    /// let (one, two) = (a.poll(Duration::ZERO)?, b.poll(Duration::ZERO)?);
    /// assert_eq!(one.iter().next().unwrap().value(), Some(&b"one"[..]));
    /// assert_eq!(two.iter().next().unwrap().value(), Some(&b"two"[..]));
    /// one.accept_all()?;
    /// drop(two); // not acknowledged: somebody else gets it
    /// let two = a.poll(Duration::ZERO)?;
    /// assert_eq!(two.iter().next().unwrap().delivery_count(), 2);
    /// # Ok::<(), sapwood::Error>(())
    /// ```
    pub fn share_consumer(&self, group: impl Into<String>) -> ShareConsumerBuilder {
        ShareConsumerBuilder::new(self.clone(), group.into())
    }

    /// The ids of all share groups, in order. They have nothing to do with the
    /// [groups of consumers](Broker::list_groups), whatever they are called.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`]; in a broker that was opened read-only also those of reading what the writing
    /// process has stored.
    pub fn list_share_groups(&self) -> Result<Vec<String>> {
        self.check_open()?;
        self.shares().groups()
    }

    /// What is known of a share group; `None` if there is no such group. In a broker that was opened
    /// read-only, nothing is known of what workers have at the moment.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use sapwood::{Broker, Record, TopicConfig};
    /// # let broker = Broker::in_memory()?;
    /// # let jobs = broker.create_topic("jobs", TopicConfig::default())?;
    /// jobs.partition(0)?.append(&[Record::new("one"), Record::new("two"), Record::new("three")])?;
    /// let mut worker = broker.share_consumer("workers").max_poll_records(2).subscribe(["jobs"])?;
    /// let records = worker.poll(Duration::ZERO)?;
    /// let workers = broker.describe_share_group("workers")?.expect("it has a member");
    /// let partition = &workers.partitions[0];
    /// assert_eq!((partition.acquired, partition.lag), (2, 3));
    /// assert_eq!(partition.delivery_counts.highest(), 1);
    /// # Ok::<(), sapwood::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Broker::list_share_groups`].
    pub fn describe_share_group(&self, group: &str) -> Result<Option<ShareGroupDescription>> {
        self.check_open()?;
        self.shares().describe(group)
    }

    /// Forgets a share group that nobody is in. Durable when it returns. A group that does not exist is no
    /// error.
    ///
    /// # Errors
    ///
    /// [`Error::GroupOccupied`] if a consumer is in it; [`Error::ReadOnly`], [`Error::Closed`],
    /// [`Error::StorageFull`].
    pub fn delete_share_group(&self, group: &str) -> Result<()> {
        self.check_open()?;
        self.shares().delete_group(group)
    }
}

impl ShareConsumerBuilder {
    /// Makes a worker that takes records of all partitions of some topics, those included that they get
    /// later.
    ///
    /// Where the group has never been, it begins where
    /// [`auto_offset_reset`](Self::auto_offset_reset) says; that is stored, durably, before this returns.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownTopic`], also for the dead-letter topic; [`Error::InvalidGroup`] and
    /// [`Error::InvalidConfig`] for settings that make no sense, also when no topic is named;
    /// [`Error::ReadOnly`], since every poll writes; [`Error::Closed`], [`Error::StorageFull`].
    pub fn subscribe<T: AsRef<str>>(
        self,
        topics: impl IntoIterator<Item = T>,
    ) -> Result<ShareConsumer> {
        let mut names: Vec<String> =
            topics.into_iter().map(|topic| topic.as_ref().to_owned()).collect();
        names.sort();
        names.dedup();
        self.validate(&names)?;
        if names.is_empty() {
            return Err(Error::InvalidConfig {
                name: "topics".to_owned(),
                value: String::new(),
                reason: "a consumer subscribes to at least one topic".to_owned(),
            });
        }
        ShareConsumer::new(self, &names)
    }
}

/// A worker of a share group. See [`Broker::share_consumer`].
///
/// Every worker of a group takes records of every partition of its topics; none of them owns any, and there
/// may be more workers than partitions. A record that [`poll`](Self::poll) has returned is this worker's
/// until it is acknowledged or [`lock_duration`](ShareConsumerBuilder::lock_duration) is over. There is no
/// order among records: one that is delivered again comes after others that were sent later.
///
/// Each record is delivered at least once: work must stand being done twice.
///
/// One thread uses a worker at a time; it can be moved between threads. Dropping it leaves the group;
/// records that it has returned stay with whoever holds them, except that in
/// [implicit mode](AcknowledgementMode::Implicit) those of the last poll are released. It keeps the broker
/// alive.
pub struct ShareConsumer {
    broker: Broker,
    member: ShareMember,
    config: ShareConfig,
    dead_letters: Option<Topic>,
    subscription: Subscription,
    /// The group's view of each partition of the subscription, in the same order.
    shares: Vec<Arc<SharePartition>>,
    buffers: BufferPool,
    /// What the last poll has returned, in implicit mode.
    last: Option<Arc<Holdings>>,
    interrupt: Arc<Interrupt>,
    /// Memory that is kept from one poll to the next.
    acquired: Vec<StateRange>,
    not: NotHandedOut,
}

/// Being in a share group; dropping it leaves.
struct ShareMember {
    broker: Broker,
    group: String,
}

impl Drop for ShareMember {
    fn drop(&mut self) {
        self.broker.shares().leave(&self.group);
    }
}

impl ShareConsumer {
    fn new(builder: ShareConsumerBuilder, topics: &[String]) -> Result<Self> {
        let ShareConsumerBuilder { broker, group, config } = builder;
        broker.check_open()?;
        topics.iter().try_for_each(|topic| broker.manager().topic(topic).map(drop))?;
        let dead_letters = config.dead_letter_topic.as_deref();
        let dead_letters = dead_letters.map(|topic| broker.manager().topic(topic)).transpose()?;
        let member_number = broker.shares().join(&group)?;
        let member = ShareMember { broker: broker.clone(), group };
        let mut consumer = Self {
            subscription: Subscription::to_topics(broker.manager(), topics),
            broker,
            member,
            config,
            dead_letters,
            shares: Vec::new(),
            buffers: BufferPool::default(),
            last: None,
            interrupt: Arc::default(),
            acquired: Vec::new(),
            not: NotHandedOut::default(),
        };
        let latest = consumer.config.auto_offset_reset == AutoOffsetReset::Latest;
        let start = move |partition: &Partition| {
            if latest { partition.high_watermark() } else { partition.log_start_offset() }
        };
        consumer.attach(start)?;
        // Workers that come one after the other begin with different partitions.
        let partitions = consumer.shares.len().max(1);
        consumer.subscription.next = member_number % partitions;
        Ok(consumer)
    }

    fn attach(&mut self, start: impl Fn(&Partition) -> u64) -> Result<()> {
        let partitions = self.subscription.assigned.iter().map(|assigned| &assigned.partition);
        self.shares = self.broker.shares().attach(&self.member.group, partitions, start)?;
        Ok(())
    }

    /// Takes records that nobody has, and locks them for this worker. Blocks until there is at least one,
    /// for at most `timeout`; returns nothing if there is none by then. [`Duration::ZERO`] never blocks,
    /// [`Duration::MAX`] waits for ever.
    ///
    /// It wakes up as soon as a record becomes visible, is released, or its waiting time is over; and within
    /// a second when a lock times out. At most
    /// [`max_poll_records`](ShareConsumerBuilder::max_poll_records) are returned; partitions take turns, and
    /// records that are delivered again come first. That records are handed out is stored before this
    /// returns, so that delivery counts survive the end of the process.
    ///
    /// In implicit mode it first accepts what the last poll has returned. That is in the log when this
    /// returns, and on disk within about a second; [`commit`](Self::commit) waits for the disk.
    ///
    /// Records that were delivered too often are taken to the dead-letter topic on the way.
    ///
    /// # Errors
    ///
    /// An error of one partition is told by a poll that has nothing else to return or has come to that
    /// partition in turn, and the polls after it go on with the others.
    ///
    /// - [`Error::NotAcquired`], in implicit mode: the worker was too slow, and does not have these records
    ///   any more. The others are accepted.
    /// - [`Error::Corrupt`]: some records are damaged. They are tried again a second later, and those behind
    ///   them are delivered meanwhile.
    /// - [`Error::UnknownTopic`]: a topic was deleted. Told once; a topic of the same name is consumed from
    ///   its start when it is created.
    /// - [`Error::StorageFull`], [`Error::PartitionFailed`]: what is handed out could not be stored, or a
    ///   dead letter could not be written.
    /// - [`Error::Closed`]: the broker was closed, possibly while this waited.
    pub fn poll(&mut self, timeout: Duration) -> Result<ShareRecords> {
        self.broker.check_open()?;
        self.accept_last(Settle::Later)?;
        let mut deadline = None;
        loop {
            self.broker.check_open()?;
            let interrupted = self.interrupt.requested.swap(false, Ordering::AcqRel);
            self.discover()?;
            self.broker.shares().clear_if_due()?;
            let holdings = self.fetch()?;
            if !holdings.is_empty() || interrupted || timeout.is_zero() {
                return Ok(self.hand_out(holdings));
            }
            // The clock is read only once there is something to wait for.
            let deadline = *deadline.get_or_insert_with(|| Deadline::after(timeout));
            if deadline.has_passed() {
                return Ok(self.hand_out(Vec::new()));
            }
            self.wait(deadline);
        }
    }

    fn hand_out(&mut self, holdings: Vec<Holding>) -> ShareRecords {
        let terms = Terms {
            mode: self.config.mode,
            backoff: self.config.backoff,
            lock_duration: self.config.lock_duration,
            dead_letters: self.dead_letters.clone(),
        };
        let records =
            ShareRecords::new(Arc::new(Holdings::new(self.broker.clone(), terms, holdings)));
        self.broker.metrics_registry().records_consumed.add(records.len() as u64);
        if self.config.mode == AcknowledgementMode::Implicit && !records.is_empty() {
            self.last = Some(Arc::clone(records.held()));
        }
        records
    }

    /// In implicit mode: who polls again is done with what the last poll has returned.
    fn accept_last(&mut self, settle: Settle) -> Result<()> {
        let Some(last) = self.last.take() else { return Ok(()) };
        let accepted = last.accept_all(settle);
        if let Err(error) = &accepted
            && error.is_retriable()
        {
            self.last = Some(last);
        }
        accepted
    }

    /// In implicit mode, accepts what the last poll has returned, and returns when that is on disk. In
    /// explicit mode there is nothing to do.
    ///
    /// # Errors
    ///
    /// As [`ShareRecords::accept_all`].
    pub fn commit(&mut self) -> Result<()> {
        self.broker.check_open()?;
        self.accept_last(Settle::Now)
    }

    /// Leaves the group; in implicit mode it first accepts what the last poll has returned, as
    /// [`commit`](Self::commit). (Dropping the consumer releases it.)
    ///
    /// # Errors
    ///
    /// As [`commit`](Self::commit). The group is left all the same.
    pub fn close(mut self) -> Result<()> {
        self.commit()
    }

    /// The partitions that this worker takes records of: all of its topics.
    pub fn assignment(&self) -> Vec<TopicPartition> {
        let assigned = self.subscription.assigned.iter();
        assigned.map(|assigned| assigned.topic_partition().clone()).collect()
    }

    /// The name of its group.
    pub fn group(&self) -> &str {
        &self.member.group
    }

    /// A handle with which another thread can end a [`poll`](Self::poll) that waits.
    pub fn wakeup_handle(&self) -> WakeupHandle {
        WakeupHandle(Arc::clone(&self.interrupt))
    }

    /// Takes up the partitions that its topics have got since. All that is in them came after the
    /// subscription, so they are begun at their start.
    fn discover(&mut self) -> Result<()> {
        self.subscription.discover(self.broker.manager());
        if self.subscription.assigned.len() == self.shares.len() {
            return Ok(());
        }
        self.attach(Partition::log_start_offset)
    }

    /// Takes what is there, without waiting, beginning with the partition after the one that was served
    /// last.
    fn fetch(&mut self) -> Result<Vec<Holding>> {
        let mut holdings = Vec::new();
        let mut budget =
            Budget { records: self.config.max_poll_records, bytes: self.config.fetch_max_bytes };
        let count = self.shares.len();
        let read_len = (self.config.fetch_max_bytes / count.max(1))
            .min(self.config.max_partition_fetch_bytes)
            .max(1);
        let mut at = self.subscription.next;
        for _ in 0..count {
            at = if at < count { at } else { 0 };
            match self.fetch_partition(at, read_len, &mut budget) {
                Ok(Some(holding)) => {
                    holdings.push(holding);
                    self.subscription.next = at + 1;
                }
                Ok(None) => {}
                Err(error) if holdings.is_empty() => {
                    self.subscription.next = at + 1;
                    return Err(self.explain(error, at));
                }
                Err(_) => {
                    // Nothing of it is lost: the next fetch begins here and tells.
                    self.subscription.next = at;
                    break;
                }
            }
            if budget.is_exhausted() {
                break;
            }
            at += 1;
        }
        Ok(holdings)
    }

    /// A log that is closed while the broker is open belongs to a topic that was deleted.
    fn explain(&mut self, error: Error, at: usize) -> Error {
        match error {
            Error::Closed { .. } if self.broker.check_open().is_ok() => {
                let error = self.subscription.remove_deleted(at);
                // Those that are left are looked up by the next poll.
                self.shares.clear();
                error
            }
            error => error,
        }
    }

    fn fetch_partition(
        &mut self,
        at: usize,
        read_len: usize,
        budget: &mut Budget,
    ) -> Result<Option<Holding>> {
        let (Some(assigned), Some(share)) =
            (self.subscription.assigned.get_mut(at), self.shares.get(at))
        else {
            return Ok(None);
        };
        if assigned.partition.log().is_closed() {
            return Err(Error::Closed { what: "the topic" });
        }
        bury(share, &self.config, self.dead_letters.as_ref())?;
        let clock = &**self.broker.clock();
        loop {
            self.acquired.clear();
            self.not.clear();
            let acquiring = self.config.acquiring(budget.records);
            let Some(id) = share.acquire(&acquiring, &mut self.acquired) else { return Ok(None) };
            let mut guard = Acquisition { share, id, acquired: &self.acquired, is_settled: false };
            let read = reader::read(assigned, &self.acquired, read_len, budget, &mut self.buffers);
            let read = match read {
                Ok(read) => read,
                Err(error) => {
                    reader::give_back(&error, &self.acquired, clock, &mut self.not);
                    guard.is_settled = true;
                    share.hand_out(id, &self.acquired, &self.not)?;
                    return Err(error);
                }
            };
            let handed_out = reader::sort(&read, &self.acquired, clock, &mut self.not);
            guard.is_settled = true;
            share.hand_out(id, &self.acquired, &self.not)?;
            if !handed_out.is_empty() {
                return Ok(Some(Holding::new(Arc::clone(share), id, handed_out, read.runs)));
            }
            // None of them is due, or there was no record: go on behind them.
            if budget.is_exhausted() {
                return Ok(None);
            }
        }
    }

    /// Waits until there may be something, the consumer is woken, or it is time to look.
    fn wait(&self, deadline: Deadline) {
        let wakeup = &self.interrupt.wakeup;
        let _registered = self.subscription.register(wakeup);
        let _shares = RegisteredShares::new(&self.shares, wakeup);
        // What came between the fetch and the registration has woken nobody.
        let acquiring = self.config.acquiring(1);
        let mut wait = DISCOVERY_INTERVAL;
        for share in &self.shares {
            if share.partition().log().is_closed() {
                return;
            }
            wait = wait.min(share.quiet_for(&acquiring));
        }
        if wait.is_zero() || self.broker.check_open().is_err() {
            return;
        }
        // With a manual clock, that time may never come: look again after a while.
        wakeup.wait(deadline.capped(wait.max(Duration::from_millis(1))));
    }
}

impl Drop for ShareConsumer {
    fn drop(&mut self) {
        if let Some(last) = self.last.take() {
            last.release_all();
        }
    }
}

impl fmt::Debug for ShareConsumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShareConsumer")
            .field("group", &self.member.group)
            .field("assignment", &self.assignment())
            .finish_non_exhaustive()
    }
}

/// Gives up what was delivered too often.
fn bury(share: &SharePartition, config: &ShareConfig, to: Option<&Topic>) -> Result<()> {
    let acquiring = config.acquiring(config.max_poll_records);
    while let Some((id, condemned)) = share.condemn(&acquiring) {
        let offsets = || condemned.iter().map(|range| &range.offsets);
        let reason = Reason::DeliveredTooOften { limit: config.max_delivery_count };
        let copied = match to {
            Some(topic) => dead_letter::copy(share, &condemned, reason, topic),
            None => Ok(()),
        };
        let buried =
            copied.and_then(|()| share.acknowledge(id, offsets(), Acknowledgement::GiveUp));
        if let Err(error) = buried {
            // They hold up nobody meanwhile.
            let wait = Acknowledgement::Postpone(DEAD_LETTER_WAIT);
            let _nothing_is_stored = share.acknowledge(id, offsets(), wait);
            return Err(error);
        }
    }
    Ok(())
}

/// What a poll has acquired and not handed out yet. Should it be dropped in between, everything is as it
/// was before.
struct Acquisition<'a> {
    share: &'a SharePartition,
    id: crate::share_group::state::AcquisitionId,
    acquired: &'a [StateRange],
    is_settled: bool,
}

impl Drop for Acquisition<'_> {
    fn drop(&mut self) {
        if !self.is_settled {
            self.share.give_back(self.id, self.acquired, Duration::ZERO);
        }
    }
}

/// A wakeup that the group's partitions hold.
struct RegisteredShares<'a> {
    shares: &'a [Arc<SharePartition>],
    wakeup: &'a Arc<Wakeup>,
}

impl<'a> RegisteredShares<'a> {
    fn new(shares: &'a [Arc<SharePartition>], wakeup: &'a Arc<Wakeup>) -> Self {
        for share in shares {
            share.register(wakeup);
        }
        Self { shares, wakeup }
    }
}

impl Drop for RegisteredShares<'_> {
    fn drop(&mut self) {
        self.shares.iter().for_each(|share| share.unregister(self.wakeup));
    }
}
