//! Merged and strung-together cursors against a sorted list.

use super::{ConcatIter, InternalIterator, MergeIter, TableSource};
use crate::error::{Error, Result};
use crate::key::{InternalKey, Kind, compare};
use bytes::Bytes;
use proptest::prelude::*;
use std::cmp::Ordering;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

type Model = Vec<(Vec<u8>, Vec<u8>)>;

/// A cursor over a list. Moves count down a shared number, and the one that reaches zero fails.
struct ListIter {
    list: Model,
    place: Option<usize>,
    moves_left: Arc<AtomicI64>,
}

impl ListIter {
    fn go(&mut self, place: Option<usize>) -> Result<()> {
        self.place = None;
        if self.moves_left.fetch_sub(1, Relaxed) == 1 {
            return Err(Error::corruption(Path::new("list"), 0, "no fault"));
        }
        self.place = place.filter(|&place| place < self.list.len());
        Ok(())
    }

    fn below(&self, target: &[u8]) -> usize {
        self.list.partition_point(|(key, _)| compare(key, target) == Ordering::Less)
    }

    fn here(&self) -> usize {
        self.place.expect("only a valid cursor is asked")
    }
}

impl InternalIterator for ListIter {
    fn valid(&self) -> bool {
        self.place.is_some()
    }
    fn seek_to_first(&mut self) -> Result<()> {
        self.go(Some(0))
    }
    fn seek_to_last(&mut self) -> Result<()> {
        self.go(self.list.len().checked_sub(1))
    }
    fn seek(&mut self, target: &[u8]) -> Result<()> {
        self.go(Some(self.below(target)))
    }
    fn seek_before(&mut self, target: &[u8]) -> Result<()> {
        self.go(self.below(target).checked_sub(1))
    }
    fn next(&mut self) -> Result<()> {
        self.go(Some(self.here() + 1))
    }
    fn prev(&mut self) -> Result<()> {
        self.go(self.here().checked_sub(1))
    }
    fn key(&self) -> &[u8] {
        &self.list[self.here()].0
    }
    fn value(&self) -> Bytes {
        Bytes::copy_from_slice(&self.list[self.here()].1)
    }
}

struct Lists {
    lists: Vec<Model>,
    moves_left: Arc<AtomicI64>,
}

impl TableSource for Lists {
    fn count(&self) -> usize {
        self.lists.len()
    }
    fn smallest(&self, index: usize) -> &[u8] {
        &self.lists[index][0].0
    }
    fn largest(&self, index: usize) -> &[u8] {
        &self.lists[index][self.lists[index].len() - 1].0
    }
    fn open(&self, index: usize) -> Result<Box<dyn InternalIterator>> {
        let mut child = ListIter { list: self.lists[index].clone(), place: None, moves_left: self.moves_left.clone() };
        child.go(None)?;
        Ok(Box::new(child))
    }
}

#[derive(Clone, Debug)]
enum Step {
    First,
    Last,
    Seek(Vec<u8>),
    SeekBefore(Vec<u8>),
    Next,
    Prev,
}

fn any_key() -> impl Strategy<Value = Vec<u8>> {
    (prop::collection::vec(prop::sample::select(vec![0u8, b'a', 0xff]), 0..4), 0u64..4)
        .prop_map(|(user, seqno)| InternalKey::new(&user, seqno, Kind::Put).encode())
}

fn any_steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        1 => Just(Step::First),
        1 => Just(Step::Last),
        2 => any_key().prop_map(Step::Seek),
        2 => any_key().prop_map(Step::SeekBefore),
        6 => Just(Step::Next),
        6 => Just(Step::Prev),
    ];
    prop::collection::vec(step, 1..100)
}

/// Sorted entries without equal keys; the value is the place in the list.
fn any_model() -> impl Strategy<Value = Model> {
    prop::collection::btree_set(any_key(), 0..60).prop_map(|keys| {
        let mut keys: Vec<Vec<u8>> = keys.into_iter().collect();
        keys.sort_by(|a, b| compare(a, b));
        keys.into_iter().enumerate().map(|(place, key)| (key, vec![place as u8])).collect()
    })
}

/// Takes the steps on the cursor and on the list, and compares. A step that fails must leave no position, and the next seek
/// must repair everything.
fn walk(iter: &mut dyn InternalIterator, model: &Model, steps: &[Step]) {
    let mut place: Option<usize> = None;
    for step in steps {
        let below = |target: &[u8]| model.partition_point(|(key, _)| compare(key, target) == Ordering::Less);
        let (moved, now) = match (step, place) {
            (Step::First, _) => (iter.seek_to_first(), Some(0)),
            (Step::Last, _) => (iter.seek_to_last(), model.len().checked_sub(1)),
            (Step::Seek(target), _) => (iter.seek(target), Some(below(target))),
            (Step::SeekBefore(target), _) => (iter.seek_before(target), below(target).checked_sub(1)),
            (Step::Next, Some(place)) => (iter.next(), Some(place + 1)),
            (Step::Prev, Some(place)) => (iter.prev(), place.checked_sub(1)),
            (Step::Next | Step::Prev, None) => continue,
        };
        place = if moved.is_ok() { now.filter(|&now| now < model.len()) } else { None };
        let seen = iter.valid().then(|| (iter.key().to_vec(), iter.value().to_vec()));
        assert_eq!(seen, place.map(|place| model[place].clone()), "after {step:?}, which gave {moved:?}");
    }
}

proptest! {
    #[test]
    fn a_merge_walks_like_one_sorted_list(
        model in any_model(), owners in prop::collection::vec(0usize..5, 60), steps in any_steps(), fault in 0i64..80,
    ) {
        let mut lists = vec![Model::new(); 5];
        for (entry, owner) in model.iter().zip(owners) {
            lists[owner].push(entry.clone());
        }
        let moves_left = Arc::new(AtomicI64::new(fault));
        let children = lists.into_iter().map(|list| {
            Box::new(ListIter { list, place: None, moves_left: moves_left.clone() }) as Box<dyn InternalIterator>
        });
        walk(&mut MergeIter::new(children.collect()), &model, &steps);
    }

    #[test]
    fn disjoint_tables_walk_like_one_sorted_list(
        model in any_model(), chunk in 1usize..8, steps in any_steps(), fault in 0i64..80,
    ) {
        let lists = model.chunks(chunk).map(<[_]>::to_vec).collect();
        let moves_left = Arc::new(AtomicI64::new(fault));
        walk(&mut ConcatIter::new(Lists { lists, moves_left }), &model, &steps);
    }
}

#[test]
fn a_merge_of_nothing_holds_nothing() {
    let mut iter = MergeIter::new(Vec::new());
    walk(&mut iter, &Model::new(), &[Step::First, Step::Last, Step::Seek(vec![0; 8]), Step::SeekBefore(vec![0; 8])]);
}
