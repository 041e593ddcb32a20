//! Goal: damaged files never become wrong records, a panic or a hang. A directory with one fault in
//! it either opens and gives the same records up to the fault, which is told where it is met; or it
//! is refused by a typed error, and not one byte changes; or what was cut lay above the watermark
//! (contract, clauses 12, 13, 16, 17, 20 to 22, 28; fault F5).
//!
//! Method: a small directory with several segments is written once and closed, and another one left
//! as a kill leaves it. Each case brings back all files, does one thing to them, opens the directory
//! and reads everything.

mod scene;

use std::path::{Path, PathBuf};

use self::scene::{Damage, Scene};

/// Which bytes of a file are worth a case: all of a small one; of a large one, which is mostly
/// zeros, those that are not, and a few others.
fn interesting(bytes: &[u8], stride: usize) -> impl Iterator<Item = usize> {
    let stride = if bytes.len() > 4_000 { 89 * stride } else { stride };
    let large = bytes.len() > 4_000;
    (0..bytes.len()).filter(move |at| at % stride == 0 || (large && bytes[*at] != 0))
}

fn each_file(scene: &Scene, mut case: impl FnMut(&Path, &[u8])) {
    for (path, bytes) in &scene.files {
        case(path, bytes);
    }
}

fn flip_a_bit_of_every_byte(scene: &Scene, stride: usize) {
    each_file(scene, |path, bytes| {
        for at in interesting(bytes, stride) {
            let mut damaged = bytes.to_vec();
            damaged[at] ^= 1 << (at % 8);
            scene.judge(&format!("bit {} of byte {at} flipped", at % 8), path, Damage::In(damaged));
        }
    });
}

#[test]
fn a_flipped_bit_in_a_closed_directory_is_harmless_or_told() {
    flip_a_bit_of_every_byte(&Scene::closed(), 1);
}

#[test]
fn a_flipped_bit_in_what_a_kill_left_is_harmless_or_told() {
    flip_a_bit_of_every_byte(&Scene::killed(), 3);
}

#[test]
fn a_truncated_file_is_harmless_or_told() {
    for scene in [Scene::closed(), Scene::killed()] {
        each_file(&scene, |path, bytes| {
            for len in interesting(bytes, 7) {
                scene.judge(&format!("cut to {len}"), path, Damage::Cut(bytes[..len].to_vec()));
            }
        });
    }
}

#[test]
fn zeroed_and_overwritten_blocks_are_harmless_or_told() {
    for scene in [Scene::closed(), Scene::killed()] {
        each_file(&scene, |path, bytes| {
            for size in [512, 4096] {
                for block in 0..bytes.len().div_ceil(size) {
                    let range = block * size..bytes.len().min((block + 1) * size);
                    let mut zeroed = bytes.to_vec();
                    zeroed[range.clone()].fill(0);
                    let mut garbage = bytes.to_vec();
                    garbage[range.clone()].fill(0xa5);
                    scene.judge(&format!("{range:?} zeroed"), path, Damage::Cut(zeroed));
                    scene.judge(&format!("{range:?} overwritten"), path, Damage::In(garbage));
                }
            }
        });
    }
}

#[test]
fn bytes_behind_the_end_of_a_file_are_harmless_or_told() {
    for scene in [Scene::closed(), Scene::killed()] {
        each_file(&scene, |path, bytes| {
            let first = bytes[..bytes.len().min(200)].to_vec();
            for more in [vec![0; 1], vec![0; 5_000], vec![0xff; 100], first, bytes.to_vec()] {
                let longer = [bytes, &more].concat();
                let what = format!("{} bytes appended", more.len());
                scene.judge(&what, path, Damage::In(longer));
            }
        });
    }
}

#[test]
fn a_missing_file_is_harmless_or_told() {
    for scene in [Scene::closed(), Scene::killed()] {
        each_file(&scene, |path, _| scene.judge("removed", path, Damage::Gone));
    }
}

#[test]
fn swapped_files_are_harmless_or_told() {
    for scene in [Scene::closed(), Scene::killed()] {
        let swappable = |path: &&PathBuf| path.parent() != Some(Path::new(""));
        let paths: Vec<_> = scene.files.keys().filter(swappable).collect();
        for (number, one) in paths.iter().enumerate() {
            for other in &paths[number + 1..] {
                let same_kind = one.extension() == other.extension();
                if same_kind && scene.files[*one] != scene.files[*other] {
                    let what = format!("swapped with {}", other.display());
                    scene.judge(&what, one, Damage::SwappedWith((*other).clone()));
                }
            }
        }
    }
}

/// A segment under another name, beside those that are there.
#[test]
fn a_segment_too_many_is_harmless_or_told() {
    for scene in [Scene::closed(), Scene::killed()] {
        each_file(&scene, |path, bytes| {
            if path.extension().is_none_or(|extension| extension != "log") {
                return;
            }
            for name in ["00000000000000000001.log", "00000000000000000999.log"] {
                for bytes in [bytes, &[], &[0; 700]] {
                    let what = format!("{} bytes of another file", bytes.len());
                    scene.judge(&what, &path.with_file_name(name), Damage::In(bytes.to_vec()));
                }
            }
        });
    }
}

#[test]
fn foreign_files_change_nothing_and_stay() {
    for scene in [Scene::closed(), Scene::killed()] {
        for name in [
            "lost+found/#12345",
            "orders-7/00000000000000000000.log",
            "orders-00/00000000000000000000.log",
            "strange-0/00000000000000000000.index",
            "meta.properties",
            "sapwood.topics.bak",
            "orders-0/lost+found/x",
            "orders-0/00000000000000000000.log.bak",
            "orders-0/0.log",
            "orders-0/+0000000000000000007.log",
            "orders-0/99999999999999999999.log",
            "orders-0/00000000000000000000.LOG",
            "payments-0/watermark.checkpoint.old",
            "__consumer_offsets-0/notes.txt",
        ] {
            scene.judge_foreign(Path::new(name));
        }
    }
}
