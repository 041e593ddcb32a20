//! Goal: consumers of one group divide its partitions, whoever comes, goes, dies or is late; a partition
//! is read by one of them at a time, from where the group is; and whoever has lost it has no say in it.
//!
//! Method: several consumers on one thread, so that every order of polls can be written down, and a clock
//! that moves only when told to.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sapwood::{
    AutoOffsetReset, Broker, BrokerBuilder, Consumer, ConsumerBuilder, Error, GroupState,
    ManualClock, OffsetAndMetadata, RangeAssignor, RebalanceListener, Record, Result,
    RoundRobinAssignor, Timestamp, TopicConfig, TopicPartition,
};

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);
const MINUTE: Duration = Duration::from_secs(60);

fn of(partition: u32) -> TopicPartition {
    TopicPartition::new("orders", partition)
}

fn all(partitions: std::ops::Range<u32>) -> Vec<TopicPartition> {
    partitions.map(of).collect()
}

/// A broker whose time stands still, and the topic `orders` of four partitions with ten records each.
fn broker() -> (Broker, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(NOW));
    let broker = BrokerBuilder::in_memory().clock(clock.clone()).background_thread(false);
    let broker = broker.open().unwrap();
    broker.create_topic("orders", TopicConfig::default().partitions(4)).unwrap();
    fill(&broker, "orders", 10);
    (broker, clock)
}

fn fill(broker: &Broker, topic: &str, records: usize) {
    for partition in broker.topic(topic).unwrap().partitions() {
        partition.append(&vec![Record::new("x"); records]).unwrap();
    }
}

/// A member that commits only when told to.
fn member(broker: &Broker) -> ConsumerBuilder {
    broker.consumer().group("g").auto_commit(None).max_poll_interval(MINUTE)
}

fn join(broker: &Broker) -> Consumer {
    member(broker).subscribe(["orders"]).unwrap()
}

/// What a poll returns: partition and offset.
fn poll(consumer: &mut Consumer) -> Vec<(u32, u64)> {
    let records = consumer.poll(Duration::ZERO).unwrap();
    records.iter().map(|record| (record.topic_partition().partition(), record.offset())).collect()
}

/// The partitions of what a poll returns, each once.
fn polled(consumer: &mut Consumer) -> Vec<u32> {
    let mut partitions: Vec<u32> = poll(consumer).into_iter().map(|(of, _)| of).collect();
    partitions.dedup();
    partitions.sort_unstable();
    partitions
}

fn committed(broker: &Broker, partition: u32) -> Option<u64> {
    let offsets = broker.describe_group("g").unwrap()?.offsets;
    let found = offsets.iter().find(|offset| offset.topic_partition == of(partition))?;
    Some(found.committed.offset)
}

fn assigned(consumer: &Consumer) -> Vec<TopicPartition> {
    let mut assignment = consumer.assignment();
    assignment.sort();
    assignment
}

#[test]
fn two_members_divide_the_partitions_and_each_record_is_read_by_one() {
    let (broker, _) = broker();
    let mut one = join(&broker);
    assert_eq!(assigned(&one), all(0..4));
    let mut two = join(&broker);
    assert_eq!(assigned(&two), [], "nothing was given back yet");
    assert_eq!(polled(&mut one), [0, 1]);
    assert_eq!(polled(&mut two), [2, 3]);
    assert_eq!((assigned(&one), assigned(&two)), (all(0..2), all(2..4)));
    assert!(poll(&mut one).is_empty() && poll(&mut two).is_empty());
}

#[test]
fn a_partition_that_stays_put_is_never_paused() {
    let (broker, _) = broker();
    let mut one = member(&broker).max_poll_records(1).subscribe(["orders"]).unwrap();
    poll(&mut one);
    one.pause(&[of(2), of(3)]).unwrap();
    let mut seen = BTreeMap::new();
    let mut others = Vec::new();
    for round in 0..6 {
        // Somebody comes or goes before each poll, and each poll returns a record all the same.
        if round % 2 == 0 {
            others.push(join(&broker))
        } else {
            others.truncate(0)
        }
        let polled = poll(&mut one);
        assert_eq!(polled.len(), 1, "round {round}");
        *seen.entry(polled[0].0).or_insert(0) += 1;
        assert_eq!(assigned(&one)[..2], all(0..2)[..], "round {round}");
    }
    assert!(seen[&0] >= 2 && seen[&1] >= 2, "{seen:?}");
}

#[test]
fn a_member_that_is_dropped_leaves_its_partitions_to_the_others_at_once() {
    let (broker, _) = broker();
    let (mut one, mut two) = (join(&broker), join(&broker));
    assert_eq!(polled(&mut one), [0, 1]);
    assert_eq!(polled(&mut two), [2, 3]);
    two.commit().unwrap();
    drop(one);
    assert_eq!(polled(&mut two), [0, 1], "not committed, so they come again");
    assert_eq!(assigned(&two), all(0..4));
}

#[test]
fn a_member_that_panics_leaves_its_partitions_to_the_others_at_once() {
    let (broker, _) = broker();
    let (mut one, mut two) = (join(&broker), join(&broker));
    assert_eq!(polled(&mut one), [0, 1]);
    poll(&mut two);
    two.commit().unwrap();
    let panicked = std::thread::spawn(move || {
        poll(&mut one);
        panic!("on purpose");
    });
    assert!(panicked.join().is_err());
    assert_eq!(polled(&mut two), [0, 1]);
}

#[test]
fn a_member_that_does_not_poll_for_too_long_is_expired_and_joins_again_when_it_does() {
    let (broker, clock) = broker();
    let (mut one, mut two) = (join(&broker), join(&broker));
    assert_eq!(polled(&mut one), [0, 1]);
    assert_eq!(polled(&mut two), [2, 3]);
    two.commit().unwrap();
    clock.advance(MINUTE);
    assert!(polled(&mut two).is_empty(), "exactly as long as allowed");
    clock.advance(Duration::from_secs(1));
    assert_eq!(polled(&mut two), [0, 1]);

    let late = one.commit().unwrap_err();
    assert!(matches!(late, Error::FencedGeneration { .. }), "{late}");
    assert!(!late.is_fatal(), "it can poll again");
    assert_eq!(committed(&broker, 0), None);
    two.commit().unwrap();
    assert!(polled(&mut one).is_empty(), "it is back, and has to wait for its share");
    assert!(polled(&mut two).is_empty());
    assert!(polled(&mut one).is_empty(), "and begins where the group is");
    assert_eq!((assigned(&one).len(), assigned(&two).len()), (2, 2));
    assert!(assigned(&one).iter().all(|of| one.position(of).unwrap() == 10));
}

#[test]
fn a_member_that_is_late_and_was_not_missed_goes_on() {
    let (broker, clock) = broker();
    let mut one = join(&broker);
    poll(&mut one);
    clock.advance(10 * MINUTE);
    one.commit().unwrap();
    assert_eq!(committed(&broker, 0), Some(10));
    assert_eq!(assigned(&one), all(0..4));
}

fn poll_for(consumer: &mut Consumer, timeout: Duration) -> usize {
    consumer.poll(timeout).unwrap().len()
}

#[test]
fn a_member_that_waits_is_woken_when_it_gets_a_partition() {
    let (broker, _) = broker();
    let mut one = join(&broker);
    assert_eq!(poll(&mut one).len(), 40);
    let mut two = join(&broker);
    let waiting = std::thread::spawn(move || poll_for(&mut two, Duration::MAX));
    assert!(poll(&mut one).is_empty());
    assert_eq!(waiting.join().unwrap(), 20, "what was not committed");
}

#[test]
fn a_member_that_waits_is_woken_when_another_leaves() {
    let (broker, _) = broker();
    let (mut one, mut two) = (join(&broker), join(&broker));
    poll(&mut one);
    assert_eq!(polled(&mut two), [2, 3]);
    let waiting = std::thread::spawn(move || poll_for(&mut two, Duration::MAX));
    drop(one);
    assert_eq!(waiting.join().unwrap(), 20);
}

#[test]
fn positions_move_with_the_commit_and_what_was_read_ahead_is_dropped() {
    let (broker, _) = broker();
    let mut one = member(&broker).max_poll_records(3).subscribe(["orders"]).unwrap();
    one.pause(&[of(0), of(1), of(2)]).unwrap();
    assert_eq!(poll(&mut one), [(3, 0), (3, 1), (3, 2)]);
    one.commit().unwrap();
    assert_eq!(poll(&mut one), [(3, 3), (3, 4), (3, 5)]);
    let mut two = join(&broker);
    assert!(poll(&mut one).iter().all(|(of, _)| *of != 3), "read ahead, and not its any more");
    let first = poll(&mut two).into_iter().find(|(of, _)| *of == 3);
    assert_eq!(first, Some((3, 3)), "behind the commit");
    let gone = one.seek(&of(3), 0).unwrap_err();
    assert!(matches!(gone, Error::NotAssigned { .. }), "{gone}");
    let gone = one.commit_offsets([(of(3), OffsetAndMetadata::new(0))]).unwrap_err();
    assert!(matches!(gone, Error::NotAssigned { .. }), "{gone}");
    assert_eq!(committed(&broker, 3), Some(3));
}

#[test]
fn what_was_polled_is_committed_before_a_partition_moves_on_with_auto_commit() {
    let (broker, _) = broker();
    let join = || broker.consumer().group("g").subscribe(["orders"]).unwrap();
    let mut one = join();
    assert_eq!(poll(&mut one).len(), 40);
    let mut two = join();
    assert!(poll(&mut one).is_empty());
    assert_eq!(
        (committed(&broker, 0), committed(&broker, 3)),
        (None, Some(10)),
        "no more than that"
    );
    assert!(poll(&mut two).is_empty(), "everything was read");
}

#[test]
fn a_commit_that_fails_does_not_hold_a_partition_back_and_is_told() {
    let (broker, _) = broker();
    let one = broker.consumer().group("g").subscribe(["orders"]);
    let mut one = one.unwrap();
    poll(&mut one);
    // Beyond the end: what cannot be committed.
    one.seek(&of(3), 99).unwrap();
    let mut two = join(&broker);
    let told = one.poll(Duration::ZERO).unwrap_err();
    assert!(matches!(told, Error::OffsetOutOfRange { .. }), "{told}");
    assert_eq!(polled(&mut two), [2, 3], "at least once");
}

#[test]
fn with_latest_nothing_is_skipped_when_a_partition_moves_before_the_first_commit() {
    let (broker, _) = broker();
    let latest = || member(&broker).auto_offset_reset(AutoOffsetReset::Latest);
    let mut one = latest().subscribe(["orders"]).unwrap();
    assert!(poll(&mut one).is_empty());
    fill(&broker, "orders", 5);
    let mut two = latest().subscribe(["orders"]).unwrap();
    one.poll(Duration::ZERO).unwrap();
    let polled = poll(&mut two);
    assert_eq!((polled.first(), polled.len()), (Some(&(2, 10)), 10), "all since the group began");
}

#[test]
fn members_of_one_group_may_subscribe_to_different_topics() {
    let (broker, _) = broker();
    broker.create_topic("payments", TopicConfig::default()).unwrap();
    let mut one = join(&broker);
    let two = member(&broker).subscribe(["payments"]).unwrap();
    let three = member(&broker).subscribe(["payments", "orders"]).unwrap();
    poll(&mut one);
    drop(three);
    poll(&mut one);
    assert_eq!(assigned(&one), all(0..4));
    assert_eq!(assigned(&two), [TopicPartition::new("payments", 0)]);
}

#[test]
fn all_members_of_a_group_use_the_same_assignor() {
    let (broker, _) = broker();
    let one = member(&broker).assignor(RangeAssignor).subscribe(["orders"]).unwrap();
    let refused = member(&broker).assignor(RoundRobinAssignor).subscribe(["orders"]).unwrap_err();
    assert!(
        matches!(&refused, Error::InconsistentAssignor { expected, .. } if expected == "range")
    );
    assert_eq!(broker.describe_group("g").unwrap().unwrap().assignor.as_deref(), Some("range"));
    drop(one);
    member(&broker)
        .property("partition.assignment.strategy", "roundrobin")
        .unwrap()
        .subscribe(["orders"])
        .unwrap();
}

#[test]
fn a_group_has_no_more_members_than_the_broker_allows() {
    let broker = BrokerBuilder::in_memory().group_max_size(2).open().unwrap();
    broker.create_topic("orders", TopicConfig::default()).unwrap();
    let (_one, two) = (join(&broker), join(&broker));
    let refused = member(&broker).subscribe(["orders"]).unwrap_err();
    assert!(matches!(refused, Error::GroupMaxSizeReached { max_size: 2, .. }), "{refused}");
    assert!(refused.is_retriable());
    drop(two);
    join(&broker);
}

#[test]
fn a_group_is_described_with_its_members() {
    let (broker, _) = broker();
    let mut one = member(&broker).client_id("reader").subscribe(["orders"]).unwrap();
    poll(&mut one);
    one.commit().unwrap();
    let mut two = member(&broker).instance_id("a").subscribe(["orders"]).unwrap();
    let moving = broker.describe_group("g").unwrap().unwrap();
    assert_eq!(moving.state, GroupState::Reconciling);
    let [named, reader] = &moving.members[..] else { panic!("{moving:?}") };
    assert_eq!((named.client_id.as_str(), named.instance_id.as_deref()), ("consumer", Some("a")));
    assert_eq!((reader.client_id.as_str(), reader.instance_id.as_deref()), ("reader", None));
    assert!(reader.member_id.starts_with("reader-") && reader.member_id != named.member_id);
    assert_eq!((&reader.assignment, &reader.target_assignment), (&all(0..4), &all(0..2)));
    assert_eq!((named.assignment.len(), &named.target_assignment), (0, &all(2..4)));
    poll(&mut one);
    poll(&mut two);
    let stable = broker.describe_group("g").unwrap().unwrap();
    assert_eq!((stable.state, stable.generation), (GroupState::Stable, moving.generation));
    assert!(stable.members.iter().all(|member| member.assignment == member.target_assignment));
    assert!(stable.offsets.iter().all(|offset| offset.lag == 0) && stable.offsets.len() == 4);
}

#[test]
fn a_worker_that_is_restarted_has_its_partitions_back_without_a_rebalance() {
    let (broker, clock) = broker();
    let named = |name: &str| member(&broker).instance_id(name).subscribe(["orders"]).unwrap();
    let (mut a, mut b) = (named("a"), named("b"));
    poll(&mut a);
    poll(&mut b);
    let (of_a, of_b) = (assigned(&a), assigned(&b));
    a.commit().unwrap();
    let generation = broker.describe_group("g").unwrap().unwrap().generation;
    drop(a);
    clock.advance(MINUTE / 2);
    poll(&mut b);
    assert_eq!(assigned(&b), of_b);
    let a = named("a");
    assert_eq!(assigned(&a), of_a);
    assert!(of_a.iter().all(|of| a.position(of).unwrap() == 10));
    assert_eq!(broker.describe_group("g").unwrap().unwrap().generation, generation);

    drop(a);
    clock.advance(MINUTE);
    poll(&mut b);
    clock.advance(Duration::from_secs(1));
    poll(&mut b);
    assert_eq!(assigned(&b), all(0..4), "it did not come back in time");
}

#[test]
fn a_second_worker_of_the_same_name_fences_the_first() {
    let (broker, _) = broker();
    let named = || member(&broker).instance_id("a").subscribe(["orders"]).unwrap();
    let mut first = named();
    poll(&mut first);
    let second = named();
    assert_eq!(assigned(&second), all(0..4));
    let refused = first.commit().unwrap_err();
    assert!(matches!(&refused, Error::FencedInstanceId { .. }) && refused.is_fatal(), "{refused}");
    for _ in 0..2 {
        let refused = first.poll(Duration::ZERO).unwrap_err();
        assert!(matches!(refused, Error::FencedInstanceId { .. }), "{refused}");
        assert_eq!(assigned(&first), []);
    }
    drop(first);
    assert_eq!(broker.describe_group("g").unwrap().unwrap().members.len(), 1);
}

#[test]
fn a_worker_that_was_expired_stays_out_if_another_has_come_under_its_name() {
    let (broker, clock) = broker();
    let named = || member(&broker).instance_id("a").subscribe(["orders"]).unwrap();
    let mut first = named();
    poll(&mut first);
    clock.advance(2 * MINUTE);
    assert!(broker.describe_group("g").unwrap().is_none(), "expired");
    let mut second = named();
    for _ in 0..2 {
        let refused = first.poll(Duration::ZERO).unwrap_err();
        assert!(matches!(refused, Error::FencedInstanceId { .. }), "{refused}");
    }
    assert_eq!(poll(&mut second).len(), 40);
}

#[test]
fn a_worker_that_will_not_come_back_can_be_removed() {
    let (broker, _) = broker();
    let mut other = join(&broker);
    let gone = member(&broker).instance_id("a").subscribe(["orders"]).unwrap();
    poll(&mut other);
    drop(gone);
    assert_eq!(assigned(&other).len(), 2);
    broker.remove_group_member("g", "a").unwrap();
    poll(&mut other);
    assert_eq!(assigned(&other).len(), 4);
    let refused = broker.remove_group_member("g", "a").unwrap_err();
    assert!(matches!(refused, Error::UnknownMember { .. }), "{refused}");
    let refused = broker.consumer().instance_id("a").subscribe(["orders"]).unwrap_err();
    assert!(matches!(refused, Error::InvalidConfig { .. }), "{refused}");
}

#[test]
fn partitions_that_are_added_are_divided_too_and_read_from_their_start() {
    let (broker, _) = broker();
    let latest = || member(&broker).auto_offset_reset(AutoOffsetReset::Latest);
    let mut one = latest().subscribe(["orders"]).unwrap();
    let mut two = latest().subscribe(["orders"]).unwrap();
    poll(&mut one);
    poll(&mut two);
    broker.add_partitions("orders", 8).unwrap();
    fill(&broker, "orders", 1);
    let mut polled = poll(&mut one);
    polled.extend(poll(&mut two));
    polled.sort_unstable();
    let expected: Vec<_> = (0..4).map(|of| (of, 10)).chain((4..8).map(|of| (of, 0))).collect();
    assert_eq!(polled, expected);
    assert_eq!((assigned(&one).len(), assigned(&two).len()), (4, 4));
}

#[test]
fn a_deleted_topic_is_told_once_to_each_of_its_readers() {
    let (broker, _) = broker();
    broker.create_topic("payments", TopicConfig::default().partitions(2)).unwrap();
    let both = || member(&broker).subscribe(["orders", "payments"]).unwrap();
    let (mut one, mut two) = (both(), both());
    poll(&mut one);
    poll(&mut two);
    broker.delete_topic("orders").unwrap();
    for consumer in [&mut one, &mut two] {
        let told = consumer.poll(Duration::ZERO).unwrap_err();
        assert!(matches!(&told, Error::UnknownTopic { topic } if topic == "orders"), "{told}");
        poll(consumer);
    }
    let payments = |n| vec![TopicPartition::new("payments", n)];
    assert_eq!((assigned(&one).len(), assigned(&two).len()), (1, 1));
    assert_ne!(assigned(&one), assigned(&two));
    assert!([payments(0), payments(1)].contains(&assigned(&one)));
}

#[test]
fn members_that_subscribe_by_a_predicate_divide_topics_that_are_created_later() {
    let (broker, _) = broker();
    let matching = || {
        let latest = member(&broker).auto_offset_reset(AutoOffsetReset::Latest);
        latest.subscribe_matching(|topic| topic.starts_with("pay")).unwrap()
    };
    let (mut one, mut two) = (matching(), matching());
    assert_eq!((assigned(&one), assigned(&two)), (vec![], vec![]));
    for topic in ["payments", "payrolls", "returns"] {
        broker.create_topic(topic, TopicConfig::default().partitions(2)).unwrap();
        fill(&broker, topic, 3);
    }
    assert_eq!(poll(&mut one).len(), 4 * 3, "each from its start");
    one.commit().unwrap();
    // The other one has noticed too, and the first gives back what is not its share.
    assert!(poll(&mut two).is_empty() && poll(&mut one).is_empty() && poll(&mut two).is_empty());
    assert_eq!(one.subscription().collect::<Vec<_>>(), ["payments", "payrolls"]);
    assert_eq!((assigned(&one).len(), assigned(&two).len()), (2, 2));
    broker.delete_topic("payrolls").unwrap();
    for consumer in [&mut one, &mut two] {
        // Whoever had a partition of it is told.
        let _told = consumer.poll(Duration::ZERO);
    }
    poll(&mut one);
    poll(&mut two);
    assert_eq!((assigned(&one).len(), assigned(&two).len()), (1, 1));
    assert_eq!(two.subscription().collect::<Vec<_>>(), ["payments"]);
}

#[test]
fn a_consumer_without_a_group_subscribes_by_a_predicate_too() {
    let (broker, _) = broker();
    let matching = |topic: &str| topic != "orders";
    let mut consumer = broker.consumer().subscribe_matching(matching).unwrap();
    assert!(poll(&mut consumer).is_empty());
    broker.create_topic("payments", TopicConfig::default()).unwrap();
    fill(&broker, "payments", 3);
    assert_eq!(poll(&mut consumer), [(0, 0), (0, 1), (0, 2)]);
    broker.delete_topic("payments").unwrap();
    let told = consumer.poll(Duration::ZERO).unwrap_err();
    assert!(matches!(told, Error::UnknownTopic { .. }), "{told}");
    broker.create_topic("payments", TopicConfig::default()).unwrap();
    fill(&broker, "payments", 2);
    assert_eq!(poll(&mut consumer), [(0, 0), (0, 1)]);
}

/// What a listener was told.
type Told = (&'static str, Vec<TopicPartition>);

struct Telling {
    told: Sender<Told>,
    commits: bool,
}

impl RebalanceListener for Telling {
    fn on_revoked(&mut self, consumer: &mut Consumer, partitions: &[TopicPartition]) -> Result<()> {
        self.told.send(("revoked", partitions.to_vec())).unwrap();
        if self.commits { consumer.commit() } else { Ok(()) }
    }

    fn on_assigned(
        &mut self,
        consumer: &mut Consumer,
        partitions: &[TopicPartition],
    ) -> Result<()> {
        assert!(partitions.iter().all(|of| consumer.position(of).is_ok()));
        self.told.send(("assigned", partitions.to_vec())).unwrap();
        Ok(())
    }

    fn on_lost(&mut self, consumer: &mut Consumer, partitions: &[TopicPartition]) -> Result<()> {
        self.told.send(("lost", partitions.to_vec())).unwrap();
        if self.commits { consumer.commit() } else { Ok(()) }
    }
}

fn telling(commits: bool) -> (Telling, Receiver<Told>) {
    let (told, heard) = channel();
    (Telling { told, commits }, heard)
}

#[test]
fn a_listener_hears_of_what_comes_and_of_what_goes_and_can_commit_in_time() {
    let (broker, _) = broker();
    let (listener, heard) = telling(true);
    let mut one = member(&broker).rebalance_listener(listener).subscribe(["orders"]).unwrap();
    assert_eq!(heard.try_iter().collect::<Vec<_>>(), [("assigned", all(0..4))]);
    poll(&mut one);
    let mut two = join(&broker);
    poll(&mut one);
    assert_eq!(heard.try_iter().collect::<Vec<_>>(), [("revoked", all(2..4))]);
    assert_eq!(committed(&broker, 3), Some(10));
    assert!(poll(&mut two).is_empty());
    drop(two);
    poll(&mut one);
    assert_eq!(
        heard.try_iter().collect::<Vec<_>>(),
        [("assigned", all(2..4))],
        "only the new ones"
    );
    one.close().unwrap();
    assert_eq!(heard.try_iter().collect::<Vec<_>>(), [("revoked", all(0..4))]);
}

#[test]
fn a_listener_is_told_what_was_lost_and_cannot_commit_it() {
    let (broker, clock) = broker();
    let (listener, heard) = telling(true);
    let mut one = member(&broker).rebalance_listener(listener).subscribe(["orders"]).unwrap();
    poll(&mut one);
    clock.advance(2 * MINUTE);
    let two = join(&broker);
    assert_eq!(assigned(&two), all(0..4));
    heard.try_iter().count();
    let told = one.poll(Duration::ZERO).unwrap_err();
    assert!(matches!(told, Error::FencedGeneration { .. }), "{told}");
    assert_eq!(heard.try_iter().collect::<Vec<_>>(), [("lost", all(0..4))]);
    assert_eq!(committed(&broker, 0), None);
    drop(two);
    assert_eq!(poll(&mut one).len(), 40, "it has joined again");
}

/// Does something with the consumer whenever partitions come.
struct OnAssigned<F>(F);

impl<F: FnMut(&mut Consumer) -> Result<()> + Send> RebalanceListener for OnAssigned<F> {
    fn on_assigned(&mut self, consumer: &mut Consumer, _: &[TopicPartition]) -> Result<()> {
        (self.0)(consumer)
    }
}

#[test]
fn a_listener_may_seek() {
    let (broker, _) = broker();
    let listener = OnAssigned(|consumer: &mut Consumer| consumer.seek(&of(1), 7));
    let mut one = member(&broker).rebalance_listener(listener).subscribe(["orders"]).unwrap();
    let polled = poll(&mut one);
    assert_eq!(polled.iter().find(|(of, _)| *of == 1), Some(&(1, 7)));
}

#[test]
fn a_listener_cannot_poll() {
    let (broker, _) = broker();
    let answers = Arc::new(Mutex::new(Vec::new()));
    let listener = {
        let answers = Arc::clone(&answers);
        OnAssigned(move |consumer: &mut Consumer| {
            // Whether or not there is anything to do for the group.
            for _ in 0..2 {
                answers.lock().unwrap().push(consumer.poll(Duration::ZERO).map(|r| r.len()));
            }
            Ok(())
        })
    };
    let consumer = member(&broker).rebalance_listener(listener).subscribe(["orders"]);
    let answers = answers.lock().unwrap();
    assert!(answers.iter().all(|answer| matches!(answer, Err(Error::InvalidState(_)))));
    assert_eq!(answers.len(), 2);
    assert_eq!(poll(&mut consumer.unwrap()).len(), 40);
}

#[test]
fn what_a_listener_returns_as_an_error_the_poll_returns_after_all_is_done() {
    let (broker, _) = broker();
    let failing = OnAssigned(|_: &mut Consumer| Err(Error::InvalidState("on purpose")));
    let two = join(&broker);
    let mut one = member(&broker).rebalance_listener(failing).subscribe(["orders"]).unwrap();
    drop(two);
    assert!(matches!(one.poll(Duration::ZERO), Err(Error::InvalidState("on purpose"))));
    assert_eq!(assigned(&one), all(0..4));
    assert_eq!(poll(&mut one).len(), 40);
}

/// Panics when partitions go.
struct Panicking;

impl RebalanceListener for Panicking {
    fn on_revoked(&mut self, _: &mut Consumer, _: &[TopicPartition]) -> Result<()> {
        panic!("on purpose");
    }
}

#[test]
fn a_listener_that_panics_ends_its_consumer_and_nobody_else() {
    let (broker, _) = broker();
    let mut one = member(&broker).rebalance_listener(Panicking).subscribe(["orders"]).unwrap();
    let mut two = join(&broker);
    let panicked = std::thread::spawn(move || one.poll(Duration::ZERO).map(drop));
    assert!(panicked.join().is_err());
    assert_eq!(polled(&mut two), [0, 1, 2, 3]);
}

#[test]
fn members_of_a_read_only_broker_divide_the_partitions_too() {
    let directory = tempfile::tempdir().unwrap();
    let writer = Broker::open(directory.path()).unwrap();
    writer.create_topic("orders", TopicConfig::default().partitions(4)).unwrap();
    fill(&writer, "orders", 10);
    let reader = Broker::open_read_only(directory.path()).unwrap();
    let (mut one, mut two) = (join(&reader), join(&reader));
    assert_eq!((polled(&mut one), polled(&mut two)), (vec![0, 1], vec![2, 3]));
    // Not another process's business.
    assert!(writer.describe_group("g").unwrap().is_none());
    writer.reset_group("g", [(of(0), OffsetAndMetadata::new(4))]).unwrap();
    assert_eq!(reader.describe_group("g").unwrap().unwrap().members.len(), 2);
}
