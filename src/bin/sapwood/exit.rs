//! How a command ends: errors as one sentence for people, and a code for programs.

use std::fmt::Display;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use clap::error::ErrorKind;
use sapwood::Error;

use crate::output::{printable, tell};

/// The result of a command, and of what it consists of.
pub(crate) type Result<T = (), E = Stop> = std::result::Result<T, E>;

/// The exit codes of failures. Part of the interface: `--help` lists them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    Failure = 1,
    Usage = 2,
    NotFound = 3,
    Locked = 4,
    Damaged = 5,
    Full = 6,
    Unsupported = 7,
    Exists = 8,
}

/// Why a command ends before its end.
#[derive(Debug)]
pub(crate) enum Stop {
    /// Something is wrong: one sentence says what, where, and what to do.
    Failed { code: Code, sentence: String },
    /// Whoever read the output has had enough. No failure.
    ClosedPipe,
    /// A signal, by its number; what was done is kept.
    Interrupted(u8),
}

impl Stop {
    pub(crate) fn failed(code: Code, sentence: impl Into<String>) -> Self {
        Self::Failed { code, sentence: sentence.into() }
    }

    pub(crate) fn usage(sentence: impl Into<String>) -> Self {
        Self::failed(Code::Usage, sentence)
    }

    /// What the operating system said about a file of the user's.
    pub(crate) fn file(operation: &str, path: &Path, error: &io::Error) -> Self {
        let code = match error.kind() {
            io::ErrorKind::NotFound => Code::NotFound,
            _ => code_of_io(error),
        };
        Self::failed(code, format!("cannot {operation} {}: {error}", path.display()))
    }

    /// Adds how far the command had come to the sentence of a failure.
    pub(crate) fn after(self, done: impl Display) -> Self {
        match self {
            Self::Failed { code, sentence } => {
                Self::Failed { code, sentence: format!("{sentence} ({done})") }
            }
            other => other,
        }
    }

    /// Says it, and gives the code to exit with.
    pub(crate) fn tell(self) -> ExitCode {
        match self {
            Self::Failed { code, sentence } => {
                // Names and bytes from elsewhere may be in it.
                tell(format_args!("{ERROR}error:{ERROR:#} {}", printable(&sentence)));
                ExitCode::from(code as u8)
            }
            Self::ClosedPipe => ExitCode::SUCCESS,
            Self::Interrupted(signal) => ExitCode::from(128_u8.saturating_add(signal)),
        }
    }
}

const ERROR: anstyle::Style = anstyle::AnsiColor::Red.on_default().bold();

/// From writing to standard output; what concerns files goes through [`Stop::file`].
impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::ClosedPipe,
            _ => Self::failed(
                code_of_io(&error),
                format!("cannot write to standard output: {error}"),
            ),
        }
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed { code: code_of(&error), sentence: sentence(&error) }
    }
}

fn code_of_io(error: &io::Error) -> Code {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            Code::Full
        }
        _ => Code::Failure,
    }
}

fn code_of(error: &Error) -> Code {
    match error {
        Error::NotALogDirectory { .. }
        | Error::UnknownTopic { .. }
        | Error::UnknownPartition { .. }
        | Error::NoCommittedOffset { .. }
        | Error::OffsetOutOfRange { .. } => Code::NotFound,
        Error::InvalidConfig { .. }
        | Error::InvalidTopicName { .. }
        | Error::InvalidGroup { .. } => Code::Usage,
        Error::Locked { .. } | Error::GroupOccupied { .. } => Code::Locked,
        Error::Corrupt(_) => Code::Damaged,
        Error::StorageFull { .. } | Error::TopicFull { .. } => Code::Full,
        Error::UnsupportedFormat { .. } => Code::Unsupported,
        Error::TopicExists { .. } | Error::InvalidTarget { .. } => Code::Exists,
        Error::SendFailed { source, .. } | Error::PartitionFailed { source, .. } => code_of(source),
        _ => Code::Failure,
    }
}

/// The library speaks to programmers; where it says what to do, a person at a shell does something
/// else.
pub(crate) fn sentence(error: &Error) -> String {
    match error {
        Error::UnknownTopic { topic } => format!(
            "topic {topic:?} does not exist; `sapwood topics list` shows those that do, \
             `sapwood topics create` makes one"
        ),
        Error::TopicExists { topic } => format!(
            "topic {topic:?} exists already; `sapwood topics describe` shows it, `sapwood topics \
             alter` changes it"
        ),
        Error::Locked { path } => format!(
            "{} is held: another process has the directory open for writing; this command writes \
             too, so try again when that process has closed it (commands that read work meanwhile)",
            path.display()
        ),
        Error::NotALogDirectory { path, reason } => format!(
            "{} is no directory of topics: {reason}; check --dir or SAPWOOD_DIR, or make one with \
             `sapwood topics create`",
            path.display()
        ),
        Error::UnsupportedFormat { .. } => {
            format!(
                "{error}; a newer version of this program, or the one that wrote it, can read it"
            )
        }
        Error::Corrupt(damage) => format!("{damage}; nothing was changed"),
        error => error.to_string(),
    }
}

/// The code for what the parser of the command line has to say.
pub(crate) fn code_of_usage(answer: &clap::Error) -> ExitCode {
    match answer.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
        _ => ExitCode::from(Code::Usage as u8),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use sapwood::TopicPartition;

    use super::*;

    #[test]
    fn a_failed_send_has_the_code_of_what_failed_it() {
        let full = Error::TopicFull { topic: "orders".to_owned(), size: 2, limit: 1 };
        let topic_partition = TopicPartition::new("orders", 0);
        let failed = Error::SendFailed { topic_partition, source: Arc::new(full) };
        assert_eq!(code_of(&failed), Code::Full);
    }

    #[test]
    fn a_closed_pipe_is_no_failure_and_a_full_disk_behind_it_is() {
        let of = |kind| Stop::from(io::Error::from(kind));
        assert!(matches!(of(io::ErrorKind::BrokenPipe), Stop::ClosedPipe));
        assert!(matches!(of(io::ErrorKind::StorageFull), Stop::Failed { code: Code::Full, .. }));
    }
}
