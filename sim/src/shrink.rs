//! From a failing run to a small one that fails in the same way.
//!
//! A run is a plan and a script of decisions, so shrinking is leaving things out and running again: a candidate counts if it
//! fails with the same fingerprint. First go the operations after the failure, then groups of operations, halves before
//! quarters (Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input", 2002), then decisions, whole labels
//! before single ones, since 0 is always the plainest. In the end clients are merged and values, keys, options and rules made
//! plainer.
//!
//! Taking out operations moves the faults that are counted in system calls away from where they hurt. A candidate is
//! therefore tried in several ways: with the script as it is, with the faults moved to earlier calls, and with fresh seeds.
//!
//! Not promised: the smallest run, or any smaller one. What is found within the time is what is kept.

use crate::artifact::{Artifact, script};
use crate::op::{Entry, Op, VALUE_BYTES_MIN, Value};
use crate::rng::{Decision, Decisions, Rest};
use crate::runner::{RunOptions, RunReport, run_plan};
use crate::store::{StoreKind, SyncMode};
use crate::workload::Plan;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What shrinking did.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// The small run.
    pub artifact: Artifact,
    /// Operations and decisions before.
    pub before: (usize, usize),
    /// Runs that it took.
    pub runs: u64,
    /// Real time that it took.
    pub took: Duration,
    /// Whether the script alone repeats the failure. If not, only the seed does.
    pub replays: bool,
}

struct Shrinker<'a> {
    kind: &'a Arc<dyn StoreKind>,
    fingerprint: String,
    deadline: Instant,
    runs: u64,
    dice: u64,
    plan: Plan,
    decisions: Vec<Decision>,
    symptom: String,
    /// System calls of the best run.
    calls: u64,
}

#[expect(clippy::disallowed_methods, reason = "how long shrinking may take is a matter of real time")]
fn real_now() -> Instant {
    Instant::now()
}

/// Shrinks a failing run within the time. `report` is of a run of `plan` in which decisions were recorded.
pub fn shrink(plan: &Plan, seed: Option<u64>, report: &RunReport, kind: &Arc<dyn StoreKind>, time: Duration) -> Shrunk {
    let failure = report.failure.as_ref().expect("a run that failed");
    let started = real_now();
    // The plan is embedded: how it was drawn is of no interest any more.
    let decisions: Vec<Decision> =
        report.decisions.iter().filter(|decision| !decision.label.starts_with("plan.")).cloned().collect();
    let before = (plan.ops(), decisions.len());
    let mut shrinker = Shrinker {
        kind,
        fingerprint: failure.finding.fingerprint(),
        deadline: started + time,
        runs: 0,
        dice: 0x5eed,
        plan: plan.clone(),
        decisions: decisions.clone(),
        symptom: failure.finding.symptom.clone(),
        calls: report.calls,
    };
    let replays = shrinker.try_script(plan.clone(), decisions);
    if replays {
        shrinker.cut_after_failure(&report.started);
        shrinker.drop_labels();
        for _ in 0..3 {
            let size = shrinker.size();
            shrinker.drop_ops();
            shrinker.merge_clients();
            shrinker.drop_decisions();
            shrinker.drop_rules();
            shrinker.simplify_ops();
            shrinker.simplify_options();
            if shrinker.size() == size || shrinker.is_late() {
                break;
            }
        }
        shrinker.drop_keys();
    }
    let Shrinker { fingerprint, plan, decisions, symptom, runs, .. } = shrinker;
    let artifact = Artifact { symptom, fingerprint, seed, plan, decisions };
    Shrunk { artifact, before, runs, took: real_now() - started, replays }
}

impl Shrinker<'_> {
    fn is_late(&self) -> bool {
        real_now() >= self.deadline
    }

    fn size(&self) -> (usize, usize) {
        (self.plan.ops(), self.decisions.len())
    }

    fn roll(&mut self, n: u64) -> u64 {
        self.dice = self.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.dice >> 33) % n.max(1)
    }

    /// Ways in which a candidate is tried: a small one is worth more of them, and costs less.
    fn efforts(&self) -> u64 {
        match self.plan.ops() {
            0..12 => 24,
            12..40 => 12,
            _ => 4,
        }
    }

    /// Runs a candidate and takes it over if it fails in the same way.
    fn try_run(&mut self, plan: &Arc<Plan>, decisions: Decisions) -> bool {
        self.runs += 1;
        let report =
            run_plan(plan.clone(), self.kind, decisions, &RunOptions { record: true, ..RunOptions::default() });
        let Some(failure) = report.failure else { return false };
        if failure.finding.fingerprint() != self.fingerprint {
            return false;
        }
        self.plan = (**plan).clone();
        self.decisions = report.decisions;
        self.symptom = failure.finding.symptom;
        self.calls = report.calls;
        true
    }

    fn try_script(&mut self, plan: Plan, decisions: Vec<Decision>) -> bool {
        let decisions = Decisions::scripted(script(&decisions), Rest::Zero);
        self.try_run(&Arc::new(plan), decisions)
    }

    /// The script as it is; then its faults earlier; then fresh seeds.
    fn try_somehow(&mut self, plan: Plan, efforts: u64) -> bool {
        if self.is_late() {
            return false;
        }
        let plan = Arc::new(plan);
        let kept = self.decisions.clone();
        if self.try_run(&plan, Decisions::scripted(script(&kept), Rest::Zero)) {
            return true;
        }
        let calls = self.calls;
        for effort in 0..efforts {
            if self.is_late() {
                return false;
            }
            let moved: Vec<Decision> = kept
                .iter()
                .map(|decision| {
                    let mut decision = decision.clone();
                    if is_counted_fault(&decision.label) {
                        let back = if effort % 2 == 0 { self.roll(8) } else { self.roll(calls) };
                        decision.ordinal = decision.ordinal.saturating_sub(back);
                    }
                    decision
                })
                .collect();
            let seed = self.roll(u64::MAX);
            let decisions = match effort % 4 {
                // The same faults, and everything else anew: what a crash keeps, who runs when.
                2 => {
                    let faults: Vec<Decision> =
                        moved.into_iter().filter(|decision| is_counted_fault(&decision.label)).collect();
                    Decisions::scripted(script(&faults), Rest::Seed(seed))
                }
                3 => Decisions::from_seed(seed),
                _ => Decisions::scripted(script(&moved), Rest::Zero),
            };
            if self.try_run(&plan, decisions) {
                return true;
            }
        }
        false
    }

    fn cut_after_failure(&mut self, started: &[usize]) {
        let mut plan = self.plan.clone();
        for (ops, started) in plan.clients.iter_mut().zip(started) {
            ops.truncate(*started);
        }
        let decisions = self.decisions.clone();
        self.try_script(plan, decisions);
    }

    /// Leaves out groups of operations, ever smaller ones.
    fn drop_ops(&mut self) {
        let mut size = self.plan.ops().div_ceil(2).max(1);
        loop {
            let mut start = 0;
            while start < self.plan.ops() && !self.is_late() {
                let mut index = 0;
                let mut plan = self.plan.clone();
                for ops in &mut plan.clients {
                    ops.retain(|_| {
                        index += 1;
                        !(start..start + size).contains(&(index - 1))
                    });
                }
                let efforts = self.efforts();
                if !self.try_somehow(plan, efforts) {
                    start += size;
                }
            }
            if size == 1 || self.is_late() {
                return;
            }
            size = size.div_ceil(2).min(self.plan.ops().max(1));
        }
    }

    fn merge_clients(&mut self) {
        let mut client = self.plan.clients.len();
        while client > 1 && !self.is_late() {
            client -= 1;
            let mut plan = self.plan.clone();
            let ops = plan.clients.remove(client);
            let with_first = !ops.is_empty();
            plan.clients[0].extend(ops);
            if !self.try_somehow(plan, 4) && with_first && client == 1 {
                // The other way round.
                let mut plan = self.plan.clone();
                let first = plan.clients.remove(0);
                plan.clients[0].extend(first);
                self.try_somehow(plan, 4);
            }
        }
    }

    /// Leaves out all decisions of a name; it is often the scheduling, which there is most of, that does not matter.
    fn drop_labels(&mut self) {
        let mut labels: Vec<String> = self.decisions.iter().map(|decision| decision.label.clone()).collect();
        labels.sort_unstable();
        labels.dedup();
        for label in labels {
            let decisions: Vec<Decision> =
                self.decisions.iter().filter(|decision| decision.label != label).cloned().collect();
            if self.is_late() {
                return;
            }
            let plan = self.plan.clone();
            self.try_script(plan, decisions);
        }
    }

    fn drop_decisions(&mut self) {
        self.drop_labels();
        let mut size = self.decisions.len().div_ceil(2).max(1);
        loop {
            let mut start = 0;
            while start < self.decisions.len() && !self.is_late() {
                let mut decisions = self.decisions.clone();
                decisions.drain(start..(start + size).min(decisions.len()));
                let plan = self.plan.clone();
                let count = self.decisions.len();
                if !self.try_script(plan, decisions) || self.decisions.len() >= count {
                    start += size;
                }
            }
            if size == 1 || self.is_late() {
                return;
            }
            size = size.div_ceil(2);
        }
    }

    /// Leaves out rules that have nothing to do with it, the last first so that the names of the others stay.
    fn drop_rules(&mut self) {
        for index in (0..self.plan.faults.len()).rev() {
            let mut plan = self.plan.clone();
            plan.faults.remove(index);
            let decisions = self.decisions.clone();
            if self.is_late() {
                return;
            }
            self.try_script(plan, decisions);
        }
    }

    fn simplify_ops(&mut self) {
        for client in 0..self.plan.clients.len() {
            for index in 0..self.plan.clients[client].len() {
                for simpler in simpler_ops(&self.plan.clients[client][index]) {
                    if self.is_late() {
                        return;
                    }
                    let mut plan = self.plan.clone();
                    plan.clients[client][index] = simpler;
                    let efforts = self.efforts() / 4;
                    self.try_somehow(plan, efforts);
                }
            }
        }
    }

    fn simplify_options(&mut self) {
        let defaults = self.kind.default_options();
        let names: Vec<String> = self.plan.options.keys().cloned().collect();
        for name in names {
            if self.plan.options.get(&name) == defaults.get(&name) || self.is_late() {
                continue;
            }
            let mut plan = self.plan.clone();
            match defaults.get(&name) {
                Some(value) => plan.options.insert(name, value.clone()),
                None => plan.options.remove(&name),
            };
            self.try_somehow(plan, 1);
        }
    }

    /// Keys that no operation names need not exist.
    fn drop_keys(&mut self) {
        let mut used: Vec<u32> = self.plan.clients.iter().flatten().flat_map(Op::keys).collect();
        // The harness itself writes to the first.
        used.push(0);
        used.sort_unstable();
        used.dedup();
        let mut plan = self.plan.clone();
        plan.keys = crate::op::Keys::new(used.iter().map(|key| plan.keys.bytes(*key).to_vec()).collect());
        let name = |key: u32| used.binary_search(&key).expect("a key that is used") as u32;
        for op in plan.clients.iter_mut().flatten() {
            *op = op.renamed(&name);
        }
        let decisions = self.decisions.clone();
        self.try_script(plan, decisions);
    }
}

/// Faults whose rules count all calls: what moves when operations are left out.
fn is_counted_fault(label: &str) -> bool {
    label.starts_with("fault.") && !label.ends_with(".how")
}

/// The same operation with less in it, the plainest first.
fn simpler_ops(op: &Op) -> Vec<Op> {
    let plain = |value: Value| Value { bytes: value.bytes.min(VALUE_BYTES_MIN), ..value };
    let mut simpler = Vec::new();
    match op {
        Op::Put { key, value, sync } => {
            simpler.push(Op::Put { key: *key, value: plain(*value), sync: *sync });
            simpler.push(Op::Put { key: *key, value: *value, sync: SyncMode::Default });
        }
        Op::Delete { key, .. } => simpler.push(Op::Delete { key: *key, sync: SyncMode::Default }),
        Op::Batch { entries, sync } => {
            for left_out in 0..entries.len() {
                if entries.len() > 1 {
                    let mut entries = entries.clone();
                    entries.remove(left_out);
                    simpler.push(Op::Batch { entries, sync: *sync });
                }
            }
            let entries: Vec<Entry> =
                entries.iter().map(|entry| Entry { key: entry.key, value: entry.value.map(plain) }).collect();
            if let [Entry { key, value: Some(value) }] = entries.as_slice() {
                simpler.push(Op::Put { key: *key, value: *value, sync: *sync });
            }
            simpler.push(Op::Batch { entries, sync: *sync });
        }
        Op::Scan { bounds, reverse, limit, at } => {
            simpler.push(Op::Scan { bounds: crate::op::Bounds::ALL, reverse: *reverse, limit: *limit, at: *at });
            simpler.push(Op::Scan { bounds: *bounds, reverse: false, limit: *limit, at: *at });
            simpler.push(Op::Scan { bounds: *bounds, reverse: *reverse, limit: None, at: *at });
        }
        Op::Compact { .. } => simpler.push(Op::Compact { bounds: crate::op::Bounds::ALL }),
        _ => {}
    }
    simpler.retain(|simpler| simpler != op);
    simpler
}

#[cfg(test)]
mod tests;
