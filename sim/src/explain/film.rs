//! What the disk and the store looked like before each call that could change the disk.
//!
//! A long run has more moments than anybody looks at: the first and the last are kept, and how many were left out between them is
//! known.

use crate::disk::DiskView;
use crate::watch::{Level, Sight};
use std::collections::VecDeque;

/// Moments from the start of a run that are kept.
const HEAD_MAX: usize = 100;

/// Moments before its end that are kept.
const TAIL_MAX: usize = 300;

/// One moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moment {
    /// The call that is about to be made, by its number in the run.
    pub call: u64,
    /// Operations that had been started.
    pub ops: u64,
    /// The disk.
    pub disk: DiskView,
    /// The levels of the store, as it told of them last.
    pub levels: Vec<Level>,
}

/// The moments of a run, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Film {
    head: Vec<Moment>,
    tail: VecDeque<Moment>,
    left_out: usize,
}

impl Film {
    /// Adds the moment before this call, if the call may change the disk.
    pub(super) fn see(&mut self, call: u64, ops: u64, sight: &Sight<'_>) {
        if sight.is_boundary() {
            self.push(Moment { call, ops, disk: sight.disk.view(), levels: sight.levels.to_vec() });
        }
    }

    fn push(&mut self, moment: Moment) {
        if self.head.len() < HEAD_MAX {
            self.head.push(moment);
            return;
        }
        self.tail.push_back(moment);
        if self.tail.len() > TAIL_MAX {
            self.tail.pop_front();
            self.left_out += 1;
        }
    }

    /// The moment before the call of this number, if it was kept.
    pub fn before(&self, call: u64) -> Option<&Moment> {
        let of_head = self.head.binary_search_by_key(&call, |moment| moment.call).map(|index| &self.head[index]);
        of_head.ok().or_else(|| {
            let index = self.tail.binary_search_by_key(&call, |moment| moment.call).ok()?;
            self.tail.get(index)
        })
    }

    /// How many were not kept.
    pub fn left_out(&self) -> usize {
        self.left_out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_and_the_last_moments_of_a_long_run_are_kept() {
        let mut film = Film::default();
        for call in 1..=1000 {
            film.push(Moment { call, ops: 0, disk: DiskView::default(), levels: Vec::new() });
        }
        let kept: Vec<u64> = (0..=1001).filter(|&call| film.before(call).is_some()).collect();
        assert_eq!((kept.len(), film.left_out()), (HEAD_MAX + TAIL_MAX, 1000 - HEAD_MAX - TAIL_MAX));
        assert_eq!((kept[0], kept[HEAD_MAX], kept[HEAD_MAX + TAIL_MAX - 1]), (1, 701, 1000));
    }
}
