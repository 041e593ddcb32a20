//! Every counter of a broker in one place.
//!
//! Counters are plain relaxed atomics: they tell how much has happened, and order nothing.

#[cfg(feature = "metrics")]
mod facade;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crate::topic_partition::TopicPartition;

/// Counts up.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn increment(&self) {
        self.add(1);
    }

    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What was appended, counted by each thread in a place of its own: threads that append to different
/// partitions would have to wait for each other's cores otherwise.
#[derive(Debug, Default)]
pub(crate) struct Appends([AppendCounts; APPEND_PLACES]);

const APPEND_PLACES: usize = 16;

/// Alone in its cache lines, of which processors fetch two at a time.
#[derive(Debug, Default)]
#[repr(align(128))]
struct AppendCounts {
    batches: Counter,
    records: Counter,
    bytes: Counter,
}

impl Appends {
    /// Counts a batch.
    pub(crate) fn add(&self, records: u64, bytes: u64) {
        thread_local! {
            static PLACE: usize = {
                static NEXT: AtomicUsize = AtomicUsize::new(0);
                NEXT.fetch_add(1, Ordering::Relaxed) % APPEND_PLACES
            };
        }
        if let Some(counts) = self.0.get(PLACE.with(|place| *place)) {
            counts.batches.increment();
            counts.records.add(records);
            counts.bytes.add(bytes);
        }
    }

    fn sum(&self, counter: impl Fn(&AppendCounts) -> &Counter) -> u64 {
        self.0.iter().map(|counts| counter(counts).value()).sum()
    }
}

/// How many buckets a [`Histogram`] has: powers of two of microseconds, up to an hour.
const BUCKETS: usize = 33;

/// Counts durations by their magnitude.
#[derive(Debug)]
pub(crate) struct Histogram {
    buckets: [Counter; BUCKETS],
    total_micros: Counter,
}

impl Default for Histogram {
    fn default() -> Self {
        let buckets = std::array::from_fn(|_| Counter::default());
        Self { buckets, total_micros: Counter::default() }
    }
}

impl Histogram {
    pub(crate) fn record(&self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let bucket = (u64::BITS - micros.leading_zeros()) as usize;
        if let Some(bucket) = self.buckets.get(bucket.min(BUCKETS - 1)) {
            bucket.increment();
        }
        self.total_micros.add(micros);
    }

    fn snapshot(&self) -> LatencySnapshot {
        LatencySnapshot {
            counts: self.buckets.iter().map(Counter::value).collect(),
            total: Duration::from_micros(self.total_micros.value()),
        }
    }
}

/// What a broker counts. One per broker, shared by everything in it.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    pub(crate) appends: Appends,
    pub(crate) reads: Counter,
    pub(crate) bytes_read: Counter,
    pub(crate) records_consumed: Counter,
    pub(crate) syncs: Counter,
    pub(crate) batches_synced: Counter,
    pub(crate) sync_latency: Histogram,
    pub(crate) segments_rolled: Counter,
    pub(crate) segments_deleted: Counter,
    pub(crate) commits: Counter,
    pub(crate) maintenance_failures: Counter,
}

impl Metrics {
    /// All values at about the same moment.
    pub(crate) fn snapshot(&self) -> MetricsSnapshot {
        MetricsSnapshot {
            batches_appended: self.appends.sum(|counts| &counts.batches),
            records_appended: self.appends.sum(|counts| &counts.records),
            bytes_appended: self.appends.sum(|counts| &counts.bytes),
            reads: self.reads.value(),
            bytes_read: self.bytes_read.value(),
            records_consumed: self.records_consumed.value(),
            syncs: self.syncs.value(),
            batches_synced: self.batches_synced.value(),
            sync_latency: self.sync_latency.snapshot(),
            segments_rolled: self.segments_rolled.value(),
            segments_deleted: self.segments_deleted.value(),
            commits: self.commits.value(),
            group_lags: Vec::new(),
            share_groups: Vec::new(),
            maintenance_failures: self.maintenance_failures.value(),
        }
    }
}

/// What a broker has done since it was opened. All numbers count up from 0, but for those that say how
/// it is with groups at the moment.
///
/// With the crate's feature `metrics` the background thread tells all of it to the program's recorder
/// twice a second, each metric with the label `directory`:
///
/// | metric | kind | field |
/// |---|---|---|
/// | `sapwood_batches_appended_total` | counter | `batches_appended` |
/// | `sapwood_records_appended_total` | counter | `records_appended` |
/// | `sapwood_bytes_appended_total` | counter | `bytes_appended` |
/// | `sapwood_reads_total` | counter | `reads` |
/// | `sapwood_bytes_read_total` | counter | `bytes_read` |
/// | `sapwood_records_consumed_total` | counter | `records_consumed` |
/// | `sapwood_syncs_total` | counter | `syncs` |
/// | `sapwood_batches_synced_total` | counter | `batches_synced` |
/// | `sapwood_sync_microseconds_total` | counter | `sync_latency`, all together |
/// | `sapwood_segments_rolled_total` | counter | `segments_rolled` |
/// | `sapwood_segments_deleted_total` | counter | `segments_deleted` |
/// | `sapwood_commits_total` | counter | `commits` |
/// | `sapwood_maintenance_failures_total` | counter | `maintenance_failures` |
///
/// And with the labels `group`, `topic` and `partition` too:
///
/// | metric | kind | field |
/// |---|---|---|
/// | `sapwood_group_lag_records` | gauge | [`GroupLag::lag`] |
/// | `sapwood_share_group_lag_records` | gauge | [`ShareGroupMetrics::lag`] |
/// | `sapwood_share_group_acquired_records` | gauge | [`ShareGroupMetrics::acquired`] |
/// | `sapwood_share_group_in_flight_records` | gauge | [`ShareGroupMetrics::in_flight`] |
/// | `sapwood_share_group_delayed_records` | gauge | [`ShareGroupMetrics::delayed`] |
/// | `sapwood_share_group_acknowledged_total`, `kind` = `accept`, `release`, `reject` | counter | [`ShareTotals::accepted`], `released`, `rejected` |
/// | `sapwood_share_group_given_up_total` | counter | [`ShareTotals::given_up`] |
/// | `sapwood_share_group_timed_out_total` | counter | [`ShareTotals::timed_out`] |
/// | `sapwood_share_group_dead_letters_total` | counter | [`ShareTotals::dead_letters`] |
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MetricsSnapshot {
    /// Record batches appended to any partition, those of internal topics included.
    pub batches_appended: u64,
    /// Records in them.
    pub records_appended: u64,
    /// Bytes of those batches as stored: compressed, with headers.
    pub bytes_appended: u64,
    /// Reads of a run of batches, by consumers and others.
    pub reads: u64,
    /// Bytes of batches read, as stored.
    pub bytes_read: u64,
    /// Records that consumers were given.
    pub records_consumed: u64,
    /// Syncs of a partition. `batches_synced / syncs` is how many batches one of them served.
    pub syncs: u64,
    /// Batches that were made durable by those syncs.
    pub batches_synced: u64,
    /// How long the syncs took.
    pub sync_latency: LatencySnapshot,
    /// Segments that ended and were followed by another.
    pub segments_rolled: u64,
    /// Segments that were deleted.
    pub segments_deleted: u64,
    /// Commits of group offsets.
    pub commits: u64,
    /// How far every group is behind, in each partition for which it has committed an offset.
    pub group_lags: Vec<GroupLag>,
    /// What every share group does, in each partition of which it takes records.
    pub share_groups: Vec<ShareGroupMetrics>,
    /// Turns of the background thread in which something failed. What it was shows where it
    /// matters: a partition that has stopped says why to whoever appends to it.
    pub maintenance_failures: u64,
}

/// How far a group is behind in a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupLag {
    /// The group.
    pub group: String,
    /// The partition.
    pub topic_partition: TopicPartition,
    /// How many offsets lie between the committed one and the high watermark.
    pub lag: u64,
}

impl GroupLag {
    pub(crate) fn new(group: &str, topic_partition: TopicPartition, lag: u64) -> Self {
        Self { group: group.to_owned(), topic_partition, lag }
    }
}

/// What a share group does in a partition.
///
/// ```
/// # use std::time::Duration;
/// # use sapwood::{Broker, Record, TopicConfig};
/// # let broker = Broker::in_memory()?;
/// # let jobs = broker.create_topic("jobs", TopicConfig::default())?;
/// jobs.partition(0)?.append(&[Record::new("one"), Record::new("two"), Record::new("three")])?;
/// let mut worker = broker.share_consumer("workers").max_poll_records(2).subscribe(["jobs"])?;
/// let records = worker.poll(Duration::ZERO)?;
/// records.iter().next().expect("there are two").accept()?;
/// let workers = &broker.metrics()?.share_groups[0];
/// assert_eq!((workers.acquired, workers.lag, workers.totals.accepted), (1, 2, 1));
/// # Ok::<(), sapwood::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShareGroupMetrics {
    /// The group.
    pub group: String,
    /// The partition.
    pub topic_partition: TopicPartition,
    /// How many offsets are still to be done.
    pub lag: u64,
    /// Records that workers have.
    pub acquired: u64,
    /// Those, and records that have been handed out before and wait to be again.
    pub in_flight: u64,
    /// Records that were passed over: it is not their time yet.
    pub delayed: u64,
    /// What has become of the records that workers had.
    pub totals: ShareTotals,
}

/// What has become of the records that a share group's workers had, in a partition: counted up from 0 since
/// the broker was opened or the group was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ShareTotals {
    /// Done.
    pub accepted: u64,
    /// Let go, to be delivered again: also by being dropped.
    pub released: u64,
    /// Given up by a worker.
    pub rejected: u64,
    /// Given up because they were delivered as often as a record may be.
    pub given_up: u64,
    /// Their locks were over before anything was said of them, and they are delivered again. This is found
    /// out when somebody polls.
    pub timed_out: u64,
    /// Copies made in a dead-letter topic; of one record there may be several if copying it has failed.
    pub dead_letters: u64,
}

/// How often something took how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LatencySnapshot {
    counts: Vec<u64>,
    total: Duration,
}

impl LatencySnapshot {
    /// How many were measured.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// All of them together.
    pub fn total(&self) -> Duration {
        self.total
    }

    /// A duration that the given share (0.0 to 1.0) did not exceed; exact to a factor of two.
    /// `None` if nothing was measured.
    ///
    /// ```
    /// # let broker = sapwood::Broker::in_memory()?;
    /// assert_eq!(broker.metrics()?.sync_latency.quantile(0.99), None);
    /// # Ok::<(), sapwood::Error>(())
    /// ```
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        #[allow(clippy::cast_precision_loss)] // a rank, and rough by nature
        let is_covered = |seen: u64| seen as f64 >= share.clamp(0.0, 1.0) * count as f64;
        let mut seen = 0;
        for (bucket, bucket_count) in self.counts.iter().enumerate() {
            seen += bucket_count;
            if seen > 0 && is_covered(seen) {
                return Some(Duration::from_micros(1 << bucket));
            }
        }
        None
    }

    /// Upper bounds and counts of the buckets, for exporting.
    pub fn buckets(&self) -> impl Iterator<Item = (Duration, u64)> + '_ {
        let bound = |(bucket, count): (usize, &u64)| (Duration::from_micros(1 << bucket), *count);
        self.counts.iter().enumerate().map(bound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_upper_bounds_within_a_factor_of_two() {
        let histogram = Histogram::default();
        for micros in [70, 80, 90, 5_000] {
            histogram.record(Duration::from_micros(micros));
        }
        let snapshot = histogram.snapshot();
        assert_eq!(snapshot.count(), 4);
        assert_eq!(snapshot.quantile(0.5), Some(Duration::from_micros(128)));
        assert_eq!(snapshot.quantile(1.0), Some(Duration::from_micros(8_192)));
        assert_eq!(snapshot.total(), Duration::from_micros(5_240));
    }

    #[test]
    fn the_longest_durations_share_the_last_bucket() {
        let histogram = Histogram::default();
        histogram.record(Duration::MAX);
        assert_eq!(histogram.snapshot().count(), 1);
    }
}
