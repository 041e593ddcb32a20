//! Goal: what a producer has been answered for is what a consumer reads, from a real directory and
//! after it was closed and opened again.
//!
//! Method: several threads send records that say who sent them and in which order; then the
//! directory is opened again and each key's records are compared with what was sent.

use std::collections::BTreeMap;
use std::time::Duration;

use sapwood::{Broker, Compression, Record, TopicConfig};

const THREADS: usize = 4;
const RECORDS: usize = 2_000;

#[test]
fn every_record_is_read_back_in_the_order_of_its_key() {
    let directory = tempfile::tempdir().unwrap();
    let broker = Broker::open(directory.path()).unwrap();
    let config =
        TopicConfig::default().partitions(3).segment_bytes(64 << 10).max_message_bytes(8_192);
    let topic = broker.create_topic("orders", config).unwrap();
    let producer = broker.producer().compression(Compression::Lz4).build().unwrap();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (producer, topic) = (producer.clone(), &topic);
            scope.spawn(move || {
                let key = format!("key-{thread}");
                for n in 0..RECORDS {
                    producer.send(topic, Record::new(&n.to_string()).key(&key)).unwrap();
                }
            });
        }
    });
    producer.flush().unwrap();
    broker.close().unwrap();
    drop((producer, topic, broker));

    let broker = Broker::open(directory.path()).unwrap();
    let mut consumer = broker.consumer().group("audit").subscribe(["orders"]).unwrap();
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let text = |bytes: Option<&[u8]>| String::from_utf8(bytes.unwrap().to_vec()).unwrap();
    while found.values().map(Vec::len).sum::<usize>() < THREADS * RECORDS {
        let records = consumer.poll(Duration::from_secs(60)).unwrap();
        assert!(records.iter().next().is_some(), "records are missing");
        for record in &records {
            found.entry(text(record.key())).or_default().push(text(record.value()));
        }
    }
    let sent: Vec<_> = (0..RECORDS).map(|n| n.to_string()).collect();
    for thread in 0..THREADS {
        assert_eq!(found[&format!("key-{thread}")], sent);
    }
}
