//! Open files of a simulated disk: each call asks the disk what becomes of it.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{DiskCallKind, SimulatedDisk};
use crate::fs::map::{MappedFile, WrittenEnd};
use crate::fs::{Access, File, Lock, TailWindow};

/// An open file of a simulated disk.
#[derive(Debug)]
pub(super) struct SimulatedFile {
    pub(super) disk: SimulatedDisk,
    pub(super) inode: usize,
    pub(super) path: PathBuf,
    pub(super) access: Access,
    /// `None` for a window, which needs no descriptor.
    pub(super) _descriptor: Option<Descriptor>,
}

/// Counts as an open file for as long as it lives.
#[derive(Debug)]
pub(super) struct Descriptor(Arc<AtomicUsize>);

impl Descriptor {
    pub(super) fn new(open_files: &Arc<AtomicUsize>) -> Self {
        open_files.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(open_files))
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The error number of writing through a handle that was opened for reading.
const EBADF: i32 = 9;

impl SimulatedFile {
    fn check_writable(&self) -> io::Result<()> {
        match self.access {
            Access::ReadWrite => Ok(()),
            Access::Read => Err(io::Error::from_raw_os_error(EBADF)),
        }
    }

    /// Writes as much as there is room for; whether that was all.
    fn write(&self, bytes: &[u8], at: u64, call: u64) -> io::Result<()> {
        let end = at.checked_add(bytes.len() as u64).filter(|end| i64::try_from(*end).is_ok());
        let (Some(end), Ok(at)) = (end, usize::try_from(at)) else {
            return Err(io::ErrorKind::FileTooLarge.into());
        };
        if bytes.is_empty() {
            return Ok(());
        }
        let mut state = self.disk.state.lock();
        let len = state.inode(self.inode).live.len() as u64;
        let room = state.room();
        let missing = end.saturating_sub(len).saturating_sub(room);
        let fits = bytes.len().saturating_sub(usize::try_from(missing).unwrap_or(usize::MAX));
        let written = bytes.get(..fits).unwrap_or_default();
        if !written.is_empty() {
            state.inode_mut(self.inode).write(written, at, call);
        }
        if fits == bytes.len() { Ok(()) } else { Err(io::ErrorKind::StorageFull.into()) }
    }
}

impl File for SimulatedFile {
    fn len(&self) -> io::Result<u64> {
        self.disk.ask(DiskCallKind::Len, &self.path)?;
        Ok(self.disk.state.lock().inode(self.inode).live.len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], file_position: u64) -> io::Result<usize> {
        self.disk.ask(DiskCallKind::Read, &self.path)?;
        let state = self.disk.state.lock();
        let start = usize::try_from(file_position).unwrap_or(usize::MAX);
        let rest = state.inode(self.inode).live.get(start..).unwrap_or_default();
        let len = rest.len().min(buffer.len());
        if let (Some(target), Some(source)) = (buffer.get_mut(..len), rest.get(..len)) {
            target.copy_from_slice(source);
        }
        Ok(len)
    }

    fn write_all_at(&self, bytes: &[u8], file_position: u64) -> io::Result<()> {
        self.check_writable()?;
        match self.disk.ask(DiskCallKind::Write, &self.path) {
            Ok(call) => self.write(bytes, file_position, call),
            Err(refusal) => {
                let part = bytes.get(..refusal.written).unwrap_or(bytes);
                self.write(part, file_position, self.disk.calls())?;
                Err(refusal.error)
            }
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.check_writable()?;
        self.disk.ask(DiskCallKind::SetLen, &self.path)?;
        let len = i64::try_from(len).ok().and_then(|len| usize::try_from(len).ok());
        let len = len.ok_or(io::ErrorKind::InvalidInput)?;
        self.disk.state.lock().inode_mut(self.inode).set_len(len);
        Ok(())
    }

    #[allow(clippy::disallowed_methods, reason = "a slow disk takes real time")]
    fn sync_data(&self) -> io::Result<()> {
        // Before anybody is asked: what is written while the hook runs comes too late.
        let begun = {
            let state = self.disk.state.lock();
            state.inode(self.inode).begin_sync(state.calls)
        };
        let asked = self.disk.ask(DiskCallKind::Sync, &self.path);
        let delay = self.disk.state.lock().sync_delay;
        if !delay.is_zero() {
            std::thread::sleep(delay);
        }
        let mut state = self.disk.state.lock();
        match asked {
            Ok(_) => state.inode_mut(self.inode).end_sync(&begun),
            Err(refusal) => {
                if !refusal.stopped {
                    state.inode_mut(self.inode).fail_sync();
                }
                return Err(refusal.error);
            }
        }
        Ok(())
    }

    fn map(&self, _len: usize, _written_end: &WrittenEnd) -> io::Result<Option<MappedFile>> {
        self.disk.ask(DiskCallKind::Map, &self.path)?;
        Ok(None)
    }

    fn map_tail(
        &self,
        file_position: u64,
        len: usize,
        written_end: &WrittenEnd,
    ) -> io::Result<Box<dyn TailWindow>> {
        self.check_writable()?;
        self.disk.ask(DiskCallKind::MapTail, &self.path)?;
        let end = file_position.checked_add(len as u64).ok_or(io::ErrorKind::InvalidInput)?;
        Ok(Box::new(SimulatedTail {
            file: self.reopened(),
            start: file_position,
            end,
            ready_end: file_position,
            written_end: written_end.clone(),
        }))
    }
}

impl SimulatedFile {
    fn reopened(&self) -> Self {
        let (disk, path) = (self.disk.clone(), self.path.clone());
        Self { disk, inode: self.inode, path, access: self.access, _descriptor: None }
    }
}

/// A window over the tail of a file. It refuses what a mapped one refuses.
#[derive(Debug)]
struct SimulatedTail {
    file: SimulatedFile,
    start: u64,
    end: u64,
    ready_end: u64,
    written_end: WrittenEnd,
}

impl TailWindow for SimulatedTail {
    fn end(&self) -> u64 {
        self.end
    }

    fn ready_end(&self) -> u64 {
        self.ready_end
    }

    fn make_ready(&mut self, end: u64) -> io::Result<()> {
        self.file.disk.ask(DiskCallKind::MapTail, &self.file.path)?;
        let file_len = self.file.disk.state.lock().inode(self.file.inode).live.len() as u64;
        if !(self.ready_end..=self.end.min(file_len)).contains(&end) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it ends before"));
        }
        self.ready_end = end;
        Ok(())
    }

    fn store(&mut self, bytes: &[u8], file_position: u64) {
        let end = file_position.saturating_add(bytes.len() as u64);
        assert!(
            file_position >= self.start && end <= self.ready_end,
            "{} bytes at {file_position} do not lie within the window, ready for {}..{}",
            bytes.len(),
            self.start,
            self.ready_end
        );
        let written_end = self.written_end.load();
        assert!(
            file_position >= written_end,
            "bytes at {file_position} would change what is final up to {written_end}"
        );
        let disk = &self.file.disk;
        let call = match disk.ask(DiskCallKind::Store, &self.file.path) {
            Ok(call) => call,
            Err(refusal) if refusal.stopped => return,
            // Nothing else keeps a store from happening.
            Err(_) => disk.calls(),
        };
        let start = usize::try_from(file_position).expect("the file is in memory");
        disk.state.lock().inode_mut(self.file.inode).write(bytes, start, call);
    }
}

/// Held while a broker is open.
#[derive(Debug)]
pub(super) struct SimulatedLock {
    pub(super) disk: SimulatedDisk,
    pub(super) inode: usize,
}

impl Lock for SimulatedLock {}

impl Drop for SimulatedLock {
    fn drop(&mut self) {
        self.disk.state.lock().locked.remove(&self.inode);
    }
}
