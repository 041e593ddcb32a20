use proptest::prelude::*;

use super::*;

/// Golden bytes of Kafka's schemas: group "billing", topic "orders", partition 3.
const KEY_V0: &str = "0000000762696c6c696e6700066f726465727300000003";
const KEY_V1: &str = "0001000762696c6c696e6700066f726465727300000003";
const GROUP_METADATA_KEY: &str = "0002000762696c6c696e67";
/// Offset 123456789, "méta", epoch 4 where there is one; version 1 with an expiry.
const VALUES: [&str; 5] = [
    "000000000000075bcd1500056dc3a974610000018bcfe56800",
    "000100000000075bcd1500056dc3a974610000018bcfe568000000018bd50bc400",
    "000200000000075bcd1500056dc3a974610000018bcfe56800",
    "000300000000075bcd150000000400056dc3a974610000018bcfe56800",
    "000400000000075bcd1500000004066dc3a974610000018bcfe5680000",
];
const GROUP_METADATA_VALUE: &str = "0003000000000000ffffffff0000018bcfe5680000000000";

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u32> = hex.chars().map(|digit| digit.to_digit(16).unwrap()).collect();
    digits.chunks(2).map(|pair| u8::try_from(pair[0] << 4 | pair[1]).unwrap()).collect()
}

fn orders_3() -> TopicPartition {
    TopicPartition::new("orders", 3)
}

fn committed(leader_epoch: Option<u32>) -> CommittedOffset<'static> {
    CommittedOffset {
        offset: 123_456_789,
        leader_epoch,
        metadata: "méta",
        commit_timestamp: Timestamp::from_millis(1_700_000_000_000),
    }
}

fn malformed(key: &[u8], value: Option<&[u8]>) -> bool {
    matches!(decode(Some(key), value), Err(OffsetRecordError::Malformed(_)))
}

#[test]
fn what_is_written_is_what_kafka_writes() {
    assert_eq!(encode_key("billing", &orders_3()), Ok(bytes(KEY_V1)));
    assert_eq!(encode_value(&committed(Some(4))), Ok(bytes(VALUES[3])));
}

#[test]
fn every_version_that_kafka_wrote_is_read() {
    for key in [KEY_V0, KEY_V1] {
        for (version, value) in VALUES.iter().enumerate() {
            let expected = OffsetRecord::Commit {
                group: "billing",
                topic_partition: orders_3(),
                committed: committed((version >= 3).then_some(4)),
            };
            assert_eq!(decode(Some(&bytes(key)), Some(&bytes(value))), Ok(expected), "{value}");
        }
    }
}

#[test]
fn an_unknown_epoch_is_minus_one_on_disk() {
    let value = encode_value(&committed(None)).unwrap();
    assert_eq!(value[10..14], [0xff; 4]);
    assert_eq!(decode_value(&value), Ok(committed(None)));
}

#[test]
fn a_null_value_is_a_tombstone() {
    let expected = OffsetRecord::Tombstone { group: "billing", topic_partition: orders_3() };
    assert_eq!(decode(Some(&bytes(KEY_V1)), None), Ok(expected));
}

#[test]
fn group_metadata_is_recognised_with_and_without_a_value() {
    let key = bytes(GROUP_METADATA_KEY);
    let value = bytes(GROUP_METADATA_VALUE);
    for value in [Some(&value[..]), None] {
        assert_eq!(decode(Some(&key), value), Ok(OffsetRecord::GroupMetadata { group: "billing" }));
    }
}

#[test]
fn keys_of_other_versions_are_skipped_whatever_follows() {
    for version in [3_i16, 8, 9, 15, 16, i16::MAX, -1] {
        let key = [&version.to_be_bytes()[..], b"\xff\xff"].concat();
        assert_eq!(decode(Some(&key), Some(b"junk")), Ok(OffsetRecord::Skip));
    }
}

#[test]
fn a_value_of_an_unknown_version_is_refused_and_not_guessed_at() {
    for version in [5_i16, -1] {
        let value = [&version.to_be_bytes()[..], &bytes(VALUES[3])[2..]].concat();
        let key = bytes(KEY_V1);
        let result = decode(Some(&key), Some(&value));
        assert_eq!(result, Err(OffsetRecordError::Unsupported(version)));
    }
}

#[test]
fn records_cut_anywhere_or_with_bytes_to_spare_are_malformed() {
    let key = bytes(KEY_V1);
    for len in 0..key.len() {
        assert!(malformed(&key[..len], None), "key cut at {len}");
    }
    assert!(malformed(&[&key[..], b"x"].concat(), None));
    let group_key = bytes(GROUP_METADATA_KEY);
    for len in 0..group_key.len() {
        assert!(malformed(&group_key[..len], None), "group key cut at {len}");
    }
    for value in VALUES.map(bytes) {
        for len in 0..value.len() {
            assert!(malformed(&key, Some(&value[..len])), "value cut at {len}");
        }
        assert!(malformed(&key, Some(&[&value[..], b"x"].concat())));
    }
    assert!(matches!(decode(None, None), Err(OffsetRecordError::Malformed(_))));
}

#[test]
fn tagged_fields_of_later_releases_are_skipped() {
    let mut value = bytes(VALUES[4]);
    value.pop();
    // Two fields: tag 0 with one byte, tag 300 with none.
    value.extend([2, 0, 1, 0xaa, 0xac, 0x02, 0]);
    assert_eq!(decode_value(&value), Ok(committed(Some(4))));
    // A count that the bytes cannot hold ends with them.
    value.truncate(value.len() - 7);
    value.extend([0xff, 0xff, 0xff, 0xff, 0x0f]);
    assert!(malformed(&bytes(KEY_V1), Some(&value)));
}

#[test]
fn lengths_may_be_written_with_more_bytes_than_they_need() {
    let value = bytes(VALUES[4]);
    let (fields, metadata) = (&value[..14], &value[15..]);
    let value = [fields, &[0x86, 0x80, 0x80, 0x80, 0x00], metadata].concat();
    assert_eq!(decode_value(&value), Ok(committed(Some(4))));
}

#[test]
fn nulls_negative_numbers_and_bad_strings_are_malformed() {
    let key = bytes(KEY_V1);
    let changed = |original: &str, at: usize, with: &[u8]| {
        let mut bytes = bytes(original);
        bytes[at..at + with.len()].copy_from_slice(with);
        bytes
    };
    // The group's length; a letter of the group; one of the topic, which becomes a path; the sign
    // of the partition.
    for (at, with) in [(2, &[0xff, 0xff][..]), (4, b"\xff"), (13, b"/"), (19, b"\x80")] {
        assert!(malformed(&changed(KEY_V1, at, with), None), "key at {at}");
    }
    // The sign of the offset; the metadata's length; a letter of it.
    for (at, with) in [(2, &[0x80][..]), (14, &[0xff, 0xff]), (16, b"\xff")] {
        assert!(malformed(&key, Some(&changed(VALUES[3], at, with))), "value at {at}");
    }
    // Version 4: the metadata is null; its length does not end, or does not fit into 32 bits.
    assert!(malformed(&key, Some(&changed(VALUES[4], 14, &[0]))));
    assert!(malformed(&key, Some(&changed(VALUES[4], 14, &[0x80; 6]))));
    assert!(malformed(&key, Some(&changed(VALUES[4], 14, &[0xff, 0xff, 0xff, 0xff, 0x1f]))));
}

#[test]
fn what_the_format_cannot_hold_is_refused_before_it_is_written() {
    let long = "x".repeat(32_768);
    let too_long = |what, len, max| Err(OffsetRecordError::TooLong { what, len, max });
    let too_large = |what, value| Err(OffsetRecordError::TooLarge { what, value });
    assert!(encode_key(&long[1..], &orders_3()).is_ok());
    assert_eq!(encode_key(&long, &orders_3()), too_long("group id", 32_768, 32_767));
    let far = TopicPartition::new("orders", 1 << 31);
    assert_eq!(encode_key("billing", &far), too_large("partition", 1 << 31));

    let with_metadata = |metadata| CommittedOffset { metadata, ..committed(None) };
    assert!(encode_value(&with_metadata(&long[..4096])).is_ok());
    let result = encode_value(&with_metadata(&long[..4097]));
    assert_eq!(result, too_long("metadata", 4097, 4096));
    let far = CommittedOffset { offset: 1 << 63, ..committed(None) };
    assert_eq!(encode_value(&far), too_large("offset", 1 << 63));
    assert_eq!(encode_value(&committed(Some(1 << 31))), too_large("leader epoch", 1 << 31));
}

#[test]
fn groups_are_in_the_partitions_that_kafka_puts_them_in() {
    for (group, partition) in [
        ("", 0),
        ("a", 47),
        ("billing", 9),
        ("my-group", 12),
        ("console-consumer-12345", 6),
        // Its hash is i32::MIN, which has no absolute value.
        ("polygenelubricants", 0),
        ("日本語", 43),
        // Two UTF-16 code units, four bytes, one character.
        ("emoji-😀", 6),
    ] {
        assert_eq!(partition_for(group, 50), partition, "{group}");
        assert_eq!(partition_for(group, 1), 0);
    }
}

proptest! {
    #[test]
    fn any_commit_comes_back_as_it_was_written(
        group in any::<String>(),
        partition in 0..=i32::MAX.unsigned_abs(),
        offset in 0..=i64::MAX.unsigned_abs(),
        leader_epoch in proptest::option::of(0..=i32::MAX.unsigned_abs()),
        metadata in any::<String>(),
        millis in any::<i64>(),
    ) {
        let topic_partition = TopicPartition::new("orders", partition);
        let commit_timestamp = Timestamp::from_millis(millis);
        let metadata = &metadata;
        let committed = CommittedOffset { offset, leader_epoch, metadata, commit_timestamp };
        let key = encode_key(&group, &topic_partition).unwrap();
        let value = encode_value(&committed).unwrap();
        let group = &group;
        let expected = OffsetRecord::Commit { group, topic_partition, committed: committed.clone() };
        prop_assert_eq!(decode(Some(&key), Some(&value)), Ok(expected));
    }

    #[test]
    fn any_bytes_are_read_or_refused_without_a_panic(
        version in 0_u8..6,
        key in any::<Vec<u8>>(),
        value in any::<Vec<u8>>(),
    ) {
        let value = [&[0, version][..], &value].concat();
        let commit_key = bytes(KEY_V1);
        let result = decode(Some(&commit_key), Some(&value));
        prop_assert_eq!(version > 4, matches!(result, Err(OffsetRecordError::Unsupported(_))));
        let key = [&[0, version][..], &key].concat();
        if version > 2 {
            prop_assert_eq!(decode(Some(&key), Some(&value)), Ok(OffsetRecord::Skip));
        } else if let Ok(record) = decode(Some(&key), None) {
            prop_assert_ne!(record, OffsetRecord::Skip);
        }
    }
}
