//! What the benchmarks measure with: times, medians, percentiles, threads, and where files go.

#![allow(dead_code)] // each benchmark uses its part

pub mod beside;
pub mod fixed_rate;
pub mod page_cache;

use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use sapwood::Durability;

pub const WRITTEN: Durability = Durability::Written { flush_interval: Duration::from_secs(1) };

/// Both levels, by name.
pub const DURABILITIES: [(&str, Durability); 2] =
    [("Written", WRITTEN), ("Fsync", Durability::Fsync)];

/// Where a benchmark may put its files; gone when it ends. `SAPWOOD_BENCH_DIR` says on which disk; the
/// default is the directory for temporary files.
pub fn scratch() -> tempfile::TempDir {
    let root = std::env::var_os("SAPWOOD_BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    tempfile::tempdir_in(root).unwrap()
}

/// The kind of file system that a path is on.
pub fn file_system(path: &Path) -> String {
    let path = path.canonicalize().unwrap();
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mounts = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        Some((words.next()?, words.next()?))
    });
    let above = mounts.filter(|(point, _)| path.starts_with(point));
    // The last of those that are mounted on one another is the one that is seen.
    above.max_by_key(|(point, _)| point.len()).map_or("unknown", |(_, kind)| kind).to_owned()
}

pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// How many a second.
pub fn rate(count: u64, work: impl FnOnce()) -> f64 {
    count as f64 / seconds(work)
}

pub fn seconds(work: impl FnOnce()) -> f64 {
    time(work).as_secs_f64()
}

pub fn time(work: impl FnOnce()) -> Duration {
    let started = Instant::now();
    work();
    started.elapsed()
}

/// How long it takes to do something so many times.
pub fn times(n: u64, mut work: impl FnMut()) -> Duration {
    time(|| (0..n).for_each(|_| work()))
}

/// Has each thread, by its number, do its work, and returns how long all of it took. Starting the
/// threads is not counted.
pub fn in_threads(threads: usize, work: impl Fn(usize) + Sync) -> Duration {
    if threads == 1 {
        return time(|| work(0));
    }
    let (barrier, work) = (Barrier::new(threads + 1), &work);
    let mut started = Instant::now();
    thread::scope(|scope| {
        for thread in 0..threads {
            let barrier = &barrier;
            scope.spawn(move || {
                barrier.wait();
                work(thread);
            });
        }
        started = Instant::now();
        barrier.wait();
    });
    started.elapsed()
}

/// A value below which so many parts of a thousand lie.
pub fn permille(sorted: &[Duration], part: usize) -> Duration {
    sorted[(sorted.len() * part / 1_000).min(sorted.len() - 1)]
}

/// Percentiles to p99.9, in words.
pub fn percentiles(sorted: &[Duration]) -> String {
    let [p50, p99, p999] = [500, 990, 999].map(|part| permille(sorted, part));
    format!("p50 {p50:.1?}, p99 {p99:.1?}, p99.9 {p999:.1?}")
}
