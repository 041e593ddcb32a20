//! How long a record waits before it is delivered again.

use std::time::Duration;

/// Twice as long after each delivery, up to a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Backoff {
    /// After the first delivery. Zero: not at all.
    pub(crate) first: Duration,
    /// At most.
    pub(crate) max: Duration,
}

impl Backoff {
    /// How long a record waits that was delivered so often.
    pub(crate) fn after(self, delivery_count: u16) -> Duration {
        let doublings = u32::from(delivery_count.saturating_sub(1)).min(31);
        self.first.saturating_mul(1 << doublings).min(self.max.max(self.first))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_up_to_the_limit() {
        let backoff = Backoff { first: Duration::from_secs(1), max: Duration::from_secs(5) };
        let waits: Vec<u64> = (1..6).map(|count| backoff.after(count).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 5, 5]);
        assert_eq!(backoff.after(u16::MAX), Duration::from_secs(5));
        let none = Backoff { first: Duration::ZERO, max: Duration::from_secs(5) };
        assert_eq!(none.after(3), Duration::ZERO);
    }
}
