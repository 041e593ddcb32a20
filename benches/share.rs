//! What handing out records one by one costs: a share group beside a plain consumer of the same log.
//!
//! ```text
//! cargo bench --bench share    # some seconds
//! ```
//!
//! One thread reads a log that is in the page cache, records of 100 bytes in batches of 150. The plain
//! consumer commits after every poll without waiting for the disk; the worker accepts every poll as a whole.
//! Both are told once more per durability of the topic; under `Fsync` the worker's acknowledgements wait for
//! the disk, as many times as there are polls.

mod timing;

use std::time::Duration;

use sapwood::{Broker, Durability, Record, TopicConfig};

use timing::{median, rate, scratch};

const ROUNDS: usize = 7;
const RECORDS: u64 = 600_000;
const VALUE: [u8; 100] = [b'v'; 100];

fn filled(broker: &Broker, name: &str, durability: Durability) {
    let topic = broker.create_topic(name, TopicConfig::default().durability(durability)).unwrap();
    let partition = topic.partition(0).unwrap();
    let batch = vec![Record::new(&VALUE); 150];
    (0..RECORDS / 150).for_each(|_| drop(partition.append(&batch).unwrap()));
    partition.flush().unwrap();
}

fn plain(broker: &Broker, topic: &str, group: &str, per_poll: usize) -> f64 {
    let consumer = broker.consumer().group(group).auto_commit(None).max_poll_records(per_poll);
    let mut consumer = consumer.subscribe([topic]).unwrap();
    rate(RECORDS, || {
        let mut read = 0;
        while read < RECORDS {
            let records = consumer.poll(Duration::ZERO).unwrap();
            read += records.iter().filter(|record| record.value().is_some()).count() as u64;
            consumer.commit_async().unwrap();
        }
    })
}

fn shared(broker: &Broker, topic: &str, group: &str, per_poll: usize) -> f64 {
    let worker = broker.share_consumer(group).max_poll_records(per_poll).max_in_flight(20_000);
    let mut worker = worker.subscribe([topic]).unwrap();
    rate(RECORDS, || {
        let mut read = 0;
        while read < RECORDS {
            let records = worker.poll(Duration::ZERO).unwrap();
            read += records.iter().filter(|record| record.value().is_some()).count() as u64;
            records.accept_all().unwrap();
        }
    })
}

fn main() {
    // Cargo asks every target for its tests.
    if std::env::args().any(|argument| argument == "--test" || argument == "--list") {
        return;
    }
    let directory = scratch();
    let broker = Broker::open(directory.path()).unwrap();
    filled(&broker, "written", Durability::Written { flush_interval: Duration::from_secs(1) });
    filled(&broker, "synced", Durability::Fsync);
    for (topic, per_poll) in [("written", 500), ("written", 10_000), ("synced", 10_000)] {
        let (mut plains, mut shares, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            let group = format!("{topic}-{per_poll}-{round}");
            let (plain, shared) =
                (plain(&broker, topic, &group, per_poll), shared(&broker, topic, &group, per_poll));
            plains.push(plain);
            shares.push(shared);
            ratios.push(shared / plain);
        }
        println!(
            "{topic}, {per_poll} per poll: consumer {:.1} M/s, share group {:.1} M/s, ratio {:.2} target 0.33",
            median(plains.into_iter()) / 1e6,
            median(shares.into_iter()) / 1e6,
            median(ratios.into_iter())
        );
    }
    broker.close().unwrap();
}
