//! A backup is complete or not there, holds everything that could be read, and has nothing to do with
//! what becomes of the directory it was made of.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::{Arc, Mutex};

use super::scene::{GROUP, contents, everything, fill, is_log, on, records};
use super::{append, builder, open};
use crate::broker::Broker;
use crate::broker::config::BrokerBuilder;
use crate::error::{Error, Result};
use crate::fs::faults::{FailingFileSystem, Operation};
use crate::fs::sim::{DiskCallKind, PowerLoss, SimulatedDisk, Verdict};
use crate::fs::{Access, FileSystem, Kind, durably};
use crate::group::OffsetAndMetadata;
use crate::log::recovery::RecoveryMode;
use crate::topic::Topic;
use crate::topic_partition::TopicPartition;

/// Checks that a copy opens as if it had been closed in order.
fn open_copy(builder: BrokerBuilder) -> Broker {
    let copy = builder.open().unwrap();
    let report = copy.recovery_report();
    assert!(report.clean_shutdown, "{report:?}");
    assert_eq!(report.cut().count(), 0, "{report:?}");
    assert!(report.partitions.iter().all(|partition| partition.bytes_carried == 0), "{report:?}");
    assert_eq!((report.ignored.len(), report.unfinished.len()), (0, 0), "{report:?}");
    assert!(copy.verify().unwrap().is_intact());
    copy
}

#[test]
fn a_backup_opens_as_if_closed_in_order_and_holds_everything() {
    for linked in [true, false] {
        let fs = FailingFileSystem::over_memory();
        let broker = open(&fs);
        fill(&broker);
        if !linked {
            fs.fail_when(|call, _| {
                (call == Operation::HardLink).then(|| ErrorKind::CrossesDevices.into())
            });
        }
        let report = broker.backup("copy").unwrap();
        fs.heal();
        let copy = open_copy(on(&fs, "copy"));
        assert_eq!(everything(&copy), everything(&broker));
        let size = |broker: &Broker| broker.manager().topics().iter().map(Topic::size).sum::<u64>();
        assert_eq!(report.bytes_linked() + report.bytes_copied(), size(&copy));
        assert_eq!(report.bytes_linked() > 0, linked);
        for partition in &report.partitions {
            let of = copy.manager().partition(&partition.topic_partition).unwrap();
            assert_eq!(partition.end_offset, of.log_end_offset());
            assert_eq!(partition.log_start_offset, of.log_start_offset());
        }
        assert_eq!(append(&copy.topic("synced").unwrap(), 0, "goes on").unwrap(), 30);
        assert!(fs.kind(Path::new("copy.unfinished")).unwrap().is_none());
    }
}

#[test]
fn segments_that_have_ended_are_shared_and_the_last_one_is_not() {
    let fs = FailingFileSystem::over_memory();
    let broker = open(&fs);
    fill(&broker);
    broker.backup("copy").unwrap();
    let logs: Vec<_> = contents(&fs, Path::new("data/written-0"))
        .into_keys()
        .filter(|path| is_log(path))
        .collect();
    let names: Vec<_> = logs.iter().map(|path| fs.name_count(path).unwrap()).collect();
    let (last, ended) = names.split_last().unwrap();
    assert!(ended.len() > 2 && ended.iter().all(|names| *names == 2), "{names:?}");
    assert_eq!(*last, 1);
}

/// Does to a directory whatever changes files: appends, rolls, retention, kills, recoveries.
fn work_hard(fs: &FailingFileSystem, directory: &str) {
    for recovery_mode in [RecoveryMode::Refuse, RecoveryMode::Salvage] {
        let broker = on(fs, directory).recovery_mode(recovery_mode).open().unwrap();
        for topic in broker.topics().unwrap() {
            for _ in 0..12 {
                append(&topic, 0, "some more").unwrap();
            }
            let log = topic.partition(0).unwrap();
            let middle = u64::midpoint(log.log_start_offset(), log.high_watermark());
            log.delete_records(middle).unwrap();
            append(&topic, 0, "not synced, perhaps").unwrap();
        }
        let config = broker.topic("written").unwrap().config().retention_bytes(1_500);
        broker.alter_topic("written", config).unwrap();
        broker.delete_group(GROUP).unwrap();
        if recovery_mode == RecoveryMode::Salvage {
            broker.delete_topic("synced").unwrap();
            broker.close().unwrap();
        }
    }
}

#[test]
fn what_is_done_to_one_of_the_two_is_not_done_to_the_other() {
    for (worked_on, other) in [("data", "copy"), ("copy", "data")] {
        let fs = FailingFileSystem::over_memory();
        let broker = open(&fs);
        fill(&broker);
        broker.backup("copy").unwrap();
        drop(broker);
        let before = contents(&fs, Path::new(other));
        work_hard(&fs, worked_on);
        assert!(contents(&fs, Path::new(other)) == before, "{other} has changed");
        on(&fs, other).open().unwrap();
    }
}

/// The log ends in a segment that both have, and is gone on with.
#[test]
fn a_shared_segment_that_becomes_the_last_one_is_separated_before_it_is_written_to() {
    for (worked_on, other) in [("data", "copy"), ("copy", "data")] {
        for (topic, cut) in [("written-0", false), ("written-0", true), ("synced-0", false)] {
            let fs = FailingFileSystem::over_memory();
            let broker = open(&fs);
            fill(&broker);
            broker.backup("copy").unwrap();
            drop(broker);
            let directory = Path::new(worked_on).join(topic);
            let logs = contents(&fs, &directory).into_keys();
            let mut logs: Vec<_> = logs.filter(|path| is_log(path)).collect();
            fs.remove_file(&logs.pop().unwrap()).unwrap();
            fs.remove_file(&directory.join("watermark.checkpoint")).unwrap();
            let last = logs.pop().unwrap();
            assert_eq!(fs.name_count(&last).unwrap(), 2);
            if cut {
                // Both files show it: the test is about what recovery makes of it.
                let file = fs.open(&last, Access::ReadWrite).unwrap();
                file.write_all_at(b"torn", file.len().unwrap()).unwrap();
            }
            let before = contents(&fs, Path::new(other));
            let broker = on(&fs, worked_on).open().unwrap();
            let (name, _) = topic.split_once('-').unwrap();
            append(&broker.topic(name).unwrap(), 0, "goes on").unwrap();
            broker.close().unwrap();
            assert!(contents(&fs, Path::new(other)) == before, "{other} has changed");
            assert_eq!(fs.name_count(&last).unwrap(), 1);
        }
    }
}

/// The disk as it is before each change that a backup makes, and after the last.
fn each_state(broker: &Broker, disk: &SimulatedDisk) -> Vec<SimulatedDisk> {
    let states = Arc::new(Mutex::new(Vec::new()));
    let (recorded, recording) = (Arc::clone(&states), disk.clone());
    disk.on_call(move |call| {
        if call.kind.is_change() {
            recorded.lock().unwrap().push(recording.snapshot());
        }
        Verdict::Proceeds
    });
    broker.backup("copy").unwrap();
    disk.revive();
    let mut states = std::mem::take(&mut *states.lock().unwrap());
    states.push(disk.snapshot());
    states
}

#[test]
fn a_crash_at_any_change_leaves_the_source_as_it_was_and_a_whole_copy_or_none() {
    let disk = SimulatedDisk::new();
    let broker = on(&disk, "data").open().unwrap();
    fill(&broker);
    let expected = everything(&broker);
    let states = each_state(&broker, &disk);
    assert!(states.len() > 100, "{} states", states.len());
    let mut complete = 0;
    for (number, state) in (0..).zip(&states) {
        let losses = [PowerLoss::LosesEverything, PowerLoss::LosesNothing];
        let random = (0..3).map(|n| PowerLoss::Random(number * 10 + n));
        let crashes = losses.into_iter().chain(random).map(|loss| state.power_loss(loss));
        for left in std::iter::once(state.snapshot()).chain(crashes) {
            let source = on(&left, "data").open().unwrap();
            assert_eq!(everything(&source), expected, "state {number}");
            if left.kind(Path::new("copy")).unwrap().is_some() {
                complete += 1;
                assert_eq!(everything(&open_copy(on(&left, "copy"))), expected, "state {number}");
            } else {
                // What is left of it is in nobody's way.
                source.backup("copy").unwrap();
                assert_eq!(everything(&open_copy(on(&left, "copy"))), expected, "state {number}");
            }
        }
    }
    assert!(complete > 0, "the last states have it");
    // The last sync is that of the name.
    for seed in 0..20 {
        let left = states.last().unwrap().power_loss(PowerLoss::Random(seed));
        assert_eq!(left.kind(Path::new("copy")).unwrap(), Some(Kind::Directory));
    }
}

#[test]
fn any_call_that_fails_is_told_and_leaves_the_source_as_it_was_and_a_whole_copy_or_none() {
    let disk = SimulatedDisk::new();
    let broker = on(&disk, "data").open().unwrap();
    fill(&broker);
    broker.close().unwrap();
    let mut failed = 0;
    for call in 0.. {
        let disk = disk.snapshot();
        let broker = on(&disk, "data").open().unwrap();
        let expected = everything(&broker);
        let before = disk.calls();
        disk.fail_call(call, Verdict::Fails(5));
        let made = broker.backup("copy");
        let is_past_the_end = disk.calls() - before <= call;
        disk.revive();
        if disk.kind(Path::new("copy")).unwrap().is_some() {
            assert_eq!(everything(&open_copy(on(&disk, "copy"))), expected, "call {call}");
        } else {
            assert!(matches!(made, Err(Error::Io { .. })), "call {call}: {made:?}");
            failed += 1;
            let broker = on(&disk.snapshot(), "data").open().unwrap();
            assert_eq!(everything(&broker), expected, "call {call}");
        }
        if is_past_the_end {
            assert!(made.is_ok());
            break;
        }
    }
    assert!(failed > 50, "{failed} calls failed");
}

/// Does something to the broker in the middle of a backup, before a call on a path that ends so.
fn meanwhile(
    disk: &SimulatedDisk,
    broker: &Broker,
    before: (DiskCallKind, &'static str),
    change: impl Fn(&Broker) -> Result<()> + Send + Sync + 'static,
) {
    let (broker, done) = (broker.clone(), Mutex::new(false));
    disk.on_call(move |call| {
        let hit = call.kind == before.0 && call.path.to_string_lossy().ends_with(before.1);
        // Once, and not again in the calls that it makes itself.
        if hit && !std::mem::replace(&mut *done.lock().unwrap(), true) {
            change(&broker).unwrap();
        }
        Verdict::Proceeds
    });
}

#[test]
fn a_topic_that_is_deleted_meanwhile_is_left_out_and_the_rest_is_whole() {
    let disk = SimulatedDisk::new();
    let broker = on(&disk, "data").open().unwrap();
    fill(&broker);
    let at = (DiskCallKind::Create, "copy.unfinished/synced-1/watermark.checkpoint");
    meanwhile(&disk, &broker, at, |broker| broker.delete_topic("synced"));
    broker.backup("copy").unwrap();
    disk.revive();
    let copy = open_copy(on(&disk, "copy"));
    let names: Vec<_> =
        copy.topics().unwrap().iter().map(|topic| topic.name().to_owned()).collect();
    assert_eq!(names, ["written"]);
    let kept = records(&copy.topic("written").unwrap().partition(0).unwrap());
    assert_eq!(kept, records(&broker.topic("written").unwrap().partition(0).unwrap()));
    // What the group had committed in it is nobody's.
    assert_eq!(copy.describe_group(GROUP).unwrap().unwrap().offsets.len(), 1);
}

#[test]
fn retention_meanwhile_shortens_the_copy_or_does_not_but_never_tears_it() {
    for (kind, name) in [
        (DiskCallKind::Create, "copy.unfinished/synced-0/00000000000000000028.log"),
        (DiskCallKind::HardLink, "copy.unfinished/synced-0/00000000000000000014.log"),
        (DiskCallKind::HardLink, "copy.unfinished/synced-0/00000000000000000000.log"),
        (DiskCallKind::Create, "copy.unfinished/synced-0/00000000000000000007.index"),
    ] {
        for before in [8, 20, 30] {
            let disk = SimulatedDisk::new();
            let broker = on(&disk, "data").open().unwrap();
            fill(&broker);
            let all = records(&broker.topic("synced").unwrap().partition(0).unwrap());
            let hit = Arc::new(Mutex::new(false));
            let was_hit = Arc::clone(&hit);
            meanwhile(&disk, &broker, (kind, name), move |broker| {
                *was_hit.lock().unwrap() = true;
                let log = broker.topic("synced")?.partition(0)?;
                log.delete_records(before)?;
                // The segment that was the last one is full, and goes too.
                log.append(&[crate::record::Record::new(&[b'x'; 500])])?;
                log.delete_records(before).map(drop)
            });
            let report = broker.backup("copy").unwrap();
            disk.revive();
            assert!(*hit.lock().unwrap(), "{name} is copied");
            let copy = open_copy(on(&disk, "copy"));
            let log = copy.topic("synced").unwrap().partition(0).unwrap();
            let kept = records(&log);
            let of = TopicPartition::new("synced", 0);
            let of = report.partitions.iter().find(|p| p.topic_partition == of).unwrap();
            assert_eq!(log.log_start_offset(), of.log_start_offset);
            assert!(of.log_start_offset <= before && of.end_offset >= 30, "{of:?}");
            let from = usize::try_from(of.log_start_offset).unwrap();
            assert!(kept.starts_with(&all[from..]), "{name}, {before}");
        }
    }
}

#[test]
fn committed_offsets_never_lie_beyond_the_records_of_the_copy() {
    let disk = SimulatedDisk::new();
    let broker = on(&disk, "data").open().unwrap();
    fill(&broker);
    // Records that nobody waits for, and a group that is ahead of the high watermark.
    let at = (DiskCallKind::CreateDirectory, "copy.unfinished/__consumer_offsets-0");
    meanwhile(&disk, &broker, at, |broker| {
        let end = append(&broker.topic("synced")?, 0, "one more")? + 1;
        let at = (TopicPartition::new("synced", 0), OffsetAndMetadata::new(end));
        broker.reset_group(GROUP, [at])
    });
    broker.backup("copy").unwrap();
    disk.revive();
    let copy = on(&disk, "copy").open_read_only().unwrap();
    let offsets = copy.describe_group(GROUP).unwrap().unwrap().offsets;
    let of = offsets.iter().find(|at| at.topic_partition.topic() == "synced").unwrap();
    assert_eq!(of.committed.offset, 31);
    assert_eq!(copy.topic("synced").unwrap().partition(0).unwrap().high_watermark(), 31);
}

#[test]
fn backups_beside_appends_and_retention_are_whole() {
    let fs = FailingFileSystem::over_memory();
    let broker = open(&fs);
    fill(&broker);
    std::thread::scope(|scope| {
        let backing_up = scope.spawn(|| {
            for n in 0..20 {
                let name = format!("copy {n}");
                broker.backup(&name).unwrap();
                let copy = open_copy(on(&fs, &name));
                for topic in copy.topics().unwrap() {
                    let kept = records(&topic.partition(0).unwrap());
                    let first = topic.partition(0).unwrap().log_start_offset();
                    let offsets: Vec<_> = kept.iter().map(|(offset, _)| *offset).collect();
                    assert!(offsets.iter().copied().eq(first..first + offsets.len() as u64));
                }
            }
        });
        while !backing_up.is_finished() {
            for name in ["synced", "written"] {
                let topic = broker.topic(name).unwrap();
                for _ in 0..20 {
                    append(&topic, 0, "some record that is there").unwrap();
                }
                let log = topic.partition(0).unwrap();
                log.delete_records(log.high_watermark().saturating_sub(40)).unwrap();
            }
        }
    });
}

#[test]
fn a_broker_that_only_reads_makes_backups_too() {
    let fs = FailingFileSystem::over_memory();
    let broker = open(&fs);
    fill(&broker);
    let reader = builder(&fs).open_read_only().unwrap();
    append(&broker.topic("synced").unwrap(), 0, "since").unwrap();
    append(&broker.topic("written").unwrap(), 0, "since").unwrap();
    let before = contents(&fs, Path::new("data"));
    reader.backup("copy").unwrap();
    assert!(contents(&fs, Path::new("data")) == before, "a reader has changed something");
    let copy = open_copy(on(&fs, "copy"));
    assert_eq!(everything(&copy), everything(&broker));
}

#[test]
fn what_a_stopped_partition_holds_is_backed_up_as_far_as_it_can_be_read() {
    let fs = FailingFileSystem::over_memory();
    let broker = open(&fs);
    fill(&broker);
    let (synced, written) = (broker.topic("synced").unwrap(), broker.topic("written").unwrap());
    append(&written, 0, "not synced").unwrap();
    fs.fail_when(|call, path| {
        let hit = call == Operation::SyncData && path.starts_with("data");
        (hit && is_log(path)).then(|| ErrorKind::Other.into())
    });
    append(&synced, 0, "not synced").unwrap_err();
    written.partition(0).unwrap().flush().unwrap_err();
    let expected = everything(&broker);
    broker.backup("copy").unwrap();
    fs.heal();
    let copy = open_copy(on(&fs, "copy"));
    assert_eq!(everything(&copy), expected);
    assert_eq!(copy.topic("written").unwrap().partition(0).unwrap().log_end_offset(), 31);
}

#[test]
fn a_target_that_is_taken_or_within_the_source_is_refused_and_left_alone() {
    let fs = FailingFileSystem::over_memory();
    let broker = open(&fs);
    fs.create_directory(Path::new("full")).unwrap();
    durably::create(&fs, Path::new("full/file"), b"mine").unwrap();
    durably::create(&fs, Path::new("file"), b"mine").unwrap();
    for target in ["full", "file", "data", "data/copy"] {
        let refused = broker.backup(target);
        assert!(matches!(refused, Err(Error::InvalidTarget { .. })), "{target}: {refused:?}");
    }
    assert_eq!(contents(&fs, Path::new("full")).into_values().collect::<Vec<_>>(), [b"mine"]);
    // A directory that is needed on the way, and is not of our making.
    fs.create_directory(Path::new("other.unfinished")).unwrap();
    durably::create(&fs, Path::new("other.unfinished/file"), b"mine").unwrap();
    let refused = broker.backup("other");
    assert!(matches!(refused, Err(Error::InvalidTarget { .. })), "{refused:?}");
    let left = contents(&fs, Path::new("other.unfinished")).into_keys();
    assert_eq!(left.collect::<Vec<_>>(), [Path::new("other.unfinished/file")]);
    // An empty directory will do.
    fs.create_directory(Path::new("empty")).unwrap();
    for target in ["empty", "with a separator/"] {
        broker.backup(target).unwrap();
        open_copy(on(&fs, target));
    }
    assert!(fs.kind(Path::new("with a separator/.unfinished")).unwrap().is_none());
}

#[test]
fn two_backups_to_one_place_exclude_each_other() {
    let disk = SimulatedDisk::new();
    let broker = on(&disk, "data").open().unwrap();
    fill(&broker);
    let at = (DiskCallKind::Create, "copy.unfinished/synced-0/watermark.checkpoint");
    meanwhile(&disk, &broker, at, |broker| {
        assert!(matches!(broker.backup("copy"), Err(Error::Locked { .. })));
        Ok(())
    });
    broker.backup("copy").unwrap();
    disk.revive();
    open_copy(on(&disk, "copy"));
}
