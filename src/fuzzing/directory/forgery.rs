//! What edited segments say that was never written, and say it with a right checksum.
//!
//! A checksum tells damage, not intent, and Kafka's does not cover the base offset, nor does a batch
//! say which partition it is from. Whoever puts a valid batch where a batch of that offset belongs
//! has written a record. So the judge reads the edited files for himself: what follows from them by
//! the format's own rules is no error of the reader.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;

use super::scene::{Files, Held, Scene};
use crate::consumer::records::OwnedRecord;
use crate::log::recovery::RecoveryMode;
use crate::record::batch::{BATCH_OVERHEAD, RecordBatch};
use crate::record::checksum::crc32c;
use crate::segment::file_name::{self, Suffix};
use crate::segment::time_index::ENTRY_SIZE;
use crate::topic_partition::TopicPartition;

const LENGTH_END: usize = 12;
const CRC: Range<usize> = 17..21;
const DECOMPRESSED_MAX: usize = 1 << 20;

/// An edited directory, and how it is opened.
#[derive(Clone, Copy)]
pub(super) struct Edited<'a> {
    pub(super) scene: &'a Scene,
    pub(super) files: &'a Files,
    pub(super) mode: RecoveryMode,
}

/// What the edited files of a partition say that is not so, and cannot be told from what is.
#[derive(Debug, Default)]
pub(super) struct Forged {
    /// By offset: records with a right checksum that are not those that were written there.
    records: BTreeMap<u64, Vec<OwnedRecord>>,
    /// There is a batch with a right checksum whose records are none.
    malformed: bool,
    /// A time index has an entry that is true of its batch, and says of the batches before it what
    /// only reading them all would disprove.
    misleading_times: bool,
}

impl Forged {
    /// Looks for it in the files of a partition, knowing what they were.
    pub(super) fn find(of: &TopicPartition, edited: &Edited<'_>) -> Self {
        let Edited { scene, files, mode } = *edited;
        let directory = of.directory_name();
        let is_index = |path: &Path| path.extension().is_some_and(|kind| kind == "index");
        let in_directory = |path: &Path| path.parent() == Some(Path::new(&directory));
        let indexes_are_right = scene
            .files
            .iter()
            .filter(|(path, _)| in_directory(path) && is_index(path))
            .all(|(path, bytes)| files.get(path) == Some(bytes));
        // An index can lead past what comes before a batch, and salvage takes what it finds.
        let anywhere = !indexes_are_right || mode == RecoveryMode::Salvage;
        let held = &scene.held[of];
        let mut forged = Self::default();
        for (path, bytes) in files.iter().filter(|(path, _)| in_directory(path)) {
            match path.file_name().and_then(file_name::parse) {
                Some((base_offset, Suffix::TimeIndex)) => {
                    forged.misleading_times |= is_misleading(base_offset, bytes, held);
                }
                Some((base_offset, Suffix::Log)) => {
                    let connected = connections(base_offset, scene.files.get(path), bytes);
                    let follows = |at, offset| anywhere || connected.contains(&(at, offset));
                    for (at, batch) in batches(bytes) {
                        if follows(at, batch.base_offset())
                            && has_right_checksum(&bytes[at..at + batch.size()])
                        {
                            forged.add(of, &batch, held);
                        }
                    }
                }
                _ => {}
            }
        }
        forged
    }

    fn add(&mut self, of: &TopicPartition, batch: &RecordBatch<'_>, held: &Held) {
        let mut buffer = Vec::new();
        let Ok(records) = batch.records(&mut buffer, DECOMPRESSED_MAX) else {
            self.malformed = true;
            return;
        };
        for record in records {
            let Ok(record) = record else {
                // What is whole before it may be given out before it is met.
                self.malformed = true;
                return;
            };
            let record = OwnedRecord {
                topic_partition: of.clone(),
                offset: record.offset(),
                timestamp: record.timestamp(),
                key: record.key().map(<[u8]>::to_vec),
                value: record.value().map(<[u8]>::to_vec),
                headers: record
                    .headers()
                    .map(|header| (header.name().to_owned(), header.value().map(<[u8]>::to_vec)))
                    .collect(),
            };
            let written = usize::try_from(record.offset).ok().and_then(|at| held.records.get(at));
            if written != Some(&record) {
                self.records.entry(record.offset).or_default().push(record);
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty() && !self.malformed
    }

    /// Whether a time may lead to a later record than it should.
    pub(super) fn may_lead_astray(&self) -> bool {
        self.misleading_times || !self.is_empty()
    }

    pub(super) fn holds(&self, record: &OwnedRecord) -> bool {
        self.records.get(&record.offset).is_some_and(|records| records.contains(record))
    }
}

/// Whether the segments of a partition have a batch with a right checksum that none of them had.
pub(super) fn has_new_batches(directory: &Path, edited: &Edited<'_>) -> bool {
    let is_log = |path: &Path| path.extension().is_some_and(|kind| kind == "log");
    let of = |path: &Path| path.parent() == Some(directory) && is_log(path);
    let original = edited.scene.files.iter().filter(|(path, _)| of(path));
    let known: Vec<&[u8]> = original
        .flat_map(|(_, bytes)| batches(bytes).map(|(at, batch)| &bytes[at..at + batch.size()]))
        .collect();
    edited.files.iter().filter(|(path, _)| of(path)).any(|(_, bytes)| {
        batches(bytes)
            .map(|(at, batch)| &bytes[at..at + batch.size()])
            .any(|batch| has_right_checksum(batch) && !known.contains(&batch))
    })
}

/// Whether a time index says of a record that it is the latest so far, and has only its time right.
fn is_misleading(base_offset: u64, index: &[u8], held: &Held) -> bool {
    index.chunks_exact(ENTRY_SIZE).any(|entry| {
        let (timestamp, offset) = entry.split_at(8);
        let timestamp = i64::from_be_bytes(timestamp.try_into().expect("it has eight bytes"));
        let offset = u32::from_be_bytes(offset.try_into().expect("it has four bytes"));
        let written = |at: u64| usize::try_from(at).ok().and_then(|at| held.records.get(at));
        let offset = base_offset.saturating_add(offset.into());
        written(offset).is_some_and(|record| record.timestamp.as_millis() == timestamp)
            && (base_offset..offset)
                .filter_map(written)
                .any(|before| before.timestamp.as_millis() > timestamp)
    })
}

/// Where a batch of which base offset is due: at the start, behind whatever looks like a batch, and
/// where there was one before.
fn connections(
    base_offset: u64,
    original: Option<&Vec<u8>>,
    edited: &[u8],
) -> BTreeSet<(usize, u64)> {
    let mut connected = BTreeSet::from([(0, base_offset)]);
    for bytes in original.map(Vec::as_slice).into_iter().chain([edited]) {
        let ends = batches(bytes).map(|(at, batch)| (at + batch.size(), batch.next_offset()));
        connected.extend(ends);
    }
    connected
}

/// Whatever has the header of a batch and its size, wherever it begins.
fn batches(bytes: &[u8]) -> impl Iterator<Item = (usize, RecordBatch<'_>)> {
    const MAGIC: usize = 16;
    // Most places can be told from a batch by this byte.
    let candidates = (0..bytes.len()).filter(|at| bytes.get(at + MAGIC) == Some(&2));
    candidates.filter_map(|at| Some((at, RecordBatch::parse(&bytes[at..]).ok()?)))
}

fn has_right_checksum(batch: &[u8]) -> bool {
    batch[CRC] == crc32c(&batch[CRC.end..]).to_be_bytes()
}

/// Puts the checksum of the n-th batch right, as far as lengths lead there.
pub(super) fn mend_batch(file: &mut [u8], number: usize) {
    let mut at = 0;
    for n in 0..=number {
        let Some(rest) = file.get_mut(at..).filter(|rest| rest.len() >= BATCH_OVERHEAD) else {
            return;
        };
        let length = rest[8..LENGTH_END].try_into().expect("a length has four bytes");
        let size = usize::try_from(u32::from_be_bytes(length)).map(|length| length + LENGTH_END);
        let Ok(size @ BATCH_OVERHEAD..) = size else { return };
        let Some(batch) = rest.get_mut(..size) else { return };
        if n == number {
            let crc = crc32c(&batch[CRC.end..]);
            batch[CRC].copy_from_slice(&crc.to_be_bytes());
        }
        at += size;
    }
}
