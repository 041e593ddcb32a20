//! A simulated disk: files in memory that remember what of them is durable, and calls that fail when
//! they are told to. Feature `sim`.
//!
//! [`SimulatedDisk`] stands in for the operating system under a whole broker. A hook sees every call
//! before it happens and decides what becomes of it; and at any moment the disk can show what a power
//! cut would leave ([`platter`]). Everything is decided by the caller or by a seed, so that a run can
//! be repeated.

mod file;
mod platter;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use self::file::{Descriptor, SimulatedFile, SimulatedLock};
pub use self::platter::PowerLoss;
#[cfg(test)]
pub(crate) use self::platter::Random;
use self::platter::{Inode, Names, after_power_loss};
use super::tree::{Node, normalized};
use super::{Access, Entry, File, FileSystem, Kind, Lock, TailWrites};

/// A disk in memory that fails on demand and loses power, for tests of whatever stands on a broker.
///
/// A handle: clones are the same disk. Open a broker on it with
/// [`BrokerBuilder::simulated`](crate::BrokerBuilder::simulated). To kill the process that uses it,
/// drop the broker without closing it: what was written stays, synced or not. To cut the power, go on
/// with what [`power_loss`](Self::power_loss) returns.
///
/// ```
/// use sapwood::{BrokerBuilder, PowerLoss, Record, SimulatedDisk, TopicConfig};
///
/// let disk = SimulatedDisk::new();
/// let broker = BrokerBuilder::simulated(&disk).open()?;
/// let orders = broker.create_topic("orders", TopicConfig::default())?;
/// orders.partition(0)?.append(&[Record::new("paid")])?;
///
/// // The power goes at this moment, and takes with it whatever it can.
/// for seed in 0..20 {
///     let disk = disk.power_loss(PowerLoss::Random(seed));
///     let broker = BrokerBuilder::simulated(&disk).open()?;
///     assert_eq!(broker.topic("orders")?.partition(0)?.log_end_offset(), 1);
/// }
/// # Ok::<(), sapwood::Error>(())
/// ```
#[derive(Clone)]
pub struct SimulatedDisk {
    state: Arc<Mutex<State>>,
    hook: Arc<Mutex<Option<Hook>>>,
    open_files: Arc<AtomicUsize>,
}

/// Tests append little: so some of it takes either way.
const MAPPED: TailWrites = TailWrites::Mapped { below: 400 };

type Hook = Arc<dyn Fn(&DiskCall<'_>) -> Verdict + Send + Sync>;

/// A call to a [`SimulatedDisk`] that is about to happen.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct DiskCall<'a> {
    /// Counts the calls that change something, from 0. A call that changes nothing has the number of
    /// the next one that does.
    pub number: u64,
    /// What is called.
    pub kind: DiskCallKind,
    /// What it is called for; the new name of a rename or a link. A file goes by the name it was opened with.
    pub path: &'a Path,
}

/// What can be asked of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the names are those of the system calls")]
pub enum DiskCallKind {
    Open,
    Create,
    List,
    LookUp,
    CreateDirectory,
    Rename,
    HardLink,
    RemoveFile,
    RemoveDirectory,
    SyncDirectory,
    Lock,
    Len,
    Read,
    Write,
    /// A store into a mapped window: no system call. It cannot fail, only be the last thing before
    /// which everything stops.
    Store,
    SetLen,
    Sync,
    Map,
    MapTail,
}

impl DiskCallKind {
    /// Whether the disk is another one after the call.
    pub fn is_change(self) -> bool {
        use DiskCallKind::{Len, List, Lock, LookUp, Map, MapTail, Open, Read};
        !matches!(self, Open | List | LookUp | Lock | Len | Read | Map | MapTail)
    }
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Verdict {
    /// It happens.
    #[default]
    Proceeds,
    /// It fails with this error number (`EIO` is 5, `ENOSPC` 28, `EMFILE` 24), and nothing happens. A
    /// sync that fails has lost what it was for; later ones succeed without it.
    Fails(i32),
    /// A write puts this many of its bytes into the file and fails with this error number; anything
    /// else just fails.
    FailsAfter(usize, i32),
    /// The process ends here: it does not happen, and neither does anything after it, until the disk
    /// is [revived](SimulatedDisk::revive).
    Stops,
}

/// A snapshot is a clone: bytes are shared until one of them changes.
#[derive(Debug, Clone)]
struct State {
    names: Names,
    inodes: Vec<Inode>,
    /// Inodes of files whose lock is held.
    locked: BTreeSet<usize>,
    tail_writes: TailWrites,
    /// How many calls there were that changed something.
    calls: u64,
    stopped: bool,
    capacity: Option<u64>,
    sync_delay: Duration,
}

impl Default for SimulatedDisk {
    fn default() -> Self {
        Self::new()
    }
}

impl SimulatedDisk {
    /// An empty disk on which everything succeeds.
    pub fn new() -> Self {
        Self::with(State {
            names: Names::new(),
            inodes: Vec::new(),
            locked: BTreeSet::new(),
            tail_writes: MAPPED,
            calls: 0,
            stopped: false,
            capacity: None,
            sync_delay: Duration::ZERO,
        })
    }

    fn with(state: State) -> Self {
        let open_files = Arc::default();
        Self { state: Arc::new(Mutex::new(state)), hook: Arc::default(), open_files }
    }

    /// How many files are open. Locks are not counted.
    pub fn open_files(&self) -> usize {
        self.open_files.load(Ordering::Relaxed)
    }

    /// How many calls there were that changed something.
    pub fn calls(&self) -> u64 {
        self.state.lock().calls
    }

    /// Asks `hook` before every call what becomes of it. Replaces the one before.
    ///
    /// The disk is not locked meanwhile, so the hook may use it, take snapshots, or use the broker on
    /// it: a call within a call. A sync answers for what was written before it was asked about.
    pub fn on_call(&self, hook: impl Fn(&DiskCall<'_>) -> Verdict + Send + Sync + 'static) {
        *self.hook.lock() = Some(Arc::new(hook));
    }

    /// Lets everything succeed again.
    pub fn revive(&self) {
        *self.hook.lock() = None;
        self.state.lock().stopped = false;
    }

    /// Fails the `n`-th call from now on that changes something, counted from 0, once.
    pub fn fail_call(&self, n: u64, verdict: Verdict) {
        let number = self.calls() + n;
        self.on_call(move |call| {
            let hit = call.number == number && call.kind.is_change();
            if hit { verdict } else { Verdict::Proceeds }
        });
    }

    /// Limits what all files together may hold, in bytes. Less than is in use is allowed: then nothing
    /// more can be written until something was removed. `None`, the default, is without limit.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state.lock().capacity = bytes;
    }

    /// Bytes of all files that have a name.
    pub fn used(&self) -> u64 {
        self.state.lock().used()
    }

    /// How long each sync of a file takes. Default: no time.
    pub fn set_sync_delay(&self, delay: Duration) {
        self.state.lock().sync_delay = delay;
    }

    /// Whether tails of segments are stored into mapped windows (the default), as on ext4 and xfs, or
    /// written by position, as on file systems that are not known.
    pub fn set_mapped_tails(&self, mapped: bool) {
        let tail_writes = if mapped { MAPPED } else { TailWrites::Positioned };
        self.state.lock().tail_writes = tail_writes;
    }

    /// Another disk in the same state, what is not synced included. It knows of no lock: whoever used
    /// this one does not use that one.
    #[must_use]
    pub fn snapshot(&self) -> Self {
        Self::with(State { locked: BTreeSet::new(), stopped: false, ..self.state.lock().clone() })
    }

    /// The disk as it is found after a power cut at this moment. This one stays as it is.
    #[must_use]
    pub fn power_loss(&self, loss: PowerLoss) -> Self {
        let found = self.snapshot();
        {
            let state = &mut *found.state.lock();
            (state.names, state.inodes) = after_power_loss(&state.names, &state.inodes, loss);
        }
        found
    }

    /// All files as a program reads them, by path.
    pub fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let state = self.state.lock();
        let file =
            |(path, inode): (&PathBuf, &usize)| (path.clone(), state.inode(*inode).live.to_vec());
        state.names.live().files().map(file).collect()
    }

    /// Puts these bytes in the place of a file's, durably, as a failing disk or a person might. The
    /// file is made if it is not there; its directory must be.
    pub fn damage(&self, path: impl AsRef<Path>, bytes: Vec<u8>) {
        let state = &mut *self.state.lock();
        let path = path.as_ref();
        state.inodes.push(Inode::on_platter(bytes));
        state.names.add_file(path.to_owned(), state.inodes.len() - 1);
        state.names.sync(path.parent().unwrap_or(path));
    }

    /// Takes a file away, durably.
    pub fn lose(&self, path: impl AsRef<Path>) {
        let state = &mut *self.state.lock();
        let path = path.as_ref();
        state.names.remove(path.to_owned());
        state.names.sync(path.parent().unwrap_or(path));
    }

    /// Asks what becomes of a call. `Ok` carries the call's number.
    fn ask(&self, kind: DiskCallKind, path: &Path) -> Result<u64, Refusal> {
        let number = {
            let mut state = self.state.lock();
            if state.stopped {
                return Err(Refusal::stopped());
            }
            let number = state.calls;
            state.calls += u64::from(kind.is_change());
            number
        };
        let hook = self.hook.lock().clone();
        let verdict = hook.map_or(Verdict::Proceeds, |hook| hook(&DiskCall { number, kind, path }));
        match verdict {
            Verdict::Proceeds => Ok(number),
            Verdict::Fails(error) => Err(Refusal::of(0, error)),
            Verdict::FailsAfter(written, error) => Err(Refusal::of(written, error)),
            Verdict::Stops => {
                self.state.lock().stopped = true;
                Err(Refusal::stopped())
            }
        }
    }
}

impl fmt::Debug for SimulatedDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimulatedDisk").field("calls", &self.calls()).finish_non_exhaustive()
    }
}

/// Why a call does not happen.
#[derive(Debug)]
struct Refusal {
    /// How many bytes of a write happen all the same.
    written: usize,
    /// Nothing happens any more; a sync has not failed, it was never begun.
    stopped: bool,
    error: io::Error,
}

impl Refusal {
    fn of(written: usize, error: i32) -> Self {
        Self { written, stopped: false, error: io::Error::from_raw_os_error(error) }
    }

    fn stopped() -> Self {
        let error = io::Error::other("the simulated disk has stopped");
        Self { written: 0, stopped: true, error }
    }
}

impl From<Refusal> for io::Error {
    fn from(refusal: Refusal) -> Self {
        refusal.error
    }
}

impl State {
    fn inode(&self, number: usize) -> &Inode {
        self.inodes.get(number).expect("inodes are never taken away")
    }

    fn inode_mut(&mut self, number: usize) -> &mut Inode {
        self.inodes.get_mut(number).expect("inodes are never taken away")
    }

    fn used(&self) -> u64 {
        let named: BTreeSet<_> = self.names.live().files().map(|(_, inode)| *inode).collect();
        named.into_iter().map(|inode| self.inode(inode).live.len() as u64).sum()
    }

    /// How many more bytes there is room for.
    fn room(&self) -> u64 {
        self.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(self.used()))
    }

    /// The normalized path, if something can be created there.
    fn free_name(&self, path: &Path) -> io::Result<PathBuf> {
        let path = normalized(path)?;
        self.names.live().check_free(&path)?;
        if self.room() == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(path)
    }

    fn add_file(&mut self, path: PathBuf) -> usize {
        self.inodes.push(Inode::default());
        let number = self.inodes.len() - 1;
        self.names.add_file(path, number);
        number
    }
}

impl FileSystem for SimulatedDisk {
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>> {
        self.ask(DiskCallKind::Open, path)?;
        let inode = *self.state.lock().names.live().file(&normalized(path)?)?;
        Ok(self.file(inode, path, access))
    }

    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.ask(DiskCallKind::Create, path)?;
        let mut state = self.state.lock();
        let name = state.free_name(path)?;
        let inode = state.add_file(name);
        Ok(self.file(inode, path, Access::ReadWrite))
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<Entry>> {
        self.ask(DiskCallKind::List, directory)?;
        let state = self.state.lock();
        let directory = normalized(directory)?;
        state.names.live().check_directory(&directory)?;
        let entry = |(path, node): (&PathBuf, &Node<usize>)| {
            let name = path.file_name().map(OsStr::to_owned).unwrap_or_default();
            match node {
                Node::Directory => Entry { name, kind: Kind::Directory, len: 0 },
                Node::File(inode) => {
                    let len = state.inode(*inode).live.len() as u64;
                    Entry { name, kind: Kind::File, len }
                }
            }
        };
        Ok(state.names.live().children(&directory).map(entry).collect())
    }

    fn kind(&self, path: &Path) -> io::Result<Option<Kind>> {
        self.ask(DiskCallKind::LookUp, path)?;
        self.state.lock().names.live().kind(&normalized(path)?)
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        self.ask(DiskCallKind::CreateDirectory, path)?;
        let mut state = self.state.lock();
        let name = state.free_name(path)?;
        state.names.add_directory(name);
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.ask(DiskCallKind::Rename, to)?;
        let (from, to) = (normalized(from)?, normalized(to)?);
        let mut state = self.state.lock();
        state.names.live().check_rename(&from, &to)?;
        state.names.rename(from, to)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.ask(DiskCallKind::HardLink, to)?;
        let mut state = self.state.lock();
        let inode = *state.names.live().file(&normalized(from)?)?;
        let name = state.free_name(to)?;
        state.names.add_file(name, inode);
        Ok(())
    }

    fn name_count(&self, path: &Path) -> io::Result<u64> {
        self.ask(DiskCallKind::LookUp, path)?;
        let state = self.state.lock();
        let inode = state.names.live().file(&normalized(path)?)?;
        Ok(state.names.live().files().filter(|(_, file)| *file == inode).count() as u64)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.ask(DiskCallKind::RemoveFile, path)?;
        let path = normalized(path)?;
        let mut state = self.state.lock();
        state.names.live().file(&path)?;
        state.names.remove(path);
        Ok(())
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        self.ask(DiskCallKind::RemoveDirectory, path)?;
        let path = normalized(path)?;
        let mut state = self.state.lock();
        state.names.live().check_removable_directory(&path)?;
        state.names.remove(path);
        Ok(())
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        self.ask(DiskCallKind::SyncDirectory, path)?;
        let path = normalized(path)?;
        let mut state = self.state.lock();
        state.names.live().check_directory(&path)?;
        state.names.sync(&path);
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        self.ask(DiskCallKind::Lock, path)?;
        let path = normalized(path)?;
        let mut state = self.state.lock();
        let inode = match state.names.live().file(&path) {
            Ok(inode) => *inode,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                state.names.live().check_free(&path)?;
                state.add_file(path)
            }
            Err(error) => return Err(error),
        };
        if !state.locked.insert(inode) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(SimulatedLock { disk: self.clone(), inode }))
    }

    fn open_files_max(&self) -> usize {
        usize::MAX
    }

    fn tail_writes(&self, _directory: &Path) -> TailWrites {
        self.state.lock().tail_writes
    }
}

impl SimulatedDisk {
    fn file(&self, inode: usize, path: &Path, access: Access) -> Arc<dyn File> {
        let (disk, path) = (self.clone(), path.to_owned());
        let descriptor = Some(Descriptor::new(&self.open_files));
        Arc::new(SimulatedFile { disk, inode, path, access, _descriptor: descriptor })
    }
}
