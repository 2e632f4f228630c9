//! Keyspaces as their users meet them: maps of their own that share a log, come and go, and are written to as one.

#![expect(clippy::disallowed_methods, reason = "these tests stand outside the engine and look at its files from there")]

mod place;

use place::place;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use strata::backup::{Backups, checkpoint};
use strata::batch::WriteBatch;
use strata::db::{Db, Keyspace, Range};
use strata::env::Env;
use strata::error::Error;
use strata::event::Event;
use strata::manifest::VersionEdit;
use strata::manifest::log::{ManifestWriter, set_current};
use strata::options::{Compression, Durability, KeyspaceOptions, Options};
use strata::sync::Mutex;
use strata::txn::{Isolation, Transaction};

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

fn create(db: &Db, name: &str) -> Keyspace {
    db.create_keyspace(name, KeyspaceOptions::default()).expect("a new keyspace")
}

fn value(db: &Db, keyspace: &Keyspace, key: &str) -> Option<String> {
    let value = db.get_in(keyspace, key.as_bytes()).expect("a get");
    value.map(|value| String::from_utf8(value.to_vec()).expect("text"))
}

fn keys(db: &Db, keyspace: &Keyspace) -> Vec<String> {
    let entries = db.iter_in(keyspace, Range::all()).expect("an iterator").into_forward();
    entries.map(|entry| String::from_utf8(entry.expect("an entry").0).expect("text")).collect()
}

fn fill(db: &Db, keyspace: &Keyspace, count: u32) {
    for index in 0..count {
        let value = format!("{} {index}", keyspace.name()).repeat(4);
        db.put_in(keyspace, format!("key{index:05}").as_bytes(), value.as_bytes()).expect("a put");
    }
}

/// Names of the files with this ending.
fn files(path: &Path, ending: &str) -> BTreeSet<String> {
    let names = fs::read_dir(path)
        .expect("the store's directory")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("a name of ours"));
    names.filter(|name| name.ends_with(ending)).collect()
}

/// Waits until background work has left no file that belongs to nothing.
fn settle(db: &Db) {
    while {
        let report = db.check().expect("the store is sound");
        report.busy || !report.leftover.is_empty()
    } {
        std::thread::yield_now();
    }
}

#[test]
fn each_keyspace_is_a_map_of_its_own_wherever_its_entries_lie_and_after_a_reopen() {
    let place = place();
    let db = open(&place.path);
    let (cats, dogs) = (create(&db, "cats"), create(&db, "dogs"));
    let default = Keyspace::default();
    for (keyspace, value) in [(&default, "neither"), (&cats, "cat"), (&dogs, "dog")] {
        db.put_in(keyspace, b"tom", value.as_bytes()).expect("a put");
    }
    db.delete_range_in(&cats, b"a", b"m").expect("a range delete");
    db.put_in(&dogs, b"bello", b"dog").expect("a put");
    let expect = |db: &Db| {
        assert_eq!(value(db, &default, "tom").as_deref(), Some("neither"));
        assert_eq!(db.get(b"tom").expect("a get").as_deref(), Some(&b"neither"[..]));
        assert_eq!(value(db, &cats, "tom").as_deref(), Some("cat"));
        assert_eq!((keys(db, &cats), keys(db, &dogs)), (vec!["tom".into()], vec!["bello".into(), "tom".into()]));
    };
    expect(&db);
    db.close().expect("a close");
    drop(db);
    let db = open(&place.path);
    expect(&db);
    db.flush().expect("a flush");
    expect(&db);
    fill(&db, &dogs, 300);
    db.compact_range_in(&dogs, None, None).expect("a compaction");
    db.delete_range_in(&dogs, b"key", b"kez").expect("a range delete");
    expect(&db);
    db.compact_range_in(&dogs, None, None).expect("a compaction");
    expect(&db);
    db.check().expect("the store is sound");
    drop(db);
    let db = open(&place.path);
    expect(&db);
    let names: Vec<String> = db.keyspaces().iter().map(|keyspace| keyspace.name().to_string()).collect();
    assert_eq!(names, ["default", "cats", "dogs"]);
    assert_eq!(db.keyspace("dogs"), Some(dogs.clone()), "a handle outlives the store that it came from");
    assert_eq!(db.keyspace("default"), Some(default.clone()));
}

#[test]
fn what_cannot_be_is_refused_by_name() {
    let place = place();
    let db = open(&place.path);
    let cats = create(&db, "cats");
    let refused = |name: &str| db.create_keyspace(name, KeyspaceOptions::default()).expect_err("refused").to_string();
    insta::assert_snapshot!(refused("cats"), @r#"the store has a keyspace with the name "cats" already"#);
    insta::assert_snapshot!(refused("default"), @r#"the name "default" is that of the keyspace that every store has"#);
    insta::assert_snapshot!(refused(""), @"the name of a keyspace has 0 bytes, and must have 1 to 255");
    insta::assert_snapshot!(refused(&"x".repeat(256)), @"the name of a keyspace has 256 bytes, and must have 1 to 255");
    create(&db, &"x".repeat(255));
    let odd = KeyspaceOptions { block_bytes: Some(1), ..KeyspaceOptions::default() };
    insta::assert_snapshot!(db.create_keyspace("odd", odd).expect_err("refused"), @"option block_bytes is 1, and must be within 64 and 16777216");
    insta::assert_snapshot!(db.drop_keyspace(&Keyspace::default()).expect_err("refused"), @"the default keyspace is part of every store, and has the options of the store");
    db.drop_keyspace(&cats).expect("a drop");
    insta::assert_snapshot!(db.drop_keyspace(&cats).expect_err("refused"), @r#"there is no keyspace "cats" (number 1): it was dropped, or never created in this store; nothing was done"#);
    insta::assert_snapshot!(db.put_in(&cats, b"tom", b"cat").expect_err("refused"), @"there is no keyspace 1: it was dropped, or never created in this store; nothing was done");
    insta::assert_snapshot!(db.get_in(&cats, b"tom").expect_err("refused"), @"there is no keyspace 1: it was dropped, or never created in this store; nothing was done");
    assert!(matches!(db.iter_in(&cats, Range::all()), Err(Error::NoSuchKeyspace { .. })));
    assert!(matches!(db.compact_range_in(&cats, None, None), Err(Error::NoSuchKeyspace { .. })));
    assert!(matches!(db.keyspace_options(&cats), Err(Error::NoSuchKeyspace { .. })));

    let mut batch = WriteBatch::new();
    batch.put(b"in", b"the default one");
    batch.put_in(77u32, b"never", b"created");
    let before = db.stats().seqno;
    db.write(&mut batch, Default::default()).expect_err("refused");
    assert_eq!((batch.count(), batch.seqno()), (2, None), "the batch is as it was, and never came to the log");
    assert_eq!((db.get(b"in").expect("a get"), db.stats().seqno), (None, before));
}

#[test]
fn a_batch_over_keyspaces_is_whole_in_a_log_and_in_the_tables_of_one_flush() {
    let place = place();
    let db = open(&place.path);
    let all: Vec<Keyspace> = (0..5).map(|index| create(&db, &format!("k{index}"))).collect();
    for round in 0..3 {
        let mut batch = WriteBatch::new();
        for keyspace in &all {
            batch.put_in(keyspace, b"round", format!("{round}").as_bytes());
        }
        db.write(&mut batch, Default::default()).expect("a batch");
        assert!(batch.is_empty() && batch.keyspaces().is_empty());
    }
    let before = files(&place.path, ".sst").len();
    db.flush().expect("a flush");
    assert_eq!(files(&place.path, ".sst").len(), before + 5, "one table for each keyspace");
    drop(db);
    let db = open(&place.path);
    assert!(all.iter().all(|keyspace| value(&db, keyspace, "round").as_deref() == Some("2")));
}

#[test]
fn a_dropped_keyspace_never_comes_back_not_even_under_its_own_name_and_its_files_go() {
    let place = place();
    let db = open(&place.path);
    let first = create(&db, "cats");
    fill(&db, &first, 300);
    db.compact_range_in(&first, None, None).expect("a compaction");
    db.put_in(&first, b"in the log", b"only").expect("a put");
    let seqno = db.stats().seqno;
    assert_eq!(db.drop_keyspace(&first).expect("a drop"), seqno + 1, "a drop has a place among the writes");
    assert_eq!((db.keyspace("cats"), db.stats().seqno), (None, seqno + 1));
    settle(&db);
    assert_eq!(files(&place.path, ".sst").len(), 0);

    let second = create(&db, "cats");
    assert_ne!(first.id(), second.id());
    assert_eq!(keys(&db, &second), [""; 0]);
    db.put_in(&second, b"tom", b"cat").expect("a put");
    assert!(db.put_in(&first, b"tom", b"ghost").is_err());
    drop(db);
    // The log still has entries of the first one.
    let db = open(&place.path);
    let again = db.keyspace("cats").expect("the second one");
    assert_eq!((again.id(), keys(&db, &again)), (second.id(), vec!["tom".to_string()]));
    db.drop_keyspace(&again).expect("a drop");
    drop(db);
    let db = open(&place.path);
    assert_eq!(db.keyspaces().len(), 1);
    assert!(create(&db, "cats").id() > second.id(), "no number is given twice, also after a reopen");
    settle(&db);
}

#[test]
fn who_reads_a_keyspace_goes_on_when_it_is_dropped_and_its_files_go_afterwards() {
    let place = place();
    let db = open(&place.path);
    let cats = create(&db, "cats");
    fill(&db, &cats, 200);
    db.flush().expect("a flush");
    db.put_in(&cats, b"key00007", b"in memory").expect("a put");
    let before = db.snapshot();
    let mut iter = db.iter_in(&cats, Range::all()).expect("an iterator");
    iter.seek_to_first().expect("a seek");
    db.drop_keyspace(&cats).expect("a drop");
    let after = db.snapshot();
    db.put(b"more", b"of the rest").expect("a put");
    db.flush().expect("a flush");

    let mut count = 1;
    while iter.valid() {
        iter.next().expect("a step");
        count += 1;
    }
    assert_eq!(count, 201);
    assert_eq!(db.get_in_at(&cats, &before, b"key00007").expect("a get").as_deref(), Some(&b"in memory"[..]));
    assert!(db.get_in_at(&cats, &after, b"key00007").is_err());
    let entries = db.iter_in_at(&cats, &before, Range::all()).expect("an iterator").into_forward();
    assert_eq!(entries.filter(|entry| entry.is_ok()).count(), 200);
    let held = files(&place.path, ".sst").len();
    assert!(held > 1, "tables are held for the snapshot");
    drop((iter, before));
    settle(&db);
    assert_eq!(files(&place.path, ".sst").len(), 1);
}

#[test]
fn many_keys_are_read_from_the_keyspace_that_is_meant_and_from_a_dropped_one_through_a_snapshot() {
    let place = place();
    let db = open(&place.path);
    let (cats, dogs) = (create(&db, "cats"), create(&db, "dogs"));
    fill(&db, &cats, 50);
    db.flush().expect("a flush");
    fill(&db, &dogs, 50);
    db.put(b"key00007", b"neither").expect("a put");
    let names = ["key00049", "key00007", "nobody"];
    let found = |keyspace: &Keyspace| db.multi_get_in(keyspace, &names).expect("a get of many keys").values;
    for keyspace in [&cats, &dogs, &Keyspace::default()] {
        let one_by_one = names.map(|name| db.get_in(keyspace, name.as_bytes()).expect("a get"));
        assert_eq!(found(keyspace), one_by_one);
    }
    let (before, snapshot) = (found(&cats), db.snapshot());
    db.drop_keyspace(&cats).expect("a drop");
    assert!(matches!(db.multi_get_in(&cats, &names), Err(Error::NoSuchKeyspace { .. })));
    assert_eq!(db.multi_get_in_at(&cats, &snapshot, &names).expect("a get of many keys"), before);
}

#[test]
fn an_idle_keyspace_pins_no_log() {
    let place = place();
    let options = Options { wal_bytes_max: 16 * 1024, memtable_bytes: 1 << 20, ..small() };
    let db = Db::open_with(&Env::os(), &place.path, options).expect("the store opens");
    let (idle, busy) = (create(&db, "idle"), create(&db, "busy"));
    db.put_in(&idle, b"once", b"and never again").expect("a put");
    let mut most = 0;
    for round in 0..40 {
        fill(&db, &busy, 50);
        let logs = files(&place.path, ".wal");
        let bytes: u64 = logs.iter().filter_map(|name| Some(fs::metadata(place.path.join(name)).ok()?.len())).sum();
        most = most.max(bytes);
        if round % 10 == 0 {
            db.put_in(&idle, b"now and then", b"a little").expect("a put");
        }
    }
    // Some kilobytes more than the limit, because a log is closed when it is over its share.
    assert!(most < 32 * 1024, "{most} bytes of logs");
    assert_eq!(value(&db, &idle, "once").as_deref(), Some("and never again"));
    drop(db);
    let db = open(&place.path);
    assert_eq!(value(&db, &idle, "once").as_deref(), Some("and never again"));
}

#[test]
fn options_of_a_keyspace_are_used_kept_and_set_anew() {
    let place = place();
    let db = open(&place.path);
    let own = KeyspaceOptions { compression: Some(vec![Compression::Deflate]), ..KeyspaceOptions::default() };
    let plain = KeyspaceOptions { compression: Some(vec![Compression::None]), ..KeyspaceOptions::default() };
    let dense = db.create_keyspace("dense", own.clone()).expect("a new keyspace");
    let loose = db.create_keyspace("loose", plain.clone()).expect("a new keyspace");
    let size_of = |db: &Db, keyspace: &Keyspace| {
        let text = "all work and no play makes a dull block ".repeat(50);
        db.put_in(keyspace, b"text", text.as_bytes()).expect("a put");
        db.compact_range_in(keyspace, None, None).expect("a compaction");
        let stats = db.keyspace_stats(keyspace).expect("it is there");
        assert_eq!((stats.memory_bytes, stats.compaction_debt), (0, 0));
        stats.levels.iter().map(|level| level.bytes).sum::<u64>()
    };
    assert!(4 * size_of(&db, &dense) < size_of(&db, &loose));
    drop(db);
    let db = open(&place.path);
    assert_eq!(db.keyspace_options(&dense).expect("options"), own);
    assert!(4 * size_of(&db, &dense) < size_of(&db, &loose));
    db.set_keyspace_options(&dense, plain.clone()).expect("other options");
    assert!(db.set_keyspace_options(&Keyspace::default(), plain.clone()).is_err());
    assert!(4 * size_of(&db, &dense) > size_of(&db, &loose));
    drop(db);
    assert_eq!(open(&place.path).keyspace_options(&dense).expect("options"), plain);
}

#[test]
fn what_a_transaction_read_is_a_key_of_one_keyspace() {
    let place = place();
    let db = open(&place.path);
    let (cats, dogs) = (create(&db, "cats"), create(&db, "dogs"));
    db.put_in(&cats, b"tom", b"cat").expect("a put");
    let begun = |isolation| {
        let mut txn = Transaction::begin(&db, isolation);
        assert_eq!(txn.get_in(&cats, b"tom").expect("a get").as_deref(), Some(&b"cat"[..]));
        txn.put_in(&dogs, b"count", b"1");
        txn.put(b"count", b"2");
        assert_eq!(txn.scan_in(&dogs, Range::all(), 9).expect("a scan").len(), 1);
        assert_eq!(txn.get_in(&cats, b"count").expect("a get"), None);
        txn
    };
    let txn = begun(Isolation::Serializable);
    db.put_in(&dogs, b"tom", b"a dog with that name").expect("a put");
    assert!(txn.commit(Default::default()).expect_err("it scanned all dogs").is_conflict());
    let txn = begun_without_scan(&db, &cats, &dogs);
    db.put_in(&dogs, b"tom", b"another dog").expect("a put");
    db.put(b"tom", b"of no keyspace").expect("a put");
    txn.commit(Default::default()).expect("nobody wrote what it read");
    let txn = begun_without_scan(&db, &cats, &dogs);
    db.put_in(&cats, b"tom", b"cat").expect("a put");
    assert!(txn.commit(Default::default()).expect_err("it read this cat").is_conflict());

    let mut txn = Transaction::begin(&db, Isolation::Snapshot);
    txn.put_in(&dogs, b"a", b"1");
    let start = txn.savepoint();
    txn.delete_range_in(&dogs, b"", b"z");
    txn.delete_in(&cats, b"tom");
    assert_eq!((txn.get_in(&dogs, b"a").expect("a get"), txn.get_in(&cats, b"tom").expect("a get")), (None, None));
    txn.rollback_to(start);
    assert!(txn.get_in(&dogs, b"a").expect("a get").is_some() && txn.get_in(&cats, b"tom").expect("a get").is_some());
    db.put_in(&cats, b"a", b"another a").expect("a put");
    txn.commit(Default::default()).expect("the key of another keyspace");

    // A keyspace that goes is a conflict for who read from it, and an error for who writes to it.
    let mut reader = begun_without_scan(&db, &cats, &dogs);
    let mut writer = Transaction::begin(&db, Isolation::Serializable);
    writer.put_in(&cats, b"kitty", b"too late");
    db.drop_keyspace(&cats).expect("a drop");
    assert!(reader.get_in(&cats, b"tom").expect("a get from its snapshot").is_some());
    assert!(reader.commit(Default::default()).expect_err("its cats are gone").is_conflict());
    assert!(matches!(writer.commit(Default::default()), Err(Error::NoSuchKeyspace { .. })));
}

fn begun_without_scan<'a>(db: &'a Db, cats: &Keyspace, dogs: &Keyspace) -> Transaction<'a> {
    let mut txn = Transaction::begin(db, Isolation::Serializable);
    txn.get_in(cats, b"tom").expect("a get");
    txn.put_in(dogs, b"count", b"1");
    txn
}

#[test]
fn copies_have_all_keyspaces() {
    let place = place();
    let db = open(&place.path);
    let (cats, dogs) = (create(&db, "cats"), create(&db, "dogs"));
    fill(&db, &cats, 100);
    db.put_in(&dogs, b"bello", b"in the log").expect("a put");
    let gone = create(&db, "gone");
    db.put_in(&gone, b"nothing", b"of this").expect("a put");
    db.drop_keyspace(&gone).expect("a drop");
    let (copy, backups) = (place.path.with_extension("copy"), place.path.with_extension("backups"));
    checkpoint(&db, &copy).expect("a checkpoint");
    let repository = Backups::create(&Env::os(), &backups).expect("a place for backups");
    let made = repository.backup(&db, &mut |_| ()).expect("a backup");
    let restored = place.path.with_extension("restored");
    repository.restore(made.number, &restored, &mut |_| ()).expect("a restore");
    for path in [copy, restored] {
        let other = open(&path);
        assert_eq!(other.keyspaces(), db.keyspaces());
        assert_eq!(keys(&other, &cats).len(), 100);
        assert_eq!(value(&other, &dogs, "bello").as_deref(), Some("in the log"));
        other.check().expect("the copy is sound");
    }
}

#[test]
fn an_entry_of_a_keyspace_that_never_was_is_damage() {
    let place = place();
    let db = open(&place.path);
    let cats = create(&db, "cats");
    db.put_in(&cats, b"tom", b"cat").expect("a put");
    let pinned = db.pin_files().expect("files");
    let (number, list) = (pinned.manifest(), pinned.list().clone());
    let store = db.uuid();
    drop(pinned);
    db.close().expect("a close");
    drop(db);
    let write = |number: u64, list: &VersionEdit| {
        let writer = ManifestWriter::create(&Env::os(), &place.path, number, store, list).expect("a manifest");
        set_current(&Env::os(), &place.path, writer.current()).expect("it counts");
    };
    write(number, &VersionEdit { keyspaces_set: Vec::new(), next_keyspace: None, ..list.clone() });
    let error = Db::open_with(&Env::os(), &place.path, small()).expect_err("damage");
    let told = error.to_string().replace(&place.path.display().to_string(), "STORE");
    insta::assert_snapshot!(told, @"STORE/000002.wal is damaged at byte 0: expected entries of keyspaces below 1, found one of 1; restore the file from a backup, or salvage the store");
    // One that was dropped is no damage, and what the log has of it is passed over.
    write(number + 1, &VersionEdit { keyspaces_set: Vec::new(), ..list });
    assert_eq!(open(&place.path).keyspaces().len(), 1);
}

#[test]
fn keyspaces_are_told_of() {
    let place = place();
    let heard = Arc::new(Mutex::new("what was heard", Vec::new()));
    let ears = heard.clone();
    let listener = Arc::new(move |event: &Event| {
        if matches!(event, Event::KeyspaceCreated { .. } | Event::KeyspaceDropping { .. }) {
            ears.lock().push(format!("{event:?}"));
        }
    });
    let db = Db::open_listening(&Env::os(), &place.path, small(), listener).expect("the store opens");
    let cats = create(&db, "cats");
    db.drop_keyspace(&cats).expect("a drop");
    insta::assert_snapshot!(heard.lock().join("\n"), @r#"
    KeyspaceCreated { keyspace: 1, name: "cats" }
    KeyspaceDropping { keyspace: 1, seqno: 1 }
    "#);
}

#[test]
fn writers_to_many_keyspaces_go_on_while_others_come_and_go() {
    let place = place();
    let db = open(&place.path);
    let lasting: Vec<Keyspace> = (0..3).map(|index| create(&db, &format!("lasting{index}"))).collect();
    std::thread::scope(|scope| {
        for keyspace in &lasting {
            scope.spawn(|| fill(&db, keyspace, 500));
        }
        for name in ["x", "y"] {
            let db = &db;
            scope.spawn(move || {
                for round in 0..20 {
                    let passing = create(db, name);
                    fill(db, &passing, 30);
                    assert_eq!(keys(db, &passing).len(), 30, "round {round}");
                    db.drop_keyspace(&passing).expect("a drop");
                }
            });
        }
    });
    assert!(lasting.iter().all(|keyspace| keys(&db, keyspace).len() == 500));
    db.flush().expect("a flush");
    settle(&db);
    assert_eq!(db.keyspaces().len(), 4);
    drop(db);
    let db = open(&place.path);
    assert!(lasting.iter().all(|keyspace| keys(&db, keyspace).len() == 500));
}
