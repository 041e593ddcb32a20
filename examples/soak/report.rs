//! What a worker says on its pipe, a line each: what it is about to do, where that leaves a trace
//! if it dies in the middle; and what was acknowledged, once the call has returned and before
//! anything is built on it. The pipe is outside the directory, so what was said stays said.

use std::fmt;
use std::io::{self, Write};
use std::sync::LazyLock;
use std::time::Instant;

/// A partition, by the id of its topic: a topic that is created anew is another one.
pub type Place = (String, u32);

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// A topic of this name is about to be created.
    Creating(String),
    /// Name, id, number of partitions, retention in bytes.
    Created(String, String, u32, u64),
    /// A topic, by its id, is about to be deleted.
    Deleting(String),
    Deleted(String),
    /// A topic is about to get partitions: how many in all.
    Adding(String, u32),
    Added(String, u32),
    /// A topic's retention is about to be set, in bytes.
    Altering(String, u64),
    Altered(String, u64),
    /// Records before an offset are about to be given up.
    Giving(Place, u64),
    Given(Place, u64),
    /// Records are acknowledged: the first one's offset, producer and sequence, their number, and
    /// when the call began and was answered (see [`elapsed`]).
    Acknowledged(Place, u64, u64, u64, u64, (u64, u64)),
    /// A consumer was given everything before an offset.
    Seen(Place, u64),
    /// A group is about to commit an offset.
    Committing(String, Place, u64),
    Committed(String, Place, u64),
    /// A share group is about to be done with the record at an offset.
    Finishing(String, Place, u64),
    Finished(String, Place, u64),
    /// The broker was closed, and the worker is done.
    Closed,
    /// A call failed that should not have, unless the disk did.
    Failed(String),
    /// Something is wrong, whatever the disk did.
    Wrong(String),
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Creating(name) => write!(f, "creating {name}"),
            Self::Created(name, id, partitions, retention) => {
                write!(f, "created {name} {id} {partitions} {retention}")
            }
            Self::Deleting(id) => write!(f, "deleting {id}"),
            Self::Deleted(id) => write!(f, "deleted {id}"),
            Self::Adding(id, total) => write!(f, "adding {id} {total}"),
            Self::Added(id, total) => write!(f, "added {id} {total}"),
            Self::Altering(id, bytes) => write!(f, "altering {id} {bytes}"),
            Self::Altered(id, bytes) => write!(f, "altered {id} {bytes}"),
            Self::Giving((id, n), before) => write!(f, "giving {id} {n} {before}"),
            Self::Given((id, n), start) => write!(f, "given {id} {n} {start}"),
            Self::Acknowledged((id, n), offset, producer, sequence, count, (began, answered)) => {
                let of = format!("{offset} {producer} {sequence} {count}");
                write!(f, "acknowledged {id} {n} {of} {began} {answered}")
            }
            Self::Seen((id, n), end) => write!(f, "seen {id} {n} {end}"),
            Self::Committing(group, (id, n), at) => write!(f, "committing {group} {id} {n} {at}"),
            Self::Committed(group, (id, n), at) => write!(f, "committed {group} {id} {n} {at}"),
            Self::Finishing(group, (id, n), at) => write!(f, "finishing {group} {id} {n} {at}"),
            Self::Finished(group, (id, n), at) => write!(f, "finished {group} {id} {n} {at}"),
            Self::Closed => write!(f, "closed"),
            Self::Failed(text) => write!(f, "failed {}", text.replace('\n', " ")),
            Self::Wrong(text) => write!(f, "wrong {}", text.replace('\n', " ")),
        }
    }
}

/// Microseconds since this process first asked.
pub fn elapsed() -> u64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    u64::try_from(START.elapsed().as_micros()).unwrap_or(u64::MAX)
}

impl Report {
    /// Records, with the first one's producer and sequence, are acknowledged now.
    pub fn acknowledged(
        place: Place,
        offset: u64,
        (producer, sequence): (u64, u64),
        count: u64,
        began: u64,
    ) -> Self {
        Self::Acknowledged(place, offset, producer, sequence, count, (began, elapsed()))
    }

    /// Says it, whole: lines of several threads do not mix, and a kill leaves whole lines and at
    /// most one torn one at the end.
    pub fn say(&self) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(format!("{self}\n").as_bytes())?;
        out.flush()
    }

    /// The id of the topic it is about, if it is about one that has an id.
    pub fn topic(&self) -> Option<&str> {
        match self {
            Self::Created(_, id, ..)
            | Self::Deleting(id)
            | Self::Deleted(id)
            | Self::Adding(id, _)
            | Self::Added(id, _)
            | Self::Altering(id, _)
            | Self::Altered(id, _)
            | Self::Giving((id, _), _)
            | Self::Given((id, _), _)
            | Self::Acknowledged((id, _), ..)
            | Self::Seen((id, _), _)
            | Self::Committing(_, (id, _), _)
            | Self::Committed(_, (id, _), _)
            | Self::Finishing(_, (id, _), _)
            | Self::Finished(_, (id, _), _) => Some(id),
            Self::Creating(_) | Self::Closed | Self::Failed(_) | Self::Wrong(_) => None,
        }
    }

    /// Reads a line; `None` for one that is no report.
    pub fn parse(line: &str) -> Option<Self> {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let mut words = Words(rest.split(' '));
        Some(match word {
            "creating" => Self::Creating(words.text()?),
            "created" => {
                Self::Created(words.text()?, words.text()?, words.small()?, words.number()?)
            }
            "deleting" => Self::Deleting(words.text()?),
            "deleted" => Self::Deleted(words.text()?),
            "adding" => Self::Adding(words.text()?, words.small()?),
            "added" => Self::Added(words.text()?, words.small()?),
            "altering" => Self::Altering(words.text()?, words.number()?),
            "altered" => Self::Altered(words.text()?, words.number()?),
            "giving" => Self::Giving(words.place()?, words.number()?),
            "given" => Self::Given(words.place()?, words.number()?),
            "acknowledged" => Self::Acknowledged(
                words.place()?,
                words.number()?,
                words.number()?,
                words.number()?,
                words.number()?,
                (words.number()?, words.number()?),
            ),
            "seen" => Self::Seen(words.place()?, words.number()?),
            "committing" => Self::Committing(words.text()?, words.place()?, words.number()?),
            "committed" => Self::Committed(words.text()?, words.place()?, words.number()?),
            "finishing" => Self::Finishing(words.text()?, words.place()?, words.number()?),
            "finished" => Self::Finished(words.text()?, words.place()?, words.number()?),
            "closed" => Self::Closed,
            "failed" => Self::Failed(rest.to_owned()),
            "wrong" => Self::Wrong(rest.to_owned()),
            _ => return None,
        })
    }
}

struct Words<'a>(std::str::Split<'a, char>);

impl Words<'_> {
    fn text(&mut self) -> Option<String> {
        self.0.next().filter(|word| !word.is_empty()).map(str::to_owned)
    }

    fn number(&mut self) -> Option<u64> {
        self.0.next()?.parse().ok()
    }

    fn small(&mut self) -> Option<u32> {
        self.0.next()?.parse().ok()
    }

    fn place(&mut self) -> Option<Place> {
        Some((self.text()?, self.small()?))
    }
}
