//! `sapwood topics`.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use sapwood::{Broker, Error, Partition, Topic, TopicConfig};
use serde::Serialize;

use crate::directory::{Directory, find_topic};
use crate::exit::{Code, Result, Stop};
use crate::output::{self, Table, bytes_text, say};
use crate::settings::{NameValue, configure, reset};

/// List, describe, create, alter and delete topics.
#[derive(Subcommand)]
pub(crate) enum Topics {
    List(List),
    Describe(Describe),
    Create(Create),
    Alter(Alter),
    Delete(Delete),
}

impl Topics {
    pub(crate) fn run(&self, directory: &Directory) -> Result {
        match self {
            Self::List(list) => list.run(directory),
            Self::Describe(describe) => describe.run(directory),
            Self::Create(create) => create.run(directory),
            Self::Alter(alter) => alter.run(directory),
            Self::Delete(delete) => delete.run(directory),
        }
    }
}

/// List the topics with their partitions, records and sizes
#[derive(Args)]
#[command(after_help = "\
With --json: an array of objects as `topics describe` prints them.

Examples:
  sapwood topics list
  sapwood topics list --json")]
pub(crate) struct List {
    /// Print a JSON array
    #[arg(long)]
    json: bool,
}

impl List {
    fn run(&self, directory: &Directory) -> Result {
        let topics = directory.read()?.topics()?;
        if self.json {
            return output::json(&topics.iter().map(TopicView::of).collect::<Vec<_>>());
        }
        let mut table = Table::new(["TOPIC", "PARTITIONS", "RECORDS", "SIZE"]);
        for topic in &topics {
            let records: u64 = topic.partitions().iter().map(records).sum();
            table.row([
                topic.name().to_owned(),
                topic.partition_count().to_string(),
                records.to_string(),
                bytes_text(topic.size()),
            ]);
        }
        if table.is_empty() {
            return say("there are no topics; `sapwood topics create` makes one");
        }
        table.print()
    }
}

/// How many offsets there are to be read.
fn records(partition: &Partition) -> u64 {
    partition.high_watermark().saturating_sub(partition.log_start_offset())
}

/// Show partitions, offsets and settings of topics
#[derive(Args)]
#[command(after_help = "\
With --json: an array with an object per topic: name, id, size_bytes, partitions, configs (every
setting by its name), and overrides (the names of those that are not the default).

Examples:
  sapwood topics describe
  sapwood topics describe orders --all")]
pub(crate) struct Describe {
    /// Those to describe; all if none is named
    topics: Vec<String>,

    /// Show settings that have their default values too
    #[arg(long)]
    all: bool,

    /// Print a JSON array
    #[arg(long)]
    json: bool,
}

impl Describe {
    fn run(&self, directory: &Directory) -> Result {
        let broker = directory.read()?;
        let topics = match self.topics.as_slice() {
            [] => broker.topics()?,
            names => names.iter().map(|name| find_topic(&broker, name)).collect::<Result<_>>()?,
        };
        let views: Vec<_> = topics.iter().map(TopicView::of).collect();
        if self.json {
            return output::json(&views);
        }
        for (number, view) in views.iter().enumerate() {
            if number > 0 {
                say("")?;
            }
            self.print(view)?;
        }
        Ok(())
    }

    fn print(&self, view: &TopicView) -> Result {
        say(format_args!("Topic: {}", view.name))?;
        say(format_args!("Id: {}", view.id))?;
        say(format_args!("Size: {}", bytes_text(view.size_bytes)))?;
        let shown = |name: &&&str| self.all || view.overrides.contains(*name);
        let configs: Vec<_> = view.configs.keys().filter(|name| shown(name)).collect();
        if configs.is_empty() {
            say("Configs: all at their defaults")?;
        } else {
            say("Configs:")?;
        }
        for name in configs {
            let value = view.configs.get(name).map_or("", String::as_str);
            say(format_args!("  {name}={}", output::printable(value)))?;
        }
        let header = ["PARTITION", "LOG-START-OFFSET", "HIGH-WATERMARK", "LOG-END-OFFSET", "SIZE"];
        let mut table = Table::new(header);
        for partition in &view.partitions {
            table.row([
                partition.partition.to_string(),
                partition.log_start_offset.to_string(),
                partition.high_watermark.to_string(),
                partition.log_end_offset.to_string(),
                bytes_text(partition.size_bytes),
            ]);
        }
        table.print()
    }
}

/// A topic as it is shown.
#[derive(Serialize)]
struct TopicView {
    name: String,
    id: String,
    size_bytes: u64,
    partitions: Vec<PartitionView>,
    configs: BTreeMap<&'static str, String>,
    overrides: Vec<&'static str>,
}

#[derive(Serialize)]
struct PartitionView {
    partition: u32,
    log_start_offset: u64,
    high_watermark: u64,
    log_end_offset: u64,
    size_bytes: u64,
}

impl TopicView {
    fn of(topic: &Topic) -> Self {
        let configs = topic.config().properties();
        let defaults = TopicConfig::default().properties();
        let overrides = configs.iter().zip(&defaults).filter(|(is, default)| is != default);
        let overrides = overrides.map(|((name, _), _)| *name).collect();
        let partition = |partition: &Partition| PartitionView {
            partition: partition.topic_partition().partition(),
            log_start_offset: partition.log_start_offset(),
            high_watermark: partition.high_watermark(),
            log_end_offset: partition.log_end_offset(),
            size_bytes: partition.size(),
        };
        Self {
            name: topic.name().to_owned(),
            id: topic.id(),
            size_bytes: topic.size(),
            partitions: topic.partitions().iter().map(partition).collect(),
            configs: configs.into_iter().collect(),
            overrides,
        }
    }
}

/// Create a topic, and the directory if it does not exist
#[derive(Args)]
#[command(after_help = "\
Makes the directory if it does not exist or is empty. In a directory with other files it makes none.

Examples:
  sapwood --dir data topics create orders --partitions 4
  sapwood --dir data topics create logs --config retention.ms=86400000 --config durability=written
  sapwood --dir data topics create jobs --if-not-exists")]
pub(crate) struct Create {
    /// Its name: 1 to 249 of a-z A-Z 0-9 . _ -
    topic: String,

    /// How many partitions it has
    #[arg(short, long, value_name = "N", default_value_t = 1)]
    partitions: u32,

    /// A setting by Kafka's name; may be given any number of times
    #[arg(long = "config", value_name = "NAME=VALUE")]
    configs: Vec<NameValue>,

    /// Do nothing if there is a topic of this name, whatever its settings
    #[arg(long)]
    if_not_exists: bool,
}

impl Create {
    fn run(&self, directory: &Directory) -> Result {
        let config = configure(TopicConfig::default().partitions(self.partitions), &self.configs)?;
        match directory.create_topic(&self.topic, config) {
            Ok(()) => say(format_args!("created topic {}", self.topic)),
            Err(Stop::Failed { code: Code::Exists, .. }) if self.if_not_exists => {
                say(format_args!("topic {} exists already", self.topic))
            }
            Err(stop) => Err(stop),
        }
    }
}

/// Change settings of a topic, or give it more partitions
#[derive(Args)]
#[command(after_help = "\
Keys find another partition once there are more; records stay where they are.

Examples:
  sapwood topics alter orders --config retention.ms=3600000 --delete-config segment.bytes
  sapwood topics alter orders --partitions 8")]
pub(crate) struct Alter {
    /// The topic to change
    topic: String,

    /// How many partitions it has then: more than now
    #[arg(short, long, value_name = "N")]
    partitions: Option<u32>,

    /// A setting by Kafka's name; may be given any number of times
    #[arg(long = "config", value_name = "NAME=VALUE")]
    configs: Vec<NameValue>,

    /// Put a setting back to its default; may be given any number of times
    #[arg(long = "delete-config", value_name = "NAME")]
    delete_configs: Vec<String>,
}

impl Alter {
    fn run(&self, directory: &Directory) -> Result {
        let changes_settings = !(self.configs.is_empty() && self.delete_configs.is_empty());
        if !changes_settings && self.partitions.is_none() {
            return Err(Stop::usage(
                "what is to be changed? name --config, --delete-config or --partitions",
            ));
        }
        directory.change(|broker| self.change(broker, changes_settings))?;
        say(format_args!("altered topic {}", self.topic))
    }

    fn change(&self, broker: &Broker, changes_settings: bool) -> Result {
        let topic = find_topic(broker, &self.topic)?;
        let config = configure(reset(topic.config(), &self.delete_configs)?, &self.configs)?;
        // Everything is checked before anything is changed.
        config.validate()?;
        self.check_partitions(&topic)?;
        if changes_settings {
            broker.alter_topic(&self.topic, config)?;
        }
        let Some(partitions) = self.partitions else { return Ok(()) };
        let added = broker.add_partitions(&self.topic, partitions).map_err(Stop::from);
        let so_far = "the settings were changed, the partitions were not";
        added.map_err(|stop| if changes_settings { stop.after(so_far) } else { stop })
    }

    fn check_partitions(&self, topic: &Topic) -> Result {
        let there = topic.partition_count();
        match self.partitions {
            Some(wanted) if wanted <= there => Err(Stop::usage(format!(
                "topic {:?} has {there} partition(s); --partitions {wanted} is not more, and there \
                 can never be fewer",
                self.topic
            ))),
            Some(wanted) => Ok(topic.config().partitions(wanted).validate()?),
            None => Ok(()),
        }
    }
}

/// Delete topics with everything in them
#[derive(Args)]
#[command(after_help = "\
Also forgets what groups have committed in them. If one of them does not exist, none is deleted.

Examples:
  sapwood topics delete orders
  sapwood topics delete old older --if-exists")]
pub(crate) struct Delete {
    /// Those to delete
    #[arg(required = true)]
    topics: Vec<String>,

    /// Pass over those that do not exist
    #[arg(long)]
    if_exists: bool,
}

impl Delete {
    fn run(&self, directory: &Directory) -> Result {
        let mut names = self.topics.clone();
        names.sort();
        names.dedup();
        // Said at the end: a closed pipe must not keep any of them.
        let deleted = directory.change(|broker| self.delete(broker, &names))?;
        deleted.iter().try_for_each(|name| say(format_args!("deleted topic {name}")))
    }

    fn delete<'a>(&self, broker: &Broker, names: &'a [String]) -> Result<Vec<&'a String>> {
        let there = self.existing(broker, names)?;
        for (number, name) in there.iter().enumerate() {
            let deleted = broker.delete_topic(name).map_err(Stop::from);
            deleted.map_err(|stop| match number {
                0 => stop,
                _ => stop.after(format_args!("{number} topic(s) before it are deleted")),
            })?;
        }
        Ok(there)
    }

    fn existing<'a>(&self, broker: &Broker, names: &'a [String]) -> Result<Vec<&'a String>> {
        let mut there = Vec::new();
        for name in names {
            match broker.topic(name) {
                Err(Error::UnknownTopic { .. }) if self.if_exists => {}
                _ => {
                    find_topic(broker, name)?;
                    there.push(name);
                }
            }
        }
        Ok(there)
    }
}
