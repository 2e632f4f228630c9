//! Range deletes, cut into fragments that do not overlap, so that the one that counts for a key is found by halving.
//!
//! ```text
//! deletes     [a          m)#5            [a, m) at 5 and [f, t) at 8 ...
//!                  [f          t)#8
//! fragments   [a  f)[f    m)[m t)
//!              5     8,5     8            ... are three fragments; each knows the seqnos of all that cover it, newest first
//! ```
//!
//! A value: whoever holds one sees no change. Adding a delete to a copy takes time in proportion to the fragments that it
//! overlaps and all their seqnos, to the length of one chunk, and to the number of chunks; everything else stays shared with
//! the original. Where each delete holds all that came before, that is the square of their number: whoever adds without end
//! looks at the [weight](Fragments::weight).
//!
//! F1. Fragments ascend, none is empty, and no two overlap.
//! F2. The seqnos of a fragment descend, and there is at least one.

use crate::key::SeqNo;
use bytes::Bytes;
use std::fmt;
use std::sync::Arc;

/// Fragments that are copied together when one of them changes.
const CHUNK_LEN: usize = 64;

/// The keys from `start` up to `end`, which is not one of them, as deleted at each of `seqnos`.
#[derive(Clone, PartialEq, Eq)]
pub struct Fragment {
    /// The first key.
    pub start: Bytes,
    /// The first key behind.
    pub end: Bytes,
    /// When its keys were deleted, the newest first.
    pub seqnos: Arc<[SeqNo]>,
}

impl Fragment {
    /// Whether the key lies within.
    pub fn contains(&self, key: &[u8]) -> bool {
        &self.start[..] <= key && key < &self.end[..]
    }

    /// When its keys were deleted last, as a reader at `seqno` sees it; `None` where that was later than this reader.
    pub fn newest(&self, seqno: SeqNo) -> Option<SeqNo> {
        self.seqnos.get(self.seqnos.partition_point(|&deleted| deleted > seqno)).copied()
    }

    /// When its keys were deleted first after `seqno`.
    pub fn oldest_above(&self, seqno: SeqNo) -> Option<SeqNo> {
        self.seqnos[..self.seqnos.partition_point(|&deleted| deleted > seqno)].last().copied()
    }

    fn within(&self, start: &Bytes, end: &Bytes) -> Fragment {
        Fragment { start: start.clone(), end: end.clone(), seqnos: self.seqnos.clone() }
    }

    /// Puts it behind the last of `fragments`, as one with it where they touch and say the same.
    pub fn append_to(self, fragments: &mut Vec<Fragment>) {
        match fragments.last_mut() {
            Some(last) if last.end == self.start && last.seqnos == self.seqnos => last.end = self.end,
            _ => fragments.push(self),
        }
    }
}

impl fmt::Debug for Fragment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}, {})#{:?}", self.start.escape_ascii(), self.end.escape_ascii(), self.seqnos)
    }
}

/// See the module.
#[derive(Clone, Default)]
pub struct Fragments {
    /// None of them empty.
    chunks: Vec<Arc<Vec<Fragment>>>,
    len: usize,
    weight: usize,
}

impl Fragments {
    /// None.
    pub fn new() -> Fragments {
        Fragments::default()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is deleted.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many seqnos all fragments have together: what another delete costs at most.
    pub fn weight(&self) -> usize {
        self.weight
    }

    /// Deletes the keys from `start` up to `end` at `seqno`. The range must not be empty.
    pub fn add(&mut self, start: Bytes, end: Bytes, seqno: SeqNo) {
        self.add_in_batch(start, end, seqno, seqno);
    }

    /// The same as one of a batch that begins at `first`: no reader is told to read within a batch, so that of its deletes of a
    /// key only the last is kept.
    pub fn add_in_batch(&mut self, start: Bytes, end: Bytes, seqno: SeqNo, first_of_batch: SeqNo) {
        assert!(start < end, "F1: [{}, {}) is empty", start.escape_ascii(), end.escape_ascii());
        // The chunks that the delete touches, or else the one behind it or, at the end, before it.
        let first = self.chunks.partition_point(|chunk| chunk.last().is_some_and(|last| last.end <= start));
        let first = first.min(self.chunks.len().saturating_sub(1));
        let behind = self.chunks.partition_point(|chunk| chunk.first().is_some_and(|first| first.start < end));
        let behind = behind.max(first + 1).min(self.chunks.len());
        let old: Vec<Arc<Vec<Fragment>>> = self.chunks.drain(first..behind).collect();
        let mut new = Vec::new();
        let mut at = start;
        for fragment in old.iter().flat_map(|chunk| chunk.iter()) {
            self.len -= 1;
            self.weight -= fragment.seqnos.len();
            let (from, to) = ((&fragment.start).max(&at).clone(), (&fragment.end).min(&end).clone());
            if from >= to {
                if fragment.start >= end && at < end {
                    Fragment { start: at, end: end.clone(), seqnos: [seqno].into() }.append_to(&mut new);
                    at = end.clone();
                }
                fragment.clone().append_to(&mut new);
                continue;
            }
            if at < from {
                Fragment { start: at, end: from.clone(), seqnos: [seqno].into() }.append_to(&mut new);
            }
            if fragment.start < from {
                fragment.within(&fragment.start, &from).append_to(&mut new);
            }
            let seqnos = with(&fragment.seqnos, seqno, first_of_batch);
            Fragment { start: from, end: to.clone(), seqnos }.append_to(&mut new);
            if to < fragment.end {
                fragment.within(&to, &fragment.end).append_to(&mut new);
            }
            at = to;
        }
        if at < end {
            Fragment { start: at, end, seqnos: [seqno].into() }.append_to(&mut new);
        }
        self.len += new.len();
        self.weight += new.iter().map(|fragment| fragment.seqnos.len()).sum::<usize>();
        let pieces = new.len().div_ceil(CHUNK_LEN);
        let chunks = new.chunks(new.len().div_ceil(pieces)).map(|piece| Arc::new(piece.to_vec()));
        self.chunks.splice(first..first, chunks);
    }

    /// Adds all of `others`, as they are in a table or a memtable.
    pub fn merge(&mut self, others: &Fragments) {
        for fragment in others.iter() {
            for &seqno in fragment.seqnos.iter() {
                self.add(fragment.start.clone(), fragment.end.clone(), seqno);
            }
        }
    }

    /// Appends a fragment behind all others.
    pub fn push(&mut self, fragment: Fragment) {
        let ascends = self.last().is_none_or(|last| last.end <= fragment.start) && fragment.start < fragment.end;
        assert!(ascends, "F1: {fragment:?} does not come after {:?}", self.last());
        assert!(
            !fragment.seqnos.is_empty() && fragment.seqnos.windows(2).all(|pair| pair[0] > pair[1]),
            "F2: {fragment:?} has seqnos that do not descend"
        );
        self.len += 1;
        self.weight += fragment.seqnos.len();
        match self.chunks.last_mut() {
            Some(chunk) if chunk.len() < CHUNK_LEN => Arc::make_mut(chunk).push(fragment),
            _ => self.chunks.push(Arc::new(vec![fragment])),
        }
    }

    /// The last one.
    pub fn last(&self) -> Option<&Fragment> {
        self.chunks.last()?.last()
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Fragment> {
        self.chunks.iter().flat_map(|chunk| chunk.iter())
    }

    /// Those that end behind `key`, in order.
    pub fn from(&self, key: &[u8]) -> impl Iterator<Item = &Fragment> {
        let first = self.chunks.partition_point(|chunk| chunk.last().is_some_and(|last| &last.end[..] <= key));
        let skipped = self.chunks.get(first).map_or(0, |chunk| chunk.partition_point(|one| &one.end[..] <= key));
        self.chunks[first..].iter().flat_map(|chunk| chunk.iter()).skip(skipped)
    }

    /// The one that holds `key`.
    pub fn at(&self, key: &[u8]) -> Option<&Fragment> {
        self.from(key).next().filter(|fragment| &fragment.start[..] <= key)
    }

    /// When `key` was deleted last as part of a range, as a reader at `seqno` sees it.
    pub fn newest(&self, key: &[u8], seqno: SeqNo) -> Option<SeqNo> {
        self.at(key)?.newest(seqno)
    }

    /// Where the fragment before the first that ends behind `key` ends.
    pub fn end_before(&self, key: &[u8]) -> Option<&Bytes> {
        let chunk = self.chunks.partition_point(|chunk| chunk.first().is_some_and(|first| &first.end[..] <= key));
        let chunk = self.chunks.get(chunk.checked_sub(1)?)?;
        Some(&chunk[chunk.partition_point(|one| &one.end[..] <= key) - 1].end)
    }
}

impl fmt::Debug for Fragments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl PartialEq for Fragments {
    fn eq(&self, other: &Fragments) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Fragments {}

/// The seqnos and one more, newest first, without those from `replaced` up to it.
fn with(seqnos: &[SeqNo], seqno: SeqNo, replaced: SeqNo) -> Arc<[SeqNo]> {
    let newer = seqnos.iter().take_while(|&&other| other > seqno);
    let older = &seqnos[seqnos.partition_point(|&other| other >= replaced)..];
    newer.chain([&seqno]).chain(older).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(number: u16) -> Bytes {
        Bytes::copy_from_slice(&number.to_be_bytes())
    }

    proptest! {
        #[test]
        fn a_key_was_deleted_whenever_a_range_held_it(
            deletes in proptest::collection::vec((0u16..400, 1u16..40, 1u64..90), 0..200),
            probes in proptest::collection::vec((0u16..450, 0u64..100), 20),
        ) {
            let mut fragments = Fragments::new();
            let mut again = Fragments::new();
            for &(start, len, seqno) in &deletes {
                let before = fragments.clone();
                let was: Vec<Fragment> = before.iter().cloned().collect();
                fragments.add(key(start), key(start + len), seqno);
                prop_assert!(before.iter().eq(was.iter()), "a copy that somebody holds has changed");
            }
            for fragment in fragments.iter() {
                again.push(fragment.clone());
            }
            prop_assert_eq!(&again, &fragments);
            prop_assert_eq!(fragments.len(), fragments.iter().count());
            let weight = fragments.iter().map(|fragment| fragment.seqnos.len()).sum();
            prop_assert_eq!((fragments.weight(), again.weight()), (weight, weight));
            for (probe, seqno) in probes {
                let holding = deletes.iter().filter(|(start, len, _)| (*start..start + len).contains(&probe));
                let seqnos: Vec<SeqNo> = holding.map(|delete| delete.2).collect();
                let key = key(probe);
                let newest = seqnos.iter().copied().filter(|&deleted| deleted <= seqno).max();
                prop_assert_eq!(fragments.newest(&key, seqno), newest);
                let above = seqnos.iter().copied().filter(|&deleted| deleted > seqno).min();
                prop_assert_eq!(fragments.at(&key).and_then(|one| one.oldest_above(seqno)), above);
                let end = fragments.iter().map(|one| one.end.clone()).filter(|end| *end <= key).last();
                prop_assert_eq!(fragments.end_before(&key), end.as_ref());
            }
        }
    }

    proptest! {
        #[test]
        fn of_a_batch_only_the_last_delete_of_a_key_is_kept_and_readers_outside_it_see_no_difference(
            batches in proptest::collection::vec(proptest::collection::vec((0u16..60, 1u16..40), 1..8), 1..12),
        ) {
            let (mut all, mut last, mut seqno) = (Fragments::new(), Fragments::new(), 1);
            let mut ends = vec![0];
            for batch in &batches {
                let first = seqno;
                for &(start, len) in batch {
                    all.add(key(start), key(start + len), seqno);
                    last.add_in_batch(key(start), key(start + len), seqno, first);
                    seqno += 1;
                }
                ends.push(seqno - 1);
            }
            for probe in (0..110).map(key) {
                for &at in &ends {
                    prop_assert_eq!(all.newest(&probe, at), last.newest(&probe, at));
                }
            }
            prop_assert!(last.iter().all(|fragment| fragment.seqnos.len() <= batches.len()));
        }
    }

    #[test]
    fn deletes_of_one_batch_that_hold_each_other_are_one_fragment() {
        let mut fragments = Fragments::new();
        for number in 1..10_000 {
            fragments.add_in_batch(key(0), key(number), 6 + u64::from(number), 7);
        }
        assert_eq!((fragments.len(), fragments.weight()), (1, 1));
    }

    #[test]
    fn many_deletes_one_behind_the_other_lie_in_chunks_that_are_full() {
        let mut fragments = Fragments::new();
        for number in 0..10_000 {
            fragments.add(key(number), key(number + 1), 1 + u64::from(number));
        }
        assert_eq!(fragments.len(), 10_000);
        assert!(fragments.chunks.len() <= 2 * 10_000 / CHUNK_LEN + 1, "{} chunks", fragments.chunks.len());
    }
}
