//! The hard cap on a topic's bytes: `max.bytes`, and what happens when it is reached.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::error::{Error, Result};
use crate::log::config::{TopicConfig, WhenFull};
use crate::time::Deadline;
use crate::topic::{Partition, Topic};

/// How long an append waits for room before it gives up (Kafka's `max.block.ms`).
pub(crate) const BLOCK_MAX: Duration = Duration::from_secs(60);

/// Orders the appends of a capped topic, so that the cap holds exactly, and lets them wait.
#[derive(Debug, Default)]
pub(crate) struct Room {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// How many appends are waiting for room.
    waiting: usize,
    /// The broker is being closed: waiting is over.
    ended: bool,
}

impl Room {
    /// Something was deleted, or the settings have changed: whoever waits looks again.
    pub(crate) fn changed(&self) {
        let _guard = self.state.lock();
        self.changed.notify_all();
    }

    /// Ends every wait, and refuses the next ones.
    pub(crate) fn end_waiting(&self) {
        self.state.lock().ended = true;
        self.changed.notify_all();
    }

    /// Whether anybody waits for room: then retention should not wait for its usual time.
    pub(crate) fn is_wanted(&self) -> bool {
        self.state.lock().waiting > 0
    }
}

impl Partition {
    /// Runs an append of `size` bytes when the topic has room for them, or makes it or waits for it
    /// as `max.bytes.policy` says.
    ///
    /// The topic's room is locked over the append and over the deletions that make room: between
    /// looking at the size and growing it nobody else may grow it. It comes before all locks of a
    /// log, and nobody asks for it while holding one of those.
    pub(super) fn append_within_limit<T>(
        &self,
        size: u64,
        deadline: Deadline,
        append: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let topic = self.topic();
        let room = topic.room();
        // It may have to wait for a sync: better here than while the others of the topic wait, too.
        self.log().wait_until_ready()?;
        let mut state = room.state.lock();
        loop {
            // A log that was closed, or has failed, while this append waited.
            self.log().check_open()?;
            let config = topic.shared_config();
            let Some(limit) = config.max_bytes else { break };
            let used = topic.size();
            if used.saturating_add(size) <= limit {
                break;
            }
            if size > limit {
                let topic = topic.name().to_owned();
                return Err(Error::RecordTooLarge { topic, size, limit, setting: "max.bytes" });
            }
            match config.when_full {
                WhenFull::DropOldest if topic.drop_oldest()? => {}
                WhenFull::Block if !state.ended && !deadline.has_passed() => {
                    room.wait(&mut state, deadline)?;
                }
                _ => return Err(topic.full(used.saturating_add(size), limit)),
            }
        }
        append()
    }
}

impl Room {
    /// Waits until something has changed or the deadline has passed.
    fn wait(&self, state: &mut MutexGuard<'_, State>, deadline: Deadline) -> Result<()> {
        state.waiting += 1;
        match deadline.instant() {
            Some(instant) => {
                self.changed.wait_until(state, instant);
            }
            None => self.changed.wait(state),
        }
        state.waiting -= 1;
        if state.ended {
            return Err(Error::Closed { what: "the broker" });
        }
        Ok(())
    }
}

impl Topic {
    fn full(&self, size: u64, limit: u64) -> Error {
        Error::TopicFull { topic: self.name().to_owned(), size, limit }
    }

    /// Deletes the segment with the oldest records among all partitions. `false` if there is none
    /// that may go.
    ///
    /// A partition that cannot give is passed by: its failure must not stop the others as long as
    /// they have something to give (clause 9).
    fn drop_oldest(&self) -> Result<bool> {
        let mut first_failure = None;
        let mut by_age = Vec::new();
        for log in self.logs().iter() {
            match log.oldest_timestamp() {
                Ok(timestamp) => by_age.push((timestamp, Arc::clone(log))),
                Err(error) => {
                    first_failure.get_or_insert(error);
                }
            }
        }
        // Among equally old ones the largest log gives.
        by_age.sort_by_key(|(timestamp, log)| (*timestamp, Reverse(log.size())));
        for (_, log) in by_age {
            match log.drop_oldest_segment() {
                Ok(true) => return Ok(true),
                Ok(false) => {}
                Err(error) => {
                    first_failure.get_or_insert(error);
                }
            }
        }
        first_failure.map_or(Ok(false), Err)
    }
}

/// The settings a log of the topic works with. In a capped topic segments are small enough that
/// there is something to give up without giving up everything.
pub(crate) fn config_for_logs(config: &Arc<TopicConfig>) -> Arc<TopicConfig> {
    let Some(max_bytes) = config.max_bytes else { return Arc::clone(config) };
    let share = max_bytes / (SEGMENTS_IN_CAPPED_LOG * u64::from(config.partitions.max(1)));
    let share = u32::try_from(share).unwrap_or(u32::MAX).max(config.max_message_bytes);
    if share >= config.segment_bytes {
        return Arc::clone(config);
    }
    Arc::new(TopicConfig::clone(config).segment_bytes(share))
}

/// How many segments a capped log is cut into, as far as its largest batch allows.
const SEGMENTS_IN_CAPPED_LOG: u64 = 8;
