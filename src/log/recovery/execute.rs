//! Carries out what [`super::plan`] decided.
//!
//! The order matters for a crash in the middle: bytes are kept elsewhere before they are cut off,
//! new files are complete and synced before they get their names, old bytes go last, and the
//! checkpoint moves only when all of it is durable. Begun anew, the plan finds either the old state
//! or the new one.

use std::path::Path;
use std::sync::Arc;

use super::salvage::Salvaged;
use super::site::{Part, Piece, Site};
use super::{Cut, CutTail, Kept, PartitionRecovery, Plan};
use crate::error::{Error, Result};
use crate::fs::held::HeldFile;
use crate::fs::{Access, durably};
use crate::log::Environment;
use crate::log::checkpoint::{self, Checkpoint, CheckpointWriter, WATERMARK_FILE};
use crate::log::config::TopicConfig;
use crate::mutants::{Mutant, is_planted};
use crate::segment::indexer::Indexer;
use crate::segment::{BatchPosition, Extent};

/// A log that is ready to be served.
#[derive(Debug)]
pub(crate) struct Recovered {
    /// Base offset and extent of every segment in order; the last one is the active one.
    pub(crate) segments: Vec<(u64, Extent)>,
    /// The indexes of the active segment, to be gone on with.
    pub(crate) active_indexer: Indexer,
    pub(crate) checkpoint: Checkpoint,
    pub(crate) checkpoint_writer: CheckpointWriter,
    pub(crate) report: PartitionRecovery,
}

/// Does what the plan says. May be repeated from the start with a new plan after any failure.
pub(crate) fn execute(
    plan: Plan,
    environment: &Environment,
    config: &TopicConfig,
) -> Result<Recovered> {
    let directory = Arc::clone(&plan.directory);
    let recovered = carry_out(plan, environment, config);
    if let Err(error) = &recovered
        && !error.is_retriable()
    {
        // It may have been a sync, and the next open must not believe a second one. That this can
        // fail as well is no news: the caller hears of the first failure.
        note_failed_sync(environment, &directory).ok();
    }
    recovered
}

fn note_failed_sync(environment: &Environment, directory: &Path) -> Result<()> {
    let slots = super::read_checkpoint(&*environment.fs, directory)?;
    let Some(checkpoint) = slots.newest() else { return Ok(()) };
    let path = directory.join(WATERMARK_FILE);
    // A new file: it may have been a sync of this one that failed.
    let noted = Checkpoint { sync_failed: true, ..checkpoint };
    durably::replace(&*environment.fs, &path, &checkpoint::encode_file(&noted))
}

fn carry_out(mut plan: Plan, environment: &Environment, config: &TopicConfig) -> Result<Recovered> {
    let directory = Arc::clone(&plan.directory);
    let site = Site { fs: &environment.fs, directory: &directory, config };
    let salvaged = match plan.rescue.take() {
        None => Salvaged::default(),
        Some(rescue) => {
            let salvaged = rescue.carry_out(&site)?;
            plan = super::plan(environment, &plan.topic_partition, &directory, config)?;
            salvaged
        }
    };
    let mut report = plan.report();
    (report.lost, report.originals) = salvaged;
    if let Some(cut) = &plan.cut {
        report.cut = Some(site.quarantine(cut, &plan.kept, &plan.set_aside)?);
    }
    let keeps_tail = is_planted(Mutant::KeepsTailBeforeFirstAppend);
    for kept in plan.kept.iter().filter(|kept| kept.trim && !keeps_tail) {
        site.truncate(kept.base_offset, kept.extent.len)?;
    }
    for leftover in &plan.leftovers {
        durably::remove(&*environment.fs, leftover)?;
    }
    if let Some(from) = plan.carry_from {
        report.bytes_carried = site.carry(&mut plan.kept, from)?;
    }
    if let Some(active) = plan.kept.last() {
        site.separate(active.base_offset)?;
    }
    site.write_sealed_indexes(&plan.kept)?;
    let (checkpoint, checkpoint_writer) = site.settle_checkpoint(&plan)?;
    let (segments, active_indexer) = plan.into_followed();
    Ok(Recovered { segments, active_indexer, checkpoint, checkpoint_writer, report })
}

impl Site<'_> {
    /// Keeps a copy of the bytes that will be cut off, and moves later segments out of the way.
    fn quarantine(&self, cut: &Cut, kept: &[Kept], set_aside: &[u64]) -> Result<CutTail> {
        let mut kept_in = Vec::new();
        let bytes = cut.content_end - cut.at.file_position;
        if let Some(last) = kept.last().filter(|_| bytes > 0) {
            let path = self.log(last.base_offset);
            let torn = Part { path, start: cut.at.file_position, end: cut.content_end };
            kept_in.push(self.keep_copy(&torn, cut.at.base_offset)?);
        }
        for base_offset in set_aside {
            kept_in.push(self.set_aside(*base_offset)?);
        }
        self.sync_directory()?;
        let offset = cut.at.base_offset;
        Ok(CutTail { offset, bytes, kept_in, reason: cut.reason.clone() })
    }

    /// Writes everything from a position on into new files and syncs them; only then does it take
    /// the place of the old. Returns how many bytes that was.
    ///
    /// What precedes the position in its segment stays where it is, and the segment ends there.
    fn carry(&self, kept: &mut Vec<Kept>, from: BatchPosition) -> Result<u64> {
        let mut bytes = 0;
        let mut split = None;
        for (number, segment) in kept.iter().enumerate() {
            if segment.extent.next_offset <= from.base_offset || segment.extent.len == 0 {
                continue;
            }
            let inside = segment.base_offset < from.base_offset;
            let (base_offset, start) = if inside {
                split = Some(number);
                (from.base_offset, from.file_position)
            } else {
                (segment.base_offset, 0)
            };
            let path = self.log(segment.base_offset);
            let part = Part { path, start, end: segment.extent.len };
            self.replace_log(base_offset, &[Piece::Part(&part)])?;
            bytes += part.end - part.start;
        }
        self.sync_directory()?;
        if let Some(number) = split {
            self.split(kept, number, from)?;
        }
        Ok(bytes)
    }

    /// Ends a segment at a position; what came after it is in a new segment already.
    fn split(&self, kept: &mut Vec<Kept>, number: usize, at: BatchPosition) -> Result<()> {
        let Some(old) = kept.get_mut(number) else { return Ok(()) };
        self.truncate(old.base_offset, at.file_position)?;
        let extent =
            Extent { len: old.extent.len - at.file_position, next_offset: old.extent.next_offset };
        old.extent = Extent { len: at.file_position, next_offset: at.base_offset };
        let mut indexer = self.index(old.base_offset, old.extent)?;
        indexer.finish();
        old.indexer = Some(indexer);
        let indexer = Some(self.index(at.base_offset, extent)?);
        kept.insert(number + 1, Kept { base_offset: at.base_offset, extent, trim: false, indexer });
        Ok(())
    }

    fn write_sealed_indexes(&self, kept: &[Kept]) -> Result<()> {
        let Some((_, sealed)) = kept.split_last() else { return Ok(()) };
        for segment in sealed {
            if let Some(indexer) = &segment.indexer {
                self.write_indexes(segment.base_offset, &indexer.indexes)?;
            }
        }
        Ok(())
    }

    /// Brings the checkpoint up to what is now known to be durable.
    fn settle_checkpoint(&self, plan: &Plan) -> Result<(Checkpoint, CheckpointWriter)> {
        let scanned = plan.kept.iter().filter(|kept| kept.indexer.is_some());
        let unsynced: Vec<_> = match (plan.checkpoint, plan.carry_from) {
            // What was carried is synced. The segment before it may have been cut to its length by
            // a process that died before its sync.
            (_, Some(from)) => scanned.filter(|kept| kept.base_offset < from.base_offset).collect(),
            // Flushes reach the active segment alone, so the others are synced here.
            (Some(_), None) => scanned.rev().skip(1).collect(),
            // Nothing at all is known to be on disk.
            (None, None) => scanned.collect(),
        };
        for kept in unsynced {
            let path = self.log(kept.base_offset);
            let file = self.open(&path, Access::Read)?;
            file.sync_data().map_err(|error| Error::io("sync", &path, error))?;
        }
        if plan.checkpoint.map(|at| at.segment_base)
            != plan.kept.last().map(|kept| kept.base_offset)
        {
            // Names that a flush of the last process has not reached. No flush of this one will.
            self.sync_directory()?;
        }
        let path = self.directory.join(WATERMARK_FILE);
        let usable =
            plan.checkpoint.filter(|found| !found.sync_failed && plan.carry_from.is_none());
        let checkpoint = usable.unwrap_or_else(|| at_the_end(plan));
        if usable.is_none() {
            durably::replace(&**self.fs, &path, &checkpoint::encode_file(&checkpoint))?;
        }
        // Opened here and not held: an open that succeeds is of a log that can be written.
        self.open(&path, Access::ReadWrite)?;
        let file = HeldFile::new(Arc::clone(self.fs), path.clone());
        let slots = match usable {
            Some(_) => plan.slots,
            None => checkpoint::decode(&checkpoint::encode_file(&checkpoint)).map_err(
                |unsupported| Error::UnsupportedFormat { path, reason: unsupported.to_string() },
            )?,
        };
        Ok((checkpoint, CheckpointWriter::new(file, slots)))
    }
}

/// A checkpoint that says: everything is synced.
fn at_the_end(plan: &Plan) -> Checkpoint {
    let last = plan.kept.last();
    let (segment_base, extent) = last
        .map_or((0, Extent { len: 0, next_offset: plan.log_start_offset }), |kept| {
            (kept.base_offset, kept.extent)
        });
    Checkpoint {
        recovery_point: extent.next_offset,
        segment_base,
        file_position: u32::try_from(extent.len).unwrap_or(u32::MAX),
        log_start_offset: plan.log_start_offset,
        sync_failed: false,
        indexes_synced: false,
    }
}
