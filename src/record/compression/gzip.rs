//! Gzip streams, which are only read: one or more members.

use std::io::Read;

use flate2::bufread::MultiGzDecoder;

use super::reserve_within;
use crate::record::batch_error::BatchError;

/// Replaces the contents of `buffer` with the members in `source`, at most `limit` bytes of them.
pub(super) fn decompress(
    source: &[u8],
    buffer: &mut Vec<u8>,
    limit: usize,
) -> Result<(), BatchError> {
    buffer.clear();
    let mut decoder = MultiGzDecoder::new(source);
    let mut piece = [0; 8192];
    loop {
        let size = decoder.read(&mut piece).map_err(|error| {
            BatchError::corrupt(format!("the gzip stream of the batch is damaged: {error}"))
        })?;
        let (bytes, _) = piece.split_at(size);
        if bytes.is_empty() {
            return Ok(());
        }
        reserve_within(buffer, size, limit)?;
        buffer.extend_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_bomb_is_refused_within_the_memory_of_its_limit() {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(&vec![0; 5 << 20]).unwrap();
        let bomb = encoder.finish().unwrap();
        let mut buffer = Vec::new();
        let error = decompress(&bomb, &mut buffer, 100_000);
        assert!(matches!(error, Err(BatchError::TooLarge { .. })), "{error:?}");
        assert!(buffer.capacity() <= 100_000);
        decompress(&bomb, &mut buffer, 5 << 20).unwrap();
        assert_eq!(buffer.len(), 5 << 20);
    }
}
