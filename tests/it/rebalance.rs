//! Goal: whatever members do to each other, no record is handed to two live owners of a partition, none
//! is skipped, and in the end all are processed.
//!
//! Method: threads whose consumers join, poll, commit, leave, panic, fall silent and are replaced at
//! random, while topics grow; and a model that is told of every assignment, record and commit, by
//! listeners and by the workers themselves. Time is a manual clock. When it is moved on, every member that
//! has not polled since may be expired: the model knows for each until when it was certainly alive. A
//! failing seed is printed; `SAPWOOD_REBALANCE_STEPS` makes it longer.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use sapwood::{
    Broker, BrokerBuilder, Consumer, CooperativeStickyAssignor, Error, GroupState, ManualClock,
    RangeAssignor, RebalanceListener, Record, Result, RoundRobinAssignor, Timestamp, TopicConfig,
    TopicPartition,
};

const WORKERS: u64 = 6;
const STEPS: u64 = 1_000;
const MINUTE: Duration = Duration::from_secs(60);
const NAMES: [&str; 2] = ["a", "b"];

/// The payload of panics that are meant.
struct OnPurpose;

/// xorshift64*.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % limit
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// A consumer in the eyes of the model.
#[derive(Default)]
struct Life {
    instance_id: Option<&'static str>,
    /// How often the clock had been moved when it was dropped, or was about to be.
    gone_at: Option<u64>,
    /// Another has come under its name.
    replaced: bool,
    /// How often the clock had been moved when it began the last poll that found it alive.
    alive_at: u64,
    /// Partitions that it was told of when it may have been out already, and where it begins in them.
    claims: Vec<(TopicPartition, u64)>,
}

#[derive(Default)]
struct Place {
    owner: Option<usize>,
    /// Where its owner must go on.
    next: u64,
    processed: Vec<bool>,
    committed: u64,
}

#[derive(Default)]
struct State {
    lives: Vec<Life>,
    places: BTreeMap<TopicPartition, Place>,
    /// How often the clock was moved.
    time: u64,
}

impl State {
    /// Whether a consumer may have lost its partitions without having given them back.
    fn may_be_out(&self, life: usize) -> bool {
        let life = &self.lives[life];
        life.gone_at.is_some() || life.replaced || life.alive_at < self.time
    }

    /// A partition has another owner: the one before must have given it back, or be out.
    fn take(&mut self, of: &TopicPartition, position: u64, life: usize) {
        let before = self.places[of].owner.filter(|before| *before != life);
        if let Some(before) = before {
            assert!(self.may_be_out(before), "{of} was {before}'s, and is {life}'s");
        }
        let place = self.places.get_mut(of).unwrap();
        (place.owner, place.next) = (Some(life), position);
    }

    fn leave(&mut self, life: usize) {
        self.lives[life].gone_at = Some(self.time);
    }

    fn give_back(&mut self, partitions: &[TopicPartition], life: usize) {
        for of in partitions {
            let place = self.places.get_mut(of).unwrap();
            place.owner = place.owner.filter(|owner| *owner != life);
        }
        self.lives[life].claims.retain(|(of, _)| !partitions.contains(of));
    }

    /// A consumer was handed a record by a poll that began at that time, and processes it.
    fn read(&mut self, life: usize, of: &TopicPartition, offset: u64, began: u64) {
        let place = self.places.get_mut(of).unwrap();
        let claim = self.lives[life].claims.iter_mut().find(|(claimed, _)| claimed == of);
        let next = match (place.owner == Some(life), claim) {
            (true, _) => Some(&mut place.next),
            (false, Some((_, next))) => Some(next),
            (false, None) => None,
        };
        match next {
            Some(next) => {
                assert_eq!(offset, *next, "{of}: in order and without a gap");
                *next += 1;
            }
            // It was out by the time the records were here.
            None => assert!(
                began < self.time || self.lives[life].replaced,
                "{of} is {:?}'s, and {life} has read it",
                place.owner
            ),
        }
        let at = offset as usize;
        place.processed.resize(place.processed.len().max(at + 1), false);
        place.processed[at] = true;
    }

    fn all_processed(&self, of: &TopicPartition, below: u64) -> bool {
        let place = &self.places[of];
        (0..below).all(|offset| place.processed.get(offset as usize).copied().unwrap_or(false))
    }
}

/// Whoever panics with a lock held has failed the test, and says so itself.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[derive(Clone)]
struct Model {
    state: Arc<Mutex<State>>,
    /// Taken to join under a name, so that the model knows who was first.
    naming: Arc<Mutex<()>>,
    clock: Arc<ManualClock>,
}

impl Model {
    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn begin_life(&self, instance_id: Option<&'static str>) -> usize {
        let mut state = self.lock();
        for life in &mut state.lives {
            life.replaced |= instance_id.is_some() && life.instance_id == instance_id;
        }
        let alive_at = state.time;
        state.lives.push(Life { instance_id, alive_at, ..Life::default() });
        state.lives.len() - 1
    }

    /// Moves the clock so far that whoever does not poll is out.
    fn pass(&self) {
        let mut state = self.lock();
        state.time += 1;
        self.clock.advance(2 * MINUTE);
    }
}

/// Tells the model.
struct Teller {
    model: Model,
    life: usize,
    /// Whether it commits when partitions go.
    commits: bool,
    lost: Arc<AtomicBool>,
}

impl RebalanceListener for Teller {
    fn on_assigned(
        &mut self,
        consumer: &mut Consumer,
        partitions: &[TopicPartition],
    ) -> Result<()> {
        let mut state = self.model.lock();
        for of in partitions {
            let position = consumer.position(of).unwrap();
            state.places.entry(of.clone()).or_default();
            assert!(state.all_processed(of, position), "{of} is begun at {position}");
            if state.may_be_out(self.life) {
                state.lives[self.life].claims.push((of.clone(), position));
            } else {
                state.take(of, position, self.life);
            }
        }
        Ok(())
    }

    fn on_revoked(&mut self, consumer: &mut Consumer, partitions: &[TopicPartition]) -> Result<()> {
        if self.commits {
            // All that was returned is processed by then.
            match consumer.commit() {
                Ok(()) => self.model.lock().committed(consumer),
                Err(error) => assert!(self.model.lock().may_refuse(self.life, &error), "{error}"),
            }
        }
        let mut state = self.model.lock();
        state.give_back(partitions, self.life);
        Ok(())
    }

    fn on_lost(&mut self, _: &mut Consumer, partitions: &[TopicPartition]) -> Result<()> {
        self.lost.store(true, Ordering::Relaxed);
        let mut state = self.model.lock();
        assert!(state.may_be_out(self.life), "{} was alive", self.life);
        state.give_back(partitions, self.life);
        Ok(())
    }
}

impl State {
    /// A consumer has committed all its positions.
    fn committed(&mut self, consumer: &Consumer) {
        for of in consumer.assignment() {
            let position = consumer.position(&of).unwrap();
            assert!(self.all_processed(&of, position), "{of} is committed at {position}");
            self.places.get_mut(&of).unwrap().committed = position;
        }
    }

    /// Whether a commit may be refused.
    fn may_refuse(&self, life: usize, error: &Error) -> bool {
        match error {
            Error::FencedGeneration { .. } => self.may_be_out(life),
            // Of two that were expired under one name, the first that polls is in again. It keeps the
            // name when it is dropped.
            Error::FencedInstanceId { .. } => {
                let Life { instance_id, alive_at, .. } = self.lives[life];
                let mut others = self.lives.iter().enumerate().filter(|(other, _)| *other != life);
                let has_rival = others.any(|(_, other)| {
                    other.instance_id == instance_id && other.gone_at.is_none_or(|at| at > alive_at)
                });
                self.lives[life].replaced || (has_rival && self.may_be_out(life))
            }
            _ => false,
        }
    }
}

struct Worker {
    broker: Broker,
    model: Model,
    random: Random,
    assignor: u64,
}

impl Worker {
    /// One consumer from its first to its last poll. How many steps it took.
    fn live(&mut self, steps: u64) -> u64 {
        let instance_id = self.random.one_in(4).then(|| NAMES[self.random.below(2) as usize]);
        let (model, lost) = (self.model.clone(), Arc::default());
        let in_order = instance_id.map(|_| lock(&model.naming));
        let life = model.begin_life(instance_id);
        let commits = self.random.one_in(2);
        let teller = Teller { model: model.clone(), life, commits, lost: Arc::clone(&lost) };
        let auto_commit = self.random.one_in(3).then_some(Duration::from_secs(5));
        let builder = self.broker.consumer().group("g").rebalance_listener(teller);
        let mut builder = builder
            .auto_commit(auto_commit)
            .max_poll_interval(MINUTE)
            .max_poll_records(1 + self.random.below(20) as usize);
        builder = match self.assignor {
            0 => builder.assignor(CooperativeStickyAssignor),
            1 => builder.assignor(RangeAssignor),
            _ => builder.assignor(RoundRobinAssignor),
        };
        if let Some(instance_id) = instance_id {
            builder = builder.instance_id(instance_id);
        }
        let mut consumer = match builder.subscribe(["orders"]) {
            Ok(consumer) => consumer,
            Err(error) => {
                let mut state = model.lock();
                assert!(state.may_refuse(life, &error), "{error}");
                state.leave(life);
                return 1;
            }
        };
        drop(in_order);
        for step in 1..steps {
            if !self.poll(&mut consumer, life, &lost) {
                return step;
            }
            match self.random.below(40) {
                0 => {
                    // Dropped, or taken along by a panic: the model knows of it first.
                    model.lock().leave(life);
                    if self.random.one_in(2) {
                        panic_any(OnPurpose);
                    }
                    return step;
                }
                1 => {
                    model.lock().leave(life);
                    match consumer.close() {
                        Ok(()) => return step,
                        Err(error) => {
                            assert!(model.lock().may_refuse(life, &error), "{error}");
                            return step;
                        }
                    }
                }
                2 => model.pass(),
                3..10 => match consumer.commit() {
                    Ok(()) => model.lock().committed(&consumer),
                    Err(error) => assert!(model.lock().may_refuse(life, &error), "{error}"),
                },
                10..14 => std::thread::yield_now(),
                _ => {}
            }
        }
        model.lock().leave(life);
        steps
    }

    /// Polls and processes. `false` once the consumer is out for good.
    fn poll(&mut self, consumer: &mut Consumer, life: usize, lost: &AtomicBool) -> bool {
        let (began, claims) = {
            let state = self.model.lock();
            (state.time, state.lives[life].claims.clone())
        };
        lost.store(false, Ordering::Relaxed);
        let timeout = Duration::from_millis(self.random.below(2));
        let records = match consumer.poll(timeout) {
            Ok(records) => records,
            Err(error) => {
                // An automatic commit that came too late, or another of the same name.
                assert!(self.model.lock().may_refuse(life, &error), "{error}");
                return !error.is_fatal();
            }
        };
        let mut state = self.model.lock();
        if !lost.load(Ordering::Relaxed) {
            state.lives[life].alive_at = state.lives[life].alive_at.max(began);
        }
        let is_in = began == state.time && !state.lives[life].replaced;
        if is_in && !lost.load(Ordering::Relaxed) {
            // It was not out when it was told of these, or it would have lost them by now.
            let claimed = std::mem::take(&mut state.lives[life].claims);
            let is_older = |(of, _): &(TopicPartition, u64)| claims.iter().any(|(it, _)| it == of);
            let (confirmed, open): (Vec<_>, Vec<_>) = claimed.into_iter().partition(is_older);
            state.lives[life].claims = open;
            for (of, position) in confirmed {
                state.take(&of, position, life);
            }
        }
        for record in &records {
            state.read(life, record.topic_partition(), record.offset(), began);
        }
        true
    }

    fn run(mut self, steps: u64) {
        let mut done = 0;
        while done < steps {
            match catch_unwind(AssertUnwindSafe(|| self.live(steps - done))) {
                Ok(lived) => done += lived.max(1),
                Err(payload) if payload.is::<OnPurpose>() => done += 1,
                Err(payload) => std::panic::resume_unwind(payload),
            }
        }
    }
}

fn append(broker: &Broker, random: &mut Random) {
    let partitions = broker.topic("orders").unwrap().partitions();
    let at = random.below(partitions.len() as u64) as usize;
    partitions[at].append(&vec![Record::new("x"); 1 + random.below(9) as usize]).unwrap();
}

fn stress(seed: u64, steps: u64) {
    let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_700_000_000_000)));
    let broker = BrokerBuilder::in_memory().clock(clock.clone()).background_thread(false);
    let broker = broker.open().unwrap();
    broker.create_topic("orders", TopicConfig::default().partitions(4)).unwrap();
    let model = Model { state: Arc::default(), naming: Arc::default(), clock };
    let mut random = Random(seed);
    let assignor = random.below(3);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (1..=WORKERS)
            .map(|number| {
                let (broker, model) = (broker.clone(), model.clone());
                let random = Random(seed ^ (number << 32));
                let worker = Worker { broker, model, random, assignor };
                scope.spawn(move || worker.run(steps))
            })
            .collect();
        let mut partitions = 4;
        while !workers.iter().all(|worker| worker.is_finished()) {
            append(&broker, &mut random);
            if random.one_in(500) && partitions < 10 {
                partitions += 1;
                broker.add_partitions("orders", partitions).unwrap();
            }
            std::thread::yield_now();
        }
    });
    finish(&broker, &model, assignor);
}

/// Nobody is there any more but members that may come back: one consumer does the rest.
fn finish(broker: &Broker, model: &Model, assignor: u64) {
    for name in NAMES {
        match broker.remove_group_member("g", name) {
            Ok(()) | Err(Error::UnknownMember { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    let random = Random(1);
    let mut worker = Worker { broker: broker.clone(), model: model.clone(), random, assignor };
    let life = model.begin_life(None);
    let lost = Arc::default();
    let teller = Teller { model: model.clone(), life, commits: false, lost: Arc::clone(&lost) };
    let builder = broker.consumer().group("g").auto_commit(None).rebalance_listener(teller);
    let mut last = builder.subscribe(["orders"]).unwrap();
    while last.total_lag().unwrap() > 0 {
        assert!(worker.poll(&mut last, life, &lost));
    }
    last.commit().unwrap();
    let state = model.lock();
    for partition in broker.topic("orders").unwrap().partitions() {
        let (of, end) = (partition.topic_partition(), partition.high_watermark());
        assert!(end == 0 || state.all_processed(of, end), "{of}: all {end}, at least once");
    }
    let described = broker.describe_group("g").unwrap().unwrap();
    assert_eq!((described.state, described.members.len()), (GroupState::Stable, 1));
    assert!(described.offsets.iter().all(|offset| offset.lag == 0));
}

#[test]
fn no_record_is_handed_to_two_owners_or_skipped_whatever_members_do() {
    let steps = std::env::var("SAPWOOD_REBALANCE_STEPS");
    let steps = steps.map_or(STEPS, |steps| steps.parse().expect("a number of steps"));
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !info.payload().is::<OnPurpose>() {
            hook(info);
        }
    }));
    for round in 0..8 {
        let seed = 0x9E37_79B9_7F4A_7C15_u64.wrapping_mul(round + 1);
        println!("seed {seed}");
        stress(seed, steps);
    }
}
