//! `sapwood topics`.

use snapbox::str;

use crate::scene::{Scene, content};

#[test]
fn topics_are_listed_with_their_sizes() {
    let scene = Scene::with_orders();
    scene.run("topics list").assert().success().stdout_eq(str![[r#"
TOPIC   PARTITIONS  RECORDS   SIZE
empty            1        0    0 B
orders           2        6  516 B

"#]]);
    scene.run("topics list --json").assert().success().stdout_eq(str![[r#"
[{"name":"empty","id":"[..]","size_bytes":0,"partitions":[{"partition":0,"log_start_offset":0,"high_watermark":0,"log_end_offset":0,"size_bytes":0}],"configs":{"cleanup.policy":"delete","compression.type":"producer","compression.zstd.level":"3","durability":"fsync","flush.ms":"1000","index.interval.bytes":"4096","max.bytes":"-1","max.bytes.policy":"refuse","max.message.bytes":"1048588","message.timestamp.after.max.ms":"3600000","message.timestamp.before.max.ms":"9223372036854775807","message.timestamp.type":"CreateTime","retention.bytes":"-1","retention.groups":"","retention.ms":"-1","segment.bytes":"1073741824","segment.index.bytes":"10485760","segment.ms":"604800000"},"overrides":["retention.ms"]},{"name":"orders","id":"[..]","size_bytes":516,"partitions":[{"partition":0,"log_start_offset":0,"high_watermark":3,"log_end_offset":3,"size_bytes":261},{"partition":1,"log_start_offset":0,"high_watermark":3,"log_end_offset":3,"size_bytes":255}],"configs":{"cleanup.policy":"delete","compression.type":"producer","compression.zstd.level":"3","durability":"fsync","flush.ms":"1000","index.interval.bytes":"4096","max.bytes":"-1","max.bytes.policy":"refuse","max.message.bytes":"1048588","message.timestamp.after.max.ms":"3600000","message.timestamp.before.max.ms":"9223372036854775807","message.timestamp.type":"CreateTime","retention.bytes":"-1","retention.groups":"","retention.ms":"-1","segment.bytes":"1073741824","segment.index.bytes":"10485760","segment.ms":"604800000"},"overrides":["retention.ms"]}]

"#]]);
}

#[test]
fn a_topic_is_described_with_the_settings_that_are_its_own() {
    let scene = Scene::with_orders();
    scene.run("topics describe orders").assert().success().stdout_eq(str![[r#"
Topic: orders
Id: [..]
Size: 516 B
Configs:
  retention.ms=-1
PARTITION  LOG-START-OFFSET  HIGH-WATERMARK  LOG-END-OFFSET   SIZE
        0                 0               3               3  261 B
        1                 0               3               3  255 B

"#]]);
    scene.run("topics describe empty --all").assert().success().stdout_eq(str![[r#"
Topic: empty
Id: [..]
Size: 0 B
Configs:
  cleanup.policy=delete
  compression.type=producer
  compression.zstd.level=3
  durability=fsync
  flush.ms=1000
  index.interval.bytes=4096
  max.bytes=-1
  max.bytes.policy=refuse
  max.message.bytes=1048588
  message.timestamp.after.max.ms=3600000
  message.timestamp.before.max.ms=9223372036854775807
  message.timestamp.type=CreateTime
  retention.bytes=-1
  retention.groups=
  retention.ms=-1
  segment.bytes=1073741824
  segment.index.bytes=10485760
  segment.ms=604800000
PARTITION  LOG-START-OFFSET  HIGH-WATERMARK  LOG-END-OFFSET  SIZE
        0                 0               0               0   0 B

"#]]);
}

#[test]
fn a_topic_is_created_in_a_directory_that_is_made_for_it() {
    let scene = Scene::bare();
    let create =
        "topics create orders --partitions 4 --config retention.ms=-1 --config durability=written";
    scene
        .run(create)
        .assert()
        .success()
        .stdout_eq(str![[r#"
created topic orders

"#]])
        .stderr_eq("");
    let orders = scene.read().topic("orders").unwrap();
    assert_eq!(orders.partition_count(), 4);
    assert_eq!(orders.config().get("retention.ms").as_deref(), Some("-1"));
    assert_eq!(orders.config().get("durability").as_deref(), Some("written"));

    scene.run("topics create orders").assert().code(8).stderr_eq(str![[r#"
error: topic "orders" exists already; `sapwood topics describe` shows it, `sapwood topics alter` changes it

"#]]);
    scene.run("topics create orders --if-not-exists").assert().success().stdout_eq(str![[r#"
topic orders exists already

"#]]);
    assert_eq!(scene.read().topic("orders").unwrap().partition_count(), 4);
}

#[test]
fn what_cannot_be_created_makes_no_directory() {
    let scene = Scene::bare();
    for arguments in [
        "topics create orders --config retention.ms=soon",
        "topics create orders --config retention.msec=1",
        "topics create orders --config min.insync.replicas=2",
        "topics create orders --config retention.ms",
        "topics create orders --partitions 0",
        "topics create orders --partitions many",
        "topics create orders --config segment.bytes=2000",
    ] {
        scene.run(arguments).assert().code(2).stdout_eq("");
    }
    assert!(!scene.data().exists());
}

#[test]
fn settings_that_cannot_be_are_answered_with_those_that_can() {
    let scene = Scene::bare();
    let create = |config| scene.run(&format!("topics create orders --config {config}"));
    create("min.insync.replicas=2").assert().code(2).stderr_eq(str![[r#"
error: a topic has no setting "min.insync.replicas"; there are: cleanup.policy, compression.type, compression.zstd.level, durability, flush.ms, index.interval.bytes, max.bytes, max.bytes.policy, max.message.bytes, message.timestamp.after.max.ms, message.timestamp.before.max.ms, message.timestamp.type, retention.bytes, retention.groups, retention.ms, segment.bytes, segment.index.bytes, segment.ms

"#]]);
    create("retention.m=1").assert().code(2).stderr_eq(str![[r#"
error: a topic has no setting "retention.m"; did you mean retention.ms? there are: cleanup.policy, compression.type, compression.zstd.level, durability, flush.ms, index.interval.bytes, max.bytes, max.bytes.policy, max.message.bytes, message.timestamp.after.max.ms, message.timestamp.before.max.ms, message.timestamp.type, retention.bytes, retention.groups, retention.ms, segment.bytes, segment.index.bytes, segment.ms

"#]]);
    create("retention.ms=soon").assert().code(2).stderr_eq(str![[r#"
error: setting retention.ms = "soon" is not allowed: it is not a whole number that this setting could have

"#]]);
    create("retention.ms").assert().code(2).stderr_eq(str![[r#"
error: invalid value 'retention.ms' for '--config <NAME=VALUE>': it has no `=`; write NAME=VALUE

For more information, try '--help'.

"#]]);
}

#[test]
fn a_topic_name_that_cannot_be_is_refused() {
    let scene = Scene::with_orders();
    scene.run("topics create ../evil").assert().code(2).stderr_eq(str![[r#"
error: topic name "../evil" is not allowed: only ASCII letters, digits, `.`, `_` and `-` are allowed

"#]]);
    scene.run("topics create __mine").assert().code(2).stderr_eq(str![[r#"
error: topic name "__mine" is not allowed: names that begin with `__` are reserved for internal topics

"#]]);
}

#[test]
fn settings_and_partitions_are_altered() {
    let scene = Scene::with_orders();
    let alter = "topics alter orders --partitions 3 --config segment.bytes=2097152 --delete-config retention.ms";
    scene.run(alter).assert().success().stdout_eq(str![[r#"
altered topic orders

"#]]);
    let orders = scene.read().topic("orders").unwrap();
    assert_eq!(orders.partition_count(), 3);
    assert_eq!(orders.config().get("segment.bytes").as_deref(), Some("2097152"));
    assert_eq!(orders.config().get("retention.ms").as_deref(), Some("604800000"));
}

#[test]
fn what_cannot_be_altered_changes_nothing() {
    let scene = Scene::with_orders();
    scene.run("topics alter orders").assert().code(2).stderr_eq(str![[r#"
error: what is to be changed? name --config, --delete-config or --partitions

"#]]);
    let fewer = "topics alter orders --config segment.bytes=2097152 --partitions 1";
    scene.run(fewer).assert().code(2).stderr_eq(str![[r#"
error: topic "orders" has 2 partition(s); --partitions 1 is not more, and there can never be fewer

"#]]);
    scene
        .run("topics alter orders --config segment.bytes=2097152 --partitions 100000")
        .assert()
        .code(2);
    scene.run("topics alter orders --config segment.bytes=2097152 --config x=1").assert().code(2);
    scene.run("topics alter orders --delete-config x").assert().code(2);
    scene.run("topics alter ordres --partitions 8").assert().code(3).stderr_eq(str![[r#"
error: topic "ordres" does not exist; there are: empty, orders

"#]]);
    let orders = scene.read().topic("orders").unwrap();
    assert_eq!(orders.partition_count(), 2);
    assert_eq!(orders.config().get("segment.bytes").as_deref(), Some("1073741824"));
}

#[test]
fn topics_are_deleted_all_or_none() {
    let scene = Scene::with_orders();
    scene.run("topics delete empty ordres").assert().code(3).stderr_eq(str![[r#"
error: topic "ordres" does not exist; there are: empty, orders

"#]]);
    assert_eq!(scene.read().topics().unwrap().len(), 2);
    scene.run("topics delete orders ordres --if-exists").assert().success().stdout_eq(str![[r#"
deleted topic orders

"#]]);
    scene.run("topics delete empty").assert().success();
    scene.run("topics list").assert().success().stdout_eq(str![[r#"
there are no topics; `sapwood topics create` makes one

"#]]);
}

#[test]
fn looking_changes_nothing() {
    let scene = Scene::with_group();
    let before = content(&scene.data());
    for arguments in [
        "topics list",
        "topics describe",
        "consume orders",
        "consume orders --group billing --no-commit",
        "groups list",
        "groups describe",
        "groups reset-offsets billing --all-topics --to-earliest",
        "metrics",
        "perf consume orders",
    ] {
        scene.run(arguments).assert().success();
        assert_eq!(content(&scene.data()), before, "{arguments}");
    }
}
