//! What groups cost: dividing partitions anew when somebody comes or goes, and a poll that finds nothing
//! to do for its group.
//!
//! ```text
//! cargo bench --bench rebalance    # some seconds
//! ```
//!
//! All members are on one thread, so a time is the work of all of them together: joining, computing the
//! assignment, every poll that gives back and takes, looking up what was committed. A poll of a member
//! stands beside one of a consumer that was assigned its partitions by hand.

mod timing;

use std::time::Duration;

use sapwood::{Broker, Consumer, GroupState, Record, TopicConfig, TopicPartition};

use timing::{median, time, times};

const ROUNDS: usize = 15;
const POLLS: u64 = 200_000;

fn broker(partitions: u32) -> Broker {
    let broker = Broker::in_memory().unwrap();
    let topic = broker.create_topic("log", TopicConfig::default().partitions(partitions)).unwrap();
    topic.partition(0).unwrap().append(&[Record::new("value")]).unwrap();
    broker
}

fn join(broker: &Broker) -> Consumer {
    broker.consumer().group("g").auto_commit(None).subscribe(["log"]).unwrap()
}

/// Has everybody poll until all partitions are where they belong.
fn settle(broker: &Broker, members: &mut [Consumer]) {
    while broker.describe_group("g").unwrap().unwrap().state != GroupState::Stable {
        for member in &mut *members {
            member.poll(Duration::ZERO).unwrap();
        }
    }
}

fn rebalances(partitions: u32, count: usize) {
    let broker = broker(partitions);
    let mut members: Vec<Consumer> = (1..count).map(|_| join(&broker)).collect();
    settle(&broker, &mut members);
    let (mut joins, mut leaves) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let join = time(|| {
            members.push(join(&broker));
            settle(&broker, &mut members);
        });
        let leave = time(|| {
            members.pop();
            settle(&broker, &mut members);
        });
        joins.push(join);
        leaves.push(leave);
    }
    let start = (0..ROUNDS).map(|_| {
        members.clear();
        let start = time(|| {
            members.extend((0..count).map(|_| join(&broker)));
            settle(&broker, &mut members);
        });
        start.as_secs_f64()
    });
    let all = median(start) * 1e3;
    let milliseconds = |took: &[Duration]| median(took.iter().map(Duration::as_secs_f64)) * 1e3;
    println!(
        "{count:>3} members, {partitions:>5} partitions: one joins {:.2} ms, one leaves {:.2} ms, \
         all come {all:.2} ms",
        milliseconds(&joins),
        milliseconds(&leaves)
    );
}

fn polls() {
    let broker = broker(1);
    let of = [TopicPartition::new("log", 0)];
    let mut by_hand = broker.consumer().auto_commit(None).assign(of).unwrap();
    let mut member = join(&broker);
    let nanoseconds = |consumer: &mut Consumer| {
        let took = times(POLLS, || {
            consumer.poll(Duration::ZERO).unwrap();
        });
        took.as_secs_f64() * 1e9 / POLLS as f64
    };
    let rounds: Vec<_> =
        (0..ROUNDS).map(|_| (nanoseconds(&mut by_hand), nanoseconds(&mut member))).collect();
    let by_hand = median(rounds.iter().map(|round| round.0));
    let member = median(rounds.iter().map(|round| round.1));
    let ratio = median(rounds.iter().map(|round| round.1 / round.0));
    println!(
        "a poll that finds nothing: assigned by hand {by_hand:.0} ns, member of a group {member:.0} ns, \
         ratio {ratio:.2}"
    );
}

fn main() {
    // Cargo asks every target for its tests.
    if std::env::args().any(|argument| argument == "--test" || argument == "--list") {
        return;
    }
    for (partitions, members) in [(64, 4), (1_024, 8), (1_024, 64)] {
        rebalances(partitions, members);
    }
    polls();
}
