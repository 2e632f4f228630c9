//! Stories about whole tables: written, read, damaged.

use super::block::BlockBuilder;
use super::filter::FilterBuilder;
use super::format::{BlockHandle, Compressor, FOOTER_LEN, FORMAT_VERSION, Footer, Properties, seal_block};
use super::{Table, TableIter, TableOptions, TableSummary, TableWriter};
use crate::blob::BlobUses;
use crate::cache::BlockCache;
use crate::coding::put_varint;
use crate::env::testing::{Call, MemoryFs, memory_env};
use crate::env::{Env, File, OpenMode};
use crate::error::{Error, Result};
use crate::iter::internal::InternalIterator;
use crate::key::{InternalKey, KEYSPACE_DEFAULT, Kind, Lookup, SEQNO_MAX, SeqNo, compare, user_key};
use crate::options::{Compression, Options};
use proptest::prelude::*;
use std::cmp::Ordering;
use std::path::Path;
use std::sync::Arc;

type Model = Vec<(Vec<u8>, Vec<u8>)>;

const NUMBER: u64 = 7;

fn path() -> &'static Path {
    Path::new("db/000007.sst")
}

fn tiny() -> TableOptions {
    TableOptions { block_bytes: 64, restart_interval: 2, filter_bits_per_key: 10, compression: Compression::None }
}

fn write_to(file: File, model: &Model, options: &TableOptions) -> Result<TableSummary> {
    let mut writer = TableWriter::new(file, NUMBER, KEYSPACE_DEFAULT, options.clone());
    for (key, value) in model {
        writer.add(key, value)?;
    }
    assert_eq!(writer.entries(), model.len() as u64);
    let estimate = writer.bytes();
    let summary = writer.finish()?;
    // Not in the estimate: most of the properties, and the last entry of the index. The last block may still shrink.
    assert!(summary.bytes <= estimate + 300, "{estimate} for {}", summary.bytes);
    assert!(options.compression != Compression::None || estimate <= summary.bytes, "{estimate} for {}", summary.bytes);
    Ok(summary)
}

fn write(env: &Env, model: &Model, options: &TableOptions) -> TableSummary {
    let file = env.open(path(), OpenMode::CreateOrTruncate).expect("a new file");
    write_to(file, model, options).expect("nothing fails")
}

fn open_cached(env: &Env, bytes: u64, cache_bytes: u64) -> Result<Arc<Table>> {
    let file = env.open(path(), OpenMode::Read)?;
    Table::open(file, NUMBER, bytes, Arc::new(BlockCache::new(cache_bytes))).map(Arc::new)
}

fn open(env: &Env, bytes: u64) -> Result<Arc<Table>> {
    open_cached(env, bytes, 1 << 20)
}

/// A table in a memory of its own.
fn table_of(model: &Model, options: &TableOptions) -> (Env, Arc<MemoryFs>, Arc<Table>, TableSummary) {
    let (env, fs) = memory_env();
    let summary = write(&env, model, options);
    let table = open(&env, summary.bytes).expect("a sound table");
    (env, fs, table, summary)
}

fn put(user: impl AsRef<[u8]>, seqno: SeqNo) -> Vec<u8> {
    InternalKey::new(user.as_ref(), seqno, Kind::Put).encode()
}

fn numbered(count: u64, value_len: usize) -> Model {
    (0..count).map(|n| (put(format!("key{n:06}"), n), vec![n as u8; value_len])).collect()
}

/// Keys that are empty, prefixes of each other, runs of 0xff, and long ones that share a start.
fn any_user_key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(prop::sample::select(vec![0u8, 1, b'a', b'b', 0xfe, 0xff]), 0..4),
        prop::collection::vec(Just(0xffu8), 0..6),
        (0u32..40).prop_map(|number| format!("key{number:05}").into_bytes()),
        (100usize..160, any::<u8>()).prop_map(|(len, last)| {
            let mut key = vec![b'x'; len];
            key.push(last);
            key
        }),
    ]
}

fn any_key() -> impl Strategy<Value = Vec<u8>> {
    let seqno = prop_oneof![4 => 0u64..6, 1 => Just(SEQNO_MAX)];
    (any_user_key(), seqno, prop::bool::weighted(0.8)).prop_map(|(user, seqno, put)| {
        InternalKey::new(&user, seqno, if put { Kind::Put } else { Kind::Delete }).encode()
    })
}

fn any_model() -> impl Strategy<Value = Model> {
    let value = prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..30),
        1 => (any::<u8>(), 0usize..1000).prop_map(|(byte, len)| vec![byte; len]),
    ];
    prop::collection::vec((any_key(), value), 1..80).prop_map(|mut model| {
        model.sort_by(|a, b| compare(&a.0, &b.0));
        // No two entries have the same user key and seqno, whatever their kind.
        model.dedup_by(|a, b| {
            let of = |key: &[u8]| InternalKey::decode(key).map(|key| (key.user.to_vec(), key.seqno));
            of(&a.0) == of(&b.0)
        });
        model
    })
}

fn any_options() -> impl Strategy<Value = TableOptions> {
    let compression = prop::sample::select(vec![Compression::None, Compression::Lz4, Compression::Deflate]);
    let bits = prop::sample::select(vec![0u32, 1, 10, 64]);
    (prop::sample::select(vec![64usize, 100, 300, 4096]), 1usize..5, bits, compression).prop_map(
        |(block_bytes, restart_interval, filter_bits_per_key, compression)| TableOptions {
            block_bytes,
            restart_interval,
            filter_bits_per_key,
            compression,
        },
    )
}

fn expected_get(model: &Model, user: &[u8], seqno: SeqNo) -> Option<Lookup> {
    let versions = model.iter().filter_map(|(key, value)| Some((InternalKey::decode(key)?, value)));
    let newest = versions.filter(|(key, _)| key.user == user && key.seqno <= seqno).max_by_key(|(key, _)| key.seqno);
    newest.map(|(key, value)| match key.kind {
        Kind::Put => Lookup::Found(value.clone().into()),
        _ => Lookup::Deleted,
    })
}

fn at(iter: &dyn InternalIterator) -> Option<(Vec<u8>, Vec<u8>)> {
    iter.valid().then(|| (iter.key().to_vec(), iter.value().to_vec()))
}

fn walk(iter: &mut TableIter) -> Result<Model> {
    let mut seen = Vec::new();
    iter.seek_to_first()?;
    while let Some(entry) = at(iter) {
        seen.push(entry);
        iter.next()?;
    }
    Ok(seen)
}

proptest! {
    #[test]
    fn a_table_answers_like_the_entries_it_was_made_of(
        model in any_model(), options in any_options(),
        asked in prop::collection::vec((any_user_key(), 0u64..8), 0..40),
        cache_bytes in prop::sample::select(vec![0u64, 400, 1 << 20]),
    ) {
        let (env, _, _, summary) = table_of(&model, &options);
        let table = open_cached(&env, summary.bytes, cache_bytes).expect("a sound table");
        prop_assert_eq!(&table.verify().expect("sound"), &summary);
        prop_assert_eq!(&summary.smallest, &model[0].0);
        prop_assert_eq!(&summary.largest, &model[model.len() - 1].0);
        for (key, _) in &model {
            let key = InternalKey::decode(key).expect("well formed");
            prop_assert!(table.may_contain(key.user));
            for seqno in [key.seqno, key.seqno.saturating_sub(1), SEQNO_MAX] {
                let found = table.get(key.user, seqno).expect("sound");
                prop_assert_eq!(found, expected_get(&model, key.user, seqno), "{:?} at {}", key, seqno);
            }
        }
        for (user, seqno) in asked {
            prop_assert_eq!(table.get(&user, seqno).expect("sound"), expected_get(&model, &user, seqno));
        }
        for fill_cache in [true, false] {
            prop_assert_eq!(&walk(&mut table.iter(fill_cache)).expect("sound"), &model);
        }
    }

    #[test]
    fn a_cursor_walks_like_an_index_into_a_list(
        model in any_model(), options in any_options(), fill_cache: bool,
        steps in prop::collection::vec((0u8..8, any_key()), 1..80),
    ) {
        let (_, _, table, _) = table_of(&model, &options);
        let mut iter = table.iter(fill_cache);
        let mut place: Option<usize> = None;
        for (step, target) in steps {
            let below = model.partition_point(|(key, _)| compare(key, &target) == Ordering::Less);
            match (step, place) {
                (0, _) => { iter.seek_to_first().expect("sound"); place = Some(0); }
                (1, _) => { iter.seek_to_last().expect("sound"); place = Some(model.len() - 1); }
                (2, _) => { iter.seek(&target).expect("sound"); place = (below < model.len()).then_some(below); }
                (3, _) => { iter.seek_before(&target).expect("sound"); place = below.checked_sub(1); }
                (4 | 5, Some(now)) => { iter.next().expect("sound"); place = (now + 1 < model.len()).then_some(now + 1); }
                (_, Some(now)) => { iter.prev().expect("sound"); place = now.checked_sub(1); }
                (_, None) => {}
            }
            prop_assert_eq!(at(&iter), place.map(|place| model[place].clone()));
        }
    }

    #[test]
    fn any_bytes_as_a_table_are_refused_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let (env, fs) = memory_env();
        fs.set_contents(path(), &bytes);
        prop_assert!(open(&env, bytes.len() as u64).expect_err("nonsense").is_corruption());
    }

    #[test]
    fn a_table_that_is_cut_or_longer_is_damaged(model in any_model(), options in any_options(), cut: prop::sample::Index) {
        let (env, fs, _, summary) = table_of(&model, &options);
        let mut bytes = fs.contents(path());
        bytes.truncate(cut.index(bytes.len()));
        fs.set_contents(path(), &bytes);
        prop_assert!(open(&env, summary.bytes).expect_err("shorter than the manifest says").is_corruption());
        prop_assert!(open(&env, bytes.len() as u64).expect_err("no footer there").is_corruption());
        bytes.resize(summary.bytes as usize + 1, 0);
        fs.set_contents(path(), &bytes);
        prop_assert!(open(&env, summary.bytes).expect_err("longer than the manifest says").is_corruption());
    }

    #[test]
    fn a_read_error_is_an_error_and_never_an_absence(model in any_model(), options in any_options(), nth in 0u64..12) {
        let (env, fs, _, summary) = table_of(&model, &options);
        // Without cache, so that each look reads.
        fs.fail_read(nth);
        let Ok(table) = open_cached(&env, summary.bytes, 0) else { return Ok(()) };
        for (key, _) in &model {
            let key = InternalKey::decode(key).expect("well formed");
            if let Ok(found) = table.get(key.user, key.seqno) {
                prop_assert_eq!(found, expected_get(&model, key.user, key.seqno));
            }
        }
        for fill_cache in [true, false] {
            fs.heal();
            fs.fail_read(nth);
            let mut iter = table.iter(fill_cache);
            match walk(&mut iter) {
                Ok(seen) => prop_assert_eq!(&seen, &model),
                Err(_) => {
                    prop_assert!(!iter.valid(), "no position after an error");
                    prop_assert_eq!(&walk(&mut iter).expect("the fault has passed"), &model);
                }
            }
        }
    }
}

#[test]
fn a_walk_that_loses_a_read_stops_with_an_error_wherever_it_happens() {
    let model = numbered(2_000, 100);
    let (env, fs, _, summary) = table_of(&model, &tiny());
    let table = open_cached(&env, summary.bytes, 0).expect("a sound table");
    let backwards: Model = model.iter().rev().cloned().collect();
    for fill_cache in [true, false] {
        for nth in [0, 1, 2, 3, 4, 5, 6, 100, 500] {
            let mut iter = table.iter(fill_cache);
            fs.heal();
            fs.fail_read(nth);
            match walk(&mut iter) {
                Ok(seen) => assert!(nth > 3 && seen == model),
                Err(_) => assert!(!iter.valid()),
            }
            fs.heal();
            fs.fail_read(nth);
            let mut seen = Vec::new();
            let mut moved = iter.seek_to_last();
            while let (Ok(()), Some(entry)) = (&moved, at(&iter)) {
                seen.push(entry);
                moved = iter.prev();
            }
            assert!(moved.is_err() && !iter.valid(), "each block is a read of its own going backward");
            assert_eq!(seen, backwards[..seen.len()]);
        }
    }
}

/// What a table with one byte changed may do: say that it is damaged, or answer rightly. Never anything else.
fn answers_rightly_or_refuses(table: &Arc<Table>, model: &Model) {
    for (key, _) in model {
        let key = InternalKey::decode(key).expect("well formed");
        match table.get(key.user, key.seqno) {
            Ok(found) => assert_eq!(found, expected_get(model, key.user, key.seqno)),
            Err(error) => assert!(error.is_corruption(), "{error}"),
        }
    }
    for fill_cache in [true, false] {
        match walk(&mut table.iter(fill_cache)) {
            Ok(seen) => assert_eq!(&seen, model),
            Err(error) => assert!(error.is_corruption(), "{error}"),
        }
    }
}

#[test]
fn each_flipped_bit_is_noticed() {
    for compression in [Compression::None, Compression::Lz4, Compression::Deflate] {
        let model = numbered(24, 9);
        let (env, fs, before, summary) = table_of(&model, &TableOptions { compression, ..tiny() });
        let whole = fs.contents(path());
        for place in 0..whole.len() {
            for bit in [0, 3, 7] {
                let mut damaged = whole.clone();
                damaged[place] ^= 1 << bit;
                fs.set_contents(path(), &damaged);
                let error = before.verify().expect_err("damage after opening is noticed by verify");
                assert!(error.is_corruption(), "byte {place}: {error}");
                match open(&env, summary.bytes) {
                    Ok(table) => {
                        assert!(table.verify().expect_err("one bit is wrong").is_corruption(), "byte {place}");
                        answers_rightly_or_refuses(&table, &model);
                    }
                    Err(error) => assert!(error.is_corruption(), "byte {place}: {error}"),
                }
            }
        }
        fs.set_contents(path(), &whole);
        assert_eq!(before.verify().expect("whole again"), summary);
    }
}

#[test]
fn blocks_that_change_places_are_noticed_although_each_is_whole() {
    // Entries of the same lengths make blocks of the same length.
    let model: Model = (0..40).map(|n| (put([b'k', n], 5), vec![n; 20])).collect();
    let (env, fs, _, summary) = table_of(&model, &tiny());
    let mut bytes = fs.contents(path());
    let block_len =
        model.len().checked_div(open(&env, summary.bytes).expect("sound").properties().data_blocks as usize);
    assert_eq!(block_len, Some(1), "one entry fills a block of this size");
    let first_key = bytes.windows(2).position(|window| window == [b'k', 0]).expect("the first key");
    let second_key = bytes.windows(2).position(|window| window == [b'k', 1]).expect("the second key");
    let stride = second_key - first_key;
    let (front, back) = bytes.split_at_mut(stride);
    front.swap_with_slice(&mut back[..stride]);
    fs.set_contents(path(), &bytes);
    let table = open(&env, summary.bytes).expect("the ends are whole");
    for n in [0, 1] {
        assert!(table.get(&[b'k', n], 9).expect_err("a block from elsewhere").is_corruption());
    }
    assert_eq!(table.get(&[b'k', 2], 9).expect("whole"), expected_get(&model, &[b'k', 2], 9));
    assert!(table.verify().expect_err("two blocks are elsewhere").is_corruption());
}

#[test]
fn a_table_under_another_number_is_not_opened() {
    let (env, _, _, summary) = table_of(&numbered(10, 10), &tiny());
    let file = env.open(path(), OpenMode::Read).expect("it exists");
    let error = Table::open(file, NUMBER + 1, summary.bytes, Arc::new(BlockCache::new(0))).expect_err("another table");
    assert!(error.is_corruption() && error.to_string().contains("table 8"), "{error}");
}

#[test]
fn a_small_table_costs_one_write_one_sync_and_one_read_to_open() {
    let (env, fs) = memory_env();
    let model = numbered(200, 20);
    let summary = write(&env, &model, &TableOptions::at_level(&Options::default(), 0));
    assert!(summary.bytes < 16 * 1024);
    assert_eq!((fs.count(Call::Write), fs.count(Call::Sync)), (1, 1));
    let table = open(&env, summary.bytes).expect("sound");
    assert_eq!(fs.count(Call::Read), 1);
    assert_eq!(walk(&mut table.iter(false)).expect("sound"), model);
    assert_eq!(fs.count(Call::Read), 2, "reading it whole is one read");
    for (key, _) in &model {
        table.get(user_key(key), SEQNO_MAX).expect("sound");
    }
    assert_eq!(fs.count(Call::Read), 2 + table.properties().data_blocks, "the cache keeps what was read");
}

#[test]
fn a_large_table_is_written_and_read_in_large_pieces() {
    let (env, fs) = memory_env();
    let model = numbered(40_000, 100);
    let options = TableOptions { compression: Compression::None, ..TableOptions::at_level(&Options::default(), 6) };
    let summary = write(&env, &model, &options);
    let pieces = summary.bytes / (256 * 1024) + 1;
    assert!(fs.count(Call::Write) <= pieces, "{} writes", fs.count(Call::Write));
    let table = open(&env, summary.bytes).expect("sound");
    assert_eq!(fs.count(Call::Read), 2);
    assert_eq!(walk(&mut table.iter(false)).expect("sound"), model);
    assert!(fs.count(Call::Read) <= 2 + pieces + 8, "{} reads", fs.count(Call::Read));
    assert_eq!(table.verify().expect("sound"), summary);
}

#[test]
fn a_scan_reads_ahead_into_the_cache_and_a_second_one_reads_nothing() {
    let model = numbered(10_000, 100);
    for compression in [Compression::None, Compression::Lz4] {
        let options = TableOptions { compression, ..TableOptions::at_level(&Options::default(), 0) };
        let (env, fs, _, summary) = table_of(&model, &options);
        let table = open_cached(&env, summary.bytes, 16 << 20).expect("sound");
        let before = fs.count(Call::Read);
        assert_eq!(walk(&mut table.iter(true)).expect("sound"), model);
        let reads = fs.count(Call::Read) - before;
        assert!(reads * 10 < table.properties().data_blocks, "{reads} reads");
        assert_eq!(walk(&mut table.iter(true)).expect("sound"), model);
        assert_eq!(table.get(b"key000077", SEQNO_MAX).expect("sound"), Some(Lookup::Found(model[77].1.clone().into())));
        assert_eq!(fs.count(Call::Read) - before, reads, "all of it is in the cache");
    }
}

/// A table made by hand, with right checksums and whatever inside.
struct Forged {
    blocks: Vec<Model>,
    separators: Vec<Vec<u8>>,
    handle: fn(BlockHandle) -> BlockHandle,
    filter_keys: Vec<Vec<u8>>,
    properties: fn(&mut Properties),
}

impl Forged {
    /// One that is as a writer would have made it.
    fn sound() -> Forged {
        let blocks: Vec<Model> = numbered(9, 4).chunks(3).map(<[_]>::to_vec).collect();
        Forged {
            separators: blocks.iter().map(|block| block[2].0.clone()).collect(),
            filter_keys: blocks.concat().iter().map(|(key, _)| user_key(key).to_vec()).collect(),
            blocks,
            handle: |handle| handle,
            properties: |_| {},
        }
    }

    fn open(&self) -> Result<Arc<Table>> {
        let (mut out, mut raw) = (Vec::new(), Compressor::None);
        let mut index = BlockBuilder::new(1);
        for (entries, separator) in self.blocks.iter().zip(&self.separators) {
            let mut block = BlockBuilder::new(2);
            entries.iter().for_each(|(key, value)| block.add(key, value));
            let offset = out.len() as u64;
            let handle = (self.handle)(seal_block(&mut out, block.finish(), &mut raw, NUMBER, offset));
            let mut value = Vec::new();
            put_varint(&mut value, handle.offset);
            put_varint(&mut value, handle.len);
            index.add(separator, &value);
        }
        let mut filter = FilterBuilder::new(10).expect("a filter is wanted");
        self.filter_keys.iter().for_each(|key| filter.add(key));
        let mut seal = |out: &mut Vec<u8>, block: &[u8]| {
            let offset = out.len() as u64;
            seal_block(out, block, &mut raw, NUMBER, offset)
        };
        let filter = Some(seal(&mut out, &filter.finish()));
        let index = seal(&mut out, index.finish());
        let entries = self.blocks.concat();
        let mut properties = Properties {
            number: NUMBER,
            format_version: FORMAT_VERSION,
            keyspace: KEYSPACE_DEFAULT,
            compression: Compression::None,
            filter_bits_per_key: 10,
            entries: entries.len() as u64,
            deletes: 0,
            range_deletes: 0,
            expiring: None,
            blobs: BlobUses::default(),
            range_offset: 0,
            range_bytes: 0,
            data_blocks: self.blocks.len() as u64,
            seqno_min: 0,
            seqno_max: 8,
            smallest: entries[0].0.clone(),
            largest: entries[entries.len() - 1].0.clone(),
        };
        (self.properties)(&mut properties);
        let mut encoded = Vec::new();
        properties.encode_into(&mut encoded);
        let properties = seal(&mut out, &encoded);
        let bytes = (out.len() + FOOTER_LEN) as u64;
        Footer { filter, index, properties }.encode_into(&mut out, NUMBER, bytes);
        let (env, fs) = memory_env();
        fs.set_contents(path(), &out);
        open(&env, bytes)
    }

    /// What `verify` has against it.
    fn complaint(&self) -> String {
        let checked = self.open().and_then(|table| table.verify());
        let error = checked.expect_err("verify notices what checksums cannot");
        assert!(error.is_corruption());
        error.to_string()
    }
}

#[test]
fn verify_notices_what_checksums_cannot() {
    Forged::sound().open().expect("sound").verify().expect("sound");

    let mut unfiltered = Forged::sound();
    unfiltered.filter_keys.remove(4);
    assert!(unfiltered.complaint().contains("filter with all keys"));

    let mut disordered = Forged::sound();
    disordered.blocks[1].swap(0, 1);
    assert!(disordered.complaint().contains("keys in order"));

    let mut low = Forged::sound();
    low.separators[1] = put("key000004", 4);
    assert!(low.complaint().contains("before the separator of its block"));

    let mut high = Forged::sound();
    high.separators[0] = put("key000003", 3);
    assert!(high.complaint().contains("behind the separator of the block before"));

    let lies: [fn(&mut Properties); 7] = [
        |properties| properties.entries += 1,
        |properties| properties.deletes += 1,
        |properties| properties.seqno_min += 1,
        |properties| properties.seqno_max += 1,
        |properties| properties.smallest = put("", 1),
        |properties| properties.largest = put("z", 1),
        |properties| properties.data_blocks = 2,
    ];
    for lie in lies {
        let forged = Forged { properties: lie, ..Forged::sound() };
        assert!(forged.complaint().contains("properties"));
    }
}

#[test]
fn an_index_that_names_impossible_places_is_refused_before_anything_is_allocated() {
    let places: [fn(BlockHandle) -> BlockHandle; 5] = [
        |handle| BlockHandle { len: u64::MAX, ..handle },
        |handle| BlockHandle { offset: u64::MAX, ..handle },
        |handle| BlockHandle { len: 1 << 40, ..handle },
        |handle| BlockHandle { offset: handle.offset + 1, ..handle },
        |handle| BlockHandle { len: 0, ..handle },
    ];
    for handle in places {
        let forged = Forged { handle, ..Forged::sound() };
        forged.complaint();
        let table = forged.open().expect("the ends are sound");
        assert!(table.get(b"key000004", 9).expect_err("no such place").is_corruption());
        for fill_cache in [true, false] {
            let mut iter = table.iter(fill_cache);
            assert!(iter.seek(&put("key000004", 9)).expect_err("no such place").is_corruption());
            assert!(!iter.valid());
        }
    }
}

#[test]
fn short_reads_and_writes_change_nothing() {
    let (env, fs) = memory_env();
    fs.limit_transfers(7);
    let model = numbered(50, 30);
    let summary = write(&env, &model, &tiny());
    let table = open(&env, summary.bytes).expect("sound");
    assert_eq!(walk(&mut table.iter(true)).expect("sound"), model);
    assert_eq!(table.verify().expect("sound"), summary);
}

#[test]
fn a_writer_that_failed_stays_failed() {
    let (env, fs) = memory_env();
    let file = env.open(path(), OpenMode::CreateNew).expect("a new file");
    let mut writer = TableWriter::new(file, NUMBER, KEYSPACE_DEFAULT, tiny());
    fs.fail_with(Call::Write, 0, std::io::ErrorKind::StorageFull);
    let model = numbered(4, 200_000);
    let failed = model.iter().position(|(key, value)| writer.add(key, value).is_err()).expect("a write fails");
    assert!(failed < 4);
    let again = writer.add(&put("z", 1), b"").expect_err("still failed, although the disk would take it now");
    assert!(again.is_out_of_space());
    let writes = fs.count(Call::Write);
    assert!(writer.finish().expect_err("no table comes of it").is_out_of_space());
    assert_eq!((fs.count(Call::Write), fs.count(Call::Sync)), (writes, 0), "nothing more was tried");
}

#[test]
fn a_failed_sync_is_a_failed_table() {
    let (env, fs) = memory_env();
    fs.fail(Call::Sync, 0);
    let file = env.open(path(), OpenMode::CreateNew).expect("a new file");
    assert!(matches!(write_to(file, &numbered(3, 3), &tiny()), Err(Error::Io(_))));
}

#[test]
fn versions_of_one_key_that_fill_many_blocks_are_all_found() {
    let model: Model =
        (1..=500u64).rev().map(|seqno| (put("one key", 2 * seqno), seqno.to_le_bytes().to_vec())).collect();
    let (_, _, table, _) = table_of(&model, &tiny());
    assert!(table.properties().data_blocks > 100);
    for seqno in 0..=1001u64 {
        let expected = (seqno >= 2).then(|| Lookup::Found((seqno / 2).to_le_bytes().to_vec().into()));
        assert_eq!(table.get(b"one key", seqno).expect("sound"), expected, "at {seqno}");
    }
}

#[test]
fn a_value_far_larger_than_a_block_gets_a_block_of_its_own() {
    let large = vec![b'v'; 40 << 20];
    let model = vec![(put("a", 1), b"before".to_vec()), (put("b", 2), large.clone()), (put("c", 3), b"after".to_vec())];
    for compression in [Compression::None, Compression::Lz4, Compression::Deflate] {
        let (_, _, table, summary) = table_of(&model, &TableOptions { compression, ..tiny() });
        assert_eq!(summary.bytes > large.len() as u64, compression == Compression::None);
        assert_eq!(table.get(b"b", 9).expect("sound"), Some(Lookup::Found(large.clone().into())));
        assert_eq!(table.get(b"c", 9).expect("sound"), Some(Lookup::Found(b"after".to_vec().into())));
        assert_eq!(table.verify().expect("sound"), summary);
    }
}

#[test]
fn a_search_behind_the_table_reads_nothing() {
    let (_, fs, table, _) = table_of(&numbered(100, 20), &TableOptions { filter_bits_per_key: 0, ..tiny() });
    let reads = fs.count(Call::Read);
    assert_eq!(table.get(b"z", 9).expect("sound"), None);
    let mut iter = table.iter(true);
    iter.seek(&put("z", 9)).expect("sound");
    assert!(!iter.valid());
    assert_eq!(fs.count(Call::Read), reads);
}

#[test]
#[should_panic(expected = "does not come after")]
fn keys_out_of_order_are_a_bug_of_the_caller() {
    let (env, _) = memory_env();
    write(&env, &vec![(put("b", 1), vec![]), (put("a", 1), vec![])], &tiny());
}

#[test]
#[should_panic(expected = "has no entries")]
fn a_table_of_nothing_is_a_bug_of_the_caller() {
    let (env, _) = memory_env();
    write(&env, &Vec::new(), &tiny());
}

#[test]
fn the_bytes_of_a_table_are_fixed_for_ever() {
    let model = vec![
        (put("", 3), b"the empty key".to_vec()),
        (InternalKey::new(b"apple", 9, Kind::Delete).encode(), Vec::new()),
        (put("apple", 4), b"red".to_vec()),
        (put("apple pie", 5), b"warm".to_vec()),
        (put([0xff, 0xff], 6), vec![b'z'; 90]),
    ];
    // Only the raw form: the same data may be compressed to other bytes by another version of a compressor.
    let (_, fs, table, summary) = table_of(&model, &tiny());
    assert_eq!(crate::checksum::masked(&fs.contents(path())), summary.checksum, "the checksum is that of the file");
    let properties = table.properties();
    assert_eq!(properties.largest, model[4].0);
    assert_eq!((properties.entries, properties.deletes, properties.data_blocks), (5, 1, 3));
    insta::assert_snapshot!(format!("{} bytes, checksum {:08x}", summary.bytes, summary.checksum), @"457 bytes, checksum d7e2976c");
}
