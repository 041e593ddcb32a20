//! One partition of an internal topic: what a coordinator decides goes in as records and comes out again
//! by replay.
//!
//! Knows batches and the log, not what the records mean.

use std::fmt;
use std::ops::Range;
use std::path::Path;

use crate::error::{Corruption, Error, Result};
use crate::log::Appended;
use crate::log::read::{Fetched, ReadCursor};
use crate::record::Compression;
use crate::record::Record;
use crate::record::batch::{BatchError, RecordBatch, RecordRef};
use crate::record::builder::BatchBuilder;
use crate::time::Timestamp;
use crate::topic::{DECOMPRESSED_MAX, Partition};

/// How much of the log is read at a time.
const READ_LEN: usize = 1 << 20;

/// A partition that is written by its coordinator alone. Any thread may call anything; the caller keeps
/// the order of records that must have one.
#[derive(Debug)]
pub(crate) struct InternalLog {
    partition: Partition,
}

/// What a replay has read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Replayed {
    /// The offset after the last record.
    pub(crate) next_offset: u64,
    /// Bytes of batches.
    pub(crate) bytes: u64,
}

/// Where a batch went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) appended: Appended,
    /// Bytes of the batch.
    pub(crate) bytes: u64,
}

impl InternalLog {
    pub(crate) fn new(partition: Partition) -> Self {
        Self { partition }
    }

    pub(crate) fn partition(&self) -> &Partition {
        &self.partition
    }

    /// Adds a record to a batch.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidRecord`] if it does not fit any batch.
    pub(crate) fn add(
        &self,
        builder: &mut BatchBuilder,
        record: &Record<'_>,
        now: Timestamp,
    ) -> Result<()> {
        let added = builder.append(record, now);
        added.map(drop).map_err(|error| self.partition.invalid(&error.to_string()))
    }

    /// Appends a batch: after a crash all of it is there, or nothing. Not durable before
    /// [`Self::flush_to`].
    ///
    /// # Errors
    ///
    /// As [`append`](crate::log::PartitionLog::append).
    pub(crate) fn append(&self, builder: &mut BatchBuilder, now: Timestamp) -> Result<Stored> {
        let compression = self.partition.topic().shared_config().compression;
        let sealed = builder.seal(compression.unwrap_or(Compression::None));
        sealed.map_err(|error| self.partition.invalid(&error.to_string()))?;
        let count = usize::try_from(builder.record_count()).unwrap_or(usize::MAX);
        let batch = builder.sealed();
        let bytes = batch.size() as u64;
        let appended = self.partition.append_sealed(batch, count, now, None)?;
        Ok(Stored { appended, bytes })
    }

    /// Returns once every record below an offset is on disk. One sync serves all who wait.
    pub(crate) fn flush_to(&self, offset: u64) -> Result<()> {
        self.partition.log().flush_to(offset)
    }

    /// Every record below it is durable.
    pub(crate) fn durable_to(&self) -> u64 {
        self.partition.log().recovery_point()
    }

    /// Reads all visible records from an offset on. `take` is given each of them with the file it is in.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] for damage, [`Error::UnsupportedFormat`] for records of a transaction, and what
    /// `take` returns: never a record left out.
    pub(crate) fn replay(
        &self,
        from: u64,
        take: &mut dyn FnMut(&RecordRef<'_>, &Path) -> Result<()>,
    ) -> Result<Replayed> {
        let mut replayed = Replayed { next_offset: from, bytes: 0 };
        let mut cursor: Option<ReadCursor> = None;
        let mut buffer = Vec::new();
        let log = self.partition.log();
        while let Some(fetched) = log.read(replayed.next_offset, cursor.as_ref(), READ_LEN)? {
            self.replay_run(&fetched, &mut buffer, take)?;
            replayed.bytes += fetched.bytes.len() as u64;
            replayed.next_offset = fetched.next_offset;
            cursor = Some(fetched.cursor);
        }
        Ok(replayed)
    }

    fn replay_run(
        &self,
        fetched: &Fetched,
        buffer: &mut Vec<u8>,
        take: &mut dyn FnMut(&RecordRef<'_>, &Path) -> Result<()>,
    ) -> Result<()> {
        let path = fetched.cursor.path();
        let mut bytes: &[u8] = &fetched.bytes;
        while !bytes.is_empty() {
            let batch =
                RecordBatch::parse(bytes).map_err(|error| self.damaged(path, 0..0, &error))?;
            bytes = bytes.get(batch.size()..).unwrap_or_default();
            let offsets = batch.base_offset()..batch.next_offset();
            let damaged = |error: BatchError| self.damaged(path, offsets.clone(), &error);
            if batch.attributes().is_control() {
                continue;
            }
            if batch.attributes().is_transactional() {
                return Err(Error::UnsupportedFormat {
                    path: path.to_owned(),
                    reason: "it holds records of a transaction".to_owned(),
                });
            }
            for record in batch.records(buffer, DECOMPRESSED_MAX).map_err(damaged)? {
                take(&record.map_err(damaged)?, path)?;
            }
        }
        Ok(())
    }

    /// The error for records that are not what the coordinator writes.
    pub(crate) fn damaged(
        &self,
        path: &Path,
        offsets: Range<u64>,
        error: &dyn fmt::Display,
    ) -> Error {
        let mut damage = Corruption::of_file(path, error.to_string());
        damage.topic_partition = Some(self.partition.topic_partition().clone());
        damage.offsets = offsets;
        damage.into()
    }
}
