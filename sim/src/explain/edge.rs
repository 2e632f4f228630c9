//! The missing edge, found by experiment: which thing must have been durable before which other, and was not.
//!
//! Two experiments, on the last power cut that lost something. First each thing that was pending and kept is lost as well: where
//! the failure is gone then, it takes the lost thing *and* the kept one, and the two are the pair. Where no kept thing matters,
//! what was done before the cut is what must not have been: the power is cut at each call since the lost thing was asked for,
//! and the first cut that fails names the call, or the acknowledgement, right before it.

use super::story::{self, Call, Witnessed};
use crate::artifact::{Artifact, script};
use crate::disk::{CrashKind, Item, LISTED};
use crate::fault::{FaultKind, FaultRule};
use crate::oracle::MissingBarrier;
use crate::rng::{Decision, Decisions, Rest};
use crate::runner::{END_CRASH, RunOptions, RunReport, run_plan};
use crate::shrink::candidate::{is_counted_fault, is_loss, listed};
use crate::store::StoreKind;
use crate::workload::Plan;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Calls at which the power is cut in search of the moment, at most.
const CUTS_MAX: u64 = 2_000;

/// A moment of a run after which something could still be lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Moment {
    /// This call had returned.
    Returned(Call),
    /// This was said to the client.
    Acknowledged(String),
}

/// What is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edge {
    /// A crash may keep one and lose the other: they need an order, and have none.
    Between {
        /// What was lost.
        lost: Item,
        /// What was kept, and relies on it.
        kept: Item,
    },
    /// It can be lost after this, though it must not.
    After {
        /// What was lost.
        lost: Item,
        /// After which that is wrong.
        moment: Moment,
    },
    /// It was lost, and no experiment tells more.
    Lost(Item),
    /// The durability sanitizer saw it without any crash.
    Barrier {
        /// What came too early, and what was missing.
        sentence: String,
        /// What would have mended it.
        missing: Box<MissingBarrier>,
    },
    /// No loss is needed, but these calls must fail, in the words of the trace.
    Faults(Vec<String>),
    /// Neither a crash nor a failed call is needed, but bytes that were damaged, in a sentence.
    Damage(String),
    /// A crash is needed, and nothing that was pending need be lost.
    Process,
    /// Neither a crash nor a fault is needed.
    Alone,
}

/// One pending thing of the crash in question, as a decision.
struct Choice {
    item: Item,
    decision: Decision,
}

struct Search<'a> {
    artifact: &'a Artifact,
    kind: &'a Arc<dyn StoreKind>,
    fingerprint: &'a str,
    decisions: Vec<Decision>,
}

/// What became of a changed run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Same,
    Other,
    Passes,
}

/// Finds what is missing. `witnessed` is the run as it fails.
pub(super) fn find(artifact: &Artifact, kind: &Arc<dyn StoreKind>, witnessed: &Witnessed, fingerprint: &str) -> Edge {
    let report = &witnessed.report;
    let mut search =
        Search { artifact, kind, fingerprint, decisions: listed(&report.decisions, &report.crash_reports) };
    let plan = artifact.plan.clone();
    let is_listed = search.run(&plan, &search.decisions).0 == Outcome::Same;
    if !is_listed {
        search.decisions.clone_from(&report.decisions);
    }
    let Some((cut, choices)) = choices(report) else { return search.without_loss(witnessed) };
    let (mut lost, kept): (Vec<Choice>, Vec<Choice>) =
        choices.into_iter().partition(|choice| choice.decision.value > 0);
    lost.sort_by_key(|choice| choice.item.origin.op);
    let Some(first) = lost.first() else { return search.without_loss(witnessed) };
    if !is_listed {
        return Edge::Lost(first.item.clone());
    }
    // One thing after the other is kept, where that changes nothing: what is left is lost for a reason.
    let mut needed = Vec::new();
    for choice in &lost {
        let others = search.decisions.iter().filter(|other| !same_site(other, &choice.decision));
        let others: Vec<Decision> = others.cloned().collect();
        if search.run(&plan, &others).0 == Outcome::Same {
            search.decisions = others;
        } else {
            needed.push(choice);
        }
    }
    let Some(loss) = needed.first() else { return search.without_loss(witnessed) };
    search.pair(loss, &kept).unwrap_or_else(|| search.moment(loss, cut, witnessed))
}

fn same_site(a: &Decision, b: &Decision) -> bool {
    a.ordinal == b.ordinal && a.label == b.label
}

/// The last power cut that lost something: which it was, and everything that was pending.
fn choices(report: &RunReport) -> Option<(u64, Vec<Choice>)> {
    let mut ordinals: BTreeMap<&str, u64> = BTreeMap::new();
    let mut found = None;
    let cuts = report.crash_reports.iter().filter(|crash| crash.kind != CrashKind::Process);
    for (number, crash) in cuts.enumerate() {
        if crash.listed.iter().all(|answer| answer.value == 0) {
            continue;
        }
        let mut choices = Vec::new();
        for answer in &crash.listed {
            let ordinal = ordinals.entry(&answer.label).or_default();
            if let Some(item) = &answer.item {
                let (label, value) = (answer.label.clone(), answer.value);
                let decision = Decision { label, ordinal: *ordinal, n: 4, value };
                choices.push(Choice { item: item.clone(), decision });
            }
            *ordinal += 1;
        }
        found = Some((number as u64, choices));
    }
    found
}

impl Search<'_> {
    fn run(&self, plan: &Plan, decisions: &[Decision]) -> (Outcome, RunReport) {
        let decisions = Decisions::scripted(script(decisions), Rest::Zero);
        let options = RunOptions { record: true, ..RunOptions::default() };
        let report = run_plan(Arc::new(plan.clone()), self.kind, decisions, &options);
        let outcome = match &report.failure {
            None => Outcome::Passes,
            Some(failure) if failure.finding.fingerprint() == self.fingerprint => Outcome::Same,
            Some(_) => Outcome::Other,
        };
        (outcome, report)
    }

    /// The kept thing without which the loss does no harm.
    fn pair(&self, loss: &Choice, kept: &[Choice]) -> Option<Edge> {
        let mut found: Option<(bool, bool, u64, &Choice)> = None;
        for choice in kept {
            let mut decisions = self.decisions.clone();
            decisions.push(Decision { value: 1, ..choice.decision.clone() });
            let (outcome, _) = self.run(&self.artifact.plan, &decisions);
            if outcome == Outcome::Same {
                continue;
            }
            // What came later, and whose loss makes all well, is what relied on it.
            let op = choice.item.origin.op;
            let rank = (outcome == Outcome::Passes, op > loss.item.origin.op, op);
            if found.is_none_or(|(passes, later, op, _)| rank > (passes, later, op)) {
                found = Some((rank.0, rank.1, rank.2, choice));
            }
        }
        let (_, _, _, choice) = found?;
        Some(Edge::Between { lost: loss.item.clone(), kept: choice.item.clone() })
    }

    /// The moment after which the loss is wrong.
    fn moment(&self, loss: &Choice, cut: u64, witnessed: &Witnessed) -> Edge {
        let lost = loss.item.clone();
        let cuts_power = |decision: &&Decision| {
            is_counted_fault(&decision.label) && decision.label.starts_with("fault.power-loss")
                || decision.label == END_CRASH
        };
        // Only a lone cut, by a rule or at the end, can be moved: those before it would move along.
        if self.decisions.iter().filter(cuts_power).count() != 1 || cut != 0 {
            return Edge::Lost(lost);
        }
        let decisions: Vec<Decision> = self
            .decisions
            .iter()
            .filter(|decision| {
                !cuts_power(decision) && !decision.label.starts_with("crash.") || decision.label == LISTED
            })
            .cloned()
            .collect();
        let exposed: Vec<&Call> = witnessed.calls.iter().filter(|call| call.is_exposed).collect();
        for (index, call) in exposed.iter().enumerate().filter(|(_, call)| call.ordinal > lost.origin.op) {
            if call.ordinal - lost.origin.op > CUTS_MAX {
                break;
            }
            let plan = cut_at(&self.artifact.plan, index as u64 + 1);
            // The things of this cut are counted first, with all of them kept.
            let (_, report) = self.run(&plan, &decisions);
            let Some(crash) = report.crash_reports.first() else { continue };
            let mut ordinals: BTreeMap<&str, u64> = BTreeMap::new();
            let mut same = None;
            for answer in &crash.listed {
                let ordinal = ordinals.entry(&answer.label).or_default();
                if answer.item.as_ref() == Some(&lost) {
                    same = Some(Decision { ordinal: *ordinal, ..loss.decision.clone() });
                }
                *ordinal += 1;
            }
            let Some(same) = same else { continue };
            let parts = format!("{} ", same.label);
            let mut with_loss = decisions.clone();
            let details = self.decisions.iter().filter(|decision| decision.label.starts_with(&parts));
            with_loss.extend(details.cloned());
            with_loss.push(same);
            if self.run(&plan, &with_loss).0 == Outcome::Same {
                return match story::before(witnessed, call.ordinal) {
                    Some(moment) => Edge::After { lost, moment },
                    None => Edge::Lost(lost),
                };
            }
        }
        // No earlier cut does harm. One that struck when all clients were done tells of what was last said to them.
        match story::before(witnessed, u64::MAX) {
            Some(moment) if self.decisions.iter().any(|decision| decision.label == END_CRASH) => {
                Edge::After { lost, moment }
            }
            _ => Edge::Lost(lost),
        }
    }

    /// Which faults it takes, where nothing has to be lost.
    fn without_loss(&self, witnessed: &Witnessed) -> Edge {
        let report = &witnessed.report;
        let without = |gone: &dyn Fn(&Decision) -> bool| {
            let left: Vec<Decision> = self.decisions.iter().filter(|decision| !gone(decision)).cloned().collect();
            self.run(&self.artifact.plan, &left).0
        };
        if without(&|decision| is_counted_fault(&decision.label) || is_loss(decision)) == Outcome::Same {
            return Edge::Alone;
        }
        if !witnessed.faults.is_empty() {
            return Edge::Faults(witnessed.faults.clone());
        }
        if let Some(last) = report.damage.last() {
            return Edge::Damage(last.clone());
        }
        if report.crashes > 0 { Edge::Process } else { Edge::Alone }
    }
}

/// The plan with its power cut at the call of this number, among those at which faults may strike.
fn cut_at(plan: &Plan, nth: u64) -> Plan {
    let rule: FaultRule = format!("kind = 'power-loss'\nnth = {nth}").parse().expect("a rule that is written here");
    let mut plan = plan.clone();
    plan.faults.retain(|rule| rule.kind() != FaultKind::PowerLoss);
    plan.faults.push(rule);
    plan
}
