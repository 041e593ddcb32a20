//! Goal: what a person sees of the program `sapwood`, and how it ends, are as they are promised.
//!
//! Method: the built program runs over directories that the library has written, and its output is
//! compared with what stands here, `[..]` where it differs from run to run. To take over what it
//! prints now, and then read the difference: `SNAPSHOTS=overwrite cargo test --features cli --test cli`.

mod beside;
mod consume;
mod graduate;
mod groups;
mod help;
mod inspect;
mod measure;
mod produce;
mod refusals;
mod scene;
mod share_groups;
mod terminal;
mod top;
mod topics;
