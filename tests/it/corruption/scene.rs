//! A directory that can be brought back as it was, and what must be found in it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sapwood::{
    Broker, Compression, Durability, Error, OffsetAndMetadata, OwnedRecord, Partition, Record,
    TopicConfig, TopicPartition,
};
use tempfile::TempDir;

const GROUP: &str = "audit";

/// Everything below a directory, by path from there.
pub(super) type Files = BTreeMap<PathBuf, Vec<u8>>;

/// One thing that is done to a file.
pub(super) enum Damage {
    /// It has other bytes, or is there at all.
    In(Vec<u8>),
    /// It has lost its end, or a part of it reads as zeros.
    Cut(Vec<u8>),
    Gone,
    SwappedWith(PathBuf),
}

/// What a partition held.
struct Held {
    log_start: u64,
    /// Everything below it was synced, and the checkpoint says so.
    watermark: u64,
    /// From offset 0 on, what was deleted since included.
    records: Vec<OwnedRecord>,
}

pub(super) struct Scene {
    pub(super) files: Files,
    held: BTreeMap<TopicPartition, Held>,
    directory: TempDir,
}

/// Says which case it was.
struct Case<'a>(&'a str, &'a Path);

impl Drop for Case<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("the case: {}: {}", self.1.display(), self.0);
        }
    }
}

fn scratch() -> TempDir {
    // Thousands of opens, and no power will fail: the sooner a sync returns the better.
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        tempfile::tempdir_in(memory).unwrap()
    } else {
        tempfile::tempdir().unwrap()
    }
}

fn open(directory: &Path) -> sapwood::Result<Broker> {
    Broker::builder(directory).background_thread(false).open()
}

fn read_files(directory: &Path) -> Files {
    let mut files = Files::new();
    let mut open = vec![directory.to_owned()];
    while let Some(below) = open.pop() {
        for entry in fs::read_dir(&below).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                let name = path.strip_prefix(directory).unwrap().to_owned();
                files.insert(name, fs::read(path).unwrap());
            }
        }
    }
    files
}

/// Makes a directory hold these files and nothing else.
fn write_files(directory: &Path, files: &Files) {
    let there = read_files(directory);
    for name in there.keys().filter(|name| !files.contains_key(*name)) {
        fs::remove_file(directory.join(name)).unwrap();
    }
    // Most files are as they were: thousands of cases are not to write them all.
    for (name, bytes) in files.iter().filter(|(name, bytes)| there.get(*name) != Some(bytes)) {
        let path = directory.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

/// Three segments each; the two never have a batch boundary at the same offset but the first.
fn fill(broker: &Broker) {
    let small = TopicConfig::default().segment_bytes(1024).max_message_bytes(1024);
    let small = small.index_interval_bytes(100);
    broker.create_topic("orders", small.clone()).unwrap();
    let written = Durability::Written { flush_interval: Duration::from_secs(60) };
    let payments = small.durability(written).compression(Compression::Lz4);
    broker.create_topic("payments", payments).unwrap();
    for (topic, batch_len, batches) in [("orders", 2, 17), ("payments", 3, 15)] {
        let partition = broker.topic(topic).unwrap().partition(0).unwrap();
        for batch in 0..batches {
            let number = |n: usize| format!("{topic} {batch} {n} {}", "-".repeat(20 + 7 * n));
            let values: Vec<_> = (0..batch_len).map(number).collect();
            let keyed = |value| Record::new(value).key(topic).header("h", b"\0\x01");
            let records: Vec<_> = values.iter().map(keyed).collect();
            partition.append(&records).unwrap();
            if batch == 10 {
                partition.flush().unwrap();
            }
        }
        assert!(partition.size() > 2 * 1024, "{topic}: {}", partition.size());
    }
    let offsets = [("orders", 20), ("payments", 7)]
        .map(|(topic, offset)| (TopicPartition::new(topic, 0), OffsetAndMetadata::new(offset)));
    broker.reset_group(GROUP, offsets).unwrap();
}

fn committed(broker: &Broker) -> Vec<(TopicPartition, u64)> {
    let group = broker.describe_group(GROUP).unwrap();
    let offsets = group.map(|group| group.offsets).unwrap_or_default();
    offsets.into_iter().map(|at| (at.topic_partition, at.committed.offset)).collect()
}

/// What a consumer gets from the log start on, and what stopped it if not the end.
fn read(broker: &Broker, of: &TopicPartition) -> (Vec<OwnedRecord>, Option<Error>) {
    let mut consumer = broker.consumer().assign([of.clone()]).unwrap();
    let mut all: Vec<OwnedRecord> = Vec::new();
    loop {
        match consumer.poll(Duration::ZERO) {
            Ok(records) if records.is_empty() => return (all, None),
            Ok(records) => all.extend(records.iter().map(|record| record.to_owned())),
            Err(error) => return (all, Some(error)),
        }
    }
}

impl Scene {
    /// A directory that was closed in order.
    pub(super) fn closed() -> Self {
        Self::new(|broker, _| broker.close().unwrap())
    }

    /// A directory as a kill leaves it: with room made ready behind the records, and records above
    /// the watermark.
    pub(super) fn killed() -> Self {
        Self::new(|_, _| ())
    }

    fn new(end: impl FnOnce(&Broker, &Path)) -> Self {
        let directory = scratch();
        let broker = open(directory.path()).unwrap();
        fill(&broker);
        let mut held = BTreeMap::new();
        for partition in broker.topics().unwrap().iter().flat_map(|topic| topic.partitions()) {
            let of = partition.topic_partition().clone();
            let (records, error) = read(&broker, &of);
            assert!(error.is_none());
            held.insert(of, (partition, records));
        }
        // Deleted in the middle of a segment: the records are still there.
        for (partition, _) in held.values() {
            partition.delete_records(1).unwrap();
        }
        end(&broker, directory.path());
        let hold = |(of, (partition, records)): (TopicPartition, (Partition, _))| {
            (of, Held { log_start: 1, watermark: partition.recovery_point(), records })
        };
        let held = held.into_iter().map(hold).collect();
        let mut files = read_files(directory.path());
        drop(broker);
        files.retain(|path, _| path != Path::new(".lock"));
        let scene = Self { files, held, directory: scratch() };
        scene.check_itself();
        scene
    }

    fn check_itself(&self) {
        let segments =
            self.files.keys().filter(|path| path.extension().is_some_and(|e| e == "log"));
        assert_eq!(segments.count(), 3 + 3 + 1, "{:?}", self.files.keys());
        write_files(self.directory.path(), &self.files);
        self.check_open(&open(self.directory.path()).unwrap(), Tolerance::default());
    }

    /// Opens the directory with one thing done to it, and reads everything.
    pub(super) fn judge(&self, what: &str, path: &Path, damage: Damage) {
        let _case = Case(what, path);
        let mut files = self.files.clone();
        let mut tolerance = Tolerance { errors: true, ..Tolerance::default() };
        match damage {
            Damage::In(bytes) => drop(files.insert(path.to_owned(), bytes)),
            Damage::Cut(bytes) => {
                // Nothing is left that could be told of.
                tolerance.unreported = true;
                files.insert(path.to_owned(), bytes);
            }
            Damage::Gone => drop(files.remove(path)),
            Damage::SwappedWith(other) => {
                tolerance.foreign = path.parent() != other.parent();
                let (one, two) = (files[path].clone(), files[&other].clone());
                files.extend([(path.to_owned(), two), (other, one)]);
            }
        }
        write_files(self.directory.path(), &files);
        match open(self.directory.path()) {
            Ok(broker) => self.check_open(&broker, tolerance),
            Err(error) => {
                let typed = matches!(error, Error::Corrupt(_) | Error::UnsupportedFormat { .. });
                assert!(typed, "{error}");
                assert!(error.to_string().contains(self.directory.path().to_str().unwrap()));
                let mut found = read_files(self.directory.path());
                found.remove(Path::new(".lock"));
                assert!(found == files, "refused, and changed all the same: {error}");
            }
        }
    }

    /// Opens the directory with a file in it that is not Sapwood's.
    pub(super) fn judge_foreign(&self, path: &Path) {
        let _case = Case("foreign", path);
        let mut files = self.files.clone();
        files.insert(path.to_owned(), b"mine".to_vec());
        write_files(self.directory.path(), &files);
        let broker = open(self.directory.path()).unwrap();
        self.check_open(&broker, Tolerance::default());
        broker.close().unwrap();
        assert_eq!(fs::read(self.directory.path().join(path)).unwrap(), b"mine");
    }

    /// Nothing that is found is wrong, and what is missing is told.
    fn check_open(&self, broker: &Broker, tolerance: Tolerance) {
        for (of, held) in &self.held {
            let partition = broker.topic(of.topic()).unwrap().partition(0).unwrap();
            let start = partition.log_start_offset();
            // With the checkpoint lost, records that were deleted may come back.
            assert!(start == held.log_start || (tolerance.errors && start == 0), "{of}: {start}");
            let (records, error) = read(broker, of);
            let end = start + u64::try_from(records.len()).unwrap();
            let from = usize::try_from(start).unwrap();
            let right = records == held.records[from..from + records.len()];
            let told = matches!(error, Some(Error::Corrupt(_)));
            assert!(right || (tolerance.foreign && told), "{of}: a wrong record");
            let complete = end == u64::try_from(held.records.len()).unwrap();
            match error {
                Some(Error::Corrupt(_)) => assert!(tolerance.errors),
                Some(error) => panic!("{of}: {error}"),
                None if complete => {}
                None => {
                    assert!(
                        end >= held.watermark,
                        "{of}: ends at {end}, synced {}",
                        held.watermark
                    );
                    let mut cut = broker.recovery_report().cut();
                    let told = cut.any(|partition| partition.topic_partition == *of);
                    assert!(told || tolerance.unreported, "{of}: cut at {end} in silence");
                }
            }
            let next = partition.append(&[Record::new("next")]).unwrap().offset;
            assert!(next >= held.watermark.max(end), "{of}: offset {next} is used again");
        }
        let expected = [("orders", 20), ("payments", 7)];
        let expected = expected.map(|(topic, at)| (TopicPartition::new(topic, 0), at));
        assert_eq!(committed(broker), expected);
    }
}

/// What may be found in a directory that something was done to.
#[derive(Debug, Clone, Copy, Default)]
struct Tolerance {
    errors: bool,
    /// Records above the watermark may be missing although the report says nothing of it.
    unreported: bool,
    /// A segment of another partition may be there. Kafka's batches do not say whose they are: those
    /// that happen to have the right offsets are read, up to where the file does not connect.
    foreign: bool,
}
