//! The files that make up a store at one moment, held while somebody links or copies them.
//!
//! P1. The moment is one at which nobody writes: all logs but the newest are closed and synced, and the newest is synced up to
//!     the length that is noted. What the store adds to it later lies behind that length and is ignored by a replay.
//! P2. Tables and blob files are held by the catalog that lists them, as a reader holds them. Logs are held by number, because nobody reads them.
//! P3. None of the files ever changes below the length that is noted: tables and closed logs are done, and the newest log is
//!     only appended to.

use crate::db::state::State;
use crate::db::write;
use crate::error::Result;
use crate::filename::FileKind;
use crate::key::SeqNo;
use crate::manifest::catalog::Catalog;
use crate::manifest::edit::VersionEdit;
use crate::record::Uuid;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The files of a store at one moment. None of them is removed before this is dropped, nor changed as far as it counts, so let
/// go of it: it keeps the space of what is compacted away meanwhile. Closing the store ends the protection.
pub struct PinnedFiles {
    state: Arc<State>,
    /// Holds the tables and blob files.
    _catalog: Arc<Catalog>,
    list: VersionEdit,
    manifest: u64,
    seqno: SeqNo,
    history: Option<Uuid>,
}

/// One of [`PinnedFiles`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PinnedFile {
    /// Its name in the store's directory.
    pub kind: FileKind,
    /// Where it is.
    pub path: PathBuf,
    /// So many bytes of it count. A table has no others; the newest log may become longer.
    pub bytes: u64,
    /// The masked CRC-32 of all bytes of a table or blob file, as the manifest has it.
    pub checksum: Option<u32>,
}

impl PinnedFiles {
    pub(crate) fn take(state: &Arc<State>) -> Result<PinnedFiles> {
        write::sync_and_look(state, |newest, last_seqno| {
            let versions = state.versions.lock();
            let manifest = versions.new_file_number();
            let mut list = versions.snapshot();
            // Logs for the archive, and the right to write them, stay with the store.
            list.wals_kept.clear();
            let history = list.history.take().filter(|_| state.archives());
            list.last_seqno = list.last_seqno.max(Some(last_seqno));
            list.wals_closed.push(newest);
            let (known, listed) = (list.wals_closed.len(), list.wals_added.len());
            assert_eq!(known, listed, "P1: of {listed} logs, {known} are closed or the newest");
            let mut work = state.work.lock();
            for &number in &list.wals_added {
                *work.pinned_wals.entry(number).or_insert(0) += 1;
            }
            PinnedFiles {
                state: state.clone(),
                _catalog: versions.current().clone(),
                list,
                manifest,
                seqno: state.visible.load(Ordering::Acquire),
                history,
            }
        })
    }

    /// The newest write that the files hold.
    pub fn seqno(&self) -> SeqNo {
        self.seqno
    }

    /// Which store this is.
    pub fn store(&self) -> Uuid {
        self.state.store
    }

    /// What the first record of a manifest must say that lists these files and no others.
    pub fn list(&self) -> &VersionEdit {
        &self.list
    }

    /// The history under which the store archives what is written to it behind these files; `None` where it archives nothing.
    pub fn history(&self) -> Option<Uuid> {
        self.history
    }

    /// A number for that manifest, which no file of the store has.
    pub fn manifest(&self) -> u64 {
        self.manifest
    }

    /// Every table, blob file and log, in this order.
    pub fn files(&self) -> impl Iterator<Item = PinnedFile> {
        let file =
            |kind: FileKind, bytes, checksum| PinnedFile { kind, path: kind.path(&self.state.dir), bytes, checksum };
        let (tables, blobs) = (self.list.added.iter(), self.list.blobs_added.iter());
        let logs = self.list.wals_closed.iter();
        tables
            .map(move |(_, table)| file(FileKind::Sst(table.number), table.bytes, Some(table.checksum)))
            .chain(blobs.map(move |blob| file(FileKind::Blob(blob.number), blob.bytes, Some(blob.checksum))))
            .chain(logs.map(move |log| file(FileKind::Wal(log.number), log.bytes, None)))
    }
}

impl Drop for PinnedFiles {
    fn drop(&mut self) {
        let mut work = self.state.work.lock();
        for number in &self.list.wals_added {
            let holders = work.pinned_wals.get_mut(number).expect("a log is pinned as long as this lives");
            *holders -= 1;
            if *holders == 0 {
                work.pinned_wals.remove(number);
            }
        }
        work.released = true;
        drop(work);
        self.state.work_changed.notify_all();
    }
}

impl fmt::Debug for PinnedFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PinnedFiles({} at seqno {})", self.files().count(), self.seqno)
    }
}
