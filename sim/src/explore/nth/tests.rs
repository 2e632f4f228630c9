//! Every call fails in turn: a right store bears it, and each flaw in the handling of errors is found.

use super::*;
use crate::runner::toy::{Flaw, ToyKind};

fn first_finding(flaw: Flaw) -> String {
    let kind: Arc<dyn StoreKind> = Arc::new(ToyKind(flaw));
    let nth = explore(&small_plan(kind.as_ref()), &kind, 1, None);
    nth.found().next().map_or_else(
        || "nothing".into(),
        |found| {
            let failure = found.report.failure.as_ref().expect("a trial that failed");
            format!("{}, at {}", failure.finding.fingerprint(), found.what)
        },
    )
}

#[test]
fn a_store_without_a_flaw_survives_every_failure_of_every_call() {
    let kind: Arc<dyn StoreKind> = Arc::new(ToyKind(Flaw::None));
    let nth = explore(&small_plan(kind.as_ref()), &kind, 1, None);
    let found: Vec<String> = nth.found().map(|found| format!("{}: {:?}", found.what, found.report.failure)).collect();
    assert_eq!(found, Vec::<String>::new());
    assert!(nth.loops.len() == nth.loops_all && nth.loops.iter().all(|fails| fails.whole), "{}", nth.text());
    // Each write to the log fails in turn: 8 writes by the workload, and what the harness adds is not among them.
    let writes = |way: &str| {
        let is = |fails: &&Loop| fails.class == FileClass::Wal && fails.op == FsOp::Write && fails.way == way;
        nth.loops.iter().filter(is).map(|fails| fails.points).max()
    };
    assert_eq!(writes("io"), Some(9), "{}", nth.text());
    assert!(nth.points() > 300, "{}", nth.text());
}

#[test]
fn writes_take_nothing_and_files_run_out_until_nobody_is_refused() {
    let kind: Arc<dyn StoreKind> = Arc::new(ToyKind(Flaw::None));
    let nth = explore(&small_plan(kind.as_ref()), &kind, 1, None);
    let points = |way: &str| -> Vec<u64> {
        nth.loops.iter().filter(|fails| fails.way == way).map(|fails| fails.points).collect()
    };
    // The log and the file that takes its place, each once and sticky, with and without a power loss: as with any error.
    assert_eq!(points("nothing, and no error").iter().max(), points("no-space").iter().max(), "{}", nth.text());
    assert!(points("nothing, and no error").iter().all(|points| *points > 0), "{}", nth.text());
    // None at all, one, and so on, up to the most that the toy has open at once.
    let limits = points(TOO_MANY_FILES);
    assert_eq!(limits, [2, 2], "{}", nth.text());
}

#[test]
fn flaws_in_the_handling_of_errors_are_found_by_failing_each_call() {
    let flaws = [Flaw::ErrorSwallowed, Flaw::SyncRetried, Flaw::LockKept, Flaw::Panics, Flaw::NeverRecovers];
    let found: Vec<String> = flaws.iter().map(|flaw| format!("{flaw:?}: {}", first_finding(*flaw))).collect();
    insta::assert_snapshot!(found.join("\n"), @r"
    ErrorSwallowed: acknowledged-write-lost (after close and open), at io at call 3 of write on wal
    SyncRetried: missing-barrier (R7 used after a failed sync), at clean-keep-new at call 1 of sync-data on wal
    LockKept: deadlock (while running), at io at call 1 of write on wal
    Panics: panic (while running, in sim/src/runner/toy.rs), at io at call 1 of open on wal
    NeverRecovers: error-without-a-cause (read-only), at io at call 1 of open on wal
    ");
}

#[test]
fn what_it_finds_replays_from_its_artifact() {
    let kind: Arc<dyn StoreKind> = Arc::new(ToyKind(Flaw::ErrorSwallowed));
    let nth = explore(&small_plan(kind.as_ref()), &kind, 1, None);
    let found = nth.found().next().expect("the flaw is found");
    let shrunk = crate::shrink::shrink(
        &found.trial.plan,
        None,
        &found.report,
        &kind,
        std::time::Duration::from_secs(2),
        &mut |_| {},
    );
    assert!(shrunk.replays && shrunk.artifact.plan.ops() <= 2, "{:?}", shrunk.artifact);
    let again = crate::artifact::Artifact::parse(&shrunk.artifact.to_text()).expect("an artifact reads back");
    let failure = again.run(&kind, &crate::runner::RunOptions::default()).failure.expect("it fails again");
    assert_eq!(failure.finding.fingerprint(), shrunk.artifact.fingerprint);
}
