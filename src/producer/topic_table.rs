//! Finds the queues of a topic's partitions, for every record and from any thread, without a lock.
//!
//! Both levels only ever grow: topics are chained in buckets by address, partitions in blocks, each
//! as many as were added at a time. A topic that was sent to keeps its place, some hundred bytes
//! and its queues, until the producer goes, but nothing of the topic itself.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use crate::producer::accumulator::PartitionQueue;
use crate::topic::{Topic, WeakTopic};

const BUCKETS: usize = 256;

/// Topics are allocated, so the lowest bits of their addresses say nothing.
const ADDRESS_SHIFT: u32 = 6;

/// The topics that a producer has sent to.
pub(super) struct TopicTable {
    buckets: Box<[Link]>,
}

type Link = OnceLock<Box<TopicQueues>>;

/// The queues of one topic.
pub(super) struct TopicQueues {
    /// Keeps the address from being used again, and nothing else of the topic.
    topic: WeakTopic,
    /// How many partitions are known.
    partitions: AtomicU32,
    /// The partition that records without a key go to now. Always a known one.
    sticky: AtomicU32,
    first: Block,
    next: Link,
}

/// Queues of partitions that were added together.
struct Block {
    queues: Box<[Arc<PartitionQueue>]>,
    next: OnceLock<Box<Block>>,
}

impl TopicTable {
    pub(super) fn new() -> Self {
        Self { buckets: (0..BUCKETS).map(|_| Link::new()).collect() }
    }

    /// The queues of a topic, made when it is seen for the first time.
    #[inline]
    pub(super) fn queues_of(&self, topic: &Topic) -> &TopicQueues {
        let mut link = &self.buckets[(topic.address() >> ADDRESS_SHIFT) % BUCKETS];
        loop {
            // Two threads with two new topics may meet here: the later one goes on to the next.
            let queues = link.get_or_init(|| Box::new(TopicQueues::new(topic)));
            if queues.topic.is(topic) {
                return queues;
            }
            link = &queues.next;
        }
    }
}

impl TopicQueues {
    fn new(topic: &Topic) -> Self {
        let partitions = topic.partition_count();
        Self {
            topic: topic.downgrade(),
            partitions: AtomicU32::new(partitions),
            sticky: AtomicU32::new(0),
            first: Block::new(partitions),
            next: Link::new(),
        }
    }

    /// How many partitions are known; the topic may have more.
    #[inline]
    pub(super) fn partitions(&self) -> u32 {
        self.partitions.load(Ordering::Acquire)
    }

    /// Learns of partitions that were added to the topic. `false` if there were none.
    pub(super) fn refresh(&self, topic: &Topic) -> bool {
        let (known, total) = (self.partitions(), topic.partition_count());
        let mut block = &self.first;
        let mut reached = block.len();
        while reached < total {
            block = block.next.get_or_init(|| Box::new(Block::new(total - reached)));
            reached += block.len();
        }
        // Another thread may have seen fewer of them.
        self.partitions.fetch_max(reached, Ordering::AcqRel);
        known < total
    }

    #[inline]
    pub(super) fn queue(&self, partition: u32) -> Option<&Arc<PartitionQueue>> {
        let mut block = &self.first;
        let mut index = partition;
        while index >= block.len() {
            index -= block.len();
            block = block.next.get()?;
        }
        block.queues.get(usize::try_from(index).ok()?)
    }

    /// The partition that records without a key go to.
    #[inline]
    pub(super) fn sticky(&self) -> u32 {
        self.sticky.load(Ordering::Relaxed)
    }

    /// Lets records without a key go to the next partition, unless another thread has done so
    /// since it was `current`. Returns where they go now.
    pub(super) fn move_sticky(&self, current: u32) -> u32 {
        let next = (current + 1) % self.partitions().max(1);
        let (success, failure) = (Ordering::Relaxed, Ordering::Relaxed);
        match self.sticky.compare_exchange(current, next, success, failure) {
            Ok(_) => next,
            Err(moved) => moved,
        }
    }
}

impl Block {
    fn new(partitions: u32) -> Self {
        Self { queues: (0..partitions).map(|_| Arc::default()).collect(), next: OnceLock::new() }
    }

    #[inline]
    fn len(&self) -> u32 {
        u32::try_from(self.queues.len()).unwrap_or(u32::MAX)
    }
}
