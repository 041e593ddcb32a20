//! What became of every byte of a directory that was salvaged.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::source::Source;
use crate::broker::Broker;
use crate::dump::batch::BatchDump;
use crate::dump::segment::{SegmentDump, SegmentPart};
use crate::error::{Error, Result};
use crate::fs::{Entry, FileSystem, Kind};
use crate::log::checkpoint::WATERMARK_FILE;
use crate::log::read::ReadCursor;
use crate::segment::file_name::{self, Suffix};
use crate::topic::Partition;
use crate::topic::kafka_files::{LEADER_EPOCH_FILE, PARTITION_METADATA_FILE};
use crate::topic::log_manager::{CLEAN_SHUTDOWN_FILE, LOCK_FILE};
use crate::topic::registry::REGISTRY_FILE;
use crate::topic_partition::TopicPartition;

/// A file of a directory that was salvaged, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileAccount {
    /// The file.
    pub path: PathBuf,
    /// How many bytes it has.
    pub size: u64,
    /// What became of each of them: the parts follow each other without gaps, from the first byte to
    /// the last.
    pub parts: Vec<FilePart>,
}

/// A stretch of a file, all of which had the same fate.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FilePart {
    /// Where it lies in the file.
    pub bytes: Range<u64>,
    /// What became of it.
    pub fate: Fate,
}

/// What became of bytes when a directory was salvaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Fate {
    /// Record batches that are in the new directory, byte for byte and at their old offsets.
    Copied,
    /// No intact batch: left behind.
    Damaged,
    /// Intact batches that the log does not hold: behind its end, where they were never safely stored
    /// and do not connect, or such as it holds others in the place of. Left behind.
    Unconnected,
    /// Batches before the log start offset, whose records had been deleted.
    Deleted,
    /// Zeros behind the last batch, made ready for others.
    Zeros,
    /// Indexes, checkpoints, registry and other files that say something about the records: what they
    /// say was carried over, or made anew.
    Derived,
    /// Files that an earlier recovery has kept aside, or a deletion has not got round to removing. Left
    /// behind.
    SetAside,
    /// Files of a partition that the registry does not know: of a topic that was deleted, for example.
    /// Left behind.
    Unregistered,
    /// What is not Sapwood's. Left behind.
    Foreign,
}

/// Too little for two batches: so much is read at a time to get one.
const ONE_BATCH: usize = 1;

/// Looks for every batch of the source in what was made of it.
pub(super) fn of(
    fs: &Arc<dyn FileSystem>,
    source: &Source,
    broker: &Broker,
) -> Result<Vec<FileAccount>> {
    let mut account = Account { fs, files: Vec::new() };
    for entry in account.list(&source.directory)? {
        let path = source.directory.join(&entry.name);
        let of = entry.name.to_str().and_then(TopicPartition::from_directory_name);
        match of.filter(|_| entry.kind == Kind::Directory) {
            Some(of) if source.partitions.contains_key(&of) => {
                account.add_partition(&path, broker.manager().partition(&of).ok().as_ref())?;
            }
            Some(_) => account.add_all(path, &entry, Fate::Unregistered)?,
            None => account.add_all(path, &entry, fate_in_root(&entry))?,
        }
    }
    Ok(account.files)
}

struct Account<'a> {
    fs: &'a Arc<dyn FileSystem>,
    files: Vec<FileAccount>,
}

impl Account<'_> {
    /// The entries of a directory in order of their names.
    fn list(&self, directory: &Path) -> Result<Vec<Entry>> {
        let listed = self.fs.list(directory);
        let mut entries = listed.map_err(|error| Error::io("list", directory, error))?;
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    /// Everything in a file or directory has the same fate.
    fn add_all(&mut self, path: PathBuf, entry: &Entry, fate: Fate) -> Result<()> {
        if entry.kind != Kind::Directory {
            let parts = whole(entry.len, fate);
            self.files.push(FileAccount { path, size: entry.len, parts });
            return Ok(());
        }
        for inner in self.list(&path)? {
            self.add_all(path.join(&inner.name), &inner, fate)?;
        }
        Ok(())
    }

    fn add_partition(&mut self, directory: &Path, salvaged: Option<&Partition>) -> Result<()> {
        let mut found = Found { salvaged, cursor: None };
        for entry in self.list(directory)? {
            let path = directory.join(&entry.name);
            let name = file_name::parse(&entry.name).filter(|_| entry.kind == Kind::File);
            if let Some((_, Suffix::Log)) = name {
                let segment = SegmentDump::open_on(Arc::clone(self.fs), &path)?;
                let parts = found.parts_of(&segment)?;
                self.files.push(FileAccount { path, size: segment.size(), parts });
            } else {
                let fate = fate_in_partition(&entry, name.map(|(_, suffix)| suffix));
                self.add_all(path, &entry, fate)?;
            }
        }
        Ok(())
    }
}

/// Finds the batches of the source in the partition that was made of it. They come in order, so that
/// each look goes on where the last one ended.
struct Found<'a> {
    salvaged: Option<&'a Partition>,
    cursor: Option<ReadCursor>,
}

impl Found<'_> {
    fn parts_of(&mut self, segment: &SegmentDump) -> Result<Vec<FilePart>> {
        let mut parts: Vec<FilePart> = Vec::new();
        for part in segment.parts()? {
            let part = part?;
            let fate = match &part {
                SegmentPart::Batch(batch) if !batch.is_valid => Fate::Damaged,
                SegmentPart::Batch(batch) => self.fate_of(batch)?,
                SegmentPart::Zeros(_) => Fate::Zeros,
                SegmentPart::Damage(_) => Fate::Damaged,
            };
            match parts.last_mut().filter(|last| last.fate == fate) {
                Some(last) => last.bytes.end = part.bytes().end,
                None => parts.push(FilePart { bytes: part.bytes(), fate }),
            }
        }
        Ok(parts)
    }

    fn fate_of(&mut self, batch: &BatchDump) -> Result<Fate> {
        let Some(salvaged) = self.salvaged else { return Ok(Fate::Unconnected) };
        let log_start = salvaged.log_start_offset();
        if batch.last_offset < log_start {
            return Ok(Fate::Deleted);
        }
        if batch.last_offset >= salvaged.high_watermark() {
            return Ok(Fate::Unconnected);
        }
        let offset = batch.base_offset.max(log_start);
        let read = salvaged.log().read(offset, self.cursor.as_ref(), ONE_BATCH)?;
        let Some(read) = read else { return Ok(Fate::Unconnected) };
        let fate = if *read.bytes == *batch.bytes() { Fate::Copied } else { Fate::Unconnected };
        self.cursor = Some(read.cursor);
        Ok(fate)
    }
}

fn whole(len: u64, fate: Fate) -> Vec<FilePart> {
    if len == 0 { Vec::new() } else { vec![FilePart { bytes: 0..len, fate }] }
}

fn fate_in_root(entry: &Entry) -> Fate {
    let ours = [LOCK_FILE, CLEAN_SHUTDOWN_FILE, REGISTRY_FILE];
    if entry.kind == Kind::File && is_one_of(entry, &ours) { Fate::Derived } else { Fate::Foreign }
}

fn fate_in_partition(entry: &Entry, suffix: Option<Suffix>) -> Fate {
    let ours = [WATERMARK_FILE, PARTITION_METADATA_FILE, LEADER_EPOCH_FILE];
    match suffix {
        Some(Suffix::Torn | Suffix::Carried | Suffix::Deleted) => Fate::SetAside,
        Some(_) => Fate::Derived,
        None if entry.kind == Kind::File && is_one_of(entry, &ours) => Fate::Derived,
        None if is_later_torn(entry) => Fate::SetAside,
        None => Fate::Foreign,
    }
}

/// Whether a file has one of these names, or that of one that was to replace it.
fn is_one_of(entry: &Entry, names: &[&str]) -> bool {
    let name = entry.name.to_str().unwrap_or_default();
    names.contains(&name.strip_suffix(".tmp").unwrap_or(name))
}

/// The second file and those after it that recovery keeps for one offset: `.torn.1`, ...
fn is_later_torn(entry: &Entry) -> bool {
    let name = Path::new(&entry.name);
    let number = name.extension().and_then(|extension| extension.to_str());
    let is_numbered = number.is_some_and(|number| number.parse::<u32>().is_ok());
    let first = name.file_stem().and_then(file_name::parse);
    is_numbered && matches!(first, Some((_, Suffix::Torn)))
}
