//! How much the shake table does in a second on one core: `cargo bench -p shaketable`.
//!
//! Each scenario runs seeds from 0 on, one after the other on one thread, for so much processor time in each round; every
//! number is the median of the rounds. A campaign runs as many of these side by side as there are cores, and they share nothing.
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

mod measure;

use measure::{Asked, Round, machine, per_second};
use shaketable::scenario;
use shaketable::store::StoreKind;
use shaketable::strata::StrataKind;
use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::Arc;

fn main() -> ExitCode {
    let asked = match Asked::parse(&[("--seconds", 1.0), ("--rounds", 3.0)]) {
        Ok(asked) => asked,
        Err(code) => return code,
    };
    let (count, time) = asked.rounds();
    let scenarios = match scenario::load_all(&scenario::home()) {
        Ok(scenarios) => scenarios,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    let kind: Arc<dyn StoreKind> = Arc::new(StrataKind);
    println!("machine    {}", machine());
    println!("rounds     median of {count}, {time:?} of processor time each\n");
    println!(
        "{:<48} {:>9} {:>9} {:>9} {:>9} {:>10} {:>10}",
        "per second on one core", "seeds", "ops", "judged", "cycles", "fs calls", "simulated"
    );
    let mut failed = BTreeSet::new();
    for scenario in
        scenarios.iter().filter(|scenario| scenario.name.contains(&asked.only) && scenario.store == "strata")
    {
        let rounds: Vec<Round> = (0..count).map(|_| Round::run(scenario, &kind, time)).collect();
        println!(
            "{:<48} {:>9.0} {:>9.0} {:>9.0} {:>9.0} {:>10.0} {:>9.0}x",
            scenario.name,
            per_second(&rounds, |round| round.seeds as f64),
            per_second(&rounds, |round| round.ops as f64),
            per_second(&rounds, |round| round.judged as f64),
            per_second(&rounds, |round| round.cycles as f64),
            per_second(&rounds, |round| round.calls as f64),
            per_second(&rounds, |round| round.simulated.as_secs_f64()),
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
