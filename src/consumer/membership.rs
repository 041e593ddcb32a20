//! Being in a group, as one consumer sees it.

use crate::broker::Broker;
use crate::error::Result;
use crate::group::OffsetAndMetadata;
use crate::group::state::Membership;
use crate::topic_partition::TopicPartition;

/// The right to commit to a group: as its member, or for a group that nobody is in. Dropping it
/// leaves the group.
#[derive(Debug)]
pub(crate) struct GroupMember {
    broker: Broker,
    group: String,
    /// `None` for a consumer whose partitions were assigned by hand.
    membership: Option<Membership>,
}

impl GroupMember {
    /// Joins the group.
    pub(crate) fn join(broker: &Broker, group: &str) -> Result<Self> {
        let membership = Some(broker.groups().join(group)?);
        Ok(Self { broker: broker.clone(), group: group.to_owned(), membership })
    }

    /// Commits to the group without being in it.
    pub(crate) fn standalone(broker: &Broker, group: &str) -> Self {
        Self { broker: broker.clone(), group: group.to_owned(), membership: None }
    }

    pub(crate) fn group(&self) -> &str {
        &self.group
    }

    /// Commits, durably, if `check` agrees to each partition. Without offsets it says whether a
    /// commit would count.
    pub(crate) fn commit(
        &self,
        offsets: &[(TopicPartition, OffsetAndMetadata)],
        check: impl Fn(&TopicPartition) -> Result<()>,
    ) -> Result<()> {
        self.broker.groups().commit_if(&self.group, self.membership.as_ref(), offsets, check)
    }
}

impl Drop for GroupMember {
    fn drop(&mut self) {
        if let Some(membership) = &self.membership {
            self.broker.groups().leave(&self.group, membership);
        }
    }
}
