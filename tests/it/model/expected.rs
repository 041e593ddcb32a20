//! What must be there: plain vectors.

use std::collections::VecDeque;
use std::ops::RangeInclusive;

use sapwood::{Delivery, OwnedRecord, Record, Timestamp, TopicConfig};

/// A record as it was handed over.
#[derive(Debug, Clone)]
pub(super) struct Expected {
    pub(super) key: Option<Vec<u8>>,
    pub(super) value: Vec<u8>,
    /// What it was given, or when its batch may have been begun.
    pub(super) timestamp: RangeInclusive<i64>,
    /// Whether the timestamp was set by the sender.
    pub(super) timestamp_is_set: bool,
}

impl Expected {
    /// A record with a value of this size that says which one it is.
    pub(super) fn new(number: u64, size: usize, now: Timestamp) -> Self {
        let mut value = format!("{number}|").into_bytes();
        value.resize(value.len() + size, b'a' + u8::try_from(number % 26).unwrap());
        let now = now.as_millis();
        Self { key: None, value, timestamp: now..=now, timestamp_is_set: false }
    }

    pub(super) fn record(&self) -> Record<'_> {
        let mut record = Record::new(&self.value).header("length", &self.value[..1]);
        if let Some(key) = &self.key {
            record = record.key(key);
        }
        if self.timestamp_is_set {
            record = record.timestamp(Timestamp::from_millis(*self.timestamp.start()));
        }
        record
    }

    pub(super) fn assert_is(&self, found: &OwnedRecord) {
        let at = format!("{} @ {}", found.topic_partition, found.offset);
        assert_eq!(found.key, self.key, "{at}");
        assert_eq!(found.value.as_deref(), Some(&self.value[..]), "{at}");
        assert_eq!(found.headers, [("length".to_owned(), Some(self.value[..1].to_vec()))], "{at}");
        let timestamp = found.timestamp.as_millis();
        assert!(self.timestamp.contains(&timestamp), "{at}: {timestamp}, {:?}", self.timestamp);
    }
}

/// A partition as it must be. The index of a record is its offset.
#[derive(Debug, Default)]
pub(super) struct ExpectedPartition {
    pub(super) log_start: u64,
    /// Everything that was ever appended, what has been deleted since included.
    pub(super) records: Vec<Expected>,
    /// Everything before it was answered, and must be visible.
    pub(super) acknowledged: u64,
    /// Sent, and not known to be in the log.
    lingering: VecDeque<(Expected, Delivery)>,
    /// In the log, and not asked after yet.
    unanswered: Vec<(u64, Delivery)>,
}

impl ExpectedPartition {
    pub(super) fn end(&self) -> u64 {
        u64::try_from(self.records.len()).unwrap()
    }

    pub(super) fn at(&self, offset: u64) -> &Expected {
        &self.records[usize::try_from(offset).unwrap()]
    }

    pub(super) fn between(&self, from: u64, to: u64) -> &[Expected] {
        &self.records[usize::try_from(from).unwrap()..usize::try_from(to).unwrap()]
    }

    pub(super) fn linger(&mut self, record: Expected, delivery: Delivery) {
        self.lingering.push_back((record, delivery));
    }

    /// The log was seen to end here: what was lingering has been written, in order.
    pub(super) fn settle(&mut self, log_end: u64) {
        assert!(log_end >= self.end(), "the log ends at {log_end}, expected {}", self.end());
        while self.end() < log_end {
            let (record, delivery) = self.lingering.pop_front().expect("nobody sent such a record");
            self.unanswered.push((self.end(), delivery));
            self.records.push(record);
        }
    }

    /// Adds a record that was answered with this offset.
    pub(super) fn acknowledge(&mut self, offset: u64, record: Expected) {
        self.settle(offset);
        self.records.push(record);
        self.acknowledged = self.end();
    }

    /// Every send has to be answered now, each with the offset after the one before it.
    pub(super) fn answer_all(&mut self) {
        self.settle(self.end() + u64::try_from(self.lingering.len()).unwrap());
        for (offset, delivery) in self.unanswered.drain(..) {
            let answer = delivery.wait().unwrap();
            assert_eq!(answer.offset, offset, "{}", answer.topic_partition);
        }
        self.acknowledged = self.end();
    }

    /// Lets go of what is not answered; returns whether there was any.
    pub(super) fn give_up_lingering(&mut self) -> bool {
        !std::mem::take(&mut self.lingering).is_empty()
    }

    /// The process is gone: what was sent may be in the log as far as it was written.
    pub(super) fn kill(&mut self) -> VecDeque<Expected> {
        self.unanswered.clear();
        self.lingering.drain(..).map(|(record, _)| record).collect()
    }

    /// After a kill: a beginning of what was lingering may have been written.
    pub(super) fn recover(&mut self, log_end: u64, mut lingering: VecDeque<Expected>) {
        assert!(log_end >= self.end(), "{} were there, {log_end} are left", self.end());
        while self.end() < log_end {
            self.records.push(lingering.pop_front().expect("nobody sent such a record"));
        }
        self.acknowledged = log_end;
    }
}

#[derive(Debug)]
pub(super) struct ExpectedTopic {
    pub(super) config: TopicConfig,
    pub(super) partitions: Vec<ExpectedPartition>,
    /// Partitions were added under the producer, which learns of them with its next batch: until
    /// then keys may go where they went before.
    pub(super) has_grown: bool,
}

impl ExpectedTopic {
    pub(super) fn new(config: TopicConfig) -> Self {
        Self { config, partitions: vec![ExpectedPartition::default()], has_grown: false }
    }
}
