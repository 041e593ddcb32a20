//! The settings of a topic as text: one table with each property's name, both directions between
//! value and text, and range.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use super::{Durability, TopicConfig, WhenFull};
use crate::record::{Compression, TimestampType};

/// The largest value of Kafka's settings of type int.
const INT_MAX: u32 = i32::MAX.unsigned_abs();

/// The largest value of Kafka's settings of type long.
const LONG_MAX: u64 = i64::MAX.unsigned_abs();

/// The longest interval between two flushes. Longer ones would let a power loss take hours of
/// answered sends, which nobody asks for knowingly.
const FLUSH_INTERVAL_MAX: Duration = Duration::from_secs(60 * 60);

/// Entries of the offset index are 8 bytes and of the time index 12: room for eight of the latter,
/// or segments would have to be closed after every other batch.
const SEGMENT_INDEX_BYTES_MIN: u32 = 8 * 12;

/// The smallest limit for a batch: its header of 61 bytes and one small record.
const MAX_MESSAGE_BYTES_MIN: u32 = 128;

/// How many groups `retention.groups` may name; each is asked for at every check.
const RETENTION_GROUPS_MAX: usize = 100;

/// The longest group id that fits into a record of committed offsets, in bytes.
const GROUP_ID_LENGTH_MAX: usize = i16::MAX.unsigned_abs() as usize;

/// Why a value is not allowed, and what would be.
type Reason = String;

/// One setting as text.
pub(super) struct Property {
    pub(super) name: &'static str,
    /// The value as text, in the form that Kafka shows and `set` reads.
    pub(super) get: fn(&TopicConfig) -> String,
    /// Reads the value; the range is left to `check`.
    pub(super) set: fn(&mut TopicConfig, &str) -> Result<(), Reason>,
    /// Checks the value by itself, however it was set.
    pub(super) check: fn(&TopicConfig) -> Result<(), Reason>,
}

/// Every property, in the order in which they are shown.
pub(super) static PROPERTIES: [Property; 18] = [
    Property {
        name: "cleanup.policy",
        get: |_| "delete".to_owned(),
        set: |_, text| match text {
            "delete" => Ok(()),
            _ => Err("compaction is not supported; the only policy is `delete`".to_owned()),
        },
        check: |_| Ok(()),
    },
    Property {
        name: "compression.type",
        get: |config| match config.compression {
            None => "producer".to_owned(),
            // Producers call it `none`, topics call it `uncompressed`.
            Some(Compression::None) => "uncompressed".to_owned(),
            Some(codec) => codec.to_string(),
        },
        set: |config, text| {
            config.compression = match text {
                "producer" => None,
                "uncompressed" => Some(Compression::None),
                _ => Some(codec(text, config.zstd_level)?),
            };
            Ok(())
        },
        check: |_| Ok(()),
    },
    Property {
        name: "compression.zstd.level",
        get: |config| config.zstd_level.to_string(),
        set: |config, text| {
            config.zstd_level = number(text)?;
            if let Some(Compression::Zstd { level }) = &mut config.compression {
                *level = config.zstd_level;
            }
            Ok(())
        },
        check: |config| within(config.zstd_level, -131_072..=22),
    },
    Property {
        name: "durability",
        get: |config| match config.durability {
            Durability::Fsync => "fsync".to_owned(),
            Durability::Written { .. } => "written".to_owned(),
        },
        set: |config, text| {
            config.durability = match text {
                "fsync" => Durability::Fsync,
                "written" => Durability::Written { flush_interval: config.flush_interval },
                _ => return Err("it is `fsync` or `written`".to_owned()),
            };
            Ok(())
        },
        check: |_| Ok(()),
    },
    Property {
        name: "flush.ms",
        get: |config| millis_text(config.flush_interval),
        set: |config, text| {
            config.flush_interval = millis(text)?;
            if let Durability::Written { flush_interval } = &mut config.durability {
                *flush_interval = config.flush_interval;
            }
            Ok(())
        },
        check: |config| {
            whole_millis(config.flush_interval, Duration::from_millis(1)..=FLUSH_INTERVAL_MAX)
        },
    },
    Property {
        name: "index.interval.bytes",
        get: |config| config.index_interval_bytes.to_string(),
        set: |config, text| number(text).map(|bytes| config.index_interval_bytes = bytes),
        check: |config| within(config.index_interval_bytes, 0..=INT_MAX),
    },
    Property {
        name: "max.bytes",
        get: |config| optional_text(config.max_bytes),
        set: |config, text| optional(text).map(|bytes| config.max_bytes = bytes),
        check: |config| config.max_bytes.map_or(Ok(()), |bytes| within(bytes, 0..=LONG_MAX)),
    },
    Property {
        name: "max.bytes.policy",
        get: |config| match config.when_full {
            WhenFull::Refuse => "refuse".to_owned(),
            WhenFull::Block => "block".to_owned(),
            WhenFull::DropOldest => "drop-oldest".to_owned(),
        },
        set: |config, text| {
            config.when_full = match text {
                "refuse" => WhenFull::Refuse,
                "block" => WhenFull::Block,
                "drop-oldest" => WhenFull::DropOldest,
                _ => return Err("it is `refuse`, `block` or `drop-oldest`".to_owned()),
            };
            Ok(())
        },
        check: |_| Ok(()),
    },
    Property {
        name: "max.message.bytes",
        get: |config| config.max_message_bytes.to_string(),
        set: |config, text| number(text).map(|bytes| config.max_message_bytes = bytes),
        check: |config| within(config.max_message_bytes, MAX_MESSAGE_BYTES_MIN..=INT_MAX),
    },
    Property {
        name: "message.timestamp.after.max.ms",
        get: |config| millis_text(config.message_timestamp_after_max),
        set: |config, text| millis(text).map(|time| config.message_timestamp_after_max = time),
        check: |config| whole_millis_from(config.message_timestamp_after_max, 0),
    },
    Property {
        name: "message.timestamp.before.max.ms",
        // Kafka has no word for "no limit" here and uses the largest number.
        get: |config| config.message_timestamp_before_max.map_or(LONG_MAX.to_string(), millis_text),
        set: |config, text| {
            let limit = millis(text)?;
            config.message_timestamp_before_max =
                Some(limit).filter(|limit| *limit != Duration::from_millis(LONG_MAX));
            Ok(())
        },
        check: |config| {
            config.message_timestamp_before_max.map_or(Ok(()), |age| whole_millis_from(age, 0))
        },
    },
    Property {
        name: "message.timestamp.type",
        get: |config| match config.message_timestamp_type {
            TimestampType::CreateTime => "CreateTime".to_owned(),
            TimestampType::LogAppendTime => "LogAppendTime".to_owned(),
        },
        set: |config, text| {
            config.message_timestamp_type = match text {
                "CreateTime" => TimestampType::CreateTime,
                "LogAppendTime" => TimestampType::LogAppendTime,
                _ => return Err("it is `CreateTime` or `LogAppendTime`".to_owned()),
            };
            Ok(())
        },
        check: |_| Ok(()),
    },
    Property {
        name: "retention.bytes",
        get: |config| optional_text(config.retention_bytes),
        set: |config, text| optional(text).map(|bytes| config.retention_bytes = bytes),
        check: |config| config.retention_bytes.map_or(Ok(()), |bytes| within(bytes, 0..=LONG_MAX)),
    },
    Property {
        name: "retention.groups",
        get: |config| config.retention_groups.join(","),
        set: |config, text| {
            config.retention_groups = match text {
                "" => Vec::new(),
                _ => text.split(',').map(|group| group.trim().to_owned()).collect(),
            };
            Ok(())
        },
        check: |config| check_groups(&config.retention_groups),
    },
    Property {
        name: "retention.ms",
        get: |config| config.retention_ms.map_or_else(|| "-1".to_owned(), millis_text),
        set: |config, text| {
            config.retention_ms = optional(text)?.map(Duration::from_millis);
            Ok(())
        },
        check: |config| config.retention_ms.map_or(Ok(()), |age| whole_millis_from(age, 0)),
    },
    Property {
        name: "segment.bytes",
        get: |config| config.segment_bytes.to_string(),
        set: |config, text| number(text).map(|bytes| config.segment_bytes = bytes),
        check: |config| within(config.segment_bytes, 1024..=INT_MAX),
    },
    Property {
        name: "segment.index.bytes",
        get: |config| config.segment_index_bytes.to_string(),
        set: |config, text| number(text).map(|bytes| config.segment_index_bytes = bytes),
        check: |config| within(config.segment_index_bytes, SEGMENT_INDEX_BYTES_MIN..=INT_MAX),
    },
    Property {
        name: "segment.ms",
        get: |config| millis_text(config.segment_ms),
        set: |config, text| millis(text).map(|age| config.segment_ms = age),
        check: |config| whole_millis_from(config.segment_ms, 1),
    },
];

/// The property of this name, or that there is none and which one may have been meant.
pub(super) fn find(name: &str) -> Result<&'static Property, Reason> {
    if let Some(property) = PROPERTIES.iter().find(|property| property.name == name) {
        return Ok(property);
    }
    let nearest = PROPERTIES
        .iter()
        .map(|property| (edit_distance(property.name, name), property.name))
        .min()
        // Farther off it is another word and not a slip.
        .filter(|(distance, nearest)| *distance <= nearest.len() / 4);
    Err(match nearest {
        Some((_, nearest)) => format!("no such setting; did you mean {nearest}?"),
        None => "no such setting of a topic".to_owned(),
    })
}

/// How many characters must be inserted, removed or replaced to make one text of the other
/// (Levenshtein's distance, one row of the table at a time).
fn edit_distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut left = i + 1;
        let mut next = vec![left];
        for (to, pair) in b.chars().zip(row.windows(2)) {
            let [diagonal, above] = *pair else { continue };
            left = (diagonal + usize::from(from != to)).min(above + 1).min(left + 1);
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

fn number<T: FromStr>(text: &str) -> Result<T, Reason> {
    text.parse().map_err(|_| "it is not a whole number that this setting could have".to_owned())
}

/// A number or, as -1, none.
fn optional(text: &str) -> Result<Option<u64>, Reason> {
    if text == "-1" { Ok(None) } else { number(text).map(Some) }
}

fn optional_text(value: Option<u64>) -> String {
    value.map_or_else(|| "-1".to_owned(), |value| value.to_string())
}

fn millis(text: &str) -> Result<Duration, Reason> {
    number(text).map(Duration::from_millis)
}

fn millis_text(duration: Duration) -> String {
    duration.as_millis().to_string()
}

fn codec(text: &str, zstd_level: i32) -> Result<Compression, Reason> {
    match text.parse() {
        Ok(Compression::Zstd { .. }) => Ok(Compression::Zstd { level: zstd_level }),
        Ok(codec) => Ok(codec),
        Err(_) => Err("it is `producer`, `uncompressed`, `lz4` or `zstd`".to_owned()),
    }
}

fn within<T: PartialOrd + Display + Copy>(
    value: T,
    range: RangeInclusive<T>,
) -> Result<(), Reason> {
    if range.contains(&value) {
        return Ok(());
    }
    Err(format!("it must lie between {} and {}", range.start(), range.end()))
}

fn whole_millis_from(duration: Duration, millis_min: u64) -> Result<(), Reason> {
    whole_millis(duration, Duration::from_millis(millis_min)..=Duration::from_millis(LONG_MAX))
}

/// Checks a duration that is stored as a number of milliseconds: it must come back as it went in.
fn whole_millis(duration: Duration, range: RangeInclusive<Duration>) -> Result<(), Reason> {
    let millis = range.start().as_millis()..=range.end().as_millis();
    within(duration.as_millis(), millis)?;
    if !duration.subsec_nanos().is_multiple_of(1_000_000) {
        return Err(format!("{duration:?} is not a whole number of milliseconds"));
    }
    Ok(())
}

fn check_groups(groups: &[String]) -> Result<(), Reason> {
    if groups.len() > RETENTION_GROUPS_MAX {
        return Err(format!("it can name at most {RETENTION_GROUPS_MAX} groups"));
    }
    for (i, group) in groups.iter().enumerate() {
        if group.is_empty() {
            return Err("a group's name is empty".to_owned());
        }
        if group.len() > GROUP_ID_LENGTH_MAX {
            return Err(format!("a group's name is longer than {GROUP_ID_LENGTH_MAX} bytes"));
        }
        // Such a name would come back from its text form as another one, or as several.
        if group.contains(',') || group.trim() != group {
            return Err(format!("group {group:?} has a comma, or a blank at an end"));
        }
        if groups.iter().take(i).any(|earlier| earlier == group) {
            return Err(format!("group {group:?} is named twice"));
        }
    }
    Ok(())
}
