//! The walk of recovery: from segment to segment, starting at the watermark.

use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use super::decision::{Decision, Ending, Following, Watermark, decide};
use super::resume::{IndexFiles, resume};
use super::site::{Part, same_bytes};
use super::survey::Survey;
use super::{Cut, Kept};
use crate::error::{Corruption, Error, Result};
use crate::fs::{Access, File};
use crate::log::Environment;
use crate::log::checkpoint::Checkpoint;
use crate::log::config::TopicConfig;
use crate::segment::file_name::{self, Suffix};
use crate::segment::indexer::Indexer;
use crate::segment::records_file::ReadMode;
use crate::segment::scan::{Scan, Then, scan};
use crate::segment::{BatchPosition, Extent, Segment};

/// Goes from segment to segment, starting at the watermark.
pub(super) struct Walk<'a> {
    environment: &'a Environment,
    survey: &'a Survey<'a>,
    checkpoint: Option<Checkpoint>,
    config: &'a TopicConfig,
    walked: Walked,
}

/// What the walk has found.
#[derive(Debug, Default)]
pub(super) struct Walked {
    pub(super) kept: Vec<Kept>,
    pub(super) cut: Option<Cut>,
    pub(super) set_aside: Vec<u64>,
    pub(super) bytes_scanned: u64,
}

/// Where the scan of one segment ended.
struct Scanned {
    base_offset: u64,
    /// The file's length.
    len: u64,
    /// The base offset of the segment after it.
    next: Option<u64>,
    scan: Scan,
    ending: Ending,
    indexer: Indexer,
}

impl<'a> Walk<'a> {
    pub(super) fn new(
        environment: &'a Environment,
        survey: &'a Survey<'a>,
        checkpoint: Option<Checkpoint>,
        config: &'a TopicConfig,
    ) -> Self {
        Self { environment, survey, checkpoint, config, walked: Walked::default() }
    }

    /// Walks from a segment to the end of the log.
    pub(super) fn run(mut self, start: u64, log_start_offset: u64) -> Result<Walked> {
        self.walked.kept = self.survey.untouched_before(start, log_start_offset)?;
        for (&base_offset, &len) in self.survey.segments.range(start..) {
            let scanned = self.scan(base_offset, len)?;
            let decision = self.decide(&scanned);
            if decision == Decision::Refuse {
                return Err(self.refusal(&scanned));
            }
            if decision == Decision::EndHere {
                self.end_here(&scanned);
            }
            let end = scanned.scan.end;
            self.walked.kept.push(Kept {
                base_offset,
                extent: Extent { len: end.file_position, next_offset: end.base_offset },
                trim: len > end.file_position,
                indexer: Some(scanned.indexer),
            });
            if decision == Decision::EndHere {
                break;
            }
        }
        Ok(self.walked)
    }

    /// Scans one segment, from the last useful index entry if it holds the watermark.
    fn scan(&mut self, base_offset: u64, len: u64) -> Result<Scanned> {
        let path = file_name::path(self.survey.directory, base_offset, Suffix::Log);
        let file = self.environment.fs.open(&path, Access::Read);
        let file = file.map_err(|error| Error::io("open", &path, error))?;
        let next = self.survey.after(base_offset);
        let watermark = self.checkpoint.filter(|at| at.segment_base == base_offset);
        let (from, mut indexer) = self.resume_point(base_offset, len, watermark)?;
        let mut watermark_met = true;
        let mut found = scan(&*file, &path, from, next, &mut |batch, at| {
            indexer.add(batch, at.file_position);
            watermark_met &= watermark.is_none_or(|watermark| agrees(&watermark, at));
        })?;
        watermark_met &= watermark.is_none_or(|watermark| agrees(&watermark, found.end));
        if !watermark_met {
            // File and checkpoint are each valid but not of one log: a file was swapped.
            let reason = "the file is not the one that the checkpoint was written for".to_owned();
            found = Scan { end: from, then: Then::Bad { reason, end: len } };
        }
        if next.is_some() {
            indexer.finish();
        }
        self.walked.bytes_scanned += found.end.file_position.saturating_sub(from.file_position);
        let ending = self.ending(&*file, &path, &found, next)?;
        Ok(Scanned { base_offset, len, next, scan: found, ending, indexer })
    }

    fn ending(
        &self,
        file: &dyn File,
        path: &Path,
        found: &Scan,
        next: Option<u64>,
    ) -> Result<Ending> {
        Ok(match (&found.then, next) {
            (Then::EndOfFile, _) => Ending::EndOfFile,
            (Then::Zeros, _) => Ending::Zeros,
            (Then::Limit, Some(next)) => {
                let valid = scan(file, path, found.end, None, &mut |_, _| {})?.end;
                let (start, end) = (found.end.file_position, valid.file_position);
                self.overlap(&Part { path: path.to_owned(), start, end }, next)?
            }
            (Then::Bad { .. } | Then::Limit, _) => Ending::NoBatch,
        })
    }

    /// Whether the next segment begins with the valid batches that follow in this one. More than
    /// those cannot be asked for: after an interrupted carry and a power loss, what has been carried
    /// is safe in the next segment, and what it was carried from may be anything.
    fn overlap(&self, rest: &Part, next: u64) -> Result<Ending> {
        let len = self.survey.segments.get(&next).copied().unwrap_or(0);
        let path = file_name::path(self.survey.directory, next, Suffix::Log);
        let part = Part { path, start: 0, end: rest.end - rest.start };
        let repeated = part.end <= len && same_bytes(&*self.environment.fs, rest, &part)?;
        Ok(if repeated { Ending::NextSegment } else { Ending::Overlap })
    }

    /// Where to begin in a segment, and the indexes up to there. Without a checkpoint, and above
    /// the watermark, that is its start.
    fn resume_point(
        &self,
        base_offset: u64,
        len: u64,
        watermark: Option<Checkpoint>,
    ) -> Result<(BatchPosition, Indexer)> {
        let interval = self.config.index_interval_bytes.into();
        let start = BatchPosition { file_position: 0, base_offset };
        let from_start = (start, Indexer::begin(base_offset, interval));
        let (until, index_files) = match watermark {
            None => return Ok(from_start),
            Some(at) => (
                BatchPosition {
                    file_position: at.file_position.into(),
                    base_offset: at.recovery_point,
                },
                if at.indexes_synced { IndexFiles::Synced } else { IndexFiles::Unsynced },
            ),
        };
        let segment = Segment::new(
            Arc::clone(&self.environment.fs),
            Arc::clone(self.survey.directory),
            base_offset,
            Extent { len, next_offset: until.base_offset },
            ReadMode::Copied,
        );
        resume(&segment, until, index_files, interval).map_err(|error| self.survey.locate(error))
    }

    fn decide(&self, scanned: &Scanned) -> Decision {
        let end = scanned.scan.end.base_offset;
        let following = match scanned.next {
            None => Following::None,
            Some(next) if next == end => Following::Fits,
            Some(_) => Following::Gap,
        };
        let watermark = match self.checkpoint {
            None => Watermark::Unknown,
            Some(at) if end >= at.recovery_point => Watermark::Reached,
            Some(_) => Watermark::NotReached,
        };
        decide(scanned.ending, following, watermark)
    }

    fn end_here(&mut self, scanned: &Scanned) {
        let after = (Bound::Excluded(scanned.base_offset), Bound::Unbounded);
        self.walked.set_aside = self.survey.segments.range(after).map(|(base, _)| *base).collect();
        let end = scanned.scan.end;
        let (content_end, reason) = match (&scanned.scan.then, scanned.next) {
            // What ends in zeros may well be part of a batch: a whole block is kept.
            (Then::Bad { reason, end }, _) => {
                (end.next_multiple_of(512).min(scanned.len), reason.clone())
            }
            (_, next) => {
                let next = next.unwrap_or(end.base_offset);
                (end.file_position, format!("the next segment starts at offset {next}"))
            }
        };
        self.walked.cut = Some(Cut { at: end, content_end, reason });
    }

    /// What is wrong, for a caller who is told that the partition cannot be opened.
    fn refusal(&self, scanned: &Scanned) -> Error {
        let end = scanned.scan.end;
        let expected_end = match (self.checkpoint, scanned.next) {
            (Some(at), _) => at.recovery_point.max(end.base_offset),
            (None, Some(next)) => next.max(end.base_offset),
            (None, None) => end.base_offset,
        };
        let reason = match (&scanned.scan.then, scanned.ending) {
            (_, Ending::Overlap) => "the next segment begins within it, with other records".into(),
            (Then::Bad { reason, .. }, _) => reason.clone(),
            (Then::Zeros, _) => "there are zeros where records were safely stored".to_owned(),
            (Then::EndOfFile | Then::Limit, _) => {
                format!("it ends with offset {}, expected {expected_end}", end.base_offset)
            }
        };
        Corruption {
            topic_partition: Some(self.survey.topic_partition.clone()),
            path: file_name::path(self.survey.directory, scanned.base_offset, Suffix::Log),
            bytes: end.file_position..scanned.len.max(end.file_position),
            offsets: end.base_offset..expected_end,
            reason,
        }
        .into()
    }
}

/// Whether a batch boundary and the watermark can belong to the same file.
fn agrees(watermark: &Checkpoint, at: BatchPosition) -> bool {
    let watermark_position = u64::from(watermark.file_position);
    match at.base_offset.cmp(&watermark.recovery_point) {
        std::cmp::Ordering::Less => at.file_position < watermark_position,
        std::cmp::Ordering::Equal => at.file_position == watermark_position,
        std::cmp::Ordering::Greater => at.file_position > watermark_position,
    }
}
