//! Looking after consumer groups from outside: which there are, how far they have come, and moving
//! them.

use crate::broker::Broker;
use crate::error::Result;
use crate::group::{GroupDescription, OffsetAndMetadata};
use crate::topic_partition::TopicPartition;

impl Broker {
    /// The ids of all groups that have a consumer or have committed something, in order.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`](crate::Error::Closed); in a broker that was opened read-only also those of
    /// reading what the writing process has committed.
    pub fn list_groups(&self) -> Result<Vec<String>> {
        self.check_open()?;
        self.groups().groups()
    }

    /// What is known of a group: its consumers, what it has committed, how far it lags behind.
    /// `None` if there is no such group.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use sapwood::{Broker, Record, TopicConfig};
    /// # let broker = Broker::in_memory()?;
    /// # let orders = broker.create_topic("orders", TopicConfig::default())?;
    /// # orders.partition(0)?.append(&[Record::new("a"), Record::new("b"), Record::new("c")])?;
    /// let consumer = broker.consumer().group("billing").max_poll_records(2);
    /// let mut consumer = consumer.subscribe(["orders"])?;
    /// consumer.poll(Duration::ZERO)?;
    /// consumer.commit()?;
    /// let billing = broker.describe_group("billing")?.expect("it has committed");
    /// assert_eq!((billing.members.len(), billing.offsets[0].lag), (1, 1));
    /// # Ok::<(), sapwood::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Broker::list_groups`].
    pub fn describe_group(&self, group: &str) -> Result<Option<GroupDescription>> {
        self.check_open()?;
        self.groups().describe(group)
    }

    /// Commits offsets for a group that nobody is in: its next consumer begins there. Durable when
    /// it returns; all of them are committed, or none.
    ///
    /// ```
    /// # use sapwood::{Broker, OffsetAndMetadata, TopicConfig, TopicPartition};
    /// # let broker = Broker::in_memory()?;
    /// # broker.create_topic("orders", TopicConfig::default())?;
    /// let start = OffsetAndMetadata::new(0).metadata("do it all again");
    /// broker.reset_group("billing", [(TopicPartition::new("orders", 0), start)])?;
    /// # Ok::<(), sapwood::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::GroupOccupied`](crate::Error::GroupOccupied) if a consumer is in it;
    /// [`Error::OffsetOutOfRange`](crate::Error::OffsetOutOfRange) beyond the log end offset;
    /// otherwise as [`Consumer::commit_offsets`](crate::Consumer::commit_offsets).
    pub fn reset_group(
        &self,
        group: &str,
        offsets: impl IntoIterator<Item = (TopicPartition, OffsetAndMetadata)>,
    ) -> Result<()> {
        self.check_open()?;
        let offsets: Vec<_> = offsets.into_iter().collect();
        self.groups().commit(group, None, &offsets)
    }

    /// Forgets a group that nobody is in, with everything it has committed. Durable when it
    /// returns. A group that does not exist is no error.
    ///
    /// # Errors
    ///
    /// [`Error::GroupOccupied`](crate::Error::GroupOccupied) if a consumer is in it;
    /// [`Error::ReadOnly`](crate::Error::ReadOnly), [`Error::Closed`](crate::Error::Closed),
    /// [`Error::StorageFull`](crate::Error::StorageFull).
    pub fn delete_group(&self, group: &str) -> Result<()> {
        self.check_open()?;
        self.groups().delete_group(group)
    }

    /// Removes a member of a group by its [`instance_id`](crate::ConsumerBuilder::instance_id), so that the
    /// others have its partitions without waiting for it to come back. If its consumer is there still, it is
    /// told [`Error::FencedInstanceId`](crate::Error::FencedInstanceId). Kafka:
    /// `removeMembersFromConsumerGroup`.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownMember`](crate::Error::UnknownMember), [`Error::Closed`](crate::Error::Closed).
    pub fn remove_group_member(&self, group: &str, instance_id: &str) -> Result<()> {
        self.check_open()?;
        self.groups().remove_instance(group, instance_id)
    }
}
