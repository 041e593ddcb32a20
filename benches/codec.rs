//! Encoding and reading records of real text, uncompressed and with each codec, beside the bare codec
//! over the same bytes. In memory, so that no disk is part of it.
//!
//! The text is the lines of the log files in `../shared/data`, or generated lines of the same shape
//! where that directory is not there. Batches are of 100 lines.

use std::fs;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sapwood::{Broker, Compression, Durability, Record, TopicConfig, TopicPartition};

const PER_BATCH: usize = 100;
/// Space is given back after so many bytes, outside of what is measured.
const KEPT: u64 = 64 << 20;

fn lines() -> Vec<String> {
    let files = fs::read_dir("../shared/data").into_iter().flatten().flatten();
    let mut paths: Vec<_> = files.map(|file| file.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
    paths.sort();
    let texts = paths.iter().filter_map(|path| fs::read_to_string(path).ok());
    let lines: Vec<_> =
        texts.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()).collect();
    if lines.is_empty() { (0..8_000).map(generated).collect() } else { lines }
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

fn written() -> Durability {
    Durability::Written { flush_interval: Duration::from_secs(3_600) }
}

const CODECS: [(&str, Compression); 3] =
    [("none", Compression::None), ("lz4", Compression::Lz4), ("zstd", Compression::zstd())];

/// What the codec alone does to the bytes of a batch.
fn bare_compress(compression: Compression, bytes: &[u8]) -> Vec<u8> {
    match compression {
        Compression::Lz4 => lz4_flex::block::compress(bytes),
        Compression::Zstd { level } => zstd::bulk::compress(bytes, level).unwrap(),
        _ => bytes.to_vec(),
    }
}

fn bare_decompress(compression: Compression, bytes: &[u8], len: usize) -> Vec<u8> {
    match compression {
        Compression::Lz4 => lz4_flex::block::decompress(bytes, len).unwrap(),
        Compression::Zstd { .. } => zstd::bulk::decompress(bytes, len).unwrap(),
        _ => bytes.to_vec(),
    }
}

fn encode(criterion: &mut Criterion) {
    let lines = lines();
    let batches: Vec<Vec<_>> =
        lines.chunks(PER_BATCH).map(|lines| lines.iter().map(Record::new).collect()).collect();
    let texts: Vec<String> = lines.chunks(PER_BATCH).map(|lines| lines.concat()).collect();
    let bytes: usize = texts.iter().map(String::len).sum();
    for (name, compression) in CODECS {
        let broker = Broker::in_memory().unwrap();
        let config = TopicConfig::default().durability(written()).compression(compression);
        let partition = broker.create_topic("t", config).unwrap().partition(0).unwrap();
        let mut group = criterion.benchmark_group(format!("append lines, {name}"));
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function("bare codec", |bencher| {
            bencher.iter(|| {
                texts
                    .iter()
                    .map(|text| bare_compress(compression, text.as_bytes()).len())
                    .sum::<usize>()
            });
        });
        group.bench_function("sapwood", |bencher| {
            bencher.iter_custom(|n| {
                let mut elapsed = Duration::ZERO;
                for _ in 0..n {
                    let started = Instant::now();
                    batches.iter().for_each(|batch| drop(partition.append(batch).unwrap()));
                    elapsed += started.elapsed();
                    if partition.size() > KEPT {
                        partition.delete_records(partition.high_watermark()).unwrap();
                    }
                }
                elapsed
            });
        });
        group.finish();
    }
}

fn read(criterion: &mut Criterion) {
    let lines = lines();
    for (name, compression) in CODECS {
        let broker = Broker::in_memory().unwrap();
        let config = TopicConfig::default().durability(written()).compression(compression);
        let partition = broker.create_topic("t", config).unwrap().partition(0).unwrap();
        for lines in lines.chunks(PER_BATCH) {
            let records: Vec<_> = lines.iter().map(Record::new).collect();
            partition.append(&records).unwrap();
        }
        let texts: Vec<String> = lines.chunks(PER_BATCH).map(|lines| lines.concat()).collect();
        let bytes: usize = texts.iter().map(String::len).sum();
        let packed: Vec<_> = texts
            .iter()
            .map(|text| (bare_compress(compression, text.as_bytes()), text.len()))
            .collect();
        let mut consumer = broker.consumer().assign([TopicPartition::new("t", 0)]).unwrap();
        let mut group = criterion.benchmark_group(format!("read lines, {name}"));
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function("bare codec", |bencher| {
            bencher.iter(|| {
                let unpacked =
                    packed.iter().map(|(bytes, len)| bare_decompress(compression, bytes, *len));
                unpacked.map(|bytes| bytes.len()).sum::<usize>()
            });
        });
        group.bench_function("sapwood", |bencher| {
            bencher.iter(|| {
                consumer.seek_to_beginning();
                let (mut seen, mut sum) = (0, 0);
                while seen < lines.len() {
                    for record in &consumer.poll(Duration::ZERO).unwrap() {
                        sum += record.value().map_or(0, <[u8]>::len);
                        seen += 1;
                    }
                }
                sum
            });
        });
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10).measurement_time(Duration::from_secs(2));
    targets = encode, read
}
criterion_main!(benches);
