//! A trial is one run that an exploration makes; many of them are spread over the cores.

use crate::campaign::real_now;
use crate::rng::{Decisions, Rest};
use crate::runner::{RunOptions, RunReport, run_plan};
use crate::store::StoreKind;
use crate::workload::Plan;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// A plan, with some decisions given and all others the simplest.
#[derive(Clone, Debug)]
pub struct Trial {
    /// The plan.
    pub plan: Arc<Plan>,
    /// What is decided, by label and ordinal.
    pub script: BTreeMap<(String, u64), u64>,
}

/// A trial that failed.
#[derive(Clone, Debug)]
pub struct Found {
    /// What was special about it, in words.
    pub what: String,
    /// The trial.
    pub trial: Trial,
    /// Its report, with the decisions recorded.
    pub report: RunReport,
}

impl Trial {
    /// Runs it.
    pub fn run(&self, kind: &Arc<dyn StoreKind>) -> RunReport {
        self.run_with(kind, &RunOptions::default())
    }

    fn run_with(&self, kind: &Arc<dyn StoreKind>, options: &RunOptions) -> RunReport {
        let decisions = Decisions::scripted(self.script.clone(), Rest::Zero);
        run_plan(self.plan.clone(), kind, decisions, options)
    }

    /// Runs it again, after it failed, with everything recorded.
    pub fn found(self, kind: &Arc<dyn StoreKind>, what: String) -> Found {
        let report = self.run_with(kind, &RunOptions { record: true, ..RunOptions::default() });
        assert!(report.failure.is_some(), "the same trial fails each time: {what}");
        Found { what, trial: self, report }
    }
}

/// Does all the works on so many OS threads, in order as far as threads have an order, and returns what came of each.
/// `None` for those that were not begun before the deadline.
pub fn spread<W: Sync, R: Send>(
    works: &[W],
    jobs: usize,
    deadline: Option<Instant>,
    work: impl Fn(&W) -> R + Sync,
) -> Vec<Option<R>> {
    let results: Vec<Mutex<Option<R>>> = works.iter().map(|_| Mutex::new(None)).collect();
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                while deadline.is_none_or(|deadline| real_now() < deadline) {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(one) = works.get(index) else { return };
                    let result = work(one);
                    *results[index].lock() = Some(result);
                }
            });
        }
    });
    results.into_iter().map(Mutex::into_inner).collect()
}
