//! Opening a log after anything: look, decide, and only then act.
//!
//! [`plan`] reads and changes nothing. It starts at the watermark, the offset below which the
//! checkpoint says everything was synced, so its work is bounded by what was written since; it
//! steps back to the last index entry before it, to resume the indexes. What it finds goes through
//! the table in [`decision`]. A broker plans for all its logs before it executes any plan, so that
//! a refusal leaves every byte as it was (contract, clause 13).
//!
//! [`execute`] carries a plan out. It can die at any of its system calls and be begun anew.

pub(crate) mod decision;
pub(crate) mod execute;
mod resume;
mod salvage;
mod site;
mod survey;
mod walk;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use self::decision::must_carry;
use self::salvage::Rescue;
use self::site::Site;
use self::survey::Survey;
use self::walk::Walk;
use crate::error::{Error, Result};
use crate::fs::{FileSystem, durably};
use crate::log::Environment;
use crate::log::checkpoint::{self, Checkpoint, Slots, WATERMARK_FILE, WATERMARK_FILE_LEN};
use crate::log::config::{Durability, TopicConfig};
use crate::segment::indexer::Indexer;
use crate::segment::{BatchPosition, Extent};
use crate::topic_partition::TopicPartition;

/// What an open does about records that were safely stored and are damaged or missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum RecoveryMode {
    /// It fails with [`Error::Corrupt`](crate::Error::Corrupt) and changes nothing, so that a person
    /// can decide: restore a backup, have the disk looked at, or salvage what is left. The default.
    #[default]
    Refuse,
    /// It reads all segments and keeps every record batch that is intact. Offsets that are lost are
    /// filled with batches without records, so that all others stay what they were, and are reported
    /// in [`PartitionRecovery::lost`]. The damaged files are kept whole, under `.torn` names. This
    /// takes the time to read everything, and the space to write the damaged segments anew.
    /// [`salvage`](crate::salvage) does the same in another directory, and more: it does without a
    /// registry.
    Salvage,
}

/// What opening one partition found, and what it did about it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartitionRecovery {
    /// The partition.
    pub topic_partition: TopicPartition,
    /// The first offset that can be read.
    pub log_start_offset: u64,
    /// The offset that the next record will get.
    pub log_end_offset: u64,
    /// How many bytes of batches were read and checked.
    pub bytes_scanned: u64,
    /// Bytes of records that were written again because nothing proved that they had reached the
    /// disk.
    pub bytes_carried: u64,
    /// The unfinished tail that was cut off, if there was one.
    pub cut: Option<CutTail>,
    /// Which offsets were lost to damage, in order, where [`RecoveryMode::Salvage`] let the partition
    /// be opened all the same. Half-open ranges; no record with such an offset will be read.
    pub lost: Vec<std::ops::Range<u64>>,
    /// Where the damaged files are, as they were found. Sapwood does not read them again.
    pub originals: Vec<PathBuf>,
}

/// The end of a log that was no whole batch, or did not connect: cut off, and kept in a file of its
/// own.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CutTail {
    /// The log ends at this offset now.
    pub offset: u64,
    /// How many bytes were cut off, in the file in which the log ends.
    pub bytes: u64,
    /// Where the bytes are now, and the segments that came after them. Sapwood does not read these
    /// files again; remove them when you have no more use for them.
    pub kept_in: Vec<PathBuf>,
    /// What was wrong with them.
    pub reason: String,
}

/// Everything recovery will do to one partition.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) topic_partition: TopicPartition,
    pub(crate) directory: Arc<Path>,
    /// The segments that stay, in order; the last one is the active one.
    kept: Vec<Kept>,
    /// Base offsets of segments behind the end of the log.
    set_aside: Vec<u64>,
    /// Why and where the log ends before the end of a file.
    cut: Option<Cut>,
    /// Files that are worth nothing: leftovers of unfinished work.
    leftovers: Vec<PathBuf>,
    /// Where to begin writing anew what nothing proves to be on disk.
    carry_from: Option<BatchPosition>,
    slots: Slots,
    checkpoint: Option<Checkpoint>,
    log_start_offset: u64,
    bytes_scanned: u64,
    /// Damage to be mended first. Then there is nothing else in the plan: it is made anew.
    rescue: Option<Rescue>,
}

/// A segment that stays.
#[derive(Debug)]
struct Kept {
    base_offset: u64,
    extent: Extent,
    /// The file goes on behind the extent, and is to be cut there. Also if what follows is zeros:
    /// after a power loss they may be a hole, where a store into a mapping would need new space.
    trim: bool,
    /// Present if the segment was scanned.
    indexer: Option<Indexer>,
}

#[derive(Debug)]
struct Cut {
    at: BatchPosition,
    /// Where the bytes worth keeping end.
    content_end: u64,
    reason: String,
}

impl Plan {
    /// The segments as they can be served without changing anything, and the indexes of the last
    /// one, to be gone on with.
    pub(super) fn into_followed(mut self) -> (Vec<(u64, Extent)>, Indexer) {
        let extents = self.kept.iter().map(|kept| (kept.base_offset, kept.extent)).collect();
        let active = self.kept.pop().and_then(|active| active.indexer);
        (extents, active.expect("a plan keeps at least the active segment, and scans it"))
    }

    pub(crate) fn checkpoint(&self) -> Option<Checkpoint> {
        self.checkpoint
    }

    pub(crate) fn log_start_offset(&self) -> u64 {
        self.log_start_offset
    }

    pub(crate) fn log_end_offset(&self) -> u64 {
        self.kept.last().map_or(self.log_start_offset, |kept| kept.extent.next_offset)
    }

    pub(crate) fn report(&self) -> PartitionRecovery {
        PartitionRecovery {
            topic_partition: self.topic_partition.clone(),
            log_start_offset: self.log_start_offset,
            log_end_offset: self.log_end_offset(),
            bytes_scanned: self.bytes_scanned,
            bytes_carried: 0,
            cut: None,
            lost: Vec::new(),
            originals: Vec::new(),
        }
    }
}

/// Looks at a partition's directory and decides. Changes nothing.
///
/// # Errors
///
/// [`Error::Corrupt`] if records below the watermark are damaged or missing;
/// [`Error::UnsupportedFormat`] if a newer version wrote the checkpoint; I/O errors.
pub(crate) fn plan(
    environment: &Environment,
    topic_partition: &TopicPartition,
    directory: &Arc<Path>,
    config: &TopicConfig,
) -> Result<Plan> {
    // In this order: should the log be growing meanwhile, the files hold what the checkpoint says.
    let slots = read_checkpoint(&*environment.fs, directory)?;
    let survey = Survey::take(environment, topic_partition, directory)?;
    let checkpoint = slots.newest();
    let start = survey.starting_segment(checkpoint)?;
    let log_start_offset = survey.log_start_offset(checkpoint)?;
    let walk = Walk::new(environment, &survey, checkpoint, config);
    let walked = walk.run(start, log_start_offset)?;
    let log_end = walked.kept.last().map_or(0, |kept| kept.extent.next_offset);
    if log_start_offset > log_end {
        let reason = format!("the log ends at {log_end}, before its start at {log_start_offset}");
        return Err(survey.damaged(directory, log_end..log_start_offset, reason));
    }
    Ok(Plan {
        topic_partition: topic_partition.clone(),
        directory: Arc::clone(directory),
        kept: walked.kept,
        set_aside: walked.set_aside,
        cut: walked.cut,
        leftovers: survey.leftovers,
        carry_from: carry_from(checkpoint, config, log_end),
        slots,
        checkpoint,
        log_start_offset,
        bytes_scanned: walked.bytes_scanned,
        rescue: None,
    })
}

/// The same, in either mode. Salvaging begins with reading everything: damage far below the
/// watermark, which an open would not notice, is mended too.
pub(crate) fn plan_in(
    mode: RecoveryMode,
    environment: &Environment,
    topic_partition: &TopicPartition,
    directory: &Arc<Path>,
    config: &TopicConfig,
) -> Result<Plan> {
    if mode == RecoveryMode::Refuse {
        return plan(environment, topic_partition, directory, config);
    }
    let slots = read_checkpoint(&*environment.fs, directory)?;
    let survey = Survey::take(environment, topic_partition, directory)?;
    let rescue = salvage::look(environment, &survey, slots.newest())?;
    if rescue.is_empty() {
        match plan(environment, topic_partition, directory, config) {
            // Every batch is right, and the checkpoint is of another log.
            Err(Error::Corrupt(_)) => {}
            planned => return planned,
        }
    }
    Ok(Plan {
        topic_partition: topic_partition.clone(),
        directory: Arc::clone(directory),
        kept: Vec::new(),
        set_aside: Vec::new(),
        cut: None,
        leftovers: Vec::new(),
        carry_from: None,
        slots,
        checkpoint: slots.newest(),
        log_start_offset: 0,
        bytes_scanned: 0,
        rescue: Some(rescue),
    })
}

/// Writes what is intact of a partition into another, empty directory, as a log that opens without
/// any salvage. Changes nothing in the first. Returns the offsets that are lost.
///
/// # Errors
///
/// [`Error::Corrupt`] if too many are; [`Error::UnsupportedFormat`]; I/O errors.
pub(crate) fn salvage_into(
    environment: &Environment,
    topic_partition: &TopicPartition,
    from: &Arc<Path>,
    to: &Arc<Path>,
    config: &TopicConfig,
) -> Result<Vec<std::ops::Range<u64>>> {
    let slots = read_checkpoint(&*environment.fs, from)?;
    let survey = Survey::take(environment, topic_partition, from)?;
    let rescue = salvage::look(environment, &survey, slots.newest())?;
    let site = Site { fs: &environment.fs, directory: to, config };
    rescue.carry_into(&site, &survey)
}

/// Where to begin writing anew, if anything has to be.
fn carry_from(
    checkpoint: Option<Checkpoint>,
    config: &TopicConfig,
    log_end: u64,
) -> Option<BatchPosition> {
    let at = checkpoint?;
    let fsync_topic = config.durability == Durability::Fsync;
    if !must_carry(fsync_topic, at.sync_failed, log_end > at.recovery_point) {
        return None;
    }
    Some(if fsync_topic {
        BatchPosition { file_position: at.file_position.into(), base_offset: at.recovery_point }
    } else {
        // Readers in this process may still hold mapped records above the watermark, served by a
        // log that failed and was dropped. Cutting the file under them is not allowed; a new file
        // in its place leaves the old one to them. Under `Fsync` nobody has seen any.
        BatchPosition { file_position: 0, base_offset: at.segment_base }
    })
}

/// Reads the checkpoint file of a partition; nothing if it is missing or not one.
pub(crate) fn read_checkpoint(fs: &dyn FileSystem, directory: &Path) -> Result<Slots> {
    let path = directory.join(WATERMARK_FILE);
    let limit = WATERMARK_FILE_LEN as u64;
    // A file of another length is not ours: as good as none.
    let bytes = match durably::read(fs, &path, limit) {
        Ok(bytes) => bytes.unwrap_or_default(),
        Err(Error::Corrupt(_)) => Vec::new(),
        Err(error) => return Err(error),
    };
    checkpoint::decode(&bytes)
        .map_err(|unsupported| Error::UnsupportedFormat { path, reason: unsupported.to_string() })
}

#[cfg(test)]
mod tests;
