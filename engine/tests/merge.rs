//! Merge operators as their users meet them: operands are merged in their order wherever they lie, upon what there is or is no
//! more, and never by another operator than the one that they were written for.

mod place;

use bytes::Bytes;
use place::place;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use strata::batch::{Expiry, WriteBatch};
use strata::db::{Db, Range};
use strata::env::Env;
use strata::error::{Error, Result};
use strata::operator::{MergeOperator, MergeOperators};
use strata::options::{Durability, KeyspaceOptions, Options};
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
        merge_operator: Some("strata.append".into()),
        ..Options::default()
    }
}

fn open_with(path: &Path, options: Options) -> Result<Db> {
    Db::open_with(&Env::os(), path, options)
}

fn open(path: &Path) -> Db {
    open_with(path, small()).expect("the store opens")
}

fn text(value: Option<Bytes>) -> Option<String> {
    value.map(|value| String::from_utf8(value.to_vec()).expect("text"))
}

fn get(db: &Db, key: &str) -> Option<String> {
    text(db.get(key.as_bytes()).expect("a get"))
}

/// Keys and values by a scan forward, which a scan backward and a get of all keys at once must agree with.
fn all(db: &Db) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
    let forward = db.iter(Range::all()).expect("an iterator").into_forward().map(|entry| entry.expect("an entry"));
    let forward: Vec<_> = forward.map(|(key, value)| (text(&key), text(&value))).collect();
    let mut iter = db.iter(Range::all()).expect("an iterator");
    iter.seek_to_last().expect("the last");
    let mut backward = Vec::new();
    while iter.valid() {
        backward.push((text(iter.key()), text(iter.value())));
        iter.prev().expect("the one before");
    }
    iter.status().expect("no error");
    backward.reverse();
    assert_eq!(forward, backward);
    let keys: Vec<&str> = forward.iter().map(|(key, _)| key.as_str()).collect();
    let at_once = db.multi_get(&keys).expect("a get of many keys").values;
    let at_once: Vec<String> = at_once.into_iter().map(|value| text(&value.expect("it is there"))).collect();
    assert!(forward.iter().map(|(_, value)| value).eq(at_once.iter()), "{forward:?} and {at_once:?}");
    forward
}

fn merge(db: &Db, key: &str, operand: &str) {
    db.merge(key.as_bytes(), operand.as_bytes()).expect("a merge");
}

#[test]
fn operands_are_merged_in_their_order_wherever_they_lie() {
    let place = place();
    let mut db = open(&place.path);
    db.put(b"base", b"0").expect("a put");
    let mut expected = String::new();
    for round in 1..=20 {
        for _ in 0..3 {
            expected += &format!(".{round}");
            for key in ["base", "none"] {
                merge(&db, key, &format!(".{round}"));
            }
        }
        match round % 5 {
            0 => db.flush().expect("a flush"),
            2 => db.compact_range(None, None).expect("a compaction"),
            4 => {
                db.close().expect("a close");
                drop(db);
                db = open(&place.path);
            }
            _ => {}
        }
        assert_eq!(all(&db), [("base".into(), format!("0{expected}")), ("none".into(), expected.clone())]);
    }
    db.compact_range(None, None).expect("a compaction");
    assert_eq!(db.check().expect("the store is sound").entries, 2, "all operands are merged");
    assert_eq!(get(&db, "none"), Some(expected));
}

#[test]
fn a_delete_a_range_delete_and_a_put_begin_anew_also_within_one_batch() {
    let place = place();
    let db = open(&place.path);
    for key in ["a", "b", "c", "d", "e"] {
        db.put(key.as_bytes(), b"old").expect("a put");
        merge(&db, key, "+old");
    }
    let flushed = |times: u32| {
        (times == 1).then(|| db.flush().expect("a flush"));
        (times == 2).then(|| db.compact_range(None, None).expect("a compaction"));
    };
    db.compact_range(None, None).expect("a compaction");
    let before = db.snapshot();
    db.delete(b"a").expect("a delete");
    db.delete_range(b"b", b"d").expect("a range delete");
    db.put(b"d", b"new").expect("a put");
    merge(&db, "a", "1");
    merge(&db, "b", "1");
    let mut batch = WriteBatch::new();
    batch.merge(b"a", b"2");
    batch.merge(b"d", b"2");
    batch.delete(b"e");
    batch.merge(b"e", b"2");
    batch.merge(b"e", b"3");
    db.write(&mut batch, Default::default()).expect("a batch");
    for times in 0..3 {
        flushed(times);
        let expected = [("a", "12"), ("b", "1"), ("d", "new2"), ("e", "23")];
        assert_eq!(all(&db), expected.map(|(key, value)| (key.to_string(), value.to_string())));
        for key in [b"a", b"b", b"c", b"d", b"e"] {
            assert_eq!(text(db.get_at(&before, key).expect("a get")).as_deref(), Some("old+old"), "the snapshot stays");
        }
    }
}

#[test]
fn a_snapshot_shows_the_operands_of_its_time_through_flushes_and_compactions() {
    let place = place();
    let db = open(&place.path);
    let mut snapshots = Vec::new();
    let mut expected = String::new();
    for round in 0..30 {
        expected += &round.to_string();
        merge(&db, "key", &round.to_string());
        if round % 4 == 0 {
            snapshots.push((db.snapshot(), expected.clone()));
        }
        if round % 7 == 0 {
            db.compact_range(None, None).expect("a compaction");
        }
    }
    for _ in 0..2 {
        for (snapshot, then) in &snapshots {
            assert_eq!(text(db.get_at(snapshot, b"key").expect("a get")).as_ref(), Some(then));
            let found = db.multi_get_at(snapshot, &["key", "none"]).expect("a get of many keys");
            assert_eq!(text(found[0].clone()).as_ref(), Some(then));
        }
        db.compact_range(None, None).expect("a compaction");
    }
    snapshots.clear();
    db.compact_range(None, None).expect("a compaction");
    assert_eq!((get(&db, "key"), db.check().expect("sound").entries), (Some(expected), 1));
}

#[test]
fn operands_upon_a_value_that_has_expired_are_upon_nothing_and_do_not_make_one_last() {
    let place = place();
    let db = open(&place.path);
    db.put_expiring(b"gone", b"old", Expiry::At(1_000)).expect("a put");
    db.put_expiring(b"lasts", b"old", Expiry::Never).expect("a put");
    db.put_expiring(b"soon", b"old", std::time::Duration::from_millis(700)).expect("a put");
    for key in ["gone", "lasts", "soon"] {
        merge(&db, key, "+new");
    }
    db.compact_range(None, None).expect("a compaction");
    assert_eq!((get(&db, "gone").as_deref(), get(&db, "lasts").as_deref()), (Some("+new"), Some("old+new")));
    while get(&db, "soon").as_deref() == Some("old+new") {
        Env::os().sleep(std::time::Duration::from_millis(20));
    }
    assert_eq!(get(&db, "soon").as_deref(), Some("+new"));
    db.compact_range(None, None).expect("a compaction");
    assert_eq!(get(&db, "soon").as_deref(), Some("+new"));
}

#[test]
fn a_store_is_opened_with_its_own_operator_and_with_no_other() {
    let place = place();
    let none = || Options { merge_operator: None, ..small() };
    let db = open_with(&place.path, none()).expect("a new store");
    let refused = db.merge(b"key", b"operand").expect_err("no operator");
    insta::assert_snapshot!(refused, @"keyspace 0 has no merge operator, and takes no operands: name one in Options::merge_operator");
    assert_eq!(db.stats().seqno, 0);
    drop(db);
    let db = open(&place.path);
    merge(&db, "key", "1");
    db.close().expect("a close");
    drop(db);
    let told = |options| open_with(&place.path, options).expect_err("refused").to_string();
    let other = Options { merge_operator: Some("strata.add".into()), ..small() };
    insta::assert_snapshot!(told(other), @r#"the store was written with the merge operator "strata.append", and cannot be opened with "strata.add": name "strata.append" in Options::merge_operator, or none"#);
    let unknown = Options { merge_operator: Some("greatest".into()), ..small() };
    insta::assert_snapshot!(told(unknown), @r#"keyspace "default" has the merge operator "greatest", which is not at hand: add it to Options::merge_operators"#);
    let db = open_with(&place.path, none()).expect("it has its operator, and that is at hand");
    merge(&db, "key", "2");
    assert_eq!(get(&db, "key").as_deref(), Some("12"));
}

#[test]
fn each_keyspace_has_an_operator_of_its_own_or_none_for_ever() {
    let place = place();
    let db = open(&place.path);
    let with = |name: &str| KeyspaceOptions { merge_operator: Some(name.into()), ..KeyspaceOptions::default() };
    let plain = db.create_keyspace("plain", KeyspaceOptions::default()).expect("a keyspace");
    let sums = db.create_keyspace("sums", with("strata.add")).expect("a keyspace");
    db.create_keyspace("odd", with("greatest")).expect_err("that is not at hand");
    let mut batch = WriteBatch::new();
    batch.merge(b"key", b"a");
    batch.merge_in(&plain, b"key", b"b");
    db.write(&mut batch, Default::default()).expect_err("one of them has none");
    assert_eq!(get(&db, "key"), None, "nothing was written");
    for _ in 0..3 {
        db.merge_in(&sums, b"key", &7i64.to_le_bytes()).expect("a merge");
        db.merge(b"key", b"7").expect("a merge");
        db.flush().expect("a flush");
    }
    db.set_keyspace_options(&sums, KeyspaceOptions::default()).expect_err("it keeps its operator");
    let options = KeyspaceOptions { block_bytes: Some(128), ..with("strata.add") };
    db.set_keyspace_options(&sums, options).expect("other options");
    drop(db);
    let db = open(&place.path);
    let sums = db.keyspace("sums").expect("it is there");
    assert_eq!(db.get_in(&sums, b"key").expect("a get").as_deref(), Some(&21i64.to_le_bytes()[..]));
    assert_eq!(get(&db, "key").as_deref(), Some("777"));
}

/// Appends, unless it is told to fail.
struct Moody {
    fails: Arc<AtomicBool>,
}

impl MergeOperator for Moody {
    fn name(&self) -> &str {
        "moody"
    }

    fn merge(&self, _key: &[u8], base: Option<&[u8]>, operands: &[Bytes]) -> std::result::Result<Vec<u8>, String> {
        if self.fails.load(Ordering::Relaxed) {
            return Err("not today".into());
        }
        let all = base.into_iter().chain(operands.iter().map(|operand| &operand[..]));
        Ok(all.collect::<Vec<_>>().concat())
    }

    fn partial_merge(&self, key: &[u8], operands: &[Bytes]) -> std::result::Result<Option<Vec<u8>>, String> {
        self.merge(key, None, operands).map(Some)
    }
}

#[test]
fn an_operator_that_fails_is_told_of_and_loses_nothing() {
    let place = place();
    let fails = Arc::new(AtomicBool::new(false));
    let operators = MergeOperators::default().with(Moody { fails: fails.clone() });
    let options = Options { merge_operator: Some("moody".into()), merge_operators: operators, ..small() };
    let db = open_with(&place.path, options).expect("a new store");
    db.put(b"a", b"0").expect("a put");
    db.put(b"b", b"0").expect("a put");
    db.compact_range(None, None).expect("a compaction");
    db.delete(b"b").expect("a delete");
    fails.store(true, Ordering::Relaxed);
    for round in 1..=3 {
        for key in ["a", "b", "c"] {
            merge(&db, key, &round.to_string());
        }
        db.flush().expect("a flush goes on");
        db.compact_range(None, None).expect("and so does a compaction");
    }
    db.put(b"d", b"whole").expect("a put");
    let error = db.get(b"b").expect_err("it cannot be said");
    assert!(matches!(&error, Error::MergeFailed(failure) if failure.operands == 3), "{error:?}");
    insta::assert_snapshot!(error, @r#"the merge operator "moody" cannot merge the 3 operands of the key "b": not today; they are kept; mend the operator, or put or delete the key"#);
    let mut iter = db.iter(Range::all()).expect("an iterator");
    assert!(iter.seek_to_first().is_err() && !iter.valid() && iter.status().is_err());
    iter.seek(b"d").expect("another key");
    assert_eq!(iter.value(), "whole");
    assert!(iter.prev().is_err());
    assert!(db.multi_get(&["d", "a"]).is_err());
    fails.store(false, Ordering::Relaxed);
    let expected = [("a", "0123"), ("b", "123"), ("c", "123"), ("d", "whole")];
    for _ in 0..2 {
        assert_eq!(all(&db), expected.map(|(key, value)| (key.to_string(), value.to_string())));
        db.compact_range(None, None).expect("a compaction");
    }
    assert_eq!(db.check().expect("sound").entries, 4);
}

#[test]
fn operands_that_are_read_are_never_very_many_and_those_that_nobody_reads_cost_nothing() {
    let place = place();
    let options = Options { memtable_bytes: 64 << 20, merge_operator: Some("strata.add".into()), ..small() };
    let db = open_with(&place.path, options).expect("a new store");
    let add = || db.merge(b"key", &1i64.to_le_bytes()).expect("a merge");
    for _ in 0..3_000 {
        add();
    }
    assert_eq!(db.stats().flush_bytes, 0, "nobody has read them");
    let number =
        || i64::from_le_bytes(db.get(b"key").expect("a get").expect("a number")[..].try_into().expect("8 bytes"));
    assert_eq!(number(), 3_000);
    add();
    while db.stats().frozen > 0 {
        Env::os().sleep(std::time::Duration::from_millis(5));
    }
    assert!(db.stats().flush_bytes > 0 && db.check().expect("sound").entries == 1, "they are one operand in a table");
    assert_eq!(number(), 3_001);
    add();
    assert_eq!((number(), db.stats().frozen), (3_002, 0));
}

#[test]
fn a_transaction_merges_upon_what_it_sees_and_meets_the_operands_of_others() {
    let place = place();
    let db = open(&place.path);
    db.put(b"key", b"0").expect("a put");
    let mut reads = Transaction::begin(&db, Isolation::Serializable);
    assert_eq!(text(reads.get(b"key").expect("a get")).as_deref(), Some("0"));
    reads.put(b"other", b"1");
    merge(&db, "key", "1");
    assert!(reads.commit(Default::default()).is_err_and(|error| error.is_conflict()), "an operand is a write");

    db.put(b"gone", b"0").expect("a put");
    let mut txn = Transaction::begin(&db, Isolation::Serializable);
    txn.merge(b"new", b"a");
    txn.put(b"own", b"b");
    txn.merge(b"own", b"c");
    let start = txn.savepoint();
    txn.merge(b"own", b"X");
    txn.merge(b"key", b"X");
    txn.rollback_to(start);
    txn.merge(b"own", b"d");
    txn.delete_range(b"f", b"h");
    txn.merge(b"gone", b"e");
    let expected = [("gone", "e"), ("key", "01"), ("new", "a"), ("own", "bcd")];
    let seen = txn.scan(Range::all(), 10).expect("a scan");
    let seen: Vec<_> = seen.into_iter().map(|(key, value)| (String::from_utf8(key).ok(), text(Some(value)))).collect();
    assert_eq!(seen, expected.map(|(key, value)| (Some(key.to_string()), Some(value.to_string()))));
    let keys = expected.map(|(key, _)| key);
    let at_once = txn.multi_get(&keys).expect("a get of many keys");
    let one_by_one = keys.map(|key| txn.get(key.as_bytes()).expect("a get"));
    assert_eq!(at_once, one_by_one);
    assert!(at_once.into_iter().map(text).eq(expected.map(|(_, value)| Some(value.to_string()))));
    txn.commit(Default::default()).expect("nobody else has written");
    assert_eq!(all(&db), expected.map(|(key, value)| (key.to_string(), value.to_string())));

    for (isolation, commits) in [(Isolation::Serializable, true), (Isolation::Snapshot, false)] {
        let mut blind = Transaction::begin(&db, isolation);
        blind.merge(b"key", b"3");
        merge(&db, "key", "2");
        assert_eq!(blind.commit(Default::default()).is_ok(), commits, "{isolation:?}");
    }
    assert_eq!(get(&db, "key").as_deref(), Some("01232"));
}
