//! The names of a file system that lives in memory: which path leads to which file. What a file is,
//! its owner says.
//!
//! Relative paths start at a root that always exists, as does `/`. `..` is not understood.

use std::collections::BTreeMap;
use std::io;
use std::ops::Bound;
use std::path::{Component, Path, PathBuf};

use super::Kind;

/// A tree of names.
#[derive(Debug, Clone)]
pub(super) struct Tree<F>(BTreeMap<PathBuf, Node<F>>);

/// What a name leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Node<F> {
    File(F),
    Directory,
}

/// The path as a tree knows it: without `.`, repeated and trailing separators.
pub(super) fn normalized(path: &Path) -> io::Result<PathBuf> {
    if path.components().any(|component| component == Component::ParentDir) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "`..` is not understood here"));
    }
    Ok(path.components().filter(|component| *component != Component::CurDir).collect())
}

/// All paths are normalized.
impl<F: Clone> Tree<F> {
    /// The two roots and nothing in them.
    pub(super) fn new() -> Self {
        Self([PathBuf::new(), PathBuf::from("/")].map(|root| (root, Node::Directory)).into())
    }

    pub(super) fn find(&self, path: &Path) -> io::Result<&Node<F>> {
        match self.0.get(path) {
            Some(node) => Ok(node),
            None => self.check_parent(path).and(Err(io::ErrorKind::NotFound.into())),
        }
    }

    /// The file of that name.
    pub(super) fn file(&self, path: &Path) -> io::Result<&F> {
        match self.find(path)? {
            Node::File(file) => Ok(file),
            Node::Directory => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    pub(super) fn kind(&self, path: &Path) -> io::Result<Option<Kind>> {
        match self.find(path) {
            Ok(Node::File(_)) => Ok(Some(Kind::File)),
            Ok(Node::Directory) => Ok(Some(Kind::Directory)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) fn check_directory(&self, path: &Path) -> io::Result<()> {
        match self.find(path)? {
            Node::Directory => Ok(()),
            Node::File(_) => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    /// Fails if something cannot be created there because there is no directory to hold it.
    fn check_parent(&self, path: &Path) -> io::Result<()> {
        path.parent().map_or(Ok(()), |parent| self.check_directory(parent))
    }

    /// Fails if something cannot be created there.
    pub(super) fn check_free(&self, path: &Path) -> io::Result<()> {
        if self.0.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.check_parent(path)
    }

    /// Fails if what is at `from` must not take the place of what is, or is not, at `to`.
    pub(super) fn check_rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let node = self.find(from)?;
        self.check_parent(to)?;
        if from == to {
            return Ok(());
        }
        if from.parent().is_none() || to.parent().is_none() {
            // A root stays where it is.
            return Err(io::ErrorKind::ResourceBusy.into());
        }
        match (node, self.0.get(to)) {
            (Node::Directory, _) if to.starts_with(from) => Err(io::ErrorKind::InvalidInput.into()),
            (Node::Directory, Some(Node::File(_))) => Err(io::ErrorKind::NotADirectory.into()),
            (Node::Directory, Some(Node::Directory)) => self.check_empty(to),
            (Node::File(_), Some(Node::Directory)) => Err(io::ErrorKind::IsADirectory.into()),
            (Node::File(_), Some(Node::File(_))) | (_, None) => Ok(()),
        }
    }

    /// Fails if there is no directory that could be removed.
    pub(super) fn check_removable_directory(&self, path: &Path) -> io::Result<()> {
        self.check_directory(path)?;
        self.check_empty(path)?;
        if path.parent().is_none() {
            return Err(io::ErrorKind::ResourceBusy.into());
        }
        Ok(())
    }

    fn check_empty(&self, directory: &Path) -> io::Result<()> {
        match self.below(directory).next() {
            Some(_) => Err(io::ErrorKind::DirectoryNotEmpty.into()),
            None => Ok(()),
        }
    }

    /// All that lies below a directory, at any depth. Paths are ordered by component, so it lies
    /// together, right behind the directory itself.
    fn below<'a>(
        &'a self,
        directory: &'a Path,
    ) -> impl Iterator<Item = (&'a PathBuf, &'a Node<F>)> {
        self.0
            .range::<Path, _>((Bound::Excluded(directory), Bound::Unbounded))
            .take_while(move |(path, _)| path.starts_with(directory))
    }

    /// What lies in a directory.
    pub(super) fn children<'a>(
        &'a self,
        directory: &'a Path,
    ) -> impl Iterator<Item = (&'a PathBuf, &'a Node<F>)> {
        self.below(directory).filter(move |(path, _)| path.parent() == Some(directory))
    }

    /// Every file and its path.
    pub(super) fn files(&self) -> impl Iterator<Item = (&PathBuf, &F)> {
        self.0.iter().filter_map(|(path, node)| match node {
            Node::File(file) => Some((path, file)),
            Node::Directory => None,
        })
    }

    /// Gives something a name, in the place of what had it. Unchecked, as the next two.
    pub(super) fn insert(&mut self, path: PathBuf, node: Node<F>) {
        self.0.insert(path, node);
    }

    pub(super) fn remove(&mut self, path: &Path) {
        self.0.remove(path);
    }

    /// Moves what has a name, with all that is in it. Nothing may have it.
    pub(super) fn rename(&mut self, from: &Path, to: &Path) {
        if from == to {
            return;
        }
        let Some(node) = self.0.remove(from) else { return };
        let inside: Vec<_> = self.below(from).map(|(path, _)| path.clone()).collect();
        for path in inside {
            if let (Some(node), Ok(rest)) = (self.0.remove(&path), path.strip_prefix(from)) {
                self.0.insert(to.join(rest), node);
            }
        }
        self.0.insert(to.to_owned(), node);
    }

    /// Takes away a name, and all that is in it.
    #[cfg(any(test, feature = "sim"))]
    pub(super) fn remove_all(&mut self, path: &Path) {
        self.0.retain(|name, _| !name.starts_with(path));
    }
}
