//! Goal: the promises hold on a real disk and a real kernel, whatever happens to the process, the
//! disk or the machine's means (contract, faults F1 to F4, F7, F9, F10).
//!
//! Method: this test binary starts itself as a child, whose acknowledgements come over a pipe, does
//! something terrible to it or to what it stands on, and has the oracle of the soak judge what is
//! left. What the machine lacks for a test (root, loop devices, `strace`, ...) is said aloud, and
//! written to the file that `SAPWOOD_SKIPPED` names.
//!
//! | variable | what it sets |
//! |---|---|
//! | `SAPWOOD_SEED` | the seed, which every failure names |
//! | `SAPWOOD_KILL_ROUNDS` | rounds of the kill loop |
//! | `SAPWOOD_POWER_LOSS_ROUNDS` | rounds of the power loss |
//! | `SAPWOOD_LONG` | every n-th system call fails, instead of a sample |

#[path = "../../../examples/soak/life.rs"]
mod life;
#[path = "../../../examples/soak/oracle.rs"]
mod oracle;
#[path = "../../../examples/soak/payload.rs"]
mod payload;
#[path = "../../../examples/soak/random.rs"]
mod random;
#[path = "../../../examples/soak/report.rs"]
mod report;
#[path = "../../../examples/soak/worker.rs"]
mod worker;

mod full_disk;
mod kill;
mod limits;
mod lock;
mod mount;
mod power_loss;
mod steps;
mod system_calls;

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::hash::{BuildHasher, RandomState};
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use sapwood::{Broker, Record};

use self::life::{Ended, SharedOracle};
use self::oracle::End;

/// What the child does, and in which directory; with which seed, in which life.
const JOB: &str = "SAPWOOD_REAL_JOB";
const DIRECTORY: &str = "SAPWOOD_REAL_DIRECTORY";
const SEED: &str = "SAPWOOD_SEED";
const LIFE: &str = "SAPWOOD_REAL_LIFE";

/// A child that does not end by itself within this time hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// Not a test of its own: what the children of the others do.
#[test]
fn child() {
    let Ok(job) = std::env::var(JOB) else { return };
    let directory = std::env::var(DIRECTORY).unwrap();
    let directory = Path::new(&directory);
    // The test harness may have left a line unfinished.
    println!();
    match job.as_str() {
        "work" => work(directory),
        "steps" => steps::run(directory, number(LIFE).unwrap()),
        "hold" => lock::hold(directory),
        "starve" => limits::starve(directory),
        "exhaust" => limits::exhaust_descriptors(directory),
        unknown => panic!("{unknown} is no job"),
    }
}

fn work(directory: &Path) {
    worker::run(directory, number(SEED).unwrap(), number(LIFE).unwrap()).unwrap();
}

/// Sets up a program, which is or runs this test binary, as the child.
fn as_child(command: &mut Command, job: &str, directory: &Path, seed: u64, life: u64) {
    command.args(["--exact", "real::child", "--nocapture"]);
    command.env(JOB, job).env(DIRECTORY, directory);
    command.env(SEED, seed.to_string()).env(LIFE, life.to_string());
}

fn child_of_own(job: &str, directory: &Path, seed: u64, life: u64) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    as_child(&mut command, job, directory, seed, life);
    command
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap())
}

/// The seed that was asked for, or a new one.
fn seed() -> u64 {
    number(SEED).unwrap_or_else(|| RandomState::new().hash_one("seed") % 1_000_000)
}

/// Says aloud that a test cannot be run here.
fn skip(test: &str, why: &str) {
    println!("SKIPPED: {test}: {why}");
    if let Some(list) = std::env::var_os("SAPWOOD_SKIPPED") {
        let mut list = OpenOptions::new().create(true).append(true).open(list).unwrap();
        writeln!(list, "{test}: {why}").unwrap();
    }
}

/// Whether a program can be started at all.
fn is_there(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
}

/// Opens what the child has left and judges it. `what` says how it came to be left so.
fn judge(directory: &Path, oracle: &SharedOracle, end: End, what: &dyn Fn() -> String) {
    let mut oracle = oracle.lock();
    match Broker::open(directory) {
        Err(error) => oracle.note_wrong(format!("it cannot be opened: {error}")),
        Ok(broker) => {
            if let Err(error) = oracle.judge(&broker, end) {
                oracle.note_wrong(format!("it cannot be read: {error}"));
            }
        }
    }
    if !oracle.is_content() {
        let mut text = what();
        for finding in oracle.findings() {
            write!(text, "\n  {finding}").unwrap();
        }
        panic!("lost {}, wrong {}: {text}", oracle.lost, oracle.wrong);
    }
}

/// What was recovered is a log like any other.
fn assert_goes_on(directory: &Path) {
    let broker = Broker::open(directory).unwrap();
    for partition in broker.topics().unwrap().iter().flat_map(sapwood::Topic::partitions) {
        let end = partition.log_end_offset();
        assert_eq!(partition.append(&[Record::new("more")]).unwrap().offset, end);
    }
}

fn assert_no_complaints(ended: &Ended, what: &dyn Fn() -> String) {
    assert!(ended.complaints.is_empty(), "{}: {}", what(), ended.complaints);
}
