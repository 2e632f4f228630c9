//! What the benchmarks of this folder share: how they are asked, what they count, and the workload of those that measure
//! how cost grows with the store.
//!
//! Processor time of the thread is what counts, so that another program on the same machine disturbs less. Each figure is
//! the median of the rounds. Without the `--bench` that `cargo bench` adds, which is how `cargo test` runs them, they
//! measure nothing and only see that they still work.

#![allow(dead_code, reason = "each benchmark uses a part of this")]

use shaketable::cpu::thread_time;
use shaketable::oracle::Restart;
use shaketable::runner::{RunOptions, run_seed};
use shaketable::scenario::Scenario;
use shaketable::store::StoreKind;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// As in the `shake` command.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Limits at which a store of a thousand operations flushes a few times, and one of a hundred thousand fills three levels.
pub(crate) const LARGER: &str = "
[options]
memtable_bytes = 65536
wal_bytes_max = 262144
table_bytes = 65536
level_base_bytes = 262144
level_multiplier = 8
block_bytes = 4096
restart_interval = 16
cache_bytes = 1048576
";

/// A scenario that stands in a benchmark, not in a file.
pub(crate) fn scenario(text: &str) -> Scenario {
    Scenario::parse("benchmark", &format!("about = 'A benchmark.'\n{text}"))
        .expect("a scenario of a benchmark is right")
}

/// What the command line asks for.
pub(crate) struct Asked {
    /// Whether to measure; otherwise one short round has to do.
    pub(crate) measures: bool,
    /// Part of the names of the rows to run.
    pub(crate) only: String,
    numbers: Vec<(&'static str, f64)>,
}

impl Asked {
    /// Reads the arguments; `numbers` are those that this benchmark knows beside the name of a row, each with its default.
    pub(crate) fn parse(numbers: &[(&'static str, f64)]) -> Result<Asked, ExitCode> {
        let mut asked = Asked { measures: false, only: String::new(), numbers: numbers.to_vec() };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            if argument == "--bench" {
                asked.measures = true;
            } else if let Some((_, value)) = asked.numbers.iter_mut().find(|(name, _)| *name == argument) {
                match arguments.next().and_then(|text| text.parse::<f64>().ok()).filter(|number| *number > 0.0) {
                    Some(number) => *value = number,
                    None => {
                        eprintln!("{argument} wants a number above 0");
                        return Err(ExitCode::from(2));
                    }
                }
            } else if argument.starts_with("--") {
                let known: Vec<&str> = numbers.iter().map(|(name, _)| *name).collect();
                eprintln!("{argument} is not known; options: {} N, and part of the name of a row", known.join(" N, "));
                return Err(ExitCode::from(2));
            } else {
                asked.only = argument;
            }
        }
        Ok(asked)
    }

    pub(crate) fn number(&self, name: &str) -> f64 {
        self.numbers.iter().find(|(known, _)| *known == name).expect("the benchmark has said what it knows").1
    }

    /// Rounds of each row, and for how long each goes: what is said by `--rounds` and `--seconds`.
    pub(crate) fn rounds(&self) -> (usize, Duration) {
        if self.measures {
            (self.number("--rounds").ceil() as usize, Duration::from_secs_f64(self.number("--seconds")))
        } else {
            (1, Duration::from_millis(1))
        }
    }
}

/// What the runs of one round came to.
#[derive(Default)]
pub(crate) struct Round {
    pub(crate) seeds: u64,
    pub(crate) ops: u64,
    pub(crate) judged: u64,
    pub(crate) cycles: u64,
    pub(crate) calls: u64,
    pub(crate) simulated: Duration,
    pub(crate) failed: Vec<u64>,
    pub(crate) spent: Duration,
}

impl Round {
    /// Runs the seeds of a scenario from 0 on, until so much processor time is spent; at least one.
    pub(crate) fn run(scenario: &Scenario, kind: &Arc<dyn StoreKind>, time: Duration) -> Round {
        let (mut round, start) = (Round::default(), thread_time());
        while round.seeds == 0 || round.spent < time {
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
            round.spent = thread_time().saturating_sub(start);
        }
        round
    }
}

/// The median over the rounds of something in a second of processor time.
pub(crate) fn per_second(rounds: &[Round], what: fn(&Round) -> f64) -> f64 {
    let mut sorted: Vec<f64> = rounds.iter().map(|round| what(round) / round.spent.as_secs_f64()).collect();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// Runs something, and says what it took of the processor.
pub(crate) fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = thread_time();
    let result = work();
    (result, thread_time().saturating_sub(start))
}

/// The machine, in a line.
#[expect(clippy::disallowed_methods, reason = "what the machine is called is read from the machine")]
pub(crate) fn machine() -> String {
    let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(std::env::consts::ARCH);
    let cores = std::thread::available_parallelism().map_or(0, |count| count.get());
    let checked = if cfg!(debug_assertions) { "on" } else { "off" };
    format!("{}, {cores} cores of which 1 is used, assertions {checked}", model.trim_start_matches([' ', '\t', ':']))
}
