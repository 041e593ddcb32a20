//! Goal: topics come, change and go durably and as a whole, and impossible ones are refused.

use std::time::Duration;

use sapwood::{Broker, Compression, Durability, Error, Record, TopicConfig, WhenFull};

#[test]
fn topics_and_their_settings_survive_a_reopen() {
    let directory = tempfile::tempdir().unwrap();
    let broker = Broker::open(directory.path()).unwrap();
    let config = TopicConfig::default()
        .partitions(3)
        .compression(Compression::Lz4)
        .durability(Durability::Written { flush_interval: Duration::from_millis(250) })
        .retention_ms(None)
        .retention_groups(["billing", "audit"])
        .max_bytes(1 << 30)
        .when_full(WhenFull::DropOldest);
    let id = broker.create_topic("orders", config.clone()).unwrap().id();
    broker.close().unwrap();
    drop(broker);

    let broker = Broker::open(directory.path()).unwrap();
    assert!(broker.recovery_report().clean_shutdown);
    let orders = broker.topic("orders").unwrap();
    assert_eq!(orders.config(), config);
    assert_eq!((orders.partition_count(), orders.id()), (3, id));
}

#[test]
fn names_that_would_leave_the_directory_are_refused() {
    let broker = Broker::in_memory().unwrap();
    for name in ["", ".", "..", "../evil", "a/b", "__consumer_offsets", "a b"] {
        let error = broker.create_topic(name, TopicConfig::default()).unwrap_err();
        assert!(matches!(error, Error::InvalidTopicName { .. }), "{name:?}: {error}");
    }
}

#[test]
fn impossible_settings_are_refused_by_name() {
    let broker = Broker::in_memory().unwrap();
    let default = TopicConfig::default;
    for (config, name) in [
        (default().partitions(0), "partitions"),
        (default().segment_bytes(0), "segment.bytes"),
        (default().max_message_bytes(0), "max.message.bytes"),
        (default().retention_groups([""]), "retention.groups"),
    ] {
        match broker.create_topic("orders", config).unwrap_err() {
            Error::InvalidConfig { name: found, .. } => assert_eq!(found, name),
            other => panic!("{name}: {other}"),
        }
    }
    assert!(broker.topics().unwrap().is_empty());
}

#[test]
fn a_topic_exists_once() {
    let broker = Broker::in_memory().unwrap();
    broker.create_topic("orders", TopicConfig::default()).unwrap();
    let error = broker.create_topic("orders", TopicConfig::default()).unwrap_err();
    assert!(matches!(error, Error::TopicExists { .. }), "{error}");
    assert!(matches!(broker.topic("payments"), Err(Error::UnknownTopic { .. })));
}

#[test]
fn a_deleted_topic_is_gone_for_good_and_its_name_is_free() {
    let directory = tempfile::tempdir().unwrap();
    let broker = Broker::open(directory.path()).unwrap();
    let old = broker.create_topic("orders", TopicConfig::default()).unwrap();
    let partition = old.partition(0).unwrap();
    partition.append(&[Record::new("x")]).unwrap();
    broker.delete_topic("orders").unwrap();
    let error = partition.append(&[Record::new("y")]).unwrap_err();
    assert!(matches!(error, Error::Closed { what: "the deleted topic" }), "{error}");
    assert!(!directory.path().join("orders-0").exists());
    let new = broker.create_topic("orders", TopicConfig::default()).unwrap();
    assert_ne!(new.id(), old.id());
    assert_eq!(new.partition(0).unwrap().log_end_offset(), 0);
}

#[test]
fn partitions_can_be_added_and_never_taken_away() {
    let directory = tempfile::tempdir().unwrap();
    let broker = Broker::open(directory.path()).unwrap();
    let orders = broker.create_topic("orders", TopicConfig::default().partitions(2)).unwrap();
    orders.partition(1).unwrap().append(&[Record::new("x")]).unwrap();
    broker.add_partitions("orders", 4).unwrap();
    assert_eq!(orders.partition_count(), 4, "handles see it at once");
    orders.partition(3).unwrap().append(&[Record::new("y")]).unwrap();
    for total in [4, 1, 0] {
        let error = broker.add_partitions("orders", total).unwrap_err();
        assert!(matches!(error, Error::InvalidConfig { .. }), "{error}");
    }
    broker.close().unwrap();
    let broker = Broker::open(directory.path()).unwrap();
    let orders = broker.topic("orders").unwrap();
    let ends: Vec<_> = orders.partitions().iter().map(|p| p.log_end_offset()).collect();
    assert_eq!(ends, [0, 1, 0, 1]);
    assert!(matches!(orders.partition(4), Err(Error::UnknownPartition { .. })));
}

#[test]
fn a_capped_topic_refuses_what_does_not_fit() {
    let broker = Broker::in_memory().unwrap();
    let config = TopicConfig::default().max_bytes(100_000).max_message_bytes(10_000);
    let log = broker.create_topic("capped", config).unwrap().partition(0).unwrap();
    let value = [0; 1_000];
    let error = loop {
        if let Err(error) = log.append(&[Record::new(&value)]) {
            break error;
        }
    };
    assert!(matches!(error, Error::TopicFull { .. }) && error.is_retriable(), "{error}");
    assert!(log.size() <= 100_000 && log.size() > 98_000, "{}", log.size());
    log.delete_records(log.log_end_offset()).unwrap();
    log.append(&[Record::new(&value)]).unwrap();
}

#[test]
fn a_capped_topic_can_drop_its_oldest_records() {
    let broker = Broker::in_memory().unwrap();
    let config = TopicConfig::default()
        .max_bytes(200_000)
        .max_message_bytes(10_000)
        .partitions(2)
        .when_full(WhenFull::DropOldest);
    let topic = broker.create_topic("capped", config).unwrap();
    let value = [0; 1_000];
    for n in 0..1_000 {
        topic.partition(n % 2).unwrap().append(&[Record::new(&value)]).unwrap();
        assert!(topic.size() <= 200_000);
    }
    for partition in topic.partitions() {
        assert_eq!(partition.log_end_offset(), 500, "nothing was refused");
        assert!(partition.log_start_offset() > 350, "old records went");
        assert!(partition.log_start_offset() < 450, "and no more than had to");
    }
}

#[test]
fn a_capped_topic_can_make_senders_wait_for_room() {
    let broker = Broker::in_memory().unwrap();
    let config = TopicConfig::default()
        .max_bytes(50_000)
        .max_message_bytes(10_000)
        .when_full(WhenFull::Block);
    let log = broker.create_topic("capped", config).unwrap().partition(0).unwrap();
    let value = [0; 1_000];
    let sender = {
        let log = log.clone();
        std::thread::spawn(move || {
            (0..200).try_for_each(|_| log.append(&[Record::new(&value)]).map(drop))
        })
    };
    while !sender.is_finished() {
        assert!(log.size() <= 50_000);
        if log.size() > 40_000 {
            log.delete_records(log.high_watermark()).unwrap();
        }
        std::thread::yield_now();
    }
    sender.join().unwrap().unwrap();
    assert_eq!(log.log_end_offset(), 200);
}

#[test]
fn a_read_only_broker_follows_as_topics_are_created_enlarged_altered_and_deleted() {
    let directory = tempfile::tempdir().unwrap();
    let writer = Broker::open(directory.path()).unwrap();
    let reader = Broker::open_read_only(directory.path()).unwrap();
    assert!(matches!(reader.topic("orders"), Err(Error::UnknownTopic { .. })));

    let orders = writer.create_topic("orders", TopicConfig::default()).unwrap();
    orders.partition(0).unwrap().append(&[Record::new("paid")]).unwrap();
    let mut consumer = reader.consumer().subscribe(["orders"]).unwrap();
    assert_eq!(consumer.poll(Duration::from_secs(10)).unwrap().len(), 1);

    writer.add_partitions("orders", 2).unwrap();
    writer.alter_topic("orders", orders.config().retention_ms(None)).unwrap();
    orders.partition(1).unwrap().append(&[Record::new("shipped")]).unwrap();
    let seen = reader.topic("orders").unwrap();
    assert_eq!((seen.partition_count(), seen.config()), (2, orders.config()));
    let records = consumer.poll(Duration::from_secs(10)).unwrap();
    assert_eq!(records.iter().next().map(|record| record.partition()), Some(1));

    writer.delete_topic("orders").unwrap();
    assert_eq!(reader.topics().unwrap().len(), 0);
    let gone = consumer.poll(Duration::from_secs(10)).unwrap_err();
    assert!(matches!(gone, Error::UnknownTopic { .. }), "{gone}");

    let again = writer.create_topic("orders", TopicConfig::default()).unwrap();
    assert_eq!(reader.topic("orders").unwrap().id(), again.id());
}
