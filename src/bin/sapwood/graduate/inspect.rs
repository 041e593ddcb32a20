//! Going over every batch of a partition: what a broker is to be told of it, and what it could not
//! live with.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sapwood::{
    BatchDump, Corruption, Error, PartitionDump, SegmentDump, SegmentPart, Timestamp, TopicConfig,
    TopicPartition,
};

use crate::exit::Result;
use crate::settings::time_text;
use crate::verify::Damage;

/// Kafka gives out producer ids from 0 upwards. Sapwood's begin here, where it does not come to.
const OUR_PRODUCER_IDS: i64 = 1 << 62;

/// How long a broker remembers a producer after its last record, unless it is told otherwise (Kafka:
/// `producer.id.expiration.ms`).
const PRODUCER_EXPIRATION: Duration = Duration::from_secs(24 * 60 * 60);

/// Offsets are counted from a segment's base offset by 31 bits.
const SEGMENT_SPAN_MAX: u64 = 0x7fff_ffff;

/// Something that keeps a broker from taking the directory over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    /// Where it is.
    pub(super) place: String,
    pub(super) what: String,
    /// What to do.
    pub(super) remedy: String,
    pub(super) is_damage: bool,
}

impl Problem {
    /// Names a file of the directory where one of the copy is named.
    pub(super) fn speak_of(&mut self, directory: &Path, copy: &Path) {
        let [directory, copy] = [directory, copy].map(|path| path.display().to_string());
        self.place = self.place.replace(&copy, &directory);
    }
}

/// What is in a partition.
#[derive(Debug)]
pub(super) struct Inspection {
    pub(super) topic_partition: TopicPartition,
    pub(super) log_start_offset: u64,
    pub(super) end_offset: u64,
    /// Those that can be read.
    pub(super) records: u64,
    pub(super) bytes: u64,
    /// In bytes.
    pub(super) largest_batch: u64,
    pub(super) segments: Vec<Inspected>,
    /// Where transactions begin that nothing ends.
    pub(super) open_transactions: Vec<u64>,
    pub(super) problems: Vec<Problem>,
}

/// What is in a segment.
#[derive(Debug)]
pub(super) struct Inspected {
    pub(super) path: PathBuf,
    pub(super) base_offset: u64,
    /// How many bytes of batches there are; behind them lie zeros at most.
    pub(super) len: u64,
    largest_timestamp: i64,
    records: u64,
    /// Where batches begin whose leader epoch is not 0.
    pub(super) foreign_epochs: Vec<u64>,
}

impl Inspection {
    pub(super) fn first_base_offset(&self) -> u64 {
        self.segments.first().map_or(self.log_start_offset, |segment| segment.base_offset)
    }

    /// Whether a broker has to be told where the log begins: its files alone say otherwise.
    pub(super) fn begins_within(&self) -> bool {
        self.log_start_offset > self.first_base_offset()
    }

    /// How many batches have another leader epoch than they are to have.
    pub(super) fn epochs_reset(&self) -> u64 {
        self.segments.iter().map(|segment| segment.foreign_epochs.len() as u64).sum()
    }

    /// How many records a broker with these settings deletes at once: whole segments from the oldest
    /// on, by size and then by age, the last one too (Kafka: `UnifiedLog.deleteOldSegments`).
    pub(super) fn deleted_by_retention(&self, config: &TopicConfig, now: Timestamp) -> u64 {
        let limit = |name| config.get(name).and_then(|text| text.parse::<u64>().ok());
        let mut excess =
            limit("retention.bytes").map_or(0, |limit| self.bytes.saturating_sub(limit));
        let too_large = self.segments.iter().take_while(|segment| {
            let goes = segment.len > 0 && segment.len <= excess;
            excess = excess.saturating_sub(if goes { segment.len } else { 0 });
            goes
        });
        let too_large = too_large.count();
        let too_old = limit("retention.ms").map_or(0, |limit| {
            let last_kept = now.saturating_sub(Duration::from_millis(limit)).as_millis();
            let is_old = |segment: &&Inspected| (0..last_kept).contains(&segment.largest_timestamp);
            self.segments.iter().skip(too_large).take_while(is_old).count()
        });
        let deleted = self.segments.iter().take(too_large + too_old);
        deleted.map(|segment| segment.records).sum()
    }
}

/// Reads a partition of the copy from its first byte to its last.
pub(super) fn inspect(
    partition: &PartitionDump,
    log_start: Option<u64>,
    now: Timestamp,
) -> Result<Inspection> {
    let mut walk = Walk {
        inspection: Inspection {
            topic_partition: partition.topic_partition().clone(),
            log_start_offset: log_start.unwrap_or(0),
            end_offset: 0,
            records: 0,
            bytes: 0,
            largest_batch: 0,
            segments: Vec::new(),
            open_transactions: Vec::new(),
            problems: Vec::new(),
        },
        producers: BTreeMap::new(),
    };
    for segment in partition.segments()? {
        walk.segment(&segment?)?;
    }
    Ok(walk.finish(now))
}

/// What a broker keeps in mind of a producer.
#[derive(Debug, Clone, Copy)]
struct Producer {
    last_timestamp: i64,
    open_transaction: Option<u64>,
}

struct Walk {
    inspection: Inspection,
    producers: BTreeMap<i64, Producer>,
}

impl Walk {
    fn segment(&mut self, dump: &SegmentDump) -> Result {
        let base_offset = dump.base_offset().unwrap_or(0);
        let mut segment = Inspected {
            path: dump.path().to_owned(),
            base_offset,
            len: 0,
            largest_timestamp: -1,
            records: 0,
            foreign_epochs: Vec::new(),
        };
        self.inspection.end_offset = self.inspection.end_offset.max(base_offset);
        for part in dump.parts()? {
            match part? {
                SegmentPart::Batch(batch) => {
                    self.batch(&batch, &mut segment)?;
                    segment.largest_timestamp =
                        segment.largest_timestamp.max(batch.max_timestamp.as_millis());
                    segment.len = batch.file_position + batch.size;
                }
                SegmentPart::Damage(damage) => self.damage(&damage),
                // Zeros, at the end: they are cut off.
                _ => {}
            }
        }
        self.inspection.bytes += segment.len;
        self.inspection.segments.push(segment);
        Ok(())
    }

    fn batch(&mut self, batch: &BatchDump, segment: &mut Inspected) -> Result {
        let place = format!("{} at byte {}", segment.path.display(), batch.file_position);
        if !batch.is_valid {
            self.damaged(place, "the checksum is wrong".to_owned());
            return Ok(());
        }
        let expected = self.inspection.end_offset;
        if batch.base_offset < expected || batch.last_offset < batch.base_offset {
            let found = format!("{} to {}", batch.base_offset, batch.last_offset);
            self.damaged(place, format!("offsets {found} where {expected} comes next"));
            return Ok(());
        }
        if batch.last_offset - segment.base_offset > SEGMENT_SPAN_MAX {
            self.inspection.problems.push(Problem {
                place: place.clone(),
                what: format!("offset {} is too far from the segment's first", batch.last_offset),
                remedy: "produce the records to a new topic and delete this one".to_owned(),
                is_damage: false,
            });
        }
        if let Err(error) = self.records(batch, segment) {
            match error {
                Error::Corrupt(damage) => self.damage(&damage),
                error => return Err(error.into()),
            }
        }
        if batch.partition_leader_epoch != 0 {
            segment.foreign_epochs.push(batch.file_position);
        }
        self.inspection.largest_batch = self.inspection.largest_batch.max(batch.size);
        self.inspection.end_offset = batch.last_offset + 1;
        self.producer(batch);
        Ok(())
    }

    /// Reads every record: neither a checksum nor a broker says that they can be.
    fn records(&mut self, batch: &BatchDump, segment: &mut Inspected) -> Result<(), Error> {
        let records = batch.records()?;
        let mut seen = 0;
        for record in records.iter() {
            if record?.offset >= self.inspection.log_start_offset {
                seen += 1;
            }
        }
        if !batch.is_control {
            segment.records += seen;
            self.inspection.records += seen;
        }
        Ok(())
    }

    fn producer(&mut self, batch: &BatchDump) {
        if batch.producer_id < 0 {
            return;
        }
        let unknown = Producer { last_timestamp: -1, open_transaction: None };
        let producer = self.producers.entry(batch.producer_id).or_insert(unknown);
        producer.last_timestamp = batch.max_timestamp.as_millis();
        producer.open_transaction = match producer.open_transaction {
            _ if batch.is_control => None,
            None if batch.is_transactional => Some(batch.base_offset),
            open => open,
        };
    }

    fn damage(&mut self, damage: &Corruption) {
        self.damaged(
            Damage::of(damage).to_string(),
            "Kafka would cut the log off there".to_owned(),
        );
    }

    fn damaged(&mut self, place: String, what: String) {
        let remedy = "`sapwood salvage` makes a new directory of what is intact".to_owned();
        self.inspection.problems.push(Problem { place, what, remedy, is_damage: true });
    }

    fn finish(mut self, now: Timestamp) -> Inspection {
        self.refuse_log_start();
        let open = self.producers.values().filter_map(|producer| producer.open_transaction);
        self.inspection.open_transactions = open.collect();
        self.inspection.open_transactions.sort_unstable();
        self.refuse_producers(now);
        self.inspection
    }

    /// A broker deletes all of a log that ends before it begins.
    fn refuse_log_start(&mut self) {
        let (start, end) = (self.inspection.log_start_offset, self.inspection.end_offset);
        if start > end {
            let place = self.inspection.topic_partition.to_string();
            self.damaged(place, format!("the log ends at offset {end} and begins at {start}"));
        }
    }

    /// A new producer may be given the id of one that the broker remembers from our log: its first
    /// records would be taken for repetitions, acknowledged, and not written.
    fn refuse_producers(&mut self, now: Timestamp) {
        let kafkas = self.producers.iter().filter(|(id, _)| **id < OUR_PRODUCER_IDS);
        let newest = kafkas.max_by_key(|(_, producer)| producer.last_timestamp);
        let Some((id, producer)) = newest else { return };
        let forgotten =
            Timestamp::from_millis(producer.last_timestamp).saturating_add(PRODUCER_EXPIRATION);
        if forgotten > now {
            self.inspection.problems.push(Problem {
                place: self.inspection.topic_partition.to_string(),
                what: format!(
                    "a producer of a Kafka cluster, with id {id}, has written here so lately that a new \
                     one with the same id would be taken for it, and lose records"
                ),
                remedy: format!("run this again after {}", time_text(forgotten)),
                is_damage: false,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use sapwood::DirectoryDump;

    use super::*;

    fn inspection(segments: &[(u64, i64)]) -> Inspection {
        let inspected = |(len, largest_timestamp): &(u64, i64)| Inspected {
            path: PathBuf::new(),
            base_offset: 0,
            len: *len,
            largest_timestamp: *largest_timestamp,
            records: 10,
            foreign_epochs: Vec::new(),
        };
        Inspection {
            topic_partition: TopicPartition::new("orders", 0),
            log_start_offset: 0,
            end_offset: 0,
            records: 0,
            bytes: segments.iter().map(|(len, _)| len).sum(),
            largest_batch: 0,
            segments: segments.iter().map(inspected).collect(),
            open_transactions: Vec::new(),
            problems: Vec::new(),
        }
    }

    #[test]
    fn what_retention_deletes_is_counted_as_kafka_deletes_it() {
        let log = inspection(&[(100, 1_000), (100, 5_000), (100, 2_000), (100, -1), (100, 0)]);
        let deleted = |settings: &[(&str, &str)]| {
            let set = |config: TopicConfig, (name, value): &(&str, &str)| config.set(name, value);
            let config = settings.iter().try_fold(TopicConfig::default(), set).unwrap();
            log.deleted_by_retention(&config, Timestamp::from_millis(10_000))
        };
        assert_eq!(deleted(&[]), 0, "a week has not passed");
        assert_eq!(deleted(&[("retention.ms", "8000")]), 10, "oldest first, and then stop");
        assert_eq!(deleted(&[("retention.ms", "9000")]), 0, "exactly as old as that is kept");
        assert_eq!(deleted(&[("retention.ms", "0")]), 30, "without a time nothing is old");
        assert_eq!(deleted(&[("retention.ms", "-1")]), 0);
        assert_eq!(deleted(&[("retention.bytes", "301")]), 10, "whole segments only");
        assert_eq!(deleted(&[("retention.bytes", "300")]), 20);
        assert_eq!(deleted(&[("retention.bytes", "0")]), 50);
        let both = deleted(&[("retention.bytes", "300"), ("retention.ms", "6000")]);
        assert_eq!(both, 30, "by age is what size has left");
    }

    /// Written by Kafka's clients: offsets 42 and 43 of a transaction of producer 4001, of 14 November 2023,
    /// 22:13:20 UTC, and the marker that commits it.
    const IN_TRANSACTION: &str = "000000000000002a000000430000000002a5c62a440010000000010000018bcfe56800\
                                  0000018bcfe568010000000000000fa1000000000000000000021000000002610231\
                                  00100002020262023200";
    const COMMIT: &str = "000000000000002c000000420000000002f9464b3c0030000000000000018bcfe568090000018bcf\
                          e568090000000000000fa10000ffffffff000000012000000008000000010c00000000000500";
    const T0: i64 = 1_700_000_000_000;

    fn inspect_log(hex: &str, hours_later: i64) -> Inspection {
        let directory = tempfile::tempdir().unwrap();
        let partition = directory.path().join("orders-0");
        std::fs::create_dir(&partition).unwrap();
        let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        let bytes: Vec<_> = (0..hex.len()).step_by(2).map(byte).collect();
        std::fs::write(partition.join("00000000000000000042.log"), bytes).unwrap();
        let partitions = DirectoryDump::open(directory.path()).unwrap().partitions().unwrap();
        let now = Timestamp::from_millis(T0 + hours_later * 3_600_000);
        inspect(&partitions[0], Some(42), now).unwrap()
    }

    #[test]
    fn a_transaction_is_open_until_its_marker() {
        let open = inspect_log(IN_TRANSACTION, 48);
        assert_eq!((open.open_transactions, open.end_offset), (vec![42], 44));
        let ended = inspect_log(&format!("{IN_TRANSACTION}{COMMIT}"), 48);
        assert_eq!((ended.open_transactions, ended.end_offset, ended.records), (vec![], 45, 2));
    }

    #[test]
    fn a_producer_of_kafkas_is_waited_for_until_a_broker_has_forgotten_it() {
        let log = format!("{IN_TRANSACTION}{COMMIT}");
        let problems = inspect_log(&log, 23).problems;
        assert_eq!(problems[0].remedy, "run this again after 2023-11-15T22:13:20.009Z");
        assert_eq!(inspect_log(&log, 25).problems, []);
    }

    #[test]
    fn batches_that_overlap_are_damage() {
        let problems = inspect_log(&format!("{IN_TRANSACTION}{IN_TRANSACTION}"), 48).problems;
        assert_eq!(problems.len(), 1);
        assert!(problems[0].is_damage && problems[0].what.contains("where 44 comes next"));
    }
}
