//! Which segments have to go. Pure: the log deletes them.
//!
//! Segments are looked at from the oldest on, up to the first that may stay (Kafka:
//! `UnifiedLog.deleteOldSegments`). Age and size each let a segment go, as in Kafka. Groups that
//! have to consume it first hold it back from both; where neither is set, it goes once they have.

use crate::log::config::TopicConfig;
use crate::time::Timestamp;

/// Why a segment is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RetentionReason {
    /// All of it lies before the log start offset.
    BeforeLogStart,
    /// The log is larger than `retention.bytes` without it.
    Size,
    /// Its youngest record is older than `retention.ms`.
    Age,
    /// Every group of `retention.groups` has committed past it, and nothing else keeps it.
    Consumed,
}

/// What is known of the oldest segment still there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OldestSegment {
    /// The offset after its last record.
    pub(crate) next_offset: u64,
    /// Its bytes.
    pub(crate) size: u64,
    /// The largest timestamp of its records; [`Timestamp::NONE`] if none has one.
    pub(crate) largest_timestamp: Timestamp,
}

/// What is known of the log around it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LogFacts {
    pub(crate) log_start_offset: u64,
    pub(crate) high_watermark: u64,
    /// Bytes in all segments that are still there.
    pub(crate) size: u64,
    /// The lowest committed offset of the groups in `retention.groups`; `None` if there is no such
    /// group, or one of them has not committed yet.
    pub(crate) consumed: Option<u64>,
    /// The time by which ages are counted.
    pub(crate) now: Timestamp,
}

/// Why the oldest segment has to go, if it has to.
pub(crate) fn reason_to_delete(
    segment: &OldestSegment,
    log: &LogFacts,
    config: &TopicConfig,
) -> Option<RetentionReason> {
    // What is not yet safely stored is never deleted.
    if segment.next_offset > log.high_watermark || segment.size == 0 {
        return None;
    }
    if segment.next_offset <= log.log_start_offset {
        return Some(RetentionReason::BeforeLogStart);
    }
    if is_held(segment, log, config) {
        return None;
    }
    if config.retention_bytes.is_some_and(|limit| log.size.saturating_sub(segment.size) >= limit) {
        return Some(RetentionReason::Size);
    }
    if let Some(age) = config.retention_ms
        && segment.largest_timestamp != Timestamp::NONE
        && segment.largest_timestamp.saturating_add(age) < log.now
    {
        return Some(RetentionReason::Age);
    }
    let only_groups = config.retention_bytes.is_none() && config.retention_ms.is_none();
    (only_groups && !config.retention_groups.is_empty()).then_some(RetentionReason::Consumed)
}

/// Whether a group that has to consume the segment has not done so.
fn is_held(segment: &OldestSegment, log: &LogFacts, config: &TopicConfig) -> bool {
    let consumed = log.consumed.is_some_and(|consumed| segment.next_offset <= consumed);
    !config.retention_groups.is_empty() && !consumed
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SEGMENT: OldestSegment = OldestSegment {
        next_offset: 100,
        size: 10,
        largest_timestamp: Timestamp::from_millis(5_000),
    };
    const LOG: LogFacts = LogFacts {
        log_start_offset: 0,
        high_watermark: 500,
        size: 50,
        consumed: None,
        now: Timestamp::from_millis(6_000),
    };

    fn forever() -> TopicConfig {
        TopicConfig::default().retention_ms(None)
    }

    #[test]
    fn without_rules_nothing_goes() {
        assert_eq!(reason_to_delete(&SEGMENT, &LOG, &forever()), None);
    }

    #[test]
    fn age_is_counted_from_the_youngest_record_and_must_be_passed() {
        let config = forever().retention_ms(Duration::from_secs(1));
        assert_eq!(reason_to_delete(&SEGMENT, &LOG, &config), None, "exactly as old as allowed");
        let log = LogFacts { now: Timestamp::from_millis(6_001), ..LOG };
        assert_eq!(reason_to_delete(&SEGMENT, &log, &config), Some(RetentionReason::Age));
        let untimed = OldestSegment { largest_timestamp: Timestamp::NONE, ..SEGMENT };
        assert_eq!(reason_to_delete(&untimed, &log, &config), None, "no timestamp, no age");
    }

    #[test]
    fn size_never_cuts_below_the_limit() {
        let config = forever().retention_bytes(40);
        assert_eq!(reason_to_delete(&SEGMENT, &LOG, &config), Some(RetentionReason::Size));
        let config = forever().retention_bytes(41);
        assert_eq!(reason_to_delete(&SEGMENT, &LOG, &config), None);
    }

    #[test]
    fn consumed_segments_go_once_every_named_group_is_past_them() {
        let config = forever().retention_groups(["billing"]);
        let consumed = |offset| LogFacts { consumed: offset, ..LOG };
        assert_eq!(reason_to_delete(&SEGMENT, &consumed(None), &config), None);
        assert_eq!(reason_to_delete(&SEGMENT, &consumed(Some(99)), &config), None);
        let reason = Some(RetentionReason::Consumed);
        assert_eq!(reason_to_delete(&SEGMENT, &consumed(Some(100)), &config), reason);
        assert_eq!(reason_to_delete(&SEGMENT, &consumed(Some(100)), &forever()), None);
    }

    #[test]
    fn what_a_named_group_has_not_consumed_is_kept_whatever_its_age_and_the_size() {
        let config =
            forever().retention_ms(Duration::ZERO).retention_bytes(0).retention_groups(["billing"]);
        for consumed in [None, Some(99)] {
            let log = LogFacts { consumed, ..LOG };
            assert_eq!(reason_to_delete(&SEGMENT, &log, &config), None);
        }
        let log = LogFacts { consumed: Some(100), ..LOG };
        assert_eq!(reason_to_delete(&SEGMENT, &log, &config), Some(RetentionReason::Size));
    }

    #[test]
    fn what_is_consumed_is_still_kept_for_its_time() {
        let config = forever().retention_ms(Duration::from_secs(60)).retention_groups(["billing"]);
        let log = LogFacts { consumed: Some(100), ..LOG };
        assert_eq!(reason_to_delete(&SEGMENT, &log, &config), None);
        let later = LogFacts { now: Timestamp::from_millis(65_001), ..log };
        assert_eq!(reason_to_delete(&SEGMENT, &later, &config), Some(RetentionReason::Age));
    }

    #[test]
    fn what_lies_above_the_high_watermark_stays_whatever_the_rules() {
        let config = forever().retention_bytes(0).retention_ms(Duration::ZERO);
        let log = LogFacts { high_watermark: 99, ..LOG };
        assert_eq!(reason_to_delete(&SEGMENT, &log, &config), None);
    }

    #[test]
    fn what_lies_before_the_log_start_goes_without_any_rule() {
        let log = LogFacts { log_start_offset: 100, ..LOG };
        assert_eq!(
            reason_to_delete(&SEGMENT, &log, &forever()),
            Some(RetentionReason::BeforeLogStart)
        );
    }
}
