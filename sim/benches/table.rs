//! How much the shake table does in a second on one core: `cargo bench -p shaketable`.
//!
//! Each scenario runs seeds from 0 on, one after the other on one thread, for so long in each round; every number is the
//! median of the rounds. A campaign runs as many of these side by side as there are cores, and they share nothing.
//!
//! ```text
//! cargo bench -p shaketable -- --seconds 2 --rounds 3 power-cut
//! ```
//!
//! `judged` counts answers that the oracle compared with its model. A cycle is a crash, the opening of what it left, and the
//! comparison of all that is found there. `simulated` is how much faster than real time the clock of the simulation goes.
//!
//! This measures the optimised build. A campaign (`cargo shake`) has every assertion on, which costs about as much as
//! `cargo bench -p shaketable --profile shake` shows.

#![expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]

use shaketable::oracle::Restart;
use shaketable::runner::{RunOptions, run_seed};
use shaketable::scenario::{self, Scenario};
use shaketable::store::StoreKind;
use shaketable::strata::StrataKind;
use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What one round came to.
#[derive(Default)]
struct Round {
    seeds: u64,
    ops: u64,
    judged: u64,
    cycles: u64,
    calls: u64,
    simulated: Duration,
    failed: Vec<u64>,
    elapsed: Duration,
}

impl Round {
    fn run(scenario: &Scenario, kind: &Arc<dyn StoreKind>, time: Duration) -> Round {
        let (mut round, start) = (Round::default(), Instant::now());
        while start.elapsed() < time {
            let report = run_seed(scenario, kind, round.seeds, &RunOptions::default());
            if report.failure.is_some() {
                round.failed.push(round.seeds);
            }
            round.seeds += 1;
            round.ops += report.ops;
            round.judged += report.checks;
            round.cycles +=
                report.recoveries.iter().filter(|recovery| recovery.restart != Restart::Close).count() as u64;
            round.calls += report.calls;
            round.simulated += report.virtual_time;
        }
        round.elapsed = start.elapsed();
        round
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

fn main() -> ExitCode {
    let (mut seconds, mut rounds, mut only) = (1.0, 3, String::new());
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut number = || arguments.next().and_then(|value| value.parse::<f64>().ok()).filter(|value| *value > 0.0);
        match (argument.as_str(), argument.starts_with("--")) {
            // Cargo adds this one.
            ("--bench", _) => {}
            ("--seconds", _) => seconds = number().unwrap_or(seconds),
            ("--rounds", _) => rounds = number().unwrap_or(1.0).ceil() as usize,
            (_, false) => only = argument,
            _ => {
                eprintln!("{argument} is not known; options: --seconds N  --rounds N  PART-OF-A-SCENARIO");
                return ExitCode::from(2);
            }
        }
    }
    let scenarios = match scenario::load_all(&scenario::home()) {
        Ok(scenarios) => scenarios,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    let kind: Arc<dyn StoreKind> = Arc::new(StrataKind);
    let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(std::env::consts::ARCH);
    let cores = std::thread::available_parallelism().map_or(0, |count| count.get());
    println!("machine    {}, {cores} cores of which 1 is used", model.trim_start_matches([' ', '\t', ':']));
    println!(
        "rounds     median of {rounds}, {seconds} s each, assertions {}\n",
        if cfg!(debug_assertions) { "on" } else { "off" }
    );
    println!(
        "{:<48} {:>9} {:>9} {:>9} {:>9} {:>10} {:>10}",
        "per second on one core", "seeds", "ops", "judged", "cycles", "fs calls", "simulated"
    );
    let mut failed = BTreeSet::new();
    for scenario in scenarios.iter().filter(|scenario| scenario.name.contains(&only) && scenario.store == "strata") {
        let rounds: Vec<Round> =
            (0..rounds).map(|_| Round::run(scenario, &kind, Duration::from_secs_f64(seconds))).collect();
        let per_second = |what: fn(&Round) -> f64| median(rounds.iter().map(|r| what(r) / r.elapsed.as_secs_f64()));
        println!(
            "{:<48} {:>9.0} {:>9.0} {:>9.0} {:>9.0} {:>10.0} {:>9.0}x",
            scenario.name,
            per_second(|round| round.seeds as f64),
            per_second(|round| round.ops as f64),
            per_second(|round| round.judged as f64),
            per_second(|round| round.cycles as f64),
            per_second(|round| round.calls as f64),
            per_second(|round| round.simulated.as_secs_f64()),
        );
        let seeds = rounds.iter().flat_map(|round| &round.failed);
        failed.extend(seeds.map(|seed| format!("{}#{seed}", scenario.name)));
    }
    if failed.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("\nthese failed, which makes the numbers doubtful; look with: cargo shake replay NAME#SEED");
    failed.iter().for_each(|name| println!("  {name}"));
    ExitCode::from(1)
}
