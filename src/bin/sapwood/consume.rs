//! `sapwood consume`.

use std::collections::BTreeMap;
use std::io::{BufWriter, StdoutLock, Write};
use std::time::{Duration, Instant};

use clap::Args;
use sapwood::{
    AutoOffsetReset, Broker, Consumer, ConsumerRecords, Error, OffsetAndMetadata, Partition, Topic,
    TopicPartition,
};

use crate::directory::{Directory, find_topic};
use crate::exit::{Result, Stop};
use crate::filter::Filter;
use crate::output::{Look, warn, write_json};
use crate::record_format::{Format, JsonRecord, RecordPrinter};
use crate::settings::{Ago, At};
use crate::signals::{Interrupt, stdout_is_closed};

/// How often progress is committed while records are printed.
const COMMIT_INTERVAL: Duration = Duration::from_secs(1);

/// How long one poll waits: an interrupt or a closed pipe is noticed after it.
const PATIENCE: Duration = Duration::from_millis(100);

/// How many records one poll returns at most. They are copied nowhere, so that more do no harm.
const POLL_RECORDS: usize = 5_000;

const READ_UNCOMMITTED: &str = "read_uncommitted";
const READ_COMMITTED: &str = "read_committed";

/// Print records of a topic
///
/// Prints what is there when the command begins, partition by partition, and ends; with `--follow` it
/// goes on with what comes. Without a group the directory is only read, beside whatever process
/// writes to it.
///
/// Without a point to start from it begins where the group has committed, if there is one; else at
/// the beginning, or with `--follow` at the end.
///
/// On a terminal, control characters in records are shown as escapes; in a pipe the bytes are as they
/// are. Ctrl-C ends it with exit code 130, a closed pipe with 0; with a group, what was printed until
/// then is committed.
#[derive(Args)]
#[command(after_help = "\
Tokens of --format, as in kcat:
  %s value   %S its length (-1: null)    %R length as 4 bytes, big-endian
  %k key     %K its length (-1: null)    %h headers: name=value,name=value
  %t topic   %p partition   %o offset    %T timestamp in milliseconds since 1970
  \\n \\r \\t \\0 \\\\ \\xNN as in C, %% a percent sign

With --json, one object per record: topic, partition, offset, timestamp, key, value, headers. A key or
value that is no UTF-8 is in key_base64 or value_base64 instead.

Examples:
  sapwood consume orders --since 10m --filter 'key=^alice$'
  sapwood consume orders --offset -10 --format '%p@%o %T %k: %s\\n'
  sapwood consume orders --group billing --max 100 --json
  sapwood consume orders --follow | grep ERROR")]
pub(crate) struct Consume {
    /// The topic to read
    topic: String,

    /// Only this partition; may be given several times
    #[arg(short, long = "partition", value_name = "N")]
    partitions: Vec<u32>,

    #[command(flatten)]
    start: Start,

    /// Go on where this group has committed, and commit what was printed; opens for writing
    #[arg(short, long)]
    group: Option<String>,

    /// With --group: commit nothing; opens for reading only
    #[arg(long, requires = "group")]
    no_commit: bool,

    /// With `read_committed`, nothing of transactions that were aborted or are open: in what a Kafka broker
    /// has written
    #[arg(
        long,
        value_name = "LEVEL",
        default_value = READ_UNCOMMITTED,
        value_parser = [READ_UNCOMMITTED, READ_COMMITTED]
    )]
    isolation_level: String,

    /// End after this many records were printed
    #[arg(short = 'c', long, value_name = "N")]
    max: Option<u64>,

    /// Go on with records that come
    #[arg(long)]
    follow: bool,

    /// How to print a record
    #[arg(short, long, default_value = "%s\\n", conflicts_with = "json")]
    format: Format,

    /// Only records in which the field matches: key=REGEX, value=REGEX, header=REGEX,
    /// header.NAME=REGEX; of several all must match
    #[arg(long = "filter", value_name = "FIELD=REGEX")]
    filters: Vec<Filter>,

    /// Print one JSON object per record
    #[arg(long)]
    json: bool,
}

/// Where to begin.
#[derive(Args)]
#[group(multiple = false)]
struct Start {
    /// Begin at the oldest record
    #[arg(long)]
    from_beginning: bool,

    /// Begin at this offset; -N: N records before the end, in each partition
    #[arg(short, long, value_name = "N", allow_hyphen_values = true, value_parser = read_offset)]
    offset: Option<i64>,

    /// Begin with records of this age: 10m, "1h 30m", 2days
    #[arg(long, value_name = "TIME")]
    since: Option<Ago>,

    /// Begin with records from this time on: 2026-01-31T12:00:00Z, or milliseconds since 1970
    #[arg(long, value_name = "TIMESTAMP", allow_hyphen_values = true)]
    at: Option<At>,
}

fn read_offset(text: &str) -> Result<i64, &'static str> {
    text.parse().map_err(|_| "write an offset like 17, or -17 for that many before the end")
}

impl Consume {
    pub(crate) fn run(&self, directory: &Directory) -> Result {
        let interrupt = Interrupt::install()?;
        if self.group.is_some() && !self.no_commit {
            directory.change(|broker| self.print(broker, true, &interrupt))
        } else {
            self.print(&directory.read()?, false, &interrupt)
        }
    }

    fn print(&self, broker: &Broker, commits: bool, interrupt: &Interrupt) -> Result {
        let topic = &find_topic(broker, &self.topic)?;
        let partitions = self.chosen(topic)?;
        let mut consumer = self.consumer(broker, &partitions)?;
        if self.follow {
            seek_to_new(&mut consumer, self.group.is_some())?;
        }
        self.start.seek(&mut consumer, &partitions)?;
        let mut printing = Printing {
            consume: self,
            partitions: &partitions,
            interrupt,
            printer: RecordPrinter {
                format: &self.format,
                look: Look::of_stdout(),
                filters: &self.filters,
            },
            out: BufWriter::with_capacity(64 << 10, std::io::stdout().lock()),
            printed: 0,
            ends: if self.follow { None } else { Some(self.ends(&partitions)?) },
            progress: commits.then(Progress::new),
        };
        let ended = printing.run(&mut consumer);
        // Whatever ended it: what was printed is done with.
        match (ended, printing.commit(&mut consumer)) {
            // That it was interrupted is known; that its progress is lost is not.
            (Ok(()) | Err(Stop::ClosedPipe | Stop::Interrupted(_)), Err(stop)) => Err(stop),
            (ended, _) => ended,
        }
    }

    /// What there is to print.
    fn ends(&self, partitions: &[Partition]) -> Result<Ends> {
        if self.isolation_level == READ_UNCOMMITTED {
            return Ok(Ends::of(partitions));
        }
        let end = |partition: &Partition| {
            Ok((partition.topic_partition().clone(), partition.last_stable_offset()?))
        };
        Ok(Ends(partitions.iter().map(end).collect::<Result<_>>()?))
    }

    fn chosen(&self, topic: &Topic) -> Result<Vec<Partition>> {
        if self.partitions.is_empty() {
            return Ok(topic.partitions());
        }
        let mut numbers = self.partitions.clone();
        numbers.sort_unstable();
        numbers.dedup();
        Ok(numbers.into_iter().map(|number| topic.partition(number)).collect::<Result<_, _>>()?)
    }

    fn consumer(&self, broker: &Broker, partitions: &[Partition]) -> Result<Consumer> {
        // Where retention has passed by, reading goes on with the first record there is.
        let builder = broker.consumer().auto_offset_reset(AutoOffsetReset::Earliest);
        let builder = builder.property("isolation.level", &self.isolation_level)?;
        let mut builder = builder.auto_commit(None).max_poll_records(POLL_RECORDS);
        if let Some(group) = &self.group {
            builder = builder.group(group);
        }
        let consumer = if self.partitions.is_empty() {
            builder.subscribe([&self.topic])
        } else {
            builder.assign(partitions.iter().map(|partition| partition.topic_partition().clone()))
        };
        Ok(consumer?)
    }
}

/// Goes behind what there is, where the group has committed nothing.
fn seek_to_new(consumer: &mut Consumer, has_group: bool) -> Result {
    for of in consumer.assignment() {
        if !has_group || consumer.committed(&of)?.is_none() {
            consumer.seek_to_end_of(&of)?;
        }
    }
    Ok(())
}

impl Start {
    fn seek(&self, consumer: &mut Consumer, partitions: &[Partition]) -> Result {
        if self.from_beginning {
            consumer.seek_to_beginning();
        }
        if let Some(timestamp) = self.since.map(Ago::timestamp).or(self.at.map(|at| at.0)) {
            for partition in partitions {
                consumer.seek_to_timestamp(partition.topic_partition(), timestamp)?;
            }
        }
        match self.offset {
            Some(offset) => seek_to_offset(consumer, partitions, offset),
            None => Ok(()),
        }
    }
}

/// Partitions have ends of their own: an offset that one of them has is right, and the others begin
/// at the nearest one that they have.
fn seek_to_offset(consumer: &mut Consumer, partitions: &[Partition], offset: i64) -> Result {
    let from = |partition: &Partition| match u64::try_from(offset) {
        Ok(offset) => offset,
        Err(_) => partition.high_watermark().saturating_sub(offset.unsigned_abs()),
    };
    let is_there = |partition: &Partition| {
        (partition.log_start_offset()..=partition.high_watermark()).contains(&from(partition))
    };
    let is_from_end = offset < 0;
    if let Some(partition) = partitions.first()
        && !is_from_end
        && !partitions.iter().any(is_there)
    {
        return Err(out_of_range(partition, from(partition)));
    }
    for partition in partitions {
        let wanted = from(partition);
        let (start, end) = (partition.log_start_offset(), partition.high_watermark());
        if wanted < start && !is_from_end {
            warn(format!("{} begins at offset {start}", partition.topic_partition()));
        }
        consumer.seek(partition.topic_partition(), wanted.clamp(start, end.max(start)))?;
    }
    Ok(())
}

fn out_of_range(partition: &Partition, offset: u64) -> Stop {
    let of = partition.topic_partition();
    let (start, end) = (partition.log_start_offset(), partition.high_watermark());
    Stop::failed(
        crate::exit::Code::NotFound,
        format!("offset {offset} is out of range: {of} has offsets from {start} up to {end}"),
    )
}

/// What there was to print when the command began: a writer may be faster than the printing.
pub(crate) struct Ends(BTreeMap<TopicPartition, u64>);

impl Ends {
    pub(crate) fn of(partitions: &[Partition]) -> Self {
        let end = |partition: &Partition| {
            (partition.topic_partition().clone(), partition.high_watermark())
        };
        Self(partitions.iter().map(end).collect())
    }

    fn includes(&self, of: &TopicPartition, offset: u64) -> bool {
        self.0.get(of).is_some_and(|end| offset < *end)
    }

    /// Stops reading partitions that are printed to their ends; whether all are.
    pub(crate) fn pause_finished(&self, consumer: &mut Consumer) -> Result<bool> {
        let mut finished = Vec::new();
        let assignment = consumer.assignment();
        for of in &assignment {
            if !self.includes(of, consumer.position(of)?) {
                finished.push(of.clone());
            }
        }
        consumer.pause(&finished)?;
        Ok(finished.len() == assignment.len())
    }
}

/// How far a group has come.
struct Progress {
    /// Where to go on, for what was printed and has left this process.
    next: BTreeMap<TopicPartition, u64>,
    committed_at: Instant,
}

impl Progress {
    fn new() -> Self {
        Self { next: BTreeMap::new(), committed_at: Instant::now() }
    }
}

fn positions(consumer: &Consumer) -> Result<BTreeMap<TopicPartition, u64>> {
    let position = |of: TopicPartition| {
        let position = consumer.position(&of)?;
        Ok((of, position))
    };
    consumer.assignment().into_iter().map(position).collect()
}

struct Printing<'a> {
    consume: &'a Consume,
    partitions: &'a [Partition],
    interrupt: &'a Interrupt,
    printer: RecordPrinter<'a>,
    out: BufWriter<StdoutLock<'static>>,
    printed: u64,
    /// `None`: there is no end.
    ends: Option<Ends>,
    /// `None`: nothing is committed.
    progress: Option<Progress>,
}

impl Printing<'_> {
    fn run(&mut self, consumer: &mut Consumer) -> Result {
        while !self.has_enough() {
            self.interrupt.check()?;
            if let Some(ends) = &self.ends
                && ends.pause_finished(consumer)?
            {
                return Ok(());
            }
            let patience = if self.ends.is_some() { Duration::ZERO } else { PATIENCE };
            let before = positions(consumer)?;
            let records = consumer.poll(patience)?;
            self.warn_of_gaps(&before, &records);
            if records.is_empty() {
                if self.ends.is_some() {
                    return Ok(());
                }
                if stdout_is_closed() {
                    return Err(Stop::ClosedPipe);
                }
            }
            self.print_all(&records)?;
            if self.progress.as_ref().is_some_and(|p| p.committed_at.elapsed() >= COMMIT_INTERVAL) {
                self.commit(consumer)?;
            }
        }
        Ok(())
    }

    /// Says where retention was faster than the printing. Other offsets may be missing too, and never
    /// were records.
    fn warn_of_gaps(&self, before: &BTreeMap<TopicPartition, u64>, records: &ConsumerRecords) {
        for partition in self.partitions {
            let of = partition.topic_partition();
            let Some(first) = records.of_partition(of).next() else { continue };
            let (first, start) = (first.offset(), partition.log_start_offset());
            if let Some(position) = before.get(of)
                && *position < start
                && start <= first
            {
                warn(format_args!("{of}: offsets {position} up to {start} were deleted meanwhile"));
            }
        }
    }

    fn has_enough(&self) -> bool {
        self.consume.max.is_some_and(|max| self.printed >= max)
    }

    /// Prints what is wanted of the records, and notes that it has.
    fn print_all(&mut self, records: &ConsumerRecords) -> Result {
        let mut next = BTreeMap::new();
        for record in records {
            if self.has_enough() {
                break;
            }
            let of = record.topic_partition();
            if self.ends.as_ref().is_some_and(|ends| !ends.includes(of, record.offset())) {
                continue;
            }
            next.insert(of, record.offset() + 1);
            if !self.consume.filters.iter().all(|filter| filter.matches(&record)) {
                continue;
            }
            self.printed += 1;
            if self.consume.json {
                write_json(&JsonRecord(record), self.printer.look, &mut self.out)?;
            } else {
                self.printer.print(&record, &mut self.out)?;
            }
        }
        self.out.flush()?;
        if let Some(progress) = &mut self.progress {
            progress.next.extend(next.into_iter().map(|(of, offset)| (of.clone(), offset)));
        }
        Ok(())
    }

    fn commit(&mut self, consumer: &mut Consumer) -> Result {
        let Some(progress) = &mut self.progress else { return Ok(()) };
        progress.committed_at = Instant::now();
        let next = std::mem::take(&mut progress.next).into_iter();
        let offsets: Vec<_> =
            next.map(|(of, offset)| (of, OffsetAndMetadata::new(offset))).collect();
        if offsets.is_empty() {
            return Ok(());
        }
        match consumer.commit_offsets(offsets) {
            Err(error @ Error::FencedGeneration { .. }) => {
                Err(Stop::from(error).after("what was printed last is not committed"))
            }
            committed => Ok(committed?),
        }
    }
}
