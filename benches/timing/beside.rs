//! Criterion groups in which each line of the crate stands beside its bare line, with the ratio, which
//! criterion does not print.
//!
//! Criterion measures one line after the other, and in between a disk may have changed its mood. So each
//! sample of the crate's line has the bare machine do the same first: the ratio is the median of the
//! ratios of such pairs.

use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, SamplingMode, Throughput};

use super::median;

const SAMPLES: usize = 10;

/// Short, for there are many lines: the suites look for what stands out.
pub fn criterion() -> Criterion {
    Criterion::default()
        .sample_size(SAMPLES)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .nresamples(2_000)
        .without_plots()
}

/// A group of pairs.
pub struct Beside<'c> {
    title: String,
    group: BenchmarkGroup<'c, WallTime>,
    ratios: Vec<String>,
}

impl<'c> Beside<'c> {
    /// `settings` are those that hold for the whole group.
    pub fn new(criterion: &'c mut Criterion, name: &str, settings: &str) -> Self {
        let title = format!("{name}: {settings}");
        println!("{title}");
        let mut group = criterion.benchmark_group(name);
        group.sampling_mode(SamplingMode::Flat);
        Self { title, group, ratios: Vec::new() }
    }

    /// Measures both. Each is told how often to do its work, and returns how long that took.
    pub fn pair(
        &mut self,
        name: &str,
        throughput: Throughput,
        mut bare: impl FnMut(u64) -> Duration,
        mut sapwood: impl FnMut(u64) -> Duration,
    ) {
        self.group.throughput(throughput);
        self.line(&format!("{name}/bare"), &mut bare);
        let mut samples = Vec::new();
        self.line(&format!("{name}/sapwood"), |n| {
            let [of_bare, of_sapwood] = [bare(n), sapwood(n)];
            samples.push([of_bare, of_sapwood].map(|took| took.as_secs_f64() / n as f64));
            of_sapwood
        });
        // What comes before the samples is the warm-up. There are none if the command line has left
        // the line out, or asks for a mere test.
        let Some(warm_up) = samples.len().checked_sub(SAMPLES) else { return };
        let samples = &samples[warm_up..];
        let ratio = median(samples.iter().map(|[bare, sapwood]| bare / sapwood));
        let [bare, sapwood] = [0, 1]
            .map(|line| Duration::from_secs_f64(median(samples.iter().map(|sample| sample[line]))));
        let ratio = format!("  ratio {ratio:.2}  {name}: bare {bare:.2?}, sapwood {sapwood:.2?}");
        self.ratios.push(ratio);
    }

    fn line(&mut self, name: &str, mut work: impl FnMut(u64) -> Duration) {
        self.group.bench_function(name, |bencher| bencher.iter_custom(&mut work));
    }

    /// Prints the ratios: what the crate does in the time in which the bare machine does one.
    pub fn finish(self) {
        self.group.finish();
        println!("{}", self.title);
        self.ratios.iter().for_each(|ratio| println!("{ratio}"));
        println!();
    }
}
