//! The subcommands of `shake`, and what they share: how arguments are read, and how scenarios and failures are found.
//!
//! A subcommand returns whether it found nothing wrong, or why it could not do its work.

pub(crate) mod audit;
pub(crate) mod exhaust;
pub(crate) mod explain;
pub(crate) mod explore;
pub(crate) mod list;
pub(crate) mod merge;
pub(crate) mod metamorphic;
pub(crate) mod nth;
pub(crate) mod replay;
pub(crate) mod run;
pub(crate) mod schedules;
pub(crate) mod shrink;
pub(crate) mod sweep;
pub(crate) mod zoo;

use shaketable::artifact::{self, Artifact};
use shaketable::explain::look;
use shaketable::report::Dress;
use shaketable::report::page::Subject;
use shaketable::rng::Decisions;
use shaketable::runner::{RunOptions, RunReport, run_plan};
use shaketable::scenario::{self, Scenario, nearest};
use shaketable::seeds::Seeds;
use shaketable::shrink::Shrunk;
use shaketable::store::StoreKind;
use shaketable::strata::StrataKind;
use shaketable::transfer;
use shaketable::workload::{self, Plan};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub(crate) fn duration(text: &str) -> Result<Duration, String> {
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

pub(crate) fn seeds(text: &str) -> Result<Seeds, String> {
    if text == "random" { Ok(Seeds::from(random_start())) } else { Seeds::parse(text) }
}

/// The seeds of a commit: of a full hash, or of whatever git knows a commit by.
pub(crate) fn seeds_from(rev: &str) -> Result<Seeds, String> {
    if rev.len() >= 40 && rev.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Seeds::of_commit(rev);
    }
    let asked = std::process::Command::new("git")
        .args(["rev-parse", "--verify", "--quiet", "--end-of-options", &format!("{rev}^{{commit}}")])
        .output()
        .map_err(|error| format!("{rev:?} is no full hash, and git cannot be asked for it: {error}"))?;
    if !asked.status.success() {
        return Err(format!("{rev:?} is no full hash, and git knows no such commit here"));
    }
    Seeds::of_commit(String::from_utf8_lossy(&asked.stdout).trim())
}

/// A seed that no other day has used; short enough to be typed.
#[expect(clippy::disallowed_methods, reason = "this is the one place that asks for a real random start")]
pub(crate) fn random_start() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    (now.as_micros() as u64) % 1_000_000_000_000
}

/// Engines that are not ours, which only the feature `foreign` builds.
const FOREIGN: [&str; 2] = ["redb", "rusty-leveldb"];

/// Stores that scenarios can name.
pub(crate) fn kind_of(store: &str) -> Result<Arc<dyn StoreKind>, String> {
    #[cfg(feature = "foreign")]
    let foreign = shaketable::foreign::kinds();
    #[cfg(not(feature = "foreign"))]
    let foreign: [Arc<dyn StoreKind>; 0] = [];
    let ours: Arc<dyn StoreKind> = Arc::new(StrataKind);
    let kinds: Vec<Arc<dyn StoreKind>> = std::iter::once(ours).chain(foreign).collect();
    if let Some(kind) = kinds.iter().find(|kind| kind.name() == store) {
        return Ok(kind.clone());
    }
    if FOREIGN.contains(&store) {
        return Err(format!(
            "{store} is an engine that is not ours, and not in this build: say `cargo shake-foreign` instead of `cargo shake`"
        ));
    }
    let names: Vec<&str> = kinds.iter().map(|kind| kind.name()).chain(FOREIGN).collect();
    let hint = nearest(store, names.iter().copied());
    let hint = hint.map_or_else(String::new, |name| format!(", did you mean {name}?"));
    Err(format!("no store {store:?}{hint}; there are {}", names.join(", ")))
}

/// The scenarios of a directory, each of which its store accepts.
pub(crate) fn load(dir: &Path) -> Result<Vec<Scenario>, String> {
    let scenarios = scenario::load_all(dir).map_err(|bad| bad.to_string())?;
    for scenario in &scenarios {
        workload::check_options(scenario, kind_of(&scenario.store)?.as_ref())
            .map_err(|message| format!("{}: {message}", scenario.name))?;
    }
    Ok(scenarios)
}

pub(crate) fn find(dir: &Path, name: &str) -> Result<Scenario, String> {
    if let Some(name) = scenario::unswarmed(name) {
        return find(dir, name).map(Scenario::swarmed);
    }
    if let Some((name, store)) = transfer::origin(name) {
        return Ok(transfer::transfer(find(dir, name)?, kind_of(store)?.as_ref())?.scenario);
    }
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

pub(crate) fn dress(terminal: bool) -> Dress {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    if terminal && !refused { Dress::Colour } else { Dress::Plain }
}

pub(crate) fn save(shrunk: &Shrunk, dir: Option<&Path>) -> Result<Option<PathBuf>, String> {
    if !shrunk.replays {
        return Ok(None);
    }
    save_whole(&shrunk.artifact, dir).map(Some)
}

/// Writes a failure down as it is, if not to the usual place, then here.
pub(crate) fn save_whole(artifact: &Artifact, dir: Option<&Path>) -> Result<PathBuf, String> {
    let dir = dir.map_or_else(artifact::home, Path::to_path_buf);
    let path = artifact.save(&dir).map_err(|error| format!("cannot write to {}: {error}", dir.display()))?;
    Ok(tidy(&path))
}

/// Writes a file of the real disk.
#[expect(clippy::disallowed_methods, reason = "results are kept on the real disk")]
pub(crate) fn write(path: &Path, text: &str) -> Result<(), String> {
    std::fs::write(path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))
}

/// Reads a file of the real disk; `-` is the standard input. What is no UTF-8 becomes a sign for that.
#[expect(clippy::disallowed_methods, reason = "results and logs are kept on the real disk")]
pub(crate) fn read(path: &Path) -> Result<String, String> {
    let bytes = if path == Path::new("-") {
        let mut bytes = Vec::new();
        std::io::stdin().read_to_end(&mut bytes).map(|_| bytes)
    } else {
        std::fs::read(path)
    };
    let bytes = bytes.map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The path as seen from here, where that is shorter.
pub(crate) fn tidy(path: &Path) -> PathBuf {
    let canonical = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    let here = std::env::current_dir().unwrap_or_default();
    canonical.strip_prefix(&here).map_or_else(|_| canonical.clone(), Path::to_path_buf)
}

/// A run of more operations is not explained in passing: that takes up to some thousand runs of it.
pub(crate) const EXPLAINED_OPS_MAX: usize = 20;

/// The run of a seed as it is, for a page.
pub(crate) fn seen_seed(scenario: &Scenario, kind: &Arc<dyn StoreKind>, seed: u64) -> Subject {
    let mut decisions = Decisions::from_seed(seed);
    let plan = workload::plan(scenario, kind.as_ref(), &mut decisions);
    let witnessed = look(&plan, kind, decisions);
    let finding = witnessed.report.failure.as_ref().map(|failure| &failure.finding);
    let artifact = Artifact {
        symptom: finding.map_or_else(String::new, |finding| finding.symptom.clone()),
        fingerprint: finding.map_or_else(String::new, |finding| finding.fingerprint()),
        seed: Some(seed),
        plan,
        decisions: witnessed.report.decisions.clone(),
    };
    Subject::seen(&format!("{}#{seed}", scenario.name), artifact, witnessed)
}

pub(crate) fn run_recorded(scenario: &Scenario, kind: &Arc<dyn StoreKind>, seed: u64) -> (Plan, RunReport) {
    let mut decisions = Decisions::from_seed(seed);
    let plan = workload::plan(scenario, kind.as_ref(), &mut decisions);
    let options = RunOptions { record: true, ..RunOptions::default() };
    let report = run_plan(Arc::new(plan.clone()), kind, decisions, &options);
    (plan, report)
}

/// A failure to look at: from a file, or from a seed.
pub(crate) enum Case {
    File(Box<Artifact>),
    Seed(Box<Scenario>, u64),
}

pub(crate) fn case_of(dir: &Path, what: &str) -> Result<Case, String> {
    match what.rsplit_once('#') {
        Some((name, seed)) => {
            let seed = seed.parse().map_err(|_| format!("{seed:?} is no seed"))?;
            Ok(Case::Seed(Box::new(find(dir, name)?), seed))
        }
        None => Artifact::load(Path::new(what)).map(|artifact| Case::File(Box::new(artifact))),
    }
}
