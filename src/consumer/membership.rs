//! Being in a group, as one consumer sees it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::broker::Broker;
use crate::error::{Error, Result};
use crate::group::OffsetAndMetadata;
use crate::group::coordinator::{Committing, Returns};
use crate::group::pulse::{Ended, Pulse};
use crate::group::state::{Coming, Joining, Membership, Step};
use crate::log::end_offsets::Wakeup;
use crate::topic_partition::TopicPartition;

/// A member looks this often whether others have been silent for too long. They are found out later by so
/// much at most.
const EXPIRY_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// The right to commit to a group: as its member, or for a group that nobody is in. Dropping it leaves the
/// group.
#[derive(Debug)]
pub(crate) struct GroupMember {
    broker: Broker,
    group: String,
    /// `None` for a consumer whose partitions were assigned by hand.
    joined: Option<Joined>,
}

/// What there is to being a member.
#[derive(Debug)]
struct Joined {
    joining: Joining,
    membership: Membership,
    wakeup: Arc<Wakeup>,
    /// The topics that it has last seen, by the log manager's count.
    topics_version: u64,
    /// When to look after the group next, on the broker's monotonic clock.
    look_at: Duration,
}

/// What a poll finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// There is nothing to do for the group.
    Nothing,
    /// It is time to look after it.
    News,
    /// The group has gone on without this member.
    Ended(Ended),
}

impl GroupMember {
    /// Joins the group. The wakeup is that of the consumer: it is woken when something changes for it.
    pub(crate) fn join(
        broker: &Broker,
        group: &str,
        joining: Joining,
        wakeup: &Arc<Wakeup>,
    ) -> Result<Self> {
        let pulse = Pulse::new(broker.clock().monotonic(), Arc::clone(wakeup));
        let membership = broker.groups().join(group, joining.clone(), pulse)?;
        let joined = Joined {
            joining,
            membership,
            wakeup: Arc::clone(wakeup),
            topics_version: 0,
            look_at: Duration::ZERO,
        };
        Ok(Self { broker: broker.clone(), group: group.to_owned(), joined: Some(joined) })
    }

    /// Commits to the group without being in it.
    pub(crate) fn standalone(broker: &Broker, group: &str) -> Self {
        Self { broker: broker.clone(), group: group.to_owned(), joined: None }
    }

    pub(crate) fn group(&self) -> &str {
        &self.group
    }

    /// Whether it is in the group, or was.
    pub(crate) fn has_joined(&self) -> bool {
        self.joined.is_some()
    }

    #[cfg(test)]
    pub(crate) fn pulse(&self) -> Option<Arc<Pulse>> {
        Some(Arc::clone(&self.joined.as_ref()?.membership.pulse))
    }

    /// Whether the group has gone on without it.
    pub(crate) fn is_out(&self) -> bool {
        self.joined.as_ref().is_some_and(|joined| joined.membership.pulse.ended().is_some())
    }

    /// The member polls: it is alive. If nothing has changed, this is all that a poll does for the group.
    pub(crate) fn beat(&self, now: Duration) -> Found {
        let Some(joined) = &self.joined else { return Found::Nothing };
        if let Err(ended) = joined.membership.pulse.beat(now) {
            return Found::Ended(ended);
        }
        let news = joined.membership.pulse.take_news();
        let topics_version = self.broker.manager().topics_version();
        if news || now >= joined.look_at || topics_version != joined.topics_version {
            return Found::News;
        }
        Found::Nothing
    }

    /// The member waits: it is alive until it beats again.
    pub(crate) fn begin_wait(&self) {
        if let Some(joined) = &self.joined {
            // Should it be out, it is woken for that, and the beat after the wait tells.
            let _told_by_the_next_beat = joined.membership.pulse.wait();
        }
    }

    /// Looks after the group, and says what this member is to do.
    ///
    /// # Errors
    ///
    /// Why it is in the group no more.
    pub(crate) fn sync(&mut self, now: Duration) -> Result<Step, Ended> {
        let Some(joined) = &mut self.joined else { return Ok(Step::Nothing) };
        let manager = self.broker.manager();
        // Seen before the topics are looked at: what changes meanwhile is looked at again.
        joined.topics_version = manager.topics_version();
        joined.look_at = now.saturating_add(EXPIRY_CHECK_INTERVAL);
        let members = self.broker.groups().members();
        members.sync(manager, &self.group, &mut joined.membership, now)
    }

    /// Joins once more, as a new member.
    ///
    /// # Errors
    ///
    /// As when it joined first: it is out then, and may try again. [`Error::FencedInstanceId`] if another
    /// consumer has its instance id by now: it is out for good.
    pub(crate) fn rejoin(&mut self) -> Result<()> {
        let Some(joined) = &mut self.joined else { return Ok(()) };
        let pulse = Pulse::new(self.broker.clock().monotonic(), Arc::clone(&joined.wakeup));
        let joining = Joining { coming: Coming::Again, ..joined.joining.clone() };
        match self.broker.groups().join(&self.group, joining, pulse) {
            Ok(membership) => joined.membership = membership,
            Err(error) => {
                if let Error::FencedInstanceId { .. } = error {
                    joined.membership.pulse.replace();
                }
                return Err(error);
            }
        }
        joined.look_at = Duration::ZERO;
        Ok(())
    }

    /// Changes what it subscribes to.
    pub(crate) fn subscribe(&mut self, topics: BTreeSet<Arc<str>>) {
        let Some(joined) = &mut self.joined else { return };
        if joined.joining.topics != topics {
            joined.joining.topics.clone_from(&topics);
            let members = self.broker.groups().members();
            members.subscribe(&self.group, joined.membership.member_id, topics);
        }
    }

    /// Gives partitions back.
    pub(crate) fn release(&self, partitions: &[TopicPartition]) {
        if let Some(joined) = &self.joined {
            let members = self.broker.groups().members();
            members.release(&self.group, joined.membership.member_id, partitions);
        }
    }

    /// The partitions of a topic that it has been given. It looks after the group with its next poll.
    pub(crate) fn take_leave_of_topic(&mut self, topic: &str) -> Vec<TopicPartition> {
        let Some(joined) = &mut self.joined else { return Vec::new() };
        joined.look_at = Duration::ZERO;
        let members = self.broker.groups().members();
        members.owned_of_topic(&self.group, joined.membership.member_id, topic)
    }

    /// Tells the group where it has begun, in partitions for which nothing is committed.
    pub(crate) fn began(&self, starts: Vec<(TopicPartition, u64)>) {
        if let Some(joined) = &self.joined {
            let members = self.broker.groups().members();
            members.began(&self.group, joined.membership.member_id, starts);
        }
    }

    /// The error for a member that is out.
    pub(crate) fn fenced(&self, ended: Ended) -> Error {
        let Some(joined) = &self.joined else {
            return Error::InvalidState("a consumer that never joined a group cannot be fenced");
        };
        self.broker.groups().fenced(&self.group, &joined.membership, ended)
    }

    /// Commits if `check` agrees to each partition. Without offsets it says whether a commit would
    /// count.
    pub(crate) fn commit(
        &self,
        offsets: &[(TopicPartition, OffsetAndMetadata)],
        returns: Returns,
        check: impl Fn(&TopicPartition) -> Result<()>,
    ) -> Result<()> {
        let membership = self.joined.as_ref().map(|joined| &joined.membership);
        let committing = Committing { group: &self.group, membership, returns };
        self.broker.groups().commit_if(&committing, offsets, check)
    }
}

impl Drop for GroupMember {
    fn drop(&mut self) {
        if let Some(joined) = &self.joined {
            self.broker.groups().leave(&self.group, &joined.membership);
        }
    }
}
