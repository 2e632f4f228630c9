//! Artifacts: a failing run as a small file that says everything and replays the same way for ever.
//!
//! An artifact embeds what it was made from (faults, profile, options, checks), so an edit of its scenario does not change
//! it. Operations stand one on a line, in the words of [`crate::op`]; so do the decisions that were not 0, by name.
//! Whoever fixes the bug leaves the file: `cargo test` replays all of `corpus/regressions/` and expects each to pass.

use crate::disk::Profile;
use crate::fault::FaultRule;
use crate::op::{KeyId, Keys, Op};
use crate::oracle::text;
use crate::rng::{Decision, Decisions, Rest};
use crate::runner::{RunOptions, RunReport, run_plan};
use crate::scenario::{Check, with_nearest_name};
use crate::store::StoreKind;
use crate::workload::Plan;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where artifacts of this repository are.
pub fn home() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus/regressions")
}

/// A failing run.
#[derive(Clone, Debug)]
pub struct Artifact {
    /// What went wrong, in a sentence.
    pub symptom: String,
    /// By which check, and how.
    pub fingerprint: String,
    /// The seed from which it was shrunk.
    pub seed: Option<u64>,
    /// The run before it happens.
    pub plan: Plan,
    /// What is decided while it happens; anything else is 0.
    pub decisions: Vec<Decision>,
}

/// As the file spells it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Spelling {
    scenario: String,
    symptom: String,
    fingerprint: String,
    #[serde(rename = "expected")]
    _expected: Expected,
    #[serde(default)]
    seed: Option<u64>,
    store: String,
    profile: Profile,
    schedule: String,
    checks: Vec<Check>,
    faults: Vec<FaultRule>,
    clients: usize,
    ops: Vec<String>,
    decisions: Vec<String>,
    keys: BTreeMap<String, String>,
    options: toml::Table,
    #[serde(default)]
    variants: Vec<toml::Table>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Expected {
    Pass,
}

impl Artifact {
    /// The decisions, to run the plan with.
    pub fn script(&self) -> Decisions {
        Decisions::scripted(script(&self.decisions), Rest::Zero)
    }

    /// Runs it.
    pub fn run(&self, kind: &Arc<dyn StoreKind>, options: &RunOptions) -> RunReport {
        run_plan(Arc::new(self.plan.clone()), kind, self.script(), options)
    }

    /// Its name as a file, without `.toml`.
    pub fn slug(&self) -> String {
        let check = self.fingerprint.split(" (").next().unwrap_or_default();
        let mut slug = format!("{check}-{}", self.plan.scenario);
        if let Some(seed) = self.seed {
            write!(slug, "-{seed}").expect("writing to a string");
        }
        slug.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '-' }).collect()
    }

    /// The file.
    pub fn to_text(&self) -> String {
        let plan = &self.plan;
        let mut file = String::new();
        let mut line = |line: String| {
            file.push_str(&line);
            file.push('\n');
        };
        let quoted = |text: &str| toml::Value::String(text.into()).to_string();
        line(format!("symptom = {}", quoted(&self.symptom)));
        line(format!("fingerprint = {}", quoted(&self.fingerprint)));
        line("expected = \"pass\"".into());
        line(format!("scenario = {}", quoted(&plan.scenario)));
        if let Some(seed) = self.seed {
            line(format!("seed = {seed}"));
        }
        line(format!("store = {}", quoted(&plan.store)));
        line(format!("profile = {}", quoted(plan.profile.name())));
        line(format!("schedule = {}", quoted(&plan.policy.to_string())));
        let checks: Vec<String> = plan.checks.iter().map(|check| format!("\"{check:?}\"").to_lowercase()).collect();
        line(format!("checks = [{}]", checks.join(", ")));
        line("faults = [".into());
        for rule in &plan.faults {
            let value = toml::Value::try_from(rule).expect("a rule is a table");
            line(format!("    {value},"));
        }
        line("]".into());
        line(format!("clients = {}", plan.clients.len()));
        line("ops = [".into());
        let longest = plan.clients.iter().map(Vec::len).max().unwrap_or(0);
        for index in 0..longest {
            for (client, ops) in plan.clients.iter().enumerate() {
                if let Some(op) = ops.get(index) {
                    line(format!("    {},", quoted(&format!("{client}: {op}"))));
                }
            }
        }
        line("]".into());
        line("decisions = [".into());
        for decision in &self.decisions {
            let Decision { label, ordinal, value, .. } = decision;
            line(format!("    {},", quoted(&format!("{label} {ordinal} = {value}"))));
        }
        line("]".into());
        line(String::new());
        line("[keys]".into());
        for key in 0..plan.keys.count() as KeyId {
            line(format!("k{key} = {}", quoted(text(plan.keys.bytes(key)).trim_matches('"'))));
        }
        line(String::new());
        line("[options]".into());
        for (name, value) in &plan.options {
            line(format!("{name} = {value}"));
        }
        for variant in &plan.variants {
            line("\n[[variants]]".into());
            for (name, value) in variant {
                line(format!("{name} = {value}"));
            }
        }
        file
    }

    /// Reads the file. The error says what is wrong.
    pub fn parse(file: &str) -> Result<Artifact, String> {
        let spelling: Spelling =
            toml::from_str(file).map_err(|error| with_nearest_name(error.to_string().trim_end()))?;
        let mut named = Vec::new();
        for (name, text) in &spelling.keys {
            let old: KeyId = name
                .strip_prefix('k')
                .and_then(|digits| digits.parse().ok())
                .ok_or_else(|| format!("{name:?} is no name of a key such as k3"))?;
            named.push((old, bytes_of(text)?));
        }
        let keys = Keys::new(named.iter().map(|(_, bytes)| bytes.clone()).collect());
        if keys.count() != named.len() || keys.count() == 0 {
            return Err("there must be keys, and no two of the same bytes".into());
        }
        let names: BTreeMap<KeyId, KeyId> =
            named.iter().map(|(old, bytes)| (*old, keys.id(bytes).expect("it was put there"))).collect();
        let mut clients = vec![Vec::new(); spelling.clients];
        for line in &spelling.ops {
            let (client, op) =
                line.split_once(": ").ok_or_else(|| format!("{line:?} does not start with a client such as 0:"))?;
            let list = client.parse().ok().and_then(|client: usize| clients.get_mut(client));
            let list = list.ok_or_else(|| format!("{line:?} is of no client below {}", spelling.clients))?;
            let op = Op::parse(op)?;
            if let Some(unknown) = op.keys().into_iter().find(|key| !names.contains_key(key)) {
                return Err(format!("{line:?} names k{unknown}, which is not among the keys"));
            }
            list.push(op.renamed(&|key| names[&key]));
        }
        let decisions = spelling.decisions.iter().map(|line| decision_of(line)).collect::<Result<_, _>>()?;
        let plan = Plan {
            scenario: spelling.scenario,
            store: spelling.store,
            profile: spelling.profile,
            options: spelling.options,
            variants: spelling.variants,
            faults: spelling.faults,
            checks: spelling.checks,
            policy: spelling.schedule.parse()?,
            keys,
            clients,
        };
        let Spelling { symptom, fingerprint, seed, .. } = spelling;
        Ok(Artifact { symptom, fingerprint, seed, plan, decisions })
    }

    /// Reads a file of the real disk.
    #[expect(clippy::disallowed_methods, reason = "artifacts are kept on the real disk")]
    pub fn load(path: &Path) -> Result<Artifact, String> {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        Artifact::parse(&text).map_err(|message| format!("{}: {message}", path.display()))
    }

    /// Writes it into a directory of the real disk, and returns its path.
    #[expect(clippy::disallowed_methods, reason = "artifacts are kept on the real disk")]
    pub fn save(&self, dir: &Path) -> std::io::Result<PathBuf> {
        std::fs::create_dir_all(dir)?;
        let path = dir.join(self.slug()).with_extension("toml");
        std::fs::write(&path, self.to_text())?;
        Ok(path)
    }
}

/// Decisions as [`Decisions::scripted`] takes them.
pub fn script(decisions: &[Decision]) -> BTreeMap<(String, u64), u64> {
    decisions.iter().map(|decision| ((decision.label.clone(), decision.ordinal), decision.value)).collect()
}

fn decision_of(line: &str) -> Result<Decision, String> {
    let parse = || {
        let (name, value) = line.rsplit_once(" = ")?;
        let (label, ordinal) = name.rsplit_once(' ')?;
        let value = value.parse().ok()?;
        Some(Decision { label: label.into(), ordinal: ordinal.parse().ok()?, n: value + 1, value })
    };
    parse().ok_or_else(|| format!("{line:?} is no decision such as \"crash.data 3 = 1\""))
}

/// Undoes [`text`], without the quotes.
fn bytes_of(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        if *first != b'\\' {
            bytes.push(*first);
            continue;
        }
        match rest {
            [escaped @ (b'\\' | b'"'), tail @ ..] => {
                bytes.push(*escaped);
                rest = tail;
            }
            [b'x', high, low, tail @ ..] => {
                let digits = [*high, *low];
                let number = std::str::from_utf8(&digits).ok().and_then(|digits| u8::from_str_radix(digits, 16).ok());
                bytes.push(number.ok_or_else(|| format!("{text:?}: two hexadecimal digits expected after \\x"))?);
                rest = tail;
            }
            _ => return Err(format!("{text:?}: a backslash stands before a backslash, a quote or xNN only")),
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runner::toy::{Flaw, ToyKind};
    use crate::scenario::Scenario;
    use crate::workload;

    #[test]
    fn an_artifact_reads_back_as_it_was_written() {
        let text = "about = 'A'\nclients = 3\nkeys = 60\noptions = { a = [10, 1000], b = ['x', { every = 3 }] }\n\
                    faults = [{ kind = 'power-loss', every_ops = [50, 400] }, { kind = 'io-error', on = 'read', chance = 0.5 }]";
        let scenario = Scenario::parse("power-cut", text).expect("a scenario");
        for seed in 0..20 {
            let mut decisions = Decisions::from_seed(seed);
            let mut plan = workload::plan(&scenario, &ToyKind(Flaw::None), &mut decisions);
            plan.variants = vec![toml::Table::new(), "a = 3\nb = ['x']".parse().expect("a table")];
            let decision = Decision { label: "fault.io-error.wal.write".into(), ordinal: 3, n: 8, value: 7 };
            let artifact = Artifact {
                symptom: "k3 = \"old\", \\ and new".into(),
                fingerprint: "acknowledged-write-lost (after power loss)".into(),
                seed: Some(seed),
                plan,
                decisions: vec![decision],
            };
            assert_eq!(artifact.slug(), format!("acknowledged-write-lost-power-cut-{seed}"));
            let file = artifact.to_text();
            let read = Artifact::parse(&file).unwrap_or_else(|message| panic!("{message}\n{file}"));
            assert_eq!(read.to_text(), file);
            assert_eq!(read.plan.clients, artifact.plan.clients);
            assert_eq!((&read.plan.keys, &read.plan.variants), (&artifact.plan.keys, &artifact.plan.variants));
            assert_eq!((read.plan.faults, read.plan.policy), (artifact.plan.faults, artifact.plan.policy));
        }
    }
}
