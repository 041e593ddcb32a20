//! Goal: whatever the directory is or holds, opening it gives a broker or a typed error that says
//! what, where and what to do; and one writer at a time.

use std::fs;
use std::path::Path;
use std::process::Command;

use sapwood::{Broker, Error, Record, RecoveryMode, TopicConfig};

fn one_topic(directory: &Path) -> Broker {
    let broker = Broker::open(directory).unwrap();
    broker.create_topic("orders", TopicConfig::default().partitions(2)).unwrap();
    broker
}

/// Every file below a directory with its bytes.
fn content(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(content(&path));
        } else {
            files.push((path.display().to_string(), fs::read(&path).unwrap()));
        }
    }
    files.sort();
    files
}

#[test]
fn a_missing_directory_is_made_with_its_parents() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a/b/c");
    Broker::open(&path).unwrap().close().unwrap();
    assert!(path.is_dir());
}

#[test]
fn a_file_is_not_a_directory() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    fs::write(&path, "x").unwrap();
    let error = Broker::open(&path).unwrap_err();
    assert!(matches!(error, Error::NotALogDirectory { .. }), "{error}");
    assert!(error.to_string().contains("it is not a directory"), "{error}");
}

#[test]
fn a_writer_that_is_not_to_create_takes_only_what_is_a_log_directory() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("notes.txt"), "x").unwrap();
    let open = |path: &Path| Broker::builder(path).create(false).open();
    for path in [directory.path().join("nothing"), directory.path().to_owned()] {
        let error = open(&path).unwrap_err();
        assert!(matches!(error, Error::NotALogDirectory { .. }), "{error}");
    }
    assert_eq!(content(directory.path()).len(), 1, "only what was there");

    one_topic(directory.path()).close().unwrap();
    let broker = open(directory.path()).unwrap();
    assert_eq!(broker.topic("orders").unwrap().partition_count(), 2);
}

#[test]
fn reading_what_does_not_exist_creates_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("nothing");
    let error = Broker::open_read_only(&path).unwrap_err();
    assert!(matches!(error, Error::NotALogDirectory { .. }), "{error}");
    assert!(!path.exists());
}

#[test]
fn a_directory_that_never_had_a_writer_is_not_read_as_an_empty_one() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("notes.txt"), "x").unwrap();
    let error = Broker::open_read_only(directory.path()).unwrap_err();
    assert!(matches!(error, Error::NotALogDirectory { .. }), "{error}");

    let writer = Broker::open(directory.path()).unwrap();
    assert!(Broker::open_read_only(directory.path()).unwrap().topics().unwrap().is_empty());
    writer.close().unwrap();
}

#[test]
fn an_empty_path_is_refused_as_such() {
    let error = Broker::open("").unwrap_err();
    assert!(matches!(error, Error::NotALogDirectory { .. }), "{error}");
    assert!(error.to_string().contains("the path is empty"), "{error}");
}

#[test]
fn a_second_writer_is_refused_and_can_come_after_the_first_has_closed() {
    let directory = tempfile::tempdir().unwrap();
    let first = one_topic(directory.path());
    let error = Broker::open(directory.path()).unwrap_err();
    assert!(matches!(error, Error::Locked { .. }), "{error}");
    first.close().unwrap();
    // The closed handle is still around.
    let second = Broker::open(directory.path()).unwrap();
    assert!(matches!(first.topic("orders"), Err(Error::Closed { .. })));
    assert_eq!(second.topics().unwrap().len(), 1);
}

#[test]
fn a_topic_handle_keeps_the_directory_locked_and_usable() {
    let directory = tempfile::tempdir().unwrap();
    let orders = one_topic(directory.path()).topic("orders").unwrap();
    assert!(matches!(Broker::open(directory.path()), Err(Error::Locked { .. })));
    orders.partition(0).unwrap().append(&[Record::new("still here")]).unwrap();
    drop(orders);
    let broker = Broker::open(directory.path()).unwrap();
    assert_eq!(broker.topic("orders").unwrap().partition(0).unwrap().log_end_offset(), 1);
}

#[test]
fn a_closed_broker_refuses_through_every_handle_and_closes_twice() {
    let directory = tempfile::tempdir().unwrap();
    let broker = one_topic(directory.path());
    let topic = broker.topic("orders").unwrap();
    let partition = topic.partition(1).unwrap();
    broker.close().unwrap();
    broker.close().unwrap();
    assert!(matches!(partition.append(&[Record::new("x")]), Err(Error::Closed { .. })));
    assert!(matches!(partition.delete_records(0), Err(Error::Closed { .. })));
    assert!(matches!(broker.create_topic("a", TopicConfig::default()), Err(Error::Closed { .. })));
    assert!(matches!(broker.verify(), Err(Error::Closed { .. })));
}

#[test]
fn foreign_files_and_directories_are_left_alone_and_told() {
    let directory = tempfile::tempdir().unwrap();
    one_topic(directory.path()).close().unwrap();
    fs::create_dir(directory.path().join("lost+found")).unwrap();
    fs::create_dir(directory.path().join("payments-0")).unwrap();
    fs::write(directory.path().join("notes.txt"), "mine").unwrap();
    fs::write(directory.path().join("orders-0/notes.txt"), "mine").unwrap();
    let broker = Broker::open(directory.path()).unwrap();
    let ignored: Vec<_> = broker.recovery_report().ignored.iter().collect();
    let expected =
        ["lost+found", "notes.txt", "payments-0"].map(|name| directory.path().join(name));
    assert_eq!(ignored, expected.iter().collect::<Vec<_>>());
    broker.close().unwrap();
    assert_eq!(fs::read(directory.path().join("orders-0/notes.txt")).unwrap(), b"mine");
}

#[test]
fn a_registry_that_went_missing_is_no_empty_directory() {
    let directory = tempfile::tempdir().unwrap();
    one_topic(directory.path()).close().unwrap();
    fs::remove_file(directory.path().join("sapwood.topics")).unwrap();
    let before = content(directory.path());
    let error = Broker::open(directory.path()).unwrap_err();
    assert!(matches!(error, Error::Corrupt(_)), "{error}");
    assert_eq!(content(directory.path()), before);
}

#[test]
fn a_registry_of_a_newer_version_is_refused_as_such() {
    let directory = tempfile::tempdir().unwrap();
    one_topic(directory.path()).close().unwrap();
    let text = "sapwood-topics 2\nwhatever comes then\n";
    let crc = crc32fast::hash(text.as_bytes());
    let registry = directory.path().join("sapwood.topics");
    fs::write(&registry, format!("{text}crc32 {crc:08x}\n")).unwrap();
    let error = Broker::open(directory.path()).unwrap_err();
    assert!(matches!(error, Error::UnsupportedFormat { .. }), "{error}");
}

#[test]
fn every_flipped_byte_of_the_registry_is_refused_and_nothing_changes() {
    let directory = tempfile::tempdir().unwrap();
    one_topic(directory.path()).close().unwrap();
    let registry = directory.path().join("sapwood.topics");
    let original = fs::read(&registry).unwrap();
    for at in 0..original.len() {
        let mut damaged = original.clone();
        damaged[at] ^= 0x01;
        fs::write(&registry, &damaged).unwrap();
        let before = content(directory.path());
        let error = Broker::open(directory.path()).unwrap_err();
        let typed = matches!(error, Error::Corrupt(_) | Error::UnsupportedFormat { .. });
        assert!(typed, "byte {at}: {error}");
        assert_eq!(content(directory.path()), before);
    }
}

#[test]
fn damage_is_refused_unless_salvage_is_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let broker = one_topic(directory.path());
    let log = broker.topic("orders").unwrap().partition(0).unwrap();
    for n in 0..100 {
        log.append(&[Record::new(&format!("order {n}"))]).unwrap();
    }
    broker.close().unwrap();
    drop((broker, log));
    let path = directory.path().join("orders-0/00000000000000000000.log");
    let mut bytes = fs::read(&path).unwrap();
    let last_batch = bytes.len() - 10;
    bytes[last_batch] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let before = content(directory.path());

    let error = Broker::open(directory.path()).unwrap_err();
    assert!(matches!(&error, Error::Corrupt(damage) if damage.offsets == (99..100)), "{error}");
    assert_eq!(content(directory.path()), before, "refused, and nothing changed");

    let broker =
        Broker::builder(directory.path()).recovery_mode(RecoveryMode::Salvage).open().unwrap();
    assert_eq!(
        broker.recovery_report().partitions[0].lost.as_slice(),
        std::slice::from_ref(&(99..100))
    );
    assert!(broker.verify().unwrap().is_intact());
    let log = broker.topic("orders").unwrap().partition(0).unwrap();
    assert_eq!(log.log_end_offset(), 100, "the lost offset is not given out again");
    assert_eq!(log.append(&[Record::new("next")]).unwrap().offset, 100);
    broker.close().unwrap();
    let kept = content(directory.path()).into_iter().any(|(_, content)| content == bytes);
    assert!(kept, "the damaged file is still there");
}

#[test]
fn a_missing_partition_is_damage() {
    let directory = tempfile::tempdir().unwrap();
    one_topic(directory.path()).close().unwrap();
    fs::remove_dir_all(directory.path().join("orders-1")).unwrap();
    let error = Broker::open(directory.path()).unwrap_err();
    assert!(matches!(error, Error::Corrupt(_)), "{error}");
    assert!(error.to_string().contains("orders-1"), "{error}");
}

#[test]
fn the_lock_goes_with_its_process_and_only_then() {
    if let Ok(directory) = std::env::var("SAPWOOD_TEST_HOLD") {
        let _broker = Broker::open(directory).unwrap();
        println!("held");
        std::thread::sleep(std::time::Duration::from_secs(60));
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "directory::the_lock_goes_with_its_process_and_only_then", "--nocapture"])
        .env("SAPWOOD_TEST_HOLD", directory.path())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let output = std::io::BufReader::new(child.stdout.take().unwrap());
    let held = std::io::BufRead::lines(output).any(|line| line.unwrap().contains("held"));
    assert!(held);
    assert!(matches!(Broker::open(directory.path()), Err(Error::Locked { .. })));
    Broker::open_read_only(directory.path()).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    Broker::open(directory.path()).unwrap().close().unwrap();
}
