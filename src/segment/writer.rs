//! The append side of the active segment.
//!
//! One [`SegmentWriter`] exists per log and lives under the log's append lock. Space is made ready
//! ahead of the write position by writing zeros, so that a full disk shows as an error there and
//! nowhere else, and so that a sync has no new file length to record. Into that space batches go in
//! one of two ways: stored into a mapped window (no system call; the bytes are the kernel's at
//! once), or by `pwrite` (which makes the following fdatasync cheaper). Large batches that nobody
//! waits to see synced need no such space: they are written where the file ends.
//!
//! A failed append leaves everything as it was: the position moves last. What part of the bytes got
//! into the file is cut off before the next append, so that nothing of it can be taken for a batch
//! later.

use std::sync::Arc;

use super::entries::EntriesFile;
use super::file_name::Suffix;
use super::indexer::{IndexRule, Indexer};
use super::{BatchPosition, Segment};
use crate::error::{Error, Result};
use crate::fs::held::HeldFile;
use crate::fs::{File, TailWindow, TailWrites};
use crate::time::Timestamp;

/// Space is made ready in steps of this many bytes: whoever is to append meanwhile waits for the
/// whole of one.
const STEP_LEN: u64 = ZEROS.len() as u64;

/// Steps that batches are written into by position, and windows, become this long while the segment
/// grows: the sync after a step has a new length to record, and a window costs two system calls. They
/// begin small, so that an idle partition does not cost much.
const STRETCH_LEN_MAX: u64 = 256 << 10;

/// Files end at a multiple of this while they grow.
const PAGE_LEN: u64 = 4096;

static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// How a batch's bytes get into the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Store {
    /// Copied into the mapped window, where the file system allows that.
    Window,
    /// By `pwrite`, to be followed by a sync.
    Positioned,
}

/// Limits of a segment that its writer has to know.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WriterLimits {
    /// `segment.bytes`: space is never made ready beyond it.
    pub(crate) len_max: u64,
    /// `index.interval.bytes`.
    pub(crate) index_interval: u64,
    /// How the file system lets tails be written.
    pub(crate) tail_writes: TailWrites,
}

/// Appends to one segment.
#[derive(Debug)]
pub(crate) struct SegmentWriter {
    segment: Arc<Segment>,
    file: HeldFile,
    limits: WriterLimits,
    window: Option<Box<dyn TailWindow>>,
    /// Where the next batch goes.
    position: u64,
    /// The file holds zeros from `position` up to here.
    zeroed_end: u64,
    behind: Behind,
    rule: IndexRule,
    index_file: EntriesFile,
    time_index_file: EntriesFile,
}

/// What the file may hold behind the zeros that are counted on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Behind {
    Nothing,
    /// More zeros, left by an attempt to write some.
    Zeros,
    /// Part of a batch that could not be written whole, perhaps over the zeros as well.
    Torn,
}

impl SegmentWriter {
    /// Starts writing behind what the segment holds and `indexer` has seen, in a file that ends
    /// there.
    pub(crate) fn new(segment: Arc<Segment>, indexer: Indexer, limits: WriterLimits) -> Self {
        let Indexer { indexes, mut rule } = indexer;
        rule.interval = limits.index_interval;
        segment.grow_indexes(indexes);
        segment.note_largest_timestamp(rule.largest_timestamp());
        Self {
            position: segment.len(),
            zeroed_end: segment.len(),
            behind: Behind::Nothing,
            file: HeldFile::new(Arc::clone(&segment.fs), segment.path(Suffix::Log)),
            segment,
            limits,
            window: None,
            rule,
            index_file: EntriesFile::default(),
            time_index_file: EntriesFile::default(),
        }
    }

    pub(crate) fn segment(&self) -> &Arc<Segment> {
        &self.segment
    }

    /// Whether it holds its file open, as it must for an append.
    pub(crate) fn is_open(&self) -> bool {
        self.file.is_open()
    }

    /// Opens the file and holds it.
    pub(crate) fn open(&mut self) -> Result<()> {
        let file = Arc::clone(self.file()?);
        self.segment.records().keep_open(file);
        Ok(())
    }

    /// Holds the file, which was just created.
    pub(crate) fn take(&mut self, file: Arc<dyn File>) {
        self.segment.records().keep_open(Arc::clone(&file));
        self.file.take(file);
    }

    /// Cuts the file to its true length and lets go of it, until [`Self::open`]. Everything must be
    /// synced.
    pub(crate) fn let_go(&mut self) -> Result<()> {
        self.cut()?;
        self.file.let_go();
        self.segment.records().release();
        Ok(())
    }

    /// Where the next batch goes.
    pub(crate) fn end(&self) -> BatchPosition {
        self.segment.end()
    }

    /// The largest timestamp of the first batch, by which the segment's age is counted.
    pub(crate) fn first_timestamp(&self) -> Option<Timestamp> {
        self.rule.first_timestamp()
    }

    /// How many entries the two indexes hold.
    pub(crate) fn index_entries(&self) -> (usize, usize) {
        self.rule.entries()
    }

    /// Follows a change of the topic's settings.
    pub(crate) fn set_limits(&mut self, limits: WriterLimits) {
        self.limits = limits;
        self.rule.interval = limits.index_interval;
    }

    /// Appends one batch, whose base offset is the segment's next offset.
    ///
    /// On an error nothing has happened: readers never look at what part of the bytes got into the
    /// file.
    pub(crate) fn append(&mut self, bytes: &[u8], facts: BatchFacts, store: Store) -> Result<()> {
        if self.behind == Behind::Torn {
            self.cut()?;
        }
        let at = self.position;
        let end = at + bytes.len() as u64;
        let store = match (self.limits.tail_writes, store) {
            (TailWrites::Positioned, _) => Store::Positioned,
            (TailWrites::Mapped { below }, Store::Window) if bytes.len() >= below => {
                Store::Positioned
            }
            (TailWrites::Mapped { .. }, store) => {
                let step = match store {
                    Store::Window => STEP_LEN,
                    Store::Positioned => self.stretch_len(),
                };
                self.zero_ahead(end, step)?;
                store
            }
        };
        match store {
            Store::Window => self.window_to(end)?.store(bytes, at),
            Store::Positioned => {
                if let Err(error) = self.file()?.write_all_at(bytes, at) {
                    self.behind = Behind::Torn;
                    return Err(self.io("append to", error));
                }
            }
        }
        if let Some(entry) = self.rule.due(facts.last_offset, facts.max_timestamp, at) {
            self.segment.change_indexes(|indexes| self.rule.push(indexes, entry));
        }
        self.segment.note_largest_timestamp(self.rule.largest_timestamp());
        self.position = end;
        self.zeroed_end = self.zeroed_end.max(end);
        let base_offset = facts.last_offset + 1;
        self.segment.follow_to(BatchPosition { file_position: end, base_offset });
        Ok(())
    }

    fn stretch_len(&self) -> u64 {
        self.position.clamp(STEP_LEN, STRETCH_LEN_MAX)
    }

    /// Writes zeros so that the file reaches at least `end`, and `step` bytes further if it can.
    fn zero_ahead(&mut self, end: u64, step: u64) -> Result<()> {
        if end <= self.zeroed_end {
            return Ok(());
        }
        // `len_max` may lie below `end`: settings can have changed since the segment was begun.
        let target = ((end + step) / PAGE_LEN * PAGE_LEN).min(self.limits.len_max).max(end);
        while self.zeroed_end < target {
            let len = usize::try_from(target - self.zeroed_end).unwrap_or(ZEROS.len());
            let zeros = ZEROS.get(..len).unwrap_or(&ZEROS);
            let at = self.zeroed_end;
            if let Err(error) = self.file()?.write_all_at(zeros, at) {
                self.behind = Behind::Zeros;
                let error = self.io("extend", error);
                // The disk is full ahead, but what is needed now is there.
                let enough = self.zeroed_end >= end && error.is_retriable();
                return if enough { Ok(()) } else { Err(error) };
            }
            self.zeroed_end += zeros.len() as u64;
        }
        Ok(())
    }

    /// Cuts the file to its true length. Appends may go on.
    pub(crate) fn cut(&mut self) -> Result<()> {
        self.window = None;
        if self.zeroed_end > self.position || self.behind != Behind::Nothing {
            let position = self.position;
            let cut = self.file()?.set_len(position);
            cut.map_err(|error| self.io("cut", error))?;
            self.zeroed_end = self.position;
            self.behind = Behind::Nothing;
        }
        Ok(())
    }

    /// A window that can be stored into up to `end`, which is zeroed.
    fn window_to(&mut self, end: u64) -> Result<&mut Box<dyn TailWindow>> {
        if self.window.as_ref().is_none_or(|window| window.end() < end) {
            // The old window goes first: two of them must not cover the same bytes.
            self.window = None;
            let (position, segment) = (self.position, Arc::clone(&self.segment));
            let len = self.stretch_len().max(end - position);
            let len = usize::try_from(len).unwrap_or(usize::MAX);
            let window = self.file()?.map_tail(position, len, segment.records().written_end());
            self.window = Some(window.map_err(|error| self.io("map", error))?);
        }
        let window = self.window.as_mut().expect("it was made just above");
        if window.ready_end() < end {
            let ready = window.make_ready(self.zeroed_end.min(window.end()));
            ready.map_err(|error| Error::io("map", self.segment.records().path(), error))?;
        }
        Ok(window)
    }

    /// Brings the index files up to date, so that an open after a kill need not walk the segment.
    pub(crate) fn persist_indexes(&mut self) -> Result<()> {
        let (fs, segment) = (&*self.segment.fs, &self.segment);
        let (index, time_index) = (segment.path(Suffix::Index), segment.path(Suffix::TimeIndex));
        let (index_file, time_index_file) = (&mut self.index_file, &mut self.time_index_file);
        segment.with_growing_indexes(|indexes| {
            index_file.write(fs, &index, &indexes.offsets.entries)?;
            time_index_file.write(fs, &time_index, &indexes.times.entries)
        })
    }

    /// Makes the index files durable.
    pub(crate) fn sync_indexes(&self) -> Result<()> {
        let (fs, segment) = (&*self.segment.fs, &self.segment);
        EntriesFile::sync(fs, &segment.path(Suffix::Index))?;
        EntriesFile::sync(fs, &segment.path(Suffix::TimeIndex))
    }

    /// Gives the segment its final time entry and writes its index files: it ends here. After an
    /// error it may be repeated, and appends may go on instead.
    pub(crate) fn finish_indexes(&mut self) -> Result<()> {
        self.segment.change_indexes(|indexes| self.rule.finish(indexes));
        self.persist_indexes()
    }

    /// What a sync of the segment has to reach. Not held if it is not yet: then nothing in it is
    /// unsynced.
    pub(crate) fn file_to_sync(&self) -> Result<Arc<dyn File>> {
        self.file.borrow().map_err(|error| self.io("open", error))
    }

    fn file(&mut self) -> Result<&Arc<dyn File>> {
        let path = self.segment.records().path();
        self.file.hold().map_err(|error| Error::io("open", path, error))
    }

    fn io(&self, operation: &'static str, error: std::io::Error) -> Error {
        Error::io(operation, self.segment.records().path(), error)
    }
}

/// What a writer has to know of a batch besides its bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BatchFacts {
    pub(crate) last_offset: u64,
    pub(crate) max_timestamp: Timestamp,
}
