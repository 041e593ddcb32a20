//! Fault F9: the lock of a directory is held by a process as long as it lives, also when it stands
//! still, and not a moment longer (contract, clause 26).

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sapwood::{Broker, Error, TopicConfig};

use super::child_of_own;

/// Opens the directory, says so, and waits to be killed.
pub(super) fn hold(directory: &Path) {
    let broker = Broker::open(directory).unwrap();
    broker.create_topic("held", TopicConfig::default()).unwrap();
    println!("holding");
    // Until the other end is gone, should nobody kill it.
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).unwrap();
}

/// A process that has the directory open.
struct Holder(Child);

impl Holder {
    fn start(directory: &Path) -> Self {
        let mut child = child_of_own("hold", directory, 0, 0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.map(Result::unwrap).any(|line| line == "holding"), "it has not opened");
        Self(child)
    }

    fn signal(&self, name: &str) {
        let id = self.0.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &id]).status().unwrap().success());
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // It was killed already unless the test has failed, and that is being told.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn assert_locked(directory: &Path) {
    let error = Broker::open(directory).unwrap_err();
    assert!(matches!(error, Error::Locked { .. }) && error.is_retriable(), "{error}");
}

#[test]
fn a_stopped_process_keeps_the_lock_and_a_killed_one_leaves_it_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let mut holder = Holder::start(directory.path());
    assert_locked(directory.path());
    holder.signal("STOP");
    let deadline = Instant::now() + Duration::from_secs(1);
    while Instant::now() < deadline {
        assert_locked(directory.path());
        // Reading along needs no lock.
        let reader = Broker::open_read_only(directory.path()).unwrap();
        assert_eq!(reader.topics().unwrap().len(), 1);
    }
    // It never goes on: SIGKILL ends a stopped process too.
    holder.0.kill().unwrap();
    holder.0.wait().unwrap();
    let broker = Broker::open(directory.path()).unwrap();
    assert_eq!(broker.topics().unwrap().len(), 1, "what the holder had done is there");
}
