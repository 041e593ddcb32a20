//! What is decided before a batch is appended: whether it may be, and whether the segment ends here.
//! Pure functions; the log carries them out. (Kafka: `LogValidator`, `LogSegment.shouldRoll`.)

use std::time::Duration;

use crate::error::{Error, Result};
use crate::log::config::TopicConfig;
use crate::record::TimestampType;
use crate::record::batch::BatchHeader;
use crate::record::builder::SealedBatch;
use crate::time::Timestamp;
use crate::topic_partition::TopicPartition;

/// The largest offset that Kafka's signed 64 bits can express as a log end offset.
pub(crate) const OFFSET_MAX: u64 = i64::MAX.unsigned_abs() - 1;

/// Refuses a batch that the topic's settings do not allow, before anything is written.
pub(crate) fn check_batch(
    batch: &SealedBatch<'_>,
    topic_partition: &TopicPartition,
    config: &TopicConfig,
    now: Timestamp,
) -> Result<()> {
    check_size(batch.size() as u64, topic_partition.topic(), config)?;
    if config.message_timestamp_type == TimestampType::CreateTime {
        check_timestamps(batch.header(), topic_partition, config, now)?;
    }
    Ok(())
}

/// Refuses bytes that no setting of the topic lets in.
pub(crate) fn check_size(size: u64, topic: &str, config: &TopicConfig) -> Result<()> {
    let limits = [
        (u64::from(config.max_message_bytes), "max.message.bytes"),
        (u64::from(config.segment_bytes), "segment.bytes"),
    ];
    match limits.into_iter().find(|(limit, _)| size > *limit) {
        None => Ok(()),
        Some((limit, setting)) => {
            Err(Error::RecordTooLarge { topic: topic.to_owned(), size, limit, setting })
        }
    }
}

fn check_timestamps(
    batch: &BatchHeader,
    topic_partition: &TopicPartition,
    config: &TopicConfig,
    now: Timestamp,
) -> Result<()> {
    let refuse = |timestamp: Timestamp, setting: &str, limit: Timestamp| {
        Err(Error::InvalidRecord {
            topic_partition: topic_partition.clone(),
            reason: format!(
                "its timestamp {timestamp} lies beyond {limit}, which {setting} allows"
            ),
        })
    };
    let latest = now.saturating_add(config.message_timestamp_after_max);
    if batch.max_timestamp > latest {
        return refuse(batch.max_timestamp, "message.timestamp.after.max.ms", latest);
    }
    let Some(before_max) = config.message_timestamp_before_max else { return Ok(()) };
    let earliest = now.saturating_sub(before_max);
    // The header knows the largest timestamp only; an uncompressed payload is at hand to look into,
    // and for a compressed one the first record speaks for the batch.
    let first = Timestamp::from_millis(batch.base_timestamp);
    if first != Timestamp::NONE && first < earliest {
        return refuse(first, "message.timestamp.before.max.ms", earliest);
    }
    Ok(())
}

/// Why a segment ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RollReason {
    /// The batch would make it larger than `segment.bytes`.
    Size,
    /// Its first batch is older than `segment.ms`, in record time.
    Age,
    /// One of its indexes is full.
    IndexFull,
    /// The batch's offsets lie too far from its base offset to be indexed.
    OffsetOverflow,
}

/// What the decision to roll depends on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RollFacts {
    /// Bytes in the active segment.
    pub(crate) size: u64,
    /// Its base offset.
    pub(crate) base_offset: u64,
    /// The largest timestamp of its first batch.
    pub(crate) first_timestamp: Option<Timestamp>,
    /// Entries in the offset index and in the time index.
    pub(crate) index_entries: (usize, usize),
    /// Bytes of the batch to be appended.
    pub(crate) batch_size: u64,
    /// Its last offset.
    pub(crate) batch_last_offset: u64,
    /// Its largest timestamp.
    pub(crate) batch_timestamp: Timestamp,
}

/// Whether the active segment must end before the batch is appended.
pub(crate) fn roll_reason(facts: &RollFacts, config: &TopicConfig) -> Option<RollReason> {
    // An empty segment takes anything: rolling it would give the next one the same name.
    if facts.size == 0 {
        return None;
    }
    if facts.size + facts.batch_size > u64::from(config.segment_bytes) {
        return Some(RollReason::Size);
    }
    if is_older(facts, config.segment_ms) {
        return Some(RollReason::Age);
    }
    let bytes = config.segment_index_bytes as usize;
    // The last slot of the time index is reserved for the entry that ends the segment.
    let (offsets_max, times_max) = (bytes / 8, (bytes / 12).saturating_sub(1));
    if facts.index_entries.0 >= offsets_max || facts.index_entries.1 >= times_max {
        return Some(RollReason::IndexFull);
    }
    let relative = facts.batch_last_offset - facts.base_offset;
    i32::try_from(relative).is_err().then_some(RollReason::OffsetOverflow)
}

fn is_older(facts: &RollFacts, segment_ms: Duration) -> bool {
    facts
        .first_timestamp
        .filter(|first| *first >= Timestamp::from_millis(0))
        .is_some_and(|first| facts.batch_timestamp > first.saturating_add(segment_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FACTS: RollFacts = RollFacts {
        size: 1_000,
        base_offset: 100,
        first_timestamp: Some(Timestamp::from_millis(5_000)),
        index_entries: (3, 3),
        batch_size: 24,
        batch_last_offset: 120,
        batch_timestamp: Timestamp::from_millis(6_000),
    };

    fn config() -> TopicConfig {
        TopicConfig::default()
            .segment_bytes(1_024)
            .segment_ms(Duration::from_secs(1))
            .segment_index_bytes(96)
    }

    #[test]
    fn each_limit_is_reached_exactly_and_passed_by_one() {
        let reason = |facts: RollFacts| roll_reason(&facts, &config());
        assert_eq!(reason(FACTS), None, "every limit is just met");
        assert_eq!(reason(RollFacts { batch_size: 25, ..FACTS }), Some(RollReason::Size));
        let later = Timestamp::from_millis(6_001);
        assert_eq!(reason(RollFacts { batch_timestamp: later, ..FACTS }), Some(RollReason::Age));
        assert_eq!(reason(RollFacts { index_entries: (11, 6), ..FACTS }), None);
        let full = Some(RollReason::IndexFull);
        assert_eq!(reason(RollFacts { index_entries: (12, 0), ..FACTS }), full);
        assert_eq!(reason(RollFacts { index_entries: (0, 7), ..FACTS }), full, "one is reserved");
        let last = 100 + u64::from(i32::MAX.unsigned_abs());
        assert_eq!(reason(RollFacts { batch_last_offset: last, ..FACTS }), None);
        let overflow = Some(RollReason::OffsetOverflow);
        assert_eq!(reason(RollFacts { batch_last_offset: last + 1, ..FACTS }), overflow);
    }

    #[test]
    fn an_empty_segment_never_rolls() {
        let facts = RollFacts { size: 0, batch_size: 1 << 40, index_entries: (99, 99), ..FACTS };
        assert_eq!(roll_reason(&facts, &config()), None);
    }

    #[test]
    fn a_segment_without_timestamps_has_no_age() {
        for first_timestamp in [None, Some(Timestamp::NONE)] {
            let facts = RollFacts { first_timestamp, ..FACTS };
            assert_eq!(roll_reason(&facts, &config()), None);
        }
    }
}
