//! Keeps the share groups of a broker: which there are, and the partitions that each is concerned with.
//!
//! What becomes of records is decided in [`SharePartition`]; here partitions are found, made, replayed and
//! forgotten, and the state topic is kept small.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use crate::error::{Error, Result};
use crate::group::check_group_id;
use crate::log::recovery::RecoveryMode;
use crate::metrics::ShareGroupMetrics;
use crate::share_group::partition::SharePartition;
use crate::share_group::state_log::{Replay, STATE_TOPIC, StateLog, Windows, state_topic_config};
use crate::share_group::state_records::ShareKey;
use crate::share_group::window::Window;
use crate::share_group::{DeliveryCounts, ShareGroupDescription, SharePartitionDescription};
use crate::topic::log_manager::{Found, LogManager, OpenMode};
use crate::topic::topic_id::TopicId;
use crate::topic::{Partition, Topic};

/// All share groups of a broker. Any thread may call anything.
///
/// Lock order: `creating`; `clearing`; the groups; then a partition's state.
#[derive(Debug)]
pub(crate) struct ShareCoordinator {
    manager: Arc<LogManager>,
    /// Not set as long as there is no such topic.
    log: OnceLock<Arc<StateLog>>,
    /// Taken to create the topic.
    creating: Mutex<()>,
    /// Taken to clear the log: one thread does, and the others go on.
    clearing: Mutex<()>,
    groups: Mutex<BTreeMap<String, ShareGroup>>,
}

#[derive(Debug, Default)]
struct ShareGroup {
    /// Consumers that are there.
    members: usize,
    partitions: BTreeMap<(TopicId, u32), Arc<SharePartition>>,
}

impl ShareCoordinator {
    /// Whether the state of share groups can be read, before the directory is changed by opening it.
    ///
    /// # Errors
    ///
    /// As [`ShareCoordinator::open`]. None if the open changes nothing, or is to mend damage.
    pub(crate) fn check(found: &Found) -> Result<()> {
        if found.mode() == OpenMode::ReadOnly || found.recovery_mode() == RecoveryMode::Salvage {
            return Ok(());
        }
        for partition in found.peek(STATE_TOPIC)? {
            StateLog::new(partition).replay()?;
        }
        Ok(())
    }

    /// Replays the state of all share groups, if there ever was one, and corrects what cannot be right:
    /// what is said of offsets beyond the end of a log, and of topics that are gone.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] and [`Error::UnsupportedFormat`] if it cannot be read: groups never start over
    /// by themselves. I/O errors.
    pub(crate) fn open(manager: &Arc<LogManager>) -> Result<Self> {
        let coordinator = Self {
            manager: Arc::clone(manager),
            log: OnceLock::new(),
            creating: Mutex::new(()),
            clearing: Mutex::new(()),
            groups: Mutex::default(),
        };
        // A broker that is read-only reads the state when it is asked for it.
        if manager.mode() == OpenMode::Write && manager.topic(STATE_TOPIC).is_ok() {
            coordinator.open_log()?;
        }
        Ok(coordinator)
    }

    fn open_log(&self) -> Result<&Arc<StateLog>> {
        let partition = self.manager.topic(STATE_TOPIC)?.partition(0)?;
        // What a replay reads must be what the next one will read too.
        partition.flush()?;
        let log = Arc::new(StateLog::new(partition));
        let windows = log.replay()?;
        let mut groups = self.groups.lock();
        for (key, replay) in self.resolved(windows) {
            let share = open_partition(key, replay, &log)?;
            let group = groups.entry(share.group().to_owned()).or_default();
            let place = (share.key().topic_id, share.key().partition);
            group.partitions.insert(place, share);
        }
        drop(groups);
        log.flush_to(log.partition().log_end_offset())?;
        Ok(self.log.get_or_init(|| log))
    }

    /// The windows of topics that are there. Ids are never used again, so nothing need be written about
    /// the others.
    fn resolved(&self, windows: Windows) -> Vec<((ShareKey, Partition), Replay)> {
        let topics: BTreeMap<TopicId, Topic> =
            self.manager.topics().into_iter().map(|topic| (topic.topic_id(), topic)).collect();
        let find = |key: &ShareKey| topics.get(&key.topic_id)?.partition(key.partition).ok();
        let windows = windows.into_iter();
        windows.filter_map(|(key, replay)| Some(((key.clone(), find(&key)?), replay))).collect()
    }

    /// The log; creates the internal topic if it is not there yet.
    fn log_for_writing(&self) -> Result<&Arc<StateLog>> {
        if self.log.get().is_none() {
            let _one_at_a_time = self.creating.lock();
            if self.log.get().is_none() {
                match self.manager.create_topic(STATE_TOPIC, state_topic_config()) {
                    Ok(_) | Err(Error::TopicExists { .. }) => {}
                    Err(error) => return Err(error),
                }
                self.open_log()?;
            }
        }
        self.log.get().ok_or(Error::InvalidState("the topic of share groups is empty"))
    }

    /// A consumer joins a group. It leaves with [`Self::leave`]. Returns how many were there before.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidGroup`], [`Error::ReadOnly`]; I/O errors of creating the internal topic.
    pub(crate) fn join(&self, group: &str) -> Result<usize> {
        check_group_id(group)?;
        if self.manager.mode() == OpenMode::ReadOnly {
            return Err(Error::ReadOnly { operation: "consume in a share group" });
        }
        self.log_for_writing()?;
        let mut groups = self.groups.lock();
        let entry = groups.entry(group.to_owned()).or_default();
        entry.members += 1;
        Ok(entry.members - 1)
    }

    /// A consumer is gone.
    pub(crate) fn leave(&self, group: &str) {
        let mut groups = self.groups.lock();
        if let Some(entry) = groups.get_mut(group) {
            entry.members = entry.members.saturating_sub(1);
            if entry.members == 0 && entry.partitions.is_empty() {
                groups.remove(group);
            }
        }
    }

    /// The group's view of some partitions, in their order. Where there is none yet it begins where
    /// `start` says; that is durable when this returns.
    pub(crate) fn attach<'a>(
        &self,
        group: &str,
        partitions: impl Iterator<Item = &'a Partition>,
        start: impl Fn(&Partition) -> u64,
    ) -> Result<Vec<Arc<SharePartition>>> {
        let log = Arc::clone(self.log_for_writing()?);
        let mut groups = self.groups.lock();
        let entry = groups.entry(group.to_owned()).or_default();
        let mut attached = Vec::new();
        let mut is_new = false;
        for partition in partitions {
            let place = (partition.topic().topic_id(), partition.topic_partition().partition());
            let known = entry.partitions.get(&place).map(Arc::clone);
            let share = if let Some(share) = known {
                share
            } else {
                is_new = true;
                // Under the lock: whoever clears the log knows of every snapshot that is in it.
                let share = begin(group, partition, start(partition), &log)?;
                entry.partitions.insert(place, Arc::clone(&share));
                share
            };
            attached.push(share);
        }
        drop(groups);
        if is_new {
            log.flush_to(log.partition().log_end_offset())?;
        }
        Ok(attached)
    }

    /// Keeps the log small, if that is due: everything is said anew, and what lies before is deleted.
    /// A disk too full for it is no error: it is tried again later.
    pub(crate) fn clear_if_due(&self) -> Result<()> {
        let Some(log) = self.log.get().filter(|log| log.is_to_be_cleared()) else { return Ok(()) };
        let Some(_one_at_a_time) = self.clearing.try_lock() else { return Ok(()) };
        match self.clear(log) {
            Err(error) if error.is_retriable() => {
                log.postpone_clearing();
                Ok(())
            }
            cleared => cleared,
        }
    }

    fn clear(&self, log: &StateLog) -> Result<()> {
        let (from, partitions) = {
            let groups = self.groups.lock();
            let of_group =
                |group: &ShareGroup| group.partitions.values().cloned().collect::<Vec<_>>();
            let partitions: Vec<_> = groups.values().flat_map(of_group).collect();
            (log.partition().log_end_offset(), partitions)
        };
        // One after the other: the workers of the other partitions are not held up.
        let mut live_bytes = 0;
        for partition in partitions {
            live_bytes += partition.write_snapshot(from)?;
        }
        log.clear_before(from, live_bytes)
    }

    /// Forgets what groups know of a topic that was deleted.
    pub(crate) fn forget_topic(&self, topic_id: TopicId) -> Result<()> {
        let mut gone = Vec::new();
        for group in self.groups.lock().values_mut() {
            group.partitions.retain(|(id, _), share| {
                let is_gone = *id == topic_id;
                if is_gone {
                    gone.push(Arc::clone(share));
                }
                !is_gone
            });
        }
        // Not waited for: what is said of an id that nothing has any more is of no consequence.
        gone.iter().try_for_each(|share| share.forget().map(drop))
    }

    /// Forgets a group that nobody is in. Durable when this returns.
    ///
    /// # Errors
    ///
    /// [`Error::GroupOccupied`], [`Error::ReadOnly`], and what an append can give.
    pub(crate) fn delete_group(&self, group: &str) -> Result<()> {
        if self.manager.mode() == OpenMode::ReadOnly {
            return Err(Error::ReadOnly { operation: "delete a share group" });
        }
        let mut groups = self.groups.lock();
        let Some(entry) = groups.get_mut(group) else { return Ok(()) };
        if entry.members > 0 {
            return Err(Error::GroupOccupied { group: group.to_owned() });
        }
        let mut stored_to = None;
        while let Some(share) = entry.partitions.first_entry() {
            stored_to = share.get().forget()?.max(stored_to);
            share.remove();
        }
        groups.remove(group);
        drop(groups);
        match (self.log.get(), stored_to) {
            (Some(log), Some(offset)) => log.flush_to(offset),
            _ => Ok(()),
        }
    }

    /// The names of all groups, in order.
    pub(crate) fn groups(&self) -> Result<Vec<String>> {
        match self.manager.mode() {
            OpenMode::Write => Ok(self.groups.lock().keys().cloned().collect()),
            OpenMode::ReadOnly => {
                let mut names: Vec<String> =
                    self.read()?.into_iter().map(|share| share.group().to_owned()).collect();
                names.dedup();
                Ok(names)
            }
        }
    }

    /// What is known of a group; `None` if there is no such group.
    pub(crate) fn describe(&self, group: &str) -> Result<Option<ShareGroupDescription>> {
        let (members, partitions) = match self.manager.mode() {
            OpenMode::Write => {
                let groups = self.groups.lock();
                let Some(entry) = groups.get(group) else { return Ok(None) };
                (entry.members, entry.partitions.values().cloned().collect::<Vec<_>>())
            }
            OpenMode::ReadOnly => {
                let shares = self.read()?.into_iter();
                let of_group: Vec<_> = shares.filter(|share| share.group() == group).collect();
                if of_group.is_empty() {
                    return Ok(None);
                }
                (0, of_group)
            }
        };
        let mut partitions: Vec<_> = partitions.iter().map(|share| describe(share)).collect();
        partitions.sort_by(|a, b| a.topic_partition.cmp(&b.topic_partition));
        Ok(Some(ShareGroupDescription { group: group.to_owned(), members, partitions }))
    }

    /// What all groups do, in order.
    pub(crate) fn measure(&self) -> Result<Vec<ShareGroupMetrics>> {
        let shares = match self.manager.mode() {
            OpenMode::Write => {
                let groups = self.groups.lock();
                groups.values().flat_map(|group| group.partitions.values().cloned()).collect()
            }
            OpenMode::ReadOnly => self.read()?,
        };
        let mut measured: Vec<_> = shares.iter().map(|share| measure(share)).collect();
        measured
            .sort_by(|a, b| (&a.group, &a.topic_partition).cmp(&(&b.group, &b.topic_partition)));
        Ok(measured)
    }

    /// What the writing process has stored, in order of groups.
    fn read(&self) -> Result<Vec<Arc<SharePartition>>> {
        self.manager.follow_topics()?;
        let Ok(topic) = self.manager.topic(STATE_TOPIC) else { return Ok(Vec::new()) };
        let partition = topic.partition(0)?;
        partition.refresh()?;
        let log = Arc::new(StateLog::new(partition));
        let share = |((key, partition), replay): ((ShareKey, Partition), Replay)| {
            partition.refresh()?;
            let stored = (replay.window, Some(replay.snapshot_at));
            Ok(Arc::new(SharePartition::new(key, partition, Arc::clone(&log), stored)))
        };
        self.resolved(log.replay()?).into_iter().map(share).collect()
    }
}

/// The view of a group that has never been given a partition, stored.
fn begin(
    group: &str,
    partition: &Partition,
    start: u64,
    log: &Arc<StateLog>,
) -> Result<Arc<SharePartition>> {
    let key = ShareKey {
        group: group.to_owned(),
        topic_id: partition.topic().topic_id(),
        partition: partition.topic_partition().partition(),
    };
    let fresh = (Window::new(start), None);
    let share = SharePartition::new(key, partition.clone(), Arc::clone(log), fresh);
    share.write_snapshot(0)?;
    Ok(Arc::new(share))
}

/// Opens a partition whose window was replayed. What is said of offsets beyond the end of its log is not
/// about the records that will be there: a power cut took the ones it was about (contract, clause 28).
fn open_partition(
    (key, partition): (ShareKey, Partition),
    Replay { mut window, snapshot_at }: Replay,
    log: &Arc<StateLog>,
) -> Result<Arc<SharePartition>> {
    let log_end = partition.log_end_offset();
    let is_wrong = window.end() > log_end;
    let snapshot_at = if is_wrong {
        window.cut(log_end);
        None
    } else {
        Some(snapshot_at)
    };
    let share = SharePartition::new(key, partition, Arc::clone(log), (window, snapshot_at));
    if is_wrong {
        match share.write_snapshot(0) {
            // On a full disk the next thing that is stored says it.
            Err(error) if !error.is_retriable() => return Err(error),
            _ => {}
        }
    }
    Ok(Arc::new(share))
}

fn describe(share: &SharePartition) -> SharePartitionDescription {
    let high_watermark = share.partition().high_watermark();
    share.look(|window, _| {
        let counts = window.counts();
        let mut delivery_counts = DeliveryCounts::default();
        for range in window.ranges().filter(|range| !range.state.is_terminal()) {
            let records = range.offsets.end - range.offsets.start;
            delivery_counts.add(range.state.delivery_count(), records);
        }
        SharePartitionDescription {
            topic_partition: share.topic_partition().clone(),
            start_offset: window.start(),
            end_offset: window.end(),
            acquired: counts.acquired,
            in_flight: counts.in_flight(),
            delayed: counts.delayed,
            delivery_counts,
            lag: window.lag(high_watermark),
        }
    })
}

fn measure(share: &SharePartition) -> ShareGroupMetrics {
    let high_watermark = share.partition().high_watermark();
    share.look(|window, totals| {
        let counts = window.counts();
        ShareGroupMetrics {
            group: share.group().to_owned(),
            topic_partition: share.topic_partition().clone(),
            lag: window.lag(high_watermark),
            acquired: counts.acquired,
            in_flight: counts.in_flight(),
            delayed: counts.delayed,
            totals,
        }
    })
}
