//! What happens beside a sync, and what lies behind the end of a log (faults F8, F10, F12; clauses 3,
//! 6, 13).

use std::sync::{Arc, Mutex};
use std::time::Duration;

use sapwood::{
    Broker, Delivery, DiskCallKind, Durability, PowerLoss, Record, SimulatedDisk, Topic,
    TopicConfig, Verdict,
};

use super::journal::open;

fn topic(disk: &SimulatedDisk, durability: Durability) -> (Broker, Topic) {
    let broker = open(disk).unwrap();
    let settings = TopicConfig::default().durability(durability);
    let topic = broker.create_topic("orders", settings).unwrap();
    (broker, topic)
}

fn values(disk: &SimulatedDisk) -> Vec<Vec<u8>> {
    values_in(&open(disk).unwrap())
}

fn values_in(broker: &Broker) -> Vec<Vec<u8>> {
    let mut consumer = broker.consumer().subscribe(["orders"]).unwrap();
    let mut values = Vec::new();
    loop {
        let records = consumer.poll(Duration::ZERO).unwrap();
        if records.is_empty() {
            return values;
        }
        values.extend(records.iter().map(|record| record.value().unwrap().to_vec()));
    }
}

/// Sends a record while a sync is under way that was begun for another one.
pub(super) fn send_during_sync() -> Result<(), String> {
    let disk = SimulatedDisk::new();
    let (broker, orders) = topic(&disk, Durability::Fsync);
    let producer = broker.producer().linger(Duration::ZERO).build().unwrap();
    let late: Arc<Mutex<Option<Delivery>>> = Arc::default();
    let (sent, to) = (Arc::clone(&late), orders.clone());
    disk.on_call(move |call| {
        let is_segment = call.path.extension().is_some_and(|extension| extension == "log");
        if call.kind == DiskCallKind::Sync && is_segment {
            sent.lock()
                .unwrap()
                .get_or_insert_with(|| producer.send(&to, Record::new("late")).unwrap());
        }
        Verdict::Proceeds
    });
    orders.partition(0).unwrap().append(&[Record::new("first")]).unwrap();
    let answered = late.lock().unwrap().as_ref().expect("it was sent").poll().is_some();
    let visible = orders.partition(0).unwrap().high_watermark();
    disk.revive();
    let survived = values(&disk.power_loss(PowerLoss::LosesEverything)).len() as u64;
    let promised = if answered { 2 } else { 1 };
    if survived < promised || survived < visible {
        return Err(format!("{promised} answered, {visible} visible, {survived} survived"));
    }
    Ok(())
}

/// Valid batches lie behind a hole that a power cut has torn; the hole is filled by others of the same
/// size.
pub(super) fn fill_a_hole_before_valid_batches() -> Result<(), String> {
    let durability = Durability::Written { flush_interval: Duration::from_secs(1) };
    let mut holes = 0;
    for seed in 0..300 {
        let disk = SimulatedDisk::new();
        disk.set_mapped_tails(false);
        let (broker, orders) = topic(&disk, durability);
        let log = orders.partition(0).unwrap();
        // A batch is a sector: each is lost or kept by itself.
        let sector = |name: u8| vec![name; 512 - 70];
        log.append(&[Record::new(&sector(b'0'))]).unwrap();
        log.flush().unwrap();
        for name in b'1'..=b'4' {
            log.append(&[Record::new(&sector(name))]).unwrap();
        }
        assert_eq!(log.size(), 5 * 512, "a batch is a sector");
        drop((log, orders, broker));

        let disk = disk.power_loss(PowerLoss::Random(seed));
        let broker = open(&disk).unwrap();
        let survived = values_in(&broker);
        holes += u64::from(broker.recovery_report().cut().count() > 0);
        let log = broker.topic("orders").unwrap().partition(0).unwrap();
        log.append(&[Record::new(&sector(b'x'))]).unwrap();
        drop((log, broker));
        let expected = [&survived[..], &[sector(b'x')]].concat();
        if values(&disk) != expected {
            return Err(format!("seed {seed}: old batches came back behind new ones"));
        }
    }
    if holes < 20 { Err(format!("only {holes} holes were torn")) } else { Ok(()) }
}

#[test]
fn a_sync_answers_for_nothing_that_was_sent_after_it_began() {
    send_during_sync().unwrap();
}

#[test]
fn what_was_cut_off_never_comes_back() {
    fill_a_hole_before_valid_batches().unwrap();
}

#[test]
fn however_slow_the_disk_is_one_sync_serves_all_who_wait() {
    let disk = SimulatedDisk::new();
    let (broker, orders) = topic(&disk, Durability::Fsync);
    disk.set_sync_delay(Duration::from_millis(20));
    let before = broker.metrics().unwrap().syncs;
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                for _ in 0..4 {
                    orders.partition(0).unwrap().append(&[Record::new("x")]).unwrap();
                }
            });
        }
    });
    let syncs = broker.metrics().unwrap().syncs - before;
    assert!(syncs <= 40, "64 appends by 16 threads took {syncs} syncs");
    assert_eq!(values(&disk.power_loss(PowerLoss::LosesEverything)).len(), 64);
}
