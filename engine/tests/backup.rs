//! Copies of a store as their users meet them, on the real file system. What a crash leaves of one that is being made is the
//! simulator's business.

#![expect(clippy::disallowed_methods, reason = "these tests stand outside the engine and damage its files from there")]

use std::fs;
use std::path::{Path, PathBuf};
use strata::backup::{Backups, checkpoint};
use strata::db::{Db, Range};
use strata::env::Env;
use strata::error::Error;
use strata::filename::FileKind;
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

#[test]
fn backups_are_incremental_and_each_restores_its_own_moment() {
    let place = Place::new();
    let db = place.open("store");
    let backups = Backups::create(&Env::os(), &place.path("backups")).expect("a directory");
    fill(&db, 0, 300, "one");
    db.compact_range(None, None).expect("a compaction");
    let first = (backups.backup(&db, &mut |_| ()).expect("a backup"), all(&db));
    let tables = |dir: &str| names(&place.path(dir)).into_iter().filter(|name| name.ends_with(".sst")).count();
    let after_first = tables("backups");
    fill(&db, 300, 301, "two");
    let mut told = Vec::new();
    let second = (backups.backup(&db, &mut |progress| told.push(progress)).expect("a backup"), all(&db));
    assert_eq!(tables("backups"), after_first, "no table has changed, so none was copied again");
    let last = told.last().expect("progress");
    assert_eq!(last.bytes_done, last.bytes_total);
    fill(&db, 0, 300, "three");
    db.compact_range(None, None).expect("a compaction");
    let third = (backups.backup(&db, &mut |_| ()).expect("a backup"), all(&db));
    db.close().expect("a close");

    assert_eq!(backups.list().expect("a list"), [&first, &second, &third].map(|(made, _)| made.clone()));
    for (made, content) in [first, second, third] {
        let found = backups.verify(made.number, &mut |_| ()).expect("a verification");
        assert!(found.damage.is_empty() && found.files == made.files().count(), "{found:?}");
        let target = format!("restored-{}", made.number);
        backups.restore(made.number, &place.path(&target), &mut |_| ()).expect("a restore");
        let restored = place.open(&target);
        assert_eq!(all(&restored), content);
        restored.check().expect("a sound store");
    }
}

#[test]
fn a_restored_store_that_uses_numbers_anew_is_backed_up_beside_the_first_one() {
    let place = Place::new();
    let db = place.open("store");
    let backups = Backups::create(&Env::os(), &place.path("backups")).expect("a directory");
    fill(&db, 0, 100, "one");
    let first = backups.backup(&db, &mut |_| ()).expect("a backup");
    fill(&db, 0, 100, "left behind");
    db.flush().expect("a flush");
    let second = (backups.backup(&db, &mut |_| ()).expect("a backup"), all(&db));
    db.close().expect("a close");

    backups.restore(first.number, &place.path("restored"), &mut |_| ()).expect("a restore");
    let restored = place.open("restored");
    fill(&restored, 0, 100, "gone on");
    restored.flush().expect("a flush");
    let third = (backups.backup(&restored, &mut |_| ()).expect("a backup"), all(&restored));
    for (made, content) in [second, third] {
        let target = format!("restored-{}", made.number);
        backups.restore(made.number, &place.path(&target), &mut |_| ()).expect("a restore");
        assert_eq!(all(&place.open(&target)), content);
    }
}

#[test]
fn pruning_keeps_what_the_newest_backups_need_and_nothing_else() {
    let place = Place::new();
    let db = place.open("store");
    let backups = Backups::create(&Env::os(), &place.path("backups")).expect("a directory");
    for value in ["one", "two", "three"] {
        fill(&db, 0, 100, value);
        db.compact_range(None, None).expect("a compaction");
        backups.backup(&db, &mut |_| ()).expect("a backup");
    }
    fs::write(place.path("backups").join("000009-5-00000000.sst.tmp"), "never finished").expect("a write");
    fs::write(place.path("backups").join("notes.txt"), "somebody else's").expect("a write");
    assert_eq!(backups.prune(1).expect("pruned"), [1, 2]);
    let newest = backups.get(3).expect("the newest");
    let mut expected: Vec<String> = newest.files().map(|file| file.name()).collect();
    expected.extend(["BACKUP-000003", "LOCK", "notes.txt"].map(String::from));
    expected.sort();
    assert_eq!(names(&place.path("backups")), expected);
    backups.restore(3, &place.path("restored"), &mut |_| ()).expect("a restore");
    assert_eq!(all(&place.open("restored")), all(&db));
    let error = backups.get(1).expect_err("it is gone");
    insta::assert_snapshot!(place.told(&error), @"HOME/backups holds no backup 1; list them to see which there are");
}

#[test]
fn damage_is_found_by_a_verification_and_stops_a_restore_and_a_backup() {
    let place = Place::new();
    let db = place.open("store");
    let backups = Backups::create(&Env::os(), &place.path("backups")).expect("a directory");
    fill(&db, 0, 100, "one");
    db.flush().expect("a flush");
    let made = backups.backup(&db, &mut |_| ()).expect("a backup");
    for file in made.files() {
        let path = place.path("backups").join(file.name());
        let sound = fs::read(&path).expect("a file of the backup");
        let mut flipped = sound.clone();
        flipped[sound.len() / 2] ^= 1;
        for content in [Some(flipped), Some(sound[1..].to_vec()), None] {
            match &content {
                Some(content) => fs::write(&path, content).expect("a write"),
                None => fs::remove_file(&path).expect("a removal"),
            }
            let found = backups.verify(made.number, &mut |_| ()).expect("a verification");
            assert_eq!(found.damage.len(), 1, "{found:?}");
            assert!(found.damage[0].to_string().contains(&file.name()), "{found:?}");
            let error = backups.restore(made.number, &place.path("restored"), &mut |_| ()).expect_err("damage");
            assert!(error.is_corruption(), "{error}");
            assert!(!place.path("restored").exists(), "what was restored so far is taken back");
        }
        fs::write(&path, &sound).expect("a write");
    }

    fill(&db, 0, 3, "in the log");
    let made = backups.backup(&db, &mut |_| ()).expect("a backup");
    let kinds: Vec<FileKind> = made.files().map(|file| file.kind).collect();
    assert!(kinds.iter().any(|kind| matches!(kind, FileKind::Wal(_))), "{kinds:?}");
    for (number, kind) in kinds.into_iter().enumerate() {
        let path = kind.path(&place.path("store"));
        let sound = fs::read(&path).expect("a file of the store");
        let mut flipped = sound.clone();
        flipped[sound.len() / 2] ^= 1;
        fs::write(&path, flipped).expect("a write");
        let elsewhere = Backups::create(&Env::os(), &place.path(&format!("elsewhere-{number}"))).expect("a directory");
        let error = elsewhere.backup(&db, &mut |_| ()).expect_err("a damaged file is not backed up");
        assert!(error.is_corruption() && error.to_string().contains(&kind.name()), "{error}");
        assert!(elsewhere.list().expect("a list").is_empty());
        fs::write(&path, sound).expect("a write");
    }
}

#[test]
fn backups_of_two_stores_are_kept_apart_and_one_directory_has_one_user() {
    let place = Place::new();
    let backups = Backups::create(&Env::os(), &place.path("backups")).expect("a directory");
    backups.backup(&place.open("store"), &mut |_| ()).expect("a backup");
    let other = place.open("other");
    let error = backups.backup(&other, &mut |_| ()).expect_err("another store");
    assert!(matches!(error, Error::InvalidArgument(_)), "{error}");
    let locked = Backups::open(&Env::os(), &place.path("backups")).map(|_| ()).expect_err("in use");
    assert!(matches!(locked, Error::Locked { .. }), "{locked}");
    let missing = Backups::open(&Env::os(), &place.path("nowhere")).map(|_| ()).expect_err("missing");
    assert!(matches!(missing, Error::NotAStore { .. }), "{missing}");
}
