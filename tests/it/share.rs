//! Goal: a share group hands each record to one worker at a time, again until somebody has accepted it or
//! it is given up, and no record holds up another; what is acknowledged stays so, and late workers change
//! nothing.
//!
//! Method: several workers on one thread, so that every order of calls can be written down, and a clock
//! that moves only when told to. Interleavings at random against a model are in [`stress`].

mod stress;

use std::sync::Arc;
use std::time::Duration;

use sapwood::{
    AcknowledgementMode, AutoOffsetReset, Broker, BrokerBuilder, Clock, Error, ManualClock,
    NOT_BEFORE_HEADER, Record, ShareConsumer, ShareConsumerBuilder, SharePartitionDescription,
    ShareRecords, Timestamp, TopicConfig, TopicPartition,
};

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);
const SECOND: Duration = Duration::from_secs(1);

/// A broker whose time stands still, and the topic `jobs` with one partition.
fn broker() -> (Broker, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(NOW));
    let broker = BrokerBuilder::in_memory().clock(clock.clone()).background_thread(false);
    let broker = broker.open().unwrap();
    broker.create_topic("jobs", TopicConfig::default()).unwrap();
    (broker, clock)
}

/// Appends records to a partition of `jobs`, ten to a batch.
fn fill(broker: &Broker, values: impl IntoIterator<Item = u64>) {
    let values: Vec<String> = values.into_iter().map(|value| value.to_string()).collect();
    let log = broker.topic("jobs").unwrap().partition(0).unwrap();
    for some in values.chunks(10) {
        log.append(&some.iter().map(Record::new).collect::<Vec<_>>()).unwrap();
    }
}

fn group(broker: &Broker) -> ShareConsumerBuilder {
    broker.share_consumer("workers").lock_duration(30 * SECOND)
}

fn worker(broker: &Broker) -> ShareConsumer {
    group(broker).subscribe(["jobs"]).unwrap()
}

fn poll(worker: &mut ShareConsumer) -> ShareRecords {
    worker.poll(Duration::ZERO).unwrap()
}

/// Offset and delivery count of each record.
fn seen(records: &ShareRecords) -> Vec<(u64, u16)> {
    records.iter().map(|record| (record.offset(), record.delivery_count())).collect()
}

fn offsets(records: &ShareRecords) -> Vec<u64> {
    records.iter().map(|record| record.offset()).collect()
}

fn described(broker: &Broker) -> SharePartitionDescription {
    broker.describe_share_group("workers").unwrap().unwrap().partitions.remove(0)
}

fn value(record: &sapwood::ConsumerRecord<'_>) -> u64 {
    str::from_utf8(record.value().unwrap()).unwrap().parse().unwrap()
}

/// What lies in a topic: value, and headers that begin with `__dlq.errors.`.
fn letters(broker: &Broker, topic: &str) -> Vec<(u64, Vec<(String, String)>)> {
    let mut consumer = broker.consumer().subscribe([topic]).unwrap();
    let mut found = Vec::new();
    loop {
        let records = consumer.poll(Duration::ZERO).unwrap();
        if records.is_empty() {
            return found;
        }
        for record in &records {
            let header = |header: sapwood::Header<'_>| {
                let name = header.name().strip_prefix("__dlq.errors.")?.to_owned();
                Some((name, String::from_utf8(header.value()?.to_vec()).unwrap()))
            };
            found.push((value(&record), record.headers().filter_map(header).collect()));
        }
    }
}

#[test]
fn workers_of_one_partition_get_different_records() {
    let (broker, _) = broker();
    fill(&broker, 0..25);
    let mut workers: Vec<_> =
        (0..4).map(|_| group(&broker).max_poll_records(7).subscribe(["jobs"]).unwrap()).collect();
    let polled: Vec<_> = workers.iter_mut().map(poll).collect();
    let all: Vec<Vec<u64>> = polled.iter().map(offsets).collect();
    let expected: [Vec<u64>; 4] =
        [(0..7).collect(), (7..14).collect(), (14..21).collect(), (21..25).collect()];
    assert_eq!(all, expected);
    for records in &polled {
        assert!(records.iter().all(|record| value(&record) == record.offset()));
    }
}

#[test]
fn what_is_accepted_never_comes_again() {
    let (broker, _) = broker();
    fill(&broker, 0..5);
    let mut one = worker(&broker);
    poll(&mut one).accept_all().unwrap();
    assert!(poll(&mut one).is_empty());
    assert!(poll(&mut worker(&broker)).is_empty());
    let now = described(&broker);
    assert_eq!((now.start_offset, now.end_offset, now.lag, now.in_flight), (5, 5, 0, 0));
}

#[test]
fn dropping_the_records_of_a_poll_releases_what_is_not_acknowledged() {
    let (broker, _) = broker();
    fill(&broker, 0..5);
    let mut one = worker(&broker);
    {
        let records = poll(&mut one);
        records.iter().nth(2).unwrap().accept().unwrap();
    }
    assert_eq!(seen(&poll(&mut one)), [(0, 2), (1, 2), (3, 2), (4, 2)]);
}

#[test]
fn a_panic_in_the_middle_of_the_work_releases_the_records() {
    for mode in [AcknowledgementMode::Explicit, AcknowledgementMode::Implicit] {
        let (broker, _) = broker();
        fill(&broker, 0..3);
        let mut one = group(&broker).acknowledgement_mode(mode).subscribe(["jobs"]).unwrap();
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _records = poll(&mut one);
            panic!("on purpose");
        }));
        assert!(panicked.is_err());
        assert_eq!(seen(&poll(&mut one)), [(0, 2), (1, 2), (2, 2)], "{mode:?}");
    }
}

#[test]
fn in_implicit_mode_the_next_poll_accepts_and_a_consumer_that_is_dropped_releases() {
    let (broker, _) = broker();
    fill(&broker, 0..6);
    let implicit = group(&broker).acknowledgement_mode(AcknowledgementMode::Implicit);
    let mut one = implicit.max_poll_records(2).subscribe(["jobs"]).unwrap();
    assert_eq!(offsets(&poll(&mut one)), [0, 1]);
    let records = poll(&mut one);
    assert_eq!(offsets(&records), [2, 3]);
    assert_eq!(described(&broker).start_offset, 2);
    records.iter().next().unwrap().release().unwrap();
    drop(records);
    let records = poll(&mut one);
    assert_eq!(seen(&records), [(2, 2), (4, 1)], "the other of the two was accepted");
    drop(one);
    drop(records);
    assert_eq!(seen(&poll(&mut worker(&broker))), [(2, 3), (4, 2), (5, 1)]);
}

#[test]
fn closing_in_implicit_mode_accepts_what_was_returned() {
    let (broker, _) = broker();
    fill(&broker, 0..3);
    let implicit = group(&broker).acknowledgement_mode(AcknowledgementMode::Implicit);
    let mut one = implicit.subscribe(["jobs"]).unwrap();
    assert_eq!(poll(&mut one).len(), 3);
    one.close().unwrap();
    assert!(poll(&mut worker(&broker)).is_empty());
}

#[test]
fn a_lock_that_times_out_gives_the_record_to_others_and_the_late_worker_changes_nothing() {
    let (broker, clock) = broker();
    fill(&broker, 0..3);
    let (mut slow, mut quick) = (worker(&broker), worker(&broker));
    let late = poll(&mut slow);
    clock.advance(29 * SECOND);
    assert!(poll(&mut quick).is_empty());
    late.iter().next().unwrap().renew().unwrap();
    clock.advance(SECOND);
    let again = poll(&mut quick);
    assert_eq!(seen(&again), [(1, 2), (2, 2)], "the first was renewed");
    let refused = late.accept_all().unwrap_err();
    let Error::NotAcquired { records, .. } = &refused else { panic!("{refused}") };
    assert_eq!(*records, [(TopicPartition::new("jobs", 0), 1..3)]);
    assert!(refused.to_string().ends_with("jobs-0@1..3"), "{refused}");
    for refused in
        [late.iter().nth(2).unwrap().reject("late"), late.renew_all().and(late.release_all())]
    {
        assert!(matches!(refused, Err(Error::NotAcquired { .. }) | Ok(())), "{refused:?}");
    }
    drop(late);
    assert_eq!(described(&broker).acquired, 2, "others have them");
    again.accept_all().unwrap();
    assert_eq!(described(&broker).lag, 0);
}

#[test]
fn a_record_is_acknowledged_once() {
    let (broker, _) = broker();
    fill(&broker, 0..2);
    let mut one = worker(&broker);
    let records = poll(&mut one);
    let record = records.iter().next().unwrap();
    record.accept().unwrap();
    for again in [record.accept(), record.release(), record.reject("no"), record.renew()] {
        assert!(matches!(again, Err(Error::NotAcquired { .. })), "{again:?}");
    }
    records.accept_all().unwrap();
    records.accept_all().unwrap();
}

#[test]
fn a_poison_record_is_given_up_after_the_limit_and_holds_up_nobody() {
    let (broker, _) = broker();
    broker.create_topic("jobs.failed", TopicConfig::default().partitions(2)).unwrap();
    fill(&broker, 0..10);
    let builder = || group(&broker).max_delivery_count(3).dead_letter_topic("jobs.failed");
    let mut one = builder().max_poll_records(4).subscribe(["jobs"]).unwrap();
    let (mut deliveries, mut done) = (0, Vec::new());
    loop {
        let records = poll(&mut one);
        if records.is_empty() {
            break;
        }
        for record in &records {
            if record.offset() == 1 {
                deliveries += 1;
                assert_eq!(record.delivery_count(), deliveries);
            } else {
                record.accept().unwrap();
                done.push(record.offset());
            }
        }
    }
    assert_eq!(deliveries, 3);
    done.sort_unstable();
    assert_eq!(done, [0, 2, 3, 4, 5, 6, 7, 8, 9]);
    assert_eq!(described(&broker).lag, 0);
    let letters = letters(&broker, "jobs.failed");
    let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let expected = vec![
        header("topic", "jobs"),
        header("partition", "0"),
        header("offset", "1"),
        header("group", "workers"),
        header("delivery.count", "3"),
        header("message", "not acknowledged in 3 deliveries"),
    ];
    assert_eq!(letters, [(1, expected)]);
}

#[test]
fn a_rejected_record_becomes_a_dead_letter_with_the_reason_and_without_a_topic_is_archived() {
    let (broker, _) = broker();
    broker.create_topic("jobs.failed", TopicConfig::default()).unwrap();
    fill(&broker, 0..3);
    let mut one = group(&broker).dead_letter_topic("jobs.failed").subscribe(["jobs"]).unwrap();
    let records = poll(&mut one);
    records.iter().nth(1).unwrap().reject("no such account").unwrap();
    drop(records);
    let found = letters(&broker, "jobs.failed");
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].0, 1);
    assert_eq!(found[0].1[5].1, "no such account");

    let mut other = worker(&broker);
    let records = poll(&mut other);
    assert_eq!(offsets(&records), [0, 2]);
    records.iter().next().unwrap().reject("nobody is told").unwrap();
    records.accept_all().unwrap();
    assert_eq!(described(&broker).lag, 0);
    assert_eq!(letters(&broker, "jobs.failed").len(), 1);
}

#[test]
fn a_dead_letter_that_cannot_be_written_is_told_and_holds_up_nobody() {
    let (broker, clock) = broker();
    broker.create_topic("jobs.failed", TopicConfig::default()).unwrap();
    fill(&broker, 0..2);
    let builder = || group(&broker).max_delivery_count(1).dead_letter_topic("jobs.failed");
    let mut one = builder().max_poll_records(1).subscribe(["jobs"]).unwrap();
    drop(poll(&mut one));
    broker.delete_topic("jobs.failed").unwrap();
    assert!(matches!(
        one.poll(Duration::ZERO),
        Err(Error::Closed { .. } | Error::UnknownTopic { .. })
    ));
    assert_eq!(offsets(&poll(&mut one)), [1], "and the one behind it is delivered");
    assert_eq!(described(&broker).start_offset, 0);
    // With a new topic, and a consumer that knows of it, it gets there.
    broker.create_topic("jobs.failed", TopicConfig::default()).unwrap();
    clock.advance(2 * SECOND);
    let mut two = builder().subscribe(["jobs"]).unwrap();
    poll(&mut two);
    assert_eq!(
        letters(&broker, "jobs.failed").iter().map(|letter| letter.0).collect::<Vec<_>>(),
        [0, 1]
    );
}

#[test]
fn a_released_record_waits_for_the_backoff_which_doubles_and_others_go_first() {
    let (broker, clock) = broker();
    fill(&broker, 0..2);
    let mut one = group(&broker)
        .retry_backoff(SECOND, 3 * SECOND)
        .max_delivery_count(10)
        .subscribe(["jobs"])
        .unwrap();
    let records = poll(&mut one);
    records.iter().nth(1).unwrap().accept().unwrap();
    drop(records);
    for wait in [1, 2, 3, 3] {
        clock.advance(wait * SECOND - Duration::from_millis(1));
        assert!(poll(&mut one).is_empty(), "{wait} s are not over");
        clock.advance(Duration::from_millis(1));
        assert_eq!(offsets(&poll(&mut one)), [0]);
    }
    clock.advance(3 * SECOND);
    poll(&mut one).iter().next().unwrap().release_after(10 * SECOND).unwrap();
    clock.advance(9 * SECOND);
    assert!(poll(&mut one).is_empty());
    clock.advance(SECOND);
    assert_eq!(seen(&poll(&mut one)), [(0, 7)]);
}

#[test]
fn a_scheduled_record_comes_when_it_is_due_and_holds_up_nobody() {
    let (broker, clock) = broker();
    let at = |seconds: u32| NOW.saturating_add(SECOND * seconds).to_string();
    let (soon, later) = (at(10), at(60));
    let log = broker.topic("jobs").unwrap().partition(0).unwrap();
    log.append(&[
        Record::new("0").header(NOT_BEFORE_HEADER, &later),
        Record::new("1"),
        Record::new("2").header(NOT_BEFORE_HEADER, &soon),
        Record::new("3").header(NOT_BEFORE_HEADER, "as soon as possible"),
    ])
    .unwrap();
    let mut one = worker(&broker);
    let records = poll(&mut one);
    assert_eq!(seen(&records), [(1, 1), (3, 1)]);
    records.accept_all().unwrap();
    assert_eq!((described(&broker).delayed, described(&broker).lag), (2, 2));
    clock.advance(9 * SECOND);
    assert!(poll(&mut one).is_empty());
    clock.advance(SECOND);
    let records = poll(&mut one);
    assert_eq!(seen(&records), [(2, 1)]);
    records.accept_all().unwrap();
    clock.advance(50 * SECOND);
    assert_eq!(seen(&poll(&mut one)), [(0, 1)]);
}

#[test]
fn so_many_may_wait_for_their_time_and_then_what_is_behind_them_waits_too() {
    let (broker, clock) = broker();
    let later = NOW.saturating_add(60 * SECOND).to_string();
    let log = broker.topic("jobs").unwrap().partition(0).unwrap();
    for _ in 0..10 {
        log.append(&[Record::new("9").header(NOT_BEFORE_HEADER, &later)]).unwrap();
    }
    fill(&broker, [7]);
    let mut one = group(&broker).max_delayed(5).max_poll_records(5).subscribe(["jobs"]).unwrap();
    assert!(poll(&mut one).is_empty());
    assert_eq!(described(&broker).delayed, 5);
    clock.advance(60 * SECOND);
    for _ in 0..3 {
        poll(&mut one).accept_all().unwrap();
    }
    assert_eq!(described(&broker).lag, 0);
}

#[test]
fn no_more_than_the_limit_is_in_flight_and_what_is_done_does_not_count() {
    let (broker, _) = broker();
    fill(&broker, 0..100);
    let builder = || group(&broker).max_in_flight(10).max_poll_records(6);
    let (mut one, mut two) =
        (builder().subscribe(["jobs"]).unwrap(), builder().subscribe(["jobs"]).unwrap());
    let first = poll(&mut one);
    let second = poll(&mut two);
    assert_eq!((first.len(), second.len()), (6, 4));
    assert!(poll(&mut two).is_empty());
    second.accept_all().unwrap();
    assert_eq!(poll(&mut two).len(), 4, "although what is before them is in flight");
    drop(first);
    let again = poll(&mut one);
    assert_eq!(seen(&again)[0], (0, 2));
}

#[test]
fn one_stuck_record_lets_any_number_pass() {
    let (broker, _) = broker();
    fill(&broker, 0..5_000);
    let mut one = group(&broker).max_in_flight(50).subscribe(["jobs"]).unwrap();
    let mut stuck = None;
    let mut done = 0;
    loop {
        let records = poll(&mut one);
        if records.is_empty() {
            break;
        }
        for record in records.iter().filter(|record| record.offset() != 17) {
            // Every other one is rejected, so that neighbours differ.
            let said =
                if record.offset() % 2 == 0 { record.accept() } else { record.reject("odd") };
            said.unwrap();
            done += 1;
        }
        if offsets(&records).contains(&17) {
            stuck = Some(records);
        }
    }
    // Bounded by memory, not by how many are done: see `max_in_flight`.
    assert!(done >= 4_999, "{done}");
    drop(stuck);
    assert_eq!(described(&broker).start_offset, 17);
}

#[test]
fn what_is_acknowledged_survives_a_restart_and_what_was_handed_out_comes_again_with_its_count() {
    let directory = tempfile::tempdir().unwrap();
    let open = || Broker::builder(directory.path()).background_thread(false).open().unwrap();
    for close in [true, false] {
        let broker = open();
        if broker.topic("jobs").is_err() {
            broker.create_topic("jobs", TopicConfig::default()).unwrap();
            fill(&broker, 0..6);
        }
        let mut one = worker(&broker);
        let records = poll(&mut one);
        if close {
            assert_eq!(records.len(), 6);
            records.iter().nth(1).unwrap().accept().unwrap();
            records.iter().nth(2).unwrap().reject("no").unwrap();
            broker.close().unwrap();
            assert!(matches!(one.poll(Duration::ZERO), Err(Error::Closed { .. })));
            assert!(matches!(records.accept_all(), Err(Error::Closed { .. })));
        } else {
            assert_eq!(seen(&records), [(0, 2), (3, 2), (4, 2), (5, 2)]);
        }
    }
    let broker = open();
    assert_eq!(seen(&poll(&mut worker(&broker))), [(0, 3), (3, 3), (4, 3), (5, 3)]);
    assert_eq!(broker.list_share_groups().unwrap(), ["workers"]);
}

#[test]
fn a_group_begins_at_the_oldest_or_behind_the_newest_record_and_stays_there() {
    let (broker, _) = broker();
    fill(&broker, 0..3);
    let latest = || broker.share_consumer("latest").auto_offset_reset(AutoOffsetReset::Latest);
    drop(latest().subscribe(["jobs"]).unwrap());
    fill(&broker, 3..5);
    assert_eq!(offsets(&poll(&mut latest().subscribe(["jobs"]).unwrap())), [3, 4]);
    assert_eq!(poll(&mut worker(&broker)).len(), 5);
    let nowhere = group(&broker).auto_offset_reset(AutoOffsetReset::Error).subscribe(["jobs"]);
    assert!(matches!(nowhere, Err(Error::InvalidConfig { .. })));
}

#[test]
fn partitions_that_a_topic_gets_later_are_taken_up_and_all_take_turns() {
    let (broker, _) = broker();
    fill(&broker, 0..3);
    let mut one = group(&broker).max_poll_records(2).subscribe(["jobs"]).unwrap();
    assert_eq!(offsets(&poll(&mut one)), [0, 1]);
    broker.add_partitions("jobs", 3).unwrap();
    let topic = broker.topic("jobs").unwrap();
    for number in 1..3 {
        topic.partition(number).unwrap().append(&vec![Record::new("1"); 3]).unwrap();
    }
    let mut partitions = Vec::new();
    for _ in 0..3 {
        let records = poll(&mut one);
        partitions.push(records.iter().next().unwrap().partition());
        records.accept_all().unwrap();
    }
    partitions.sort_unstable();
    assert_eq!(partitions, [0, 1, 2]);
}

#[test]
fn a_topic_that_is_deleted_is_told_once_and_its_successor_begins_anew() {
    let (broker, _) = broker();
    fill(&broker, 0..3);
    broker.create_topic("other", TopicConfig::default()).unwrap();
    broker.topic("other").unwrap().partition(0).unwrap().append(&[Record::new("8")]).unwrap();
    let mut one = group(&broker).max_poll_records(3).subscribe(["jobs", "other"]).unwrap();
    let held = poll(&mut one);
    assert_eq!(held.len(), 3);
    broker.delete_topic("jobs").unwrap();
    assert!(matches!(held.accept_all(), Err(Error::UnknownTopic { .. })));
    let mut told = 0;
    let mut seen_of_other = 0;
    for _ in 0..3 {
        match one.poll(Duration::ZERO) {
            Ok(records) => {
                seen_of_other += records.len();
                records.accept_all().unwrap();
            }
            Err(Error::UnknownTopic { topic }) => {
                assert_eq!(topic, "jobs");
                told += 1;
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!((told, seen_of_other), (1, 1));
    broker.create_topic("jobs", TopicConfig::default()).unwrap();
    fill(&broker, 5..7);
    assert_eq!(seen(&poll(&mut one)), [(0, 1), (1, 1)]);
}

#[test]
fn records_that_retention_deletes_are_archived() {
    let (broker, _) = broker();
    fill(&broker, 0..20);
    let mut one = group(&broker).max_poll_records(5).subscribe(["jobs"]).unwrap();
    drop(poll(&mut one));
    let held = poll(&mut one);
    broker.topic("jobs").unwrap().partition(0).unwrap().delete_records(15).unwrap();
    held.iter().next().unwrap().accept().unwrap();
    drop(held);
    let rest = poll(&mut one);
    assert_eq!(seen(&rest), (15..20).map(|offset| (offset, 1)).collect::<Vec<_>>());
    rest.accept_all().unwrap();
    assert_eq!((described(&broker).start_offset, described(&broker).lag), (20, 0));
}

#[test]
fn a_group_is_deleted_when_nobody_is_in_it_and_begins_anew() {
    let (broker, _) = broker();
    fill(&broker, 0..3);
    let mut one = worker(&broker);
    poll(&mut one).accept_all().unwrap();
    assert!(matches!(broker.delete_share_group("workers"), Err(Error::GroupOccupied { .. })));
    drop(one);
    broker.delete_share_group("workers").unwrap();
    assert_eq!(broker.describe_share_group("workers").unwrap(), None);
    broker.delete_share_group("workers").unwrap();
    assert_eq!(poll(&mut worker(&broker)).len(), 3);
}

#[test]
fn the_log_of_a_group_stays_small_however_much_it_says() {
    let directory = tempfile::tempdir().unwrap();
    let open = || Broker::builder(directory.path()).background_thread(false).open().unwrap();
    let broker = open();
    broker.create_topic("jobs", TopicConfig::default()).unwrap();
    fill(&broker, 0..10);
    let mut idle = broker.share_consumer("idle").subscribe(["jobs"]).unwrap();
    poll(&mut idle).iter().nth(4).unwrap().accept().unwrap();
    let mut one = group(&broker).max_delivery_count(32_767).subscribe(["jobs"]).unwrap();
    for _ in 0..20_000 {
        poll(&mut one).iter().next().unwrap().release().unwrap();
    }
    let state = broker.topic("__share_group_state").unwrap().partition(0).unwrap();
    let kept = state.log_end_offset() - state.log_start_offset();
    assert!(state.log_start_offset() > 0 && kept < 20_000, "{kept} of {}", state.log_end_offset());
    drop((one, idle, broker, state));
    let broker = open();
    assert_eq!(seen(&poll(&mut worker(&broker))).len(), 0, "all were delivered too often");
    let mut idle = broker.share_consumer("idle").subscribe(["jobs"]).unwrap();
    assert_eq!(offsets(&poll(&mut idle)), [0, 1, 2, 3, 5, 6, 7, 8, 9]);
}

#[test]
fn who_only_reads_cannot_work_but_sees_how_far_others_are() {
    let directory = tempfile::tempdir().unwrap();
    let broker = Broker::open(directory.path()).unwrap();
    broker.create_topic("jobs", TopicConfig::default()).unwrap();
    fill(&broker, 0..5);
    let mut one = group(&broker).max_poll_records(3).subscribe(["jobs"]).unwrap();
    let records = poll(&mut one);
    records.iter().next().unwrap().accept().unwrap();
    let reader = Broker::open_read_only(directory.path()).unwrap();
    let refused = group(&reader).subscribe(["jobs"]);
    assert!(matches!(refused, Err(Error::ReadOnly { .. })), "{refused:?}");
    assert!(matches!(reader.delete_share_group("workers"), Err(Error::ReadOnly { .. })));
    assert_eq!(reader.list_share_groups().unwrap(), ["workers"]);
    let seen = described(&reader);
    assert_eq!((seen.start_offset, seen.end_offset, seen.lag), (1, 3, 4));
    assert_eq!(seen.delivery_counts.iter().collect::<Vec<_>>(), [(1, 2)]);
    let measured = &reader.metrics().unwrap().share_groups[0];
    assert_eq!((&*measured.group, measured.lag, measured.in_flight), ("workers", 4, 2));
    assert_eq!(reader.describe_share_group("nobody").unwrap(), None);
}

#[test]
fn a_worker_that_waits_is_woken_by_a_record_by_a_release_and_by_the_end() {
    let (broker, _) = broker();
    let (mut one, mut two) = (worker(&broker), worker(&broker));
    let waits = |worker: ShareConsumer| {
        let mut worker = worker;
        std::thread::spawn(move || {
            let polled = worker.poll(Duration::MAX);
            (polled.map(|records| (seen(&records), records)), worker)
        })
    };
    let waiting = waits(two);
    fill(&broker, [0]);
    let (polled, back) = waiting.join().unwrap();
    let (seen_first, held) = polled.unwrap();
    assert_eq!(seen_first, [(0, 1)]);
    two = back;
    let waiting = waits(one);
    drop(held);
    let (polled, back) = waiting.join().unwrap();
    let (seen_again, held) = polled.unwrap();
    assert_eq!(seen_again, [(0, 2)]);
    held.accept_all().unwrap();
    one = back;
    let handle = one.wakeup_handle();
    let waiting = waits(one);
    handle.wakeup();
    let (polled, one) = waiting.join().unwrap();
    assert!(polled.unwrap().1.is_empty());
    let waiting = [waits(one), waits(two)];
    broker.close().unwrap();
    for waiting in waiting {
        assert!(matches!(waiting.join().unwrap().0, Err(Error::Closed { .. })));
    }
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    let (broker, _) = broker();
    let refused = [
        group(&broker).max_poll_records(0),
        group(&broker).max_in_flight(0),
        group(&broker).max_in_flight(1_000_000),
        group(&broker).max_delivery_count(0),
        group(&broker).lock_duration(Duration::ZERO),
        group(&broker).dead_letter_topic("jobs"),
    ];
    for builder in refused {
        let refused = builder.subscribe(["jobs"]).unwrap_err();
        assert!(matches!(refused, Error::InvalidConfig { .. }), "{refused}");
    }
    let nobody = group(&broker).subscribe(Vec::<String>::new());
    assert!(matches!(nobody, Err(Error::InvalidConfig { .. })));
    let unknown = group(&broker).dead_letter_topic("nowhere").subscribe(["jobs"]);
    assert!(matches!(unknown, Err(Error::UnknownTopic { .. })));
    let nameless = broker.share_consumer("").subscribe(["jobs"]);
    assert!(matches!(nameless, Err(Error::InvalidGroup { .. })));
    assert_eq!(broker.list_share_groups().unwrap(), Vec::<String>::new(), "nobody has joined");
}

#[test]
fn time_that_jumps_disturbs_no_lock() {
    let (broker, clock) = broker();
    fill(&broker, 0..2);
    let mut one = worker(&broker);
    let records = poll(&mut one);
    clock.jump_to(NOW.saturating_add(Duration::from_secs(365 * 24 * 3_600)));
    assert!(poll(&mut worker(&broker)).is_empty());
    clock.jump_to(NOW.saturating_sub(Duration::from_secs(365 * 24 * 3_600)));
    assert!(clock.now() < NOW);
    records.accept_all().unwrap();
}
