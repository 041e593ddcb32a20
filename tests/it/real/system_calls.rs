//! Faults F3 and F2 on the real disk layer: the n-th call of a kind fails, or the process is killed
//! at it. No panic and no hang; what fails is told; what was acknowledged is there (contract, clauses
//! 3, 4, 7 to 10, 14, 23, 24).
//!
//! `strace` makes the calls fail, and only those on files below the directory: a run without faults
//! says which files and how many calls there are. Every other run begins with a directory whose last
//! process was killed, so that recovery is hit as well. Without `SAPWOOD_LONG` a sample of the calls
//! is taken, another one each time.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use super::life::{Life, SharedOracle};
use super::oracle::End;
use super::random::Random;
use super::{
    PATIENCE, as_child, assert_goes_on, assert_no_complaints, child_of_own, is_there, judge, seed,
    skip,
};

/// Calls of a kind, as `strace` names them; a question mark where a machine may not have one.
const CALLS: [&str; 9] = [
    "fdatasync",
    "fsync",
    "pwrite64",
    "openat",
    "?rename,?renameat,?renameat2",
    "ftruncate",
    "?unlink,?unlinkat",
    "?mkdir,?mkdirat",
    "fcntl",
];

/// So many places of each kind are tried, unless all are.
const SAMPLE: u64 = 2;

/// What becomes of the n-th call.
#[derive(Clone, Copy)]
enum Fault {
    Error(&'static str),
    /// The n-th and all after it.
    ErrorsFrom(&'static str),
    Kill,
}

impl Fault {
    fn injection(self, calls: &str, n: u64) -> String {
        match self {
            Self::Error(code) => format!("inject={calls}:error={code}:when={n}"),
            Self::ErrorsFrom(code) => format!("inject={calls}:error={code}:when={n}+"),
            Self::Kill => format!("inject={calls}:signal=KILL:when={n}"),
        }
    }
}

/// The child below `strace`, which looks at these calls and files alone.
fn traced(
    directory: &Path,
    paths: &BTreeSet<String>,
    life: u64,
    calls: &str,
    fault: Option<(Fault, u64)>,
) -> Command {
    let mut command = Command::new("strace");
    // With --seccomp-bpf it would be faster, but strace 6.1 then injects no signals.
    command.args(["-f", "-qq", "-e", "signal=none", "-o"]).arg(log_of(directory));
    for path in paths {
        // Joined to nothing it would end in a slash, and `strace` says that this is not the same.
        let path = if path.is_empty() { directory.to_owned() } else { directory.join(path) };
        command.arg("-P").arg(path);
    }
    command.args(["-e", &format!("trace={calls}")]);
    if let Some((fault, n)) = fault {
        command.args(["-e", &fault.injection(calls, n)]);
    }
    command.arg(std::env::current_exe().unwrap());
    as_child(&mut command, "steps", directory, 0, life);
    command
}

/// Where `strace` writes what it has seen: beside the directory.
fn log_of(directory: &Path) -> std::path::PathBuf {
    directory.with_extension("strace")
}

/// Every path below the directory that a run without faults names, relative to it.
fn paths_named() -> BTreeSet<String> {
    let scratch = tempfile::tempdir().unwrap();
    let directory = scratch.path().join("data");
    let all = "trace=openat,?rename,?renameat,?renameat2,?mkdir,?mkdirat,?unlink,?unlinkat";
    for life in 1..3 {
        let log = log_of(&directory);
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-A", "-e", all, "-o"]).arg(&log);
        command.arg(std::env::current_exe().unwrap());
        as_child(&mut command, "steps", &directory, 0, life);
        assert!(command.output().unwrap().status.success());
    }
    let named = fs::read_to_string(log_of(&directory)).unwrap();
    let root = directory.to_str().unwrap();
    let paths = named.split('"').filter_map(|quoted| quoted.strip_prefix(root));
    paths.map(|path| path.trim_matches('/').to_owned()).collect()
}

/// How often the steps make a call of a kind: in a new directory, and in one that was killed.
fn count(paths: &BTreeSet<String>, calls: &str) -> u64 {
    let scratch = tempfile::tempdir().unwrap();
    let directory = scratch.path().join("data");
    let output = traced(&directory, paths, 1, calls, None).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    fs::read_to_string(log_of(&directory)).unwrap().lines().count() as u64
}

/// One run with one fault; returns whether it was hit.
fn run_with(
    paths: &BTreeSet<String>,
    calls: &str,
    (fault, n): (Fault, u64),
    kill_first: Option<u64>,
) -> bool {
    let scratch = tempfile::tempdir().unwrap();
    let directory = scratch.path().join("data");
    let oracle = SharedOracle::default();
    if let Some(n) = kill_first {
        let mut command = traced(&directory, paths, 1, "pwrite64", Some((Fault::Kill, n)));
        let life = Life::start(&mut command, &oracle).unwrap();
        life.wait(PATIENCE).unwrap();
    }
    let injection = fault.injection(calls, n);
    let what = || format!("{injection}, killed before at the pwrite {kill_first:?}");
    let mut command = traced(&directory, paths, 2, calls, Some((fault, n)));
    let life = Life::start(&mut command, &oracle).unwrap();
    let ended = life.wait(PATIENCE).unwrap_or_else(|error| panic!("{}: {error}", what()));
    assert_no_complaints(&ended, &what);
    assert!(ended.status.success() || matches!(fault, Fault::Kill), "{}: {}", what(), ended.status);
    let hit = fs::read_to_string(log_of(&directory)).unwrap().contains("INJECTED")
        || !ended.status.success();
    judge(&directory, &oracle, End::Refused, &what);

    // And with nothing in its way it goes on as if nothing had been.
    let life = Life::start(&mut child_of_own("steps", &directory, 0, 3), &oracle).unwrap();
    let ended = life.wait(PATIENCE).unwrap();
    assert!(ended.status.success() && ended.complaints.is_empty(), "{}", ended.complaints);
    judge(&directory, &oracle, End::Killed, &|| format!("afterwards, {}", what()));
    assert_goes_on(&directory);
    hit
}

fn every_call(name: &str, fault: Fault) {
    if !is_there("strace") {
        return skip(name, "there is no strace");
    }
    if !Command::new("strace").arg("true").output().unwrap().status.success() {
        return skip(name, "strace may not trace here");
    }
    let (seed, all) = (seed(), std::env::var_os("SAPWOOD_LONG").is_some());
    println!("{name}: seed {seed}");
    let mut random = Random::new(seed);
    let paths = paths_named();
    let (mut cases, mut hits) = (0, 0);
    for calls in CALLS {
        let count = count(&paths, calls);
        assert!(count > 0, "no {calls} to fail");
        let sampled = count.min(SAMPLE);
        let places = if all { count } else { sampled };
        for place in 0..places {
            // The places are spread over the run, and differ from run to run.
            let n =
                if all { place + 1 } else { 1 + (place * count + random.below(count)) / sampled };
            let kill_first = (cases % 2 == 1).then(|| 1 + random.below(60));
            hits += u64::from(run_with(&paths, calls, (fault, n), kill_first));
            cases += 1;
        }
    }
    println!("{name}: {hits} of {cases} cases hit");
    assert!(hits * 2 > cases, "only {hits} of {cases} faults came to happen");
}

#[test]
fn an_error_of_any_call_is_told_and_costs_nothing_acknowledged() {
    every_call("EIO", Fault::Error("EIO"));
}

#[test]
fn no_space_at_any_call_is_told_and_costs_nothing_acknowledged() {
    every_call("ENOSPC", Fault::Error("ENOSPC"));
}

#[test]
fn errors_of_all_calls_from_one_on_are_told_and_cost_nothing_acknowledged() {
    every_call("EIO from one on", Fault::ErrorsFrom("EIO"));
}

#[test]
fn a_kill_at_any_call_costs_nothing_acknowledged() {
    every_call("killed at a call", Fault::Kill);
}
