//! Points in time as their users meet them, on the real file system: logs are archived, and a backup is followed by what they hold, up
//! to a sequence number or a time. What a crash and a failing disk leave of an archive is the simulator's business.

#![expect(clippy::disallowed_methods, reason = "these tests stand outside the engine and look at its files from there")]

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::Duration;
use strata::archive::{self, ArchivedWal};
use strata::backup::{Backups, Point, Restored};
use strata::batch::WriteBatch;
use strata::db::{Db, Range, WriteOptions};
use strata::env::Env;
use strata::error::{Error, Result};
use strata::event::{Health, Trouble};
use strata::key::SeqNo;
use strata::options::{Durability, KeyspaceOptions, Options};

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

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

    fn options(&self) -> Options {
        Options {
            memtable_bytes: 2048,
            block_bytes: 256,
            l0_compaction_trigger: 2,
            durability: Durability::Buffered,
            retry_ms: 1,
            archive: Some(self.path("archive")),
            ..Options::default()
        }
    }

    fn open(&self, name: &str) -> Db {
        Db::open_with(&Env::os(), &self.path(name), self.options()).expect("a store")
    }

    fn open_without_archive(&self, name: &str) -> Db {
        Db::open_with(&Env::os(), &self.path(name), Options { archive: None, ..self.options() }).expect("a store")
    }

    fn backups(&self) -> Backups {
        Backups::create(&Env::os(), &self.path("backups")).expect("a directory of backups")
    }

    fn logs(&self) -> Vec<ArchivedWal> {
        archive::list(&Env::os(), &self.path("archive")).expect("an archive")
    }

    fn restore(&self, backups: &Backups, point: Point) -> Result<(Restored, Db)> {
        let target = self.path("restored");
        let _ = fs::remove_dir_all(&target);
        let restored = backups.restore_to(&self.path("archive"), point, &target, &mut |_| ())?;
        let db = Db::open_with(&Env::os(), &target, Options { archive: None, ..self.options() })?;
        assert!(db.verify(&mut |_| ())?.damage.is_empty());
        Ok((restored, db))
    }

    /// An error as a user reads it, without the directory of this run.
    fn told(&self, error: &Error) -> String {
        error.to_string().replace(&self.dir.path().display().to_string(), "HOME")
    }
}

fn all(db: &Db) -> Map {
    let entries = db.iter(Range::all()).expect("an iterator").into_forward();
    entries.map(|entry| entry.expect("an entry")).map(|(key, value)| (key.to_vec(), value.to_vec())).collect()
}

fn wall_ms() -> u64 {
    sleep(Duration::from_millis(3));
    let now = Env::os().wall_ms();
    sleep(Duration::from_millis(3));
    now
}

#[test]
fn every_sequence_number_is_reached_and_no_batch_is_split() {
    let place = Place::new();
    let db = place.open("store");
    let backups = place.backups();
    // What the store holds after each write.
    let (mut map, mut states) = (Map::new(), BTreeMap::from([(0, Map::new())]));
    for round in 0..90_u32 {
        if round == 40 {
            backups.backup(&db, &mut |_| ()).expect("a backup");
        }
        let mut batch = WriteBatch::new();
        for part in 0..=round % 3 {
            let (key, value) = (format!("key{:03}", (round * 7 + part) % 50), format!("value {round:0>60}"));
            batch.put(key.as_bytes(), value.as_bytes());
            map.insert(key.into_bytes(), value.into_bytes());
        }
        if round % 11 == 0 {
            batch.delete_range(b"key010", b"key015");
            map.retain(|key, _| !(&b"key010"[..]..&b"key015"[..]).contains(&&key[..]));
        }
        let count = u64::from(batch.count());
        let seqno = db.write(&mut batch, WriteOptions::default()).expect("a write");
        states.insert(seqno + count - 1, map.clone());
    }
    db.close().expect("a close");
    drop(db);
    let db = place.open("store");
    let last = db.archive_now().expect("an archive");
    assert_eq!(last, *states.keys().last().expect("a write"));
    let found = backups.recoverable(&place.path("archive")).expect("an archive");
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].last_seqno, last, "{found:?} {:#?}", place.logs());
    assert!(place.logs().len() > 3, "{:?}", place.logs());
    for seqno in found[0].first_seqno..=last {
        let (restored, db) = place.restore(&backups, Point::Seqno(seqno)).expect("a point within");
        let (&whole, state) = states.range(..=seqno).next_back().expect("a state");
        assert_eq!((restored.seqno, all(&db)), (whole, state.clone()), "at {seqno}");
        assert!(db.put(b"more", b"").expect("the store goes on") > seqno);
    }
    for seqno in [found[0].first_seqno - 1, last + 1] {
        let error = place.restore(&backups, Point::Seqno(seqno)).map(|_| ()).expect_err("a point outside");
        let expected = format!("sequence number {seqno} cannot be restored: backup 1: sequence numbers ");
        assert!(place.told(&error).contains(&expected), "{error}");
        assert!(!place.path("restored").exists());
    }
}

#[test]
fn a_time_is_the_last_write_before_the_clock_was_later() {
    let place = Place::new();
    let db = place.open("store");
    let backups = place.backups();
    let before = wall_ms();
    db.put(b"a", b"1").expect("a put");
    let with_a = wall_ms();
    backups.backup(&db, &mut |_| ()).expect("a backup");
    let at_backup = wall_ms();
    db.put(b"b", b"1").expect("a put");
    let with_b = wall_ms();
    let keyspace = db.create_keyspace("more", KeyspaceOptions::default()).expect("a keyspace");
    db.put_in(&keyspace, b"c", b"1").expect("a put");
    let with_c = wall_ms();
    db.drop_keyspace(&keyspace).expect("a drop");
    let dropped = wall_ms();
    db.put(b"d", b"1").expect("a put");
    let last = db.archive_now().expect("an archive");
    let keys = |at: u64| {
        let (restored, db) = place.restore(&backups, Point::Time(at)).map_err(|error| place.told(&error))?;
        let mut keys: Vec<Vec<u8>> = all(&db).into_keys().collect();
        if let Some(more) = db.keyspace("more") {
            let own = db.iter_in(&more, Range::all()).expect("an iterator").into_forward();
            keys.extend(own.map(|entry| [b"more/", &entry.expect("an entry").0[..]].concat()));
        }
        Ok::<_, String>((restored.seqno, String::from_utf8(keys.join(&b' ')).expect("text")))
    };
    let refused = keys(before).expect_err("there is no backup as old");
    assert!(refused.contains(&format!("time {before} ms cannot be restored: backup 1")), "{refused}");
    assert_eq!(keys(with_a), Ok((1, "a".into())));
    assert_eq!(keys(at_backup), Ok((1, "a".into())));
    assert_eq!(keys(with_b), Ok((2, "a b".into())));
    assert_eq!(keys(with_c), Ok((3, "a b more/c".into())));
    assert_eq!(keys(dropped), Ok((4, "a b".into())));
    assert_eq!(keys(wall_ms()), Ok((last, "a b d".into())));
}

#[test]
fn keyspaces_are_those_of_the_point() {
    let place = Place::new();
    let db = place.open("store");
    let backups = place.backups();
    let old = db.create_keyspace("old", KeyspaceOptions::default()).expect("a keyspace");
    for index in 0..60 {
        db.put_in(&old, format!("key{index}").as_bytes(), &[b'x'; 80]).expect("a put");
    }
    db.flush().expect("a flush");
    backups.backup(&db, &mut |_| ()).expect("a backup");
    let both = db.put_in(&old, b"key0", b"newest").expect("a put");
    let own = KeyspaceOptions { block_bytes: Some(512), ..KeyspaceOptions::default() };
    let young = db.create_keyspace("young", own.clone()).expect("a keyspace");
    let put = db.put_in(&young, b"k", b"1").expect("a put");
    let drop_old = db.drop_keyspace(&old).expect("a drop");
    let after = db.put_in(&young, b"k", b"2").expect("a put");
    let again = db.create_keyspace("old", KeyspaceOptions::default()).expect("the name is free");
    let again_put = db.put_in(&again, b"k", b"3").expect("a put");
    db.archive_now().expect("an archive");

    let look = |point: SeqNo| {
        let (_, db) = place.restore(&backups, Point::Seqno(point)).expect("a point");
        let get = |name: &str, key: &[u8]| {
            let keyspace = db.keyspace(name)?;
            Some(db.get_in(&keyspace, key).expect("a get").map(|value| String::from_utf8_lossy(&value).into_owned()))
        };
        if let Some(young) = db.keyspace("young") {
            assert_eq!(db.keyspace_options(&young).expect("options"), own);
            let fresh = db.create_keyspace("fresh", KeyspaceOptions::default()).expect("a keyspace");
            assert!(fresh.id() > young.id(), "the number of a keyspace is not used again");
        }
        (get("old", b"key0"), get("old", b"k"), get("young", b"k"))
    };
    let text = |text: &str| Some(Some(text.to_string()));
    assert_eq!(look(both), (text("newest"), Some(None), None));
    assert_eq!(look(put), (text("newest"), Some(None), text("1")));
    assert_eq!(look(drop_old), (None, None, text("1")));
    assert_eq!(look(after), (None, None, text("2")));
    assert_eq!(look(again_put), (Some(None), text("3"), text("2")));
}

#[test]
fn an_archive_is_there_as_soon_as_its_store_is_open() {
    let place = Place::new();
    let backups = place.backups();
    let missing = backups.recoverable(&place.path("archive")).expect_err("there is none");
    insta::assert_snapshot!(place.told(&missing), @"HOME/archive: there is no such directory, and so no archive: a store makes the one of its options when it is opened");
    let db = place.open("store");
    let backup = backups.backup(&db, &mut |_| ()).expect("a backup");
    let points = backups.recoverable(&place.path("archive")).expect("an archive of nothing");
    let [point] = &points[..] else { panic!("{points:?}") };
    assert_eq!((point.backup, point.first_seqno, point.last_seqno), (backup.number, 0, 0));
    assert_eq!(db.health(), Health::Ok);
}

#[test]
fn an_archive_that_cannot_be_made_is_known_from_the_beginning() {
    let place = Place::new();
    let archive = Some(place.path("not-mounted").join("archive"));
    let options = Options { archive, retry_ms: 60_000, ..place.options() };
    let db = Db::open_with(&Env::os(), &place.path("store"), options).expect("a store");
    assert!(matches!(db.health(), Health::Degraded(Trouble::Io)), "{:?}", db.health());
    db.archive_now().expect_err("though nothing was written");
    fs::create_dir(place.path("not-mounted")).expect("a directory");
    db.archive_now().expect("it is made now");
    assert!(place.path("not-mounted").join("archive").is_dir());
    assert_eq!(db.health(), Health::Ok);
}

#[test]
fn an_archive_that_cannot_be_written_keeps_nobody() {
    let place = Place::new();
    let backups = place.backups();
    fs::write(place.path("archive"), "in the way").expect("a file");
    let db = place.open("store");
    backups.backup(&db, &mut |_| ()).expect("a backup");
    for index in 0..200 {
        db.put(format!("key{index}").as_bytes(), &[b'x'; 100]).expect("a put");
    }
    db.flush().expect("a flush");
    db.archive_now().expect_err("there is no place");
    assert!(matches!(db.health(), Health::Degraded(Trouble::Io)), "{:?}", db.health());
    let waiting = db.stats().archive;
    assert!(waiting.waiting > 1 && waiting.waiting_bytes > 200 * 100 && waiting.archived == 0, "{waiting:?}");
    db.close().expect("a close");
    drop(db);
    // The logs that wait are still there when the store is opened again.
    let db = place.open("store");
    assert!(db.stats().archive.waiting >= waiting.waiting, "{:?}", db.stats().archive);
    fs::remove_file(place.path("archive")).expect("a file");
    while db.archive_now().is_err() {}
    assert_eq!(db.health(), Health::Ok);
    let done = db.stats().archive;
    assert!(done.archived >= waiting.waiting && (done.waiting, done.waiting_bytes) == (0, 0), "{done:?}");
    let (_, restored) = place.restore(&backups, Point::Seqno(137)).expect("no log is missing");
    assert_eq!(all(&restored).len(), 137);
    let waiting = fs::read_dir(place.path("store")).expect("a directory").flatten();
    let logs = waiting.filter(|file| file.file_name().to_string_lossy().ends_with(".wal")).count();
    assert_eq!(logs, 1, "what the archive has is not kept");
}

#[test]
fn too_many_logs_for_an_archive_that_fails_leave_a_gap_that_is_told() {
    let place = Place::new();
    let backups = place.backups();
    fs::write(place.path("archive"), "in the way").expect("a file");
    let options = Options { wal_bytes_max: 8192, ..place.options() };
    let told = std::sync::Arc::new(strata::sync::Mutex::new("what was told", Vec::new()));
    let heard = told.clone();
    let listener = std::sync::Arc::new(move |event: &strata::event::Event| {
        if let strata::event::Event::ArchiveGap { first_seqno, last_seqno, .. } = event {
            heard.lock().push((*first_seqno, *last_seqno));
        }
    });
    let db = Db::open_listening(&Env::os(), &place.path("store"), options, listener).expect("a store");
    backups.backup(&db, &mut |_| ()).expect("a backup");
    for index in 0..300 {
        db.put(format!("key{index}").as_bytes(), &[b'x'; 100]).expect("a put");
    }
    db.flush().expect("a flush");
    while told.lock().is_empty() {
        sleep(Duration::from_millis(1));
    }
    fs::remove_file(place.path("archive")).expect("a file");
    while db.archive_now().is_err() {}
    let gap_end = told.lock().last().expect("a gap").1;
    assert_eq!(db.stats().archive.given_up, told.lock().len() as u64);
    let second = backups.backup(&db, &mut |_| ()).expect("a backup").seqno;
    db.put(b"more", b"1").expect("a put");
    let last = db.archive_now().expect("an archive");

    let found = backups.recoverable(&place.path("archive")).expect("an archive");
    let extents: Vec<_> = found.iter().map(|found| (found.first_seqno, found.last_seqno)).collect();
    assert_eq!(extents, [(0, 0), (second, last)]);
    assert_eq!(place.logs()[0].wal.first_seqno, gap_end + 1);
    for unreachable in [Point::Seqno(gap_end), Point::Seqno(second - 1), Point::Time(found[0].first_ms + 1)] {
        place.restore(&backups, unreachable).map(|(restored, _)| restored).expect_err("what lies in the gap");
    }
    let (_, restored) = place.restore(&backups, Point::Seqno(last)).expect("a point behind the gap");
    assert_eq!(all(&restored).len(), 301);
}

#[test]
fn what_is_written_without_an_archive_is_a_gap() {
    let place = Place::new();
    let backups = place.backups();
    let db = place.open("store");
    backups.backup(&db, &mut |_| ()).expect("a backup");
    db.put(b"a", b"1").expect("a put");
    db.archive_now().expect("an archive");
    db.close().expect("a close");
    drop(db);
    let db = place.open_without_archive("store");
    db.archive_now().expect_err("there is none");
    db.put(b"b", b"1").expect("a put");
    db.close().expect("a close");
    drop(db);
    let db = place.open("store");
    db.put(b"c", b"1").expect("a put");
    db.archive_now().expect("an archive");
    let found = backups.recoverable(&place.path("archive")).expect("an archive");
    assert_eq!((found[0].first_seqno, found[0].last_seqno), (0, 1));
    place.restore(&backups, Point::Seqno(3)).map(|_| ()).expect_err("the second write is missing");
    place.restore(&backups, Point::Time(wall_ms())).map(|_| ()).expect_err("the second write is missing");
}

#[test]
fn a_restored_store_begins_a_history_of_its_own() {
    let place = Place::new();
    let backups = place.backups();
    let db = place.open("store");
    backups.backup(&db, &mut |_| ()).expect("a backup");
    for value in [b"1", b"2", b"3"] {
        db.put(b"a", value).expect("a put");
    }
    db.archive_now().expect("an archive");
    drop(db);
    let target = place.path("second");
    backups.restore_to(&place.path("archive"), Point::Seqno(1), &target, &mut |_| ()).expect("a store");
    let db = place.open("second");
    backups.backup(&db, &mut |_| ()).expect("a backup");
    db.put(b"a", b"other").expect("a put");
    db.archive_now().expect("an archive");
    let value = |point| {
        let (restored, db) = place.restore(&backups, Point::Seqno(point)).expect("a point");
        (restored.backup, db.get(b"a").expect("a get").expect("a value").to_vec())
    };
    // Of two histories the one of the newest backup counts, as far as it goes.
    assert_eq!(value(1), (2, b"1".to_vec()));
    assert_eq!(value(2), (2, b"other".to_vec()));
    assert_eq!(value(3), (1, b"3".to_vec()));
}

#[test]
fn pruning_takes_what_no_backup_needs() {
    let place = Place::new();
    let backups = place.backups();
    let db = place.open("store");
    db.put(b"a", b"1").expect("a put");
    db.archive_now().expect("an archive");
    backups.prune_archive(&place.path("archive")).expect_err("there is no backup");
    db.put(b"a", b"2").expect("a put");
    backups.backup(&db, &mut |_| ()).expect("a backup");
    db.put(b"a", b"3").expect("a put");
    db.archive_now().expect("an archive");
    assert_eq!(place.logs().len(), 2);
    let gone = backups.prune_archive(&place.path("archive")).expect("a pruning");
    assert_eq!((gone.len(), place.logs().len()), (1, 1));
    assert_eq!(backups.prune_archive(&place.path("archive")).expect("a pruning"), Vec::<String>::new());
    place.restore(&backups, Point::Seqno(3)).expect("the log of the third write is needed");
    backups.backup(&db, &mut |_| ()).expect("a backup");
    backups.prune(1).expect("a pruning");
    assert_eq!(backups.prune_archive(&place.path("archive")).expect("a pruning").len(), 1);
}

#[test]
fn damage_in_an_archived_log_is_named_and_nothing_is_restored() {
    let place = Place::new();
    let backups = place.backups();
    let db = place.open("store");
    backups.backup(&db, &mut |_| ()).expect("a backup");
    for _ in 0..10 {
        db.put(b"a", &[b'x'; 50]).expect("a put");
    }
    db.archive_now().expect("an archive");
    let path = place.path("archive").join(place.logs()[0].name());
    let mut bytes = fs::read(&path).expect("a log");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).expect("a log");
    let error = place.restore(&backups, Point::Seqno(9)).map(|_| ()).expect_err("damage");
    assert!(error.is_corruption() && place.told(&error).contains(&place.logs()[0].name()), "{error}");
    assert!(!place.path("restored").exists());
}

#[test]
fn a_store_of_the_first_version_is_upgraded_before_it_is_archived() {
    let place = Place::new();
    let first = Options { format_version: 1, ..place.options() };
    let refused = |name: &str| {
        let opened = Db::open_with(&Env::os(), &place.path(name), first.clone());
        place.told(&opened.expect_err("logs of version 1 say neither the time nor the keyspaces"))
    };
    insta::assert_snapshot!(refused("store"), @"the store has format version 1, and one that is archived needs 2: open it without an archive, upgrade it (Db::upgrade, or `strata upgrade`), and open it again");
    assert!(!place.path("store").join("CURRENT").exists(), "nothing was begun");
    let db =
        Db::open_with(&Env::os(), &place.path("store"), Options { archive: None, ..first.clone() }).expect("a store");
    db.put(b"early", b"value").expect("a put");
    drop(db);
    assert!(refused("store").contains("strata upgrade"));
    let db = place.open_without_archive("store");
    db.upgrade().expect("an upgrade");
    drop(db);

    let db = place.open("store");
    let backups = place.backups();
    backups.backup(&db, &mut |_| ()).expect("a backup");
    db.put(b"late", b"value").expect("a put");
    let point = db.archive_now().expect("archived");
    let (_, restored) = place.restore(&backups, Point::Seqno(point)).expect("it can be reached");
    assert_eq!(all(&restored).len(), 2);
    assert_eq!(restored.format_version(), 2, "its logs are those of the archive");
}
