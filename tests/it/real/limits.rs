//! Fault F10: when descriptors or address space run out, calls say so in a way that tells the caller
//! to try again; and when there is enough again they work, in the same process, and nothing that was
//! acknowledged is lost (contract, clause 34).
//!
//! Children under a limit, which take all that there is themselves and let go of it again.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use memmap2::MmapMut;
use sapwood::{Broker, Durability, Error, Partition, Record, Result, TopicConfig, TopicPartition};

use super::{as_child, is_there, skip};

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
    acknowledged.iter().for_each(|(topic, count)| assert_is_there(broker, topic, *count));
}

fn assert_is_there(broker: &Broker, topic: &str, count: u64) {
    let mut consumer = broker.consumer().assign([TopicPartition::new(topic, 0)]).unwrap();
    let mut next = 0;
    while next < count {
        let records = consumer.poll(Duration::ZERO).unwrap();
        assert!(!records.is_empty(), "{topic}: {count} acknowledged, {next} found");
        for record in &records {
            assert_eq!(record.offset(), next);
            assert_eq!(record.value(), Some(format!("{next:0300}").as_bytes()));
            next += 1;
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

/// What the child does that takes all descriptors.
pub(super) fn exhaust_descriptors(directory: &Path) {
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
        // Now with a few left. Partitions hold no files before they are appended to, so that these are
        // enough for any number of them.
        taken.truncate(taken.len() - round);
        let name = format!("new-{round}");
        let (many, more) =
            (TopicConfig::default().partitions(50), 2 + u32::try_from(round).unwrap());
        let create = || {
            broker.create_topic(&name, many.clone())?;
            broker.add_partitions("fsync", more)
        };
        let created = create();
        drop(taken);
        match created {
            Ok(()) => assert!(round > 0, "with no descriptor at all"),
            Err(error) => {
                assert_passing(&error);
                assert!(round < 3, "with {round} descriptors");
                create().unwrap();
            }
        }
        // What was written and not synced keeps its files open.
        logs.iter().for_each(|log| log.flush().unwrap());
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
    assert_eq!(partitions, [6, 50, 50, 50, 50, 50, 1], "fsync, five new ones, written");
    println!("survived");
}

/// Takes all address space but for about so much.
fn take_address_space(but: usize) -> Vec<MmapMut> {
    let mut taken = Vec::with_capacity(1 << 16);
    let reserve = MmapMut::map_anon(but).unwrap();
    for size in [64 << 20, 1 << 20, 64 << 10, 4 << 10] {
        while taken.len() < taken.capacity()
            && let Ok(map) = MmapMut::map_anon(size)
        {
            taken.push(map);
        }
    }
    drop(reserve);
    taken
}

/// What the child does that takes all address space but for a little, of which the heap has the more:
/// it ends the process when it gets nothing. A window of a large segment that grows takes more.
pub(super) fn starve(directory: &Path) {
    // The heap keeps what it was once given as long as something lies above it.
    let mut heap: Vec<Vec<u8>> = (0..8_192).map(|_| vec![1; 1 << 10]).collect();
    let _above = heap.pop();
    drop(heap);
    let broker = open(directory).unwrap();
    let logs = logs(&broker);
    let mut acknowledged = BTreeMap::new();
    let (mut refused, mut windows_refused) = (0, 0);
    for round in 0..8 {
        let written = Durability::Written { flush_interval: Duration::from_secs(1) };
        let large = TopicConfig::default().durability(written);
        let large = broker.create_topic(&format!("large-{round}"), large).unwrap();
        let large = large.partition(0).unwrap();
        // Its next windows are larger than the one it has now, which makes way for them.
        (0..400).for_each(|_| append(&large, &mut acknowledged).unwrap());
        logs.iter().cycle().take(20).for_each(|log| append(log, &mut acknowledged).unwrap());
        let taken = take_address_space((50 << 10) * (1 + round));
        for _ in 0..4_000 {
            if let Err(error) = append(&large, &mut acknowledged) {
                assert_passing(&error);
                windows_refused += 1;
                break;
            }
        }
        // Segments roll meanwhile.
        for log in logs.iter().cycle().take(60) {
            if let Err(error) = append(log, &mut acknowledged) {
                assert_passing(&error);
                refused += 1;
            }
        }
        let made = broker.create_topic(&format!("new-{round}"), TopicConfig::default());
        let opened = Broker::open_read_only(directory);
        for error in [made.err(), opened.err()].into_iter().flatten() {
            assert_passing(&error);
            refused += 1;
        }
        for topic in ["fsync", "written"] {
            assert_is_there(&broker, topic, acknowledged[topic]);
        }
        drop(taken);
        logs.iter().chain([&large]).for_each(|log| append(log, &mut acknowledged).unwrap());
        assert_all_there(&broker, &acknowledged);
    }
    assert!(windows_refused > 0, "there was space for every window");
    assert_all_there(&broker, &acknowledged);
    broker.close().unwrap();
    drop((logs, broker));
    assert_all_there(&open(directory).unwrap(), &acknowledged);
    let refused = refused + windows_refused;
    println!("survived, {refused} calls were refused");
}

/// Runs the child under a limit of `prlimit`; it must survive.
fn run_limited(name: &str, limit: &str, job: &str) {
    if !is_there("prlimit") {
        return skip(name, "there is no prlimit");
    }
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new("prlimit");
    command.arg(limit).arg(std::env::current_exe().unwrap());
    as_child(&mut command, job, directory.path(), 0, 0);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("survived"), "{said}\n{errors}");
    println!("{said}");
}

#[test]
fn running_out_of_descriptors_is_told_and_passes() {
    run_limited("few descriptors", "--nofile=64", "exhaust");
}

#[test]
fn running_out_of_address_space_is_told_and_passes() {
    run_limited("little address space", "--as=400000000", "starve");
}
