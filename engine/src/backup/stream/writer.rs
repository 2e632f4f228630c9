//! Writing a stream: entries are gathered to records, which are compressed each by itself.

use super::format::{Counts, KIND_END, KIND_ENTRIES, KIND_LIST, MAGIC, RECORD_BYTES, StreamHead, VERSION, compress};
use crate::batch::{Expiry, WriteBatch};
use crate::error::{Error, Result};
use crate::key::KeyspaceId;
use crate::record::format::{FILE_HEADER_LEN, FileHeader, RECORD_HEADER_LEN, RecordHeader, record_len, record_tag};
use std::io::Write;
use std::path::Path;

/// A stream that is being written.
pub struct StreamWriter<'a> {
    to: &'a mut dyn Write,
    name: &'a Path,
    tag: u64,
    /// Bytes written.
    offset: u64,
    /// Records written.
    records: u64,
    entries: WriteBatch,
    counts: Counts,
}

impl<'a> StreamWriter<'a> {
    /// Begins one: writes the header and the list of keyspaces. Errors call it by `name`.
    pub fn begin(to: &'a mut dyn Write, name: &'a Path, head: &StreamHead) -> Result<StreamWriter<'a>> {
        let StreamHead { store, number, seqno, .. } = *head;
        let tag = record_tag(store, number);
        let entries = WriteBatch::new();
        let mut writer = StreamWriter { to, name, tag, offset: 0, records: 0, entries, counts: Counts::default() };
        let header = FileHeader { magic: MAGIC, version: VERSION, store, number, first: seqno };
        writer.write(&header.encode())?;
        assert_eq!(writer.offset, FILE_HEADER_LEN as u64, "records begin behind the header");
        writer.record(KIND_LIST, &head.encode())?;
        Ok(writer)
    }

    /// Adds a key with its value, and with the time at which it expires if it does. Keyspaces come by number and keys in order (G1);
    /// a reader refuses anything else.
    pub fn put(&mut self, keyspace: KeyspaceId, key: &[u8], value: &[u8], expires_at: Option<u64>) -> Result<()> {
        match expires_at {
            None => self.entries.put_in(keyspace, key, value),
            Some(expires_ms) => self.entries.put_expiring_in(keyspace, key, value, Expiry::At(expires_ms)),
        }
        self.write_if_full()
    }

    /// Adds an operand that lies upon the value that was added last, which expires, or upon the operand that was.
    pub fn merge(&mut self, keyspace: KeyspaceId, key: &[u8], operand: &[u8]) -> Result<()> {
        self.entries.merge_in(keyspace, key, operand);
        self.write_if_full()
    }

    /// Ends the stream, and flushes the writer. Returns the length of the stream.
    pub fn finish(mut self) -> Result<u64> {
        self.write_entries()?;
        let end = self.counts.encode();
        self.record(KIND_END, &end)?;
        self.to.flush().map_err(|source| Error::io("write", self.name, Some(self.offset), source))?;
        Ok(self.offset)
    }

    /// Bytes of entries so far, before compression.
    pub fn bytes(&self) -> u64 {
        self.counts.bytes + self.entries.bytes() as u64
    }

    /// Entries so far.
    pub fn entries(&self) -> u64 {
        self.counts.entries + u64::from(self.entries.count())
    }

    fn write_if_full(&mut self) -> Result<()> {
        if self.entries.bytes() < RECORD_BYTES { Ok(()) } else { self.write_entries() }
    }

    fn write_entries(&mut self) -> Result<()> {
        self.entries.check()?;
        if self.entries.is_empty() {
            return Ok(());
        }
        self.counts = Counts { entries: self.entries(), bytes: self.bytes() };
        let payload = compress(self.entries.count(), self.entries.payload());
        self.entries.clear();
        self.record(KIND_ENTRIES, &payload)
    }

    fn record(&mut self, kind: u8, payload: &[u8]) -> Result<()> {
        let len =
            u32::try_from(payload.len()).expect("a batch is far shorter than 4 GiB, and little longer when deflated");
        let header = RecordHeader { checksum: 0, len, tag: self.tag, kind, seq: self.records, synced_offset: 0 };
        self.records += 1;
        let padding = record_len(u64::from(len)) as usize - RECORD_HEADER_LEN - payload.len();
        self.write(&header.encode(&[payload]))?;
        self.write(payload)?;
        self.write(&[0; 8][..padding])
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.to.write_all(bytes).map_err(|source| Error::io("write", self.name, Some(self.offset), source))?;
        self.offset += bytes.len() as u64;
        Ok(())
    }
}
