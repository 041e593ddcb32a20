//! The format: records and the batches they are stored in, as bytes and nothing but bytes. No I/O.
//!
//! A record that users send is a [`Record`]. On disk, records live in Kafka's magic-v2 batches, whose
//! layout is drawn in `format.md`: a [`builder::BatchBuilder`] writes them, a [`batch::RecordBatch`]
//! reads them where they lie. Compression, varints and the checksum stand in files of their own.
//!
//! Relies on nothing but the bytes it is given: parsing any of them ends in a value or an error,
//! and takes no more memory than the caller's limit.

pub(crate) mod batch;
mod batch_error;
pub(crate) mod builder;
pub(crate) mod checksum;
pub(crate) mod compression;
pub(crate) mod control;
mod header;
mod records;
#[cfg(test)]
mod tests;
mod varint;
#[cfg(test)]
pub(crate) mod vectors;

pub use self::compression::Compression;
pub use self::header::TimestampType;
pub use self::records::Headers;

use crate::time::Timestamp;

/// A record to be sent: value, key, headers, timestamp, all of them borrowed.
///
/// Nothing is copied until the record is encoded into a batch, so building one costs nothing;
/// only headers need an allocation.
///
/// ```
/// use sapwood::Record;
///
/// let record = Record::new("paid").key("alice").header("trace", b"\x7f");
/// assert_eq!(record.value(), Some(&b"paid"[..]));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Record<'a> {
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    headers: Vec<Header<'a>>,
    timestamp: Option<Timestamp>,
    partition: Option<u32>,
}

impl<'a> Record<'a> {
    /// A record with a value and nothing else.
    pub fn new(value: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        Self { value: Some(value.as_ref()), ..Self::without_value() }
    }

    /// A record that deletes a key: it has a key and a null value. Compacted topics forget the key
    /// once they have seen it.
    pub fn tombstone(key: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        Self { key: Some(key.as_ref()), ..Self::without_value() }
    }

    pub(crate) fn from_parts(
        key: Option<&'a [u8]>,
        value: Option<&'a [u8]>,
        headers: impl Iterator<Item = (&'a str, Option<&'a [u8]>)>,
    ) -> Self {
        let headers = headers.map(|(name, value)| Header { name, value }).collect();
        Self { key, value, headers, ..Self::without_value() }
    }

    /// A record with nothing in it: for whoever copies records that others have made, where a key and a
    /// value may each be missing.
    ///
    /// ```
    /// use sapwood::Record;
    ///
    /// let (key, value) = (None::<&[u8]>, Some(b"paid"));
    /// let record = value.map_or(Record::without_value(), |value| Record::new(value));
    /// let record = key.into_iter().fold(record, Record::key);
    /// # assert_eq!((record.key_bytes(), record.value()), (None, Some(&b"paid"[..])));
    /// ```
    pub fn without_value() -> Self {
        Self { key: None, value: None, headers: Vec::new(), timestamp: None, partition: None }
    }

    /// Sets the key. Records of one key go to one partition and stay in order.
    pub fn key(mut self, key: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        self.key = Some(key.as_ref());
        self
    }

    /// Adds a header. Names may repeat, and keep their order.
    pub fn header(mut self, name: &'a str, value: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        self.headers.push(Header { name, value: Some(value.as_ref()) });
        self
    }

    /// Adds a header whose value is null, which Kafka tells from an empty one.
    pub fn null_header(mut self, name: &'a str) -> Self {
        self.headers.push(Header { name, value: None });
        self
    }

    /// Sets the timestamp. Without one the record gets the time at which its batch was begun.
    pub fn timestamp(mut self, timestamp: Timestamp) -> Self {
        self.timestamp = Some(timestamp);
        self
    }

    /// Chooses the partition, past key and partitioner.
    pub fn partition(mut self, partition: u32) -> Self {
        self.partition = Some(partition);
        self
    }

    /// The key, if it has one.
    pub fn key_bytes(&self) -> Option<&'a [u8]> {
        self.key
    }

    /// The value; `None` for a tombstone.
    pub fn value(&self) -> Option<&'a [u8]> {
        self.value
    }

    /// The headers in their order.
    pub fn headers(&self) -> &[Header<'a>] {
        &self.headers
    }

    /// The timestamp, if one was set.
    pub fn timestamp_set(&self) -> Option<Timestamp> {
        self.timestamp
    }

    /// The partition, if one was chosen.
    pub fn partition_set(&self) -> Option<u32> {
        self.partition
    }
}

/// A name and an optional value that travel with a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Header<'a> {
    name: &'a str,
    value: Option<&'a [u8]>,
}

impl<'a> Header<'a> {
    /// The name: any UTF-8, possibly empty.
    pub fn name(&self) -> &'a str {
        self.name
    }

    /// The value; null and empty are different things.
    pub fn value(&self) -> Option<&'a [u8]> {
        self.value
    }
}
