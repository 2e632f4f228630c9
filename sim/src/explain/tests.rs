//! The missing barrier of a store that is known to lack one is named, by experiment.

use super::*;
use crate::rng::Decisions;
use crate::runner::toy::{Flaw, ToyKind};
use crate::runner::{RunOptions, run_plan};
use crate::scenario::Scenario;
use crate::shrink::shrink;
use crate::workload;
use std::time::Duration;

/// Without the sanitizer, which would see a missing barrier before a crash has made anything of it.
fn explained(flaw: Flaw, faults: &str) -> Explanation {
    explained_by("'oracle', 'invariants', 'liveness', 'idempotence'", flaw, faults)
}

fn explained_by(checks: &str, flaw: Flaw, faults: &str) -> Explanation {
    let kind: Arc<dyn StoreKind> = Arc::new(ToyKind(flaw));
    let text = format!("about = 'Tests.'\nclients = 1\nkeys = 8\nchecks = [{checks}]\nfaults = [{faults}]");
    let scenario = Scenario::parse("test", &text).expect("a scenario");
    for seed in 0..200 {
        let mut decisions = Decisions::from_seed(seed);
        let plan = workload::plan(&scenario, kind.as_ref(), &mut decisions);
        let options = RunOptions { record: true, ..RunOptions::default() };
        let report = run_plan(Arc::new(plan.clone()), &kind, decisions, &options);
        if report.failure.is_some() {
            let shrunk = shrink(&plan, Some(seed), &report, &kind, Duration::from_secs(10), &mut |_| {});
            assert!(shrunk.replays);
            return explain(&shrunk.artifact, &kind).expect("a failing run");
        }
    }
    panic!("{flaw:?} was not found");
}

const POWER: &str = "{ kind = 'power-loss', every_ops = [20, 200] }";

#[test]
fn a_missing_sync_of_a_file_is_named_with_the_acknowledgement_that_came_too_early() {
    let explanation = explained(Flaw::NoSync, POWER);
    let sentence = explanation.edge.sentence();
    let Edge::After { lost, moment: Moment::Acknowledged(op) } = &explanation.edge else {
        panic!("{sentence}\n{}", explanation.lines());
    };
    assert_eq!((lost.path.as_str(), lost.is_name), ("db/store.wal", false));
    assert!(op.starts_with("client 0"), "{op}");
    assert!(sentence.contains("a sync of db/store.wal is missing"), "{sentence}");
    let site = &explanation.edge.sites()[0];
    assert!(site.contains("toy.rs:"), "{site}");
    let story = explanation.lines();
    assert!(story.contains("POWER LOSS") && story.contains("lost: write db/store.wal"), "{story}");
}

#[test]
fn a_missing_sync_of_the_directory_is_named() {
    let explanation = explained(Flaw::NoDirSync, POWER);
    let sentence = explanation.edge.sentence();
    let (Edge::After { lost, .. } | Edge::Between { lost, .. }) = &explanation.edge else {
        panic!("{sentence}\n{}", explanation.lines());
    };
    assert_eq!((lost.what.as_str(), lost.is_name), ("rename db/store.tmp to db/store.wal", true));
    assert!(sentence.contains("a sync of the directory db is missing"), "{sentence}");
}

#[test]
fn a_failed_call_that_was_passed_over_is_named() {
    let explanation = explained(Flaw::ErrorSwallowed, "{ kind = 'io-error', on = 'write', chance = 0.05 }");
    assert!(matches!(&explanation.edge, Edge::Faults(faults) if faults[0].starts_with("write db/store.")));
}

#[test]
fn a_barrier_that_the_sanitizer_misses_is_named_with_its_line() {
    let failing = "{ kind = 'fsync-error', mode = 'clean-keep-new', chance = 0.1 }";
    let explanation = explained_by("'barriers'", Flaw::SyncRetried, failing);
    let sentence = explanation.edge.sentence();
    assert!(sentence.starts_with("No crash is needed to see it: ") && sentence.contains(". Missing: "), "{sentence}");
    let sites = explanation.edge.sites();
    assert!(sites.len() == 2 && sites.iter().all(|site| site.contains("toy.rs:")), "{sites:?}");
}

#[test]
fn damage_that_a_store_does_not_notice_is_named() {
    // The toy has no checksums.
    let explanation = explained(Flaw::None, "{ kind = 'bit-flip', every_ops = [10, 60], budget = 1 }");
    let sentence = explanation.edge.sentence();
    assert!(matches!(&explanation.edge, Edge::Damage(damage) if damage.starts_with("bit ")), "{sentence}");
    assert!(sentence.contains(" of db/store.wal flipped before call "), "{sentence}");
}

#[test]
fn a_store_that_is_wrong_by_itself_is_told_from_one_that_a_crash_makes_wrong() {
    assert_eq!(explained(Flaw::LimitIgnored, POWER).edge, Edge::Alone);
}
