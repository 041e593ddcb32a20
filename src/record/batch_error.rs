//! What can be wrong with the bytes of a batch. Bytes know no file and no partition: whoever read
//! them adds those when it turns this into an [`Error`](crate::error::Error).

use crate::record::compression::Codec;

/// Why bytes are not a batch that can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BatchError {
    /// The bytes end before the batch does: a torn tail, or too little was read.
    #[error("the batch needs {needed} bytes and only {available} are there")]
    Incomplete {
        /// How many bytes there must be, as far as can be told yet.
        needed: u64,
        /// How many there are.
        available: u64,
    },

    /// The bytes break the format.
    #[error("{0}")]
    Corrupt(String),

    /// The batch may be sound, but uses something of the format that this version does not know.
    #[error("{0}")]
    Unsupported(String),

    /// A size is above what is allowed. Nothing of that size was allocated.
    #[error("at least {size} bytes are more than the {limit} allowed")]
    TooLarge {
        /// The size as far as it is known: what is there is at least this large.
        size: u64,
        /// The largest size allowed.
        limit: u64,
    },

    /// The batch is compressed with a codec that this build lacks.
    #[cfg_attr(
        all(feature = "gzip", feature = "snappy"),
        allow(dead_code, reason = "a build with all codecs lacks none")
    )]
    #[error("the batch is compressed with {codec}; build with the feature `{codec}` to read it")]
    CodecUnavailable {
        /// The codec, whose feature has the same name.
        codec: Codec,
    },
}

impl BatchError {
    #[cold]
    pub(crate) fn corrupt(reason: impl Into<String>) -> Self {
        Self::Corrupt(reason.into())
    }

    #[cold]
    pub(crate) fn unsupported(reason: impl Into<String>) -> Self {
        Self::Unsupported(reason.into())
    }

    #[cold]
    pub(crate) fn too_large(size: usize, limit: usize) -> Self {
        Self::TooLarge { size: widen(size), limit: widen(limit) }
    }

    #[cold]
    pub(crate) fn incomplete(needed: usize, available: usize) -> Self {
        Self::Incomplete { needed: widen(needed), available: widen(available) }
    }
}

/// No platform has a `usize` wider than 64 bits.
fn widen(size: usize) -> u64 {
    u64::try_from(size).unwrap_or(u64::MAX)
}
