//! Every call to the file system fails once: the discipline of SQLite ("How SQLite Is Tested", I/O error testing).
//!
//! A workload runs in one order. For each way in which a call can fail, and for each operation and class of file that the
//! workload uses, the first matching call fails, then in another run the second, and so on until none is left that could;
//! once, and sticky, so that every later matching call fails too. After the failure the run goes the way of all runs: the
//! clients go on as they can, the faults end, the store must take writes and pay its debts, everything is compared with the
//! oracle, and again after closing and opening. In a second run of each, power is cut when the clients are done, on a disk
//! that keeps what was synced and nothing else: a failed sync that was taken for a good one shows there.
//!
//! The failure is a scripted decision of a fault rule that would by itself never strike, so that shrinking can move it.
//!
//! One way is about no single call: only so many files can be open at once, from none upwards until nobody is refused.
//!
//! Not covered: two independent failures in one run; calls while the harness itself looks at the store; other schedules than
//! the plain one; of a write that fails in part only the ends, nothing written and everything written.

use super::trial::{Found, Trial, spread};
use crate::campaign::real_now;
use crate::disk::{Profile, SyncFailure};
use crate::fault::{FaultKind, FaultRule, FileClass, FsOp};
use crate::op::{Keys, Op};
use crate::report::count;
use crate::runner::{END_BY_POWER_LOSS, END_CRASH};
use crate::scenario::Check;
use crate::scheduler::Policy;
use crate::store::StoreKind;
use crate::workload::Plan;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Instant;

/// A rule with this and no script never strikes.
const NEVER: &str = "every_ops = 1000000000";

/// The error of a call that a signal ended.
const INTERRUPTED: &str = "interrupted";

/// One operation of each kind, in an order in which each has something to do: log, tables, manifest and their replacement,
/// a snapshot that outlives a compaction, a reopening, and work after it.
const WORKLOAD: &str = "\
put k0 = #2:40
put k1 = #3:600 buffered
batch [k0 = #4:30, k2 = #5:3000] always
get k0
flush
delete k1
put k3 = #6:2000 buffered
sync
snapshot s0
put k0 = #7:40
flush
get k0 at s0
compact
scan at s0
release s0
put k1 = #8:40 buffered
reopen
get k1
scan reverse
delete k0
put k2 = #9:40";

/// Only so many files can be open at once.
const TOO_MANY_FILES: &str = "too many files open";

/// A small plan that makes every kind of call there is, for when no scenario is named.
pub fn small_plan(kind: &dyn StoreKind) -> Plan {
    let ops = WORKLOAD.lines().map(|line| Op::parse(line).expect("the workload above reads"));
    Plan {
        scenario: "every-call-fails".into(),
        store: kind.name().into(),
        profile: Profile::PosixWeak,
        options: kind.default_options(),
        variants: Vec::new(),
        faults: Vec::new(),
        checks: Check::ALL.to_vec(),
        policy: Policy::Random { gap: 20 },
        keys: Keys::new([&b""[..], b"a", b"ab", b"\xff\xff"].map(<[u8]>::to_vec).to_vec()),
        clients: vec![ops.collect()],
    }
}

/// A way in which a call fails.
#[derive(Clone, Debug, PartialEq)]
struct Way {
    name: String,
    kind: FaultKind,
    /// The rule but for how often and to which files, as TOML.
    rule: String,
    /// What is decided beside: ordinal and value at the rule's site `how`.
    how: Vec<(u64, u64)>,
}

impl Way {
    fn new(name: impl Into<String>, kind: FaultKind, rule: impl Into<String>) -> Way {
        Way { name: name.into(), kind, rule: rule.into(), how: Vec::new() }
    }

    /// How the rule is told to stay; `None` where rules of the kind cannot, and each call is scripted instead.
    fn sticky(&self) -> Option<&'static str> {
        match self.kind {
            FaultKind::IoError | FaultKind::FsyncError => Some("sticky = true"),
            FaultKind::DiskFull => Some("returns_after_ops = 1000000000"),
            _ => None,
        }
    }

    /// Whether it says that the call is to be made again: a call of which this is true for ever never ends.
    fn is_passing(&self) -> bool {
        self.name == INTERRUPTED
    }

    /// The way that is about no single call.
    fn of_all_files() -> Way {
        Way::new(TOO_MANY_FILES, FaultKind::FdLimit, "kind = 'fd-limit'")
    }

    fn of(op: FsOp) -> Vec<Way> {
        let name = op.name();
        let error = |error: &str| {
            Way::new(error, FaultKind::IoError, format!("kind = 'io-error'\non = '{name}'\nerror = '{error}'"))
        };
        let mut ways = vec![error("io")];
        match op {
            FsOp::Read => {
                ways.push(error(INTERRUPTED));
                ways.push(Way::new("short", FaultKind::ShortRead, "kind = 'short-read'"));
            }
            FsOp::Write => {
                // All of it is written although the call fails: the second decision is how many bytes.
                let mut written = error("io");
                written.name = "io, yet written".into();
                written.how = vec![(1, u64::MAX)];
                ways.push(written);
                ways.push(error(INTERRUPTED));
                ways.push(error("no-space"));
                ways.push(Way::new("short", FaultKind::ShortWrite, "kind = 'short-write'"));
                ways.push(Way::new("nothing, and no error", FaultKind::ZeroWrite, "kind = 'zero-write'"));
            }
            FsOp::SetLen | FsOp::Create | FsOp::Mkdir | FsOp::Link | FsOp::Rename => ways.push(error("no-space")),
            FsOp::SyncData | FsOp::SyncAll => {
                ways.clear();
                for mode in SyncFailure::ALL {
                    let word = toml::Value::try_from(mode).expect("a word");
                    let rule = format!("kind = 'fsync-error'\non = '{name}'\nmode = {word}");
                    ways.push(Way::new(word.as_str().unwrap_or_default(), FaultKind::FsyncError, rule));
                }
                // The rule knows no difference between the two syncs: each class is asked once.
                for (mode, value) in [("keep-dirty", 0), ("clean-keep-new", 1)] {
                    let mut full =
                        Way::new(format!("no-space, {mode}"), FaultKind::DiskFull, "kind = 'disk-full'\nat = 'sync'");
                    full.how = vec![(0, value)];
                    ways.push(full);
                }
            }
            FsOp::SyncDir => {
                ways = vec![Way::new("io", FaultKind::FsyncError, "kind = 'fsync-error'\non = 'sync-dir'")];
            }
            _ => {}
        }
        ways
    }
}

/// One failure after the other, of one way, operation and class.
#[derive(Clone, Debug)]
pub struct Loop {
    /// The files.
    pub class: FileClass,
    /// The call.
    pub op: FsOp,
    /// What goes wrong: `io`, `no-space`, `clean-keep-new`.
    pub way: String,
    /// Whether it goes on going wrong.
    pub sticky: bool,
    /// Whether power is cut in the end.
    pub power_loss: bool,
    /// Calls that failed in turn.
    pub points: u64,
    /// Whether the last run of it had none left to fail; if not, time was up.
    pub whole: bool,
    /// The first failure of each kind.
    pub found: Vec<Found>,
}

/// What came of it all.
#[derive(Clone, Debug)]
pub struct Nth {
    /// The workload.
    pub scenario: String,
    /// Calls of the run in which nothing fails, by class and operation.
    pub calls: Vec<(FileClass, FsOp, u64)>,
    /// The loops; those that were not begun before time was up are missing.
    pub loops: Vec<Loop>,
    /// Loops there are.
    pub loops_all: usize,
    /// A failure of the run in which nothing fails.
    pub sunny: Option<Found>,
}

/// A loop before it is gone through.
struct Cell {
    class: FileClass,
    op: FsOp,
    way: Way,
    sticky: bool,
    power_loss: bool,
}

/// Fails every call of the plan's run in turn. The plan's own faults do not count.
pub fn explore(plan: &Plan, kind: &Arc<dyn StoreKind>, jobs: usize, deadline: Option<Instant>) -> Nth {
    let mut plan = plan.clone();
    plan.faults.clear();
    let sunny = Trial { plan: Arc::new(plan.clone()), script: BTreeMap::new() };
    let report = sunny.run(kind);
    let mut nth = Nth {
        scenario: plan.scenario.clone(),
        calls: report.seen.clone(),
        loops: Vec::new(),
        loops_all: 0,
        sunny: None,
    };
    if report.failure.is_some() {
        nth.sunny = Some(sunny.found(kind, "nothing fails".into()));
        return nth;
    }
    let mut cells = Vec::new();
    let mut full = BTreeSet::new();
    for &(class, op, _) in &report.seen {
        for way in Way::of(op) {
            let is_known = way.kind == FaultKind::DiskFull && !full.insert((class, way.name.clone()));
            if is_known {
                continue;
            }
            for (sticky, power_loss) in [(false, false), (false, true), (true, false), (true, true)] {
                if !(sticky && way.is_passing()) {
                    cells.push(Cell { class, op, way: way.clone(), sticky, power_loss });
                }
            }
        }
    }
    if let Some(&(class, op, _)) = report.seen.iter().find(|(_, op, _)| matches!(op, FsOp::Open | FsOp::Create)) {
        let way = Way::of_all_files();
        cells.extend([false, true].map(|power_loss| Cell { class, op, way: way.clone(), sticky: true, power_loss }));
    }
    nth.loops_all = cells.len();
    let done = spread(&cells, jobs, deadline, |cell| go_through(&plan, kind, cell, deadline));
    nth.loops = done.into_iter().flatten().collect();
    nth
}

fn go_through(plan: &Plan, kind: &Arc<dyn StoreKind>, cell: &Cell, deadline: Option<Instant>) -> Loop {
    let Cell { class, op, way, sticky, power_loss } = cell;
    let mut fails = Loop {
        class: *class,
        op: *op,
        way: way.name.clone(),
        sticky: *sticky,
        power_loss: *power_loss,
        points: 0,
        whole: false,
        found: Vec::new(),
    };
    let mut known = BTreeSet::new();
    while deadline.is_none_or(|deadline| real_now() < deadline) {
        let number = fails.points + 1;
        let trial = trial(plan, cell, number);
        let report = trial.run(kind);
        let is_limit = way.kind == FaultKind::FdLimit;
        let struck = report.faults.iter().any(|count| count.kind == way.kind && (is_limit || count.class == *class));
        // A call of one byte cannot be cut short: nothing strikes, and there may be more behind it.
        let calls = report.seen.iter().filter(|(of, at, _)| of == class && at == op).map(|(.., calls)| calls).sum();
        let may_pass = matches!(way.kind, FaultKind::ShortRead | FaultKind::ShortWrite) && number < calls;
        if let Some(failure) = &report.failure
            && known.insert(failure.finding.fingerprint())
        {
            let what = match is_limit {
                true => format!("{} beside {}", way.name, number - 1),
                false => format!(
                    "{} at call {number}{} of {} on {}",
                    way.name,
                    if *sticky { " and all later ones" } else { "" },
                    op.name(),
                    class.name(),
                ),
            };
            let what = what + if *power_loss { ", power loss at the end" } else { "" };
            fails.found.push(trial.found(kind, what));
        }
        if !struck && !may_pass {
            fails.whole = true;
            break;
        }
        fails.points = number;
    }
    fails
}

/// The run in which the call of this number fails, counted from 1; of a limit, the run with one less than this number.
fn trial(plan: &Plan, cell: &Cell, number: u64) -> Trial {
    let Cell { class, way, sticky, power_loss, .. } = cell;
    let mut plan = plan.clone();
    let label = format!("fault.{}", way.kind.name());
    let mut script = BTreeMap::new();
    let mut rule = way.rule.clone();
    if way.kind == FaultKind::FdLimit {
        write!(rule, "\nlimit = {}", number - 1).expect("writing to a string");
    } else {
        write!(rule, "\nclasses = '{}'\n{NEVER}", class.name()).expect("writing to a string");
        script.insert((label.clone(), number - 1), 1);
        match way.sticky() {
            Some(stays) if *sticky => write!(rule, "\n{stays}").expect("writing to a string"),
            None if *sticky => script.extend((number..number + 1000).map(|later| ((label.clone(), later), 1))),
            _ => {}
        }
    }
    script.extend(way.how.iter().map(|&(ordinal, value)| ((format!("{label}.how"), ordinal), value)));
    if *power_loss {
        plan.profile = Profile::StrictMin;
        script.insert((END_CRASH.into(), 0), END_BY_POWER_LOSS);
    }
    let rule: FaultRule = rule.parse().unwrap_or_else(|message| panic!("{rule}\n{message}"));
    plan.faults.push(rule);
    Trial { plan: Arc::new(plan), script }
}

impl Nth {
    /// Everything that was found.
    pub fn found(&self) -> impl Iterator<Item = &Found> {
        self.sunny.iter().chain(self.loops.iter().flat_map(|fails| &fails.found))
    }

    /// Runs that were made.
    pub fn runs(&self) -> u64 {
        1 + self.loops.iter().map(|fails| fails.points + u64::from(fails.whole)).sum::<u64>()
    }

    /// Calls that failed in turn, each in every way, once and sticky, with and without a power loss in the end.
    pub fn points(&self) -> u64 {
        self.loops.iter().map(|fails| fails.points).sum()
    }

    /// What was covered and what not, for people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let mut line = |line: String| writeln!(text, "{line}").expect("writing to a string");
        line(format!("{}: {} ways for calls to fail", self.scenario, self.loops_all));
        for &(class, op, calls) in &self.calls {
            let is_here = |fails: &&Loop| (fails.class, fails.op) == (class, op) && fails.way != TOO_MANY_FILES;
            let here: Vec<&Loop> = self.loops.iter().filter(is_here).collect();
            let ways: BTreeSet<&str> = here.iter().map(|fails| fails.way.as_str()).collect();
            let points: Vec<u64> = here.iter().map(|fails| fails.points).collect();
            let most = points.iter().max().copied().unwrap_or(0);
            let names = ways.into_iter().collect::<Vec<_>>().join("; ");
            line(format!(
                "  {:9} {:10} {calls:5} calls, {most:5} failed in turn, {:6} points   {names}",
                class.name(),
                op.name(),
                count(points.iter().sum())
            ));
        }
        let limits = self.loops.iter().filter(|fails| fails.way == TOO_MANY_FILES).map(|fails| fails.points);
        let (most, points) = limits.fold((0, 0), |(most, sum), points| (most.max(points), sum + points));
        line(format!(
            "  any       open       {most:5} limits in turn, from none on,  {points:6} points   {TOO_MANY_FILES}"
        ));
        line(format!("{} runs, {} points covered", count(self.runs()), count(self.points())));
        line("not covered:".into());
        let unused: Vec<String> = FsOp::ALL
            .into_iter()
            .filter(|op| !self.calls.iter().any(|(_, seen, _)| seen == op))
            .map(|op| op.name().to_string())
            .collect();
        if !unused.is_empty() {
            line(format!("  {}: the workload makes no such call", unused.join(", ")));
        }
        let cut = self.loops.iter().filter(|fails| !fails.whole).count() + self.loops_all - self.loops.len();
        if cut > 0 {
            line(format!("  {cut} of {} loops: time was up", self.loops_all));
        }
        line(
            "  calls while the harness looks at the store, when no fault strikes: those above that did not fail".into(),
        );
        line("  two failures in one run; other schedules than the plain one".into());
        text
    }

    /// The same, for programs.
    pub fn json(&self) -> serde_json::Value {
        let calls: Vec<_> = self
            .calls
            .iter()
            .map(|(class, op, calls)| serde_json::json!({ "class": class, "op": op, "calls": calls }))
            .collect();
        let loops: Vec<_> = self
            .loops
            .iter()
            .map(|fails| {
                serde_json::json!({
                    "class": fails.class, "op": fails.op, "way": fails.way, "sticky": fails.sticky,
                    "power_loss": fails.power_loss, "points": fails.points, "whole": fails.whole,
                    "failures": fails.found.len(),
                })
            })
            .collect();
        serde_json::json!({
            "scenario": self.scenario, "runs": self.runs(), "points": self.points(), "loops_all": self.loops_all,
            "calls": calls, "loops": loops,
        })
    }
}

#[cfg(test)]
mod tests;
