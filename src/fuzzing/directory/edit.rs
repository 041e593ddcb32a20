//! What is done to the files of a directory while nobody has it open.

use std::ops::Range;
use std::path::PathBuf;

use super::forgery::mend_batch;
use super::scene::Files;
use crate::fuzzing::input::Input;

/// Where a new file appears: names of ours that were free, and names that are not ours.
const STRAYS: [&str; 19] = [
    "sapwood.clean-shutdown",
    "sapwood.topics.tmp",
    "sapwood.topics.bak",
    "meta.properties",
    "lost+found/#12345",
    "orders-2/00000000000000000000.log",
    "orders-00/00000000000000000000.log",
    "orders-0/00000000000000000001.log",
    "orders-0/00000000000000000999.log",
    "orders-0/00000000000000000999.index",
    "orders-0/00000000000000000000.log.deleted",
    "orders-0/00000000000000000000.torn",
    "orders-1/00000000000000000007.timeindex",
    "orders-1/00000000000000000012.log.carried",
    "orders-1/watermark.checkpoint.tmp",
    "orders-1/lost+found/x",
    "payments-0/+0000000000000000007.log",
    "payments-0/99999999999999999999.log",
    "__consumer_offsets-0/00000000000000000003.log",
];

const LENGTHENED_MAX: usize = 5_000;

/// One thing that is done. Paths are from the root.
#[derive(Debug, Clone)]
pub(super) enum Edit {
    Overwrite {
        path: PathBuf,
        at: usize,
        bytes: Vec<u8>,
    },
    Flip {
        path: PathBuf,
        at: usize,
        bit: u8,
    },
    Truncate {
        path: PathBuf,
        len: usize,
    },
    Extend {
        path: PathBuf,
        count: usize,
        with: u8,
    },
    Zero {
        path: PathBuf,
        range: Range<usize>,
    },
    Remove {
        path: PathBuf,
    },
    Swap {
        one: PathBuf,
        other: PathBuf,
    },
    /// Takes the place of another file if there is one of that name.
    Duplicate {
        path: PathBuf,
        name: PathBuf,
    },
    /// A stretch of one file takes the place of a stretch of another.
    Copy {
        from: PathBuf,
        range: Range<usize>,
        to: PathBuf,
        at: usize,
    },
    /// The checksum of a batch is put right.
    Mend {
        path: PathBuf,
        batch: usize,
    },
}

impl Edit {
    /// The next edit of these files; `None` when the input has ended.
    pub(super) fn decode(input: &mut Input<'_>, files: &Files) -> Option<Self> {
        let kind = input.byte()?;
        let path = file(input, files)?;
        let len = files[&path].len();
        Some(match kind % 12 {
            0 => {
                let at = input.below(len + 1)?;
                let count = input.below(32)?;
                Edit::Overwrite { path, at, bytes: input.bytes(count).to_vec() }
            }
            1 => Edit::Flip { path, at: input.below(len)?, bit: input.byte()? % 8 },
            2 => Edit::Truncate { path, len: input.below(len + 1)? },
            3 => {
                let count = input.below(LENGTHENED_MAX)?;
                Edit::Extend { path, count, with: input.byte()? }
            }
            4 => {
                let start = input.below(len + 1)?;
                let count = input.below(len - start + 1)?;
                Edit::Zero { path, range: start..start + count }
            }
            5 => Edit::Remove { path },
            6 => Edit::Swap { one: path, other: file(input, files)? },
            7 => Edit::Duplicate { path, name: file(input, files)? },
            8 => {
                let name = path.with_file_name(format!("{:020}.log", input.byte()?));
                Edit::Duplicate { path, name }
            }
            9 => Edit::Duplicate { path, name: PathBuf::from(input.choose(&STRAYS)?) },
            10 => {
                let start = input.below(len + 1)?;
                let count = input.below(len - start + 1)?;
                let to = file(input, files)?;
                let at = input.below(files[&to].len() + 1)?;
                Edit::Copy { from: path, range: start..start + count, to, at }
            }
            _ => Edit::Mend { path, batch: input.below(16)? },
        })
    }

    pub(super) fn apply(&self, files: &mut Files) {
        match self {
            Edit::Overwrite { path, at, bytes } => overwrite(change(files, path), *at, bytes),
            Edit::Flip { path, at, bit } => {
                if let Some(byte) = change(files, path).get_mut(*at) {
                    *byte ^= 1 << bit;
                }
            }
            Edit::Truncate { path, len } => change(files, path).truncate(*len),
            Edit::Extend { path, count, with } => {
                let file = change(files, path);
                file.resize(file.len() + count, *with);
            }
            Edit::Zero { path, range } => change(files, path)[range.clone()].fill(0),
            Edit::Remove { path } => drop(files.remove(path)),
            Edit::Swap { one, other } => {
                let (first, second) = (files[one].clone(), files[other].clone());
                files.extend([(one.clone(), second), (other.clone(), first)]);
            }
            Edit::Duplicate { path, name } => {
                files.insert(name.clone(), files[path].clone());
            }
            Edit::Copy { from, range, to, at } => {
                let stretch = files[from][range.clone()].to_vec();
                overwrite(change(files, to), *at, &stretch);
            }
            Edit::Mend { path, batch } => mend_batch(change(files, path), *batch),
        }
    }

    /// Whether nothing need be left of what was there that could be told of: an end that is cut off
    /// at a batch, or replaced by zeros, looks like what a power cut leaves above the watermark.
    pub(super) fn may_pass_unnoticed(&self) -> bool {
        !matches!(self, Edit::Flip { .. } | Edit::Extend { .. } | Edit::Mend { .. })
    }

    /// Whether whole files are now where other files were.
    pub(super) fn moves_files(&self) -> bool {
        matches!(self, Edit::Swap { .. } | Edit::Duplicate { .. } | Edit::Copy { .. })
    }
}

fn file(input: &mut Input<'_>, files: &Files) -> Option<PathBuf> {
    files.keys().nth(input.below(files.len())?).cloned()
}

fn change<'a>(files: &'a mut Files, path: &PathBuf) -> &'a mut Vec<u8> {
    files.get_mut(path).expect("edits are about files that are there")
}

/// Writes bytes into a file, which becomes longer if it has to.
fn overwrite(file: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    let end = at + bytes.len();
    if file.len() < end {
        file.resize(end, 0);
    }
    file[at..end].copy_from_slice(bytes);
}
