//! The manifest as a file, and the two small files that lead to it.
//!
//! A manifest is a file of records ([`crate::record::format`] has the bytes). The first record (kind 1) is an edit that
//! makes the whole list out of nothing, a snapshot; each further one (kind 2) is a change. Their seq counts from 0.
//! Every append is synced before the next, so only the last record can be torn, and only if nobody was told that it was
//! written.
//!
//! CURRENT names the manifest that counts, and repeats length and checksum of its snapshot. IDENTITY names the store
//! and its format version. [`super::format`] has the bytes of both.
//!
//! After a failed write or sync the writer is poisoned (R1 in [`crate::record::writer`]); what to do then is for
//! [`super::set`].

use super::edit::VersionEdit;
use super::format::{CURRENT_LEN, CURRENT_VERSION, Current, IDENTITY_LEN, Identity};
use crate::env::{Env, OpenMode};
use crate::error::{Error, Result};
use crate::filename::FileKind;
use crate::options::{FORMAT_VERSION, FORMAT_VERSION_OLDEST};
use crate::record::format::{FILE_HEADER_LEN, FileHeader, Uuid, record_tag};
use crate::record::{Record, RecordReader, RecordWriter};
use std::path::Path;

/// How a manifest begins.
pub const MAGIC: [u8; 8] = *b"STRATAMF";

/// The version of the format of a manifest.
pub const VERSION: u32 = 1;

const KIND_SNAPSHOT: u8 = 1;
const KIND_EDIT: u8 = 2;

/// The end of a manifest to which edits are appended.
#[derive(Debug)]
pub struct ManifestWriter {
    records: RecordWriter,
    /// The seq of the next record.
    seq: u64,
    current: Current,
}

impl ManifestWriter {
    /// Creates the file with a snapshot and syncs it: three calls. Its name is not durable yet, and nothing leads to
    /// it.
    pub fn create(env: &Env, dir: &Path, number: u64, store: Uuid, snapshot: &VersionEdit) -> Result<ManifestWriter> {
        let file = env.open(&FileKind::Manifest(number).path(dir), OpenMode::CreateNew)?;
        let header = FileHeader { magic: MAGIC, version: VERSION, store, number, first: 0 }.encode();
        let mut records = RecordWriter::with_header(file, record_tag(store, number), &header);
        let snapshot_checksum = records.push(KIND_SNAPSHOT, 0, &[&snapshot.encode()]);
        records.sync()?;
        let current = Current { store, manifest: number, snapshot_bytes: records.offset(), snapshot_checksum };
        Ok(ManifestWriter { records, seq: 1, current })
    }

    /// Appends an edit and syncs: two calls. After an error the edit may be durable or not, and the writer is poisoned.
    pub fn append(&mut self, edit: &VersionEdit) -> Result<()> {
        self.records.push(KIND_EDIT, self.seq, &[&edit.encode()]);
        self.seq += 1;
        self.records.sync()
    }

    /// What CURRENT must say for this manifest to count.
    pub fn current(&self) -> &Current {
        &self.current
    }

    /// Its length.
    pub fn bytes(&self) -> u64 {
        self.records.offset()
    }

    /// Bytes of it up to the end of the snapshot.
    pub fn snapshot_bytes(&self) -> u64 {
        self.current.snapshot_bytes
    }
}

/// What a manifest holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestLog {
    /// The snapshot first, and then every edit with its offset.
    pub edits: Vec<(u64, VersionEdit)>,
    /// The end of the last whole record.
    pub valid_bytes: u64,
    /// Bytes of a torn last record.
    pub dropped_bytes: u64,
}

/// Reads the manifest that `current` names, whole.
pub fn read(env: &Env, dir: &Path, current: &Current) -> Result<ManifestLog> {
    read_up_to(env, dir, current, None)
}

/// Reads the manifest that `current` names as far as it was written, for one who knows how far: all of that must be as it was
/// written, and what lies behind is ignored.
pub fn read_written(env: &Env, dir: &Path, current: &Current, bytes: u64) -> Result<ManifestLog> {
    read_up_to(env, dir, current, Some(bytes))
}

fn read_up_to(env: &Env, dir: &Path, current: &Current, written: Option<u64>) -> Result<ManifestLog> {
    let path = FileKind::Manifest(current.manifest).path(dir);
    let file = match env.open(&path, OpenMode::Read) {
        Err(error) if error.is_not_found() => {
            return Err(Error::corruption(&path, 0, "the manifest that CURRENT names, found no file"));
        }
        opened => opened?,
    };
    let len = file.len()?;
    if let Some(bytes) = written.filter(|&bytes| bytes > len) {
        return Err(Error::corruption(&path, len, format!("{bytes} bytes that were written, found {len}")));
    }
    let len = written.unwrap_or(len);
    if len < current.snapshot_bytes {
        let wanted = format!("a snapshot of {} bytes, found {len} bytes", current.snapshot_bytes);
        return Err(Error::corruption(&path, len, wanted));
    }
    let mut bytes = [0; FILE_HEADER_LEN];
    file.read_exact_at(&mut bytes, 0)?;
    let header = FileHeader::decode(&bytes)
        .filter(|header| header.magic == MAGIC && header.store == current.store && header.number == current.manifest);
    let Some(header) = header else {
        return Err(Error::corruption(&path, 0, "the header of this manifest of this store"));
    };
    if header.version > VERSION {
        return Err(Error::NewerFormat { path, found: header.version, supported: VERSION });
    }

    let tag = record_tag(current.store, current.manifest);
    let mut reader = RecordReader::new(file, tag, FILE_HEADER_LEN as u64, len);
    if written.is_some() {
        reader.mind_padding();
    }
    let mut edits = Vec::new();
    while let Some(record) = reader.next()? {
        if edits.is_empty() {
            let checksum = (record.kind, record.checksum);
            if reader.offset() != current.snapshot_bytes || checksum != (KIND_SNAPSHOT, current.snapshot_checksum) {
                let wanted = format!("the snapshot of {} bytes that CURRENT describes", current.snapshot_bytes);
                return Err(Error::corruption(&path, record.offset, wanted));
            }
        }
        edits.push((record.offset, parse(&path, &record, edits.len() as u64)?));
    }
    if edits.is_empty() {
        return Err(Error::corruption(&path, FILE_HEADER_LEN as u64, "a whole snapshot, which was synced"));
    }
    // A manifest reserves nothing ahead, so that zeros behind the last edit are an edit that is gone as well.
    let valid_bytes = reader.tail().offset;
    if let Some(bytes) = written.filter(|&bytes| bytes != valid_bytes) {
        let wanted = format!("a whole edit: {bytes} bytes of this manifest were written");
        return Err(Error::corruption(&path, valid_bytes, wanted));
    }
    Ok(ManifestLog { edits, valid_bytes, dropped_bytes: len.saturating_sub(valid_bytes) })
}

/// The edit in a record, which is to be the `seq`-th. Its checksum has matched, so anything odd in it is no torn tail.
fn parse(path: &Path, record: &Record, seq: u64) -> Result<VersionEdit> {
    let kind = if seq == 0 { KIND_SNAPSHOT } else { KIND_EDIT };
    if (record.kind, record.seq) != (kind, seq) {
        let wanted = format!("record {seq} of kind {kind}, found record {} of kind {}", record.seq, record.kind);
        return Err(Error::corruption(path, record.offset, wanted));
    }
    VersionEdit::decode(&record.payload).map_err(|expected| Error::corruption(path, record.offset, expected))
}

/// Another one where the list of files has changed: what CURRENT says, and how long the manifest is that it names. For those who
/// read beside a writer.
pub fn list_mark(env: &Env, dir: &Path) -> Result<(Vec<u8>, Option<u64>)> {
    let current = env.read_file(&FileKind::Current.path(dir), CURRENT_LEN as u64)?;
    let manifest = Current::decode(&current).map(|(_, current)| FileKind::Manifest(current.manifest));
    let bytes = manifest.map(|manifest| env.file_len(&manifest.path(dir))).transpose()?;
    Ok((current, bytes.flatten()))
}

/// Which manifest counts. CURRENT that is missing, damaged or another store's is corruption.
pub fn read_current(env: &Env, dir: &Path, store: Uuid) -> Result<Current> {
    let path = FileKind::Current.path(dir);
    let bytes = match env.read_file(&path, CURRENT_LEN as u64) {
        Err(error) if error.is_not_found() => {
            return Err(Error::corruption(&path, 0, "the file that names the manifest, found no file"));
        }
        read => read?,
    };
    match Current::decode(&bytes) {
        None => Err(Error::corruption(&path, 0, "the name of the manifest with a checksum that matches")),
        Some((found, _)) if found > CURRENT_VERSION => {
            Err(Error::NewerFormat { path, found, supported: CURRENT_VERSION })
        }
        Some((_, current)) if current.store != store => {
            Err(Error::corruption(&path, 16, format!("the uuid of this store, {store}, found {}", current.store)))
        }
        Some((_, current)) => Ok(current),
    }
}

/// Makes another manifest count. Its name and content are durable already. After an error either one may count.
pub fn set_current(env: &Env, dir: &Path, current: &Current) -> Result<()> {
    replace(env, dir, FileKind::CurrentTemp, FileKind::Current, &current.encode())?;
    env.sync_dir(dir)
}

/// What the store is. IDENTITY that is missing or damaged is corruption.
pub fn read_identity(env: &Env, dir: &Path) -> Result<Identity> {
    let path = FileKind::Identity.path(dir);
    let bytes = match env.read_file(&path, IDENTITY_LEN as u64) {
        Err(error) if error.is_not_found() => {
            return Err(Error::corruption(&path, 0, "the identity of the store, found no file"));
        }
        read => read?,
    };
    match Identity::decode(&bytes) {
        None => Err(Error::corruption(&path, 0, "the identity of the store with a checksum that matches")),
        Some(Identity { format_version: found, .. }) if found > FORMAT_VERSION => {
            Err(Error::NewerFormat { path, found, supported: FORMAT_VERSION })
        }
        Some(Identity { format_version: 0, .. }) => {
            Err(Error::corruption(&path, 8, format!("a format version of {FORMAT_VERSION_OLDEST} or more, found 0")))
        }
        Some(identity) => Ok(identity),
    }
}

/// Says what the store is. The file is durable, and its name is with the next sync of the directory: one comes before CURRENT
/// makes this a store.
pub fn write_identity(env: &Env, dir: &Path, identity: &Identity) -> Result<()> {
    replace(env, dir, FileKind::IdentityTemp, FileKind::Identity, &identity.encode())
}

/// Replaces a small file as a whole: whoever looks, now or after a power cut, sees the old content or the new one. Which one
/// after a power cut, is for a sync of the directory to say.
#[track_caller]
fn replace(env: &Env, dir: &Path, temp: FileKind, kind: FileKind, content: &[u8]) -> Result<()> {
    let temp = temp.path(dir);
    let file = env.open(&temp, OpenMode::CreateOrTruncate)?;
    file.write_all_at(content, 0)?;
    file.sync_data()?;
    // Closed first: there are systems on which a file that is open cannot be renamed.
    drop(file);
    env.rename(&temp, &kind.path(dir))
}
