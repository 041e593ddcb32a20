//! `graduate`, and the script that places files, as far as that goes without Kafka: tests/kafka has the rest.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use sapwood::{Partition, Record, Timestamp, TopicConfig};
use snapbox::{assert_data_eq, str};

use crate::scene::{FIRST_MILLIS, Scene, content};

/// Small segments, of which many have ended.
fn with_segments() -> Scene {
    let scene = Scene::bare();
    let broker = scene.open();
    let config = TopicConfig::default().retention_ms(None).max_message_bytes(1024);
    let topic = broker.create_topic("small", config.segment_bytes(1024)).unwrap();
    append(&topic.partition(0).unwrap(), 100);
    broker.close().unwrap();
    scene
}

fn append(partition: &Partition, records: i64) {
    for number in 0..records {
        let timestamp = Timestamp::from_millis(FIRST_MILLIS + number);
        partition.append(&[Record::new("paid").timestamp(timestamp)]).unwrap();
    }
}

/// The `.log` files of a partition, in order.
fn logs(partition: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(partition).unwrap().map(|entry| entry.unwrap().path());
    let mut logs: Vec<_> =
        paths.filter(|path| path.extension().is_some_and(|e| e == "log")).collect();
    logs.sort();
    logs
}

fn names(directory: &Path) -> Vec<String> {
    let files = content(directory).into_keys();
    let name = |path: PathBuf| path.strip_prefix(directory).unwrap().display().to_string();
    files.map(name).collect()
}

#[test]
fn what_a_broker_needs_is_there_and_the_directory_is_as_it_was() {
    let scene = Scene::with_group();
    let before = content(&scene.data());
    let run = scene.run("graduate data --to out");
    run.assert().success().stderr_eq(str![[r#"
warning: group billing: its offsets are carried over, what it has noted beside them is not: Kafka's tool does not take it

"#]]).stdout_eq(str![[r#"
TOPIC   PARTITIONS  RECORDS   SIZE
empty            1        0    0 B
orders           2        6  516 B

What to do next, on any machine with Kafka's programs (4.0 or later) on the PATH:

1. Create the topics; localhost:9092 and 1 are the address and the node.id of the broker that is to have
   the files:

     sh out/create-topics.sh localhost:9092 1

2. Stop that broker, and wait until it is gone:

     kafka-server-stop.sh

3. On its machine (take out there) and as its user, put the files in their places; the
   directory is what its settings call log.dirs:

     sh out/place-files.sh /var/lib/kafka/data

4. Start it. It checks every batch and makes the indexes; `Could not find offset index file` is what it
   logs of that:

     kafka-server-start.sh -daemon config/server.properties

5. See that all of it is there, before anything is produced:

     sh out/check-offsets.sh localhost:9092

6. Have the consumer groups go on where they were, before their consumers start:

     sh out/reset-offsets.sh localhost:9092

7. With more brokers in the cluster: have each of them keep a copy of everything, here 1, 2 and 3. From
   three on a record is answered for (acks=all) when two have it; Kafka does not wait for the disk:

     sh out/add-replicas.sh localhost:9092 1 2 3

The directory that this was made of is as it was, and Sapwood can go on with it until something
is produced to Kafka.

"#]]);
    assert_eq!(content(&scene.data()), before);
    let out = scene.path().join("out");
    assert_data_eq!(
        names(&out).join("\n"),
        str![[r#"
STEPS.txt
add-replicas.sh
check-offsets.sh
create-topics.sh
earliest-offsets
groups/billing.csv
latest-offsets
log-start-offset-checkpoint
partitions/empty-0/00000000000000000000.log
partitions/empty-0/leader-epoch-checkpoint
partitions/orders-0/00000000000000000000.log
partitions/orders-0/leader-epoch-checkpoint
partitions/orders-1/00000000000000000000.log
partitions/orders-1/leader-epoch-checkpoint
place-files.sh
reset-offsets.sh
set-retention.sh
"#]]
    );
    let read = |name: &str| fs::read_to_string(out.join(name)).unwrap();
    assert_eq!(read("groups/billing.csv"), "orders,0,2\norders,1,3\n");
    assert_eq!(read("partitions/orders-1/leader-epoch-checkpoint"), "0\n1\n0 0\n");
    assert_eq!(read("latest-offsets"), "empty:0:0\norders:0:3\norders:1:3\n");
    assert_eq!(read("earliest-offsets"), "empty:0:0\norders:0:0\norders:1:0\n");
    assert_eq!(read("log-start-offset-checkpoint"), "0\n0\n");
    let log = "00000000000000000000.log";
    let copied = fs::read(out.join("partitions/orders-1").join(log)).unwrap();
    assert_eq!(copied, fs::read(scene.data().join("orders-1").join(log)).unwrap());
    scene.run("graduate data --to out").assert().code(8).stderr_eq(str![[r#"
error: cannot make a directory at out: it exists and is not empty

"#]]);
    scene.run("graduate data --to data/out").assert().code(8).stderr_eq(str![[r#"
error: cannot make a directory at data/out: it lies in the directory that is to be copied

"#]]);
    scene.run("graduate data --to data/new/out").assert().code(8);
    assert!(!scene.data().join("new").exists());
    assert_eq!(content(&scene.data()), before);
    scene.run("graduate --to second --json").assert().success().stdout_eq(str![[r#"
{"directory":"second","in_use":false,"topics":[{"name":"empty","partitions":[{"partition":0,"log_start_offset":0,"end_offset":0,"records":0,"bytes":0}]},{"name":"orders","partitions":[{"partition":0,"log_start_offset":0,"end_offset":3,"records":3,"bytes":261},{"partition":1,"log_start_offset":0,"end_offset":3,"records":3,"bytes":255}]}],"groups":["billing"],"notes":["group billing: its offsets are carried over, what it has noted beside them is not: Kafka's tool does not take it"]}

"#]]);
}

#[test]
fn topics_are_created_with_their_settings_and_deletion_comes_last() {
    let scene = Scene::bare();
    let config =
        "--config retention.ms=3600000 --config segment.bytes=4096 --config max.message.bytes=2048";
    scene.run(&format!("topics create orders --partitions 3 {config}")).assert().success();
    scene
        .run("topics create kept --config retention.ms=-1 --config max.bytes=2000000")
        .assert()
        .success();
    let broker = scene.open();
    append(&broker.topic("orders").unwrap().partition(0).unwrap(), 5);
    broker.close().unwrap();
    scene.run("graduate data --to out").assert().success().stderr_eq(str![[r#"
warning: kept: max.bytes=2000000 is not carried over: Kafka has no such limit; it deletes by retention.bytes, per partition
warning: orders: segment.bytes will be 1048576 and not 4096: Kafka wants that
warning: orders: 5 records are past its retention.ms or retention.bytes; Kafka deletes them a few minutes after the last step, and not before it

"#]]);
    let read = |name: &str| fs::read_to_string(scene.path().join("out").join(name)).unwrap();
    let create = read("create-topics.sh");
    let orders = create.split("--topic orders").nth(1).unwrap();
    assert_data_eq!(
        orders,
        str![[r#"
 /
    --replica-assignment "$b,$b,$b" /
    --config retention.bytes=-1 /
    --config retention.ms=-1 /
    --config cleanup.policy=delete /
    --config compression.type=producer /
    --config compression.zstd.level=3 /
    --config index.interval.bytes=4096 /
    --config max.message.bytes=2048 /
    --config message.timestamp.after.max.ms=3600000 /
    --config message.timestamp.before.max.ms=9223372036854775807 /
    --config message.timestamp.type=CreateTime /
    --config segment.bytes=1048576 /
    --config segment.index.bytes=10485760 /
    --config segment.ms=604800000

"#]]
    );
    assert!(read("set-retention.sh").ends_with("--add-config retention.ms=3600000\n"));
    assert!(!read("set-retention.sh").contains("kept"));
}

#[test]
fn beside_a_writer_it_is_a_rehearsal_that_ends_with_the_last_batch() {
    let scene = Scene::with_orders();
    let broker = scene.open();
    append(&broker.topic("orders").unwrap().partition(0).unwrap(), 10);
    let path = "orders-0/00000000000000000000.log";
    let in_use = fs::read(scene.data().join(path)).unwrap();
    assert!(in_use.ends_with(&[0; 1024]), "space is made ready");
    let run = scene.run("graduate data --to out --json");
    run.assert().success().stderr_eq("").stdout_eq(str![[r#"
{"directory":"out","in_use":true,"topics":[{"name":"empty","partitions":[{"partition":0,"log_start_offset":0,"end_offset":0,"records":0,"bytes":0}]},{"name":"orders","partitions":[{"partition":0,"log_start_offset":0,"end_offset":13,"records":13,"bytes":981},{"partition":1,"log_start_offset":0,"end_offset":3,"records":3,"bytes":255}]}],"groups":[],"notes":["another process has data open for writing: this copy is a rehearsal and holds what was safe at this moment; for the move itself close that process and run this again"]}

"#]]);
    let copied = fs::read(scene.path().join("out/partitions").join(path)).unwrap();
    assert!(copied.len() < 1024 && in_use.starts_with(&copied));
    assert!(in_use[copied.len()..].iter().all(|byte| *byte == 0));
    let steps = fs::read_to_string(scene.path().join("out/STEPS.txt")).unwrap();
    assert!(steps.contains("1. This is a rehearsal"), "{steps}");
}

#[test]
fn a_directory_that_was_not_closed_in_order_is_told() {
    let scene = Scene::with_orders();
    fs::remove_file(scene.data().join("sapwood.clean-shutdown")).unwrap();
    scene.run("graduate data --to out").assert().success().stderr_eq(str![[r#"
warning: data was not closed in order: this copy holds what is known to be safe; if the application opens and closes it once more, the rest is checked and kept too

"#]]);
}

#[test]
fn files_are_copies_unless_links_are_asked_for() {
    let scene = with_segments();
    scene.run("graduate data --to copies").assert().success();
    scene.run("graduate data --to links --link").assert().success();
    let names = |to: &str| {
        let logs = logs(&scene.path().join(to).join("partitions/small-0"));
        logs.iter().map(|path| fs::metadata(path).unwrap().nlink()).collect::<Vec<_>>()
    };
    assert!(names("copies").len() > 5 && names("copies").iter().all(|count| *count == 1));
    let linked = names("links");
    assert!(linked.iter().filter(|count| **count == 2).count() > 3, "{linked:?}");
    assert_eq!(linked.last(), Some(&1), "what a broker appends to is never a link");
    let [originals, copies] =
        [scene.data().join("small-0"), scene.path().join("copies/partitions/small-0")];
    for (original, copy) in logs(&originals).iter().zip(logs(&copies)) {
        assert_eq!(fs::read(original).unwrap(), fs::read(copy).unwrap());
    }
}

#[test]
fn leader_epochs_of_another_cluster_are_set_back_in_the_copy_alone() {
    let scene = with_segments();
    let path = &logs(&scene.data().join("small-0"))[1];
    let mut bytes = fs::read(path).unwrap();
    // The second batch of the segment; no checksum is over the epoch.
    let size = u32::from_be_bytes(bytes[8..12].try_into().unwrap()) as usize + 12;
    bytes[size + 15] = 7;
    fs::write(path, &bytes).unwrap();
    let before = content(&scene.data());
    scene.run("graduate data --to out --link").assert().success().stderr_eq(str![[r#"
warning: small: segment.bytes will be 1048576 and not 1024: Kafka wants that
warning: small: the leader epoch of 1 batch was set to 0: that of another cluster would keep replicas from being made

"#]]);
    assert_eq!(content(&scene.data()), before);
    let copy = &logs(&scene.path().join("out/partitions/small-0"))[1];
    bytes[size + 15] = 0;
    assert_eq!(fs::read(copy).unwrap(), bytes);
}

#[test]
fn names_that_kafka_takes_for_the_same_are_refused_before_anything_is_copied() {
    let scene = Scene::bare();
    for topic in ["a.b", "a_b", "ab"] {
        scene.run(&format!("topics create {topic}")).assert().success();
    }
    scene.run("graduate data --to out").assert().code(1).stderr_eq(str![[r#"
topics a.b and a_b: Kafka takes `.` and `_` in names for the same and refuses the second of them; produce the records of one to a topic of another name and delete it
error: Kafka could not take this over: 1 problem; nothing was made

"#]]);
    assert_eq!(fs::read_dir(scene.path()).unwrap().count(), 1);
}

#[test]
fn a_directory_without_topics_is_nothing_to_take_over() {
    let scene = Scene::bare();
    scene.open().close().unwrap();
    scene.run("graduate data --to out").assert().code(3).stderr_eq(str![[r#"
error: data holds no topics: there is nothing to take over

"#]]);
    scene.run("graduate none --to out").assert().code(3);
    scene.run_with(["graduate", "--to", "out"]).env_remove("SAPWOOD_DIR").assert().code(2);
    assert!(!scene.path().join("out").exists());
}

#[test]
fn damage_is_told_where_it_is_and_nothing_is_made() {
    let scene = with_segments();
    let path = &logs(&scene.data().join("small-0"))[1];
    let mut bytes = fs::read(path).unwrap();
    bytes[70] ^= 0x40;
    fs::write(path, bytes).unwrap();
    let before = content(&scene.data());
    scene.run("graduate data --to out").assert().code(5).stdout_eq("").stderr_eq(str![[r#"
data/small-0/00000000000000000014.log at byte 0: the checksum is wrong; `sapwood salvage` makes a new directory of what is intact
error: Kafka could not take this over: 1 problem; nothing was made

"#]]);
    assert_eq!(content(&scene.data()), before);
    assert_eq!(fs::read_dir(scene.path()).unwrap().count(), 1);
}

#[test]
fn what_a_broken_off_attempt_has_left_is_cleared_away_and_nothing_else() {
    let scene = Scene::with_orders();
    fs::create_dir_all(scene.path().join("out.unfinished/partitions/orders-0")).unwrap();
    scene.run("graduate data --to out").assert().code(8).stderr_eq(str![[r#"
error: cannot make a directory at out.unfinished: it holds something else, and is needed to make a directory

"#]]);
    scene.write("out.unfinished/.sapwood-graduate", "");
    scene.write("out.unfinished/create-topics.sh", "half of it");
    scene.run("graduate data --to out/").assert().success();
    assert!(!scene.path().join("out.unfinished").exists());
    assert!(!scene.path().join("out/.sapwood-graduate").exists());
}

/// The directory of a broker that has created the topics of `orders`, and was stopped.
fn broker_directory(scene: &Scene) -> PathBuf {
    let broker = scene.path().join("kafka");
    for partition in ["orders-0", "orders-1", "empty-0"] {
        let directory = broker.join(partition);
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("partition.metadata"), format!("of {partition}")).unwrap();
        for suffix in ["log", "index", "timeindex"] {
            fs::write(directory.join(format!("00000000000000000000.{suffix}")), "").unwrap();
        }
        fs::write(directory.join("leader-epoch-checkpoint"), "0\n0\n").unwrap();
    }
    fs::write(broker.join("meta.properties"), "").unwrap();
    fs::write(broker.join(".kafka_cleanshutdown"), "").unwrap();
    broker
}

fn place(scene: &Scene) -> Output {
    let script = scene.path().join("out/place-files.sh");
    Command::new("sh").arg(script).arg(scene.path().join("kafka")).output().unwrap()
}

/// That the script refuses, says this, and has changed nothing.
fn assert_refused(scene: &Scene, reason: &str) {
    let before = content(&scene.path().join("kafka"));
    let output = place(scene);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.contains(reason), "{said}");
    assert_eq!(content(&scene.path().join("kafka")), before);
}

#[test]
fn the_script_places_files_and_touches_nothing_that_is_not_theirs() {
    let scene = Scene::with_orders();
    let data = scene.open();
    data.topic("orders").unwrap().partition(1).unwrap().delete_records(2).unwrap();
    data.close().unwrap();
    scene.run("graduate data --to out").assert().success();
    let broker = broker_directory(&scene);
    let lists = ["recovery-point", "replication", "log-start", "cleaner"];
    for list in lists {
        let lines = "0\n4\norders 0 7\nelse 0 5\norders 10 6\norders 1 9\n";
        fs::write(broker.join(format!("{list}-offset-checkpoint")), lines).unwrap();
    }
    assert!(place(&scene).status.success());
    let read = |name: &str| fs::read_to_string(broker.join(name)).unwrap();
    assert_eq!(read("orders-1/partition.metadata"), "of orders-1");
    assert_data_eq!(
        names(&broker.join("orders-1")).join("\n"),
        str![[r#"
00000000000000000000.log
leader-epoch-checkpoint
partition.metadata
"#]]
    );
    let log = "orders-1/00000000000000000000.log";
    assert_eq!(fs::read(broker.join(log)).unwrap(), fs::read(scene.data().join(log)).unwrap());
    assert_eq!(read("log-start-offset-checkpoint"), "0\n3\nelse 0 5\norders 10 6\norders 1 2\n");
    assert_eq!(read("recovery-point-offset-checkpoint"), "0\n2\nelse 0 5\norders 10 6\n");
    assert!(names(&broker).iter().all(|name| !name.contains("sapwood")));
    assert_refused(&scene, "orders-0 holds records already; nothing was changed");
}

#[test]
fn the_script_refuses_a_broker_that_runs_or_has_no_such_topics() {
    let scene = Scene::with_orders();
    scene.run("graduate data --to out").assert().success();
    fs::create_dir(scene.path().join("kafka")).unwrap();
    assert_refused(&scene, "is not the directory of a Kafka broker");
    let broker = broker_directory(&scene);
    fs::remove_file(broker.join(".kafka_cleanshutdown")).unwrap();
    assert_refused(&scene, "the broker is running, or was killed");
    fs::write(broker.join(".kafka_cleanshutdown"), "").unwrap();
    fs::remove_dir_all(broker.join("orders-1")).unwrap();
    assert_refused(&scene, "orders-1 is not there: run create-topics.sh");
}

#[test]
fn the_script_goes_on_where_it_was_broken_off() {
    let scene = Scene::with_orders();
    scene.run("graduate data --to out").assert().success();
    let broker = broker_directory(&scene);
    let log = broker.join("orders-0/00000000000000000000.log");
    fs::write(&log, "half of a fi").unwrap();
    fs::write(broker.join("orders-0/sapwood-placing"), "").unwrap();
    assert!(place(&scene).status.success());
    assert_eq!(
        fs::read(log).unwrap(),
        fs::read(scene.data().join("orders-0/00000000000000000000.log")).unwrap()
    );
    assert!(!broker.join("orders-0/sapwood-placing").exists());
}
