//! Round robin: one partition after the other, to one member after the other.

use crate::group::assignor::{Assignor, GroupSubscription, partitions_of};
use crate::topic_partition::TopicPartition;

/// Deals all partitions of all topics out in turn.
///
/// Members that subscribe to the same topics get the same number, give or take one. When somebody comes
/// or goes, most partitions change hands. Kafka: `RoundRobinAssignor`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct RoundRobinAssignor;

impl Assignor for RoundRobinAssignor {
    fn name(&self) -> &'static str {
        "roundrobin"
    }

    fn assign(&self, group: &GroupSubscription) -> Vec<Vec<TopicPartition>> {
        let count = group.members.len();
        let mut assignment = vec![Vec::new(); count];
        let mut turn = 0;
        for (topic, partitions) in &group.topics {
            let subscribers = group.subscribers(topic);
            if subscribers.is_empty() {
                continue;
            }
            for of in partitions_of(topic, *partitions) {
                // Whoever does not subscribe is passed over.
                let place = subscribers.partition_point(|member| *member < turn);
                let member = subscribers.get(place).copied().unwrap_or(subscribers[0]);
                assignment[member].push(of);
                turn = (member + 1) % count;
            }
        }
        assignment
    }
}
