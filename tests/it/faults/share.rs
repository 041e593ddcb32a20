//! Share groups over the simulated disk, with a crash before every change: what was acknowledged stays so,
//! what was not comes again, with a count that tells of the deliveries before, and nothing is left out.
//!
//! Method: two workers take, accept, release and reject records at random, and the journal notes at which
//! number of changes each of that was begun and had returned. Then every state that the disk was in is
//! opened as a kill and as a power cut leave it, and everything that can be polled is polled.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sapwood::{
    Broker, BrokerBuilder, Durability, ManualClock, PowerLoss, Record, ShareConsumer, ShareRecords,
    SimulatedDisk, Timestamp, TopicConfig, Verdict,
};

use super::journal::Crash;
use super::long;

const GROUP: &str = "workers";
const DELIVERIES_MAX: u16 = 3;
const LOCK: Duration = Duration::from_secs(30);
const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

/// What was done with one record, each thing with the number of changes when it was begun and, if it came
/// to its end, when it had returned.
#[derive(Debug, Clone, Default)]
struct Story {
    sent: (u64, u64),
    deliveries: Vec<(u64, u64)>,
    accepted: Vec<(u64, Option<u64>)>,
    rejected: Vec<(u64, Option<u64>)>,
}

impl Story {
    fn may_be_done(&self, time: u64) -> bool {
        self.may_be_accepted(time) || self.rejected.iter().any(|(begun, _)| *begun <= time)
    }

    fn may_be_accepted(&self, time: u64) -> bool {
        self.accepted.iter().any(|(begun, _)| *begun <= time)
    }

    fn is_done(&self, time: u64) -> bool {
        let all = self.accepted.iter().chain(&self.rejected);
        all.filter_map(|(_, returned)| *returned).any(|returned| returned <= time)
    }

    fn deliveries_begun(&self, time: u64) -> u64 {
        self.deliveries.iter().filter(|(begun, _)| *begun <= time).count() as u64
    }

    fn deliveries_returned(&self, time: u64) -> u64 {
        self.deliveries.iter().filter(|(_, returned)| *returned <= time).count() as u64
    }
}

type Journal = BTreeMap<u64, Story>;

fn open(disk: &SimulatedDisk) -> (Broker, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(NOW));
    let broker = BrokerBuilder::simulated(disk).clock(clock.clone()).background_thread(false);
    (broker.open().unwrap(), clock)
}

fn worker(broker: &Broker, max_poll_records: usize) -> ShareConsumer {
    broker
        .share_consumer(GROUP)
        .lock_duration(LOCK)
        .max_delivery_count(DELIVERIES_MAX)
        .retry_backoff(Duration::ZERO, Duration::ZERO)
        .max_poll_records(max_poll_records)
        .dead_letter_topic("failed")
        .subscribe(["jobs"])
        .unwrap()
}

struct World {
    disk: SimulatedDisk,
    broker: Broker,
    clock: Arc<ManualClock>,
    workers: Vec<ShareConsumer>,
    held: Vec<ShareRecords>,
    journal: Journal,
}

impl World {
    fn new(durability: Durability) -> Self {
        let disk = SimulatedDisk::new();
        let (broker, clock) = open(&disk);
        broker.create_topic("jobs", TopicConfig::default().durability(durability)).unwrap();
        broker.create_topic("failed", TopicConfig::default()).unwrap();
        let workers = (0..2).map(|_| worker(&broker, 4)).collect();
        Self { disk, broker, clock, workers, held: Vec::new(), journal: Journal::new() }
    }

    fn step(&mut self, random: &mut Random) {
        let begun = self.disk.calls();
        let story = |journal: &mut Journal, offset: u64| journal.entry(offset).or_default().clone();
        match random.below(10) {
            0 | 1 => {
                let log = self.broker.topic("jobs").unwrap().partition(0).unwrap();
                let first = log.log_end_offset();
                let values: Vec<String> =
                    (first..=first + random.below(5)).map(|offset| offset.to_string()).collect();
                log.append(&values.iter().map(Record::new).collect::<Vec<_>>()).unwrap();
                for offset in first..log.log_end_offset() {
                    let sent = (begun, self.disk.calls());
                    self.journal.insert(offset, Story { sent, ..Story::default() });
                }
            }
            2..=4 => {
                let number = usize::try_from(random.below(2)).unwrap();
                let records = self.workers[number].poll(Duration::ZERO).unwrap();
                for record in &records {
                    let mut known = story(&mut self.journal, record.offset());
                    known.deliveries.push((begun, self.disk.calls()));
                    assert_eq!(usize::from(record.delivery_count()), known.deliveries.len());
                    self.journal.insert(record.offset(), known);
                }
                self.held.push(records);
            }
            5 => self.clock.advance(LOCK),
            what => self.acknowledge(what, begun, random),
        }
    }

    fn acknowledge(&mut self, what: u64, begun: u64, random: &mut Random) {
        if self.held.is_empty() {
            return;
        }
        let records =
            self.held.swap_remove(usize::try_from(random.below(self.held.len() as u64)).unwrap());
        if what == 6 {
            return; // dropped: released
        }
        for record in &records {
            let known = self.journal.entry(record.offset()).or_default();
            let of = if what == 7 { &mut known.rejected } else { &mut known.accepted };
            of.push((begun, None));
            // Late ones are refused, and change nothing.
            let done = if what == 7 { record.reject("it cannot be done") } else { record.accept() };
            if done.is_ok() {
                of.last_mut().unwrap().1 = Some(self.disk.calls());
            }
        }
    }
}

/// Offsets that somebody is handed, with their delivery counts.
fn poll_everything(broker: &Broker) -> BTreeMap<u64, u64> {
    let mut worker = worker(broker, 500);
    let mut found = BTreeMap::new();
    let mut held = Vec::new();
    loop {
        let records = worker.poll(Duration::ZERO).unwrap();
        if records.is_empty() {
            held.iter().for_each(|records: &ShareRecords| records.accept_all().unwrap());
            return found;
        }
        for record in &records {
            let twice = found.insert(record.offset(), u64::from(record.delivery_count()));
            assert_eq!(twice, None, "one record is handed out twice at a time");
        }
        held.push(records);
    }
}

fn dead_letters(broker: &Broker) -> BTreeSet<u64> {
    let mut consumer = broker.consumer().subscribe(["failed"]).unwrap();
    let mut found = BTreeSet::new();
    loop {
        let records = consumer.poll(Duration::ZERO).unwrap();
        if records.is_empty() {
            return found;
        }
        found.extend(records.iter().map(|record| {
            str::from_utf8(record.value().unwrap()).unwrap().parse::<u64>().unwrap()
        }));
    }
}

fn judge(
    journal: &Journal,
    disk: &SimulatedDisk,
    time: u64,
    crash: Crash,
    durable: bool,
) -> Result<(), String> {
    let (broker, _clock) = open(disk);
    let log = broker.topic("jobs").unwrap().partition(0).unwrap();
    let end = log.high_watermark();
    let found = poll_everything(&broker);
    let letters = dead_letters(&broker);
    let keeps = crash == Crash::Kill || durable;
    for (offset, story) in journal {
        if *offset >= end {
            if keeps && story.sent.1 <= time {
                return Err(format!("record {offset} was stored and is gone"));
            }
            continue;
        }
        let begun = story.deliveries_begun(time);
        match found.get(offset) {
            Some(_) if keeps && story.is_done(time) => {
                return Err(format!("record {offset} was done and comes again"));
            }
            Some(count) => {
                let least =
                    if crash == Crash::Kill { story.deliveries_returned(time) + 1 } else { 1 };
                if !(least..=begun + 1).contains(count) {
                    return Err(format!(
                        "record {offset}: delivery {count}, expected {least} to {}",
                        begun + 1
                    ));
                }
            }
            None if story.may_be_accepted(time) => {}
            None if letters.contains(offset)
                && (story.may_be_done(time) || begun >= u64::from(DELIVERIES_MAX)) => {}
            None => {
                return Err(format!(
                    "record {offset} comes no more, and nobody has had done with it"
                ));
            }
        }
    }
    // Behind what was, everything goes on.
    log.append(&[Record::new("999999")]).unwrap();
    let found = poll_everything(&broker);
    if found != BTreeMap::from([(end, 1)]) {
        return Err(format!("what is sent at {end} then comes as {found:?}"));
    }
    broker.close().unwrap();
    let (broker, _clock) = open(disk);
    let found = poll_everything(&broker);
    if !found.is_empty() {
        return Err(format!("{found:?} come again after all was accepted"));
    }
    Ok(())
}

fn explore(seed: u64, durability: Durability, steps: u64) -> (u64, Vec<String>) {
    let mut world = World::new(durability);
    let states = Arc::new(Mutex::new(Vec::new()));
    let (recorded, recording) = (Arc::clone(&states), world.disk.clone());
    world.disk.on_call(move |call| {
        if call.kind.is_change() {
            recorded.lock().unwrap().push((call.number, recording.snapshot()));
        }
        Verdict::Proceeds
    });
    let mut random = Random(seed);
    (0..steps).for_each(|_| world.step(&mut random));
    world.disk.revive();
    states.lock().unwrap().push((world.disk.calls(), world.disk.snapshot()));
    let (mut images, mut wrong) = (0, Vec::new());
    for (time, disk) in states.lock().unwrap().iter() {
        let losses =
            [PowerLoss::LosesEverything, PowerLoss::LosesNothing, PowerLoss::Random(*time)];
        for crash in std::iter::once(Crash::Kill).chain(losses.map(Crash::Power)) {
            images += 1;
            let durable = durability == Durability::Fsync;
            if let Err(what) = judge(&world.journal, &crash.of(disk), *time, crash, durable) {
                wrong.push(format!(
                    "seed {seed}, {durability:?}, {crash:?} before change {time}: {what}"
                ));
            }
        }
    }
    (images, wrong)
}

#[test]
fn no_crash_makes_a_share_group_lose_a_record_or_forget_that_it_is_done() {
    let flush_interval = Duration::from_secs(3_600);
    let (mut images, mut wrong) = (0, Vec::new());
    for seed in 0..if long() { 200 } else { 12 } {
        for durability in [Durability::Fsync, Durability::Written { flush_interval }] {
            let (more, broken) = explore(seed, durability, 40);
            images += more;
            wrong.extend(broken);
        }
    }
    println!("{images} crash images of share groups judged");
    let few: Vec<_> = wrong.iter().take(5).collect();
    assert!(few.is_empty(), "{} broken promises, such as {few:#?}", wrong.len());
    assert!(images > 1_000, "{images} images are fewer than expected");
}
