//! Directories that are none, damaged, newer or held: one sentence, the right exit code, and nothing
//! changed.

use std::fs;
use std::path::Path;

use sapwood::{Record, TopicConfig};
use snapbox::str;

use crate::scene::{Scene, content};

/// Every command that needs a directory; the second ones write.
const READING: [&str; 9] = [
    "topics list",
    "topics describe",
    "consume orders",
    "groups list",
    "groups describe",
    "share-groups list",
    "share-groups describe",
    "metrics",
    "perf consume orders",
];
const WRITING: [&str; 9] = [
    "topics alter orders --partitions 8",
    "topics delete orders",
    "produce orders",
    "consume orders --group billing",
    "groups reset-offsets billing --topic orders --to-earliest --execute",
    "groups delete billing",
    "share-groups delete workers",
    "perf produce orders -n 1",
    "topics create other",
];

/// Runs all of these; each must fail with this code and one line that holds this text.
fn all_fail<'a>(scene: &Scene, commands: impl IntoIterator<Item = &'a str>, code: i32, text: &str) {
    for command in commands {
        let output = scene.run(command).stdin("x\n").output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{command}: {said}");
        assert!(said.starts_with("error: ") && said.contains(text), "{command}: {said}");
        assert_eq!(said.lines().count(), 1, "{command}: {said}");
        assert_eq!(String::from_utf8(output.stdout).unwrap(), "", "{command}");
    }
}

#[test]
fn a_directory_that_does_not_exist_is_not_made() {
    let scene = Scene::bare();
    let commands = READING.into_iter().chain(WRITING).filter(|command| !command.contains("create"));
    all_fail(&scene, commands, 3, "data is no directory of topics: it does not exist");
    assert!(!scene.data().exists());
    scene.run("topics list").assert().code(3).stderr_eq(str![[r#"
error: data is no directory of topics: it does not exist; check --dir or SAPWOOD_DIR, or make one with `sapwood topics create`

"#]]);
}

#[test]
fn a_directory_with_other_files_is_left_alone() {
    let scene = Scene::bare();
    fs::create_dir(scene.data()).unwrap();
    fs::write(scene.data().join("notes.txt"), "x").unwrap();
    let commands = READING.into_iter().chain(WRITING);
    all_fail(&scene, commands, 3, "no broker has been opened there for writing");
    assert_eq!(content(&scene.data()).len(), 1);
}

#[test]
fn an_empty_directory_is_taken_for_a_first_topic() {
    let scene = Scene::bare();
    fs::create_dir(scene.data()).unwrap();
    scene.run("topics create orders").assert().success();
    scene.run("topics list").assert().success();
}

#[test]
fn a_file_is_no_directory() {
    let scene = Scene::bare();
    scene.write("data", "x");
    all_fail(&scene, READING.into_iter().chain(WRITING), 3, "it is not a directory");
}

#[test]
fn no_directory_at_all_is_asked_for() {
    let scene = Scene::with_orders();
    let run = scene.run("topics list").env_remove("SAPWOOD_DIR");
    run.assert().code(2).stderr_eq(str![[r#"
error: which directory? give it with --dir DIR or in SAPWOOD_DIR

"#]]);
    scene.run("topics list").env_remove("SAPWOOD_DIR").args(["--dir", "data"]).assert().success();
}

#[test]
fn a_held_directory_is_read_and_not_written() {
    let scene = Scene::with_group();
    let broker = scene.open();
    all_fail(&scene, WRITING, 4, "is held: another process has the directory open for writing");
    scene.run("topics create other").assert().code(4).stderr_eq(str![[r#"
error: data/.lock is held: another process has the directory open for writing; this command writes too, so try again when that process has closed it (commands that read work meanwhile)

"#]]);
    for command in READING {
        scene.run(command).assert().success().stderr_eq("");
    }
    assert_eq!(broker.topics().unwrap().len(), 2);
    drop(broker);
    scene.run("topics create other").assert().success();
}

/// Writes a registry of version 2, as a newer program would.
fn make_newer(directory: &Path) {
    let path = directory.join("sapwood.topics");
    let text = fs::read_to_string(&path).unwrap();
    let (lines, _) = text.trim_end().rsplit_once('\n').unwrap();
    let lines = format!("{}\n", lines.replacen("sapwood-topics 1", "sapwood-topics 2", 1));
    let crc = crc32fast::hash(lines.as_bytes());
    fs::write(path, format!("{lines}crc32 {crc:08x}\n")).unwrap();
}

#[test]
fn a_directory_of_a_newer_version_is_left_alone() {
    let scene = Scene::with_group();
    make_newer(&scene.data());
    let before = content(&scene.data());
    let commands = READING.into_iter().chain(WRITING);
    all_fail(&scene, commands, 7, "a newer version of this program");
    assert_eq!(content(&scene.data()), before);
    scene.run("topics list").assert().code(7).stderr_eq(str![[r#"
error: data/sapwood.topics cannot be read: it is not of version 1, the one this build reads: "sapwood-topics 2"; a newer version of this program, or the one that wrote it, can read it

"#]]);
}

fn damage(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 0x40;
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_damaged_registry_is_told_and_left_alone() {
    let scene = Scene::with_group();
    damage(&scene.data().join("sapwood.topics"), 20);
    let before = content(&scene.data());
    all_fail(&scene, READING.into_iter().chain(WRITING), 5, "sapwood.topics is damaged");
    assert_eq!(content(&scene.data()), before);
    scene.run("topics list").assert().code(5).stderr_eq(str![[r#"
error: data/sapwood.topics is damaged: its checksum is [..], and it says [..]; nothing was changed

"#]]);
}

#[test]
fn a_damaged_record_ends_the_reading_after_those_before_it() {
    let scene = Scene::bare();
    let small = TopicConfig::default().segment_bytes(1024).max_message_bytes(1000).partitions(2);
    let broker = scene.open();
    let topic = broker.create_topic("orders", small).unwrap();
    for partition in topic.partitions() {
        (0..40).for_each(|_| drop(partition.append(&[Record::new("paid")]).unwrap()));
    }
    broker.close().unwrap();
    // In the second of some batches of the same size, long before the end of the log.
    let size = topic.partition(0).unwrap().size() / 40;
    let log = scene.data().join("orders-0/00000000000000000000.log");
    damage(&log, usize::try_from(size).unwrap() + 65);
    let before = content(&scene.data());
    let consume = scene.run_with(["consume", "orders", "-p", "0", "-f", "%o\\n"]);
    consume.assert().code(5).stdout_eq("0\n").stderr_eq(str![[r#"
error: data/orders-0/00000000000000000000.log is damaged at bytes 72..1008 (orders-0, offsets 1..14): checksum is [..], expected [..]; nothing was changed

"#]]);
    all_fail(&scene, ["perf consume orders"], 5, "is damaged");
    // The other partition is whole, and so is what lies behind the damage.
    scene.run("consume orders -p 1 --max 40").assert().success();
    scene.run("consume orders -p 0 -o -1").assert().success().stdout_eq("paid\n");
    assert_eq!(content(&scene.data()), before);
}

#[test]
fn a_damaged_end_of_a_log_keeps_the_directory_from_being_opened() {
    let scene = Scene::with_group();
    damage(&scene.data().join("orders-0/00000000000000000000.log"), 87 + 70);
    let before = content(&scene.data());
    all_fail(&scene, READING.into_iter().chain(WRITING), 5, "(orders-0, offsets 1..3)");
    assert_eq!(content(&scene.data()), before);
}

#[test]
fn what_a_killed_process_left_behind_is_mended_and_told() {
    let scene = Scene::with_orders();
    let log = scene.data().join("orders-0/00000000000000000000.log");
    drop(scene.open());
    let bytes = fs::read(&log).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    fs::write(&log, [&bytes[..end], &bytes[..80]].concat()).unwrap();
    // Reading does not mind, and does not mend.
    scene.run("consume orders --max 1").assert().success().stderr_eq("");
    let produce = scene.run("produce orders -p 0").stdin("new\n");
    produce.assert().success().stderr_eq(str![[r#"
warning: orders-0 ends at offset 3 now; 80 bytes behind it were no whole batch and were set aside: the batch needs 87 bytes, of which 80 are there

"#]]);
    scene.run("consume orders -p 0 -o -1").assert().success().stdout_eq("new\n");
}

#[test]
fn nobody_to_tell_an_error_is_no_reason_to_panic() {
    let scene = Scene::bare();
    let mut child = scene.start("consume orders");
    drop(child.stderr.take());
    assert_eq!(child.wait().unwrap().code(), Some(3));
    let closed = std::process::Command::new("sh")
        .args(["-c", "exec \"$0\" topics list --dir none 2>&-"])
        .arg(snapbox::cmd::cargo_bin!("sapwood"))
        .current_dir(scene.path())
        .status()
        .unwrap();
    assert_eq!(closed.code(), Some(3));
}

#[test]
fn a_closed_pipe_does_not_keep_a_change_from_being_made_whole() {
    let scene = Scene::with_group();
    let mut child = scene.start("topics delete empty orders");
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(scene.read().topics().unwrap().is_empty());
    assert!(scene.read().list_groups().unwrap().is_empty());
}

#[test]
fn what_is_refused_leaves_the_directory_closed_in_order() {
    let scene = Scene::with_group();
    for refused in [
        "topics create orders",
        "topics alter orders --partitions 1",
        "topics delete ordres",
        "produce ordres",
        "produce orders --partition 9",
        "consume ordres --group billing",
        "groups reset-offsets billing --topic ordres --to-earliest --execute",
        "groups delete nobody",
        "share-groups delete nobody",
        "perf produce ordres",
    ] {
        let output = scene.run(refused).stdin("x\n").output().unwrap();
        assert!(!output.status.success(), "{refused}");
        assert!(scene.read().recovery_report().clean_shutdown, "{refused}");
    }
}

#[test]
fn a_name_that_cannot_be_makes_no_directory() {
    let scene = Scene::bare();
    scene.run("topics create ../evil").assert().code(2);
    scene.run("topics create __mine").assert().code(2);
    scene.run("perf produce ../evil --create").assert().code(2);
    assert!(!scene.data().exists());
}
