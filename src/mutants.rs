//! Faults planted in the crate on purpose, to see whether its tests notice (reliability contract,
//! section 3, negative controls). Feature `mutants`; without it nothing is ever planted, and what asks
//! compiles to nothing.

#[cfg(feature = "mutants")]
use std::cell::Cell;

/// A mistake that a store like this can be built with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "each says what it does")]
#[cfg_attr(not(feature = "mutants"), allow(unreachable_pub))]
pub enum Mutant {
    SkipsDirectorySync,
    AnswersBeforeSync,
    RepeatsFailedSync,
    LeavesHeaderUnchecked,
    TruncatesBelowWatermark,
    RenamesWithoutSync,
    KeepsTailBeforeFirstAppend,
    SyncAnswersForUnfinishedWrites,
}

#[cfg(feature = "mutants")]
thread_local! {
    static PLANTED: Cell<Option<Mutant>> = const { Cell::new(None) };
}

/// As long as it lives, its mutant works on the thread that planted it, and on no other.
#[cfg(feature = "mutants")]
#[derive(Debug)]
#[must_use]
pub struct Planted(());

/// Plants a mutant in place of the one before.
#[cfg(feature = "mutants")]
pub fn plant(mutant: Mutant) -> Planted {
    PLANTED.set(Some(mutant));
    Planted(())
}

#[cfg(feature = "mutants")]
impl Drop for Planted {
    fn drop(&mut self) {
        PLANTED.set(None);
    }
}

/// Whether a mutant is at work.
#[cfg(feature = "mutants")]
pub(crate) fn is_planted(mutant: Mutant) -> bool {
    PLANTED.get() == Some(mutant)
}

/// Whether a mutant is at work.
#[cfg(not(feature = "mutants"))]
#[inline]
pub(crate) const fn is_planted(_: Mutant) -> bool {
    false
}
