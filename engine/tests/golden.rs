//! Stores written by earlier versions open, and hold what they held: one golden store for each format version, in
//! `corpus/format/`.
//!
//! A golden store is written once, when its format version is new, and never again. `GOLDEN_WRITE=1 cargo test --test golden`
//! writes the one of the current version where there is none yet.

#![expect(clippy::disallowed_methods, reason = "these tests stand outside the engine and copy its files from there")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use strata::batch::WriteBatch;
use strata::db::{Db, Range, WriteOptions};
use strata::env::Env;
use strata::options::{Compression, Options};

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
