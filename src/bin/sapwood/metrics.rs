//! `sapwood metrics`.

use std::fmt::Display;
use std::io::Write as _;

use clap::Args;
use sapwood::{Broker, GroupOffset, Partition, SharePartitionDescription, Topic};

use crate::directory::Directory;
use crate::exit::Result;
use crate::output::add;

/// Print a snapshot of the directory in Prometheus' text form
///
/// Everything is read from the directory, beside whatever process writes to it. What only that process
/// knows, like how long its syncs take, is not there: ask its `Broker::metrics`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  sapwood --dir data metrics
  sapwood --dir data metrics > /var/lib/node_exporter/sapwood.prom.tmp &&
    mv /var/lib/node_exporter/sapwood.prom.tmp /var/lib/node_exporter/sapwood.prom")]
pub(crate) struct Metrics {}

impl Metrics {
    // As the other commands are run.
    #[allow(clippy::unused_self)]
    pub(crate) fn run(&self, directory: &Directory) -> Result {
        let broker = directory.read()?;
        let mut text = Exposition::default();
        text.directory(&broker);
        text.topics(&broker.topics()?);
        text.groups(&broker)?;
        text.share_groups(&broker)?;
        // Whole or not at all: half a snapshot would be taken for one.
        std::io::stdout().lock().write_all(text.0.as_bytes())?;
        Ok(())
    }
}

/// A label's name and value.
type Label<'a> = (&'static str, &'a dyn Display);

/// Metrics in the text format 0.0.4.
#[derive(Default)]
struct Exposition(String);

impl Exposition {
    fn directory(&mut self, broker: &Broker) {
        self.family("sapwood_info", "The version of the program that took the snapshot.");
        self.sample("sapwood_info", &[("version", &env!("CARGO_PKG_VERSION"))], 1);
        let name = "sapwood_clean_shutdown";
        let help =
            "1 if the last writer has closed the directory in order; 0 while one is at work.";
        self.family(name, help);
        self.sample(name, &[], u8::from(broker.recovery_report().clean_shutdown));
    }

    fn topics(&mut self, topics: &[Topic]) {
        self.family("sapwood_topics", "How many topics there are.");
        self.sample("sapwood_topics", &[], topics.len());
        self.family("sapwood_topic_partitions", "How many partitions the topic has.");
        for topic in topics {
            let labels: [Label<'_>; 1] = [("topic", &topic.name())];
            self.sample("sapwood_topic_partitions", &labels, topic.partition_count());
        }
        let partitions: Vec<_> = topics.iter().flat_map(Topic::partitions).collect();
        for (name, help, value) in OF_PARTITION {
            self.family(name, help);
            for partition in &partitions {
                let of = partition.topic_partition();
                let labels: [Label<'_>; 2] =
                    [("topic", &of.topic()), ("partition", &of.partition())];
                self.sample(name, &labels, value(partition));
            }
        }
    }

    fn groups(&mut self, broker: &Broker) -> Result {
        let mut offsets = Vec::new();
        for group in broker.list_groups()? {
            let description = broker.describe_group(&group)?;
            let of_group = description.into_iter().flat_map(|group| group.offsets);
            offsets.extend(of_group.map(|offset| (group.clone(), offset)));
        }
        for (name, help, value) in OF_GROUP {
            self.family(name, help);
            for (group, offset) in &offsets {
                let of = &offset.topic_partition;
                let labels: [Label<'_>; 3] =
                    [("group", group), ("topic", &of.topic()), ("partition", &of.partition())];
                self.sample(name, &labels, value(offset));
            }
        }
        Ok(())
    }

    fn share_groups(&mut self, broker: &Broker) -> Result {
        let mut partitions = Vec::new();
        for group in broker.list_share_groups()? {
            let description = broker.describe_share_group(&group)?;
            let of_group = description.into_iter().flat_map(|group| group.partitions);
            partitions.extend(of_group.map(|partition| (group.clone(), partition)));
        }
        for (name, help, value) in OF_SHARE_GROUP {
            self.family(name, help);
            for (group, partition) in &partitions {
                let of = &partition.topic_partition;
                let labels: [Label<'_>; 3] =
                    [("group", group), ("topic", &of.topic()), ("partition", &of.partition())];
                self.sample(name, &labels, value(partition));
            }
        }
        Ok(())
    }

    /// All of them are gauges: a directory can be put back to an older state.
    fn family(&mut self, name: &str, help: &str) {
        add(&mut self.0, format_args!("# HELP {name} {help}\n# TYPE {name} gauge\n"));
    }

    fn sample(&mut self, name: &str, labels: &[Label<'_>], value: impl Display) {
        let label =
            |(name, value): &Label<'_>| format!("{name}=\"{}\"", escape(&value.to_string()));
        let labels: Vec<_> = labels.iter().map(label).collect();
        match labels.as_slice() {
            [] => add(&mut self.0, format_args!("{name} {value}\n")),
            labels => {
                add(&mut self.0, format_args!("{name}{{{}}} {value}\n", labels.join(",")));
            }
        }
    }
}

/// Name, help and value of a metric.
type Metric<T> = (&'static str, &'static str, fn(&T) -> f64);

const OF_PARTITION: [Metric<Partition>; 4] = [
    ("sapwood_partition_log_start_offset", "The first offset that can be read.", |partition| {
        float(partition.log_start_offset())
    }),
    (
        "sapwood_partition_high_watermark_offset",
        "The offset up to which consumers read.",
        |partition| float(partition.high_watermark()),
    ),
    (
        "sapwood_partition_log_end_offset",
        "The offset that the next record will get.",
        |partition| float(partition.log_end_offset()),
    ),
    ("sapwood_partition_size_bytes", "Bytes of record batches.", |partition| {
        float(partition.size())
    }),
];

const OF_GROUP: [Metric<GroupOffset>; 3] = [
    ("sapwood_group_committed_offset", "Where the group goes on.", |offset| {
        float(offset.committed.offset)
    }),
    (
        "sapwood_group_lag_records",
        "How many offsets lie between the committed one and the high watermark.",
        |offset| float(offset.lag),
    ),
    (
        "sapwood_group_commit_timestamp_seconds",
        "When the group has committed, in seconds since 1970.",
        |offset| float(offset.commit_timestamp.as_millis().unsigned_abs()) / 1000.0,
    ),
];

const OF_SHARE_GROUP: [Metric<SharePartitionDescription>; 5] = [
    ("sapwood_share_group_start_offset", "Everything below it is done or given up.", |partition| {
        float(partition.start_offset)
    }),
    ("sapwood_share_group_lag_records", "How many offsets are still to be done.", |partition| {
        float(partition.lag)
    }),
    (
        "sapwood_share_group_in_flight_records",
        "Records that were handed out and are not done.",
        |partition| float(partition.in_flight),
    ),
    (
        "sapwood_share_group_delayed_records",
        "Records that were passed over because it is not their time.",
        |partition| float(partition.delayed),
    ),
    (
        "sapwood_share_group_highest_delivery_count",
        "How often the record was handed out that was most often, of those that are not done.",
        |partition| f64::from(partition.delivery_counts.highest()),
    ),
];

/// Prometheus knows no other numbers.
#[allow(clippy::cast_precision_loss)]
fn float(value: u64) -> f64 {
    value as f64
}

fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped() {
        let mut text = Exposition::default();
        text.sample("m", &[("group", &"a\"b\\c\nd")], 1);
        assert_eq!(text.0, "m{group=\"a\\\"b\\\\c\\nd\"} 1\n");
    }
}
