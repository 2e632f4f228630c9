//! Stories of write-ahead logs: closed, sealed, torn, damaged, foreign and missing.

use super::*;
use crate::env::testing::{Call, MemoryFs, memory_env};
use std::path::PathBuf;
use std::sync::Arc;

const STORE: Uuid = Uuid([5; 16]);
const NUMBER: u64 = 12;

fn dir() -> &'static Path {
    Path::new("db")
}

fn path() -> PathBuf {
    FileKind::Wal(NUMBER).path(dir())
}

fn batch(puts: u32) -> WriteBatch {
    let mut batch = WriteBatch::new();
    (0..puts).for_each(|index| batch.put(format!("key {index}").as_bytes(), b"value"));
    batch
}

/// A log with batches of 2, 1 and 3 entries from seqno 10 on. Returns where each record ends. Syncs behind those that
/// say so.
fn log_with_syncs(sync: [bool; 3]) -> (Env, Arc<MemoryFs>, WalWriter, Vec<u64>) {
    let (env, fs) = memory_env();
    let mut wal = WalWriter::create(&env, dir(), NUMBER, (STORE, VERSION), 10).expect("nothing fails here");
    let mut ends = Vec::new();
    for (count, sync) in [2, 1, 3].into_iter().zip(sync) {
        wal.push(wal.last_seqno() + 1, &batch(count));
        wal.write().expect("nothing fails here");
        if sync {
            wal.sync().expect("nothing fails here");
        }
        ends.push(wal.bytes());
    }
    (env, fs, wal, ends)
}

/// What a replay found, and the first seqno and count of every batch that it handed out.
fn replayed(env: &Env, expect: ReplayExpect) -> Result<(Replayed, Vec<(SeqNo, u32)>)> {
    let mut seen = Vec::new();
    let replayed = replay(env, dir(), NUMBER, STORE, expect, &mut |seqno, count, payload| {
        assert_eq!(batch::decode(payload, count).flatten().count(), count as usize);
        seen.push((seqno, count));
        Ok(())
    })?;
    Ok((replayed, seen))
}

#[track_caller]
fn damage_offset<T: std::fmt::Debug>(result: Result<T>) -> u64 {
    match result.expect_err("damage") {
        Error::Corruption(damage) => {
            assert_eq!(damage.path, path());
            damage.offset
        }
        other => panic!("{other}"),
    }
}

const ALL: [(SeqNo, u32); 3] = [(10, 2), (12, 1), (13, 3)];

#[test]
fn a_closed_log_gives_back_all_batches_in_order() {
    let (env, fs, wal, ends) = log_with_syncs([false; 3]);
    assert_eq!((wal.number(), wal.last_seqno()), (NUMBER, 15));
    let closed = wal.close().expect("nothing fails here");
    assert_eq!(closed, ClosedWal { number: NUMBER, bytes: ends[2] + 40, last_seqno: 15 });
    let sealed = ReplayExpect::Sealed { bytes: closed.bytes };
    for expect in [ReplayExpect::Newest, ReplayExpect::Closed, sealed] {
        let (found, seen) = replayed(&env, expect).expect("whole");
        assert_eq!(seen, ALL);
        assert!(found.clean);
        assert_eq!((found.valid_bytes, found.last_seqno, found.first_seqno), (closed.bytes, Some(15), Some(10)));
        assert_eq!((found.dropped_bytes, found.synced_bytes), (0, ends[2]));
    }
    // What lies behind is not ours.
    let mut longer = fs.contents(&path());
    longer.extend_from_slice(b"something that was never written here");
    fs.set_contents(&path(), &longer);
    for expect in [ReplayExpect::Newest, ReplayExpect::Closed, sealed] {
        assert_eq!(replayed(&env, expect).expect("whole").0.valid_bytes, closed.bytes);
    }
}

/// What [`read_through`] hands on of so many bytes.
fn read_all(env: &Env, bytes: u64) -> Result<Vec<u8>> {
    let mut all = Vec::new();
    read_through(env, dir(), NUMBER, STORE, bytes, &mut |piece| {
        all.extend_from_slice(piece);
        Ok(())
    })?;
    Ok(all)
}

#[test]
fn a_log_that_is_read_through_comes_out_byte_by_byte_and_damage_does_not() {
    let (env, fs, wal, ends) = log_with_syncs([false, true, false]);
    let closed = wal.close().expect("nothing fails here");
    let content = fs.contents(&path());
    for bytes in [0, FILE_HEADER_LEN as u64, ends[0], ends[1], ends[2], closed.bytes] {
        assert_eq!(read_all(&env, bytes).expect("whole"), content[..bytes as usize], "{bytes} bytes");
        fs.set_contents(&path(), &content[..bytes as usize]);
        damage_offset(read_all(&env, bytes + 8));
        fs.set_contents(&path(), &content);
    }
    for at in 0..content.len() {
        let mut flipped = content.clone();
        flipped[at] ^= 0x10;
        fs.set_contents(&path(), &flipped);
        match read_all(&env, closed.bytes) {
            Ok(mended) => {
                assert_eq!(mended, content, "only the padding can be damaged without being missed, as at {at}")
            }
            damage => assert!(damage_offset(damage) <= at as u64),
        }
    }
}

#[test]
fn creating_costs_three_calls_and_a_group_two() {
    let (_, fs, mut wal, _) = log_with_syncs([false; 3]);
    assert_eq!((fs.count(Call::Open), fs.count(Call::Write), fs.count(Call::Sync)), (1, 4, 1));
    wal.push(20, &batch(1));
    wal.push(21, &batch(1));
    wal.sync().expect("nothing fails here");
    wal.sync().expect("nothing fails here");
    assert_eq!((fs.count(Call::Write), fs.count(Call::Sync)), (5, 2));
    assert_eq!((wal.synced_bytes(), wal.last_seqno()), (wal.bytes(), 21));
}

#[test]
fn the_newest_log_cut_anywhere_gives_back_a_prefix() {
    let (env, fs, _, ends) = log_with_syncs([false; 3]);
    let content = fs.contents(&path());
    for len in 0..content.len() {
        fs.set_contents(&path(), &content[..len]);
        let (found, seen) = replayed(&env, ReplayExpect::Newest).expect("a torn tail is no error");
        assert_eq!(seen, ALL[..seen.len()], "cut at {len}");
        // Up to seven bytes of padding may be missing.
        let whole = ends.iter().filter(|&&end| end <= len as u64 + 7).count();
        assert!(seen.len() <= whole && seen.len() + 1 >= whole.max(1), "cut at {len}: {} of {whole}", seen.len());
        assert!(found.valid_bytes <= len as u64 && !found.clean);
        assert_eq!(found.first_seqno.is_some(), len >= 48);
        // What was found can be named closed, and is then found again.
        let sealed = ReplayExpect::Sealed { bytes: found.valid_bytes };
        assert_eq!(replayed(&env, sealed).expect("whole").1, seen);
    }
}

#[test]
fn a_log_that_was_created_and_never_synced_is_empty_whatever_became_of_its_header() {
    let (env, fs) = memory_env();
    WalWriter::create(&env, dir(), NUMBER, (STORE, VERSION), 1).expect("nothing fails here");
    let header = fs.contents(&path());
    for at in 0..header.len() {
        let mut damaged = header.clone();
        damaged[at] ^= 1;
        for content in [&damaged[..], &header[..at], &vec![0; 5000]] {
            fs.set_contents(&path(), content);
            let (found, seen) = replayed(&env, ReplayExpect::Newest).expect("nobody was promised anything");
            assert_eq!((found.valid_bytes, found.last_seqno, seen), (0, None, vec![]));
            assert_eq!(damage_offset(replayed(&env, ReplayExpect::Closed)), 0);
            assert!(replayed(&env, ReplayExpect::Sealed { bytes: 0 }).is_ok(), "closed with nothing in it");
            let sealed = ReplayExpect::Sealed { bytes: 48 };
            damage_offset(replayed(&env, sealed));
        }
    }
}

#[test]
fn a_header_before_synced_records_is_never_lost_silently() {
    let (env, fs, _, _) = log_with_syncs([true, false, false]);
    let content = fs.contents(&path());
    for at in 0..48 {
        let mut damaged = content.clone();
        damaged[at] ^= 1;
        fs.set_contents(&path(), &damaged);
        assert_eq!(damage_offset(replayed(&env, ReplayExpect::Newest)), 0, "flipped at {at}");
    }
}

#[test]
fn a_flip_anywhere_before_the_trailer_of_a_closed_log_is_corruption() {
    let (env, fs, wal, ends) = log_with_syncs([false; 3]);
    let closed = wal.close().expect("nothing fails here");
    let content = fs.contents(&path());
    let payload_ends = [48, ends[0], ends[1], ends[2]];
    for at in 0..ends[2] as usize {
        let mut damaged = content.clone();
        damaged[at] ^= 1;
        fs.set_contents(&path(), &damaged);
        let sealed = ReplayExpect::Sealed { bytes: closed.bytes };
        for expect in [ReplayExpect::Newest, ReplayExpect::Closed, sealed] {
            match replayed(&env, expect) {
                // Padding: no batch is hurt.
                Ok((_, seen)) => {
                    assert_eq!(seen, ALL, "flipped at {at}");
                    assert!(
                        payload_ends.iter().any(|&end| end - 7 <= at as u64 && (at as u64) < end),
                        "flipped at {at}"
                    );
                }
                result => assert!(damage_offset(result) <= at as u64),
            }
        }
    }
    for at in ends[2] as usize..content.len() {
        let mut damaged = content.clone();
        damaged[at] ^= 1;
        fs.set_contents(&path(), &damaged);
        assert_eq!(damage_offset(replayed(&env, ReplayExpect::Closed)), ends[2], "flipped at {at}");
        let sealed = ReplayExpect::Sealed { bytes: closed.bytes };
        assert_eq!(damage_offset(replayed(&env, sealed)), ends[2], "flipped at {at}");
    }
}

#[test]
fn a_sealed_log_must_have_every_byte_and_may_have_any_behind() {
    let (env, fs, _, ends) = log_with_syncs([true, true, false]);
    let sealed = ReplayExpect::Sealed { bytes: ends[1] };
    assert_eq!(replayed(&env, sealed).expect("whole").1, ALL[..2]);
    let content = fs.contents(&path());
    for len in 0..ends[1] {
        fs.set_contents(&path(), &content[..len as usize]);
        assert_eq!(damage_offset(replayed(&env, sealed)), len);
    }
    let mut torn = content.clone();
    torn[ends[1] as usize..].fill(0x77);
    fs.set_contents(&path(), &torn);
    assert_eq!(replayed(&env, sealed).expect("whole").1, ALL[..2]);
    fs.set_contents(&path(), &content);
    let off = ReplayExpect::Sealed { bytes: ends[1] - 16 };
    assert_eq!(damage_offset(replayed(&env, off)), ends[0], "no record ends there");
}

#[test]
fn a_mark_on_idle_tells_damage_in_all_that_was_synced() {
    let (env, fs, mut wal, ends) = log_with_syncs([false, false, true]);
    let mut damaged = fs.contents(&path());
    damaged[ends[1] as usize + 40] ^= 1;
    fs.set_contents(&path(), &damaged);
    assert_eq!(replayed(&env, ReplayExpect::Newest).expect("the limit").1, ALL[..2]);
    wal.mark().expect("nothing fails here");
    assert_eq!(fs.count(Call::Sync), 2, "the mark needs no sync beside that of the header and that of the group");
    assert_eq!(damage_offset(replayed(&env, ReplayExpect::Newest)), ends[1]);
}

#[test]
fn a_damaged_header_is_told_from_one_that_was_never_finished() {
    let (env, fs, _, _) = log_with_syncs([false; 3]);
    let content = fs.contents(&path());
    for byte in 0..FILE_HEADER_LEN {
        let mut damaged = content.clone();
        damaged[byte] ^= 1;
        fs.set_contents(&path(), &damaged);
        assert_eq!(damage_offset(replayed(&env, ReplayExpect::Newest)), 0, "byte {byte}");
        // With nothing behind it, it proves nothing.
        fs.set_contents(&path(), &damaged[..FILE_HEADER_LEN]);
        assert_eq!(replayed(&env, ReplayExpect::Newest).expect("unfinished").1, ALL[..0]);
    }
}

#[test]
fn a_log_of_another_store_or_number_is_not_replayed() {
    let (env, fs, wal, _) = log_with_syncs([true; 3]);
    wal.close().expect("nothing fails here");
    let other = FileKind::Wal(NUMBER + 1).path(dir());
    fs.set_contents(&other, &fs.contents(&path()));
    let mut nothing = |_: SeqNo, _: u32, _: Bytes| panic!("no batch of another log may be handed out");
    for (number, store) in [(NUMBER + 1, STORE), (NUMBER, Uuid([6; 16]))] {
        let found = replay(&env, dir(), number, store, ReplayExpect::Newest, &mut nothing).expect("nothing of ours");
        assert_eq!(found.valid_bytes, 0);
        let closed = replay(&env, dir(), number, store, ReplayExpect::Closed, &mut nothing);
        assert!(closed.expect_err("not this log").is_corruption());
    }
}

#[test]
fn a_missing_log_is_corruption_and_an_unreadable_one_an_io_error() {
    let (env, fs, _, _) = log_with_syncs([true; 3]);
    for call in [Call::Open, Call::Len, Call::Read] {
        fs.fail(call, 0);
        assert!(matches!(replayed(&env, ReplayExpect::Newest), Err(Error::Io(_))), "{call:?}");
    }
    env.remove_file(&path()).expect("nothing fails here");
    assert_eq!(damage_offset(replayed(&env, ReplayExpect::Newest)), 0);
}

#[test]
fn what_apply_says_ends_the_replay() {
    let (env, _, _, _) = log_with_syncs([true; 3]);
    let mut calls = 0;
    let result = replay(&env, dir(), NUMBER, STORE, ReplayExpect::Newest, &mut |_, _, _| {
        calls += 1;
        Err(Error::Closed)
    });
    assert!(matches!(result, Err(Error::Closed)));
    assert_eq!(calls, 1);
}

#[test]
fn a_record_with_a_matching_checksum_and_a_senseless_content_is_corruption() {
    let one = batch(1);
    let good = [&1u32.to_le_bytes()[..], one.payload()].concat();
    let wrong_count = [&2u32.to_le_bytes()[..], one.payload()].concat();
    let total = 999u64.to_le_bytes();
    let cases: [(u8, SeqNo, &[u8]); 8] = [
        (KIND_BATCH, 10, &good),
        (KIND_BATCH, 11, &wrong_count),
        (KIND_BATCH, 11, b"abc"),
        (KIND_BATCH, 11, &0u32.to_le_bytes()),
        (KIND_CLOSE, 10, &total),
        (KIND_CLOSE, 10, b""),
        (KIND_STAMP, 10, b"1234567"),
        (9, 11, b""),
    ];
    for (kind, seqno, payload) in cases {
        let (env, _) = memory_env();
        let mut wal = WalWriter::create(&env, dir(), NUMBER, (STORE, VERSION), 10).expect("nothing fails here");
        wal.records.push(KIND_BATCH, 10, &[&good]);
        wal.records.push(kind, seqno, &[payload]);
        wal.write().expect("nothing fails here");
        let result = replayed(&env, ReplayExpect::Newest);
        assert!(result.expect_err("no torn tail").is_corruption(), "kind {kind} at {seqno}");
    }
}

#[test]
fn a_log_for_an_archive_says_keyspaces_and_times_between_its_batches() {
    let (env, _) = memory_env();
    let mut wal = WalWriter::create(&env, dir(), NUMBER, (STORE, VERSION), 10).expect("nothing fails here");
    wal.begin_for_archive(b"an edit", 1000).expect("nothing fails here");
    wal.push_stamp(1001);
    wal.push(11, &batch(1));
    let closed = wal.close().expect("nothing fails here");
    let mut said = Vec::new();
    let path = FileKind::Wal(NUMBER).path(dir());
    let expect = ReplayExpect::Written { bytes: closed.bytes };
    let whole = replay_file(&env, &path, NUMBER, STORE, expect, &mut |logged| {
        said.push(logged);
        Ok(())
    });
    assert!(whole.expect("a whole log").for_archive);
    let entries = Bytes::copy_from_slice(batch(1).payload());
    let keyspaces = Logged::Keyspaces(Bytes::from_static(b"an edit"));
    let wanted = [keyspaces, Logged::Stamp(1000), Logged::Stamp(1001), Logged::Batch { seqno: 11, count: 1, entries }];
    assert_eq!(said, wanted);
    assert_eq!(replayed(&env, ReplayExpect::Closed).expect("whole").1, [(11, 1)]);
}

#[test]
fn a_failed_log_keeps_what_it_knew_synced_and_is_never_synced_again() {
    let (env, fs, mut wal, ends) = log_with_syncs([true, false, false]);
    fs.fail(Call::Sync, 0);
    wal.sync().expect_err("the fault");
    assert_eq!(wal.synced_bytes(), ends[0]);
    assert!(wal.failure().is_some());
    let sealed = ReplayExpect::Sealed { bytes: wal.synced_bytes() };
    assert_eq!(replayed(&env, sealed).expect("whole").1, ALL[..1]);
    let syncs = fs.count(Call::Sync);
    wal.push(30, &batch(1));
    wal.write().expect_err("poisoned");
    wal.close().expect_err("poisoned");
    assert_eq!(fs.count(Call::Sync), syncs);
}
