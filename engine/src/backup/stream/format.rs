//! The bytes of an exported stream.
//!
//! ```text
//! stream   | file header, 48 bytes | list | entries | entries | ... | end |        records, one behind the other
//!
//! file header   magic "STRATAEX", store: whose export it is, number: a random one, first: the newest write that it shows
//! kind 1  list      payload: an edit, as in a manifest, with
//!                            time, merge operator, next keyspace, and what is set of each keyspace, numbered 1, 2, 3, ...
//! kind 2  entries   payload: count varint | length before compression varint | deflate of: entry | entry | ...
//!                            as in the payload of a batch, of kinds 1, 3 and 4
//! kind 3  end       payload: entries varint | bytes of all entries before compression varint
//! ```
//!
//! Framing, checksums and padding are those of every [file of records](crate::record::format): `seq` counts the records from 0, and
//! the synced offset is 0. The number in the header is another one for each stream and goes into the tag of every record, so
//! that parts of two streams never pass for one.
//!
//! G1. Keyspaces come in the order of their numbers, keys in their order, each once. Upon a value that expires there may lie
//!     operands, oldest first: entries of kind 4 of the same key, right behind it. No other entry is of kind 4.
//! G2. A stream is whole only with its end, and what that counts. Nothing behind it is read.
//! G3. No length is believed: of a record no more is kept than bytes that came, and what is compressed comes to at most
//!     1040 times its length, as deflate cannot do more.

use crate::coding::{Decoder, put_varint};
use crate::key::{KEYSPACE_DEFAULT, KeyspaceId, SeqNo};
use crate::manifest::edit::{KeyspaceSet, VersionEdit};
use crate::options::KeyspaceOptions;
use crate::record::Uuid;

/// How a stream begins.
pub const MAGIC: [u8; 8] = *b"STRATAEX";

/// The version of the format of a stream.
pub const VERSION: u32 = 1;

/// The kind of the record with the keyspaces.
pub const KIND_LIST: u8 = 1;
/// The kind of a record with entries.
pub const KIND_ENTRIES: u8 = 2;
/// The kind of the last record.
pub const KIND_END: u8 = 3;

/// Bytes of entries after which a record is written. Enough that deflate, which looks back 32 KiB, loses little at its edges.
pub(super) const RECORD_BYTES: usize = 256 * 1024;

/// What a stream is called in errors.
pub(super) const NAME: &str = "the stream";

/// No more bytes come out of one compressed byte: 258 with two bits.
const EXPANSION_MAX: u64 = 1040;

/// What a stream says of itself before its entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamHead {
    /// Of which store.
    pub store: Uuid,
    /// A number of its own.
    pub number: u64,
    /// The newest write that it shows.
    pub seqno: SeqNo,
    /// The store's time for which it shows what has not expired, in milliseconds since the Unix epoch.
    pub time_ms: u64,
    /// The name of the merge operator of the default keyspace.
    pub merge_operator: Option<String>,
    /// The keyspaces beside the default one, with what each has otherwise than the store. In the stream the first has number 1.
    pub keyspaces: Vec<(String, KeyspaceOptions)>,
}

impl StreamHead {
    /// The payload of the list.
    pub(super) fn encode(&self) -> Vec<u8> {
        self.as_edit().encode()
    }

    /// The list as an edit of a manifest.
    pub(super) fn as_edit(&self) -> VersionEdit {
        let set = |(index, (name, options)): (usize, &(String, KeyspaceOptions))| KeyspaceSet {
            id: KEYSPACE_DEFAULT + 1 + index as KeyspaceId,
            name: name.clone(),
            options: options.clone(),
        };
        VersionEdit {
            merge_operator: self.merge_operator.clone(),
            time_ms: Some(self.time_ms),
            next_keyspace: (!self.keyspaces.is_empty()).then(|| self.keyspaces.len() as KeyspaceId + 1),
            keyspaces_set: self.keyspaces.iter().enumerate().map(set).collect(),
            ..VersionEdit::default()
        }
    }

    /// From the payload of the list, and what the header says; an error says what was expected.
    pub(super) fn decode((store, number, seqno): (Uuid, u64, SeqNo), payload: &[u8]) -> Result<StreamHead, String> {
        let edit = VersionEdit::decode(payload)?;
        let keyspaces = edit.keyspaces_set.iter().map(|set| (set.name.clone(), set.options.clone())).collect();
        let time_ms = edit.time_ms.ok_or("a list with a time")?;
        let merge_operator = edit.merge_operator.clone();
        let head = StreamHead { store, number, seqno, time_ms, merge_operator, keyspaces };
        // So there are no tables and no logs in it, and the numbers are as they should be.
        if head.as_edit() != edit {
            return Err("keyspaces with numbers from 1 on, and nothing else of a manifest".into());
        }
        Ok(head)
    }

    /// Whether entries of kind 4 mean something in a keyspace. `None` where there is no such keyspace.
    pub(super) fn merges(&self, keyspace: KeyspaceId) -> Option<bool> {
        match keyspace.checked_sub(KEYSPACE_DEFAULT + 1) {
            None => Some(self.merge_operator.is_some()),
            Some(index) => self.keyspaces.get(index as usize).map(|(_, own)| own.merge_operator.is_some()),
        }
    }
}

/// What the end of a stream counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Entries.
    pub(super) entries: u64,
    /// Their bytes, before compression.
    pub(super) bytes: u64,
}

impl Counts {
    /// The payload of the end.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_varint(&mut out, self.entries);
        put_varint(&mut out, self.bytes);
        out
    }

    /// From the payload.
    pub(super) fn decode(payload: &[u8]) -> Option<Counts> {
        let mut decoder = Decoder::new(payload);
        let counts = Counts { entries: decoder.varint()?, bytes: decoder.varint()? };
        decoder.is_empty().then_some(counts)
    }
}

/// The payload of a record with entries.
pub(super) fn compress(count: u32, entries: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_varint(&mut out, u64::from(count));
    put_varint(&mut out, entries.len() as u64);
    let mut state = flate2::Compress::new(flate2::Compression::default(), false);
    // What cannot be compressed becomes a little longer.
    out.reserve(entries.len() / 2 + 64);
    loop {
        let (taken, room) = (state.total_in() as usize, out.capacity());
        let status = state.compress_vec(&entries[taken..], &mut out, flate2::FlushCompress::Finish);
        match status.expect("deflate refuses no bytes") {
            flate2::Status::StreamEnd => return out,
            _ => out.reserve(room),
        }
    }
}

/// The entries of a record, and how many they are; an error says what was expected.
pub(super) fn decompress(payload: &[u8]) -> Result<(u32, Vec<u8>), String> {
    let mut decoder = Decoder::new(payload);
    let head = decoder.varint_u32().and_then(|count| Some((count, decoder.varint()?)));
    let (count, len) = head.ok_or("a count and a length before the entries")?;
    let compressed = decoder.rest();
    let len_max = compressed.len() as u64 * EXPANSION_MAX;
    if len > len_max {
        return Err(format!("at most {len_max} bytes in {} compressed ones, found {len}", compressed.len()));
    }
    let mut entries = vec![0; len as usize];
    let mut state = flate2::Decompress::new(false);
    let status = state.decompress(compressed, &mut entries, flate2::FlushDecompress::Finish);
    let whole = matches!(status, Ok(flate2::Status::StreamEnd)) && state.total_in() == compressed.len() as u64;
    if !whole || state.total_out() != len {
        return Err(format!("{len} bytes of deflated entries, found what does not come to that"));
    }
    Ok((count, entries))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Compression;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn entries_come_back_however_well_they_are_compressed(count: u32, bytes: Vec<u8>, times in 0..40usize) {
            let entries = bytes.repeat(times * times);
            prop_assert_eq!(decompress(&compress(count, &entries)), Ok((count, entries)));
        }

        #[test]
        fn any_bytes_are_decoded_without_panic(bytes: Vec<u8>) {
            let _ = (decompress(&bytes), Counts::decode(&bytes), StreamHead::decode((Uuid([1; 16]), 2, 3), &bytes));
        }
    }

    #[test]
    fn a_list_reads_back_and_one_that_says_more_is_refused() {
        let own = KeyspaceOptions { compression: Some(vec![Compression::Deflate]), ..KeyspaceOptions::default() };
        let head = StreamHead {
            store: Uuid([7; 16]),
            number: 5,
            seqno: 99,
            time_ms: 1_234,
            merge_operator: Some("strata.add".into()),
            keyspaces: vec![("people".into(), own), ("pets".into(), KeyspaceOptions::default())],
        };
        let fields = (head.store, head.number, head.seqno);
        assert_eq!(StreamHead::decode(fields, &head.encode()).as_ref(), Ok(&head));
        assert_eq!([0, 1, 2, 3].map(|id| head.merges(id)), [Some(true), Some(false), Some(false), None]);
        let mut edits = [head.as_edit(), head.as_edit(), head.as_edit(), head.as_edit()];
        edits[0].time_ms = None;
        edits[1].keyspaces_set[1].id = 7;
        edits[2].wals_added = vec![3];
        edits[3].next_keyspace = Some(9);
        for edit in edits {
            StreamHead::decode(fields, &edit.encode()).expect_err("a list that cannot be");
        }
    }

    #[test]
    fn a_length_is_compared_with_what_is_there() {
        let mut payload = Vec::new();
        put_varint(&mut payload, 1);
        put_varint(&mut payload, 1 << 40);
        payload.push(3);
        let refused = decompress(&payload).expect_err("a terabyte in a byte");
        assert!(refused.contains("at most 1040"), "{refused}");
    }
}
