//! The one owner of the list of live files: what counts now, and how it becomes durable that something else does.
//!
//! ```text
//! commit             edit -> append to the manifest -> sync                                          -> install
//! begin a manifest   snapshot -> new file -> sync -> sync dir -> CURRENT.tmp -> sync -> rename -> sync dir -> install
//! ```
//!
//! S1. What is installed in memory was durable first. After an error the list in memory is the last installed one.
//!
//! S2. After an error it is unknown whether the edit counts: a part of it may have reached the medium, and CURRENT may
//! name either manifest. The set is then *ambiguous*. No manifest that took part is ever written again; the next commit
//! begins a new one. Until that has succeeded, every file that either outcome needs is live: those of the installed
//! list, those that the failed edits added, and all manifests that took part.
//!
//! S3. All numbers come from one counter, and no number is used twice, not even one whose file was never finished. The
//! counter is in every edit.
//!
//! S4. An edit that does not fit the list is a fault of ours and panics, unless it was read from disk, where it is
//! corruption. So is one that leaves no numbers to go on with, for files or for writes.
//!
//! It removes no files and reads no logs and no tables. It does not lock itself: whoever owns it does.

use super::catalog::Catalog;
use super::edit::{KeyspaceSet, Quarantine, TableMeta, VersionEdit};
use super::format::{Current, Identity};
use super::log::{self, ManifestWriter};
use crate::env::Env;
use crate::error::{Error, Result};
use crate::event::{Event, Events};
use crate::filename::FileKind;
use crate::key::{KEYSPACE_DEFAULT, KeyspaceId, SEQNO_MAX, SeqNo};
use crate::mark::sometimes;
use crate::options::{FORMAT_VERSION, Options};
use crate::record::Uuid;
use crate::wal::{ClosedWal, KeptWal};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

/// Numbers from here on are never drawn.
const NUMBER_END: u64 = 1 << 62;

/// A counter on disk is never above this: no store lives to draw half of all numbers. Whoever begins at or below it can draw
/// numbers for as long as there are stores.
const NUMBER_FOUND_MAX: u64 = 1 << 61;

/// The same for the numbers of keyspaces, each of which took a sync to be given out.
const KEYSPACE_FOUND_MAX: KeyspaceId = 1 << 31;

/// A file with a number from here on is not ours, and not in the way. Far below what a counter may be, so that the name of
/// a file can never use the numbers up.
const NUMBER_FOREIGN: u64 = 1 << 60;

/// The counter from which every file of a store has its number. Shared by all who create files.
#[derive(Debug)]
pub struct FileNumbers {
    next: AtomicU64,
}

impl FileNumbers {
    fn starting_at(next: u64) -> FileNumbers {
        FileNumbers { next: AtomicU64::new(next) }
    }

    /// A number that no file has had.
    pub fn next(&self) -> u64 {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        assert!(number < NUMBER_END, "the numbers for files have run out at {number}");
        number
    }

    /// Makes sure that `number`, which was found on disk, will not be drawn.
    pub fn bump_past(&self, number: u64) {
        if number < NUMBER_FOREIGN {
            self.next.fetch_max(number + 1, Ordering::Relaxed);
        }
    }

    /// The number that would be drawn next.
    pub fn peek(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }
}

/// What a directory looks like to one who wants to open a store in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreDir {
    /// There is no such directory.
    Absent,
    /// It is empty, but for a lock file perhaps.
    Empty,
    /// Somebody began to create a store and did not come to the end; nothing was ever written to it. To be created
    /// again.
    Unfinished,
    /// There is a store.
    Store,
}

/// Looks at a directory. One that holds other things is [`Error::NotAStore`]; one that holds tables or logs but no
/// CURRENT is a corruption that names CURRENT.
pub fn survey(env: &Env, dir: &Path) -> Result<StoreDir> {
    let entries = match env.read_dir(dir) {
        Err(error) if error.is_not_found() => return Ok(StoreDir::Absent),
        entries => entries?,
    };
    let mut ours = BTreeSet::new();
    let mut foreign = BTreeSet::new();
    for entry in entries {
        match FileKind::parse(&entry.name) {
            Some(kind) if !entry.is_dir => {
                ours.insert(kind);
            }
            // The root of a fresh file system of the ext family has this directory.
            None if entry.is_dir && entry.name == "lost+found" => {}
            _ => {
                foreign.insert(entry.name);
            }
        }
    }
    if ours.contains(&FileKind::Current) {
        return Ok(StoreDir::Store);
    }
    if ours.iter().any(|kind| matches!(kind, FileKind::Wal(_) | FileKind::Sst(_) | FileKind::Blob(_))) {
        let wanted = "the file that names the manifest, found none, though there are files of a store";
        return Err(Error::corruption(&FileKind::Current.path(dir), 0, wanted));
    }
    if let Some(name) = foreign.first() {
        let found = match foreign.len() - 1 {
            0 => format!("it holds {name:?}, which is no file of a store"),
            more => format!("it holds {name:?} and {more} more that are no files of a store"),
        };
        return Err(Error::NotAStore { path: dir.to_path_buf(), found });
    }
    ours.remove(&FileKind::Lock);
    Ok(if ours.is_empty() { StoreDir::Empty } else { StoreDir::Unfinished })
}

/// What counts, as a value.
#[derive(Clone, Debug)]
struct Installed {
    catalog: Arc<Catalog>,
    /// Logs that count, by number; those that nothing will be added to with what is known of them.
    wals: BTreeMap<u64, Option<ClosedWal>>,
    /// The history under which logs are archived.
    history: Option<Uuid>,
    /// Logs that only the archive still needs, by number.
    kept: BTreeMap<u64, KeptWal>,
    last_seqno: SeqNo,
    /// See [`VersionEdit::time_ms`].
    time_ms: u64,
    next_file: u64,
}

impl Installed {
    fn empty(levels: usize, options: &Options) -> Installed {
        let catalog = Arc::new(Catalog::empty(levels, &Arc::new(options.clone())));
        let (wals, kept) = (BTreeMap::new(), BTreeMap::new());
        Installed { catalog, wals, history: None, kept, last_seqno: 0, time_ms: 0, next_file: 1 }
    }

    /// What the edits of a manifest come to, each of which stands at an offset.
    fn of(path: &Path, edits: &[(u64, VersionEdit)], options: &Options) -> Result<Installed> {
        let mut installed = Installed::empty(1, options);
        for (index, (offset, edit)) in edits.iter().enumerate() {
            if index == 0 && (edit.levels.is_none() || edit.next_file.is_none()) {
                return Err(Error::corruption(path, *offset, "a snapshot with the levels and the next file"));
            }
            installed = installed.apply(edit).and_then(Installed::with_numbers_left).map_err(|wrong| {
                Error::corruption(path, *offset, format!("an edit that fits the list, but {wrong}"))
            })?;
        }
        Ok(installed)
    }

    /// What counts after an edit; an error says what in the edit does not fit.
    fn apply(&self, edit: &VersionEdit) -> std::result::Result<Installed, String> {
        let catalog = Arc::new(self.catalog.apply(edit)?);
        let next_file = edit.next_file.unwrap_or(self.next_file);
        if next_file < self.next_file || next_file > NUMBER_END {
            return Err(format!("the next file had number {}, and cannot have {next_file}", self.next_file));
        }
        let tables = edit.added.iter().map(|(_, table)| table.number);
        let blobs = edit.blobs_added.iter().map(|blob| blob.number);
        if let Some(number) =
            tables.chain(blobs).chain(edit.wals_added.iter().copied()).find(|&number| number >= next_file)
        {
            return Err(format!("file {number} was never begun, for the next file has number {next_file}"));
        }
        // A flush numbers its table's epoch from the same counter, and must come out above all others of level 0.
        if let Some((_, table)) = edit.added.iter().find(|(_, table)| table.epoch >= next_file) {
            let (number, epoch) = (table.number, table.epoch);
            return Err(format!("table {number} has epoch {epoch}, and the next file has number {next_file}"));
        }
        let mut wals = self.wals.clone();
        for &number in &edit.wals_added {
            if wals.insert(number, None).is_some() {
                return Err(format!("log {number} is listed already"));
            }
        }
        for closed in &edit.wals_closed {
            match wals.get_mut(&closed.number) {
                Some(state @ None) => *state = Some(*closed),
                Some(Some(_)) => return Err(format!("log {} is closed already", closed.number)),
                None => return Err(format!("log {} is not listed and cannot be closed", closed.number)),
            }
        }
        for number in &edit.wals_removed {
            if wals.remove(number).is_none() {
                return Err(format!("log {number} is not listed and cannot be removed"));
            }
        }
        // The snapshot of a manifest says only that it is kept.
        let mut kept = self.kept.clone();
        for wal in &edit.wals_kept {
            if wals.contains_key(&wal.number) || wal.number >= next_file {
                return Err(format!("log {} counts, or never did, and cannot be kept for the archive", wal.number));
            }
            if wal.first_seqno == 0 || wal.last_seqno.saturating_add(1) < wal.first_seqno {
                return Err(format!("a log for the archive does not begin before it ends: {wal:?}"));
            }
            if kept.insert(wal.number, *wal).is_some() {
                return Err(format!("log {} is kept for the archive already", wal.number));
            }
        }
        for number in &edit.wals_let_go {
            if kept.remove(number).is_none() {
                return Err(format!("log {number} is not kept for the archive, and cannot be let go"));
            }
        }
        let history = edit.history.or(self.history);
        let in_tables = edit.added.iter().map(|(_, table)| table.seqno_max);
        let in_wals = edit.wals_closed.iter().map(|closed| closed.last_seqno);
        let last_seqno = in_tables.chain(in_wals).chain(edit.last_seqno).fold(self.last_seqno, SeqNo::max);
        let time_ms = self.time_ms.max(edit.time_ms.unwrap_or(0));
        Ok(Installed { catalog, wals, history, kept, last_seqno, time_ms, next_file })
    }

    /// Itself, if a store can go on from here; an error says what has run out. Only damage gets here: a store refuses writes
    /// before its last sequence number is used.
    fn with_numbers_left(self) -> std::result::Result<Installed, String> {
        if self.next_file > NUMBER_FOUND_MAX {
            return Err(format!("the next file has number {}, and {NUMBER_FOUND_MAX} is the most", self.next_file));
        }
        if self.catalog.next_id() > KEYSPACE_FOUND_MAX {
            let next = self.catalog.next_id();
            return Err(format!("the next keyspace has number {next}, and {KEYSPACE_FOUND_MAX} is the most"));
        }
        if self.last_seqno >= SEQNO_MAX {
            return Err(format!("sequence number {} was used, and must stay free", self.last_seqno));
        }
        Ok(self)
    }

    /// Every keyspace but the default one.
    fn keyspaces(&self) -> Vec<KeyspaceSet> {
        let others = self.catalog.entries().iter().filter(|entry| entry.id != KEYSPACE_DEFAULT);
        others
            .map(|entry| KeyspaceSet { id: entry.id, name: entry.name.to_string(), options: entry.own.clone() })
            .collect()
    }

    /// The edit that makes this out of nothing.
    fn snapshot(&self) -> VersionEdit {
        VersionEdit {
            next_file: Some(self.next_file),
            last_seqno: Some(self.last_seqno),
            levels: Some(self.catalog.levels()),
            merge_operator: self.catalog.merge_operator().map(str::to_string),
            // A store that never had another keyspace says nothing of any.
            next_keyspace: Some(self.catalog.next_id()).filter(|&next| next > KEYSPACE_DEFAULT + 1),
            keyspaces_set: self.keyspaces(),
            keyspaces_dropped: Vec::new(),
            time_ms: (self.time_ms > 0).then_some(self.time_ms),
            wals_added: self.wals.keys().copied().collect(),
            wals_closed: self.wals.values().flatten().copied().collect(),
            wals_removed: Vec::new(),
            history: self.history,
            wals_kept: self.kept.values().copied().collect(),
            wals_let_go: Vec::new(),
            blobs_added: self.catalog.blobs().values().copied().collect(),
            blobs_removed: Vec::new(),
            removed: Vec::new(),
            added: self.catalog.tables().map(|(level, table)| (level, TableMeta::clone(table))).collect(),
            quarantined: self.catalog.quarantined().map(|(_, _, quarantine)| Quarantine::clone(quarantine)).collect(),
            released: Vec::new(),
        }
    }
}

/// The list of live files, and the manifest that holds it.
#[derive(Debug)]
pub struct VersionSet {
    env: Env,
    dir: PathBuf,
    store: Uuid,
    format_version: u32,
    manifest_bytes_min: u64,
    events: Events,
    numbers: Arc<FileNumbers>,
    installed: Installed,
    /// The number of the next keyspace, those of failed commits counted.
    next_keyspace: KeyspaceId,
    /// Earlier lists that somebody may still read from.
    older: Vec<Weak<Catalog>>,
    /// The manifest that counted when CURRENT was last known.
    manifest: u64,
    /// `None`: the next commit begins a new manifest.
    writer: Option<ManifestWriter>,
    /// Where the manifest that was recovered ends in something that is no record.
    torn_at: Option<u64>,
    doubt: Option<Doubt>,
    retired: BTreeSet<FileKind>,
}

/// How far a manifest is known to have been written, and the list that it comes to there: what whoever reads it back must find,
/// as long as no other manifest has taken its place.
#[derive(Clone, Debug)]
pub struct Written {
    identity: Identity,
    current: Current,
    bytes: u64,
    installed: Installed,
}

impl Written {
    /// The number in the manifest's name.
    pub fn manifest(&self) -> u64 {
        self.current.manifest
    }

    /// Its length, as far as it counts.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Reads IDENTITY, CURRENT and the manifest, and compares each with what was written. What differs is an
    /// [`Error::Corruption`] that names file and offset.
    pub fn read_back(&self, env: &Env, dir: &Path, options: &Options) -> Result<()> {
        let identity = log::read_identity(env, dir)?;
        let path = FileKind::Identity.path(dir);
        if identity.store != self.identity.store {
            let expected = format!("the uuid of this store, {}, found {}", self.identity.store, identity.store);
            return Err(Error::corruption(&path, 16, expected));
        }
        // It may be higher, but never lower: files of the store may need it.
        if identity.format_version < self.identity.format_version {
            let (wanted, found) = (self.identity.format_version, identity.format_version);
            return Err(Error::corruption(&path, 8, format!("format version {wanted} or more, found {found}")));
        }
        let current = log::read_current(env, dir, self.identity.store)?;
        if current != self.current {
            let expected = format!("{:?}, found {current:?}", self.current);
            return Err(Error::corruption(&FileKind::Current.path(dir), 0, expected));
        }
        let path = FileKind::Manifest(self.manifest()).path(dir);
        let read = log::read_written(env, dir, &current, self.bytes)?;
        let found = Installed::of(&path, &read.edits, options)?;
        if found.snapshot() != self.installed.snapshot() {
            return Err(Error::corruption(&path, 0, "edits that come to the list that the store has in memory"));
        }
        Ok(())
    }
}

/// What may count as well, because commits failed (S2).
#[derive(Debug, Default)]
struct Doubt {
    tables: BTreeSet<u64>,
    blobs: BTreeSet<u64>,
    wals: BTreeSet<u64>,
    manifests: BTreeSet<u64>,
}

impl VersionSet {
    /// Makes an existing directory a store without tables and logs, durably: writes IDENTITY, a first manifest and
    /// CURRENT. What an unfinished creation left there is passed over. The directory's own name is for the caller to
    /// sync.
    pub fn create(env: &Env, dir: &Path, store: Uuid, options: &Options, events: &Events) -> Result<VersionSet> {
        let numbers = FileNumbers::starting_at(1);
        for entry in env.read_dir(dir)? {
            if let Some(number) = FileKind::parse(&entry.name).and_then(FileKind::number) {
                numbers.bump_past(number);
            }
        }
        let format_version = options.format_version;
        log::write_identity(env, dir, &Identity { store, format_version })?;
        let mut set = VersionSet {
            env: env.clone(),
            dir: dir.to_path_buf(),
            store,
            format_version,
            manifest_bytes_min: options.manifest_bytes_min,
            events: events.clone(),
            numbers: Arc::new(numbers),
            installed: Installed::empty(options.levels, options),
            next_keyspace: KEYSPACE_DEFAULT + 1,
            older: Vec::new(),
            manifest: 0,
            writer: None,
            torn_at: None,
            doubt: None,
            retired: BTreeSet::new(),
        };
        set.begin_new_manifest(VersionEdit::default())?;
        Ok(set)
    }

    /// Reads IDENTITY, CURRENT and the manifest. Writes nothing: the first commit begins a new manifest. The caller
    /// still has to tell of files that the list does not know, with [`VersionSet::bump_past`].
    pub fn recover(env: &Env, dir: &Path, options: &Options, events: &Events) -> Result<VersionSet> {
        let identity = log::read_identity(env, dir)?;
        let current = log::read_current(env, dir, identity.store)?;
        let read = log::read(env, dir, &current)?;
        let path = FileKind::Manifest(current.manifest).path(dir);
        let mut installed = Installed::of(&path, &read.edits, options)?;
        let levels = installed.catalog.levels();
        if levels > options.levels {
            return Err(Error::InvalidArgument(format!(
                "option levels is {}, and this store has {levels}: they can only become more",
                options.levels
            )));
        }
        let wider = VersionEdit { levels: Some(options.levels), ..VersionEdit::default() };
        let catalog = installed.catalog.apply(&wider).expect("levels can become more");
        installed.catalog = Arc::new(catalog);
        let numbers = FileNumbers::starting_at(installed.next_file);
        numbers.bump_past(current.manifest);
        Ok(VersionSet {
            env: env.clone(),
            dir: dir.to_path_buf(),
            store: identity.store,
            format_version: identity.format_version,
            manifest_bytes_min: options.manifest_bytes_min,
            events: events.clone(),
            numbers: Arc::new(numbers),
            next_keyspace: installed.catalog.next_id(),
            installed,
            older: Vec::new(),
            manifest: current.manifest,
            writer: None,
            torn_at: (read.dropped_bytes > 0).then_some(read.valid_bytes),
            doubt: None,
            retired: BTreeSet::new(),
        })
    }

    /// Makes a change durable, and then installs it. `next_file` is filled in, and which blob files go.
    ///
    /// After an error the list is what it was, and it is unknown whether a crash would bring the old or the new one
    /// (S2). So a log that the edit closed must not be appended to, and one that it added not be written to, before
    /// another commit that says the same, or supersedes it, has succeeded. Files that the edit added must stay.
    pub fn commit(&mut self, edit: VersionEdit) -> Result<()> {
        let full = |writer: &ManifestWriter| writer.bytes() > self.manifest_bytes_min.max(2 * writer.snapshot_bytes());
        if self.writer.as_ref().is_none_or(full) {
            sometimes!("manifest rolled because it is long", if self.writer.is_some());
            sometimes!("manifest rolled after a failed commit", if self.doubt.is_some());
            return self.begin_new_manifest(edit);
        }
        let (edit, next) = self.prepare(edit);
        let writer = self.writer.as_mut().expect("a missing one has begun a new manifest above");
        match writer.append(&edit) {
            Ok(()) => {
                self.install(next);
                Ok(())
            }
            Err(error) => {
                sometimes!("an edit may be durable or not");
                self.doubt(&edit, self.manifest);
                Err(error)
            }
        }
    }

    /// Like [`VersionSet::commit`], and by way of a new manifest. The old one is left for others to remove.
    pub fn begin_new_manifest(&mut self, edit: VersionEdit) -> Result<()> {
        let number = self.numbers.next();
        let (edit, next) = self.prepare(edit);
        match self.write_manifest(number, &next.snapshot()) {
            Ok(writer) => {
                self.retire_all_but(number);
                self.manifest = number;
                self.writer = Some(writer);
                self.install(next);
                self.events.tell(|| Event::ManifestRotated { manifest: number });
                Ok(())
            }
            Err(error) => {
                sometimes!("a new manifest may count or not");
                self.doubt(&edit, number);
                Err(error)
            }
        }
    }

    /// Keeps the tables of another list live as long as somebody holds it.
    pub fn hold(&mut self, catalog: &Arc<Catalog>) {
        self.older.push(Arc::downgrade(catalog));
    }

    /// Where the recovered manifest has a last record that is not whole. A power cut leaves that behind when it strikes during
    /// an append, and so does damage to a record that was whole: the list itself cannot tell, what else is there may.
    pub fn torn_at(&self) -> Option<u64> {
        self.torn_at
    }

    /// The list as it is now.
    pub fn current(&self) -> &Arc<Catalog> {
        &self.installed.catalog
    }

    /// The edit that makes the list as it is now out of nothing.
    pub fn snapshot(&self) -> VersionEdit {
        VersionEdit { next_file: Some(self.numbers.peek()), ..self.installed.snapshot() }
    }

    /// What can be read back of the list; `None` while it is [ambiguous](VersionSet::is_ambiguous), and before the first commit
    /// of a set that was recovered.
    pub fn written(&self) -> Option<Written> {
        let writer = self.writer.as_ref().filter(|_| self.doubt.is_none())?;
        let identity = Identity { store: self.store, format_version: self.format_version };
        let installed = self.installed.clone();
        Some(Written { identity, current: *writer.current(), bytes: writer.bytes(), installed })
    }

    /// Which store this is.
    pub fn uuid(&self) -> Uuid {
        self.store
    }

    /// How new a library must be to open the store, and so what may be written into it.
    pub fn format_version(&self) -> u32 {
        self.format_version
    }

    /// Raises the format version to the newest that this library writes, durably; where it is that already, nothing is done. What
    /// an older library would not know may be written from when this has returned, and not before: after an error a crash may
    /// bring either version, and the old one goes on to be kept to.
    pub fn upgrade(&mut self) -> Result<()> {
        if self.format_version == FORMAT_VERSION {
            return Ok(());
        }
        log::write_identity(&self.env, &self.dir, &Identity { store: self.store, format_version: FORMAT_VERSION })?;
        self.env.sync_dir(&self.dir)?;
        sometimes!("a store is upgraded");
        self.format_version = FORMAT_VERSION;
        Ok(())
    }

    /// The counter for the numbers of files, to be used without this set.
    pub fn numbers(&self) -> &Arc<FileNumbers> {
        &self.numbers
    }

    /// A number that no keyspace has had, for one that an edit is to set. It is used up also where that fails: it may be that
    /// the failed edit counts.
    pub fn new_keyspace_id(&mut self) -> KeyspaceId {
        let id = self.next_keyspace;
        self.next_keyspace = id.checked_add(1).expect("a store lives not to create 2^32 keyspaces");
        id
    }

    /// A number that no file has had.
    pub fn new_file_number(&self) -> u64 {
        self.numbers.next()
    }

    /// Makes sure that `number`, which was found on disk, will not be drawn.
    pub fn bump_past(&self, number: u64) {
        self.numbers.bump_past(number);
    }

    /// The latest time that an edit has noted, in milliseconds since the Unix epoch; 0 where none has.
    pub fn time_ms(&self) -> u64 {
        self.installed.time_ms
    }

    /// The largest sequence number that the list knows of. Logs may hold larger ones.
    pub fn last_seqno(&self) -> SeqNo {
        self.installed.last_seqno
    }

    /// Logs that count, by number; `None` for one that is still written.
    pub fn wals(&self) -> &BTreeMap<u64, Option<ClosedWal>> {
        &self.installed.wals
    }

    /// The history under which logs are archived, if they ever were.
    pub fn history(&self) -> Option<Uuid> {
        self.installed.history
    }

    /// Logs that only the archive still needs, by number.
    pub fn kept_wals(&self) -> &BTreeMap<u64, KeptWal> {
        &self.installed.kept
    }

    /// The keyspaces that there are after a change, and the merge operator of the default one, as an edit of nothing else.
    pub fn keyspaces_after(&self, change: &VersionEdit) -> VersionEdit {
        let set = |id| change.keyspaces_set.iter().any(|set| set.id == id);
        let stays = |id| !set(id) && !change.keyspaces_dropped.contains(&id);
        let mut keyspaces_set = self.installed.keyspaces();
        keyspaces_set.retain(|keyspace| stays(keyspace.id));
        keyspaces_set.extend(change.keyspaces_set.iter().cloned());
        let own = self.current().merge_operator().map(str::to_string);
        VersionEdit {
            merge_operator: own.or_else(|| change.merge_operator.clone()),
            next_keyspace: Some(self.next_keyspace).filter(|&next| next > KEYSPACE_DEFAULT + 1),
            keyspaces_set,
            ..VersionEdit::default()
        }
    }

    /// The number of the manifest that counts, or of the last one that is known to have counted.
    pub fn manifest_number(&self) -> u64 {
        self.manifest
    }

    /// Whether a commit failed and no later one has succeeded, so that it is unknown which list a crash would bring.
    pub fn is_ambiguous(&self) -> bool {
        self.doubt.is_some()
    }

    /// Numbers of all tables that must not be removed: those of the current list, of every older one that somebody
    /// still reads from, and of failed commits.
    pub fn live_tables(&self) -> BTreeSet<u64> {
        let older = self.older.iter().filter_map(Weak::upgrade);
        let mut live: BTreeSet<u64> = self.doubt.iter().flat_map(|doubt| &doubt.tables).copied().collect();
        for catalog in older.chain([self.installed.catalog.clone()]) {
            live.extend(catalog.tables().map(|(_, table)| table.number));
        }
        live
    }

    /// The same of blob files.
    pub fn live_blobs(&self) -> BTreeSet<u64> {
        let older = self.older.iter().filter_map(Weak::upgrade);
        let mut live: BTreeSet<u64> = self.doubt.iter().flat_map(|doubt| &doubt.blobs).copied().collect();
        for catalog in older.chain([self.installed.catalog.clone()]) {
            live.extend(catalog.blobs().keys());
        }
        live
    }

    /// Numbers of all logs that must not be removed: those that count, those that the archive needs, and those of failed commits.
    pub fn live_wals(&self) -> BTreeSet<u64> {
        let doubtful = self.doubt.iter().flat_map(|doubt| &doubt.wals);
        self.installed.wals.keys().chain(self.installed.kept.keys()).chain(doubtful).copied().collect()
    }

    /// Numbers of all manifests that must not be removed: the one that counts, and those of failed commits.
    pub fn live_manifests(&self) -> BTreeSet<u64> {
        let doubtful = self.doubt.iter().flat_map(|doubt| &doubt.manifests);
        doubtful.copied().chain([self.manifest]).collect()
    }

    /// Files that commits have made superfluous since this was last asked, beside those that the edits removed:
    /// earlier manifests, and whatever failed commits added. Some of it may have been committed again since, so whoever
    /// removes files still asks what is live. Nothing but the next open would find these files otherwise.
    pub fn take_retired(&mut self) -> BTreeSet<FileKind> {
        std::mem::take(&mut self.retired)
    }

    /// Completes an edit, and works out what counts after it.
    fn prepare(&self, edit: VersionEdit) -> (VersionEdit, Installed) {
        let comes = !edit.keyspaces_set.is_empty();
        let next_keyspace = comes.then_some(self.next_keyspace).or(edit.next_keyspace);
        let blobs_removed = self.installed.catalog.blobs_left_by(&edit);
        let edit = VersionEdit { next_file: Some(self.numbers.peek()), next_keyspace, blobs_removed, ..edit };
        match self.installed.apply(&edit) {
            Ok(next) => (edit, next),
            Err(wrong) => panic!("S4: an edit does not fit the list: {wrong}; the edit: {edit:?}"),
        }
    }

    /// Writes a manifest and makes it count. Each step is durable before the next one relies on it.
    fn write_manifest(&self, number: u64, snapshot: &VersionEdit) -> Result<ManifestWriter> {
        let writer = ManifestWriter::create(&self.env, &self.dir, number, self.store, snapshot)?;
        self.env.sync_dir(&self.dir)?;
        log::set_current(&self.env, &self.dir, writer.current())?;
        Ok(writer)
    }

    fn install(&mut self, next: Installed) {
        let before = std::mem::replace(&mut self.installed, next);
        self.older.retain(|catalog| catalog.strong_count() > 0);
        self.older.push(Arc::downgrade(&before.catalog));
    }

    /// Only this manifest counts from now on: the doubt is over.
    fn retire_all_but(&mut self, manifest: u64) {
        let doubt = self.doubt.take().unwrap_or_default();
        self.retired.extend(doubt.tables.into_iter().map(FileKind::Sst));
        self.retired.extend(doubt.blobs.into_iter().map(FileKind::Blob));
        self.retired.extend(doubt.wals.into_iter().map(FileKind::Wal));
        self.retired.extend(doubt.manifests.into_iter().map(FileKind::Manifest));
        // Manifest 0 stands for none, in a store that is being created.
        self.retired.extend((self.manifest > 0).then_some(FileKind::Manifest(self.manifest)));
        assert!(!self.retired.contains(&FileKind::Manifest(manifest)), "S3: manifest {manifest} was begun twice");
    }

    fn doubt(&mut self, edit: &VersionEdit, manifest: u64) {
        self.writer = None;
        let doubt = self.doubt.get_or_insert_default();
        doubt.tables.extend(edit.added.iter().map(|(_, table)| table.number));
        doubt.blobs.extend(edit.blobs_added.iter().map(|blob| blob.number));
        doubt.wals.extend(&edit.wals_added);
        doubt.manifests.insert(manifest);
    }
}
