//! From a failing run to a small one that fails in the same way.
//!
//! A run is a plan and a script of decisions, so shrinking is leaving things out and running again: a candidate counts if it
//! fails with the same fingerprint. First go the operations after the failure; then all clients become one; then each crash
//! image becomes a list of what it lost ([`crate::disk::LISTED`]). Then go groups of operations, halves before quarters
//! (Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input", 2002), each with its own decisions
//! ([`candidate`]); what only had to fill a memtable is replaced by a flush. Then go losses and all other decisions, whole
//! labels before single ones, since 0 is always the plainest; then rules, entries of batches, values, options and keys.
//!
//! Leaving out operations moves the faults away from where they hurt, by what the background does otherwise. A small candidate
//! is therefore tried in several ways: with the script as it is, with the faults moved a little, and with fresh seeds.
//!
//! Not promised: the smallest run, or any smaller one. What is found within the time is what is kept.

pub(crate) mod candidate;

use crate::artifact::{Artifact, script};
use crate::disk::LISTED;
use crate::op::{Bounds, Op};
use crate::rng::{Decision, Decisions, Rest};
use crate::runner::{RunOptions, RunReport, run_plan};
use crate::store::StoreKind;
use crate::workload::Plan;
use candidate::{Place, Where, Windows, is_counted_fault, is_loss};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How large a failing run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size {
    /// Operations.
    pub ops: usize,
    /// Pending things that crashes lost.
    pub lost: usize,
    /// Faults that were decided.
    pub faults: usize,
    /// Decisions that are not 0.
    pub decisions: usize,
}

/// How far shrinking has come, for those who watch.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// The smallest run so far.
    pub size: Size,
    /// Runs that it took.
    pub runs: u64,
}

/// What shrinking did.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// The small run.
    pub artifact: Artifact,
    /// Its size before.
    pub before: Size,
    /// Its size now.
    pub after: Size,
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
    watch: &'a mut dyn FnMut(Progress),
    runs: u64,
    dice: u64,
    plan: Plan,
    decisions: Vec<Decision>,
    symptom: String,
    /// The key that is wrong.
    key: Option<Vec<u8>>,
    windows: Windows,
    /// The decisions with listed images, of the best run.
    listed: Vec<Decision>,
    lost: usize,
    /// System calls of the best run.
    calls: u64,
}

#[expect(clippy::disallowed_methods, reason = "how long shrinking may take is a matter of real time")]
fn real_now() -> Instant {
    Instant::now()
}

/// Shrinks a failing run within the time, and tells `watch` of each smaller one. `report` is of a run of `plan` in which
/// decisions were recorded.
pub fn shrink(
    plan: &Plan,
    seed: Option<u64>,
    report: &RunReport,
    kind: &Arc<dyn StoreKind>,
    time: Duration,
    watch: &mut dyn FnMut(Progress),
) -> Shrunk {
    let failure = report.failure.as_ref().expect("a run that failed");
    let started = real_now();
    // The plan is embedded: how it was drawn is of no interest any more.
    let decisions: Vec<Decision> =
        report.decisions.iter().filter(|decision| !decision.label.starts_with("plan.")).cloned().collect();
    let mut shrinker = Shrinker {
        kind,
        fingerprint: failure.finding.fingerprint(),
        deadline: started + time,
        watch,
        runs: 0,
        dice: 0x5eed,
        plan: plan.clone(),
        decisions: decisions.clone(),
        symptom: failure.finding.symptom.clone(),
        key: failure.finding.key.clone(),
        windows: Windows::default(),
        listed: Vec::new(),
        lost: 0,
        calls: report.calls,
    };
    shrinker.learn(report);
    shrinker.decisions.clone_from(&decisions);
    let before = shrinker.size();
    let replays = shrinker.try_script(plan.clone(), decisions);
    if replays {
        shrinker.keep_one_variant();
        shrinker.all(&report.started);
    }
    let after = shrinker.size();
    let Shrinker { fingerprint, plan, decisions, symptom, runs, .. } = shrinker;
    let artifact = Artifact { symptom, fingerprint, seed, plan, decisions };
    Shrunk { artifact, before, after, runs, took: real_now() - started, replays }
}

impl Shrinker<'_> {
    fn all(&mut self, started: &[usize]) {
        self.cut_after_failure(started);
        self.join_clients();
        self.drop_labels();
        self.list_images();
        self.keep_only_the_key();
        for _ in 0..6 {
            let size = self.size();
            self.drop_ops();
            self.join_clients();
            self.list_images();
            self.drop_decisions();
            self.drop_rules();
            self.simplify_ops();
            self.simplify_options();
            if self.size() == size || self.is_late() {
                break;
            }
        }
        self.simplify_keys();
    }

    fn is_late(&self) -> bool {
        real_now() >= self.deadline
    }

    fn size(&self) -> Size {
        let faults = self.decisions.iter().filter(|decision| is_counted_fault(&decision.label)).count();
        Size { ops: self.plan.ops(), lost: self.lost, faults, decisions: self.decisions.len() }
    }

    fn roll(&mut self, n: u64) -> u64 {
        self.dice = self.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.dice >> 33) % n.max(1)
    }

    /// Ways in which a candidate is tried: a small one is worth more of them, and costs less.
    fn efforts(&self) -> u64 {
        match self.plan.ops() {
            0..12 => 40,
            12..40 => 16,
            40..150 => 6,
            _ => 1,
        }
    }

    /// Takes over what a run that failed in the right way tells of itself.
    fn learn(&mut self, report: &RunReport) {
        self.windows = Windows::of(report);
        self.listed = candidate::listed(&report.decisions, &report.crash_reports);
        self.lost = self.listed.iter().filter(|decision| is_loss(decision)).count();
        self.calls = report.calls;
        self.decisions.clone_from(&report.decisions);
    }

    /// Runs a candidate and takes it over if it fails in the same way.
    fn try_run(&mut self, plan: &Arc<Plan>, decisions: Decisions) -> bool {
        self.runs += 1;
        let report =
            run_plan(plan.clone(), self.kind, decisions, &RunOptions { record: true, ..RunOptions::default() });
        let Some(failure) = &report.failure else { return false };
        if failure.finding.fingerprint() != self.fingerprint {
            return false;
        }
        self.plan = (**plan).clone();
        self.symptom.clone_from(&failure.finding.symptom);
        self.key.clone_from(&failure.finding.key);
        self.learn(&report);
        let progress = Progress { size: self.size(), runs: self.runs };
        (self.watch)(progress);
        true
    }

    fn try_script(&mut self, plan: Plan, decisions: Vec<Decision>) -> bool {
        let decisions = Decisions::scripted(script(&decisions), Rest::Zero);
        self.try_run(&Arc::new(plan), decisions)
    }

    /// This script; then its faults a little earlier or later; then fresh seeds.
    fn try_somehow(&mut self, plan: Plan, kept: &[Decision], efforts: u64) -> bool {
        if self.is_late() {
            return false;
        }
        let plan = Arc::new(plan);
        if self.try_run(&plan, Decisions::scripted(script(kept), Rest::Zero)) {
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
                        let at = decision.ordinal;
                        decision.ordinal = match effort % 4 {
                            0 => at.saturating_sub(1 + self.roll(8)),
                            1 => at + 1 + self.roll(8),
                            _ => self.roll(calls.max(at)),
                        };
                    }
                    decision
                })
                .collect();
            let seed = self.roll(u64::MAX);
            let decisions = match effort % 8 {
                // The same faults, and everything else anew: what a crash keeps, who runs when.
                3 | 5 => {
                    let faults: Vec<Decision> =
                        moved.into_iter().filter(|decision| is_counted_fault(&decision.label)).collect();
                    Decisions::scripted(script(&faults), Rest::Seed(seed))
                }
                7 => Decisions::from_seed(seed),
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

    /// One client instead of several, in the order in which they came; failing that, the last into the first.
    fn join_clients(&mut self) {
        if self.plan.clients.len() > 1 && !self.is_late() {
            let plan = candidate::by_one_client(&self.plan, &self.windows);
            let decisions = self.decisions.clone();
            if self.try_somehow(plan, &decisions, self.efforts()) {
                return;
            }
        }
        let mut client = self.plan.clients.len();
        while client > 1 && !self.is_late() {
            client -= 1;
            let mut plan = self.plan.clone();
            let ops = plan.clients.remove(client);
            plan.clients[0].extend(ops);
            let decisions = self.decisions.clone();
            self.try_somehow(plan, &decisions, 1);
        }
    }

    /// Every crash image by what it lost, so that each loss can be left out.
    fn list_images(&mut self) {
        let (plan, listed) = (self.plan.clone(), self.listed.clone());
        if listed != self.decisions && listed.iter().any(|decision| decision.label == LISTED) {
            self.try_script(plan, listed);
        }
    }

    /// Leaves out groups of operations, ever smaller ones.
    fn drop_ops(&mut self) {
        let mut size = self.plan.ops().div_ceil(2).max(1);
        loop {
            let mut start = 0;
            while start < self.plan.ops() && !self.is_late() {
                let places = self.places();
                let group: BTreeSet<Place> = places.into_iter().skip(start).take(size).collect();
                if !self.drop_group(&group) {
                    start += size;
                }
            }
            if size == 1 || self.is_late() {
                return;
            }
            size = size.div_ceil(2).min(self.plan.ops().max(1));
        }
    }

    /// Leaves out at once whatever does not touch the key that is wrong; in the gaps memory is emptied, which may have been
    /// all that the others were good for.
    fn keep_only_the_key(&mut self) {
        let Some(key) = self.key.clone() else { return };
        let strangers = candidate::strangers_to(&self.plan, &key);
        for instead in [&[][..], &[Op::Flush], &[Op::Flush, Op::Compact { bounds: Bounds::ALL }]] {
            let (plan, decisions) =
                candidate::without(&self.plan, &self.windows, &self.decisions, &strangers, (instead, Where::EachGap));
            if plan.ops() < self.plan.ops() && self.try_somehow(plan, &decisions, 4) {
                return;
            }
        }
    }

    /// All operations, in the order in which they were started.
    fn places(&self) -> Vec<Place> {
        let mut places: Vec<Place> = self.windows.order.clone();
        let known: BTreeSet<Place> = places.iter().copied().collect();
        for (client, ops) in self.plan.clients.iter().enumerate() {
            places.extend((0..ops.len()).map(|index| (client, index)).filter(|place| !known.contains(place)));
        }
        places
    }

    fn drop_group(&mut self, group: &BTreeSet<Place>) -> bool {
        let efforts = self.efforts();
        // What many operations are needed for is often no more than a full memtable.
        let flush = [Op::Flush];
        let compact = [Op::Flush, Op::Compact { bounds: Bounds::ALL }];
        let instead: [&[Op]; 3] = [&[], &flush, &compact];
        for instead in instead.into_iter().filter(|instead| instead.len() < group.len().div_ceil(2)) {
            let (plan, decisions) =
                candidate::without(&self.plan, &self.windows, &self.decisions, group, (instead, Where::Once));
            if self.try_somehow(plan, &decisions, if instead.is_empty() { efforts } else { efforts / 4 }) {
                return true;
            }
        }
        false
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
                break;
            }
            size = size.div_ceil(2);
        }
        self.lose_whole_things();
    }

    /// A thing that is lost in part is lost whole, where that does as well.
    fn lose_whole_things(&mut self) {
        let mut index = 0;
        while index < self.decisions.len() && !self.is_late() {
            let decision = &self.decisions[index];
            if is_loss(decision) && decision.value > 1 {
                let parts = format!("{} ", decision.label);
                let mut decisions = self.decisions.clone();
                decisions[index].value = 1;
                decisions.retain(|decision| !decision.label.starts_with(&parts));
                let plan = self.plan.clone();
                self.try_script(plan, decisions);
            }
            index += 1;
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
                // A batch may become smaller several times.
                while !self.is_late() && self.simplify_op(client, index) {}
            }
        }
    }

    fn simplify_op(&mut self, client: usize, index: usize) -> bool {
        for simpler in candidate::simpler_ops(&self.plan.clients[client][index]) {
            let mut plan = self.plan.clone();
            plan.clients[client][index] = simpler;
            let (decisions, efforts) = (self.decisions.clone(), self.efforts() / 8);
            if self.try_somehow(plan, &decisions, efforts) {
                return true;
            }
        }
        false
    }

    /// One other set of options is enough to differ from.
    fn keep_one_variant(&mut self) {
        if self.plan.variants.len() < 2 {
            return;
        }
        for variant in self.plan.variants.clone() {
            let plan = Plan { variants: vec![variant], ..self.plan.clone() };
            let decisions = self.decisions.clone();
            if self.is_late() || self.try_script(plan, decisions) {
                return;
            }
        }
    }

    fn simplify_options(&mut self) {
        for index in 0..self.plan.variants.len() {
            for name in self.plan.variants[index].keys().cloned().collect::<Vec<String>>() {
                if self.is_late() {
                    return;
                }
                let mut plan = self.plan.clone();
                plan.variants[index].remove(&name);
                let decisions = self.decisions.clone();
                self.try_script(plan, decisions);
            }
        }
        let defaults = self.kind.default_options();
        if self.plan.options == defaults {
            return;
        }
        let plan = Plan { options: defaults.clone(), ..self.plan.clone() };
        let decisions = self.decisions.clone();
        if self.try_somehow(plan, &decisions, 2) {
            return;
        }
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
            let decisions = self.decisions.clone();
            self.try_somehow(plan, &decisions, 1);
        }
    }

    fn simplify_keys(&mut self) {
        let used = candidate::with_used_keys(&self.plan);
        let decisions = self.decisions.clone();
        self.try_script(used, decisions);
        if let Some(plain) = candidate::with_plain_keys(&self.plan) {
            let decisions = self.decisions.clone();
            self.try_script(plain, decisions);
        }
    }
}

#[cfg(test)]
mod tests;
