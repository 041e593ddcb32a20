//! `sapwood perf`: how fast this machine is at it, in the manner of Kafka's perf-test tools.

mod consume;
mod produce;

use std::time::Duration;

use clap::Subcommand;
use hdrhistogram::Histogram;
use sapwood::Topic;
use serde_json::{Map, Value, json};

use crate::directory::Directory;
use crate::exit::Result;
use crate::output::{self, say};

/// Measure rates and latencies
#[derive(Subcommand)]
pub(crate) enum Perf {
    Produce(produce::PerfProduce),
    Consume(consume::PerfConsume),
}

impl Perf {
    pub(crate) fn run(&self, directory: &Directory) -> Result {
        match self {
            Self::Produce(produce) => produce.run(directory),
            Self::Consume(consume) => consume.run(directory),
        }
    }
}

/// How long things took, in nanoseconds.
struct Latencies(Histogram<u64>);

impl Latencies {
    fn new() -> Self {
        const HOUR_NANOS: u64 = 3_600_000_000_000;
        // Three digits; what takes longer than an hour counts as an hour.
        let histogram = Histogram::new_with_bounds(1, HOUR_NANOS, 3);
        Self(histogram.expect("the bounds are constants"))
    }

    fn record(&mut self, took: Duration) {
        self.0.saturating_record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    }

    fn add(&mut self, other: &Self) {
        // Fails only where the bounds differ, and they are constants.
        self.0.add(&other.0).expect("the bounds are the same");
    }

    /// Names and milliseconds.
    fn millis(&self) -> [(&'static str, f64); 6] {
        let at = |quantile| millis(self.0.value_at_quantile(quantile));
        [
            ("avg", self.0.mean() / 1e6),
            ("p50", at(0.5)),
            ("p95", at(0.95)),
            ("p99", at(0.99)),
            ("p99.9", at(0.999)),
            ("max", millis(self.0.max())),
        ]
    }
}

#[allow(clippy::cast_precision_loss)] // a few digits are shown
fn millis(nanos: u64) -> f64 {
    nanos as f64 / 1e6
}

/// What was measured, and under which settings: a number without them says nothing.
struct Report {
    /// By their names, in the order in which they are printed.
    settings: Vec<(&'static str, String)>,
    /// What was done to the records: `sent`, `read`.
    verb: &'static str,
    records: u64,
    /// Of keys and values.
    bytes: u64,
    took: Duration,
    /// What took the time in `latencies`.
    latency_of: &'static str,
    latencies: Latencies,
}

impl Report {
    #[allow(clippy::cast_precision_loss)]
    fn rates(&self) -> (f64, f64) {
        let seconds = self.took.as_secs_f64().max(1e-9);
        (self.records as f64 / seconds, self.bytes as f64 / 1e6 / seconds)
    }

    fn print(&self, as_json: bool) -> Result {
        if as_json { output::json(&self.json()) } else { self.print_text() }
    }

    fn print_text(&self) -> Result {
        for (name, value) in &self.settings {
            say(format_args!("{name}: {value}"))?;
        }
        let (records, megabytes) = self.rates();
        say(format_args!(
            "{} records {} in {:.3} s: {records:.1} records/s, {megabytes:.2} MB/s",
            self.records,
            self.verb,
            self.took.as_secs_f64()
        ))?;
        let shown = self.latencies.millis().map(|(name, millis)| format!("{name} {millis:.3} ms"));
        say(format_args!("{}: {}", self.latency_of, shown.join(", ")))
    }

    fn json(&self) -> Value {
        let (records_per_second, megabytes_per_second) = self.rates();
        let settings = self.settings.iter().map(|(name, value)| ((*name).to_owned(), json!(value)));
        let latencies = self.latencies.millis();
        let latencies =
            latencies.into_iter().map(|(name, millis)| (name.to_owned(), json!(millis)));
        json!({
            "settings": settings.collect::<Map<_, _>>(),
            "records": self.records,
            "bytes": self.bytes,
            "seconds": self.took.as_secs_f64(),
            "records_per_second": records_per_second,
            "megabytes_per_second": megabytes_per_second,
            "latency_ms": latencies.collect::<Map<_, _>>(),
        })
    }
}

/// The settings of a topic that matter for how fast it is.
fn topic_settings(topic: &Topic) -> Vec<(&'static str, String)> {
    let config = topic.config();
    let names =
        ["durability", "flush.ms", "compression.type", "segment.bytes", "max.message.bytes"];
    let mut settings = vec![
        ("topic", topic.name().to_owned()),
        ("partitions", topic.partition_count().to_string()),
    ];
    let of_topic = config.properties().into_iter().filter(|(name, _)| names.contains(name));
    settings.extend(of_topic.map(|(name, value)| match name {
        // The producer has one too.
        "compression.type" => ("topic compression.type", value),
        name => (name, value),
    }));
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_in_milliseconds() {
        let mut latencies = Latencies::new();
        for millis in 1..=1000 {
            latencies.record(Duration::from_millis(millis));
        }
        let mut other = Latencies::new();
        other.record(Duration::MAX);
        latencies.add(&other);
        let [_, p50, p95, .., max] = latencies.millis().map(|(_, millis)| millis);
        assert!(
            (p50 / 500.0 - 1.0).abs() < 0.01 && (p95 / 950.0 - 1.0).abs() < 0.01,
            "{p50} {p95}"
        );
        assert!((max / 3_600_000.0 - 1.0).abs() < 0.01, "{max}");
    }
}
