//! The sequences of calls that make a change survive a power loss, each written once for the whole
//! crate: contract 23.
//!
//! Each helper has returned `Ok` only when its change is durable. When it fails, its doc says what
//! stands. What is found already done is made durable all the same: whoever did it may have died
//! before its sync.

use std::ffi::OsString;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Access, File, FileSystem, Kind};
use crate::error::{Corruption, Error, Result};
use crate::mutants::{Mutant, is_planted};

/// How much is copied or compared at a time.
const COPY_LEN: usize = 1 << 20;

/// Creates a file that must not exist yet, with these bytes.
///
/// # Errors
///
/// `AlreadyExists` inside [`Error::Io`] if the name is taken. After any other failure the name is
/// removed again as far as that is possible, so that the call can be repeated.
pub(crate) fn create(fs: &dyn FileSystem, path: &Path, bytes: &[u8]) -> Result<Arc<dyn File>> {
    let file = fs.create_new(path).map_err(|error| Error::io("create", path, error))?;
    let written = write_and_sync(&*file, path, bytes).and_then(|()| sync_parent(fs, path));
    if let Err(error) = written {
        remove_leftover(fs, path);
        return Err(error);
    }
    Ok(file)
}

/// Puts a file with these bytes in the place of `path`, whether that exists or not. Readers and
/// crashes meet the old bytes or the new, never a mixture.
///
/// The bytes are first written to `<name>.tmp` beside it. One of an earlier, broken attempt is
/// removed and not written over: after a failed sync, what is rewritten in place may be lost even
/// though a second sync succeeds.
///
/// # Errors
///
/// The old file stands, unless it was the final sync of the directory that failed: then readers
/// meet the new file, and a crash may bring back the old one.
pub(crate) fn replace(fs: &dyn FileSystem, path: &Path, bytes: &[u8]) -> Result<()> {
    let temporary = temporary_of(path);
    match fs.remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(Error::io("remove", &temporary, error));
        }
        _ => {}
    }
    let file = fs.create_new(&temporary).map_err(|error| Error::io("create", &temporary, error))?;
    let renamed = write_and_sync(&*file, &temporary, bytes).and_then(|()| {
        fs.rename(&temporary, path).map_err(|error| Error::io("replace", path, error))
    });
    if let Err(error) = renamed {
        remove_leftover(fs, &temporary);
        return Err(error);
    }
    sync_parent(fs, path)
}

/// Removes a file; that it is missing is fine. Handles that are open stay valid.
///
/// # Errors
///
/// The file stands, or it is gone and a crash may bring it back.
pub(crate) fn remove(fs: &dyn FileSystem, path: &Path) -> Result<()> {
    let removed = fs.remove_file(path);
    sync_removal(fs, path, removed)
}

/// Creates one directory; that it exists is fine.
///
/// # Errors
///
/// If its parent is missing, or the name is taken by something else. If it was the sync of the
/// parent that failed, the directory stands and a crash may take it away.
pub(crate) fn create_directory(fs: &dyn FileSystem, path: &Path) -> Result<()> {
    match fs.create_directory(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && is_directory(fs, path)? => {}
        Err(error) => return Err(Error::io("create", path, error)),
        Ok(()) => {}
    }
    sync_parent(fs, path)
}

/// Creates a directory and those above it that are missing.
///
/// # Errors
///
/// As [`create_directory`]; those already created stay.
pub(crate) fn create_directory_all(fs: &dyn FileSystem, path: &Path) -> Result<()> {
    let mut missing = Vec::new();
    let mut standing = None;
    for ancestor in path.ancestors() {
        // The empty path is how the ancestors of a relative path end.
        if ancestor.as_os_str().is_empty() {
            break;
        }
        if is_directory(fs, ancestor)? {
            standing = Some(ancestor);
            break;
        }
        missing.push(ancestor);
    }
    if let Some(directory) = standing {
        sync_found_directory(fs, directory)?;
    }
    missing.into_iter().rev().try_for_each(|directory| create_directory(fs, directory))
}

/// Removes a directory of plain files and the files in it; that it is missing is fine. Directories
/// within directories are not ours: they are refused before anything is removed.
///
/// # Errors
///
/// Some of the files may be gone. Repeating the call removes the rest.
pub(crate) fn remove_tree(fs: &dyn FileSystem, path: &Path) -> Result<()> {
    let entries = match fs.list(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        listed => listed.map_err(|error| Error::io("list", path, error))?,
    };
    if let Some(inner) = entries.iter().find(|entry| entry.kind == Kind::Directory) {
        let error = io::ErrorKind::IsADirectory.into();
        return Err(Error::io("remove", &path.join(&inner.name), error));
    }
    for entry in entries {
        let file = path.join(entry.name);
        fs.remove_file(&file).map_err(|error| Error::io("remove", &file, error))?;
    }
    // The files' names need no sync of their own: they go with the directory.
    let removed = fs.remove_directory(path);
    sync_removal(fs, path, removed)
}

/// Reads a part of a file, piece by piece.
///
/// # Errors
///
/// `UnexpectedEof` inside [`Error::Io`] if the file is shorter; what the sink says.
pub(crate) fn read_range(
    fs: &dyn FileSystem,
    path: &Path,
    range: Range<u64>,
    sink: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let cannot_read = |error| Error::io("read", path, error);
    let file = fs.open(path, Access::Read).map_err(|error| Error::io("open", path, error))?;
    let mut buffer = Vec::new();
    let mut at = range.start;
    while at < range.end {
        let len = usize::try_from(range.end - at).unwrap_or(COPY_LEN).min(COPY_LEN);
        buffer.resize(len, 0);
        if file.read_at(&mut buffer, at).map_err(cannot_read)? < len {
            return Err(cannot_read(io::ErrorKind::UnexpectedEof.into()));
        }
        sink(&buffer)?;
        at += len as u64;
    }
    Ok(())
}

/// Makes a new file of a part of another. Its bytes are durable, its name is not before its directory
/// is synced.
///
/// # Errors
///
/// `AlreadyExists` inside [`Error::Io`] if the name is taken. After any other failure the name is
/// removed again as far as that is possible.
pub(crate) fn copy(fs: &dyn FileSystem, from: &Path, part: Range<u64>, to: &Path) -> Result<()> {
    let file = fs.create_new(to).map_err(|error| Error::io("create", to, error))?;
    let mut end = 0;
    let copied = read_range(fs, from, part, &mut |bytes| {
        let written = file.write_all_at(bytes, end);
        end += bytes.len() as u64;
        written.map_err(|error| Error::io("write", to, error))
    });
    let synced =
        copied.and_then(|()| file.sync_data().map_err(|error| Error::io("sync", to, error)));
    if synced.is_err() {
        remove_leftover(fs, to);
    }
    synced
}

/// The same for a whole file, if it is there.
pub(crate) fn copy_if_there(fs: &dyn FileSystem, from: &Path, to: &Path) -> Result<()> {
    let len = match fs.open(from, Access::Read) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        opened => opened.and_then(|file| file.len()),
    };
    let len = len.map_err(|error| Error::io("read", from, error))?;
    copy(fs, from, 0..len, to)
}

/// All bytes of a file, or `None` if there is none.
///
/// # Errors
///
/// [`Error::Corrupt`] if it is longer than `limit`, before any memory is taken for it: the files
/// read in this way are small, and one that is not was not written by us.
pub(crate) fn read(fs: &dyn FileSystem, path: &Path, limit: u64) -> Result<Option<Vec<u8>>> {
    let cannot_read = |error| Error::io("read", path, error);
    let file = match fs.open(path, Access::Read) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(|error| Error::io("open", path, error))?,
    };
    let len = file.len().map_err(cannot_read)?;
    if len > limit {
        let reason = format!("it is {len} bytes long, expected at most {limit}");
        return Err(Corruption::of_file(path, reason).into());
    }
    let len = usize::try_from(len).map_err(|_| cannot_read(io::ErrorKind::OutOfMemory.into()))?;
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(len).map_err(|_| cannot_read(io::ErrorKind::OutOfMemory.into()))?;
    bytes.resize(len, 0);
    let read = file.read_at(&mut bytes, 0).map_err(cannot_read)?;
    bytes.truncate(read);
    Ok(Some(bytes))
}

/// Makes the names in a directory durable.
///
/// # Errors
///
/// Then nothing is known of names created, renamed or removed since the last success.
pub(crate) fn sync_directory(fs: &dyn FileSystem, path: &Path) -> Result<()> {
    sync_names(fs, path).map_err(|error| Error::io("sync", path, error))
}

fn sync_names(fs: &dyn FileSystem, path: &Path) -> io::Result<()> {
    if is_planted(Mutant::SkipsDirectorySync) {
        return Ok(());
    }
    fs.sync_directory(path)
}

/// The directory that holds the path's name.
fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        // `data` has the parent ``, which cannot be opened.
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => path,
    }
}

/// Makes the path's name durable.
pub(crate) fn sync_parent(fs: &dyn FileSystem, path: &Path) -> Result<()> {
    sync_directory(fs, parent_of(path))
}

/// Makes the name of a directory durable that somebody else made, perhaps an attempt of ours that
/// died before its sync.
fn sync_found_directory(fs: &dyn FileSystem, path: &Path) -> Result<()> {
    match sync_names(fs, parent_of(path)) {
        // What we may not even read we have not made, and some file systems refuse to sync a
        // directory (`InvalidInput`) that serves as nothing but a mount point.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::PermissionDenied | io::ErrorKind::InvalidInput
            ) =>
        {
            Ok(())
        }
        synced => synced.map_err(|error| Error::io("sync", parent_of(path), error)),
    }
}

/// Makes a removal durable, also one that found nothing to remove.
fn sync_removal(fs: &dyn FileSystem, path: &Path, removed: io::Result<()>) -> Result<()> {
    let was_missing = match removed {
        Ok(()) => false,
        Err(error) if error.kind() == io::ErrorKind::NotFound => true,
        Err(error) => return Err(Error::io("remove", path, error)),
    };
    match sync_names(fs, parent_of(path)) {
        // Not even the directory is there.
        Err(error) if was_missing && error.kind() == io::ErrorKind::NotFound => Ok(()),
        synced => synced.map_err(|error| Error::io("sync", parent_of(path), error)),
    }
}

fn write_and_sync(file: &dyn File, path: &Path, bytes: &[u8]) -> Result<()> {
    file.write_all_at(bytes, 0).map_err(|error| Error::io("write", path, error))?;
    if is_planted(Mutant::RenamesWithoutSync) {
        return Ok(());
    }
    file.sync_data().map_err(|error| Error::io("sync", path, error))
}

/// Takes away what a failed attempt left. That this may fail too changes nothing: the caller gets
/// the first error, and the next attempt copes with or reports the leftover.
fn remove_leftover(fs: &dyn FileSystem, path: &Path) {
    let _ = fs.remove_file(path);
}

fn is_directory(fs: &dyn FileSystem, path: &Path) -> Result<bool> {
    match fs.kind(path).map_err(|error| Error::io("look up", path, error))? {
        None => Ok(false),
        Some(Kind::Directory) => Ok(true),
        Some(Kind::File | Kind::Other) => {
            Err(Error::io("create", path, io::ErrorKind::NotADirectory.into()))
        }
    }
}

fn temporary_of(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".tmp");
    name.into()
}

#[cfg(test)]
mod tests;
