//! Reading with a consumer, beside the bare machine: a mapping of the same file, read by the shortest
//! loop. Every checksum is checked on both sides.
//!
//! ```text
//! cargo bench --bench fetch            # about a minute
//! cargo bench --bench fetch -- cold    # what has to come from the disk
//! ```
//!
//! *Catch up* reads a log of 64 MiB from its beginning to its end, in batches of about 16 KiB, by value
//! size (100 B, 1 KiB, 16 KiB). *Random* reads one record at a random offset, *timestamp* finds the
//! first record that is as late as a random time and reads it, both in a log of 256 MiB with batches of
//! 10 records of 100 B; the bare machine knows where each batch begins, and the time of each. One
//! thread, one partition, nothing compressed, `ReadMode::Mapped`.
//!
//! *Hot* is all of it in the page cache. *Cold* takes it out of there before each catch-up, and before
//! every 64 random reads, with the broker opened anew each time, outside of what is measured. That
//! needs a disk: on a file system in memory it is left out, and the bench says so. What a virtual
//! machine's host keeps in its own cache is beyond reach.

mod bare;
mod timing;

use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sapwood::{Broker, Consumer, Partition, Record, Timestamp, TopicConfig, TopicPartition};

use timing::beside::{self, Beside};
use timing::page_cache::{can_evict, evict};
use timing::{WRITTEN, file_system, scratch, time, times};

const VALUE_LENS: [usize; 3] = [100, 1 << 10, 16 << 10];
const CATCH_UP_BYTES: u64 = 64 << 20;
const RANDOM_BYTES: u64 = 256 << 20;
/// So few that what the disk reads ahead is hardly ever met again.
const READS_PER_EVICTION: u64 = 64;
/// Each batch is a millisecond later than the one before it.
const FIRST_TIMESTAMP: i64 = 1_700_000_000_000;

/// A closed broker's directory with one topic, `log`, of one partition and one segment.
struct Filled {
    directory: tempfile::TempDir,
    per_batch: u64,
    batches: u64,
    bytes: u64,
}

impl Filled {
    fn new(value_len: usize, per_batch: u64, bytes: u64) -> Self {
        let directory = scratch();
        let broker = Broker::open(directory.path()).unwrap();
        let config = TopicConfig::default().durability(WRITTEN).retention_ms(None);
        let partition = broker.create_topic("log", config).unwrap().partition(0).unwrap();
        let value = vec![b'v'; value_len];
        let mut batches = 0;
        while partition.size() < bytes {
            let timestamp = Timestamp::from_millis(FIRST_TIMESTAMP + batches as i64);
            let record = Record::new(&value).timestamp(timestamp);
            partition.append(&vec![record; per_batch as usize]).unwrap();
            batches += 1;
        }
        let bytes = partition.size();
        broker.close().unwrap();
        Self { directory, per_batch, batches, bytes }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn records(&self) -> u64 {
        self.per_batch * self.batches
    }

    fn map(&self) -> memmap2::Mmap {
        let file = fs::File::open(self.path().join("log-0/00000000000000000000.log")).unwrap();
        let mut map = memmap2::MmapOptions::new();
        #[allow(unsafe_code)]
        // SAFETY: nobody writes to the log.
        unsafe { map.len(self.bytes as usize).map(&file) }.unwrap()
    }

    fn reader(&self, max_poll_records: usize) -> Reader {
        let broker = Broker::open(self.path()).unwrap();
        let of = TopicPartition::new("log", 0);
        let consumer = broker.consumer().max_poll_records(max_poll_records);
        let consumer = consumer.assign([of.clone()]).unwrap();
        let partition = broker.topic("log").unwrap().partition(0).unwrap();
        Reader { broker, partition, consumer, of }
    }
}

/// A broker with a consumer of the log.
struct Reader {
    broker: Broker,
    partition: Partition,
    consumer: Consumer,
    of: TopicPartition,
}

impl Reader {
    fn catch_up(&mut self, records: u64) {
        self.consumer.seek_to_beginning();
        let (mut seen, mut sum) = (0, 0);
        while seen < records {
            for record in &self.consumer.poll(Duration::from_secs(1)).unwrap() {
                let value = record.value().unwrap_or_default();
                sum += u64::from(value[0]) + value.len() as u64;
                seen += 1;
            }
        }
        black_box(sum);
    }

    fn read(&mut self, offset: u64) {
        self.consumer.seek(&self.of, offset).unwrap();
        let records = self.consumer.poll(Duration::ZERO).unwrap();
        let record = records.iter().next().unwrap();
        assert_eq!(record.offset(), offset);
        black_box(record.value().unwrap()[0]);
    }

    fn read_at(&mut self, timestamp: i64) {
        let timestamp = Timestamp::from_millis(timestamp);
        let found = self.partition.offset_for_timestamp(timestamp).unwrap();
        self.read(found.unwrap().0);
    }

    /// Closes the broker, so that no page stays mapped.
    fn close(self) {
        self.broker.close().unwrap();
    }
}

/// Numbers below a bound, spread at random, the same in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) % bound
    }
}

/// `n` in parts of at most `most`.
fn in_parts(n: u64, most: u64) -> impl Iterator<Item = u64> {
    (0..n).step_by(most as usize).map(move |first| most.min(n - first))
}

fn settings() -> String {
    let on = file_system(scratch().path());
    format!("1 thread, 1 partition, checksums, no compression, ReadMode::Mapped, {on}")
}

fn catch_up_of(value_len: usize) -> Filled {
    let per_batch = ((16 << 10) / (value_len as u64 + 10)).max(1);
    Filled::new(value_len, per_batch, CATCH_UP_BYTES)
}

fn catch_up_hot(criterion: &mut Criterion) {
    let mut suite = Beside::new(criterion, "catch up, hot", &settings());
    for value_len in VALUE_LENS {
        let log = catch_up_of(value_len);
        let (map, mut reader) = (log.map(), log.reader(10_000));
        suite.pair(
            &format!("values of {value_len} B"),
            Throughput::Elements(log.records()),
            |n| times(n, || assert_eq!(bare::read_all(&map).0, log.records())),
            |n| times(n, || reader.catch_up(log.records())),
        );
    }
    suite.finish();
}

/// Takes the log out of the page cache before each part of the work.
fn cold(log: &Filled, n: u64, part: u64, mut work: impl FnMut(u64) -> Duration) -> Duration {
    let parts = in_parts(n, part);
    parts
        .map(|n| {
            evict(log.path());
            work(n)
        })
        .sum()
}

fn catch_up_cold(criterion: &mut Criterion) {
    if !can_evict(scratch().path()) {
        return println!("catch up, cold: left out, the file system is in memory");
    }
    let mut suite = Beside::new(criterion, "catch up, cold", &settings());
    for value_len in VALUE_LENS {
        let log = catch_up_of(value_len);
        let bare = |_| {
            let map = log.map();
            time(|| assert_eq!(bare::read_all(&map).0, log.records()))
        };
        let sapwood = |_| {
            let mut reader = log.reader(10_000);
            let took = time(|| reader.catch_up(log.records()));
            reader.close();
            took
        };
        suite.pair(
            &format!("values of {value_len} B"),
            Throughput::Elements(log.records()),
            |n| cold(&log, n, 1, bare),
            |n| cold(&log, n, 1, sapwood),
        );
    }
    suite.finish();
}

/// One record, found in one way.
struct Lookup {
    name: &'static str,
    bare: fn(&BareReader<'_>, &mut Random),
    sapwood: fn(&mut Reader, &Filled, &mut Random),
}

const LOOKUPS: [Lookup; 2] = [
    Lookup {
        name: "at a random offset",
        bare: |reader, random| reader.read(random.below(reader.log.records())),
        sapwood: |reader, log, random| reader.read(random.below(log.records())),
    },
    Lookup {
        name: "at a random timestamp",
        bare: |reader, random| {
            reader.read_at(FIRST_TIMESTAMP + random.below(reader.log.batches) as i64);
        },
        sapwood: |reader, log, random| {
            reader.read_at(FIRST_TIMESTAMP + random.below(log.batches) as i64);
        },
    },
];

/// Knows where each batch begins, for they are all of one size, and the time of each.
struct BareReader<'a> {
    log: &'a Filled,
    map: memmap2::Mmap,
    timestamps: &'a [i64],
}

impl BareReader<'_> {
    fn read(&self, offset: u64) {
        let at = offset / self.log.per_batch * (self.log.bytes / self.log.batches);
        let value = bare::read_one(&self.map[at as usize..], (offset % self.log.per_batch) as u32);
        black_box(value[0]);
    }

    fn read_at(&self, timestamp: i64) {
        let batch = self.timestamps.partition_point(|of_batch| *of_batch < timestamp);
        self.read(batch as u64 * self.log.per_batch);
    }
}

fn random(criterion: &mut Criterion) {
    let log = Filled::new(100, 10, RANDOM_BYTES);
    let timestamps: Vec<_> = (0..log.batches as i64).map(|batch| FIRST_TIMESTAMP + batch).collect();
    let bare_reader = || BareReader { log: &log, map: log.map(), timestamps: &timestamps };

    let mut suite = Beside::new(criterion, "one record, hot", &settings());
    for Lookup { name, bare, sapwood } in LOOKUPS {
        let (bare_reader, mut reader) = (bare_reader(), log.reader(1));
        let mut randoms = [Random(7), Random(7)];
        let [of_bare, of_sapwood] = &mut randoms;
        suite.pair(
            name,
            Throughput::Elements(1),
            |n| times(n, || bare(&bare_reader, of_bare)),
            |n| times(n, || sapwood(&mut reader, &log, of_sapwood)),
        );
    }
    suite.finish();

    if !can_evict(log.path()) {
        return println!("one record, cold: left out, the file system is in memory");
    }
    let mut suite = Beside::new(criterion, "one record, cold", &settings());
    for Lookup { name, bare, sapwood } in LOOKUPS {
        let mut randoms = [Random(7), Random(7)];
        let [of_bare, of_sapwood] = &mut randoms;
        let bare = |n| {
            let reader = bare_reader();
            times(n, || bare(&reader, of_bare))
        };
        let sapwood = |n| {
            let mut reader = log.reader(1);
            let took = times(n, || sapwood(&mut reader, &log, of_sapwood));
            reader.close();
            took
        };
        let (mut bare, mut sapwood) = (bare, sapwood);
        suite.pair(
            name,
            Throughput::Elements(1),
            |n| cold(&log, n, READS_PER_EVICTION, &mut bare),
            |n| cold(&log, n, READS_PER_EVICTION, &mut sapwood),
        );
    }
    suite.finish();
}

criterion_group! {
    name = benches;
    config = beside::criterion();
    targets = catch_up_hot, catch_up_cold, random
}
criterion_main!(benches);
