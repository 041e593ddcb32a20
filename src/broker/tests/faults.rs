//! Every call of every change of topics fails once, or is the last one before the process is killed.

use std::io::ErrorKind;
use std::path::Path;

use super::{append, builder, fail_call, is_typed, open};
use crate::broker::Broker;
use crate::error::{Error, Result};
use crate::fs::FileSystem;
use crate::fs::faults::{FailingFileSystem, Operation};
use crate::log::config::TopicConfig;

/// What a change makes of the topic `orders`, which has two partitions.
struct Change {
    run: fn(&Broker) -> Result<()>,
    /// The partitions of which topic, before and after.
    topic: &'static str,
    before: u32,
    after: u32,
}

const CREATE: Change = Change {
    run: |broker| broker.create_topic("new", TopicConfig::default().partitions(3)).map(drop),
    topic: "new",
    before: 0,
    after: 3,
};
const ADD: Change = Change {
    run: |broker| broker.add_partitions("orders", 4),
    topic: "orders",
    before: 2,
    after: 4,
};
const DELETE: Change =
    Change { run: |broker| broker.delete_topic("orders"), topic: "orders", before: 2, after: 0 };
const ALTER: Change = Change {
    run: |broker| {
        let config = broker.topic("orders")?.config();
        broker.alter_topic("orders", config.index_interval_bytes(8192))
    },
    topic: "orders",
    before: 2,
    after: 2,
};

fn partitions(broker: &Broker, topic: &str) -> u32 {
    broker.topic(topic).map_or(0, |topic| topic.partition_count())
}

/// A broker with a topic of two partitions, a record in each.
fn with_orders(fs: &FailingFileSystem) -> Broker {
    let broker = open(fs);
    let orders = broker.create_topic("orders", TopicConfig::default().partitions(2)).unwrap();
    for partition in 0..2 {
        append(&orders, partition, "first").unwrap();
    }
    broker
}

/// Opens the directory again and checks that the change was made whole or not at all, and that
/// `orders` holds `acknowledged` records in each of its first two partitions.
fn check_reopened(fs: &FailingFileSystem, change: &Change, acknowledged: u64, n: u64) -> u32 {
    let broker = open(fs);
    let found = partitions(&broker, change.topic);
    assert!([change.before, change.after].contains(&found), "call {n}: {found} partitions");
    assert_eq!(broker.recovery_report().unfinished, [""; 0], "call {n}");
    assert!(broker.recovery_report().ignored.is_empty(), "call {n}");
    if let Ok(orders) = broker.topic("orders") {
        for partition in orders.partitions().iter().take(2) {
            assert_eq!(partition.log_end_offset(), acknowledged, "call {n}");
        }
    }
    for topic in broker.topics().unwrap() {
        for partition in 0..topic.partition_count() {
            append(&topic, partition, "usable").unwrap();
        }
    }
    (change.run)(&broker).map_or_else(
        |error| match error {
            Error::TopicExists { .. }
            | Error::UnknownTopic { .. }
            | Error::InvalidConfig { .. } => {
                assert_eq!(found, change.after, "call {n}: {error}");
            }
            other => panic!("call {n}: {other}"),
        },
        drop,
    );
    assert_eq!(partitions(&broker, change.topic), change.after, "call {n}");
    broker.close().unwrap();
    found
}

/// Lets each call of a change fail in turn; then goes on in the same process, or not.
fn fail_each_call(change: &Change, kind: ErrorKind, goes_on: bool) {
    for n in 0.. {
        let fs = FailingFileSystem::over_memory();
        let broker = with_orders(&fs);
        let orders = broker.topic("orders").unwrap();
        fail_call(&fs, n, false, kind);
        let Err(error) = (change.run)(&broker) else {
            assert!(n > 3, "the change takes more calls than {n}");
            return;
        };
        fs.heal();
        assert!(is_typed(&error), "call {n}: {error}");
        let mut acknowledged = 1;
        if goes_on {
            acknowledged += go_on(&broker, change, n);
        } else if append(&orders, 0, "second").is_ok() {
            // Acknowledged although the change has failed: it must not be lost to it.
            append(&orders, 1, "second").unwrap();
            acknowledged += 1;
            drop((broker, orders));
            check_kept(&fs, change, acknowledged, n);
            continue;
        }
        drop((broker, orders));
        check_reopened(&fs, change, acknowledged, n);
    }
}

/// After an acknowledgement that came after the failure the records must be there.
fn check_kept(fs: &FailingFileSystem, change: &Change, acknowledged: u64, n: u64) {
    let broker = open(fs);
    let orders = broker.topic("orders").unwrap_or_else(|error| panic!("call {n}: {error}"));
    for partition in orders.partitions().iter().take(2) {
        assert_eq!(partition.log_end_offset(), acknowledged, "call {n}");
    }
    drop((broker, orders));
    check_reopened(fs, change, acknowledged, n);
}

/// Lets the creation of a partition's directory fail until further notice.
fn fail_creating(fs: &FailingFileSystem, partition: &'static str, kind: ErrorKind) {
    fs.fail_when(move |operation, path| {
        let fails = operation == Operation::CreateDirectory && path.ends_with(partition);
        fails.then(|| kind.into())
    });
}

/// Repeats a change that has failed, in the same process; returns how many records were appended to
/// each partition of `orders`.
fn go_on(broker: &Broker, change: &Change, n: u64) -> u64 {
    match (change.run)(broker) {
        Ok(()) => {}
        // Its logs stop for good when one of their syncs fails.
        Err(Error::PartitionFailed { .. }) => return 0,
        Err(error) => panic!("call {n}, repeated: {error}"),
    }
    assert_eq!(partitions(broker, change.topic), change.after, "call {n}");
    let topics = broker.topics().unwrap();
    for topic in &topics {
        for partition in 0..topic.partition_count() {
            append(topic, partition, "second").unwrap();
        }
    }
    topics.iter().any(|topic| topic.name() == "orders").into()
}

#[test]
fn a_change_of_topics_that_fails_can_be_repeated_in_the_same_process() {
    for change in [CREATE, ADD, DELETE, ALTER] {
        for kind in [ErrorKind::StorageFull, ErrorKind::Other] {
            fail_each_call(&change, kind, true);
        }
    }
}

#[test]
fn a_change_of_topics_that_fails_is_made_whole_or_not_at_all() {
    for change in [CREATE, ADD, DELETE, ALTER] {
        for kind in [ErrorKind::StorageFull, ErrorKind::Other] {
            fail_each_call(&change, kind, false);
        }
    }
}

#[test]
fn a_change_of_topics_that_is_killed_at_any_call_is_made_whole_or_not_at_all() {
    for change in [CREATE, ADD, DELETE, ALTER] {
        let mut found = Vec::new();
        for n in 0.. {
            let fs = FailingFileSystem::over_memory();
            let broker = with_orders(&fs);
            fail_call(&fs, n, true, ErrorKind::Other);
            let changed = (change.run)(&broker);
            drop(broker);
            fs.heal();
            found.push(check_reopened(&fs, &change, 1, n));
            if changed.is_ok() {
                break;
            }
        }
        assert_eq!(found.first(), Some(&change.before));
        assert_eq!(found.last(), Some(&change.after));
        let goes_back = found.windows(2).any(|pair| pair[0] == change.after && pair[1] != pair[0]);
        assert!(!goes_back, "{found:?}");
    }
}

#[test]
fn an_open_that_fails_or_is_killed_at_any_call_loses_nothing() {
    for and_after in [false, true] {
        for n in 0.. {
            let fs = FailingFileSystem::over_memory();
            drop(with_orders(&fs));
            fail_call(&fs, n, and_after, ErrorKind::Other);
            let opened = builder(&fs).open();
            fs.heal();
            let done = opened.as_ref().is_ok_and(|broker| broker.topics().is_ok());
            if let Err(error) = &opened {
                assert!(is_typed(error), "call {n}: {error}");
            }
            drop(opened);
            check_reopened(&fs, &ALTER, 1, n);
            if done {
                assert!(n > 10, "opening takes more calls than {n}");
                break;
            }
        }
    }
}

#[test]
fn a_close_that_fails_or_is_killed_at_any_call_loses_nothing_and_frees_the_directory() {
    for and_after in [false, true] {
        for n in 0.. {
            let fs = FailingFileSystem::over_memory();
            let broker = with_orders(&fs);
            fail_call(&fs, n, and_after, ErrorKind::Other);
            let closed = broker.close();
            fs.heal();
            // The closed handle is still there.
            let reopened = open(&fs);
            if closed.is_err() {
                assert!(!reopened.recovery_report().clean_shutdown || n > 5, "call {n}");
            }
            drop(reopened);
            check_reopened(&fs, &ALTER, 1, n);
            drop(broker);
            if closed.is_ok() {
                break;
            }
        }
    }
}

#[test]
fn a_creation_that_was_begun_does_not_keep_a_full_disk_from_being_opened() {
    let fs = FailingFileSystem::over_memory();
    let broker = with_orders(&fs);
    fail_creating(&fs, "new-1", ErrorKind::StorageFull);
    let error = (CREATE.run)(&broker).unwrap_err();
    assert!(matches!(error, Error::StorageFull { .. }), "{error}");
    drop(broker);
    let broker = open(&fs);
    let [unfinished] = &broker.recovery_report().unfinished[..] else { panic!() };
    assert!(unfinished.contains("\"new\"") && unfinished.contains("no space"), "{unfinished}");
    assert!(matches!(broker.topic("new"), Err(Error::UnknownTopic { .. })));
    append(&broker.topic("orders").unwrap(), 0, "second").unwrap();
    fs.heal();
    (CREATE.run)(&broker).unwrap();
    assert_eq!(partitions(&broker, "new"), 3);
}

#[test]
fn a_deletion_that_cannot_end_does_not_keep_the_rest_from_being_opened() {
    let fs = FailingFileSystem::over_memory();
    let broker = with_orders(&fs);
    (CREATE.run)(&broker).unwrap();
    fs.create_directory(Path::new("data/new-1/mine")).unwrap();
    assert!(is_typed(&broker.delete_topic("new").unwrap_err()));
    drop(broker);
    let broker = open(&fs);
    assert_eq!(broker.recovery_report().unfinished.len(), 1);
    assert_eq!(partitions(&broker, "new"), 0);
    assert_eq!(partitions(&broker, "orders"), 2);
    fs.remove_directory(Path::new("data/new-1/mine")).unwrap();
    (CREATE.run)(&broker).unwrap();
}

#[test]
fn a_creation_that_failed_can_be_repeated_with_other_settings() {
    let fs = FailingFileSystem::over_memory();
    let broker = open(&fs);
    fail_creating(&fs, "new-2", ErrorKind::Other);
    (CREATE.run)(&broker).unwrap_err();
    fs.heal();
    let new = broker.create_topic("new", TopicConfig::default().partitions(1)).unwrap();
    assert_eq!(new.partition_count(), 1);
    drop((new, broker));
    let broker = open(&fs);
    assert_eq!(partitions(&broker, "new"), 1);
    assert!(broker.recovery_report().ignored.is_empty(), "nothing of the first attempt is left");
}

#[test]
fn settings_can_be_altered_while_partitions_are_still_to_be_added() {
    let fs = FailingFileSystem::over_memory();
    let broker = with_orders(&fs);
    fail_creating(&fs, "orders-3", ErrorKind::Other);
    (ADD.run)(&broker).unwrap_err();
    fs.heal();
    (ALTER.run)(&broker).unwrap();
    drop(broker);
    let broker = open(&fs);
    assert_eq!(partitions(&broker, "orders"), 4);
    let config = broker.topic("orders").unwrap().config();
    assert_eq!(
        (config.get("index.interval.bytes").as_deref(), config.get("partitions")),
        (Some("8192"), None)
    );
}

#[test]
fn a_partition_that_has_failed_does_not_keep_new_settings_from_the_others() {
    let fs = FailingFileSystem::over_memory();
    let broker = with_orders(&fs);
    let orders = broker.topic("orders").unwrap();
    fs.fail_next(Operation::SyncData, "orders-0/00000000000000000000.log", ErrorKind::Other);
    append(&orders, 0, "x").unwrap_err();
    let error = broker.alter_topic("orders", orders.config().max_message_bytes(200)).unwrap_err();
    assert!(matches!(error, Error::PartitionFailed { .. }), "{error}");
    let error = append(&orders, 1, &"x".repeat(200)).unwrap_err();
    assert!(matches!(error, Error::RecordTooLarge { .. }), "{error}");
}
