//! How far the bridge is: a bar on a terminal, and a line every few seconds where there is none.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{HumanCount, ProgressBar, ProgressStyle};

const LINE_INTERVAL: Duration = Duration::from_secs(5);

pub struct Progress {
    bar: Option<ProgressBar>,
    started: Instant,
    told_at: Instant,
    mirrored: u64,
    /// How many there were when it was last told.
    told: u64,
}

impl Progress {
    pub fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = "{bar:30} {human_pos} mirrored, {msg}, {per_sec}";
            let style = ProgressStyle::with_template(style).expect("the template is well-formed");
            ProgressBar::no_length().with_style(style)
        });
        let now = Instant::now();
        Self { bar, started: now, told_at: now, mirrored: 0, told: 0 }
    }

    /// `records` more are where they belong, and `lag` are still to come.
    pub fn advance(&mut self, records: u64, lag: u64) {
        self.mirrored += records;
        if let Some(bar) = &self.bar {
            bar.set_length(self.mirrored + lag);
            bar.set_position(self.mirrored);
            bar.set_message(format!("lag {}", HumanCount(lag)));
        } else if self.told_at.elapsed() >= LINE_INTERVAL {
            let millis = self.told_at.elapsed().as_millis().max(1);
            let rate = u128::from(self.mirrored - self.told) * 1_000 / millis;
            (self.told_at, self.told) = (Instant::now(), self.mirrored);
            eprintln!("mirrored {}, lag {lag}, {rate}/s", self.mirrored);
        }
    }

    /// The last line.
    pub fn finish(&self, lag: u64) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        let seconds = self.started.elapsed().as_secs_f64();
        eprintln!("mirrored {}, lag {lag}, in {seconds:.1} s", self.mirrored);
    }
}
