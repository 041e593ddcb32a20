//! Row R10: what a record costs, whatever the number of partitions.

use sapwood::{Broker, Record};

use crate::measure::{Pairs, Report, Target};
use crate::producing::{VALUE, topic, written};
use crate::timing::{scratch, seconds};

/// R10: one thread that sends a run of records to each partition in turn, to 1 and to 256.
pub fn partitions(report: &mut Report) {
    const RECORDS: u32 = 512 * 1024;
    let directory = scratch();
    let broker = Broker::open(directory.path()).unwrap();
    let producer = broker.producer().build().unwrap();
    let topics = [1, 256].map(|count| topic(&broker, &format!("of-{count}"), count, written()));
    let send = |topic: &sapwood::Topic| {
        let count = topic.partition_count();
        let took = seconds(|| {
            for n in 0..RECORDS {
                let record = Record::new(&VALUE).partition(n / 128 % count);
                producer.send(topic, record).unwrap();
            }
            producer.flush().unwrap();
        });
        topic.partitions().iter().for_each(|partition| partition.flush().unwrap());
        took / f64::from(RECORDS) * 1e9
    };
    let pairs = Pairs::of(5, || send(&topics[0]), || send(&topics[1]));
    let detail = format!(
        "time per record: 1 partition {:.0} ns, 256 partitions {:.0} ns",
        pairs.bare(),
        pairs.ours()
    );
    report.row("R10a", pairs.ratio(), Target::Most(1.25), &detail);
    let records: u64 = topics[0].partitions().iter().map(|log| log.log_end_offset()).sum();
    let bytes = topics[0].size() as f64 / records as f64;
    let detail = format!("{bytes:.1} B on disk per record of 100 B, of 112 B at most");
    report.row("R10b", bytes / 112.0, Target::Most(1.0), &detail);
}
