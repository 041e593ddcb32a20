//! The id of a topic: what tells it from an earlier topic of the same name.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::str::FromStr;

/// The digits of base64url, as in Kafka's text form of ids.
const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// How many digits hold 128 bits, six bits each.
const TEXT_LEN: usize = 22;

/// Kafka keeps the first ids for itself (`Uuid.RESERVED`): zero stands for no id at all.
const RESERVED: u128 = 100;

/// 16 bytes, shown as Kafka shows them: 22 digits of base64url without padding.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct TopicId(u128);

/// The text is not a topic id that a topic can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a topic id: it takes 22 digits of base64url, and the first 100 values are reserved")]
pub(crate) struct InvalidTopicId;

impl TopicId {
    /// A new id, chosen as Kafka chooses them: a random UUID (version 4) whose text does not begin
    /// with `-`, because command lines would take it for an option.
    pub(crate) fn random() -> Self {
        loop {
            let id = Self(as_version_4(random_bits()));
            if !id.to_string().starts_with('-') {
                return id;
            }
        }
    }

    /// The id as it stands in Kafka's records.
    pub(crate) fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// The id that a record names; whether there is such a topic is for others to say.
    pub(crate) fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(bytes))
    }
}

/// Random bits from the standard library's only source of them: its hash tables are keyed by the
/// operating system's random numbers. Ids need to be unique, not secret.
fn random_bits() -> u128 {
    let hasher = RandomState::new();
    u128::from(hasher.hash_one(0_u8)) << 64 | u128::from(hasher.hash_one(1_u8))
}

/// Marks a random number as such (RFC 9562, version 4 and variant 10).
fn as_version_4(bits: u128) -> u128 {
    const VERSION_AND_VARIANT: u128 = 0xf << 76 | 0b11 << 62;
    const VERSION_4: u128 = 4 << 76 | 0b10 << 62;
    bits & !VERSION_AND_VARIANT | VERSION_4
}

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // 22 digits hold 132 bits: the last four are zero.
        (0..TEXT_LEN).try_for_each(|digit| {
            let bits =
                if digit == TEXT_LEN - 1 { self.0 << 4 } else { self.0 >> (122 - 6 * digit) };
            let [.., low] = bits.to_be_bytes();
            write!(f, "{}", char::from(DIGITS[usize::from(low & 63)]))
        })
    }
}

impl fmt::Debug for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for TopicId {
    type Err = InvalidTopicId;

    /// Reads the text form. An id that begins with `-` is taken: Kafka makes none, but stores it.
    fn from_str(text: &str) -> Result<Self, InvalidTopicId> {
        if text.len() != TEXT_LEN {
            return Err(InvalidTopicId);
        }
        let mut bits: u128 = 0;
        let mut surplus = 0;
        for (i, byte) in text.bytes().enumerate() {
            let digit = DIGITS.iter().position(|digit| *digit == byte).ok_or(InvalidTopicId)?;
            if i == TEXT_LEN - 1 {
                bits = bits << 2 | (digit >> 4) as u128;
                surplus = digit & 15;
            } else {
                bits = bits << 6 | digit as u128;
            }
        }
        // Surplus bits would be lost: two texts must not name one id.
        if surplus != 0 || bits < RESERVED {
            return Err(InvalidTopicId);
        }
        Ok(Self(bits))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_shown_as_kafka_shows_them() {
        let id = TopicId(0x0123_4567_89ab_cdef_fedc_ba98_7654_3210);
        assert_eq!(id.to_string(), "ASNFZ4mrze_-3LqYdlQyEA");
        assert_eq!("ASNFZ4mrze_-3LqYdlQyEA".parse(), Ok(id));
        assert_eq!(TopicId(1).to_string(), "AAAAAAAAAAAAAAAAAAAAAQ");
        assert_eq!(TopicId(u128::MAX).to_string(), "_____________________w");
    }

    #[test]
    fn every_single_bit_comes_back_from_the_text() {
        for bit in 0..128 {
            let id = TopicId(1 << bit | 1 << 127 | RESERVED);
            assert_eq!(id.to_string().parse(), Ok(id));
        }
    }

    #[test]
    fn reserved_ids_and_texts_that_are_none_are_refused() {
        for reserved in [0, 1, 99] {
            assert_eq!(TopicId(reserved).to_string().parse::<TopicId>(), Err(InvalidTopicId));
        }
        assert_eq!(TopicId(100).to_string().parse(), Ok(TopicId(100)));
        for text in [
            "",
            "ASNFZ4mrze_-3LqYdlQyE",
            "ASNFZ4mrze_-3LqYdlQyEAA",
            "ASNFZ4mrze_-3LqYdlQyEA==",
            "ASNFZ4mrze/+3LqYdlQyEA",
            "ASNFZ4mrze_-3LqYdlQyEB",
            " SNFZ4mrze_-3LqYdlQyEA",
            "üüüüüüüüüüü",
        ] {
            assert_eq!(text.parse::<TopicId>(), Err(InvalidTopicId), "{text}");
        }
    }

    #[test]
    fn random_ids_are_version_4_differ_and_never_begin_with_a_dash() {
        let ids: std::collections::BTreeSet<_> = (0..2000).map(|_| TopicId::random()).collect();
        assert_eq!(ids.len(), 2000);
        for id in ids {
            assert_eq!((id.0 >> 76 & 0xf, id.0 >> 62 & 0b11), (4, 0b10));
            assert!(!id.to_string().starts_with('-'));
            assert_eq!(id.to_string().parse(), Ok(id));
        }
    }
}
