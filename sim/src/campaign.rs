//! Campaigns: many seeds of many scenarios, on all cores, each in a world of its own.
//!
//! Numbers are handed out by a counter, and a number is a scenario and a seed, so that the scenarios take turns and the
//! results do not depend on how many threads there are. A thread shares nothing with the others. Of several machines each
//! takes a shard of the seeds.
//!
//! A campaign that grows ([`run_growing`]) gives every second number to a run that is grown from those that have reached
//! something new ([`growth`]). It goes in rounds of so many numbers, and what is kept in a round is grown from in the next
//! one, so that here, too, nothing depends on the threads.

use crate::coverage::Coverage;
use crate::fault::{Exposure, FaultKind, FileClass, Phase};
use crate::runner::{RunOptions, RunReport, run_seed};
use crate::scenario::Scenario;
use crate::seeds::Shard;
use crate::store::StoreKind;
use crate::trace::{Keep, fold};
use growth::{Growth, Kept};
use seedling::Seedling;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

pub mod growth;
pub mod seedling;

/// Runs of a round in which nothing new is kept.
const ROUND: u64 = 256;

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
    /// What was run in place of the seed, where that was grown.
    pub grown: Option<Arc<Seedling>>,
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
    /// The same by kind, class of file and phase.
    pub struck: BTreeMap<(FaultKind, FileClass, Phase), u64>,
    /// Calls at which faults might have struck, by class of file and phase.
    pub exposed: BTreeMap<(FileClass, Phase), u64>,
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
        for Exposure { class, phase, calls, hits } in &report.exposures {
            *self.exposed.entry((*class, *phase)).or_default() += calls;
            for (kind, hits) in hits {
                *self.struck.entry((*kind, *class, *phase)).or_default() += hits;
            }
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
        for (cell, calls) in &other.exposed {
            *self.exposed.entry(*cell).or_default() += calls;
        }
        for (cell, hits) in &other.struck {
            *self.struck.entry(*cell).or_default() += hits;
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
pub fn run(campaign: &Campaign, kinds: &[Arc<dyn StoreKind>], mut hear: impl FnMut(Done)) {
    assert_eq!(kinds.len(), campaign.scenarios.len(), "each scenario has its kind of store");
    let deadline = campaign.time.map(|time| real_now() + time);
    let work = |number| run_number(campaign, kinds, number);
    hand_out(campaign, 0..u64::MAX, deadline, work, Done::failed, |_, done| hear(done));
}

/// Runs a campaign of which every second run is grown, and tells of each when its round is done, in order.
pub fn run_growing(campaign: &Campaign, kinds: &[Arc<dyn StoreKind>], growth: &mut Growth, mut hear: impl FnMut(Done)) {
    assert_eq!(kinds.len(), campaign.scenarios.len(), "each scenario has its kind of store");
    let deadline = campaign.time.map(|time| real_now() + time);
    for round in 0.. {
        let so_far = &*growth;
        let mut results = BTreeMap::new();
        let work = |number| grow_number(campaign, kinds, so_far, number);
        let numbers = round * ROUND..(round + 1) * ROUND;
        let failed = |(done, _): &(Done, Option<Kept>)| done.failed();
        hand_out(campaign, numbers, deadline, work, failed, |number, done| {
            results.insert(number, done);
        });
        let over =
            (results.len() as u64) < ROUND || (campaign.fail_fast && results.values().any(|done| done.0.failed()));
        for (_, (done, kept)) in results {
            growth.see(&done.report.coverage, done.grown.is_some(), kept);
            hear(done);
        }
        if over {
            return;
        }
    }
}

/// Has the threads work off these numbers until there is no more work, and tells of each in any order. `failed` says what ends
/// a campaign that is to end at its first failure.
fn hand_out<T: Send>(
    campaign: &Campaign,
    numbers: Range<u64>,
    deadline: Option<Instant>,
    work: impl Fn(u64) -> Option<T> + Sync,
    failed: fn(&T) -> bool,
    mut hear: impl FnMut(u64, T),
) {
    let next = AtomicU64::new(numbers.start);
    let stopped = AtomicBool::new(false);
    let (sender, receiver) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..campaign.jobs.max(1) {
            let sender = sender.clone();
            let (next, stopped, work) = (&next, &stopped, &work);
            scope.spawn(move || {
                while !stopped.load(Ordering::Relaxed) && deadline.is_none_or(|deadline| real_now() < deadline) {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= numbers.end {
                        return;
                    }
                    let Some(done) = work(number) else { return };
                    // Whoever hears of it takes seconds to shrink it: the others must not go on meanwhile.
                    if campaign.fail_fast && failed(&done) {
                        stopped.store(true, Ordering::Relaxed);
                    }
                    if sender.send((number, done)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        receiver.into_iter().for_each(|(number, done)| hear(number, done));
    });
}

/// The scenario and the seed of a number; `None` behind the last one.
fn place(campaign: &Campaign, number: u64) -> Option<(usize, u64)> {
    let count = campaign.scenarios.len() as u64;
    let turn = number.checked_div(count)?;
    Some(((number % count) as usize, campaign.shard.seed(&campaign.seeds, turn)?))
}

fn run_number(campaign: &Campaign, kinds: &[Arc<dyn StoreKind>], number: u64) -> Option<Done> {
    let (index, seed) = place(campaign, number)?;
    let (scenario, kind) = (&campaign.scenarios[index], &kinds[index]);
    let (report, took) = timed(scenario, seed, || run_seed(scenario, kind, seed, &RunOptions::default()));
    let divergence = if campaign.check_determinism { divergence(scenario, kind, seed, &report) } else { None };
    Some(Done { scenario: index, seed, grown: None, report, divergence, took })
}

/// The run of a number, or one that is grown in its place; and what is to be kept of it, if it has reached something new.
fn grow_number(
    campaign: &Campaign,
    kinds: &[Arc<dyn StoreKind>],
    growth: &Growth,
    number: u64,
) -> Option<(Done, Option<Kept>)> {
    let (index, seed) = place(campaign, number)?;
    // Every second one of each scenario, and not all scenarios at the same turn.
    let turn = number / campaign.scenarios.len() as u64;
    let chance = fold(seed ^ SCATTER, number);
    let parent = ((index as u64 + turn) % 2 == 1).then(|| growth.pick(chance)).flatten();
    let grown = parent.map(|Kept { seedling, decided }| {
        let (scenario, kind) = (&campaign.scenarios[seedling.scenario], &kinds[seedling.scenario]);
        Arc::new(seedling.mutated(scenario, kind.as_ref(), decided, chance))
    });
    let index = grown.as_ref().map_or(index, |grown| grown.scenario);
    let (scenario, kind) = (&campaign.scenarios[index], &kinds[index]);
    let (report, took) = timed(scenario, seed, || match &grown {
        Some(grown) => grown.run(kind, &RunOptions::default()),
        None => run_seed(scenario, kind, seed, &RunOptions::default()),
    });
    let is_kept = report.failure.is_none() && growth.is_new(&report.coverage);
    let kept = is_kept.then(|| {
        let seedling = grown.clone().unwrap_or_else(|| Arc::new(Seedling::new(index, scenario, kind.as_ref(), seed)));
        let recorded = seedling.run(kind, &RunOptions { record: true, ..RunOptions::default() });
        Kept { seedling, decided: recorded.decisions }
    });
    Some((Done { scenario: index, seed, grown, report, divergence: None, took }, kept))
}

/// Runs it. A panic in a task is a finding; one outside of all tasks is a bug of the harness, and stops it.
fn timed(scenario: &Scenario, seed: u64, run: impl Fn() -> RunReport) -> (RunReport, Duration) {
    let started = real_now();
    let report = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        eprintln!("the harness itself panicked in {}#{seed}", scenario.name);
        std::panic::resume_unwind(panic)
    });
    (report, started.elapsed())
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
    use std::collections::BTreeSet;

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

    /// A campaign that grows: its hash, how much was grown and failed, and what it says of its growth.
    fn grown(jobs: usize, names: &[&str]) -> (u64, usize, String) {
        let text = "about = 'A'\nops = 60\nfaults = [{ kind = 'power-loss', every_ops = [50, 400] }]";
        let scenarios: Vec<_> = names.iter().map(|name| Scenario::parse(name, text).expect("a scenario")).collect();
        let kinds: Vec<Arc<dyn StoreKind>> = names.iter().map(|_| Arc::new(StrataKind) as _).collect();
        let campaign = Campaign {
            scenarios,
            seeds: 0..400 / names.len() as u64,
            shard: Shard::WHOLE,
            time: None,
            jobs,
            check_determinism: false,
            fail_fast: false,
        };
        let (mut totals, mut grown, mut growth) = (Totals::default(), Vec::new(), Growth::default());
        run_growing(&campaign, &kinds, &mut growth, |done| {
            assert!(done.report.failure.is_none(), "{:?}", done.report.failure);
            if done.grown.is_some() {
                grown.push(done.report.trace.hash);
            }
            totals.add(&done);
        });
        assert_eq!(totals.seeds, 400);
        let different: BTreeSet<u128> = grown.iter().copied().collect();
        assert!(different.len() * 10 > grown.len() * 9, "{} of {} grown runs", different.len(), grown.len());
        (totals.hash, grown.len(), growth.lines())
    }

    #[test]
    fn what_grows_does_not_depend_on_the_number_of_threads() {
        let one = grown(1, &["one", "two"]);
        assert_eq!(one, grown(3, &["one", "two"]));
        // Half of all but the first round, before which nothing is kept.
        assert_eq!(one.1, (400 - 256) / 2, "{}", one.2);
        assert_eq!(grown(2, &["alone"]).1, one.1);
    }

    #[test]
    fn a_seedling_that_is_not_changed_runs_like_its_seed_and_a_change_makes_another_run() {
        let text = "about = 'A'\nops = 60\nclients = 2\nfaults = [{ kind = 'power-loss', every_ops = [50, 400] }]";
        let scenario = Scenario::parse("test", text).expect("a scenario");
        let kind: Arc<dyn StoreKind> = Arc::new(StrataKind);
        let mut others = 0;
        for seed in 0..8 {
            let fresh = run_seed(&scenario, &kind, seed, &RunOptions::default());
            let seedling = Seedling::new(0, &scenario, kind.as_ref(), seed);
            let recorded = seedling.run(&kind, &RunOptions { record: true, ..RunOptions::default() });
            assert_eq!(recorded.trace.hash, fresh.trace.hash, "seed {seed}");
            for number in 0..8 {
                let other = seedling.mutated(&scenario, kind.as_ref(), &recorded.decisions, number);
                let again = seedling.mutated(&scenario, kind.as_ref(), &recorded.decisions, number);
                let [one, two] = [other, again].map(|other| other.run(&kind, &RunOptions::default()));
                assert!(one.failure.is_none(), "{:?}", one.failure);
                assert_eq!(one.trace.hash, two.trace.hash, "seed {seed}, change {number}");
                others += u64::from(one.trace.hash != fresh.trace.hash);
            }
        }
        assert!(others > 48, "{others} of 64 changes changed something");
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
