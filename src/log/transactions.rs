//! Which transactions of a log were aborted, and which nobody has ended yet: what `read_committed` goes by.
//!
//! Only Kafka's producers have transactions so far; their records are in logs that a broker has written.
//! Nothing is stored of them besides the log: the first who asks has the batch headers read from the log
//! start offset on, and whoever asks later those that have come since. Only the headers, but of a
//! transaction's batches the checksums too, since a wrong producer id would hide records.
//!
//! (Kafka: `ProducerStateManager` and `TransactionIndex`; there a broker reads the same from snapshots and
//! `.txnindex` files.)

use std::collections::BTreeMap;
use std::ops::Range;

use crate::error::Result;
use crate::log::PartitionLog;
use crate::log::read::ReadCursor;
use crate::record::batch::{BatchError, RecordBatch};
use crate::record::control::{ControlRecord, TransactionResult};
use crate::segment::BatchPosition;

/// More than the records of any control batch take.
const CONTROL_BYTES_MAX: usize = 1 << 20;

/// What one producer has written in a transaction that was aborted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AbortedTransaction {
    producer_id: i64,
    /// Of its first batch, as far as that is still there.
    first_offset: u64,
    /// Of the marker that ends it.
    last_offset: u64,
}

impl AbortedTransaction {
    /// Whether a batch is one of its.
    pub(crate) fn holds(&self, batch: &RecordBatch<'_>) -> bool {
        batch.attributes().is_transactional()
            && batch.header().producer_id == self.producer_id
            && (self.first_offset..=self.last_offset).contains(&batch.base_offset())
    }
}

/// The transactions of a log, as far as it was looked at. Grows with those that were aborted.
#[derive(Debug, Default)]
pub(super) struct Transactions {
    /// By producer id, where the transaction begins that it has not ended.
    open: BTreeMap<i64, u64>,
    /// In the order in which they ended.
    aborted: Vec<AbortedTransaction>,
    /// Everything before it was looked at.
    next_offset: u64,
    /// Where that lies, if it is known.
    cursor: Option<ReadCursor>,
}

impl Transactions {
    /// Takes in the next batch.
    fn apply(&mut self, batch: &RecordBatch<'_>) -> Result<(), BatchError> {
        if !batch.attributes().is_transactional() {
            return Ok(());
        }
        batch.verify_checksum()?;
        let producer_id = batch.header().producer_id;
        if !batch.attributes().is_control() {
            self.open.entry(producer_id).or_insert(batch.base_offset());
            return Ok(());
        }
        let mut buffer = Vec::new();
        // None in a marker that compaction has emptied: its transaction is gone.
        for record in batch.records(&mut buffer, CONTROL_BYTES_MAX)? {
            let ControlRecord::EndTransaction { result, .. } = ControlRecord::parse(&record?)?
            else {
                continue;
            };
            let Some(first_offset) = self.open.remove(&producer_id) else { continue };
            if result == TransactionResult::Abort {
                let last_offset = batch.last_offset();
                self.aborted.push(AbortedTransaction { producer_id, first_offset, last_offset });
            }
        }
        Ok(())
    }

    /// Records before this offset are gone.
    fn forget_before(&mut self, log_start: u64) {
        let gone = self.aborted.partition_point(|aborted| aborted.last_offset < log_start);
        self.aborted.drain(..gone);
        if self.next_offset < log_start {
            // What has ended between the two nobody knows; what has not shows again.
            *self = Self {
                next_offset: log_start,
                aborted: std::mem::take(&mut self.aborted),
                ..Self::default()
            };
        }
    }

    /// The offset below which no transaction is open, if there is one open.
    fn first_open(&self) -> Option<u64> {
        self.open.values().copied().min()
    }
}

/// How far `read_committed` sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StableEnd {
    /// No transaction is open below it.
    pub(crate) last_stable_offset: u64,
    /// The high watermark at which that was found: as long as it is the same, so is the other.
    pub(crate) high_watermark: u64,
}

impl PartitionLog {
    /// Looks at what has become visible since the last call, and says how far the log is stable.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`](crate::Error::Corrupt) if a batch on the way is damaged, even if nobody wants to
    /// read it: it may be the one that ends a transaction.
    pub(crate) fn stable_end(&self) -> Result<StableEnd> {
        self.check_not_closed()?;
        let mut known = self.transactions.lock();
        if let Err(error) = self.look_at_transactions(&mut known) {
            // Retention was faster, or the log is one that another process has begun anew.
            self.check_not_closed()?;
            self.refresh_segments()?;
            let is_final = self.follower.is_none() && known.next_offset >= self.ends.log_start();
            if is_final {
                return Err(self.locate_error(error));
            }
            self.look_at_transactions(&mut known).map_err(|error| self.locate_error(error))?;
        }
        let high_watermark = known.next_offset.min(self.ends.high_watermark());
        let stable = known.first_open().map_or(high_watermark, |first| first.min(high_watermark));
        let last_stable_offset = stable.max(self.ends.log_start());
        Ok(StableEnd { last_stable_offset, high_watermark })
    }

    /// The aborted transactions that have records among these offsets, which lie below the last stable one.
    pub(crate) fn aborted_transactions(&self, offsets: Range<u64>) -> Vec<AbortedTransaction> {
        let known = self.transactions.lock();
        let ended = known.aborted.partition_point(|aborted| aborted.last_offset < offsets.start);
        let later = known.aborted.iter().skip(ended);
        later.filter(|aborted| aborted.first_offset < offsets.end).copied().collect()
    }

    fn look_at_transactions(&self, known: &mut Transactions) -> Result<()> {
        known.forget_before(self.ends.log_start());
        let end = self.ends.high_watermark();
        while known.next_offset < end {
            let cursor = match known.cursor.take() {
                Some(cursor) => cursor,
                None => self.locate(known.next_offset)?,
            };
            let cursor = self.past_the_end(cursor)?;
            let (segment, begin) = (&cursor.segment, cursor.at);
            let (mut batches, mut next) = (segment.batches_from(begin), begin);
            while next.base_offset < end
                && let Some((at, batch)) = batches.next()?
            {
                let applied = known.apply(&batch);
                applied.map_err(|error| segment.damage_at(at, &error.to_string()))?;
                next = BatchPosition {
                    file_position: at.file_position + batch.size() as u64,
                    base_offset: batch.next_offset(),
                };
                known.next_offset = next.base_offset;
            }
            if next == begin {
                let reason = format!("it ends at offset {}, expected more", begin.base_offset);
                return Err(segment.damage_at(begin, &reason));
            }
            known.cursor = Some(ReadCursor { at: next, ..cursor });
        }
        Ok(())
    }
}
