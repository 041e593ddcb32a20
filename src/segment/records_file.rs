//! The `.log` file of a segment, as readers see it: a run of bytes up to the written end.
//!
//! Readers borrow from a mapping that is made when somebody first reads, or copy through `pread`
//! where mappings are not wanted or not to be had. The one writer of the file ([`super::writer`])
//! moves the written end; below it nothing ever changes.

use std::io;
use std::ops::{Deref, Range};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::RwLock;

use crate::error::{Error, Result};
use crate::fs::map::{MappedFile, WrittenEnd};
use crate::fs::{Access, File, FileSystem};

/// How consumers get at the bytes of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum ReadMode {
    /// Borrowed from a read-only mapping of the file: the fastest, and the default. Should the disk
    /// fail under a mapped page, or somebody truncate the file from outside, the process gets a
    /// `SIGBUS` instead of an error.
    #[default]
    Mapped,
    /// Copied with `pread`. Slower, and every failure is an error.
    Copied,
}

/// How much is copied at a time when batches are walked without a mapping.
const WALK_LEN: u64 = 64 << 10;

/// The smallest stretch that is mapped: mapping costs more than a few untouched pages.
const MAP_LEN_MIN: u64 = 1 << 20;

/// What one reader that goes through a mapped file in order keeps in memory, twice.
const RESIDENT_LEN: u64 = 16 << 20;

/// The `.log` file of one segment. Any number of threads may read at the same time.
#[derive(Debug)]
pub(crate) struct RecordsFile {
    fs: Arc<dyn FileSystem>,
    path: PathBuf,
    written_end: WrittenEnd,
    read_mode: ReadMode,
    view: RwLock<View>,
}

/// What readers have open.
#[derive(Debug, Default)]
struct View {
    /// Kept while the segment is active; a sealed segment is opened when it is read, so that a
    /// long log does not use up the process's descriptors.
    file: Option<Arc<dyn File>>,
    map: Option<Arc<MappedFile>>,
}

impl RecordsFile {
    /// A file whose first `len` bytes are final.
    pub(crate) fn new(
        fs: Arc<dyn FileSystem>,
        path: PathBuf,
        len: u64,
        read_mode: ReadMode,
    ) -> Self {
        let view = RwLock::default();
        Self { fs, path, written_end: WrittenEnd::new(len), read_mode, view }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// How far readers may look.
    pub(crate) fn written_end(&self) -> &WrittenEnd {
        &self.written_end
    }

    /// How many bytes there are to read.
    pub(crate) fn len(&self) -> u64 {
        self.written_end.load()
    }

    pub(crate) fn read_mode(&self) -> ReadMode {
        self.read_mode
    }

    /// Keeps an open file for readers to use.
    pub(crate) fn keep_open(&self, file: Arc<dyn File>) {
        self.view.write().file = Some(file);
    }

    /// Lets go of the open file and of the mapping. Bytes that were handed out stay valid, and the
    /// next reader opens the file anew.
    pub(crate) fn release(&self) {
        *self.view.write() = View::default();
    }

    fn file(&self) -> Result<Arc<dyn File>> {
        if let Some(file) = &self.view.read().file {
            return Ok(Arc::clone(file));
        }
        self.fs.open(&self.path, Access::Read).map_err(|error| Error::io("open", &self.path, error))
    }

    /// The bytes of a range, which must end at or below the written end.
    pub(crate) fn bytes(&self, range: Range<u64>) -> Result<Chunk> {
        debug_assert!(range.start <= range.end && range.end <= self.len());
        if self.read_mode == ReadMode::Mapped
            && let Some(map) = self.map(range.end)?
        {
            let range = to_usize(range.start)..to_usize(range.end);
            return Ok(Chunk(Bytes::Mapped { map, range }));
        }
        self.copy(range)
    }

    /// The bytes from a position on, for walking: all up to `end` where they are mapped, otherwise a
    /// stretch of at least `needed` of them.
    pub(crate) fn stretch(&self, from: u64, needed: u64, end: u64) -> Result<Chunk> {
        if self.read_mode == ReadMode::Mapped
            && let Some(map) = self.map(end)?
        {
            let range = to_usize(from)..to_usize(end);
            return Ok(Chunk(Bytes::Mapped { map, range }));
        }
        self.copy(from..from.saturating_add(needed.max(WALK_LEN)).min(end))
    }

    /// A reader has read from one position up to another. What lies well behind it is given back,
    /// so that reading a long log through a mapping does not fill the process's memory.
    pub(crate) fn passed(&self, from: u64, to: u64) {
        let behind = (from / RESIDENT_LEN).saturating_sub(1) * RESIDENT_LEN;
        if from / RESIDENT_LEN == to / RESIDENT_LEN {
            return;
        }
        if let Some(map) = &self.view.read().map {
            map.give_back(to_usize(behind)..to_usize(behind + RESIDENT_LEN));
        }
    }

    /// A reader has gone on to the next segment.
    pub(crate) fn left(&self) {
        if let Some(map) = &self.view.read().map {
            map.give_back(0..map.len());
        }
    }

    /// Copies a range, whatever the read mode. A file that turns out shorter gives fewer bytes.
    fn copy(&self, range: Range<u64>) -> Result<Chunk> {
        let mut bytes = Vec::new();
        bytes
            .try_reserve_exact(to_usize(range.end - range.start))
            .map_err(|_| Error::io("read", &self.path, io::ErrorKind::OutOfMemory.into()))?;
        bytes.resize(to_usize(range.end - range.start), 0);
        let read = self
            .file()?
            .read_at(&mut bytes, range.start)
            .map_err(|error| Error::io("read", &self.path, error))?;
        bytes.truncate(read);
        let range = 0..bytes.len();
        Ok(Chunk(Bytes::Copied { bytes: Arc::new(bytes), range }))
    }

    /// A mapping that reaches at least `end`; `None` if the file system has none, or will not
    /// give one now (address space can run out; copying still works).
    fn map(&self, end: u64) -> Result<Option<Arc<MappedFile>>> {
        if let Some(map) = &self.view.read().map
            && map.len() as u64 >= end
        {
            return Ok(Some(Arc::clone(map)));
        }
        let mut view = self.view.write();
        if let Some(map) = &view.map
            && map.len() as u64 >= end
        {
            return Ok(Some(Arc::clone(map)));
        }
        // The active segment grows, so its mapping reaches ahead, twice as far each time: a
        // segment is mapped a handful of times in its life, never on the append path. A sealed
        // segment is mapped as long as it is.
        let (file, len) = if let Some(file) = &view.file {
            (Arc::clone(file), end.next_power_of_two().max(MAP_LEN_MIN))
        } else {
            let file = self.fs.open(&self.path, Access::Read);
            (file.map_err(|error| Error::io("open", &self.path, error))?, self.len())
        };
        match file.map(to_usize(len), &self.written_end) {
            Ok(Some(map)) => {
                let map = Arc::new(map);
                view.map = Some(Arc::clone(&map));
                Ok(Some(map))
            }
            Ok(None) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::OutOfMemory => Ok(None),
            Err(error) => Err(Error::io("map", &self.path, error)),
        }
    }
}

/// File positions of a segment fit 31 bits, so they fit `usize` wherever files can be mapped.
fn to_usize(file_position: u64) -> usize {
    usize::try_from(file_position).expect("a segment is smaller than 2 GiB")
}

/// Bytes of a segment: borrowed from the mapping, which they keep alive, or copied. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Chunk(Bytes);

#[derive(Debug, Clone)]
enum Bytes {
    Mapped { map: Arc<MappedFile>, range: Range<usize> },
    Copied { bytes: Arc<Vec<u8>>, range: Range<usize> },
}

impl Chunk {
    /// Keeps the first `len` bytes.
    pub(crate) fn truncate(&mut self, len: usize) {
        let (Bytes::Mapped { range, .. } | Bytes::Copied { range, .. }) = &mut self.0;
        range.end = range.end.min(range.start.saturating_add(len));
    }

    /// A part of it.
    pub(crate) fn slice(&self, part: Range<usize>) -> Self {
        let mut chunk = self.clone();
        let (Bytes::Mapped { range, .. } | Bytes::Copied { range, .. }) = &mut chunk.0;
        debug_assert!(part.start <= part.end && range.start + part.end <= range.end);
        *range = range.start + part.start..range.start + part.end;
        chunk
    }
}

impl Deref for Chunk {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Bytes::Mapped { map, range } => {
                map.bytes(range.clone()).expect("a chunk lies below the written end")
            }
            Bytes::Copied { bytes, range } => {
                bytes.get(range.clone()).expect("a chunk lies within its bytes")
            }
        }
    }
}
