//! The sweep, swept: a right store passes whole, a store that forgets a sync does not, and what is found is an ordinary run.

use super::*;
use crate::rng::Decisions;
use crate::runner::RunOptions;
use crate::runner::toy::{Flaw, ToyKind};
use crate::scenario::Scenario;
use crate::store::StoreKind;
use crate::strata::StrataKind;
use crate::workload;
use std::sync::Arc;

fn subject(kind: Arc<dyn StoreKind>, text: &str, seed: u64) -> Subject {
    let scenario = Scenario::parse("test", &format!("about = 'Tests.'\n{text}")).expect("a scenario");
    let plan = workload::plan(&scenario, kind.as_ref(), &mut Decisions::from_seed(seed));
    Subject { plan: Arc::new(quiet(&plan, kind.as_ref())), seed, kind, torn: false }
}

fn toy(flaw: Flaw, profile: &str, seed: u64) -> Subject {
    let text = format!(
        "profile = '{profile}'\nclients = [1, 2]\nkeys = [4, 20]\nops = 25\nvalue_bytes = 600\n\
         options = {{ durability = ['always', 'buffered'] }}"
    );
    subject(Arc::new(ToyKind(flaw)), &text, seed)
}

fn words(tally: &Tally) -> Vec<String> {
    let failures = tally.failures.values();
    failures.map(|(found, _)| format!("{} {:?}", found.finding.symptom, found.crashes)).collect()
}

/// Whether an ordinary run of the artifact finds the same.
fn repeats(subject: &Subject, found: &Found) -> bool {
    let report = found.artifact.run(&subject.kind, &RunOptions::default());
    report.failure.is_some_and(|failure| failure.finding.fingerprint() == found.artifact.fingerprint)
}

#[test]
fn a_store_without_a_flaw_is_swept_whole_under_every_profile() {
    for profile in ["strict-min", "process-crash", "ext4-ordered", "posix-weak", "lying-fsync"] {
        for seed in 0..3 {
            let how = How { depth: 3, pairs: true, ..How::default() };
            let tally = sweep(&toy(Flaw::None, profile, seed), &how);
            assert_eq!(words(&tally), [""; 0], "{profile}, seed {seed}");
            assert!(tally.lazy_whole <= tally.total && tally.lazy >= tally.total, "{tally:?}");
            assert_eq!((tally.boundaries, tally.images), (tally.total, tally.images_legal));
            assert!(tally.total > 30, "{} boundaries", tally.total);
            assert!(tally.distinct.len() as u64 <= tally.recoveries, "{tally:?}");
        }
    }
}

#[test]
fn forgotten_syncs_are_noticed_and_become_runs_that_fail_in_the_same_way() {
    for flaw in [Flaw::NoDirSync, Flaw::NoSync, Flaw::SyncIsEmpty, Flaw::HalfBatch, Flaw::AckEarly] {
        for (images, pairs) in [(Images::Canonical, false), (Images::Lazy, false), (Images::All, true)] {
            let mut repeated = 0;
            let mut failures = 0;
            for seed in 0..4 {
                let subject = toy(flaw, "posix-weak", seed);
                let tally = sweep(&subject, &How { images, pairs, ..How::default() });
                for (found, _) in tally.failures.values() {
                    failures += 1;
                    repeated += u64::from(repeats(&subject, found));
                }
            }
            assert!(failures > 0, "{flaw:?} was not noticed with {images:?}");
            assert_eq!(repeated, failures, "{flaw:?}, {images:?}: not every failure is repeated by its artifact");
        }
    }
}

#[test]
fn a_directory_that_is_not_synced_is_named_by_the_line_that_relied_on_it() {
    insta::assert_snapshot!(what_is_missing(Flaw::NoDirSync), @"missing sync: rename db/store.tmp to db/store.wal at sim/src/runner/toy.rs: can be lost, and what was promised rests on it");
}

#[test]
fn a_file_that_is_renamed_before_it_is_synced_is_named_as_an_order_that_is_missing() {
    insta::assert_snapshot!(what_is_missing(Flaw::RenamedFirst), @"missing order: rename db/store.tmp to db/store.wal at sim/src/runner/toy.rs: can be durable before write db/store.wal @+ at sim/src/runner/toy.rs:");
}

/// What the first failure says is missing, without the numbers of lines.
fn what_is_missing(flaw: Flaw) -> String {
    let tally = sweep(&toy(flaw, "posix-weak", 1), &How::default());
    let mut details = tally.failures.values().flat_map(|(found, _)| &found.finding.details);
    details.find(|detail| detail.starts_with("missing")).expect("what is missing").replace(char::is_numeric, "")
}

#[test]
fn what_recovery_does_not_read_does_not_branch() {
    let subject = toy(Flaw::None, "posix-weak", 0);
    let lazy = sweep(&subject, &How { images: Images::Lazy, ..How::default() });
    assert_eq!(words(&lazy), [""; 0]);
    assert_eq!(lazy.lazy_whole, lazy.total, "a small workload is explored to its end");
}

#[test]
fn the_parts_of_a_sweep_add_up_to_the_whole() {
    let subject = toy(Flaw::NoDirSync, "posix-weak", 1);
    let whole = sweep(&subject, &How::default());
    let total = count(&subject);
    let mut sum = Tally::default();
    for range in [0..total / 3, total / 3..total / 2, total / 2..total] {
        sum.merge(sweep(&subject, &How { range, ..How::default() }));
    }
    assert_eq!((sum.boundaries, sum.total, sum.images), (whole.boundaries, whole.total, whole.images));
    assert_eq!(sum.distinct, whole.distinct);
    assert_eq!(sum.failures.keys().collect::<Vec<_>>(), whole.failures.keys().collect::<Vec<_>>());
}

#[test]
fn a_small_workload_of_the_engine_is_swept_whole() {
    let text = "clients = 2\nkeys = 8\nops = 40\nvalue_bytes = 300\nswarm = 'none'\n\
                options = { memtable_bytes = 1024, table_bytes = 512, durability = ['always', 'buffered'] }";
    let tally = sweep(&subject(Arc::new(StrataKind), text, 1), &How { depth: 1, ..How::default() });
    assert_eq!(words(&tally), [""; 0]);
    assert_eq!((tally.boundaries, tally.images), (tally.total, tally.images_legal));
    assert!(tally.distinct.len() > 500, "{} images", tally.distinct.len());
}
