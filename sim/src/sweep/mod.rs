//! The crash sweep: a workload runs once, power is cut at every place where it could hurt, and every canonical image that
//! a cut may leave is recovered and judged.
//!
//! Random seeds meet a crash at a few moments of a run, and one image of each. A sweep meets all moments ([`boundaries`]),
//! and at each of them all images that there is a name for ([`Cut`]). What makes that affordable: forking a disk shares all
//! bytes; equal images are recovered once; one world serves all recoveries ([`Recoverer`]); and a state is judged by its hash
//! ([`crate::oracle::History`]).
//!
//! Beside the canonical images there are those that recovery can tell apart, explored within a budget ([`lazy`]), and those
//! that show which order is missing between two changes ([`pairs`]); and power may go again within the recovery ([`nested`]).
//!
//! What is found becomes an ordinary run that strikes at that boundary and draws that image ([`Found`]), so that everything
//! which replays, shrinks and explains runs does so here.
//!
//! Not covered: other schedules than that of the seed; faults beside crashes; boundaries while the harness itself looks at
//! the store; what comes after the recovery; and of the images of a power cut those that are not canonical and beyond the
//! budget of the exploration, which the random seeds draw from.

mod boundaries;
mod cut;
mod lazy;
mod nested;
mod pairs;
mod parts;
mod recovery;
mod sweeper;
mod tally;
#[cfg(test)]
mod tests;

pub use boundaries::{Boundary, Recording, quiet, record};
pub use cut::Cut;
pub use parts::sweep_all;
pub use recovery::{Recoverer, Shown};
pub use sweeper::{How, Images, Memory, Subject, Sweeper, count, sweep};
pub use tally::{Found, Tally};
