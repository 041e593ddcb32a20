//! Decides about groups: who may join, whose commits count; and keeps what is committed.
//!
//! What is committed is spread over [`Shard`]s, one for each partition of the internal topic. Members are
//! in memory alone, in [`Members`].

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;

use crate::error::{Error, Result};
use crate::group::committed::{Change, Committed, CommittedOffsets};
use crate::group::members::Members;
use crate::group::offset_records::partition_for;
use crate::group::offset_store::{OFFSETS_TOPIC, OffsetStore, offsets_topic_config};
use crate::group::pulse::{Ended, Pulse};
use crate::group::shard::Shard;
use crate::group::state::{Group, Joining, Membership};
use crate::group::{GroupDescription, GroupOffset, GroupState, OffsetAndMetadata, check_group_id};
use crate::log::recovery::RecoveryMode;
use crate::metrics::{GroupLag, MetricsSnapshot};
use crate::time::Timestamp;
use crate::topic::Partition;
use crate::topic::log_manager::{Found, LogManager, OpenMode};
use crate::topic_partition::TopicPartition;

/// All groups of a broker. Any thread may call anything.
///
/// Lock order: `creating`; then a shard; then the members.
#[derive(Debug)]
pub(crate) struct GroupCoordinator {
    manager: Arc<LogManager>,
    members: Members,
    /// One for each partition of the internal topic; not set as long as there is no such topic.
    shards: OnceLock<Vec<Shard>>,
    /// Taken to create the topic.
    creating: Mutex<()>,
}

/// A commit in the making: who commits, and how.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Committing<'a> {
    pub(crate) group: &'a str,
    /// `None`: somebody who is not in the group.
    pub(crate) membership: Option<&'a Membership>,
    pub(crate) returns: Returns,
}

/// When a commit returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Returns {
    /// When it is durable.
    Durable,
    /// When it is in the log. It counts once the next sync has made it durable.
    Appended,
}

impl GroupCoordinator {
    /// Whether what groups have committed can be read, before the directory is changed by opening it:
    /// a recovery looks at the end of a log alone, and a replay needs all of it.
    ///
    /// # Errors
    ///
    /// As [`GroupCoordinator::open`]. None if the open changes nothing, or is to mend damage.
    pub(crate) fn check(found: &Found) -> Result<()> {
        if found.mode() == OpenMode::ReadOnly || found.recovery_mode() == RecoveryMode::Salvage {
            return Ok(());
        }
        for partition in found.peek(OFFSETS_TOPIC)? {
            let from = partition.log_start_offset();
            OffsetStore::new(partition).replay(from, &mut |_| {})?;
        }
        Ok(())
    }

    /// Replays what groups have committed, if any ever did. Writes nothing but corrections: see
    /// [`corrections`](crate::group::committed::CommittedOffsets::corrections).
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] and [`Error::UnsupportedFormat`] if what is committed cannot be read:
    /// groups never start over by themselves. I/O errors.
    pub(crate) fn open(manager: &Arc<LogManager>, group_max_size: usize) -> Result<Self> {
        let coordinator = Self {
            manager: Arc::clone(manager),
            members: Members::new(group_max_size),
            shards: OnceLock::new(),
            creating: Mutex::new(()),
        };
        if manager.topic(OFFSETS_TOPIC).is_ok() {
            coordinator.open_shards()?;
        }
        Ok(coordinator)
    }

    fn open_shards(&self) -> Result<&[Shard]> {
        let topic = self.manager.topic(OFFSETS_TOPIC)?;
        let open = |partition| Shard::open(partition, &self.manager);
        let shards = topic.partitions().into_iter().map(open).collect::<Result<Vec<_>>>()?;
        Ok(self.shards.get_or_init(|| shards))
    }

    /// The logs whose offsets it keeps.
    pub(crate) fn manager(&self) -> &Arc<LogManager> {
        &self.manager
    }

    /// The shard of a group; `None` as long as nobody has committed anything.
    fn shard(&self, group: &str) -> Option<&Shard> {
        let shards = self.shards.get()?;
        let count = u32::try_from(shards.len()).unwrap_or(u32::MAX);
        shards.get(usize::try_from(partition_for(group, count)).unwrap_or(usize::MAX))
    }

    /// The shard of a group; creates the internal topic if it is not there yet.
    fn shard_for_writing(&self, group: &str) -> Result<&Shard> {
        if self.shards.get().is_none() {
            let _one_at_a_time = self.creating.lock();
            if self.shards.get().is_none() {
                match self.manager.create_topic(OFFSETS_TOPIC, offsets_topic_config()) {
                    Ok(_) | Err(Error::TopicExists { .. }) => {}
                    Err(error) => return Err(error),
                }
                self.open_shards()?;
            }
        }
        self.shard(group).ok_or(Error::InvalidState("the topic of committed offsets is empty"))
    }

    /// The members of all groups.
    pub(crate) fn members(&self) -> &Members {
        &self.members
    }

    /// Takes a member into a group.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidGroup`]; [`Error::GroupMaxSizeReached`], [`Error::InconsistentAssignor`]; I/O
    /// errors of creating the internal topic.
    pub(crate) fn join(&self, group: &str, joining: Joining, pulse: Pulse) -> Result<Membership> {
        check_group_id(group)?;
        if self.manager.mode() == OpenMode::Write {
            self.shard_for_writing(group)?;
        }
        self.members.join(group, joining, pulse, self.monotonic())
    }

    /// Lets a member go. One that is not in the group any more is no error.
    pub(crate) fn leave(&self, group: &str, membership: &Membership) {
        self.members.leave(group, membership.member_id, self.monotonic());
        self.forget_if_void(group);
    }

    /// Removes the member with an instance id.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownMember`].
    pub(crate) fn remove_instance(&self, group: &str, instance_id: &str) -> Result<()> {
        let removed = self.members.remove_instance(group, instance_id);
        self.forget_if_void(group);
        removed
    }

    /// The error for a member that is out.
    pub(crate) fn fenced(&self, group: &str, membership: &Membership, ended: Ended) -> Error {
        let fenced = self.members.with(group, |entry| entry.fenced(group, membership, ended));
        fenced.unwrap_or_else(|| Group::default().fenced(group, membership, ended))
    }

    /// A group without members and without offsets is forgotten; one with offsets goes on counting its
    /// generations.
    fn forget_if_void(&self, group: &str) {
        let has_offsets = |shard: &Shard| shard.offsets().of_group(group).is_some();
        if !self.shard(group).is_some_and(has_offsets) {
            self.members.forget(group);
        }
    }

    /// Commits offsets of a group, all of them or none. They are durable when it returns; commits
    /// of several threads share a sync.
    ///
    /// `membership` is what [`Self::join`] gave; `None` commits for a group that nobody is in.
    /// Without offsets it only says whether a commit would count.
    ///
    /// # Errors
    ///
    /// [`Error::FencedGeneration`], [`Error::FencedInstanceId`], [`Error::NotAssigned`] and
    /// [`Error::GroupOccupied`] if the committer has no say; [`Error::OffsetOutOfRange`] beyond the log end offset; [`Error::UnknownTopic`],
    /// [`Error::UnknownPartition`]; [`Error::InvalidRecord`] for metadata that is too long;
    /// [`Error::ReadOnly`]; and what an append can give. After an error nothing has changed, except
    /// that after [`Error::PartitionFailed`] the commit may or may not be there at the next open.
    pub(crate) fn commit(
        &self,
        group: &str,
        membership: Option<&Membership>,
        offsets: &[(TopicPartition, OffsetAndMetadata)],
    ) -> Result<()> {
        let committing = Committing { group, membership, returns: Returns::Durable };
        self.commit_if(&committing, offsets, |_| Ok(()))
    }

    /// As [`Self::commit`], if `check` agrees to each partition, and waiting for it to be durable or not.
    ///
    /// The partitions are looked at while no other change is decided on. So whoever deletes a topic
    /// and then has it forgotten meets every commit that was let through before the deletion, and
    /// none comes after it.
    pub(crate) fn commit_if(
        &self,
        committing: &Committing<'_>,
        offsets: &[(TopicPartition, OffsetAndMetadata)],
        check: impl Fn(&TopicPartition) -> Result<()>,
    ) -> Result<()> {
        let Committing { group, membership, returns } = *committing;
        self.check_writable("commit offsets")?;
        check_group_id(group)?;
        let now = self.now();
        let change = |(topic_partition, committed): &(TopicPartition, OffsetAndMetadata)| {
            check(topic_partition)?;
            self.check_in_range(topic_partition, committed.offset)?;
            Ok(Change {
                group: group.to_owned(),
                topic_partition: topic_partition.clone(),
                committed: Some(Committed {
                    offset: committed.offset,
                    leader_epoch: None,
                    metadata: committed.metadata.clone(),
                    timestamp: now,
                }),
            })
        };
        let shard = self.shard_for_writing(group)?;
        let decide = |_: &CommittedOffsets| {
            self.check_commit(group, membership, offsets)?;
            offsets.iter().map(change).collect()
        };
        match returns {
            Returns::Durable => shard.change(now, decide)?,
            Returns::Appended => shard.change_soon(now, decide)?,
        };
        self.manager.environment().metrics.commits.increment();
        Ok(())
    }

    fn check_commit(
        &self,
        group: &str,
        committer: Option<&Membership>,
        offsets: &[(TopicPartition, OffsetAndMetadata)],
    ) -> Result<()> {
        let partitions = offsets.iter().map(|(of, _)| of);
        self.members.check_commit(group, committer, partitions, self.monotonic())
    }

    fn check_in_range(&self, topic_partition: &TopicPartition, offset: u64) -> Result<()> {
        let partition = self.manager.partition(topic_partition)?;
        let end_offset = partition.log_end_offset();
        if offset <= end_offset {
            return Ok(());
        }
        Err(Error::OffsetOutOfRange {
            topic_partition: topic_partition.clone(),
            offset,
            log_start_offset: partition.log_start_offset(),
            end_offset,
        })
    }

    /// Forgets everything a group has committed. Nobody may be in it.
    ///
    /// # Errors
    ///
    /// [`Error::GroupOccupied`], [`Error::ReadOnly`], and what an append can give.
    pub(crate) fn delete_group(&self, group: &str) -> Result<()> {
        self.check_writable("delete a group")?;
        if let Some(shard) = self.shard(group) {
            shard.forget(self.now(), |offsets| {
                self.check_commit(group, None, &[])?;
                Ok(offsets.forgetting_group(group))
            })?;
        }
        self.forget_if_void(group);
        Ok(())
    }

    /// Forgets what any group has committed for a topic: it was deleted, or is about to be created
    /// and must not inherit the progress made in one of the same name.
    ///
    /// Does nothing in a broker that was opened read-only: there the deletion itself is refused.
    pub(crate) fn forget_topic(&self, topic: &str) -> Result<()> {
        if self.manager.mode() == OpenMode::ReadOnly {
            return Ok(());
        }
        let mut shards = self.shards.get().into_iter().flatten();
        shards.try_for_each(|shard| {
            shard.forget(self.now(), |offsets| Ok(offsets.forgetting_topic(topic)))
        })
    }

    /// What a group has committed for a partition.
    ///
    /// # Errors
    ///
    /// Only in a broker that was opened read-only, which reads what the writer has committed since:
    /// [`Error::Corrupt`], [`Error::UnsupportedFormat`], I/O errors.
    pub(crate) fn committed(&self, group: &str, of: &TopicPartition) -> Result<Option<Committed>> {
        let Some(shard) = self.followed(group)? else { return Ok(None) };
        Ok(shard.offsets().committed(group, of).cloned())
    }

    /// As [`Self::committed`], with every commit that was let through before: where a new owner of the
    /// partition begins.
    pub(crate) fn committed_by_others(
        &self,
        group: &str,
        of: &TopicPartition,
    ) -> Result<Option<Committed>> {
        if let (OpenMode::Write, Some(shard)) = (self.manager.mode(), self.shard(group)) {
            // If they cannot be made durable, whoever made them is told, and they do not count.
            let _told_to_committers = shard.settle();
        }
        self.committed(group, of)
    }

    /// The lowest offset that any of the given groups has committed for a partition; `None` if
    /// there is no group, or one of them has committed none.
    pub(crate) fn consumed(&self, groups: &[String], of: &TopicPartition) -> Option<u64> {
        let committed = |group: &String| {
            self.shard(group)?.offsets().committed(group, of).map(|committed| committed.offset)
        };
        let offsets: Option<Vec<u64>> = groups.iter().map(committed).collect();
        offsets?.into_iter().min()
    }

    /// The names of all groups that have a member or have committed something, in order.
    pub(crate) fn groups(&self) -> Result<Vec<String>> {
        self.follow_topic()?;
        let mut names: BTreeSet<String> =
            self.members.names(self.monotonic()).into_iter().collect();
        for shard in self.shards.get().into_iter().flatten() {
            self.follow(shard)?;
            names.extend(shard.offsets().names().map(str::to_owned));
        }
        Ok(names.into_iter().collect())
    }

    /// What is known of a group; `None` if there is no such group.
    pub(crate) fn describe(&self, group: &str) -> Result<Option<GroupDescription>> {
        let offset = |(topic_partition, committed): (&TopicPartition, &Committed)| GroupOffset {
            topic_partition: topic_partition.clone(),
            committed: committed.into(),
            commit_timestamp: committed.timestamp,
            lag: 0,
        };
        let offsets = self.followed(group)?.and_then(|shard| {
            let offsets = shard.offsets();
            offsets.of_group(group).map(|of_group| of_group.iter().map(offset).collect())
        });
        let described = self.members.with(group, |members| {
            members.expire(self.monotonic());
            GroupDescription {
                group: group.to_owned(),
                state: members.state(),
                members: members.describe(),
                generation: members.generation(),
                assignor: members.assignor(),
                offsets: Vec::new(),
            }
        });
        let has_members = described.as_ref().is_some_and(|group| !group.members.is_empty());
        if offsets.is_none() && !has_members {
            return Ok(None);
        }
        let mut description = described.unwrap_or_else(|| GroupDescription {
            group: group.to_owned(),
            state: GroupState::Empty,
            members: Vec::new(),
            generation: 0,
            assignor: None,
            offsets: Vec::new(),
        });
        description.offsets = offsets.unwrap_or_default();
        // Without a lock: in a broker that is read-only the ends are read from the disk.
        for at in &mut description.offsets {
            let end = self.manager.partition(&at.topic_partition).map_or(0, |p| seen_end(&p));
            at.lag = end.saturating_sub(at.committed.offset);
        }
        Ok(Some(description))
    }

    /// What the broker has counted, and how far all groups are behind.
    pub(crate) fn snapshot(&self) -> Result<MetricsSnapshot> {
        let mut snapshot = self.manager.environment().metrics.snapshot();
        for group in self.groups()? {
            let Some(description) = self.describe(&group)? else { continue };
            let lags = description.offsets.into_iter();
            let lags = lags.map(|at| GroupLag::new(&group, at.topic_partition, at.lag));
            snapshot.group_lags.extend(lags);
        }
        Ok(snapshot)
    }

    fn followed(&self, group: &str) -> Result<Option<&Shard>> {
        self.follow_topic()?;
        let Some(shard) = self.shard(group) else { return Ok(None) };
        self.follow(shard)?;
        Ok(Some(shard))
    }

    /// In a broker that was opened read-only, finds the internal topic once the writing process has
    /// created it.
    fn follow_topic(&self) -> Result<()> {
        if self.manager.mode() == OpenMode::ReadOnly && self.shards.get().is_none() {
            self.manager.follow_topics()?;
            if self.manager.topic(OFFSETS_TOPIC).is_ok() {
                self.open_shards()?;
            }
        }
        Ok(())
    }

    /// In a broker that was opened read-only, reads what the writing process has committed since.
    fn follow(&self, shard: &Shard) -> Result<()> {
        match self.manager.mode() {
            OpenMode::Write => Ok(()),
            OpenMode::ReadOnly => shard.catch_up(),
        }
    }

    fn check_writable(&self, operation: &'static str) -> Result<()> {
        match self.manager.mode() {
            OpenMode::Write => Ok(()),
            OpenMode::ReadOnly => Err(Error::ReadOnly { operation }),
        }
    }

    fn now(&self) -> Timestamp {
        self.manager.environment().clock.now()
    }

    fn monotonic(&self) -> Duration {
        self.manager.environment().clock.monotonic()
    }
}

/// The end of a partition as of now.
fn seen_end(partition: &Partition) -> u64 {
    // A partition that cannot be read is told to whoever reads it. Its groups have a lag all the same,
    // against the end that was seen last.
    let _told_to_readers = partition.refresh();
    partition.high_watermark()
}
