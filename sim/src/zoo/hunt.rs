//! A hunt: every strategy in turn against one planted bug, within a budget, until one of them has found it.
//!
//! The hunter is the `shake` that was built with the bug inside, run as a process of its own: a bug may hang or end it. A
//! strategy is a row of [`STRATEGIES`], and whoever adds a subcommand that searches adds a row.
//!
//! A find counts with the processor time that it took, building and shrinking not counted.

use crate::artifact::Artifact;
use crate::campaign::real_now;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// A way to search: arguments for `shake`, which prints JSON with a list of `failures` and ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Strategy {
    /// Its name on the scoreboard.
    pub name: &'static str,
    /// How much of what is left of the budget it gets, beside the weights of those behind it.
    pub weight: u32,
    /// Its arguments.
    pub args: &'static [&'static str],
    /// Whether it keeps to the scenarios that came to the files in which the bug sits, as the campaign before it saw.
    pub directed: bool,
}

impl Strategy {
    const fn of(name: &'static str, weight: u32, args: &'static [&'static str]) -> Strategy {
        Strategy { name, weight, args, directed: false }
    }
}

/// All of them, in the order in which they are tried. The campaign has every check on, the durability sanitizer too. It gives each
/// scenario the same time; what it has not found then may take more of the few scenarios that come to the changed code at all.
pub const STRATEGIES: &[Strategy] = &[
    Strategy::of("campaign", 3, &["run", "--fail-fast", "--jobs", "1"]),
    Strategy {
        directed: true,
        ..Strategy::of("directed", 5, &["run", "--fail-fast", "--jobs", "1", "--seeds", "1000.."])
    },
    Strategy::of("sweep", 1, &["sweep", "--jobs", "1"]),
    Strategy::of("exhaust", 1, &["exhaust", "--length", "3", "--jobs", "1"]),
    Strategy::of("nth", 1, &["nth", "--jobs", "1"]),
    Strategy::of("schedules", 1, &["schedules", "--jobs", "1"]),
    Strategy::of("swarm", 3, &["run", "--swarm", "--fail-fast", "--jobs", "1"]),
];

/// So many scenarios are near to a bug.
const NEAR: usize = 6;

/// How long a strategy may go on after its budget is over, to shrink and tell.
const GRACE: Duration = Duration::from_secs(30);

/// How long a failure may be shrunk.
const SHRINK: &str = "3s";

/// A bug that was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Catch {
    /// By which strategy.
    pub strategy: &'static str,
    /// In which scenario.
    pub scenario: String,
    /// With which seed.
    pub seed: Option<u64>,
    /// By which check.
    pub fingerprint: String,
    /// What happened, in one sentence.
    pub symptom: String,
    /// Operations of the shrunk run.
    pub operations: Option<u64>,
    /// What the crash of the shrunk run lost.
    pub lost: Option<u64>,
    /// Where the shrunk run is.
    pub artifact: Option<PathBuf>,
    /// Whether `shake explain` led to the planted line.
    pub explained: Option<Explained>,
}

/// How near the explanation of a failure came to the file in which the bug sits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Explained {
    /// The sentence that says what is missing names it, or the symptom does.
    Named,
    /// A step of the story happens in it.
    Told,
    /// It is not mentioned.
    Silent,
}

impl Explained {
    /// As the scoreboard and JSON say it.
    pub fn word(self) -> &'static str {
        match self {
            Explained::Named => "names it",
            Explained::Told => "in its story",
            Explained::Silent => "no",
        }
    }

    /// What the JSON of `shake explain` comes to, for a bug in these files.
    fn judge(said: &serde_json::Value, files: &[&str]) -> Explained {
        let mentions = |value: &serde_json::Value| {
            let text = value.to_string();
            files.iter().any(|file| text.contains(&format!("{file}:")))
        };
        if [&said["symptom"], &said["why"], &said["lines"]].into_iter().any(mentions) {
            Explained::Named
        } else if mentions(&said["steps"]) {
            Explained::Told
        } else {
            Explained::Silent
        }
    }
}

/// What a hunt came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Hunt {
    /// Seeds that were run.
    pub seeds: u64,
    /// Processor time until the bug was found, or until the budget was over.
    pub spent: Duration,
    /// What was found.
    pub catch: Option<Catch>,
    /// Strategies that did not come to their end by themselves, or said what cannot be read.
    pub broken: Vec<String>,
    /// What the compiler said, where there was nothing to hunt with.
    pub unbuilt: Option<String>,
}

/// Where a bug sits.
#[derive(Clone, Debug, Default)]
pub struct Place<'a> {
    /// The files.
    pub files: Vec<&'a str>,
    /// The names of the sometimes-points in them.
    pub marks: BTreeSet<String>,
}

/// Hunts with a `shake` that has a bug inside, and lets it explain what it found.
pub fn hunt(shake: &Path, artifacts: &Path, strategies: &[Strategy], budget: Duration, place: &Place<'_>) -> Hunt {
    let (mut hunt, mut near) = (Hunt::default(), Vec::new());
    let started = real_now();
    for (index, strategy) in strategies.iter().enumerate() {
        if strategy.directed && near.is_empty() {
            continue;
        }
        let weights: u32 = strategies[index..].iter().map(|strategy| strategy.weight).sum();
        let share = budget.saturating_sub(real_now() - started) * strategy.weight / weights;
        let mut args: Vec<OsString> = strategy.args.iter().map(OsString::from).collect();
        args.extend(["--json", "--shrink", SHRINK, "--time"].map(OsString::from));
        args.extend([format!("{}ms", share.as_millis()).into(), "--artifacts".into(), artifacts.into()]);
        if strategy.directed {
            args.extend(near.iter().map(OsString::from));
        }
        match said(shake, artifacts, &args, share) {
            Ok(said) => {
                hunt.take(strategy, &said);
                if near.is_empty() {
                    near = nearest(&said, &place.marks);
                }
            }
            Err(why) => hunt.broken.push(format!("{}: {why}", strategy.name)),
        }
        if hunt.catch.is_some() {
            break;
        }
    }
    if let Some(catch) = &mut hunt.catch
        && let Some(artifact) = &catch.artifact
    {
        let args = ["explain".into(), "--json".into(), artifact.into()];
        catch.explained =
            said(shake, artifacts, &args, Duration::ZERO).ok().map(|said| Explained::judge(&said, &place.files));
        // Only a campaign says itself what is left of the run.
        let shrunk = Artifact::load(artifact).ok();
        catch.operations = catch.operations.or(shrunk.map(|artifact| artifact.plan.ops() as u64));
    }
    hunt
}

/// The scenarios of a campaign that came most to these sometimes-points, for each second that they ran. Each point counts the same,
/// and is shared by the scenarios that came to it: one that few come to says more than one that all do.
fn nearest(said: &serde_json::Value, marks: &BTreeSet<String>) -> Vec<String> {
    let scenarios = said["scenarios"].as_array().map(Vec::as_slice).unwrap_or_default();
    let rate = |scenario: &serde_json::Value, mark: &str| {
        let hits = scenario["coverage"]["marks"][mark].as_f64().unwrap_or_default();
        hits / scenario["busy_seconds"].as_f64().unwrap_or_default().max(0.001)
    };
    let mut scores = vec![0.0; scenarios.len()];
    for mark in marks {
        let sum: f64 = scenarios.iter().map(|scenario| rate(scenario, mark)).sum();
        if sum > 0.0 {
            scores.iter_mut().zip(scenarios).for_each(|(score, scenario)| *score += rate(scenario, mark) / sum);
        }
    }
    let names = scenarios.iter().map(|scenario| scenario["scenario"].as_str().unwrap_or_default());
    let mut ranked: Vec<(f64, &str)> = scores.into_iter().zip(names).filter(|(score, _)| *score > 0.0).collect();
    // By name where the scores are equal, so that two hunts go the same way.
    ranked.sort_by(|one, other| other.0.total_cmp(&one.0).then(one.1.cmp(other.1)));
    ranked.into_iter().take(NEAR).map(|(_, name)| name.to_string()).collect()
}

impl Hunt {
    /// Takes over what a strategy said.
    fn take(&mut self, strategy: &Strategy, said: &serde_json::Value) {
        let scenarios = said["scenarios"].as_array().map(Vec::as_slice).unwrap_or_default();
        self.seeds += scenarios.iter().filter_map(|scenario| scenario["seeds"].as_u64()).sum::<u64>();
        let failure = &said["failures"][0];
        let spent = [&failure["core_seconds"], &said["core_seconds"], &said["seconds"]]
            .into_iter()
            .find_map(|time| time.as_f64());
        self.spent += Duration::try_from_secs_f64(spent.unwrap_or_default()).unwrap_or_default();
        let word = |name: &str| failure[name].as_str().map(str::to_string);
        let Some(fingerprint) = word("fingerprint") else { return };
        self.catch = Some(Catch {
            strategy: strategy.name,
            scenario: word("scenario").or(word("sweep")).unwrap_or_default(),
            seed: failure["seed"].as_u64(),
            fingerprint,
            symptom: word("symptom").unwrap_or_default(),
            operations: failure["shrunk"]["after"]["operations"].as_u64(),
            lost: failure["shrunk"]["after"]["lost"].as_u64(),
            artifact: word("artifact").map(PathBuf::from),
            explained: None,
        });
    }
}

/// Runs a `shake`, and reads what it says.
#[expect(clippy::disallowed_methods, reason = "a process of the real world is waited for, and what it said is read")]
fn said(shake: &Path, artifacts: &Path, args: &[OsString], budget: Duration) -> Result<serde_json::Value, String> {
    let out: PathBuf = artifacts.join("said.json");
    std::fs::create_dir_all(artifacts).map_err(|error| error.to_string())?;
    let file = std::fs::File::create(&out).map_err(|error| error.to_string())?;
    let mut child = Command::new(shake)
        .args(args)
        .stdin(Stdio::null())
        .stdout(file)
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| error.to_string())?;
    let deadline = real_now() + budget + GRACE;
    while child.try_wait().map_err(|error| error.to_string())?.is_none() {
        if real_now() >= deadline {
            let _ = child.kill();
            let _ = child.wait();
            return Err(format!("it did not end within {} s of its budget", GRACE.as_secs()));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let text = std::fs::read_to_string(&out).map_err(|error| error.to_string())?;
    serde_json::from_str(&text).map_err(|error| format!("it said no JSON: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_strategy_says_becomes_a_catch() {
        let said = serde_json::json!({
            "scenarios": [{ "seeds": 3 }, { "seeds": 2 }],
            "failures": [{
                "scenario": "power-cut", "seed": 7, "fingerprint": "lost", "symptom": "It is gone.", "core_seconds": 0.25,
                "shrunk": { "after": { "operations": 4, "lost": 1 } },
            }],
            "core_seconds": 9.0,
        });
        let mut hunt = Hunt::default();
        hunt.take(&STRATEGIES[0], &said);
        assert_eq!((hunt.seeds, hunt.spent), (5, Duration::from_millis(250)), "shrinking is not counted");
        let catch = hunt.catch.expect("a catch");
        assert_eq!((catch.seed, catch.operations, catch.lost), (Some(7), Some(4), Some(1)));
        assert_eq!(catch.artifact, None);
        let mut empty = Hunt::default();
        empty.take(&STRATEGIES[0], &serde_json::json!({ "scenarios": [], "failures": [], "core_seconds": 2.0 }));
        assert_eq!((empty.catch, empty.spent), (None, Duration::from_secs(2)));
    }

    #[test]
    fn scenarios_are_near_that_come_to_the_rare_points_of_a_file() {
        let scenario = |name: &str, seconds: f64, common: u64, rare: u64| {
            let marks = serde_json::json!({ "common": common, "rare": rare, "of another file": 1000 });
            serde_json::json!({ "scenario": name, "busy_seconds": seconds, "coverage": { "marks": marks } })
        };
        let said = |scenarios: Vec<serde_json::Value>| serde_json::json!({ "scenarios": scenarios });
        let marks = BTreeSet::from(["common".to_string(), "rare".to_string(), "never reached".to_string()]);
        let some = said(vec![
            scenario("often", 1.0, 60, 0),
            scenario("seldom", 4.0, 100, 8),
            scenario("never", 1.0, 0, 0),
            scenario("both", 1.0, 15, 1),
        ]);
        assert_eq!(nearest(&some, &marks), ["seldom", "often", "both"]);
        let many = said((0..20).map(|number| scenario(&format!("{number:02}"), 1.0, 5, 0)).collect());
        assert_eq!(nearest(&many, &marks), ["00", "01", "02", "03", "04", "05"]);
        assert!(nearest(&some, &BTreeSet::new()).is_empty());
        assert!(nearest(&serde_json::json!({ "failures": [] }), &marks).is_empty());
    }

    #[test]
    fn an_explanation_is_judged_by_the_files_that_it_names() {
        let judge = |said| Explained::judge(&said, &["engine/src/wal.rs"]);
        let named =
            serde_json::json!({ "why": "Nothing orders wal.rs", "lines": ["engine/src/wal.rs:88"], "steps": [] });
        assert_eq!(judge(named), Explained::Named);
        let told = serde_json::json!({ "lines": [], "steps": [{ "whence": "engine/src/wal.rs:70  client 0" }] });
        assert_eq!(judge(told), Explained::Told);
        assert_eq!(judge(serde_json::json!({ "lines": ["engine/src/wal/tests.rs:1"] })), Explained::Silent);
    }
}
