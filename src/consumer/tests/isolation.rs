//! Goal: with `read_committed` a consumer returns what was committed or written outside of transactions, in
//! the order of the log, all of it and nothing else, and waits where it cannot know yet.
//!
//! Method: producers write batches and markers as a broker would have, by turns that a seed chooses; what
//! the consumer has to return is worked out from the turns.

use std::collections::BTreeMap;
use std::thread;

use super::*;
use crate::consumer::config::{AutoOffsetReset, IsolationLevel};

const PRODUCERS: u64 = 3;

fn append_transactional(partition: &Partition, producer: u64, values: &[String]) {
    let mut builder = BatchBuilder::new();
    builder.set_producer(producer.cast_signed(), 0, 0);
    builder.set_transactional(true);
    for value in values {
        builder.append(&Record::new(value), NOW).unwrap();
    }
    builder.seal(Compression::Lz4).unwrap();
    let mut bytes = builder.sealed().bytes().to_vec();
    append_bytes(partition, &mut bytes);
}

fn end(partition: &Partition, producer: u64, result: TransactionResult) {
    let marker = EndTransactionMarker {
        result,
        producer_id: producer.cast_signed(),
        producer_epoch: 0,
        coordinator_epoch: 0,
    };
    append_bytes(partition, &mut marker.batch(NOW).unwrap());
}

fn read_committed(broker: &Broker, max_poll_records: usize) -> Consumer {
    let consumer = broker.consumer().isolation_level(IsolationLevel::ReadCommitted);
    consumer.max_poll_records(max_poll_records).subscribe(["orders"]).unwrap()
}

fn orders() -> TopicPartition {
    TopicPartition::new("orders", 0)
}

/// Values and offsets of all that can be read now.
fn read_all(consumer: &mut Consumer) -> Vec<(u64, String)> {
    let mut found = Vec::new();
    loop {
        let records = consumer.poll(Duration::ZERO).unwrap();
        if records.is_empty() {
            return found;
        }
        let text = |value: Option<&[u8]>| String::from_utf8(value.unwrap().to_vec()).unwrap();
        found.extend(records.iter().map(|record| (record.offset(), text(record.value()))));
    }
}

/// A producer and the number of its transaction.
type Transaction = (u64, u32);

/// What a log holds, as the turns have it.
#[derive(Default)]
struct Model {
    /// Offset, value, and what transaction it is in.
    records: Vec<(u64, String, Option<Transaction>)>,
    /// Where the open transactions begin.
    open: BTreeMap<u64, u64>,
    transactions: u32,
    numbers: BTreeMap<u64, u32>,
    aborted: Vec<Transaction>,
    end: u64,
}

impl Model {
    fn turn(&mut self, partition: &Partition, random: &mut impl FnMut(u64) -> u64) {
        let producer = random(PRODUCERS);
        match random(8) {
            0 => {
                let values = self.values(random(3) + 1, None);
                let records: Vec<_> = values.iter().map(Record::new).collect();
                partition.append(&records).unwrap();
            }
            turn @ (1 | 2) => {
                let result =
                    if turn == 1 { TransactionResult::Abort } else { TransactionResult::Commit };
                end(partition, producer, result);
                self.end += 1;
                if self.open.remove(&producer).is_some() && turn == 1 {
                    self.aborted.push((producer, self.numbers[&producer]));
                }
            }
            _ => {
                if !self.open.contains_key(&producer) {
                    self.open.insert(producer, self.end);
                    self.transactions += 1;
                    self.numbers.insert(producer, self.transactions);
                }
                let transaction = Some((producer, self.numbers[&producer]));
                let values = self.values(random(5) + 1, transaction);
                append_transactional(partition, producer, &values);
            }
        }
    }

    fn values(&mut self, count: u64, transaction: Option<Transaction>) -> Vec<String> {
        let offsets = self.end..self.end + count;
        self.end += count;
        let value = |offset| (offset, format!("record {offset}"), transaction);
        self.records.extend(offsets.clone().map(value));
        offsets.map(|offset| format!("record {offset}")).collect()
    }

    fn last_stable_offset(&self) -> u64 {
        self.open.values().copied().min().unwrap_or(self.end)
    }

    fn committed(&self) -> Vec<(u64, String)> {
        let stable = self.last_stable_offset();
        let counts =
            |transaction: &Option<_>| transaction.is_none_or(|of| !self.aborted.contains(&of));
        let records = self.records.iter().filter(|(offset, _, of)| *offset < stable && counts(of));
        records.map(|(offset, value, _)| (*offset, value.clone())).collect()
    }
}

fn random_from(seed: u64) -> impl FnMut(u64) -> u64 {
    let mut state = seed;
    move |below| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    }
}

#[test]
fn read_committed_returns_what_was_committed_and_nothing_else() {
    for seed in 0..60 {
        println!("seed {seed}");
        let broker = Broker::in_memory().unwrap();
        let config = TopicConfig::default().segment_bytes(1_024).max_message_bytes(1_000);
        let log = broker.create_topic("orders", config).unwrap().partition(0).unwrap();
        let (mut model, mut random) = (Model::default(), random_from(seed));
        let mut following = read_committed(&broker, 500);
        let mut followed = Vec::new();
        for _ in 0..120 {
            model.turn(&log, &mut random);
            if random(4) == 0 {
                followed.extend(read_all(&mut following));
                assert_eq!(followed, model.committed());
                assert_eq!(log.last_stable_offset().unwrap(), model.last_stable_offset());
                assert_eq!(following.lag(&orders()).unwrap(), 0);
                assert_eq!(following.position(&orders()).unwrap(), model.last_stable_offset());
            }
        }
        for max_poll_records in [1, 3, 500] {
            let found = read_all(&mut read_committed(&broker, max_poll_records));
            assert_eq!(found, model.committed());
        }
        let offset = random(model.end);
        let mut sought = read_committed(&broker, 7);
        sought.seek(&orders(), offset).unwrap();
        let mut expected = model.committed();
        expected.retain(|(at, _)| *at >= offset);
        assert_eq!(read_all(&mut sought), expected, "from offset {offset}");
        let mut uncommitted = broker.consumer().subscribe(["orders"]).unwrap();
        let all = model.records.iter().map(|(offset, value, _)| (*offset, value.clone()));
        assert!(
            read_all(&mut uncommitted).into_iter().eq(all),
            "everything, without the isolation"
        );
    }
}

#[test]
fn a_log_start_that_has_moved_into_a_transaction_leaves_the_rest_of_it_aborted() {
    let broker = Broker::in_memory().unwrap();
    let log = partition(&broker);
    append_transactional(&log, 1, &["gone".to_owned()]);
    append_transactional(&log, 1, &["aborted".to_owned()]);
    end(&log, 1, TransactionResult::Abort);
    log.append(&[Record::new("plain")]).unwrap();
    log.delete_records(1).unwrap();
    assert_eq!(read_all(&mut read_committed(&broker, 9)), [(3, "plain".to_owned())]);
    append_transactional(&log, 2, &["open".to_owned()]);
    append_transactional(&log, 2, &["open too".to_owned()]);
    assert_eq!(log.last_stable_offset().unwrap(), 4);
    log.delete_records(5).unwrap();
    assert_eq!(log.last_stable_offset().unwrap(), 5, "it is still open");
    end(&log, 2, TransactionResult::Commit);
    assert_eq!(read_all(&mut read_committed(&broker, 9)), [(5, "open too".to_owned())]);
}

#[test]
fn whoever_waits_for_a_transaction_is_woken_by_its_end() {
    let broker = Broker::in_memory().unwrap();
    let log = partition(&broker);
    append_transactional(&log, 1, &["one".to_owned()]);
    let mut consumer = read_committed(&broker, 9);
    assert!(consumer.poll(Duration::from_millis(5)).unwrap().is_empty());
    let waiting = thread::spawn(move || consumer.poll(Duration::MAX).unwrap().len());
    log.append(&[Record::new("behind it")]).unwrap();
    end(&log, 1, TransactionResult::Commit);
    assert!(waiting.join().unwrap() > 0);
}

#[test]
fn latest_and_the_end_are_before_an_open_transaction() {
    let broker = Broker::in_memory().unwrap();
    let log = partition(&broker);
    log.append(&[Record::new("old")]).unwrap();
    append_transactional(&log, 1, &["open".to_owned()]);
    let latest = broker.consumer().isolation_level(IsolationLevel::ReadCommitted);
    let latest = latest.auto_offset_reset(AutoOffsetReset::Latest);
    let mut latest = latest.subscribe(["orders"]).unwrap();
    let mut sought = read_committed(&broker, 9);
    sought.seek_to_end().unwrap();
    end(&log, 1, TransactionResult::Commit);
    for consumer in [&mut latest, &mut sought] {
        assert_eq!(read_all(consumer), [(1, "open".to_owned())]);
    }
}

#[test]
#[allow(clippy::disallowed_methods, reason = "it damages the file behind the crate's back")]
fn a_damaged_batch_of_a_transaction_is_told_before_anything_is_guessed() {
    let directory = tempfile::tempdir().unwrap();
    let broker = Broker::open(directory.path()).unwrap();
    let config = TopicConfig::default().segment_bytes(1_024).max_message_bytes(1_000);
    let log = broker.create_topic("orders", config).unwrap().partition(0).unwrap();
    append_transactional(&log, 1, &["aborted".to_owned()]);
    end(&log, 1, TransactionResult::Abort);
    // An open looks through the last segment alone.
    log.append(&[Record::new(&[0; 900])]).unwrap();
    broker.close().unwrap();
    let path = directory.path().join("orders-0/00000000000000000000.log");
    let mut bytes = std::fs::read(&path).unwrap();
    // The last byte of the first batch's producer id.
    bytes[50] ^= 4;
    std::fs::write(&path, bytes).unwrap();
    let broker = Broker::open(directory.path()).unwrap();
    let error = read_committed(&broker, 9).poll(Duration::ZERO).unwrap_err();
    assert!(matches!(&error, Error::Corrupt(damage) if damage.path == path), "{error}");
    let log = broker.topic("orders").unwrap().partition(0).unwrap();
    assert!(matches!(log.last_stable_offset(), Err(Error::Corrupt(_))));
}
