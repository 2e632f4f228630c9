//! What one seed of each scenario does, word by word: operations, crashes, what was recovered, the faults that struck, the
//! shape of the store, and the hash of the trace. A change that should change nothing changes nothing here.

use shaketable::report;
use shaketable::runner::{RunOptions, run_seed};
use shaketable::scenario;
use shaketable::store::StoreKind;
use shaketable::strata::StrataKind;
use std::sync::Arc;

/// Any seed would do.
const SEED: u64 = 7;

#[test]
fn a_fixed_seed_of_each_scenario_runs_as_it_did() {
    let kind: Arc<dyn StoreKind> = Arc::new(StrataKind);
    let scenarios = scenario::load_all(&scenario::home()).expect("the scenarios of this repository");
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    for scenario in scenarios {
        let report = run_seed(&scenario, &kind, SEED, &RunOptions::default());
        assert!(report.failure.is_none(), "{}#{SEED}: {:?}", scenario.name, report.failure);
        settings.set_description(scenario.about.clone());
        settings.bind(|| insta::assert_snapshot!(scenario.name.clone(), report::run_lines(&report)));
    }
}
