//! Flaws of the toy store show in the answers under other options, and a right store gives the same.

use super::*;
use crate::artifact::Artifact;
use crate::runner::toy::{Flaw, ToyKind};
use crate::shrink::shrink;
use std::time::Duration;

fn scenario() -> Scenario {
    let text = "about = 'A'\nclients = [1, 3]\nops = [20, 60]\nfaults = [{ kind = 'power-loss', every_ops = 20 }]\n\
                options = { durability = 'always' }";
    Scenario::parse("options", text).expect("a scenario")
}

fn run(flaw: Flaw) -> (Metamorphic, Arc<dyn StoreKind>) {
    let kind: Arc<dyn StoreKind> = Arc::new(ToyKind(flaw));
    (explore(&scenario(), &kind, (0..40, 2), 1, None), kind)
}

#[test]
fn a_store_without_a_flaw_answers_the_same_under_all_options() {
    let (explored, _) = run(Flaw::None);
    let found: Vec<_> = explored.found.iter().map(|found| &found.report.failure).collect();
    assert!(found.is_empty(), "{found:?}");
    assert_eq!((explored.seeds, explored.runs), (40, 120));
    assert!(explored.answers > 1000, "{} answers", explored.answers);
}

#[test]
fn what_no_single_run_can_show_is_found_shrunk_and_replayed_from_its_artifact() {
    let (explored, kind) = run(Flaw::NumbersByOptions);
    let found = explored.found.first().expect("the flaw is found");
    let finding = &found.report.failure.as_ref().expect("a trial that failed").finding;
    assert_eq!(finding.fingerprint(), "answers-differ (under other options)");
    let shrunk = shrink(&found.trial.plan, None, &found.report, &kind, Duration::from_secs(5), &mut |_| {});
    let plan = &shrunk.artifact.plan;
    assert_eq!((plan.ops(), plan.variants.len()), (1, 1), "{}", shrunk.artifact.to_text());
    let again = Artifact::parse(&shrunk.artifact.to_text()).expect("an artifact reads back");
    let failure = again.run(&kind, &RunOptions::default()).failure.expect("it fails again");
    assert_eq!(failure.finding.fingerprint(), shrunk.artifact.fingerprint);
}
