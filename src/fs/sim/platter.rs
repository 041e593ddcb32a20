//! What a power cut leaves: of one file, and of the names of a tree.
//!
//! The disk model of the reliability contract, section 1. A file has two faces: what a program reads,
//! and what is on the platter. A write changes the first, a sync brings the second up to it. When the
//! power goes, each unit (512 bytes or 4 KiB) that was written since is on the platter as it was, as
//! it is, as zeros or as garbage, whatever became of its neighbours; the length is old or new; and
//! each change of a name has happened or not.
//!
//! Two things a disk does not do. A unit in which bytes lie that were synced and not written since is
//! never zeros or garbage: a sector is written whole or not at all. And a rename is never half done.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::fs::tree::{Node, Tree};

/// The smallest unit that a disk writes whole.
const SECTOR: usize = 512;
/// What a page cache writes back at once.
const PAGE: usize = 4096;

/// Numbers that look random, and are the same for the same seed (xorshift64).
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        // Seeds that differ by little begin alike.
        for _ in 0..4 {
            random.next();
        }
        random
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 11
    }

    /// A number below `end`; 0 if that is 0.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    fn index(&mut self, end: usize) -> usize {
        usize::try_from(self.below(end as u64)).unwrap_or(0)
    }

    pub(crate) fn one_in(&mut self, chances: u64) -> bool {
        self.below(chances) == 0
    }
}

/// What becomes of everything that was not synced when the power goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PowerLoss {
    /// All of it is lost.
    LosesEverything,
    /// None of it is lost: the system had just written everything back. What a failed sync was for
    /// is lost all the same.
    LosesNothing,
    /// Each sector, each file's length and each name has a fate of its own, by this seed.
    Random(u64),
}

/// One file.
#[derive(Debug, Clone, Default)]
pub(super) struct Inode {
    /// What a program reads.
    pub(super) live: Arc<Vec<u8>>,
    /// What is on the platter for certain.
    platter: Arc<Vec<u8>>,
    /// What was written since it was last synced, oldest first.
    written: Vec<Written>,
    /// Sectors for which a sync has failed. The kernel holds them for clean, so nothing brings them
    /// to the platter any more, not even writing the same bytes again; cutting them off does away
    /// with them.
    lost: BTreeSet<usize>,
}

/// A stretch of a file that was written, and by which call.
#[derive(Debug, Clone)]
struct Written {
    call: u64,
    range: Range<usize>,
}

/// What a sync answers for: the bytes as they were when it began.
#[derive(Debug)]
pub(super) struct SyncBegun {
    call: u64,
    live: Arc<Vec<u8>>,
}

impl Inode {
    /// Stores bytes; the file grows if need be.
    pub(super) fn write(&mut self, bytes: &[u8], at: usize, call: u64) {
        let range = at..at + bytes.len();
        let live = Arc::make_mut(&mut self.live);
        if live.len() < range.end {
            live.resize(range.end, 0);
        }
        if let Some(target) = live.get_mut(range.clone()) {
            target.copy_from_slice(bytes);
        }
        self.written.push(Written { call, range });
    }

    pub(super) fn set_len(&mut self, len: usize) {
        Arc::make_mut(&mut self.live).resize(len, 0);
        self.lost.retain(|sector| (sector + 1) * SECTOR <= len);
    }

    pub(super) fn begin_sync(&self, call: u64) -> SyncBegun {
        SyncBegun { call, live: Arc::clone(&self.live) }
    }

    /// What was there when the sync began is on the platter now.
    pub(super) fn end_sync(&mut self, begun: &SyncBegun) {
        self.platter = if self.lost.is_empty() {
            Arc::clone(&begun.live)
        } else {
            Arc::new(self.without_lost(&begun.live))
        };
        self.written.retain(|written| written.call >= begun.call);
    }

    /// A sync has failed: what it was for is taken for clean, and never will be on the platter.
    pub(super) fn fail_sync(&mut self) {
        for (sector, bytes) in self.live.chunks(SECTOR).enumerate() {
            let on_platter = self.platter.get(sector * SECTOR..).unwrap_or_default();
            if !on_platter.starts_with(bytes) {
                self.lost.insert(sector);
            }
        }
    }

    /// The bytes, with those that are lost for good as they are on the platter.
    fn without_lost(&self, live: &[u8]) -> Vec<u8> {
        let mut bytes = live.to_vec();
        for sector in &self.lost {
            let range = sector * SECTOR..bytes.len().min((sector + 1) * SECTOR);
            let Some(target) = bytes.get_mut(range.clone()) else { continue };
            let old = self.platter.get(range.start..).unwrap_or_default();
            target.fill(0);
            target.iter_mut().zip(old).for_each(|(byte, old)| *byte = *old);
        }
        bytes
    }

    /// The file as it is found when the power is back.
    fn after(&self, loss: PowerLoss, random: &mut Random) -> Vec<u8> {
        match loss {
            PowerLoss::LosesEverything => self.platter.to_vec(),
            PowerLoss::LosesNothing => self.without_lost(&self.live),
            PowerLoss::Random(_) => self.mixed(random),
        }
    }

    fn mixed(&self, random: &mut Random) -> Vec<u8> {
        let new = self.without_lost(&self.live);
        let len = match random.below(5) {
            0..2 => self.platter.len(),
            2..4 => new.len(),
            // The length is written back on its own time, too.
            _ => {
                let (least, most) =
                    (new.len().min(self.platter.len()), new.len().max(self.platter.len()));
                least + random.index(most - least + 1)
            }
        };
        let unit = if random.one_in(2) { SECTOR } else { PAGE };
        // Now and then nearly everything had been written back, or nearly nothing.
        let mood = random.below(4);
        let mut bytes = Vec::with_capacity(len);
        for start in (0..len).step_by(unit) {
            let range = start..len.min(start + unit);
            let (old, new) = (unit_of(&self.platter, &range), unit_of(&new, &range));
            let may_be_garbage = old != new && !self.holds_synced_bytes(&range);
            let fate = match (mood, random.below(16)) {
                (0, 1..) | (1..=2, 0..6) => Fate::Old,
                (3, 1..) | (1..=2, 6..13) => Fate::New,
                (_, 13 | 0) if may_be_garbage => Fate::Garbage,
                _ if may_be_garbage => Fate::Zeros,
                (_, number) if number % 2 == 0 => Fate::Old,
                _ => Fate::New,
            };
            match fate {
                Fate::Old => bytes.extend(old),
                Fate::New => bytes.extend(new),
                Fate::Zeros => bytes.resize(range.end, 0),
                Fate::Garbage => {
                    let garbage = (random.below(u64::MAX) << 11 | 0x5a5).to_be_bytes();
                    bytes.extend(garbage.into_iter().cycle().take(range.len()));
                }
            }
        }
        bytes
    }

    /// Whether a unit holds anything but zeros that was synced and not written since.
    fn holds_synced_bytes(&self, unit: &Range<usize>) -> bool {
        let rewritten = |at: &usize| self.written.iter().any(|written| written.range.contains(at));
        let synced = |at: &usize| self.platter.get(*at).is_some_and(|byte| *byte != 0);
        unit.clone().any(|at| synced(&at) && !rewritten(&at))
    }

    /// A file that is on the platter as a whole.
    pub(super) fn on_platter(bytes: Vec<u8>) -> Self {
        let bytes = Arc::new(bytes);
        Self { live: Arc::clone(&bytes), platter: bytes, ..Self::default() }
    }
}

#[derive(Debug, Clone, Copy)]
enum Fate {
    Old,
    New,
    Zeros,
    Garbage,
}

/// The bytes of a unit, with zeros for those that there are none of.
fn unit_of(bytes: &[u8], range: &Range<usize>) -> Vec<u8> {
    let there = bytes.get(range.start..bytes.len().min(range.end)).unwrap_or_default();
    let mut unit = there.to_vec();
    unit.resize(range.len(), 0);
    unit
}

/// The names of a tree, and what a power cut can do to them. A file is the number of its inode.
#[derive(Debug, Clone)]
pub(super) struct Names {
    live: Side,
    platter: Side,
    /// What was changed since, oldest first.
    changes: Vec<Change>,
    /// How many directories there ever were.
    directories: u64,
}

/// The names as one of the two has them.
#[derive(Debug, Clone)]
struct Side {
    tree: Tree<usize>,
    /// Which directory a path leads to: one that was removed and made anew is another one, and what
    /// was changed in the first has not happened in the second. The roots have none.
    directories: BTreeMap<PathBuf, u64>,
}

/// A change in one directory.
#[derive(Debug, Clone)]
struct Change {
    directory: Option<u64>,
    path: PathBuf,
    kind: ChangeKind,
    /// Its directory was synced, and is not durable itself: it has happened if there is a directory.
    synced: bool,
}

#[derive(Debug, Clone)]
enum ChangeKind {
    AddFile(usize),
    AddDirectory(u64),
    /// From this path, which leads to this file.
    Rename(PathBuf, Node<usize>),
    Remove,
}

impl Side {
    fn directory_of(&self, path: &Path) -> Option<u64> {
        self.directories.get(path.parent()?).copied()
    }

    fn apply(&mut self, change: &Change) {
        let Change { directory, path, kind, .. } = change;
        if self.directory_of(path) != *directory {
            return;
        }
        match kind {
            ChangeKind::AddFile(inode) => self.tree.insert(path.clone(), Node::File(*inode)),
            ChangeKind::AddDirectory(number) => {
                self.tree.remove_all(path);
                self.tree.insert(path.clone(), Node::Directory);
                self.directories.insert(path.clone(), *number);
            }
            ChangeKind::Rename(from, node) => {
                self.tree.rename(from, path);
                // Also where the old name itself was lost.
                self.tree.insert(path.clone(), *node);
                if let Some(number) = self.directories.remove(from) {
                    self.directories.insert(path.clone(), number);
                }
            }
            ChangeKind::Remove => {
                self.tree.remove_all(path);
                self.directories.remove(path);
            }
        }
    }
}

impl Names {
    pub(super) fn new() -> Self {
        let empty = Side { tree: Tree::new(), directories: BTreeMap::new() };
        Self { live: empty.clone(), platter: empty, changes: Vec::new(), directories: 0 }
    }

    pub(super) fn live(&self) -> &Tree<usize> {
        &self.live.tree
    }

    pub(super) fn add_file(&mut self, path: PathBuf, inode: usize) {
        self.change(path, ChangeKind::AddFile(inode));
    }

    pub(super) fn add_directory(&mut self, path: PathBuf) {
        self.directories += 1;
        self.change(path, ChangeKind::AddDirectory(self.directories));
    }

    /// What is at `from` must be there.
    pub(super) fn rename(&mut self, from: PathBuf, to: PathBuf) -> io::Result<()> {
        let node = *self.live.tree.find(&from)?;
        self.change(to, ChangeKind::Rename(from, node));
        Ok(())
    }

    pub(super) fn remove(&mut self, path: PathBuf) {
        self.change(path, ChangeKind::Remove);
    }

    fn change(&mut self, path: PathBuf, kind: ChangeKind) {
        let change = Change { directory: self.live.directory_of(&path), path, kind, synced: false };
        self.live.apply(&change);
        self.changes.push(change);
    }

    /// The names in a directory are durable.
    pub(super) fn sync(&mut self, directory: &Path) {
        for change in &mut self.changes {
            change.synced |= change.path.parent() == Some(directory);
        }
        // In order: what makes a directory durable comes before what is in it.
        let platter = &mut self.platter;
        self.changes.retain(|change| {
            let durable = change.synced && platter.directory_of(&change.path) == change.directory;
            if durable {
                platter.apply(change);
            }
            !durable
        });
    }

    fn after(&self, loss: PowerLoss, random: &mut Random) -> Self {
        let mut found = self.platter.clone();
        // A journal keeps a first part of the changes; the contract allows any of them.
        let (journal, kept) = (random.one_in(2), random.index(self.changes.len() + 1));
        for (number, change) in self.changes.iter().enumerate() {
            let happened = match loss {
                PowerLoss::LosesEverything => false,
                PowerLoss::LosesNothing => true,
                PowerLoss::Random(_) if change.synced => true,
                PowerLoss::Random(_) if journal => number < kept,
                PowerLoss::Random(_) => random.one_in(2),
            };
            if happened {
                found.apply(change);
            }
        }
        let changes = Vec::new();
        Self { live: found.clone(), platter: found, changes, directories: self.directories }
    }
}

/// What is found of a tree when the power is back: all of it durable.
pub(super) fn after_power_loss(
    names: &Names,
    inodes: &[Inode],
    loss: PowerLoss,
) -> (Names, Vec<Inode>) {
    let mut random = Random::new(match loss {
        PowerLoss::Random(seed) => seed,
        _ => 0,
    });
    let names = names.after(loss, &mut random);
    let reached: BTreeSet<_> = names.live().files().map(|(_, inode)| *inode).collect();
    let inodes = inodes.iter().enumerate().map(|(number, inode)| {
        let there = reached.contains(&number);
        Inode::on_platter(if there { inode.after(loss, &mut random) } else { Vec::new() })
    });
    (names, inodes.collect())
}
