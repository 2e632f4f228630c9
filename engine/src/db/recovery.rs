//! Opening a store: from files of unknown history to a state that can be trusted.
//!
//! In this order: look at the directory, take the lock, read IDENTITY, CURRENT and MANIFEST, see that every table is there,
//! replay the logs in order into tables, begin a new log, begin a new manifest that names all this, switch CURRENT, remove
//! what is left over. Until CURRENT is switched nothing of the old state is touched, so a crash at any point, however often,
//! leaves the next open the same work to do.
//!
//! R1. What was replayed is written to new tables before the open returns. It may have been read from the page cache only: a
//!     process crash keeps what no disk has, and after a failed sync of the old process a second sync of the same file may
//!     succeed without writing it. New files have no such past.
//! R2. For the same reason the manifest is always begun anew.
//! R3. No file number is used twice: the counter starts above every number that is found on disk or in the manifest.
//! R4. A manifest that ends in a damaged record is told from one that ends in a torn one by the logs that are there.
//! R5. A directory without CURRENT, but with a log or a table, is a damaged store and not a new one: a new store has its
//!     CURRENT, durable, before it has its first log. So the names that are found are made durable before any is added.
//! R6. A keyspace is dropped by the manifest alone, and its entries may lie in the logs still: they are passed over. An entry of
//!     a keyspace that never was is damage, because a keyspace is durable in the manifest before its first entry is logged.

use crate::batch::{self, BatchEntry};
use crate::blob::BlobFiles;
use crate::cache::BlockCache;
use crate::compaction::flush::flush;
use crate::compaction::readers::Readers;
use crate::compaction::separate::Place;
use crate::db::check::shape;
use crate::db::obsolete;
use crate::db::reserve::{self, Reserve};
use crate::db::state::{Opened, State};
use crate::db::time::StoreTime;
use crate::env::{Env, FileLock, OpenMode};
use crate::error::{Error, Result};
use crate::event::{Event, Events, Operation};
use crate::filename::FileKind;
use crate::key::{KEYSPACE_DEFAULT_NAME, SeqNo};
use crate::manifest::edit::VersionEdit;
use crate::manifest::set::{StoreDir, VersionSet, survey};
use crate::mark::sometimes;
use crate::memtable::Generation;
use crate::options::Options;
use crate::record::Uuid;
use crate::sst::TableCache;
use crate::wal::{KeptWal, ReplayExpect, Replayed, VERSION_ARCHIVED, WalWriter, replay};
use bytes::Bytes;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

/// Opens the store in `dir`, or starts one.
pub(crate) fn open(env: &Env, dir: &Path, options: Options, events: Events) -> Result<State> {
    let begun = env.now();
    let state = open_locked(env, dir, options, events)?;
    state.meters.note(Operation::Open, env.now().saturating_sub(begun), "the replay of its logs");
    Ok(state)
}

fn open_locked(env: &Env, dir: &Path, options: Options, events: Events) -> Result<State> {
    options.validate()?;
    if let Some(name) = &options.merge_operator {
        see_that_operator_is_known(&options, KEYSPACE_DEFAULT_NAME, name)?;
    }
    if survey_for(env, dir, &options)? == StoreDir::Absent {
        env.create_dir(dir)?;
    }
    let lock_path = FileKind::Lock.path(dir);
    let Some(lock) = env.lock_file(&lock_path)? else {
        return Err(Error::Locked { path: lock_path });
    };
    let mut lock = Some(lock);
    match recover(env, dir, &options, &events, &mut lock, None) {
        // A full disk must not keep a store shut that holds the space it needs. Trying again is what the next open would do.
        Err(error)
            if options.space_reserve_bytes > 0
                && error.is_out_of_space()
                && reserve::give_up_while_opening(env, dir) =>
        {
            recover(env, dir, &options, &events, &mut lock, Some(error))
        }
        result => result,
    }
}

/// With the lock, which is taken away on success alone. `spent`: why the reserve of space is gone, if it was given up for this.
fn recover(
    env: &Env,
    dir: &Path,
    options: &Options,
    events: &Events,
    lock: &mut Option<Box<dyn FileLock>>,
    spent: Option<Error>,
) -> Result<State> {
    // Looked at again: the one who held the lock may have changed everything.
    let versions = match survey_for(env, dir, options)? {
        StoreDir::Store => {
            // R5: CURRENT may be there for this process only, because the one that put it there died before its sync.
            env.sync_dir(dir)?;
            let versions = VersionSet::recover(env, dir, options, events)?;
            see_that_operators_are_known(&versions, options)?;
            see_that_it_can_be_archived(versions.format_version(), options)?;
            versions
        }
        empty => {
            sometimes!("recovery finds a store that was never finished", if empty == StoreDir::Unfinished);
            see_that_it_can_be_archived(options.format_version, options)?;
            create(env, dir, options, events)?
        }
    };
    let found = files_in(env, dir)?;
    let reserve_bytes = options.space_reserve_bytes;
    let found_reserve = reserve_bytes > 0 && env.file_len(&FileKind::Reserve.path(dir))? == Some(reserve_bytes);
    let reserve = Reserve::new(env, dir, events, options, found_reserve, spent);
    Recovery { env, dir, options: options.clone(), events: events.clone(), versions, found, reserve }.run(lock)
}

/// Refuses to archive the logs of a store whose format is older than archives.
fn see_that_it_can_be_archived(version: u32, options: &Options) -> Result<()> {
    if options.archive.is_none() || version >= VERSION_ARCHIVED {
        return Ok(());
    }
    Err(Error::InvalidArgument(format!(
        "the store has format version {version}, and one that is archived needs {VERSION_ARCHIVED}: open it without an archive, upgrade \
         it (Db::upgrade, or `strata upgrade`), and open it again"
    )))
}

/// Refuses to open a store whose operands nobody here can merge, or would merge as what they are not.
pub(crate) fn see_that_operators_are_known(versions: &VersionSet, options: &Options) -> Result<()> {
    let catalog = versions.current();
    if let (Some(own), Some(asked)) = (catalog.merge_operator(), &options.merge_operator)
        && own != asked
    {
        let what = format!(
            "the store was written with the merge operator {own:?}, and cannot be opened with {asked:?}: \
             name {own:?} in Options::merge_operator, or none"
        );
        return Err(Error::InvalidArgument(what));
    }
    let default = catalog.merge_operator().map(|operator| (KEYSPACE_DEFAULT_NAME, operator));
    let others =
        catalog.entries().iter().filter_map(|entry| Some((&*entry.name, entry.own.merge_operator.as_deref()?)));
    let mut all = default.into_iter().chain(others);
    all.try_for_each(|(keyspace, operator)| see_that_operator_is_known(options, keyspace, operator))
}

fn see_that_operator_is_known(options: &Options, keyspace: &str, operator: &str) -> Result<()> {
    if options.merge_operators.named(operator).is_some() {
        return Ok(());
    }
    let what = "which is not at hand: add it to Options::merge_operators";
    Err(Error::InvalidArgument(format!("keyspace {keyspace:?} has the merge operator {operator:?}, {what}")))
}

/// The files in the directory that have names of ours.
pub(crate) fn files_in(env: &Env, dir: &Path) -> Result<BTreeSet<FileKind>> {
    let entries = env.read_dir(dir)?;
    Ok(entries.iter().filter(|entry| !entry.is_dir).filter_map(|entry| FileKind::parse(&entry.name)).collect())
}

/// Leaves a directory alone that is not a store and should not become one.
pub(crate) fn survey_for(env: &Env, dir: &Path, options: &Options) -> Result<StoreDir> {
    let not_a_store = |found: &str| Err(Error::NotAStore { path: dir.to_path_buf(), found: found.into() });
    match survey(env, dir)? {
        StoreDir::Store if options.error_if_exists => {
            let what = format!("{} holds a store already, and error_if_exists is set", dir.display());
            Err(Error::InvalidArgument(what))
        }
        StoreDir::Absent if !options.create_if_missing => not_a_store("there is no such directory"),
        StoreDir::Empty | StoreDir::Unfinished if !options.create_if_missing => not_a_store("there is no store in it"),
        found => Ok(found),
    }
}

/// Starts a new store in a directory that holds none, or only the beginning of one.
fn create(env: &Env, dir: &Path, options: &Options, events: &Events) -> Result<VersionSet> {
    // The directory's own name must be durable before anything in it is worth something. An earlier attempt may have
    // created it and have ended before this.
    env.sync_parent(dir)?;
    VersionSet::create(env, dir, Uuid::random(env), options, events)
}

struct Recovery<'a> {
    env: &'a Env,
    dir: &'a Path,
    options: Options,
    events: Events,
    versions: VersionSet,
    found: BTreeSet<FileKind>,
    reserve: Reserve,
}

/// What the logs held.
struct Replay {
    edit: VersionEdit,
    logs: Vec<(u64, Replayed)>,
    last_seqno: SeqNo,
    entries: u64,
    dropped_bytes: u64,
}

impl Recovery<'_> {
    fn run(mut self, lock: &mut Option<Box<dyn FileLock>>) -> Result<State> {
        self.found.iter().filter_map(|file| file.number()).for_each(|number| self.versions.bump_past(number));
        self.see_that_tables_are_there()?;
        see_that_no_log_was_forgotten(self.env, self.dir, &self.versions, &self.found)?;
        sometimes!(
            "recovery finds a wal that a crashed recovery began",
            if self.found.iter().any(|file| self.is_newer_than_all_listed(*file))
        );
        let current = FileKind::Manifest(self.versions.manifest_number());
        sometimes!(
            "recovery finds an orphan manifest",
            if self.found.iter().any(|file| matches!(file, FileKind::Manifest(_)) && *file != current)
        );
        let time = StoreTime::starting_at(self.env, self.versions.time_ms());
        let now_ms = time.now_ms(self.env);
        let mut replayed = self.replay_logs(now_ms)?;
        if self.versions.current().entries().iter().any(|entry| entry.version.has_expiring()) {
            // What has expired by now stays so, also for whoever opens the store when the clock was set back.
            replayed.edit.time_ms = Some(now_ms);
        }

        // Durable before the first operand is taken.
        replayed.edit.merge_operator.clone_from(&self.options.merge_operator);
        self.keep_logs(&mut replayed);
        let number = self.versions.new_file_number();
        let (store, version) = (self.versions.uuid(), self.versions.format_version());
        let mut wal = WalWriter::create(self.env, self.dir, number, (store, version), replayed.last_seqno + 1)?;
        if self.options.archive.is_some() {
            let keyspaces = self.versions.keyspaces_after(&replayed.edit).encode();
            wal.begin_for_archive(&keyspaces, self.env.wall_ms())?;
        }
        // One sync makes the names of the new tables and of the new log durable, before the manifest names them.
        self.env.sync_dir(self.dir)?;
        replayed.edit.wals_added.push(number);
        replayed.edit.wals_removed.extend(self.versions.wals().keys());
        replayed.edit.last_seqno = Some(replayed.last_seqno);
        self.versions.begin_new_manifest(replayed.edit)?;

        let obsolete = self.remove_leftovers();
        let (entries, dropped_bytes) = (replayed.entries, replayed.dropped_bytes);
        self.events.tell(|| Event::Opened { replayed: entries, dropped_bytes, levels: shape(self.versions.current()) });
        let blocks = Arc::new(BlockCache::new(self.options.cache_bytes));
        Ok(State::new(Opened {
            env: self.env.clone(),
            dir: self.dir.to_path_buf(),
            store: self.versions.uuid(),
            options: self.options,
            events: self.events,
            tables: Arc::new(TableCache::new(self.env.clone(), self.dir.to_path_buf(), blocks.clone())),
            blobs: Arc::new(BlobFiles::new(self.env.clone(), self.dir.to_path_buf(), blocks)),
            versions: self.versions,
            time,
            wal: Some(wal),
            memtables: Vec::new(),
            last_seqno: replayed.last_seqno,
            lock: Some(lock.take().expect("the lock is held until a store has it")),
            obsolete,
            reserve: self.reserve,
        }))
    }

    /// For a mark: a log behind the newest that the manifest lists.
    fn is_newer_than_all_listed(&self, file: FileKind) -> bool {
        let newest = self.versions.wals().keys().next_back();
        matches!(file, FileKind::Wal(number) if newest.is_some_and(|&newest| number > newest))
    }

    fn see_that_tables_are_there(&self) -> Result<()> {
        let catalog = self.versions.current();
        let quarantined: BTreeSet<u64> = catalog.quarantined().map(|(_, table, _)| table.number).collect();
        for (_, table) in catalog.tables().filter(|(_, table)| !quarantined.contains(&table.number)) {
            let path = FileKind::Sst(table.number).path(self.dir);
            match self.env.file_len(&path)? {
                Some(len) if len == table.bytes => {}
                Some(len) => {
                    let expected = format!("a table of {} bytes, as the manifest says, found {len}", table.bytes);
                    return Err(Error::corruption(&path, len.min(table.bytes), expected));
                }
                None => return Err(Error::corruption(&path, 0, "the table that the manifest names, found no file")),
            }
        }
        for blob in self.versions.current().blobs().values() {
            let path = FileKind::Blob(blob.number).path(self.dir);
            match self.env.file_len(&path)? {
                Some(len) if len == blob.bytes => {}
                Some(len) => {
                    let expected = format!("a blob file of {} bytes, as the manifest says, found {len}", blob.bytes);
                    return Err(Error::corruption(&path, len.min(blob.bytes), expected));
                }
                None => {
                    return Err(Error::corruption(&path, 0, "the blob file that the manifest names, found no file"));
                }
            }
        }
        Ok(())
    }

    /// Replays the logs, oldest first, into tables of level 0 that nothing names yet.
    /// Nobody reads yet, so what has expired at `now_ms` has expired for all.
    fn replay_logs(&mut self, now_ms: u64) -> Result<Replay> {
        let mut replay_state = Replay {
            edit: VersionEdit::default(),
            logs: Vec::new(),
            last_seqno: self.versions.last_seqno().max(self.versions.current().seqno_max()),
            entries: 0,
            dropped_bytes: 0,
        };
        let mut memtable = Generation::new();
        let memtable_bytes = self.options.memtable_bytes;
        let (env, dir, versions) = (self.env, self.dir, &self.versions);
        let logs = replay_listed(env, dir, versions, &mut |seqno, count, payload| {
            memtable.insert_batch(seqno, entries_of(payload, count));
            replay_state.entries += u64::from(count);
            replay_state.last_seqno = replay_state.last_seqno.max(seqno + u64::from(count) - 1);
            if memtable.is_full(memtable_bytes) {
                sometimes!("recovery fills more than one memtable");
                let full = std::mem::take(&mut memtable);
                flush_replayed(env, dir, versions, &full, &mut replay_state.edit, now_ms)?;
            }
            Ok(())
        })?;
        replay_state.dropped_bytes = logs.iter().map(|(_, replayed)| replayed.dropped_bytes).sum();
        replay_state.logs = logs;
        flush_replayed(self.env, self.dir, &self.versions, &memtable, &mut replay_state.edit, now_ms)?;
        sometimes!("recovery finds nothing to replay", if replay_state.entries == 0);
        sometimes!("recovery drops the torn tail of a wal", if replay_state.dropped_bytes > 0);
        Ok(replay_state)
    }

    /// Has the logs that were replayed kept for the archive, those that were begun for one; without an archive, lets go of those that
    /// are kept.
    fn keep_logs(&mut self, replayed: &mut Replay) {
        if self.options.archive.is_none() {
            replayed.edit.wals_let_go.extend(self.versions.kept_wals().keys());
            return;
        }
        if self.versions.history().is_none() {
            replayed.edit.history = Some(Uuid::random(self.env));
        }
        // A log speaks for all up to where the next one begins.
        let mut last_seqno = replayed.last_seqno;
        for &(number, log) in replayed.logs.iter().rev() {
            let Some(first_seqno) = log.first_seqno else { continue };
            if log.for_archive {
                sometimes!("recovery keeps a log for the archive");
                replayed.edit.wals_kept.push(KeptWal { number, bytes: log.valid_bytes, first_seqno, last_seqno });
            }
            last_seqno = first_seqno - 1;
        }
        // What was read may be in no place that lasts, if the process ended and the machine did not; its trailer too. Where it cannot
        // be made to last now, the archive may come too late.
        let newest = replayed.logs.last().filter(|(_, log)| log.for_archive);
        if let Some((number, _)) = newest {
            let file = self.env.open(&FileKind::Wal(*number).path(self.dir), OpenMode::Write);
            let _ = file.and_then(|file| file.sync_data());
        }
    }

    /// Removes every file that the new manifest does not name. What cannot be removed now is tried again later.
    fn remove_leftovers(&mut self) -> BTreeSet<FileKind> {
        let live = obsolete::live_files(&self.versions);
        let mut left = BTreeSet::new();
        let is_kept = |file: &FileKind| live.contains(file) || (*file == FileKind::Reserve && self.reserve.is_held());
        for file in self.found.iter().copied().filter(|file| !is_kept(file)) {
            sometimes!("recovery removes an orphan table", if matches!(file, FileKind::Sst(_)));
            sometimes!("recovery removes an orphan blob file", if matches!(file, FileKind::Blob(_)));
            sometimes!("recovery removes an unfinished CURRENT", if file == FileKind::CurrentTemp);
            if obsolete::remove_one(self.env, self.dir, &self.events, file).is_err() {
                sometimes!("recovery leaves an orphan that cannot be removed");
                // The reserve is replaced when it is taken, by a file of the same name, which nobody else must remove.
                if !matches!(file, FileKind::Reserve | FileKind::ReserveTemp) {
                    left.insert(file);
                }
            }
        }
        left
    }
}

/// Tells a manifest whose last record was damaged from one whose last record was never finished. A log takes batches only
/// after the edit that adds it is durable, and an edit that removes a log knows the last seqno in it. So a log that is not
/// listed and holds a newer batch was listed by the record that is gone.
pub(crate) fn see_that_no_log_was_forgotten(
    env: &Env,
    dir: &Path,
    versions: &VersionSet,
    found: &BTreeSet<FileKind>,
) -> Result<()> {
    let Some(torn_at) = versions.torn_at() else { return Ok(()) };
    let newest_listed = versions.wals().keys().next_back().copied();
    sometimes!("recovery finds a manifest with a torn tail");
    for file in found {
        let FileKind::Wal(number) = *file else { continue };
        if versions.wals().contains_key(&number) {
            continue;
        }
        let ignore = &mut |_, _, _| Ok(());
        let held = replay(env, dir, number, versions.uuid(), ReplayExpect::Newest, ignore);
        let last_seqno = match held {
            Ok(held) => held.last_seqno,
            // Older than a log that is listed: nobody needs it, so nobody misses what is damaged in it. A newer one may be
            // what the lost edit was about.
            Err(Error::Corruption(_)) if Some(number) < newest_listed => None,
            Err(error) => return Err(error),
        };
        if let Some(last_seqno) = last_seqno.filter(|&last| last > versions.last_seqno()) {
            let manifest = FileKind::Manifest(versions.manifest_number()).path(dir);
            let expected = format!(
                "the edit that adds {}, which holds batches up to seqno {last_seqno}, found no whole record",
                file.name()
            );
            return Err(Error::corruption(&manifest, torn_at, expected));
        }
    }
    Ok(())
}

/// Hands every batch of the logs that count to `apply`, in order: its seqno, the count of its entries, its payload, which
/// [`entries_of`] reads. Returns what was found in each, by number. Reads only.
pub(crate) fn replay_listed(
    env: &Env,
    dir: &Path,
    versions: &VersionSet,
    apply: &mut dyn FnMut(SeqNo, u32, Bytes) -> Result<()>,
) -> Result<Vec<(u64, Replayed)>> {
    let newest = versions.wals().keys().next_back().copied();
    sometimes!("recovery replays several wals", if versions.wals().len() > 1);
    let (mut floor, mut logs) = (0, Vec::new());
    for (&number, closed) in versions.wals() {
        let expect = match closed {
            Some(closed) => ReplayExpect::Sealed { bytes: closed.bytes },
            // Only the log that was being written may end in the middle of something.
            None if Some(number) == newest => ReplayExpect::Newest,
            None => ReplayExpect::Closed,
        };
        let path = FileKind::Wal(number).path(dir);
        let replayed = replay(env, dir, number, versions.uuid(), expect, &mut |seqno, count, payload| {
            if seqno <= floor {
                let expected = format!("batches behind seqno {floor}, where the log before it ended, found {seqno}");
                return Err(Error::corruption(&path, 0, expected));
            }
            let next_id = versions.current().next_id();
            let foreign = entries_of(payload.clone(), count).map(|entry| entry.keyspace).find(|&id| id >= next_id);
            if let Some(id) = foreign {
                let expected = format!("entries of keyspaces below {next_id}, found one of {id}");
                return Err(Error::corruption(&path, 0, expected));
            }
            apply(seqno, count, payload)
        })?;
        if let Some(closed) = closed
            && replayed.last_seqno.is_some_and(|last| last != closed.last_seqno)
        {
            let expected = format!("a log that ends with seqno {}, found {:?}", closed.last_seqno, replayed.last_seqno);
            return Err(Error::corruption(&path, replayed.valid_bytes, expected));
        }
        let known = versions.format_version();
        if let Some(version) = replayed.version.filter(|&version| version > known) {
            let expected =
                format!("format version {version} or more, as {} has, found {known}", FileKind::Wal(number).name());
            return Err(Error::corruption(&FileKind::Identity.path(dir), 8, expected));
        }
        sometimes!("recovery replays a wal that was closed", if replayed.clean);
        floor = replayed.last_seqno.unwrap_or(floor);
        logs.push((number, replayed));
    }
    Ok(logs)
}

/// The entries of a batch that a replay has handed on.
pub(crate) fn entries_of(payload: Bytes, count: u32) -> impl Iterator<Item = BatchEntry> {
    batch::decode(payload, count).map(|entry| entry.expect("replay hands on what decodes"))
}

/// Writes a table for each keyspace. What the log has of keyspaces that were dropped since is left out (R6).
fn flush_replayed(
    env: &Env,
    dir: &Path,
    versions: &VersionSet,
    memtable: &Generation,
    edit: &mut VersionEdit,
    now_ms: u64,
) -> Result<()> {
    for (keyspace, memtable) in memtable.memtables() {
        let Some(entry) = versions.current().get(keyspace).filter(|_| !memtable.is_empty()) else {
            sometimes!("recovery leaves out entries of a keyspace that was dropped", if !memtable.is_empty());
            continue;
        };
        let number = versions.new_file_number();
        let readers = Readers::new(Vec::new(), now_ms);
        let new_file = |_: fn(u64) -> FileKind| versions.new_file_number();
        let place = Place { env, dir, store: versions.uuid(), new_file: &new_file };
        let flushed = flush(place, number, keyspace, &memtable, readers, &entry.options)?;
        if memtable.has_expiring() {
            edit.time_ms = Some(now_ms);
        }
        if let Some(flushed) = flushed {
            edit.added.push((0, flushed.table));
            edit.blobs_added.extend(flushed.blobs);
        }
    }
    Ok(())
}
