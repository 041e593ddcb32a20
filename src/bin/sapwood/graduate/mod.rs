//! `sapwood graduate`: everything that a Kafka broker needs to take over a directory.
//!
//! The copy is a backup first, which cuts every log where its readers see its end, also beside a
//! process that writes. What is then handed over is judged by the copy alone: [`inspect`] goes over
//! every batch and says what Kafka could not live with, [`scripts`] writes the steps.

mod inspect;
mod making;
mod scripts;

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use clap::Args;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use sapwood::{Broker, DirectoryDump, PartitionDump, Timestamp, TopicConfig};
use serde::Serialize;

use self::inspect::{Inspection, Problem};
use self::making::Making;
use crate::directory::Directory;
use crate::exit::{Code, Result, Stop};
use crate::output::{self, Table, bytes_text, say, tell, warn};
use crate::priority::yield_to_others;
use crate::verify::{ADVICE, count};

/// Prepare a directory for a Kafka broker to take over
///
/// Checks every record and everything else that Kafka would refuse or treat badly, and makes a copy in
/// the form that a broker (Apache Kafka 4) takes over: the partitions' files, scripts that create the
/// topics, put the files in their places, carry the groups' offsets over, add replicas and set retention,
/// and a text that says in which order. What is not right is told, and then nothing is made.
///
/// The directory is only read. A process may have it open for writing: then the copy holds what was safe at
/// this moment, which is good for a rehearsal. For the move itself, close that process first.
///
/// The files are copied, although links would do for a broker that is given copies of them: a broker
/// writes into its files and changes owners, and through a link that would change the original too.
#[derive(Args)]
#[command(after_help = "\
Examples:
  sapwood graduate data --to for-kafka
  sapwood graduate data --to rehearsal --link
  sapwood graduate --dir data --to for-kafka --json | jq '.topics[].name'")]
pub(crate) struct Graduate {
    /// The directory of topics; in place of --dir
    #[arg(value_name = "DIR")]
    from: Option<PathBuf>,

    /// Where to; must not exist, or be an empty directory
    #[arg(long, value_name = "OUT")]
    to: PathBuf,

    /// Hard links of segments that have ended in place of copies: takes no space. Give the files to a
    /// broker by the script alone, which copies them; never move them or change their owner
    #[arg(long)]
    link: bool,

    /// Print what was made as a JSON object
    #[arg(long)]
    json: bool,
}

impl Graduate {
    pub(crate) fn run(&self, directory: &Directory) -> Result {
        yield_to_others();
        let from = match &self.from {
            Some(from) => from,
            None => directory.path()?,
        };
        let broker = Broker::open_read_only(from).map_err(|error| advised(error.into()))?;
        if broker.topics()?.is_empty() {
            let sentence =
                format!("{} holds no topics: there is nothing to take over", from.display());
            return Err(Stop::failed(Code::NotFound, sentence));
        }
        let mut notes = Vec::new();
        let in_use = is_held(from)?;
        if in_use {
            notes.push(format!(
                "another process has {} open for writing: this copy is a rehearsal and holds what was \
                 safe at this moment; for the move itself close that process and run this again",
                from.display()
            ));
        } else if !from.join(CLEAN_SHUTDOWN_FILE).exists() {
            notes.push(format!(
                "{} was not closed in order: this copy holds what is known to be safe; if the \
                 application opens and closes it once more, the rest is checked and kept too",
                from.display()
            ));
        }
        refuse_names(&broker)?;
        let making = Making::begin(&self.to, from)?;
        let mut moved = making.make(|to| {
            let mut copied = copy(&broker, from, &to.join(PARTITIONS), self.link)?;
            copied.in_use = in_use;
            scripts::write(to, &self.to, &copied)?;
            Ok(copied)
        })?;
        notes.append(&mut moved.notes);
        moved.notes = notes;
        if self.json { output::json(&moved.view(&self.to)) } else { self.print(&moved) }
    }

    fn print(&self, moved: &Moved) -> Result {
        let mut table = Table::new(["TOPIC", "PARTITIONS", "RECORDS", "SIZE"]);
        for topic in &moved.topics {
            let sum = |of: fn(&Inspection) -> u64| topic.partitions.iter().map(of).sum::<u64>();
            table.row([
                topic.name.clone(),
                topic.partitions.len().to_string(),
                sum(|partition| partition.records).to_string(),
                bytes_text(sum(|partition| partition.bytes)),
            ]);
        }
        table.print()?;
        moved.notes.iter().for_each(warn);
        say("")?;
        scripts::steps(&self.to, moved).lines().try_for_each(|line| say(output::printable(line)))
    }
}

/// In the copy, where the partitions' directories are.
const PARTITIONS: &str = "partitions";

const CLEAN_SHUTDOWN_FILE: &str = "sapwood.clean-shutdown";

/// What was copied.
struct Moved {
    topics: Vec<MovedTopic>,
    groups: Vec<MovedGroup>,
    /// What a person should know, and nothing depends on.
    notes: Vec<String>,
    in_use: bool,
}

struct MovedTopic {
    name: String,
    config: TopicConfig,
    /// In order of their numbers, from 0.
    partitions: Vec<Inspection>,
}

struct MovedGroup {
    id: String,
    /// Topic, partition, offset.
    offsets: Vec<(String, u32, u64)>,
}

/// Damage that was met on the way is not all that there may be.
fn advised(stop: Stop) -> Stop {
    let is_damage = matches!(&stop, Stop::Failed { code: Code::Damaged, .. });
    if is_damage { stop.after(ADVICE) } else { stop }
}

/// Whether a process has the directory open for writing. Nothing is locked to find out.
fn is_held(directory: &Path) -> Result<bool> {
    let path = directory.join(".lock");
    let file = match fs::File::open(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        opened => opened.map_err(|error| Stop::file("open", &path, &error))?,
    };
    let kind = |kind: libc::c_int| {
        libc::c_short::try_from(kind).expect("kinds of locks are small numbers")
    };
    let wanted = kind(libc::F_WRLCK);
    let mut lock = libc::flock { l_type: wanted, l_whence: 0, l_start: 0, l_len: 0, l_pid: 0 };
    fcntl(file.as_raw_fd(), FcntlArg::F_OFD_GETLK(&mut lock))
        .map_err(|error| Stop::file("ask for the lock of", &path, &error.into()))?;
    Ok(lock.l_type != kind(libc::F_UNLCK))
}

/// Kafka writes `.` as `_` in the names of its metrics, and refuses a topic whose name there is that of
/// another.
fn refuse_names(broker: &Broker) -> Result {
    let mut by_metric: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for topic in broker.topics()? {
        by_metric.entry(topic.name().replace('.', "_")).or_default().push(topic.name().to_owned());
    }
    let colliding = by_metric.into_values().filter(|names| names.len() > 1);
    let problems: Vec<_> = colliding
        .map(|names| Problem {
            place: format!("topics {}", names.join(" and ")),
            what: "Kafka takes `.` and `_` in names for the same and refuses the second of them"
                .to_owned(),
            remedy: "produce the records of one to a topic of another name and delete it"
                .to_owned(),
            is_damage: false,
        })
        .collect();
    refuse(&problems)
}

/// Tells all problems, if there are any, and ends with that.
fn refuse(problems: &[Problem]) -> Result {
    if problems.is_empty() {
        return Ok(());
    }
    for problem in problems {
        let sentence = format!("{}: {}; {}", problem.place, problem.what, problem.remedy);
        tell(output::printable(&sentence));
    }
    let is_damage = problems.iter().any(|problem| problem.is_damage);
    let code = if is_damage { Code::Damaged } else { Code::Failure };
    let problems = count(problems.len() as u64, "problem");
    Err(Stop::failed(code, format!("Kafka could not take this over: {problems}; nothing was made")))
}

/// Makes the partitions' directories, and finds out what is in them.
fn copy(broker: &Broker, from: &Path, to: &Path, link: bool) -> Result<Moved> {
    broker.backup(to).map_err(|error| advised(error.into()))?;
    let mut moved = described(&Broker::open_read_only(to)?)?;
    let now = Timestamp::from_millis(jiff::Timestamp::now().as_millisecond());
    let mut inspections: BTreeMap<String, Vec<Inspection>> = BTreeMap::new();
    for partition in DirectoryDump::open(to)?.partitions()? {
        let topic = partition.topic_partition().topic();
        if !moved.topics.iter().any(|known| known.name == topic) {
            // What groups have committed goes another way.
            making::remove_tree(partition.directory())?;
            continue;
        }
        let mut inspection = hand_over(&partition, now, link)?;
        // In the words of who knows the directory, and not the copy that will be gone.
        inspection.problems.iter_mut().for_each(|problem| problem.speak_of(from, to));
        inspections.entry(topic.to_owned()).or_default().push(inspection);
    }
    making::remove_files(to, |_| true)?;
    making::sync_directory(to)?;
    let problems = inspections.values().flatten().flat_map(|inspection| &inspection.problems);
    refuse(&problems.cloned().collect::<Vec<_>>())?;
    for topic in &mut moved.topics {
        topic.partitions = inspections.remove(&topic.name).unwrap_or_default();
        moved.notes.extend(notes(topic, now));
    }
    Ok(moved)
}

/// What the copy says of topics and groups.
fn described(copy: &Broker) -> Result<Moved> {
    let topics = copy.topics()?.into_iter().map(|topic| MovedTopic {
        name: topic.name().to_owned(),
        config: topic.config(),
        partitions: Vec::new(),
    });
    let mut moved =
        Moved { topics: topics.collect(), groups: Vec::new(), notes: Vec::new(), in_use: false };
    for id in copy.list_groups()? {
        let Some(group) = copy.describe_group(&id)? else { continue };
        if group.offsets.iter().any(|offset| !offset.committed.metadata.is_empty()) {
            moved.notes.push(format!(
                "group {id}: its offsets are carried over, what it has noted beside them is not: \
                 Kafka's tool does not take it"
            ));
        }
        let offset = |offset: &sapwood::GroupOffset| {
            let at = &offset.topic_partition;
            (at.topic().to_owned(), at.partition(), offset.committed.offset)
        };
        let is_moved = |topic: &str| moved.topics.iter().any(|moved| moved.name == topic);
        let offsets: Vec<_> =
            group.offsets.iter().map(offset).filter(|(topic, _, _)| is_moved(topic)).collect();
        if !offsets.is_empty() {
            moved.groups.push(MovedGroup { id, offsets });
        }
    }
    Ok(moved)
}

/// Leaves in a partition's directory what a broker is to be given, in the form that it wants.
fn hand_over(partition: &PartitionDump, now: Timestamp, link: bool) -> Result<Inspection> {
    let directory = partition.directory();
    // The broker has its own `partition.metadata`. Without `.index` files it checks every batch and makes
    // all indexes, which is safer than to trust ours; and what is Sapwood's is nothing to it.
    let log_start = partition.checkpoint()?.map(|checkpoint| checkpoint.log_start_offset);
    making::remove_files(directory, |path| path.extension() != Some("log".as_ref()))?;
    let inspection = inspect::inspect(partition, log_start, now)?;
    for segment in &inspection.segments {
        making::settle_log(segment, link)?;
    }
    let epochs = format!("0\n1\n0 {}\n", inspection.first_base_offset());
    making::write(&directory.join("leader-epoch-checkpoint"), epochs.as_bytes())?;
    making::sync_directory(directory)?;
    Ok(inspection)
}

/// Settings that have no counterpart in Kafka, with what happens there.
const OURS_ALONE: [(&str, &str); 3] = [
    ("max.bytes", "Kafka has no such limit; it deletes by retention.bytes, per partition"),
    ("max.bytes.policy", "it goes with max.bytes"),
    ("retention.groups", "Kafka deletes by age and size whether or not a group has read"),
];

/// What changes for a topic.
fn notes(topic: &MovedTopic, now: Timestamp) -> Vec<String> {
    let mut notes = Vec::new();
    let name = &topic.name;
    let default = TopicConfig::default();
    for (setting, meaning) in OURS_ALONE {
        let value = topic.config.get(setting).unwrap_or_default();
        if topic.config.get(setting) != default.get(setting) {
            notes.push(format!("{name}: {setting}={value} is not carried over: {meaning}"));
        }
    }
    for (setting, value, raised) in scripts::raised(topic) {
        notes.push(format!("{name}: {setting} will be {raised} and not {value}: Kafka wants that"));
    }
    let rewritten: u64 = topic.partitions.iter().map(Inspection::epochs_reset).sum();
    if rewritten > 0 {
        let batches = if rewritten == 1 { "batch" } else { "batches" };
        notes.push(format!(
            "{name}: the leader epoch of {rewritten} {batches} was set to 0: that of another cluster \
             would keep replicas from being made"
        ));
    }
    for partition in &topic.partitions {
        for open in &partition.open_transactions {
            notes.push(format!(
                "{}: the transaction that begins at offset {} was never ended; consumers that read \
                 committed records stop there until it is: see the steps",
                partition.topic_partition, open
            ));
        }
    }
    let deleted: u64 =
        topic.partitions.iter().map(|p| p.deleted_by_retention(&topic.config, now)).sum();
    if deleted > 0 {
        notes.push(format!(
            "{name}: {} past its retention.ms or retention.bytes; Kafka deletes them a few minutes after \
             the last step, and not before it",
            if deleted == 1 { "1 record is".to_owned() } else { format!("{deleted} records are") }
        ));
    }
    notes
}

#[derive(Serialize)]
struct View<'a> {
    directory: String,
    in_use: bool,
    topics: Vec<TopicView<'a>>,
    groups: Vec<&'a str>,
    notes: &'a [String],
}

#[derive(Serialize)]
struct TopicView<'a> {
    name: &'a str,
    partitions: Vec<PartitionView>,
}

#[derive(Serialize)]
struct PartitionView {
    partition: u32,
    log_start_offset: u64,
    end_offset: u64,
    records: u64,
    bytes: u64,
}

impl Moved {
    fn view(&self, to: &Path) -> View<'_> {
        let partition = |partition: &Inspection| PartitionView {
            partition: partition.topic_partition.partition(),
            log_start_offset: partition.log_start_offset,
            end_offset: partition.end_offset,
            records: partition.records,
            bytes: partition.bytes,
        };
        View {
            directory: to.display().to_string(),
            in_use: self.in_use,
            topics: self
                .topics
                .iter()
                .map(|topic| TopicView {
                    name: &topic.name,
                    partitions: topic.partitions.iter().map(partition).collect(),
                })
                .collect(),
            groups: self.groups.iter().map(|group| group.id.as_str()).collect(),
            notes: &self.notes,
        }
    }
}
