//! A fuzzer's bytes as a row of small decisions.

/// What is left of them. When nothing is, the row ends.
#[derive(Debug, Clone)]
pub(super) struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// A number below a limit; 0 if the limit is 0.
    pub(super) fn below(&mut self, limit: usize) -> Option<usize> {
        let number = match limit {
            0..=0x100 => usize::from(self.byte()?),
            _ => usize::from(u16::from_be_bytes([self.byte()?, self.byte()?])),
        };
        Some(number.checked_rem(limit).unwrap_or(0))
    }

    /// One of several.
    pub(super) fn choose<T: Copy>(&mut self, among: &[T]) -> Option<T> {
        let number = self.below(among.len())?;
        among.get(number).copied()
    }

    /// As many bytes as there are, but no more than a number.
    pub(super) fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }
}
