//! One store on the table, from a program or a test: seed after seed until one fails, and then the failure, small and told.
//!
//! What this does not do: use more than one core, or keep anything on disk; that is for `shake run`.

use crate::report::{self, Dress};
use crate::rng::Decisions;
use crate::runner::{RunOptions, run_plan, run_seed};
use crate::scenario::Scenario;
use crate::shrink::shrink;
use crate::store::StoreKind;
use crate::workload;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// How long [`first_failure`] shrinks what it has found.
const SHRINK: Duration = Duration::from_secs(3);

/// Runs one seed after the other until one fails, shrinks that, and tells it as text: for those who shake an engine of their
/// own from a program or a test. `None` where no seed fails.
pub fn first_failure(scenario: &Scenario, kind: &Arc<dyn StoreKind>, seeds: Range<u64>) -> Option<String> {
    for seed in seeds {
        if run_seed(scenario, kind, seed, &RunOptions::default()).failure.is_none() {
            continue;
        }
        let mut decisions = Decisions::from_seed(seed);
        let plan = workload::plan(scenario, kind.as_ref(), &mut decisions);
        let options = RunOptions { record: true, ..RunOptions::default() };
        let report = run_plan(Arc::new(plan.clone()), kind, decisions, &options);
        let failure = report.failure.as_ref().expect("a seed does the same again");
        let shrunk = shrink(&plan, Some(seed), &report, kind, SHRINK, &mut |_| {});
        let name = format!("{}#{seed}", scenario.name);
        return Some(format!(
            "{}{}{}",
            report::failure_block(&name, failure, report.planned, Dress::Plain),
            report::shrunk_lines(&shrunk, None),
            report::artifact_lines(&shrunk.artifact),
        ));
    }
    None
}
