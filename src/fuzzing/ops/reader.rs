//! A member of a group, and where it must be.

use std::collections::BTreeMap;
use std::time::Duration;

use super::model::{ModelPartition, ModelTopic};
use crate::consumer::Consumer;
use crate::topic_partition::TopicPartition;

pub(super) type Topics = BTreeMap<&'static str, ModelTopic>;

/// Where a group resumes, by its name and partition.
pub(super) type Committed = BTreeMap<(&'static str, TopicPartition), u64>;

pub(super) struct Reader {
    pub(super) consumer: Consumer,
    pub(super) group: &'static str,
    /// Where it goes when its position is gone.
    pub(super) to_end: bool,
    pub(super) records_max: usize,
    pub(super) topics: Vec<&'static str>,
    /// Where it is in each partition; `true` if that is its own doing, and so will be committed.
    pub(super) positions: BTreeMap<TopicPartition, (u64, bool)>,
}

pub(super) fn partition<'a>(topics: &'a Topics, of: &TopicPartition) -> &'a ModelPartition {
    &topics[of.topic()].partitions[usize::try_from(of.partition()).expect("it is small")]
}

impl Reader {
    fn reset(&self, partition: &ModelPartition) -> u64 {
        if self.to_end { partition.end() } else { partition.log_start }
    }

    /// Where it begins in every partition of its topics.
    pub(super) fn begin(&mut self, topics: &Topics, committed: &Committed) {
        for of in self.all_partitions(topics) {
            let start = committed.get(&(self.group, of.clone())).copied();
            let start = start.unwrap_or_else(|| self.reset(partition(topics, &of)));
            assert_eq!(self.consumer.position(&of).expect("it is assigned"), start, "{of}");
            self.positions.insert(of, (start, false));
        }
    }

    fn all_partitions(&self, topics: &Topics) -> Vec<TopicPartition> {
        let of = |name: &&'static str| {
            let count = topics[*name].partitions.len();
            let count = u32::try_from(count).expect("there are few");
            (0..count).map(|number| TopicPartition::new(*name, number)).collect::<Vec<_>>()
        };
        self.topics.iter().flat_map(of).collect()
    }

    pub(super) fn poll(&mut self, topics: &Topics, committed: &Committed) {
        for of in self.all_partitions(topics) {
            if !self.positions.contains_key(&of) {
                // It came after the subscription, so its start was not missed.
                let start = committed.get(&(self.group, of.clone())).copied();
                let start = start.unwrap_or(partition(topics, &of).log_start);
                self.positions.insert(of, (start, true));
            }
        }
        self.follow_log_starts(topics);
        let records = self.consumer.poll(Duration::ZERO).expect("nothing is wrong");
        assert!(records.len() <= self.records_max, "{} records", records.len());
        for record in &records {
            let of = record.topic_partition();
            let partition = partition(topics, of);
            let (position, own) = self.positions.get_mut(of).expect("it is assigned");
            if *position < partition.log_start || *position > partition.end() {
                assert!(!self.to_end, "{of}: there is nothing behind the end");
                *position = partition.log_start;
            }
            assert_eq!(record.offset(), *position, "{of}");
            partition.at(*position).check(&record.to_owned());
            (*position, *own) = (*position + 1, true);
        }
        let (to_end, is_empty) = (self.to_end, records.is_empty());
        for (of, (position, own)) in &mut self.positions {
            let partition = partition(topics, of);
            let found = self.consumer.position(of).expect("it is assigned");
            let gone = *position < partition.log_start || *position > partition.end();
            let target = if to_end { partition.end() } else { partition.log_start };
            assert!(found == *position || (gone && found == target), "{of}: at {found}");
            (*position, *own) = (found, *own || found != *position);
            assert!(!is_empty || found == partition.end(), "{of}: nothing comes after {found}");
        }
    }

    /// Until it is polled, a partition that nobody has committed for is read from its first record,
    /// whichever that is by then; or from its end.
    fn follow_log_starts(&mut self, topics: &Topics) {
        for (of, (position, own)) in &mut self.positions {
            if *own {
                continue;
            }
            let Ok(found) = self.consumer.position(of) else { continue };
            let partition = partition(topics, of);
            let reset = if self.to_end { partition.end() } else { partition.log_start };
            assert!(found == *position || found == reset, "{of}: at {found}");
            *position = found;
        }
    }

    pub(super) fn seek(&mut self, of: &TopicPartition, to: u64) {
        let is_assigned = self.positions.contains_key(of);
        assert_eq!(self.consumer.seek(of, to).is_ok(), is_assigned, "{of}");
        self.went(of, to);
    }

    /// It was told to go somewhere.
    pub(super) fn went(&mut self, of: &TopicPartition, to: u64) {
        if let Some(position) = self.positions.get_mut(of) {
            *position = (to, true);
            assert_eq!(self.consumer.position(of).expect("it is assigned"), to, "{of}");
        }
    }
}
