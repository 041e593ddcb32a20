//! The bytes of a sparse index: fixed-size entries, in memory while a segment is being written, and
//! mapped (or read) from its file afterwards.

use std::path::Path;

use crate::error::{Error, Result};
use crate::fs::map::{MappedFile, WrittenEnd};
use crate::fs::{Access, FileSystem};

/// A run of `N`-byte entries.
///
/// Index files carry no checksum, in Kafka's format as here: they are hints that can be rebuilt
/// from the `.log` at any time, and whoever follows one checks what it points at.
#[derive(Debug)]
pub(crate) enum Entries<const N: usize> {
    /// Being written, or read from a file that cannot be mapped.
    Owned(Vec<u8>),
    /// The file of a sealed segment, left where it is: a large log has gigabytes of index.
    Mapped(MappedFile),
}

impl<const N: usize> Entries<N> {
    /// No entries yet.
    pub(crate) fn new() -> Self {
        Entries::Owned(Vec::new())
    }

    /// Opens an index file. A missing file, or one that ends within an entry, gives `None`: the
    /// index has to be rebuilt.
    pub(crate) fn open(fs: &dyn FileSystem, path: &Path, mapped: bool) -> Result<Option<Self>> {
        let file = match fs.open(path, Access::Read) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io("open", path, error)),
        };
        let len = file.len().map_err(|error| Error::io("read", path, error))?;
        let Ok(size) = usize::try_from(len) else { return Ok(None) };
        // No index is ever larger than the largest setting allows; a larger file is not ours.
        if !size.is_multiple_of(N) || i32::try_from(len).is_err() {
            return Ok(None);
        }
        if size == 0 {
            return Ok(Some(Self::new()));
        }
        if mapped && let Ok(Some(map)) = file.map(size, &WrittenEnd::new(len)) {
            return Ok(Some(Entries::Mapped(map)));
        }
        let mut bytes = vec![0; size];
        let read = file.read_at(&mut bytes, 0).map_err(|error| Error::io("read", path, error))?;
        Ok((read == size).then_some(Entries::Owned(bytes)))
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Entries::Owned(bytes) => bytes,
            Entries::Mapped(map) => map.bytes(0..map.len()).unwrap_or_default(),
        }
    }

    /// How many entries there are.
    pub(crate) fn len(&self) -> usize {
        self.bytes().len() / N
    }

    /// One entry.
    pub(crate) fn entry(&self, number: usize) -> Option<&[u8; N]> {
        self.bytes().as_chunks::<N>().0.get(number)
    }

    /// The last entry.
    pub(crate) fn last(&self) -> Option<&[u8; N]> {
        self.bytes().last_chunk::<N>()
    }

    /// The number of leading entries for which `holds` is true, by binary search.
    pub(crate) fn partition_point(&self, holds: impl FnMut(&[u8; N]) -> bool) -> usize {
        self.bytes().as_chunks::<N>().0.partition_point(holds)
    }

    /// All entries in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8; N]> {
        self.bytes().as_chunks::<N>().0.iter()
    }

    /// Adds an entry. Only indexes of a segment that is being written grow.
    pub(crate) fn push(&mut self, entry: [u8; N]) {
        self.make_owned().extend_from_slice(&entry);
    }

    /// Keeps the first `count` entries.
    pub(crate) fn truncate(&mut self, count: usize) {
        self.make_owned().truncate(count.saturating_mul(N));
    }

    /// The bytes from an entry on, for writing them to the file.
    pub(crate) fn bytes_from(&self, number: usize) -> &[u8] {
        self.bytes().get(number.saturating_mul(N)..).unwrap_or_default()
    }

    fn make_owned(&mut self) -> &mut Vec<u8> {
        if let Entries::Mapped(_) = self {
            *self = Entries::Owned(self.bytes().to_vec());
        }
        match self {
            Entries::Owned(bytes) => bytes,
            Entries::Mapped(_) => unreachable!("made owned just above"),
        }
    }
}

/// Appends what an index has gained to its file, creating the file if need be. The file is not kept
/// open: it is written about once a second, and descriptors are scarce where partitions are many.
///
/// Nothing is synced: until the segment is sealed the file is a convenience for the next open.
#[derive(Debug, Default)]
pub(crate) struct EntriesFile {
    /// How many entries the file holds; `None` if nobody has looked.
    written: Option<usize>,
}

impl EntriesFile {
    /// Writes entries the file lacks and cuts off what it has beyond them.
    pub(crate) fn write<const N: usize>(
        &mut self,
        fs: &dyn FileSystem,
        path: &Path,
        entries: &Entries<N>,
    ) -> Result<()> {
        let total = entries.len();
        if self.written == Some(total) {
            return Ok(());
        }
        let io = |error| Error::io("write", path, error);
        let (file, held) = match fs.open(path, Access::ReadWrite) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                (fs.create_new(path).map_err(io)?, 0)
            }
            opened => (opened.map_err(io)?, self.written.unwrap_or(0).min(total)),
        };
        file.write_all_at(entries.bytes_from(held), (held * N) as u64).map_err(io)?;
        let len = (total * N) as u64;
        if file.len().map_err(io)? != len {
            file.set_len(len).map_err(io)?;
        }
        self.written = Some(total);
        Ok(())
    }

    /// Makes what was written durable.
    pub(crate) fn sync(fs: &dyn FileSystem, path: &Path) -> Result<()> {
        match fs.open(path, Access::Read) {
            // Never written, or removed by somebody: it can be rebuilt.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(Error::io("open", path, error)),
            Ok(file) => file.sync_data().map_err(|error| Error::io("sync", path, error)),
        }
    }
}
