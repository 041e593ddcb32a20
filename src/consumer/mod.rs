//! The consumer: what it reads, where it is, what it commits.
//!
//! [`Consumer`] ties together the partitions and positions ([`subscription`]), the reading
//! ([`fetcher`]) and the group ([`membership`]); what it can be asked about these stands in
//! [`positions`] and [`commits`], and what it does when its group changes in [`rebalance`]. It works on
//! the caller's thread alone; while it waits in `poll` it leaves a wakeup with each of its partitions.

mod buffered;
mod commits;
pub(crate) mod config;
mod fetcher;
pub(crate) mod listener;
mod look_up;
mod matching;
mod membership;
mod positions;
mod rebalance;
pub(crate) mod records;
pub(crate) mod share;
mod subscription;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use self::config::ConsumerBuilder;
use self::fetcher::Fetcher;
use self::listener::ListenerSlot;
use self::matching::Matching;
use self::membership::GroupMember;
use self::records::ConsumerRecords;
use self::subscription::{StartPolicy, Subscription};
use crate::broker::Broker;
use crate::error::{Error, Result};
use crate::log::end_offsets::Wakeup;
use crate::time::Deadline;
use crate::topic_partition::TopicPartition;

/// A waiting consumer looks this often for partitions that its topics have got.
const DISCOVERY_INTERVAL: Duration = Duration::from_secs(1);

/// A waiting consumer of a broker that was opened read-only looks this often whether the writing
/// process has written.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(10);

impl Broker {
    /// Starts setting up a consumer; [`subscribe`](ConsumerBuilder::subscribe) and
    /// [`assign`](ConsumerBuilder::assign) make it.
    pub fn consumer(&self) -> ConsumerBuilder {
        ConsumerBuilder::new(self.clone())
    }
}

impl ConsumerBuilder {
    /// Makes a consumer of all partitions of some topics, those included that they get later.
    ///
    /// With a group it joins the group: its members divide the partitions, and each begins where the
    /// group has left off. What it gets at once is what nobody has; what others have to give back for it
    /// comes with its next polls, after theirs. Does not block, except that the first group of a broker
    /// ever creates the internal topic `__consumer_offsets`, durably.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownTopic`]; [`Error::GroupMaxSizeReached`]; [`Error::InconsistentAssignor`] if the
    /// group divides its partitions by another one; [`Error::FencedInstanceId`] if another consumer of its
    /// instance id has come at the same time; [`Error::InvalidGroup`] and [`Error::InvalidConfig`] for
    /// settings that make no sense, also when no topic is named; [`Error::Closed`].
    pub fn subscribe<T: AsRef<str>>(self, topics: impl IntoIterator<Item = T>) -> Result<Consumer> {
        self.validate()?;
        let mut names: Vec<String> =
            topics.into_iter().map(|topic| topic.as_ref().to_owned()).collect();
        names.sort();
        names.dedup();
        if names.is_empty() {
            return Err(Error::InvalidConfig {
                name: "topics".to_owned(),
                value: String::new(),
                reason: "a consumer subscribes to at least one topic".to_owned(),
            });
        }
        Consumer::subscribe(self, &names, None)
    }

    /// Makes a consumer of all topics whose names the predicate accepts, those included that are created
    /// later; it is asked again whenever topics have come or gone, by the next poll. Internal topics,
    /// whose names begin with `__`, are left out. There need not be any that match.
    ///
    /// Otherwise as [`subscribe`](Self::subscribe). Topics that come later are read from their start,
    /// whatever the reset policy. Kafka: `subscribe` with a `Pattern`.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use sapwood::{Broker, Record, TopicConfig};
    /// # let broker = Broker::in_memory()?;
    /// let consumer = broker.consumer().group("audit");
    /// let mut consumer = consumer.subscribe_matching(|topic| topic.starts_with("orders."))?;
    /// let europe = broker.create_topic("orders.europe", TopicConfig::default())?;
    /// europe.partition(0)?.append(&[Record::new("paid")])?;
    /// assert_eq!(consumer.poll(Duration::ZERO)?.len(), 1);
    /// # Ok::<(), sapwood::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`subscribe`](Self::subscribe), but for those about topics.
    pub fn subscribe_matching(
        self,
        predicate: impl FnMut(&str) -> bool + Send + 'static,
    ) -> Result<Consumer> {
        self.validate()?;
        self.broker.check_open()?;
        self.broker.manager().follow_topics()?;
        let mut matching = Matching::new(predicate);
        let topics = matching.changed(self.broker.manager()).unwrap_or_default();
        let names: Vec<String> = topics.iter().map(ToString::to_string).collect();
        Consumer::subscribe(self, &names, Some(matching))
    }

    /// Makes a consumer of just these partitions.
    ///
    /// With a group it begins where the group has left off, and can commit as long as no consumer
    /// is subscribed under the name of the group; it does not join: any number of consumers may
    /// divide partitions among themselves this way, and it is up to you that they do.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownTopic`], [`Error::UnknownPartition`]; [`Error::InvalidGroup`] and
    /// [`Error::InvalidConfig`] for settings that make no sense; [`Error::Closed`].
    pub fn assign(self, partitions: impl IntoIterator<Item = TopicPartition>) -> Result<Consumer> {
        self.validate()?;
        let mut partitions: Vec<TopicPartition> = partitions.into_iter().collect();
        partitions.sort();
        partitions.dedup();
        Consumer::assign(self, &partitions)
    }
}

/// Reads the records of some partitions in order, and remembers how far it has come.
///
/// A consumer has a *position* in each of its partitions: the offset of the record that it returns
/// next. [`poll`](Self::poll) moves it. With a group, [`commit`](Self::commit) stores the positions
/// durably, and whoever of the group has the partition next begins there: after a restart, or when a
/// partition moves, records that were returned but not committed come again, and none is skipped.
///
/// The consumers of one group that [subscribe](ConsumerBuilder::subscribe) divide the partitions; which ones
/// are this consumer's may change with every poll.
///
/// One thread uses a consumer at a time; it can be moved between threads. Dropping it leaves the
/// group at once without committing anything; [`close`](Self::close) commits first. It keeps the
/// broker alive.
///
/// ```
/// use std::time::Duration;
/// use sapwood::{Broker, Record, TopicConfig};
///
/// let broker = Broker::in_memory()?;
/// let orders = broker.create_topic("orders", TopicConfig::default())?;
/// orders.partition(0)?.append(&[Record::new("paid"), Record::new("shipped")])?;
///
/// let mut consumer = broker.consumer().group("billing").subscribe(["orders"])?;
/// for record in &consumer.poll(Duration::from_secs(1))? {
///     println!("{}@{}: {:?}", record.topic_partition(), record.offset(), record.value());
/// }
/// consumer.commit()?;
/// drop(consumer);
///
/// // Whoever comes next goes on where the group has left off.
/// let mut consumer = broker.consumer().group("billing").subscribe(["orders"])?;
/// assert!(consumer.poll(Duration::ZERO)?.is_empty());
/// # Ok::<(), sapwood::Error>(())
/// ```
pub struct Consumer {
    broker: Broker,
    /// `None` for a consumer without a group.
    member: Option<GroupMember>,
    subscription: Subscription,
    /// `None` unless it subscribes by a predicate.
    matching: Option<Matching>,
    fetcher: Fetcher,
    /// `None`: only on demand.
    auto_commit: Option<Duration>,
    /// When the next automatic commit is due, on the broker's monotonic clock.
    auto_commit_at: Duration,
    /// When to look next for what the writing process has done to topics, on the same clock.
    follow_topics_at: Duration,
    interrupt: Arc<Interrupt>,
    listener: ListenerSlot,
}

/// What wakes a consumer that waits.
#[derive(Debug, Default)]
struct Interrupt {
    wakeup: Arc<Wakeup>,
    /// Somebody has called [`WakeupHandle::wakeup`], and no poll has returned since.
    requested: AtomicBool,
}

/// Wakes a consumer that waits in [`Consumer::poll`] on another thread, as Kafka's `wakeup()` does.
/// Get one from [`Consumer::wakeup_handle`].
///
/// ```
/// use std::time::Duration;
/// use sapwood::{Broker, TopicConfig};
///
/// let broker = Broker::in_memory()?;
/// broker.create_topic("orders", TopicConfig::default())?;
/// let mut consumer = broker.consumer().subscribe(["orders"])?;
/// let handle = consumer.wakeup_handle();
/// let waiting = std::thread::spawn(move || consumer.poll(Duration::MAX).map(|r| r.len()));
/// handle.wakeup();
/// assert_eq!(waiting.join().expect("it does not panic")?, 0);
/// # Ok::<(), sapwood::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct WakeupHandle(Arc<Interrupt>);

impl WakeupHandle {
    /// Makes the poll that is under way, or else the next one, return at once with what there is,
    /// which may be nothing. Never blocks, and loses no records.
    pub fn wakeup(&self) {
        // Set before the wake-up, and seen by whoever was woken: both pass through its lock.
        self.0.requested.store(true, Ordering::Release);
        self.0.wakeup.wake();
    }
}

impl Consumer {
    fn subscribe(
        builder: ConsumerBuilder,
        topics: &[String],
        matching: Option<Matching>,
    ) -> Result<Self> {
        let broker = &builder.broker;
        broker.check_open()?;
        broker.manager().follow_topics()?;
        if matching.is_none() {
            topics.iter().try_for_each(|topic| broker.manager().topic(topic).map(drop))?;
        }
        let Some(group) = builder.config.group.clone() else {
            let subscription = Subscription::to_topics(broker.manager(), topics);
            return Self::new(builder, Interrupt::default(), None, (subscription, matching));
        };
        let interrupt = Interrupt::default();
        let joining = builder.config.joining(topics);
        let member = GroupMember::join(broker, &group, joining, &interrupt.wakeup)?;
        let reads = (Subscription::in_group(topics), matching);
        Self::new(builder, interrupt, Some(member), reads)
    }

    fn assign(builder: ConsumerBuilder, partitions: &[TopicPartition]) -> Result<Self> {
        let broker = &builder.broker;
        broker.check_open()?;
        broker.manager().follow_topics()?;
        let subscription = Subscription::to_partitions(broker.manager(), partitions)?;
        let group = builder.config.group.as_deref();
        let member = group.map(|group| GroupMember::standalone(broker, group));
        Self::new(builder, Interrupt::default(), member, (subscription, None))
    }

    fn new(
        builder: ConsumerBuilder,
        interrupt: Interrupt,
        member: Option<GroupMember>,
        (subscription, matching): (Subscription, Option<Matching>),
    ) -> Result<Self> {
        let ConsumerBuilder { broker, config, listener } = builder;
        let start = StartPolicy {
            broker: broker.clone(),
            group: config.group.clone(),
            reset: config.auto_offset_reset,
            isolation_level: config.isolation_level,
        };
        let fetcher = Fetcher::new(start, &config);
        let can_commit = member.is_some() && !fetcher.follows();
        let auto_commit = config.auto_commit.filter(|_| can_commit);
        let now = broker.clock().monotonic();
        let mut consumer = Self {
            auto_commit_at: now.saturating_add(auto_commit.unwrap_or_default()),
            follow_topics_at: now.saturating_add(DISCOVERY_INTERVAL),
            broker,
            member,
            subscription,
            matching,
            fetcher,
            auto_commit,
            interrupt: Arc::new(interrupt),
            listener: ListenerSlot::new(listener),
        };
        consumer.begin()?;
        if consumer.is_in_group() {
            consumer.rebalance()?;
        }
        Ok(consumer)
    }

    /// Whether a group says what it reads.
    fn is_in_group(&self) -> bool {
        self.member.as_ref().is_some_and(GroupMember::has_joined)
    }

    /// Settles where to begin, so that `latest` means now. Where nothing is committed and the
    /// policy is an error, that is for the first poll to say: there may be a seek before it.
    fn begin(&mut self) -> Result<()> {
        for assigned in &mut self.subscription.assigned {
            match self.fetcher.start().begin(assigned) {
                Ok(_) | Err(Error::NoCommittedOffset { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Returns records from the positions on, and moves the positions behind them. Blocks until
    /// there is at least one, for at most `timeout`; returns nothing if there is none by then.
    /// [`Duration::ZERO`] never blocks, [`Duration::MAX`] waits for ever.
    ///
    /// It wakes up as soon as a record becomes visible: under
    /// [`Durability::Fsync`](crate::Durability::Fsync) once it is safe from power loss. At most
    /// [`max_poll_records`](ConsumerBuilder::max_poll_records) are returned; partitions take turns.
    /// Everything that is returned has its checksum checked.
    ///
    /// With [`auto_commit`](ConsumerBuilder::auto_commit) it first commits, when that is due, what
    /// earlier polls have returned.
    ///
    /// A member of a group is alive as long as it polls, and does in a poll what its group asks of it: it
    /// gives partitions back, after an automatic commit of what was returned of them, and takes others up
    /// where the group is in them. Nothing of a partition is returned once it was given back. One that has
    /// not polled for [`max_poll_interval`](ConsumerBuilder::max_poll_interval) may find that it has lost
    /// all it had; it joins again then.
    ///
    /// # Errors
    ///
    /// Positions are as before, and records of other partitions are not lost: an error of one
    /// partition is told by a poll that has nothing else to return or has come to that partition in
    /// turn, and the polls after it go on with the others.
    ///
    /// - [`Error::Corrupt`]: what comes next in a partition is damaged. Everything before it has
    ///   been returned. To go on behind it, [`seek`](Self::seek).
    /// - [`Error::NoCommittedOffset`], [`Error::OffsetOutOfRange`]: it is not known where to go on,
    ///   with [`AutoOffsetReset::Error`](crate::AutoOffsetReset::Error) only.
    /// - [`Error::UnknownTopic`]: a topic was deleted. Told once; its partitions are not assigned
    ///   any more. A subscribed topic of the same name is read from its start when it is created.
    /// - [`Error::StorageFull`] and others from an automatic commit: see
    ///   [`commit`](Self::commit). It is tried again when it is next due, except for partitions that
    ///   were given back: their next owner begins at the last commit that was made.
    /// - What a [`RebalanceListener`](crate::RebalanceListener) has returned; [`Error::InvalidState`] in one.
    /// - [`Error::FencedInstanceId`]: another consumer has this one's instance id. It will not get
    ///   anything any more.
    /// - [`Error::GroupMaxSizeReached`], [`Error::InconsistentAssignor`]: it had lost its place in the
    ///   group, and cannot have it back at the moment. The next poll tries again.
    /// - [`Error::Closed`]: the broker was closed, possibly while this waited.
    pub fn poll(&mut self, timeout: Duration) -> Result<ConsumerRecords> {
        let mut deadline = None;
        loop {
            self.broker.check_open()?;
            let interrupted = self.interrupt.requested.swap(false, Ordering::AcqRel);
            self.follow_topics_if_due()?;
            if self.is_in_group() {
                self.rebalance_if_due()?;
            } else {
                self.discover()?;
            }
            self.commit_if_due()?;
            let records = self.fetch()?;
            if !records.is_empty() || interrupted || timeout.is_zero() {
                return Ok(records);
            }
            // The clock is read only once there is something to wait for.
            let deadline = *deadline.get_or_insert_with(|| Deadline::after(timeout));
            if deadline.has_passed() {
                return Ok(records);
            }
            self.wait(deadline);
        }
    }

    fn fetch(&mut self) -> Result<ConsumerRecords> {
        let fetched = self.fetcher.fetch(&mut self.subscription);
        if let Err(Error::UnknownTopic { topic }) = &fetched
            && self.is_in_group()
        {
            self.lose_topic(topic)?;
        }
        fetched
    }

    /// Waits until a partition has something new, the consumer is woken, or it is time to look.
    fn wait(&self, deadline: Deadline) {
        let wakeup = &self.interrupt.wakeup;
        let _registered = self.subscription.register(wakeup);
        // What came between the fetch and the registration has woken nobody.
        if self.subscription.is_ready() || self.broker.check_open().is_err() {
            return;
        }
        let mut wait = if self.fetcher.follows() { FOLLOW_INTERVAL } else { DISCOVERY_INTERVAL };
        if let Some(due_in) = self.commit_due_in() {
            // With a manual clock, that time may never come: look again after a while.
            wait = wait.min(due_in.max(Duration::from_millis(1)));
        }
        if let Some(member) = &self.member {
            member.begin_wait();
        }
        wakeup.wait(deadline.capped(wait));
    }

    /// In a broker that was opened read-only, looks from time to time what the writing process has
    /// done to topics. It means reading a file, which not every poll should.
    fn follow_topics_if_due(&mut self) -> Result<()> {
        if !self.fetcher.follows() {
            return Ok(());
        }
        let now = self.broker.clock().monotonic();
        if now < self.follow_topics_at {
            return Ok(());
        }
        self.follow_topics_at = now.saturating_add(DISCOVERY_INTERVAL);
        self.broker.manager().follow_topics()
    }

    /// Takes up the partitions that subscribed topics have got since.
    fn discover(&mut self) -> Result<()> {
        self.match_topics();
        let first_new = self.subscription.discover(self.broker.manager());
        for assigned in self.subscription.assigned.iter_mut().skip(first_new) {
            // All that is in them came after the subscription, so `latest` begins at their start
            // too: nothing is missed in the time it took to notice them.
            let of = assigned.topic_partition().clone();
            let committed = self.fetcher.start().committed(&of)?;
            assigned.committed = committed;
            assigned.seek(committed.unwrap_or_else(|| assigned.partition.log_start_offset()));
        }
        Ok(())
    }

    /// The partitions that this consumer reads, paused ones included. In a group, polls change them.
    pub fn assignment(&self) -> Vec<TopicPartition> {
        let assigned = self.subscription.assigned.iter();
        assigned.map(|assigned| assigned.topic_partition().clone()).collect()
    }

    /// The topics it is subscribed to; none if partitions were assigned by hand.
    pub fn subscription(&self) -> impl Iterator<Item = &str> {
        self.subscription.topics()
    }

    /// A handle with which another thread can end a [`poll`](Self::poll) that waits.
    pub fn wakeup_handle(&self) -> WakeupHandle {
        WakeupHandle(Arc::clone(&self.interrupt))
    }

    /// Commits what polls have returned, if [`auto_commit`](ConsumerBuilder::auto_commit) is on, tells the
    /// rebalance listener that its partitions go, and leaves the group. (Dropping the consumer leaves it
    /// without doing either.)
    ///
    /// # Errors
    ///
    /// As [`commit`](Self::commit), and what the listener returns. The group is left all the same.
    pub fn close(mut self) -> Result<()> {
        self.give_everything_back()
    }
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer")
            .field("group", &self.member.as_ref().map(GroupMember::group))
            .field("assignment", &self.assignment())
            .finish_non_exhaustive()
    }
}
