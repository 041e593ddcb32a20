//! The counters of a broker for the crate `metrics`, and so for whatever exporter the program has.

use super::MetricsSnapshot;

impl MetricsSnapshot {
    /// Hands all values to the recorder, under the name of the broker's directory. Counters are set
    /// and not added to, so that this may be done at any time and by anybody.
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
    }
}

fn micros(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
