//! Bugs that were fixed stay fixed: every file of `corpus/regressions/` is run again, and must pass.

use shaketable::artifact::{self, Artifact};
use shaketable::report::{self, Dress};
use shaketable::runner::RunOptions;
use shaketable::store::StoreKind;
use shaketable::strata::StrataKind;
use std::path::PathBuf;
use std::sync::Arc;

#[expect(clippy::disallowed_methods, reason = "artifacts are kept on the real disk")]
fn artifacts() -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(artifact::home()) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("a directory that can be listed").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    paths.sort();
    paths
}

#[test]
fn every_bug_that_was_fixed_stays_fixed() {
    let kind: Arc<dyn StoreKind> = Arc::new(StrataKind);
    let mut failures = String::new();
    for path in artifacts() {
        let artifact = Artifact::load(&path).unwrap_or_else(|message| panic!("{message}"));
        assert_eq!(artifact.plan.store, kind.name(), "{}", path.display());
        let report = artifact.run(&kind, &RunOptions::default());
        if let Some(failure) = &report.failure {
            let name = path.display().to_string();
            failures.push_str(&report::failure_block(&name, failure, report.planned, Dress::Plain));
            failures.push_str(&format!("  replay:   cargo shake replay {name}\n"));
        }
    }
    assert!(failures.is_empty(), "\n{failures}");
}
