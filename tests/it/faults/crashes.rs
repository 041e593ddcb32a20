//! A crash before every change (faults F2, F6, F13; clauses 1-6, 13, 14, 19, 24, 28).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use sapwood::{PowerLoss, SimulatedDisk, Verdict};

use super::journal::{Crash, Journal, open};
use super::workload::{OPS, Op, Setup, World};
use super::{long, sequence_len_max};

/// The disk as it is before each change, from now on.
struct Recorder(Arc<Mutex<Vec<(u64, SimulatedDisk)>>>);

impl Recorder {
    fn start(disk: &SimulatedDisk) -> Self {
        let states = Arc::new(Mutex::new(Vec::new()));
        let (recorded, recording) = (Arc::clone(&states), disk.clone());
        disk.on_call(move |call| {
            if call.kind.is_change() {
                recorded.lock().unwrap().push((call.number, recording.snapshot()));
            }
            Verdict::Proceeds
        });
        Self(states)
    }

    /// The last one is the disk as it is now.
    fn stop(self, disk: &SimulatedDisk) -> Vec<(u64, SimulatedDisk)> {
        disk.revive();
        let mut states = std::mem::take(&mut *self.0.lock().unwrap());
        states.push((disk.calls(), disk.snapshot()));
        states
    }
}

/// What became of a crash, for those who count and those who repeat it.
#[derive(Debug, Default)]
pub(super) struct Explored {
    sequences: usize,
    /// How many images were opened and judged.
    pub(super) images: u64,
    pub(super) wrong: Vec<String>,
}

impl Explored {
    fn judge(
        &mut self,
        journal: &Journal,
        case: &dyn std::fmt::Display,
        disk: &SimulatedDisk,
        time: u64,
        crash: Crash,
    ) {
        self.images += 1;
        if let Err(what) = journal.judge(disk, time, crash) {
            self.wrong.push(format!("{case}, then {crash:?} before change {time}: {what}"));
        }
    }

    pub(super) fn merge(&mut self, other: Explored) {
        self.images += other.images;
        self.wrong.extend(other.wrong);
    }

    fn tell(&self, of: usize) {
        let (images, wrong) = (self.images, self.wrong.len());
        println!("{} of {of} sequences, {images} images, {wrong} wrong", self.sequences);
    }

    fn assert_kept(&self, least: u64) {
        println!("{} crash images judged", self.images);
        let few: Vec<_> = self.wrong.iter().take(5).collect();
        assert!(few.is_empty(), "{} broken promises, such as {few:#?}", self.wrong.len());
        assert!(self.images >= least, "{} images are fewer than expected", self.images);
    }
}

/// How thoroughly to look.
#[derive(Debug, Clone, Copy)]
pub(super) struct Depth {
    /// How many random power cuts per state, besides the two extremes and a kill.
    pub(super) random: u64,
    /// Recovery is crashed, too, in one of so many images.
    pub(super) recovery_every: u64,
}

/// Runs operations, and crashes before every change of the last one.
pub(super) fn explore(ops: &[Op], setup: Setup, depth: Depth) -> Explored {
    let mut world = World::new(setup);
    let Some((last, before)) = ops.split_last() else { return Explored::default() };
    for op in before {
        world.apply(*op).unwrap_or_else(|error| panic!("{ops:?}: {error}"));
    }
    let recorder = Recorder::start(&world.disk);
    world.apply(*last).unwrap_or_else(|error| panic!("{ops:?}: {error}"));
    let states = recorder.stop(&world.disk);
    crash_each(&world.journal, &states, &format!("{ops:?}, {setup:?}"), depth)
}

fn crash_each(
    journal: &Journal,
    states: &[(u64, SimulatedDisk)],
    case: &str,
    depth: Depth,
) -> Explored {
    let mut explored = Explored::default();
    for (time, disk) in states {
        let random = (0..depth.random).map(|n| PowerLoss::Random(time * 1_000 + n));
        let extremes = [PowerLoss::LosesEverything, PowerLoss::LosesNothing];
        let losses = extremes.into_iter().chain(random).map(Crash::Power);
        for (number, crash) in (0..).zip(std::iter::once(Crash::Kill).chain(losses)) {
            explored.judge(journal, &case, &crash.of(disk), *time, crash);
            if (time + number) % depth.recovery_every == 0 {
                explored.merge(crash_recovery(journal, case, disk, *time, crash));
            }
        }
    }
    explored
}

/// Crashes a process, and then the next one before every change that its recovery makes.
fn crash_recovery(
    journal: &Journal,
    case: &str,
    disk: &SimulatedDisk,
    time: u64,
    crash: Crash,
) -> Explored {
    let mut explored = Explored::default();
    let left = crash.of(disk);
    let recorder = Recorder::start(&left);
    let opened = open(&left).map(drop);
    let states = recorder.stop(&left);
    if let Err(error) = opened {
        explored.wrong.push(format!("{case}, {crash:?} before {time}: {error}"));
        return explored;
    }
    for (again, state) in states {
        let loss = Crash::Power(PowerLoss::Random(again));
        for second in [Crash::Kill, loss] {
            let case = format!("{case}, {crash:?} before {time}, recovery crashed at {again}");
            // Both crashes together leave no more than the harsher of the two.
            let judged = if crash == Crash::Kill { second } else { crash };
            explored.images += 1;
            if let Err(what) = journal.judge(&second.of(&state), time, judged) {
                explored.wrong.push(format!("{case}, {second:?}: {what}"));
            }
        }
    }
    explored
}

/// Every sequence of so many operations.
pub(super) fn sequences(len: u32) -> impl Iterator<Item = Vec<Op>> {
    let count = OPS.len().pow(len);
    (0..count).map(move |number| {
        let digit = |place: u32| OPS[number / OPS.len().pow(place) % OPS.len()];
        (0..len).map(digit).collect()
    })
}

/// A sequence that a seed stands for.
pub(super) fn random_sequence(seed: u64, len: usize) -> Vec<Op> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        OPS[usize::try_from((state >> 33) % OPS.len() as u64).unwrap()]
    };
    (0..len).map(|_| next()).collect()
}

/// Explores many sequences, on as many threads as there are cores. Says now and then how far it is,
/// for the long sets go on for an hour.
pub(super) fn explore_all(cases: &[(Vec<Op>, Setup)], depth: Depth) -> Explored {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let next = AtomicUsize::new(0);
    let tell_every = (cases.len() / 50).max(1_000);
    let all = Mutex::new(Explored::default());
    let explore_some = || {
        while let Some((ops, setup)) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
            let explored = explore(ops, *setup, depth);
            let mut all = all.lock().unwrap();
            all.merge(explored);
            all.sequences += 1;
            if all.sequences % tell_every == 0 {
                all.tell(cases.len());
            }
        }
    };
    std::thread::scope(|scope| {
        (0..threads).for_each(|_| drop(scope.spawn(explore_some)));
    });
    all.into_inner().unwrap()
}

#[test]
fn no_crash_in_any_short_sequence_of_operations_breaks_a_promise() {
    let depth = if long() {
        Depth { random: 2, recovery_every: 29 }
    } else {
        Depth { random: 1, recovery_every: 13 }
    };
    let short = (1..=sequence_len_max()).flat_map(sequences).zip(0..);
    let cases: Vec<_> = short.map(|(ops, number)| (ops, Setup::number(number))).collect();
    explore_all(&cases, depth).assert_kept(10_000);
}

#[test]
fn no_crash_in_a_long_sequence_of_operations_breaks_a_promise() {
    let count = if long() { 3_000 } else { 60 };
    let depth = Depth { random: 4, recovery_every: 11 };
    let case = |seed: u64| {
        let len = 3 + usize::try_from(seed % 18).unwrap();
        (random_sequence(seed, len), Setup::number(seed))
    };
    let cases: Vec<_> = (0..count).map(case).collect();
    explore_all(&cases, depth).assert_kept(1_000);
}
