//! A log that follows a writer shows what the writer has made visible, never anything else, and
//! leaves no trace.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::*;
use crate::fs::FileSystem;
use crate::fs::disk::DiskFileSystem;
use crate::log::fixture::{
    Fixture, NOW, WRITTEN, append, append_numbers, config, number_text, numbers, read_all,
    read_from,
};

fn small(durability: Durability) -> TopicConfig {
    config(durability).segment_bytes(1_024).max_message_bytes(1_024).index_interval_bytes(200)
}

fn follow(fixture: &Fixture) -> Arc<PartitionLog> {
    let (environment, directory) = (&fixture.environment, &fixture.directory);
    let address = Fixture::topic_partition();
    let plan = plan(environment, &address, directory, &fixture.config).unwrap();
    PartitionLog::open_read_only(environment, plan, Arc::clone(&fixture.config)).unwrap()
}

fn fixtures(durability: Durability) -> [Fixture; 2] {
    [Fixture::new(small(durability)), Fixture::with_window(small(durability))]
}

#[test]
fn under_written_a_follower_sees_each_append_after_a_refresh() {
    for fixture in fixtures(WRITTEN) {
        let writer = fixture.open();
        let follower = follow(&fixture);
        for number in 0..60 {
            append_numbers(&writer, number..number + 1);
            assert_eq!(follower.ends().log_end(), number, "not before");
            follower.refresh().unwrap();
            assert_eq!(read_from(&follower, number).unwrap(), numbers(number..number + 1));
        }
        assert_eq!(read_all(&follower), numbers(0..60));
        assert_eq!(read_all(&follow(&fixture)), numbers(0..60));
        assert!(fixture.segments().len() > 2);
    }
}

#[test]
fn under_fsync_a_follower_sees_what_is_synced_and_no_more() {
    for fixture in fixtures(Durability::Fsync) {
        let writer = fixture.open();
        append_numbers(&writer, 0..5);
        let follower = follow(&fixture);
        assert_eq!((follower.ends().high_watermark(), follower.ends().log_end()), (0, 5));
        assert!(read_all(&follower).is_empty());
        writer.flush().unwrap();
        append_numbers(&writer, 5..40);
        follower.refresh().unwrap();
        assert_eq!((follower.ends().high_watermark(), follower.ends().log_end()), (5, 40));
        assert_eq!(read_all(&follower), numbers(0..5));
        writer.flush().unwrap();
        follower.refresh().unwrap();
        assert_eq!(read_all(&follower), numbers(0..40));
        assert_eq!(follower.recovery_point(), 40);
    }
}

#[test]
fn a_half_written_batch_is_not_there_yet() {
    let fixture = Fixture::new(small(WRITTEN));
    let writer = fixture.open();
    append_numbers(&writer, 0..2);
    writer.flush().unwrap();
    drop(writer);
    let name = "00000000000000000000.log";
    let whole = fixture.bytes(name);
    let half = whole.len() / 2;
    fixture.write(name, &whole[..half]);
    fixture.write("watermark.checkpoint", &[]);
    let follower = follow(&fixture);
    assert_eq!(follower.ends().log_end(), 1);
    for len in half..whole.len() {
        fixture.write(name, &whole[..len]);
        follower.refresh().unwrap();
        assert_eq!(follower.ends().log_end(), 1, "{len} bytes");
        // The bytes in the middle may come last, too. (The leader epoch says nothing of records.)
        if (12..16).contains(&(len - half)) {
            continue;
        }
        let mut holed = whole.clone();
        holed[len] ^= 0xff;
        fixture.write(name, &holed);
        follower.refresh().unwrap();
        assert_eq!(follower.ends().log_end(), 1, "all but byte {len}");
    }
    fixture.write(name, &whole);
    follower.refresh().unwrap();
    assert_eq!(read_all(&follower), numbers(0..2));
}

#[test]
fn a_follower_is_told_what_was_deleted() {
    for fixture in fixtures(WRITTEN) {
        let writer = fixture.open();
        append_numbers(&writer, 0..60);
        let follower = follow(&fixture);
        writer.delete_records(33).unwrap();
        // Before it has noticed, it reads what is left or is told.
        match follower.read(0, None, 100) {
            Ok(Some(_)) | Err(Error::OffsetOutOfRange { .. }) => {}
            other => panic!("{other:?}"),
        }
        follower.refresh().unwrap();
        assert_eq!(follower.ends().log_start(), 33);
        assert_eq!(read_all(&follower), numbers(33..60));
        // Everything it knows is gone, and more has come.
        append_numbers(&writer, 60..90);
        writer.delete_records(75).unwrap();
        follower.refresh().unwrap();
        assert_eq!(read_all(&follower), numbers(75..90));
    }
}

#[test]
fn a_follower_goes_on_when_the_writer_was_killed_and_started_anew() {
    for durability in [Durability::Fsync, WRITTEN] {
        for fixture in fixtures(durability) {
            let mut writer = fixture.open();
            let follower = follow(&fixture);
            for round in 0..10 {
                append_numbers(&writer, round * 12..round * 12 + 7);
                writer.flush().unwrap();
                append_numbers(&writer, round * 12 + 7..round * 12 + 12);
                if round % 3 != 0 {
                    follower.refresh().unwrap();
                }
                drop(writer);
                writer = fixture.open();
                // Its own segments were split meanwhile.
                let visible = follower.ends().high_watermark();
                assert_eq!(read_all(&follower), numbers(0..visible));
                follower.refresh().unwrap();
                assert_eq!(read_all(&follower), numbers(0..round * 12 + 12), "round {round}");
            }
        }
    }
}

#[test]
fn a_follower_writes_nothing_and_refuses_what_would() {
    for fixture in fixtures(WRITTEN) {
        let writer = fixture.open();
        append_numbers(&writer, 0..60);
        drop(writer);
        fixture.write("00000000000000000000.log.deleted", b"leftover");
        let tree = fixture.tree();
        let follower = follow(&fixture);
        follower.refresh().unwrap();
        assert_eq!(read_all(&follower), numbers(0..60));
        assert!(follower.offset_for_timestamp(NOW, 1_000).unwrap().is_some());
        let refused = |result: Result<()>| matches!(result, Err(Error::ReadOnly { .. }));
        assert!(refused(append(&follower, &["x"]).map(drop)));
        assert!(refused(follower.flush()));
        assert!(refused(follower.sync_checkpoint()));
        assert!(refused(follower.delete_records(3).map(drop)));
        assert!(refused(follower.apply_retention(NOW, None).map(drop)));
        assert!(refused(follower.drop_oldest_segment().map(drop)));
        assert!(refused(follower.set_config(&fixture.config)));
        follower.flush_if_due(Duration::ZERO).unwrap();
        follower.fence();
        follower.close().unwrap();
        assert_eq!(fixture.tree(), tree);
    }
}

#[test]
fn a_log_that_has_lost_what_was_shown_is_reported() {
    let fixture = Fixture::new(small(WRITTEN));
    let writer = fixture.open();
    append_numbers(&writer, 0..10);
    let follower = follow(&fixture);
    drop(writer);
    fixture.write("00000000000000000000.log", &[]);
    assert!(matches!(follower.refresh(), Err(Error::Corrupt(_))));
}

#[test]
fn kafkas_own_log_can_be_followed_without_a_checkpoint() {
    let fixture = Fixture::new(small(Durability::Fsync));
    let writer = fixture.open();
    append_numbers(&writer, 0..10);
    drop(writer);
    fixture.fs.remove_file(&fixture.path("watermark.checkpoint")).unwrap();
    assert_eq!(read_all(&follow(&fixture)), numbers(0..10));
}

/// The writer appends, rolls, deletes and is started anew; the follower reads all the while.
#[test]
fn a_follower_beside_a_busy_writer_never_sees_a_wrong_record() {
    for durability in [Durability::Fsync, WRITTEN] {
        let disk = tempfile::tempdir().unwrap();
        let settings = small(durability).retention_bytes(30_000);
        let fixture = Fixture::over(DiskFileSystem, disk.path(), settings);
        let mut writer = fixture.open();
        append_numbers(&writer, 0..1);
        let follower = follow(&fixture);
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut next = 0;
                loop {
                    let last = done.load(Ordering::Acquire);
                    follower.refresh().unwrap();
                    match read_from(&follower, next) {
                        Ok(records) => {
                            assert_eq!(records, numbers(next..next + records.len() as u64));
                            next += records.len() as u64;
                        }
                        Err(Error::OffsetOutOfRange { log_start_offset, .. }) => {
                            next = log_start_offset;
                        }
                        Err(error) => panic!("{error}"),
                    }
                    if last {
                        return next;
                    }
                }
            });
            for number in 1..3_000 {
                append(&writer, &[number_text(number)]).unwrap();
                if number % 50 == 0 {
                    writer.flush().unwrap();
                }
                if number % 200 == 0 {
                    writer.apply_retention(NOW, None).unwrap();
                }
                if number % 700 == 0 {
                    drop(writer);
                    writer = fixture.open();
                }
            }
            writer.flush().unwrap();
            done.store(true, Ordering::Release);
            assert_eq!(reader.join().unwrap(), 3_000);
        });
    }
}
