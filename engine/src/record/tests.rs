//! Stories of logs that end in every possible way, and of writers that failed.

use super::format::{FILE_HEADER_LEN, FileHeader, RECORD_HEADER_LEN, RecordHeader, Uuid, record_len, record_tag};
use super::{Record, RecordReader, RecordWriter, Tail};
use crate::env::testing::{Call, MemoryFs, memory_env};
use crate::env::{Env, File, OpenMode};
use crate::error::{Error, Result};
use proptest::prelude::*;
use std::path::Path;
use std::sync::Arc;

const PATH: &str = "log";
const TAG: u64 = 0x1234_5678_9abc_def0;
const KIND: u8 = 7;

fn file(env: &Env, mode: OpenMode) -> File {
    env.open(Path::new(PATH), mode).expect("nothing fails here")
}

/// Writes one record for each payload, each a group of its own, and syncs after those that say so.
fn written(tag: u64, records: &[(&[u8], bool)]) -> Vec<u8> {
    let (env, fs) = memory_env();
    let mut writer = RecordWriter::new(file(&env, OpenMode::CreateNew), tag, 0);
    for (seq, (payload, sync)) in records.iter().enumerate() {
        writer.push(KIND, seq as u64 + 1, &[payload]);
        writer.write().expect("nothing fails here");
        if *sync {
            writer.sync().expect("nothing fails here");
        }
    }
    fs.contents(Path::new(PATH))
}

fn world_with(content: &[u8]) -> (Env, Arc<MemoryFs>) {
    let (env, fs) = memory_env();
    fs.set_contents(Path::new(PATH), content);
    (env, fs)
}

fn read_file(env: &Env) -> Result<(Vec<Record>, Tail)> {
    let file = env.open(Path::new(PATH), OpenMode::Read)?;
    let end = file.len()?;
    let mut reader = RecordReader::new(file, TAG, 0, end);
    let mut records = Vec::new();
    while let Some(record) = reader.next()? {
        records.push(record);
    }
    Ok((records, reader.tail()))
}

fn read(content: &[u8]) -> Result<(Vec<Record>, Tail)> {
    read_file(&world_with(content).0)
}

/// How many records are read, and what is dropped behind them.
fn outcome(content: &[u8]) -> (usize, u64) {
    let (records, tail) = read(content).expect("a torn tail is no error");
    (records.len(), tail.dropped_bytes)
}

fn damage_offset(result: Result<(Vec<Record>, Tail)>) -> u64 {
    match result.expect_err("damage in a synced part") {
        Error::Corruption(damage) => {
            assert_eq!(damage.path, Path::new(PATH));
            damage.offset
        }
        other => panic!("{other}"),
    }
}

/// Three records that are not synced, and where the payload of each ends.
fn unsynced() -> (Vec<u8>, Vec<usize>) {
    let payloads: [&[u8]; 3] = [b"first", b"", b"third, and longer than the others"];
    let content = written(TAG, &payloads.map(|payload| (payload, false)));
    let mut start = 0;
    let ends = payloads
        .iter()
        .map(|payload| {
            let end = start + RECORD_HEADER_LEN + payload.len();
            start += record_len(payload.len() as u64) as usize;
            end
        })
        .collect();
    (content, ends)
}

#[test]
fn records_come_back_as_they_were_pushed() {
    let (env, _) = memory_env();
    let mut writer = RecordWriter::new(file(&env, OpenMode::CreateNew), TAG, 0);
    let checksum = writer.push(1, 5, &[b"in ", b"", b"parts"]);
    writer.push(2, 5, &[]);
    assert_eq!((writer.offset(), writer.written_offset()), (40 + 32, 0));
    writer.sync().expect("nothing fails here");
    writer.push(3, 6, &[b"last"]);
    writer.write().expect("nothing fails here");
    assert_eq!((writer.written_offset(), writer.synced_offset()), (112, 72));
    let (records, tail) = read_file(&env).expect("whole");
    let told: Vec<_> =
        records.iter().map(|record| (record.offset, record.kind, record.seq, record.synced_offset)).collect();
    assert_eq!(told, [(0, 1, 5, 0), (40, 2, 5, 0), (72, 3, 6, 72)]);
    assert_eq!(&records[0].payload[..], b"in parts");
    assert_eq!(records[0].checksum, checksum);
    assert_eq!(tail, Tail { offset: 112, torn: false, dropped_bytes: 0 });
}

#[test]
fn a_log_cut_at_any_byte_ends_with_its_last_whole_record() {
    let (content, ends) = unsynced();
    for len in 0..content.len() {
        let whole = ends.iter().filter(|&&end| end <= len).count();
        let (records, tail) = read(&content[..len]).expect("a torn tail is no error");
        assert_eq!(records.len(), whole, "cut at {len}");
        assert!(tail.offset <= len as u64 && tail.torn == (tail.offset < len as u64));
    }
}

#[test]
fn an_unsynced_log_flipped_at_any_byte_ends_before_that_record() {
    let (content, ends) = unsynced();
    for at in 0..content.len() {
        let mut flipped = content.clone();
        flipped[at] ^= 0x40;
        let before = ends.iter().filter(|&&end| end <= at).count();
        // Where the byte lies in padding, no record is hurt.
        let start = before.checked_sub(1).map_or(0, |last| ends[last].next_multiple_of(8));
        let whole = if at < start { 3 } else { before };
        assert_eq!(outcome(&flipped).0, whole, "flipped at {at}");
    }
}

#[test]
fn damage_before_what_a_later_record_knows_synced_is_corruption_at_that_offset() {
    let content = written(TAG, &[(b"one record", true), (b"another one", true), (b"the last!", true)]);
    let (second, third) = (48, 96);
    for at in 0..content.len() {
        let mut flipped = content.clone();
        flipped[at] ^= 1;
        let padding = [42..48, 91..96, 137..144].iter().any(|gap| gap.contains(&at));
        if padding {
            assert_eq!(outcome(&flipped), (3, 0), "flipped at {at}");
        } else if at < third {
            let expected = if at < second { 0 } else { second as u64 };
            assert_eq!(damage_offset(read(&flipped)), expected, "flipped at {at}");
        } else {
            // The limit: nothing behind it says that the last record was synced.
            assert_eq!(outcome(&flipped).0, 2, "flipped at {at}");
        }
    }
    insta::assert_snapshot!(
        read(&[&[0; 48], &content[48..]].concat()).expect_err("the first record is gone"),
        @"log is damaged at byte 0: expected a whole record, because the one at byte 48 says that all up to byte 48 was synced; restore the file from a backup, or salvage the store"
    );
}

#[test]
fn a_whole_record_behind_an_unsynced_hole_is_dropped_with_the_hole() {
    let content = written(TAG, &[(b"synced", true), (b"torn by the cut", false), (b"kept by the medium", false)]);
    let mut holed = content.clone();
    holed[40..88].fill(0);
    let (records, tail) = read(&holed).expect("both records behind the sync were promised to nobody");
    assert_eq!(records.len(), 1);
    assert_eq!((tail.offset, tail.dropped_bytes), (40, content.len() as u64 - 40));
}

#[test]
fn zeros_behind_the_last_record_are_an_end_and_nobodys_loss() {
    let (mut content, _) = unsynced();
    let len = content.len();
    for extra in [1, 7, 8, 31, 32, 4096, 300_000] {
        content.resize(len + extra, 0);
        assert_eq!(outcome(&content), (3, 0), "{extra} zeros");
    }
}

#[test]
fn bytes_that_another_log_left_on_the_medium_are_never_taken_for_records() {
    let stale = written(record_tag(Uuid([1; 16]), 9), &[(b"old", true), (b"old too", true), (b"and this", true)]);
    let (mut content, _) = unsynced();
    content.extend_from_slice(&stale);
    assert_eq!(outcome(&content), (3, stale.len() as u64));
    assert_eq!(outcome(&stale), (0, stale.len() as u64));
}

#[test]
fn a_log_stored_as_a_value_inside_a_torn_record_proves_nothing() {
    // The value is a log with another number that says of itself that it is synced; the record around it is torn.
    let inner = written(TAG ^ 1, &[(b"0123456", true), (b"89abcdef", true), (b"!", true)]);
    let mut content = written(TAG, &[(b"x", false), (&inner, false)]);
    content.truncate(content.len() - 4);
    assert_eq!(outcome(&content).0, 1);
}

#[test]
fn a_length_that_the_file_does_not_have_is_never_believed() {
    for len in [u32::MAX, u32::MAX - 40, 1 << 30, 9] {
        let header = RecordHeader { checksum: 0, len, tag: TAG, kind: KIND, seq: 1, synced_offset: 0 };
        let mut content = header.encode(&[]).to_vec();
        content.extend_from_slice(&[0xab; 8]);
        assert_eq!(outcome(&content).0, 0, "length {len}");
    }
}

#[test]
fn a_record_longer_than_any_buffer_is_read_and_its_damage_is_seen() {
    let long: Vec<u8> = (0..3_000_001u32).map(|index| ((index * 31) >> 3) as u8).collect();
    let content = written(TAG, &[(b"short", false), (&long, true), (b"after", false)]);
    let (records, _) = read(&content).expect("whole");
    assert_eq!(records.len(), 3);
    assert!(records[1].payload == long);
    let mut flipped = content.clone();
    flipped[1_500_000] ^= 1;
    assert_eq!(damage_offset(read(&flipped)), 40);
    // The proof lies far behind the damage, across several windows.
    let mut early = content;
    early[33] ^= 1;
    assert_eq!(damage_offset(read(&early)), 0);
    flipped.truncate(2_000_000);
    assert_eq!(outcome(&flipped).0, 1);
}

#[test]
fn an_error_while_reading_is_an_error_and_never_the_end() {
    let payload = vec![3; 100_000];
    let content = written(TAG, &[(&payload, true), (&payload, true), (&payload, true), (&payload, true)]);
    // The same while it is being decided whether a bad record is a torn tail: the proof lies behind the first window.
    let mut damaged = content.clone();
    damaged[0] ^= 1;
    damaged[100_032] ^= 1;
    for content in [content, damaged] {
        let (env, fs) = world_with(&content);
        let undisturbed = read_file(&env).map_err(|error| error.to_string());
        let reads = fs.count(Call::Read);
        assert!(reads >= 2);
        for nth in 0..reads {
            fs.fail_read(nth);
            assert!(matches!(read_file(&env), Err(Error::Io(_))), "read {nth}");
        }
        assert_eq!(read_file(&env).map_err(|error| error.to_string()), undisturbed);
    }
}

#[test]
fn transfers_that_stop_short_change_nothing() {
    let (env, fs) = memory_env();
    fs.limit_transfers(7);
    let mut writer = RecordWriter::new(file(&env, OpenMode::CreateNew), TAG, 0);
    writer.push(KIND, 1, &[b"in small steps"]);
    writer.sync().expect("short writes are gone on with");
    let (records, tail) = read_file(&env).expect("whole");
    assert_eq!((records.len(), tail.torn), (1, false));
}

#[test]
fn after_a_failed_write_or_sync_the_file_is_never_touched_again() {
    for (call, succeeds_first) in [(Call::Write, 0), (Call::Write, 1), (Call::Sync, 0), (Call::Sync, 1)] {
        let (env, fs) = memory_env();
        let mut writer = RecordWriter::new(file(&env, OpenMode::CreateNew), TAG, 0);
        fs.fail(call, succeeds_first);
        let mut step = |seq| {
            writer.push(KIND, seq, &[b"payload"]);
            writer.sync()
        };
        for seq in 0..succeeds_first {
            step(seq + 1).expect("the fault comes later");
        }
        let first = step(8).expect_err("the fault").to_string();
        let synced = writer.synced_offset();
        assert_eq!(writer.failure().map(Error::to_string), Some(first.clone()));
        let calls = |fs: &MemoryFs| (fs.count(Call::Write), fs.count(Call::Sync));
        let before = calls(&fs);
        writer.push(KIND, 9, &[b"more"]);
        assert_eq!(writer.write().expect_err("poisoned").to_string(), first);
        assert_eq!(writer.sync().expect_err("poisoned").to_string(), first);
        assert_eq!(calls(&fs), before, "{call:?}: a poisoned writer makes no call");
        assert_eq!(writer.synced_offset(), synced);
    }
}

#[test]
fn a_group_is_one_write_and_a_sync_of_nothing_is_no_call() {
    let (env, fs) = memory_env();
    let mut writer = RecordWriter::with_header(file(&env, OpenMode::CreateNew), TAG, &[0; 48]);
    for seq in 1..=50 {
        writer.push(KIND, seq, &[b"one of many"]);
    }
    writer.sync().expect("nothing fails here");
    writer.sync().expect("nothing fails here");
    writer.write().expect("nothing fails here");
    assert_eq!((fs.count(Call::Write), fs.count(Call::Sync)), (1, 1));
    assert_eq!(writer.synced_offset(), writer.offset());
}

#[test]
fn a_file_header_is_whole_or_none() {
    let header = FileHeader { magic: *b"ABCDEFGH", version: 3, store: Uuid([9; 16]), number: 4, first: 5 };
    let bytes = header.encode();
    assert_eq!(FileHeader::decode(&bytes), Some(header));
    for at in 0..FILE_HEADER_LEN {
        let mut flipped = bytes;
        flipped[at] ^= 1;
        assert_eq!(FileHeader::decode(&flipped), None, "flipped at {at}");
        assert_eq!(FileHeader::decode(&bytes[..at]), None, "cut at {at}");
    }
    assert_ne!(record_tag(Uuid([9; 16]), 4), record_tag(Uuid([9; 16]), 5));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever happens to the bytes behind the last sync, what was synced comes back, and nothing that was never
    /// written.
    #[test]
    fn what_was_synced_survives_anything_that_happens_behind_it(
        synced in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..80), 0..6),
        behind in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..80), 0..6),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..12),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut records: Vec<(&[u8], bool)> = synced.iter().map(|payload| (&payload[..], true)).collect();
        let floor = written(TAG, &records).len();
        records.extend(behind.iter().map(|payload| (&payload[..], false)));
        let mut content = written(TAG, &records);
        let unsynced = content.len() - floor;
        if unsynced > 0 {
            damage.iter().for_each(|(at, byte)| content[floor + at.index(unsynced)] = *byte);
            content.truncate(floor + cut.index(unsynced + 1));
        }
        let (read, tail) = read(&content).expect("a torn tail is no error");
        prop_assert!(read.len() >= synced.len() && read.len() <= records.len());
        for (record, (payload, _)) in read.iter().zip(&records) {
            prop_assert_eq!(&record.payload[..], *payload);
        }
        prop_assert!(tail.offset as usize >= floor.min(content.len()));
    }

    #[test]
    fn any_bytes_are_read_without_panic(content in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = read(&content);
    }
}
