//! Random events against a plain list with one state per offset.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone, Copy)]
enum Op {
    Acquire { records: u64 },
    Condemn { records: u64 },
    Event { kind: u8, first: u64, len: u64, by: u64 },
    Pass { seconds: u64 },
    LogStart { ahead: u64 },
    HighWatermark { more: u64 },
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (1_u64..12).prop_map(|records| Op::Acquire { records }),
        1 => (1_u64..12).prop_map(|records| Op::Condemn { records }),
        8 => (0_u8..5, 0_u64..30, 1_u64..12, 0_u64..4)
            .prop_map(|(kind, first, len, by)| Op::Event { kind, first, len, by }),
        2 => (0_u64..20).prop_map(|seconds| Op::Pass { seconds }),
        1 => (0_u64..6).prop_map(|ahead| Op::LogStart { ahead }),
        2 => (0_u64..12).prop_map(|more| Op::HighWatermark { more }),
    ]
}

/// One state per offset, from the first to be known of.
struct Model {
    states: Vec<DeliveryState>,
}

impl Model {
    fn start(&self) -> u64 {
        let done = self.states.iter().take_while(|state| state.is_terminal());
        done.count() as u64
    }

    fn change(&mut self, offset: u64, event: DeliveryEvent) -> bool {
        let Some(state) = self.states.get_mut(usize::try_from(offset).unwrap()) else {
            return false;
        };
        state.next(event).map(|next| *state = next).is_ok()
    }

    fn acquire(&mut self, by: AcquisitionId, until: Duration, limits: &Limits) -> Vec<(u64, u16)> {
        let in_flight = |state: &&DeliveryState| match state {
            DeliveryState::Acquired { .. } => true,
            state => state.delivery_count() > 0,
        };
        let mut room = limits
            .in_flight_max
            .saturating_sub(self.states.iter().filter(in_flight).count() as u64);
        let mut acquired = Vec::new();
        let known = self.states.len() as u64;
        for offset in 0..limits.high_watermark {
            if acquired.len() as u64 == limits.records_max {
                break;
            }
            if offset >= known {
                if room == 0 {
                    break;
                }
                self.states.push(FRESH);
            }
            let state = self.states[usize::try_from(offset).unwrap()];
            let DeliveryState::Available { delivery_count, not_before: Duration::ZERO } = state
            else {
                continue;
            };
            if delivery_count >= limits.delivery_count_max || (delivery_count == 0 && room == 0) {
                continue;
            }
            if delivery_count == 0 {
                room -= 1;
            }
            assert!(self.change(offset, DeliveryEvent::Acquire { by, until }));
            acquired.push((offset, delivery_count + 1));
        }
        acquired
    }
}

fn offsets(ranges: &[StateRange]) -> Vec<(u64, u16)> {
    let of = |range: &StateRange| {
        let count = range.state.delivery_count();
        range.offsets.clone().map(move |offset| (offset, count))
    };
    ranges.iter().flat_map(of).collect()
}

fn backoff(delivery_count: u16) -> Duration {
    Duration::from_secs(u64::from(delivery_count))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn ranges_say_the_same_as_a_list_of_all_records(ops in prop::collection::vec(op(), 0..60)) {
        let mut model = Model { states: Vec::new() };
        let mut window = Window::new(0);
        let (mut now, mut log_start, mut high_watermark, mut next_id) = (Duration::ZERO, 0, 10, 1);
        let limits = |records_max, high_watermark| Limits {
            records_max,
            in_flight_max: 15,
            delayed_max: 100,
            delivery_count_max: 3,
            high_watermark,
        };
        for op in ops {
            match op {
                Op::Acquire { records } => {
                    let (by, until) = (AcquisitionId(next_id), now + Duration::from_secs(8));
                    next_id += 1;
                    let mut acquired = Vec::new();
                    let limits = limits(records, high_watermark);
                    window.acquire(by, until, &limits, &mut acquired);
                    prop_assert_eq!(offsets(&acquired), model.acquire(by, until, &limits));
                }
                Op::Condemn { records } => {
                    let (by, until) = (AcquisitionId(next_id), now + Duration::from_secs(8));
                    next_id += 1;
                    let condemned = window.condemn(by, until, &limits(records, high_watermark));
                    for (offset, count) in offsets(&condemned) {
                        prop_assert!(count >= 3);
                        let is_condemned = model.change(offset, DeliveryEvent::Condemn { by, until });
                        prop_assert!(is_condemned);
                    }
                }
                Op::Event { kind, first, len, by } => {
                    let by = AcquisitionId(next_id.saturating_sub(by));
                    let not_before = now + Duration::from_secs(len);
                    let event = match kind {
                        0 => DeliveryEvent::Accept { by },
                        1 => DeliveryEvent::Reject { by },
                        2 => DeliveryEvent::Release { by, not_before },
                        3 => DeliveryEvent::GiveBack { by, not_before },
                        _ => DeliveryEvent::Renew { by, until: not_before },
                    };
                    let first = window.start().saturating_sub(3) + first;
                    let mut refused = Vec::new();
                    window.change(first..first + len, event, |range| refused.extend(range));
                    let expected: Vec<u64> =
                        (first..first + len).filter(|at| !model.change(*at, event)).collect();
                    prop_assert_eq!(refused, expected);
                }
                Op::Pass { seconds } => {
                    now += Duration::from_secs(seconds);
                    let lost = window.let_time_pass(now, backoff);
                    let mut expected = 0;
                    for state in &mut model.states {
                        let not_before = now + backoff(state.delivery_count());
                        let timed_out = state.next(DeliveryEvent::TimeOut { now, not_before });
                        expected += u64::from(timed_out.is_ok());
                        let passed = timed_out.or_else(|_| state.next(DeliveryEvent::ComeDue { now }));
                        *state = passed.unwrap_or(*state);
                    }
                    prop_assert_eq!(lost, expected);
                }
                Op::LogStart { ahead } => {
                    log_start = (log_start + ahead).min(high_watermark);
                    window.pass(log_start);
                    for offset in 0..log_start {
                        if offset >= model.states.len() as u64 {
                            model.states.push(FRESH);
                        }
                        let state = &mut model.states[usize::try_from(offset).unwrap()];
                        if matches!(state, DeliveryState::Available { .. }) {
                            *state = DeliveryState::Archived;
                        }
                    }
                }
                Op::HighWatermark { more } => high_watermark += more,
            }
            window.assert_sound();
            prop_assert_eq!(window.start(), model.start());
            prop_assert_eq!(window.end(), model.states.len() as u64);
            for range in window.ranges() {
                for offset in range.offsets.clone() {
                    prop_assert_eq!(model.states[usize::try_from(offset).unwrap()], range.state);
                }
            }
            // A reader of the stored form comes to the same.
            let stored = window.stored();
            stored.assert_sound();
            for range in stored.ranges() {
                for offset in range.offsets.clone() {
                    let state = model.states[usize::try_from(offset).unwrap()].stored();
                    prop_assert_eq!(state, range.state);
                }
            }
        }
    }
}

fn limits(high_watermark: u64) -> Limits {
    Limits {
        records_max: 500,
        in_flight_max: 2_000,
        delayed_max: 100,
        delivery_count_max: 5,
        high_watermark,
    }
}

#[test]
fn a_poll_acknowledged_whole_leaves_nothing_behind() {
    let mut window = Window::new(7);
    let by = AcquisitionId(1);
    let mut acquired = Vec::new();
    window.acquire(by, Duration::from_secs(30), &limits(1_000_000), &mut acquired);
    assert_eq!(acquired.len(), 1);
    assert_eq!(window.ranges().len(), 1);
    window.change(7..507, DeliveryEvent::Accept { by }, |_| panic!("it has them"));
    assert_eq!((window.start(), window.end(), window.ranges().len()), (507, 507, 0));
}

#[test]
fn a_log_that_ends_earlier_takes_its_records_back() {
    let mut window = Window::new(0);
    window.set_stored(0..5, DeliveryState::Acknowledged);
    window.set_stored(8..10, FRESH);
    window.cut(9);
    assert_eq!((window.start(), window.end()), (5, 9));
    window.cut(3);
    assert_eq!((window.start(), window.end()), (3, 3));
    window.assert_sound();
}

#[test]
fn what_is_stored_may_begin_anywhere() {
    let mut window = Window::new(0);
    window.set_stored(4..6, DeliveryState::Archived);
    assert_eq!(window.counts(), Counts { delayed: 4, ready: 4, ..Counts::default() });
    window.set_start(5);
    assert_eq!((window.start(), window.end()), (6, 6));
    window.set_start(20);
    assert_eq!((window.start(), window.end()), (20, 20));
    window.set_stored(0..25, DeliveryState::Acknowledged);
    assert_eq!((window.start(), window.end()), (25, 25));
    window.assert_sound();
}
