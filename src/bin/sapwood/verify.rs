//! `sapwood verify`.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::thread::available_parallelism;

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use sapwood::{Corruption, PartitionVerification, VerifyReport};
use serde::Serialize;

use crate::directory::Directory;
use crate::exit::{Code, Result, Stop};
use crate::output::{self, Table, bytes_text, say, tell};
use crate::signals::Interrupt;

/// Read everything and say what is damaged
///
/// Reads every record of every topic, on all cores, and checks checksums, codecs, the records
/// themselves, and that nothing is missing between them. Goes on behind damage. Works beside a process
/// that has the directory open, and changes nothing.
///
/// Ends with exit code 0 if everything is intact and 5 if anything is damaged.
#[derive(Args)]
#[command(after_help = "\
Examples:
  sapwood verify
  sapwood verify --json | jq '.partitions[] | select(.damage != [])'
  sapwood verify --threads 1")]
pub(crate) struct Verify {
    /// How many threads read; as many as there are cores, unless given
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,

    /// Print what was found, partition by partition, as a JSON object
    #[arg(long)]
    json: bool,
}

impl Verify {
    pub(crate) fn run(&self, directory: &Directory) -> Result {
        let interrupt = Interrupt::install()?;
        let broker = directory.read().map_err(|stop| match stop {
            Stop::Failed { code: Code::Damaged, sentence } => {
                Stop::failed(Code::Damaged, format!("{sentence}; {ADVICE}"))
            }
            stop => stop,
        })?;
        let bar = bar();
        let threads = self.threads.or_else(|| available_parallelism().ok());
        let report = broker.verify_with(threads.unwrap_or(NonZeroUsize::MIN), |progress| {
            bar.set_length(progress.bytes_total);
            bar.set_position(progress.bytes_done);
            bar.set_message(match progress.damage_found {
                0 => String::new(),
                damage => format!(", {damage} damaged"),
            });
            if interrupt.check().is_err() {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        bar.finish_and_clear();
        let report = report?;
        if self.json {
            output::json(&ReportView::of(&report))?;
        } else {
            print(&report)?;
        }
        interrupt.check()?;
        verdict(&report)
    }
}

const ADVICE: &str = "`sapwood salvage` makes a new directory of what is intact, `sapwood dump` \
                      shows what lies there";

fn bar() -> ProgressBar {
    // Draws nothing where standard error is no terminal.
    let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr_with_hz(5));
    let template = "{wide_bar} {bytes}/{total_bytes} {binary_bytes_per_sec}{msg}, {eta} left";
    bar.with_style(ProgressStyle::with_template(template).expect("the template is a constant"))
}

/// The partitions of each topic in one row, and then every damage.
fn print(report: &VerifyReport) -> Result {
    let mut topics: BTreeMap<&str, Vec<&PartitionVerification>> = BTreeMap::new();
    for partition in &report.partitions {
        topics.entry(partition.topic_partition.topic()).or_default().push(partition);
    }
    let mut table = Table::new(["TOPIC", "PARTITIONS", "BATCHES", "RECORDS", "SIZE", "VERDICT"]);
    for (topic, partitions) in topics {
        let sum =
            |of: fn(&PartitionVerification) -> u64| partitions.iter().map(|p| of(p)).sum::<u64>();
        let (batches, records, bytes): (u64, u64, u64) =
            (sum(|p| p.batches), sum(|p| p.records), sum(|p| p.bytes));
        let verdict = match sum(|p| p.damage.len() as u64) {
            0 => "intact".to_owned(),
            damage => format!("damaged ({damage})"),
        };
        table.row([
            topic.to_owned(),
            partitions.len().to_string(),
            batches.to_string(),
            records.to_string(),
            bytes_text(bytes),
            verdict,
        ]);
    }
    table.print()?;
    let damage = report.partitions.iter().flat_map(|partition| &partition.damage);
    damage.for_each(|damage| tell(output::printable(&damage.to_string())));
    if !report.is_complete {
        say("broken off: what comes after these was not read")?;
    }
    Ok(())
}

/// Fails if anything is damaged.
fn verdict(report: &VerifyReport) -> Result {
    let damaged: Vec<_> = report.damaged().collect();
    if damaged.is_empty() {
        return Ok(());
    }
    let places: usize = damaged.iter().map(|partition| partition.damage.len()).sum();
    let (places, partitions) = (count(places, "place"), count(damaged.len(), "partition"));
    let sentence = format!("{places} in {partitions} damaged; nothing was changed; {ADVICE}");
    Err(Stop::failed(Code::Damaged, sentence))
}

/// A number and what is counted.
pub(crate) fn count(number: usize, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

#[derive(Serialize)]
struct ReportView {
    complete: bool,
    intact: bool,
    partitions: Vec<PartitionView>,
}

#[derive(Serialize)]
struct PartitionView {
    topic: String,
    partition: u32,
    batches: u64,
    records: u64,
    bytes: u64,
    damage: Vec<DamageView>,
}

/// Damage, for programs.
#[derive(Serialize)]
pub(crate) struct DamageView {
    path: String,
    /// From, and up to but not including.
    bytes: [u64; 2],
    offsets: [u64; 2],
    reason: String,
}

impl DamageView {
    pub(crate) fn of(damage: &Corruption) -> Self {
        Self {
            path: damage.path.display().to_string(),
            bytes: [damage.bytes.start, damage.bytes.end],
            offsets: [damage.offsets.start, damage.offsets.end],
            reason: damage.reason.clone(),
        }
    }
}

impl ReportView {
    fn of(report: &VerifyReport) -> Self {
        let partition = |verified: &PartitionVerification| PartitionView {
            topic: verified.topic_partition.topic().to_owned(),
            partition: verified.topic_partition.partition(),
            batches: verified.batches,
            records: verified.records,
            bytes: verified.bytes,
            damage: verified.damage.iter().map(DamageView::of).collect(),
        };
        Self {
            complete: report.is_complete,
            intact: report.is_intact(),
            partitions: report.partitions.iter().map(partition).collect(),
        }
    }
}
