//! Goal: every send is answered, once and in order, whichever thread writes its batch; and what one
//! thread leaves to another is done.
//!
//! Method: loom runs a real producer over a log in memory. Only what senders meet at is loom's:
//! queues, answers, memory, published offsets. What lies below is used by one thread at a time, or
//! in short locks of its own, and needs no exploring. There are too many orders for all of them:
//! these are those in which threads that could go on are made to wait a few times at most.

use loom::thread;

use super::*;
use crate::broker::config::BrokerBuilder;
use crate::concurrency::explore_few_preemptions;
use crate::log::config::{Durability, TopicConfig};
use crate::producer::Producer;
use crate::record::Record;
use crate::time::{ManualClock, Timestamp};
use crate::topic::Topic;

const LONG: Duration = Duration::from_secs(3600);

/// Room for two records.
const BATCH_SIZE: usize = 90;

/// The stacks that loom gives by itself are for small things.
const STACK_WORDS: usize = 1 << 16;

fn spawn<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> thread::JoinHandle<T> {
    thread::Builder::new().stack_size(STACK_WORDS).spawn(work).unwrap()
}

#[derive(Clone)]
struct World {
    topic: Topic,
    producer: Producer,
}

impl World {
    /// One partition, batches of up to two records, and nothing that happens by itself.
    fn new(linger: Duration) -> Self {
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_700_000_000_000)));
        let broker = BrokerBuilder::in_memory().clock(clock).background_thread(false);
        let broker = broker.open().unwrap();
        let durability = Durability::Written { flush_interval: LONG };
        let topic = broker.create_topic("t", TopicConfig::default().durability(durability));
        let producer = broker.producer().linger(linger).batch_size(BATCH_SIZE).build();
        Self { topic: topic.unwrap(), producer: producer.unwrap() }
    }

    fn accumulator(&self) -> &Accumulator {
        &self.producer.0.accumulator
    }

    /// Sends without waiting for the answer.
    fn send(&self) -> Result<crate::producer::Delivery> {
        self.producer.send(&self.topic, Record::new("value"))
    }

    fn send_and_wait(&self) -> u64 {
        self.send().unwrap().wait().unwrap().offset
    }

    /// Takes the turn to write the first batch, unless somebody has it; and lets it end so.
    fn take_a_turn_that_ends(&self, end: Option<TurnEnd>) {
        let accumulator = self.accumulator();
        let Some(batch) = accumulator.unwritten_after(None) else { return };
        let mut pending = batch.queue.pending.lock();
        if pending.writing {
            return;
        }
        let first = pending.take_first();
        pending.writing = first.is_some();
        drop(pending);
        drop(Turn { accumulator, queue: &batch.queue, batch: first, end });
    }

    fn assert_all_is_written(&self, records: u64) {
        assert_eq!(self.topic.partition(0).unwrap().log_end_offset(), records);
        let accumulator = self.accumulator();
        assert!(accumulator.unwritten.lock().batches.is_empty());
        assert_eq!(accumulator.memory.available(), accumulator.memory.limit());
    }
}

fn explore(linger: Duration, test: impl Fn(World) + Send + Sync + Copy + 'static) {
    explore_few_preemptions(move || {
        spawn(move || test(World::new(linger))).join().unwrap();
    });
}

#[test]
fn every_send_is_answered_once_and_those_of_a_thread_in_order() {
    explore(Duration::ZERO, |world| {
        let other = {
            let world = world.clone();
            spawn(move || world.send_and_wait())
        };
        let (first, second) = (world.send().unwrap(), world.send().unwrap());
        // Asked in this order, the second is the one that has to be waited for.
        let second = second.wait().unwrap().offset;
        let first = first.wait().unwrap().offset;
        assert!(first < second);
        let mut offsets = [first, second, other.join().unwrap()];
        offsets.sort_unstable();
        assert_eq!(offsets, [0, 1, 2]);
        world.assert_all_is_written(3);
    });
}

#[test]
fn a_batch_that_is_left_to_the_thread_that_has_the_turn_is_written_by_it() {
    explore(Duration::ZERO, |world| {
        let others = [(); 2].map(|()| {
            let world = world.clone();
            spawn(move || drop(world.send().unwrap()))
        });
        for other in others {
            other.join().unwrap();
        }
        world.assert_all_is_written(2);
    });
}

/// The wait ends at any moment, also at the one at which the turn would have come.
#[test]
fn a_batch_whose_turn_somebody_gave_up_waiting_for_is_written_all_the_same() {
    explore(Duration::ZERO, |world| {
        let others = [false, true].map(|asks| {
            let world = world.clone();
            spawn(move || {
                let delivery = world.send().unwrap();
                if asks && let Some(metadata) = delivery.wait_timeout(Duration::ZERO).unwrap() {
                    assert_eq!(delivery.poll().unwrap().unwrap().offset, metadata.offset);
                }
            })
        });
        for other in others {
            other.join().unwrap();
        }
        world.assert_all_is_written(2);
    });
}

#[test]
fn a_flush_returns_after_every_send_before_it_is_answered() {
    explore(LONG, |world| {
        let other = {
            let world = world.clone();
            spawn(move || {
                drop(world.send().unwrap());
                world.producer.flush().unwrap();
            })
        };
        let delivery = world.send().unwrap();
        world.producer.flush().unwrap();
        assert!(delivery.poll().unwrap().is_ok());
        other.join().unwrap();
        world.assert_all_is_written(2);
    });
}

#[test]
fn a_send_that_meets_a_close_is_refused_or_written() {
    explore(LONG, |world| {
        let other = {
            let world = world.clone();
            spawn(move || world.send().is_ok())
        };
        world.producer.clone().close().unwrap();
        let sent = other.join().unwrap();
        world.assert_all_is_written(u64::from(sent));
    });
}

/// Loom cannot unwind one thread while another runs, so this does what unwinding does: the turn is
/// dropped before it has an end.
#[test]
fn a_turn_that_panics_answers_its_batch_and_leaves_nobody_waiting() {
    explore(LONG, |world| {
        let first = world.send().unwrap();
        let panicking = {
            let world = world.clone();
            spawn(move || world.take_a_turn_that_ends(None))
        };
        let second = world.send().unwrap();
        let answers = [second.wait(), first.wait()];
        let written = answers.iter().filter(|answer| answer.is_ok()).count();
        for error in answers.into_iter().filter_map(Result::err) {
            assert!(matches!(error, Error::SendFailed { .. }), "{error}");
        }
        panicking.join().unwrap();
        world.assert_all_is_written(written as u64);
    });
}

#[test]
fn a_batch_that_is_put_back_keeps_its_place() {
    explore(LONG, |world| {
        let first = world.send().unwrap();
        let other = {
            let world = world.clone();
            spawn(move || world.take_a_turn_that_ends(Some(TurnEnd::PutBack)))
        };
        // If the first one is out of its queue there is a full batch by now, and an open one.
        let others = [(); 3].map(|()| world.send().unwrap());
        let others = others.map(|delivery| delivery.wait().unwrap().offset);
        assert_eq!((first.wait().unwrap().offset, others), (0, [1, 2, 3]));
        other.join().unwrap();
        world.assert_all_is_written(4);
    });
}

#[test]
fn one_whose_batch_was_written_by_another_does_not_keep_the_turn_from_a_third() {
    explore(LONG, |world| {
        let same_batch = [(); 2].map(|()| world.send().unwrap());
        let others = same_batch.map(|delivery| spawn(move || delivery.wait().unwrap().offset));
        assert_eq!(world.send_and_wait(), 2);
        assert_eq!(others.map(|other| other.join().unwrap()), [0, 1]);
        world.assert_all_is_written(3);
    });
}
