//! Zstandard streams. Contexts are kept per thread: making one costs more than compressing a batch,
//! and one per partition would hold a megabyte each.

use std::cell::RefCell;

use zstd::zstd_safe::{self, CCtx, CParameter, DCtx};

use super::reserve_within;
use crate::record::batch_error::BatchError;

thread_local! {
    static COMPRESSOR: RefCell<Option<CCtx<'static>>> = const { RefCell::new(None) };
    static DECOMPRESSOR: RefCell<Option<DCtx<'static>>> = const { RefCell::new(None) };
}

/// How much space [`compress`] needs for `size` bytes.
pub(super) fn compressed_size_max(size: usize) -> usize {
    zstd_safe::compress_bound(size)
}

/// Writes `source` as one frame into `out` and returns its size.
pub(super) fn compress(source: &[u8], out: &mut [u8], level: i32) -> Result<usize, BatchError> {
    let refused = |code| {
        let name = zstd_safe::get_error_name(code);
        BatchError::unsupported(format!("zstd cannot compress: {name}"))
    };
    let mut run = |slot: &mut Option<CCtx<'static>>| {
        let context = match slot {
            Some(context) => context,
            None => slot.insert(CCtx::try_create().ok_or_else(no_memory)?),
        };
        context.set_parameter(CParameter::CompressionLevel(level)).map_err(refused)?;
        context.compress2(out, source).map_err(refused)
    };
    // The thread's own context is gone while the thread ends; then one is made for the occasion.
    COMPRESSOR.try_with(|slot| run(&mut slot.borrow_mut())).unwrap_or_else(|_| run(&mut None))
}

/// Replaces the contents of `buffer` with the frames in `source`, at most `limit` bytes of them.
///
/// The frames are decompressed in one go into the buffer itself: a streaming decoder would allocate
/// the window that the frame asks for, up to 128 MiB, on the frame's word alone. How long
/// the result gets is often not written in the frame, so the buffer is doubled until it fits.
pub(super) fn decompress(
    source: &[u8],
    buffer: &mut Vec<u8>,
    limit: usize,
) -> Result<(), BatchError> {
    const USUAL_RATIO: usize = 4;
    buffer.clear();
    let stated = zstd_safe::get_frame_content_size(source)
        .map_err(|_| damaged("it does not begin with a frame"))?;
    let usual = source.len().saturating_mul(USUAL_RATIO).min(limit);
    let first = match stated.map(usize::try_from) {
        // More frames may follow, so the size of the first one alone need not be the whole.
        Some(Ok(stated)) => stated,
        Some(Err(_)) => return Err(BatchError::too_large(usize::MAX, limit)),
        None => usual,
    };
    reserve_within(buffer, first, limit)?;
    loop {
        match decompress_once(source, buffer)? {
            Ok(size) if size > limit => return Err(BatchError::too_large(size, limit)),
            Ok(_) => return Ok(()),
            Err(code) if !is_too_small(code) => {
                return Err(damaged(zstd_safe::get_error_name(code)));
            }
            Err(_) if buffer.capacity() >= limit => {
                return Err(BatchError::too_large(limit + 1, limit));
            }
            Err(_) => {
                buffer.clear();
                let room = buffer.capacity().saturating_mul(2).clamp(1, limit);
                reserve_within(buffer, room, limit)?;
            }
        }
    }
}

/// One attempt with the memory that `buffer` has: the size of the output, or the library's code.
fn decompress_once(
    source: &[u8],
    buffer: &mut Vec<u8>,
) -> Result<Result<usize, usize>, BatchError> {
    let mut run = |slot: &mut Option<DCtx<'static>>| {
        let context = match slot {
            Some(context) => context,
            None => slot.insert(DCtx::try_create().ok_or_else(no_memory)?),
        };
        Ok(context.decompress(buffer, source))
    };
    DECOMPRESSOR.try_with(|slot| run(&mut slot.borrow_mut())).unwrap_or_else(|_| run(&mut None))
}

/// Whether the code says that the output does not fit. Codes are known by their names only: the
/// numbers are not part of the library's stable interface.
fn is_too_small(code: usize) -> bool {
    zstd_safe::get_error_name(code) == "Destination buffer is too small"
}

#[cold]
fn no_memory() -> BatchError {
    BatchError::unsupported("there is no memory for the context of zstd")
}

#[cold]
fn damaged(reason: &str) -> BatchError {
    BatchError::corrupt(format!("the zstd stream of the batch is damaged: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 1 << 20;

    fn frame(source: &[u8], level: i32) -> Vec<u8> {
        let mut out = vec![0; compressed_size_max(source.len())];
        let size = compress(source, &mut out, level).unwrap();
        out.truncate(size);
        out
    }

    #[test]
    fn every_level_comes_back_even_those_out_of_range() {
        let source = b"what goes around comes around ".repeat(100);
        for level in [i32::MIN, -131_072, -1, 0, 3, 22, i32::MAX] {
            let mut buffer = Vec::new();
            decompress(&frame(&source, level), &mut buffer, LIMIT).unwrap();
            assert_eq!(buffer, source, "level {level}");
        }
    }

    #[test]
    fn frames_that_hide_their_size_are_bounded_by_the_limit() {
        let mut streamed = Vec::new();
        zstd::stream::copy_encode(&*vec![0; 9 << 20], &mut streamed, 3).unwrap();
        assert_eq!(zstd_safe::get_frame_content_size(&streamed).unwrap(), None);
        let mut buffer = Vec::new();
        let error = decompress(&streamed, &mut buffer, LIMIT);
        assert!(matches!(error, Err(BatchError::TooLarge { .. })), "{error:?}");
        assert!(buffer.capacity() <= LIMIT);
        decompress(&streamed, &mut buffer, 9 << 20).unwrap();
        assert_eq!(buffer.len(), 9 << 20);
    }

    #[test]
    fn a_second_frame_beyond_the_limit_is_refused() {
        let two = [frame(&[1; 600], 3), frame(&[2; 600], 3)].concat();
        let mut buffer = Vec::new();
        assert!(decompress(&two, &mut buffer, 1200).is_ok());
        assert_eq!(buffer.len(), 1200);
        let error = decompress(&two, &mut buffer, 1199);
        assert!(matches!(error, Err(BatchError::TooLarge { .. })), "{error:?}");
    }

    #[test]
    fn a_stated_size_is_not_believed() {
        // Magic, a header with an 8-byte content size of 2^40, a last empty raw block.
        let lie = [0x28, 0xb5, 0x2f, 0xfd, 0xe0, 0, 0, 0, 0, 0, 1, 0, 0, 1, 0, 0];
        let mut buffer = Vec::new();
        let error = decompress(&lie, &mut buffer, LIMIT);
        assert!(matches!(error, Err(BatchError::TooLarge { .. })), "{error:?}");
        assert_eq!(buffer.capacity(), 0);
    }
}
