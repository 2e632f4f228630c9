//! The memtable against a `BTreeMap`, and readers beside a writer.

use super::*;
use crate::key;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entry<'a>(InternalKey<'a>);

type Model<'a> = BTreeMap<Entry<'a>, Bytes>;

fn filled(writes: &[(Vec<u8>, Option<Vec<u8>>)]) -> (Arc<Memtable>, Model<'_>) {
    let memtable = Arc::new(Memtable::new());
    let mut model = Model::new();
    for (index, (user, value)) in writes.iter().enumerate() {
        let kind = if value.is_some() { Kind::Put } else { Kind::Delete };
        let value = Bytes::from(value.clone().unwrap_or_default());
        memtable.insert(user, index as SeqNo + 1, kind, value.clone());
        model.insert(Entry(InternalKey::new(user, index as SeqNo + 1, kind)), value);
    }
    (memtable, model)
}

fn at(iter: &MemtableIter) -> Option<(Vec<u8>, Bytes)> {
    iter.valid().then(|| (iter.key().to_vec(), iter.value()))
}

/// Short keys of few letters, so that many collide and share prefixes.
fn user_key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(prop_oneof![Just(0u8), Just(b'a'), Just(0xff)], 0..4),
        proptest::collection::vec(Just(b'p'), 14..19),
    ]
}

proptest! {
    #[test]
    fn it_answers_like_a_sorted_map(
        writes in proptest::collection::vec((user_key(), proptest::option::of(any::<Vec<u8>>())), 0..120),
        probes in proptest::collection::vec((user_key(), 0u64..130), 1..20),
    ) {
        let (memtable, model) = filled(&writes);
        let expected: Vec<_> = model.iter().map(|(key, value)| (key.0.encode(), value.clone())).collect();
        prop_assert_eq!(memtable.entries(), expected.len() as u64);
        prop_assert_eq!(memtable.seqno_range(), (!writes.is_empty()).then_some((1, writes.len() as u64)));

        let mut iter = memtable.iter();
        prop_assert!(!iter.valid());
        let mut forward = Vec::new();
        iter.seek_to_first().unwrap();
        while let Some(entry) = at(&iter) {
            forward.push(entry);
            iter.next().unwrap();
        }
        prop_assert_eq!(&forward, &expected);
        let mut backward = Vec::new();
        iter.seek_to_last().unwrap();
        while let Some(entry) = at(&iter) {
            backward.push(entry);
            iter.prev().unwrap();
        }
        backward.reverse();
        prop_assert_eq!(&backward, &expected);

        for (user, seqno) in &probes {
            let target = InternalKey::new(user, *seqno, KIND_FOR_SEEK);
            let split = expected.partition_point(|(key, _)| key::compare(key, &target.encode()).is_lt());
            iter.seek(&target.encode()).unwrap();
            prop_assert_eq!(at(&iter), expected.get(split).cloned());
            iter.seek_before(&target.encode()).unwrap();
            prop_assert_eq!(at(&iter), split.checked_sub(1).map(|before| expected[before].clone()));
            let newest = expected.get(split).and_then(|(key, value)| {
                let found = InternalKey::decode(key).expect("encoded above");
                (found.user == &user[..]).then(|| match found.kind {
                    Kind::Put => Lookup::Found(value.clone()),
                    _ => Lookup::Deleted,
                })
            });
            prop_assert_eq!(memtable.get(user, *seqno), newest);
        }
    }
}

#[test]
fn readers_see_a_prefix_of_the_writes_while_more_are_inserted() {
    const WRITES: u64 = 20_000;
    let memtable = Arc::new(Memtable::new());
    let published = AtomicU64::new(0);
    let done = AtomicBool::new(false);
    // Spread over the key space, so that inserts happen everywhere in the list.
    let user = |seqno: u64| (seqno.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40).to_be_bytes();
    std::thread::scope(|scope| {
        for backwards in [false, true] {
            let (memtable, published, done) = (&memtable, &published, &done);
            scope.spawn(move || {
                let mut passes = 0;
                while !done.load(Ordering::Acquire) || passes == 0 {
                    passes += 1;
                    let visible = published.load(Ordering::Acquire);
                    let mut iter = memtable.iter();
                    let mut seen = 0;
                    let mut last: Option<Vec<u8>> = None;
                    if backwards { iter.seek_to_last() } else { iter.seek_to_first() }.expect("never fails");
                    while iter.valid() {
                        let now = iter.key().to_vec();
                        if let Some(last) = &last {
                            assert_eq!(key::compare(last, &now).is_gt(), backwards, "out of order");
                        }
                        seen += u64::from(InternalKey::decode(&now).expect("encoded").seqno <= visible);
                        last = Some(now);
                        if backwards { iter.prev() } else { iter.next() }.expect("never fails");
                    }
                    assert_eq!(seen, visible, "every published write is seen, and seen once");
                    if visible > 0 {
                        let probe = visible / 2 + 1;
                        assert!(memtable.get(&user(probe), SEQNO_MAX).is_some(), "write {probe} was published");
                    }
                }
            });
        }
        for seqno in 1..=WRITES {
            memtable.insert(&user(seqno), seqno, Kind::Put, Bytes::new());
            published.store(seqno, Ordering::Release);
        }
        done.store(true, Ordering::Release);
    });
    assert_eq!(memtable.entries(), WRITES);
}

#[test]
fn several_writers_wait_for_each_other() {
    let memtable = Arc::new(Memtable::new());
    std::thread::scope(|scope| {
        for writer in 0..4u64 {
            let memtable = &memtable;
            scope.spawn(move || {
                for index in 0..2000 {
                    let seqno = index * 4 + writer + 1;
                    memtable.insert(&(seqno % 97).to_be_bytes(), seqno, Kind::Put, Bytes::new());
                }
            });
        }
    });
    assert_eq!((memtable.entries(), memtable.seqno_range()), (8000, Some((1, 8000))));
    let mut iter = memtable.iter();
    iter.seek_to_first().unwrap();
    let mut count = 0;
    while iter.valid() {
        count += 1;
        iter.next().unwrap();
    }
    assert_eq!(count, 8000);
}

#[test]
fn values_are_shared_and_not_copied() {
    let memtable = Memtable::new();
    let value = Bytes::from(vec![7; 1000]);
    memtable.insert(b"key", 1, Kind::Put, value.clone());
    let Some(Lookup::Found(found)) = memtable.get(b"key", SEQNO_MAX) else { panic!("the key has a value") };
    assert_eq!(found.as_ptr(), value.as_ptr());
    assert!(memtable.bytes() >= 1000 + 3 + 8);
}

#[test]
#[should_panic(expected = "U1")]
fn the_same_key_at_the_same_seqno_twice_is_our_own_fault() {
    let memtable = Memtable::new();
    memtable.insert(b"key", 1, Kind::Put, Bytes::new());
    memtable.insert(b"key", 1, Kind::Put, Bytes::new());
}
