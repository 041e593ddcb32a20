//! What is done to groups, and by their one member.

use std::collections::BTreeMap;
use std::time::Duration;

use super::World;
use crate::consumer::config::AutoOffsetReset;
use crate::error::Error;
use crate::fuzzing::ops::reader::{Reader, partition as model_of};
use crate::group::OffsetAndMetadata;
use crate::topic_partition::TopicPartition;

impl World {
    pub(super) fn subscribe(&mut self, group: &'static str, to_end: bool, records_max: usize) {
        self.reader = None;
        let topics: Vec<_> = self.topics.keys().copied().collect();
        let reset = if to_end { AutoOffsetReset::Latest } else { AutoOffsetReset::Earliest };
        let consumer = self.broker.consumer().group(group).auto_commit(None);
        let consumer = consumer.auto_offset_reset(reset).max_poll_records(records_max);
        // Time passes in leaps here; who is expired and when is put to the test elsewhere.
        let consumer = consumer.max_poll_interval(Duration::MAX);
        if topics.is_empty() {
            return;
        }
        let consumer = consumer.subscribe(&topics).expect("they are there");
        let positions = BTreeMap::new();
        let mut reader = Reader { consumer, group, to_end, records_max, topics, positions };
        reader.begin(&self.topics, &self.committed);
        self.reader = Some(reader);
    }

    pub(super) fn seek_to_timestamp(&mut self, (topic, partition): (bool, u8), of: u8) {
        let Some((partition, model)) = self.partition(topic, partition) else { return };
        let count = usize::try_from(model.end() - model.log_start).expect("it is small");
        let Some(number) = usize::from(of).checked_rem(count) else { return };
        let time = model.readable().nth(number).expect("it is below the count").1.timestamp;
        let first = model.readable().find(|(_, stored)| stored.timestamp >= time);
        let first = first.map(|(offset, stored)| (offset, stored.timestamp));
        let found = partition.offset_for_timestamp(time).expect("nothing is damaged");
        assert_eq!(found, first, "{}", partition.topic_partition());
        let (Some(reader), Some((offset, _))) = (&mut self.reader, first) else { return };
        let of = partition.topic_partition();
        if reader.consumer.seek_to_timestamp(of, time).is_ok() {
            reader.went(of, offset);
        }
    }

    pub(super) fn seek_to_edge(&mut self, end: bool) {
        let Some(reader) = &mut self.reader else { return };
        if end {
            reader.consumer.seek_to_end().expect("nothing is damaged");
        } else {
            reader.consumer.seek_to_beginning();
        }
        for of in reader.positions.keys().cloned().collect::<Vec<_>>() {
            let model = model_of(&self.topics, &of);
            reader.went(&of, if end { model.end() } else { model.log_start });
        }
    }

    pub(super) fn commit(&mut self) {
        let Some(reader) = &mut self.reader else { return };
        let topics = &self.topics;
        let beyond =
            |(of, (at, _)): (&TopicPartition, &(u64, bool))| *at > model_of(topics, of).end();
        let any_beyond = reader.positions.iter().any(beyond);
        match reader.consumer.commit() {
            Ok(()) => assert!(!any_beyond),
            Err(Error::OffsetOutOfRange { .. }) => {
                assert!(any_beyond);
                return;
            }
            Err(error) => panic!("{error}"),
        }
        for (of, (position, own)) in &reader.positions {
            let found = reader.consumer.committed(of).expect("it has a group");
            let found = found.map(|committed| committed.offset);
            let key = (reader.group, of.clone());
            let before = self.committed.get(&key).copied();
            assert!(found == Some(*position) || (!own && found == before), "{of}: {found:?}");
            if let Some(found) = found {
                self.committed.insert(key, found);
            }
        }
    }

    pub(super) fn reset_group(&mut self, group: &'static str, at: (bool, u8), to: u8) {
        let occupied = self.reader.as_ref().is_some_and(|reader| reader.group == group);
        let Some((partition, model)) = self.partition(at.0, at.1) else { return };
        let (to, end) = (model.place(to), model.end());
        let of = partition.topic_partition().clone();
        match self.broker.reset_group(group, [(of.clone(), OffsetAndMetadata::new(to))]) {
            Ok(()) => {
                assert!(!occupied && to <= end);
                self.committed.insert((group, of), to);
            }
            Err(Error::GroupOccupied { .. }) => assert!(occupied),
            Err(Error::OffsetOutOfRange { .. }) => assert!(to > end),
            Err(error) => panic!("{error}"),
        }
    }

    pub(super) fn delete_group(&mut self, group: &'static str) {
        let occupied = self.reader.as_ref().is_some_and(|reader| reader.group == group);
        match self.broker.delete_group(group) {
            Ok(()) => {
                assert!(!occupied);
                self.committed.retain(|(of, _), _| *of != group);
            }
            Err(Error::GroupOccupied { .. }) => assert!(occupied),
            Err(error) => panic!("{error}"),
        }
    }
}
