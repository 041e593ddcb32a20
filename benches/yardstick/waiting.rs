//! Row R7: from a send to a consumer that is blocked in a poll.

use std::time::Duration;

use sapwood::Broker;

use crate::bare;
use crate::bare::growing::Growing;
use crate::bare::hand_over::{hand_over, stored_hand_over};
use crate::measure::{Report, Target};
use crate::producing::{VALUE, topic, written};
use crate::timing::fixed_rate::{Deliveries, Load, send_to_poll};
use crate::timing::{percentiles, permille, scratch};

const TIME: Duration = Duration::from_millis(600);

/// R7: at fixed rates, beside a hand-over from thread to thread; and beside one that stores each record
/// into a file that grows on the way.
pub fn send_to_seen(report: &mut Report) {
    let directory = scratch();
    let broker = Broker::open(directory.path()).unwrap();
    let mut batch = Vec::new();
    bare::batch(&mut batch, 1, &VALUE);
    for (name, per_second) in [("R7a", 10_000), ("R7b", 100_000)] {
        let load = Load { per_second, time: TIME };
        let rounds: Vec<_> = (0..11)
            .map(|round| {
                let bare = hand_over(load);
                let mut file = Growing::new(&directory.path().join("growing"));
                let stored = stored_hand_over(load, &mut file, &batch);
                let topic = topic(&broker, &format!("{name}-{round}"), 1, written());
                (bare, stored, send_to_poll(&broker, &topic, load, Deliveries::Dropped))
            })
            .collect();
        for (part, percentile) in [(500, "p50"), (990, "p99")] {
            let name = format!("{name}-{percentile}");
            let detail = format!("{per_second}/s, Written, no linger");
            let plain = rounds.iter().map(|(bare, _, ours)| (bare, ours)).collect();
            row(report, &name, part, plain, &detail);
            let stored = rounds.iter().map(|(_, stored, ours)| (stored, ours)).collect();
            let detail = format!("{detail}, the bare hand-over with a store into a growing file");
            row(report, &format!("{name}-growing"), part, stored, &detail);
        }
    }
}

/// The middle one of rounds, which are latencies of the bare machine and ours.
fn row(
    report: &mut Report,
    name: &str,
    part: usize,
    mut rounds: Vec<(&Vec<Duration>, &Vec<Duration>)>,
    detail: &str,
) {
    let ratio = |(bare, ours): &(&Vec<Duration>, &Vec<Duration>)| {
        permille(ours, part).as_secs_f64() / permille(bare, part).as_secs_f64()
    };
    rounds.sort_by(|a, b| ratio(a).total_cmp(&ratio(b)));
    let middle = &rounds[rounds.len() / 2];
    let (bare, ours) = (percentiles(middle.0), percentiles(middle.1));
    let detail = format!("{detail}: bare {bare}; sapwood {ours}");
    report.row(name, ratio(middle), Target::Most(1.5), &detail);
}
