//! Rows R5 and R6: reading what is in the page cache.

use std::fs;
use std::path::Path;
use std::time::Duration;

use sapwood::{Broker, Record, TopicPartition};

use crate::bare;
use crate::bare::sparse_index::SparseIndex;
use crate::measure::{Pairs, Report, Target};
use crate::producing::{VALUE, topic, written};
use crate::timing::{rate, scratch};

/// A topic `log` of one partition and one segment.
fn fill(broker: &Broker, records: u64, per_batch: usize) {
    let partition = topic(broker, "log", 1, written()).partition(0).unwrap();
    let batch = vec![Record::new(&VALUE); per_batch];
    for _ in 0..records / per_batch as u64 {
        partition.append(&batch).unwrap();
    }
    partition.flush().unwrap();
}

/// The mapping of the one segment.
fn map(directory: &Path) -> memmap2::Mmap {
    let file = fs::File::open(directory.join("log-0/00000000000000000000.log")).unwrap();
    #[allow(unsafe_code)]
    // SAFETY: the log is not written to while it is mapped here.
    unsafe { memmap2::Mmap::map(&file) }.unwrap()
}

/// R5: a consumer that catches up, every checksum checked; also beside a mapping whose pages are met for
/// the first time, as the consumer meets them.
pub fn catch_up(report: &mut Report) {
    const RECORDS: u64 = 1_500_000;
    let directory = scratch();
    let broker = Broker::open(directory.path()).unwrap();
    fill(&broker, RECORDS, 150);
    let size = usize::try_from(broker.topic("log").unwrap().size()).unwrap();
    let file = map(directory.path());
    let consumer = broker.consumer().max_poll_records(10_000);
    let mut consumer = consumer.assign([TopicPartition::new("log", 0)]).unwrap();
    let bare = |bytes: &[u8]| assert_eq!(bare::read_all(bytes).0, RECORDS);
    let mut ours = || {
        consumer.seek_to_beginning();
        rate(RECORDS, || {
            let (mut records, mut sum) = (0, 0);
            while records < RECORDS {
                for record in &consumer.poll(Duration::from_secs(1)).unwrap() {
                    let value = record.value().unwrap_or_default();
                    sum += u64::from(value[0]) + value.len() as u64;
                    records += 1;
                }
            }
            std::hint::black_box(sum);
        })
    };
    let pairs = Pairs::of(11, || rate(RECORDS, || bare(&file[..size])), &mut ours);
    let detail = format!("catching up, batches of 150 records: {}", pairs.millions());
    report.row("R5", pairs.ratio(), Target::Least(0.6), &detail);
    let fresh = || rate(RECORDS, || bare(&map(directory.path())[..size]));
    let pairs = Pairs::of(11, fresh, &mut ours);
    let detail = format!("the same, beside a mapping made for it: {}", pairs.millions());
    report.row("R5-fresh", pairs.ratio(), Target::Least(0.6), &detail);
}

/// R6: one record at a random offset, by a consumer that seeks, or by a look-up without one. The bare
/// machine knows where each batch begins; or it looks for it, as the format has it.
pub fn random(report: &mut Report) {
    const RECORDS: u64 = 1_000_000;
    const PER_BATCH: u64 = 10;
    const READS: u64 = 100_000;
    let directory = scratch();
    let broker = Broker::open(directory.path()).unwrap();
    fill(&broker, RECORDS, PER_BATCH as usize);
    let size = usize::try_from(broker.topic("log").unwrap().size()).unwrap();
    let file = map(directory.path());
    let bytes = &file[..size];
    let batch_bytes = size / (RECORDS / PER_BATCH) as usize;
    let index = SparseIndex::of(bytes);
    let of = TopicPartition::new("log", 0);
    let log = broker.topic("log").unwrap().partition(0).unwrap();
    let mut consumer = broker.consumer().max_poll_records(1).assign([of.clone()]).unwrap();
    let offsets = |seed: u64| {
        let mut state = seed;
        (0..READS).map(move |_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % RECORDS
        })
    };
    let bare = |find: &dyn Fn(u64) -> (usize, u32)| {
        rate(READS, || {
            for offset in offsets(7) {
                let (at, number) = find(offset);
                assert_eq!(bare::read_one(&bytes[at..], number).len(), VALUE.len());
            }
        })
    };
    let mut ours = || {
        rate(READS, || {
            for offset in offsets(7) {
                consumer.seek(&of, offset).unwrap();
                let records = consumer.poll(Duration::ZERO).unwrap();
                let record = records.iter().next().unwrap();
                assert_eq!(record.offset(), offset);
                assert_eq!(record.value().unwrap().len(), VALUE.len());
            }
        })
    };
    let known = |offset| ((offset / PER_BATCH) as usize * batch_bytes, (offset % PER_BATCH) as u32);
    let pairs = Pairs::of(9, || bare(&known), &mut ours);
    let detail = format!("one record at a random offset, batches of 10: {}", pairs.millions());
    report.row("R6", pairs.ratio(), Target::Least(0.8), &detail);
    let pairs = Pairs::of(9, || bare(&|offset| index.find(bytes, offset)), &mut ours);
    let detail = format!("the same, found through a sparse index: {}", pairs.millions());
    report.row("R6-index", pairs.ratio(), Target::Least(0.8), &detail);
    let mut look_up = || {
        rate(READS, || {
            for offset in offsets(7) {
                let records = log.read(offset, 1).unwrap();
                let record = records.iter().next().unwrap();
                assert_eq!(record.offset(), offset);
                assert_eq!(record.value().unwrap().len(), VALUE.len());
            }
        })
    };
    let pairs = Pairs::of(9, || bare(&|offset| index.find(bytes, offset)), &mut look_up);
    let detail = format!("the same, without a consumer: {}", pairs.millions());
    report.row("R6-read", pairs.ratio(), Target::Least(0.8), &detail);
}
