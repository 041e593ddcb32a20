//! The lists: topics, partitions, groups, what a group has committed, and records. Pure.

use sapwood::Timestamp;

use super::grid::{Cell, Column, Grid, Row};
use super::history::{Appended, History, Step};
use super::look::{CommittedLook, GroupLook, Horizon, Limit, Look, PartitionLook, TopicLook};
use super::records::{Bytes, Page, RecordLook};
use super::series::Series;
use super::text::{
    age_text, byte_rate_text, count_text, line_bytes, line_text, rate_text, time_text,
};
use crate::output::bytes_text;

/// The last look, and what came before it.
#[derive(Clone, Copy)]
pub(super) struct Seen<'a> {
    pub(super) look: &'a Look,
    pub(super) history: &'a History,
}

/// How much of a key or value stands in a list, at most.
const LISTED_LEN_MAX: usize = 1000;

/// All topics.
pub(super) fn topics(seen: Seen<'_>) -> Grid {
    const COLUMNS: [Column; 11] = [
        Column::left("TOPIC", 11, 0).up_to(40),
        Column::right("PARTS", 5, 7),
        Column::right("RECORDS/S", 9, 1),
        Column::left("", 10, 3).up_to(36),
        Column::right("BYTES/S", 11, 6),
        Column::right("RECORDS", 7, 8),
        Column::right("SIZE", 9, 2),
        Column::right("OLDEST", 6, 9),
        Column::left("HORIZON", 14, 4).up_to(18),
        Column::right("UNSYNCED", 8, 10),
        Column::left("LAST SYNC SEEN", 17, 5).up_to(20),
    ];
    let row = |topic: &TopicLook| Row {
        id: topic.name.clone(),
        cells: topic_cells(seen, topic),
        trouble: topic_trouble(topic),
    };
    Grid { columns: COLUMNS.into(), rows: seen.look.topics.iter().map(row).collect() }
}

fn topic_cells(seen: Seen<'_>, topic: &TopicLook) -> Vec<Cell> {
    let now = seen.look.now;
    let sum = |of: fn(&PartitionLook) -> u64| topic.partitions.iter().map(of).sum::<u64>();
    let parts = topic.partitions.len();
    let mut cells = vec![Cell::text(&topic.name), Cell::count(parts.to_string(), parts as u64)];
    cells.extend(appended_cells(seen.history.topic(topic)));
    cells.extend([
        count(sum(PartitionLook::records)),
        bytes(topic.size()),
        age(topic.oldest_age(now)),
        horizon(topic.horizon(now)),
        count(sum(PartitionLook::unsynced)),
        step(seen, seen.history.last_step(topic)),
    ]);
    cells
}

fn topic_trouble(topic: &TopicLook) -> Option<String> {
    let trouble = |partition: &PartitionLook| partition.trouble.clone();
    topic.partitions.iter().find_map(trouble)
}

/// The partitions of a topic.
pub(super) fn partitions(seen: Seen<'_>, topic: &TopicLook) -> Grid {
    const COLUMNS: [Column; 12] = [
        Column::right("PARTITION", 9, 0),
        Column::right("RECORDS/S", 9, 1),
        Column::left("", 10, 4).up_to(36),
        Column::right("BYTES/S", 11, 6),
        Column::right("START", 10, 5).up_to(14),
        Column::right("END", 10, 2).up_to(14),
        Column::right("SIZE", 9, 3),
        Column::right("OLDEST", 6, 8),
        Column::left("HORIZON", 14, 9).up_to(18),
        Column::right("UNSYNCED", 8, 7),
        Column::left("LAST SYNC SEEN", 17, 10).up_to(20),
        Column::right("LAST APPEND", 11, 11),
    ];
    let row = |partition: &PartitionLook| Row {
        id: partition.number.to_string(),
        cells: partition_cells(seen, topic, partition),
        trouble: partition.trouble.clone(),
    };
    Grid { columns: COLUMNS.into(), rows: topic.partitions.iter().map(row).collect() }
}

fn partition_cells(seen: Seen<'_>, topic: &TopicLook, partition: &PartitionLook) -> Vec<Cell> {
    let now = seen.look.now;
    let history = seen.history.partition(topic, partition.number);
    let mut cells = vec![Cell::text(partition.number.to_string())];
    cells.extend(appended_cells(history.map(|history| &history.appended)));
    cells.extend([
        offset(partition.log_start_offset),
        offset(partition.log_end_offset),
        bytes(partition.size),
        age(partition.oldest_age(now)),
        horizon(partition.horizon(&topic.limits, now)),
        count(partition.unsynced()),
        step(seen, history.and_then(|history| history.steps.back()).copied()),
        append_cell(seen, history.and_then(|history| history.last_append)),
    ]);
    cells
}

/// All groups.
pub(super) fn groups(seen: Seen<'_>) -> Grid {
    const COLUMNS: [Column; 8] = [
        Column::left("GROUP", 16, 0).up_to(40),
        Column::right("PARTS", 5, 5),
        Column::right("LAG", 7, 1),
        Column::left("", 14, 2).up_to(50),
        Column::right("CONSUMED/S", 10, 3),
        Column::left("", 10, 6).up_to(36),
        Column::right("BEHIND", 7, 7),
        Column::right("COMMITTED", 9, 4),
    ];
    let most = seen.look.groups.iter().map(GroupLook::lag).max().unwrap_or_default();
    let row = |group: &GroupLook| Row {
        id: group.name.clone(),
        cells: group_cells(seen, group, most),
        trouble: None,
    };
    Grid { columns: COLUMNS.into(), rows: seen.look.groups.iter().map(row).collect() }
}

fn group_cells(seen: Seen<'_>, group: &GroupLook, most: u64) -> Vec<Cell> {
    let parts = group.offsets.len();
    let consumed = seen.history.group(&group.name).map(|history| &history.consumed);
    let committed_at = group.offsets.iter().map(|committed| committed.committed_at).max();
    let [rate, spark] = rate_cells(consumed);
    vec![
        Cell::text(line_text(&group.name)),
        Cell::count(parts.to_string(), parts as u64),
        count(group.lag()),
        bar(group.lag(), most),
        rate,
        spark,
        percent_behind(seen.look, &group.offsets),
        age(committed_at.map(|at| since(at, seen.look.now))),
    ]
}

impl GroupLook {
    pub(super) fn lag(&self) -> u64 {
        self.offsets.iter().map(|committed| committed.lag).sum()
    }
}

/// What a group has committed, by partition.
pub(super) fn committed(seen: Seen<'_>, group: &GroupLook) -> Grid {
    const COLUMNS: [Column; 9] = [
        Column::left("TOPIC-PARTITION", 16, 0).up_to(44),
        Column::right("COMMITTED", 10, 4).up_to(14),
        Column::right("LAG", 7, 1),
        Column::left("", 14, 2).up_to(50),
        Column::right("CONSUMED/S", 10, 3),
        Column::left("", 10, 6).up_to(36),
        Column::right("BEHIND", 7, 7),
        Column::right("WHEN", 6, 5),
        Column::left("METADATA", 8, 8).up_to(40),
    ];
    let most = group.offsets.iter().map(|committed| committed.lag).max().unwrap_or_default();
    let row = |committed: &CommittedLook| Row {
        id: committed.topic_partition.to_string(),
        cells: committed_cells(seen, group, committed, most),
        trouble: None,
    };
    Grid { columns: COLUMNS.into(), rows: group.offsets.iter().map(row).collect() }
}

fn committed_cells(
    seen: Seen<'_>,
    group: &GroupLook,
    committed: &CommittedLook,
    most: u64,
) -> Vec<Cell> {
    let history = seen.history.group(&group.name);
    let consumed = history.and_then(|group| group.of_partitions.get(&committed.topic_partition));
    let [rate, spark] = rate_cells(consumed);
    vec![
        Cell::text(committed.topic_partition.to_string()),
        offset(committed.offset),
        count(committed.lag),
        bar(committed.lag, most),
        rate,
        spark,
        percent_behind(seen.look, std::slice::from_ref(committed)),
        age(Some(since(committed.committed_at, seen.look.now))),
        Cell::text(line_text(&committed.metadata)),
    ]
}

/// How much of what can be read is still to be read.
#[allow(clippy::cast_precision_loss)] // a percentage
fn percent_behind(look: &Look, offsets: &[CommittedLook]) -> Cell {
    let records = |committed: &CommittedLook| {
        let of = &committed.topic_partition;
        let topic = look.topics.iter().find(|topic| topic.name == of.topic())?;
        let partition = topic.partitions.iter().find(|p| p.number == of.partition())?;
        Some(partition.records())
    };
    let there: u64 = offsets.iter().filter_map(records).sum();
    let lag: u64 = offsets.iter().map(|committed| committed.lag).sum();
    if there == 0 {
        return Cell::none();
    }
    let percent = lag.min(there) as f64 * 100.0 / there as f64;
    // A little is not nothing.
    let shown = if lag > 0 { percent.max(1.0) } else { percent };
    Cell::number(format!("{shown:.0}%"), percent)
}

/// Rate of records, its course, and rate of bytes.
fn appended_cells(appended: Option<&Appended>) -> [Cell; 3] {
    let [rate, spark] = rate_cells(appended.map(|appended| &appended.records));
    let bytes = appended.map(|appended| appended.bytes.rate()).unwrap_or_default();
    [rate, spark, Cell::number(byte_rate_text(bytes), bytes)]
}

fn rate_cells(series: Option<&Series>) -> [Cell; 2] {
    let rate = series.map(Series::rate).unwrap_or_default();
    let course = series.map(Series::rates).unwrap_or_default();
    [Cell::number(rate_text(rate), rate), Cell::spark(course)]
}

fn count(n: u64) -> Cell {
    Cell::count(count_text(n), n)
}

/// In full: one goes there.
fn offset(offset: u64) -> Cell {
    Cell::count(offset.to_string(), offset)
}

fn bytes(n: u64) -> Cell {
    Cell::count(bytes_text(n), n)
}

#[allow(clippy::cast_precision_loss)] // a bar
fn bar(part: u64, whole: u64) -> Cell {
    Cell::bar(part as f64 / whole.max(1) as f64)
}

#[allow(clippy::cast_precision_loss)] // an order
fn age(millis: Option<i64>) -> Cell {
    millis.map_or_else(Cell::none, |millis| Cell::number(age_text(millis), millis as f64))
}

fn horizon(horizon: Option<Horizon>) -> Cell {
    let Some(Horizon { share, limit }) = horizon else { return Cell::none() };
    Cell::number(format!("{:.0}% {}", share * 100.0, limit_text(limit)), share)
}

pub(super) fn limit_text(limit: Limit) -> String {
    match limit {
        Limit::Millis(millis) => age_text(i64::try_from(millis).unwrap_or(i64::MAX)),
        Limit::Bytes(bytes) => bytes_text(bytes),
    }
}

/// Since when, and how many.
pub(super) fn step_text(seen: Seen<'_>, step: Step) -> String {
    let ago = seen.look.at.saturating_sub(step.at).as_millis();
    let ago = age_text(i64::try_from(ago).unwrap_or(i64::MAX));
    format!("+{} {ago} ago", count_text(step.records))
}

fn step(seen: Seen<'_>, step: Option<Step>) -> Cell {
    let Some(step) = step else { return Cell::none() };
    Cell::number(step_text(seen, step), step.at.as_secs_f64())
}

fn append_cell(seen: Seen<'_>, at: Option<std::time::Duration>) -> Cell {
    let ago = at.map(|at| seen.look.at.saturating_sub(at).as_millis());
    age(ago.map(|ago| i64::try_from(ago).unwrap_or(i64::MAX)))
}

fn since(then: Timestamp, now: Timestamp) -> i64 {
    now.as_millis().saturating_sub(then.as_millis())
}

/// A page of records. It has the order of the log.
pub(super) fn records(page: &Page) -> Grid {
    const COLUMNS: [Column; 5] = [
        Column::right("OFFSET", 8, 0).up_to(12),
        Column::left("TIME (UTC)", 23, 3),
        Column::left("KEY", 12, 4).up_to(30),
        Column::right("BYTES", 6, 5),
        Column::left("VALUE", 20, 1).up_to(120),
    ];
    let row = |record: &RecordLook| Row {
        id: record.offset.to_string(),
        cells: vec![
            Cell::text(record.offset.to_string()),
            Cell::text(time_text(record.timestamp)),
            Cell::text(listed(record.key.as_ref())),
            Cell::text(record.value.as_ref().map_or("-".to_owned(), |value| value.len.to_string())),
            Cell::text(listed(record.value.as_ref())),
        ],
        trouble: None,
    };
    Grid { columns: COLUMNS.into(), rows: page.records.iter().map(row).collect() }
}

/// On one line; nothing where there is none.
fn listed(bytes: Option<&Bytes>) -> String {
    let Some(bytes) = bytes else { return "(null)".to_owned() };
    line_bytes(bytes.kept.get(..LISTED_LEN_MAX).unwrap_or(&bytes.kept))
}
