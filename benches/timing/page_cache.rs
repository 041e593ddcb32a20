//! Taking files out of the page cache, so that reading them is reading the disk.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::Path;

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

/// Whether the files have a disk to go to.
pub fn can_evict(directory: &Path) -> bool {
    !["tmpfs", "ramfs"].contains(&super::file_system(directory).as_str())
}

/// Evicts the files of a directory and of those in it. Pages that somebody has mapped stay: close what
/// reads them first.
pub fn evict(directory: &Path) {
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            evict(&entry.path());
        } else {
            let file = File::open(entry.path()).unwrap();
            // Only what is on disk already can be dropped.
            file.sync_all().unwrap();
            posix_fadvise(file.as_raw_fd(), 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED).unwrap();
        }
    }
}
