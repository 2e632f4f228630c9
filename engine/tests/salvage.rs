//! Damaged stores and what is left of them, on the real file system.

#![expect(clippy::disallowed_methods, reason = "these tests stand outside the engine and damage its files from there")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use strata::checksum;
use strata::db::{Db, Range};
use strata::env::Env;
use strata::options::{KeyspaceOptions, Options};
use strata::salvage::{SalvageReport, salvage};

/// Nothing is compacted unless it is asked for.
fn quiet() -> Options {
    Options {
        memtable_bytes: 1 << 20,
        block_bytes: 256,
        l0_compaction_trigger: 1000,
        l0_slowdown_trigger: 1000,
        l0_stop_trigger: 1001,
        ..Options::default()
    }
}

struct Place {
    _dir: tempfile::TempDir,
    broken: PathBuf,
    mended: PathBuf,
}

fn place() -> Place {
    let dir = tempfile::tempdir().expect("a directory");
    let (broken, mended) = (dir.path().join("broken"), dir.path().join("mended"));
    Place { _dir: dir, broken, mended }
}

impl Place {
    fn open(&self) -> Db {
        Db::open_with(&Env::os(), &self.broken, quiet()).expect("the store opens")
    }

    /// Salvages; the damaged store must be as it was.
    fn salvage(&self) -> (SalvageReport, Db) {
        let before = picture(&self.broken);
        let report = salvage(&Env::os(), &self.broken, &self.mended, quiet(), &mut |_| ()).expect("a salvage");
        assert_eq!(picture(&self.broken), before, "the damaged store is only read");
        (report, Db::open_with(&Env::os(), &self.mended, quiet()).expect("the new store opens"))
    }

    /// The files whose names end so, oldest first.
    fn files(&self, ending: &str) -> Vec<PathBuf> {
        let names = picture(&self.broken).into_keys().filter(|name| name.ends_with(ending) || name.starts_with(ending));
        names.map(|name| self.broken.join(name)).collect()
    }
}

fn picture(path: &Path) -> BTreeMap<String, u32> {
    let entry = |entry: std::io::Result<fs::DirEntry>| {
        let entry = entry.expect("an entry");
        let bytes = fs::read(entry.path()).expect("bytes");
        (entry.file_name().to_string_lossy().into_owned(), checksum::masked(&bytes))
    };
    fs::read_dir(path).expect("a directory").map(entry).collect()
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).expect("a file");
    bytes[at] ^= 0x10;
    fs::write(path, bytes).expect("damage");
}

fn all(db: &Db) -> BTreeMap<String, String> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
    let entries = db.iter(Range::all()).expect("an iterator").into_forward();
    entries.map(|entry| entry.expect("an entry")).map(|(key, value)| (text(&key), text(&value))).collect()
}

fn key(index: u32) -> String {
    format!("key{index:04}")
}

fn put(db: &Db, from: u32, to: u32, value: &str) {
    for index in from..to {
        db.put(key(index).as_bytes(), value.as_bytes()).expect("a put");
    }
}

#[test]
fn a_damaged_block_costs_its_keys_and_an_older_table_answers_for_them_in_doubt() {
    let place = place();
    let db = place.open();
    put(&db, 0, 300, "old");
    db.flush().expect("a flush");
    put(&db, 100, 200, "new");
    db.delete_range(b"key0200", b"key0250").expect("a range delete");
    db.delete(b"key0299").expect("a delete");
    db.flush().expect("a flush");
    db.close().expect("a close");
    flip(&place.files(".sst")[1], 700);
    let (report, mended) = place.salvage();
    let found = all(&mended);
    let stale = (100..200).filter(|&index| found[&key(index)] == "old").count();
    assert!((1..40).contains(&stale), "{stale} keys have the value that they had before");
    assert!(report.keyspaces[0].in_doubt >= stale as u64 && !report.is_whole() && !report.logs_have_holes());
    assert_eq!(found.len(), 300 - 50 - 1, "what was deleted stays so");
    assert_eq!(report.keyspaces[0].keys, found.len() as u64);
    assert!(report.to_string().contains("may have had a newer value, or have been deleted"), "{report}");
}

#[test]
fn a_table_that_is_missing_is_told_with_its_keys_and_the_others_are_kept() {
    let place = place();
    let db = place.open();
    put(&db, 0, 100, "first");
    db.flush().expect("a flush");
    put(&db, 100, 200, "second");
    db.flush().expect("a flush");
    db.close().expect("a close");
    fs::remove_file(&place.files(".sst")[0]).expect("it goes");
    let (report, mended) = place.salvage();
    assert_eq!(all(&mended).into_keys().collect::<Vec<_>>(), (100..200).map(key).collect::<Vec<_>>());
    let text = report.to_string();
    assert!(text.contains("keys from \"key0000\" to \"key0099\"") && text.contains("No such file"), "{text}");
}

#[test]
fn a_log_is_read_behind_its_holes() {
    let place = place();
    let db = place.open();
    put(&db, 0, 50, "logged");
    db.delete(b"key0049").expect("a delete");
    let log = fs::read(&place.files(".wal")[0]).expect("the log, before a trailer");
    db.close().expect("a close");
    // Two records that do not lie side by side.
    let len = log.len() / 51;
    flip(&place.files(".wal")[0], 48 + 10 * len + 20);
    flip(&place.files(".wal")[0], 48 + 30 * len + 20);
    assert!(Db::open_with(&Env::os(), &place.broken, quiet()).is_err());
    let (report, mended) = place.salvage();
    let found = all(&mended);
    assert!(found.len() == 47 || found.len() == 48, "{found:?}");
    assert!(found.contains_key(&key(48)) && !found.contains_key(&key(49)) && report.logs_have_holes());
    assert!(report.to_string().contains("000004.wal: lost ") || report.to_string().contains(".wal: lost "), "{report}");
    assert_eq!(report.files.iter().map(|file| file.lost.len()).sum::<usize>(), 2, "{report}");
}

#[test]
fn keyspaces_expiries_and_deletes_are_kept_whether_the_list_is_whole_or_lost() {
    for damage in ["nothing", "CURRENT", "the last edit", "MANIFEST"] {
        let place = place();
        let db = place.open();
        let options = KeyspaceOptions { block_bytes: Some(128), default_ttl_ms: Some(3_600_000), ..Default::default() };
        let cats = db.create_keyspace("cats", options.clone()).expect("a keyspace");
        let gone = db.create_keyspace("gone", KeyspaceOptions::default()).expect("a keyspace");
        put(&db, 0, 100, "value");
        db.put_in(&cats, b"tom", b"cat").expect("a put");
        db.put_in(&gone, b"tom", b"neither").expect("a put");
        db.put_expiring(b"key0001", b"late", Duration::from_secs(3600)).expect("a put");
        db.put_expiring(b"key0002", b"over", Duration::ZERO).expect("a put");
        db.flush().expect("a flush");
        db.delete_range(b"key0010", b"key0020").expect("a range delete");
        db.drop_keyspace(&gone).expect("a drop");
        db.put_in(&cats, b"kitty", b"cat").expect("a put");
        db.close().expect("a close");
        let manifest = place.files("MANIFEST-").pop().expect("a manifest");
        match damage {
            "CURRENT" => fs::remove_file(place.broken.join("CURRENT")).expect("it goes"),
            "the last edit" => flip(&manifest, fs::read(&manifest).expect("the manifest").len() - 20),
            "MANIFEST" => fs::remove_file(&manifest).expect("it goes"),
            _ => {}
        }
        let (report, mended) = place.salvage();
        assert_eq!(report.list_lost.is_some(), damage == "MANIFEST", "{damage}: {report}");
        let name = if damage == "MANIFEST" { "salvaged-1" } else { "cats" };
        let found = mended.keyspace(name).unwrap_or_else(|| panic!("{damage}: keyspace {name} is there"));
        assert_eq!(mended.get_in(&found, b"tom").expect("a get").as_deref(), Some(&b"cat"[..]));
        assert_eq!(mended.get_in(&found, b"kitty").expect("a get").as_deref(), Some(&b"cat"[..]));
        if damage != "MANIFEST" {
            assert_eq!(mended.keyspace_options(&found).expect("options"), options);
        }
        // The edit that is lost was that of the drop; without any list nothing tells of a keyspace that has no files.
        let is_back = damage == "the last edit";
        assert_eq!(mended.keyspaces().len(), if is_back { 3 } else { 2 }, "{damage}");
        let found = all(&mended);
        assert_eq!((found.len(), found[&key(1)].as_str()), (100 - 1 - 10, "late"), "{damage}");
        let mut iter = mended.iter(Range::all()).expect("an iterator");
        iter.seek(b"key0005").expect("a seek");
        assert_eq!(iter.value().as_ref(), b"value");
    }
}

#[test]
fn what_is_no_store_is_refused_and_a_target_that_is_taken_is_left_alone() {
    let place = place();
    fs::create_dir(&place.broken).expect("a directory");
    let refused =
        salvage(&Env::os(), &place.broken, &place.mended, quiet(), &mut |_| ()).expect_err("nothing is there");
    assert!(refused.to_string().contains("no tables, logs or manifests"), "{refused}");
    assert!(!place.mended.exists());
    put(&place.open(), 0, 10, "value");
    let other = Db::open_with(&Env::os(), &place.mended, quiet()).expect("a store");
    put(&other, 0, 1, "other");
    other.close().expect("a close");
    let before = picture(&place.mended);
    let refused = salvage(&Env::os(), &place.broken, &place.mended, quiet(), &mut |_| ()).expect_err("it is taken");
    assert!(refused.to_string().contains("holds a store already"), "{refused}");
    assert_eq!(picture(&place.mended), before);
}

#[test]
fn operands_are_kept_upon_what_they_are_merged_upon_where_their_operator_is_known() {
    let place = place();
    let db = place.open();
    let append = || KeyspaceOptions { merge_operator: Some("strata.append".into()), ..KeyspaceOptions::default() };
    let notes = db.create_keyspace("notes", append()).expect("a keyspace");
    for key in [b"base", b"gone"] {
        db.put_in(&notes, key, b"0").expect("a put");
    }
    for (operand, is_flushed) in [(b"1", true), (b"2", true), (b"3", false)] {
        for key in [&b"base"[..], b"none", b"gone"] {
            db.merge_in(&notes, key, operand).expect("an operand");
        }
        if operand == b"2" {
            db.delete_in(&notes, b"gone").expect("a delete");
        }
        if is_flushed {
            db.flush().expect("a flush");
        }
    }
    db.close().expect("a close");
    let read = |mended: &Db, name: &str| -> Vec<Option<String>> {
        let notes = mended.keyspace(name).expect("it is there");
        let found = mended.multi_get_in(&notes, &["base", "none", "gone"]).expect("a read").values;
        found.into_iter().map(|value| value.map(|value| String::from_utf8(value.to_vec()).expect("text"))).collect()
    };
    let told = |texts: [&str; 3]| texts.map(|text| Some(text.to_string())).to_vec();

    fs::remove_file(place.broken.join("CURRENT")).expect("it goes");
    let (report, mended) = place.salvage();
    assert!(report.is_whole(), "{report}");
    assert_eq!(read(&mended, "notes"), told(["0123", "123", "3"]));
    drop(mended);

    // Nobody knows any more what merges them.
    fs::remove_dir_all(&place.mended).expect("it goes");
    place.files("MANIFEST").iter().for_each(|manifest| fs::remove_file(manifest).expect("it goes"));
    let (report, mended) = place.salvage();
    let id = report.keyspaces.iter().find(|keyspace| keyspace.unmerged > 0).expect("some are left out");
    assert_eq!((id.keys, id.unmerged), (1, 3), "{report}");
    // The first flush had merged what was in one memtable.
    assert_eq!(read(&mended, &id.name), vec![Some("01".into()), None, None]);
}
