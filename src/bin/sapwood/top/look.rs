//! What one look at a directory finds. Plain values: nothing here asks the disk.

use std::time::Duration;

use sapwood::{Timestamp, TopicPartition};

/// Everything that was seen at one time.
#[derive(Debug, Clone)]
pub(super) struct Look {
    /// Since the first look; it measures.
    pub(super) at: Duration,
    /// On the clock that stamps records; it ages them.
    pub(super) now: Timestamp,
    pub(super) topics: Vec<TopicLook>,
    pub(super) groups: Vec<GroupLook>,
    /// What could not be looked at, and why, where it belongs to no partition.
    pub(super) troubles: Vec<String>,
}

#[derive(Debug, Clone)]
pub(super) struct TopicLook {
    pub(super) name: String,
    /// Tells a topic from one of the same name that was deleted.
    pub(super) id: String,
    pub(super) limits: Limits,
    pub(super) partitions: Vec<PartitionLook>,
}

/// How long and how much a topic keeps.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Limits {
    pub(super) retention_ms: Option<u64>,
    /// Of each partition.
    pub(super) retention_bytes: Option<u64>,
    /// Of the topic.
    pub(super) max_bytes: Option<u64>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct PartitionLook {
    pub(super) number: u32,
    pub(super) log_start_offset: u64,
    pub(super) high_watermark: u64,
    pub(super) log_end_offset: u64,
    pub(super) recovery_point: u64,
    pub(super) size: u64,
    /// The timestamp of the first record.
    pub(super) oldest: Option<Timestamp>,
    /// Why the rest is what it was before.
    pub(super) trouble: Option<String>,
}

#[derive(Debug, Clone)]
pub(super) struct GroupLook {
    pub(super) name: String,
    pub(super) offsets: Vec<CommittedLook>,
}

#[derive(Debug, Clone)]
pub(super) struct CommittedLook {
    pub(super) topic_partition: TopicPartition,
    pub(super) offset: u64,
    pub(super) lag: u64,
    pub(super) committed_at: Timestamp,
    pub(super) metadata: String,
}

impl TopicLook {
    pub(super) fn size(&self) -> u64 {
        self.partitions.iter().map(|partition| partition.size).sum()
    }

    pub(super) fn horizon(&self, now: Timestamp) -> Option<Horizon> {
        let of_partitions = self.partitions.iter().flat_map(|p| p.horizons(&self.limits, now));
        let of_topic = self.limits.max_bytes.map(|limit| Horizon::of_bytes(self.size(), limit));
        tightest(of_partitions.chain(of_topic))
    }

    /// The age of the oldest record, in milliseconds.
    pub(super) fn oldest_age(&self, now: Timestamp) -> Option<i64> {
        self.partitions.iter().filter_map(|partition| partition.oldest_age(now)).max()
    }
}

impl PartitionLook {
    /// How many offsets can be read.
    pub(super) fn records(&self) -> u64 {
        self.high_watermark.saturating_sub(self.log_start_offset)
    }

    /// How many offsets are not known to be on disk.
    pub(super) fn unsynced(&self) -> u64 {
        self.log_end_offset.saturating_sub(self.recovery_point)
    }

    pub(super) fn oldest_age(&self, now: Timestamp) -> Option<i64> {
        // A record without a timestamp has no age.
        let oldest = self.oldest.filter(|oldest| *oldest != Timestamp::NONE)?;
        Some(now.as_millis().saturating_sub(oldest.as_millis()))
    }

    pub(super) fn horizon(&self, limits: &Limits, now: Timestamp) -> Option<Horizon> {
        tightest(self.horizons(limits, now).into_iter())
    }

    fn horizons(&self, limits: &Limits, now: Timestamp) -> Vec<Horizon> {
        let age = self.oldest_age(now).and_then(|age| u64::try_from(age).ok());
        let by_age = limits.retention_ms.zip(age).map(|(limit, age)| Horizon::of_age(age, limit));
        let by_size = limits.retention_bytes.map(|limit| Horizon::of_bytes(self.size, limit));
        by_age.into_iter().chain(by_size).collect()
    }
}

/// How near something is to the limit at which retention, or the cap, takes hold.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Horizon {
    /// 1 at the limit. Segments go as a whole, so it may be passed.
    pub(super) share: f64,
    pub(super) limit: Limit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Limit {
    Millis(u64),
    Bytes(u64),
}

impl Horizon {
    fn of_age(millis: u64, limit: u64) -> Self {
        Self { share: share(millis, limit), limit: Limit::Millis(limit) }
    }

    fn of_bytes(bytes: u64, limit: u64) -> Self {
        Self { share: share(bytes, limit), limit: Limit::Bytes(limit) }
    }
}

#[allow(clippy::cast_precision_loss)] // a percentage
fn share(part: u64, whole: u64) -> f64 {
    part as f64 / whole.max(1) as f64
}

fn tightest(horizons: impl Iterator<Item = Horizon>) -> Option<Horizon> {
    horizons.max_by(|a, b| a.share.total_cmp(&b.share))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_horizon_is_the_limit_that_is_met_first() {
        let limits =
            Limits { retention_ms: Some(1000), retention_bytes: Some(100), max_bytes: Some(1000) };
        let partition = |size, oldest| PartitionLook {
            size,
            oldest: Some(Timestamp::from_millis(oldest)),
            ..PartitionLook::default()
        };
        let now = Timestamp::from_millis(10_000);
        let limit = |partitions: Vec<PartitionLook>| {
            let (name, id) = ("orders".to_owned(), String::new());
            TopicLook { name, id, limits, partitions }.horizon(now).map(|horizon| horizon.limit)
        };
        assert_eq!(limit(vec![partition(10, 9_800)]), Some(Limit::Millis(1000)));
        assert_eq!(limit(vec![partition(30, 9_800)]), Some(Limit::Bytes(100)));
        assert_eq!(limit(vec![partition(99, 9_800); 11]), Some(Limit::Bytes(1000)));
        assert_eq!(partition(5, 0).horizon(&Limits::default(), now), None);
    }

    #[test]
    fn a_record_without_a_timestamp_has_no_age() {
        let look = PartitionLook { oldest: Some(Timestamp::NONE), ..PartitionLook::default() };
        assert_eq!(look.oldest_age(Timestamp::from_millis(5)), None);
    }
}
