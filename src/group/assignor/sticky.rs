//! Sticky: everybody keeps what they have, as far as the balance allows.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use crate::group::assignor::{Assignor, GroupSubscription, partitions_of};
use crate::topic_partition::TopicPartition;

/// Leaves partitions where they are, and moves as few as a balance takes.
///
/// Members that subscribe to the same topics get the same number, give or take one. Where they subscribe
/// to different ones, no partition could go to a member that has two fewer. Partitions that stay are read
/// on without a break while others move. Kafka: `CooperativeStickyAssignor`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct CooperativeStickyAssignor;

impl Assignor for CooperativeStickyAssignor {
    fn name(&self) -> &'static str {
        "cooperative-sticky"
    }

    fn assign(&self, group: &GroupSubscription) -> Vec<Vec<TopicPartition>> {
        let mut shares = Shares::kept(group);
        shares.fill();
        while shares.move_one() {}
        shares.into_assignment()
    }
}

/// An assignment in the making. Topics and members are their places in the group.
struct Shares<'a> {
    group: &'a GroupSubscription,
    /// Who subscribes to each topic.
    subscribers: Vec<Vec<usize>>,
    /// For each member and each topic, which of its partitions the member has, in order.
    held: Vec<Vec<Vec<u32>>>,
    /// How many partitions each member has.
    loads: Vec<usize>,
}

impl<'a> Shares<'a> {
    /// What everybody has and may keep.
    fn kept(group: &'a GroupSubscription) -> Self {
        let topics: Vec<_> = group.topics.keys().collect();
        let members = group.members.len();
        let mut kept = Self {
            group,
            subscribers: topics.iter().map(|topic| group.subscribers(topic)).collect(),
            held: vec![vec![Vec::new(); topics.len()]; members],
            loads: vec![0; members],
        };
        let mut seen = BTreeSet::new();
        for (at, member) in group.members.iter().enumerate() {
            let mut owned: Vec<_> = member.owned.iter().collect();
            owned.sort();
            for of in owned {
                let topic = topics.binary_search_by(|topic| topic.as_ref().cmp(of.topic()));
                if let Ok(topic) = topic
                    && group.allows(member, of)
                    && seen.insert((topic, of.partition()))
                {
                    kept.give(at, topic, of.partition());
                }
            }
        }
        kept
    }

    fn give(&mut self, member: usize, topic: usize, partition: u32) {
        self.held[member][topic].push(partition);
        self.loads[member] += 1;
    }

    /// The subscriber of a topic that has the fewest partitions; of several, the first.
    fn least_loaded(&self, topic: usize) -> Option<usize> {
        self.subscribers[topic].iter().copied().min_by_key(|member| self.loads[*member])
    }

    /// Gives what nobody has to whoever has the fewest; first what fewest could take.
    fn fill(&mut self) {
        let counts: Vec<u32> = self.group.topics.values().copied().collect();
        let mut order: Vec<usize> = (0..counts.len()).collect();
        order.sort_by_key(|topic| self.subscribers[*topic].len());
        for topic in order {
            let had = self.held.iter().flat_map(|topics| &topics[topic]).copied();
            let had: BTreeSet<u32> = had.collect();
            for partition in (0..counts[topic]).filter(|partition| !had.contains(partition)) {
                if let Some(member) = self.least_loaded(topic) {
                    self.give(member, topic, partition);
                }
            }
        }
    }

    /// Moves one partition from a member to one that has at least two fewer, if there are such. The
    /// squares of the loads add up to less each time, so this comes to an end.
    fn move_one(&mut self) -> bool {
        let takers: Vec<_> = (0..self.subscribers.len()).map(|t| self.least_loaded(t)).collect();
        let mut givers: Vec<usize> = (0..self.loads.len()).collect();
        givers.sort_by_key(|member| Reverse(self.loads[*member]));
        for giver in givers {
            let has = |topic: &usize| !self.held[giver][*topic].is_empty();
            let loads = &self.loads;
            let best = (0..takers.len())
                .filter(has)
                .filter_map(|topic| Some((topic, takers[topic]?)))
                .filter(|(_, taker)| loads[*taker] + 2 <= loads[giver])
                .min_by_key(|(_, taker)| loads[*taker]);
            let Some((topic, taker)) = best else { continue };
            if let Some(partition) = self.held[giver][topic].pop() {
                self.loads[giver] -= 1;
                self.give(taker, topic, partition);
                return true;
            }
        }
        false
    }

    fn into_assignment(self) -> Vec<Vec<TopicPartition>> {
        let topics: Vec<Vec<TopicPartition>> = (self.group.topics.iter())
            .map(|(topic, count)| partitions_of(topic, *count).collect())
            .collect();
        let of_member = |shares: Vec<Vec<u32>>| {
            let mut assigned = Vec::new();
            for (topic, mut partitions) in shares.into_iter().enumerate() {
                partitions.sort_unstable();
                let named = |n: &u32| topics[topic].get(usize::try_from(*n).ok()?).cloned();
                assigned.extend(partitions.iter().filter_map(named));
            }
            assigned
        };
        self.held.into_iter().map(of_member).collect()
    }
}
