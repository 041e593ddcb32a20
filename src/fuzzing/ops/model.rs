//! What must be there: plain vectors.

use std::time::Duration;

use super::Settings;
use crate::consumer::records::OwnedRecord;
use crate::log::config::{Durability, TopicConfig, WhenFull};
use crate::record::{Compression, Record};
use crate::time::Timestamp;
use crate::topic::Partition;

pub(super) const MESSAGE_BYTES_MAX: u32 = 1024;
const SEGMENT_BYTES_MAX: u64 = 2048;

/// A record as it was handed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) key: Option<Vec<u8>>,
    pub(super) value: Vec<u8>,
    pub(super) timestamp: Timestamp,
}

impl Stored {
    /// A record with a value of this size, which begins with a number of its own.
    pub(super) fn new(number: u64, len: u8, timestamp: Timestamp) -> Self {
        let mut value = format!("{number}|").into_bytes();
        value.resize(value.len() + usize::from(len), b'-');
        Self { key: None, value, timestamp }
    }

    pub(super) fn record(&self) -> Record<'_> {
        let record = Record::new(&self.value).header("h", &self.value[..1]);
        self.key.iter().fold(record, Record::key)
    }

    pub(super) fn check(&self, found: &OwnedRecord) {
        let at = format!("{}@{}", found.topic_partition, found.offset);
        assert_eq!(found.key, self.key, "{at}");
        assert_eq!(found.value.as_deref(), Some(&self.value[..]), "{at}");
        assert_eq!(found.timestamp, self.timestamp, "{at}");
        assert_eq!(found.headers, [("h".to_owned(), Some(self.value[..1].to_vec()))], "{at}");
    }
}

/// A partition as it must be.
#[derive(Debug, Default)]
pub(super) struct ModelPartition {
    pub(super) log_start: u64,
    /// By offset: everything that was ever appended.
    pub(super) records: Vec<Stored>,
}

impl ModelPartition {
    pub(super) fn end(&self) -> u64 {
        self.records.len() as u64
    }

    pub(super) fn at(&self, offset: u64) -> &Stored {
        &self.records[usize::try_from(offset).expect("it is small")]
    }

    /// What can be read, with offsets.
    pub(super) fn readable(&self) -> impl Iterator<Item = (u64, &Stored)> {
        (self.log_start..self.end()).map(|offset| (offset, self.at(offset)))
    }

    /// An offset within the log, or a little beyond its end.
    pub(super) fn place(&self, number: u8) -> u64 {
        self.log_start.saturating_sub(1) + u64::from(number) % (self.end() - self.log_start + 4)
    }

    /// Takes over where whole segments were deleted, which the model does not know.
    pub(super) fn follow_log_start(&mut self, partition: &Partition) {
        let start = partition.log_start_offset();
        let of = partition.topic_partition();
        assert!(start >= self.log_start && start <= self.end(), "{of} starts at {start}");
        self.log_start = start;
    }

    /// What retention has taken it had to take, and it has left nothing that had to go.
    pub(super) fn check_retention(
        &self,
        partition: &Partition,
        config: &TopicConfig,
        now: Timestamp,
    ) {
        let of = partition.topic_partition();
        let start = partition.log_start_offset();
        let mut gone = self.readable().take_while(|(offset, _)| *offset < start);
        if let Some(limit) = config.retention_bytes {
            let size = partition.size();
            assert!(gone.next().is_none() || size >= limit, "{of}: {size} bytes left of {limit}");
            assert!(size < limit + SEGMENT_BYTES_MAX, "{of}: {size} bytes left of {limit}");
        } else if let Some(age) = config.retention_ms {
            let oldest = now.saturating_sub(age);
            assert!(gone.all(|(_, record)| record.timestamp < oldest), "{of}: up to {start}");
            // Deleted records count as long as their segment is there.
            let all_are_old = self.records.iter().all(|record| record.timestamp < oldest);
            assert!(start == self.end() || !all_are_old, "{of}: only up to {start}");
        } else {
            assert!(gone.next().is_none(), "{of}: up to {start}");
        }
    }
}

#[derive(Debug)]
pub(super) struct ModelTopic {
    pub(super) config: TopicConfig,
    pub(super) partitions: Vec<ModelPartition>,
}

impl ModelTopic {
    pub(super) fn new(settings: Settings) -> Self {
        Self { config: config(settings, 1), partitions: vec![ModelPartition::default()] }
    }

    pub(super) fn alter(&mut self, settings: Settings) {
        self.config = config(settings, self.partitions.len());
    }

    pub(super) fn add_partition(&mut self) {
        self.partitions.push(ModelPartition::default());
        let count = u32::try_from(self.partitions.len()).expect("there are few");
        self.config = self.config.clone().partitions(count);
    }
}

fn config(settings: Settings, partitions: usize) -> TopicConfig {
    let config = TopicConfig::default()
        .partitions(u32::try_from(partitions).expect("there are few"))
        .max_message_bytes(MESSAGE_BYTES_MAX)
        .index_interval_bytes(200)
        .segment_bytes([1024, 2048][usize::from(settings.choice(0, 2))])
        .retention_ms(None);
    let config = match settings.choice(1, 2) {
        0 => config,
        _ => config.durability(Durability::Written { flush_interval: Duration::from_secs(1) }),
    };
    let config = match settings.choice(2, 4) {
        0 | 1 => config,
        2 => config.compression(Compression::Lz4),
        _ => config.compression(Compression::Zstd { level: 1 }),
    };
    let config = match settings.choice(4, 4) {
        0 | 1 => config,
        2 => config.retention_ms(Duration::from_secs(60 * 60)),
        _ => config.retention_bytes(3_000),
    };
    match settings.choice(6, 4) {
        0 | 1 => config,
        2 => config.max_bytes(6_000),
        _ => config.max_bytes(6_000).when_full(WhenFull::DropOldest),
    }
}
