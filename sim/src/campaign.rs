//! Campaigns: many seeds of many scenarios, on all cores, each in a world of its own.
//!
//! Numbers are handed out by a counter, and a number is a scenario and a seed, so that the scenarios take turns and the
//! results do not depend on how many threads there are. A thread shares nothing with the others. Of several machines each
//! takes a shard of the seeds.

use crate::coverage::Coverage;
use crate::fault::FaultKind;
use crate::runner::{RunOptions, RunReport, run_seed};
use crate::scenario::Scenario;
use crate::seeds::Shard;
use crate::store::StoreKind;
use crate::trace::{Keep, fold};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// What a campaign goes through.
#[derive(Clone, Debug)]
pub struct Campaign {
    /// The scenarios.
    pub scenarios: Vec<Scenario>,
    /// The seeds of each.
    pub seeds: Range<u64>,
    /// Which of these seeds are run here.
    pub shard: Shard,
    /// Real time after which no new seed is begun.
    pub time: Option<Duration>,
    /// OS threads.
    pub jobs: usize,
    /// Whether each seed is run twice, to see whether both runs are the same.
    pub check_determinism: bool,
    /// Whether no new seed is begun once one has failed.
    pub fail_fast: bool,
}

/// One seed of one scenario, done.
#[derive(Debug)]
pub struct Done {
    /// Index of the scenario.
    pub scenario: usize,
    /// The seed.
    pub seed: u64,
    /// What came of it.
    pub report: RunReport,
    /// The first event that differed when it was run again.
    pub divergence: Option<String>,
    /// Real time that the run took.
    pub took: Duration,
}

impl Done {
    /// Whether anything about it is wrong.
    pub fn failed(&self) -> bool {
        self.report.failure.is_some() || self.divergence.is_some()
    }
}

/// Sums over the seeds of one scenario.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    /// Seeds.
    pub seeds: u64,
    /// Operations.
    pub ops: u64,
    /// Answers judged.
    pub checks: u64,
    /// Crashes.
    pub crashes: u64,
    /// Recoveries.
    pub recoveries: u64,
    /// Faults by kind.
    pub faults: BTreeMap<FaultKind, u64>,
    /// Runs that ended early because the store reported real damage.
    pub damage_reported: u64,
    /// Searches that the oracle gave up.
    pub spills: u64,
    /// Seeds that failed.
    pub failures: u64,
    /// System calls.
    pub calls: u64,
    /// Events of the traces.
    pub events: u64,
    /// Virtual time.
    pub virtual_time: Duration,
    /// Real time that the runs took, of all threads together.
    pub busy: Duration,
    /// The hashes of all traces as one number, whatever the order in which the seeds ended: what two builds of the same
    /// commit, or two numbers of jobs, must agree in.
    pub hash: u64,
    /// What was reached.
    pub coverage: Coverage,
}

impl Totals {
    /// Adds a run.
    pub fn add(&mut self, done: &Done) {
        let report = &done.report;
        self.seeds += 1;
        self.ops += report.ops;
        self.checks += report.checks;
        self.crashes += report.crashes;
        self.recoveries += report.recoveries.len() as u64;
        for count in &report.faults {
            *self.faults.entry(count.kind).or_default() += count.hits;
        }
        self.damage_reported += u64::from(report.damage_reported);
        self.spills += report.spills;
        self.failures += u64::from(done.failed());
        self.calls += report.calls;
        self.events += report.trace.events;
        self.virtual_time += report.virtual_time;
        self.busy += done.took;
        let [low, high] = [report.trace.hash as u64, (report.trace.hash >> 64) as u64];
        self.hash = self.hash.wrapping_add(fold(low ^ done.seed, high ^ SCATTER));
        self.coverage.merge(&report.coverage);
    }

    /// Adds the sums of another scenario.
    pub fn merge(&mut self, other: &Totals) {
        self.seeds += other.seeds;
        self.ops += other.ops;
        self.checks += other.checks;
        self.crashes += other.crashes;
        self.recoveries += other.recoveries;
        for (kind, hits) in &other.faults {
            *self.faults.entry(*kind).or_default() += hits;
        }
        self.damage_reported += other.damage_reported;
        self.spills += other.spills;
        self.failures += other.failures;
        self.calls += other.calls;
        self.events += other.events;
        self.virtual_time += other.virtual_time;
        self.busy += other.busy;
        self.hash = self.hash.wrapping_add(other.hash);
        self.coverage.merge(&other.coverage);
    }
}

/// Keeps the factor of a hash from being 0 or small.
const SCATTER: u64 = 0x9e37_79b9_7f4a_7c15;

/// Real time, which a campaign is bounded by.
#[expect(clippy::disallowed_methods, reason = "a campaign lasts for a real time")]
pub fn real_now() -> Instant {
    Instant::now()
}

/// Runs a campaign and tells of each seed when it is done, in any order.
pub fn run(campaign: &Campaign, kinds: &[Arc<dyn StoreKind>], hear: impl FnMut(Done)) {
    assert_eq!(kinds.len(), campaign.scenarios.len(), "each scenario has its kind of store");
    let count = campaign.scenarios.len() as u64;
    if count == 0 {
        return;
    }
    let deadline = campaign.time.map(|time| real_now() + time);
    let next = AtomicU64::new(0);
    let stopped = AtomicBool::new(false);
    let (sender, receiver) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..campaign.jobs.max(1) {
            let sender = sender.clone();
            let (next, stopped) = (&next, &stopped);
            scope.spawn(move || {
                while !stopped.load(Ordering::Relaxed) && deadline.is_none_or(|deadline| real_now() < deadline) {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let scenario = (number % count) as usize;
                    let Some(seed) = campaign.shard.seed(&campaign.seeds, number / count) else { return };
                    let done = run_one(campaign, &kinds[scenario], scenario, seed);
                    // Whoever hears of it takes seconds to shrink it: the others must not go on meanwhile.
                    if campaign.fail_fast && done.failed() {
                        stopped.store(true, Ordering::Relaxed);
                    }
                    if sender.send(done).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        receiver.into_iter().for_each(hear);
    });
}

fn run_one(campaign: &Campaign, kind: &Arc<dyn StoreKind>, index: usize, seed: u64) -> Done {
    let scenario = &campaign.scenarios[index];
    // A panic in a task is a finding; one outside of all tasks is a bug of the harness, and stops it.
    let run = || run_seed(scenario, kind, seed, &RunOptions::default());
    let started = real_now();
    let report = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        eprintln!("the harness itself panicked in {}#{seed}", scenario.name);
        std::panic::resume_unwind(panic)
    });
    let took = started.elapsed();
    let divergence = if campaign.check_determinism { divergence(scenario, kind, seed, &report) } else { None };
    Done { scenario: index, seed, report, divergence, took }
}

/// Runs a seed again; where the two runs differ, says at which event.
pub fn divergence(scenario: &Scenario, kind: &Arc<dyn StoreKind>, seed: u64, first: &RunReport) -> Option<String> {
    let again = run_seed(scenario, kind, seed, &RunOptions::default());
    let events = first.trace.first_divergence(&again.trace)?;
    let keep = RunOptions { keep: Keep::Events(events.clone()), ..RunOptions::default() };
    let lines = [(); 2].map(|()| run_seed(scenario, kind, seed, &keep).trace);
    match lines[0].first_different_line(&lines[1]) {
        Some((one, other)) => Some(format!("one run says  {one}\nanother says  {other}")),
        None => Some(format!("the runs differ between events {} and {}", events.start, events.end)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runner::toy::{Flaw, ToyKind};
    use crate::strata::StrataKind;

    fn totals(jobs: usize, seeds: Range<u64>) -> Totals {
        let text = "about = 'A'\nops = 40\nfaults = [{ kind = 'power-loss', every_ops = [50, 400] }]";
        let scenarios = vec![Scenario::parse("test", text).expect("a scenario")];
        let campaign = Campaign {
            scenarios,
            seeds,
            shard: Shard::WHOLE,
            time: None,
            jobs,
            check_determinism: false,
            fail_fast: false,
        };
        let mut totals = Totals::default();
        run(&campaign, &[Arc::new(StrataKind)], |done| {
            totals.add(&done);
        });
        totals
    }

    #[test]
    fn the_hash_of_a_campaign_depends_on_its_seeds_and_not_on_its_jobs() {
        let one = totals(1, 0..12);
        assert_eq!(one.seeds, 12);
        assert_eq!(one.hash, totals(3, 0..12).hash);
        assert_ne!(one.hash, totals(1, 1..13).hash);
        let (mut first, second) = (totals(1, 0..5), totals(2, 5..12));
        first.merge(&second);
        assert_eq!((first.hash, first.ops), (one.hash, one.ops));
    }

    /// Each seed that was run, with the hash of what it did.
    fn runs(shard: Shard, jobs: usize) -> Vec<(usize, u64, u64)> {
        let scenario = |name| Scenario::parse(name, "about = 'Tests.'\nops = 20").expect("a scenario");
        let scenarios = vec![scenario("one"), scenario("two"), scenario("three")];
        let kind: Arc<dyn StoreKind> = Arc::new(ToyKind(Flaw::None));
        let kinds = [kind.clone(), kind.clone(), kind];
        let campaign = Campaign {
            scenarios,
            seeds: 100..108,
            shard,
            time: None,
            jobs,
            check_determinism: false,
            fail_fast: false,
        };
        let mut runs = Vec::new();
        run(&campaign, &kinds, |done| {
            runs.push((done.scenario, done.seed, done.report.trace.hash as u64));
        });
        runs.sort_unstable();
        runs
    }

    #[test]
    fn all_shards_together_run_what_one_campaign_would() {
        let whole = runs(Shard::WHOLE, 1);
        assert_eq!(whole.len(), 3 * 8);
        for count in [1, 3, 6, 11] {
            let first = Shard::parse(&format!("1/{count}")).expect("a shard");
            let mut together: Vec<_> = first.siblings().flat_map(|shard| runs(shard, 2)).collect();
            together.sort_unstable();
            assert_eq!(together, whole, "{count} shards");
        }
    }
}
