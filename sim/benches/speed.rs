//! How fast simulated operations are verified on one core, and how that grows with the store: `cargo bench -p shaketable
//! --bench speed`.
//!
//! The scenarios of `table.rs` are made to hurt: tiny memtables, a check of the whole store after a handful of operations,
//! several openings in a hundred. They tell how fast bugs are hunted, and little about what one operation costs. This is
//! the other figure: one workload, written below, on stores of 1,000, 10,000 and 100,000 operations, first without any
//! fault, then with power cuts; and then on a store of a hundred keys that is
//! crashed after every few system calls.
//!
//! * *verified*: operations of clients (a batch counts as one) whose every answer the oracle judged, and whose
//!   effect it compared in the recoveries and at the end, in a second of processor time.
//! * *cycles*: a crash, the opening of what it left, and the comparison of everything found there with the model.
//!
//! Processor time of the thread is what counts, so that another program on the same machine disturbs less. Each figure is
//! the median of the rounds.

use shaketable::cpu::thread_time;
use shaketable::oracle::Restart;
use shaketable::runner::{RunOptions, run_seed};
use shaketable::scenario::Scenario;
use shaketable::store::StoreKind;
use shaketable::strata::StrataKind;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

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

/// Limits at which a store of a thousand operations flushes a few times, and one of a hundred thousand fills three levels.
const OPTIONS: &str = "
[options]
memtable_bytes = 65536
wal_bytes_max = 262144
table_bytes = 65536
level_base_bytes = 262144
level_multiplier = 8
block_bytes = 4096
restart_interval = 16
cache_bytes = 1048576
durability = ['always', 'buffered']
";

/// A row of the table.
struct Row {
    name: String,
    scenario: Scenario,
}

impl Row {
    fn new(name: &str, ops: u64, rest: &str) -> Row {
        Row::with_keys(name, ops, ops / 4, rest)
    }

    fn with_keys(name: &str, ops: u64, keys: u64, rest: &str) -> Row {
        let text = format!("about = 'A benchmark.'\nops = {ops}\nkeys = {keys}\n{rest}\n{WORKLOAD}\n{OPTIONS}");
        let scenario = Scenario::parse("speed", &text).expect("a scenario of this file is right");
        Row { name: name.to_string(), scenario }
    }
}

fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for ops in [1_000, 10_000, 100_000] {
        rows.push(Row::new(&format!("{ops} operations, no fault"), ops, ""));
    }
    for ops in [1_000, 10_000, 100_000] {
        // Two or three cuts for each run, however long it is.
        let every = ops * 2;
        let faults = format!("faults = [{{ kind = 'power-loss', every_ops = [{}, {every}] }}]", every / 8);
        rows.push(Row::new(&format!("{ops} operations, power cuts"), ops, &faults));
    }
    let often = "faults = [{ kind = 'power-loss', every_ops = [20, 100] }]\nchecks = ['oracle']";
    rows.push(Row::with_keys("100 keys, a power cut at every few calls", 1_000, 100, often));
    rows
}

#[derive(Default)]
struct Round {
    seeds: u64,
    ops: u64,
    judged: u64,
    cycles: u64,
    failed: Vec<u64>,
    seconds: f64,
}

fn run(row: &Row, kind: &Arc<dyn StoreKind>, time: Duration) -> Round {
    let (mut round, start) = (Round::default(), thread_time());
    loop {
        let report = run_seed(&row.scenario, kind, round.seeds, &RunOptions::default());
        if report.failure.is_some() {
            round.failed.push(round.seeds);
        }
        round.seeds += 1;
        round.ops += report.ops;
        round.judged += report.checks;
        round.cycles += report.recoveries.iter().filter(|recovery| recovery.restart != Restart::Close).count() as u64;
        let spent = thread_time().saturating_sub(start);
        if spent >= time {
            round.seconds = spent.as_secs_f64();
            return round;
        }
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

fn main() -> ExitCode {
    let (mut seconds, mut rounds, mut only) = (1.0, 5, String::new());
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
                eprintln!("{argument} is not known; options: --seconds N  --rounds N  PART-OF-A-ROW");
                return ExitCode::from(2);
            }
        }
    }
    let kind: Arc<dyn StoreKind> = Arc::new(StrataKind);
    let checked = if cfg!(debug_assertions) { "on" } else { "off" };
    println!("rounds     median of {rounds}, {seconds} s of processor time each, assertions {checked}\n");
    println!("{:<44} {:>9} {:>10} {:>12} {:>9}", "per second on one core", "seeds", "verified", "judged", "cycles");
    let mut failed = false;
    for row in rows().iter().filter(|row| row.name.contains(&only)) {
        let rounds: Vec<Round> = (0..rounds).map(|_| run(row, &kind, Duration::from_secs_f64(seconds))).collect();
        let per_second = |what: fn(&Round) -> u64| median(rounds.iter().map(|r| what(r) as f64 / r.seconds));
        println!(
            "{:<44} {:>9.1} {:>10.0} {:>12.0} {:>9.0}",
            row.name,
            per_second(|round| round.seeds),
            per_second(|round| round.ops),
            per_second(|round| round.judged),
            per_second(|round| round.cycles),
        );
        for seed in rounds.iter().flat_map(|round| &round.failed) {
            failed = true;
            println!("  seed {seed} failed, which makes the numbers doubtful");
        }
    }
    ExitCode::from(u8::from(failed))
}
