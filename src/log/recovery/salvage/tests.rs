//! Salvage keeps every batch that is intact, loses no offset, and says exactly what is gone.

#![expect(clippy::single_range_in_vec_init, reason = "what is lost is a list of ranges")]

use std::collections::BTreeMap;
use std::slice;
use std::sync::Arc;

use super::*;
use crate::fs::FileSystem;
use crate::log::PartitionLog;
use crate::log::config::{Durability, TopicConfig};
use crate::log::fixture::{
    Fixture, NOW, WRITTEN, append, append_numbers, config, numbers, read_all,
};
use crate::log::recovery::{PartitionRecovery, RecoveryMode, plan_in};

const FIRST: &str = "00000000000000000000.log";

fn small(durability: Durability) -> TopicConfig {
    config(durability).segment_bytes(1_024).max_message_bytes(1_024).index_interval_bytes(200)
}

fn left_behind(settings: TopicConfig, synced: u64, unsynced: u64) -> Fixture {
    let fixture = Fixture::new(settings);
    let log = fixture.open();
    append_numbers(&log, 0..synced);
    log.flush().unwrap();
    append_numbers(&log, synced..synced + unsynced);
    fixture
}

fn try_salvage(fixture: &Fixture) -> Result<(Arc<PartitionLog>, PartitionRecovery)> {
    let (environment, address) = (&fixture.environment, Fixture::topic_partition());
    let before = fixture.tree();
    let mode = RecoveryMode::Salvage;
    let plan = plan_in(mode, environment, &address, &fixture.directory, &fixture.config);
    assert_eq!(fixture.tree(), before, "a plan changes nothing");
    PartitionLog::open(environment, plan?, Arc::clone(&fixture.config))
}

/// Salvages; afterwards the log must open without, the same, and go on.
fn salvage(fixture: &Fixture) -> (Vec<(u64, Vec<u8>)>, PartitionRecovery) {
    let (log, report) = try_salvage(fixture).unwrap();
    let (records, end) = (read_all(&log), log.ends().log_end());
    drop(log);
    let (log, again) = try_salvage(fixture).unwrap();
    assert_eq!((again.lost, again.originals), (vec![], vec![]), "once is enough");
    drop(log);
    let log = fixture.open();
    assert_eq!(read_all(&log), records);
    assert_eq!(log.ends().log_end(), end);
    assert_eq!(append(&log, &["next"]).unwrap().base_offset, end, "no offset is used again");
    (records, report)
}

/// The numbers below `end` without those that were lost.
fn without(lost: &[Range<u64>], end: u64) -> Vec<(u64, Vec<u8>)> {
    let is_lost = |offset: &u64| lost.iter().any(|lost| lost.contains(offset));
    numbers(0..end).into_iter().filter(|(offset, _)| !is_lost(offset)).collect()
}

fn boundaries(bytes: &[u8]) -> Vec<usize> {
    let mut at = 0;
    let mut found = vec![0];
    while at < bytes.len() {
        at += RecordBatch::parse(&bytes[at..]).unwrap().size();
        found.push(at);
    }
    found
}

#[test]
fn an_intact_log_is_left_as_it_is() {
    for durability in [Durability::Fsync, WRITTEN] {
        let fixture = left_behind(small(durability), 60, 3);
        let (records, report) = salvage(&fixture);
        assert_eq!(records, numbers(0..63));
        assert_eq!((report.lost, report.originals), (vec![], vec![]));
    }
}

#[test]
fn damage_at_any_byte_costs_the_batch_it_is_in_and_no_other() {
    let fixture = left_behind(config(WRITTEN), 5, 1);
    let tree = fixture.tree();
    let whole = tree[FIRST].clone();
    let starts = boundaries(&whole);
    for at in 0..starts[5] {
        let batch = starts.iter().rposition(|start| *start <= at).unwrap();
        if (12..16).contains(&(at - starts[batch])) {
            continue; // the leader epoch says nothing of records
        }
        fixture.restore(&tree);
        let mut damaged = whole.clone();
        damaged[at] ^= 0x41;
        fixture.write(FIRST, &damaged);
        let (records, report) = salvage(&fixture);
        let lost = batch as u64..batch as u64 + 1;
        assert_eq!(records, without(slice::from_ref(&lost), 6), "byte {at}");
        assert_eq!(report.lost, [lost], "byte {at}");
        let kept = report.originals[0].file_name().unwrap().to_str().unwrap().to_owned();
        assert_eq!(fixture.bytes(&kept), damaged, "the original is kept whole");
    }
}

#[test]
fn bytes_that_were_zeroed_removed_or_inserted_cost_what_they_touch() {
    let fixture = left_behind(config(WRITTEN), 8, 0);
    let tree = fixture.tree();
    let whole = tree[FIRST].clone();
    let starts = boundaries(&whole);
    let cases: [(Vec<u8>, &[Range<u64>]); 6] = [
        ([&whole[..starts[3]], b"noise", &whole[starts[3]..]].concat(), &[]),
        (
            [&whole[..starts[2]], &vec![0; starts[5] - starts[2]], &whole[starts[5]..]].concat(),
            &[2..5],
        ),
        ([&whole[..starts[3]], &whole[starts[4]..]].concat(), &[3..4]),
        ([&whole[..starts[3] + 7], b"noise", &whole[starts[3] + 7..]].concat(), &[3..4]),
        (whole[..starts[6] + 20].to_vec(), &[6..8]),
        ([b"x", &whole[..starts[1] - 20], &whole[starts[2]..]].concat(), &[0..2]),
    ];
    for (bytes, lost) in cases {
        fixture.restore(&tree);
        fixture.write(FIRST, &bytes);
        let (records, report) = salvage(&fixture);
        assert_eq!(report.lost, lost);
        assert_eq!(records, without(lost, 8));
    }
}

#[test]
fn missing_empty_and_overwritten_segments_are_bridged() {
    for durability in [Durability::Fsync, WRITTEN] {
        let fixture = left_behind(small(durability), 60, 0);
        let tree = fixture.tree();
        let names = fixture.segments();
        let base = |number: usize| names[number].trim_end_matches(".log").parse::<u64>().unwrap();
        let last = names.len() - 1;
        for (number, name) in names.iter().enumerate() {
            let lost = base(number)..if number == last { 60 } else { base(number + 1) };
            let damages: [&dyn Fn(); 3] = [
                &|| fixture.fs.remove_file(&fixture.path(name)).unwrap(),
                &|| fixture.write(name, &[]),
                &|| fixture.write(name, &[0xee; 700]),
            ];
            for (kind, damage) in damages.iter().enumerate() {
                fixture.restore(&tree);
                damage();
                let (records, report) = salvage(&fixture);
                assert_eq!(report.lost, slice::from_ref(&lost), "segment {number}, damage {kind}");
                let start = if number == 0 && kind == 0 { lost.end } else { 0 };
                let expected = without(slice::from_ref(&lost), 60);
                assert_eq!(records, expected, "segment {number}, damage {kind}");
                assert_eq!(report.log_start_offset, start);
            }
        }
    }
}

#[test]
fn with_all_segments_gone_the_log_goes_on_where_it_ended() {
    let fixture = left_behind(small(WRITTEN), 60, 0);
    for name in fixture.segments() {
        fixture.fs.remove_file(&fixture.path(&name)).unwrap();
    }
    let (records, report) = salvage(&fixture);
    assert!(records.is_empty());
    assert_eq!((report.lost, report.log_end_offset), (vec![0..60], 60));
}

/// What lies beyond a gap above the watermark is not the log's, whatever it is.
#[test]
fn with_all_safe_segments_gone_a_later_one_is_set_aside() {
    for later in [&b"rubbish"[..], b""] {
        let fixture = left_behind(config(WRITTEN), 6, 0);
        fixture.fs.remove_file(&fixture.path(FIRST)).unwrap();
        fixture.write("00000000000000000017.log", later);
        let (records, report) = salvage(&fixture);
        assert_eq!(records, []);
        assert_eq!(report.lost, [0..6]);
        assert_eq!((report.log_start_offset, report.log_end_offset), (6, 6));
    }
}

/// Nobody would cut them off later: they lie before the watermark.
#[test]
fn zeros_behind_what_is_intact_are_no_obstacle_to_readers() {
    let fixture = left_behind(config(WRITTEN), 6, 0);
    let bytes = fixture.bytes(FIRST);
    let start = boundaries(&bytes)[3];
    // Of the batch's base offset only zeros are left.
    fixture.write(FIRST, &bytes[..start + 7]);
    let (records, report) = salvage(&fixture);
    assert_eq!((records, report.lost), (numbers(0..3), vec![3..6]));

    let fixture = left_behind(small(WRITTEN), 60, 0);
    let longer = [&fixture.bytes(FIRST)[..], &[0; 100]].concat();
    fixture.write(FIRST, &longer);
    let (records, report) = salvage(&fixture);
    assert_eq!((records, report.lost), (numbers(0..60), vec![]));
    assert_eq!(report.originals.len(), 1);
}

#[test]
fn a_checkpoint_of_another_log_is_replaced() {
    let fixture = left_behind(config(WRITTEN), 9, 0);
    let other = left_behind(config(WRITTEN), 3, 0);
    let wrong = Checkpoint { recovery_point: 5, file_position: 333, ..Checkpoint::default() };
    for bytes in [checkpoint::encode_file(&wrong), other.bytes(WATERMARK_FILE)] {
        fixture.write(WATERMARK_FILE, &bytes);
        let end = fixture.try_open().map_or(9, |(log, _)| log.ends().log_end());
        let (records, report) = salvage(&fixture);
        assert_eq!(records[..9], numbers(0..9));
        assert!(end >= 9 && report.lost.is_empty());
    }
}

#[test]
fn without_a_checkpoint_damage_before_the_last_segment_is_mended() {
    let fixture = left_behind(small(WRITTEN), 60, 0);
    let names = fixture.segments();
    fixture.fs.remove_file(&fixture.path(WATERMARK_FILE)).unwrap();
    let mut bytes = fixture.bytes(&names[1]);
    bytes[70] ^= 1;
    fixture.write(&names[1], &bytes);
    let (records, report) = salvage(&fixture);
    let base: u64 = names[1].trim_end_matches(".log").parse().unwrap();
    assert_eq!(report.lost, [base..base + 1]);
    assert_eq!(records, without(&report.lost, 60));
}

#[test]
fn a_torn_tail_above_the_watermark_is_cut_as_ever_and_nothing_counts_as_lost() {
    let fixture = left_behind(config(WRITTEN), 5, 3);
    let mut bytes = fixture.bytes(FIRST);
    let starts = boundaries(&bytes);
    bytes[starts[6] + 70] ^= 1;
    fixture.write(FIRST, &bytes);
    let (records, report) = salvage(&fixture);
    assert_eq!(records, numbers(0..6));
    assert_eq!((report.lost, report.cut.unwrap().offset), (vec![], 6));
}

#[test]
fn what_was_deleted_does_not_count_as_lost_nor_come_back() {
    let fixture = left_behind(small(WRITTEN), 60, 0);
    let log = fixture.open();
    log.delete_records(33).unwrap();
    log.fence();
    log.close().unwrap();
    let names = fixture.segments();
    let mut bytes = fixture.bytes(&names[1]);
    bytes[70] ^= 1;
    fixture.write(&names[1], &bytes);
    let (records, report) = salvage(&fixture);
    assert_eq!(report.log_start_offset, 33);
    let lost = &report.lost[0];
    assert!(report.lost.len() == 1 && lost.start >= 33, "{lost:?}");
    let expected: Vec<_> = without(&report.lost, 60).into_iter().skip(33).collect();
    assert_eq!(records, expected);
}

#[test]
fn a_gap_that_no_damage_can_explain_is_refused() {
    let fixture = left_behind(small(WRITTEN), 10, 0);
    fixture.write("09000000000000000000.log", &fixture.bytes(FIRST));
    fixture.fs.remove_file(&fixture.path(WATERMARK_FILE)).unwrap();
    let before = fixture.tree();
    assert!(matches!(try_salvage(&fixture), Err(Error::Corrupt(_))));
    assert_eq!(fixture.tree(), before);
}

#[test]
fn a_bridge_longer_than_a_segment_spans_takes_several() {
    let fixture = Fixture::new(config(WRITTEN));
    let log = fixture.open();
    append_numbers(&log, 0..3);
    for _ in 0..3 {
        let mut bytes = empty_batch(0, i32::MAX, 0, NOW);
        let batch = crate::record::builder::SealedBatch::new(&mut bytes).unwrap();
        log.append(batch, NOW).unwrap();
    }
    let last = append(&log, &["last"]).unwrap().base_offset;
    log.flush().unwrap();
    drop(log);
    let names = fixture.segments();
    assert_eq!(names.len(), 5);
    for name in &names[1..4] {
        fixture.fs.remove_file(&fixture.path(name)).unwrap();
    }
    let (records, report) = salvage(&fixture);
    assert_eq!(report.lost, [3..last]);
    assert_eq!(records.len(), 4);
    assert_eq!(records[3].0, last);
}

/// A salvage killed at each of its calls and begun anew ends in the same log.
#[test]
fn a_salvage_killed_at_any_call_and_begun_anew_gives_the_same_log() {
    for durability in [Durability::Fsync, WRITTEN] {
        let fixture = left_behind(small(durability), 50, 5);
        let names = fixture.segments();
        let mut bytes = fixture.bytes(FIRST);
        bytes[80] ^= 1;
        fixture.write(FIRST, &bytes);
        fixture.write(&names[1], &[0xee; 500]);
        fixture.fs.remove_file(&fixture.path(&names[2])).unwrap();
        let tree: BTreeMap<_, _> = fixture.tree();
        let expected = read_all(&try_salvage(&fixture).unwrap().0);
        assert!(expected.len() > 20);
        let mut call = 0_u32;
        loop {
            fixture.restore(&tree);
            let mut left = call;
            fixture.fs.fail_when(move |_, _| {
                let dead = left == 0;
                left = left.saturating_sub(1);
                dead.then(|| std::io::Error::from_raw_os_error(5))
            });
            let (environment, address) = (&fixture.environment, Fixture::topic_partition());
            let mode = RecoveryMode::Salvage;
            let done = plan_in(mode, environment, &address, &fixture.directory, &fixture.config)
                .and_then(|plan| PartitionLog::open(environment, plan, Arc::clone(&fixture.config)))
                .is_ok();
            fixture.fs.heal();
            let (log, _) = try_salvage(&fixture).unwrap();
            assert_eq!(read_all(&log), expected, "call {call}");
            assert_eq!(log.ends().log_end(), 55);
            drop(log);
            let originals = [(FIRST, &tree[FIRST]), (names[1].as_str(), &tree[&names[1]])];
            for (name, bytes) in originals {
                let kept = name.replace(".log", ".torn");
                assert_eq!(&fixture.bytes(&kept), bytes, "call {call}: {kept}");
            }
            if done {
                break;
            }
            call += 1;
        }
        assert!(call > 50, "{call}");
    }
}

#[test]
fn salvaged_segments_age_so_that_retention_is_not_held_up() {
    let fixture =
        left_behind(small(WRITTEN).retention_ms(std::time::Duration::from_secs(60)), 60, 0);
    let names = fixture.segments();
    fixture.fs.remove_file(&fixture.path(&names[2])).unwrap();
    let (log, _) = try_salvage(&fixture).unwrap();
    let later = NOW.saturating_add(std::time::Duration::from_secs(61));
    log.apply_retention(later, None).unwrap();
    assert_eq!((log.ends().log_start(), log.size()), (60, 0));
}
