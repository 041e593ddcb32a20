//! The records inside a batch, read where they lie.
//!
//! Everything the format demands of a record is checked before it is handed out, so that what holds
//! one need not check again.

use std::iter::FusedIterator;

use crate::record::Header;
use crate::record::batch_error::BatchError;
use crate::record::header::BatchHeader;
use crate::record::varint::{varint_at, varlong_at};
use crate::time::Timestamp;

/// A record where it lies in a batch or a decompression buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RecordRef<'a> {
    offset: u64,
    timestamp: Timestamp,
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    headers: Headers<'a>,
}

impl<'a> RecordRef<'a> {
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// The record's own timestamp, or the batch's append time under `LogAppendTime`.
    pub(crate) fn timestamp(&self) -> Timestamp {
        self.timestamp
    }

    pub(crate) fn key(&self) -> Option<&'a [u8]> {
        self.key
    }

    /// The value; `None` for a tombstone.
    pub(crate) fn value(&self) -> Option<&'a [u8]> {
        self.value
    }

    pub(crate) fn headers(&self) -> Headers<'a> {
        self.headers.clone()
    }
}

/// The headers of a record, in the order in which they were sent; names may repeat.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "iterators are lazy"]
pub struct Headers<'a> {
    /// `left` headers, read once already.
    bytes: &'a [u8],
    left: usize,
}

impl<'a> Headers<'a> {
    /// Reads `count` headers, which must fill `bytes`.
    #[inline]
    fn parse(bytes: &'a [u8], count: i32) -> Result<Self, &'static str> {
        if count == 0 && bytes.is_empty() {
            return Ok(Self { bytes, left: 0 });
        }
        Self::parse_some(bytes, count)
    }

    fn parse_some(bytes: &'a [u8], count: i32) -> Result<Self, &'static str> {
        let left = usize::try_from(count).map_err(|_| "its header count is negative")?;
        let mut at = 0;
        for _ in 0..left {
            (_, at) = header_at(bytes, at)?;
        }
        if at != bytes.len() {
            return Err("its length does not match what it holds");
        }
        Ok(Self { bytes, left })
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = Header<'a>;

    fn next(&mut self) -> Option<Header<'a>> {
        self.left = self.left.checked_sub(1)?;
        let (header, end) =
            header_at(self.bytes, 0).expect("headers are read once when the record is");
        self.bytes = self.bytes.get(end..).unwrap_or_default();
        Some(header)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Headers<'_> {}
impl FusedIterator for Headers<'_> {}

/// The records of a batch in their order. After an error nothing more comes.
#[derive(Debug, Clone)]
pub(crate) struct Records<'p> {
    rest: &'p [u8],
    /// Records still to come.
    left: u32,
    /// The smallest offset delta the next record may have.
    offset_delta_min: i64,
    offset_delta_max: i64,
    base_offset: u64,
    base_timestamp: i64,
    /// The timestamp of every record, where they have no say in it.
    fixed_timestamp: Option<Timestamp>,
}

/// How far an iteration has come, to go on later without having borrowed the bytes meanwhile.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RecordsProgress {
    rest_len: usize,
    left: u32,
    offset_delta_min: i64,
}

impl RecordsProgress {
    /// How many records are still to come.
    pub(crate) fn left(&self) -> u32 {
        self.left
    }
}

impl<'p> Records<'p> {
    pub(crate) fn progress(&self) -> RecordsProgress {
        let Self { rest, left, offset_delta_min, .. } = self;
        RecordsProgress { rest_len: rest.len(), left: *left, offset_delta_min: *offset_delta_min }
    }

    /// Goes on where an iteration over the same payload was.
    ///
    /// # Panics
    ///
    /// If the payload is shorter than what was left of that one.
    #[must_use]
    pub(crate) fn resume(mut self, progress: RecordsProgress) -> Self {
        let consumed = self.rest.len().checked_sub(progress.rest_len);
        self.rest = consumed
            .and_then(|consumed| self.rest.get(consumed..))
            .expect("the payload is the one whose iteration is resumed");
        self.left = progress.left;
        self.offset_delta_min = progress.offset_delta_min;
        self
    }

    pub(crate) fn new(
        payload: &'p [u8],
        header: &BatchHeader,
        fixed_timestamp: Option<Timestamp>,
    ) -> Self {
        Self {
            rest: payload,
            left: header.record_count,
            offset_delta_min: 0,
            offset_delta_max: i64::from(header.last_offset_delta),
            base_offset: header.base_offset,
            base_timestamp: header.base_timestamp,
            fixed_timestamp,
        }
    }

    /// Splits off a record, and reads how far its timestamp and its offset are from those of the
    /// batch, and where in it the key begins.
    #[inline(always)]
    #[allow(clippy::inline_always, reason = "as for `read`, of which it is the first half")]
    fn read_deltas(&mut self) -> Result<(&'p [u8], i64, i64, usize), &'static str> {
        let (record, at) = split_record(&mut self.rest)?;
        // The attributes of a record have never been used; Kafka ignores them as well.
        let at = at + 1;
        let (timestamp_delta, at) = varlong_at(record, at).ok_or(CUT_SHORT)?;
        let (offset_delta, at) = varint_at(record, at).ok_or(CUT_SHORT)?;
        let offset_delta = i64::from(offset_delta);
        // Kafka does not look at the order. Nothing writes another one, and a consumer's position
        // must never go back, so anything else is damage.
        if offset_delta < self.offset_delta_min || offset_delta > self.offset_delta_max {
            return Err("its offset is out of order or outside the batch");
        }
        self.offset_delta_min = offset_delta + 1;
        Ok((record, timestamp_delta, offset_delta, at))
    }

    #[inline(always)]
    #[allow(
        clippy::inline_always,
        reason = "few places read records, and each uses a part of them"
    )]
    fn read(&mut self) -> Result<RecordRef<'p>, &'static str> {
        let (record, timestamp_delta, offset_delta, at) = self.read_deltas()?;
        let (key, at) = nullable_at(record, at)?;
        let (value, at) = nullable_at(record, at)?;
        let (header_count, at) = varint_at(record, at).ok_or(CUT_SHORT)?;
        let headers = Headers::parse(record.get(at..).ok_or(CUT_SHORT)?, header_count)?;
        let timestamp = match self.fixed_timestamp {
            None => Timestamp::from_millis(self.base_timestamp.wrapping_add(timestamp_delta)),
            Some(timestamp) => timestamp,
        };
        // The delta is not negative, being at least the smallest one allowed.
        let offset = self.base_offset + offset_delta.unsigned_abs();
        Ok(RecordRef { offset, timestamp, key, value, headers })
    }

    /// Passes up to `limit` records and checks them; returns how many there were, and the offset after
    /// the last of them. `None` if there was none.
    pub(crate) fn check(&mut self, limit: usize) -> Result<Option<(usize, u64)>, BatchError> {
        let (mut count, mut next_offset) = (0, 0);
        while count < limit && self.left > 0 {
            match self.read() {
                Ok(record) => next_offset = record.offset + 1,
                Err(reason) => return Err(self.fail(reason)),
            }
            self.left -= 1;
            count += 1;
        }
        Ok((count > 0).then_some((count, next_offset)))
    }

    /// Passes the records before an offset, checking how long they are and where they belong.
    pub(crate) fn skip_to(&mut self, offset: u64) -> Result<(), BatchError> {
        while self.left > 0 {
            let before = (self.rest, self.offset_delta_min);
            let (_, _, offset_delta, _) = match self.read_deltas() {
                Ok(read) => read,
                Err(reason) => return Err(self.fail(reason)),
            };
            if self.base_offset + offset_delta.unsigned_abs() >= offset {
                (self.rest, self.offset_delta_min) = before;
                break;
            }
            self.left -= 1;
        }
        Ok(())
    }

    /// Checks that nothing comes after the last record.
    pub(crate) fn check_end(&mut self) -> Result<(), BatchError> {
        debug_assert_eq!(self.left, 0);
        self.next().transpose().map(drop)
    }

    /// The next record of a batch whose records were checked before.
    ///
    /// # Panics
    ///
    /// If they were not, and it is damaged.
    #[inline]
    pub(crate) fn next_checked(&mut self) -> Option<RecordRef<'p>> {
        self.left = self.left.checked_sub(1)?;
        Some(self.read().expect("every record was checked before"))
    }

    #[cold]
    fn fail(&mut self, reason: &str) -> BatchError {
        let left = std::mem::take(&mut self.left);
        self.rest = &[];
        BatchError::corrupt(format!(
            "a record of the batch is damaged ({left} from its end): {reason}"
        ))
    }
}

impl<'p> Iterator for Records<'p> {
    type Item = Result<RecordRef<'p>, BatchError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            if self.rest.is_empty() {
                return None;
            }
            return Some(Err(self.fail("more bytes follow than the batch has records for")));
        }
        match self.read() {
            Ok(record) => {
                self.left -= 1;
                Some(Ok(record))
            }
            Err(reason) => Some(Err(self.fail(reason))),
        }
    }
}

impl FusedIterator for Records<'_> {}

const CUT_SHORT: &str = "it is cut short";

/// Splits the next record off `rest`, and says where in it the body begins, behind the length.
#[inline]
fn split_record<'p>(rest: &mut &'p [u8]) -> Result<(&'p [u8], usize), &'static str> {
    let (length, at) = varint_at(rest, 0).ok_or(CUT_SHORT)?;
    let length = usize::try_from(length).map_err(|_| "a length is negative")?;
    let (record, after) = rest.split_at_checked(at + length).ok_or("a length goes past its end")?;
    *rest = after;
    Ok((record, at))
}

/// Bytes with their length before them, and where what follows them begins; `None` for null, which is
/// any negative length, as in Kafka.
#[inline]
fn nullable_at(bytes: &[u8], at: usize) -> Result<(Option<&[u8]>, usize), &'static str> {
    let (length, at) = varint_at(bytes, at).ok_or(CUT_SHORT)?;
    let Ok(length) = usize::try_from(length) else { return Ok((None, at)) };
    let end = at + length;
    Ok((Some(bytes.get(at..end).ok_or("a length goes past its end")?), end))
}

fn header_at(bytes: &[u8], at: usize) -> Result<(Header<'_>, usize), &'static str> {
    let (name, at) = nullable_at(bytes, at)?;
    let name = str::from_utf8(name.ok_or("a length is negative")?);
    let name = name.map_err(|_| "a header name is not UTF-8")?;
    let (value, end) = nullable_at(bytes, at)?;
    Ok((Header { name, value }, end))
}
