//! Table blocks in memory, up to a number of bytes.
//!
//! A few shards, each a lock around a map and a clock: blocks stand in a ring, a hit marks a block, and the hand that
//! looks for room passes over a marked block once, taking the mark away. So a scan that reads each block once pushes out
//! what is not in use before what is. The number of shards follows from the capacity and the shard of a block from its
//! place, both fixed, so that one history of calls always leaves the same content. No file system call is made under a
//! lock. Memory is claimed as blocks come in, whatever the capacity.
//!
//! A block is known by file and offset. File numbers are never used again, so that a block here is never out of date.

use crate::mark::sometimes;
use crate::sync::Mutex;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// A shard of less than this would be too small for one large block, so a small cache is one shard.
const SHARD_BYTES_MIN: u64 = 1024 * 1024;
const SHARDS_MAX: u64 = 16;

/// What keeping a block costs beside its bytes, about: its places in the map and the ring.
const BLOCK_OVERHEAD: u64 = 96;

type Place = (u64, u64);

/// What a cache has done, and holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStats {
    /// Blocks that were asked for and found.
    pub hits: u64,
    /// Blocks that were asked for and not found.
    pub misses: u64,
    /// Bytes of the blocks held, and of keeping them.
    pub bytes: u64,
    /// The most that `bytes` becomes.
    pub capacity: u64,
}

/// What it took to look keys up in tables: of gets, and of transactions that look for conflicts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LookupStats {
    /// Tables that were asked for a key.
    pub tables: u64,
    /// Tables of these whose filter said that the key is not there.
    pub filter_useful: u64,
    /// Tables of these whose filter let the key pass, and that had nothing of it to show.
    pub filter_false: u64,
}

/// Counts lookups in tables.
#[derive(Default)]
pub(crate) struct Lookups {
    tables: AtomicU64,
    useful: AtomicU64,
    vain: AtomicU64,
}

impl Lookups {
    /// A table was asked. `passed`: whether it has a filter that let the key pass; `None` where it has none.
    #[inline]
    pub(crate) fn asked(&self, passed: Option<bool>, found: bool) {
        self.tables.fetch_add(1, Ordering::Relaxed);
        match passed {
            Some(false) => drop(self.useful.fetch_add(1, Ordering::Relaxed)),
            Some(true) if !found => drop(self.vain.fetch_add(1, Ordering::Relaxed)),
            _ => {}
        }
    }
}

/// Blocks of tables, as they are before compression. Shared by all tables of a store.
pub struct BlockCache {
    shards: Vec<Mutex<Shard>>,
    limits: Mutex<Limits>,
    /// What follows from the limits.
    capacity: AtomicU64,
    /// Counted here because every table knows its cache.
    pub(crate) lookups: Lookups,
}

/// How much may be kept.
struct Limits {
    /// Never more than this.
    most: u64,
    /// Together with what is set aside, no more than this.
    room: u64,
    aside: u64,
}

impl Limits {
    fn capacity(&self) -> u64 {
        self.most.min(self.room.saturating_sub(self.aside))
    }
}

#[derive(Default)]
struct Shard {
    capacity: u64,
    bytes: u64,
    /// Places of the ring, by block.
    map: BTreeMap<Place, usize>,
    ring: Vec<Option<Held>>,
    /// Empty places of the ring.
    empty: Vec<usize>,
    hand: usize,
    hits: u64,
    misses: u64,
}

struct Held {
    place: Place,
    block: Bytes,
    hit: bool,
}

fn cost(block: &Bytes) -> u64 {
    block.len() as u64 + BLOCK_OVERHEAD
}

impl Shard {
    fn take(&mut self, slot: usize) -> Held {
        let held = self.ring[slot].take().expect("the map names places that are taken");
        self.map.remove(&held.place);
        self.empty.push(slot);
        self.bytes -= cost(&held.block);
        held
    }

    /// Moves the hand on, and returns the block that it takes out, if any. The ring is not empty of blocks.
    fn turn(&mut self) -> Option<Held> {
        let slot = self.hand;
        self.hand = (slot + 1) % self.ring.len();
        match &mut self.ring[slot] {
            Some(held) if held.hit => {
                sometimes!("a block in use is spared by the cache");
                held.hit = false;
                None
            }
            Some(_) => {
                sometimes!("a block is evicted from the cache");
                Some(self.take(slot))
            }
            None => None,
        }
    }
}

impl BlockCache {
    /// Keeps at most `bytes`; 0 keeps nothing.
    pub fn new(bytes: u64) -> BlockCache {
        let shards = (bytes / SHARD_BYTES_MIN).clamp(1, SHARDS_MAX);
        let shard = |_| Mutex::new("block cache", Shard { capacity: bytes / shards, ..Shard::default() });
        BlockCache {
            shards: (0..shards).map(shard).collect(),
            limits: Mutex::new("limits of the block cache", Limits { most: bytes, room: u64::MAX, aside: 0 }),
            capacity: AtomicU64::new(bytes),
            lookups: Lookups::default(),
        }
    }

    /// Shares so many bytes with what is [set aside](BlockCache::set_aside). Without this there is no limit but its own.
    pub fn set_room(&self, bytes: u64) {
        let mut limits = self.limits.lock();
        limits.room = bytes;
        self.resize(&limits);
    }

    /// Somebody else takes so many bytes of the room: filters and indexes of a table that was opened.
    pub fn set_aside(&self, bytes: u64) {
        let mut limits = self.limits.lock();
        limits.aside += bytes;
        self.resize(&limits);
    }

    /// Somebody else gives so many bytes of the room back.
    pub fn give_back(&self, bytes: u64) {
        let mut limits = self.limits.lock();
        limits.aside -= bytes;
        self.resize(&limits);
    }

    /// Bytes that others take.
    pub fn aside(&self) -> u64 {
        self.limits.lock().aside
    }

    /// Keeps no more than the limits allow: what is too much goes at once. The number of shards stays.
    fn resize(&self, limits: &Limits) {
        let bytes = limits.capacity();
        if self.capacity.swap(bytes, Ordering::Relaxed) == bytes {
            return;
        }
        for shard in &self.shards {
            let mut dropped = Vec::new();
            let mut guard = shard.lock();
            let shard = &mut *guard;
            shard.capacity = bytes / self.shards.len() as u64;
            while shard.bytes > shard.capacity {
                sometimes!("the cache gives back memory");
                dropped.extend(shard.turn());
            }
            drop(guard);
            drop(dropped);
        }
    }

    /// What lookups in tables took.
    pub fn lookup_stats(&self) -> LookupStats {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let Lookups { tables, useful, vain } = &self.lookups;
        LookupStats { tables: count(tables), filter_useful: count(useful), filter_false: count(vain) }
    }

    fn shard(&self, file: u64, offset: u64) -> &Mutex<Shard> {
        let hash = (file.rotate_left(32) ^ offset).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        &self.shards[((hash >> 32) as usize) % self.shards.len()]
    }

    /// The block of `file` at `offset`, if it is here.
    #[inline]
    pub fn get(&self, file: u64, offset: u64) -> Option<Bytes> {
        let mut guard = self.shard(file, offset).lock();
        let shard = &mut *guard;
        let Some(&slot) = shard.map.get(&(file, offset)) else {
            shard.misses += 1;
            return None;
        };
        shard.hits += 1;
        let held = shard.ring[slot].as_mut().expect("the map names places that are taken");
        held.hit = true;
        Some(held.block.clone())
    }

    /// Keeps a block, at the cost of others. One that is larger than its share of the cache is not kept.
    pub fn insert(&self, file: u64, offset: u64, block: Bytes) {
        let place = (file, offset);
        let mut dropped = Vec::new();
        let mut guard = self.shard(file, offset).lock();
        let shard = &mut *guard;
        if let Some(&slot) = shard.map.get(&place) {
            dropped.push(shard.take(slot));
        }
        if cost(&block) > shard.capacity {
            sometimes!("a block is too large for the cache");
            return;
        }
        while shard.bytes + cost(&block) > shard.capacity {
            dropped.extend(shard.turn());
        }
        shard.bytes += cost(&block);
        let held = Some(Held { place, block, hit: false });
        let slot = match shard.empty.pop() {
            Some(slot) => {
                shard.ring[slot] = held;
                slot
            }
            None => {
                shard.ring.push(held);
                shard.ring.len() - 1
            }
        };
        shard.map.insert(place, slot);
        // Memory is given back after the lock.
        drop(guard);
        drop(dropped);
    }

    /// Drops all blocks of a file that is gone.
    pub fn remove_file(&self, file: u64) {
        for shard in &self.shards {
            let mut guard = shard.lock();
            let slots: Vec<usize> = guard.map.range((file, 0)..=(file, u64::MAX)).map(|(_, &slot)| slot).collect();
            let dropped: Vec<Held> = slots.into_iter().map(|slot| guard.take(slot)).collect();
            drop(guard);
            drop(dropped);
        }
    }

    /// What it has done, and holds.
    pub fn stats(&self) -> CacheStats {
        let mut stats = CacheStats { capacity: self.capacity.load(Ordering::Relaxed), ..CacheStats::default() };
        for shard in &self.shards {
            let shard = shard.lock();
            stats.hits += shard.hits;
            stats.misses += shard.misses;
            stats.bytes += shard.bytes;
        }
        stats
    }
}

impl fmt::Debug for BlockCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlockCache({:?})", self.stats())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn block(file: u64, offset: u64, len: usize) -> Bytes {
        Bytes::from(vec![(file * 31 + offset) as u8; len])
    }

    proptest! {
        #[test]
        fn a_cache_may_forget_but_never_confuses_and_never_outgrows_its_bytes(
            capacity in prop::sample::select(vec![0u64, 100, 1_000, 5_000, 3 << 20]),
            calls in prop::collection::vec((0u8..11, 0u64..4, 0u64..6, 0usize..600), 1..300),
        ) {
            let cache = BlockCache::new(capacity);
            let mut lens = BTreeMap::new();
            for (call, file, offset, len) in calls {
                match call {
                    0..5 => {
                        cache.insert(file, offset, block(file, offset, len));
                        lens.insert((file, offset), len);
                    }
                    5..9 => {
                        if let Some(found) = cache.get(file, offset) {
                            let len = lens.get(&(file, offset)).copied();
                            prop_assert_eq!(Some(found), len.map(|len| block(file, offset, len)));
                        }
                    }
                    9 => cache.set_room(capacity / (1 + offset)),
                    _ => {
                        cache.remove_file(file);
                        lens.retain(|place, _| place.0 != file);
                        for offset in 0..6 {
                            prop_assert_eq!(cache.get(file, offset), None);
                        }
                    }
                }
                let stats = cache.stats();
                prop_assert!(stats.bytes <= stats.capacity);
                let has_room = capacity == 3 << 20 && stats.capacity >= capacity / 10;
                prop_assert!(!has_room || lens.len() as u64 * BLOCK_OVERHEAD <= stats.bytes);
            }
        }
    }

    #[test]
    fn a_block_that_is_used_outlives_a_scan() {
        let cache = BlockCache::new(10 * (100 + BLOCK_OVERHEAD));
        cache.insert(1, 0, block(1, 0, 100));
        for offset in 0..1_000 {
            cache.insert(2, offset, block(2, offset, 100));
            assert!(cache.get(1, 0).is_some(), "lost at {offset}");
        }
        assert_eq!(cache.stats().hits, 1_000);
        assert_eq!(cache.stats().bytes, cache.stats().capacity, "all room is used");
    }

    #[test]
    fn no_capacity_keeps_nothing_and_a_giant_is_not_kept() {
        let nothing = BlockCache::new(0);
        nothing.insert(1, 0, Bytes::new());
        assert_eq!(nothing.get(1, 0), None);
        let small = BlockCache::new(1_000);
        small.insert(1, 0, block(1, 0, 500));
        small.insert(1, 1, block(1, 1, 5_000));
        assert!(small.get(1, 0).is_some() && small.get(1, 1).is_none());
    }
}
