//! `shake zoo`: plants real bugs of other engines one at a time, hunts each, and prints the scoreboard.

use super::{dress, duration};
use clap::Args;
use comfy_table::{CellAlignment, ContentArrangement, Table, presets::NOTHING};
use parking_lot::Mutex;
use shaketable::report;
use shaketable::scenario::nearest;
use shaketable::zoo::bug::{self, Bug};
use shaketable::zoo::hunt::{Explained, hunt};
use shaketable::zoo::{Hunt, Place, STRATEGIES, Scratch};
use std::io::IsTerminal;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

#[derive(Args)]
pub(crate) struct ZooArgs {
    /// Bugs by name, or part of a name; all where none is given.
    bug: Vec<String>,
    /// How long each bug is hunted, all strategies together: 20s, 5m.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration)]
    budget: Duration,
    /// Copies of the workspace that are built and hunted in at once; half of the cores where it is not given.
    #[arg(long, short)]
    jobs: Option<usize>,
    /// Only the canary.
    #[arg(long, conflicts_with = "bug")]
    canary: bool,
    /// Only sees that every patch applies.
    #[arg(long)]
    check: bool,
    /// Prints JSON.
    #[arg(long, conflicts_with = "markdown")]
    json: bool,
    /// Prints the scoreboard as Markdown.
    #[arg(long)]
    markdown: bool,
}

/// Exit code 2 where a patch does not apply or build, 1 where the canary was hunted and not found.
pub(crate) fn zoo(args: &ZooArgs) -> Result<bool, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().map_err(|error| error.to_string())?;
    let bugs = chosen(args)?;
    for bug in &bugs {
        bug.planted_in(&root)?;
    }
    if args.check {
        println!("{} bugs, every patch applies", bugs.len());
        return Ok(true);
    }
    let loud = !args.json;
    let hunts = hunt_all(&root, &bugs, args, &|bug, hunt| {
        if loud {
            eprintln!("{}: {}", bug.name, outcome(hunt));
        }
    })?;
    let rows: Vec<(&Bug, &Hunt)> = bugs.iter().zip(&hunts).collect();
    let unbuilt: Vec<&str> = hunts.iter().filter_map(|hunt| hunt.unbuilt.as_deref()).collect();
    let lost_canary = rows.iter().any(|(bug, hunt)| bug.is_canary && hunt.catch.is_none());
    if args.json {
        let rows: Vec<_> = rows.iter().map(|(bug, hunt)| json(bug, hunt)).collect();
        println!("{:#}", serde_json::json!({ "bugs": rows, "budget_seconds": args.budget.as_secs_f64() }));
    } else if args.markdown {
        print!("{}\n{}\n", markdown(&rows), summary(&rows));
    } else {
        let dress = dress(std::io::stdout().is_terminal());
        println!("{}\n{}", table(&rows), summary(&rows));
        if lost_canary {
            println!("{}", dress.bad("The canary was not found: the simulator is blind."));
        }
    }
    if unbuilt.is_empty() { Ok(!lost_canary) } else { Err(unbuilt.join("\n")) }
}

fn chosen(args: &ZooArgs) -> Result<Vec<Bug>, String> {
    let mut bugs = bug::load_all(&bug::home())?;
    if args.canary {
        bugs.retain(|bug| bug.is_canary);
    }
    for wanted in &args.bug {
        if !bugs.iter().any(|bug| bug.name.contains(wanted.as_str())) {
            let hint = nearest(wanted, bugs.iter().map(|bug| bug.name.as_str()));
            let hint = hint.map_or_else(String::new, |name| format!("; did you mean {name}?"));
            return Err(format!("no bug {wanted:?}{hint}"));
        }
    }
    bugs.retain(|bug| args.bug.is_empty() || args.bug.iter().any(|wanted| bug.name.contains(wanted.as_str())));
    if bugs.is_empty() { Err("there are no bugs to hunt".into()) } else { Ok(bugs) }
}

/// Hunts all bugs, a few at a time, each in a copy of its own. One that does not build is passed over.
fn hunt_all(
    root: &Path,
    bugs: &[Bug],
    args: &ZooArgs,
    hear: &(dyn Fn(&Bug, &Hunt) + Sync),
) -> Result<Vec<Hunt>, String> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let jobs = args.jobs.unwrap_or(cores / 2).clamp(1, bugs.len());
    let next = AtomicUsize::new(0);
    let hunts: Mutex<Vec<Option<Result<Hunt, String>>>> = Mutex::new(vec![None; bugs.len()]);
    std::thread::scope(|scope| {
        for number in 0..jobs {
            let (next, hunts) = (&next, &hunts);
            scope.spawn(move || {
                let scratch = Scratch::new(root, number);
                while let Some(bug) = bugs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let done =
                        scratch.as_ref().map_err(Clone::clone).map(|scratch| one(root, scratch, bug, args.budget));
                    match &done {
                        Ok(hunt) => hear(bug, hunt),
                        // Nothing more is begun: the run is over.
                        Err(_) => next.store(bugs.len(), Ordering::Relaxed),
                    }
                    let index = bugs.iter().position(|other| other.name == bug.name).expect("it is one of them");
                    hunts.lock()[index] = Some(done);
                }
            });
        }
    });
    hunts.into_inner().into_iter().flatten().collect()
}

fn one(root: &Path, scratch: &Scratch, bug: &Bug, budget: Duration) -> Hunt {
    let place = Place { files: bug.files(), marks: bug.marks(root) };
    match scratch.build(Some(bug)) {
        Ok(shake) => hunt(&shake, &scratch.artifacts().join(&bug.name), STRATEGIES, budget, &place),
        Err(said) => Hunt { unbuilt: Some(said), ..Hunt::default() },
    }
}

fn outcome(hunt: &Hunt) -> String {
    match &hunt.catch {
        Some(catch) => format!("{} after {:.2} s", catch.fingerprint, hunt.spent.as_secs_f64()),
        None if hunt.unbuilt.is_some() => "does not build".into(),
        None if hunt.broken.is_empty() => "not found".into(),
        None => format!("not found; {}", hunt.broken.join("; ")),
    }
}

const HEADS: [&str; 9] =
    ["bug", "found by", "strategy", "first in", "explain", "seeds", "core seconds", "operations", "lost"];

fn cells(bug: &Bug, hunt: &Hunt) -> [String; 9] {
    let shown = |number: Option<u64>| number.map_or_else(String::new, report::count);
    let catch = hunt.catch.as_ref();
    let first = catch.map(|catch| match catch.seed {
        Some(seed) => format!("{}#{seed}", catch.scenario),
        None => catch.scenario.clone(),
    });
    [
        bug.name.clone(),
        catch.map_or_else(|| format!("**{}**", outcome(hunt)), |catch| catch.fingerprint.clone()),
        catch.map_or_else(String::new, |catch| catch.strategy.into()),
        first.unwrap_or_default(),
        catch.and_then(|catch| catch.explained).map_or_else(String::new, |explained| explained.word().into()),
        report::count(hunt.seeds),
        format!("{:.2}", hunt.spent.as_secs_f64()),
        shown(catch.and_then(|catch| catch.operations)),
        shown(catch.and_then(|catch| catch.lost)),
    ]
}

fn table(rows: &[(&Bug, &Hunt)]) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled).set_header(HEADS);
    for (bug, hunt) in rows {
        table.add_row(cells(bug, hunt));
    }
    for column in 5..HEADS.len() {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

fn markdown(rows: &[(&Bug, &Hunt)]) -> String {
    let row = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let mut text = row(&HEADS.map(String::from));
    text.push_str("|---|---|---|---|---|--:|--:|--:|--:|\n");
    rows.iter().for_each(|(bug, hunt)| text.push_str(&row(&cells(bug, hunt))));
    text
}

/// How many were found, and how soon.
fn summary(rows: &[(&Bug, &Hunt)]) -> String {
    let mut spent: Vec<Duration> =
        rows.iter().filter(|(_, hunt)| hunt.catch.is_some()).map(|(_, hunt)| hunt.spent).collect();
    spent.sort();
    let median = spent.get(spent.len() / 2).copied().unwrap_or_default().as_secs_f64();
    let most = spent.last().copied().unwrap_or_default().as_secs_f64();
    let sizes = |of: fn(&Hunt) -> Option<u64>| {
        let mut sizes: Vec<u64> = rows.iter().filter_map(|(_, hunt)| of(hunt)).collect();
        sizes.sort_unstable();
        sizes.get(sizes.len() / 2).copied().map_or_else(|| "?".into(), |size| size.to_string())
    };
    let explained =
        |how| rows.iter().filter(|(_, hunt)| hunt.catch.as_ref().is_some_and(|c| c.explained == Some(how))).count();
    format!(
        "{} of {} found; core seconds: median {median:.2}, at most {most:.2}; shrunk: median {} operations, {} things lost; \
         the explanation names the file of {}, and comes past that of {} more",
        spent.len(),
        rows.len(),
        sizes(|hunt| hunt.catch.as_ref()?.operations),
        sizes(|hunt| hunt.catch.as_ref()?.lost),
        explained(Explained::Named),
        explained(Explained::Told),
    )
}

fn json(bug: &Bug, hunt: &Hunt) -> serde_json::Value {
    serde_json::json!({
        "bug": bug.name,
        "from": bug.from,
        "where": bug.place,
        "canary": bug.is_canary,
        "seeds": hunt.seeds,
        "core_seconds": hunt.spent.as_secs_f64(),
        "broken": hunt.broken,
        "found": hunt.catch.as_ref().map(|catch| serde_json::json!({
            "strategy": catch.strategy,
            "scenario": catch.scenario,
            "seed": catch.seed,
            "fingerprint": catch.fingerprint,
            "symptom": catch.symptom,
            "operations": catch.operations,
            "lost": catch.lost,
            "explain": catch.explained.map(|explained| explained.word()),
        })),
    })
}
