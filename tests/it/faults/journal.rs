//! What a workload has asked for and what it was promised, and when; and the judge who compares that
//! with what is found.
//!
//! *When* is the number of changes the disk had seen. A crash before change `k` must keep every
//! promise made by then, and may show of everything else only what was asked for by then.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sapwood::{Broker, BrokerBuilder, PowerLoss, Record, SimulatedDisk, TopicPartition};

use super::workload::{EXTRA, GROUP, SYNCED, WRITTEN, clock, payload};

/// How the workload ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Crash {
    /// The process is killed: what the operating system has been given stays.
    Kill,
    /// The power fails.
    Power(PowerLoss),
}

impl Crash {
    pub(super) fn of(self, disk: &SimulatedDisk) -> SimulatedDisk {
        match self {
            Crash::Kill => disk.snapshot(),
            Crash::Power(loss) => disk.power_loss(loss),
        }
    }
}

/// Values with the time from which they hold. The largest counts, since offsets only rise.
#[derive(Debug, Clone, Default)]
pub(super) struct Since(Vec<(u64, u64)>);

impl Since {
    pub(super) fn note(&mut self, time: u64, value: u64) {
        self.0.push((time, value));
    }

    fn at(&self, time: u64) -> u64 {
        self.0
            .iter()
            .filter(|(since, _)| *since <= time)
            .map(|(_, value)| *value)
            .max()
            .unwrap_or(0)
    }
}

/// One partition.
#[derive(Debug, Clone, Default)]
pub(super) struct Promises {
    /// By offset: every record that was ever sent to it, and when. More than one if a send failed.
    sent: BTreeMap<u64, Vec<(u64, Vec<u8>)>>,
    /// By offset: the one that was acknowledged.
    acknowledged: BTreeMap<u64, Vec<u8>>,
    /// Records below it survive a kill.
    pub(super) written: Since,
    /// Records below it survive a power cut.
    pub(super) synced: Since,
    /// The log start offset may have come up to here.
    pub(super) start_asked: Since,
    /// It has come at least up to here.
    pub(super) start: Since,
}

impl Promises {
    pub(super) fn send(&mut self, time: u64, offset: u64, value: Vec<u8>) {
        self.sent.entry(offset).or_default().push((time, value));
    }

    pub(super) fn acknowledge(&mut self, offset: u64, value: Vec<u8>) {
        self.acknowledged.insert(offset, value);
    }

    /// Whether a record may be at an offset.
    fn allows(&self, offset: u64, value: &[u8], time: u64) -> bool {
        match self.acknowledged.get(&offset) {
            Some(acknowledged) => acknowledged == value,
            None => {
                let sent = self.sent.get(&offset).into_iter().flatten();
                sent.into_iter().any(|(when, sent)| *when <= time && sent == value)
            }
        }
    }

    /// The log can end here at most.
    fn end_max(&self, time: u64) -> u64 {
        let by_then = |sent: &Vec<(u64, Vec<u8>)>| sent.iter().any(|(when, _)| *when <= time);
        let last = self.sent.iter().rev().find(|(_, sent)| by_then(sent));
        last.map_or(0, |(offset, _)| offset + 1)
    }

    fn judge(&self, found: &Found, time: u64, crash: Crash) -> Result<(), String> {
        let promised = match crash {
            Crash::Kill => self.written.at(time).max(self.synced.at(time)),
            Crash::Power(_) => self.synced.at(time),
        };
        let Found { start, end, records } = found;
        if *end < promised {
            return Err(format!("ends at {end}, promised up to {promised}"));
        }
        if *end > self.end_max(time).max(*start) {
            return Err(format!("ends at {end}, sent up to {}", self.end_max(time)));
        }
        let (least, most) = (self.start.at(time), self.start_asked.at(time));
        if *start < least || *start > most.max(least) {
            return Err(format!("starts at {start}, expected {least} to {most}"));
        }
        for (number, (offset, value)) in records.iter().enumerate() {
            if *offset != start + number as u64 {
                return Err(format!("record {offset} is the {number}th after {start}"));
            }
            if !self.allows(*offset, value, time) {
                let found = String::from_utf8_lossy(value);
                return Err(format!(
                    "at {offset} there is {found:.60}, which is not what was sent"
                ));
            }
        }
        if records.len() as u64 != end - start {
            return Err(format!("{} records from {start} to {end}", records.len()));
        }
        Ok(())
    }
}

/// A state that something may be in: asked for at one time, promised at another.
#[derive(Debug, Clone)]
struct Step<T> {
    asked: u64,
    promised: Option<u64>,
    state: T,
}

/// A thing that goes from state to state.
#[derive(Debug, Clone)]
pub(super) struct Steps<T>(Vec<Step<T>>);

impl<T> Default for Steps<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Clone> Steps<T> {
    pub(super) fn ask(&mut self, time: u64, state: T) {
        self.0.push(Step { asked: time, promised: None, state });
    }

    pub(super) fn promise(&mut self, time: u64) {
        self.0.last_mut().expect("it was asked for").promised = Some(time);
    }

    /// All states it may be in, the last promised one first; `None` stands for the first of all.
    fn possible(&self, time: u64) -> Vec<Option<T>> {
        let promised = self.0.iter().rposition(|step| step.promised.is_some_and(|at| at <= time));
        let later = self.0.iter().skip(promised.map_or(0, |at| at + 1));
        let asked = later.filter(|step| step.asked <= time).map(|step| Some(step.state.clone()));
        let promised = promised.map(|at| self.0[at].state.clone());
        std::iter::once(promised).chain(asked).collect()
    }
}

/// Everything a workload was promised.
#[derive(Debug, Clone, Default)]
pub(super) struct Journal {
    /// Of the topics that are there from the start.
    pub(super) partitions: BTreeMap<&'static str, Promises>,
    /// What the group has committed for the first partition of the synced topic.
    pub(super) commits: Steps<u64>,
    /// Whether the topic that comes and goes is there, and for which time.
    pub(super) extra: Steps<Option<u64>>,
    /// Of each time that it was there: its one record, and since when that is safe.
    pub(super) extra_records: BTreeMap<u64, Option<u64>>,
}

/// What is found in a partition.
#[derive(Debug)]
pub(super) struct Found {
    start: u64,
    end: u64,
    records: Vec<(u64, Vec<u8>)>,
}

/// A broker on a disk that somebody else has worked on.
pub(super) fn open(disk: &SimulatedDisk) -> sapwood::Result<Broker> {
    let clock: Arc<dyn sapwood::Clock> = Arc::new(clock());
    BrokerBuilder::simulated(disk).clock(clock).background_thread(false).open()
}

/// Reads a partition from its start to its end.
fn read(broker: &Broker, topic: &str, partition: u32) -> sapwood::Result<Found> {
    let log = broker.topic(topic)?.partition(partition)?;
    let (start, end) = (log.log_start_offset(), log.log_end_offset());
    let address = TopicPartition::new(topic, partition);
    let mut consumer = broker.consumer().assign([address.clone()])?;
    consumer.seek(&address, start)?;
    let mut records = Vec::new();
    loop {
        let polled = consumer.poll(Duration::ZERO)?;
        if polled.is_empty() {
            return Ok(Found { start, end, records });
        }
        let value = |record: sapwood::ConsumerRecord<'_>| {
            (record.offset(), record.value().unwrap_or_default().to_vec())
        };
        records.extend(polled.iter().map(value));
    }
}

impl Journal {
    /// Opens what a crash at a time has left and compares it with what was promised by then; then
    /// goes on with it, and lets the power fail once more.
    pub(super) fn judge(
        &self,
        disk: &SimulatedDisk,
        time: u64,
        crash: Crash,
    ) -> Result<(), String> {
        let broker = open(disk).map_err(|error| format!("cannot be opened: {error}"))?;
        let found = self.judge_open(&broker, time, crash)?;
        let said = |error: sapwood::Error| format!("goes on with an error: {error}");
        go_on(&broker).map_err(said)?;
        drop(broker);
        let disk = disk.power_loss(PowerLoss::LosesEverything);
        let broker = open(&disk).map_err(|error| format!("cannot be opened again: {error}"))?;
        let again = read(&broker, SYNCED, 0).map_err(said)?;
        let expected = [&found.records[..], &[(found.end, AFTERWARDS.to_vec())]].concat();
        if again.records != expected {
            return Err(format!("what was served up to {} is another log now", found.end));
        }
        Ok(())
    }

    /// Compares what an open broker shows with what was promised. Returns what the synced topic holds.
    pub(super) fn judge_open(
        &self,
        broker: &Broker,
        time: u64,
        crash: Crash,
    ) -> Result<Found, String> {
        let mut synced = None;
        for (topic, promises) in &self.partitions {
            let found = read(broker, topic, 0).map_err(|error| format!("{topic}: {error}"))?;
            promises.judge(&found, time, crash).map_err(|what| format!("{topic} {what}"))?;
            if *topic == SYNCED {
                synced = Some(found);
            }
        }
        let synced = synced.expect("the synced topic is among them");
        self.judge_group(broker, synced.end, time)?;
        self.judge_extra(broker, time)?;
        let verified = broker.verify().map_err(|error| error.to_string())?;
        match verified.damaged().next() {
            Some(damaged) => Err(format!("is damaged: {:?}", damaged.damage)),
            None => Ok(synced),
        }
    }

    fn judge_group(&self, broker: &Broker, end: u64, time: u64) -> Result<(), String> {
        let described = broker.describe_group(GROUP).map_err(|error| error.to_string())?;
        let committed = described.and_then(|group| Some(group.offsets.first()?.committed.offset));
        let possible = self.commits.possible(time);
        if !possible.contains(&committed) {
            return Err(format!("the group is at {committed:?}, expected one of {possible:?}"));
        }
        match committed {
            Some(offset) if offset > end => Err(format!("the group is at {offset} of {end}")),
            _ => Ok(()),
        }
    }

    fn judge_extra(&self, broker: &Broker, time: u64) -> Result<(), String> {
        let incarnation = match broker.topic(EXTRA) {
            Err(sapwood::Error::UnknownTopic { .. }) => None,
            Err(error) => return Err(error.to_string()),
            Ok(topic) if topic.partition_count() != 2 => {
                return Err(format!("{EXTRA} has {} partitions", topic.partition_count()));
            }
            Ok(_) => {
                let found = read(broker, EXTRA, 1).map_err(|error| format!("{EXTRA}: {error}"))?;
                Some(found.records)
            }
        };
        let possible = self.extra.possible(time);
        let fits = possible.iter().any(|state| match (state.flatten(), &incarnation) {
            (None, None) => true,
            (Some(number), Some(records)) => {
                let safe = self.extra_records.get(&number).copied().flatten();
                match &records[..] {
                    [] => safe.is_none_or(|since| since > time),
                    [(0, value)] => *value == payload(EXTRA, number, 60),
                    _ => false,
                }
            }
            _ => false,
        });
        if fits {
            return Ok(());
        }
        let records = incarnation.map(|records| records.len());
        Err(format!("{EXTRA} has {records:?} records, expected one of {possible:?}"))
    }
}

const AFTERWARDS: &[u8] = b"afterwards";

/// Appends to both topics, and commits: whatever the crash has left, it can be gone on with.
fn go_on(broker: &Broker) -> sapwood::Result<()> {
    for topic in [SYNCED, WRITTEN] {
        let log = broker.topic(topic)?.partition(0)?;
        let end = log.log_end_offset();
        let at = log.append(&[Record::new(AFTERWARDS)])?;
        assert_eq!(at.offset, end, "offsets go on where the log ends");
    }
    let address = TopicPartition::new(SYNCED, 0);
    let mut consumer = broker.consumer().group(GROUP).assign([address])?;
    consumer.seek_to_end().unwrap();
    consumer.commit()
}
