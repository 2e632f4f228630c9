//! `shake replay`: one failure again, event by event where that is wanted; or all failures that a saved log tells of.

use super::{Case, EXPLAINED_OPS_MAX, case_of, dress, find, kind_of, read, seen_seed, write};
use clap::Args;
use shaketable::artifact::Artifact;
use shaketable::console::{self, Told};
use shaketable::explain::look;
use shaketable::report;
use shaketable::report::page::{Subject, run_page};
use shaketable::rng::Decisions;
use shaketable::runner::{RunOptions, run_plan};
use shaketable::trace::Keep;
use shaketable::workload;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[derive(Args)]
pub(crate) struct ReplayArgs {
    /// A file of corpus/regressions, SCENARIO#SEED, or a text such as the log of a CI job in which failures are told; `-` is
    /// the standard input. A seed repeats its failure only with the code that failed.
    what: String,
    /// Prints every event.
    #[arg(long)]
    trace: bool,
    /// Writes a page for a browser about the run: its steps, the disk at each of them, and why it fails.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

pub(crate) fn replay(dir: &Path, args: &ReplayArgs) -> Result<bool, String> {
    let what = args.what.as_str();
    if what.contains('#') && !Path::new(what).exists() {
        return replay_one(what, &case_of(dir, what)?, args);
    }
    let text = read(Path::new(what))?;
    match Artifact::parse(&text) {
        Ok(artifact) => replay_one(what, &Case::File(Box::new(artifact)), args),
        // The text of a whole file that begins like an artifact is meant as one.
        Err(message) if text.starts_with("symptom = ") => Err(format!("{what}: {message}")),
        Err(_) => replay_log(dir, what, &text, args),
    }
}

/// Replays whatever failed, and sums up.
fn replay_log(dir: &Path, what: &str, log: &str, args: &ReplayArgs) -> Result<bool, String> {
    let beside = Path::new(what).parent().unwrap_or(Path::new("")).to_path_buf();
    let mut cases = Vec::new();
    for told in console::failures(log) {
        match told {
            Told::Seed { scenario, seed, asked } => match find(dir, &scenario) {
                Ok(found) => cases.push((format!("{scenario}#{seed}"), Case::Seed(Box::new(found), seed))),
                // Where it is only mentioned it may mean something else.
                Err(message) if asked => return Err(message),
                Err(_) => {}
            },
            Told::File(path) => {
                // A file that was uploaded with the log lies beside it now.
                let near = beside.join(path.file_name().unwrap_or_default());
                match [path.clone(), near].iter().find(|path| path.is_file()) {
                    Some(found) => {
                        cases.push((found.display().to_string(), Case::File(Box::new(Artifact::load(found)?))))
                    }
                    None => println!("{} is named, and is neither here nor beside the log", path.display()),
                }
            }
            Told::Artifact(line, artifact) => cases.push((format!("{what}, line {line}"), Case::File(artifact))),
            Told::Damaged(line, message) => return Err(format!("{what}, line {line}: {message}")),
        }
    }
    if cases.is_empty() {
        return Err(format!("{what} is no artifact, and nothing in it says what failed"));
    }
    if args.report.is_some() && cases.len() > 1 {
        return Err(format!("a page is of one run, and {what} tells of {}: replay one of them", cases.len()));
    }
    let mut failed = 0;
    for (name, case) in &cases {
        failed += u64::from(!replay_one(name, case, args)?);
    }
    let dress = dress(std::io::stdout().is_terminal());
    let verdict = format!("{failed} of {} fail", cases.len());
    println!("{}", if failed == 0 { dress.good(&verdict) } else { dress.bad(&verdict) });
    Ok(failed == 0)
}

/// The run, seen from all sides; a small one is explained.
fn subject_of(name: &str, case: &Case) -> Result<Subject, String> {
    match case {
        Case::File(artifact) => {
            let kind = kind_of(&artifact.plan.store)?;
            let artifact = Artifact::clone(artifact);
            if artifact.plan.ops() <= EXPLAINED_OPS_MAX {
                return Ok(Subject::explained(name, artifact, &kind));
            }
            let witnessed = look(&artifact.plan, &kind, artifact.script());
            Ok(Subject::seen(name, artifact, witnessed))
        }
        Case::Seed(scenario, seed) => Ok(seen_seed(scenario, &kind_of(&scenario.store)?, *seed)),
    }
}

/// Returns whether it passed.
fn replay_one(name: &str, case: &Case, args: &ReplayArgs) -> Result<bool, String> {
    let trace = args.trace;
    let keep = if trace { Keep::Everything } else { Keep::Nothing };
    let options = RunOptions { keep, ..RunOptions::default() };
    let report = match case {
        Case::File(artifact) => artifact.run(&kind_of(&artifact.plan.store)?, &options),
        Case::Seed(scenario, seed) => {
            let kind = kind_of(&scenario.store)?;
            let mut decisions = Decisions::from_seed(*seed);
            let plan = workload::plan(scenario, kind.as_ref(), &mut decisions);
            if trace {
                println!("options {}\nschedule {:?}, {} keys", plan.options, plan.policy, plan.keys.count());
            }
            run_plan(Arc::new(plan), &kind, decisions, &options)
        }
    };
    if let Some(path) = &args.report {
        write(path, &run_page(&subject_of(name, case)?))?;
    }
    for line in &report.trace.lines {
        println!("{line}");
    }
    let dress = dress(std::io::stdout().is_terminal());
    print!("{}", report::run_lines(&report));
    match &report.failure {
        None => {
            println!("{} {name}", dress.good("PASSED"));
            Ok(true)
        }
        Some(failure) => {
            print!("{}", report::failure_block(name, failure, report.planned, dress));
            Ok(false)
        }
    }
}
