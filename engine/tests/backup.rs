//! Copies of a store as their users meet them, on the real file system. What a crash leaves of one that is being made is the
//! simulator's business.

#![expect(clippy::disallowed_methods, reason = "these tests stand outside the engine and damage its files from there")]

use std::fs;
use std::path::{Path, PathBuf};
use strata::backup::checkpoint;
use strata::db::{Db, Range};
use strata::env::Env;
use strata::error::Error;
use strata::options::{Durability, Options};

struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        Place { dir: tempfile::tempdir().expect("a directory") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn open(&self, name: &str) -> Db {
        open(&self.path(name)).expect("a store")
    }

    /// An error as a user reads it, without the directory of this run.
    fn told(&self, error: &Error) -> String {
        error.to_string().replace(&self.dir.path().display().to_string(), "HOME")
    }
}

fn open(path: &Path) -> Result<Db, Error> {
    let options = Options {
        memtable_bytes: 4096,
        table_bytes: 2048,
        level_base_bytes: 8192,
        l0_compaction_trigger: 2,
        block_bytes: 256,
        durability: Durability::Buffered,
        ..Options::default()
    };
    Db::open_with(&Env::os(), path, options)
}

fn fill(db: &Db, from: u32, to: u32, value: &str) {
    for index in from..to {
        db.put(format!("key{index:06}").as_bytes(), value.as_bytes()).expect("a put");
    }
}

fn all(db: &Db) -> Vec<(Vec<u8>, Vec<u8>)> {
    let entries = db.iter(Range::all()).expect("an iterator").into_forward();
    entries.map(|entry| entry.expect("an entry")).map(|(key, value)| (key.to_vec(), value.to_vec())).collect()
}

fn names(path: &Path) -> Vec<String> {
    let entries = fs::read_dir(path).expect("a directory");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn a_checkpoint_shows_its_moment_and_goes_its_own_way() {
    let place = Place::new();
    let db = place.open("store");
    fill(&db, 0, 300, "in tables");
    db.flush().expect("a flush");
    fill(&db, 300, 320, "in the log");
    let before = all(&db);
    let made = checkpoint(&db, &place.path("copy")).expect("a checkpoint");
    assert_eq!(made.seqno, 320);

    // The log that both share gets longer, and then both the log and the tables go.
    fill(&db, 0, 320, "later");
    db.compact_range(None, None).expect("a compaction");
    let copy = place.open("copy");
    assert_eq!(all(&copy), before);
    copy.check().expect("a sound store");

    fill(&copy, 0, 10, "only here");
    copy.compact_range(None, None).expect("a compaction");
    copy.close().expect("a close");
    assert!(all(&db).iter().all(|(_, value)| value == b"later"));
    db.check().expect("a sound store");
}

#[test]
fn a_checkpoint_can_be_made_of_a_checkpoint_and_of_an_empty_store() {
    let place = Place::new();
    let empty = place.open("empty");
    checkpoint(&empty, &place.path("first")).expect("a checkpoint");
    let first = place.open("first");
    assert!(all(&first).is_empty());
    fill(&first, 0, 5, "first");
    checkpoint(&first, &place.path("second")).expect("a checkpoint");
    assert_eq!(all(&place.open("second")), all(&first));
}

#[test]
fn a_directory_that_holds_something_is_refused_and_left_alone() {
    let place = Place::new();
    let db = place.open("store");
    fs::create_dir(place.path("copy")).expect("a directory");
    checkpoint(&db, &place.path("copy")).expect("an empty directory will do");
    let before = names(&place.path("copy"));
    let error = checkpoint(&db, &place.path("copy")).expect_err("it is not empty");
    insta::assert_snapshot!(place.told(&error), @r#"HOME/copy holds "000002.wal", and must be empty or not there yet; choose another directory, or remove what an attempt that was cut short has left in it"#);
    assert_eq!(names(&place.path("copy")), before);
}

#[test]
fn a_checkpoint_that_fails_takes_back_what_it_made() {
    let place = Place::new();
    let db = place.open("store");
    fill(&db, 0, 10, "a");
    db.flush().expect("a flush");
    let log = names(&place.path("store")).into_iter().rfind(|name| name.ends_with(".wal")).expect("a log");
    fs::remove_file(place.path("store").join(log)).expect("somebody removes a file of the store");
    let error = checkpoint(&db, &place.path("copy")).expect_err("the log comes last, and is missing");
    assert!(error.is_not_found(), "{error}");
    assert!(!place.path("copy").exists());
}

#[test]
fn a_checkpoint_that_was_cut_short_is_not_taken_for_a_new_store() {
    let place = Place::new();
    let db = place.open("store");
    fill(&db, 0, 10, "a");
    checkpoint(&db, &place.path("copy")).expect("a checkpoint");
    fs::remove_file(place.path("copy").join("CURRENT")).expect("as before the last step");
    let error = open(&place.path("copy")).expect_err("it is not finished");
    insta::assert_snapshot!(place.told(&error), @"HOME/copy/CURRENT is damaged at byte 0: expected the file that names the manifest, found none, though there are files of a store; restore the file from a backup, or salvage the store");
}
