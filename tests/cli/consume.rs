//! `sapwood consume`.

use std::io::{BufRead, BufReader, Read};
use std::time::Duration;

use nix::sys::signal::Signal;
use sapwood::{Record, TopicConfig};
use snapbox::str;

use crate::scene::{FIRST_MILLIS, Scene, interrupt, signal};

const ALL: &str = "%t/%p@%o %T %k: %s [%h] %K %S\\n";

#[test]
fn values_are_printed_line_by_line_and_formats_are_kcats() {
    let scene = Scene::with_orders();
    scene
        .run("consume orders")
        .assert()
        .success()
        .stdout_eq(str![[r#"
paid
paid
sent
paid
sent
lost

"#]])
        .stderr_eq("");
    let formatted = scene.run_with(["consume", "orders", "--format", ALL]);
    formatted.assert().success().stdout_eq(str![[r#"
orders/0@0 1700000000000 alice: paid [from=shop] 5 4
orders/0@1 1700000001000 carol: paid [from=shop] 5 4
orders/0@2 1700000002000 alice: sent [from=shop] 5 4
orders/1@0 1700000000000 bob: paid [from=shop] 3 4
orders/1@1 1700000001000 bob: sent [from=shop] 3 4
orders/1@2 1700000002000 bob: lost [from=shop] 3 4

"#]]);
    scene.run("consume empty").assert().success().stdout_eq("");
}

#[test]
fn json_is_an_object_per_record() {
    let scene = Scene::with_orders();
    scene.run("consume orders -p 1 --json").assert().success().stdout_eq(str![[r#"
{"topic":"orders","partition":1,"offset":0,"timestamp":1700000000000,"key":"bob","value":"paid","headers":[{"name":"from","value":"shop"}]}
{"topic":"orders","partition":1,"offset":1,"timestamp":1700000001000,"key":"bob","value":"sent","headers":[{"name":"from","value":"shop"}]}
{"topic":"orders","partition":1,"offset":2,"timestamp":1700000002000,"key":"bob","value":"lost","headers":[{"name":"from","value":"shop"}]}

"#]]);
    let broker = scene.open();
    let partition = broker.topic("empty").unwrap().partition(0).unwrap();
    let binary = Record::new(&[0xff, 0x00]).key(&[0xfe]).null_header("none");
    partition.append(&[binary, Record::tombstone("gone")]).unwrap();
    broker.close().unwrap();
    scene.run("consume empty --json").assert().success().stdout_eq(str![[r#"
{"topic":"empty","partition":0,"offset":0,"timestamp":[..],"key_base64":"/g==","value_base64":"/wA=","headers":[{"name":"none","value":null}]}
{"topic":"empty","partition":0,"offset":1,"timestamp":[..],"key":"gone","value":null,"headers":[]}

"#]]);
}

/// What is printed as `partition@offset`, on one line.
fn offsets(scene: &Scene, arguments: &str) -> String {
    let arguments = arguments.split_whitespace().chain(["--format", "%p@%o "]);
    let output = scene.run_with(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

#[test]
fn reading_starts_where_it_is_told_to() {
    let scene = Scene::with_orders();
    let all = "0@0 0@1 0@2 1@0 1@1 1@2";
    for (start, expected) in [
        ("--from-beginning", all),
        ("", all),
        ("--offset 2", "0@2 1@2"),
        ("--offset 3", ""),
        ("--offset -1", "0@2 1@2"),
        ("--offset -100", all),
        ("-p 1 -o 1", "1@1 1@2"),
        ("--at 1700000001000", "0@1 0@2 1@1 1@2"),
        ("--at 2023-11-14T22:13:22Z", "0@2 1@2"),
        ("--at 2023-11-15", ""),
        ("--since 1h", ""),
        ("--since 100years", all),
        ("--max 2", "0@0 0@1"),
        ("--max 0", ""),
        ("-p 1 -p 0 -p 1 --max 4", "0@0 0@1 0@2 1@0"),
    ] {
        assert_eq!(offsets(&scene, &format!("consume orders {start}")), expected, "{start}");
    }
}

#[test]
fn filters_look_at_keys_values_and_headers() {
    let scene = Scene::with_orders();
    for (filter, expected) in [
        ("--filter key=^alice$", "0@0 0@2"),
        ("--filter value=t$", "0@2 1@1 1@2"),
        ("--filter header=shop", "0@0 0@1 0@2 1@0 1@1 1@2"),
        ("--filter header.from=^s --filter key=bob --filter value=paid", "1@0"),
        ("--filter header.to=shop", ""),
        ("--filter value=t$ --max 2", "0@2 1@1"),
    ] {
        assert_eq!(offsets(&scene, &format!("consume orders {filter}")), expected, "{filter}");
    }
}

#[test]
fn what_cannot_be_read_as_an_option_is_said_with_what_can() {
    let scene = Scene::with_orders();
    let refused = |option: &str, value: &str| {
        scene.run_with(["consume", "orders", option, value]).assert().code(2).stdout_eq("")
    };
    refused("--format", "%q").stderr_eq(str![[r#"
error: invalid value '%q' for '--format <FORMAT>': %q is unknown; there are %s %S %R %k %K %T %h %t %p %o and %%

For more information, try '--help'.

"#]]);
    refused("--filter", "body=x").stderr_eq(str![[r#"
error: invalid value 'body=x' for '--filter <FIELD=REGEX>': write key=REGEX, value=REGEX, header=REGEX or header.NAME=REGEX

For more information, try '--help'.

"#]]);
    refused("--filter", "value=(").stderr_eq(str![[r#"
error: invalid value 'value=(' for '--filter <FIELD=REGEX>': regex parse error:
    (
    ^
error: unclosed group

For more information, try '--help'.

"#]]);
    refused("--since", "soon").stderr_eq(str![[r#"
error: invalid value 'soon' for '--since <TIME>': write a time like 10m, 1h 30m, 2 days or PT10M

For more information, try '--help'.

"#]]);
    refused("--at", "yesterday").stderr_eq(str![[r#"
error: invalid value 'yesterday' for '--at <TIMESTAMP>': write 2026-01-31T12:00:00Z, 2026-01-31 (midnight in UTC), or milliseconds since 1970

For more information, try '--help'.

"#]]);
    refused("--offset", "first").stderr_eq(str![[r#"
error: invalid value 'first' for '--offset <N>': write an offset like 17, or -17 for that many before the end

For more information, try '--help'.

"#]]);
    scene.run("consume orders --offset 1 --since 1h").assert().code(2);
    scene.run("consume orders --json --format %s").assert().code(2);
    scene.run("consume orders --no-commit").assert().code(2);
}

#[test]
fn what_does_not_exist_is_said_with_what_does() {
    let scene = Scene::with_orders();
    scene.run("consume ordres").assert().code(3).stderr_eq(str![[r#"
error: topic "ordres" does not exist; there are: empty, orders

"#]]);
    scene.run("consume orders -p 2").assert().code(3).stderr_eq(str![[r#"
error: topic "orders" has 2 partition(s), numbered from 0; there is no 2

"#]]);
    scene.run("consume orders --offset 4").assert().code(3).stderr_eq(str![[r#"
error: offset 4 is out of range: orders-0 has offsets from 0 up to 3

"#]]);
}

#[test]
fn an_offset_that_retention_has_passed_begins_at_the_first_there_is() {
    let scene = Scene::with_orders();
    let broker = scene.open();
    broker.topic("orders").unwrap().partition(0).unwrap().delete_records(2).unwrap();
    broker.close().unwrap();
    assert_eq!(offsets(&scene, "consume orders -o 1"), "0@2 1@1 1@2");
    scene.run("consume orders -o 1").assert().success().stderr_eq(str![[r#"
warning: orders-0 begins at offset 2

"#]]);
    scene.run("consume orders -p 0 -o 1").assert().code(3).stderr_eq(str![[r#"
error: offset 1 is out of range: orders-0 has offsets from 2 up to 3

"#]]);
}

#[test]
fn a_group_goes_on_where_it_has_printed() {
    let scene = Scene::with_orders();
    assert_eq!(offsets(&scene, "consume orders -g billing --max 4 --no-commit"), "0@0 0@1 0@2 1@0");
    assert_eq!(offsets(&scene, "consume orders -g billing --max 4"), "0@0 0@1 0@2 1@0");
    assert_eq!(offsets(&scene, "consume orders -g billing --no-commit"), "1@1 1@2");
    assert_eq!(offsets(&scene, "consume orders -g billing --filter value=lost"), "1@2");
    assert_eq!(offsets(&scene, "consume orders -g billing"), "");
    assert_eq!(offsets(&scene, "consume orders -g billing -p 0 --from-beginning --max 1"), "0@0");
    assert_eq!(offsets(&scene, "consume orders -g billing"), "0@1 0@2");
}

#[test]
fn an_interrupt_commits_what_was_printed() {
    let scene = Scene::with_orders();
    let mut child = scene.start("consume orders --group billing --follow --from-beginning");
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    for _ in 0..6 {
        assert!(stdout.read_line(&mut String::new()).unwrap() > 0);
    }
    interrupt(&child);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
    assert_eq!(stdout.read_to_string(&mut String::new()).unwrap(), 0);
    let billing = scene.read().describe_group("billing").unwrap().unwrap();
    assert_eq!(billing.offsets.iter().map(|at| at.committed.offset).collect::<Vec<_>>(), [3, 3]);
}

#[test]
fn a_pipe_that_closes_ends_it_in_peace() {
    let scene = Scene::with_orders();
    let broker = scene.open();
    let topic = broker.create_topic("many", TopicConfig::default()).unwrap();
    let line = "x".repeat(1000);
    for _ in 0..100 {
        let records: Vec<_> = (0..100).map(|_| Record::new(&line)).collect();
        topic.partition(0).unwrap().append(&records).unwrap();
    }
    broker.close().unwrap();
    // While it prints, while it waits for more, and with a group.
    for arguments in [
        "consume many",
        "consume orders --follow --from-beginning",
        "consume many --group billing",
        "consume many --json --follow --from-beginning",
    ] {
        let mut child = scene.start(arguments);
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        stdout.read_line(&mut String::new()).unwrap();
        drop(stdout);
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{arguments}");
        assert_eq!(String::from_utf8(output.stderr).unwrap(), "", "{arguments}");
    }
}

#[test]
fn following_begins_at_the_end_and_sees_what_comes() {
    let scene = Scene::with_orders();
    let broker = scene.open();
    let partition = broker.topic("orders").unwrap().partition(0).unwrap();
    let mut child = scene.start("consume orders --follow --max 2 --format %p@%o=%s\\n");
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    // It is not known when the program has begun: what comes before is not seen, the rest is.
    let printed = std::thread::spawn(move || {
        let mut text = String::new();
        stdout.read_to_string(&mut text).unwrap();
        text
    });
    let mut appended = 3;
    while child.try_wait().unwrap().is_none() {
        partition.append(&[Record::new(&format!("new {appended}"))]).unwrap();
        appended += 1;
        std::thread::sleep(Duration::from_millis(20));
    }
    let text = printed.join().unwrap();
    let first: u64 = text.strip_prefix("0@").unwrap().split('=').next().unwrap().parse().unwrap();
    assert!(first >= 3);
    assert_eq!(text, format!("0@{first}=new {first}\n0@{0}=new {0}\n", first + 1));
}

#[test]
fn a_disk_that_is_full_behind_the_output_is_a_failure() {
    let scene = Scene::with_orders();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut program = std::process::Command::new(snapbox::cmd::cargo_bin!("sapwood"));
    let program = program.args(["consume", "orders", "--dir"]).arg(scene.data()).stdout(full);
    let output = program.output().unwrap();
    assert_eq!(output.status.code(), Some(6));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.starts_with("error: cannot write to standard output: "), "{said}");
}

#[test]
fn timestamps_are_the_records_own() {
    let scene = Scene::with_orders();
    let first = scene.run("consume orders -p 0 --max 1 --format %T");
    first.assert().success().stdout_eq(FIRST_MILLIS.to_string());
}

#[test]
fn what_retention_deletes_before_it_is_printed_is_told_and_the_rest_is_printed() {
    let scene = Scene::bare();
    let broker = scene.open();
    let small = TopicConfig::default().segment_bytes(1024).max_message_bytes(1000);
    let partition = broker.create_topic("short", small).unwrap().partition(0).unwrap();
    let append = |number| {
        let value = format!("{number} {}", "x".repeat(400));
        partition.append(&[Record::new(&value)]).unwrap();
    };
    append(0);
    let mut child = scene.start("consume short --follow --from-beginning --max 3 --format %o\\n");
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    // While it is stopped it can print nothing.
    signal(&child, Signal::SIGSTOP);
    (1..10).for_each(append);
    partition.delete_records(9).unwrap();
    signal(&child, Signal::SIGCONT);
    append(10);
    stdout.read_to_string(&mut line).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(line, "0\n9\n10\n");
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(said, "warning: short-0: offsets 1 up to 9 were deleted meanwhile\n");
}
