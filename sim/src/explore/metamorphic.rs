//! The same operations under other options give the same answers.
//!
//! Options say where things lie and when they move, never what is there: a store of tables of one block, without cache,
//! filter or compression, must answer like one that keeps everything in memory. Each seed's workload runs without faults
//! and crashes under the options of its scenario and then under some others ([`Plan::variants`]), and the answers of each
//! client are compared one by one, and the final state ([`crate::answers`]). It needs no model of what is right (Chen and
//! others, "Metamorphic Testing", 1998), so it also sees what the oracle must let pass, as the sequence numbers that writes are given.
//!
//! With several clients the order of their writes is the store's own choice. So each gets keys of its own, its reads of these
//! are compared, and its scans, snapshots (which a reopening by another client ends) and sequence numbers are not.
//!
//! A difference is a finding of the run like any other. Not covered: faults and crashes, after which options may well decide
//! what is left; options that [`StoreKind::wild_options`] does not name.

use super::trial::{Found, Trial, spread};
use crate::op::{KeyId, Op};
use crate::report::count;
use crate::rng::Decisions;
use crate::runner::{RunOptions, run_plan};
use crate::scenario::{Check, Scenario};
use crate::store::{KEYSPACES, StoreKind};
use crate::workload::{self, Plan};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

/// What came of the seeds of one scenario.
#[derive(Clone, Debug)]
pub struct Metamorphic {
    /// The scenario.
    pub scenario: String,
    /// Seeds that ran.
    pub seeds: u64,
    /// Seeds that were asked for.
    pub seeds_all: u64,
    /// Runs: one more for each seed than there are other options.
    pub runs: u64,
    /// Answers that were compared, each with that of the first run.
    pub answers: u64,
    /// Options that differed, with how often.
    pub options: BTreeMap<String, u64>,
    /// The first failure of each kind.
    pub found: Vec<Found>,
}

/// Compares each seed under the options of its plan with so many others.
pub fn explore(
    scenario: &Scenario,
    kind: &Arc<dyn StoreKind>,
    (seeds, variants): (Range<u64>, usize),
    jobs: usize,
    deadline: Option<Instant>,
) -> Metamorphic {
    let numbers: Vec<u64> = seeds.collect();
    let mut explored = Metamorphic {
        scenario: scenario.name.clone(),
        seeds: 0,
        seeds_all: numbers.len() as u64,
        runs: 0,
        answers: 0,
        options: BTreeMap::new(),
        found: Vec::new(),
    };
    let compared = spread(&numbers, jobs, deadline, |&seed| {
        let trial = trial(prepare(scenario, kind, seed, variants), kind, seed);
        let report = trial.run(kind);
        (seed, trial, report)
    });
    let mut known = BTreeSet::new();
    for (seed, trial, report) in compared.into_iter().flatten() {
        let others = trial.plan.variants.len() as u64;
        explored.seeds += 1;
        explored.runs += 1 + others;
        explored.answers += report.answers.count() * others;
        for name in trial.plan.variants.iter().flat_map(toml::Table::keys) {
            *explored.options.entry(name.clone()).or_default() += 1;
        }
        if let Some(failure) = &report.failure
            && known.insert(failure.finding.fingerprint())
        {
            explored.found.push(trial.found(kind, format!("seed {seed} under {variants} other options")));
        }
    }
    explored
}

/// What the seed decides under the options of its scenario becomes the script for all of them: a run under others comes to
/// decisions of its own, and a failure must be told by one script.
fn trial(plan: Plan, kind: &Arc<dyn StoreKind>, seed: u64) -> Trial {
    let alone = Plan { variants: Vec::new(), ..plan.clone() };
    let options = RunOptions { record: true, ..RunOptions::default() };
    let report = run_plan(Arc::new(alone), kind, Decisions::from_seed(seed), &options);
    Trial { plan: Arc::new(plan), script: crate::artifact::script(&report.decisions) }
}

/// The plan of a seed without what makes answers differ, with other options to compare it with.
fn prepare(scenario: &Scenario, kind: &Arc<dyn StoreKind>, seed: u64, variants: usize) -> Plan {
    let mut decisions = Decisions::from_seed(seed);
    // When a value expires is up to the time that each operation takes, and so to the options.
    let mut plan = workload::plan(scenario, kind.as_ref(), &mut decisions).lasting(kind.as_ref());
    plan.faults.clear();
    // A crash would take what is not durable yet, which is up to the options.
    plan.checks.retain(|check| *check != Check::Idempotence);
    // Whether there is room within its time is up to the options, too.
    for op in plan.clients.iter_mut().flatten() {
        if let Op::Hurry { key, value, sync, .. } = *op {
            *op = Op::Put { key, value, sync };
        }
    }
    part_keys(&mut plan);
    let site = decisions.site("plan.variants");
    let dimensions = kind.wild_options();
    for number in 0..variants {
        let mut options = toml::Table::new();
        for ways in &dimensions {
            let way = match number {
                // First all that is smallest, then all that is largest, then any half.
                0 => ways.first(),
                1 => ways.last(),
                _ => (decisions.decide(site, 2) == 1).then(|| decisions.pick(site, ways)),
            };
            options.extend(way.cloned().into_iter().flatten());
        }
        plan.variants.push(options);
    }
    plan
}

/// Gives each client keys of its own. With fewer keys than clients, and where keys cannot be parted, because ranges of them are
/// deleted or lie in one keyspace, all work goes to the first.
fn part_keys(plan: &mut Plan) {
    let (clients, keys) = (plan.clients.len() as KeyId, plan.keys.count() as KeyId);
    let deletes_ranges = |op: &Op| {
        let mut found = false;
        op.each_entry(|entry| found |= entry.end.is_some());
        found
    };
    let are_bound = plan.options.contains_key(KEYSPACES) || plan.clients.iter().flatten().any(deletes_ranges);
    if keys < clients || are_bound {
        plan.clients = vec![std::mem::take(&mut plan.clients).into_iter().flatten().collect()];
        return;
    }
    for (client, ops) in plan.clients.iter_mut().enumerate() {
        let own = |key: KeyId| {
            let key = key - key % clients + client as KeyId;
            if key < keys { key } else { client as KeyId }
        };
        for op in ops {
            *op = op.renamed(&own);
            // A range holds keys of others, and who of two transactions comes first decides which of them conflicts.
            if let Op::Transaction { scan, .. } = op {
                *scan = None;
            }
        }
    }
}

impl Metamorphic {
    /// What was covered and what not, for people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        writeln!(
            text,
            "{}: {} of {} seeds, {} runs, {} answers compared",
            self.scenario,
            self.seeds,
            self.seeds_all,
            count(self.runs),
            count(self.answers)
        )
        .expect("writing to a string");
        text
    }

    /// The same, for programs.
    pub fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "scenario": self.scenario, "seeds": self.seeds, "seeds_all": self.seeds_all, "runs": self.runs,
            "answers": self.answers, "options": self.options,
        })
    }
}

#[cfg(test)]
mod tests;
