use super::*;

const NAME: &str = "a";

fn path() -> &'static Path {
    Path::new(NAME)
}

/// A disk with one file, whose name and bytes are durable.
fn disk_with(bytes: &[u8]) -> (SimulatedDisk, Arc<dyn File>) {
    let disk = SimulatedDisk::new();
    let file = disk.create_new(path()).unwrap();
    file.write_all_at(bytes, 0).unwrap();
    file.sync_data().unwrap();
    disk.sync_directory(Path::new(".")).unwrap();
    (disk, file)
}

/// What a power cut can make of the file, by many seeds.
fn fates(disk: &SimulatedDisk) -> Vec<Option<Vec<u8>>> {
    (0..400).map(|seed| content(&disk.power_loss(PowerLoss::Random(seed)))).collect()
}

fn content(disk: &SimulatedDisk) -> Option<Vec<u8>> {
    disk.files().remove(path())
}

#[test]
fn what_was_synced_survives_every_power_cut_and_what_was_not_may_be_anything() {
    let (disk, file) = disk_with(&[1; 2 * 512]);
    file.write_all_at(&[2; 2 * 512], 2 * 512).unwrap();
    let fates = fates(&disk);
    let mut tails = BTreeSet::new();
    for bytes in fates.into_iter().map(Option::unwrap) {
        assert!(bytes.starts_with(&[1; 2 * 512]));
        tails.insert(bytes[2 * 512..].iter().step_by(512).map(|b| (*b).min(3)).collect::<Vec<_>>());
    }
    for possible in [&[][..], &[2, 2], &[0, 2], &[2, 0], &[0, 0]] {
        assert!(tails.contains(possible), "{possible:?} of {tails:?}");
    }
    assert!(tails.iter().any(|tail| tail.contains(&3)), "garbage");
    assert_eq!(content(&disk.power_loss(PowerLoss::LosesEverything)).unwrap().len(), 2 * 512);
    assert_eq!(content(&disk.power_loss(PowerLoss::LosesNothing)).unwrap().len(), 4 * 512);
}

#[test]
fn a_sector_with_synced_bytes_is_old_or_new_and_one_that_was_rewritten_may_be_anything() {
    let (disk, file) = disk_with(&[1; 100]);
    file.write_all_at(&[2; 100], 100).unwrap();
    let (old, new) = (vec![1; 100], [[1; 100], [2; 100]].concat());
    for bytes in fates(&disk).into_iter().map(Option::unwrap) {
        let len = bytes.len().min(200);
        let padded_old = [&old[..], &[0; 100]].concat();
        assert!(bytes == new[..len] || bytes == padded_old[..len], "{bytes:?}");
    }
    file.write_all_at(&[3; 200], 0).unwrap();
    let garbage = |bytes: &Vec<u8>| bytes.iter().any(|byte| !(0..=3).contains(byte));
    assert!(fates(&disk).iter().flatten().any(garbage));
}

#[test]
fn a_name_is_durable_once_its_directory_is_synced() {
    let disk = SimulatedDisk::new();
    let file = disk.create_new(path()).unwrap();
    file.write_all_at(b"x", 0).unwrap();
    file.sync_data().unwrap();
    assert!(fates(&disk).contains(&None), "the name can be lost");
    disk.sync_directory(Path::new("")).unwrap();
    assert!(fates(&disk).iter().all(|found| found.as_deref() == Some(b"x")));
    disk.remove_file(path()).unwrap();
    assert!(fates(&disk).contains(&None) && fates(&disk).contains(&Some(b"x".to_vec())));
}

#[test]
fn a_rename_happens_or_not_and_takes_the_bytes_as_far_as_they_are_synced() {
    let (disk, _) = disk_with(b"old");
    let new = disk.create_new(Path::new("b")).unwrap();
    new.write_all_at(b"new", 0).unwrap();
    disk.rename(Path::new("b"), path()).unwrap();
    assert!(fates(&disk).contains(&Some(Vec::new())), "renamed, and nothing in it");
    new.sync_data().unwrap();
    for found in fates(&disk) {
        assert!([&b"old"[..], b"new"].contains(&&*found.unwrap()));
    }
}

#[test]
fn what_is_in_a_directory_that_was_lost_is_lost_too() {
    let disk = SimulatedDisk::new();
    disk.create_directory(Path::new("d")).unwrap();
    disk.create_new(Path::new("d/f")).unwrap();
    disk.sync_directory(Path::new("d")).unwrap();
    let after = disk.power_loss(PowerLoss::LosesEverything);
    assert_eq!(after.kind(Path::new("d")).unwrap(), None);
    assert!(after.files().is_empty());
}

#[test]
fn a_directory_made_anew_has_nothing_of_the_one_before() {
    let disk = SimulatedDisk::new();
    let (directory, file) = (Path::new("d"), Path::new("d/f"));
    disk.create_directory(directory).unwrap();
    disk.create_new(file).unwrap();
    disk.sync_directory(directory).unwrap();
    disk.sync_directory(Path::new("")).unwrap();
    disk.remove_file(file).unwrap();
    disk.remove_directory(directory).unwrap();
    disk.create_directory(directory).unwrap();
    disk.create_new(Path::new("d/g")).unwrap();
    let found = |seed| {
        let after = disk.power_loss(PowerLoss::Random(seed));
        after.files().into_keys().collect::<Vec<_>>()
    };
    let all: BTreeSet<_> = (0..200).map(found).collect();
    let both = vec![file.to_owned(), PathBuf::from("d/g")];
    assert!(!all.contains(&both), "{all:?}");
    assert!(all.contains(&both[..1]) && all.contains(&both[1..]) && all.contains(&[][..]));
}

#[test]
fn what_a_failed_sync_was_for_is_lost_although_the_next_one_succeeds() {
    let (disk, file) = disk_with(&[1; 512]);
    file.write_all_at(&[2; 512], 512).unwrap();
    disk.fail_call(0, Verdict::Fails(5));
    assert_eq!(file.sync_data().unwrap_err().raw_os_error(), Some(5));
    file.write_all_at(&[2; 512], 512).unwrap();
    file.sync_data().unwrap();
    assert_eq!(content(&disk).unwrap(), [[1; 512], [2; 512]].concat(), "the cache shows it");
    let lost = [[1; 512], [0; 512]].concat();
    assert_eq!(content(&disk.power_loss(PowerLoss::LosesNothing)).unwrap(), lost);
    // Cut off and written anew it is a good file again.
    file.set_len(512).unwrap();
    file.write_all_at(&[3; 512], 512).unwrap();
    file.sync_data().unwrap();
    let whole = [[1; 512], [3; 512]].concat();
    assert_eq!(content(&disk.power_loss(PowerLoss::LosesEverything)).unwrap(), whole);
}

#[test]
fn a_sync_does_not_answer_for_what_is_written_while_it_runs() {
    let (disk, file) = disk_with(&[1; 512]);
    let late = Arc::clone(&file);
    disk.on_call(move |call| {
        if call.kind == DiskCallKind::Sync {
            late.write_all_at(&[9; 512], 512).unwrap();
        }
        Verdict::Proceeds
    });
    file.sync_data().unwrap();
    let after = disk.power_loss(PowerLoss::LosesEverything);
    assert_eq!(content(&after).unwrap(), [1; 512]);
    assert_eq!(content(&disk).unwrap().len(), 1024);
}

#[test]
fn after_it_has_stopped_nothing_happens_until_it_is_revived() {
    let (disk, file) = disk_with(b"old");
    disk.fail_call(1, Verdict::Stops);
    file.write_all_at(b"new", 0).unwrap();
    assert!(file.sync_data().is_err());
    assert!(file.write_all_at(b"not", 0).is_err());
    assert!(file.len().is_err());
    disk.revive();
    assert_eq!(content(&disk).unwrap(), b"new");
    file.sync_data().unwrap();
    assert_eq!(content(&disk.power_loss(PowerLoss::LosesEverything)).unwrap(), b"new");
}

#[test]
fn a_write_that_fails_leaves_the_part_that_it_was_told_to_leave() {
    let (disk, file) = disk_with(b"");
    disk.fail_call(0, Verdict::FailsAfter(3, 28));
    let error = file.write_all_at(b"abcdef", 0).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert_eq!(content(&disk).unwrap(), b"abc");
    file.write_all_at(b"abcdef", 0).unwrap();
}

#[test]
fn a_full_disk_takes_what_fits_and_more_after_something_was_removed() {
    let (disk, file) = disk_with(b"12345");
    disk.set_capacity(Some(8));
    assert_eq!(file.write_all_at(b"67890", 5).unwrap_err().kind(), io::ErrorKind::StorageFull);
    assert_eq!(content(&disk).unwrap(), b"12345678");
    assert_eq!(disk.create_new(Path::new("b")).unwrap_err().kind(), io::ErrorKind::StorageFull);
    file.write_all_at(b"over", 0).unwrap();
    disk.remove_file(path()).unwrap();
    disk.create_new(Path::new("b")).unwrap().write_all_at(b"12345678", 0).unwrap();
}

#[test]
fn a_snapshot_goes_its_own_way_and_the_same_seed_gives_the_same_disk() {
    let (disk, file) = disk_with(b"one");
    let snapshot = disk.snapshot();
    file.write_all_at(b"two, unsynced", 0).unwrap();
    assert_eq!(content(&snapshot).unwrap(), b"one");
    for seed in 0..20 {
        let loss = PowerLoss::Random(seed);
        assert_eq!(disk.power_loss(loss).files(), disk.power_loss(loss).files());
    }
}
