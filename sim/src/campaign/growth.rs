//! Which runs others are grown from: those that reached what no run had reached before.
//!
//! What a run has reached is the coverage marks of the store, and roughly how often: a pair of a mark and the binary
//! magnitude of its hits. A run that shows a new pair is kept. Whoever grows draws a mark first and then one of the runs that
//! were kept and reach it, so that a mark that is hard to reach gets as much as one that every run passes (Zalewski's AFL
//! keeps and favours inputs in this way).
//!
//! Invariant: it depends on nothing but the runs that it has seen and their order.

use super::seedling::Seedling;
use crate::coverage::Coverage;
use crate::report::count;
use crate::rng::{Decision, Decisions};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A mark, and the binary magnitude of how often it was reached.
type Pair = (&'static str, u32);

/// A run that is kept, and what it decided, but for zeros.
#[derive(Clone, Debug)]
pub struct Kept {
    /// The run.
    pub seedling: Arc<Seedling>,
    /// Its decisions.
    pub decided: Vec<Decision>,
}

/// See the head of this file.
#[derive(Clone, Debug, Default)]
pub struct Growth {
    kept: Vec<Kept>,
    /// By mark, the runs that were kept and reach it.
    reaching: BTreeMap<&'static str, Vec<usize>>,
    met: BTreeSet<Pair>,
    /// Pairs that a grown run was the first to show.
    met_by_growth: u64,
    fresh: (u64, Coverage),
    grown: (u64, Coverage),
}

fn pairs(coverage: &Coverage) -> impl Iterator<Item = Pair> {
    coverage.marks.iter().filter(|(_, hits)| **hits > 0).map(|(name, hits)| (*name, hits.ilog2()))
}

impl Growth {
    /// Whether a run has reached something new.
    pub fn is_new(&self, coverage: &Coverage) -> bool {
        pairs(coverage).any(|pair| !self.met.contains(&pair))
    }

    /// One of the runs that were kept, as this number decides.
    pub fn pick(&self, number: u64) -> Option<&Kept> {
        if self.reaching.is_empty() {
            return None;
        }
        let mut dice = Decisions::from_seed(number);
        let [mark, run] = ["grow.mark", "grow.run"].map(|label| dice.site(label));
        let marks: Vec<&Vec<usize>> = self.reaching.values().collect();
        let runs = *dice.pick(mark, &marks);
        Some(&self.kept[*dice.pick(run, runs)])
    }

    /// Takes down what a run has reached, and keeps it if that is new. `keep` is there for every run of which
    /// [`Growth::is_new`] was true, unless it failed: behind a failure there is nothing to look for.
    pub fn see(&mut self, coverage: &Coverage, is_grown: bool, keep: Option<Kept>) {
        let sum = if is_grown { &mut self.grown } else { &mut self.fresh };
        sum.0 += 1;
        sum.1.merge(coverage);
        let new = pairs(coverage).filter(|pair| self.met.insert(*pair)).count() as u64;
        self.met_by_growth += if is_grown { new } else { 0 };
        if let (Some(kept), true) = (keep, new > 0) {
            for (mark, _) in pairs(coverage) {
                self.reaching.entry(mark).or_default().push(self.kept.len());
            }
            self.kept.push(kept);
        }
    }

    /// What fresh seeds have reached and what growth, in a few lines.
    pub fn lines(&self) -> String {
        let ((fresh, by_seeds), (grown, by_growth)) = (&self.fresh, &self.grown);
        let reached = |coverage: &Coverage| coverage.marks.len() - coverage.never_reached().len();
        let never: BTreeSet<&str> = by_seeds.never_reached().into_iter().collect();
        let alone: Vec<&str> = by_growth.marks.iter().filter(|(_, hits)| **hits > 0).map(|(name, _)| *name).collect();
        let alone: Vec<&str> = alone.into_iter().filter(|name| never.contains(name)).collect();
        let mut text = format!(
            "growth: {} fresh runs and {} grown from {} that were kept\n",
            count(*fresh),
            count(*grown),
            count(self.kept.len() as u64)
        );
        text.push_str(&format!(
            "  marks reached: {} by fresh seeds, {} by growth, {} by growth alone; {} of {} pairs of mark and magnitude first by growth\n",
            reached(by_seeds),
            reached(by_growth),
            alone.len(),
            count(self.met_by_growth),
            count(self.met.len() as u64)
        ));
        alone.iter().for_each(|name| text.push_str(&format!("  by growth alone: {name}\n")));
        text
    }
}
