//! Fault F4: a full disk is told, in a way that says that it passes; once there is space again
//! everything goes on where it was, without anybody's doing, and nothing that was acknowledged is
//! lost. A full disk is no reason not to open or to read (contract, clause 10).
//!
//! On file systems of a few MiB: tmpfs, which refuses page by page, and ext4, which has a journal and
//! allocates late. Something that is not ours takes up space, and gives it back at the end.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use sapwood::{
    Broker, Durability, Error, OffsetAndMetadata, Partition, Record, Result, TopicConfig,
    TopicPartition,
};

use super::mount::Mount;
use super::skip;

/// What is said of records that were acknowledged: their number in each topic.
type Acknowledged = BTreeMap<String, u64>;

fn open(directory: &Path) -> Result<Broker> {
    Broker::builder(directory).background_thread(false).open()
}

/// The logs of three topics: one of each durability, whose segments roll every few records, and one
/// that fills the disk from within a single segment.
fn logs(broker: &Broker) -> Vec<Partition> {
    let written = Durability::Written { flush_interval: Duration::from_secs(1) };
    let small = TopicConfig::default().segment_bytes(2048).max_message_bytes(1024);
    let topics = [
        ("fsync", small.clone().durability(Durability::Fsync)),
        ("written", small.durability(written)),
        ("large", TopicConfig::default()),
    ];
    let make = |(name, config)| {
        let topic = broker.topic(name).or_else(|_| broker.create_topic(name, config));
        topic.unwrap().partition(0).unwrap()
    };
    topics.into_iter().map(make).collect()
}

fn value(log: &Partition, number: u64) -> Vec<u8> {
    let length = if log.topic().name() == "large" { 40_000 } else { 300 };
    format!("{number:0length$}").into_bytes()
}

/// Appends the number of the record; counts it if it was acknowledged.
fn append(log: &Partition, acknowledged: &mut Acknowledged) -> Result<()> {
    let count = acknowledged.entry(log.topic().name().to_owned()).or_default();
    let at = log.append(&[Record::new(&value(log, *count))])?;
    assert_eq!(at.offset, *count, "no offset is left out or used twice");
    *count += 1;
    Ok(())
}

fn assert_full(error: &Error) {
    assert!(matches!(error, Error::StorageFull { .. }), "{error}");
    assert!(error.is_retriable() && !error.is_fatal(), "{error}");
}

fn assert_all_there(broker: &Broker, acknowledged: &Acknowledged) {
    assert!(broker.verify().unwrap().is_intact());
    for log in logs(broker) {
        let count = acknowledged[log.topic().name()];
        let mut consumer = broker.consumer().assign([log.topic_partition().clone()]).unwrap();
        let mut next = 0;
        while next < count {
            let records = consumer.poll(Duration::ZERO).unwrap();
            assert!(!records.is_empty(), "{log:?}: {count} acknowledged, {next} found");
            for record in &records {
                assert_eq!(record.offset(), next);
                assert_eq!(record.value(), Some(value(&log, next).as_slice()));
                next += 1;
            }
        }
    }
}

fn commit(broker: &Broker, offset: u64) -> Result<()> {
    let offset = OffsetAndMetadata::new(offset);
    broker.reset_group("g", [(TopicPartition::new("fsync", 0), offset)])
}

fn committed(broker: &Broker) -> u64 {
    broker.describe_group("g").unwrap().unwrap().offsets[0].committed.offset
}

/// Everything that needs space, with none left, in a broker that was open before.
fn fill(broker: &Broker, acknowledged: &mut Acknowledged) -> u64 {
    let logs = logs(broker);
    // Within a segment, at a roll, and again at a roll; the large one first, it needs most.
    for log in logs.iter().rev() {
        let error = loop {
            if let Err(error) = append(log, acknowledged) {
                break error;
            }
        };
        assert_full(&error);
    }
    for topic in 0.. {
        if let Err(error) = broker.create_topic(&format!("new-{topic}"), TopicConfig::default()) {
            assert_full(&error);
            break;
        }
    }
    // A commit is small, and its log has space made ready: it takes many to fill that.
    let most = logs[0].log_end_offset();
    for n in 0..200_000 {
        if let Err(error) = commit(broker, n % most) {
            assert_full(&error);
            return if n == 0 { committed(broker) } else { (n - 1) % most };
        }
    }
    panic!("a full disk takes every commit");
}

fn a_full_disk_passes(mount: &Mount, ballast_len: usize) {
    let directory = &mount.path().join("data");
    let ballast = mount.path().join("ballast");
    fs::write(&ballast, vec![1; ballast_len]).unwrap();
    let mut acknowledged = Acknowledged::new();
    let broker = open(directory).unwrap();
    logs(&broker).iter().for_each(|log| append(log, &mut acknowledged).unwrap());
    commit(&broker, 1).unwrap();
    let resume_at = fill(&broker, &mut acknowledged);
    assert_all_there(&broker, &acknowledged);
    // As if killed: it opens and reads on the full disk, which stays full.
    drop(broker);
    let broker = open(directory).unwrap();
    assert_all_there(&broker, &acknowledged);
    assert_eq!(committed(&broker), resume_at);
    let full = logs(&broker).iter().cycle().find_map(|log| append(log, &mut acknowledged).err());
    assert_full(&full.unwrap());

    fs::remove_file(&ballast).unwrap();
    logs(&broker).iter().cycle().take(30).for_each(|log| append(log, &mut acknowledged).unwrap());
    broker.create_topic("after", TopicConfig::default()).unwrap();
    commit(&broker, 2).unwrap();
    broker.close().unwrap();
    drop(broker);
    // Closed in order on a disk with space; then full, opened, read and closed once more.
    let mut rest = File::create_new(&ballast).unwrap();
    while rest.write_all(&[1; 64 << 10]).is_ok() {}
    let broker = open(directory).unwrap();
    assert_all_there(&broker, &acknowledged);
    assert_eq!(committed(&broker), 2);
    broker.close().unwrap();
    drop(broker);
    assert_all_there(&open(directory).unwrap(), &acknowledged);
    println!("{acknowledged:?}");
}

#[test]
fn a_full_tmpfs_is_told_and_passes() {
    match Mount::tmpfs(8 << 20) {
        Ok(mount) => a_full_disk_passes(&mount, 2 << 20),
        Err(why) => skip("full tmpfs", &why),
    }
}

#[test]
fn a_full_ext4_is_told_and_passes() {
    match Mount::ext4(16 << 20) {
        Ok(mount) => a_full_disk_passes(&mount, 2 << 20),
        Err(why) => skip("full ext4", &why),
    }
}
