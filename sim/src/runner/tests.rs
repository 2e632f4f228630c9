//! The harness, harnessed: a small store without a flaw passes every kind of disaster, and each of its flaws is found.

use super::toy::{Flaw, ToyKind};
use super::*;
use crate::scenario::Scenario;

/// Disasters that the toy store must survive. It does not survive bits that flip at rest.
const DISASTERS: [&str; 7] = [
    "faults = [{ kind = 'power-loss', every_ops = [20, 200] }, { kind = 'torn-write', chance = 0.3 }]",
    "faults = [{ kind = 'process-crash', every_ops = [20, 200] }, { kind = 'power-loss', every_ops = [100, 300] }]",
    "faults = [{ kind = 'io-error', on = ['read', 'write', 'sync', 'rename', 'create', 'sync-dir'], chance = 0.02 }, { kind = 'power-loss', every_ops = [100, 600] }]",
    "faults = [{ kind = 'fsync-error', chance = 0.05, mode = ['clean-keep-new', 'clean-revert-old', 'keep-dirty'] }, { kind = 'power-loss', every_ops = [50, 200] }]",
    "faults = [{ kind = 'disk-full', chance = 0.02, returns_after_ops = [1, 40] }, { kind = 'short-write', chance = 0.2 }, { kind = 'short-read', chance = 0.2 }, { kind = 'process-crash', every_ops = [100, 300] }]",
    "profile = 'ext4-ordered'\nfaults = [{ kind = 'power-loss', every_ops = [20, 200] }, { kind = 'slow-io', chance = 0.05, max_ms = 50 }, { kind = 'clock-jump', chance = 0.01, ms = [-100000, 100000] }]",
    "profile = 'lying-fsync'\nfaults = [{ kind = 'power-loss', every_ops = [20, 200] }, { kind = 'fsync-loss', chance = 0.1 }]",
];

fn scenario(disaster: &str) -> Scenario {
    let text = format!(
        "about = 'Tests.'\nclients = [1, 4]\nkeys = [4, 40]\noptions = {{ durability = ['always', 'buffered'] }}\n{disaster}"
    );
    Scenario::parse("test", &text).expect("a scenario")
}

fn kind(flaw: Flaw) -> Arc<dyn StoreKind> {
    Arc::new(ToyKind(flaw))
}

#[test]
fn a_store_without_a_flaw_survives_every_disaster() {
    for disaster in DISASTERS {
        let scenario = scenario(disaster);
        let (mut crashes, mut recoveries, mut checks) = (0, 0, 0);
        for seed in 0..150 {
            let report = run_seed(&scenario, &kind(Flaw::None), seed, &RunOptions::default());
            if let Some(failure) = report.failure {
                let keep = RunOptions { keep: Keep::Last(60), ..RunOptions::default() };
                let again = run_seed(&scenario, &kind(Flaw::None), seed, &keep);
                panic!("seed {seed} of {disaster}\n{}\n{failure:#?}", again.trace.lines.join("\n"));
            }
            assert_eq!((report.ops, report.damage_reported, report.spills), (report.planned, false, 0));
            crashes += report.crashes;
            recoveries += report.recoveries.len() as u64;
            checks += report.checks;
        }
        assert!(recoveries > crashes, "{crashes} crashes and {recoveries} recoveries");
        assert!(checks > 10_000, "{checks} checks");
    }
}

/// Which check must have found it, and how many seeds it took.
fn first_finding(flaw: Flaw) -> Option<String> {
    for seed in 0..120 {
        for disaster in DISASTERS {
            let report = run_seed(&scenario(disaster), &kind(flaw), seed, &RunOptions::default());
            if let Some(failure) = report.failure {
                return Some(format!("{flaw:?}: {}", failure.finding.fingerprint()));
            }
        }
    }
    None
}

#[test]
fn every_flaw_is_found() {
    let found: Vec<String> = Flaw::ALL[1..]
        .iter()
        .map(|flaw| first_finding(*flaw).unwrap_or_else(|| format!("{flaw:?}: NOT FOUND")))
        .collect();
    insta::assert_snapshot!(found.join("\n"), @r"
    NoSync: acknowledged-write-lost (after power loss)
    AckEarly: acknowledged-write-lost (after close and open)
    HalfBatch: batch-recovered-in-part (after close and open)
    StaleRead: wrong-answer (value missing)
    UnsortedScan: scan-out-of-order (reverse scan)
    LimitIgnored: scan-out-of-bounds (scan)
    DeletesForgotten: deleted-key-came-back (after power loss)
    LiveSnapshot: wrong-answer (newer value)
    NoDirSync: acknowledged-write-lost (after power loss)
    RenamedFirst: acknowledged-write-lost (after power loss)
    ErrorSwallowed: missing-barrier (R7 used after a failed sync)
    SyncRetried: missing-barrier (R7 used after a failed sync)
    SequenceRestarts: sequence-number-went-back (check)
    Leak: file-leaked
    Truncates: value-nobody-wrote
    FailedWriteFlickers: wrong-answer (older value)
    SyncIsEmpty: wrong-value-recovered (after close and open)
    LockKept: deadlock (while running)
    Panics: panic (while running, in sim/src/runner/toy.rs)
    NeverRecovers: error-without-a-cause (read-only)
    ErrorInvented: error-without-a-cause (io)
    Unguarded: wrong-answer (older value)
    ");
}

#[test]
fn the_same_seed_twice_is_the_same_run() {
    for disaster in DISASTERS {
        let scenario = scenario(disaster);
        for seed in 0..20 {
            let first = run_seed(&scenario, &kind(Flaw::None), seed, &RunOptions::default());
            let again = run_seed(&scenario, &kind(Flaw::None), seed, &RunOptions::default());
            assert_eq!(first.trace.hash, again.trace.hash, "seed {seed} of {disaster}");
            assert_eq!(first.recoveries, again.recoveries);
        }
    }
}
