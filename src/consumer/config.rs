//! The settings of a consumer.

use std::time::Duration;

use crate::broker::Broker;
use crate::error::{Error, Result};
use crate::group::check_group_id;

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
    Latest,
    /// Nowhere: `poll` gives [`Error::NoCommittedOffset`] or [`Error::OffsetOutOfRange`] until you
    /// seek. Kafka calls this `none`.
    Error,
}

/// What a consumer is set to, checked.
#[derive(Debug, Clone)]
pub(crate) struct ConsumerConfig {
    pub(crate) group: Option<String>,
    pub(crate) auto_offset_reset: AutoOffsetReset,
    /// `None`: only on demand.
    pub(crate) auto_commit: Option<Duration>,
    /// Kept while automatic commits are off, so that the order in which `enable.auto.commit` and
    /// `auto.commit.interval.ms` are set makes no difference.
    auto_commit_interval: Duration,
    pub(crate) max_poll_records: usize,
    pub(crate) fetch_max_bytes: usize,
    pub(crate) max_partition_fetch_bytes: usize,
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
#[derive(Debug, Clone)]
#[must_use]
pub struct ConsumerBuilder {
    pub(crate) broker: Broker,
    pub(crate) config: ConsumerConfig,
}

impl ConsumerBuilder {
    pub(crate) fn new(broker: Broker) -> Self {
        const AUTO_COMMIT_INTERVAL: Duration = Duration::from_secs(5);
        let config = ConsumerConfig {
            group: None,
            auto_offset_reset: AutoOffsetReset::default(),
            auto_commit: Some(AUTO_COMMIT_INTERVAL),
            auto_commit_interval: AUTO_COMMIT_INTERVAL,
            max_poll_records: 500,
            fetch_max_bytes: 50 << 20,
            max_partition_fetch_bytes: 1 << 20,
        };
        Self { broker, config }
    }

    /// The group under whose name progress is committed, and found again after a restart.
    ///
    /// Default: none; then nothing can be committed. 1 to 249 bytes. Kafka: `group.id`.
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
            "enable.auto.commit" => read_bool(value).map(|enabled| {
                config.auto_commit = enabled.then_some(config.auto_commit_interval);
            }),
            "auto.commit.interval.ms" => {
                let millis = value.trim().parse().map_err(|_| "a number of milliseconds");
                millis.map(|millis| {
                    config.auto_commit_interval = Duration::from_millis(millis);
                    config.auto_commit = config.auto_commit.and(Some(config.auto_commit_interval));
                })
            }
            "max.poll.records" => read_number(value).map(|n| config.max_poll_records = n),
            "fetch.max.bytes" => read_number(value).map(|n| config.fetch_max_bytes = n),
            "max.partition.fetch.bytes" => {
                read_number(value).map(|n| config.max_partition_fetch_bytes = n)
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
        for (name, value) in [
            ("max.poll.records", config.max_poll_records),
            ("fetch.max.bytes", config.fetch_max_bytes),
            ("max.partition.fetch.bytes", config.max_partition_fetch_bytes),
        ] {
            if value == 0 {
                return Err(invalid(name, "0", "it must be at least 1".to_owned()));
            }
        }
        match config.auto_commit {
            Some(interval) if interval < Duration::from_millis(1) => {
                let value = interval.as_millis().to_string();
                Err(invalid("auto.commit.interval.ms", &value, "it must be at least 1".to_owned()))
            }
            _ => Ok(()),
        }
    }
}

const PROPERTY_NAMES: &str = "group.id, auto.offset.reset, enable.auto.commit, \
    auto.commit.interval.ms, max.poll.records, fetch.max.bytes and max.partition.fetch.bytes";

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

fn read_bool(value: &str) -> Result<bool, &'static str> {
    value.trim().parse().map_err(|_| "true or false")
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
