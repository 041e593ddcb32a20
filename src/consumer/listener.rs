//! What a program wants to know of rebalances.

use std::fmt;

use parking_lot::Mutex;

use crate::consumer::Consumer;
use crate::error::{Error, Result};
use crate::topic_partition::TopicPartition;

/// Is told when partitions come and go. Give one to
/// [`ConsumerBuilder::rebalance_listener`](crate::ConsumerBuilder::rebalance_listener). Kafka:
/// `ConsumerRebalanceListener`.
///
/// It is called on the consumer's own thread: by [`Consumer::poll`], when the consumer is made (which is
/// when it gets its first partitions), and by [`Consumer::close`]. It is not called when the consumer is
/// dropped. No lock of the crate's is held; the consumer may be used for anything but polling. What a
/// method returns as an error, that call returns, after it has done what it had to.
///
/// ```
/// use std::collections::BTreeMap;
/// use sapwood::{Broker, Consumer, RebalanceListener, Result, TopicConfig, TopicPartition};
///
/// /// Counts for each partition, as long as it is ours.
/// #[derive(Default)]
/// struct Counts(BTreeMap<TopicPartition, u64>);
///
/// impl RebalanceListener for Counts {
///     fn on_assigned(&mut self, _: &mut Consumer, partitions: &[TopicPartition]) -> Result<()> {
///         self.0.extend(partitions.iter().map(|of| (of.clone(), 0)));
///         Ok(())
///     }
///
///     fn on_revoked(&mut self, consumer: &mut Consumer, partitions: &[TopicPartition]) -> Result<()> {
///         // They are ours still: whoever has them next begins behind this.
///         consumer.commit()?;
///         self.0.retain(|of, _| !partitions.contains(of));
///         Ok(())
///     }
/// }
///
/// # let broker = Broker::in_memory()?;
/// # broker.create_topic("orders", TopicConfig::default())?;
/// let consumer = broker.consumer().group("billing").rebalance_listener(Counts::default());
/// let consumer = consumer.subscribe(["orders"])?;
/// # consumer.close()?;
/// # Ok::<(), sapwood::Error>(())
/// ```
#[expect(unused_variables, reason = "their names are for the documentation")]
pub trait RebalanceListener: Send {
    /// These partitions go to another member, or the consumer is being closed. They are this consumer's
    /// until the method returns: it is the time to commit what has been done.
    ///
    /// With [`auto_commit`](crate::ConsumerBuilder::auto_commit) that was done just before.
    ///
    /// # Errors
    ///
    /// Yours to choose; the partitions are given back all the same.
    fn on_revoked(&mut self, consumer: &mut Consumer, partitions: &[TopicPartition]) -> Result<()> {
        Ok(())
    }

    /// These partitions have come, besides those that were there already. Positions are known, and the
    /// next records are those there, unless this seeks elsewhere.
    ///
    /// # Errors
    ///
    /// Yours to choose; the partitions are the consumer's all the same.
    fn on_assigned(
        &mut self,
        consumer: &mut Consumer,
        partitions: &[TopicPartition],
    ) -> Result<()> {
        Ok(())
    }

    /// These partitions are gone: the consumer had not polled for too long, or another one has its
    /// instance id, or the topic was deleted. Somebody else may be reading them by now, and commits are
    /// refused.
    ///
    /// By default the same as [`on_revoked`](Self::on_revoked), as in Kafka.
    ///
    /// # Errors
    ///
    /// Yours to choose.
    fn on_lost(&mut self, consumer: &mut Consumer, partitions: &[TopicPartition]) -> Result<()> {
        self.on_revoked(consumer, partitions)
    }
}

/// A listener need not be shared between threads, but whoever holds a consumer may be: the lock is what
/// the type takes for that, and is never locked.
pub(crate) type BoxedListener = Mutex<Box<dyn RebalanceListener>>;

/// Where a consumer keeps its listener.
#[derive(Default)]
pub(super) enum ListenerSlot {
    /// There is none.
    #[default]
    None,
    /// It waits to be called.
    Idle(BoxedListener),
    /// It is being called; or it has panicked, and will not be called again.
    Called,
}

impl ListenerSlot {
    pub(super) fn new(listener: Option<BoxedListener>) -> Self {
        listener.map_or(Self::None, Self::Idle)
    }

    /// # Errors
    ///
    /// [`Error::InvalidState`] while the listener is being called.
    pub(super) fn check_idle(&self) -> Result<()> {
        match self {
            Self::Called => Err(Error::InvalidState(
                "a consumer cannot poll while its rebalance listener is called, nor after that has \
                 panicked",
            )),
            Self::None | Self::Idle(_) => Ok(()),
        }
    }
}

impl fmt::Debug for ListenerSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Idle(_) => "idle",
            Self::Called => "called",
        })
    }
}

/// What a listener is to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    Revoked,
    Assigned,
    Lost,
}

impl Consumer {
    /// Tells the listener, if there is one. It is taken out for that time, so that it can be given the
    /// consumer.
    pub(super) fn tell_listener(
        &mut self,
        told: Told,
        partitions: &[TopicPartition],
    ) -> Result<()> {
        if partitions.is_empty() {
            return Ok(());
        }
        match std::mem::replace(&mut self.listener, ListenerSlot::Called) {
            ListenerSlot::Idle(mut boxed) => {
                let listener = boxed.get_mut();
                let result = match told {
                    Told::Revoked => listener.on_revoked(self, partitions),
                    Told::Assigned => listener.on_assigned(self, partitions),
                    Told::Lost => listener.on_lost(self, partitions),
                };
                self.listener = ListenerSlot::Idle(boxed);
                result
            }
            other => {
                self.listener = other;
                Ok(())
            }
        }
    }
}
