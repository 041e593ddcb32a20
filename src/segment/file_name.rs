//! Names of the files of a segment: the base offset as 20 decimal digits and a suffix, as Kafka
//! writes them (`kafka` `LogFileUtils`), plus the few of our own that Kafka ignores.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// Which of a segment's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Suffix {
    /// The record batches.
    Log,
    /// Sparse offset -> file position.
    Index,
    /// Sparse timestamp -> offset.
    TimeIndex,
    /// Aborted transactions.
    TxnIndex,
    /// Producer state up to the offset in the name.
    Snapshot,
    /// A `.log` that was moved aside by recovery, complete or in part: kept for a person to look at,
    /// never read again by us. Kafka ignores the name.
    Torn,
    /// A `.log` being rewritten by recovery. Worth nothing until it is renamed.
    Carried,
    /// A `.log` that retention has given up. Removed at the next chance.
    Deleted,
}

const SUFFIXES: [(Suffix, &str); 8] = [
    (Suffix::Log, ".log"),
    (Suffix::Index, ".index"),
    (Suffix::TimeIndex, ".timeindex"),
    (Suffix::TxnIndex, ".txnindex"),
    (Suffix::Snapshot, ".snapshot"),
    (Suffix::Torn, ".torn"),
    (Suffix::Carried, ".log.carried"),
    (Suffix::Deleted, ".log.deleted"),
];

/// How many digits Kafka writes an offset with.
const DIGITS: usize = 20;

/// The path of one of the files of the segment that starts at `base_offset`.
pub(crate) fn path(directory: &Path, base_offset: u64, suffix: Suffix) -> PathBuf {
    let text = SUFFIXES.iter().find(|(known, _)| *known == suffix).map_or("", |(_, text)| *text);
    directory.join(format!("{base_offset:020}{text}"))
}

/// Reads a file name back. `None` for every name that is not exactly one of ours or Kafka's.
pub(crate) fn parse(name: &OsStr) -> Option<(u64, Suffix)> {
    let (digits, rest) = name.to_str()?.split_at_checked(DIGITS)?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let base_offset = digits.parse().ok().filter(|offset| i64::try_from(*offset).is_ok())?;
    let (suffix, _) = SUFFIXES.iter().find(|(_, text)| *text == rest)?;
    Some((base_offset, *suffix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_as_they_were_written() {
        for (suffix, _) in SUFFIXES {
            for offset in [0, 7, i64::MAX.unsigned_abs()] {
                let path = path(Path::new("d"), offset, suffix);
                assert_eq!(parse(path.file_name().unwrap()), Some((offset, suffix)));
            }
        }
    }

    #[test]
    fn foreign_names_are_left_alone() {
        for name in [
            "lost+found",
            "0.log",
            "00000000000000000000",
            "00000000000000000000.log.swap",
            "0000000000000000000x.log",
            "+0000000000000000000.log",
            "99999999999999999999.log",
            "00000000000000000000.LOG",
            "leader-epoch-checkpoint",
            "ééééééééééééééé.log",
        ] {
            assert_eq!(parse(OsStr::new(name)), None, "{name}");
        }
    }
}
