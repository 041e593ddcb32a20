//! Goal: a member is either alive or out, whoever else decides at the same moment; and news that come
//! while it goes to wait do not leave it asleep.
//!
//! Method: loom runs each test in every order in which its threads can come.

use loom::thread;

use super::*;
use crate::time::Deadline;

const INTERVAL: Duration = Duration::from_secs(60);
const LATE: Duration = Duration::from_secs(61);

fn pulse() -> Arc<Pulse> {
    Arc::new(Pulse::new(Duration::ZERO, Arc::default()))
}

#[test]
fn a_poll_and_an_expiry_never_both_win() {
    loom::model(|| {
        let pulse = pulse();
        let expiry = {
            let pulse = Arc::clone(&pulse);
            thread::spawn(move || pulse.expire(LATE, INTERVAL))
        };
        let polled = pulse.beat(LATE);
        let expired = expiry.join().unwrap();
        assert_eq!(polled.is_err(), expired);
        assert_eq!(pulse.ended().is_some(), expired, "and it stays so");
    });
}

#[test]
fn a_member_that_was_replaced_is_out_whatever_it_says_meanwhile() {
    loom::model(|| {
        let pulse = pulse();
        let other = {
            let pulse = Arc::clone(&pulse);
            thread::spawn(move || pulse.replace())
        };
        let _either_way = pulse.wait();
        let _either_way = pulse.beat(LATE);
        other.join().unwrap();
        assert_eq!(pulse.beat(LATE), Err(Ended::Replaced));
    });
}

#[test]
fn whoever_looks_for_news_and_then_waits_is_woken_by_news() {
    loom::model(|| {
        let wakeup = Arc::new(Wakeup::default());
        let pulse = Arc::new(Pulse::new(Duration::ZERO, Arc::clone(&wakeup)));
        let other = {
            let pulse = Arc::clone(&pulse);
            thread::spawn(move || pulse.announce())
        };
        while !pulse.take_news() {
            wakeup.wait(Deadline::NEVER);
        }
        other.join().unwrap();
        assert!(!pulse.take_news());
    });
}
