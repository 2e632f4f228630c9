//! The engines that are not ours: what is known to be wrong with them is found again, and what holds is seen to hold.
//!
//! Only built with the feature `foreign`.

use shaketable::artifact::Artifact;
use shaketable::foreign;
use shaketable::report::{self, Dress};
use shaketable::runner::{RunOptions, run_seed};
use shaketable::scenario::{self, Scenario};
use shaketable::store::StoreKind;
use shaketable::transfer::transfer;
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn kind_of(name: &str) -> Arc<dyn StoreKind> {
    foreign::kinds().into_iter().find(|kind| kind.name() == name).expect("a foreign store")
}

fn scenario_on(kind: &Arc<dyn StoreKind>, name: &str) -> Result<Scenario, String> {
    let scenario = Scenario::load(&scenario::home().join(name).with_extension("toml")).expect("a scenario of ours");
    transfer(scenario, kind.as_ref()).map(|transferred| transferred.scenario)
}

#[expect(clippy::disallowed_methods, reason = "artifacts are kept on the real disk")]
fn artifacts() -> Vec<PathBuf> {
    let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus/foreign");
    let entries = std::fs::read_dir(home).expect("the artifacts of foreign stores");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("a directory that can be listed").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    paths.sort();
    paths
}

#[test]
fn every_known_failure_of_a_foreign_store_still_fails_in_the_same_way() {
    let paths = artifacts();
    assert!(!paths.is_empty(), "there are known failures");
    for path in paths {
        let artifact = Artifact::load(&path).unwrap_or_else(|message| panic!("{message}"));
        let report = artifact.run(&kind_of(&artifact.plan.store), &RunOptions::default());
        let found = report.failure.map(|failure| failure.finding.fingerprint());
        assert_eq!(found.as_deref(), Some(artifact.fingerprint.as_str()), "{}", path.display());
    }
}

#[test]
fn redb_keeps_what_it_acknowledged_through_crashes_and_full_disks() {
    let kind = kind_of("redb");
    for name in [
        "nothing-goes-wrong",
        "power-cut-while-flushing",
        "process-dies-and-then-the-power-fails",
        "writes-are-torn-in-the-middle-of-a-sector",
        "disk-full-while-writing",
        "writes-fail-now-and-then",
    ] {
        let scenario = scenario_on(&kind, name).expect("a scenario for redb");
        for seed in 0..3 {
            let report = run_seed(&scenario, &kind, seed, &RunOptions::default());
            let name = format!("{}#{seed}", scenario.name);
            let told =
                report.failure.map(|failure| report::failure_block(&name, &failure, report.planned, Dress::Plain));
            assert_eq!(told, None);
            assert!(report.checks > 0, "{name} has judged answers");
        }
    }
}

#[test]
fn the_same_seed_of_a_foreign_store_does_the_same_twice() {
    for kind in foreign::kinds() {
        let scenario = scenario_on(&kind, "power-cut-while-flushing").expect("a scenario for both");
        let [one, two] = [(); 2].map(|()| run_seed(&scenario, &kind, 1, &RunOptions::default()).trace.hash);
        assert_eq!(one, two, "{}", kind.name());
    }
}

#[test]
fn a_scenario_that_says_nothing_about_a_store_is_refused_with_the_reason() {
    let refusal = |store: &str, name: &str| scenario_on(&kind_of(store), name).expect_err("it says nothing");
    assert_eq!(refusal("redb", "bits-flip-in-tables"), "redb promises nothing where a bit-flip strikes");
    assert_eq!(refusal("redb", "syncs-of-tables-fail"), "its fsync-error is meant for files that redb does not have");
    assert_eq!(
        refusal("rusty-leveldb", "syncs-succeed-and-do-nothing"),
        "rusty-leveldb promises nothing where a fsync-loss strikes"
    );
}
