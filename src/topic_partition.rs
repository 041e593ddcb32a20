//! The address of a log: a topic and one of its partitions; and the rules for topic names.

use std::fmt;
use std::sync::Arc;

use crate::error::{Error, Result};

/// The longest topic name, in bytes (Kafka's limit, `Topic.MAX_NAME_LENGTH`).
const TOPIC_NAME_LENGTH_MAX: usize = 249;

/// A topic and the number of one of its partitions: the address of one log.
///
/// Cheap to clone. Shown as Kafka shows it, `orders-3`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    topic: Arc<str>,
    partition: u32,
}

impl TopicPartition {
    /// Names a partition. Nothing is checked here: an address may name what does not exist.
    ///
    /// ```
    /// # use sapwood::TopicPartition;
    /// assert_eq!(TopicPartition::new("orders", 3).to_string(), "orders-3");
    /// ```
    pub fn new(topic: impl Into<Arc<str>>, partition: u32) -> Self {
        Self { topic: topic.into(), partition }
    }

    /// The topic's name.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// The number of the partition, from 0.
    pub fn partition(&self) -> u32 {
        self.partition
    }

    /// The name of the partition's directory, as Kafka names it: `topic-partition`.
    pub(crate) fn directory_name(&self) -> String {
        self.to_string()
    }

    /// Reads a directory name back: split at the last `-`, the number in plain decimal.
    pub(crate) fn from_directory_name(name: &str) -> Option<Self> {
        let (topic, number) = name.rsplit_once('-')?;
        let partition: u32 = number.parse().ok()?;
        // `+3` and `007` parse as numbers but are not names that we or Kafka write.
        if partition.to_string() != number || check_topic_name(topic).is_err() {
            return None;
        }
        Some(Self::new(topic, partition))
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

impl fmt::Debug for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Checks a topic name by Kafka's rules (`org.apache.kafka.common.internals.Topic`): 1 to 249 of
/// `[a-zA-Z0-9._-]`, and neither `.` nor `..`. A name that passes is safe as part of a path
/// (contract, clause 27).
pub(crate) fn check_topic_name(name: &str) -> Result<()> {
    let reason = if name.is_empty() {
        "it is empty"
    } else if name == "." || name == ".." {
        "`.` and `..` are directories"
    } else if name.len() > TOPIC_NAME_LENGTH_MAX {
        "it is longer than 249 bytes"
    } else if !name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-')) {
        "only ASCII letters, digits, `.`, `_` and `-` are allowed"
    } else {
        return Ok(());
    };
    Err(Error::InvalidTopicName { topic: name.to_owned(), reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_kafka_accepts_pass() {
        for name in ["a", "orders", "A.b_c-9", "__consumer_offsets", "...", &"x".repeat(249)] {
            check_topic_name(name).unwrap();
        }
    }

    #[test]
    fn names_that_could_leave_the_directory_or_collide_are_refused() {
        for name in
            ["", ".", "..", "../evil", "a/b", "a\\b", "a\0b", "über", "a b", &"x".repeat(250)]
        {
            assert!(
                matches!(check_topic_name(name), Err(Error::InvalidTopicName { .. })),
                "{name:?}"
            );
        }
    }

    #[test]
    fn directory_names_split_at_the_last_dash() {
        let address = TopicPartition::from_directory_name("a-b-12").unwrap();
        assert_eq!((address.topic(), address.partition()), ("a-b", 12));
        assert_eq!(address.directory_name(), "a-b-12");
    }

    #[test]
    fn directory_names_that_nobody_writes_are_not_partitions() {
        for name in
            ["lost+found", "orders", "orders-", "orders-+1", "orders-007", "-1", "o-1-delete"]
        {
            assert_eq!(TopicPartition::from_directory_name(name), None, "{name}");
        }
    }
}
