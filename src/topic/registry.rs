//! The registry of topics: the one file in the root that says which topics there are, with their
//! ids, partition counts and settings. A partition's directory alone does not make a topic.
//!
//! It is a text file, so that it can be looked at, and replaced as a whole (contract, clause 23).
//! Its last line is a checksum over all bytes before it: a registry is read whole or not at all,
//! because a topic that is missing from it would pass for deleted.
//!
//! ```text
//! sapwood-topics 1
//! orders live ASNFZ4mrze_-3LqYdlQyEA 4 retention.ms=-1 segment.bytes=2097152
//! audit creating:2 t0FnUfVyTO6Iy5UGYRcEsQ 6
//! old deleting 4v9DT_epT0yYkVWpKzCJ8Q 1
//! crc32 9a3d0c57
//! ```
//!
//! The fields of a line are separated by one blank: name, state, topic id, partition count, and the
//! properties that differ from the defaults. In a property's value every byte that is not a plain
//! visible ASCII character, and `%`, is written as `%` and two hexadecimal digits. Topics are sorted
//! by name, properties by theirs.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use crate::log::config::TopicConfig;
use crate::topic::topic_id::TopicId;
use crate::topic_partition::check_topic_name;

/// The file's name in the root of the log directory.
pub(crate) const REGISTRY_FILE: &str = "sapwood.topics";

const MAGIC: &str = "sapwood-topics";
const VERSION: u32 = 1;

/// All topics of a broker.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Registry {
    pub(crate) topics: BTreeMap<String, RegisteredTopic>,
}

/// What the registry knows of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RegisteredTopic {
    pub(crate) id: TopicId,
    pub(crate) state: TopicState,
    /// Settings and, in them, the number of partitions; valid.
    pub(crate) config: TopicConfig,
}

/// How far the topic's directories are what the registry says. A broker that was stopped in the
/// middle of a change finds here what is left to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TopicState {
    /// All partitions have their directories.
    Live,
    /// Partitions from this number on may have no directory yet; none of them has a record. From 0:
    /// the topic itself is being created.
    Creating {
        /// The first of those.
        first_partition: u32,
    },
    /// The topic is gone for everyone; its directories may still be there.
    Deleting,
}

/// Why a registry cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RegistryError {
    /// The bytes are not those that were written.
    #[error("{0}")]
    Damaged(String),
    /// The bytes are those that were written, as the checksum proves, and still make no sense: a
    /// newer version wrote them, with a setting, a state or a layout that this one does not know.
    #[error("{0}; open it with the newer version that wrote it")]
    Unsupported(String),
}

/// The registry as the bytes of its file. The same registry always gives the same bytes.
pub(crate) fn encode(registry: &Registry) -> String {
    let mut text = format!("{MAGIC} {VERSION}\n");
    for (name, topic) in &registry.topics {
        text.push_str(&encode_topic(name, topic));
        text.push('\n');
    }
    let crc = crc32fast::hash(text.as_bytes());
    text + &format!("crc32 {crc:08x}\n")
}

/// Reads the bytes of a registry file.
pub(crate) fn decode(file: &[u8]) -> Result<Registry, RegistryError> {
    let text = checked_text(file)?;
    let mut lines = text.lines();
    check_header(lines.next().unwrap_or_default())?;
    let mut topics = BTreeMap::new();
    for line in lines {
        let (name, topic) = decode_topic(line).map_err(|reason| unsupported(&reason, line))?;
        if topics.insert(name, topic).is_some() {
            return Err(unsupported("the topic is there twice", line));
        }
    }
    Ok(Registry { topics })
}

/// All but the last line, if that is the checksum of it. Every version ends in this way, so that a
/// newer version can be told from damage.
fn checked_text(file: &[u8]) -> Result<&str, RegistryError> {
    let no_checksum = || RegistryError::Damaged("it does not end in a checksum".to_owned());
    let text =
        str::from_utf8(file).map_err(|_| RegistryError::Damaged("it is not text".to_owned()))?;
    let lines = text.strip_suffix('\n').ok_or_else(no_checksum)?;
    let split_at = lines.rfind('\n').map_or(0, |newline| newline + 1);
    let (checked, last) = lines.split_at_checked(split_at).ok_or_else(no_checksum)?;
    let stored = last.strip_prefix("crc32 ").ok_or_else(no_checksum)?;
    let computed = format!("{:08x}", crc32fast::hash(checked.as_bytes()));
    if stored != computed {
        let reason = format!("its checksum is {computed}, and it says {stored}");
        return Err(RegistryError::Damaged(reason));
    }
    Ok(checked)
}

fn check_header(header: &str) -> Result<(), RegistryError> {
    let version = header.strip_prefix(MAGIC).and_then(|rest| rest.strip_prefix(' '));
    if version.and_then(|version| version.parse().ok()) == Some(VERSION) {
        return Ok(());
    }
    Err(unsupported(&format!("it is not of version {VERSION}, the one this build reads"), header))
}

fn unsupported(reason: &str, line: &str) -> RegistryError {
    RegistryError::Unsupported(format!("{reason}: {line:?}"))
}

fn encode_topic(name: &str, topic: &RegisteredTopic) -> String {
    let state = match topic.state {
        TopicState::Live => "live".to_owned(),
        TopicState::Creating { first_partition } => format!("creating:{first_partition}"),
        TopicState::Deleting => "deleting".to_owned(),
    };
    let mut line = format!("{name} {state} {} {}", topic.id, topic.config.partitions);
    for (property, value) in topic.config.overrides() {
        line.extend([" ", property, "=", &escape(&value)]);
    }
    line
}

fn decode_topic(line: &str) -> Result<(String, RegisteredTopic), String> {
    let mut fields = line.split(' ');
    let mut field = || fields.next().unwrap_or_default();
    let name = field();
    check_topic_name(name).map_err(|error| error.to_string())?;
    let state = decode_state(field())?;
    let id = field().parse().map_err(|error| format!("{error}"))?;
    let partitions = number(field())?;
    let mut config = TopicConfig::default().partitions(partitions);
    for property in fields {
        let (name, value) = property.split_once('=').ok_or("a property has no value")?;
        let value = unescape(value).ok_or("a property's value is not readable")?;
        config = config.set(name, &value).map_err(|error| error.to_string())?;
    }
    config.validate().map_err(|error| error.to_string())?;
    Ok((name.to_owned(), RegisteredTopic { id, state, config }))
}

fn decode_state(text: &str) -> Result<TopicState, String> {
    match text.split_once(':') {
        None if text == "live" => Ok(TopicState::Live),
        None if text == "deleting" => Ok(TopicState::Deleting),
        Some(("creating", first)) => Ok(TopicState::Creating { first_partition: number(first)? }),
        _ => Err("the state is unknown".to_owned()),
    }
}

fn number(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| "a number is unreadable".to_owned())
}

/// Writes a value so that it has no blanks, newlines or anything else that would need care.
fn escape(value: &str) -> String {
    value
        .bytes()
        .map(|byte| match byte {
            b'%' => "%25".to_owned(),
            _ if byte.is_ascii_graphic() => char::from(byte).to_string(),
            _ => format!("%{byte:02x}"),
        })
        .collect()
}

/// The value that was escaped; `None` where it was not escaped by [`escape`].
fn unescape(escaped: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(escaped.len());
    let mut rest = escaped.bytes();
    while let Some(byte) = rest.next() {
        let byte = if byte == b'%' {
            let mut digit = || char::from(rest.next()?).to_digit(16);
            u8::try_from(digit()? << 4 | digit()?).ok()?
        } else {
            byte
        };
        bytes.push(byte);
    }
    String::from_utf8(bytes).ok()
}
