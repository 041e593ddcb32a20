//! LZ4 frames as Kafka writes and reads them.
//!
//! The frame is read here and not by the codec's crate, because Kafka's rules are its own: linked
//! blocks are refused, the content checksum is skipped, what follows the end mark is ignored. It
//! also lets blocks go straight into the caller's buffer under the caller's limit; a general
//! reader allocates blocks of the size that the frame claims. LZ4 is little-endian throughout.

use std::cell::RefCell;

use lz4_flex::block::{
    CompressTable, DecompressError, compress_into_with_table, decompress_into,
    get_maximum_output_size,
};

use super::reserve_within;
use crate::record::batch_error::BatchError;

/// Magic, version 1 with independent blocks and nothing else, blocks of 64 KiB, header checksum.
const HEADER: [u8; 7] = [0x04, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82];
const MAGIC: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];
const END_MARK: [u8; 4] = [0; 4];
const BLOCK_BYTES_MAX: usize = 64 * 1024;
/// In a block's size: the block is stored as it is.
const STORED: u32 = 1 << 31;

const VERSION_MASK: u8 = 0b1100_0000;
const VERSION: u8 = 0b0100_0000;
const INDEPENDENT_BLOCKS: u8 = 0b0010_0000;
const BLOCK_CHECKSUMS: u8 = 0b0001_0000;
const CONTENT_SIZE: u8 = 0b0000_1000;
/// A reserved bit and the dictionary id, which Kafka both refuses.
const NOT_ALLOWED: u8 = 0b0000_0011;

thread_local! {
    /// A hash table of 16 KiB, which would otherwise be allocated for every block.
    static TABLE: RefCell<CompressTable> = RefCell::new(CompressTable::large());
}

/// How much space [`compress`] needs for `size` bytes.
pub(super) fn compressed_size_max(size: usize) -> usize {
    let blocks = size.div_ceil(BLOCK_BYTES_MAX);
    HEADER.len() + blocks * (4 + get_maximum_output_size(BLOCK_BYTES_MAX)) + END_MARK.len()
}

/// Writes `source` as one frame into `out` and returns its size.
pub(super) fn compress(source: &[u8], out: &mut [u8]) -> Result<usize, BatchError> {
    let mut end = append(out, 0, &HEADER);
    for block in source.chunks(BLOCK_BYTES_MAX) {
        end = compress_block(block, out, end)?;
    }
    Ok(append(out, end, &END_MARK))
}

fn compress_block(block: &[u8], out: &mut [u8], at: usize) -> Result<usize, BatchError> {
    let content_at = at + 4;
    let target = &mut out[content_at..];
    // The thread's own table is gone while the thread ends; then one is made for the occasion.
    let size = TABLE
        .try_with(|table| compress_into_with_table(block, target, &mut table.borrow_mut()))
        .unwrap_or_else(|_| lz4_flex::block::compress_into(block, &mut out[content_at..]))
        .map_err(|error| BatchError::unsupported(format!("lz4 cannot compress: {error}")))?;
    let (size, flag) = if size < block.len() {
        (size, 0)
    } else {
        append(out, content_at, block);
        (block.len(), STORED)
    };
    let prefix = u32::try_from(size).expect("a block has at most 64 KiB") | flag;
    append(out, at, &little_endian(prefix));
    Ok(content_at + size)
}

fn append(out: &mut [u8], at: usize, bytes: &[u8]) -> usize {
    out[at..at + bytes.len()].copy_from_slice(bytes);
    at + bytes.len()
}

/// Replaces the contents of `buffer` with the frame in `source`, at most `limit` bytes of it.
pub(super) fn decompress(
    source: &[u8],
    buffer: &mut Vec<u8>,
    limit: usize,
) -> Result<(), BatchError> {
    buffer.clear();
    let mut rest = source;
    let frame = Frame::parse(&mut rest)?;
    loop {
        let prefix = from_little_endian(take(&mut rest)?);
        if prefix == 0 {
            // A content checksum may follow, and Kafka takes anything else: none of it is read.
            return Ok(());
        }
        let size = usize::try_from(prefix & !STORED).map_err(|_| damaged("a block is too long"))?;
        if size > frame.block_bytes_max {
            return Err(damaged("a block is longer than the frame allows"));
        }
        let (block, after) = rest.split_at_checked(size).ok_or_else(cut_short)?;
        rest = after;
        if frame.has_block_checksums && from_little_endian(take(&mut rest)?) != xxh32(block) {
            return Err(damaged("the checksum of a block does not match"));
        }
        if prefix & STORED != 0 {
            reserve_within(buffer, block.len(), limit)?;
            buffer.extend_from_slice(block);
        } else {
            decompress_block(block, frame.block_bytes_max, buffer, limit)?;
        }
    }
}

/// Appends a compressed block to `buffer`. How long it gets is not written anywhere, so room is
/// tried in two sizes: what most blocks need, then the most there can be.
fn decompress_block(
    block: &[u8],
    block_bytes_max: usize,
    buffer: &mut Vec<u8>,
    limit: usize,
) -> Result<(), BatchError> {
    const USUAL_RATIO: usize = 8;
    // A byte of a block stands for at most 255 bytes.
    let room_max = block_bytes_max.min(block.len().saturating_mul(255));
    let room = room_max.min(limit - buffer.len());
    let start = buffer.len();
    for room in [room.min(block.len().saturating_mul(USUAL_RATIO)), room] {
        reserve_within(buffer, room, limit)?;
        buffer.resize(start + room, 0);
        let target = buffer.get_mut(start..).unwrap_or_default();
        match decompress_into(block, target) {
            Ok(size) => {
                buffer.truncate(start + size);
                return Ok(());
            }
            Err(DecompressError::OutputTooSmall { .. }) => buffer.truncate(start),
            Err(error) => return Err(damaged(&format!("a block is damaged: {error}"))),
        }
    }
    if room < room_max {
        return Err(BatchError::too_large(limit + 1, limit));
    }
    Err(damaged("a block holds more than the frame allows"))
}

/// What the frame header says.
struct Frame {
    block_bytes_max: usize,
    has_block_checksums: bool,
}

impl Frame {
    fn parse(rest: &mut &[u8]) -> Result<Self, BatchError> {
        if take(rest)? != MAGIC {
            return Err(damaged("it does not begin with a frame"));
        }
        let described = *rest;
        let [flags, block_descriptor] = take(rest)?;
        if flags & VERSION_MASK != VERSION || flags & NOT_ALLOWED != 0 {
            return Err(damaged("its flags are not allowed"));
        }
        if flags & INDEPENDENT_BLOCKS == 0 {
            return Err(damaged("its blocks depend on one another, which Kafka does not allow"));
        }
        let block_bytes_max = match block_descriptor {
            0x40 => 64 << 10,
            0x50 => 256 << 10,
            0x60 => 1 << 20,
            0x70 => 4 << 20,
            _ => return Err(damaged("its block size is not allowed")),
        };
        if flags & CONTENT_SIZE != 0 {
            // Kafka does not look at it either: the blocks themselves say how much there is.
            take::<8>(rest)?;
        }
        let described = &described[..described.len() - rest.len()];
        let [checksum] = take(rest)?;
        if little_endian(xxh32(described))[1] != checksum {
            return Err(damaged("the checksum of its header does not match"));
        }
        Ok(Self { block_bytes_max, has_block_checksums: flags & BLOCK_CHECKSUMS != 0 })
    }
}

fn take<const LEN: usize>(rest: &mut &[u8]) -> Result<[u8; LEN], BatchError> {
    let (&bytes, after) = rest.split_first_chunk().ok_or_else(cut_short)?;
    *rest = after;
    Ok(bytes)
}

#[cold]
fn cut_short() -> BatchError {
    damaged("it is cut short")
}

#[cold]
fn damaged(reason: &str) -> BatchError {
    BatchError::corrupt(format!("the lz4 stream of the batch is damaged: {reason}"))
}

fn little_endian(value: u32) -> [u8; 4] {
    let mut bytes = value.to_be_bytes();
    bytes.reverse();
    bytes
}

fn from_little_endian(mut bytes: [u8; 4]) -> u32 {
    bytes.reverse();
    u32::from_be_bytes(bytes)
}

/// xxHash32 with seed 0, the checksum of LZ4 frames.
fn xxh32(bytes: &[u8]) -> u32 {
    const PRIMES: [u32; 5] = [0x9E37_79B1, 0x85EB_CA77, 0xC2B2_AE3D, 0x27D4_EB2F, 0x1656_67B1];
    let [p1, p2, p3, p4, p5] = PRIMES;
    let (stripes, tail) = bytes.as_chunks::<16>();
    let mut hash = p5;
    if !stripes.is_empty() {
        let mut lanes = [p1.wrapping_add(p2), p2, 0, 0_u32.wrapping_sub(p1)];
        for stripe in stripes {
            for (lane, &word) in lanes.iter_mut().zip(stripe.as_chunks::<4>().0) {
                let mixed = lane.wrapping_add(from_little_endian(word).wrapping_mul(p2));
                *lane = mixed.rotate_left(13).wrapping_mul(p1);
            }
        }
        hash = (lanes.iter().zip([1, 7, 12, 18]))
            .fold(0, |hash: u32, (lane, turn)| hash.wrapping_add(lane.rotate_left(turn)));
    }
    // The length counts modulo 2^32 by definition.
    let length = u32::try_from(bytes.len() & 0xffff_ffff).unwrap_or(u32::MAX);
    hash = hash.wrapping_add(length);
    let (words, tail) = tail.as_chunks::<4>();
    for &word in words {
        let mixed = hash.wrapping_add(from_little_endian(word).wrapping_mul(p3));
        hash = mixed.rotate_left(17).wrapping_mul(p4);
    }
    for &byte in tail {
        hash = hash.wrapping_add(u32::from(byte).wrapping_mul(p5)).rotate_left(11).wrapping_mul(p1);
    }
    hash = (hash ^ (hash >> 15)).wrapping_mul(p2);
    hash = (hash ^ (hash >> 13)).wrapping_mul(p3);
    hash ^ (hash >> 16)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use lz4_flex::frame::{BlockMode, BlockSize, FrameDecoder, FrameEncoder, FrameInfo};
    use proptest::prelude::*;

    use super::*;

    const LIMIT: usize = 1 << 20;

    fn compressed(source: &[u8]) -> Vec<u8> {
        let mut out = vec![0; compressed_size_max(source.len())];
        let size = compress(source, &mut out).unwrap();
        out.truncate(size);
        out
    }

    fn decompressed(source: &[u8]) -> Result<Vec<u8>, BatchError> {
        let mut buffer = Vec::new();
        decompress(source, &mut buffer, LIMIT).map(|()| buffer)
    }

    #[test]
    fn the_header_checksum_is_the_one_that_is_written_out() {
        assert_eq!(little_endian(xxh32(&HEADER[4..6]))[1], HEADER[6]);
        assert_eq!(xxh32(b""), 0x02CC_5D05);
        assert_eq!(xxh32(b"abc"), 0x32D1_53FF);
        assert_eq!(xxh32(b"Nobody inspects the spammish repetition"), 0xE229_3B2F);
    }

    #[test]
    fn a_damaged_header_checksum_block_checksum_or_end_mark_is_refused() {
        let info = FrameInfo::new().block_checksums(true).block_mode(BlockMode::Independent);
        let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
        std::io::Write::write_all(&mut encoder, &[b'x'; 5000]).unwrap();
        let sound = encoder.finish().unwrap();
        assert_eq!(decompressed(&sound).unwrap(), [b'x'; 5000]);
        for at in 0..sound.len() - 4 {
            let mut damaged = sound.clone();
            damaged[at] ^= 1;
            assert!(decompressed(&damaged).is_err(), "byte {at}");
        }
        for end in 0..sound.len() {
            assert!(decompressed(&sound[..end]).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn a_frame_of_linked_blocks_is_refused_even_if_it_has_but_one() {
        let mut frame = compressed(b"alone");
        frame[4] &= !INDEPENDENT_BLOCKS;
        frame[6] = little_endian(xxh32(&frame[4..6]))[1];
        let error = decompressed(&frame).unwrap_err();
        assert!(error.to_string().contains("depend on one another"), "{error}");
    }

    #[test]
    fn blocks_of_several_sizes_are_read_across_the_usual_ratio() {
        let source: Vec<u8> = (0..200_u8).flat_map(|byte| [byte; 3000]).collect();
        for size in [BlockSize::Max64KB, BlockSize::Max256KB, BlockSize::Max1MB, BlockSize::Max4MB]
        {
            let info = FrameInfo::new().block_size(size).content_checksum(true);
            let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
            std::io::Write::write_all(&mut encoder, &source).unwrap();
            assert!(decompressed(&encoder.finish().unwrap()).unwrap() == source);
        }
    }

    proptest! {
        #[test]
        fn another_reader_reads_what_is_written(
            pattern in proptest::collection::vec(any::<u8>(), 0..300),
            times in 0_usize..1000,
        ) {
            let source = pattern.repeat(times);
            let frame = compressed(&source);
            let mut theirs = Vec::new();
            FrameDecoder::new(&frame[..]).read_to_end(&mut theirs).unwrap();
            prop_assert!(theirs == source);
            prop_assert!(decompressed(&frame).unwrap() == source);
        }

        #[test]
        fn arbitrary_bytes_behind_a_sound_header_never_pass_the_limit(
            bytes in proptest::collection::vec(any::<u8>(), 0..2000),
            limit in 0_usize..5000,
        ) {
            let source = [&HEADER[..], &bytes[..]].concat();
            let mut buffer = Vec::new();
            let outcome = decompress(&source, &mut buffer, limit);
            prop_assert!(buffer.capacity() <= limit.max(8));
            prop_assert!(outcome.is_err() || buffer.len() <= limit);
        }
    }
}
