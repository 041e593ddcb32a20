//! Files in memory, behind `Broker::in_memory()` and under tests. Nothing survives the process.
//!
//! Behaves like a disk in everything the traits of this folder promise, down to the kinds of
//! errors; `fs/tests.rs` runs one suite over both. Syncs have nothing to do. The names are in
//! [`tree`](super::tree), what they name is in [`memory_file`](super::memory_file).

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::memory_file::{Contents, MemoryFile, Space};
use super::tree::{Node, Tree, normalized};
use super::{Access, Entry, File, FileSystem, Kind, Lock, TailWrites};

/// A tree of files in memory. Clones are the same tree; any thread may call anything.
///
/// Paths are those of a [`Tree`].
#[derive(Debug, Clone)]
pub(crate) struct MemoryFileSystem {
    /// What each path names. One lock for the whole tree: names change seldom, and the bytes of a
    /// file have a lock of their own, which is never taken together with this one.
    names: Arc<Mutex<Tree<Arc<Inode>>>>,
    space: Arc<Space>,
    tail_writes: TailWrites,
}

/// What a name leads to, and goes on leading to when it is renamed.
#[derive(Debug)]
struct Inode {
    contents: Arc<Contents>,
    locked: AtomicBool,
}

impl Inode {
    fn new(space: &Arc<Space>) -> Arc<Self> {
        let contents = Arc::new(Contents::new(Arc::clone(space)));
        Arc::new(Self { contents, locked: AtomicBool::new(false) })
    }

    fn open(&self, access: Access) -> Arc<dyn File> {
        Arc::new(MemoryFile::new(Arc::clone(&self.contents), access))
    }
}

impl Default for MemoryFileSystem {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryFileSystem {
    /// An empty tree, as large as memory allows.
    ///
    /// Tails are written by position: a window would want zeros ahead of each partition and gain
    /// nothing here.
    pub(crate) fn new() -> Self {
        Self {
            names: Arc::new(Mutex::new(Tree::new())),
            space: Arc::new(Space::unlimited()),
            tail_writes: TailWrites::Positioned,
        }
    }

    /// The file of that name, created if need be.
    fn file_or_new(&self, path: PathBuf) -> io::Result<Arc<Inode>> {
        let mut names = self.names.lock();
        match names.file(&path) {
            Ok(inode) => Ok(Arc::clone(inode)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                names.check_free(&path)?;
                let inode = Inode::new(&self.space);
                names.insert(path, Node::File(Arc::clone(&inode)));
                Ok(inode)
            }
            Err(error) => Err(error),
        }
    }
}

/// What tests set and ask.
#[cfg(test)]
impl MemoryFileSystem {
    /// The same tree, but saying that tails are written in this way.
    #[must_use]
    pub(crate) fn with_tail_writes(self, tail_writes: TailWrites) -> Self {
        Self { tail_writes, ..self }
    }

    /// Limits what all files together may hold, in bytes written (holes do not count). Writes
    /// beyond it fail with `StorageFull`. Less than is in use is allowed: then nothing more can
    /// be written until something was removed.
    pub(crate) fn set_capacity(&self, bytes: u64) {
        self.space.set_capacity(bytes);
    }

    /// How many bytes all files together hold now, those that are removed but still open included.
    pub(crate) fn used(&self) -> u64 {
        self.space.used()
    }
}

impl FileSystem for MemoryFileSystem {
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>> {
        Ok(self.names.lock().file(&normalized(path)?)?.open(access))
    }

    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let path = normalized(path)?;
        let mut names = self.names.lock();
        names.check_free(&path)?;
        let inode = Inode::new(&self.space);
        let file = inode.open(Access::ReadWrite);
        names.insert(path, Node::File(inode));
        Ok(file)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<Entry>> {
        let directory = normalized(directory)?;
        let children: Vec<(PathBuf, Node<Arc<Inode>>)> = {
            let names = self.names.lock();
            names.check_directory(&directory)?;
            let children = names.children(&directory);
            children.map(|(path, node)| (path.clone(), node.clone())).collect()
        };
        Ok(children.iter().map(|(path, node)| entry_of(path, node)).collect())
    }

    fn kind(&self, path: &Path) -> io::Result<Option<Kind>> {
        self.names.lock().kind(&normalized(path)?)
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        let path = normalized(path)?;
        let mut names = self.names.lock();
        names.check_free(&path)?;
        names.insert(path, Node::Directory);
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (normalized(from)?, normalized(to)?);
        let mut names = self.names.lock();
        names.check_rename(&from, &to)?;
        names.rename(&from, &to);
        Ok(())
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (normalized(from)?, normalized(to)?);
        let mut names = self.names.lock();
        let inode = Arc::clone(names.file(&from)?);
        names.check_free(&to)?;
        names.insert(to, Node::File(inode));
        Ok(())
    }

    fn name_count(&self, path: &Path) -> io::Result<u64> {
        let names = self.names.lock();
        let inode = names.file(&normalized(path)?)?;
        Ok(names.files().filter(|(_, file)| Arc::ptr_eq(file, inode)).count() as u64)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let path = normalized(path)?;
        let mut names = self.names.lock();
        names.file(&path)?;
        names.remove(&path);
        Ok(())
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        let path = normalized(path)?;
        let mut names = self.names.lock();
        names.check_removable_directory(&path)?;
        names.remove(&path);
        Ok(())
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        self.names.lock().check_directory(&normalized(path)?)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        let inode = self.file_or_new(normalized(path)?)?;
        // Acquire here and release in the guard: what one holder did is seen by the next.
        if inode.locked.swap(true, Ordering::Acquire) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(MemoryLock { inode }))
    }

    fn open_files_max(&self) -> usize {
        usize::MAX
    }

    fn tail_writes(&self, _directory: &Path) -> TailWrites {
        self.tail_writes
    }
}

fn entry_of(path: &Path, node: &Node<Arc<Inode>>) -> Entry {
    let name = path.file_name().map(OsStr::to_owned).unwrap_or_default();
    match node {
        Node::File(inode) => Entry { name, kind: Kind::File, len: inode.contents.len() },
        Node::Directory => Entry { name, kind: Kind::Directory, len: 0 },
    }
}

/// Holds the file, so that its name may go while it is locked.
#[derive(Debug)]
struct MemoryLock {
    inode: Arc<Inode>,
}

impl Lock for MemoryLock {}

impl Drop for MemoryLock {
    fn drop(&mut self) {
        self.inode.locked.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use super::*;
    use crate::fs::map::WrittenEnd;

    fn error_kind<T>(result: io::Result<T>) -> Option<ErrorKind> {
        result.err().map(|error| error.kind())
    }

    #[test]
    fn a_full_file_system_says_so_and_takes_more_after_something_was_removed() {
        let fs = MemoryFileSystem::new();
        fs.set_capacity(100);
        let full = fs.create_new(Path::new("full")).unwrap();
        full.write_all_at(&[1; 90], 0).unwrap();
        let other = fs.create_new(Path::new("other")).unwrap();
        assert_eq!(error_kind(other.write_all_at(&[2; 11], 0)), Some(ErrorKind::StorageFull));
        assert_eq!(other.len().unwrap(), 0);
        // Overwriting needs no space, nor does a hole.
        full.write_all_at(&[3; 90], 0).unwrap();
        other.set_len(1 << 40).unwrap();
        other.write_all_at(&[2; 10], 0).unwrap();
        assert_eq!(fs.used(), 100);
        assert_eq!(error_kind(other.write_all_at(&[2; 1], 10)), Some(ErrorKind::StorageFull));
        full.set_len(50).unwrap();
        other.write_all_at(&[2; 40], 10).unwrap();
        assert_eq!(fs.used(), 100);
    }

    #[test]
    fn space_comes_back_when_the_last_handle_of_a_removed_file_goes() {
        let fs = MemoryFileSystem::new();
        let file = fs.create_new(Path::new("a")).unwrap();
        file.write_all_at(&vec![0; 200_000], 0).unwrap();
        fs.remove_file(Path::new("a")).unwrap();
        assert_eq!(fs.used(), 200_000);
        drop(file);
        assert_eq!(fs.used(), 0);
    }

    #[test]
    fn a_write_that_runs_out_of_space_leaves_the_part_before() {
        let fs = MemoryFileSystem::new();
        fs.set_capacity(70_000);
        let file = fs.create_new(Path::new("a")).unwrap();
        assert_eq!(
            error_kind(file.write_all_at(&vec![1; 140_000], 0)),
            Some(ErrorKind::StorageFull)
        );
        assert_eq!(file.len().unwrap(), 65_536);
        let mut byte = [0];
        assert_eq!(file.read_at(&mut byte, 65_535).unwrap(), 1);
        assert_eq!(byte, [1]);
    }

    #[test]
    fn a_window_takes_its_space_when_it_is_made_ready() {
        let fs = MemoryFileSystem::new();
        let file = fs.create_new(Path::new("a")).unwrap();
        file.set_len(100_000).unwrap();
        fs.set_capacity(50_000);
        let written_end = WrittenEnd::new(0);
        let mut window = file.map_tail(0, 100_000, &written_end).unwrap();
        let refused = window.make_ready(100_000);
        assert_eq!(error_kind(refused), Some(ErrorKind::StorageFull));
        fs.set_capacity(100_000);
        window.make_ready(100_000).unwrap();
        fs.set_capacity(0);
        window.store(&vec![1; 100_000], 0);
    }

    #[test]
    fn paths_are_the_same_however_they_are_spelt_but_must_not_go_up() {
        let fs = MemoryFileSystem::new();
        fs.create_directory(Path::new("/a")).unwrap();
        fs.create_new(Path::new("/a//./b")).unwrap();
        assert_eq!(fs.kind(Path::new("/./a/b/")).unwrap(), Some(Kind::File));
        assert_eq!(
            fs.kind(Path::new("a/b")).unwrap(),
            None,
            "relative paths have a root of their own"
        );
        assert_eq!(error_kind(fs.kind(Path::new("/a/../a"))), Some(ErrorKind::InvalidInput));
        for root in ["/", ".", ""] {
            assert_eq!(fs.kind(Path::new(root)).unwrap(), Some(Kind::Directory), "{root:?}");
            assert!(fs.remove_directory(Path::new(root)).is_err(), "{root:?}");
            assert!(fs.rename(Path::new(root), Path::new("b")).is_err(), "{root:?}");
            assert!(fs.rename(Path::new("/a"), Path::new(root)).is_err(), "{root:?}");
        }
        assert!(fs.list(Path::new(".")).unwrap().is_empty());
    }

    #[test]
    fn tails_are_written_by_position_unless_a_test_wants_the_window() {
        let fs = MemoryFileSystem::new();
        assert_eq!(fs.tail_writes(Path::new("")), TailWrites::Positioned);
        let fs = fs.with_tail_writes(TailWrites::MAPPED);
        assert_eq!(fs.tail_writes(Path::new("")), TailWrites::MAPPED);
    }

    #[test]
    fn each_instance_is_a_tree_of_its_own_and_its_clones_are_the_same_tree() {
        let fs = MemoryFileSystem::new();
        let held = fs.lock(Path::new(".lock")).unwrap();
        assert_eq!(error_kind(fs.clone().lock(Path::new(".lock"))), Some(ErrorKind::WouldBlock));
        MemoryFileSystem::new().lock(Path::new(".lock")).unwrap();
        drop(held);
    }
}
