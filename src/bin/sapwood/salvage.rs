//! `sapwood salvage`.

use std::path::PathBuf;

use clap::Args;
use sapwood::{Fate, PartitionSalvage, SalvageReport};
use serde::Serialize;

use crate::directory::Directory;
use crate::exit::{Code, Result, Stop};
use crate::output::{self, Table, bytes_text, warn};
use crate::verify::count;

/// Make a new directory of what is intact of a damaged one
///
/// Every whole batch keeps its offset; where offsets are lost, batches without records stand in their
/// place. Says of every byte of the damaged directory what became of it. That directory is only read,
/// and no other process may have it open for writing.
///
/// Ends with exit code 0 if nothing is lost and 5 if anything is.
#[derive(Args)]
#[command(after_help = "\
Examples:
  sapwood salvage --to saved
  sapwood salvage --to saved --files
  sapwood salvage --to saved --json | jq '.files[].parts[] | select(.fate == \"damaged\")'")]
pub(crate) struct Salvage {
    /// Where to; must not exist, or be an empty directory
    #[arg(long, value_name = "DIR")]
    to: PathBuf,

    /// Tell of each file what became of its bytes
    #[arg(long)]
    files: bool,

    /// Print all of it as a JSON object
    #[arg(long)]
    json: bool,
}

/// Every fate, with what a person calls it.
const FATES: [(Fate, &str); 9] = [
    (Fate::Copied, "copied"),
    (Fate::Damaged, "damaged"),
    (Fate::Unconnected, "unconnected"),
    (Fate::Deleted, "deleted"),
    (Fate::Zeros, "zeros"),
    (Fate::Derived, "derived"),
    (Fate::SetAside, "set aside"),
    (Fate::Unregistered, "unregistered"),
    (Fate::Foreign, "foreign"),
];

fn name(fate: Fate) -> &'static str {
    FATES.iter().find(|(known, _)| *known == fate).map_or("other", |(_, name)| name)
}

impl Salvage {
    pub(crate) fn run(&self, directory: &Directory) -> Result {
        let report = sapwood::salvage(directory.path()?, &self.to)?;
        if self.json {
            output::json(&ReportView::of(&report))?;
        } else {
            self.print(&report)?;
        }
        if report.is_complete() {
            return Ok(());
        }
        let lost: u64 = report.partitions.iter().map(lost_offsets).sum();
        let damaged = bytes_text(report.bytes(Fate::Damaged));
        let to = self.to.display();
        let sentence = format!(
            "{} lost, {damaged} of the old directory damaged; all else is in {to}",
            count(lost, "offset")
        );
        Err(Stop::failed(Code::Damaged, sentence))
    }

    fn print(&self, report: &SalvageReport) -> Result {
        let mut partitions = Table::new(["TOPIC", "PARTITION", "LOG-START", "LOG-END", "LOST"]);
        for partition in &report.partitions {
            partitions.row([
                partition.topic_partition.topic().to_owned(),
                partition.topic_partition.partition().to_string(),
                partition.log_start_offset.to_string(),
                partition.log_end_offset.to_string(),
                lost_offsets(partition).to_string(),
            ]);
        }
        partitions.print()?;
        output::say("")?;
        let mut account = Table::new(["BYTES", "SIZE"]);
        for (fate, name) in FATES {
            let bytes = report.bytes(fate);
            if bytes > 0 {
                account.row([name.to_owned(), bytes_text(bytes)]);
            }
        }
        account.print()?;
        if self.files {
            output::say("")?;
            files(report).print()?;
        }
        report.notes.iter().for_each(warn);
        Ok(())
    }
}

fn lost_offsets(partition: &PartitionSalvage) -> u64 {
    partition.lost.iter().map(|lost| lost.end - lost.start).sum()
}

/// The parts of every file.
fn files(report: &SalvageReport) -> Table {
    let mut table = Table::new(["FILE", "FROM", "TO", "BECAME"]);
    for file in &report.files {
        for part in &file.parts {
            table.row([
                file.path.display().to_string(),
                part.bytes.start.to_string(),
                part.bytes.end.to_string(),
                name(part.fate).to_owned(),
            ]);
        }
    }
    table
}

#[derive(Serialize)]
struct ReportView {
    directory: String,
    complete: bool,
    partitions: Vec<PartitionView>,
    files: Vec<FileView>,
    notes: Vec<String>,
}

#[derive(Serialize)]
struct PartitionView {
    topic: String,
    partition: u32,
    log_start_offset: u64,
    log_end_offset: u64,
    /// From, and up to but not including.
    lost: Vec<[u64; 2]>,
}

#[derive(Serialize)]
struct FileView {
    path: String,
    size: u64,
    parts: Vec<PartView>,
}

#[derive(Serialize)]
struct PartView {
    bytes: [u64; 2],
    fate: &'static str,
}

impl ReportView {
    fn of(report: &SalvageReport) -> Self {
        let partition = |salvaged: &PartitionSalvage| PartitionView {
            topic: salvaged.topic_partition.topic().to_owned(),
            partition: salvaged.topic_partition.partition(),
            log_start_offset: salvaged.log_start_offset,
            log_end_offset: salvaged.log_end_offset,
            lost: salvaged.lost.iter().map(|lost| [lost.start, lost.end]).collect(),
        };
        let file = |file: &sapwood::FileAccount| FileView {
            path: file.path.display().to_string(),
            size: file.size,
            parts: file
                .parts
                .iter()
                .map(|part| PartView {
                    bytes: [part.bytes.start, part.bytes.end],
                    fate: name(part.fate),
                })
                .collect(),
        };
        Self {
            directory: report.directory.display().to_string(),
            complete: report.is_complete(),
            partitions: report.partitions.iter().map(partition).collect(),
            files: report.files.iter().map(file).collect(),
            notes: report.notes.clone(),
        }
    }
}
