//! Mappings of files: [`MappedFile`] for reading, [`MappedTail`] for writing. The only module of
//! the crate with `unsafe` code.
//!
//! # Why lending `&[u8]` out of a mapping is sound
//!
//! A shared slice promises that its bytes do not change while it lives. A file can change under a
//! mapping, so the promise rests on the [`WrittenEnd`] that every mapping of a file carries:
//!
//! - A [`MappedFile`] lends only bytes below the written end, and the written end never goes back
//!   ([`WrittenEnd::advance`]). So a byte, once lent, lies below the written end for good.
//! - A [`MappedTail`] stores only at or above the written end ([`MappedTail::store`]). It writes
//!   through a raw pointer, so no `&mut [u8]` over the file ever exists.
//! - Whoever moves the written end does so after the bytes below it are in place. `advance`
//!   releases and `load` acquires, so a reader that sees the new end sees those bytes too.
//!
//! What these checks cannot see is left to the owner of the file, the segment: it neither writes
//! by position nor cuts the file below a written end that mappings share, and it uses a fresh
//! `WrittenEnd` only for a file that nobody has mapped through another one. Other processes are
//! kept out by the lock on the directory. If somebody cuts the file in spite of the lock, or the
//! disk fails, touching the lost page is a SIGBUS: the process ends, no wrong byte is read.
#![allow(unsafe_code, reason = "a mapping is a raw pointer; this module turns it into slices")]

use std::fs::File;
use std::io;
use std::ops::Range;
use std::slice;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::{Advice, MmapOptions, MmapRaw, UncheckedAdvice};

use super::TailWindow;

/// How far a file has been written: every byte below is final and never changes again.
///
/// Shared between the one writer of a file, who alone calls [`WrittenEnd::advance`], and all its
/// readers. It is a file position, not a promise of durability.
#[derive(Clone, Debug)]
pub(crate) struct WrittenEnd(Arc<AtomicU64>);

impl WrittenEnd {
    pub(crate) fn new(at: u64) -> Self {
        Self(Arc::new(AtomicU64::new(at)))
    }

    /// The end; the bytes below it can be seen by whoever has seen this value.
    pub(crate) fn load(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    /// Moves the end to `to`, after the bytes below it were written.
    ///
    /// An end that would go back stays where it is, because readers may hold slices up to it; in
    /// a debug build that is a panic.
    pub(crate) fn advance(&self, to: u64) {
        // A maximum rather than a plain store: soundness must not hang on there being one writer.
        let before = self.0.fetch_max(to, Ordering::Release);
        debug_assert!(before <= to, "the written end would go back from {before} to {to}");
    }
}

/// A read-only mapping of the first bytes of a file. Any number of threads may read through it.
///
/// Only bytes below the file's [`WrittenEnd`] can be borrowed. The mapping may be longer than the
/// file: what the file grows by becomes readable as the written end moves over it.
#[derive(Debug)]
pub(crate) struct MappedFile {
    mapping: MmapRaw,
    written_end: WrittenEnd,
}

impl MappedFile {
    /// Maps the first `len` bytes; 0 is allowed.
    pub(super) fn new(file: &File, len: usize, written_end: WrittenEnd) -> io::Result<Self> {
        let mapping = MmapOptions::new().len(len).map_raw_read_only(file)?;
        Ok(Self { mapping, written_end })
    }

    /// How many bytes are mapped, whether they are written yet or not.
    pub(crate) fn len(&self) -> usize {
        self.mapping.len()
    }

    /// The bytes at these file positions, or `None` if any of them is not mapped or not written.
    pub(crate) fn bytes(&self, range: Range<usize>) -> Option<&[u8]> {
        let len = range.end.checked_sub(range.start)?;
        let written = u64::try_from(range.end).is_ok_and(|end| end <= self.written_end.load());
        if range.end > self.len() || !written {
            return None;
        }
        // SAFETY: start and len lie within the mapping, which lives as long as `self`. All bytes
        // lie below the written end, so they exist in the file and never change (see the module).
        Some(unsafe { slice::from_raw_parts(self.mapping.as_ptr().add(range.start), len) })
    }
}

impl MappedFile {
    /// Takes the pages of a range out of the process's memory. They stay in the operating system's
    /// cache and come back when they are next touched; slices of them stay valid. A refusal changes
    /// nothing but the memory in use, so there is nobody to tell.
    pub(crate) fn give_back(&self, range: Range<usize>) {
        let end = range.end.min(self.len());
        let Some(len) = end.checked_sub(range.start).filter(|len| *len > 0) else { return };
        // SAFETY: the mapping is shared and read-only. Forgetting its pages loses nothing: the next
        // access reads the same bytes of the same file again.
        let advised = unsafe {
            self.mapping.unchecked_advise_range(UncheckedAdvice::DontNeed, range.start, len)
        };
        drop(advised);
    }
}

/// A [`TailWindow`] over a shared mapping of a stretch of a file.
#[derive(Debug)]
pub(super) struct MappedTail {
    file: Arc<File>,
    mapping: MmapRaw,
    file_position: u64,
    end: u64,
    ready_end: u64,
    written_end: WrittenEnd,
}

impl MappedTail {
    /// Maps `len` bytes from `file_position`, which need not lie on a page boundary.
    pub(super) fn new(
        file: &Arc<File>,
        file_position: u64,
        len: usize,
        written_end: WrittenEnd,
    ) -> io::Result<Self> {
        let end = u64::try_from(len)
            .ok()
            .and_then(|len| file_position.checked_add(len))
            .ok_or(io::ErrorKind::InvalidInput)?;
        let mapping = MmapOptions::new().offset(file_position).len(len).map_raw(&**file)?;
        let (file, ready_end) = (Arc::clone(file), file_position);
        Ok(Self { file, mapping, file_position, end, ready_end, written_end })
    }

    /// Where in the window these bytes begin, and how many they are, if the window has them.
    fn locate(&self, range: Range<u64>) -> Option<(usize, usize)> {
        let start = usize::try_from(range.start.checked_sub(self.file_position)?).ok()?;
        let len = usize::try_from(range.end.checked_sub(range.start)?).ok()?;
        (start.checked_add(len)? <= self.mapping.len()).then_some((start, len))
    }
}

impl TailWindow for MappedTail {
    fn end(&self) -> u64 {
        self.end
    }

    fn ready_end(&self) -> u64 {
        self.ready_end
    }

    fn make_ready(&mut self, end: u64) -> io::Result<()> {
        let Some((start, len)) = self.locate(self.ready_end..end) else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the window ends before"));
        };
        if end > self.file.metadata()?.len() {
            // Storing beyond the end of the file would be a SIGBUS.
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the file ends before"));
        }
        // All pages in one call, rather than a fault for each of them in the middle of an append.
        // Kernels before 5.14 cannot, and a refusal costs no more than those faults.
        drop(self.mapping.advise_range(Advice::PopulateWrite, start, len));
        self.ready_end = end;
        Ok(())
    }

    fn store(&mut self, bytes: &[u8], file_position: u64) {
        let end = file_position.checked_add(bytes.len() as u64);
        let range = end.filter(|end| *end <= self.ready_end).map(|end| file_position..end);
        let Some((start, _)) = range.and_then(|range| self.locate(range)) else {
            panic!(
                "{} bytes at {file_position} do not lie within the window, ready for {}..{}",
                bytes.len(),
                self.file_position,
                self.ready_end
            );
        };
        let written_end = self.written_end.load();
        assert!(
            file_position >= written_end,
            "bytes at {file_position} would change what is final up to {written_end}"
        );
        // SAFETY: the target lies within the mapping, which is writable and lives as long as
        // `self`. `bytes` cannot overlap it: a slice of this mapping is never lent, and a slice of
        // another mapping of the same file has other addresses. All bytes stored to lie at or
        // above the written end, so no reader has borrowed them (see the module).
        unsafe {
            self.mapping
                .as_mut_ptr()
                .add(start)
                .copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    fn file_of(bytes: &[u8]) -> File {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(bytes, 0).unwrap();
        file
    }

    #[test]
    fn a_mapping_shows_what_a_window_stored_once_the_written_end_moved_over_it() {
        let file = Arc::new(file_of(&[0; 10_000]));
        let written_end = WrittenEnd::new(5_000);
        let mapped = MappedFile::new(&file, 10_000, written_end.clone()).unwrap();
        let mut window = MappedTail::new(&file, 5_000, 5_000, written_end.clone()).unwrap();
        window.make_ready(10_000).unwrap();
        window.store(b"stored", 5_000);
        assert_eq!(mapped.bytes(5_000..5_006), None);
        written_end.advance(5_006);
        assert_eq!(mapped.bytes(4_999..5_006), Some(&b"\0stored"[..]));
        assert_eq!(mapped.bytes(4_999..5_007), None);
    }

    #[test]
    fn a_mapping_longer_than_its_file_shows_what_the_file_grows_by() {
        let file = file_of(b"first");
        let written_end = WrittenEnd::new(5);
        let mapped = MappedFile::new(&file, 1 << 20, written_end.clone()).unwrap();
        assert_eq!(mapped.len(), 1 << 20);
        assert_eq!(mapped.bytes(0..5), Some(&b"first"[..]));
        let later = vec![b'x'; 100_000];
        file.write_all_at(&later, 5).unwrap();
        written_end.advance(100_005);
        assert_eq!(mapped.bytes(5..100_005), Some(&later[..]));
    }

    #[test]
    fn bytes_outside_of_the_mapping_or_above_the_written_end_cannot_be_borrowed() {
        let file = file_of(&[1; 100]);
        let shorter = MappedFile::new(&file, 50, WrittenEnd::new(100)).unwrap();
        assert_eq!(shorter.bytes(0..50), Some(&[1; 50][..]));
        assert_eq!(shorter.bytes(0..51), None);
        let longer = MappedFile::new(&file, 100, WrittenEnd::new(50)).unwrap();
        assert_eq!(longer.bytes(0..50), Some(&[1; 50][..]));
        assert_eq!(longer.bytes(50..50), Some(&[][..]));
        #[expect(clippy::reversed_empty_ranges, reason = "such a range has to be refused")]
        let ranges = [0..51, 50..51, 51..51, 10..9, usize::MAX..usize::MAX, 0..usize::MAX];
        for range in ranges {
            assert_eq!(longer.bytes(range.clone()), None, "{range:?}");
        }
    }

    #[test]
    fn bytes_given_back_are_the_same_when_they_are_touched_again() {
        let content: Vec<u8> = (0..100_000_u32).flat_map(u32::to_be_bytes).collect();
        let file = file_of(&content);
        let written_end = WrittenEnd::new(content.len() as u64);
        let map = MappedFile::new(&file, content.len(), written_end).unwrap();
        let lent = map.bytes(0..content.len()).unwrap();
        assert_eq!(lent, content);
        for range in [0..content.len(), 5_000..9_000, 0..usize::MAX, 7..7, content.len()..9] {
            map.give_back(range);
            assert_eq!(lent, content, "also what was lent before");
        }
    }

    #[test]
    fn a_mapping_of_nothing_works() {
        let mapped = MappedFile::new(&file_of(b""), 0, WrittenEnd::new(0)).unwrap();
        assert_eq!(mapped.len(), 0);
        assert_eq!(mapped.bytes(0..0), Some(&[][..]));
        assert_eq!(mapped.bytes(0..1), None);
    }

    #[test]
    fn the_written_end_never_goes_back() {
        let written_end = WrittenEnd::new(7);
        let shared = written_end.clone();
        written_end.advance(9);
        written_end.advance(9);
        let back = std::panic::catch_unwind(|| written_end.advance(8));
        assert_eq!(back.is_err(), cfg!(debug_assertions));
        assert_eq!(shared.load(), 9);
    }

    #[test]
    fn a_window_that_no_file_can_have_is_an_error() {
        let file = Arc::new(file_of(b""));
        for (file_position, len) in [(u64::MAX, 1), (0, usize::MAX), (u64::MAX - 1, 1)] {
            assert!(MappedTail::new(&file, file_position, len, WrittenEnd::new(0)).is_err());
        }
    }

    #[test]
    fn readers_beside_a_writer_see_only_what_is_final() {
        const LEN: usize = 1 << 16;
        let file = Arc::new(file_of(&vec![0; LEN]));
        let written_end = WrittenEnd::new(0);
        let mapped = MappedFile::new(&file, LEN, written_end.clone()).unwrap();
        let mut window = MappedTail::new(&file, 0, LEN, written_end.clone()).unwrap();
        window.make_ready(LEN as u64).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for position in 0..LEN as u64 {
                    window.store(&[1], position);
                    written_end.advance(position + 1);
                }
            });
            let mut seen = 0;
            while seen < LEN {
                let end = usize::try_from(written_end.load()).unwrap();
                let bytes = mapped.bytes(seen..end).unwrap();
                assert!(bytes.iter().all(|byte| *byte == 1), "in {seen}..{end}");
                seen = end;
            }
        });
    }
}
