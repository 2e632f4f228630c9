//! Scenarios: what is shaken, how, and what must hold; one TOML file each, whose name is a sentence.
//!
//! ```toml
//! about    = "Power is cut while memtables flush. No acknowledged write may be lost."
//! profile  = "posix-weak"                  # what a crash may keep
//! seeds    = 200                           # how many `cargo test` replays; a campaign goes on from there
//! clients  = [1, 3]                        # tasks that write and read at once
//! ops      = [100, 400]                    # operations of all clients together
//! keys     = [10, 200]
//! options  = { memtable_bytes = [1024, 8192], durability = ["always", "buffered"] }
//! workload = [{ op = "put", weight = 8 }, { op = "scan", weight = 1 }, { op = "flush", weight = 1 }]
//! faults   = [{ kind = "power-loss", every_ops = [50, 400] }]
//! checks   = ["oracle", "invariants", "liveness", "barriers"]
//! ```
//!
//! A number may be a range of two, from which each seed picks. An option of the store may be a range of two integers, any
//! other list of choices, or a value; what the options mean, only the store knows. Everything but `about` has a default.
//! The operations are those of [`OpKind`]; a workload that names none has those that every store offers, and a wild one draws from
//! all that its [store offers](crate::store::StoreKind::specialities). With `keyspaces = 3` the keys lie in so many keyspaces,
//! of which the last has one key only.
//! Unknown fields are refused, with the line and the nearest name that is known.

use crate::disk::Profile;
use crate::fault::FaultRule;
use crate::op::{KEYSPACES_END, OpKind};
use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use std::fmt;
use std::path::{Path, PathBuf};

/// A number, or a range from which each seed picks one; both ends belong to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The smallest.
    pub low: u64,
    /// The largest.
    pub high: u64,
}

impl Span {
    /// Always this number.
    pub const fn just(number: u64) -> Span {
        Span { low: number, high: number }
    }

    const fn of(low: u64, high: u64) -> Span {
        Span { low, high }
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Span, D::Error> {
        struct Numbers;
        impl<'de> Visitor<'de> for Numbers {
            type Value = Span;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, or a range such as [10, 200]")
            }

            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Span, E> {
                u64::try_from(number).map(Span::just).map_err(|_| E::custom("a number that is not negative"))
            }

            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Span, E> {
                Ok(Span::just(number))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut numbers: A) -> Result<Span, A::Error> {
                let low = numbers.next_element()?.ok_or_else(|| A::Error::invalid_length(0, &self))?;
                let high = numbers.next_element()?.ok_or_else(|| A::Error::invalid_length(1, &self))?;
                if numbers.next_element::<u64>()?.is_some() {
                    return Err(A::Error::invalid_length(3, &self));
                }
                if low > high {
                    return Err(A::Error::custom(format!("the range [{low}, {high}] is empty")));
                }
                Ok(Span { low, high })
            }
        }
        deserializer.deserialize_any(Numbers)
    }
}

/// What is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Check {
    /// Every answer, and every recovered state.
    Oracle,
    /// The store's own check, and the files on disk, whenever it is quiet.
    Invariants,
    /// In the end, without faults, it works again.
    Liveness,
    /// Opening once more finds what must be there: a second time after some of the recoveries, and after some runs a crash
    /// when the clients are done. Without it a run without faults is a run without crashes.
    Idempotence,
    /// The durability sanitizer: nothing is done before what it rests on is durable, whether a crash shows it or not.
    Barriers,
    /// A store that reports damage is salvaged, and what comes of that holds what was still to be read. Only of stores that
    /// [can](crate::store::StoreKind::salvages), and where it is asked for.
    Salvage,
    /// A store goes on around damaged files, and a run goes on with it: no write fails for their sake, none of them is forgotten or
    /// removed, and in the end the store has come to rest beside them. Only of stores that do so, in scenarios in which nothing but
    /// such files is struck, and where it is asked for.
    Quarantine,
}

impl Check {
    /// All that need not be asked for.
    pub const ALL: [Check; 5] =
        [Check::Oracle, Check::Invariants, Check::Liveness, Check::Idempotence, Check::Barriers];
}

/// How far a seed departs from what its scenario says (Groce and others, "Swarm Testing", 2012): what is always mixed in hides
/// what is only found without it.
///
/// Mild is what a scenario gets that says nothing, because its name is a promise about every seed: what goes wrong must go
/// wrong, under the options that make it hurt. Wild keeps no such promise, and finds what nobody thought of; it is asked for
/// by a scenario that is meant that way, or for any scenario by `shake run --swarm`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Swarm {
    /// Not at all: the workload is as the scenario says.
    None,
    /// Some kinds of operations are left out, and the others weighed anew within a factor of four.
    #[default]
    Mild,
    /// A random half of all kinds of operations, of the faults and of the options is left out; weights lie within 1 and 100;
    /// options, keys and values have sizes that nobody would choose.
    Wild,
}

/// What the name of a scenario ends with that was made wild by [`Scenario::swarmed`].
const SWARMED: &str = "+swarm";

/// One kind of operation in a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Work {
    /// The kind.
    pub op: OpKind,
    /// How often, against the others.
    #[serde(default = "one")]
    pub weight: u32,
    /// Only the first so many keys, in the order of a shuffle that each seed makes.
    #[serde(default)]
    pub keys: Option<u64>,
}

fn one() -> u32 {
    1
}

/// The mix of operations where a scenario names none. Copies of the store are made where a scenario asks for them: not every
/// store can.
pub(crate) const WORKLOAD: [(OpKind, u32); 11] = [
    (OpKind::Put, 40),
    (OpKind::Delete, 10),
    (OpKind::Batch, 10),
    (OpKind::Get, 15),
    (OpKind::Scan, 8),
    (OpKind::Snapshot, 6),
    (OpKind::Sync, 3),
    (OpKind::Flush, 3),
    (OpKind::Compact, 2),
    (OpKind::Reopen, 1),
    (OpKind::Check, 1),
];

/// A scenario, as its file says. See the head of this file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Its name: that of the file, without `.toml`.
    #[serde(skip)]
    pub name: String,
    /// One or two sentences: what happens, and what must hold.
    pub about: String,
    /// Which store is shaken.
    #[serde(default = "strata")]
    pub store: String,
    /// What a crash may keep.
    #[serde(default)]
    pub profile: Profile,
    /// How many seeds `cargo test` runs.
    #[serde(default = "seeds")]
    pub seeds: u64,
    /// Tasks that use the store at once.
    #[serde(default = "clients")]
    pub clients: Span,
    /// Operations of all clients together.
    #[serde(default = "ops")]
    pub ops: Span,
    /// Different keys.
    #[serde(default = "keys")]
    pub keys: Span,
    /// Keyspaces that they lie in.
    #[serde(default = "keyspaces")]
    pub keyspaces: Span,
    /// The longest value.
    #[serde(default = "value_bytes")]
    pub value_bytes: Span,
    /// How far each seed goes its own way.
    #[serde(default)]
    pub swarm: Swarm,
    /// Options of the store.
    #[serde(default)]
    pub options: toml::Table,
    /// Kinds of operations.
    #[serde(default)]
    pub workload: Vec<Work>,
    /// What goes wrong.
    #[serde(default)]
    pub faults: Vec<FaultRule>,
    /// What is looked at.
    #[serde(default = "checks")]
    pub checks: Vec<Check>,
}

fn strata() -> String {
    "strata".into()
}

fn seeds() -> u64 {
    50
}

fn clients() -> Span {
    Span::of(1, 3)
}

fn ops() -> Span {
    Span::of(100, 400)
}

fn keys() -> Span {
    Span::of(4, 120)
}

fn keyspaces() -> Span {
    Span::just(1)
}

fn value_bytes() -> Span {
    Span::of(64, 4200)
}

fn checks() -> Vec<Check> {
    Check::ALL.to_vec()
}

/// A scenario that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadScenario {
    /// Its file or name.
    pub scenario: String,
    /// What is wrong, with the line where that is known.
    pub message: String,
}

impl fmt::Display for BadScenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.scenario, self.message)
    }
}

impl std::error::Error for BadScenario {}

impl Scenario {
    /// Reads the text of a scenario.
    pub fn parse(name: &str, text: &str) -> Result<Scenario, BadScenario> {
        let bad = |message: String| BadScenario { scenario: name.into(), message };
        let mut scenario: Scenario =
            toml::from_str(text).map_err(|error| bad(with_nearest_name(error.to_string().trim_end())))?;
        scenario.name = name.into();
        if scenario.workload.is_empty() {
            scenario.workload = WORKLOAD.map(|(op, weight)| Work { op, weight, keys: None }).to_vec();
        }
        let zero = |span: Span| span.low == 0;
        if zero(scenario.clients) || scenario.clients.high > 16 {
            return Err(bad("clients must lie within 1 and 16".into()));
        }
        if zero(scenario.ops) || zero(scenario.keys) || scenario.keys.high > 100_000 {
            return Err(bad("ops and keys must be at least 1, and keys at most 100000".into()));
        }
        if zero(scenario.keyspaces) || scenario.keyspaces.high > u64::from(KEYSPACES_END) {
            return Err(bad(format!("keyspaces must lie within 1 and {KEYSPACES_END}")));
        }
        if scenario.keyspaces.low == 1 && scenario.workload.iter().any(|work| work.op == OpKind::DropKeyspace) {
            return Err(bad("keyspaces must be at least 2 where one is dropped".into()));
        }
        if scenario.workload.iter().all(|work| work.weight == 0) {
            return Err(bad("the workload has no operation with a weight".into()));
        }
        Ok(scenario)
    }

    /// Reads a scenario's file.
    #[expect(clippy::disallowed_methods, reason = "scenarios are read from the real disk")]
    pub fn load(path: &Path) -> Result<Scenario, BadScenario> {
        let name = path.file_stem().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let text = std::fs::read_to_string(path).map_err(|error| BadScenario {
            scenario: path.display().to_string(),
            message: format!("cannot be read: {error}"),
        })?;
        Scenario::parse(&name, &text)
    }

    /// The same, wild. Its name says so, and whoever looks a scenario up by that name finds it: see [`unswarmed`].
    pub fn swarmed(mut self) -> Scenario {
        if self.swarm != Swarm::Wild {
            self.name.push_str(SWARMED);
            self.swarm = Swarm::Wild;
        }
        self
    }

    /// Whether this is looked at.
    pub fn checks(&self, check: Check) -> bool {
        self.checks.contains(&check)
    }
}

/// The name of the scenario that was made wild, if this is the name of such a one.
pub fn unswarmed(name: &str) -> Option<&str> {
    name.strip_suffix(SWARMED)
}

/// Where the scenarios of this repository are.
pub fn home() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios")
}

/// All scenarios in a directory, by name. The first that is bad is the error.
#[expect(clippy::disallowed_methods, reason = "scenarios are read from the real disk")]
pub fn load_all(dir: &Path) -> Result<Vec<Scenario>, BadScenario> {
    let bad = |error: std::io::Error| BadScenario {
        scenario: dir.display().to_string(),
        message: format!("cannot be listed: {error}; name the directory with --scenarios"),
    };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(bad)? {
        let path = entry.map_err(bad)?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            paths.push(path);
        }
    }
    paths.sort();
    paths.iter().map(|path| Scenario::load(path)).collect()
}

/// Adds "did you mean" to an error that names an unknown word and the words that are known.
pub fn with_nearest_name(message: &str) -> String {
    let Some(unknown) = message.find("unknown field").or_else(|| message.find("unknown variant")) else {
        return message.to_string();
    };
    let mut names = message[unknown..].split('`').skip(1).step_by(2);
    let Some(wrong) = names.next() else { return message.to_string() };
    match nearest(wrong, names) {
        Some(name) => format!("{message}\ndid you mean `{name}`?"),
        None => message.to_string(),
    }
}

/// The name that needs the fewest changes to become this one, if it is near enough to be meant.
pub fn nearest<'a>(wrong: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let best = names.into_iter().map(|name| (distance(wrong, name), name)).min()?;
    (best.0 <= 1 + wrong.len() / 3).then_some(best.1)
}

/// Insertions, deletions and replacements of a byte that make one word of the other.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let above = row[j + 1];
            row[j + 1] = (diagonal + usize::from(x != y)).min(above + 1).min(row[j] + 1);
            diagonal = above;
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scenario_needs_one_sentence_and_no_more() {
        let scenario = Scenario::parse("nothing-happens", "about = 'Nothing.'").expect("a scenario");
        assert_eq!(scenario.name, "nothing-happens");
        assert_eq!((scenario.clients, scenario.seeds), (Span::of(1, 3), 50));
        assert!(scenario.checks(Check::Oracle) && scenario.workload.len() == 11);
    }

    #[test]
    fn unknown_fields_are_refused_with_the_line_and_the_nearest_name() {
        let message = |text: &str| Scenario::parse("wrong", text).expect_err("a bad scenario").to_string();
        insta::assert_snapshot!(message("about = 'A'\nclient = 3"), @r"
        wrong: TOML parse error at line 2, column 1
          |
        2 | client = 3
          | ^^^^^^
        unknown field `client`, expected one of `about`, `store`, `profile`, `seeds`, `clients`, `ops`, `keys`, `keyspaces`, `value_bytes`, `swarm`, `options`, `workload`, `faults`, `checks`
        did you mean `clients`?
        ");
        insta::assert_snapshot!(message("about = 'A'\nworkload = [{ op = 'putt' }]"), @r"
        wrong: TOML parse error at line 2, column 20
          |
        2 | workload = [{ op = 'putt' }]
          |                    ^^^^^^
        unknown variant `putt`, expected one of `put`, `delete`, `batch`, `delete-range`, `put-expiring`, `merge`, `merge-transaction`, `transaction`, `hurry`, `get`, `multi-get`, `scan`, `snapshot`, `sync`, `flush`, `compact`, `drop-keyspace`, `checkpoint`, `backup`, `export`, `import`, `restore-to`, `prune-archive`, `look`, `verify`, `upgrade`, `release-table`, `discard-table`, `wait`, `reopen`, `check`
        did you mean `put`?
        ");
        insta::assert_snapshot!(message("about = 'A'\nkeys = [9, 3]"), @r"
        wrong: TOML parse error at line 2, column 8
          |
        2 | keys = [9, 3]
          |        ^^^^^^
        the range [9, 3] is empty
        ");
        insta::assert_snapshot!(message("about = 'A'\nkeys = 'many'"), @r#"
        wrong: TOML parse error at line 2, column 8
          |
        2 | keys = 'many'
          |        ^^^^^^
        invalid type: string "many", expected a number, or a range such as [10, 200]
        "#);
        insta::assert_snapshot!(message("keys = 3"), @r"
        wrong: TOML parse error at line 1, column 1
          |
        1 | keys = 3
          | ^
        missing field `about`
        ");
    }

    #[test]
    fn the_nearest_name_is_found_and_a_far_one_is_not_meant() {
        assert_eq!(nearest("memtabel_bytes", ["cache_bytes", "memtable_bytes"]), Some("memtable_bytes"));
        assert_eq!(nearest("zebra", ["cache_bytes", "memtable_bytes"]), None);
    }
}
