//! What a poll of a share consumer returns: records that carry their acknowledgement.

use std::fmt;
use std::ops::{Deref, Range};
use std::slice;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::broker::Broker;
use crate::consumer::records::{ConsumerRecord, Run, RunIter};
use crate::consumer::share::config::AcknowledgementMode;
use crate::error::{Error, Result};
use crate::log::config::Durability;
use crate::share_group::backoff::Backoff;
use crate::share_group::dead_letter::{self, Reason};
use crate::share_group::partition::{Acknowledged, Acknowledgement, SharePartition};
use crate::share_group::state::AcquisitionId;
use crate::share_group::window::StateRange;
use crate::topic::Topic;
use crate::topic_partition::TopicPartition;

/// The records that one [`poll`](crate::ShareConsumer::poll) of a share consumer returned. They are this
/// worker's until they are acknowledged, or their lock times out.
///
/// In [explicit mode](AcknowledgementMode::Explicit), dropping this releases what was not acknowledged, to
/// be delivered again: also when it is dropped by a `?` or a panic. In
/// [implicit mode](AcknowledgementMode::Implicit) only a panic does.
///
/// The records stay valid as long as this value lives, whatever becomes of them meanwhile. It can be shared
/// between threads.
///
/// ```
/// use std::time::Duration;
/// use sapwood::{Broker, Record, TopicConfig};
///
/// let broker = Broker::in_memory()?;
/// let jobs = broker.create_topic("jobs", TopicConfig::default())?;
/// jobs.partition(0)?.append(&[Record::new("one"), Record::new("bad"), Record::new("two")])?;
///
/// let mut worker = broker.share_consumer("workers").subscribe(["jobs"])?;
/// let records = worker.poll(Duration::from_secs(1))?;
/// for record in &records {
///     if record.value() == Some(b"bad") {
///         record.release()?;
///     }
/// }
/// records.accept_all()?; // those that were not acknowledged yet
///
/// let again = worker.poll(Duration::ZERO)?;
/// let record = again.iter().next().expect("it was released");
/// assert_eq!((record.value(), record.delivery_count()), (Some(&b"bad"[..]), 2));
/// # Ok::<(), sapwood::Error>(())
/// ```
pub struct ShareRecords {
    held: Arc<Holdings>,
}

/// What one poll has acquired. Dropping it releases what is not acknowledged.
pub(crate) struct Holdings {
    partitions: Vec<Holding>,
    len: usize,
    terms: Terms,
    /// As long as somebody works on records there is somewhere to acknowledge them.
    _broker: Broker,
}

/// On what terms records are held.
#[derive(Debug, Clone)]
pub(crate) struct Terms {
    pub(crate) mode: AcknowledgementMode,
    pub(crate) backoff: Backoff,
    pub(crate) lock_duration: Duration,
    pub(crate) dead_letters: Option<Topic>,
}

/// What one poll has acquired of one partition.
pub(crate) struct Holding {
    pub(crate) share: Arc<SharePartition>,
    pub(crate) id: AcquisitionId,
    /// The records that were handed out, in order.
    pub(crate) ranges: Vec<StateRange>,
    /// Where they lie, in order; others may lie between them.
    pub(crate) runs: Vec<Run>,
    /// Offsets that are not acknowledged yet, in order. Taken before the partition's state.
    pub(crate) open: Mutex<Vec<Range<u64>>>,
}

impl Holding {
    pub(crate) fn new(
        share: Arc<SharePartition>,
        id: AcquisitionId,
        ranges: Vec<StateRange>,
        runs: Vec<Run>,
    ) -> Self {
        let mut open: Vec<Range<u64>> = Vec::with_capacity(1);
        for StateRange { offsets, .. } in &ranges {
            match open.last_mut() {
                Some(last) if last.end == offsets.start => last.end = offsets.end,
                _ => open.push(offsets.clone()),
            }
        }
        Self { share, id, ranges, runs, open: Mutex::new(open) }
    }

    /// Acknowledges what is not acknowledged yet.
    fn acknowledge_open(&self, what: Acknowledgement) -> Result<Acknowledged> {
        let mut open = self.open.lock();
        if open.is_empty() {
            return Ok(Acknowledged::default());
        }
        let acknowledged = self.share.acknowledge(self.id, open.iter(), what)?;
        match what {
            Acknowledgement::Renew(_) => subtract(&mut open, &acknowledged.late),
            _ => open.clear(),
        }
        Ok(acknowledged)
    }

    /// Acknowledges one record.
    fn acknowledge_one(&self, offset: u64, what: Acknowledgement) -> Result<Acknowledged> {
        let one = offset..offset + 1;
        let mut open = self.open.lock();
        if !open.iter().any(|range| range.contains(&offset)) {
            return Ok(Acknowledged { stored_to: None, late: vec![one] });
        }
        let acknowledged = self.share.acknowledge(self.id, std::iter::once(&one), what)?;
        if !matches!(what, Acknowledgement::Renew(_)) || !acknowledged.late.is_empty() {
            subtract(&mut open, slice::from_ref(&one));
        }
        Ok(acknowledged)
    }

    /// Returns once what was acknowledged is as safe as the topic of the records says.
    fn settle(&self, acknowledged: Acknowledged) -> Result<()> {
        if let Some(stored_to) = acknowledged.stored_to
            && self.share.partition().topic().shared_config().durability == Durability::Fsync
        {
            self.share.flush_to(stored_to)?;
        }
        if acknowledged.late.is_empty() {
            return Ok(());
        }
        let of = |offsets| (self.share.topic_partition().clone(), offsets);
        Err(self.late(acknowledged.late.into_iter().map(of).collect()))
    }

    fn late(&self, records: Vec<(TopicPartition, Range<u64>)>) -> Error {
        Error::NotAcquired { group: self.share.group().to_owned(), records }
    }
}

/// Takes offsets out of some ranges.
fn subtract(from: &mut Vec<Range<u64>>, offsets: &[Range<u64>]) {
    for out in offsets {
        let mut at = from.partition_point(|range| range.end <= out.start);
        while let Some(range) = from.get_mut(at).filter(|range| range.start < out.end) {
            let (before, after) = (range.start..out.start, out.end..range.end);
            if !before.is_empty() && !after.is_empty() {
                *range = before;
                from.insert(at + 1, after);
                break;
            } else if !before.is_empty() {
                *range = before;
                at += 1;
            } else if !after.is_empty() {
                *range = after;
            } else {
                from.remove(at);
            }
        }
    }
}

impl Holdings {
    pub(crate) fn new(broker: Broker, terms: Terms, holdings: Vec<Holding>) -> Self {
        let records = |range: &StateRange| {
            usize::try_from(range.offsets.end - range.offsets.start).unwrap_or(usize::MAX)
        };
        let len = holdings.iter().flat_map(|holding| &holding.ranges).map(records).sum();
        Self { partitions: holdings, len, terms, _broker: broker }
    }

    /// Acknowledges everything that is not acknowledged yet. `settle` waits for durability where it is due.
    fn acknowledge_all(&self, what: Acknowledgement, settle: Settle) -> Result<()> {
        let mut late = Vec::new();
        let mut to_settle: Option<(&Holding, u64)> = None;
        for holding in &self.partitions {
            let acknowledged = holding.acknowledge_open(what)?;
            let of = |offsets| (holding.share.topic_partition().clone(), offsets);
            late.extend(acknowledged.late.into_iter().map(of));
            let is_synced = || {
                holding.share.partition().topic().shared_config().durability == Durability::Fsync
            };
            if let Some(stored_to) = acknowledged.stored_to
                && (settle == Settle::Now || (settle == Settle::AsTopicSays && is_synced()))
            {
                // The state of all partitions is in one log: the last one takes the others along.
                to_settle = Some((holding, stored_to));
            }
        }
        if let Some((holding, stored_to)) = to_settle {
            holding.share.flush_to(stored_to)?;
        }
        match self.partitions.first() {
            Some(holding) if !late.is_empty() => Err(holding.late(late)),
            _ => Ok(()),
        }
    }

    /// Accepts the rest.
    pub(crate) fn accept_all(&self, settle: Settle) -> Result<()> {
        self.acknowledge_all(Acknowledgement::Accept, settle)
    }

    /// Releases the rest.
    pub(crate) fn release_all(&self) {
        for holding in &self.partitions {
            let release = Acknowledgement::Release(self.terms.backoff);
            // Nothing is stored, so nothing can fail; and what it has lost it need not release.
            let _nothing_can_fail = holding.acknowledge_open(release);
        }
    }
}

/// When an acknowledgement returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Settle {
    /// When it is durable, if the topic of the records is under [`Durability::Fsync`].
    AsTopicSays,
    /// When it is durable.
    Now,
    /// When it is in the log: the next sync takes it along.
    Later,
}

impl Drop for Holdings {
    fn drop(&mut self) {
        self.release_all();
    }
}

impl ShareRecords {
    pub(crate) fn new(held: Arc<Holdings>) -> Self {
        Self { held }
    }

    pub(crate) fn held(&self) -> &Arc<Holdings> {
        &self.held
    }

    /// How many records there are.
    pub fn len(&self) -> usize {
        self.held.len
    }

    /// Whether there are none: the poll has timed out or was woken up.
    pub fn is_empty(&self) -> bool {
        self.held.len == 0
    }

    /// The records, partition after partition; those of a partition in the order of the log.
    pub fn iter(&self) -> ShareRecordsIter<'_> {
        ShareRecordsIter {
            terms: &self.held.terms,
            holdings: self.held.partitions.iter(),
            holding: None,
            left: self.held.len,
        }
    }

    /// Accepts every record that is not acknowledged yet: it is done.
    ///
    /// Returns when that is as safe as the topics' [`Durability`] says, for all records with one sync. This
    /// is the way to acknowledge many: the work is the same for a thousand records as for one.
    ///
    /// # Errors
    ///
    /// [`Error::NotAcquired`] with those records that this worker does not have any more; the others are
    /// accepted. [`Error::StorageFull`]: call it again. [`Error::UnknownTopic`] if the topic was deleted;
    /// [`Error::Closed`], [`Error::PartitionFailed`].
    pub fn accept_all(&self) -> Result<()> {
        self.held.accept_all(Settle::AsTopicSays)
    }

    /// Releases every record that is not acknowledged yet: it is delivered again, to anybody, after the
    /// group's [backoff](crate::ShareConsumerBuilder::retry_backoff). Dropping this does the same.
    ///
    /// # Errors
    ///
    /// [`Error::NotAcquired`], as [`accept_all`](Self::accept_all).
    pub fn release_all(&self) -> Result<()> {
        self.held.acknowledge_all(Acknowledgement::Release(self.held.terms.backoff), Settle::Later)
    }

    /// Renews the lock of every record that is not acknowledged yet: from now on as long as
    /// [`lock_duration`](crate::ShareConsumerBuilder::lock_duration) says.
    ///
    /// # Errors
    ///
    /// [`Error::NotAcquired`], as [`accept_all`](Self::accept_all).
    pub fn renew_all(&self) -> Result<()> {
        self.held
            .acknowledge_all(Acknowledgement::Renew(self.held.terms.lock_duration), Settle::Later)
    }
}

impl Drop for ShareRecords {
    fn drop(&mut self) {
        // In implicit mode the consumer has them too, and accepts them with its next poll. Whoever
        // panics in the middle of the work is not done with them.
        if self.held.terms.mode == AcknowledgementMode::Implicit && std::thread::panicking() {
            self.held.release_all();
        }
    }
}

impl fmt::Debug for ShareRecords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ranges = |holding: &Holding| {
            let offsets: Vec<_> =
                holding.ranges.iter().map(|range| range.offsets.clone()).collect();
            (holding.share.topic_partition().clone(), offsets)
        };
        let held: Vec<_> = self.held.partitions.iter().map(ranges).collect();
        f.debug_struct("ShareRecords").field("records", &held).finish_non_exhaustive()
    }
}

impl<'a> IntoIterator for &'a ShareRecords {
    type Item = ShareRecord<'a>;
    type IntoIter = ShareRecordsIter<'a>;

    fn into_iter(self) -> ShareRecordsIter<'a> {
        self.iter()
    }
}

/// Iterates over [`ShareRecords`].
#[must_use = "iterators are lazy"]
pub struct ShareRecordsIter<'a> {
    terms: &'a Terms,
    holdings: slice::Iter<'a, Holding>,
    holding: Option<HoldingIter<'a>>,
    left: usize,
}

/// The records of one partition.
struct HoldingIter<'a> {
    holding: &'a Holding,
    ranges: slice::Iter<'a, StateRange>,
    /// The range that the next record is in, or will be.
    range: &'a StateRange,
    runs: slice::Iter<'a, Run>,
    run: RunIter<'a>,
}

impl<'a> HoldingIter<'a> {
    fn new(holding: &'a Holding) -> Option<Self> {
        let (mut ranges, mut runs) = (holding.ranges.iter(), holding.runs.iter());
        let (range, run) = (ranges.next()?, runs.next()?.iter());
        Some(Self { holding, ranges, range, runs, run })
    }

    #[inline]
    fn next(&mut self) -> Option<(ConsumerRecord<'a>, u16)> {
        loop {
            let Some(record) = self.run.next() else {
                self.run = self.runs.next()?.iter();
                continue;
            };
            while record.offset() >= self.range.offsets.end {
                self.range = self.ranges.next()?;
            }
            if record.offset() >= self.range.offsets.start {
                return Some((record, self.range.state.delivery_count()));
            }
        }
    }
}

impl<'a> Iterator for ShareRecordsIter<'a> {
    type Item = ShareRecord<'a>;

    #[inline]
    fn next(&mut self) -> Option<ShareRecord<'a>> {
        loop {
            if let Some(iter) = &mut self.holding {
                if let Some((record, delivery_count)) = iter.next() {
                    self.left = self.left.saturating_sub(1);
                    let (holding, terms) = (iter.holding, self.terms);
                    return Some(ShareRecord { record, delivery_count, holding, terms });
                }
                self.holding = None;
            }
            self.holding = HoldingIter::new(self.holdings.next()?);
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for ShareRecordsIter<'_> {}

impl fmt::Debug for ShareRecordsIter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShareRecordsIter").field("left", &self.left).finish_non_exhaustive()
    }
}

/// A record that this worker has, and what it can say of it. What a [`ConsumerRecord`] has it has too.
///
/// Each call acknowledges just this record, at once; where a topic is under [`Durability::Fsync`],
/// [`accept`](Self::accept) and [`reject`](Self::reject) wait for the disk, and workers that do so at the
/// same time share a sync. To acknowledge many records see [`ShareRecords::accept_all`].
///
/// All of them give [`Error::NotAcquired`] if the worker does not have the record any more: its lock has
/// timed out, or it was acknowledged before. Nothing is changed then; whoever has the record now is not
/// disturbed.
pub struct ShareRecord<'a> {
    record: ConsumerRecord<'a>,
    delivery_count: u16,
    holding: &'a Holding,
    terms: &'a Terms,
}

impl<'a> Deref for ShareRecord<'a> {
    type Target = ConsumerRecord<'a>;

    fn deref(&self) -> &ConsumerRecord<'a> {
        &self.record
    }
}

impl ShareRecord<'_> {
    /// How often it has been delivered, this time included: 1 for the first time. Survives restarts.
    pub fn delivery_count(&self) -> u16 {
        self.delivery_count
    }

    /// It is done, and never delivered again to this group.
    ///
    /// # Errors
    ///
    /// [`Error::NotAcquired`]; otherwise as [`ShareRecords::accept_all`].
    pub fn accept(&self) -> Result<()> {
        self.acknowledge(Acknowledgement::Accept)
    }

    /// It is to be delivered again, to anybody, after the group's
    /// [backoff](crate::ShareConsumerBuilder::retry_backoff).
    ///
    /// # Errors
    ///
    /// [`Error::NotAcquired`].
    pub fn release(&self) -> Result<()> {
        self.acknowledge(Acknowledgement::Release(self.terms.backoff))
    }

    /// It is to be delivered again after this time, whatever the group's backoff. The wait does not outlive
    /// the process.
    ///
    /// # Errors
    ///
    /// [`Error::NotAcquired`].
    pub fn release_after(&self, delay: Duration) -> Result<()> {
        self.acknowledge(Acknowledgement::ReleaseAfter(delay))
    }

    /// It cannot be done, for this reason, and is not delivered again. With a
    /// [`dead_letter_topic`](crate::ShareConsumerBuilder::dead_letter_topic) it goes there, the reason in
    /// its header `__dlq.errors.message`.
    ///
    /// # Errors
    ///
    /// [`Error::NotAcquired`]; what an append to the dead-letter topic can give, and then the record is
    /// still this worker's. Otherwise as [`ShareRecords::accept_all`].
    pub fn reject(&self, reason: &str) -> Result<()> {
        if let Some(topic) = &self.terms.dead_letters {
            // So that nobody else is given it while it is copied; and if somebody has it already, it is
            // not for this worker to give it up.
            self.renew()?;
            let offsets = self.offset()..self.offset() + 1;
            let states =
                self.holding.ranges.iter().find(|range| range.offsets.contains(&offsets.start));
            if let Some(StateRange { state, .. }) = states {
                let letter = StateRange { offsets, state: *state };
                let reason = Reason::Rejected(reason);
                dead_letter::copy(&self.holding.share, slice::from_ref(&letter), reason, topic)?;
            }
        }
        self.acknowledge(Acknowledgement::Reject)
    }

    /// It takes longer: the lock lasts from now on as long as
    /// [`lock_duration`](crate::ShareConsumerBuilder::lock_duration) says.
    ///
    /// # Errors
    ///
    /// [`Error::NotAcquired`].
    pub fn renew(&self) -> Result<()> {
        self.acknowledge(Acknowledgement::Renew(self.terms.lock_duration))
    }

    fn acknowledge(&self, what: Acknowledgement) -> Result<()> {
        let acknowledged = self.holding.acknowledge_one(self.offset(), what)?;
        self.holding.settle(acknowledged)
    }
}

impl fmt::Debug for ShareRecord<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShareRecord")
            .field("record", &self.record)
            .field("delivery_count", &self.delivery_count)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_taken_out_wherever_they_are() {
        let cases = [
            ((0, 1), vec![1..10, 20..30]),
            ((9, 10), vec![0..9, 20..30]),
            ((4, 5), vec![0..4, 5..10, 20..30]),
            ((0, 10), std::iter::once(20..30).collect()),
            ((5, 25), vec![0..5, 25..30]),
            ((12, 13), vec![0..10, 20..30]),
        ];
        for ((start, end), expected) in cases {
            let mut ranges = vec![0..10, 20..30];
            subtract(&mut ranges, slice::from_ref(&(start..end)));
            assert_eq!(ranges, expected, "{start}..{end}");
        }
    }
}
