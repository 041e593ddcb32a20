//! `sapwood groups`.

use snapbox::str;

use crate::scene::{Scene, content};

#[test]
fn groups_are_listed_and_described_with_their_lag() {
    let scene = Scene::with_group();
    scene.run("groups list").assert().success().stdout_eq(str![[r#"
GROUP    PARTITIONS  LAG
billing           2    1

"#]]);
    scene.run("groups list --json").assert().success().stdout_eq(str![[r#"
[{"group":"billing","partitions":2,"lag":1}]

"#]]);
    scene.run("groups describe billing").assert().success().stdout_eq(str![[r#"
GROUP    TOPIC   PARTITION  COMMITTED-OFFSET  HIGH-WATERMARK  LAG              COMMITTED-AT  METADATA
billing  orders          0                 2               3    1  [..]  by hand
billing  orders          1                 3               3    0  [..]  by hand

"#]]);
    scene.run("groups describe --json").assert().success().stdout_eq(str![[r#"
[{"group":"billing","topic":"orders","partition":0,"committed_offset":2,"high_watermark":3,"lag":1,"commit_timestamp":[..],"metadata":"by hand"},{"group":"billing","topic":"orders","partition":1,"committed_offset":3,"high_watermark":3,"lag":0,"commit_timestamp":[..],"metadata":"by hand"}]

"#]]);
}

#[test]
fn where_there_are_no_groups_that_is_said() {
    let scene = Scene::with_orders();
    scene.run("groups list").assert().success().stdout_eq(str![[r#"
there are no groups; `sapwood consume --group` makes one

"#]]);
    scene.run("groups list --json").assert().success().stdout_eq("[]\n");
    scene.run("groups describe").assert().success().stdout_eq(str![[r#"
no group has committed anything

"#]]);
    scene.run("groups describe billing").assert().code(3).stderr_eq(str![[r#"
error: group "billing" does not exist; none has committed anything yet

"#]]);
}

#[test]
fn a_reset_shows_what_it_would_do_and_does_nothing() {
    let scene = Scene::with_group();
    let before = content(&scene.data());
    let reset = "groups reset-offsets billing --topic orders --to-earliest";
    scene.run(reset).assert().success().stdout_eq(str![[r#"
GROUP    TOPIC   PARTITION  CURRENT-OFFSET  NEW-OFFSET
billing  orders          0               2           0
billing  orders          1               3           0
nothing was changed; --execute does it

"#]]);
    scene.run(&format!("{reset} --dry-run --json")).assert().success().stdout_eq(str![[r#"
[{"group":"billing","topic":"orders","partition":0,"current_offset":2,"new_offset":0,"executed":false},{"group":"billing","topic":"orders","partition":1,"current_offset":3,"new_offset":0,"executed":false}]

"#]]);
    assert_eq!(content(&scene.data()), before);
}

/// Where the group stands after a reset, which is executed.
fn after(arguments: &str) -> Vec<u64> {
    let scene = Scene::with_group();
    let reset = format!("groups reset-offsets billing {arguments} --execute");
    scene.run(&reset).assert().success();
    let billing = scene.read().describe_group("billing").unwrap().unwrap();
    billing.offsets.iter().map(|at| at.committed.offset).collect()
}

#[test]
fn a_group_goes_where_it_is_told_to() {
    // It stands at 2 and 3; both partitions end at 3.
    for (target, expected) in [
        ("--all-topics --to-earliest", [0, 0]),
        ("--topic orders --to-latest", [3, 3]),
        ("--topic orders:1 --to-offset 1", [2, 1]),
        ("--topic orders --to-offset 99", [3, 3]),
        ("--topic orders:0,1 --shift-by -1", [1, 2]),
        ("--topic orders --shift-by -3", [0, 0]),
        ("--topic orders --shift-by 1", [3, 3]),
        ("--all-topics --to-current", [2, 3]),
        ("--all-topics --to-datetime 2023-11-14T22:13:21Z", [1, 1]),
        ("--all-topics --by-duration 1h", [3, 3]),
        ("--all-topics --by-duration P36500D", [0, 0]),
    ] {
        assert_eq!(after(target), expected, "{target}");
    }
}

#[test]
fn an_offset_that_does_not_exist_is_replaced_by_the_nearest_and_told() {
    let scene = Scene::with_group();
    let reset = "groups reset-offsets billing --topic orders:0 --to-offset 99 --execute";
    scene
        .run(reset)
        .assert()
        .success()
        .stdout_eq(str![[r#"
GROUP    TOPIC   PARTITION  CURRENT-OFFSET  NEW-OFFSET
billing  orders          0               2           3

"#]])
        .stderr_eq(str![[r#"
warning: orders-0 has no offset 99; the nearest is 3

"#]]);
}

#[test]
fn a_group_that_has_committed_nothing_is_told_and_can_be_set_all_the_same() {
    let scene = Scene::with_group();
    let new = "groups reset-offsets audit --topic orders:1 --to-offset 1 --execute";
    scene
        .run(new)
        .assert()
        .success()
        .stdout_eq(str![[r#"
GROUP  TOPIC   PARTITION  CURRENT-OFFSET  NEW-OFFSET
audit  orders          1               -           1

"#]])
        .stderr_eq(str![[r#"
warning: group "audit" has not committed anything so far

"#]]);
    assert_eq!(scene.read().list_groups().unwrap(), ["audit", "billing"]);
}

#[test]
fn a_reset_that_cannot_be_is_refused_and_changes_nothing() {
    let scene = Scene::with_group();
    let before = scene.read().describe_group("billing").unwrap();
    let reset = |arguments: &str| {
        scene.run(&format!("groups reset-offsets {arguments} --execute")).assert().stdout_eq("")
    };
    reset("billing --topic orders").code(2);
    reset("billing --to-earliest").code(2);
    reset("billing --topic orders --to-earliest --to-latest").code(2);
    reset("billing --topic orders:x --to-earliest").code(2).stderr_eq(str![[r#"
error: invalid value 'orders:x' for '--topic <TOPIC[:N,N]>': write TOPIC, or TOPIC:0,2 for some partitions of it

For more information, try '--help'.

"#]]);
    reset("billing --topic ordres --to-earliest").code(3).stderr_eq(str![[r#"
error: topic "ordres" does not exist; there are: empty, orders

"#]]);
    reset("billing --topic orders:7 --to-earliest").code(3).stderr_eq(str![[r#"
error: topic "orders" has 2 partition(s), numbered from 0; there is no 7

"#]]);
    reset("nobody --all-topics --to-earliest").code(3).stderr_eq(str![[r#"
error: group "nobody" does not exist; there are: billing

"#]]);
    reset("billing --topic empty --shift-by 1").code(3).stderr_eq(str![[r#"
error: the group has committed nothing in empty-0 to start from; choose --to-earliest, --to-latest or --to-offset

"#]]);
    assert_eq!(scene.read().describe_group("billing").unwrap(), before);
    assert_eq!(scene.read().list_groups().unwrap(), ["billing"]);
}

#[test]
fn groups_are_deleted_all_or_none() {
    let scene = Scene::with_group();
    scene.run("groups delete billing nobody").assert().code(3).stderr_eq(str![[r#"
error: group "nobody" does not exist; there are: billing

"#]]);
    assert_eq!(scene.read().list_groups().unwrap(), ["billing"]);
    scene.run("groups delete billing").assert().success().stdout_eq(str![[r#"
deleted group billing

"#]]);
    assert!(scene.read().list_groups().unwrap().is_empty());
}
