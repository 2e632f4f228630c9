//! `shake run`: a campaign, what it comes to, and each new failure shrunk and written down.

use super::shrink::watched;
use super::{
    EXPLAINED_OPS_MAX, dress, duration, find, kind_of, load, run_recorded, save, save_whole, seeds, seeds_from,
    seen_seed, write,
};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use shaketable::artifact::Artifact;
use shaketable::campaign::growth::Growth;
use shaketable::campaign::{self, Campaign, Done, Totals, real_now};
use shaketable::console::COMMAND;
use shaketable::coverage::Coverage;
use shaketable::cpu;
use shaketable::explain::{explain, look};
use shaketable::place::place_of;
use shaketable::report::page::{Subject, campaign_page};
use shaketable::report::{self, Dress};
use shaketable::results::{Found, Results};
use shaketable::runner::RunOptions;
use shaketable::scenario::Scenario;
use shaketable::seeds::{Seeds, Shard};
use shaketable::store::StoreKind;
use shaketable::transfer::transfer;
use shaketable::workload::Plan;
use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// By what a seed is known that did two things.
const NOT_DETERMINISTIC: &str = "not-deterministic";

/// What `shake run` does when nothing is said.
const TIME: Duration = Duration::from_secs(30);

#[derive(Args)]
pub(crate) struct RunArgs {
    /// Scenarios by name, or part of a name; all where none is given.
    scenario: Vec<String>,
    /// Which engine is shaken: that of the scenario, or redb or rusty-leveldb, which `cargo shake-foreign` builds. Scenarios that
    /// say nothing about it are passed over.
    #[arg(long, value_name = "NAME")]
    store: Option<String>,
    /// How many seeds, or which: N, A..B, `random`, or `nightly:2026-11-24` for those of a night.
    #[arg(long, value_name = "N | A..B | random | nightly:DAY", value_parser = seeds)]
    seeds: Option<Seeds>,
    /// The seeds of a commit, which no other commit has: a hash, a branch, HEAD.
    #[arg(long, value_name = "REV", conflicts_with = "seeds", value_parser = seeds_from)]
    seeds_from: Option<Seeds>,
    /// Only every n-th seed, from the i-th on: all n shards together are the whole campaign.
    #[arg(long, value_name = "I/N", default_value = "1/1", value_parser = Shard::parse)]
    shard: Shard,
    /// For how long: 60s, 5m, 8h.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    time: Option<Duration>,
    /// Every second run is not a fresh seed but grown from runs that reached coverage marks that no other had reached.
    #[arg(long, conflicts_with = "check_determinism")]
    grow: bool,
    /// Makes every scenario wild: each seed leaves out half of its operations, faults and options.
    #[arg(long)]
    swarm: bool,
    /// OS threads; all cores where it is not given.
    #[arg(long, short)]
    jobs: Option<usize>,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
    /// Writes the same JSON into a file, for `shake merge`.
    #[arg(long, value_name = "FILE")]
    results: Option<PathBuf>,
    /// Writes a page for a browser: what was run and reached, where faults struck and where not, and each failure step by step.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
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
    /// Prints how often each coverage mark of the store was reached, and which never was.
    #[arg(long)]
    marks: bool,
    /// Prints failures only.
    #[arg(long, short)]
    quiet: bool,
    /// Prints more: every failing seed, and the shrunk operations.
    #[arg(long, short)]
    verbose: bool,
}

pub(crate) fn run(dir: &Path, args: &RunArgs) -> Result<bool, String> {
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
    if let Some(store) = &args.store {
        scenarios = transferred(scenarios, store, args)?;
    }
    if args.swarm {
        scenarios = scenarios.into_iter().map(Scenario::swarmed).collect();
    }
    let kinds = scenarios.iter().map(|scenario| kind_of(&scenario.store)).collect::<Result<Vec<_>, _>>()?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let jobs = args.jobs.unwrap_or(cores).max(1);
    let Seeds { range: seeds, all } =
        args.seeds.as_ref().or(args.seeds_from.as_ref()).cloned().unwrap_or_else(|| Seeds::from(0));
    let time = args.time.or((!all).then_some(TIME));
    let RunArgs { shard, check_determinism, fail_fast, .. } = *args;
    let campaign = Campaign { scenarios, seeds: seeds.clone(), shard, time, jobs, check_determinism, fail_fast };
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
            "{count} scenario{plural}, seeds {}..{}, {jobs} jobs, {until}   {}",
            seeds.start,
            if shard == Shard::WHOLE { String::new() } else { format!(" shard {shard}") },
            dress_out
                .faint(&format!("(the same seeds next time: --seeds {}..; other ones: --seeds random)", seeds.start))
        );
    }
    let started = real_now();
    let mut totals = vec![Totals::default(); campaign.scenarios.len()];
    let mut known = BTreeSet::new();
    let mut failures = Vec::new();
    let mut subjects = Vec::new();
    let mut paused = Duration::ZERO;
    // Processor time that went into telling of failures instead of searching for them.
    let mut telling = Duration::ZERO;
    let mut hear = |done: Done| {
        totals[done.scenario].add(&done);
        let scenario = &campaign.scenarios[done.scenario];
        let after = real_now() - started - paused;
        if let Some(difference) = &done.divergence {
            if !args.json {
                let failed = dress_out.bad("FAILED");
                bar.suspend(|| println!("{failed} {}#{} is not deterministic\n{difference}", scenario.name, done.seed));
            }
            if known.insert((done.scenario, NOT_DETERMINISTIC.to_string())) {
                failures.push(Found::divergence(NOT_DETERMINISTIC, &scenario.name, done.seed, difference, after));
            }
        }
        if let Some(failure) = &done.report.failure {
            let new = known.insert((done.scenario, failure.finding.fingerprint()));
            if new {
                let pause = real_now();
                let spent = cpu::process_time() - telling;
                let told = tell(args, scenario, &kinds[done.scenario], &done, after, dress_out);
                match told {
                    Ok(Telling { text, mut found, subject }) => {
                        subjects.extend(subject);
                        found.core_seconds = Some(spent.as_secs_f64());
                        failures.push(found);
                        if !args.json {
                            bar.suspend(|| println!("{text}"));
                        }
                    }
                    Err(message) => bar.suspend(|| eprintln!("shake: {message}")),
                }
                paused += real_now() - pause;
                telling = cpu::process_time() - spent;
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
    };
    let mut growth = Growth::default();
    match args.grow {
        true => campaign::run_growing(&campaign, &kinds, &mut growth, &mut hear),
        false => campaign::run(&campaign, &kinds, &mut hear),
    }
    bar.finish_and_clear();
    let elapsed = real_now() - started;
    let names = campaign.scenarios.iter().map(|scenario| scenario.name.clone());
    let rows: Vec<(String, Totals)> = names.zip(totals).collect();
    let failed: u64 = rows.iter().map(|(_, totals)| totals.failures).sum();
    let mut coverage = Coverage::default();
    rows.iter().for_each(|(_, totals)| coverage.merge(&totals.coverage));
    let end = if seeds.end == u64::MAX { String::new() } else { seeds.end.to_string() };
    let results = Results {
        shards: [(format!("{}..{end}", seeds.start), [shard.to_string()].into())].into(),
        seconds: elapsed.as_secs_f64(),
        core_seconds: (cpu::process_time() - telling).as_secs_f64(),
        thread_seconds: (elapsed.saturating_sub(paused) * jobs as u32).as_secs_f64(),
        scenarios: rows.iter().map(|(name, totals)| report::totals_json(name, totals)).collect(),
        failures,
    };
    if let Some(path) = &args.results {
        write(path, &results.to_json())?;
    }
    if let Some(path) = &args.report {
        write(path, &campaign_page(&results, &subjects))?;
    }
    if args.json {
        println!("{}", results.to_json());
    } else if loud {
        let work = elapsed.saturating_sub(paused) * jobs as u32;
        println!("{}", report::summary(&rows, work));
        let verdict = if failed == 0 {
            dress_out.good("no failure")
        } else {
            dress_out.bad(&format!("{failed} seeds failed, in {} ways", known.len()))
        };
        if args.grow {
            print!("{}", growth.lines());
        }
        if args.marks {
            print!("{}", coverage.marks_lines());
        }
        let missed = coverage.verdict().map_or_else(String::new, |missed| format!(" {missed}"));
        let plural = if rows.len() == 1 { "" } else { "s" };
        println!("{} scenario{plural}, {verdict}.{missed}", rows.len());
    }
    Ok(failed == 0)
}

/// The scenarios that say something about this store, on it. Tells which do not, and why, and what is left out of the others.
fn transferred(scenarios: Vec<Scenario>, store: &str, args: &RunArgs) -> Result<Vec<Scenario>, String> {
    let kind = kind_of(store)?;
    let mut suitable = Vec::new();
    let mut refused = Vec::new();
    let mut left_out = BTreeSet::new();
    for scenario in scenarios {
        let name = scenario.name.clone();
        match transfer(scenario, kind.as_ref()) {
            Ok(transferred) => {
                left_out.extend(transferred.left_out);
                suitable.push(transferred.scenario);
            }
            Err(reason) => refused.push(format!("{name}: {reason}")),
        }
    }
    if suitable.is_empty() {
        return Err(format!("no scenario here is for {store}\n  {}", refused.join("\n  ")));
    }
    if !args.quiet && !args.json {
        if args.verbose {
            refused.iter().for_each(|line| println!("passed over: {line}"));
        } else if !refused.is_empty() {
            println!("{} scenarios say nothing about {store} and are passed over (-v tells why)", refused.len());
        }
        if !left_out.is_empty() {
            let options: Vec<String> = left_out.into_iter().collect();
            println!("options that {store} does not have are left out: {}", options.join(", "));
        }
    }
    Ok(suitable)
}

/// A failure as it is told.
struct Telling {
    text: String,
    found: Found,
    /// Where a page is asked for.
    subject: Option<Subject>,
}

/// Runs what failed again, with everything recorded, and shrinks it. What was grown has no seed that repeats it, and becomes
/// an artifact even where it is not shrunk.
fn tell(
    args: &RunArgs,
    scenario: &Scenario,
    kind: &Arc<dyn StoreKind>,
    done: &Done,
    after: Duration,
    dress: Dress,
) -> Result<Telling, String> {
    let seed = done.seed;
    let (name, plan, report) = match &done.grown {
        None => {
            let (plan, report) = run_recorded(scenario, kind, seed);
            (format!("{}#{seed}", scenario.name), plan, report)
        }
        Some(grown) => {
            let report = grown.run(kind, &RunOptions { record: true, ..RunOptions::default() });
            (format!("{} (grown from seed {})", scenario.name, grown.seed), Plan::clone(&grown.plan), report)
        }
    };
    let Some(failure) = report.failure.clone() else {
        return Err(format!("{name} failed once and passes now: run it with --check-determinism"));
    };
    let mut text = report::failure_block(&name, &failure, report.planned, dress);
    let mut found = Found::new(&scenario.name, seed, &failure, after);
    let whole = done.grown.as_ref().map(|_| Artifact {
        symptom: failure.finding.symptom.clone(),
        fingerprint: failure.finding.fingerprint(),
        seed: Some(seed),
        plan: plan.clone(),
        decisions: report.decisions.clone(),
    });
    if let Some(whole) = &whole {
        let path = save_whole(whole, args.artifacts.as_deref())?;
        found.replay = format!("{COMMAND} replay {}", path.display());
        found.artifact = Some(path.display().to_string());
    }
    let mut is_kept_small = false;
    let mut subject = None;
    if !args.shrink.is_zero() {
        let shrunk = watched(&plan, Some(seed), &report, kind, args.shrink, !args.quiet && !args.json);
        let path = save(&shrunk, args.artifacts.as_deref())?;
        let mut why = String::new();
        if shrunk.replays {
            // Of a small run, what the crash took is what the bug is about.
            let small = shrunk.artifact.run(kind, &RunOptions::default());
            found.place = small.failure.as_ref().and_then(place_of).map(|place| place.to_string()).or(found.place);
            found.shrunk = Some(report::shrunk_json(&shrunk));
            let is_small = shrunk.after.ops <= EXPLAINED_OPS_MAX;
            let explanation = is_small.then(|| explain(&shrunk.artifact, kind)).flatten();
            if let Some(explanation) = &explanation {
                why = format!("  why:      {}\n", explanation.edge.sentence());
                found.place = explanation.edge.sites().into_iter().next().or(found.place);
            }
            subject = args.report.is_some().then(|| {
                let artifact = shrunk.artifact.clone();
                let name = path.as_deref().map_or(name.clone(), |path| path.display().to_string());
                match explanation {
                    Some(explanation) => Subject::of(&name, artifact, explanation),
                    None => {
                        let witnessed = look(&artifact.plan, kind, artifact.script());
                        Subject::seen(&name, artifact, witnessed)
                    }
                }
            });
        }
        found.artifact = path.as_deref().map(|path| path.display().to_string()).or(found.artifact);
        is_kept_small = path.is_some();
        text.push_str(&report::shrunk_lines(&shrunk, path.as_deref()));
        text.push_str(&why);
        if args.verbose {
            text.push_str(&report::artifact_lines(&shrunk.artifact));
        }
    }
    if !is_kept_small {
        text.push_str(&format!("  replay:   {}\n", found.replay));
        subject = args.report.is_some().then(|| match whole {
            None => seen_seed(scenario, kind, seed),
            Some(whole) => {
                let witnessed = look(&whole.plan, kind, whole.script());
                Subject::seen(&name, whole, witnessed)
            }
        });
    }
    Ok(Telling { text, found, subject })
}
