//! Fault F1: a process that is killed at any moment loses nothing that was acknowledged, invents
//! nothing, repeats nothing and reuses no offset (contract, clauses 1 to 4, 19, 28).
//!
//! The worker of the soak, killed over and over; `SAPWOOD_KILL_ROUNDS` times.

use std::thread;
use std::time::Duration;

use super::life::{Life, SharedOracle};
use super::oracle::End;
use super::random::Random;
use super::{PATIENCE, assert_no_complaints, child_of_own, judge, number, seed};

#[test]
fn a_killed_process_loses_nothing_that_was_acknowledged() {
    let (directory, oracle, seed) = (tempfile::tempdir().unwrap(), SharedOracle::default(), seed());
    let mut random = Random::new(seed);
    let rounds = number("SAPWOOD_KILL_ROUNDS").unwrap_or(25);
    for round in 1..=rounds {
        let mut child = child_of_own("work", directory.path(), seed, round);
        let life = Life::start(&mut child, &oracle).unwrap();
        // A moment like any other: there is nothing to wait for.
        let delay = Duration::from_millis(random.below(250));
        thread::sleep(delay);
        // Now and then it is told to close.
        let closes = round % 6 == 0;
        let ended = if closes { life.close(PATIENCE) } else { life.kill() }.unwrap();
        assert_eq!(oracle.lock().has_closed(), closes, "round {round}: {}", ended.status);
        let what = || format!("seed {seed}, round {round}, ended after {delay:?}");
        assert_no_complaints(&ended, &what);
        judge(directory.path(), &oracle, End::Killed, &what);
    }
    let oracle = oracle.lock();
    println!("{rounds} rounds, {} operations, {} verified", oracle.operations, oracle.verified);
    assert!(oracle.operations > rounds, "the child has come to work");
}
