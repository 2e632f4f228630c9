//! Kills a process that writes, again and again, on the real file system, and looks whether all that it was promised is
//! there.
//!
//! The operating system lives on, so every acknowledged write must survive, also one that was never synced. What a
//! power cut does is the simulator's business. This is the smoke test beside it: real files, real threads, real
//! signals.
//!
//! The test runs itself as the child process. Each writer thread of the child has keys of its own and applies a fixed
//! sequence of batches to them, each of which also says its own number; it prints the number once it is acknowledged.
//! So the parent knows all that can be there: the state after the last acknowledged batch, or after the one that was
//! under way.
//!
//! `STRATA_KILL_SECONDS` makes it longer than the few seconds that it takes in `cargo test`.

#![expect(clippy::disallowed_methods, reason = "processes, threads and delays of the real world are the point")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use strata::batch::WriteBatch;
use strata::db::{Db, Range, WriteOptions};
use strata::env::Env;
use strata::options::{Durability, Options};

const THREADS: u64 = 3;
const SLOTS: u64 = 40;
const DIR: &str = "STRATA_KILL_CHILD_DIR";
const ROUND: &str = "STRATA_KILL_CHILD_ROUND";

/// Small enough that flushes, compactions and new manifests come every few milliseconds.
fn options(round: u64) -> Options {
    Options {
        memtable_bytes: 16 << 10,
        level_base_bytes: 64 << 10,
        table_bytes: 16 << 10,
        wal_bytes_max: 64 << 10,
        manifest_bytes_min: 4 << 10,
        block_bytes: 1 << 10,
        cache_bytes: 256 << 10,
        durability: [Durability::Buffered, Durability::PeriodicMs(5), Durability::Always][round as usize % 3],
        ..Options::default()
    }
}

fn slot_key(thread: u64, slot: u64) -> Vec<u8> {
    format!("{thread}/slot:{slot:02}").into_bytes()
}

fn number_key(thread: u64) -> Vec<u8> {
    format!("{thread}/number").into_bytes()
}

fn value(thread: u64, number: u64) -> Vec<u8> {
    let mut value = format!("{thread}:{number}:").into_bytes();
    value.resize(value.len() + (number * 37 % 400) as usize, b'.');
    value
}

/// What batch `number` of a thread does: to one slot a put, to another sometimes a delete.
fn writes_of(thread: u64, number: u64) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
    let slot = number * 7 % SLOTS;
    let mut writes = vec![(slot_key(thread, slot), Some(value(thread, number)))];
    if number.is_multiple_of(4) {
        writes.push((slot_key(thread, (slot + 3) % SLOTS), None));
    }
    writes.push((number_key(thread), Some(number.to_string().into_bytes())));
    writes
}

/// All that a thread's keys hold after its batches up to `number`.
fn state_after(thread: u64, number: u64) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut state = BTreeMap::new();
    for (key, value) in (1..=number).flat_map(|number| writes_of(thread, number)) {
        match value {
            Some(value) => state.insert(key, value),
            None => state.remove(&key),
        };
    }
    state
}

fn state_in(db: &Db, thread: u64) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let entries = db.iter(Range::prefix(format!("{thread}/").as_bytes())).expect("an iterator").into_forward();
    entries.map(|entry| entry.map(|(key, value)| (key.to_vec(), value.to_vec())).expect("an entry")).collect()
}

fn number_in(db: &Db, thread: u64) -> u64 {
    let number = db.get(&number_key(thread)).expect("a read");
    number.map_or(0, |number| String::from_utf8_lossy(&number).parse().expect("a number"))
}

#[test]
fn this_is_the_child_that_writes_until_it_is_killed() {
    // Run by itself it has nothing to do: the other test starts it with these variables.
    let (Ok(dir), Ok(round)) = (std::env::var(DIR), std::env::var(ROUND)) else { return };
    let options = options(round.parse().expect("a number"));
    let db = Db::open_with(&Env::os(), Path::new(&dir), options).expect("the store opens");
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let db = &db;
            scope.spawn(move || {
                let mut batch = WriteBatch::new();
                for number in number_in(db, thread) + 1.. {
                    for (key, value) in writes_of(thread, number) {
                        match value {
                            Some(value) => batch.put(&key, &value),
                            None => batch.delete(&key),
                        }
                    }
                    db.write(&mut batch, WriteOptions::default()).expect("a write");
                    // One call, so that a line is whole or not there.
                    let line = format!("ack {thread} {number}\n");
                    if std::io::stdout().write_all(line.as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
}

/// Starts the child, lets it live for so long, kills it, and returns the last acknowledged number of each thread.
fn run_child(dir: &Path, round: u64, life: Duration) -> BTreeMap<u64, u64> {
    let mut child = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "this_is_the_child_that_writes_until_it_is_killed", "--nocapture", "--test-threads=1"])
        .env(DIR, dir)
        .env(ROUND, round.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("a child process");
    let stdout = BufReader::new(child.stdout.take().expect("it is piped"));
    let stderr = child.stderr.take().expect("it is piped");
    std::thread::scope(|scope| {
        let acknowledged = scope.spawn(move || {
            let mut acknowledged = BTreeMap::new();
            for line in stdout.lines().map_while(Result::ok) {
                // The test harness writes to the same pipe, and not always whole lines.
                let Some((_, numbers)) = line.rsplit_once("ack ") else { continue };
                if let Some((thread, number)) = numbers.split_once(' ')
                    && let (Ok(thread), Ok(number)) = (thread.parse::<u64>(), number.parse::<u64>())
                {
                    acknowledged.insert(thread, number);
                }
            }
            acknowledged
        });
        let complaints = scope.spawn(move || std::io::read_to_string(stderr).unwrap_or_default());
        std::thread::sleep(life);
        child.kill().expect("a child to kill");
        let status = child.wait().expect("a child that ended");
        let complaints = complaints.join().expect("a reader");
        assert!(!complaints.contains("panicked"), "the child failed by itself ({status}):\n{complaints}");
        acknowledged.join().expect("a reader")
    })
}

/// A directory that stays when the test fails.
struct Evidence(Option<tempfile::TempDir>);

impl Drop for Evidence {
    fn drop(&mut self) {
        if let (true, Some(dir)) = (std::thread::panicking(), self.0.take()) {
            eprintln!("the store is left in {}", dir.keep().display());
        }
    }
}

#[test]
fn what_was_acknowledged_survives_the_killing_of_the_process() {
    let seconds = std::env::var("STRATA_KILL_SECONDS").map_or(4, |seconds| seconds.parse().expect("seconds"));
    let evidence = Evidence(Some(tempfile::tempdir().expect("a directory")));
    let dir = evidence.0.as_ref().expect("it was just made").path().join("store");
    let env = Env::os();
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut before = BTreeMap::new();
    let (mut rounds, mut round) = (0u32, 0);
    while Instant::now() < end || rounds < 5 {
        // Some die while they open the store, some in the middle of a compaction.
        let life = Duration::from_millis(env.random_u64() % if round % 4 == 3 { 20 } else { 250 });
        let acknowledged = run_child(&dir, round, life);
        if !dir.exists() {
            continue;
        }
        let db = Db::open_with(&env, &dir, options(round)).expect("the store opens after a kill");
        for thread in 0..THREADS {
            let promised = acknowledged.get(&thread).or(before.get(&thread)).copied().unwrap_or(0);
            let number = number_in(&db, thread);
            assert!(
                number == promised || number == promised + 1,
                "round {round}: batch {promised} of thread {thread} was acknowledged, and {number} is the last one there"
            );
            assert_eq!(
                state_in(&db, thread),
                state_after(thread, number),
                "round {round}: thread {thread} at {number}"
            );
            before.insert(thread, number);
        }
        db.check().expect("the store keeps its invariants");
        if round % 2 == 0 {
            db.close().expect("the store closes");
        }
        rounds += 1;
        round += 1;
    }
    let batches: u64 = before.values().sum();
    println!("{rounds} kills, {batches} batches");
    assert!(batches > 0, "no child ever came to write");
}
