//! The state of an open store, each part in one place and inside the lock that guards it.
//!
//! Locks are taken in this order, and none is taken while a later one is held:
//! `commit`, `versions`, `work`, `snapshots`. The commit queue's locks are held for a few instructions, around no other.
//!
//! S1. Whoever loads a [`ReadView`] and then sees it still current after reading `visible` has a consistent picture: the view
//!     holds every entry up to that seqno that any reader at it may see.
//! S2. Entries are in the memtable before `visible` covers them; nothing that failed is in a memtable.
//! S3. A memtable is dropped from the view in the same step in which its table enters it.
//! S4. A frozen memtable's log is removed from the manifest by the edit that adds its table, never before. Such an edit says
//!     the last seqno that the log can hold, also of writes that failed.

use crate::cache::BlockCache;
use crate::compaction::plan::Claim;
use crate::compaction::readers::{Reader, Readers};
use crate::db::time::StoreTime;
use crate::env::{Env, FileLock};
use crate::error::{Error, Result};
use crate::event::{Event, Events};
use crate::filename::FileKind;
use crate::key::{KeyspaceId, SeqNo};
use crate::manifest::edit::VersionEdit;
use crate::manifest::set::{FileNumbers, VersionSet};
use crate::manifest::version::Version;
use crate::memtable::Memtable;
use crate::options::Options;
use crate::record::Uuid;
use crate::sst::TableCache;
use crate::sync::{Condvar, Mutex};
use crate::wal::WalWriter;
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
    pub(crate) view: ArcSwap<ReadView>,
    /// The newest seqno that a reader may see.
    pub(crate) visible: AtomicU64,
    /// Bytes in the log that is being written.
    pub(crate) wal_bytes: AtomicU64,
    pub(crate) commit: Mutex<Commit>,
    pub(crate) versions: Mutex<VersionSet>,
    pub(crate) numbers: Arc<FileNumbers>,
    pub(crate) work: Mutex<Work>,
    /// Announces every change of `work` and of the view.
    pub(crate) work_changed: Condvar,
    pub(crate) snapshots: Mutex<BTreeMap<Reader, usize>>,
    pub(crate) time: StoreTime,
    /// Whether tables that have expired wait for a snapshot to go.
    pub(crate) sweep_waits: AtomicBool,
    pub(crate) counters: Counters,
    pub(crate) closed: AtomicBool,
    /// Held until the store is closed.
    pub(crate) lock: Mutex<Option<Box<dyn FileLock>>>,
}

/// What a reader reads, newest first: immutable, swapped as a whole.
pub(crate) struct ReadView {
    /// The memtable that is being written.
    pub(crate) memtable: Arc<Memtable>,
    /// Memtables that wait for their flush, newest first.
    pub(crate) frozen: Vec<Arc<Frozen>>,
    /// The tables.
    pub(crate) version: Arc<Version>,
    /// Whether any table holds range deletes.
    pub(crate) has_range_deletes: bool,
}

/// A memtable that takes no more writes.
pub(crate) struct Frozen {
    pub(crate) memtable: Arc<Memtable>,
    /// The log that holds the same entries.
    pub(crate) wal: u64,
    /// The last seqno that can be in that log, those of failed writes counted.
    pub(crate) last_seqno: SeqNo,
}

/// What the one who writes to the log owns.
pub(crate) struct Commit {
    /// The log that is being written; `None` after it failed, until a new one has been begun, and after closing.
    pub(crate) wal: Option<WalWriter>,
    /// The number of the log that belongs to the active memtable, also after it failed.
    pub(crate) wal_number: u64,
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
    /// For each level, the largest user key that its last compaction took.
    pub(crate) cursors: Vec<Vec<u8>>,
    /// The last failure of a flush or resume, until one succeeds; and when to try again.
    pub(crate) flush_failure: Option<Failure>,
    /// The last failure of a compaction, until one succeeds; and when to try again.
    pub(crate) compaction_failure: Option<Failure>,
    /// Counts attempts at flushing that failed: who waits for a flush sees that one failed after it began to wait.
    pub(crate) flushes_failed: u64,
    /// Files in no version, to be removed once no reader holds them.
    pub(crate) obsolete: BTreeSet<FileKind>,
    /// Logs that somebody copies, and how many do: not to be removed meanwhile.
    pub(crate) pinned_wals: BTreeMap<u64, usize>,
    /// Whether a reader has let go of an old version since obsolete files were last looked at.
    pub(crate) released: bool,
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
}

impl Counters {
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
    pub(crate) versions: VersionSet,
    pub(crate) time: StoreTime,
    pub(crate) wal: WalWriter,
    pub(crate) last_seqno: SeqNo,
    pub(crate) lock: Box<dyn FileLock>,
    pub(crate) obsolete: BTreeSet<FileKind>,
}

impl State {
    /// A store as recovery left it: all data in tables, an empty log.
    pub(crate) fn new(opened: Opened) -> State {
        let view = ReadView {
            memtable: Arc::new(Memtable::new()),
            frozen: Vec::new(),
            version: opened.versions.current().clone(),
            has_range_deletes: opened.versions.current().has_range_deletes(),
        };
        let levels = view.version.levels.len();
        State {
            env: opened.env,
            dir: opened.dir,
            store: opened.store,
            options: opened.options,
            events: opened.events,
            tables: opened.tables,
            view: ArcSwap::from_pointee(view),
            visible: AtomicU64::new(opened.last_seqno),
            wal_bytes: AtomicU64::new(opened.wal.bytes()),
            commit: Mutex::new(
                "the commit lock",
                Commit {
                    wal_number: opened.wal.number(),
                    wal: Some(opened.wal),
                    next_seqno: opened.last_seqno + 1,
                    failure: None,
                    sync_due: None,
                },
            ),
            numbers: opened.versions.numbers().clone(),
            versions: Mutex::new("the manifest", opened.versions),
            work: Mutex::new(
                "background work",
                Work { cursors: vec![Vec::new(); levels], obsolete: opened.obsolete, ..Work::default() },
            ),
            work_changed: Condvar::new("a change in background work"),
            snapshots: Mutex::new("snapshots", BTreeMap::new()),
            time: opened.time,
            sweep_waits: AtomicBool::new(false),
            counters: Counters::default(),
            closed: AtomicBool::new(false),
            lock: Mutex::new("the store's lock", Some(opened.lock)),
        }
    }

    /// A view and the newest seqno that it is complete for (S1).
    pub(crate) fn consistent_view(&self) -> (Arc<ReadView>, SeqNo) {
        loop {
            let view = self.view.load_full();
            self.env.yield_point("read: view loaded, seqno not yet");
            let seqno = self.visible.load(Ordering::Acquire);
            if Arc::ptr_eq(&view, &self.view.load()) {
                return (view, seqno);
            }
        }
    }

    /// Makes an edit durable, and then shows readers the new version; a memtable whose table the edit adds leaves the view
    /// in the same step (S3). Files that the edit removed are noted as obsolete.
    pub(crate) fn install(&self, edit: VersionEdit, flushed: Option<&Arc<Frozen>>) -> Result<()> {
        let mut gone: BTreeSet<FileKind> = edit.wals_removed.iter().map(|&number| FileKind::Wal(number)).collect();
        let stays = |number: u64| edit.added.iter().any(|(_, table)| table.number == number);
        gone.extend(edit.removed.iter().filter(|(_, n)| !stays(*n)).map(|&(_, number)| FileKind::Sst(number)));
        {
            let mut versions = self.versions.lock();
            versions.commit(edit)?;
            gone.extend(versions.take_retired());
            let version = versions.current().clone();
            let has_range_deletes = version.has_range_deletes();
            self.env.yield_point("install: edit durable, view not yet swapped");
            self.view.rcu(|view| ReadView {
                memtable: view.memtable.clone(),
                frozen: view
                    .frozen
                    .iter()
                    .filter(|frozen| flushed.is_none_or(|flushed| !Arc::ptr_eq(flushed, frozen)))
                    .cloned()
                    .collect(),
                version: version.clone(),
                has_range_deletes,
            });
        }
        self.env.yield_point("install: view swapped, old files not yet obsolete");
        self.work.lock().obsolete.extend(gone);
        Ok(())
    }

    /// Who reads, now and later. To be called after the inputs of a merge have been fixed.
    pub(crate) fn readers(&self) -> Readers {
        let list = self.snapshots.lock();
        // Read under the lock: for a snapshot that is not listed it is this time or later.
        Readers::new(list.keys().copied().collect(), self.now_ms())
    }

    /// The store's time, in milliseconds since the Unix epoch. A reader asks when it has its view (M3).
    pub(crate) fn now_ms(&self) -> u64 {
        self.time.now_ms(&self.env)
    }

    /// Whether plain puts into any keyspace last for a time only.
    pub(crate) fn has_default_ttl(&self) -> bool {
        self.options.default_ttl_ms > 0
    }

    /// How long a plain put into this keyspace lasts, if not for ever.
    pub(crate) fn default_ttl_ms(&self, _keyspace: KeyspaceId) -> Option<u64> {
        Some(self.options.default_ttl_ms).filter(|&ttl_ms| ttl_ms > 0)
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
