//! Range: neighbouring partitions, topic by topic.

use crate::group::assignor::{Assignor, GroupSubscription, partitions_of};
use crate::topic_partition::TopicPartition;

/// Gives each member a run of neighbouring partitions of each topic; the first members get one more
/// where that does not come out even.
///
/// Partitions of the same number in topics of the same size go to the same member, so that topics
/// whose records are keyed alike can be joined. With many topics the first members have more to do.
/// Kafka: `RangeAssignor`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct RangeAssignor;

impl Assignor for RangeAssignor {
    fn name(&self) -> &'static str {
        "range"
    }

    fn assign(&self, group: &GroupSubscription) -> Vec<Vec<TopicPartition>> {
        let mut assignment = vec![Vec::new(); group.members.len()];
        for (topic, count) in &group.topics {
            let subscribers = group.subscribers(topic);
            let members = u32::try_from(subscribers.len()).unwrap_or(u32::MAX);
            if members == 0 {
                continue;
            }
            let (share, with_one_more) = (count / members, count % members);
            let mut partitions = partitions_of(topic, *count);
            for (place, member) in (0..).zip(subscribers) {
                let run = share + u32::from(place < with_one_more);
                assignment[member]
                    .extend(partitions.by_ref().take(usize::try_from(run).unwrap_or(usize::MAX)));
            }
        }
        assignment
    }
}
