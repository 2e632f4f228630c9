//! How fast simulated operations are verified on one core, and how that grows with the store: `cargo bench -p shaketable
//! --bench speed`.
//!
//! The scenarios of `table.rs` are made to hurt: tiny memtables, a check of the whole store after a handful of operations,
//! several openings in a hundred. They tell how fast bugs are hunted, and little about what one operation costs. This is
//! the other figure: one workload, written below, on stores of 1,000, 10,000 and 100,000 operations, first without any
//! fault, then with power cuts; and then on a store of a hundred keys that is crashed after every few system calls.
//!
//! * *verified*: operations of clients (a batch counts as one) whose every answer the oracle judged, and whose
//!   effect it compared in the recoveries and at the end, in a second of processor time.
//! * *cycles*: a crash, the opening of what it left, and the comparison of everything found there with the model.

mod measure;

use measure::{Asked, LARGER, Round, machine, per_second};
use shaketable::scenario::Scenario;
use shaketable::store::StoreKind;
use shaketable::strata::StrataKind;
use std::process::ExitCode;
use std::sync::Arc;

/// What clients do: reads and writes in equal parts. No scans: they cost by their length, and would be counted as one.
const WORKLOAD: &str = "
workload = [
    { op = 'put', weight = 40 },
    { op = 'get', weight = 50 },
    { op = 'delete', weight = 5 },
    { op = 'batch', weight = 5 },
]
swarm = 'none'
clients = [1, 4]
value_bytes = [16, 256]
";

/// A row of the table.
struct Row {
    name: String,
    scenario: Scenario,
}

impl Row {
    fn new(name: &str, ops: u64, keys: u64, rest: &str) -> Row {
        let text =
            format!("ops = {ops}\nkeys = {keys}\n{rest}\n{WORKLOAD}\n{LARGER}durability = ['always', 'buffered']");
        Row { name: name.to_string(), scenario: measure::scenario(&text) }
    }
}

fn rows(sizes: &[u64]) -> Vec<Row> {
    let mut rows = Vec::new();
    for ops in sizes {
        rows.push(Row::new(&format!("{ops} operations, no fault"), *ops, ops / 4, ""));
    }
    for ops in sizes {
        // Two or three cuts for each run, however long it is.
        let every = ops * 2;
        let faults = format!("faults = [{{ kind = 'power-loss', every_ops = [{}, {every}] }}]", every / 8);
        rows.push(Row::new(&format!("{ops} operations, power cuts"), *ops, ops / 4, &faults));
    }
    let often = "faults = [{ kind = 'power-loss', every_ops = [20, 100] }]\nchecks = ['oracle']";
    rows.push(Row::new("100 keys, a power cut at every few calls", 1_000, 100, often));
    rows
}

fn main() -> ExitCode {
    let asked = match Asked::parse(&[("--seconds", 1.0), ("--rounds", 5.0)]) {
        Ok(asked) => asked,
        Err(code) => return code,
    };
    let (count, time) = asked.rounds();
    let kind: Arc<dyn StoreKind> = Arc::new(StrataKind);
    println!("machine    {}", machine());
    println!("rounds     median of {count}, {time:?} of processor time each\n");
    println!("{:<44} {:>9} {:>10} {:>12} {:>9}", "per second on one core", "seeds", "verified", "judged", "cycles");
    let mut failed = false;
    let sizes: &[u64] = if asked.measures { &[1_000, 10_000, 100_000] } else { &[1_000] };
    for row in rows(sizes).iter().filter(|row| row.name.contains(&asked.only)) {
        let rounds: Vec<Round> = (0..count).map(|_| Round::run(&row.scenario, &kind, time)).collect();
        println!(
            "{:<44} {:>9.1} {:>10.0} {:>12.0} {:>9.0}",
            row.name,
            per_second(&rounds, |round| round.seeds as f64),
            per_second(&rounds, |round| round.ops as f64),
            per_second(&rounds, |round| round.judged as f64),
            per_second(&rounds, |round| round.cycles as f64),
        );
        for seed in rounds.iter().flat_map(|round| &round.failed) {
            failed = true;
            println!("  seed {seed} failed, which makes the numbers doubtful");
        }
    }
    ExitCode::from(u8::from(failed))
}
