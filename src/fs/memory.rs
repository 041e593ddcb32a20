//! Files in memory, behind `Broker::in_memory()` and under tests. Nothing survives the process.
//!
//! Behaves like a disk in everything the traits of this folder promise, down to the kinds of
//! errors; `fs/tests.rs` runs one suite over both. Syncs have nothing to do. This is the tree of
//! names; what they name is in [`memory_file`](super::memory_file).

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::ops::Bound;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::memory_file::{Contents, MemoryFile, Space};
use super::{Access, Entry, File, FileSystem, Kind, Lock, TailWrites};

/// A tree of files in memory. Clones are the same tree; any thread may call anything.
///
/// Relative paths start at a root that always exists, as does `/`. `..` is not understood.
#[derive(Debug, Clone)]
pub(crate) struct MemoryFileSystem {
    /// What each path names. One lock for the whole tree: names change seldom, and the bytes of a
    /// file have a lock of their own, which is never taken together with this one.
    names: Arc<Mutex<BTreeMap<PathBuf, Node>>>,
    space: Arc<Space>,
    tail_writes: TailWrites,
}

#[derive(Debug, Clone)]
enum Node {
    File(Arc<Inode>),
    Directory,
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
        let roots = [PathBuf::new(), PathBuf::from("/")];
        Self {
            names: Arc::new(Mutex::new(roots.map(|root| (root, Node::Directory)).into())),
            space: Arc::new(Space::unlimited()),
            tail_writes: TailWrites::Positioned,
        }
    }

    /// The file of that name, created if need be.
    fn file_or_new(&self, path: PathBuf) -> io::Result<Arc<Inode>> {
        let mut names = self.names.lock();
        match names.get(&path) {
            Some(Node::File(inode)) => Ok(Arc::clone(inode)),
            Some(Node::Directory) => Err(io::ErrorKind::IsADirectory.into()),
            None => {
                check_parent(&names, &path)?;
                let inode = Inode::new(&self.space);
                names.insert(path, Node::File(Arc::clone(&inode)));
                Ok(inode)
            }
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
        let path = normalized(path)?;
        match find(&self.names.lock(), &path)? {
            Node::File(inode) => Ok(inode.open(access)),
            Node::Directory => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let path = normalized(path)?;
        let mut names = self.names.lock();
        check_free(&names, &path)?;
        let inode = Inode::new(&self.space);
        let file = inode.open(Access::ReadWrite);
        names.insert(path, Node::File(inode));
        Ok(file)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<Entry>> {
        let directory = normalized(directory)?;
        let children: Vec<(PathBuf, Node)> = {
            let names = self.names.lock();
            check_directory(&names, &directory)?;
            below(&names, &directory)
                .filter(|(path, _)| path.parent() == Some(&directory))
                .map(|(path, node)| (path.clone(), node.clone()))
                .collect()
        };
        Ok(children.iter().map(|(path, node)| entry_of(path, node)).collect())
    }

    fn kind(&self, path: &Path) -> io::Result<Option<Kind>> {
        let path = normalized(path)?;
        match find(&self.names.lock(), &path) {
            Ok(Node::File(_)) => Ok(Some(Kind::File)),
            Ok(Node::Directory) => Ok(Some(Kind::Directory)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        let path = normalized(path)?;
        let mut names = self.names.lock();
        check_free(&names, &path)?;
        names.insert(path, Node::Directory);
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (normalized(from)?, normalized(to)?);
        let mut names = self.names.lock();
        let node = find(&names, &from)?.clone();
        check_parent(&names, &to)?;
        if from == to {
            return Ok(());
        }
        check_replaceable(&names, &from, &to)?;
        let inside: Vec<(PathBuf, Node)> =
            below(&names, &from).map(|(path, node)| (path.clone(), node.clone())).collect();
        for (path, node) in inside {
            names.remove(&path);
            let rest = path.strip_prefix(&from).expect("it lies below the directory that moves");
            names.insert(to.join(rest), node);
        }
        names.remove(&from);
        names.insert(to, node);
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let path = normalized(path)?;
        let mut names = self.names.lock();
        match find(&names, &path)? {
            Node::File(_) => names.remove(&path),
            Node::Directory => return Err(io::ErrorKind::IsADirectory.into()),
        };
        Ok(())
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        let path = normalized(path)?;
        let mut names = self.names.lock();
        check_directory(&names, &path)?;
        check_empty(&names, &path)?;
        if path.parent().is_none() {
            return Err(io::ErrorKind::ResourceBusy.into());
        }
        names.remove(&path);
        Ok(())
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        check_directory(&self.names.lock(), &normalized(path)?)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        let inode = self.file_or_new(normalized(path)?)?;
        // Acquire here and release in the guard: what one holder did is seen by the next.
        if inode.locked.swap(true, Ordering::Acquire) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(MemoryLock { inode }))
    }

    fn tail_writes(&self, _directory: &Path) -> TailWrites {
        self.tail_writes
    }
}

/// The path as the tree knows it: without `.`, repeated and trailing separators.
fn normalized(path: &Path) -> io::Result<PathBuf> {
    if path.components().any(|component| component == Component::ParentDir) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "`..` is not understood here"));
    }
    Ok(path.components().filter(|component| *component != Component::CurDir).collect())
}

type Names = BTreeMap<PathBuf, Node>;

fn find<'a>(names: &'a Names, path: &Path) -> io::Result<&'a Node> {
    match names.get(path) {
        Some(node) => Ok(node),
        None => check_parent(names, path).and(Err(io::ErrorKind::NotFound.into())),
    }
}

fn check_directory(names: &Names, path: &Path) -> io::Result<()> {
    match find(names, path)? {
        Node::Directory => Ok(()),
        Node::File(_) => Err(io::ErrorKind::NotADirectory.into()),
    }
}

/// Fails if something cannot be created there because there is no directory to hold it.
fn check_parent(names: &Names, path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |parent| check_directory(names, parent))
}

fn check_free(names: &Names, path: &Path) -> io::Result<()> {
    if names.contains_key(path) {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    check_parent(names, path)
}

fn check_empty(names: &Names, directory: &Path) -> io::Result<()> {
    match below(names, directory).next() {
        Some(_) => Err(io::ErrorKind::DirectoryNotEmpty.into()),
        None => Ok(()),
    }
}

/// Fails if what is at `from` must not take the place of what is, or is not, at `to`.
fn check_replaceable(names: &Names, from: &Path, to: &Path) -> io::Result<()> {
    if from.parent().is_none() || to.parent().is_none() {
        // A root stays where it is.
        return Err(io::ErrorKind::ResourceBusy.into());
    }
    match (find(names, from)?, names.get(to)) {
        (Node::Directory, _) if to.starts_with(from) => Err(io::ErrorKind::InvalidInput.into()),
        (Node::Directory, Some(Node::File(_))) => Err(io::ErrorKind::NotADirectory.into()),
        (Node::Directory, Some(Node::Directory)) => check_empty(names, to),
        (Node::File(_), Some(Node::Directory)) => Err(io::ErrorKind::IsADirectory.into()),
        (Node::File(_), Some(Node::File(_))) | (_, None) => Ok(()),
    }
}

/// All that lies below a directory, at any depth. Paths are ordered by component, so it lies
/// together, right behind the directory itself.
fn below<'a>(
    names: &'a Names,
    directory: &'a Path,
) -> impl Iterator<Item = (&'a PathBuf, &'a Node)> {
    names
        .range::<Path, _>((Bound::Excluded(directory), Bound::Unbounded))
        .take_while(move |(path, _)| path.starts_with(directory))
}

fn entry_of(path: &Path, node: &Node) -> Entry {
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
    fn a_window_takes_its_space_when_it_is_opened() {
        let fs = MemoryFileSystem::new();
        let file = fs.create_new(Path::new("a")).unwrap();
        file.set_len(100_000).unwrap();
        fs.set_capacity(50_000);
        let written_end = WrittenEnd::new(0);
        let refused = file.map_tail(0, 100_000, &written_end);
        assert_eq!(error_kind(refused), Some(ErrorKind::StorageFull));
        fs.set_capacity(100_000);
        let mut window = file.map_tail(0, 100_000, &written_end).unwrap();
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
        let fs = fs.with_tail_writes(TailWrites::Mapped);
        assert_eq!(fs.tail_writes(Path::new("")), TailWrites::Mapped);
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
