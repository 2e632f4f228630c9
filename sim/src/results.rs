//! What campaigns found, as files: written by each shard, merged into one, told to people and to the page of a CI job.
//!
//! ```json
//! { "shards": { "0..200": ["2/4"] }, "seconds": 31.0, "core_seconds": 61.0, "thread_seconds": 62.0,
//!   "scenarios": [{ "scenario": "power-cut", "seeds": 50, "faults": { "power-loss": 12 }, "failures": 1 }],
//!   "failures": [{ "fingerprint": "...", "scenario": "power-cut", "seed": 17, "after_seconds": 3.2, "replay": "..." }] }
//! ```
//!
//! M1. A merged file is a file of the same kind: merging it again with others is the same as merging all at once.
//!
//! M2. What a scenario says of itself are sums, so numbers add up, name by name, at any depth. A number that is no sum does
//! not belong there.
//!
//! M3. Silence is no success: a shard that no file is of is told, and counts as a failure. A shard that is there twice is
//! refused, for its seeds would be counted twice.

use crate::console::COMMAND;
use crate::place::place_of;
use crate::report::{count, rate};
use crate::runner::RunFailure;
use crate::seeds::Shard;
use comfy_table::presets::NOTHING;
use comfy_table::{Cell, CellAlignment, ContentArrangement, Table};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

/// What one campaign, or several merged into one, found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// The shards that are in it, by the seeds of their campaign.
    pub shards: BTreeMap<String, BTreeSet<String>>,
    /// Real time of the longest campaign.
    pub seconds: f64,
    /// Time of the processor, without the telling of failures.
    pub core_seconds: f64,
    /// Real time of all threads.
    pub thread_seconds: f64,
    /// What each scenario came to: sums, and its name as `scenario`.
    pub scenarios: Vec<Map<String, Value>>,
    /// What failed: once for each scenario and fingerprint of a campaign, fastest first.
    pub failures: Vec<Found>,
}

/// A failure that was found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Found {
    /// What failures of one bug have in common.
    pub fingerprint: String,
    /// The scenario.
    pub scenario: String,
    /// The seed.
    pub seed: u64,
    /// Real time from the start of the campaign to the failure.
    pub after_seconds: f64,
    /// Time of the processor that the campaign had taken by then, without the telling of earlier failures.
    pub core_seconds: Option<f64>,
    /// One sentence.
    pub symptom: String,
    /// What else was seen, a line each.
    pub details: Vec<String>,
    /// Operations that had been started by then.
    pub operation: u64,
    /// What the last crash before it kept and lost.
    pub crash: Option<String>,
    /// What shrinking did, if the shrunk run repeats it.
    pub shrunk: Option<Value>,
    /// The line of source that it points to, as `file:line`.
    pub place: Option<String>,
    /// The file that keeps it, shrunk.
    pub artifact: Option<String>,
    /// The command that repeats it.
    pub replay: String,
}

/// Failures with one fingerprint, fastest first.
#[derive(Clone, Debug)]
pub struct Group<'a> {
    /// What they have in common.
    pub fingerprint: &'a str,
    /// At least one.
    pub found: Vec<&'a Found>,
}

impl Found {
    /// What is told of a failing run. `after` is the time that its campaign had taken by then.
    pub fn new(scenario: &str, seed: u64, failure: &RunFailure, after: Duration) -> Found {
        Found {
            fingerprint: failure.finding.fingerprint(),
            scenario: scenario.into(),
            seed,
            after_seconds: after.as_secs_f64(),
            core_seconds: None,
            symptom: failure.finding.symptom.clone(),
            details: failure.finding.details.clone(),
            operation: failure.ops,
            crash: failure.crash.as_ref().map(|crash| crash.report.to_string()),
            shrunk: None,
            place: place_of(failure).map(|place| place.to_string()),
            artifact: None,
            replay: format!("{COMMAND} replay '{scenario}#{seed}'"),
        }
    }

    /// A seed that did two things: a fault of the harness, and nothing that a replay could show.
    pub fn divergence(fingerprint: &str, scenario: &str, seed: u64, difference: &str, after: Duration) -> Found {
        Found {
            fingerprint: fingerprint.into(),
            scenario: scenario.into(),
            seed,
            after_seconds: after.as_secs_f64(),
            core_seconds: None,
            symptom: "the same seed did two things".into(),
            details: difference.lines().map(str::to_string).collect(),
            operation: 0,
            crash: None,
            shrunk: None,
            place: None,
            artifact: None,
            replay: format!("{COMMAND} run {scenario} --seeds {seed}..{} --check-determinism", seed + 1),
        }
    }
}

impl Results {
    /// The file.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("names, numbers and words")
    }

    /// Reads a file.
    pub fn parse(text: &str) -> Result<Results, String> {
        serde_json::from_str(text).map_err(|error| format!("no results of a campaign: {error}"))
    }

    /// Adds what other campaigns found.
    pub fn merge(&mut self, other: Results) -> Result<(), String> {
        for (seeds, shards) in other.shards {
            let mine = self.shards.entry(seeds.clone()).or_default();
            for shard in shards {
                if !mine.insert(shard.clone()) {
                    return Err(format!("shard {shard} of the seeds {seeds} is there twice"));
                }
            }
        }
        self.seconds = self.seconds.max(other.seconds);
        self.core_seconds += other.core_seconds;
        self.thread_seconds += other.thread_seconds;
        for scenario in other.scenarios {
            let name = |row: &Map<String, Value>| row.get("scenario").cloned();
            match self.scenarios.iter_mut().find(|row| name(row) == name(&scenario)) {
                Some(row) => add_rows(row, &scenario)?,
                None => self.scenarios.push(scenario),
            }
        }
        self.failures.extend(other.failures);
        let place = |found: &Found| (found.fingerprint.clone(), found.scenario.clone(), found.seed);
        self.failures.sort_by(|a, b| a.after_seconds.total_cmp(&b.after_seconds).then_with(|| place(a).cmp(&place(b))));
        Ok(())
    }

    /// Failures by fingerprint, those that were found fastest first.
    pub fn groups(&self) -> Vec<Group<'_>> {
        let mut groups: Vec<Group<'_>> = Vec::new();
        for found in &self.failures {
            match groups.iter_mut().find(|group| group.fingerprint == found.fingerprint) {
                Some(group) => group.found.push(found),
                None => groups.push(Group { fingerprint: &found.fingerprint, found: vec![found] }),
            }
        }
        groups
    }

    /// Shards that should be there and are not, in words.
    pub fn missing(&self) -> Vec<String> {
        let mut missing = Vec::new();
        for (seeds, shards) in &self.shards {
            let known: BTreeSet<Shard> = shards.iter().filter_map(|shard| Shard::parse(shard).ok()).collect();
            let widest = known.iter().max_by_key(|shard| shard.count());
            let all = widest.into_iter().flat_map(|shard| shard.siblings());
            missing.extend(
                all.filter(|shard| !known.contains(shard)).map(|shard| format!("shard {shard} of the seeds {seeds}")),
            );
        }
        missing
    }

    /// A sum over all scenarios.
    pub fn total(&self, name: &str) -> u64 {
        self.scenarios.iter().map(|row| number(row, name)).sum()
    }

    /// Whether nothing failed and nothing is missing.
    pub fn is_good(&self) -> bool {
        self.failures.is_empty() && self.total("failures") == 0 && self.missing().is_empty()
    }

    /// For a terminal: the sums as a table, then each fingerprint with its fastest failure.
    pub fn to_text(&self) -> String {
        let mut table = Table::new();
        table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(std::iter::once("scenario").chain(COLUMNS.map(|(_, head)| head)));
        for row in &self.scenarios {
            let mut cells = vec![Cell::new(name_of(row))];
            let numbers = COLUMNS.map(|(name, _)| count(number(row, name)));
            cells.extend(numbers.map(|text| Cell::new(text).set_alignment(CellAlignment::Right)));
            table.add_row(cells);
        }
        let mut text = String::new();
        for line in table.lines() {
            text.push_str(line.trim_end());
            text.push('\n');
        }
        let mut line = |words: String| {
            text.push_str(&words);
            text.push('\n');
        };
        line(self.rates());
        for group in self.groups() {
            let [first, others @ ..] = group.found.as_slice() else { unreachable!("a group has a first") };
            line(format!("FAILED {}#{}   {}", first.scenario, first.seed, group.fingerprint));
            line(format!("  {}", first.symptom));
            line(format!("  found after {:.1} s{}", first.after_seconds, others_of(others)));
            if let Some(place) = &first.place {
                line(format!("  at {place}"));
            }
            line(format!("  replay:   {}", first.replay));
            if let Some(artifact) = &first.artifact {
                line(format!("  replay:   {COMMAND} replay {artifact}"));
            }
        }
        for missing in self.missing() {
            line(format!("MISSING {missing}: no file tells what it found"));
        }
        line(format!("{}, {}.", plural(self.scenarios.len() as u64, "scenario"), self.verdict()));
        text
    }

    /// For the summary of a CI job.
    pub fn to_markdown(&self) -> String {
        let mut text = format!("### {}\n\n", capitalised(&self.verdict()));
        let shards: usize = self.shards.values().map(BTreeSet::len).sum();
        let seeds: Vec<String> = self.shards.keys().map(|seeds| format!("`{seeds}`")).collect();
        let mut line = |words: String| {
            text.push_str(&words);
            text.push('\n');
        };
        line(format!("Seeds {} in {}. {}", seeds.join(", "), plural(shards as u64, "shard"), self.rates()));
        for missing in self.missing() {
            line(format!("\n**Missing:** {missing}. No file tells what it found."));
        }
        let groups = self.groups();
        if !groups.is_empty() {
            line("\n| failure | found after | first | where | replay |\n|---|--:|---|---|---|".into());
            for group in groups {
                let first = group.found[0];
                line(format!(
                    "| **{}**<br>{} | {:.1} s{} | {}#{} | {} | `{}` |",
                    cell(group.fingerprint),
                    cell(&first.symptom),
                    first.after_seconds,
                    cell(&others_of(&group.found[1..])),
                    cell(&first.scenario),
                    first.seed,
                    first.place.as_deref().map_or_else(String::new, |place| format!("`{place}`")),
                    cell(&first.replay),
                ));
            }
        }
        line(format!("\n| scenario |{}\n|---|{}", heads(), "--:|".repeat(COLUMNS.len())));
        for row in &self.scenarios {
            let numbers = COLUMNS.map(|(name, _)| format!(" {} |", count(number(row, name))));
            line(format!("| {} |{}", cell(name_of(row)), numbers.concat()));
        }
        text
    }

    /// For the log of a CI job: a workflow command for each fingerprint, at its line of source where that is known.
    pub fn to_annotations(&self) -> String {
        let mut text = String::new();
        for group in self.groups() {
            let first = group.found[0];
            let at = match first.place.as_deref().and_then(|place| place.rsplit_once(':')) {
                Some((file, line)) => format!("file={},line={},", property(file), property(line)),
                None => String::new(),
            };
            let title = property(group.fingerprint);
            let told = data(&format!("{}\nreplay: {}", first.symptom, first.replay));
            writeln!(text, "::error {at}title={title}::{told}").expect("writing to a string");
        }
        for missing in self.missing() {
            writeln!(text, "::error title=a shard is missing::{}", data(&missing)).expect("writing to a string");
        }
        text
    }

    fn rates(&self) -> String {
        let work = Duration::try_from_secs_f64(self.thread_seconds).unwrap_or_default();
        format!(
            "{} seeds, {} operations, {} crashes; {} verified operations/s per thread.",
            count(self.total("seeds")),
            count(self.total("operations")),
            count(self.total("crashes")),
            rate(self.total("operations"), work),
        )
    }

    /// How it went, in a few words.
    pub fn verdict(&self) -> String {
        let missing = match self.missing().len() {
            0 => String::new(),
            1 => ", and a shard is missing".into(),
            many => format!(", and {many} shards are missing"),
        };
        match self.total("failures") {
            0 => format!("no failure{missing}"),
            failed => {
                let (seeds, ways) = (plural(failed, "seed"), plural(self.groups().len() as u64, "way"));
                format!("{seeds} failed, in {ways}{missing}")
            }
        }
    }
}

/// Sums of a scenario that tables show, and their heads.
const COLUMNS: [(&str, &str); 6] = [
    ("seeds", "seeds"),
    ("operations", "operations"),
    ("crashes", "crashes"),
    ("recoveries", "recoveries"),
    ("checks", "answers judged"),
    ("failures", "failures"),
];

fn heads() -> String {
    COLUMNS.map(|(_, head)| format!(" {head} |")).concat()
}

fn number(row: &Map<String, Value>, name: &str) -> u64 {
    row.get(name).and_then(Value::as_u64).unwrap_or(0)
}

fn name_of(row: &Map<String, Value>) -> &str {
    row.get("scenario").and_then(Value::as_str).unwrap_or("a scenario without a name")
}

fn others_of(others: &[&Found]) -> String {
    match others {
        [] => String::new(),
        [other] => format!(", and by {}#{}", other.scenario, other.seed),
        [other, ..] => format!(", and {} times more, such as by {}#{}", others.len(), other.scenario, other.seed),
    }
}

fn plural(number: u64, word: &str) -> String {
    format!("{} {word}{}", count(number), if number == 1 { "" } else { "s" })
}

fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

/// Adds up two rows, name by name.
fn add_rows(into: &mut Map<String, Value>, from: &Map<String, Value>) -> Result<(), String> {
    for (name, value) in from {
        match into.get_mut(name) {
            None => {
                into.insert(name.clone(), value.clone());
            }
            Some(mine) => add(name, mine, value)?,
        }
    }
    Ok(())
}

fn add(name: &str, into: &mut Value, from: &Value) -> Result<(), String> {
    match (&mut *into, from) {
        (Value::Object(mine), Value::Object(other)) => add_rows(mine, other),
        (Value::Number(mine), Value::Number(other)) => {
            let sum = match (mine.as_u64(), other.as_u64()) {
                (Some(mine), Some(other)) => Value::from(mine.saturating_add(other)),
                _ => Value::from(mine.as_f64().unwrap_or(0.0) + other.as_f64().unwrap_or(0.0)),
            };
            *into = sum;
            Ok(())
        }
        // The sum of the hashes of all traces, modulo 2^64: it shows that shards ran what one campaign would.
        (Value::String(mine), Value::String(other)) if name == "trace_hash" => {
            let number = |text: &str| {
                u64::from_str_radix(text, 16).map_err(|_| format!("`{name}` is {text:?}, which is no hash"))
            };
            *mine = format!("{:016x}", number(mine)?.wrapping_add(number(other)?));
            Ok(())
        }
        (mine, other) if mine == other => Ok(()),
        (mine, other) => Err(format!("`{name}` is {mine} in one file and {other} in another, which cannot be added")),
    }
}

/// A cell of a table in Markdown.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace(['\r', '\n'], " ")
}

/// The text of a workflow command, which ends with its line.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// A property of a workflow command, which ends with a comma or a colon.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(fingerprint: &str, scenario: &str, seed: u64, after_seconds: f64) -> Found {
        Found {
            fingerprint: fingerprint.into(),
            scenario: scenario.into(),
            seed,
            after_seconds,
            core_seconds: None,
            symptom: "k3 is 100% lost,\nand was | acknowledged".into(),
            place: Some("engine/src/wal.rs:88".into()),
            artifact: None,
            replay: format!("cargo shake replay '{scenario}#{seed}'"),
            details: Vec::new(),
            operation: 12,
            crash: None,
            shrunk: None,
        }
    }

    fn shard(shard: &str, failures: Vec<Found>) -> Results {
        let row = serde_json::json!({
            "scenario": "power-cut", "seeds": 10, "operations": 1000, "faults": { "power-loss": 3 },
            "virtual_seconds": 1.5, "failures": failures.len(), "trace_hash": "c000000000000001",
        });
        Results {
            shards: [("0..40".to_string(), BTreeSet::from([shard.to_string()]))].into(),
            seconds: 3.0,
            core_seconds: 2.0,
            thread_seconds: 6.0,
            scenarios: vec![row.as_object().expect("an object").clone()],
            failures,
        }
    }

    fn merged(all: Vec<Results>) -> Results {
        let mut sum = Results::default();
        for results in all {
            sum.merge(results).expect("results that fit");
        }
        sum
    }

    #[test]
    fn sums_add_up_and_the_fastest_failure_is_first() {
        let sum = merged(vec![
            shard(
                "1/2",
                vec![found("lost (after power loss)", "power-cut", 7, 9.0), found("panic", "power-cut", 9, 2.5)],
            ),
            shard("2/2", vec![found("lost (after power loss)", "power-cut", 4, 1.0)]),
        ]);
        assert_eq!((sum.total("seeds"), sum.total("operations"), sum.total("failures")), (20, 2000, 3));
        assert_eq!(sum.scenarios[0]["faults"]["power-loss"], 6);
        assert_eq!(sum.scenarios[0]["virtual_seconds"], 3.0);
        assert_eq!(sum.scenarios[0]["trace_hash"], "8000000000000002");
        assert_eq!((sum.seconds, sum.thread_seconds), (3.0, 12.0));
        let groups: Vec<(&str, Vec<u64>)> = sum
            .groups()
            .iter()
            .map(|group| (group.fingerprint, group.found.iter().map(|found| found.seed).collect()))
            .collect();
        assert_eq!(groups, [("lost (after power loss)", vec![4, 7]), ("panic", vec![9])]);
        assert!(!sum.is_good());
    }

    #[test]
    fn merging_in_steps_is_merging_at_once() {
        let all = || {
            vec![
                shard("1/3", vec![found("a", "x", 1, 2.0)]),
                shard("2/3", vec![]),
                shard("3/3", vec![found("b", "x", 2, 1.0)]),
            ]
        };
        let mut steps = merged(all());
        let text = serde_json::to_string(&merged(all()[..2].to_vec())).expect("json");
        let mut half = Results::parse(&text).expect("what was written");
        half.merge(all().pop().expect("the last")).expect("results that fit");
        assert_eq!(half, steps);
        assert!(steps.merge(all().remove(0)).is_err(), "a shard that is there twice is refused");
    }

    #[test]
    fn a_shard_that_is_missing_is_no_success() {
        let sum = merged(vec![shard("1/3", vec![]), shard("3/3", vec![])]);
        assert_eq!(sum.missing(), ["shard 2/3 of the seeds 0..40"]);
        assert!(!sum.is_good());
        assert!(sum.to_text().contains("MISSING shard 2/3"), "{}", sum.to_text());
        assert!(merged(vec![shard("1/3", vec![]), shard("2/3", vec![]), shard("3/3", vec![])]).is_good());
    }

    #[test]
    fn what_cannot_be_added_is_refused_by_name() {
        let mut odd = shard("2/2", vec![]);
        odd.scenarios[0].insert("faults".into(), "many".into());
        let message = merged(vec![shard("1/2", vec![])]).merge(odd).expect_err("a word and numbers");
        assert!(message.contains("`faults`"), "{message}");
    }

    #[test]
    fn the_page_of_a_job_reads_well() {
        let sum = merged(vec![shard("1/1", vec![found("lost (after power loss)", "power-cut", 7, 9.0)])]);
        insta::assert_snapshot!(sum.to_markdown(), @r"
        ### 1 seed failed, in 1 way

        Seeds `0..40` in 1 shard. 10 seeds, 1,000 operations, 0 crashes; 166 verified operations/s per thread.

        | failure | found after | first | where | replay |
        |---|--:|---|---|---|
        | **lost (after power loss)**<br>k3 is 100% lost, and was \| acknowledged | 9.0 s | power-cut#7 | `engine/src/wal.rs:88` | `cargo shake replay 'power-cut#7'` |

        | scenario | seeds | operations | crashes | recoveries | answers judged | failures |
        |---|--:|--:|--:|--:|--:|--:|
        | power-cut | 10 | 1,000 | 0 | 0 | 0 | 1 |
        ");
        insta::assert_snapshot!(sum.to_annotations(), @"::error file=engine/src/wal.rs,line=88,title=lost (after power loss)::k3 is 100%25 lost,%0Aand was | acknowledged%0Areplay: cargo shake replay 'power-cut#7'");
        insta::assert_snapshot!(sum.to_text(), @r"
         scenario   seeds  operations  crashes  recoveries  answers judged  failures
         power-cut     10       1,000        0           0               0         1
        10 seeds, 1,000 operations, 0 crashes; 166 verified operations/s per thread.
        FAILED power-cut#7   lost (after power loss)
          k3 is 100% lost,
        and was | acknowledged
          found after 9.0 s
          at engine/src/wal.rs:88
          replay:   cargo shake replay 'power-cut#7'
        1 scenario, 1 seed failed, in 1 way.
        ");
    }
}
