//! Small file systems of their own, for tests that fill them or pull the plug.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

/// A mounted file system, gone when dropped.
pub(super) struct Mount {
    scratch: tempfile::TempDir,
    /// What is mounted, and how.
    source: Source,
}

enum Source {
    Tmpfs(u64),
    Image(PathBuf),
}

impl Mount {
    /// One in memory. The error says why there cannot be one here.
    pub(super) fn tmpfs(bytes: u64) -> Result<Self, String> {
        let scratch = tempfile::tempdir().unwrap();
        Self { scratch, source: Source::Tmpfs(bytes) }.mounted()
    }

    /// ext4 on an image of its own. The error says why there cannot be one here.
    pub(super) fn ext4(bytes: u64) -> Result<Self, String> {
        let scratch = tempfile::tempdir().unwrap();
        let image = scratch.path().join("image");
        File::create_new(&image).unwrap().set_len(bytes).unwrap();
        run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image))?;
        Self { scratch, source: Source::Image(image) }.mounted()
    }

    fn mounted(self) -> Result<Self, String> {
        fs::create_dir(self.path()).unwrap();
        self.mount().map(|()| self)
    }

    pub(super) fn path(&self) -> PathBuf {
        self.scratch.path().join("mounted")
    }

    fn mount(&self) -> Result<(), String> {
        let mut command = Command::new("mount");
        match &self.source {
            Source::Tmpfs(bytes) => {
                command.args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "none"])
            }
            Source::Image(image) => command.args(["-o", "loop"]).arg(image),
        };
        run(command.arg(self.path()))
    }

    /// Unmounts it and mounts it again: what was in the cache alone is not there any more.
    pub(super) fn remount(&self) {
        let deadline = Instant::now() + Duration::from_secs(10);
        // A process that was killed holds its files for a moment yet.
        while let Err(error) = run(Command::new("umount").arg(self.path())) {
            assert!(Instant::now() < deadline, "{error}");
            thread::sleep(Duration::from_millis(10));
        }
        self.mount().unwrap();
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if is_mounted(&self.path()) {
            let unmounted = run(Command::new("umount").arg("-l").arg(self.path()));
            assert!(unmounted.is_ok() || thread::panicking(), "{unmounted:?}");
        }
    }
}

fn is_mounted(path: &Path) -> bool {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    mounts.lines().any(|line| line.split(' ').nth(1) == path.to_str())
}

fn run(command: &mut Command) -> Result<(), String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}
