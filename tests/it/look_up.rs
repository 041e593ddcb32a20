//! Goal: whoever knows an offset reads there without a consumer, and meets the same records, the same
//! bounds and the same errors.

use std::fs;
use std::time::Duration;

use sapwood::{
    Broker, Compression, ConsumerRecords, Durability, Error, Partition, Record, TopicConfig,
};
use tempfile::tempdir;

/// Batches of three, in segments that hold a few of them.
fn config() -> TopicConfig {
    let flush_interval = Duration::from_secs(60);
    TopicConfig::default()
        .segment_bytes(1_024)
        .max_message_bytes(900)
        .durability(Durability::Written { flush_interval })
}

fn filled(broker: &Broker, config: TopicConfig) -> Partition {
    let partition = broker.create_topic("orders", config).unwrap().partition(0).unwrap();
    for batch in 0..20_u64 {
        let values: Vec<String> = (0..3).map(|n| format!("record {}", batch * 3 + n)).collect();
        let records: Vec<Record<'_>> = values.iter().map(Record::new).collect();
        partition.append(&records).unwrap();
    }
    partition
}

/// The offsets of the records, each of which must be the one that was sent as that.
fn offsets(records: &ConsumerRecords) -> Vec<u64> {
    let check = |record: sapwood::ConsumerRecord<'_>| {
        let expected = format!("record {}", record.offset());
        assert_eq!(record.value(), Some(expected.as_bytes()));
        record.offset()
    };
    records.iter().map(check).collect()
}

#[test]
fn every_offset_leads_to_its_record_and_those_after_it() {
    for compression in [Compression::None, Compression::Lz4] {
        let directory = tempdir().unwrap();
        let broker = Broker::open(directory.path()).unwrap();
        let partition = filled(&broker, config().compression(compression));
        for offset in 0..60 {
            for count in [1, 2, 5, 100] {
                let expected: Vec<u64> = (offset..60).take(count).collect();
                let records = partition.read(offset, count).unwrap();
                assert_eq!(offsets(&records), expected, "{count} from {offset}");
                let next: Vec<u64> = records.next_offsets().map(|(_, next)| next).collect();
                assert_eq!(next, [offset + expected.len() as u64]);
            }
        }
    }
}

#[test]
fn none_are_asked_for_and_none_come() {
    let broker = Broker::in_memory().unwrap();
    assert!(filled(&broker, config()).read(3, 0).unwrap().is_empty());
}

#[test]
fn behind_the_last_record_there_are_none_and_beyond_that_is_an_error() {
    let broker = Broker::in_memory().unwrap();
    let partition = filled(&broker, config());
    assert!(partition.read(60, 1).unwrap().is_empty());
    partition.delete_records(7).unwrap();
    for (offset, start, end) in [(61, 7, 60), (6, 7, 60), (u64::MAX, 7, 60)] {
        match partition.read(offset, 1) {
            Err(Error::OffsetOutOfRange { offset: told, log_start_offset, end_offset, .. }) => {
                assert_eq!((told, log_start_offset, end_offset), (offset, start, end));
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(offsets(&partition.read(7, 1).unwrap()), [7]);
}

#[test]
fn one_call_returns_about_a_mebibyte() {
    let broker = Broker::in_memory().unwrap();
    let partition = broker.create_topic("blobs", TopicConfig::default()).unwrap();
    let partition = partition.partition(0).unwrap();
    let blob = vec![7; 300 << 10];
    (0..10).for_each(|_| drop(partition.append(&[Record::new(&blob)]).unwrap()));
    assert_eq!(partition.read(0, usize::MAX).unwrap().len(), 4);
}

#[test]
fn damage_is_told_where_it_is_and_not_before() {
    let directory = tempdir().unwrap();
    let broker = Broker::open(directory.path()).unwrap();
    filled(&broker, config());
    broker.close().unwrap();
    let log = directory.path().join("orders-0/00000000000000000000.log");
    let mut bytes = fs::read(&log).unwrap();
    let second = u32::from_be_bytes(bytes[8..12].try_into().unwrap()) as usize + 12;
    bytes[second + 70] ^= 1;
    fs::write(&log, bytes).unwrap();
    let broker = Broker::open(directory.path()).unwrap();
    let partition = broker.topic("orders").unwrap().partition(0).unwrap();
    assert_eq!(offsets(&partition.read(1, 100).unwrap()), [1, 2]);
    match partition.read(4, 1) {
        Err(Error::Corrupt(damage)) => {
            assert_eq!(damage.path, log);
            assert_eq!(damage.offsets.start, 3);
        }
        other => panic!("{other:?}"),
    }
    assert!(!partition.read(30, 1).unwrap().is_empty(), "what lies behind can be read");
}

#[test]
fn another_process_sees_what_was_written_since() {
    let directory = tempdir().unwrap();
    let broker = Broker::open(directory.path()).unwrap();
    let partition = filled(&broker, config());
    let follower = Broker::open_read_only(directory.path()).unwrap();
    let followed = follower.topic("orders").unwrap().partition(0).unwrap();
    assert!(followed.read(60, 1).unwrap().is_empty());
    partition.append(&[Record::new("record 60")]).unwrap();
    assert_eq!(offsets(&followed.read(60, 1).unwrap()), [60]);
}

#[test]
fn a_deleted_topic_and_a_closed_broker_say_so() {
    let broker = Broker::in_memory().unwrap();
    let partition = filled(&broker, config());
    let kept = partition.read(0, 2).unwrap();
    broker.delete_topic("orders").unwrap();
    assert!(matches!(partition.read(0, 1), Err(Error::Closed { .. })));
    assert_eq!(offsets(&kept), [0, 1], "what was returned stays valid");
    let again = filled(&broker, config());
    broker.close().unwrap();
    assert!(matches!(again.read(0, 1), Err(Error::Closed { .. })));
}
