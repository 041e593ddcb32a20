//! Fault F7: power is lost under a working process, on a real ext4. What a sync has answered for is
//! there, of what was only written no more is gone than was acknowledged within one flush interval,
//! what is left is a prefix without gaps, and nothing of it is taken for damage (contract, clauses 1
//! to 5, 13, 23).
//!
//! The same file system goes through all rounds (`SAPWOOD_POWER_LOSS_ROUNDS`), so that what one
//! round's recovery has written is what the next power loss hits.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::life::{Life, SharedOracle};
use super::mount::Mount;
use super::oracle::End;
use super::random::Random;
use super::{assert_no_complaints, child_of_own, is_there, judge, number, seed, skip};

#[test]
fn a_power_loss_takes_nothing_that_was_promised() {
    let name = "power loss on ext4";
    if !is_there("python3") {
        return skip(name, "there is no python3 to shut the file system down with");
    }
    let mount = match Mount::ext4(128 << 20) {
        Ok(mount) => mount,
        Err(why) => return skip(name, &why),
    };
    let (oracle, seed) = (SharedOracle::default(), seed());
    let mut random = Random::new(seed);
    let rounds = number("SAPWOOD_POWER_LOSS_ROUNDS").unwrap_or(25);
    for round in 1..=rounds {
        let mut plug = Plug::new(&mount, random.next());
        let mut child = child_of_own("work", &mount.path(), seed, round);
        let life = Life::start(&mut child, &oracle).unwrap();
        // A moment like any other: there is nothing to wait for. Sometimes one at which everything
        // must have been flushed that was written at first.
        let least = if round % 4 == 0 { 1_600 } else { 20 };
        thread::sleep(Duration::from_millis(least + random.below(800)));
        let at = plug.pull();
        let ended = life.kill().unwrap();
        let what = || format!("seed {seed}, round {round}");
        assert_no_complaints(&ended, &what);
        mount.remount();
        judge(&mount.path(), &oracle, End::PowerLoss(at), &what);
    }
    let oracle = oracle.lock();
    println!("{rounds} rounds, {} operations, {} verified", oracle.operations, oracle.verified);
    assert!(oracle.operations > rounds, "the child has come to work");
}

/// A process that is ready to shut a file system down.
struct Plug(Child);

impl Plug {
    fn new(mount: &Mount, seed: u64) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/real/power_cut.py");
        let mut child = Command::new("python3")
            .arg(script)
            .arg(mount.path())
            .arg(seed.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        assert_eq!(line_of(&mut child), "ready");
        Self(child)
    }

    /// Returns a moment shortly before the one from which nothing gets to the disk any more.
    fn pull(&mut self) -> Instant {
        let at = Instant::now();
        let mut input = self.0.stdin.take().unwrap();
        input.write_all(b"now\n").unwrap();
        assert_eq!(line_of(&mut self.0), "down");
        assert!(self.0.wait().unwrap().success());
        at
    }
}

/// Left behind in a panic it would keep the file system busy.
impl Drop for Plug {
    fn drop(&mut self) {
        // It has ended already unless something went wrong, and that is being told.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// The next line, and there is no more than that to be read.
fn line_of(child: &mut Child) -> String {
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}
