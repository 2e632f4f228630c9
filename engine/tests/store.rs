//! The store as its users meet it, on the real file system: what it promises when nothing fails, and what it says when
//! something was asked that it does not do or something on disk is not as it should be.

#![expect(clippy::disallowed_methods, reason = "these tests stand outside the engine and damage its files from there")]

mod place;

use place::place;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use strata::batch::WriteBatch;
use strata::db::{Db, Range, WriteOptions};
use strata::env::Env;
use strata::error::Error;
use strata::event::{Event, Listener, Operation};
use strata::key::{KEY_LEN_MAX, VALUE_LEN_MAX};
use strata::options::{Durability, Options};
use strata::sync::Mutex;

fn small() -> Options {
    Options {
        memtable_bytes: 4096,
        table_bytes: 2048,
        level_base_bytes: 8192,
        level_multiplier: 2,
        l0_compaction_trigger: 2,
        block_bytes: 256,
        durability: Durability::Buffered,
        ..Options::default()
    }
}

fn open(path: &Path) -> Db {
    Db::open_with(&Env::os(), path, small()).expect("the store opens")
}

fn fill(db: &Db, from: u32, to: u32, value: &str) {
    for index in from..to {
        db.put(format!("key{index:06}").as_bytes(), format!("{value}{index}").as_bytes()).expect("a put");
    }
}

/// An error as a user reads it, without the directory of this run.
fn told(error: &Error, path: &Path) -> String {
    error.to_string().replace(&path.display().to_string(), "STORE")
}

fn refusal(path: &Path, options: Options) -> String {
    told(&Db::open_with(&Env::os(), path, options).expect_err("the store is refused"), path)
}

/// Files with this ending, by name.
fn files(path: &Path, ending: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).expect("the store's directory");
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    found.retain(|file| file.display().to_string().contains(ending));
    found.sort();
    found
}

#[test]
fn what_was_written_is_there_after_a_reopen_wherever_it_lay() {
    let place = place();
    let db = open(&place.path);
    fill(&db, 0, 500, "old");
    db.compact_range(None, None).expect("a compaction");
    fill(&db, 400, 600, "new");
    db.flush().expect("a flush");
    db.delete(b"key000100").expect("a delete");
    db.put(b"", b"").expect("an empty key and an empty value");
    db.close().expect("a close");
    assert!(matches!(db.get(b""), Err(Error::Closed)));
    drop(db);

    let db = open(&place.path);
    assert_eq!(db.get(b"").expect("a get").as_deref(), Some(&b""[..]));
    assert_eq!(db.get(b"key000100").expect("a get"), None);
    assert_eq!(db.get(b"key000399").expect("a get").as_deref(), Some(&b"old399"[..]));
    assert_eq!(db.get(b"key000400").expect("a get").as_deref(), Some(&b"new400"[..]));
    let count = db.iter(Range::prefix(b"key")).expect("an iterator").into_forward().count();
    assert_eq!(count, 599);
}

#[test]
fn the_numbers_of_writes_go_on_after_a_reopen() {
    let place = place();
    let db = open(&place.path);
    let first = db.put(b"a", b"1").expect("a put");
    db.flush().expect("a flush");
    drop(db);
    let db = open(&place.path);
    assert!(db.put(b"a", b"2").expect("a put") > first);
}

#[test]
fn a_batch_is_numbered_entry_by_entry_and_comes_back_empty() {
    let place = place();
    let db = open(&place.path);
    let mut batch = WriteBatch::new();
    batch.put(b"a", b"1");
    batch.put(b"a", b"2");
    batch.delete(b"b");
    let first = db.write(&mut batch, WriteOptions::default()).expect("a batch");
    assert!(batch.is_empty());
    assert_eq!(db.get(b"a").expect("a get").as_deref(), Some(&b"2"[..]), "the later entry wins");
    assert_eq!(db.put(b"c", b"").expect("a put"), first + 3);
    assert_eq!(db.write(&mut batch, WriteOptions::default()).expect("nothing to do"), first + 3);
}

#[test]
fn a_snapshot_stays_as_it_was_through_overwrites_flushes_and_compactions() {
    let place = place();
    let db = open(&place.path);
    fill(&db, 0, 200, "then");
    let snapshot = db.snapshot();
    let mut pinned = db.iter(Range::all()).expect("an iterator");
    for round in 0..3 {
        fill(&db, 0, 200, &format!("round{round}-"));
        db.delete(b"key000007").expect("a delete");
        db.compact_range(None, None).expect("a compaction");
    }
    assert_eq!(db.get(b"key000007").expect("a get"), None);
    assert_eq!(db.get_at(&snapshot, b"key000007").expect("a get").as_deref(), Some(&b"then7"[..]));
    pinned.seek_to_last().expect("a seek");
    assert_eq!(pinned.value().as_ref(), b"then199", "an open iterator keeps the files that it reads");
    drop(pinned);
    drop(snapshot);
    db.compact_range(None, None).expect("a compaction");
    let report = db.check().expect("the store is sound");
    assert_eq!(report.entries, 199, "nothing that no reader sees is left: {report}");
}

#[test]
fn nothing_is_left_lying_about() {
    let place = place();
    let db = open(&place.path);
    for round in 0..5 {
        fill(&db, 0, 300, &round.to_string());
    }
    db.compact_range(None, None).expect("a compaction");
    let report = loop {
        let report = db.check().expect("the store is sound");
        if !report.busy && report.debt == 0 {
            break report;
        }
        Env::os().sleep(std::time::Duration::from_millis(5));
    };
    assert_eq!(report.leftover, BTreeSet::new());
    assert!(files(&place.path, ".wal").len() == 1 && files(&place.path, "MANIFEST").len() == 1, "{report:?}");
    db.close().expect("a close");
}

#[test]
fn writers_on_many_threads_share_groups_and_all_find_their_writes() {
    let place = place();
    let options = Options { durability: Durability::Always, ..small() };
    let db = Arc::new(Db::open_with(&Env::os(), &place.path, options).expect("the store opens"));
    let env = Env::os();
    let tasks: Vec<_> = (0..8u32)
        .map(|writer| {
            let db = db.clone();
            let body = move || {
                for index in 0..100u32 {
                    let key = format!("{writer}/{index:03}");
                    db.put(key.as_bytes(), &[b'v'; 100]).expect("a put");
                    assert!(db.get(key.as_bytes()).expect("a get").is_some(), "a writer sees its own write at once");
                }
            };
            env.spawn("writer", Box::new(body)).expect("a thread")
        })
        .collect();
    for task in tasks {
        task.join();
    }
    let stats = db.stats();
    assert_eq!(stats.writes, 800);
    assert!(stats.groups <= stats.writes && stats.wal_syncs <= stats.groups + stats.groups / 4 + 100, "{stats:?}");
    assert_eq!(db.iter(Range::all()).expect("an iterator").into_forward().count(), 800);
    db.check().expect("the store is sound");
}

#[test]
fn too_large_a_key_or_value_is_refused_by_name_and_changes_nothing() {
    let place = place();
    let db = open(&place.path);
    let longest = vec![b'k'; KEY_LEN_MAX];
    db.put(&longest, b"fits").expect("the longest key");
    let error = db.put(&[&longest[..], b"k"].concat(), b"").expect_err("a key that is too long");
    insta::assert_snapshot!(error, @"the key of entry 0 has 65537 bytes, and must have at most 65536");
    assert_eq!(VALUE_LEN_MAX, 1 << 30);
    let value = vec![b'v'; 5 << 20];
    db.put(b"large", &value).expect("five MiB in a memtable of four KiB");
    db.flush().expect("a flush");
    assert_eq!(db.get(b"large").expect("a get").as_deref(), Some(&value[..]));
    assert_eq!(db.iter(Range::all()).expect("an iterator").into_forward().count(), 2);
}

#[test]
fn a_second_open_is_refused_until_the_first_is_closed() {
    let place = place();
    let db = open(&place.path);
    insta::assert_snapshot!(
        refusal(&place.path, small()),
        @"another handle has the store open and holds STORE/LOCK; close it first, only one may write"
    );
    db.close().expect("a close");
    open(&place.path);
}

#[test]
fn a_directory_that_is_no_store_is_left_alone() {
    let place = place();
    let closed = Options { create_if_missing: false, ..small() };
    insta::assert_snapshot!(
        refusal(&place.path, closed),
        @"STORE is not a store: there is no such directory; check the path, or set Options::create_if_missing to start a new store in an empty directory"
    );
    fs::create_dir(&place.path).expect("a directory");
    fs::write(place.path.join("thesis.txt"), "years of work").expect("a file");
    insta::assert_snapshot!(
        refusal(&place.path, small()),
        @r#"STORE is not a store: it holds "thesis.txt", which is no file of a store; check the path, or set Options::create_if_missing to start a new store in an empty directory"#
    );
    assert_eq!(files(&place.path, "").len(), 1, "nothing was added to it");
    insta::assert_snapshot!(
        refusal(&place.path, Options { block_bytes: 1, ..small() }),
        @"option block_bytes is 1, and must be within 64 and 16777216"
    );
}

#[test]
fn a_file_that_is_missing_is_named() {
    let place = place();
    let db = open(&place.path);
    fill(&db, 0, 100, "v");
    db.flush().expect("a flush");
    db.close().expect("a close");
    drop(db);
    let table = files(&place.path, ".sst").remove(0);
    let away = place.path.with_extension("away");
    fs::rename(&table, &away).expect("a rename");
    let message = refusal(&place.path, small());
    assert!(message.contains(table.file_name().and_then(|name| name.to_str()).expect("a name")), "{message}");
    assert!(message.contains("the table that the manifest names, found no file"), "{message}");
    fs::rename(&away, &table).expect("a rename");

    fs::remove_file(place.path.join("CURRENT")).expect("CURRENT is there");
    let message = refusal(&place.path, small());
    assert!(message.contains("STORE/CURRENT is damaged"), "a store is never taken for an empty directory: {message}");
}

#[test]
fn a_newer_store_is_refused_and_a_damaged_one_is_reported() {
    let place = place();
    let db = open(&place.path);
    fill(&db, 0, 100, "v");
    db.flush().expect("a flush");
    fill(&db, 100, 110, "v");
    db.close().expect("a close");
    drop(db);
    for ending in ["IDENTITY", "CURRENT", "MANIFEST", ".wal"] {
        let file = files(&place.path, ending).remove(0);
        let whole = fs::read(&file).expect("the file");
        let mut damaged = whole.clone();
        let middle = damaged.len() / 2;
        damaged[middle] ^= 0x10;
        fs::write(&file, &damaged).expect("a write");
        let error = Db::open_with(&Env::os(), &place.path, small()).expect_err(ending);
        assert!(error.is_corruption(), "{ending}: {error}");
        let name = file.file_name().and_then(|name| name.to_str()).expect("a name");
        assert!(error.to_string().contains(name), "the file is named: {error}");
        fs::write(&file, &whole).expect("a write");
    }
    let db = open(&place.path);
    assert_eq!(db.iter(Range::all()).expect("an iterator").into_forward().count(), 110);
}

#[test]
fn a_damaged_table_is_an_error_for_what_lies_in_it_and_never_a_wrong_answer() {
    let place = place();
    // One table, and nothing to be compacted, which would replace it while it is damaged and mended.
    let options = Options { memtable_bytes: 1 << 16, ..small() };
    let db = Db::open_with(&Env::os(), &place.path, options).expect("the store opens");
    fill(&db, 0, 60, "value");
    db.flush().expect("a flush");
    db.close().expect("a close");
    drop(db);
    let table = files(&place.path, ".sst").remove(0);
    let whole = fs::read(&table).expect("the file");
    let (mut errors, mut answers) = (0, 0);
    for at in (0..whole.len()).step_by(37) {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        fs::write(&table, &damaged).expect("a write");
        let Ok(db) = Db::open_with(&Env::os(), &place.path, Options { cache_bytes: 0, ..small() }) else {
            continue;
        };
        for index in 0..60 {
            match db.get(format!("key{index:06}").as_bytes()) {
                Ok(Some(value)) => {
                    answers += 1;
                    assert_eq!(value.as_ref(), format!("value{index}").as_bytes());
                }
                Ok(None) => panic!("byte {at} is damaged, and key {index} is said to be absent"),
                Err(error) => {
                    errors += 1;
                    assert!(error.is_corruption(), "{error}");
                }
            }
        }
        let scanned: Result<Vec<_>, _> = db.iter(Range::all()).and_then(|iter| iter.into_forward().collect());
        assert!(scanned.is_err() || scanned.is_ok_and(|entries| entries.len() == 60), "a scan skips nothing silently");
        let known = db.check().map(|report| !report.quarantined.is_empty());
        assert!(known.unwrap_or(true), "byte {at} is damaged, and the check finds nothing");
        db.close().expect("a close");
        fs::write(&table, &whole).expect("mended");
        let db = open(&place.path);
        db.release_quarantined().expect("a look");
        assert!(db.quarantined().is_empty(), "the next one is met anew");
    }
    assert!(errors > 0 && answers > 0);
}

#[test]
fn periodic_writes_are_synced_without_being_asked() {
    let place = place();
    let options = Options { durability: Durability::PeriodicMs(5), ..small() };
    let db = Db::open_with(&Env::os(), &place.path, options).expect("the store opens");
    db.put(b"a", b"1").expect("a put");
    let env = Env::os();
    let started = env.now();
    while db.stats().wal_syncs == 0 {
        assert!(env.now() - started < std::time::Duration::from_secs(10), "nobody synced");
        env.sleep(std::time::Duration::from_millis(1));
    }
}

#[test]
fn scans_jump_over_a_deleted_range_however_much_lies_in_it_and_a_compaction_gives_its_space_back() {
    let place = place();
    let db = Db::open_with(&Env::os(), &place.path, Options { table_bytes: 1 << 20, ..small() }).expect("opened");
    fill(&db, 0, 4000, "value");
    db.compact_range(None, None).expect("a compaction");
    let looked_up = |walk: &dyn Fn() -> usize, expected: usize| {
        let before = db.stats().cache;
        assert_eq!(walk(), expected);
        let after = db.stats().cache;
        (after.hits + after.misses) - (before.hits + before.misses)
    };
    let forward = || db.iter(Range::all()).expect("an iterator").into_forward().filter(|entry| entry.is_ok()).count();
    let backward = || {
        let mut iter = db.iter(Range::all()).expect("an iterator");
        iter.seek_to_last().expect("a seek");
        let mut count = 0;
        while iter.valid() {
            count += 1;
            iter.prev().expect("a step");
        }
        count
    };
    let all = looked_up(&forward, 4000);
    assert!(all > 100, "{all} blocks");
    db.delete_range(b"key000010", b"key003990").expect("a range delete");
    for flushed in [false, true] {
        if flushed {
            db.flush().expect("a flush");
        }
        for walk in [&forward as &dyn Fn() -> usize, &backward] {
            let few = looked_up(walk, 20);
            assert!(few < 20, "{few} blocks of {all} are looked at, to show what two of them hold");
        }
    }
    db.compact_range(None, None).expect("a compaction");
    let report = db.check().expect("the store is sound");
    assert_eq!(report.entries, 20);
}

#[test]
fn range_deletes_that_each_hold_all_before_fill_a_memtable_and_are_one_when_they_are_flushed() {
    let place = place();
    let db = Db::open(&place.path).expect("the store opens");
    let key = |number: u32| format!("key{number:06}").into_bytes();
    for number in 1..=1_000 {
        db.put(&key(number), b"value").expect("a put");
        db.delete_range(&key(0), &key(number)).expect("a range delete");
    }
    assert!(
        db.stats().flush_bytes > 0,
        "a memtable of {} bytes was flushed for nothing else",
        db.stats().memtable_bytes
    );
    let left = || db.iter(Range::all()).expect("an iterator").into_forward().map(|entry| entry.expect("an entry").0);
    assert_eq!(left().collect::<Vec<_>>(), [key(1_000)]);
    db.compact_range(None, None).expect("a compaction");
    assert_eq!(left().collect::<Vec<_>>(), [key(1_000)]);
    assert_eq!(db.check().expect("the store is sound").entries, 1);
}

#[test]
fn a_range_delete_counts_from_its_place_in_a_batch_on_and_an_empty_one_does_nothing() {
    let place = place();
    let db = open(&place.path);
    db.put(b"a", b"1").expect("a put");
    let mut batch = WriteBatch::new();
    batch.put(b"b", b"1");
    batch.delete_range(b"a", b"d");
    batch.put(b"c", b"1");
    batch.delete_range(b"c", b"c");
    batch.delete_range(b"d", b"a");
    assert_eq!(batch.count(), 3);
    assert_eq!(db.write(&mut batch, WriteOptions::default()).expect("a batch"), 2);
    assert_eq!(db.delete_range(b"z", b"c").expect("nothing to do"), 4);
    drop(db);
    let db = open(&place.path);
    let keys: Vec<Vec<u8>> =
        db.iter(Range::all()).expect("an iterator").into_forward().map(|entry| entry.expect("an entry").0).collect();
    assert_eq!(keys, [b"c"]);
}

#[test]
fn a_get_of_many_keys_finds_what_a_get_of_each_finds_wherever_it_lies() {
    let place = place();
    let db = open(&place.path);
    fill(&db, 0, 600, "first");
    db.compact_range(None, None).expect("a compaction");
    fill(&db, 100, 200, "second");
    db.flush().expect("a flush");
    db.delete_range(b"key000300", b"key000350").expect("a range delete");
    let snapshot = db.snapshot();
    for index in (0..600).step_by(7) {
        db.delete(format!("key{index:06}").as_bytes()).expect("a delete");
    }
    db.put(b"key000310", &[7; 2000]).expect("a put");
    // From the end to the front, some twice, and some that were never there.
    let keys: Vec<Vec<u8>> =
        (0..700).rev().chain([5, 5, 650]).map(|index| format!("key{index:06}").into_bytes()).collect();
    let found = db.multi_get(&keys).expect("a get of many keys");
    let one_by_one: Vec<_> = keys.iter().map(|key| db.get(key).expect("a get")).collect();
    assert_eq!((found.values, found.seqno), (one_by_one, db.stats().seqno));
    let found = db.multi_get_at(&snapshot, &keys).expect("a get of many keys");
    let one_by_one: Vec<_> = keys.iter().map(|key| db.get_at(&snapshot, key).expect("a get")).collect();
    assert_eq!(found, one_by_one);
    assert_eq!(db.multi_get::<&[u8]>(&[]).expect("a get of nothing").values, []);
    assert!(open(&self::place().path).multi_get_at(&snapshot, &keys).is_err(), "the snapshot is of another handle");
    db.close().expect("a close");
    assert!(matches!(db.multi_get(&keys), Err(Error::Closed)));
}

#[test]
fn a_get_of_many_keys_looks_at_each_block_once_and_asks_no_older_place_for_what_it_has_found() {
    let place = place();
    let options = Options { cache_bytes: 0, memtable_bytes: 1 << 20, ..small() };
    let db = Db::open_with(&Env::os(), &place.path, options).expect("the store opens");
    fill(&db, 0, 300, "first");
    db.compact_range(None, None).expect("a compaction");
    fill(&db, 100, 150, "second");
    let keys: Vec<Vec<u8>> = (0..300).map(|index| format!("key{index:06}").into_bytes()).collect();
    let looked_at = |keys: &[Vec<u8>]| {
        let before = db.stats();
        db.multi_get(keys).expect("a get of many keys");
        let after = db.stats();
        (after.cache.misses - before.cache.misses, after.lookups.tables - before.lookups.tables)
    };
    let (blocks, asked) = looked_at(&keys);
    // Some twelve entries lie in each block of 256 bytes.
    assert!((10..50).contains(&blocks) && asked == 250, "{blocks} blocks were read for {asked} keys");
    assert_eq!(looked_at(&keys[100..150]), (0, 0), "all is in memory");
    assert_eq!(looked_at(&[keys[7].clone(), keys[7].clone()]), (1, 1), "one key that is named twice");
    let stats = db.stats();
    assert_eq!((stats.calls(Operation::MultiGet), stats.multi_get_keys), (3, 352));
}

#[test]
fn where_one_of_many_keys_cannot_be_read_the_error_is_the_answer() {
    let place = place();
    let db = Db::open_with(&Env::os(), &place.path, Options { cache_bytes: 0, ..small() }).expect("the store opens");
    fill(&db, 0, 300, "value");
    db.compact_range(None, None).expect("a compaction");
    db.put(b"key000000", b"in memory").expect("a put");
    let damaged = files(&place.path, ".sst").swap_remove(0);
    let mut bytes = fs::read(&damaged).expect("a table that can be read");
    bytes[10] ^= 1;
    fs::write(&damaged, bytes).expect("a table that can be written");
    let keys: Vec<Vec<u8>> = (0..300).map(|index| format!("key{index:06}").into_bytes()).collect();
    match db.multi_get(&keys) {
        Err(Error::Corruption(damage)) => assert_eq!(damage.path, damaged),
        other => panic!("the damage is told, and not {other:?}"),
    }
    let whole = db.multi_get(&[&keys[299], &keys[0]]).expect("neither lies in the block that is damaged");
    assert_eq!(whole.values[1].as_deref(), Some(&b"in memory"[..]));
}

#[test]
fn statistics_count_what_was_done_and_read_like_a_table() {
    let dir = tempfile::tempdir().expect("a directory");
    let told = Arc::new(Mutex::new("slow operations", 0));
    let heard = told.clone();
    let listener: Listener = Arc::new(move |event| {
        if let Event::SlowOperation { operation: Operation::Flush, took, waited_for, .. } = event {
            assert!(*took >= Duration::from_millis(1) && !waited_for.is_empty());
            *heard.lock() += 1;
        }
    });
    let options = Options { slow_operation_ms: 1, hot_keys: 3, memtable_bytes: 64 << 10, ..Options::default() };
    let db = Db::open_listening(&Env::os(), &dir.path().join("store"), options, listener).expect("a new store");
    for number in 0..400u32 {
        let mut batch = WriteBatch::new();
        batch.put(format!("key:{:03}", number % 100).as_bytes(), &[7; 100]);
        db.write(&mut batch, WriteOptions { durability: Some(Durability::Buffered), ..WriteOptions::default() })
            .expect("a write");
    }
    db.flush().expect("a flush");
    db.compact_range(None, None).expect("a compaction");
    for number in 0..50 {
        assert!(db.get(b"key:007").expect("a get").is_some());
        assert!(db.get(format!("absent:{number}").as_bytes()).expect("a get").is_none());
    }
    assert_eq!(db.iter(Range::all()).expect("an iterator").into_forward().count(), 100);
    db.sync().expect("a sync");
    let stats = db.stats();
    let calls = [Operation::Get, Operation::WriteUnsynced, Operation::Sync, Operation::Open, Operation::Step];
    assert_eq!(calls.map(|operation| stats.calls(operation)), [100, 400, 1, 1, 100]);
    assert!(stats.operations.iter().all(|one| one.latency.count == one.calls), "with slow operations, each is timed");
    assert!(stats.calls(Operation::Flush) >= 1 && stats.calls(Operation::Compaction) >= 1);
    assert!(stats.lookups.tables > 0 && stats.lookups.filter_useful <= stats.lookups.tables, "{:?}", stats.lookups);
    assert_eq!((stats.space_amplification(), stats.hot_keys[0].key.as_slice()), (1.0, &b"key:007"[..]));
    assert!(stats.level_work.iter().any(|work| work.read_bytes > 0) && stats.level_work[0].written_bytes > 0);
    let table = stats.to_string();
    for line in
        ["health            ok", "amplification     write ", "operation ", "write, unsynced ", "hot key key:007 "]
    {
        assert!(table.contains(line), "{line:?} in\n{table}");
    }
}

#[test]
fn closing_does_not_wait_for_a_compaction_that_is_held_back() {
    let dir = tempfile::tempdir().expect("a directory");
    // A hundred bytes a second: what is written below would take hours to compact.
    let options =
        Options { background_bytes_per_second: 100, l0_compaction_trigger: 1, l0_stop_trigger: 100, ..small() };
    let db = Db::open_with(&Env::os(), &dir.path().join("store"), options.clone()).expect("a new store");
    for round in 0..20u32 {
        for number in 0..50u32 {
            db.put(&number.to_be_bytes(), &[round as u8; 200]).expect("a write");
        }
        db.flush().expect("a flush is not held back");
    }
    let begun = Instant::now();
    db.close().expect("closed");
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
}
