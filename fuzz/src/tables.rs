//! Targets for sorted tables: a whole file, and one block inside a file that is sound around it.
//!
//! The file around a block is put together here, from the pictures in the engine's documentation and not with its
//! encoder: so it also checks that the pictures are true.

use crate::memory::Memory;
use crate::seeds::{Seed, in_modes};
use crate::{Damage, Mode, assert_says_what_is_wrong, mode};
use arbitrary::{Arbitrary, Unstructured};
use bytes::Bytes;
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use strata::blob::{BlobFiles, BlobUses};
use strata::cache::BlockCache;
use strata::checksum::Checksum;
use strata::coding::{Decoder, put_u32, put_u64, put_varint};
use strata::compaction::job::{self, Surroundings};
use strata::compaction::plan::Plan;
use strata::compaction::readers::Readers;
use strata::compaction::separate::{Collected, Place};
use strata::env::OpenMode;
use strata::error::Result;
use strata::filename::FileKind;
use strata::fragments::Fragments;
use strata::iter::InternalIterator;
use strata::key::{InternalKey, KEYSPACE_DEFAULT, Kind, Lookup, SEQNO_MAX, SeqNo, compare, range_end};
use strata::manifest::{TableMeta, Version};
use strata::options::{Compression, Options};
use strata::record::Uuid;
use strata::sst::{FORMAT_VERSION, Properties, Remains, Table, TableCache, TableOptions, TableWriter};

const NUMBER: u64 = 12;
const TRAILER_LEN: usize = 5;
const FOOTER_LEN: usize = 64;
const MAGIC: [u8; 8] = *b"strata\xf5\x7a";

fn path() -> PathBuf {
    FileKind::Sst(NUMBER).path("store".as_ref())
}

/// One block; the first byte is its compression.
pub fn sst_block(data: &[u8]) {
    let Some((&compression, stored)) = data.split_first() else { return };
    read_everything(table_around(compression % 4, stored));
}

/// A table.
pub fn sst(data: &[u8]) {
    match mode(data) {
        None => {}
        Some((Mode::Raw, file)) => read_everything(file.to_vec()),
        Some((Mode::Mended, file)) => {
            let mut file = file.to_vec();
            mend(&mut file);
            read_everything(file);
        }
        Some((Mode::Damaged, story)) => {
            let mut story = Unstructured::new(story);
            // Too few bytes for a story: nothing to try.
            if let (Ok(table), Ok(damage)) = (TableStory::arbitrary(&mut story), Damage::arbitrary(&mut story)) {
                table_with_damage(&table, &damage);
            }
        }
    }
}

type Entry = (Vec<u8>, Bytes);

fn open(file: Vec<u8>) -> Result<Arc<Table>> {
    let bytes = file.len() as u64;
    let env = Memory::with_file(&path(), file);
    let file = env.open(&path(), OpenMode::Read).expect("it is there");
    Table::open(file, NUMBER, bytes, Arc::new(BlockCache::new(1 << 16))).map(Arc::new)
}

/// Entries from a seek on, in the direction of the step, until the end or the first error.
fn walk(
    table: &Arc<Table>,
    fill_cache: bool,
    seek: impl Fn(&mut dyn InternalIterator) -> Result<()>,
    step: impl Fn(&mut dyn InternalIterator) -> Result<()>,
) -> (Vec<Entry>, Result<()>) {
    let mut iter = table.iter(fill_cache);
    let mut entries = Vec::new();
    let mut result = seek(&mut iter);
    while result.is_ok() && iter.valid() {
        entries.push((iter.key().to_vec(), iter.value()));
        result = step(&mut iter);
    }
    if let Err(error) = &result {
        assert_says_what_is_wrong(error);
        assert!(!iter.valid(), "a cursor stays valid after an error");
    }
    (entries, result)
}

/// What a salvage finds of a table that may be anything, and how many parts it lost.
fn remains(file: Vec<u8>) -> (Vec<Entry>, usize) {
    let bytes = file.len() as u64;
    let env = Memory::with_file(&path(), file);
    let file = env.open(&path(), OpenMode::Read).expect("it is there");
    let mut remains = Remains::open(file, NUMBER, bytes, (None, None));
    let entries: Vec<Entry> = std::iter::from_fn(|| remains.next_block()).flatten().collect();
    assert!(entries.is_sorted_by(|a, b| compare(&a.0, &b.0).is_lt()), "keys ascend");
    remains.lost().iter().for_each(|part| assert_says_what_is_wrong(&part.cause));
    (entries, remains.lost().len())
}

/// Reads a table in every way. It may be nonsense behind right checksums, where only the manners are checked; where
/// `verify` finds nothing wrong, all ways must agree.
fn read_everything(file: Vec<u8>) {
    compact(file.clone());
    let (left, lost) = remains(file.clone());
    let table = match open(file) {
        Ok(table) => table,
        Err(error) => return assert_says_what_is_wrong(&error),
    };
    let (forward, all) = walk(&table, true, |iter| iter.seek_to_first(), |iter| iter.next());
    let (ahead, _) = walk(&table, false, |iter| iter.seek_to_first(), |iter| iter.next());
    let (mut backward, back) = walk(&table, true, |iter| iter.seek_to_last(), |iter| iter.prev());
    let verified = table.verify();
    if let Err(error) = &verified {
        assert_says_what_is_wrong(error);
    }
    for (key, _) in &forward {
        let Some(key) = InternalKey::decode(key) else { continue };
        if let Err(error) = table.get(key.user, key.seqno) {
            assert_says_what_is_wrong(&error);
        }
        let encoded = key.encode();
        drop(walk(&table, true, |iter| iter.seek(&encoded), |iter| iter.next()));
        drop(walk(&table, true, |iter| iter.seek_before(&encoded), |iter| iter.prev()));
    }
    let Ok(summary) = verified else { return };
    all.expect("a table that verifies can be read forward");
    back.expect("a table that verifies can be read backward");
    assert_eq!(ahead, forward, "with and without the cache");
    assert_eq!((left.as_slice(), lost), (forward.as_slice(), 0), "all is left of a whole table");
    backward.reverse();
    assert_eq!(backward, forward, "forward and backward");
    assert_eq!(summary.entries, forward.len() as u64);
    assert!(forward.is_sorted_by(|a, b| compare(&a.0, &b.0).is_lt()), "keys ascend");
    let ends = forward.first().zip(forward.last()).map(|(first, last)| (first.0.clone(), last.0.clone()));
    let ends = ends.into_iter().chain(ends_of(table.fragments())).reduce(|(a, b), (c, d)| {
        (if compare(&c, &a).is_lt() { c } else { a }, if compare(&d, &b).is_gt() { d } else { b })
    });
    assert_eq!(Some((summary.smallest, summary.largest)), ends, "a table has an entry or a range delete");
    for (index, (encoded, value)) in forward.iter().enumerate() {
        let key = InternalKey::decode(encoded).expect("verified");
        let deleted = table.fragments().newest(key.user, key.seqno).is_some_and(|deleted| deleted > key.seqno);
        let expected = if deleted { Lookup::Deleted } else { lookup(key.kind, value) };
        assert_eq!(table.get(key.user, key.seqno).expect("verified"), Some(expected));
        let (from, _) = walk(&table, true, |iter| iter.seek(encoded), |iter| iter.next());
        assert_eq!(from, forward[index..], "from {key:?} on");
        let (before, _) = walk(&table, true, |iter| iter.seek_before(encoded), |iter| iter.prev());
        assert!(before.iter().rev().eq(&forward[..index]), "before {key:?}");
    }
}

/// Compacts a table that says of itself in the manifest what it says of itself in its properties. The result fits the list
/// of tables, or there is none.
fn compact(file: Vec<u8>) {
    let bytes = file.len() as u64;
    let env = Memory::with_file(&path(), file);
    let tables = Arc::new(TableCache::new(env.clone(), "store".into(), Arc::new(BlockCache::new(0))));
    let Ok(table) = tables.table(NUMBER, bytes) else { return };
    let said = table.properties();
    let meta = TableMeta {
        number: NUMBER,
        keyspace: KEYSPACE_DEFAULT,
        bytes,
        entries: said.entries,
        deletes: said.deletes,
        range_deletes: said.range_deletes,
        expiring: said.expiring,
        blobs: said.blobs.clone(),
        smallest: said.smallest.clone(),
        largest: said.largest.clone(),
        seqno_min: said.seqno_min,
        seqno_max: said.seqno_max,
        checksum: 0,
        epoch: NUMBER,
    };
    if meta.check().is_err() {
        return;
    }
    let Ok(version) = Version::empty(KEYSPACE_DEFAULT, 3).apply(&[], &[&(1, meta.clone())]) else { return };
    let options = Options { table_bytes: 512, block_bytes: 128, ..Options::default() };
    let (next, cancelled) = (Cell::new(NUMBER), || false);
    let new_file = |_: fn(u64) -> FileKind| {
        next.set(next.get() + 1);
        next.get()
    };
    let dir = Path::new("store");
    let (blobs, sparse) = (BlobFiles::new(env.clone(), dir.into(), Arc::new(BlockCache::new(0))), BTreeSet::new());
    let around = Surroundings {
        place: Place { env: &env, dir, store: Uuid([7; 16]), new_file: &new_file },
        collected: Collected { files: &blobs, sparse: &sparse, damaged: &|_, _| () },
        options: &options,
        tables: &tables,
        cancelled: &cancelled,
        written: &|_| true,
    };
    let inputs = vec![(1, vec![Arc::new(meta)])];
    let plan = Plan { keyspace: KEYSPACE_DEFAULT, inputs, output_level: 2, trivial_move: false, expired: false };
    match job::run(&around, &version, &plan, Readers::new(Vec::new(), 1 << 40)) {
        Err(error) => assert_says_what_is_wrong(&error),
        Ok(edit) => {
            let edit = edit.expect("nobody cancels");
            let added: Vec<_> = edit.added.iter().collect();
            version.apply(&edit.removed, &added).expect("J1: what is written fits the list");
        }
    }
}

/// The first key of range deletes and the end behind the last, as a table's bounds know them.
fn ends_of(fragments: &Fragments) -> Option<(Vec<u8>, Vec<u8>)> {
    let (first, last) = (fragments.iter().next()?, fragments.last()?);
    Some((InternalKey::new(&first.start, first.seqnos[0], Kind::RangeDelete).encode(), range_end(&last.end)))
}

fn lookup(kind: Kind, value: &Bytes) -> Lookup {
    Lookup::of(kind, || value.clone()).expect("verified")
}

/// Behind every key that a block is likely to hold.
fn last_separator() -> Vec<u8> {
    InternalKey::new(&[0xff; 64], 0, Kind::Delete).encode()
}

/// A file with one data block of these stored bytes, and sound in all that lies around it.
fn table_around(compression: u8, stored: &[u8]) -> Vec<u8> {
    let mut file = Vec::new();
    seal(&mut file, stored, compression);
    let mut index = Vec::new();
    let separator = last_separator();
    let mut place = Vec::new();
    put_varint(&mut place, 0);
    put_varint(&mut place, stored.len() as u64);
    for len in [0, separator.len(), place.len()] {
        put_varint(&mut index, len as u64);
    }
    index.extend_from_slice(&separator);
    index.extend_from_slice(&place);
    put_u32(&mut index, 0);
    put_u32(&mut index, 1);
    let index_offset = file.len();
    seal(&mut file, &index, 0);

    // As true as can be known: of a block that came from the encoder, all of it.
    let entries = entries_of(compression, stored);
    let keys: Vec<InternalKey<'_>> = entries.iter().filter_map(|key| InternalKey::decode(key)).collect();
    let lowest = InternalKey::new(b"", SEQNO_MAX, Kind::Put);
    let properties = Properties {
        number: NUMBER,
        format_version: FORMAT_VERSION,
        keyspace: KEYSPACE_DEFAULT,
        compression: [Compression::None, Compression::Lz4, Compression::Deflate][usize::from(compression) % 3],
        filter_bits_per_key: 0,
        entries: keys.len().max(1) as u64,
        deletes: keys.iter().filter(|key| key.kind == Kind::Delete).count() as u64,
        range_deletes: 0,
        expiring: None,
        blobs: BlobUses::default(),
        range_offset: 0,
        range_bytes: 0,
        data_blocks: 1,
        seqno_min: keys.iter().map(|key| key.seqno).min().unwrap_or(0),
        seqno_max: keys.iter().map(|key| key.seqno).max().unwrap_or(0),
        smallest: keys.first().unwrap_or(&lowest).encode(),
        largest: keys.last().unwrap_or(&lowest).encode(),
    };
    let properties_offset = file.len();
    let mut encoded = Vec::new();
    properties.encode_into(&mut encoded);
    seal(&mut file, &encoded, 0);

    let mut footer = Vec::new();
    for number in [0, 0, index_offset, index.len(), properties_offset, encoded.len()] {
        put_u64(&mut footer, number as u64);
    }
    put_u32(&mut footer, FORMAT_VERSION);
    let bytes = (file.len() + FOOTER_LEN) as u64;
    let checksum = Checksum::new().update(&footer).update(&context(bytes)).masked();
    put_u32(&mut footer, checksum);
    footer.extend_from_slice(&MAGIC);
    file.extend_from_slice(&footer);
    file
}

/// The file's number, and then an offset or length, as checksums take them in.
fn context(number: u64) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&NUMBER.to_le_bytes());
    bytes[8..].copy_from_slice(&number.to_le_bytes());
    bytes
}

fn trailer(stored: &[u8], compression: u8, offset: usize) -> [u8; TRAILER_LEN] {
    let mut checksum = Checksum::new();
    checksum.update(stored).update(&[compression]).update(&context(offset as u64));
    let mut out = [compression, 0, 0, 0, 0];
    out[1..].copy_from_slice(&checksum.masked().to_le_bytes());
    out
}

fn seal(file: &mut Vec<u8>, stored: &[u8], compression: u8) {
    let trailer = trailer(stored, compression, file.len());
    file.extend_from_slice(stored);
    file.extend_from_slice(&trailer);
}

/// The keys of a raw block, as the picture of a block says; as many as make sense.
fn entries_of(compression: u8, stored: &[u8]) -> Vec<Vec<u8>> {
    let mut keys: Vec<Vec<u8>> = Vec::new();
    let restarts = stored.last_chunk().map_or(0, |count| u32::from_le_bytes(*count) as usize);
    let end = restarts.checked_add(1).and_then(|words| stored.len().checked_sub(words.checked_mul(4)?));
    let (0, Some(end)) = (compression, end) else { return keys };
    let mut decoder = Decoder::new(&stored[..end]);
    let mut next = |before: &[u8]| {
        let shared = decoder.varint_u32()? as usize;
        let (unshared, value) = (decoder.varint_u32()? as usize, decoder.varint_u32()? as usize);
        let key = [before.get(..shared)?, decoder.take(unshared)?].concat();
        decoder.take(value)?;
        Some(key)
    };
    while let Some(key) = next(keys.last().map_or(&[], Vec::as_slice)) {
        keys.push(key);
    }
    keys
}

/// Makes the checksums of a table right, as far as its footer and its index lead to them.
fn mend(file: &mut [u8]) {
    let bytes = file.len() as u64;
    let Some((body, footer)) = file.split_last_chunk_mut::<FOOTER_LEN>() else { return };
    footer[56..].copy_from_slice(&MAGIC);
    let checksum = Checksum::new().update(&footer[..52]).update(&context(bytes)).masked();
    footer[52..56].copy_from_slice(&checksum.to_le_bytes());
    let at = |index: usize| u64::from_le_bytes(*footer[8 * index..].first_chunk().expect("six numbers")) as usize;
    let mut mend_block = |offset: usize, len: usize| {
        let end = offset.checked_add(len)?;
        let block = body.get_mut(offset..end.checked_add(TRAILER_LEN)?)?;
        let (stored, old) = block.split_at_mut(len);
        old.copy_from_slice(&trailer(stored, old[0], offset));
        Some(stored.to_vec())
    };
    for part in 0..3 {
        let Some(stored) = mend_block(at(2 * part), at(2 * part + 1)) else { continue };
        if let (2, Ok(properties)) = (part, Properties::decode(&stored)) {
            mend_block(properties.range_offset as usize, properties.range_bytes as usize);
        }
        if part != 1 {
            continue;
        }
        // Entries of the index share nothing, so each can be read on its own.
        let mut decoder = Decoder::new(&stored);
        let mut next = || {
            let (_, key, value) = (decoder.varint_u32()?, decoder.varint_u32()?, decoder.varint_u32()?);
            decoder.take(key as usize)?;
            let mut place = Decoder::new(decoder.take(value as usize)?);
            Some((place.varint()? as usize, place.varint()? as usize))
        };
        let mut places = Vec::new();
        while let Some(place) = next() {
            places.push(place);
        }
        for (offset, len) in places {
            mend_block(offset, len);
        }
    }
}

/// What goes into a table before it is damaged.
#[derive(Arbitrary, Debug)]
struct TableStory {
    block_bytes: u8,
    restart_interval: u8,
    filter_bits_per_key: u8,
    compression: u8,
    entries: Vec<(Vec<u8>, u8, Option<Vec<u8>>)>,
    range_deletes: Vec<(Vec<u8>, Vec<u8>, u8)>,
}

fn write_table(options: TableOptions, entries: impl Iterator<Item = Entry>, deleted: &Fragments) -> Vec<u8> {
    let (env, memory) = Memory::world();
    let file = env.open(&path(), OpenMode::CreateNew).expect("nothing fails in memory");
    let mut writer = TableWriter::new(file, NUMBER, KEYSPACE_DEFAULT, options);
    for (key, value) in entries {
        writer.add(&key, &value).expect("nothing fails in memory");
    }
    for fragment in deleted.iter() {
        writer.add_range_deletes(fragment);
    }
    let summary = writer.finish().expect("nothing fails in memory");
    let file = memory.content(&path());
    assert_eq!(summary.bytes, file.len() as u64);
    let table = open(file.clone()).expect("a table that was just written");
    assert_eq!(table.verify().expect("a table that was just written"), summary);
    file
}

fn table_with_damage(story: &TableStory, damage: &Damage) {
    // By user key and then newest first, as the order of internal keys wants it; two of one key and seqno cannot be.
    let mut model: BTreeMap<(&[u8], std::cmp::Reverse<SeqNo>), Option<Bytes>> = BTreeMap::new();
    for (key, seqno, value) in &story.entries {
        let value = value.as_ref().map(|value| Bytes::copy_from_slice(value));
        model.insert((key.as_slice(), std::cmp::Reverse(2 * SeqNo::from(*seqno))), value);
    }
    // A number belongs to one write: odd ones to range deletes, one each.
    let mut ranges: BTreeMap<SeqNo, (&[u8], &[u8])> = BTreeMap::new();
    for (begin, end, seqno) in story.range_deletes.iter().filter(|(begin, end, _)| begin < end) {
        ranges.insert(2 * SeqNo::from(*seqno) + 1, (begin, end));
    }
    let mut deleted = Fragments::new();
    for (&seqno, (begin, end)) in &ranges {
        deleted.add(Bytes::copy_from_slice(begin), Bytes::copy_from_slice(end), seqno);
    }
    if model.is_empty() && deleted.is_empty() {
        return;
    }
    let entries: Vec<Entry> = model
        .iter()
        .map(|((key, seqno), value)| {
            let kind = if value.is_some() { Kind::Put } else { Kind::Delete };
            (InternalKey::new(key, seqno.0, kind).encode(), value.clone().unwrap_or_default())
        })
        .collect();
    let options = TableOptions {
        block_bytes: 64 + usize::from(story.block_bytes),
        restart_interval: 1 + usize::from(story.restart_interval % 20),
        filter_bits_per_key: u32::from(story.filter_bits_per_key % 20),
        compression: [Compression::None, Compression::Lz4, Compression::Deflate][usize::from(story.compression % 3)],
    };
    let before = write_table(options, entries.iter().cloned(), &deleted);
    let mut after = before.clone();
    damage.apply(&mut after);
    let intact = after == before;
    let table = match open(after) {
        Ok(table) => table,
        Err(error) => {
            assert!(!intact, "an undamaged table does not open: {error}");
            return assert_says_what_is_wrong(&error);
        }
    };
    assert_eq!(table.verify().is_ok(), intact, "every byte of a table is under some checksum");

    let (forward, result) = walk(&table, true, |iter| iter.seek_to_first(), |iter| iter.next());
    assert!(entries.starts_with(&forward), "a damaged table read forward gives other entries");
    assert_eq!(forward.len() == entries.len(), result.is_ok(), "what is missing is an error");
    let (backward, result) = walk(&table, false, |iter| iter.seek_to_last(), |iter| iter.prev());
    assert!(entries.iter().rev().zip(&backward).all(|(a, b)| a == b), "read backward it gives other entries");
    assert_eq!(backward.len() == entries.len(), result.is_ok(), "what is missing is an error");
    let keys = story.entries.iter().map(|(key, _, _)| key).chain(story.range_deletes.iter().map(|(begin, _, _)| begin));
    for key in keys {
        for seqno in [0, 1, 14, 200, 511, SEQNO_MAX] {
            let newest = model.range((key.as_slice(), std::cmp::Reverse(seqno))..).next();
            let newest = newest.filter(|((user, _), _)| user == key);
            let deleted = ranges.range(..=seqno).rev().find(|(_, (begin, end))| *begin <= &key[..] && &key[..] < *end);
            let expected = match (newest, deleted) {
                (Some(((_, entry), _)), Some((&deleted, _))) if deleted > entry.0 => Some(Lookup::Deleted),
                (Some((_, value)), _) => Some(value.clone().map_or(Lookup::Deleted, Lookup::Found)),
                (None, deleted) => deleted.map(|_| Lookup::Deleted),
            };
            match table.get(key, seqno) {
                Ok(found) => assert_eq!(found, expected, "{} at {seqno}", key.escape_ascii()),
                Err(error) => {
                    assert!(!intact, "an undamaged table cannot be read: {error}");
                    assert_says_what_is_wrong(&error);
                }
            }
        }
    }
}

/// Seed inputs for the targets in this file.
pub(crate) fn seeds() -> Vec<Seed> {
    let entry = |index: u64| {
        let user = format!("floor:{:02}", index / 2);
        let kind = if index % 5 == 4 { Kind::Delete } else { Kind::Put };
        let value = if kind == Kind::Put { vec![b'a' + (index % 3) as u8; 20] } else { Vec::new() };
        (InternalKey::new(user.as_bytes(), 100 - index, kind).encode(), Bytes::from(value))
    };
    let options =
        |compression| TableOptions { block_bytes: 128, restart_interval: 4, filter_bits_per_key: 10, compression };
    let none = Fragments::new();
    let lz4 = write_table(options(Compression::Lz4), (0..24).map(entry), &none);
    let raw = write_table(options(Compression::None), (0..4).map(entry), &none);
    let deflate = write_table(options(Compression::Deflate), (0..24).map(entry), &none);
    let mut demolished = Fragments::new();
    demolished.add("cellar".into(), "floor:02".into(), 97);
    demolished.add("floor:01".into(), "floor:07".into(), 90);
    let ranges = write_table(options(Compression::Lz4), (0..24).map(entry), &demolished);
    let ranges_alone = write_table(options(Compression::None), std::iter::empty(), &demolished);
    let mut seeds = in_modes("sst", ["lz4", "lz4-mended", "damaged"], &lz4);
    seeds.extend(in_modes("sst", ["raw", "raw-mended", "damaged"], &raw).into_iter().take(2));
    seeds.extend(in_modes("sst", ["deflate", "deflate-mended", "damaged"], &deflate).into_iter().take(2));
    seeds.extend(in_modes("sst", ["ranges", "ranges-mended", "damaged"], &ranges).into_iter().take(2));
    seeds
        .extend(in_modes("sst", ["ranges-alone", "ranges-alone-mended", "damaged"], &ranges_alone).into_iter().take(2));

    // One block by hand: two restart points, a shared prefix.
    let (first, second, third) = (entry(0).0, entry(1).0, entry(2).0);
    let mut block = Vec::new();
    let shared = first.iter().zip(&second).take_while(|(a, b)| a == b).count();
    for (shared, key) in [(0, &first), (shared, &second)] {
        for len in [shared, key.len() - shared, 1] {
            put_varint(&mut block, len as u64);
        }
        block.extend_from_slice(&key[shared..]);
        block.push(b'x');
    }
    let restart = block.len() as u32;
    put_varint(&mut block, 0);
    put_varint(&mut block, third.len() as u64);
    put_varint(&mut block, 0);
    block.extend_from_slice(&third);
    for number in [0, restart, 2] {
        put_u32(&mut block, number);
    }
    seeds.push(Seed { target: "sst_block", name: "two-restarts", bytes: [&[0], &block[..]].concat() });
    for (name, file) in [("lz4", &lz4), ("deflate", &deflate)] {
        // The first block of the table as it is stored, with its compression in front.
        let end = first_block_len(file);
        seeds.push(Seed { target: "sst_block", name, bytes: [&file[end..=end], &file[..end]].concat() });
    }
    seeds
}

/// The length of the first data block of a sound table, which its index tells.
fn first_block_len(file: &[u8]) -> usize {
    let footer = file.last_chunk::<FOOTER_LEN>().expect("a table");
    let index = u64::from_le_bytes(*footer[16..].first_chunk().expect("a footer")) as usize;
    let mut decoder = Decoder::new(&file[index..]);
    let mut next = || decoder.varint().expect("an index");
    let (_, key, _) = (next(), next() as usize, next());
    let mut place = Decoder::new(&decoder.rest()[key..]);
    place.varint().and_then(|_| place.varint()).expect("a place") as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_put_together_from_the_pictures_is_a_table() {
        for seed in seeds().iter().filter(|seed| seed.target == "sst_block") {
            let (compression, stored) = seed.bytes.split_first().expect("a compression");
            let table = open(table_around(*compression, stored)).expect("sound around the block");
            let (entries, result) = walk(&table, true, |iter| iter.seek_to_first(), |iter| iter.next());
            result.expect("a sound block");
            assert!(entries.len() >= 3, "{}: {} entries", seed.name, entries.len());
        }
    }
}
