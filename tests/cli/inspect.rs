//! `dump`, `verify`, `salvage` and `backup`, over directories that are intact and such as are not.

use std::fs;

use sapwood::{Broker, Durability, Record, TopicConfig};
use snapbox::str;

use crate::scene::{Scene, content};

const LOG: &str = "data/orders-1/00000000000000000000.log";

/// The first of the three batches of `orders-1` has a wrong byte.
fn damaged() -> Scene {
    let scene = Scene::with_group();
    let path = scene.path().join(LOG);
    let mut bytes = fs::read(&path).unwrap();
    bytes[70] ^= 0x40;
    fs::write(path, bytes).unwrap();
    scene
}

#[test]
fn verify_says_that_all_is_intact() {
    let scene = Scene::with_orders();
    scene.run("verify").assert().success().stderr_eq("").stdout_eq(str![[r#"
TOPIC   PARTITIONS  BATCHES  RECORDS   SIZE  VERDICT
empty            1        0        0    0 B  intact
orders           2        6        6  516 B  intact

"#]]);
    scene.run("verify --threads 1 --json").assert().success().stdout_eq(str![[r#"
{"complete":true,"intact":true,"partitions":[{"topic":"empty","partition":0,"batches":0,"records":0,"bytes":0,"damage":[]},{"topic":"orders","partition":0,"batches":3,"records":3,"bytes":261,"damage":[]},{"topic":"orders","partition":1,"batches":3,"records":3,"bytes":255,"damage":[]}]}

"#]]);
}

#[test]
fn verify_goes_on_behind_damage_and_fails() {
    let scene = damaged();
    let before = content(&scene.data());
    scene.run("verify").assert().code(5).stdout_eq(str![[r#"
TOPIC               PARTITIONS  BATCHES  RECORDS   SIZE  VERDICT
__consumer_offsets           1        1        2  183 B  intact
empty                        1        0        0    0 B  intact
orders                       2        5        5  431 B  damaged (1)

"#]]).stderr_eq(str![[r#"
warning: the directory cannot be opened: data/orders-1/00000000000000000000.log is damaged at bytes 0..255 (orders-1, offsets 0..3): checksum is 0xaa8f0f33, expected 0x3d78e11a
data/orders-1/00000000000000000000.log at bytes 0..85 (offsets 0..1): the checksum is wrong
error: 1 place in 1 partition damaged; nothing was changed; `sapwood salvage` makes a new directory of what is intact, `sapwood dump` shows what lies there

"#]]);
    scene.run("verify --json").assert().code(5).stdout_eq(str![[r#"
{"complete":true,"intact":false,"partitions":[{"topic":"__consumer_offsets","partition":0,"batches":1,"records":2,"bytes":183,"damage":[]},{"topic":"empty","partition":0,"batches":0,"records":0,"bytes":0,"damage":[]},{"topic":"orders","partition":0,"batches":3,"records":3,"bytes":261,"damage":[]},{"topic":"orders","partition":1,"batches":2,"records":2,"bytes":170,"damage":[{"path":"data/orders-1/00000000000000000000.log","bytes":[0,85],"offsets":[0,1],"reason":"the checksum is wrong"}]}]}

"#]]);
    assert_eq!(content(&scene.data()), before);
}

#[test]
fn dump_speaks_as_kafkas_tool_does() {
    let scene = Scene::with_orders();
    scene.run_with(["dump", "--print-data-log", LOG]).assert().success().stdout_eq(str![[r#"
Dumping data/orders-1/00000000000000000000.log
Log starting offset: 0
baseOffset: 0 lastOffset: 0 count: 1 baseSequence: -1 lastSequence: -1 producerId: -1 producerEpoch: -1 partitionLeaderEpoch: 0 isTransactional: false isControl: false deleteHorizonMs: OptionalLong.empty position: 0 CreateTime: 1700000000000 size: 85 magic: 2 compresscodec: none crc: 1031332122 isvalid: true
| offset: 0 CreateTime: 1700000000000 keySize: 3 valueSize: 4 sequence: -1 headerKeys: [from] key: bob payload: paid
baseOffset: 1 lastOffset: 1 count: 1 baseSequence: -1 lastSequence: -1 producerId: -1 producerEpoch: -1 partitionLeaderEpoch: 0 isTransactional: false isControl: false deleteHorizonMs: OptionalLong.empty position: 85 CreateTime: 1700000001000 size: 85 magic: 2 compresscodec: none crc: 2811114560 isvalid: true
| offset: 1 CreateTime: 1700000001000 keySize: 3 valueSize: 4 sequence: -1 headerKeys: [from] key: bob payload: sent
baseOffset: 2 lastOffset: 2 count: 1 baseSequence: -1 lastSequence: -1 producerId: -1 producerEpoch: -1 partitionLeaderEpoch: 0 isTransactional: false isControl: false deleteHorizonMs: OptionalLong.empty position: 170 CreateTime: 1700000002000 size: 85 magic: 2 compresscodec: none crc: 1416622011 isvalid: true
| offset: 2 CreateTime: 1700000002000 keySize: 3 valueSize: 4 sequence: -1 headerKeys: [from] key: bob payload: lost

"#]]);
    scene.run("dump --topic orders --partition 0").assert().success().stdout_eq(str![[r#"
topic: orders topicId: [..] state: Live retention.ms=-1
partition: orders-0 topicId: [..] recoveryPoint: 3 segment: 0 position: 261 logStartOffset: 0
Dumping data/orders-0/00000000000000000000.log
Log starting offset: 0
baseOffset: 0 lastOffset: 0 count: 1 baseSequence: -1 lastSequence: -1 producerId: -1 producerEpoch: -1 partitionLeaderEpoch: 0 isTransactional: false isControl: false deleteHorizonMs: OptionalLong.empty position: 0 CreateTime: 1700000000000 size: 87 magic: 2 compresscodec: none crc: 3666164895 isvalid: true
baseOffset: 1 lastOffset: 1 count: 1 baseSequence: -1 lastSequence: -1 producerId: -1 producerEpoch: -1 partitionLeaderEpoch: 0 isTransactional: false isControl: false deleteHorizonMs: OptionalLong.empty position: 87 CreateTime: 1700000001000 size: 87 magic: 2 compresscodec: none crc: 83458977 isvalid: true
baseOffset: 2 lastOffset: 2 count: 1 baseSequence: -1 lastSequence: -1 producerId: -1 producerEpoch: -1 partitionLeaderEpoch: 0 isTransactional: false isControl: false deleteHorizonMs: OptionalLong.empty position: 174 CreateTime: 1700000002000 size: 87 magic: 2 compresscodec: none crc: 2417370632 isvalid: true

"#]]);
    scene.run_with(["dump", "--json", "--deep-iteration", "--print-data-log", LOG]);
    let json = scene.run_with(["dump", "--json", "--print-data-log", LOG]);
    json.assert().success().stdout_eq(str![[r#"
{"path":"data/orders-1/00000000000000000000.log","type":"file"}
{"base_offset":0,"base_sequence":-1,"base_timestamp":1700000000000,"codec":"none","control":false,"count":1,"crc":1031332122,"delete_horizon":null,"last_offset":0,"last_sequence":-1,"magic":2,"max_timestamp":1700000000000,"partition_leader_epoch":0,"position":0,"producer_epoch":-1,"producer_id":-1,"records":[{"header_names":["from"],"key":"bob","key_size":3,"offset":0,"sequence":-1,"timestamp":1700000000000,"value":"paid","value_size":4}],"size":85,"timestamp_type":"CreateTime","transactional":false,"type":"batch","valid":true}
{"base_offset":1,"base_sequence":-1,"base_timestamp":1700000001000,"codec":"none","control":false,"count":1,"crc":2811114560,"delete_horizon":null,"last_offset":1,"last_sequence":-1,"magic":2,"max_timestamp":1700000001000,"partition_leader_epoch":0,"position":85,"producer_epoch":-1,"producer_id":-1,"records":[{"header_names":["from"],"key":"bob","key_size":3,"offset":1,"sequence":-1,"timestamp":1700000001000,"value":"sent","value_size":4}],"size":85,"timestamp_type":"CreateTime","transactional":false,"type":"batch","valid":true}
{"base_offset":2,"base_sequence":-1,"base_timestamp":1700000002000,"codec":"none","control":false,"count":1,"crc":1416622011,"delete_horizon":null,"last_offset":2,"last_sequence":-1,"magic":2,"max_timestamp":1700000002000,"partition_leader_epoch":0,"position":170,"producer_epoch":-1,"producer_id":-1,"records":[{"header_names":["from"],"key":"bob","key_size":3,"offset":2,"sequence":-1,"timestamp":1700000002000,"value":"lost","value_size":4}],"size":85,"timestamp_type":"CreateTime","transactional":false,"type":"batch","valid":true}

"#]]);
}

#[test]
fn dump_shows_indexes_and_holds_them_against_the_batches() {
    let scene = Scene::with_orders();
    let broker = scene.open();
    let config = TopicConfig::default().index_interval_bytes(100).retention_ms(None);
    let indexed = broker.create_topic("indexed", config).unwrap().partition(0).unwrap();
    for second in 0..4 {
        let timestamp = sapwood::Timestamp::from_millis(1_700_000_000_000 + second * 1000);
        indexed.append(&[Record::new(&[b'x'; 100]).timestamp(timestamp)]).unwrap();
    }
    broker.close().unwrap();
    let index = "data/indexed-0/00000000000000000000.index";
    scene.run_with(["dump", "--index-sanity-check", index]).assert().success().stdout_eq(str![[
        r#"
Dumping data/indexed-0/00000000000000000000.index
offset: 1 position: 170
offset: 2 position: 340
offset: 3 position: 510

"#
    ]]);
    scene
        .run_with(["dump", "data/indexed-0/00000000000000000000.timeindex"])
        .assert()
        .success()
        .stdout_eq(str![[r#"
Dumping data/indexed-0/00000000000000000000.timeindex
timestamp: 1700000001000 offset: 1
timestamp: 1700000002000 offset: 2
timestamp: 1700000003000 offset: 3

"#]]);
    let mut bytes = fs::read(scene.path().join(index)).unwrap();
    bytes[7] ^= 1;
    fs::write(scene.path().join(index), bytes).unwrap();
    let check = scene.run("dump --topic indexed --index-sanity-check");
    check.assert().code(5).stdout_eq(str![[r#"
topic: indexed topicId: [..] state: Live index.interval.bytes=100 retention.ms=-1
partition: indexed-0 topicId: [..] recoveryPoint: 4 segment: 0 position: 680 logStartOffset: 0
Dumping data/indexed-0/00000000000000000000.log
Log starting offset: 0
baseOffset: 0 lastOffset: 0 count: 1 baseSequence: -1 lastSequence: -1 producerId: -1 producerEpoch: -1 partitionLeaderEpoch: 0 isTransactional: false isControl: false deleteHorizonMs: OptionalLong.empty position: 0 CreateTime: 1700000000000 size: 170 magic: 2 compresscodec: none crc: 2795801736 isvalid: true
baseOffset: 1 lastOffset: 1 count: 1 baseSequence: -1 lastSequence: -1 producerId: -1 producerEpoch: -1 partitionLeaderEpoch: 0 isTransactional: false isControl: false deleteHorizonMs: OptionalLong.empty position: 170 CreateTime: 1700000001000 size: 170 magic: 2 compresscodec: none crc: 2466092971 isvalid: true
baseOffset: 2 lastOffset: 2 count: 1 baseSequence: -1 lastSequence: -1 producerId: -1 producerEpoch: -1 partitionLeaderEpoch: 0 isTransactional: false isControl: false deleteHorizonMs: OptionalLong.empty position: 340 CreateTime: 1700000002000 size: 170 magic: 2 compresscodec: none crc: 4027944490 isvalid: true
baseOffset: 3 lastOffset: 3 count: 1 baseSequence: -1 lastSequence: -1 producerId: -1 producerEpoch: -1 partitionLeaderEpoch: 0 isTransactional: false isControl: false deleteHorizonMs: OptionalLong.empty position: 510 CreateTime: 1700000003000 size: 170 magic: 2 compresscodec: none crc: 724505045 isvalid: true
damaged: data/indexed-0/00000000000000000000.index is damaged: no batch at byte 171 ends with offset 1

"#]]);
}

#[test]
fn dump_tells_damage_and_shows_what_lies_behind_it() {
    let scene = damaged();
    scene
        .run_with(["dump", LOG])
        .assert()
        .code(5)
        .stdout_eq(str![[r#"
Dumping data/orders-1/00000000000000000000.log
Log starting offset: 0
baseOffset: 0 lastOffset: 0 count: 1 baseSequence: -1 lastSequence: -1 producerId: -1 producerEpoch: -1 partitionLeaderEpoch: 0 isTransactional: false isControl: false deleteHorizonMs: OptionalLong.empty position: 0 CreateTime: 1700000000000 size: 85 magic: 2 compresscodec: none crc: 1031332122 isvalid: false
baseOffset: 1 lastOffset: 1 count: 1 baseSequence: -1 lastSequence: -1 producerId: -1 producerEpoch: -1 partitionLeaderEpoch: 0 isTransactional: false isControl: false deleteHorizonMs: OptionalLong.empty position: 85 CreateTime: 1700000001000 size: 85 magic: 2 compresscodec: none crc: 2811114560 isvalid: true
baseOffset: 2 lastOffset: 2 count: 1 baseSequence: -1 lastSequence: -1 producerId: -1 producerEpoch: -1 partitionLeaderEpoch: 0 isTransactional: false isControl: false deleteHorizonMs: OptionalLong.empty position: 170 CreateTime: 1700000002000 size: 85 magic: 2 compresscodec: none crc: 1416622011 isvalid: true

"#]])
        .stderr_eq(str![[r#"
error: 1 place damaged; nothing was changed

"#]]);
    fs::write(scene.data().join("sapwood.topics"), "rubbish").unwrap();
    scene.run("dump --topic orders").assert().code(5).stdout_eq(str![[r#"
damaged: data/sapwood.topics is damaged: it does not end in a checksum
partition: orders-0 topicId: [..] recoveryPoint: 3 segment: 0 position: 261 logStartOffset: 0
Dumping data/orders-0/00000000000000000000.log
Log starting offset: 0
baseOffset: 0 lastOffset: 0 count: 1 baseSequence: -1 lastSequence: -1 producerId: -1 producerEpoch: -1 partitionLeaderEpoch: 0 isTransactional: false isControl: false deleteHorizonMs: OptionalLong.empty position: 0 CreateTime: 1700000000000 size: 87 magic: 2 compresscodec: none crc: 3666164895 isvalid: true
baseOffset: 1 lastOffset: 1 count: 1 baseSequence: -1 lastSequence: -1 producerId: -1 producerEpoch: -1 partitionLeaderEpoch: 0 isTransactional: false isControl: false deleteHorizonMs: OptionalLong.empty position: 87 CreateTime: 1700000001000 size: 87 magic: 2 compresscodec: none crc: 83458977 isvalid: true
baseOffset: 2 lastOffset: 2 count: 1 baseSequence: -1 lastSequence: -1 producerId: -1 producerEpoch: -1 partitionLeaderEpoch: 0 isTransactional: false isControl: false deleteHorizonMs: OptionalLong.empty position: 174 CreateTime: 1700000002000 size: 87 magic: 2 compresscodec: none crc: 2417370632 isvalid: true
partition: orders-1 topicId: [..] recoveryPoint: 3 segment: 0 position: 255 logStartOffset: 0
Dumping data/orders-1/00000000000000000000.log
Log starting offset: 0
baseOffset: 0 lastOffset: 0 count: 1 baseSequence: -1 lastSequence: -1 producerId: -1 producerEpoch: -1 partitionLeaderEpoch: 0 isTransactional: false isControl: false deleteHorizonMs: OptionalLong.empty position: 0 CreateTime: 1700000000000 size: 85 magic: 2 compresscodec: none crc: 1031332122 isvalid: false
baseOffset: 1 lastOffset: 1 count: 1 baseSequence: -1 lastSequence: -1 producerId: -1 producerEpoch: -1 partitionLeaderEpoch: 0 isTransactional: false isControl: false deleteHorizonMs: OptionalLong.empty position: 85 CreateTime: 1700000001000 size: 85 magic: 2 compresscodec: none crc: 2811114560 isvalid: true
baseOffset: 2 lastOffset: 2 count: 1 baseSequence: -1 lastSequence: -1 producerId: -1 producerEpoch: -1 partitionLeaderEpoch: 0 isTransactional: false isControl: false deleteHorizonMs: OptionalLong.empty position: 170 CreateTime: 1700000002000 size: 85 magic: 2 compresscodec: none crc: 1416622011 isvalid: true

"#]]);
}

#[test]
fn dump_refuses_what_is_no_file_of_a_segment() {
    let scene = Scene::with_orders();
    scene.run("dump none.log").assert().code(3).stderr_eq(str![[r#"
error: cannot open none.log: No such file or directory (os error 2)

"#]]);
    scene.run("dump data/sapwood.topics").assert().code(2).stderr_eq(str![[r#"
error: data/sapwood.topics is none of .log, .index and .timeindex; `sapwood dump` without files shows what the others say

"#]]);
    scene.run("dump --topic none").assert().code(3).stderr_eq(str![[r#"
error: there is no directory of topic "none", or of that partition

"#]]);
    scene.run("dump --dir none").assert().code(3);
}

#[test]
fn salvage_accounts_for_every_byte() {
    let scene = damaged();
    let before = content(&scene.data());
    let run = scene.run("salvage --to saved --files");
    run.assert()
        .code(5)
        .stdout_eq(str![[r#"
TOPIC               PARTITION  LOG-START  LOG-END  LOST
__consumer_offsets          0          0        2     0
empty                       0          0        0     0
orders                      0          0        3     0
orders                      1          0        3     1

BYTES        SIZE
copied      614 B
damaged      85 B
derived  32.5 KiB

FILE                                                      FROM    TO  BECAME
data/__consumer_offsets-0/00000000000000000000.log           0   183  copied
data/__consumer_offsets-0/00000000000000000000.timeindex     0    12  derived
data/__consumer_offsets-0/leader-epoch-checkpoint            0     8  derived
data/__consumer_offsets-0/partition.metadata                 0    43  derived
data/__consumer_offsets-0/watermark.checkpoint               0  8192  derived
data/empty-0/leader-epoch-checkpoint                         0     8  derived
data/empty-0/partition.metadata                              0    43  derived
data/empty-0/watermark.checkpoint                            0  8192  derived
data/orders-0/00000000000000000000.log                       0   261  copied
data/orders-0/00000000000000000000.timeindex                 0    12  derived
data/orders-0/leader-epoch-checkpoint                        0     8  derived
data/orders-0/partition.metadata                             0    43  derived
data/orders-0/watermark.checkpoint                           0  8192  derived
data/orders-1/00000000000000000000.log                       0    85  damaged
data/orders-1/00000000000000000000.log                      85   255  copied
data/orders-1/00000000000000000000.timeindex                 0    12  derived
data/orders-1/leader-epoch-checkpoint                        0     8  derived
data/orders-1/partition.metadata                             0    43  derived
data/orders-1/watermark.checkpoint                           0  8192  derived
data/sapwood.clean-shutdown                                  0    25  derived
data/sapwood.topics                                          0   252  derived

"#]])
        .stderr_eq(str![[r#"
error: 1 offset lost, 85 B of the old directory damaged; all else is in saved

"#]]);
    assert_eq!(content(&scene.data()), before);
    scene.run("verify --dir saved").assert().success();
    scene.run("consume orders --dir saved --format %p@%o\\n").assert().stdout_eq(str![[r#"
0@0
0@1
0@2
1@1
1@2

"#]]);
    scene.run("groups describe billing --dir saved").assert().success();
    scene.run("salvage --to saved").assert().code(8).stderr_eq(str![[r#"
error: cannot make a directory at saved: it exists and is not empty

"#]]);
    scene.run("salvage --to data/within").assert().code(8).stderr_eq(str![[r#"
error: cannot make a directory at data/within: it lies in the directory that is to be copied

"#]]);
}

#[test]
fn salvage_of_an_intact_directory_is_complete() {
    let scene = Scene::with_group();
    scene.run("salvage --to saved --json").assert().success().stdout_eq(str![[r#"
{"directory":"saved","complete":true,"partitions":[{"topic":"__consumer_offsets","partition":0,"log_start_offset":0,"log_end_offset":2,"lost":[]},{"topic":"empty","partition":0,"log_start_offset":0,"log_end_offset":0,"lost":[]},{"topic":"orders","partition":0,"log_start_offset":0,"log_end_offset":3,"lost":[]},{"topic":"orders","partition":1,"log_start_offset":0,"log_end_offset":3,"lost":[]}],"files":[{"path":"data/.lock","size":0,"parts":[]},{"path":"data/__consumer_offsets-0/00000000000000000000.index","size":0,"parts":[]},{"path":"data/__consumer_offsets-0/00000000000000000000.log","size":183,"parts":[{"bytes":[0,183],"fate":"copied"}]},{"path":"data/__consumer_offsets-0/00000000000000000000.timeindex","size":12,"parts":[{"bytes":[0,12],"fate":"derived"}]},{"path":"data/__consumer_offsets-0/leader-epoch-checkpoint","size":8,"parts":[{"bytes":[0,8],"fate":"derived"}]},{"path":"data/__consumer_offsets-0/partition.metadata","size":43,"parts":[{"bytes":[0,43],"fate":"derived"}]},{"path":"data/__consumer_offsets-0/watermark.checkpoint","size":8192,"parts":[{"bytes":[0,8192],"fate":"derived"}]},{"path":"data/empty-0/00000000000000000000.index","size":0,"parts":[]},{"path":"data/empty-0/00000000000000000000.log","size":0,"parts":[]},{"path":"data/empty-0/00000000000000000000.timeindex","size":0,"parts":[]},{"path":"data/empty-0/leader-epoch-checkpoint","size":8,"parts":[{"bytes":[0,8],"fate":"derived"}]},{"path":"data/empty-0/partition.metadata","size":43,"parts":[{"bytes":[0,43],"fate":"derived"}]},{"path":"data/empty-0/watermark.checkpoint","size":8192,"parts":[{"bytes":[0,8192],"fate":"derived"}]},{"path":"data/orders-0/00000000000000000000.index","size":0,"parts":[]},{"path":"data/orders-0/00000000000000000000.log","size":261,"parts":[{"bytes":[0,261],"fate":"copied"}]},{"path":"data/orders-0/00000000000000000000.timeindex","size":12,"parts":[{"bytes":[0,12],"fate":"derived"}]},{"path":"data/orders-0/leader-epoch-checkpoint","size":8,"parts":[{"bytes":[0,8],"fate":"derived"}]},{"path":"data/orders-0/partition.metadata","size":43,"parts":[{"bytes":[0,43],"fate":"derived"}]},{"path":"data/orders-0/watermark.checkpoint","size":8192,"parts":[{"bytes":[0,8192],"fate":"derived"}]},{"path":"data/orders-1/00000000000000000000.index","size":0,"parts":[]},{"path":"data/orders-1/00000000000000000000.log","size":255,"parts":[{"bytes":[0,255],"fate":"copied"}]},{"path":"data/orders-1/00000000000000000000.timeindex","size":12,"parts":[{"bytes":[0,12],"fate":"derived"}]},{"path":"data/orders-1/leader-epoch-checkpoint","size":8,"parts":[{"bytes":[0,8],"fate":"derived"}]},{"path":"data/orders-1/partition.metadata","size":43,"parts":[{"bytes":[0,43],"fate":"derived"}]},{"path":"data/orders-1/watermark.checkpoint","size":8192,"parts":[{"bytes":[0,8192],"fate":"derived"}]},{"path":"data/sapwood.clean-shutdown","size":25,"parts":[{"bytes":[0,25],"fate":"derived"}]},{"path":"data/sapwood.topics","size":252,"parts":[{"bytes":[0,252],"fate":"derived"}]}],"notes":[]}

"#]]);
    let _held = scene.open();
    scene.run("salvage --to again").assert().code(4);
    assert!(!scene.path().join("again").exists());
}

#[test]
fn a_backup_of_a_directory_in_use_is_a_directory_of_its_own() {
    let scene = Scene::with_group();
    let broker = scene.open();
    let run = scene.run("backup --to copy");
    run.assert().success().stderr_eq("").stdout_eq(str![[r#"
TOPIC               PARTITIONS  OFFSETS  LINKED  COPIED
__consumer_offsets           1        2     0 B   183 B
empty                        1        0     0 B     0 B
orders                       2        6     0 B   516 B
copied to copy: 0 B linked, 699 B copied

"#]]);
    let log = broker.topic("orders").unwrap().partition(0).unwrap();
    log.append(&[Record::new("later")]).unwrap();
    scene.run("consume orders --dir copy --partition 0 --format %o=%s\\n").assert().stdout_eq(
        str![[r#"
0=paid
1=paid
2=sent

"#]],
    );
    scene.run("topics delete orders --dir copy").assert().success();
    assert_eq!(log.log_end_offset(), 4);
    scene.run("backup --to copy").assert().code(8).stderr_eq(str![[r#"
error: cannot make a directory at copy: it exists and is not empty

"#]]);
    scene.run("backup --to data").assert().code(8).stderr_eq(str![[r#"
error: cannot make a directory at data: it lies in the directory that is to be copied

"#]]);
    scene.run("backup --to second --json").assert().success().stdout_eq(str![[r#"
{"directory":"second","bytes_linked":0,"bytes_copied":772,"partitions":[{"topic":"__consumer_offsets","partition":0,"log_start_offset":0,"end_offset":2,"bytes_linked":0,"bytes_copied":183},{"topic":"empty","partition":0,"log_start_offset":0,"end_offset":0,"bytes_linked":0,"bytes_copied":0},{"topic":"orders","partition":0,"log_start_offset":0,"end_offset":4,"bytes_linked":0,"bytes_copied":334},{"topic":"orders","partition":1,"log_start_offset":0,"end_offset":3,"bytes_linked":0,"bytes_copied":255}]}

"#]]);
}

/// Appends until the scope ends.
struct Writer(Option<std::thread::JoinHandle<u64>>, std::sync::Arc<std::sync::atomic::AtomicBool>);

impl Writer {
    fn start(broker: &Broker) -> Self {
        let config = TopicConfig::default()
            .durability(Durability::Written {
                flush_interval: std::time::Duration::from_millis(50),
            })
            .max_message_bytes(16 << 10)
            .segment_bytes(64 << 10);
        let log = broker.create_topic("fast", config).unwrap().partition(0).unwrap();
        let stop = std::sync::Arc::<std::sync::atomic::AtomicBool>::default();
        let stopped = stop.clone();
        let append = move || {
            let mut end = 0;
            while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
                let value = end.to_string();
                end = log.append(&[Record::new(&value)]).unwrap().offset + 1;
            }
            end
        };
        Self(Some(std::thread::spawn(append)), stop)
    }

    fn stop(mut self) -> u64 {
        self.1.store(true, std::sync::atomic::Ordering::Relaxed);
        self.0.take().unwrap().join().unwrap()
    }
}

#[test]
fn verify_and_backup_beside_a_writer_at_full_speed_find_nothing_wrong() {
    let scene = Scene::bare();
    let broker = scene.open();
    let writer = Writer::start(&broker);
    for round in 0..3 {
        scene.run("verify").assert().success().stderr_eq("");
        scene.run(&format!("backup --to copy{round}")).assert().success();
    }
    let end = writer.stop();
    assert!(broker.metrics().unwrap().segments_rolled > 3, "{end} records");
    for round in 0..3 {
        scene.run(&format!("verify --dir copy{round}")).assert().success().stderr_eq("");
        let copy = Broker::open(scene.path().join(format!("copy{round}"))).unwrap();
        let log = copy.topic("fast").unwrap().partition(0).unwrap();
        assert!(copy.recovery_report().clean_shutdown);
        assert!(log.log_end_offset() <= end);
        let mut consumer = copy.consumer().subscribe(["fast"]).unwrap();
        let mut next = 0;
        while next < log.log_end_offset() {
            for record in &consumer.poll(std::time::Duration::ZERO).unwrap() {
                assert_eq!(record.value(), Some(next.to_string().as_bytes()));
                next += 1;
            }
        }
    }
}

#[test]
fn verify_of_a_directory_that_cannot_be_opened_goes_file_by_file() {
    let scene = Scene::with_orders();
    fs::remove_file(scene.data().join("sapwood.topics")).unwrap();
    let run = scene.run("verify").assert();
    run.code(5).stdout_eq(str![[r#"
TOPIC   PARTITIONS  BATCHES  RECORDS   SIZE  VERDICT
-                1        0        0    0 B  damaged (1)
empty            1        0        0    0 B  intact
orders           2        6        6  516 B  intact

"#]]).stderr_eq(str![[r#"
warning: the directory cannot be opened: data/sapwood.topics is damaged: the file is missing, and the directory holds partition empty-0
data/sapwood.topics: the file is missing, and the directory holds partition empty-0
error: 1 place in 1 partition damaged; nothing was changed; `sapwood salvage` makes a new directory of what is intact, `sapwood dump` shows what lies there

"#]]);
    scene.run("verify --dir none").assert().code(3);
}
