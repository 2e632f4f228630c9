//! What transactions see, and which of them may not commit.

use super::*;
use crate::db::Db;
use crate::error::Error;
use crate::options::{KeyspaceOptions, Options};
use std::sync::atomic::{AtomicU64, Ordering};

struct Place {
    db: Db,
    _dir: tempfile::TempDir,
}

fn store() -> Place {
    let dir = tempfile::tempdir().expect("a directory");
    let options = Options { memtable_bytes: 4096, ..Options::default() };
    let db = Db::open_with(&crate::env::Env::os(), &dir.path().join("store"), options).expect("opened");
    Place { db, _dir: dir }
}

fn value(db: &Db, key: &[u8]) -> Option<Vec<u8>> {
    db.get(key).expect("read").map(|value| value.to_vec())
}

fn commit(txn: Transaction<'_>) -> Result<SeqNo> {
    txn.commit(WriteOptions::default())
}

fn conflict_on(result: Result<SeqNo>) -> Vec<u8> {
    match result {
        Err(Error::Conflict { key, .. }) => key,
        other => panic!("a conflict expected, found {other:?}"),
    }
}

#[test]
fn it_reads_its_own_writes_and_nobody_else_does_before_it_commits() {
    let store = store();
    store.db.put(b"a", b"old").expect("put");
    store.db.put(b"c", b"old").expect("put");
    let mut txn = Transaction::begin(&store.db, Isolation::Serializable);
    txn.put(b"a", b"new");
    txn.put(b"b", b"new");
    txn.delete(b"c");
    assert_eq!(txn.get(b"a").expect("read").as_deref(), Some(&b"new"[..]));
    assert_eq!(txn.get(b"c").expect("read"), None);
    let seen: Vec<Vec<u8>> = txn.scan(Range::all(), 9).expect("scanned").into_iter().map(|(key, _)| key).collect();
    assert_eq!(seen, [b"a", b"b"]);
    assert_eq!((value(&store.db, b"a"), value(&store.db, b"b")), (Some(b"old".to_vec()), None));
    let first = commit(txn).expect("committed");
    assert_eq!(first, 3, "one number for each key, behind the two that were there");
    assert_eq!((value(&store.db, b"a"), value(&store.db, b"c")), (Some(b"new".to_vec()), None));
}

#[test]
fn a_key_that_was_read_and_written_by_others_is_a_conflict_wherever_it_lies_now() {
    for flushed in [false, true] {
        let store = store();
        let mut txn = Transaction::begin(&store.db, Isolation::Serializable);
        assert_eq!(txn.get(b"read").expect("read"), None, "absent keys count too");
        txn.put(b"written", b"1");
        store.db.put(b"read", b"by somebody else").expect("put");
        if flushed {
            store.db.flush().expect("flushed");
        }
        assert_eq!(conflict_on(commit(txn)), b"read");
        assert_eq!(value(&store.db, b"written"), None, "nothing of it was done");
    }
}

#[test]
fn a_key_that_appears_in_a_scanned_range_is_a_conflict_and_one_behind_its_end_is_not() {
    let store = store();
    for key in [b"b", b"d", b"f"] {
        store.db.put(key, b"1").expect("put");
    }
    let begin = |limit| {
        let mut txn = Transaction::begin(&store.db, Isolation::Serializable);
        txn.scan(Range::of(b"b".as_slice()..b"x"), limit).expect("scanned");
        txn.put(b"mine", b"1");
        txn
    };
    let (whole, two) = (begin(9), begin(2));
    store.db.put(b"e", b"a phantom").expect("put");
    assert_eq!(conflict_on(commit(whole)), b"e");
    commit(two).expect("it had seen no more than b and d");
    let whole = begin(9);
    store.db.put(b"a", b"1").expect("put");
    store.db.put(b"x", b"1").expect("put");
    commit(whole).expect("both lie outside");
}

#[test]
fn write_skew_is_possible_under_snapshot_isolation_only() {
    for isolation in [Isolation::Snapshot, Isolation::Serializable] {
        let store = store();
        let begin = |reads: &[u8], writes: &[u8]| {
            let mut txn = Transaction::begin(&store.db, isolation);
            txn.get(reads).expect("read");
            txn.put(writes, b"1");
            txn
        };
        let (one, other) = (begin(b"a", b"b"), begin(b"b", b"a"));
        commit(one).expect("the first commits");
        assert_eq!(commit(other).is_err(), isolation == Isolation::Serializable);
        let (one, other) = (begin(b"a", b"c"), begin(b"b", b"c"));
        commit(one).expect("the first commits");
        let lost_update = commit(other);
        assert_eq!(lost_update.is_err(), isolation == Isolation::Snapshot, "a blind write replaces, as it may");
    }
}

#[test]
fn a_savepoint_takes_writes_back_and_keeps_what_was_read() {
    let store = store();
    let mut txn = Transaction::begin(&store.db, Isolation::Serializable);
    txn.put(b"a", b"1");
    let point = txn.savepoint();
    txn.put(b"a", b"2");
    txn.delete(b"a");
    txn.put(b"b", b"2");
    txn.get(b"c").expect("read");
    txn.rollback_to(point);
    txn.rollback_to(point);
    assert_eq!(txn.get(b"a").expect("read").as_deref(), Some(&b"1"[..]));
    assert_eq!(txn.get(b"b").expect("read"), None);
    store.db.put(b"c", b"1").expect("put");
    assert_eq!(conflict_on(commit(txn)), b"c");
}

#[test]
fn a_range_delete_hides_what_was_there_and_what_was_written_before_it_and_can_be_taken_back() {
    let store = store();
    store.db.put(b"a", b"old").expect("put");
    store.db.put(b"b", b"old").expect("put");
    store.db.put(b"c", b"old").expect("put");
    let mut txn = Transaction::begin(&store.db, Isolation::Serializable);
    txn.put(b"ab", b"1");
    let point = txn.savepoint();
    txn.delete_range(b"a", b"c");
    txn.delete_range(b"c", b"c");
    txn.put(b"b", b"2");
    let keys = |txn: &mut Transaction<'_>| -> Vec<Vec<u8>> {
        txn.scan(Range::all(), 9).expect("scanned").into_iter().map(|(key, _)| key).collect()
    };
    assert_eq!(keys(&mut txn), [b"b", b"c"]);
    assert_eq!(txn.get(b"ab").expect("read"), None);
    txn.rollback_to(point);
    assert_eq!(keys(&mut txn), [&b"a"[..], b"ab", b"b", b"c"]);
    txn.delete_range(b"a", b"b");
    assert_eq!(commit(txn).expect("committed"), 4);
    assert_eq!((value(&store.db, b"a"), value(&store.db, b"ab")), (None, None));
    assert!(value(&store.db, b"b").is_some());
}

#[test]
fn a_range_delete_of_others_over_what_was_read_is_a_conflict_wherever_it_lies_now() {
    for flushed in [false, true] {
        let store = store();
        let begin = |read: &[u8]| {
            let mut txn = Transaction::begin(&store.db, Isolation::Serializable);
            txn.get(read).expect("read");
            txn.scan(Range::of(&b"x"[..]..b"z"), 9).expect("scanned");
            txn.put(b"mine", b"1");
            txn
        };
        let (within, at_the_end, mut writer) =
            (begin(b"b"), begin(b"c"), Transaction::begin(&store.db, Isolation::Snapshot));
        writer.delete_range(b"bb", b"d");
        let scanned = begin(b"e");
        store.db.delete_range(b"a", b"c").expect("deleted");
        if flushed {
            store.db.flush().expect("flushed");
        }
        assert_eq!(conflict_on(commit(within)), b"b");
        assert_eq!(conflict_on(commit(writer)), b"a", "it writes to what somebody has deleted");
        commit(at_the_end).expect("the end is not deleted");
        store.db.delete_range(b"y", b"zz").expect("deleted");
        assert_eq!(conflict_on(commit(scanned)), b"y");
    }
}

#[test]
fn many_keys_are_read_at_once_with_its_own_writes_and_all_of_them_must_still_hold() {
    let store = store();
    for key in [b"a", b"b", b"c"] {
        store.db.put(key, b"below").expect("put");
    }
    let begin = |isolation| {
        let mut txn = Transaction::begin(&store.db, isolation);
        txn.put(b"b", b"own");
        txn.delete_range(b"c", b"d");
        txn.put(b"e", b"own");
        let found = txn.multi_get(&["e", "c", "a", "nobody", "b", "a"]).expect("read");
        let found: Vec<Option<&[u8]>> = found.iter().map(Option::as_deref).collect();
        let (own, below) = (Some(&b"own"[..]), Some(&b"below"[..]));
        assert_eq!(found, [own, None, below, None, own, below]);
        txn
    };
    let (first, other) = (begin(Isolation::Serializable), begin(Isolation::Snapshot));
    store.db.put(b"nobody", b"1").expect("put");
    assert_eq!(conflict_on(commit(first)), b"nobody", "that it was absent was read as well");
    commit(other).expect("a snapshot does not rest on what it read");
}

#[test]
fn one_that_only_reads_always_commits() {
    let store = store();
    let mut txn = Transaction::begin(&store.db, Isolation::Serializable);
    txn.get(b"a").expect("read");
    store.db.put(b"a", b"1").expect("put");
    assert_eq!(commit(txn).expect("committed"), 0, "as of its snapshot");
}

#[test]
fn what_is_too_large_is_refused_by_name_when_it_commits() {
    let store = store();
    let mut txn = Transaction::begin(&store.db, Isolation::Serializable);
    txn.put(&vec![b'k'; 70_000], b"1");
    let refusal = commit(txn).expect_err("refused").to_string();
    assert!(refusal.contains("70000 bytes"), "{refusal}");
}

#[test]
fn of_two_who_expect_the_same_value_one_is_told_no() {
    let store = store();
    let set = |expected: Option<&[u8]>, new: Option<&[u8]>| {
        compare_and_set(&store.db, b"leader", expected, new, WriteOptions::default()).expect("no error")
    };
    assert!(set(None, Some(b"one")));
    assert!(!set(None, Some(b"two")));
    assert!(set(Some(b"one"), None));
    assert_eq!(value(&store.db, b"leader"), None);
}

#[test]
fn no_increment_is_lost_among_threads_that_share_groups() {
    let store = store();
    let conflicts = AtomicU64::new(0);
    let number =
        |value: Option<Bytes>| value.map_or(0, |value| u64::from_be_bytes(value[..].try_into().expect("8 bytes")));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..50 {
                    let mut tries = 0;
                    transact(&store.db, Isolation::Serializable, usize::MAX, |txn| {
                        tries += 1;
                        let count = number(txn.get(b"count")?);
                        txn.put(b"count", &(count + 1).to_be_bytes());
                        Ok(())
                    })
                    .expect("it commits in the end");
                    conflicts.fetch_add(tries - 1, Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(number(store.db.get(b"count").expect("read")), 200, "after {conflicts:?} conflicts");
}

#[test]
fn operands_are_read_back_in_a_keyspace_that_was_dropped_meanwhile() {
    let store = store();
    let own = KeyspaceOptions { merge_operator: Some("strata.append".into()), ..KeyspaceOptions::default() };
    let words = store.db.create_keyspace("words", own).expect("created");
    store.db.merge_in(&words, b"a", b"one").expect("an operand");
    let mut txn = Transaction::begin(&store.db, Isolation::Snapshot);
    txn.merge_in(&words, b"a", b", two");
    store.db.drop_keyspace(&words).expect("dropped");
    assert_eq!(txn.get_in(&words, b"a").expect("read").as_deref(), Some(&b"one, two"[..]));
    assert!(matches!(commit(txn), Err(Error::NoSuchKeyspace { .. } | Error::Conflict { .. })));
}
