//! The files of [`memory`](super::memory): bytes in chunks, handles, windows, and the space they
//! share.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;

use super::map::{MappedFile, WrittenEnd};
use super::{Access, File, TailWindow};

/// Memory is taken in pieces of at most this size, so that a growing file is never moved whole.
const CHUNK_LEN: usize = 64 * 1024;
/// `CHUNK_LEN` as file positions count.
const CHUNK_LEN_U64: u64 = 64 * 1024;

/// The errno of writing through a handle that was opened for reading.
const EBADF: i32 = 9;

/// What the files of one tree may hold and do hold, in bytes. Plain counters: nothing else is
/// ordered by them.
#[derive(Debug)]
pub(super) struct Space {
    capacity: AtomicU64,
    used: AtomicU64,
}

impl Space {
    pub(super) fn unlimited() -> Self {
        Self { capacity: u64::MAX.into(), used: 0.into() }
    }

    #[cfg(test)]
    pub(super) fn set_capacity(&self, bytes: u64) {
        self.capacity.store(bytes, Ordering::Relaxed);
    }

    #[cfg(test)]
    pub(super) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    fn take(&self, bytes: u64) -> io::Result<()> {
        let capacity = self.capacity.load(Ordering::Relaxed);
        self.used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                used.checked_add(bytes).filter(|used| *used <= capacity || bytes == 0)
            })
            .map(|_| ())
            .map_err(|_| io::ErrorKind::StorageFull.into())
    }

    fn give_back(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// The contents of one file, shared by all that leads to it. They live as long as any of that.
#[derive(Debug)]
pub(super) struct Contents(RwLock<Bytes>);

impl Contents {
    pub(super) fn new(space: Arc<Space>) -> Self {
        Self(RwLock::new(Bytes { chunks: BTreeMap::new(), len: 0, space }))
    }

    pub(super) fn len(&self) -> u64 {
        self.0.read().len
    }
}

/// The bytes of a file. What no chunk covers is a hole and reads as zeros.
#[derive(Debug)]
struct Bytes {
    /// By chunk number. A chunk ends where its last written byte does, so that a small file takes
    /// little; its length counts as used space.
    chunks: BTreeMap<u64, Vec<u8>>,
    len: u64,
    space: Arc<Space>,
}

impl Bytes {
    fn read(&self, buffer: &mut [u8], file_position: u64) -> usize {
        let available = self.len.saturating_sub(file_position);
        let wanted = usize::try_from(available).map_or(buffer.len(), |len| len.min(buffer.len()));
        let mut rest = buffer.get_mut(..wanted).unwrap_or_default();
        let mut at = file_position;
        while !rest.is_empty() {
            let (number, start) = locate(at);
            let (piece, behind) = rest.split_at_mut(rest.len().min(CHUNK_LEN - start));
            let chunk = self.chunks.get(&number).map_or(&[][..], Vec::as_slice);
            let written = chunk.get(start..).unwrap_or_default();
            let (copied, hole) = piece.split_at_mut(piece.len().min(written.len()));
            copied.copy_from_slice(written.split_at(copied.len()).0);
            hole.fill(0);
            at += piece.len() as u64;
            rest = behind;
        }
        wanted
    }

    /// Writes chunk by chunk; when space runs out, what was written before stays, as on a disk.
    fn write(&mut self, bytes: &[u8], file_position: u64) -> io::Result<()> {
        checked_end(file_position, bytes.len())?;
        let mut rest = bytes;
        let mut at = file_position;
        while !rest.is_empty() {
            let (number, start) = locate(at);
            let (piece, behind) = rest.split_at(rest.len().min(CHUNK_LEN - start));
            self.chunk_of_len(number, start + piece.len())?
                .get_mut(start..start + piece.len())
                .expect("the chunk was just made long enough")
                .copy_from_slice(piece);
            at += piece.len() as u64;
            self.len = self.len.max(at);
            rest = behind;
        }
        Ok(())
    }

    /// The chunk, with at least `len` bytes.
    fn chunk_of_len(&mut self, number: u64, len: usize) -> io::Result<&mut Vec<u8>> {
        let chunk = self.chunks.entry(number).or_default();
        let missing = len.saturating_sub(chunk.len());
        chunk.try_reserve(missing).map_err(|_| io::ErrorKind::OutOfMemory)?;
        self.space.take(missing as u64)?;
        chunk.resize(chunk.len() + missing, 0);
        Ok(chunk)
    }

    /// Gives a range that may have holes all the space it needs.
    fn fill_holes(&mut self, file_position: u64, len: usize) -> io::Result<()> {
        let end = checked_end(file_position, len)?;
        let mut at = file_position;
        while at < end {
            let (number, start) = locate(at);
            let piece = usize::try_from(end - at).map_or(CHUNK_LEN, |len| len.min(CHUNK_LEN));
            let piece = piece.min(CHUNK_LEN - start);
            self.chunk_of_len(number, start + piece)?;
            at += piece as u64;
        }
        Ok(())
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        if i64::try_from(len).is_err() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let (number, kept) = locate(len);
        let mut gone: usize = self.chunks.split_off(&(number + 1)).values().map(Vec::len).sum();
        if let Some(chunk) = self.chunks.get_mut(&number) {
            gone += chunk.len().saturating_sub(kept);
            chunk.truncate(kept);
        }
        self.space.give_back(gone as u64);
        self.len = len;
        Ok(())
    }
}

impl Drop for Bytes {
    fn drop(&mut self) {
        let held: usize = self.chunks.values().map(Vec::len).sum();
        self.space.give_back(held as u64);
    }
}

/// The number of the chunk a file position lies in, and where in the chunk.
fn locate(file_position: u64) -> (u64, usize) {
    let start = usize::try_from(file_position % CHUNK_LEN_U64);
    (file_position / CHUNK_LEN_U64, start.expect("a remainder of 64 KiB fits in any usize"))
}

/// The end of a range of a file, if a file can be that long.
fn checked_end(file_position: u64, len: usize) -> io::Result<u64> {
    let end = file_position.checked_add(len as u64);
    end.filter(|end| i64::try_from(*end).is_ok()).ok_or_else(|| io::ErrorKind::FileTooLarge.into())
}

/// An open handle. Reads of one file run side by side, a write runs alone.
#[derive(Debug)]
pub(super) struct MemoryFile {
    contents: Arc<Contents>,
    access: Access,
}

impl MemoryFile {
    pub(super) fn new(contents: Arc<Contents>, access: Access) -> Self {
        Self { contents, access }
    }

    fn check_writable(&self) -> io::Result<()> {
        match self.access {
            Access::ReadWrite => Ok(()),
            Access::Read => Err(io::Error::from_raw_os_error(EBADF)),
        }
    }
}

impl File for MemoryFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.contents.len())
    }

    fn read_at(&self, buffer: &mut [u8], file_position: u64) -> io::Result<usize> {
        Ok(self.contents.0.read().read(buffer, file_position))
    }

    fn write_all_at(&self, bytes: &[u8], file_position: u64) -> io::Result<()> {
        self.check_writable()?;
        self.contents.0.write().write(bytes, file_position)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.check_writable()?;
        self.contents.0.write().set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn map(&self, _len: usize, _written_end: &WrittenEnd) -> io::Result<Option<MappedFile>> {
        Ok(None)
    }

    fn map_tail(
        &self,
        file_position: u64,
        len: usize,
        written_end: &WrittenEnd,
    ) -> io::Result<Box<dyn TailWindow>> {
        self.check_writable()?;
        Ok(Box::new(MemoryTail {
            contents: Arc::clone(&self.contents),
            file_position,
            end: checked_end(file_position, len)?,
            ready_end: file_position,
            written_end: written_end.clone(),
        }))
    }
}

/// A window that stores through the file; it refuses what a mapped one refuses.
#[derive(Debug)]
struct MemoryTail {
    contents: Arc<Contents>,
    file_position: u64,
    end: u64,
    ready_end: u64,
    written_end: WrittenEnd,
}

impl TailWindow for MemoryTail {
    fn end(&self) -> u64 {
        self.end
    }

    fn ready_end(&self) -> u64 {
        self.ready_end
    }

    fn make_ready(&mut self, end: u64) -> io::Result<()> {
        let mut bytes = self.contents.0.write();
        let len = end.checked_sub(self.ready_end).and_then(|len| usize::try_from(len).ok());
        match len {
            Some(len) if end <= self.end && end <= bytes.len => {
                bytes.fill_holes(self.ready_end, len)?;
                self.ready_end = end;
                Ok(())
            }
            _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "it ends before")),
        }
    }

    fn store(&mut self, bytes: &[u8], file_position: u64) {
        let within = checked_end(file_position, bytes.len()).is_ok_and(|end| end <= self.ready_end);
        assert!(
            within && file_position >= self.file_position,
            "{} bytes at {file_position} do not lie within the window, ready for {}..{}",
            bytes.len(),
            self.file_position,
            self.ready_end
        );
        let written_end = self.written_end.load();
        assert!(
            file_position >= written_end,
            "bytes at {file_position} would change what is final up to {written_end}"
        );
        let mut contents = self.contents.0.write();
        contents
            .write(bytes, file_position)
            .expect("a window's space was taken when it was made ready");
    }
}
