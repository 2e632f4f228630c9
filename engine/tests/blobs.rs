//! Large values that lie apart from their keys, as users meet them: every way to read them, what compactions do to their files,
//! copies of the store, and what is left of it when a blob file is damaged.

#![expect(clippy::disallowed_methods, reason = "a test that looks at the store's files belongs to the real world")]

mod place;

use place::place;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;
use strata::backup::{Backups, checkpoint};
use strata::batch::{Expiry, WriteBatch};
use strata::db::{Db, DbIter, Range, WriteOptions};
use strata::env::Env;
use strata::event::Health;
use strata::options::{KeyspaceOptions, Options};
use strata::salvage::salvage;
use strata::txn::{Isolation, Transaction};

fn options() -> Options {
    Options { blob_threshold: 100, space_reserve_bytes: 0, ..Options::default() }
}

fn open(path: &Path, options: Options) -> Db {
    Db::open_with(&Env::os(), path, options).expect("the store opens")
}

/// A value above the threshold that no other key has.
fn large(key: &str) -> Vec<u8> {
    key.bytes().cycle().take(1000 + key.len()).collect()
}

fn files(dir: &Path, ending: &str) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry"));
    let named = entries.filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path())));
    named
        .filter(|(name, _)| name.ends_with(ending))
        .map(|(name, path)| (name, fs::read(path).expect("a file")))
        .collect()
}

fn blobs(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).expect("a directory");
    let names = entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"));
    let mut blobs: Vec<String> = names.filter(|name| name.ends_with(".blob")).collect();
    blobs.sort_unstable();
    blobs
}

/// Waits until the background task has removed what nobody needs.
fn blobs_left(db: &Db, count: usize) -> Vec<String> {
    for _ in 0..500 {
        let left = blobs(db.path());
        if left.len() == count {
            return left;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("{:?} are left, and not {count}", blobs(db.path()));
}

fn all(mut iter: DbIter) -> Vec<(String, Vec<u8>)> {
    let entry = |iter: &DbIter| (String::from_utf8(iter.key().to_vec()).expect("text"), iter.value().to_vec());
    let (mut forward, mut backward) = (Vec::new(), Vec::new());
    iter.seek_to_first().expect("a scan");
    while iter.valid() {
        forward.push(entry(&iter));
        iter.next().expect("a scan");
    }
    iter.seek_to_last().expect("a scan");
    while iter.valid() {
        backward.push(entry(&iter));
        iter.prev().expect("a scan");
    }
    backward.reverse();
    assert_eq!(forward, backward, "a scan sees the same in both directions");
    forward
}

fn scan(db: &Db) -> Vec<(String, Vec<u8>)> {
    all(db.iter(Range::all()).expect("an iterator"))
}

fn with(keys: &[&str]) -> Vec<(String, Vec<u8>)> {
    keys.iter().map(|key| (key.to_string(), large(key))).collect()
}

#[test]
fn every_reader_sees_values_that_lie_in_blob_files() {
    let place = place();
    let db = open(&place.path, options());
    for key in ["a", "b", "c"] {
        db.put(key.as_bytes(), &large(key)).expect("a put");
    }
    db.put(b"d", b"small").expect("a put");
    db.flush().expect("a flush");
    let [table] = &files(&place.path, ".sst").into_values().collect::<Vec<_>>()[..] else { panic!("one table") };
    assert!(table.len() < 1000, "three large values are not in a table of {} bytes", table.len());
    assert_eq!(blobs(&place.path).len(), 1);

    let before = db.snapshot();
    db.put(b"b", &large("another")).expect("a put");
    db.delete(b"c").expect("a delete");
    db.flush().expect("a flush");
    let mut expected = with(&["a", "b", "c"]);
    expected.push(("d".into(), b"small".to_vec()));
    for round in 0..2 {
        assert_eq!(all(db.iter_at(&before, Range::all()).expect("an iterator")), expected, "round {round}");
        assert_eq!(db.get_at(&before, b"c").expect("a get").as_deref(), Some(&large("c")[..]));
        assert_eq!(db.get(b"b").expect("a get").as_deref(), Some(&large("another")[..]));
        let many = db.multi_get(&["b", "nobody", "a", "d", "c"]).expect("gets").values;
        assert_eq!(many[2].as_deref(), Some(&large("a")[..]));
        assert_eq!((many[0].as_deref(), many[1].as_deref()), (Some(&large("another")[..]), None));
        assert_eq!((many[3].as_deref(), many[4].as_deref()), (Some(&b"small"[..]), None));
        db.compact_range(None, None).expect("a compaction");
        db.check().expect("sound");
    }
    let mut txn = Transaction::begin(&db, Isolation::Serializable);
    assert_eq!(txn.get(b"a").expect("a get").as_deref(), Some(&large("a")[..]));
    txn.put(b"e", &large("e"));
    txn.commit(WriteOptions::default()).expect("nobody else wrote");
    drop(before);

    let now: Vec<_> = scan(&db);
    let reader = Db::open_read_only_with(&Env::os(), &place.path, options()).expect("a reader");
    assert_eq!(all(reader.iter(Range::all()).expect("an iterator")), now);
    db.delete_range(b"", b"z").expect("a range delete");
    db.compact_range(None, None).expect("a compaction");
    blobs_left(&db, 0);
    assert_eq!(reader.get(b"a").expect("a get").as_deref(), Some(&large("a")[..]), "the file is held open");
    reader.check().expect("sound");
    reader.refresh().expect("a refresh");
    assert_eq!(reader.get(b"a").expect("a get"), None);
    assert_eq!(scan(&db), []);
}

#[test]
fn a_walk_over_keys_only_reads_no_value_that_lies_apart() {
    let place = place();
    let db = open(&place.path, Options { cache_bytes: 0, merge_operator: Some("strata.append".into()), ..options() });
    for key in ["a", "b", "c", "d"] {
        db.put(key.as_bytes(), &large(key)).expect("a put");
    }
    db.put(b"e", b"small").expect("a put");
    db.delete(b"c").expect("a delete");
    db.compact_range(None, None).expect("a compaction");
    db.merge(b"b", b", and more").expect("an operand");
    for name in blobs(&place.path) {
        let path = place.path.join(name);
        let bytes = fs::read(&path).expect("a blob file");
        fs::write(&path, vec![0; bytes.len()]).expect("damage");
    }
    assert!(db.get(b"a").is_err(), "no value can be read");

    let wanted = ["a", "b", "d", "e"].map(|key| key.as_bytes().to_vec());
    let walk = db.iter(Range::all()).expect("an iterator").keys_only().into_forward();
    let found: Vec<(Vec<u8>, bytes::Bytes)> = walk.map(|entry| entry.expect("a key")).collect();
    assert!(found.iter().all(|(_, value)| value.is_empty()), "{found:?}");
    assert_eq!(found.into_iter().map(|(key, _)| key).collect::<Vec<_>>(), wanted);
    let mut back = db.iter(Range::all()).expect("an iterator").keys_only();
    back.seek_to_last().expect("a key");
    for key in wanted.iter().rev() {
        assert_eq!(back.key(), key);
        back.prev().expect("a step");
    }
    assert!(!back.valid());
}

#[test]
fn compactions_copy_references_and_leave_the_values_where_they_are() {
    let place = place();
    let db = open(
        &place.path,
        Options { l0_compaction_trigger: 100, l0_slowdown_trigger: 100, l0_stop_trigger: 200, ..options() },
    );
    for key in ["a", "b", "c", "d"] {
        db.put(key.as_bytes(), &large(key)).expect("a put");
        db.flush().expect("a flush");
    }
    let written = files(&place.path, ".blob");
    assert_eq!(written.len(), 4);
    let before = db.stats().compaction_bytes;
    db.compact_range(None, None).expect("a compaction");
    db.compact_range(None, None).expect("a compaction");
    assert_eq!(files(&place.path, ".blob"), written);
    let bytes = db.stats().compaction_bytes - before;
    assert!(bytes < 1000, "{bytes} bytes were written for four references");
    assert_eq!(scan(&db), with(&["a", "b", "c", "d"]));
    let stats = db.stats();
    assert_eq!((stats.blobs.files, stats.blobs.live_values, stats.blobs.garbage_bytes), (4, 4, 0));
    assert!(stats.to_string().contains("blob files        4 of"), "{stats}");
    db.close().expect("closed");
    drop(db);
    let db = open(&place.path, Options::default());
    assert_eq!(scan(&db), with(&["a", "b", "c", "d"]), "also where the option is off");
    db.compact_range(None, None).expect("a compaction");
    assert_eq!(files(&place.path, ".blob"), written, "what lies apart stays apart");
}

#[test]
fn a_file_goes_with_the_last_reference_and_not_while_anybody_can_see_it() {
    let place = place();
    let db = open(&place.path, options());
    db.put(b"a", &large("a")).expect("a put");
    db.flush().expect("a flush");
    let snapshot = db.snapshot();
    db.delete(b"a").expect("a delete");
    db.compact_range(None, None).expect("a compaction");
    assert_eq!(blobs(&place.path).len(), 1, "a snapshot sees its value");
    assert_eq!(db.get_at(&snapshot, b"a").expect("a get").as_deref(), Some(&large("a")[..]));
    let mut iter = db.iter_at(&snapshot, Range::all()).expect("an iterator");
    let pinned = db.pin_files().expect("pinned");
    drop(snapshot);
    db.compact_range(None, None).expect("a compaction");
    assert_eq!(db.stats().blobs.files, 0, "no version refers to it");
    assert_eq!(blobs(&place.path).len(), 1, "an iterator sees its value");
    iter.seek_to_first().expect("a scan");
    assert_eq!(iter.value(), &large("a")[..]);
    drop(iter);
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(blobs(&place.path).len(), 1, "somebody copies it");
    drop(pinned);
    blobs_left(&db, 0);
    assert!(db.check().expect("sound").leftover.is_empty());
}

#[test]
fn a_file_of_which_little_is_left_is_collected_by_the_compactions_that_meet_it() {
    let place = place();
    let db = open(&place.path, options());
    let letters = |letters: std::ops::RangeInclusive<char>| letters.map(|letter| letter.to_string());
    for key in letters('A'..='Z') {
        db.put(key.as_bytes(), &large(&key)).expect("a put");
    }
    db.flush().expect("a flush");
    for key in letters('a'..='z') {
        db.put(key.as_bytes(), &large(&key)).expect("a put");
    }
    db.compact_range(None, None).expect("a compaction");
    let both = blobs(&place.path);
    assert_eq!(both.len(), 2);
    db.delete_range(b"a", b"h").expect("a range delete");
    db.compact_range(None, None).expect("a compaction");
    assert_eq!(blobs(&place.path), both, "most of it is left");
    assert!(db.stats().blobs.garbage_bytes > 7000);
    db.delete_range(b"h", b"x").expect("a range delete");
    db.compact_range(None, None).expect("a compaction");
    assert_eq!(blobs(&place.path), both, "now it is known how little is left, and of both files most is");
    db.compact_range(None, None).expect("a compaction");
    let left = blobs_left(&db, 2);
    assert!(left[0] == both[0] && left[1] != both[1], "the values that are left lie in a file of their own");
    let stats = db.stats().blobs;
    assert_eq!((stats.live_values, stats.garbage_bytes), (29, 0));
    let keys: Vec<String> = letters('A'..='Z').chain(letters('x'..='z')).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    assert_eq!(scan(&db), with(&keys));
    db.check().expect("sound");
    drop(db);
    assert_eq!(scan(&open(&place.path, options())), with(&keys));
}

/// A store with three values that are left of the 26 of a blob file, of which it does not know yet how little that is.
fn nearly_all_deleted(db: &Db) {
    for key in 'a'..='z' {
        db.put(key.to_string().as_bytes(), &large(&key.to_string())).expect("a put");
    }
    db.compact_range(None, None).expect("a compaction");
    db.delete_range(b"a", b"x").expect("a range delete");
}

#[test]
fn where_most_of_all_is_garbage_tables_are_rewritten_for_it_though_nobody_asks() {
    let place = place();
    let db = open(&place.path, options());
    nearly_all_deleted(&db);
    let first = blobs(&place.path);
    db.compact_range(None, None).expect("a compaction");
    for _ in 0..500 {
        if blobs(&place.path) != first && db.stats().blobs.garbage_bytes == 0 {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let left = blobs_left(&db, 1);
    assert_ne!(left, first, "the values that are left lie in a file of their own");
    assert_eq!(db.check().expect("sound").debt, 0);
    assert_eq!(scan(&db), with(&["x", "y", "z"]));
}

#[test]
fn a_damaged_value_stays_where_it_is_and_what_collects_its_file_goes_on() {
    let place = place();
    let db = open(&place.path, options());
    nearly_all_deleted(&db);
    drop(db);
    let [name] = &blobs(&place.path)[..] else { panic!("one file") };
    let path = place.path.join(name);
    let mut bytes = fs::read(&path).expect("a file");
    // Header of the file, 24 records, header and key of that of "y", and some way into the value.
    bytes[48 + 24 * (12 + 1 + 1001) + 12 + 1 + 50] ^= 0x40;
    fs::write(&path, &bytes).expect("damage");

    let db = open(&place.path, options());
    db.compact_range(None, None).expect("a compaction");
    for _ in 0..500 {
        if db.stats().blobs.files == 2 {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let left = blobs_left(&db, 2);
    assert!(left.contains(name), "{left:?}");
    assert_eq!(db.stats().health, Health::Ok);
    let told = db.get(b"y").expect_err("damage").to_string();
    assert!(told.contains(&format!("{name} is damaged at byte")), "{told}");
    for key in ["x", "z"] {
        assert_eq!(db.get(key.as_bytes()).expect("a get").as_deref(), Some(&large(key)[..]));
    }
    // Nobody goes on trying: it comes to rest.
    let before = db.stats().compaction_bytes;
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(db.stats().compaction_bytes, before);
    db.put(b"a", b"a").expect("a put");
    db.compact_range(None, None).expect("a compaction");
    assert_eq!(db.get(b"a").expect("a get").as_deref(), Some(&b"a"[..]));
}

#[test]
fn operands_are_merged_upon_a_value_in_a_blob_file_by_readers_and_by_compactions() {
    let place = place();
    let db = open(&place.path, Options { merge_operator: Some("strata.append".into()), ..options() });
    db.put(b"a", &large("a")).expect("a put");
    db.flush().expect("a flush");
    db.merge(b"a", b"+").expect("a merge");
    let expected = [&large("a")[..], b"+"].concat();
    let seen = || (db.get(b"a").expect("a get").expect("there").to_vec(), scan(&db).remove(0).1);
    assert_eq!(seen(), (expected.clone(), expected.clone()));
    let first = blobs(&place.path);
    db.compact_range(None, None).expect("a compaction");
    assert_eq!(seen(), (expected.clone(), expected));
    assert_ne!(blobs_left(&db, 1), first, "what was merged is a new large value");
    db.check().expect("sound");
}

#[test]
fn values_in_blob_files_expire_unread_and_keyspaces_have_thresholds_of_their_own() {
    let place = place();
    let db = open(&place.path, Options { blob_threshold: 0, ..options() });
    let own = KeyspaceOptions { blob_threshold: Some(200), ..KeyspaceOptions::default() };
    let photos = db.create_keyspace("photos", own.clone()).expect("a keyspace");
    let mut batch = WriteBatch::new();
    batch.put(b"a", &large("a"));
    batch.put_in(&photos, b"a", &large("a"));
    batch.put_expiring_in(&photos, b"old", &large("old"), Expiry::At(1));
    batch.put_expiring_in(&photos, b"young", &large("young"), Duration::from_secs(3600));
    db.write(&mut batch, WriteOptions::default()).expect("a write");
    db.flush().expect("a flush");
    db.close().expect("closed");
    drop(db);

    let db = open(&place.path, Options { blob_threshold: 0, ..options() });
    assert_eq!(db.keyspace_options(&photos).expect("there"), own, "written down in the store");
    assert_eq!(blobs(&place.path).len(), 1);
    assert_eq!(db.get_in(&photos, b"old").expect("a get"), None);
    assert_eq!(db.get_in(&photos, b"young").expect("a get").as_deref(), Some(&large("young")[..]));
    assert_eq!(all(db.iter_in(&photos, Range::all()).expect("an iterator")), with(&["a", "young"]));
    let snapshot = db.snapshot();
    db.drop_keyspace(&photos).expect("dropped");
    let shown = db.iter_in_at(&photos, &snapshot, Range::all()).expect("an iterator");
    assert_eq!(all(shown), with(&["a", "young"]));
    db.check().expect("sound");
    assert_eq!(blobs(&place.path).len(), 1);
    drop(snapshot);
    blobs_left(&db, 0);
    assert_eq!(db.get(b"a").expect("a get").as_deref(), Some(&large("a")[..]));
}

#[test]
fn copies_have_their_blob_files_and_a_backup_has_each_once() {
    let place = place();
    let home = place.path.parent().expect("a parent").to_path_buf();
    let db = open(&place.path, options());
    db.put(b"a", &large("a")).expect("a put");
    db.flush().expect("a flush");
    db.put(b"b", &large("b")).expect("a put");
    let backups = Backups::create(&Env::os(), &home.join("backups")).expect("a directory of backups");
    let first = backups.backup(&db, &mut |_| ()).expect("a backup");
    let second = backups.backup(&db, &mut |_| ()).expect("a backup");
    assert_eq!(blobs(&home.join("backups")).len(), 1);
    checkpoint(&db, &home.join("copy")).expect("a checkpoint");
    db.delete_range(b"", b"z").expect("a range delete");
    db.compact_range(None, None).expect("a compaction");
    blobs_left(&db, 0);
    assert_eq!(scan(&open(&home.join("copy"), options())), with(&["a", "b"]));

    assert!(backups.verify(first.number, &mut |_| ()).expect("readable").damage.is_empty());
    backups.restore(second.number, &home.join("restored"), &mut |_| ()).expect("a restoration");
    let restored = open(&home.join("restored"), options());
    assert_eq!(scan(&restored), with(&["a", "b"]));
    restored.check().expect("sound");

    let name = blobs(&home.join("backups")).remove(0);
    let path = home.join("backups").join(&name);
    let mut bytes = fs::read(&path).expect("a file");
    bytes[500] ^= 1;
    fs::write(&path, bytes).expect("damage");
    let damage = backups.verify(first.number, &mut |_| ()).expect("readable").damage;
    assert!(damage.len() == 1 && damage[0].to_string().contains(&name), "{damage:?}");
    backups.backup(&db, &mut |_| ()).expect("a backup");
    backups.prune(1).expect("pruned");
    assert_eq!(blobs(&home.join("backups")).len(), 0, "no list names it");
}

#[test]
fn damage_to_a_value_is_told_by_file_and_offset_and_a_salvage_keeps_all_others() {
    let place = place();
    let home = place.path.parent().expect("a parent").to_path_buf();
    let db = open(&place.path, options());
    db.put(b"b", b"older").expect("a put");
    db.flush().expect("a flush");
    for key in ["a", "b", "c"] {
        db.put(key.as_bytes(), &large(key)).expect("a put");
    }
    db.put_expiring(b"d", &large("d"), Duration::from_secs(3600)).expect("a put");
    db.flush().expect("a flush");
    drop(db);
    let name = blobs(&place.path).remove(0);
    let path = place.path.join(&name);
    let mut bytes = fs::read(&path).expect("a file");
    // Header of the file, the record of "a", header and key of the next record, and some way into the value.
    bytes[48 + 12 + 1 + 1001 + 12 + 1 + 50] ^= 0x40;
    fs::write(&path, &bytes).expect("damage");

    let db = open(&place.path, options());
    let told = db.get(b"b").expect_err("damage");
    assert!(told.is_corruption() && told.to_string().contains(&format!("{name} is damaged at byte 1062")), "{told}");
    assert_eq!(db.get(b"a").expect("a get").as_deref(), Some(&large("a")[..]));
    assert_eq!(db.get(b"c").expect("a get").as_deref(), Some(&large("c")[..]));
    assert!(db.multi_get(&["a", "b"]).expect_err("damage").is_corruption());
    assert!(db.check().expect_err("damage").to_string().contains(&name));
    let mut iter = db.iter(Range::all()).expect("an iterator");
    iter.seek_to_first().expect("a is whole");
    assert!(iter.next().expect_err("damage").is_corruption() && !iter.valid());
    drop(iter);
    drop(db);

    let report = salvage(&Env::os(), &place.path, &home.join("mended"), options(), &mut |_| ()).expect("a salvage");
    assert!(!report.is_whole() && report.keyspaces[0].in_doubt == 1, "{report}");
    assert!(report.to_string().contains(&name), "{report}");
    let mended = open(&home.join("mended"), options());
    let mut expected = with(&["a", "b", "c", "d"]);
    expected[1].1 = b"older".to_vec();
    assert_eq!(scan(&mended), expected);
    drop(mended);

    fs::remove_file(&path).expect("it goes");
    let told = Db::open_with(&Env::os(), &place.path, options()).expect_err("a file is missing").to_string();
    assert!(told.contains(&name) && told.contains("found no file"), "{told}");
    let report = salvage(&Env::os(), &place.path, &home.join("rest"), options(), &mut |_| ()).expect("a salvage");
    assert!(!report.is_whole());
    assert_eq!(scan(&open(&home.join("rest"), options())), [("b".to_string(), b"older".to_vec())]);
}

#[test]
fn logs_with_large_values_are_replayed_into_blob_files_and_one_job_may_write_several() {
    let place = place();
    let small_files = || Options { table_bytes: 2048, memtable_bytes: 4096, ..options() };
    let db = open(&place.path, Options { memtable_bytes: 1 << 20, ..small_files() });
    let keys: Vec<String> = ('a'..='p').map(String::from).collect();
    for key in &keys {
        db.put(key.as_bytes(), &large(key)).expect("a put");
    }
    assert!(blobs(&place.path).is_empty(), "the log has them");
    drop(db);
    let db = open(&place.path, small_files());
    assert!(blobs(&place.path).len() > 5, "{:?}", blobs(&place.path));
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    assert_eq!(scan(&db), with(&keys));
    db.check().expect("sound");
    fs::write(place.path.join("999999.blob"), "an orphan").expect("a file");
    drop(db);
    let db = open(&place.path, small_files());
    assert!(!place.path.join("999999.blob").exists());
    assert_eq!(scan(&db), with(&keys));
}
