//! Reading a stream, of which nothing is believed before its checksum has matched.

use super::format::{Counts, KIND_END, KIND_ENTRIES, KIND_LIST, MAGIC, StreamHead, VERSION, decompress};
use crate::batch::{self, BatchEntry, Decode};
use crate::error::{Error, Result};
use crate::key::{KeyspaceId, Kind};
use crate::record::format::{FILE_HEADER_LEN, FileHeader, RECORD_HEADER_LEN, RecordHeader, record_len, record_tag};
use bytes::Bytes;
use std::io::{self, Read};
use std::path::Path;

/// A stream that is being read.
pub struct StreamReader<'a> {
    from: &'a mut dyn Read,
    name: &'a Path,
    head: StreamHead,
    tag: u64,
    /// Bytes read.
    offset: u64,
    /// Records read.
    records: u64,
    /// Of the last record, and where that began.
    entries: Decode,
    entries_at: u64,
    last: Option<Last>,
    counts: Counts,
    has_ended: bool,
}

/// What an entry must come behind.
struct Last {
    keyspace: KeyspaceId,
    key: Bytes,
    /// Whether an operand may lie upon it.
    takes_operands: bool,
}

impl<'a> StreamReader<'a> {
    /// Reads the header and the list of keyspaces. [`Error::Corruption`] where they are not whole, and where this is no stream;
    /// [`Error::NewerFormat`]. Errors call it by `name`.
    pub fn begin(from: &'a mut dyn Read, name: &'a Path) -> Result<StreamReader<'a>> {
        let damaged = |offset, expected: &str| Error::corruption(name, offset, expected);
        let mut bytes = [0; FILE_HEADER_LEN];
        fill(from, name, &mut bytes, 0)?;
        let header = FileHeader::decode(&bytes).filter(|header| header.magic == MAGIC);
        let header = header.ok_or_else(|| damaged(0, "the header of an exported stream"))?;
        if header.version > VERSION {
            let (path, found) = (name.to_path_buf(), header.version);
            return Err(Error::NewerFormat { path, found, supported: VERSION });
        }
        let fields = (header.store, header.number, header.first);
        let mut reader = StreamReader {
            from,
            name,
            head: StreamHead {
                store: header.store,
                number: header.number,
                seqno: header.first,
                time_ms: 0,
                merge_operator: None,
                keyspaces: Vec::new(),
            },
            tag: record_tag(header.store, header.number),
            offset: FILE_HEADER_LEN as u64,
            records: 0,
            entries: batch::decode(Bytes::new(), 0),
            entries_at: 0,
            last: None,
            counts: Counts::default(),
            has_ended: false,
        };
        let at = reader.offset;
        match reader.record()? {
            (KIND_LIST, payload) => {
                reader.head = StreamHead::decode(fields, &payload).map_err(|expected| damaged(at, &expected))?;
                Ok(reader)
            }
            (kind, _) => Err(damaged(at, &format!("the list of keyspaces, found a record of kind {kind}"))),
        }
    }

    /// What it says of itself.
    pub fn head(&self) -> &StreamHead {
        &self.head
    }

    /// The next entry, in the order of keyspaces and keys (G1); `None` behind the last one of a stream that is whole. Its value is as
    /// in a batch: with its expiry before it where it expires. After an error nothing more can be read.
    #[expect(clippy::should_implement_trait, reason = "an iterator that fails goes on, and this one must not")]
    pub fn next(&mut self) -> Result<Option<BatchEntry>> {
        loop {
            match self.entries.next() {
                Some(Some(entry)) => {
                    self.admit(&entry).map_err(|expected| self.damaged(self.entries_at, &expected))?;
                    self.counts.entries += 1;
                    return Ok(Some(entry));
                }
                Some(None) => return Err(self.damaged(self.entries_at, "whole entries")),
                None if self.has_ended => return Ok(None),
                None => self.advance()?,
            }
        }
    }

    /// Bytes of entries so far, before compression; those of the record that is being read are counted.
    pub fn bytes(&self) -> u64 {
        self.counts.bytes
    }

    /// Entries so far.
    pub fn entries(&self) -> u64 {
        self.counts.entries
    }

    /// Bytes of the stream that were read.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    fn advance(&mut self) -> Result<()> {
        let at = self.offset;
        match self.record()? {
            (KIND_ENTRIES, payload) => {
                let (count, entries) = decompress(&payload).map_err(|expected| self.damaged(at, &expected))?;
                if count == 0 {
                    return Err(self.damaged(at, "at least one entry"));
                }
                self.counts.bytes += entries.len() as u64;
                (self.entries, self.entries_at) = (batch::decode(entries.into(), count), at);
                Ok(())
            }
            (KIND_END, payload) => {
                let expected = Counts::decode(&payload).ok_or_else(|| self.damaged(at, "counts at the end"))?;
                if expected != self.counts {
                    return Err(self.damaged(at, &format!("{expected:?} in all, found {:?}", self.counts)));
                }
                self.has_ended = true;
                Ok(())
            }
            (kind, _) => Err(self.damaged(at, &format!("entries or the end, found a record of kind {kind}"))),
        }
    }

    /// G1.
    fn admit(&mut self, entry: &BatchEntry) -> std::result::Result<(), String> {
        let is_operand = entry.kind == Kind::Merge;
        let Some(merges) = self.head.merges(entry.keyspace) else {
            return Err(format!("entries of keyspaces that are listed, found one of number {}", entry.keyspace));
        };
        if !matches!(entry.kind, Kind::Put | Kind::PutExpiring | Kind::Merge) || (is_operand && !merges) {
            return Err(format!("values and operands that can be, found an entry of kind {:?}", entry.kind));
        }
        let place = (entry.keyspace, &entry.key[..]);
        let last = self.last.as_ref().map(|last| (last.keyspace, &last.key[..]));
        let takes_operands = self.last.as_ref().is_some_and(|last| last.takes_operands);
        let follows = if is_operand { takes_operands && last == Some(place) } else { last < Some(place) };
        if !follows {
            let key = entry.key.escape_ascii();
            return Err(format!("keys in their order, each once, found {key} where it cannot be"));
        }
        let (keyspace, key) = (entry.keyspace, entry.key.clone());
        self.last = Some(Last { keyspace, key, takes_operands: entry.kind != Kind::Put });
        Ok(())
    }

    /// The next record: its kind and payload.
    fn record(&mut self) -> Result<(u8, Vec<u8>)> {
        let at = self.offset;
        let mut bytes = [0; RECORD_HEADER_LEN];
        fill(self.from, self.name, &mut bytes, at)?;
        let header = RecordHeader::decode(&bytes, self.tag, at, u64::MAX).filter(|header| header.seq == self.records);
        let Some(header) = header else {
            return Err(self.damaged(at, &format!("record {} of this stream", self.records)));
        };
        let mut payload = Vec::new();
        let read = (&mut *self.from).take(u64::from(header.len)).read_to_end(&mut payload);
        read.map_err(|source| Error::io("read", self.name, Some(at), source))?;
        if payload.len() < header.len as usize {
            return Err(cut_short(self.name, at + (RECORD_HEADER_LEN + payload.len()) as u64));
        }
        if header.encode(&[&payload])[..4] != bytes[..4] {
            return Err(self.damaged(at, "a record whose checksum matches"));
        }
        let mut padding = [0; 8];
        let padding = &mut padding[..record_len(u64::from(header.len)) as usize - RECORD_HEADER_LEN - payload.len()];
        fill(self.from, self.name, padding, at)?;
        if padding.iter().any(|&byte| byte != 0) {
            return Err(self.damaged(at, "zeros behind a record"));
        }
        self.offset += record_len(u64::from(header.len));
        self.records += 1;
        Ok((header.kind, payload))
    }

    /// The error where there is not what was expected.
    pub(super) fn damaged(&self, offset: u64, expected: &str) -> Error {
        Error::corruption(self.name, offset, expected)
    }
}

/// Reads so many bytes.
fn fill(from: &mut dyn Read, name: &Path, bytes: &mut [u8], offset: u64) -> Result<()> {
    from.read_exact(bytes).map_err(|source| match source.kind() {
        io::ErrorKind::UnexpectedEof => cut_short(name, offset),
        _ => Error::io("read", name, Some(offset), source),
    })
}

fn cut_short(name: &Path, offset: u64) -> Error {
    Error::corruption(name, offset, "more of the stream, which was cut short")
}
