//! `sapwood verify`.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroUsize;
use std::ops::{ControlFlow, Range};
use std::thread::available_parallelism;

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use sapwood::{
    Broker, Corruption, DirectoryDump, Error, PartitionDump, PartitionVerification, SegmentPart,
    TopicPartition,
};
use serde::{Serialize, Serializer};

use crate::directory::Directory;
use crate::exit::{Code, Result, Stop};
use crate::output::{self, Table, bytes_text, say, tell, warn};
use crate::priority::yield_to_others;
use crate::signals::Interrupt;

/// Read everything and say what is damaged
///
/// Reads every record of every topic, on all cores, and checks checksums, codecs, the records
/// themselves, and that nothing is missing between them. Goes on behind damage. A directory that cannot
/// be opened is checked file by file. Works beside a process that has the directory open, which goes first
/// on the processors, and changes nothing.
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
        yield_to_others();
        let report = match Broker::open_read_only(directory.path()?) {
            Ok(broker) => self.verify(&broker, &interrupt)?,
            Err(Error::Corrupt(damage)) => {
                warn(format_args!("the directory cannot be opened: {damage}"));
                by_file(directory, &damage, &interrupt)?
            }
            Err(error) => return Err(error.into()),
        };
        if self.json {
            output::json(&report)?;
        } else {
            report.print()?;
        }
        interrupt.check()?;
        report.verdict()
    }

    fn verify(&self, broker: &Broker, interrupt: &Interrupt) -> Result<Report> {
        let bar = bar();
        let threads = self.threads.or_else(|| available_parallelism().ok());
        let verified = broker.verify_with(threads.unwrap_or(NonZeroUsize::MIN), |progress| {
            bar.set_length(progress.bytes_total);
            bar.set_position(progress.bytes_done);
            bar.set_message(match progress.damage_found {
                0 => String::new(),
                damage => format!(", {damage} damaged"),
            });
            if interrupt.check().is_ok() {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        });
        bar.finish_and_clear();
        let verified = verified?;
        let partitions = verified.partitions.iter().map(Found::of).collect();
        Ok(Report::new(verified.is_complete, partitions))
    }
}

pub(crate) const ADVICE: &str = "`sapwood salvage` makes a new directory of what is intact, `sapwood dump` \
                      shows what lies there";

fn bar() -> ProgressBar {
    // Draws nothing where standard error is no terminal.
    let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr_with_hz(5));
    let template = "{wide_bar} {bytes}/{total_bytes} {binary_bytes_per_sec}{msg}, {eta} left";
    bar.with_style(ProgressStyle::with_template(template).expect("the template is a constant"))
}

/// What a directory holds that a broker refuses to open.
fn by_file(directory: &Directory, refusal: &Corruption, interrupt: &Interrupt) -> Result<Report> {
    let (mut complete, mut partitions) = (true, Vec::new());
    for partition in DirectoryDump::open(directory.path()?)?.partitions()? {
        if interrupt.check().is_err() {
            complete = false;
            break;
        }
        partitions.push(read_files(&partition)?);
    }
    // What it was refused for need not lie in a batch: it may be the registry, or a file that is gone.
    if partitions.iter().all(|partition| partition.damage.is_empty()) {
        let of = refusal.topic_partition.clone().unwrap_or(TopicPartition::new("-", 0));
        let damage = vec![Damage::of(refusal)];
        partitions.push(Found { damage, ..Found::nothing_of(&of) });
    }
    Ok(Report::new(complete, partitions))
}

fn read_files(partition: &PartitionDump) -> Result<Found> {
    let mut found = Found::nothing_of(partition.topic_partition());
    for segment in partition.segments()? {
        let segment = segment?;
        let path = segment.path().display().to_string();
        for part in segment.parts()? {
            match part? {
                SegmentPart::Batch(batch) if !batch.is_valid => found.damage.push(Damage {
                    path: path.clone(),
                    bytes: batch.file_position..batch.file_position + batch.size,
                    offsets: batch.base_offset..batch.last_offset.saturating_add(1),
                    reason: "the checksum is wrong".to_owned(),
                }),
                SegmentPart::Batch(batch) => {
                    match batch
                        .records()
                        .and_then(|records| records.iter().try_for_each(|r| r.map(drop)))
                    {
                        Ok(()) => {
                            found.batches += 1;
                            found.records += u64::from(batch.record_count);
                            found.bytes += batch.size;
                        }
                        Err(Error::Corrupt(damage)) => found.damage.push(Damage::of(&damage)),
                        Err(error) => return Err(error.into()),
                    }
                }
                SegmentPart::Damage(damage) => found.damage.push(Damage::of(&damage)),
                _ => {}
            }
        }
    }
    Ok(found)
}

/// What was found in a directory.
#[derive(Serialize)]
struct Report {
    complete: bool,
    intact: bool,
    partitions: Vec<Found>,
}

/// What was found in a partition.
#[derive(Serialize)]
struct Found {
    topic: String,
    partition: u32,
    batches: u64,
    records: u64,
    bytes: u64,
    damage: Vec<Damage>,
}

impl Found {
    fn nothing_of(of: &TopicPartition) -> Self {
        let (topic, partition) = (of.topic().to_owned(), of.partition());
        Self { topic, partition, batches: 0, records: 0, bytes: 0, damage: Vec::new() }
    }

    fn of(verified: &PartitionVerification) -> Self {
        Self {
            batches: verified.batches,
            records: verified.records,
            bytes: verified.bytes,
            damage: verified.damage.iter().map(Damage::of).collect(),
            ..Self::nothing_of(&verified.topic_partition)
        }
    }
}

impl Report {
    fn new(complete: bool, partitions: Vec<Found>) -> Self {
        let intact = partitions.iter().all(|partition| partition.damage.is_empty());
        Self { complete, intact, partitions }
    }

    /// The partitions of each topic in one row, and then every damage.
    fn print(&self) -> Result {
        let mut topics: BTreeMap<&str, Vec<&Found>> = BTreeMap::new();
        for partition in &self.partitions {
            topics.entry(&partition.topic).or_default().push(partition);
        }
        let header = ["TOPIC", "PARTITIONS", "BATCHES", "RECORDS", "SIZE", "VERDICT"];
        let mut table = Table::new(header);
        for (topic, partitions) in topics {
            let sum = |of: fn(&Found) -> u64| partitions.iter().map(|found| of(found)).sum::<u64>();
            table.row([
                topic.to_owned(),
                partitions.len().to_string(),
                sum(|found| found.batches).to_string(),
                sum(|found| found.records).to_string(),
                bytes_text(sum(|found| found.bytes)),
                match sum(|found| found.damage.len() as u64) {
                    0 => "intact".to_owned(),
                    damage => format!("damaged ({damage})"),
                },
            ]);
        }
        table.print()?;
        let damage = self.partitions.iter().flat_map(|partition| &partition.damage);
        damage.for_each(|damage| tell(output::printable(&damage.to_string())));
        if !self.complete {
            say("broken off: what comes after these was not read")?;
        }
        Ok(())
    }

    /// Fails if anything is damaged.
    fn verdict(&self) -> Result {
        let damage = |found: &Found| found.damage.len() as u64;
        let places = self.partitions.iter().map(damage).sum();
        if places == 0 {
            return Ok(());
        }
        let partitions = self.partitions.iter().filter(|found| damage(found) > 0).count() as u64;
        let (places, partitions) = (count(places, "place"), count(partitions, "partition"));
        let sentence = format!("{places} in {partitions} damaged; nothing was changed; {ADVICE}");
        Err(Stop::failed(Code::Damaged, sentence))
    }
}

/// A number and what is counted.
pub(crate) fn count(number: u64, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

/// A place that is damaged.
#[derive(Serialize)]
pub(crate) struct Damage {
    path: String,
    #[serde(serialize_with = "pair")]
    bytes: Range<u64>,
    #[serde(serialize_with = "pair")]
    offsets: Range<u64>,
    reason: String,
}

impl Damage {
    pub(crate) fn of(damage: &Corruption) -> Self {
        Self {
            path: damage.path.display().to_string(),
            bytes: damage.bytes.clone(),
            offsets: damage.offsets.clone(),
            reason: damage.reason.clone(),
        }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)?;
        if !self.bytes.is_empty() {
            write!(f, " at bytes {}..{}", self.bytes.start, self.bytes.end)?;
        }
        if !self.offsets.is_empty() {
            write!(f, " (offsets {}..{})", self.offsets.start, self.offsets.end)?;
        }
        write!(f, ": {}", self.reason)
    }
}

/// From, and up to but not including.
fn pair<S: Serializer>(range: &Range<u64>, serializer: S) -> Result<S::Ok, S::Error> {
    [range.start, range.end].serialize(serializer)
}
