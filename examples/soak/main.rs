//! Soak: random operations and kills over child processes for as long as asked, every record judged.
//!
//! ```text
//! cargo run --release --features sim --example soak -- --seconds N [--dir DIR] [--seed S]
//! ```
//!
//! A worker process does everything the crate can do, from several threads, and says on a pipe what
//! was acknowledged. It is killed at random moments, a few hundred milliseconds or some seconds into
//! its life, now and then told to close; each time the directory is opened and everything in it is
//! compared with what was said. Memory, descriptors and disk space must stay flat over the run.
//!
//! The last line is `verdict: ok, lost 0, wrong 0`, with exit code 0; or what went wrong, with the
//! seed, and exit code 1. The directory is left behind then. The seed decides what is done and when
//! the worker is killed; how far it had come by then is up to the machine.

mod life;
mod oracle;
mod payload;
mod random;
mod report;
mod usage;
mod worker;

use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use sapwood::Broker;

use self::life::{Life, SharedOracle};
use self::oracle::End;
use self::random::Random;
use self::usage::{Usage, disk_bytes};

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

/// How long a close may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often a line says how it goes, and how often the worker is looked at.
const LINE_INTERVAL: Duration = Duration::from_secs(5);
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// A life is looked at for growth if a third of it is no shorter than this.
const THIRD_MIN: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    match Arguments::read().and_then(run) {
        Ok(code) => code,
        Err(error) => {
            println!("verdict: FAILED, lost 0, wrong 1");
            eprintln!("soak: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<ExitCode> {
    if let Some(life) = arguments.life {
        let directory = arguments.directory.ok_or("a worker needs a directory")?;
        worker::run(&directory, arguments.seed, life)?;
        return Ok(ExitCode::SUCCESS);
    }
    let scratch = tempfile::tempdir()?;
    let given = arguments.directory.is_some();
    let directory = arguments.directory.unwrap_or_else(|| scratch.path().join("data"));
    if given && fs::read_dir(&directory).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(format!("{} is not empty", directory.display()).into());
    }
    let mut soak = Soak::new(directory, arguments.seed);
    println!("soak: {} s, seed {}", arguments.seconds, arguments.seed);
    soak.run(Duration::from_secs(arguments.seconds))?;
    let content = soak.say_verdict();
    if !content {
        let kept = scratch.keep();
        eprintln!(
            "the directory is kept: {}",
            if given { &soak.directory } else { &kept }.display()
        );
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

struct Arguments {
    seconds: u64,
    directory: Option<PathBuf>,
    seed: u64,
    /// Given to workers alone: which life this is.
    life: Option<u64>,
}

impl Arguments {
    fn read() -> Result<Self> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let mut read =
            Self { seconds: 60, directory: None, seed: now.as_secs() % 1_000_000, life: None };
        let mut arguments = std::env::args_os().skip(1);
        while let Some(name) = arguments.next() {
            let value = arguments.next().ok_or("every argument has a value")?;
            let number = || value.to_string_lossy().parse::<u64>();
            match &*name.to_string_lossy() {
                "--seconds" => read.seconds = number()?,
                "--seed" => read.seed = number()?,
                "--dir" => read.directory = Some(PathBuf::from(value)),
                "--worker" => read.life = Some(number()?),
                unknown => return Err(format!("{unknown} is not known").into()),
            }
        }
        Ok(read)
    }
}

/// A look at what is being used, and when.
#[derive(Debug, Clone, Copy, Default)]
struct Look {
    /// Which worker it was.
    life: u64,
    at: Duration,
    usage: Usage,
    disk: u64,
    /// Descriptors of this process while it has no broker: what judging leaves behind.
    own_descriptors: u64,
}

struct Soak {
    directory: PathBuf,
    seed: u64,
    random: Random,
    oracle: SharedOracle,
    lives: u64,
    kills: u64,
    started: Instant,
    last_line: Instant,
    looks: Vec<Look>,
}

/// How a life ends.
enum Fate {
    Killed(Duration),
    Closed(Duration),
}

impl Soak {
    fn new(directory: PathBuf, seed: u64) -> Self {
        Self {
            directory,
            seed,
            random: Random::new(seed),
            oracle: SharedOracle::default(),
            lives: 0,
            kills: 0,
            started: Instant::now(),
            last_line: Instant::now(),
            looks: Vec::new(),
        }
    }

    fn run(&mut self, time: Duration) -> Result<()> {
        while self.started.elapsed() < time && self.oracle.lock().is_content() {
            let fate = self.fate(time);
            self.live(fate)?;
            self.judge()?;
        }
        if self.oracle.lock().is_content() {
            for text in self.growth() {
                self.oracle.lock().note_wrong(text);
            }
        }
        Ok(())
    }

    /// Most die young. One lives for a quarter of the run, so that a leak has time to show.
    fn fate(&mut self, time: Duration) -> Fate {
        let short = Duration::from_millis(self.random.below(300));
        match self.lives % 8 {
            _ if self.lives == 10 => Fate::Closed(time / 4),
            3 => Fate::Killed(Duration::from_millis(2_000 + self.random.below(2_000))),
            6 => Fate::Closed(short),
            _ => Fate::Killed(short),
        }
    }

    fn live(&mut self, fate: Fate) -> Result<()> {
        self.lives += 1;
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("--worker").arg(self.lives.to_string());
        command.arg("--seed").arg(self.seed.to_string()).arg("--dir").arg(&self.directory);
        let own_descriptors = Usage::of("self").map_or(0, |own| own.descriptors);
        let life = Life::start(&mut command, &self.oracle)?;
        let (Fate::Killed(time) | Fate::Closed(time)) = fate;
        let end = Instant::now() + time;
        loop {
            let rest = end.saturating_duration_since(Instant::now());
            if rest.is_zero() {
                break;
            }
            thread::sleep(rest.min(LOOK_INTERVAL));
            if let Some(usage) = Usage::of(&life.child.id().to_string()) {
                let (at, disk) = (self.started.elapsed(), disk_bytes(&self.directory));
                self.looks.push(Look { life: self.lives, at, usage, disk, own_descriptors });
            }
            self.say_line();
        }
        let ended = match fate {
            Fate::Killed(_) => {
                self.kills += 1;
                life.kill()?
            }
            Fate::Closed(_) => life.close(PATIENCE)?,
        };
        let mut oracle = self.oracle.lock();
        if matches!(fate, Fate::Closed(_)) && !(ended.status.success() && oracle.has_closed()) {
            oracle.note_wrong(format!("told to close, it ended with {}", ended.status));
        }
        if !ended.complaints.is_empty() {
            oracle.note_wrong(format!("the worker complains: {}", ended.complaints));
        }
        Ok(())
    }

    fn judge(&mut self) -> Result<()> {
        let mut oracle = self.oracle.lock();
        let broker = match Broker::open(&self.directory) {
            Ok(broker) => broker,
            Err(error) => {
                oracle.note_wrong(format!("it cannot be opened: {error}"));
                return Ok(());
            }
        };
        oracle.judge(&broker, End::Killed)?;
        if self.random.one_in(4) {
            broker.close()?;
        }
        Ok(())
    }

    fn say_line(&mut self) {
        if self.last_line.elapsed() < LINE_INTERVAL {
            return;
        }
        self.last_line = Instant::now();
        let most = self.most(|look| look.at + 2 * LINE_INTERVAL > self.started.elapsed());
        let oracle = self.oracle.lock();
        println!(
            "{:5} s: {} operations, {} kills in {} lives, {} records verified; \
             worker at most: RSS {} KiB, {} descriptors, disk {} KiB",
            self.started.elapsed().as_secs(),
            oracle.operations,
            self.kills,
            self.lives,
            oracle.verified,
            most.usage.rss >> 10,
            most.usage.descriptors,
            most.disk >> 10,
        );
    }

    /// The largest figures among some looks.
    fn most(&self, counts: impl Fn(&Look) -> bool) -> Look {
        most_of(self.looks.iter().filter(|look| counts(look)))
    }

    /// What has grown: from the first third of the run to the last; and within a worker that was
    /// old enough, from the second third of its life, when it has everything it needs, to the last.
    fn growth(&self) -> Vec<String> {
        let third = self.started.elapsed() / 3;
        let first = self.most(|look| look.at < third);
        let last = self.most(|look| look.at > 2 * third);
        let mut grown = grown(&first, &last, "from the first third of the run to the last");
        for looks in self.looks.chunk_by(|one, next| one.life == next.life) {
            let third = looks.len() / 3;
            if looks[third].at - looks[0].at >= THIRD_MIN {
                let (second, last) = (&looks[third..2 * third], &looks[2 * third..]);
                let when = format!("in life {}, from its second third to the last", looks[0].life);
                grown.extend(self::grown(&most_of(second), &most_of(last), &when));
            }
        }
        grown
    }

    /// The last words; returns whether they are good ones.
    fn say_verdict(&self) -> bool {
        let oracle = self.oracle.lock();
        println!(
            "{} operations, {} kills in {} lives, {} records verified in {} s",
            oracle.operations,
            self.kills,
            self.lives,
            oracle.verified,
            self.started.elapsed().as_secs(),
        );
        for finding in oracle.findings() {
            println!("found: {finding}");
        }
        if oracle.is_content() {
            println!("verdict: ok, lost 0, wrong 0");
        } else {
            println!("seed {}, life {}", self.seed, self.lives);
            println!("verdict: FAILED, lost {}, wrong {}", oracle.lost, oracle.wrong);
        }
        oracle.is_content()
    }
}

fn most_of<'a>(looks: impl IntoIterator<Item = &'a Look>) -> Look {
    looks.into_iter().fold(Look::default(), |most, look| Look {
        life: look.life,
        at: look.at,
        usage: Usage {
            rss: most.usage.rss.max(look.usage.rss),
            descriptors: most.usage.descriptors.max(look.usage.descriptors),
        },
        disk: most.disk.max(look.disk),
        own_descriptors: most.own_descriptors.max(look.own_descriptors),
    })
}

/// What is larger than it may be. The slack is for what chance does: how many topics and segments
/// there are, and what they keep.
fn grown(before: &Look, after: &Look, when: &str) -> Vec<String> {
    let figures = [
        ("RSS in bytes", before.usage.rss, after.usage.rss, 32 << 20),
        ("descriptors", before.usage.descriptors, after.usage.descriptors, 150),
        ("disk bytes", before.disk, after.disk, 32 << 20),
        ("descriptors of the judge", before.own_descriptors, after.own_descriptors, 2),
    ];
    let grown = |(what, before, after, slack): (&str, u64, u64, u64)| {
        (after > before + before / 2 + slack)
            .then(|| format!("{what} have grown from {before} to {after} {when}"))
    };
    figures.into_iter().filter_map(grown).collect()
}
