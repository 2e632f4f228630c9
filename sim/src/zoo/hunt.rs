//! A hunt: every strategy in turn against one planted bug, within a budget, until one of them has found it.
//!
//! The hunter is the `shake` that was built with the bug inside, run as a process of its own: a bug may hang or end it. A
//! strategy is a row of [`STRATEGIES`], and whoever adds a subcommand that searches adds a row.
//!
//! A find counts with the processor time that it took, building and shrinking not counted.

use crate::campaign::real_now;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// A way to search: arguments for `shake`, which prints JSON with a list of `failures` and ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Strategy {
    /// Its name on the scoreboard.
    pub name: &'static str,
    /// Its arguments; `BUDGET` and `ARTIFACTS` stand for the time that it has and the directory for what it finds.
    pub args: &'static [&'static str],
}

/// All of them, in the order in which they are tried. Each gets an equal share of what is left of the budget.
pub const STRATEGIES: &[Strategy] = &[
    Strategy {
        name: "campaign",
        args: &["run", "--fail-fast", "--json", "--jobs", "1", "--time", "BUDGET", "--artifacts", "ARTIFACTS"],
    },
    Strategy {
        name: "sweep",
        args: &["sweep", "--json", "--jobs", "1", "--time", "BUDGET", "--artifacts", "ARTIFACTS"],
    },
];

/// How long a strategy may go on after its budget is over, to shrink and tell.
const GRACE: Duration = Duration::from_secs(30);

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
}

/// Hunts with a `shake` that has a bug inside.
pub fn hunt(shake: &Path, artifacts: &Path, strategies: &[Strategy], budget: Duration) -> Hunt {
    let mut hunt = Hunt::default();
    let started = real_now();
    for (index, strategy) in strategies.iter().enumerate() {
        let share = budget.saturating_sub(real_now() - started) / (strategies.len() - index) as u32;
        match said(shake, artifacts, strategy, share) {
            Ok(said) => hunt.take(strategy, &said),
            Err(why) => hunt.broken.push(format!("{}: {why}", strategy.name)),
        }
        if hunt.catch.is_some() {
            break;
        }
    }
    hunt
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
        });
    }
}

/// Runs a strategy, and reads what it says.
#[expect(clippy::disallowed_methods, reason = "a process of the real world is waited for, and what it said is read")]
fn said(shake: &Path, artifacts: &Path, strategy: &Strategy, budget: Duration) -> Result<serde_json::Value, String> {
    let out: PathBuf = artifacts.join("said.json");
    std::fs::create_dir_all(artifacts).map_err(|error| error.to_string())?;
    let file = std::fs::File::create(&out).map_err(|error| error.to_string())?;
    let args = strategy.args.iter().map(|arg| match *arg {
        "BUDGET" => format!("{}ms", budget.as_millis()).into(),
        "ARTIFACTS" => artifacts.as_os_str().to_os_string(),
        arg => arg.into(),
    });
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
        let mut empty = Hunt::default();
        empty.take(&STRATEGIES[0], &serde_json::json!({ "scenarios": [], "failures": [], "core_seconds": 2.0 }));
        assert_eq!((empty.catch, empty.spent), (None, Duration::from_secs(2)));
    }
}
