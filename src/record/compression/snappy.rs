//! Snappy streams, which are only read: the blocks of Kafka's (xerial's) framing, or one bare block.
//! The framing that Google specified later is refused, as Kafka refuses it.

use super::reserve_within;
use crate::record::batch_error::BatchError;

/// What xerial's framing begins with; two version numbers of four bytes each follow.
const MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
const VERSIONS_LEN: usize = 8;

/// Replaces the contents of `buffer` with the blocks in `source`, at most `limit` bytes of them.
pub(super) fn decompress(
    source: &[u8],
    buffer: &mut Vec<u8>,
    limit: usize,
) -> Result<(), BatchError> {
    buffer.clear();
    let Some(framed) = source.strip_prefix(&MAGIC) else {
        return decompress_block(source, buffer, limit);
    };
    let mut rest = framed.get(VERSIONS_LEN..).ok_or_else(cut_short)?;
    while !rest.is_empty() {
        let (&size, after) = rest.split_first_chunk().ok_or_else(cut_short)?;
        let size = usize::try_from(i32::from_be_bytes(size)).map_err(|_| cut_short())?;
        let (block, after) = after.split_at_checked(size).ok_or_else(cut_short)?;
        rest = after;
        decompress_block(block, buffer, limit)?;
    }
    Ok(())
}

/// Appends a block to `buffer`. A block begins with the size it has decompressed.
fn decompress_block(block: &[u8], buffer: &mut Vec<u8>, limit: usize) -> Result<(), BatchError> {
    let size = snap::raw::decompress_len(block).map_err(|error| damaged(&error))?;
    reserve_within(buffer, size, limit)?;
    let start = buffer.len();
    buffer.resize(start + size, 0);
    let target = buffer.get_mut(start..).unwrap_or_default();
    // The codec fails unless it fills exactly the size it was asked about.
    snap::raw::Decoder::new().decompress(block, target).map_err(|error| damaged(&error))?;
    Ok(())
}

#[cold]
fn cut_short() -> BatchError {
    BatchError::corrupt("the snappy stream of the batch is damaged: it is cut short")
}

#[cold]
fn damaged(error: &snap::Error) -> BatchError {
    BatchError::corrupt(format!("the snappy stream of the batch is damaged: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claimed_size_beyond_the_limit_takes_no_memory() {
        let claims_4_gib = [0xff, 0xff, 0xff, 0xff, 0x0f, 0x00];
        let mut buffer = Vec::new();
        let error = decompress(&claims_4_gib, &mut buffer, 1 << 20);
        assert!(matches!(error, Err(BatchError::TooLarge { .. })), "{error:?}");
        assert_eq!(buffer.capacity(), 0);
    }
}
