//! Opening a broker, beside the bare machine.
//!
//! ```text
//! cargo bench --bench open              # two to six minutes, most of it filling and closing
//! cargo bench --bench open -- clean     # after a close
//! ```
//!
//! After a *clean* close: by log size (16 MiB, 256 MiB, 1 GiB in one partition) and by partitions (1, 64,
//! 1,024 with 16 KiB in each). The bare line opens every file there is, asks for its size, and reads all
//! but the logs; what it reads it does not understand. It syncs nothing, whereas an open takes away the
//! mark of the close, durably: with few partitions that is most of the crate's time.
//!
//! After a *kill*: by log size with 16 MiB above the last checkpoint, by the size of what is above it (16,
//! 64, 256 MiB above a GiB or so), and by partitions with all of their 16 KiB above it. The bare line
//! reads what is above the checkpoint, by calls of a MiB, and sums it. The broker is dropped and not
//! closed, so that each open finds what the one before it found.
//!
//! Values of 100 bytes in batches of 100, `Written`, nothing compressed, all of it in the page cache.
//! Closing is not measured.

mod bare;
mod timing;

use std::fs::{self, File};
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sapwood::{Broker, Durability, Partition, Record, TopicConfig};

use timing::beside::{self, Beside};
use timing::{file_system, scratch, time, times};

const VALUE: [u8; 100] = [b'v'; 100];
const MIB: u64 = 1 << 20;
const SMALL: u64 = 16 << 10;
const PARTITIONS: [u32; 3] = [1, 64, 1_024];

/// A broker on which nothing happens by itself: no checkpoint is written behind our back.
fn open(directory: &Path) -> Broker {
    Broker::builder(directory).background_thread(false).open().unwrap()
}

/// Fills every partition up to a size.
fn fill(broker: &Broker, size: u64) {
    let batch = vec![Record::new(&VALUE); 100];
    for partition in broker.topic("log").unwrap().partitions() {
        while partition.size() < size {
            partition.append(&batch).unwrap();
        }
    }
}

/// Makes a topic of so many empty partitions.
fn make(directory: &Path, partitions: u32) {
    let broker = open(directory);
    let durability = Durability::Written { flush_interval: Duration::from_secs(3_600) };
    let config = TopicConfig::default().durability(durability).segment_bytes(2_000_000_000);
    broker.create_topic("log", config.partitions(partitions)).unwrap();
    broker.close().unwrap();
}

fn fill_and_close(directory: &Path, size: u64) {
    let broker = open(directory);
    fill(&broker, size);
    broker.close().unwrap();
}

fn open_and_close(directory: &Path) -> Duration {
    let mut broker = None;
    let took = time(|| broker = Some(open(directory)));
    broker.unwrap().close().unwrap();
    took
}

/// Opens every file, and reads it if it is not a log.
fn bare_open(directory: &Path) {
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if entry.file_type().unwrap().is_dir() {
            bare_open(&path);
        } else if path.extension().is_some_and(|extension| extension == "log") {
            black_box(File::open(path).unwrap().metadata().unwrap().len());
        } else {
            black_box(fs::read(path).unwrap());
        }
    }
}

/// What lies above the checkpoint of one partition.
struct Tail {
    path: PathBuf,
    start: u64,
    end: u64,
}

/// Fills the partitions up to a size, and leaves them as a kill does.
fn fill_and_kill(directory: &Path, size: u64) -> Vec<Tail> {
    let broker = open(directory);
    let partitions = broker.topic("log").unwrap().partitions();
    let starts: Vec<_> = partitions.iter().map(Partition::size).collect();
    fill(&broker, size);
    let tail = |(partition, start): (&Partition, u64)| {
        let folder = partition.topic_partition().to_string();
        let path = directory.join(folder).join("00000000000000000000.log");
        Tail { path, start, end: partition.size() }
    };
    partitions.iter().zip(starts).map(tail).collect()
}

fn bare_recover(tails: &[Tail], buffer: &mut [u8]) {
    for Tail { path, start, end } in tails {
        let file = File::open(path).unwrap();
        for at in (*start..*end).step_by(buffer.len()) {
            let len = buffer.len().min((end - at) as usize);
            file.read_exact_at(&mut buffer[..len], at).unwrap();
            black_box(crc32c::crc32c(&buffer[..len]));
        }
    }
}

fn open_killed(directory: &Path, tail_len: u64) -> Duration {
    let mut broker = None;
    let took = time(|| broker = Some(open(directory)));
    let recovered = &broker.as_ref().unwrap().recovery_report().partitions;
    let scanned: u64 = recovered.iter().map(|partition| partition.bytes_scanned).sum();
    assert!(scanned >= tail_len, "only {scanned} of {tail_len} bytes were scanned");
    took
}

/// Fills the partitions up to a size, and opens them after a close.
fn clean(suite: &mut Beside<'_>, name: &str, data: &Path, size: u64) {
    fill_and_close(data, size);
    suite.pair(
        name,
        Throughput::Elements(1),
        |n| times(n, || bare_open(data)),
        |n| (0..n).map(|_| open_and_close(data)).sum(),
    );
}

/// Fills the partitions up to a checkpoint and then to a size, and opens them after a kill.
fn killed(suite: &mut Beside<'_>, name: &str, data: &Path, [checkpoint, size]: [u64; 2]) {
    fill_and_close(data, checkpoint);
    let tails = fill_and_kill(data, size);
    let tail_len = tails.iter().map(|tail| tail.end - tail.start).sum();
    let mut buffer = vec![0; MIB as usize];
    suite.pair(
        name,
        Throughput::Bytes(tail_len),
        |n| times(n, || bare_recover(&tails, &mut buffer)),
        |n| (0..n).map(|_| open_killed(data, tail_len)).sum(),
    );
}

fn settings() -> String {
    let on = file_system(scratch().path());
    format!("Written, batches of 100 x 100 B, no compression, page cache hot, {on}")
}

fn after_close(criterion: &mut Criterion) {
    let mut suite = Beside::new(criterion, "open, clean", &settings());
    let directory = scratch();
    let data = directory.path().join("data");
    make(&data, 1);
    // One log that grows: what is there already need not be written again.
    for mib in [16, 256, 1_024] {
        clean(&mut suite, &format!("1 partition of {mib} MiB"), &data, mib * MIB);
    }
    for partitions in PARTITIONS {
        let directory = scratch();
        let data = directory.path().join("data");
        make(&data, partitions);
        clean(&mut suite, &format!("{partitions} partitions of 16 KiB"), &data, SMALL);
    }
    suite.finish();
}

fn after_kill(criterion: &mut Criterion) {
    let mut suite = Beside::new(criterion, "open, killed", &settings());
    let directory = scratch();
    let data = directory.path().join("data");
    make(&data, 1);
    for [checkpoint, tail] in [[0, 16], [240, 16], [1_008, 16], [1_024, 64], [1_088, 256]] {
        let name = format!("{tail} MiB to check of {} MiB", checkpoint + tail);
        killed(&mut suite, &name, &data, [checkpoint * MIB, (checkpoint + tail) * MIB]);
    }
    for partitions in PARTITIONS {
        let directory = scratch();
        let data = directory.path().join("data");
        make(&data, partitions);
        let name = format!("{partitions} partitions, 16 KiB to check in each");
        killed(&mut suite, &name, &data, [0, SMALL]);
    }
    suite.finish();
}

criterion_group! {
    name = benches;
    config = beside::criterion();
    targets = after_close, after_kill
}
criterion_main!(benches);
