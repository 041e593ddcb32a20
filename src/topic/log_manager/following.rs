//! How a broker that was opened read-only takes up what the writing process does to topics: those it
//! creates and deletes, the partitions it adds, the settings it changes.
//!
//! Relies on the registry being replaced as a whole, and on it naming a partition only after the
//! partition's directory is there, and no longer before it goes.

use std::sync::Arc;

use super::{LogManager, OpenMode, partitions_made, read_registry};
use crate::error::Result;
use crate::log::PartitionLog;
use crate::topic::registry::{RegisteredTopic, Registry, TopicState};
use crate::topic::room::config_for_logs;
use crate::topic_partition::TopicPartition;

impl LogManager {
    /// Takes up how the topics have changed since. Does nothing in a broker that writes.
    ///
    /// # Errors
    ///
    /// As [`LogManager::open`].
    pub(crate) fn follow_topics(&self) -> Result<()> {
        if self.mode == OpenMode::Write {
            return Ok(());
        }
        let mut known = self.registry.lock();
        // A topic may be deleted while it is being looked at; then the registry says so by now.
        self.follow_registry(&mut known).or_else(|_| self.follow_registry(&mut known))
    }

    fn follow_registry(&self, known: &mut Registry) -> Result<()> {
        let current = read_registry(&self.environment, &self.directory)?;
        if current == *known {
            return Ok(());
        }
        self.let_go_of_deleted(&current);
        for (name, topic) in &current.topics {
            self.take_up(name, topic)?;
        }
        *known = current;
        self.topics_have_changed();
        Ok(())
    }

    fn let_go_of_deleted(&self, current: &Registry) {
        self.topics.write().retain(|name, handle| {
            let stays = current.topics.get(name).is_some_and(|topic| {
                topic.state != TopicState::Deleting && topic.id.to_string() == handle.id()
            });
            if !stays {
                handle.logs().iter().for_each(|log| log.fence_deleted());
            }
            stays
        });
    }

    /// Opens the partitions of a topic that are not open yet.
    fn take_up(&self, name: &str, topic: &RegisteredTopic) -> Result<()> {
        let config = Arc::new(topic.config.clone());
        let known = self.topics.read().get(name).cloned();
        let handle = known.unwrap_or_else(|| self.topic_handle(name, topic.id, &config));
        for partition in handle.partition_count()..partitions_made(topic) {
            let plan = self.plan(&TopicPartition::new(name, partition), topic)?;
            let log =
                PartitionLog::open_read_only(&self.environment, plan, config_for_logs(&config))?;
            handle.add_logs([log]);
        }
        if handle.partition_count() > 0 {
            handle.set_config(config);
            self.topics.write().insert(name.to_owned(), handle);
        }
        Ok(())
    }
}
