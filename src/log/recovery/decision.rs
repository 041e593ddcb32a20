//! The decision table of recovery: facts about one segment, in; what to do with it, out.
//!
//! | the scan ended at       | next segment | watermark        | decision |
//! |-------------------------|--------------|------------------|----------|
//! | anything                | any          | not reached      | refuse: safely stored records are gone |
//! | end of file             | none or fits | reached, unknown | keep |
//! | zeros                   | none or fits | reached, unknown | drop the zeros |
//! | first offset of the next| fits         | reached, unknown | drop the rest: the next one has it |
//! | the same, other records | any          | any              | refuse: one of the two is foreign |
//! | end of file, zeros      | gap          | reached          | end the log here, set the rest aside |
//! | no batch                | none         | reached, unknown | end the log here, quarantine the tail |
//! | no batch                | any          | reached          | the same, and set the rest aside |
//! | no batch, or a gap      | any          | unknown          | refuse: nothing vouches for a cut |
//!
//! *Fits* means that the next segment begins with the offset at which this one ends. *Reached* means
//! that the scan came at least as far as the watermark, the offset below which everything was
//! synced; above it, loss is what the disk was allowed to do (contract, clauses 3 and 13). The last
//! segment with nothing known about the watermark is treated as Kafka treats it: the tail of an
//! unfinished write is cut off. Its bytes are kept beside the log in any case.

use crate::mutants::{Mutant, is_planted};

/// Where the scan of a segment ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    EndOfFile,
    Zeros,
    /// At the batch with which the next segment begins, which has all that follows.
    NextSegment,
    /// At an offset with which the next segment begins, but not with the same records.
    Overlap,
    NoBatch,
}

/// How the segment after it goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Following {
    /// There is none: this is the active segment.
    None,
    Fits,
    Gap,
}

/// Whether the scan came as far as the watermark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Watermark {
    Reached,
    NotReached,
    /// The checkpoint is lost.
    Unknown,
}

/// What becomes of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    /// As it is; go on with the next.
    Keep,
    /// Up to here; what follows in the file is worth nothing. Go on with the next.
    Trim,
    /// The log ends here. What follows in the file is quarantined, later segments are set aside.
    EndHere,
    /// Damage to what was safe: change nothing.
    Refuse,
}

/// See the table above.
pub(crate) fn decide(ending: Ending, following: Following, watermark: Watermark) -> Decision {
    if watermark == Watermark::NotReached && is_planted(Mutant::TruncatesBelowWatermark) {
        return Decision::EndHere;
    }
    match (ending, following, watermark) {
        (_, _, Watermark::NotReached) | (Ending::Overlap, _, _) => Decision::Refuse,
        (Ending::EndOfFile, Following::None | Following::Fits, _) => Decision::Keep,
        (Ending::Zeros, Following::None | Following::Fits, _)
        | (Ending::NextSegment, Following::Fits, _) => Decision::Trim,
        (Ending::NoBatch, Following::None, _) | (_, _, Watermark::Reached) => Decision::EndHere,
        (_, _, Watermark::Unknown) => Decision::Refuse,
    }
}

/// Whether what was found above the watermark has to be written anew and synced before it is served.
///
/// After a failed sync the page cache may show what never reached the disk, and another sync of the
/// same pages would not tell (clause 9). Under `Fsync` nothing is served unsynced, and a sync in this
/// process cannot answer for the writes of another; its tail is short, so it is always carried over.
pub(crate) fn must_carry(
    fsync_topic: bool,
    sync_failed: bool,
    found_above_watermark: bool,
) -> bool {
    found_above_watermark && (fsync_topic || sync_failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENDINGS: [Ending; 5] =
        [Ending::EndOfFile, Ending::Zeros, Ending::NextSegment, Ending::Overlap, Ending::NoBatch];
    const FOLLOWING: [Following; 3] = [Following::None, Following::Fits, Following::Gap];
    const WATERMARKS: [Watermark; 3] =
        [Watermark::Reached, Watermark::NotReached, Watermark::Unknown];

    /// The contract, said independently of the table, for every combination of facts.
    #[test]
    fn every_combination_of_facts_keeps_the_contract() {
        for ending in ENDINGS {
            for following in FOLLOWING {
                for watermark in WATERMARKS {
                    check(ending, following, watermark);
                }
            }
        }
    }

    fn check(ending: Ending, following: Following, watermark: Watermark) {
        let decision = decide(ending, following, watermark);
        let facts = (ending, following, watermark);
        if watermark == Watermark::NotReached {
            assert_eq!(decision, Decision::Refuse, "synced records may not vanish: {facts:?}");
            return;
        }
        if ending == Ending::Overlap {
            assert_eq!(decision, Decision::Refuse, "nothing a crash can leave: {facts:?}");
            return;
        }
        let whole = ending != Ending::NoBatch && following != Following::Gap;
        if whole && !(ending == Ending::NextSegment && following == Following::None) {
            let goes_on = matches!(decision, Decision::Keep | Decision::Trim);
            assert!(goes_on, "nothing is missing: {facts:?}");
            assert_eq!(decision == Decision::Keep, ending == Ending::EndOfFile, "{facts:?}");
        } else {
            // Something is missing or damaged. The log may not go on past it,
            assert!(matches!(decision, Decision::EndHere | Decision::Refuse), "{facts:?}");
            // and later segments are given up only if the watermark allows it.
            if following != Following::None && watermark == Watermark::Unknown {
                assert_eq!(decision, Decision::Refuse, "{facts:?}");
            }
            if watermark == Watermark::Reached {
                assert_eq!(decision, Decision::EndHere, "a torn tail never blocks: {facts:?}");
            }
        }
    }

    #[test]
    fn an_unsynced_tail_is_carried_over_where_a_sync_could_lie() {
        for (fsync, failed, found, carried) in [
            (true, true, true, true),
            (true, false, true, true),
            (false, true, true, true),
            (false, false, true, false),
            (true, true, false, false),
            (true, false, false, false),
            (false, true, false, false),
            (false, false, false, false),
        ] {
            assert_eq!(must_carry(fsync, failed, found), carried);
        }
    }
}
