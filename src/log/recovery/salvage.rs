//! Making a damaged log whole again, as far as it can be: [`RecoveryMode::Salvage`].
//!
//! [`look`] reads every segment from the log start on and changes nothing. It finds the batches that
//! are intact, behind damage as well, and which offsets are lost. [`Rescue::carry_out`] then writes
//! the damaged segments anew: intact batches as they are, and in the place of lost ones batches
//! without records, so that offsets stay what they were and a reader, ours or Kafka's, finds no gap.
//! The original files are kept. What comes out is a log that opens without any salvage.
//!
//! Above the watermark nothing is salvaged: a batch behind a hole may be older than the hole there,
//! and the log ends where it would have ended anyway.
//!
//! [`RecoveryMode::Salvage`]: super::RecoveryMode::Salvage

use std::ops::Range;
use std::path::{Path, PathBuf};

use super::site::{Part, Piece, Site};
use super::survey::Survey;
use crate::error::{Error, Result};
use crate::fs::{Access, FileSystem, durably};
use crate::log::checkpoint::{self, Checkpoint, WATERMARK_FILE};
use crate::log::{Environment, LEADER_EPOCH};
use crate::record::batch::RecordBatch;
use crate::record::builder::empty_batch;
use crate::segment::BatchPosition;
use crate::segment::file_name::{self, Suffix};
use crate::segment::scan::{Scanner, after};
use crate::time::Timestamp;

/// How many offsets one segment can span: they are indexed by 31 bits.
const SEGMENT_SPAN: u64 = 1 << 31;

/// How many segments without a record may be made to bridge one gap. A larger gap is not damage to
/// this log; a foreign file is more likely.
const BRIDGE_MAX: u64 = 64;

/// What has to be done for the log to be whole again.
#[derive(Debug, Default)]
pub(super) struct Rescue {
    rewrites: Vec<Rewrite>,
    /// The segments that the log consists of, rewritten or not.
    kept: Vec<u64>,
    lost: Vec<Range<u64>>,
    checkpoint: Checkpoint,
}

/// A segment that is written anew, or made to bridge a gap.
#[derive(Debug)]
struct Rewrite {
    base_offset: u64,
    original: Option<Part>,
    pieces: Vec<Content>,
}

#[derive(Debug)]
enum Content {
    /// Whole batches of the original.
    Intact(Part),
    /// Offsets to be filled, if any, and the largest timestamp before them: it lets retention go on.
    Lost(Range<u64>, Timestamp),
}

/// What was lost, and where the original files are.
pub(super) type Salvaged = (Vec<Range<u64>>, Vec<PathBuf>);

/// Reads all segments and says what has to be done. Changes nothing.
pub(super) fn look(
    environment: &Environment,
    survey: &Survey<'_>,
    checkpoint: Option<Checkpoint>,
) -> Result<Rescue> {
    let first = survey.segments.keys().next().copied().unwrap_or(0);
    let last = survey.segments.keys().next_back().copied().unwrap_or(0);
    let known = checkpoint.unwrap_or(Checkpoint {
        recovery_point: last,
        log_start_offset: first,
        ..Checkpoint::default()
    });
    let look = Look {
        fs: &*environment.fs,
        survey,
        safe_end: known.recovery_point,
        latest: Timestamp::NONE,
        now: environment.clock.now(),
        rescue: Rescue { checkpoint: known, ..Rescue::default() },
    };
    look.run()
}

struct Look<'a> {
    fs: &'a dyn FileSystem,
    survey: &'a Survey<'a>,
    /// Up to here everything was safe, and counts as lost if it is not there.
    safe_end: u64,
    latest: Timestamp,
    now: Timestamp,
    rescue: Rescue,
}

/// What one segment still has.
struct Remains {
    pieces: Vec<Content>,
    end: u64,
    /// There is more in the file, which does not belong there.
    rubbish: bool,
}

impl Look<'_> {
    fn run(mut self) -> Result<Rescue> {
        let log_start = self.rescue.checkpoint.log_start_offset;
        let mut end = None;
        for (&base_offset, &len) in &self.survey.segments {
            let next = self.survey.after(base_offset);
            if next.is_some_and(|next| next <= log_start) {
                continue;
            }
            if end.is_none() && base_offset > self.safe_end.max(log_start) {
                // All that was safe is gone, and this does not follow from it.
                break;
            }
            if end.is_none() && base_offset > log_start {
                // Nothing precedes it that a bridge could lead from: the log starts later.
                self.rescue.lost.push(log_start..base_offset);
                self.rescue.checkpoint.log_start_offset = base_offset;
            }
            let reached = self.look_at(base_offset, len, next)?;
            self.rescue.kept.push(base_offset);
            end = Some(reached);
            if next.is_some_and(|next| reached < next) {
                // The log ends here, above the watermark.
                break;
            }
        }
        if end.is_none() {
            self.begin_anew(log_start);
        }
        self.settle_watermark();
        Ok(self.rescue)
    }

    /// Nothing that counts is left but the knowledge of how far the log went: it goes on there. What
    /// comes later, above the watermark, is set aside as at every open.
    fn begin_anew(&mut self, log_start: u64) {
        let base_offset = self.safe_end.max(log_start);
        if log_start < base_offset {
            self.rescue.lost.push(log_start..base_offset);
        }
        self.rescue.checkpoint.log_start_offset = base_offset;
        self.rescue.rewrites.push(Rewrite { base_offset, original: None, pieces: Vec::new() });
    }

    /// Returns the offset at which the segment ends, with what will be made for it.
    fn look_at(&mut self, base_offset: u64, len: u64, next: Option<u64>) -> Result<u64> {
        let path = file_name::path(self.survey.directory, base_offset, Suffix::Log);
        let limit = next.unwrap_or(u64::MAX);
        let Remains { pieces, end, rubbish } = self.remains(&path, base_offset, limit)?;
        let original = Some(Part { path, start: 0, end: len }).filter(|_| len > 0);
        let missing = end..limit.min(self.safe_end).max(end);
        if pieces.is_empty() && !missing.is_empty() {
            // Nothing is left of it: the bridge takes its name.
            self.bridge(missing.clone(), original)?;
            return Ok(missing.end);
        }
        if rubbish || pieces.iter().any(|piece| matches!(piece, Content::Lost(..))) {
            let lost = pieces.iter().filter_map(|piece| match piece {
                Content::Lost(lost, _) if !lost.is_empty() => Some(lost.clone()),
                Content::Lost(..) | Content::Intact(_) => None,
            });
            self.rescue.lost.extend(lost);
            self.rescue.rewrites.push(Rewrite { base_offset, original, pieces });
        }
        if !missing.is_empty() {
            self.bridge(missing.clone(), None)?;
        }
        Ok(missing.end)
    }

    /// Finds the intact batches of a file.
    fn remains(&mut self, path: &Path, base_offset: u64, limit: u64) -> Result<Remains> {
        let file = self.fs.open(path, Access::Read);
        let file = file.map_err(|error| Error::io("open", path, error))?;
        let mut scanner = Scanner::open(&*file, path)?;
        let mut at = BatchPosition { file_position: 0, base_offset };
        let mut pieces = Vec::new();
        let mut start = 0;
        let belongs = |batch: &RecordBatch<'_>| {
            batch.next_offset() <= limit && batch.next_offset() - base_offset <= SEGMENT_SPAN
        };
        while at.base_offset < limit && at.file_position < scanner.len() {
            if let Ok(batch) = scanner.batch(at)?
                && belongs(&batch)
            {
                self.latest = self.latest.max(batch.max_timestamp());
                at = after(&batch, at);
                continue;
            }
            if at.base_offset >= self.safe_end {
                break;
            }
            let offsets = at.base_offset..=self.safe_end;
            let found = scanner.find(at.file_position, &offsets, &belongs)?;
            let Some(found) = found else { break };
            push_intact(&mut pieces, path, start..at.file_position);
            // Nothing but noise may lie in between.
            pieces.push(Content::Lost(at.base_offset..found.base_offset, self.filler_timestamp()));
            start = found.file_position;
            at = found;
        }
        push_intact(&mut pieces, path, start..at.file_position);
        // Above the watermark a tail is the affair of every recovery, and so are the zeros in the
        // segment that holds it. Segments before that one are not looked at by others than readers,
        // to whom zeros are no batch.
        let rubbish = if at.base_offset < self.safe_end || limit <= self.safe_end {
            scanner.len() > at.file_position
        } else {
            at.base_offset == limit && scanner.content_end(at.file_position)?.is_some()
        };
        Ok(Remains { pieces, end: at.base_offset, rubbish })
    }

    fn filler_timestamp(&self) -> Timestamp {
        if self.latest == Timestamp::NONE { self.now } else { self.latest }
    }

    /// Fills missing offsets with segments that hold no record. The first of them may take the place
    /// of a file of which nothing is left.
    fn bridge(&mut self, missing: Range<u64>, mut original: Option<Part>) -> Result<()> {
        let count = missing.end - missing.start;
        if count / SEGMENT_SPAN > BRIDGE_MAX {
            let reason = format!("{count} offsets are missing, too many to fill");
            return Err(self.survey.damaged(self.survey.directory, missing, reason));
        }
        let mut base_offset = missing.start;
        while base_offset < missing.end {
            let end = missing.end.min(base_offset.saturating_add(SEGMENT_SPAN));
            let pieces = vec![Content::Lost(base_offset..end, self.filler_timestamp())];
            let original = original.take();
            self.rescue.rewrites.push(Rewrite { base_offset, original, pieces });
            base_offset = end;
        }
        self.rescue.lost.push(missing);
        Ok(())
    }

    /// Puts the watermark at the start of the segment that holds it: where in the segment it lies
    /// may have changed.
    fn settle_watermark(&mut self) {
        let made = self.rescue.rewrites.iter().map(|rewrite| rewrite.base_offset);
        let bases = self.survey.segments.keys().copied().chain(made);
        let safe_end = self.safe_end;
        let base_offset = bases.filter(|base_offset| *base_offset <= safe_end).max();
        let base_offset = base_offset.unwrap_or(safe_end);
        let checkpoint = &mut self.rescue.checkpoint;
        checkpoint.recovery_point = base_offset;
        checkpoint.segment_base = base_offset;
        checkpoint.file_position = 0;
        checkpoint.indexes_synced = false;
    }
}

fn push_intact(pieces: &mut Vec<Content>, path: &Path, range: Range<u64>) {
    if !range.is_empty() {
        let part = Part { path: path.to_owned(), start: range.start, end: range.end };
        pieces.push(Content::Intact(part));
    }
}

impl Rescue {
    /// Whether nothing is damaged.
    pub(super) fn is_empty(&self) -> bool {
        self.rewrites.is_empty() && self.lost.is_empty()
    }

    /// Does it. After a failure or a crash in the middle it can be begun anew with another
    /// [`look`], which finds the rest.
    pub(super) fn carry_out(self, site: &Site<'_>) -> Result<Salvaged> {
        let mut originals = Vec::new();
        for rewrite in &self.rewrites {
            if let Some(original) = &rewrite.original {
                originals.push(site.keep_copy(original, rewrite.base_offset)?);
            }
        }
        for rewrite in &self.rewrites {
            rewrite.write(site)?;
        }
        site.sync_directory()?;
        let path = site.directory.join(WATERMARK_FILE);
        durably::replace(&**site.fs, &path, &checkpoint::encode_file(&self.checkpoint))?;
        Ok((self.lost, originals))
    }

    /// Does it elsewhere: writes the log as it is then into the site's directory, which is empty, and
    /// leaves the one that was looked at as it is. Returns what is lost.
    pub(super) fn carry_into(
        self,
        site: &Site<'_>,
        survey: &Survey<'_>,
    ) -> Result<Vec<Range<u64>>> {
        let is_rewritten =
            |base: &u64| self.rewrites.iter().any(|rewrite| rewrite.base_offset == *base);
        for &base_offset in self.kept.iter().filter(|base| !is_rewritten(base)) {
            let path = file_name::path(survey.directory, base_offset, Suffix::Log);
            let end = survey.segments.get(&base_offset).copied().unwrap_or(0);
            site.replace_log(base_offset, &[Piece::Part(&Part { path, start: 0, end })])?;
        }
        for rewrite in &self.rewrites {
            rewrite.write(site)?;
        }
        site.sync_directory()?;
        let path = site.directory.join(WATERMARK_FILE);
        durably::replace(&**site.fs, &path, &checkpoint::encode_file(&self.checkpoint))?;
        Ok(self.lost)
    }
}

impl Rewrite {
    fn write(&self, site: &Site<'_>) -> Result<()> {
        let fillers: Vec<_> = self.pieces.iter().map(filler).collect();
        let pieces: Vec<_> = self
            .pieces
            .iter()
            .zip(&fillers)
            .map(|(content, filler)| match content {
                Content::Intact(part) => Piece::Part(part),
                Content::Lost(..) => Piece::Bytes(filler),
            })
            .collect();
        site.replace_log(self.base_offset, &pieces)?;
        site.remove_indexes(self.base_offset)
    }
}

/// The batch that stands for lost offsets; nothing for what is intact.
fn filler(content: &Content) -> Vec<u8> {
    match content {
        Content::Lost(lost, timestamp) if !lost.is_empty() => {
            let delta = i32::try_from(lost.end - lost.start - 1)
                .expect("a segment spans no more offsets than that");
            empty_batch(lost.start, delta, LEADER_EPOCH, *timestamp).to_vec()
        }
        Content::Lost(..) | Content::Intact(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests;
