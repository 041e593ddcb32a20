//! A record as one line of JSON, in the form that the programs of other languages compare with.

use std::fmt::{self, Display, Write as _};

use sapwood::ConsumerRecord;
use serde_json::json;

/// Everything there is to a record. Bytes are shown in hexadecimal digits.
#[derive(Debug)]
pub struct Line<'a> {
    pub topic: &'a str,
    pub partition: u32,
    pub offset: u64,
    pub timestamp: i64,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub headers: Vec<(&'a str, Option<&'a [u8]>)>,
}

impl<'a> From<&ConsumerRecord<'a>> for Line<'a> {
    fn from(record: &ConsumerRecord<'a>) -> Self {
        Self {
            topic: record.topic(),
            partition: record.partition(),
            offset: record.offset(),
            timestamp: record.timestamp().as_millis(),
            key: record.key(),
            value: record.value(),
            headers: record.headers().map(|header| (header.name(), header.value())).collect(),
        }
    }
}

impl Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headers: Vec<_> =
            self.headers.iter().map(|(name, value)| json!([name, value.map(hex)])).collect();
        let line = json!({
            "topic": self.topic,
            "partition": self.partition,
            "offset": self.offset,
            "timestamp": self.timestamp,
            "key": self.key.map(hex),
            "value": self.value.map(hex),
            "headers": headers,
        });
        line.fmt(f)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes everything");
        text
    })
}
