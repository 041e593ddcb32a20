//! Records of a partition, a page at a time.

use std::ops::Range;
use std::time::Duration;

use sapwood::{AutoOffsetReset, Broker, ConsumerRecord, Error, Timestamp, TopicPartition};

use super::text::{line_bytes, line_text, time_text};
use crate::exit::sentence;

/// How much of a key, a value or a header is kept for the screen.
const KEPT_LEN_MAX: usize = 16 << 10;

/// Which page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum From {
    /// Its first record has this offset, or is the first one after it.
    Offset(u64),
    /// It ends before this offset.
    Before(u64),
    /// It ends where the log does.
    End,
}

/// Some records in a row.
#[derive(Debug, Clone)]
pub(super) struct Page {
    pub(super) of: TopicPartition,
    /// Which offsets could be read at that time.
    pub(super) readable: Range<u64>,
    pub(super) start: u64,
    pub(super) records: Vec<RecordLook>,
    /// Where the next page begins.
    pub(super) next_offset: u64,
    /// Why there are no more.
    pub(super) trouble: Option<String>,
}

#[derive(Debug, Clone)]
pub(super) struct RecordLook {
    pub(super) offset: u64,
    pub(super) timestamp: Timestamp,
    pub(super) key: Option<Bytes>,
    pub(super) value: Option<Bytes>,
    pub(super) headers: Vec<(String, Option<Bytes>)>,
}

/// The beginning of some bytes, and how many there are.
#[derive(Debug, Clone)]
pub(super) struct Bytes {
    pub(super) kept: Vec<u8>,
    pub(super) len: usize,
}

impl Bytes {
    fn of(bytes: &[u8]) -> Self {
        let kept = bytes.get(..KEPT_LEN_MAX).unwrap_or(bytes);
        Self { kept: kept.to_vec(), len: bytes.len() }
    }
}

impl RecordLook {
    fn of(record: &ConsumerRecord<'_>) -> Self {
        let header =
            |header: sapwood::Header<'_>| (header.name().to_owned(), header.value().map(Bytes::of));
        Self {
            offset: record.offset(),
            timestamp: record.timestamp(),
            key: record.key().map(Bytes::of),
            value: record.value().map(Bytes::of),
            headers: record.headers().map(header).collect(),
        }
    }

    /// In full: what each part is called, and its text.
    pub(super) fn lines(&self) -> Vec<(String, String)> {
        let mut lines = vec![
            ("offset".to_owned(), self.offset.to_string()),
            ("time".to_owned(), format!("{} UTC", time_text(self.timestamp))),
            ("key".to_owned(), in_full(self.key.as_ref())),
        ];
        for (name, value) in &self.headers {
            lines.push((format!("header {}", line_text(name)), in_full(value.as_ref())));
        }
        lines.push(("value".to_owned(), in_full(self.value.as_ref())));
        lines
    }
}

fn in_full(bytes: Option<&Bytes>) -> String {
    let Some(bytes) = bytes else { return "(null)".to_owned() };
    let more = bytes.len - bytes.kept.len();
    // Lines stay lines here; whatever else a terminal obeys is escaped.
    let lines: Vec<_> = bytes.kept.split(|byte| *byte == b'\n').map(line_bytes).collect();
    let text = lines.join("\n");
    if more == 0 { text } else { format!("{text} ... and {more} bytes more") }
}

/// Reads a page of so many records. What goes wrong is on the page.
pub(super) fn read(broker: &Broker, of: &TopicPartition, from: From, rows: usize) -> Page {
    let mut page = Page {
        of: of.clone(),
        readable: 0..0,
        start: 0,
        records: Vec::new(),
        next_offset: 0,
        trouble: None,
    };
    if let Err(error) = fill(broker, &mut page, from, rows.max(1)) {
        if let Error::Corrupt(damage) = &error {
            // So that the page after this one begins behind the damage.
            page.next_offset = page.next_offset.max(damage.offsets.end);
        }
        page.trouble = Some(sentence(&error));
    }
    page
}

fn fill(broker: &Broker, page: &mut Page, from: From, rows: usize) -> Result<(), Error> {
    let partition = broker.topic(page.of.topic())?.partition(page.of.partition())?;
    page.readable = partition.log_start_offset()..partition.high_watermark();
    page.start = start(from, &page.readable, rows as u64);
    page.next_offset = page.start;
    let consumer = broker.consumer().auto_offset_reset(AutoOffsetReset::Earliest);
    let mut consumer = consumer.max_poll_records(rows).assign([page.of.clone()])?;
    consumer.seek(&page.of, page.start)?;
    while page.records.len() < rows {
        let polled = consumer.poll(Duration::ZERO)?;
        if polled.is_empty() {
            break;
        }
        let missing = rows - page.records.len();
        page.records.extend(polled.iter().take(missing).map(|record| RecordLook::of(&record)));
        page.next_offset = page.records.last().map_or(page.start, |record| record.offset + 1);
    }
    Ok(())
}

fn start(from: From, readable: &Range<u64>, rows: u64) -> u64 {
    let start = match from {
        From::Offset(offset) => offset,
        From::Before(end) => end.saturating_sub(rows),
        From::End => readable.end.saturating_sub(rows),
    };
    start.clamp(readable.start, readable.end.max(readable.start))
}

#[cfg(test)]
mod tests {
    use sapwood::{Record, TopicConfig};

    use super::*;

    fn filled(records: u64) -> (Broker, TopicPartition) {
        let broker = Broker::in_memory().unwrap();
        let topic = broker.create_topic("orders", TopicConfig::default()).unwrap();
        for n in 0..records {
            let value = n.to_string();
            topic.partition(0).unwrap().append(&[Record::new(&value)]).unwrap();
        }
        (broker, TopicPartition::new("orders", 0))
    }

    fn offsets(page: &Page) -> Vec<u64> {
        page.records.iter().map(|record| record.offset).collect()
    }

    #[test]
    fn pages_go_forwards_backwards_and_to_both_ends() {
        let (broker, of) = filled(10);
        let page = |from| offsets(&read(&broker, &of, from, 4));
        assert_eq!(page(From::Offset(0)), [0, 1, 2, 3]);
        assert_eq!(page(From::Offset(8)), [8, 9]);
        assert_eq!(page(From::Before(6)), [2, 3, 4, 5]);
        assert_eq!(page(From::Before(2)), [0, 1, 2, 3]);
        assert_eq!(page(From::End), [6, 7, 8, 9]);
        assert_eq!(page(From::Offset(99)), [] as [u64; 0]);
    }

    #[test]
    fn an_empty_partition_has_an_empty_page_and_one_that_is_gone_says_so() {
        let (broker, of) = filled(0);
        let page = read(&broker, &of, From::End, 4);
        assert_eq!((page.records.len(), page.trouble), (0, None));
        let page = read(&broker, &TopicPartition::new("gone", 0), From::End, 4);
        assert!(page.trouble.unwrap().contains("does not exist"));
    }

    #[test]
    fn of_a_long_value_the_beginning_is_kept_and_its_length_known() {
        let (broker, of) = filled(0);
        let long = vec![b'x'; KEPT_LEN_MAX + 1];
        let log = broker.topic("orders").unwrap().partition(0).unwrap();
        log.append(&[Record::new(&long)]).unwrap();
        let page = read(&broker, &of, From::Offset(0), 1);
        let value = page.records[0].value.as_ref().unwrap();
        assert_eq!((value.kept.len(), value.len), (KEPT_LEN_MAX, KEPT_LEN_MAX + 1));
    }
}
