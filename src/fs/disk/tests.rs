//! What holds for real files alone: links, pipes, short reads, and the lock against other
//! processes. For the last, a test starts this test binary again; the new process finds its part
//! in `ROLE` and answers by its exit code.

use std::cell::RefCell;
use std::env;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use nix::sys::stat::Mode;
use nix::sys::statfs::{BTRFS_SUPER_MAGIC, NFS_SUPER_MAGIC, OVERLAYFS_SUPER_MAGIC};
use nix::unistd::mkfifo;

use super::*;

/// Gives short reads and interruptions, as a list says.
struct Slow(RefCell<Vec<io::Result<usize>>>);

impl FileExt for Slow {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let read = self.0.borrow_mut().remove(0)?;
        for (byte, position) in buffer.iter_mut().zip(offset..).take(read) {
            *byte = u8::try_from(position).unwrap();
        }
        Ok(read)
    }

    fn write_at(&self, _bytes: &[u8], _offset: u64) -> io::Result<usize> {
        Err(ErrorKind::Unsupported.into())
    }
}

#[test]
fn short_reads_and_interruptions_go_on_until_the_buffer_is_full() {
    let steps = vec![Ok(3), Err(ErrorKind::Interrupted.into()), Ok(1), Ok(4)];
    let mut buffer = [0; 8];
    let read = read_until_full(&Slow(RefCell::new(steps)), &mut buffer, 10).unwrap();
    assert_eq!((read, buffer), (8, [10, 11, 12, 13, 14, 15, 16, 17]));
}

#[test]
fn a_read_that_fails_half_way_fails() {
    let steps = vec![Ok(3), Err(io::Error::from_raw_os_error(libc::EIO))];
    let error = read_until_full(&Slow(RefCell::new(steps)), &mut [0; 8], 0).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EIO));
}

#[test]
fn links_are_followed_by_path_and_listed_as_other() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    DiskFileSystem.create_directory(&path("target")).unwrap();
    symlink("target", path("link")).unwrap();
    symlink("nowhere", path("dangling")).unwrap();
    DiskFileSystem.create_new(&path("link/file")).unwrap();
    assert_eq!(DiskFileSystem.kind(&path("link")).unwrap(), Some(Kind::Directory));
    assert_eq!(DiskFileSystem.kind(&path("dangling")).unwrap(), Some(Kind::Other));
    assert_eq!(DiskFileSystem.list(&path("link")).unwrap().len(), 1);
    let mut entries = DiskFileSystem.list(directory.path()).unwrap();
    entries.sort_by(|left, right| left.name.cmp(&right.name));
    let kinds: Vec<Kind> = entries.iter().map(|entry| entry.kind).collect();
    assert_eq!(kinds, [Kind::Other, Kind::Other, Kind::Directory]);
}

#[test]
fn a_pipe_is_refused_and_does_not_block() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pipe");
    mkfifo(&path, Mode::S_IRWXU).unwrap();
    for access in [Access::Read, Access::ReadWrite] {
        let error = DiskFileSystem.open(&path, access).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{access:?}");
    }
    assert_eq!(DiskFileSystem.lock(&path).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(DiskFileSystem.kind(&path).unwrap(), Some(Kind::Other));
}

#[test]
fn only_file_systems_known_to_overwrite_in_place_get_a_mapped_tail() {
    for known in [EXT4_SUPER_MAGIC, XFS_SUPER_MAGIC, TMPFS_MAGIC] {
        assert_eq!(tail_writes_on(known), TailWrites::MAPPED, "{known:?}");
    }
    for other in [BTRFS_SUPER_MAGIC, NFS_SUPER_MAGIC, OVERLAYFS_SUPER_MAGIC] {
        assert_eq!(tail_writes_on(other), TailWrites::Positioned, "{other:?}");
    }
    assert_eq!(DiskFileSystem.tail_writes(Path::new("/proc")), TailWrites::Positioned);
    assert_eq!(DiskFileSystem.tail_writes(Path::new("no/such")), TailWrites::Positioned);
}

#[test]
fn a_mapped_file_shows_what_is_written_by_position() {
    let directory = tempfile::tempdir().unwrap();
    let file = DiskFileSystem.create_new(&directory.path().join("a")).unwrap();
    let written_end = WrittenEnd::new(0);
    let mapped = file.map(100, &written_end).unwrap().expect("a plain file can be mapped");
    file.write_all_at(b"written", 0).unwrap();
    written_end.advance(7);
    DiskFileSystem.remove_file(&directory.path().join("a")).unwrap();
    drop(file);
    assert_eq!(mapped.bytes(0..7), Some(&b"written"[..]));
}

#[test]
fn a_file_that_there_is_no_room_to_map_is_left_to_be_read() {
    let directory = tempfile::tempdir().unwrap();
    let file = DiskFileSystem.create_new(&directory.path().join("a")).unwrap();
    let larger_than_memory = isize::MAX.unsigned_abs();
    assert!(file.map(larger_than_memory, &WrittenEnd::new(0)).unwrap().is_none());
}

/// What another process is to do with the lock: `try`, `try_as_kafka` or `hold`.
const ROLE: &str = "SAPWOOD_TEST_LOCK_ROLE";
const PATH: &str = "SAPWOOD_TEST_LOCK_PATH";
const LOCKED: i32 = 10;
const REFUSED: i32 = 11;

fn other_process(role: &str, path: &Path) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command
        .args(["--exact", "fs::disk::tests::a_lock_excludes_other_processes", "--nocapture"])
        .env(ROLE, role)
        .env(PATH, path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    command
}

fn outcome(role: &str, path: &Path) -> i32 {
    other_process(role, path).output().unwrap().status.code().expect("it was not killed")
}

/// Starts a process that holds the lock until it is killed, and waits until it does.
fn holder(path: &Path) -> Child {
    let mut child = other_process("hold", path).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("holding")), "it never held the lock");
    child
}

/// The other process's part. Ends the process.
fn play(role: &str, path: &Path) -> ! {
    let taken = match role {
        "try_as_kafka" => lock_as_java_does(path),
        _ => DiskFileSystem.lock(path).map(Some),
    };
    let code = match taken {
        Ok(_lock) if role == "hold" => {
            println!("holding");
            io::stdout().flush().unwrap();
            // Until the pipe is closed, which is when the test is over or has failed.
            io::stdin().lines().for_each(drop);
            LOCKED
        }
        Ok(_) => LOCKED,
        Err(error) if error.kind() == ErrorKind::WouldBlock => REFUSED,
        Err(error) => panic!("{error}"),
    };
    process::exit(code)
}

/// `FileChannel.tryLock`: a POSIX lock that the process owns, not an OFD lock.
fn lock_as_java_does(path: &Path) -> io::Result<Option<Box<dyn Lock>>> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let kind = libc::c_short::try_from(libc::F_WRLCK).unwrap();
    let flock = libc::flock { l_type: kind, l_whence: 0, l_start: 0, l_len: i64::MAX, l_pid: 0 };
    fcntl(file.as_raw_fd(), FcntlArg::F_SETLK(&flock))?;
    Ok(None)
}

#[test]
fn a_lock_excludes_other_processes() {
    if let (Ok(role), Ok(path)) = (env::var(ROLE), env::var(PATH)) {
        play(&role, &PathBuf::from(path));
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(".lock");
    let guard = DiskFileSystem.lock(&path).unwrap();
    assert_eq!(outcome("try", &path), REFUSED);
    assert_eq!(outcome("try_as_kafka", &path), REFUSED);
    drop(guard);
    assert_eq!(outcome("try", &path), LOCKED);
    assert_eq!(outcome("try_as_kafka", &path), LOCKED);
}

#[test]
fn a_lock_goes_with_the_process_that_is_killed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(".lock");
    let mut child = holder(&path);
    assert_eq!(DiskFileSystem.lock(&path).unwrap_err().kind(), ErrorKind::WouldBlock);
    child.kill().unwrap();
    child.wait().unwrap();
    DiskFileSystem.lock(&path).unwrap();
}

#[test]
fn dropping_the_guard_releases_the_lock_even_while_a_copy_of_its_descriptor_is_open() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(".lock");
    let file = open_plain_file(OpenOptions::new().write(true).create_new(true), &path).unwrap();
    let copy = file.try_clone().unwrap();
    drop(DiskLock::take(file).unwrap());
    DiskFileSystem.lock(&path).unwrap();
    drop(copy);
}

#[test]
fn a_forked_child_does_not_release_the_lock_of_its_parent() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(".lock");
    let file = open_plain_file(OpenOptions::new().write(true).create_new(true), &path).unwrap();
    let copy = file.try_clone().unwrap();
    let mut lock = DiskLock::take(file).unwrap();
    // As the child sees it: its copy of the guard was taken by another process.
    lock.owner = process::id().wrapping_add(1);
    drop(lock);
    assert_eq!(DiskFileSystem.lock(&path).unwrap_err().kind(), ErrorKind::WouldBlock);
    drop(copy);
}
