//! `sapwood topics`.

use snapbox::str;

use crate::scene::Scene;

#[test]
fn topics_are_listed_with_their_sizes() {
    let scene = Scene::with_orders();
    scene.run("topics list").assert().success().stdout_eq(str![[r#"
TOPIC   PARTITIONS  RECORDS   SIZE
empty            1        0    0 B
orders           2        6  516 B

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
}

#[test]
fn an_unknown_topic_is_answered_with_those_there_are() {
    let scene = Scene::with_orders();
    scene.run("topics describe ordres").assert().code(3).stderr_eq(str![[r#"
error: topic "ordres" does not exist; there are: empty, orders

"#]]);
}
