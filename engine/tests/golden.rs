//! Stores written by earlier versions open, and hold what they held: golden stores of each format version, in `corpus/format/`.
//! Those of version 1 are one from its first days, one with every kind of entry that it came to have but for one, and one with that:
//! large values in blob files. That of version 2 has an archive and a backup beside it.
//!
//! A golden store is written once, when its format version is new, and never again. `GOLDEN_WRITE=1 cargo test --test golden`
//! writes those of the current version that are missing.

#![expect(clippy::disallowed_methods, reason = "these tests stand outside the engine and copy its files from there")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use strata::backup::{Backups, Point};
use strata::batch::{Expiry, WriteBatch};
use strata::db::{Db, Keyspace, Range, WriteOptions};
use strata::env::Env;
use strata::key::SeqNo;
use strata::operator::{Append, MergeOperator};
use strata::options::{Compression, FORMAT_VERSION, KeyspaceOptions, Options};

type Content = BTreeMap<Vec<u8>, Vec<u8>>;

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus/format")
}

/// Small enough that a few hundred keys fill several levels, each with its own compression.
fn options() -> Options {
    Options {
        memtable_bytes: 4096,
        table_bytes: 4096,
        level_base_bytes: 8192,
        level_multiplier: 2,
        l0_compaction_trigger: 2,
        compression: vec![Compression::None, Compression::Lz4, Compression::Deflate],
        block_bytes: 512,
        space_reserve_bytes: 0,
        format_version: 1,
        ..Options::default()
    }
}

/// What the golden store of version 1 holds, and how it came to be there: tables of three levels and three compressions,
/// overwritten and deleted keys, the empty key, a value larger than a block, and a log that was not flushed.
fn write_version_1(db: &Db) -> Content {
    let mut content = Content::new();
    let mut put = |db: &Db, key: &[u8], value: Vec<u8>| {
        db.put(key, &value).expect("a put");
        content.insert(key.to_vec(), value);
    };
    for index in 0..600u32 {
        put(
            db,
            format!("key{index:04}").as_bytes(),
            format!("first {index} ").repeat(1 + index as usize % 3).into_bytes(),
        );
    }
    db.compact_range(None, None).expect("a compaction");
    for index in (0..600u32).step_by(7) {
        put(db, format!("key{index:04}").as_bytes(), format!("second {index}").into_bytes());
    }
    db.flush().expect("a flush");
    put(db, b"", b"the empty key".to_vec());
    put(db, b"\xff\xff", (0..3000u32).map(|byte| (byte % 251) as u8).collect());
    put(db, b"\x00", Vec::new());
    db.flush().expect("a flush");
    let mut batch = WriteBatch::new();
    for index in (0..600u32).step_by(50) {
        let key = format!("key{index:04}").into_bytes();
        batch.delete(&key);
        content.remove(&key);
    }
    batch.put(b"in the log", b"only");
    content.insert(b"in the log".to_vec(), b"only".to_vec());
    db.write(&mut batch, WriteOptions::default()).expect("a batch");
    content
}

/// What the second golden store of version 1 holds: keyspaces with options of their own, one of them dropped, values with expiries
/// near and far, deleted ranges and operands, each of them in tables and in a log that was not flushed. By keyspace.
fn write_all_kinds(db: &Db) -> BTreeMap<String, Content> {
    const FAR_MS: u64 = 32_503_680_000_000;
    let create = |name: &str, own| db.create_keyspace(name, own).expect("a keyspace");
    let counters = create("counters", KeyspaceOptions { merge_operator: Some(Append.name().into()), ..own_options() });
    let gone = create("gone", KeyspaceOptions::default());
    let sessions = create("sessions", KeyspaceOptions { default_ttl_ms: Some(FAR_MS), ..own_options() });
    let mut contents: BTreeMap<String, Content> = BTreeMap::new();
    for round in ["tables", "tables again", "log"] {
        let mut batch = WriteBatch::new();
        for index in 0..60u32 {
            let key = format!("{index:03}").into_bytes();
            batch.put(&key, format!("{round} {index}").as_bytes());
            batch.put_in(&gone, &key, b"of no use");
            batch.put_in(&sessions, &key, format!("session {round} {index}").as_bytes());
            batch.merge_in(&counters, &key, format!("{round};").as_bytes());
        }
        batch.put_expiring(b"010", b"long over", Expiry::At(1));
        batch.put_expiring(b"011", b"not for long", Expiry::At(FAR_MS));
        batch.delete_range(b"020", b"030");
        batch.put(b"025", b"put behind the range");
        batch.delete_range_in(&counters, b"040", b"050");
        batch.delete_in(&counters, b"007");
        batch.merge_in(&counters, b"007", b"anew");
        db.write(&mut batch, WriteOptions::default()).expect("a batch");
        match round {
            "tables" => db.compact_range(None, None).expect("a compaction"),
            "tables again" => db.flush().expect("a flush"),
            _ => {}
        }
    }
    db.drop_keyspace(&gone).expect("a drop");

    let own = contents.entry("default".into()).or_default();
    for index in 0..60u32 {
        let value = match index {
            10 | 20..25 | 26..30 => continue,
            11 => "not for long".into(),
            25 => "put behind the range".into(),
            index => format!("log {index}"),
        };
        own.insert(format!("{index:03}").into_bytes(), value.into_bytes());
    }
    let own = contents.entry("counters".into()).or_default();
    for index in (0..60u32).filter(|index| !(40..50).contains(index)) {
        let value = if index == 7 { "anew" } else { "tables;tables again;log;" };
        own.insert(format!("{index:03}").into_bytes(), value.as_bytes().to_vec());
    }
    let own = contents.entry("sessions".into()).or_default();
    for index in 0..60u32 {
        own.insert(format!("{index:03}").into_bytes(), format!("session log {index}").into_bytes());
    }
    contents
}

/// What the third golden store of version 1 holds: large values in blob files of several tables, old versions of
/// some of them among these, with and without an expiry, and some that are in the log alone. By keyspace.
fn write_large_values(db: &Db) -> BTreeMap<String, Content> {
    const FAR_MS: u64 = 32_503_680_000_000;
    let own = KeyspaceOptions { blob_threshold: Some(100), ..KeyspaceOptions::default() };
    let photos = db.create_keyspace("photos", own).expect("a keyspace");
    let value = |round: u32, index: u32| format!("{round} {index};").repeat(1 + 20 * (index as usize % 3)).into_bytes();
    let key = |index: u32| format!("{index:03}").into_bytes();
    for round in 0..3u32 {
        for index in (0..30).step_by(1 + round as usize) {
            db.put_in(&photos, &key(index), &value(round, index)).expect("a put");
        }
        let mut batch = WriteBatch::new();
        batch.put_expiring_in(&photos, b"expires", &[b'e'; 300], Expiry::At(FAR_MS));
        batch.put(b"small", b"in the default keyspace");
        db.write(&mut batch, WriteOptions::default()).expect("a batch");
        match round {
            0 => db.compact_range_in(&photos, None, None).expect("a compaction"),
            1 => db.flush().expect("a flush"),
            _ => {}
        }
    }
    let content = (0..30).map(|index| {
        let round = if index % 3 == 0 { 2 } else { u32::from(index % 2 == 0) };
        (key(index), value(round, index))
    });
    let mut content: Content = content.collect();
    content.insert(b"expires".to_vec(), vec![b'e'; 300]);
    let default = Content::from([(b"small".to_vec(), b"in the default keyspace".to_vec())]);
    BTreeMap::from([("default".to_string(), default), ("photos".to_string(), content)])
}

fn own_options() -> KeyspaceOptions {
    KeyspaceOptions {
        block_bytes: Some(256),
        compression: Some(vec![Compression::Deflate]),
        ..KeyspaceOptions::default()
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("the golden store") {
        let entry = entry.expect("an entry");
        fs::copy(entry.path(), to.join(entry.file_name())).expect("a copy");
    }
}

fn content_of(db: &Db) -> Content {
    let entries = db.iter(Range::all()).expect("an iterator").into_forward();
    entries.map(|entry| entry.expect("an entry")).map(|(key, value)| (key, value.to_vec())).collect()
}

fn contents_of(db: &Db) -> BTreeMap<String, Content> {
    let content = |keyspace: &Keyspace| -> Content {
        let entries = db.iter_in(keyspace, Range::all()).expect("an iterator").into_forward();
        entries.map(|entry| entry.expect("an entry")).map(|(key, value)| (key, value.to_vec())).collect()
    };
    db.keyspaces().iter().map(|keyspace| (keyspace.name().to_string(), content(keyspace))).collect()
}

#[test]
fn the_golden_store_with_all_kinds_of_entries_opens_and_holds_what_it_held() {
    let scratch = tempfile::tempdir().expect("a directory");
    let fresh = Db::open_with(&Env::os(), &scratch.path().join("fresh"), options()).expect("a new store");
    let expected = write_all_kinds(&fresh);
    assert!(contents_of(&fresh) == expected, "a store of today holds what was written");
    fresh.close().expect("a close");

    let golden = corpus().join("v1-all-kinds");
    if !golden.exists() && std::env::var_os("GOLDEN_WRITE").is_some() {
        copy(&scratch.path().join("fresh"), &golden);
    }
    let copied = scratch.path().join("copied");
    copy(&golden, &copied);
    let reader = Db::open_read_only(&copied).expect("it can be looked at");
    assert_eq!(reader.get(b"025").expect("a get").as_deref(), Some(&b"put behind the range"[..]));
    drop(reader);
    let db = Db::open_with(&Env::os(), &copied, options()).expect("the golden store opens");
    assert!(contents_of(&db) == expected, "the golden store holds other things than it held");
    db.check().expect("the golden store is sound");
    let counters = db.keyspace("counters").expect("it is there");
    assert_eq!(db.keyspace_options(&counters).expect("its options").block_bytes, Some(256));

    db.merge_in(&counters, b"000", b"today").expect("an operand");
    for keyspace in db.keyspaces() {
        db.compact_range_in(&keyspace, None, None).expect("a compaction");
    }
    db.close().expect("a close");
    drop(db);
    let db = Db::open_with(&Env::os(), &copied, options()).expect("it opens again");
    let mut expected = expected;
    expected.get_mut("counters").and_then(|own| own.get_mut(&b"000"[..])).expect("a value").extend(b"today");
    assert!(contents_of(&db) == expected, "after a compaction of all");
    db.check().expect("it is still sound");
}

#[test]
fn the_golden_store_with_large_values_opens_and_holds_what_it_held() {
    let scratch = tempfile::tempdir().expect("a directory");
    let fresh = Db::open_with(&Env::os(), &scratch.path().join("fresh"), options()).expect("a new store");
    let expected = write_large_values(&fresh);
    assert!(contents_of(&fresh) == expected, "a store of today holds what was written");
    fresh.close().expect("a close");

    let golden = corpus().join("v1-blobs");
    if !golden.exists() && std::env::var_os("GOLDEN_WRITE").is_some() {
        copy(&scratch.path().join("fresh"), &golden);
    }
    let copied = scratch.path().join("copied");
    copy(&golden, &copied);
    let db = Db::open_with(&Env::os(), &copied, options()).expect("the golden store opens");
    assert!(contents_of(&db) == expected, "the golden store holds other things than it held");
    db.check().expect("the golden store is sound");
    let stats = db.stats().blobs;
    assert!(stats.files > 2 && stats.live_values > 25, "{stats:?}");
    let photos = db.keyspace("photos").expect("it is there");
    assert_eq!(db.keyspace_options(&photos).expect("its options").blob_threshold, Some(100));

    for _ in 0..3 {
        db.compact_range_in(&photos, None, None).expect("a compaction");
    }
    db.close().expect("a close");
    drop(db);
    let db = Db::open_with(&Env::os(), &copied, options()).expect("it opens again");
    assert!(contents_of(&db) == expected, "after compactions of all");
    db.check().expect("it is still sound");
}

#[test]
fn the_golden_store_of_version_1_opens_and_holds_what_it_held() {
    let scratch = tempfile::tempdir().expect("a directory");
    let fresh = Db::open_with(&Env::os(), &scratch.path().join("fresh"), options()).expect("a new store");
    let expected = write_version_1(&fresh);
    fresh.close().expect("a close");

    let golden = corpus().join("v1");
    if !golden.exists() && std::env::var_os("GOLDEN_WRITE").is_some() {
        copy(&scratch.path().join("fresh"), &golden);
    }
    let copied = scratch.path().join("copied");
    copy(&golden, &copied);
    let db = Db::open_with(&Env::os(), &copied, options()).expect("the golden store opens");
    assert!(content_of(&db) == expected, "the golden store holds other things than it held");
    let report = db.check().expect("the golden store is sound");
    assert!(report.levels.iter().filter(|level| level.tables > 0).count() >= 2, "it has several levels: {report}");

    // It is written to and compacted like any other.
    db.put(b"key0001", b"third").expect("a put");
    db.compact_range(None, None).expect("a compaction");
    db.close().expect("a close");
    drop(db);
    let db = Db::open_with(&Env::os(), &copied, options()).expect("it opens again");
    assert_eq!(db.get(b"key0001").expect("a get").as_deref(), Some(&b"third"[..]));
    assert_eq!(content_of(&db).len(), expected.len());
    db.check().expect("it is still sound");
}

/// What the golden store of version 2 holds, which is archived: keyspaces that came and went between logs, a backup, logs in the archive
/// and one that waits. Returns what there was at the last write in the archive, and what there is, by keyspace.
fn write_version_2(home: &Path) -> (SeqNo, BTreeMap<String, Content>, BTreeMap<String, Content>) {
    let options = Options { archive: Some(home.join("archive")), format_version: 2, ..options() };
    let db = Db::open_with(&Env::os(), &home.join("store"), options).expect("a store");
    let fruit = db.create_keyspace("fruit", own_options()).expect("a keyspace");
    db.put_in(&fruit, b"apple", b"red").expect("a put");
    db.put(b"one", b"1").expect("a put");
    let backups = Backups::create(&Env::os(), &home.join("backups")).expect("a directory of backups");
    backups.backup(&db, &mut |_| ()).expect("a backup");
    for index in 0..200u32 {
        db.put(format!("key{index:04}").as_bytes(), &[index as u8; 40]).expect("a put");
    }
    db.drop_keyspace(&fruit).expect("a drop");
    db.put_in(&db.create_keyspace("trees", own_options()).expect("a keyspace"), b"oak", b"tall").expect("a put");
    let archived = db.archive_now().expect("archived");
    let then = contents_of(&db);
    db.delete(b"one").expect("a delete");
    let now = contents_of(&db);
    db.close().expect("a close");
    (archived, then, now)
}

#[test]
fn the_golden_store_of_version_2_opens_and_its_archive_is_restored() {
    let scratch = tempfile::tempdir().expect("a directory");
    let fresh = scratch.path().join("fresh");
    fs::create_dir(&fresh).expect("a directory");
    let (archived, then, now) = write_version_2(&fresh);
    let (golden, copied) = (corpus().join("v2"), scratch.path().join("copied"));
    for part in ["store", "archive", "backups"] {
        if !golden.join(part).exists() && std::env::var_os("GOLDEN_WRITE").is_some() {
            copy(&fresh.join(part), &golden.join(part));
        }
        copy(&golden.join(part), &copied.join(part));
    }
    let options = || Options { archive: Some(copied.join("archive")), ..options() };
    let db = Db::open_with(&Env::os(), &copied.join("store"), options()).expect("the golden store opens");
    assert_eq!(db.format_version(), 2);
    assert!(contents_of(&db) == now, "the golden store holds other things than it held");
    db.check().expect("it is sound");
    let later = db.archive_now().expect("what it had not archived follows");
    assert!(later > archived);
    drop(db);

    let backups = Backups::open(&Env::os(), &copied.join("backups")).expect("its backups");
    for (seqno, content) in [(archived, then), (later, now)] {
        let target = scratch.path().join(format!("restored-{seqno}"));
        let restored = backups.restore_to(&copied.join("archive"), Point::Seqno(seqno), &target, &mut |_| ());
        assert_eq!(restored.expect("the point can be reached").seqno, seqno);
        let db = Db::open_with(&Env::os(), &target, Options { archive: None, ..options() }).expect("a store");
        assert!(contents_of(&db) == content, "at {seqno}");
    }
}

/// The version that stands in the header of the newest log.
fn newest_log_version(store: &Path) -> u32 {
    let logs = fs::read_dir(store).expect("the store").map(|entry| entry.expect("an entry").path());
    let newest = logs.filter(|path| path.extension().is_some_and(|ending| ending == "wal")).max();
    let bytes = fs::read(newest.expect("every store has a log")).expect("the log");
    u32::from_le_bytes(bytes[8..12].try_into().expect("four bytes"))
}

#[test]
fn golden_stores_are_upgraded_only_when_that_is_asked_for_and_hold_what_they_held() {
    for golden in ["v1", "v1-all-kinds", "v1-blobs"] {
        let scratch = tempfile::tempdir().expect("a directory");
        copy(&corpus().join(golden), scratch.path());
        let open =
            || Db::open_with(&Env::os(), scratch.path(), Options { format_version: FORMAT_VERSION, ..options() });
        let db = open().expect("the golden store opens");
        let content = contents_of(&db);
        assert_eq!((db.format_version(), newest_log_version(scratch.path())), (1, 1), "{golden}");
        db.upgrade().expect("an upgrade");
        db.upgrade().expect("nothing is left to do");
        assert_eq!(db.format_version(), FORMAT_VERSION);
        db.put(b"behind", b"the upgrade").expect("a put");
        assert_eq!(newest_log_version(scratch.path()), 1, "a log has the version that it was begun with");
        db.flush().expect("a flush");
        assert_eq!(newest_log_version(scratch.path()), FORMAT_VERSION);
        drop(db);

        let db = Db::open_with(&Env::os(), scratch.path(), options()).expect("it opens again");
        assert_eq!(db.format_version(), FORMAT_VERSION, "the option is for stores that are new");
        assert_eq!(db.get(b"behind").expect("a get").as_deref(), Some(&b"the upgrade"[..]));
        db.delete(b"behind").expect("a delete");
        assert!(contents_of(&db) == content, "{golden} holds other things than it held");
        db.check().expect("it is sound");
    }
}
