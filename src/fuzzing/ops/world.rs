//! A broker and what it must hold, moved in step.

mod groups;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::model::{ModelPartition, ModelTopic, Stored};
use super::reader::{Committed, Reader, Topics};
use super::{Op, Settings};
use crate::broker::Broker;
use crate::broker::config::BrokerBuilder;
use crate::error::Error;
use crate::fs::memory::MemoryFileSystem;
use crate::time::{Clock, ManualClock, Timestamp};
use crate::topic::Partition;

const NAMES: [&str; 2] = ["orders", "payments"];
const GROUPS: [&str; 2] = ["audit", "billing"];
const PARTITIONS_MAX: usize = 3;
const T0: Timestamp = Timestamp::from_millis(1_700_000_000_000);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

pub(super) struct World {
    fs: Arc<MemoryFileSystem>,
    clock: Arc<ManualClock>,
    broker: Broker,
    reader: Option<Reader>,
    topics: Topics,
    committed: Committed,
    /// How many records there have been.
    number: u64,
    /// The time by which records age: that of the wall clock when the broker was opened, and what has
    /// passed since.
    age_time: Timestamp,
}

fn builder(fs: &Arc<MemoryFileSystem>, clock: &Arc<ManualClock>) -> BrokerBuilder {
    let (fs, clock): (Arc<MemoryFileSystem>, Arc<ManualClock>) = (Arc::clone(fs), clock.clone());
    BrokerBuilder::in_memory()
        .file_system(fs)
        .clock(clock)
        .background_thread(false)
        .retention_check_interval(Duration::from_millis(1))
}

fn name(topic: bool) -> &'static str {
    NAMES[usize::from(topic)]
}

fn group(group: bool) -> &'static str {
    GROUPS[usize::from(group)]
}

impl World {
    pub(super) fn new() -> Self {
        let (fs, clock) = (Arc::new(MemoryFileSystem::new()), Arc::new(ManualClock::new(T0)));
        let broker = builder(&fs, &clock).open().expect("an empty directory opens");
        Self {
            fs,
            clock,
            broker,
            reader: None,
            topics: BTreeMap::new(),
            committed: BTreeMap::new(),
            number: 0,
            age_time: T0,
        }
    }

    pub(super) fn run(mut self, op: Op) -> Self {
        match op {
            Op::Create { topic, settings } => self.create(name(topic), settings),
            Op::Delete { topic } => self.delete(name(topic)),
            Op::Alter { topic, settings } => self.alter(name(topic), settings),
            Op::AddPartition { topic } => self.add_partition(name(topic)),
            Op::Append { topic, partition, count, len, age } => {
                self.append((topic, partition), (count, len), age);
            }
            Op::Send { topic, count, len, key } => self.send(name(topic), (count, len), key),
            Op::Flush { topic, partition } => {
                let Some((partition, _)) = self.partition(topic, partition) else { return self };
                partition.flush().expect("memory does not fail");
                assert_eq!(partition.recovery_point(), partition.log_end_offset());
            }
            Op::DeleteRecords { topic, partition, before } => {
                self.delete_records((topic, partition), before);
            }
            Op::Pass { minutes } => self.pass(Duration::from_secs(60 * u64::from(minutes))),
            Op::Jump { days } => self.jump(days),
            Op::Subscribe { group: of, to_end, records_max } => {
                self.subscribe(group(of), to_end, records_max.into());
            }
            Op::Poll => {
                let Some(reader) = &mut self.reader else { return self };
                reader.poll(&self.topics, &self.committed);
            }
            Op::Seek { topic, partition, to } => {
                let Some((partition, model)) = self.partition(topic, partition) else {
                    return self;
                };
                let to = model.place(to);
                let Some(reader) = &mut self.reader else { return self };
                reader.seek(partition.topic_partition(), to);
            }
            Op::SeekToTimestamp { topic, partition, of } => {
                self.seek_to_timestamp((topic, partition), of);
            }
            Op::SeekToEdge { end } => self.seek_to_edge(end),
            Op::Commit => self.commit(),
            Op::Leave => self.reader = None,
            Op::ResetGroup { group: of, topic, partition, to } => {
                self.reset_group(group(of), (topic, partition), to);
            }
            Op::DeleteGroup { group: of } => self.delete_group(group(of)),
            Op::ReadAlong => {
                let reader = builder(&self.fs, &self.clock).open_read_only();
                self.compare(&reader.expect("there is a directory"));
            }
            Op::Compare => self.compare_all(),
            Op::Reopen { close } => return self.reopen(close),
        }
        self
    }

    /// The chosen partition, if its topic is there.
    fn partition(&mut self, topic: bool, number: u8) -> Option<(Partition, &mut ModelPartition)> {
        let model = self.topics.get_mut(name(topic))?;
        let number = usize::from(number & 0x7f) % model.partitions.len();
        let topic = self.broker.topic(name(topic)).expect("it is there");
        let partition = topic.partition(u32::try_from(number).expect("it is small"));
        Some((partition.expect("it is there"), &mut model.partitions[number]))
    }

    fn stored(&mut self, len: u8) -> Stored {
        self.number += 1;
        Stored::new(self.number, len, self.clock.now())
    }

    fn create(&mut self, name: &'static str, settings: Settings) {
        let model = ModelTopic::new(settings);
        let created = self.broker.create_topic(name, model.config.clone());
        if self.topics.contains_key(name) {
            assert!(matches!(created, Err(Error::TopicExists { .. })), "{created:?}");
        } else {
            created.expect("the name is free");
            self.topics.insert(name, model);
        }
    }

    fn delete(&mut self, name: &'static str) {
        // What a reader makes of it is told elsewhere.
        self.reader = None;
        let deleted = self.broker.delete_topic(name);
        if self.topics.remove(name).is_none() {
            assert!(matches!(deleted, Err(Error::UnknownTopic { .. })), "{deleted:?}");
            return;
        }
        deleted.expect("it was there");
        self.committed.retain(|(_, of), _| of.topic() != name);
    }

    fn alter(&mut self, name: &'static str, settings: Settings) {
        let Some(model) = self.topics.get_mut(name) else { return };
        model.alter(settings);
        self.broker.alter_topic(name, model.config.clone()).expect("it is there");
    }

    fn add_partition(&mut self, name: &'static str) {
        let Some(model) = self.topics.get_mut(name) else { return };
        if model.partitions.len() < PARTITIONS_MAX {
            model.add_partition();
            let count = u32::try_from(model.partitions.len()).expect("there are few");
            self.broker.add_partitions(name, count).expect("it is there");
        }
    }

    fn append(&mut self, at: (bool, u8), (count, len): (u8, u8), age: Option<u8>) {
        let mut batch: Vec<_> = (0..count).map(|_| self.stored(len)).collect();
        if let Some(age) = age {
            // Some are in the future, and no two batches need be in order.
            let base = self.clock.now().saturating_add(Duration::from_secs(60 * 40));
            let timestamp = base.saturating_sub(Duration::from_secs(60 * u64::from(age)));
            for stored in &mut batch {
                stored.timestamp = timestamp;
            }
        }
        let Some((partition, model)) = self.partition(at.0, at.1) else { return };
        let records: Vec<_> =
            batch.iter().map(|stored| stored.record().timestamp(stored.timestamp)).collect();
        match partition.append(&records) {
            Ok(first) => {
                assert_eq!(first.offset, model.end());
                model.records.extend(batch);
            }
            Err(Error::InvalidRecord { .. }) => assert_eq!(count, 0),
            Err(Error::RecordTooLarge { .. }) => assert!(usize::from(len) * batch.len() > 500),
            Err(Error::TopicFull { .. }) => {
                assert!(partition.topic().config().max_bytes.is_some());
            }
            Err(error) => panic!("{error}"),
        }
        self.follow_dropping(name(at.0));
    }

    fn send(&mut self, name: &'static str, (count, len): (u8, u8), key: u8) {
        let mut batch: Vec<_> = (0..count).map(|_| self.stored(len)).collect();
        for (stored, number) in batch.iter_mut().zip(0..) {
            stored.key = Some(vec![(key % 5 + number) % 5; 3]);
        }
        let Some(model) = self.topics.get_mut(name) else { return };
        let topic = self.broker.topic(name).expect("it is there");
        let producer = self.broker.producer().linger(Duration::from_secs(1)).build();
        let producer = producer.expect("the settings are right");
        let send = |stored: &Stored| producer.send(&topic, stored.record()).expect("there is room");
        let deliveries: Vec<_> = batch.iter().map(send).collect();
        let flushed = producer.flush();
        let mut failed = false;
        let mut partition_of = BTreeMap::new();
        for (stored, delivery) in batch.into_iter().zip(deliveries) {
            match delivery.wait() {
                Ok(at) => {
                    let number = at.topic_partition.partition();
                    let of_key = *partition_of.entry(stored.key.clone()).or_insert(number);
                    assert_eq!(of_key, number, "a key has one partition");
                    let number = usize::try_from(number).expect("it is small");
                    let partition = &mut model.partitions[number];
                    assert_eq!((at.offset, at.timestamp), (partition.end(), stored.timestamp));
                    partition.records.push(stored);
                }
                Err(Error::SendFailed { source, .. }) => {
                    assert!(matches!(*source, Error::TopicFull { .. }), "{source}");
                    assert!(model.config.max_bytes.is_some());
                    failed = true;
                }
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!(flushed.is_err(), failed, "{flushed:?}");
        self.follow_dropping(name);
    }

    /// A full topic may have given up its oldest segments.
    fn follow_dropping(&mut self, name: &'static str) {
        let Some(model) = self.topics.get_mut(name) else { return };
        let topic = self.broker.topic(name).expect("it is there");
        let config = topic.config();
        if config.max_bytes.is_some() {
            for (partition, model) in topic.partitions().iter().zip(&mut model.partitions) {
                model.follow_log_start(partition);
            }
        }
    }

    fn delete_records(&mut self, (topic, partition): (bool, u8), before: u8) {
        let Some((partition, model)) = self.partition(topic, partition) else { return };
        let before = model.place(before);
        match partition.delete_records(before) {
            Ok(log_start) => {
                assert!(before <= model.end());
                model.log_start = model.log_start.max(before);
                assert_eq!(log_start, model.log_start);
            }
            Err(Error::OffsetOutOfRange { .. }) => assert!(before > model.end()),
            Err(error) => panic!("{error}"),
        }
    }

    fn pass(&mut self, time: Duration) {
        let time = time + Duration::from_millis(1);
        self.clock.advance(time);
        self.age_time = self.age_time.saturating_add(time);
        self.broker.run_maintenance().expect("memory does not fail");
        for (name, model) in &mut self.topics {
            let topic = self.broker.topic(name).expect("it is there");
            for (partition, of) in topic.partitions().iter().zip(&mut model.partitions) {
                of.check_retention(partition, &model.config, self.age_time);
                of.follow_log_start(partition);
            }
        }
    }

    fn jump(&mut self, days: i8) {
        let (now, by) = (self.clock.now(), DAY * u32::from(days.unsigned_abs()));
        let then = if days < 0 { now.saturating_sub(by) } else { now.saturating_add(by) };
        self.clock.jump_to(then);
    }

    /// Lets go of every handle, closed or not, and opens the directory.
    fn reopen(self, close: bool) -> Self {
        let Self { fs, clock, broker, reader, .. } = self;
        if close {
            broker.close().expect("memory does not fail");
        }
        drop((broker, reader));
        let broker = builder(&fs, &clock).open().expect("nothing is damaged");
        assert_eq!(broker.recovery_report().clean_shutdown, close);
        assert_eq!(broker.recovery_report().cut().count(), 0, "nothing was torn");
        let age_time = clock.now();
        let world = Self { fs, clock, broker, reader: None, age_time, ..self };
        world.compare_all();
        world
    }

    /// What can be compared at no cost: after each operation.
    pub(super) fn compare_offsets(&self) {
        for (name, model) in &self.topics {
            let topic = self.broker.topic(name).expect("it is there");
            assert_eq!(topic.partitions().len(), model.partitions.len(), "{name}");
            for (partition, model) in topic.partitions().iter().zip(&model.partitions) {
                let of = partition.topic_partition();
                assert_eq!(partition.log_start_offset(), model.log_start, "{of}");
                assert_eq!(partition.log_end_offset(), model.end(), "{of}");
                assert_eq!(partition.high_watermark(), model.end(), "{of}");
                assert!(partition.recovery_point() <= model.end(), "{of}");
            }
        }
    }

    pub(super) fn compare_all(&self) {
        self.compare_offsets();
        self.compare(&self.broker);
        assert!(self.broker.verify().expect("it is open").is_intact());
    }

    /// A broker has everything that must be there.
    fn compare(&self, broker: &Broker) {
        let topics = broker.topics().expect("it is open");
        let names: Vec<_> = topics.iter().map(|topic| topic.name().to_owned()).collect();
        assert_eq!(names, self.topics.keys().copied().collect::<Vec<_>>());
        for topic in &topics {
            let model = &self.topics[topic.name()];
            assert_eq!(topic.config(), model.config, "{}", topic.name());
            for (partition, model) in topic.partitions().iter().zip(&model.partitions) {
                compare_partition(broker, partition, model);
            }
        }
        for group in GROUPS {
            let described = broker.describe_group(group).expect("it is open");
            let found: BTreeMap<_, _> = described
                .into_iter()
                .flat_map(|group| group.offsets)
                .map(|offset| ((group, offset.topic_partition), offset.committed.offset))
                .collect();
            let of_group = self.committed.iter().filter(|((of, _), _)| *of == group);
            let expected: BTreeMap<_, _> = of_group.map(|(of, at)| (of.clone(), *at)).collect();
            assert_eq!(found, expected, "{group}");
        }
    }
}

fn compare_partition(broker: &Broker, partition: &Partition, model: &ModelPartition) {
    let of = partition.topic_partition();
    let mut consumer = broker.consumer().assign([of.clone()]).expect("it is there");
    let mut expected = model.readable();
    loop {
        let records = consumer.poll(Duration::ZERO).expect("nothing is damaged");
        if records.is_empty() {
            break;
        }
        for record in &records {
            let (offset, stored) = expected.next().expect("there is no more");
            assert_eq!(record.offset(), offset, "{of}");
            stored.check(&record.to_owned());
        }
    }
    let missing = expected.next();
    assert!(missing.is_none(), "{of}: {missing:?} is missing");
}
