//! Calls that fail (faults F3, F4; clauses 7-10, 12, 34): every one of them once, in every way it can,
//! and a disk that is full at every size. Whoever calls is told by a typed error; the same call
//! succeeds once there is space; and what was acknowledged is there, whatever comes after.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sapwood::{BrokerBuilder, Error, PowerLoss, SimulatedDisk, Verdict};

use super::journal::{Crash, open};
use super::workload::{Op, Setup, World};

/// Every kind of operation, each more than once and in more than one place.
const TOUR: [Op; 22] = [
    Op::AppendSynced,
    Op::AppendWritten,
    Op::CreateOrDelete,
    Op::Send,
    Op::Commit,
    Op::Roll,
    Op::Flush,
    Op::Maintain,
    Op::DeleteRecords,
    Op::AppendSynced,
    Op::Roll,
    Op::Commit,
    Op::CreateOrDelete,
    Op::AppendWritten,
    Op::Maintain,
    Op::Close,
    Op::Send,
    Op::Kill,
    Op::AppendWritten,
    Op::CreateOrDelete,
    Op::Commit,
    Op::Roll,
];

const EIO: i32 = 5;
const EMFILE: i32 = 24;
const ENOSPC: i32 = 28;

/// Whether a failure says what failed.
fn is_typed(error: &Error) -> bool {
    match error {
        Error::Io { .. } | Error::StorageFull { .. } => true,
        Error::PartitionFailed { source, .. } | Error::SendFailed { source, .. } => {
            is_typed(source)
        }
        _ => false,
    }
}

/// Which calls are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Calls {
    Changes,
    Others,
}

/// Fails the `n`-th of these calls; says whether it came to that.
fn fail_nth(disk: &SimulatedDisk, calls: Calls, n: u64, verdict: Verdict) -> Arc<AtomicU64> {
    let seen = Arc::new(AtomicU64::new(0));
    let counting = Arc::clone(&seen);
    disk.on_call(move |call| {
        if call.kind.is_change() != (calls == Calls::Changes) {
            return Verdict::Proceeds;
        }
        let number = counting.fetch_add(1, Ordering::Relaxed);
        if number == n { verdict } else { Verdict::Proceeds }
    });
    seen
}

/// Does all there is to do on a disk on which one call fails. What fails is repeated if that may help;
/// otherwise the broker is opened again, as its owner would.
fn tour_with_failure(calls: Calls, n: u64, verdict: Verdict, setup: Setup) -> Result<bool, String> {
    let mut world = World::new(setup);
    let seen = fail_nth(&world.disk, calls, n, verdict);
    for (step, op) in TOUR.into_iter().enumerate() {
        let Err(error) = world.reopen_if_needed().and_then(|()| world.apply(op)) else { continue };
        let said = format!("step {step}, {op:?}: {error}");
        if !is_typed(&error) {
            return Err(said);
        }
        if error.is_retriable() {
            let again = world.reopen_if_needed().and_then(|()| world.apply(op));
            again.map_err(|second| format!("{said}; and repeated: {second}"))?;
        } else {
            let again = world.apply(Op::Kill);
            again.map_err(|second| format!("{said}; and opened again: {second}"))?;
        }
    }
    world.disk.revive();
    judge_all(&world)?;
    Ok(seen.load(Ordering::Relaxed) > n)
}

/// Judges what a kill and some power cuts leave at the end.
fn judge_all(world: &World) -> Result<(), String> {
    let time = world.disk.calls();
    let losses = [
        PowerLoss::LosesEverything,
        PowerLoss::LosesNothing,
        PowerLoss::Random(time),
        PowerLoss::Random(time + 1),
    ];
    let crashes = losses.into_iter().map(Crash::Power).chain([Crash::Kill]);
    for crash in crashes {
        let judged = world.journal.judge(&crash.of(&world.disk), time, crash);
        judged.map_err(|what| format!("then {crash:?}: {what}"))?;
    }
    Ok(())
}

/// Lets each call fail in turn until there is none left; returns how many there were.
fn fail_each(calls: Calls, verdict: Verdict, setup: Setup) -> u64 {
    for n in 0.. {
        match tour_with_failure(calls, n, verdict, setup) {
            Ok(true) => {}
            Ok(false) => return n,
            Err(what) => panic!("{calls:?} {n}, {verdict:?}, {setup:?}: {what}"),
        }
    }
    unreachable!("a tour ends")
}

/// The first broken promise when each change fails with an input/output error.
#[cfg(feature = "mutants")]
pub(super) fn fail_each_change() -> Result<(), String> {
    for n in 0.. {
        if !tour_with_failure(Calls::Changes, n, Verdict::Fails(EIO), Setup::ALL[0])? {
            break;
        }
    }
    Ok(())
}

#[test]
fn no_change_that_fails_breaks_a_promise() {
    let verdicts = [
        Verdict::Fails(EIO),
        Verdict::Fails(ENOSPC),
        Verdict::FailsAfter(40, EIO),
        Verdict::FailsAfter(100, ENOSPC),
    ];
    for (verdict, setup) in verdicts.into_iter().flat_map(|v| Setup::ALL.map(|setup| (v, setup))) {
        let failed = fail_each(Calls::Changes, verdict, setup);
        println!("{failed} changes failed, {verdict:?}, {setup:?}");
        assert!(failed > 150);
    }
}

#[test]
fn no_read_that_fails_breaks_a_promise() {
    let verdicts = [Verdict::Fails(EIO), Verdict::Fails(EMFILE)];
    for (verdict, setup) in verdicts.into_iter().cycle().zip(Setup::ALL) {
        let failed = fail_each(Calls::Others, verdict, setup);
        println!("{failed} other calls failed, {verdict:?}, {setup:?}");
        assert!(failed > 150);
    }
}

/// Goes on a tour on a disk with so much room, and once more with all it needs.
fn tour_on_full_disk(room: u64, setup: Setup) -> Result<bool, String> {
    let mut world = World::new(setup);
    world.disk.set_capacity(Some(world.disk.used() + room));
    let mut was_full = false;
    for op in TOUR {
        let Err(error) = world.reopen_if_needed().and_then(|()| world.apply(op)) else { continue };
        if !error.is_retriable() || !is_typed(&error) {
            return Err(format!("{op:?} on a full disk: {error}"));
        }
        was_full = true;
    }
    readable_when_full(&world)?;
    world.disk.set_capacity(None);
    for op in TOUR {
        let gone_on = world.reopen_if_needed().and_then(|()| world.apply(op));
        gone_on.map_err(|error| format!("{op:?} once there is space: {error}"))?;
    }
    judge_all(&world)?;
    Ok(was_full)
}

/// A log on a full disk can be read, and opens for writing or says that it needs space.
fn readable_when_full(world: &World) -> Result<(), String> {
    let disk = world.disk.snapshot();
    match open(&disk) {
        Ok(_) | Err(Error::StorageFull { .. }) => {}
        Err(error) => return Err(format!("a full disk, opened: {error}")),
    }
    let read_only = BrokerBuilder::simulated(&world.disk.snapshot()).open_read_only();
    let verified = read_only.and_then(|broker| broker.verify());
    match verified {
        Ok(report) if report.is_intact() => Ok(()),
        Ok(report) => Err(format!("a full disk, verified: {report:?}")),
        Err(error) => Err(format!("a full disk, opened read-only: {error}")),
    }
}

#[test]
fn wherever_a_disk_is_full_the_same_calls_succeed_once_there_is_space() {
    for setup in Setup::ALL {
        let mut full = 0;
        // A mapped tail takes 64 KiB at a time.
        let step = if setup.mapped_tails { 1_013 } else { 53 };
        for room in (0..).map(|n| n * step) {
            match tour_on_full_disk(room, setup) {
                Ok(true) => full += 1,
                Ok(false) => break,
                Err(what) => panic!("{room} bytes of room, {setup:?}: {what}"),
            }
        }
        println!("{full} sizes of a full disk, {setup:?}");
        assert!(full > 50);
    }
}
