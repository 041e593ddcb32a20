//! Row R8: opening.

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use sapwood::{Broker, Durability, Record, TopicConfig};

use crate::measure::{Pairs, Report, Target};
use crate::producing::VALUE;
use crate::timing::{scratch, seconds};

const TAIL: u64 = 64 << 20;

/// A broker on which nothing happens by itself: no checkpoint is written behind our back.
fn open_broker(directory: &Path) -> Broker {
    Broker::builder(directory).background_thread(false).open().unwrap()
}

/// Fills the topic up to a size.
fn fill(broker: &Broker, size: u64) {
    let partition = broker.topic("log").unwrap().partition(0).unwrap();
    let batch = vec![Record::new(&VALUE); 500];
    while partition.size() < size {
        partition.append(&batch).unwrap();
    }
}

fn make(directory: &Path, size: u64) {
    let broker = open_broker(directory);
    let durability = Durability::Written { flush_interval: Duration::from_secs(3_600) };
    let config = TopicConfig::default().durability(durability).segment_bytes(2_000_000_000);
    broker.create_topic("log", config).unwrap();
    fill(&broker, size);
    broker.close().unwrap();
}

fn open_and_close(directory: &Path) -> f64 {
    let mut broker = None;
    let took = seconds(|| broker = Some(open_broker(directory)));
    broker.unwrap().close().unwrap();
    took
}

/// R8: 1 GiB in one partition: after a clean close beside a log of 1 MiB, and after a kill with 64 MiB
/// above the last checkpoint beside a checksum of as much.
pub fn open(report: &mut Report) {
    let directory = scratch();
    let (small, large) = (directory.path().join("small"), directory.path().join("large"));
    make(&small, 1 << 20);
    make(&large, (1 << 30) - TAIL);
    let pairs = Pairs::of(15, || open_and_close(&small), || open_and_close(&large));
    let [of_small, of_large] = [pairs.bare(), pairs.ours()].map(|seconds| seconds * 1e3);
    let detail =
        format!("closed in order: 1 MiB {of_small:.2} ms, 1 GiB {of_large:.2} ms (1 ms at most)");
    // The same whatever the size, but for the noise of two so short times.
    report.row("R8a", pairs.ratio(), Target::Most(1.25), &detail);

    fill(&open_broker(&large), 1 << 30);
    let file = std::fs::File::open(large.join("log-0/00000000000000000000.log")).unwrap();
    #[allow(unsafe_code)]
    // SAFETY: nothing below the log's end is written to while this is mapped.
    let map = unsafe { memmap2::Mmap::map(&file) }.unwrap();
    let tail = &map[((1 << 30) - TAIL) as usize..1 << 30];
    let checksum = |bytes: &[u8]| {
        std::hint::black_box(crc32c::crc32c(bytes));
    };
    let open = || {
        // Dropped without being closed, each finds what the one before it found.
        let mut broker = None;
        let took = seconds(|| broker = Some(open_broker(&large)));
        let scanned = broker.unwrap().recovery_report().partitions[0].bytes_scanned;
        assert!(scanned >= TAIL, "only {scanned} bytes were scanned");
        1.0 / took
    };
    let mut row = |name: &str, how: &str, pairs: &Pairs| {
        let [bare, ours] = [pairs.bare(), pairs.ours()].map(|rate| 1e3 / rate);
        let detail = format!("killed: 64 MiB {how} {bare:.1} ms, open {ours:.1} ms");
        report.row(name, pairs.ratio(), Target::Least(0.5), &detail);
    };
    row("R8b", "mapped and summed", &Pairs::of(11, || 1.0 / seconds(|| checksum(tail)), open));
    // What a recovery does that is told of a failing disk by an error and not by a signal.
    let mut buffer = vec![0; 1 << 20];
    let mut read = || {
        for at in ((1 << 30) - TAIL..1 << 30).step_by(buffer.len()) {
            file.read_exact_at(&mut buffer, at).unwrap();
            checksum(&buffer);
        }
    };
    row("R8b-read", "read and summed", &Pairs::of(11, || 1.0 / seconds(&mut read), open));
}
