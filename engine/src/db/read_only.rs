//! A store that is only read, also while somebody else writes to it.
//!
//! It takes no lock, and creates, changes and removes no file: the one who holds the store's lock owns the directory and does
//! not know who looks at it. What is needed is held open instead: every table that the manifest names, while what the logs have
//! beyond them is replayed into memory. Files that the writer removes later stay readable for whoever has them open.
//!
//! ```text
//! IDENTITY, CURRENT, MANIFEST -> open every table -> replay the logs that are listed -> read CURRENT and MANIFEST once more
//! ```
//!
//! N1. What is seen is the state after some write in the order of sequence numbers, and every write is in it that was
//!     acknowledged before the call. A log that is listed holds every write up to the last one that it was read to, and what came
//!     after it is left out, be it in a newer log or in a table.
//! N2. The drop of a keyspace is in no log. So the list is read again behind the logs: one with other keyspaces means that what
//!     was read of the logs may lie behind a drop that was not seen, and all is begun anew.
//! N3. A file goes only after an edit of the manifest that no longer needs it. So where a file is missing, or bytes are not whole,
//!     and the list is the same as before, it is damage; where the list has changed it was a race, and all is begun anew, with
//!     the tables that are open already.
//! N4. Files are known by their numbers for as long as the store is the same and no number names two tables; a directory in which
//!     another store was put, or an older state of this one, is read from nothing.

use crate::blob::{BlobFiles, BlobMeta};
use crate::cache::BlockCache;
use crate::compaction::readers::Reader;
use crate::db::check::{self, CheckReport};
use crate::db::iter::{DbIter, Range};
use crate::db::keyspace::{self, Keyspace, KeyspaceStats};
use crate::db::read::{self, MultiGet};
use crate::db::recovery;
use crate::db::reserve::Reserve;
use crate::db::snapshot::Snapshot;
use crate::db::state::{Frozen, Opened, State};
use crate::db::stats::{self, Stats};
use crate::db::time::StoreTime;
use crate::db::verify::{Verification, VerifyProgress, verify_files};
use crate::env::Env;
use crate::error::{Error, Result};
use crate::event::Events;
use crate::filename::FileKind;
use crate::key::{KEYSPACE_DEFAULT, KeyspaceId, SeqNo};
use crate::manifest::catalog::Catalog;
use crate::manifest::edit::{LEVELS_MAX, TableMeta};
use crate::manifest::log::list_mark;
use crate::manifest::set::VersionSet;
use crate::mark::sometimes;
use crate::memtable::Generation;
use crate::options::{KeyspaceOptions, Options};
use crate::record::Uuid;
use crate::sst::TableCache;
use crate::sync::Mutex;
use arc_swap::ArcSwap;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// How often the files are looked at anew because the writer has replaced some of them meanwhile.
const ATTEMPTS_MAX: u32 = 100;

/// Bytes that the logs may take in memory where [`Options::memory_bytes`] sets no limit.
const REPLAYED_BYTES_MAX: u64 = 4 << 30;

/// A store that is only read: see [`Db::open_read_only`](super::Db::open_read_only). Safe to share between any number of threads.
/// It shows one state, that of the last opening or [refresh](ReadOnlyDb::refresh); dropping it touches no file.
pub struct ReadOnlyDb {
    env: Env,
    dir: PathBuf,
    options: Options,
    state: ArcSwap<State>,
    /// One refresh at a time.
    refreshing: Mutex<()>,
}

impl ReadOnlyDb {
    pub(crate) fn open(env: &Env, path: &Path, options: Options) -> Result<ReadOnlyDb> {
        options.validate()?;
        // However many levels the store has, and whatever the caller would have a new one be.
        let options = Options {
            levels: LEVELS_MAX,
            create_if_missing: false,
            error_if_exists: false,
            space_reserve_bytes: 0,
            hot_keys: 0,
            ..options
        };
        let state = look(env, path, &options, None)?;
        Ok(ReadOnlyDb {
            env: env.clone(),
            dir: path.to_path_buf(),
            options,
            state: ArcSwap::from_pointee(state),
            refreshing: Mutex::new("the refresh of a store that is only read", ()),
        })
    }

    /// Shows the store as it is now from now on, by the rules of an [opening](super::Db::open_read_only_with). Returns the newest
    /// write that is shown. Iterators go on with what they began with. Tables that are open stay so, and logs are read anew. After
    /// an error everything is shown as before.
    pub fn refresh(&self) -> Result<SeqNo> {
        let _one = self.refreshing.lock();
        let before = self.state.load_full();
        let state = look(&self.env, &self.dir, &self.options, Some(&before))?;
        self.state.store(Arc::new(state));
        Ok(self.seqno())
    }

    /// The newest write that is shown.
    pub fn seqno(&self) -> SeqNo {
        self.state.load().visible.load(Ordering::Acquire)
    }

    /// The value of `key`, as [`Db::get`](super::Db::get).
    pub fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        self.look_up(KEYSPACE_DEFAULT, key)
    }

    /// [`ReadOnlyDb::get`] for a keyspace.
    pub fn get_in(&self, keyspace: &Keyspace, key: &[u8]) -> Result<Option<Bytes>> {
        self.look_up(keyspace.id(), key)
    }

    /// The values of many keys, as [`Db::multi_get`](super::Db::multi_get).
    pub fn multi_get<K: AsRef<[u8]>>(&self, keys: &[K]) -> Result<MultiGet> {
        self.look_up_many(KEYSPACE_DEFAULT, keys)
    }

    /// [`ReadOnlyDb::multi_get`] for a keyspace.
    pub fn multi_get_in<K: AsRef<[u8]>>(&self, keyspace: &Keyspace, keys: &[K]) -> Result<MultiGet> {
        self.look_up_many(keyspace.id(), keys)
    }

    fn look_up_many<K: AsRef<[u8]>>(&self, keyspace: KeyspaceId, keys: &[K]) -> Result<MultiGet> {
        let keys: Vec<&[u8]> = keys.iter().map(AsRef::as_ref).collect();
        let state = self.state.load_full();
        let (view, seqno) = state.consistent_view();
        let at = Reader { seqno, now_ms: state.now_ms() };
        Ok(MultiGet { seqno, values: read::get_many(&state, &view, keyspace, &keys, at)? })
    }

    fn look_up(&self, keyspace: KeyspaceId, key: &[u8]) -> Result<Option<Bytes>> {
        let state = self.state.load_full();
        let (view, seqno) = state.consistent_view();
        read::get(&state, &view, keyspace, key, seqno, || state.now_ms())
    }

    /// A cursor over the keys of `range`, as [`Db::iter`](super::Db::iter); a refresh does not move it.
    pub fn iter(&self, range: Range) -> Result<DbIter> {
        self.cursor(KEYSPACE_DEFAULT, range)
    }

    /// [`ReadOnlyDb::iter`] for a keyspace.
    pub fn iter_in(&self, keyspace: &Keyspace, range: Range) -> Result<DbIter> {
        self.cursor(keyspace.id(), range)
    }

    /// Like [`ReadOnlyDb::iter_in`], of the moment of a [snapshot](ReadOnlyDb::snapshot), also by time: so several keyspaces can be read
    /// as they were together.
    pub fn iter_in_at(&self, keyspace: &Keyspace, snapshot: &Snapshot, range: Range) -> Result<DbIter> {
        snapshot.iter_in(keyspace, range)
    }

    fn cursor(&self, keyspace: KeyspaceId, range: Range) -> Result<DbIter> {
        let state = self.state.load_full();
        let (view, seqno) = state.consistent_view();
        let at = Reader { seqno, now_ms: state.now_ms() };
        DbIter::new(&state, view, keyspace, at, range)
    }

    /// What is shown now, for as long as it is held, to be [exported](crate::backup::export()); a refresh does not move it.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::take(&self.state.load_full())
    }

    /// The keyspace with this name, if there is one.
    pub fn keyspace(&self, name: &str) -> Option<Keyspace> {
        self.state.load().view.load().catalog.named(name).map(Keyspace::from)
    }

    /// All keyspaces, the default one first, the others in the order in which they were created.
    pub fn keyspaces(&self) -> Vec<Keyspace> {
        self.state.load().view.load().catalog.entries().iter().map(Keyspace::from).collect()
    }

    /// What a keyspace has otherwise than the store.
    pub fn keyspace_options(&self, keyspace: &Keyspace) -> Result<KeyspaceOptions> {
        let view = self.state.load().view.load_full();
        view.keyspace(keyspace.id()).map(|entry| entry.own.clone()).map_err(|_| keyspace.missing())
    }

    /// Numbers about one keyspace. What the logs have beyond the tables counts as memory.
    pub fn keyspace_stats(&self, keyspace: &Keyspace) -> Result<KeyspaceStats> {
        keyspace::stats(&self.state.load(), keyspace)
    }

    /// Numbers about what is shown. What the logs have beyond the tables counts as memtables that wait for their flush; what only
    /// a writer counts is 0.
    pub fn stats(&self) -> Stats {
        stats::stats(&self.state.load())
    }

    /// Verifies what is shown: every checksum of every table, and every invariant, as [`Db::check`](super::Db::check) does; the
    /// logs were verified when they were read. Names of files are not looked at, since they are the writer's: the report lists the
    /// tables alone.
    pub fn check(&self) -> Result<CheckReport> {
        check::check_tables(&self.state.load())
    }

    /// Reads back everything of the store that counts now, which may be more than is shown, as
    /// [`Db::verify`](super::Db::verify) does: see [`verify_files`].
    pub fn verify(&self, tell: &mut dyn FnMut(VerifyProgress)) -> Result<Verification> {
        verify_files(&self.env, &self.dir, &self.options, tell)
    }

    /// The identity of the store.
    pub fn uuid(&self) -> Uuid {
        self.state.load().store
    }

    /// The directory of the store.
    pub fn path(&self) -> &Path {
        &self.dir
    }
}

impl fmt::Debug for ReadOnlyDb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReadOnlyDb({} at seqno {})", self.dir.display(), self.seqno())
    }
}

/// A state of the store, and as many tries as it takes (N3).
fn look(env: &Env, dir: &Path, options: &Options, before: Option<&State>) -> Result<State> {
    let mut files: Option<OpenFiles> = before.map(|state| OpenFiles {
        store: state.store,
        catalog: state.view.load().catalog.clone(),
        tables: state.tables.clone(),
        blobs: state.blobs.clone(),
    });
    let mut cause = None;
    for _ in 0..ATTEMPTS_MAX {
        // With `create_if_missing` unset, whatever is no store is an error.
        recovery::survey_for(env, dir, options)?;
        let listed = list_mark(env, dir)?;
        match attempt(env, dir, options, before, &mut files) {
            Ok(Some(state)) => return Ok(state),
            Ok(None) => sometimes!("a reader begins anew because keyspaces came or went"),
            Err(error) if error.is_corruption() => {
                if list_mark(env, dir)? == listed {
                    return Err(error);
                }
                sometimes!("a reader is overtaken by the writer");
                cause = Some(Box::new(error));
            }
            Err(error) => return Err(error),
        }
        env.yield_point("read only: overtaken, not yet begun anew");
    }
    Err(Error::Overtaken { attempts: ATTEMPTS_MAX, cause })
}

/// What is open already, and of which state of the store.
struct OpenFiles {
    store: Uuid,
    catalog: Arc<Catalog>,
    tables: Arc<TableCache>,
    blobs: Arc<BlobFiles>,
}

/// One try. `None` where keyspaces came or went meanwhile (N2). `files` are those that are open, and become more.
fn attempt(
    env: &Env,
    dir: &Path,
    options: &Options,
    before: Option<&State>,
    files: &mut Option<OpenFiles>,
) -> Result<Option<State>> {
    let events = Events::default();
    let versions = VersionSet::recover(env, dir, options, &events)?;
    recovery::see_that_operators_are_known(&versions, options)?;
    let catalog = versions.current().clone();
    let (cache, blobs) = match files.take() {
        Some(open) if open.store == versions.uuid() && is_same_store(&open.catalog, &catalog) => {
            let numbers: BTreeSet<u64> = catalog.tables().map(|(_, table)| table.number).collect();
            let blob_numbers: BTreeSet<u64> = catalog.blobs().keys().copied().collect();
            (Arc::new(open.tables.with_only(&numbers)), Arc::new(open.blobs.with_only(&blob_numbers)))
        }
        _ => {
            let blocks = Arc::new(BlockCache::new(options.cache_bytes));
            let tables = Arc::new(TableCache::new(env.clone(), dir.to_path_buf(), blocks.clone()));
            (tables, Arc::new(BlobFiles::new(env.clone(), dir.to_path_buf(), blocks)))
        }
    };
    let (store, tables) = (versions.uuid(), cache.clone());
    *files = Some(OpenFiles { store, catalog: catalog.clone(), tables, blobs: blobs.clone() });
    let quarantined: BTreeSet<u64> = catalog.quarantined().map(|(_, table, _)| table.number).collect();
    for (_, table) in catalog.tables() {
        if quarantined.contains(&table.number) {
            // Whoever needs it is told.
            let _ = cache.table(table.number, table.bytes);
            continue;
        }
        cache.table(table.number, table.bytes).map_err(|error| {
            let path = FileKind::Sst(table.number).path(dir);
            let expected = "the table that the manifest names, found no file";
            if error.is_not_found() { Error::corruption(&path, 0, expected) } else { error }
        })?;
    }
    for blob in catalog.blobs().values() {
        let bytes = blobs.file(blob.number)?.bytes();
        if bytes != blob.bytes {
            let expected = format!("a blob file of {} bytes, as the manifest says, found {bytes}", blob.bytes);
            return Err(Error::corruption(&FileKind::Blob(blob.number).path(dir), bytes.min(blob.bytes), expected));
        }
    }
    let found = recovery::files_in(env, dir)?;
    recovery::see_that_no_log_was_forgotten(env, dir, &versions, &found)?;
    let (memtables, last_seqno) = replay(env, dir, options, &versions)?;
    env.yield_point("read only: logs replayed, list not yet read again");
    let now = VersionSet::recover(env, dir, options, &events)?;
    if !has_same_keyspaces(&catalog, now.current()) {
        return Ok(None);
    }
    let time_ms = before.map_or(0, State::now_ms).max(versions.time_ms());
    Ok(Some(State::new(Opened {
        env: env.clone(),
        dir: dir.to_path_buf(),
        store: versions.uuid(),
        options: options.clone(),
        events: events.clone(),
        tables: cache,
        blobs,
        time: StoreTime::starting_at(env, time_ms),
        wal: None,
        memtables,
        last_seqno,
        lock: None,
        obsolete: BTreeSet::new(),
        reserve: Reserve::new(env, dir, &events, options, false, None),
        versions,
    })))
}

/// What the logs have, newest first, and the last seqno that there is.
fn replay(env: &Env, dir: &Path, options: &Options, versions: &VersionSet) -> Result<(Vec<Arc<Frozen>>, SeqNo)> {
    let bytes_max = if options.memory_bytes > 0 { options.memory_bytes } else { REPLAYED_BYTES_MAX };
    let mut last_seqno = versions.last_seqno().max(versions.current().seqno_max());
    let mut memtable = Generation::new();
    let (mut full, mut bytes) = (Vec::new(), 0);
    recovery::replay_listed(env, dir, versions, &mut |seqno, count, payload| {
        memtable.insert_batch(seqno, recovery::entries_of(payload, count));
        last_seqno = last_seqno.max(seqno + u64::from(count) - 1);
        if bytes + memtable.bytes() > bytes_max {
            return Err(Error::InvalidArgument(format!(
                "the logs of {} hold more than the {bytes_max} bytes of memory that they may take: raise \
                 Options::memory_bytes, or have the writer flush",
                dir.display()
            )));
        }
        if memtable.is_full(options.memtable_bytes) {
            bytes += memtable.bytes();
            full.push(std::mem::take(&mut memtable));
        }
        Ok(())
    })?;
    full.push(memtable);
    let frozen = |memtable| Arc::new(Frozen { memtable: Arc::new(memtable), wal: 0, last_seqno, kept: None });
    Ok((full.into_iter().rev().map(frozen).collect(), last_seqno))
}

/// Whether no number names one table here and another there.
fn is_same_store(earlier: &Catalog, now: &Catalog) -> bool {
    let by_number = |catalog: &Catalog| -> BTreeMap<u64, Arc<TableMeta>> {
        catalog.tables().map(|(_, table)| (table.number, table.clone())).collect()
    };
    let (earlier, earlier_blobs) = (by_number(earlier), earlier.blobs());
    let is_same = |table: &TableMeta| {
        let known = earlier.get(&table.number);
        known.is_none_or(|known| (known.bytes, known.checksum) == (table.bytes, table.checksum))
    };
    let is_same_blob = |blob: &BlobMeta| earlier_blobs.get(&blob.number).is_none_or(|known| known == blob);
    now.tables().all(|(_, table)| is_same(table)) && now.blobs().values().all(is_same_blob)
}

fn has_same_keyspaces(one: &Catalog, other: &Catalog) -> bool {
    let ids = |catalog: &Catalog| -> Vec<KeyspaceId> { catalog.entries().iter().map(|entry| entry.id).collect() };
    one.next_id() == other.next_id() && ids(one) == ids(other)
}
