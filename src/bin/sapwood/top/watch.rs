//! Looks at a directory that another process may be writing to, again and again.
//!
//! Nothing is written, and no lock is taken. What a look costs grows with the partitions there are and
//! with what was appended since the last one, never with what is stored.

use std::collections::HashMap;
use std::time::Instant;

use sapwood::{Broker, GroupDescription, Partition, Timestamp, Topic, TopicConfig, TopicPartition};

use super::look::{CommittedLook, GroupLook, Limits, Look, PartitionLook, TopicLook};
use crate::exit::sentence;

/// Watches one directory.
pub(super) struct Watch {
    broker: Broker,
    started: Instant,
    topics: Vec<Topic>,
    oldest: HashMap<TopicPartition, Oldest>,
}

/// The first record of a partition, looked up once.
struct Oldest {
    topic_id: String,
    log_start_offset: u64,
    found: Result<Option<Timestamp>, String>,
}

impl Watch {
    pub(super) fn new(broker: Broker) -> Self {
        Self { broker, started: Instant::now(), topics: Vec::new(), oldest: HashMap::new() }
    }

    pub(super) fn broker(&self) -> &Broker {
        &self.broker
    }

    /// Looks at everything. What cannot be looked at is in the result, too, as it was seen last.
    pub(super) fn look(&mut self) -> Look {
        let mut troubles = Vec::new();
        match self.broker.topics() {
            Ok(topics) => self.topics = topics,
            Err(error) => troubles.push(sentence(&error)),
        }
        let topics: Vec<_> = self.topics.clone();
        let topics = topics.iter().map(|topic| self.topic(topic)).collect();
        self.forget_those_gone();
        let groups = self.groups(&mut troubles);
        Look { at: self.started.elapsed(), now: now(), topics, groups, troubles }
    }

    /// Of partitions that are no longer there nothing is remembered.
    fn forget_those_gone(&mut self) {
        let ids: HashMap<_, _> =
            self.topics.iter().map(|topic| (topic.name(), topic.id())).collect();
        self.oldest.retain(|of, oldest| ids.get(of.topic()) == Some(&oldest.topic_id));
    }

    fn topic(&mut self, topic: &Topic) -> TopicLook {
        let look = |partition: &Partition| self.partition(topic, partition);
        TopicLook {
            name: topic.name().to_owned(),
            id: topic.id(),
            limits: limits(&topic.config()),
            partitions: topic.partitions().iter().map(look).collect(),
        }
    }

    fn partition(&mut self, topic: &Topic, partition: &Partition) -> PartitionLook {
        let trouble = partition.refresh().err().map(|error| sentence(&error));
        let oldest = self.oldest(topic, partition);
        let (oldest, damage) = match oldest {
            Ok(oldest) => (oldest, None),
            Err(damage) => (None, Some(damage)),
        };
        // In this order, so that no later one is below an earlier one.
        let (log_start_offset, recovery_point) =
            (partition.log_start_offset(), partition.recovery_point());
        PartitionLook {
            number: partition.topic_partition().partition(),
            log_start_offset,
            recovery_point,
            high_watermark: partition.high_watermark(),
            log_end_offset: partition.log_end_offset(),
            size: partition.size(),
            oldest,
            trouble: trouble.or(damage),
        }
    }

    fn oldest(
        &mut self,
        topic: &Topic,
        partition: &Partition,
    ) -> Result<Option<Timestamp>, String> {
        let log_start_offset = partition.log_start_offset();
        if partition.high_watermark() <= log_start_offset {
            return Ok(None);
        }
        let of = partition.topic_partition();
        let known =
            self.oldest.get(of).filter(|oldest| oldest.log_start_offset == log_start_offset);
        if let Some(oldest) = known {
            return oldest.found.clone();
        }
        let found = match partition.offset_for_timestamp(Timestamp::from_millis(i64::MIN)) {
            Ok(first) => Ok(first.map(|(_, timestamp)| timestamp)),
            Err(error) => Err(sentence(&error)),
        };
        let oldest = Oldest { topic_id: topic.id(), log_start_offset, found: found.clone() };
        self.oldest.insert(of.clone(), oldest);
        found
    }

    fn groups(&self, troubles: &mut Vec<String>) -> Vec<GroupLook> {
        let names = self.broker.list_groups().unwrap_or_else(|error| {
            troubles.push(sentence(&error));
            Vec::new()
        });
        let mut groups = Vec::new();
        for name in names {
            match self.broker.describe_group(&name) {
                Ok(group) => groups.extend(group.map(group_look)),
                Err(error) => troubles.push(sentence(&error)),
            }
        }
        groups
    }
}

fn limits(config: &TopicConfig) -> Limits {
    // No limit is written as -1.
    let limit = |name: &str| config.get(name)?.parse().ok();
    Limits {
        retention_ms: limit("retention.ms"),
        retention_bytes: limit("retention.bytes"),
        max_bytes: limit("max.bytes"),
    }
}

fn group_look(group: GroupDescription) -> GroupLook {
    let committed = |offset: sapwood::GroupOffset| CommittedLook {
        topic_partition: offset.topic_partition,
        offset: offset.committed.offset,
        lag: offset.lag,
        committed_at: offset.commit_timestamp,
        metadata: offset.committed.metadata,
    };
    GroupLook { name: group.group, offsets: group.offsets.into_iter().map(committed).collect() }
}

fn now() -> Timestamp {
    Timestamp::from(std::time::SystemTime::now())
}
