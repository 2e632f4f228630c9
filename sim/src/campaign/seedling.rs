//! A run that others are grown from: the run of a seed, some of whose decisions, options and operations were changed.
//!
//! Every decision has a name and a stream of its own, so a few can be given and all others stay as the seed has them: the
//! story up to the change is the same, and what follows from it is another. A change is drawn from a number, like all else,
//! and is of one of these kinds ([`Change`]): another answer to a single decision, another moment for a fault, other
//! options, more operations.
//!
//! It does not know which runs are worth to be changed; that is [`super::growth`].

use crate::op::{EMPTY, KeyId, Op, STAMP_FIRST, Stamp, Stamps};
use crate::rng::{Decision, Decisions, Rest};
use crate::runner::{RunOptions, RunReport, run_plan};
use crate::scenario::Scenario;
use crate::store::StoreKind;
use crate::workload::{self, Plan};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Changes of one mutation, at most.
const CHANGES_MAX: u64 = 3;

/// Calls by which the moment of a fault moves, at most.
const SHIFT_MAX: u64 = 40;

/// Operations up to which a plan gets longer.
const OPS_MAX: usize = 2000;

/// What is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// The answer to a decision that was not 0.
    Answer,
    /// When a fault strikes.
    Moment,
    /// One of the things that can be set.
    Options,
    /// More operations, taken from another seed of the scenario.
    Longer,
}

impl Change {
    /// Every kind.
    pub const ALL: [Change; 4] = [Change::Answer, Change::Moment, Change::Options, Change::Longer];
}

/// See the head of this file.
#[derive(Clone, Debug)]
pub struct Seedling {
    /// Index of the scenario.
    pub scenario: usize,
    /// The seed that answers what is not given.
    pub seed: u64,
    /// The plan.
    pub plan: Arc<Plan>,
    /// Decisions that were changed, by label and ordinal.
    pub given: BTreeMap<(String, u64), u64>,
}

impl Seedling {
    /// The run of a seed as it is.
    pub fn new(scenario: usize, of: &Scenario, kind: &dyn StoreKind, seed: u64) -> Seedling {
        let plan = Arc::new(workload::plan(of, kind, &mut Decisions::from_seed(seed)));
        Seedling { scenario, seed, plan, given: BTreeMap::new() }
    }

    /// Runs it.
    pub fn run(&self, kind: &Arc<dyn StoreKind>, options: &RunOptions) -> RunReport {
        let decisions = Decisions::scripted(self.given.clone(), Rest::Seed(self.seed));
        run_plan(self.plan.clone(), kind, decisions, options)
    }

    /// Another run, changed in one to three ways as this number decides. `decided` is what this one decided, but for zeros.
    pub fn mutated(&self, of: &Scenario, kind: &dyn StoreKind, decided: &[Decision], number: u64) -> Seedling {
        let mut dice = Decisions::from_seed(number);
        let [count, what] = ["grow.count", "grow.what"].map(|label| dice.site(label));
        let mut seedling = self.clone();
        for _ in 0..1 + dice.decide(count, CHANGES_MAX) {
            match *dice.pick(what, &Change::ALL) {
                Change::Answer => seedling.answer(decided, &mut dice),
                Change::Moment => seedling.shift(decided, &mut dice),
                Change::Options => seedling.set(kind, &mut dice),
                Change::Longer => seedling.lengthen(of, kind, &mut dice),
            }
        }
        seedling
    }

    fn answer(&mut self, decided: &[Decision], dice: &mut Decisions) {
        if let Some(decision) = pick_by_label(decided, dice, |_| true) {
            let site = dice.site("grow.answer");
            let value = dice.decide(site, decision.n.max(2));
            self.given.insert((decision.label.clone(), decision.ordinal), value);
        }
    }

    fn shift(&mut self, decided: &[Decision], dice: &mut Decisions) {
        let is_event = |label: &str| label.starts_with("fault.") && !label.ends_with(".how");
        if let Some(event) = pick_by_label(decided, dice, is_event) {
            let site = dice.site("grow.shift");
            let by = 1 + dice.decide(site, SHIFT_MAX);
            let earlier = dice.decide(site, 2) == 1;
            let to = if earlier { event.ordinal.saturating_sub(by) } else { event.ordinal + by };
            self.given.insert((event.label.clone(), event.ordinal), 0);
            self.given.insert((event.label.clone(), to), event.value);
        }
    }

    fn set(&mut self, kind: &dyn StoreKind, dice: &mut Decisions) {
        let ways = kind.wild_options();
        if ways.is_empty() {
            return;
        }
        let site = dice.site("grow.options");
        let way = dice.pick(site, &ways).clone();
        let mut options = self.plan.options.clone();
        options.extend(dice.pick(site, &way).clone());
        if kind.check_options(&options).is_ok() {
            Arc::make_mut(&mut self.plan).options = options;
        }
    }

    fn lengthen(&mut self, of: &Scenario, kind: &dyn StoreKind, dice: &mut Decisions) {
        let site = dice.site("grow.longer");
        let seed = dice.decide(site, u64::MAX);
        let other = workload::plan(of, kind, &mut Decisions::from_seed(seed));
        if self.plan.ops() + other.ops() > OPS_MAX || self.plan.keys.count() == 0 {
            return;
        }
        let plan = Arc::make_mut(&mut self.plan);
        let (stamps, keys) = (Stamps::of(&plan.clients).end().max(STAMP_FIRST), plan.keys.count() as KeyId);
        let clients = plan.clients.len();
        for (client, ops) in other.clients.into_iter().enumerate() {
            let ops = ops.into_iter().map(|op| restamped(op.renamed(&|key| key % keys), stamps));
            plan.clients[client % clients].extend(ops);
        }
    }
}

/// One of the decisions whose label is wanted, each label as likely as another: most decisions are about who runs.
fn pick_by_label<'a>(
    decided: &'a [Decision],
    dice: &mut Decisions,
    wanted: impl Fn(&str) -> bool,
) -> Option<&'a Decision> {
    let labels: BTreeSet<&str> = decided.iter().map(|one| one.label.as_str()).filter(|label| wanted(label)).collect();
    let labels: Vec<&str> = labels.into_iter().collect();
    if labels.is_empty() {
        return None;
    }
    let site = dice.site("grow.which");
    let label = *dice.pick(site, &labels);
    let of_label: Vec<&Decision> = decided.iter().filter(|one| one.label == label).collect();
    Some(*dice.pick(site, &of_label))
}

/// The operation with values that nobody else writes: all stamps from this one on are free.
fn restamped(mut op: Op, free_from: Stamp) -> Op {
    let restamp = |stamp: Stamp| if stamp == EMPTY { EMPTY } else { stamp + free_from - STAMP_FIRST };
    match &mut op {
        Op::Put { value, .. } | Op::Hurry { value, .. } => value.stamp = restamp(value.stamp),
        Op::Batch { entries, .. } => {
            entries
                .iter_mut()
                .filter_map(|entry| entry.value.as_mut())
                .for_each(|value| value.stamp = restamp(value.stamp));
        }
        _ => {}
    }
    op
}
