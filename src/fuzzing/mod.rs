//! Ways in for the fuzz targets of `fuzz/`; compiled only with `--cfg fuzzing`.
//!
//! One function for each target. Each takes arbitrary bytes and checks what must hold for any bytes
//! whatever (contract, clauses 12, 20 to 22): no panic, no hang, no memory beyond the limits, and
//! what was accepted once is accepted again.

#![allow(clippy::missing_panics_doc)] // to panic is how they tell

mod directory;
mod input;
mod ops;

use std::path::Path;
use std::sync::Arc;

pub use self::directory::directory;
pub use self::ops::ops;

use crate::broker::Broker;
use crate::broker::config::BrokerBuilder;
use crate::fs::FileSystem;
use crate::fs::memory::MemoryFileSystem;
use crate::log::checkpoint::WATERMARK_FILE;
use crate::log::config::TopicConfig;
use crate::record::Record;
use crate::record::batch::{BATCH_OVERHEAD, check_batches};
use crate::record::checksum::crc32c;
use crate::topic::kafka_files::PARTITION_METADATA_FILE;
use crate::topic::log_manager::CLEAN_SHUTDOWN_FILE;
use crate::topic::registry::REGISTRY_FILE;

/// No honest batch of a fuzzer's size decompresses to more.
const DECOMPRESSED_MAX: usize = 16 << 20;

/// Bytes as record batches: as they are, and with what a checksum would keep a fuzzer away from put
/// right.
pub fn record_batch(bytes: &[u8]) {
    for bytes in [bytes.to_vec(), with_checksum(bytes)] {
        if let Ok(records) = check_batches(&bytes, DECOMPRESSED_MAX) {
            assert_eq!(check_batches(&bytes, DECOMPRESSED_MAX), Ok(records));
        }
    }
}

/// Bytes as the one segment of a partition. The first byte says whether the checkpoint is there,
/// and whether length and checksum of the first batch are put right.
pub fn segment_recovery(bytes: &[u8]) {
    let Some((how, segment)) = bytes.split_first() else { return };
    let (fs, root) = partition();
    let segment = if how & 2 == 0 { segment.to_vec() } else { with_checksum(segment) };
    replace(&*fs, &root.join("t-0/00000000000000000000.log"), &segment);
    if how & 1 == 0 {
        drop(fs.remove_file(&root.join("t-0").join(WATERMARK_FILE)));
    }
    open_and_use(&fs, &root);
}

/// The bytes as one batch whose base offset, length, magic and checksum are right.
fn with_checksum(bytes: &[u8]) -> Vec<u8> {
    const LENGTH_END: usize = 12;
    const CRC: std::ops::Range<usize> = 17..21;
    let mut batch = bytes.to_vec();
    if batch.len() < BATCH_OVERHEAD {
        return batch;
    }
    let length = u32::try_from(batch.len() - LENGTH_END).expect("a fuzzer's input is small");
    batch[..8].fill(0);
    batch[8..LENGTH_END].copy_from_slice(&length.to_be_bytes());
    batch[16] = 2;
    let crc = crc32c(&batch[CRC.end..]);
    batch[CRC].copy_from_slice(&crc.to_be_bytes());
    batch
}

/// Bytes as one of our own files; the first byte says as which, and whether what a checksum would keep
/// a fuzzer away from is put right.
pub fn control_files(bytes: &[u8]) {
    let Some((how, content)) = bytes.split_first() else { return };
    let (fs, root) = partition();
    let partition = root.join("t-0");
    let (path, mended) = match how % 3 {
        0 => {
            // It says which topic the partition is of, and ids are made anew each time.
            fs.remove_file(&partition.join(PARTITION_METADATA_FILE)).expect("it was just made");
            (root.join(REGISTRY_FILE), registry_with_checksum(content))
        }
        1 => (partition.join(WATERMARK_FILE), checkpoint_with_checksums(content)),
        _ => (root.join(CLEAN_SHUTDOWN_FILE), content.to_vec()),
    };
    replace(&*fs, &path, if how & 0x80 == 0 { content } else { &mended });
    open_and_use(&fs, &root);
}

/// The bytes as the lines of a registry, with the one that is their checksum.
fn registry_with_checksum(lines: &[u8]) -> Vec<u8> {
    let crc = crc32fast::hash(lines);
    [lines, format!("crc32 {crc:08x}\n").as_bytes()].concat()
}

/// The bytes as the slots of a checkpoint, each with the right checksum.
fn checkpoint_with_checksums(slots: &[u8]) -> Vec<u8> {
    const BLOCK_LEN: usize = 4096;
    const CRC: std::ops::Range<usize> = 8..12;
    const BODY_END: usize = 56;
    let mut slots = slots.to_vec();
    for slot in slots.chunks_mut(BLOCK_LEN).filter(|slot| slot.len() >= BODY_END) {
        let crc = crc32fast::hash(&slot[CRC.end..BODY_END]);
        slot[CRC].copy_from_slice(&crc.to_be_bytes());
    }
    slots
}

/// A directory with a topic `t` of one partition, which holds two records and was closed in order.
fn partition() -> (Arc<MemoryFileSystem>, std::path::PathBuf) {
    let fs = Arc::new(MemoryFileSystem::new());
    let broker = open(&fs).expect("an empty directory opens");
    let root = broker.directory().to_owned();
    let topic = broker.create_topic("t", TopicConfig::default()).expect("the topic is new");
    let records = [Record::new("one"), Record::new("two")];
    topic.partition(0).and_then(|log| log.append(&records)).expect("there is room");
    broker.close().expect("memory does not fail");
    (fs, root)
}

fn open(fs: &Arc<MemoryFileSystem>) -> crate::error::Result<Broker> {
    let fs: Arc<MemoryFileSystem> = Arc::clone(fs);
    BrokerBuilder::in_memory().file_system(fs).background_thread(false).open()
}

fn replace(fs: &dyn FileSystem, path: &Path, bytes: &[u8]) {
    drop(fs.remove_file(path));
    let file = fs.create_new(path).expect("the name is free");
    file.write_all_at(bytes, 0).expect("memory does not fail");
}

/// If it opens, what is in it can be verified and added to, and is the same when opened again.
fn open_and_use(fs: &Arc<MemoryFileSystem>, root: &Path) {
    let Ok(broker) = open(fs) else { return };
    assert_eq!(broker.directory(), root);
    let Ok(log) = broker.topic("t").and_then(|topic| topic.partition(0)) else { return };
    if log.topic().config().max_bytes.is_some() {
        // It might have to wait for room, for a minute.
        return;
    }
    let report = broker.verify().expect("damage is no error here");
    let end = log.log_end_offset();
    if log.append(&[Record::new("three")]).is_err() {
        return;
    }
    assert_eq!(log.log_end_offset(), end + 1);
    broker.close().expect("memory does not fail");
    drop((log, broker));
    let broker = open(fs).expect("what was closed in order opens");
    let again = broker.verify().expect("damage is no error here");
    if report.is_intact() {
        assert_eq!(again.records(), report.records() + 1);
    }
}
