//! `sapwood share-groups`.

use clap::{Args, Subcommand};
use sapwood::{Broker, ShareGroupDescription, SharePartitionDescription};
use serde::Serialize;

use crate::directory::Directory;
use crate::exit::{Code, Result, Stop};
use crate::groups::delete_all;
use crate::output::{self, Table, say};

/// List, describe and delete share groups
#[derive(Subcommand)]
pub(crate) enum ShareGroups {
    List(List),
    Describe(Describe),
    Delete(Delete),
}

impl ShareGroups {
    pub(crate) fn run(&self, directory: &Directory) -> Result {
        match self {
            Self::List(list) => list.run(directory),
            Self::Describe(describe) => describe.run(directory),
            Self::Delete(delete) => delete.run(directory),
        }
    }
}

/// What is known of a share group, or that there is none and which there are.
fn find_share_group(broker: &Broker, group: &str) -> Result<ShareGroupDescription> {
    if let Some(description) = broker.describe_share_group(group)? {
        return Ok(description);
    }
    let there = if broker.describe_group(group)?.is_some() {
        "it is a consumer group, see `sapwood groups`".to_owned()
    } else {
        match broker.list_share_groups()?.as_slice() {
            [] => "there is none yet".to_owned(),
            groups => format!("there are: {}", groups.join(", ")),
        }
    };
    Err(Stop::failed(Code::NotFound, format!("share group {group:?} does not exist; {there}")))
}

fn say_there_are_none() -> Result {
    say("there are no share groups; an application makes them with `Broker::share_consumer`")
}

/// List the share groups, with how much they have to do
#[derive(Args)]
#[command(after_help = "\
With --json: an array of objects with group, partitions and lag.

Examples:
  sapwood share-groups list")]
pub(crate) struct List {
    /// Print a JSON array
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct ShareGroupSummary {
    group: String,
    /// Of how many it takes records.
    partitions: usize,
    lag: u64,
}

impl List {
    fn run(&self, directory: &Directory) -> Result {
        let broker = directory.read()?;
        let mut groups = Vec::new();
        for group in broker.list_share_groups()? {
            // It may be deleted in between.
            let Some(description) = broker.describe_share_group(&group)? else { continue };
            let lag = description.partitions.iter().map(|partition| partition.lag).sum();
            let partitions = description.partitions.len();
            groups.push(ShareGroupSummary { group, partitions, lag });
        }
        if self.json {
            return output::json(&groups);
        }
        let mut table = Table::new(["GROUP", "PARTITIONS", "LAG"]);
        for group in groups {
            table.row([group.group, group.partitions.to_string(), group.lag.to_string()]);
        }
        if table.is_empty() {
            return say_there_are_none();
        }
        table.print()
    }
}

/// Show how far share groups are, and what they have yet to do
#[derive(Args)]
#[command(after_help = "\
Everything below the start offset is done or given up; nothing from the end offset on was handed
out yet. In flight are records between the two that were handed out and are not done; delayed are
those that were not handed out because it is not their time. The lag is how many offsets are
still to be done. DELIVERIES says how often the record was handed out that was most often.

Which records workers have, and which wait to be handed out again, is known only to the process
that holds the directory.

With --json: an array with an object per partition, and in it how many records were handed out how
often.

Examples:
  sapwood share-groups describe
  sapwood share-groups describe workers --json")]
pub(crate) struct Describe {
    /// Those to describe; all if none is named
    groups: Vec<String>,

    /// Print a JSON array
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct ShareView {
    group: String,
    topic: String,
    partition: u32,
    start_offset: u64,
    end_offset: u64,
    lag: u64,
    in_flight: u64,
    delayed: u64,
    /// Of the records in flight.
    deliveries: Vec<Deliveries>,
}

#[derive(Serialize)]
struct Deliveries {
    delivery_count: u16,
    records: u64,
}

impl ShareView {
    fn new(group: &str, partition: &SharePartitionDescription) -> Self {
        let of = &partition.topic_partition;
        // What was never handed out is delayed.
        let counts = partition.delivery_counts.iter().filter(|(count, _)| *count > 0);
        let deliveries =
            counts.map(|(delivery_count, records)| Deliveries { delivery_count, records });
        Self {
            group: group.to_owned(),
            topic: of.topic().to_owned(),
            partition: of.partition(),
            start_offset: partition.start_offset,
            end_offset: partition.end_offset,
            lag: partition.lag,
            in_flight: partition.in_flight,
            delayed: partition.delayed,
            deliveries: deliveries.collect(),
        }
    }
}

impl Describe {
    fn run(&self, directory: &Directory) -> Result {
        let broker = directory.read()?;
        let descriptions = if self.groups.is_empty() {
            let named = broker.list_share_groups()?.into_iter();
            let described = named.map(|group| broker.describe_share_group(&group));
            described.filter_map(Result::transpose).collect::<Result<Vec<_>, _>>()?
        } else {
            self.groups
                .iter()
                .map(|group| find_share_group(&broker, group))
                .collect::<Result<_>>()?
        };
        let views = |group: &ShareGroupDescription| {
            let partitions = group.partitions.iter();
            partitions.map(|partition| ShareView::new(&group.group, partition)).collect::<Vec<_>>()
        };
        let views: Vec<ShareView> = descriptions.iter().flat_map(views).collect();
        if self.json {
            return output::json(&views);
        }
        if views.is_empty() {
            return say_there_are_none();
        }
        print_views(&views)
    }
}

fn print_views(views: &[ShareView]) -> Result {
    let header = [
        "GROUP",
        "TOPIC",
        "PARTITION",
        "START-OFFSET",
        "END-OFFSET",
        "LAG",
        "IN-FLIGHT",
        "DELAYED",
        "DELIVERIES",
    ];
    let mut table = Table::new(header);
    for view in views {
        let most = view.deliveries.last().map_or(0, |deliveries| deliveries.delivery_count);
        table.row([
            view.group.clone(),
            view.topic.clone(),
            view.partition.to_string(),
            view.start_offset.to_string(),
            view.end_offset.to_string(),
            view.lag.to_string(),
            view.in_flight.to_string(),
            view.delayed.to_string(),
            most.to_string(),
        ]);
    }
    table.print()
}

/// Delete share groups: what they have done is forgotten
#[derive(Args)]
#[command(after_help = "\
If one of them does not exist, none is deleted. The records stay in their topics: a group of the
same name begins anew.

Examples:
  sapwood share-groups delete workers")]
pub(crate) struct Delete {
    /// Those to delete
    #[arg(required = true)]
    groups: Vec<String>,
}

impl Delete {
    fn run(&self, directory: &Directory) -> Result {
        let find = |broker: &Broker, group: &str| find_share_group(broker, group).map(drop);
        let delete = |broker: &Broker, group: &str| broker.delete_share_group(group);
        delete_all(directory, &self.groups, find, delete)?.iter().try_for_each(|group| {
            say(format_args!("deleted share group {}", output::printable(group)))
        })
    }
}
