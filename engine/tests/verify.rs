//! Verifications of stores that are open, and of the files of those that are not: every byte that counts, and nothing else.

#![expect(clippy::disallowed_methods, reason = "these tests stand outside the engine and damage its files from there")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use strata::db::{Db, Verification, verify_files};
use strata::env::Env;
use strata::error::Error;
use strata::filename::FileKind;
use strata::options::{Durability, Options};

fn options() -> Options {
    Options { memtable_bytes: 4096, space_reserve_bytes: 0, durability: Durability::Buffered, ..Options::default() }
}

fn open(dir: &Path) -> Db {
    Db::open_with(&Env::os(), dir, options()).expect("a store")
}

fn verified(db: &Db) -> Verification {
    db.verify(&mut |_| ()).expect("a verification")
}

fn files_verified(dir: &Path) -> Verification {
    verify_files(&Env::os(), dir, &Options::default(), &mut |_| ()).expect("a verification")
}

/// A store with tables in two levels, range deletes among them, and with entries in its log.
fn store(dir: &Path) -> Db {
    let db = open(dir);
    for round in 0..3u32 {
        for key in 0..40u32 {
            db.put(format!("key{key:03}").as_bytes(), &round.to_le_bytes().repeat(9)).expect("a put");
        }
        db.delete_range(b"key010", b"key012").expect("a range delete");
        db.flush().expect("a flush");
        if round == 1 {
            db.compact_range(None, None).expect("a compaction");
        }
    }
    for key in 0..5u32 {
        db.put(format!("key{key:03}").as_bytes(), b"odd").expect("a put");
    }
    db
}

/// Flips a bit in each byte of a file in turn, as far as these bytes count, and hands on what is found then.
fn flipped(path: &Path, bytes: u64, step: usize, mut each: impl FnMut(usize)) {
    let whole = fs::read(path).expect("a file");
    for at in (0..bytes as usize).step_by(step) {
        let mut damaged = whole.clone();
        damaged[at] ^= 1 << (at % 8);
        fs::write(path, &damaged).expect("damage");
        each(at);
    }
    fs::write(path, &whole).expect("mended");
}

fn paths(found: &Verification, dir: &Path) -> Vec<(PathBuf, u64)> {
    found.files.iter().map(|(name, &bytes)| (dir.join(name), bytes)).collect()
}

#[test]
fn every_byte_that_counts_is_looked_at_while_the_store_is_open() {
    let dir = tempfile::tempdir().expect("a directory");
    let db = store(dir.path());
    let sound = verified(&db);
    assert!(sound.is_sound(), "{sound}");
    assert!(sound.tables >= 2 && sound.logs == 1 && sound.batches == 5, "{sound}");
    let kinds: Vec<&str> = sound.files.keys().map(String::as_str).collect();
    assert!(kinds.contains(&"CURRENT") && kinds.contains(&"IDENTITY"), "{kinds:?}");
    for (path, bytes) in paths(&sound, dir.path()) {
        let kind = FileKind::parse(path.file_name().unwrap().to_str().unwrap()).unwrap();
        flipped(&path, bytes, if matches!(kind, FileKind::Sst(_)) { 131 } else { 7 }, |at| {
            let found = verified(&db);
            assert!(!found.damage.is_empty(), "byte {at} of {path:?}");
            assert!(found.damage.iter().all(|damage| damage.file == kind), "byte {at} of {path:?}: {found}");
        });
    }
    assert!(verified(&db).is_sound(), "all is mended");
}

#[test]
fn the_files_of_a_store_are_verified_without_opening_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let db = store(dir.path());
    let beside = files_verified(dir.path());
    assert!(beside.is_sound() && beside.batches == 5, "{beside}");
    db.close().expect("closed");
    let before: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    let sound = files_verified(dir.path());
    let after: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!((sound.is_sound(), before), (true, after), "{sound}");
    for (path, bytes) in paths(&sound, dir.path()) {
        let kind = FileKind::parse(path.file_name().unwrap().to_str().unwrap()).unwrap();
        // The last edit of a manifest that nobody has open may have been torn, and what lies between the records of a log says
        // nothing to one who did not write them.
        let bytes = match kind {
            FileKind::Manifest(_) => 40,
            FileKind::Wal(_) => 80,
            _ => bytes,
        };
        flipped(&path, bytes, if matches!(kind, FileKind::Sst(_)) { 131 } else { 5 }, |at| {
            let found = verify_files(&Env::os(), dir.path(), &Options::default(), &mut |_| ()).expect("a verification");
            assert!(found.damage.iter().any(|damage| damage.file == kind), "byte {at} of {path:?}: {found}");
        });
    }
}

#[test]
fn damage_is_told_block_by_block_with_the_keys_that_it_touches() {
    let dir = tempfile::tempdir().expect("a directory");
    let options = Options { block_bytes: 256, memtable_bytes: 1 << 20, ..options() };
    let db = Db::open_with(&Env::os(), dir.path(), options).expect("a store");
    for key in 0..200u32 {
        db.put(format!("key{key:03}").as_bytes(), &key.to_le_bytes().repeat(4)).expect("a put");
    }
    db.flush().expect("a flush");
    let mut files = paths(&verified(&db), dir.path()).into_iter();
    let (path, _) = files.find(|(path, _)| path.extension().is_some_and(|end| end == "sst")).expect("a table");
    let mut bytes = fs::read(&path).expect("a table");
    bytes[10] ^= 1;
    bytes[1000] ^= 1;
    fs::write(&path, bytes).expect("damage");
    let found = verified(&db);
    let [first, second] = &found.damage[..] else { panic!("two blocks: {found}") };
    let (from, to) = first.keys.as_ref().expect("keys");
    assert!(from <= to && to[..] < b"key030"[..], "{first}");
    assert!(second.keys.as_ref().expect("keys").0 >= *to, "{second}");
    assert_eq!((first.keyspace, first.level), (Some(0), Some(0)));
    assert!(first.to_string().contains("restore the file from a backup"), "{first}");
}

#[test]
fn nothing_is_damaged_where_files_are_only_replaced() {
    let dir = tempfile::tempdir().expect("a directory");
    let options = Options { memtable_bytes: 1024, manifest_bytes_min: 256, ..options() };
    let db = Db::open_with(&Env::os(), dir.path(), options).expect("a store");
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for key in 0..1500u32 {
                let key = (key.wrapping_mul(7919) % 300).to_string();
                db.put(key.as_bytes(), &[7; 40]).expect("a put");
            }
            over.store(true, Ordering::Release);
        });
        let mut rounds = 0;
        while !over.load(Ordering::Acquire) || rounds < 2 {
            let found = verified(&db);
            assert!(found.is_sound(), "{found}");
            let beside = verify_files(&Env::os(), dir.path(), &Options::default(), &mut |_| ());
            assert!(beside.as_ref().is_ok_and(Verification::is_sound), "{beside:?}");
            rounds += 1;
        }
    });
}

#[test]
fn closing_the_store_ends_a_verification() {
    let dir = tempfile::tempdir().expect("a directory");
    let db = store(dir.path());
    let mut told = 0;
    let ended = db.verify(&mut |progress| {
        told += 1;
        assert!(progress.bytes_done <= progress.bytes_total);
        db.close().expect("closed");
    });
    assert!(matches!(ended, Err(Error::Closed)), "{ended:?}");
    assert_eq!(told, 1);
}
