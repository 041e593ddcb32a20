//! The groups whose records are in one partition of the internal topic, and the changes to what they
//! have committed.
//!
//! Every change is decided, appended, synced, and only then applied, so that nobody ever sees an
//! offset that a power cut could take back. Changes are applied in the order of the log, whichever
//! thread's sync made them durable: what is in memory is always what a replay would give.
//!
//! Until the topic is compacted, it is kept small by writing everything that is committed again
//! and then deleting what lies before (contract, clauses 11 and 15). The order of these steps makes
//! a crash between them harmless: at worst the log says the same thing twice.

use std::collections::VecDeque;

use parking_lot::{MappedMutexGuard, Mutex, MutexGuard};

use crate::error::Result;
use crate::group::committed::{Change, CommittedOffsets};
use crate::group::offset_store::OffsetStore;
use crate::time::Timestamp;
use crate::topic::Partition;
use crate::topic::log_manager::{LogManager, OpenMode};
use crate::topic_partition::TopicPartition;

/// A log of committed offsets below this size is never rewritten.
pub(crate) const REWRITE_BYTES_MIN: u64 = 1 << 20;

/// A log this many times as large as what it says is rewritten.
const REWRITE_FACTOR: u64 = 4;

/// So many offsets are forgotten with one batch: few enough to fit it whatever their names.
const FORGET_MAX: usize = 4096;

/// So many changes at most are held that nobody has waited for.
const PENDING_MAX: usize = 1024;

/// One partition's groups. Any thread may call anything.
///
/// Lock order: the state, then the locks of the log. The state's lock is held over an append, so
/// that the order of decisions is that of the log, and over the rare rewrite; never over the sync
/// of a commit.
#[derive(Debug)]
pub(crate) struct Shard {
    store: OffsetStore,
    state: Mutex<ShardState>,
}

#[derive(Debug)]
struct ShardState {
    /// What is durable.
    offsets: CommittedOffsets,
    /// Appended, but not known to be durable; in the order of the log.
    pending: VecDeque<Pending>,
    /// Corrections that a full disk has kept from being written.
    uncorrected: Vec<Change>,
    /// Everything below this offset has been read; for brokers that only read.
    replayed_to: u64,
    /// Bytes of the log from its start, as far as they are known to be in use.
    bytes: u64,
    /// The log is rewritten when it has this size.
    rewrite_at: u64,
}

#[derive(Debug)]
struct Pending {
    next_offset: u64,
    changes: Vec<Change>,
}

impl Shard {
    /// Replays a partition, and corrects what cannot be right.
    pub(crate) fn open(partition: Partition, manager: &LogManager) -> Result<Self> {
        let store = OffsetStore::new(partition);
        if manager.mode() == OpenMode::Write {
            // What a replay reads must be what the next one will read too.
            store.flush_to(store.partition().log_end_offset())?;
        }
        let mut offsets = CommittedOffsets::default();
        let from = store.partition().log_start_offset();
        let replayed = store.replay(from, &mut |change| offsets.apply(change))?;
        let live_bytes = offsets.live().map(|change| change.size_estimate()).sum();
        let state = ShardState {
            offsets,
            pending: VecDeque::new(),
            uncorrected: Vec::new(),
            replayed_to: replayed.next_offset,
            bytes: replayed.bytes,
            rewrite_at: rewrite_at(live_bytes),
        };
        let shard = Self { store, state: Mutex::new(state) };
        if manager.mode() == OpenMode::Write {
            shard.correct(manager)?;
        }
        Ok(shard)
    }

    /// Sees to it that nothing is committed beyond the end of its log. A disk that is full does
    /// not keep the broker from being opened: the next change writes the corrections first.
    fn correct(&self, manager: &LogManager) -> Result<()> {
        let log_end = |of: &TopicPartition| manager.partition(of).ok().map(|p| p.log_end_offset());
        let now = manager.environment().clock.now();
        {
            let mut state = self.state.lock();
            state.uncorrected = state.offsets.corrections(log_end);
            for change in state.uncorrected.clone() {
                state.offsets.apply(change);
            }
        }
        match self.change(now, |_| Ok(Vec::new())) {
            Err(error) if !error.is_retriable() => Err(error),
            _ => Ok(()),
        }
    }

    /// Its log.
    #[cfg(test)]
    pub(crate) fn store(&self) -> &OffsetStore {
        &self.store
    }

    /// What is committed as of now. Held only for a look.
    pub(crate) fn offsets(&self) -> MappedMutexGuard<'_, CommittedOffsets> {
        let mut state = self.state.lock();
        // Somebody else's sync may have made durable what nobody waits for.
        if !state.pending.is_empty() {
            state.apply_durable(self.store.durable_to());
        }
        MutexGuard::map(state, |state| &mut state.offsets)
    }

    /// Returns once every change that was decided on before is durable and can be seen.
    pub(crate) fn settle(&self) -> Result<()> {
        if !self.state.lock().pending.is_empty() {
            self.store.flush_to(self.store.partition().log_end_offset())?;
            self.state.lock().apply_durable(self.store.durable_to());
        }
        Ok(())
    }

    /// Makes changes that need not be made together, until `decide` has no more of them. It is shown
    /// all changes that were decided on before, also those that are only now on their way.
    pub(crate) fn forget(
        &self,
        now: Timestamp,
        decide: impl Fn(&CommittedOffsets) -> Result<Vec<Change>>,
    ) -> Result<()> {
        self.settle()?;
        let some = |offsets: &CommittedOffsets| {
            let mut changes = decide(offsets)?;
            changes.truncate(FORGET_MAX);
            Ok(changes)
        };
        while self.change(now, some)? {}
        Ok(())
    }

    /// Decides on changes, appends them as one batch, syncs, applies. `false` if there were none
    /// to make.
    pub(crate) fn change(
        &self,
        now: Timestamp,
        decide: impl FnOnce(&CommittedOffsets) -> Result<Vec<Change>>,
    ) -> Result<bool> {
        let Some(next_offset) = self.append(now, decide)? else { return Ok(false) };
        self.store.flush_to(next_offset)?;
        self.state.lock().apply_durable(self.store.durable_to());
        Ok(true)
    }

    /// As [`Self::change`], without waiting for the sync: the next one of the log takes them along, and
    /// what it has made durable counts from then on. `false` if there were none to make.
    pub(crate) fn change_soon(
        &self,
        now: Timestamp,
        decide: impl FnOnce(&CommittedOffsets) -> Result<Vec<Change>>,
    ) -> Result<bool> {
        let Some(next_offset) = self.append(now, decide)? else { return Ok(false) };
        if self.state.lock().pending.len() > PENDING_MAX {
            // Nobody has synced for long.
            self.store.flush_to(next_offset)?;
        }
        self.state.lock().apply_durable(self.store.durable_to());
        Ok(true)
    }

    /// Decides on changes and appends them as one batch. Says what has to be durable for them to count.
    fn append(
        &self,
        now: Timestamp,
        decide: impl FnOnce(&CommittedOffsets) -> Result<Vec<Change>>,
    ) -> Result<Option<u64>> {
        let mut state = self.state.lock();
        self.write_corrections(&mut state, now)?;
        let changes = decide(&state.offsets)?;
        if changes.is_empty() {
            return Ok(None);
        }
        self.rewrite_if_due(&mut state, now)?;
        let stored = self.store.append(&changes, now)?;
        let next_offset = stored.appended.next_offset;
        state.bytes += stored.bytes;
        state.pending.push_back(Pending { next_offset, changes });
        Ok(Some(next_offset))
    }

    fn write_corrections(&self, state: &mut ShardState, now: Timestamp) -> Result<()> {
        if state.uncorrected.is_empty() {
            return Ok(());
        }
        state.bytes += self.store.append_all(state.uncorrected.iter().cloned(), now)?;
        self.store.flush_to(self.store.partition().log_end_offset())?;
        state.uncorrected.clear();
        Ok(())
    }

    /// Writes everything that is committed again and deletes what lies before, if the log has grown
    /// so large that this is worth it. A disk too full for it is no reason to refuse the change
    /// that comes next, which needs little space.
    fn rewrite_if_due(&self, state: &mut ShardState, now: Timestamp) -> Result<()> {
        if state.bytes < state.rewrite_at {
            return Ok(());
        }
        match self.rewrite(state, now) {
            Err(error) if error.is_retriable() => {
                state.rewrite_at = state.bytes.saturating_add(REWRITE_BYTES_MIN);
                Ok(())
            }
            other => other,
        }
    }

    fn rewrite(&self, state: &mut ShardState, now: Timestamp) -> Result<()> {
        let log = self.store.partition().log();
        // Changes that are on their way are older than what is written now: they must count first.
        log.flush()?;
        state.apply_durable(self.store.durable_to());
        let rewritten_from = self.store.partition().log_end_offset();
        let bytes = self.store.append_all(state.offsets.live(), now)?;
        log.flush()?;
        self.store.partition().give_up_records(rewritten_from)?;
        state.bytes = bytes;
        state.rewrite_at = rewrite_at(bytes);
        Ok(())
    }

    /// Reads what another process has written since.
    pub(crate) fn catch_up(&self) -> Result<()> {
        let mut state = self.state.lock();
        self.store.partition().log().refresh()?;
        let log_start = self.store.partition().log_start_offset();
        if state.replayed_to < log_start {
            // The log was rewritten: what it says now is everything.
            state.offsets.clear();
            state.replayed_to = log_start;
        }
        let ShardState { offsets, replayed_to, .. } = &mut *state;
        let replayed = self.store.replay(*replayed_to, &mut |change| offsets.apply(change))?;
        *replayed_to = replayed.next_offset;
        Ok(())
    }
}

/// The size at which a log is rewritten that says what fits `live_bytes`.
fn rewrite_at(live_bytes: u64) -> u64 {
    REWRITE_BYTES_MIN.max(live_bytes.saturating_mul(REWRITE_FACTOR))
}

impl ShardState {
    /// Applies what has become durable, in the order of the log.
    fn apply_durable(&mut self, durable_to: u64) {
        while self.pending.front().is_some_and(|pending| pending.next_offset <= durable_to) {
            let changes = self.pending.pop_front().into_iter().flat_map(|pending| pending.changes);
            changes.for_each(|change| self.offsets.apply(change));
        }
    }
}
