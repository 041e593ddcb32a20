//! Changes to the set of topics: creating, deleting, altering, adding partitions.
//!
//! Each writes its intention into the registry, does the work, and writes that it is done. What was
//! begun and not finished, by this process or one before it, is finished by [`LogManager`] when it
//! opens, or by the next change of the same topic.

use std::sync::Arc;

use super::{LogManager, REGISTRY_LEN_MAX, read_registry};
use crate::error::{Error, Result};
use crate::events;
use crate::fs::{Kind, durably};
use crate::log::PartitionLog;
use crate::log::config::TopicConfig;
use crate::topic::Topic;
use crate::topic::kafka_files::{
    LEADER_EPOCH_FILE, PARTITION_METADATA_FILE, encode_leader_epochs, encode_partition_metadata,
};
use crate::topic::registry::{self, REGISTRY_FILE, RegisteredTopic, Registry, TopicState};
use crate::topic::room::config_for_logs;
use crate::topic::topic_id::TopicId;
use crate::topic_partition::{TopicPartition, check_topic_name};

impl LogManager {
    /// Creates a topic with all its partitions, durably.
    pub(crate) fn create_topic(&self, name: &str, config: TopicConfig) -> Result<Topic> {
        check_topic_name(name)?;
        config.validate()?;
        let mut registry = self.registry.lock();
        self.check_writable("create a topic")?;
        match registry.topics.get(name).map(|topic| topic.state) {
            None => {}
            // An earlier creation failed half-way, perhaps with other settings: it starts over.
            Some(TopicState::Creating { first_partition: 0 }) => {
                self.mark_deleting(&mut registry, name)?;
                self.finish_deleting(&mut registry, name)?;
            }
            Some(TopicState::Deleting) => self.finish_deleting(&mut registry, name)?,
            Some(TopicState::Live | TopicState::Creating { .. }) => {
                return Err(Error::TopicExists { topic: name.to_owned() });
            }
        }
        self.check_directories_are_free(name, 0..config.partitions)?;
        let state = TopicState::Creating { first_partition: 0 };
        let entry = RegisteredTopic { id: TopicId::random(), state, config };
        self.replace_registry(&mut registry, |registry| {
            registry.topics.insert(name.to_owned(), entry);
        })?;
        self.finish_creating(&mut registry, name, 0)?;
        self.topic(name)
    }

    /// Directories of another origin must not become part of a topic.
    fn check_directories_are_free(
        &self,
        name: &str,
        mut numbers: std::ops::Range<u32>,
    ) -> Result<()> {
        numbers.try_for_each(|partition| {
            let path = self.partition_directory(&TopicPartition::new(name, partition));
            match self.environment.fs.kind(&path) {
                Ok(None) => Ok(()),
                Ok(Some(_)) => {
                    let taken = std::io::ErrorKind::AlreadyExists.into();
                    Err(Error::io("create the partition directory", &path, taken))
                }
                Err(error) => Err(Error::io("look at", &path, error)),
            }
        })
    }

    /// Makes the missing partitions of a topic whose intention is registered, and opens them.
    fn finish_creating(&self, registry: &mut Registry, name: &str, first: u32) -> Result<()> {
        let Some(topic) = registry.topics.get(name).cloned() else { return Ok(()) };
        let config = Arc::new(topic.config.clone());
        let mut logs = Vec::new();
        for partition in first..topic.config.partitions {
            logs.push(self.make_partition(&TopicPartition::new(name, partition), &topic)?);
        }
        self.replace_registry(registry, |registry| {
            if let Some(topic) = registry.topics.get_mut(name) {
                topic.state = TopicState::Live;
            }
        })?;
        let mut topics = self.topics.write();
        let handle = topics
            .entry(name.to_owned())
            .or_insert_with(|| self.topic_handle(name, topic.id, &config));
        handle.set_config(config);
        handle.add_logs(logs);
        self.topics_have_changed();
        events::topic_created(name, handle.partition_count());
        Ok(())
    }

    /// Makes the directory and files of one partition and opens it. May be repeated.
    fn make_partition(
        &self,
        address: &TopicPartition,
        topic: &RegisteredTopic,
    ) -> Result<Arc<PartitionLog>> {
        let fs = &*self.environment.fs;
        let directory = self.partition_directory(address);
        durably::create_directory(fs, &directory)?;
        let metadata = encode_partition_metadata(topic.id);
        durably::replace(fs, &directory.join(PARTITION_METADATA_FILE), metadata.as_bytes())?;
        let epochs = encode_leader_epochs(0);
        durably::replace(fs, &directory.join(LEADER_EPOCH_FILE), epochs.as_bytes())?;
        PartitionLog::create(fs, &directory)?;
        let plan = self.plan(address, topic)?;
        let config = config_for_logs(&Arc::new(topic.config.clone()));
        Ok(PartitionLog::open(&self.environment, plan, config)?.0)
    }

    /// Deletes a topic. Once this has returned it is gone for good; handles to it are closed.
    pub(crate) fn delete_topic(&self, name: &str) -> Result<()> {
        let mut registry = self.registry.lock();
        self.check_writable("delete a topic")?;
        if !registry.topics.contains_key(name) {
            return Err(Error::UnknownTopic { topic: name.to_owned() });
        }
        let marked = self.mark_deleting(&mut registry, name);
        let state = registry.topics.get(name).map(|topic| topic.state);
        if state == Some(TopicState::Deleting)
            && let Some(topic) = self.topics.write().remove(name)
        {
            topic.logs().iter().for_each(|log| log.fence_deleted());
            topic.room().changed();
            self.topics_have_changed();
            // A roll or a sync under way would put files into a directory that is being removed.
            topic.logs().iter().for_each(|log| log.abandon());
        }
        marked?;
        self.finish_deleting(&mut registry, name)
    }

    /// Writes down that a topic is to go. After a failure it stays, unless that can no longer be
    /// promised: when the file in place says that it goes, or does not say anything, an
    /// acknowledgement given from then on could go with it.
    fn mark_deleting(&self, registry: &mut Registry, name: &str) -> Result<()> {
        let mark = |registry: &mut Registry| {
            if let Some(topic) = registry.topics.get_mut(name) {
                topic.state = TopicState::Deleting;
            }
        };
        let marked = self.replace_registry(registry, mark);
        if marked.is_err() {
            let in_place = read_registry(&self.environment, &self.directory);
            let stays = in_place.is_ok_and(|in_place| {
                in_place.topics.get(name).is_some_and(|topic| topic.state != TopicState::Deleting)
            });
            if !stays {
                mark(registry);
            }
        }
        marked
    }

    fn finish_deleting(&self, registry: &mut Registry, name: &str) -> Result<()> {
        let Some(topic) = registry.topics.get(name) else { return Ok(()) };
        self.remove_directories(name, 0..topic.config.partitions)?;
        self.replace_registry(registry, |registry| {
            registry.topics.remove(name);
        })?;
        events::topic_deleted(name);
        Ok(())
    }

    fn remove_directories(&self, name: &str, mut numbers: std::ops::Range<u32>) -> Result<()> {
        numbers.try_for_each(|partition| {
            let path = self.partition_directory(&TopicPartition::new(name, partition));
            let kind = self.environment.fs.kind(&path);
            match kind.map_err(|error| Error::io("look at", &path, error))? {
                Some(Kind::Directory) => durably::remove_tree(&*self.environment.fs, &path),
                _ => Ok(()),
            }
        })
    }

    /// Changes a topic's settings, durably. The number of partitions stays.
    pub(crate) fn alter_topic(&self, name: &str, config: TopicConfig) -> Result<()> {
        config.validate()?;
        let mut registry = self.registry.lock();
        self.check_writable("alter a topic")?;
        let topic = self.topic(name)?;
        if config.partitions != topic.partition_count() {
            return Err(Error::InvalidConfig {
                name: "partitions".to_owned(),
                value: config.partitions.to_string(),
                reason: "settings leave the number of partitions alone; use `add_partitions`"
                    .into(),
            });
        }
        self.replace_registry(&mut registry, |registry| {
            if let Some(topic) = registry.topics.get_mut(name) {
                // Partitions that are still to be added stay so.
                topic.config = config.clone().partitions(topic.config.partitions);
            }
        })?;
        let config = Arc::new(config);
        topic.set_config(Arc::clone(&config));
        let for_logs = config_for_logs(&config);
        // One that has failed does not keep the others from their settings.
        let set = topic.logs().iter().map(|log| log.set_config(&for_logs)).collect::<Vec<_>>();
        set.into_iter().collect()
    }

    /// Gives a topic more partitions, all or none, durably.
    pub(crate) fn add_partitions(&self, name: &str, total: u32) -> Result<()> {
        let mut registry = self.registry.lock();
        self.check_writable("add partitions")?;
        let topic = self.topic(name)?;
        let first_partition = topic.partition_count();
        if total <= first_partition {
            return Err(Error::InvalidConfig {
                name: "partitions".to_owned(),
                value: total.to_string(),
                reason: format!("the topic has {first_partition}, and only more are possible"),
            });
        }
        let config = topic.config().partitions(total);
        config.validate()?;
        // An earlier call may have failed half-way: what it has begun to make is ours, to be used or
        // removed, since this call says anew how many there are to be.
        let intended = registry.topics.get(name).map_or(first_partition, |t| t.config.partitions);
        self.check_directories_are_free(name, intended..total)?;
        self.remove_directories(name, total..intended)?;
        self.replace_registry(&mut registry, |registry| {
            if let Some(topic) = registry.topics.get_mut(name) {
                topic.state = TopicState::Creating { first_partition };
                topic.config = config;
            }
        })?;
        self.finish_creating(&mut registry, name, first_partition)
    }

    /// Writes a changed registry; in memory it changes once it is durable.
    fn replace_registry(
        &self,
        registry: &mut Registry,
        change: impl FnOnce(&mut Registry),
    ) -> Result<()> {
        let mut changed = registry.clone();
        change(&mut changed);
        let path = self.directory.join(REGISTRY_FILE);
        let text = registry::encode(&changed);
        if text.len() as u64 > REGISTRY_LEN_MAX {
            return Err(Error::InvalidState(
                "the names and settings of all topics together would take more than 64 MiB",
            ));
        }
        durably::replace(&*self.environment.fs, &path, text.as_bytes())?;
        *registry = changed;
        Ok(())
    }

    /// Finishes what an earlier process began: topics half created, half deleted. What fails stays
    /// as it is and is told: a full disk, or one topic's trouble, must not keep everything else from
    /// being opened (clause 10).
    pub(super) fn finish_changes(&self, registry: &mut Registry) -> Vec<String> {
        let pending = |topic: &RegisteredTopic| topic.state != TopicState::Live;
        let names: Vec<_> = registry
            .topics
            .iter()
            .filter(|(_, topic)| pending(topic))
            .map(|(name, _)| name.clone())
            .collect();
        let mut unfinished = Vec::new();
        for name in names {
            if let Err(error) = self.finish_change(registry, &name) {
                unfinished.push(format!("topic {name:?} is half created or deleted: {error}"));
            }
        }
        unfinished
    }

    /// Finishes what was begun with a topic, if anything was.
    fn finish_change(&self, registry: &mut Registry, name: &str) -> Result<()> {
        match registry.topics.get(name).map(|topic| topic.state) {
            Some(TopicState::Creating { first_partition }) => {
                self.finish_creating(registry, name, first_partition)
            }
            Some(TopicState::Deleting) => self.finish_deleting(registry, name),
            Some(TopicState::Live) | None => Ok(()),
        }
    }
}
