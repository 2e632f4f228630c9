//! Exploration in order: where random seeds hope, these go through a space of runs one by one and say what they covered.
//!
//! | strategy | what it goes through |
//! |---|---|
//! | [`exhaust`] | every sequence of a few operations up to a length, crashed everywhere |
//! | [`nth`] | every call to the file system, failed in every way |
//! | [`schedules`] | every schedule with at most so many departures from the plain one |
//! | [`metamorphic`] | sets of options under which the same must be answered |
//!
//! Each makes [`Trial`]s, which are ordinary runs of a plan with some of their decisions given, or sweeps runs and makes such a
//! run of each failure ([`crate::sweep`]), so that what one finds replays, shrinks and becomes an artifact like any other.
//! Swarms, random schedules and crashes at random are in [`crate::workload`] and [`crate::scheduler`].

pub mod exhaust;
pub mod metamorphic;
pub mod nth;
pub mod schedules;

mod trial;

pub use trial::{Found, Trial, spread};
