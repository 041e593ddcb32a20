//! What is durable when: the registry never speaks of what a power loss could still take away, and
//! nothing is removed before the registry durably says so.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::{append, open};
use crate::fs::faults::{FailingFileSystem, Operation};
use crate::log::config::TopicConfig;

/// What has been changed and not been made durable since.
#[derive(Default)]
struct Owed {
    names: BTreeSet<PathBuf>,
    bytes: BTreeSet<PathBuf>,
    registry_changes: usize,
    violations: Vec<String>,
}

impl Owed {
    fn watch(&mut self, operation: Operation, path: &Path) {
        let is_temporary = path.extension().is_some_and(|extension| extension == "tmp");
        match operation {
            Operation::CreateNew | Operation::CreateDirectory => {
                self.names.insert(path.to_owned());
            }
            // Of the checkpoint's two slots one always stands.
            Operation::Write if path.ends_with("watermark.checkpoint") => {}
            Operation::Write | Operation::SetLen => {
                self.bytes.insert(path.to_owned());
            }
            Operation::SyncData => {
                self.bytes.remove(path);
            }
            Operation::SyncDirectory => self.names.retain(|name| name.parent() != Some(path)),
            Operation::Rename => {
                // The name it had before is gone.
                let mut temporary = path.as_os_str().to_owned();
                temporary.push(".tmp");
                self.names.remove(Path::new(&temporary));
                if path.ends_with("sapwood.topics") {
                    self.registry_changes += 1;
                    let owed = self.names.iter().chain(&self.bytes);
                    let owed = owed.filter(|path| path.extension().is_none_or(|e| e != "tmp"));
                    let owed: Vec<_> = owed.collect();
                    if !owed.is_empty() {
                        self.violations.push(format!("the registry came before {owed:?}"));
                    }
                }
                self.names.insert(path.to_owned());
            }
            Operation::RemoveFile | Operation::RemoveDirectory if !is_temporary => {
                if self.names.contains(Path::new("data/sapwood.topics")) {
                    self.violations.push(format!("{path:?} went before the registry said so"));
                }
                if operation == Operation::RemoveDirectory {
                    // The names of its files go with it.
                    self.names.retain(|name| !name.starts_with(path));
                    self.bytes.retain(|name| !name.starts_with(path));
                    self.names.insert(path.to_owned());
                }
            }
            _ => {}
        }
    }
}

#[test]
fn the_registry_never_speaks_of_what_is_not_durable() {
    let fs = FailingFileSystem::over_memory();
    let broker = open(&fs);
    let owed = Arc::new(Mutex::new(Owed::default()));
    let watching = Arc::clone(&owed);
    fs.fail_when(move |operation, path| {
        watching.lock().watch(operation, path);
        None
    });
    let orders = broker.create_topic("orders", TopicConfig::default().partitions(2)).unwrap();
    broker.add_partitions("orders", 3).unwrap();
    append(&orders, 0, "x").unwrap();
    broker.delete_topic("orders").unwrap();
    let owed = owed.lock();
    assert_eq!(owed.violations, [""; 0]);
    assert_eq!(owed.registry_changes, 6, "two for each change");
    assert_eq!(owed.names, BTreeSet::new(), "everything is durable at the end");
}
