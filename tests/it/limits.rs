//! Goal: when descriptors or space run out, calls say so in a way that tells the caller to try again;
//! and when there is enough again they work, and nothing that was acknowledged is lost (contract,
//! clauses 10, 34; faults F4, F10).
//!
//! Method: a child process under `ulimit -n` that takes all descriptors itself and lets go of them
//! again; a small file system of its own for the full disk, where one can be mounted.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use sapwood::{
    Broker, Durability, Error, OffsetAndMetadata, Partition, Record, Result, TopicConfig,
    TopicPartition,
};

const DESCRIPTORS: &str = "SAPWOOD_LIMITS_DESCRIPTORS";

fn config(durability: Durability) -> TopicConfig {
    TopicConfig::default().segment_bytes(2048).max_message_bytes(1024).durability(durability)
}

fn open(directory: &Path) -> Result<Broker> {
    Broker::builder(directory).background_thread(false).open()
}

/// The logs of two topics, one of each durability.
fn logs(broker: &Broker) -> Vec<Partition> {
    let written = Durability::Written { flush_interval: Duration::from_secs(1) };
    let topics = [("fsync", Durability::Fsync), ("written", written)];
    let make = |(name, durability)| {
        let topic = broker.topic(name).or_else(|_| broker.create_topic(name, config(durability)));
        topic.unwrap().partition(0).unwrap()
    };
    topics.into_iter().map(make).collect()
}

/// Appends the number of the record; counts it if it was acknowledged.
fn append(log: &Partition, acknowledged: &mut BTreeMap<String, u64>) -> Result<()> {
    let count = acknowledged.entry(log.topic().name().to_owned()).or_default();
    let at = log.append(&[Record::new(&format!("{count:0300}"))])?;
    assert_eq!(at.offset, *count, "no offset is left out or used twice");
    *count += 1;
    Ok(())
}

fn assert_passing(error: &Error) {
    assert!(error.is_retriable() && !error.is_fatal(), "{error}");
}

fn assert_all_there(broker: &Broker, acknowledged: &BTreeMap<String, u64>) {
    assert!(broker.verify().unwrap().is_intact());
    for (topic, count) in acknowledged {
        let of = TopicPartition::new(topic.as_str(), 0);
        let mut consumer = broker.consumer().assign([of]).unwrap();
        let mut next = 0;
        while next < *count {
            let records = consumer.poll(Duration::ZERO).unwrap();
            assert!(!records.is_empty(), "{topic}: {count} acknowledged, {next} found");
            for record in &records {
                assert_eq!(record.offset(), next);
                assert_eq!(record.value(), Some(format!("{next:0300}").as_bytes()));
                next += 1;
            }
        }
    }
}

/// All descriptors that this process may have.
fn take_all_descriptors() -> Vec<File> {
    let mut taken = Vec::new();
    loop {
        match File::open("/dev/null") {
            Ok(file) => taken.push(file),
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(24), "{error}");
                return taken;
            }
        }
    }
}

/// What the child does, under its limit.
#[test]
fn child() {
    let Ok(directory) = std::env::var(DESCRIPTORS) else { return };
    let directory = Path::new(&directory);
    let broker = open(directory).unwrap();
    let logs = logs(&broker);
    let mut acknowledged = BTreeMap::new();
    for _ in 0..20 {
        logs.iter().for_each(|log| append(log, &mut acknowledged).unwrap());
    }
    let mut failures = 0;
    for round in 0..5 {
        let mut taken = take_all_descriptors();
        // Some need no new file, as long as the segment has room.
        for log in logs.iter().cycle().take(40) {
            failures += append(log, &mut acknowledged).map_or_else(
                |e| {
                    assert_passing(&e);
                    1
                },
                |()| 0,
            );
        }
        assert_passing(&open(&directory.join("other")).unwrap_err());
        assert_passing(&Broker::open_read_only(directory).unwrap_err());
        // Now with a few left, so that it is in the middle of the work that they run out.
        taken.truncate(taken.len() - 2 * round);
        let name = format!("new-{round}");
        let many = TopicConfig::default().partitions(50);
        assert_passing(&broker.create_topic(&name, many).unwrap_err());
        assert_passing(&broker.add_partitions("fsync", 50).unwrap_err());
        drop(taken);
        // What was written and not synced keeps its files open.
        logs.iter().for_each(|log| log.flush().unwrap());
        broker.create_topic(&name, TopicConfig::default().partitions(2)).unwrap();
        broker.add_partitions("fsync", 2 + u32::try_from(round).unwrap()).unwrap();
        for log in logs.iter().cycle().take(20) {
            append(log, &mut acknowledged).unwrap();
        }
    }
    assert!(failures > 5, "{failures}: segments had to be rolled");
    assert_all_there(&broker, &acknowledged);
    broker.close().unwrap();
    drop((logs, broker));
    let taken = take_all_descriptors();
    assert_passing(&open(directory).unwrap_err());
    drop(taken);
    let broker = open(directory).unwrap();
    assert_all_there(&broker, &acknowledged);
    let partitions: Vec<_> =
        broker.topics().unwrap().iter().map(sapwood::Topic::partition_count).collect();
    assert_eq!(partitions, [6, 2, 2, 2, 2, 2, 1], "fsync, five new ones, written");
    println!("survived");
}

#[test]
fn running_out_of_descriptors_is_told_and_passes() {
    let directory = tempfile::tempdir().unwrap();
    let output = Command::new("sh")
        .args(["-c", "ulimit -n 64; exec \"$0\" --exact limits::child --nocapture"])
        .arg(std::env::current_exe().unwrap())
        .env(DESCRIPTORS, directory.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("survived"), "{said}\n{errors}");
}

/// A small file system, gone when dropped.
struct Mounted(tempfile::TempDir);

impl Mounted {
    /// `None` if this user may not mount.
    fn new() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=4m", "none"])
            .arg(directory.path())
            .output();
        mounted.is_ok_and(|output| output.status.success()).then_some(Self(directory))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("-l").arg(self.0.path()).status();
        assert!(unmounted.is_ok_and(|status| status.success()) || std::thread::panicking());
    }
}

#[test]
fn a_full_disk_is_told_and_passes() {
    let Some(mounted) = Mounted::new() else {
        println!("SKIPPED: no file system can be mounted here");
        return;
    };
    let directory = mounted.0.path();
    let ballast = directory.join("ballast");
    fs::write(&ballast, vec![0; 1 << 20]).unwrap();
    let broker = open(directory).unwrap();
    let mut acknowledged = BTreeMap::new();
    let group = || [(TopicPartition::new("fsync", 0), OffsetAndMetadata::new(1))];
    {
        let logs = logs(&broker);
        logs.iter().for_each(|log| append(log, &mut acknowledged).unwrap());
        broker.reset_group("g", group()).unwrap();
        for log in &logs {
            let full = loop {
                if let Err(error) = append(log, &mut acknowledged) {
                    break error;
                }
            };
            assert!(matches!(full, Error::StorageFull { .. }), "{full}");
            assert_passing(&full);
        }
        let full = broker.create_topic("new", TopicConfig::default()).unwrap_err();
        assert!(matches!(full, Error::StorageFull { .. }), "{full}");
    }
    // It opens, reads, and closes on the full disk.
    drop(broker);
    let broker = open(directory).unwrap();
    assert_all_there(&broker, &acknowledged);
    assert_eq!(broker.describe_group("g").unwrap().unwrap().offsets[0].committed.offset, 1);
    let full = logs(&broker).iter().cycle().find_map(|log| append(log, &mut acknowledged).err());
    assert_passing(&full.unwrap());

    fs::remove_file(&ballast).unwrap();
    for log in logs(&broker).iter().cycle().take(20) {
        append(log, &mut acknowledged).unwrap();
    }
    broker.create_topic("new", TopicConfig::default()).unwrap();
    broker.reset_group("g", group()).unwrap();
    broker.close().unwrap();
    drop(broker);
    assert_all_there(&open(directory).unwrap(), &acknowledged);
}
