//! What is left of a table that may be damaged: every block that is whole, from the front, and what lies between.
//!
//! Where the ends of the table are whole (footer, index, properties, range deletes) each data block is looked at by itself, and the
//! index says between which keys a lost one lay.
//!
//! Where they are not, the blocks themselves have to do. They lie side by side from byte 0 on, and each ends where the checksum
//! over it and its place matches, which is tried byte by byte. That goes on until no such end is found, or until the keys of a
//! block do not go on behind those of the one before. So no index is taken for data: its first separator is not above the last
//! key of the data, for it lies at the end of the first block. Range deletes have a kind of their own and end it as well.
//!
//! D1. Whatever is handed out had a matching checksum for this place of this file, and is in key order without a key twice.
//!
//! It decides nothing about what may be believed: an entry that is whole here may have been replaced in what is lost.

use super::block::{Block, BlockCursor};
use super::format::{BLOCK_LEN_MAX, BLOCK_TRAILER_LEN, BlockHandle, block_checksum_behind, open_block};
use super::reader::Table;
use crate::cache::BlockCache;
use crate::checksum::Checksum;
use crate::env::File;
use crate::error::{Error, Result};
use crate::fragments::Fragments;
use crate::key::{InternalKey, KEY_LEN_MAX, KeyspaceId, compare, user_key};
use bytes::Bytes;
use std::cmp::Ordering;
use std::sync::Arc;

/// Bytes that are read at first to find where a block ends, and at most.
const GUESS_BYTES: usize = 64 * 1024;
const GUESS_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The internal key and the value of an entry.
pub type Entry = (Vec<u8>, Bytes);

/// A part of a table that cannot be read.
#[derive(Clone, Debug)]
pub struct LostPart {
    /// The byte at which it starts.
    pub offset: u64,
    /// Its length.
    pub bytes: u64,
    /// Its user keys are not below this one; `None` where it may hold the first.
    pub from: Option<Vec<u8>>,
    /// Its user keys are not above this one; `None` where it may hold the last.
    pub to: Option<Vec<u8>>,
    /// What was found.
    pub cause: Error,
}

/// The first and the last user key that there may be; `None` where that is not known.
pub type Bounds = (Option<Vec<u8>>, Option<Vec<u8>>);

/// A cursor over the whole blocks of a table.
pub struct Remains {
    file: File,
    number: u64,
    bytes: u64,
    /// With whole ends; and the number of the next block.
    table: Option<(Table, usize)>,
    /// Without: where the next block starts.
    offset: u64,
    ended: bool,
    /// Its user keys lie between these, as far as is known.
    bounds: Bounds,
    last_key: Vec<u8>,
    lost: Vec<LostPart>,
}

impl Remains {
    /// Looks at the ends of the table in `file`, of which `bytes` count, and whose keys lie within `bounds`.
    pub fn open(file: File, number: u64, bytes: u64, bounds: Bounds) -> Remains {
        let opened = Table::open(file.clone(), number, bytes, Arc::new(BlockCache::new(0)));
        let (table, lost) = match opened {
            Ok(table) => (Some((table, 0)), Vec::new()),
            // Where its range deletes lie is not known, so what they held is not either.
            Err(cause) => {
                let (from, to) = bounds.clone();
                (None, vec![LostPart { offset: 0, bytes: 0, from, to, cause }])
            }
        };
        Remains { file, number, bytes, table, offset: 0, ended: false, bounds, last_key: Vec::new(), lost }
    }

    /// Whose entries it holds, where its ends are whole.
    pub fn keyspace(&self) -> Option<KeyspaceId> {
        self.table.as_ref().map(|(table, _)| table.properties().keyspace)
    }

    /// Its range deletes, where its ends are whole.
    pub fn fragments(&self) -> Option<&Arc<Fragments>> {
        self.table.as_ref().map(|(table, _)| table.fragments())
    }

    /// What could not be read so far. Where the ends are not whole, the first part has no length, and stands for the range deletes
    /// that may have been there.
    pub fn lost(&self) -> &[LostPart] {
        &self.lost
    }

    /// The entries of the next whole block; `None` behind the last.
    pub fn next_block(&mut self) -> Option<Vec<Entry>> {
        while !self.ended {
            let entries = if self.table.is_some() { self.next_by_index() } else { self.next_by_checksum() };
            if let Some(entries) = entries {
                return Some(entries);
            }
        }
        None
    }

    fn next_by_index(&mut self) -> Option<Vec<Entry>> {
        let (table, next) = self.table.as_mut()?;
        if *next == table.blocks() {
            self.ended = true;
            return None;
        }
        let before = if *next == 0 { Some(table.properties().smallest.clone()) } else { None };
        let before = before.or_else(|| table.index_entry(*next - 1).ok().map(|(key, _)| key.to_vec()));
        let entry = table.index_entry(*next).map(|(key, handle)| (key.to_vec(), handle));
        *next += 1;
        let (separator, handle) = match entry {
            Ok(entry) => entry,
            Err(cause) => {
                self.lose(self.offset, 0, before.as_deref(), None, cause);
                return None;
            }
        };
        self.offset = handle.offset + handle.len + BLOCK_TRAILER_LEN as u64;
        match self.read(handle).and_then(|block| self.entries(handle.offset, block)) {
            Ok(entries) => Some(entries),
            Err(cause) => {
                let bytes = handle.len + BLOCK_TRAILER_LEN as u64;
                self.lose(handle.offset, bytes, before.as_deref(), Some(&separator), cause);
                None
            }
        }
    }

    fn read(&self, handle: BlockHandle) -> Result<Bytes> {
        let stored = self.file.read_vec_at(handle.offset, handle.len as usize + BLOCK_TRAILER_LEN)?;
        open_block(self.file.path(), self.number, handle.offset, Bytes::from(stored))
    }

    fn next_by_checksum(&mut self) -> Option<Vec<Entry>> {
        let offset = self.offset;
        let found = self.find_end(offset).and_then(|len| {
            let len =
                len.ok_or_else(|| Error::corruption(self.file.path(), offset, "a whole block that starts here"))?;
            self.offset = offset + len + BLOCK_TRAILER_LEN as u64;
            let block = self.read(BlockHandle { offset, len })?;
            self.entries(offset, block)
        });
        match found {
            Ok(entries) => Some(entries),
            Err(cause) => {
                // What is whole from here on may be anything but data.
                self.ended = true;
                if offset < self.bytes {
                    let last_key = self.last_key.clone();
                    let from = (!last_key.is_empty()).then_some(last_key.as_slice());
                    self.lose(offset, self.bytes - offset, from, None, cause);
                }
                None
            }
        }
    }

    /// How long the block is that starts at `offset`, without its trailer; `None` where none is found.
    fn find_end(&self, offset: u64) -> Result<Option<u64>> {
        let left = usize::try_from(self.bytes.saturating_sub(offset)).unwrap_or(usize::MAX);
        let most = left.min(GUESS_BYTES_MAX).min(BLOCK_LEN_MAX as usize);
        let mut want = GUESS_BYTES.min(most);
        let mut done = 0;
        let mut so_far = Checksum::new();
        loop {
            let bytes = self.file.read_vec_at(offset, want)?;
            while done + BLOCK_TRAILER_LEN <= bytes.len() {
                let written = u32::from_le_bytes(*bytes[done + 1..].first_chunk().expect("a trailer is there"));
                if bytes[done] <= 2 && block_checksum_behind(&so_far, bytes[done], self.number, offset) == written {
                    return Ok(Some(done as u64));
                }
                so_far.update(&bytes[done..=done]);
                done += 1;
            }
            if want == most {
                return Ok(None);
            }
            want = (want * 4).min(most);
        }
    }

    /// The entries of a block, which go on behind those before (D1).
    fn entries(&mut self, offset: u64, block: Bytes) -> Result<Vec<Entry>> {
        let wrong = |expected: &str| Error::corruption(self.file.path(), offset, expected);
        let malformed = |_| wrong("a block in good form, found nonsense in it");
        let block = Block::parse(block).map_err(malformed)?;
        block.check_restarts().map_err(malformed)?;
        let mut cursor = BlockCursor::default();
        cursor.load(block);
        cursor.seek_to_first().map_err(malformed)?;
        let mut entries: Vec<Entry> = Vec::new();
        while cursor.valid() {
            let (encoded, value) = (cursor.key(), cursor.value());
            let key = InternalKey::decode(encoded).ok_or_else(|| wrong("whole internal keys"))?;
            if !key.kind.is_point() || key.user.len() > KEY_LEN_MAX || !key.kind.admits_value(&value) {
                return Err(wrong("only entries of kinds that this version knows"));
            }
            let last = entries.last().map_or(self.last_key.as_slice(), |(key, _)| key);
            if !last.is_empty() && compare(last, encoded) != Ordering::Less {
                return Err(wrong("keys behind those of the block before"));
            }
            entries.push((encoded.to_vec(), value));
            cursor.next().map_err(malformed)?;
        }
        if let Some((last, _)) = entries.last() {
            self.last_key.clone_from(last);
        }
        Ok(entries)
    }

    fn lose(&mut self, offset: u64, bytes: u64, from: Option<&[u8]>, to: Option<&[u8]>, cause: Error) {
        let user = |key: &[u8]| user_key(key).to_vec();
        let from = from.map(user).or_else(|| self.bounds.0.clone());
        let to = to.map(user).or_else(|| self.bounds.1.clone());
        self.lost.push(LostPart { offset, bytes, from, to, cause });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::testing::{MemoryFs, memory_env};
    use crate::env::{Env, OpenMode};
    use crate::key::{KEYSPACE_DEFAULT, Kind};
    use crate::options::Compression;
    use crate::sst::{TableOptions, TableWriter};
    use std::path::Path;

    const PATH: &str = "000007.sst";

    /// A table of 100 keys in blocks of a few.
    fn table(filter_bits_per_key: u32) -> (Env, Arc<MemoryFs>) {
        let (env, fs) = memory_env();
        let compression = Compression::None;
        let options = TableOptions { block_bytes: 100, restart_interval: 4, filter_bits_per_key, compression };
        let file = env.open(Path::new(PATH), OpenMode::CreateNew).expect("a file");
        let mut writer = TableWriter::new(file, 7, KEYSPACE_DEFAULT, options);
        for index in 0..100u64 {
            let key = InternalKey::new(format!("key{index:03}").as_bytes(), index + 1, Kind::Put).encode();
            writer.add(&key, format!("value{index}").as_bytes()).expect("an entry");
        }
        writer.finish().expect("a table");
        (env, fs)
    }

    fn damage(fs: &MemoryFs, at: usize) {
        let mut bytes = fs.contents(Path::new(PATH));
        bytes[at] ^= 0x10;
        fs.set_contents(Path::new(PATH), &bytes);
    }

    fn left(env: &Env) -> (Vec<String>, Remains) {
        let file = env.open(Path::new(PATH), OpenMode::Read).expect("the table");
        let bytes = file.len().expect("a length");
        let mut remains = Remains::open(file, 7, bytes, (None, None));
        let mut keys = Vec::new();
        while let Some(entries) = remains.next_block() {
            keys.extend(entries.iter().map(|(key, _)| String::from_utf8_lossy(user_key(key)).into_owned()));
        }
        (keys, remains)
    }

    #[test]
    fn one_damaged_block_costs_its_own_keys_and_they_lie_between_its_bounds() {
        let (env, fs) = table(10);
        assert_eq!(left(&env).0.len(), 100);
        damage(&fs, 1000);
        let (keys, remains) = left(&env);
        assert!((90..100).contains(&keys.len()), "{} keys are left", keys.len());
        let [lost] = remains.lost() else { panic!("one part is lost, and not {:?}", remains.lost()) };
        let (from, to) = (lost.from.as_deref().expect("a bound"), lost.to.as_deref().expect("a bound"));
        for index in 0..100 {
            let key = format!("key{index:03}");
            assert!(keys.contains(&key) || (from <= key.as_bytes() && key.as_bytes() <= to), "{key} within {lost:?}");
        }
        assert!(lost.offset <= 1000 && 1000 < lost.offset + lost.bytes && lost.cause.is_corruption());
    }

    #[test]
    fn without_its_ends_a_table_is_read_from_the_front_and_no_index_is_taken_for_data() {
        for filter_bits_per_key in [0, 10] {
            let (env, fs) = table(filter_bits_per_key);
            damage(&fs, fs.contents(Path::new(PATH)).len() - 10);
            let (keys, remains) = left(&env);
            assert_eq!(keys.len(), 100, "all of the data is whole");
            assert!(remains.keyspace().is_none() && remains.lost().len() == 2, "{:?}", remains.lost());
            damage(&fs, 1000);
            let (keys, _) = left(&env);
            assert!((20..60).contains(&keys.len()), "{} keys are left", keys.len());
            // Half of it is not there at all.
            let half = fs.contents(Path::new(PATH))[..500].to_vec();
            fs.set_contents(Path::new(PATH), &half);
            assert!(!left(&env).0.is_empty());
        }
    }
}
