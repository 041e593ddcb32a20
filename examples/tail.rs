//! Follows a directory that another process is writing to, as `tail -f` follows a file.
//!
//! ```text
//! cargo run --release --example tail -- --dir DIR [--topic TOPIC] [--seconds N]
//! cargo run --release --example tail                # starts a writer of its own for two seconds
//! ```
//!
//! The directory is opened read-only: nothing is written, nothing is locked, and the writer does not
//! notice.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use sapwood::{Broker, Error, Record, TopicConfig};

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

fn main() -> ExitCode {
    let result = match argument("--write") {
        Some(directory) => write(Path::new(&directory)),
        None => follow(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tail: {error}");
            ExitCode::FAILURE
        }
    }
}

fn follow() -> Result<()> {
    let seconds = argument("--seconds").map(|text| text.parse()).transpose()?;
    let Some(directory) = argument("--dir") else {
        let directory = std::env::temp_dir().join(format!("sapwood-tail-{}", std::process::id()));
        let program = std::env::current_exe()?;
        let mut writer = Command::new(program).arg("--write").arg(&directory).spawn()?;
        print_records(&directory, Duration::from_secs(seconds.unwrap_or(4)))?;
        writer.wait()?;
        return Ok(std::fs::remove_dir_all(&directory)?);
    };
    print_records(&PathBuf::from(directory), seconds.map_or(Duration::MAX, Duration::from_secs))
}

fn print_records(directory: &Path, how_long: Duration) -> Result<()> {
    let topic = argument("--topic").unwrap_or_else(|| "ticks".to_owned());
    let started = Instant::now();
    let broker = wait_for_topic(directory, &topic, || started.elapsed() < how_long)?;
    let mut consumer = broker.consumer().subscribe([topic.as_str()])?;
    let mut seen = 0;
    while started.elapsed() < how_long {
        let records = consumer.poll(Duration::from_millis(250))?;
        for record in &records {
            let value = String::from_utf8_lossy(record.value().unwrap_or_default()).into_owned();
            println!("{}-{} @ {}: {value}", record.topic(), record.partition(), record.offset());
            seen += 1;
        }
    }
    println!("{seen} records seen");
    Ok(())
}

/// The writer may not have come as far as creating the topic.
fn wait_for_topic(directory: &Path, topic: &str, in_time: impl Fn() -> bool) -> Result<Broker> {
    loop {
        let opened = Broker::open_read_only(directory).and_then(|broker| {
            broker.topic(topic)?;
            Ok(broker)
        });
        match opened {
            Err(Error::NotALogDirectory { .. } | Error::UnknownTopic { .. }) if in_time() => {
                std::thread::sleep(Duration::from_millis(20));
            }
            result => return Ok(result?),
        }
    }
}

/// What the other process does: a record every tenth of a second.
fn write(directory: &Path) -> Result<()> {
    let broker = Broker::open(directory)?;
    let ticks = broker.create_topic("ticks", TopicConfig::default())?.partition(0)?;
    for number in 0..20 {
        ticks.append(&[Record::new(&format!("tick {number}"))])?;
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(broker.close()?)
}

fn argument(name: &str) -> Option<String> {
    std::env::args().skip_while(|argument| argument != name).nth(1)
}
