//! Schedules are counted and covered, and a store with a race is found by them.

use super::*;
use crate::runner::toy::{Flaw, ToyKind};

fn kind(flaw: Flaw) -> Arc<dyn StoreKind> {
    Arc::new(ToyKind(flaw))
}

fn plan(clients: [&str; 2]) -> Plan {
    let mut plan = small_plan(&ToyKind(Flaw::None));
    let ops = |text: &str| text.lines().map(|line| Op::parse(line).expect("an operation")).collect();
    plan.clients = clients.map(ops).to_vec();
    plan
}

#[test]
fn every_schedule_runs_once_and_the_number_of_each_level_is_known_before_it_runs() {
    let kind = kind(Flaw::None);
    let search = explore(&plan(["put k0 = #2:4", "get k0"]), &kind, (2, false), 1, None);
    assert!(search.found.is_empty() && search.is_whole(), "{:?}", search.levels);
    assert_eq!(search.levels[0], Level { total: 1, covered: 1, alike: 0 });
    // No schedule is run twice: each has a trace of its own, as every switch is an event.
    assert_eq!(search.levels.iter().map(|level| level.alike).sum::<u64>(), 0);
    assert!(search.levels[2].total > search.levels[1].total, "{:?}", search.levels);
    let named = explore(&plan(["put k0 = #2:4", "get k0"]), &kind, (2, true), 1, None);
    assert!(named.covered() < search.covered(), "{:?} and {:?}", named.levels, search.levels);
}

#[test]
fn a_bug_that_needs_a_preemption_is_found_with_one_and_not_with_none() {
    let plan = plan(["put k0 = #2:4", "put k1 = #3:4"]);
    let found = |bound: usize| {
        let search = explore(&plan, &kind(Flaw::Unguarded), (bound, false), 1, None);
        assert!(search.is_whole(), "{:?}", search.levels);
        search.found.first().map(|found| {
            let finding = &found.report.failure.as_ref().expect("a trial that failed").finding;
            format!("{} with {}", finding.fingerprint(), found.what)
        })
    };
    assert_eq!(found(0), None);
    insta::assert_snapshot!(found(1).expect("it is found"), @"acknowledged-write-lost (after close and open) with 1 departures");
}

#[test]
fn time_that_is_up_leaves_a_level_open_and_says_so() {
    let deadline = Some(real_now());
    let search = explore(&small_plan(&ToyKind(Flaw::None)), &kind(Flaw::None), (2, false), 1, deadline);
    assert!(!search.is_whole() && search.covered() == 0, "{:?}", search.levels);
    assert!(search.text().contains("not covered: 1 to 2 departures"), "{}", search.text());
}
