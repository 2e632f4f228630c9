//! Why a run fails: the story of what went wrong, and the ordering that is missing, in a sentence.
//!
//! Nothing is guessed. The run is run again with its last crash image changed one thing at a time: what was kept is lost, or the
//! power is cut at every earlier call. A pair of things is named only where the failure is gone once the order between them is
//! kept ([`edge`]). The story beside it is what the trace says of the files that this pair, the failure and the wrong key name
//! ([`story`]).
//!
//! Nothing here knows a store: call sites come from the system calls, words about the inside of a store from its own events.
//!
//! Not told: why the code does what it does; and of a run with several causes, more than one.

mod edge;
mod story;
#[cfg(test)]
mod tests;
mod words;

pub use edge::{Edge, Moment};
pub use story::{Step, Witnessed};

use crate::artifact::Artifact;
use crate::oracle::Finding;
use crate::store::StoreKind;
use std::sync::Arc;

/// A failure, explained.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// What was found.
    pub finding: Finding,
    /// What happened, in order, as far as it has to do with it.
    pub steps: Vec<Step>,
    /// What went before what, though it must not.
    pub edge: Edge,
    /// The run as it was seen.
    pub witnessed: Witnessed,
}

/// Explains a failing run; a small one ([`crate::shrink`]) is explained best. `None` where it does not fail.
pub fn explain(artifact: &Artifact, kind: &Arc<dyn StoreKind>) -> Option<Explanation> {
    let witnessed = story::witness(&artifact.plan, kind, &artifact.decisions);
    let finding = witnessed.report.failure.as_ref()?.finding.clone();
    let edge = edge::find(artifact, kind, &witnessed, &finding.fingerprint());
    let steps = story::steps(&witnessed, &edge, &finding, &artifact.plan);
    Some(Explanation { finding, steps, edge, witnessed })
}
