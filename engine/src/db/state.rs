//! The state of an open store, each part in one place and inside the lock that guards it.
//!
//! Locks are taken in this order, and none is taken while a later one is held:
//! `commit`, `versions`, `work`, `snapshots`, the reserve, the health. The commit queue's locks are held for a few
//! instructions, around no other.
//!
//! S1. Whoever loads a [`ReadView`] and then sees it still current after reading `visible` has a consistent picture: the view
//!     holds every entry up to that seqno that any reader at it may see. Where the view says to read further on, it holds all
//!     up to there.
//! S2. Entries are in the memtable before `visible` covers them; nothing that failed is in a memtable.
//! S3. A generation of memtables is dropped from the view in the same step in which its tables enter it.
//! S4. A frozen generation's log is removed from the manifest by the edit that adds its tables, never before. Such an edit says
//!     the last seqno that the log can hold, also of writes that failed.
//! S5. A keyspace comes and goes under the commit lock, so that no write is under way to one that is gone. Tables that a flush or
//!     a compaction made for it come to nothing when it went meanwhile. What a snapshot may still ask for is kept aside.

use crate::blob::BlobFiles;
use crate::cache::BlockCache;
use crate::compaction::plan::Claim;
use crate::compaction::rate::Bucket;
use crate::compaction::readers::{Reader, Readers};
use crate::db::health::{Part, Vitals};
use crate::db::meter::Meters;
use crate::db::reserve::Reserve;
use crate::db::time::StoreTime;
use crate::env::{Env, FileLock};
use crate::error::{Error, Result};
use crate::event::{Event, Events};
use crate::filename::FileKind;
use crate::key::{KeyspaceId, SeqNo};
use crate::manifest::catalog::{Catalog, CatalogEntry};
use crate::manifest::edit::VersionEdit;
use crate::manifest::set::{FileNumbers, VersionSet};
use crate::mark::sometimes;
use crate::memtable::{Generation, Memtable};
use crate::options::Options;
use crate::record::Uuid;
use crate::sst::TableCache;
use crate::sync::{Condvar, Mutex, MutexGuard};
use crate::wal::{KeptWal, WalWriter};
use arc_swap::ArcSwap;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Everything that the parts of an open store share.
pub(crate) struct State {
    pub(crate) env: Env,
    pub(crate) dir: PathBuf,
    pub(crate) store: Uuid,
    pub(crate) options: Options,
    pub(crate) events: Events,
    pub(crate) tables: Arc<TableCache>,
    pub(crate) blobs: Arc<BlobFiles>,
    pub(crate) view: ArcSwap<ReadView>,
    /// The last seqno of the writes that a reader may see.
    pub(crate) visible: AtomicU64,
    /// Bytes in the log that is being written.
    pub(crate) wal_bytes: AtomicU64,
    pub(crate) commit: Mutex<Commit>,
    pub(crate) versions: Mutex<VersionSet>,
    pub(crate) numbers: Arc<FileNumbers>,
    pub(crate) work: Mutex<Work>,
    /// Announces every change of `work` and of the view.
    pub(crate) work_changed: Condvar,
    pub(crate) snapshots: Mutex<Snapshots>,
    /// The tables that were [discarded](crate::db::Db::discard_quarantined) since the store was opened.
    pub(crate) discarded: Mutex<BTreeSet<u64>>,
    pub(crate) time: StoreTime,
    /// Whether tables that have expired wait for a snapshot to go.
    pub(crate) sweep_waits: AtomicBool,
    pub(crate) counters: Counters,
    pub(crate) meters: Meters,
    /// How fast background work may write, where there is a limit.
    pub(crate) rate: Option<Mutex<Bucket>>,
    /// How the store is.
    pub(crate) vitals: Vitals,
    pub(crate) reserve: Reserve,
    pub(crate) closed: AtomicBool,
    /// Held until the store is closed.
    pub(crate) lock: Mutex<Option<Box<dyn FileLock>>>,
}

/// What a reader reads, newest first: immutable, swapped as a whole.
pub(crate) struct ReadView {
    /// The memtables that are being written.
    pub(crate) memtable: Arc<Generation>,
    /// Memtables that wait for their flush, newest first.
    pub(crate) frozen: Vec<Arc<Frozen>>,
    /// The keyspaces and their tables.
    pub(crate) catalog: Arc<Catalog>,
    /// Whether any table holds range deletes.
    pub(crate) has_range_deletes: bool,
    /// Readers read at this seqno or above: that of the last drop of a keyspace, which has its effect when the view is swapped.
    pub(crate) reads_from: SeqNo,
}

impl ReadView {
    /// The keyspace with this number.
    #[inline]
    pub(crate) fn keyspace(&self, id: KeyspaceId) -> Result<&CatalogEntry> {
        self.catalog.get(id).ok_or_else(|| Error::NoSuchKeyspace { keyspace: id.to_string() })
    }

    /// The memtables of a keyspace, newest first.
    pub(crate) fn memtables(&self, keyspace: KeyspaceId) -> impl Iterator<Item = Arc<Memtable>> {
        let all = std::iter::once(&self.memtable).chain(self.frozen.iter().map(|frozen| &frozen.memtable));
        all.filter_map(move |generation| generation.of(keyspace))
    }

    /// What there is of this keyspace, alone. Nobody may write to it any more.
    pub(crate) fn only(&self, keyspace: KeyspaceId) -> ReadView {
        let only_of = |frozen: &Arc<Frozen>| {
            let memtable = Arc::new(frozen.memtable.only(keyspace));
            Arc::new(Frozen { memtable, ..Frozen::clone(frozen) })
        };
        ReadView {
            memtable: Arc::new(self.memtable.only(keyspace)),
            frozen: self.frozen.iter().map(only_of).collect(),
            catalog: Arc::new(self.catalog.only(keyspace)),
            has_range_deletes: self.has_range_deletes,
            reads_from: self.reads_from,
        }
    }
}

/// The snapshots that are held, and what only they can see.
#[derive(Default)]
pub(crate) struct Snapshots {
    /// How many there are of each.
    pub(crate) holders: BTreeMap<Reader, usize>,
    /// Keyspaces that were dropped after one of them was taken.
    pub(crate) dropped: Vec<Dropped>,
}

/// A keyspace as it was when it was dropped.
pub(crate) struct Dropped {
    pub(crate) keyspace: KeyspaceId,
    /// The number of the drop among the writes.
    pub(crate) seqno: SeqNo,
    pub(crate) view: Arc<ReadView>,
}

/// Memtables that take no more writes.
#[derive(Clone)]
pub(crate) struct Frozen {
    pub(crate) memtable: Arc<Generation>,
    /// The log that holds the same entries.
    pub(crate) wal: u64,
    /// The last seqno that can be in that log, those of failed writes counted.
    pub(crate) last_seqno: SeqNo,
    /// What the archive is to have of that log, where there is an archive.
    pub(crate) kept: Option<KeptWal>,
}

/// What the one who writes to the log owns.
pub(crate) struct Commit {
    /// The log that is being written; `None` after it failed, until a new one has been begun, and after closing.
    pub(crate) wal: Option<WalWriter>,
    /// The number of the log that belongs to the active memtable, also after it failed.
    pub(crate) wal_number: u64,
    /// The first seqno that this log can hold, or that of the drop of a keyspace with which it begins.
    pub(crate) wal_first_seqno: SeqNo,
    /// So many bytes of this log hold what was acknowledged, and nothing else.
    pub(crate) wal_acknowledged: u64,
    /// The newest stamp in this log.
    pub(crate) stamp_ms: u64,
    /// The seqno of the next entry. Numbers of a failed write are not used again.
    pub(crate) next_seqno: SeqNo,
    /// Why there is no log.
    pub(crate) failure: Option<Error>,
    /// When entries that are not synced must be, at the latest.
    pub(crate) sync_due: Option<Duration>,
}

/// What background tasks and those who wait for them share.
#[derive(Default)]
pub(crate) struct Work {
    pub(crate) shutting_down: bool,
    /// The log failed: flush everything, then begin a new one.
    pub(crate) resume_due: bool,
    /// Whether a task flushes or resumes.
    pub(crate) flushing: bool,
    /// Compactions that run.
    pub(crate) running: Vec<Claim>,
    /// Compactions that people asked for and that wait for others to end: no new automatic ones meanwhile.
    pub(crate) manual_waiting: usize,
    /// For each level of each keyspace that was compacted, the largest user key that its last compaction took.
    pub(crate) cursors: BTreeMap<KeyspaceId, Vec<Vec<u8>>>,
    /// The last failure of a flush or resume, until one succeeds; and when to try again.
    pub(crate) flush_failure: Option<Failure>,
    /// The last failure of a compaction, until one succeeds; and when to try again.
    pub(crate) compaction_failure: Option<Failure>,
    /// Compactions that failed in a row, with none between them that succeeded.
    pub(crate) compactions_failed: u32,
    /// The table of the last compaction that met damage in a table that is whole.
    pub(crate) forgiven: Option<u64>,
    /// Blob files of which a value could not be moved because it is damaged, until the store is closed.
    pub(crate) damaged_blobs: BTreeSet<u64>,
    /// Counts attempts at flushing that failed: who waits for a flush sees that one failed after it began to wait.
    pub(crate) flushes_failed: u64,
    /// Whether a log may wait for the archive.
    pub(crate) archive_due: bool,
    /// The last failure of the archive, until a log was archived; and when to try again.
    pub(crate) archive_failure: Option<Failure>,
    /// Counts attempts at archiving that failed, and logs that were given up.
    pub(crate) archives_failed: u64,
    /// Counts logs that the archive was given, or never will be.
    pub(crate) archive_steps: u64,
    /// Files in no version, to be removed once no reader holds them.
    pub(crate) obsolete: BTreeSet<FileKind>,
    /// Logs that somebody copies, and how many do: not to be removed meanwhile.
    pub(crate) pinned_wals: BTreeMap<u64, usize>,
    /// Tables in which a read has met damage, to be looked at as a whole.
    pub(crate) suspects: BTreeSet<u64>,
    /// Whether a reader has let go of an old version since obsolete files were last looked at.
    pub(crate) released: bool,
    /// When obsolete files that stayed are looked at again without that, and for the how many-th time.
    pub(crate) look_again: Option<(Duration, u32)>,
    /// When the next periodic sync is due.
    pub(crate) sync_due: Option<Duration>,
}

/// A failure of background work.
#[derive(Clone)]
pub(crate) struct Failure {
    pub(crate) error: Error,
    pub(crate) retry_at: Duration,
}

/// What is counted, for `stats`.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) user_bytes: AtomicU64,
    pub(crate) wal_bytes: AtomicU64,
    pub(crate) flush_bytes: AtomicU64,
    pub(crate) compaction_bytes: AtomicU64,
    pub(crate) syncs: AtomicU64,
    pub(crate) groups: AtomicU64,
    pub(crate) writes: AtomicU64,
    pub(crate) stalls: AtomicU64,
    pub(crate) multi_get_keys: AtomicU64,
    /// Logs that wait for the archive, and bytes of them; stored under the lock of the manifest.
    pub(crate) archive_waiting: AtomicU64,
    pub(crate) archive_waiting_bytes: AtomicU64,
    pub(crate) archived: AtomicU64,
    pub(crate) archive_given_up: AtomicU64,
}

impl Counters {
    /// Counts anew the logs that wait for the archive.
    fn count_waiting(&self, versions: &VersionSet) {
        let waiting = versions.kept_wals();
        self.archive_waiting.store(waiting.len() as u64, Ordering::Relaxed);
        self.archive_waiting_bytes.store(waiting.values().map(|wal| wal.bytes).sum(), Ordering::Relaxed);
    }

    pub(crate) fn add(counter: &AtomicU64, amount: u64) {
        counter.fetch_add(amount, Ordering::Relaxed);
    }
}

/// The parts of a [`State`] that differ from one open to the next.
pub(crate) struct Opened {
    pub(crate) env: Env,
    pub(crate) dir: PathBuf,
    pub(crate) store: Uuid,
    pub(crate) options: Options,
    pub(crate) events: Events,
    pub(crate) tables: Arc<TableCache>,
    pub(crate) blobs: Arc<BlobFiles>,
    pub(crate) versions: VersionSet,
    pub(crate) time: StoreTime,
    /// `None` of a store that is only read.
    pub(crate) wal: Option<WalWriter>,
    /// What was replayed and is in no table, newest first.
    pub(crate) memtables: Vec<Arc<Frozen>>,
    pub(crate) last_seqno: SeqNo,
    /// `None` of a store that is only read.
    pub(crate) lock: Option<Box<dyn FileLock>>,
    pub(crate) obsolete: BTreeSet<FileKind>,
    pub(crate) reserve: Reserve,
}

impl State {
    /// A store as it was found: as recovery left it, with all data in tables and an empty log, or to be read only.
    pub(crate) fn new(opened: Opened) -> State {
        let view = ReadView {
            memtable: Arc::new(Generation::new()),
            frozen: opened.memtables,
            catalog: opened.versions.current().clone(),
            has_range_deletes: has_range_deletes(opened.versions.current()),
            reads_from: 0,
        };
        let state = State {
            meters: Meters::new(&opened.env, &opened.events, &opened.options),
            rate: Some(opened.options.background_bytes_per_second)
                .filter(|&rate| rate > 0)
                .map(|rate| Mutex::new("the rate of background work", Bucket::new(rate, opened.env.now()))),
            env: opened.env,
            dir: opened.dir,
            store: opened.store,
            options: opened.options,
            events: opened.events,
            tables: opened.tables,
            blobs: opened.blobs,
            view: ArcSwap::from_pointee(view),
            visible: AtomicU64::new(opened.last_seqno),
            wal_bytes: AtomicU64::new(opened.wal.as_ref().map_or(0, WalWriter::bytes)),
            commit: Mutex::new(
                "the commit lock",
                Commit {
                    wal_number: opened.wal.as_ref().map_or(0, WalWriter::number),
                    wal_first_seqno: opened.last_seqno + 1,
                    wal_acknowledged: opened.wal.as_ref().map_or(0, WalWriter::bytes),
                    stamp_ms: 0,
                    wal: opened.wal,
                    next_seqno: opened.last_seqno + 1,
                    failure: None,
                    sync_due: None,
                },
            ),
            numbers: opened.versions.numbers().clone(),
            versions: Mutex::new("the manifest", opened.versions),
            work: Mutex::new(
                "background work",
                Work { obsolete: opened.obsolete, archive_due: true, ..Work::default() },
            ),
            work_changed: Condvar::new("a change in background work"),
            snapshots: Mutex::new("snapshots", Snapshots::default()),
            discarded: Mutex::new("discarded tables", BTreeSet::new()),
            time: opened.time,
            sweep_waits: AtomicBool::new(false),
            counters: Counters::default(),
            vitals: Vitals::new(),
            reserve: opened.reserve,
            closed: AtomicBool::new(false),
            lock: Mutex::new("the store's lock", opened.lock),
        };
        state.counters.count_waiting(&state.versions.lock());
        if let Some(spent) = state.reserve.refusal() {
            state.vitals.report(&state.events, Part::Space, Some(&spent));
        }
        state.report_quarantine();
        state
    }

    /// A view and the newest seqno that it is complete for (S1).
    pub(crate) fn consistent_view(&self) -> (Arc<ReadView>, SeqNo) {
        loop {
            let view = self.view.load_full();
            self.env.yield_point("read: view loaded, seqno not yet");
            let seqno = self.visible.load(Ordering::Acquire).max(view.reads_from);
            if Arc::ptr_eq(&view, &self.view.load()) {
                return (view, seqno);
            }
        }
    }

    /// The newest seqno that a reader may see.
    pub(crate) fn newest_seqno(&self) -> SeqNo {
        self.visible.load(Ordering::Acquire).max(self.view.load().reads_from)
    }

    /// A view that has the keyspace as the snapshot at `seqno` shows it.
    pub(crate) fn view_at(&self, keyspace: KeyspaceId, seqno: SeqNo) -> Result<Arc<ReadView>> {
        let (view, _) = self.consistent_view();
        if view.catalog.get(keyspace).is_some() {
            return Ok(view);
        }
        let snapshots = self.snapshots.lock();
        let mut dropped = snapshots.dropped.iter();
        let kept = dropped.find(|dropped| dropped.keyspace == keyspace && seqno < dropped.seqno);
        sometimes!("a snapshot shows a keyspace that was dropped", if kept.is_some());
        kept.map(|dropped| dropped.view.clone()).ok_or_else(|| Error::NoSuchKeyspace { keyspace: keyspace.to_string() })
    }

    /// The tables and blob files of dropped keyspaces that snapshots show.
    pub(crate) fn files_kept_for_snapshots(&self) -> Vec<FileKind> {
        let snapshots = self.snapshots.lock();
        let kept = snapshots.dropped.iter().flat_map(|dropped| dropped.view.catalog.files());
        kept.collect()
    }

    /// Lets go of dropped keyspaces that no snapshot shows.
    pub(crate) fn forget_dropped(&self) {
        let mut snapshots = self.snapshots.lock();
        // A snapshot that is yet to come may be as old as what is visible now: a drop that is not visible yet is not forgotten.
        let visible = self.visible.load(Ordering::Acquire);
        let oldest = snapshots.holders.keys().map(|reader| reader.seqno).min().unwrap_or(SeqNo::MAX).min(visible);
        let forgotten: Vec<_> = snapshots.dropped.extract_if(.., |dropped| dropped.seqno <= oldest).collect();
        drop(snapshots);
        if !forgotten.is_empty() {
            drop(forgotten);
            self.work.lock().released = true;
            self.work_changed.notify_all();
        }
    }

    /// Makes an edit durable, and then shows readers the new version; memtables whose tables the edit adds leave the view
    /// in the same step (S3). Files that the edit removed are noted as obsolete.
    pub(crate) fn install(&self, edit: VersionEdit, flushed: Option<&Arc<Frozen>>) -> Result<()> {
        let versions = self.versions.lock();
        self.install_under(versions, edit, flushed)
    }

    /// The same for the result of a compaction. Where its keyspace was dropped meanwhile (S5), or one of its inputs is in quarantine or
    /// was discarded, nothing is done, and the answer is no.
    pub(crate) fn install_compacted(&self, keyspace: KeyspaceId, edit: VersionEdit) -> Result<bool> {
        let versions = self.versions.lock();
        let Some(entry) = versions.current().get(keyspace) else {
            sometimes!("a compaction comes to nothing because its keyspace was dropped");
            return Ok(false);
        };
        // What is in quarantine stays where it is, whoever had it before.
        if edit.removed.iter().any(|&(_, number)| entry.version.is_quarantined(number)) {
            sometimes!("a compaction comes to nothing because an input is in quarantine");
            return Ok(false);
        }
        let is_discarded = {
            let discarded = self.discarded.lock();
            edit.removed.iter().any(|(_, number)| discarded.contains(number))
        };
        if is_discarded {
            sometimes!("a compaction comes to nothing because an input was discarded");
            return Ok(false);
        }
        self.install_under(versions, edit, None).map(|()| true)
    }

    pub(crate) fn install_under(
        &self,
        mut versions: MutexGuard<'_, VersionSet>,
        mut edit: VersionEdit,
        flushed: Option<&Arc<Frozen>>,
    ) -> Result<()> {
        let keeps_wals = !edit.wals_kept.is_empty();
        let is_kept = |number: u64| edit.wals_kept.iter().any(|kept| kept.number == number);
        let removed = edit.wals_removed.iter().copied().filter(|&number| !is_kept(number));
        let mut gone: BTreeSet<FileKind> = removed.chain(edit.wals_let_go.iter().copied()).map(FileKind::Wal).collect();
        let before = versions.current().clone();
        // Tables of a keyspace that was dropped while they were written (S5).
        let orphans: Vec<_> = edit.added.extract_if(.., |(_, table)| before.get(table.keyspace).is_none()).collect();
        sometimes!("a flush writes a table of a keyspace that is dropped meanwhile", if !orphans.is_empty());
        gone.extend(orphans.iter().map(|(_, table)| FileKind::Sst(table.number)));
        let orphans = edit.blobs_added.extract_if(.., |blob| before.get(blob.keyspace).is_none());
        gone.extend(orphans.map(|blob| FileKind::Blob(blob.number)));
        // A keyspace goes with all the tables that it has by now.
        let dropped = edit.keyspaces_dropped.iter().filter_map(|&id| before.get(id));
        edit.removed
            .extend(dropped.flat_map(|entry| entry.version.tables().map(|(level, table)| (level, table.number))));
        let stays = |number: u64| edit.added.iter().any(|(_, table)| table.number == number);
        gone.extend(edit.removed.iter().filter(|(_, n)| !stays(*n)).map(|&(_, number)| FileKind::Sst(number)));
        let blobs_before: Vec<u64> = before.blobs().keys().copied().collect();
        drop(before);
        {
            // What a drop says of the last seqno it says of itself: who sees the keyspace gone reads behind the drop.
            let reads_from = if edit.keyspaces_dropped.is_empty() { None } else { edit.last_seqno };
            versions.commit(edit)?;
            gone.extend(versions.take_retired());
            self.counters.count_waiting(&versions);
            let catalog = versions.current().clone();
            let left = blobs_before.into_iter().filter(|number| !catalog.blobs().contains_key(number));
            gone.extend(left.map(FileKind::Blob));
            let has_range_deletes = has_range_deletes(&catalog);
            self.env.yield_point("install: edit durable, view not yet swapped");
            self.view.rcu(|view| ReadView {
                memtable: view.memtable.clone(),
                frozen: view
                    .frozen
                    .iter()
                    .filter(|frozen| flushed.is_none_or(|flushed| !Arc::ptr_eq(flushed, frozen)))
                    .cloned()
                    .collect(),
                catalog: catalog.clone(),
                has_range_deletes,
                reads_from: reads_from.unwrap_or(view.reads_from),
            });
        }
        drop(versions);
        self.env.yield_point("install: view swapped, old files not yet obsolete");
        let mut work = self.work.lock();
        work.obsolete.extend(gone);
        if keeps_wals {
            work.archive_due = true;
            drop(work);
            self.work_changed.notify_all();
        }
        Ok(())
    }

    /// Whether logs are archived.
    pub(crate) fn archives(&self) -> bool {
        self.options.archive.is_some()
    }

    /// Who reads, now and later. To be called after the inputs of a merge have been fixed.
    pub(crate) fn readers(&self) -> Readers {
        let list = self.snapshots.lock();
        // Read under the lock: for a snapshot that is not listed it is this time or later.
        Readers::new(list.holders.keys().copied().collect(), self.now_ms())
    }

    /// The store's time, in milliseconds since the Unix epoch. A reader asks when it has its view (M3).
    pub(crate) fn now_ms(&self) -> u64 {
        self.time.now_ms(&self.env)
    }

    /// Whether plain puts into any keyspace last for a time only.
    pub(crate) fn has_default_ttl(&self) -> bool {
        self.view.load().catalog.has_default_ttl()
    }

    /// How long a plain put into this keyspace lasts, if not for ever.
    pub(crate) fn default_ttl_ms(&self, keyspace: KeyspaceId) -> Option<u64> {
        let ttl_ms = self.view.load().catalog.get(keyspace)?.options.default_ttl_ms;
        (ttl_ms > 0).then_some(ttl_ms)
    }

    /// Refuses to go on once the store is closed.
    pub(crate) fn ensure_open(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) { Err(Error::Closed) } else { Ok(()) }
    }

    /// Tells of a failure.
    pub(crate) fn tell_failure(&self, during: &'static str, error: &Error) {
        self.events.tell(|| Event::Failed { during, error: error.to_string() });
    }

    /// The block cache.
    pub(crate) fn blocks(&self) -> &Arc<BlockCache> {
        self.tables.blocks()
    }
}

/// Whether any table of any keyspace holds range deletes.
fn has_range_deletes(catalog: &Catalog) -> bool {
    catalog.entries().iter().any(|entry| entry.version.has_range_deletes())
}
