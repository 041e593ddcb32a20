//! The settings of a share consumer.

use std::time::Duration;

use crate::broker::Broker;
use crate::consumer::config::AutoOffsetReset;
use crate::error::{Error, Result};
use crate::group::check_group_id;
use crate::share_group::backoff::Backoff;
use crate::share_group::partition::Acquiring;

/// The most records that a partition may have in flight, so that a snapshot of it fits a record.
const IN_FLIGHT_LIMIT: u64 = 100_000;

/// Who says that a record is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum AcknowledgementMode {
    /// You do, for each record or for all of a poll. What was not acknowledged when the records are dropped
    /// is released and delivered again.
    ///
    /// The default, and here Sapwood differs from Kafka, whose default is `implicit`: a `?` or an early
    /// `return` in the middle of the work drops the records, and they must not count as done then.
    #[default]
    Explicit,
    /// The next [`poll`](crate::ShareConsumer::poll) accepts what the last one has returned and was not
    /// acknowledged otherwise.
    Implicit,
}

/// What a share consumer is set to, checked.
#[derive(Debug, Clone)]
pub(crate) struct ShareConfig {
    pub(crate) mode: AcknowledgementMode,
    pub(crate) auto_offset_reset: AutoOffsetReset,
    pub(crate) max_poll_records: usize,
    pub(crate) fetch_max_bytes: usize,
    pub(crate) max_partition_fetch_bytes: usize,
    pub(crate) lock_duration: Duration,
    pub(crate) max_delivery_count: u16,
    pub(crate) max_in_flight: u64,
    pub(crate) max_delayed: u64,
    pub(crate) backoff: Backoff,
    pub(crate) dead_letter_topic: Option<String>,
}

impl ShareConfig {
    /// How a poll acquires that may still return so many records.
    pub(crate) fn acquiring(&self, records_max: usize) -> Acquiring {
        Acquiring {
            records_max: u64::try_from(records_max).unwrap_or(u64::MAX),
            in_flight_max: self.max_in_flight,
            delayed_max: self.max_delayed,
            delivery_count_max: self.max_delivery_count,
            lock_duration: self.lock_duration,
            backoff: self.backoff,
        }
    }
}

/// Settings of a [`ShareConsumer`](crate::ShareConsumer), and the way to make one. See
/// [`Broker::share_consumer`].
///
/// Settings are those of the consumer, and hold for what it acquires: give all consumers of a group the
/// same. Nothing of them is stored. Kafka keeps those whose names begin with `share.` for the group
/// (`kafka-configs --entity-type groups`) or, as `group.share.`, for all.
///
/// ```
/// use std::time::Duration;
/// use sapwood::{Broker, Record, TopicConfig};
///
/// let broker = Broker::in_memory()?;
/// let jobs = broker.create_topic("jobs", TopicConfig::default())?;
/// broker.create_topic("jobs.failed", TopicConfig::default())?;
/// jobs.partition(0)?.append(&[Record::new("one")])?;
///
/// let mut worker = broker
///     .share_consumer("workers")
///     .max_delivery_count(3)
///     .retry_backoff(Duration::from_millis(100), Duration::from_secs(10))
///     .dead_letter_topic("jobs.failed")
///     .subscribe(["jobs"])?;
/// assert_eq!(worker.poll(Duration::ZERO)?.len(), 1);
/// # Ok::<(), sapwood::Error>(())
/// ```
#[derive(Debug)]
#[must_use]
pub struct ShareConsumerBuilder {
    pub(crate) broker: Broker,
    pub(crate) group: String,
    pub(crate) config: ShareConfig,
}

impl ShareConsumerBuilder {
    pub(crate) fn new(broker: Broker, group: String) -> Self {
        let config = ShareConfig {
            mode: AcknowledgementMode::default(),
            auto_offset_reset: AutoOffsetReset::default(),
            max_poll_records: 500,
            fetch_max_bytes: 50 << 20,
            max_partition_fetch_bytes: 1 << 20,
            lock_duration: Duration::from_secs(30),
            max_delivery_count: 5,
            max_in_flight: 2_000,
            max_delayed: 10_000,
            backoff: Backoff { first: Duration::ZERO, max: Duration::ZERO },
            dead_letter_topic: None,
        };
        Self { broker, group, config }
    }

    /// Who says that a record is done.
    ///
    /// Default [`AcknowledgementMode::Explicit`]; see there why it is not Kafka's. Kafka:
    /// `share.acknowledgement.mode`.
    pub fn acknowledgement_mode(mut self, mode: AcknowledgementMode) -> Self {
        self.config.mode = mode;
        self
    }

    /// Where a group begins in a partition that it has never been given: with the oldest record, or behind
    /// the newest. Partitions that are added later are begun at their start.
    ///
    /// Default [`AutoOffsetReset::Earliest`] (Kafka: latest; the reasons are those of a consumer).
    /// [`AutoOffsetReset::Error`] makes no sense here. Kafka: `share.auto.offset.reset`.
    pub fn auto_offset_reset(mut self, policy: AutoOffsetReset) -> Self {
        self.config.auto_offset_reset = policy;
        self
    }

    /// How many records one poll returns at most.
    ///
    /// Small where the work on each takes long, so that other workers get some: what a poll has returned is
    /// this worker's. Default 500; from 1. Kafka: `max.poll.records`.
    pub fn max_poll_records(mut self, records: usize) -> Self {
        self.config.max_poll_records = records;
        self
    }

    /// How many bytes of batches one poll returns at most, as for a
    /// [consumer](crate::ConsumerBuilder::fetch_max_bytes).
    ///
    /// Default 52,428,800; from 1. Kafka: `fetch.max.bytes`.
    pub fn fetch_max_bytes(mut self, bytes: usize) -> Self {
        self.config.fetch_max_bytes = bytes;
        self
    }

    /// How long a worker may take for a record before others are given it. [`ShareRecord::renew`] gives it
    /// as much again, from that moment.
    ///
    /// Default 30 seconds; from 1 ms. Kafka: `share.record.lock.duration.ms`.
    ///
    /// [`ShareRecord::renew`]: crate::ShareRecord::renew
    pub fn lock_duration(mut self, duration: Duration) -> Self {
        self.config.lock_duration = duration;
        self
    }

    /// How often a record is delivered at most. One that was not acknowledged by then is given up: it goes
    /// to the [`dead_letter_topic`](Self::dead_letter_topic), if there is one, and counts as done.
    ///
    /// That is seen to by the next poll of any consumer of the group. Default 5; 1 to 32,767. Kafka:
    /// `share.delivery.count.limit`.
    pub fn max_delivery_count(mut self, deliveries: u16) -> Self {
        self.config.max_delivery_count = deliveries;
        self
    }

    /// How many records of a partition may be in flight: with workers, or waiting to be delivered again.
    /// While there are as many, nothing new of this partition is handed out; only these are.
    ///
    /// Records that are done do not count, wherever they are: a record that fails again and again holds up
    /// nobody. (In Kafka it does, once so many records behind it are done.) What the group keeps in memory
    /// for a partition is at most twice as many ranges as this and [`max_delayed`](Self::max_delayed)
    /// together, of some 60 bytes each.
    ///
    /// Default 2,000; 1 to 100,000. Kafka: `group.share.partition.max.record.locks`.
    pub fn max_in_flight(mut self, records: u64) -> Self {
        self.config.max_in_flight = records;
        self
    }

    /// How many records of a partition may wait for the time that their
    /// [`NOT_BEFORE_HEADER`](crate::NOT_BEFORE_HEADER) says, without being in anybody's way. (A poll that
    /// meets many at once may exceed it by as many as it may return.)
    ///
    /// When there are as many, nothing behind them is handed out until the first of them is due: put
    /// records that are scheduled far ahead in large numbers into a topic of their own. Default 10,000;
    /// 1 to 100,000. Kafka has no such thing.
    pub fn max_delayed(mut self, records: u64) -> Self {
        self.config.max_delayed = records;
        self
    }

    /// How long a record waits before it is delivered again, after it was released or its lock has timed
    /// out: `first` after the first delivery, twice as long after each further one, at most `max`. The wait
    /// does not outlive the process.
    ///
    /// Default: no wait. Kafka has no such thing.
    pub fn retry_backoff(mut self, first: Duration, max: Duration) -> Self {
        self.config.backoff = Backoff { first, max };
        self
    }

    /// Where records go that are rejected or were delivered too often, with the reason in their headers:
    /// `__dlq.errors.topic`, `.partition`, `.offset`, `.group`, `.delivery.count` and `.message`, all as
    /// text.
    ///
    /// The topic has to exist, and cannot be one that is consumed. A dead letter is on disk before its
    /// record counts as done, whatever the topic's durability. Default: none; the records are archived,
    /// which means that they stay in the log and this group does not see them again. Kafka:
    /// `errors.deadletterqueue.topic.name`, and the headers of KIP-1191.
    pub fn dead_letter_topic(mut self, topic: impl Into<String>) -> Self {
        self.config.dead_letter_topic = Some(topic.into());
        self
    }

    pub(crate) fn validate(&self, topics: &[String]) -> Result<()> {
        let config = &self.config;
        check_group_id(&self.group)?;
        let at_least_one = |name, value: u64| match value {
            0 => Err(invalid(name, "0", "it must be at least 1")),
            _ => Ok(()),
        };
        let size = |value: usize| u64::try_from(value).unwrap_or(u64::MAX);
        let millis = u64::try_from(config.lock_duration.as_millis()).unwrap_or(u64::MAX);
        at_least_one("max.poll.records", size(config.max_poll_records))?;
        at_least_one("fetch.max.bytes", size(config.fetch_max_bytes))?;
        at_least_one("share.record.lock.duration.ms", millis)?;
        at_least_one("share.delivery.count.limit", config.max_delivery_count.into())?;
        at_least_one("share.partition.max.record.locks", config.max_in_flight)?;
        at_least_one("max.delayed", config.max_delayed)?;
        let limits = [
            ("share.partition.max.record.locks", config.max_in_flight, IN_FLIGHT_LIMIT),
            ("max.delayed", config.max_delayed, IN_FLIGHT_LIMIT),
            ("share.delivery.count.limit", config.max_delivery_count.into(), 32_767),
        ];
        for (name, value, limit) in limits {
            if value > limit {
                return Err(invalid(name, &value.to_string(), &format!("it is at most {limit}")));
            }
        }
        if config.auto_offset_reset == AutoOffsetReset::Error {
            let reason = "a share group has to begin somewhere: earliest or latest";
            return Err(invalid("share.auto.offset.reset", "none", reason));
        }
        if let Some(topic) =
            config.dead_letter_topic.as_ref().filter(|topic| topics.contains(topic))
        {
            let reason = "a dead letter would be delivered again: choose another topic";
            return Err(invalid("errors.deadletterqueue.topic.name", topic, reason));
        }
        Ok(())
    }
}

fn invalid(name: &str, value: &str, reason: &str) -> Error {
    Error::InvalidConfig {
        name: name.to_owned(),
        value: value.to_owned(),
        reason: reason.to_owned(),
    }
}
