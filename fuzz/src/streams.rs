//! An exported stream.

use crate::seeds::{Seed, in_modes};
use crate::{Damage, Mode, assert_says_what_is_wrong, mode};
use arbitrary::{Arbitrary, Unstructured};
use std::path::Path;
use strata::backup::stream::format::{MAGIC, VERSION};
use strata::backup::stream::{StreamHead, StreamReader, StreamWriter};
use strata::batch::BatchEntry;
use strata::error::Error;
use strata::key::{EXPIRY_LEN, Kind, expiry_of};
use strata::options::KeyspaceOptions;
use strata::record::format::{
    FILE_HEADER_LEN, FileHeader, RECORD_HEADER_LEN, RecordHeader, Uuid, record_len, record_tag,
};

/// What is written and damaged then.
#[derive(Arbitrary, Debug)]
struct Story {
    merges: bool,
    keyspaces: u8,
    entries: Vec<Entry>,
    damage: Damage,
}

#[derive(Arbitrary, Debug)]
struct Entry {
    keyspace: u8,
    key: Vec<u8>,
    value: Vec<u8>,
    times: u8,
    expires_at: Option<u64>,
    operand: Option<Vec<u8>>,
}

/// A whole stream: read, and written again; or written, damaged and read.
pub fn stream(data: &[u8]) {
    let Some((mode, rest)) = mode(data) else { return };
    match mode {
        Mode::Raw => read_and_write_again(rest),
        Mode::Mended => {
            let mut bytes = rest.to_vec();
            mend(&mut bytes);
            read_and_write_again(&bytes);
        }
        Mode::Damaged => {
            let Ok(story) = Story::arbitrary(&mut Unstructured::new(rest)) else { return };
            damage_and_read(&story);
        }
    }
}

/// What was read, and how it ended.
fn read(mut bytes: &[u8]) -> (Option<StreamHead>, Vec<BatchEntry>, Result<(), Error>) {
    let mut reader = match StreamReader::begin(&mut bytes, Path::new("stream")) {
        Err(error) => return (None, Vec::new(), Err(error)),
        Ok(reader) => reader,
    };
    let (head, mut entries) = (reader.head().clone(), Vec::new());
    let result = loop {
        match reader.next() {
            Ok(Some(entry)) => entries.push(entry),
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    (Some(head), entries, result)
}

fn write(head: &StreamHead, entries: &[BatchEntry]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = StreamWriter::begin(&mut bytes, Path::new("stream"), head).expect("a vector takes everything");
    for BatchEntry { keyspace, kind, key, value } in entries {
        let (expires_at, own) = match kind {
            Kind::PutExpiring => (expiry_of(value), &value[EXPIRY_LEN..]),
            _ => (None, &value[..]),
        };
        let written = match kind {
            Kind::Merge => writer.merge(*keyspace, key, own),
            _ => writer.put(*keyspace, key, own, expires_at),
        };
        written.expect("a vector takes everything");
    }
    writer.finish().expect("a vector takes everything");
    bytes
}

fn read_and_write_again(bytes: &[u8]) {
    let (head, entries, result) = read(bytes);
    match (head, result) {
        (_, Err(error)) => assert_says_what_is_wrong(&error),
        (Some(head), Ok(())) => {
            let again = read(&write(&head, &entries));
            assert_eq!((again.0.as_ref(), &again.1), (Some(&head), &entries), "the same stream, written again");
            again.2.expect("what was written is whole");
        }
        (None, Ok(())) => unreachable!("no stream is whole without its head"),
    }
}

/// Makes all checksums right, and the magic, the tags and the numbers of the records.
fn mend(bytes: &mut [u8]) {
    if bytes.len() < FILE_HEADER_LEN {
        return;
    }
    let mut store = Uuid([0; 16]);
    store.0.copy_from_slice(&bytes[16..32]);
    let number = |at: usize, bytes: &[u8]| u64::from_le_bytes(*bytes[at..].first_chunk().expect("eight bytes"));
    let (own, first) = (number(32, bytes), number(40, bytes));
    let header = FileHeader { magic: MAGIC, version: VERSION, store, number: own, first };
    bytes[..FILE_HEADER_LEN].copy_from_slice(&header.encode());
    let (tag, mut at, mut seq) = (record_tag(store, own), FILE_HEADER_LEN, 0);
    while let Some(rest) = bytes.get_mut(at..).filter(|rest| rest.len() >= RECORD_HEADER_LEN) {
        let len = u32::from_le_bytes(*rest[4..].first_chunk().expect("four bytes"));
        let (head, payload) = rest.split_at_mut(RECORD_HEADER_LEN);
        let Some(payload) = payload.get(..len as usize) else { return };
        let header = RecordHeader { checksum: 0, len, tag, kind: head[16].max(1), seq, synced_offset: 0 };
        head.copy_from_slice(&header.encode(&[payload]));
        at += record_len(u64::from(len)) as usize;
        seq += 1;
    }
}

fn damage_and_read(story: &Story) {
    let operator = || story.merges.then(|| "strata.append".to_string());
    let own = |index: u8| KeyspaceOptions {
        merge_operator: operator().filter(|_| index.is_multiple_of(2)),
        default_ttl_ms: Some(u64::from(index)),
        ..KeyspaceOptions::default()
    };
    let head = StreamHead {
        store: Uuid([7; 16]),
        number: 3,
        seqno: 99,
        time_ms: 5,
        merge_operator: operator(),
        keyspaces: (0..story.keyspaces % 4).map(|index| (format!("k{index}"), own(index))).collect(),
    };
    let mut sorted: Vec<&Entry> = story.entries.iter().collect();
    let place = |entry: &Entry| entry.keyspace % (story.keyspaces % 4 + 1);
    sorted.sort_by(|a, b| (place(a), &a.key).cmp(&(place(b), &b.key)));
    sorted.dedup_by(|a, b| (place(a), &a.key) == (place(b), &b.key));
    let mut entries = Vec::new();
    for entry in sorted {
        let keyspace = u32::from(place(entry));
        let value = entry.value.repeat(usize::from(entry.times));
        let (kind, value) = match entry.expires_at {
            None => (Kind::Put, value),
            Some(expires_ms) => (Kind::PutExpiring, [&expires_ms.to_be_bytes()[..], &value].concat()),
        };
        let key = bytes::Bytes::from(entry.key.clone());
        entries.push(BatchEntry { keyspace, kind, key: key.clone(), value: value.into() });
        let merges = story.merges && (keyspace == 0 || keyspace % 2 == 1);
        if let Some(operand) = entry.operand.clone().filter(|_| merges && kind == Kind::PutExpiring) {
            entries.push(BatchEntry { keyspace, kind: Kind::Merge, key, value: operand.into() });
        }
    }
    let whole = write(&head, &entries);
    let mut damaged = whole.clone();
    story.damage.apply(&mut damaged);
    let (found, read, result) = read(&damaged);
    if let Err(error) = &result {
        assert_says_what_is_wrong(error);
        assert!(damaged != whole, "what was not damaged is read: {error}");
    }
    assert!(found.is_none_or(|found| found == head), "a head that was never written");
    assert!(entries.starts_with(&read), "entries that were never written");
    assert!(result.is_err() || read.len() == entries.len(), "a part of a stream passes for the whole");
}

/// Inputs to begin with.
pub(crate) fn seeds() -> Vec<Seed> {
    let own = KeyspaceOptions { merge_operator: Some("strata.add".into()), ..KeyspaceOptions::default() };
    let head = StreamHead {
        store: Uuid([7; 16]),
        number: 3,
        seqno: 99,
        time_ms: 1_234_567,
        merge_operator: Some("strata.append".into()),
        keyspaces: vec![("people".into(), own), ("pets".into(), KeyspaceOptions::default())],
    };
    let entry = |keyspace: u32, kind: Kind, key: &'static str, value: &'static str| BatchEntry {
        keyspace,
        kind,
        key: key.into(),
        value: value.into(),
    };
    let entries = [
        entry(0, Kind::Put, "", "the empty key"),
        entry(0, Kind::PutExpiring, "session", "\0\0\0\0\0\x01\0\0token"),
        entry(0, Kind::Merge, "session", "+"),
        entry(1, Kind::Put, "ada", "1815"),
        entry(1, Kind::Put, "grace", "1906190619061906190619061906"),
    ];
    in_modes("stream", ["raw", "mended", "damaged"], &write(&head, &entries))
}
