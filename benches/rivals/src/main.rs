//! The same workloads through Sapwood and through other crates that keep records on disk.
//!
//! ```text
//! cargo run --release --manifest-path benches/rivals/Cargo.toml -- [--quick] [--dir DIR] [--only NAME,...]
//! ```
//!
//! Everybody has a turn in every round, so that a slow minute of the machine hits all of them; what
//! is printed is the median of the rounds. Every record is read back and compared. What the numbers
//! mean, and who was left out, stands in `README.md`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use crate::log::{Contender, Result};
use crate::table::{Row, Table, thousands};
use crate::values::Values;
use crate::workload::{Plan, Round, Workload};

mod log;
mod plot;
mod rivals;
mod table;
mod values;
mod workload;

/// Medians are taken over this many rounds.
const ROUNDS: usize = 3;

/// Who appends faster than this many times what the disk syncs cannot have waited for it. Less than
/// that a busy disk may change from one moment to the next.
const TOO_FAST: f64 = 5.0;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rivals: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let arguments = Arguments::parse()?;
    let contenders: Vec<&Contender> =
        rivals::ALL.iter().filter(|contender| arguments.wants(contender)).collect();
    let root = match &arguments.directory {
        Some(directory) => {
            std::fs::create_dir_all(directory)?;
            tempfile::tempdir_in(directory)?
        }
        None => tempfile::tempdir()?,
    };
    tell_walrus(&root);
    let (time, records_max) = if arguments.quick { (120, 200_000) } else { (700, 1_000_000) };
    let plan = Plan {
        root: root.path().to_owned(),
        time: Duration::from_millis(time),
        records_max,
        values: Values::new(),
    };

    let mut outcomes: Vec<Vec<Round>> = contenders.iter().map(|_| Vec::new()).collect();
    for round in 0..ROUNDS {
        for (contender, outcomes) in contenders.iter().zip(&mut outcomes) {
            eprint!("\rround {} of {ROUNDS}: {:<12}", round + 1, contender.name);
            outcomes.push(plan.round(contender, round));
        }
    }
    eprint!("\r{:40}\r", "");

    let rounds = || outcomes.iter().flatten();
    let bare_syncs = median(rounds().map(|round| round.bare_syncs).collect()).ok_or("no round")?;
    let tables = Workload::ALL.map(|workload| {
        let rows = contenders.iter().zip(&outcomes);
        let rows = rows.map(|(contender, of)| row(workload, contender, of)).collect();
        Table { workload, rows }
    });
    print(&tables, &plan, bare_syncs);
    if arguments.only.is_empty() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/rivals.svg");
        plot::write(path.as_ref(), &tables)?;
    }
    Ok(())
}

fn row(workload: Workload, contender: &Contender, rounds: &[Round]) -> Row {
    let outcomes = || rounds.iter().map(|round| &round.outcomes[workload as usize]);
    let rate = median(outcomes().filter_map(|outcome| outcome.rate).collect());
    let mut remarks = vec![workload.remark(contender).to_owned()];
    let bare_syncs = median(rounds.iter().map(|round| round.bare_syncs).collect());
    let too_fast = rate > bare_syncs.map(|syncs| TOO_FAST * syncs);
    if workload == Workload::AppendSynced && too_fast && contender.synced.is_empty() {
        remarks.push("ACKNOWLEDGES EARLY: faster than the disk syncs".to_owned());
    }
    // One fault stands for all: they differ in numbers only.
    remarks.extend(outcomes().find_map(|outcome| outcome.fault.clone()));
    remarks.retain(|remark| !remark.is_empty());
    Row { name: contender.name, version: version(contender.name), rate, remarks }
}

fn print(tables: &[Table], plan: &Plan, bare_syncs: f64) {
    println!(
        "Values of {} bytes, one log, nothing compressed; medians of {ROUNDS} rounds of at most {:?} \
         or {} records per workload. Reads come from the page cache.",
        values::VALUE_BYTES,
        plan.time,
        thousands(plan.records_max as f64),
    );
    println!("Not synced means: the operating system has the bytes. A remark tells who differs.");
    println!(
        "The disk itself, one thread: {} writes with fdatasync per second.\n",
        thousands(bare_syncs)
    );
    for table in tables {
        println!("{}", table.text());
    }
}

fn median(mut numbers: Vec<f64>) -> Option<f64> {
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied()
}

/// The version in use, from the lock file.
fn version(name: &str) -> &'static str {
    let lock = include_str!("../Cargo.lock");
    let entry = lock.split_once(&format!("name = \"{name}\"\nversion = \"")).map(|(_, rest)| rest);
    entry.and_then(|rest| rest.split_once('"')).map_or("?", |(version, _)| version)
}

/// walrus-rust takes its directory and its silence from the environment alone.
#[allow(unsafe_code)]
fn tell_walrus(root: &tempfile::TempDir) {
    // SAFETY: no other thread has been started yet.
    unsafe {
        std::env::set_var("WALRUS_DATA_DIR", root.path());
        std::env::set_var("WALRUS_QUIET", "1");
    }
}

#[derive(Default)]
struct Arguments {
    quick: bool,
    directory: Option<PathBuf>,
    /// Whom to run beside Sapwood; empty for all.
    only: Vec<String>,
}

impl Arguments {
    fn parse() -> Result<Self> {
        let mut parsed = Self::default();
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--quick" => parsed.quick = true,
                "--dir" => {
                    let directory = arguments.next().ok_or("--dir takes a directory")?;
                    parsed.directory = Some(directory.into());
                }
                "--only" => {
                    let names = arguments.next().ok_or("--only takes names")?;
                    parsed.only = names.split(',').map(str::to_owned).collect();
                }
                _ => return Err("usage: [--quick] [--dir DIR] [--only NAME,...]".into()),
            }
        }
        Ok(parsed)
    }

    fn wants(&self, contender: &Contender) -> bool {
        let named = |name| self.only.iter().any(|only| only == name);
        self.only.is_empty() || contender.name == "sapwood" || named(contender.name)
    }
}
