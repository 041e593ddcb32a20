//! Goal: a group goes on where it has left off, whatever ended its consumer; nobody who is not in
//! it any more has a say; what is committed is damaged, lost or too far ahead never unnoticed.

use std::sync::Arc;
use std::time::Duration;

use sapwood::{
    Broker, BrokerBuilder, Clock, Consumer, Error, ManualClock, OffsetAndMetadata, OffsetSpec,
    Record, Timestamp, TopicConfig, TopicPartition,
};

fn address() -> TopicPartition {
    TopicPartition::new("orders", 0)
}

/// The topic `orders` with one partition of so many records.
fn fill(broker: &Broker, records: usize) {
    let topic = broker.topic("orders");
    let topic = topic.or_else(|_| broker.create_topic("orders", TopicConfig::default())).unwrap();
    topic.partition(0).unwrap().append(&vec![Record::new("x"); records]).unwrap();
}

/// A member that returns so many records a poll.
fn join(broker: &Broker, group: &str, max_poll_records: usize) -> Consumer {
    let consumer = broker.consumer().group(group).auto_commit(None);
    consumer.max_poll_records(max_poll_records).subscribe(["orders"]).unwrap()
}

fn poll_offsets(consumer: &mut Consumer) -> Vec<u64> {
    consumer.poll(Duration::ZERO).unwrap().iter().map(|record| record.offset()).collect()
}

fn committed(broker: &Broker, group: &str) -> Option<u64> {
    let group = broker.describe_group(group).unwrap()?;
    let offset = group.offsets.iter().find(|offset| offset.topic_partition == address())?;
    Some(offset.committed.offset)
}

#[test]
fn a_group_goes_on_after_a_reopen_where_it_has_left_off() {
    let directory = tempfile::tempdir().unwrap();
    for round in 0..4 {
        let broker = Broker::open(directory.path()).unwrap();
        fill(&broker, 3);
        let mut consumer = join(&broker, "g", 3);
        assert_eq!(poll_offsets(&mut consumer), [3 * round, 3 * round + 1, 3 * round + 2]);
        consumer.commit().unwrap();
        if round % 2 == 0 {
            consumer.close().unwrap();
            broker.close().unwrap();
        }
        // Otherwise both are dropped: the same as a kill.
    }
}

#[test]
fn what_was_polled_and_not_committed_comes_again() {
    let broker = Broker::in_memory().unwrap();
    fill(&broker, 6);
    let mut consumer = join(&broker, "g", 2);
    assert_eq!(poll_offsets(&mut consumer), [0, 1]);
    consumer.commit().unwrap();
    assert_eq!(poll_offsets(&mut consumer), [2, 3]);
    drop(consumer);
    assert_eq!(poll_offsets(&mut join(&broker, "g", 2)), [2, 3]);
}

#[test]
fn groups_do_not_touch_each_other() {
    let broker = Broker::in_memory().unwrap();
    fill(&broker, 4);
    let (mut one, mut other) = (join(&broker, "one", 2), join(&broker, "other", 3));
    assert_eq!(poll_offsets(&mut one), [0, 1]);
    assert_eq!(poll_offsets(&mut other), [0, 1, 2]);
    one.commit().unwrap();
    assert_eq!((committed(&broker, "one"), committed(&broker, "other")), (Some(2), None));
    other.commit().unwrap();
    assert_eq!((committed(&broker, "one"), committed(&broker, "other")), (Some(2), Some(3)));
    assert_eq!(broker.list_groups().unwrap(), ["one", "other"]);
}

#[test]
fn the_consumer_commits_by_itself_what_earlier_polls_returned_and_when_it_closes() {
    let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_700_000_000_000)));
    let broker = BrokerBuilder::in_memory().clock(clock.clone()).background_thread(false);
    let broker = broker.open().unwrap();
    fill(&broker, 6);
    let consumer = broker.consumer().group("g").max_poll_records(2);
    let mut consumer = consumer.subscribe(["orders"]).unwrap();
    assert_eq!(poll_offsets(&mut consumer), [0, 1]);
    clock.advance(Duration::from_millis(4_999));
    assert_eq!(poll_offsets(&mut consumer), [2, 3]);
    assert_eq!(committed(&broker, "g"), None, "not due yet");
    clock.advance(Duration::from_millis(1));
    assert_eq!(poll_offsets(&mut consumer), [4, 5]);
    assert_eq!(committed(&broker, "g"), Some(4), "not what this poll returned");
    consumer.close().unwrap();
    assert_eq!(committed(&broker, "g"), Some(6));
}

#[test]
fn dropping_a_consumer_commits_nothing() {
    let broker = Broker::in_memory().unwrap();
    fill(&broker, 2);
    let mut consumer = broker.consumer().group("g").subscribe(["orders"]).unwrap();
    assert_eq!(poll_offsets(&mut consumer), [0, 1]);
    drop(consumer);
    assert_eq!(committed(&broker, "g"), None);
}

#[test]
fn chosen_offsets_are_committed_with_metadata_and_move_nothing() {
    let broker = Broker::in_memory().unwrap();
    fill(&broker, 5);
    let mut consumer = join(&broker, "g", 5);
    consumer.poll(Duration::ZERO).unwrap();
    let done = OffsetAndMetadata::new(3).metadata("half of it");
    consumer.commit_offsets([(address(), done.clone())]).unwrap();
    assert_eq!(consumer.committed(&address()).unwrap(), Some(done));
    assert_eq!(consumer.position(&address()).unwrap(), 5);
    let beyond = consumer.commit_offsets([(address(), OffsetAndMetadata::new(6))]).unwrap_err();
    assert!(matches!(beyond, Error::OffsetOutOfRange { offset: 6, end_offset: 5, .. }));
    consumer.commit().unwrap();
    assert_eq!(committed(&broker, "g"), Some(5), "the position counts again");
}

#[test]
fn polling_at_the_tail_writes_nothing_and_rewinds_nothing() {
    let broker = Broker::in_memory().unwrap();
    fill(&broker, 2);
    let mut consumer = join(&broker, "g", 5);
    poll_offsets(&mut consumer);
    consumer.commit().unwrap();
    let appended = broker.metrics().unwrap().batches_appended;
    for _ in 0..10 {
        assert!(poll_offsets(&mut consumer).is_empty());
        consumer.commit().unwrap();
    }
    assert_eq!(broker.metrics().unwrap().batches_appended, appended);
    assert_eq!(committed(&broker, "g"), Some(2));
}

#[test]
fn partitions_assigned_by_hand_commit_only_while_nobody_is_in_the_group() {
    let broker = Broker::in_memory().unwrap();
    fill(&broker, 4);
    let by_hand = broker.consumer().group("g").auto_commit(None).max_poll_records(1);
    let mut by_hand = by_hand.assign([address()]).unwrap();
    poll_offsets(&mut by_hand);
    by_hand.commit().unwrap();
    let member = join(&broker, "g", 1);
    assert_eq!(member.position(&address()).unwrap(), 1, "they share the group's offsets");
    poll_offsets(&mut by_hand);
    assert!(matches!(by_hand.commit(), Err(Error::GroupOccupied { .. })));
    drop(member);
    by_hand.commit().unwrap();
    assert_eq!(committed(&broker, "g"), Some(2));
}

#[test]
fn a_group_is_described_reset_and_deleted_from_outside_but_not_under_a_member() {
    let broker = Broker::in_memory().unwrap();
    fill(&broker, 10);
    let mut consumer = join(&broker, "g", 4);
    poll_offsets(&mut consumer);
    consumer.commit().unwrap();
    let described = broker.describe_group("g").unwrap().unwrap();
    assert_eq!((described.members.len(), described.offsets[0].lag), (1, 6));
    let zero = || [(address(), OffsetAndMetadata::new(0))];
    assert!(matches!(broker.reset_group("g", zero()), Err(Error::GroupOccupied { .. })));
    assert!(matches!(broker.delete_group("g"), Err(Error::GroupOccupied { .. })));
    drop(consumer);
    let left = broker.describe_group("g").unwrap().unwrap();
    assert!(left.members.is_empty());
    assert!(left.generation > described.generation);
    broker.reset_group("g", zero()).unwrap();
    assert_eq!(committed(&broker, "g"), Some(0));
    broker.delete_group("g").unwrap();
    assert_eq!(broker.describe_group("g").unwrap(), None);
    assert_eq!(broker.list_groups().unwrap(), Vec::<String>::new());
}

#[test]
fn a_commit_that_is_not_waited_for_is_there_for_whoever_comes_next() {
    let broker = BrokerBuilder::in_memory().background_thread(false).open().unwrap();
    fill(&broker, 6);
    let mut consumer = join(&broker, "g", 2);
    poll_offsets(&mut consumer);
    consumer.commit_async().unwrap();
    assert_eq!(committed(&broker, "g"), None, "nothing has been synced yet");
    broker.run_maintenance().unwrap();
    assert_eq!(committed(&broker, "g"), Some(2));
    poll_offsets(&mut consumer);
    consumer.commit_async().unwrap();
    drop(consumer);
    let mut next = join(&broker, "g", 2);
    assert_eq!(poll_offsets(&mut next), [4, 5]);

    // What counts is what was committed last, waited for or not.
    next.commit().unwrap();
    next.seek(&address(), 1).unwrap();
    next.commit_async().unwrap();
    next.seek(&address(), 6).unwrap();
    next.commit().unwrap();
    assert_eq!(committed(&broker, "g"), Some(6));
}

#[test]
fn committing_without_waiting_at_the_tail_writes_nothing() {
    let broker = Broker::in_memory().unwrap();
    fill(&broker, 2);
    let mut consumer = join(&broker, "g", 5);
    poll_offsets(&mut consumer);
    consumer.commit_async().unwrap();
    let appended = broker.metrics().unwrap().batches_appended;
    for _ in 0..10 {
        consumer.commit_async().unwrap();
    }
    assert_eq!(broker.metrics().unwrap().batches_appended, appended);
}

#[test]
fn a_planned_reset_changes_nothing_and_says_where_it_would_go() {
    let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_700_000_000_000)));
    let broker = BrokerBuilder::in_memory().clock(clock.clone()).background_thread(false);
    let broker = broker.open().unwrap();
    fill(&broker, 4);
    clock.advance(Duration::from_secs(60));
    let between = clock.now();
    fill(&broker, 6);
    broker.topic("orders").unwrap().partition(0).unwrap().delete_records(2).unwrap();
    broker.reset_group("g", [(address(), OffsetAndMetadata::new(5))]).unwrap();
    for (to, wanted, offset) in [
        (OffsetSpec::Earliest, 2, 2),
        (OffsetSpec::Latest, 10, 10),
        (OffsetSpec::Current, 5, 5),
        (OffsetSpec::Offset(7), 7, 7),
        (OffsetSpec::Offset(99), 99, 10),
        (OffsetSpec::Timestamp(between), 4, 4),
        (OffsetSpec::Timestamp(between.saturating_add(Duration::from_secs(1))), 10, 10),
        (OffsetSpec::ShiftBy(-2), 3, 3),
        (OffsetSpec::ShiftBy(-9), 0, 2),
    ] {
        let plan = broker.plan_reset("g", [address()], to).unwrap();
        assert_eq!((plan[0].current, plan[0].wanted, plan[0].offset), (Some(5), wanted, offset));
    }
    assert_eq!(committed(&broker, "g"), Some(5));
    let nowhere = broker.plan_reset("h", [address()], OffsetSpec::ShiftBy(1)).unwrap_err();
    assert!(matches!(nowhere, Error::NoCommittedOffset { .. }), "{nowhere}");
    let missing = broker.plan_reset("g", [TopicPartition::new("orders", 1)], OffsetSpec::Latest);
    assert!(matches!(missing, Err(Error::UnknownPartition { .. })));
    let plan = broker.plan_reset("g", [address()], OffsetSpec::Latest).unwrap();
    broker.reset_group("g", plan.into_iter().map(Into::into)).unwrap();
    assert_eq!(committed(&broker, "g"), Some(10));
}

#[test]
fn what_was_read_of_a_deleted_topic_is_not_committed_for_its_successor() {
    let broker = Broker::in_memory().unwrap();
    fill(&broker, 3);
    let mut consumer = join(&broker, "g", 3);
    assert_eq!(poll_offsets(&mut consumer), [0, 1, 2]);
    broker.delete_topic("orders").unwrap();
    fill(&broker, 5);
    let refused = consumer.commit().unwrap_err();
    assert!(matches!(refused, Error::UnknownTopic { .. }), "{refused}");
    assert_eq!(committed(&broker, "g"), None);

    // The next poll tells it, and then the new topic is read from its start.
    assert!(matches!(consumer.poll(Duration::ZERO), Err(Error::UnknownTopic { .. })));
    assert_eq!(poll_offsets(&mut consumer), [0, 1, 2]);
    consumer.commit().unwrap();
    assert_eq!(committed(&broker, "g"), Some(3));
}

#[test]
fn a_deleted_topic_takes_what_was_committed_with_it() {
    let directory = tempfile::tempdir().unwrap();
    let broker = Broker::open(directory.path()).unwrap();
    fill(&broker, 5);
    broker.reset_group("g", [(address(), OffsetAndMetadata::new(5))]).unwrap();
    broker.delete_topic("orders").unwrap();
    fill(&broker, 5);
    assert_eq!(poll_offsets(&mut join(&broker, "g", 5)), [0, 1, 2, 3, 4]);
    broker.close().unwrap();
    let broker = Broker::open(directory.path()).unwrap();
    assert_eq!(committed(&broker, "g"), None);
}

#[test]
fn a_damaged_log_of_offsets_is_an_error_and_not_a_fresh_start() {
    let directory = tempfile::tempdir().unwrap();
    let broker = Broker::open(directory.path()).unwrap();
    fill(&broker, 5);
    broker.reset_group("g", [(address(), OffsetAndMetadata::new(5))]).unwrap();
    broker.close().unwrap();
    let path = directory.path().join("__consumer_offsets-0/00000000000000000000.log");
    let intact = std::fs::read(&path).unwrap();
    let mut bytes = intact.clone();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let error = Broker::open(directory.path()).unwrap_err();
    assert!(matches!(&error, Error::Corrupt(damage) if damage.path == path), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), bytes, "nothing was repaired away");
    std::fs::write(&path, &intact).unwrap();
    assert_eq!(committed(&Broker::open(directory.path()).unwrap(), "g"), Some(5));
}

#[test]
fn a_torn_log_of_offsets_ends_with_the_last_good_commit() {
    let directory = tempfile::tempdir().unwrap();
    let broker = Broker::open(directory.path()).unwrap();
    fill(&broker, 5);
    broker.reset_group("g", [(address(), OffsetAndMetadata::new(3))]).unwrap();
    broker.close().unwrap();
    // Half a batch behind what was synced: what a power cut in the middle of a commit leaves.
    let path = directory.path().join("__consumer_offsets-0/00000000000000000000.log");
    let mut bytes = std::fs::read(&path).unwrap();
    let half = bytes[..bytes.len() / 2].to_vec();
    bytes.extend(half);
    std::fs::write(&path, bytes).unwrap();
    let broker = Broker::open(directory.path()).unwrap();
    assert_eq!(committed(&broker, "g"), Some(3));
    broker.reset_group("g", [(address(), OffsetAndMetadata::new(4))]).unwrap();
    broker.close().unwrap();
    assert_eq!(committed(&Broker::open(directory.path()).unwrap(), "g"), Some(4));
}

#[test]
fn a_read_only_broker_sees_what_is_committed_and_commits_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let broker = Broker::open(directory.path()).unwrap();
    fill(&broker, 5);
    broker.reset_group("g", [(address(), OffsetAndMetadata::new(2))]).unwrap();

    let reader = Broker::open_read_only(directory.path()).unwrap();
    let consumer = reader.consumer().group("g").auto_commit(Duration::from_millis(1));
    let mut consumer = consumer.subscribe(["orders"]).unwrap();
    assert_eq!(poll_offsets(&mut consumer), [2, 3, 4]);
    let refused = consumer.commit().unwrap_err();
    assert!(matches!(refused, Error::ReadOnly { .. }), "{refused}");
    broker.reset_group("g", [(address(), OffsetAndMetadata::new(4))]).unwrap();
    broker.reset_group("h", [(address(), OffsetAndMetadata::new(1))]).unwrap();
    assert_eq!(consumer.committed(&address()).unwrap(), Some(OffsetAndMetadata::new(4)));
    assert_eq!(reader.list_groups().unwrap(), ["g", "h"]);
    consumer.close().unwrap();
}

#[test]
fn a_read_only_broker_follows_when_the_log_of_offsets_is_rewritten() {
    let directory = tempfile::tempdir().unwrap();
    let broker = Broker::open(directory.path()).unwrap();
    fill(&broker, 5);
    let commit = |group: &str, n: u64| {
        let offset = OffsetAndMetadata::new(n % 6).metadata("m".repeat(4_000));
        broker.reset_group(group, [(address(), offset)]).unwrap();
    };
    commit("gone", 1);
    commit("kept", 3);
    let reader = Broker::open_read_only(directory.path()).unwrap();
    assert_eq!(committed(&reader, "gone"), Some(1));
    broker.delete_group("gone").unwrap();
    for n in 0..600 {
        commit("busy", n);
    }
    assert_eq!(committed(&reader, "busy"), Some(599 % 6));
    assert_eq!(committed(&reader, "kept"), Some(3));
    assert_eq!(reader.list_groups().unwrap(), ["busy", "kept"]);
}

#[test]
fn a_read_only_broker_sees_the_first_commit_of_a_writer_that_came_later() {
    let directory = tempfile::tempdir().unwrap();
    let broker = Broker::open(directory.path()).unwrap();
    let reader = Broker::open_read_only(directory.path()).unwrap();
    assert_eq!(reader.list_groups().unwrap(), [""; 0]);

    fill(&broker, 5);
    broker.reset_group("g", [(address(), OffsetAndMetadata::new(2))]).unwrap();
    let lag = reader.topic("orders").and_then(|_| reader.describe_group("g")).unwrap().unwrap();
    assert_eq!((lag.offsets[0].committed.offset, lag.offsets[0].lag), (2, 3));
    assert_eq!(reader.list_groups().unwrap(), ["g"]);
}

#[test]
fn the_log_of_offsets_takes_nothing_from_users() {
    let directory = tempfile::tempdir().unwrap();
    let broker = Broker::open(directory.path()).unwrap();
    fill(&broker, 5);
    broker.reset_group("g", [(address(), OffsetAndMetadata::new(2))]).unwrap();
    let log = broker.topic("__consumer_offsets").unwrap().partition(0).unwrap();

    let refused = log.append(&[Record::new("x")]).unwrap_err();
    assert!(matches!(refused, Error::InvalidState(_)), "{refused}");
    let refused = log.delete_records(1).unwrap_err();
    assert!(matches!(refused, Error::InvalidState(_)), "{refused}");
    broker.close().unwrap();
    assert_eq!(committed(&Broker::open(directory.path()).unwrap(), "g"), Some(2));
}
