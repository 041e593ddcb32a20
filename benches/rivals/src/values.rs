//! The values that are appended, and the check that they come back.

/// Bytes in a value.
pub(crate) const VALUE_BYTES: usize = 100;

/// How many different values there are: few, so that making and checking them costs next to
/// nothing, and a prime, so that a lost batch or two that change places are noticed.
const DIFFERENT: usize = 251;

/// The longest batch.
pub(crate) const BATCH_MAX: usize = 100;

/// All the values. The one at offset `n` is number `n % DIFFERENT`. They are text, because one
/// contender takes nothing else, and do not compress well.
pub(crate) struct Values {
    bytes: Vec<[u8; VALUE_BYTES]>,
}

impl Values {
    pub(crate) fn new() -> Self {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let value = |number: usize| {
            let mut value = [0; VALUE_BYTES];
            value[..3].copy_from_slice(format!("{number:03}").as_bytes());
            for byte in &mut value[3..] {
                // Xorshift; the constants are Marsaglia's.
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                *byte = b'0' + (state >> 58) as u8;
            }
            value
        };
        Self { bytes: (0..DIFFERENT).map(value).collect() }
    }

    /// The value at `offset`.
    pub(crate) fn at(&self, offset: u64) -> &[u8] {
        &self.bytes[(offset % DIFFERENT as u64) as usize]
    }

    /// The values in a row, from which batches are cut.
    pub(crate) fn row(&self) -> Row<'_> {
        Row((0..(DIFFERENT + BATCH_MAX) as u64).map(|n| self.at(n)).collect())
    }

    /// How often each value occurs among the first `records`.
    pub(crate) fn count(&self, records: u64) -> Counts {
        let mut counts = Counts::default();
        for n in 0..DIFFERENT as u64 {
            counts.0[n as usize] =
                records / DIFFERENT as u64 + u64::from(n < records % DIFFERENT as u64);
        }
        counts
    }

    /// Which of the values this is, if it is one.
    fn number(&self, value: &[u8]) -> Option<usize> {
        let number = std::str::from_utf8(value.get(..3)?).ok()?.parse::<usize>().ok()?;
        (self.bytes.get(number)? == value).then_some(number)
    }
}

/// See [`Values::row`].
pub(crate) struct Row<'a>(Vec<&'a [u8]>);

impl<'a> Row<'a> {
    /// The `count` values from `offset` on.
    pub(crate) fn batch(&self, offset: u64, count: usize) -> &[&'a [u8]] {
        let from = (offset % DIFFERENT as u64) as usize;
        &self.0[from..from + count]
    }
}

/// How often each value occurs.
#[derive(PartialEq, Eq)]
pub(crate) struct Counts([u64; DIFFERENT]);

impl Default for Counts {
    fn default() -> Self {
        Self([0; DIFFERENT])
    }
}

impl Counts {
    pub(crate) fn add(&mut self, other: &Self) {
        for (sum, more) in self.0.iter_mut().zip(other.0) {
            *sum += more;
        }
    }

    fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}

/// How far a reading came.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// To the end of the log.
    Reached,
    /// As far as the time allowed.
    OutOfTime,
}

/// Checks values that come back in the order of their offsets.
pub(crate) struct InOrder<'a> {
    values: &'a Values,
    seen: u64,
    first_wrong: Option<u64>,
}

impl<'a> InOrder<'a> {
    pub(crate) fn new(values: &'a Values) -> Self {
        Self { values, seen: 0, first_wrong: None }
    }

    pub(crate) fn see(&mut self, value: &[u8]) {
        if value != self.values.at(self.seen) && self.first_wrong.is_none() {
            self.first_wrong = Some(self.seen);
        }
        self.seen += 1;
    }

    /// How many came back.
    pub(crate) fn seen(&self) -> u64 {
        self.seen
    }

    /// What is wrong, when `expected` records were appended and the reading ended at `end`.
    pub(crate) fn fault(&self, expected: u64, end: End) -> Option<String> {
        let wrong = self.first_wrong.map(|offset| format!("WRONG from record {offset} on"));
        wrong.or_else(|| fault_of_count(self.seen, expected, end))
    }
}

/// Checks values that come back in any order.
pub(crate) struct AnyOrder<'a> {
    values: &'a Values,
    counts: Counts,
    unknown: u64,
}

impl<'a> AnyOrder<'a> {
    pub(crate) fn new(values: &'a Values) -> Self {
        Self { values, counts: Counts::default(), unknown: 0 }
    }

    pub(crate) fn see(&mut self, value: &[u8]) {
        match self.values.number(value) {
            Some(number) => self.counts.0[number] += 1,
            None => self.unknown += 1,
        }
    }

    /// What is wrong, when `expected` was appended and the reading ended at `end`.
    pub(crate) fn fault(&self, expected: &Counts, end: End) -> Option<String> {
        let seen = self.counts.total() + self.unknown;
        fault_of_count(seen, expected.total(), end).or_else(|| {
            (end == End::Reached && self.counts != *expected).then(|| "records CHANGED".to_owned())
        })
    }
}

fn fault_of_count(seen: u64, expected: u64, end: End) -> Option<String> {
    if end == End::OutOfTime {
        Some(format!("out of time after reading {seen} of {expected} records"))
    } else if seen < expected {
        Some(format!("LOST {} of {expected} records", expected - seen))
    } else if seen > expected {
        Some(format!("{} records too many", seen - expected))
    } else {
        None
    }
}
