//! A file system that remembers what was synced, and shows what a power cut would leave.
//!
//! Files live in memory. Of what was not synced, each 512-byte sector comes back new, old or as
//! zeros, a length old or new, and of the names made or changed a part, in order, as journals keep
//! them. This is the disk of the contract's first section.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::fs::map::{MappedFile, WrittenEnd};
use crate::fs::memory::MemoryFileSystem;
use crate::fs::{Access, Entry, File, FileSystem, Kind, Lock, TailWindow, TailWrites};

const SECTOR: usize = 512;

/// Numbers that look random and repeat with their seed.
#[derive(Debug, Clone)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Less than `end`.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % end.max(1)
    }

    pub(super) fn one_in(&mut self, chances: u64) -> bool {
        self.below(chances) == 0
    }
}

/// Clones share everything.
#[derive(Debug, Clone)]
pub(super) struct PowerLossFileSystem {
    live: MemoryFileSystem,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    inodes: Vec<Inode>,
    /// What each name leads to now.
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    unsynced_names: Vec<Change>,
    /// How many more calls that change something succeed; then the power is gone.
    calls_left: Option<u64>,
    /// Lets the sync fail that comes after so many others.
    syncs_left: Option<u64>,
}

#[derive(Debug)]
struct Inode {
    file: Arc<dyn File>,
    durable: Vec<u8>,
    /// A sync has failed: these sectors can no longer be made durable, not even by writing them
    /// again, although later syncs succeed. Cutting them off makes the file a good one again.
    lost: BTreeSet<usize>,
}

#[derive(Debug, Clone)]
enum Change {
    Create(PathBuf, usize),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
}

impl Change {
    fn apply(&self, names: &mut BTreeMap<PathBuf, usize>) {
        match self {
            Change::Create(path, inode) => drop(names.insert(path.clone(), *inode)),
            Change::Rename(from, to) => {
                if let Some(inode) = names.remove(from) {
                    names.insert(to.clone(), inode);
                }
            }
            Change::Remove(path) => drop(names.remove(path)),
        }
    }
}

impl PowerLossFileSystem {
    /// A tree with one empty directory.
    pub(super) fn new(directory: &Path, tail_writes: TailWrites) -> Self {
        let live = MemoryFileSystem::new().with_tail_writes(tail_writes);
        live.create_directory(directory).unwrap();
        Self { live, state: Arc::default() }
    }

    /// Lets so many calls that change something through; all later ones fail.
    pub(super) fn cut_power_after(&self, calls: u64) {
        self.state.lock().calls_left = Some(calls);
    }

    /// Lets the sync fail that comes after so many others.
    pub(super) fn fail_sync_after(&self, syncs: u64) {
        self.state.lock().syncs_left = Some(syncs);
    }

    pub(super) fn has_power(&self) -> bool {
        self.state.lock().calls_left != Some(0)
    }

    /// What is found when the power comes back.
    pub(super) fn after_power_loss(
        &self,
        directory: &Path,
        tail_writes: TailWrites,
        random: &mut Random,
    ) -> Self {
        let image = Self::new(directory, tail_writes);
        let state = self.state.lock();
        let mut names = state.durable_names.clone();
        let kept = random.below(state.unsynced_names.len() as u64 + 1);
        for change in state.unsynced_names.iter().take(usize::try_from(kept).unwrap()) {
            change.apply(&mut names);
        }
        for (path, inode) in names {
            let bytes = state.inodes[inode].after_power_loss(random);
            image.create_new(&path).unwrap().write_all_at(&bytes, 0).unwrap();
            image.open(&path, Access::Read).unwrap().sync_data().unwrap();
        }
        image.sync_directory(directory).unwrap();
        image
    }

    fn ask(&self) -> io::Result<()> {
        match &mut self.state.lock().calls_left {
            Some(0) => Err(io::Error::other("the power is gone")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn change(&self, change: Change) {
        let mut state = self.state.lock();
        change.apply(&mut state.names);
        state.unsynced_names.push(change);
    }
}

impl Inode {
    fn content(&self) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(self.file.len().unwrap()).unwrap()];
        self.file.read_at(&mut bytes, 0).unwrap();
        bytes
    }

    fn sync(&mut self) {
        self.durable = self.durable_at_best();
    }

    /// What a sync can make durable.
    fn durable_at_best(&self) -> Vec<u8> {
        let mut bytes = self.content();
        for number in &self.lost {
            let range = number * SECTOR..bytes.len().min((number + 1) * SECTOR);
            if let Some(sector) = bytes.get_mut(range.clone()) {
                let old = self.durable.get(range.start..).unwrap_or_default();
                sector.fill(0);
                sector.iter_mut().zip(old).for_each(|(byte, old)| *byte = *old);
            }
        }
        bytes
    }

    fn fail_sync(&mut self) {
        let content = self.content();
        for (number, sector) in content.chunks(SECTOR).enumerate() {
            let old = self.durable.get(number * SECTOR..).unwrap_or_default();
            if !old.starts_with(sector) {
                self.lost.insert(number);
            }
        }
    }

    fn after_power_loss(&self, random: &mut Random) -> Vec<u8> {
        let new = self.durable_at_best();
        let len = if random.one_in(2) { self.durable.len() } else { new.len() };
        // Now and then the system had written nearly everything back, or nearly nothing.
        let mood = random.below(4);
        let mut bytes = Vec::with_capacity(len);
        for at in (0..len).step_by(SECTOR) {
            let end = len.min(at + SECTOR);
            let sector = |of: &[u8]| {
                let mut sector = of.get(at..end.min(of.len())).unwrap_or_default().to_vec();
                sector.resize(end - at, 0);
                sector
            };
            let (old, new) = (sector(&self.durable), sector(&new));
            bytes.extend(match (old == new, mood, random.below(8)) {
                (true, _, _) | (_, 0, 1..) | (_, 1..=2, 0..3) => old,
                (_, 3, 1..) | (_, 1..=2, 3..7) => new,
                _ if at >= self.durable.len() => vec![0; end - at],
                _ => old,
            });
        }
        bytes
    }
}

impl FileSystem for PowerLossFileSystem {
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>> {
        let below = self.live.open(path, access)?;
        let inode = self.state.lock().names[path];
        Ok(Arc::new(PowerLossFile { below, inode, fs: self.clone() }))
    }

    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.ask()?;
        let below = self.live.create_new(path)?;
        let inode = {
            let mut state = self.state.lock();
            state.inodes.push(Inode {
                file: Arc::clone(&below),
                durable: Vec::new(),
                lost: BTreeSet::new(),
            });
            state.inodes.len() - 1
        };
        self.change(Change::Create(path.to_owned(), inode));
        Ok(Arc::new(PowerLossFile { below, inode, fs: self.clone() }))
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<Entry>> {
        self.live.list(directory)
    }

    fn kind(&self, path: &Path) -> io::Result<Option<Kind>> {
        self.live.kind(path)
    }

    fn create_directory(&self, _: &Path) -> io::Result<()> {
        unreachable!("a log makes no directories")
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.ask()?;
        self.live.rename(from, to)?;
        self.change(Change::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.ask()?;
        self.live.remove_file(path)?;
        self.change(Change::Remove(path.to_owned()));
        Ok(())
    }

    fn remove_directory(&self, _: &Path) -> io::Result<()> {
        unreachable!("a log removes no directories")
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        self.ask()?;
        self.live.sync_directory(path)?;
        let mut state = self.state.lock();
        state.durable_names = state.names.clone();
        state.unsynced_names.clear();
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        self.live.lock(path)
    }

    fn tail_writes(&self, directory: &Path) -> TailWrites {
        self.live.tail_writes(directory)
    }
}

#[derive(Debug)]
struct PowerLossFile {
    below: Arc<dyn File>,
    inode: usize,
    fs: PowerLossFileSystem,
}

impl File for PowerLossFile {
    fn len(&self) -> io::Result<u64> {
        self.below.len()
    }

    fn read_at(&self, buffer: &mut [u8], file_position: u64) -> io::Result<usize> {
        self.below.read_at(buffer, file_position)
    }

    fn write_all_at(&self, bytes: &[u8], file_position: u64) -> io::Result<()> {
        self.fs.ask()?;
        self.below.write_all_at(bytes, file_position)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.fs.ask()?;
        let inode = &mut self.fs.state.lock().inodes[self.inode];
        inode.lost.retain(|number| ((number + 1) * SECTOR) as u64 <= len);
        self.below.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.fs.ask()?;
        let state = &mut *self.fs.state.lock();
        let inode = &mut state.inodes[self.inode];
        match state.syncs_left {
            Some(0) => {
                state.syncs_left = None;
                inode.fail_sync();
                return Err(io::Error::from_raw_os_error(5));
            }
            Some(left) => state.syncs_left = Some(left - 1),
            None => {}
        }
        inode.sync();
        Ok(())
    }

    fn map(&self, len: usize, written_end: &WrittenEnd) -> io::Result<Option<MappedFile>> {
        self.below.map(len, written_end)
    }

    fn map_tail(
        &self,
        file_position: u64,
        len: usize,
        written_end: &WrittenEnd,
    ) -> io::Result<Box<dyn TailWindow>> {
        self.below.map_tail(file_position, len, written_end)
    }
}
