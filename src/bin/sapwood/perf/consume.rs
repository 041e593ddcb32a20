//! `sapwood perf consume`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use sapwood::{Broker, Partition, Topic};

use super::{Latencies, Report, topic_settings};
use crate::consume::Ends;
use crate::directory::{Directory, find_topic};
use crate::exit::{Result, Stop};
use crate::signals::Interrupt;

/// Measure how fast the records of a topic are read
///
/// Reads from the beginning to where the topic ends when it starts, once. The directory is opened
/// read-only, as another process's would be: files are copied and not mapped, which an application
/// that holds the directory reads faster than.
#[derive(Args)]
#[command(after_help = "\
Examples:
  sapwood --dir perf perf consume p
  sapwood --dir perf perf consume p --threads 4 --max-poll-records 5000 --json")]
pub(crate) struct PerfConsume {
    /// The topic to read
    topic: String,

    /// End after about so many records, all threads together; otherwise all there are
    #[arg(short, long, value_name = "N")]
    num_records: Option<u64>,

    /// How many consumers divide the partitions among themselves
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: u16,

    /// max.poll.records of the consumers
    #[arg(long, value_name = "N", default_value_t = 500)]
    max_poll_records: usize,

    /// max.partition.fetch.bytes of the consumers
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 20)]
    fetch_size: usize,

    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

/// What one thread has read.
struct Read {
    bytes: u64,
    polls: Latencies,
}

impl PerfConsume {
    pub(super) fn run(&self, directory: &Directory) -> Result {
        let interrupt = Interrupt::install()?;
        let broker = directory.read()?;
        let topic = find_topic(&broker, &self.topic)?;
        let partitions = topic.partitions();
        if usize::from(self.threads) > partitions.len() {
            return Err(Stop::usage(format!(
                "--threads {} are more than the {} partition(s) of {:?}: some would have nothing to \
                 read",
                self.threads,
                partitions.len(),
                self.topic
            )));
        }
        self.measure(&broker, &topic, &partitions, &interrupt)?.print(self.json)?;
        interrupt.check()
    }

    fn measure(
        &self,
        broker: &Broker,
        topic: &Topic,
        partitions: &[Partition],
        interrupt: &Interrupt,
    ) -> Result<Report> {
        let records = AtomicU64::new(0);
        let started = Instant::now();
        let read = thread::scope(|scope| {
            let threads: Vec<_> = (0..usize::from(self.threads))
                .map(|number| {
                    let share = partitions.iter().skip(number).step_by(usize::from(self.threads));
                    let share: Vec<_> = share.cloned().collect();
                    let records = &records;
                    scope.spawn(move || self.read(broker, &share, records, interrupt))
                })
                .collect();
            let join = |thread: thread::ScopedJoinHandle<'_, _>| thread.join().expect("no panic");
            threads.into_iter().map(join).collect::<Vec<Result<Read>>>()
        });
        let took = started.elapsed();
        let (mut bytes, mut latencies) = (0, Latencies::new());
        for of_thread in read {
            let of_thread = of_thread?;
            bytes += of_thread.bytes;
            latencies.add(&of_thread.polls);
        }
        Ok(Report {
            settings: self.settings(topic),
            verb: "read",
            records: records.into_inner(),
            bytes,
            took,
            latency_of: "poll",
            latencies,
        })
    }

    fn read(
        &self,
        broker: &Broker,
        partitions: &[Partition],
        records: &AtomicU64,
        interrupt: &Interrupt,
    ) -> Result<Read> {
        let builder = broker
            .consumer()
            .max_poll_records(self.max_poll_records)
            .max_partition_fetch_bytes(self.fetch_size);
        let assignment = partitions.iter().map(|partition| partition.topic_partition().clone());
        let mut consumer = builder.assign(assignment)?;
        let ends = Ends::of(partitions);
        let mut read = Read { bytes: 0, polls: Latencies::new() };
        let enough = self.num_records.unwrap_or(u64::MAX);
        while records.load(Ordering::Relaxed) < enough && interrupt.check().is_ok() {
            if ends.pause_finished(&mut consumer)? {
                break;
            }
            let began = Instant::now();
            let polled = consumer.poll(Duration::ZERO)?;
            read.polls.record(began.elapsed());
            if polled.is_empty() {
                break;
            }
            let size = |bytes: Option<&[u8]>| bytes.map_or(0, <[u8]>::len) as u64;
            for record in &polled {
                read.bytes += size(record.key()) + size(record.value());
            }
            records.fetch_add(polled.len() as u64, Ordering::Relaxed);
        }
        Ok(read)
    }

    fn settings(&self, topic: &Topic) -> Vec<(&'static str, String)> {
        let mut settings = topic_settings(topic);
        let all = || "all".to_owned();
        settings.extend([
            ("num-records", self.num_records.map_or_else(all, |records| records.to_string())),
            ("threads", self.threads.to_string()),
            ("max.poll.records", self.max_poll_records.to_string()),
            ("max.partition.fetch.bytes", self.fetch_size.to_string()),
            ("read mode", "copied".to_owned()),
        ]);
        settings
    }
}
