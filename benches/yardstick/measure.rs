//! Rounds, and what is printed of them.

use crate::timing::median;

/// What a row must reach.
#[derive(Debug, Clone, Copy)]
pub enum Target {
    Least(f64),
    Most(f64),
}

/// Prints rows as they come.
#[derive(Debug, Default)]
pub struct Report {
    rows: u32,
    at_target: u32,
}

impl Report {
    pub fn row(&mut self, name: &str, ratio: f64, target: Target, detail: &str) {
        let (reached, bound) = match target {
            Target::Least(least) => (ratio >= least, least),
            Target::Most(most) => (ratio <= most, most),
        };
        self.rows += 1;
        self.at_target += u32::from(reached);
        println!("row {name} ratio {ratio:.2} target {bound:.2}");
        println!("    {detail}{}", if reached { "" } else { "  (short of the target)" });
    }

    pub fn finish(self) {
        println!("rows at target: {} of {}", self.at_target, self.rows);
    }
}

/// Two figures, taken in turns.
#[derive(Debug, Default)]
pub struct Pairs {
    bare: Vec<f64>,
    ours: Vec<f64>,
}

impl Pairs {
    /// Runs both in turns; the first round, which warms caches, is not counted.
    pub fn of(rounds: usize, mut bare: impl FnMut() -> f64, mut ours: impl FnMut() -> f64) -> Self {
        let mut pairs = Self::default();
        for round in 0..=rounds {
            let (bare, ours) = (bare(), ours());
            if round > 0 {
                pairs.push(bare, ours);
            }
        }
        pairs
    }

    pub fn push(&mut self, bare: f64, ours: f64) {
        self.bare.push(bare);
        self.ours.push(ours);
    }

    /// The median of ours by bare.
    pub fn ratio(&self) -> f64 {
        median(self.bare.iter().zip(&self.ours).map(|(bare, ours)| ours / bare))
    }

    pub fn bare(&self) -> f64 {
        median(self.bare.iter().copied())
    }

    pub fn ours(&self) -> f64 {
        median(self.ours.iter().copied())
    }

    /// Both figures as millions a second.
    pub fn millions(&self) -> String {
        format!("bare {:.2} M/s, sapwood {:.2} M/s", self.bare() / 1e6, self.ours() / 1e6)
    }
}
