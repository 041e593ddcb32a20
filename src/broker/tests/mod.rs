//! Goal: the broker keeps its promises when calls to the file system fail, when it is killed, and
//! when everything happens at once.
//!
//! Method: brokers over files in memory, with a file system in between that fails, counts and
//! watches calls.

mod backup;
mod faults;
mod lifecycle;
mod order;
mod room;
mod salvage;
mod scene;
mod turns;
mod verification;

use std::io;
use std::sync::Arc;

use crate::broker::Broker;
use crate::broker::config::BrokerBuilder;
use crate::error::{Error, Result};
use crate::fs::faults::FailingFileSystem;
use crate::record::Record;
use crate::topic::Topic;

pub(super) fn builder(fs: &FailingFileSystem) -> BrokerBuilder {
    Broker::builder("data").file_system(Arc::new(fs.clone())).background_thread(false)
}

pub(super) fn open(fs: &FailingFileSystem) -> Broker {
    builder(fs).open().unwrap()
}

/// Fails the `n`-th call from now on, counted from 0; with `and_after` all that follow too, as if
/// the process had been killed.
pub(super) fn fail_call(fs: &FailingFileSystem, n: u64, and_after: bool, kind: io::ErrorKind) {
    let mut calls = 0;
    fs.fail_when(move |_, _| {
        calls += 1;
        let hit = calls == n + 1 || (and_after && calls > n);
        hit.then(|| kind.into())
    });
}

/// Appends a record to a partition, and returns its offset.
pub(super) fn append(topic: &Topic, partition: u32, value: &str) -> Result<u64> {
    Ok(topic.partition(partition)?.append(&[Record::new(value)])?.offset)
}

/// Whether a failure says what failed.
pub(super) fn is_typed(error: &Error) -> bool {
    matches!(error, Error::Io { .. } | Error::StorageFull { .. } | Error::PartitionFailed { .. })
}
