//! What a share group knows of a record, and how that changes. Pure: no clock, no log.
//!
//! There is one transition function, [`DeliveryState::next`]. Times are of the broker's monotonic clock.

use std::time::Duration;

/// One poll that has acquired records, in one partition of one group. None is used twice while the
/// process lives, so that a late acknowledgement can be told from one that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AcquisitionId(pub(crate) u64);

/// The state of a record in a share group. A record is in exactly one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DeliveryState {
    /// Waits for a worker. Whoever acquires it has it; nobody can acknowledge it.
    Available {
        /// How often it has been handed out.
        delivery_count: u16,
        /// It is handed out no sooner. Zero once that time has come.
        not_before: Duration,
    },
    /// A worker has it, and nobody else gets it until it is acknowledged or its lock times out. Only
    /// that worker can acknowledge it.
    Acquired {
        /// How often it has been handed out, this time included.
        delivery_count: u16,
        /// Who has it.
        by: AcquisitionId,
        /// When its lock times out.
        until: Duration,
    },
    /// Done. Nothing changes it any more.
    Acknowledged,
    /// Given up: rejected, delivered too often, or not in the log any more. Nothing changes it.
    Archived,
}

/// What can happen to a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DeliveryEvent {
    /// It is handed out: one delivery more.
    Acquire { by: AcquisitionId, until: Duration },
    /// It is taken to be given up. That is no delivery.
    Condemn { by: AcquisitionId, until: Duration },
    /// Its worker is done with it.
    Accept { by: AcquisitionId },
    /// Its worker, or whoever condemned it, gives it up.
    Reject { by: AcquisitionId },
    /// Its worker lets it go, to be delivered again no sooner than at `not_before`.
    Release { by: AcquisitionId, not_before: Duration },
    /// It was acquired and then not handed out after all: that was no delivery.
    GiveBack { by: AcquisitionId, not_before: Duration },
    /// Its worker needs more time.
    Renew { by: AcquisitionId, until: Duration },
    /// Its worker had its time. As a release that the worker has not thought of.
    TimeOut { now: Duration, not_before: Duration },
    /// The time before which it was not to be handed out has come.
    ComeDue { now: Duration },
    /// Retention has deleted it, or there never was a record at its offset.
    Vanish,
}

/// An event that cannot happen in a state. It changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IllegalTransition;

/// What has never been handed out.
pub(crate) const FRESH: DeliveryState =
    DeliveryState::Available { delivery_count: 0, not_before: Duration::ZERO };

impl DeliveryState {
    /// The transition function.
    ///
    /// # Errors
    ///
    /// [`IllegalTransition`] if this cannot happen to a record in this state; above all an
    /// acknowledgement by anybody but who has acquired it.
    pub(crate) fn next(self, event: DeliveryEvent) -> Result<Self, IllegalTransition> {
        use DeliveryEvent as Event;
        use DeliveryState::{Acknowledged, Acquired, Archived, Available};
        Ok(match (self, event) {
            (Available { delivery_count, .. }, Event::Acquire { by, until }) => {
                let delivery_count = delivery_count.saturating_add(1);
                Acquired { delivery_count, by, until }
            }
            (Available { delivery_count, .. }, Event::Condemn { by, until }) => {
                Acquired { delivery_count, by, until }
            }
            (Available { delivery_count, not_before }, Event::ComeDue { now })
                if not_before <= now =>
            {
                Available { delivery_count, not_before: Duration::ZERO }
            }
            (Available { .. } | Acquired { .. }, Event::Vanish) => Archived,
            (Acquired { by: holder, .. }, Event::Accept { by }) if by == holder => Acknowledged,
            (Acquired { by: holder, .. }, Event::Reject { by }) if by == holder => Archived,
            (Acquired { delivery_count, by: holder, .. }, Event::Release { by, not_before })
                if by == holder =>
            {
                Available { delivery_count, not_before }
            }
            (Acquired { delivery_count, by: holder, .. }, Event::GiveBack { by, not_before })
                if by == holder =>
            {
                Available { delivery_count: delivery_count.saturating_sub(1), not_before }
            }
            (Acquired { delivery_count, by: holder, .. }, Event::Renew { by, until })
                if by == holder =>
            {
                Acquired { delivery_count, by, until }
            }
            (Acquired { delivery_count, until, .. }, Event::TimeOut { now, not_before })
                if until <= now =>
            {
                Available { delivery_count, not_before }
            }
            _ => return Err(IllegalTransition),
        })
    }

    /// Whether nothing can happen to it any more.
    pub(crate) fn is_terminal(self) -> bool {
        matches!(self, Self::Acknowledged | Self::Archived)
    }

    /// How often it has been handed out; 0 for what is done, where nobody asks any more.
    pub(crate) fn delivery_count(self) -> u16 {
        match self {
            Self::Available { delivery_count, .. } | Self::Acquired { delivery_count, .. } => {
                delivery_count
            }
            Self::Acknowledged | Self::Archived => 0,
        }
    }

    /// What is left of it when the process ends: locks and waiting times are of this process alone.
    pub(crate) fn stored(self) -> Self {
        match self {
            Self::Available { delivery_count, .. } | Self::Acquired { delivery_count, .. } => {
                Self::Available { delivery_count, not_before: Duration::ZERO }
            }
            terminal => terminal,
        }
    }

    /// When something happens to it by itself; `None` if nothing does.
    pub(crate) fn due(self) -> Option<Duration> {
        match self {
            Self::Available { not_before, .. } if !not_before.is_zero() => Some(not_before),
            Self::Acquired { until, .. } => Some(until),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: AcquisitionId = AcquisitionId(1);
    const OTHER: AcquisitionId = AcquisitionId(2);

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn available(delivery_count: u16, not_before: u64) -> DeliveryState {
        DeliveryState::Available { delivery_count, not_before: seconds(not_before) }
    }

    fn acquired(delivery_count: u16, by: AcquisitionId, until: u64) -> DeliveryState {
        DeliveryState::Acquired { delivery_count, by, until: seconds(until) }
    }

    /// Every state against every event: what is not in the table is illegal.
    #[test]
    fn every_state_takes_exactly_the_events_that_the_table_has() {
        use DeliveryEvent as Event;
        use DeliveryState::{Acknowledged, Archived};
        let (until, not_before) = (seconds(50), seconds(30));
        let states = [
            available(2, 0),
            available(2, 10),
            available(2, 20),
            acquired(3, ME, 10),
            acquired(3, ME, 20),
            acquired(3, OTHER, 20),
            Acknowledged,
            Archived,
        ];
        let no = || [None; 8];
        // All events happen at second 15, and are this worker's.
        let table = [
            (Event::Acquire { by: ME, until }, {
                let to = Some(acquired(3, ME, 50));
                [to, to, to, None, None, None, None, None]
            }),
            (Event::Condemn { by: ME, until }, {
                let to = Some(acquired(2, ME, 50));
                [to, to, to, None, None, None, None, None]
            }),
            (Event::Accept { by: ME }, {
                let to = Some(Acknowledged);
                [None, None, None, to, to, None, None, None]
            }),
            (Event::Reject { by: ME }, {
                let to = Some(Archived);
                [None, None, None, to, to, None, None, None]
            }),
            (Event::Release { by: ME, not_before }, {
                let to = Some(available(3, 30));
                [None, None, None, to, to, None, None, None]
            }),
            (Event::GiveBack { by: ME, not_before }, {
                let to = Some(available(2, 30));
                [None, None, None, to, to, None, None, None]
            }),
            (Event::Renew { by: ME, until }, {
                let to = Some(acquired(3, ME, 50));
                [None, None, None, to, to, None, None, None]
            }),
            (Event::TimeOut { now: seconds(15), not_before }, {
                [None, None, None, Some(available(3, 30)), None, None, None, None]
            }),
            (Event::ComeDue { now: seconds(15) }, {
                let to = Some(available(2, 0));
                [to, to, None, None, None, None, None, None]
            }),
            (Event::Vanish, {
                let to = Some(Archived);
                [to, to, to, to, to, to, None, None]
            }),
            (Event::Accept { by: AcquisitionId(3) }, no()),
        ];
        for (event, expected) in table {
            for (state, expected) in states.into_iter().zip(expected) {
                assert_eq!(state.next(event).ok(), expected, "{event:?} in {state:?}");
            }
        }
    }

    #[test]
    fn a_delivery_that_did_not_take_place_is_not_counted() {
        let acquire = DeliveryEvent::Acquire { by: ME, until: seconds(9) };
        let give_back = DeliveryEvent::GiveBack { by: ME, not_before: Duration::ZERO };
        assert_eq!(FRESH.next(acquire).unwrap().next(give_back), Ok(FRESH));
    }

    #[test]
    fn locks_and_waiting_times_end_with_the_process_and_the_count_stays() {
        assert_eq!(acquired(3, ME, 20).stored(), available(3, 0));
        assert_eq!(available(2, 10).stored(), available(2, 0));
        assert_eq!(DeliveryState::Archived.stored(), DeliveryState::Archived);
    }
}
