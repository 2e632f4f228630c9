//! The index of a table: for each data block a separator key and where the block lies.
//!
//! ```text
//! index    a block (see `block.rs`) with every entry a restart point, so that it is searched by halves
//! entry    key: the separator, an internal key    value: | offset varint | length varint |
//! ```
//!
//! T1. A separator is at or behind the last key of its block, and before the first key of the next block. So the first
//!     separator at or behind a target names the one block that can hold the first entry at or behind the target, or else
//!     that entry is the first of the block after it, and then has a different user key than the target.
//! T2. The separator of the last block is the last key of the table, so that a search behind the table reads nothing.
//!
//! A table of range deletes alone has no blocks, and its index no bytes.
//!
//! A separator is as short as the *user keys* on both sides allow. Versions of one key on both sides leave no room: then
//! it is the last key itself, in full.

use super::block::{Block, BlockBuilder, Malformed, Target, shared_prefix_len};
use super::format::BlockHandle;
use crate::coding::{Decoder, put_varint};
use crate::error::{Error, Result};
use crate::key::{KIND_FOR_SEEK, SEQNO_MAX, trailer, user_key};
use bytes::Bytes;
use std::cmp::Ordering;

/// A key at or behind `last` and before `next`, both encoded internal keys, in `out`.
pub(super) fn separator(last: &[u8], next: &[u8], out: &mut Vec<u8>) {
    out.clear();
    let (low, high) = (user_key(last), user_key(next));
    debug_assert!(low <= high, "blocks ascend");
    let shared = shared_prefix_len(low, high);
    if shared < low.len() && shared < high.len() {
        // Here the two differ for the first time, and `low` by the smaller byte.
        if high.len() > shared + 1 {
            out.extend_from_slice(&high[..=shared]);
        } else if low[shared] + 1 < high[shared] {
            out.extend_from_slice(&low[..=shared]);
            out[shared] += 1;
        } else if let Some(place) = low[shared + 1..].iter().position(|&byte| byte < 0xff) {
            out.extend_from_slice(&low[..=shared + 1 + place]);
            out[shared + 1 + place] += 1;
        }
        if !out.is_empty() && out.len() < low.len() {
            // A user key of its own lies behind all versions of `low`, whatever follows it.
            out.extend_from_slice(&trailer(SEQNO_MAX, KIND_FOR_SEEK));
            return;
        }
        out.clear();
    }
    out.extend_from_slice(last);
}

/// Gathers the blocks of one table.
pub(super) struct IndexBuilder {
    block: BlockBuilder,
    key: Vec<u8>,
    value: Vec<u8>,
    blocks: u64,
}

impl IndexBuilder {
    pub(super) fn new() -> IndexBuilder {
        IndexBuilder { block: BlockBuilder::new(1), key: Vec::new(), value: Vec::new(), blocks: 0 }
    }

    /// Adds a block with its last key, and the first key of the block behind it, if there is one. Fails where the index
    /// would outgrow its 32-bit offsets, which takes a table of 4 GiB with one giant key for each block.
    pub(super) fn add(&mut self, last: &[u8], next: Option<&[u8]>, handle: BlockHandle) -> Result<()> {
        match next {
            Some(next) => separator(last, next, &mut self.key),
            None => last.clone_into(&mut self.key),
        }
        self.value.clear();
        put_varint(&mut self.value, handle.offset);
        put_varint(&mut self.value, handle.len);
        if self.block.len_with(&self.key, &self.value) > u32::MAX as usize {
            return Err(Error::InvalidArgument(
                "a table cannot have more than 4 GiB of index: keys this long need larger blocks or smaller tables"
                    .into(),
            ));
        }
        self.block.add(&self.key, &self.value);
        self.blocks += 1;
        Ok(())
    }

    /// Blocks added.
    pub(super) fn blocks(&self) -> u64 {
        self.blocks
    }

    /// Bytes of the index, if it were finished now.
    pub(super) fn len(&self) -> usize {
        self.block.len()
    }

    /// The encoded index.
    pub(super) fn finish(&mut self) -> &[u8] {
        if self.blocks == 0 { &[] } else { self.block.finish() }
    }
}

/// An index that was read.
#[derive(Clone, Debug)]
pub(super) struct Index {
    /// `None` where the table has no data blocks.
    block: Option<Block>,
}

impl Index {
    pub(super) fn parse(bytes: Bytes) -> std::result::Result<Index, Malformed> {
        let block = if bytes.is_empty() { None } else { Some(Block::parse(bytes)?) };
        Ok(Index { block })
    }

    /// How many blocks it names.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.block.as_ref().map_or(0, Block::restarts)
    }

    /// Separator and place of a block.
    pub(super) fn block(&self, number: usize) -> std::result::Result<(&[u8], BlockHandle), Malformed> {
        let (separator, value) = self.block.as_ref().ok_or(Malformed { at: 0 })?.restart(number)?;
        let mut decoder = Decoder::new(value);
        match (decoder.varint(), decoder.varint(), decoder.is_empty()) {
            (Some(offset), Some(len), true) => Ok((separator, BlockHandle { offset, len })),
            _ => Err(Malformed { at: 0 }),
        }
    }

    /// The number of the block that a search for `target` must read (T1); the number of blocks where the target lies
    /// behind the table.
    #[inline]
    pub(super) fn search(&self, target: Target<'_>) -> std::result::Result<usize, Malformed> {
        self.block.as_ref().map_or(Ok(0), |block| block.restarts_below(target))
    }

    /// Whether that is this block: two comparisons in place of a search.
    pub(super) fn leads_to(&self, number: usize, target: Target<'_>) -> std::result::Result<bool, Malformed> {
        let block = self.block.as_ref().ok_or(Malformed { at: 0 })?;
        let is_below = |number| block.restart(number).map(|(key, _)| target.order_of(key) == Ordering::Less);
        Ok(!is_below(number)? && (number == 0 || is_below(number - 1)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{InternalKey, Kind, compare};
    use proptest::prelude::*;

    fn any_key() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop::sample::select(vec![0u8, 1, 2, b'a', b'b', 0xfe, 0xff]);
        (prop::collection::vec(byte, 0..6), 0u64..5)
            .prop_map(|(user, seqno)| InternalKey::new(&user, seqno, Kind::Put).encode())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        #[test]
        fn a_separator_lies_between_and_is_never_longer(a in any_key(), b in any_key()) {
            let order = compare(&a, &b);
            prop_assume!(order != Ordering::Equal);
            let (low, high) = if order == Ordering::Less { (a, b) } else { (b, a) };
            let mut between = Vec::new();
            separator(&low, &high, &mut between);
            prop_assert_ne!(compare(&low, &between), Ordering::Greater);
            prop_assert_eq!(compare(&between, &high), Ordering::Less);
            prop_assert!(between.len() <= low.len());
            if user_key(&low) != user_key(&between) {
                prop_assert_ne!(user_key(&between), user_key(&high), "T1: the next block starts with another user key");
            }
        }

        #[test]
        fn an_index_finds_the_block_of_each_key(
            mut keys in prop::collection::vec(any_key(), 1..80), chunk in 1usize..5, target in any_key(),
        ) {
            keys.sort_by(|a, b| compare(a, b));
            keys.dedup();
            let blocks: Vec<&[Vec<u8>]> = keys.chunks(chunk).collect();
            let mut builder = IndexBuilder::new();
            for (number, block) in blocks.iter().enumerate() {
                let next = blocks.get(number + 1).map(|next| &next[0][..]);
                let handle = BlockHandle { offset: (number as u64) << 40, len: u64::MAX - number as u64 };
                builder.add(&block[block.len() - 1], next, handle).expect("a small index");
            }
            prop_assert_eq!(builder.blocks(), blocks.len() as u64);
            let index = Index::parse(Bytes::copy_from_slice(builder.finish())).expect("as drawn");
            prop_assert_eq!(index.len(), blocks.len());
            for (number, block) in blocks.iter().enumerate() {
                prop_assert_eq!(index.block(number).expect("sound").1.offset, (number as u64) << 40);
                for key in *block {
                    prop_assert_eq!(index.search(Target::new(key)), Ok(number));
                }
            }
            // T1 for any target: no block before the one found holds anything at or behind it.
            let found = index.search(Target::new(&target)).expect("sound");
            let before = blocks[..found].iter().all(|block| {
                block.iter().all(|key| compare(key, &target) == Ordering::Less)
            });
            prop_assert!(before);
            prop_assert!(found < blocks.len() || compare(&keys[keys.len() - 1], &target) == Ordering::Less, "T2");
            for number in 0..blocks.len() {
                prop_assert_eq!(index.leads_to(number, Target::new(&target)), Ok(number == found));
            }
        }

        #[test]
        fn any_bytes_are_searched_without_panic(bytes: Vec<u8>, target in any_key()) {
            if let Ok(index) = Index::parse(Bytes::from(bytes)) {
                let _ = index.search(Target::new(&target));
                let _ = index.block(index.len().saturating_sub(1));
            }
        }
    }

    #[test]
    fn separators_of_user_keys() {
        let cases: [(&[u8], &[u8]); 7] = [
            (b"apple pie", b"banana split"),
            (b"abcdefgh", b"abd"),
            (b"abcdefgh", b"ac"),
            (b"abc", b"abcd"),
            (b"a\xff\xff\xff", b"b"),
            (b"", b"a"),
            (b"same", b"same"),
        ];
        let between = cases.map(|(low, high)| {
            let mut out = Vec::new();
            let (low, high) = (InternalKey::new(low, 7, Kind::Put), InternalKey::new(high, 3, Kind::Put));
            separator(&low.encode(), &high.encode(), &mut out);
            format!("{low:?} .. {high:?}: '{}'", user_key(&out).escape_ascii())
        });
        insta::assert_snapshot!(between.join("\n"), @r"
        apple pie#7Put .. banana split#3Put: 'b'
        abcdefgh#7Put .. abd#3Put: 'abce'
        abcdefgh#7Put .. ac#3Put: 'abd'
        abc#7Put .. abcd#3Put: 'abc'
        a\xff\xff\xff#7Put .. b#3Put: 'a\xff\xff\xff'
        #7Put .. a#3Put: ''
        same#7Put .. same#3Put: 'same'
        ");
    }
}
