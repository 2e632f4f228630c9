//! Small explorations of Strata that are gone through whole: what a campaign of `shake` does at length.

use shaketable::disk::Profile;
use shaketable::explore::{Found, exhaust, metamorphic, nth, schedules};
use shaketable::report::{self, Dress};
use shaketable::scenario::Scenario;
use shaketable::shrink::shrink;
use shaketable::store::StoreKind;
use shaketable::strata::StrataKind;
use std::sync::Arc;
use std::time::Duration;

/// Fails with everything that was found, shrunk.
fn expect_nothing(found: &mut dyn Iterator<Item = &Found>, kind: &Arc<dyn StoreKind>) {
    let mut text = String::new();
    for found in found {
        let failure = found.report.failure.as_ref().expect("what was found is a failure");
        let shrunk = shrink(&found.trial.plan, None, &found.report, kind, Duration::from_secs(2), &mut |_| {});
        text.push_str(&report::failure_block(&found.what, failure, found.report.planned, Dress::Plain));
        text.push_str(&report::shrunk_lines(&shrunk, None));
        text.push_str(&shrunk.artifact.to_text());
    }
    assert!(text.is_empty(), "\n{text}");
}

#[test]
fn every_call_of_a_small_workload_fails_in_every_way() {
    let kind: Arc<dyn StoreKind> = Arc::new(StrataKind);
    let explored = nth::explore(&nth::small_plan(kind.as_ref()), &kind, 1, None);
    expect_nothing(&mut explored.found(), &kind);
    assert!(explored.loops.len() == explored.loops_all && explored.loops.iter().all(|fails| fails.whole));
    assert!(explored.points() > 2000, "{}", explored.text());
}

#[test]
fn every_sequence_of_three_operations_is_crashed_everywhere() {
    let kind: Arc<dyn StoreKind> = Arc::new(StrataKind);
    let explored = exhaust::explore(&kind, Profile::PosixWeak, 3, 1, None);
    let found: Vec<String> = explored.found().map(|(found, _)| found.artifact.to_text()).collect();
    assert!(found.is_empty(), "{}\n{}", explored.text(), found.join("\n"));
    assert!(explored.is_whole() && explored.covered() > 700, "{}", explored.text());
    assert!(explored.sum.distinct.len() > 5000, "{}", explored.text());
}

#[test]
fn every_schedule_of_two_clients_with_one_departure_runs() {
    let kind: Arc<dyn StoreKind> = Arc::new(StrataKind);
    let search = schedules::explore(&schedules::small_plan(kind.as_ref()), &kind, (1, false), 1, None);
    expect_nothing(&mut search.found.iter(), &kind);
    assert!(search.is_whole() && search.covered() > 300, "{}", search.text());
}

#[test]
fn the_same_is_answered_under_other_options() {
    let kind: Arc<dyn StoreKind> = Arc::new(StrataKind);
    let scenario = Scenario::parse("options", "about = 'A'\nclients = [1, 3]").expect("a scenario");
    let explored = metamorphic::explore(&scenario, &kind, (0..20, 3), 1, None);
    expect_nothing(&mut explored.found.iter(), &kind);
    assert!(explored.runs == 80 && explored.answers > 3000, "{}", explored.text());
}
