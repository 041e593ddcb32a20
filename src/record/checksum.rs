//! The checksum inside Kafka's structures, behind one function so that its implementation can change.

use crate::mutants::{Mutant, is_planted};
use crate::record::header::{BATCH_OVERHEAD, CHECKSUM_FROM};

/// The checksum of a batch: of everything that follows the checksum itself.
#[inline]
pub(crate) fn batch_checksum(batch: &[u8]) -> u32 {
    let unchecked = is_planted(Mutant::LeavesHeaderUnchecked);
    let from = if unchecked { BATCH_OVERHEAD } else { CHECKSUM_FROM };
    crc32c(batch.get(from..).unwrap_or_default())
}

/// CRC-32C (Castagnoli) of `bytes`.
#[inline]
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_value_of_the_catalogue_comes_out() {
        assert_eq!(crc32c(b"123456789"), 0xE306_9283);
        assert_eq!(crc32c(b""), 0);
    }
}
