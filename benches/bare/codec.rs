//! The codecs alone, with tables, contexts and space that are there already.

use lz4_flex::block::{CompressTable, compress_into_with_table, get_maximum_output_size};
use sapwood::Compression;
use zstd::bulk::{Compressor, Decompressor};

pub struct Codec {
    compression: Compression,
    table: CompressTable,
    compressor: Compressor<'static>,
    decompressor: Decompressor<'static>,
    space: Vec<u8>,
}

impl Codec {
    /// For payloads of at most so many bytes.
    pub fn new(compression: Compression, len_max: usize) -> Self {
        let level = if let Compression::Zstd { level } = compression { level } else { 3 };
        let space = get_maximum_output_size(len_max).max(zstd::zstd_safe::compress_bound(len_max));
        Self {
            compression,
            table: CompressTable::large(),
            compressor: Compressor::new(level).unwrap(),
            decompressor: Decompressor::new().unwrap(),
            space: vec![0; space],
        }
    }

    /// `None` where there is no codec.
    pub fn compress(&mut self, payload: &[u8]) -> Option<&[u8]> {
        let Self { table, compressor, space, .. } = self;
        let len = match self.compression {
            Compression::Lz4 => compress_into_with_table(payload, space, table).unwrap(),
            Compression::Zstd { .. } => {
                compressor.compress_to_buffer(payload, &mut space[..]).unwrap()
            }
            _ => return None,
        };
        Some(&space[..len])
    }

    pub fn decompress<'a>(&'a mut self, payload: &'a [u8]) -> &'a [u8] {
        let Self { decompressor, space, .. } = self;
        let len = match self.compression {
            Compression::Lz4 => lz4_flex::block::decompress_into(payload, space).unwrap(),
            Compression::Zstd { .. } => {
                decompressor.decompress_to_buffer(payload, &mut space[..]).unwrap()
            }
            _ => return payload,
        };
        &space[..len]
    }
}
