//! The bare machine: the same bytes by the shortest loop there is, without a log around it.
//!
//! Encoding is that of Kafka's format, v2; the checksum is the crate's own. Nothing here checks,
//! locks, indexes or can be read back by anybody else: that is the point.

#![allow(dead_code)] // each benchmark uses its part
#![allow(unsafe_code)] // a mapping of a file, as the crate has one in `fs/map.rs`

pub mod codec;
pub mod group_commit;
pub mod growing;
pub mod hand_over;
pub mod log;
pub mod sparse_index;

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Bytes before the records of a batch.
pub const HEADER: usize = 61;

/// Appends a number as a zig-zag varint.
#[inline]
pub fn varint(buffer: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        buffer.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    buffer.push(rest as u8);
}

/// Reads a zig-zag varint; returns it and what follows.
#[inline]
pub fn read_varint(bytes: &[u8]) -> (i64, &[u8]) {
    let (mut value, mut shift, mut at) = (0_u64, 0, 0);
    loop {
        let byte = bytes[at];
        at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return ((value >> 1) as i64 ^ -((value & 1) as i64), &bytes[at..]);
        }
        shift += 7;
    }
}

/// Starts a batch.
pub fn begin(buffer: &mut Vec<u8>) {
    buffer.clear();
    buffer.resize(HEADER, 0);
}

/// Appends a record that has a value and nothing else.
#[inline]
pub fn record(buffer: &mut Vec<u8>, offset_delta: i64, value: &[u8]) {
    let sizes = |n: i64| {
        if n < 64 {
            1
        } else if n < 8_192 {
            2
        } else {
            3
        }
    };
    let body = 1 + 1 + sizes(offset_delta) + 1 + sizes(value.len() as i64) + value.len() as i64 + 1;
    varint(buffer, body);
    buffer.push(0);
    varint(buffer, 0);
    varint(buffer, offset_delta);
    varint(buffer, -1);
    varint(buffer, value.len() as i64);
    buffer.extend_from_slice(value);
    varint(buffer, 0);
}

/// Finishes a batch: length, count, checksum.
pub fn finish(buffer: &mut [u8], records: u32) {
    let length = (buffer.len() - 12) as u32;
    buffer[8..12].copy_from_slice(&length.to_be_bytes());
    buffer[16] = 2;
    buffer[57..61].copy_from_slice(&records.to_be_bytes());
    let crc = crc32c::crc32c(&buffer[21..]);
    buffer[17..21].copy_from_slice(&crc.to_be_bytes());
}

/// A whole batch of records with the same value.
pub fn batch(buffer: &mut Vec<u8>, records: u32, value: &[u8]) {
    begin(buffer);
    (0..i64::from(records)).for_each(|offset_delta| record(buffer, offset_delta, value));
    finish(buffer, records);
}

/// A file of zeros that is written from its start on, over and over.
pub struct Space {
    pub file: File,
    pub map: memmap2::MmapMut,
    pub at: usize,
}

impl Space {
    pub fn new(path: &Path, len: usize) -> Self {
        let file = OpenOptions::new().create(true).truncate(true).read(true).write(true).open(path);
        let file = file.unwrap();
        file.write_all_at(&vec![0; len], 0).unwrap();
        file.sync_data().unwrap();
        // SAFETY: nobody else has the file, and it lives as long as the mapping.
        let map = unsafe { memmap2::MmapMut::map_mut(&file) }.unwrap();
        Self { file, map, at: 0 }
    }

    fn place(&mut self, len: usize) -> usize {
        if self.at + len > self.map.len() {
            self.at = 0;
        }
        let at = self.at;
        self.at += len;
        at
    }

    /// Copies into the mapping.
    #[inline]
    pub fn store(&mut self, bytes: &[u8]) {
        let at = self.place(bytes.len());
        self.map[at..at + bytes.len()].copy_from_slice(bytes);
    }

    pub fn write(&mut self, bytes: &[u8]) {
        let at = self.place(bytes.len());
        self.file.write_all_at(bytes, at as u64).unwrap();
    }

    pub fn write_and_sync(&mut self, bytes: &[u8]) {
        self.write(bytes);
        self.file.sync_data().unwrap();
    }
}

/// Splits off the first batch, its checksum checked: its payload, its number of records, what follows.
#[inline]
pub fn split_batch(bytes: &[u8]) -> (&[u8], u32, &[u8]) {
    let length = u32::from_be_bytes(bytes[8..12].try_into().unwrap()) as usize + 12;
    let (batch, rest) = bytes.split_at(length);
    let stored = u32::from_be_bytes(batch[17..21].try_into().unwrap());
    assert_eq!(crc32c::crc32c(&batch[21..]), stored);
    let count = u32::from_be_bytes(batch[57..61].try_into().unwrap());
    (&batch[HEADER..], count, rest)
}

/// Walks the records of a batch. Returns value bytes.
#[inline]
pub fn walk(mut payload: &[u8], count: u32) -> u64 {
    let mut sum = 0;
    for _ in 0..count {
        let (_, fields) = read_varint(payload);
        let (_, fields) = read_varint(&fields[1..]);
        let (_, fields) = read_varint(fields);
        let (key, fields) = read_varint(fields);
        let fields = &fields[key.max(0) as usize..];
        let (value, fields) = read_varint(fields);
        let (value, fields) = fields.split_at(value as usize);
        let (headers, fields) = read_varint(fields);
        assert_eq!(headers, 0);
        sum += u64::from(value[0]) + value.len() as u64;
        payload = fields;
    }
    sum
}

/// Walks batches end to end: checksum, then every record's value. Returns count and value bytes.
pub fn read_all(mut bytes: &[u8]) -> (u64, u64) {
    let (mut records, mut sum) = (0, 0);
    while bytes.len() > HEADER {
        let (payload, count, rest) = split_batch(bytes);
        sum += walk(payload, count);
        records += u64::from(count);
        bytes = rest;
    }
    (records, sum)
}

/// Reads one record of the batch that begins here: checksum, then as many records as come before it.
pub fn read_one(bytes: &[u8], number: u32) -> &[u8] {
    let (mut payload, _, _) = split_batch(bytes);
    for _ in 0..number {
        let (size, fields) = read_varint(payload);
        payload = &fields[size as usize..];
    }
    let (_, fields) = read_varint(payload);
    let (_, fields) = read_varint(&fields[1..]);
    let (_, fields) = read_varint(fields);
    let (key, fields) = read_varint(fields);
    let (value, fields) = read_varint(&fields[key.max(0) as usize..]);
    &fields[..value as usize]
}
