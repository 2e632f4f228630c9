//! What Strata's files say about each other, for the durability sanitizer: read from the bytes that it writes, so that the
//! engine's own opinion of what is durable counts for nothing.
//!
//! A log's records give sequence numbers, a manifest's records give the files that count, CURRENT gives the manifest. Tables and
//! blob files say nothing: that they are durable is all that is asked of them.

use super::DIR;
use crate::sanitizer::{Claim, Protocol, Statement};
use strata::filename::FileKind;
use strata::manifest::edit::VersionEdit;
use strata::manifest::format::{CURRENT_LEN, Current};
use strata::record::format::{FILE_HEADER_LEN, RECORD_HEADER_LEN, RecordHeader, record_len};

/// Kinds of records that count here: see `strata::wal` and `strata::manifest::log`.
const WAL_BATCH: u8 = 1;
const MANIFEST_KINDS: [u8; 2] = [1, 2];

/// Reads Strata's logs, manifests and CURRENT.
pub(super) struct StrataProtocol {
    /// Path of CURRENT.
    root: String,
}

impl StrataProtocol {
    pub(super) fn new() -> StrataProtocol {
        StrataProtocol { root: path_of(FileKind::Current) }
    }
}

fn path_of(file: FileKind) -> String {
    format!("{DIR}/{}", file.name())
}

impl Protocol for StrataProtocol {
    fn root(&self) -> Option<&str> {
        Some(&self.root)
    }

    fn statements(&self, path: &str, offset: u64, bytes: &[u8], tell: &mut dyn FnMut(Statement)) -> usize {
        match FileKind::parse(path.rsplit('/').next().unwrap_or(path)) {
            Some(FileKind::Wal(_)) => records(offset, bytes, |header, payload, end| {
                if header.kind == WAL_BATCH {
                    let count = payload.first_chunk().map_or(0, |count| u64::from(u32::from_le_bytes(*count)));
                    tell(Statement::Logged { first: header.seq, last: header.seq + count.saturating_sub(1), end });
                }
                true
            }),
            Some(FileKind::Manifest(_)) => records(offset, bytes, |header, payload, _| {
                // Read from its front, it may be what a power cut has left, and a torn record says nothing.
                let whole = offset > 0 || header.encode(&[payload])[..4] == header.checksum.to_le_bytes();
                let edit = VersionEdit::decode(payload).ok().filter(|_| whole && MANIFEST_KINDS.contains(&header.kind));
                let Some(edit) = edit else { return false };
                tell(listed(&edit));
                true
            }),
            Some(FileKind::Current | FileKind::CurrentTemp) if bytes.len() < CURRENT_LEN => 0,
            Some(FileKind::Current | FileKind::CurrentTemp) => {
                if let Some((_, current)) = Current::decode(bytes) {
                    tell(Statement::Leads { list: path_of(FileKind::Manifest(current.manifest)) });
                }
                bytes.len()
            }
            _ => bytes.len(),
        }
    }
}

/// Hands on every record that is there to its last byte, with the offset of its end, as long as `hear` wants more. Returns
/// how many bytes were understood.
fn records(offset: u64, bytes: &[u8], mut hear: impl FnMut(&RecordHeader, &[u8], u64) -> bool) -> usize {
    let mut at = 0;
    if offset == 0 {
        if bytes.len() < FILE_HEADER_LEN {
            return 0;
        }
        at = FILE_HEADER_LEN;
    }
    while let Some(header) = bytes[at..].first_chunk::<RECORD_HEADER_LEN>() {
        let tag = u64::from_le_bytes(*header[8..].first_chunk().expect("a header is longer than its tag"));
        let (start, end) = (offset + at as u64, offset + bytes.len() as u64);
        let Some(header) = RecordHeader::decode(header, tag, start, end) else { break };
        let len = record_len(u64::from(header.len)) as usize;
        if at + len > bytes.len() {
            break;
        }
        let payload = &bytes[at + RECORD_HEADER_LEN..][..header.len as usize];
        if !hear(&header, payload, start + len as u64) {
            break;
        }
        at += len;
    }
    at
}

fn listed(edit: &VersionEdit) -> Statement {
    let claim = |file: FileKind, bytes| Claim { path: path_of(file), bytes };
    let mut adds: Vec<Claim> =
        edit.added.iter().map(|(_, table)| claim(FileKind::Sst(table.number), u64::MAX)).collect();
    adds.extend(edit.blobs_added.iter().map(|blob| claim(FileKind::Blob(blob.number), u64::MAX)));
    // A log that is begun holds nothing yet; one that is closed holds what it will ever hold.
    adds.extend(edit.wals_added.iter().map(|&number| claim(FileKind::Wal(number), 0)));
    adds.extend(edit.wals_closed.iter().map(|closed| claim(FileKind::Wal(closed.number), closed.bytes)));
    let tables = edit.removed.iter().map(|&(_, number)| FileKind::Sst(number));
    let blobs = edit.blobs_removed.iter().map(|&number| FileKind::Blob(number));
    let logs = edit.wals_removed.iter().map(|&number| FileKind::Wal(number));
    Statement::Listed { adds, drops: tables.chain(blobs).chain(logs).map(path_of).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use strata::batch::WriteBatch;
    use strata::env::Env;
    use strata::options::FORMAT_VERSION;
    use strata::record::format::Uuid;
    use strata::wal::WalWriter;

    /// What a file says when it is written in pieces of this length.
    fn said(file: FileKind, bytes: &[u8], piece: usize) -> Vec<Statement> {
        let protocol = StrataProtocol::new();
        let (mut statements, mut read, mut held) = (Vec::new(), 0, Vec::new());
        for piece in bytes.chunks(piece) {
            held.extend_from_slice(piece);
            let used = protocol.statements(&path_of(file), read, &held, &mut |statement| statements.push(statement));
            read += used as u64;
            held.drain(..used);
        }
        statements
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "reads back what the real engine wrote to a real file")]
    fn a_log_says_which_writes_it_holds_however_it_is_cut_into_writes() {
        let dir = tempfile::tempdir().expect("a directory");
        let (store, mut batch) = (Uuid([7; 16]), WriteBatch::new());
        let mut wal = WalWriter::create(&Env::os(), dir.path(), 4, (store, FORMAT_VERSION), 1).expect("a log");
        for seqno in [1, 3, 5] {
            batch.put(b"key", b"some value");
            batch.delete(b"another");
            wal.push(seqno, &batch);
            batch = WriteBatch::new();
        }
        wal.write().expect("written");
        let closed = wal.close().expect("closed");
        let bytes = std::fs::read(dir.path().join("000004.wal")).expect("the log");
        for piece in [1, 7, 48, bytes.len()] {
            let said = said(FileKind::Wal(4), &bytes, piece);
            let seqs: Vec<_> = said
                .iter()
                .map(|statement| match statement {
                    Statement::Logged { first, last, .. } => (*first, *last),
                    other => panic!("a log says {other:?}"),
                })
                .collect();
            assert_eq!(seqs, [(1, 2), (3, 4), (5, 6)]);
            let Some(Statement::Logged { end, .. }) = said.last() else { unreachable!() };
            assert!(*end < closed.bytes, "the trailer comes behind the last batch");
        }
    }
}
