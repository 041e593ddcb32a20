//! What a consumer tells its group: committing, by hand and by itself.

use std::time::Duration;

use crate::consumer::Consumer;
use crate::error::{Error, Result};
use crate::group::OffsetAndMetadata;
use crate::group::coordinator::Returns;
use crate::topic_partition::TopicPartition;

/// So soon is synced what was committed without waiting for it.
const SYNC_DELAY: Duration = Duration::from_millis(10);

impl Consumer {
    /// Commits the position of every partition: everything that polls have returned so far counts
    /// as done. Durable when it returns; blocks for one sync, which commits of other consumers
    /// share, and for none if nothing has moved since the last commit.
    ///
    /// # Errors
    ///
    /// [`Error::FencedGeneration`] if the group has gone on without this consumer, because it did not poll
    /// for too long: the next poll joins again, and what was read and not committed comes again, here or
    /// elsewhere; [`Error::FencedInstanceId`] if another consumer has taken its place for good;
    /// [`Error::GroupOccupied`] if partitions were assigned by hand and a consumer is subscribed
    /// under the group's name; [`Error::InvalidGroup`] without a group; [`Error::ReadOnly`];
    /// [`Error::StorageFull`]: then nothing was committed, and it can be tried again;
    /// [`Error::UnknownTopic`] if a topic was deleted and [`poll`](Self::poll) has not told yet:
    /// nothing was committed; [`Error::OffsetOutOfRange`] after a seek beyond the end;
    /// [`Error::Closed`].
    pub fn commit(&mut self) -> Result<()> {
        let offsets = self.subscription.uncommitted();
        self.commit_these(&offsets)
    }

    /// As [`commit`](Self::commit), without waiting for the disk: the commit is in the log when this
    /// returns, and counts, for [`committed`](Self::committed) and after a restart, once the next sync has
    /// made it durable, after about 10 ms. A crash before that has some records come again. Costs no sync
    /// of its own; use it where commits are frequent.
    ///
    /// Whoever takes a partition over begins behind it in any case. A sync that fails is told by the next
    /// commit of any kind. Without a
    /// [background thread](crate::BrokerBuilder::background_thread) the sync comes with
    /// [`Broker::run_maintenance`](crate::Broker::run_maintenance) or a commit that waits.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use sapwood::{Broker, Record, TopicConfig};
    /// # let broker = Broker::in_memory()?;
    /// # let orders = broker.create_topic("orders", TopicConfig::default())?;
    /// # orders.partition(0)?.append(&[Record::new("paid"), Record::new("shipped")])?;
    /// # let consumer = broker.consumer().group("billing").auto_commit(None).max_poll_records(1);
    /// let mut consumer = consumer.subscribe(["orders"])?;
    /// while !consumer.poll(Duration::ZERO)?.is_empty() {
    ///     consumer.commit_async()?;
    /// }
    /// consumer.commit()?; // all of it is durable now
    /// # assert_eq!(consumer.committed(&consumer.assignment()[0])?.map(|at| at.offset), Some(2));
    /// # Ok::<(), sapwood::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`commit`](Self::commit).
    pub fn commit_async(&mut self) -> Result<()> {
        let offsets = self.subscription.unsent();
        self.commit_as(&offsets, Returns::Appended)?;
        self.subscription.note_sent(&offsets);
        if !offsets.is_empty() {
            let sync_at = self.broker.clock().monotonic().saturating_add(SYNC_DELAY);
            self.broker.maintenance().wake_by(sync_at);
        }
        Ok(())
    }

    /// Commits the given offsets and no others: for when not everything that was polled is done
    /// with, or with metadata. The position stays where it is.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use sapwood::{Broker, OffsetAndMetadata, Record, TopicConfig};
    /// # let broker = Broker::in_memory()?;
    /// # let orders = broker.create_topic("orders", TopicConfig::default())?;
    /// # orders.partition(0)?.append(&[Record::new("paid"), Record::new("shipped")])?;
    /// let mut consumer = broker.consumer().group("billing").subscribe(["orders"])?;
    /// for record in &consumer.poll(Duration::from_secs(1))? {
    ///     // One more than the record: that is where to resume.
    ///     let done = OffsetAndMetadata::new(record.offset() + 1).metadata("by hand");
    ///     consumer.commit_offsets([(record.topic_partition().clone(), done)])?;
    /// }
    /// # let committed = consumer.committed(&consumer.assignment()[0])?.unwrap();
    /// # assert_eq!((committed.offset, committed.metadata.as_str()), (2, "by hand"));
    /// # Ok::<(), sapwood::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`commit`](Self::commit); [`Error::NotAssigned`] for a partition that a member of a group does
    /// not have, or not any more; [`Error::OffsetOutOfRange`] for an offset beyond the log end
    /// offset; [`Error::UnknownTopic`], [`Error::UnknownPartition`]; [`Error::InvalidRecord`] for
    /// metadata of more than 4096 bytes. Then none of them is committed.
    pub fn commit_offsets(
        &mut self,
        offsets: impl IntoIterator<Item = (TopicPartition, OffsetAndMetadata)>,
    ) -> Result<()> {
        let offsets: Vec<_> = offsets.into_iter().collect();
        self.commit_these(&offsets)
    }

    pub(super) fn commit_these(
        &mut self,
        offsets: &[(TopicPartition, OffsetAndMetadata)],
    ) -> Result<()> {
        self.commit_as(offsets, Returns::Durable)?;
        self.subscription.note_committed(offsets);
        Ok(())
    }

    fn commit_as(
        &self,
        offsets: &[(TopicPartition, OffsetAndMetadata)],
        returns: Returns,
    ) -> Result<()> {
        self.broker.check_open()?;
        let Some(member) = &self.member else {
            let reason = "a consumer commits under the name of a group, and has none";
            return Err(Error::InvalidGroup { group: String::new(), reason });
        };
        member.commit(offsets, returns, |of| {
            self.broker.check_open()?;
            // What was read of a topic that is gone must not count as read of a new one with its
            // name.
            match self.subscription.find(of) {
                Ok(assigned) if assigned.partition.log().is_closed() => {
                    Err(Error::UnknownTopic { topic: of.topic().to_owned() })
                }
                _ => Ok(()),
            }
        })
    }

    /// What the group has committed for a partition, whether assigned to this consumer or not.
    /// `None` if nothing.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidGroup`] without a group; [`Error::Closed`].
    pub fn committed(&self, partition: &TopicPartition) -> Result<Option<OffsetAndMetadata>> {
        self.broker.check_open()?;
        let Some(member) = &self.member else {
            let reason = "offsets are committed under the name of a group, and there is none";
            return Err(Error::InvalidGroup { group: String::new(), reason });
        };
        let committed = self.broker.groups().committed(member.group(), partition)?;
        Ok(committed.as_ref().map(OffsetAndMetadata::from))
    }

    pub(super) fn commit_due_in(&self) -> Option<Duration> {
        self.auto_commit?;
        Some(self.auto_commit_at.saturating_sub(self.broker.clock().monotonic()))
    }

    pub(super) fn commit_if_due(&mut self) -> Result<()> {
        let Some(interval) = self.auto_commit else { return Ok(()) };
        let now = self.broker.clock().monotonic();
        if now < self.auto_commit_at {
            return Ok(());
        }
        self.auto_commit_at = now.saturating_add(interval);
        self.commit()
    }
}
