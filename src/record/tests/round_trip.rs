//! Random records through the builder and every codec that is written.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::{LIMIT, OwnedRecord, read};
use crate::record::Record;
use crate::record::batch::{BATCH_OVERHEAD, BatchError, RecordBatch};
use crate::record::builder::{BatchBuilder, SealedBatch};
use crate::record::compression::{Codec, Compression};
use crate::time::Timestamp;

pub(super) const COMPRESSIONS: [Compression; 4] =
    [Compression::None, Compression::Lz4, Compression::zstd(), Compression::Zstd { level: -5 }];

fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        vec(any::<u8>(), 0..100),
        (any::<u8>(), 0_usize..200_000).prop_map(|(byte, length)| vec![byte; length]),
    ]
}

fn any_timestamp() -> impl Strategy<Value = i64> {
    prop_oneof![4 => 1_700_000_000_000..1_700_000_100_000_i64, 1 => any::<i64>(), 1 => Just(-1)]
}

fn any_record() -> impl Strategy<Value = OwnedRecord> {
    let headers = vec((any::<String>(), option::of(vec(any::<u8>(), 0..80))), 0..4);
    (any_timestamp(), option::of(any_bytes()), option::of(any_bytes()), headers).prop_map(
        |(timestamp, key, value, headers)| OwnedRecord {
            offset: 0,
            timestamp,
            key,
            value,
            headers,
        },
    )
}

pub(super) fn append_all(builder: &mut BatchBuilder, records: &[OwnedRecord]) {
    for record in records {
        builder.append(&record.to_record(), record.timestamp()).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn records_come_back_identical_through_every_codec(
        mut records in vec(any_record(), 1..20),
        base_offset in 0..=u64::from(u32::MAX),
    ) {
        for (record, offset) in records.iter_mut().zip(base_offset..) {
            record.offset = offset;
        }
        let mut builder = BatchBuilder::new();
        append_all(&mut builder, &records);
        let size = builder.size();
        for compression in COMPRESSIONS {
            builder.seal(compression).unwrap();
            let mut sealed = builder.sealed();
            sealed.assign(base_offset, 3);
            prop_assert!(sealed.size() <= size);
            prop_assert_eq!(sealed.batch().partition_leader_epoch(), 3);
            prop_assert_eq!(&read(sealed.bytes()).unwrap(), &records);
        }
    }

    #[test]
    fn the_announced_size_is_the_size(records in vec(any_record(), 1..10)) {
        let mut builder = BatchBuilder::new();
        for record in &records {
            let expected =
                builder.size() + builder.size_of_next(&record.to_record(), record.timestamp());
            builder.append(&record.to_record(), record.timestamp()).unwrap();
            prop_assert_eq!(builder.size(), expected);
        }
        builder.seal(Compression::None).unwrap();
        prop_assert_eq!(builder.sealed().size(), builder.size());
    }
}

fn text(offset: u64, value: &str) -> OwnedRecord {
    OwnedRecord { offset, value: Some(value.into()), timestamp: 1000, ..OwnedRecord::default() }
}

#[test]
fn compression_that_does_not_help_is_left_away() {
    let mut builder = BatchBuilder::new();
    append_all(&mut builder, &[text(0, "short")]);
    builder.seal(Compression::zstd()).unwrap();
    assert_eq!(builder.sealed().batch().attributes().codec(), Codec::None);
    append_all(&mut builder, &[text(1, &"long".repeat(100))]);
    builder.seal(Compression::zstd()).unwrap();
    assert_eq!(builder.sealed().batch().attributes().codec(), Codec::Zstd);
}

#[test]
fn a_builder_is_reusable_and_sealing_twice_gives_the_same_bytes() {
    let mut builder = BatchBuilder::new();
    let records = [text(0, &"first".repeat(50)), text(1, "second")];
    for compression in COMPRESSIONS {
        builder.clear();
        assert!(builder.is_empty() && builder.size() == BATCH_OVERHEAD);
        builder.set_producer(1 << 62, 4, 9);
        append_all(&mut builder, &records);
        builder.seal(compression).unwrap();
        let first = builder.sealed().bytes().to_vec();
        builder.sealed().assign(77, 5);
        builder.sealed().set_log_append_time(Timestamp::from_millis(5));
        builder.seal(compression).unwrap();
        assert_eq!(builder.sealed().bytes(), first);
        assert_eq!(builder.sealed().batch().producer_id(), 1 << 62);
        assert_eq!(builder.sealed().batch().base_sequence(), 9);
        assert_eq!(read(&first).unwrap(), records);
    }
    builder.clear();
    append_all(&mut builder, &records);
    builder.seal(Compression::None).unwrap();
    assert_eq!(builder.sealed().batch().producer_id(), -1);
}

#[test]
fn a_builder_takes_no_memory_once_it_has_its_size() {
    let mut builder = BatchBuilder::with_capacity(16 << 10);
    let mut addresses = Vec::new();
    for _ in 0..3 {
        builder.clear();
        while builder.size() < 15 << 10 {
            append_all(&mut builder, &[text(0, &"again and ".repeat(10))]);
        }
        builder.seal(Compression::None).unwrap();
        let plain = builder.sealed().bytes().as_ptr();
        builder.seal(Compression::Lz4).unwrap();
        addresses.push((plain, builder.sealed().bytes().as_ptr()));
    }
    assert!(addresses.windows(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn the_base_timestamp_is_the_first_and_the_max_timestamp_the_largest() {
    for (timestamps, base, max) in
        [(&[5, 9, 2][..], 5, 9), (&[-1, -7], -1, -1), (&[-7], -1, -7), (&[3, i64::MIN], 3, 3)]
    {
        let mut builder = BatchBuilder::new();
        for &timestamp in timestamps {
            builder.append(&Record::new("a"), Timestamp::from_millis(timestamp)).unwrap();
        }
        builder.seal(Compression::None).unwrap();
        let sealed = builder.sealed();
        assert_eq!(sealed.batch().base_timestamp(), base);
        assert_eq!(sealed.batch().max_timestamp().as_millis(), max);
    }
}

#[test]
fn log_append_time_overrides_every_timestamp_and_renews_the_checksum() {
    let mut builder = BatchBuilder::new();
    append_all(&mut builder, &[text(0, "a"), text(1, "b")]);
    builder.seal(Compression::None).unwrap();
    let mut sealed = builder.sealed();
    sealed.set_log_append_time(Timestamp::from_millis(123));
    assert_eq!(sealed.batch().base_timestamp(), 1000);
    let timestamps: Vec<i64> =
        read(sealed.bytes()).unwrap().iter().map(|record| record.timestamp).collect();
    assert_eq!(timestamps, [123, 123]);
}

#[test]
fn the_uncompressed_records_are_borrowed_and_the_limit_binds_the_others() {
    let mut builder = BatchBuilder::new();
    append_all(&mut builder, &[text(0, &"long".repeat(100))]);
    let payload_size = builder.size() - BATCH_OVERHEAD;
    let mut buffer = b"mine".to_vec();
    builder.seal(Compression::None).unwrap();
    builder.sealed().batch().records(&mut buffer, 0).unwrap().next().unwrap().unwrap();
    assert_eq!(buffer, b"mine");
    for compression in [Compression::Lz4, Compression::zstd()] {
        builder.seal(compression).unwrap();
        let bytes = builder.sealed().bytes().to_vec();
        let batch = RecordBatch::parse(&bytes).unwrap();
        let refused = batch.records(&mut buffer, payload_size - 1);
        assert!(matches!(refused, Err(BatchError::TooLarge { .. })), "{refused:?}");
        assert_eq!(batch.records(&mut buffer, payload_size).unwrap().count(), 1);
        assert!(batch.check_records(&buffer).is_ok() && LIMIT > payload_size);
    }
}

#[test]
fn a_sealed_batch_must_be_one_whole_batch() {
    let mut builder = BatchBuilder::new();
    append_all(&mut builder, &[text(0, "a")]);
    builder.seal(Compression::None).unwrap();
    let bytes = builder.sealed().bytes().to_vec();
    assert!(SealedBatch::new(&mut bytes.clone()).is_ok());
    assert!(SealedBatch::new(&mut [&bytes[..], &[0]].concat()).is_err());
    let mut damaged = bytes;
    damaged[62] ^= 1;
    assert!(SealedBatch::new(&mut damaged).is_err());
}

#[test]
#[should_panic(expected = "sealed before it is used")]
fn an_append_reopens_a_sealed_batch() {
    let mut builder = BatchBuilder::new();
    builder.append(&Record::new("a"), Timestamp::NONE).unwrap();
    builder.seal(Compression::None).unwrap();
    builder.append(&Record::new("b"), Timestamp::NONE).unwrap();
    builder.sealed();
}
