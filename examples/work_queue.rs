//! A durable queue of jobs between the parts of one program.
//!
//! ```text
//! cargo run --release --example work_queue -- [--dir DIR]
//! ```
//!
//! One thread hands out jobs, another works on them. A job is committed after it is done, so that a
//! program that dies in the middle finds it again (at least once: a job must bear being done twice).
//! Jobs that fail go to a second topic with the reason in a header. Segments whose jobs are all done
//! are deleted by themselves: the topic is kept only until the group `workers` has consumed it.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sapwood::{Broker, Error, Record, Result, Topic, TopicConfig};

const JOBS: u32 = 1_000;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("work_queue: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let broker = Broker::open(directory())?;
    let until_consumed = TopicConfig::default().retention_ms(None).retention_groups(["workers"]);
    let jobs = topic(&broker, "jobs", until_consumed)?;
    let failed = topic(&broker, "jobs.failed", TopicConfig::default())?;

    let all_sent = AtomicBool::new(false);
    let (sent, worked) = std::thread::scope(|scope| {
        let worker = scope.spawn(|| work(&broker, &failed, &all_sent));
        let sent = hand_out(&broker, &jobs);
        all_sent.store(true, Ordering::Release);
        (sent, worker.join().expect("the worker does not panic"))
    });
    sent?;
    let (done, given_up) = worked?;
    println!("{JOBS} jobs handed out, {done} done, {given_up} failed and kept in `jobs.failed`");
    broker.close()
}

fn hand_out(broker: &Broker, jobs: &Topic) -> Result<()> {
    let producer = broker.producer().build()?;
    for number in 0..JOBS {
        producer.send(jobs, Record::new(&format!("resize image {number}")))?;
    }
    // From here on no crash can lose a job.
    producer.flush()
}

fn work(broker: &Broker, failed: &Topic, all_sent: &AtomicBool) -> Result<(u32, u32)> {
    let producer = broker.producer().build()?;
    let consumer = broker.consumer().group("workers").auto_commit(None).max_poll_records(50);
    let mut consumer = consumer.subscribe(["jobs"])?;
    let (mut done, mut given_up) = (0, 0);
    loop {
        let no_more = all_sent.load(Ordering::Acquire);
        let jobs = consumer.poll(Duration::from_millis(100))?;
        if jobs.is_empty() && no_more {
            consumer.close()?;
            return Ok((done, given_up));
        }
        for job in &jobs {
            let job = job.value().unwrap_or_default();
            match resize(job) {
                Ok(()) => done += 1,
                Err(reason) => {
                    producer.send(failed, Record::new(job).header("reason", reason))?;
                    given_up += 1;
                }
            }
        }
        // First the failures are safe, then the jobs count as done.
        producer.flush()?;
        consumer.commit()?;
    }
}

fn resize(job: &[u8]) -> Result<(), &'static str> {
    if job.ends_with(b"13") { Err("the image is unlucky") } else { Ok(()) }
}

fn topic(broker: &Broker, name: &str, config: TopicConfig) -> Result<Topic> {
    match broker.topic(name) {
        Err(Error::UnknownTopic { .. }) => broker.create_topic(name, config),
        found => found,
    }
}

fn directory() -> PathBuf {
    let mut arguments = std::env::args_os().skip_while(|argument| argument != "--dir");
    arguments.nth(1).map_or_else(|| PathBuf::from("sapwood-work-queue"), PathBuf::from)
}
