//! Looking after consumer groups from outside: which there are, how far they have come, and moving
//! them.

use crate::broker::Broker;
use crate::error::{Error, Result};
use crate::group::{GroupDescription, OffsetAndMetadata};
use crate::time::Timestamp;
use crate::topic::Partition;
use crate::topic_partition::TopicPartition;

/// Where to move a group: see [`Broker::plan_reset`]. The choices are those of Kafka's tool
/// `kafka-consumer-groups --reset-offsets`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OffsetSpec {
    /// To the oldest record.
    Earliest,
    /// Behind the newest record.
    Latest,
    /// To where the group is: commits it anew.
    Current,
    /// To this offset.
    Offset(u64),
    /// To the first record with this timestamp or a later one; behind the newest if there is none.
    Timestamp(Timestamp),
    /// By so many offsets from where the group is, forwards or backwards.
    ShiftBy(i64),
}

/// What a reset would do in one partition.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct PlannedReset {
    /// The partition.
    pub topic_partition: TopicPartition,
    /// Where the group is; `None` if it has committed nothing.
    pub current: Option<u64>,
    /// Where it was to go.
    pub wanted: u64,
    /// Where it would go: the offset that exists which is nearest to `wanted`.
    pub offset: u64,
}

/// For [`Broker::reset_group`].
impl From<PlannedReset> for (TopicPartition, OffsetAndMetadata) {
    fn from(planned: PlannedReset) -> Self {
        (planned.topic_partition, OffsetAndMetadata::new(planned.offset))
    }
}

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

    /// Commits offsets for a group that nobody is in: its next consumers begin there. Durable when
    /// it returns; all of them are committed, or none. [`Broker::plan_reset`] finds the offsets.
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

    /// Says where a reset would move a group, and changes nothing: a dry run, whose result can be handed to
    /// [`Broker::reset_group`]. An offset that does not exist is replaced by the nearest that does.
    ///
    /// ```
    /// # use sapwood::{Broker, OffsetSpec, Record, TopicConfig, TopicPartition};
    /// # let broker = Broker::in_memory()?;
    /// # let orders = broker.create_topic("orders", TopicConfig::default())?;
    /// # orders.partition(0)?.append(&[Record::new("a"), Record::new("b"), Record::new("c")])?;
    /// let all = orders.partitions().into_iter().map(|partition| partition.topic_partition().clone());
    /// let plan = broker.plan_reset("billing", all, OffsetSpec::Latest)?;
    /// assert_eq!((plan[0].current, plan[0].offset), (None, 3));
    /// broker.reset_group("billing", plan.into_iter().map(Into::into))?;
    ///
    /// let back = broker.plan_reset("billing", [TopicPartition::new("orders", 0)], OffsetSpec::ShiftBy(-5))?;
    /// assert_eq!((back[0].current, back[0].offset), (Some(3), 0));
    /// # Ok::<(), sapwood::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::NoCommittedOffset`](crate::Error::NoCommittedOffset) for a partition in which the group
    /// has committed nothing, with [`OffsetSpec::Current`] and [`OffsetSpec::ShiftBy`];
    /// [`Error::UnknownTopic`](crate::Error::UnknownTopic),
    /// [`Error::UnknownPartition`](crate::Error::UnknownPartition); as
    /// [`Partition::offset_for_timestamp`]; [`Error::Closed`](crate::Error::Closed).
    pub fn plan_reset(
        &self,
        group: &str,
        partitions: impl IntoIterator<Item = TopicPartition>,
        to: OffsetSpec,
    ) -> Result<Vec<PlannedReset>> {
        self.check_open()?;
        let plan = |of: TopicPartition| {
            let partition = self.manager().partition(&of)?;
            let committed = self.groups().committed(group, &of)?;
            let current = committed.map(|committed| committed.offset);
            let wanted = wanted_offset(group, &partition, current, to)?;
            let start = partition.log_start_offset();
            let offset = wanted.clamp(start, partition.high_watermark().max(start));
            Ok(PlannedReset { topic_partition: of, current, wanted, offset })
        };
        partitions.into_iter().map(plan).collect()
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

fn wanted_offset(
    group: &str,
    partition: &Partition,
    current: Option<u64>,
    to: OffsetSpec,
) -> Result<u64> {
    let current = || {
        current.ok_or_else(|| Error::NoCommittedOffset {
            group: group.to_owned(),
            topic_partition: partition.topic_partition().clone(),
        })
    };
    // Asked first: what becomes visible while the log is searched is behind it.
    let end = partition.high_watermark();
    Ok(match to {
        OffsetSpec::Earliest => partition.log_start_offset(),
        OffsetSpec::Latest => end,
        OffsetSpec::Current => current()?,
        OffsetSpec::Offset(offset) => offset,
        OffsetSpec::Timestamp(timestamp) => {
            partition.offset_for_timestamp(timestamp)?.map_or(end, |(offset, _)| offset)
        }
        OffsetSpec::ShiftBy(by) => current()?.saturating_add_signed(by),
    })
}
