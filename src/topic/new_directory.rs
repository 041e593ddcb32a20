//! Making a whole directory of topics that is there complete or not at all.
//!
//! It is made under another name beside the one it is to have, and renamed when everything in it is
//! durable. What a crash leaves under the other name, the next attempt clears away.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::fs::{Entry, FileSystem, Kind, Lock, durably};
use crate::topic::log_manager::{CLEAN_SHUTDOWN, CLEAN_SHUTDOWN_FILE, LOCK_FILE};
use crate::topic::registry::{self, REGISTRY_FILE, Registry};
use crate::topic_partition::TopicPartition;

/// What is added to the name of a directory that is being made.
const UNFINISHED: &str = ".unfinished";

/// A directory that is being made.
#[derive(Debug)]
pub(crate) struct NewDirectory {
    fs: Arc<dyn FileSystem>,
    target: PathBuf,
    path: PathBuf,
    /// Keeps out whoever makes the same directory, or would open this one.
    lock: Option<Box<dyn Lock>>,
}

impl NewDirectory {
    /// Begins, and clears away what an earlier attempt has left.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidTarget`] if something is there already, or the target lies in what it is to be
    /// a copy of; [`Error::Locked`] if somebody is at it; I/O errors.
    pub(crate) fn begin(fs: &Arc<dyn FileSystem>, target: &Path, source: &Path) -> Result<Self> {
        if target.starts_with(source) {
            return Err(invalid(target, "it lies in the directory that is to be copied"));
        }
        let Some(name) = target.file_name() else {
            return Err(invalid(target, "the path does not end in a name"));
        };
        check_unused(&**fs, target)?;
        // Not by adding to the path: it may end in a separator.
        let (target, mut name) = (target.with_file_name(name), name.to_owned());
        name.push(UNFINISHED);
        let path = target.with_file_name(name);
        durably::create_directory_all(&**fs, &path)?;
        check_ours(&path, &list(&**fs, &path)?)?;
        let lock_path = path.join(LOCK_FILE);
        let lock = match fs.lock(&lock_path) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                return Err(Error::Locked { path: lock_path });
            }
            taken => taken.map_err(|error| Error::io("lock", &lock_path, error))?,
        };
        let begun = Self { fs: Arc::clone(fs), target, path, lock: Some(lock) };
        begun.clear()?;
        Ok(begun)
    }

    /// Where it is being made.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Lets go of the lock, for a broker that opens it before it has its name.
    pub(crate) fn unlock(&mut self) {
        self.lock = None;
    }

    /// Makes the directory of a partition, empty.
    pub(crate) fn create_partition(&self, of: &TopicPartition) -> Result<PathBuf> {
        let directory = self.path.join(of.directory_name());
        durably::create_directory(&*self.fs, &directory)?;
        Ok(directory)
    }

    /// Takes the directory of a partition away again, if it was made.
    pub(crate) fn remove_partition(&self, of: &TopicPartition) -> Result<()> {
        durably::remove_tree(&*self.fs, &self.path.join(of.directory_name()))
    }

    /// Writes down which topics there are. From here on it can be opened.
    pub(crate) fn register(&self, registry: &Registry) -> Result<()> {
        let path = self.path.join(REGISTRY_FILE);
        durably::replace(&*self.fs, &path, registry::encode(registry).as_bytes())
    }

    /// Writes down that it was left in order.
    pub(crate) fn mark_clean(&self) -> Result<()> {
        let path = self.path.join(CLEAN_SHUTDOWN_FILE);
        durably::replace(&*self.fs, &path, CLEAN_SHUTDOWN.as_bytes())
    }

    /// Fills it, and gives it its name, durably. After an error what was made is taken away again as
    /// far as that is possible.
    pub(crate) fn make<T>(mut self, fill: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let made = fill(&mut self).and_then(|filled| self.finish().map(|()| filled));
        if made.is_err() {
            // That this may fail as well is no news. What is left is cleared away the next time.
            self.take_away().ok();
        }
        made
    }

    fn take_away(&self) -> Result<()> {
        if check_unused(&*self.fs, &self.target).is_err() {
            // It has its name already, and it was the last sync that failed.
            return Ok(());
        }
        self.clear()?;
        durably::remove_tree(&*self.fs, &self.path)
    }

    fn finish(&self) -> Result<()> {
        let renamed = self.fs.rename(&self.path, &self.target);
        renamed.map_err(|error| Error::io("rename", &self.path, error))?;
        durably::sync_parent(&*self.fs, &self.target)
    }

    /// Takes away what is of ours by its name. What is not was not left by us.
    fn clear(&self) -> Result<()> {
        let entries = list(&*self.fs, &self.path)?;
        check_ours(&self.path, &entries)?;
        for entry in entries.iter().filter(|entry| entry.name != LOCK_FILE) {
            let path = self.path.join(&entry.name);
            match entry.kind {
                Kind::Directory => durably::remove_tree(&*self.fs, &path)?,
                _ => durably::remove(&*self.fs, &path)?,
            }
        }
        Ok(())
    }
}

fn check_unused(fs: &dyn FileSystem, target: &Path) -> Result<()> {
    match fs.kind(target).map_err(|error| Error::io("look at", target, error))? {
        None => Ok(()),
        Some(Kind::Directory) if list(fs, target)?.is_empty() => Ok(()),
        Some(Kind::Directory) => Err(invalid(target, "it exists and is not empty")),
        Some(_) => Err(invalid(target, "it exists and is not a directory")),
    }
}

fn check_ours(path: &Path, entries: &[Entry]) -> Result<()> {
    if entries.iter().all(is_ours) {
        return Ok(());
    }
    Err(invalid(path, "it holds what is not Sapwood's, and is needed to make a directory"))
}

fn is_ours(entry: &Entry) -> bool {
    let files = [LOCK_FILE, REGISTRY_FILE, CLEAN_SHUTDOWN_FILE];
    let is_file = |name: &str| files.contains(&name.strip_suffix(".tmp").unwrap_or(name));
    match (entry.kind, OsStr::to_str(&entry.name)) {
        (Kind::Directory, Some(name)) => TopicPartition::from_directory_name(name).is_some(),
        (Kind::File, Some(name)) => is_file(name),
        _ => false,
    }
}

fn list(fs: &dyn FileSystem, directory: &Path) -> Result<Vec<Entry>> {
    fs.list(directory).map_err(|error| Error::io("list", directory, error))
}

fn invalid(path: &Path, reason: &'static str) -> Error {
    Error::InvalidTarget { path: path.to_owned(), reason }
}
