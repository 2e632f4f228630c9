//! Appends records to one file.
//!
//! Records are gathered with [`RecordWriter::push`] and go out as one write, so that a group of commits costs one call.
//!
//! R1. After a failed write or sync the writer is poisoned: it is unknown what the file holds, and an operating system
//! may report the loss of its pages only once. Every later call returns the first error, and the file is never written
//! or synced again. Whoever holds the writer goes on in a new file.
//!
//! R2. The synced offset in a record is the end of what an earlier sync of this file, which returned `Ok`, made
//! durable. The reader takes it as proof that damage before that offset is no torn tail.
//!
//! It does not create the file, and does not make its name durable. Its calls carry the site of whoever asks, because a log
//! and a manifest write and sync for many reasons, and the reason is what one wants to know.

use super::format::{RECORD_ALIGN, RecordHeader, record_len};
use crate::env::File;
use crate::error::{Error, Result};

/// A buffer that grew beyond this for one huge group is given back after it.
const BUFFER_KEPT_MAX: usize = 4 * 1024 * 1024;

/// The end of a file to which records are appended.
#[derive(Debug)]
pub struct RecordWriter {
    file: File,
    tag: u64,
    /// Records that were pushed and not written.
    pending: Vec<u8>,
    /// Where `pending` goes: the end of what was written.
    written: u64,
    synced: u64,
    poison: Option<Error>,
}

impl RecordWriter {
    /// Appends to `file` from `offset` on, a multiple of 8. What stands before it was synced, and the first record says so:
    /// else damage to the header could be taken for a torn beginning. `tag` ties the records to the file, see
    /// [`super::format::record_tag`].
    pub fn new(file: File, tag: u64, offset: u64) -> RecordWriter {
        assert!(offset.is_multiple_of(RECORD_ALIGN as u64), "records would start at {offset}, which is not aligned");
        RecordWriter { file, tag, pending: Vec::new(), written: offset, synced: offset, poison: None }
    }

    /// Starts a new and empty `file` with this header, which goes out with the first group.
    pub fn with_header(file: File, tag: u64, header: &[u8]) -> RecordWriter {
        let mut writer = RecordWriter::new(file, tag, 0);
        writer.pending.extend_from_slice(header);
        assert!(header.len().is_multiple_of(RECORD_ALIGN), "a header of {} bytes is not aligned", header.len());
        writer
    }

    /// Adds a record to the group, and returns its checksum. The payload is given in parts that are joined. `kind` is
    /// not 0.
    pub fn push(&mut self, kind: u8, seq: u64, payload: &[&[u8]]) -> u32 {
        let payload_len: usize = payload.iter().map(|part| part.len()).sum();
        let len = u32::try_from(payload_len).expect("whoever makes records keeps them below 4 GiB");
        let header =
            RecordHeader { checksum: 0, len, tag: self.tag, kind, seq, synced_offset: self.synced }.encode(payload);
        let start = self.pending.len();
        let total = record_len(payload_len as u64) as usize;
        self.pending.reserve(total);
        self.pending.extend_from_slice(&header);
        payload.iter().for_each(|part| self.pending.extend_from_slice(part));
        self.pending.resize(start + total, 0);
        u32::from_le_bytes(*header.first_chunk().expect("a header is longer than its checksum"))
    }

    /// Writes all that was pushed, in one call. Nothing pushed: nothing done. After an error see R1.
    #[track_caller]
    pub fn write(&mut self) -> Result<()> {
        self.check()?;
        if self.pending.is_empty() {
            return Ok(());
        }
        match self.file.write_all_at(&self.pending, self.written) {
            Ok(()) => {
                self.written += self.pending.len() as u64;
                self.pending.clear();
                self.pending.shrink_to(BUFFER_KEPT_MAX);
                Ok(())
            }
            Err(error) => Err(self.poisoned_by(error)),
        }
    }

    /// Writes what was pushed, and makes all that was written durable. Costs no sync where nothing is unsynced. After
    /// an error see R1.
    #[track_caller]
    pub fn sync(&mut self) -> Result<()> {
        self.write()?;
        if self.synced == self.written {
            return Ok(());
        }
        match self.file.sync_data() {
            Ok(()) => {
                self.synced = self.written;
                Ok(())
            }
            Err(error) => Err(self.poisoned_by(error)),
        }
    }

    /// Where the next record will start, the pushed ones counted.
    pub fn offset(&self) -> u64 {
        self.written + self.pending.len() as u64
    }

    /// The end of what was written.
    pub fn written_offset(&self) -> u64 {
        self.written
    }

    /// The end of what is known to be durable.
    pub fn synced_offset(&self) -> u64 {
        self.synced
    }

    /// What poisoned the writer, if anything did.
    pub fn failure(&self) -> Option<&Error> {
        self.poison.as_ref()
    }

    fn check(&self) -> Result<()> {
        self.poison.clone().map_or(Ok(()), Err)
    }

    fn poisoned_by(&mut self, error: Error) -> Error {
        self.pending = Vec::new();
        self.poison = Some(error.clone());
        error
    }
}
