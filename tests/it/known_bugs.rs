//! Goal: what has gone wrong in other logs does not go wrong in this one. Each test quotes the bug.
//!
//! Method: through the public API, or by doing to the files what a crash or somebody else did.
//!
//! Tested elsewhere:
//!
//! - "A second open then corrupted the log": also `directory::a_second_writer_is_refused_...`.
//! - "One flipped bit in the active segment silently deleted everything after it", "a flipped byte
//!   served as valid": for every byte, `corruption::a_flipped_bit_...`, and
//!   `consume::no_flipped_bit_ever_yields_a_wrong_record`.
//! - "Poll ignored its timeout": `consume::a_poll_without_records_takes_its_timeout_and_no_longer`.
//! - "Polling at the tail rewound the durable cursor":
//!   `groups::polling_at_the_tail_writes_nothing_and_rewinds_nothing`.
//! - "A partial write followed by success", "a flush that never reached fsync", "write errors dropped
//!   on the floor", "crash between creating partition directories" at every system call: in the
//!   crate's own tests, where the file system can be made to fail.
//!
//! Not in this version: several members of a group sharing partitions, compaction, transactions.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use sapwood::{
    Broker, BrokerBuilder, Clock, Consumer, Durability, Error, ManualClock, OffsetAndMetadata,
    Partition, Record, Timestamp, TopicConfig, TopicPartition,
};

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

fn address() -> TopicPartition {
    TopicPartition::new("orders", 0)
}

fn small_segments() -> TopicConfig {
    TopicConfig::default().segment_bytes(1024).max_message_bytes(1024)
}

/// A broker in which nothing happens by itself, and a clock that moves when told.
fn quiet(directory: &Path, clock: &Arc<ManualClock>) -> BrokerBuilder {
    let quiet = Broker::builder(directory).clock(clock.clone()).background_thread(false);
    quiet.retention_check_interval(Duration::from_millis(1))
}

/// The log of `orders`, with so many records of 200 bytes, one batch each.
fn fill(broker: &Broker, config: TopicConfig, records: u64) -> Partition {
    let log = broker.create_topic("orders", config).unwrap().partition(0).unwrap();
    for n in 0..records {
        log.append(&[Record::new(&format!("{n:0200}"))]).unwrap();
    }
    log
}

fn reopened(directory: &Path) -> (Broker, Partition) {
    let broker = Broker::open(directory).unwrap();
    let log = broker.topic("orders").unwrap().partition(0).unwrap();
    (broker, log)
}

fn consumer(broker: &Broker) -> Consumer {
    broker.consumer().assign([address()]).unwrap()
}

/// The offsets of all that is there.
fn drain(consumer: &mut Consumer) -> Vec<u64> {
    let mut offsets = Vec::new();
    loop {
        let records = consumer.poll(Duration::ZERO).unwrap();
        if records.is_empty() {
            return offsets;
        }
        for record in &records {
            let value = format!("{:0200}", record.offset());
            assert_eq!(record.value(), Some(value.as_bytes()));
            offsets.push(record.offset());
        }
    }
}

/// The files of the partition with this extension, in order.
fn files(directory: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory.join("orders-0")).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut found: Vec<_> =
        paths.filter(|path| path.extension().is_some_and(|found| found == extension)).collect();
    found.sort();
    found
}

/// "Closing while a producer handle is alive silently did nothing but dropped the lock, and a second
/// open then corrupted the log."
#[test]
fn a_close_under_living_handles_is_a_close() {
    let directory = tempfile::tempdir().unwrap();
    let broker = Broker::open(directory.path()).unwrap();
    let log = fill(&broker, TopicConfig::default(), 3);
    let producer = broker.producer().linger(Duration::from_secs(3600)).build().unwrap();
    let delivery = producer.send(log.topic(), Record::new(&format!("{:0200}", 3))).unwrap();
    broker.close().unwrap();
    assert_eq!(delivery.wait().unwrap().offset, 3, "what was buffered was written");

    let (second, again) = reopened(directory.path());
    assert!(second.recovery_report().clean_shutdown);
    let error = producer.send(log.topic(), Record::new("x")).unwrap_err();
    assert!(matches!(error, Error::Closed { .. }), "{error}");
    assert!(matches!(log.append(&[Record::new("x")]), Err(Error::Closed { .. })));
    drop((producer, log, broker));
    assert_eq!(again.append(&[Record::new(&format!("{:0200}", 4))]).unwrap().offset, 4);
    assert!(matches!(Broker::open(directory.path()), Err(Error::Locked { .. })), "still locked");
    assert_eq!(drain(&mut consumer(&second)), [0, 1, 2, 3, 4]);
}

/// The other side of it: once the last handle is dropped, the directory is free. The background
/// thread, when it was in the middle of a turn, kept it locked for a while longer.
#[test]
fn a_dropped_broker_can_be_opened_again_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let written = Durability::Written { flush_interval: Duration::from_millis(1) };
    let config = TopicConfig::default().partitions(20).durability(written);
    Broker::open(directory.path()).unwrap().create_topic("orders", config).unwrap();
    for _ in 0..10 {
        let broker = Broker::open(directory.path()).unwrap();
        // The thread has something to sync nearly all the time.
        for partition in broker.topic("orders").unwrap().partitions().iter().cycle().take(100) {
            partition.append(&[Record::new("x")]).unwrap();
        }
        drop(broker);
    }
}

/// "A consumer below the log start hung for ever."
#[test]
fn a_consumer_below_the_log_start_goes_on_at_the_start() {
    let broker = Broker::in_memory().unwrap();
    let log = fill(&broker, small_segments(), 20);
    log.delete_records(13).unwrap();
    let mut consumer = consumer(&broker);
    consumer.seek(&address(), 2).unwrap();
    let records = consumer.poll(Duration::MAX).unwrap();
    assert_eq!(records.iter().next().unwrap().offset(), 13);
}

/// "A value accepted at write but above the reader's limit made the directory unopenable."
#[test]
fn a_record_that_was_accepted_can_be_read_whatever_the_limits_are_now() {
    let directory = tempfile::tempdir().unwrap();
    let large = vec![b'l'; 5 << 20];
    {
        let broker = Broker::open(directory.path()).unwrap();
        let config = TopicConfig::default().max_message_bytes(6 << 20);
        let topic = broker.create_topic("orders", config.clone()).unwrap();
        topic.partition(0).unwrap().append(&[Record::new(&large)]).unwrap();
        broker.alter_topic("orders", config.segment_bytes(4096).max_message_bytes(1024)).unwrap();
    }
    let (broker, log) = reopened(directory.path());
    let refused = log.append(&[Record::new(&large)]).unwrap_err();
    assert!(matches!(refused, Error::RecordTooLarge { .. }), "{refused}");
    let consumer = broker.consumer().fetch_max_bytes(1).max_partition_fetch_bytes(1);
    let mut consumer = consumer.subscribe(["orders"]).unwrap();
    let records = consumer.poll(Duration::from_secs(60)).unwrap();
    assert_eq!(records.iter().next().unwrap().value(), Some(&large[..]));
}

/// "One flipped bit in the active segment silently deleted everything after it."
#[test]
fn a_flipped_bit_in_the_active_segment_is_told_and_deletes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let broker = Broker::open(directory.path()).unwrap();
    fill(&broker, TopicConfig::default(), 10);
    broker.close().unwrap();
    let path = &files(directory.path(), "log")[0];
    let mut bytes = fs::read(path).unwrap();
    bytes[400] ^= 0x10;
    fs::write(path, &bytes).unwrap();
    match Broker::open(directory.path()) {
        Err(error) => assert!(matches!(error, Error::Corrupt(_)), "{error}"),
        Ok(broker) => {
            let damaged = broker.verify().unwrap();
            assert!(!damaged.is_intact());
        }
    }
    assert_eq!(fs::read(path).unwrap(), bytes);
}

/// "`lost+found` broke open; `../evil` as a topic name left the directory."
#[test]
fn lost_and_found_is_left_alone_and_no_name_leaves_the_directory() {
    let directory = tempfile::tempdir().unwrap();
    let inside = directory.path().join("inside");
    fs::create_dir_all(inside.join("lost+found")).unwrap();
    let broker = Broker::open(&inside).unwrap();
    for name in ["../evil", "/evil", "a/../../evil", "..", "lost+found", "evil\0", "evil\n"] {
        let error = broker.create_topic(name, TopicConfig::default()).unwrap_err();
        assert!(matches!(error, Error::InvalidTopicName { .. }), "{error}");
    }
    broker.close().unwrap();
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    assert_eq!(
        Broker::open(&inside).unwrap().recovery_report().ignored,
        [inside.join("lost+found")]
    );
}

/// "Two members of one group both got every record, and a late commit rewound the group."
#[test]
fn a_partition_is_read_by_one_member_and_whoever_has_left_rewinds_nothing() {
    let broker = Broker::in_memory().unwrap();
    fill(&broker, TopicConfig::default(), 6);
    let join = || {
        let consumer = broker.consumer().group("g").auto_commit(None).max_poll_records(2);
        consumer.subscribe(["orders"])
    };
    let (mut first, mut second) = (join().unwrap(), join().unwrap());
    assert_eq!(first.poll(Duration::ZERO).unwrap().len(), 2);
    assert_eq!(second.poll(Duration::ZERO).unwrap().len(), 0, "there is one partition");
    // One that is assigned by hand under the group's name is late with its commit.
    let mut late = broker.consumer().group("g").auto_commit(None).assign([address()]).unwrap();
    assert_eq!(late.position(&address()).unwrap(), 0);
    first.commit().unwrap();
    let rewind = late.commit_offsets([(address(), OffsetAndMetadata::new(0))]).unwrap_err();
    assert!(matches!(rewind, Error::GroupOccupied { .. }), "{rewind}");
    drop(first);
    second.poll(Duration::ZERO).unwrap();
    assert_eq!(second.position(&address()).unwrap(), 4, "it goes on at 2");
}

/// "Crash between creating partition directories: the topic reopened with fewer partitions."
#[test]
fn a_partition_directory_that_is_missing_is_no_smaller_topic() {
    let directory = tempfile::tempdir().unwrap();
    let broker = Broker::open(directory.path()).unwrap();
    broker.create_topic("orders", TopicConfig::default().partitions(4)).unwrap();
    drop(broker);
    fs::remove_dir_all(directory.path().join("orders-3")).unwrap();
    let error = Broker::open(directory.path()).unwrap_err();
    assert!(matches!(error, Error::Corrupt(_)), "{error}");
    assert!(!directory.path().join("orders-3").exists(), "nor is it made anew, empty");
}

/// "Retention by file mtime (a copy resets it)."
#[test]
fn retention_goes_by_the_records_and_not_by_their_files() {
    let directory = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(NOW));
    let broker = quiet(directory.path(), &clock).open().unwrap();
    let hour = Duration::from_secs(3600);
    fill(&broker, small_segments().retention_ms(hour), 20);
    broker.close().unwrap();
    // Those of a copy are new, those of an archive may be ancient.
    for (path, modified) in files(directory.path(), "log")
        .iter()
        .zip([SystemTime::UNIX_EPOCH, SystemTime::now()].iter().cycle())
    {
        fs::File::options().write(true).open(path).unwrap().set_modified(*modified).unwrap();
    }
    let broker = quiet(directory.path(), &clock).open().unwrap();
    let log = broker.topic("orders").unwrap().partition(0).unwrap();
    clock.advance(hour);
    broker.run_maintenance().unwrap();
    assert_eq!(log.log_start_offset(), 0, "exactly as old as allowed");
    clock.advance(Duration::from_millis(1));
    broker.run_maintenance().unwrap();
    assert_eq!((log.log_start_offset(), log.log_end_offset()), (20, 20));
}

/// "A missing index panicked."
#[test]
fn missing_indexes_are_made_anew() {
    let directory = tempfile::tempdir().unwrap();
    let broker = Broker::open(directory.path()).unwrap();
    fill(&broker, small_segments().index_interval_bytes(1), 30);
    broker.close().unwrap();
    let indexes = [files(directory.path(), "index"), files(directory.path(), "timeindex")].concat();
    assert!(indexes.len() > 10 && indexes.iter().any(|path| fs::metadata(path).unwrap().len() > 0));
    indexes.iter().for_each(|path| fs::remove_file(path).unwrap());
    let (broker, log) = reopened(directory.path());
    let mut consumer = consumer(&broker);
    for offset in [29, 3, 17, 0] {
        consumer.seek(&address(), offset).unwrap();
        assert_eq!(drain(&mut consumer), (offset..30).collect::<Vec<_>>());
    }
    assert_eq!(log.offset_for_timestamp(Timestamp::from_millis(0)).unwrap().unwrap().0, 0);
}

/// "A batch larger than the index's growth step panicked."
#[test]
fn batches_larger_than_the_index_interval_are_found() {
    let broker = Broker::in_memory().unwrap();
    let config = TopicConfig::default().index_interval_bytes(16).segment_index_bytes(96);
    let log = fill(&broker, config, 100);
    let values: Vec<_> = (100..3_000).map(|n| format!("{n:0200}")).collect();
    log.append(&values.iter().map(Record::new).collect::<Vec<_>>()).unwrap();
    let mut consumer = consumer(&broker);
    for offset in [2_999, 100, 99, 0] {
        consumer.seek(&address(), offset).unwrap();
        assert_eq!(drain(&mut consumer), (offset..3_000).collect::<Vec<_>>());
    }
}

/// "A flush that never reached fsync."
#[test]
fn a_flush_moves_the_recovery_point() {
    let directory = tempfile::tempdir().unwrap();
    let broker = quiet(directory.path(), &Arc::new(ManualClock::new(NOW))).open().unwrap();
    let written = Durability::Written { flush_interval: Duration::from_secs(3600) };
    let log = fill(&broker, TopicConfig::default().durability(written), 5);
    assert_eq!((log.recovery_point(), broker.metrics().unwrap().syncs), (0, 0));
    log.flush().unwrap();
    assert_eq!((log.recovery_point(), broker.metrics().unwrap().syncs), (5, 1));
}

/// "Large entries overwrote their neighbours at restart."
#[test]
fn large_records_and_their_neighbours_survive_restarts() {
    let directory = tempfile::tempdir().unwrap();
    let broker = Broker::open(directory.path()).unwrap();
    broker.create_topic("orders", TopicConfig::default().segment_bytes(2 << 20)).unwrap();
    drop(broker);
    let value = |n: u64| {
        vec![b'a' + u8::try_from(n).unwrap(); if n.is_multiple_of(2) { 900_000 } else { 10 }]
    };
    for n in 0..8 {
        let (broker, log) = reopened(directory.path());
        assert_eq!(log.append(&[Record::new(&value(n))]).unwrap().offset, n);
        if n % 3 == 0 {
            broker.close().unwrap();
        }
    }
    let (broker, _) = reopened(directory.path());
    let mut consumer = consumer(&broker);
    let mut next = 0;
    while next < 8 {
        for record in &consumer.poll(Duration::from_secs(60)).unwrap() {
            assert!(record.value() == Some(&value(next)[..]), "{next}");
            next += 1;
        }
    }
}

/// "Poll ignored its timeout and returned the whole backlog at once."
#[test]
fn a_poll_of_a_backlog_returns_as_much_as_was_asked_for() {
    let broker = Broker::in_memory().unwrap();
    fill(&broker, TopicConfig::default(), 1_200);
    let mut by_default = broker.consumer().subscribe(["orders"]).unwrap();
    assert_eq!(by_default.poll(Duration::MAX).unwrap().len(), 500);
    let few = broker.consumer().max_poll_records(3);
    assert_eq!(few.subscribe(["orders"]).unwrap().poll(Duration::MAX).unwrap().len(), 3);
}

/// "The log-end offset reset to zero when the last block was deleted before its successor existed."
#[test]
fn an_emptied_log_never_uses_an_offset_again() {
    let directory = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(NOW));
    for round in 0..6 {
        let broker = quiet(directory.path(), &clock).open().unwrap();
        let config = small_segments().retention_ms(Duration::from_secs(1));
        let log = match broker.topic("orders") {
            Ok(topic) => topic.partition(0).unwrap(),
            Err(_) => broker.create_topic("orders", config).unwrap().partition(0).unwrap(),
        };
        assert_eq!((log.log_start_offset(), log.log_end_offset()), (7 * round, 7 * round));
        for n in 0..7 {
            assert_eq!(log.append(&[Record::new(&[0; 200])]).unwrap().offset, 7 * round + n);
        }
        if round % 3 == 0 {
            log.delete_records(7 * (round + 1)).unwrap();
        } else {
            clock.advance(Duration::from_secs(10));
            broker.run_maintenance().unwrap();
            assert_eq!(log.size(), 0, "not even the active segment has anything left");
        }
        if round % 2 == 0 {
            broker.close().unwrap();
        }
    }
}

/// "A wrong time index made retention delete live segments."
#[test]
fn a_wrong_time_index_deletes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(NOW));
    let broker = quiet(directory.path(), &clock).open().unwrap();
    let hour = Duration::from_secs(3600);
    let config = small_segments().retention_ms(hour).index_interval_bytes(1);
    fill(&broker, config, 30);
    broker.close().unwrap();
    // Every entry says that its records are from 1970.
    let mut changed = 0;
    for path in files(directory.path(), "timeindex") {
        let mut bytes = fs::read(&path).unwrap();
        for entry in bytes.chunks_exact_mut(12) {
            entry[..8].copy_from_slice(&1_u64.to_be_bytes());
            changed += 1;
        }
        fs::write(&path, bytes).unwrap();
    }
    assert!(changed > 5);
    let broker = quiet(directory.path(), &clock).open().unwrap();
    clock.advance(hour / 2);
    broker.run_maintenance().unwrap();
    assert_eq!(drain(&mut consumer(&broker)), (0..30).collect::<Vec<_>>());
    let log = broker.topic("orders").unwrap().partition(0).unwrap();
    let half_an_hour_ago = clock.now().saturating_sub(hour);
    assert_eq!(log.offset_for_timestamp(half_an_hour_ago).unwrap().map(|(at, _)| at), Some(0));
}

/// "A corrupt group file deleted the group."
#[test]
fn a_damaged_group_is_refused_and_not_forgotten() {
    let directory = tempfile::tempdir().unwrap();
    let broker = Broker::open(directory.path()).unwrap();
    fill(&broker, TopicConfig::default(), 5);
    broker.reset_group("g", [(address(), OffsetAndMetadata::new(4))]).unwrap();
    broker.close().unwrap();
    let path = directory.path().join("__consumer_offsets-0/00000000000000000000.log");
    let intact = fs::read(&path).unwrap();
    for damaged in [vec![], vec![0; intact.len()], intact[..intact.len() - 1].to_vec()] {
        fs::write(&path, &damaged).unwrap();
        let error = Broker::open(directory.path()).unwrap_err();
        assert!(matches!(error, Error::Corrupt(_)), "{error}");
        assert_eq!(fs::read(&path).unwrap(), damaged);
    }
    fs::write(&path, &intact).unwrap();
    let (broker, _) = reopened(directory.path());
    assert_eq!(broker.describe_group("g").unwrap().unwrap().offsets[0].committed.offset, 4);
}

/// "Leftover temporary files from an aborted compaction were joined into the log."
#[test]
fn leftover_files_of_unfinished_work_are_no_part_of_the_log() {
    let directory = tempfile::tempdir().unwrap();
    let broker = Broker::open(directory.path()).unwrap();
    fill(&broker, small_segments(), 20);
    drop(broker);
    let segments = files(directory.path(), "log");
    for suffix in
        ["log.cleaned", "log.swap", "log.deleted", "cleaned", "swap", "deleted", "tmp", "log.tmp"]
    {
        fs::copy(&segments[0], segments[1].with_extension(suffix)).unwrap();
    }
    let (broker, log) = reopened(directory.path());
    assert_eq!((log.log_start_offset(), log.log_end_offset()), (0, 20));
    assert_eq!(drain(&mut consumer(&broker)), (0..20).collect::<Vec<_>>());
}

/// "A read-only remount reset state in memory": what cannot be written changes nothing.
#[test]
fn refused_changes_change_nothing_in_memory() {
    let directory = tempfile::tempdir().unwrap();
    let broker = Broker::open(directory.path()).unwrap();
    let log = fill(&broker, TopicConfig::default(), 10);
    log.delete_records(4).unwrap();
    let reader = Broker::open_read_only(directory.path()).unwrap();
    let seen = reader.topic("orders").unwrap().partition(0).unwrap();
    assert!(matches!(seen.delete_records(8), Err(Error::ReadOnly { .. })));
    assert!(matches!(seen.append(&[Record::new("x")]), Err(Error::ReadOnly { .. })));
    assert_eq!((seen.log_start_offset(), seen.log_end_offset()), (4, 10), "as before the refusal");
    assert_eq!((log.log_start_offset(), log.log_end_offset()), (4, 10));
    assert_eq!(drain(&mut consumer(&reader)), (4..10).collect::<Vec<_>>());
}
