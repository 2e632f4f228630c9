//! `shake explain`: why one failure fails, with the lines of source whose order is missing.

use super::shrink::watched;
use super::{Case, case_of, dress, duration, kind_of, run_recorded, seen_seed, write};
use clap::Args;
use shaketable::artifact::Artifact;
use shaketable::explain::{Explanation, explain, look};
use shaketable::report::page::{Subject, run_page};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
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
    /// Writes a page for a browser: the story, the steps, the disk at each of them, and what the crash took.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
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

/// What a page is about: the explained run, or the one that passes.
fn subject_of(
    dir: &Path,
    what: &str,
    artifact: Option<Artifact>,
    explained: Option<Explanation>,
) -> Result<Subject, String> {
    match (artifact, explained) {
        (Some(artifact), Some(explanation)) => Ok(Subject::of(what, artifact, explanation)),
        (Some(artifact), None) => {
            let witnessed = look(&artifact.plan, &kind_of(&artifact.plan.store)?, artifact.script());
            Ok(Subject::seen(what, artifact, witnessed))
        }
        (None, _) => match case_of(dir, what)? {
            Case::Seed(scenario, seed) => Ok(seen_seed(&scenario, &kind_of(&scenario.store)?, seed)),
            Case::File(_) => unreachable!("a file is an artifact"),
        },
    }
}

pub(crate) fn explain_one(dir: &Path, args: &ExplainArgs) -> Result<bool, String> {
    let what = args.what.as_str();
    let dress = dress(std::io::stdout().is_terminal());
    let artifact = artifact_of(dir, args)?;
    let explained = match &artifact {
        Some(artifact) => explain(artifact, &kind_of(&artifact.plan.store)?),
        None => None,
    };
    if let Some(path) = &args.report {
        write(path, &run_page(&subject_of(dir, what, artifact, explained.clone())?))?;
    }
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
