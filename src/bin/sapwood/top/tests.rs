//! Goal: the screen says what is so, fits the terminals it is made for, and does what keys say.
//!
//! Method: looks made by hand, keys, and the screen drawn into memory beside what it is to be. To
//! take over what it draws now, and then read the difference: `SNAPSHOTS=overwrite cargo test
//! --features cli --bin sapwood`.

// Snapshots are written that way.
#![allow(clippy::needless_raw_string_hashes)]

use std::time::Duration;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use sapwood::{Timestamp, TopicPartition};
use snapbox::{assert_data_eq, str};

use super::app::{App, Edge, Request};
use super::look::{CommittedLook, GroupLook, Limits, Look, PartitionLook, TopicLook};
use super::records::{Bytes, From, Page, RecordLook};

/// 2023-11-14T22:13:20Z.
const NOW_MILLIS: i64 = 1_700_000_000_000;

const DAY_MILLIS: u64 = 86_400_000;

fn partition(number: u32, log_end_offset: u64) -> PartitionLook {
    PartitionLook {
        number,
        log_start_offset: 100,
        high_watermark: log_end_offset - 40,
        recovery_point: log_end_offset - 40,
        log_end_offset,
        size: log_end_offset * 100,
        oldest: Some(Timestamp::from_millis(NOW_MILLIS - 3 * 86_400_000)),
        trouble: None,
    }
}

fn topic(name: &str, limits: Limits, partitions: Vec<PartitionLook>) -> TopicLook {
    TopicLook { name: name.to_owned(), id: name.to_owned(), limits, partitions }
}

fn committed(topic: &str, partition: u32, offset: u64, lag: u64) -> CommittedLook {
    CommittedLook {
        topic_partition: TopicPartition::new(topic, partition),
        offset,
        lag,
        committed_at: Timestamp::from_millis(NOW_MILLIS - 90_000),
        metadata: "after\tlunch".to_owned(),
    }
}

/// What is there after so many half seconds: `orders` grows, and `payments` does not.
fn look(halves: u64) -> Look {
    let week = Limits { retention_ms: Some(7 * DAY_MILLIS), ..Limits::default() };
    let small = Limits { max_bytes: Some(1 << 20), ..week };
    let grown = |by: u64| 10_000 + halves * halves * by;
    let orders = vec![partition(0, grown(7)), partition(1, grown(3))];
    let group = |name: &str, offsets| GroupLook { name: name.to_owned(), offsets };
    Look {
        at: Duration::from_millis(500 * halves),
        now: Timestamp::from_millis(NOW_MILLIS + 500 * i64::try_from(halves).unwrap()),
        topics: vec![
            topic("audit", Limits::default(), vec![PartitionLook::default()]),
            topic("orders", week, orders),
            topic("payments", small, vec![partition(0, 9_000)]),
        ],
        groups: vec![
            group("billing", vec![committed("orders", 0, 9_000 + halves * 10, 1_000)]),
            group(
                "reports\x1b[2J",
                vec![committed("orders", 0, 2_000, 8_000), committed("orders", 1, 5_000, 5_000)],
            ),
        ],
        troubles: Vec::new(),
    }
}

fn app() -> App {
    let mut app = App::new("data".to_owned(), Duration::from_millis(500));
    (0..20).for_each(|halves| app.observe(look(halves)));
    app
}

fn press(app: &mut App, code: KeyCode) -> Request {
    // Keys are pressed on what is on the screen.
    super::draw(app, 80, 24);
    app.key(KeyEvent::new(code, KeyModifiers::NONE))
}

fn press_all(app: &mut App, codes: &[KeyCode]) {
    for code in codes {
        assert_eq!(press(app, *code), Request::Nothing, "{code:?}");
    }
}

fn type_text(app: &mut App, text: &str) {
    text.chars().for_each(|c| assert_eq!(press(app, KeyCode::Char(c)), Request::Nothing));
}

#[test]
fn topics_at_80_by_24() {
    assert_data_eq!(
        super::draw(&mut app(), 80, 24),
        str![[r#"
sapwood top  data                                        2023-11-14 22:13:29 UTC
640 records/s  62.5 KiB/s  3.1 MiB  120 unsynced  3 topics  4 partitions
records/s                                          ▂▂▂▃▃▄▄▄▅▅▅▆▆▇▇▇███ max 740/s
 Topics   Groups                                                    by RECORDS/S
TOPIC        RECORDS/S▾                  SIZE  HORIZON         LAST SYNC SEEN
orders             640  ▅▅▆▆▇▇▇███    2.3 MiB  43% 7 d         +370 <1 s ago
audit                0  ▁▁▁▁▁▁▁▁▁▁        0 B  -               -
payments             0  ▁▁▁▁▁▁▁▁▁▁  878.9 KiB  86% 1.0 MiB     -














read from disk every 0.5 s; a sync seen is what got synced between two looks
q quit  Enter open  Tab groups  s sort  r reverse  / filter  ? help

"#]]
    );
}

#[test]
fn topics_at_200_by_60() {
    assert_data_eq!(
        super::draw(&mut app(), 200, 60),
        str![[r#"
sapwood top  data                                                                                                                                                                2023-11-14 22:13:29 UTC
640 records/s  62.5 KiB/s  3.1 MiB  120 unsynced  3 topics  4 partitions  2 groups
┌records/s, max 740───────────────────────────────────────────────────────────────────────────────┐  ┌bytes/s, max 72.3 KiB/s──────────────────────────────────────────────────────────────────────────┐
│                                                                                            ▁▂▄▆█│  │                                                                                            ▁▂▄▆█│
│                                                                                        ▂▃▅▇█████│  │                                                                                        ▂▃▅▇█████│
│                                                                                   ▁▃▄▆██████████│  │                                                                                   ▁▃▄▆██████████│
│                                                                               ▂▄▆▇██████████████│  │                                                                               ▂▄▆▇██████████████│
└─────────────────────────────────────────────────────────────────────────────────────────────────┘  └─────────────────────────────────────────────────────────────────────────────────────────────────┘
 Topics   Groups                                                                                                                                                                            by RECORDS/S
TOPIC                                     PARTS  RECORDS/S▾                                           BYTES/S  RECORDS       SIZE  OLDEST  HORIZON             UNSYNCED  LAST SYNC SEEN
orders                                        2        640                   ▂▂▂▃▃▄▄▄▅▅▅▆▆▇▇▇███   62.5 KiB/s   23.3 k    2.3 MiB     3 d  43% 7 d                   80  +370 <1 s ago
audit                                         1          0                   ▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁        0 B/s        0        0 B       -  -                          0  -
payments                                      1          0                   ▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁        0 B/s     8860  878.9 KiB     3 d  86% 1.0 MiB               40  -













































read from disk every 0.5 s; a sync seen is what got synced between two looks
q quit  Enter open  Tab groups  s sort  r reverse  / filter  ? help

"#]]
    );
}

#[test]
fn partitions_at_80_by_24() {
    let mut app = app();
    press_all(&mut app, &[KeyCode::Enter, KeyCode::Char('j')]);
    assert_data_eq!(
        super::draw(&mut app, 80, 24),
        str![[r#"
sapwood top  data                                        2023-11-14 22:13:29 UTC
640 records/s  62.5 KiB/s  3.1 MiB  120 unsynced  3 topics  4 partitions
records/s                                          ▂▂▂▃▃▄▄▄▅▅▅▆▆▇▇▇███ max 740/s
 Topics   Groups  > orders                                          by PARTITION
PARTITION▾ RECORDS/S                  BYTES/S       START         END       SIZE
        0        448  ▅▅▆▆▇▇▇███   43.8 KiB/s         100       12527    1.2 MiB
        1        192  ▅▅▆▆▇▇▇███   18.8 KiB/s         100       11083    1.1 MiB











────────────────────────────────────────────────────────────────────────────────
kept: oldest 3 d of 7 d, size 1.1 MiB; the topic 2.3 MiB
offsets: start 100, synced to 11043, read to 11043, end 11083
syncs seen: +111 <1 s ago, +105 <1 s ago, +99 1 s ago, +93 1 s ago, +87 2 s ago…
read from disk every 0.5 s; a sync seen is what got synced between two looks
q quit  Esc back  Enter records  s sort  r reverse  / filter  ? help

"#]]
    );
}

#[test]
fn partitions_at_200_by_60() {
    let mut app = app();
    press_all(&mut app, &[KeyCode::Enter]);
    assert_data_eq!(
        super::draw(&mut app, 200, 60),
        str![[r#"
sapwood top  data                                                                                                                                                                2023-11-14 22:13:29 UTC
640 records/s  62.5 KiB/s  3.1 MiB  120 unsynced  3 topics  4 partitions  2 groups
┌records/s, max 740───────────────────────────────────────────────────────────────────────────────┐  ┌bytes/s, max 72.3 KiB/s──────────────────────────────────────────────────────────────────────────┐
│                                                                                            ▁▂▄▆█│  │                                                                                            ▁▂▄▆█│
│                                                                                        ▂▃▅▇█████│  │                                                                                        ▂▃▅▇█████│
│                                                                                   ▁▃▄▆██████████│  │                                                                                   ▁▃▄▆██████████│
│                                                                               ▂▄▆▇██████████████│  │                                                                               ▂▄▆▇██████████████│
└─────────────────────────────────────────────────────────────────────────────────────────────────┘  └─────────────────────────────────────────────────────────────────────────────────────────────────┘
 Topics   Groups  > orders                                                                                                                                                                  by PARTITION
PARTITION▾ RECORDS/S                                            BYTES/S           START             END       SIZE  OLDEST  HORIZON             UNSYNCED  LAST SYNC SEEN        LAST APPEND
        0        448                   ▂▂▂▃▃▄▄▄▅▅▅▆▆▇▇▇███   43.8 KiB/s             100           12527    1.2 MiB     3 d  43% 7 d                   40  +259 <1 s ago                <1 s
        1        192                   ▂▂▂▃▃▄▄▄▅▅▅▆▆▇▇▇███   18.8 KiB/s             100           11083    1.1 MiB     3 d  43% 7 d                   40  +111 <1 s ago                <1 s










































────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────
kept: oldest 3 d of 7 d, size 1.2 MiB; the topic 2.3 MiB
offsets: start 100, synced to 12487, read to 12487, end 12527
syncs seen: +259 <1 s ago, +245 <1 s ago, +231 1 s ago, +217 1 s ago, +203 2 s ago, +189 2 s ago, +175 3 s ago, +161 3 s ago
read from disk every 0.5 s; a sync seen is what got synced between two looks
q quit  Esc back  Enter records  s sort  r reverse  / filter  ? help

"#]]
    );
}

#[test]
fn groups_and_what_one_has_committed_at_80_by_24() {
    let mut app = app();
    press_all(&mut app, &[KeyCode::Tab]);
    assert_data_eq!(
        super::draw(&mut app, 80, 24),
        str![[r#"
sapwood top  data                                        2023-11-14 22:13:29 UTC
640 records/s  62.5 KiB/s  3.1 MiB  120 unsynced  3 topics  4 partitions
records/s                                          ▂▂▂▃▃▄▄▄▅▅▅▆▆▇▇▇███ max 740/s
 Topics   Groups                                                          by LAG
GROUP                      PARTS      LAG▾                 CONSUMED/S  COMMITTED
reports/x1b[2J                 2   13.0 k  ██████████████           0       99 s
billing                        1     1000  █▏                      20       99 s















committed offsets, read from disk every 0.5 s; lag in records
q quit  Enter open  Tab topics  s sort  r reverse  / filter  ? help

"#]]
    );
    press_all(&mut app, &[KeyCode::Enter]);
    assert_data_eq!(
        super::draw(&mut app, 80, 24),
        str![[r#"
sapwood top  data                                        2023-11-14 22:13:29 UTC
640 records/s  62.5 KiB/s  3.1 MiB  120 unsynced  3 topics  4 partitions
records/s                                          ▂▂▂▃▃▄▄▄▅▅▅▆▆▇▇▇███ max 740/s
 Topics   Groups  > reports/x1b[2J                                        by LAG
TOPIC-PARTITION           COMMITTED      LAG▾                 CONSUMED/S    WHEN
orders-0                       2000     8000  ██████████████           0    99 s
orders-1                       5000     5000  ████████▊                0    99 s















committed offsets, read from disk every 0.5 s; lag in records
q quit  Esc back  Enter records  s sort  r reverse  / filter  ? help

"#]]
    );
}

#[test]
fn groups_at_200_by_60() {
    let mut app = app();
    press_all(&mut app, &[KeyCode::Tab]);
    assert_data_eq!(
        super::draw(&mut app, 200, 60),
        str![[r#"
sapwood top  data                                                                                                                                                                2023-11-14 22:13:29 UTC
640 records/s  62.5 KiB/s  3.1 MiB  120 unsynced  3 topics  4 partitions  2 groups
┌records/s, max 740───────────────────────────────────────────────────────────────────────────────┐  ┌bytes/s, max 72.3 KiB/s──────────────────────────────────────────────────────────────────────────┐
│                                                                                            ▁▂▄▆█│  │                                                                                            ▁▂▄▆█│
│                                                                                        ▂▃▅▇█████│  │                                                                                        ▂▃▅▇█████│
│                                                                                   ▁▃▄▆██████████│  │                                                                                   ▁▃▄▆██████████│
│                                                                               ▂▄▆▇██████████████│  │                                                                               ▂▄▆▇██████████████│
└─────────────────────────────────────────────────────────────────────────────────────────────────┘  └─────────────────────────────────────────────────────────────────────────────────────────────────┘
 Topics   Groups                                                                                                                                                                                  by LAG
GROUP                                     PARTS      LAG▾                                                     CONSUMED/S                                         BEHIND  COMMITTED
reports/x1b[2J                                2   13.0 k  ██████████████████████████████████████████████████           0                   ▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁      56%       99 s
billing                                       1     1000  ███▉                                                        20                   ███████████████████       8%       99 s














































committed offsets, read from disk every 0.5 s; lag in records
q quit  Enter open  Tab topics  s sort  r reverse  / filter  ? help

"#]]
    );
}

fn bytes(of: &[u8]) -> Bytes {
    Bytes { kept: of.to_vec(), len: of.len() }
}

fn page(offsets: std::ops::Range<u64>) -> Page {
    let record = |offset| RecordLook {
        offset,
        timestamp: Timestamp::from_millis(NOW_MILLIS),
        key: (offset % 2 == 0).then(|| bytes(b"alice")),
        value: Some(bytes(b"paid\x1b]0;owned\x07 \xff\nand\tsent")),
        headers: vec![("trace".to_owned(), Some(bytes(b"7f"))), ("none".to_owned(), None)],
    };
    Page {
        of: TopicPartition::new("orders", 0),
        readable: 100..12_487,
        start: offsets.start,
        next_offset: offsets.end,
        records: offsets.map(record).collect(),
        trouble: None,
    }
}

#[test]
fn records_and_one_of_them_at_80_by_24() {
    let mut app = app();
    press_all(&mut app, &[KeyCode::Enter]);
    app.show(page(12_480..12_487), Edge::Last);
    assert_data_eq!(
        super::draw(&mut app, 80, 24),
        str![[r#"
sapwood top  data                                        2023-11-14 22:13:29 UTC
640 records/s  62.5 KiB/s  3.1 MiB  120 unsynced  3 topics  4 partitions
records/s                                          ▂▂▂▃▃▄▄▄▅▅▅▆▆▇▇▇███ max 740/s
 Topics   Groups  > orders > orders-0 100..12487
     OFFSET  TIME (UTC)               KEY            BYTES  VALUE
      12480  2023-11-14 22:13:20.000  alice             25  paid/x1b]0;owned/x0…
      12481  2023-11-14 22:13:20.000  (null)            25  paid/x1b]0;owned/x0…
      12482  2023-11-14 22:13:20.000  alice             25  paid/x1b]0;owned/x0…
      12483  2023-11-14 22:13:20.000  (null)            25  paid/x1b]0;owned/x0…
      12484  2023-11-14 22:13:20.000  alice             25  paid/x1b]0;owned/x0…
      12485  2023-11-14 22:13:20.000  (null)            25  paid/x1b]0;owned/x0…
      12486  2023-11-14 22:13:20.000  alice             25  paid/x1b]0;owned/x0…










records as they were when the page was read
q quit  Esc back  Enter record  PgUp PgDn Home End page  g offset  ? help

"#]]
    );
    press_all(&mut app, &[KeyCode::Up, KeyCode::Enter]);
    assert_data_eq!(
        super::draw(&mut app, 80, 24),
        str![[r#"
sapwood top  data                                        2023-11-14 22:13:29 UTC
640 records/s  62.5 KiB/s  3.1 MiB  120 unsynced  3 topics  4 partitions
records/s                                          ▂▂▂▃▃▄▄▄▅▅▅▆▆▇▇▇███ max 740/s
 Topics   Groups  > orders > orders-0 100..12487 > orders-0@12485
offset     12485
time       2023-11-14 22:13:20.000 UTC
key        (null)
header trace 7f
header none (null)
value      paid/x1b]0;owned/x07 /xff
           and/tsent












q quit  Esc back  arrows scroll  ? help

"#]]
    );
    // What compares the screens takes one slash for the other.
    assert!(super::draw(&mut app, 80, 24).contains(r"paid\x1b]0;owned\x07 \xff"));
}

#[test]
fn help_at_80_by_24() {
    let mut app = app();
    press_all(&mut app, &[KeyCode::Char('?')]);
    assert_data_eq!(
        super::draw(&mut app, 80, 24),
        str![[r#"
sapwood top  data                                        2023-11-14 22:13:29 UTC
640 records/s  62.5 KiB/s  3.1 MiB  120 unsynced  3 topics  4 partitions
records/s                                          ▂▂▂▃▃▄▄▄▅▅▅▆▆▇▇▇███ max 740/s
 Top┌ any key closes this ─────────────────────────────────────────────────┐DS/S
TOPI│Up Down j k     choose a row            Enter Right   open it         │N
orde│PgUp PgDn       a page                  Esc Left      back            │
audi│Home End        the first, the last     Tab           topics, groups  │
paym│s r             sort, reverse           /             filter          │
    │g               go to an offset         q Ctrl-C      quit            │
    │                                                                      │
    │Everything is read from the directory; nothing is written to it and   │
    │nothing locked. Counters of the process that writes are not to be seen│
    │from outside, so:                                                     │
    │- rates are what offsets and sizes have grown by,                     │
    │- a SYNC SEEN is how far the recovery point has moved between two     │
    │  looks: one sync, or several in quick succession,                    │
    │- UNSYNCED is what lies behind the recovery point,                    │
    │- HORIZON is the limit nearest by: age of the oldest record of        │
    │  retention.ms, size of retention.bytes or max.bytes,                 │
    │- BEHIND is the lag as a share of what can be read.                   │
    └──────────────────────────────────────────────────────────────────────┘

read from disk every 0.5 s; a sync seen is what got synced between two looks
q quit  Enter open  Tab groups  s sort  r reverse  / filter  ? help

"#]]
    );
    press_all(&mut app, &[KeyCode::Char('q')]);
    assert!(!app.is_help_shown, "the key has closed it, and not the program");
}

#[test]
fn a_screen_too_small_for_anything_says_so() {
    assert_data_eq!(
        super::draw(&mut app(), 20, 10),
        str![[r#"
the terminal has 20
columns and 10 rows,
and `sapwood top`
wants at least 40 by
10: enlarge it, or
press q





"#]]
    );
}

#[test]
fn every_view_is_drawn_at_every_size() {
    let views: [&[KeyCode]; 5] = [
        &[],
        &[KeyCode::Enter],
        &[KeyCode::Tab],
        &[KeyCode::Tab, KeyCode::Enter],
        &[KeyCode::Char('?')],
    ];
    for keys in views {
        let mut app = app();
        press_all(&mut app, keys);
        for width in (1..210).step_by(3) {
            for height in [1, 2, 9, 10, 11, 19, 20, 39, 40, 60] {
                super::draw(&mut app, width, height);
            }
        }
    }
}

#[test]
fn a_partition_that_cannot_be_read_says_why_and_the_others_go_on() {
    let mut app = app();
    let mut damaged = look(20);
    damaged.topics[1].partitions[1].trouble = Some("x.log is damaged at bytes 1..2".to_owned());
    app.observe(damaged);
    press_all(&mut app, &[KeyCode::Enter, KeyCode::End]);
    let screen = super::draw(&mut app, 80, 24);
    assert!(screen.contains("x.log is damaged at bytes 1..2"), "{screen}");
    press_all(&mut app, &[KeyCode::Home]);
    let screen = super::draw(&mut app, 80, 24);
    assert!(!screen.contains("damaged"), "{screen}");
}

#[test]
fn what_is_typed_filters_at_once_and_escape_takes_it_away() {
    let mut app = app();
    type_text(&mut app, "/pay");
    let screen = super::draw(&mut app, 80, 24);
    assert!(screen.contains("payments") && !screen.contains("orders"), "{screen}");
    press_all(&mut app, &[KeyCode::Enter]);
    assert!(super::draw(&mut app, 80, 24).contains("filter: pay"));
    press_all(&mut app, &[KeyCode::Esc]);
    assert!(super::draw(&mut app, 80, 24).contains("orders"));
}

fn order_of(app: &mut App) -> Vec<String> {
    app.grid().unwrap().rows.into_iter().map(|row| row.id).collect()
}

#[test]
fn lists_are_sorted_by_what_does_most_and_by_any_other_column() {
    let mut app = app();
    assert_eq!(order_of(&mut app), ["orders", "audit", "payments"]);
    press_all(&mut app, &[KeyCode::Char('r')]);
    assert_eq!(order_of(&mut app), ["audit", "payments", "orders"]);
    press_all(&mut app, &[KeyCode::Char('r'), KeyCode::Char('s'), KeyCode::Char('s')]);
    assert_eq!(order_of(&mut app), ["orders", "payments", "audit"], "by records");
}

#[test]
fn one_goes_into_a_topic_its_partition_and_through_its_records() {
    let mut app = app();
    press_all(&mut app, &[KeyCode::Enter, KeyCode::Down]);
    let read = |partition, from, edge| Request::Read {
        of: TopicPartition::new("orders", partition),
        from,
        edge,
    };
    assert_eq!(press(&mut app, KeyCode::Enter), read(1, From::End, Edge::Last));
    app.show(page(200..210), Edge::First);
    let asked = |app: &mut App, code| press(app, code);
    assert_eq!(asked(&mut app, KeyCode::PageDown), read(0, From::Offset(210), Edge::First));
    assert_eq!(asked(&mut app, KeyCode::PageUp), read(0, From::Before(200), Edge::First));
    assert_eq!(asked(&mut app, KeyCode::Up), read(0, From::Before(200), Edge::Last));
    assert_eq!(asked(&mut app, KeyCode::Home), read(0, From::Offset(0), Edge::First));
    assert_eq!(asked(&mut app, KeyCode::End), read(0, From::End, Edge::Last));
    type_text(&mut app, "g1x7");
    assert_eq!(asked(&mut app, KeyCode::Enter), read(0, From::Offset(17), Edge::First));
    app.show(page(12_480..12_487), Edge::Last);
    assert_eq!(asked(&mut app, KeyCode::Down), read(0, From::End, Edge::Last), "looks again");
    press_all(&mut app, &[KeyCode::Esc, KeyCode::Esc]);
    assert_eq!(order_of(&mut app), ["orders", "audit", "payments"]);
}

#[test]
fn a_group_leads_to_the_record_it_reads_next() {
    let mut app = app();
    press_all(&mut app, &[KeyCode::Tab, KeyCode::Enter]);
    let of = TopicPartition::new("orders", 0);
    let expected = Request::Read { of, from: From::Offset(2_000), edge: Edge::First };
    assert_eq!(press(&mut app, KeyCode::Enter), expected);
}

#[test]
fn a_topic_that_is_deleted_while_it_is_looked_into_is_said_to_be_gone() {
    let mut app = app();
    press_all(&mut app, &[KeyCode::Enter]);
    let mut without = look(20);
    without.topics.remove(1);
    app.observe(without);
    assert!(super::draw(&mut app, 80, 24).contains("the topic is gone"));
    assert_eq!(press(&mut app, KeyCode::Enter), Request::Nothing);
}

#[test]
fn q_and_ctrl_c_end_it_but_not_while_a_filter_is_typed() {
    let mut app = app();
    type_text(&mut app, "/q");
    let ctrl_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert_eq!(app.key(ctrl_c), Request::Interrupt);
    press_all(&mut app, &[KeyCode::Esc]);
    assert_eq!(press(&mut app, KeyCode::Char('q')), Request::Quit);
}
