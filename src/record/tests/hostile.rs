//! Damaged and arbitrary bytes: an error or the truth, never a panic, never too much memory.

use proptest::collection::vec;
use proptest::prelude::*;

use super::round_trip::{COMPRESSIONS, append_all};
use super::{OwnedRecord, read};
use crate::record::batch::{BATCH_OVERHEAD, BatchError, RecordBatch, check_batches};
use crate::record::builder::BatchBuilder;
use crate::record::checksum::crc32c;
use crate::record::compression::Compression;

/// Where the checksum stands, and where what it covers begins.
const CHECKSUM: std::ops::Range<usize> = 17..21;

fn sample(compression: Compression) -> (Vec<u8>, Vec<OwnedRecord>) {
    let records: Vec<OwnedRecord> = (0..5_u8)
        .map(|i| OwnedRecord {
            offset: i.into(),
            timestamp: 1_700_000_000_000 + i64::from(i),
            key: (i % 2 == 0).then(|| vec![i]),
            value: Some(b"the same words again ".repeat(i.into())),
            headers: vec![("name".to_owned(), (i > 2).then(|| vec![i; 3]))],
        })
        .collect();
    let mut builder = BatchBuilder::new();
    append_all(&mut builder, &records);
    builder.seal(compression).unwrap();
    (builder.sealed().bytes().to_vec(), records)
}

/// Makes the checksum right again, so that what lies behind it is reached.
fn renew_checksum(bytes: &mut [u8]) {
    let checksum = crc32c(&bytes[CHECKSUM.end..]);
    bytes[CHECKSUM].copy_from_slice(&checksum.to_be_bytes());
}

#[test]
fn no_flipped_bit_from_the_magic_on_goes_unnoticed() {
    for compression in COMPRESSIONS {
        let (bytes, records) = sample(compression);
        assert_eq!(read(&bytes).unwrap(), records);
        for bit in 16 * 8..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(read(&damaged).is_err(), "{compression}, bit {bit}");
        }
    }
}

#[test]
fn a_batch_cut_anywhere_is_incomplete_and_says_what_it_needs() {
    let (bytes, _) = sample(Compression::None);
    for length in 0..bytes.len() {
        let Err(BatchError::Incomplete { needed, available }) =
            RecordBatch::parse(&bytes[..length])
        else {
            panic!("cut at {length}");
        };
        assert_eq!(available, length as u64);
        let known = if length < 12 { BATCH_OVERHEAD } else { bytes.len() };
        assert_eq!(needed, known as u64);
    }
}

#[test]
fn zeros_are_never_a_batch_nor_part_of_one() {
    for length in [12, 61, 4096] {
        let zeros = vec![0; length];
        assert!(matches!(RecordBatch::parse(&zeros), Err(BatchError::Corrupt(_))), "{length}");
        assert!(RecordBatch::size_of(&zeros).is_err());
    }
    assert_eq!(RecordBatch::size_of(&[0; 11]), Ok(None));
}

#[test]
fn lengths_outside_the_format_are_refused() {
    for (length, is_allowed) in
        [(-1, false), (48, false), (49, true), (i32::MAX - 12, true), (i32::MAX - 11, false)]
    {
        let prefix = [[0; 8].as_slice(), &i32::to_be_bytes(length)].concat();
        assert_eq!(RecordBatch::size_of(&prefix).is_ok(), is_allowed, "{length}");
    }
}

#[test]
fn header_fields_outside_their_range_are_refused() {
    let (bytes, _) = sample(Compression::None);
    let damages: [(usize, &[u8]); 6] = [
        (0, &[0x80]),                                    // base offset
        (0, &[0x7f, 255, 255, 255, 255, 255, 255, 255]), // its batch's end overflows
        (23, &[0x80]),                                   // last offset delta
        (27, &[0x80]),                                   // base timestamp
        (57, &[0x80]),                                   // record count
        (57, &[0, 0, 0, 6]),                             // more records than offsets
    ];
    for (at, field) in damages {
        let mut damaged = bytes.clone();
        damaged[at..at + field.len()].copy_from_slice(field);
        renew_checksum(&mut damaged);
        let outcome = RecordBatch::parse(&damaged).map(drop);
        assert!(matches!(outcome, Err(BatchError::Corrupt(_))), "{at}: {outcome:?}");
    }
}

#[test]
fn a_header_name_that_is_not_utf_8_is_refused() {
    let (mut bytes, _) = sample(Compression::None);
    let at = bytes.windows(4).position(|window| window == b"name").unwrap();
    bytes[at] = 0xff;
    renew_checksum(&mut bytes);
    let error = read(&bytes).unwrap_err();
    assert!(error.to_string().contains("UTF-8"), "{error}");
}

#[test]
fn after_a_damaged_record_nothing_more_comes() {
    let (mut bytes, _) = sample(Compression::None);
    bytes[BATCH_OVERHEAD] = 0x81; // the first record's length
    let batch = RecordBatch::parse(&bytes).unwrap();
    let outcomes: Vec<bool> =
        batch.iter_payload(batch.payload()).map(|record| record.is_ok()).collect();
    assert_eq!(outcomes, [false]);
    assert!(batch.check_records(batch.payload()).is_err());
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..300)) {
        let _: Result<u64, BatchError> = check_batches(&bytes, 1000);
    }

    #[test]
    fn arbitrary_payloads_under_a_sound_header_stay_within_the_limit(
        payload in vec(any::<u8>(), 0..400),
        codec in 0_u8..5,
        limit in 0_usize..2000,
    ) {
        let (sound, _) = sample(Compression::None);
        let mut bytes = [&sound[..BATCH_OVERHEAD], &payload[..]].concat();
        let length = i32::try_from(bytes.len() - 12).unwrap();
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        bytes[22] = codec;
        renew_checksum(&mut bytes);
        let batch = RecordBatch::parse(&bytes).unwrap();
        let mut buffer = Vec::new();
        let count = batch.records(&mut buffer, limit).map(Iterator::count);
        prop_assert!(count.unwrap_or(0) <= 6);
        // A vector never has room for fewer than 8 bytes if it has any.
        prop_assert!(buffer.capacity() <= limit.max(8), "{} of {limit}", buffer.capacity());
    }

    #[test]
    fn mutated_batches_with_a_right_checksum_never_panic(
        choice in 0..COMPRESSIONS.len(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let (mut bytes, _) = sample(COMPRESSIONS[choice]);
        for (at, byte) in changes {
            let at = at.index(bytes.len() - CHECKSUM.end) + CHECKSUM.end;
            bytes[at] = byte;
        }
        renew_checksum(&mut bytes);
        if let Ok(records) = read(&bytes) {
            prop_assert!(records.windows(2).all(|pair| pair[0].offset < pair[1].offset));
        }
    }
}
