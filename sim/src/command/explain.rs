//! `shake explain`: why one failure fails, with the lines of source whose order is missing.

use super::shrink::watched;
use super::{Case, case_of, dress, duration, kind_of, run_recorded};
use clap::Args;
use shaketable::artifact::Artifact;
use shaketable::explain::explain;
use std::io::IsTerminal;
use std::path::Path;
use std::time::Duration;

#[derive(Args)]
pub(crate) struct ExplainArgs {
    /// A file of corpus/regressions, or SCENARIO#SEED, which is shrunk first.
    what: String,
    /// How long it may be shrunk.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration)]
    shrink: Duration,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

/// The failure as an artifact, shrunk where it is a seed's. `None` where it passes.
fn artifact_of(dir: &Path, args: &ExplainArgs) -> Result<Option<Artifact>, String> {
    match case_of(dir, &args.what)? {
        Case::File(artifact) => Ok(Some(*artifact)),
        Case::Seed(scenario, seed) => {
            let kind = kind_of(&scenario.store)?;
            let (plan, report) = run_recorded(&scenario, &kind, seed);
            if report.failure.is_none() {
                return Ok(None);
            }
            let shrunk = watched(&plan, Some(seed), &report, &kind, args.shrink, !args.json);
            Ok(Some(shrunk.artifact))
        }
    }
}

pub(crate) fn explain_one(dir: &Path, args: &ExplainArgs) -> Result<bool, String> {
    let what = args.what.as_str();
    let dress = dress(std::io::stdout().is_terminal());
    let explained = match artifact_of(dir, args)? {
        Some(artifact) => explain(&artifact, &kind_of(&artifact.plan.store)?),
        None => None,
    };
    let Some(explanation) = explained else {
        println!("{} {what}: there is nothing to explain", dress.good("PASSED"));
        return Ok(true);
    };
    if args.json {
        let json = serde_json::json!({
            "fingerprint": explanation.finding.fingerprint(),
            "symptom": explanation.finding.symptom,
            "why": explanation.edge.sentence(),
            "lines": explanation.edge.sites(),
            "steps": explanation.steps.iter().map(|step| serde_json::json!({
                "what": step.what, "whence": step.whence, "fate": step.fate, "more": step.more,
            })).collect::<Vec<_>>(),
        });
        println!("{json:#}");
    } else {
        print!("{} {what}   {}", dress.bad("FAILED"), explanation.lines());
    }
    Ok(false)
}
