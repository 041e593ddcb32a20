//! Behaviour as users see it, through the public API alone: one module per behaviour.

#![allow(clippy::disallowed_methods)] // tests set up and damage directories behind the crate's back

mod consume;
mod corruption;
mod directory;
#[cfg(feature = "sim")]
mod faults;
mod from_kafka;
mod groups;
mod known_bugs;
mod layering;
mod look_up;
mod members;
mod model;
mod offsets;
mod partitioner;
mod producer;
mod read_only;
mod real;
mod rebalance;
#[cfg(feature = "sim")]
mod scale;
mod share;
mod topics;
