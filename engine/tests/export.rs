//! Exports and imports as their users meet them, on the real file system. What a crash leaves of one is the simulator's business.

#![expect(clippy::disallowed_methods, reason = "these tests stand outside the engine and damage its files from there")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use strata::backup::stream::{StreamHead, StreamReader, StreamWriter};
use strata::backup::{export, export_file, import, import_file};
use strata::batch::{Expiry, WriteBatch};
use strata::db::{Db, DbIter, Keyspace, Range, Unmerged};
use strata::env::{Clock, Env, os::Os};
use strata::error::Error;
use strata::options::{Compression, KeyspaceOptions, Options};
use strata::record::Uuid;

/// A clock on the wall that stands still until it is set.
struct Wall {
    os: Arc<Os>,
    ms: AtomicU64,
}

impl Clock for Wall {
    fn now(&self) -> Duration {
        // So slow that no millisecond passes within a test.
        self.os.now() / 1_000_000_000
    }

    fn wall_ms(&self) -> u64 {
        self.ms.load(Ordering::Relaxed)
    }

    fn sleep(&self, duration: Duration) {
        self.os.sleep(duration);
    }
}

/// In the year 2100.
const FAR_MS: u64 = 4_102_444_800_000;

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
        Db::open_with(&Env::os(), &self.path(name), options()).expect("a store")
    }

    fn import(&self, stream: &[u8], name: &str) -> Result<Db, Error> {
        self.import_into(&Env::os(), stream, name)
    }

    fn import_into(&self, env: &Env, stream: &[u8], name: &str) -> Result<Db, Error> {
        let mut rest = stream;
        import(env, &mut rest, &self.path(name), &options(), &mut |_| ())?;
        assert_eq!(rest.len(), 0, "nothing is left of the stream");
        Db::open_with(env, &self.path(name), options())
    }
}

fn options() -> Options {
    Options {
        memtable_bytes: 4096,
        table_bytes: 2048,
        level_base_bytes: 8192,
        l0_compaction_trigger: 2,
        block_bytes: 256,
        ..Options::default()
    }
}

fn stream_of(db: &Db) -> Vec<u8> {
    let mut stream = Vec::new();
    let mut told = 0;
    let exported = export(&db.snapshot(), &mut stream, &mut |bytes| told = bytes).expect("an export");
    assert_eq!((exported.bytes, exported.seqno), (stream.len() as u64, db.snapshot().seqno()));
    assert!(told > 0 || exported.keys == 0, "somebody hears how far it is");
    stream
}

/// A key, its value, when it expires, and what it was made of.
type Entry = (Vec<u8>, Vec<u8>, Option<u64>, Option<Unmerged>);

/// All that is shown of a keyspace.
fn all(mut iter: DbIter) -> Vec<Entry> {
    let mut found = Vec::new();
    iter.seek_to_first().expect("a first key");
    while iter.valid() {
        found.push((iter.key().to_vec(), iter.value().to_vec(), iter.expires_at(), iter.unmerged().cloned()));
        iter.next().expect("a next key");
    }
    found
}

/// A store with something of everything.
fn fill(db: &Db) {
    let own = KeyspaceOptions {
        compression: Some(vec![Compression::Deflate]),
        default_ttl_ms: Some(3_600_000),
        merge_operator: Some("strata.append".into()),
        ..KeyspaceOptions::default()
    };
    let log = db.create_keyspace("log", own).expect("a keyspace");
    db.create_keyspace("empty", KeyspaceOptions::default()).expect("another");
    for index in 0..600u32 {
        db.put(format!("key{index:04}").as_bytes(), &[index as u8; 40]).expect("a put");
    }
    db.delete_range(b"key0100", b"key0200").expect("a range delete");
    let mut batch = WriteBatch::new();
    batch.put(b"", b"an empty key");
    batch.put_expiring(b"session", b"token", Expiry::At(FAR_MS));
    batch.put_expiring(b"gone", b"token", Expiry::At(1));
    batch.put_expiring_in(&log, b"line", b"for ever", Expiry::Never);
    batch.put_expiring_in(&log, b"mixed", b"base,", Expiry::At(FAR_MS + 1));
    batch.merge_in(&log, b"mixed", b"one,");
    batch.merge_in(&log, b"mixed", b"two,");
    batch.merge_in(&log, b"operands", b"a");
    batch.merge_in(&log, b"operands", b"b");
    batch.put_in(&log, b"plain", b"an hour");
    db.write(&mut batch, Default::default()).expect("a write");
}

fn shown(db: &Db) -> Vec<(String, KeyspaceOptions, Vec<Entry>)> {
    let each = |keyspace: &Keyspace| {
        let own = db.keyspace_options(keyspace).expect("options");
        (keyspace.name().to_string(), own, all(db.iter_in(keyspace, Range::all()).expect("a cursor")))
    };
    db.keyspaces().iter().map(each).collect()
}

#[test]
fn a_store_comes_back_with_keyspaces_options_expiries_and_operands() {
    let place = Place::new();
    let db = place.open("store");
    fill(&db);
    let stream = stream_of(&db);
    let other = place.import(&stream, "other").expect("an import");
    let found = shown(&other);
    assert_eq!(found, shown(&db));
    assert_ne!(other.uuid(), db.uuid(), "two stores that go on by themselves");
    let log = &found[1].2;
    let of = |key: &[u8]| log.iter().find(|(found, ..)| found == key).expect("a key");
    assert_eq!(of(b"line").2, None, "what has no expiry gets none from its keyspace");
    assert!(of(b"plain").2.is_some(), "and what has one keeps it");
    assert_eq!(of(b"mixed").1, b"base,one,two,");
    assert_eq!(of(b"mixed").2, Some(FAR_MS + 1));
    assert_eq!(of(b"operands").3, None, "they were merged");
    other.check().expect("a sound store");

    // A second export is of the same things, and the new store goes on like any other.
    let again = place.import(&stream_of(&other), "again").expect("an import");
    assert_eq!(shown(&again), found);
    let log = again.keyspace("log").expect("a keyspace");
    again.merge_in(&log, b"operands", b"c").expect("an operand");
    assert_eq!(again.get_in(&log, b"operands").expect("a get").as_deref(), Some(&b"abc"[..]));
    again.create_keyspace("more", KeyspaceOptions::default()).expect("a keyspace with a number of its own");
    again.compact_range(None, None).expect("a compaction");
    again.check().expect("a sound store");
}

#[test]
fn operands_upon_a_value_that_expires_stay_when_it_is_gone() {
    let place = Place::new();
    let os = Arc::new(Os::new());
    let wall = Arc::new(Wall { os: os.clone(), ms: AtomicU64::new(1_000) });
    let env = Env::new(os.clone(), wall.clone(), os);
    let appends = Options { merge_operator: Some("strata.append".into()), ..options() };
    let db = Db::open_with(&env, &place.path("store"), appends).expect("a store");
    let expires_ms = 2_000;
    db.put_expiring(b"key", b"base,", Expiry::At(expires_ms)).expect("a put");
    db.merge(b"key", b"one,").expect("an operand");
    db.merge(b"key", b"two,").expect("an operand");
    let mut iter = db.iter(Range::all()).expect("a cursor");
    for step in [DbIter::seek_to_first, DbIter::seek_to_last] {
        step(&mut iter).expect("the key");
        let parts = iter.unmerged().expect("it may become less");
        assert_eq!((&parts.base[..], parts.operands.len(), iter.expires_at()), (&b"base,"[..], 2, Some(expires_ms)));
    }
    let other = place.import_into(&env, &stream_of(&db), "other").expect("an import");
    assert_eq!(other.get(b"key").expect("a get").as_deref(), Some(&b"base,one,two,"[..]));
    wall.ms.store(2_000, Ordering::Relaxed);
    for db in [&db, &other] {
        assert_eq!(db.get(b"key").expect("a get").as_deref(), Some(&b"one,two,"[..]));
    }
    let late = place.import_into(&env, &stream_of(&db), "late").expect("an import");
    assert_eq!(late.get(b"key").expect("a get").as_deref(), Some(&b"one,two,"[..]));
}

#[test]
fn a_stream_shows_the_moment_of_its_snapshot_whatever_comes_after() {
    let place = Place::new();
    let db = place.open("store");
    fill(&db);
    let before = shown(&db);
    let snapshot = db.snapshot();
    let log = db.keyspace("log").expect("a keyspace");
    db.drop_keyspace(&log).expect("a drop");
    db.create_keyspace("log", KeyspaceOptions::default()).expect("another of that name");
    db.create_keyspace("later", KeyspaceOptions::default()).expect("a third");
    db.delete_range(b"", b"z").expect("a range delete");
    db.flush().expect("a flush");
    let mut stream = Vec::new();
    let exported = export(&snapshot, &mut stream, &mut |_| ()).expect("an export");
    assert_eq!((exported.seqno, exported.keyspaces), (snapshot.seqno(), 3));
    assert_eq!(shown(&place.import(&stream, "other").expect("an import")), before);
    db.close().expect("closed");
    assert!(matches!(export(&snapshot, &mut stream, &mut |_| ()), Err(Error::Closed)));
}

#[test]
fn a_store_is_exported_beside_its_writer_and_through_files() {
    let place = Place::new();
    let (env, file) = (Env::os(), place.path("stream"));
    let db = place.open("store");
    fill(&db);
    let reader = Db::open_read_only(place.path("store")).expect("a reader");
    let snapshot = reader.snapshot();
    db.put(b"key0000", b"newer").expect("a put");
    reader.refresh().expect("a refresh");
    let exported = export_file(&snapshot, &file, &mut |_| ()).expect("an export");
    assert_eq!(exported.bytes, fs::metadata(&file).expect("a file").len());
    let imported = import_file(&env, &file, &place.path("other"), &options(), &mut |_| ()).expect("an import");
    assert_eq!((imported.seqno, imported.keys), (exported.seqno, exported.keys));
    let other = place.open("other");
    assert_eq!(imported.store, other.uuid());
    assert_eq!(other.get(b"key0000").expect("a get").as_deref(), Some(&[0; 40][..]));
}

#[test]
fn an_empty_store_makes_an_empty_store() {
    let place = Place::new();
    let db = place.open("store");
    let other = place.import(&stream_of(&db), "other").expect("an import");
    assert_eq!(shown(&other), shown(&db));
    other.put(b"key", b"value").expect("a put");
    other.check().expect("a sound store");
}

#[test]
fn a_stream_that_is_not_whole_makes_no_store() {
    let place = Place::new();
    let db = place.open("store");
    fill(&db);
    let stream = stream_of(&db);
    let refuse = |stream: &[u8]| {
        let error = place.import(stream, "other").expect_err("no stream");
        assert!(matches!(error, Error::Corruption(_) | Error::NewerFormat { .. }), "{error}");
        assert!(!place.path("other").exists(), "nothing is left of it");
        error.to_string()
    };
    for len in (0..stream.len()).step_by(211).chain([stream.len() - 1]) {
        refuse(&stream[..len]);
    }
    for index in (0..stream.len()).step_by(97) {
        let mut damaged = stream.clone();
        damaged[index] ^= 0x10;
        refuse(&damaged);
    }
    // A record of another stream of the same store is none of this one.
    let other = stream_of(&db);
    let at = other.len() - 40;
    assert!(refuse(&[&stream[..at], &other[at..]].concat()).contains("of this stream"));
    let told = refuse(&stream[..200]);
    assert!(told.contains("the stream is damaged at byte") && told.contains("cut short"), "{told}");
}

#[test]
fn entries_that_are_out_of_order_are_refused_though_every_checksum_matches() {
    let head = StreamHead {
        store: Uuid([7; 16]),
        number: 1,
        seqno: 9,
        time_ms: 5,
        merge_operator: Some("strata.append".into()),
        keyspaces: vec![("people".into(), KeyspaceOptions::default())],
    };
    type Add = fn(&mut StreamWriter<'_>) -> Result<(), Error>;
    let read = |adds: &[Add]| {
        let mut stream = Vec::new();
        let mut writer = StreamWriter::begin(&mut stream, Path::new("odd"), &head).expect("a stream");
        adds.iter().try_for_each(|add| add(&mut writer)).expect("entries");
        writer.finish().expect("an end");
        let mut from = stream.as_slice();
        let mut reader = StreamReader::begin(&mut from, Path::new("odd")).expect("a stream");
        assert_eq!(reader.head(), &head);
        while reader.next()?.is_some() {}
        Ok::<u64, Error>(reader.entries())
    };
    let sound: &[Add] = &[
        |to| to.put(0, b"a", b"1", None),
        |to| to.put(0, b"b", b"1", Some(7)),
        |to| to.merge(0, b"b", b"2"),
        |to| to.merge(0, b"b", b"3"),
        |to| to.put(1, b"a", b"1", None),
    ];
    assert_eq!(read(sound).expect("a whole stream"), 5);
    let odd: &[&[Add]] = &[
        &[|to| to.put(0, b"b", b"1", None), |to| to.put(0, b"a", b"1", None)],
        &[|to| to.put(0, b"a", b"1", None), |to| to.put(0, b"a", b"1", None)],
        &[|to| to.put(1, b"a", b"1", None), |to| to.put(0, b"b", b"1", None)],
        &[|to| to.put(2, b"a", b"1", None)],
        &[|to| to.merge(0, b"a", b"1")],
        &[|to| to.put(0, b"a", b"1", None), |to| to.merge(0, b"a", b"1")],
        &[|to| to.put(0, b"a", b"1", Some(7)), |to| to.merge(0, b"b", b"1")],
        &[|to| to.put(1, b"a", b"1", Some(7)), |to| to.merge(1, b"a", b"1")],
    ];
    for adds in odd {
        let error = read(adds).expect_err("no stream");
        assert!(error.is_corruption(), "{error}");
    }
}

#[test]
fn a_directory_that_is_in_use_is_left_alone() {
    let place = Place::new();
    let db = place.open("store");
    let stream = stream_of(&db);
    let refused = import(&Env::os(), &mut stream.as_slice(), &place.path("store"), &options(), &mut |_| ());
    let told = refused.expect_err("a store is there").to_string();
    assert!(told.contains("must be empty"), "{told}");
    db.put(b"key", b"value").expect("the store is as it was");
}
