//! Goal: whoever reads along sees everything that was acknowledged, in order and whole, whatever the
//! writer does meanwhile; and leaves no trace (contract, clauses 4, 25, 26).
//!
//! Method: a reader beside a writer in the same process, step by step; beside one in another process
//! that writes as fast as it can, rolls, deletes, closes, dies and comes again. Committed offsets
//! seen by readers are with the groups' tests.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use sapwood::{
    Broker, Consumer, Durability, Error, OffsetAndMetadata, Partition, Record, Topic, TopicConfig,
    TopicPartition,
};

const LONG: Duration = Duration::from_secs(60);
const CHILD: &str = "SAPWOOD_READ_ONLY_DIRECTORY";
const TOPICS: [&str; 2] = ["fsync", "written"];
/// What is deleted ends at a multiple of this.
const DELETED_STEP: u64 = 100;
const ROUNDS: u32 = 12;
const BATCHES: u64 = 120;

fn topics(broker: &Broker) -> Vec<Topic> {
    let written = Durability::Written { flush_interval: Duration::from_millis(20) };
    let make = |(name, durability)| {
        let small = TopicConfig::default().segment_bytes(8 << 10).max_message_bytes(4 << 10);
        let config = small.durability(durability);
        broker.topic(name).or_else(|_| broker.create_topic(name, config)).unwrap()
    };
    TOPICS.into_iter().zip([Durability::Fsync, written]).map(make).collect()
}

/// The value of the record at an offset.
fn value(offset: u64) -> String {
    format!("{offset}|{}", "x".repeat(usize::try_from(offset * 7_919 % 300).unwrap()))
}

/// Appends the next few records as one batch; returns where they end.
fn append_next(partition: &Partition) -> u64 {
    let next = partition.log_end_offset();
    let values: Vec<_> = (next..next + 1 + next % 3).map(value).collect();
    let records: Vec<_> = values.iter().map(Record::new).collect();
    let at = partition.append(&records).unwrap();
    assert_eq!(at.offset, next);
    next + u64::try_from(records.len()).unwrap()
}

/// Takes what there is now; every record must be the one after the last, but where some were
/// deleted first.
fn follow(consumer: &mut Consumer, positions: &mut BTreeMap<String, u64>, timeout: Duration) {
    loop {
        let records = consumer.poll(timeout).unwrap();
        for record in &records {
            let position = positions.entry(record.topic().to_owned()).or_default();
            let skipped = record.offset() > *position && record.offset() % DELETED_STEP == 0;
            let of = record.topic_partition();
            assert!(
                record.offset() == *position || skipped,
                "{of}: {} after {position}",
                record.offset()
            );
            assert_eq!(record.value(), Some(value(record.offset()).as_bytes()), "{of}");
            *position = record.offset() + 1;
        }
        if records.is_empty() || timeout != Duration::ZERO {
            return;
        }
    }
}

#[test]
fn what_was_acknowledged_is_seen_at_once_across_rolls_and_deletions() {
    let directory = tempfile::tempdir().unwrap();
    let broker = Broker::open(directory.path()).unwrap();
    let partitions: Vec<_> =
        topics(&broker).iter().map(|topic| topic.partition(0).unwrap()).collect();
    let reader = Broker::open_read_only(directory.path()).unwrap();
    let mut consumer = reader.consumer().subscribe(TOPICS).unwrap();
    let mut positions = BTreeMap::new();
    for batch in 0..300 {
        for partition in &partitions {
            let end = append_next(partition);
            follow(&mut consumer, &mut positions, Duration::ZERO);
            assert_eq!(positions[partition.topic_partition().topic()], end);
            if batch % 40 == 39 {
                partition.delete_records(end / DELETED_STEP * DELETED_STEP).unwrap();
            }
        }
    }
    let metrics = broker.metrics().unwrap();
    assert!(metrics.segments_rolled > 10 && metrics.segments_deleted > 5, "{metrics:?}");
    for partition in &partitions {
        let seen = reader.topic(partition.topic().name()).unwrap().partition(0).unwrap();
        assert_eq!(seen.log_start_offset(), partition.log_start_offset());
        assert_eq!(seen.log_end_offset(), partition.log_end_offset());
    }
}

#[test]
fn the_same_reader_goes_on_when_the_writer_closes_or_dies_and_comes_again() {
    let directory = tempfile::tempdir().unwrap();
    topics(&Broker::open(directory.path()).unwrap());
    let reader = Broker::open_read_only(directory.path()).unwrap();
    let mut consumer = reader.consumer().subscribe(TOPICS).unwrap();
    let mut positions = BTreeMap::new();
    for round in 0..10 {
        let broker = Broker::open(directory.path()).unwrap();
        for topic in topics(&broker) {
            let partition = topic.partition(0).unwrap();
            let end = (0..15).fold(0, |_, _| append_next(&partition));
            follow(&mut consumer, &mut positions, Duration::ZERO);
            assert_eq!(positions[topic.name()], end, "round {round}");
        }
        if round % 2 == 0 {
            broker.close().unwrap();
        }
    }
    assert!(reader.verify().unwrap().is_intact());
}

/// The writer: opens, appends, deletes, closes or just ends, again and again.
#[test]
fn child() {
    let Ok(directory) = std::env::var(CHILD) else { return };
    for round in 0..ROUNDS {
        let broker = Broker::open(&directory).unwrap();
        let topics = topics(&broker);
        for batch in 0..BATCHES {
            for topic in &topics {
                let end = append_next(&topic.partition(0).unwrap());
                println!("acknowledged {} {end}", topic.name());
                std::io::stdout().flush().unwrap();
                if batch == BATCHES / 2 && round % 3 == 2 {
                    let before = end.saturating_sub(200) / DELETED_STEP * DELETED_STEP;
                    topic.partition(0).unwrap().delete_records(before).unwrap();
                }
            }
        }
        if round % 2 == 0 {
            broker.close().unwrap();
        }
    }
    println!("done");
}

#[test]
fn a_reader_in_another_process_sees_everything_acknowledged_in_order() {
    let directory = tempfile::tempdir().unwrap();
    topics(&Broker::open(directory.path()).unwrap());
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "read_only::child", "--nocapture"])
        .env(CHILD, directory.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let acknowledged: Arc<[AtomicU64; 2]> = Arc::default();
    let done = Arc::new(AtomicBool::new(false));
    let output = BufReader::new(child.stdout.take().unwrap());
    let (to, ended) = (acknowledged.clone(), done.clone());
    let listener = std::thread::spawn(move || {
        let lines: Vec<_> =
            output.lines().map(Result::unwrap).map(|line| hear(&line, &to)).collect();
        ended.store(true, Ordering::SeqCst);
        lines.contains(&true)
    });
    let reader = Broker::open_read_only(directory.path()).unwrap();
    let mut consumer = reader.consumer().max_poll_records(37).subscribe(TOPICS).unwrap();
    let mut positions = BTreeMap::new();
    loop {
        let finished = done.load(Ordering::SeqCst);
        let promised = acknowledged.each_ref().map(|end| end.load(Ordering::SeqCst));
        follow(&mut consumer, &mut positions, Duration::ZERO);
        for (topic, promised) in TOPICS.into_iter().zip(promised) {
            let seen = positions.get(topic).copied().unwrap_or(0);
            assert!(seen >= promised, "{topic}: {promised} acknowledged, {seen} seen");
        }
        if finished {
            break;
        }
    }
    assert!(listener.join().unwrap(), "the child has come to its end");
    assert!(child.wait().unwrap().success());
    assert!(positions.values().all(|end| *end >= u64::from(ROUNDS) * BATCHES), "{positions:?}");
}

/// Notes an acknowledgement; returns whether the child is done.
fn hear(line: &str, acknowledged: &[AtomicU64; 2]) -> bool {
    if let Some(rest) = line.strip_prefix("acknowledged ") {
        let (topic, end) = rest.split_once(' ').unwrap();
        let index = TOPICS.iter().position(|name| *name == topic).unwrap();
        acknowledged[index].store(end.parse().unwrap(), Ordering::SeqCst);
    }
    line == "done"
}

/// Every file and directory with when it was last changed, and the bytes of files.
fn state(directory: &Path) -> BTreeMap<PathBuf, (SystemTime, Vec<u8>)> {
    let mut state = BTreeMap::new();
    let mut open = vec![directory.to_owned()];
    while let Some(path) = open.pop() {
        let metadata = fs::metadata(&path).unwrap();
        let mut bytes = Vec::new();
        if metadata.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            bytes = fs::read(&path).unwrap();
        }
        state.insert(path, (metadata.modified().unwrap(), bytes));
    }
    state
}

/// Two topics with some segments, and something committed.
fn fill(directory: &Path) -> Broker {
    let broker = Broker::builder(directory).background_thread(false).open().unwrap();
    for topic in topics(&broker) {
        let partition = topic.partition(0).unwrap();
        while partition.log_end_offset() < 150 {
            append_next(&partition);
        }
        partition.delete_records(100).unwrap();
    }
    let address = TopicPartition::new(TOPICS[0], 0);
    broker.reset_group("g", [(address, OffsetAndMetadata::new(120))]).unwrap();
    broker
}

/// Does everything with a read-only broker that can be done.
fn use_it(directory: &Path) {
    let reader = Broker::open_read_only(directory).unwrap();
    let mut consumer = reader.consumer().group("g").subscribe(TOPICS).unwrap();
    let mut positions = BTreeMap::from([(TOPICS[0].to_owned(), 120), (TOPICS[1].to_owned(), 100)]);
    follow(&mut consumer, &mut positions, Duration::ZERO);
    assert!(positions.values().all(|end| *end >= 150));
    assert_eq!(reader.describe_group("g").unwrap().unwrap().offsets[0].committed.offset, 120);
    assert!(reader.verify().unwrap().is_intact());
    everything_that_writes_is_refused(&reader, &mut consumer);
    consumer.close().unwrap();
    reader.close().unwrap();
}

fn everything_that_writes_is_refused(reader: &Broker, consumer: &mut Consumer) {
    let topic = reader.topic(TOPICS[0]).unwrap();
    let partition = topic.partition(0).unwrap();
    let address = || [(TopicPartition::new(TOPICS[0], 0), OffsetAndMetadata::new(0))];
    let sent = || {
        let producer = reader.producer().build()?;
        producer.send(&topic, Record::new("x"))?.wait().map(drop)
    };
    let refused = [
        ("create_topic", reader.create_topic("new", TopicConfig::default()).map(drop)),
        ("delete_topic", reader.delete_topic(TOPICS[0])),
        ("alter_topic", reader.alter_topic(TOPICS[0], topic.config())),
        ("add_partitions", reader.add_partitions(TOPICS[0], 2)),
        ("append", partition.append(&[Record::new("x")]).map(drop)),
        ("delete_records", partition.delete_records(101).map(drop)),
        ("send", sent()),
        ("reset_group", reader.reset_group("h", address())),
        ("delete_group", reader.delete_group("g")),
        ("commit", consumer.commit()),
        ("commit_offsets", consumer.commit_offsets(address())),
    ];
    for (call, result) in refused {
        let error = result.expect_err(call);
        assert!(is_read_only(&error), "{call}: {error}");
    }
}

/// A failed send wraps what failed it.
fn is_read_only(error: &Error) -> bool {
    match error {
        Error::SendFailed { source, .. } => is_read_only(source),
        error => matches!(error, Error::ReadOnly { .. }),
    }
}

#[test]
fn reading_leaves_no_trace() {
    let directory = tempfile::tempdir().unwrap();
    let mut writer = Some(fill(directory.path()));
    for what in ["beside a writer", "after a kill", "after a torn write", "after a close"] {
        match what {
            "after a kill" => writer = None,
            "after a torn write" => tear(directory.path()),
            "after a close" => Broker::open(directory.path()).unwrap().close().unwrap(),
            _ => {}
        }
        let before = state(directory.path());
        use_it(directory.path());
        let after = state(directory.path());
        let changed = before.iter().find(|(path, state)| after.get(*path) != Some(*state));
        assert!(changed.is_none(), "{what}: {:?}", changed.map(|(path, _)| path));
        assert_eq!(after.len(), before.len(), "{what}");
    }
    drop(writer);
}

/// The last segment of a topic ends in the middle of a batch.
fn tear(directory: &Path) {
    let mut segments: Vec<_> = fs::read_dir(directory.join("fsync-0"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .collect();
    segments.sort();
    let last = fs::read(segments.last().unwrap()).unwrap();
    let end = last.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
    let torn = [&last[..end], &last[..100]].concat();
    fs::write(segments.last().unwrap(), torn).unwrap();
}

#[test]
fn a_reader_is_told_when_its_topic_is_deleted_and_reads_on_in_others() {
    let directory = tempfile::tempdir().unwrap();
    let broker = fill(directory.path());
    let reader = Broker::open_read_only(directory.path()).unwrap();
    let mut consumer = reader.consumer().subscribe(TOPICS).unwrap();
    let mut positions = BTreeMap::new();
    follow(&mut consumer, &mut positions, Duration::ZERO);
    broker.delete_topic(TOPICS[0]).unwrap();
    let end = append_next(&broker.topic(TOPICS[1]).unwrap().partition(0).unwrap());
    let (mut told, mut seen) = (None, 0);
    while told.is_none() || seen < end {
        match consumer.poll(LONG) {
            Ok(records) => seen = records.iter().last().map_or(seen, |record| record.offset() + 1),
            Err(error) => told = Some(error),
        }
    }
    let told = told.unwrap();
    assert!(matches!(told, Error::UnknownTopic { .. } | Error::Io { .. }), "{told}");
    assert!(told.to_string().contains(TOPICS[0]), "{told}");
}

#[test]
fn a_reader_finds_topics_and_partitions_that_came_after_it() {
    let directory = tempfile::tempdir().unwrap();
    let broker = fill(directory.path());
    let reader = Broker::open_read_only(directory.path()).unwrap();
    let new = broker.create_topic("new", TopicConfig::default()).unwrap();
    broker.add_partitions(TOPICS[0], 3).unwrap();
    append_next(&new.partition(0).unwrap());
    assert_eq!(reader.topic("new").unwrap().partition(0).unwrap().high_watermark(), 1);
    assert_eq!(reader.topic(TOPICS[0]).unwrap().partition_count(), 3);
    assert!(reader.verify().unwrap().is_intact());
}

#[test]
fn offsets_and_lag_are_those_of_the_moment_once_they_are_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let writer = Broker::open(directory.path()).unwrap();
    let written = topics(&writer).remove(1).partition(0).unwrap();
    let of = written.topic_partition().clone();
    writer.reset_group("g", [(of, OffsetAndMetadata::new(0))]).unwrap();
    let reader = Broker::open_read_only(directory.path()).unwrap();
    let read = reader.topic("written").unwrap().partition(0).unwrap();
    let end = append_next(&written);
    assert_eq!(read.high_watermark(), 0, "nobody has looked");
    let group = reader.describe_group("g").unwrap().unwrap();
    assert_eq!(group.offsets[0].lag, end);
    let end = append_next(&written);
    read.refresh().unwrap();
    assert_eq!((read.high_watermark(), read.size()), (end, written.size()));
    written.refresh().unwrap();
    writer.delete_topic("written").unwrap();
    reader.topics().unwrap();
    assert!(matches!(read.refresh(), Err(Error::Closed { .. })));
}
