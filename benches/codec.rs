//! Encoding, iterating and checksums of real text, plain and with each codec that is written, beside
//! the bare machine, which does the same to the same bytes. In files in the page cache that nobody syncs:
//! files of `Broker::in_memory` are copied on the way in and out, and that would be most of it.
//!
//! ```text
//! cargo bench --bench codec            # about a minute
//! cargo bench --bench codec -- zstd    # one codec
//! ```
//!
//! The text is the lines of the log files in `../shared/data`, or generated lines of the same shape
//! where that directory is not there. Batches are of 100 lines; one thread, one partition.
//!
//! - *Encode*: `Partition::append` of all batches. Bare: the records encoded, compressed, summed and
//!   put into a file that grows.
//! - *Iterate*: a consumer polls all of it. Bare: sum, decompress, and walk the records.
//! - *Checksum*: the consumer polls values of 16 KiB in batches of 32, where little but the sum is left
//!   to do. Bare: the sum alone.
//!
//! gzip and snappy, which are only read, are not here: the crate cannot write what to read.

mod bare;
mod timing;

use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sapwood::{Broker, Compression, Consumer, Durability, Partition, Record};
use sapwood::{TopicConfig, TopicPartition};

use bare::codec::Codec;
use bare::growing::Growing;
use timing::beside::{self, Beside};
use timing::{file_system, scratch, time, times};

const PER_BATCH: usize = 100;
/// Space is given back after so many bytes, outside of what is measured.
const KEPT: u64 = 64 << 20;
const CODECS: [(&str, Compression); 3] =
    [("none", Compression::None), ("lz4", Compression::Lz4), ("zstd", Compression::zstd())];

/// Lines, none of them empty, and where they are from.
fn lines() -> (Vec<String>, &'static str) {
    let files = fs::read_dir("../shared/data").into_iter().flatten().flatten();
    let mut paths: Vec<_> = files.map(|file| file.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
    paths.sort();
    let texts = paths.iter().filter_map(|path| fs::read_to_string(path).ok());
    let mut lines: Vec<_> =
        texts.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()).collect();
    lines.retain(|line| !line.is_empty());
    if lines.is_empty() {
        ((0..8_000).map(generated).collect(), "generated lines")
    } else {
        (lines, "lines of log files")
    }
}

fn generated(n: u32) -> String {
    let hash = n.wrapping_mul(2_654_435_761);
    format!(
        "081109 2036{:02} {} INFO dfs.DataNode$PacketResponder: PacketResponder {} for block blk_{hash} terminating",
        n % 60,
        hash % 3_000,
        n % 3
    )
}

fn len(lines: &[String]) -> u64 {
    lines.iter().map(|line| line.len() as u64).sum()
}

/// A broker with one empty partition, and nobody who syncs behind our back.
fn open(directory: &Path, compression: Compression) -> (Broker, Partition) {
    let broker = Broker::builder(directory.join("data")).background_thread(false).open().unwrap();
    let durability = Durability::Written { flush_interval: Duration::from_secs(3_600) };
    let config = TopicConfig::default().durability(durability).compression(compression);
    let partition = broker.create_topic("log", config).unwrap().partition(0).unwrap();
    (broker, partition)
}

fn consumer(broker: &Broker) -> Consumer {
    broker.consumer().assign([TopicPartition::new("log", 0)]).unwrap()
}

/// Polls everything.
fn read_all(consumer: &mut Consumer, records: u64) {
    consumer.seek_to_beginning();
    let (mut seen, mut sum) = (0, 0);
    while seen < records {
        for record in &consumer.poll(Duration::ZERO).unwrap() {
            let value = record.value().unwrap_or_default();
            sum += u64::from(value[0]) + value.len() as u64;
            seen += 1;
        }
    }
    black_box(sum);
}

/// A batch of lines: records, then what the codec does to them, then the sum.
fn bare_encode(codec: &mut Codec, lines: &[String], batch: &mut Vec<u8>) {
    bare::begin(batch);
    for (offset_delta, line) in lines.iter().enumerate() {
        bare::record(batch, offset_delta as i64, line.as_bytes());
    }
    if let Some(compressed) = codec.compress(&batch[bare::HEADER..]) {
        bare::begin(batch);
        batch.extend_from_slice(compressed);
    }
    bare::finish(batch, lines.len() as u32);
}

/// Longer than the records of any batch.
const PAYLOAD_MAX: usize = 1 << 20;

fn settings(text: &str) -> String {
    format!(
        "{text}, batches of {PER_BATCH}, 1 thread, 1 partition, checksums, page cache hot, {}",
        file_system(scratch().path())
    )
}

fn encode(criterion: &mut Criterion) {
    let (lines, text) = lines();
    let batches: Vec<Vec<_>> =
        lines.chunks(PER_BATCH).map(|lines| lines.iter().map(Record::new).collect()).collect();
    let mut suite = Beside::new(criterion, "encode", &settings(text));
    for (name, compression) in CODECS {
        let directory = scratch();
        let (_broker, partition) = open(directory.path(), compression);
        let mut log = Growing::new(&directory.path().join("bare"));
        let mut codec = Codec::new(compression, PAYLOAD_MAX);
        let mut batch = Vec::new();
        let mut bare = || {
            let took = time(|| {
                for lines in lines.chunks(PER_BATCH) {
                    bare_encode(&mut codec, lines, &mut batch);
                    log.append(&batch);
                }
            });
            if log.len() as u64 > KEPT {
                log.start_over();
            }
            took
        };
        let sapwood = || {
            let took =
                time(|| batches.iter().for_each(|batch| drop(partition.append(batch).unwrap())));
            if partition.size() > KEPT {
                partition.delete_records(partition.high_watermark()).unwrap();
            }
            took
        };
        suite.pair(
            name,
            Throughput::Bytes(len(&lines)),
            |n| (0..n).map(|_| bare()).sum(),
            |n| (0..n).map(|_| sapwood()).sum(),
        );
    }
    suite.finish();
}

fn iterate(criterion: &mut Criterion) {
    let (lines, text) = lines();
    let mut suite = Beside::new(criterion, "iterate", &settings(text));
    for (name, compression) in CODECS {
        let directory = scratch();
        let (broker, partition) = open(directory.path(), compression);
        for lines in lines.chunks(PER_BATCH) {
            let records: Vec<_> = lines.iter().map(Record::new).collect();
            partition.append(&records).unwrap();
        }
        let mut codec = Codec::new(compression, PAYLOAD_MAX);
        let bare_batch = |lines: &[String]| {
            let mut batch = Vec::new();
            bare_encode(&mut codec, lines, &mut batch);
            batch
        };
        let batches: Vec<_> = lines.chunks(PER_BATCH).map(bare_batch).collect();
        let mut iterate = |batch: &Vec<u8>| {
            let (payload, count, _) = bare::split_batch(batch);
            bare::walk(codec.decompress(payload), count)
        };
        let mut consumer = consumer(&broker);
        suite.pair(
            name,
            Throughput::Bytes(len(&lines)),
            |n| {
                times(n, || {
                    black_box(batches.iter().map(&mut iterate).sum::<u64>());
                })
            },
            |n| times(n, || read_all(&mut consumer, lines.len() as u64)),
        );
    }
    suite.finish();
}

fn checksum(criterion: &mut Criterion) {
    const RECORDS: u64 = 1_024;
    let value = vec![b'v'; 16 << 10];
    let directory = scratch();
    let (broker, partition) = open(directory.path(), Compression::None);
    let records = vec![Record::new(&value); 32];
    for _ in 0..RECORDS / records.len() as u64 {
        partition.append(&records).unwrap();
    }
    let bytes = vec![b'v'; partition.size() as usize];
    let mut consumer = consumer(&broker);
    let on = file_system(directory.path());
    let settings =
        format!("values of 16 KiB, batches of 32, 1 thread, 1 partition, page cache hot, {on}");
    let mut suite = Beside::new(criterion, "checksum", &settings);
    suite.pair(
        "CRC-32C",
        Throughput::Bytes(bytes.len() as u64),
        |n| {
            times(n, || {
                black_box(crc32c::crc32c(&bytes));
            })
        },
        |n| times(n, || read_all(&mut consumer, RECORDS)),
    );
    suite.finish();
}

criterion_group! {
    name = benches;
    config = beside::criterion();
    targets = encode, iterate, checksum
}
criterion_main!(benches);
