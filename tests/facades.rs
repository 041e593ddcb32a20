//! Goal: with the features `metrics` and `tracing` a program's own recorder and subscriber hear of what
//! the library does, and of each thing once.
//!
//! Method: recorders and subscribers that keep what they are told, for this thread alone.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use sapwood::{
    Broker, BrokerBuilder, NOT_BEFORE_HEADER, OffsetAndMetadata, Record, TopicConfig,
    TopicPartition,
};

/// What a subscriber of one thread is told must not be decided while another thread, which has none,
/// comes to the same place for the first time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn append(broker: &Broker, count: u32) {
    let log = broker.topic("orders").unwrap().partition(0).unwrap();
    (0..count).for_each(|_| drop(log.append(&[Record::new("paid")]).unwrap()));
}

#[test]
fn counters_and_lags_reach_the_recorder_and_stay_what_they_are() {
    let _alone = ONE_AT_A_TIME.lock().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let clock = Arc::new(sapwood::ManualClock::new(sapwood::Timestamp::from_millis(0)));
    metrics::with_local_recorder(&recorder, || {
        let builder = Broker::builder(directory.path()).background_thread(false);
        let broker = builder.clock(clock.clone()).open().unwrap();
        broker.create_topic("orders", TopicConfig::default()).unwrap();
        append(&broker, 3);
        let of = TopicPartition::new("orders", 0);
        broker.reset_group("billing", [(of, OffsetAndMetadata::new(1))]).unwrap();
        for _ in 0..2 {
            clock.advance(std::time::Duration::from_secs(1));
            broker.run_maintenance().unwrap();
        }
    });
    let told: BTreeMap<_, _> = snapshotter
        .snapshot()
        .into_vec()
        .into_iter()
        .map(|(key, _, _, value)| (key.key().name().to_owned(), value))
        .collect();
    // Three, and one of the internal topic.
    assert_eq!(told["sapwood_batches_appended_total"], DebugValue::Counter(4));
    assert_eq!(told["sapwood_commits_total"], DebugValue::Counter(1));
    assert_eq!(told["sapwood_group_lag_records"], DebugValue::Gauge(2.0.into()));
}

/// What the recorder has been told of share groups: by name without what all have in common, and kind.
fn told_of_shares(snapshotter: &Snapshotter) -> BTreeMap<String, DebugValue> {
    let mut told = BTreeMap::new();
    for (key, _, _, value) in snapshotter.snapshot().into_vec() {
        let Some(name) = key.key().name().strip_prefix("sapwood_share_group_") else { continue };
        let labels: Vec<_> = key.key().labels().map(|label| (label.key(), label.value())).collect();
        assert_eq!(labels[1..4], [("group", "workers"), ("topic", "orders"), ("partition", "0")]);
        let kind = labels.get(4).map(|(_, kind)| format!(" {kind}")).unwrap_or_default();
        told.insert(format!("{name}{kind}"), value);
    }
    told
}

#[test]
fn what_share_groups_do_reaches_the_recorder() {
    let _alone = ONE_AT_A_TIME.lock().unwrap();
    let second = Duration::from_secs(1);
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let clock = Arc::new(sapwood::ManualClock::new(sapwood::Timestamp::from_millis(0)));
    let told = metrics::with_local_recorder(&recorder, || {
        let builder = BrokerBuilder::in_memory().background_thread(false);
        let broker = builder.clock(clock.clone()).open().unwrap();
        broker.create_topic("orders", TopicConfig::default()).unwrap();
        broker.create_topic("failed", TopicConfig::default()).unwrap();
        append(&broker, 9);
        let later = Record::new("later").header(NOT_BEFORE_HEADER, "1000000");
        broker.topic("orders").unwrap().partition(0).unwrap().append(&[later]).unwrap();
        append(&broker, 9);
        let workers = broker.share_consumer("workers").lock_duration(30 * second);
        let workers =
            workers.dead_letter_topic("failed").max_delivery_count(2).max_poll_records(15);
        let mut worker = workers.subscribe(["orders"]).unwrap();
        let poll = |worker: &mut sapwood::ShareConsumer| worker.poll(Duration::ZERO).unwrap();
        // Nine, one that is passed over, and five. Six are accepted, and three rejected.
        let records = poll(&mut worker);
        for record in &records {
            match record.offset() {
                0..6 => record.accept().unwrap(),
                6..9 => record.reject("no").unwrap(),
                _ => {}
            }
        }
        // The locks of the five time out; this poll has them and the rest, and releases two: they were
        // delivered twice, as the three others.
        clock.advance(31 * second);
        let again = poll(&mut worker);
        again.iter().take(2).for_each(|record| record.release().unwrap());
        // Those are given up by this poll, which has nothing else to take. Then one more is released.
        assert!(poll(&mut worker).is_empty());
        again.iter().last().unwrap().release().unwrap();
        broker.run_maintenance().unwrap();
        told_of_shares(&snapshotter)
    });
    let expected = [
        ("acknowledged_total accept", DebugValue::Counter(6)),
        ("acknowledged_total reject", DebugValue::Counter(3)),
        ("acknowledged_total release", DebugValue::Counter(3)),
        ("acquired_records", DebugValue::Gauge(6.0.into())),
        ("dead_letters_total", DebugValue::Counter(5)),
        ("delayed_records", DebugValue::Gauge(1.0.into())),
        ("given_up_total", DebugValue::Counter(2)),
        ("in_flight_records", DebugValue::Gauge(7.0.into())),
        ("lag_records", DebugValue::Gauge(8.0.into())),
        ("timed_out_total", DebugValue::Counter(5)),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value));
    assert_eq!(told, BTreeMap::from(expected));
}

/// Keeps what is written.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl io::Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_life_of_a_broker_is_told_in_events() {
    let _alone = ONE_AT_A_TIME.lock().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let kept = Kept::default();
    let writer = kept.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::with_default(subscriber, || {
        let open = || Broker::builder(directory.path()).background_thread(false).open().unwrap();
        let broker = open();
        let config = TopicConfig::default().segment_bytes(1_024).max_message_bytes(1_000);
        broker.create_topic("orders", config).unwrap();
        append(&broker, 20);
        let log = broker.topic("orders").unwrap().partition(0).unwrap();
        log.delete_records(20).unwrap();
        broker.delete_topic("orders").unwrap();
        broker.close().unwrap();
        drop((log, broker));
        drop(open());
    });
    let told = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
    let counts = |text: &str| told.lines().filter(|line| line.contains(text)).count();
    assert_eq!(counts("sapwood: opened"), 2, "{told}");
    assert_eq!(counts("clean_shutdown=true"), 1, "{told}");
    assert_eq!(counts("created a topic"), 1, "{told}");
    assert!(counts("DEBUG sapwood: began a segment") > 0, "{told}");
    assert!(counts("TRACE sapwood: synced partition=orders-0") >= 20, "{told}");
    assert!(counts("deleted segments partition=orders-0") > 0, "{told}");
    assert_eq!(counts("deleted a topic topic=\"orders\""), 1, "{told}");
    assert_eq!(counts("ERROR") + counts("WARN"), 0, "{told}");
}
