//! The settings of a topic: [`TopicConfig`], in Kafka's words and with Kafka's defaults.
//!
//! Every setting stands twice in the interface and once in the code: users set it by a method here,
//! tools and the registry set and show it as text by Kafka's property name. The text side, and with
//! it every range, is the table in [`properties`].

mod properties;
#[cfg(test)]
mod tests;

use std::time::Duration;

use self::properties::PROPERTIES;
use crate::error::{Error, Result};
use crate::record::{Compression, TimestampType};

/// How many partitions a topic may have. Each costs a directory, a few open files and some memory.
const PARTITIONS_MAX: u32 = 10_000;

/// The settings of a topic.
///
/// `TopicConfig::default()` has one partition, keeps records for seven days and answers a send once
/// it is safe from power loss. Change what you want to be otherwise:
///
/// ```
/// use std::time::Duration;
/// use sapwood::{Compression, TopicConfig};
///
/// let config = TopicConfig::default()
///     .partitions(4)
///     .retention_ms(Duration::from_secs(3600))
///     .compression(Compression::Lz4);
/// assert_eq!(config.get("retention.ms").as_deref(), Some("3600000"));
/// # config.validate()?;
/// # Ok::<(), sapwood::Error>(())
/// ```
///
/// Settings have Kafka's names, meanings and defaults; where Kafka has no such setting, the
/// documentation says that the name is Sapwood's own. Settings can also be given as text, by their
/// property names: see [`set`](Self::set).
///
/// The methods that change a setting take any value. Whether the values can be used, alone and
/// together, is checked by [`validate`](Self::validate), which also runs when a topic is created or
/// altered.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct TopicConfig {
    // Read as fields inside the crate, because the methods of these names are the setters.
    pub(crate) partitions: u32,
    pub(crate) segment_bytes: u32,
    pub(crate) segment_ms: Duration,
    pub(crate) segment_index_bytes: u32,
    pub(crate) index_interval_bytes: u32,
    /// `None`: for ever.
    pub(crate) retention_ms: Option<Duration>,
    /// Of one partition. `None`: no limit.
    pub(crate) retention_bytes: Option<u64>,
    pub(crate) retention_groups: Vec<String>,
    /// Of the whole topic. `None`: no limit.
    pub(crate) max_bytes: Option<u64>,
    pub(crate) when_full: WhenFull,
    pub(crate) max_message_bytes: u32,
    pub(crate) message_timestamp_type: TimestampType,
    /// `None`: no limit.
    pub(crate) message_timestamp_before_max: Option<Duration>,
    pub(crate) message_timestamp_after_max: Duration,
    /// `None`: as the producer compressed it. `Zstd` always has the level `zstd_level`.
    pub(crate) compression: Option<Compression>,
    /// `Written` always has the interval `flush_interval`.
    pub(crate) durability: Durability,
    /// Kept while another codec is in use, so that the order in which `compression.type` and
    /// `compression.zstd.level` are set makes no difference.
    zstd_level: i32,
    /// Kept under `Fsync` for the same reason: `durability` and `flush.ms`.
    flush_interval: Duration,
}

impl Default for TopicConfig {
    fn default() -> Self {
        const WEEK: Duration = Duration::from_secs(7 * 24 * 60 * 60);
        Self {
            partitions: 1,
            segment_bytes: 1 << 30,
            segment_ms: WEEK,
            segment_index_bytes: 10_485_760,
            index_interval_bytes: 4096,
            retention_ms: Some(WEEK),
            retention_bytes: None,
            retention_groups: Vec::new(),
            max_bytes: None,
            when_full: WhenFull::Refuse,
            max_message_bytes: 1_048_588,
            message_timestamp_type: TimestampType::CreateTime,
            message_timestamp_before_max: None,
            message_timestamp_after_max: Duration::from_secs(60 * 60),
            compression: None,
            durability: Durability::Fsync,
            zstd_level: 3,
            flush_interval: Duration::from_secs(1),
        }
    }
}

impl TopicConfig {
    /// How many partitions the topic has.
    ///
    /// Default 1; 1 to 10,000. It can grow later but never shrink, and keyed records find another
    /// partition when it grows. As in Kafka this is no property: it has no place in
    /// [`set`](Self::set), [`get`](Self::get) and [`properties`](Self::properties).
    pub fn partitions(mut self, partitions: u32) -> Self {
        self.partitions = partitions;
        self
    }

    /// How large a segment's `.log` file grows before the next one is begun, in bytes.
    ///
    /// Records are deleted a segment at a time, so a small retention wants small segments.
    /// Default 1 GiB; 1 KiB to 2,147,483,647, and no less than
    /// [`max_message_bytes`](Self::max_message_bytes). Kafka from 4.0 on refuses to create topics
    /// with less than 1 MiB. Kafka: `segment.bytes`.
    pub fn segment_bytes(mut self, bytes: u32) -> Self {
        self.segment_bytes = bytes;
        self
    }

    /// How long a segment is appended to before the next one is begun, so that records of quiet
    /// topics get old enough to be deleted.
    ///
    /// Default 7 days; from 1 ms, in whole milliseconds. Kafka: `segment.ms`.
    pub fn segment_ms(mut self, age: Duration) -> Self {
        self.segment_ms = age;
        self
    }

    /// How large each of a segment's two index files may grow, in bytes; a segment whose index is
    /// full is closed and the next one begun.
    ///
    /// Default 10,485,760; 96 to 2,147,483,647. Kafka: `segment.index.bytes`.
    pub fn segment_index_bytes(mut self, bytes: u32) -> Self {
        self.segment_index_bytes = bytes;
        self
    }

    /// How many bytes of records lie between two index entries: fewer find an offset with less
    /// scanning and make larger indexes.
    ///
    /// Default 4096; 0 (an entry for every batch) to 2,147,483,647. Kafka: `index.interval.bytes`.
    pub fn index_interval_bytes(mut self, bytes: u32) -> Self {
        self.index_interval_bytes = bytes;
        self
    }

    /// How long records are kept, by their own timestamps; `None` keeps them for ever.
    ///
    /// A segment is deleted when its newest record is older than this.
    /// Default 7 days; from 0, in whole milliseconds. Kafka: `retention.ms`, where `None` is `-1`.
    pub fn retention_ms(mut self, age: impl Into<Option<Duration>>) -> Self {
        self.retention_ms = age.into();
        self
    }

    /// How many bytes of records each partition keeps; `None` sets no limit.
    ///
    /// The oldest segments are deleted as long as at least this much is left, so a partition holds
    /// up to a segment more; for a bound that holds at every moment see
    /// [`max_bytes`](Self::max_bytes).
    /// Default `None`; from 0. Kafka: `retention.bytes`, where `None` is `-1`.
    pub fn retention_bytes(mut self, bytes: impl Into<Option<u64>>) -> Self {
        self.retention_bytes = bytes.into();
        self
    }

    /// The consumer groups that must have committed past a segment before it may be deleted,
    /// whatever its age and the size of the log. Once all of them have, the other rules decide; if
    /// there is neither [`retention_ms`](Self::retention_ms) nor
    /// [`retention_bytes`](Self::retention_bytes), it goes. So `retention_ms(None)` with groups makes
    /// a queue that keeps what is not done, and no more. Only [`max_bytes`](Self::max_bytes) with
    /// [`WhenFull::DropOldest`] deletes what a group has not consumed.
    ///
    /// Default none. Up to 100 names that differ, each not empty, without commas and without blanks
    /// at its ends. Sapwood's own; as a property `retention.groups`, separated by commas.
    ///
    /// ```
    /// use sapwood::TopicConfig;
    ///
    /// let config = TopicConfig::default().retention_groups(["billing", "audit"]);
    /// assert_eq!(config.get("retention.groups").as_deref(), Some("billing,audit"));
    /// ```
    pub fn retention_groups(mut self, groups: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.retention_groups = groups.into_iter().map(Into::into).collect();
        self
    }

    /// How many bytes the `.log` files of the whole topic, all partitions together, may take;
    /// `None` sets no limit. What happens to a send beyond that says
    /// [`when_full`](Self::when_full).
    ///
    /// Default `None`; no less than [`max_message_bytes`](Self::max_message_bytes). Space comes back
    /// a segment at a time: choose [`segment_bytes`](Self::segment_bytes) well below it.
    /// Sapwood's own; as a property `max.bytes`, where `None` is `-1`.
    pub fn max_bytes(mut self, bytes: impl Into<Option<u64>>) -> Self {
        self.max_bytes = bytes.into();
        self
    }

    /// What happens to a send for which [`max_bytes`](Self::max_bytes) leaves no room.
    ///
    /// Default [`WhenFull::Refuse`]. Sapwood's own; as a property `max.bytes.policy` with the values
    /// `refuse`, `block` and `drop-oldest`.
    pub fn when_full(mut self, policy: WhenFull) -> Self {
        self.when_full = policy;
        self
    }

    /// How large a batch of records may be, in bytes as stored: compressed, with its header.
    ///
    /// Default 1,048,588; 128 to [`segment_bytes`](Self::segment_bytes).
    /// Kafka: `max.message.bytes`.
    pub fn max_message_bytes(mut self, bytes: u32) -> Self {
        self.max_message_bytes = bytes;
        self
    }

    /// Which time records are stamped with: the sender's or the log's.
    ///
    /// Default [`TimestampType::CreateTime`]. Kafka: `message.timestamp.type`.
    pub fn message_timestamp_type(mut self, timestamp_type: TimestampType) -> Self {
        self.message_timestamp_type = timestamp_type;
        self
    }

    /// How far in the past a record's timestamp may lie when it is sent; `None` sets no limit.
    ///
    /// Default `None`; from 0, in whole milliseconds. Has no effect under
    /// [`TimestampType::LogAppendTime`]. Kafka: `message.timestamp.before.max.ms`, where `None` is
    /// 9223372036854775807.
    pub fn message_timestamp_before_max(mut self, age: impl Into<Option<Duration>>) -> Self {
        self.message_timestamp_before_max = age.into();
        self
    }

    /// How far in the future a record's timestamp may lie when it is sent. A timestamp far in the
    /// future would keep its segment from ever being deleted by age.
    ///
    /// Default 1 hour; from 0, in whole milliseconds. Has no effect under
    /// [`TimestampType::LogAppendTime`]. Kafka: `message.timestamp.after.max.ms`.
    pub fn message_timestamp_after_max(mut self, ahead: Duration) -> Self {
        self.message_timestamp_after_max = ahead;
        self
    }

    /// How batches are compressed, whatever their producer is set to; `None` leaves it to the
    /// producer. ([`Compression::None`] is something else: batches are stored uncompressed.)
    ///
    /// Default `None`. A zstd level lies between -131072 and 22. Kafka: `compression.type`
    /// (`producer`, `uncompressed`, `lz4`, `zstd`) and `compression.zstd.level`.
    pub fn compression(mut self, compression: impl Into<Option<Compression>>) -> Self {
        self.compression = compression.into();
        if let Some(Compression::Zstd { level }) = self.compression {
            self.zstd_level = level;
        }
        self
    }

    /// What an answered send, and a record that a consumer has seen, is safe from.
    ///
    /// Default [`Durability::Fsync`]. Sapwood's own; as a property `durability` with the values
    /// `fsync` and `written`, the flush interval being Kafka's `flush.ms`.
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        if let Durability::Written { flush_interval } = durability {
            self.flush_interval = flush_interval;
        }
        self
    }

    /// Sets a property by its name, the value given as text in Kafka's form.
    ///
    /// ```
    /// use sapwood::TopicConfig;
    ///
    /// let config = TopicConfig::default().set("retention.ms", "-1")?.set("segment.bytes", "2097152")?;
    /// assert_eq!(config, TopicConfig::default().retention_ms(None).segment_bytes(2 << 20));
    ///
    /// let error = TopicConfig::default().set("retention_ms", "-1").unwrap_err();
    /// assert!(error.to_string().contains("did you mean retention.ms?"));
    /// # Ok::<(), sapwood::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::InvalidConfig`] when there is no such property, the value cannot be read, or it
    /// lies outside the property's range. How it goes together with other settings is left to
    /// [`validate`](Self::validate), so that properties can be set in any order.
    pub fn set(mut self, property: &str, value: &str) -> Result<Self> {
        let invalid = |reason| Error::InvalidConfig {
            name: property.to_owned(),
            value: value.to_owned(),
            reason,
        };
        let property = properties::find(property).map_err(invalid)?;
        (property.set)(&mut self, value.trim()).map_err(invalid)?;
        (property.check)(&self).map_err(invalid)?;
        Ok(self)
    }

    /// The value of a property in Kafka's text form; `None` when there is no such property.
    pub fn get(&self, property: &str) -> Option<String> {
        properties::find(property).ok().map(|property| (property.get)(self))
    }

    /// All properties and their values in Kafka's text form, always in the same order.
    ///
    /// ```
    /// use sapwood::TopicConfig;
    ///
    /// let all = TopicConfig::default().properties();
    /// assert!(all.contains(&("segment.bytes", "1073741824".to_owned())));
    /// ```
    pub fn properties(&self) -> Vec<(&'static str, String)> {
        PROPERTIES.iter().map(|property| (property.name, (property.get)(self))).collect()
    }

    /// The properties whose values are not the defaults: what has to be stored of a topic.
    pub(crate) fn overrides(&self) -> Vec<(&'static str, String)> {
        let defaults = Self::default();
        self.properties()
            .into_iter()
            .filter(|(name, value)| defaults.get(name).as_ref() != Some(value))
            .collect()
    }

    /// Checks every setting, and that they go together.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidConfig`] with the first setting that is not allowed and what would be.
    pub fn validate(&self) -> Result<()> {
        let invalid = |name: &str, value, reason| {
            Err(Error::InvalidConfig { name: name.to_owned(), value, reason })
        };
        if !(1..=PARTITIONS_MAX).contains(&self.partitions) {
            let reason = format!("a topic has 1 to {PARTITIONS_MAX} partitions");
            return invalid("partitions", self.partitions.to_string(), reason);
        }
        for property in &PROPERTIES {
            if let Err(reason) = (property.check)(self) {
                return invalid(property.name, (property.get)(self), reason);
            }
        }
        let largest = self.max_message_bytes;
        if largest > self.segment_bytes {
            let reason =
                format!("a segment must hold the largest batch, max.message.bytes = {largest}");
            return invalid("segment.bytes", self.segment_bytes.to_string(), reason);
        }
        if let Some(max_bytes) = self.max_bytes
            && max_bytes < u64::from(largest)
        {
            let reason =
                format!("the topic must hold the largest batch, max.message.bytes = {largest}");
            return invalid("max.bytes", max_bytes.to_string(), reason);
        }
        Ok(())
    }
}

/// When a send counts as done: what an answered record, and one a consumer has seen, is safe from.
///
/// Consumers never see a record before its send could be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Durability {
    /// A send is answered, and consumers see the record, once the disk has confirmed it (fdatasync).
    /// It survives a power loss. All sends that wait at the same time share one sync.
    #[default]
    Fsync,
    /// A send is answered, and consumers see the record, once the operating system has it. It
    /// survives the end of the process, however that comes about; a power loss or a crash of the
    /// operating system may take the last records, as many as were appended within one
    /// `flush_interval`, never ones in between. On a disk that cannot keep up, sends wait for it.
    Written {
        /// How often what was written is synced to disk: how much time a power loss can cost.
        /// 1 ms to 1 hour, in whole milliseconds; 1 second unless there is a reason for another.
        /// Kafka: `flush.ms`.
        flush_interval: Duration,
    },
}

/// What happens to a send when its topic has reached
/// [`max_bytes`](TopicConfig::max_bytes).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum WhenFull {
    /// It fails with [`Error::TopicFull`]. Nothing is lost: the sender knows.
    #[default]
    Refuse,
    /// It waits until retention or [`retention_groups`](TopicConfig::retention_groups) have made
    /// room: consumers that are slow make producers slow.
    Block,
    /// The topic's oldest segments are deleted to make room, whether they were consumed or not.
    DropOldest,
}
