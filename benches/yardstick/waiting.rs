//! Row R7: from a send to a consumer that is blocked in a poll.

use std::time::Duration;

use sapwood::Broker;

use crate::bare::hand_over::hand_over;
use crate::measure::{Report, Target};
use crate::producing::{topic, written};
use crate::timing::fixed_rate::{Deliveries, Load, send_to_poll};
use crate::timing::{percentiles, permille, scratch};

const TIME: Duration = Duration::from_millis(600);

/// R7: at fixed rates, beside a hand-over from thread to thread.
pub fn send_to_seen(report: &mut Report) {
    let directory = scratch();
    let broker = Broker::open(directory.path()).unwrap();
    for (name, per_second) in [("R7a", 10_000), ("R7b", 100_000)] {
        let load = Load { per_second, time: TIME };
        let mut rounds: Vec<_> = (0..5)
            .map(|round| {
                let bare = hand_over(load);
                let topic = topic(&broker, &format!("{name}-{round}"), 1, written());
                (bare, send_to_poll(&broker, &topic, load, Deliveries::Dropped))
            })
            .collect();
        for (part, percentile) in [(500, "p50"), (990, "p99")] {
            let ratio = |(bare, ours): &(Vec<Duration>, Vec<Duration>)| {
                permille(ours, part).as_secs_f64() / permille(bare, part).as_secs_f64()
            };
            rounds.sort_by(|a, b| ratio(a).total_cmp(&ratio(b)));
            let middle = &rounds[rounds.len() / 2];
            let (bare, ours) = (percentiles(&middle.0), percentiles(&middle.1));
            let detail = format!("{per_second}/s, Written, no linger: bare {bare}; sapwood {ours}");
            let name = format!("{name}-{percentile}");
            report.row(&name, ratio(middle), Target::Most(1.5), &detail);
        }
    }
}
