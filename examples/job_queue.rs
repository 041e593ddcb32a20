//! A durable queue of jobs, some of which fail: a share group.
//!
//! ```text
//! cargo run --release --example job_queue -- [--workers N] [--fail-every K] [--dir DIR]
//! ```
//!
//! More workers than partitions take jobs of one topic. Of every K jobs one fails: half of these succeed when
//! they are tried again, the others never do and end as dead letters with the reason in their headers. The
//! last line says what became of all of them.

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sapwood::{Broker, Error, Record, ShareRecord, Topic, TopicConfig};

type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

const TOPIC: &str = "jobs";
const FAILED: &str = "jobs.failed";
const GROUP: &str = "workers";
const JOBS: u64 = 10_000;

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("job_queue: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<bool> {
    let arguments = Arguments::parse()?;
    let broker = match &arguments.directory {
        Some(directory) => Broker::open(directory)?,
        None => Broker::in_memory()?,
    };
    let jobs = topic(&broker, TOPIC, 2)?;
    let failed = topic(&broker, FAILED, 1)?;
    let before = records(&failed);

    let producer = broker.producer().build()?;
    for number in 0..JOBS {
        producer.send(&jobs, Record::new(&number.to_string()))?;
    }
    producer.flush()?;

    let queue =
        Queue { broker: &broker, fail_every: arguments.fail_every, accepted: AtomicU64::new(0) };
    std::thread::scope(|scope| {
        let workers: Vec<_> =
            (0..arguments.workers).map(|_| scope.spawn(|| queue.work())).collect();
        workers.into_iter().try_for_each(|worker| worker.join().expect("no worker panics"))
    })?;

    let accepted = queue.accepted.load(Ordering::Relaxed);
    let (dead, pending) = (records(&failed) - before, queue.pending()?);
    broker.close()?;
    println!("accepted {accepted}, dead-lettered {dead}, pending {pending}");
    Ok(pending == 0 && accepted + dead >= JOBS)
}

fn topic(broker: &Broker, name: &str, partitions: u32) -> Result<Topic> {
    match broker.topic(name) {
        Err(Error::UnknownTopic { .. }) => {
            Ok(broker.create_topic(name, TopicConfig::default().partitions(partitions))?)
        }
        found => Ok(found?),
    }
}

fn records(topic: &Topic) -> u64 {
    topic.partitions().iter().map(|partition| partition.high_watermark()).sum()
}

/// What workers have in common.
struct Queue<'a> {
    broker: &'a Broker,
    /// 0: none fails.
    fail_every: u64,
    accepted: AtomicU64,
}

impl Queue<'_> {
    /// A worker, until there is nothing left to do.
    fn work(&self) -> Result<()> {
        let mut worker = self
            .broker
            .share_consumer(GROUP)
            .max_poll_records(100)
            .max_delivery_count(3)
            .retry_backoff(Duration::from_millis(5), Duration::from_millis(50))
            .dead_letter_topic(FAILED)
            .subscribe([TOPIC])?;
        loop {
            let records = worker.poll(Duration::from_millis(100))?;
            let mut failed = 0;
            for record in &records {
                if !self.succeeds(&record)? {
                    // It comes again after a while; after three deliveries it is a dead letter.
                    record.release()?;
                    failed += 1;
                }
            }
            // The rest is done, with one write for all.
            records.accept_all()?;
            self.accepted.fetch_add(records.len() as u64 - failed, Ordering::Relaxed);
            if records.is_empty() && self.pending()? == 0 {
                return Ok(());
            }
        }
    }

    /// Does a job.
    fn succeeds(&self, record: &ShareRecord<'_>) -> Result<bool> {
        let number: u64 = std::str::from_utf8(record.value().unwrap_or_default())?.parse()?;
        if self.fail_every == 0 || !number.is_multiple_of(self.fail_every) {
            return Ok(true);
        }
        let never_succeeds = (number / self.fail_every).is_multiple_of(2);
        Ok(!never_succeeds && record.delivery_count() > 1)
    }

    fn pending(&self) -> Result<u64> {
        let group = self.broker.describe_share_group(GROUP)?;
        Ok(group.map_or(0, |group| group.partitions.iter().map(|partition| partition.lag).sum()))
    }
}

struct Arguments {
    workers: usize,
    fail_every: u64,
    directory: Option<std::path::PathBuf>,
}

impl Arguments {
    fn parse() -> Result<Self> {
        let mut parsed = Self { workers: 8, fail_every: 50, directory: None };
        let mut arguments = std::env::args_os().skip(1);
        while let Some(argument) = arguments.next() {
            let value = arguments.next().ok_or_else(|| format!("{argument:?} takes a value"))?;
            let number = || value.to_str().and_then(|text| text.parse::<u64>().ok());
            match argument.to_str() {
                Some("--dir") => parsed.directory = Some(value.into()),
                Some("--workers") => {
                    let workers = number().filter(|workers| *workers > 0);
                    parsed.workers =
                        workers.ok_or("--workers takes a number from 1")?.try_into()?;
                }
                Some("--fail-every") => {
                    parsed.fail_every = number().ok_or("--fail-every takes a number")?;
                }
                _ => return Err(format!("unknown argument {argument:?}").into()),
            }
        }
        Ok(parsed)
    }
}
