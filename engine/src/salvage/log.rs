//! Files of records, read past damage: every record that is whole, wherever it lies.
//!
//! Recovery ends at the first record that is not whole, because what lies behind would be a hole in history. A salvage wants what is
//! behind as well, and says that there is a hole. A record is known by the tag of its file, a checksum over all of it, and a seq
//! above that of the one before; candidates are all multiples of 8.

use crate::batch;
use crate::coding::Decoder;
use crate::env::{Env, OpenMode};
use crate::error::{Error, Result};
use crate::key::{SEQNO_MAX, SeqNo};
use crate::memtable::Generation;
use crate::record::Uuid;
use crate::record::format::{FILE_HEADER_LEN, RECORD_ALIGN, RECORD_HEADER_LEN, RecordHeader, record_len, record_tag};
use crate::salvage::report::{LostBytes, SalvagedFile};
use crate::wal::{KIND_BATCH, KIND_CLOSE};
use bytes::Bytes;
use std::path::Path;

/// Bytes that are read at once, and again where that failed.
const PIECE_BYTES: u64 = 1024 * 1024;
const SMALL_PIECE_BYTES: u64 = 512;

/// A whole record.
pub(super) struct Found {
    pub(super) offset: u64,
    pub(super) header: RecordHeader,
    pub(super) payload: Bytes,
}

/// The whole records of a file, and the gaps between them, from where to where; the last one reaches to the end.
pub(super) struct Records {
    pub(super) found: Vec<Found>,
    pub(super) gaps: Vec<(u64, u64)>,
    /// Bytes that were looked at.
    pub(super) bytes: u64,
}

/// Reads a file of records, or its first `bytes_max` bytes. What cannot be read counts as zeros.
pub(super) fn records(env: &Env, path: &Path, number: u64, store: Uuid, bytes_max: u64) -> Result<Records> {
    let file = env.open(path, OpenMode::Read)?;
    let bytes = file.len()?.min(bytes_max);
    let mut content = Vec::new();
    while (content.len() as u64) < bytes {
        let at = content.len() as u64;
        let piece = PIECE_BYTES.min(bytes - at);
        match file.read_vec_at(at, piece as usize) {
            Ok(read) => content.extend(read),
            Err(_) => {
                let small = SMALL_PIECE_BYTES.min(bytes - at);
                content.extend(file.read_vec_at(at, small as usize).unwrap_or_else(|_| vec![0; small as usize]));
            }
        }
    }
    let content = Bytes::from(content);
    let tag = record_tag(store, number);
    let mut records = Records { found: Vec::new(), gaps: Vec::new(), bytes };
    let (mut at, mut good) = (FILE_HEADER_LEN as u64, FILE_HEADER_LEN as u64);
    while at + RECORD_HEADER_LEN as u64 <= bytes {
        let seq_min = records.found.last().map_or(0, |found| found.header.seq);
        let Some(found) = whole_at(&content, at, tag).filter(|found| found.header.seq >= seq_min) else {
            at += RECORD_ALIGN as u64;
            continue;
        };
        if good < at {
            records.gaps.push((good, at));
        }
        at = (at + record_len(found.payload.len() as u64)).min(bytes);
        good = at;
        records.found.push(found);
    }
    if content.slice(good.min(bytes) as usize..).iter().any(|&byte| byte != 0) {
        records.gaps.push((good, bytes));
    }
    Ok(records)
}

fn whole_at(content: &Bytes, offset: u64, tag: u64) -> Option<Found> {
    let start = usize::try_from(offset).ok()?;
    let bytes = content.get(start..)?.first_chunk()?;
    let header = RecordHeader::decode(bytes, tag, offset, content.len() as u64)?;
    let payload_at = start + RECORD_HEADER_LEN;
    let payload = content.slice(payload_at..payload_at + header.len as usize);
    let encoded = header.encode(&[&payload]);
    (encoded[..4] == header.checksum.to_le_bytes()).then_some(Found { offset, header, payload })
}

/// Reads a log. What counts of it is in the memtables then, which are new; returns what is known of the file.
pub(super) fn read_log(
    env: &Env,
    path: &Path,
    (number, store): (u64, Uuid),
    bytes_max: u64,
    memtables: &Generation,
    file: &mut SalvagedFile,
) -> Result<()> {
    let Records { found, gaps, bytes } = records(env, path, number, store, bytes_max)?;
    file.bytes = bytes;
    let mut gaps = gaps.into_iter().peekable();
    let mut last: SeqNo = 0;
    let mut closed = false;
    for (index, Found { offset, header, payload }) in found.iter().enumerate() {
        let gap = gaps.next_if(|(_, end)| end <= offset);
        if header.kind == KIND_CLOSE {
            closed = true;
        }
        let count = if header.kind == KIND_BATCH { Decoder::new(payload).u32().unwrap_or(0) } else { 0 };
        if let Some((from, to)) = gap {
            // A mark and a trailer have the seq of the last write before them.
            let before_next = if header.kind == KIND_BATCH { header.seq.saturating_sub(1) } else { header.seq };
            let seqnos = (last < before_next).then_some((last + 1, Some(before_next)));
            // Where no write is missing it was a mark, which nobody needs.
            let durable = found[index..].iter().any(|later| later.header.synced_offset > from);
            let was_durable = durable && seqnos.is_some();
            let cause = Error::corruption(path, from, "a whole record, and there is one behind");
            file.lost.push(lost_of_log((from, to), seqnos, was_durable, cause));
        }
        if header.kind != KIND_BATCH {
            continue;
        }
        let entries = payload.slice(payload.len().min(4)..);
        let fits = header.seq > last && header.seq + u64::from(count) <= SEQNO_MAX;
        if count == 0 || !fits || !batch::is_valid(&entries, count) {
            let to = offset + record_len(payload.len() as u64);
            let cause = Error::corruption(path, *offset, "a batch of whole entries of kinds that this version knows");
            let seqnos = Some((header.seq, Some(header.seq + u64::from(count.max(1)) - 1)));
            file.lost.push(lost_of_log((*offset, to), seqnos, true, cause));
            continue;
        }
        let decoded = batch::decode(entries, count).map(|entry| entry.expect("is_valid has seen that it decodes"));
        memtables.insert_batch(header.seq, decoded);
        file.entries += u64::from(count);
        last = header.seq + u64::from(count) - 1;
    }
    // Behind a trailer nothing counts. Elsewhere the end is what the power left of writes that nobody was promised, or damage:
    // nothing tells.
    let is_sealed = bytes_max != u64::MAX;
    if let Some((from, to)) = gaps.next().filter(|_| !closed) {
        let cause = Error::corruption(path, from, "a whole record, or the end of the log");
        file.lost.push(lost_of_log((from, to), Some((last + 1, None)), is_sealed, cause));
    }
    if is_sealed && bytes < bytes_max {
        let cause = Error::corruption(path, bytes, format!("a closed log of {bytes_max} bytes, found {bytes}"));
        file.lost.push(lost_of_log((bytes, bytes_max), Some((last + 1, None)), true, cause));
    }
    Ok(())
}

fn lost_of_log(
    (from, to): (u64, u64),
    seqnos: Option<(SeqNo, Option<SeqNo>)>,
    was_durable: bool,
    cause: Error,
) -> LostBytes {
    LostBytes { offset: from, bytes: to - from, keyspace: None, from: None, to: None, seqnos, was_durable, cause }
}
