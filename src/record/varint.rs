//! Zig-zag varints and varlongs: seven bits per byte, low group first.
//!
//! Reading takes what Kafka takes: encodings longer than needed are fine, bits that do not fit the
//! type are dropped, a varint of more than 5 bytes (a varlong of more than 10) is refused.

const MORE: u8 = 0x80;
/// The first zig-zagged number that does not fit one byte, and the first that does not fit two.
const ONE_BYTE_END: u64 = 1 << 7;
const TWO_BYTES_END: u64 = 1 << 14;
const VARINT_BYTES_MAX: u32 = 5;
const VARLONG_BYTES_MAX: u32 = 10;

/// Small magnitudes of either sign become small unsigned numbers.
#[inline]
const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

/// How many bytes [`put_varlong`] writes for `value`; the same for a varint, whose encoding differs
/// in nothing but its range.
#[inline]
pub(crate) const fn varlong_size(value: i64) -> usize {
    // Deltas, counts and most lengths take one or two bytes; comparing is cheaper than counting.
    match zigzag(value) {
        0..ONE_BYTE_END => 1,
        ONE_BYTE_END..TWO_BYTES_END => 2,
        more => (u64::BITS - more.leading_zeros()).div_ceil(7) as usize,
    }
}

/// How many bytes [`put_varint`] writes for `value`.
#[inline]
pub(crate) fn varint_size(value: i32) -> usize {
    varlong_size(i64::from(value))
}

/// Writes `value` at the start of `out` and returns what is left of it.
///
/// # Panics
///
/// If `out` is shorter than [`varint_size`].
#[inline]
pub(crate) fn put_varint(out: &mut [u8], value: i32) -> &mut [u8] {
    put_varlong(out, i64::from(value))
}

/// Writes `value` at the start of `out` and returns what is left of it.
///
/// # Panics
///
/// If `out` is shorter than [`varlong_size`].
#[inline]
pub(crate) fn put_varlong(mut out: &mut [u8], value: i64) -> &mut [u8] {
    let mut rest = zigzag(value);
    if (ONE_BYTE_END..TWO_BYTES_END).contains(&rest) {
        return put_bytes(out, &[(rest & 0x7f) as u8 | MORE, ((rest >> 7) & 0x7f) as u8]);
    }
    while rest >= u64::from(MORE) {
        out = put_byte(out, (rest & 0x7f) as u8 | MORE);
        rest >>= 7;
    }
    put_byte(out, (rest & 0x7f) as u8)
}

/// Writes one byte and returns what is left of `out`.
///
/// # Panics
///
/// If `out` is empty.
#[inline]
pub(crate) fn put_byte(out: &mut [u8], byte: u8) -> &mut [u8] {
    let (first, rest) =
        out.split_first_mut().expect("the size was computed before anything was written");
    *first = byte;
    rest
}

/// Writes `bytes` and returns what is left of `out`.
///
/// # Panics
///
/// If `out` is shorter than `bytes`.
#[inline]
pub(crate) fn put_bytes<'o>(out: &'o mut [u8], bytes: &[u8]) -> &'o mut [u8] {
    let (first, rest) = out.split_at_mut(bytes.len());
    first.copy_from_slice(bytes);
    rest
}

/// Reads the varint at an index and says where it ends; `None` if it does not end within `bytes` or
/// within 5 bytes.
#[inline]
pub(crate) fn varint_at(bytes: &[u8], at: usize) -> Option<(i32, usize)> {
    let (raw, end) = groups_at::<VARINT_BYTES_MAX>(bytes, at)?;
    let raw = (raw & 0xffff_ffff) as u32;
    Some(((raw >> 1).cast_signed() ^ -(raw & 1).cast_signed(), end))
}

/// Reads the varlong at an index and says where it ends; `None` if it does not end within `bytes` or
/// within 10 bytes.
#[inline]
pub(crate) fn varlong_at(bytes: &[u8], at: usize) -> Option<(i64, usize)> {
    let (raw, end) = groups_at::<VARLONG_BYTES_MAX>(bytes, at)?;
    Some(((raw >> 1).cast_signed() ^ -(raw & 1).cast_signed(), end))
}

/// Joins groups of seven bits. One and two of them, by far the most frequent, go without a loop.
#[inline]
fn groups_at<const COUNT_MAX: u32>(bytes: &[u8], at: usize) -> Option<(u64, usize)> {
    let first = *bytes.get(at)?;
    if first < MORE {
        return Some((u64::from(first), at + 1));
    }
    let second = *bytes.get(at + 1)?;
    if second < MORE {
        return Some((u64::from(first & !MORE) | u64::from(second) << 7, at + 2));
    }
    many_groups_at(bytes, at, COUNT_MAX)
}

fn many_groups_at(bytes: &[u8], at: usize, count_max: u32) -> Option<(u64, usize)> {
    let mut value = 0_u64;
    for (group, &byte) in (0..count_max).zip(bytes.get(at..)?) {
        value |= u64::from(byte & !MORE) << (7 * group);
        if byte < MORE {
            return Some((value, at + group as usize + 1));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::record::vectors;

    fn encoded(value: i64) -> Vec<u8> {
        let mut space = [0; 10];
        let left = put_varlong(&mut space, value).len();
        space[..10 - left].to_vec()
    }

    #[test]
    fn kafkas_examples_are_written_and_read_alike() {
        let vectors = vectors::load();
        for example in vectors["varint_zigzag"].as_array().unwrap() {
            let value = example["value"].as_i64().unwrap();
            let bytes = vectors::hex(&example["hex"]);
            assert_eq!(encoded(value), bytes);
            assert_eq!(varlong_size(value), bytes.len());
            assert_eq!(varlong_at(&bytes, 0), Some((value, bytes.len())));
            if let Ok(value) = i32::try_from(value) {
                assert_eq!(varint_size(value), bytes.len());
                assert_eq!(varint_at(&bytes, 0), Some((value, bytes.len())));
            }
        }
    }

    #[test]
    fn encodings_longer_than_needed_are_read() {
        assert_eq!(varint_at(&[0x07, 0x82, 0x80, 0x00, 0x07], 1), Some((1, 4)));
    }

    #[test]
    fn unfinished_and_overlong_varints_are_refused() {
        for bytes in [&b""[..], &[0x80], &[0xff, 0xff, 0xff, 0xff], &[0x80; 5]] {
            assert_eq!(varint_at(bytes, 0), None);
            assert_eq!(varint_at(bytes, bytes.len() + 1), None);
        }
        assert_eq!(varlong_at(&[0x80; 10], 0), None);
        assert_eq!(varlong_at(&[0x80; 9], 0), None);
    }

    proptest! {
        #[test]
        fn every_value_comes_back(value: i64, narrow: i32) {
            let bytes = encoded(value);
            prop_assert_eq!(bytes.len(), varlong_size(value));
            prop_assert_eq!(varlong_at(&bytes, 0), Some((value, bytes.len())));
            let bytes = encoded(i64::from(narrow));
            prop_assert_eq!(bytes.len(), varint_size(narrow));
            prop_assert_eq!(varint_at(&bytes, 0), Some((narrow, bytes.len())));
        }
    }
}
