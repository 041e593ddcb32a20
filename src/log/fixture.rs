//! A partition's log for tests: on a file system in memory that fails on demand, with a clock that
//! is moved by hand.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::config::{Durability, TopicConfig};
use super::recovery::{PartitionRecovery, Plan, plan};
use super::{Appended, Environment, PartitionLog};
use crate::error::Result;
use crate::fs::faults::FailingFileSystem;
use crate::fs::memory::MemoryFileSystem;
use crate::fs::{Access, FileSystem, Kind, TailWrites};
use crate::record::batch::RecordBatch;
use crate::record::builder::BatchBuilder;
use crate::record::{Compression, Record};
use crate::segment::records_file::ReadMode;
use crate::time::{Clock, ManualClock, Timestamp};
use crate::topic_partition::TopicPartition;

/// The time at which every fixture begins.
pub(crate) const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

pub(crate) const WRITTEN: Durability =
    Durability::Written { flush_interval: Duration::from_secs(1) };

/// Where a log lives and what it is opened with.
#[derive(Debug, Clone)]
pub(crate) struct Fixture {
    pub(crate) fs: FailingFileSystem,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) environment: Environment,
    pub(crate) directory: Arc<Path>,
    pub(crate) config: Arc<TopicConfig>,
}

impl Fixture {
    /// An empty log in memory.
    pub(crate) fn new(config: TopicConfig) -> Self {
        Self::in_memory(MemoryFileSystem::new(), config)
    }

    /// An empty log in memory whose tail is written through a window.
    pub(crate) fn with_window(config: TopicConfig) -> Self {
        let memory = MemoryFileSystem::new().with_tail_writes(TailWrites::MAPPED);
        Self::in_memory(memory, config)
    }

    pub(crate) fn in_memory(memory: MemoryFileSystem, config: TopicConfig) -> Self {
        memory.create_directory(Path::new("p")).unwrap();
        Self::over(memory, Path::new("p"), config)
    }

    /// An empty log in an existing directory.
    pub(crate) fn over(
        below: impl FileSystem + 'static,
        directory: &Path,
        config: TopicConfig,
    ) -> Self {
        let fs = FailingFileSystem::over(below);
        let clock = Arc::new(ManualClock::new(NOW));
        let environment = Environment {
            fs: Arc::new(fs.clone()),
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            metrics: Arc::default(),
            read_mode: ReadMode::Mapped,
            open_logs: Arc::default(),
        };
        PartitionLog::create(&fs, directory).unwrap();
        Self { fs, clock, environment, directory: directory.into(), config: Arc::new(config) }
    }

    pub(crate) fn topic_partition() -> TopicPartition {
        TopicPartition::new("orders", 0)
    }

    pub(crate) fn plan(&self) -> Result<Plan> {
        plan(&self.environment, &Self::topic_partition(), &self.directory, &self.config)
    }

    pub(crate) fn try_open(&self) -> Result<(Arc<PartitionLog>, PartitionRecovery)> {
        PartitionLog::open(&self.environment, self.plan()?, Arc::clone(&self.config))
    }

    pub(crate) fn open(&self) -> Arc<PartitionLog> {
        self.try_open().unwrap().0
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Every file of the directory.
    pub(crate) fn tree(&self) -> BTreeMap<String, Vec<u8>> {
        let names = self.fs.list(&self.directory).unwrap();
        let files = names.iter().filter(|entry| entry.kind == Kind::File);
        files
            .map(|entry| entry.name.to_str().unwrap().to_owned())
            .map(|name| (name.clone(), self.bytes(&name)))
            .collect()
    }

    pub(crate) fn bytes(&self, name: &str) -> Vec<u8> {
        let file = self.fs.open(&self.path(name), Access::Read).unwrap();
        let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
        assert_eq!(file.read_at(&mut bytes, 0).unwrap(), bytes.len());
        bytes
    }

    /// Makes the directory hold exactly these files.
    pub(crate) fn restore(&self, tree: &BTreeMap<String, Vec<u8>>) {
        for name in self.tree().keys() {
            self.fs.remove_file(&self.path(name)).unwrap();
        }
        for (name, bytes) in tree {
            self.write(name, bytes);
        }
    }

    /// Puts a file in the place of another, or of none.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.path(name);
        if self.fs.kind(&path).unwrap().is_some() {
            self.fs.remove_file(&path).unwrap();
        }
        self.fs.create_new(&path).unwrap().write_all_at(bytes, 0).unwrap();
    }

    /// The names of the `.log` files.
    pub(crate) fn segments(&self) -> Vec<String> {
        self.tree().into_keys().filter(|name| is_log(name)).collect()
    }
}

pub(crate) fn is_log(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|extension| extension == "log")
}

/// The settings of a fixture that has no wishes.
pub(crate) fn config(durability: Durability) -> TopicConfig {
    TopicConfig::default().durability(durability).retention_ms(None)
}

/// A batch of records, to be sealed once.
pub(crate) fn batch<V: AsRef<[u8]>>(values: &[V], timestamp: Timestamp) -> BatchBuilder {
    let mut builder = BatchBuilder::new();
    for value in values {
        builder.append(&Record::new(value), timestamp).unwrap();
    }
    builder.seal(Compression::None).unwrap();
    builder
}

pub(crate) fn append<V: AsRef<[u8]>>(log: &PartitionLog, values: &[V]) -> Result<Appended> {
    append_at(log, values, NOW)
}

pub(crate) fn append_at<V: AsRef<[u8]>>(
    log: &PartitionLog,
    values: &[V],
    timestamp: Timestamp,
) -> Result<Appended> {
    let now = log.environment.clock.now();
    log.append(batch(values, timestamp).sealed(), now)
}

/// Appends single records `first..end`, each saying its number.
pub(crate) fn append_numbers(log: &PartitionLog, numbers: std::ops::Range<u64>) {
    for number in numbers {
        append(log, &[number_text(number)]).unwrap();
    }
}

pub(crate) fn number_text(number: u64) -> String {
    format!("record {number:06}")
}

/// Every visible record from an offset on.
pub(crate) fn read_from(log: &PartitionLog, offset: u64) -> Result<Vec<(u64, Vec<u8>)>> {
    let (mut offset, mut cursor, mut records) = (offset, None, Vec::new());
    while let Some(fetched) = log.read(offset, cursor.as_ref(), 300)? {
        let mut bytes = &*fetched.bytes;
        while !bytes.is_empty() {
            let batch = RecordBatch::parse(bytes).unwrap();
            for record in batch.records(&mut Vec::new(), usize::MAX).unwrap() {
                let record = record.unwrap();
                if record.offset() >= offset {
                    records.push((record.offset(), record.value().unwrap_or_default().to_vec()));
                }
            }
            bytes = &bytes[batch.size()..];
        }
        offset = fetched.next_offset;
        cursor = Some(fetched.cursor);
    }
    Ok(records)
}

/// Every visible record.
pub(crate) fn read_all(log: &PartitionLog) -> Vec<(u64, Vec<u8>)> {
    read_from(log, log.ends().log_start()).unwrap()
}

/// What [`append_numbers`] should have left.
pub(crate) fn numbers(range: std::ops::Range<u64>) -> Vec<(u64, Vec<u8>)> {
    range.map(|number| (number, number_text(number).into_bytes())).collect()
}
