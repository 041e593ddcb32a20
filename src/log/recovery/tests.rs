//! A log opened after anything: torn tails are cut and kept, damage to what was safe is reported
//! with every byte left as it was, and a recovery that dies can be begun anew.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use super::*;
use crate::error::Corruption;
use crate::fs::FileSystem;
use crate::fs::faults::Operation;
use crate::log::PartitionLog;
use crate::log::config::{Durability, TopicConfig};
use crate::log::fixture::{
    Fixture, WRITTEN, append, append_at, append_numbers, config, is_log, number_text, numbers,
    read_all,
};
use crate::record::batch::RecordBatch;
use crate::record::vectors;
use crate::time::Clock;

type Tree = BTreeMap<String, Vec<u8>>;
type Damage<'a> = Box<dyn Fn() + 'a>;

const FIRST: &str = "00000000000000000000.log";
const EIO: i32 = 5;

fn small(durability: Durability) -> TopicConfig {
    config(durability).segment_bytes(1_024).max_message_bytes(1_024).index_interval_bytes(200)
}

fn log_name(base_offset: u64) -> String {
    format!("{base_offset:020}.log")
}

/// A log of `synced` records that a flush has covered and `unsynced` more, left without a close.
fn left_behind(settings: TopicConfig, synced: u64, unsynced: u64) -> Fixture {
    let fixture = Fixture::new(settings);
    let log = fixture.open();
    append_numbers(&log, 0..synced);
    log.flush().unwrap();
    append_numbers(&log, synced..synced + unsynced);
    fixture
}

/// Where each batch of a segment begins, and where the last one ends.
fn boundaries(bytes: &[u8]) -> Vec<usize> {
    let mut at = 0;
    let mut found = vec![0];
    while at < bytes.len() {
        at += RecordBatch::parse(&bytes[at..]).unwrap().size();
        found.push(at);
    }
    found
}

/// Planning must fail as corrupt and change nothing.
fn assert_refused(fixture: &Fixture, what: &str) -> Corruption {
    let before = fixture.tree();
    let refused = fixture.plan().map(|plan| plan.report());
    assert_eq!(fixture.tree(), before, "{what}: not one byte may change");
    match refused {
        Err(Error::Corrupt(corruption)) => {
            assert_eq!(corruption.topic_partition, Some(Fixture::topic_partition()), "{what}");
            *corruption
        }
        other => panic!("{what}: {other:?}"),
    }
}

/// Opens twice: the first report counts, and the second open has nothing left to do.
fn open_twice(fixture: &Fixture) -> (Arc<PartitionLog>, PartitionRecovery) {
    let (log, report) = fixture.try_open().unwrap();
    drop(log);
    let before = fixture.tree();
    let (log, again) = fixture.try_open().unwrap();
    assert_eq!((again.cut, again.bytes_carried), (None, 0), "nothing is left to mend");
    assert_eq!(without_indexes(&fixture.tree()), without_indexes(&before));
    (log, report)
}

fn without_indexes(tree: &Tree) -> Tree {
    tree.iter()
        .filter(|(name, _)| !name.ends_with("index"))
        .map(|(name, bytes)| (name.clone(), bytes.clone()))
        .collect()
}

#[test]
fn a_tail_torn_at_any_byte_is_cut_and_kept_and_what_was_synced_is_there() {
    for durability in [Durability::Fsync, WRITTEN] {
        let fixture = left_behind(config(durability), 3, 2);
        let tree = fixture.tree();
        let whole = tree[FIRST].clone();
        let starts = boundaries(&whole);
        for len in starts[3]..=whole.len() {
            fixture.restore(&tree);
            fixture.write(FIRST, &whole[..len]);
            let (log, report) = open_twice(&fixture);
            let valid = starts.iter().rposition(|start| *start <= len).unwrap() as u64;
            assert_eq!(read_all(&log), numbers(0..valid), "{len} bytes");
            let torn = &whole[starts[usize::try_from(valid).unwrap()]..len];
            check_cut(&fixture, report.cut, valid, torn);
            append_numbers(&log, valid..valid + 1);
            log.flush().unwrap();
            assert_eq!(read_all(&log), numbers(0..valid + 1));
        }
    }
}

/// The bytes that were cut off are kept as they were, and told.
fn check_cut(fixture: &Fixture, cut: Option<CutTail>, offset: u64, torn: &[u8]) {
    if torn.iter().all(|byte| *byte == 0) {
        return;
    }
    let cut = cut.expect("a cut is told");
    let name = cut.kept_in[0].file_name().unwrap().to_str().unwrap();
    let kept = fixture.bytes(name);
    assert_eq!((cut.offset, cut.bytes), (offset, kept.len() as u64));
    let (same, rest) = torn.split_at(kept.len());
    assert_eq!(kept, same);
    assert!(rest.iter().all(|byte| *byte == 0));
}

#[test]
fn a_tail_damaged_at_any_byte_is_cut_at_the_damaged_batch() {
    for durability in [Durability::Fsync, WRITTEN] {
        let fixture = left_behind(config(durability), 2, 3);
        let tree = fixture.tree();
        let whole = tree[FIRST].clone();
        let starts = boundaries(&whole);
        for at in starts[2]..whole.len() {
            let batch = starts.iter().rposition(|start| *start <= at).unwrap();
            if (12..16).contains(&(at - starts[batch])) {
                continue; // the leader epoch says nothing of records
            }
            fixture.restore(&tree);
            let mut damaged = whole.clone();
            damaged[at] ^= 0x41;
            fixture.write(FIRST, &damaged);
            let (log, report) = open_twice(&fixture);
            let valid = batch as u64;
            assert_eq!(read_all(&log), numbers(0..valid), "byte {at}");
            check_cut(&fixture, report.cut, valid, &damaged[starts[batch]..]);
        }
    }
}

#[test]
fn zeros_behind_the_last_batch_are_no_damage() {
    for durability in [Durability::Fsync, WRITTEN] {
        let fixture = left_behind(config(durability), 2, 1);
        let mut bytes = fixture.bytes(FIRST);
        bytes.resize(bytes.len() + 100_000, 0);
        fixture.write(FIRST, &bytes);
        let (log, report) = open_twice(&fixture);
        assert_eq!(report.cut, None);
        assert_eq!(read_all(&log), numbers(0..3));
    }
}

#[test]
fn old_batches_beyond_the_cut_are_gone_before_new_ones_come() {
    for durability in [Durability::Fsync, WRITTEN] {
        let fixture = left_behind(config(durability), 1, 4);
        let whole = fixture.bytes(FIRST);
        let starts = boundaries(&whole);
        // The second batch is lost, the ones after it are whole.
        let mut bytes = whole.clone();
        bytes[starts[1]..starts[2]].fill(0);
        fixture.write(FIRST, &bytes);
        let (log, report) = fixture.try_open().unwrap();
        assert_eq!(report.log_end_offset, 1);
        // What takes its place is of the same size, so that the old ones would fit behind it.
        append(&log, &["RECORD 000001"]).unwrap();
        log.flush().unwrap();
        drop(log);
        let log = fixture.open();
        assert_eq!(log.ends().log_end(), 2, "the ghosts of 2 to 4 are gone");
        let torn = report.cut.unwrap();
        let name = torn.kept_in[0].file_name().unwrap().to_str().unwrap();
        assert_eq!(fixture.bytes(name), bytes[starts[1]..]);
    }
}

#[test]
fn damage_below_the_watermark_is_refused_and_nothing_changes() {
    for durability in [Durability::Fsync, WRITTEN] {
        // No index entries: the whole segment is looked at.
        let fixture = left_behind(config(durability), 4, 1);
        let tree = fixture.tree();
        let whole = tree[FIRST].clone();
        let starts = boundaries(&whole);
        for at in 0..starts[4] {
            let batch = starts.iter().rposition(|start| *start <= at).unwrap();
            if (12..16).contains(&(at - starts[batch])) {
                continue;
            }
            let mut damaged = whole.clone();
            damaged[at] ^= 0x41;
            fixture.restore(&tree);
            fixture.write(FIRST, &damaged);
            let corruption = assert_refused(&fixture, &format!("byte {at}"));
            assert_eq!(corruption.offsets, batch as u64..4, "byte {at}");
            assert_eq!(corruption.bytes.start, starts[batch] as u64);
            assert_eq!(corruption.path, fixture.path(FIRST));
        }
        for len in 0..starts[4] {
            fixture.restore(&tree);
            fixture.write(FIRST, &whole[..len]);
            assert_refused(&fixture, &format!("{len} bytes"));
        }
        fixture.restore(&tree);
        let mut zeroed = whole.clone();
        zeroed[starts[2]..].fill(0);
        fixture.write(FIRST, &zeroed);
        assert_refused(&fixture, "zeros");
    }
}

#[test]
fn damage_far_below_the_watermark_costs_the_open_nothing_and_is_reported_by_a_read() {
    let fixture = left_behind(small(WRITTEN), 60, 0);
    let mut bytes = fixture.bytes(FIRST);
    bytes[70] ^= 1;
    fixture.write(FIRST, &bytes);
    let (log, report) = fixture.try_open().unwrap();
    assert!(report.bytes_scanned < 1_024, "{}", report.bytes_scanned);
    match log.read(0, None, 100) {
        Err(Error::Corrupt(corruption)) => {
            assert_eq!(corruption.topic_partition, Some(Fixture::topic_partition()));
        }
        other => panic!("{other:?}"),
    }
    assert!(log.read(30, None, 100).unwrap().is_some(), "the rest can be read");
}

#[test]
fn one_flipped_bit_in_the_active_segment_never_takes_what_is_safe_behind_it() {
    let fixture = left_behind(config(WRITTEN), 50, 0);
    let tree = fixture.tree();
    let mut bytes = tree[FIRST].clone();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    fixture.write(FIRST, &bytes);
    assert_refused(&fixture, "a flipped bit");
    fixture.restore(&tree);
    assert_eq!(read_all(&fixture.open()), numbers(0..50));
}

#[test]
fn missing_empty_short_swapped_and_foreign_segments_are_refused() {
    for durability in [Durability::Fsync, WRITTEN] {
        let fixture = left_behind(small(durability), 60, 0);
        let tree = fixture.tree();
        let names = fixture.segments();
        let (active, middle) = (names.last().unwrap(), &names[2]);
        let cases: [(&str, Damage<'_>); 7] = [
            ("the active segment is missing", Box::new(|| remove(&fixture, active))),
            ("the first segment is missing", Box::new(|| remove(&fixture, &names[0]))),
            ("all are missing", Box::new(|| names.iter().for_each(|name| remove(&fixture, name)))),
            ("the active one is empty", Box::new(|| fixture.write(active, &[]))),
            ("one in the middle is empty", Box::new(|| fixture.write(middle, &[]))),
            ("the active one is short", Box::new(|| fixture.write(active, &tree[active][..90]))),
            ("another in its place", Box::new(|| fixture.write(active, &tree[middle]))),
        ];
        for (what, damage) in cases {
            fixture.restore(&tree);
            damage();
            assert_refused(&fixture, what);
        }
        fixture.restore(&tree);
        assert_eq!(read_all(&fixture.open()), numbers(0..60));
    }
}

fn remove(fixture: &Fixture, name: &str) {
    fixture.fs.remove_file(&fixture.path(name)).unwrap();
}

#[test]
fn a_segment_missing_or_swapped_in_the_middle_is_reported_when_it_is_read() {
    let fixture = left_behind(small(WRITTEN), 60, 0);
    let tree = fixture.tree();
    let names = fixture.segments();
    remove(&fixture, &names[2]);
    let log = fixture.open();
    let damaged = crate::log::fixture::read_from(&log, 0).unwrap_err();
    assert!(matches!(damaged, Error::Corrupt(_)), "{damaged}");
    drop(log);
    fixture.restore(&tree);
    fixture.write(&names[2], &tree[&names[1]]);
    let log = fixture.open();
    let damaged = crate::log::fixture::read_from(&log, 0).unwrap_err();
    assert!(matches!(damaged, Error::Corrupt(_)), "{damaged}");
}

#[test]
fn a_segment_that_does_not_belong_is_never_joined_into_the_log() {
    for durability in [Durability::Fsync, WRITTEN] {
        let fixture = left_behind(small(durability), 60, 0);
        let tree = fixture.tree();
        let names = fixture.segments();
        // Behind the end: set aside. Within the active segment: refused.
        fixture.write(&log_name(1_000), &tree[&names[0]]);
        let (log, report) = open_twice(&fixture);
        assert_eq!(read_all(&log), numbers(0..60));
        let cut = report.cut.unwrap();
        let kept = cut.kept_in[0].file_name().unwrap().to_str().unwrap();
        assert_eq!(fixture.bytes(kept), tree[&names[0]]);
        drop(log);
        fixture.restore(&tree);
        fixture.write(&log_name(59), &[]);
        assert_refused(&fixture, "an empty file within the active segment");
        fixture.write("watermark.checkpoint", &[]);
        assert_refused(&fixture, "the same without a checkpoint");
    }
}

#[test]
fn files_that_are_not_of_the_log_are_left_alone_and_leftovers_are_removed() {
    let fixture = left_behind(small(WRITTEN), 20, 0);
    let kept = ["notes.txt", "0.log", "00000000000000000007.snapshot", "00000000000000000003.torn"];
    let gone = [
        "00000000000000000003.log.carried",
        "00000000000000000003.log.deleted",
        "00000000000000000003.index",
        "00000000000000000003.timeindex",
        "00000000000000000003.txnindex",
    ];
    for name in kept.iter().chain(&gone) {
        fixture.write(name, b"something");
    }
    fixture.fs.create_directory(&fixture.path("lost+found")).unwrap();
    fixture.fs.create_directory(&fixture.path("00000000000000000004.log")).unwrap();
    let (log, report) = open_twice(&fixture);
    assert_eq!((report.cut, read_all(&log)), (None, numbers(0..20)));
    let tree = fixture.tree();
    for name in kept {
        assert_eq!(tree[name], b"something", "{name}");
    }
    for name in gone {
        assert!(!tree.contains_key(name), "{name}");
    }
    assert!(fixture.fs.kind(&fixture.path("lost+found")).unwrap().is_some());
}

#[test]
fn without_its_checkpoint_or_with_a_damaged_one_the_log_is_the_same() {
    for durability in [Durability::Fsync, WRITTEN] {
        let fixture = left_behind(small(durability), 40, 5);
        let tree = fixture.tree();
        let whole = tree[WATERMARK_FILE].clone();
        let mut zeros = whole.clone();
        zeros.fill(0);
        let mut first_lost = whole.clone();
        first_lost[..4_096].fill(0x5a);
        let mut second_lost = whole.clone();
        second_lost[4_096..].fill(0x5a);
        for bytes in [&[][..], &whole[..100], &zeros, &first_lost, &second_lost, &[7; 9_000]] {
            fixture.restore(&tree);
            fixture.write(WATERMARK_FILE, bytes);
            let (log, report) = open_twice(&fixture);
            assert_eq!(report.cut, None);
            assert_eq!(read_all(&log), numbers(0..45));
        }
        fixture.restore(&tree);
        remove(&fixture, WATERMARK_FILE);
        let (log, _) = open_twice(&fixture);
        assert_eq!(read_all(&log), numbers(0..45));
        assert_eq!(log.recovery_point(), 45, "all of it was synced at the open");
    }
}

#[test]
fn without_a_checkpoint_only_the_last_segment_may_be_cut() {
    let fixture = left_behind(small(WRITTEN), 40, 0);
    let tree = fixture.tree();
    let names = fixture.segments();
    remove(&fixture, WATERMARK_FILE);
    let active = names.last().unwrap();
    fixture.write(active, &tree[active][..tree[active].len() - 1]);
    let (log, report) = open_twice(&fixture);
    assert_eq!((report.cut.unwrap().offset, log.ends().log_end()), (39, 39));
    drop(log);
    for name in &names[..names.len() - 1] {
        fixture.restore(&tree);
        remove(&fixture, WATERMARK_FILE);
        let mut bytes = tree[name].clone();
        *bytes.last_mut().unwrap() ^= 1;
        fixture.write(name, &bytes);
        assert_refused(&fixture, name);
    }
}

#[test]
fn a_checkpoint_of_a_newer_version_is_refused_and_nothing_changes() {
    let fixture = left_behind(small(WRITTEN), 10, 0);
    let mut bytes = checkpoint::encode_file(&Checkpoint::default());
    bytes[13] = 9;
    let body = bytes[12..56].to_vec();
    bytes[8..12].copy_from_slice(&crc32fast::hash(&body).to_be_bytes());
    fixture.write(WATERMARK_FILE, &bytes);
    let before = fixture.tree();
    assert!(matches!(fixture.try_open(), Err(Error::UnsupportedFormat { .. })));
    assert_eq!(fixture.tree(), before);
}

#[test]
fn with_every_derived_file_lost_or_damaged_the_log_is_the_same() {
    for durability in [Durability::Fsync, WRITTEN] {
        let fixture = Fixture::new(small(durability));
        let log = fixture.open();
        append_numbers(&log, 0..60);
        log.fence();
        log.close().unwrap();
        let tree = fixture.tree();
        let derived: Vec<_> = tree.keys().filter(|name| !is_log(name)).collect();
        assert!(derived.len() > 8);
        for name in &derived {
            for damage in 0..5 {
                fixture.restore(&tree);
                let mut bytes = tree[*name].clone();
                let half = bytes.len() / 2;
                match damage {
                    0 => remove(&fixture, name),
                    1 => fixture.write(name, &[]),
                    2 => fixture.write(name, &bytes[..half]),
                    3 => fixture.write(name, &vec![0; bytes.len()]),
                    _ => {
                        bytes = bytes.iter().map(|byte| byte ^ 0x11).collect();
                        fixture.write(name, &bytes);
                    }
                }
                let (log, _) = open_twice(&fixture);
                assert_eq!(read_all(&log), numbers(0..60), "{name}, {damage}");
                for offset in [0, 13, 37, 59] {
                    let read = crate::log::fixture::read_from(&log, offset).unwrap();
                    assert_eq!(read, numbers(offset..60));
                }
            }
        }
    }
}

#[test]
fn what_a_failed_sync_leaves_is_carried_into_fresh_files_before_it_is_served() {
    for durability in [Durability::Fsync, WRITTEN] {
        let fixture = Fixture::new(small(durability));
        let log = fixture.open();
        append_numbers(&log, 0..5);
        log.flush().unwrap();
        append_numbers(&log, 5..40);
        let eio = io::Error::from_raw_os_error(EIO);
        fixture.fs.fail_next(Operation::SyncData, ".log", eio);
        log.flush().unwrap_err();
        drop(log);
        let created = fixture.fs.calls(Operation::CreateNew);
        let (log, report) = open_twice(&fixture);
        assert!(fixture.fs.calls(Operation::CreateNew) > created);
        assert!(report.bytes_carried > 35 * 70, "{}", report.bytes_carried);
        assert_eq!(read_all(&log), numbers(0..40));
        assert_eq!(log.recovery_point(), 40);
    }
}

/// A sync in this process says nothing of what another one wrote.
#[test]
fn under_fsync_an_unsynced_tail_is_carried_and_a_synced_one_is_not() {
    let fixture = left_behind(config(Durability::Fsync), 5, 3);
    let (log, report) = fixture.try_open().unwrap();
    assert!(report.bytes_carried > 0);
    assert_eq!(fixture.segments(), [log_name(0), log_name(5)]);
    assert_eq!(read_all(&log), numbers(0..8));
    drop(log);
    let (_, report) = fixture.try_open().unwrap();
    assert_eq!(report.bytes_carried, 0);
    let fixture = left_behind(config(WRITTEN), 5, 3);
    assert_eq!(fixture.try_open().unwrap().1.bytes_carried, 0);
}

#[test]
fn an_interrupted_carry_leaves_an_overlap_that_is_resolved() {
    let fixture = left_behind(config(Durability::Fsync), 5, 3);
    let before = fixture.tree();
    drop(fixture.open());
    let after = fixture.tree();
    let mut both = before.clone();
    both.insert(log_name(5), after[&log_name(5)].clone());
    fixture.restore(&both);
    let (log, report) = open_twice(&fixture);
    assert_eq!((report.cut, read_all(&log)), (None, numbers(0..8)));
    assert_eq!(fixture.bytes(FIRST), after[FIRST]);
}

/// Kills the recovery at each of its calls in turn, and recovers again.
#[test]
fn a_recovery_killed_at_any_call_and_begun_anew_gives_the_same_log() {
    for durability in [Durability::Fsync, WRITTEN] {
        for failed_sync in [false, true] {
            let fixture = torn_in_many_ways(durability, failed_sync);
            let tree = fixture.tree();
            let expected = {
                let log = fixture.open();
                (log.ends().log_start(), read_all(&log))
            };
            assert_eq!(expected.1, numbers(7..23));
            let mut call = 0;
            loop {
                fixture.restore(&tree);
                let completed = open_killed_at(&fixture, call);
                let (log, report) = open_twice(&fixture);
                let found = (log.ends().log_start(), read_all(&log));
                assert_eq!(found, expected, "call {call}");
                append_numbers(&log, 23..24);
                log.flush().unwrap();
                drop(log);
                check_quarantine(&fixture, report.cut.as_ref(), call);
                if completed {
                    break;
                }
                call += 1;
            }
            assert!(call > 30, "{call} calls");
        }
    }
}

/// Segments split by a carry, a torn tail, segments behind it, leftovers, a failed sync.
fn torn_in_many_ways(durability: Durability, failed_sync: bool) -> Fixture {
    let fixture = Fixture::new(small(durability));
    let log = fixture.open();
    append_numbers(&log, 0..15);
    log.flush().unwrap();
    log.delete_records(7).unwrap();
    append_numbers(&log, 15..40);
    if failed_sync {
        let eio = io::Error::from_raw_os_error(EIO);
        fixture.fs.fail_next(Operation::SyncData, ".log", eio);
        log.flush().unwrap_err();
    }
    drop(log);
    damage_offset(&fixture, 23);
    fixture.write("00000000000000000005.log.carried", b"x");
    fixture.write("00000000000000000005.index", b"x");
    fixture
}

/// Damages the batch that holds an offset.
fn damage_offset(fixture: &Fixture, offset: u64) {
    for name in fixture.segments() {
        let mut bytes = fixture.bytes(&name);
        let mut at = 0;
        while let Some(batch) = bytes.get(at..).and_then(|rest| RecordBatch::parse(rest).ok()) {
            let (size, last) = (batch.size(), batch.last_offset());
            if last == offset {
                bytes[at + size - 1] ^= 1;
                fixture.write(&name, &bytes);
                return;
            }
            at += size;
        }
    }
    panic!("no batch ends with offset {offset}");
}

/// Opens with every call from the `number`-th on failing. `true` if the open needed fewer.
fn open_killed_at(fixture: &Fixture, number: u32) -> bool {
    let mut left = number;
    fixture.fs.fail_when(move |_, _| {
        let dead = left == 0;
        left = left.saturating_sub(1);
        dead.then(|| io::Error::from_raw_os_error(EIO))
    });
    let opened = fixture.try_open();
    fixture.fs.heal();
    opened.is_ok()
}

/// What was cut off is in one place, complete, whether this open or the killed one has cut it.
fn check_quarantine(fixture: &Fixture, cut: Option<&CutTail>, call: u32) {
    let tree = fixture.tree();
    let torn: Vec<_> = tree.keys().filter(|name| name.contains(".torn")).collect();
    assert!(tree.keys().all(|name| !name.contains("carried")), "call {call}");
    let first = &tree["00000000000000000023.torn"];
    assert_eq!(&first[..8], &23_u64.to_be_bytes(), "call {call}");
    assert!(!torn.iter().any(|name| name.starts_with("00000000000000000023.torn.")), "{torn:?}");
    if let Some(cut) = cut {
        assert_eq!(cut.offset, 23);
    }
}

#[test]
fn the_work_of_an_open_is_bounded_by_what_came_since_the_checkpoint() {
    let fixture = Fixture::new(config(WRITTEN));
    let log = fixture.open();
    for number in 0..3_000 {
        let now = fixture.clock.now();
        append_at(&log, &[vec![b'x'; 500], number_text(number).into_bytes()], now).unwrap();
        fixture.clock.advance(Duration::from_millis(1));
    }
    log.flush().unwrap();
    log.sync_checkpoint().unwrap();
    append(&log, &["more"]).unwrap();
    let size = log.size();
    drop(log);
    let (log, report) = fixture.try_open().unwrap();
    assert!(size > 1_500_000 && report.bytes_scanned < 10_000, "{}", report.bytes_scanned);
    // An old largest timestamp does not matter after a close in order.
    append_at(&log, &["latest"], fixture.clock.now().saturating_add(Duration::from_secs(9)))
        .unwrap();
    for _ in 0..300 {
        append(&log, &[[b'x'; 500]]).unwrap();
    }
    log.fence();
    log.close().unwrap();
    let (_, report) = fixture.try_open().unwrap();
    assert!(report.bytes_scanned < 10_000, "{}", report.bytes_scanned);
}

#[test]
fn index_files_that_a_power_loss_has_cut_apart_lead_to_no_wrong_answer() {
    let fixture = Fixture::new(config(WRITTEN).index_interval_bytes(200));
    let log = fixture.open();
    // Timestamps that fall for a while, so that an entry too few is an entry that lies.
    for number in 0..60_u64 {
        let millis = 1_700_000_000_000 + if number < 30 { number * 10 } else { 100 + number };
        let timestamp = crate::time::Timestamp::from_millis(i64::try_from(millis).unwrap());
        crate::log::fixture::append_at(&log, &[number_text(number)], timestamp).unwrap();
    }
    log.flush().unwrap();
    log.sync_checkpoint().unwrap();
    drop(log);
    let tree = fixture.tree();
    let name = "00000000000000000000.timeindex";
    for entries in 0..tree[name].len() / 12 {
        fixture.restore(&tree);
        fixture.write(name, &tree[name][..entries * 12]);
        let log = fixture.open();
        append_numbers(&log, 60..90);
        for millis in (1_700_000_000_000..1_700_000_000_300).step_by(7) {
            let since = crate::time::Timestamp::from_millis(millis);
            let expected = (0..30).find(|number| 1_700_000_000_000 + number * 10 >= millis);
            let found = log.offset_for_timestamp(since, 1_000).unwrap().map(|(offset, _)| offset);
            let expected = expected.map_or(found, |number| u64::try_from(number).ok());
            assert_eq!(found, expected, "{entries} entries, {millis}");
        }
    }
}

#[test]
fn kafkas_own_partition_directory_opens_and_its_indexes_stay_as_they_are() {
    let document = vectors::load();
    let files = document["log_directory"]["files"].as_object().unwrap();
    for keep_indexes in [true, false] {
        let fixture = Fixture::new(config(Durability::Fsync).index_interval_bytes(512));
        remove(&fixture, FIRST);
        remove(&fixture, WATERMARK_FILE);
        for (name, bytes) in files {
            if keep_indexes || !name.ends_with("index") {
                fixture.write(name, &vectors::hex(bytes));
            }
        }
        let (log, report) = fixture.try_open().unwrap();
        assert_eq!((report.log_start_offset, report.log_end_offset), (0, 52));
        assert_eq!(report.cut, None);
        let mut offset = 0;
        while let Some(fetched) = log.read(offset, None, 1 << 20).unwrap() {
            offset = fetched.next_offset;
        }
        assert_eq!(offset, 52);
        log.fence();
        log.close().unwrap();
        for (name, bytes) in files {
            let expected = !name.ends_with("txnindex") || keep_indexes;
            assert!(!expected || fixture.bytes(name) == vectors::hex(bytes), "{name}");
        }
    }
}

/// Whatever bytes are in the directory, the open ends in a log or in a typed error.
#[test]
fn any_bytes_whatever_lead_to_a_log_or_a_typed_error() {
    let fixture = left_behind(small(WRITTEN), 20, 3);
    let tree = fixture.tree();
    let mut seed = 1_u64;
    let mut random = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    for _ in 0..2_000 {
        fixture.restore(&tree);
        for _ in 0..=random() % 3 {
            let names: Vec<_> = tree.keys().collect();
            let name = names[usize::try_from(random()).unwrap_or(0) % names.len()];
            let mut bytes = fixture.bytes(name);
            if bytes.is_empty() {
                continue;
            }
            let at = usize::try_from(random() % bytes.len() as u64).unwrap();
            match random() % 4 {
                0 => bytes.truncate(at),
                1 => bytes[at] = u8::try_from(random() % 256).unwrap(),
                2 => bytes[at..].fill(0xff),
                _ => {
                    let block = bytes[at..].to_vec();
                    bytes.extend(block);
                }
            }
            fixture.write(name, &bytes);
        }
        if let Ok((log, _)) = fixture.try_open() {
            let start = log.ends().log_start();
            let records = crate::log::fixture::read_from(&log, start);
            if let Ok(records) = records {
                assert_eq!(records, numbers(start..start + records.len() as u64));
            }
            append(&log, &["more"]).unwrap();
        }
    }
}
