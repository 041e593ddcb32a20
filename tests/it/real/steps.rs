//! A workload that does the same calls in the same order each time, so that the n-th call of a kind
//! can be made to fail. After a failure it goes on with the next step: everything that still works
//! must be right.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::Path;
use std::time::Duration;

use sapwood::{Broker, Durability, Partition, Record, Topic, TopicConfig};

use super::payload::Payload;
use super::report::{Place, Report, elapsed};

const RETENTION: u64 = 6 << 10;
const GROUP: &str = "g";

/// Two lives of a broker in one process: the first is just let go of, the second closed in order.
pub(super) fn run(directory: &Path, life: u64) {
    for epoch in 0..2 {
        let open = Broker::builder(directory).background_thread(false).open();
        let Some(broker) = told("open", open) else { return };
        let mut steps = Steps { broker, producer: life * 10 + epoch, sequences: BTreeMap::new() };
        steps.run(epoch);
        if epoch == 1 && told("close", steps.broker.close()).is_some() {
            say(&Report::Closed);
        }
    }
}

struct Steps {
    broker: Broker,
    producer: u64,
    sequences: BTreeMap<Place, u64>,
}

fn say(report: &Report) {
    report.say().unwrap();
}

/// The result, if there is one; a failure is reported, in the words that users would read.
fn told<T>(what: &str, result: sapwood::Result<T>) -> Option<T> {
    let report = |text: &dyn Display| say(&Report::Failed(format!("{what}: {text}")));
    result.inspect_err(|error| report(error)).ok()
}

impl Steps {
    fn run(&mut self, epoch: u64) {
        let written = Durability::Written { flush_interval: Duration::from_secs(1) };
        let (fsync, written) =
            (self.topic("fsync", Durability::Fsync), self.topic("written", written));
        let topics: Vec<_> = fsync.into_iter().chain(written).collect();
        for _ in 0..12 {
            topics.iter().for_each(|topic| self.append(topic));
        }
        self.consume();
        for topic in &topics {
            self.give_up_records(topic);
        }
        self.add_partition("fsync");
        self.alter("written");
        self.alter("fsync");
        told("run maintenance", self.broker.run_maintenance());
        for _ in 0..8 {
            topics.iter().for_each(|topic| self.append(topic));
        }
        self.make_and_delete(&format!("passing-{epoch}"));
        self.consume();
        topics.iter().for_each(|topic| self.append(topic));
    }

    fn topic(&self, name: &str, durability: Durability) -> Option<Topic> {
        if let Ok(topic) = self.broker.topic(name) {
            return Some(topic);
        }
        let config = TopicConfig::default()
            .segment_bytes(2048)
            .max_message_bytes(1024)
            .retention_bytes(RETENTION)
            .durability(durability);
        say(&Report::Creating(name.to_owned()));
        let topic = told("create a topic", self.broker.create_topic(name, config))?;
        say(&Report::Created(name.to_owned(), topic.id(), topic.partition_count(), RETENTION));
        Some(topic)
    }

    /// A batch to the topic's first partition; what was refused is tried again, once.
    fn append(&mut self, topic: &Topic) {
        let Some(partition) = told("look for a partition", topic.partition(0)) else { return };
        for _ in 0..2 {
            match self.append_once(&partition) {
                Err(error) if !error.is_fatal() => {}
                _ => return,
            }
        }
    }

    fn append_once(&mut self, partition: &Partition) -> sapwood::Result<()> {
        let place = (partition.topic().id(), partition.topic_partition().partition());
        let sequence = self.sequences.entry(place.clone()).or_default();
        let count = 1 + *sequence as u32 % 3;
        let value = |index: u32| {
            let payload = Payload {
                topic: &place.0,
                partition: place.1,
                producer: self.producer,
                sequence: *sequence + u64::from(index),
                index,
                count,
            };
            payload.encode(150)
        };
        let values: Vec<_> = (0..count).map(value).collect();
        let records: Vec<_> = values.iter().map(Record::new).collect();
        let began = elapsed();
        let appended = partition.append(&records);
        let first = *sequence;
        match &appended {
            // It may be there at the next open, and must not come again.
            Err(error) if error.is_fatal() => *sequence += u64::from(count),
            Err(_) => {}
            Ok(_) => *sequence += u64::from(count),
        }
        let producer = self.producer;
        match appended {
            Ok(at) => {
                say(&Report::acknowledged(
                    place,
                    at.offset,
                    (producer, first),
                    u64::from(count),
                    began,
                ));
                Ok(())
            }
            Err(error) => {
                say(&Report::Failed(format!("append: {error}")));
                Err(error)
            }
        }
    }

    fn consume(&self) {
        let builder = self.broker.consumer().group(GROUP).auto_commit(None);
        let topics = self.broker.topics().unwrap_or_default();
        let names: Vec<_> = topics.iter().map(Topic::name).collect();
        if names.is_empty() {
            return;
        }
        let Some(mut consumer) = told("subscribe", builder.subscribe(names)) else { return };
        for _ in 0..4 {
            told("poll", consumer.poll(Duration::ZERO));
        }
        let mut positions = Vec::new();
        for of in consumer.assignment() {
            let topic = topics.iter().find(|topic| topic.name() == of.topic());
            if let (Some(topic), Ok(position)) = (topic, consumer.position(&of)) {
                positions.push(((topic.id(), of.partition()), position));
            }
        }
        for (place, position) in &positions {
            say(&Report::Committing(GROUP.to_owned(), place.clone(), *position));
        }
        if told("commit", consumer.commit()).is_some() {
            for (place, position) in positions {
                say(&Report::Committed(GROUP.to_owned(), place, position));
            }
        }
    }

    fn give_up_records(&self, topic: &Topic) {
        let Some(partition) = told("look for a partition", topic.partition(0)) else { return };
        let before = partition.log_start_offset().midpoint(partition.high_watermark());
        let place = (topic.id(), 0);
        say(&Report::Giving(place.clone(), before));
        if let Some(start) = told("give up records", partition.delete_records(before)) {
            say(&Report::Given(place, start));
        }
    }

    fn add_partition(&self, name: &str) {
        let Ok(topic) = self.broker.topic(name) else { return };
        let total = topic.partition_count() + 1;
        say(&Report::Adding(topic.id(), total));
        if told("add a partition", self.broker.add_partitions(name, total)).is_some() {
            say(&Report::Added(topic.id(), total));
        }
    }

    fn alter(&self, name: &str) {
        let Ok(topic) = self.broker.topic(name) else { return };
        let retention = 2 << 10;
        say(&Report::Altering(topic.id(), retention));
        let altered = self.broker.alter_topic(name, topic.config().retention_bytes(retention));
        if told("alter a topic", altered).is_some() {
            say(&Report::Altered(topic.id(), retention));
        }
    }

    fn make_and_delete(&mut self, name: &str) {
        let Some(topic) = self.topic(name, Durability::Fsync) else { return };
        self.append(&topic);
        say(&Report::Deleting(topic.id()));
        if told("delete a topic", self.broker.delete_topic(name)).is_some() {
            say(&Report::Deleted(topic.id()));
        }
    }
}
