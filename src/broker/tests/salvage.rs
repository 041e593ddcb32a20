//! Salvaging finds every intact batch whatever has become of a directory, accounts for every byte, and
//! touches nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::append;
use super::scene::{GROUP, Records, contents, everything, fill, is_log, on, records};
use crate::broker::Broker;
use crate::broker::salvage::{Fate, SalvageReport, salvage_on};
use crate::error::{Error, Result};
use crate::fs::memory::MemoryFileSystem;
use crate::fs::sim::{PowerLoss, SimulatedDisk, Verdict};
use crate::fs::{Access, FileSystem, durably};
use crate::record::batch::RecordBatch;
use crate::topic::Topic;
use crate::topic_partition::TopicPartition;

fn salvage(fs: &(impl FileSystem + Clone + 'static)) -> Result<SalvageReport> {
    let fs: Arc<dyn FileSystem> = Arc::new(fs.clone());
    salvage_on(&fs, Path::new("data"), Path::new("saved"))
}

/// Checks what holds for every salvage: the source is as it was, every byte is accounted for, and
/// what was made opens in the ordinary way.
fn checked(fs: &(impl FileSystem + Clone + 'static)) -> (SalvageReport, Broker) {
    let before = contents(fs, Path::new("data"));
    let report = salvage(fs).unwrap();
    assert!(contents(fs, Path::new("data")) == before, "the source has changed");
    let sizes = report.files.iter().map(|file| (file.path.clone(), file.size)).collect();
    let expected: BTreeMap<PathBuf, u64> =
        before.iter().map(|(path, bytes)| (path.clone(), bytes.len() as u64)).collect();
    assert_eq!(expected, sizes, "every file is there with its size");
    for file in &report.files {
        let mut end = 0;
        for part in &file.parts {
            assert_eq!(part.bytes.start, end, "{file:?}");
            assert!(part.bytes.end > end, "{file:?}");
            end = part.bytes.end;
        }
        assert_eq!(end, file.size, "{file:?}");
    }
    let saved = on(fs, "saved").open().unwrap();
    assert!(saved.recovery_report().clean_shutdown);
    assert_eq!(saved.recovery_report().cut().count(), 0);
    assert!(saved.verify().unwrap().is_intact());
    let kept_aside = contents(fs, Path::new("saved"))
        .into_keys()
        .find(|path| path.extension().is_some_and(|extension| extension == "torn"));
    assert_eq!(kept_aside, None, "the source has what was cut off");
    for partition in &report.partitions {
        let of = saved.manager().partition(&partition.topic_partition).unwrap();
        assert_eq!(partition.log_start_offset, of.log_start_offset());
        assert_eq!(partition.log_end_offset, of.log_end_offset());
    }
    (report, saved)
}

/// The directory of a broker that was closed, and what it held.
fn closed() -> (MemoryFileSystem, BTreeMap<TopicPartition, Records>) {
    let fs = MemoryFileSystem::new();
    let broker = on(&fs, "data").open().unwrap();
    fill(&broker);
    let held = all_records(&broker);
    broker.close().unwrap();
    (fs, held)
}

fn all_records(broker: &Broker) -> BTreeMap<TopicPartition, Records> {
    let topics = broker.topics().unwrap();
    let partitions = topics.iter().flat_map(Topic::partitions);
    partitions.map(|of| (of.topic_partition().clone(), records(&of))).collect()
}

fn logs(fs: &dyn FileSystem, directory: &str) -> Vec<PathBuf> {
    contents(fs, Path::new(directory)).into_keys().filter(|path| is_log(path)).collect()
}

fn change(fs: &dyn FileSystem, path: impl AsRef<Path>, at: u64, bytes: &[u8]) {
    let file = fs.open(path.as_ref(), Access::ReadWrite).unwrap();
    file.write_all_at(bytes, at).unwrap();
}

/// Holds what was saved against what there was: nothing is invented or moved, and what is missing is
/// reported.
fn judge(report: &SalvageReport, saved: &Broker, held: &BTreeMap<TopicPartition, Records>) {
    let found = all_records(saved);
    for (of, records) in &found {
        let held = &held[of];
        assert!(records.iter().all(|record| held.contains(record)), "{of}: {records:?}");
        let told = report.partitions.iter().find(|told| told.topic_partition == *of).unwrap();
        for missing in held.iter().filter(|record| !records.contains(record)) {
            let is_told = told.lost.iter().any(|lost| lost.contains(&missing.0));
            assert!(is_told, "{of}: {missing:?} is missing, and only {:?} is told", told.lost);
        }
    }
}

#[test]
fn of_an_undamaged_directory_everything_is_copied() {
    let (fs, held) = closed();
    let before = everything(&on(&fs, "data").open_read_only().unwrap());
    let (report, saved) = checked(&fs);
    assert!(report.is_complete(), "{report:?}");
    assert_eq!(everything(&saved), before);
    judge(&report, &saved, &held);
    let logs = report.files.iter().filter(|file| is_log(&file.path));
    let fates = logs.flat_map(|file| &file.parts).map(|part| part.fate);
    // The first segment that is left of a log whose start was moved has some before it.
    assert!(fates.clone().all(|fate| matches!(fate, Fate::Copied | Fate::Deleted)));
    assert!(fates.filter(|fate| *fate == Fate::Copied).count() > 5);
    assert_eq!(append(&saved.topic("synced").unwrap(), 0, "goes on").unwrap(), 30);
}

#[test]
fn damage_at_any_byte_costs_the_batch_it_hits_and_no_other() {
    let (fs, held) = closed();
    let files = contents(&fs, Path::new("data"));
    let mut cases = 0;
    for (path, bytes) in &files {
        // A stride that meets every field of a batch sooner or later.
        for at in (0..bytes.len()).step_by(if is_log(path) { 23 } else { 97 }) {
            change(&fs, path, at as u64, &[bytes[at] ^ 0x41]);
            let (report, saved) = checked(&fs);
            if !path.ends_with("sapwood.topics") && !path.starts_with("data/__consumer_offsets-0") {
                judge(&report, &saved, &held);
                let kept: usize = all_records(&saved).values().map(Vec::len).sum();
                let all: usize = held.values().map(Vec::len).sum();
                assert!(kept + 1 >= all, "{} byte {at}: {kept} of {all}", path.display());
                let committed = saved.describe_group(GROUP).unwrap().unwrap();
                assert_eq!(committed.offsets.len(), 2);
            }
            drop(saved);
            remove_saved(&fs);
            change(&fs, path, at as u64, &bytes[at..=at]);
            cases += 1;
        }
    }
    assert!(cases > 300, "{cases} cases");
}

fn remove_saved(fs: &dyn FileSystem) {
    for entry in fs.list(Path::new("saved")).unwrap() {
        let path = Path::new("saved").join(entry.name);
        durably::remove_tree(fs, &path).or_else(|_| durably::remove(fs, &path)).unwrap();
    }
    fs.remove_directory(Path::new("saved")).unwrap();
}

#[test]
fn a_file_that_is_gone_or_cut_costs_what_was_in_it() {
    for cut in [None, Some(0), Some(100)] {
        let (fs, held) = closed();
        for path in logs(&fs, "data") {
            let bytes = contents(&fs, Path::new("data")).remove(&path).unwrap();
            match cut {
                None => fs.remove_file(&path).unwrap(),
                Some(len) => fs.open(&path, Access::ReadWrite).unwrap().set_len(len).unwrap(),
            }
            let (report, saved) = checked(&fs);
            judge(&report, &saved, &held);
            drop(saved);
            remove_saved(&fs);
            let file = fs.create_new(&path).or_else(|_| fs.open(&path, Access::ReadWrite)).unwrap();
            file.write_all_at(&bytes, 0).unwrap();
        }
    }
}

#[test]
fn without_a_registry_topics_are_made_up_and_groups_are_where_they_were() {
    for damaged in [true, false] {
        let (fs, held) = closed();
        let ids: BTreeMap<_, _> = on(&fs, "data")
            .open_read_only()
            .unwrap()
            .topics()
            .unwrap()
            .iter()
            .map(|topic| (topic.name().to_owned(), topic.id()))
            .collect();
        let registry = Path::new("data/sapwood.topics");
        if damaged {
            change(&fs, registry, 30, b"?");
        } else {
            fs.remove_file(registry).unwrap();
        }
        let (report, saved) = checked(&fs);
        judge(&report, &saved, &held);
        assert_eq!(all_records(&saved), held);
        assert!(!report.is_complete());
        assert!(report.notes.iter().any(|note| note.contains("sapwood.topics")), "{report:?}");
        for topic in saved.topics().unwrap() {
            assert_eq!(topic.id(), ids[topic.name()]);
            assert_eq!(topic.config().get("retention.ms").as_deref(), Some("-1"));
        }
        let committed = saved.describe_group(GROUP).unwrap().unwrap().offsets;
        let offsets: Vec<_> = committed.iter().map(|at| at.committed.offset).collect();
        assert_eq!(offsets, [12, 30]);
    }
}

#[test]
fn a_partition_whose_directory_is_gone_begins_anew_and_the_report_says_so() {
    let (fs, held) = closed();
    durably::remove_tree(&fs, Path::new("data/synced-0")).unwrap();
    let (report, saved) = checked(&fs);
    assert!(report.notes.iter().any(|note| note.contains("synced-0")), "{report:?}");
    assert_eq!(saved.topic("synced").unwrap().partition_count(), 2);
    let found = all_records(&saved);
    let (gone, other) = (TopicPartition::new("synced", 0), TopicPartition::new("synced", 1));
    assert_eq!((found[&gone].len(), &found[&other]), (0, &held[&other]));
    // What was committed lies beyond its end.
    let committed = saved.describe_group(GROUP).unwrap().unwrap().offsets;
    assert_eq!(committed[0].committed.offset, 0);
}

#[test]
fn commits_that_make_no_sense_are_left_behind_and_records_are_not() {
    let (fs, held) = closed();
    let log = logs(&fs, "data/__consumer_offsets-0").remove(0);
    let mut bytes = contents(&fs, Path::new("data")).remove(&log).unwrap();
    // The length of the group's name, under a right checksum.
    let at = bytes.windows(GROUP.len()).position(|name| name == GROUP.as_bytes()).unwrap();
    bytes[at - 2] = 0x70;
    let size = 12 + u32::from_be_bytes(bytes[8..12].try_into().unwrap()) as usize;
    let crc = crc32c::crc32c(&bytes[21..size]).to_be_bytes();
    change(&fs, &log, 0, &bytes);
    change(&fs, &log, 17, &crc);
    let (report, saved) = checked(&fs);
    assert_eq!(all_records(&saved), held);
    assert_eq!(saved.list_groups().unwrap(), [] as [String; 0]);
    assert!(report.notes.iter().any(|note| note.contains("groups")), "{report:?}");
}

#[test]
fn what_was_never_safe_and_does_not_connect_is_accounted_for() {
    let fs = MemoryFileSystem::new();
    let broker = on(&fs, "data").open().unwrap();
    fill(&broker);
    let written = broker.topic("written").unwrap();
    let ends: Vec<_> = (0..3)
        .map(|_| {
            append(&written, 0, "not synced").unwrap();
            written.size()
        })
        .collect();
    let held = all_records(&broker);
    drop((broker, written));
    let last = logs(&fs, "data/written-0").pop().unwrap();
    let batch = ends[1] - ends[0];
    let len = fs.open(&last, Access::Read).unwrap().len().unwrap();
    // The first of three is lost: the other two are intact, and hang in the air.
    change(&fs, &last, len - 3 * batch + 70, b"???");
    change(&fs, &last, len, &[0; 300]);
    // A whole batch with an offset that the log has, and other bytes, behind its end.
    let other = logs(&fs, "data/synced-1").pop().unwrap();
    let ghost = contents(&fs, Path::new("data")).remove(&other).unwrap();
    let ghost = &ghost[..RecordBatch::parse(&ghost).unwrap().size()];
    let haunted = logs(&fs, "data/synced-0").pop().unwrap();
    let len = fs.open(&haunted, Access::Read).unwrap().len().unwrap();
    change(&fs, &haunted, len, ghost);
    durably::create(&fs, Path::new("data/notes.txt"), b"mine").unwrap();
    durably::create(&fs, &last.with_extension("torn"), b"cut off").unwrap();
    let (report, saved) = checked(&fs);
    let found = all_records(&saved);
    let of = TopicPartition::new("written", 0);
    assert_eq!(found[&of], held[&of][..30]);
    assert_eq!(report.bytes(Fate::Unconnected), 2 * batch + ghost.len() as u64);
    assert_eq!(report.bytes(Fate::Damaged), batch);
    assert_eq!(report.bytes(Fate::Zeros), 300);
    assert_eq!(report.bytes(Fate::Foreign), 4);
    assert_eq!(report.bytes(Fate::SetAside), 7);
    assert!(!report.is_complete());
}

#[test]
fn what_is_open_elsewhere_is_taken_or_holds_nothing_is_refused() {
    let (fs, _) = closed();
    let broker = on(&fs, "data").open().unwrap();
    assert!(matches!(salvage(&fs), Err(Error::Locked { .. })));
    broker.close().unwrap();
    fs.create_directory(Path::new("saved")).unwrap();
    durably::create(&fs, Path::new("saved/file"), b"mine").unwrap();
    assert!(matches!(salvage(&fs), Err(Error::InvalidTarget { .. })));
    assert_eq!(contents(&fs, Path::new("saved")).len(), 1);
    let shared: Arc<dyn FileSystem> = Arc::new(fs.clone());
    for from in ["saved", "missing"] {
        let refused = salvage_on(&shared, Path::new(from), Path::new("other"));
        assert!(matches!(refused, Err(Error::NotALogDirectory { .. })), "{from}: {refused:?}");
    }
    let within = salvage_on(&shared, Path::new("data"), Path::new("data/saved"));
    assert!(matches!(within, Err(Error::InvalidTarget { .. })), "{within:?}");
}

#[test]
fn a_crash_at_any_change_leaves_the_source_as_it_was_and_a_whole_directory_or_none() {
    let disk = SimulatedDisk::new();
    let broker = on(&disk, "data").open().unwrap();
    fill(&broker);
    let held = all_records(&broker);
    broker.close().unwrap();
    let damaged = logs(&disk, "data/synced-0").remove(1);
    let mut bytes = disk.files().remove(&damaged).unwrap();
    bytes[80] ^= 1;
    disk.damage(&damaged, bytes);
    let before = contents(&disk, Path::new("data"));
    let states = Arc::new(Mutex::new(Vec::new()));
    let (recorded, recording) = (Arc::clone(&states), disk.clone());
    disk.on_call(move |call| {
        if call.kind.is_change() {
            recorded.lock().unwrap().push(recording.snapshot());
        }
        Verdict::Proceeds
    });
    salvage(&disk).unwrap();
    disk.revive();
    let states = std::mem::take(&mut *states.lock().unwrap());
    let mut complete = 0;
    for (number, state) in (0..).zip(states.iter().chain([&disk])) {
        let losses = [PowerLoss::LosesEverything, PowerLoss::Random(number)];
        let crashes = losses.into_iter().map(|loss| state.power_loss(loss));
        for left in std::iter::once(state.snapshot()).chain(crashes) {
            assert!(contents(&left, Path::new("data")) == before, "state {number}");
            if left.kind(Path::new("saved")).unwrap().is_some() {
                complete += 1;
            } else {
                salvage(&left).unwrap();
            }
            let saved = all_records(&on(&left, "saved").open().unwrap());
            let kept: usize = saved.values().map(Vec::len).sum();
            assert_eq!(kept + 1, held.values().map(Vec::len).sum::<usize>(), "state {number}");
        }
    }
    assert!(complete > 0 && states.len() > 100, "{complete} of {}", states.len());
}
