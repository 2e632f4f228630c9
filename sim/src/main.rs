//! `shake`: runs scenarios, replays failures, shrinks them.
//!
//! Exit code 0: nothing was found. 1: a failure was found, and the line that replays it was printed. 2: wrong usage or a
//! broken environment.

use clap::{Args, Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use shaketable::artifact::{self, Artifact};
use shaketable::campaign::{self, Campaign, Totals, real_now};
use shaketable::report::{self, Dress};
use shaketable::rng::Decisions;
use shaketable::runner::{RunOptions, RunReport, run_plan};
use shaketable::scenario::{self, Scenario, nearest};
use shaketable::shrink::{Shrunk, shrink};
use shaketable::store::StoreKind;
use shaketable::strata::StrataKind;
use shaketable::trace::Keep;
use shaketable::workload::{self, Plan};
use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// What `shake run` does when nothing is said.
const TIME: Duration = Duration::from_secs(30);

#[derive(Parser)]
#[command(
    name = "shake",
    about = "Shakes a storage engine: crashes, torn writes, full disks, failing syncs, replayed exactly."
)]
struct Cli {
    /// The directory of the scenarios.
    #[arg(long, global = true, value_name = "DIR")]
    scenarios: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs scenarios; without any argument all of them, for 30 seconds.
    Run(RunArgs),
    /// Runs one failure again, from its file or from SCENARIO#SEED.
    Replay {
        /// A file of corpus/regressions, or SCENARIO#SEED.
        what: String,
        /// Prints every event.
        #[arg(long)]
        trace: bool,
    },
    /// Makes a failure small, and writes it to corpus/regressions.
    Shrink {
        /// A file of corpus/regressions, or SCENARIO#SEED.
        what: String,
        /// How long it may take.
        #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
        time: Duration,
        /// Where the result is written.
        #[arg(long, value_name = "DIR")]
        artifacts: Option<PathBuf>,
    },
    /// Lists the scenarios.
    List,
}

#[derive(Args)]
struct RunArgs {
    /// Scenarios by name, or part of a name; all where none is given.
    scenario: Vec<String>,
    /// How many seeds, or which: N, A..B or `random`.
    #[arg(long, value_name = "N | A..B | random", value_parser = seeds)]
    seeds: Option<Range<u64>>,
    /// For how long: 60s, 5m, 8h.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    time: Option<Duration>,
    /// OS threads; all cores where it is not given.
    #[arg(long, short)]
    jobs: Option<usize>,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
    /// Runs each seed twice, and names the first event that differs.
    #[arg(long)]
    check_determinism: bool,
    /// How long each failure may be shrunk; 0s leaves it as it is.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration)]
    shrink: Duration,
    /// Stops at the first failure.
    #[arg(long)]
    fail_fast: bool,
    /// Where shrunk failures are written.
    #[arg(long, value_name = "DIR")]
    artifacts: Option<PathBuf>,
    /// Prints failures only.
    #[arg(long, short)]
    quiet: bool,
    /// Prints more: every failing seed, and the shrunk operations.
    #[arg(long, short)]
    verbose: bool,
}

fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: f64 = digits.parse().map_err(|_| format!("a time such as 60s, 5m or 8h expected, found {text:?}"))?;
    let seconds = match &text[digits.len()..] {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        unit => return Err(format!("{unit:?} is no unit; there are ms, s, m and h")),
    };
    Duration::try_from_secs_f64(number * seconds).map_err(|error| error.to_string())
}

fn seeds(text: &str) -> Result<Range<u64>, String> {
    if text == "random" {
        return Ok(random_start()..u64::MAX);
    }
    let wrong = || format!("a number, a range such as 100..200, or random expected, found {text:?}");
    let range = match text.split_once("..") {
        None => 0..text.parse().map_err(|_| wrong())?,
        Some((start, "")) => start.parse().map_err(|_| wrong())?..u64::MAX,
        Some((start, end)) => start.parse().map_err(|_| wrong())?..end.parse().map_err(|_| wrong())?,
    };
    if range.is_empty() { Err(format!("there is no seed in {text}")) } else { Ok(range) }
}

/// A seed that no other day has used; short enough to be typed.
#[expect(clippy::disallowed_methods, reason = "this is the one place that asks for a real random start")]
fn random_start() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    (now.as_micros() as u64) % 1_000_000_000_000
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let dir = cli.scenarios.unwrap_or_else(scenario::home);
    let result = match cli.command {
        Command::Run(args) => run(&dir, &args),
        Command::Replay { what, trace } => replay(&dir, &what, trace),
        Command::Shrink { what, time, artifacts } => shrink_one(&dir, &what, time, artifacts),
        Command::List => list(&dir),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(message) => {
            eprintln!("shake: {message}");
            ExitCode::from(2)
        }
    }
}

/// Stores that scenarios can name.
fn kind_of(store: &str) -> Result<Arc<dyn StoreKind>, String> {
    let kinds: [Arc<dyn StoreKind>; 1] = [Arc::new(StrataKind)];
    let names: Vec<String> = kinds.iter().map(|kind| kind.name().to_string()).collect();
    kinds
        .into_iter()
        .find(|kind| kind.name() == store)
        .ok_or_else(|| format!("no store {store:?}; there are {names:?}"))
}

/// The scenarios of a directory, each of which its store accepts.
fn load(dir: &Path) -> Result<Vec<Scenario>, String> {
    let scenarios = scenario::load_all(dir).map_err(|bad| bad.to_string())?;
    for scenario in &scenarios {
        workload::check_options(scenario, kind_of(&scenario.store)?.as_ref())
            .map_err(|message| format!("{}: {message}", scenario.name))?;
    }
    Ok(scenarios)
}

fn find(dir: &Path, name: &str) -> Result<Scenario, String> {
    let scenarios = load(dir)?;
    match scenarios.iter().find(|scenario| scenario.name == name) {
        Some(scenario) => Ok(scenario.clone()),
        None => {
            let hint = nearest(name, scenarios.iter().map(|scenario| scenario.name.as_str()));
            Err(format!(
                "no scenario {name:?}{}",
                hint.map_or_else(String::new, |name| format!("; did you mean {name}?"))
            ))
        }
    }
}

fn dress(terminal: bool) -> Dress {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    if terminal && !refused { Dress::Colour } else { Dress::Plain }
}

// --- run ------------------------------------------------------------------------------------------------------------------

fn run(dir: &Path, args: &RunArgs) -> Result<bool, String> {
    let mut scenarios = load(dir)?;
    if !args.scenario.is_empty() {
        for name in &args.scenario {
            if !scenarios.iter().any(|scenario| scenario.name.contains(name.as_str())) {
                find(dir, name)?;
            }
        }
        scenarios.retain(|scenario| args.scenario.iter().any(|name| scenario.name.contains(name.as_str())));
        let exact = |scenario: &Scenario| args.scenario.contains(&scenario.name);
        if scenarios.iter().any(exact) && args.scenario.len() == 1 {
            scenarios.retain(exact);
        }
    }
    let kinds = scenarios.iter().map(|scenario| kind_of(&scenario.store)).collect::<Result<Vec<_>, _>>()?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let jobs = args.jobs.unwrap_or(cores).max(1);
    let endless = args.seeds.as_ref().is_none_or(|seeds| seeds.end == u64::MAX);
    let time = args.time.or(endless.then_some(TIME));
    let seeds = args.seeds.clone().unwrap_or(0..u64::MAX);
    let campaign = Campaign { scenarios, seeds: seeds.clone(), time, jobs, check_determinism: args.check_determinism };
    let loud = !args.quiet && !args.json;
    let dress_out = dress(std::io::stdout().is_terminal());
    let bar = if loud && std::io::stderr().is_terminal() { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
    bar.set_style(ProgressStyle::with_template(" {spinner} {msg}").expect("a template that was tried"));
    if loud {
        let count = campaign.scenarios.len();
        let plural = if count == 1 { "" } else { "s" };
        let until = match (time, seeds.end) {
            (Some(time), _) => format!("{} s", time.as_secs_f64()),
            (None, end) => format!("up to {end}"),
        };
        println!(
            "{count} scenario{plural}, seeds {}.., {jobs} jobs, {until}   {}",
            seeds.start,
            dress_out
                .faint(&format!("(the same seeds next time: --seeds {}..; other ones: --seeds random)", seeds.start))
        );
    }
    let started = real_now();
    let mut totals = vec![Totals::default(); campaign.scenarios.len()];
    let mut known = BTreeSet::new();
    let mut failures = Vec::new();
    let mut paused = Duration::ZERO;
    campaign::run(&campaign, &kinds, |done| {
        totals[done.scenario].add(&done);
        let scenario = &campaign.scenarios[done.scenario];
        if let Some(difference) = &done.divergence {
            bar.suspend(|| {
                println!(
                    "{} {}#{} is not deterministic\n{difference}",
                    dress_out.bad("FAILED"),
                    scenario.name,
                    done.seed
                )
            });
        }
        if let Some(failure) = &done.report.failure {
            let new = known.insert((done.scenario, failure.finding.fingerprint()));
            if new {
                let pause = real_now();
                let told = tell(args, &campaign.scenarios[done.scenario], &kinds[done.scenario], done.seed, dress_out);
                match told {
                    Ok((text, json)) => {
                        failures.push(json);
                        if !args.json {
                            bar.suspend(|| println!("{text}"));
                        }
                    }
                    Err(message) => bar.suspend(|| eprintln!("shake: {message}")),
                }
                paused += real_now() - pause;
            } else if args.verbose && !args.json {
                bar.suspend(|| {
                    println!("failed too: {}#{} {}", scenario.name, done.seed, failure.finding.fingerprint())
                });
            }
        }
        if !bar.is_hidden() {
            let mut all = Totals::default();
            totals.iter().for_each(|totals| all.merge(totals));
            let elapsed = real_now() - started;
            bar.set_message(format!(
                "{}   {} seeds   {} operations   {} crashes   {} failures   {} seeds/s   {:.0} s",
                scenario.name,
                report::count(all.seeds),
                report::count(all.ops),
                report::count(all.crashes),
                all.failures,
                report::rate(all.seeds, elapsed),
                elapsed.as_secs_f64()
            ));
            bar.tick();
        }
        !args.fail_fast || known.is_empty()
    });
    bar.finish_and_clear();
    let elapsed = real_now() - started;
    let names = campaign.scenarios.iter().map(|scenario| scenario.name.clone());
    let rows: Vec<(String, Totals)> = names.zip(totals).collect();
    let failed: u64 = rows.iter().map(|(_, totals)| totals.failures).sum();
    if args.json {
        let scenarios: Vec<_> = rows.iter().map(|(name, totals)| report::totals_json(name, totals)).collect();
        let all = serde_json::json!({
            "scenarios": scenarios,
            "failures": failures,
            "seconds": elapsed.as_secs_f64(),
            "jobs": jobs,
        });
        println!("{all:#}");
    } else if loud {
        let work = elapsed.saturating_sub(paused) * jobs as u32;
        println!("{}", report::summary(&rows, work));
        let verdict = if failed == 0 {
            dress_out.good("no failure")
        } else {
            dress_out.bad(&format!("{failed} seeds failed, in {} ways", known.len()))
        };
        println!("{} scenarios, {verdict}.", rows.len());
    }
    Ok(failed == 0)
}

/// Runs a failing seed again, with everything recorded, and shrinks it.
fn tell(
    args: &RunArgs,
    scenario: &Scenario,
    kind: &Arc<dyn StoreKind>,
    seed: u64,
    dress: Dress,
) -> Result<(String, serde_json::Value), String> {
    let name = format!("{}#{seed}", scenario.name);
    let (plan, report) = run_recorded(scenario, kind, seed);
    let Some(failure) = report.failure.clone() else {
        return Err(format!("{name} failed once and passes now: run it with --check-determinism"));
    };
    let mut text = report::failure_block(&name, &failure, report.planned, dress);
    text.push_str(&format!("  replay:   cargo shake replay '{name}'\n"));
    let mut path = None;
    if !args.shrink.is_zero() {
        let shrunk = shrink(&plan, Some(seed), &report, kind, args.shrink);
        path = save(&shrunk, args.artifacts.as_deref())?;
        text.push_str(&report::shrunk_lines(&shrunk, path.as_deref()));
        if args.verbose {
            text.push_str(&report::artifact_lines(&shrunk.artifact));
        }
    }
    let json = report::failure_json(&scenario.name, seed, &failure, path.as_deref());
    Ok((text, json))
}

fn save(shrunk: &Shrunk, dir: Option<&Path>) -> Result<Option<PathBuf>, String> {
    if !shrunk.replays {
        return Ok(None);
    }
    let dir = dir.map_or_else(artifact::home, Path::to_path_buf);
    let path = shrunk.artifact.save(&dir).map_err(|error| format!("cannot write to {}: {error}", dir.display()))?;
    Ok(Some(tidy(&path)))
}

/// The path as seen from here, where that is shorter.
fn tidy(path: &Path) -> PathBuf {
    let canonical = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    let here = std::env::current_dir().unwrap_or_default();
    canonical.strip_prefix(&here).map_or_else(|_| canonical.clone(), Path::to_path_buf)
}

fn run_recorded(scenario: &Scenario, kind: &Arc<dyn StoreKind>, seed: u64) -> (Plan, RunReport) {
    let mut decisions = Decisions::from_seed(seed);
    let plan = workload::plan(scenario, kind.default_options(), &mut decisions);
    let options = RunOptions { keep: Keep::Nothing, record: true };
    let report = run_plan(Arc::new(plan.clone()), kind, decisions, &options);
    (plan, report)
}

// --- replay, shrink, list -----------------------------------------------------------------------------------------------------

/// A failure to look at: from a file, or from a seed.
enum Case {
    File(Box<Artifact>),
    Seed(Box<Scenario>, u64),
}

fn case_of(dir: &Path, what: &str) -> Result<Case, String> {
    match what.rsplit_once('#') {
        Some((name, seed)) => {
            let seed = seed.parse().map_err(|_| format!("{seed:?} is no seed"))?;
            Ok(Case::Seed(Box::new(find(dir, name)?), seed))
        }
        None => Artifact::load(Path::new(what)).map(|artifact| Case::File(Box::new(artifact))),
    }
}

fn replay(dir: &Path, what: &str, trace: bool) -> Result<bool, String> {
    let keep = if trace { Keep::Everything } else { Keep::Nothing };
    let options = RunOptions { keep, record: false };
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

fn shrink_one(dir: &Path, what: &str, time: Duration, artifacts: Option<PathBuf>) -> Result<bool, String> {
    let options = RunOptions { keep: Keep::Nothing, record: true };
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
    let shrunk = shrink(&plan, seed, &report, &kind, time);
    let path = save(&shrunk, artifacts.as_deref())?;
    print!("{}{}", report::shrunk_lines(&shrunk, path.as_deref()), report::artifact_lines(&shrunk.artifact));
    Ok(false)
}

fn list(dir: &Path) -> Result<bool, String> {
    for scenario in load(dir)? {
        println!("{:<48} {}", scenario.name, scenario.about);
    }
    Ok(true)
}
