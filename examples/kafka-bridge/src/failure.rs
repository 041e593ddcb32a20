//! Why the bridge ends before its time, in sentences for whoever runs it.

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

pub type Result<T, E = Failure> = std::result::Result<T, E>;

#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("interrupted")]
    Interrupted,
    #[error(
        "topic {topic} has {needed} partitions and Kafka's has {found}; create it with as many"
    )]
    Partitions { topic: String, needed: u32, found: usize },
    #[error("Kafka has no topic {0}; create it, with as many partitions as it has here")]
    NoTopic(String),
    #[error("another bridge with the same group has taken over: {0}")]
    Fenced(KafkaError),
    #[error(
        "{topic}-{partition} ends at offset {found} and the bridge has come as far as {known}: it is \
             not the log that was mirrored before; choose another --group to begin anew"
    )]
    AnotherLog { topic: String, partition: u32, known: u64, found: u64 },
    #[error(
        "{topic}-{partition} has {found} records more than the bridge knows of and than Kafka had for \
             it: something else writes to it"
    )]
    AnotherWriter { topic: String, partition: u32, found: u64 },
    #[error("the progress of {topic}-{partition} reads {metadata:?}, which no bridge has written")]
    Progress { topic: String, partition: u32, metadata: String },
    #[error(
        "Kafka no longer has offset {offset} of {topic}-{partition}, which would come next: its \
             retention was faster than the bridge"
    )]
    Gone { topic: String, partition: u32, offset: i64 },
    #[error("{0}")]
    Kafka(KafkaError),
    #[error(transparent)]
    Sapwood(#[from] sapwood::Error),
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl From<KafkaError> for Failure {
    fn from(error: KafkaError) -> Self {
        match error.rdkafka_error_code() {
            Some(
                RDKafkaErrorCode::Fenced
                | RDKafkaErrorCode::ProducerFenced
                | RDKafkaErrorCode::InvalidProducerEpoch,
            ) => Self::Fenced(error),
            _ => Self::Kafka(error),
        }
    }
}
