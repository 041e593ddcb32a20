//! What a poll returns: records where they lie, in the mapped segment or in a decompression buffer.
//!
//! A poll hands over [`Run`]s: batches of one partition, end to end, whose checksums and records the
//! fetcher has checked. Iterating reads the records a second time, which costs less than writing
//! down where each of them is, and cannot fail.

use std::fmt;
use std::slice;
use std::sync::Arc;

use crate::record::batch::{RecordBatch, RecordRef, Records, RecordsProgress};
use crate::record::{Header, Headers, Record};
use crate::segment::records_file::Chunk;
use crate::time::Timestamp;
use crate::topic_partition::TopicPartition;

/// Batches of one partition, of which some records are handed out.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) topic_partition: TopicPartition,
    /// The batches end to end; more may follow than `records` reaches into.
    pub(crate) batches: Chunk,
    /// The uncompressed records of each compressed batch among them, in order.
    pub(crate) decompressed: Vec<Arc<Vec<u8>>>,
    /// Where in the first batch the first record is.
    pub(crate) start: RecordsProgress,
    /// How many records there are.
    pub(crate) records: usize,
    /// The consumer's position after them.
    pub(crate) next_offset: u64,
}

impl Run {
    pub(crate) fn iter(&self) -> RunIter<'_> {
        let mut iter = RunIter {
            topic_partition: &self.topic_partition,
            batches: &self.batches,
            decompressed: self.decompressed.iter(),
            records: None,
            left: self.records,
        };
        iter.records = iter.next_batch().map(|records| records.resume(self.start));
        iter
    }
}

/// Whether a batch holds records for consumers. What the log keeps for itself, and what compaction
/// has emptied, does not.
pub(crate) fn has_records(batch: &RecordBatch<'_>) -> bool {
    !batch.attributes().is_control() && batch.record_count() > 0
}

/// The records of a run.
#[derive(Debug, Clone)]
pub(crate) struct RunIter<'a> {
    topic_partition: &'a TopicPartition,
    /// The batches that are still to come.
    batches: &'a [u8],
    decompressed: slice::Iter<'a, Arc<Vec<u8>>>,
    /// Those of the present batch. `None` when there is no batch any more.
    records: Option<Records<'a>>,
    left: usize,
}

impl<'a> Iterator for RunIter<'a> {
    type Item = ConsumerRecord<'a>;

    #[inline]
    fn next(&mut self) -> Option<ConsumerRecord<'a>> {
        self.left = self.left.checked_sub(1)?;
        loop {
            if let Some(record) = self.records.as_mut()?.next_checked() {
                return Some(ConsumerRecord { topic_partition: self.topic_partition, record });
            }
            self.records = self.next_batch();
        }
    }
}

impl<'a> RunIter<'a> {
    #[cold]
    fn next_batch(&mut self) -> Option<Records<'a>> {
        while !self.batches.is_empty() {
            let batch = RecordBatch::parse(self.batches).expect("the fetcher has checked it");
            self.batches = self.batches.get(batch.size()..).unwrap_or_default();
            if !has_records(&batch) {
                continue;
            }
            if !batch.is_compressed() {
                return Some(batch.iter_payload(batch.payload()));
            }
            let payload = self.decompressed.next()?;
            return Some(batch.iter_payload(payload));
        }
        None
    }
}

/// The records that one [`poll`](crate::Consumer::poll) returned.
///
/// They stay valid as long as this value lives, whatever the consumer or retention does meanwhile;
/// it keeps the memory they lie in, which may be a mapped segment file. Records of one partition are
/// in the order of the log; partitions come one after the other.
///
/// ```
/// use std::time::Duration;
/// use sapwood::{Broker, Record, TopicConfig};
///
/// let broker = Broker::in_memory()?;
/// let orders = broker.create_topic("orders", TopicConfig::default())?;
/// orders.partition(0)?.append(&[Record::new("paid"), Record::new("shipped")])?;
///
/// let mut consumer = broker.consumer().subscribe(["orders"])?;
/// let records = consumer.poll(Duration::from_secs(1))?;
/// let values: Vec<_> = records.iter().filter_map(|record| record.value()).collect();
/// assert_eq!(values, [b"paid".as_slice(), b"shipped"]);
/// # Ok::<(), sapwood::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct ConsumerRecords {
    runs: Vec<Run>,
    len: usize,
}

impl ConsumerRecords {
    pub(crate) fn push(&mut self, run: Run) {
        self.len += run.records;
        self.runs.push(run);
    }

    /// How many records there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none: the poll has timed out or was woken up.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The records, partition after partition.
    pub fn iter(&self) -> ConsumerRecordsIter<'_> {
        ConsumerRecordsIter { runs: self.runs.iter(), run: None, partition: None, left: self.len }
    }

    /// The partitions that records are from, each once, in the order in which their records come.
    pub fn partitions(&self) -> impl Iterator<Item = &TopicPartition> {
        // Runs of one partition stand next to each other.
        self.runs
            .chunk_by(|a, b| a.topic_partition == b.topic_partition)
            .filter_map(|runs| runs.first().map(|run| &run.topic_partition))
    }

    /// The records of one partition; none if the poll has returned none of it.
    pub fn of_partition<'a>(&'a self, partition: &'a TopicPartition) -> ConsumerRecordsIter<'a> {
        let of_it = self.runs.iter().filter(|run| run.topic_partition == *partition);
        let left = of_it.map(|run| run.records).sum();
        ConsumerRecordsIter { runs: self.runs.iter(), run: None, partition: Some(partition), left }
    }

    /// For each partition the offset after its last record here: what to commit when all of them
    /// are done with, as [`Consumer::commit`](crate::Consumer::commit) does.
    pub fn next_offsets(&self) -> impl Iterator<Item = (&TopicPartition, u64)> {
        self.runs
            .chunk_by(|a, b| a.topic_partition == b.topic_partition)
            .filter_map(|runs| runs.last().map(|run| (&run.topic_partition, run.next_offset)))
    }
}

impl<'a> IntoIterator for &'a ConsumerRecords {
    type Item = ConsumerRecord<'a>;
    type IntoIter = ConsumerRecordsIter<'a>;

    fn into_iter(self) -> ConsumerRecordsIter<'a> {
        self.iter()
    }
}

/// Iterates over [`ConsumerRecords`].
#[derive(Debug, Clone)]
#[must_use = "iterators are lazy"]
pub struct ConsumerRecordsIter<'a> {
    runs: slice::Iter<'a, Run>,
    run: Option<RunIter<'a>>,
    /// Only those of this partition.
    partition: Option<&'a TopicPartition>,
    left: usize,
}

impl<'a> Iterator for ConsumerRecordsIter<'a> {
    type Item = ConsumerRecord<'a>;

    #[inline]
    fn next(&mut self) -> Option<ConsumerRecord<'a>> {
        loop {
            if let Some(record) = self.run.as_mut().and_then(RunIter::next) {
                self.left -= 1;
                return Some(record);
            }
            let partition = self.partition;
            let wanted = |run: &&Run| partition.is_none_or(|only| run.topic_partition == *only);
            self.run = Some(self.runs.find(wanted)?.iter());
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for ConsumerRecordsIter<'_> {}
impl std::iter::FusedIterator for ConsumerRecordsIter<'_> {}

/// A record as it lies in the log. Nothing of it was copied.
#[derive(Clone, PartialEq, Eq)]
pub struct ConsumerRecord<'a> {
    topic_partition: &'a TopicPartition,
    record: RecordRef<'a>,
}

impl<'a> ConsumerRecord<'a> {
    /// The topic it is from.
    pub fn topic(&self) -> &'a str {
        self.topic_partition.topic()
    }

    /// The number of the partition it is from.
    pub fn partition(&self) -> u32 {
        self.topic_partition.partition()
    }

    /// Topic and number of the partition it is from.
    pub fn topic_partition(&self) -> &'a TopicPartition {
        self.topic_partition
    }

    /// Its offset in the partition. Offsets grow from record to record; some may be missing.
    #[inline]
    pub fn offset(&self) -> u64 {
        self.record.offset()
    }

    /// When the sender says it was made, or when the log took it, as
    /// [`TopicConfig::message_timestamp_type`](crate::TopicConfig::message_timestamp_type) says.
    #[inline]
    pub fn timestamp(&self) -> Timestamp {
        self.record.timestamp()
    }

    /// The key, if it has one.
    #[inline]
    pub fn key(&self) -> Option<&'a [u8]> {
        self.record.key()
    }

    /// The value; `None` for a tombstone.
    #[inline]
    pub fn value(&self) -> Option<&'a [u8]> {
        self.record.value()
    }

    /// The headers in the order in which they were sent; names may repeat.
    pub fn headers(&self) -> Headers<'a> {
        self.record.headers()
    }

    /// A copy that borrows from nothing, to be kept or sent to another thread.
    pub fn to_owned(&self) -> OwnedRecord {
        let header =
            |header: Header<'_>| (header.name().to_owned(), header.value().map(<[u8]>::to_vec));
        OwnedRecord {
            topic_partition: self.topic_partition.clone(),
            offset: self.offset(),
            timestamp: self.timestamp(),
            key: self.key().map(<[u8]>::to_vec),
            value: self.value().map(<[u8]>::to_vec),
            headers: self.headers().map(header).collect(),
        }
    }
}

impl fmt::Debug for ConsumerRecord<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsumerRecord")
            .field("topic_partition", self.topic_partition)
            .field("offset", &self.offset())
            .field("timestamp", &self.timestamp())
            .field("key", &self.key())
            .field("value", &self.value())
            .field("headers", &self.headers().collect::<Vec<_>>())
            .finish()
    }
}

/// The same key, value and headers, to be sent once more: to another topic, or to the end of this one.
/// Partition and timestamp are left open, as in any new record.
///
/// ```
/// # use std::time::Duration;
/// # use sapwood::{Broker, Record, TopicConfig};
/// # let broker = Broker::in_memory()?;
/// # let orders = broker.create_topic("orders", TopicConfig::default())?;
/// # let failed = broker.create_topic("orders.failed", TopicConfig::default())?;
/// # orders.partition(0)?.append(&[Record::new("paid").key("alice").null_header("trace")])?;
/// # let producer = broker.producer().build()?;
/// let mut consumer = broker.consumer().subscribe(["orders"])?;
/// for record in &consumer.poll(Duration::from_secs(1))? {
///     producer.send(&failed, Record::from(&record).header("reason", "no such account"))?;
/// }
/// producer.flush()?;
/// # let mut consumer = broker.consumer().subscribe(["orders.failed"])?;
/// # let records = consumer.poll(Duration::ZERO)?;
/// # let again = records.iter().next().unwrap().to_owned();
/// # assert_eq!((again.key.as_deref(), again.value.as_deref()), (Some(&b"alice"[..]), Some(&b"paid"[..])));
/// # assert_eq!(again.headers[0], ("trace".to_owned(), None));
/// # assert_eq!(again.headers[1].0, "reason");
/// # assert_eq!(Record::from(&again).headers(), Record::from(&records.iter().next().unwrap()).headers());
/// # Ok::<(), sapwood::Error>(())
/// ```
impl<'a> From<&ConsumerRecord<'a>> for Record<'a> {
    fn from(record: &ConsumerRecord<'a>) -> Self {
        let headers = record.headers().map(|header| (header.name(), header.value()));
        Record::from_parts(record.key(), record.value(), headers)
    }
}

/// The same key, value and headers, to be sent once more. Partition and timestamp are left open, as in
/// any new record.
impl<'a> From<&'a OwnedRecord> for Record<'a> {
    fn from(record: &'a OwnedRecord) -> Self {
        let headers = record.headers.iter().map(|(name, value)| (name.as_str(), value.as_deref()));
        Record::from_parts(record.key.as_deref(), record.value.as_deref(), headers)
    }
}

/// A record that borrows from nothing. See [`ConsumerRecord::to_owned`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct OwnedRecord {
    /// Topic and number of the partition it is from.
    pub topic_partition: TopicPartition,
    /// Its offset there.
    pub offset: u64,
    /// The sender's time or the log's.
    pub timestamp: Timestamp,
    /// The key, if it has one.
    pub key: Option<Vec<u8>>,
    /// The value; `None` for a tombstone.
    pub value: Option<Vec<u8>>,
    /// Names and values of the headers, in order.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}
