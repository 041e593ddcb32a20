//! `sapwood produce`.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Read};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use sapwood::{Broker, Compression, Error, Partition, Producer, Record, Topic};
use serde::Serialize;

use crate::directory::{Directory, find_topic};
use crate::exit::{Result, Stop};
use crate::output::{self, say};
use crate::settings::{NameValue, configure_producer};
use crate::signals::{Interrupt, InterruptibleRead};

/// After so many records, or so long, it is made sure that they are stored: so that a failure is told
/// soon, and with it how far it went.
const FLUSH_RECORDS: u64 = 100_000;
const FLUSH_INTERVAL: Duration = Duration::from_secs(1);

/// Store lines as records of a topic
///
/// Reads standard input, or files one after the other; each line is a record, without its newline. The
/// topic must exist. When the command ends, everything that it counts is as safe as the topic's
/// durability says.
///
/// It opens the directory for writing, which one process at a time can. After a failure it says how many
/// of the records sent before are stored. After Ctrl-C (exit code 130) all that were sent are.
#[derive(Args)]
#[command(after_help = "\
Examples:
  echo paid | sapwood produce orders
  sapwood produce orders --key-separator : --header source=import orders.txt
  sapwood produce logs --compression zstd --partition 0 < app.log
  sapwood produce logs --producer-property linger.ms=50 app.log")]
pub(crate) struct Produce {
    /// The topic to store them in
    topic: String,

    /// Files to read; `-` is standard input, as is none
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,

    /// What stands before this in a line is the key; a line without it has no key
    #[arg(short = 'K', long, value_name = "TEXT")]
    key_separator: Option<String>,

    /// A header that every record gets; may be given several times
    #[arg(short = 'H', long = "header", value_name = "NAME=VALUE")]
    headers: Vec<NameValue>,

    /// The partition that every record goes to; otherwise the key decides, as in Kafka
    #[arg(short, long, value_name = "N")]
    partition: Option<u32>,

    /// How batches are compressed, if the topic leaves it to the producer: none, lz4 or zstd
    #[arg(short = 'z', long, value_name = "CODEC")]
    compression: Option<Compression>,

    /// A setting of the producer by Kafka's name: linger.ms, batch.size, buffer.memory, max.block.ms,
    /// compression.type, compression.zstd.level
    #[arg(long = "producer-property", value_name = "NAME=VALUE")]
    properties: Vec<NameValue>,

    /// Print how many records were stored as a JSON object
    #[arg(long)]
    json: bool,
}

/// What was done, as JSON.
#[derive(Serialize)]
struct Summary<'a> {
    topic: &'a str,
    records: u64,
    bytes: u64,
}

impl Produce {
    pub(crate) fn run(&self, directory: &Directory) -> Result {
        if self.key_separator.as_deref() == Some("") {
            return Err(Stop::usage(
                "--key-separator is empty; it is the text between key and value",
            ));
        }
        let interrupt = Interrupt::install()?;
        // What cannot be read is found before anything is written.
        let sources = self.sources(&interrupt)?;
        directory.write(|broker| {
            let topic = find_topic(broker, &self.topic)?;
            if let Some(partition) = self.partition {
                topic.partition(partition)?;
            }
            let mut sending = Sending::new(self, broker, topic, bar(&sources))?;
            let mut sources = sources.into_iter();
            let sent = sources.try_for_each(|source| sending.send_lines(source, &interrupt));
            sending.end(sent)
        })
    }

    fn sources(&self, interrupt: &Interrupt) -> Result<Vec<Source>> {
        if self.files.is_empty() {
            return Ok(vec![Source::stdin(interrupt)?]);
        }
        let open = |path: &PathBuf| match path.as_os_str().as_encoded_bytes() {
            b"-" => Source::stdin(interrupt),
            _ => Source::file(path, interrupt),
        };
        self.files.iter().map(open).collect()
    }

    /// The record of a line.
    fn record<'a>(&'a self, line: &'a [u8]) -> Record<'a> {
        let (key, value) = match &self.key_separator {
            Some(separator) => split(line, separator.as_bytes()),
            None => (None, line),
        };
        let mut record = Record::new(value);
        if let Some(key) = key {
            record = record.key(key);
        }
        if let Some(partition) = self.partition {
            record = record.partition(partition);
        }
        self.headers
            .iter()
            .fold(record, |record, header| record.header(&header.name, &header.value))
    }
}

/// Key and value; no key where there is no separator.
fn split<'a>(line: &'a [u8], separator: &[u8]) -> (Option<&'a [u8]>, &'a [u8]) {
    let at = line.windows(separator.len()).position(|window| window == separator);
    let parts = at.and_then(|at| line.split_at_checked(at));
    match parts {
        Some((key, rest)) => (Some(key), rest.get(separator.len()..).unwrap_or_default()),
        None => (None, line),
    }
}

/// Something to read lines from.
struct Source {
    name: PathBuf,
    /// `None`: it is not known beforehand.
    size: Option<u64>,
    reader: Box<dyn BufRead>,
}

impl Source {
    fn stdin(interrupt: &Interrupt) -> Result<Self> {
        let name = PathBuf::from("standard input");
        // Past the buffer that it has in this process: what is there cannot be waited for.
        let fd = io::stdin().as_fd().try_clone_to_owned();
        let file = File::from(fd.map_err(|error| Stop::file("open", &name, &error))?);
        Ok(Self { name, size: None, reader: buffered(file, interrupt) })
    }

    fn file(path: &Path, interrupt: &Interrupt) -> Result<Self> {
        let file = File::open(path).map_err(|error| Stop::file("open", path, &error))?;
        let metadata = file.metadata().map_err(|error| Stop::file("look at", path, &error))?;
        if metadata.is_dir() {
            let error = io::Error::from(io::ErrorKind::IsADirectory);
            return Err(Stop::file("read", path, &error));
        }
        let size = metadata.is_file().then_some(metadata.len());
        Ok(Self { name: path.to_owned(), size, reader: buffered(file, interrupt) })
    }

    /// Reads the next line without its end; `false` at the end of everything. A line is never longer
    /// than a byte above the limit, however long it is.
    fn read_line(&mut self, line: &mut Vec<u8>, limit: u64) -> Result<bool> {
        line.clear();
        let read = (&mut self.reader).take(limit.saturating_add(1)).read_until(b'\n', line);
        read.map_err(|error| Stop::file("read", &self.name, &error))?;
        let is_line = !line.is_empty();
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        Ok(is_line)
    }
}

fn buffered(inner: File, interrupt: &Interrupt) -> Box<dyn BufRead> {
    const BUFFER_LEN: usize = 256 << 10;
    let reader = InterruptibleRead { inner, interrupt: interrupt.clone() };
    Box::new(BufReader::with_capacity(BUFFER_LEN, reader))
}

/// Shows bytes, rate and time left where it is known how much there is. On a terminal only, and not
/// to somebody who types the records into it.
fn bar(sources: &[Source]) -> ProgressBar {
    let total: Option<u64> = sources.iter().map(|source| source.size).sum();
    if total.is_none() && io::stdin().is_terminal() {
        return ProgressBar::hidden();
    }
    // Draws nothing where standard error is no terminal.
    let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr_with_hz(5));
    let template = match total {
        Some(_) => "{wide_bar} {bytes}/{total_bytes} {binary_bytes_per_sec} {msg}, {eta} left",
        None => "{spinner} {bytes} {binary_bytes_per_sec} {msg}, {elapsed}",
    };
    bar.with_style(ProgressStyle::with_template(template).expect("the template is a constant"))
}

struct Sending<'a> {
    produce: &'a Produce,
    topic: Topic,
    producer: Producer,
    bar: ProgressBar,
    sent: u64,
    bytes: u64,
    /// How many had been sent when it was last made sure that they are stored, and when that was.
    flushed: u64,
    flushed_at: Instant,
    /// Where the partitions ended, all added up, when nothing had been sent.
    began_at: u64,
}

impl<'a> Sending<'a> {
    fn new(produce: &'a Produce, broker: &Broker, topic: Topic, bar: ProgressBar) -> Result<Self> {
        let mut builder = configure_producer(broker.producer(), &produce.properties)?;
        if let Some(compression) = produce.compression {
            builder = builder.compression(compression);
        }
        let producer = builder.build()?;
        Ok(Self {
            produce,
            producer,
            bar,
            sent: 0,
            bytes: 0,
            flushed: 0,
            flushed_at: Instant::now(),
            began_at: ends(&topic),
            topic,
        })
    }

    fn send_lines(&mut self, mut source: Source, interrupt: &Interrupt) -> Result {
        let limit = self.line_limit();
        let mut line = Vec::new();
        let mut number: u64 = 0;
        while source.read_line(&mut line, limit)? {
            // A line that an interrupt has cut short is no line.
            interrupt.check()?;
            number += 1;
            let record = self.produce.record(&line);
            if let Err(error) = self.producer.send(&self.topic, record) {
                return Err(refused(error, &source.name, number));
            }
            self.sent += 1;
            self.bytes += line.len() as u64;
            self.bar.inc(line.len() as u64 + 1);
            self.flush_if_due()?;
        }
        interrupt.check()
    }

    /// What no record of the topic can be longer than: nobody's memory is filled by a file without
    /// newlines.
    fn line_limit(&self) -> u64 {
        let setting = self.topic.config().get("max.message.bytes");
        let largest = setting.and_then(|bytes| bytes.parse().ok()).unwrap_or(u64::from(u32::MAX));
        // A separator is not stored.
        largest + self.produce.key_separator.as_ref().map_or(0, String::len) as u64
    }

    fn flush_if_due(&mut self) -> Result {
        // The clock is not asked for every record.
        let is_due = self.sent - self.flushed >= FLUSH_RECORDS
            || self.sent.is_multiple_of(1024) && self.flushed_at.elapsed() >= FLUSH_INTERVAL;
        if is_due { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result {
        self.producer.flush()?;
        self.flushed = self.sent;
        self.flushed_at = Instant::now();
        self.bar.set_message(format!("{} records", self.flushed));
        Ok(())
    }

    /// Makes sure of what was sent, whatever ended the sending, and says how much it is.
    fn end(mut self, sent: Result) -> Result {
        let flushed = self.flush();
        self.bar.finish_and_clear();
        let ended = sent.and(flushed);
        if let Err(stop @ Stop::Failed { .. }) = ended {
            let (stored, sent, topic) = (self.stored(), self.sent, self.topic.name());
            return Err(stop.after(format_args!(
                "of {sent} record(s) sent before, {stored} are stored in {topic}"
            )));
        }
        self.summarize()?;
        ended
    }

    /// Exactly how many: nobody else writes to the directory meanwhile.
    fn stored(&self) -> u64 {
        ends(&self.topic).saturating_sub(self.began_at)
    }

    fn summarize(&self) -> Result {
        let topic = self.topic.name();
        if self.produce.json {
            return output::json(&Summary { topic, records: self.stored(), bytes: self.bytes });
        }
        say(format_args!("{} record(s) stored in {topic}", self.stored()))
    }
}

/// The offsets up to which the partitions can be read, all added up.
fn ends(topic: &Topic) -> u64 {
    topic.partitions().iter().map(Partition::high_watermark).sum()
}

/// Says which line it was, where it is about the line.
fn refused(error: Error, source: &Path, number: u64) -> Stop {
    let is_about_line = matches!(error, Error::RecordTooLarge { .. } | Error::InvalidRecord { .. });
    match (Stop::from(error), is_about_line) {
        (Stop::Failed { code, sentence }, true) => {
            Stop::failed(code, format!("line {number} of {}: {sentence}", source.display()))
        }
        (stop, _) => stop,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_split_at_the_first_separator() {
        assert_eq!(split(b"a::b::c", b"::"), (Some(&b"a"[..]), &b"b::c"[..]));
        assert_eq!(split(b"::b", b"::"), (Some(&b""[..]), &b"b"[..]));
        assert_eq!(split(b"a:b", b"::"), (None, &b"a:b"[..]));
        assert_eq!(split(b"", b":"), (None, &b""[..]));
    }

    #[test]
    fn a_line_is_cut_above_the_limit_and_the_last_one_needs_no_newline() {
        let reader = Box::new(&b"one\n\ntwo"[..]);
        let mut source = Source { name: PathBuf::new(), size: None, reader };
        let mut line = Vec::new();
        let mut lines = Vec::new();
        while source.read_line(&mut line, 3).unwrap() {
            lines.push(line.clone());
        }
        assert_eq!(lines, [&b"one"[..], b"", b"two"]);
        let mut source =
            Source { name: PathBuf::new(), size: None, reader: Box::new(&b"12345"[..]) };
        assert!(source.read_line(&mut line, 3).unwrap());
        assert_eq!(line, b"1234");
    }
}
