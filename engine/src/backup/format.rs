//! The bytes of the list of a backup, and the names of the files in a directory of backups.
//!
//! ```text
//! BACKUP-NNNNNN                   the list of one backup: a file of records with one record
//!
//! file header   magic "STRATABK", store: whose backup it is, number: the one in its name, first: a number for the manifest
//! kind 1        seq = the newest write in it
//!               payload: wall clock ms u64 | format version of the store u32 | length of the edit u32 | edit
//!                        | checksum u32 of each closed log, in the order of the edit
//!
//! NNNNNN-BYTES-CHECKSUM.sst       a table: its number, length, and masked CRC-32 in hexadecimal
//! NNNNNN-BYTES-CHECKSUM.blob      a blob file: the same
//! NNNNNN-BYTES-CHECKSUM.wal       a log, as far as it counts: the same
//! LOCK                            held by who works on the directory
//! *.tmp                           what is being written
//! ```
//!
//! The edit is a snapshot as in a manifest: it names every table and log of the backup. A file is known by all three numbers,
//! because a store that was restored uses the numbers of its files anew.

use crate::coding::{Decoder, put_u32, put_u64};
use crate::filename::FileKind;
use crate::key::SeqNo;
use crate::manifest::edit::VersionEdit;
use crate::record::Uuid;
use std::path::{Path, PathBuf};

/// How a list begins.
pub const MAGIC: [u8; 8] = *b"STRATABK";

/// The version of the format of a list.
pub const VERSION: u32 = 1;

/// The kind of its one record.
pub const KIND_LIST: u8 = 1;

/// Ends the name of what is being written.
const TEMP: &str = ".tmp";

/// What is in a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupList {
    /// Its number.
    pub number: u64,
    /// Of which store.
    pub store: Uuid,
    /// The format version of that store.
    pub format_version: u32,
    /// The newest write in it.
    pub seqno: SeqNo,
    /// When it was begun, by the clock on the wall, in milliseconds since the Unix epoch.
    pub wall_ms: u64,
    /// A number for the manifest of a store that is made of it.
    pub manifest: u64,
    /// Its tables and logs, as the first record of that manifest.
    pub edit: VersionEdit,
    /// The checksum of each log, as far as it counts.
    pub log_checksums: Vec<u32>,
}

/// A file of a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BackupFile {
    /// What it is, and its number in the store.
    pub kind: FileKind,
    /// Its length.
    pub bytes: u64,
    /// Masked CRC-32 of all of it.
    pub checksum: u32,
}

impl BackupFile {
    /// Its name among the backups.
    pub fn name(&self) -> String {
        let name = self.kind.name();
        let (number, ending) = name.split_once('.').expect("tables, blob files and logs have names of this form");
        format!("{number}-{}-{:08x}.{ending}", self.bytes, self.checksum)
    }
}

impl BackupList {
    /// Tables first, then blob files, and then logs.
    pub fn files(&self) -> impl Iterator<Item = BackupFile> {
        let tables = self.edit.added.iter().map(|(_, table)| BackupFile {
            kind: FileKind::Sst(table.number),
            bytes: table.bytes,
            checksum: table.checksum,
        });
        let logs = self.edit.wals_closed.iter().zip(&self.log_checksums).map(|(log, &checksum)| BackupFile {
            kind: FileKind::Wal(log.number),
            bytes: log.bytes,
            checksum,
        });
        let blobs = self.edit.blobs_added.iter().map(|blob| BackupFile {
            kind: FileKind::Blob(blob.number),
            bytes: blob.bytes,
            checksum: blob.checksum,
        });
        tables.chain(blobs).chain(logs)
    }

    /// The payload of the record.
    pub fn encode(&self) -> Vec<u8> {
        let edit = self.edit.encode();
        let mut out = Vec::with_capacity(16 + edit.len() + 4 * self.log_checksums.len());
        put_u64(&mut out, self.wall_ms);
        put_u32(&mut out, self.format_version);
        put_u32(&mut out, u32::try_from(edit.len()).expect("a record is shorter than 4 GiB"));
        out.extend_from_slice(&edit);
        self.log_checksums.iter().for_each(|&checksum| put_u32(&mut out, checksum));
        out
    }

    /// From the payload, and what header and record say; an error says what was expected.
    pub fn decode(
        (number, store, manifest, seqno): (u64, Uuid, u64, SeqNo),
        payload: &[u8],
    ) -> Result<BackupList, String> {
        let mut decoder = Decoder::new(payload);
        let mut fixed = || Some((decoder.u64()?, decoder.u32()?, decoder.u32()?));
        let (wall_ms, format_version, len) = fixed().ok_or("a time, a format version and an edit")?;
        let edit = decoder.take(len as usize).ok_or_else(|| format!("an edit of {len} bytes"))?;
        let edit = VersionEdit::decode(edit)?;
        let logs = edit.wals_closed.len();
        if edit.wals_added.len() != logs || decoder.rest().len() != 4 * logs {
            return Err(format!("{logs} closed logs, and a checksum for each"));
        }
        let log_checksums = std::iter::from_fn(|| decoder.u32()).collect();
        Ok(BackupList { number, store, format_version, seqno, wall_ms, manifest, edit, log_checksums })
    }
}

/// The path of the list with this number.
pub(super) fn list_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("BACKUP-{number:06}"))
}

/// The number in the name of a list.
pub(super) fn list_number(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("BACKUP-")?;
    digits.parse().ok().filter(|number| format!("{number:06}") == digits)
}

/// What is written under this name until it is whole.
pub(super) fn temp_of(path: &Path) -> PathBuf {
    let mut name = path.file_name().expect("the path of a file").to_os_string();
    name.push(TEMP);
    path.with_file_name(name)
}

/// Whether a name is that of something that was never finished.
pub(super) fn is_temp(name: &str) -> bool {
    name.strip_suffix(TEMP).is_some_and(|name| is_file(name) || list_number(name).is_some())
}

/// Whether a name is that of a table or log of a backup.
pub(super) fn is_file(name: &str) -> bool {
    let Some((numbers, ending)) = name.split_once('.') else { return false };
    let parts: Vec<&str> = numbers.split('-').collect();
    let hex = |part: &str| part.len() == 8 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    match parts[..] {
        [number, bytes, checksum] => {
            let kind = FileKind::parse(&format!("{number}.{ending}"));
            matches!(kind, Some(FileKind::Sst(_) | FileKind::Blob(_) | FileKind::Wal(_)))
                && bytes.parse::<u64>().is_ok()
                && hex(checksum)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wal::ClosedWal;

    fn list() -> BackupList {
        BackupList {
            number: 3,
            store: Uuid([7; 16]),
            format_version: 1,
            seqno: 99,
            wall_ms: 1_234_567,
            manifest: 12,
            edit: VersionEdit {
                next_file: Some(13),
                last_seqno: Some(99),
                levels: Some(7),
                wals_added: vec![11],
                wals_closed: vec![ClosedWal { number: 11, bytes: 480, last_seqno: 99 }],
                ..VersionEdit::default()
            },
            log_checksums: vec![0xdead_beef],
        }
    }

    #[test]
    fn a_list_reads_back_and_one_that_was_cut_does_not() {
        let list = list();
        let fields = (list.number, list.store, list.manifest, list.seqno);
        let payload = list.encode();
        assert_eq!(BackupList::decode(fields, &payload).as_ref(), Ok(&list));
        for len in 0..payload.len() {
            BackupList::decode(fields, &payload[..len]).expect_err("a part of a list is no list");
        }
    }

    #[test]
    fn names_of_ours_are_known_and_others_are_left_alone() {
        let file = list().files().next().expect("a log");
        assert_eq!(file.name(), "000011-480-deadbeef.wal");
        for name in [file.name(), "1000000-0-00000000.sst".into(), "000012-99-0000beef.blob".into()] {
            assert!(is_file(&name) && is_temp(&format!("{name}.tmp")) && !is_temp(&name), "{name}");
        }
        assert_eq!(list_number("BACKUP-000003"), Some(3));
        assert!(is_temp("BACKUP-000003.tmp"));
        for foreign in
            ["BACKUP-3", "BACKUP-", "notes.tmp", "000011.wal", "000011-480-dead.wal", "a-1-00000000.sst", "LOCK"]
        {
            assert!(list_number(foreign).is_none() && !is_file(foreign) && !is_temp(foreign), "{foreign}");
        }
    }
}
