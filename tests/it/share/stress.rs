//! Random interleavings against a model that sees every hand-out and every acknowledgement, on one thread
//! and on many.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;

/// A generator whose seed a failing case prints.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) % n
    }
}

type Key = (u32, u64);

/// What the model knows of a record.
#[derive(Debug, Default, Clone)]
struct Known {
    /// How often it was handed out.
    deliveries: u16,
    /// When it was handed out last, and to which poll.
    held: Option<(Duration, usize)>,
    is_done: bool,
}

const DELIVERIES_MAX: u16 = 4;
const LOCK: Duration = Duration::from_secs(30);
const RECORDS: u64 = 120;

/// Polls that are held, by number.
type Held = BTreeMap<usize, ShareRecords>;

struct World {
    broker: Broker,
    clock: Arc<ManualClock>,
    workers: Vec<ShareConsumer>,
    held: Held,
    polls: usize,
    known: BTreeMap<Key, Known>,
    sent: u64,
    seed: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let clock = Arc::new(ManualClock::new(NOW));
        let broker = BrokerBuilder::in_memory().clock(clock.clone()).background_thread(false);
        let broker = broker.open().unwrap();
        broker.create_topic("jobs", TopicConfig::default().partitions(2)).unwrap();
        broker.create_topic("failed", TopicConfig::default()).unwrap();
        let worker = || {
            broker
                .share_consumer("workers")
                .lock_duration(LOCK)
                .max_delivery_count(DELIVERIES_MAX)
                .max_poll_records(9)
                .max_in_flight(40)
                .dead_letter_topic("failed")
                .subscribe(["jobs"])
                .unwrap()
        };
        let workers = (0..4).map(|_| worker()).collect();
        let (held, known) = (Held::new(), BTreeMap::new());
        Self { broker, clock, workers, held, polls: 0, known, sent: 0, seed }
    }

    fn now(&self) -> Duration {
        self.clock.monotonic()
    }

    fn send(&mut self, random: &mut Random) {
        let topic = self.broker.topic("jobs").unwrap();
        let log = topic.partition(u32::try_from(random.below(2)).unwrap()).unwrap();
        let count = 1 + random.below(12);
        let values: Vec<String> = (self.sent..self.sent + count).map(|n| n.to_string()).collect();
        log.append(&values.iter().map(Record::new).collect::<Vec<_>>()).unwrap();
        self.sent += count;
    }

    fn poll(&mut self, random: &mut Random) {
        let worker = usize::try_from(random.below(self.workers.len() as u64)).unwrap();
        let records = poll(&mut self.workers[worker]);
        let (now, poll) = (self.now(), self.polls);
        self.polls += 1;
        for record in &records {
            let key = (record.partition(), record.offset());
            let known = self.known.entry(key).or_default();
            assert!(!known.is_done, "{key:?} was done, seed {}", self.seed);
            if let Some((at, other)) = known.held {
                assert!(now >= at + LOCK, "{key:?} is with {other} too, seed {}", self.seed);
            }
            known.deliveries += 1;
            assert_eq!(record.delivery_count(), known.deliveries, "{key:?}, seed {}", self.seed);
            assert!(known.deliveries <= DELIVERIES_MAX, "{key:?}, seed {}", self.seed);
            known.held = Some((now, poll));
        }
        if !records.is_empty() {
            self.held.insert(poll, records);
        }
    }

    fn acknowledge(&mut self, random: &mut Random) {
        let Some(place) = random.below(self.held.len().max(1) as u64).try_into().ok() else {
            return;
        };
        let Some(poll) = self.held.keys().nth(place).copied() else { return };
        let (records, now) = (&self.held[&poll], self.clock.monotonic());
        match random.below(8) {
            0 => {
                let records = self.held.remove(&poll).unwrap();
                for record in &records {
                    release(&mut self.known, &record, poll);
                }
                drop(records);
            }
            1 | 2 => {
                let late: BTreeSet<Key> = match records.accept_all() {
                    Ok(()) => BTreeSet::new(),
                    Err(Error::NotAcquired { records, .. }) => {
                        let of = |(of, offsets): (TopicPartition, std::ops::Range<u64>)| {
                            offsets.map(move |offset| (of.partition(), offset))
                        };
                        records.into_iter().flat_map(of).collect()
                    }
                    Err(error) => panic!("{error}, seed {}", self.seed),
                };
                for record in records {
                    let key = (record.partition(), record.offset());
                    let known = self.known.get_mut(&key).unwrap();
                    if has(known, poll, now) {
                        assert!(!late.contains(&key), "{key:?}, seed {}", self.seed);
                    }
                    // A lock that nobody has noticed to be over still counts.
                    if is_with(known, poll) {
                        (known.is_done, known.held) = (!late.contains(&key), None);
                    }
                }
                self.held.remove(&poll);
            }
            _ => {
                let nth = usize::try_from(random.below(records.len() as u64)).unwrap();
                let record = records.iter().nth(nth).unwrap();
                let key = (record.partition(), record.offset());
                let known = self.known.get_mut(&key).unwrap();
                let is_held = has(known, poll, now);
                let said = match random.below(5) {
                    0 => record.reject("no").map(|()| (known.is_done, known.held) = (true, None)),
                    1 => record.release().map(|()| known.held = None),
                    2 => record.renew().map(|()| known.held = Some((now, poll))),
                    _ => record.accept().map(|()| (known.is_done, known.held) = (true, None)),
                };
                match said {
                    // A lock that nobody has noticed to be over still counts.
                    Ok(()) => {}
                    Err(Error::NotAcquired { .. }) => {
                        assert!(!is_held, "{key:?} is held, seed {}", self.seed);
                    }
                    Err(error) => panic!("{error}, seed {}", self.seed),
                }
            }
        }
    }

    /// Everybody goes on until nothing is left.
    fn finish(&mut self) {
        let polls: Vec<usize> = self.held.keys().copied().collect();
        for poll in polls {
            let records = self.held.remove(&poll).unwrap();
            for record in &records {
                release(&mut self.known, &record, poll);
            }
        }
        self.clock.advance(LOCK);
        let mut random = Random::new(self.seed);
        let mut empty = 0;
        while empty < 8 {
            let before = self.polls;
            self.poll(&mut random);
            match self.held.remove(&before) {
                Some(records) => {
                    records.accept_all().unwrap();
                    for record in &records {
                        let key = (record.partition(), record.offset());
                        self.known.get_mut(&key).unwrap().is_done = true;
                    }
                    empty = 0;
                }
                None => empty += 1,
            }
        }
        let dead: BTreeSet<u64> =
            letters(&self.broker, "failed").into_iter().map(|letter| letter.0).collect();
        let described = self.broker.describe_share_group("workers").unwrap().unwrap();
        assert!(described.partitions.iter().all(|at| at.lag == 0), "seed {}", self.seed);
        assert_eq!(self.known.len() as u64, self.sent, "all were handed out, seed {}", self.seed);
        for (key, known) in &self.known {
            // What nobody has said a word about to the end is a dead letter.
            if !known.is_done {
                assert_eq!(known.deliveries, DELIVERIES_MAX, "{key:?} is lost, seed {}", self.seed);
            }
        }
        let given_up = self.known.values().filter(|known| !known.is_done).count();
        assert!(dead.len() >= given_up, "{} of {given_up}, seed {}", dead.len(), self.seed);
    }
}

/// Whether a poll has a record for certain.
fn has(known: &Known, poll: usize, now: Duration) -> bool {
    known.held.is_some_and(|(at, by)| by == poll && now < at + LOCK)
}

/// Whether a poll was the last to be given a record, and has not acknowledged it.
fn is_with(known: &Known, poll: usize) -> bool {
    known.held.is_some_and(|(_, by)| by == poll)
}

fn release(known: &mut BTreeMap<Key, Known>, record: &sapwood::ShareRecord<'_>, poll: usize) {
    let known = known.get_mut(&(record.partition(), record.offset())).unwrap();
    if is_with(known, poll) {
        known.held = None;
    }
}

fn run(seed: u64) {
    let mut random = Random::new(seed);
    let mut world = World::new(seed);
    while world.sent < RECORDS {
        match random.below(10) {
            0 => world.send(&mut random),
            1..=4 => world.poll(&mut random),
            5..=8 => world.acknowledge(&mut random),
            _ => world.clock.advance(Duration::from_secs(random.below(20))),
        }
    }
    world.finish();
}

#[test]
fn no_interleaving_hands_a_record_to_two_loses_one_or_delivers_one_too_often() {
    for seed in 0..150 {
        run(seed);
    }
}

/// Many threads on one partition. The model is a count for each record: who takes it sets it, and it must
/// not have been set.
#[test]
fn many_threads_on_one_partition_never_have_the_same_record_and_do_all_of_them() {
    const THREADS: u64 = 6;
    const ALL: usize = 20_000;
    let broker = Broker::in_memory().unwrap();
    let jobs = broker.create_topic("jobs", TopicConfig::default()).unwrap();
    broker.create_topic("failed", TopicConfig::default()).unwrap();
    let taken: Vec<AtomicU64> = (0..ALL).map(|_| AtomicU64::new(0)).collect();
    let (done, dead) = (AtomicU64::new(0), Mutex::new(BTreeSet::new()));
    let work = |number: u64| {
        let mut random = Random::new(number);
        let mut worker = broker
            .share_consumer("workers")
            .max_poll_records(1 + usize::try_from(random.below(300)).unwrap())
            .max_delivery_count(3)
            .dead_letter_topic("failed")
            .subscribe(["jobs"])
            .unwrap();
        while done.load(Ordering::SeqCst) + (dead.lock().unwrap().len() as u64) < ALL as u64 {
            let records = worker.poll(Duration::from_millis(20)).unwrap();
            for record in &records {
                let place = &taken[usize::try_from(record.offset()).unwrap()];
                let before = place.swap(number, Ordering::SeqCst);
                assert_eq!(before, 0, "{} is with another", record.offset());
            }
            let (mut failed, mut accepted) = (Vec::new(), records.len());
            for record in &records {
                if random.below(10) == 0 {
                    failed.push(record);
                }
            }
            for record in failed {
                let place = &taken[usize::try_from(record.offset()).unwrap()];
                place.store(0, Ordering::SeqCst);
                if record.delivery_count() == 3 {
                    dead.lock().unwrap().insert(record.offset());
                }
                record.release().unwrap();
                accepted -= 1;
            }
            records.accept_all().unwrap();
            done.fetch_add(accepted as u64, Ordering::SeqCst);
        }
    };
    std::thread::scope(|scope| {
        let work = &work;
        for number in 1..=THREADS {
            scope.spawn(move || work(number));
        }
        let log = jobs.partition(0).unwrap();
        for from in (0..ALL).step_by(100) {
            let values: Vec<String> = (from..from + 100).map(|n| n.to_string()).collect();
            log.append(&values.iter().map(Record::new).collect::<Vec<_>>()).unwrap();
        }
    });
    // What was given up is buried by the next poll.
    let mut last = broker.share_consumer("workers").max_delivery_count(3);
    last = last.dead_letter_topic("failed");
    let mut last = last.subscribe(["jobs"]).unwrap();
    assert!(poll(&mut last).is_empty());
    let expected = dead.into_inner().unwrap();
    let found: BTreeSet<u64> =
        letters(&broker, "failed").into_iter().map(|letter| letter.0).collect();
    assert_eq!(found, expected);
    assert_eq!(described(&broker).lag, 0);
}
