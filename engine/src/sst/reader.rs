//! One open table: its footer, properties, index and filter in memory, its data blocks through the block cache.
//!
//! A search is filter, index, block; each step reads at most one block. What cannot be read or fails a checksum is an
//! error, and never "not found". Index and filter are checked once, when the table is opened, and then trusted; a data
//! block is checked each time it comes from the file. Range deletes are read and checked with the index: a table whose range
//! deletes are unknown cannot be opened, for what they hide would come back. [`Table::verify`] trusts nothing and reads the
//! whole file again.

use super::block::{Block, BlockCursor, Malformed, Target};
use super::filter::Filter;
use super::format::{BLOCK_LEN_MAX, BLOCK_TRAILER_LEN, BlockHandle, FOOTER_LEN, Footer, Properties, open_block};
use super::index::Index;
use super::writer::{TableSummary, widened};
use crate::blob::BlobUses;
use crate::cache::BlockCache;
use crate::checksum::Checksum;
use crate::env::File;
use crate::error::{Error, Result};
use crate::fragments::{Fragment, Fragments};
use crate::key::{
    BlobReference, Expiries, InternalKey, KEY_LEN_MAX, KIND_FOR_SEEK, Kind, Lookup, SEQNO_MAX, SeqNo, compare,
    range_end, trailer, user_key,
};
use crate::mark::sometimes;
use bytes::Bytes;
use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

/// What opening reads at once from the end of the file. A small table is read whole, and the filter and index of one of
/// a few megabytes lie within it.
const TAIL_BYTES: u64 = 16 * 1024;

/// Bytes of the smallest and the largest read of a [`ReadAhead`] that goes forward.
const AHEAD_BYTES_MIN: u64 = 16 * 1024;
const AHEAD_BYTES_MAX: u64 = 256 * 1024;

/// An open table. Shared by all who read it; the file is closed with the last of them.
pub struct Table {
    file: File,
    number: u64,
    bytes: u64,
    cache: Arc<BlockCache>,
    ends: Ends,
}

/// The data block in which a key of a table was looked for last. Belongs to one table.
#[derive(Default)]
pub struct LastBlock {
    number: Option<usize>,
    cursor: BlockCursor,
}

/// What reading a table back has come to.
struct Walk {
    cursor: BlockCursor,
    seen: Properties,
    last_key: Vec<u8>,
    last_separator: Vec<u8>,
}

/// What lies behind the data blocks.
struct Ends {
    data_end: u64,
    fragments: Arc<Fragments>,
    filter: Option<Filter>,
    index: Index,
    properties: Properties,
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Table({}, {} bytes)", self.number, self.bytes)
    }
}

impl Table {
    /// Opens the table in `file`, whose number and length in `bytes` the manifest names: a file of another number or
    /// length is damaged. Costs one or two reads, and one more where the table has range deletes.
    pub fn open(file: File, number: u64, bytes: u64, cache: Arc<BlockCache>) -> Result<Table> {
        let found = file.len()?;
        if found != bytes || bytes < FOOTER_LEN as u64 {
            let expected = format!("a table of {bytes} bytes, {FOOTER_LEN} or more, found {found}");
            return Err(Error::corruption(file.path(), found.min(bytes), expected));
        }
        let tail_start = bytes.saturating_sub(TAIL_BYTES);
        let tail = file.read_vec_at(tail_start, (bytes - tail_start) as usize)?;
        let footer = Ends::footer(&file, number, bytes, &tail)?;
        let start = footer.filter_start();
        let encoded = if start >= tail_start {
            // A copy, so that the data blocks in the tail do not stay in memory beside the cache.
            Bytes::copy_from_slice(&tail[(start - tail_start) as usize..])
        } else {
            let mut encoded = vec![0; (bytes - start) as usize];
            let (front, back) = encoded.split_at_mut((tail_start - start) as usize);
            file.read_exact_at(front, start)?;
            back.copy_from_slice(&tail);
            Bytes::from(encoded)
        };
        let ends = Ends::parse(&file, number, footer, &encoded)?;
        Ok(Table { file, number, bytes, cache, ends })
    }

    /// The number of its file.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// What it says of itself.
    pub fn properties(&self) -> &Properties {
        &self.ends.properties
    }

    /// Bytes that it keeps in memory while it is open, about: filter, index and range deletes.
    pub(super) fn memory_bytes(&self) -> u64 {
        self.bytes - self.ends.data_end
    }

    /// Its range deletes.
    pub fn fragments(&self) -> &Arc<Fragments> {
        &self.ends.fragments
    }

    /// Whether the key may be in here. `false` is certain.
    #[inline]
    pub fn may_contain(&self, user_key: &[u8]) -> bool {
        self.ends.filter.as_ref().is_none_or(|filter| filter.may_contain(user_key))
    }

    /// What the newest entry of this user key at or below `seqno` says, or a newer range delete that holds it; `None` where
    /// there is neither here. The value is a slice of its block, which stays in memory as long.
    pub fn get(&self, user_key: &[u8], seqno: SeqNo) -> Result<Option<Lookup>> {
        self.get_near(user_key, seqno, &mut LastBlock::default())
    }

    /// The same for one who looks for several keys of this table, best in key order: where a key lies in the block of the one
    /// before it, neither the index is searched nor the block read again.
    pub fn get_near(&self, user_key: &[u8], seqno: SeqNo, last: &mut LastBlock) -> Result<Option<Lookup>> {
        if self.ends.fragments.is_empty() {
            return Ok(self.entry(user_key, seqno, last)?.map(|(_, lookup)| lookup));
        }
        let deleted = self.ends.fragments.newest(user_key, seqno);
        Ok(match self.entry(user_key, seqno, last)? {
            Some((found, _)) if deleted.is_some_and(|deleted| deleted > found) => Some(Lookup::Deleted),
            Some((_, lookup)) => Some(lookup),
            None => deleted.map(|_| Lookup::Deleted),
        })
    }

    /// The newest entry of this user key at or below `seqno`.
    #[inline]
    fn entry(&self, user_key: &[u8], seqno: SeqNo, last: &mut LastBlock) -> Result<Option<(SeqNo, Lookup)>> {
        if !self.may_contain(user_key) {
            sometimes!("a filter spares the read of a block");
            self.cache.lookups.asked(Some(false), false);
            return Ok(None);
        }
        let found = self.entry_in_blocks(user_key, seqno, last)?;
        self.cache.lookups.asked(self.ends.filter.as_ref().map(|_| true), found.is_some());
        Ok(found)
    }

    #[inline]
    fn entry_in_blocks(&self, user_key: &[u8], seqno: SeqNo, last: &mut LastBlock) -> Result<Option<(SeqNo, Lookup)>> {
        let target = Target { user: user_key, trailer: &trailer(seqno, KIND_FOR_SEEK) };
        let number = match last.number {
            Some(number) if self.leads_to(number, target)? => number,
            _ => self.search(target)?,
        };
        if number == self.blocks() {
            return Ok(None);
        }
        let (_, handle) = self.index_entry(number)?;
        if last.number == Some(number) {
            sometimes!("a get of many keys finds its block at hand");
        } else {
            last.number = None;
            last.cursor.load(self.block(handle)?);
            last.number = Some(number);
        }
        let cursor = &mut last.cursor;
        let malformed = |malformed| self.malformed(handle.offset, malformed);
        cursor.seek(target).map_err(malformed)?;
        if !cursor.valid() {
            // The next entry is the first of the next block, and has another user key (T1).
            return Ok(None);
        }
        match InternalKey::decode(cursor.key()) {
            Some(found) if found.user != user_key => Ok(None),
            Some(InternalKey { kind, seqno, .. }) => match Lookup::of(kind, || cursor.value()) {
                Some(lookup) => Ok(Some((seqno, lookup))),
                None => Err(self.unknown_kind(handle.offset)),
            },
            None => Err(self.unknown_kind(handle.offset)),
        }
    }

    /// Reads every byte of the file again, and checks each checksum, the order of keys, that the index leads to each key
    /// and the filter denies none, and that the properties say the truth. Returns what [`finish`] returned when the table
    /// was written, so that it can be compared with the manifest.
    ///
    /// [`finish`]: super::TableWriter::finish
    pub fn verify(&self) -> Result<TableSummary> {
        // What is in memory came from a file that may have been damaged since.
        let fresh = Arc::new(Table::open(self.file.clone(), self.number, self.bytes, Arc::new(BlockCache::new(0)))?);
        let mut first = None;
        let summary = fresh.read_back(&mut |_| Ok(()), &mut |damage| {
            first.get_or_insert(damage);
        })?;
        first.map_or_else(|| Ok(summary.expect("there is a summary where nothing is damaged")), Err)
    }

    /// The same for a table that was opened just now: its filter, index and range deletes were read and checked then. Goes on
    /// behind a block that is damaged, and hands each such [`Error::Corruption`] to `damaged`; the answer is `None` then.
    ///
    /// Calls `pace` after each block with the bytes that were read. It may wait, and an error of it ends the work, as one of
    /// the file system does.
    pub fn read_back(
        &self,
        pace: &mut dyn FnMut(u64) -> Result<()>,
        damaged: &mut dyn FnMut(Error),
    ) -> Result<Option<TableSummary>> {
        let path = self.file.path();
        let mut checksum = Checksum::new();
        let mut ahead = ReadAhead::default();
        let unseen = Properties {
            entries: 0,
            deletes: 0,
            expiring: None,
            blobs: BlobUses::default(),
            seqno_min: SEQNO_MAX,
            seqno_max: 0,
            ..self.properties().clone()
        };
        let (last_key, last_separator) = (Vec::new(), Vec::new());
        let mut walk = Walk { cursor: BlockCursor::default(), seen: unseen, last_key, last_separator };
        let mut whole = true;
        let mut offset = 0;
        for number in 0..self.blocks() {
            let (separator, handle) = self.index_entry(number)?;
            if handle.offset != offset {
                let expected = format!("block {number} to start here, found {} in the index", handle.offset);
                return Err(Error::corruption(path, offset, expected));
            }
            let stored = ahead.read(self, handle)?;
            let bytes = stored.len() as u64;
            checksum.update(&stored);
            offset += bytes;
            match self.read_block_back(separator, handle, stored, &mut walk) {
                Err(error) if error.is_corruption() => {
                    whole = false;
                    damaged(error);
                }
                read => read?,
            }
            separator.clone_into(&mut walk.last_separator);
            pace(bytes)?;
        }
        let Walk { mut seen, last_key, last_separator, .. } = walk;
        if offset != self.ends.data_end || (whole && last_separator != last_key) {
            let expected = format!("data blocks up to {}, the last key as last separator", self.ends.data_end);
            return Err(Error::corruption(path, offset, expected));
        }
        if !whole {
            return Ok(None);
        }
        seen.largest = last_key;
        let fragments = &self.ends.fragments;
        if let (Some(first), Some(last)) = (fragments.iter().next(), fragments.last()) {
            let smallest = InternalKey::new(&first.start, first.seqnos[0], Kind::RangeDelete).encode();
            let ranges = (smallest, range_end(&last.end));
            let both = if seen.entries == 0 { ranges } else { widened((seen.smallest, seen.largest), ranges) };
            (seen.smallest, seen.largest) = both;
        }
        for &seqno in fragments.iter().flat_map(|fragment| fragment.seqnos.iter()) {
            seen.seqno_min = seen.seqno_min.min(seqno);
            seen.seqno_max = seen.seqno_max.max(seqno);
        }
        seen.data_blocks = self.blocks() as u64;
        if seen != *self.properties() {
            let expected = format!("the properties {seen:?}, found {:?}", self.properties());
            return Err(Error::corruption(path, self.ends.data_end, expected));
        }
        checksum.update(&self.file.read_vec_at(offset, (self.bytes - offset) as usize)?);
        Ok(Some(TableSummary {
            bytes: self.bytes,
            entries: seen.entries,
            deletes: seen.deletes,
            range_deletes: seen.range_deletes,
            expiring: seen.expiring,
            blobs: seen.blobs,
            smallest: seen.smallest,
            largest: seen.largest,
            seqno_min: seen.seqno_min,
            seqno_max: seen.seqno_max,
            checksum: checksum.masked(),
        }))
    }

    /// One block on the way of [`Table::read_back`].
    fn read_block_back(&self, separator: &[u8], handle: BlockHandle, stored: Bytes, walk: &mut Walk) -> Result<()> {
        let path = self.file.path();
        let Walk { cursor, seen, last_key, last_separator } = walk;
        let block = open_block(path, self.number, handle.offset, stored)?;
        let wrong = |expected: String| Error::corruption(path, handle.offset, expected);
        let malformed = |malformed| self.malformed(handle.offset, malformed);
        let block = Block::parse(block).map_err(malformed)?;
        block.check_restarts().map_err(malformed)?;
        cursor.load(block);
        cursor.seek_to_first().map_err(malformed)?;
        let first = seen.entries == 0;
        if !first && compare(last_separator, cursor.key()) != Ordering::Less {
            return Err(wrong("a first key behind the separator of the block before".into()));
        }
        while cursor.valid() {
            let key = InternalKey::decode(cursor.key()).ok_or_else(|| self.unknown_kind(handle.offset))?;
            if seen.entries == 0 {
                seen.smallest = cursor.key().to_vec();
            } else if compare(last_key, cursor.key()) != Ordering::Less {
                return Err(wrong(format!("keys in order, found {key:?} after {:?}", InternalKey::decode(last_key))));
            }
            let value = cursor.value();
            if !key.kind.is_point() || key.user.len() > KEY_LEN_MAX || !key.kind.admits_value(&value) {
                return Err(self.unknown_kind(handle.offset));
            }
            if let Some(expires_ms) = key.kind.expires_ms(&value) {
                let so_far = seen.expiring.map(|expiring| expiring.and(expires_ms));
                seen.expiring = Some(so_far.unwrap_or(Expiries::of(expires_ms)));
            }
            if key.kind == Kind::BlobReference {
                let reference = BlobReference::decode(&value).expect("the value was looked at");
                seen.blobs.add(reference.file, u64::from(reference.len));
            }
            if !self.may_contain(key.user) {
                return Err(wrong(format!("a filter with all keys, and it denies {key:?}")));
            }
            seen.entries += 1;
            seen.deletes += u64::from(key.kind == Kind::Delete);
            seen.seqno_min = seen.seqno_min.min(key.seqno);
            seen.seqno_max = seen.seqno_max.max(key.seqno);
            last_key.clear();
            last_key.extend_from_slice(cursor.key());
            cursor.next().map_err(malformed)?;
        }
        if compare(last_key, separator) == Ordering::Greater {
            return Err(wrong("a last key at or before the separator of its block".into()));
        }
        Ok(())
    }

    /// The user keys that the data block at this offset may hold: behind the first, up to the second. `None` where no data block
    /// begins there.
    pub fn keys_at(&self, offset: u64) -> Option<(Vec<u8>, Vec<u8>)> {
        let mut before = user_key(&self.ends.properties.smallest).to_vec();
        for number in 0..self.blocks() {
            let (separator, handle) = self.index_entry(number).ok()?;
            if handle.offset == offset {
                return Some((before, user_key(separator).to_vec()));
            }
            before = user_key(separator).to_vec();
        }
        None
    }

    /// The number of data blocks.
    pub(super) fn blocks(&self) -> usize {
        self.ends.index.len()
    }

    /// The number of the data block to look into for `target`; [`Table::blocks`] where the target lies behind all.
    #[inline]
    pub(super) fn search(&self, target: Target<'_>) -> Result<usize> {
        self.ends.index.search(target).map_err(|malformed| self.malformed(self.ends.data_end, malformed))
    }

    /// Whether a search for `target` ends at this data block.
    fn leads_to(&self, number: usize, target: Target<'_>) -> Result<bool> {
        self.ends.index.leads_to(number, target).map_err(|malformed| self.malformed(self.ends.data_end, malformed))
    }

    /// Separator and place of a data block. The place lies within the data.
    pub(super) fn index_entry(&self, number: usize) -> Result<(&[u8], BlockHandle)> {
        let (separator, handle) =
            self.ends.index.block(number).map_err(|malformed| self.malformed(self.ends.data_end, malformed))?;
        let within = handle.end().is_some_and(|end| end <= self.ends.data_end);
        if !within || handle.len > BLOCK_LEN_MAX {
            let expected = format!("block {number} within {} bytes of data, found {handle:?}", self.ends.data_end);
            return Err(Error::corruption(self.file.path(), self.ends.data_end, expected));
        }
        Ok((separator, handle))
    }

    /// A data block, through the cache.
    pub(super) fn block(&self, handle: BlockHandle) -> Result<Block> {
        let bytes = match self.cache.get(self.number, handle.offset) {
            Some(bytes) => bytes,
            None => {
                let stored = self.file.read_vec_at(handle.offset, handle.len as usize + BLOCK_TRAILER_LEN)?;
                let bytes = open_block(self.file.path(), self.number, handle.offset, Bytes::from(stored))?;
                self.cache.insert(self.number, handle.offset, bytes.clone());
                bytes
            }
        };
        Block::parse(bytes).map_err(|malformed| self.malformed(handle.offset, malformed))
    }

    /// A data block for one who goes on to the blocks around it. Only with `fill_cache` it comes from the cache, if it is
    /// there, and goes there.
    pub(super) fn block_ahead(&self, handle: BlockHandle, ahead: &mut ReadAhead, fill_cache: bool) -> Result<Block> {
        let cached = if fill_cache { self.cache.get(self.number, handle.offset) } else { None };
        let bytes = match cached {
            Some(bytes) => {
                ahead.pass(handle);
                bytes
            }
            None => {
                let stored = ahead.read(self, handle)?;
                let mut bytes = open_block(self.file.path(), self.number, handle.offset, stored)?;
                if fill_cache {
                    if bytes.len() as u64 == handle.len {
                        // A block as stored is a slice of what was read ahead, all of which it would keep in memory.
                        bytes = Bytes::copy_from_slice(&bytes);
                    }
                    self.cache.insert(self.number, handle.offset, bytes.clone());
                }
                bytes
            }
        };
        Block::parse(bytes).map_err(|malformed| self.malformed(handle.offset, malformed))
    }

    /// An error for a block at `offset` whose inside is nonsense although its checksum is right.
    #[cold]
    pub(super) fn malformed(&self, offset: u64, malformed: Malformed) -> Error {
        let expected = format!("a block in good form, found nonsense at byte {} of it", malformed.at);
        Error::corruption(self.file.path(), offset, expected)
    }

    #[cold]
    fn unknown_kind(&self, offset: u64) -> Error {
        Error::corruption(
            self.file.path(),
            offset,
            "only keys, values and kinds of entry that this version knows in this block",
        )
    }
}

impl Ends {
    /// The footer at the end of `tail`, which is the end of the file and long enough.
    fn footer(file: &File, number: u64, bytes: u64, tail: &[u8]) -> Result<Footer> {
        let footer = tail.last_chunk::<FOOTER_LEN>().expect("the caller has compared the lengths");
        Footer::decode(file.path(), number, bytes, footer)
    }

    /// The rest of the file from `footer.filter_start()` on, and the range deletes before it.
    fn parse(file: &File, number: u64, footer: Footer, encoded: &Bytes) -> Result<Ends> {
        let filter_start = footer.filter_start();
        let part = |handle: BlockHandle| {
            // The footer has seen to it that the parts follow each other and end with the file.
            let start = (handle.offset - filter_start) as usize;
            let stored = encoded.slice(start..start + handle.len as usize + BLOCK_TRAILER_LEN);
            open_block(file.path(), number, handle.offset, stored)
        };
        let wrong = |handle: BlockHandle, expected: String| Error::corruption(file.path(), handle.offset, expected);
        let filter = match footer.filter {
            Some(handle) => {
                Some(Filter::parse(part(handle)?).ok_or_else(|| wrong(handle, "a filter of whole lines".into()))?)
            }
            None => None,
        };
        let index = Index::parse(part(footer.index)?)
            .map_err(|at| wrong(footer.index, format!("an index in good form, found {at:?}")))?;
        let properties =
            Properties::decode(&part(footer.properties)?).map_err(|expected| wrong(footer.properties, expected))?;
        if properties.number != number || properties.data_blocks != index.len() as u64 {
            let expected = format!(
                "properties of table {number} with {} blocks, found table {} with {}",
                index.len(),
                properties.number,
                properties.data_blocks
            );
            return Err(wrong(footer.properties, expected));
        }
        let Some(handle) = properties.range_block() else {
            return Ok(Ends { data_end: filter_start, fragments: Arc::default(), filter, index, properties });
        };
        if handle.end() != Some(filter_start) || handle.len > BLOCK_LEN_MAX {
            let expected = format!("range deletes that end at {filter_start}, found {handle:?}");
            return Err(wrong(footer.properties, expected));
        }
        let stored = file.read_vec_at(handle.offset, handle.len as usize + BLOCK_TRAILER_LEN)?;
        let block = open_block(file.path(), number, handle.offset, Bytes::from(stored))?;
        let fragments = range_deletes(block, properties.range_deletes).ok_or_else(|| {
            wrong(handle, format!("{} range deletes in order, found others", properties.range_deletes))
        })?;
        Ok(Ends { data_end: handle.offset, fragments: Arc::new(fragments), filter, index, properties })
    }
}

/// The range deletes of a block that holds `count`; `None` where it is none.
fn range_deletes(block: Bytes, count: u64) -> Option<Fragments> {
    let block = Block::parse(block).ok()?;
    block.check_restarts().ok()?;
    let mut fragments = Fragments::new();
    // Pieces of one range stand together, newest first.
    let mut piece: Option<(Bytes, Bytes, Vec<SeqNo>)> = None;
    let finish = |fragments: &mut Fragments, piece: Option<(Bytes, Bytes, Vec<SeqNo>)>| {
        if let Some((start, end, seqnos)) = piece {
            fragments.push(Fragment { start, end, seqnos: seqnos.into() });
        }
    };
    let mut cursor = BlockCursor::default();
    cursor.load(block);
    cursor.seek_to_first().ok()?;
    let mut found = 0;
    while cursor.valid() {
        let key = InternalKey::decode(cursor.key())?;
        let end = cursor.value();
        if key.kind != Kind::RangeDelete || key.user >= &end[..] || end.len() > KEY_LEN_MAX {
            return None;
        }
        match &mut piece {
            Some((start, same_end, seqnos)) if &start[..] == key.user => {
                if *same_end != end || seqnos.last().is_some_and(|&newer| newer <= key.seqno) {
                    return None;
                }
                seqnos.push(key.seqno);
            }
            _ => {
                if piece.as_ref().is_some_and(|(_, behind, _)| &behind[..] > key.user) {
                    return None;
                }
                let next = (Bytes::copy_from_slice(key.user), Bytes::copy_from_slice(&end), vec![key.seqno]);
                finish(&mut fragments, piece.replace(next));
            }
        }
        found += 1;
        cursor.next().ok()?;
    }
    finish(&mut fragments, piece);
    (found == count).then_some(fragments)
}

/// Reads blocks for one cursor. Where each follows the one before, it reads ever larger pieces that hold several.
#[derive(Default)]
pub(super) struct ReadAhead {
    start: u64,
    buffer: Bytes,
    /// Where the block behind the last one begins.
    next: u64,
    window: u64,
}

impl ReadAhead {
    /// Takes note of a block that was found elsewhere.
    fn pass(&mut self, handle: BlockHandle) {
        self.next = handle.offset + handle.len + BLOCK_TRAILER_LEN as u64;
    }

    /// The block as stored, with its trailer. `handle` lies within the data.
    fn read(&mut self, table: &Table, handle: BlockHandle) -> Result<Bytes> {
        let len = handle.len + BLOCK_TRAILER_LEN as u64;
        let end = handle.offset + len;
        let buffered = self.start <= handle.offset && end <= self.start + self.buffer.len() as u64;
        if !buffered {
            self.window = match handle.offset == self.next {
                true => (self.window * 2).clamp(AHEAD_BYTES_MIN, AHEAD_BYTES_MAX),
                false => 0,
            };
            let piece = self.window.min(table.ends.data_end - handle.offset).max(len);
            self.buffer = Bytes::from(table.file.read_vec_at(handle.offset, piece as usize)?);
            self.start = handle.offset;
        }
        self.pass(handle);
        let at = (handle.offset - self.start) as usize;
        Ok(self.buffer.slice(at..at + len as usize))
    }
}
