//! Goal: whatever the group, every partition that somebody subscribes to has exactly one owner, the
//! shares are even, sticky moves no more than it must, and the same group gives the same answer.
//!
//! Method: random groups, with random holdings, checked against what the best assignment could be.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::group::assignor::range::RangeAssignor;
use crate::group::assignor::round_robin::RoundRobinAssignor;
use crate::group::assignor::sticky::CooperativeStickyAssignor;

const TOPICS: [&str; 4] = ["audit", "orders", "payments", "returns"];

fn assignors() -> [Box<dyn Assignor>; 3] {
    [Box::new(RangeAssignor), Box::new(RoundRobinAssignor), Box::new(CooperativeStickyAssignor)]
}

fn of(topic: &str, partition: u32) -> TopicPartition {
    TopicPartition::new(topic, partition)
}

/// Up to four topics and eight members. Some partitions are owned by somebody, some are owned by
/// members that may not have them any more, or do not exist.
fn group(equal_subscriptions: bool) -> impl Strategy<Value = GroupSubscription> {
    let topics = prop::collection::vec(0..9_u32, TOPICS.len());
    let members = prop::collection::vec(1..16_u8, 1..8);
    let owners = prop::collection::vec(0..12_usize, TOPICS.len() * 10);
    (topics, members, owners).prop_map(move |(topics, members, owners)| {
        let mut group = GroupSubscription::new();
        for (name, count) in TOPICS.into_iter().zip(&topics).filter(|(_, count)| **count > 0) {
            group = group.topic(name, *count);
        }
        for (number, subscribes) in members.iter().enumerate() {
            let subscribes = if equal_subscriptions { 15 } else { *subscribes };
            let topics = (0..TOPICS.len()).filter(|at| subscribes & (1 << at) != 0);
            let topics = topics.map(|at| TOPICS[at]);
            group = group.member(MemberSubscription::new(format!("member-{number}"), topics));
        }
        for (at, owner) in owners.into_iter().enumerate() {
            let partition = of(TOPICS[at / 10], u32::try_from(at % 10).unwrap());
            if let Some(owner) = group.members.get_mut(owner) {
                owner.owned.push(partition);
            }
        }
        group
    })
}

fn owners(assignment: &[Vec<TopicPartition>]) -> BTreeMap<TopicPartition, Vec<usize>> {
    let mut owners = BTreeMap::<_, Vec<usize>>::new();
    for (member, partitions) in assignment.iter().enumerate() {
        for of in partitions {
            owners.entry(of.clone()).or_default().push(member);
        }
    }
    owners
}

/// How many partitions members keep at most if all subscribe to the same and get even shares: the
/// larger shares go to those who have most.
fn kept_at_most(group: &GroupSubscription) -> usize {
    let total = group.topics.values().map(|count| *count as usize).sum::<usize>();
    let (share, with_one_more) = (total / group.members.len(), total % group.members.len());
    let valid = |member: &MemberSubscription| {
        member.owned.iter().filter(|of| group.allows(member, of)).count()
    };
    let mut held: Vec<usize> = group.members.iter().map(valid).collect();
    held.sort_unstable_by_key(|held| Reverse(*held));
    let share = |place: usize| share + usize::from(place < with_one_more);
    held.into_iter().enumerate().map(|(place, held)| held.min(share(place))).sum()
}

proptest! {
    #[test]
    fn every_partition_has_exactly_one_owner_that_subscribes_to_it(group in group(false)) {
        for assignor in assignors() {
            let assignment = assignor.assign(&group);
            prop_assert_eq!(assignment.len(), group.members.len());
            let owners = owners(&assignment);
            for (of, owners) in &owners {
                prop_assert_eq!(owners.len(), 1, "{} of {}", of, assignor.name());
                prop_assert!(group.allows(&group.members[owners[0]], of));
            }
            for (topic, count) in &group.topics {
                let wanted = !group.subscribers(topic).is_empty();
                for partition in partitions_of(topic, *count) {
                    prop_assert_eq!(owners.contains_key(&partition), wanted);
                }
            }
        }
    }

    #[test]
    fn equal_subscriptions_get_equal_shares_give_or_take_one(group in group(true)) {
        let even = |loads: Vec<usize>| loads.iter().max().unwrap() - loads.iter().min().unwrap() <= 1;
        for assignor in [&RoundRobinAssignor as &dyn Assignor, &CooperativeStickyAssignor] {
            let assignment = assignor.assign(&group);
            prop_assert!(even(assignment.iter().map(Vec::len).collect()), "{}", assignor.name());
        }
        for topic in group.topics.keys() {
            let of_topic = |partitions: &Vec<TopicPartition>| {
                partitions.iter().filter(|of| of.topic() == &**topic).count()
            };
            let assignment = RangeAssignor.assign(&group);
            prop_assert!(even(assignment.iter().map(of_topic).collect()), "range, {}", topic);
        }
    }

    #[test]
    fn sticky_moves_as_few_partitions_as_even_shares_allow(group in group(true)) {
        let assignment = CooperativeStickyAssignor.assign(&group);
        let kept = assignment.iter().zip(&group.members);
        let kept = kept.map(|(now, member)| now.iter().filter(|of| member.owned.contains(of)).count());
        prop_assert_eq!(kept.sum::<usize>(), kept_at_most(&group));
    }

    #[test]
    fn sticky_leaves_no_move_that_would_make_shares_more_even(group in group(false)) {
        let assignment = CooperativeStickyAssignor.assign(&group);
        for (giver, partitions) in assignment.iter().enumerate() {
            for of in partitions {
                for (taker, member) in group.members.iter().enumerate() {
                    let uneven = assignment[taker].len() + 2 <= assignment[giver].len();
                    prop_assert!(!(uneven && group.allows(member, of)), "{of}: {giver} to {taker}");
                }
            }
        }
    }

    #[test]
    fn what_sticky_has_assigned_it_assigns_again(group in group(false)) {
        let assignment = CooperativeStickyAssignor.assign(&group);
        let mut again = group;
        for (member, owned) in again.members.iter_mut().zip(&assignment) {
            member.owned.clone_from(owned);
        }
        prop_assert_eq!(CooperativeStickyAssignor.assign(&again), assignment);
    }

    #[test]
    fn the_same_group_gives_the_same_assignment(group in group(false)) {
        for assignor in assignors() {
            prop_assert_eq!(assignor.assign(&group), assignor.assign(&group.clone()));
        }
    }
}

/// An assignor that gives everything to everybody, and what does not exist too.
#[derive(Debug)]
struct Careless;

impl Assignor for Careless {
    fn name(&self) -> &'static str {
        "careless"
    }

    fn assign(&self, group: &GroupSubscription) -> Vec<Vec<TopicPartition>> {
        let all = vec![of("orders", 0), of("orders", 1), of("orders", 9), of("nowhere", 0)];
        vec![all; group.members.len() + 1]
    }
}

#[test]
fn what_an_assignor_must_not_say_is_left_out() {
    let group = GroupSubscription::new()
        .topic("orders", 2)
        .member(MemberSubscription::new("a", ["payments"]))
        .member(MemberSubscription::new("b", ["orders"]))
        .member(MemberSubscription::new("c", ["orders"]));
    let assignment = assign(&Careless, &group);
    let all = BTreeSet::from([of("orders", 0), of("orders", 1)]);
    assert_eq!(assignment, [BTreeSet::new(), all, BTreeSet::new()]);
}

#[test]
fn round_robin_passes_over_whoever_does_not_subscribe() {
    let group = GroupSubscription::new()
        .topic("orders", 3)
        .topic("payments", 2)
        .member(MemberSubscription::new("a", ["orders", "payments"]))
        .member(MemberSubscription::new("b", ["payments"]))
        .member(MemberSubscription::new("c", ["orders"]));
    let assignment = RoundRobinAssignor.assign(&group);
    let a = vec![of("orders", 0), of("orders", 2), of("payments", 1)];
    assert_eq!(assignment, [a, vec![of("payments", 0)], vec![of("orders", 1)]]);
}
