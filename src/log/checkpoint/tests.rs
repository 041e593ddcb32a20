use std::sync::{Arc, Mutex};

use super::*;
use crate::fs::map::{MappedFile, WrittenEnd};
use crate::fs::memory::MemoryFileSystem;
use crate::fs::{File, TailWindow};

fn checkpoint(recovery_point: u64) -> Checkpoint {
    Checkpoint {
        recovery_point,
        segment_base: recovery_point / 2,
        file_position: 77,
        log_start_offset: recovery_point / 4,
        sync_failed: false,
        indexes_synced: false,
    }
}

/// A file whose older slot holds recovery point 10 and whose newer slot holds 20.
fn file_of_two() -> Vec<u8> {
    let mut file = encode_slot(7, &checkpoint(10));
    file.resize(BLOCK_LEN, 0);
    file.extend(encode_slot(8, &checkpoint(20)));
    file.resize(WATERMARK_FILE_LEN, 0);
    file
}

fn recovery_point(file: &[u8]) -> Option<u64> {
    decode(file).unwrap().newest().map(|checkpoint| checkpoint.recovery_point)
}

#[test]
fn a_slot_is_laid_out_as_drawn() {
    let slot = encode_slot(
        2,
        &Checkpoint {
            recovery_point: 0x0102_0304_0506_0708,
            segment_base: 3,
            file_position: 4,
            log_start_offset: 5,
            sync_failed: true,
            indexes_synced: false,
        },
    );
    // The third group is the CRC-32 of all that follows it, computed by zlib.
    let drawn = "73617077_6d61726b_ada5fc37_0001_0028_00000000_00000002_01020304_05060708_\
                 00000000_00000003_00000004_00000000_00000005_00000001"
        .replace('_', "");
    let digits = slot.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(u32::from);
    assert!(digits.eq(drawn.chars().map(|digit| digit.to_digit(16).unwrap())));
}

#[test]
fn a_new_file_reads_back_whole() {
    for (sync_failed, indexes_synced) in [(false, false), (false, true), (true, false)] {
        let largest = checkpoint(i64::MAX.unsigned_abs());
        let written = Checkpoint { sync_failed, indexes_synced, ..largest };
        let file = encode_file(&written);
        assert_eq!(file.len(), WATERMARK_FILE_LEN);
        assert_eq!(decode(&file).unwrap().newest(), Some(written));
    }
}

#[test]
fn of_two_slots_the_larger_sequence_counts_wherever_it_stands() {
    let file = file_of_two();
    assert_eq!(recovery_point(&file), Some(20));
    let swapped = [&file[BLOCK_LEN..], &file[..BLOCK_LEN]].concat();
    assert_eq!(recovery_point(&swapped), Some(20));
}

#[test]
fn any_changed_byte_costs_its_own_slot_and_nothing_else() {
    let file = file_of_two();
    let slot_len = 16 + usize::from(BODY_LEN);
    for at in 0..file.len() {
        for flipped in [0x01, 0x80, 0xff] {
            let mut damaged = file.clone();
            damaged[at] ^= flipped;
            let expected = if (BLOCK_LEN..BLOCK_LEN + slot_len).contains(&at) { 10 } else { 20 };
            assert_eq!(recovery_point(&damaged), Some(expected), "byte {at} ^ {flipped:#x}");
            if at < slot_len {
                damaged[BLOCK_LEN] ^= 1;
                assert_eq!(recovery_point(&damaged), None, "byte {at} and the second slot");
            }
        }
    }
}

#[test]
fn a_file_cut_anywhere_gives_the_slots_that_are_whole() {
    let file = file_of_two();
    let slot_len = 16 + usize::from(BODY_LEN);
    for len in 0..=file.len() {
        let expected = match len {
            _ if len >= BLOCK_LEN + slot_len => Some(20),
            _ if len >= slot_len => Some(10),
            _ => None,
        };
        assert_eq!(recovery_point(&file[..len]), expected, "cut at {len}");
    }
}

/// Puts the right checksum over a changed slot.
fn resealed(mut slot: Vec<u8>) -> Vec<u8> {
    let crc = crc32fast::hash(&slot[12..]);
    slot[8..12].copy_from_slice(&crc.to_be_bytes());
    slot
}

#[test]
fn a_newer_version_or_flag_is_refused_even_beside_a_slot_that_is_understood() {
    for at in [0, BLOCK_LEN] {
        let mut newer = encode_slot(9, &checkpoint(30));
        newer[13] = 2;
        // Of a newer body nothing is known, least of all its length.
        newer.extend([0; 24]);
        newer[15] += 24;
        let mut file = file_of_two();
        file[at..at + newer.len()].copy_from_slice(&resealed(newer));
        assert_eq!(decode(&file), Err(Unsupported::Version(2)));

        let mut flagged = encode_slot(9, &checkpoint(30));
        flagged[55] = 5;
        let mut file = file_of_two();
        file[at..at + flagged.len()].copy_from_slice(&resealed(flagged));
        assert_eq!(decode(&file), Err(Unsupported::Flags(5)));
    }
}

#[test]
fn a_sealed_slot_that_contradicts_itself_counts_as_damaged() {
    // A negative recovery point; a segment that begins behind the recovery point.
    for (at, byte) in [(24, 0x80), (32, 0x7f)] {
        let mut slot = encode_slot(9, &checkpoint(30));
        slot[at] = byte;
        let mut file = file_of_two();
        file[..slot.len()].copy_from_slice(&resealed(slot));
        assert_eq!(recovery_point(&file), Some(20));
    }
}

#[test]
fn lengths_that_reach_out_of_the_slot_are_harmless() {
    for body_len in [0, 39, 41, 4080, 4081, u16::MAX] {
        let mut file = file_of_two();
        file[14..16].copy_from_slice(&body_len.to_be_bytes());
        assert_eq!(recovery_point(&file), Some(20), "length {body_len}");
    }
}

/// A checkpoint file as the page cache shows it and as the disk has it, block by block.
#[derive(Debug)]
struct LossyFile(Mutex<Blocks>);

#[derive(Debug, Clone)]
struct Blocks {
    cached: [Vec<u8>; 2],
    on_disk: [Vec<u8>; 2],
    /// Written since the last sync: may come back as anything.
    dirty: [bool; 2],
    sync_fails: bool,
}

impl LossyFile {
    fn new() -> Self {
        let zero = || [vec![0; BLOCK_LEN], vec![0; BLOCK_LEN]];
        Self(Mutex::new(Blocks {
            cached: zero(),
            on_disk: zero(),
            dirty: [false; 2],
            sync_fails: false,
        }))
    }

    fn blocks(&self) -> Blocks {
        self.0.lock().unwrap().clone()
    }
}

impl Blocks {
    /// Every file that a power loss can leave: each dirty block old, new, zero or garbage.
    fn after_power_loss(&self) -> Vec<Vec<u8>> {
        let outcomes = |block: usize| {
            let old = self.on_disk[block].clone();
            if !self.dirty[block] {
                return vec![old];
            }
            let mut garbage = self.cached[block].clone();
            garbage[30] ^= 0x55;
            vec![old, self.cached[block].clone(), vec![0; BLOCK_LEN], garbage]
        };
        let (first, second) = (outcomes(0), outcomes(1));
        first.iter().flat_map(|a| second.iter().map(|b| [&a[..], b].concat())).collect()
    }
}

impl File for LossyFile {
    fn len(&self) -> io::Result<u64> {
        Ok(WATERMARK_FILE_LEN as u64)
    }

    fn read_at(&self, _: &mut [u8], _: u64) -> io::Result<usize> {
        unreachable!("the writer does not read")
    }

    fn write_all_at(&self, bytes: &[u8], file_position: u64) -> io::Result<()> {
        let at = usize::try_from(file_position).unwrap();
        let mut blocks = self.0.lock().unwrap();
        let block = at / BLOCK_LEN;
        assert!(at % BLOCK_LEN + bytes.len() <= BLOCK_LEN, "a write must stay in one block");
        blocks.cached[block][at % BLOCK_LEN..][..bytes.len()].copy_from_slice(bytes);
        blocks.dirty[block] = true;
        Ok(())
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        unreachable!("the file keeps its length")
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut blocks = self.0.lock().unwrap();
        // As Linux does it: after a failure the pages pass for clean and the next sync succeeds. What
        // has nothing to write can fail, too, for the drive's own cache is flushed in any case.
        let dirty = std::mem::take(&mut blocks.dirty);
        if std::mem::take(&mut blocks.sync_fails) {
            return Err(io::Error::from_raw_os_error(5));
        }
        for (block, _) in dirty.iter().enumerate().filter(|(_, dirty)| **dirty) {
            blocks.on_disk[block] = blocks.cached[block].clone();
        }
        Ok(())
    }

    fn map(&self, _: usize, _: &WrittenEnd) -> io::Result<Option<MappedFile>> {
        Ok(None)
    }

    fn map_tail(&self, _: u64, _: usize, _: &WrittenEnd) -> io::Result<Box<dyn TailWindow>> {
        unreachable!("the writer does not map")
    }
}

/// The file, as a writer holds it.
fn held(file: &Arc<LossyFile>) -> HeldFile {
    let mut held = HeldFile::new(Arc::new(MemoryFileSystem::new()), WATERMARK_FILE.into());
    held.take(Arc::clone(file) as Arc<dyn File>);
    held
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Write,
    Sync,
    FailingSync,
    /// The process is killed and another one opens the file as the page cache shows it.
    Reopen,
}

/// Runs the steps, then cuts the power, and checks every file that may be left.
fn check_power_loss_after(steps: &[Step]) {
    let file = Arc::new(LossyFile::new());
    let mut writer = CheckpointWriter::new(held(&file), Slots::default());
    let (mut written, mut synced, mut failed) = (0, 0, false);
    for step in steps {
        match step {
            Step::Write => match writer.write(&checkpoint(written + 1)) {
                Ok(()) => {
                    assert!(!failed, "{steps:?}");
                    written += 1;
                }
                Err(_) => failed = true,
            },
            Step::Sync => match writer.sync() {
                Ok(()) => synced = written,
                Err(_) => assert!(failed, "{steps:?}"),
            },
            Step::FailingSync => {
                file.0.lock().unwrap().sync_fails = true;
                match writer.sync() {
                    Ok(()) => synced = written,
                    Err(_) => failed = true,
                }
                file.0.lock().unwrap().sync_fails = false;
            }
            Step::Reopen => {
                let found = decode(&file.blocks().cached.concat()).unwrap();
                assert_eq!(found.newest().map_or(0, |newest| newest.recovery_point), written);
                if failed {
                    // Such a file is replaced; there is nothing to go on with.
                    break;
                }
                writer = CheckpointWriter::new(held(&file), found);
            }
        }
    }
    for left in file.blocks().after_power_loss() {
        let found = recovery_point(&left).unwrap_or(0);
        assert!(
            (synced..=written).contains(&found),
            "{steps:?}: found {found}, synced up to {synced}, written up to {written}"
        );
    }
}

#[test]
fn no_power_loss_takes_a_synced_checkpoint_after_any_seven_steps() {
    let choices = [Step::Write, Step::Sync, Step::FailingSync, Step::Reopen];
    for number in 0..4_usize.pow(7) {
        let steps: Vec<Step> = (0..7).map(|digit| choices[number >> (2 * digit) & 3]).collect();
        check_power_loss_after(&steps);
    }
}

#[test]
fn after_a_failed_sync_no_later_one_is_believed() {
    let file = Arc::new(LossyFile::new());
    let mut writer = CheckpointWriter::new(held(&file), Slots::default());
    writer.write(&checkpoint(1)).unwrap();
    file.0.lock().unwrap().sync_fails = true;
    writer.sync().unwrap_err();
    writer.sync().unwrap_err();
    let before = file.blocks().cached;
    writer.write(&checkpoint(2)).unwrap_err();
    writer.sync().unwrap_err();
    assert_eq!(file.blocks().cached, before, "either slot may be the one that counts");
}
