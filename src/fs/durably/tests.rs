//! Two questions to each helper: which calls does it make, in which order (a sync that is missing
//! shows nowhere else), and what stands when any one of them fails.

use parking_lot::Mutex;

use super::*;
use crate::fs::disk::DiskFileSystem;
use crate::fs::faults::{FailingFileSystem, Operation};

const EIO: i32 = 5;

/// The calls that change something or make it durable, with the path each was made for.
fn changes_of(fs: &FailingFileSystem, run: impl FnOnce()) -> Vec<(Operation, String)> {
    let calls = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&calls);
    fs.fail_when(move |operation, path| {
        use Operation::{Kind, Len, List, Open, Read};
        if !matches!(operation, Kind | Len | List | Open | Read) {
            seen.lock().push((operation, path.display().to_string()));
        }
        None
    });
    run();
    fs.heal();
    Arc::into_inner(calls).unwrap().into_inner()
}

fn calls<const N: usize>(expected: [(Operation, &str); N]) -> Vec<(Operation, String)> {
    expected.map(|(operation, path)| (operation, path.to_owned())).into()
}

/// Fails the first call, then in a fresh world the second, and so on until the change gets through
/// without meeting the failure. After each failure the world must be as `check` wants it, and the
/// same change must succeed when it is repeated.
fn fail_each_call(
    prepare: impl Fn(&FailingFileSystem),
    change: impl Fn(&FailingFileSystem) -> Result<()>,
    check: impl Fn(&FailingFileSystem, Outcome),
) {
    for failing in 0..100 {
        let fs = FailingFileSystem::over_memory();
        prepare(&fs);
        let mut left = failing;
        fs.fail_when(move |_, _| {
            let fails = left == 0;
            left -= i32::from(left >= 0);
            fails.then(|| io::Error::from_raw_os_error(EIO))
        });
        let changed = change(&fs);
        fs.heal();
        if changed.is_ok() {
            assert!(failing > 1, "the helper met no failure at all");
            check(&fs, Outcome::Done);
            return;
        }
        check(&fs, Outcome::Failed);
        change(&fs).unwrap();
        check(&fs, Outcome::Done);
    }
    panic!("the change never got through");
}

#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Failed,
    Done,
}

fn content(fs: &dyn FileSystem, path: &str) -> Option<Vec<u8>> {
    read(fs, Path::new(path), 1_000).unwrap()
}

fn put(fs: &dyn FileSystem, path: &str, bytes: &[u8]) {
    fs.create_new(Path::new(path)).unwrap().write_all_at(bytes, 0).unwrap();
}

fn names(fs: &dyn FileSystem, directory: &str) -> Vec<String> {
    let entries = fs.list(Path::new(directory)).unwrap();
    let mut names: Vec<_> =
        entries.into_iter().map(|entry| entry.name.into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn create_syncs_the_bytes_and_then_the_name() {
    let fs = FailingFileSystem::over_memory();
    fs.create_directory(Path::new("d")).unwrap();
    let made = changes_of(&fs, || {
        create(&fs, Path::new("d/a"), b"bytes").unwrap();
    });
    let expected = calls([
        (Operation::CreateNew, "d/a"),
        (Operation::Write, "d/a"),
        (Operation::SyncData, "d/a"),
        (Operation::SyncDirectory, "d"),
    ]);
    assert_eq!(made, expected);
    assert_eq!(content(&fs, "d/a").unwrap(), b"bytes");
}

#[test]
fn create_that_fails_leaves_no_file_and_can_be_repeated() {
    fail_each_call(
        |_| {},
        |fs| create(fs, Path::new("a"), b"bytes").map(drop),
        |fs, outcome| match outcome {
            Outcome::Failed => assert_eq!(content(fs, "a"), None),
            Outcome::Done => assert_eq!(content(fs, "a").unwrap(), b"bytes"),
        },
    );
}

#[test]
fn create_leaves_a_file_alone_that_has_the_name_already() {
    let fs = FailingFileSystem::over_memory();
    put(&fs, "a", b"first");
    let error = create(&fs, Path::new("a"), b"second").unwrap_err();
    assert!(
        matches!(&error, Error::Io { operation: "create", source, .. }
            if source.kind() == io::ErrorKind::AlreadyExists),
        "{error}"
    );
    assert_eq!(content(&fs, "a").unwrap(), b"first");
}

#[test]
fn replace_syncs_the_new_bytes_before_they_get_the_name_and_the_name_after() {
    let fs = FailingFileSystem::over_memory();
    let made = changes_of(&fs, || replace(&fs, Path::new("a"), b"bytes").unwrap());
    let expected = calls([
        (Operation::RemoveFile, "a.tmp"),
        (Operation::CreateNew, "a.tmp"),
        (Operation::Write, "a.tmp"),
        (Operation::SyncData, "a.tmp"),
        (Operation::Rename, "a"),
        (Operation::SyncDirectory, "."),
    ]);
    assert_eq!(made, expected);
}

#[test]
fn replace_that_fails_leaves_the_old_bytes_or_the_new_and_nothing_else() {
    fail_each_call(
        |fs| put(fs, "a", b"old"),
        |fs| replace(fs, Path::new("a"), b"new"),
        |fs, outcome| {
            let bytes = content(fs, "a").unwrap();
            match outcome {
                Outcome::Failed => assert!(bytes == b"old" || bytes == b"new", "{bytes:?}"),
                Outcome::Done => assert_eq!(bytes, b"new"),
            }
            assert_eq!(names(fs, "."), ["a"]);
        },
    );
}

#[test]
fn replace_keeps_the_old_bytes_when_a_write_gets_half_way() {
    let fs = FailingFileSystem::over_memory();
    put(&fs, "a", b"old");
    fs.fail_next_write_after(2, "a.tmp", io::ErrorKind::StorageFull);
    let error = replace(&fs, Path::new("a"), b"new").unwrap_err();
    assert!(matches!(error, Error::StorageFull { operation: "write", .. }), "{error}");
    assert_eq!(content(&fs, "a").unwrap(), b"old");
    assert_eq!(names(&fs, "."), ["a"]);
}

#[test]
fn replace_does_not_write_over_what_an_earlier_attempt_left() {
    let fs = FailingFileSystem::over_memory();
    put(&fs, "a.tmp", b"a longer leftover");
    let leftover = fs.open(Path::new("a.tmp"), Access::Read).unwrap();
    replace(&fs, Path::new("a"), b"new").unwrap();
    assert_eq!(content(&fs, "a").unwrap(), b"new");
    assert_eq!(leftover.len().unwrap(), 17, "it is another file");
    assert_eq!(names(&fs, "."), ["a"]);
}

#[test]
fn remove_syncs_the_directory_also_when_the_file_is_gone_already() {
    let fs = FailingFileSystem::over_memory();
    put(&fs, "a", b"");
    for _ in ["there", "missing"] {
        let made = changes_of(&fs, || remove(&fs, Path::new("a")).unwrap());
        assert_eq!(made, calls([(Operation::RemoveFile, "a"), (Operation::SyncDirectory, ".")]));
    }
    remove(&fs, Path::new("no/directory/either")).unwrap();
}

#[test]
fn remove_that_fails_can_be_repeated() {
    fail_each_call(
        |fs| put(fs, "a", b""),
        |fs| remove(fs, Path::new("a")),
        |fs, outcome| {
            if outcome == Outcome::Done {
                assert_eq!(names(fs, "."), [] as [&str; 0]);
            }
        },
    );
}

#[test]
fn create_directory_syncs_its_parent_also_when_it_exists_already() {
    let fs = FailingFileSystem::over_memory();
    for _ in ["missing", "there"] {
        let made = changes_of(&fs, || create_directory(&fs, Path::new("d")).unwrap());
        let expected = [(Operation::CreateDirectory, "d"), (Operation::SyncDirectory, ".")];
        assert_eq!(made, calls(expected));
    }
}

#[test]
fn create_directory_refuses_a_name_that_a_file_has_and_a_missing_parent() {
    let fs = FailingFileSystem::over_memory();
    put(&fs, "a", b"");
    for path in ["a", "no/d"] {
        let error = create_directory(&fs, Path::new(path)).unwrap_err();
        assert!(matches!(error, Error::Io { operation: "create", .. }), "{path}: {error}");
    }
    let error = create_directory_all(&fs, Path::new("a/b/c")).unwrap_err();
    assert!(
        matches!(&error, Error::Io { source, .. }
            if source.kind() == io::ErrorKind::NotADirectory),
        "{error}"
    );
    assert_eq!(names(&fs, "."), ["a"]);
}

#[test]
fn create_directory_all_makes_each_level_durable_from_the_top() {
    let fs = FailingFileSystem::over_memory();
    fs.create_directory(Path::new("a")).unwrap();
    let made = changes_of(&fs, || create_directory_all(&fs, Path::new("a/b/c")).unwrap());
    let expected = calls([
        // `a` may have been made by an attempt that died before its sync.
        (Operation::SyncDirectory, "."),
        (Operation::CreateDirectory, "a/b"),
        (Operation::SyncDirectory, "a"),
        (Operation::CreateDirectory, "a/b/c"),
        (Operation::SyncDirectory, "a/b"),
    ]);
    assert_eq!(made, expected);
}

#[test]
fn create_directory_all_that_fails_can_be_repeated() {
    fail_each_call(
        |_| {},
        |fs| create_directory_all(fs, Path::new("a/b/c")),
        |fs, outcome| {
            if outcome == Outcome::Done {
                assert_eq!(names(fs, "a/b"), ["c"]);
            }
        },
    );
}

#[test]
fn create_directory_all_needs_no_right_to_read_above_what_stands() {
    let fs = FailingFileSystem::over_memory();
    fs.create_directory(Path::new("mount")).unwrap();
    fs.fail_next(Operation::SyncDirectory, ".", io::ErrorKind::PermissionDenied);
    create_directory_all(&fs, Path::new("mount/data")).unwrap();
    fs.fail_next(Operation::SyncDirectory, "mount", io::ErrorKind::PermissionDenied);
    assert!(create_directory_all(&fs, Path::new("mount/more")).is_err(), "this one we made");
}

#[test]
fn remove_tree_removes_files_then_the_directory_and_syncs_its_parent() {
    let fs = FailingFileSystem::over_memory();
    fs.create_directory(Path::new("d")).unwrap();
    put(&fs, "d/a", b"");
    let made = changes_of(&fs, || remove_tree(&fs, Path::new("d")).unwrap());
    let expected = calls([
        (Operation::RemoveFile, "d/a"),
        (Operation::RemoveDirectory, "d"),
        (Operation::SyncDirectory, "."),
    ]);
    assert_eq!(made, expected);
    remove_tree(&fs, Path::new("d")).unwrap();
}

#[test]
fn remove_tree_that_fails_can_be_repeated() {
    fail_each_call(
        |fs| {
            fs.create_directory(Path::new("d")).unwrap();
            put(fs, "d/a", b"");
            put(fs, "d/b", b"");
        },
        |fs| remove_tree(fs, Path::new("d")),
        |fs, outcome| {
            if outcome == Outcome::Done {
                assert_eq!(names(fs, "."), [] as [&str; 0]);
            }
        },
    );
}

#[test]
fn remove_tree_touches_nothing_if_there_is_a_directory_within() {
    let fs = FailingFileSystem::over_memory();
    fs.create_directory(Path::new("d")).unwrap();
    put(&fs, "d/a", b"");
    fs.create_directory(Path::new("d/lost+found")).unwrap();
    let error = remove_tree(&fs, Path::new("d")).unwrap_err();
    assert!(error.to_string().contains("d/lost+found"), "{error}");
    assert_eq!(names(&fs, "d"), ["a", "lost+found"]);
}

#[test]
fn read_tells_missing_whole_and_too_long_files_apart() {
    let fs = FailingFileSystem::over_memory();
    put(&fs, "a", b"12345");
    assert_eq!(read(&fs, Path::new("b"), 5).unwrap(), None);
    assert_eq!(read(&fs, Path::new("a"), 5).unwrap().unwrap(), b"12345");
    let reads = fs.calls(Operation::Read);
    let error = read(&fs, Path::new("a"), 4).unwrap_err();
    assert!(matches!(error, Error::Corrupt(_)), "{error}");
    assert_eq!(fs.calls(Operation::Read), reads, "nothing was read of it");
    fs.fail_next(Operation::Read, "a", io::Error::from_raw_os_error(EIO));
    let error = read(&fs, Path::new("a"), 5).unwrap_err();
    assert!(matches!(error, Error::Io { operation: "read", .. }), "{error}");
}

#[test]
fn a_path_without_a_directory_works_on_a_real_disk() {
    // The empty parent of such a path cannot be opened there, as it can be in memory.
    assert_eq!(parent_of(Path::new("data")), Path::new("."));
    assert_eq!(parent_of(Path::new("/")), Path::new("/"));
    sync_parent(&DiskFileSystem, Path::new("data")).unwrap();
}

#[test]
fn the_whole_round_works_on_a_real_disk() {
    let directory = tempfile::tempdir().unwrap();
    let inner = directory.path().join("a/b");
    create_directory_all(&DiskFileSystem, &inner).unwrap();
    create_directory_all(&DiskFileSystem, &inner).unwrap();
    create(&DiskFileSystem, &inner.join("file"), b"old").unwrap();
    replace(&DiskFileSystem, &inner.join("file"), b"new").unwrap();
    assert_eq!(read(&DiskFileSystem, &inner.join("file"), 3).unwrap().unwrap(), b"new");
    create(&DiskFileSystem, &inner.join("other"), b"").unwrap();
    remove(&DiskFileSystem, &inner.join("other")).unwrap();
    remove_tree(&DiskFileSystem, &inner).unwrap();
    assert_eq!(DiskFileSystem.kind(&inner).unwrap(), None);
}
