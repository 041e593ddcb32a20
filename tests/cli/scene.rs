//! A directory with something in it, and the program run over it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sapwood::{
    Broker, NOT_BEFORE_HEADER, OffsetAndMetadata, Partition, Record, ShareConsumer, Timestamp,
    TopicConfig, TopicPartition,
};
use snapbox::cmd::{Command, cargo_bin};
use tempfile::TempDir;

/// When the first record of a partition was made: 2023-11-14T22:13:20Z. The others follow by seconds.
pub const FIRST_MILLIS: i64 = 1_700_000_000_000;

/// A place to work in; the directory of topics is `data` in it.
pub struct Scene(TempDir);

impl Scene {
    /// Without a directory of topics.
    pub fn bare() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// With `orders` of two partitions and six records, and `empty`.
    pub fn with_orders() -> Self {
        let scene = Self::bare();
        let broker = scene.open();
        let keep = TopicConfig::default().retention_ms(None);
        let orders = broker.create_topic("orders", keep.clone().partitions(2)).unwrap();
        let first = [("alice", "paid"), ("carol", "paid"), ("alice", "sent")];
        append(&orders.partition(0).unwrap(), &first);
        append(&orders.partition(1).unwrap(), &[("bob", "paid"), ("bob", "sent"), ("bob", "lost")]);
        broker.create_topic("empty", keep).unwrap();
        broker.close().unwrap();
        scene
    }

    /// The same, and the group `billing` has consumed a part of it.
    pub fn with_group() -> Self {
        let scene = Self::with_orders();
        let broker = scene.open();
        let at = |offset| OffsetAndMetadata::new(offset).metadata("by hand");
        let of = |partition| TopicPartition::new("orders", partition);
        broker.reset_group("billing", [(of(0), at(2)), (of(1), at(3))]).unwrap();
        broker.close().unwrap();
        scene
    }

    /// The same, and `jobs` of six records, and two share groups. `workers` has done two of the jobs, has
    /// let one go, and another one is for a later time; `idle` has done nothing of `orders`.
    pub fn with_share_groups() -> Self {
        let scene = Self::with_group();
        let broker = scene.open();
        let keep = TopicConfig::default().retention_ms(None);
        let jobs = broker.create_topic("jobs", keep).unwrap().partition(0).unwrap();
        let job = |number: u64| {
            let record = Record::new("mail");
            // In the year 2200.
            if number == 2 { record.header(NOT_BEFORE_HEADER, "7258118400000") } else { record }
        };
        jobs.append(&(0..6).map(job).collect::<Vec<_>>()).unwrap();
        let mut worker = scene.worker(&broker);
        for record in &worker.poll(Duration::ZERO).unwrap() {
            if record.offset() != 1 {
                record.accept().unwrap();
            }
        }
        drop(broker.share_consumer("idle").subscribe(["orders"]).unwrap());
        drop(worker);
        broker.close().unwrap();
        scene
    }

    /// One of `workers`, who takes four jobs at most.
    pub fn worker(&self, broker: &Broker) -> ShareConsumer {
        broker.share_consumer("workers").max_poll_records(4).subscribe(["jobs"]).unwrap()
    }

    pub fn open(&self) -> Broker {
        Broker::open(self.data()).unwrap()
    }

    pub fn read(&self) -> Broker {
        Broker::open_read_only(self.data()).unwrap()
    }

    /// All values in a topic, partition after partition.
    pub fn values(&self, topic: &str) -> Vec<String> {
        let broker = self.read();
        let mut consumer = broker.consumer().subscribe([topic]).unwrap();
        let mut values = BTreeMap::new();
        loop {
            let records = consumer.poll(Duration::ZERO).unwrap();
            if records.is_empty() {
                return values.into_values().collect();
            }
            for record in &records {
                let value = String::from_utf8(record.value().unwrap().to_vec()).unwrap();
                values.insert((record.partition(), record.offset()), value);
            }
        }
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn data(&self) -> PathBuf {
        self.path().join("data")
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.path().join(name), content).unwrap();
    }

    /// The program with its arguments, separated by blanks, run beside the directory.
    pub fn run(&self, arguments: &str) -> Command {
        self.run_with(arguments.split_whitespace())
    }

    pub fn run_with<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Command {
        Command::new(cargo_bin!("sapwood"))
            .current_dir(self.path())
            .env("SAPWOOD_DIR", "data")
            .env_remove("COLUMNS")
            .env_remove("NO_COLOR")
            .args(arguments)
    }

    /// The program, to be talked to while it runs.
    pub fn start(&self, arguments: &str) -> Child {
        std::process::Command::new(cargo_bin!("sapwood"))
            .current_dir(self.path())
            .env("SAPWOOD_DIR", "data")
            .args(arguments.split_whitespace())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }
}

/// What Ctrl-C does.
pub fn interrupt(child: &Child) {
    signal(child, Signal::SIGINT);
}

pub fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();
}

/// Appends records, each with a header, a second apart.
fn append(partition: &Partition, records: &[(&str, &str)]) {
    for (number, (key, value)) in (0..).zip(records) {
        let timestamp = Timestamp::from_millis(FIRST_MILLIS + 1000 * number);
        let record = Record::new(*value).key(*key).header("from", "shop").timestamp(timestamp);
        partition.append(&[record]).unwrap();
    }
}

/// Every file below a directory with its bytes, but for the time stamps that reading leaves alone.
pub fn content(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut open = vec![directory.to_owned()];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            files.insert(path.clone(), fs::read(path).unwrap());
        }
    }
    files
}
