//! `sapwood backup`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use sapwood::{BackupReport, PartitionBackup};
use serde::Serialize;

use crate::directory::Directory;
use crate::exit::Result;
use crate::output::{self, Table, bytes_text, say};
use crate::priority::yield_to_others;

/// Make a copy of the directory, also while it is in use
///
/// The copy opens as if it had been closed in order, with all records that were safe at this moment, the
/// topics with their settings, and what groups have committed. The process that has the directory open
/// goes first on the processors. On the same file system, segments that
/// have ended are hard links and take no space; keep backups on another disk all the same, for one that
/// loses a file loses it for both.
///
/// The copy appears under its name when it is complete and durable.
#[derive(Args)]
#[command(after_help = "\
Examples:
  sapwood backup --to /backup/data-2026-11-26
  sapwood backup --to copy && sapwood --dir copy verify")]
pub(crate) struct Backup {
    /// Where to; must not exist, or be an empty directory
    #[arg(long, value_name = "DIR")]
    to: PathBuf,

    /// Print what was copied, partition by partition, as a JSON object
    #[arg(long)]
    json: bool,
}

impl Backup {
    pub(crate) fn run(&self, directory: &Directory) -> Result {
        yield_to_others();
        let report = directory.read()?.backup(&self.to)?;
        if self.json { output::json(&ReportView::of(&report)) } else { print(&report) }
    }
}

fn print(report: &BackupReport) -> Result {
    let mut topics: BTreeMap<&str, Vec<&PartitionBackup>> = BTreeMap::new();
    for partition in &report.partitions {
        topics.entry(partition.topic_partition.topic()).or_default().push(partition);
    }
    let mut table = Table::new(["TOPIC", "PARTITIONS", "OFFSETS", "LINKED", "COPIED"]);
    for (topic, partitions) in topics {
        let sum = |of: fn(&PartitionBackup) -> u64| partitions.iter().map(|p| of(p)).sum::<u64>();
        table.row([
            topic.to_owned(),
            partitions.len().to_string(),
            sum(|p| p.end_offset - p.log_start_offset).to_string(),
            bytes_text(sum(|p| p.bytes_linked)),
            bytes_text(sum(|p| p.bytes_copied)),
        ]);
    }
    table.print()?;
    say(format_args!(
        "copied to {}: {} linked, {} copied",
        output::printable(&report.directory.display().to_string()),
        bytes_text(report.bytes_linked()),
        bytes_text(report.bytes_copied())
    ))
}

#[derive(Serialize)]
struct ReportView {
    directory: String,
    bytes_linked: u64,
    bytes_copied: u64,
    partitions: Vec<PartitionView>,
}

#[derive(Serialize)]
struct PartitionView {
    topic: String,
    partition: u32,
    log_start_offset: u64,
    end_offset: u64,
    bytes_linked: u64,
    bytes_copied: u64,
}

impl ReportView {
    fn of(report: &BackupReport) -> Self {
        let partition = |copied: &PartitionBackup| PartitionView {
            topic: copied.topic_partition.topic().to_owned(),
            partition: copied.topic_partition.partition(),
            log_start_offset: copied.log_start_offset,
            end_offset: copied.end_offset,
            bytes_linked: copied.bytes_linked,
            bytes_copied: copied.bytes_copied,
        };
        Self {
            directory: report.directory.display().to_string(),
            bytes_linked: report.bytes_linked(),
            bytes_copied: report.bytes_copied(),
            partitions: report.partitions.iter().map(partition).collect(),
        }
    }
}
