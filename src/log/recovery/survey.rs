//! What lies in a partition's directory, by name and length alone.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Kept;
use crate::error::{Corruption, Error, Result};
use crate::fs::Kind;
use crate::log::Environment;
use crate::log::checkpoint::Checkpoint;
use crate::segment::Extent;
use crate::segment::file_name::{self, Suffix};
use crate::topic_partition::TopicPartition;

/// What lies in a partition's directory.
pub(super) struct Survey<'a> {
    pub(super) topic_partition: &'a TopicPartition,
    pub(super) directory: &'a Arc<Path>,
    /// Base offset and length of every `.log` file.
    pub(super) segments: BTreeMap<u64, u64>,
    pub(super) leftovers: Vec<PathBuf>,
}

impl<'a> Survey<'a> {
    pub(super) fn take(
        environment: &Environment,
        topic_partition: &'a TopicPartition,
        directory: &'a Arc<Path>,
    ) -> Result<Self> {
        let entries =
            environment.fs.list(directory).map_err(|error| Error::io("list", directory, error))?;
        let named: Vec<_> = entries
            .iter()
            .filter(|entry| entry.kind == Kind::File)
            .filter_map(|entry| file_name::parse(&entry.name).map(|name| (name, entry.len)))
            .collect();
        let segments: BTreeMap<u64, u64> = named
            .iter()
            .filter(|((_, suffix), _)| *suffix == Suffix::Log)
            .map(|((base_offset, _), len)| (*base_offset, *len))
            .collect();
        let is_leftover = |base_offset: &u64, suffix: &Suffix| match suffix {
            Suffix::Carried | Suffix::Deleted => true,
            Suffix::Index | Suffix::TimeIndex | Suffix::TxnIndex => {
                !segments.contains_key(base_offset)
            }
            Suffix::Log | Suffix::Snapshot | Suffix::Torn => false,
        };
        let leftovers = named
            .iter()
            .filter(|((base_offset, suffix), _)| is_leftover(base_offset, suffix))
            .map(|((base_offset, suffix), _)| file_name::path(directory, *base_offset, *suffix))
            .collect();
        Ok(Self { topic_partition, directory, segments, leftovers })
    }

    /// The base offset of the segment that follows one.
    pub(super) fn after(&self, base_offset: u64) -> Option<u64> {
        let after = (Bound::Excluded(base_offset), Bound::Unbounded);
        self.segments.range(after).next().map(|(next, _)| *next)
    }

    /// The segment to begin with: the one with the watermark, or the first if that is unknown.
    pub(super) fn starting_segment(&self, checkpoint: Option<Checkpoint>) -> Result<u64> {
        let Some(checkpoint) = checkpoint else {
            let first = self.segments.keys().next().copied();
            return first.ok_or_else(|| {
                let reason = "the partition has no segment and no checkpoint";
                self.damaged(self.directory, 0..0, reason.to_owned())
            });
        };
        let path = file_name::path(self.directory, checkpoint.segment_base, Suffix::Log);
        let lost = checkpoint.log_start_offset..checkpoint.recovery_point;
        let Some(len) = self.segments.get(&checkpoint.segment_base) else {
            let reason = "the file is missing and held records that were safely stored";
            return Err(self.damaged(&path, lost, reason.to_owned()));
        };
        if *len < u64::from(checkpoint.file_position) {
            let reason =
                format!("it is {len} bytes long, expected at least {}", checkpoint.file_position);
            return Err(self.damaged(&path, lost, reason));
        }
        Ok(checkpoint.segment_base)
    }

    pub(super) fn log_start_offset(&self, checkpoint: Option<Checkpoint>) -> Result<u64> {
        let first = self.segments.keys().next().copied().unwrap_or(0);
        match checkpoint {
            Some(checkpoint) if checkpoint.log_start_offset < first => {
                let lost = checkpoint.log_start_offset..first;
                let path = file_name::path(self.directory, lost.start, Suffix::Log);
                let reason =
                    format!("the first segment starts at {first}: earlier ones are missing");
                Err(self.damaged(&path, lost, reason))
            }
            Some(checkpoint) => Ok(checkpoint.log_start_offset),
            None => Ok(first),
        }
    }

    /// The segments before the starting one: all of them were synced, and are left unread. All that
    /// can be told by their lengths is that one is empty and should not be.
    pub(super) fn untouched_before(&self, start: u64, log_start_offset: u64) -> Result<Vec<Kept>> {
        let mut kept = Vec::new();
        let ends = self.segments.keys().skip(1);
        for ((&base_offset, &len), &next_offset) in self.segments.range(..start).zip(ends) {
            if len == 0 && next_offset > log_start_offset {
                let path = file_name::path(self.directory, base_offset, Suffix::Log);
                let reason = "it is empty and held records that were safely stored".to_owned();
                return Err(self.damaged(&path, base_offset..next_offset, reason));
            }
            let extent = Extent { len, next_offset };
            kept.push(Kept { base_offset, extent, trim: false, indexer: None });
        }
        Ok(kept)
    }

    /// Adds the partition to an error that comes from below, where partitions are not known.
    pub(super) fn locate(&self, error: Error) -> Error {
        match error {
            Error::Corrupt(mut corruption) => {
                corruption.topic_partition = Some(self.topic_partition.clone());
                Error::Corrupt(corruption)
            }
            other => other,
        }
    }

    pub(super) fn damaged(
        &self,
        path: &Path,
        offsets: std::ops::Range<u64>,
        reason: String,
    ) -> Error {
        Corruption {
            topic_partition: Some(self.topic_partition.clone()),
            path: path.to_owned(),
            bytes: 0..0,
            offsets,
            reason,
        }
        .into()
    }
}
