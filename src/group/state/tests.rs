//! Goal: partitions change hands one owner at a time, nobody else is disturbed, and whoever is out has no
//! say. Method: groups moved by hand, and random sequences checked after each step.

use proptest::prelude::*;

use super::*;
use crate::group::assignor::round_robin::RoundRobinAssignor;
use crate::group::assignor::sticky::CooperativeStickyAssignor;
use crate::group::assignor::{self};

const MINUTE: Duration = Duration::from_secs(60);
const NOW: Duration = Duration::ZERO;

fn of(partition: u32) -> TopicPartition {
    TopicPartition::new("orders", partition)
}

fn all(partitions: std::ops::Range<u32>) -> Vec<TopicPartition> {
    partitions.map(of).collect()
}

fn topics(partitions: u32) -> Topics {
    let id = "AAAAAAAAAAAAAAAAAAABbA".parse().unwrap();
    Topics::from([(Arc::from("orders"), Some(TopicFacts { id, partitions }))])
}

fn joining() -> Joining {
    Joining {
        client_id: Arc::from("worker"),
        instance_id: None,
        topics: BTreeSet::from([Arc::from("orders")]),
        max_poll_interval: MINUTE,
        assignor: Arc::new(CooperativeStickyAssignor),
        coming: Coming::New,
    }
}

fn named(instance_id: &str) -> Joining {
    Joining { instance_id: Some(Arc::from(instance_id)), ..joining() }
}

fn try_join(group: &mut Group, id: u64, joining: Joining) -> Result<Membership> {
    let instance_id = joining.instance_id.clone();
    let pulse = Arc::new(Pulse::new(NOW, Arc::default()));
    group.join("g", MemberId(id), joining, &pulse, 10)?;
    Ok(Membership { member_id: MemberId(id), instance_id, generation: group.generation(), pulse })
}

fn join(group: &mut Group, id: u64) -> Membership {
    try_join(group, id, joining()).unwrap()
}

fn assign(group: &mut Group, by: &Membership) {
    let asked = group.claim(by.member_id).expect("an assignment is due");
    let assignment = assignor::assign(&*asked.assignor, &asked.subscription);
    group.assigned(&asked, assignment);
}

/// Takes what there is to take, and says what.
fn take(group: &mut Group, member: &Membership) -> Vec<TopicPartition> {
    match group.step(member).unwrap() {
        Step::Assign(taken) => taken.into_iter().map(|taken| taken.topic_partition).collect(),
        other => panic!("{other:?}"),
    }
}

/// Gives back what there is to give back, and says what.
fn give(group: &mut Group, member: &Membership) -> Vec<TopicPartition> {
    match group.step(member).unwrap() {
        Step::Revoke(revoked) => {
            group.release(member.member_id, &revoked);
            revoked
        }
        other => panic!("{other:?}"),
    }
}

/// A group of one that reads four partitions.
fn of_one() -> (Group, Membership) {
    let mut group = Group::default();
    let one = join(&mut group, 1);
    group.set_topics(topics(4));
    assign(&mut group, &one);
    assert_eq!(take(&mut group, &one), all(0..4));
    assert_eq!(group.state(), GroupState::Stable);
    (group, one)
}

/// A group of two, with two partitions each.
fn of_two() -> (Group, Membership, Membership) {
    let (mut group, one) = of_one();
    let two = join(&mut group, 2);
    assign(&mut group, &two);
    give(&mut group, &one);
    take(&mut group, &two);
    (group, one, two)
}

fn owned(group: &Group, member: &Membership) -> Vec<TopicPartition> {
    let owned = group.owners.iter().filter(|(_, owner)| **owner == member.member_id);
    owned.map(|(of, _)| of.clone()).collect()
}

#[test]
fn every_phase_answers_every_event() {
    use Event::{Abandoned, Assigned, Changed, Claimed, Reconciled, Unsettled};
    use Phase::{Assigning, Empty, Reconciling, Stable};
    let (free, claimed) = (Assigning { by: None }, Assigning { by: Some(MemberId(1)) });
    let events = [
        Changed { members: 0 },
        Changed { members: 1 },
        Claimed(MemberId(1)),
        Abandoned,
        Assigned,
        Reconciled,
        Unsettled,
    ];
    let (to, no) = (Some, None);
    for (phase, answers) in [
        (Empty, [to(Empty), to(free), no, no, no, no, no]),
        (free, [to(Empty), to(free), to(claimed), no, no, no, no]),
        (claimed, [to(Empty), to(free), no, to(free), to(Reconciling), no, no]),
        (Reconciling, [to(Empty), to(free), no, no, no, to(Stable), to(Reconciling)]),
        (Stable, [to(Empty), to(free), no, no, no, to(Stable), to(Reconciling)]),
    ] {
        for (event, answer) in events.into_iter().zip(answers) {
            assert_eq!(phase.next(event), answer, "{phase:?}, {event:?}");
        }
    }
}

#[test]
fn a_partition_that_moves_is_handed_over_only_after_it_was_given_back() {
    let (mut group, one) = of_one();
    let two = join(&mut group, 2);
    assign(&mut group, &two);
    assert_eq!(group.step(&two), Ok(Step::Nothing), "the first has them all still");
    assert_eq!(give(&mut group, &one), all(2..4));
    assert_eq!(take(&mut group, &two), all(2..4));
    assert_eq!((owned(&group, &one), owned(&group, &two)), (all(0..2), all(2..4)));
    assert_eq!(group.state(), GroupState::Stable);
}

#[test]
fn every_change_makes_one_generation() {
    let (mut group, one) = of_one();
    assert_eq!(group.generation(), 1, "its first member, with its topics");
    let two = join(&mut group, 2);
    assert_eq!(group.generation(), 2);
    assign(&mut group, &two);
    give(&mut group, &one);
    take(&mut group, &two);
    assert_eq!(group.generation(), 2, "handing over is none");
    group.set_topics(topics(4));
    assert_eq!(group.generation(), 2, "nothing new");
    group.set_topics(topics(5));
    assert_eq!(group.generation(), 3);
    group.claim(one.member_id).unwrap();
    group.set_topics(topics(6));
    assert_eq!(group.generation(), 4, "what is being computed is out of date");
}

#[test]
fn nothing_changes_hands_while_the_assignment_is_not_there() {
    let (mut group, one) = of_one();
    join(&mut group, 2);
    assert_eq!(group.state(), GroupState::Assigning);
    assert_eq!(group.step(&one), Ok(Step::Nothing));
}

#[test]
fn a_member_whose_partitions_stay_is_not_told_of_a_rebalance() {
    let (mut group, one, two) = of_two();
    let three = join(&mut group, 3);
    one.pulse.take_news();
    two.pulse.take_news();
    assign(&mut group, &three);
    let gives = [&one, &two].map(|member| !matches!(group.step(member), Ok(Step::Nothing)));
    assert_eq!(gives.iter().filter(|gives| **gives).count(), 1, "four for three: one moves");
    assert_eq!([one.pulse.take_news(), two.pulse.take_news()], gives);
}

#[test]
fn whoever_is_to_have_a_partition_is_woken_when_it_is_free() {
    let (mut group, one) = of_one();
    let two = join(&mut group, 2);
    assign(&mut group, &two);
    two.pulse.take_news();
    give(&mut group, &one);
    assert!(two.pulse.take_news());
    assert!(!one.pulse.take_news() || group.step(&one) == Ok(Step::Nothing));
}

#[test]
fn what_a_member_had_is_free_when_it_leaves_and_the_others_are_told() {
    let (mut group, one, two) = of_two();
    let generation = group.generation();
    one.pulse.take_news();
    group.leave(two.member_id, NOW);
    assert!(one.pulse.take_news());
    assert_eq!(group.generation(), generation + 1);
    assign(&mut group, &one);
    assert_eq!(take(&mut group, &one), all(2..4));
    assert_eq!(owned(&group, &one), all(0..4));
}

#[test]
fn a_member_that_is_silent_for_too_long_loses_its_partitions_and_its_say() {
    let (mut group, one, two) = of_two();
    one.pulse.beat(MINUTE).unwrap();
    group.expire(MINUTE);
    assert_eq!(group.members.len(), 2, "exactly as long as allowed");
    group.expire(MINUTE + Duration::from_nanos(1));
    assert_eq!(group.step(&two), Err(Ended::Expired));
    let late = group.check_commit("g", Some(&two), all(2..3).iter()).unwrap_err();
    assert!(matches!(late, Error::FencedGeneration { .. }), "{late}");
    assign(&mut group, &one);
    assert_eq!(take(&mut group, &one), all(2..4));
}

#[test]
fn only_whoever_has_a_partition_commits_for_it() {
    let (mut group, one) = of_one();
    let two = join(&mut group, 2);
    assign(&mut group, &two);
    let check = |group: &Group, member: Option<&Membership>, partition: u32| {
        group.check_commit("g", member, [of(partition)].iter())
    };
    check(&group, Some(&one), 3).expect("it is to go, and still there");
    let early = check(&group, Some(&two), 3).unwrap_err();
    assert!(matches!(early, Error::NotAssigned { .. }), "{early}");
    give(&mut group, &one);
    let late = check(&group, Some(&one), 3).unwrap_err();
    assert!(matches!(late, Error::NotAssigned { .. }), "{late}");
    take(&mut group, &two);
    check(&group, Some(&two), 3).unwrap();
    check(&group, Some(&one), 0).expect("another generation, the same owner");
    let outsider = check(&group, None, 0).unwrap_err();
    assert!(matches!(outsider, Error::GroupOccupied { .. }), "{outsider}");
    group.leave(one.member_id, NOW);
    group.leave(two.member_id, NOW);
    check(&group, None, 0).unwrap();
    assert!(matches!(check(&group, Some(&one), 0), Err(Error::FencedGeneration { .. })));
}

#[test]
fn an_assignment_that_comes_too_late_is_thrown_away() {
    let mut group = Group::default();
    let one = join(&mut group, 1);
    group.set_topics(topics(4));
    let asked = group.claim(one.member_id).unwrap();
    assert!(group.claim(one.member_id).is_none(), "it is being computed");
    let two = join(&mut group, 2);
    group.assigned(&asked, vec![all(0..4).into_iter().collect()]);
    assert_eq!(group.state(), GroupState::Assigning);
    assign(&mut group, &two);
    assert_eq!(take(&mut group, &two).len(), 2);
}

#[test]
fn a_claim_that_is_given_up_passes_to_whoever_comes() {
    let mut group = Group::default();
    let (one, two) = (join(&mut group, 1), join(&mut group, 2));
    group.claim(one.member_id).unwrap();
    group.abandon(two.member_id);
    assert!(group.claim(two.member_id).is_none(), "only its owner gives it up");
    two.pulse.take_news();
    group.abandon(one.member_id);
    assert!(two.pulse.take_news());
    assert!(group.claim(two.member_id).is_some());
}

#[test]
fn a_claim_ends_with_its_member() {
    let mut group = Group::default();
    let (one, two) = (join(&mut group, 1), join(&mut group, 2));
    group.claim(one.member_id).unwrap();
    group.leave(one.member_id, NOW);
    assert!(group.claim(two.member_id).is_some());
}

#[test]
fn new_partitions_are_read_from_their_start_and_the_first_ones_from_where_the_policy_says() {
    let (mut group, one) = of_one();
    group.set_topics(topics(6));
    assign(&mut group, &one);
    let Ok(Step::Assign(new)) = group.step(&one) else { panic!("there are two more") };
    let hand_over = |n| HandedOver { topic_partition: of(n), start: Some(0) };
    assert_eq!(new, [hand_over(4), hand_over(5)]);
}

#[test]
fn a_successor_begins_where_the_group_began_if_nothing_is_committed() {
    let (mut group, one) = of_one();
    group.began(one.member_id, vec![(of(3), 17), (of(9), 1)]);
    let two = join(&mut group, 2);
    assign(&mut group, &two);
    give(&mut group, &one);
    let Ok(Step::Assign(taken)) = group.step(&two) else { panic!("two are free") };
    let starts: Vec<_> = taken.iter().map(|taken| taken.start).collect();
    assert_eq!(starts, [None, Some(17)]);
    group.began(one.member_id, vec![(of(2), 5)]);
    assert_eq!(group.starts.get(&of(2)), None, "it is not its owner any more");
}

#[test]
fn a_full_group_and_another_assignor_are_refused() {
    let mut group = Group::default();
    for id in 0..10 {
        join(&mut group, id);
    }
    let generation = group.generation();
    let refused = try_join(&mut group, 11, joining()).unwrap_err();
    assert!(matches!(refused, Error::GroupMaxSizeReached { max_size: 10, .. }), "{refused}");
    let other = Joining { assignor: Arc::new(RoundRobinAssignor), ..joining() };
    let refused = try_join(&mut group, 12, other).unwrap_err();
    assert!(matches!(refused, Error::InconsistentAssignor { .. }), "{refused}");
    assert_eq!(group.generation(), generation);
}

#[test]
fn a_worker_that_is_restarted_has_its_share_back_and_nobody_else_notices() {
    let mut group = Group::default();
    let one = try_join(&mut group, 1, named("a")).unwrap();
    let two = try_join(&mut group, 2, named("b")).unwrap();
    group.set_topics(topics(4));
    assign(&mut group, &one);
    let share = take(&mut group, &one);
    take(&mut group, &two);
    let generation = group.generation();
    two.pulse.take_news();

    group.leave(one.member_id, NOW);
    assert_eq!(group.state(), GroupState::Stable, "its share waits for it");
    let again = try_join(&mut group, 3, named("a")).unwrap();
    assert_eq!(take(&mut group, &again), share);
    assert_eq!((group.generation(), group.state()), (generation, GroupState::Stable));
    assert!(!two.pulse.take_news());
}

#[test]
fn a_worker_that_is_restarted_while_an_assignment_is_computed_is_not_forgotten() {
    let mut group = Group::default();
    let one = try_join(&mut group, 1, named("a")).unwrap();
    let two = try_join(&mut group, 2, named("b")).unwrap();
    group.set_topics(topics(4));
    let asked = group.claim(two.member_id).unwrap();
    group.leave(one.member_id, NOW);
    let again = try_join(&mut group, 3, named("a")).unwrap();
    group.assigned(&asked, assignor::assign(&*asked.assignor, &asked.subscription));
    assert_eq!(group.step(&two), Ok(Step::Nothing), "out of date");
    assign(&mut group, &again);
    assert_eq!((take(&mut group, &again).len(), take(&mut group, &two).len()), (2, 2));
}

#[test]
fn a_worker_that_does_not_come_back_in_time_loses_its_share() {
    let mut group = Group::default();
    let one = try_join(&mut group, 1, named("a")).unwrap();
    let two = try_join(&mut group, 2, named("b")).unwrap();
    group.set_topics(topics(4));
    assign(&mut group, &one);
    take(&mut group, &one);
    take(&mut group, &two);
    group.leave(one.member_id, MINUTE);
    two.pulse.beat(MINUTE * 2).unwrap();
    group.expire(MINUTE * 2);
    assert_eq!(group.members.len(), 2, "the time counts from when it left");
    two.pulse.beat(MINUTE * 3).unwrap();
    group.expire(MINUTE * 3);
    assign(&mut group, &two);
    take(&mut group, &two);
    assert_eq!(owned(&group, &two), all(0..4));
}

#[test]
fn a_second_consumer_of_the_same_instance_id_fences_the_first() {
    let mut group = Group::default();
    let one = try_join(&mut group, 1, named("a")).unwrap();
    group.set_topics(topics(4));
    assign(&mut group, &one);
    take(&mut group, &one);
    let again = try_join(&mut group, 2, named("a")).unwrap();
    assert_eq!(group.step(&one), Err(Ended::Replaced));
    let late = group.check_commit("g", Some(&one), [].iter()).unwrap_err();
    assert!(matches!(late, Error::FencedInstanceId { .. }), "{late}");
    assert_eq!(take(&mut group, &again), all(0..4));
    group.leave(one.member_id, NOW);
    assert_eq!(owned(&group, &again), all(0..4), "the first one's end is no news");
}

#[test]
fn a_worker_that_was_expired_does_not_come_back_over_its_successor() {
    let mut group = Group::default();
    let one = try_join(&mut group, 1, named("a")).unwrap();
    group.expire(MINUTE * 2);
    let again = || Joining { coming: Coming::Again, ..named("a") };
    let two = try_join(&mut group, 2, named("a")).unwrap();
    let refused = try_join(&mut group, 3, again()).unwrap_err();
    assert!(matches!(refused, Error::FencedInstanceId { .. }), "{refused}");
    assert!(group.member(two.member_id).is_some() && group.member(one.member_id).is_none());
    two.pulse.expire(MINUTE * 2, MINUTE);
    group.expire(MINUTE * 2);
    try_join(&mut group, 4, again()).unwrap();
}

#[test]
fn an_empty_group_goes_on_counting_and_remembers_nothing_else() {
    let (mut group, one) = of_one();
    let generation = group.generation();
    group.leave(one.member_id, NOW);
    assert_eq!((group.generation(), group.state()), (generation + 1, GroupState::Empty));
    assert!(group.owners.is_empty() && group.target.is_empty() && group.topics.is_empty());
}

/// Something that happens to a group, to the member of that number where it is about one.
#[derive(Debug, Clone)]
enum Op {
    Join { named: bool },
    Leave(usize),
    Silent(usize),
    Poll(usize),
    Claim(usize),
    Revoked(usize),
    Grow,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        1 => any::<bool>().prop_map(|named| Op::Join { named }),
        1 => any::<usize>().prop_map(Op::Leave),
        1 => any::<usize>().prop_map(Op::Silent),
        6 => any::<usize>().prop_map(Op::Poll),
        2 => any::<usize>().prop_map(Op::Claim),
        3 => any::<usize>().prop_map(Op::Revoked),
        1 => Just(Op::Grow),
    ]
}

/// A member as its consumer sees it.
struct Seen {
    membership: Membership,
    reads: BTreeSet<TopicPartition>,
    to_give_back: Vec<TopicPartition>,
    /// The assignment that it computes.
    asked: Option<ToAssign>,
}

#[derive(Default)]
struct World {
    group: Group,
    members: Vec<Seen>,
    next_id: u64,
    partitions: u32,
}

impl World {
    fn apply(&mut self, op: &Op) {
        match op {
            Op::Join { named: is_named } if self.members.len() < 6 => {
                self.next_id += 1;
                let joining = if *is_named { named("a") } else { joining() };
                let membership = try_join(&mut self.group, self.next_id, joining).unwrap();
                let (reads, to_give_back) = (BTreeSet::new(), Vec::new());
                self.members.push(Seen { membership, reads, to_give_back, asked: None });
                self.group.set_topics(topics(self.partitions));
            }
            Op::Grow => {
                self.partitions = (self.partitions + 3).min(12);
                if !self.members.is_empty() {
                    self.group.set_topics(topics(self.partitions));
                }
            }
            Op::Leave(at) if !self.members.is_empty() => {
                let gone = self.members.swap_remove(at % self.members.len());
                self.group.leave(gone.membership.member_id, NOW);
            }
            Op::Silent(at) if !self.members.is_empty() => {
                // It is expired, and finds out when it polls next.
                let at = at % self.members.len();
                self.members[at].membership.pulse.expire(MINUTE * 2, MINUTE);
                self.group.expire(NOW);
            }
            Op::Poll(at) if !self.members.is_empty() => self.poll(at % self.members.len()),
            Op::Claim(at) if !self.members.is_empty() => {
                let at = at % self.members.len();
                let seen = &mut self.members[at];
                if seen.asked.is_none() {
                    seen.asked = self.group.claim(seen.membership.member_id);
                }
            }
            Op::Revoked(at) if !self.members.is_empty() => {
                let at = at % self.members.len();
                let seen = &mut self.members[at];
                let given_back = std::mem::take(&mut seen.to_give_back);
                seen.reads.retain(|of| !given_back.contains(of));
                self.group.release(seen.membership.member_id, &given_back);
            }
            _ => {}
        }
    }

    fn poll(&mut self, at: usize) {
        let seen = &mut self.members[at];
        if !seen.to_give_back.is_empty() {
            return;
        }
        let claimed = seen.asked.take();
        if let Some(asked) = claimed.or_else(|| self.group.claim(seen.membership.member_id)) {
            let assignment = assignor::assign(&*asked.assignor, &asked.subscription);
            self.group.assigned(&asked, assignment);
        }
        match self.group.step(&seen.membership) {
            Ok(Step::Assign(taken)) => {
                seen.reads.extend(taken.into_iter().map(|taken| taken.topic_partition));
            }
            Ok(Step::Revoke(revoked)) => seen.to_give_back = revoked,
            Ok(Step::Nothing) => {}
            Err(_) => {
                self.members.swap_remove(at);
            }
        }
    }

    /// What every live member reads is its own in the eyes of the group, and nobody else's.
    fn check(&self) {
        let mut readers = BTreeMap::new();
        for seen in &self.members {
            if self.group.member(seen.membership.member_id).is_none() {
                continue;
            }
            assert_eq!(Vec::from_iter(seen.reads.clone()), owned(&self.group, &seen.membership));
            for of in &seen.reads {
                assert!(readers.insert(of, seen.membership.member_id).is_none(), "{of}");
            }
        }
    }

    /// Lets everybody poll until nothing changes.
    fn settle(&mut self) {
        for _ in 0..4 {
            for at in (0..self.members.len()).rev() {
                self.apply(&Op::Revoked(at));
                self.poll(at);
            }
        }
    }
}

proptest! {
    #[test]
    fn whatever_happens_nothing_is_read_by_two_and_in_the_end_everything_by_one(
        ops in prop::collection::vec(op(), 1..60)
    ) {
        let mut world = World { partitions: 3, ..World::default() };
        for op in &ops {
            world.apply(op);
            world.check();
        }
        world.settle();
        world.check();
        let away = world.group.members.iter().any(|member| member.presence == Presence::Away);
        if !world.members.is_empty() && !away {
            let read: usize = world.members.iter().map(|seen| seen.reads.len()).sum();
            prop_assert_eq!(read, world.partitions as usize);
            prop_assert_eq!(world.group.state(), GroupState::Stable);
        }
    }
}
