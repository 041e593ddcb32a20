//! The directory that a command works on, and the ways to open it.

use std::fs;
use std::path::{Path, PathBuf};

use sapwood::{Broker, BrokerBuilder, Error, Topic};

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

    /// For a change that is over at once. There is no background thread: whoever alters a topic has
    /// not asked for records to be deleted by age.
    pub(crate) fn change(&self) -> Result<Broker> {
        self.open(|builder| builder.create(false).background_thread(false))
    }

    /// For writing for a while, with everything that a running application does.
    pub(crate) fn write(&self) -> Result<Broker> {
        self.open(|builder| builder.create(false))
    }

    /// As [`Self::change`]; makes the directory if there is none, or takes one that is empty. Among
    /// other files it makes none: that would be a slip in the path.
    pub(crate) fn create(&self) -> Result<Broker> {
        let path = self.path()?;
        let is_free = match fs::read_dir(path) {
            Ok(mut entries) => entries.next().is_none(),
            Err(error) => error.kind() == std::io::ErrorKind::NotFound,
        };
        self.open(|builder| builder.create(is_free).background_thread(false))
    }

    fn open(&self, set_up: impl FnOnce(BrokerBuilder) -> BrokerBuilder) -> Result<Broker> {
        let broker = set_up(Broker::builder(self.path()?)).open()?;
        tell_recovery(&broker);
        Ok(broker)
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
