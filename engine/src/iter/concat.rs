//! The disjoint tables of one level as one cursor, which holds one of them open at a time.
//!
//! The bounds of the tables say which one can answer, so that the others are never opened. That the bounds are true and
//! the tables disjoint and in order is I1 of the manifest, and not checked here.

use super::internal::InternalIterator;
use crate::error::Result;
use crate::key::compare;
use bytes::Bytes;
use std::cmp::Ordering;

/// Where a [`ConcatIter`] finds its tables: in key order, disjoint, none empty. Bounds are encoded internal keys.
pub trait TableSource: Send {
    /// How many there are.
    fn count(&self) -> usize;
    /// The first key of a table.
    fn smallest(&self, index: usize) -> &[u8];
    /// The last key of a table.
    fn largest(&self, index: usize) -> &[u8];
    /// A cursor over a table.
    fn open(&self, index: usize) -> Result<Box<dyn InternalIterator>>;
}

/// See the module.
pub struct ConcatIter<S> {
    source: S,
    /// The table that is open, and its number.
    current: Option<(usize, Box<dyn InternalIterator>)>,
}

impl<S: TableSource> ConcatIter<S> {
    /// Over all tables of the source. Opens none yet.
    pub fn new(source: S) -> ConcatIter<S> {
        ConcatIter { source, current: None }
    }

    /// Moves within one table, opening it if another one is open. After an error none is.
    fn enter(&mut self, index: usize, place: impl FnOnce(&mut dyn InternalIterator) -> Result<()>) -> Result<()> {
        let mut child = match self.current.take() {
            Some((open, child)) if open == index => child,
            _ => self.source.open(index)?,
        };
        place(child.as_mut())?;
        self.current = Some((index, child));
        Ok(())
    }

    fn skip_forward(&mut self) -> Result<()> {
        while let Some((index, child)) = &self.current
            && !child.valid()
            && index + 1 < self.source.count()
        {
            self.enter(index + 1, |child| child.seek_to_first())?;
        }
        Ok(())
    }

    fn skip_backward(&mut self) -> Result<()> {
        while let Some((index, child)) = &self.current
            && !child.valid()
            && *index > 0
        {
            self.enter(index - 1, |child| child.seek_to_last())?;
        }
        Ok(())
    }

    /// How many tables, from the first on, satisfy a condition that holds for none behind one for which it does not.
    fn partition(&self, holds: impl Fn(usize) -> bool) -> usize {
        let (mut low, mut high) = (0, self.source.count());
        while low < high {
            let middle = low + (high - low) / 2;
            if holds(middle) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    fn child(&self) -> &dyn InternalIterator {
        let (_, child) = self.current.as_ref().expect("a cursor without position has no entry");
        child.as_ref()
    }

    fn index(&self) -> usize {
        self.current.as_ref().expect("a cursor without position does not step").0
    }
}

impl<S: TableSource> InternalIterator for ConcatIter<S> {
    fn valid(&self) -> bool {
        self.current.as_ref().is_some_and(|(_, child)| child.valid())
    }

    fn seek_to_first(&mut self) -> Result<()> {
        if self.source.count() == 0 {
            return Ok(());
        }
        self.enter(0, |child| child.seek_to_first())?;
        self.skip_forward()
    }

    fn seek_to_last(&mut self) -> Result<()> {
        let Some(last) = self.source.count().checked_sub(1) else { return Ok(()) };
        self.enter(last, |child| child.seek_to_last())?;
        self.skip_backward()
    }

    fn seek(&mut self, target: &[u8]) -> Result<()> {
        let index = self.partition(|index| compare(self.source.largest(index), target) == Ordering::Less);
        if index == self.source.count() {
            self.current = None;
            return Ok(());
        }
        self.enter(index, |child| child.seek(target))?;
        self.skip_forward()
    }

    fn seek_before(&mut self, target: &[u8]) -> Result<()> {
        let below = self.partition(|index| compare(self.source.smallest(index), target) == Ordering::Less);
        let Some(index) = below.checked_sub(1) else {
            self.current = None;
            return Ok(());
        };
        self.enter(index, |child| child.seek_before(target))?;
        self.skip_backward()
    }

    fn next(&mut self) -> Result<()> {
        assert!(self.valid(), "a cursor without position has no next entry");
        self.enter(self.index(), |child| child.next())?;
        self.skip_forward()
    }

    fn prev(&mut self) -> Result<()> {
        assert!(self.valid(), "a cursor without position has no entry before it");
        self.enter(self.index(), |child| child.prev())?;
        self.skip_backward()
    }

    fn key(&self) -> &[u8] {
        self.child().key()
    }

    fn value(&self) -> Bytes {
        self.child().value()
    }
}
