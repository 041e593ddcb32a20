use super::*;

fn key() -> ShareKey {
    let topic_id = "ASNFZ4mrze_-3LqYdlQyEA".parse().unwrap();
    ShareKey { group: "workers".to_owned(), topic_id, partition: 3 }
}

fn available(delivery_count: u16) -> DeliveryState {
    DeliveryState::Available { delivery_count, not_before: Duration::ZERO }
}

fn batches() -> Vec<(Range<u64>, DeliveryState)> {
    vec![
        (10..12, available(1)),
        (12..13, DeliveryState::Acknowledged),
        (13..20, DeliveryState::Archived),
        (20..21, available(0)),
    ]
}

#[test]
fn an_update_is_laid_out_as_kafkas_schema_says() {
    let mut value = Vec::new();
    encode_update(&mut value, 10, [(10..12, available(1))].into_iter());
    let expected: Vec<u8> = [
        &[0, 0][..],                // version
        &[0, 0, 0, 0, 0, 0, 0, 0],  // epochs
        &[0, 0, 0, 0, 0, 0, 0, 10], // start offset
        &[2],                       // one batch
        &[0, 0, 0, 0, 0, 0, 0, 10], // first offset
        &[0, 0, 0, 0, 0, 0, 0, 11], // last offset
        &[0, 0, 1, 0],              // available, delivered once, no tags
        &[0],                       // no tags
    ]
    .concat();
    assert_eq!(value, expected);
    let key = key().encode(ShareRecordKind::Update);
    assert_eq!(&key[..4], [0, 1, 0, 7]);
    assert_eq!(&key[4..11], b"workers");
    assert_eq!(&key[key.len() - 4..], [0, 0, 0, 3]);
    assert_eq!(key.len(), 2 + 2 + 7 + 16 + 4);
}

#[test]
fn what_is_written_is_read() {
    let mut value = Vec::new();
    encode_update(&mut value, 10, batches().into_iter());
    let states = ShareStates { start: Some(10), batches: batches() };
    let bytes = key().encode(ShareRecordKind::Update);
    let update = ShareRecord::Update(key(), states.clone());
    assert_eq!(decode(Some(&bytes), Some(&value)), Ok(update));

    encode_snapshot(&mut value, 10, batches().into_iter(), Timestamp::from_millis(5));
    let bytes = key().encode(ShareRecordKind::Snapshot);
    assert_eq!(decode(Some(&bytes), Some(&value)), Ok(ShareRecord::Snapshot(key(), states)));
    assert_eq!(decode(Some(&bytes), None), Ok(ShareRecord::Tombstone(key())));
    assert_eq!(decode(Some(&[0, 9]), None), Ok(ShareRecord::Skip));
}

#[test]
fn an_update_without_a_start_and_with_fields_of_a_later_release_is_read() {
    let mut value = Vec::new();
    encode_update(&mut value, 10, batches().into_iter());
    value[10..18].copy_from_slice(&(-1_i64).to_be_bytes());
    value.pop();
    // One tagged field, as of Kafka 4.2: tag 0, four bytes.
    value.extend([1, 0, 4, 0, 0, 0, 7]);
    let bytes = key().encode(ShareRecordKind::Update);
    let states = ShareStates { start: None, batches: batches() };
    assert_eq!(decode(Some(&bytes), Some(&value)), Ok(ShareRecord::Update(key(), states)));
}

#[test]
fn a_value_cut_short_anywhere_or_of_another_version_is_refused_and_never_panics() {
    let mut value = Vec::new();
    encode_snapshot(&mut value, 10, batches().into_iter(), Timestamp::from_millis(5));
    let bytes = key().encode(ShareRecordKind::Snapshot);
    for len in 0..value.len() {
        assert!(decode(Some(&bytes), Some(&value[..len])).is_err(), "{len}");
    }
    for len in 0..bytes.len() {
        assert!(decode(Some(&bytes[..len]), Some(&value)).is_err(), "{len}");
    }
    for at in 0..value.len() {
        for bit in 0..8 {
            let mut flipped = value.clone();
            flipped[at] ^= 1 << bit;
            let _whatever = decode(Some(&bytes), Some(&flipped));
        }
    }
    value[1] = 1;
    assert_eq!(decode(Some(&bytes), Some(&value)), Err(ShareRecordError::Unsupported(1)));
    value[1] = 0;
    // A count that memory does not suffice for.
    value.truncate(2 + 12 + 8 + 16);
    value.extend([0xff, 0xff, 0xff, 0xff, 0x0f]);
    assert!(decode(Some(&bytes), Some(&value)).is_err());
}
