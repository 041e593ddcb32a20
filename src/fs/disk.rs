//! Real files. Relies on Linux: positioned reads and writes, `fdatasync`, OFD locks, `statfs`.
//!
//! Links: a path that a caller gives is followed ([`FileSystem::kind`], [`FileSystem::open`]), so
//! that the root of the data may be reached through a link. The entries of
//! [`FileSystem::list`] are not: a link found in a directory of ours is [`Kind::Other`], which
//! the layers above leave alone.
#![expect(clippy::disallowed_methods, reason = "this is what the others have to go through")]

#[cfg(not(target_os = "linux"))]
compile_error!(
    "sapwood needs Linux: it relies on OFD locks, on fdatasync and on knowing the file system"
);

use std::fs::{self, DirEntry, FileType, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::process;
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::statfs::{EXT4_SUPER_MAGIC, FsType, TMPFS_MAGIC, XFS_SUPER_MAGIC, statfs};

use super::map::{MappedFile, MappedTail, WrittenEnd};
use super::{Access, Entry, File, FileSystem, Kind, Lock, TailWindow, TailWrites};

/// The file system of the machine.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct DiskFileSystem;

impl FileSystem for DiskFileSystem {
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>> {
        let mut options = OpenOptions::new();
        options.read(true).write(access == Access::ReadWrite);
        Ok(Arc::new(DiskFile(Arc::new(open_plain_file(&mut options, path)?))))
    }

    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
        Ok(Arc::new(DiskFile(Arc::new(file))))
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for found in fs::read_dir(directory)? {
            match entry_of(&found?) {
                Ok(entry) => entries.push(entry),
                // Removed since the directory was read: then it is not an entry of it any more.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(entries)
    }

    fn kind(&self, path: &Path) -> io::Result<Option<Kind>> {
        let metadata = match fs::metadata(path) {
            // A link that leads nowhere: the name is taken all the same.
            Err(error) if error.kind() == io::ErrorKind::NotFound => fs::symlink_metadata(path),
            found => found,
        };
        match metadata {
            Ok(metadata) => Ok(Some(kind_of(metadata.file_type()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        fs::create_dir(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(from, to)
    }

    fn name_count(&self, path: &Path) -> io::Result<u64> {
        Ok(fs::metadata(path)?.nlink())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir(path)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        OpenOptions::new().read(true).custom_flags(OFlag::O_DIRECTORY.bits()).open(path)?.sync_all()
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        Ok(Box::new(DiskLock::take(open_plain_file(&mut options, path)?)?))
    }

    fn open_files_max(&self) -> usize {
        // Whoever cannot be asked gets what Linux gives by default.
        let soft = getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _hard)| soft);
        usize::try_from(soft).unwrap_or(usize::MAX)
    }

    fn tail_writes(&self, directory: &Path) -> TailWrites {
        // Whoever cannot be asked counts as unknown.
        statfs(directory)
            .map_or(TailWrites::Positioned, |found| tail_writes_on(found.filesystem_type()))
    }
}

/// Measured on file systems filled to the brim: on those named here, storing into zeroed space
/// never needed new space, also after a sync and with cold caches; on btrfs it was a SIGBUS.
fn tail_writes_on(file_system: FsType) -> TailWrites {
    match file_system {
        // ext2, ext3 and ext4 share one number.
        EXT4_SUPER_MAGIC | XFS_SUPER_MAGIC | TMPFS_MAGIC => TailWrites::MAPPED,
        _ => TailWrites::Positioned,
    }
}

/// Opens what must be a plain file, without waiting for the other end if it is a pipe.
fn open_plain_file(options: &mut OpenOptions, path: &Path) -> io::Result<fs::File> {
    // O_NONBLOCK means nothing to a plain file, and keeps a pipe of that name from blocking us.
    let file = options.custom_flags(OFlag::O_NONBLOCK.bits()).open(path)?;
    match kind_of(file.metadata()?.file_type()) {
        Kind::File => Ok(file),
        Kind::Directory => Err(io::ErrorKind::IsADirectory.into()),
        Kind::Other => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a plain file")),
    }
}

fn entry_of(found: &DirEntry) -> io::Result<Entry> {
    let kind = kind_of(found.file_type()?);
    let len = if kind == Kind::File { found.metadata()?.len() } else { 0 };
    Ok(Entry { name: found.file_name(), kind, len })
}

fn kind_of(file_type: FileType) -> Kind {
    if file_type.is_file() {
        Kind::File
    } else if file_type.is_dir() {
        Kind::Directory
    } else {
        Kind::Other
    }
}

/// One open file. All calls take a position, so any number of threads may use it at once.
#[derive(Debug)]
struct DiskFile(Arc<fs::File>);

impl File for DiskFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read_at(&self, buffer: &mut [u8], file_position: u64) -> io::Result<usize> {
        read_until_full(&*self.0, buffer, file_position)
    }

    fn write_all_at(&self, bytes: &[u8], file_position: u64) -> io::Result<()> {
        // The standard library goes on after a short write and an EINTR, and turns a write of
        // nothing into an error.
        self.0.write_all_at(bytes, file_position)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn map(&self, len: usize, written_end: &WrittenEnd) -> io::Result<Option<MappedFile>> {
        match MappedFile::new(&self.0, len, written_end.clone()) {
            Ok(mapped) => Ok(Some(mapped)),
            // The file system has no mappings, or there is no room for one more of them (a process
            // may have 65,530): the file can still be read.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENODEV | libc::ENOMEM)) => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn map_tail(
        &self,
        file_position: u64,
        len: usize,
        written_end: &WrittenEnd,
    ) -> io::Result<Box<dyn TailWindow>> {
        Ok(Box::new(MappedTail::new(&self.0, file_position, len, written_end.clone())?))
    }
}

/// Reads until the buffer is full or the file ends; a short read is not yet its end.
fn read_until_full(
    file: &impl FileExt,
    buffer: &mut [u8],
    mut file_position: u64,
) -> io::Result<usize> {
    let wanted = buffer.len();
    let mut rest = buffer;
    while !rest.is_empty() {
        match file.read_at(rest, file_position) {
            Ok(0) => break,
            Ok(read) => {
                rest = rest.get_mut(read..).unwrap_or_default();
                file_position += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(wanted - rest.len())
}

/// An OFD write lock over a whole file: POSIX record-lock semantics, which a running Kafka broker
/// obeys (`flock` it would not notice), but owned by the open file and not by the process, so a
/// second open in the same process is refused too and closing another handle does not release it.
#[derive(Debug)]
struct DiskLock {
    file: fs::File,
    /// The process that took the lock. A forked child holds a copy of the same open file.
    owner: u32,
}

impl DiskLock {
    fn take(file: fs::File) -> io::Result<Self> {
        match set_lock(file.as_raw_fd(), libc::F_WRLCK) {
            Ok(()) => Ok(Self { file, owner: process::id() }),
            Err(Errno::EAGAIN | Errno::EACCES) => Err(io::ErrorKind::WouldBlock.into()),
            Err(error) => Err(error.into()),
        }
    }
}

impl Lock for DiskLock {}

impl Drop for DiskLock {
    fn drop(&mut self) {
        // Closing releases the lock only with the last copy of the descriptor, and a child that is
        // just being spawned has one for a moment: reopening would then fail for no visible
        // reason. A forked child, on the other hand, must not release its parent's lock.
        if self.owner == process::id() {
            // If this fails, the close that follows releases the lock.
            let _ = set_lock(self.file.as_raw_fd(), libc::F_UNLCK);
        }
    }
}

fn set_lock(descriptor: RawFd, kind: libc::c_int) -> nix::Result<()> {
    let kind = libc::c_short::try_from(kind).map_err(|_| Errno::EINVAL)?;
    // From 0 with length 0: the whole file, however it grows.
    let whole_file = libc::flock { l_type: kind, l_whence: 0, l_start: 0, l_len: 0, l_pid: 0 };
    fcntl(descriptor, FcntlArg::F_OFD_SETLK(&whole_file)).map(|_| ())
}

#[cfg(test)]
mod tests;
