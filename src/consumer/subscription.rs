//! What a consumer reads: its topics, their partitions, and its position in each.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::broker::Broker;
use crate::consumer::buffered::Buffered;
use crate::consumer::config::{AutoOffsetReset, IsolationLevel};
use crate::error::{Error, Result};
use crate::group::OffsetAndMetadata;
use crate::log::end_offsets::Wakeup;
use crate::log::read::ReadCursor;
use crate::log::transactions::StableEnd;
use crate::topic::log_manager::LogManager;
use crate::topic::{Partition, Topic};
use crate::topic_partition::TopicPartition;

/// A partition that is being read.
#[derive(Debug)]
pub(crate) struct Assigned {
    pub(crate) partition: Partition,
    /// The offset of the next record to hand out; `None` until it is known where to begin.
    pub(crate) position: Option<u64>,
    /// What this consumer knows to be committed, so that nothing is committed twice.
    pub(crate) committed: Option<u64>,
    /// What this consumer has committed last without waiting for it to be durable.
    pub(crate) sent: Option<u64>,
    pub(crate) paused: bool,
    /// Where the log was left off, worth something as long as the position is there.
    pub(crate) cursor: Option<ReadCursor>,
    /// What was read and not handed out yet.
    pub(crate) buffered: Option<Buffered>,
    /// How much to read next.
    pub(crate) read_ahead: ReadAhead,
    /// How far it may be read, as found last, if that is less than what is visible.
    pub(crate) stable: Option<StableEnd>,
}

/// How much is read of a partition at a time. Whoever looks for a single record should not have a
/// megabyte read and checked for it; whoever goes on reading should not do it in small steps.
#[derive(Debug, Default)]
pub(crate) struct ReadAhead(usize);

impl ReadAhead {
    const SECOND: usize = 8 << 10;

    /// A single batch at first, then some, then twice as much each time.
    pub(crate) fn next(&mut self, max: usize) -> usize {
        let now = self.0.min(max);
        self.0 = now.saturating_mul(2).max(Self::SECOND);
        now.max(1)
    }
}

impl Assigned {
    pub(crate) fn new(partition: Partition) -> Self {
        Self {
            partition,
            position: None,
            committed: None,
            sent: None,
            paused: false,
            cursor: None,
            buffered: None,
            read_ahead: ReadAhead::default(),
            stable: None,
        }
    }

    pub(crate) fn topic_partition(&self) -> &TopicPartition {
        self.partition.topic_partition()
    }

    /// Goes on somewhere else.
    pub(crate) fn seek(&mut self, offset: u64) {
        self.position = Some(offset);
        self.cursor = None;
        self.buffered = None;
        self.read_ahead = ReadAhead::default();
    }

    /// Whether a fetch would find something, be it records or a position that is gone.
    fn is_ready(&self) -> bool {
        let ends = self.partition.log().ends();
        // Beyond that a transaction is open, until something is appended at least.
        let end = match self.stable {
            Some(stable) if stable.high_watermark == ends.high_watermark() => {
                stable.last_stable_offset
            }
            _ => ends.high_watermark(),
        };
        let ready = |position| position < end || position > ends.log_end();
        !self.paused && (self.buffered.is_some() || self.position.is_none_or(ready))
    }

    /// What has to be committed, if anything has been read since the last commit.
    fn uncommitted(&self) -> Option<u64> {
        self.position.filter(|position| self.committed != Some(*position))
    }
}

#[derive(Debug)]
struct SubscribedTopic {
    name: String,
    /// `None` while it is deleted.
    topic: Option<Topic>,
    /// How many of its partitions are assigned.
    partitions: u32,
}

impl SubscribedTopic {
    /// One that is still to be looked for.
    fn new(name: &str) -> Self {
        Self { name: name.to_owned(), topic: None, partitions: 0 }
    }
}

/// The topics and partitions of one consumer.
#[derive(Debug, Default)]
pub(crate) struct Subscription {
    /// Empty if partitions were assigned by hand.
    topics: Vec<SubscribedTopic>,
    pub(crate) assigned: Vec<Assigned>,
    /// Which of the assigned partitions is served first next time.
    pub(crate) next: usize,
}

impl Subscription {
    /// All partitions of these topics, now and later.
    pub(crate) fn to_topics(manager: &LogManager, names: &[String]) -> Self {
        let mut subscription = Self::in_group(names);
        subscription.discover(manager);
        subscription
    }

    /// Just these partitions.
    pub(crate) fn to_partitions(
        manager: &LogManager,
        partitions: &[TopicPartition],
    ) -> Result<Self> {
        let assigned = partitions.iter().map(|of| manager.partition(of).map(Assigned::new));
        let assigned = assigned.collect::<Result<_>>()?;
        Ok(Self { topics: Vec::new(), assigned, next: 0 })
    }

    /// Assigns the partitions that subscribed topics have got; returns from where on in `assigned`
    /// they are. A topic that was deleted is looked for again.
    pub(crate) fn discover(&mut self, manager: &LogManager) -> usize {
        let first_new = self.assigned.len();
        for subscribed in &mut self.topics {
            if subscribed.topic.is_none() {
                subscribed.topic = manager.topic(&subscribed.name).ok();
            }
            let Some(topic) = &subscribed.topic else { continue };
            if topic.partition_count() > subscribed.partitions {
                let known = usize::try_from(subscribed.partitions).unwrap_or(usize::MAX);
                let new = topic.partitions().into_iter().skip(known).map(Assigned::new);
                let before = self.assigned.len();
                self.assigned.extend(new);
                let added = u32::try_from(self.assigned.len() - before).unwrap_or(u32::MAX);
                subscribed.partitions += added;
            }
        }
        first_new
    }

    /// To these topics. Which partitions it reads is for its group to say.
    pub(crate) fn in_group(names: &[String]) -> Self {
        let mut subscription = Self::default();
        subscription.rename(names.iter().map(String::as_str));
        subscription
    }

    /// What a member subscribes to from now on.
    pub(crate) fn rename<'a>(&mut self, names: impl Iterator<Item = &'a str>) {
        self.topics = names.map(SubscribedTopic::new).collect();
    }

    /// Subscribes to more topics. Those that are there already stay as they are.
    pub(crate) fn extend<'a>(&mut self, names: impl Iterator<Item = &'a str>) {
        let known: BTreeSet<String> = self.topics().map(str::to_owned).collect();
        let new = names.filter(|name| !known.contains(*name));
        self.topics.extend(new.map(SubscribedTopic::new));
    }

    /// Assigns a partition.
    pub(crate) fn add(&mut self, partition: Partition) -> &mut Assigned {
        self.assigned.push(Assigned::new(partition));
        self.assigned.last_mut().expect("it was just added")
    }

    /// Lets go of partitions, with what was read of them and not handed out.
    pub(crate) fn remove(&mut self, partitions: &[TopicPartition]) {
        let removed: BTreeSet<_> = partitions.iter().collect();
        let is_removed = |assigned: &Assigned| removed.contains(assigned.topic_partition());
        let first = self.next.min(self.assigned.len());
        // The turn stays with the partition whose turn it was.
        let before = self.assigned.iter().take(first).filter(|of| is_removed(of)).count();
        self.next = first - before;
        self.assigned.retain(|assigned| !is_removed(assigned));
    }

    /// Lets go of a partition whose log is closed although the broker is not, and says so: its
    /// topic was deleted.
    pub(crate) fn remove_deleted(&mut self, at: usize) -> Error {
        let topic = self.assigned.remove(at).topic_partition().topic().to_owned();
        if let Some(subscribed) = self.topics.iter_mut().find(|s| s.name == topic) {
            self.assigned.retain(|assigned| assigned.topic_partition().topic() != topic);
            (subscribed.topic, subscribed.partitions) = (None, 0);
        }
        self.next = 0;
        Error::UnknownTopic { topic }
    }

    pub(crate) fn topics(&self) -> impl Iterator<Item = &str> {
        self.topics.iter().map(|topic| topic.name.as_str())
    }

    pub(crate) fn find(&self, of: &TopicPartition) -> Result<&Assigned> {
        let found = self.assigned.iter().find(|assigned| assigned.topic_partition() == of);
        found.ok_or_else(|| Error::NotAssigned { topic_partition: of.clone() })
    }

    pub(crate) fn find_mut(&mut self, of: &TopicPartition) -> Result<&mut Assigned> {
        let found = self.assigned.iter_mut().find(|assigned| assigned.topic_partition() == of);
        found.ok_or_else(|| Error::NotAssigned { topic_partition: of.clone() })
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.assigned.iter().any(Assigned::is_ready)
    }

    /// What has been read since the last commit.
    pub(crate) fn uncommitted(&self) -> Vec<(TopicPartition, OffsetAndMetadata)> {
        let of = |assigned: &Assigned| {
            let offset = OffsetAndMetadata::new(assigned.uncommitted()?);
            Some((assigned.topic_partition().clone(), offset))
        };
        self.assigned.iter().filter_map(of).collect()
    }

    /// What has been read since the last commit of these partitions, as far as they can be committed to:
    /// a topic may be deleted.
    pub(crate) fn uncommitted_of(
        &self,
        partitions: &[TopicPartition],
    ) -> Vec<(TopicPartition, OffsetAndMetadata)> {
        let there = self.these(partitions).filter(|assigned| !assigned.partition.log().is_closed());
        let of = |assigned: &Assigned| {
            let offset = OffsetAndMetadata::new(assigned.uncommitted()?);
            Some((assigned.topic_partition().clone(), offset))
        };
        there.filter_map(of).collect()
    }

    /// One of these partitions whose log is closed.
    pub(crate) fn deleted_of(&self, partitions: &[TopicPartition]) -> Option<&TopicPartition> {
        let deleted = self.these(partitions).find(|assigned| assigned.partition.log().is_closed());
        deleted.map(Assigned::topic_partition)
    }

    fn these(&self, partitions: &[TopicPartition]) -> impl Iterator<Item = &Assigned> {
        let meant: BTreeSet<TopicPartition> = partitions.iter().cloned().collect();
        self.assigned.iter().filter(move |assigned| meant.contains(assigned.topic_partition()))
    }

    /// What has been read since the last commit, waited for or not.
    pub(crate) fn unsent(&self) -> Vec<(TopicPartition, OffsetAndMetadata)> {
        let is_sent = |(of, committed): &(TopicPartition, OffsetAndMetadata)| {
            self.find(of).is_ok_and(|assigned| assigned.sent == Some(committed.offset))
        };
        self.uncommitted().into_iter().filter(|offset| !is_sent(offset)).collect()
    }

    pub(crate) fn note_sent(&mut self, offsets: &[(TopicPartition, OffsetAndMetadata)]) {
        for (of, committed) in offsets {
            if let Ok(assigned) = self.find_mut(of) {
                // Which of the two will count is not known.
                (assigned.committed, assigned.sent) = (None, Some(committed.offset));
            }
        }
    }

    pub(crate) fn note_committed(&mut self, offsets: &[(TopicPartition, OffsetAndMetadata)]) {
        for (of, committed) in offsets {
            // A commit may be about partitions that others read.
            if let Ok(assigned) = self.find_mut(of) {
                (assigned.committed, assigned.sent) = (Some(committed.offset), None);
            }
        }
    }

    /// Leaves a wakeup with every partition that is not paused, until the value is dropped.
    pub(crate) fn register(&self, wakeup: &Arc<Wakeup>) -> Registered {
        let active = self.assigned.iter().filter(|assigned| !assigned.paused);
        let partitions: Vec<_> = active.map(|assigned| assigned.partition.clone()).collect();
        for partition in &partitions {
            partition.log().ends().register(wakeup);
        }
        Registered { partitions, wakeup: Arc::clone(wakeup) }
    }
}

/// A wakeup that partitions hold.
#[derive(Debug)]
pub(crate) struct Registered {
    partitions: Vec<Partition>,
    wakeup: Arc<Wakeup>,
}

impl Drop for Registered {
    fn drop(&mut self) {
        for partition in &self.partitions {
            partition.log().ends().unregister(&self.wakeup);
        }
    }
}

/// Where to begin in a partition, and where to go on when a position is gone.
#[derive(Debug)]
pub(crate) struct StartPolicy {
    pub(crate) broker: Broker,
    pub(crate) group: Option<String>,
    pub(crate) reset: AutoOffsetReset,
    pub(crate) isolation_level: IsolationLevel,
}

impl StartPolicy {
    /// What the group has committed for a partition.
    pub(crate) fn committed(&self, of: &TopicPartition) -> Result<Option<u64>> {
        let Some(group) = &self.group else { return Ok(None) };
        let committed = self.broker.groups().committed(group, of)?;
        Ok(committed.map(|committed| committed.offset))
    }

    /// Where to begin in a partition that has no position yet.
    ///
    /// # Errors
    ///
    /// [`Error::NoCommittedOffset`] if nothing is committed and the policy is to say so.
    pub(crate) fn first_position(&self, partition: &Partition) -> Result<u64> {
        let of = partition.topic_partition();
        if let Some(committed) = self.committed(of)? {
            return Ok(committed);
        }
        self.reset(partition)?.ok_or_else(|| Error::NoCommittedOffset {
            group: self.group.clone().unwrap_or_default(),
            topic_partition: of.clone(),
        })
    }

    /// Sets the position of a partition that another member may have had: where the group is, else where
    /// it began, else where the policy says. Says where that is if the group has committed nothing.
    pub(crate) fn begin_at(
        &self,
        assigned: &mut Assigned,
        start: Option<u64>,
    ) -> Result<Option<u64>> {
        let Some(group) = &self.group else { return self.begin(assigned).map(Some) };
        let of = assigned.topic_partition();
        let committed = self.broker.groups().committed_by_others(group, of)?;
        assigned.committed = committed.map(|committed| committed.offset);
        if let Some(committed) = assigned.committed {
            assigned.seek(committed);
            return Ok(None);
        }
        let position = match start {
            Some(start) => start.max(assigned.partition.log_start_offset()),
            None => self.first_position(&assigned.partition)?,
        };
        assigned.seek(position);
        Ok(Some(position))
    }

    /// Sets the position of a partition that has none yet.
    pub(crate) fn begin(&self, assigned: &mut Assigned) -> Result<u64> {
        assigned.committed = self.committed(assigned.topic_partition())?;
        let position = self.first_position(&assigned.partition)?;
        assigned.seek(position);
        Ok(position)
    }

    /// Where the policy sends a consumer; `None` if nowhere.
    pub(crate) fn reset(&self, partition: &Partition) -> Result<Option<u64>> {
        match self.reset {
            AutoOffsetReset::Earliest => Ok(Some(partition.log_start_offset())),
            AutoOffsetReset::Latest => self.end(partition).map(Some),
            AutoOffsetReset::Error => Ok(None),
        }
    }

    /// How far the consumer may read at the moment.
    pub(crate) fn end(&self, partition: &Partition) -> Result<u64> {
        match self.isolation_level {
            IsolationLevel::ReadUncommitted => Ok(partition.high_watermark()),
            IsolationLevel::ReadCommitted => partition.last_stable_offset(),
        }
    }
}
