//! How records are printed: `--format` in kcat's manner, and JSON.

use std::io::{self, Write};
use std::str::FromStr;

use anstyle::{AnsiColor, Style};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use regex::bytes::Regex;
use sapwood::{ConsumerRecord, Header};
use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Serialize, Serializer};

use crate::filter::Filter;
use crate::output::{Look, printable, printable_bytes};

const KEY: Style = AnsiColor::Green.on_default();
const HEADERS: Style = AnsiColor::Magenta.on_default();
const ADDRESS: Style = AnsiColor::Cyan.on_default();
const TIME: Style = AnsiColor::Yellow.on_default();
const PLAIN: Style = Style::new();
const MATCH: Style = AnsiColor::Red.on_default().bold();

/// `--format`, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Format(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Literal(Vec<u8>),
    Token(Token),
}

/// What stands for a part of the record; the letters are kcat's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Value,
    ValueLen,
    ValueLenBinary,
    Key,
    KeyLen,
    Timestamp,
    Headers,
    Topic,
    Partition,
    Offset,
}

const TOKENS: [(char, Token); 10] = [
    ('s', Token::Value),
    ('S', Token::ValueLen),
    ('R', Token::ValueLenBinary),
    ('k', Token::Key),
    ('K', Token::KeyLen),
    ('T', Token::Timestamp),
    ('h', Token::Headers),
    ('t', Token::Topic),
    ('p', Token::Partition),
    ('o', Token::Offset),
];

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut pieces = Vec::new();
        let mut literal = Vec::new();
        let mut rest = text.chars();
        while let Some(c) = rest.next() {
            match c {
                '%' => match token(rest.next())? {
                    None => literal.push(b'%'),
                    Some(token) => {
                        pieces.push(Piece::Literal(std::mem::take(&mut literal)));
                        pieces.push(Piece::Token(token));
                    }
                },
                '\\' => literal.push(escaped(&mut rest)?),
                c => literal.extend(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        pieces.push(Piece::Literal(literal));
        pieces.retain(|piece| *piece != Piece::Literal(Vec::new()));
        Ok(Self(pieces))
    }
}

/// The token of a letter; `None` for the percent sign itself.
fn token(letter: Option<char>) -> Result<Option<Token>, String> {
    let known = "there are %s %S %R %k %K %T %h %t %p %o and %%";
    let letter = letter.ok_or_else(|| format!("it ends in a `%`; {known}"))?;
    if letter == '%' {
        return Ok(None);
    }
    let found = TOKENS.iter().find(|(known, _)| *known == letter);
    found.map(|(_, token)| Some(*token)).ok_or_else(|| format!("%{letter} is unknown; {known}"))
}

fn escaped(rest: &mut impl Iterator<Item = char>) -> Result<u8, String> {
    let known = "there are \\n \\r \\t \\0 \\\\ and \\xNN";
    match rest.next() {
        Some('n') => Ok(b'\n'),
        Some('r') => Ok(b'\r'),
        Some('t') => Ok(b'\t'),
        Some('0') => Ok(0),
        Some('\\') => Ok(b'\\'),
        Some('x') => {
            let mut digit = || rest.next()?.to_digit(16);
            let byte =
                digit().zip(digit()).and_then(|(high, low)| u8::try_from(high << 4 | low).ok());
            byte.ok_or_else(|| "\\x wants two hexadecimal digits".to_owned())
        }
        Some(other) => Err(format!("\\{other} is unknown; {known}")),
        None => Err(format!("it ends in a `\\`; {known}")),
    }
}

/// Prints records in one way.
pub(crate) struct RecordPrinter<'a> {
    pub(crate) format: &'a Format,
    pub(crate) look: Look,
    /// What they match is pointed out, where there are colours.
    pub(crate) filters: &'a [Filter],
}

impl RecordPrinter<'_> {
    pub(crate) fn print(
        &self,
        record: &ConsumerRecord<'_>,
        out: &mut impl Write,
    ) -> io::Result<()> {
        self.format.0.iter().try_for_each(|piece| match piece {
            Piece::Literal(bytes) => out.write_all(bytes),
            Piece::Token(token) => self.print_token(*token, record, out),
        })
    }

    fn print_token(
        &self,
        token: Token,
        record: &ConsumerRecord<'_>,
        out: &mut impl Write,
    ) -> io::Result<()> {
        match token {
            Token::Value => {
                let regexes = self.filters.iter().filter_map(Filter::in_values);
                self.print_field(PLAIN, record.value().unwrap_or_default(), regexes, out)
            }
            Token::Key => {
                let regexes = self.filters.iter().filter_map(Filter::in_keys);
                self.print_field(KEY, record.key().unwrap_or_default(), regexes, out)
            }
            Token::ValueLen => self.styled(PLAIN, &length(record.value()).to_string(), out),
            Token::ValueLenBinary => {
                let length = i32::try_from(length(record.value())).unwrap_or(i32::MAX);
                self.print_bytes(PLAIN, &big_endian(length), out)
            }
            Token::KeyLen => self.styled(PLAIN, &length(record.key()).to_string(), out),
            Token::Timestamp => self.styled(TIME, &record.timestamp().to_string(), out),
            Token::Headers => self.print_headers(record, out),
            Token::Topic => self.styled(ADDRESS, record.topic(), out),
            Token::Partition => self.styled(ADDRESS, &record.partition().to_string(), out),
            Token::Offset => self.styled(ADDRESS, &record.offset().to_string(), out),
        }
    }

    fn styled(&self, style: Style, text: &str, out: &mut impl Write) -> io::Result<()> {
        if self.look.color && style != PLAIN {
            write!(out, "{style}{text}{style:#}")
        } else {
            out.write_all(text.as_bytes())
        }
    }

    fn print_bytes(&self, style: Style, bytes: &[u8], out: &mut impl Write) -> io::Result<()> {
        if self.look.escape {
            self.styled(style, &printable_bytes(bytes), out)
        } else {
            out.write_all(bytes)
        }
    }

    /// A key or a value, and in it what filters look for.
    fn print_field<'r>(
        &self,
        style: Style,
        bytes: &[u8],
        regexes: impl Iterator<Item = &'r Regex>,
        out: &mut impl Write,
    ) -> io::Result<()> {
        let mut from = 0;
        // One of several filters is pointed out: their matches may overlap.
        for found in regexes.take(usize::from(self.look.color)).flat_map(|r| r.find_iter(bytes)) {
            self.print_bytes(style, bytes.get(from..found.start()).unwrap_or_default(), out)?;
            self.print_bytes(MATCH, found.as_bytes(), out)?;
            from = found.end();
        }
        self.print_bytes(style, bytes.get(from..).unwrap_or_default(), out)
    }

    /// As kcat does: `name=value,name=value`.
    fn print_headers(&self, record: &ConsumerRecord<'_>, out: &mut impl Write) -> io::Result<()> {
        for (number, header) in record.headers().enumerate() {
            if number > 0 {
                out.write_all(b",")?;
            }
            let name = header.name();
            let name = if self.look.escape { printable(name) } else { name.to_owned() };
            self.styled(HEADERS, &format!("{name}="), out)?;
            self.print_bytes(PLAIN, header.value().unwrap_or(b"NULL"), out)?;
        }
        Ok(())
    }
}

/// The length of a key or value; -1 for none.
fn length(bytes: Option<&[u8]>) -> i64 {
    bytes.map_or(-1, |bytes| i64::try_from(bytes.len()).unwrap_or(i64::MAX))
}

/// kcat writes lengths for programs in network byte order.
#[allow(clippy::big_endian_bytes)]
fn big_endian(length: i32) -> [u8; 4] {
    length.to_be_bytes()
}

/// A record as a JSON object.
pub(crate) struct JsonRecord<'a>(pub(crate) ConsumerRecord<'a>);

impl Serialize for JsonRecord<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("topic", self.0.topic())?;
        map.serialize_entry("partition", &self.0.partition())?;
        map.serialize_entry("offset", &self.0.offset())?;
        map.serialize_entry("timestamp", &self.0.timestamp().as_millis())?;
        bytes_entry(&mut map, ["key", "key_base64"], self.0.key())?;
        bytes_entry(&mut map, ["value", "value_base64"], self.0.value())?;
        map.serialize_entry("headers", &JsonHeaders(&self.0))?;
        map.end()
    }
}

struct JsonHeaders<'a>(&'a ConsumerRecord<'a>);

impl Serialize for JsonHeaders<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(None)?;
        for header in self.0.headers() {
            list.serialize_element(&JsonHeader(header))?;
        }
        list.end()
    }
}

struct JsonHeader<'a>(Header<'a>);

impl Serialize for JsonHeader<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("name", self.0.name())?;
        bytes_entry(&mut map, ["value", "value_base64"], self.0.value())?;
        map.end()
    }
}

/// Text under one name, null if there is none; what is no text as base64 under the other.
fn bytes_entry<M: SerializeMap>(
    map: &mut M,
    [text_name, base64_name]: [&str; 2],
    bytes: Option<&[u8]>,
) -> Result<(), M::Error> {
    match bytes.map(|bytes| (bytes, str::from_utf8(bytes))) {
        None => map.serialize_entry(text_name, &None::<&str>),
        Some((_, Ok(text))) => map.serialize_entry(text_name, text),
        Some((bytes, Err(_))) => map.serialize_entry(base64_name, &STANDARD.encode(bytes)),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use sapwood::{Broker, Record, Timestamp, TopicConfig};

    use super::*;

    const RAW: Look = Look { color: false, escape: false };

    /// Stores a record and hands it to `look`.
    fn with_stored<T>(record: Record<'_>, look: impl FnOnce(ConsumerRecord<'_>) -> T) -> T {
        let broker = Broker::in_memory().unwrap();
        let topic = broker.create_topic("orders", TopicConfig::default()).unwrap();
        let record = record.timestamp(Timestamp::from_millis(7));
        topic.partition(0).unwrap().append(&[record]).unwrap();
        let mut consumer = broker.consumer().subscribe(["orders"]).unwrap();
        let records = consumer.poll(Duration::ZERO).unwrap();
        look(records.iter().next().unwrap())
    }

    fn print(format: &str, look: Look, filter: &str, record: Record<'_>) -> Vec<u8> {
        let format: Format = format.parse().unwrap();
        let filters: Vec<Filter> = filter.parse().into_iter().collect();
        let printer = RecordPrinter { format: &format, look, filters: &filters };
        let mut out = Vec::new();
        with_stored(record, |record| printer.print(&record, &mut out)).unwrap();
        out
    }

    #[test]
    fn every_token_of_kcat_is_there() {
        let record = Record::new("paid").key("al").header("a", "b").null_header("c");
        let printed = print("%t/%p/%o/%k/%K/%s/%S/%T/%h/%%\\t\\x41\\n", RAW, "", record);
        assert_eq!(printed, b"orders/0/0/al/2/paid/4/7/a=b,c=NULL/%\tA\n");
        assert_eq!(print("%R", RAW, "", Record::new("paid")), [0, 0, 0, 4]);
    }

    #[test]
    fn what_is_null_has_the_length_minus_one() {
        assert_eq!(print("%S %s|", RAW, "", Record::tombstone("k")), b"-1 |");
        assert_eq!(print("%K %k|", RAW, "", Record::new("v")), b"-1 |");
    }

    #[test]
    fn a_format_that_cannot_be_read_says_what_there_is() {
        for wrong in ["%q", "%", "\\q", "\\", "\\x4"] {
            assert!(wrong.parse::<Format>().unwrap_err().len() > 10, "{wrong}");
        }
    }

    #[test]
    fn a_terminal_is_not_obeyed_to_records_and_a_pipe_gets_them_as_they_are() {
        let hostile = b"\x1b]0;owned\x07\xff\n";
        let safe = Look { color: false, escape: true };
        assert_eq!(print("%s", safe, "", Record::new(hostile)), b"\\x1b]0;owned\\x07\\xff\\n");
        assert_eq!(print("%s", RAW, "", Record::new(hostile)), hostile);
        let named = Record::new("x").header("\x1b[2J", "\x1b[2J");
        assert_eq!(print("%h", safe, "", named), b"\\x1b[2J=\\x1b[2J");
    }

    #[test]
    fn what_a_filter_found_is_pointed_out() {
        let color = Look { color: true, escape: true };
        let printed = print("%s", color, "value=a.", Record::new("xabya\x1b"));
        let printed = String::from_utf8(printed).unwrap();
        let bold = format!("{MATCH}ab{MATCH:#}");
        assert_eq!(printed, format!("x{bold}y{MATCH}a\\x1b{MATCH:#}"));
    }

    #[test]
    fn json_has_base64_where_there_is_no_text() {
        let record = Record::new(&[0xff]).key("k").header("h", &[0xfe]).null_header("n");
        let json = with_stored(record, |record| serde_json::to_string(&JsonRecord(record)));
        assert_eq!(
            json.unwrap(),
            r#"{"topic":"orders","partition":0,"offset":0,"timestamp":7,"key":"k","value_base64":"/w==","headers":[{"name":"h","value_base64":"/g=="},{"name":"n","value":null}]}"#
        );
    }
}
