//! Every row of the speed table in under two minutes: what the crate does beside the bare machine,
//! which does the same bytes with nothing around them, in turns and in the same run.
//!
//! ```text
//! cargo bench --bench yardstick            # all rows
//! cargo bench --bench yardstick -- R1 R5   # these
//! ```
//!
//! Per row it prints `row NAME ratio R target T`: the median over the rounds of one figure divided by
//! the other's in the same round. Rates are the crate's by the bare machine's (more is better, the
//! target is a least one), times likewise (less is better, a target at most). `SAPWOOD_BENCH_DIR` says
//! on which disk; the default is the directory for temporary files.
//!
//! Records have values of 100 bytes and neither key nor headers, checksums are on, nothing is
//! compressed.

#[path = "../bare/mod.rs"]
mod bare;
mod measure;
mod opening;
mod producing;
mod reading;
mod scale;
#[path = "../timing/mod.rs"]
mod timing;
mod waiting;

use measure::Report;

type Row = (&'static str, fn(&mut Report));

const ROWS: [Row; 10] = [
    ("R1", producing::batched),
    ("R2", producing::single),
    ("R3", producing::synced),
    ("R4", producing::synced_by_many),
    ("R5", reading::catch_up),
    ("R6", reading::random),
    ("R7", waiting::send_to_seen),
    ("R8", opening::open),
    ("R9", producing::two_threads),
    ("R10", scale::partitions),
];

fn main() {
    let wanted: Vec<_> = std::env::args().skip(1).filter(|word| word.starts_with('R')).collect();
    let mut report = Report::default();
    for (name, run) in ROWS {
        if wanted.is_empty() || wanted.iter().any(|wanted| wanted == name) {
            run(&mut report);
        }
    }
    report.finish();
}
