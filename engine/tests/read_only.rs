//! A store that is only read, beside its writer and without one, on the real file system.

#![expect(clippy::disallowed_methods, reason = "these tests stand outside the engine and look at its files from there")]

mod place;

use place::place;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::SystemTime;
use strata::checksum::Checksum;
use strata::db::{Db, Range, ReadOnlyDb};
use strata::env::Env;
use strata::options::{Durability, KeyspaceOptions, Options};

fn small() -> Options {
    Options {
        memtable_bytes: 4096,
        table_bytes: 2048,
        level_base_bytes: 8192,
        level_multiplier: 2,
        l0_compaction_trigger: 2,
        durability: Durability::Buffered,
        ..Options::default()
    }
}

fn open(path: &Path) -> Db {
    Db::open_with(&Env::os(), path, small()).expect("the store opens")
}

fn read(path: &Path) -> ReadOnlyDb {
    Db::open_read_only(path).expect("the store can be read")
}

fn fill(db: &Db, from: u32, to: u32, value: &str) {
    for index in from..to {
        db.put(format!("key{index:06}").as_bytes(), format!("{value}{index}").as_bytes()).expect("a put");
    }
}

/// Everything in the directory: names, checksums, and when they were last changed.
fn picture(path: &Path) -> BTreeMap<String, (u32, SystemTime)> {
    let entry = |entry: std::io::Result<fs::DirEntry>| {
        let entry = entry.expect("an entry");
        let changed = entry.metadata().and_then(|data| data.modified()).expect("a time");
        let bytes = fs::read(entry.path()).expect("bytes");
        (entry.file_name().to_string_lossy().into_owned(), (Checksum::new().update(&bytes).masked(), changed))
    };
    fs::read_dir(path).expect("a directory").map(entry).collect()
}

fn count(db: &ReadOnlyDb) -> usize {
    let entries = db.iter(Range::all()).expect("an iterator").into_forward();
    entries.collect::<Result<Vec<_>, _>>().expect("every entry").len()
}

/// A read-only instance that was closed once deleted the live files of the writer (RocksDB 11.6).
#[test]
fn whoever_only_reads_leaves_every_file_as_it_is_beside_a_writer_and_without_one() {
    let place = place();
    let idle = Options {
        l0_compaction_trigger: 1000,
        l0_slowdown_trigger: 1000,
        l0_stop_trigger: 1001,
        space_reserve_bytes: 0,
        ..small()
    };
    let db = Db::open_with(&Env::os(), &place.path, idle).expect("the store opens");
    fill(&db, 0, 500, "old");
    db.flush().expect("a flush");
    fill(&db, 500, 520, "logged");
    while db.check().expect("it is sound").busy {
        std::thread::yield_now();
    }
    // What is left over is the writer's, too.
    fs::write(place.path.join("999999.sst"), "an orphan").expect("a file");
    fs::write(place.path.join("CURRENT.tmp"), "unfinished").expect("a file");
    let before = picture(&place.path);
    let reader = read(&place.path);
    assert_eq!((count(&reader), reader.seqno()), (520, 520));
    reader.refresh().expect("a refresh");
    assert_eq!(reader.check().expect("it is sound").entries, 500);
    assert!(reader.stats().frozen_bytes > 0 && format!("{reader:?}").contains("at seqno 520"));
    drop(reader);
    assert_eq!(picture(&place.path), before);
    db.close().expect("a close");
    drop(db);
    let before = picture(&place.path);
    assert_eq!(count(&read(&place.path)), 520);
    assert_eq!(picture(&place.path), before, "nothing was replayed into tables");
}

#[test]
fn a_reader_shows_one_state_while_its_files_go_and_the_newest_after_a_refresh() {
    let place = place();
    let db = open(&place.path);
    fill(&db, 0, 1000, "old");
    let reader = read(&place.path);
    let mut walk = reader.iter(Range::all()).expect("an iterator");
    walk.seek_to_first().expect("a seek");
    for round in 0..4 {
        fill(&db, 0, 1000, &format!("new{round}-"));
        db.compact_range(None, None).expect("a compaction");
    }
    assert_eq!(reader.get(b"key000007").expect("a get").as_deref(), Some(&b"old7"[..]));
    assert_eq!(reader.seqno(), 1000);
    assert_eq!(reader.refresh().expect("a refresh"), 5000);
    assert_eq!(reader.get(b"key000007").expect("a get").as_deref(), Some(&b"new3-7"[..]));
    let mut seen = 0;
    while walk.valid() {
        assert!(walk.value().starts_with(b"old"), "the iterator stays where it was");
        seen += 1;
        walk.next().expect("a step");
    }
    assert_eq!(seen, 1000);
    let cats = db.create_keyspace("cats", KeyspaceOptions { block_bytes: Some(128), ..Default::default() });
    let cats = cats.expect("a new keyspace");
    db.put_in(&cats, b"tom", b"cat").expect("a put");
    assert_eq!(reader.keyspace("cats"), None);
    reader.refresh().expect("a refresh");
    assert_eq!(reader.keyspace("cats").as_ref(), Some(&cats));
    assert_eq!(reader.get_in(&cats, b"tom").expect("a get").as_deref(), Some(&b"cat"[..]));
    assert_eq!(reader.keyspace_options(&cats).expect("options").block_bytes, Some(128));
    assert!(reader.keyspace_stats(&cats).expect("numbers").memory_bytes > 0);
    db.drop_keyspace(&cats).expect("a drop");
    reader.refresh().expect("a refresh");
    assert!(reader.get_in(&cats, b"tom").is_err());
    assert_eq!((reader.keyspaces().len(), reader.uuid()), (1, db.uuid()));
}

#[test]
fn what_is_damaged_is_told_and_what_is_no_store_is_left_alone() {
    let place = place();
    assert!(Db::open_read_only(&place.path).expect_err("nothing there").to_string().contains("is not a store"));
    assert!(!place.path.exists());
    let db = open(&place.path);
    fill(&db, 0, 300, "value");
    db.flush().expect("a flush");
    fill(&db, 300, 330, "value");
    db.close().expect("a close");
    let name = picture(&place.path).into_keys().find(|name| name.ends_with(".sst")).expect("a table");
    let (table, aside) = (place.path.join(&name), place.path.join("aside"));
    fs::rename(&table, &aside).expect("it goes");
    let missing = Db::open_read_only(&place.path).expect_err("a table is missing");
    assert!(missing.is_corruption() && missing.to_string().contains(&name), "{missing}");
    fs::rename(&aside, &table).expect("it is back");
    let little = Options { memory_bytes: 16 << 10, ..Options::default() };
    assert!(Db::open_read_only_with(&Env::os(), &place.path, little.clone()).is_ok());
    let db = open(&place.path);
    db.put(b"large", &vec![7; 20 << 10]).expect("a put");
    let refused = Db::open_read_only_with(&Env::os(), &place.path, little).expect_err("the log is too large");
    assert!(refused.to_string().contains("raise Options::memory_bytes, or have the writer flush"), "{refused}");
}

/// Another store in the same directory has other files of the same numbers.
#[test]
fn a_directory_that_got_another_store_is_read_from_nothing() {
    let place = place();
    let other = place.path.with_file_name("other");
    for (path, value) in [(&place.path, "first"), (&other, "second")] {
        let db = open(path);
        fill(&db, 0, 200, value);
        db.flush().expect("a flush");
    }
    let reader = read(&place.path);
    assert_eq!(reader.get(b"key000001").expect("a get").as_deref(), Some(&b"first1"[..]));
    fs::rename(&place.path, place.path.with_file_name("gone")).expect("a rename");
    fs::rename(&other, &place.path).expect("a rename");
    assert_eq!(reader.get(b"key000002").expect("a get").as_deref(), Some(&b"first2"[..]));
    reader.refresh().expect("a refresh");
    assert_eq!(reader.get(b"key000001").expect("a get").as_deref(), Some(&b"second1"[..]));
}
