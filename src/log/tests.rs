//! One partition's log while it is open: what is visible when, when segments end, what a full or
//! failing disk does, and what deletion leaves.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use super::config::{Durability, TopicConfig};
use super::fixture::{
    Fixture, NOW, WRITTEN, append, append_at, append_numbers, batch, config, is_log, number_text,
    numbers, read_all, read_from,
};
use super::*;
use crate::fs::disk::DiskFileSystem;
use crate::fs::faults::Operation;
use crate::fs::memory::MemoryFileSystem;
use crate::record::TimestampType;
use crate::record::builder::{SealedBatch, empty_batch};

/// `EIO`.
const EIO: i32 = 5;
const FULL: io::ErrorKind = io::ErrorKind::StorageFull;

fn broken() -> io::Error {
    io::Error::from_raw_os_error(EIO)
}

/// Both ways to write a tail, under both durabilities.
fn every_way(settings: impl Fn(TopicConfig) -> TopicConfig, run: impl Fn(Fixture)) {
    for durability in [Durability::Fsync, WRITTEN] {
        run(Fixture::new(settings(config(durability))));
        run(Fixture::with_window(settings(config(durability))));
    }
}

fn small_segments(config: TopicConfig) -> TopicConfig {
    config.segment_bytes(1_024).max_message_bytes(1_024).index_interval_bytes(200)
}

#[test]
fn what_was_appended_is_there_after_a_close_and_an_open() {
    every_way(small_segments, |fixture| {
        let log = fixture.open();
        append_numbers(&log, 0..100);
        log.flush().unwrap();
        assert_eq!(read_all(&log), numbers(0..100));
        log.fence();
        log.close().unwrap();
        let (log, report) = fixture.try_open().unwrap();
        assert_eq!(read_all(&log), numbers(0..100));
        assert_eq!((report.log_end_offset, report.cut), (100, None));
        assert!(report.bytes_scanned < 400, "{} bytes", report.bytes_scanned);
        append_numbers(&log, 100..110);
        log.flush().unwrap();
        assert_eq!(read_all(&log), numbers(0..110));
    });
}

#[test]
fn what_was_appended_is_there_after_a_drop_without_close() {
    every_way(small_segments, |fixture| {
        for round in 0..5 {
            let (log, report) = fixture.try_open().unwrap();
            assert_eq!(report.cut, None);
            assert_eq!(read_all(&log), numbers(0..round * 30), "what is found is served");
            append_numbers(&log, round * 30..round * 30 + 20);
            log.flush().unwrap();
            append_numbers(&log, round * 30 + 20..round * 30 + 30);
        }
    });
}

#[test]
fn close_leaves_files_that_are_exactly_as_long_as_what_they_hold() {
    every_way(small_segments, |fixture| {
        let log = fixture.open();
        append_numbers(&log, 0..25);
        log.flush().unwrap();
        log.fence();
        log.close().unwrap();
        log.close().unwrap();
        let tree = fixture.tree();
        let bytes: usize = tree.iter().filter(|(name, _)| is_log(name)).map(|(_, b)| b.len()).sum();
        assert_eq!(bytes as u64, log.size());
        // Opening it and closing it again writes no log and no index.
        let again = fixture.open();
        again.fence();
        again.close().unwrap();
        assert_eq!(fixture.tree(), tree);
    });
}

#[test]
fn a_closed_log_answers_every_call_with_closed() {
    let fixture = Fixture::new(config(WRITTEN));
    let log = fixture.open();
    append_numbers(&log, 0..3);
    log.fence();
    log.close().unwrap();
    let closed = |result: Result<()>| matches!(result, Err(Error::Closed { .. }));
    assert!(closed(append(&log, &["x"]).map(drop)));
    assert!(closed(log.read(0, None, 100).map(drop)));
    assert!(closed(log.delete_records(1).map(drop)));
    assert!(closed(log.offset_for_timestamp(NOW, 100).map(drop)));
    assert!(closed(log.set_config(&fixture.config)));
    assert!(closed(log.apply_retention(NOW, None).map(drop)));
}

#[test]
fn under_fsync_records_are_visible_only_once_they_are_synced() {
    let fixture = Fixture::new(config(Durability::Fsync));
    let log = fixture.open();
    append_numbers(&log, 0..3);
    assert_eq!((log.ends().high_watermark(), log.ends().log_end()), (0, 3));
    assert!(log.read(0, None, 100).unwrap().is_none());
    assert!(log.read(3, None, 100).unwrap().is_none(), "the log end is within range");
    assert!(matches!(log.read(4, None, 100), Err(Error::OffsetOutOfRange { .. })));
    log.flush_to(1).unwrap();
    assert_eq!((log.ends().high_watermark(), log.recovery_point()), (3, 3));
    assert_eq!(read_all(&log), numbers(0..3));
}

#[test]
fn under_written_records_are_visible_at_once_and_synced_by_a_flush() {
    let fixture = Fixture::new(config(WRITTEN));
    let log = fixture.open();
    append_numbers(&log, 0..3);
    assert_eq!(read_all(&log), numbers(0..3));
    assert_eq!(log.recovery_point(), 0);
    log.flush().unwrap();
    assert_eq!(log.recovery_point(), 3);
}

#[test]
fn one_sync_serves_all_that_was_appended_before_it() {
    let fixture = Fixture::new(config(Durability::Fsync));
    let log = fixture.open();
    append_numbers(&log, 0..1);
    log.flush().unwrap();
    append_numbers(&log, 1..50);
    let before = fixture.fs.calls(Operation::SyncData);
    for offset in 1..=50 {
        log.flush_to(offset).unwrap();
    }
    assert_eq!(fixture.fs.calls(Operation::SyncData) - before, 1);
}

#[test]
fn a_flush_that_is_not_due_does_nothing() {
    let fixture = Fixture::new(config(WRITTEN));
    let log = fixture.open();
    append_numbers(&log, 0..1);
    let second = Duration::from_secs(1);
    log.flush_if_due(second).unwrap();
    assert_eq!(log.recovery_point(), 0);
    fixture.clock.advance(second / 2);
    log.flush_if_due(second).unwrap();
    assert_eq!(log.recovery_point(), 1);
}

#[test]
fn a_failed_sync_stops_the_log_for_good_and_what_was_synced_stays_readable() {
    for error in [broken(), FULL.into()] {
        let fixture = Fixture::new(config(Durability::Fsync));
        let log = fixture.open();
        append_numbers(&log, 0..3);
        log.flush().unwrap();
        append_numbers(&log, 3..5);
        fixture.fs.fail_next(Operation::SyncData, ".log", error);
        assert!(matches!(log.flush(), Err(Error::PartitionFailed { .. })));
        let log_syncs = Arc::new(std::sync::Mutex::new(0));
        let counted = Arc::clone(&log_syncs);
        fixture.fs.fail_when(move |operation, path| {
            let is_log = is_log(path.to_str().unwrap());
            *counted.lock().unwrap() += u32::from(operation == Operation::SyncData && is_log);
            None
        });
        for _ in 0..2 {
            let refused = append(&log, &["x"]).unwrap_err();
            assert!(refused.is_fatal(), "{refused}");
            assert!(log.flush().is_err());
            assert!(log.sync_checkpoint().is_err());
        }
        assert_eq!(*log_syncs.lock().unwrap(), 0, "no second sync");
        assert_eq!(read_all(&log), numbers(0..3), "what was not synced is not shown");
        assert_eq!(log.ends().high_watermark(), 3);
        log.fence();
        assert!(log.close().is_err(), "it cannot be closed in order");
    }
}

#[test]
fn a_failed_write_stops_the_log_and_leaves_nothing_to_read() {
    every_way(
        |config| config,
        |fixture| {
            let log = fixture.open();
            append_numbers(&log, 0..2);
            log.flush().unwrap();
            // In the window there is no call that could fail but the one that makes it ready.
            let calls = [(Operation::Write, 20), (Operation::MapTail, 0)];
            for (operation, written) in calls {
                match operation {
                    Operation::Write => fixture.fs.fail_next_write_after(written, ".log", broken()),
                    _ => fixture.fs.fail_next(operation, ".log", broken()),
                }
            }
            let refused = (0..1_000).find_map(|_| append(&log, &[[7; 600]]).err());
            fixture.fs.heal();
            assert!(matches!(refused, Some(Error::PartitionFailed { .. })), "{refused:?}");
            assert!(append(&log, &["x"]).unwrap_err().is_fatal());
            assert_eq!(read_from(&log, 0).unwrap()[..2], numbers(0..2));
            let end = log.ends().log_end();
            drop(log);
            let (log, report) = fixture.try_open().unwrap();
            assert_eq!(report.log_end_offset, end);
            append(&log, &["x"]).unwrap();
        },
    );
}

#[test]
fn a_partial_write_followed_by_a_success_leaves_no_trace() {
    every_way(
        |config| config,
        |fixture| {
            for written in [0, 1, 61, 500, 10_000] {
                let log = fixture.open();
                let base = log.ends().log_end();
                append_numbers(&log, base..base + 2);
                fixture.fs.fail_next_write_after(written, ".log", FULL);
                // Larger than what was zeroed ahead, and then a smaller one in its place.
                let refused = append(&log, &[vec![7; 200_000]]).unwrap_err();
                assert!(matches!(refused, Error::StorageFull { .. }), "{refused}");
                append_numbers(&log, base + 2..base + 4);
                log.flush().unwrap();
                assert_eq!(read_all(&log), numbers(0..base + 4));
                drop(log);
                let (log, report) = fixture.try_open().unwrap();
                assert_eq!((report.log_end_offset, report.cut), (base + 4, None));
                append_numbers(&log, base + 4..base + 5);
                log.fence();
                log.close().unwrap();
            }
        },
    );
}

#[test]
fn a_batch_that_a_full_disk_refused_can_be_appended_again() {
    every_way(
        |config| config,
        |fixture| {
            let log = fixture.open();
            append_numbers(&log, 0..2);
            let mut builder = batch(&[number_text(2), number_text(3)], NOW);
            fixture
                .fs
                .fail_when(|operation, _| (operation == Operation::Write).then(|| FULL.into()));
            // Under a window one batch may still fit in what is ready.
            let appended = match log.append(builder.sealed(), NOW) {
                Ok(appended) => appended,
                Err(error) => {
                    assert!(error.is_retriable(), "{error}");
                    fixture.fs.heal();
                    log.append(builder.sealed(), NOW).unwrap()
                }
            };
            fixture.fs.heal();
            assert_eq!((appended.base_offset, appended.next_offset), (2, 4));
            append_numbers(&log, 4..6);
            log.flush().unwrap();
            assert_eq!(read_all(&log), numbers(0..6));
        },
    );
}

/// Makes the n-th write, creation or cut fail for want of space, for every n there is.
#[test]
fn wherever_the_disk_is_full_the_same_offset_is_taken_later_and_nothing_is_lost() {
    let counted = [Operation::Write, Operation::CreateNew, Operation::SetLen];
    every_way(small_segments, |fixture| {
        let empty = fixture.tree();
        for number in 0.. {
            fixture.restore(&empty);
            let log = fixture.open();
            let mut left = number;
            fixture.fs.fail_when(move |operation, _| {
                if !counted.contains(&operation) {
                    return None;
                }
                left -= 1;
                (left == -1).then(|| FULL.into())
            });
            let failures = append_flush_and_delete(&log);
            fixture.fs.heal();
            assert_eq!(read_all(&log), numbers(30..60));
            assert!(failures <= 1);
            drop(log);
            let (log, report) = fixture.try_open().unwrap();
            assert_eq!(report.cut, None);
            assert_eq!(read_all(&log), numbers(30..60), "call {number}");
            append_numbers(&log, 60..61);
            let done = number > 20 && failures == 0 && log.ends().log_end() == 61;
            if done && number > 200 {
                return;
            }
        }
    });
}

/// Every call is repeated once if the disk is full. Returns how often it was.
fn append_flush_and_delete(log: &PartitionLog) -> u32 {
    let mut failures = 0;
    let mut again = |call: &mut dyn FnMut() -> Result<()>| {
        if let Err(error) = call() {
            assert!(matches!(error, Error::StorageFull { .. }), "{error:?}");
            failures += 1;
            call().unwrap();
        }
    };
    for number in 0..60 {
        let mut builder = batch(&[number_text(number)], NOW);
        again(&mut || {
            let appended = log.append(builder.sealed(), NOW)?;
            assert_eq!(appended.base_offset, number);
            Ok(())
        });
        if number % 10 == 0 {
            again(&mut || log.flush());
            again(&mut || log.sync_checkpoint());
        }
    }
    again(&mut || log.flush());
    again(&mut || log.delete_records(30).map(drop));
    again(&mut || log.sync_checkpoint());
    failures
}

#[test]
fn a_log_on_a_full_disk_opens_reads_and_goes_on_once_there_is_space() {
    for durability in [Durability::Fsync, WRITTEN] {
        let memory = MemoryFileSystem::new();
        let fixture = Fixture::in_memory(memory.clone(), small_segments(config(durability)));
        memory.set_capacity(20_000);
        let log = fixture.open();
        let mut next = 0;
        while append(&log, &[number_text(next)]).is_ok() {
            next += 1;
        }
        assert!(next > 50);
        log.flush().unwrap();
        log.fence();
        log.close().unwrap();
        memory.set_capacity(0);
        let log = fixture.open();
        assert_eq!(read_all(&log), numbers(0..next));
        let refused = append(&log, &["x"]).unwrap_err();
        assert!(matches!(refused, Error::StorageFull { .. }), "{refused}");
        memory.set_capacity(u64::MAX);
        append_numbers(&log, next..next + 1);
        log.flush().unwrap();
        assert_eq!(read_all(&log), numbers(0..next + 1));
    }
}

#[test]
fn a_checkpoint_that_a_full_disk_refuses_is_owed_and_the_records_are_safe() {
    let fixture = Fixture::new(config(Durability::Fsync));
    let log = fixture.open();
    append_numbers(&log, 0..3);
    fixture.fs.fail_when(|operation, path| {
        let owed = operation == Operation::Write && path.ends_with(WATERMARK_FILE);
        owed.then(|| FULL.into())
    });
    log.flush().unwrap();
    assert_eq!(read_all(&log), numbers(0..3));
    assert!(matches!(log.sync_checkpoint(), Err(Error::StorageFull { .. })));
    append_numbers(&log, 3..4);
    fixture.fs.heal();
    log.sync_checkpoint().unwrap();
    log.flush().unwrap();
    drop(log);
    assert_eq!(read_all(&fixture.open()), numbers(0..4));
}

#[test]
fn a_checkpoint_whose_sync_fails_stops_the_log() {
    let fixture = Fixture::new(config(WRITTEN));
    let log = fixture.open();
    append_numbers(&log, 0..3);
    log.flush().unwrap();
    fixture.fs.fail_next(Operation::SyncData, WATERMARK_FILE, broken());
    assert!(matches!(log.sync_checkpoint(), Err(Error::PartitionFailed { .. })));
    assert!(append(&log, &["x"]).unwrap_err().is_fatal());
    assert_eq!(read_all(&log), numbers(0..3));
}

#[test]
fn segments_end_by_size_and_never_grow_beyond_it() {
    every_way(small_segments, |fixture| {
        let log = fixture.open();
        append_numbers(&log, 0..100);
        log.flush().unwrap();
        assert!(fixture.segments().len() > 5);
        for name in &fixture.segments()[..5] {
            let len = fixture.bytes(name).len();
            assert!((900..=1_024).contains(&len), "{name} has {len} bytes");
        }
    });
}

#[test]
fn segments_end_by_age_in_record_time() {
    let week = Duration::from_secs(7 * 24 * 3_600);
    let fixture = Fixture::new(config(WRITTEN).segment_ms(week));
    let log = fixture.open();
    let start = NOW.saturating_sub(week * 3);
    append_at(&log, &["a"], start).unwrap();
    append_at(&log, &["b"], start.saturating_add(week)).unwrap();
    assert_eq!(fixture.segments().len(), 1, "exactly a week is not older than a week");
    drop(log);
    let log = fixture.open();
    append_at(&log, &["c"], start.saturating_add(week + Duration::from_millis(1))).unwrap();
    assert_eq!(fixture.segments().len(), 2, "the age is known after an open, too");
}

#[test]
fn segments_end_when_their_index_is_full() {
    let settings = config(WRITTEN).index_interval_bytes(0).segment_index_bytes(96);
    let fixture = Fixture::new(settings);
    let log = fixture.open();
    for number in 0..40 {
        append_at(
            &log,
            &[number_text(number)],
            NOW.saturating_sub(Duration::from_secs(99 - number)),
        )
        .unwrap();
    }
    log.fence();
    log.close().unwrap();
    assert!(fixture.segments().len() > 3);
    for (name, bytes) in fixture.tree() {
        if name.ends_with("index") {
            assert!(bytes.len() <= 96, "{name}: {}", bytes.len());
        }
    }
    assert_eq!(read_all(&fixture.open()), numbers(0..40));
}

#[test]
fn segments_end_before_offsets_leave_the_range_of_the_index() {
    let fixture = Fixture::new(config(WRITTEN));
    let log = fixture.open();
    append(&log, &["first"]).unwrap();
    for _ in 0..3 {
        let mut bytes = empty_batch(0, i32::MAX, 0, NOW);
        log.append(SealedBatch::new(&mut bytes).unwrap(), NOW).unwrap();
    }
    let last = append(&log, &["last"]).unwrap().base_offset;
    assert_eq!(last, 1 + 3 * (1 << 31));
    assert_eq!(fixture.segments().len(), 5);
    log.flush().unwrap();
    drop(log);
    let expected = [(0, b"first".to_vec()), (last, b"last".to_vec())];
    assert_eq!(read_all(&fixture.open()), expected);
}

#[test]
fn what_is_too_large_or_stamped_too_far_ahead_is_refused_before_anything_is_written() {
    let settings = config(WRITTEN)
        .max_message_bytes(500)
        .message_timestamp_after_max(Duration::from_secs(10))
        .message_timestamp_before_max(Duration::from_secs(10));
    let fixture = Fixture::new(settings);
    let log = fixture.open();
    append_numbers(&log, 0..1);
    let before = fixture.tree();
    let large = append(&log, &[[7; 500]]).unwrap_err();
    assert!(matches!(large, Error::RecordTooLarge { limit: 500, .. }), "{large}");
    for timestamp in [1_700_000_010_001, 1_699_999_989_999] {
        let refused = append_at(&log, &["x"], Timestamp::from_millis(timestamp)).unwrap_err();
        assert!(matches!(refused, Error::InvalidRecord { .. }), "{refused}");
    }
    assert_eq!(fixture.tree(), before);
    assert_eq!(append(&log, &["next"]).unwrap().base_offset, 1);
}

#[test]
fn the_largest_batch_that_is_taken_can_be_read_and_recovered() {
    let fixture = Fixture::new(config(WRITTEN).max_message_bytes(300_000));
    let log = fixture.open();
    let value = vec![9; 300_000 - 61 - 12];
    append(&log, &[&value]).unwrap();
    append(&log, &[&value]).unwrap();
    assert_eq!(read_all(&log).len(), 2);
    drop(log);
    let log = fixture.open();
    append(&log, &["behind them"]).unwrap();
    drop(log);
    let expected = [(0, value.clone()), (1, value), (2, b"behind them".to_vec())];
    assert_eq!(read_all(&fixture.open()), expected, "no large batch overwrites its neighbour");
}

#[test]
fn the_log_can_stamp_records_with_its_own_time() {
    let settings = config(WRITTEN).message_timestamp_type(TimestampType::LogAppendTime);
    let fixture = Fixture::new(settings);
    let log = fixture.open();
    fixture.clock.advance(Duration::from_secs(5));
    let appended = append_at(&log, &["x"], Timestamp::from_millis(3)).unwrap();
    let now = NOW.saturating_add(Duration::from_secs(5));
    assert_eq!(appended.log_append_time, Some(now));
    assert_eq!(log.offset_for_timestamp(now, 1_000).unwrap(), Some((0, now)));
}

#[test]
fn the_first_record_since_a_timestamp_is_found_across_segments() {
    every_way(small_segments, |fixture| {
        let log = fixture.open();
        let at = |number: u64| NOW.saturating_sub(Duration::from_secs(1_000 - number / 2 * 10));
        for number in (0..100).step_by(2) {
            append_at(&log, &[number_text(number), number_text(number + 1)], at(number)).unwrap();
        }
        log.flush().unwrap();
        for number in (0..100).step_by(2) {
            let since = at(number).saturating_sub(Duration::from_secs(3));
            let found = log.offset_for_timestamp(since, 1_000).unwrap();
            assert_eq!(found, Some((number, at(number))));
        }
        let later = NOW.saturating_add(Duration::from_secs(1));
        assert_eq!(log.offset_for_timestamp(later, 1_000).unwrap(), None);
        log.delete_records(51).unwrap();
        let first = log.offset_for_timestamp(Timestamp::from_millis(0), 1_000).unwrap();
        assert_eq!(first, Some((51, at(50))));
    });
}

#[test]
fn deleted_records_cannot_be_read_and_stay_deleted() {
    every_way(small_segments, |fixture| {
        let log = fixture.open();
        append_numbers(&log, 0..60);
        log.flush().unwrap();
        let segments = fixture.segments().len();
        assert_eq!(log.delete_records(41).unwrap(), 41);
        assert_eq!(log.delete_records(7).unwrap(), 41, "it never goes back");
        assert!(fixture.segments().len() < segments);
        assert!(matches!(log.read(40, None, 100), Err(Error::OffsetOutOfRange { .. })));
        assert!(matches!(log.delete_records(61), Err(Error::OffsetOutOfRange { .. })));
        assert_eq!(read_all(&log), numbers(41..60));
        drop(log);
        let log = fixture.open();
        assert_eq!(log.ends().log_start(), 41);
        assert_eq!(read_all(&log), numbers(41..60));
        assert_eq!(log.delete_records(60).unwrap(), 60);
        drop(log);
        let log = fixture.open();
        assert_eq!((log.ends().log_start(), log.ends().log_end()), (60, 60));
        append_numbers(&log, 60..61);
        log.flush().unwrap();
        assert_eq!(read_all(&log), numbers(60..61));
    });
}

#[test]
fn retention_by_size_keeps_at_least_what_it_should() {
    every_way(
        |config| small_segments(config).retention_bytes(3_000),
        |fixture| {
            let log = fixture.open();
            append_numbers(&log, 0..100);
            log.flush().unwrap();
            assert!(log.apply_retention(NOW, None).unwrap() > 3);
            assert!((3_000..4_100).contains(&log.size()), "{}", log.size());
            let start = log.ends().log_start();
            assert_eq!(read_all(&log), numbers(start..100));
            assert_eq!(log.apply_retention(NOW, None).unwrap(), 0);
        },
    );
}

#[test]
fn retention_that_empties_the_log_never_lets_an_offset_be_used_again() {
    every_way(
        |config| small_segments(config).retention_ms(Duration::from_secs(60)),
        |fixture| {
            let mut next = 0;
            for reopen in [true, false, true] {
                let log = fixture.open();
                append_numbers(&log, next..next + 40);
                next += 40;
                log.flush().unwrap();
                let now = NOW.saturating_add(Duration::from_secs(60));
                assert_eq!(log.apply_retention(now, None).unwrap(), 0, "not older yet");
                let now = now.saturating_add(Duration::from_millis(1));
                assert!(log.apply_retention(now, None).unwrap() > 2);
                assert_eq!((log.ends().log_start(), log.size()), (next, 0));
                assert_eq!(fixture.segments(), [format!("{next:020}.log")]);
                if reopen {
                    drop(log);
                    let log = fixture.open();
                    assert_eq!((log.ends().log_start(), log.ends().log_end()), (next, next));
                } else {
                    log.fence();
                    log.close().unwrap();
                }
            }
        },
    );
}

#[test]
fn retention_judges_by_the_records_also_after_an_open() {
    let fixture =
        Fixture::new(small_segments(config(WRITTEN)).retention_ms(Duration::from_secs(60)));
    let log = fixture.open();
    append_at(&log, &["young"], NOW).unwrap();
    append_at(&log, &["old"], NOW.saturating_sub(Duration::from_secs(900))).unwrap();
    log.flush().unwrap();
    drop(log);
    let log = fixture.open();
    append_at(&log, &["old"], NOW.saturating_sub(Duration::from_secs(900))).unwrap();
    assert_eq!(log.apply_retention(NOW, None).unwrap(), 0, "a young record is among them");
    assert_eq!(log.oldest_timestamp().unwrap(), NOW);
}

/// The same where an open does not read the young record again.
#[test]
fn retention_judges_by_the_records_before_the_last_index_entry_too() {
    let fixture = Fixture::new(
        config(WRITTEN).index_interval_bytes(200).retention_ms(Duration::from_secs(60)),
    );
    let log = fixture.open();
    append_at(&log, &["young"], NOW).unwrap();
    let old = NOW.saturating_sub(Duration::from_secs(900));
    for _ in 0..50 {
        append_at(&log, &["old"], old).unwrap();
    }
    log.fence();
    log.close().unwrap();
    let (log, report) = fixture.try_open().unwrap();
    assert!(report.bytes_scanned < 400, "{}", report.bytes_scanned);
    append_at(&log, &["old"], old).unwrap();
    assert_eq!(log.apply_retention(NOW, None).unwrap(), 0, "a young record is among them");
    assert_eq!(log.oldest_timestamp().unwrap(), NOW);
}

#[test]
fn a_wrong_time_index_lets_retention_delete_nothing() {
    let settings = small_segments(config(WRITTEN)).retention_ms(Duration::from_secs(60));
    let fixture = Fixture::new(settings);
    let log = fixture.open();
    append_numbers(&log, 0..60);
    log.fence();
    log.close().unwrap();
    for (name, bytes) in fixture.tree().iter().filter(|(name, _)| name.ends_with("timeindex")) {
        let old: Vec<_> =
            bytes.chunks(12).flat_map(|entry| [&[0; 8], &entry[8..]].concat()).collect();
        fixture.write(name, &old);
    }
    let log = fixture.open();
    assert_eq!(log.apply_retention(NOW, None).unwrap(), 0);
    assert_eq!(read_all(&log), numbers(0..60));
}

#[test]
fn retention_by_groups_deletes_what_all_of_them_have_consumed() {
    let fixture = Fixture::new(small_segments(config(WRITTEN)).retention_groups(["billing"]));
    let log = fixture.open();
    append_numbers(&log, 0..50);
    assert_eq!(log.apply_retention(NOW, None).unwrap(), 0);
    assert!(log.apply_retention(NOW, Some(30)).unwrap() > 0);
    let start = log.ends().log_start();
    assert!(start > 10 && start <= 30, "{start}");
    assert!(log.apply_retention(NOW, Some(50)).unwrap() > 0);
    assert_eq!(log.ends().log_start(), 50, "the active segment goes, too");
}

#[test]
fn what_is_not_safely_stored_is_not_deleted() {
    let settings = small_segments(config(Durability::Fsync)).retention_bytes(0);
    let fixture = Fixture::new(settings);
    let log = fixture.open();
    append_numbers(&log, 0..30);
    assert_eq!(log.apply_retention(NOW, None).unwrap(), 0);
    log.flush().unwrap();
    assert!(log.apply_retention(NOW, None).unwrap() > 0);
}

#[test]
fn a_record_appended_while_retention_decides_is_never_deleted() {
    let fixture = Fixture::new(config(WRITTEN));
    let log = fixture.open();
    append_numbers(&log, 0..3);
    let segment = log.segments.active();
    let judged = segment.next_offset();
    append_numbers(&log, 3..4);
    assert!(!log.end_if_unchanged(&segment, judged).unwrap(), "it has grown since");
    assert_eq!(fixture.segments().len(), 1);
    assert!(log.end_if_unchanged(&segment, judged + 1).unwrap());
    assert_eq!(fixture.segments().len(), 2);
    assert!(log.end_if_unchanged(&segment, judged + 1).unwrap(), "it has ended already");
    assert_eq!(fixture.segments().len(), 2);
}

#[test]
fn no_file_is_deleted_of_which_the_checkpoint_on_disk_still_speaks() {
    every_way(small_segments, |fixture| {
        let log = fixture.open();
        append_numbers(&log, 0..40);
        log.flush().unwrap();
        log.delete_records(log.segments.active().base_offset() + 1).unwrap();
        let next = log.ends().log_end();
        // The next segment, and a checkpoint that is written and not synced.
        append_numbers(&log, next..next + 15);
        log.flush().unwrap();
        log.delete_records(log.segments.active().base_offset()).unwrap();
        append_numbers(&log, next + 15..next + 16);
        log.flush().unwrap();
        let calls = Arc::new(std::sync::Mutex::new(Vec::new()));
        let noted = Arc::clone(&calls);
        fixture.fs.fail_when(move |operation, path| {
            noted.lock().unwrap().push((operation, path.to_owned()));
            None
        });
        log.delete_records(next + 16).unwrap();
        log.apply_retention(NOW, None).unwrap();
        fixture.fs.heal();
        let calls = calls.lock().unwrap();
        let deleted = calls.iter().position(|(operation, _)| *operation == Operation::Rename);
        let (before, _) = calls.split_at(deleted.expect("a segment goes"));
        let of_checkpoint = before.iter().filter(|(_, path)| path.ends_with(WATERMARK_FILE));
        let last = of_checkpoint.map(|(operation, _)| *operation).next_back();
        assert_eq!(last, Some(Operation::SyncData));
    });
}

#[test]
fn the_oldest_segment_can_be_dropped_until_the_log_is_empty() {
    every_way(small_segments, |fixture| {
        let log = fixture.open();
        append_numbers(&log, 0..30);
        let mut dropped = 0;
        while log.drop_oldest_segment().unwrap() {
            dropped += 1;
            assert_eq!(read_all(&log), numbers(log.ends().log_start()..30));
        }
        assert!(dropped > 1);
        assert_eq!((log.ends().log_start(), log.ends().log_end()), (30, 30));
        drop(log);
        assert_eq!(fixture.open().ends().log_end(), 30);
    });
}

#[test]
fn a_crash_anywhere_in_a_deletion_leaves_the_old_or_the_new_log() {
    every_way(
        |config| small_segments(config).retention_bytes(0),
        |fixture| {
            let log = fixture.open();
            append_numbers(&log, 0..40);
            log.flush().unwrap();
            log.fence();
            log.close().unwrap();
            let tree = fixture.tree();
            for number in 0.. {
                fixture.restore(&tree);
                let log = fixture.open();
                fail_from_call(&fixture, number);
                let result = log.apply_retention(NOW, None);
                fixture.fs.heal();
                drop(log);
                let log = fixture.open();
                let (start, end) = (log.ends().log_start(), log.ends().log_end());
                assert_eq!(end, 40, "call {number}");
                assert!(start == 0 || start == 40, "call {number}: {start}");
                assert_eq!(read_all(&log), numbers(start..40), "call {number}");
                if result.is_ok() {
                    assert_eq!(start, 40);
                    return;
                }
            }
        },
    );
}

/// Lets `number` calls through and fails all that follow, as if the process had died there.
fn fail_from_call(fixture: &Fixture, number: u32) {
    let mut left = number;
    fixture.fs.fail_when(move |_, _| {
        let dead = left == 0;
        left = left.saturating_sub(1);
        dead.then(broken)
    });
}

#[test]
fn a_reader_goes_on_in_a_segment_that_is_deleted_or_is_told_that_it_is_gone() {
    for read_mode in [ReadMode::Mapped, ReadMode::Copied] {
        let disk = tempfile::tempdir().unwrap();
        let settings = small_segments(config(WRITTEN));
        let mut fixture = Fixture::over(DiskFileSystem, disk.path(), settings);
        fixture.environment.read_mode = read_mode;
        let log = fixture.open();
        append_numbers(&log, 0..60);
        log.flush().unwrap();
        let fetched = log.read(0, None, 100).unwrap().unwrap();
        let held = fetched.bytes.to_vec();
        assert_eq!(log.delete_records(60).unwrap(), 60);
        assert_eq!(*fetched.bytes, *held, "what is held stays as it is");
        let gone = log.read(fetched.next_offset, Some(&fetched.cursor), 100);
        assert!(matches!(gone, Err(Error::OffsetOutOfRange { .. })));
    }
}

#[test]
fn a_read_that_meets_the_deletion_of_its_topic_is_told_so() {
    let mut fixture = Fixture::new(small_segments(config(WRITTEN)));
    fixture.environment.read_mode = ReadMode::Copied;
    let log = Arc::new(fixture.open());
    append_numbers(&log, 0..60);
    // The files of segments that have ended are closed now, and opened for each read.
    log.flush().unwrap();
    let deleted = Arc::clone(&log);
    fixture.fs.fail_when(move |operation, _| {
        (operation == Operation::Open).then(|| {
            deleted.fence_deleted();
            std::io::ErrorKind::NotFound.into()
        })
    });
    let error = log.read(0, None, 100).unwrap_err();
    assert!(matches!(error, Error::Closed { .. }), "{error}");
}

/// Cutting the file under the mapping would be a SIGBUS, and writing into it a changed record.
#[test]
fn records_held_from_a_log_that_has_failed_stay_as_they_are() {
    let disk = tempfile::tempdir().unwrap();
    let fixture = Fixture::over(DiskFileSystem, disk.path(), config(WRITTEN));
    let log = fixture.open();
    append_numbers(&log, 0..5);
    log.flush().unwrap();
    append_numbers(&log, 5..300);
    let fetched = log.read(200, None, 4_096).unwrap().unwrap();
    let held = fetched.bytes.to_vec();
    fixture.fs.fail_next(Operation::SyncData, ".log", broken());
    log.flush().unwrap_err();
    drop(log);
    let log = fixture.open();
    append_numbers(&log, 300..600);
    log.flush().unwrap();
    assert_eq!(*fetched.bytes, *held);
    assert_eq!(read_all(&log), numbers(0..600));
}

#[test]
fn a_stricter_durability_holds_for_what_is_there_already() {
    let fixture = Fixture::new(config(WRITTEN));
    let log = fixture.open();
    append_numbers(&log, 0..3);
    let strict = Arc::new(config(Durability::Fsync).segment_bytes(2_000_000));
    log.set_config(&strict).unwrap();
    assert_eq!((log.recovery_point(), log.config()), (3, strict));
    append_numbers(&log, 3..4);
    assert_eq!(log.ends().high_watermark(), 3);
    log.set_config(&config(WRITTEN)).unwrap();
    assert_eq!(log.ends().high_watermark(), 4);
    append_numbers(&log, 4..5);
    assert_eq!(read_all(&log), numbers(0..5));
}

#[test]
fn a_smaller_segment_size_holds_from_the_next_append_on() {
    every_way(
        |config| config,
        |fixture| {
            let log = fixture.open();
            append_numbers(&log, 0..50);
            let settings = small_segments(log.config().as_ref().clone());
            log.set_config(&settings).unwrap();
            append_numbers(&log, 50..100);
            log.flush().unwrap();
            assert!(fixture.segments().len() > 3);
            drop(log);
            assert_eq!(read_all(&fixture.open()), numbers(0..100));
        },
    );
}

#[test]
fn the_indexes_of_ended_segments_are_not_kept_in_memory() {
    let fixture = Fixture::new(small_segments(config(WRITTEN)));
    let log = fixture.open();
    append_numbers(&log, 0..60);
    log.flush().unwrap();
    let segments = log.segments.snapshot();
    let (active, ended) = segments.split_last().unwrap();
    assert!(ended.iter().all(|segment| !segment.has_indexes()));
    assert!(active.has_indexes());
    assert_eq!(read_from(&log, 17).unwrap(), numbers(17..60), "they are loaded when needed");
}

#[test]
fn index_files_that_somebody_removes_are_written_anew() {
    let fixture = Fixture::new(small_segments(config(WRITTEN)));
    let log = fixture.open();
    for number in 0..100 {
        append_numbers(&log, number..number + 1);
        if number % 7 == 0 {
            log.flush().unwrap();
            log.sync_checkpoint().unwrap();
        }
        if number % 10 == 0 {
            for name in fixture.tree().keys().filter(|name| name.ends_with("index")) {
                fixture.fs.remove_file(&fixture.path(name)).unwrap();
            }
        }
        assert_eq!(read_from(&log, number / 2).unwrap(), numbers(number / 2..number + 1));
    }
    log.fence();
    log.close().unwrap();
    assert_eq!(read_all(&fixture.open()), numbers(0..100));
}

/// An append that has begun when the log is fenced ends, and the close syncs it and all it made.
#[test]
fn a_close_beside_appends_leaves_nothing_unsynced() {
    for _ in 0..100 {
        let fixture = Fixture::new(small_segments(config(WRITTEN)));
        let log = fixture.open();
        append_numbers(&log, 0..9);
        let acknowledged = std::thread::scope(|scope| {
            let appender = scope.spawn(|| {
                let mut next = 9;
                while append(&log, &[number_text(next)]).is_ok() {
                    next += 1;
                }
                next
            });
            log.fence();
            log.close().unwrap();
            appender.join().unwrap()
        });
        assert_eq!(log.recovery_point(), acknowledged);
        assert!(log.appender.lock().sealed.is_empty());
        drop(log);
        assert_eq!(read_all(&fixture.open()), numbers(0..acknowledged));
    }
}

/// Everything at once: no wrong record, no gap, no offset out of order, no panic.
#[test]
fn readers_writers_flushes_retention_and_settings_do_not_disturb_each_other() {
    for read_mode in [ReadMode::Mapped, ReadMode::Copied] {
        let disk = tempfile::tempdir().unwrap();
        let settings = small_segments(config(WRITTEN)).retention_bytes(20_000);
        let mut fixture = Fixture::over(DiskFileSystem, disk.path(), settings);
        fixture.environment.read_mode = read_mode;
        let log = fixture.open();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| read_until(&log, &done));
            }
            scope.spawn(|| {
                while !done.load(Ordering::Acquire) {
                    log.flush().unwrap();
                    log.sync_checkpoint().unwrap();
                    log.apply_retention(NOW, None).unwrap();
                }
            });
            scope.spawn(|| {
                while !done.load(Ordering::Acquire) {
                    for durability in [Durability::Fsync, WRITTEN] {
                        let settings = log.config().as_ref().clone().durability(durability);
                        log.set_config(&settings).unwrap();
                    }
                }
            });
            for number in 0..4_000 {
                assert_eq!(append(&log, &[number_text(number)]).unwrap().base_offset, number);
            }
            done.store(true, Ordering::Release);
        });
        log.fence();
        log.close().unwrap();
        let log = fixture.open();
        assert_eq!(log.ends().log_end(), 4_000);
        assert_eq!(read_all(&log), numbers(log.ends().log_start()..4_000));
    }
}

fn read_until(log: &PartitionLog, done: &AtomicBool) {
    let mut next = 0;
    while !done.load(Ordering::Acquire) {
        match read_from(log, next) {
            Ok(records) => {
                assert_eq!(records, numbers(next..next + records.len() as u64));
                next += records.len() as u64;
            }
            Err(Error::OffsetOutOfRange { log_start_offset, .. }) => next = log_start_offset,
            Err(error) => panic!("{error}"),
        }
    }
}
