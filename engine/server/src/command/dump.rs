//! The files of a store as text, for whoever wants to know what is in them. Reads one file and nothing else, takes no lock and
//! changes nothing, so the store may be open or damaged.

use crate::escape::escape;
use crate::out::{Failure, Out};
use bytes::Bytes;
use clap::Args;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use strata::batch;
use strata::blob::{BlobFile, BlobMeta, BlobRecords};
use strata::cache::BlockCache;
use strata::env::{Env, File, OpenMode};
use strata::error::Error;
use strata::filename::FileKind;
use strata::iter::InternalIterator;
use strata::key::{BlobReference, EXPIRES_NEVER, EXPIRY_LEN, InternalKey, KEYSPACE_DEFAULT, Kind, expiry_of};
use strata::manifest::VersionEdit;
use strata::manifest::format::{CURRENT_LEN, Current, IDENTITY_LEN, Identity};
use strata::options::KeyspaceOptions;
use strata::record::format::{FILE_HEADER_LEN, FileHeader, record_tag};
use strata::record::{Record, RecordReader};
use strata::sst::Table;
use strata::wal::{KIND_BATCH, KIND_CLOSE, KIND_KEYSPACES, KIND_MARK, KIND_STAMP, KeptWal};

#[derive(Args)]
pub(super) struct DumpArgs {
    /// A file of a store, under the name that it has there.
    file: PathBuf,
}

/// Damage ends the text and is a no.
pub(super) fn dump(args: &DumpArgs, out: &mut Out) -> Result<bool, Failure> {
    let env = Env::os();
    let path = args.file.as_path();
    let kind = path.file_name().and_then(|name| name.to_str()).and_then(FileKind::parse);
    let Some(kind) = kind else {
        return Err(Failure::Usage(format!(
            "{} has no name of a file of a store, which tells what is in it: such as 000012.wal, 000012.sst, 000012.blob, \
             MANIFEST-000012, CURRENT or IDENTITY",
            path.display()
        )));
    };
    let dumped = match kind {
        FileKind::Wal(number) => records(&env, path, number, &mut |record, out| log_record(path, record, out), out),
        FileKind::Manifest(number) => {
            records(&env, path, number, &mut |record, out| manifest_record(path, record, out), out)
        }
        FileKind::Sst(number) => table(&env, path, number, out),
        FileKind::Blob(number) => blob(&env, path, number, out),
        FileKind::Current | FileKind::CurrentTemp => current(&env, path, out),
        FileKind::Identity | FileKind::IdentityTemp => identity(&env, path, out),
        FileKind::Lock => say(out, "a lock file, which holds nothing".into()),
        FileKind::Reserve | FileKind::ReserveTemp => say(out, "a reserve of space, whose bytes mean nothing".into()),
    };
    match dumped {
        Ok(()) => Ok(true),
        Err(Failure::Store(error)) if error.is_corruption() => {
            say(out, error.to_string())?;
            Ok(false)
        }
        Err(failure) => Err(failure),
    }
}

/// A line; in JSON, the same line as a string.
fn say(out: &mut Out, line: String) -> Result<(), Failure> {
    out.say(|| line.clone(), || json!(line))
}

fn header(file: &File, path: &Path) -> Result<FileHeader, Failure> {
    let bytes = file.read_vec_at(0, file.len()?.min(FILE_HEADER_LEN as u64) as usize)?;
    Ok(FileHeader::decode(&bytes).ok_or_else(|| Error::corruption(path, 0, "a whole file header"))?)
}

fn records(
    env: &Env,
    path: &Path,
    number: u64,
    each: &mut dyn FnMut(&Record, &mut Out) -> Result<(), Failure>,
    out: &mut Out,
) -> Result<(), Failure> {
    let file = env.open(path, OpenMode::Read)?;
    let len = file.len()?;
    let header = header(&file, path)?;
    say(
        out,
        format!(
            "{}, version {}, store {}, number {}, first {}",
            escape(&header.magic),
            header.version,
            header.store,
            header.number,
            header.first
        ),
    )?;
    let mut reader = RecordReader::new(file, record_tag(header.store, number), FILE_HEADER_LEN as u64, len);
    while let Some(record) = reader.next()? {
        each(&record, out)?;
    }
    let tail = reader.tail();
    if tail.dropped_bytes > 0 {
        let (at, bytes) = (tail.offset, tail.dropped_bytes);
        say(out, format!("@{at} {bytes} bytes that are no whole record, and that were never synced"))?;
    }
    Ok(())
}

fn log_record(path: &Path, record: &Record, out: &mut Out) -> Result<(), Failure> {
    let Record { offset, seq, synced_offset, .. } = *record;
    match record.kind {
        KIND_BATCH => {
            let damage = || Error::corruption(path, offset, "a batch of whole entries");
            let (count, entries) = record.payload.split_first_chunk().ok_or_else(damage)?;
            let count = u32::from_le_bytes(*count);
            say(out, format!("@{offset} batch of {count} at {seq}, synced up to {synced_offset}"))?;
            for entry in batch::decode(Bytes::copy_from_slice(entries), count) {
                let entry = entry.ok_or_else(damage)?;
                let keyspace = match entry.keyspace {
                    KEYSPACE_DEFAULT => String::new(),
                    other => format!("keyspace {other}: "),
                };
                say(out, format!("  {keyspace}{}", entry_text(entry.kind, &entry.key, &entry.value)))?;
            }
            Ok(())
        }
        KIND_MARK => say(out, format!("@{offset} mark at {seq}, synced up to {synced_offset}")),
        KIND_CLOSE => say(out, format!("@{offset} closed at {seq}")),
        KIND_STAMP => {
            let wall_ms = record.payload.first_chunk().map(|ms| u64::from_le_bytes(*ms));
            let wall_ms = wall_ms.ok_or_else(|| Error::corruption(path, offset, "a time of 8 bytes"))?;
            say(out, format!("@{offset} stamp at {seq}: {wall_ms} ms"))
        }
        KIND_KEYSPACES => {
            let edit = VersionEdit::decode(&record.payload);
            let edit = edit.map_err(|expected| Error::corruption(path, offset, expected))?;
            say(out, format!("@{offset} for an archive, begun at {seq} with"))?;
            edit_text(&edit, out)
        }
        kind => say(out, format!("@{offset} record of the unknown kind {kind}")),
    }
}

fn entry_text(kind: Kind, key: &[u8], value: &[u8]) -> String {
    match kind {
        Kind::Put => format!("put {}\t{}", escape(key), escape(value)),
        Kind::Delete => format!("delete {}", escape(key)),
        Kind::Merge => format!("merge {}\t{}", escape(key), escape(value)),
        Kind::PutExpiring if value.len() >= EXPIRY_LEN => {
            let (expiry, value) = value.split_at(EXPIRY_LEN);
            let expires_ms = expiry_of(expiry).unwrap_or(EXPIRES_NEVER);
            format!("put until {expires_ms} {}\t{}", escape(key), escape(value))
        }
        Kind::BlobReference => match BlobReference::decode(value) {
            Some(BlobReference { expires_ms, file, offset, len, .. }) => {
                let until = if expires_ms == EXPIRES_NEVER { String::new() } else { format!("until {expires_ms} ") };
                format!("put {until}{}\t{len} bytes in blob file {file} @{offset}", escape(key))
            }
            None => format!("{kind:?} {}\t{}", escape(key), escape(value)),
        },
        Kind::RangeDelete => format!("delete-range {}\t{}", escape(key), escape(value)),
        kind => format!("{kind:?} {}\t{}", escape(key), escape(value)),
    }
}

/// What a keyspace has otherwise than its store, in a line.
fn keyspace_options(options: &KeyspaceOptions) -> String {
    let number = |name: &str, value: Option<u64>| value.map(|value| format!("{name} {value}"));
    let all = [
        options.compression.as_ref().map(|levels| format!("compression {levels:?}")),
        number("block bytes", options.block_bytes.map(|bytes| bytes as u64)),
        number("restart interval", options.restart_interval.map(|entries| entries as u64)),
        number("filter bits per key", options.filter_bits_per_key.map(u64::from)),
        number("level base bytes", options.level_base_bytes),
        number("level multiplier", options.level_multiplier),
        number("table bytes", options.table_bytes),
        number("blob threshold", options.blob_threshold),
        options.merge_operator.as_ref().map(|name| format!("merge operator {name:?}")),
    ];
    let named: Vec<String> = all.into_iter().flatten().collect();
    if named.is_empty() { "with the options of the store".into() } else { named.join(", ") }
}

fn manifest_record(path: &Path, record: &Record, out: &mut Out) -> Result<(), Failure> {
    let edit =
        VersionEdit::decode(&record.payload).map_err(|expected| Error::corruption(path, record.offset, expected))?;
    let what = if record.seq == 0 { "snapshot" } else { "edit" };
    say(out, format!("@{} {what} {}", record.offset, record.seq))?;
    edit_text(&edit, out)
}

fn edit_text(edit: &VersionEdit, out: &mut Out) -> Result<(), Failure> {
    let number = |name: &str, number: Option<u64>| number.map(|number| format!("{name} {number}"));
    let mut lines: Vec<String> = Vec::new();
    lines.extend(number("next file", edit.next_file));
    lines.extend(number("last seqno", edit.last_seqno));
    lines.extend(edit.levels.map(|levels| format!("levels {levels}")));
    lines.extend(edit.next_keyspace.map(|next| format!("next keyspace {next}")));
    lines.extend(edit.keyspaces_dropped.iter().map(|id| format!("keyspace {id} dropped")));
    lines.extend(edit.keyspaces_set.iter().map(|set| {
        let (id, name) = (set.id, set.name.escape_default());
        format!("keyspace {id} \"{name}\" set, {}", keyspace_options(&set.options))
    }));
    lines.extend(edit.merge_operator.iter().map(|name| format!("merge operator {name:?}")));
    lines.extend(number("time", edit.time_ms));
    lines.extend(edit.wals_added.iter().map(|log| format!("log {log} added")));
    lines.extend(
        edit.wals_closed
            .iter()
            .map(|log| format!("log {} closed, {} bytes up to seqno {}", log.number, log.bytes, log.last_seqno)),
    );
    lines.extend(edit.wals_removed.iter().map(|log| format!("log {log} removed")));
    lines.extend(edit.history.map(|history| format!("history {history} is archived")));
    lines.extend(edit.wals_kept.iter().map(|log| {
        let KeptWal { number, bytes, first_seqno, last_seqno } = log;
        format!("log {number} kept for the archive, {bytes} bytes for seqnos {first_seqno} to {last_seqno}")
    }));
    lines.extend(edit.wals_let_go.iter().map(|log| format!("log {log} let go")));
    lines.extend(edit.blobs_added.iter().map(|blob| {
        let BlobMeta { number, keyspace, bytes, values, value_bytes, .. } = blob;
        format!("blob file {number} of keyspace {keyspace} added, {values} values of {value_bytes} bytes in {bytes}")
    }));
    lines.extend(edit.blobs_removed.iter().map(|blob| format!("blob file {blob} removed")));
    lines.extend(edit.removed.iter().map(|(level, table)| format!("level {level}: table {table} removed")));
    lines.extend(edit.added.iter().map(|(level, table)| format!("level {level}: {table:?} added")));
    lines.into_iter().try_for_each(|line| say(out, format!("  {line}")))
}

fn table(env: &Env, path: &Path, number: u64, out: &mut Out) -> Result<(), Failure> {
    let file = env.open(path, OpenMode::Read)?;
    let bytes = file.len()?;
    let table = Arc::new(Table::open(file, number, bytes, Arc::new(BlockCache::new(0)))?);
    let found = table.properties();
    say(
        out,
        format!(
            "table {number} of keyspace {}, version {}, {bytes} bytes in {} blocks, compression {:?}, {} filter bits per key, {} entries, \
             {} deletes, {} range deletes, {} that expire, seqnos {} to {}",
            found.keyspace,
            found.format_version,
            found.data_blocks,
            found.compression,
            found.filter_bits_per_key,
            found.entries,
            found.deletes,
            found.range_deletes,
            found.expiring.map_or(0, |expiring| expiring.count),
            found.seqno_min,
            found.seqno_max
        ),
    )?;
    let mut iter = table.iter(false);
    iter.seek_to_first()?;
    while iter.valid() {
        let key = InternalKey::decode(iter.key());
        let key = key.ok_or_else(|| Error::corruption(path, 0, "whole internal keys"))?;
        say(out, format!("{} {}", key.seqno, entry_text(key.kind, key.user, &iter.value())))?;
        iter.next()?;
    }
    for fragment in table.fragments().iter() {
        for seqno in fragment.seqnos.iter() {
            say(out, format!("{seqno} {}", entry_text(Kind::RangeDelete, &fragment.start, &fragment.end)))?;
        }
    }
    Ok(())
}

/// The values of a blob file, up to the first that is not whole.
fn blob(env: &Env, path: &Path, number: u64, out: &mut Out) -> Result<(), Failure> {
    let file = env.open(path, OpenMode::Read)?;
    let header = header(&file, path)?;
    let opened = BlobFile::open(file, number)?;
    say(
        out,
        format!(
            "{}, version {}, store {}, number {}, keyspace {}, {} bytes",
            escape(&header.magic),
            header.version,
            header.store,
            header.number,
            header.first,
            opened.bytes()
        ),
    )?;
    let mut records = BlobRecords::of(opened);
    while let Some(record) = records.next_record()? {
        say(out, format!("@{} {}\t{}", record.offset, escape(&record.key), escape(&record.value)))?;
    }
    Ok(())
}

fn current(env: &Env, path: &Path, out: &mut Out) -> Result<(), Failure> {
    let bytes = env.read_file(path, CURRENT_LEN as u64)?;
    let (version, current) =
        Current::decode(&bytes).ok_or_else(|| Error::corruption(path, 0, "a checksum that matches"))?;
    let manifest = FileKind::Manifest(current.manifest).name();
    let Current { store, snapshot_bytes, snapshot_checksum, .. } = current;
    let line = format!(
        "{manifest} counts, version {version}, store {store}, snapshot of {snapshot_bytes} bytes with checksum \
         {snapshot_checksum:#010x}"
    );
    say(out, line)
}

fn identity(env: &Env, path: &Path, out: &mut Out) -> Result<(), Failure> {
    let bytes = env.read_file(path, IDENTITY_LEN as u64)?;
    let identity = Identity::decode(&bytes).ok_or_else(|| Error::corruption(path, 0, "a checksum that matches"))?;
    say(out, format!("store {}, format version {}", identity.store, identity.format_version))
}
