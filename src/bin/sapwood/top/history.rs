//! What the looks at a directory, one after the other, say about rates and syncs. Pure.
//!
//! Counters of the process that writes cannot be seen from outside. Rates are derived from how the
//! offsets and sizes on disk move, and syncs from how the recovery point does.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use sapwood::TopicPartition;

use super::look::{CommittedLook, GroupLook, Look, PartitionLook, TopicLook};
use super::series::Series;

/// How many steps of a recovery point are remembered.
pub(super) const STEPS_MAX: usize = 8;

/// What was appended, as time went by.
#[derive(Debug, Clone, Default)]
pub(super) struct Appended {
    pub(super) records: Series,
    pub(super) bytes: Series,
}

impl Appended {
    fn push(&mut self, seconds: f64, amount: Amount) {
        self.records.push(seconds, amount.records);
        self.bytes.push(seconds, amount.bytes);
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Amount {
    records: u64,
    bytes: u64,
}

impl Amount {
    fn plus(self, other: Self) -> Self {
        Self { records: self.records + other.records, bytes: self.bytes + other.bytes }
    }
}

/// A move of the recovery point between two looks: one sync, or several that came in quick
/// succession.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) at: Duration,
    /// How many records it has made durable.
    pub(super) records: u64,
}

#[derive(Debug, Default)]
pub(super) struct PartitionHistory {
    last: PartitionLook,
    pub(super) appended: Appended,
    /// The newest last.
    pub(super) steps: VecDeque<Step>,
    pub(super) last_append: Option<Duration>,
}

#[derive(Debug, Default)]
pub(super) struct GroupHistory {
    /// Offsets committed.
    pub(super) consumed: Series,
    committed: HashMap<TopicPartition, u64>,
    pub(super) of_partitions: HashMap<TopicPartition, Series>,
}

/// All that is remembered.
#[derive(Debug, Default)]
pub(super) struct History {
    at: Option<Duration>,
    pub(super) total: Appended,
    topics: HashMap<String, TopicHistory>,
    groups: HashMap<String, GroupHistory>,
}

#[derive(Debug, Default)]
struct TopicHistory {
    appended: Appended,
    partitions: HashMap<u32, PartitionHistory>,
}

impl History {
    /// Takes in what was seen next.
    pub(super) fn observe(&mut self, look: &Look) {
        let seconds = self.at.map(|before| look.at.saturating_sub(before).as_secs_f64());
        self.at = Some(look.at);
        self.topics.retain(|id, _| look.topics.iter().any(|topic| topic.id == *id));
        self.groups.retain(|name, _| look.groups.iter().any(|group| group.name == *name));
        let mut total = Amount::default();
        for topic in &look.topics {
            let history = self.topics.entry(topic.id.clone()).or_default();
            total = total.plus(history.observe(topic, look.at, seconds));
        }
        for group in &look.groups {
            self.groups.entry(group.name.clone()).or_default().observe(group, seconds);
        }
        if let Some(seconds) = seconds {
            self.total.push(seconds, total);
        }
    }

    pub(super) fn topic(&self, topic: &TopicLook) -> Option<&Appended> {
        self.topics.get(&topic.id).map(|history| &history.appended)
    }

    pub(super) fn partition(&self, topic: &TopicLook, number: u32) -> Option<&PartitionHistory> {
        self.topics.get(&topic.id)?.partitions.get(&number)
    }

    pub(super) fn group(&self, name: &str) -> Option<&GroupHistory> {
        self.groups.get(name)
    }

    /// What was made durable in all of a topic's partitions when any was last.
    pub(super) fn last_step(&self, topic: &TopicLook) -> Option<Step> {
        let partitions = self.topics.get(&topic.id)?.partitions.values();
        let steps: Vec<Step> = partitions.filter_map(|one| one.steps.back()).copied().collect();
        let at = steps.iter().map(|step| step.at).max()?;
        let newest = steps.iter().filter(|step| step.at == at);
        Some(Step { at, records: newest.map(|step| step.records).sum() })
    }
}

impl TopicHistory {
    fn observe(&mut self, topic: &TopicLook, at: Duration, seconds: Option<f64>) -> Amount {
        let mut sum = Amount::default();
        for partition in &topic.partitions {
            let Some(history) = self.partitions.get_mut(&partition.number) else {
                let first = PartitionHistory { last: partition.clone(), ..Default::default() };
                self.partitions.insert(partition.number, first);
                continue;
            };
            sum = sum.plus(history.observe(partition, at, seconds.unwrap_or_default()));
        }
        if let Some(seconds) = seconds {
            self.appended.push(seconds, sum);
        }
        sum
    }
}

impl PartitionHistory {
    fn observe(&mut self, look: &PartitionLook, at: Duration, seconds: f64) -> Amount {
        let amount = appended(&self.last, look);
        self.appended.push(seconds, amount);
        if amount.records > 0 {
            self.last_append = Some(at);
        }
        let records = look.recovery_point.saturating_sub(self.last.recovery_point);
        if records > 0 {
            if self.steps.len() == STEPS_MAX {
                self.steps.pop_front();
            }
            self.steps.push_back(Step { at, records });
        }
        self.last = look.clone();
        amount
    }
}

/// What came between two looks. A size that retention has lessened meanwhile tells nothing; then the
/// records count as much as those that are there do in the mean.
fn appended(before: &PartitionLook, after: &PartitionLook) -> Amount {
    let records = after.log_end_offset.saturating_sub(before.log_end_offset);
    let bytes = if after.log_start_offset == before.log_start_offset {
        after.size.saturating_sub(before.size)
    } else {
        let there = after.log_end_offset.saturating_sub(after.log_start_offset).max(1);
        let bytes = u128::from(records) * u128::from(after.size) / u128::from(there);
        u64::try_from(bytes).unwrap_or(u64::MAX)
    };
    Amount { records, bytes }
}

impl GroupHistory {
    fn observe(&mut self, group: &GroupLook, seconds: Option<f64>) {
        let mut sum = 0;
        self.of_partitions.retain(|of, _| group.offsets.iter().any(|at| at.topic_partition == *of));
        for committed in &group.offsets {
            sum += self.observe_partition(committed, seconds);
        }
        if let Some(seconds) = seconds {
            self.consumed.push(seconds, sum);
        }
    }

    fn observe_partition(&mut self, committed: &CommittedLook, seconds: Option<f64>) -> u64 {
        let of = &committed.topic_partition;
        let Some(before) = self.committed.insert(of.clone(), committed.offset) else { return 0 };
        // A group that was moved back has consumed nothing.
        let amount = committed.offset.saturating_sub(before);
        if let Some(seconds) = seconds {
            self.of_partitions.entry(of.clone()).or_default().push(seconds, amount);
        }
        amount
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sapwood::Timestamp;

    fn look(second: u64, partition: PartitionLook) -> Look {
        let topic = TopicLook {
            name: "orders".to_owned(),
            id: "id".to_owned(),
            limits: crate::top::look::Limits::default(),
            partitions: vec![partition],
        };
        Look {
            at: Duration::from_secs(second),
            now: Timestamp::from_millis(0),
            topics: vec![topic],
            groups: Vec::new(),
            troubles: Vec::new(),
        }
    }

    fn ended(log_end_offset: u64, recovery_point: u64, size: u64) -> PartitionLook {
        PartitionLook { log_end_offset, recovery_point, size, ..PartitionLook::default() }
    }

    fn history(looks: &[Look]) -> History {
        let mut history = History::default();
        for look in looks {
            history.observe(look);
        }
        history
    }

    #[test]
    fn what_was_there_at_the_first_look_was_not_appended() {
        let history = history(&[look(1, ended(1000, 1000, 9)), look(3, ended(1010, 1000, 209))]);
        assert_eq!(history.total.records.rates(), [5.0]);
        assert_eq!(history.total.bytes.rates(), [100.0]);
    }

    #[test]
    fn bytes_are_estimated_where_retention_has_lessened_the_size() {
        let before = ended(1000, 0, 50_000);
        let after = PartitionLook { log_start_offset: 900, ..ended(1100, 0, 4_000) };
        let amount = appended(&before, &after);
        assert_eq!((amount.records, amount.bytes), (100, 2_000));
    }

    #[test]
    fn a_step_of_the_recovery_point_says_when_and_how_many() {
        let looks: Vec<_> =
            [(0, 5), (1, 5), (2, 9)].map(|(at, point)| look(at, ended(9, point, 0))).into();
        let history = history(&looks);
        let topic = &looks[0].topics[0];
        let step = Step { at: Duration::from_secs(2), records: 4 };
        assert_eq!(history.last_step(topic), Some(step));
        assert_eq!(history.partition(topic, 0).unwrap().steps, [step]);
    }

    #[test]
    fn a_topic_of_the_same_name_starts_anew() {
        let mut second = look(1, ended(5, 5, 5));
        second.topics[0].id = "other".to_owned();
        let history = history(&[look(0, ended(0, 0, 0)), second]);
        assert_eq!(history.total.records.rates(), [0.0]);
    }

    #[test]
    fn a_group_that_is_moved_back_has_consumed_nothing() {
        let commit = |second, offset| {
            let mut look = look(second, PartitionLook::default());
            let offsets = vec![CommittedLook {
                topic_partition: TopicPartition::new("orders", 0),
                offset,
                lag: 0,
                committed_at: Timestamp::from_millis(0),
                metadata: String::new(),
            }];
            look.groups = vec![GroupLook { name: "billing".to_owned(), offsets }];
            look
        };
        let history = history(&[commit(0, 10), commit(1, 30), commit(2, 0)]);
        assert_eq!(history.group("billing").unwrap().consumed.rates(), [20.0, 0.0]);
    }
}
