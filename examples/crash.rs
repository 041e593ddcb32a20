//! A program that dies in the middle of its work, and what it finds when it comes back.
//!
//! ```text
//! cargo run --release --example crash -- [--dir DIR]            # works, and dies
//! cargo run --release --example crash -- [--dir DIR]            # shows what was kept, dies again
//! cargo run --release --example crash -- [--dir DIR] --check    # shows what was kept, ends well
//! ```
//!
//! Every acknowledged send is noted in a file beside the log before the next one is made. However
//! often the program dies, each of them is in the log when it comes back: `acknowledged` is never
//! more than `found`.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sapwood::{Broker, Error, Record, Topic, TopicConfig, TopicPartition};

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("crash: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let directory = directory();
    std::fs::create_dir_all(&directory)?;
    let acknowledged = read_journal(&directory)?;
    let broker = Broker::open(directory.join("data"))?;
    let topic = match broker.topic("events") {
        Err(Error::UnknownTopic { .. }) => broker.create_topic("events", TopicConfig::default())?,
        found => found?,
    };
    let found = topic.partition(0)?.log_end_offset();
    show_recovery(&broker);
    println!("acknowledged {acknowledged}, found {found}");
    if found < acknowledged {
        return Err("acknowledged records are missing".into());
    }
    check_content(&broker, found)?;
    if std::env::args().any(|argument| argument == "--check") {
        return Ok(broker.close()?);
    }
    work_and_die(&broker, &topic, &directory, found)
}

fn show_recovery(broker: &Broker) {
    let report = broker.recovery_report();
    println!("closed in order last time: {}", report.clean_shutdown);
    for partition in &report.partitions {
        println!(
            "{}: {} bytes looked at, {} carried over, cut off: {}",
            partition.topic_partition,
            partition.bytes_scanned,
            partition.bytes_carried,
            partition.cut.as_ref().map_or("nothing".to_owned(), |cut| cut.reason.clone()),
        );
    }
}

fn work_and_die(broker: &Broker, topic: &Topic, directory: &Path, first: u64) -> Result<()> {
    let mut journal = OpenOptions::new().create(true).append(true).open(journal(directory))?;
    let producer = broker.producer().build()?;
    let sends =
        200 + u64::from(SystemTime::now().duration_since(UNIX_EPOCH)?.subsec_micros() % 800);
    for number in first..first + sends {
        let delivery = producer.send(topic, Record::new(&number.to_string()))?;
        // Returns when the record is on disk. Only then is it noted.
        delivery.wait()?;
        journal.write_all(b"+")?;
    }
    // A few more that nobody waits for, so that there is something to lose.
    for number in first + sends..first + sends + 5 {
        producer.send(topic, Record::new(&number.to_string()))?;
    }
    println!("dying after {sends} more sends");
    std::process::abort();
}

/// Every record must be what its offset says it is.
fn check_content(broker: &Broker, records: u64) -> Result<()> {
    let mut consumer = broker.consumer().assign([TopicPartition::new("events", 0)])?;
    let mut next = 0;
    while next < records {
        for record in &consumer.poll(Duration::from_secs(1))? {
            if record.value() != Some(next.to_string().as_bytes()) || record.offset() != next {
                return Err(format!("offset {next} does not hold what was sent").into());
            }
            next += 1;
        }
    }
    Ok(())
}

fn journal(directory: &Path) -> PathBuf {
    directory.join("acknowledged")
}

fn read_journal(directory: &Path) -> Result<u64> {
    let mut noted = Vec::new();
    match File::open(journal(directory)) {
        Ok(mut file) => file.read_to_end(&mut noted)?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => 0,
        Err(error) => return Err(error.into()),
    };
    Ok(noted.len() as u64)
}

fn directory() -> PathBuf {
    let mut arguments = std::env::args_os().skip_while(|argument| argument != "--dir");
    arguments.nth(1).map_or_else(|| PathBuf::from("sapwood-crash"), PathBuf::from)
}
