//! Goal: with the features `metrics` and `tracing` a program's own recorder and subscriber hear of what
//! the library does, and of each thing once.
//!
//! Method: recorders and subscribers that keep what they are told, for this thread alone.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use sapwood::{Broker, OffsetAndMetadata, Record, TopicConfig, TopicPartition};

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
