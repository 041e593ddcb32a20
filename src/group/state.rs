//! What a group is at any moment: its member, its generation, its committed offsets. Pure: nothing
//! here touches a log.
//!
//! Offsets change only by applying a [`Change`], be it fresh or replayed. Membership changes only
//! by joining and leaving.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::group::OffsetAndMetadata;
use crate::time::Timestamp;
use crate::topic_partition::TopicPartition;

/// Identifies a member; never given twice by one broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MemberId(pub(crate) u64);

/// What a member got when it joined: it shows this with every commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Membership {
    pub(crate) member_id: MemberId,
    pub(crate) generation: u32,
}

/// Whether a group has a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GroupState {
    /// Nobody is in it. Joins are granted; commits are taken from those who never joined.
    Empty { generation: u32 },
    /// It has its one member. Joins are refused as occupied; commits are taken from the member.
    Stable { member: Membership },
}

impl GroupState {
    pub(crate) fn generation(self) -> u32 {
        match self {
            Self::Empty { generation } => generation,
            Self::Stable { member } => member.generation,
        }
    }

    /// After a join; `None` if it has to be refused.
    fn with(self, joining: MemberId) -> Option<Self> {
        let generation = self.next_generation();
        match self {
            Self::Empty { .. } => {
                Some(Self::Stable { member: Membership { member_id: joining, generation } })
            }
            Self::Stable { .. } => None,
        }
    }

    /// After a member has left. One that is not in the group changes nothing: it was fenced before.
    fn without(self, leaving: MemberId) -> Self {
        match self {
            Self::Stable { member } if member.member_id == leaving => {
                Self::Empty { generation: self.next_generation() }
            }
            state => state,
        }
    }

    fn next_generation(self) -> u32 {
        // Wrapping round cannot revive an old membership: member ids differ too.
        self.generation().wrapping_add(1)
    }

    /// Whether a commit by `committer` counts; `None` is somebody who never joined.
    fn check_commit(self, group: &str, committer: Option<&Membership>) -> Result<()> {
        match (self, committer) {
            (Self::Empty { .. }, None) => Ok(()),
            (Self::Stable { .. }, None) => Err(Error::GroupOccupied { group: group.to_owned() }),
            (Self::Stable { member }, Some(committer)) if member == *committer => Ok(()),
            (state, Some(committer)) => Err(Error::FencedGeneration {
                group: group.to_owned(),
                generation: committer.generation,
                current: state.generation(),
            }),
        }
    }
}

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

#[derive(Debug)]
struct Group {
    state: GroupState,
    offsets: BTreeMap<TopicPartition, Committed>,
}

const NOBODY: GroupState = GroupState::Empty { generation: 0 };

impl Default for Group {
    fn default() -> Self {
        Self { state: NOBODY, offsets: BTreeMap::new() }
    }
}

impl Group {
    /// Nothing about it is worth remembering.
    fn is_void(&self) -> bool {
        self.offsets.is_empty() && matches!(self.state, GroupState::Empty { .. })
    }
}

/// Groups by name.
#[derive(Debug, Default)]
pub(crate) struct Groups(BTreeMap<String, Group>);

impl Groups {
    /// Takes a member into a group.
    pub(crate) fn join(&mut self, group: &str, member_id: MemberId) -> Result<Membership> {
        let occupied = || Error::GroupOccupied { group: group.to_owned() };
        let state = self.state(group).with(member_id).ok_or_else(occupied)?;
        self.0.entry(group.to_owned()).or_default().state = state;
        Ok(Membership { member_id, generation: state.generation() })
    }

    /// Lets a member go. A group without members and offsets is forgotten.
    pub(crate) fn leave(&mut self, group: &str, member_id: MemberId) {
        let Some(entry) = self.0.get_mut(group) else { return };
        entry.state = entry.state.without(member_id);
        if entry.is_void() {
            self.0.remove(group);
        }
    }

    /// Whether a commit to a group counts.
    pub(crate) fn check_commit(&self, group: &str, committer: Option<&Membership>) -> Result<()> {
        self.state(group).check_commit(group, committer)
    }

    pub(crate) fn state(&self, group: &str) -> GroupState {
        self.0.get(group).map_or(NOBODY, |group| group.state)
    }

    /// The only way in which offsets change.
    pub(crate) fn apply(&mut self, change: Change) {
        let Change { group, topic_partition, committed } = change;
        if let Some(committed) = committed {
            let offsets = &mut self.0.entry(group).or_default().offsets;
            offsets.insert(topic_partition, committed);
        } else if let Some(entry) = self.0.get_mut(&group) {
            entry.offsets.remove(&topic_partition);
            if entry.is_void() {
                self.0.remove(&group);
            }
        }
    }

    /// Forgets all offsets: they are about to be replayed from the start. Members stay.
    pub(crate) fn clear_offsets(&mut self) {
        for group in self.0.values_mut() {
            group.offsets.clear();
        }
        self.0.retain(|_, group| !group.is_void());
    }

    pub(crate) fn committed(&self, group: &str, of: &TopicPartition) -> Option<&Committed> {
        self.0.get(group)?.offsets.get(of)
    }

    /// What a group has committed, in order; `None` if there is no such group.
    pub(crate) fn offsets(&self, group: &str) -> Option<&BTreeMap<TopicPartition, Committed>> {
        self.0.get(group).map(|group| &group.offsets)
    }

    /// The names of all groups in order.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Everything that is committed, as the records that would say so.
    pub(crate) fn live(&self) -> impl Iterator<Item = Change> {
        self.0.iter().flat_map(|(name, group)| {
            group.offsets.iter().map(|(topic_partition, committed)| Change {
                group: name.clone(),
                topic_partition: topic_partition.clone(),
                committed: Some(committed.clone()),
            })
        })
    }

    /// The changes that forget what a group has committed.
    pub(crate) fn forgetting_group(&self, name: &str) -> Vec<Change> {
        let offsets = self.offsets(name).into_iter().flatten();
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
    fn every_state_answers_every_event() {
        let (one, other) = (MemberId(1), MemberId(2));
        let empty = GroupState::Empty { generation: 4 };
        let member = Membership { member_id: one, generation: 5 };
        let stable = GroupState::Stable { member };
        assert_eq!(empty.with(one), Some(stable));
        assert_eq!(empty.without(one), empty);
        assert_eq!(stable.with(other), None);
        assert_eq!(stable.without(other), stable, "not its member");
        assert_eq!(stable.without(one), GroupState::Empty { generation: 6 });
    }

    #[test]
    fn only_the_present_member_may_commit_to_an_occupied_group() {
        let mut groups = Groups::default();
        let first = groups.join("g", MemberId(1)).unwrap();
        groups.check_commit("g", Some(&first)).unwrap();
        assert!(matches!(groups.check_commit("g", None), Err(Error::GroupOccupied { .. })));
        groups.leave("g", first.member_id);
        let second = groups.join("g", MemberId(2)).unwrap();
        assert!(matches!(
            groups.check_commit("g", Some(&first)),
            Err(Error::FencedGeneration { .. })
        ));
        groups.check_commit("g", Some(&second)).unwrap();
    }

    #[test]
    fn a_member_that_left_is_fenced_even_when_the_group_was_forgotten() {
        let mut groups = Groups::default();
        let gone = groups.join("g", MemberId(1)).unwrap();
        groups.leave("g", gone.member_id);
        assert_eq!(groups.names().count(), 0, "nothing is left of it");
        assert!(matches!(
            groups.check_commit("g", Some(&gone)),
            Err(Error::FencedGeneration { .. })
        ));
        let next = groups.join("g", MemberId(2)).unwrap();
        assert_eq!(next.generation, gone.generation, "counted anew, and still told apart");
        assert!(groups.check_commit("g", Some(&gone)).is_err());
        groups.check_commit("g", Some(&next)).unwrap();
    }

    #[test]
    fn the_latest_commit_counts_and_a_tombstone_forgets() {
        let mut groups = Groups::default();
        groups.apply(commit("g", "orders", 5));
        groups.apply(commit("g", "orders", 3));
        assert_eq!(groups.committed("g", &address()).unwrap().offset, 3);
        groups.apply(Change { committed: None, ..commit("g", "orders", 0) });
        assert_eq!(groups.committed("g", &address()), None);
        assert_eq!(groups.names().count(), 0);
    }

    #[test]
    fn corrections_lower_what_is_beyond_the_end_and_drop_what_has_no_log() {
        let mut groups = Groups::default();
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
