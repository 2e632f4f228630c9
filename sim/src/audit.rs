//! The barrier audit: which syncs of a store are needed? Each call site is left out in turn, and somebody must notice.
//!
//! First some runs list the sites. Then for each site the scenarios that came to it are run, seed after seed, with that one sync
//! saying `Ok` and doing nothing, while the oracle goes on believing in it. What is found proves the sync needed, and the checks able to
//! see it missing. A site that nobody misses is either not needed, and then the store wastes time on it, or a hole in the
//! checks. The audit cannot tell which: [`Needless`] holds what people have said of such sites, and any other one is a finding.
//!
//! A site is a source line, so this needs no rebuild. Each site is searched by one thread, seeds in order: the outcome does
//! not depend on how many threads there are.

pub mod needless;

use self::needless::Needless;
use crate::campaign::real_now;
use crate::cpu;
use crate::runner::{RunOptions, run_seed};
use crate::scenario::Scenario;
use crate::store::StoreKind;
use crate::syncs::{SyncCounts, SyncSite, Syncs};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Seeds of each scenario that are run to see which sites there are.
const LISTING_SEEDS: u64 = 4;

/// What is run with each sync left out.
pub struct Subject {
    /// The scenarios, which take turns, each with its store.
    pub scenarios: Vec<(Scenario, Arc<dyn StoreKind>)>,
}

/// Who asks for a sync, as far as the listing runs tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// How often.
    pub times: u64,
    /// Which of the scenarios.
    pub by: BTreeSet<usize>,
}

/// Sync sites, and who asks for each.
pub type Sites = BTreeMap<SyncSite, Asked>;

/// How the omission of a sync was noticed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Noticed {
    /// The scenario.
    pub scenario: String,
    /// Its seed.
    pub seed: u64,
    /// The check, and the circumstances.
    pub fingerprint: String,
    /// What happened, in one sentence.
    pub symptom: String,
}

/// What became of one site.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// The site.
    pub site: SyncSite,
    /// How often the listing runs asked for this sync.
    pub asked: u64,
    /// Runs with the sync left out, all scenarios that ask for it together.
    pub runs: u64,
    /// Processor time that these took.
    pub spent: Duration,
    /// How it was noticed, if it was.
    pub noticed: Option<Noticed>,
}

/// How a verdict stands to what is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It was missed, as a sync should be.
    Needed,
    /// Nobody missed it, and it is known why.
    NotNeeded(String),
    /// Nobody missed it, and nobody has said why.
    Unexplained,
    /// It was missed, although it is said that nobody needs it.
    NeededAfterAll,
}

impl Verdict {
    /// How it stands to what is known.
    pub fn standing(&self, needless: &Needless) -> Standing {
        match (&self.noticed, needless.why(&self.site)) {
            (Some(_), None) => Standing::Needed,
            (Some(_), Some(_)) => Standing::NeededAfterAll,
            (None, Some(why)) => Standing::NotNeeded(why.into()),
            (None, None) => Standing::Unexplained,
        }
    }
}

impl Subject {
    /// The sync sites that the store has, as far as some seeds of each scenario come to them.
    pub fn sites(&self) -> Sites {
        let mut sites = Sites::new();
        for (index, (scenario, kind)) in self.scenarios.iter().enumerate() {
            let counts = Arc::new(Mutex::new(SyncCounts::new()));
            let options = RunOptions { syncs: Syncs::Counted(counts.clone()), ..RunOptions::default() };
            for seed in 0..LISTING_SEEDS {
                run_seed(scenario, kind, seed, &options);
            }
            for (site, times) in std::mem::take(&mut *counts.lock()) {
                let asked = sites.entry(site).or_default();
                asked.times += times;
                asked.by.insert(index);
            }
        }
        sites
    }

    /// Leaves out one sync in the scenarios that ask for it, until that is noticed or the real time is over.
    pub fn without(&self, site: &SyncSite, asked: &Asked, budget: Duration) -> Verdict {
        let (started, deadline) = (cpu::thread_time(), real_now() + budget);
        let options = RunOptions { syncs: Syncs::Without(site.clone()), ..RunOptions::default() };
        let mut verdict =
            Verdict { site: site.clone(), asked: asked.times, runs: 0, spent: Duration::ZERO, noticed: None };
        let turns = (0..).flat_map(|seed| asked.by.iter().map(move |&index| (seed, &self.scenarios[index])));
        for (seed, (scenario, kind)) in turns {
            if real_now() >= deadline {
                break;
            }
            let report = run_seed(scenario, kind, seed, &options);
            verdict.runs += 1;
            if let Some(failure) = report.failure {
                verdict.noticed = Some(Noticed {
                    scenario: scenario.name.clone(),
                    seed,
                    fingerprint: failure.finding.fingerprint(),
                    symptom: failure.finding.symptom,
                });
                break;
            }
        }
        verdict.spent = cpu::thread_time() - started;
        verdict
    }

    /// Leaves out each of the sites in turn, on so many threads, and tells of each when it is done.
    pub fn audit(
        &self,
        sites: &Sites,
        budget: Duration,
        jobs: usize,
        hear: &(dyn Fn(&Verdict) + Sync),
    ) -> Vec<Verdict> {
        let sites: Vec<(&SyncSite, &Asked)> = sites.iter().collect();
        let (next, verdicts) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        std::thread::scope(|scope| {
            for _ in 0..jobs.max(1) {
                scope.spawn(|| {
                    while let Some(&(site, asked)) = sites.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let verdict = self.without(site, asked, budget);
                        hear(&verdict);
                        verdicts.lock().push(verdict);
                    }
                });
            }
        });
        let mut verdicts = verdicts.into_inner();
        verdicts.sort_by(|a, b| a.site.cmp(&b.site));
        verdicts
    }
}

#[cfg(test)]
mod tests;
