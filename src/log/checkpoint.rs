//! The watermark checkpoint of a partition: up to where the log is known to be on disk.
//!
//! At open it tells a torn tail, which is cut, from corruption, which is reported (contract, clause
//! 13), and where to begin looking (clause 15). It is derived (clause 17): with the file lost the
//! log is the same, only nothing of it counts as proven. Kafka ignores a file of this name.
//!
//! A checkpoint is written after every flush but synced only about once a second, so it must survive
//! the loss of any page that is written and not yet synced: such a page may come back old, new, zero
//! or as garbage. Therefore the file has two slots in two different 4 KiB blocks, and
//! [`CheckpointWriter`] keeps to one rule: it writes only to the slot that does *not* hold the last
//! checkpoint made durable, however often, and changes over after a successful sync. At every moment
//! one slot is untouched since a sync that covered it, and of the valid slots the one with the larger
//! sequence number is at least as new. Taking turns at every *write* would not do: two writes after a
//! sync would put both slots at risk.
//!
//! There is no mark for a clean close, and so none to be removed durably before the first append
//! (clause 18): a clean close cuts the active segment at the recovery point, and a segment that ends
//! at the checkpoint's file position holds nothing to be examined.
//!
//! A slot, all integers big-endian:
//!
//! | at | bytes | field |
//! |---|---|---|
//! | 0 | 8 | magic, `sapwmark` |
//! | 8 | 4 | CRC-32 of the bytes from 12 to the end of the body |
//! | 12 | 2 | version of the body, 1 |
//! | 14 | 2 | length of the body in bytes |
//! | 16 | 8 | sequence number: one more with every write |
//! | 24 | 8 | recovery point |
//! | 32 | 8 | base offset of the segment that holds the recovery point |
//! | 40 | 4 | file position of the recovery point in that segment |
//! | 44 | 8 | log start offset |
//! | 52 | 4 | flags: 1 = a sync has failed, 2 = the index files are synced, too |

#[cfg(test)]
mod tests;

use std::io;

use crate::fs::held::HeldFile;

/// The file's name in the partition's directory.
pub(crate) const WATERMARK_FILE: &str = "watermark.checkpoint";

/// The file's length: two slots, each at the beginning of its block.
pub(crate) const WATERMARK_FILE_LEN: usize = 2 * BLOCK_LEN;

/// What a disk or a page cache loses at once, at most.
const BLOCK_LEN: usize = 4096;

const MAGIC: [u8; 8] = *b"sapwmark";
const VERSION: u16 = 1;
const BODY_LEN: u16 = 40;
const FLAG_SYNC_FAILED: u32 = 1;
const FLAG_INDEXES_SYNCED: u32 = 2;

/// What is known of a partition's bytes on disk.
#[derive(Default, Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    /// Every offset below it is synced.
    pub(crate) recovery_point: u64,
    /// The base offset of the segment that holds the recovery point; `<= recovery_point`.
    pub(crate) segment_base: u64,
    /// Where in that segment's `.log` file the batch at the recovery point begins, or will.
    pub(crate) file_position: u32,
    /// The first offset that may be read.
    pub(crate) log_start_offset: u64,
    /// A sync has failed since the broker was opened: what can be read above the recovery point may
    /// be in the page cache alone (clause 9). Also set when it was a sync of the checkpoint itself
    /// that failed; the file must then be replaced by a new one before it is relied upon.
    pub(crate) sync_failed: bool,
    /// The segment's index files are synced as well, as a close in order leaves them. Otherwise a
    /// power loss may have taken entries of the one and not of the other.
    pub(crate) indexes_synced: bool,
}

/// The file was written by a newer version, or says something that this one does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unsupported {
    #[error("it is of version {0}; this build reads version {VERSION}")]
    Version(u16),
    #[error("it has unknown flags, {0:#x}")]
    Flags(u32),
}

/// What was found in a checkpoint file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Slots {
    newest: Option<Slot>,
    older: Option<Slot>,
}

impl Slots {
    /// The newest checkpoint that is whole; `None` in a new file or where both slots are damaged.
    pub(crate) fn newest(&self) -> Option<Checkpoint> {
        self.newest.map(|slot| slot.checkpoint)
    }

    /// The base offset of a segment before which no recovery cuts anything, whatever a power loss
    /// takes: one of the two checkpoints is durable. 0 if nothing is known.
    pub(crate) fn untouched_before(&self) -> u64 {
        let bases = [self.newest, self.older].into_iter().flatten();
        bases.map(|slot| slot.checkpoint.segment_base).min().unwrap_or(0)
    }
}

/// A checkpoint and where it stood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Slot {
    half: Half,
    sequence: u64,
    checkpoint: Checkpoint,
}

/// One of the two slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Half {
    First,
    Second,
}

impl Half {
    fn other(self) -> Self {
        match self {
            Half::First => Half::Second,
            Half::Second => Half::First,
        }
    }

    fn at(self) -> usize {
        match self {
            Half::First => 0,
            Half::Second => BLOCK_LEN,
        }
    }
}

/// Reads the bytes of a checkpoint file, of which anything may be missing or damaged.
///
/// # Errors
///
/// [`Unsupported`] when a slot is whole but not understood: it may be newer than the other one.
pub(crate) fn decode(file: &[u8]) -> Result<Slots, Unsupported> {
    let mut slots = Slots::default();
    for half in [Half::First, Half::Second] {
        let Some(body) = file.get(half.at()..).and_then(checked_body) else { continue };
        let Some((sequence, checkpoint)) = decode_body(body)? else { continue };
        let slot = Some(Slot { half, sequence, checkpoint });
        if slots.newest.is_none_or(|newest| newest.sequence < sequence) {
            slots = Slots { newest: slot, older: slots.newest };
        } else {
            slots.older = slot;
        }
    }
    Ok(slots)
}

/// The whole of a new checkpoint file, to be put in place of one that cannot be relied upon.
pub(crate) fn encode_file(checkpoint: &Checkpoint) -> Vec<u8> {
    let mut file = encode_slot(1, checkpoint);
    file.resize(WATERMARK_FILE_LEN, 0);
    file
}

/// The bytes behind the checksum, if it is right: version, length and body.
fn checked_body(slot: &[u8]) -> Option<&[u8]> {
    let mut rest = slot;
    let magic: [u8; 8] = take(&mut rest)?;
    let crc = u32::from_be_bytes(take(&mut rest)?);
    let mut header = rest;
    let _version: [u8; 2] = take(&mut header)?;
    let body_len = u16::from_be_bytes(take(&mut header)?);
    let checked = rest.get(..4 + usize::from(body_len))?;
    // A slot never reaches into the next block, whatever its length says.
    let fits = 12 + checked.len() <= BLOCK_LEN;
    (magic == MAGIC && fits && crc32fast::hash(checked) == crc).then_some(checked)
}

/// The sequence number and checkpoint in bytes whose checksum is right; `None` where they
/// contradict themselves.
fn decode_body(checked: &[u8]) -> Result<Option<(u64, Checkpoint)>, Unsupported> {
    let mut rest = checked;
    let Some(version) = take(&mut rest).map(u16::from_be_bytes) else { return Ok(None) };
    if version != VERSION {
        return Err(Unsupported::Version(version));
    }
    let Some((sequence, checkpoint, flags)) = decode_fields(rest) else { return Ok(None) };
    if flags & !(FLAG_SYNC_FAILED | FLAG_INDEXES_SYNCED) != 0 {
        return Err(Unsupported::Flags(flags));
    }
    Ok(Some((sequence, checkpoint)))
}

fn decode_fields(mut rest: &[u8]) -> Option<(u64, Checkpoint, u32)> {
    let body_len = u16::from_be_bytes(take(&mut rest)?);
    let sequence = u64::from_be_bytes(take(&mut rest)?);
    let recovery_point = take_offset(&mut rest)?;
    let segment_base = take_offset(&mut rest)?;
    let file_position = u32::from_be_bytes(take(&mut rest)?);
    let log_start_offset = take_offset(&mut rest)?;
    let flags = u32::from_be_bytes(take(&mut rest)?);
    let checkpoint = Checkpoint {
        recovery_point,
        segment_base,
        file_position,
        log_start_offset,
        sync_failed: flags & FLAG_SYNC_FAILED != 0,
        indexes_synced: flags & FLAG_INDEXES_SYNCED != 0,
    };
    let consistent = body_len == BODY_LEN && segment_base <= recovery_point;
    consistent.then_some((sequence, checkpoint, flags))
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (chunk, behind) = rest.split_first_chunk()?;
    *rest = behind;
    Some(*chunk)
}

/// An offset is never negative as Kafka's i64.
fn take_offset(rest: &mut &[u8]) -> Option<u64> {
    u64::try_from(i64::from_be_bytes(take(rest)?)).ok()
}

fn encode_slot(sequence: u64, checkpoint: &Checkpoint) -> Vec<u8> {
    debug_assert!(checkpoint.segment_base <= checkpoint.recovery_point, "{checkpoint:?}");
    let sync_failed = if checkpoint.sync_failed { FLAG_SYNC_FAILED } else { 0 };
    let indexes_synced = if checkpoint.indexes_synced { FLAG_INDEXES_SYNCED } else { 0 };
    let flags = sync_failed | indexes_synced;
    let checked = [
        &VERSION.to_be_bytes()[..],
        &BODY_LEN.to_be_bytes(),
        &sequence.to_be_bytes(),
        &checkpoint.recovery_point.to_be_bytes(),
        &checkpoint.segment_base.to_be_bytes(),
        &checkpoint.file_position.to_be_bytes(),
        &checkpoint.log_start_offset.to_be_bytes(),
        &flags.to_be_bytes(),
    ]
    .concat();
    [&MAGIC[..], &crc32fast::hash(&checked).to_be_bytes(), &checked].concat()
}

/// Writes checkpoints so that no power loss takes the last one that was made durable.
///
/// To be used by one thread at a time; whoever owns the log sees to that.
#[derive(Debug)]
pub(crate) struct CheckpointWriter {
    file: HeldFile,
    /// The sequence number of the last write.
    sequence: u64,
    /// The slot that holds the last durable checkpoint, if there was one, and is not to be touched.
    durable: Half,
    /// Whether the other slot was written since the last sync.
    unsynced: bool,
    /// Whether what is unsynced was found at open. The process that wrote it may have synced it or been
    /// killed before, so that either slot may be the durable one: neither is touched before a sync.
    found: bool,
    /// A sync failed. Nothing that was written since the last good one can be made durable any more.
    failed: bool,
}

impl CheckpointWriter {
    /// Goes on in a file as it was found. Nothing is read or written yet.
    ///
    /// A new file is best made with [`encode_file`], so that the space for both slots is there. A
    /// file whose newest checkpoint says `sync_failed` must have been replaced in that way before: a
    /// sync of the old one could succeed and prove nothing.
    pub(crate) fn new(file: HeldFile, found: Slots) -> Self {
        Self {
            file,
            sequence: found.newest.map_or(0, |slot| slot.sequence),
            durable: found.newest.map_or(Half::Second, |slot| slot.half.other()),
            unsynced: found.newest.is_some(),
            found: found.newest.is_some(),
            failed: false,
        }
    }

    /// Hands a checkpoint to the operating system: it survives the process, and the next
    /// [`sync`](Self::sync) makes it durable. The last durable one is safe all the while.
    ///
    /// The first write after an open syncs what was found there, and fails where that fails.
    pub(crate) fn write(&mut self, checkpoint: &Checkpoint) -> io::Result<()> {
        if self.found {
            self.sync()?;
        }
        if self.failed {
            return Err(already_failed());
        }
        let slot = encode_slot(self.sequence + 1, checkpoint);
        let file = self.file.hold()?;
        // Forgotten before the attempt: a slot that was half written must not pass for durable.
        self.unsynced = false;
        file.write_all_at(&slot, self.durable.other().at() as u64)?;
        self.unsynced = true;
        self.sequence += 1;
        Ok(())
    }

    /// Makes the last written checkpoint durable, and the slot of the one before free for the next.
    /// Does nothing when there is nothing new.
    ///
    /// A failure is final: a second sync would prove nothing, and now either slot may be the one that
    /// counts, so neither is written to again. Whoever owns the file puts a new one in its place.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        if self.failed {
            return Err(already_failed());
        }
        if !self.unsynced {
            return Ok(());
        }
        let file = self.file.hold()?;
        if let Err(error) = file.sync_data() {
            self.failed = true;
            return Err(error);
        }
        self.found = false;
        self.durable = self.durable.other();
        self.unsynced = false;
        Ok(())
    }

    /// Closes the file until the next write, unless something in it is not synced.
    pub(crate) fn let_go(&mut self) {
        if !self.unsynced {
            self.file.let_go();
        }
    }
}

fn already_failed() -> io::Error {
    io::Error::other("an earlier sync of the watermark checkpoint failed")
}
