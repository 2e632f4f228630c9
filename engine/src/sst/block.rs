//! Sorted entries in one run of bytes, each key sharing what it can with the one before it.
//!
//! ```text
//! block    | entry | entry | ... | restart u32 | ... | number of restarts u32 |
//!
//! entry    | shared varint | unshared varint | value length varint | unshared key bytes | value |
//!          the key is the first `shared` bytes of the key before it, and then the unshared bytes
//! restart  offset of an entry with `shared` 0, where a search can start
//! ```
//!
//! Keys are encoded internal keys, strictly ascending. The first entry is a restart. A block holds at least one entry.
//!
//! [`BlockCursor`] parses in place: a step copies the unshared bytes of one key into a buffer that is used again, and a
//! value is a slice of the block. It trusts no number that it reads: a block that is not as drawn above gives
//! [`Malformed`], never a panic. It does not check that keys ascend, which is for the table's `verify`.

use crate::coding::{Decoder, put_u32, put_varint, varint_len};
use crate::key::TRAILER_LEN;
use bytes::Bytes;
use std::cmp::Ordering;
use std::ops::Range;

/// A block whose inside is not as drawn above, seen at this byte of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed {
    pub(super) at: usize,
}

/// An internal key to search for, in two parts, so that a search by user key need not join them.
#[derive(Clone, Copy)]
pub(super) struct Target<'a> {
    pub(super) user: &'a [u8],
    pub(super) trailer: &'a [u8],
}

impl<'a> Target<'a> {
    /// An encoded internal key, which must be long enough.
    pub(super) fn new(encoded: &'a [u8]) -> Target<'a> {
        let (user, trailer) = encoded.split_at(encoded.len() - TRAILER_LEN);
        Target { user, trailer }
    }

    /// How `key` lies to this. `key` must be long enough.
    #[inline]
    pub(super) fn order_of(&self, key: &[u8]) -> Ordering {
        let (user, trailer) = key.split_at(key.len() - TRAILER_LEN);
        user.cmp(self.user).then_with(|| trailer.cmp(self.trailer))
    }
}

/// Builds a block. Used again for one block after the other.
pub(super) struct BlockBuilder {
    bytes: Vec<u8>,
    restarts: Vec<u32>,
    restart_interval: usize,
    since_restart: usize,
    last_key: Vec<u8>,
}

impl BlockBuilder {
    /// A restart point at every so many entries.
    pub(super) fn new(restart_interval: usize) -> BlockBuilder {
        assert!(restart_interval >= 1, "an entry comes after each restart point");
        BlockBuilder {
            bytes: Vec::new(),
            restarts: Vec::new(),
            restart_interval,
            since_restart: 0,
            last_key: Vec::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.restarts.is_empty()
    }

    /// The key that was added last.
    pub(super) fn last_key(&self) -> &[u8] {
        &self.last_key
    }

    /// Bytes of the block, if it were finished now.
    pub(super) fn len(&self) -> usize {
        self.bytes.len() + 4 * (self.restarts.len() + 1)
    }

    /// Bytes of the block with one more entry, or a few more than that: what the key will share is not known yet.
    pub(super) fn len_with(&self, key: &[u8], value: &[u8]) -> usize {
        let header = 2 * varint_len(key.len() as u64) + varint_len(value.len() as u64);
        self.len() + header + key.len() + value.len() + 4
    }

    /// Appends an entry. The caller sees to it that keys ascend, and that offsets fit 32 bits.
    pub(super) fn add(&mut self, key: &[u8], value: &[u8]) {
        let mut shared = 0;
        if self.restarts.is_empty() || self.since_restart == self.restart_interval {
            self.restarts.push(u32::try_from(self.bytes.len()).expect("a block is kept below 4 GiB by its owner"));
            self.since_restart = 0;
        } else {
            shared = shared_prefix_len(&self.last_key, key);
        }
        self.since_restart += 1;
        put_varint(&mut self.bytes, shared as u64);
        put_varint(&mut self.bytes, (key.len() - shared) as u64);
        put_varint(&mut self.bytes, value.len() as u64);
        self.bytes.extend_from_slice(&key[shared..]);
        self.bytes.extend_from_slice(value);
        self.last_key.truncate(shared);
        self.last_key.extend_from_slice(&key[shared..]);
    }

    /// Completes the block and returns it. Only [`BlockBuilder::clear`] may follow.
    pub(super) fn finish(&mut self) -> &[u8] {
        assert!(!self.is_empty(), "a block holds at least one entry");
        for restart in &self.restarts {
            put_u32(&mut self.bytes, *restart);
        }
        put_u32(&mut self.bytes, self.restarts.len() as u32);
        &self.bytes
    }

    /// Begins the next block. What one huge entry has claimed is given back.
    pub(super) fn clear(&mut self) {
        const KEPT_BYTES_MAX: usize = 1024 * 1024;
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_BYTES_MAX);
        self.restarts.clear();
        self.since_restart = 0;
        self.last_key.clear();
    }
}

/// How many bytes `a` and `b` have in common at their start.
pub(super) fn shared_prefix_len(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// A block to be searched: bytes that have passed their checksum, and the place of the restart points in them.
#[derive(Clone, Debug)]
pub(super) struct Block {
    bytes: Bytes,
    entries_end: usize,
    restarts: usize,
}

/// One entry as it stands in a block.
struct Entry {
    shared: usize,
    key: Range<usize>,
    value: Range<usize>,
}

impl Block {
    /// Looks at the end of the block only.
    pub(super) fn parse(bytes: Bytes) -> Result<Block, Malformed> {
        let malformed = Malformed { at: bytes.len().saturating_sub(4) };
        let count = bytes.last_chunk::<4>().ok_or(malformed)?;
        let restarts = u32::from_le_bytes(*count) as usize;
        let tail = restarts.checked_add(1).and_then(|words| words.checked_mul(4)).ok_or(malformed)?;
        let entries_end = bytes.len().checked_sub(tail).ok_or(malformed)?;
        if restarts == 0 || entries_end == 0 {
            return Err(malformed);
        }
        Ok(Block { bytes, entries_end, restarts })
    }

    /// The number of restart points; at least 1.
    pub(super) fn restarts(&self) -> usize {
        self.restarts
    }

    #[inline]
    fn restart_offset(&self, index: usize) -> usize {
        let at = self.entries_end + 4 * index;
        u32::from_le_bytes(*self.bytes[at..].first_chunk().expect("restart points were counted")) as usize
    }

    #[inline]
    fn entry(&self, at: usize) -> Result<Entry, Malformed> {
        self.entry_checked(at).ok_or(Malformed { at })
    }

    #[inline]
    fn entry_checked(&self, at: usize) -> Option<Entry> {
        let rest = self.bytes[..self.entries_end].get(at..)?;
        let (shared, unshared, value_len, header_len) = match rest.first_chunk::<3>() {
            // Nearly all entries have three lengths of one byte.
            Some(&[shared, unshared, value]) if (shared | unshared | value) < 0x80 => {
                (shared.into(), unshared.into(), value.into(), 3)
            }
            _ => {
                let mut decoder = Decoder::new(rest);
                let shared = decoder.varint_u32()? as usize;
                let unshared = decoder.varint_u32()? as usize;
                let value_len = decoder.varint_u32()? as usize;
                (shared, unshared, value_len, rest.len() - decoder.rest().len())
            }
        };
        let key_start = at + header_len;
        let key_end = key_start.checked_add(unshared)?;
        let value_end = key_end.checked_add(value_len)?;
        let sound = value_end <= self.entries_end && shared.checked_add(unshared)? >= TRAILER_LEN;
        sound.then_some(Entry { shared, key: key_start..key_end, value: key_end..value_end })
    }

    #[inline]
    fn restart_entry(&self, index: usize) -> Result<Entry, Malformed> {
        let at = self.restart_offset(index);
        let entry = self.entry(at)?;
        if entry.shared == 0 { Ok(entry) } else { Err(Malformed { at }) }
    }

    /// Whether the restart points are what the entries say: the first entry is one, and each is an entry that shares
    /// nothing, in ascending order. Reading forward never looks at them.
    pub(super) fn check_restarts(&self) -> Result<(), Malformed> {
        let (mut at, mut restart) = (0, 0);
        while at < self.entries_end {
            let entry = self.entry(at)?;
            if restart < self.restarts && self.restart_offset(restart) == at {
                restart += 1;
                if entry.shared != 0 {
                    return Err(Malformed { at });
                }
            } else if at == 0 {
                return Err(Malformed { at });
            }
            at = entry.value.end;
        }
        if restart == self.restarts { Ok(()) } else { Err(Malformed { at: self.entries_end + 4 * restart }) }
    }

    /// Key and value at a restart point.
    pub(super) fn restart(&self, index: usize) -> Result<(&[u8], &[u8]), Malformed> {
        let entry = self.restart_entry(index)?;
        Ok((&self.bytes[entry.key], &self.bytes[entry.value]))
    }

    /// How many restart points, from the first on, have a key below `target`.
    #[inline]
    pub(super) fn restarts_below(&self, target: Target<'_>) -> Result<usize, Malformed> {
        let (mut low, mut high) = (0, self.restarts);
        while low < high {
            let middle = low + (high - low) / 2;
            let entry = self.restart_entry(middle)?;
            if target.order_of(&self.bytes[entry.key]) == Ordering::Less {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }
}

/// A position in a block. Made once, and then moved from block to block. After an error it is not valid.
#[derive(Default)]
pub(super) struct BlockCursor {
    block: Option<Block>,
    /// Where the current entry starts; `None` where the cursor is not valid.
    at: Option<usize>,
    key: Vec<u8>,
    value: Range<usize>,
}

impl BlockCursor {
    /// Goes to another block, where it is not valid yet.
    pub(super) fn load(&mut self, block: Block) {
        self.block = Some(block);
        self.at = None;
    }

    /// Lets go of the block.
    pub(super) fn unload(&mut self) {
        self.block = None;
        self.at = None;
    }

    #[inline]
    pub(super) fn valid(&self) -> bool {
        self.at.is_some()
    }

    /// The current key. Needs a valid cursor.
    #[inline]
    pub(super) fn key(&self) -> &[u8] {
        assert!(self.valid(), "a cursor without position has no key");
        &self.key
    }

    /// The current value, as a slice of the block. Needs a valid cursor.
    #[inline]
    pub(super) fn value(&self) -> Bytes {
        assert!(self.valid(), "a cursor without position has no value");
        self.block().bytes.slice(self.value.clone())
    }

    fn block(&self) -> &Block {
        self.block.as_ref().expect("a block was loaded")
    }

    /// Makes the entry at `at` the current one, after the one whose key is in the buffer. Behind the last there is none.
    #[inline]
    fn step_to(&mut self, at: usize) -> Result<(), Malformed> {
        self.at = None;
        let block = self.block.as_ref().expect("a block was loaded");
        if at == block.entries_end {
            return Ok(());
        }
        let entry = block.entry(at)?;
        if entry.shared > self.key.len() {
            return Err(Malformed { at });
        }
        self.key.truncate(entry.shared);
        self.key.extend_from_slice(&block.bytes[entry.key]);
        self.value = entry.value;
        self.at = Some(at);
        Ok(())
    }

    fn step_to_restart(&mut self, index: usize) -> Result<(), Malformed> {
        self.key.clear();
        let at = self.block().restart_offset(index);
        if at >= self.block().entries_end {
            self.at = None;
            return Err(Malformed { at });
        }
        self.step_to(at)
    }

    pub(super) fn seek_to_first(&mut self) -> Result<(), Malformed> {
        self.key.clear();
        self.step_to(0)
    }

    pub(super) fn seek_to_last(&mut self) -> Result<(), Malformed> {
        let end = self.block().entries_end;
        self.step_to_restart(self.block().restarts - 1)?;
        while self.value.end != end {
            self.step_to(self.value.end)?;
        }
        Ok(())
    }

    /// To the first entry at or behind `target`; not valid where there is none.
    pub(super) fn seek(&mut self, target: Target<'_>) -> Result<(), Malformed> {
        self.at = None;
        let below = self.block().restarts_below(target)?;
        self.step_to_restart(below.saturating_sub(1))?;
        while self.valid() && target.order_of(&self.key) == Ordering::Less {
            self.step_to(self.value.end)?;
        }
        Ok(())
    }

    /// To the last entry before `target`; not valid where there is none.
    pub(super) fn seek_before(&mut self, target: Target<'_>) -> Result<(), Malformed> {
        self.seek(target)?;
        if self.valid() { self.prev() } else { self.seek_to_last() }
    }

    /// To the next entry; not valid behind the last. Needs a valid cursor.
    #[inline]
    pub(super) fn next(&mut self) -> Result<(), Malformed> {
        assert!(self.valid(), "a cursor without position has no next entry");
        self.step_to(self.value.end)
    }

    /// To the entry before; not valid before the first. Needs a valid cursor. Costs a walk from the restart point.
    pub(super) fn prev(&mut self) -> Result<(), Malformed> {
        let current = self.at.take().expect("a cursor without position has no entry before it");
        if current == 0 {
            return Ok(());
        }
        let block = self.block();
        let (mut low, mut high) = (0, block.restarts);
        while low < high {
            let middle = low + (high - low) / 2;
            if block.restart_offset(middle) < current {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        self.step_to_restart(low.checked_sub(1).ok_or(Malformed { at: current })?)?;
        while self.value.end < current {
            self.step_to(self.value.end)?;
        }
        if self.value.end != current {
            self.at = None;
            return Err(Malformed { at: current });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{InternalKey, Kind, compare};
    use proptest::prelude::*;

    type Model = Vec<(Vec<u8>, Vec<u8>)>;

    /// Keys that are prefixes of each other, empty, or runs of one byte; several versions of each.
    fn any_key() -> impl Strategy<Value = Vec<u8>> {
        let user = prop_oneof![
            prop::collection::vec(prop::sample::select(vec![0u8, 1, b'a', b'b', 0xfe, 0xff]), 0..5),
            prop::collection::vec(Just(0xffu8), 0..4),
            (0u32..50).prop_map(|number| format!("key{number:05}").into_bytes()),
            (prop::collection::vec(any::<u8>(), 0..3), 120usize..140).prop_map(|(mut tail, len)| {
                tail.splice(0..0, vec![b'x'; len]);
                tail
            }),
        ];
        (user, 0u64..4, prop::bool::ANY).prop_map(|(user, seqno, put)| {
            InternalKey::new(&user, seqno, if put { Kind::Put } else { Kind::Delete }).encode()
        })
    }

    fn any_model() -> impl Strategy<Value = Model> {
        let value = prop::collection::vec(any::<u8>(), 0..200);
        prop::collection::vec((any_key(), value), 1..60).prop_map(|mut model| {
            model.sort_by(|a, b| compare(&a.0, &b.0));
            model.dedup_by(|a, b| a.0 == b.0);
            model
        })
    }

    fn build(model: &Model, restart_interval: usize) -> Bytes {
        let mut builder = BlockBuilder::new(restart_interval);
        builder.add(b"what was in the block before", b"");
        builder.clear();
        for (key, value) in model {
            let expected = builder.len_with(key, value);
            builder.add(key, value);
            assert!(builder.len() <= expected, "the length with one more is never underrated");
        }
        let len = builder.len();
        let bytes = Bytes::copy_from_slice(builder.finish());
        assert_eq!(bytes.len(), len);
        bytes
    }

    fn cursor(bytes: Bytes) -> BlockCursor {
        let mut cursor = BlockCursor::default();
        cursor.load(Block::parse(bytes).expect("a block as drawn"));
        cursor
    }

    fn at(cursor: &BlockCursor) -> Option<(Vec<u8>, Vec<u8>)> {
        cursor.valid().then(|| (cursor.key().to_vec(), cursor.value().to_vec()))
    }

    proptest! {
        #[test]
        fn a_block_is_walked_and_searched_like_a_sorted_list(
            model in any_model(), restart_interval in 1usize..20, targets in prop::collection::vec(any_key(), 1..30),
        ) {
            let mut cursor = cursor(build(&model, restart_interval));
            cursor.seek_to_first().expect("sound");
            for entry in &model {
                prop_assert_eq!(at(&cursor), Some(entry.clone()));
                cursor.next().expect("sound");
            }
            prop_assert!(!cursor.valid());
            cursor.seek_to_last().expect("sound");
            for entry in model.iter().rev() {
                prop_assert_eq!(at(&cursor), Some(entry.clone()));
                cursor.prev().expect("sound");
            }
            prop_assert!(!cursor.valid());
            for target in targets {
                let index = model.partition_point(|(key, _)| compare(key, &target) == Ordering::Less);
                cursor.seek(Target::new(&target)).expect("sound");
                prop_assert_eq!(at(&cursor), model.get(index).cloned());
                cursor.seek_before(Target::new(&target)).expect("sound");
                prop_assert_eq!(at(&cursor), index.checked_sub(1).map(|index| model[index].clone()));
            }
        }

        #[test]
        fn any_bytes_are_walked_without_panic_and_without_end(
            mut bytes in prop::collection::vec(any::<u8>(), 0..120), restarts in 0u32..6, target in any_key(),
        ) {
            bytes.extend_from_slice(&restarts.to_le_bytes());
            if let Ok(block) = Block::parse(Bytes::from(bytes)) {
                walk_all_ways(block, &target);
            }
        }

        #[test]
        fn a_block_with_one_byte_changed_is_walked_without_panic(
            model in any_model(), interval in 1usize..4, place: prop::sample::Index, bits in 1u8.., target in any_key(),
        ) {
            let mut bytes = build(&model, interval).to_vec();
            let place = place.index(bytes.len());
            bytes[place] ^= bits;
            if let Ok(block) = Block::parse(Bytes::from(bytes)) {
                walk_all_ways(block, &target);
            }
        }
    }

    fn walk_all_ways(block: Block, target: &[u8]) {
        let steps_max = block.bytes.len();
        let mut cursor = BlockCursor::default();
        cursor.load(block);
        let walk = |cursor: &mut BlockCursor, step: fn(&mut BlockCursor) -> Result<(), Malformed>| {
            for _ in 0..=steps_max {
                if !cursor.valid() || step(cursor).is_err() {
                    return;
                }
            }
            panic!("a walk ends");
        };
        if cursor.seek_to_first().is_ok() {
            walk(&mut cursor, BlockCursor::next);
        }
        if cursor.seek_to_last().is_ok() {
            walk(&mut cursor, BlockCursor::prev);
        }
        if cursor.seek(Target::new(target)).is_ok() {
            walk(&mut cursor, BlockCursor::next);
        }
        if cursor.seek_before(Target::new(target)).is_ok() {
            walk(&mut cursor, BlockCursor::prev);
        }
        assert!(!cursor.valid() || cursor.key().len() >= TRAILER_LEN);
    }
}
