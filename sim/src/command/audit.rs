//! `shake audit`: leaves out each sync of the store in turn, and prints who noticed.

use super::{dress, duration, kind_of, load};
use clap::Args;
use comfy_table::{CellAlignment, ContentArrangement, Table, presets::NOTHING};
use shaketable::audit::needless::{self, Needless};
use shaketable::audit::{Standing, Subject, Verdict};
use shaketable::report;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Duration;

#[derive(Args)]
pub(crate) struct AuditArgs {
    /// Audits only the syncs with one of these texts in them, such as `write.rs` or `MANIFEST`.
    site: Vec<String>,
    /// How long each omission is searched for: 20s, 5m.
    #[arg(long, value_name = "TIME", default_value = "20s", value_parser = duration)]
    budget: Duration,
    /// OS threads; all cores where it is not given.
    #[arg(long, short)]
    jobs: Option<usize>,
    /// Prints JSON.
    #[arg(long, conflicts_with = "markdown")]
    json: bool,
    /// Prints the table as Markdown.
    #[arg(long)]
    markdown: bool,
}

pub(crate) fn audit(dir: &Path, args: &AuditArgs) -> Result<bool, String> {
    let scenarios = load(dir)?;
    let with_kind = |scenario: shaketable::scenario::Scenario| kind_of(&scenario.store).map(|kind| (scenario, kind));
    let subject = Subject { scenarios: scenarios.into_iter().map(with_kind).collect::<Result<_, _>>()? };
    let needless = Needless::load(&needless::home(), &root())?;
    let mut sites = subject.sites();
    if !args.site.is_empty() {
        sites.retain(|site, _| args.site.iter().any(|text| site.to_string().contains(text.as_str())));
    }
    if sites.is_empty() {
        return Err("no sync matches; `shake audit` without names lists them all".into());
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let loud = !args.json && !args.markdown && std::io::stderr().is_terminal();
    let verdicts = subject.audit(&sites, args.budget, args.jobs.unwrap_or(cores), &|verdict| {
        if loud {
            eprintln!("{}: {}", verdict.site, outcome(verdict, &needless));
        }
    });
    let standings: Vec<Standing> = verdicts.iter().map(|verdict| verdict.standing(&needless)).collect();
    let count = |standing: fn(&Standing) -> bool| standings.iter().filter(|other| standing(other)).count();
    let needed = count(|standing| *standing == Standing::Needed);
    let excused = count(|standing| matches!(standing, Standing::NotNeeded(_)));
    let sound = needed + excused == verdicts.len();
    if args.json {
        println!("{:#}", serde_json::Value::Array(verdicts.iter().map(|verdict| json(verdict, &needless)).collect()));
    } else if args.markdown {
        print!("{}", markdown(&verdicts, &needless));
    } else {
        println!("{}", table(&verdicts, &needless));
        let dress = dress(std::io::stdout().is_terminal());
        let count = format!(
            "of {} syncs {needed} are missed when they are left out, {excused} are known to be needless, {} are neither",
            verdicts.len(),
            verdicts.len() - needed - excused
        );
        println!("{}.", if sound { dress.good(&count) } else { dress.bad(&count) });
    }
    Ok(sound)
}

/// Where the source is that call sites are lines of.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn outcome(verdict: &Verdict, needless: &Needless) -> String {
    let noticed = verdict.noticed.as_ref().map(|noticed| noticed.fingerprint.as_str()).unwrap_or_default();
    match verdict.standing(needless) {
        Standing::Needed => noticed.into(),
        Standing::NeededAfterAll => format!("{noticed}, though it is said to be needless"),
        Standing::NotNeeded(_) => "nobody: not needed".into(),
        Standing::Unexplained => "nobody, and it is not known why".into(),
    }
}

const HEADS: [&str; 7] = ["call site", "sync", "of", "noticed by", "first in", "runs", "core seconds"];

fn cells(verdict: &Verdict, needless: &Needless) -> [String; 7] {
    let first = match &verdict.noticed {
        Some(noticed) => format!("{}#{}", noticed.scenario, noticed.seed),
        None => String::new(),
    };
    [
        verdict.site.place(),
        verdict.site.op.name().into(),
        verdict.site.what.clone(),
        outcome(verdict, needless),
        first,
        report::count(verdict.runs),
        format!("{:.2}", verdict.spent.as_secs_f64()),
    ]
}

fn table(verdicts: &[Verdict], needless: &Needless) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled).set_header(HEADS);
    for verdict in verdicts {
        table.add_row(cells(verdict, needless));
    }
    for column in [5, 6] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

fn markdown(verdicts: &[Verdict], needless: &Needless) -> String {
    let row = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let mut text = row(&HEADS.map(String::from));
    text.push_str("|---|---|---|---|---|--:|--:|\n");
    for verdict in verdicts {
        let [site, op, what, outcome, first, runs, spent] = cells(verdict, needless);
        text.push_str(&row(&[format!("`{site}`"), op, format!("`{what}`"), outcome, first, runs, spent]));
    }
    for verdict in verdicts {
        if let Standing::NotNeeded(why) = verdict.standing(needless) {
            text.push_str(&format!(
                "\nThe {} of `{}` at `{}` is not needed: {why}.\n",
                verdict.site.op.name(),
                verdict.site.what,
                verdict.site.place()
            ));
        }
    }
    text
}

fn json(verdict: &Verdict, needless: &Needless) -> serde_json::Value {
    serde_json::json!({
        "file": verdict.site.file,
        "line": verdict.site.line,
        "sync": verdict.site.op.name(),
        "of": verdict.site.what,
        "asked": verdict.asked,
        "runs": verdict.runs,
        "core_seconds": verdict.spent.as_secs_f64(),
        "needless": needless.why(&verdict.site),
        "noticed": verdict.noticed.as_ref().map(|noticed| serde_json::json!({
            "fingerprint": noticed.fingerprint,
            "symptom": noticed.symptom,
            "scenario": noticed.scenario,
            "seed": noticed.seed,
        })),
    })
}
