//! The two small text files that Kafka keeps in every partition's directory: which topic it belongs
//! to and which leader epochs its log was written in.
//!
//! Bytes only; whoever writes them does it as Kafka does, by a temporary file, a sync and a rename.
//! Sources: `PartitionMetadataFile`, `LeaderEpochCheckpointFile` and `CheckpointFile` of Kafka.

use crate::topic::topic_id::TopicId;

/// Names the topic by its id, so that Kafka can tell a topic from another of the same name.
pub(crate) const PARTITION_METADATA_FILE: &str = "partition.metadata";

/// Lists the leader epochs and the offset at which each begins.
pub(crate) const LEADER_EPOCH_FILE: &str = "leader-epoch-checkpoint";

/// Why one of the files cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum KafkaFileError {
    /// Written by a version of Kafka that is not known here.
    #[error("it is of version {0:?}; known is version 0")]
    Unsupported(String),
    #[error("{0}")]
    Malformed(&'static str),
}

/// The content of `partition.metadata`. There is no newline at its end.
pub(crate) fn encode_partition_metadata(topic_id: TopicId) -> String {
    format!("version: 0\ntopic_id: {topic_id}")
}

/// The topic id in a `partition.metadata` file.
pub(crate) fn parse_partition_metadata(file: &[u8]) -> Result<TopicId, KafkaFileError> {
    let (mut version, mut topic_id) = (None, None);
    for line in text(file)?.lines().filter(|line| !line.trim().is_empty()) {
        match line.split_once(':').map(|(name, value)| (name.trim(), value.trim())) {
            Some(("version", value)) if version.is_none() => version = Some(value),
            Some(("topic_id", value)) if topic_id.is_none() => topic_id = Some(value),
            _ => return Err(KafkaFileError::Malformed("it has a line that does not belong there")),
        }
    }
    check_version(version)?;
    topic_id
        .and_then(|id| id.parse().ok())
        .ok_or(KafkaFileError::Malformed("it has no usable topic id"))
}

/// The content of `leader-epoch-checkpoint` for a log that was written in epoch 0 alone, as all of
/// ours are, from `start_offset` on.
pub(crate) fn encode_leader_epochs(start_offset: u64) -> String {
    format!("0\n1\n0 {start_offset}\n")
}

fn text(file: &[u8]) -> Result<&str, KafkaFileError> {
    str::from_utf8(file).map_err(|_| KafkaFileError::Malformed("it is not text"))
}

fn check_version(version: Option<&str>) -> Result<(), KafkaFileError> {
    match version {
        Some("0") => Ok(()),
        Some(other) if other.parse::<u32>().is_ok() => {
            Err(KafkaFileError::Unsupported(other.to_owned()))
        }
        _ => Err(KafkaFileError::Malformed("it does not say its version")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic_id() -> TopicId {
        "ASNFZ4mrze_-3LqYdlQyEA".parse().unwrap()
    }

    #[test]
    fn partition_metadata_is_kafkas_to_the_byte() {
        let file = encode_partition_metadata(topic_id());
        assert_eq!(file, "version: 0\ntopic_id: ASNFZ4mrze_-3LqYdlQyEA");
        assert_eq!(file.len(), 43);
        assert_eq!(parse_partition_metadata(file.as_bytes()), Ok(topic_id()));
    }

    #[test]
    fn partition_metadata_may_end_in_a_newline_or_come_in_another_order() {
        let file = b"topic_id: ASNFZ4mrze_-3LqYdlQyEA\nversion: 0\n";
        assert_eq!(parse_partition_metadata(file), Ok(topic_id()));
    }

    #[test]
    fn damaged_partition_metadata_is_refused_wherever_it_is_cut_or_changed() {
        let file = encode_partition_metadata(topic_id()).into_bytes();
        for len in 0..file.len() {
            assert!(parse_partition_metadata(&file[..len]).is_err(), "cut at {len}");
        }
        for damaged in [
            "version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAAAA",
            "version: 0\ntopic_id: ASNFZ4mrze_-3LqYdlQyEA\nmore: 1",
            "version: 0\nversion: 0\ntopic_id: ASNFZ4mrze_-3LqYdlQyEA",
            "topic_id: ASNFZ4mrze_-3LqYdlQyEA",
        ] {
            assert!(parse_partition_metadata(damaged.as_bytes()).is_err(), "{damaged}");
        }
        assert!(parse_partition_metadata(b"version: 0\ntopic_id: \xff").is_err());
    }

    #[test]
    fn files_of_another_version_are_unsupported_and_not_damaged() {
        let unsupported = KafkaFileError::Unsupported("1".to_owned());
        let file = b"version: 1\ntopic_id: ASNFZ4mrze_-3LqYdlQyEA";
        assert_eq!(parse_partition_metadata(file), Err(unsupported));
    }

    #[test]
    fn leader_epochs_are_kafkas_to_the_byte() {
        assert_eq!(encode_leader_epochs(0), "0\n1\n0 0\n");
        let file = encode_leader_epochs(4711);
        assert_eq!(file, "0\n1\n0 4711\n");
    }
}
