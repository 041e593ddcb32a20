//! The seam to the operating system: everything this crate asks of files goes through
//! [`FileSystem`] and [`File`].
//!
//! [`disk`] is the real thing, [`memory`] keeps files in memory (behind `Broker::in_memory()`); `sim`
//! (feature `sim`) is a disk that fails and loses power; in tests, `faults` makes any of them fail.
//! The traits say what each call must guarantee; the layers above assume no more than that, so a
//! third implementation can take the role of a failing disk. [`map`] holds the mappings and with
//! them all `unsafe` code of the crate.
//!
//! The few sequences of calls that make a change durable are written once, in [`durably`]; [`held`]
//! is for files that need not stay open.

pub(crate) mod disk;
pub(crate) mod durably;
pub(crate) mod held;
pub(crate) mod map;
pub(crate) mod memory;
mod memory_file;
#[cfg(any(test, feature = "sim"))]
pub(crate) mod sim;
mod tree;

#[cfg(test)]
pub(crate) mod faults;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::fmt::Debug;
use std::io;
use std::path::Path;
use std::sync::Arc;

use self::map::{MappedFile, WrittenEnd};

/// A tree of files. Paths are used as they are given.
///
/// All calls block. None is durable by itself: a created, renamed or removed name is durable after
/// [`FileSystem::sync_directory`] of its parent, a file's bytes after [`File::sync_data`].
pub(crate) trait FileSystem: Debug + Send + Sync {
    /// Opens a file that exists, following links. A directory is `IsADirectory`; anything else that
    /// is not a plain file is refused without blocking.
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>>;

    /// Creates a file that must not exist yet (`AlreadyExists` otherwise), for reading and writing.
    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn File>>;

    /// The entries of a directory, in no particular order, without `.` and `..`. Links are not
    /// followed: an entry that is one is [`Kind::Other`].
    fn list(&self, directory: &Path) -> io::Result<Vec<Entry>>;

    /// Whether the path names anything at all, and what, following links (so that a user's data
    /// directory may be reached through one). A link that leads nowhere is [`Kind::Other`].
    fn kind(&self, path: &Path) -> io::Result<Option<Kind>>;

    /// Creates one directory (`AlreadyExists` if the name is taken, `NotFound` without a parent).
    fn create_directory(&self, path: &Path) -> io::Result<()>;

    /// Renames a file or directory within one file system, atomically. A file replaces a file, a
    /// directory an empty directory.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Gives a file a second name, which must be free (`AlreadyExists` otherwise). Both lead to the
    /// same bytes, and what is written through one shows through the other. Fails where that is not to
    /// be had, such as between two file systems; then the file can be copied.
    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// How many names a file has.
    fn name_count(&self, path: &Path) -> io::Result<u64>;

    /// Removes a file's name. Open handles and mappings of it stay valid.
    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// Removes an empty directory.
    fn remove_directory(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a directory durable: what was created, renamed or removed in it before
    /// the call survives a power loss once it has returned.
    fn sync_directory(&self, path: &Path) -> io::Result<()>;

    /// Takes the lock on a file, creating the file if need be. Fails with `WouldBlock` while
    /// anybody holds it, in this process or another. It is released when the guard is dropped or
    /// the process ends, however it ends.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>>;

    /// How many files this process may have open at the same time.
    fn open_files_max(&self) -> usize;

    /// How the tail of a file below `directory` may be written.
    fn tail_writes(&self, directory: &Path) -> TailWrites;
}

/// One open file. Closed when the last handle goes.
pub(crate) trait File: Debug + Send + Sync {
    /// The file's length in bytes.
    fn len(&self) -> io::Result<u64>;

    /// Reads until the buffer is full or the file ends, and says how many bytes there were.
    fn read_at(&self, buffer: &mut [u8], file_position: u64) -> io::Result<usize>;

    /// Writes all bytes, or fails. After a failure any part of them may have been written.
    fn write_all_at(&self, bytes: &[u8], file_position: u64) -> io::Result<()>;

    /// Cuts or (with zeros) extends the file. Extending takes no space: writing there may fail.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Makes the bytes and the length durable. Answers for the writes that had returned before
    /// the call. After a failure nothing is known of any of them, and a second call proves
    /// nothing.
    fn sync_data(&self) -> io::Result<()>;

    /// Maps the first `len` bytes for reading; `len` may lie beyond the end of the file, but only
    /// bytes below `written_end` can be looked at. `None` where it cannot be mapped, or
    /// not now: read it.
    ///
    /// From here on nothing below `written_end` may be written or cut, as long as the mapping
    /// lives; that is up to the caller, see [`map`].
    fn map(&self, len: usize, written_end: &WrittenEnd) -> io::Result<Option<MappedFile>>;

    /// Opens a window of the file for writing at and above `written_end`, which only its owner
    /// moves while the window is open. It may reach beyond the end of the file: nothing can be stored
    /// into it before it is [made ready](TailWindow::make_ready).
    fn map_tail(
        &self,
        file_position: u64,
        len: usize,
        written_end: &WrittenEnd,
    ) -> io::Result<Box<dyn TailWindow>>;
}

/// A stretch at the end of a file that can be stored into without a system call.
///
/// Bytes stored are the operating system's at once: they survive the process, and the next
/// [`File::sync_data`] makes them durable.
pub(crate) trait TailWindow: Debug + Send + Sync {
    /// The file position behind the window's last byte, whether it is ready or not.
    fn end(&self) -> u64;

    /// The file position up to which it is ready to be stored into; at first that is where it begins.
    fn ready_end(&self) -> u64;

    /// Makes it ready up to `end`. That must lie within the window and the file (`InvalidInput`
    /// otherwise), and all bytes up to there must have been written before (zeros will do), so that
    /// storing into them needs no new space.
    fn make_ready(&mut self, end: u64) -> io::Result<()>;

    /// Stores bytes at a file position.
    ///
    /// # Panics
    ///
    /// When the bytes do not lie within what is ready of the window, or begin below the written end: its
    /// owner checks first.
    fn store(&mut self, bytes: &[u8], file_position: u64);
}

/// Held while a directory is open for writing.
pub(crate) trait Lock: Debug + Send + Sync {}

/// What a file is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    ReadWrite,
}

/// What a name in a directory stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Directory,
    /// A link, socket, device: nothing that this crate makes.
    Other,
}

/// One name in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) name: OsString,
    pub(crate) kind: Kind,
    /// Length in bytes, 0 for what is not a file.
    pub(crate) len: u64,
}

/// How the tail of a segment may be written on a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TailWrites {
    /// Through a mapping of zeroed space: overwriting written space never needs new space here.
    /// What is this long or longer is better written by `pwrite`: for whole pages that is less work
    /// than to make them zeros and then to map them.
    Mapped { below: usize },
    /// By `pwrite` alone: on copy-on-write and unknown file systems a store into a mapping can
    /// fail for want of space, which arrives as a SIGBUS and not as an error.
    Positioned,
}

impl TailWrites {
    /// For file systems that keep files in the page cache. (A page is where the costs of the two
    /// ways meet, as measured on ext4.)
    pub(crate) const MAPPED: Self = Self::Mapped { below: 4096 };
}
