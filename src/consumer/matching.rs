//! Subscribing to topics by a predicate on their names.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::consumer::Consumer;
use crate::topic::log_manager::LogManager;

type Predicate = Box<dyn FnMut(&str) -> bool + Send>;

/// A predicate, and what it was last asked about.
pub(super) struct Matching {
    /// Never locked: the lock is what the type takes to be shared between threads, as consumers can be.
    predicate: Mutex<Predicate>,
    /// The topics that it has last seen, by the log manager's count.
    topics_version: Option<u64>,
}

impl Matching {
    pub(super) fn new(predicate: impl FnMut(&str) -> bool + Send + 'static) -> Self {
        Self { predicate: Mutex::new(Box::new(predicate)), topics_version: None }
    }

    /// The topics that match, unless they are those of the last time. The predicate is asked without a
    /// lock held.
    pub(super) fn changed(&mut self, manager: &LogManager) -> Option<BTreeSet<Arc<str>>> {
        // Seen before the topics are looked at: what changes meanwhile is looked at again.
        let version = Some(manager.topics_version());
        if version == self.topics_version {
            return None;
        }
        let topics = manager.topics().into_iter().filter(|topic| !topic.is_internal());
        let predicate = self.predicate.get_mut();
        let matching = topics.filter(|topic| predicate(topic.name()));
        let matching = matching.map(|topic| Arc::from(topic.name())).collect();
        self.topics_version = version;
        Some(matching)
    }
}

impl fmt::Debug for Matching {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Matching")
            .field("topics_version", &self.topics_version)
            .finish_non_exhaustive()
    }
}

impl Consumer {
    /// Takes up which topics the consumer subscribes to by now.
    pub(super) fn match_topics(&mut self) {
        let Some(matching) = &mut self.matching else { return };
        let Some(topics) = matching.changed(self.broker.manager()) else { return };
        match self.member.as_mut().filter(|member| member.has_joined()) {
            Some(member) => {
                self.subscription.rename(topics.iter().map(AsRef::as_ref));
                member.subscribe(topics);
            }
            None => self.subscription.extend(topics.iter().map(AsRef::as_ref)),
        }
    }
}
