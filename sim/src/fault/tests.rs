//! Rules as scenarios spell them, and when they strike.

use super::*;
use crate::disk::CrashKind;
use crate::rng::{Decisions, Rest};
use std::collections::BTreeMap;
use std::io::ErrorKind;

fn rule(text: &str) -> FaultRule {
    text.parse().unwrap()
}

fn refused(text: &str) -> String {
    text.parse::<FaultRule>().unwrap_err()
}

fn call(op: FsOp, class: FileClass, ordinal: u64) -> Call {
    Call { op, class, phase: Phase::Running, bytes: 100, ordinal, now_ms: ordinal }
}

fn injector(seed: u64, rules: &[&str]) -> (Injector, Decisions) {
    let mut decisions = Decisions::from_seed(seed);
    let rules = rules.iter().map(|text| rule(text)).collect();
    (Injector::new(rules, &mut decisions), decisions)
}

#[test]
fn a_rule_reads_as_a_scenario_spells_it_and_is_spelled_again() {
    for text in [
        "kind = 'power-loss'\nevery_ops = [50, 400]",
        "kind = 'torn-write'\nchance = 0.2",
        "kind = 'process-crash'\nnth = 7\nbudget = 1",
        "kind = 'io-error'\non = ['read', 'write']\nclasses = ['wal', 'sst']\nchance = 0.01\nsticky = true",
        "kind = 'fsync-error'\nmode = ['clean-keep-new', 'keep-dirty']\nclasses = 'wal'\nchance = 0.5",
        "kind = 'fsync-loss'\non = ['sync', 'sync-dir']\nchance = 0.5",
        "kind = 'disk-full'\ncapacity = [65536, 1048576]\nreturns_after_ms = [10, 1000]",
        "kind = 'disk-full'\nat = ['write', 'create', 'sync']\nchance = 0.01\nreturns_after_ops = 20",
        "kind = 'short-read'\nchance = 0.1",
        "kind = 'short-write'\nchance = 0.1",
        "kind = 'bit-flip'\nclasses = ['sst']\nchance = 0.001\nbudget = 1",
        "kind = 'slow-io'\nmax_ms = 5000\nchance = 0.01",
        "kind = 'clock-jump'\nms = [-3600000, 3600000]\nchance = 0.01",
        "kind = 'clock-freeze'\nmax_ms = 1000\nchance = 0.01",
        "kind = 'fsync-error'\nmode = ['late-report', 'remount-read-only']\nchance = 0.01",
        "kind = 'disk-full'\nat = ['rename', 'create']\nchance = 0.01",
        "kind = 'zero-write'\nclasses = 'wal'\nchance = 0.01",
        "kind = 'bad-sector'\nclasses = 'sst'\nevery_ops = [5, 10]",
        "kind = 'stale-read'\nclasses = ['sst', 'wal']\nchance = 0.01",
        "kind = 'misdirected-read'\nchance = 0.01\nbudget = 1",
        "kind = 'misdirected-write'\nclasses = 'sst'\nnth = 7",
        "kind = 'writeback'\nevery_ops = [5, 50]",
        "kind = 'fd-limit'\nlimit = [8, 40]",
        "kind = 'junk-files'\nchance = 0.5",
    ] {
        let read = rule(text);
        let again = toml::to_string(&read).unwrap();
        assert_eq!(rule(&again), read, "{again}");
    }
}

#[test]
fn what_a_rule_cannot_mean_is_refused_with_words() {
    let refusals = [
        ("kind = 'meteor'\nchance = 0.1", "meteor"),
        ("kind = 'power-loss'\nevery_op = 3", "every_op"),
        ("kind = 'power-loss'", "needs one of"),
        ("kind = 'power-loss'\nchance = 0.1\nnth = 3", "needs one of"),
        ("kind = 'power-loss'\nchance = 0.1\nmode = 'keep-dirty'", "has no `mode`"),
        ("kind = 'slow-io'\nchance = 0.1", "max_ms"),
        ("kind = 'io-error'\nchance = 0.1", "needs `on`"),
        ("kind = 'clock-freeze'\nchance = 0.1", "max_ms"),
        ("kind = 'fd-limit'", "limit"),
        ("kind = 'junk-files'\nchance = 0.1\nclasses = 'wal'", "has no `classes`"),
        ("kind = 'io-error'\non = 'fly'\nchance = 0.1", "fly"),
        ("kind = 'fsync-error'\non = 'read'\nchance = 0.1", "read"),
        ("kind = 'disk-full'\nat = 'read'\nchance = 0.1", "read"),
        ("kind = 'power-loss'\nchance = 1.5", "1.5"),
        ("kind = 'power-loss'\nevery_ops = [5, 2]", "down to"),
        ("kind = 'power-loss'\nnth = [0]", "from 1"),
        ("kind = 'io-error'\non = 'read'\nchance = 0.1\nclasses = ['tape']", "tape"),
    ];
    for (text, word) in refusals {
        let message = refused(text);
        assert!(message.contains(word), "{text}: {message}");
    }
}

#[test]
fn where_faults_could_strike_and_did_is_counted_by_file_and_phase() {
    let (mut injector, mut decisions) =
        injector(1, &["kind = 'io-error'\non = 'write'\nclasses = 'wal'\nnth = [1, 3]"]);
    for (ordinal, phase) in [(1, Phase::Opening), (2, Phase::Running), (3, Phase::Running)] {
        let _ = injector.before(Call { phase, ..call(FsOp::Write, FileClass::Wal, ordinal) }, &mut decisions);
    }
    let flushing = Call { phase: Phase::Flushing, ..call(FsOp::Write, FileClass::Sst, 4) };
    assert_eq!(injector.before(flushing, &mut decisions), None);
    injector.set_enabled(false);
    assert_eq!(injector.before(flushing, &mut decisions), None, "and it does not count: nothing could have struck");
    let hits = |count: u64| BTreeMap::from([(FaultKind::IoError, count)]);
    let cell = |class, phase, calls, hits| Exposure { class, phase, calls, hits };
    let expected = [
        cell(FileClass::Wal, Phase::Opening, 1, hits(1)),
        cell(FileClass::Wal, Phase::Running, 2, hits(1)),
        cell(FileClass::Sst, Phase::Flushing, 1, BTreeMap::new()),
    ];
    assert_eq!(injector.exposures(), expected);
    let sums: Vec<u64> = injector.counts().iter().map(|count| count.hits).collect();
    assert_eq!(sums, [2], "what is counted by operation knows no phases");
}

#[test]
fn a_rule_strikes_only_the_calls_that_it_names() {
    let (mut injector, mut decisions) =
        injector(1, &["kind = 'io-error'\non = 'write'\nclasses = 'wal'\nchance = 1.0"]);
    assert_eq!(injector.before(call(FsOp::Write, FileClass::Sst, 1), &mut decisions), None);
    assert_eq!(injector.before(call(FsOp::Read, FileClass::Wal, 2), &mut decisions), None);
    let struck = injector.before(call(FsOp::Write, FileClass::Wal, 3), &mut decisions);
    assert!(matches!(struck, Some(Injected::Fail { kind: ErrorKind::Other, done }) if done <= 100), "{struck:?}");
    assert_eq!(injector.hits(FaultKind::IoError), 1);
    assert_eq!(injector.calls(FileClass::Wal, FsOp::Write), 1);
    injector.set_enabled(false);
    assert_eq!(injector.before(call(FsOp::Write, FileClass::Wal, 4), &mut decisions), None);
}

#[test]
fn the_same_seed_strikes_the_same_calls_and_zeros_strike_none() {
    let rules = [
        "kind = 'power-loss'\nevery_ops = [50, 400]",
        "kind = 'torn-write'\nchance = 0.5",
        "kind = 'io-error'\non = 'read'\nchance = 0.05",
        "kind = 'short-write'\nchance = 0.05",
        "kind = 'slow-io'\nmax_ms = 9\nchance = 0.05",
    ];
    let run = |mut decisions: Decisions| {
        let mut injector = Injector::new(rules.iter().map(|text| rule(text)).collect(), &mut decisions);
        let mut seen = Vec::new();
        for ordinal in 0..5000 {
            let op = FsOp::ALL[(ordinal % 4) as usize];
            let class = FileClass::ALL[(ordinal % 3) as usize];
            if let Some(injected) = injector.before(call(op, class, ordinal), &mut decisions) {
                seen.push((ordinal, injected));
            }
        }
        seen
    };
    let seen = run(Decisions::from_seed(3));
    assert_eq!(seen, run(Decisions::from_seed(3)));
    assert_ne!(seen, run(Decisions::from_seed(4)));
    let kinds = |wanted: CrashKind| seen.iter().any(|(_, injected)| *injected == Injected::Crash(wanted));
    assert!(kinds(CrashKind::PowerLoss) && kinds(CrashKind::TornPowerLoss));
    assert_eq!(run(Decisions::scripted(BTreeMap::new(), Rest::Zero)), []);
}

#[test]
fn a_budget_ends_a_rule_and_nth_counts_the_calls_that_match() {
    let (mut injector, mut decisions) =
        injector(1, &["kind = 'process-crash'\nnth = [3, 5, 9]\nbudget = 2\non = 'rename'"]);
    let mut struck = Vec::new();
    for ordinal in 1..=40 {
        let op = if ordinal % 2 == 0 { FsOp::Rename } else { FsOp::Write };
        if injector.before(call(op, FileClass::Current, ordinal), &mut decisions).is_some() {
            struck.push(ordinal);
        }
    }
    assert_eq!(struck, [6, 10]);
}

#[test]
fn a_sticky_error_stays_until_the_faults_end() {
    let (mut injector, mut decisions) =
        injector(1, &["kind = 'io-error'\non = 'read'\nnth = 2\nsticky = true\nbudget = 1"]);
    let mut struck = Vec::new();
    for ordinal in 1..=6 {
        struck.push(injector.before(call(FsOp::Read, FileClass::Sst, ordinal), &mut decisions).is_some());
    }
    assert_eq!(struck, [false, true, true, true, true, true]);
    injector.set_enabled(false);
    injector.set_enabled(true);
    assert_eq!(injector.before(call(FsOp::Read, FileClass::Sst, 7), &mut decisions), None);
}

#[test]
fn space_goes_for_a_while_and_comes_back() {
    let (mut injector, mut decisions) =
        injector(1, &["kind = 'disk-full'\nat = ['write', 'create']\nnth = 3\nreturns_after_ops = 4"]);
    let mut full = Vec::new();
    for ordinal in 1..=9 {
        let injected = injector.before(call(FsOp::Write, FileClass::Sst, ordinal), &mut decisions);
        full.push(matches!(injected, Some(Injected::Fail { kind: ErrorKind::StorageFull, .. })));
    }
    assert_eq!(full, [false, false, true, true, true, true, false, false, false]);
}

#[test]
fn a_small_disk_grows_again_some_time_after_it_was_full() {
    let (mut injector, mut decisions) = injector(1, &["kind = 'disk-full'\ncapacity = 65536\nreturns_after_ms = 10"]);
    assert_eq!(injector.capacity(), Some(65536));
    for ordinal in 1..=20 {
        let now = call(FsOp::Write, FileClass::Sst, ordinal);
        let injected = injector.before(now, &mut decisions);
        assert_eq!(injected, (ordinal == 15).then_some(Injected::SpaceReturns));
        if ordinal == 5 {
            injector.note_full(now, &mut decisions);
        }
    }
    assert_eq!(injector.hits(FaultKind::DiskFull), 1);
}

#[test]
fn a_flip_may_happen_at_any_call_but_lands_in_the_classes_that_were_named() {
    let (mut injector, mut decisions) = injector(1, &["kind = 'bit-flip'\nclasses = ['sst']\nnth = 1"]);
    let struck = injector.before(call(FsOp::Write, FileClass::Wal, 1), &mut decisions);
    let Some(Injected::FlipBit(classes)) = struck else { panic!("{struck:?}") };
    assert!(classes.contains(FileClass::Sst) && !classes.contains(FileClass::Wal));
}
