//! What time demands is done when it is due, and only then; one failure does not keep the rest from
//! being done.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use super::{append, builder, open};
use crate::broker::maintenance::Chore;
use crate::error::{Error, Result};
use crate::fs::faults::{FailingFileSystem, Operation};
use crate::log::config::{Durability, TopicConfig};
use crate::record::Record;
use crate::time::{Clock, ManualClock, Timestamp};

const T0: Timestamp = Timestamp::from_millis(1_700_000_000_000);
const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

#[test]
fn a_wall_clock_that_jumps_a_year_either_way_deletes_nothing() {
    let fs = FailingFileSystem::over_memory();
    let clock = Arc::new(ManualClock::new(T0));
    let interval = Duration::from_secs(1);
    let broker =
        builder(&fs).clock(clock.clone()).retention_check_interval(interval).open().unwrap();
    let day = Duration::from_secs(24 * 60 * 60);
    let config = TopicConfig::default().retention_ms(day);
    let orders = broker.create_topic("orders", config).unwrap();
    let log = orders.partition(0).unwrap();
    append(&orders, 0, "x").unwrap();
    for jump in [T0.saturating_add(YEAR), T0.saturating_sub(YEAR), T0] {
        clock.jump_to(jump);
        for _ in 0..3 {
            clock.advance(interval);
            broker.run_maintenance().unwrap();
            assert_eq!((log.log_start_offset(), log.log_end_offset()), (0, 1), "{jump}");
        }
    }
    // Time that has really passed still counts.
    clock.advance(day);
    broker.run_maintenance().unwrap();
    assert_eq!(log.log_start_offset(), 1);
}

#[test]
fn written_records_are_synced_within_the_flush_interval_and_not_all_the_time() {
    let fs = FailingFileSystem::over_memory();
    let clock = Arc::new(ManualClock::new(T0));
    let broker = builder(&fs).clock(clock.clone()).open().unwrap();
    let flush_interval = Duration::from_secs(1);
    let config = TopicConfig::default().durability(Durability::Written { flush_interval });
    let orders = broker.create_topic("orders", config).unwrap();
    let log = orders.partition(0).unwrap();
    let step = Duration::from_millis(50);
    let mut unsynced_for = Duration::ZERO;
    let before = fs.calls(Operation::SyncData);
    for _ in 0..200 {
        append(&orders, 0, "x").unwrap();
        clock.advance(step);
        unsynced_for += step;
        broker.run_maintenance().unwrap();
        if log.recovery_point() == log.log_end_offset() {
            unsynced_for = Duration::ZERO;
        }
        assert!(unsynced_for < flush_interval);
    }
    // Ten seconds: a sync of the records every half interval, and checkpoints.
    let syncs = fs.calls(Operation::SyncData) - before;
    assert!((10..=60).contains(&syncs), "{syncs}");
}

#[test]
fn the_background_thread_syncs_what_nobody_else_does() {
    let fs = FailingFileSystem::over_memory();
    let broker = builder(&fs).background_thread(true).open().unwrap();
    let flush_interval = Duration::from_millis(1);
    let config = TopicConfig::default().durability(Durability::Written { flush_interval });
    let orders = broker.create_topic("orders", config).unwrap();
    append(&orders, 0, "x").unwrap();
    while orders.partition(0).unwrap().recovery_point() < 1 {
        thread::yield_now();
    }
}

#[test]
fn a_partition_whose_disk_fails_does_not_keep_others_from_being_looked_after() {
    let fs = FailingFileSystem::over_memory();
    let clock = Arc::new(ManualClock::new(T0));
    let broker = builder(&fs).clock(clock.clone()).open().unwrap();
    let flush_interval = Duration::from_secs(1);
    let config = TopicConfig::default()
        .partitions(3)
        .durability(Durability::Written { flush_interval })
        .retention_ms(Duration::from_secs(100));
    let orders = broker.create_topic("orders", config).unwrap();
    for partition in 0..3 {
        append(&orders, partition, "x").unwrap();
    }
    fs.fail_when(|operation, path| {
        let fails = operation == Operation::SyncData && path.to_string_lossy().contains("orders-0");
        fails.then(|| ErrorKind::Other.into())
    });
    clock.advance(flush_interval);
    let error = broker.run_maintenance().unwrap_err();
    assert!(matches!(error, Error::PartitionFailed { .. }), "{error}");
    let log = |partition| orders.partition(partition).unwrap();
    assert_eq!([0, 1, 2].map(|n| log(n).recovery_point()), [0, 1, 1]);
    clock.advance(Duration::from_secs(400));
    broker.run_maintenance().unwrap_err();
    assert_eq!([0, 1, 2].map(|n| log(n).log_start_offset()), [0, 1, 1]);
    assert!(matches!(append(&orders, 0, "y"), Err(Error::PartitionFailed { .. })));
    append(&orders, 1, "y").unwrap();
}

#[test]
fn a_turn_forgets_a_failure_in_a_topic_that_is_deleted() {
    let fs = FailingFileSystem::over_memory();
    let broker = open(&fs);
    let orders = broker.create_topic("orders", TopicConfig::default()).unwrap();
    fs.fail_next(Operation::SyncData, "orders-0/00000000000000000000.log", ErrorKind::Other);
    append(&orders, 0, "x").unwrap_err();
    broker.run_maintenance().unwrap_err();
    broker.delete_topic("orders").unwrap();
    broker.run_maintenance().unwrap();
}

/// Wants to run at a time that a test sets, and counts how often it did.
#[derive(Default)]
struct Alarm {
    wanted: AtomicU64,
    done: AtomicU64,
}

impl Chore for Alarm {
    fn run(&self, _now: Duration) -> Option<Duration> {
        self.done.store(self.wanted.load(Ordering::SeqCst), Ordering::SeqCst);
        None
    }

    fn close(&self) -> Result<()> {
        Ok(())
    }
}

#[test]
fn a_flush_is_not_put_off_by_a_turn_that_came_too_early_for_it() {
    let fs = FailingFileSystem::over_memory();
    let clock = Arc::new(ManualClock::new(T0));
    let broker = builder(&fs).clock(clock.clone()).open().unwrap();
    let flush_interval = Duration::from_millis(100);
    let config = TopicConfig::default().durability(Durability::Written { flush_interval });
    let orders = broker.create_topic("orders", config).unwrap();
    let (log, due) =
        (orders.partition(0).unwrap(), broker.clock().monotonic() + flush_interval / 2);
    append(&orders, 0, "x").unwrap();
    clock.advance(flush_interval * 2 / 5);
    broker.run_maintenance().unwrap();
    assert_eq!(log.recovery_point(), 0, "it is not due yet");
    assert_eq!(broker.maintenance().next_turn(), due);
}

/// A clock that moves on whenever somebody looks at it: everything takes its time.
#[derive(Debug)]
struct SlowWorld(ManualClock);

impl Clock for SlowWorld {
    fn now(&self) -> Timestamp {
        self.0.now()
    }

    fn monotonic(&self) -> Duration {
        self.0.advance(Duration::from_millis(1));
        self.0.monotonic()
    }
}

#[test]
fn a_flush_that_becomes_due_while_a_turn_does_other_things_is_not_left_to_the_next() {
    let fs = FailingFileSystem::over_memory();
    let broker = builder(&fs).clock(Arc::new(SlowWorld(ManualClock::new(T0)))).open().unwrap();
    broker.create_topic("others", TopicConfig::default().partitions(100)).unwrap();
    let flush_interval = Duration::from_millis(100);
    let config = TopicConfig::default().durability(Durability::Written { flush_interval });
    let orders = broker.create_topic("orders", config).unwrap();
    let log = orders.partition(0).unwrap();
    append(&orders, 0, "x").unwrap();
    log.flush().unwrap();
    append(&orders, 0, "y").unwrap();
    broker.run_maintenance().unwrap();
    assert_eq!(log.recovery_point(), 2);
}

#[test]
fn the_next_turn_comes_in_time_for_a_topic_that_is_new_or_altered() {
    let fs = FailingFileSystem::over_memory();
    let clock = Arc::new(ManualClock::new(T0));
    let broker = builder(&fs).clock(clock.clone()).open().unwrap();
    let now = broker.clock().monotonic();
    let written = |millis| {
        let flush_interval = Duration::from_millis(millis);
        TopicConfig::default().durability(Durability::Written { flush_interval })
    };
    broker.run_maintenance().unwrap();
    assert!(broker.maintenance().next_turn() > now + Duration::from_millis(100));
    broker.create_topic("orders", written(200)).unwrap();
    assert!(broker.maintenance().next_turn() <= now + Duration::from_millis(100));
    broker.run_maintenance().unwrap();
    broker.alter_topic("orders", written(20)).unwrap();
    assert!(broker.maintenance().next_turn() <= now + Duration::from_millis(10));
}

#[test]
fn no_wake_up_is_lost_however_it_meets_the_turns() {
    let fs = FailingFileSystem::over_memory();
    let broker = builder(&fs).background_thread(true).open().unwrap();
    let alarm = Arc::new(Alarm::default());
    let chore: std::sync::Weak<dyn Chore> = Arc::<Alarm>::downgrade(&alarm);
    broker.maintenance().register(chore);
    let stopwatch = crate::time::Stopwatch::start();
    for n in 1..=2_000 {
        alarm.wanted.store(n, Ordering::SeqCst);
        broker.maintenance().wake_by(Duration::ZERO);
        while alarm.done.load(Ordering::SeqCst) < n {
            // A lost one comes with the next turn, half a second later. A slow machine may take a
            // while for all of them, but not as long as one lost in fifty would.
            assert!(stopwatch.elapsed() < Duration::from_secs(20), "at the {n}th");
            thread::yield_now();
        }
    }
}

#[test]
fn chores_whose_owners_have_gone_are_forgotten_even_if_no_turn_is_ever_run() {
    let broker = open(&FailingFileSystem::over_memory());
    for _ in 0..100 {
        drop(broker.producer().build().unwrap());
    }
    assert!(broker.maintenance().chore_count() <= 1);
}

#[test]
fn a_synced_record_that_nobody_waits_for_is_seen_within_milliseconds() {
    let fs = FailingFileSystem::over_memory();
    let clock = Arc::new(ManualClock::new(T0));
    let broker = builder(&fs).clock(clock.clone()).open().unwrap();
    let orders = broker.create_topic("orders", TopicConfig::default()).unwrap();
    let log = orders.partition(0).unwrap();
    let producer = broker.producer().build().unwrap();
    broker.run_maintenance().unwrap();
    drop(producer.send(&orders, Record::new("paid")).unwrap());
    // Without lingering the batch is due at once, and its sync a little later.
    for _ in 0..2 {
        let wait = broker.maintenance().next_turn().saturating_sub(clock.monotonic());
        assert!(wait <= Duration::from_millis(10), "{wait:?}");
        clock.advance(wait);
        broker.run_maintenance().unwrap();
    }
    assert_eq!(log.high_watermark(), 1);
}
