//! The counters of a broker for the crate `metrics`, and so for whatever exporter the program has.

use metrics::Label;

use super::{MetricsSnapshot, ShareGroupMetrics};

impl MetricsSnapshot {
    /// Hands all values to the recorder, under the names in the table at [`MetricsSnapshot`] and that of the
    /// broker's directory. Counters are set and not added to, so that this may be done at any time and by
    /// anybody.
    pub(crate) fn publish(&self, directory: &str) {
        for (name, value) in [
            ("sapwood_batches_appended_total", self.batches_appended),
            ("sapwood_records_appended_total", self.records_appended),
            ("sapwood_bytes_appended_total", self.bytes_appended),
            ("sapwood_reads_total", self.reads),
            ("sapwood_bytes_read_total", self.bytes_read),
            ("sapwood_records_consumed_total", self.records_consumed),
            ("sapwood_syncs_total", self.syncs),
            ("sapwood_batches_synced_total", self.batches_synced),
            ("sapwood_sync_microseconds_total", micros(self.sync_latency.total())),
            ("sapwood_segments_rolled_total", self.segments_rolled),
            ("sapwood_segments_deleted_total", self.segments_deleted),
            ("sapwood_commits_total", self.commits),
            ("sapwood_maintenance_failures_total", self.maintenance_failures),
        ] {
            metrics::counter!(name, "directory" => directory.to_owned()).absolute(value);
        }
        for lag in &self.group_lags {
            let of = &lag.topic_partition;
            #[allow(clippy::cast_precision_loss)] // gauges are floating-point numbers
            metrics::gauge!(
                "sapwood_group_lag_records",
                "directory" => directory.to_owned(),
                "group" => lag.group.clone(),
                "topic" => of.topic().to_owned(),
                "partition" => of.partition().to_string(),
            )
            .set(lag.lag as f64);
        }
        for group in &self.share_groups {
            group.publish(directory);
        }
    }
}

impl ShareGroupMetrics {
    fn publish(&self, directory: &str) {
        let of = &self.topic_partition;
        let labels = [
            Label::new("directory", directory.to_owned()),
            Label::new("group", self.group.clone()),
            Label::new("topic", of.topic().to_owned()),
            Label::new("partition", of.partition().to_string()),
        ];
        for (name, value) in [
            ("sapwood_share_group_lag_records", self.lag),
            ("sapwood_share_group_acquired_records", self.acquired),
            ("sapwood_share_group_in_flight_records", self.in_flight),
            ("sapwood_share_group_delayed_records", self.delayed),
        ] {
            #[allow(clippy::cast_precision_loss)] // gauges are floating-point numbers
            metrics::gauge!(name, labels.iter()).set(value as f64);
        }
        let totals = self.totals;
        for (kind, value) in
            [("accept", totals.accepted), ("release", totals.released), ("reject", totals.rejected)]
        {
            let kind = Label::from_static_parts("kind", kind);
            let labels: Vec<_> = labels.iter().cloned().chain([kind]).collect();
            metrics::counter!("sapwood_share_group_acknowledged_total", labels).absolute(value);
        }
        for (name, value) in [
            ("sapwood_share_group_given_up_total", totals.given_up),
            ("sapwood_share_group_timed_out_total", totals.timed_out),
            ("sapwood_share_group_dead_letters_total", totals.dead_letters),
        ] {
            metrics::counter!(name, labels.iter()).absolute(value);
        }
    }
}

fn micros(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
