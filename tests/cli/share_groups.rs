//! `sapwood share-groups`.

use std::time::Duration;

use snapbox::str;

use crate::scene::{Scene, content};

#[test]
fn share_groups_are_listed_and_described_with_what_they_have_to_do() {
    let scene = Scene::with_share_groups();
    let before = content(&scene.data());
    scene.run("share-groups list").assert().success().stdout_eq(str![[r#"
GROUP    PARTITIONS  LAG
idle              2    6
workers           1    4

"#]]);
    scene.run("share-groups list --json").assert().success().stdout_eq(str![[r#"
[{"group":"idle","partitions":2,"lag":6},{"group":"workers","partitions":1,"lag":4}]

"#]]);
    scene.run("share-groups describe").assert().success().stdout_eq(str![[r#"
GROUP    TOPIC   PARTITION  START-OFFSET  END-OFFSET  LAG  IN-FLIGHT  DELAYED  DELIVERIES
idle     orders          0             0           0    3          0        0           0
idle     orders          1             0           0    3          0        0           0
workers  jobs            0             1           4    4          1        1           1

"#]]);
    scene.run("share-groups describe workers --json").assert().success().stdout_eq(str![[r#"
[{"group":"workers","topic":"jobs","partition":0,"start_offset":1,"end_offset":4,"lag":4,"in_flight":1,"delayed":1,"deliveries":[{"delivery_count":1,"records":1}]}]

"#]]);
    assert_eq!(content(&scene.data()), before);
}

#[test]
fn what_another_process_does_is_seen_while_it_does_it() {
    let scene = Scene::with_share_groups();
    let broker = scene.open();
    let mut worker = scene.worker(&broker);
    let records = worker.poll(Duration::ZERO).unwrap();
    scene.run("share-groups describe workers").assert().success().stdout_eq(str![[r#"
GROUP    TOPIC  PARTITION  START-OFFSET  END-OFFSET  LAG  IN-FLIGHT  DELAYED  DELIVERIES
workers  jobs           0             1           6    4          3        1           2

"#]]);
    records.accept_all().unwrap();
    scene.run("share-groups describe workers").assert().success().stdout_eq(str![[r#"
GROUP    TOPIC  PARTITION  START-OFFSET  END-OFFSET  LAG  IN-FLIGHT  DELAYED  DELIVERIES
workers  jobs           0             2           6    1          0        1           0

"#]]);
}

#[test]
fn where_there_are_no_share_groups_that_is_said() {
    let scene = Scene::with_orders();
    scene.run("share-groups list").assert().success().stdout_eq(str![[r#"
there are no share groups; an application makes them with `Broker::share_consumer`

"#]]);
    scene.run("share-groups list --json").assert().success().stdout_eq("[]\n");
    scene.run("share-groups describe").assert().success().stdout_eq(str![[r#"
there are no share groups; an application makes them with `Broker::share_consumer`

"#]]);
    scene.run("share-groups describe workers").assert().code(3).stderr_eq(str![[r#"
error: share group "workers" does not exist; there is none yet

"#]]);
}

#[test]
fn a_group_of_the_other_kind_is_told_from_one_that_does_not_exist() {
    let scene = Scene::with_share_groups();
    scene.run("share-groups describe nobody").assert().code(3).stderr_eq(str![[r#"
error: share group "nobody" does not exist; there are: idle, workers

"#]]);
    scene.run("share-groups describe billing").assert().code(3).stderr_eq(str![[r#"
error: share group "billing" does not exist; it is a consumer group, see `sapwood groups`

"#]]);
    scene.run("groups describe workers").assert().code(3).stderr_eq(str![[r#"
error: group "workers" does not exist; it is a share group, see `sapwood share-groups`

"#]]);
}

#[test]
fn share_groups_are_deleted_all_or_none_and_others_of_the_name_stay() {
    let scene = Scene::with_share_groups();
    let broker = scene.open();
    let of = sapwood::TopicPartition::new("orders", 0);
    broker.reset_group("idle", [(of, sapwood::OffsetAndMetadata::new(1))]).unwrap();
    broker.close().unwrap();
    drop(broker);
    scene.run("share-groups delete idle nobody").assert().code(3).stderr_eq(str![[r#"
error: share group "nobody" does not exist; there are: idle, workers

"#]]);
    assert_eq!(scene.read().list_share_groups().unwrap(), ["idle", "workers"]);
    scene.run("share-groups delete idle idle").assert().success().stdout_eq(str![[r#"
deleted share group idle

"#]]);
    assert_eq!(scene.read().list_share_groups().unwrap(), ["workers"]);
    assert_eq!(scene.read().list_groups().unwrap(), ["billing", "idle"]);
}
