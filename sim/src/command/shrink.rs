//! `shake shrink`: makes a failure small, and writes it down.

use super::{Case, case_of, dress, duration, kind_of, run_recorded, save};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use shaketable::report;
use shaketable::runner::{RunOptions, RunReport};
use shaketable::shrink::{Shrunk, shrink};
use shaketable::store::StoreKind;
use shaketable::workload::Plan;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

#[derive(Args)]
pub(crate) struct ShrinkArgs {
    /// A file of corpus/regressions, or SCENARIO#SEED.
    what: String,
    /// How long it may take.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    time: Duration,
    /// Where the result is written.
    #[arg(long, value_name = "DIR")]
    artifacts: Option<PathBuf>,
}

pub(crate) fn shrink_one(dir: &Path, args: &ShrinkArgs) -> Result<bool, String> {
    let what = args.what.as_str();
    let options = RunOptions { record: true, ..RunOptions::default() };
    let (plan, seed, report, kind) = match case_of(dir, what)? {
        Case::File(artifact) => {
            let kind = kind_of(&artifact.plan.store)?;
            let report = artifact.run(&kind, &options);
            (artifact.plan.clone(), artifact.seed, report, kind)
        }
        Case::Seed(scenario, seed) => {
            let kind = kind_of(&scenario.store)?;
            let (plan, report) = run_recorded(&scenario, &kind, seed);
            (plan, Some(seed), report, kind)
        }
    };
    let Some(failure) = &report.failure else {
        println!("{what} passes: there is nothing to shrink");
        return Ok(true);
    };
    let dress = dress(std::io::stdout().is_terminal());
    print!("{}", report::failure_block(what, failure, report.planned, dress));
    let shrunk = watched(&plan, seed, &report, &kind, args.time, true);
    let path = save(&shrunk, args.artifacts.as_deref())?;
    print!("{}{}", report::shrunk_lines(&shrunk, path.as_deref()), report::artifact_lines(&shrunk.artifact));
    Ok(false)
}

/// Shrinks a failure, with the smallest run so far on the last line of a terminal.
pub(crate) fn watched(
    plan: &Plan,
    seed: Option<u64>,
    report: &RunReport,
    kind: &Arc<dyn StoreKind>,
    time: Duration,
    visible: bool,
) -> Shrunk {
    let bar =
        if visible && std::io::stderr().is_terminal() { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
    bar.set_style(ProgressStyle::with_template(" {spinner} {msg}").expect("a template that was tried"));
    let shrunk = shrink(plan, seed, report, kind, time, &mut |progress| {
        if !bar.is_hidden() {
            bar.set_message(report::progress_line(progress));
            bar.tick();
        }
    });
    bar.finish_and_clear();
    shrunk
}
