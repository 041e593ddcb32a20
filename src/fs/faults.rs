//! A file system that fails on demand, laid over any other. For tests alone.
//!
//! It stands between the code under test and a real implementation, so neither of them knows of it
//! and what production runs is what the tests ran.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::map::{MappedFile, WrittenEnd};
use super::memory::MemoryFileSystem;
use super::{Access, Entry, File, FileSystem, Kind, Lock, TailWindow, TailWrites};

/// A call that can be counted and made to fail. Stores into a window are no calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Operation {
    Open,
    CreateNew,
    List,
    Kind,
    CreateDirectory,
    /// Asked with the new path.
    Rename,
    /// Asked with the new path.
    HardLink,
    RemoveFile,
    RemoveDirectory,
    SyncDirectory,
    Lock,
    Len,
    Read,
    Write,
    SetLen,
    SyncData,
    Map,
    MapTail,
}

type Hook = Box<dyn FnMut(Operation, &Path) -> Option<io::Error> + Send>;

/// Passes every call on to the file system below it, unless told to fail it. Clones share their
/// faults and counts. A call that fails is counted, and does nothing.
///
/// A file is known by the path it was opened with, also after a rename.
#[derive(Debug, Clone)]
pub(crate) struct FailingFileSystem {
    below: Arc<dyn FileSystem>,
    faults: Arc<Mutex<Faults>>,
}

#[derive(Default)]
struct Faults {
    planned: Vec<Fault>,
    hook: Option<Hook>,
    calls: BTreeMap<Operation, u64>,
}

struct Fault {
    operation: Operation,
    path_suffix: String,
    /// How many bytes a failing write leaves in the file.
    written: usize,
    error: io::Error,
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faults").field("calls", &self.calls).finish_non_exhaustive()
    }
}

impl FailingFileSystem {
    pub(crate) fn over(below: impl FileSystem + 'static) -> Self {
        Self { below: Arc::new(below), faults: Arc::default() }
    }

    pub(crate) fn over_memory() -> Self {
        Self::over(MemoryFileSystem::new())
    }

    /// Fails the next such call on a path that ends in this text, once. `error` is an
    /// `io::ErrorKind` or an `io::Error`.
    pub(crate) fn fail_next(
        &self,
        operation: Operation,
        path_suffix: &str,
        error: impl Into<io::Error>,
    ) {
        self.plan(operation, path_suffix, 0, error.into());
    }

    /// Fails the next write to a path that ends in this text, once, but lets its first `written`
    /// bytes through.
    pub(crate) fn fail_next_write_after(
        &self,
        written: usize,
        path_suffix: &str,
        error: impl Into<io::Error>,
    ) {
        self.plan(Operation::Write, path_suffix, written, error.into());
    }

    fn plan(&self, operation: Operation, path_suffix: &str, written: usize, error: io::Error) {
        let path_suffix = path_suffix.to_owned();
        self.faults.lock().planned.push(Fault { operation, path_suffix, written, error });
    }

    /// Asks this before each call; the call fails with what it returns. Replaces the last one. It
    /// runs while the faults are locked, so it must not use this file system itself.
    pub(crate) fn fail_when(
        &self,
        hook: impl FnMut(Operation, &Path) -> Option<io::Error> + Send + 'static,
    ) {
        self.faults.lock().hook = Some(Box::new(hook));
    }

    /// Forgets every fault that has not happened yet. The counts go on.
    pub(crate) fn heal(&self) {
        let mut faults = self.faults.lock();
        faults.planned.clear();
        faults.hook = None;
    }

    /// How many such calls there were, failed ones included.
    pub(crate) fn calls(&self, operation: Operation) -> u64 {
        self.faults.lock().calls.get(&operation).copied().unwrap_or(0)
    }

    fn wrap(&self, file: Arc<dyn File>, path: &Path) -> Arc<dyn File> {
        let faults = Arc::clone(&self.faults);
        Arc::new(FailingFile { below: file, path: path.to_owned(), faults })
    }

    fn ask(&self, operation: Operation, path: &Path) -> io::Result<()> {
        ask(&self.faults, operation, path).map_err(|fault| fault.error)
    }
}

/// Counts a call and says whether it has to fail.
fn ask(faults: &Mutex<Faults>, operation: Operation, path: &Path) -> Result<(), Fault> {
    let mut faults = faults.lock();
    *faults.calls.entry(operation).or_default() += 1;
    let text = path.to_string_lossy();
    let planned = faults
        .planned
        .iter()
        .position(|fault| fault.operation == operation && text.ends_with(&fault.path_suffix));
    if let Some(index) = planned {
        return Err(faults.planned.remove(index));
    }
    match faults.hook.as_mut().and_then(|hook| hook(operation, path)) {
        Some(error) => Err(Fault { operation, path_suffix: text.into_owned(), written: 0, error }),
        None => Ok(()),
    }
}

impl FileSystem for FailingFileSystem {
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>> {
        self.ask(Operation::Open, path)?;
        Ok(self.wrap(self.below.open(path, access)?, path))
    }

    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.ask(Operation::CreateNew, path)?;
        Ok(self.wrap(self.below.create_new(path)?, path))
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<Entry>> {
        self.ask(Operation::List, directory)?;
        self.below.list(directory)
    }

    fn kind(&self, path: &Path) -> io::Result<Option<Kind>> {
        self.ask(Operation::Kind, path)?;
        self.below.kind(path)
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        self.ask(Operation::CreateDirectory, path)?;
        self.below.create_directory(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.ask(Operation::Rename, to)?;
        self.below.rename(from, to)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.ask(Operation::HardLink, to)?;
        self.below.hard_link(from, to)
    }

    fn name_count(&self, path: &Path) -> io::Result<u64> {
        self.ask(Operation::Kind, path)?;
        self.below.name_count(path)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.ask(Operation::RemoveFile, path)?;
        self.below.remove_file(path)
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        self.ask(Operation::RemoveDirectory, path)?;
        self.below.remove_directory(path)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        self.ask(Operation::SyncDirectory, path)?;
        self.below.sync_directory(path)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        self.ask(Operation::Lock, path)?;
        self.below.lock(path)
    }

    fn open_files_max(&self) -> usize {
        self.below.open_files_max()
    }

    fn tail_writes(&self, directory: &Path) -> TailWrites {
        self.below.tail_writes(directory)
    }
}

#[derive(Debug)]
struct FailingFile {
    below: Arc<dyn File>,
    path: PathBuf,
    faults: Arc<Mutex<Faults>>,
}

impl FailingFile {
    fn ask(&self, operation: Operation) -> io::Result<()> {
        ask(&self.faults, operation, &self.path).map_err(|fault| fault.error)
    }
}

impl File for FailingFile {
    fn len(&self) -> io::Result<u64> {
        self.ask(Operation::Len)?;
        self.below.len()
    }

    fn read_at(&self, buffer: &mut [u8], file_position: u64) -> io::Result<usize> {
        self.ask(Operation::Read)?;
        self.below.read_at(buffer, file_position)
    }

    fn write_all_at(&self, bytes: &[u8], file_position: u64) -> io::Result<()> {
        if let Err(fault) = ask(&self.faults, Operation::Write, &self.path) {
            let written = bytes.get(..fault.written).unwrap_or(bytes);
            self.below.write_all_at(written, file_position)?;
            return Err(fault.error);
        }
        self.below.write_all_at(bytes, file_position)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.ask(Operation::SetLen)?;
        self.below.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.ask(Operation::SyncData)?;
        self.below.sync_data()
    }

    fn map(&self, len: usize, written_end: &WrittenEnd) -> io::Result<Option<MappedFile>> {
        self.ask(Operation::Map)?;
        self.below.map(len, written_end)
    }

    fn map_tail(
        &self,
        file_position: u64,
        len: usize,
        written_end: &WrittenEnd,
    ) -> io::Result<Box<dyn TailWindow>> {
        self.ask(Operation::MapTail)?;
        self.below.map_tail(file_position, len, written_end)
    }
}
