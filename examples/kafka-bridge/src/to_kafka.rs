//! From Sapwood to Kafka. The destination holds the progress: the offsets that are mirrored are committed
//! in Kafka under the name of the bridge's group, for Kafka's partitions of the same name. So the bridge
//! writes nothing to the directory, which another process has open, and in a transaction the records and
//! the progress count together or not at all.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::util::Timeout;
use rdkafka::{Offset, TopicPartitionList};
use sapwood::{
    AutoOffsetReset, Broker, Consumer, ConsumerRecord, ConsumerRecords, Partition, TopicPartition,
};

use crate::client::{self, CALL_TIMEOUT, Context, persist};
use crate::failure::{Failure, Result};
use crate::progress::Progress;
use crate::{Interrupt, Mirror};

/// How long to wait for records before it is looked at other things.
const POLL_TIMEOUT: Duration = Duration::from_millis(100);
/// How often progress is committed while there is more to do.
const COMMIT_INTERVAL: Duration = Duration::from_secs(1);
/// How often it is committed again when nothing has come. Kafka forgets commits that are old, after a week by
/// default, and the bridge would begin anew.
const RENEW_INTERVAL: Duration = Duration::from_secs(60 * 60);
/// How many records one transaction holds at most.
const TRANSACTION_RECORDS_MAX: u64 = 10_000;

/// Everything is sent at least once, in order. The client's sequence numbers keep its own repetitions out.
pub fn at_least_once(mirror: &Mirror, interrupt: &Interrupt) -> Result<()> {
    let producer = producer(mirror, |config| config)?;
    let mut bridge = Bridge::start(mirror, interrupt, producer)?;
    // Where it begins, before anything is sent.
    bridge.commit()?;
    let mut committed_at = Instant::now();
    loop {
        let records = bridge.consumer.poll(POLL_TIMEOUT)?;
        bridge.send(&records)?;
        let is_idle = records.is_empty();
        if is_idle || committed_at.elapsed() >= COMMIT_INTERVAL || interrupt.is_set() {
            bridge.commit()?;
            committed_at = Instant::now();
        }
        if interrupt.is_set() || (is_idle && bridge.is_done()?) {
            return bridge.finish();
        }
    }
}

/// Everything is sent in transactions that commit the progress with it.
pub fn exactly_once(mirror: &Mirror, interrupt: &Interrupt) -> Result<()> {
    let id = format!("sapwood-{}", mirror.group);
    let producer = producer(mirror, |config| {
        config
            .set("transactional.id", &id)
            // A broker may be away for that long. Consumers with read_committed wait as long for a bridge that
            // was killed and is not started again.
            .set("transaction.timeout.ms", "300000")
            .set("message.timeout.ms", "300000")
    })?;
    // Ends what a bridge has left open that was killed, and keeps out one that still runs.
    persist(interrupt, || producer.init_transactions(CALL_TIMEOUT))?;
    let mut bridge = Bridge::start(mirror, interrupt, producer)?;
    // The first transaction has no records, and says where it begins.
    let mut records = ConsumerRecords::default();
    loop {
        if !records.is_empty() || bridge.is_renewal_due() {
            match bridge.transact(records) {
                Err(Failure::Kafka(error)) if requires_abort(&error) => {
                    bridge.start_over(&error)?;
                }
                done => done?,
            }
        } else if bridge.is_done()? {
            return bridge.finish();
        }
        if interrupt.is_set() {
            return bridge.finish();
        }
        records = bridge.consumer.poll(POLL_TIMEOUT)?;
    }
}

fn requires_abort(error: &KafkaError) -> bool {
    match error {
        KafkaError::Transaction(error) => error.txn_requires_abort(),
        // The client takes no more records for a transaction that has failed.
        error => error.rdkafka_error_code() == Some(RDKafkaErrorCode::State),
    }
}

/// Whether the same record will be refused again.
fn is_for_good(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::InvalidMessage
                | RDKafkaErrorCode::InvalidMessageSize
                | RDKafkaErrorCode::InvalidRecord
                | RDKafkaErrorCode::InvalidTimestamp
                | RDKafkaErrorCode::MessageBatchTooLarge
                | RDKafkaErrorCode::MessageSizeTooLarge
                | RDKafkaErrorCode::PolicyViolation
                | RDKafkaErrorCode::TopicAuthorizationFailed
                | RDKafkaErrorCode::UnknownTopicOrPartition
        )
    )
}

fn producer(
    mirror: &Mirror,
    set: impl FnOnce(&mut rdkafka::ClientConfig) -> &mut rdkafka::ClientConfig,
) -> Result<BaseProducer<Context>> {
    let mut config = client::config(mirror);
    config
        .set("enable.idempotence", "true")
        .set("linger.ms", "5")
        // Nothing is given up because a broker is away, and no more than this waits for it.
        .set("message.timeout.ms", "0")
        .set("queue.buffering.max.messages", "100000")
        .set("queue.buffering.max.kbytes", "65536")
        .set("message.max.bytes", "100000000");
    Ok(set(&mut config).create_with_context(Context::default())?)
}

struct Bridge<'a> {
    interrupt: &'a Interrupt,
    /// Follows the directory.
    consumer: Consumer,
    partitions: Vec<Partition>,
    /// Where to end, if there is an end.
    ends: Option<BTreeMap<TopicPartition, u64>>,
    producer: BaseProducer<Context>,
    /// Knows the group in Kafka and commits for it; reads nothing.
    offsets: BaseConsumer<Context>,
    /// What is committed.
    committed: BTreeMap<TopicPartition, u64>,
    /// When this bridge has last done so.
    committed_at: Option<Instant>,
    sent: u64,
    progress: Progress,
}

impl<'a> Bridge<'a> {
    fn start(
        mirror: &Mirror,
        interrupt: &'a Interrupt,
        producer: BaseProducer<Context>,
    ) -> Result<Self> {
        let broker = Broker::open_read_only(&mirror.dir)?;
        let mut partitions = Vec::new();
        for name in &mirror.topics {
            let topic = broker.topic(name)?;
            let found = client::partition_count(producer.client(), name, interrupt)?;
            let needed = topic.partition_count();
            if found < needed as usize {
                return Err(Failure::Partitions { topic: name.clone(), needed, found });
            }
            partitions.extend(topic.partitions());
        }
        let offsets = client::config(mirror)
            .set("group.id", &mirror.group)
            // What an open transaction is about to commit is waited for.
            .set("isolation.level", "read_committed")
            .create_with_context(Context::default())?;
        let addresses = partitions.iter().map(|of| of.topic_partition().clone());
        let end = |of: &Partition| (of.topic_partition().clone(), of.high_watermark());
        let mut bridge = Self {
            interrupt,
            consumer: broker
                .consumer()
                .max_poll_records(1_000)
                // What retention has deleted before it was mirrored is not passed over in silence.
                .auto_offset_reset(AutoOffsetReset::Error)
                .assign(addresses)?,
            ends: mirror.until_end.then(|| partitions.iter().map(end).collect()),
            partitions,
            producer,
            offsets,
            committed: BTreeMap::new(),
            committed_at: None,
            sent: 0,
            progress: Progress::new(),
        };
        bridge.seek_to_committed()?;
        Ok(bridge)
    }

    /// Goes to where Kafka says that the bridge was.
    fn seek_to_committed(&mut self) -> Result<()> {
        let mut asked = TopicPartitionList::new();
        for of in self.partitions.iter().map(Partition::topic_partition) {
            asked.add_partition(of.topic(), number(of));
        }
        let found = persist(self.interrupt, || {
            let found = self.offsets.committed_offsets(asked.clone(), CALL_TIMEOUT)?;
            // A partition of which nothing can be said now must not look like one without progress.
            found.elements().iter().try_for_each(TopicPartitionListElem::error)?;
            Ok(found)
        })?;
        for partition in &self.partitions {
            let of = partition.topic_partition();
            let offset =
                match found.find_partition(of.topic(), number(of)).map(|found| found.offset()) {
                    Some(Offset::Offset(offset)) => offset.unsigned_abs(),
                    _ => self.begin(partition)?,
                };
            let (known, end) = (offset, partition.high_watermark());
            if known > end {
                let (topic, partition) = (of.topic().to_owned(), of.partition());
                return Err(Failure::AnotherLog { topic, partition, known, found: end });
            }
            self.consumer.seek(of, offset)?;
            self.committed.insert(of.clone(), offset);
        }
        Ok(())
    }

    /// Where a partition begins that has no progress. Progress is committed before the first record is sent:
    /// where there are records without it, it has been lost, and they would be sent once more.
    fn begin(&self, partition: &Partition) -> Result<u64> {
        let of = partition.topic_partition();
        let (start, end) = persist(self.interrupt, || {
            self.offsets.fetch_watermarks(of.topic(), number(of), CALL_TIMEOUT)
        })?;
        if start < end {
            let (topic, partition) = (of.topic().to_owned(), of.partition());
            return Err(Failure::NoProgress { topic, partition });
        }
        Ok(partition.log_start_offset())
    }

    /// Hands records to the client, which sends them in the background; waits where it has its hands full.
    fn send(&mut self, records: &ConsumerRecords) -> Result<()> {
        for record in records {
            let headers = headers(&record);
            let mut message = message(&record, headers);
            while let Err((error, refused)) = self.producer.send(message) {
                if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
                    return Err(error.into());
                }
                self.interrupt.check()?;
                self.producer.poll(POLL_TIMEOUT);
                message = refused;
            }
            self.sent += 1;
        }
        self.producer.poll(Duration::ZERO);
        Ok(())
    }

    /// Once everything is with Kafka that was sent, notes down how far that is.
    fn commit(&mut self) -> Result<()> {
        persist(self.interrupt, || self.producer.flush(CALL_TIMEOUT))?;
        if let Some(error) = self.producer.context().take_failed_delivery() {
            return Err(error.into());
        }
        let positions = self.positions()?;
        if positions != self.committed || self.is_renewal_due() {
            let list = offsets(&positions)?;
            persist(self.interrupt, || self.offsets.commit(&list, CommitMode::Sync))?;
            self.committed_at = Some(Instant::now());
        }
        self.note_committed(positions)
    }

    /// Sends records, and as many more as are there, in a transaction of their own.
    fn transact(&mut self, mut records: ConsumerRecords) -> Result<()> {
        self.producer.begin_transaction()?;
        let before = self.sent;
        while !records.is_empty() {
            self.send(&records)?;
            if self.sent - before >= TRANSACTION_RECORDS_MAX {
                break;
            }
            records = self.consumer.poll(Duration::ZERO)?;
        }
        let positions = self.positions()?;
        let list = offsets(&positions)?;
        let group = self.offsets.group_metadata().ok_or(KafkaError::Canceled)?;
        persist(self.interrupt, || {
            self.producer.send_offsets_to_transaction(&list, &group, CALL_TIMEOUT)
        })?;
        persist(self.interrupt, || self.producer.commit_transaction(CALL_TIMEOUT))?;
        self.committed_at = Some(Instant::now());
        self.note_committed(positions)
    }

    /// After a transaction that cannot be committed: gives it up and goes back to what was committed.
    fn start_over(&mut self, error: &KafkaError) -> Result<()> {
        eprintln!("a transaction is done again: {error}");
        persist(self.interrupt, || self.producer.abort_transaction(CALL_TIMEOUT))?;
        // It failed with what was in it; or because of that.
        if let Some(error) = self.producer.context().take_failed_delivery().filter(is_for_good) {
            return Err(error.into());
        }
        self.sent = 0;
        self.seek_to_committed()
    }

    fn positions(&self) -> Result<BTreeMap<TopicPartition, u64>> {
        let position = |of: &Partition| {
            let of = of.topic_partition();
            Ok((of.clone(), self.consumer.position(of)?))
        };
        self.partitions.iter().map(position).collect()
    }

    fn is_renewal_due(&self) -> bool {
        self.committed_at.is_none_or(|at| at.elapsed() >= RENEW_INTERVAL)
    }

    fn note_committed(&mut self, positions: BTreeMap<TopicPartition, u64>) -> Result<()> {
        self.committed = positions;
        let sent = std::mem::take(&mut self.sent);
        self.progress.advance(sent, self.consumer.total_lag()?);
        Ok(())
    }

    fn is_done(&self) -> Result<bool> {
        let Some(ends) = &self.ends else { return Ok(false) };
        let positions = self.positions()?;
        Ok(ends.iter().all(|(of, end)| positions.get(of).is_some_and(|position| position >= end)))
    }

    fn finish(self) -> Result<()> {
        self.progress.finish(self.consumer.total_lag()?);
        // Nothing is in flight any more: whoever comes here has committed.
        self.producer.flush(Timeout::After(CALL_TIMEOUT))?;
        self.interrupt.check()
    }
}

/// All of them, not only those that have moved: so the others do not grow old.
fn offsets(positions: &BTreeMap<TopicPartition, u64>) -> Result<TopicPartitionList> {
    let mut list = TopicPartitionList::new();
    for (of, position) in positions {
        let offset = Offset::Offset(position.cast_signed());
        list.add_partition_offset(of.topic(), number(of), offset)?;
    }
    Ok(list)
}

fn number(of: &TopicPartition) -> i32 {
    of.partition().cast_signed()
}

fn headers(record: &ConsumerRecord<'_>) -> Option<OwnedHeaders> {
    let headers = record.headers();
    if headers.len() == 0 {
        return None;
    }
    let add = |all: OwnedHeaders, header: sapwood::Header<'_>| {
        all.insert(Header { key: header.name(), value: header.value() })
    };
    Some(headers.fold(OwnedHeaders::new(), add))
}

fn message<'a>(
    record: &ConsumerRecord<'a>,
    headers: Option<OwnedHeaders>,
) -> BaseRecord<'a, [u8], [u8]> {
    let mut message = BaseRecord::to(record.topic()).partition(record.partition().cast_signed());
    // For the client 0 means none, and so does a record without one: then it takes the time of day.
    message.timestamp = Some(record.timestamp().as_millis()).filter(|millis| *millis > 0);
    message.key = record.key();
    message.payload = record.value();
    message.headers = headers;
    message
}
