//! Amounts over time: what sparklines and rates are made of.

use std::collections::VecDeque;

/// How many looks are remembered: the widest sparkline there is, about.
pub(super) const SAMPLES_MAX: usize = 240;

/// A rate is a mean over this time: of one look alone it would flicker.
const RATE_SECONDS: f64 = 3.0;

/// How much came between two looks, for the latest of them.
#[derive(Debug, Clone, Default)]
pub(super) struct Series(VecDeque<Sample>);

#[derive(Debug, Clone, Copy)]
struct Sample {
    seconds: f64,
    amount: f64,
}

impl Series {
    #[allow(clippy::cast_precision_loss)] // three digits are shown
    pub(super) fn push(&mut self, seconds: f64, amount: u64) {
        if seconds <= 0.0 {
            return;
        }
        if self.0.len() == SAMPLES_MAX {
            self.0.pop_front();
        }
        self.0.push_back(Sample { seconds, amount: amount as f64 });
    }

    /// A second, as of late.
    pub(super) fn rate(&self) -> f64 {
        let (mut seconds, mut amount) = (0.0, 0.0);
        for sample in self.0.iter().rev() {
            if seconds >= RATE_SECONDS {
                break;
            }
            seconds += sample.seconds;
            amount += sample.amount;
        }
        if seconds > 0.0 { amount / seconds } else { 0.0 }
    }

    /// A second, look by look, oldest first.
    pub(super) fn rates(&self) -> Vec<f64> {
        self.0.iter().map(|sample| sample.amount / sample.seconds).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::float_cmp)] // exact by construction
    fn a_rate_is_the_mean_of_the_last_seconds_however_long_the_looks_took() {
        let mut series = Series::default();
        assert_eq!(series.rate(), 0.0);
        series.push(10.0, 1_000_000);
        series.push(2.0, 10);
        series.push(1.0, 20);
        assert_eq!(series.rate(), 10.0);
        assert_eq!(series.rates(), [100_000.0, 5.0, 20.0]);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut series = Series::default();
        for amount in 0..1000 {
            series.push(1.0, amount);
        }
        assert_eq!((series.rates().len(), series.rates().last()), (SAMPLES_MAX, Some(&999.0)));
    }
}
