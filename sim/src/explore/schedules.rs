//! Schedules in order: of a small workload all that depart from the plain schedule at most so many times.
//!
//! Under [`Policy::Systematic`] every choice of who runs is a decision, made only where more than one task could: at a switch
//! point whether the running task is preempted and by whom, at a wait who comes next, at a wake-up who is woken. The plain
//! schedule answers 0 everywhere: a task runs until it waits, then the one that has been ready longest. A *departure* is an
//! answer other than 0, a preemption like a choice at a wait; counting both is what keeps the number of schedules a
//! polynomial (Emmi and others, "Delay-Bounded Scheduling", 2011), where free choices at waits would double it with each
//! wait (Musuvathi and Qadeer, "Iterative Context Bounding", 2007, accept that). Most bugs of concurrency need one or two.
//!
//! The search goes by the number of departures: first the plain schedule, then all with one, and so on. A run of one
//! number shows every choice behind its last departure, and these are the runs of the next number, each exactly once. So the
//! number of schedules with so many departures is known before the first of them runs, and what was covered is a fraction.
//!
//! Not covered: departures beyond the bound; switches where the code has no switch point, as at an uncontended lock; faults
//! and crashes, which the workload runs without. A task that runs for very long is preempted as in every policy.

use super::trial::{Found, Trial, spread};
use crate::campaign::real_now;
use crate::op::{Keys, Op};
use crate::report::count;
use crate::rng::{Decisions, Recording, Rest};
use crate::runner::{RunOptions, run_plan};
use crate::scenario::Check;
use crate::scheduler::Policy;
use crate::store::StoreKind;
use crate::trace::fold;
use crate::workload::Plan;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Instant;

/// The sites at which it is decided who runs.
const SITES: [&str; 3] = ["switch.preempt", "switch.next", "switch.wake"];

/// Schedules that are run between two looks at the time.
const CHUNK: usize = 4096;

/// Two clients who write to the same keys, with a flush, a compaction and a snapshot among it.
const WORKLOAD: [&str; 2] = [
    "put k0 = #2:600\nput k1 = #3:600\nsnapshot s0\nget k0 at s0\nget k1 at s0\nflush",
    "batch [k0 = #4:300, k1 = #5:300]\nget k0\nget k1\nscan\ncompact",
];

/// A small plan in which much happens at once, for when no scenario is named.
pub fn small_plan(kind: &dyn StoreKind) -> Plan {
    let ops = |text: &str| text.lines().map(|line| Op::parse(line).expect("the workload above reads")).collect();
    Plan {
        scenario: "two-clients-at-once".into(),
        store: kind.name().into(),
        profile: Default::default(),
        options: kind.default_options(),
        variants: Vec::new(),
        faults: Vec::new(),
        checks: Check::ALL.to_vec(),
        policy: Policy::Systematic { named: false },
        keys: Keys::new([&b"a"[..], b"b"].map(<[u8]>::to_vec).to_vec()),
        clients: WORKLOAD.map(ops).to_vec(),
    }
}

/// A departure: an answer at a site of [`SITES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Departure {
    site: u8,
    ordinal: u64,
    value: u64,
}

/// All schedules with so many departures.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Level {
    /// How many there are.
    pub total: u64,
    /// How many of them ran.
    pub covered: u64,
    /// Runs among them whose every event was the same as in another run.
    pub alike: u64,
}

/// What came of a search.
#[derive(Clone, Debug)]
pub struct Schedules {
    /// The workload.
    pub scenario: String,
    /// By number of departures.
    pub levels: Vec<Level>,
    /// The most departures that were asked for.
    pub bound: usize,
    /// Choices of the plain schedule.
    pub choices: u64,
    /// The first failure of each kind.
    pub found: Vec<Found>,
}

/// What one schedule shows.
struct Ran {
    hash: u128,
    fingerprint: Option<String>,
    choices: u64,
    /// Departures that can follow.
    next: Vec<Departure>,
}

/// Goes through all schedules of the plan with at most `bound` departures, at the yield points that the code names only
/// where `named` says so. The plan's own faults and policy do not count.
pub fn explore(
    plan: &Plan,
    kind: &Arc<dyn StoreKind>,
    (bound, named): (usize, bool),
    jobs: usize,
    deadline: Option<Instant>,
) -> Schedules {
    let mut plan = plan.clone();
    plan.faults.clear();
    plan.policy = Policy::Systematic { named };
    let plan = Arc::new(plan);
    let mut search =
        Schedules { scenario: plan.scenario.clone(), levels: Vec::new(), bound, choices: 0, found: Vec::new() };
    let mut level: Vec<Vec<Departure>> = vec![Vec::new()];
    let (mut hashes, mut fingerprints) = (BTreeSet::new(), BTreeSet::new());
    for departures in 0..=bound {
        let mut sum = Level { total: level.len() as u64, ..Level::default() };
        let mut next = Vec::new();
        // A part of a level is to be a fair sample of it.
        level.sort_by_cached_key(|path| path.iter().fold(0, |hash, one| fold(hash ^ one.ordinal, one.value + 1)));
        for chunk in level.chunks(CHUNK) {
            let ran = spread(chunk, jobs, deadline, |path| run(&plan, kind, path, departures < bound));
            for (path, ran) in chunk.iter().zip(ran) {
                let Some(ran) = ran else { continue };
                sum.covered += 1;
                sum.alike += u64::from(!hashes.insert(ran.hash));
                search.choices = if departures == 0 { ran.choices } else { search.choices };
                if let Some(fingerprint) = ran.fingerprint
                    && fingerprints.insert(fingerprint)
                {
                    search.found.push(trial(&plan, path).found(kind, format!("{departures} departures")));
                }
                next.extend(ran.next.into_iter().map(|one| [path.as_slice(), &[one]].concat()));
            }
            if deadline.is_some_and(|deadline| real_now() >= deadline) {
                break;
            }
        }
        let whole = sum.covered == sum.total;
        search.levels.push(sum);
        if !whole {
            break;
        }
        level = next;
    }
    search
}

fn trial(plan: &Arc<Plan>, path: &[Departure]) -> Trial {
    let script = path.iter().map(|one| ((SITES[usize::from(one.site)].to_string(), one.ordinal), one.value));
    Trial { plan: plan.clone(), script: script.collect() }
}

fn run(plan: &Arc<Plan>, kind: &Arc<dyn StoreKind>, path: &[Departure], deeper: bool) -> Ran {
    let mut decisions = Decisions::scripted(trial(plan, path).script, Rest::Zero);
    decisions.record(Recording::All);
    let report = run_plan(plan.clone(), kind, decisions, &RunOptions::default());
    let mut next = Vec::new();
    let (mut choices, mut left) = (0, path.len());
    for decision in &report.decisions {
        let Some(site) = SITES.iter().position(|site| *site == decision.label) else { continue };
        choices += u64::from(decision.n > 1);
        if left > 0 {
            left -= usize::from(decision.value > 0);
        } else if deeper {
            let ordinal = decision.ordinal;
            next.extend((1..decision.n).map(|value| Departure { site: site as u8, ordinal, value }));
        }
    }
    let fingerprint = report.failure.map(|failure| failure.finding.fingerprint());
    // Behind a failure there is nothing to look for.
    if fingerprint.is_some() {
        next.clear();
    }
    Ran { hash: report.trace.hash, fingerprint, choices, next }
}

impl Schedules {
    /// Schedules that ran.
    pub fn covered(&self) -> u64 {
        self.levels.iter().map(|level| level.covered).sum()
    }

    /// Whether all within the bound ran.
    pub fn is_whole(&self) -> bool {
        self.levels.len() == self.bound + 1 && self.levels.iter().all(|level| level.covered == level.total)
    }

    /// What was covered and what not, for people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let mut line = |line: String| writeln!(text, "{line}").expect("writing to a string");
        line(format!("{}: {} choices in the plain schedule", self.scenario, count(self.choices)));
        for (departures, level) in self.levels.iter().enumerate() {
            line(format!(
                "  {departures} departures: {} of {} schedules covered, {} of them like another",
                count(level.covered),
                count(level.total),
                count(level.alike)
            ));
        }
        let verdict = if self.is_whole() { "all within the bound" } else { "time was up before the bound" };
        line(format!("{} schedules, {verdict}", count(self.covered())));
        if self.levels.len() <= self.bound {
            let (first, bound) = (self.levels.len(), self.bound);
            line(format!("not covered: {first} to {bound} departures, whose number is not known yet"));
        }
        text
    }

    /// The same, for programs.
    pub fn json(&self) -> serde_json::Value {
        let levels: Vec<_> = self
            .levels
            .iter()
            .map(|level| serde_json::json!({ "total": level.total, "covered": level.covered, "alike": level.alike }))
            .collect();
        serde_json::json!({
            "scenario": self.scenario, "bound": self.bound, "choices": self.choices, "levels": levels,
            "covered": self.covered(), "whole": self.is_whole(),
        })
    }
}

#[cfg(test)]
mod tests;
