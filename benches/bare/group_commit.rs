//! The shortest leader/follower loop: whoever finds nobody syncing syncs for all.

use std::sync::{Condvar, Mutex};

use super::Space;

pub struct GroupCommit {
    state: Mutex<State>,
    returned: Condvar,
    file: std::fs::File,
}

struct State {
    space: Space,
    written: u64,
    synced: u64,
    syncing: bool,
}

impl GroupCommit {
    pub fn new(space: Space) -> Self {
        let file = space.file.try_clone().unwrap();
        let state = State { space, written: 0, synced: 0, syncing: false };
        Self { state: Mutex::new(state), returned: Condvar::new(), file }
    }

    /// Writes a batch, and returns when it is synced.
    pub fn append(&self, batch: &[u8]) {
        let mut state = self.state.lock().unwrap();
        state.space.write(batch);
        state.written += 1;
        let own = state.written;
        while state.synced < own {
            if state.syncing {
                state = self.returned.wait(state).unwrap();
                continue;
            }
            state.syncing = true;
            let reached = state.written;
            drop(state);
            self.file.sync_data().unwrap();
            state = self.state.lock().unwrap();
            state.syncing = false;
            state.synced = reached;
            self.returned.notify_all();
        }
    }
}
