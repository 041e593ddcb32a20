//! Codecs: which ones records are written with, which ones are read, and the bounds on both.
//!
//! Decompression never takes more memory for its output than its limit, whatever the bytes claim
//! (contract, clause 22): every codec writes into a buffer that grows no further than that.

#[cfg(feature = "gzip")]
mod gzip;
mod lz4;
#[cfg(feature = "snappy")]
mod snappy;
mod zstd;

use std::fmt;
use std::str::FromStr;

use crate::error::Error;
use crate::record::batch_error::BatchError;

/// How the records of a batch are compressed when they are written.
///
/// The setting concerns new batches alone: what is stored already keeps its compression and is read
/// whatever it is. A batch that compression does not make smaller is stored without.
///
/// Its text form, for parsing and display, is Kafka's name for `compression.type`.
///
/// ```
/// use sapwood::Compression;
///
/// assert_eq!(Compression::default(), Compression::None);
/// assert_eq!("zstd".parse::<Compression>()?, Compression::zstd());
/// assert_eq!(Compression::Lz4.to_string(), "lz4");
/// # Ok::<(), sapwood::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Compression {
    /// Records are stored as they are. Reading borrows them from the file, without a copy.
    #[default]
    None,
    /// LZ4: very fast in both directions; text shrinks to about a half.
    Lz4,
    /// Zstandard: slower than LZ4, and smaller.
    Zstd {
        /// From -131072 (fastest) to 22 (smallest); Kafka's default is 3. A level outside is taken
        /// as the nearest one inside.
        level: i32,
    },
}

impl Compression {
    /// Zstandard at Kafka's default level, 3.
    pub const fn zstd() -> Self {
        Self::Zstd { level: 3 }
    }

    pub(crate) fn codec(self) -> Codec {
        match self {
            Self::None => Codec::None,
            Self::Lz4 => Codec::Lz4,
            Self::Zstd { .. } => Codec::Zstd,
        }
    }

    /// Compresses `source` into `space`, past its first `from` bytes, and returns where the result
    /// ends. `space` grows as needed and is never cut, so that a reused one costs nothing.
    ///
    /// `None` if that would not make it smaller.
    pub(crate) fn compress(
        self,
        source: &[u8],
        space: &mut Vec<u8>,
        from: usize,
    ) -> Result<Option<usize>, BatchError> {
        let size_max = match self {
            Self::None => return Ok(None),
            Self::Lz4 => lz4::compressed_size_max(source.len()),
            Self::Zstd { .. } => zstd::compressed_size_max(source.len()),
        };
        if space.len() < from + size_max {
            space.resize(from + size_max, 0);
        }
        let out = &mut space[from..];
        let size = match self {
            Self::None => return Ok(None),
            Self::Lz4 => lz4::compress(source, out)?,
            Self::Zstd { level } => zstd::compress(source, out, level)?,
        };
        Ok((size < source.len()).then_some(from + size))
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.codec().fmt(f)
    }
}

impl FromStr for Compression {
    type Err = Error;

    /// Reads Kafka's name: `none`, `lz4` or `zstd`, the latter at level 3.
    fn from_str(name: &str) -> Result<Self, Error> {
        let reason = match name {
            "none" => return Ok(Self::None),
            "lz4" => return Ok(Self::Lz4),
            "zstd" => return Ok(Self::zstd()),
            "gzip" | "snappy" => "it can be read but not written; use none, lz4 or zstd",
            _ => "it is one of none, lz4, zstd",
        };
        Err(Error::InvalidConfig {
            name: "compression.type".to_owned(),
            value: name.to_owned(),
            reason: reason.to_owned(),
        })
    }
}

/// What a stored batch is compressed with: every codec of the format, also those that are only read.
/// Shown by Kafka's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are those of the codecs")]
pub enum Codec {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl Codec {
    /// The codec with this number in the attributes.
    pub(crate) fn from_id(id: u16) -> Option<Self> {
        [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd]
            .into_iter()
            .find(|codec| codec.id() == id)
    }

    /// The codec's number in the attributes.
    pub(crate) fn id(self) -> u16 {
        match self {
            Self::None => 0,
            Self::Gzip => 1,
            Self::Snappy => 2,
            Self::Lz4 => 3,
            Self::Zstd => 4,
        }
    }

    /// Replaces the contents of `buffer` with `source` decompressed, at most `limit` bytes.
    pub(crate) fn decompress(
        self,
        source: &[u8],
        buffer: &mut Vec<u8>,
        limit: usize,
    ) -> Result<(), BatchError> {
        buffer.clear();
        match self {
            Self::None if source.len() > limit => Err(BatchError::too_large(source.len(), limit)),
            Self::None => {
                buffer.extend_from_slice(source);
                Ok(())
            }
            #[cfg(feature = "gzip")]
            Self::Gzip => gzip::decompress(source, buffer, limit),
            #[cfg(feature = "snappy")]
            Self::Snappy => snappy::decompress(source, buffer, limit),
            #[cfg(not(feature = "gzip"))]
            Self::Gzip => Err(BatchError::CodecUnavailable { codec: self }),
            #[cfg(not(feature = "snappy"))]
            Self::Snappy => Err(BatchError::CodecUnavailable { codec: self }),
            Self::Lz4 => lz4::decompress(source, buffer, limit),
            Self::Zstd => zstd::decompress(source, buffer, limit),
        }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        })
    }
}

/// Makes room in `buffer`, which holds `len` bytes, for `more` of them, without ever taking more
/// memory than `limit` bytes need. Doubles like `Vec` does, so that many small steps stay cheap.
fn reserve_within(buffer: &mut Vec<u8>, more: usize, limit: usize) -> Result<(), BatchError> {
    let needed = buffer.len().saturating_add(more);
    if needed > limit {
        return Err(BatchError::too_large(needed, limit));
    }
    if needed > buffer.capacity() {
        let capacity = needed.max(buffer.capacity().saturating_mul(2)).min(limit);
        buffer.reserve_exact(capacity - buffer.len());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kafkas_and_come_back() {
        for compression in [Compression::None, Compression::Lz4, Compression::zstd()] {
            assert_eq!(compression.to_string().parse::<Compression>().unwrap(), compression);
        }
    }

    #[test]
    fn a_codec_that_is_only_read_is_refused_with_a_reason() {
        for name in ["gzip", "snappy", "LZ4", ""] {
            let error = name.parse::<Compression>().unwrap_err();
            assert!(matches!(&error, Error::InvalidConfig { value, .. } if value == name));
            assert!(error.to_string().contains("none, lz4"), "{error}");
        }
    }

    #[test]
    fn incompressible_bytes_are_not_worth_it() {
        let mut space = Vec::new();
        for compression in [Compression::Lz4, Compression::zstd()] {
            assert_eq!(compression.compress(b"abcdefgh", &mut space, 61).unwrap(), None);
            let end = compression.compress(&[7; 1000], &mut space, 61).unwrap().unwrap();
            assert!(end < 61 + 100);
        }
    }

    #[test]
    fn a_decompression_bomb_is_refused_within_the_memory_of_its_limit() {
        let bomb = vec![0; 50 << 20];
        let limit = 1 << 20;
        for compression in [Compression::Lz4, Compression::zstd()] {
            let mut space = Vec::new();
            let end = compression.compress(&bomb, &mut space, 0).unwrap().unwrap();
            let mut buffer = Vec::new();
            let error = compression.codec().decompress(&space[..end], &mut buffer, limit);
            assert!(matches!(error, Err(BatchError::TooLarge { .. })), "{error:?}");
            assert!(buffer.capacity() <= limit, "{compression} took {}", buffer.capacity());
            compression.codec().decompress(&space[..end], &mut buffer, bomb.len()).unwrap();
            assert!(buffer == bomb);
        }
    }
}
