//! What a process takes of the machine, and files of the disk.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// What a process takes at one moment.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    /// Resident bytes, mapped files included.
    pub rss: u64,
    pub descriptors: u64,
}

impl Usage {
    /// By the name of the process under `/proc`; `None` when it is gone.
    pub fn of(process: &str) -> Option<Self> {
        let directory = Path::new("/proc").join(process);
        let status = fs::read_to_string(directory.join("status")).ok()?;
        let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kib: u64 = kib.trim().strip_suffix("kB")?.trim().parse().ok()?;
        let descriptors = fs::read_dir(directory.join("fd")).ok()?.count() as u64;
        Some(Self { rss: kib << 10, descriptors })
    }
}

/// What the files below a directory take on disk. Those that go while they are counted take nothing.
pub fn disk_bytes(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => disk_bytes(&entry.path()),
            Ok(metadata) => metadata.blocks() * 512,
            Err(_) => 0,
        })
        .sum()
}
