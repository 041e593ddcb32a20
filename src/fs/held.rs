//! A file that need not stay open: [`HeldFile`].

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::{Access, File, FileSystem};

/// A file to be written, held open from its first use on until its owner lets go of it.
///
/// To be let go of only while everything written is synced. An error that the operating system
/// meets when it writes pages out by itself is told to those who have the file open; with nobody
/// there it could be forgotten together with the file, and the next sync would succeed over lost
/// data (contract, clause 9).
#[derive(Debug)]
pub(crate) struct HeldFile {
    fs: Arc<dyn FileSystem>,
    path: PathBuf,
    file: Option<Arc<dyn File>>,
}

impl HeldFile {
    /// A file that exists and is opened when it is needed.
    pub(crate) fn new(fs: Arc<dyn FileSystem>, path: PathBuf) -> Self {
        Self { fs, path, file: None }
    }

    /// Holds the file, which somebody has opened already.
    pub(crate) fn take(&mut self, file: Arc<dyn File>) {
        self.file = Some(file);
    }

    pub(crate) fn is_open(&self) -> bool {
        self.file.is_some()
    }

    /// The file, opened and held if it is not yet.
    pub(crate) fn hold(&mut self) -> io::Result<&Arc<dyn File>> {
        if self.file.is_none() {
            self.file = Some(self.fs.open(&self.path, Access::ReadWrite)?);
        }
        Ok(self.file.as_ref().expect("it was opened just above"))
    }

    /// The file, opened but not held if it is not yet.
    pub(crate) fn borrow(&self) -> io::Result<Arc<dyn File>> {
        match &self.file {
            Some(file) => Ok(Arc::clone(file)),
            None => self.fs.open(&self.path, Access::ReadWrite),
        }
    }

    /// Closes the file, as soon as nobody else uses it.
    pub(crate) fn let_go(&mut self) {
        self.file = None;
    }
}
