//! Many cursors as one, by a heap.
//!
//! All children stand on the same side of the current entry: going forward, each at its first entry at or behind it; going
//! backward, each at its last entry at or before it. A change of direction moves every other child to the other side.
//!
//! By U1 no two children hold the same internal key. Should they all the same, the child that comes first in the list is
//! served first going forward, and the debug build stops.

use super::internal::InternalIterator;
use crate::error::Result;
use crate::key::compare;
use bytes::Bytes;
use std::cmp::Ordering;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Forward,
    Backward,
}

/// See the module.
pub struct MergeIter {
    children: Vec<Box<dyn InternalIterator>>,
    /// Numbers of the valid children. The one with the current entry is at the top.
    heap: Vec<usize>,
    direction: Direction,
    /// The current key while children move around it.
    pivot: Vec<u8>,
}

impl MergeIter {
    /// Over all entries of all children. Of equal internal keys, which U1 forbids, the earlier child's comes first.
    pub fn new(children: Vec<Box<dyn InternalIterator>>) -> MergeIter {
        MergeIter { children, heap: Vec::new(), direction: Direction::Forward, pivot: Vec::new() }
    }

    fn comes_first(&self, a: usize, b: usize) -> bool {
        let order = compare(self.children[a].key(), self.children[b].key());
        debug_assert_ne!(order, Ordering::Equal, "U1: children {a} and {b} hold the same internal key");
        let order = order.then(a.cmp(&b));
        match self.direction {
            Direction::Forward => order == Ordering::Less,
            Direction::Backward => order == Ordering::Greater,
        }
    }

    fn sift_down(&mut self, mut place: usize) {
        loop {
            let (left, right) = (2 * place + 1, 2 * place + 2);
            if left >= self.heap.len() {
                return;
            }
            let mut first = left;
            if right < self.heap.len() && self.comes_first(self.heap[right], self.heap[left]) {
                first = right;
            }
            if !self.comes_first(self.heap[first], self.heap[place]) {
                return;
            }
            self.heap.swap(first, place);
            place = first;
        }
    }

    /// Moves every child, and orders those that are valid. After an error the heap is empty, and so the cursor not valid.
    fn place_all(
        &mut self,
        direction: Direction,
        mut place: impl FnMut(usize, &mut dyn InternalIterator) -> Result<()>,
    ) -> Result<()> {
        self.heap.clear();
        for (number, child) in self.children.iter_mut().enumerate() {
            place(number, child.as_mut())?;
        }
        self.direction = direction;
        self.heap.extend((0..self.children.len()).filter(|&number| self.children[number].valid()));
        for place in (0..self.heap.len() / 2).rev() {
            self.sift_down(place);
        }
        Ok(())
    }

    /// Moves the child with the current entry, and finds the next one to serve.
    fn step_top(&mut self, step: impl FnOnce(&mut dyn InternalIterator) -> Result<()>) -> Result<()> {
        let top = self.heap[0];
        let child = self.children[top].as_mut();
        if let Err(error) = step(child) {
            self.heap.clear();
            return Err(error);
        }
        if !child.valid() {
            self.heap.swap_remove(0);
        }
        self.sift_down(0);
        Ok(())
    }

    /// The number of the child with the current entry. Needs a valid cursor.
    pub fn child(&self) -> usize {
        *self.heap.first().expect("a cursor without position has no entry")
    }

    /// Passes over entries of the children from number `first` on, in the direction of the last move: going forward over
    /// those before `target`, an encoded internal key, and going backward over those that are not before it.
    pub fn skip_to(&mut self, first: usize, target: &[u8]) -> Result<()> {
        let direction = self.direction;
        self.place_all(direction, |number, child| {
            if number < first || !child.valid() {
                return Ok(());
            }
            let is_before = compare(child.key(), target) == Ordering::Less;
            match direction {
                Direction::Forward if is_before => child.seek(target),
                Direction::Backward if !is_before => child.seek_before(target),
                _ => Ok(()),
            }
        })
    }

    fn top(&self) -> &dyn InternalIterator {
        let top = self.heap.first().expect("a cursor without position has no entry");
        self.children[*top].as_ref()
    }
}

impl InternalIterator for MergeIter {
    fn valid(&self) -> bool {
        !self.heap.is_empty()
    }

    fn seek_to_first(&mut self) -> Result<()> {
        self.place_all(Direction::Forward, |_, child| child.seek_to_first())
    }

    fn seek_to_last(&mut self) -> Result<()> {
        self.place_all(Direction::Backward, |_, child| child.seek_to_last())
    }

    fn seek(&mut self, target: &[u8]) -> Result<()> {
        self.place_all(Direction::Forward, |_, child| child.seek(target))
    }

    fn seek_before(&mut self, target: &[u8]) -> Result<()> {
        self.place_all(Direction::Backward, |_, child| child.seek_before(target))
    }

    fn next(&mut self) -> Result<()> {
        assert!(self.valid(), "a cursor without position has no next entry");
        if self.direction == Direction::Forward {
            return self.step_top(|child| child.next());
        }
        let mut pivot = std::mem::take(&mut self.pivot);
        self.top().key().clone_into(&mut pivot);
        let current = self.heap[0];
        let placed =
            self.place_all(
                Direction::Forward,
                |number, child| {
                    if number == current { child.next() } else { child.seek(&pivot) }
                },
            );
        self.pivot = pivot;
        placed
    }

    fn prev(&mut self) -> Result<()> {
        assert!(self.valid(), "a cursor without position has no entry before it");
        if self.direction == Direction::Backward {
            return self.step_top(|child| child.prev());
        }
        let mut pivot = std::mem::take(&mut self.pivot);
        self.top().key().clone_into(&mut pivot);
        let current = self.heap[0];
        let placed = self.place_all(Direction::Backward, |number, child| {
            if number == current { child.prev() } else { child.seek_before(&pivot) }
        });
        self.pivot = pivot;
        placed
    }

    fn key(&self) -> &[u8] {
        self.top().key()
    }

    fn value(&self) -> Bytes {
        self.top().value()
    }
}
