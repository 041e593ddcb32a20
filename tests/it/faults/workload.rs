//! What a program does with a broker on a simulated disk, one operation at a time, keeping a journal
//! of what it was promised.

use std::sync::Arc;
use std::time::Duration;

use sapwood::{
    Broker, BrokerBuilder, Clock, Durability, Error, ManualClock, Record, Result, SimulatedDisk,
    Timestamp, TopicConfig, TopicPartition,
};

use super::journal::{Journal, Promises};

/// A topic whose sends are answered once they are synced.
pub(super) const SYNCED: &str = "synced";
/// A topic whose sends are answered once the operating system has them.
pub(super) const WRITTEN: &str = "written";
/// A topic that comes and goes, with two partitions.
pub(super) const EXTRA: &str = "extra";
pub(super) const GROUP: &str = "group";

/// One operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Op {
    AppendSynced,
    AppendWritten,
    /// Three records through a producer, and a flush.
    Send,
    Flush,
    /// A record that does not fit the active segment any more.
    Roll,
    Commit,
    DeleteRecords,
    /// Creates the extra topic with a record in it, or deletes it.
    CreateOrDelete,
    /// A second goes by, and with it checkpoints and retention.
    Maintain,
    Close,
    /// Drops the broker as if the process had been killed, and opens it again.
    Kill,
}

pub(super) const OPS: [Op; 11] = [
    Op::AppendSynced,
    Op::AppendWritten,
    Op::Send,
    Op::Flush,
    Op::Roll,
    Op::Commit,
    Op::DeleteRecords,
    Op::CreateOrDelete,
    Op::Maintain,
    Op::Close,
    Op::Kill,
];

/// The time at which everything happens.
pub(super) fn clock() -> ManualClock {
    ManualClock::new(Timestamp::from_millis(1_700_000_000_000))
}

/// A value that can be told from every other one.
pub(super) fn payload(topic: &str, number: u64, len: usize) -> Vec<u8> {
    let mut value = format!("{topic}|{number}|").into_bytes();
    value.resize(len.max(value.len()), b'.');
    value
}

/// How a world is set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Setup {
    /// Tails are written through windows, where they are short.
    pub(super) mapped_tails: bool,
    /// The files of a log are closed as soon as another one is appended to.
    pub(super) one_open_log: bool,
}

impl Setup {
    pub(super) const ALL: [Self; 4] = [
        Self { mapped_tails: true, one_open_log: false },
        Self { mapped_tails: false, one_open_log: true },
        Self { mapped_tails: true, one_open_log: true },
        Self { mapped_tails: false, one_open_log: false },
    ];

    /// Each in turn.
    pub(super) fn number(number: u64) -> Self {
        Self::ALL[usize::try_from(number % 4).unwrap()]
    }
}

/// A program and its broker.
pub(super) struct World {
    pub(super) disk: SimulatedDisk,
    pub(super) journal: Journal,
    setup: Setup,
    clock: Arc<ManualClock>,
    /// `None` if it could not be opened again.
    broker: Option<Broker>,
    /// Counts records, so that no two are alike.
    sent: u64,
}

impl World {
    /// A broker with two empty topics.
    pub(super) fn new(setup: Setup) -> Self {
        let disk = SimulatedDisk::new();
        disk.set_mapped_tails(setup.mapped_tails);
        let partitions = [(SYNCED, Promises::default()), (WRITTEN, Promises::default())];
        let journal = Journal { partitions: partitions.into(), ..Journal::default() };
        let clock = Arc::new(clock());
        let mut world = Self { disk, journal, setup, clock, broker: None, sent: 0 };
        world.open().expect("an empty disk opens");
        let settings = TopicConfig::default()
            .segment_bytes(1_024)
            .max_message_bytes(1_024)
            .index_interval_bytes(150)
            .retention_bytes(3_100);
        let flush_interval = Duration::from_secs(1);
        let broker = world.broker().expect("it was just opened");
        broker.create_topic(SYNCED, settings.clone()).expect("it is new");
        let written = settings.durability(Durability::Written { flush_interval });
        broker.create_topic(WRITTEN, written).expect("it is new");
        world
    }

    pub(super) fn broker(&self) -> Result<&Broker> {
        self.broker.as_ref().ok_or(Error::Closed { what: "the broker" })
    }

    fn open(&mut self) -> Result<()> {
        let clock: Arc<dyn Clock> = Arc::clone(&self.clock) as _;
        let builder = BrokerBuilder::simulated(&self.disk).clock(clock).background_thread(false);
        let mut builder = builder.retention_check_interval(Duration::from_secs(1));
        if self.setup.one_open_log {
            builder = builder.max_open_files(2);
        }
        let opened = builder.open()?;
        self.broker = Some(opened);
        Ok(())
    }

    /// Opens the broker again if an earlier attempt has failed.
    pub(super) fn reopen_if_needed(&mut self) -> Result<()> {
        if self.broker.is_none() { self.open() } else { Ok(()) }
    }

    /// The number of changes the disk has seen.
    fn now(&self) -> u64 {
        self.disk.calls()
    }

    /// # Errors
    ///
    /// What the broker says; then nothing was promised.
    pub(super) fn apply(&mut self, op: Op) -> Result<()> {
        match op {
            Op::AppendSynced => self.append(SYNCED, 200),
            // Long ones and short ones are written in different ways.
            Op::AppendWritten if self.sent.is_multiple_of(2) => self.append(WRITTEN, 450),
            Op::AppendWritten => self.append(WRITTEN, 200),
            Op::Send => self.send(),
            Op::Flush => self.flush(),
            Op::Roll => self.append(SYNCED, 800),
            Op::Commit => self.commit(),
            Op::DeleteRecords => self.delete_records(),
            Op::CreateOrDelete => self.create_or_delete(),
            Op::Maintain => self.maintain(),
            Op::Close => {
                let closed = self.broker()?.close();
                self.broker = None;
                // Closing syncs what is there; an open carries it over otherwise.
                self.open()?;
                closed?;
                self.promise_synced(WRITTEN)
            }
            Op::Kill => {
                self.broker = None;
                self.open()
            }
        }
    }

    fn promises(&mut self, topic: &'static str) -> &mut Promises {
        self.journal.partitions.get_mut(topic).expect("all topics are in the journal")
    }

    fn end(&self, topic: &str) -> Result<u64> {
        Ok(self.broker()?.topic(topic)?.partition(0)?.log_end_offset())
    }

    /// Everything in a topic is synced.
    fn promise_synced(&mut self, topic: &'static str) -> Result<()> {
        let (now, end) = (self.now(), self.end(topic)?);
        self.promises(topic).synced.note(now, end);
        Ok(())
    }

    fn append(&mut self, topic: &'static str, len: usize) -> Result<()> {
        let log = self.broker()?.topic(topic)?.partition(0)?;
        let offset = log.log_end_offset();
        self.sent += 1;
        let value = payload(topic, self.sent, len);
        let now = self.now();
        self.promises(topic).send(now, offset, value.clone());
        let at = log.append(&[Record::new(&value)])?;
        assert_eq!(at.offset, offset, "appends go to the end");
        self.acknowledge(topic, [value], offset);
        Ok(())
    }

    fn acknowledge(
        &mut self,
        topic: &'static str,
        values: impl IntoIterator<Item = Vec<u8>>,
        first: u64,
    ) {
        let now = self.now();
        let promises = self.promises(topic);
        let mut end = first;
        for value in values {
            promises.acknowledge(end, value);
            end += 1;
        }
        promises.written.note(now, end);
        if topic == SYNCED {
            promises.synced.note(now, end);
        }
    }

    fn send(&mut self) -> Result<()> {
        let first = self.end(SYNCED)?;
        let now = self.now();
        let numbers = self.sent + 1..self.sent + 4;
        self.sent += 3;
        let values: Vec<_> = numbers.map(|number| payload(SYNCED, number, 40)).collect();
        for (offset, value) in (first..).zip(&values) {
            self.promises(SYNCED).send(now, offset, value.clone());
        }
        let broker = self.broker()?;
        let (topic, producer) = (broker.topic(SYNCED)?, broker.producer().build()?);
        for value in &values {
            producer.send(&topic, Record::new(value))?;
        }
        producer.flush()?;
        self.acknowledge(SYNCED, values, first);
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        self.broker()?.topic(WRITTEN)?.partition(0)?.flush()?;
        self.promise_synced(WRITTEN)
    }

    fn commit(&mut self) -> Result<()> {
        let address = TopicPartition::new(SYNCED, 0);
        let log = self.broker()?.topic(SYNCED)?.partition(0)?;
        let offset = log.high_watermark();
        let mut consumer = self.broker()?.consumer().group(GROUP).assign([address.clone()])?;
        consumer.seek(&address, offset)?;
        let now = self.now();
        self.journal.commits.ask(now, offset);
        consumer.commit()?;
        let now = self.now();
        self.journal.commits.promise(now);
        Ok(())
    }

    fn delete_records(&mut self) -> Result<()> {
        let log = self.broker()?.topic(SYNCED)?.partition(0)?;
        let (start, end) = (log.log_start_offset(), log.high_watermark());
        let before = end - (end - start) / 3;
        let now = self.now();
        self.promises(SYNCED).start_asked.note(now, before);
        log.delete_records(before)?;
        let now = self.now();
        self.promises(SYNCED).start.note(now, before);
        Ok(())
    }

    fn create_or_delete(&mut self) -> Result<()> {
        let now = self.now();
        let is_there = match self.broker()?.topic(EXTRA) {
            Ok(_) => true,
            Err(Error::UnknownTopic { .. }) => false,
            Err(error) => return Err(error),
        };
        if is_there {
            self.journal.extra.ask(now, None);
            self.broker()?.delete_topic(EXTRA)?;
            let now = self.now();
            self.journal.extra.promise(now);
            return Ok(());
        }
        self.sent += 1;
        let incarnation = self.sent;
        self.journal.extra.ask(now, Some(incarnation));
        self.journal.extra_records.insert(incarnation, None);
        let topic = self.broker()?.create_topic(EXTRA, TopicConfig::default().partitions(2))?;
        let now = self.now();
        self.journal.extra.promise(now);
        topic.partition(1)?.append(&[Record::new(&payload(EXTRA, incarnation, 60))])?;
        let now = self.now();
        self.journal.extra_records.insert(incarnation, Some(now));
        Ok(())
    }

    fn maintain(&mut self) -> Result<()> {
        self.clock.advance(Duration::from_secs(2));
        for topic in [SYNCED, WRITTEN] {
            let (now, end) = (self.now(), self.end(topic)?);
            self.promises(topic).start_asked.note(now, end);
        }
        self.broker()?.run_maintenance()?;
        for topic in [SYNCED, WRITTEN] {
            let start = self.broker()?.topic(topic)?.partition(0)?.log_start_offset();
            let now = self.now();
            self.promises(topic).start.note(now, start);
        }
        self.promise_synced(WRITTEN)
    }
}
