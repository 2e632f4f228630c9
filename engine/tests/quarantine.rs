//! Tables in quarantine, on the real file system: the store goes on beside them, and there are ways back.

#![expect(clippy::disallowed_methods, reason = "these tests stand outside the engine and damage its files from there")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use strata::db::{Db, Range};
use strata::env::Env;
use strata::error::Error;
use strata::event::{Health, Trouble};
use strata::options::{Durability, Options};

fn options() -> Options {
    Options {
        memtable_bytes: 4096,
        block_bytes: 128,
        l0_compaction_trigger: 2,
        l0_slowdown_trigger: 3,
        l0_stop_trigger: 4,
        space_reserve_bytes: 0,
        cache_bytes: 0,
        durability: Durability::Buffered,
        ..Options::default()
    }
}

fn open(dir: &Path) -> Db {
    Db::open_with(&Env::os(), dir, options()).expect("a store")
}

fn key(index: u32) -> Vec<u8> {
    format!("key{index:04}").into_bytes()
}

fn table(dir: &Path) -> PathBuf {
    let mut tables = fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry").path());
    tables.find(|path| path.extension().is_some_and(|end| end == "sst")).expect("a table")
}

/// A store with one table of so many keys, in level 0 or below, of which the first block is damaged; and its bytes as they were.
fn damaged(dir: &Path, keys: u32, compacted: bool) -> (Db, PathBuf, Vec<u8>) {
    let db = Db::open_with(&Env::os(), dir, Options { memtable_bytes: 1 << 20, ..options() }).expect("a store");
    for index in 0..keys {
        db.put(&key(index), b"before").expect("a put");
    }
    db.flush().expect("a flush");
    if compacted {
        db.compact_range(None, None).expect("a compaction");
    }
    db.close().expect("closed");
    let path = table(dir);
    let whole = fs::read(&path).expect("a table");
    let mut bytes = whole.clone();
    bytes[3] ^= 1;
    fs::write(&path, bytes).expect("damage");
    (open(dir), path, whole)
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if is_so() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("{what} did not come about");
}

fn meets_damage(db: &Db) {
    let met = db.get(&key(0));
    assert!(matches!(&met, Err(error) if error.is_corruption()), "{met:?}");
    wait_until("a quarantine", || !db.quarantined().is_empty());
}

#[test]
fn a_read_that_meets_damage_brings_the_table_into_quarantine_and_all_else_goes_on() {
    for compacted in [false, true] {
        let dir = tempfile::tempdir().expect("a directory");
        let (db, path, whole) = damaged(dir.path(), 200, compacted);
        assert_eq!(db.health(), Health::Ok, "nobody has met it");
        meets_damage(&db);
        assert_eq!(db.health(), Health::Degraded(Trouble::Damage));
        let listed = &db.quarantined()[0];
        assert_eq!((&listed.smallest, &listed.largest), (&key(0), &key(199)));
        assert!(db.stats().to_string().contains("in quarantine     level"), "{}", db.stats());

        // Far more than level 0 may hold, over all keys of the table but the last.
        for round in 0..30u32 {
            for index in 100..199 {
                db.put(&key(index), &round.to_le_bytes().repeat(8))
                    .expect("no write waits for a table that is damaged");
            }
        }
        db.flush().expect("a flush");
        db.compact_range(None, None).expect("a compaction goes around it");
        db.check().expect("what is in quarantine is known");
        assert_eq!(db.get(&key(150)).expect("newer").as_deref(), Some(&29u32.to_le_bytes().repeat(8)[..]));
        assert_eq!(db.get(&key(199)).expect("a block beside").as_deref(), Some(&b"before"[..]));
        assert!(db.get(&key(0)).is_err(), "never a wrong answer");
        let level_zero = db.stats().levels[0].tables;
        assert!(level_zero < 12, "those that are held are merged, and {level_zero} are left");

        db.close().expect("closed");
        let db = open(dir.path());
        assert_eq!(db.quarantined().len(), 1, "it is not forgotten");
        assert_eq!(db.health(), Health::Degraded(Trouble::Damage));
        assert_eq!(db.release_quarantined().expect("a look"), 0, "it is damaged still");
        fs::write(&path, &whole).expect("restored");
        assert_eq!(db.release_quarantined().expect("a look"), 1);
        assert_eq!(db.health(), Health::Ok);
        assert_eq!(db.get(&key(0)).expect("whole again").as_deref(), Some(&b"before"[..]));
        db.compact_range(None, None).expect("nothing is held any more");
        assert_eq!(db.iter(Range::all()).expect("an iterator").into_forward().count(), 200);
        assert!(db.check().expect("sound").quarantined.is_empty());
        assert!(db.verify(&mut |_| ()).expect("a verification").is_sound());
    }
}

#[test]
fn a_compaction_that_meets_damage_leaves_the_table_and_does_the_rest() {
    let dir = tempfile::tempdir().expect("a directory");
    let (db, _, _) = damaged(dir.path(), 50, true);
    for index in 40..45 {
        db.put(&key(index), b"after").expect("a put");
    }
    db.compact_range(None, None).expect("a compaction");
    assert_eq!(db.quarantined().len(), 1);
    assert!(db.stats().compaction_failure.is_none());
    assert_eq!(db.get(&key(42)).expect("newer").as_deref(), Some(&b"after"[..]));
    // What is deleted above stays deleted, whatever the table below has.
    db.delete(&key(45)).expect("a delete");
    db.delete_range(&key(46), &key(48)).expect("a range delete");
    for _ in 0..5 {
        db.flush().expect("a flush");
        db.put(&key(900), b"other").expect("a put");
        db.compact_range(None, None).expect("a compaction");
    }
    assert_eq!(db.get(&key(45)).expect("deleted"), None);
    assert_eq!(db.get(&key(46)).expect("deleted"), None);
    assert_eq!(db.get(&key(48)).expect("beside").as_deref(), Some(&b"before"[..]));
}

#[test]
fn the_file_of_a_table_in_quarantine_may_be_missing() {
    let dir = tempfile::tempdir().expect("a directory");
    let (db, path, whole) = damaged(dir.path(), 50, true);
    meets_damage(&db);
    db.close().expect("closed");
    fs::remove_file(&path).expect("gone");
    let db = open(dir.path());
    assert!(db.get(&key(0)).is_err());
    assert_eq!(db.get(b"another").expect("beside"), None);
    let reader = Db::open_read_only(dir.path()).expect("a reader");
    assert!(reader.get(&key(0)).is_err());
    assert_eq!(reader.get(b"another").expect("beside"), None);
    fs::write(&path, whole).expect("restored");
    assert_eq!(db.release_quarantined().expect("a look"), 1);
    assert!(db.get(&key(0)).expect("whole again").is_some());
}

#[test]
fn a_table_that_is_given_up_is_gone_with_what_it_held_and_hid() {
    let dir = tempfile::tempdir().expect("a directory");
    let (db, path, _) = damaged(dir.path(), 50, false);
    let not_there = db.discard_quarantined(3);
    assert!(matches!(not_there, Err(Error::InvalidArgument(_))), "{not_there:?}");
    meets_damage(&db);
    db.discard_quarantined(db.quarantined()[0].table).expect("given up");
    assert_eq!(db.get(&key(0)).expect("gone"), None);
    assert_eq!(db.health(), Health::Ok);
    wait_until("the removal of its file", || !path.exists());
    db.close().expect("closed");
    assert_eq!(open(dir.path()).get(&key(1)).expect("gone"), None);
}
