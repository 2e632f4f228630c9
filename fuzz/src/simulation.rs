//! The target that runs a whole simulation: the input is the stream of its decisions, one after the other. They choose
//! the options of the store, the operations and their keys, the schedule of tasks, which calls fail and what a crash
//! keeps; when the bytes are used up, every further decision is the simplest. So a mutation of the input is a mutation
//! of the story, and coverage of the engine guides it to stories that no seed would find soon: of its code, and of its
//! coverage marks ([`crate::counters`]).
//!
//! A failure found here is looked at as a simulation: `cargo run -p shaketable-fuzz --bin workload FILE` prints it.

use crate::counters;
use crate::seeds::Seed;
use shaketable::report::{Dress, failure_block};
use shaketable::rng::Decisions;
use shaketable::runner::{RunOptions, RunReport, run_plan};
use shaketable::scenario::Scenario;
use shaketable::store::StoreKind;
use shaketable::strata::StrataKind;
use shaketable::workload::plan;
use std::sync::Arc;

/// A bit of everything, in short runs: what a fuzzer needs is many of them.
const SCENARIO: &str = r#"
about    = "A story that a fuzzer tells. No acknowledged write may be lost, no wrong answer given."
clients  = [1, 3]
ops      = [10, 120]
keys     = [2, 24]
value_bytes = [8, 600]
options  = { memtable_bytes = [1024, 4096], durability = ["always", "buffered"], filter_bits_per_key = [0, 10] }
faults   = [
    { kind = "power-loss", every_ops = [20, 300] },
    { kind = "process-crash", chance = 0.001 },
    { kind = "torn-write", chance = 0.3 },
    { kind = "io-error", on = ["read", "write", "create", "rename"], chance = 0.002 },
    { kind = "fsync-error", chance = 0.01 },
    { kind = "disk-full", chance = 0.001, returns_after_ops = [1, 60] },
    { kind = "short-write", chance = 0.02 },
    { kind = "short-read", chance = 0.02 },
]
"#;

fn run(data: &[u8]) -> RunReport {
    let scenario = Scenario::parse("fuzz", SCENARIO).expect("the scenario above is sound");
    let kind: Arc<dyn StoreKind> = Arc::new(StrataKind);
    let mut decisions = Decisions::from_bytes(data);
    let plan = plan(&scenario, kind.as_ref(), &mut decisions);
    run_plan(Arc::new(plan), &kind, decisions, &RunOptions::default())
}

/// A simulation; the input is its decisions.
pub fn workload(data: &[u8]) {
    let report = run(data);
    counters::tell(&report.coverage);
    if let Some(failure) = &report.failure {
        panic!("{}", failure_block("fuzz", failure, report.planned, Dress::Plain));
    }
}

/// Seed inputs for the target in this file: no story at all, and stories told by noise.
pub(crate) fn seeds() -> Vec<Seed> {
    let noise = |step: u32| (0u32..2000).map(|index| (index.wrapping_mul(step) >> 21) as u8).collect();
    let story = |name, bytes| Seed { target: "workload", name, bytes };
    vec![
        story("quiet", vec![0; 64]),
        story("one", noise(0x9e37_79b9)),
        story("two", noise(0x85eb_ca6b)),
        story("three", noise(0xc2b2_ae35)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_bytes_tell_the_same_story_and_others_another() {
        let seeds = seeds();
        let hash = |bytes: &[u8]| run(bytes).trace.hash;
        assert_eq!(hash(&seeds[1].bytes), hash(&seeds[1].bytes));
        assert_ne!(hash(&seeds[1].bytes), hash(&seeds[2].bytes));
        let story = run(&seeds[1].bytes);
        assert!(story.ops > 10, "the story has no operations");
        assert!(story.coverage.marks.values().any(|hits| *hits > 0), "the story reaches nothing");
    }
}
