//! The client of Kafka's: how it is set up, and what it says when brokers are away.

use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::client::{Client, ClientContext};
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::MetadataTopic;
use rdkafka::producer::{DeliveryResult, ProducerContext};

use crate::failure::{Failure, Result};
use crate::{Interrupt, Mirror};

/// How long one call may wait for a broker before it is looked whether to go on.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(5);
const RETRY_AFTER: Duration = Duration::from_millis(300);
/// Waiting is told of when it has lasted this long.
const TELL_AFTER: Duration = Duration::from_secs(2);
/// And then this often.
const TELL_INTERVAL: Duration = Duration::from_secs(10);

pub fn config(mirror: &Mirror) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &mirror.bootstrap)
        .set("client.id", "sapwood-kafka-bridge")
        .set("allow.auto.create.topics", "false")
        // A broker that was away for a while is back within a second.
        .set("reconnect.backoff.max.ms", "1000");
    config
}

/// Where the client tells of what happens in the background.
#[derive(Default)]
pub struct Context {
    told_at: Mutex<Option<Instant>>,
    failed_delivery: Mutex<Option<KafkaError>>,
}

impl Context {
    /// The first record that the client has given up.
    pub fn take_failed_delivery(&self) -> Option<KafkaError> {
        lock(&self.failed_delivery).take()
    }
}

impl ClientContext for Context {
    fn log(&self, _: RDKafkaLogLevel, _: &str, _: &str) {}

    /// The client goes on by itself: this is for whoever wonders why nothing moves.
    fn error(&self, error: KafkaError, reason: &str) {
        let mut told_at = lock(&self.told_at);
        if told_at.is_none_or(|at| at.elapsed() >= TELL_INTERVAL) {
            *told_at = Some(Instant::now());
            eprintln!("waiting for Kafka: {error}: {reason}");
        }
    }
}

impl ConsumerContext for Context {}

impl ProducerContext for Context {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            lock(&self.failed_delivery).get_or_insert_with(|| error.clone());
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Repeats a call for as long as brokers are away. Tells of it too: what the client has to say comes out only
/// where it is polled.
pub fn persist<T>(
    interrupt: &Interrupt,
    mut call: impl FnMut() -> Result<T, KafkaError>,
) -> Result<T> {
    let started = Instant::now();
    let mut told_at = None;
    loop {
        match call() {
            Err(error) if is_passing(&error) => {
                interrupt.check()?;
                // A single one of these is everyday life.
                let is_due = told_at.is_none_or(|at: Instant| at.elapsed() >= TELL_INTERVAL);
                if is_due && started.elapsed() >= TELL_AFTER {
                    told_at = Some(Instant::now());
                    eprintln!("waiting for Kafka: {error}");
                }
                thread::sleep(RETRY_AFTER);
            }
            done => return Ok(done?),
        }
    }
}

/// Whether it may go better the next time.
fn is_passing(error: &KafkaError) -> bool {
    if let KafkaError::Transaction(error) = error {
        return error.is_retriable() && !error.txn_requires_abort() && !error.is_fatal();
    }
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::AllBrokersDown
                | RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::BrokerNotAvailable
                | RDKafkaErrorCode::CoordinatorLoadInProgress
                | RDKafkaErrorCode::CoordinatorNotAvailable
                | RDKafkaErrorCode::LeaderNotAvailable
                | RDKafkaErrorCode::NetworkException
                | RDKafkaErrorCode::NotCoordinator
                | RDKafkaErrorCode::NotLeaderForPartition
                | RDKafkaErrorCode::OperationTimedOut
                | RDKafkaErrorCode::RequestTimedOut
                | RDKafkaErrorCode::Resolve
                // What the client says of a partition that is there while it cannot ask anybody.
                | RDKafkaErrorCode::UnknownPartition
                | RDKafkaErrorCode::UnstableOffsetCommit
                | RDKafkaErrorCode::WaitingForCoordinator
        )
    )
}

/// How many partitions Kafka has of a topic.
pub fn partition_count<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
    interrupt: &Interrupt,
) -> Result<usize> {
    persist(interrupt, || {
        let metadata = client.fetch_metadata(Some(topic), CALL_TIMEOUT)?;
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        match found.and_then(MetadataTopic::error) {
            None => Ok(found.map_or(0, |found| found.partitions().len())),
            Some(error)
                if RDKafkaErrorCode::from(error) == RDKafkaErrorCode::UnknownTopicOrPartition =>
            {
                Ok(0)
            }
            Some(error) => Err(KafkaError::MetadataFetch(error.into())),
        }
    })
    .and_then(|count| if count == 0 { Err(Failure::NoTopic(topic.to_owned())) } else { Ok(count) })
}
