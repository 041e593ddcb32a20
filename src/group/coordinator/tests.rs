//! Commits, membership, replay and the rewrite of the log, over a log manager in memory whose files
//! outlive it: dropping one without closing it is what a kill leaves behind.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::fs::FileSystem;
use crate::fs::faults::{FailingFileSystem, Operation};
use crate::group::assignor::sticky::CooperativeStickyAssignor;
use crate::group::offset_store::OffsetStore;
use crate::group::shard::REWRITE_BYTES_MIN;
use crate::group::state::Coming;
use crate::log::Environment;
use crate::log::config::TopicConfig;
use crate::log::recovery::RecoveryMode;
use crate::metrics::Metrics;
use crate::record::builder::BatchBuilder;
use crate::record::{Compression, Record};
use crate::segment::records_file::ReadMode;
use crate::time::ManualClock;

const T0: Timestamp = Timestamp::from_millis(1_700_000_000_000);

/// Files, and the topic `orders` with two partitions of ten records each.
fn disk() -> FailingFileSystem {
    let fs = FailingFileSystem::over_memory();
    let manager = manager(&fs);
    let topic = manager.create_topic("orders", TopicConfig::default().partitions(2)).unwrap();
    for partition in topic.partitions() {
        partition.append(&vec![Record::new("x"); 10]).unwrap();
    }
    fs
}

fn manager(fs: &FailingFileSystem) -> Arc<LogManager> {
    let environment = Environment {
        fs: Arc::new(fs.clone()) as Arc<dyn FileSystem>,
        clock: Arc::new(ManualClock::new(T0)),
        metrics: Arc::new(Metrics::default()),
        read_mode: ReadMode::Mapped,
        open_logs: Arc::default(),
    };
    let (manager, _) =
        LogManager::look(environment, PathBuf::from("d"), OpenMode::Write, RecoveryMode::Refuse)
            .and_then(Found::open)
            .unwrap();
    Arc::new(manager)
}

fn open(fs: &FailingFileSystem) -> GroupCoordinator {
    GroupCoordinator::open(&manager(fs), 10).unwrap()
}

fn address(partition: u32) -> TopicPartition {
    TopicPartition::new("orders", partition)
}

fn at(partition: u32, offset: u64) -> (TopicPartition, OffsetAndMetadata) {
    (address(partition), OffsetAndMetadata::new(offset))
}

fn offset(groups: &GroupCoordinator, group: &str, partition: u32) -> Option<u64> {
    groups.committed(group, &address(partition)).unwrap().map(|committed| committed.offset)
}

fn store(groups: &GroupCoordinator) -> &OffsetStore {
    groups.shards.get().unwrap().first().unwrap().store()
}

#[test]
fn nothing_is_created_before_somebody_joins_or_commits() {
    let fs = disk();
    let groups = open(&fs);
    assert_eq!(offset(&groups, "g", 0), None);
    assert_eq!(groups.groups().unwrap(), Vec::<String>::new());
    assert!(groups.describe("g").unwrap().is_none());
    groups.delete_group("g").unwrap();
    groups.forget_topic("orders").unwrap();
    assert!(groups.manager.topic(OFFSETS_TOPIC).is_err());
    join(&groups, "g").unwrap();
    assert!(groups.manager.topic(OFFSETS_TOPIC).is_ok());
}

#[test]
fn a_commit_survives_a_kill_with_metadata_and_time() {
    let fs = disk();
    let groups = open(&fs);
    let metadata = OffsetAndMetadata::new(7).metadata("note");
    groups.commit("g", None, &[(address(0), metadata), at(1, 3)]).unwrap();
    drop(groups);

    let groups = open(&fs);
    let committed = groups.committed("g", &address(0)).unwrap().unwrap();
    assert_eq!((committed.offset, committed.metadata.as_str()), (7, "note"));
    assert_eq!(committed.timestamp, T0);
    assert_eq!(offset(&groups, "g", 1), Some(3));
    assert_eq!(offset(&groups, "h", 0), None, "groups are independent");
}

#[test]
fn a_commit_is_refused_whole_if_one_of_its_offsets_is_impossible() {
    let groups = open(&disk());
    let beyond = groups.commit("g", None, &[at(0, 1), at(1, 11)]).unwrap_err();
    assert!(matches!(beyond, Error::OffsetOutOfRange { offset: 11, end_offset: 10, .. }));
    let missing = (TopicPartition::new("nowhere", 0), OffsetAndMetadata::new(0));
    let missing = groups.commit("g", None, &[at(0, 1), missing]).unwrap_err();
    assert!(matches!(missing, Error::UnknownTopic { .. }));
    let wordy = (address(1), OffsetAndMetadata::new(0).metadata("x".repeat(4097)));
    let wordy = groups.commit("g", None, &[at(0, 1), wordy]).unwrap_err();
    assert!(matches!(wordy, Error::InvalidRecord { .. }), "{wordy}");
    assert_eq!(offset(&groups, "g", 0), None);
    groups.commit("g", None, &[at(0, 10)]).unwrap();
}

#[test]
fn group_ids_that_are_empty_or_too_long_are_refused() {
    let groups = open(&disk());
    for id in ["", &"x".repeat(250)] {
        assert!(matches!(join(&groups, id), Err(Error::InvalidGroup { .. })));
        assert!(matches!(groups.commit(id, None, &[]), Err(Error::InvalidGroup { .. })));
    }
}

#[test]
fn a_commit_whose_sync_fails_is_seen_by_nobody() {
    let fs = disk();
    let groups = open(&fs);
    groups.commit("g", None, &[at(0, 3)]).unwrap();
    fs.fail_next(Operation::SyncData, ".log", std::io::Error::from_raw_os_error(5));
    let failed = groups.commit("g", None, &[at(0, 9)]).unwrap_err();
    assert!(matches!(failed, Error::PartitionFailed { .. }), "{failed}");
    assert_eq!(offset(&groups, "g", 0), Some(3));
    assert!(groups.commit("g", None, &[at(0, 4)]).unwrap_err().is_fatal(), "until it is reopened");
}

#[test]
fn after_a_full_disk_commits_go_on() {
    let fs = disk();
    let groups = open(&fs);
    groups.commit("g", None, &[at(0, 3)]).unwrap();
    fs.fail_when(|operation, path| {
        let written = operation == Operation::Write && path.ends_with("00000000000000000000.log");
        written.then(|| std::io::ErrorKind::StorageFull.into())
    });
    assert!(matches!(groups.commit("g", None, &[at(0, 9)]), Err(Error::StorageFull { .. })));
    assert_eq!(offset(&groups, "g", 0), Some(3));
    fs.heal();
    groups.commit("g", None, &[at(0, 4)]).unwrap();
    drop(groups);
    assert_eq!(offset(&open(&fs), "g", 0), Some(4));
}

#[test]
fn commits_of_many_threads_end_as_a_replay_would() {
    const THREADS: u64 = 8;
    const COMMITS: u64 = 50;
    let fs = disk();
    let groups = open(&fs);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let groups = &groups;
            scope.spawn(move || {
                for n in 0..COMMITS {
                    // All groups but the first have one committer; that one is everybody's.
                    let own = format!("group-{thread}");
                    groups.commit(&own, None, &[at(0, n % 11)]).unwrap();
                    groups.commit("shared", None, &[at(1, (n + thread) % 11)]).unwrap();
                }
            });
        }
    });
    let live: Vec<_> = groups.groups().unwrap();
    let seen: Vec<_> = live.iter().map(|group| offset(&groups, group, 1)).collect();
    drop(groups);
    let groups = open(&fs);
    let replayed: Vec<_> = live.iter().map(|group| offset(&groups, group, 1)).collect();
    assert_eq!(seen, replayed);
    assert_eq!(offset(&groups, "group-3", 0), Some((COMMITS - 1) % 11));
}

#[test]
fn offsets_of_a_deleted_topic_do_not_pass_to_one_of_the_same_name() {
    let fs = disk();
    let groups = open(&fs);
    groups.commit("g", None, &[at(0, 7)]).unwrap();
    groups.manager.delete_topic("orders").unwrap();
    groups.forget_topic("orders").unwrap();
    groups.manager.create_topic("orders", TopicConfig::default()).unwrap();
    assert_eq!(offset(&groups, "g", 0), None);
    drop(groups);
    assert_eq!(offset(&open(&fs), "g", 0), None);
}

#[test]
fn offsets_of_a_topic_that_is_gone_at_open_are_dropped_for_good() {
    let fs = disk();
    let groups = open(&fs);
    groups.commit("g", None, &[at(0, 7)]).unwrap();
    groups.manager.delete_topic("orders").unwrap();
    drop(groups);

    let groups = open(&fs);
    let topic = groups.manager.create_topic("orders", TopicConfig::default()).unwrap();
    topic.partition(0).unwrap().append(&vec![Record::new("x"); 10]).unwrap();
    assert_eq!(offset(&groups, "g", 0), None);
    drop(groups);
    assert_eq!(offset(&open(&fs), "g", 0), None, "also not at the next open");
}

/// Commits 8 of 10, then has the topic lose everything: what a power cut does to records that were
/// not synced, taken to the extreme.
fn disk_with_a_commit_beyond_the_end() -> FailingFileSystem {
    let fs = disk();
    let groups = open(&fs);
    groups.commit("g", None, &[at(0, 8)]).unwrap();
    groups.manager.delete_topic("orders").unwrap();
    groups.manager.create_topic("orders", TopicConfig::default().partitions(2)).unwrap();
    let partition = groups.manager.partition(&address(0)).unwrap();
    partition.append(&vec![Record::new("x"); 5]).unwrap();
    fs
}

#[test]
fn a_commit_beyond_the_end_is_lowered_and_does_not_come_back() {
    let fs = disk_with_a_commit_beyond_the_end();
    let groups = open(&fs);
    assert_eq!(offset(&groups, "g", 0), Some(5));
    let partition = groups.manager.partition(&address(0)).unwrap();
    partition.append(&vec![Record::new("y"); 5]).unwrap();
    drop(partition);
    drop(groups);
    assert_eq!(offset(&open(&fs), "g", 0), Some(5), "8 would be valid again");
}

#[test]
fn a_full_disk_at_open_delays_the_correction_until_the_next_change() {
    let fs = disk_with_a_commit_beyond_the_end();
    let manager_of_full_disk = manager(&fs);
    fs.fail_when(|operation, _| {
        (operation == Operation::Write).then(|| std::io::ErrorKind::StorageFull.into())
    });
    let groups = GroupCoordinator::open(&manager_of_full_disk, 10).unwrap();
    drop(manager_of_full_disk);
    assert_eq!(offset(&groups, "g", 0), Some(5));
    fs.heal();
    let partition = groups.manager.partition(&address(0)).unwrap();
    partition.append(&vec![Record::new("y"); 5]).unwrap();
    groups.commit("h", None, &[at(0, 1)]).unwrap();
    drop(partition);
    drop(groups);
    assert_eq!(offset(&open(&fs), "g", 0), Some(5));
}

/// Commits until the log is due to be rewritten, with two groups' offsets to be kept.
fn fill_up_to_the_rewrite(groups: &GroupCoordinator) {
    let metadata = "m".repeat(4000);
    groups.commit("kept", None, &[at(0, 3), at(1, 4)]).unwrap();
    groups.commit("dropped", None, &[at(0, 1)]).unwrap();
    groups.delete_group("dropped").unwrap();
    while store(groups).partition().size() < REWRITE_BYTES_MIN {
        let committed = OffsetAndMetadata::new(9).metadata(metadata.as_str());
        groups.commit("busy", None, &[(address(0), committed)]).unwrap();
    }
}

#[test]
fn the_log_stays_small_however_often_is_committed() {
    let fs = disk();
    let groups = open(&fs);
    fill_up_to_the_rewrite(&groups);
    assert_eq!(store(&groups).partition().log_start_offset(), 0, "not yet");
    groups.commit("busy", None, &[at(0, 10)]).unwrap();
    let start = store(&groups).partition().log_start_offset();
    assert!(start > 200, "what lies before the rewrite is gone: {start}");
    let check = |groups: &GroupCoordinator| {
        assert_eq!((offset(groups, "kept", 0), offset(groups, "kept", 1)), (Some(3), Some(4)));
        assert_eq!(offset(groups, "busy", 0), Some(10));
        assert_eq!(groups.groups().unwrap(), ["busy", "kept"]);
    };
    check(&groups);
    drop(groups);
    check(&open(&fs));
}

#[test]
fn what_is_replayed_is_bounded_and_the_disk_with_it() {
    let fs = disk();
    let groups = open(&fs);
    let metadata = "m".repeat(4000);
    for n in 0..12_000 {
        let committed = OffsetAndMetadata::new(n % 10).metadata(metadata.as_str());
        groups.commit("busy", None, &[(address(0), committed)]).unwrap();
    }
    // 48 MB were committed.
    assert!(store(&groups).partition().size() < 3 * (16 << 20));
    let mut records = 0;
    let from = store(&groups).partition().log_start_offset();
    let replayed = store(&groups).replay(from, &mut |_| records += 1).unwrap();
    assert!(replayed.bytes <= REWRITE_BYTES_MIN + 8192, "{replayed:?}");
    assert!(records > 0);
}

#[test]
fn a_rewrite_that_fails_at_any_call_loses_nothing() {
    for failing_call in 0.. {
        let fs = disk();
        let groups = open(&fs);
        fill_up_to_the_rewrite(&groups);
        let calls = AtomicUsize::new(0);
        let failed = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let told = Arc::clone(&failed);
        fs.fail_when(move |_, _| {
            let fails = calls.fetch_add(1, Ordering::Relaxed) >= failing_call;
            told.fetch_or(fails, Ordering::Relaxed);
            fails.then(|| std::io::Error::from_raw_os_error(5))
        });
        let committed = groups.commit("busy", None, &[at(0, 10)]).is_ok();
        fs.heal();
        drop(groups);
        let groups = open(&fs);
        let kept = (offset(&groups, "kept", 0), offset(&groups, "kept", 1));
        assert_eq!(kept, (Some(3), Some(4)), "stopped at call {failing_call}");
        assert_eq!(offset(&groups, "dropped", 0), None, "stopped at call {failing_call}");
        let busy = offset(&groups, "busy", 0);
        assert!(busy == Some(10) || (!committed && busy == Some(9)), "{failing_call}: {busy:?}");
        if !failed.load(Ordering::Relaxed) {
            assert!(failing_call > 5, "the rewrite makes more calls than that");
            return;
        }
    }
}

#[test]
fn records_that_break_their_schema_are_an_error_and_not_a_fresh_start() {
    let (future, cut_short) = ([0, 9, 0, 0], [0, 3, 0, 0]);
    for value in [future, cut_short] {
        let fs = disk();
        let groups = open(&fs);
        groups.commit("g", None, &[at(0, 7)]).unwrap();
        let key = crate::group::offset_records::encode_key("g", &address(0)).unwrap();
        let mut batch = BatchBuilder::new();
        batch.append(&Record::new(&value).key(&key), T0).unwrap();
        batch.seal(Compression::None).unwrap();
        let partition = store(&groups).partition();
        partition.append_sealed(batch.sealed(), 1, T0, None).unwrap();
        drop(groups);
        match GroupCoordinator::open(&manager(&fs), 10).unwrap_err() {
            Error::UnsupportedFormat { .. } => assert_eq!(value, future),
            Error::Corrupt(damage) => {
                assert_eq!(value, cut_short);
                assert_eq!(damage.offsets, 1..2);
            }
            other => panic!("{other}"),
        }
    }
}

#[test]
fn what_consumed_says_is_the_lowest_of_all_groups_or_nothing() {
    let groups = open(&disk());
    groups.commit("a", None, &[at(0, 7)]).unwrap();
    let both = ["a".to_owned(), "b".to_owned()];
    assert_eq!(groups.consumed(&both, &address(0)), None, "one has committed nothing");
    groups.commit("b", None, &[at(0, 4)]).unwrap();
    assert_eq!(groups.consumed(&both, &address(0)), Some(4));
    assert_eq!(groups.consumed(&[], &address(0)), None);
}

/// A member that has taken all that there is for it.
fn join(groups: &GroupCoordinator, group: &str) -> Result<Membership> {
    let joining = Joining {
        client_id: Arc::from("worker"),
        instance_id: None,
        topics: BTreeSet::from([Arc::from("orders")]),
        max_poll_interval: Duration::from_secs(60),
        assignor: Arc::new(CooperativeStickyAssignor),
        coming: Coming::New,
    };
    let mut member = groups.join(group, joining, Pulse::new(Duration::ZERO, Arc::default()))?;
    groups.members.sync(&groups.manager, group, &mut member, Duration::ZERO).unwrap();
    Ok(member)
}

#[test]
fn a_member_that_left_cannot_commit_over_its_successor() {
    let groups = open(&disk());
    let first = join(&groups, "g").unwrap();
    groups.commit("g", Some(&first), &[at(0, 5)]).unwrap();
    assert!(matches!(groups.commit("g", None, &[at(0, 1)]), Err(Error::GroupOccupied { .. })));
    groups.leave("g", &first);
    let second = join(&groups, "g").unwrap();
    let stale = groups.commit("g", Some(&first), &[at(0, 1)]).unwrap_err();
    assert!(matches!(stale, Error::FencedGeneration { .. }), "{stale}");
    assert!(groups.commit("g", Some(&first), &[]).is_err(), "also without offsets");
    groups.leave("g", &first);
    groups.commit("g", Some(&second), &[at(0, 6)]).unwrap();
    assert_eq!(offset(&groups, "g", 0), Some(6));
}

#[test]
fn a_group_without_members_and_offsets_is_forgotten() {
    let groups = open(&disk());
    let member = join(&groups, "g").unwrap();
    assert_eq!(groups.groups().unwrap(), ["g"]);
    groups.leave("g", &member);
    assert_eq!(groups.groups().unwrap(), Vec::<String>::new());
    assert!(groups.members.with("g", |_| ()).is_none());
    let committed = join(&groups, "g").unwrap();
    groups.commit("g", Some(&committed), &[at(0, 5)]).unwrap();
    groups.leave("g", &committed);
    let left = groups.describe("g").unwrap().unwrap();
    assert!(left.members.is_empty() && left.generation > committed.generation);
    groups.delete_group("g").unwrap();
    assert!(groups.members.with("g", |_| ()).is_none());
}

#[test]
fn whoever_takes_a_partition_over_sees_every_commit_that_was_let_through_before() {
    let fs = disk();
    let groups = open(&fs);
    groups.commit("g", None, &[at(0, 1)]).unwrap();
    let not_waiting = Committing { group: "g", membership: None, returns: Returns::Appended };
    groups.commit_if(&not_waiting, &[at(0, 7)], |_| Ok(())).unwrap();
    assert_eq!(offset(&groups, "g", 0), Some(1));
    let seen = groups.committed_by_others("g", &address(0)).unwrap();
    assert_eq!(seen.map(|committed| committed.offset), Some(7));
}

#[test]
fn a_commit_that_is_not_waited_for_counts_once_a_sync_has_come() {
    let fs = disk();
    let groups = open(&fs);
    let not_waiting = Committing { group: "g", membership: None, returns: Returns::Appended };
    let sync_failure = || std::io::Error::from_raw_os_error(5);
    groups.commit("g", None, &[at(0, 1)]).unwrap();
    groups.commit_if(&not_waiting, &[at(0, 7)], |_| Ok(())).unwrap();
    assert_eq!(offset(&groups, "g", 0), Some(1), "a power cut could take it back");
    store(&groups).partition().log().flush().unwrap();
    assert_eq!(offset(&groups, "g", 0), Some(7));

    groups.commit_if(&not_waiting, &[at(0, 8)], |_| Ok(())).unwrap();
    fs.fail_next(Operation::SyncData, ".log", sync_failure());
    store(&groups).partition().log().flush().unwrap_err();
    assert_eq!(offset(&groups, "g", 0), Some(7), "it never counts");
    let told = groups.commit_if(&not_waiting, &[at(0, 9)], |_| Ok(())).unwrap_err();
    assert!(matches!(told, Error::PartitionFailed { .. }), "{told}");
}

#[test]
fn commits_that_nobody_waits_for_do_not_pile_up() {
    let groups = open(&disk());
    let not_waiting = Committing { group: "g", membership: None, returns: Returns::Appended };
    for n in 0..3_000 {
        groups.commit_if(&not_waiting, &[at(0, n % 10)], |_| Ok(())).unwrap();
    }
    let behind = store(&groups).partition().log_end_offset() - store(&groups).durable_to();
    assert!(behind <= 1_025, "{behind}");
}
