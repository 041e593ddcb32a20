//! `sapwood produce`.

use std::io::Write;
use std::time::Duration;

use sapwood::TopicConfig;
use snapbox::str;

use crate::scene::{Scene, interrupt};

#[test]
fn lines_of_standard_input_are_records() {
    let scene = Scene::with_orders();
    let produce = scene.run("produce empty").stdin("one\n\nthree without an end");
    produce
        .assert()
        .success()
        .stdout_eq(str![[r#"
3 record(s) stored in empty

"#]])
        .stderr_eq("");
    assert_eq!(scene.values("empty"), ["one", "", "three without an end"]);
    scene.run("produce empty --json").stdin("four\n").assert().success().stdout_eq(str![[r#"
{"topic":"empty","records":1,"bytes":4}

"#]]);
}

#[test]
fn files_are_read_in_order_with_keys_headers_and_a_partition() {
    let scene = Scene::with_orders();
    scene.write("a.txt", "alice::paid\nno key\n");
    scene.write("b.txt", "bob::sent::late\n");
    let produce =
        "produce orders --partition 1 --key-separator :: -H from=import -H a=b=c a.txt - b.txt";
    scene.run(produce).stdin("::empty key\n").assert().success().stdout_eq(str![[r#"
4 record(s) stored in orders

"#]]);
    let consume = ["consume", "orders", "-p", "1", "-o", "3", "-f", "%o %K %k|%s|%h\\n"];
    scene.run_with(consume).assert().success().stdout_eq(str![[r#"
3 5 alice|paid|from=import,a=b=c
4 -1 |no key|from=import,a=b=c
5 0 |empty key|from=import,a=b=c
6 3 bob|sent::late|from=import,a=b=c

"#]]);
}

#[test]
fn records_are_compressed_as_asked() {
    let scene = Scene::with_orders();
    let lines = "the same again and again\n".repeat(1000);
    for (codec, smaller) in [("none", false), ("lz4", true), ("zstd", true)] {
        let before = scene.read().topic("empty").unwrap().size();
        let produce = format!("produce empty --compression {codec}");
        scene.run(&produce).stdin(&lines).assert().success();
        let grown = scene.read().topic("empty").unwrap().size() - before;
        assert_eq!(grown < 10_000, smaller, "{codec}: {grown}");
    }
    assert_eq!(scene.values("empty").len(), 3000);
    scene.run("produce empty -z gzip").stdin("x\n").assert().code(2).stderr_eq(str![[r#"
error: invalid value 'gzip' for '--compression <CODEC>': setting compression.type = "gzip" is not allowed: it can be read but not written; use none, lz4 or zstd

For more information, try '--help'.

"#]]);
}

#[test]
fn a_missing_file_stores_nothing_of_the_others() {
    let scene = Scene::with_orders();
    scene.write("a.txt", "one\n");
    scene.run("produce empty a.txt b.txt").assert().code(3).stderr_eq(str![[r#"
error: cannot open b.txt: No such file or directory (os error 2)

"#]]);
    scene.run("produce empty a.txt .").assert().code(1).stderr_eq(str![[r#"
error: cannot read .: is a directory

"#]]);
    assert!(scene.values("empty").is_empty());
}

#[test]
fn a_record_that_is_too_large_is_told_with_its_line_and_what_came_before_it() {
    let scene = Scene::bare();
    let small = TopicConfig::default().max_message_bytes(200);
    let broker = scene.open();
    broker.create_topic("small", small).unwrap();
    broker.close().unwrap();
    scene.write("lines.txt", format!("one\ntwo\n{}\nfour\n", "x".repeat(300)));
    scene.run("produce small lines.txt").assert().code(1).stdout_eq("").stderr_eq(str![[r#"
error: line 3 of lines.txt: 271 bytes for small are more than max.message.bytes = 200 allows (of 2 record(s) sent before, 2 are stored in small)

"#]]);
    assert_eq!(scene.values("small"), ["one", "two"]);
}

#[test]
fn a_topic_that_is_full_is_told_as_that() {
    let scene = Scene::bare();
    let config = TopicConfig::default().max_message_bytes(1000).max_bytes(3000);
    let broker = scene.open();
    broker.create_topic("capped", config).unwrap();
    broker.close().unwrap();
    let lines = format!("{}\n", "x".repeat(500)).repeat(20);
    scene.run("produce capped").stdin(lines).assert().code(6).stderr_eq(str![[r#"
error: the send to capped-0 failed: topic "capped" is full: 3420 bytes of at most 3000; let retention or consumers make room, or raise the limit (of 20 record(s) sent before, [..] are stored in capped)

"#]]);
    let stored = scene.values("capped").len();
    assert!((1..20).contains(&stored), "{stored}");
}

#[test]
fn what_cannot_be_is_said_before_anything_is_read() {
    let scene = Scene::with_orders();
    let refused = |arguments: &str| scene.run(arguments).stdin("x\n").assert();
    refused("produce ordres").code(3).stderr_eq(str![[r#"
error: topic "ordres" does not exist; there are: empty, orders

"#]]);
    refused("produce orders --partition 7").code(3).stderr_eq(str![[r#"
error: topic "orders" has 2 partition(s), numbered from 0; there is no 7

"#]]);
    refused("produce orders --header novalue").code(2).stderr_eq(str![[r#"
error: invalid value 'novalue' for '--header <NAME=VALUE>': it has no `=`; write NAME=VALUE

For more information, try '--help'.

"#]]);
    refused("produce orders --producer-property acks=all").code(2).stderr_eq(str![[r#"
error: setting acks = "all" is not allowed: no such setting of a producer; there are linger.ms, batch.size, buffer.memory, max.block.ms, compression.type and compression.zstd.level

"#]]);
    refused("produce __consumer_offsets").code(3);
    scene.run_with(["produce", "orders", "-K", ""]).assert().code(2).stderr_eq(str![[r#"
error: --key-separator is empty; it is the text between key and value

"#]]);
    assert_eq!(scene.values("orders").len(), 6);
}

#[test]
fn an_interrupt_keeps_whole_lines_and_drops_the_one_that_was_cut() {
    let scene = Scene::with_orders();
    let mut child = scene.start("produce empty");
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"one\ntwo\nthr").unwrap();
    let reader = scene.read();
    let partition = reader.topic("empty").unwrap().partition(0).unwrap();
    let mut consumer = reader.consumer().subscribe(["empty"]).unwrap();
    while partition.high_watermark() < 2 {
        consumer.poll(Duration::from_millis(100)).unwrap();
    }
    interrupt(&child);
    let output = child.wait_with_output().unwrap();
    drop(stdin);
    assert_eq!(output.status.code(), Some(130));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "2 record(s) stored in empty\n");
    assert_eq!(scene.values("empty"), ["one", "two"]);
}
