//! A pool of workers that grows and shrinks while it works: a consumer group.
//!
//! ```text
//! cargo run --release --example worker_pool -- [--workers N] [--dir DIR] [FILE...]
//! ```
//!
//! Every line of every file becomes a record of one topic. Then workers divide its partitions: one at
//! first, more and more up to N, one of which dies in the middle of its work, and fewer again towards the
//! end. A table shows who has what while it changes. Each worker commits what it has done, so the lines of
//! the one that died are done again by others from its last commit on: at least once, and none is left
//! out. Without files the example makes up lines of its own; without `--dir` all is in memory.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{Scope, ScopedJoinHandle};
use std::time::Duration;

use sapwood::{
    Broker, Consumer, Error, GroupDescription, OffsetSpec, Record, Topic, TopicConfig,
    TopicPartition,
};

type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

const TOPIC: &str = "lines";
const GROUP: &str = "pool";
const PARTITIONS: u32 = 12;

/// How long the work would take a single worker, so that there is something to watch.
const WORK: Duration = Duration::from_secs(6);

/// How often the pool is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("worker_pool: {error}");
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
    let topic = match broker.topic(TOPIC) {
        Err(Error::UnknownTopic { .. }) => {
            broker.create_topic(TOPIC, TopicConfig::default().partitions(PARTITIONS))?
        }
        found => found?,
    };
    produce(&broker, &topic, &arguments.files)?;
    let pool = Pool::new(&broker, &topic)?;
    std::thread::scope(|scope| Foreman::new(&pool, scope).run(arguments.workers))?;

    let (done, lag) = (pool.done.load(Ordering::Relaxed), pool.lag()?);
    broker.close()?;
    let again = pool.again.load(Ordering::Relaxed);
    println!("{again} lines were done twice, for the worker that died had not committed them");
    println!("processed {done} of {}, lag {lag}", pool.total);
    Ok(done == pool.total && lag == 0)
}

fn produce(broker: &Broker, topic: &Topic, files: &[PathBuf]) -> Result<()> {
    let producer = broker.producer().build()?;
    if files.is_empty() {
        for n in 0..20_000 {
            producer.send(topic, Record::new(&format!("line {n} of a made-up file")))?;
        }
    }
    for path in files {
        let file = File::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
        for line in BufReader::new(file).split(b'\n') {
            producer.send(topic, Record::new(&line?))?;
        }
    }
    Ok(producer.flush()?)
}

/// What workers have in common.
struct Pool {
    broker: Broker,
    /// How many lines there are to do.
    total: u64,
    /// How long a worker takes for one.
    per_line: Duration,
    done: AtomicU64,
    /// Lines that had been done before.
    again: AtomicU64,
    seen: Mutex<HashSet<(u32, u64)>>,
    /// The next worker to see this dies.
    accident: AtomicBool,
}

impl Pool {
    fn new(broker: &Broker, topic: &Topic) -> Result<Self> {
        let mut total = 0;
        for partition in topic.partitions() {
            let of = partition.topic_partition().clone();
            // An earlier run may have been interrupted: what it has left is done first.
            let plan = broker.plan_reset(GROUP, [of], OffsetSpec::Latest)?;
            let begin = plan[0].current.unwrap_or(partition.log_start_offset());
            total += partition.high_watermark() - begin;
        }
        Ok(Self {
            broker: broker.clone(),
            total,
            per_line: WORK / u32::try_from(total.max(6_000))?,
            done: AtomicU64::new(0),
            again: AtomicU64::new(0),
            seen: Mutex::default(),
            accident: AtomicBool::new(false),
        })
    }

    /// A worker, from its first poll until it is told to stop.
    fn work(&self, name: &str, stop: &AtomicBool) -> Result<()> {
        let consumer = self.broker.consumer().group(GROUP).client_id(name).auto_commit(None);
        let mut consumer = consumer.max_poll_records(50).subscribe([TOPIC])?;
        while !stop.load(Ordering::Relaxed) {
            let lines = consumer.poll(Duration::from_millis(50))?;
            for line in &lines {
                std::thread::sleep(self.per_line);
                self.count(line.partition(), line.offset());
            }
            if !lines.is_empty() && self.accident.swap(false, Ordering::Relaxed) {
                panic!("an accident, on purpose, before {} lines were committed", lines.len());
            }
            self.commit(&mut consumer)?;
        }
        Ok(consumer.close()?)
    }

    fn commit(&self, consumer: &mut Consumer) -> Result<()> {
        match consumer.commit() {
            // It was so slow that others have taken over: the next poll joins again.
            Err(Error::FencedGeneration { .. }) => Ok(()),
            committed => Ok(committed?),
        }
    }

    fn count(&self, partition: u32, offset: u64) {
        let is_new = self.seen.lock().expect("nobody dies counting").insert((partition, offset));
        let counter = if is_new { &self.done } else { &self.again };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn lag(&self) -> Result<u64> {
        let topic = self.broker.topic(TOPIC)?;
        let all = topic.partitions().into_iter().map(|of| of.topic_partition().clone());
        let plan = self.broker.plan_reset(GROUP, all, OffsetSpec::Latest)?;
        Ok(plan.iter().map(|of| of.wanted - of.current.unwrap_or(0)).sum())
    }
}

struct Worker<'scope> {
    stop: Arc<AtomicBool>,
    thread: ScopedJoinHandle<'scope, Result<()>>,
}

/// Hires and dismisses, and shows the pool.
struct Foreman<'scope, 'env> {
    pool: &'env Pool,
    scope: &'scope Scope<'scope, 'env>,
    workers: Vec<Worker<'scope>>,
    hired: usize,
    table: Table,
}

impl<'scope, 'env> Foreman<'scope, 'env> {
    fn new(pool: &'env Pool, scope: &'scope Scope<'scope, 'env>) -> Self {
        Self { pool, scope, workers: Vec::new(), hired: 0, table: Table::default() }
    }

    fn run(mut self, workers_max: usize) -> Result<()> {
        let mut accident_is_due = true;
        while self.pool.lag()? > 0 {
            let percent = self.percent();
            // Up to the middle more and more, then fewer and fewer.
            let share = 50 - percent.abs_diff(50);
            let wanted = (1 + workers_max.saturating_mul(share) / 45).clamp(1, workers_max);
            if percent >= 50 && std::mem::take(&mut accident_is_due) {
                self.pool.accident.store(true, Ordering::Relaxed);
            }
            self.dismiss_the_dead()?;
            while self.workers.len() < wanted {
                self.hire()?;
            }
            for worker in self.workers.iter().skip(wanted) {
                worker.stop.store(true, Ordering::Relaxed);
            }
            self.show()?;
            std::thread::sleep(LOOK_INTERVAL);
        }
        self.show()?;
        for worker in &self.workers {
            worker.stop.store(true, Ordering::Relaxed);
        }
        self.workers.drain(..).try_for_each(|worker| worker.thread.join().unwrap_or(Ok(())))
    }

    fn percent(&self) -> usize {
        let done = self.pool.done.load(Ordering::Relaxed);
        usize::try_from(done * 100 / self.pool.total.max(1)).unwrap_or(100)
    }

    fn hire(&mut self) -> Result<()> {
        self.hired += 1;
        let name = format!("worker-{}", self.hired);
        let (pool, stop) = (self.pool, Arc::<AtomicBool>::default());
        let worker = {
            let (name, stop) = (name.clone(), Arc::clone(&stop));
            move || pool.work(&name, &stop)
        };
        let thread = std::thread::Builder::new().name(name).spawn_scoped(self.scope, worker)?;
        self.workers.push(Worker { stop, thread });
        Ok(())
    }

    /// Those that have stopped, and the one that has died: the group knows of it already.
    fn dismiss_the_dead(&mut self) -> Result<()> {
        let (gone, at_work) = std::mem::take(&mut self.workers)
            .into_iter()
            .partition::<Vec<_>, _>(|worker| worker.thread.is_finished());
        self.workers = at_work;
        gone.into_iter().try_for_each(|worker| worker.thread.join().unwrap_or(Ok(())))
    }

    fn show(&mut self) -> Result<()> {
        if let Some(group) = self.pool.broker.describe_group(GROUP)? {
            let percent = self.percent();
            self.table.show(percent, &group);
        }
        Ok(())
    }
}

/// Who has what; drawn over the last one on a terminal, and otherwise below it if something has changed.
#[derive(Default)]
struct Table {
    last: Vec<String>,
    height: usize,
}

impl Table {
    fn show(&mut self, percent: usize, group: &GroupDescription) {
        let row = |member: &sapwood::MemberDescription| {
            let has = numbers(&member.assignment);
            let coming = if member.assignment == member.target_assignment {
                String::new()
            } else {
                format!(" -> {}", numbers(&member.target_assignment))
            };
            format!("  {:<10} {has}{coming}", member.client_id)
        };
        let rows: Vec<String> = group.members.iter().map(row).collect();
        let is_terminal = std::io::stdout().is_terminal();
        if rows == self.last && !is_terminal {
            return;
        }
        if is_terminal && self.height > 0 {
            print!("\x1b[{}A\x1b[J", self.height);
        }
        println!("{percent:>3}% done, generation {}, {}", group.generation, group.state);
        rows.iter().for_each(|row| println!("{row}"));
        self.height = rows.len() + 1;
        self.last = rows;
    }
}

fn numbers(partitions: &[TopicPartition]) -> String {
    if partitions.is_empty() {
        return "-".to_owned();
    }
    let numbers: Vec<String> = partitions.iter().map(|of| of.partition().to_string()).collect();
    numbers.join(" ")
}

struct Arguments {
    workers: usize,
    directory: Option<PathBuf>,
    files: Vec<PathBuf>,
}

impl Arguments {
    fn parse() -> Result<Self> {
        let mut parsed = Self { workers: 5, directory: None, files: Vec::new() };
        let mut arguments = std::env::args_os().skip(1);
        while let Some(argument) = arguments.next() {
            if argument == "--dir" {
                parsed.directory = Some(arguments.next().ok_or("--dir takes a directory")?.into());
            } else if argument == "--workers" {
                let number = arguments.next().and_then(|number| number.to_str()?.parse().ok());
                parsed.workers =
                    number.filter(|n| (1..=64).contains(n)).ok_or("--workers takes 1 to 64")?;
            } else if argument.to_string_lossy().starts_with("--") {
                return Err("usage: worker_pool [--workers N] [--dir DIR] [FILE...]".into());
            } else {
                parsed.files.push(argument.into());
            }
        }
        Ok(parsed)
    }
}
