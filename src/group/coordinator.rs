//! Decides about groups: who may join, whose commits count; and keeps what is committed.
//!
//! Groups are spread over [`Shard`]s, one for each partition of the internal topic.

#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::{MappedMutexGuard, Mutex, MutexGuard};

use crate::error::{Error, Result};
use crate::group::offset_records::partition_for;
use crate::group::offset_store::{OFFSETS_TOPIC, OffsetStore, offsets_topic_config};
use crate::group::shard::Shard;
use crate::group::state::{Change, Committed, GroupState, Groups, MemberId, Membership};
use crate::group::{GroupDescription, GroupOffset, OffsetAndMetadata, check_group_id};
use crate::log::recovery::RecoveryMode;
use crate::metrics::{GroupLag, MetricsSnapshot};
use crate::time::Timestamp;
use crate::topic::Partition;
use crate::topic::log_manager::{Found, LogManager, OpenMode};
use crate::topic_partition::TopicPartition;

/// All groups of a broker. Any thread may call anything.
///
/// Takes one lock at a time, but for creating the internal topic.
#[derive(Debug)]
pub(crate) struct GroupCoordinator {
    manager: Arc<LogManager>,
    next_member: AtomicU64,
    /// One for each partition of the internal topic; not set as long as there is no such topic.
    shards: OnceLock<Vec<Shard>>,
    /// Taken to create the topic.
    creating: Mutex<()>,
    /// Members in a broker that was opened read-only before anybody had committed anything.
    unstored: Mutex<Groups>,
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
    /// [`Groups::corrections`].
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] and [`Error::UnsupportedFormat`] if what is committed cannot be read:
    /// groups never start over by themselves. I/O errors.
    pub(crate) fn open(manager: &Arc<LogManager>) -> Result<Self> {
        let coordinator = Self {
            manager: Arc::clone(manager),
            next_member: AtomicU64::new(0),
            shards: OnceLock::new(),
            creating: Mutex::new(()),
            unstored: Mutex::default(),
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

    /// Takes a member into a group.
    ///
    /// # Errors
    ///
    /// [`Error::GroupOccupied`] if it has a member; [`Error::InvalidGroup`]; I/O errors of creating
    /// the internal topic.
    pub(crate) fn join(&self, group: &str) -> Result<Membership> {
        check_group_id(group)?;
        let member_id = MemberId(self.next_member.fetch_add(1, Ordering::Relaxed));
        if self.manager.mode() == OpenMode::Write {
            self.shard_for_writing(group)?;
        }
        self.members(group).join(group, member_id)
    }

    /// Lets a member go. One that is not in the group any more is no error.
    pub(crate) fn leave(&self, group: &str, membership: &Membership) {
        self.members(group).leave(group, membership.member_id);
    }

    /// Where the members of a group are kept: with its offsets. A broker that was opened read-only
    /// may have none, and keeps them all the same.
    fn members(&self, group: &str) -> MappedMutexGuard<'_, Groups> {
        match self.shard(group) {
            Some(shard) => shard.groups(),
            None => MutexGuard::map(self.unstored.lock(), |groups| groups),
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
    /// [`Error::FencedGeneration`] and [`Error::GroupOccupied`] if the committer has no say;
    /// [`Error::OffsetOutOfRange`] beyond the log end offset; [`Error::UnknownTopic`],
    /// [`Error::UnknownPartition`]; [`Error::InvalidRecord`] for metadata that is too long;
    /// [`Error::ReadOnly`]; and what an append can give. After an error nothing has changed, except
    /// that after [`Error::PartitionFailed`] the commit may or may not be there at the next open.
    pub(crate) fn commit(
        &self,
        group: &str,
        membership: Option<&Membership>,
        offsets: &[(TopicPartition, OffsetAndMetadata)],
    ) -> Result<()> {
        self.commit_if(group, membership, offsets, |_| Ok(()))
    }

    /// As [`Self::commit`], if `check` agrees to each partition.
    ///
    /// The partitions are looked at while no other change is decided on. So whoever deletes a topic
    /// and then has it forgotten meets every commit that was let through before the deletion, and
    /// none comes after it.
    pub(crate) fn commit_if(
        &self,
        group: &str,
        membership: Option<&Membership>,
        offsets: &[(TopicPartition, OffsetAndMetadata)],
        check: impl Fn(&TopicPartition) -> Result<()>,
    ) -> Result<()> {
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
        shard.change(now, |groups| {
            groups.check_commit(group, membership)?;
            offsets.iter().map(change).collect()
        })?;
        self.manager.environment().metrics.commits.increment();
        Ok(())
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
        let Some(shard) = self.shard(group) else { return Ok(()) };
        shard.forget(self.now(), |groups| {
            groups.check_commit(group, None)?;
            Ok(groups.forgetting_group(group))
        })
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
            shard.forget(self.now(), |groups| Ok(groups.forgetting_topic(topic)))
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
        Ok(shard.groups().committed(group, of).cloned())
    }

    /// The lowest offset that any of the given groups has committed for a partition; `None` if
    /// there is no group, or one of them has committed none.
    pub(crate) fn consumed(&self, groups: &[String], of: &TopicPartition) -> Option<u64> {
        let committed = |group: &String| {
            self.shard(group)?.groups().committed(group, of).map(|committed| committed.offset)
        };
        let offsets: Option<Vec<u64>> = groups.iter().map(committed).collect();
        offsets?.into_iter().min()
    }

    /// The names of all groups that have a member or have committed something, in order.
    pub(crate) fn groups(&self) -> Result<Vec<String>> {
        self.follow_topic()?;
        let mut names = Vec::new();
        for shard in self.shards.get().into_iter().flatten() {
            self.follow(shard)?;
            names.extend(shard.groups().names().map(str::to_owned));
        }
        names.extend(self.unstored.lock().names().map(str::to_owned));
        names.sort();
        Ok(names)
    }

    /// What is known of a group; `None` if there is no such group.
    pub(crate) fn describe(&self, group: &str) -> Result<Option<GroupDescription>> {
        let Some(shard) = self.followed(group)? else { return Ok(None) };
        let mut description = {
            let groups = shard.groups();
            let Some(offsets) = groups.offsets(group) else { return Ok(None) };
            let state = groups.state(group);
            let offset =
                |(topic_partition, committed): (&TopicPartition, &Committed)| GroupOffset {
                    topic_partition: topic_partition.clone(),
                    committed: committed.into(),
                    commit_timestamp: committed.timestamp,
                    lag: 0,
                };
            GroupDescription {
                group: group.to_owned(),
                members: usize::from(matches!(state, GroupState::Stable { .. })),
                generation: state.generation(),
                offsets: offsets.iter().map(offset).collect(),
            }
        };
        // Without the lock: in a broker that is read-only the ends are read from the disk.
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
}

/// The end of a partition as of now.
fn seen_end(partition: &Partition) -> u64 {
    // A partition that cannot be read is told to whoever reads it. Its groups have a lag all the same,
    // against the end that was seen last.
    let _told_to_readers = partition.refresh();
    partition.high_watermark()
}
