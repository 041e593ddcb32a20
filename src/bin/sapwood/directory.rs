//! The directory that a command works on, and the ways to open it.

use std::fs;
use std::path::{Path, PathBuf};

use sapwood::{Broker, BrokerBuilder, Error, Topic, TopicConfig};

use crate::exit::{Code, Result, Stop};
use crate::output::warn;

/// Where `--dir` or `SAPWOOD_DIR` points, if anywhere.
pub(crate) struct Directory(Option<PathBuf>);

impl Directory {
    pub(crate) fn new(path: Option<PathBuf>) -> Self {
        Self(path)
    }

    pub(crate) fn path(&self) -> Result<&Path> {
        self.0
            .as_deref()
            .ok_or_else(|| Stop::usage("which directory? give it with --dir DIR or in SAPWOOD_DIR"))
    }

    /// For reading only, beside the process that writes to it, if there is one.
    pub(crate) fn read(&self) -> Result<Broker> {
        Ok(Broker::open_read_only(self.path()?)?)
    }

    /// Opens for a change that is over at once, and closes whatever became of it. There is no
    /// background thread: whoever alters a topic has not asked for records to be deleted by age.
    pub(crate) fn change<T>(&self, work: impl FnOnce(&Broker) -> Result<T>) -> Result<T> {
        self.open(|builder| builder.create(false).background_thread(false), work)
    }

    /// Opens for writing for a while, with everything that a running application does, and closes.
    pub(crate) fn write<T>(&self, work: impl FnOnce(&Broker) -> Result<T>) -> Result<T> {
        self.open(|builder| builder.create(false), work)
    }

    /// Creates a topic. Makes the directory if there is none, or takes one that is empty. Among other
    /// files it makes none: that would be a slip in the path.
    pub(crate) fn create_topic(&self, name: &str, config: TopicConfig) -> Result {
        let path = self.path()?;
        config.validate()?;
        // All that can be wrong with the name is found before a directory is made for it.
        Broker::in_memory()?.create_topic(name, TopicConfig::default())?;
        let is_free = match fs::read_dir(path) {
            Ok(mut entries) => entries.next().is_none(),
            Err(error) => error.kind() == std::io::ErrorKind::NotFound,
        };
        let set_up = |builder: BrokerBuilder| builder.create(is_free).background_thread(false);
        self.open(set_up, |broker| {
            broker.create_topic(name, config)?;
            Ok(())
        })
    }

    fn open<T>(
        &self,
        set_up: impl FnOnce(BrokerBuilder) -> BrokerBuilder,
        work: impl FnOnce(&Broker) -> Result<T>,
    ) -> Result<T> {
        let broker = set_up(Broker::builder(self.path()?)).open()?;
        tell_recovery(&broker);
        let done = work(&broker);
        let closed = broker.close();
        let done = done?;
        closed?;
        Ok(done)
    }
}

/// Says what opening has mended: the process before may have been killed.
fn tell_recovery(broker: &Broker) {
    let report = broker.recovery_report();
    for partition in report.cut() {
        if let Some(cut) = &partition.cut {
            warn(format!(
                "{} ends at offset {} now; {} bytes behind it were no whole batch and were set \
                 aside: {}",
                partition.topic_partition, cut.offset, cut.bytes, cut.reason
            ));
        }
    }
    for unfinished in &report.unfinished {
        warn(unfinished);
    }
}

/// A topic; if it does not exist, the error names those that do.
pub(crate) fn find_topic(broker: &Broker, name: &str) -> Result<Topic> {
    /// More names than this hide the rest of the sentence.
    const NAMED_MAX: usize = 10;
    match broker.topic(name) {
        Err(Error::UnknownTopic { .. }) => {
            let topics = broker.topics()?;
            let there: Vec<_> = topics.iter().map(Topic::name).collect();
            let there = match there.len() {
                0 => "there is none yet, `sapwood topics create` makes one".to_owned(),
                1..=NAMED_MAX => format!("there are: {}", there.join(", ")),
                _ => "`sapwood topics list` shows those that do".to_owned(),
            };
            Err(Stop::failed(Code::NotFound, format!("topic {name:?} does not exist; {there}")))
        }
        found => Ok(found?),
    }
}
