//! A broker and what it must hold, moved in step.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use sapwood::{
    Broker, Clock, Compression, Consumer, Durability, Error, ManualClock, OwnedRecord, Partition,
    Producer, ReadMode, Timestamp, Topic, TopicConfig, TopicPartition,
};
use tempfile::TempDir;

use super::expected::{Expected, ExpectedPartition, ExpectedTopic};
use super::{Op, Retention, Settings};

const NAMES: [&str; 2] = ["orders", "payments"];
const GROUPS: [&str; 2] = ["audit", "billing"];
const PARTITIONS_MAX: usize = 3;
const MESSAGE_BYTES_MAX: u32 = 1024;
const SEGMENT_BYTES_MAX: u64 = 4096;
const T0: Timestamp = Timestamp::from_millis(1_700_000_000_000);

type Committed = BTreeMap<(&'static str, TopicPartition), u64>;

pub(super) struct World {
    broker: Broker,
    producer: Producer,
    clock: Arc<ManualClock>,
    topics: BTreeMap<&'static str, ExpectedTopic>,
    committed: Committed,
    /// How many records there have been.
    number: u64,
    /// Records of a deleted topic were lingering: the next flush may say so.
    flush_may_fail: bool,
    directory: TempDir,
}

fn open(directory: &TempDir, clock: &Arc<ManualClock>) -> (Broker, Producer) {
    // By a number that changes, so that neither is left out.
    let mode = if clock.now().as_millis() % 2 == 0 { ReadMode::Mapped } else { ReadMode::Copied };
    let broker = Broker::builder(directory.path())
        .clock(clock.clone())
        .background_thread(false)
        .retention_check_interval(Duration::from_millis(1))
        .read_mode(mode)
        .open()
        .unwrap();
    let producer = broker.producer().linger(Duration::from_secs(2)).build().unwrap();
    (broker, producer)
}

fn config(settings: Settings, partitions: usize) -> TopicConfig {
    let compression = [Compression::None, Compression::Lz4, Compression::Zstd { level: 1 }]
        [usize::from(settings.compression)];
    let durability = if settings.written {
        Durability::Written { flush_interval: Duration::from_secs(1) }
    } else {
        Durability::Fsync
    };
    let config = TopicConfig::default()
        .partitions(u32::try_from(partitions).unwrap())
        .segment_bytes(settings.segment_bytes)
        .max_message_bytes(MESSAGE_BYTES_MAX)
        .index_interval_bytes(256)
        .compression(compression)
        .durability(durability)
        .retention_ms(None);
    match settings.retention {
        Retention::Unlimited => config,
        Retention::Minutes(n) => config.retention_ms(Duration::from_secs(60 * u64::from(n))),
        Retention::Kilobytes(n) => config.retention_bytes(u64::from(n) << 10),
    }
}

/// Everything a consumer gets from the log start on.
fn read_all(broker: &Broker, of: &TopicPartition) -> Vec<OwnedRecord> {
    let mut consumer = broker.consumer().assign([of.clone()]).unwrap();
    let mut all = Vec::new();
    loop {
        let records = consumer.poll(Duration::ZERO).unwrap();
        if records.is_empty() {
            return all;
        }
        all.extend(records.iter().map(|record| record.to_owned()));
    }
}

impl World {
    pub(super) fn new(directory: TempDir) -> Self {
        let clock = Arc::new(ManualClock::new(T0));
        let (broker, producer) = open(&directory, &clock);
        Self {
            broker,
            producer,
            clock,
            topics: BTreeMap::new(),
            committed: BTreeMap::new(),
            number: 0,
            flush_may_fail: false,
            directory,
        }
    }

    pub(super) fn apply(&mut self, op: &Op) {
        match op {
            Op::Append { topic, partition, sizes, age } => {
                self.append(*topic, *partition, sizes, *age);
            }
            Op::Send { topic, keys, size } => self.send(*topic, keys, *size),
            Op::SendAndGo { topic, partition, sizes } => {
                self.send_and_go(*topic, *partition, sizes)
            }
            Op::Flush => self.flush(),
            Op::Consume { topic, group, polls, max_records, commit } => {
                self.consume(*topic, *group, (*polls, *max_records), *commit);
            }
            Op::Seek { topic, partition, to } => self.seek(*topic, *partition, *to),
            Op::SeekToTimestamp { topic, partition, of } => {
                self.seek_to_timestamp(*topic, *partition, *of);
            }
            Op::DeleteRecords { topic, partition, before } => {
                self.delete_records(*topic, *partition, *before);
            }
            Op::AddPartition { topic } => self.add_partition(*topic),
            Op::CreateTopic { topic, settings } => self.create_topic(*topic, *settings),
            Op::DeleteTopic { topic } => self.delete_topic(*topic),
            Op::Alter { topic, settings } => self.alter(*topic, *settings),
            Op::Pass { seconds } => self.pass(Duration::from_secs((*seconds).into())),
            Op::ReadAlong => self.read_along(),
            Op::Check => self.check(),
            Op::CloseAndReopen => self.close_and_reopen(),
            Op::KillAndReopen => self.kill_and_reopen(),
        }
    }

    /// The chosen topic if there is one, settled.
    fn topic(&mut self, topic: usize) -> Option<(Topic, &mut ExpectedTopic)> {
        let expected = self.topics.get_mut(NAMES[topic])?;
        let topic = self.broker.topic(NAMES[topic]).unwrap();
        for (partition, expected) in topic.partitions().iter().zip(&mut expected.partitions) {
            expected.settle(partition.log_end_offset());
        }
        Some((topic, expected))
    }

    fn partition(
        &mut self,
        topic: usize,
        partition: usize,
    ) -> Option<(Partition, &mut ExpectedPartition)> {
        let (topic, expected) = self.topic(topic)?;
        let number = partition % expected.partitions.len();
        let partition = topic.partition(u32::try_from(number).unwrap()).unwrap();
        Some((partition, &mut expected.partitions[number]))
    }

    fn record(&mut self, size: usize) -> Expected {
        self.number += 1;
        Expected::new(self.number, size, self.clock.now())
    }

    fn append(&mut self, topic: usize, partition: usize, sizes: &[usize], age: Option<u16>) {
        let mut records: Vec<_> = sizes.iter().map(|size| self.record(*size)).collect();
        if let Some(age) = age {
            for record in &mut records {
                // Some are in the future; no two batches need be in order.
                let at = record.timestamp.start() + 100_000 - i64::from(age) * 1_000;
                (record.timestamp, record.timestamp_is_set) = (at..=at, true);
            }
        }
        let Some((partition, expected)) = self.partition(topic, partition) else { return };
        let batch: Vec<_> = records.iter().map(Expected::record).collect();
        match partition.append(&batch) {
            Ok(first) => {
                assert_eq!(first.offset, expected.end());
                for (offset, record) in (first.offset..).zip(records) {
                    expected.acknowledge(offset, record);
                }
            }
            Err(Error::RecordTooLarge { .. }) => {
                assert!(sizes.iter().sum::<usize>() > 700, "{sizes:?}");
                assert_eq!(partition.log_end_offset(), expected.end());
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn send(&mut self, topic: usize, keys: &[u8], size: usize) {
        let mut records: Vec<_> = keys.iter().map(|_| self.record(size)).collect();
        for (record, key) in records.iter_mut().zip(keys) {
            record.key = Some(vec![*key; 3]);
        }
        let producer = self.producer.clone();
        let Some((topic, expected)) = self.topic(topic) else { return };
        let send = |record: &Expected| producer.send(&topic, record.record()).unwrap();
        let deliveries: Vec<_> = records.iter().map(send).collect();
        let mut partition_of_key = BTreeMap::new();
        for (mut record, delivery) in records.into_iter().zip(deliveries) {
            let at = delivery.wait().unwrap();
            let number = usize::try_from(at.topic_partition.partition()).unwrap();
            let same = partition_of_key.entry(record.key.clone()).or_insert(number);
            assert!(*same == number || expected.has_grown, "a key has one partition");
            // It may have joined a batch that was lingering.
            record.timestamp = T0.as_millis()..=*record.timestamp.end();
            expected.partitions[number].acknowledge(at.offset, record);
        }
    }

    fn send_and_go(&mut self, topic: usize, partition: usize, sizes: &[usize]) {
        for size in sizes {
            let mut record = self.record(*size);
            record.timestamp = T0.as_millis()..=*record.timestamp.end();
            let producer = self.producer.clone();
            let Some((partition, expected)) = self.partition(topic, partition) else { return };
            let chosen = record.record().partition(partition.topic_partition().partition());
            let delivery = producer.send(partition.topic(), chosen).unwrap();
            expected.linger(record, delivery);
        }
    }

    fn flush(&mut self) {
        self.answer_all(self.producer.flush());
    }

    /// Everything that was sent is answered, and a failure is told once.
    fn answer_all(&mut self, flushed: sapwood::Result<()>) {
        if let Err(error) = flushed {
            assert!(self.flush_may_fail, "{error}");
        }
        self.flush_may_fail = false;
        for expected in self.topics.values_mut().flat_map(|topic| &mut topic.partitions) {
            expected.answer_all();
        }
    }

    fn consume(
        &mut self,
        topic: usize,
        group: usize,
        (polls, max_records): (usize, usize),
        commit: bool,
    ) {
        let (name, group) = (NAMES[topic], GROUPS[group]);
        let committed = self.committed.clone();
        let broker = self.broker.clone();
        let Some((_, expected)) = self.topic(topic) else { return };
        let consumer = broker.consumer().group(group).auto_commit(None);
        let mut consumer = consumer.max_poll_records(max_records).subscribe([name]).unwrap();
        let mut positions = BTreeMap::new();
        for (number, partition) in (0..).zip(&expected.partitions) {
            let of = TopicPartition::new(name, number);
            let start = committed.get(&(group, of.clone())).copied();
            let start = start.unwrap_or(partition.log_start);
            assert_eq!(consumer.position(&of).unwrap(), start, "{of}");
            positions.insert(of, start);
        }
        for _ in 0..polls {
            let records = consumer.poll(Duration::ZERO).unwrap();
            assert!(records.len() <= max_records);
            for record in &records {
                let partition = &expected.partitions[usize::try_from(record.partition()).unwrap()];
                let position = positions.get_mut(record.topic_partition()).unwrap();
                // Where records were deleted before anybody read them, it goes on at the first.
                *position = (*position).max(partition.log_start);
                assert_eq!(record.offset(), *position, "{}", record.topic_partition());
                partition.at(record.offset()).assert_is(&record.to_owned());
                *position += 1;
            }
        }
        for (of, position) in &mut positions {
            let start = expected.partitions[usize::try_from(of.partition()).unwrap()].log_start;
            let found = consumer.position(of).unwrap();
            assert!(found == *position || (*position < start && found == start), "{of}: {found}");
            *position = found;
        }
        if commit {
            consumer.commit().unwrap();
            self.committed.extend(positions.into_iter().map(|(of, at)| ((group, of), at)));
        }
    }

    fn seek(&mut self, topic: usize, partition: usize, to: usize) {
        let broker = self.broker.clone();
        let Some((partition, expected)) = self.partition(topic, partition) else { return };
        let readable = partition.high_watermark() - expected.log_start;
        let to = expected.log_start + u64::try_from(to).unwrap() % (readable + 1);
        let mut consumer = consumer_of(&broker, &partition);
        consumer.seek(partition.topic_partition(), to).unwrap();
        let records = consumer.poll(Duration::ZERO).unwrap();
        let found = records.iter().next().map(|record| record.offset());
        assert_eq!(found, (readable + expected.log_start > to).then_some(to));
    }

    /// The time of some record leads to the first record that is as late.
    fn seek_to_timestamp(&mut self, topic: usize, partition: usize, of: usize) {
        let broker = self.broker.clone();
        let Some((partition, expected)) = self.partition(topic, partition) else { return };
        let end = partition.high_watermark();
        let readable = expected.between(expected.log_start, end);
        if readable.is_empty() || readable.iter().any(|r| r.timestamp.start() != r.timestamp.end())
        {
            return;
        }
        let of = *readable[of % readable.len()].timestamp.start();
        let late_enough = |record: &Expected| *record.timestamp.start() >= of;
        let first = readable.iter().position(late_enough).unwrap();
        let mut consumer = consumer_of(&broker, &partition);
        let address = partition.topic_partition();
        consumer.seek_to_timestamp(address, Timestamp::from_millis(of)).unwrap();
        let first = expected.log_start + u64::try_from(first).unwrap();
        assert_eq!(consumer.position(address).unwrap(), first);
    }

    fn delete_records(&mut self, topic: usize, partition: usize, before: usize) {
        let Some((partition, expected)) = self.partition(topic, partition) else { return };
        let end = partition.high_watermark();
        let before = u64::try_from(before).unwrap() % (end + 2);
        match partition.delete_records(before) {
            Ok(log_start) => {
                assert!(before <= end);
                expected.log_start = expected.log_start.max(before);
                assert_eq!(log_start, expected.log_start);
            }
            Err(Error::OffsetOutOfRange { .. }) => assert!(before > end),
            Err(error) => panic!("{error}"),
        }
        assert_eq!(partition.log_start_offset(), expected.log_start);
    }

    fn add_partition(&mut self, topic: usize) {
        let broker = self.broker.clone();
        let Some((topic, expected)) = self.topic(topic) else { return };
        if expected.partitions.len() < PARTITIONS_MAX {
            expected.partitions.push(ExpectedPartition::default());
            let total = u32::try_from(expected.partitions.len()).unwrap();
            broker.add_partitions(topic.name(), total).unwrap();
            expected.has_grown = true;
            expected.config = expected.config.clone().partitions(total);
        }
    }

    fn create_topic(&mut self, topic: usize, settings: Settings) {
        let config = config(settings, 1);
        let created = self.broker.create_topic(NAMES[topic], config.clone());
        if self.topics.contains_key(NAMES[topic]) {
            assert!(matches!(created, Err(Error::TopicExists { .. })));
        } else {
            created.unwrap();
            self.topics.insert(NAMES[topic], ExpectedTopic::new(config));
        }
    }

    fn delete_topic(&mut self, topic: usize) {
        let name = NAMES[topic];
        let deleted = self.broker.delete_topic(name);
        let Some(mut expected) = self.topics.remove(name) else {
            assert!(matches!(deleted, Err(Error::UnknownTopic { .. })));
            return;
        };
        deleted.unwrap();
        for partition in &mut expected.partitions {
            self.flush_may_fail |= partition.give_up_lingering();
        }
        self.committed.retain(|(_, of), _| of.topic() != name);
    }

    fn alter(&mut self, topic: usize, settings: Settings) {
        let broker = self.broker.clone();
        let Some((topic, expected)) = self.topic(topic) else { return };
        expected.config = config(settings, expected.partitions.len());
        broker.alter_topic(topic.name(), expected.config.clone()).unwrap();
    }

    fn pass(&mut self, time: Duration) {
        // By an odd number of milliseconds: see `open`.
        self.clock.advance(time + Duration::from_millis(1));
        self.broker.run_maintenance().unwrap();
        let now = self.clock.now();
        for topic in 0..NAMES.len() {
            let Some((topic, expected)) = self.topic(topic) else { continue };
            for (partition, of) in topic.partitions().iter().zip(&mut expected.partitions) {
                check_retention(partition, of, &expected.config, now);
                of.log_start = partition.log_start_offset();
            }
        }
    }

    fn read_along(&mut self) {
        let reader = Broker::open_read_only(self.directory.path()).unwrap();
        self.settle_all();
        self.compare(&reader);
    }

    fn settle_all(&mut self) {
        for topic in 0..NAMES.len() {
            self.topic(topic);
        }
    }

    pub(super) fn check(&mut self) {
        self.settle_all();
        self.compare(&self.broker);
        assert!(self.broker.verify().unwrap().is_intact());
    }

    /// A broker has everything that must be there.
    fn compare(&self, broker: &Broker) {
        let names: Vec<_> =
            broker.topics().unwrap().iter().map(|topic| topic.name().to_owned()).collect();
        assert_eq!(names, self.topics.keys().copied().collect::<Vec<_>>());
        for (name, expected) in &self.topics {
            let topic = broker.topic(name).unwrap();
            assert_eq!(topic.config(), expected.config, "{name}");
            assert_eq!(topic.partitions().len(), expected.partitions.len(), "{name}");
            for (partition, expected) in topic.partitions().iter().zip(&expected.partitions) {
                compare_partition(broker, partition, expected);
            }
        }
        for group in GROUPS {
            let described = broker.describe_group(group).unwrap();
            let offsets = described.map(|group| group.offsets).unwrap_or_default();
            let found: Committed = offsets
                .into_iter()
                .map(|offset| ((group, offset.topic_partition), offset.committed.offset))
                .collect();
            let of_group = self.committed.iter().filter(|((of, _), _)| *of == group);
            assert_eq!(found, of_group.map(|(of, at)| (of.clone(), *at)).collect(), "{group}");
        }
    }

    fn close_and_reopen(&mut self) {
        self.settle_all();
        self.answer_all(self.broker.close());
        (self.broker, self.producer) = self.open_again();
        assert!(self.broker.recovery_report().clean_shutdown);
        self.after_open();
    }

    fn kill_and_reopen(&mut self) {
        let of_topic = |topic: &mut ExpectedTopic| {
            topic.partitions.iter_mut().map(ExpectedPartition::kill).collect::<Vec<_>>()
        };
        let lingering: Vec<Vec<VecDeque<_>>> = self.topics.values_mut().map(of_topic).collect();
        (self.broker, self.producer) = self.open_again();
        assert!(!self.broker.recovery_report().clean_shutdown);
        for ((name, topic), lingering) in self.topics.iter_mut().zip(lingering) {
            let partitions = self.broker.topic(name).unwrap().partitions();
            for ((of, expected), lingering) in
                partitions.iter().zip(&mut topic.partitions).zip(lingering)
            {
                expected.recover(of.log_end_offset(), lingering);
            }
        }
        self.after_open();
    }

    /// Lets go of every handle, and opens the directory.
    fn open_again(&mut self) -> (Broker, Producer) {
        self.flush_may_fail = false;
        self.topics.values_mut().for_each(|topic| topic.has_grown = false);
        let aside = Broker::in_memory().unwrap();
        self.producer = aside.producer().build().unwrap();
        self.broker = aside;
        open(&self.directory, &self.clock)
    }

    fn after_open(&mut self) {
        assert_eq!(self.broker.recovery_report().cut().count(), 0);
        for topic in self.broker.topics().unwrap() {
            for partition in topic.partitions() {
                assert_eq!(partition.high_watermark(), partition.log_end_offset());
            }
        }
        self.check();
    }
}

fn consumer_of(broker: &Broker, partition: &Partition) -> Consumer {
    broker.consumer().assign([partition.topic_partition().clone()]).unwrap()
}

fn compare_partition(broker: &Broker, partition: &Partition, expected: &ExpectedPartition) {
    let of = partition.topic_partition();
    let end = partition.high_watermark();
    assert_eq!(partition.log_start_offset(), expected.log_start, "{of}");
    assert!(
        end >= expected.acknowledged,
        "{of}: {} answered, {end} visible",
        expected.acknowledged
    );
    assert!(
        end <= partition.log_end_offset() && partition.log_end_offset() <= expected.end(),
        "{of}"
    );
    let found = read_all(broker, of);
    let expected = expected.between(expected.log_start, end);
    let offsets: Vec<_> = found.iter().map(|record| record.offset).collect();
    assert_eq!(offsets, (partition.log_start_offset()..end).collect::<Vec<_>>(), "{of}");
    for (found, expected) in found.iter().zip(expected) {
        expected.assert_is(found);
    }
}

/// What retention has taken it had to take, and it has left nothing that had to go.
fn check_retention(
    partition: &Partition,
    expected: &ExpectedPartition,
    config: &TopicConfig,
    now: Timestamp,
) {
    let of = partition.topic_partition();
    let start = partition.log_start_offset();
    assert!(start >= expected.log_start && start <= expected.end(), "{of}: {start}");
    let gone = expected.between(expected.log_start, start);
    let number = |name| config.get(name).unwrap().parse::<i64>().unwrap();
    match (number("retention.ms"), number("retention.bytes")) {
        (-1, -1) => assert!(gone.is_empty(), "{of}: up to {start}"),
        (-1, limit) => {
            let (size, limit) = (partition.size(), u64::try_from(limit).unwrap());
            assert!(gone.is_empty() || size >= limit, "{of}: {size} bytes left of {limit}");
            assert!(size < limit + SEGMENT_BYTES_MAX, "{of}: {size} bytes left of {limit}");
        }
        (age, _) => {
            let oldest = now.as_millis() - age;
            assert!(gone.iter().all(|record| *record.timestamp.start() < oldest), "{of}: {start}");
            let is_old = |record: &Expected| *record.timestamp.end() < oldest;
            // Deleted records count as long as their segment is there.
            let all_are_old = expected.between(0, expected.end()).iter().all(is_old);
            assert!(start == expected.end() || !all_are_old, "{of}: {start}");
        }
    }
}
