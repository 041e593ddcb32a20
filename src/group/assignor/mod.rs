//! Who reads what: dividing the partitions of a group's topics among its members.
//!
//! An assignment is a pure function of who is there, what they subscribe to and what they have:
//! [`Assignor::assign`]. It decides alone; that a partition changes hands without two members having it
//! at once is the group's work, whatever the assignor.

pub(crate) mod range;
pub(crate) mod round_robin;
pub(crate) mod sticky;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use crate::topic_partition::TopicPartition;

/// Divides the partitions of a group's topics among its members. Choose one with
/// [`ConsumerBuilder::assignor`](crate::ConsumerBuilder::assignor), or write your own.
///
/// There are [`CooperativeStickyAssignor`](crate::CooperativeStickyAssignor), the default,
/// [`RangeAssignor`](crate::RangeAssignor) and [`RoundRobinAssignor`](crate::RoundRobinAssignor).
/// Kafka: `partition.assignment.strategy`.
///
/// ```
/// use sapwood::{Assignor, GroupSubscription, TopicPartition};
///
/// /// One member does everything; the others stand by.
/// #[derive(Debug)]
/// struct OneWorks;
///
/// impl Assignor for OneWorks {
///     fn name(&self) -> &str {
///         "one-works"
///     }
///
///     fn assign(&self, group: &GroupSubscription) -> Vec<Vec<TopicPartition>> {
///         group.members.iter().take(1).map(|first| group.partitions_for(first).collect()).collect()
///     }
/// }
///
/// # let broker = sapwood::Broker::in_memory()?;
/// # broker.create_topic("orders", sapwood::TopicConfig::default().partitions(2))?;
/// let works = broker.consumer().group("billing").assignor(OneWorks).subscribe(["orders"])?;
/// let stands_by = broker.consumer().group("billing").assignor(OneWorks).subscribe(["orders"])?;
/// assert_eq!((works.assignment().len(), stands_by.assignment().len()), (2, 0));
/// # Ok::<(), sapwood::Error>(())
/// ```
pub trait Assignor: fmt::Debug + Send + Sync {
    /// Its name. All members of a group use assignors of one name.
    fn name(&self) -> &str;

    /// The partitions for each member, in the order of [`GroupSubscription::members`].
    ///
    /// Partitions that are given to nobody are read by nobody; members that are left out at the end get
    /// none. A partition is not given to a member that does not subscribe to its topic, nor to a second
    /// one, even if this says so: then the first one has it.
    ///
    /// Called on the thread of any member, without a lock of the crate's held; again if the group has
    /// changed meanwhile. The same group should give the same assignment: nothing else is remembered.
    fn assign(&self, group: &GroupSubscription) -> Vec<Vec<TopicPartition>>;
}

/// The members of a group, and the topics that they subscribe to: what an [`Assignor`] goes by.
///
/// ```
/// use sapwood::{Assignor, GroupSubscription, MemberSubscription, RangeAssignor, TopicPartition};
///
/// let group = GroupSubscription::new()
///     .topic("orders", 3)
///     .member(MemberSubscription::new("a", ["orders"]))
///     .member(MemberSubscription::new("b", ["orders"]));
/// let orders = |partition| TopicPartition::new("orders", partition);
/// assert_eq!(RangeAssignor.assign(&group), [vec![orders(0), orders(1)], vec![orders(2)]]);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupSubscription {
    /// Always in the same order: those with an instance id in order of these, then the others as they
    /// have joined.
    pub members: Vec<MemberSubscription>,
    /// The topics that somebody subscribes to and that exist, with their numbers of partitions.
    pub topics: BTreeMap<Arc<str>, u32>,
}

impl GroupSubscription {
    /// Nobody, and nothing to read.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a topic.
    #[must_use]
    pub fn topic(mut self, name: impl Into<Arc<str>>, partitions: u32) -> Self {
        self.topics.insert(name.into(), partitions);
        self
    }

    /// Adds a member behind the others.
    #[must_use]
    pub fn member(mut self, member: MemberSubscription) -> Self {
        self.members.push(member);
        self
    }

    /// All partitions that a member may be given, in order.
    pub fn partitions_for(
        &self,
        member: &MemberSubscription,
    ) -> impl Iterator<Item = TopicPartition> {
        self.topics
            .iter()
            .filter(|(topic, _)| member.topics.contains(*topic))
            .flat_map(|(topic, partitions)| partitions_of(topic, *partitions))
    }

    /// Whether a member may be given a partition.
    fn allows(&self, member: &MemberSubscription, of: &TopicPartition) -> bool {
        member.topics.contains(of.topic())
            && self.topics.get(of.topic()).is_some_and(|partitions| of.partition() < *partitions)
    }

    /// Which members subscribe to a topic.
    fn subscribers(&self, topic: &str) -> Vec<usize> {
        let members = self.members.iter().enumerate();
        members.filter(|(_, member)| member.topics.contains(topic)).map(|(at, _)| at).collect()
    }
}

/// What one member subscribes to, and what it has.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemberSubscription {
    /// Identifies it in its group.
    pub member_id: String,
    /// What it is called across restarts, if it has such a name.
    pub instance_id: Option<String>,
    /// The topics it subscribes to, also those that do not exist.
    pub topics: BTreeSet<Arc<str>>,
    /// The partitions it has, or had been going to get. Each is had by one member.
    pub owned: Vec<TopicPartition>,
}

impl MemberSubscription {
    /// A member that has nothing yet.
    #[must_use]
    pub fn new<T: Into<Arc<str>>>(
        member_id: impl Into<String>,
        topics: impl IntoIterator<Item = T>,
    ) -> Self {
        Self {
            member_id: member_id.into(),
            instance_id: None,
            topics: topics.into_iter().map(Into::into).collect(),
            owned: Vec::new(),
        }
    }

    /// Sets the partitions that it has.
    #[must_use]
    pub fn owned(mut self, owned: impl IntoIterator<Item = TopicPartition>) -> Self {
        self.owned = owned.into_iter().collect();
        self
    }
}

fn partitions_of(topic: &Arc<str>, count: u32) -> impl Iterator<Item = TopicPartition> {
    (0..count).map(|partition| TopicPartition::new(Arc::clone(topic), partition))
}

/// Asks an assignor, and leaves out of its answer what cannot be: a partition for a second member, or
/// for one that does not subscribe to it, or that does not exist.
pub(crate) fn assign(
    assignor: &dyn Assignor,
    group: &GroupSubscription,
) -> Vec<BTreeSet<TopicPartition>> {
    let mut answer = assignor.assign(group).into_iter();
    let mut given = BTreeSet::new();
    let members = group.members.iter();
    let accept = |member: &MemberSubscription| {
        let wanted = answer.next().unwrap_or_default().into_iter();
        wanted.filter(|of| group.allows(member, of) && given.insert(of.clone())).collect()
    };
    members.map(accept).collect()
}
