//! Sapwood and its rivals, one file each: how it is opened, configured and called.

use crate::log::Contender;

mod commitlog;
mod fjall;
mod kafko;
mod merkql;
mod okaywal;
mod raft_engine;
mod redb;
mod rusqlite;
mod sapwood;
mod sled;
mod walrus;

/// Everybody, Sapwood first.
pub(crate) const ALL: [Contender; 11] = [
    sapwood::CONTENDER,
    commitlog::CONTENDER,
    fjall::CONTENDER,
    kafko::CONTENDER,
    merkql::CONTENDER,
    okaywal::CONTENDER,
    raft_engine::CONTENDER,
    redb::CONTENDER,
    rusqlite::CONTENDER,
    sled::CONTENDER,
    walrus::CONTENDER,
];
