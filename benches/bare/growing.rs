//! A file that grows, as a log does: new pages all the time, and zeros before what is stored into a
//! mapping, without which a full disk would be a signal and not an error.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// As long as the crate's windows: short where little is written.
const STEP_MIN: usize = 64 << 10;
const STEP_MAX: usize = 256 << 10;

pub struct Growing {
    path: PathBuf,
    file: File,
    at: usize,
    window: Option<(memmap2::MmapMut, usize)>,
}

impl Growing {
    pub fn new(path: &Path) -> Self {
        let file = OpenOptions::new().create(true).truncate(true).read(true).write(true).open(path);
        Self { path: path.to_owned(), file: file.unwrap(), at: 0, window: None }
    }

    /// Begins anew, in a new file.
    pub fn start_over(&mut self) {
        self.window = None;
        std::fs::remove_file(&self.path).unwrap();
        *self = Self::new(&self.path);
    }

    /// Writes at the end.
    pub fn write(&mut self, bytes: &[u8]) {
        self.file.write_all_at(bytes, self.at as u64).unwrap();
        self.at += bytes.len();
    }

    /// Puts a batch at the end, in the way that is the faster one for its size.
    pub fn append(&mut self, batch: &[u8]) {
        if batch.len() < 4096 { self.store(batch) } else { self.write(batch) }
    }

    pub fn sync(&self) {
        self.file.sync_data().unwrap();
    }

    pub fn len(&self) -> usize {
        self.at
    }

    /// Stores at the end, through a mapping of zeros.
    pub fn store(&mut self, bytes: &[u8]) {
        let fits =
            |(map, start): &(memmap2::MmapMut, usize)| self.at + bytes.len() <= start + map.len();
        if !self.window.as_ref().is_some_and(fits) {
            self.map();
        }
        let (map, start) = self.window.as_mut().unwrap();
        let at = self.at - *start;
        map[at..at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }

    fn map(&mut self) {
        self.window = None;
        let end = self.at.next_multiple_of(4096);
        let zeros = [0; STEP_MIN];
        let step_len = self.at.clamp(STEP_MIN, STEP_MAX).next_multiple_of(STEP_MIN);
        for step in 0..step_len / zeros.len() {
            self.file.write_all_at(&zeros, (end + step * zeros.len()) as u64).unwrap();
        }
        let (start, len) = (self.at - self.at % 4096, end + step_len - (self.at - self.at % 4096));
        // SAFETY: nobody else has the file.
        let map = unsafe {
            memmap2::MmapOptions::new().offset(start as u64).len(len).map_mut(&self.file)
        };
        self.window = Some((map.unwrap(), start));
    }
}
