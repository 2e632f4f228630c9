//! A skip list of internal keys in safe Rust: one writer at a time, readers that never wait.
//!
//! ```text
//! level 2   head ---------------> b --------------------------> nil
//! level 1   head ---------------> b ----------> d ------------> nil
//! level 0   head <-----> a <----> b <----> c <-> d <---> e ---> nil      both ways: reading backwards is as cheap
//! ```
//!
//! Nodes never move and are never freed before the list, so a link is an index and not a pointer, and there is nothing
//! to reclaim while somebody reads. Index 0 is nil. Nodes lie in chunks that grow with the list: an empty one owns no
//! memory.
//!
//! A search is a walk through memory, and what it costs is cache lines. So what it looks at, the first bytes of the key
//! and the two lowest links, is one half of a line; the entry itself lies elsewhere, and so do the few links above.
//!
//! M1. A node is complete before a link to it can be seen: entry and prefix are set first, and then, from level 0
//! upwards, the node's own link and the link to it, with release order. A reader loads links with acquire order.
//!
//! M2. Only the writer, which holds the lock, stores links. Level 0 is the truth; higher levels only shorten the way,
//! so it does not matter how many of them a reader sees of a node that is just being linked.
//!
//! M3. A backward link may lag behind for one node that is being inserted. Nobody is allowed to see that node yet: its
//! sequence number is not published before the insert has returned.

use crate::key::{self, TRAILER_LEN};
use crate::sync::Mutex;
use bytes::Bytes;
use std::cmp::Ordering as Order;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Levels that a tower can have. With one in four going up, enough for 16 million entries at full speed.
const HEIGHT_MAX: usize = 12;

/// No node.
const NIL: u32 = 0;

/// Bytes of an entry beside key and value, for the accounting of memory; the last is what the allocator adds to a key.
pub(super) const NODE_OVERHEAD: usize = size_of::<Node>() + size_of::<OnceLock<Entry>>() + 16;

/// Where a search goes: a user key and a trailer, compared like the joined form.
#[derive(Clone, Copy)]
pub(super) struct Target<'a> {
    prefix: [u64; 2],
    user: &'a [u8],
    trailer: [u8; TRAILER_LEN],
}

impl<'a> Target<'a> {
    pub(super) fn new(user: &'a [u8], trailer: [u8; TRAILER_LEN]) -> Target<'a> {
        Target { prefix: prefix(user), user, trailer }
    }

    /// From an encoded internal key, which must be long enough.
    pub(super) fn encoded(encoded: &'a [u8]) -> Target<'a> {
        let (user, trailer) = encoded.split_last_chunk().expect("an internal key has a trailer");
        Target::new(user, *trailer)
    }
}

/// The first sixteen bytes of a user key as numbers that sort like them, so that most comparisons need no look at the
/// key itself. Equal prefixes say nothing.
#[inline]
fn prefix(user: &[u8]) -> [u64; 2] {
    let mut padded = [0; 16];
    match user.first_chunk() {
        Some(first) => padded = *first,
        None => padded[..user.len()].copy_from_slice(user),
    }
    let number = u128::from_be_bytes(padded);
    [(number >> 64) as u64, number as u64]
}

struct Entry {
    key: Box<[u8]>,
    value: Bytes,
}

/// What a search looks at.
#[derive(Default)]
#[repr(align(32))]
struct Node {
    prefix: [AtomicU64; 2],
    /// The links of levels 0 and 1.
    next: [AtomicU32; 2],
    prev: AtomicU32,
    /// Index of the link of level 2; the ones above follow it.
    links: AtomicU32,
}

const _: () = assert!(size_of::<Node>() == 32, "two nodes fill a cache line");

/// What only the writer needs.
struct Writer {
    /// The next unused indexes.
    node: u32,
    link: u32,
    random: u64,
    /// The last node of each level: ascending inserts find their place at once.
    last: [u32; HEIGHT_MAX],
}

/// The list. Keys are encoded internal keys.
pub(super) struct SkipList {
    nodes: Chunks<Node>,
    entries: Chunks<OnceLock<Entry>>,
    links: Chunks<AtomicU32>,
    head: [AtomicU32; HEIGHT_MAX],
    /// The last node of level 0.
    last: AtomicU32,
    /// Levels in use.
    height: AtomicU32,
    writer: Mutex<Writer>,
}

impl SkipList {
    pub(super) fn new() -> SkipList {
        SkipList {
            nodes: Chunks::new(),
            entries: Chunks::new(),
            links: Chunks::new(),
            head: [const { AtomicU32::new(NIL) }; HEIGHT_MAX],
            last: AtomicU32::new(NIL),
            height: AtomicU32::new(1),
            writer: Mutex::new(
                "memtable writer",
                // A fixed seed: towers, and with them every run, are the same each time.
                Writer { node: 1, link: 0, random: 0x9e37_79b9_7f4a_7c15, last: [NIL; HEIGHT_MAX] },
            ),
        }
    }

    /// Adds an entry. No entry has this key yet (U1).
    pub(super) fn insert(&self, key: Box<[u8]>, value: Bytes) {
        let mut writer = self.writer.lock();
        let height = writer.draw_height();
        let (node, links) = (writer.node, writer.link);
        writer.node = node.checked_add(1).expect("a memtable is flushed long before it holds 4 billion entries");
        let above = height.saturating_sub(2) as u32;
        writer.link = links + above;

        let target = Target::encoded(&key);
        let before = self.before_each_level(&writer, &target);
        let after = self.next(before[0], 0);
        assert!(
            after == NIL || self.compare(after, &target) != Order::Equal,
            "U1: {:?} is in the memtable already",
            key::InternalKey::decode(&key)
        );
        let fresh = self.nodes.make(node);
        fresh.links.store(links, Ordering::Relaxed);
        for (stored, number) in fresh.prefix.iter().zip(target.prefix) {
            stored.store(number, Ordering::Relaxed);
        }
        for link in links..links + above {
            self.links.make(link);
        }
        assert!(self.entries.make(node).set(Entry { key, value }).is_ok(), "node {node} was used twice");
        for (level, &left) in before.iter().enumerate().take(height) {
            let right = self.next(left, level);
            self.link(node, level).store(right, Ordering::Release);
            if level == 0 {
                self.node(node).prev.store(left, Ordering::Release);
            }
            self.link(left, level).store(node, Ordering::Release);
            if right == NIL {
                writer.last[level] = node;
            }
        }
        let back = if after == NIL { &self.last } else { &self.node(after).prev };
        back.store(node, Ordering::Release);
        if height as u32 > self.height.load(Ordering::Relaxed) {
            self.height.store(height as u32, Ordering::Release);
        }
    }

    /// The first node at or behind `target`.
    pub(super) fn at_or_after(&self, target: &Target<'_>) -> u32 {
        self.next(self.before(target), 0)
    }

    /// The last node before `target`.
    pub(super) fn before(&self, target: &Target<'_>) -> u32 {
        let mut left = NIL;
        // A node that stopped a higher level need not be compared again below.
        let mut stopped = NIL;
        for level in (0..self.height.load(Ordering::Acquire) as usize).rev() {
            (left, stopped) = self.walk(left, stopped, level, target);
        }
        left
    }

    pub(super) fn first(&self) -> u32 {
        self.next(NIL, 0)
    }

    pub(super) fn last(&self) -> u32 {
        self.last.load(Ordering::Acquire)
    }

    /// The node behind `node`; before the first one lies nil, and behind the last one too.
    pub(super) fn after(&self, node: u32) -> u32 {
        self.next(node, 0)
    }

    pub(super) fn back(&self, node: u32) -> u32 {
        self.node(node).prev.load(Ordering::Acquire)
    }

    pub(super) fn key(&self, node: u32) -> &[u8] {
        &self.entry(node).key
    }

    pub(super) fn value(&self, node: u32) -> &Bytes {
        &self.entry(node).value
    }

    /// For each level the last node before `target`; nil stands for the head.
    fn before_each_level(&self, writer: &Writer, target: &Target<'_>) -> [u32; HEIGHT_MAX] {
        let last = writer.last[0];
        if last == NIL || self.compare(last, target) == Order::Less {
            return writer.last;
        }
        let mut before = [NIL; HEIGHT_MAX];
        let (mut left, mut stopped) = (NIL, NIL);
        for level in (0..self.height.load(Ordering::Relaxed) as usize).rev() {
            (left, stopped) = self.walk(left, stopped, level, target);
            before[level] = left;
        }
        before
    }

    /// Goes on from `left` on one level while the next node is before `target`. Returns the last node before it, and
    /// the one that stopped the walk.
    #[inline]
    fn walk(&self, mut left: u32, stopped: u32, level: usize, target: &Target<'_>) -> (u32, u32) {
        loop {
            let right = self.next(left, level);
            if right == NIL || right == stopped || self.compare(right, target) != Order::Less {
                return (left, if right == NIL { stopped } else { right });
            }
            left = right;
        }
    }

    #[inline]
    fn next(&self, node: u32, level: usize) -> u32 {
        self.link(node, level).load(Ordering::Acquire)
    }

    /// The link of a node on a level that its tower reaches. Nil stands for the head.
    #[inline]
    fn link(&self, node: u32, level: usize) -> &AtomicU32 {
        if node == NIL {
            return &self.head[level];
        }
        let node = self.node(node);
        match node.next.get(level) {
            Some(link) => link,
            None => self.links.get(node.links.load(Ordering::Relaxed) + level as u32 - 2),
        }
    }

    #[inline]
    fn compare(&self, node: u32, target: &Target<'_>) -> Order {
        let [high, low] = &self.node(node).prefix;
        let prefix = [high.load(Ordering::Relaxed), low.load(Ordering::Relaxed)];
        prefix.cmp(&target.prefix).then_with(|| {
            let (user, trailer) = self.key(node).split_last_chunk::<TRAILER_LEN>().expect("set from an internal key");
            user.cmp(target.user).then_with(|| trailer.cmp(&target.trailer))
        })
    }

    #[inline]
    fn node(&self, node: u32) -> &Node {
        self.nodes.get(node)
    }

    #[inline]
    fn entry(&self, node: u32) -> &Entry {
        self.entries.get(node).get().expect("M1: a node is complete before it can be found")
    }
}

impl Writer {
    /// 1 and more: each further level with a chance of one in four (Marsaglia's xorshift).
    fn draw_height(&mut self) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (1 + self.random.trailing_zeros() as usize / 2).min(HEIGHT_MAX)
    }
}

/// Bits of the length of the first chunk.
const FIRST_BITS: u32 = 4;
/// Bits of the length of the longest chunk.
const LONGEST_BITS: u32 = 14;

/// A sequence that grows without moving what it holds, and is read without a lock.
///
/// Chunks double from 16 up to 16,384 elements, so that neither an empty list nor the growth of a large one costs much
/// at once. From there on all have 16,384 elements, and directories of such chunks double instead.
struct Chunks<T> {
    small: [OnceLock<Box<[T]>>; (LONGEST_BITS - FIRST_BITS) as usize],
    large: [OnceLock<Directory<T>>; (32 - LONGEST_BITS) as usize + 1],
}

/// Chunks of the longest length, each made when first needed.
type Directory<T> = Box<[OnceLock<Box<[T]>>]>;

impl<T: Default> Chunks<T> {
    fn new() -> Chunks<T> {
        Chunks {
            small: [const { OnceLock::new() }; (LONGEST_BITS - FIRST_BITS) as usize],
            large: [const { OnceLock::new() }; (32 - LONGEST_BITS) as usize + 1],
        }
    }

    /// An element that was made before.
    #[inline]
    fn get(&self, index: u32) -> &T {
        let (size, rest) = place(index);
        let (chunk, at) = match size.checked_sub(LONGEST_BITS) {
            None => (&self.small[(size - FIRST_BITS) as usize], rest as usize),
            Some(large) => {
                let directory = self.large[large as usize].get().expect("an index is used after it was made");
                (&directory[(rest >> LONGEST_BITS) as usize], (rest & ((1 << LONGEST_BITS) - 1)) as usize)
            }
        };
        &chunk.get().expect("an index is used after it was made")[at]
    }

    /// An element, with the chunk that it lies in, if that is new.
    fn make(&self, index: u32) -> &T {
        let (size, rest) = place(index);
        match size.checked_sub(LONGEST_BITS) {
            None => {
                self.small[(size - FIRST_BITS) as usize].get_or_init(|| fresh(1 << size));
            }
            Some(large) => {
                let directory = self.large[large as usize].get_or_init(|| fresh(1 << large));
                directory[(rest >> LONGEST_BITS) as usize].get_or_init(|| fresh(1 << LONGEST_BITS));
            }
        }
        self.get(index)
    }
}

/// The power of two that a chunk, or a directory of chunks, holds, and the place of the index in it.
#[inline]
fn place(index: u32) -> (u32, u64) {
    let shifted = u64::from(index) + (1 << FIRST_BITS);
    let size = 63 - shifted.leading_zeros();
    (size, shifted - (1 << size))
}

fn fresh<T: Default>(len: usize) -> Box<[T]> {
    std::iter::repeat_with(T::default).take(len).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_cover_every_index_once() {
        assert_eq!(place(0), (4, 0));
        assert_eq!(place(15), (4, 15));
        assert_eq!(place(16), (5, 0));
        assert_eq!(place(16_367), (13, 8191));
        assert_eq!(place(16_368), (14, 0));
        assert_eq!(place(u32::MAX).0, 32);
        let chunks = Chunks::<AtomicU32>::new();
        for index in 0..100_000 {
            chunks.make(index).store(index, Ordering::Relaxed);
        }
        assert!((0..100_000).all(|index| chunks.get(index).load(Ordering::Relaxed) == index));
    }

    #[test]
    fn a_prefix_sorts_like_the_key() {
        let keys: [&[u8]; 8] =
            [b"", b"\0", b"a", b"a\0b", b"ab", b"abcdefghijklmno", b"abcdefghijklmnop", b"abcdefghijklmnopq"];
        for pair in keys.windows(2) {
            assert!(prefix(pair[0]) <= prefix(pair[1]), "{pair:?}");
        }
    }
}
