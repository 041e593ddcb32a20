//! Which partition a record goes to: by its key as Kafka's clients choose it, or wherever the batch
//! being filled is.

use std::fmt::Debug;

/// Chooses the partitions of a producer's records.
///
/// A producer asks for every record whose partition was not set by [`Record::partition`]. The
/// choice is made on the thread that sends, before any lock is taken; it should be quick.
///
/// The same key must always get the same partition, as long as their number stays the same: that
/// is what keeps the records of a key in order.
///
/// ```
/// use sapwood::{Partitioner, Placement};
///
/// /// Keys are customer numbers, and each customer has a home partition.
/// #[derive(Debug)]
/// struct ByNumber;
///
/// impl Partitioner for ByNumber {
///     fn place(&self, key: Option<&[u8]>, _value: Option<&[u8]>, partitions: u32) -> Placement {
///         match key {
///             Some([first, ..]) => Placement::Partition(u32::from(*first) % partitions),
///             _ => Placement::Sticky,
///         }
///     }
/// }
///
/// assert_eq!(ByNumber.place(Some(&[7]), None, 4), Placement::Partition(3));
/// ```
///
/// [`Record::partition`]: crate::record::Record::partition
pub trait Partitioner: Debug + Send + Sync {
    /// Places a record, given its key, its value and how many partitions the topic has (at
    /// least 1).
    ///
    /// A partition that does not exist fails the send with
    /// [`Error::UnknownPartition`](crate::error::Error::UnknownPartition).
    fn place(&self, key: Option<&[u8]>, value: Option<&[u8]>, partitions: u32) -> Placement;
}

/// Where a [`Partitioner`] wants a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Placement {
    /// In this partition, numbered from 0.
    Partition(u32),
    /// Wherever it costs least: the producer fills one batch after another and changes the
    /// partition between them.
    Sticky,
}

/// Kafka's choice: records with a key go by the murmur2 hash of the key, also if it is empty;
/// records without one fill batches ([`Placement::Sticky`]).
///
/// Kafka's Java clients put the same key into the same partition. librdkafka and the clients built on
/// it do so when they are set to `partitioner=murmur2_random`; by default they use another hash.
///
/// ```
/// use sapwood::{DefaultPartitioner, Partitioner, Placement};
///
/// assert_eq!(DefaultPartitioner.place(Some(b"user-1"), None, 6), Placement::Partition(2));
/// assert_eq!(DefaultPartitioner.place(None, Some(b"hello"), 6), Placement::Sticky);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct DefaultPartitioner;

impl Partitioner for DefaultPartitioner {
    fn place(&self, key: Option<&[u8]>, _value: Option<&[u8]>, partitions: u32) -> Placement {
        match key {
            Some(key) => Placement::Partition(keyed_partition(key, partitions)),
            None => Placement::Sticky,
        }
    }
}

/// The partition of a key, out of at least one (`BuiltInPartitioner.partitionForKey`).
fn keyed_partition(key: &[u8], partitions: u32) -> u32 {
    // Kafka clears the sign instead of taking the absolute value, which i32::MIN does not have.
    (murmur2(key) & 0x7fff_ffff) % partitions.max(1)
}

/// The 32-bit murmur2 hash with Kafka's seed (`org.apache.kafka.common.utils.Utils.murmur2`; Kafka
/// shows the same 32 bits as a signed number).
fn murmur2(bytes: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;

    // Java's array lengths are 32 bits wide; the low ones are what it would mix in.
    let len = u32::try_from(bytes.len() & 0xffff_ffff).unwrap_or_default();
    let mut hash = SEED ^ len;
    let (words, tail) = bytes.as_chunks::<4>();
    for word in words {
        let mut k = word.iter().rev().fold(0, |k, byte| k << 8 | u32::from(*byte));
        k = k.wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !tail.is_empty() {
        hash ^= tail.iter().rev().fold(0, |k, byte| k << 8 | u32::from(*byte));
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ hash >> 15
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Key, hash as Kafka shows it, and the partition of 3, 6 and 50; checked against Kafka's own
    /// `Utils.murmur2`.
    const KAFKAS: [(&[u8], i32, u32, u32, u32); 16] = [
        (b"", 275_646_681, 0, 3, 31),
        (b"\x00", 375_494_588, 2, 2, 38),
        (b"\xff", -311_467_685, 0, 3, 13),
        (b"a", -1_563_381_124, 1, 4, 24),
        (b"ab", 316_155_434, 2, 2, 34),
        (b"abc", 479_470_107, 0, 3, 7),
        (b"abcd", -1_323_649_548, 2, 2, 0),
        (b"abcde", 461_995_741, 1, 1, 41),
        (b"user-1", 1_404_122_828, 2, 2, 28),
        (b"user-2", -324_981_792, 2, 2, 6),
        (b"order-1234567890", -564_775_217, 0, 3, 31),
        (b"\xff\xff\xff\xff", 644_171_429, 2, 5, 29),
        (b"\x80\x81\x82\x83\x84\x85\x86", -47_880_214, 1, 4, 34),
        ("日本語".as_bytes(), 1_431_860_170, 1, 4, 20),
        (b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01", 685_660_270, 1, 4, 20),
        (b"key", -1_079_937_367, 1, 1, 31),
    ];

    #[test]
    fn keys_hash_as_in_kafka() {
        for (key, hash, ..) in KAFKAS {
            assert_eq!(murmur2(key).cast_signed(), hash, "{key:?}");
        }
    }

    #[test]
    fn keys_go_to_the_partitions_that_kafka_chooses() {
        for (key, _, of_3, of_6, of_50) in KAFKAS {
            for (partitions, expected) in [(1, 0), (3, of_3), (6, of_6), (50, of_50)] {
                let placement = DefaultPartitioner.place(Some(key), None, partitions);
                assert_eq!(placement, Placement::Partition(expected), "{key:?} of {partitions}");
            }
        }
    }

    #[test]
    fn an_empty_key_is_a_key_and_no_key_is_sticky() {
        let empty = DefaultPartitioner.place(Some(b""), Some(b"v"), 50);
        assert_eq!(empty, Placement::Partition(31));
        assert_eq!(DefaultPartitioner.place(None, Some(b"v"), 50), Placement::Sticky);
    }
}
