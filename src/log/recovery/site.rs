//! The directory that recovery works on, and the few ways in which it changes files.
//!
//! A file is only ever replaced by one that is complete and synced under another name first. Bytes
//! that are cut off or replaced are kept in `.torn` files, which also appear only when they are
//! complete; what a crash leaves of the work has a `.carried` name, which every open removes.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::resume::{IndexFiles, resume};
use crate::error::{Error, Result};
use crate::fs::{Access, File, FileSystem, durably};
use crate::log::config::TopicConfig;
use crate::segment::entries::EntriesFile;
use crate::segment::file_name::{self, Suffix};
use crate::segment::indexer::{Indexer, Indexes};
use crate::segment::records_file::ReadMode;
use crate::segment::scan::scan;
use crate::segment::{BatchPosition, Extent, Segment};

/// The partition being worked on.
pub(super) struct Site<'a> {
    pub(super) fs: &'a Arc<dyn FileSystem>,
    pub(super) directory: &'a Arc<Path>,
    pub(super) config: &'a TopicConfig,
}

/// A part of a file.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub(super) path: PathBuf,
    pub(super) start: u64,
    pub(super) end: u64,
}

/// What a new file is made of, piece by piece.
pub(super) enum Piece<'p> {
    Part(&'p Part),
    Bytes(&'p [u8]),
}

impl Site<'_> {
    pub(super) fn log(&self, base_offset: u64) -> PathBuf {
        file_name::path(self.directory, base_offset, Suffix::Log)
    }

    pub(super) fn open(&self, path: &Path, access: Access) -> Result<Arc<dyn File>> {
        self.fs.open(path, access).map_err(|error| Error::io("open", path, error))
    }

    pub(super) fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.fs.rename(from, to).map_err(|error| Error::io("rename", from, error))
    }

    pub(super) fn sync_directory(&self) -> Result<()> {
        durably::sync_directory(&**self.fs, self.directory)
    }

    /// Cuts a segment's `.log` durably: what lies beyond may be whole old batches, and must be gone
    /// before the first new one is appended.
    pub(super) fn truncate(&self, base_offset: u64, len: u64) -> Result<()> {
        self.separate(base_offset)?;
        let path = self.log(base_offset);
        let file = self.open(&path, Access::ReadWrite)?;
        file.set_len(len).map_err(|error| Error::io("cut", &path, error))?;
        file.sync_data().map_err(|error| Error::io("sync", &path, error))
    }

    /// Sees to it that a segment's `.log` has no other name, such as that in a backup, before it is
    /// cut or appended to: what is done to it must not be done to that. A file with other names is
    /// left to them, and a copy takes its place.
    pub(super) fn separate(&self, base_offset: u64) -> Result<()> {
        let path = self.log(base_offset);
        let names = self.fs.name_count(&path);
        if names.map_err(|error| Error::io("look at", &path, error))? <= 1 {
            return Ok(());
        }
        let end = self.open(&path, Access::Read)?.len();
        let end = end.map_err(|error| Error::io("read", &path, error))?;
        self.replace_log(base_offset, &[Piece::Part(&Part { path, start: 0, end })])?;
        self.sync_directory()
    }

    /// Removes the index files of a segment that is no longer what they were made of.
    pub(super) fn remove_indexes(&self, base_offset: u64) -> Result<()> {
        [Suffix::Index, Suffix::TimeIndex, Suffix::TxnIndex].into_iter().try_for_each(|suffix| {
            let path = file_name::path(self.directory, base_offset, suffix);
            durably::remove(&**self.fs, &path)
        })
    }

    /// Keeps a copy of a part of a file under a `.torn` name, durably, and says where it is. A copy
    /// that an earlier attempt has made serves as well.
    pub(super) fn keep_copy(&self, part: &Part, offset: u64) -> Result<PathBuf> {
        let mut number = 0;
        let mut to = self.torn_path(offset, number);
        while self.is_taken(&to)? {
            if self.is_copy(&to, part)? {
                self.sync_directory()?;
                return Ok(to);
            }
            number += 1;
            to = self.torn_path(offset, number);
        }
        let unfinished = file_name::path(self.directory, offset, Suffix::Carried);
        self.write_new(&unfinished, &[Piece::Part(part)])?;
        self.rename(&unfinished, &to)?;
        self.sync_directory()?;
        Ok(to)
    }

    /// Moves a segment's `.log` out of the log, and says where it is now.
    pub(super) fn set_aside(&self, base_offset: u64) -> Result<PathBuf> {
        let mut number = 0;
        while self.is_taken(&self.torn_path(base_offset, number))? {
            number += 1;
        }
        let to = self.torn_path(base_offset, number);
        self.rename(&self.log(base_offset), &to)?;
        self.remove_indexes(base_offset)?;
        Ok(to)
    }

    fn torn_path(&self, offset: u64, number: u32) -> PathBuf {
        let first = file_name::path(self.directory, offset, Suffix::Torn);
        if number == 0 { first } else { first.with_extension(format!("torn.{number}")) }
    }

    fn is_taken(&self, path: &Path) -> Result<bool> {
        let kind = self.fs.kind(path);
        Ok(kind.map_err(|error| Error::io("look at", path, error))?.is_some())
    }

    fn is_copy(&self, copy: &Path, part: &Part) -> Result<bool> {
        let len = self.open(copy, Access::Read)?.len();
        let len = len.map_err(|error| Error::io("read", copy, error))?;
        let copy = Part { path: copy.to_owned(), start: 0, end: len };
        Ok(len == part.end - part.start && same_bytes(&**self.fs, &copy, part)?)
    }

    /// Writes a new file and syncs it. An older one of that name goes: after a failed sync, what
    /// is rewritten in place may be lost.
    pub(super) fn write_new(&self, to: &Path, pieces: &[Piece<'_>]) -> Result<()> {
        durably::remove(&**self.fs, to)?;
        let target = self.fs.create_new(to).map_err(|error| Error::io("create", to, error))?;
        let mut end = 0;
        let mut write = |bytes: &[u8]| {
            let written = target.write_all_at(bytes, end);
            end += bytes.len() as u64;
            written.map_err(|error| Error::io("write", to, error))
        };
        for piece in pieces {
            match piece {
                Piece::Bytes(bytes) => write(bytes)?,
                Piece::Part(part) => {
                    durably::read_range(&**self.fs, &part.path, part.start..part.end, &mut write)?;
                }
            }
        }
        target.sync_data().map_err(|error| Error::io("sync", to, error))
    }

    /// Puts a file in the place of a segment's `.log`, or of none: written aside, synced, renamed.
    pub(super) fn replace_log(&self, base_offset: u64, pieces: &[Piece<'_>]) -> Result<()> {
        let carried = file_name::path(self.directory, base_offset, Suffix::Carried);
        self.write_new(&carried, pieces)?;
        self.rename(&carried, &self.log(base_offset))
    }

    /// Indexes a segment as far as its index files do not.
    pub(super) fn index(&self, base_offset: u64, extent: Extent) -> Result<Indexer> {
        let path = self.log(base_offset);
        let file = self.open(&path, Access::Read)?;
        let (fs, directory) = (Arc::clone(self.fs), Arc::clone(self.directory));
        let segment = Segment::new(fs, directory, base_offset, extent, ReadMode::Copied);
        let end = BatchPosition { file_position: extent.len, base_offset: extent.next_offset };
        let interval = u64::from(self.config.index_interval_bytes);
        let (from, mut indexer) = resume(&segment, end, IndexFiles::Unsynced, interval)?;
        scan(&*file, &path, from, None, &mut |batch, at| indexer.add(batch, at.file_position))?;
        Ok(indexer)
    }

    /// Writes the index files of a segment that nobody will append to any more. They are hints, so
    /// they need no sync.
    pub(super) fn write_indexes(&self, base_offset: u64, indexes: &Indexes) -> Result<()> {
        let path = |suffix| file_name::path(self.directory, base_offset, suffix);
        let (index, time_index) = (path(Suffix::Index), path(Suffix::TimeIndex));
        EntriesFile::default().write(&**self.fs, &index, indexes.offsets.entries())?;
        EntriesFile::default().write(&**self.fs, &time_index, indexes.times.entries())
    }
}

/// Whether two parts of files, equally long, hold the same.
pub(super) fn same_bytes(fs: &dyn FileSystem, one: &Part, other: &Part) -> Result<bool> {
    let path = &one.path;
    let file = fs.open(path, Access::Read).map_err(|error| Error::io("open", path, error))?;
    let mut at = one.start;
    let mut same = true;
    let mut buffer = Vec::new();
    durably::read_range(fs, &other.path, other.start..other.end, &mut |bytes| {
        buffer.resize(bytes.len(), 0);
        let read = file.read_at(&mut buffer, at).map_err(|error| Error::io("read", path, error))?;
        same &= read == bytes.len() && buffer == bytes;
        at += bytes.len() as u64;
        Ok(())
    })?;
    Ok(same)
}
