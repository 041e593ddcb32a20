//! Making a directory that is there complete and durable, or not at all: under another name first, as
//! a backup is.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::inspect::Inspected;
use crate::exit::{Code, Result, Stop};

/// What is added to the name of a directory that is being made.
const UNFINISHED: &str = ".unfinished";

/// Held while the directory is being made.
const LOCK_FILE: &str = ".sapwood-graduate";

/// Where the leader epoch lies in a batch. No checksum is over it.
const LEADER_EPOCH_AT: u64 = 12;

/// A directory that is being made.
pub(super) struct Making {
    target: PathBuf,
    path: PathBuf,
    /// Keeps out whoever makes the same directory. Released with the file.
    _lock: File,
}

impl Making {
    pub(super) fn begin(target: &Path, source: &Path) -> Result<Self> {
        let Some(name) = target.file_name() else {
            return Err(unusable(target, "the path does not end in a name"));
        };
        check_unused(target)?;
        // Not by adding to the path: it may end in a separator.
        let target = target.with_file_name(name);
        let mut unfinished = name.to_owned();
        unfinished.push(UNFINISHED);
        let path = target.with_file_name(unfinished);
        let parent = parent(&target);
        // Before anything is made: it would lie in there.
        if lies_in(parent, source)? {
            return Err(unusable(&target, "it lies in the directory that is to be copied"));
        }
        fs::create_dir_all(parent).map_err(|error| Stop::file("create", parent, &error))?;
        match fs::create_dir(&path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            made => made.map_err(|error| Stop::file("create", &path, &error))?,
        }
        let lock_path = path.join(LOCK_FILE);
        let is_ours = lock_path.exists() || is_empty(&path)?;
        if !is_ours {
            return Err(unusable(
                &path,
                "it holds something else, and is needed to make a directory",
            ));
        }
        let mut options = OpenOptions::new();
        let lock = options.write(true).create(true).truncate(false).open(&lock_path);
        let lock = lock.map_err(|error| Stop::file("open", &lock_path, &error))?;
        lock.try_lock().map_err(|_| {
            let place = path.display();
            Stop::failed(
                Code::Locked,
                format!("{place} is being made by another process; wait for it"),
            )
        })?;
        let making = Self { target, path, _lock: lock };
        making.clear()?;
        Ok(making)
    }

    /// Fills it, and gives it its name, durably. After an error what was made is taken away again as
    /// far as that is possible.
    pub(super) fn make<T>(self, fill: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
        let made = fill(&self.path).and_then(|filled| self.finish().map(|()| filled));
        if made.is_err() && check_unused(&self.target).is_ok() {
            // That this may fail as well is no news. What is left is cleared away the next time.
            self.clear().and_then(|()| remove_tree(&self.path)).ok();
        }
        made
    }

    fn finish(&self) -> Result {
        sync_directory(&self.path)?;
        let renamed = fs::rename(&self.path, &self.target);
        renamed.map_err(|error| Stop::file("rename", &self.path, &error))?;
        sync_directory(parent(&self.target))?;
        // Not before: without it the next attempt would not know what was left for its own.
        let lock_path = self.target.join(LOCK_FILE);
        fs::remove_file(&lock_path).map_err(|error| Stop::file("remove", &lock_path, &error))?;
        sync_directory(&self.target)
    }

    /// Takes away what an attempt has left.
    fn clear(&self) -> Result {
        for path in list(&self.path)? {
            if path.is_dir() && !path.is_symlink() {
                remove_tree(&path)?;
            }
        }
        remove_files(&self.path, |path| path.file_name() != Some(LOCK_FILE.as_ref()))
    }
}

/// Gives a `.log` file of the copy the form that it is to have: it ends with its last batch, every
/// batch is of leader epoch 0, and it is a file of its own unless links are wanted.
pub(super) fn settle_log(segment: &Inspected, link: bool) -> Result {
    let path = &segment.path;
    let metadata = fs::metadata(path).map_err(|error| Stop::file("look at", path, &error))?;
    let changes = metadata.len() > segment.len || !segment.foreign_epochs.is_empty();
    if metadata.nlink() > 1 && (changes || !link) {
        copy_into_place(path)?;
    }
    if !changes {
        return Ok(());
    }
    let change = || -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(path)?;
        file.set_len(segment.len)?;
        for batch in &segment.foreign_epochs {
            file.write_all_at(&0_i32.to_be_bytes(), batch + LEADER_EPOCH_AT)?;
        }
        file.sync_all()
    };
    change().map_err(|error| Stop::file("write", path, &error))
}

/// Puts a copy of a file into its place: what is written there from now on, no other name of it sees.
fn copy_into_place(path: &Path) -> Result {
    let copy = path.with_extension("copying");
    let make = || -> io::Result<()> {
        let mut from = File::open(path)?;
        let mut to = OpenOptions::new().write(true).create_new(true).open(&copy)?;
        io::copy(&mut from, &mut to)?;
        // Where records have no times, retention goes by that of the file.
        to.set_modified(from.metadata()?.modified()?)?;
        to.sync_all()?;
        fs::rename(&copy, path)
    };
    make().map_err(|error| Stop::file("copy", path, &error))
}

/// Writes a file that is not there yet, durably but for its name.
pub(super) fn write(path: &Path, content: &[u8]) -> Result {
    let make = || -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
        file.write_all(content)?;
        file.sync_all()
    };
    make().map_err(|error| Stop::file("write", path, &error))
}

/// Makes the names in a directory durable.
pub(super) fn sync_directory(path: &Path) -> Result {
    let synced = File::open(path).and_then(|directory| directory.sync_all());
    synced.map_err(|error| Stop::file("sync", path, &error))
}

/// Removes the files of a directory that are chosen.
pub(super) fn remove_files(directory: &Path, is_chosen: impl Fn(&Path) -> bool) -> Result {
    for path in list(directory)? {
        let is_directory = path.is_dir() && !path.is_symlink();
        if !is_directory && is_chosen(&path) {
            fs::remove_file(&path).map_err(|error| Stop::file("remove", &path, &error))?;
        }
    }
    Ok(())
}

pub(super) fn remove_tree(path: &Path) -> Result {
    fs::remove_dir_all(path).map_err(|error| Stop::file("remove", path, &error))
}

fn list(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(directory)
        .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>());
    entries.map_err(|error| Stop::file("list", directory, &error))
}

fn is_empty(directory: &Path) -> Result<bool> {
    Ok(list(directory)?.is_empty())
}

/// Whether a path, which need not be there yet, leads into a directory.
fn lies_in(path: &Path, directory: &Path) -> Result<bool> {
    let real =
        |path: &Path| fs::canonicalize(path).map_err(|error| Stop::file("look at", path, &error));
    let mut there = path;
    while !there.exists() {
        there = parent(there);
    }
    Ok(real(there)?.starts_with(real(directory)?))
}

fn check_unused(target: &Path) -> Result {
    match fs::symlink_metadata(target) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Stop::file("look at", target, &error)),
        Ok(found) if !found.is_dir() => Err(unusable(target, "it exists and is not a directory")),
        Ok(_) if is_empty(target)? => Ok(()),
        Ok(_) => Err(unusable(target, "it exists and is not empty")),
    }
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

fn unusable(path: &Path, reason: &str) -> Stop {
    let sentence = format!("cannot make a directory at {}: {reason}", path.display());
    Stop::failed(Code::Exists, sentence)
}
