//! One partition of the bare machine, at either durability; any number of threads append to it.

use std::path::Path;
use std::sync::Mutex;

use sapwood::Durability;

use super::Space;
use super::group_commit::GroupCommit;
use super::growing::Growing;

pub enum BareLog {
    /// A file that grows, as a log does.
    Written(Mutex<Growing>),
    /// Space that is there already: one sync serves all who wait.
    Synced(GroupCommit),
}

impl BareLog {
    /// `space` is how much of it there is, where it must be there before.
    pub fn new(path: &Path, durability: Durability, space: usize) -> Self {
        match durability {
            Durability::Fsync => Self::Synced(GroupCommit::new(Space::new(path, space))),
            _ => Self::Written(Mutex::new(Growing::new(path))),
        }
    }

    pub fn append(&self, batch: &[u8]) {
        match self {
            Self::Written(file) => file.lock().unwrap().append(batch),
            Self::Synced(file) => file.append(batch),
        }
    }

    /// Syncs what is not, and begins anew if there is more than `kept`; not part of what is measured.
    pub fn settle(&self, kept: usize) {
        if let Self::Written(file) = self {
            let mut file = file.lock().unwrap();
            file.sync();
            if file.len() > kept {
                file.start_over();
            }
        }
    }
}
