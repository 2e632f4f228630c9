//! `shake shrink`: makes a failure small, and writes it down.

use super::{Case, case_of, dress, duration, kind_of, run_recorded, save};
use clap::Args;
use shaketable::report;
use shaketable::runner::RunOptions;
use shaketable::shrink::shrink;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
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
    let shrunk = shrink(&plan, seed, &report, &kind, args.time);
    let path = save(&shrunk, args.artifacts.as_deref())?;
    print!("{}{}", report::shrunk_lines(&shrunk, path.as_deref()), report::artifact_lines(&shrunk.artifact));
    Ok(false)
}
