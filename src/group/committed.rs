//! What groups have committed. Pure: nothing here touches a log.
//!
//! It changes only by applying a [`Change`], be it fresh or replayed.

use std::collections::BTreeMap;

use crate::group::OffsetAndMetadata;
use crate::time::Timestamp;
use crate::topic_partition::TopicPartition;

/// What a group has committed for a partition, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Committed {
    pub(crate) offset: u64,
    pub(crate) leader_epoch: Option<u32>,
    pub(crate) metadata: String,
    pub(crate) timestamp: Timestamp,
}

impl From<&Committed> for OffsetAndMetadata {
    fn from(committed: &Committed) -> Self {
        Self::new(committed.offset).metadata(committed.metadata.as_str())
    }
}

/// One change of what a group has committed: one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) group: String,
    pub(crate) topic_partition: TopicPartition,
    /// `None`: it is forgotten.
    pub(crate) committed: Option<Committed>,
}

impl Change {
    /// About how many bytes its record takes.
    pub(crate) fn size_estimate(&self) -> u64 {
        /// Lengths, versions, offsets and timestamps.
        const FIXED: usize = 56;
        let metadata = self.committed.as_ref().map_or(0, |committed| committed.metadata.len());
        (FIXED + self.group.len() + self.topic_partition.topic().len() + metadata) as u64
    }
}

/// Committed offsets by the name of the group; those that have none are not there.
#[derive(Debug, Default)]
pub(crate) struct CommittedOffsets(BTreeMap<String, BTreeMap<TopicPartition, Committed>>);

impl CommittedOffsets {
    /// The only way in which they change.
    pub(crate) fn apply(&mut self, change: Change) {
        let Change { group, topic_partition, committed } = change;
        if let Some(committed) = committed {
            self.0.entry(group).or_default().insert(topic_partition, committed);
        } else if let Some(offsets) = self.0.get_mut(&group) {
            offsets.remove(&topic_partition);
            if offsets.is_empty() {
                self.0.remove(&group);
            }
        }
    }

    /// Forgets all: they are about to be replayed from the start.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    pub(crate) fn committed(&self, group: &str, of: &TopicPartition) -> Option<&Committed> {
        self.0.get(group)?.get(of)
    }

    /// What a group has committed, in order; `None` if nothing.
    pub(crate) fn of_group(&self, group: &str) -> Option<&BTreeMap<TopicPartition, Committed>> {
        self.0.get(group)
    }

    /// The names of all groups that have committed something, in order.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Everything that is committed, as the records that would say so.
    pub(crate) fn live(&self) -> impl Iterator<Item = Change> {
        self.0.iter().flat_map(|(name, offsets)| {
            offsets.iter().map(|(topic_partition, committed)| Change {
                group: name.clone(),
                topic_partition: topic_partition.clone(),
                committed: Some(committed.clone()),
            })
        })
    }

    /// The changes that forget what a group has committed.
    pub(crate) fn forgetting_group(&self, name: &str) -> Vec<Change> {
        let offsets = self.of_group(name).into_iter().flatten();
        let forget = |(topic_partition, _): (&TopicPartition, _)| Change {
            group: name.to_owned(),
            topic_partition: topic_partition.clone(),
            committed: None,
        };
        offsets.map(forget).collect()
    }

    /// The changes that forget what any group has committed for a topic.
    pub(crate) fn forgetting_topic(&self, topic: &str) -> Vec<Change> {
        let of_topic = self.live().filter(|change| change.topic_partition.topic() == topic);
        of_topic.map(|change| Change { committed: None, ..change }).collect()
    }

    /// What has to change so that no committed offset lies beyond the end of its log or in a
    /// partition that does not exist (contract, clause 28).
    ///
    /// A log can end earlier than what was committed when a power cut took records that were not
    /// synced; unless the commit is lowered for good, records appended later would be taken for
    /// consumed ones. `log_end` is `None` for a partition that does not exist.
    pub(crate) fn corrections(
        &self,
        log_end: impl Fn(&TopicPartition) -> Option<u64>,
    ) -> Vec<Change> {
        let correct = |change: Change| {
            let committed = change.committed.as_ref()?;
            match log_end(&change.topic_partition) {
                Some(end) if committed.offset <= end => None,
                Some(end) => {
                    let committed = Committed { offset: end, ..committed.clone() };
                    Some(Change { committed: Some(committed), ..change })
                }
                None => Some(Change { committed: None, ..change }),
            }
        };
        self.live().filter_map(correct).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address() -> TopicPartition {
        TopicPartition::new("orders", 0)
    }

    fn commit(group: &str, topic: &str, offset: u64) -> Change {
        let committed = Committed {
            offset,
            leader_epoch: None,
            metadata: String::new(),
            timestamp: Timestamp::from_millis(1),
        };
        let topic_partition = TopicPartition::new(topic, 0);
        Change { group: group.to_owned(), topic_partition, committed: Some(committed) }
    }

    #[test]
    fn the_latest_commit_counts_and_a_tombstone_forgets() {
        let mut groups = CommittedOffsets::default();
        groups.apply(commit("g", "orders", 5));
        groups.apply(commit("g", "orders", 3));
        assert_eq!(groups.committed("g", &address()).unwrap().offset, 3);
        groups.apply(Change { committed: None, ..commit("g", "orders", 0) });
        assert_eq!(groups.committed("g", &address()), None);
        assert_eq!(groups.names().count(), 0);
    }

    #[test]
    fn corrections_lower_what_is_beyond_the_end_and_drop_what_has_no_log() {
        let mut groups = CommittedOffsets::default();
        for change in [commit("a", "orders", 10), commit("b", "orders", 7), commit("a", "gone", 1)]
        {
            groups.apply(change);
        }
        let log_end = |of: &TopicPartition| (of.topic() == "orders").then_some(7);
        let corrections = groups.corrections(log_end);
        let expected =
            [Change { committed: None, ..commit("a", "gone", 1) }, commit("a", "orders", 7)];
        assert_eq!(corrections, expected);
        for change in corrections {
            groups.apply(change);
        }
        assert_eq!(groups.corrections(log_end), [], "and then all is well");
    }
}
