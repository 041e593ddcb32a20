//! `sapwood groups`.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use clap::{Args, Subcommand};
use sapwood::{
    Broker, Error, GroupDescription, OffsetAndMetadata, OffsetSpec, PlannedReset, Topic,
    TopicPartition,
};
use serde::Serialize;

use crate::directory::{Directory, find_topic};
use crate::exit::{Code, Result, Stop};
use crate::output::{self, Table, say, warn};
use crate::settings::{Ago, At, time_text};

/// List, describe, reset and delete consumer groups
#[derive(Subcommand)]
pub(crate) enum Groups {
    List(List),
    Describe(Describe),
    ResetOffsets(ResetOffsets),
    Delete(Delete),
}

impl Groups {
    pub(crate) fn run(&self, directory: &Directory) -> Result {
        match self {
            Self::List(list) => list.run(directory),
            Self::Describe(describe) => describe.run(directory),
            Self::ResetOffsets(reset) => reset.run(directory),
            Self::Delete(delete) => delete.run(directory),
        }
    }
}

/// What is known of a group, or that there is none and which there are.
fn find_group(broker: &Broker, group: &str) -> Result<GroupDescription> {
    if let Some(description) = broker.describe_group(group)? {
        return Ok(description);
    }
    let there = if broker.describe_share_group(group)?.is_some() {
        "it is a share group, see `sapwood share-groups`".to_owned()
    } else {
        match broker.list_groups()?.as_slice() {
            [] => "none has committed anything yet".to_owned(),
            groups => format!("there are: {}", groups.join(", ")),
        }
    };
    Err(Stop::failed(Code::NotFound, format!("group {group:?} does not exist; {there}")))
}

/// List the groups, with how far they are behind
#[derive(Args)]
#[command(after_help = "\
With --json: an array of objects with group, partitions and lag.

Examples:
  sapwood groups list")]
pub(crate) struct List {
    /// Print a JSON array
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct GroupSummary {
    group: String,
    /// In how many it has committed something.
    partitions: usize,
    lag: u64,
}

impl List {
    fn run(&self, directory: &Directory) -> Result {
        let broker = directory.read()?;
        let mut groups = Vec::new();
        for group in broker.list_groups()? {
            // It may be deleted in between.
            let Some(description) = broker.describe_group(&group)? else { continue };
            let lag = description.offsets.iter().map(|offset| offset.lag).sum();
            groups.push(GroupSummary { group, partitions: description.offsets.len(), lag });
        }
        if self.json {
            return output::json(&groups);
        }
        let mut table = Table::new(["GROUP", "PARTITIONS", "LAG"]);
        for group in groups {
            table.row([group.group, group.partitions.to_string(), group.lag.to_string()]);
        }
        if table.is_empty() {
            return say("there are no groups; `sapwood consume --group` makes one");
        }
        table.print()
    }
}

/// Show what groups have committed, and how far they are behind
#[derive(Args)]
#[command(after_help = "\
The lag is how many offsets lie between the committed one, where the group goes on, and the high
watermark. Who is in a group is known only to the process that holds the directory.

With --json: an array with an object per partition.

Examples:
  sapwood groups describe
  sapwood groups describe billing --json")]
pub(crate) struct Describe {
    /// Those to describe; all if none is named
    groups: Vec<String>,

    /// Print a JSON array
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct OffsetView {
    group: String,
    topic: String,
    partition: u32,
    committed_offset: u64,
    high_watermark: u64,
    lag: u64,
    commit_timestamp: i64,
    metadata: String,
}

impl Describe {
    fn run(&self, directory: &Directory) -> Result {
        let broker = directory.read()?;
        let descriptions = if self.groups.is_empty() {
            let named = broker.list_groups()?.into_iter();
            let described = named.map(|group| broker.describe_group(&group));
            described.filter_map(Result::transpose).collect::<Result<Vec<_>, _>>()?
        } else {
            self.groups.iter().map(|group| find_group(&broker, group)).collect::<Result<_>>()?
        };
        let views = descriptions.iter().map(|group| views(&broker, group));
        let views: Vec<OffsetView> =
            views.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect();
        if self.json {
            return output::json(&views);
        }
        if views.is_empty() {
            return say("no group has committed anything");
        }
        print_offsets(&views)
    }
}

fn print_offsets(views: &[OffsetView]) -> Result {
    let header = [
        "GROUP",
        "TOPIC",
        "PARTITION",
        "COMMITTED-OFFSET",
        "HIGH-WATERMARK",
        "LAG",
        "COMMITTED-AT",
        "METADATA",
    ];
    let mut table = Table::new(header);
    for view in views {
        table.row([
            view.group.clone(),
            view.topic.clone(),
            view.partition.to_string(),
            view.committed_offset.to_string(),
            view.high_watermark.to_string(),
            view.lag.to_string(),
            time_text(sapwood::Timestamp::from_millis(view.commit_timestamp)),
            view.metadata.clone(),
        ]);
    }
    table.print()
}

fn views(broker: &Broker, group: &GroupDescription) -> Result<Vec<OffsetView>> {
    let topics: BTreeMap<String, Topic> =
        broker.topics()?.into_iter().map(|topic| (topic.name().to_owned(), topic)).collect();
    let view = |offset: &sapwood::GroupOffset| {
        let of = &offset.topic_partition;
        let partition =
            topics.get(of.topic()).and_then(|topic| topic.partition(of.partition()).ok());
        OffsetView {
            group: group.group.clone(),
            topic: of.topic().to_owned(),
            partition: of.partition(),
            committed_offset: offset.committed.offset,
            high_watermark: partition.map_or(0, |partition| partition.high_watermark()),
            lag: offset.lag,
            commit_timestamp: offset.commit_timestamp.as_millis(),
            metadata: offset.committed.metadata.clone(),
        }
    };
    Ok(group.offsets.iter().map(view).collect())
}

/// Move a group to other offsets; shows what it would do unless --execute is given
///
/// Offsets that do not exist are replaced by the nearest that do. Without `--execute` the directory is
/// only read.
#[derive(Args)]
// As many as there are options of this kind.
#[allow(clippy::struct_excessive_bools)]
#[command(after_help = "\
Examples:
  sapwood groups reset-offsets billing --topic orders --to-earliest
  sapwood groups reset-offsets billing --topic orders:0,2 --shift-by -10 --execute
  sapwood groups reset-offsets billing --all-topics --by-duration 1h --execute")]
pub(crate) struct ResetOffsets {
    /// The group to move; nobody may be in it
    group: String,

    /// A topic, or some of its partitions; may be given several times
    #[arg(long = "topic", value_name = "TOPIC[:N,N]", required_unless_present = "all_topics")]
    topics: Vec<Choice>,

    /// All topics in which the group has committed something
    #[arg(long, conflicts_with = "topics")]
    all_topics: bool,

    #[command(flatten)]
    target: Target,

    /// Show what would be done; so it is without this too
    #[arg(long, conflicts_with = "execute")]
    dry_run: bool,

    /// Do it
    #[arg(long)]
    execute: bool,

    /// Print a JSON array
    #[arg(long)]
    json: bool,
}

/// Where to go. The names are those of `kafka-consumer-groups`.
#[derive(Args)]
#[group(required = true, multiple = false)]
struct Target {
    /// To the oldest record
    #[arg(long)]
    to_earliest: bool,

    /// Behind the newest record
    #[arg(long)]
    to_latest: bool,

    /// To where the group is: commits it anew
    #[arg(long)]
    to_current: bool,

    /// To this offset
    #[arg(long, value_name = "N")]
    to_offset: Option<u64>,

    /// By so many records, forwards or, with -N, backwards
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    shift_by: Option<i64>,

    /// To the first record from this time on: 2026-01-31T12:00:00Z, or milliseconds since 1970
    #[arg(long, value_name = "TIMESTAMP")]
    to_datetime: Option<At>,

    /// To the first record of this age: 10m, "1h 30m", PT1H
    #[arg(long, value_name = "TIME")]
    by_duration: Option<Ago>,
}

/// `TOPIC` or `TOPIC:0,1`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Choice {
    topic: String,
    /// Empty: all.
    partitions: Vec<u32>,
}

impl FromStr for Choice {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (topic, numbers) = match text.split_once(':') {
            None => (text, Vec::new()),
            Some((topic, numbers)) => (topic, numbers.split(',').map(str::parse).collect()),
        };
        let numbers: Result<Vec<u32>, _> = numbers.into_iter().collect();
        let partitions =
            numbers.map_err(|_| "write TOPIC, or TOPIC:0,2 for some partitions of it")?;
        Ok(Self { topic: topic.to_owned(), partitions })
    }
}

#[derive(Serialize)]
struct Move {
    group: String,
    topic: String,
    partition: u32,
    current_offset: Option<u64>,
    new_offset: u64,
    executed: bool,
}

impl ResetOffsets {
    fn run(&self, directory: &Directory) -> Result {
        let moves = if self.execute {
            directory.change(|broker| self.execute(broker))?
        } else {
            self.moves(&directory.read()?)?
        };
        if self.json {
            return output::json(&moves);
        }
        print_moves(&moves)?;
        if self.execute { Ok(()) } else { say("nothing was changed; --execute does it") }
    }

    fn execute(&self, broker: &Broker) -> Result<Vec<Move>> {
        let moves = self.moves(broker)?;
        let offset = |planned: &Move| {
            let of = TopicPartition::new(planned.topic.as_str(), planned.partition);
            (of, OffsetAndMetadata::new(planned.new_offset))
        };
        broker.reset_group(&self.group, moves.iter().map(offset))?;
        Ok(moves)
    }

    fn moves(&self, broker: &Broker) -> Result<Vec<Move>> {
        let known = if self.all_topics {
            Some(find_group(broker, &self.group)?)
        } else {
            broker.describe_group(&self.group)?
        };
        if known.is_none() {
            warn(format_args!("group {:?} has not committed anything so far", self.group));
        }
        let chosen = match known.filter(|_| self.all_topics) {
            Some(group) => group.offsets.into_iter().map(|offset| offset.topic_partition).collect(),
            None => self.chosen(broker)?,
        };
        let plan = broker.plan_reset(&self.group, chosen, self.target.spec());
        let plan = plan.map_err(|error| match error {
            Error::NoCommittedOffset { topic_partition: of, .. } => nothing_to_start_from(&of),
            error => Stop::from(error),
        })?;
        Ok(plan.into_iter().map(|planned| self.planned(planned)).collect())
    }

    fn planned(&self, planned: PlannedReset) -> Move {
        let PlannedReset { topic_partition: of, current, wanted, offset, .. } = planned;
        if offset != wanted {
            warn(format_args!("{of} has no offset {wanted}; the nearest is {offset}"));
        }
        Move {
            group: self.group.clone(),
            topic: of.topic().to_owned(),
            partition: of.partition(),
            current_offset: current,
            new_offset: offset,
            executed: self.execute,
        }
    }

    fn chosen(&self, broker: &Broker) -> Result<BTreeSet<TopicPartition>> {
        let mut chosen = BTreeSet::new();
        for choice in &self.topics {
            let topic = find_topic(broker, &choice.topic)?;
            let partitions = if choice.partitions.is_empty() {
                topic.partitions()
            } else {
                let numbers = choice.partitions.iter();
                numbers.map(|number| topic.partition(*number)).collect::<Result<_, _>>()?
            };
            chosen.extend(partitions.iter().map(|partition| partition.topic_partition().clone()));
        }
        Ok(chosen)
    }
}

fn print_moves(moves: &[Move]) -> Result {
    let mut table = Table::new(["GROUP", "TOPIC", "PARTITION", "CURRENT-OFFSET", "NEW-OFFSET"]);
    for planned in moves {
        table.row([
            planned.group.clone(),
            planned.topic.clone(),
            planned.partition.to_string(),
            planned.current_offset.map_or_else(|| "-".to_owned(), |offset| offset.to_string()),
            planned.new_offset.to_string(),
        ]);
    }
    table.print()
}

impl Target {
    fn spec(&self) -> OffsetSpec {
        if let Some(timestamp) = self.to_datetime.map(|at| at.0) {
            OffsetSpec::Timestamp(timestamp)
        } else if let Some(ago) = self.by_duration {
            OffsetSpec::Timestamp(ago.timestamp())
        } else if let Some(offset) = self.to_offset {
            OffsetSpec::Offset(offset)
        } else if let Some(by) = self.shift_by {
            OffsetSpec::ShiftBy(by)
        } else if self.to_current {
            OffsetSpec::Current
        } else if self.to_latest {
            OffsetSpec::Latest
        } else {
            OffsetSpec::Earliest
        }
    }
}

fn nothing_to_start_from(of: &TopicPartition) -> Stop {
    let sentence = format!(
        "the group has committed nothing in {of} to start from; choose --to-earliest, \
         --to-latest or --to-offset"
    );
    Stop::failed(Code::NotFound, sentence)
}

/// Delete groups: what they have committed is forgotten
#[derive(Args)]
#[command(after_help = "\
If one of them does not exist, none is deleted.

Examples:
  sapwood groups delete billing")]
pub(crate) struct Delete {
    /// Those to delete
    #[arg(required = true)]
    groups: Vec<String>,
}

impl Delete {
    fn run(&self, directory: &Directory) -> Result {
        let find = |broker: &Broker, group: &str| find_group(broker, group).map(drop);
        let delete = |broker: &Broker, group: &str| broker.delete_group(group);
        // A closed pipe must not keep any of them: they are gone by now.
        delete_all(directory, &self.groups, find, delete)?
            .iter()
            .try_for_each(|group| say(format_args!("deleted group {}", output::printable(group))))
    }
}

/// Deletes groups of one kind or the other, each once, or none if one of them is not found. Returns
/// which.
pub(crate) fn delete_all(
    directory: &Directory,
    groups: &[String],
    find: impl Fn(&Broker, &str) -> Result,
    delete: impl Fn(&Broker, &str) -> sapwood::Result<()>,
) -> Result<BTreeSet<String>> {
    let groups: BTreeSet<String> = groups.iter().cloned().collect();
    directory.change(|broker| {
        groups.iter().try_for_each(|group| find(broker, group))?;
        for (number, group) in groups.iter().enumerate() {
            delete(broker, group).map_err(Stop::from).map_err(|stop| match number {
                0 => stop,
                _ => stop.after(format_args!("{number} group(s) before it are deleted")),
            })?;
        }
        Ok(())
    })?;
    Ok(groups)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_is_a_topic_or_some_of_its_partitions() {
        let choice = |topic: &str, partitions: &[u32]| Choice {
            topic: topic.to_owned(),
            partitions: partitions.to_vec(),
        };
        assert_eq!("orders".parse(), Ok(choice("orders", &[])));
        assert_eq!("orders:0,2".parse(), Ok(choice("orders", &[0, 2])));
        assert!("orders:".parse::<Choice>().is_err() && "orders:x".parse::<Choice>().is_err());
    }
}
