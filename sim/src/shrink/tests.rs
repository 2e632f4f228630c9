//! Failures of a broken toy store become small, stay the same failure, and outlive a trip through their file.

use super::*;
use crate::runner::toy::{Flaw, ToyKind};
use crate::scenario::Scenario;
use crate::workload;

const TIME: Duration = Duration::from_secs(10);

fn scenario(faults: &str) -> Scenario {
    let text = format!("about = 'Tests.'\nclients = [1, 4]\nkeys = [4, 40]\nfaults = [{faults}]");
    Scenario::parse("test", &text).expect("a scenario")
}

/// The first seed that fails, shrunk.
fn first_failure(flaw: Flaw, faults: &str) -> (Shrunk, Arc<dyn StoreKind>) {
    let kind: Arc<dyn StoreKind> = Arc::new(ToyKind(flaw));
    let scenario = scenario(faults);
    for seed in 0..200 {
        let mut decisions = Decisions::from_seed(seed);
        let plan = workload::plan(&scenario, kind.as_ref(), &mut decisions);
        let options = RunOptions { record: true, ..RunOptions::default() };
        let report = run_plan(Arc::new(plan.clone()), &kind, decisions, &options);
        if report.failure.is_some() {
            return (shrink(&plan, Some(seed), &report, &kind, TIME, &mut |_| {}), kind);
        }
    }
    panic!("{flaw:?} was not found");
}

#[test]
fn a_failure_becomes_a_few_operations_and_its_file_repeats_it() {
    let power = "{ kind = 'power-loss', every_ops = [20, 200] }";
    let cases = [
        (Flaw::NoSync, power, 2),
        (Flaw::HalfBatch, power, 2),
        (Flaw::DeletesForgotten, power, 3),
        (Flaw::LimitIgnored, power, 4),
        (Flaw::UnsortedScan, power, 8),
        (Flaw::Truncates, power, 2),
        (Flaw::ErrorSwallowed, "{ kind = 'io-error', on = 'write', chance = 0.05 }", 3),
    ];
    for (flaw, faults, ops_max) in cases {
        let (shrunk, kind) = first_failure(flaw, faults);
        assert!(shrunk.replays, "{flaw:?}: the recorded decisions repeat it");
        let artifact = Artifact::parse(&shrunk.artifact.to_text()).expect("an artifact reads back");
        let text = artifact.to_text();
        assert!(artifact.plan.ops() <= ops_max, "{flaw:?}: {} operations\n{text}", artifact.plan.ops());
        let report = artifact.run(&kind, &RunOptions::default());
        let failure = report.failure.unwrap_or_else(|| panic!("{flaw:?} passes as an artifact\n{text}"));
        assert_eq!(failure.finding.fingerprint(), artifact.fingerprint, "{flaw:?}");
        let fixed: Arc<dyn StoreKind> = Arc::new(ToyKind(Flaw::None));
        let report = artifact.run(&fixed, &RunOptions::default());
        assert!(report.failure.is_none(), "{flaw:?}: the file passes once the bug is fixed\n{text}");
    }
}

#[test]
fn what_a_crash_lost_is_listed_and_one_loss_is_left() {
    let (shrunk, kind) = first_failure(Flaw::NoSync, "{ kind = 'power-loss', every_ops = [20, 200] }");
    assert!(shrunk.before.lost >= 1 && shrunk.after.lost == 1, "{:?} -> {:?}", shrunk.before, shrunk.after);
    let decisions = &shrunk.artifact.decisions;
    let loss = decisions.iter().find(|decision| is_loss(decision)).expect("one is left");
    assert_eq!(loss.label, "crash.lose write db/store.wal");
    // Without the loss there is nothing to be seen.
    let kept: Vec<Decision> = decisions.iter().filter(|decision| !is_loss(decision)).cloned().collect();
    let artifact = Artifact { decisions: kept, ..shrunk.artifact.clone() };
    assert!(artifact.run(&kind, &RunOptions::default()).failure.is_none());
}

#[test]
fn several_clients_become_one_and_every_smaller_run_is_told() {
    let kind: Arc<dyn StoreKind> = Arc::new(ToyKind(Flaw::HalfBatch));
    let text = "about = 'Tests.'\nclients = 4\nkeys = 40\nfaults = [{ kind = 'power-loss', every_ops = [20, 200] }]";
    let scenario = Scenario::parse("test", text).expect("a scenario");
    let options = RunOptions { record: true, ..RunOptions::default() };
    let (plan, report) = (0..100)
        .map(|seed| {
            let mut decisions = Decisions::from_seed(seed);
            let plan = workload::plan(&scenario, kind.as_ref(), &mut decisions);
            let report = run_plan(Arc::new(plan.clone()), &kind, decisions, &options);
            (plan, report)
        })
        .find(|(_, report)| report.failure.is_some())
        .expect("half batches are found");
    let mut told = Vec::new();
    let shrunk = shrink(&plan, None, &report, &kind, TIME, &mut |progress| told.push(progress));
    assert_eq!(shrunk.artifact.plan.clients.len(), 1);
    assert_eq!(told.last().map(|last| last.size), Some(shrunk.after));
    assert!(told.windows(2).all(|pair| pair[0].runs < pair[1].runs));
}
