//! Every scenario is a test of its own name, with underscores for hyphens.
//!
//! `SHAKE_SEED=8123 cargo test power_cut_while_flushing` runs one seed, `SHAKE_SEEDS=500` or `SHAKE_SEEDS=100..200` others
//! than the scenario says. A test that fails prints what was found and the line that replays it.

use libtest_mimic::{Arguments, Failed, Trial};
use shaketable::report::{self, Dress};
use shaketable::rng::Decisions;
use shaketable::runner::{RunOptions, run_plan, run_seed};
use shaketable::scenario::{self, Scenario};
use shaketable::shrink::shrink;
use shaketable::store::StoreKind;
use shaketable::strata::StrataKind;
use shaketable::workload;
use std::ops::Range;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// How long a failure is shrunk before it is printed.
const SHRINK: Duration = Duration::from_secs(3);

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let scenarios = match scenario::load_all(&scenario::home()) {
        Ok(scenarios) => scenarios,
        Err(bad) => {
            eprintln!("{bad}");
            return ExitCode::from(2);
        }
    };
    let trials = scenarios
        .into_iter()
        .map(|scenario| Trial::test(scenario.name.replace('-', "_"), move || test(&scenario)))
        .collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn seeds(scenario: &Scenario) -> Result<Range<u64>, String> {
    let number = |text: &str| text.trim().parse::<u64>().map_err(|error| format!("{text:?}: {error}"));
    if let Ok(seed) = std::env::var("SHAKE_SEED") {
        let seed = number(&seed)?;
        return Ok(seed..seed + 1);
    }
    match std::env::var("SHAKE_SEEDS") {
        Err(_) => Ok(0..scenario.seeds),
        Ok(text) => match text.split_once("..") {
            Some((start, end)) => Ok(number(start)?..number(end)?),
            None => Ok(0..number(&text)?),
        },
    }
}

fn test(scenario: &Scenario) -> Result<(), Failed> {
    let kind: Arc<dyn StoreKind> = Arc::new(StrataKind);
    workload::check_options(scenario, kind.as_ref())?;
    for seed in seeds(scenario)? {
        let report = run_seed(scenario, &kind, seed, &RunOptions::default());
        if report.failure.is_some() {
            return Err(describe(scenario, &kind, seed).into());
        }
    }
    Ok(())
}

/// Runs the seed once more, recorded, for what to print.
fn describe(scenario: &Scenario, kind: &Arc<dyn StoreKind>, seed: u64) -> String {
    let name = format!("{}#{seed}", scenario.name);
    let mut decisions = Decisions::from_seed(seed);
    let plan = workload::plan(scenario, kind.as_ref(), &mut decisions);
    let options = RunOptions { record: true, ..RunOptions::default() };
    let report = run_plan(Arc::new(plan.clone()), kind, decisions, &options);
    let Some(failure) = &report.failure else { return format!("{name} failed once and not again") };
    let shrunk = shrink(&plan, Some(seed), &report, kind, SHRINK, &mut |_| {});
    format!(
        "{}{}{}  replay:   cargo shake replay '{name}'\n  keep:     cargo shake shrink '{name}'\n  only it:  SHAKE_SEED={seed} cargo test {}",
        report::failure_block(&name, failure, report.planned, Dress::Plain),
        report::shrunk_lines(&shrunk, None),
        report::artifact_lines(&shrunk.artifact),
        scenario.name.replace('-', "_"),
    )
}
