//! Why a run fails: the story of what went wrong, and the ordering that is missing, in a sentence.
//!
//! Nothing is guessed. The run is run again with its last crash image changed one thing at a time: what was kept is lost, or the
//! power is cut at every earlier call. A pair of things is named only where the failure is gone once the order between them is
//! kept ([`edge`]). The story beside it is what the trace says of the files that this pair, the failure and the wrong key name
//! ([`mod@story`]).
//!
//! Nothing here knows a store: call sites come from the system calls, words about the inside of a store from its own events.
//!
//! Not told: why the code does what it does; and of a run with several causes, more than one.

mod edge;
mod film;
mod story;
#[cfg(test)]
mod tests;
mod words;

pub use edge::{Edge, Moment};
pub use film::Film;
pub use story::{Call, Happened, Step, Witnessed};

use crate::artifact::Artifact;
use crate::oracle::Finding;
use crate::rng::Decisions;
use crate::store::StoreKind;
use crate::workload::Plan;
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
    let witnessed = look(&artifact.plan, kind, artifact.script());
    let finding = witnessed.report.failure.as_ref()?.finding.clone();
    let edge = match &finding.missing {
        Some(missing) => Edge::Barrier { sentence: finding.symptom.clone(), missing: missing.clone() },
        None => edge::find(artifact, kind, &witnessed, &finding.fingerprint()),
    };
    let steps = story::steps(&witnessed, Some(&edge), &artifact.plan);
    Some(Explanation { finding, steps, edge, witnessed })
}

/// Runs a plan and looks at everything, whether or not it fails.
pub fn look(plan: &Plan, kind: &Arc<dyn StoreKind>, decisions: Decisions) -> Witnessed {
    story::witness(plan, kind, decisions)
}

/// The story of a run without any experiment: what it says of itself, and of the file and the key that a failure names.
pub fn story(witnessed: &Witnessed, plan: &Plan) -> Vec<Step> {
    story::steps(witnessed, None, plan)
}
