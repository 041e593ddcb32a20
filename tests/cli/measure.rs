//! `sapwood perf` and `sapwood metrics`.

use std::collections::BTreeSet;

use serde_json::Value;
use snapbox::str;

use crate::scene::Scene;

#[test]
fn a_measurement_names_its_settings_rates_and_percentiles() {
    let scene = Scene::bare();
    let produce = "perf produce p --create --partitions 2 --config durability=written \
                   --num-records 1000 --threads 3 --record-size 10 --compression lz4 \
                   --producer-property buffer.memory=1000000";
    scene.run(produce).assert().success().stdout_eq(str![[r#"
topic: p
partitions: 2
topic compression.type: producer
durability: written
flush.ms: 1000
max.message.bytes: 1048588
segment.bytes: 1073741824
num-records: 1000
record-size: 10
throughput: -1
threads: 3
max-in-flight: 10000
batch.size: 16384
linger.ms: 5
compression.type: lz4
producer properties: buffer.memory=1000000
1000 records sent in [..] s: [..] records/s, [..] MB/s
send to answer: avg [..] ms, p50 [..] ms, p95 [..] ms, p99 [..] ms, p99.9 [..] ms, max [..] ms

"#]]);
    assert_eq!(scene.values("p").len(), 1000);
    assert!(scene.values("p").iter().all(|value| value.len() == 10));
    scene.run("perf consume p --threads 2").assert().success().stdout_eq(str![[r#"
topic: p
partitions: 2
topic compression.type: producer
durability: written
flush.ms: 1000
max.message.bytes: 1048588
segment.bytes: 1073741824
num-records: all
threads: 2
max.poll.records: 500
max.partition.fetch.bytes: 1048576
read mode: copied
1000 records read in [..] s: [..] records/s, [..] MB/s
poll: avg [..] ms, p50 [..] ms, p95 [..] ms, p99 [..] ms, p99.9 [..] ms, max [..] ms

"#]]);
}

fn json(scene: &Scene, arguments: &str) -> Value {
    let output = scene.run(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_limited_rate_is_kept_and_percentiles_rise() {
    let scene = Scene::with_orders();
    let report = json(&scene, "perf produce empty -n 100 --throughput 200 --json");
    assert_eq!(report["records"], 100);
    assert_eq!(report["settings"]["throughput"], "200");
    let rate = report["records_per_second"].as_f64().unwrap();
    // The last record is due after 99 intervals; a machine under load is later, never earlier.
    assert!(rate > 0.0 && rate < 205.0, "{rate}");
    let latency = |name: &str| report["latency_ms"][name].as_f64().unwrap();
    let rising = ["p50", "p95", "p99", "p99.9", "max"].map(latency);
    assert!(rising[0] > 0.0 && rising.is_sorted(), "{rising:?}");
    let read = json(&scene, "perf consume empty --num-records 50 --max-poll-records 10 --json");
    assert_eq!((read["records"].as_u64(), read["bytes"].as_u64()), (Some(50), Some(5000)));
}

#[test]
fn what_cannot_be_measured_is_refused() {
    let scene = Scene::with_orders();
    scene.run("perf produce ordres").assert().code(3).stderr_eq(str![[r#"
error: topic "ordres" does not exist; there are: empty, orders

"#]]);
    scene.run("perf produce orders --partitions 2").assert().code(2);
    scene.run("perf produce orders --create").assert().code(8).stderr_eq(str![[r#"
error: topic "orders" exists already; `sapwood topics describe` shows it, `sapwood topics alter` changes it

"#]]);
    scene.run("perf produce orders --threads 0").assert().code(2);
    scene.run("perf consume orders --threads 3").assert().code(2).stderr_eq(str![[r#"
error: --threads 3 are more than the 2 partition(s) of "orders": some would have nothing to read

"#]]);
    assert_eq!(scene.values("orders").len(), 6);
}

#[test]
fn metrics_are_in_prometheus_text_form() {
    let scene = Scene::with_group();
    scene.run("metrics").assert().success().stdout_eq(str![[r##"
# HELP sapwood_info The version of the program that took the snapshot.
# TYPE sapwood_info gauge
sapwood_info{version="0.1.0"} 1
# HELP sapwood_clean_shutdown 1 if the last writer has closed the directory in order; 0 while one is at work.
# TYPE sapwood_clean_shutdown gauge
sapwood_clean_shutdown 1
# HELP sapwood_topics How many topics there are.
# TYPE sapwood_topics gauge
sapwood_topics 2
# HELP sapwood_topic_partitions How many partitions the topic has.
# TYPE sapwood_topic_partitions gauge
sapwood_topic_partitions{topic="empty"} 1
sapwood_topic_partitions{topic="orders"} 2
# HELP sapwood_partition_log_start_offset The first offset that can be read.
# TYPE sapwood_partition_log_start_offset gauge
sapwood_partition_log_start_offset{topic="empty",partition="0"} 0
sapwood_partition_log_start_offset{topic="orders",partition="0"} 0
sapwood_partition_log_start_offset{topic="orders",partition="1"} 0
# HELP sapwood_partition_high_watermark_offset The offset up to which consumers read.
# TYPE sapwood_partition_high_watermark_offset gauge
sapwood_partition_high_watermark_offset{topic="empty",partition="0"} 0
sapwood_partition_high_watermark_offset{topic="orders",partition="0"} 3
sapwood_partition_high_watermark_offset{topic="orders",partition="1"} 3
# HELP sapwood_partition_log_end_offset The offset that the next record will get.
# TYPE sapwood_partition_log_end_offset gauge
sapwood_partition_log_end_offset{topic="empty",partition="0"} 0
sapwood_partition_log_end_offset{topic="orders",partition="0"} 3
sapwood_partition_log_end_offset{topic="orders",partition="1"} 3
# HELP sapwood_partition_size_bytes Bytes of record batches.
# TYPE sapwood_partition_size_bytes gauge
sapwood_partition_size_bytes{topic="empty",partition="0"} 0
sapwood_partition_size_bytes{topic="orders",partition="0"} 261
sapwood_partition_size_bytes{topic="orders",partition="1"} 255
# HELP sapwood_group_committed_offset Where the group goes on.
# TYPE sapwood_group_committed_offset gauge
sapwood_group_committed_offset{group="billing",topic="orders",partition="0"} 2
sapwood_group_committed_offset{group="billing",topic="orders",partition="1"} 3
# HELP sapwood_group_lag_records How many offsets lie between the committed one and the high watermark.
# TYPE sapwood_group_lag_records gauge
sapwood_group_lag_records{group="billing",topic="orders",partition="0"} 1
sapwood_group_lag_records{group="billing",topic="orders",partition="1"} 0
# HELP sapwood_group_commit_timestamp_seconds When the group has committed, in seconds since 1970.
# TYPE sapwood_group_commit_timestamp_seconds gauge
sapwood_group_commit_timestamp_seconds{group="billing",topic="orders",partition="0"} [..]
sapwood_group_commit_timestamp_seconds{group="billing",topic="orders",partition="1"} [..]
# HELP sapwood_share_group_start_offset Everything below it is done or given up.
# TYPE sapwood_share_group_start_offset gauge
# HELP sapwood_share_group_lag_records How many offsets are still to be done.
# TYPE sapwood_share_group_lag_records gauge
# HELP sapwood_share_group_in_flight_records Records that were handed out and are not done.
# TYPE sapwood_share_group_in_flight_records gauge
# HELP sapwood_share_group_delayed_records Records that were passed over because it is not their time.
# TYPE sapwood_share_group_delayed_records gauge
# HELP sapwood_share_group_highest_delivery_count How often the record was handed out that was most often, of those that are not done.
# TYPE sapwood_share_group_highest_delivery_count gauge

"##]]);
}

#[test]
fn metrics_tell_of_share_groups_beside_the_process_that_has_them() {
    let scene = Scene::with_share_groups();
    let broker = scene.open();
    let output = scene.run("metrics").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let of = |name: &str| {
        let start = format!("sapwood_share_group_{name}{{");
        let samples = text.lines().filter_map(|line| line.strip_prefix(&start));
        samples.map(str::to_owned).collect::<Vec<_>>()
    };
    let expected = |values: [u64; 3]| {
        let labels = [("idle", "orders", 0), ("idle", "orders", 1), ("workers", "jobs", 0)];
        let sample = |((group, topic, partition), value)| {
            format!("group=\"{group}\",topic=\"{topic}\",partition=\"{partition}\"}} {value}")
        };
        labels.into_iter().zip(values).map(sample).collect::<Vec<_>>()
    };
    assert_eq!(of("start_offset"), expected([0, 0, 1]));
    assert_eq!(of("lag_records"), expected([3, 3, 4]));
    assert_eq!(of("in_flight_records"), expected([0, 0, 1]));
    assert_eq!(of("delayed_records"), expected([0, 0, 1]));
    assert_eq!(of("highest_delivery_count"), expected([0, 0, 1]));
    drop(broker);
}

/// What a scraper would refuse: a sample without its HELP and TYPE right before it, a name or a label
/// that is none, a value that is no number.
#[test]
fn metrics_are_as_a_scraper_wants_them() {
    let scene = Scene::with_share_groups();
    let output = scene.run("metrics").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.ends_with('\n'));
    let is_name = |name: &str| name.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    let (mut helped, mut typed, mut seen) = ("", "", BTreeSet::new());
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            helped = rest.split_once(' ').unwrap().0;
            assert!(seen.insert(helped) && is_name(helped), "{helped} comes once");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            typed = rest.strip_suffix(" gauge").unwrap();
            assert_eq!(typed, helped);
        } else {
            let (sample, value) = line.rsplit_once(' ').unwrap();
            value.parse::<f64>().unwrap();
            let (name, labels) = sample.split_once('{').unwrap_or((sample, "}"));
            assert_eq!(name, typed);
            for label in labels.strip_suffix('}').unwrap().split(',').filter(|l| !l.is_empty()) {
                let (name, value) = label.split_once('=').unwrap();
                assert!(is_name(name) && value.starts_with('"') && value.ends_with('"'), "{label}");
            }
        }
    }
    assert!(seen.len() >= 10);
}
