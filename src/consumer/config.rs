//! The settings of a consumer.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::broker::Broker;
use crate::consumer::listener::{BoxedListener, RebalanceListener};
use crate::error::{Error, Result};
use crate::group::assignor::Assignor;
use crate::group::assignor::range::RangeAssignor;
use crate::group::assignor::round_robin::RoundRobinAssignor;
use crate::group::assignor::sticky::CooperativeStickyAssignor;
use crate::group::state::{Coming, Joining};
use crate::group::{GROUP_ID_LENGTH_MAX, check_group_id};

/// Where a consumer begins in a partition for which its group has committed nothing, and where it
/// goes on when its position no longer exists because retention has passed it by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum AutoOffsetReset {
    /// At the oldest record there is.
    ///
    /// The default, and here Sapwood differs from Kafka, whose default is `latest`. There the
    /// cluster is running long before a consumer comes; here producer and consumer start in one
    /// process, and a consumer that starts a moment late must not lose what was sent before.
    #[default]
    Earliest,
    /// After the newest record there is when the consumer is made (Kafka: when it first polls).
    ///
    /// In a group it is the first member that says where that is: whoever has the partition next begins
    /// there too as long as nothing is committed, and skips nothing (Kafka: at the end of its own moment).
    /// Partitions that are added later are read from their start.
    Latest,
    /// Nowhere: `poll` gives [`Error::NoCommittedOffset`] or [`Error::OffsetOutOfRange`] until you
    /// seek. Kafka calls this `none`.
    Error,
}

/// Which records of transactions a consumer returns. Only Kafka's producers have transactions so far: it
/// makes a difference in logs that a broker has written.
///
/// ```
/// use sapwood::{Broker, IsolationLevel, TopicConfig};
///
/// # let broker = Broker::in_memory()?;
/// # broker.create_topic("orders", TopicConfig::default())?;
/// let consumer = broker.consumer().isolation_level(IsolationLevel::ReadCommitted);
/// let consumer = consumer.subscribe(["orders"])?;
/// # assert!(broker.consumer().property("isolation.level", "read_committed").is_ok());
/// # assert!(broker.consumer().property("isolation.level", "serializable").is_err());
/// # Ok::<(), sapwood::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum IsolationLevel {
    /// All of them, also of those that were aborted or are still open. The default, as in Kafka.
    #[default]
    ReadUncommitted,
    /// Those that were committed, and what was written outside of transactions, in the order of the log.
    /// It reads as far as the [last stable offset](crate::Partition::last_stable_offset).
    ///
    /// For that it looks at every batch header up to there once, the first time that anybody does; a
    /// damaged one on the way is [`Error::Corrupt`], for it may be the end of a transaction.
    ReadCommitted,
}

/// What a consumer is set to, checked.
#[derive(Debug, Clone)]
pub(crate) struct ConsumerConfig {
    pub(crate) group: Option<String>,
    pub(crate) auto_offset_reset: AutoOffsetReset,
    pub(crate) isolation_level: IsolationLevel,
    /// `None`: only on demand.
    pub(crate) auto_commit: Option<Duration>,
    /// Kept while automatic commits are off, so that the order in which `enable.auto.commit` and
    /// `auto.commit.interval.ms` are set makes no difference.
    auto_commit_interval: Duration,
    pub(crate) max_poll_records: usize,
    pub(crate) fetch_max_bytes: usize,
    pub(crate) max_partition_fetch_bytes: usize,
    pub(crate) client_id: String,
    pub(crate) instance_id: Option<String>,
    pub(crate) max_poll_interval: Duration,
    pub(crate) assignor: Arc<dyn Assignor>,
}

impl ConsumerConfig {
    /// What the consumer says about itself when it joins a group.
    pub(crate) fn joining(&self, topics: &[String]) -> Joining {
        Joining {
            client_id: Arc::from(self.client_id.as_str()),
            instance_id: self.instance_id.as_deref().map(Arc::from),
            topics: topics.iter().map(|topic| Arc::from(topic.as_str())).collect(),
            max_poll_interval: self.max_poll_interval,
            assignor: Arc::clone(&self.assignor),
            coming: Coming::New,
        }
    }
}

/// Settings of a [`Consumer`](crate::Consumer), and the way to make one. See [`Broker::consumer`].
///
/// Every setting has Kafka's name, meaning and default, unless its documentation says otherwise.
///
/// ```
/// use std::time::Duration;
/// use sapwood::{AutoOffsetReset, Broker, TopicConfig};
///
/// # let broker = Broker::in_memory()?;
/// # broker.create_topic("orders", TopicConfig::default())?;
/// let mut consumer = broker
///     .consumer()
///     .group("billing")
///     .auto_offset_reset(AutoOffsetReset::Latest)
///     .auto_commit(None)
///     .max_poll_records(10_000)
///     .subscribe(["orders"])?;
/// assert!(consumer.poll(Duration::ZERO)?.is_empty());
/// # Ok::<(), sapwood::Error>(())
/// ```
#[must_use]
pub struct ConsumerBuilder {
    pub(crate) broker: Broker,
    pub(crate) config: ConsumerConfig,
    pub(crate) listener: Option<BoxedListener>,
}

impl ConsumerBuilder {
    pub(crate) fn new(broker: Broker) -> Self {
        const AUTO_COMMIT_INTERVAL: Duration = Duration::from_secs(5);
        let config = ConsumerConfig {
            group: None,
            auto_offset_reset: AutoOffsetReset::default(),
            isolation_level: IsolationLevel::default(),
            auto_commit: Some(AUTO_COMMIT_INTERVAL),
            auto_commit_interval: AUTO_COMMIT_INTERVAL,
            max_poll_records: 500,
            fetch_max_bytes: 50 << 20,
            max_partition_fetch_bytes: 1 << 20,
            client_id: "consumer".to_owned(),
            instance_id: None,
            max_poll_interval: Duration::from_secs(300),
            assignor: Arc::new(CooperativeStickyAssignor),
        };
        Self { broker, config, listener: None }
    }

    /// The group that the consumer is in: its consumers divide the partitions of their topics among them,
    /// in whichever threads of the process they are, and progress is committed under its name and found
    /// again after a restart.
    ///
    /// Default: none; then the consumer reads everything, and nothing can be committed. 1 to 249 bytes. Kafka: `group.id`.
    pub fn group(mut self, group: impl Into<String>) -> Self {
        self.config.group = Some(group.into());
        self
    }

    /// Where to begin without a committed offset, and where to go on when the position is gone.
    ///
    /// Default [`AutoOffsetReset::Earliest`]; see there why it is not Kafka's. Kafka:
    /// `auto.offset.reset`.
    pub fn auto_offset_reset(mut self, policy: AutoOffsetReset) -> Self {
        self.config.auto_offset_reset = policy;
        self
    }

    /// Whether records of aborted transactions are left out, and those of open ones waited for.
    ///
    /// Default [`IsolationLevel::ReadUncommitted`]. Kafka: `isolation.level`.
    pub fn isolation_level(mut self, level: IsolationLevel) -> Self {
        self.config.isolation_level = level;
        self
    }

    /// How often progress is committed without your doing; `None` leaves it to
    /// [`Consumer::commit`](crate::Consumer::commit).
    ///
    /// It is done in [`Consumer::poll`](crate::Consumer::poll), for the records that earlier polls returned: whoever polls
    /// again is taken to be done with them. After a crash some records may come again; none is
    /// skipped. [`Consumer::close`](crate::Consumer::close) commits what is left.
    ///
    /// Default 5 seconds; from 1 ms. Only with a group, and not in a broker that was opened
    /// read-only. Kafka: `enable.auto.commit` and `auto.commit.interval.ms`.
    pub fn auto_commit(mut self, interval: impl Into<Option<Duration>>) -> Self {
        self.config.auto_commit = interval.into();
        if let Some(interval) = self.config.auto_commit {
            self.config.auto_commit_interval = interval;
        }
        self
    }

    /// How many records one poll returns at most.
    ///
    /// Default 500; from 1. Kafka: `max.poll.records`.
    pub fn max_poll_records(mut self, records: usize) -> Self {
        self.config.max_poll_records = records;
        self
    }

    /// How many bytes of batches one poll returns at most, as stored and as decompressed. A single
    /// batch larger than that is returned all the same.
    ///
    /// Default 52,428,800; from 1. Kafka: `fetch.max.bytes`.
    pub fn fetch_max_bytes(mut self, bytes: usize) -> Self {
        self.config.fetch_max_bytes = bytes;
        self
    }

    /// How many bytes of batches are read from a partition at a time, and at most returned by one
    /// poll, so that none keeps the others waiting. A single batch larger than that is returned all
    /// the same.
    ///
    /// Default 1,048,576; from 1. Kafka: `max.partition.fetch.bytes`.
    pub fn max_partition_fetch_bytes(mut self, bytes: usize) -> Self {
        self.config.max_partition_fetch_bytes = bytes;
        self
    }

    /// What the consumer is called in [`Broker::describe_group`]; it need not be unique.
    ///
    /// Default `consumer`. Kafka: `client.id`.
    pub fn client_id(mut self, client_id: impl Into<String>) -> Self {
        self.config.client_id = client_id.into();
        self
    }

    /// What this consumer is called in its group across restarts: *static membership* (KIP-345).
    ///
    /// When it is dropped or closed, its share of the partitions waits for a consumer of the same name:
    /// one that comes within [`max_poll_interval`](Self::max_poll_interval) has it at once, and the other
    /// members notice nothing. Until then nobody reads these partitions; if nobody comes, or after
    /// [`Broker::remove_group_member`], they go to the others. Of two consumers of one name at the same
    /// time, the later one has the share, and the earlier one is told
    /// [`FencedInstanceId`](Error::FencedInstanceId) by its next poll or commit.
    ///
    /// Default: none; the partitions of a consumer that is dropped go to the others at once. 1 to 249
    /// bytes. Only with a group. Kafka: `group.instance.id`; there the time is `session.timeout.ms`.
    pub fn instance_id(mut self, instance_id: impl Into<String>) -> Self {
        self.config.instance_id = Some(instance_id.into());
        self
    }

    /// How long a member of a group may go without polling. Then it is taken for dead: its partitions go
    /// to others, its commits are refused, and its next poll joins anew.
    ///
    /// Set it to more than the longest time that the work on one poll's records takes. While the consumer
    /// waits in a poll it is alive. Polling is the only sign of life, so there is no `session.timeout.ms`
    /// besides; a consumer that is dropped, also by a panic, leaves at once.
    ///
    /// Default 5 minutes; from 1 ms. Kafka: `max.poll.interval.ms`.
    pub fn max_poll_interval(mut self, interval: Duration) -> Self {
        self.config.max_poll_interval = interval;
        self
    }

    /// What divides the partitions of the group among its members. All members must use one of the same
    /// name.
    ///
    /// Default [`CooperativeStickyAssignor`]. Whatever the assignor, a partition that stays where it is is
    /// read on without a break. Kafka: `partition.assignment.strategy`.
    pub fn assignor(mut self, assignor: impl Assignor + 'static) -> Self {
        self.config.assignor = Arc::new(assignor);
        self
    }

    /// Who is told when partitions come and go. Default: nobody. Kafka: the argument of `subscribe`.
    pub fn rebalance_listener(mut self, listener: impl RebalanceListener + 'static) -> Self {
        self.listener = Some(Mutex::new(Box::new(listener)));
        self
    }

    /// Sets a property by Kafka's name, the value given as text in Kafka's form.
    ///
    /// ```
    /// # let broker = sapwood::Broker::in_memory()?;
    /// let consumer = broker
    ///     .consumer()
    ///     .property("group.id", "billing")?
    ///     .property("auto.offset.reset", "latest")?;
    /// assert!(consumer.property("group_id", "billing").is_err());
    /// # Ok::<(), sapwood::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::InvalidConfig`] when there is no such property or the value cannot be read.
    pub fn property(mut self, name: &str, value: &str) -> Result<Self> {
        let config = &mut self.config;
        let read = match name {
            "group.id" => {
                config.group = Some(value.to_owned());
                Ok(())
            }
            "auto.offset.reset" => {
                read_policy(value).map(|policy| config.auto_offset_reset = policy)
            }
            "isolation.level" => {
                read_isolation_level(value).map(|level| config.isolation_level = level)
            }
            "enable.auto.commit" => read_bool(value).map(|enabled| {
                config.auto_commit = enabled.then_some(config.auto_commit_interval);
            }),
            "auto.commit.interval.ms" => read_millis(value).map(|interval| {
                config.auto_commit_interval = interval;
                config.auto_commit = config.auto_commit.and(Some(interval));
            }),
            "max.poll.records" => read_number(value).map(|n| config.max_poll_records = n),
            "fetch.max.bytes" => read_number(value).map(|n| config.fetch_max_bytes = n),
            "max.partition.fetch.bytes" => {
                read_number(value).map(|n| config.max_partition_fetch_bytes = n)
            }
            "client.id" => {
                value.clone_into(&mut config.client_id);
                Ok(())
            }
            "group.instance.id" => {
                config.instance_id = Some(value.to_owned());
                Ok(())
            }
            "max.poll.interval.ms" => {
                read_millis(value).map(|interval| config.max_poll_interval = interval)
            }
            "partition.assignment.strategy" => {
                read_assignor(value).map(|assignor| config.assignor = assignor)
            }
            _ => {
                let reason = format!("no such setting of a consumer; there are {PROPERTY_NAMES}");
                return Err(invalid(name, value, reason));
            }
        };
        read.map_err(|expected| invalid(name, value, format!("it must be {expected}")))?;
        Ok(self)
    }

    pub(crate) fn validate(&self) -> Result<()> {
        let config = &self.config;
        if let Some(group) = &config.group {
            check_group_id(group)?;
        }
        if let Some(instance_id) = &config.instance_id {
            let reason = match (instance_id.len(), &config.group) {
                (1..=GROUP_ID_LENGTH_MAX, Some(_)) => None,
                (_, None) => Some("it names a member of a group, and there is no group"),
                _ => Some("it must be 1 to 249 bytes"),
            };
            if let Some(reason) = reason {
                return Err(invalid("group.instance.id", instance_id, reason.to_owned()));
            }
        }
        for (name, value) in [
            ("max.poll.records", config.max_poll_records),
            ("fetch.max.bytes", config.fetch_max_bytes),
            ("max.partition.fetch.bytes", config.max_partition_fetch_bytes),
        ] {
            if value == 0 {
                return Err(invalid(name, "0", "it must be at least 1".to_owned()));
            }
        }
        for (name, interval) in [
            ("auto.commit.interval.ms", config.auto_commit),
            ("max.poll.interval.ms", Some(config.max_poll_interval)),
        ] {
            if let Some(interval) = interval.filter(|interval| interval.as_millis() == 0) {
                let value = interval.as_millis().to_string();
                return Err(invalid(name, &value, "it must be at least 1".to_owned()));
            }
        }
        Ok(())
    }
}

impl fmt::Debug for ConsumerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsumerBuilder").field("config", &self.config).finish_non_exhaustive()
    }
}

const PROPERTY_NAMES: &str = "group.id, auto.offset.reset, isolation.level, enable.auto.commit, \
    auto.commit.interval.ms, max.poll.records, fetch.max.bytes, max.partition.fetch.bytes, client.id, \
    group.instance.id, max.poll.interval.ms and partition.assignment.strategy";

fn invalid(name: &str, value: &str, reason: String) -> Error {
    Error::InvalidConfig { name: name.to_owned(), value: value.to_owned(), reason }
}

fn read_policy(value: &str) -> Result<AutoOffsetReset, &'static str> {
    match value.trim() {
        "earliest" => Ok(AutoOffsetReset::Earliest),
        "latest" => Ok(AutoOffsetReset::Latest),
        "none" => Ok(AutoOffsetReset::Error),
        _ => Err("earliest, latest or none"),
    }
}

fn read_isolation_level(value: &str) -> Result<IsolationLevel, &'static str> {
    match value.trim() {
        "read_uncommitted" => Ok(IsolationLevel::ReadUncommitted),
        "read_committed" => Ok(IsolationLevel::ReadCommitted),
        _ => Err("read_uncommitted or read_committed"),
    }
}

fn read_bool(value: &str) -> Result<bool, &'static str> {
    value.trim().parse().map_err(|_| "true or false")
}

fn read_millis(value: &str) -> Result<Duration, &'static str> {
    value.trim().parse().map(Duration::from_millis).map_err(|_| "a number of milliseconds")
}

/// By its name, or by that of Kafka's class.
fn read_assignor(value: &str) -> Result<Arc<dyn Assignor>, &'static str> {
    let name = value.trim();
    match name.strip_prefix("org.apache.kafka.clients.consumer.").unwrap_or(name) {
        "range" | "RangeAssignor" => Ok(Arc::new(RangeAssignor)),
        "roundrobin" | "RoundRobinAssignor" => Ok(Arc::new(RoundRobinAssignor)),
        "cooperative-sticky" | "CooperativeStickyAssignor" => {
            Ok(Arc::new(CooperativeStickyAssignor))
        }
        _ => Err("range, roundrobin or cooperative-sticky"),
    }
}

fn read_number(value: &str) -> Result<usize, &'static str> {
    value.trim().parse().map_err(|_| "a whole number")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn automatic_commits_stay_off_in_whatever_order_the_properties_are_set() {
        let properties = [("enable.auto.commit", "false"), ("auto.commit.interval.ms", "1000")];
        let set = |builder: ConsumerBuilder, (name, value)| builder.property(name, value).unwrap();
        let builder = || Broker::in_memory().unwrap().consumer();

        let forwards = properties.into_iter().fold(builder(), set);
        let backwards = properties.into_iter().rev().fold(builder(), set);
        assert_eq!((forwards.config.auto_commit, backwards.config.auto_commit), (None, None));

        let on_again = set(forwards, ("enable.auto.commit", "true"));
        assert_eq!(on_again.config.auto_commit, Some(Duration::from_secs(1)));
    }
}
