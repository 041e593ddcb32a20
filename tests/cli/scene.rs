//! A directory with something in it, and the program run over it.

use std::path::{Path, PathBuf};

use sapwood::{Broker, Partition, Record, Timestamp, TopicConfig};
use snapbox::cmd::{Command, cargo_bin};
use tempfile::TempDir;

/// When the first record was made: 2023-11-14T22:13:20Z. Each one after it is a second younger.
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
        append(
            &orders.partition(0).unwrap(),
            &[("alice", "paid"), ("carol", "paid"), ("alice", "sent")],
        );
        append(&orders.partition(1).unwrap(), &[("bob", "paid"), ("bob", "sent"), ("bob", "lost")]);
        broker.create_topic("empty", keep).unwrap();
        broker.close().unwrap();
        scene
    }

    pub fn open(&self) -> Broker {
        Broker::open(self.data()).unwrap()
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn data(&self) -> PathBuf {
        self.path().join("data")
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
}

/// Appends records, each with a header, a second apart.
fn append(partition: &Partition, records: &[(&str, &str)]) {
    let at = |offset: usize| FIRST_MILLIS + 1000 * i64::try_from(offset).unwrap();
    for (offset, (key, value)) in records.iter().enumerate() {
        let timestamp = Timestamp::from_millis(at(offset));
        let record = Record::new(*value).key(*key).header("from", "shop").timestamp(timestamp);
        partition.append(&[record]).unwrap();
    }
}
