//! The memtables that share a log: one for each keyspace that was written to since the log was begun.
//!
//! They are frozen together, flushed together, and their tables enter the manifest by one edit. So a batch over several
//! keyspaces is never split, and a keyspace in which nothing happens holds no log back.
//!
//! The one of the default keyspace is a field, and costs a reader nothing to find. Another comes into being with the first entry
//! of its keyspace, and is in the list before the entry can be visible: who finds none at a seqno that it was told to read at
//! misses nothing.

use super::entries::Memtable;
use crate::batch::BatchEntry;
use crate::key::{KEYSPACE_DEFAULT, KeyspaceId, Lookup, SeqNo};
use arc_swap::ArcSwap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Memtables by keyspace.
pub struct Generation {
    default: Arc<Memtable>,
    /// Those of other keyspaces, by number.
    others: ArcSwap<Vec<(KeyspaceId, Arc<Memtable>)>>,
    /// Of all of them.
    bytes: AtomicU64,
    /// Whether one has as many range deletes as it may.
    has_too_many_ranges: AtomicBool,
    /// Whether a reader has met a key with more operands than it should look at one by one.
    has_long_chain: AtomicBool,
}

impl fmt::Debug for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.memtables()).finish()
    }
}

impl Default for Generation {
    fn default() -> Generation {
        Generation::new()
    }
}

impl Generation {
    /// Empty ones.
    pub fn new() -> Generation {
        Generation {
            default: Arc::new(Memtable::new()),
            others: ArcSwap::default(),
            bytes: AtomicU64::new(0),
            has_too_many_ranges: AtomicBool::new(false),
            has_long_chain: AtomicBool::new(false),
        }
    }

    /// The memtable of a keyspace; `None` where nothing was written to it.
    pub fn of(&self, keyspace: KeyspaceId) -> Option<Arc<Memtable>> {
        if keyspace == KEYSPACE_DEFAULT {
            return Some(self.default.clone());
        }
        find(&self.others.load(), keyspace).cloned()
    }

    /// All memtables, by keyspace. Empty ones may be among them.
    pub fn memtables(&self) -> Vec<(KeyspaceId, Arc<Memtable>)> {
        let mut all = vec![(KEYSPACE_DEFAULT, self.default.clone())];
        all.extend(self.others.load().iter().cloned());
        all
    }

    /// A generation with the same memtable of this keyspace, and none of others. Nobody may insert any more.
    pub fn only(&self, keyspace: KeyspaceId) -> Generation {
        let only = Generation::new();
        let memtable = self.of(keyspace).filter(|_| keyspace != KEYSPACE_DEFAULT);
        only.others.store(Arc::new(memtable.map(|memtable| (keyspace, memtable)).into_iter().collect()));
        only
    }

    /// Adds a batch, whose first entry has the seqno `first`. One thread at a time. Readers may see a part of it at once, and
    /// must be told to read at a seqno before it or behind it.
    pub fn insert_batch(&self, first: SeqNo, entries: impl IntoIterator<Item = BatchEntry>) {
        let mut entries = (first..).zip(entries).peekable();
        while let Some((_, BatchEntry { keyspace, .. })) = entries.peek() {
            let keyspace = *keyspace;
            let run = std::iter::from_fn(|| entries.next_if(|(_, entry)| entry.keyspace == keyspace));
            if keyspace == KEYSPACE_DEFAULT {
                self.insert_into(&self.default, first, run);
            } else {
                self.insert_into(&self.of_or_new(keyspace), first, run);
            }
        }
    }

    fn insert_into(&self, memtable: &Memtable, first: SeqNo, run: impl Iterator<Item = (SeqNo, BatchEntry)>) {
        let before = memtable.bytes();
        memtable.insert_batch(first, run);
        self.bytes.fetch_add(memtable.bytes() - before, Ordering::Relaxed);
        if memtable.has_too_many_ranges() {
            self.has_too_many_ranges.store(true, Ordering::Relaxed);
        }
    }

    fn of_or_new(&self, keyspace: KeyspaceId) -> Arc<Memtable> {
        let others = self.others.load();
        if let Some(memtable) = find(&others, keyspace) {
            return memtable.clone();
        }
        let memtable = Arc::new(Memtable::new());
        let mut more = Vec::clone(&others);
        let at = more.partition_point(|(other, _)| *other < keyspace);
        more.insert(at, (keyspace, memtable.clone()));
        self.others.store(Arc::new(more));
        memtable
    }

    /// What the newest entry of `key` at or below `seqno` says, or a newer range delete that holds it; `None` where there is
    /// neither.
    #[inline]
    pub fn get(&self, keyspace: KeyspaceId, key: &[u8], seqno: SeqNo) -> Option<Lookup> {
        if keyspace == KEYSPACE_DEFAULT {
            return self.default.get(key, seqno);
        }
        find(&self.others.load(), keyspace)?.get(key, seqno)
    }

    /// Bytes of memory that the entries of all take, closely estimated.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// A reader has met a key with more operands than it should look at one by one: a flush makes them fewer.
    pub fn tell_long_chain(&self) {
        self.has_long_chain.store(true, Ordering::Relaxed);
    }

    /// Whether it has taken as much as it should: so many bytes, or in one keyspace so many range deletes over each other, or for
    /// one key so many operands, that one more would cost too much.
    pub fn is_full(&self, bytes_max: u64) -> bool {
        let costs_too_much = |flag: &AtomicBool| flag.load(Ordering::Relaxed);
        self.bytes() >= bytes_max || costs_too_much(&self.has_too_many_ranges) || costs_too_much(&self.has_long_chain)
    }

    /// Entries of all, range deletes not among them.
    pub fn entries(&self) -> u64 {
        self.default.entries() + self.others.load().iter().map(|(_, memtable)| memtable.entries()).sum::<u64>()
    }

    /// Whether there are neither entries nor range deletes.
    pub fn is_empty(&self) -> bool {
        self.default.is_empty() && self.others.load().iter().all(|(_, memtable)| memtable.is_empty())
    }
}

#[inline]
fn find(memtables: &[(KeyspaceId, Arc<Memtable>)], keyspace: KeyspaceId) -> Option<&Arc<Memtable>> {
    memtables.binary_search_by_key(&keyspace, |(id, _)| *id).ok().map(|index| &memtables[index].1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{WriteBatch, decode};

    fn insert(generation: &Generation, first: SeqNo, batch: WriteBatch) {
        let count = batch.count();
        let entries = decode(batch.into_bytes(), count).map(|entry| entry.expect("whole entries"));
        generation.insert_batch(first, entries);
    }

    #[test]
    fn a_batch_goes_to_the_memtables_of_its_keyspaces_and_keeps_its_numbers() {
        let generation = Generation::new();
        let mut batch = WriteBatch::new();
        batch.put(b"k", b"zero");
        batch.put_in(7u32, b"k", b"seven");
        batch.put_in(3u32, b"k", b"three");
        batch.delete_range_in(7u32, b"a", b"z");
        batch.put(b"k", b"zero again");
        insert(&generation, 10, batch);
        let found = |keyspace, seqno| match generation.get(keyspace, b"k", seqno) {
            Some(Lookup::Found(value)) => String::from_utf8_lossy(&value).into_owned(),
            other => format!("{other:?}"),
        };
        assert_eq!((found(0, 13).as_str(), found(0, 14).as_str()), ("zero", "zero again"));
        assert_eq!((found(3, 11).as_str(), found(3, 12).as_str()), ("None", "three"));
        assert_eq!((found(7, 12).as_str(), found(7, 14).as_str()), ("seven", "Some(Deleted)"));
        assert_eq!(found(5, 99), "None");
        let ids: Vec<KeyspaceId> = generation.memtables().into_iter().map(|(id, _)| id).collect();
        assert_eq!(ids, [0, 3, 7], "by number");
        let sum: u64 = generation.memtables().iter().map(|(_, memtable)| memtable.bytes()).sum();
        assert_eq!(generation.bytes(), sum, "the bytes of all count");
        assert!(generation.only(7).of(3).is_none() && generation.only(7).of(7).is_some());
    }

    #[test]
    fn one_keyspace_with_too_many_range_deletes_fills_all() {
        let generation = Generation::new();
        for number in 0..200u8 {
            let mut batch = WriteBatch::new();
            batch.delete_range_in(7u32, &[number], b"\xff\xff");
            insert(&generation, 1 + u64::from(number), batch);
        }
        assert!(generation.is_full(u64::MAX) && !generation.is_empty());
    }
}
