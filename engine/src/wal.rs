//! The write-ahead log: every batch, in the order of its sequence numbers, before anybody is told that it was written.
//!
//! A log is a file of records ([`crate::record::format`] has the bytes). Its records are of these kinds:
//!
//! ```text
//! kind 1  batch   seq = that of the first entry      payload: count u32 | entries, as in batch.rs
//! kind 2  mark    seq = the last one used so far     payload: nothing. Written when a log falls idle after a sync, so
//!                                                    that damage before it is told from a torn tail.
//! kind 3  close   seq = the last one used            payload: total length u64 of all before this record
//! kind 4  stamp   seq = the last one used so far     payload: wall clock ms u64: what stands behind was written then or later
//! kind 5  keyspaces   seq = the last one used so far     payload: an edit with the keyspaces that there are
//! ```
//!
//! The last two are written for an archive, and only where there is one: see [`crate::archive`]. A log for an archive begins with
//! its keyspaces, which stay the same in all of it, and a stamp.
//!
//! W1. Sequence numbers grow from record to record, and start at the one in the file header. All are below the largest that
//! there is, so that a log can follow.
//!
//! W2. A log is written by one writer, once. It is never appended to after a reopen, never reused and never renamed.
//!
//! W3. A close record is written only after all before it was synced. It says: this log is complete.
//!
//! Creating a log does not make its name durable; that takes a sync of the directory, which the caller shares with
//! others. Which logs count, and how many bytes of a closed one, is for the manifest to say.

use crate::batch::{self, WriteBatch};
use crate::coding::Decoder;
use crate::env::{Env, File, OpenMode};
use crate::error::{Error, Result};
use crate::filename::FileKind;
use crate::key::{SEQNO_MAX, SeqNo};
use crate::mark::sometimes;
use crate::record::format::{FILE_HEADER_LEN, FileHeader, RECORD_ALIGN, RECORD_HEADER_LEN, Uuid, record_tag};
use crate::record::{Record, RecordReader, RecordWriter};
use bytes::Bytes;
use std::path::Path;

/// How a log begins.
pub const MAGIC: [u8; 8] = *b"STRATALG";

/// The newest version of the format of a log that this library reads. A log has the [format version](crate::options::FORMAT_VERSION) of its
/// store when it was begun.
pub const VERSION: u32 = 2;

/// The first version of a log, and of a store, that can be archived.
pub const VERSION_ARCHIVED: u32 = 2;

/// The kind of a record with a batch.
pub const KIND_BATCH: u8 = 1;
/// The kind of a mark.
pub const KIND_MARK: u8 = 2;
/// The kind of the record that closes a log.
pub const KIND_CLOSE: u8 = 3;
/// The kind of a record that says what time it is.
pub const KIND_STAMP: u8 = 4;
/// The kind of the record with the keyspaces that there are.
pub const KIND_KEYSPACES: u8 = 5;

/// Bytes before the entries in the payload of a batch record: their count.
const COUNT_LEN: usize = 4;

/// A log that nothing will be added to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClosedWal {
    /// Its number.
    pub number: u64,
    /// So many bytes of it count; what lies behind them does not.
    pub bytes: u64,
    /// The last sequence number in it. For a log without entries, the one before the first that it could have held.
    pub last_seqno: SeqNo,
}

/// A log that is needed for an archive only: what it holds is in tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeptWal {
    /// Its number.
    pub number: u64,
    /// So many bytes of it count.
    pub bytes: u64,
    /// The first sequence number that it speaks for, which the one in its header is as well.
    pub first_seqno: SeqNo,
    /// The last one. Every write between the two that counts is in the log. Less than the first where no number was given out.
    pub last_seqno: SeqNo,
}

/// The end of a log to which batches are appended. After an error it is poisoned, see R1 in [`crate::record::writer`].
#[derive(Debug)]
pub struct WalWriter {
    records: RecordWriter,
    number: u64,
    version: u32,
    /// The last sequence number pushed.
    last_seqno: SeqNo,
}

impl WalWriter {
    /// Creates the file, writes its header and syncs it: three calls. Its name is durable once the directory is synced as
    /// well; on systems that cannot sync a directory, such as Windows, the sync of the file has to do, and is why it is here.
    /// `first_seqno` is at least 1, and no batch may have a smaller one. `version` is the format version of the store.
    pub fn create(
        env: &Env,
        dir: &Path,
        number: u64,
        (store, version): (Uuid, u32),
        first_seqno: SeqNo,
    ) -> Result<WalWriter> {
        assert!(first_seqno >= 1, "sequence number 0 is before every write");
        assert!((1..=VERSION).contains(&version), "a log of version {version}");
        let file = env.open(&FileKind::Wal(number).path(dir), OpenMode::CreateNew)?;
        let header = FileHeader { magic: MAGIC, version, store, number, first: first_seqno };
        file.write_all_at(&header.encode(), 0)?;
        file.sync_data()?;
        Ok(WalWriter {
            records: RecordWriter::new(file, record_tag(store, number), FILE_HEADER_LEN as u64),
            number,
            version,
            last_seqno: first_seqno - 1,
        })
    }

    /// Adds a batch, which is not empty, to the group that the next [`WalWriter::write`] writes.
    pub fn push(&mut self, seqno: SeqNo, batch: &WriteBatch) {
        self.push_payload(seqno, batch.count(), batch.payload());
    }

    /// Like [`WalWriter::push`], for the payload of a batch and the count of its entries.
    pub fn push_payload(&mut self, seqno: SeqNo, count: u32, payload: &[u8]) {
        assert!(count > 0, "an empty batch has no sequence number and no place in a log");
        assert!(seqno > self.last_seqno, "W1: batch at {seqno} behind {}", self.last_seqno);
        self.records.push(KIND_BATCH, seqno, &[&count.to_le_bytes(), payload]);
        self.last_seqno = seqno + u64::from(count) - 1;
    }

    /// Adds the time of the clock on the wall, in milliseconds since the Unix epoch, to the group that the next
    /// [`WalWriter::write`] writes.
    pub fn push_stamp(&mut self, wall_ms: u64) {
        assert!(self.version >= VERSION_ARCHIVED, "a log of version {} has no stamps", self.version);
        self.records.push(KIND_STAMP, self.last_seqno, &[&wall_ms.to_le_bytes()]);
    }

    /// Begins a log for an archive: writes the keyspaces that there are, as an edit, and what time it is, and syncs both.
    pub fn begin_for_archive(&mut self, keyspaces: &[u8], wall_ms: u64) -> Result<()> {
        self.records.push(KIND_KEYSPACES, self.last_seqno, &[keyspaces]);
        self.push_stamp(wall_ms);
        self.records.sync()
    }

    /// Writes all that was pushed, in one call. It then survives the end of the process, but not yet a power cut.
    #[track_caller]
    pub fn write(&mut self) -> Result<()> {
        self.records.write()
    }

    /// Writes what was pushed, and makes all of the log durable. Costs no sync where nothing is unsynced.
    #[track_caller]
    pub fn sync(&mut self) -> Result<()> {
        self.records.sync()
    }

    /// Writes a mark: from now on, damage in all that was synced until now is told from a torn tail. The mark itself
    /// needs no sync.
    #[track_caller]
    pub fn mark(&mut self) -> Result<()> {
        self.records.push(KIND_MARK, self.last_seqno, &[]);
        self.write()
    }

    /// Syncs everything, and then adds and syncs the trailer. After an error the file may hold everything or not.
    pub fn close(mut self) -> Result<ClosedWal> {
        self.sync()?;
        let total = self.records.offset();
        self.records.push(KIND_CLOSE, self.last_seqno, &[&total.to_le_bytes()]);
        self.records.sync()?;
        Ok(ClosedWal { number: self.number, bytes: self.records.offset(), last_seqno: self.last_seqno })
    }

    /// Its number.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Its length, what was pushed and not yet written counted.
    pub fn bytes(&self) -> u64 {
        self.records.offset()
    }

    /// How many of its bytes are durable.
    pub fn synced_bytes(&self) -> u64 {
        self.records.synced_offset()
    }

    /// The last sequence number pushed, or the one before the first where there is none.
    pub fn last_seqno(&self) -> SeqNo {
        self.last_seqno
    }

    /// What poisoned the log, if anything did.
    pub fn failure(&self) -> Option<&Error> {
        self.records.failure()
    }
}

/// What is known of a log before it is replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplayExpect {
    /// The manifest says that it was closed with so many bytes. All of them must be whole; what lies behind is ignored.
    Sealed {
        /// From the start of the file.
        bytes: u64,
    },
    /// Whoever has the log open, or has closed it, knows that it wrote so many bytes. All of them must be as they were
    /// written, the padding between records as well; what lies behind is ignored.
    Written {
        /// From the start of the file.
        bytes: u64,
    },
    /// It must end with a close record; what lies behind that is ignored.
    Closed,
    /// It is the last one, and may end anywhere behind what was synced, also before its first record.
    Newest,
}

/// What a replay found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replayed {
    /// The end of the last whole record; 0 where not even the file header is whole.
    pub valid_bytes: u64,
    /// How many of these are known to have been durable before.
    pub synced_bytes: u64,
    /// The last sequence number replayed.
    pub last_seqno: Option<SeqNo>,
    /// The first sequence number that the log could hold, where its header is whole.
    pub first_seqno: Option<SeqNo>,
    /// The version of its format, where its header is whole.
    pub version: Option<u32>,
    /// Bytes of a torn tail.
    pub dropped_bytes: u64,
    /// Whether it ends with a close record.
    pub clean: bool,
    /// Whether it was begun for an archive.
    pub for_archive: bool,
}

/// What a log says, piece by piece.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Logged {
    /// A batch.
    Batch {
        /// The sequence number of its first entry.
        seqno: SeqNo,
        /// How many entries it has.
        count: u32,
        /// Its payload, which is known to decode.
        entries: Bytes,
    },
    /// The time of the clock on the wall, in milliseconds since the Unix epoch.
    Stamp(u64),
    /// The keyspaces that there are, as an edit that nobody has looked at.
    Keyspaces(Bytes),
}

/// Reads a log from its front and hands every batch to `apply`: its sequence number, the count of its entries, and its
/// payload, which is known to decode. Reads only. Ends with the first error of `apply`.
///
/// What `expect` does not allow is an [`Error::Corruption`] that names file and offset. Batches before the damage have
/// been applied then.
pub fn replay(
    env: &Env,
    dir: &Path,
    number: u64,
    store: Uuid,
    expect: ReplayExpect,
    apply: &mut dyn FnMut(SeqNo, u32, Bytes) -> Result<()>,
) -> Result<Replayed> {
    let path = FileKind::Wal(number).path(dir);
    replay_file(env, &path, number, store, expect, &mut |logged| match logged {
        Logged::Batch { seqno, count, entries } => apply(seqno, count, entries),
        Logged::Stamp(_) | Logged::Keyspaces(_) => Ok(()),
    })
}

/// Like [`replay`], of a log in a file of any name, and hands on what it says beside batches.
pub fn replay_file(
    env: &Env,
    path: &Path,
    number: u64,
    store: Uuid,
    expect: ReplayExpect,
    each: &mut dyn FnMut(Logged) -> Result<()>,
) -> Result<Replayed> {
    let file = match env.open(path, OpenMode::Read) {
        Err(error) if error.is_not_found() => {
            return Err(Error::corruption(path, 0, "the log that the manifest names, found no file"));
        }
        opened => opened?,
    };
    let len = file.len()?;
    let end = match expect {
        ReplayExpect::Sealed { bytes } if len < bytes => {
            return Err(Error::corruption(path, len, format!("a closed log of {bytes} bytes, found {len}")));
        }
        ReplayExpect::Written { bytes } if len < bytes => {
            return Err(Error::corruption(path, len, format!("{bytes} bytes that were written, found {len}")));
        }
        ReplayExpect::Sealed { bytes } | ReplayExpect::Written { bytes } => bytes,
        ReplayExpect::Closed | ReplayExpect::Newest => len,
    };
    let tag = record_tag(store, number);
    let mut replayed = Replayed {
        valid_bytes: 0,
        synced_bytes: 0,
        last_seqno: None,
        first_seqno: None,
        version: None,
        dropped_bytes: 0,
        clean: false,
        for_archive: false,
    };
    let Some(header) = read_header(&file, end, store, number)? else {
        // Nobody was promised anything of a log whose header never became durable, and the reader makes sure of that.
        let tail = RecordReader::new(file, tag, 0, end).judge(0)?;
        let nothing_sealed = matches!(expect, ReplayExpect::Sealed { bytes: 0 });
        if expect != ReplayExpect::Newest && !nothing_sealed {
            return Err(Error::corruption(path, 0, "the header of a closed log"));
        }
        sometimes!("recovery finds a wal without a whole header");
        replayed.dropped_bytes = tail.dropped_bytes;
        return Ok(replayed);
    };
    replayed.first_seqno = Some(header.first);
    replayed.version = Some(header.version);
    let mut reader = RecordReader::new(file, tag, FILE_HEADER_LEN as u64, end);
    if matches!(expect, ReplayExpect::Written { .. }) {
        reader.mind_padding();
    }
    let mut last_seqno = header.first.saturating_sub(1);
    while let Some(record) = reader.next()? {
        match parse(path, &record, last_seqno, header.version)? {
            Entry::Batch { count, entries } => {
                each(Logged::Batch { seqno: record.seq, count, entries })?;
                last_seqno = record.seq + u64::from(count) - 1;
                replayed.last_seqno = Some(last_seqno);
            }
            Entry::Mark => {}
            Entry::Stamp(wall_ms) => each(Logged::Stamp(wall_ms))?,
            Entry::Keyspaces(edit) => {
                replayed.for_archive = true;
                each(Logged::Keyspaces(edit))?;
            }
            Entry::Close => {
                replayed.clean = true;
                break;
            }
        }
    }
    replayed.valid_bytes = reader.offset();
    replayed.synced_bytes = reader.synced_offset();
    if !replayed.clean {
        replayed.dropped_bytes = reader.tail().dropped_bytes;
    }
    let complete = match expect {
        ReplayExpect::Newest => true,
        ReplayExpect::Closed => replayed.clean,
        ReplayExpect::Sealed { bytes } | ReplayExpect::Written { bytes } => replayed.valid_bytes == bytes,
    };
    if !complete {
        let wanted = match expect {
            ReplayExpect::Sealed { bytes } => format!("a whole record: {bytes} bytes of this log were closed"),
            ReplayExpect::Written { bytes } => format!("a whole record: {bytes} bytes of this log were written"),
            _ => "a whole record or the trailer of a closed log".into(),
        };
        return Err(Error::corruption(path, replayed.valid_bytes, wanted));
    }
    Ok(replayed)
}

/// Hands on the bytes of a log that count, from its front, each record when its checksum has matched. What is not whole is an
/// [`Error::Corruption`] that names file and offset, as in a replay; what a batch says is not looked at.
pub fn read_through(
    env: &Env,
    dir: &Path,
    number: u64,
    store: Uuid,
    bytes: u64,
    each: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    if bytes == 0 {
        return Ok(());
    }
    let path = FileKind::Wal(number).path(dir);
    let file = env.open(&path, OpenMode::Read)?;
    let len = file.len()?;
    if len < bytes {
        return Err(Error::corruption(&path, len, format!("a log of {bytes} bytes, found {len}")));
    }
    let Some(header) = read_header(&file, bytes, store, number)? else {
        return Err(Error::corruption(&path, 0, "the header of a log"));
    };
    each(&header.encode())?;
    let mut reader = RecordReader::new(file, record_tag(store, number), FILE_HEADER_LEN as u64, bytes);
    while let Some(record) = reader.next()? {
        let padding = [0; RECORD_ALIGN];
        let missing = (reader.offset() - record.offset) as usize - RECORD_HEADER_LEN - record.payload.len();
        each(&record.header(record_tag(store, number)))?;
        each(&record.payload)?;
        each(&padding[..missing])?;
    }
    if reader.offset() != bytes {
        return Err(Error::corruption(
            &path,
            reader.offset(),
            format!("a whole record: {bytes} bytes of this log count"),
        ));
    }
    Ok(())
}

/// The header, or `None` where there is no whole one of this log.
fn read_header(file: &File, end: u64, store: Uuid, number: u64) -> Result<Option<FileHeader>> {
    if end < FILE_HEADER_LEN as u64 {
        return Ok(None);
    }
    let mut bytes = [0; FILE_HEADER_LEN];
    file.read_exact_at(&mut bytes, 0)?;
    let Some(header) = FileHeader::decode(&bytes) else { return Ok(None) };
    if header.magic != MAGIC || header.store != store || header.number != number {
        return Ok(None);
    }
    if header.version > VERSION {
        return Err(Error::NewerFormat { path: file.path().into(), found: header.version, supported: VERSION });
    }
    if !(1..=SEQNO_MAX).contains(&header.first) {
        let expected = format!("a first sequence number of 1 to {SEQNO_MAX}, found {}", header.first);
        return Err(Error::corruption(file.path(), 0, expected));
    }
    Ok(Some(header))
}

enum Entry {
    Batch { count: u32, entries: Bytes },
    Mark,
    Close,
    Stamp(u64),
    Keyspaces(Bytes),
}

/// What a record says. Its checksum has matched, so anything odd in it is no torn tail.
fn parse(path: &Path, record: &Record, last_seqno: SeqNo, version: u32) -> Result<Entry> {
    let wrong = |expected: String| Err(Error::corruption(path, record.offset, expected));
    match record.kind {
        KIND_BATCH if record.seq <= last_seqno => {
            wrong(format!("a batch behind sequence number {last_seqno}, found one at {}", record.seq))
        }
        KIND_BATCH => {
            let count = Decoder::new(&record.payload).u32().unwrap_or(0);
            let entries = record.payload.slice(COUNT_LEN.min(record.payload.len())..);
            // The last sequence number is never used: the next log starts behind it.
            let fits = record.seq + u64::from(count) <= SEQNO_MAX;
            if count == 0 || !fits || !batch::is_valid(&entries, count) {
                return wrong(format!("a batch of {count} whole entries of kinds that this version knows"));
            }
            Ok(Entry::Batch { count, entries })
        }
        KIND_MARK => Ok(Entry::Mark),
        KIND_STAMP | KIND_KEYSPACES if version < VERSION_ARCHIVED => {
            wrong(format!("a record of kind 1 to 3 in a log of version {version}, found kind {}", record.kind))
        }
        KIND_STAMP => match Decoder::new(&record.payload).u64() {
            Some(wall_ms) => Ok(Entry::Stamp(wall_ms)),
            None => wrong("a time of 8 bytes".into()),
        },
        KIND_KEYSPACES => Ok(Entry::Keyspaces(record.payload.clone())),
        KIND_CLOSE => {
            let total = Decoder::new(&record.payload).u64();
            if total != Some(record.offset) || record.seq != last_seqno {
                return wrong(format!(
                    "a trailer for {} bytes up to sequence number {last_seqno}, found {total:?} and {}",
                    record.offset, record.seq
                ));
            }
            Ok(Entry::Close)
        }
        kind => wrong(format!("a record of kind 1 to 5, found kind {kind}")),
    }
}

#[cfg(test)]
mod tests;
