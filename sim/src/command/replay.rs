//! `shake replay`: one failure again, event by event where that is wanted.

use super::{Case, case_of, dress, kind_of};
use clap::Args;
use shaketable::report;
use shaketable::rng::Decisions;
use shaketable::runner::{RunOptions, run_plan};
use shaketable::trace::Keep;
use shaketable::workload;
use std::io::IsTerminal;
use std::path::Path;
use std::sync::Arc;

#[derive(Args)]
pub(crate) struct ReplayArgs {
    /// A file of corpus/regressions, or SCENARIO#SEED.
    what: String,
    /// Prints every event.
    #[arg(long)]
    trace: bool,
}

pub(crate) fn replay(dir: &Path, args: &ReplayArgs) -> Result<bool, String> {
    let (what, trace) = (args.what.as_str(), args.trace);
    let keep = if trace { Keep::Everything } else { Keep::Nothing };
    let options = RunOptions { keep, ..RunOptions::default() };
    let report = match case_of(dir, what)? {
        Case::File(artifact) => artifact.run(&kind_of(&artifact.plan.store)?, &options),
        Case::Seed(scenario, seed) => {
            let kind = kind_of(&scenario.store)?;
            let mut decisions = Decisions::from_seed(seed);
            let plan = workload::plan(&scenario, kind.default_options(), &mut decisions);
            if trace {
                println!("options {}\nschedule {:?}, {} keys", plan.options, plan.policy, plan.keys.count());
            }
            run_plan(Arc::new(plan), &kind, decisions, &options)
        }
    };
    for line in &report.trace.lines {
        println!("{line}");
    }
    let dress = dress(std::io::stdout().is_terminal());
    print!("{}", report::run_lines(&report));
    match &report.failure {
        None => {
            println!("{} {what}", dress.good("PASSED"));
            Ok(true)
        }
        Some(failure) => {
            print!("{}", report::failure_block(what, failure, report.planned, dress));
            Ok(false)
        }
    }
}
