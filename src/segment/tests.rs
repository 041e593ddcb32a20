//! One segment: what is appended can be found and read, indexes are Kafka's byte for byte, and
//! neither a wrong index nor a flipped bit ever yields a wrong record.

use std::path::Path;
use std::sync::Arc;

use super::offset_index::OffsetEntry;
use super::records_file::ReadMode;
use super::scan::{Then, scan};
use super::writer::{BatchFacts, SegmentWriter, Store, WriterLimits};
use super::*;
use crate::fs::disk::DiskFileSystem;
use crate::fs::memory::MemoryFileSystem;
use crate::fs::{Access, TailWrites};
use crate::record::builder::BatchBuilder;
use crate::record::{Compression, Record, vectors};

const BASE: u64 = 1_000;
/// Larger than a walk's stretch of 64 KiB when copied.
const LARGE: usize = 100_000;

/// A batch of records that all have the timestamp.
fn batch(base_offset: u64, values: &[&[u8]], timestamp: i64) -> Vec<u8> {
    let mut builder = BatchBuilder::new();
    for value in values {
        builder.append(&Record::new(value), Timestamp::from_millis(timestamp)).unwrap();
    }
    builder.seal(Compression::None).unwrap();
    let mut sealed = builder.sealed();
    sealed.assign(base_offset, 0);
    sealed.bytes().to_vec()
}

fn limits(index_interval: u64, tail_writes: TailWrites) -> WriterLimits {
    WriterLimits { len_max: 1 << 30, index_interval, tail_writes }
}

fn new_writer(fs: &Arc<dyn FileSystem>, directory: &Path, limits: WriterLimits) -> SegmentWriter {
    let path = file_name::path(directory, BASE, Suffix::Log);
    fs.create_new(&path).unwrap();
    let extent = Extent { len: 0, next_offset: BASE };
    let segment = Segment::new(Arc::clone(fs), directory.into(), BASE, extent, ReadMode::Mapped);
    let indexer = Indexer::begin(BASE, limits.index_interval);
    SegmentWriter::new(Arc::new(segment), indexer, limits)
}

/// Appends batches of 1 to 4 records, some of them large, with timestamps that rise and fall.
fn fill(writer: &mut SegmentWriter, count: u64) -> Vec<Vec<u8>> {
    let mut batches = Vec::new();
    for number in 0..count {
        let len =
            if number % 17 == 5 { LARGE } else { usize::try_from(number * 37 % 300).unwrap() };
        let value = vec![b'a' + u8::try_from(number % 26).unwrap(); len];
        let values = vec![&value[..]; usize::try_from(number % 4 + 1).unwrap()];
        let bytes = batch(writer.end().base_offset, &values, timestamp_of(number));
        append(writer, &bytes, if number % 3 == 0 { Store::Positioned } else { Store::Window });
        batches.push(bytes);
    }
    batches
}

fn timestamp_of(number: u64) -> i64 {
    i64::try_from(1_000 + number * 10 - (number % 5) * 25).unwrap()
}

fn append(writer: &mut SegmentWriter, bytes: &[u8], store: Store) {
    let parsed = RecordBatch::parse(bytes).unwrap();
    let facts =
        BatchFacts { last_offset: parsed.last_offset(), max_timestamp: parsed.max_timestamp() };
    writer.append(bytes, facts, store).unwrap();
}

fn seal(writer: &mut SegmentWriter) {
    writer.finish_indexes().unwrap();
    writer.cut().unwrap();
}

/// Everything from the start of the segment, read in runs of at least `max_bytes`.
fn read_all(segment: &Segment, max_bytes: usize) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut at = segment.start();
    while at.file_position < segment.len() {
        let run = segment.read(at, max_bytes, u64::MAX)?;
        bytes.extend_from_slice(&run.bytes);
        at = run.next;
    }
    Ok(bytes)
}

/// The same segment as a reader that opens it anew, in one of the read modes.
fn reopened(segment: &Segment, read_mode: ReadMode) -> Segment {
    let extent = Extent { len: segment.len(), next_offset: segment.next_offset() };
    let (fs, directory) = (Arc::clone(&segment.fs), Arc::clone(&segment.directory));
    Segment::new(fs, directory, segment.base_offset(), extent, read_mode)
}

/// Each place on which segments can lie, and how their tails are written there.
fn places(run: impl Fn(Arc<dyn FileSystem>, &Path, TailWrites)) {
    for tail_writes in [TailWrites::MAPPED, TailWrites::Positioned] {
        let disk = tempfile::tempdir().unwrap();
        run(Arc::new(DiskFileSystem), disk.path(), tail_writes);
        run(Arc::new(MemoryFileSystem::new()), Path::new(""), tail_writes);
    }
}

#[test]
fn what_was_appended_is_read_back_in_runs_of_any_size_and_in_both_read_modes() {
    places(|fs, directory, tail_writes| {
        let mut writer = new_writer(&fs, directory, limits(512, tail_writes));
        let expected = fill(&mut writer, 60).concat();
        for max_bytes in [0, 1, 700, 1 << 16, 1 << 30] {
            assert!(read_all(writer.segment(), max_bytes).unwrap() == expected, "{max_bytes}");
            for read_mode in [ReadMode::Mapped, ReadMode::Copied] {
                let reader = reopened(writer.segment(), read_mode);
                assert!(read_all(&reader, max_bytes).unwrap() == expected, "{max_bytes}");
            }
        }
    });
}

#[test]
fn every_offset_is_located_with_and_without_index_files() {
    places(|fs, directory, tail_writes| {
        let mut writer = new_writer(&fs, directory, limits(512, tail_writes));
        let batches = fill(&mut writer, 60);
        check_locate(writer.segment(), &batches);
        check_locate(&reopened(writer.segment(), ReadMode::Mapped), &batches);
        seal(&mut writer);
        for read_mode in [ReadMode::Mapped, ReadMode::Copied] {
            check_locate(&reopened(writer.segment(), read_mode), &batches);
        }
    });
}

fn check_locate(segment: &Segment, batches: &[Vec<u8>]) {
    let mut file_position = 0;
    for bytes in batches {
        let batch = RecordBatch::parse(bytes).unwrap();
        let expected = BatchPosition { file_position, base_offset: batch.base_offset() };
        for offset in batch.base_offset()..=batch.last_offset() {
            assert_eq!(segment.locate(offset).unwrap(), expected, "offset {offset}");
        }
        file_position += bytes.len() as u64;
    }
    let end = BatchPosition { file_position, base_offset: segment.next_offset() };
    assert_eq!(segment.locate(segment.next_offset()).unwrap(), end);
}

/// What is loaded at a time may end anywhere in a batch that is larger than it, header included.
#[test]
fn a_large_batch_is_found_wherever_the_loaded_stretch_ends() {
    for short_by in [0, 1, 11, 12, 60, 61, 62] {
        let fs: Arc<dyn FileSystem> = Arc::new(MemoryFileSystem::new());
        let mut writer = new_writer(&fs, Path::new(""), limits(1 << 20, TailWrites::Positioned));
        let overhead = batch(BASE, &[&vec![0; 65_000]], 0).len() - 65_000;
        let first = batch(BASE, &[&vec![1; (64 << 10) - short_by - overhead]], 0);
        assert_eq!(first.len(), (64 << 10) - short_by);
        let second = batch(BASE + 1, &[&vec![2; 3 << 20]], 0);
        for bytes in [&first, &second] {
            append(&mut writer, bytes, Store::Positioned);
        }
        check_locate(&reopened(writer.segment(), ReadMode::Copied), &[first, second]);
        let path = writer.segment().records().path();
        let file = fs.open(path, Access::Read).unwrap();
        let scanned = scan(&*file, path, writer.segment().start(), None, &mut |_, _| {}).unwrap();
        assert_eq!((scanned.end, scanned.then), (writer.end(), Then::EndOfFile), "{short_by}");
    }
}

#[test]
fn timestamps_are_located_as_a_search_from_the_start_would() {
    places(|fs, directory, tail_writes| {
        let mut writer = new_writer(&fs, directory, limits(512, tail_writes));
        let batches = fill(&mut writer, 60);
        check_locate_timestamp(writer.segment(), &batches);
        seal(&mut writer);
        for read_mode in [ReadMode::Mapped, ReadMode::Copied] {
            check_locate_timestamp(&reopened(writer.segment(), read_mode), &batches);
        }
    });
}

fn check_locate_timestamp(segment: &Segment, batches: &[Vec<u8>]) {
    let parsed: Vec<_> = batches.iter().map(|bytes| RecordBatch::parse(bytes).unwrap()).collect();
    for millis in (800..1_800).step_by(5) {
        for from in [0, BASE, BASE + 30, BASE + 77] {
            let timestamp = Timestamp::from_millis(millis);
            let expected = parsed
                .iter()
                .find(|batch| batch.max_timestamp() >= timestamp && batch.last_offset() >= from)
                .map(RecordBatch::base_offset);
            let found = segment.locate_timestamp(timestamp, from).unwrap();
            assert_eq!(found.map(|at| at.base_offset), expected, "{millis} from {from}");
        }
    }
}

#[test]
fn kafkas_own_indexes_come_out_of_kafkas_own_log_byte_for_byte() {
    let document = vectors::load();
    let files = &document["log_directory"]["files"];
    for base_offset in [0, 34] {
        let (fs, directory): (Arc<dyn FileSystem>, _) =
            (Arc::new(MemoryFileSystem::new()), Path::new(""));
        let path = file_name::path(directory, base_offset, Suffix::Log);
        let name =
            |suffix| file_name::path(directory, base_offset, suffix).to_str().unwrap().to_owned();
        let log = fs.create_new(&path).unwrap();
        log.write_all_at(&vectors::hex(&files[name(Suffix::Log)]), 0).unwrap();
        let mut indexer = Indexer::begin(base_offset, 512);
        let start = BatchPosition { file_position: 0, base_offset };
        let found = scan(&*log, &path, start, None, &mut |batch, at| {
            indexer.add(batch, at.file_position);
        })
        .unwrap();
        indexer.finish();
        assert_eq!(found.then, Then::EndOfFile);
        let index = vectors::hex(&files[name(Suffix::Index)]);
        let time_index = vectors::hex(&files[name(Suffix::TimeIndex)]);
        assert_eq!(indexer.indexes.offsets.entries().bytes_from(0), index);
        assert_eq!(indexer.indexes.times.entries().bytes_from(0), time_index);
    }
}

#[test]
fn a_writer_leaves_the_index_files_that_a_scan_of_its_log_gives() {
    places(|fs, directory, tail_writes| {
        let mut writer = new_writer(&fs, directory, limits(512, tail_writes));
        let batches = fill(&mut writer, 40);
        seal(&mut writer);
        let bytes: u64 = batches.iter().map(|bytes| bytes.len() as u64).sum();
        let path = file_name::path(directory, BASE, Suffix::Log);
        let log = fs.open(&path, Access::Read).unwrap();
        assert_eq!(log.len().unwrap(), bytes, "cut to its true length");
        let mut indexer = Indexer::begin(BASE, 512);
        scan(&*log, &path, writer.segment().start(), None, &mut |batch, at| {
            indexer.add(batch, at.file_position);
        })
        .unwrap();
        indexer.finish();
        let written = |suffix| file_bytes(&*fs, &file_name::path(directory, BASE, suffix));
        assert_eq!(written(Suffix::Index), indexer.indexes.offsets.entries().bytes_from(0));
        assert_eq!(written(Suffix::TimeIndex), indexer.indexes.times.entries().bytes_from(0));
        assert!(indexer.indexes.offsets.len() > 5);
    });
}

fn file_bytes(fs: &dyn FileSystem, path: &Path) -> Vec<u8> {
    let file = fs.open(path, Access::Read).unwrap();
    let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    file.read_at(&mut bytes, 0).unwrap();
    bytes
}

/// A sealed segment in memory and its batches.
fn sealed_segment(count: u64) -> (Arc<dyn FileSystem>, Arc<Segment>, Vec<Vec<u8>>) {
    let fs: Arc<dyn FileSystem> = Arc::new(MemoryFileSystem::new());
    let mut writer = new_writer(&fs, Path::new(""), limits(300, TailWrites::Positioned));
    let batches = fill(&mut writer, count);
    seal(&mut writer);
    let segment = Arc::clone(writer.segment());
    (fs, segment, batches)
}

#[test]
fn with_any_byte_of_an_index_file_damaged_the_answers_are_the_same() {
    let (fs, segment, batches) = sealed_segment(20);
    for suffix in [Suffix::Index, Suffix::TimeIndex] {
        let path = segment.path(suffix);
        let bytes = file_bytes(&*fs, &path);
        assert!(bytes.len() > 40);
        let file = fs.open(&path, Access::ReadWrite).unwrap();
        for at in 0..bytes.len() {
            for mask in [1, 0x80, 0xff] {
                file.write_all_at(&[bytes[at] ^ mask], at as u64).unwrap();
                check_locate(&reopened(&segment, ReadMode::Copied), &batches);
                check_locate_timestamp(&reopened(&segment, ReadMode::Copied), &batches);
            }
            file.write_all_at(&bytes[at..=at], at as u64).unwrap();
        }
    }
}

#[test]
fn with_an_index_file_cut_short_emptied_or_missing_the_answers_are_the_same() {
    for suffix in [Suffix::Index, Suffix::TimeIndex] {
        let (fs, segment, batches) = sealed_segment(30);
        let path = segment.path(suffix);
        let file = fs.open(&path, Access::ReadWrite).unwrap();
        for len in (0..file.len().unwrap()).rev() {
            file.set_len(len).unwrap();
            check_locate(&reopened(&segment, ReadMode::Copied), &batches);
            check_locate_timestamp(&reopened(&segment, ReadMode::Copied), &batches);
        }
        fs.remove_file(&path).unwrap();
        check_locate(&reopened(&segment, ReadMode::Copied), &batches);
        check_locate_timestamp(&reopened(&segment, ReadMode::Copied), &batches);
    }
}

#[test]
fn an_index_entry_that_points_nowhere_is_not_followed() {
    let (_, segment, batches) = sealed_segment(10);
    let len = u32::try_from(segment.len()).unwrap();
    for file_position in [1, 61, len - 1, len, len + 1, u32::MAX] {
        let entry = OffsetEntry { relative_offset: 3, file_position };
        assert_eq!(segment.check_entry(entry), None, "{file_position}");
    }
    let second = u32::try_from(batches[0].len()).unwrap();
    let entry = OffsetEntry { relative_offset: 2, file_position: second };
    assert!(segment.check_entry(entry).is_some(), "the batch of offsets 1 and 2");
}

#[test]
fn no_flipped_bit_in_the_log_yields_a_wrong_record() {
    let fs: Arc<dyn FileSystem> = Arc::new(MemoryFileSystem::new());
    let mut writer = new_writer(&fs, Path::new(""), limits(100, TailWrites::Positioned));
    let mut batches = Vec::new();
    for number in 0..6_u8 {
        let bytes = batch(writer.end().base_offset, &[&[number; 20], b"x"], 5);
        append(&mut writer, &bytes, Store::Positioned);
        batches.push(bytes);
    }
    seal(&mut writer);
    let segment = writer.segment();
    let file = fs.open(segment.records().path(), Access::ReadWrite).unwrap();
    let good = batches.concat();
    for bit in 0..good.len() * 8 {
        let (at, mask) = (bit / 8, 1 << (bit % 8));
        file.write_all_at(&[good[at] ^ mask], at as u64).unwrap();
        for offset in BASE..segment.next_offset() {
            check_damaged_read(&reopened(segment, ReadMode::Copied), offset, &batches, bit);
        }
        file.write_all_at(&good[at..=at], at as u64).unwrap();
    }
}

/// A read that starts at an offset ends in the right bytes or in an error that says so.
fn check_damaged_read(segment: &Segment, offset: u64, batches: &[Vec<u8>], bit: usize) {
    let run = segment.locate(offset).and_then(|at| {
        let run = segment.read(at, 1, u64::MAX)?;
        Ok((at, run))
    });
    let (at, run) = match run {
        Ok(found) => found,
        Err(Error::Corrupt(_)) => return,
        Err(other) => panic!("bit {bit}: {other}"),
    };
    let number = usize::try_from((offset - BASE) / 2).unwrap();
    let expected = &batches[number];
    assert_eq!(at.base_offset, BASE + 2 * number as u64, "bit {bit}");
    // The leader epoch, bytes 12 to 16, lies outside the checksum and says nothing of records.
    assert_eq!(run.bytes[16..], expected[16..], "bit {bit}");
    assert_eq!(run.bytes[..12], expected[..12], "bit {bit}");
}

#[test]
fn a_reader_never_sees_batches_at_or_beyond_the_end_it_gives() {
    let (_, segment, batches) = sealed_segment(12);
    let third = RecordBatch::parse(&batches[2]).unwrap().base_offset();
    let run = segment.read(segment.start(), 1 << 20, third).unwrap();
    assert_eq!(*run.bytes, batches[..2].concat());
    assert_eq!(run.next.base_offset, third);
}

#[test]
fn the_largest_timestamp_is_read_from_the_batches_whatever_the_time_index_says() {
    let (fs, segment, _) = sealed_segment(30);
    let largest = Timestamp::from_millis((0..30).map(timestamp_of).max().unwrap());
    let path = segment.path(Suffix::TimeIndex);
    let file = fs.open(&path, Access::ReadWrite).unwrap();
    let last = file.len().unwrap() - 12;
    file.write_all_at(&i64::MAX.to_be_bytes(), last).unwrap();
    assert_eq!(reopened(&segment, ReadMode::Copied).largest_timestamp().unwrap(), largest);
    assert_eq!(segment.largest_timestamp().unwrap(), largest);
}
