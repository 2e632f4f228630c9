//! The list of a backup.

use crate::seeds::Seed;
use strata::backup::BackupList;
use strata::manifest::VersionEdit;
use strata::record::format::Uuid;
use strata::wal::ClosedWal;

/// What header and record of a list say beside the payload.
const FIELDS: (u64, Uuid, u64, u64) = (3, Uuid([7; 16]), 12, 99);

/// The payload of the list of a backup.
pub fn backup(data: &[u8]) {
    let Ok(list) = BackupList::decode(FIELDS, data) else { return };
    let edit = &list.edit;
    assert_eq!(list.files().count(), edit.added.len() + edit.blobs_added.len() + edit.wals_closed.len());
    let again = BackupList::decode(FIELDS, &list.encode());
    assert_eq!(again.as_ref(), Ok(&list), "the same list, encoded again");
}

/// Inputs to begin with.
pub(crate) fn seeds() -> Vec<Seed> {
    let (number, store, manifest, seqno) = FIELDS;
    let edit = VersionEdit {
        next_file: Some(13),
        last_seqno: Some(seqno),
        levels: Some(7),
        wals_added: vec![10, 11],
        wals_closed: [10, 11].map(|number| ClosedWal { number, bytes: 48 * number, last_seqno: 9 * number }).to_vec(),
        ..VersionEdit::default()
    };
    let log_checksums = vec![1, 0xdead_beef];
    let list =
        BackupList { number, store, format_version: 1, seqno, wall_ms: 1_234_567, manifest, edit, log_checksums };
    vec![Seed { target: "backup", name: "two-logs", bytes: list.encode() }]
}
