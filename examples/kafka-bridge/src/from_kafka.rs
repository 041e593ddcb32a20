//! From Kafka to Sapwood. The destination holds the progress here too: with each commit of the bridge's
//! group stands how far it is in Kafka, and the commit's offset is where the partition ended then. What a
//! bridge that was killed has appended after its last commit is found again therefore, and passed over in
//! Kafka: each record is stored once.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};
use sapwood::{
    Broker, Consumer, Error, OffsetAndMetadata, Partition, Record, Timestamp, TopicConfig,
    TopicPartition,
};

use crate::client::{self, CALL_TIMEOUT, Context, persist};
use crate::failure::{Failure, Result};
use crate::progress::Progress;
use crate::{Interrupt, Mirror};

const POLL_TIMEOUT: Duration = Duration::from_millis(100);
/// How often progress is committed.
const COMMIT_INTERVAL: Duration = Duration::from_secs(1);
/// How much is appended at once.
const BATCH_RECORDS: usize = 1_000;
const BATCH_BYTES: usize = 512 << 10;
/// How long to wait for the end of a partition, which is only to be shown.
const LOOK_TIMEOUT: Duration = Duration::from_millis(500);

pub fn run(mirror: &Mirror, interrupt: &Interrupt) -> Result<()> {
    let kafka: BaseConsumer<Context> = client::config(mirror)
        // Only the broker's own bookkeeping asks for it: progress is in the directory.
        .set("group.id", &mirror.group)
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .set("auto.offset.reset", "error")
        .set("enable.partition.eof", "false")
        .set("queued.max.messages.kbytes", "65536")
        .create_with_context(Context::default())?;
    let mut bridge = Bridge::start(mirror, interrupt, kafka)?;
    let mut committed_at = Instant::now();
    loop {
        let is_idle = bridge.take_some()? == 0;
        if committed_at.elapsed() >= COMMIT_INTERVAL || interrupt.is_set() {
            bridge.commit()?;
            committed_at = Instant::now();
        }
        if interrupt.is_set() || (is_idle && bridge.is_done()?) {
            return bridge.finish();
        }
    }
}

/// One partition that is mirrored.
struct Mirrored {
    partition: Partition,
    /// The offset in Kafka that comes next.
    next: i64,
    /// Of the records from there on that are stored already, what tells one from another.
    stored: VecDeque<u64>,
    /// Where to end, if there is an end.
    end: Option<i64>,
    /// Where Kafka's partition ended when it was last looked.
    known_end: i64,
}

struct Bridge<'a> {
    interrupt: &'a Interrupt,
    broker: Broker,
    /// Commits for the group.
    progress_of: Consumer,
    kafka: BaseConsumer<Context>,
    mirrored: BTreeMap<TopicPartition, Mirrored>,
    /// What was committed last.
    committed: Vec<(TopicPartition, OffsetAndMetadata)>,
    appended: u64,
    progress: Progress,
}

impl<'a> Bridge<'a> {
    fn start(
        mirror: &Mirror,
        interrupt: &'a Interrupt,
        kafka: BaseConsumer<Context>,
    ) -> Result<Self> {
        let broker = Broker::open(&mirror.dir)?;
        let mut partitions = Vec::new();
        for name in &mirror.topics {
            let count = client::partition_count(kafka.client(), name, interrupt)?;
            let needed = u32::try_from(count).unwrap_or(u32::MAX);
            let topic = match broker.topic(name) {
                Err(Error::UnknownTopic { .. }) => {
                    // Kafka has them still: their age must not delete them here.
                    let config = TopicConfig::default().partitions(needed).retention_ms(None);
                    broker.create_topic(name, config)?
                }
                found => found?,
            };
            if topic.partition_count() < needed {
                broker.add_partitions(name, needed)?;
            }
            // There may be more here than Kafka has.
            partitions.extend(topic.partitions().into_iter().take(count));
        }
        let addresses = partitions.iter().map(|of| of.topic_partition().clone());
        let consumer = broker.consumer().group(&mirror.group).auto_commit(None);
        let progress_of = consumer.assign(addresses)?;
        let mut bridge = Self {
            interrupt,
            broker,
            progress_of,
            kafka,
            mirrored: BTreeMap::new(),
            committed: Vec::new(),
            appended: 0,
            progress: Progress::new(),
        };
        for partition in partitions {
            let of = partition.topic_partition().clone();
            let mirrored = bridge.resume(partition, mirror.until_end)?;
            bridge.mirrored.insert(of, mirrored);
        }
        let mut assignment = TopicPartitionList::new();
        for (of, at) in &bridge.mirrored {
            let number = of.partition().cast_signed();
            assignment.add_partition_offset(of.topic(), number, Offset::Offset(at.next))?;
        }
        bridge.kafka.assign(&assignment)?;
        Ok(bridge)
    }

    /// Where a partition goes on.
    fn resume(&self, partition: Partition, until_end: bool) -> Result<Mirrored> {
        let of = partition.topic_partition();
        let (topic, number) = (of.topic().to_owned(), of.partition());
        let (start, end) = persist(self.interrupt, || {
            self.kafka.fetch_watermarks(of.topic(), number.cast_signed(), CALL_TIMEOUT)
        })?;
        let (known, next) = match self.progress_of.committed(of)? {
            None => (partition.log_start_offset(), start),
            Some(OffsetAndMetadata { offset, metadata, .. }) => match metadata.parse() {
                Ok(next) => (offset, next),
                Err(_) => return Err(Failure::Progress { topic, partition: number, metadata }),
            },
        };
        if next < start {
            return Err(Failure::Gone { topic, partition: number, offset: next });
        }
        let stored = self.marks_from(&partition, known)?;
        Ok(Mirrored { partition, next, stored, end: until_end.then_some(end), known_end: end })
    }

    /// What tells the records apart that stand in a partition from an offset on.
    fn marks_from(&self, partition: &Partition, offset: u64) -> Result<VecDeque<u64>> {
        let of = partition.topic_partition();
        let mut consumer = self.broker.consumer().assign([of.clone()])?;
        consumer.seek(of, offset)?;
        let mut marks = VecDeque::new();
        while consumer.position(of)? < partition.high_watermark() {
            for stored in &consumer.poll(POLL_TIMEOUT)? {
                marks.push_back(mark(&Record::from(&stored)));
            }
        }
        Ok(marks)
    }

    /// Appends what has come; returns how much that was.
    fn take_some(&mut self) -> Result<usize> {
        let mut messages: Vec<BorrowedMessage<'_>> = Vec::new();
        let (mut bytes, mut timeout) = (0, POLL_TIMEOUT);
        while messages.len() < BATCH_RECORDS && bytes < BATCH_BYTES {
            match self.kafka.poll(timeout) {
                None => break,
                Some(Ok(message)) => {
                    bytes += message.payload_len() + message.key_len();
                    messages.push(message);
                }
                Some(Err(error)) => match error.rdkafka_error_code() {
                    Some(
                        RDKafkaErrorCode::AutoOffsetReset
                        | RDKafkaErrorCode::OffsetOutOfRange
                        | RDKafkaErrorCode::TopicAuthorizationFailed
                        | RDKafkaErrorCode::UnknownTopicOrPartition,
                    ) => {
                        return Err(error.into());
                    }
                    // The client goes on by itself.
                    _ => break,
                },
            }
            timeout = Duration::ZERO;
        }
        let taken = messages.len();
        // The sort keeps the order within a partition.
        messages.sort_by(|a, b| (a.topic(), a.partition()).cmp(&(b.topic(), b.partition())));
        for run in
            messages.chunk_by(|a, b| (a.topic(), a.partition()) == (b.topic(), b.partition()))
        {
            let (topic, number) = (run[0].topic(), run[0].partition().cast_unsigned());
            let of = TopicPartition::new(topic, number);
            let Some(mirrored) = self.mirrored.get_mut(&of) else { continue };
            let records: Vec<_> = run.iter().map(record).collect();
            let fresh = mirrored.pass_over_stored(&records)?;
            if !fresh.is_empty() {
                append(&mirrored.partition, fresh)?;
                self.appended += fresh.len() as u64;
            }
            mirrored.next = run[run.len() - 1].offset() + 1;
        }
        Ok(taken)
    }

    /// Durable, as what it is about.
    fn commit(&mut self) -> Result<()> {
        let progress = |(of, at): (&TopicPartition, &Mirrored)| {
            let end = at.partition.log_end_offset() - at.stored.len() as u64;
            (of.clone(), OffsetAndMetadata::new(end).metadata(at.next.to_string()))
        };
        let offsets: Vec<_> = self.mirrored.iter().map(progress).collect();
        // A topic that nobody writes to must not have the log of commits grow.
        if offsets != self.committed {
            self.progress_of.commit_offsets(offsets.clone())?;
            self.committed = offsets;
        }
        self.look_at_ends();
        let appended = std::mem::take(&mut self.appended);
        self.progress.advance(appended, self.lag());
        Ok(())
    }

    /// Offsets that Kafka has and the bridge has not come to, as far as the client knows.
    fn lag(&self) -> u64 {
        let lag = |at: &Mirrored| (at.known_end - at.next).max(0).unsigned_abs();
        self.mirrored.values().map(lag).sum()
    }

    /// Asks where partitions end now. While brokers are away that is what it was.
    fn look_at_ends(&mut self) {
        for (of, at) in &mut self.mirrored {
            let number = of.partition().cast_signed();
            match self.kafka.fetch_watermarks(of.topic(), number, LOOK_TIMEOUT) {
                Ok((_, end)) => at.known_end = end,
                Err(_) => return,
            }
        }
    }

    /// Behind the last record there may be markers of transactions, which are not returned but passed over.
    fn is_done(&mut self) -> Result<bool> {
        let positions = self.kafka.position()?;
        for (of, at) in &mut self.mirrored {
            let found = positions.find_partition(of.topic(), of.partition().cast_signed());
            if let Some(Offset::Offset(offset)) = found.map(|found| found.offset()) {
                at.next = at.next.max(offset);
            }
        }
        let is_done = |at: &Mirrored| at.end.is_some_and(|end| at.next >= end);
        let done = self.mirrored.values().all(is_done);
        match self.mirrored.values().find(|at| done && !at.stored.is_empty()) {
            Some(unknown) => Err(unknown.another_writer()),
            None => Ok(done),
        }
    }

    fn finish(mut self) -> Result<()> {
        self.commit()?;
        self.progress.finish(self.lag());
        drop(self.mirrored);
        drop(self.progress_of);
        self.broker.close()?;
        self.interrupt.check()
    }
}

impl Mirrored {
    /// The part of a run that is not in the directory yet. What is passed over must be what is there: else
    /// something else has written to the partition, or Kafka has compacted its own since.
    fn pass_over_stored<'r, 'm>(&mut self, run: &'r [Record<'m>]) -> Result<&'r [Record<'m>]> {
        let stored = self.stored.len().min(run.len());
        let (passed, fresh) = run.split_at(stored);
        if !passed.iter().map(mark).eq(self.stored.drain(..stored)) {
            return Err(self.another_writer());
        }
        Ok(fresh)
    }

    fn another_writer(&self) -> Failure {
        let of = self.partition.topic_partition();
        Failure::AnotherWriter { topic: of.topic().to_owned(), partition: of.partition() }
    }
}

/// Without the timestamp, which a topic may replace.
fn mark(record: &Record<'_>) -> u64 {
    let mut hasher = DefaultHasher::new();
    (record.key_bytes(), record.value(), record.headers()).hash(&mut hasher);
    hasher.finish()
}

/// In as few batches as the topic allows, which has a largest size for them.
fn append(partition: &Partition, records: &[Record<'_>]) -> Result<()> {
    match partition.append(records) {
        Err(Error::RecordTooLarge { .. }) if records.len() > 1 => {
            let (first, rest) = records.split_at(records.len() / 2);
            append(partition, first)?;
            append(partition, rest)
        }
        appended => Ok(appended.map(drop)?),
    }
}

fn record<'a>(message: &'a BorrowedMessage<'_>) -> Record<'a> {
    let mut record = match (message.payload(), message.key()) {
        (Some(value), Some(key)) => Record::new(value).key(key),
        (Some(value), None) => Record::new(value),
        (None, Some(key)) => Record::tombstone(key),
        (None, None) => Record::without_value(),
    };
    if let Some(millis) = message.timestamp().to_millis() {
        record = record.timestamp(Timestamp::from_millis(millis));
    }
    for header in message.headers().into_iter().flat_map(|headers| headers.iter()) {
        record = match header.value {
            Some(value) => record.header(header.key, value),
            None => record.null_header(header.key),
        };
    }
    record
}
