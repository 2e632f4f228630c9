//! Targets for what is made of records: batches, the write-ahead log, the manifest and the two small files that lead to
//! it.

use crate::memory::Memory;
use crate::seeds::{Seed, in_modes};
use crate::{Damage, Mode, assert_says_what_is_wrong, mode};
use arbitrary::{Arbitrary, Unstructured};
use bytes::Bytes;
use std::path::Path;
use std::sync::Arc;
use strata::batch::{self, BatchEntry, Expiry, WriteBatch};
use strata::blob::BlobUses;
use strata::event::Events;
use strata::filename::FileKind;
use strata::key::{EXPIRY_LEN, InternalKey, KEYSPACE_DEFAULT, Kind, SEQNO_MAX, SeqNo};
use strata::manifest::edit::{KeyspaceSet, LEVELS_MAX};
use strata::manifest::format::{Current, Identity};
use strata::manifest::log::{self, ManifestWriter};
use strata::manifest::{Catalog, TableMeta, VersionEdit, VersionSet};
use strata::options::{Compression, FORMAT_VERSION, KeyspaceOptions, Options};
use strata::record::format::{
    FILE_HEADER_LEN, FileHeader, RECORD_HEADER_LEN, RecordHeader, Uuid, record_len, record_tag,
};
use strata::wal::{self, ClosedWal, Logged, ReplayExpect, Replayed, WalWriter};

const STORE: Uuid = Uuid(*b"shaken, not lost");
const NUMBER: u64 = 7;

fn dir() -> &'static Path {
    Path::new("store")
}

/// The payload of a batch; the first byte is the count.
pub fn batch(data: &[u8]) {
    let Some((&count, payload)) = data.split_first() else { return };
    let count = u32::from(count);
    let entries: Option<Vec<BatchEntry>> = batch::decode(Bytes::copy_from_slice(payload), count).collect();
    assert_eq!(entries.is_some(), batch::is_valid(payload, count), "the two readers of a batch disagree");
    let Some(entries) = entries else { return };
    assert_eq!(entries.len(), count as usize);
    let mut again = WriteBatch::new();
    for entry in &entries {
        match entry.kind {
            Kind::Put => again.put_in(entry.keyspace, &entry.key, &entry.value),
            Kind::Delete => again.delete_in(entry.keyspace, &entry.key),
            Kind::RangeDelete => again.delete_range_in(entry.keyspace, &entry.key, &entry.value),
            Kind::PutExpiring => {
                let (expiry, value) =
                    entry.value.split_first_chunk::<EXPIRY_LEN>().expect("an expiry before the value");
                let expiry = Expiry::At(u64::from_be_bytes(*expiry));
                again.put_expiring_in(entry.keyspace, &entry.key, value, expiry);
            }
            Kind::Merge => again.merge_in(entry.keyspace, &entry.key, &entry.value),
            other => panic!("a batch held an entry of kind {other:?}"),
        }
    }
    again.check().expect("what was decoded is within the limits");
    let count = again.count();
    let decoded: Option<Vec<BatchEntry>> = batch::decode(again.into_bytes(), count).collect();
    assert_eq!(decoded.as_deref(), Some(&entries[..]), "the same entries, encoded again");
}

/// A write-ahead log.
pub fn wal(data: &[u8]) {
    match mode(data) {
        None => {}
        Some((Mode::Raw, file)) => wal_of_bytes(file.to_vec()),
        Some((Mode::Mended, file)) => {
            let mut file = file.to_vec();
            mend_records(&mut file, wal::MAGIC, wal::VERSION);
            wal_of_bytes(file);
        }
        Some((Mode::Damaged, story)) => {
            let mut story = Unstructured::new(story);
            // Too few bytes for a story: nothing to try.
            if let (Ok(log), Ok(damage)) = (LogStory::arbitrary(&mut story), Damage::arbitrary(&mut story)) {
                wal_with_damage(&log, &damage);
            }
        }
    }
}

fn replay(file: Vec<u8>, expect: ReplayExpect) -> (Vec<Logged>, strata::error::Result<Replayed>) {
    let path = FileKind::Wal(NUMBER).path(dir());
    let env = Memory::with_file(&path, file);
    let mut logged = Vec::new();
    let result = wal::replay_file(&env, &path, NUMBER, STORE, expect, &mut |piece| {
        logged.push(piece);
        Ok(())
    });
    if let Err(error) = &result {
        assert_says_what_is_wrong(error);
    }
    (logged, result)
}

fn wal_of_bytes(file: Vec<u8>) {
    let len = file.len() as u64;
    let (logged, newest) = replay(file.clone(), ReplayExpect::Newest);
    let mut next = 0;
    for piece in &logged {
        let Logged::Batch { seqno, count, entries } = piece else { continue };
        assert!(batch::is_valid(entries, *count), "the batch at {seqno} was handed out without a check");
        assert!(seqno + u64::from(*count) - 1 <= SEQNO_MAX, "the batch at {seqno} is beyond the last sequence number");
        assert!(*seqno >= next, "W1: sequence numbers grow");
        next = seqno + u64::from(*count);
    }
    // A stricter reading of the same bytes may refuse them; it may not read something else.
    for expect in [ReplayExpect::Closed, ReplayExpect::Sealed { bytes: len }] {
        let (strict, result) = replay(file.clone(), expect);
        assert!(logged.starts_with(&strict) || newest.is_err(), "{expect:?} read other batches");
        if let (Ok(strict), Ok(newest)) = (result, &newest) {
            assert_eq!((strict.valid_bytes, strict.last_seqno), (newest.valid_bytes, newest.last_seqno));
        }
    }
    let Ok(newest) = newest else { return };
    assert!(newest.valid_bytes <= len && newest.synced_bytes <= newest.valid_bytes, "{newest:?} of {len} bytes");
    // What it closed with, the manifest will ask for.
    let (sealed, result) = replay(file.clone(), ReplayExpect::Sealed { bytes: newest.valid_bytes });
    let found = result.expect("what counts of the newest log is whole");
    assert_eq!((sealed, found.last_seqno), (logged.clone(), newest.last_seqno));
    // And a backup takes all of it along.
    let env = Memory::with_file(&FileKind::Wal(NUMBER).path(dir()), file);
    let mut copied = Vec::new();
    let read = wal::read_through(&env, dir(), NUMBER, STORE, newest.valid_bytes, &mut |piece| {
        copied.extend_from_slice(piece);
        Ok(())
    });
    read.expect("what counts of the newest log is whole");
    assert_eq!(copied.len() as u64, newest.valid_bytes);
    assert_eq!(replay(copied, ReplayExpect::Newest).0, logged, "a copy of the log");

    let (env, memory) = Memory::world();
    let first = newest.first_seqno.unwrap_or(1);
    if first == 0 {
        return;
    }
    let mut writer = WalWriter::create(&env, dir(), NUMBER, (STORE, wal::VERSION), first).expect("a new log");
    // Keyspaces stand at the beginning of a log, if they stand anywhere in what we write.
    let logged: Vec<Logged> = logged.into_iter().filter(|piece| !matches!(piece, Logged::Keyspaces(_))).collect();
    for piece in &logged {
        match piece {
            Logged::Batch { seqno, count, entries } => writer.push_payload(*seqno, *count, entries),
            Logged::Stamp(wall_ms) => writer.push_stamp(*wall_ms),
            Logged::Keyspaces(_) => {}
        }
    }
    let closed = writer.close().expect("nothing fails in memory");
    let (again, result) = replay(memory.content(&FileKind::Wal(NUMBER).path(dir())), ReplayExpect::Closed);
    assert_eq!(again, logged, "the same batches, encoded again");
    assert_eq!(result.expect("a closed log").valid_bytes, closed.bytes);
}

/// What happens to a log before it is damaged.
#[derive(Arbitrary, Debug)]
struct LogStory {
    /// The keyspaces of a log for an archive, and when it is begun.
    archived: Option<(Vec<u8>, u64)>,
    steps: Vec<LogStep>,
    close: bool,
}

#[derive(Arbitrary, Debug)]
enum LogStep {
    Push(Vec<(u8, Option<Vec<u8>>)>),
    Stamp(u64),
    Skip(u8),
    Write,
    Sync,
    Mark,
}

/// A record as it was written: where it is, what counts of it, and what was known to be durable at the time.
struct Written {
    offset: usize,
    end: usize,
    synced: usize,
    logged: Option<Logged>,
}

fn wal_with_damage(story: &LogStory, damage: &Damage) {
    let (env, memory) = Memory::world();
    let mut writer = WalWriter::create(&env, dir(), NUMBER, (STORE, wal::VERSION), 1).expect("a new log");
    let mut written = vec![Written { offset: 0, end: FILE_HEADER_LEN, synced: 0, logged: None }];
    let mut seqno = 1;
    let mut note = |end: u64, payload: usize, synced: u64, logged: Option<Logged>| {
        let offset = end - record_len(payload as u64);
        let end = offset as usize + RECORD_HEADER_LEN + payload;
        written.push(Written { offset: offset as usize, end, synced: synced as usize, logged });
    };
    if let Some((keyspaces, wall_ms)) = &story.archived {
        let synced = writer.synced_bytes();
        writer.begin_for_archive(keyspaces, *wall_ms).expect("nothing fails in memory");
        let keyspaces = Bytes::copy_from_slice(keyspaces);
        note(writer.bytes() - record_len(8), keyspaces.len(), synced, Some(Logged::Keyspaces(keyspaces)));
        note(writer.bytes(), 8, synced, Some(Logged::Stamp(*wall_ms)));
    }
    for step in &story.steps {
        let synced = writer.synced_bytes();
        match step {
            LogStep::Push(entries) if !entries.is_empty() => {
                let mut batch = WriteBatch::new();
                for (key, value) in entries {
                    match value {
                        Some(value) => batch.put(&[*key], value),
                        None => batch.delete(&[*key]),
                    }
                }
                writer.push(seqno, &batch);
                let payload = batch.payload().len() + 4;
                let (count, entries) = (batch.count(), Bytes::copy_from_slice(batch.payload()));
                note(writer.bytes(), payload, synced, Some(Logged::Batch { seqno, count, entries }));
                seqno += u64::from(count);
            }
            LogStep::Push(_) => {}
            LogStep::Stamp(wall_ms) => {
                writer.push_stamp(*wall_ms);
                note(writer.bytes(), 8, synced, Some(Logged::Stamp(*wall_ms)));
            }
            LogStep::Skip(count) => seqno += u64::from(*count),
            LogStep::Write => writer.write().expect("nothing fails in memory"),
            LogStep::Sync => writer.sync().expect("nothing fails in memory"),
            LogStep::Mark => {
                writer.mark().expect("nothing fails in memory");
                note(writer.bytes(), 0, synced, None);
            }
        }
    }
    writer.write().expect("nothing fails in memory");
    let whole = writer.bytes() as usize;
    let closed = story.close.then(|| writer.close().expect("nothing fails in memory"));
    if let Some(closed) = closed {
        let end = closed.bytes as usize;
        written.push(Written { offset: whole, end, synced: whole, logged: None });
    }
    let path = FileKind::Wal(NUMBER).path(dir());
    let before = memory.content(&path);
    let mut after = before.clone();
    damage.apply(&mut after);

    let intact = |record: &Written| after.get(record.offset..record.end) == before.get(record.offset..record.end);
    let first_bad = written.iter().position(|record| !intact(record)).unwrap_or(written.len());
    let expected: Vec<Logged> = written[..first_bad].iter().filter_map(|record| record.logged.clone()).collect();
    let bad_offset = written.get(first_bad).map_or(usize::MAX, |record| record.offset);
    let was_synced = written.iter().skip(first_bad).any(|record| intact(record) && record.synced > bad_offset);

    let (logged, newest) = replay(after.clone(), ReplayExpect::Newest);
    assert_eq!(logged, expected, "every whole record before the damage, and nothing else");
    assert_eq!(newest.is_err(), was_synced, "R4: damage in what a later record says was synced, and no other");

    let sealed = ReplayExpect::Sealed { bytes: before.len() as u64 };
    let (_, result) = replay(after.clone(), sealed);
    let all_there = first_bad == written.len() && after.len() >= before.len();
    assert_eq!(result.is_ok(), all_there, "a sealed log is whole or damaged: {result:?}");
    if closed.is_some() {
        let (_, result) = replay(after, ReplayExpect::Closed);
        assert_eq!(result.is_ok(), first_bad == written.len(), "a closed log is whole or damaged: {result:?}");
    }
}

/// Makes the header of a file of records, and the checksum and tag of every record in it, right.
fn mend_records(file: &mut [u8], magic: [u8; 8], newest: u32) {
    let Some((header, _)) = file.split_first_chunk_mut::<FILE_HEADER_LEN>() else { return };
    let number_at = |at: usize, header: &[u8]| u64::from_le_bytes(*header[at..].first_chunk().expect("eight bytes"));
    let version = number_at(8, header) as u32;
    // Half of all versions are the one that exists, so that the fuzzing engine need not search for it.
    let version = if version.is_multiple_of(2) { newest } else { version };
    let first = number_at(40, header);
    *header = FileHeader { magic, version, store: STORE, number: NUMBER, first }.encode();

    let tag = record_tag(STORE, NUMBER);
    let mut offset = FILE_HEADER_LEN;
    while let Some((header, rest)) = file[offset..].split_first_chunk_mut::<RECORD_HEADER_LEN>() {
        header[8..16].copy_from_slice(&tag.to_le_bytes());
        let end = (offset + RECORD_HEADER_LEN + rest.len()) as u64;
        let Some(decoded) = RecordHeader::decode(header, tag, offset as u64, end) else { break };
        *header = decoded.encode(&[&rest[..decoded.len as usize]]);
        offset += record_len(u64::from(decoded.len)) as usize;
        if offset > file.len() {
            break;
        }
    }
}

/// A manifest. A raw input is an edit on its own, and IDENTITY and CURRENT.
pub fn manifest(data: &[u8]) {
    match mode(data) {
        None => {}
        Some((Mode::Raw, bytes)) => {
            edit_of_bytes(bytes);
            small_files_of_bytes(bytes);
        }
        Some((Mode::Mended, file)) => {
            let mut file = file.to_vec();
            mend_records(&mut file, log::MAGIC, log::VERSION);
            manifest_of_bytes(file);
        }
        Some((Mode::Damaged, story)) => {
            let mut story = Unstructured::new(story);
            // Too few bytes for a story: nothing to try.
            if let (Ok(edits), Ok(damage)) = (Vec::<EditStory>::arbitrary(&mut story), Damage::arbitrary(&mut story)) {
                manifest_with_damage(&edits, &damage);
            }
        }
    }
}

fn edit_of_bytes(bytes: &[u8]) {
    let Ok(edit) = VersionEdit::decode(bytes) else { return };
    let again = VersionEdit::decode(&edit.encode()).expect("what was decoded can be encoded");
    assert_eq!(again, edit, "the same edit, encoded again");
    if let Ok(catalog) = Catalog::empty(edit.levels.unwrap_or(LEVELS_MAX), &Arc::default()).apply(&edit) {
        catalog.check().expect("I1, I2, C1, C2, C3: an edit that was applied keeps them");
    }
}

fn small_files_of_bytes(bytes: &[u8]) {
    let env = Memory::with_file(&FileKind::Identity.path(dir()), bytes.to_vec());
    match log::read_identity(&env, dir()) {
        Ok(identity) => assert_eq!(identity.encode(), bytes, "the same identity, encoded again"),
        Err(error) => assert_says_what_is_wrong(&error),
    }
    let store = bytes.get(16..32).and_then(|store| store.first_chunk()).map_or(STORE, |store| Uuid(*store));
    let env = Memory::with_file(&FileKind::Current.path(dir()), bytes.to_vec());
    match log::read_current(&env, dir(), store) {
        Ok(current) => assert_eq!(Current::decode(&current.encode()).map(|(_, current)| current), Some(current)),
        Err(error) => assert_says_what_is_wrong(&error),
    }
}

/// A store of IDENTITY, CURRENT and this manifest, in which CURRENT describes the first record as it stands.
fn manifest_of_bytes(file: Vec<u8>) {
    let record = file.get(FILE_HEADER_LEN..).and_then(|rest| rest.first_chunk::<RECORD_HEADER_LEN>());
    let first = record.and_then(|header| {
        let offset = FILE_HEADER_LEN as u64;
        let header = RecordHeader::decode(header, record_tag(STORE, NUMBER), offset, file.len() as u64)?;
        let end = (offset + record_len(u64::from(header.len))).min(file.len() as u64);
        Some((end, header.checksum))
    });
    let (snapshot_bytes, snapshot_checksum) = first.unwrap_or((file.len() as u64, 0));
    let current = Current { store: STORE, manifest: NUMBER, snapshot_bytes, snapshot_checksum };
    let env = Memory::with_file(&FileKind::Manifest(NUMBER).path(dir()), file);
    log::write_identity(&env, dir(), &Identity { store: STORE, format_version: FORMAT_VERSION }).expect("memory");
    log::set_current(&env, dir(), &current).expect("nothing fails in memory");
    match log::read(&env, dir(), &current) {
        Err(error) => assert_says_what_is_wrong(&error),
        Ok(manifest) => {
            for (_, edit) in &manifest.edits {
                edit_of_bytes(&edit.encode());
            }
        }
    }
    let options = Options { levels: LEVELS_MAX, ..Options::default() };
    match VersionSet::recover(&env, dir(), &options, &Events::default()) {
        Err(error) => assert_says_what_is_wrong(&error),
        Ok(mut set) => {
            set.current().check().expect("I1, I2: a list that was recovered keeps them");
            // Whatever list it is, a store must be able to go on from it: with a file, a write and a flush.
            let number = set.new_file_number();
            let seqno = set.last_seqno() + 1;
            let only = InternalKey::new(b"next", seqno, Kind::Put).encode();
            let flushed = TableMeta {
                number,
                keyspace: KEYSPACE_DEFAULT,
                bytes: 1,
                entries: 1,
                deletes: 0,
                range_deletes: 0,
                expiring: None,
                blobs: BlobUses::default(),
                smallest: only.clone(),
                largest: only,
                seqno_min: seqno,
                seqno_max: seqno,
                checksum: 0,
                epoch: number,
            };
            let edit = VersionEdit { added: vec![(0, flushed)], ..VersionEdit::default() };
            set.commit(edit).expect("nothing fails in memory");
        }
    }
}

/// An edit of a kind that fits any list: it is the framing that is tried here.
#[derive(Arbitrary, Debug)]
struct EditStory {
    last_seqno: Option<u32>,
    wals_removed: Vec<u16>,
}

impl EditStory {
    fn edit(&self) -> VersionEdit {
        VersionEdit {
            last_seqno: self.last_seqno.map(SeqNo::from),
            wals_removed: self.wals_removed.iter().map(|&number| u64::from(number)).collect(),
            ..VersionEdit::default()
        }
    }
}

fn manifest_with_damage(stories: &[EditStory], damage: &Damage) {
    let (env, memory) = Memory::world();
    let Some((snapshot, rest)) = stories.split_first() else { return };
    let snapshot = snapshot.edit();
    let mut writer = ManifestWriter::create(&env, dir(), NUMBER, STORE, &snapshot).expect("a new manifest");
    let current = *writer.current();
    // Each record with its offset and end; each append was synced, which the next record says.
    let end = |offset: usize, edit: &VersionEdit| offset + RECORD_HEADER_LEN + edit.encode().len();
    let mut written = vec![(FILE_HEADER_LEN, end(FILE_HEADER_LEN, &snapshot), snapshot)];
    for story in rest {
        let (offset, edit) = (writer.bytes() as usize, story.edit());
        writer.append(&edit).expect("nothing fails in memory");
        written.push((offset, end(offset, &edit), edit));
    }
    let path = FileKind::Manifest(NUMBER).path(dir());
    let before = memory.content(&path);
    let mut after = before.clone();
    damage.apply(&mut after);

    let intact = |from: usize, to: usize| after.get(from..to) == before.get(from..to);
    let first_bad = written.iter().position(|(offset, end, _)| !intact(*offset, *end)).unwrap_or(written.len());
    let followed = written.iter().skip(first_bad + 1).any(|(offset, end, _)| intact(*offset, *end));
    // Without the padding behind the snapshot the file is shorter than CURRENT says.
    let led_to = intact(0, FILE_HEADER_LEN) && first_bad > 0 && after.len() as u64 >= current.snapshot_bytes;
    let env = Memory::with_file(&path, after);
    match log::read(&env, dir(), &current) {
        Err(error) => {
            assert_says_what_is_wrong(&error);
            assert!(!led_to || followed, "a torn last record is no damage: {error}");
        }
        Ok(manifest) => {
            assert!(led_to && !followed, "R4: damage before a whole record is no torn tail");
            let edits = manifest.edits.iter().map(|(offset, edit)| (*offset as usize, edit));
            let expected = written[..first_bad].iter().map(|(offset, _, edit)| (*offset, edit));
            assert!(edits.eq(expected), "every edit before the damage, and nothing else");
        }
    }
}

/// Seed inputs for the targets in this file.
pub(crate) fn seeds() -> Vec<Seed> {
    let (env, memory) = Memory::world();
    let mut one = WriteBatch::new();
    one.put(b"crane", b"up");
    one.delete(b"scaffold");
    let mut two = WriteBatch::new();
    two.put_in(3u32, b"", &[0xff; 200]);
    let mut three = WriteBatch::new();
    three.delete_range(b"crane", b"crate");
    three.put(b"crane", b"down");
    let mut writer = WalWriter::create(&env, dir(), NUMBER, (STORE, wal::VERSION), 1).expect("a new log");
    writer.push(1, &one);
    writer.sync().expect("nothing fails in memory");
    writer.mark().expect("nothing fails in memory");
    writer.push(3, &two);
    writer.close().expect("nothing fails in memory");
    let log = memory.content(&FileKind::Wal(NUMBER).path(dir()));
    let mut seeds = vec![Seed {
        target: "batch",
        name: "put-and-delete",
        bytes: [&[one.count() as u8], one.payload(), two.payload()].concat(),
    }];
    seeds.push(Seed { target: "batch", name: "two", bytes: [&[2], one.payload()].concat() });
    seeds.push(Seed { target: "batch", name: "range-delete", bytes: [&[2], three.payload()].concat() });
    seeds.extend(in_modes("wal", ["closed", "closed-mended", "damaged"], &log));

    let key = |user: &[u8], seqno| InternalKey::new(user, seqno, Kind::Put).encode();
    let table = TableMeta {
        number: 4,
        keyspace: KEYSPACE_DEFAULT,
        bytes: 4096,
        entries: 12,
        deletes: 1,
        range_deletes: 0,
        expiring: None,
        blobs: BlobUses::default(),
        smallest: key(b"beam", 9),
        largest: key(b"wall", 2),
        seqno_min: 1,
        seqno_max: 12,
        checksum: 0x1234_5678,
        epoch: 4,
    };
    let own = KeyspaceOptions {
        compression: Some(vec![Compression::Lz4, Compression::Deflate]),
        block_bytes: Some(512),
        ..KeyspaceOptions::default()
    };
    let snapshot = VersionEdit {
        next_file: Some(6),
        last_seqno: Some(12),
        levels: Some(7),
        next_keyspace: Some(4),
        keyspaces_set: vec![KeyspaceSet { id: 2, name: "beams".into(), options: own }],
        wals_added: vec![3, 5],
        wals_closed: vec![ClosedWal { number: 3, bytes: 888, last_seqno: 12 }],
        added: vec![(0, table.clone())],
        ..VersionEdit::default()
    };
    let change = VersionEdit {
        next_file: Some(9),
        keyspaces_dropped: vec![2],
        wals_removed: vec![3],
        removed: vec![(0, 4)],
        added: vec![(1, TableMeta { number: 7, ..table })],
        ..VersionEdit::default()
    };
    let mut writer = ManifestWriter::create(&env, dir(), NUMBER, STORE, &snapshot).expect("a new manifest");
    writer.append(&change).expect("nothing fails in memory");
    let file = memory.content(&FileKind::Manifest(NUMBER).path(dir()));
    let raw = |name, bytes: &[u8]| Seed { target: "manifest", name, bytes: [&[0], bytes].concat() };
    seeds.push(raw("edit", &snapshot.encode()));
    seeds.push(raw("change", &change.encode()));
    seeds.push(raw("current", &writer.current().encode()));
    seeds.push(raw("identity", &Identity { store: STORE, format_version: FORMAT_VERSION }.encode()));
    seeds.extend(in_modes("manifest", ["", "log-mended", "damaged"], &file).into_iter().skip(1));
    let for_an_archive = {
        let (env, memory) = Memory::world();
        let mut writer = WalWriter::create(&env, dir(), NUMBER, (STORE, wal::VERSION), 12).expect("a new log");
        writer.begin_for_archive(&snapshot.encode(), 1_700_000_000_000).expect("nothing fails in memory");
        writer.push(12, &one);
        writer.push_stamp(1_700_000_000_017);
        writer.close().expect("nothing fails in memory");
        memory.content(&FileKind::Wal(NUMBER).path(dir()))
    };
    seeds.push(Seed { target: "wal", name: "for-an-archive", bytes: [&[1], &for_an_archive[..]].concat() });
    // Right checksums, and numbers with which no store can go on.
    let last_batch = {
        let (env, memory) = Memory::world();
        let mut writer = WalWriter::create(&env, dir(), NUMBER, (STORE, wal::VERSION), SEQNO_MAX).expect("a new log");
        writer.push(SEQNO_MAX, &one);
        writer.write().expect("nothing fails in memory");
        memory.content(&FileKind::Wal(NUMBER).path(dir()))
    };
    seeds.push(Seed { target: "wal", name: "numbers-of-writes-used-up", bytes: [&[1], &last_batch[..]].concat() });
    let newest = TableMeta { epoch: 1 << 40, ..snapshot.added[0].1.clone() };
    for (name, odd) in [
        ("numbers-of-files-used-up", VersionEdit { next_file: Some(1 << 62), ..snapshot.clone() }),
        ("numbers-of-writes-used-up", VersionEdit { last_seqno: Some(SEQNO_MAX), ..snapshot.clone() }),
        ("epoch-of-a-file-to-come", VersionEdit { added: vec![(0, newest)], ..snapshot.clone() }),
    ] {
        drop(ManifestWriter::create(&env, dir(), NUMBER + 1, STORE, &odd).expect("a new manifest"));
        let file = memory.content(&FileKind::Manifest(NUMBER + 1).path(dir()));
        env.remove_file(&FileKind::Manifest(NUMBER + 1).path(dir())).expect("it was just written");
        seeds.push(Seed { target: "manifest", name, bytes: [&[1], &file[..]].concat() });
    }
    seeds
}
