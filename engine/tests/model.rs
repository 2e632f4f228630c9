//! The store against a `BTreeMap`: any operations under any options, with reopens, must answer alike.
//!
//! It runs on the real file system. Crashes, faults and schedules are for the simulator; here it is one thread and a sound
//! disk, and the point is options and operations in every mixture.

use bytes::Bytes;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::ops::Bound;
use strata::batch::WriteBatch;
use strata::db::{Db, Range, Snapshot, WriteOptions};
use strata::env::Env;
use strata::options::{Compression, Durability, Options};

#[derive(Clone, Debug)]
enum Op {
    Put(Key, Vec<u8>),
    Delete(Key),
    Merge(Key, Vec<u8>),
    DeleteRange(Key, Key),
    Batch(Vec<Write>),
    Get(Key),
    MultiGet(Vec<Key>),
    Scan { from: Bound<Key>, to: Bound<Key>, reverse: bool },
    Walk { start: Key, steps: Vec<bool> },
    Snapshot,
    ReadSnapshot(Key),
    Flush,
    Compact(Key, Key),
    Check,
    Reopen,
}

type Key = Vec<u8>;

#[derive(Clone, Debug)]
enum Write {
    Put(Key, Vec<u8>),
    Delete(Key),
    Merge(Key, Vec<u8>),
    DeleteRange(Key, Key),
}

/// Keys that are each other's prefixes, the empty one, and runs of 0xff and 0x00.
fn key() -> impl Strategy<Value = Key> {
    prop_oneof![
        3 => proptest::collection::vec(prop_oneof![Just(0u8), Just(b'a'), Just(b'b'), Just(0xff)], 0..4),
        1 => proptest::collection::vec(any::<u8>(), 0..40),
    ]
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => proptest::collection::vec(any::<u8>(), 0..20),
        1 => (any::<u8>(), 100usize..3000).prop_map(|(byte, len)| vec![byte; len]),
    ]
}

fn operand() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..4)
}

fn bound() -> impl Strategy<Value = Bound<Key>> {
    prop_oneof![key().prop_map(Bound::Included), key().prop_map(Bound::Excluded), Just(Bound::Unbounded)]
}

fn write() -> impl Strategy<Value = Write> {
    prop_oneof![
        3 => (key(), value()).prop_map(|(key, value)| Write::Put(key, value)),
        2 => key().prop_map(Write::Delete),
        2 => (key(), operand()).prop_map(|(key, operand)| Write::Merge(key, operand)),
        1 => (key(), key()).prop_map(|(begin, end)| Write::DeleteRange(begin, end)),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        12 => (key(), value()).prop_map(|(key, value)| Op::Put(key, value)),
        4 => key().prop_map(Op::Delete),
        8 => (key(), operand()).prop_map(|(key, operand)| Op::Merge(key, operand)),
        3 => (key(), key()).prop_map(|(begin, end)| Op::DeleteRange(begin, end)),
        3 => proptest::collection::vec(write(), 0..6).prop_map(Op::Batch),
        4 => key().prop_map(Op::Get),
        3 => proptest::collection::vec(key(), 0..30).prop_map(Op::MultiGet),
        3 => (bound(), bound(), any::<bool>()).prop_map(|(from, to, reverse)| Op::Scan { from, to, reverse }),
        2 => (key(), proptest::collection::vec(any::<bool>(), 0..12)).prop_map(|(start, steps)| Op::Walk { start, steps }),
        1 => Just(Op::Snapshot),
        2 => key().prop_map(Op::ReadSnapshot),
        2 => Just(Op::Flush),
        1 => (key(), key()).prop_map(|(a, b)| Op::Compact(a, b)),
        1 => Just(Op::Check),
        1 => Just(Op::Reopen),
    ]
}

fn compression() -> impl Strategy<Value = Compression> {
    prop_oneof![Just(Compression::None), Just(Compression::Lz4), Just(Compression::Deflate)]
}

prop_compose! {
    fn options()(
        memtable_bytes in 1024u64..16384,
        cache_bytes in prop_oneof![Just(0u64), Just(4096), Just(1 << 20)],
        compression in proptest::collection::vec(compression(), 1..4),
        block_bytes in prop_oneof![Just(64usize), Just(512), Just(4096)],
        restart_interval in 1usize..20,
        filter_bits_per_key in prop_oneof![Just(0u32), Just(1), Just(10)],
        table_bytes in 256u64..8192,
        level_base_bytes in 1024u64..16384,
        levels in 2usize..6,
        l0_compaction_trigger in 1usize..4,
        background_tasks in 1usize..3,
        blob_threshold in prop_oneof![2 => Just(0u64), 1 => Just(32), 1 => Just(1000)],
    ) -> Options {
        Options {
            memtable_bytes, cache_bytes, compression, block_bytes, restart_interval, filter_bits_per_key, table_bytes,
            level_base_bytes, levels, l0_compaction_trigger, background_tasks, blob_threshold,
            level_multiplier: 2,
            memtables_max: 2,
            // What is synced when is the simulator's business; here it would only cost time.
            durability: Durability::Buffered,
            merge_operator: Some("strata.append".into()),
            manifest_bytes_min: 512,
            ..Options::default()
        }
    }
}

type Model = BTreeMap<Key, Vec<u8>>;

fn run(options: &Options, ops: &[Op]) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("store");
    let open = || Db::open_with(&Env::os(), &path, options.clone()).expect("the store opens");
    let mut db = open();
    let mut model = Model::new();
    let mut snapshots: Vec<(Snapshot, Model)> = Vec::new();
    for op in ops {
        match op {
            Op::Put(key, value) => {
                db.put(key, value).expect("a put");
                model.insert(key.clone(), value.clone());
            }
            Op::Delete(key) => {
                db.delete(key).expect("a delete");
                model.remove(key);
            }
            Op::Merge(key, operand) => {
                db.merge(key, operand).expect("a merge");
                model.entry(key.clone()).or_default().extend_from_slice(operand);
            }
            Op::DeleteRange(begin, end) => {
                db.delete_range(begin, end).expect("a range delete");
                model.retain(|key, _| key < begin || key >= end);
            }
            Op::Batch(writes) => {
                let mut batch = WriteBatch::new();
                for write in writes {
                    match write {
                        Write::Put(key, value) => {
                            batch.put(key, value);
                            model.insert(key.clone(), value.clone());
                        }
                        Write::Delete(key) => {
                            batch.delete(key);
                            model.remove(key);
                        }
                        Write::Merge(key, operand) => {
                            batch.merge(key, operand);
                            model.entry(key.clone()).or_default().extend_from_slice(operand);
                        }
                        Write::DeleteRange(begin, end) => {
                            batch.delete_range(begin, end);
                            model.retain(|key, _| key < begin || key >= end);
                        }
                    }
                }
                db.write(&mut batch, WriteOptions::default()).expect("a batch");
                assert!(batch.is_empty());
            }
            Op::Get(key) => assert_eq!(db.get(key).expect("a get").as_deref(), model.get(key).map(Vec::as_slice)),
            Op::MultiGet(keys) => {
                multi_get(keys, &model, || db.multi_get(keys).map(|found| found.values));
                for (snapshot, then) in &snapshots {
                    multi_get(keys, then, || db.multi_get_at(snapshot, keys));
                }
            }
            Op::Scan { from, to, reverse } => scan(&db, &model, from, to, *reverse),
            Op::Walk { start, steps } => walk(&db, &model, start, steps),
            Op::Snapshot => snapshots.push((db.snapshot(), model.clone())),
            Op::ReadSnapshot(key) => {
                for (snapshot, then) in &snapshots {
                    let found = db.get_at(snapshot, key).expect("a get at a snapshot");
                    assert_eq!(found.as_deref(), then.get(key).map(Vec::as_slice));
                }
                if let Some((snapshot, then)) = snapshots.first() {
                    let entries = db.iter_at(snapshot, Range::all()).expect("an iterator").into_forward();
                    let found: Model =
                        entries.map(|entry| entry.expect("an entry")).map(|(k, v)| (k, v.to_vec())).collect();
                    assert_eq!(&found, then);
                }
            }
            Op::Flush => db.flush().expect("a flush"),
            Op::Compact(a, b) => db.compact_range(Some(a.min(b)), Some(a.max(b))).expect("a compaction"),
            Op::Check => drop(db.check().expect("the store is sound")),
            Op::Reopen => {
                snapshots.clear();
                db.close().expect("a close");
                drop(db);
                db = open();
            }
        }
    }
    snapshots.clear();
    scan(&db, &model, &Bound::Unbounded, &Bound::Unbounded, false);
    scan(&db, &model, &Bound::Unbounded, &Bound::Unbounded, true);
    db.flush().expect("a flush");
    db.compact_range(None, None).expect("a compaction");
    scan(&db, &model, &Bound::Unbounded, &Bound::Unbounded, false);
    let keys: Vec<Key> = model.keys().cloned().collect();
    multi_get(&keys, &model, || db.multi_get(&keys).map(|found| found.values));
    let report = db.check().expect("the store is sound");
    assert!(report.entries as usize >= model.len());
    db.close().expect("a close");
    drop(db);
    scan(&open(), &model, &Bound::Unbounded, &Bound::Unbounded, true);
}

fn scan(db: &Db, model: &Model, from: &Bound<Key>, to: &Bound<Key>, reverse: bool) {
    let range = Range::of((from.as_ref().map(Vec::as_slice), to.as_ref().map(Vec::as_slice)));
    let mut iter = db.iter(range).expect("an iterator");
    let mut found = Vec::new();
    if reverse { iter.seek_to_last() } else { iter.seek_to_first() }.expect("a seek");
    while iter.valid() {
        found.push((iter.key().to_vec(), iter.value().to_vec()));
        if reverse { iter.prev() } else { iter.next() }.expect("a step");
    }
    iter.status().expect("no error");
    if reverse {
        found.reverse();
    }
    let within = |key: &Key| {
        let above = match from {
            Bound::Included(from) => key >= from,
            Bound::Excluded(from) => key > from,
            Bound::Unbounded => true,
        };
        let below = match to {
            Bound::Included(to) => key <= to,
            Bound::Excluded(to) => key < to,
            Bound::Unbounded => true,
        };
        above && below
    };
    let expected: Vec<_> = model.iter().filter(|(key, _)| within(key)).map(|(k, v)| (k.clone(), v.clone())).collect();
    assert_eq!(found, expected);
}

fn multi_get(keys: &[Key], model: &Model, get: impl FnOnce() -> strata::error::Result<Vec<Option<Bytes>>>) {
    let found = get().expect("a get of many keys");
    let found: Vec<Option<&[u8]>> = found.iter().map(Option::as_deref).collect();
    let expected: Vec<Option<&[u8]>> = keys.iter().map(|key| model.get(key).map(Vec::as_slice)).collect();
    assert_eq!(found, expected);
}

/// Seeks, and then goes back and forth.
fn walk(db: &Db, model: &Model, start: &Key, steps: &[bool]) {
    let mut iter = db.iter(Range::all()).expect("an iterator");
    iter.seek(start).expect("a seek");
    let mut at = model.range(start.clone()..).next().map(|(key, _)| key.clone());
    for &forward in steps {
        assert_eq!(iter.valid().then(|| iter.key().to_vec()), at);
        let Some(here) = at else {
            iter.seek_for_prev(start).expect("a seek");
            at = model.range(..=start.clone()).next_back().map(|(key, _)| key.clone());
            continue;
        };
        if forward {
            iter.next().expect("a step");
            at = model.range((Bound::Excluded(here), Bound::Unbounded)).next().map(|(key, _)| key.clone());
        } else {
            iter.prev().expect("a step");
            at = model.range(..here).next_back().map(|(key, _)| key.clone());
        }
    }
    assert_eq!(iter.valid().then(|| iter.key().to_vec()), at);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, max_shrink_iters: 2000, ..ProptestConfig::default() })]

    #[test]
    fn any_operations_under_any_options_answer_like_a_map(
        options in options(),
        ops in proptest::collection::vec(op(), 1..150),
    ) {
        run(&options, &ops);
    }
}
