//! Looks at a directory that another process may be writing to, again and again.
//!
//! A broker that was opened read-only learns that a partition has grown when a consumer asks for
//! what comes behind its end. So there are consumers here that ask, and are given nothing: they are
//! sent beyond the end before every look, from where the reset policy brings them back to the end as
//! it is by then. No record is read for it, nothing is written, and no lock is taken. What a look
//! costs grows with the partitions there are and with what was appended since the last one, never
//! with what is stored.

use std::collections::HashMap;
use std::slice;
use std::time::{Duration, Instant};

use sapwood::{
    AutoOffsetReset, Broker, Consumer, Error, GroupDescription, Partition, Timestamp, Topic,
    TopicConfig, TopicPartition,
};

use super::look::{CommittedLook, GroupLook, Limits, Look, PartitionLook, TopicLook};
use crate::exit::sentence;

/// A position beyond every end.
const BEYOND: u64 = u64::MAX;

/// How many partitions one consumer asks for: it goes through all of its own to find one, and reads
/// the list of topics once a second.
const PARTITIONS_OF_A_CONSUMER: usize = 64;

/// Watches one directory.
pub(super) struct Watch {
    broker: Broker,
    started: Instant,
    topics: Vec<Topic>,
    askers: Vec<Asker>,
    /// What the askers ask for, to notice when that is not what there is any more.
    asked: Vec<(String, TopicPartition)>,
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
        Self {
            broker,
            started: Instant::now(),
            topics: Vec::new(),
            askers: Vec::new(),
            asked: Vec::new(),
            oldest: HashMap::new(),
        }
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
        if let Err(error) = self.match_askers() {
            troubles.push(sentence(&error));
        }
        let mut refused: HashMap<TopicPartition, String> =
            self.askers.iter_mut().flat_map(Asker::ask).collect();
        let topics: Vec<_> = self.topics.clone();
        let topics = topics.iter().map(|topic| self.topic(topic, &mut refused)).collect();
        let groups = self.groups(&mut troubles);
        Look { at: self.started.elapsed(), now: now(), topics, groups, troubles }
    }

    /// Sees to it that there are askers for the partitions there are.
    fn match_askers(&mut self) -> Result<(), Error> {
        let there: Vec<_> = self.topics.iter().flat_map(addresses).collect();
        if there == self.asked {
            return Ok(());
        }
        self.asked.clear();
        self.askers.clear();
        for chunk in there.chunks(PARTITIONS_OF_A_CONSUMER) {
            let partitions = chunk.iter().map(|(_, of)| of.clone()).collect();
            self.askers.push(Asker::new(&self.broker, partitions)?);
        }
        self.oldest
            .retain(|of, oldest| there.iter().any(|(id, at)| (id, at) == (&oldest.topic_id, of)));
        self.asked = there;
        Ok(())
    }

    fn topic(&mut self, topic: &Topic, refused: &mut HashMap<TopicPartition, String>) -> TopicLook {
        let look = |partition: &Partition| {
            let trouble = refused.remove(partition.topic_partition());
            self.partition(topic, partition, trouble)
        };
        TopicLook {
            name: topic.name().to_owned(),
            id: topic.id(),
            limits: limits(&topic.config()),
            partitions: topic.partitions().iter().map(look).collect(),
        }
    }

    fn partition(
        &mut self,
        topic: &Topic,
        partition: &Partition,
        trouble: Option<String>,
    ) -> PartitionLook {
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

/// Asks whether partitions have grown.
struct Asker {
    consumer: Consumer,
    partitions: Vec<TopicPartition>,
}

impl Asker {
    fn new(broker: &Broker, partitions: Vec<TopicPartition>) -> Result<Self, Error> {
        let consumer = broker.consumer().auto_offset_reset(AutoOffsetReset::Latest);
        let mut consumer = consumer.assign(partitions.iter().cloned())?;
        consumer.pause(&partitions)?;
        Ok(Self { consumer, partitions })
    }

    /// Asks for one partition after the other, so that it is known which of them has failed.
    fn ask(&mut self) -> Vec<(TopicPartition, String)> {
        let Self { consumer, partitions } = self;
        let ask = |of: &TopicPartition| {
            let refused = ask_for(consumer, of).err()?;
            Some((of.clone(), sentence(&refused)))
        };
        partitions.iter().filter_map(ask).collect()
    }
}

fn ask_for(consumer: &mut Consumer, of: &TopicPartition) -> Result<(), Error> {
    consumer.resume(slice::from_ref(of))?;
    consumer.seek(of, BEYOND)?;
    let asked = consumer.poll(Duration::ZERO);
    match consumer.pause(slice::from_ref(of)) {
        // Its topic was deleted: the poll has said so.
        Err(Error::NotAssigned { .. }) => {}
        paused => paused?,
    }
    asked.map(|_nothing| ())
}

fn addresses(topic: &Topic) -> Vec<(String, TopicPartition)> {
    let id = topic.id();
    let address = |partition: &Partition| (id.clone(), partition.topic_partition().clone());
    topic.partitions().iter().map(address).collect()
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
