//! Reads records from the front of a file, and tells a torn tail from damage.
//!
//! The end of a log after a power cut is whatever the medium kept of writes that no sync had covered: a part of a
//! record, zeros, bytes of a deleted file, or a hole with a whole record behind it. That is no damage, and nobody was
//! promised those records. The same bytes in a synced part are damage, and going on without them would forget
//! acknowledged writes.
//!
//! R3. The first record that is not whole ends the log. Reading never resumes behind it: a later record without the
//! earlier one would be a hole in history.
//!
//! R4. If a whole record behind the bad one, at offset X, says that the file was durable beyond X, the bad one is
//! damage, an [`Error::Corruption`] that names file and offset. If none says so, it is a torn tail. Candidates are all
//! multiples of 8 up to the end; only one with this file's tag, a plausible position and a matching checksum counts.
//!
//! Limit: damage in the last synced part with no whole record behind it cannot be told from a torn tail. The
//! write-ahead log narrows this with a marker on idle syncs and a trailer on a clean close.
//!
//! What lies between two records is no part of either, and is looked at only where somebody [asks](RecordReader::mind_padding)
//! whether each byte still is what was written.
//!
//! An error while reading is an error, never an end. Memory is bounded by one window, and by the record handed out,
//! which is allocated only after its checksum has matched.

use super::format::{RECORD_ALIGN, RECORD_HEADER_LEN, RecordHeader, record_len};
use crate::checksum::Checksum;
use crate::env::File;
use crate::error::{Error, Result};
use crate::mark::sometimes;
use bytes::Bytes;

/// Bytes that are read at once.
const WINDOW_LEN: usize = 256 * 1024;

/// A whole record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Where it starts.
    pub offset: u64,
    /// What its payload is.
    pub kind: u8,
    /// Its position in the order of records.
    pub seq: u64,
    /// Up to where the file was durable when it was written.
    pub synced_offset: u64,
    /// Its checksum, as stored.
    pub checksum: u32,
    /// What it holds.
    pub payload: Bytes,
}

impl Record {
    /// Its header, as it is in the file with this tag.
    pub fn header(&self, tag: u64) -> [u8; RECORD_HEADER_LEN] {
        let (len, checksum) = (self.payload.len() as u32, self.checksum);
        let &Record { kind, seq, synced_offset, .. } = self;
        RecordHeader { checksum, len, tag, kind, seq, synced_offset }.encode(&[&self.payload])
    }
}

/// How a file of records ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tail {
    /// The end of the last whole record.
    pub offset: u64,
    /// Whether anything lies behind it.
    pub torn: bool,
    /// Bytes behind it, if any of them is not zero; zeros that were only reserved are nobody's loss.
    pub dropped_bytes: u64,
}

/// A cursor over the records of a file.
#[derive(Debug)]
pub struct RecordReader {
    file: File,
    tag: u64,
    /// Where the next record should start.
    offset: u64,
    /// Bytes from here on are taken not to exist.
    end: u64,
    /// The smallest seq that a later record may have.
    seq_min: u64,
    synced_max: u64,
    window: Vec<u8>,
    window_offset: u64,
    minds_padding: bool,
    tail: Option<Tail>,
}

impl RecordReader {
    /// Reads the records of `file` that lie in `offset..end`. The file is at least `end` long. `offset` is a multiple
    /// of 8.
    pub fn new(file: File, tag: u64, offset: u64, end: u64) -> RecordReader {
        assert!(offset.is_multiple_of(RECORD_ALIGN as u64), "records would start at {offset}, which is not aligned");
        RecordReader {
            file,
            tag,
            offset,
            end,
            seq_min: 0,
            synced_max: 0,
            window: Vec::new(),
            window_offset: 0,
            minds_padding: false,
            tail: None,
        }
    }

    /// From now on the padding behind a record is to be zeros, as it was written; anything else is an
    /// [`Error::Corruption`].
    pub fn mind_padding(&mut self) {
        self.minds_padding = true;
    }

    /// The next record; `None` at the end, which [`RecordReader::tail`] then describes. After an error it must not be
    /// called again.
    #[expect(clippy::should_implement_trait, reason = "a reader that can fail is no Iterator")]
    pub fn next(&mut self) -> Result<Option<Record>> {
        if self.tail.is_some() {
            return Ok(None);
        }
        match self.record_at(self.offset)? {
            Some(record) => {
                // The padding of the last record may be missing.
                self.offset = (record.offset + record_len(record.payload.len() as u64)).min(self.end);
                if self.minds_padding {
                    self.see_that_padding_is_zero(&record)?;
                }
                self.seq_min = record.seq;
                self.synced_max = self.synced_max.max(record.synced_offset);
                Ok(Some(record))
            }
            None => {
                self.tail = Some(self.judge(self.offset)?);
                Ok(None)
            }
        }
    }

    fn see_that_padding_is_zero(&mut self, record: &Record) -> Result<()> {
        let start = record.offset + RECORD_HEADER_LEN as u64 + record.payload.len() as u64;
        let len = self.offset.saturating_sub(start) as usize;
        if len > 0 && self.window_at(start, len)?[..len].iter().any(|&byte| byte != 0) {
            return Err(Error::corruption(self.file.path(), start, "zeros up to the next record"));
        }
        Ok(())
    }

    /// How the file ends. Known once [`RecordReader::next`] has returned `None`.
    pub fn tail(&self) -> Tail {
        self.tail.expect("the tail is known only behind the last record")
    }

    /// The end of the last record that was returned.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The highest synced offset in the records returned so far.
    pub fn synced_offset(&self) -> u64 {
        self.synced_max
    }

    /// Decides by R4 what the bytes from `damage` on are, which are no whole record: a torn tail, or corruption.
    pub fn judge(&mut self, damage: u64) -> Result<Tail> {
        let (tag, end, seq_min) = (self.tag, self.end, self.seq_min);
        let mut tail = Tail { offset: damage, torn: damage < end, dropped_bytes: 0 };
        let mut anything = false;
        let mut at = damage.next_multiple_of(RECORD_ALIGN as u64);
        while at < end {
            let window = self.window_at(at, RECORD_HEADER_LEN)?;
            anything |= window.iter().any(|&byte| byte != 0);
            // Candidates whose header lies in this window. The next one takes over where the last whole header starts.
            let headers = window.len().saturating_sub(RECORD_HEADER_LEN - RECORD_ALIGN) / RECORD_ALIGN;
            let candidates: Vec<(u64, RecordHeader)> = (0..headers)
                .filter_map(|index| {
                    let bytes = window[index * RECORD_ALIGN..].first_chunk()?;
                    let offset = at + (index * RECORD_ALIGN) as u64;
                    let header = RecordHeader::decode(bytes, tag, offset, end)?;
                    (header.synced_offset > damage && header.seq >= seq_min).then_some((offset, header))
                })
                .collect();
            let step = (headers * RECORD_ALIGN) as u64;
            for (offset, header) in candidates {
                if offset > damage && self.checksum_matches(offset, &header)? {
                    sometimes!("recovery tells damage from a torn tail");
                    return Err(Error::corruption(
                        self.file.path(),
                        damage,
                        format!(
                            "a whole record, because the one at byte {offset} says that all up to byte {} was synced",
                            header.synced_offset
                        ),
                    ));
                }
            }
            if step == 0 {
                break;
            }
            at += step;
        }
        if anything {
            tail.dropped_bytes = end - damage;
        }
        Ok(tail)
    }

    /// The record that starts at `offset`, if there is a whole one.
    fn record_at(&mut self, offset: u64) -> Result<Option<Record>> {
        let (tag, end) = (self.tag, self.end);
        if !offset.is_multiple_of(RECORD_ALIGN as u64) || offset >= end {
            return Ok(None);
        }
        let Some(bytes) = self.window_at(offset, RECORD_HEADER_LEN)?.first_chunk() else { return Ok(None) };
        let Some(header) = RecordHeader::decode(bytes, tag, offset, end) else { return Ok(None) };
        if header.seq < self.seq_min || !self.checksum_matches(offset, &header)? {
            return Ok(None);
        }
        let start = offset + RECORD_HEADER_LEN as u64;
        let len = header.len as usize;
        let payload = if len <= WINDOW_LEN - RECORD_HEADER_LEN {
            Bytes::copy_from_slice(&self.window_at(offset, RECORD_HEADER_LEN + len)?[RECORD_HEADER_LEN..][..len])
        } else {
            self.large_payload(start, &header)?
        };
        Ok(Some(Record {
            offset,
            kind: header.kind,
            seq: header.seq,
            synced_offset: header.synced_offset,
            checksum: header.checksum,
            payload,
        }))
    }

    /// Reads a payload that no window holds. Its checksum has matched once, so that many bytes exist; they are checked
    /// again because they are read again.
    fn large_payload(&self, start: u64, header: &RecordHeader) -> Result<Bytes> {
        let payload = self.file.read_vec_at(start, header.len as usize)?;
        let encoded = header.encode(&[&payload]);
        if encoded[..4] != header.checksum.to_le_bytes() {
            return Err(Error::corruption(
                self.file.path(),
                start,
                "the bytes that were there a moment ago: two reads of one record differ",
            ));
        }
        Ok(payload.into())
    }

    /// Whether the record with this header at `offset` has its checksum. All of it lies before the end.
    fn checksum_matches(&mut self, offset: u64, header: &RecordHeader) -> Result<bool> {
        let mut checksum = Checksum::new();
        let mut at = offset;
        let end = offset + RECORD_HEADER_LEN as u64 + u64::from(header.len);
        // The first four bytes are the checksum itself.
        let mut skip = 4;
        while at < end {
            let want = usize::try_from(end - at).unwrap_or(usize::MAX).min(WINDOW_LEN);
            let window = &self.window_at(at, want)?[..want];
            checksum.update(&window[skip..]);
            skip = 0;
            at += want as u64;
        }
        Ok(checksum.masked() == header.checksum)
    }

    /// Bytes of the file from `offset` on: at least `want` of them, at most [`WINDOW_LEN`], fewer only at the end.
    fn window_at(&mut self, offset: u64, want: usize) -> Result<&[u8]> {
        debug_assert!(offset <= self.end && want <= WINDOW_LEN, "asked for {want} bytes at {offset} of {}", self.end);
        let available = usize::try_from(self.end - offset).unwrap_or(usize::MAX);
        let want = want.min(available);
        let skip = offset.checked_sub(self.window_offset).and_then(|skip| usize::try_from(skip).ok());
        let held = skip.is_some_and(|skip| skip + want <= self.window.len());
        if !held {
            self.window.resize(available.min(WINDOW_LEN), 0);
            self.window_offset = offset;
            let read = self.file.read_exact_at(&mut self.window, offset);
            if read.is_err() {
                self.window.clear();
            }
            read?;
        }
        Ok(&self.window[(offset - self.window_offset) as usize..])
    }
}
