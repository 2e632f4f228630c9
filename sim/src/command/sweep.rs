//! `shake sweep`: power is cut at every change of the disk of one run, and every canonical image is recovered and judged.

use super::shrink::watched;
use super::{Case, case_of, dress, duration, find, kind_of, load, save, save_whole};
use clap::{Args, ValueEnum};
use comfy_table::presets::NOTHING;
use comfy_table::{Cell, CellAlignment, ContentArrangement, Table};
use shaketable::artifact::Artifact;
use shaketable::campaign::real_now;
use shaketable::console::COMMAND;
use shaketable::fault::FaultKind;
use shaketable::report::{self, Dress};
use shaketable::rng::Decisions;
use shaketable::runner::RunOptions;
use shaketable::scenario::{Scenario, Span};
use shaketable::store::StoreKind;
use shaketable::sweep::{Found, How, Images, Subject, Tally, quiet, sweep_all};
use shaketable::workload;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// What `shake sweep` takes when nothing is said.
const TIME: Duration = Duration::from_secs(30);

/// Operations of a run, where neither the scenario is named nor the number given: all scenarios must have their turn.
const OPS: u64 = 40;

/// Which images of a cut are tried.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum WhichImages {
    /// Those that have a name: the least, the most, each change alone, and so on.
    Canonical,
    /// Those that recovery can tell apart, within a budget for each cut.
    Lazy,
}

#[derive(Args)]
pub(crate) struct SweepArgs {
    /// Scenarios by name, or SCENARIO#SEED; all with seed 0, in a short form, where none is given.
    what: Vec<String>,
    /// Operations of each run.
    #[arg(long, value_name = "N")]
    ops: Option<u64>,
    /// OS threads; all cores where it is not given.
    #[arg(long, short)]
    jobs: Option<usize>,
    /// For how long: 60s, 5m, 8h.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    time: Option<Duration>,
    /// Which images of each cut are tried; both kinds where it is not given.
    #[arg(long, value_name = "WHICH")]
    images: Option<WhichImages>,
    /// Tries each two pending changes in the wrong order, and says which order is missing.
    #[arg(long)]
    pairs: bool,
    /// Crashes in a row: with 2 and 3, power goes again within the recovery.
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..=3))]
    depth: u32,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
    /// How long each failure may be shrunk; 0s leaves it as it is.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration)]
    shrink: Duration,
    /// Where failures are written.
    #[arg(long, value_name = "DIR")]
    artifacts: Option<PathBuf>,
}

/// The scenarios and seeds that are meant.
fn cases(dir: &Path, args: &SweepArgs) -> Result<Vec<(Scenario, u64)>, String> {
    let mut cases = Vec::new();
    for what in &args.what {
        if !what.contains('#') {
            cases.push((find(dir, what)?, 0));
            continue;
        }
        match case_of(dir, what)? {
            Case::Seed(scenario, seed) => cases.push((*scenario, seed)),
            Case::File(_) => return Err(format!("{what} is a file; SCENARIO#SEED expected")),
        }
    }
    if args.what.is_empty() {
        cases.extend(load(dir)?.into_iter().map(|scenario| (scenario, 0)));
    }
    let ops = args.ops.or(args.what.is_empty().then_some(OPS));
    for (scenario, _) in &mut cases {
        scenario.ops = ops.map_or(scenario.ops, Span::just);
    }
    Ok(cases)
}

fn subject_of(scenario: &Scenario, seed: u64) -> Result<Subject, String> {
    let kind = kind_of(&scenario.store)?;
    let plan = workload::plan(scenario, kind.as_ref(), &mut Decisions::from_seed(seed));
    let torn = scenario.faults.iter().any(|rule| rule.kind() == FaultKind::TornWrite);
    Ok(Subject { plan: Arc::new(quiet(&plan, kind.as_ref())), seed, kind, torn })
}

pub(crate) fn sweep(dir: &Path, args: &SweepArgs) -> Result<bool, String> {
    let cases = cases(dir, args)?;
    let names: Vec<String> = cases.iter().map(|(scenario, seed)| format!("{}#{seed}", scenario.name)).collect();
    let subjects =
        cases.iter().map(|(scenario, seed)| subject_of(scenario, *seed)).collect::<Result<Vec<_>, String>>()?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let jobs = args.jobs.unwrap_or(cores).max(1);
    let started = real_now();
    let how = How {
        images: match args.images {
            None => Images::All,
            Some(WhichImages::Canonical) => Images::Canonical,
            Some(WhichImages::Lazy) => Images::Lazy,
        },
        pairs: args.pairs,
        depth: args.depth,
        deadline: Some(started + args.time.unwrap_or(TIME)),
        ..How::default()
    };
    let dress = dress(std::io::stdout().is_terminal());
    let mut tallies = vec![Tally::default(); subjects.len()];
    sweep_all(&subjects, &how, jobs, |index, tally| tallies[index].merge(tally));
    let elapsed = real_now() - started;
    let mut failures = Vec::new();
    let telling = Telling { shrink: args.shrink, artifacts: args.artifacts.as_deref(), visible: !args.json, dress };
    for ((name, subject), tally) in names.iter().zip(&subjects).zip(&tallies) {
        for (found, count) in tally.failures.values() {
            let (text, json) = telling.tell(name, &subject.kind, found, *count)?;
            failures.push(json);
            if !args.json {
                println!("{text}");
            }
        }
    }
    if args.json {
        let rows: Vec<_> = names.iter().zip(&tallies).map(|(name, tally)| tally_json(name, tally)).collect();
        let seconds = elapsed.as_secs_f64();
        let all = serde_json::json!({ "sweeps": rows, "failures": failures, "seconds": seconds, "jobs": jobs });
        println!("{all:#}");
    } else {
        print!("{}", summary(&names, &tallies, elapsed * jobs as u32));
        let verdict = match failures.len() {
            0 => dress.good("no failure"),
            count => dress.bad(&format!("failures of {count} kinds")),
        };
        println!("{} sweeps, {verdict}.", names.len());
    }
    Ok(failures.is_empty())
}

/// How failures of sweeps are told of.
pub(super) struct Telling<'a> {
    /// How long each may be shrunk.
    pub(super) shrink: Duration,
    /// Where they are written, if not to the usual place.
    pub(super) artifacts: Option<&'a Path>,
    /// Whether progress is shown.
    pub(super) visible: bool,
    pub(super) dress: Dress,
}

impl Telling<'_> {
    /// A failure, for people and for programs: what, where, and the run that repeats it, shrunk and written down.
    pub(super) fn tell(
        &self,
        name: &str,
        kind: &Arc<dyn StoreKind>,
        found: &Found,
        count: u64,
    ) -> Result<(String, serde_json::Value), String> {
        let mut text = format!("{} {name}   {}\n", self.dress.bad("FAILED"), found.finding.fingerprint());
        let mut line = |line: &str| {
            text.push_str("  ");
            text.push_str(line);
            text.push('\n');
        };
        line(&found.finding.symptom);
        found.finding.details.iter().flat_map(|detail| detail.lines()).for_each(&mut line);
        line(&format!("at operation {} of {}, and at {} more images", found.ops, found.artifact.plan.ops(), count - 1));
        found.crashes.iter().for_each(|crash| line(&format!("after {crash}")));
        if let Some(report) = &found.report {
            report.lost.iter().for_each(|fate| line(&format!("  lost: {fate}")));
        }
        let (path, shrunk) = self.keep(&found.artifact, kind)?;
        text.push_str(&shrunk);
        let json = serde_json::json!({
            "sweep": name,
            "fingerprint": found.finding.fingerprint(),
            "symptom": found.finding.symptom,
            "details": found.finding.details,
            "operation": found.ops,
            "crashes": found.crashes,
            "images": count,
            "artifact": path.map(|path| path.display().to_string()),
        });
        Ok((text, json))
    }

    /// Shrinks the run of a failure, and writes it down.
    fn keep(&self, artifact: &Artifact, kind: &Arc<dyn StoreKind>) -> Result<(Option<PathBuf>, String), String> {
        let report = artifact.run(kind, &RunOptions { record: true, ..RunOptions::default() });
        let fails_so = report.failure.as_ref().is_some_and(|run| run.finding.fingerprint() == artifact.fingerprint);
        if fails_so && !self.shrink.is_zero() {
            let shrunk = watched(&artifact.plan, artifact.seed, &report, kind, self.shrink, self.visible);
            let path = save(&shrunk, self.artifacts)?;
            return Ok((path.clone(), report::shrunk_lines(&shrunk, path.as_deref())));
        }
        let path = save_whole(artifact, self.artifacts)?;
        let mut text = format!("  {}\n", path.display());
        if fails_so {
            text.push_str(&format!("  replay:   {COMMAND} replay {}\n", path.display()));
        } else {
            let seen = report.failure.map_or_else(|| "passes".to_string(), |run| run.finding.fingerprint());
            text.push_str(&format!("  as an ordinary run it {seen}: what differs is not known\n"));
        }
        Ok((Some(path), text))
    }
}

const HEAD: [&str; 7] =
    ["sweep", "boundaries", "canonical images", "explored whole", "distinct images", "recoveries", "failures"];

/// The sweeps as a table. `work` is real time times the number of threads.
fn summary(names: &[String], tallies: &[Tally], work: Duration) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled).set_header(HEAD);
    let right = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
    let of = |part: u64, whole: u64| right(format!("{} of {}", report::count(part), report::count(whole)));
    let (mut distinct, mut recoveries) = (0, 0);
    for (name, tally) in names.iter().zip(tallies) {
        let images = tally.distinct.len() as u64;
        distinct += images + tally.nested;
        recoveries += tally.recoveries;
        table.add_row([
            Cell::new(name),
            of(tally.boundaries, tally.total),
            of(tally.images, tally.images_legal),
            of(tally.lazy_whole, tally.boundaries),
            right(report::count(images)),
            right(report::count(tally.recoveries)),
            right(report::count(tally.failures.len() as u64)),
        ]);
    }
    let mut text: String = table.lines().map(|line| format!("{}\n", line.trim_end())).collect();
    text.push_str(&format!(
        "{} distinct crash images/s, {} recoveries/s per thread\n",
        report::rate(distinct, work),
        report::rate(recoveries, work)
    ));
    text
}

fn tally_json(name: &str, tally: &Tally) -> serde_json::Value {
    serde_json::json!({
        "sweep": name,
        "boundaries": tally.boundaries,
        "boundaries_total": tally.total,
        "images": tally.images,
        "images_legal": tally.images_legal,
        "images_lazy": tally.lazy,
        "boundaries_explored_whole": tally.lazy_whole,
        "images_paired": tally.paired,
        "images_distinct": tally.distinct.len(),
        "images_nested": tally.nested,
        "recoveries": tally.recoveries,
        "failures": tally.failures.len(),
    })
}
