//! The members of all groups of a broker: the lock over them, and what must happen without it.
//!
//! Assignors are code of users. They are asked on the thread of a member, between two turns under the
//! lock; if the group has changed in between, the answer is thrown away and they are asked again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::error::Result;
use crate::group::assignor;
use crate::group::pulse::{Ended, Pulse};
use crate::group::state::{Group, Joining, MemberId, Membership, Step, ToAssign, TopicFacts};
use crate::topic::log_manager::LogManager;
use crate::topic_partition::TopicPartition;

/// Groups by name. Any thread may call anything.
///
/// The lock is held for steps in memory alone. Under it nothing is taken but the log manager's list of
/// topics and members' wakeups; it may be taken under the lock of a shard.
#[derive(Debug)]
pub(crate) struct Members {
    groups: Mutex<BTreeMap<String, Group>>,
    next_member: AtomicU64,
    /// How many members a group may have (contract, clause 11).
    max_size: usize,
}

impl Members {
    pub(crate) fn new(max_size: usize) -> Self {
        Self { groups: Mutex::default(), next_member: AtomicU64::new(0), max_size }
    }

    /// Takes a member into a group. What it is to have it learns from [`Self::sync`].
    ///
    /// # Errors
    ///
    /// As [`Group::join`].
    pub(crate) fn join(
        &self,
        group: &str,
        joining: Joining,
        pulse: Pulse,
        now: Duration,
    ) -> Result<Membership> {
        let member_id = MemberId(self.next_member.fetch_add(1, Ordering::Relaxed));
        let instance_id = joining.instance_id.clone();
        let pulse = Arc::new(pulse);
        let mut groups = self.groups.lock();
        let entry = groups.entry(group.to_owned()).or_default();
        entry.expire(now);
        entry.join(group, member_id, joining, &pulse, self.max_size)?;
        Ok(Membership { member_id, instance_id, generation: entry.generation(), pulse })
    }

    /// Lets a member go.
    pub(crate) fn leave(&self, group: &str, member_id: MemberId, now: Duration) {
        if let Some(entry) = self.groups.lock().get_mut(group) {
            entry.leave(member_id, now);
        }
    }

    /// Removes the member with an instance id.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownMember`](crate::error::Error::UnknownMember).
    pub(crate) fn remove_instance(&self, group: &str, instance_id: &str) -> Result<()> {
        let mut groups = self.groups.lock();
        groups.entry(group.to_owned()).or_default().remove_instance(group, instance_id)
    }

    /// Looks after the group on behalf of a member: expires others, takes up what has become of the
    /// topics, computes an assignment if one is due. Then says what the member is to do.
    ///
    /// # Errors
    ///
    /// Why the member is in the group no more.
    pub(crate) fn sync(
        &self,
        manager: &LogManager,
        group: &str,
        membership: &mut Membership,
        now: Duration,
    ) -> Result<Step, Ended> {
        loop {
            let asked = {
                let mut groups = self.groups.lock();
                let entry = groups.entry(group.to_owned()).or_default();
                entry.expire(now);
                let topics = entry.subscribed().into_iter();
                entry.set_topics(topics.map(|name| facts(manager, name)).collect());
                let Some(asked) = entry.claim(membership.member_id) else {
                    let step = entry.step(membership)?;
                    membership.generation = entry.generation();
                    return Ok(step);
                };
                asked
            };
            self.assign(group, membership.member_id, &asked);
        }
    }

    fn assign(&self, group: &str, member_id: MemberId, asked: &ToAssign) {
        let _until_it_is_there = Claim { members: self, group, member_id };
        let assignment = assignor::assign(&*asked.assignor, &asked.subscription);
        self.with(group, |entry| entry.assigned(asked, assignment));
    }

    /// Changes what a member subscribes to.
    pub(crate) fn subscribe(&self, group: &str, member_id: MemberId, topics: BTreeSet<Arc<str>>) {
        self.with(group, |entry| entry.subscribe(member_id, topics));
    }

    /// A member has stopped reading partitions.
    pub(crate) fn release(&self, group: &str, member_id: MemberId, partitions: &[TopicPartition]) {
        self.with(group, |entry| entry.release(member_id, partitions));
    }

    /// The partitions of a topic that a member has.
    pub(crate) fn owned_of_topic(
        &self,
        group: &str,
        member_id: MemberId,
        topic: &str,
    ) -> Vec<TopicPartition> {
        self.with(group, |entry| entry.owned_of_topic(member_id, topic)).unwrap_or_default()
    }

    /// Where a member has begun in partitions for which nothing is committed.
    pub(crate) fn began(
        &self,
        group: &str,
        member_id: MemberId,
        starts: Vec<(TopicPartition, u64)>,
    ) {
        self.with(group, |entry| entry.began(member_id, starts));
    }

    /// Has a look at a group, or changes it; `None` if there is no such group.
    pub(crate) fn with<T>(&self, group: &str, look: impl FnOnce(&mut Group) -> T) -> Option<T> {
        self.groups.lock().get_mut(group).map(look)
    }

    /// Whether a commit counts: see [`Group::check_commit`].
    pub(crate) fn check_commit<'a>(
        &self,
        group: &str,
        committer: Option<&Membership>,
        partitions: impl Iterator<Item = &'a TopicPartition>,
        now: Duration,
    ) -> Result<()> {
        match self.groups.lock().get_mut(group) {
            None => Group::default().check_commit(group, committer, partitions),
            Some(entry) => {
                if committer.is_none() {
                    entry.expire(now);
                }
                entry.check_commit(group, committer, partitions)
            }
        }
    }

    /// Wakes all members that wait: the broker is being closed.
    pub(crate) fn wake_all(&self) {
        self.groups.lock().values().for_each(Group::wake_all);
    }

    /// The names of the groups that have members, in order.
    pub(crate) fn names(&self, now: Duration) -> Vec<String> {
        let mut groups = self.groups.lock();
        groups.values_mut().for_each(|entry| entry.expire(now));
        let occupied = groups.iter().filter(|(_, entry)| !entry.is_empty());
        occupied.map(|(name, _)| name.clone()).collect()
    }

    /// Forgets a group that nobody is in.
    pub(crate) fn forget(&self, group: &str) {
        let mut groups = self.groups.lock();
        if groups.get(group).is_some_and(Group::is_empty) {
            groups.remove(group);
        }
    }
}

/// As long as it lives, its member computes the assignment of a group. However that ends, also by a
/// panic in an assignor, nobody waits for it after that.
struct Claim<'a> {
    members: &'a Members,
    group: &'a str,
    member_id: MemberId,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.members.with(self.group, |entry| entry.abandon(self.member_id));
    }
}

fn facts(manager: &LogManager, name: Arc<str>) -> (Arc<str>, Option<TopicFacts>) {
    let topic = manager.topic(&name).ok();
    let facts =
        topic.map(|topic| TopicFacts { id: topic.topic_id(), partitions: topic.partition_count() });
    (name, facts)
}
