//! `sapwood dump`: for people in the words of Kafka's `kafka-dump-log`, for programs as JSON.

use std::io::{self, BufWriter, StdoutLock, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use sapwood::{
    BatchDump, CheckpointDump, ControlRecord, Corruption, DirectoryDump, PartitionDump, RecordDump,
    RecordsDump, SegmentDump, SegmentPart, TimestampType, TopicConfig, TransactionResult,
};
use serde_json::{Value, json};

use crate::directory::Directory;
use crate::exit::{Code, Result, Stop};
use crate::output::{Look, add, printable, printable_bytes, write_json};
use crate::record_format::text_or_base64;
use crate::verify::{Damage, count};

/// Show what lies in the files, batch by batch
///
/// Shows every batch with its file position and every field of its header, in the words of Kafka's
/// `kafka-dump-log`; with --deep-iteration the records in it too. Reads files as they lie on the disk,
/// also those of a directory that cannot be opened; nothing is changed. What a process that writes to
/// the directory has half written looks like damage.
///
/// Ends with exit code 5 if anything is damaged.
#[derive(Args)]
#[allow(clippy::struct_excessive_bools, reason = "each is an option of its own")]
#[command(after_help = "\
Examples:
  sapwood dump --topic orders
  sapwood dump --print-data-log data/orders-0/00000000000000000000.log
  sapwood dump --index-sanity-check data/orders-0/00000000000000000000.index
  sapwood dump --json | jq 'select(.type == \"damage\")'")]
pub(crate) struct Dump {
    /// Files: `.log`, `.index` or `.timeindex`. Without any, everything in the directory
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,

    /// Only this topic
    #[arg(short, long, conflicts_with = "files")]
    topic: Option<String>,

    /// Only this partition of the topic
    #[arg(short, long, value_name = "N", requires = "topic")]
    partition: Option<u32>,

    /// Show the records of every batch, decompressed
    #[arg(long)]
    deep_iteration: bool,

    /// Show keys and values too
    #[arg(long)]
    print_data_log: bool,

    /// Hold the indexes against the batches
    #[arg(long)]
    index_sanity_check: bool,

    /// Print a JSON object per line
    #[arg(long)]
    json: bool,
}

impl Dump {
    pub(crate) fn run(&self, directory: &Directory) -> Result {
        let out = BufWriter::new(io::stdout().lock());
        let mut dumping = Dumping { dump: self, out, look: Look::of_stdout(), damage: 0 };
        if self.files.is_empty() {
            dumping.directory(directory.path()?)?;
        } else {
            self.files.iter().try_for_each(|file| dumping.file(file))?;
        }
        dumping.out.flush()?;
        match dumping.damage {
            0 => Ok(()),
            damage => {
                let places = count(damage, "place");
                Err(Stop::failed(Code::Damaged, format!("{places} damaged; nothing was changed")))
            }
        }
    }

    fn is_wanted(&self, partition: &PartitionDump) -> bool {
        let of = partition.topic_partition();
        self.topic.as_ref().is_none_or(|topic| topic == of.topic())
            && self.partition.is_none_or(|number| number == of.partition())
    }

    fn shows_records(&self) -> bool {
        self.deep_iteration || self.print_data_log
    }
}

/// A dump that is being printed.
struct Dumping<'a> {
    dump: &'a Dump,
    out: BufWriter<StdoutLock<'static>>,
    look: Look,
    /// How many places are damaged.
    damage: u64,
}

impl Dumping<'_> {
    /// Prints a line for a person, or an object for a program.
    fn print(&mut self, line: impl FnOnce() -> String, object: impl FnOnce() -> Value) -> Result {
        if self.dump.json {
            write_json(&object(), self.look, &mut self.out)?;
        } else {
            writeln!(self.out, "{}", line())?;
        }
        Ok(())
    }

    fn damage(&mut self, damage: &Corruption) -> Result {
        self.damage += 1;
        let object = || json!({"type": "damage", "damage": Damage::of(damage)});
        self.print(|| format!("damaged: {}", printable(&damage.to_string())), object)
    }

    /// Counts damage as such, and passes on what else can fail.
    fn unless_damaged<T>(&mut self, result: sapwood::Result<T>) -> Result<Option<T>> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(sapwood::Error::Corrupt(damage)) => self.damage(&damage).map(|()| None),
            Err(error) => Err(error.into()),
        }
    }

    fn directory(&mut self, path: &Path) -> Result {
        let directory = DirectoryDump::open(path)?;
        let topics = self.unless_damaged(directory.topics())?.flatten().unwrap_or_default();
        for topic in &topics {
            if self.dump.topic.as_ref().is_some_and(|wanted| *wanted != topic.name) {
                continue;
            }
            let (name, id, state) = (&topic.name, &topic.id, format!("{:?}", topic.state));
            let configs = topic.config.properties();
            self.print(
                || format!("topic: {name} topicId: {id} state: {state}{}", overrides(&topic.config)),
                || json!({"type": "topic", "topic": name, "id": id, "state": state, "configs": configs}),
            )?;
        }
        let partitions: Vec<_> = directory.partitions()?;
        let wanted: Vec<_> = partitions.iter().filter(|p| self.dump.is_wanted(p)).collect();
        if let Some(topic) = self.dump.topic.as_ref().filter(|_| wanted.is_empty()) {
            let sentence =
                format!("there is no directory of topic {topic:?}, or of that partition");
            return Err(Stop::failed(Code::NotFound, sentence));
        }
        wanted.into_iter().try_for_each(|partition| self.partition(partition))
    }

    fn partition(&mut self, partition: &PartitionDump) -> Result {
        let of = partition.topic_partition();
        let id = self.unless_damaged(partition.topic_id())?.flatten();
        let checkpoint = self.unless_damaged(partition.checkpoint())?.flatten();
        self.print(
            || {
                let id = id.as_deref().unwrap_or("none");
                format!("partition: {of} topicId: {id} {}", checkpoint_text(checkpoint.as_ref()))
            },
            || {
                json!({"type": "partition", "topic": of.topic(), "partition": of.partition(), "id": id,
                    "checkpoint": checkpoint.as_ref().map(checkpoint_json)})
            },
        )?;
        for segment in partition.segments()? {
            self.segment(&segment?)?;
        }
        Ok(())
    }

    fn file(&mut self, path: &Path) -> Result {
        let suffix = path.extension().and_then(|suffix| suffix.to_str()).unwrap_or_default();
        let log = path.with_extension("log");
        let open = |path: &Path| {
            SegmentDump::open(path).map_err(|error| match error {
                sapwood::Error::Io { source, .. } => Stop::file("open", path, &source),
                error => error.into(),
            })
        };
        match suffix {
            "log" => self.segment(&open(path)?),
            "index" => self.index(path, &open(&log)?),
            "timeindex" => self.time_index(path, &open(&log)?),
            _ => Err(Stop::usage(format!(
                "{} is none of .log, .index and .timeindex; `sapwood dump` without files shows what \
                 the others say",
                path.display()
            ))),
        }
    }

    fn heading(&mut self, path: &Path) -> Result {
        let path = path.display().to_string();
        self.print(
            || format!("Dumping {}", printable(&path)),
            || json!({"type": "file", "path": path}),
        )
    }

    fn segment(&mut self, segment: &SegmentDump) -> Result {
        self.heading(segment.path())?;
        if !self.dump.json
            && let Some(offset) = segment.base_offset()
        {
            writeln!(self.out, "Log starting offset: {offset}")?;
        }
        for part in segment.parts()? {
            match part? {
                SegmentPart::Batch(batch) => self.batch(&batch)?,
                SegmentPart::Zeros(bytes) => {
                    let [from, to] = [bytes.start, bytes.end];
                    self.print(
                        || format!("zeros: from {from} to {to}"),
                        || json!({"type": "zeros", "bytes": [from, to]}),
                    )?;
                }
                SegmentPart::Damage(damage) => self.damage(&damage)?,
                _ => {}
            }
        }
        self.check(segment)
    }

    fn batch(&mut self, batch: &BatchDump) -> Result {
        if !batch.is_valid {
            self.damage += 1;
        }
        let records = self.dump.shows_records().then(|| batch.records());
        let records = records.map(|read| self.unless_damaged(read)).transpose()?.flatten();
        let records = records.as_ref();
        if self.dump.json {
            let mut object = batch_json(batch);
            if let Some(records) = records {
                let shown = records.iter().map(|record| {
                    self.unless_damaged(record)
                        .map(|record| record.map(|record| self.dump.record_json(&record)))
                });
                let shown = shown.filter_map(Result::transpose).collect::<Result<Vec<_>>>()?;
                object["records"] = shown.into();
            }
            write_json(&object, self.look, &mut self.out)?;
            return Ok(());
        }
        writeln!(self.out, "{}", batch_text(batch))?;
        for record in records.into_iter().flat_map(RecordsDump::iter) {
            if let Some(record) = self.unless_damaged(record)? {
                writeln!(self.out, "{}", self.dump.record_text(&record, batch.timestamp_type))?;
            }
        }
        Ok(())
    }

    fn index(&mut self, path: &Path, segment: &SegmentDump) -> Result {
        self.heading(path)?;
        let entries = self.unless_damaged(segment.offset_index())?.flatten();
        for entry in entries.ok_or_else(|| not_there(path))? {
            let (offset, position) = (entry.offset, entry.file_position);
            self.print(
                || format!("offset: {offset} position: {position}"),
                || json!({"type": "index", "offset": offset, "position": position}),
            )?;
        }
        self.check(segment)
    }

    fn time_index(&mut self, path: &Path, segment: &SegmentDump) -> Result {
        self.heading(path)?;
        let entries = self.unless_damaged(segment.time_index())?.flatten();
        for entry in entries.ok_or_else(|| not_there(path))? {
            let (timestamp, offset) = (entry.timestamp.as_millis(), entry.offset);
            self.print(
                || format!("timestamp: {timestamp} offset: {offset}"),
                || json!({"type": "timeindex", "timestamp": timestamp, "offset": offset}),
            )?;
        }
        self.check(segment)
    }

    fn check(&mut self, segment: &SegmentDump) -> Result {
        // What is not named like a segment has no indexes.
        if !self.dump.index_sanity_check || segment.base_offset().is_none() {
            return Ok(());
        }
        for wrong in self.unless_damaged(segment.check_indexes())?.unwrap_or_default() {
            self.damage(&wrong)?;
        }
        Ok(())
    }
}

fn not_there(path: &Path) -> Stop {
    Stop::failed(Code::NotFound, format!("{} is not there, or is no index", path.display()))
}

fn checkpoint_text(checkpoint: Option<&CheckpointDump>) -> String {
    let Some(checkpoint) = checkpoint else { return "checkpoint: none".to_owned() };
    let mut text = format!(
        "recoveryPoint: {} segment: {} position: {} logStartOffset: {}",
        checkpoint.recovery_point,
        checkpoint.segment_base_offset,
        checkpoint.file_position,
        checkpoint.log_start_offset
    );
    if checkpoint.sync_failed {
        text.push_str(" syncFailed: true");
    }
    text
}

fn checkpoint_json(checkpoint: &CheckpointDump) -> Value {
    json!({
        "recovery_point": checkpoint.recovery_point,
        "segment_base_offset": checkpoint.segment_base_offset,
        "position": checkpoint.file_position,
        "log_start_offset": checkpoint.log_start_offset,
        "sync_failed": checkpoint.sync_failed,
        "indexes_synced": checkpoint.indexes_synced,
    })
}

/// The settings that are not the default ones.
fn overrides(config: &TopicConfig) -> String {
    let defaults = TopicConfig::default().properties();
    let settings = config.properties().into_iter().zip(defaults);
    let changed = settings.filter(|(is, default)| is != default);
    changed.fold(String::new(), |mut text, ((name, value), _)| {
        add(&mut text, format_args!(" {name}={value}"));
        text
    })
}

/// As Kafka's tool names it.
fn time_name(timestamp_type: TimestampType) -> &'static str {
    match timestamp_type {
        TimestampType::CreateTime => "CreateTime",
        TimestampType::LogAppendTime => "LogAppendTime",
    }
}

/// The line of Kafka's `DumpLogSegments`.
fn batch_text(batch: &BatchDump) -> String {
    let horizon = batch.delete_horizon.map_or_else(
        || "OptionalLong.empty".to_owned(),
        |horizon| format!("OptionalLong[{}]", horizon.as_millis()),
    );
    format!(
        "baseOffset: {} lastOffset: {} count: {} baseSequence: {} lastSequence: {} producerId: {} \
         producerEpoch: {} partitionLeaderEpoch: {} isTransactional: {} isControl: {} \
         deleteHorizonMs: {horizon} position: {} {}: {} size: {} magic: {} compresscodec: {} \
         crc: {} isvalid: {}",
        batch.base_offset,
        batch.last_offset,
        batch.record_count,
        batch.base_sequence,
        batch.last_sequence,
        batch.producer_id,
        batch.producer_epoch,
        batch.partition_leader_epoch,
        batch.is_transactional,
        batch.is_control,
        batch.file_position,
        time_name(batch.timestamp_type),
        batch.max_timestamp.as_millis(),
        batch.size,
        batch.magic,
        batch.codec,
        batch.crc,
        batch.is_valid
    )
}

fn batch_json(batch: &BatchDump) -> Value {
    json!({
        "type": "batch",
        "position": batch.file_position,
        "size": batch.size,
        "base_offset": batch.base_offset,
        "last_offset": batch.last_offset,
        "count": batch.record_count,
        "base_sequence": batch.base_sequence,
        "last_sequence": batch.last_sequence,
        "producer_id": batch.producer_id,
        "producer_epoch": batch.producer_epoch,
        "partition_leader_epoch": batch.partition_leader_epoch,
        "transactional": batch.is_transactional,
        "control": batch.is_control,
        "delete_horizon": batch.delete_horizon.map(sapwood::Timestamp::as_millis),
        "timestamp_type": time_name(batch.timestamp_type),
        "base_timestamp": batch.base_timestamp.as_millis(),
        "max_timestamp": batch.max_timestamp.as_millis(),
        "codec": batch.codec.to_string(),
        "magic": batch.magic,
        "crc": batch.crc,
        "valid": batch.is_valid,
    })
}

impl Dump {
    fn record_text(&self, record: &RecordDump<'_>, timestamp_type: TimestampType) -> String {
        let size = |bytes: Option<&[u8]>| bytes.map_or("-1".to_owned(), |b| b.len().to_string());
        let names = record.headers.clone().map(|header| printable(header.name()));
        let mut text = format!(
            "| offset: {} {}: {} keySize: {} valueSize: {} sequence: {} headerKeys: [{}]",
            record.offset,
            time_name(timestamp_type),
            record.timestamp.as_millis(),
            size(record.key),
            size(record.value),
            record.sequence,
            names.collect::<Vec<_>>().join(",")
        );
        match record.control {
            Some(ControlRecord::EndTransaction { result, coordinator_epoch }) => {
                let result = result_name(result);
                add(
                    &mut text,
                    format_args!(" endTxnMarker: {result} coordinatorEpoch: {coordinator_epoch}"),
                );
            }
            Some(ControlRecord::Other(kind)) => {
                add(&mut text, format_args!(" controlType: {kind}"));
            }
            None if self.print_data_log => {
                let key = record.key.map(|key| format!(" key: {}", printable_bytes(key)));
                let value = record.value.map(printable_bytes).unwrap_or_default();
                add(&mut text, format_args!("{} payload: {value}", key.unwrap_or_default()));
            }
            Some(_) | None => {}
        }
        text
    }

    fn record_json(&self, record: &RecordDump<'_>) -> Value {
        let mut object = json!({
            "offset": record.offset,
            "timestamp": record.timestamp.as_millis(),
            "sequence": record.sequence,
            "key_size": record.key.map(<[u8]>::len),
            "value_size": record.value.map(<[u8]>::len),
            "header_names": record.headers.clone().map(|h| h.name().to_owned()).collect::<Vec<_>>(),
        });
        match record.control {
            Some(ControlRecord::EndTransaction { result, coordinator_epoch }) => {
                object["end_transaction"] = result_name(result).into();
                object["coordinator_epoch"] = coordinator_epoch.into();
            }
            Some(ControlRecord::Other(kind)) => object["control_type"] = kind.into(),
            None if self.print_data_log => {
                for (names, bytes) in
                    [(["key", "key_base64"], record.key), (["value", "value_base64"], record.value)]
                {
                    let (name, value) = text_or_base64(names, bytes);
                    object[name] = value;
                }
            }
            Some(_) | None => {}
        }
        object
    }
}

fn result_name(result: TransactionResult) -> &'static str {
    match result {
        TransactionResult::Commit => "COMMIT",
        TransactionResult::Abort => "ABORT",
    }
}
