//! All that is left of one keyspace, in key order, the newest of each key first.

use crate::iter::InternalIterator;
use crate::key::compare;
use crate::memtable::{Memtable, MemtableIter};
use crate::sst::{Bounds, Entry, Remains};
use bytes::Bytes;
use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::sync::Arc;

/// One place where entries are left. What was read of it stays here.
pub(super) enum Source {
    /// A table, and the entries of the block that was read last, the next one at the end.
    Table(Box<Remains>, Vec<Entry>),
    /// What a log held of the keyspace.
    Log(MemtableIter),
}

impl Source {
    pub(super) fn table(remains: Remains) -> Source {
        Source::Table(Box::new(remains), Vec::new())
    }

    pub(super) fn log(memtable: &Arc<Memtable>) -> Source {
        let mut iter = memtable.iter();
        iter.seek_to_first().expect("a memtable never fails");
        Source::Log(iter)
    }

    fn next(&mut self) -> Option<Entry> {
        match self {
            Source::Table(remains, entries) => {
                while entries.is_empty() {
                    *entries = remains.next_block()?;
                    entries.reverse();
                }
                entries.pop()
            }
            Source::Log(iter) => {
                let entry = iter.valid().then(|| (iter.key().to_vec(), iter.value()))?;
                iter.next().expect("a memtable never fails");
                Some(entry)
            }
        }
    }
}

/// An entry, and the place that it is from.
struct Head {
    key: Vec<u8>,
    value: Bytes,
    source: usize,
}

impl Ord for Head {
    fn cmp(&self, other: &Head) -> Ordering {
        compare(&self.key, &other.key).then(self.source.cmp(&other.source))
    }
}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Head) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Head {
    fn eq(&self, other: &Head) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Head {}

/// A walk over all sources at once. What a table has lost is known before the first key that may have lain there is come to, since
/// a source is always read on to its next entry.
pub(super) struct Walk {
    sources: Vec<Source>,
    heads: BinaryHeap<Reverse<Head>>,
    /// Where something is lost, and how many of these are of each source.
    lost: Vec<Bounds>,
    lost_of: Vec<usize>,
    /// Entries taken from each source.
    taken: Vec<u64>,
}

impl Walk {
    /// `lost` is what is known to be lost beside it.
    pub(super) fn over(sources: Vec<Source>, lost: Vec<Bounds>) -> Walk {
        let (taken, lost_of) = (vec![0; sources.len()], vec![0; sources.len()]);
        let mut walk = Walk { sources, heads: BinaryHeap::new(), lost, lost_of, taken };
        (0..walk.sources.len()).for_each(|source| walk.advance(source));
        walk
    }

    fn advance(&mut self, source: usize) {
        if let Some((key, value)) = self.sources[source].next() {
            self.taken[source] += 1;
            self.heads.push(Reverse(Head { key, value, source }));
        }
        if let Source::Table(remains, _) = &self.sources[source] {
            let more = &remains.lost()[self.lost_of[source]..];
            self.lost.extend(more.iter().map(|part| (part.from.clone(), part.to.clone())));
            self.lost_of[source] = remains.lost().len();
        }
    }

    /// Whether a key that was come to lies where something is lost.
    pub(super) fn is_in_doubt(&self, key: &[u8]) -> bool {
        let holds = |(from, to): &Bounds| {
            from.as_deref().is_none_or(|from| from <= key) && to.as_deref().is_none_or(|to| key <= to)
        };
        self.lost.iter().any(holds)
    }

    /// The next entry.
    pub(super) fn next(&mut self) -> Option<Entry> {
        let Reverse(Head { key, value, source }) = self.heads.pop()?;
        self.advance(source);
        Some((key, value))
    }

    /// The sources, and how many entries each had.
    pub(super) fn into_sources(self) -> impl Iterator<Item = (Source, u64)> {
        self.sources.into_iter().zip(self.taken)
    }
}
