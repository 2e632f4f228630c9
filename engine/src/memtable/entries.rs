//! One memtable: entries of one keyspace in a skip list, and its range deletes beside them.

use super::skiplist::{NODE_OVERHEAD, SkipList, Target};
use crate::batch::BatchEntry;
use crate::error::Result;
use crate::fragments::Fragments;
use crate::iter::InternalIterator;
use crate::key::{InternalKey, KIND_FOR_SEEK, Kind, Lookup, SEQNO_MAX, SeqNo, TRAILER_LEN, trailer};
use arc_swap::ArcSwap;
use bytes::Bytes;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The [weight](Fragments::weight) of range deletes that fills a memtable: some 180 that each hold all before, and 16,384 that
/// lie side by side.
const RANGE_WEIGHT_MAX: usize = 16_384;

/// Entries by internal key.
pub struct Memtable {
    list: SkipList,
    has_range_deletes: AtomicBool,
    has_expiring: AtomicBool,
    fragments: ArcSwap<Fragments>,
    bytes: AtomicU64,
    entries: AtomicU64,
    seqno_min: AtomicU64,
    seqno_max: AtomicU64,
}

impl fmt::Debug for Memtable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Memtable({} entries, {} bytes)", self.entries(), self.bytes())
    }
}

impl Default for Memtable {
    fn default() -> Memtable {
        Memtable::new()
    }
}

impl Memtable {
    /// An empty one. Owns no memory beside itself until something is inserted.
    pub fn new() -> Memtable {
        Memtable {
            list: SkipList::new(),
            has_range_deletes: AtomicBool::new(false),
            has_expiring: AtomicBool::new(false),
            fragments: ArcSwap::default(),
            bytes: AtomicU64::new(0),
            entries: AtomicU64::new(0),
            seqno_min: AtomicU64::new(u64::MAX),
            seqno_max: AtomicU64::new(0),
        }
    }

    /// Adds entries, each with its seqno, of a batch whose first has the seqno `first`. One thread at a time. Readers may see a
    /// part of it at once, and must be told to read at a seqno before it or behind it.
    pub fn insert_batch(&self, first: SeqNo, entries: impl IntoIterator<Item = (SeqNo, BatchEntry)>) {
        let mut fragments = None;
        for (seqno, BatchEntry { key, kind, value, .. }) in entries {
            if kind != Kind::RangeDelete {
                self.insert(&key, seqno, kind, value);
                continue;
            }
            self.count(seqno, key.len() + value.len());
            let fragments = fragments.get_or_insert_with(|| Fragments::clone(&self.fragments.load()));
            fragments.add_in_batch(Bytes::copy_from_slice(&key), value, seqno, first);
        }
        if let Some(fragments) = fragments {
            self.fragments.store(Arc::new(fragments));
            self.has_range_deletes.store(true, Ordering::Release);
        }
    }

    /// Adds an entry of one key. The key is copied, the value is kept as it is. Concurrent inserts wait for each other. Readers
    /// may see the entry at once, so its sequence number must be above what they were told to read at. U1 is asserted.
    pub fn insert(&self, key: &[u8], seqno: SeqNo, kind: Kind, value: Bytes) {
        self.count(seqno, key.len() + value.len());
        if kind == Kind::PutExpiring {
            self.has_expiring.store(true, Ordering::Relaxed);
        }
        self.list.insert(InternalKey::new(key, seqno, kind).encode().into_boxed_slice(), value);
        self.entries.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts what is about to be added.
    fn count(&self, seqno: SeqNo, len: usize) {
        assert!(seqno <= SEQNO_MAX, "seqno {seqno} needs more than 56 bits");
        self.bytes.fetch_add((len + TRAILER_LEN + NODE_OVERHEAD) as u64, Ordering::Relaxed);
        self.seqno_min.fetch_min(seqno, Ordering::Relaxed);
        self.seqno_max.fetch_max(seqno, Ordering::Relaxed);
    }

    /// What the newest entry of `key` at or below `seqno` says, or a newer range delete that holds it; `None` where there is
    /// neither.
    pub fn get(&self, key: &[u8], seqno: SeqNo) -> Option<Lookup> {
        let deleted = if self.has_range_deletes() { self.fragments.load().newest(key, seqno) } else { None };
        match self.entry(key, seqno) {
            Some((found, _)) if deleted.is_some_and(|deleted| deleted > found) => Some(Lookup::Deleted),
            Some((_, lookup)) => Some(lookup),
            None => deleted.map(|_| Lookup::Deleted),
        }
    }

    /// The newest entry of `key` at or below `seqno`.
    #[inline]
    fn entry(&self, key: &[u8], seqno: SeqNo) -> Option<(SeqNo, Lookup)> {
        let node = self.list.at_or_after(&Target::new(key, trailer(seqno, KIND_FOR_SEEK)));
        if node == 0 {
            return None;
        }
        let found = InternalKey::decode(self.list.key(node)).expect("keys are encoded by insert");
        if found.user != key {
            return None;
        }
        let lookup = Lookup::of(found.kind, || self.list.value(node).clone());
        Some((found.seqno, lookup.expect("entries that say nothing of one key are refused before they get here")))
    }

    /// Bytes of memory that the entries take, closely estimated.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Whether it has so many range deletes over each other that one more would cost too much.
    pub fn has_too_many_ranges(&self) -> bool {
        self.has_range_deletes() && self.fragments.load().weight() >= RANGE_WEIGHT_MAX
    }

    /// Whether a range was deleted.
    #[inline]
    pub fn has_range_deletes(&self) -> bool {
        self.has_range_deletes.load(Ordering::Acquire)
    }

    /// Whether any entry expires.
    pub fn has_expiring(&self) -> bool {
        self.has_expiring.load(Ordering::Relaxed)
    }

    /// The range deletes so far, unmoved by later ones.
    pub fn fragments(&self) -> Arc<Fragments> {
        self.fragments.load_full()
    }

    /// Entries, range deletes not among them.
    pub fn entries(&self) -> u64 {
        self.entries.load(Ordering::Relaxed)
    }

    /// Whether there are neither entries nor range deletes.
    pub fn is_empty(&self) -> bool {
        self.entries() == 0 && !self.has_range_deletes()
    }

    /// The smallest and the largest sequence number in it. Meaningful only while nobody inserts.
    pub fn seqno_range(&self) -> Option<(SeqNo, SeqNo)> {
        let (min, max) = (self.seqno_min.load(Ordering::Relaxed), self.seqno_max.load(Ordering::Relaxed));
        (min <= max).then_some((min, max))
    }

    /// A cursor over the entries, which keeps the memtable alive. It sees what was inserted before it was placed, and maybe
    /// what is inserted meanwhile.
    pub fn iter(self: &Arc<Memtable>) -> MemtableIter {
        MemtableIter { memtable: self.clone(), node: 0 }
    }
}

/// Cursor over a memtable. Never fails and never waits.
#[derive(Debug)]
pub struct MemtableIter {
    memtable: Arc<Memtable>,
    /// 0: not valid.
    node: u32,
}

impl InternalIterator for MemtableIter {
    fn valid(&self) -> bool {
        self.node != 0
    }

    fn seek_to_first(&mut self) -> Result<()> {
        self.node = self.memtable.list.first();
        Ok(())
    }

    fn seek_to_last(&mut self) -> Result<()> {
        self.node = self.memtable.list.last();
        Ok(())
    }

    fn seek(&mut self, target: &[u8]) -> Result<()> {
        self.node = self.memtable.list.at_or_after(&Target::encoded(target));
        Ok(())
    }

    fn seek_before(&mut self, target: &[u8]) -> Result<()> {
        self.node = self.memtable.list.before(&Target::encoded(target));
        Ok(())
    }

    fn next(&mut self) -> Result<()> {
        assert!(self.valid(), "next needs a valid cursor");
        self.node = self.memtable.list.after(self.node);
        Ok(())
    }

    fn prev(&mut self) -> Result<()> {
        assert!(self.valid(), "prev needs a valid cursor");
        self.node = self.memtable.list.back(self.node);
        Ok(())
    }

    fn key(&self) -> &[u8] {
        assert!(self.valid(), "key needs a valid cursor");
        self.memtable.list.key(self.node)
    }

    fn value(&self) -> Bytes {
        assert!(self.valid(), "value needs a valid cursor");
        self.memtable.list.value(self.node).clone()
    }
}

#[cfg(test)]
mod tests;
