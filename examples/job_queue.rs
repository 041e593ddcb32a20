//! A queue of jobs with more workers than partitions: a share group.
//!
//! ```text
//! cargo run --release --example job_queue -- [--workers N] [--fail-every K] [--jobs N] [--dir DIR]
//! ```
//!
//! Each job is given to one worker at a time, and to another one if it fails. Of every K jobs one always
//! fails, and one fails the first time; after three deliveries a job is a dead letter, which says why. One
//! job is for later. One worker panics in the middle of its work: what it had is done by the others. Nobody
//! waits behind a job that fails. Without `--dir` all is in memory.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use sapwood::{
    Broker, Clock, Error, NOT_BEFORE_HEADER, Record, ShareConsumer, ShareRecord, SystemClock,
    Topic, TopicConfig,
};

type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

const JOBS: &str = "jobs";
const FAILED: &str = "jobs.failed";
const GROUP: &str = "workers";
const DELIVERIES_MAX: u16 = 3;

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
    let jobs = topic(&broker, JOBS)?;
    let failed = topic(&broker, FAILED)?;
    let letters_before = count(&failed);
    let sent = send(&broker, &jobs, &arguments)?;

    let shop = Shop {
        broker: &broker,
        arguments: &arguments,
        accepted: AtomicU64::new(0),
        has_panicked: AtomicBool::new(false),
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..arguments.workers).map(|_| scope.spawn(|| shop.work())).collect();
        for worker in workers {
            match worker.join() {
                Ok(done) => done?,
                Err(_) => println!("a worker has panicked; the others do what it had"),
            }
        }
        // If all of them have panicked, there being but one.
        shop.work()
    })?;

    let accepted = shop.accepted.into_inner();
    tell_why(&broker, letters_before)?;
    let dead = count(&failed) - letters_before;
    let group = broker.describe_share_group(GROUP)?.ok_or("the group has been there")?;
    let pending: u64 = group.partitions.iter().map(|partition| partition.lag).sum();
    broker.close()?;
    println!("accepted {accepted}, dead-lettered {dead}, pending {pending}");
    Ok(pending == 0 && accepted + dead >= sent)
}

fn topic(broker: &Broker, name: &str) -> Result<Topic> {
    match broker.topic(name) {
        Err(Error::UnknownTopic { .. }) => {
            Ok(broker.create_topic(name, TopicConfig::default().partitions(2))?)
        }
        found => Ok(found?),
    }
}

fn count(topic: &Topic) -> u64 {
    topic.partitions().iter().map(|of| of.high_watermark() - of.log_start_offset()).sum()
}

/// Sends the jobs, the first of which is for later.
fn send(broker: &Broker, jobs: &Topic, arguments: &Arguments) -> Result<u64> {
    let producer = broker.producer().build()?;
    let soon = SystemClock::new().now().saturating_add(Duration::from_millis(300)).to_string();
    for number in 0..arguments.jobs {
        let (text, key) = (format!("job {number}"), number.to_string());
        let job = Record::new(&text).key(&key);
        producer
            .send(jobs, if number == 0 { job.header(NOT_BEFORE_HEADER, &soon) } else { job })?;
    }
    producer.flush()?;
    Ok(arguments.jobs)
}

/// What all workers share.
struct Shop<'a> {
    broker: &'a Broker,
    arguments: &'a Arguments,
    accepted: AtomicU64,
    has_panicked: AtomicBool,
}

impl Shop<'_> {
    fn worker(&self) -> Result<ShareConsumer> {
        let worker = self.broker.share_consumer(GROUP).max_delivery_count(DELIVERIES_MAX);
        let worker = worker.dead_letter_topic(FAILED).max_poll_records(16);
        Ok(worker
            .retry_backoff(Duration::from_millis(5), Duration::from_millis(50))
            .subscribe([JOBS])?)
    }

    /// Works until there is nothing left, for anybody.
    fn work(&self) -> Result<()> {
        let mut worker = self.worker()?;
        loop {
            let records = worker.poll(Duration::from_millis(100))?;
            for record in &records {
                self.do_job(&record)?;
            }
            if records.is_empty() && self.is_all_done()? {
                return Ok(());
            }
        }
    }

    fn is_all_done(&self) -> Result<bool> {
        let group = self.broker.describe_share_group(GROUP)?;
        Ok(group.is_none_or(|group| group.partitions.iter().all(|partition| partition.lag == 0)))
    }

    fn do_job(&self, job: &ShareRecord<'_>) -> Result<()> {
        let key = job.key().and_then(|key| str::from_utf8(key).ok());
        let Some(number) = key.and_then(|key| key.parse::<u64>().ok()) else {
            return Ok(job.reject("it has no number")?);
        };
        if number == self.arguments.jobs / 2 && !self.has_panicked.swap(true, Ordering::Relaxed) {
            panic!("job {number} was too much");
        }
        let fail_every = self.arguments.fail_every;
        let (always_fails, fails_once) = (number % fail_every == 1, number % fail_every == 2);
        if always_fails || (fails_once && job.delivery_count() == 1) {
            return Ok(job.release()?);
        }
        job.accept()?;
        self.accepted.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// What stands in the headers of dead letters, by reason.
fn tell_why(broker: &Broker, letters_before: u64) -> Result<()> {
    let mut consumer = broker.consumer().subscribe([FAILED])?;
    let mut reasons: BTreeMap<String, u64> = BTreeMap::new();
    loop {
        let records = consumer.poll(Duration::ZERO)?;
        if records.is_empty() {
            break;
        }
        for record in &records {
            let reason = record.headers().find(|header| header.name() == "__dlq.errors.message");
            let reason = reason.and_then(|header| header.value()).unwrap_or_default();
            *reasons.entry(String::from_utf8_lossy(reason).into_owned()).or_default() += 1;
        }
    }
    if letters_before > 0 {
        println!("{letters_before} dead letters were there before");
    }
    for (reason, count) in reasons {
        println!("{count} dead letters: {reason}");
    }
    Ok(())
}

struct Arguments {
    workers: usize,
    fail_every: u64,
    jobs: u64,
    directory: Option<PathBuf>,
}

impl Arguments {
    fn parse() -> Result<Self> {
        let mut parsed = Self { workers: 8, fail_every: 10, jobs: 2_000, directory: None };
        let mut arguments = std::env::args().skip(1);
        while let Some(name) = arguments.next() {
            let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
            match name.as_str() {
                "--workers" => parsed.workers = value.parse()?,
                "--fail-every" => parsed.fail_every = value.parse()?,
                "--jobs" => parsed.jobs = value.parse()?,
                "--dir" => parsed.directory = Some(PathBuf::from(value)),
                _ => return Err(format!("there is no {name}; see the top of job_queue.rs").into()),
            }
        }
        if parsed.workers == 0 || parsed.fail_every == 0 {
            return Err("--workers and --fail-every must be at least 1".into());
        }
        Ok(parsed)
    }
}
