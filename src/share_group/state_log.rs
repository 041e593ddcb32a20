//! The log of `__share_group_state`: what share groups know goes in as records and comes out by replay.
//!
//! Its records are appended without waiting: what has to be durable says so by [`StateLog::flush_to`].

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, Result};
use crate::log::config::{Durability, TopicConfig};
use crate::record::batch::RecordRef;
use crate::record::builder::BatchBuilder;
use crate::share_group::state_records::{
    self, ShareKey, ShareRecord, ShareRecordError, ShareStates,
};
use crate::share_group::window::Window;
use crate::time::Timestamp;
use crate::topic::Partition;
use crate::topic::internal_log::{InternalLog, Replayed, Stored};

/// The internal topic of share groups, by Kafka's name.
pub(crate) const STATE_TOPIC: &str = "__share_group_state";

/// A log below this size is never cleared of what is said anew.
const CLEAR_BYTES_MIN: u64 = 1 << 20;

/// A log this many times as large as what it says is cleared.
const CLEAR_FACTOR: u64 = 4;

/// The largest snapshot, and the size of a segment.
const LEN_MAX: u32 = 8 << 20;

/// The settings of the internal topic.
///
/// One partition, for the same reason as that of committed offsets: acknowledgements share a sync. It is
/// under [`Durability::Written`] because every poll writes to it and must not wait: an acknowledgement that
/// has to be durable asks for the sync.
pub(crate) fn state_topic_config() -> TopicConfig {
    TopicConfig::default()
        .partitions(1)
        .durability(Durability::Written { flush_interval: std::time::Duration::from_secs(1) })
        .retention_ms(None)
        .max_message_bytes(LEN_MAX)
        .segment_bytes(LEN_MAX)
}

/// The log and how large it has become. Any thread may call anything.
#[derive(Debug)]
pub(crate) struct StateLog {
    log: InternalLog,
    /// Bytes from its start, as far as they are known to be in use.
    bytes: AtomicU64,
    /// It is worth clearing at this size.
    clear_at: AtomicU64,
}

/// All windows that a log speaks of.
pub(crate) type Windows = BTreeMap<ShareKey, Replay>;

/// What a replay knows of one partition of one group.
#[derive(Debug)]
pub(crate) struct Replay {
    pub(crate) window: Window,
    /// Where its last snapshot is.
    pub(crate) snapshot_at: u64,
}

impl StateLog {
    pub(crate) fn new(partition: Partition) -> Self {
        let log = InternalLog::new(partition);
        Self { log, bytes: AtomicU64::new(0), clear_at: AtomicU64::new(CLEAR_BYTES_MIN) }
    }

    pub(crate) fn partition(&self) -> &Partition {
        self.log.partition()
    }

    pub(crate) fn log(&self) -> &InternalLog {
        &self.log
    }

    /// Appends a batch. Survives the process being killed; not durable before [`Self::flush_to`].
    pub(crate) fn append(&self, builder: &mut BatchBuilder, now: Timestamp) -> Result<Stored> {
        let stored = self.log.append(builder, now)?;
        // Tells how much there is, and orders nothing.
        self.bytes.fetch_add(stored.bytes, Ordering::Relaxed);
        Ok(stored)
    }

    /// Returns once everything below an offset is on disk.
    pub(crate) fn flush_to(&self, offset: u64) -> Result<()> {
        self.log.flush_to(offset)
    }

    /// Whether the log has grown so large that it is worth clearing.
    pub(crate) fn is_to_be_cleared(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) >= self.clear_at.load(Ordering::Relaxed)
    }

    /// Deletes everything before an offset: it is said anew behind it.
    ///
    /// What is behind it is made durable first, so a crash between the two leaves a log that says some
    /// things twice.
    pub(crate) fn clear_before(&self, offset: u64, live_bytes: u64) -> Result<()> {
        self.flush_to(self.partition().log_end_offset())?;
        self.partition().give_up_records(offset)?;
        self.bytes.store(live_bytes, Ordering::Relaxed);
        self.clear_next_at(live_bytes);
        Ok(())
    }

    /// The disk was too full: the log is left in peace for a while.
    pub(crate) fn postpone_clearing(&self) {
        let later = self.bytes.load(Ordering::Relaxed).saturating_add(CLEAR_BYTES_MIN);
        self.clear_at.store(later, Ordering::Relaxed);
    }

    fn clear_next_at(&self, live_bytes: u64) {
        let at = CLEAR_BYTES_MIN.max(live_bytes.saturating_mul(CLEAR_FACTOR));
        self.clear_at.store(at, Ordering::Relaxed);
    }

    /// Reads everything there is.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] for damage and for records that break their schema,
    /// [`Error::UnsupportedFormat`] for those of a later version: groups never start over by themselves.
    pub(crate) fn replay(&self) -> Result<Windows> {
        let mut windows = Windows::new();
        let from = self.partition().log_start_offset();
        let Replayed { bytes, .. } = self.log.replay(from, &mut |record, path| {
            let offset = record.offset();
            let decoded = decode(record).map_err(|error| match error {
                ShareRecordError::Unsupported(_) => {
                    Error::UnsupportedFormat { path: path.to_owned(), reason: error.to_string() }
                }
                ShareRecordError::Malformed(_) => {
                    self.log.damaged(path, offset..offset + 1, &error)
                }
            })?;
            apply(&mut windows, decoded, offset);
            Ok(())
        })?;
        self.bytes.store(bytes, Ordering::Relaxed);
        Ok(windows)
    }
}

fn decode(record: &RecordRef<'_>) -> Result<ShareRecord, ShareRecordError> {
    state_records::decode(record.key(), record.value())
}

/// Applies one record, found at an offset.
pub(crate) fn apply(windows: &mut Windows, record: ShareRecord, offset: u64) {
    match record {
        ShareRecord::Snapshot(key, states) => {
            let mut window = Window::new(states.start.unwrap_or_default());
            set(&mut window, states);
            windows.insert(key, Replay { window, snapshot_at: offset });
        }
        // An update without a snapshot before it is left over from a group that was forgotten, or the log
        // was cleared in between: a snapshot comes behind it.
        ShareRecord::Update(key, states) => {
            if let Entry::Occupied(mut known) = windows.entry(key) {
                set(&mut known.get_mut().window, states);
            }
        }
        ShareRecord::Tombstone(key) => {
            windows.remove(&key);
        }
        ShareRecord::Skip => {}
    }
}

fn set(window: &mut Window, states: ShareStates) {
    for (offsets, state) in states.batches {
        window.set_stored(offsets, state);
    }
    if let Some(start) = states.start {
        window.set_start(start);
    }
}
