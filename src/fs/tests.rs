//! What all implementations owe to the layers above: one suite, run over the disk, over memory and
//! over the simulated disk. Whatever holds for one alone is tested beside it.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use super::disk::DiskFileSystem;
use super::map::WrittenEnd;
use super::memory::MemoryFileSystem;
use super::sim::SimulatedDisk;
use super::{Access, Entry, File, FileSystem, Kind};

/// Runs a test in an empty directory of each file system.
fn on_each(test: impl Fn(&dyn FileSystem, &Path)) {
    let directory = tempfile::tempdir().unwrap();
    test(&DiskFileSystem, directory.path());
    let memory = MemoryFileSystem::new();
    memory.create_directory(Path::new("root")).unwrap();
    test(&memory, Path::new("root"));
    let simulated = SimulatedDisk::new();
    simulated.create_directory(Path::new("root")).unwrap();
    test(&simulated, Path::new("root"));
}

/// The kind of error, with the file system it came from in the message if there is none.
fn kind_of_error<T>(fs: &dyn FileSystem, result: std::io::Result<T>) -> ErrorKind {
    match result {
        Ok(_) => panic!("{fs:?} did not fail"),
        Err(error) => error.kind(),
    }
}

fn all_bytes(file: &dyn File) -> Vec<u8> {
    let mut bytes = vec![0xAA; usize::try_from(file.len().unwrap()).unwrap()];
    assert_eq!(file.read_at(&mut bytes, 0).unwrap(), bytes.len());
    bytes
}

fn create_with(fs: &dyn FileSystem, path: &Path, bytes: &[u8]) -> Arc<dyn File> {
    let file = fs.create_new(path).unwrap();
    file.write_all_at(bytes, 0).unwrap();
    file
}

fn content(fs: &dyn FileSystem, path: &Path) -> Vec<u8> {
    all_bytes(&*fs.open(path, Access::Read).unwrap())
}

#[test]
fn bytes_written_at_any_position_are_read_back_and_gaps_are_zeros() {
    on_each(|fs, root| {
        let file = fs.create_new(&root.join("a")).unwrap();
        // Across the borders of memory chunks and pages, out of order, with a hole between.
        let pattern: Vec<u8> = (0..200_000_u32).map(|i| u8::try_from(i % 251).unwrap()).collect();
        file.write_all_at(&pattern, 300_001).unwrap();
        file.write_all_at(&pattern[..70_000], 10).unwrap();
        file.write_all_at(b"", 7).unwrap();
        let mut expected = vec![0; 500_001];
        expected[300_001..].copy_from_slice(&pattern);
        expected[10..70_010].copy_from_slice(&pattern[..70_000]);
        assert!(all_bytes(&*file) == expected, "{fs:?}");
    });
}

#[test]
fn a_read_ends_at_the_end_of_the_file() {
    on_each(|fs, root| {
        let file = create_with(fs, &root.join("a"), b"0123456789");
        let mut buffer = [b'x'; 8];
        assert_eq!(file.read_at(&mut buffer, 7).unwrap(), 3, "{fs:?}");
        assert_eq!(&buffer, b"789xxxxx", "{fs:?}");
        assert_eq!(file.read_at(&mut buffer, 10).unwrap(), 0, "{fs:?}");
        assert_eq!(file.read_at(&mut buffer, 1 << 40).unwrap(), 0, "{fs:?}");
    });
}

#[test]
fn a_cut_file_reads_zeros_where_it_is_extended_again() {
    on_each(|fs, root| {
        let file = create_with(fs, &root.join("a"), &vec![7; 150_000]);
        file.set_len(65_540).unwrap();
        assert_eq!(file.len().unwrap(), 65_540, "{fs:?}");
        file.set_len(200_000).unwrap();
        let bytes = all_bytes(&*file);
        assert_eq!(bytes.len(), 200_000);
        assert!(bytes[..65_540].iter().all(|byte| *byte == 7), "{fs:?}");
        assert!(bytes[65_540..].iter().all(|byte| *byte == 0), "{fs:?}");
        assert_eq!(kind_of_error(fs, file.set_len(u64::MAX)), ErrorKind::InvalidInput);
    });
}

#[test]
fn a_position_that_no_file_can_have_is_an_error() {
    on_each(|fs, root| {
        let file = fs.create_new(&root.join("a")).unwrap();
        assert!(file.write_all_at(b"x", u64::MAX).is_err(), "{fs:?}");
        assert!(file.write_all_at(b"x", u64::MAX >> 1).is_err(), "{fs:?}");
        assert_eq!(file.len().unwrap(), 0, "{fs:?}");
    });
}

#[test]
fn create_new_refuses_a_name_that_is_taken_and_a_missing_directory() {
    on_each(|fs, root| {
        let path = root.join("a");
        create_with(fs, &path, b"first");
        assert_eq!(kind_of_error(fs, fs.create_new(&path)), ErrorKind::AlreadyExists);
        assert_eq!(kind_of_error(fs, fs.create_new(root)), ErrorKind::AlreadyExists);
        assert_eq!(kind_of_error(fs, fs.create_new(&root.join("no/a"))), ErrorKind::NotFound);
        assert_eq!(kind_of_error(fs, fs.create_new(&path.join("b"))), ErrorKind::NotADirectory);
        assert_eq!(content(fs, &path), b"first");
    });
}

#[test]
fn open_finds_the_same_bytes_and_refuses_what_is_no_file() {
    on_each(|fs, root| {
        let path = root.join("a");
        let first = create_with(fs, &path, b"one");
        let second = fs.open(&path, Access::ReadWrite).unwrap();
        second.write_all_at(b"two", 0).unwrap();
        assert_eq!(all_bytes(&*first), b"two", "{fs:?}");
        let access = Access::Read;
        assert_eq!(kind_of_error(fs, fs.open(&root.join("b"), access)), ErrorKind::NotFound);
        assert_eq!(kind_of_error(fs, fs.open(root, access)), ErrorKind::IsADirectory);
    });
}

#[test]
fn a_handle_opened_for_reading_cannot_write() {
    on_each(|fs, root| {
        create_with(fs, &root.join("a"), b"kept");
        let file = fs.open(&root.join("a"), Access::Read).unwrap();
        assert!(file.write_all_at(b"lost", 0).is_err(), "{fs:?}");
        assert!(file.set_len(1).is_err(), "{fs:?}");
        assert!(file.map_tail(0, 4, &WrittenEnd::new(0)).is_err(), "{fs:?}");
        assert_eq!(all_bytes(&*file), b"kept", "{fs:?}");
    });
}

#[test]
fn an_open_handle_survives_the_removal_and_the_replacement_of_its_name() {
    on_each(|fs, root| {
        let removed = create_with(fs, &root.join("a"), b"removed");
        let replaced = create_with(fs, &root.join("b"), b"replaced");
        create_with(fs, &root.join("c"), b"newer");
        fs.remove_file(&root.join("a")).unwrap();
        fs.rename(&root.join("c"), &root.join("b")).unwrap();
        removed.write_all_at(b"!", 7).unwrap();
        assert_eq!(all_bytes(&*removed), b"removed!", "{fs:?}");
        assert_eq!(all_bytes(&*replaced), b"replaced", "{fs:?}");
        assert_eq!(content(fs, &root.join("b")), b"newer", "{fs:?}");
        assert_eq!(fs.kind(&root.join("a")).unwrap(), None, "{fs:?}");
        assert_eq!(fs.kind(&root.join("c")).unwrap(), None, "{fs:?}");
    });
}

#[test]
fn list_names_the_entries_of_one_directory_with_kind_and_length() {
    on_each(|fs, root| {
        create_with(fs, &root.join("b.log"), b"12345");
        fs.create_directory(&root.join("a")).unwrap();
        create_with(fs, &root.join("a/inner"), b"");
        // Sorts between `a` and what lies in it, by bytes.
        create_with(fs, &root.join("a-"), b"");
        let mut entries = fs.list(root).unwrap();
        entries.sort_by(|left, right| left.name.cmp(&right.name));
        let entry = |name: &str, kind, len| Entry { name: name.into(), kind, len };
        let expected = [
            entry("a", Kind::Directory, 0),
            entry("a-", Kind::File, 0),
            entry("b.log", Kind::File, 5),
        ];
        assert_eq!(entries, expected, "{fs:?}");
        assert_eq!(kind_of_error(fs, fs.list(&root.join("no"))), ErrorKind::NotFound);
        assert_eq!(kind_of_error(fs, fs.list(&root.join("b.log"))), ErrorKind::NotADirectory);
    });
}

#[test]
fn kind_tells_files_directories_and_nothing_apart() {
    on_each(|fs, root| {
        create_with(fs, &root.join("a"), b"");
        assert_eq!(fs.kind(root).unwrap(), Some(Kind::Directory), "{fs:?}");
        assert_eq!(fs.kind(&root.join("./a")).unwrap(), Some(Kind::File), "{fs:?}");
        assert_eq!(fs.kind(&root.join("b/c")).unwrap(), None, "{fs:?}");
        assert_eq!(kind_of_error(fs, fs.kind(&root.join("a/b"))), ErrorKind::NotADirectory);
    });
}

#[test]
fn a_directory_moves_with_all_that_is_in_it() {
    on_each(|fs, root| {
        fs.create_directory(&root.join("from")).unwrap();
        fs.create_directory(&root.join("from/deep")).unwrap();
        let open = create_with(fs, &root.join("from/deep/a"), b"a");
        fs.create_directory(&root.join("to")).unwrap();
        fs.rename(&root.join("from"), &root.join("to")).unwrap();
        open.write_all_at(b"moved", 0).unwrap();
        assert_eq!(content(fs, &root.join("to/deep/a")), b"moved", "{fs:?}");
        assert_eq!(fs.kind(&root.join("from")).unwrap(), None, "{fs:?}");
        assert_eq!(fs.list(root).unwrap().len(), 1, "{fs:?}");
    });
}

#[test]
fn a_second_name_leads_to_the_same_bytes_and_outlives_the_first() {
    on_each(|fs, root| {
        let (first, second) = (root.join("a"), root.join("b"));
        let file = create_with(fs, &first, b"one");
        assert_eq!(fs.name_count(&first).unwrap(), 1, "{fs:?}");
        fs.hard_link(&first, &second).unwrap();
        assert_eq!(fs.name_count(&first).unwrap(), 2, "{fs:?}");
        assert_eq!(fs.name_count(&second).unwrap(), 2, "{fs:?}");
        file.write_all_at(b"two", 0).unwrap();
        assert_eq!(content(fs, &second), b"two", "{fs:?}");
        // A file that takes the place of the first has nothing to do with the second.
        create_with(fs, &root.join("c"), b"new");
        fs.rename(&root.join("c"), &first).unwrap();
        assert_eq!(content(fs, &second), b"two", "{fs:?}");
        assert_eq!(fs.name_count(&second).unwrap(), 1, "{fs:?}");
        fs.remove_file(&first).unwrap();
        assert_eq!(content(fs, &second), b"two", "{fs:?}");
    });
}

#[test]
fn a_second_name_must_be_free_and_lead_to_a_file() {
    on_each(|fs, root| {
        create_with(fs, &root.join("a"), b"one");
        create_with(fs, &root.join("b"), b"two");
        let taken = fs.hard_link(&root.join("a"), &root.join("b"));
        assert_eq!(kind_of_error(fs, taken), ErrorKind::AlreadyExists);
        assert_eq!(content(fs, &root.join("b")), b"two", "{fs:?}");
        let missing = fs.hard_link(&root.join("x"), &root.join("y"));
        assert_eq!(kind_of_error(fs, missing), ErrorKind::NotFound);
        assert_eq!(kind_of_error(fs, fs.name_count(&root.join("x"))), ErrorKind::NotFound);
    });
}

#[test]
fn a_rename_that_cannot_be_done_changes_nothing() {
    on_each(|fs, root| {
        create_with(fs, &root.join("file"), b"file");
        fs.create_directory(&root.join("full")).unwrap();
        create_with(fs, &root.join("full/a"), b"a");
        fs.create_directory(&root.join("empty")).unwrap();
        let rename = |from: &str, to: &str| fs.rename(&root.join(from), &root.join(to));
        let cases = [
            ("none", "new", ErrorKind::NotFound),
            ("file", "none/new", ErrorKind::NotFound),
            ("file", "empty", ErrorKind::IsADirectory),
            ("empty", "file", ErrorKind::NotADirectory),
            ("empty", "full", ErrorKind::DirectoryNotEmpty),
            ("full", "full/inside", ErrorKind::InvalidInput),
        ];
        for (from, to, expected) in cases {
            assert_eq!(kind_of_error(fs, rename(from, to)), expected, "{fs:?}: {from} to {to}");
        }
        rename("file", "file").unwrap();
        assert_eq!(content(fs, &root.join("file")), b"file", "{fs:?}");
        assert_eq!(content(fs, &root.join("full/a")), b"a", "{fs:?}");
        assert_eq!(fs.list(root).unwrap().len(), 3, "{fs:?}");
    });
}

#[test]
fn directories_are_created_one_level_deep_and_removed_when_empty() {
    on_each(|fs, root| {
        let directory = root.join("d");
        let nested = fs.create_directory(&directory.join("e"));
        assert_eq!(kind_of_error(fs, nested), ErrorKind::NotFound);
        fs.create_directory(&directory).unwrap();
        let again = fs.create_directory(&directory);
        assert_eq!(kind_of_error(fs, again), ErrorKind::AlreadyExists);
        create_with(fs, &directory.join("a"), b"");
        let full = fs.remove_directory(&directory);
        assert_eq!(kind_of_error(fs, full), ErrorKind::DirectoryNotEmpty);
        assert_eq!(kind_of_error(fs, fs.remove_file(&directory)), ErrorKind::IsADirectory);
        let file = fs.remove_directory(&directory.join("a"));
        assert_eq!(kind_of_error(fs, file), ErrorKind::NotADirectory);
        fs.remove_file(&directory.join("a")).unwrap();
        fs.remove_directory(&directory).unwrap();
        assert_eq!(kind_of_error(fs, fs.remove_directory(&directory)), ErrorKind::NotFound);
        assert_eq!(fs.list(root).unwrap(), [], "{fs:?}");
    });
}

#[test]
fn only_directories_that_exist_can_be_synced() {
    on_each(|fs, root| {
        let file = create_with(fs, &root.join("a"), b"");
        file.sync_data().unwrap();
        fs.sync_directory(root).unwrap();
        assert_eq!(kind_of_error(fs, fs.sync_directory(&root.join("b"))), ErrorKind::NotFound);
        let a_file = fs.sync_directory(&root.join("a"));
        assert_eq!(kind_of_error(fs, a_file), ErrorKind::NotADirectory);
    });
}

#[test]
fn a_lock_excludes_a_second_holder_until_its_guard_is_dropped() {
    on_each(|fs, root| {
        let path = root.join(".lock");
        let guard = fs.lock(&path).unwrap();
        assert_eq!(kind_of_error(fs, fs.lock(&path)), ErrorKind::WouldBlock);
        // Neither opening and closing the file nor a refused attempt may release it.
        drop(fs.open(&path, Access::ReadWrite).unwrap());
        assert_eq!(kind_of_error(fs, fs.lock(&path)), ErrorKind::WouldBlock);
        drop(guard);
        drop(fs.lock(&path).unwrap());
        assert_eq!(fs.kind(&path).unwrap(), Some(Kind::File), "{fs:?}: the lock file stays");
    });
}

#[test]
fn a_lock_needs_a_plain_file_in_a_directory_that_exists() {
    on_each(|fs, root| {
        assert_eq!(kind_of_error(fs, fs.lock(&root.join("no/.lock"))), ErrorKind::NotFound);
        assert_eq!(kind_of_error(fs, fs.lock(root)), ErrorKind::IsADirectory);
    });
}

#[test]
fn what_a_window_stores_is_in_the_file() {
    on_each(|fs, root| {
        let file = create_with(fs, &root.join("a"), &vec![0; 100_000]);
        let mut window = file.map_tail(4_097, 80_000, &WrittenEnd::new(4_100)).unwrap();
        assert_eq!((window.end(), window.ready_end()), (84_097, 4_097), "{fs:?}");
        window.make_ready(50_000).unwrap();
        window.store(b"first", 4_100);
        window.make_ready(84_097).unwrap();
        assert_eq!(window.ready_end(), 84_097, "{fs:?}");
        window.store(&vec![5; 30_000], 54_097);
        drop(window);
        let bytes = all_bytes(&*file);
        assert_eq!(bytes.len(), 100_000, "{fs:?}");
        assert_eq!(&bytes[4_099..4_106], b"\0first\0", "{fs:?}");
        assert!(bytes[54_097..84_097].iter().all(|byte| *byte == 5), "{fs:?}");
        assert_eq!((bytes[54_096], bytes[84_097]), (0, 0), "{fs:?}");
    });
}

#[test]
fn a_window_is_ready_within_itself_and_the_file_and_never_goes_back() {
    on_each(|fs, root| {
        let file = create_with(fs, &root.join("a"), &[0; 100]);
        let written_end = WrittenEnd::new(0);
        assert!(file.map_tail(u64::MAX, 1, &written_end).is_err(), "{fs:?}");
        let mut window = file.map_tail(50, 100, &written_end).unwrap();
        window.make_ready(60).unwrap();
        window.make_ready(60).unwrap();
        for end in [0, 59, 101, 150, 151, u64::MAX] {
            assert!(window.make_ready(end).is_err(), "{fs:?}: up to {end}");
        }
        window.make_ready(100).unwrap();
        file.write_all_at(&[0; 100], 100).unwrap();
        assert!(window.make_ready(151).is_err(), "{fs:?}: the window ends before");
        window.make_ready(150).unwrap();
        window.store(&[1; 100], 50);
        assert_eq!(all_bytes(&*file)[49..151], [&[0][..], &[1; 100], &[0]].concat(), "{fs:?}");
    });
}

/// Stores into a window over bytes 100..300 that is ready below 200 and final below 120, and says
/// whether that panicked.
fn store_panics(fs: &dyn FileSystem, path: &Path, len: usize, file_position: u64) -> bool {
    let file = create_with(fs, path, &[0; 300]);
    let mut window = file.map_tail(100, 200, &WrittenEnd::new(120)).unwrap();
    window.make_ready(200).unwrap();
    let bytes = vec![1; len];
    let store = std::panic::AssertUnwindSafe(|| window.store(&bytes, file_position));
    let panicked = std::panic::catch_unwind(store).is_err();
    assert_eq!(all_bytes(&*file).contains(&1), !panicked, "{fs:?}: a refused store stores nothing");
    fs.remove_file(path).unwrap();
    panicked
}

#[test]
fn a_window_refuses_stores_outside_of_it_and_below_the_written_end() {
    on_each(|fs, root| {
        let path = root.join("a");
        for (len, file_position) in [(1, 120), (80, 120), (1, 199)] {
            assert!(!store_panics(fs, &path, len, file_position), "{fs:?}: {file_position}");
        }
        for (len, file_position) in [(81, 120), (1, 200), (1, 119), (1, 99), (1, u64::MAX)] {
            assert!(store_panics(fs, &path, len, file_position), "{fs:?}: {file_position}");
        }
    });
}
