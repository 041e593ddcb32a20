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
    #[error(
        "another bridge with the same group has taken over, or Kafka was away for longer than a transaction \
             may take ({0}); if no other one runs, start this one again: it goes on from its last commit"
    )]
    Fenced(KafkaError),
    #[error(
        "{topic}-{partition} ends at offset {found} and the bridge has come as far as {known}: it is \
             not the log that was mirrored before; mirror this one into an empty topic, with another --group"
    )]
    AnotherLog { topic: String, partition: u32, known: u64, found: u64 },
    #[error(
        "what stands in {topic}-{partition} since the last commit of the bridge is not what Kafka has \
             there: something else has written to it, or Kafka has compacted the topic since; mirror into a \
             new directory"
    )]
    AnotherWriter { topic: String, partition: u32 },
    #[error(
        "Kafka's {topic}-{partition} has records in it and no progress of the bridge's group: it was lost, or \
             another group has mirrored them; go on with that, or mirror into an empty topic"
    )]
    NoProgress { topic: String, partition: u32 },
    #[error("the progress of {topic}-{partition} reads {metadata:?}, which no bridge has written")]
    Progress { topic: String, partition: u32, metadata: String },
    #[error(
        "Kafka no longer has offset {offset} of {topic}-{partition}, which would come next: its \
             retention was faster than the bridge"
    )]
    Gone { topic: String, partition: u32, offset: i64 },
    #[error(
        "Kafka refuses to go on: {0}; what was confirmed is safe, so mend that and start the bridge again"
    )]
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
