//! Verifying a store while it is in use: reads everything back that counts, and says of each thing that is not as it was written
//! what it is, what it costs and what to do.
//!
//! ```text
//! IDENTITY, CURRENT, manifest -> each table, block by block -> each blob file -> each log, record by record
//!     -> all tables side by side
//! ```
//!
//! Verified: every byte that counts. The list is compared with what the open store has in memory; tables and logs with what the
//! list says of them; tables with each other, as by [`check`](super::check). Of the log that is being written counts what was
//! written when the verification began. Not verified: what came later, and files that count no more, which nobody reads.
//!
//! F1. What is damaged is told only of a file that counts, by a list that was looked at *after* the damage was met. What flushes,
//!     compactions and rotations have replaced meanwhile may be gone, and rightly.
//! F2. Nothing is held while files are read: no lock, and of old versions only what one piece of the walk over all tables needs.
//! F3. Where one thing is damaged the rest is verified all the same; a table goes on behind a block that is damaged. A log is
//!     read up to its first damage, since nothing behind that counts.
//! F4. It reads no faster than the [rate of background work](crate::options::Options::background_bytes_per_second) allows, and
//!     ends when the store is closed.

use crate::blob::{BlobFile, BlobMeta};
use crate::cache::BlockCache;
use crate::compaction::flush::describe;
use crate::compaction::rate::Urgency;
use crate::db::background;
use crate::db::check::{check_order_from, compare_table};
use crate::db::state::State;
use crate::env::{Env, OpenMode};
use crate::error::{Error, Result};
use crate::event::Events;
use crate::filename::FileKind;
use crate::key::{KeyspaceId, SeqNo};
use crate::manifest::catalog::Catalog;
use crate::manifest::edit::LEVELS_MAX;
use crate::manifest::format::{CURRENT_LEN, IDENTITY_LEN};
use crate::manifest::log::list_mark;
use crate::manifest::set::{VersionSet, Written};
use crate::manifest::version::TableMeta;
use crate::mark::sometimes;
use crate::options::Options;
use crate::record::Uuid;
use crate::sst::{Table, TableCache};
use crate::wal::{ReplayExpect, replay};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// The first user key, and the last or the one behind it.
type KeyRange = (Vec<u8>, Vec<u8>);

/// How often a list is looked at anew because the store replaces it meanwhile.
const ATTEMPTS_MAX: u32 = 100;

/// How far a verification has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerifyProgress {
    /// The file that is being read.
    pub file: FileKind,
    /// Bytes that were read back so far.
    pub bytes_done: u64,
    /// Bytes that counted when it began.
    pub bytes_total: u64,
}

/// What a verification has found.
#[derive(Clone, Debug)]
pub struct Verification {
    /// Files that counted from its beginning to its end, with the number of bytes of each that count.
    pub files: BTreeMap<String, u64>,
    /// Tables that were read back.
    pub tables: u64,
    /// Entries in those of them that are sound.
    pub entries: u64,
    /// Blob files that were read back.
    pub blobs: u64,
    /// Logs that were read back.
    pub logs: u64,
    /// Batches in them.
    pub batches: u64,
    /// What was replaced before it could be read, or while it was.
    pub replaced: u64,
    /// Everything that is not as it was written.
    pub damage: Vec<FoundDamage>,
}

/// Something that is not as it was written.
#[derive(Clone, Debug)]
pub struct FoundDamage {
    /// Which file.
    pub file: FileKind,
    /// What is wrong: an [`Error::Corruption`] that names place and expectation, or what the file system said.
    pub cause: Error,
    /// Of a table or a blob file: the keyspace whose keys or values it holds.
    pub keyspace: Option<KeyspaceId>,
    /// Of a table: its level.
    pub level: Option<usize>,
    /// Of a table: the first and the last user key, or the one behind it, that the damage can touch.
    pub keys: Option<(Vec<u8>, Vec<u8>)>,
    /// What to do about it, as a sentence.
    pub remedy: &'static str,
}

impl Verification {
    /// Whether nothing is damaged.
    pub fn is_sound(&self) -> bool {
        self.damage.is_empty()
    }
}

impl fmt::Display for Verification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Verification { tables, entries, logs, batches, damage, .. } = self;
        let verdict = if damage.is_empty() { "sound" } else { "damaged" };
        write!(f, "{verdict}: {entries} entries in {tables} tables, {batches} batches in {logs} logs")?;
        damage.iter().try_for_each(|damage| write!(f, "\n{damage}"))
    }
}

impl fmt::Display for FoundDamage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cause {
            Error::Corruption(damage) => {
                write!(f, "{} is damaged at byte {}: expected {}", self.file.name(), damage.offset, damage.expected)?;
            }
            cause => write!(f, "{} cannot be read: {cause}", self.file.name())?,
        }
        if let (Some((from, to)), Some(keyspace)) = (&self.keys, self.keyspace) {
            let (from, to) = (from.escape_ascii(), to.escape_ascii());
            write!(f, "; touches keys \"{from}\" to \"{to}\" of keyspace {keyspace}")?;
        }
        write!(f, "; {}", self.remedy)
    }
}

/// Whose files they are.
enum Subject<'a> {
    /// A store that is open here.
    Open(&'a State),
    /// Files that nobody has open, or somebody else has.
    Files { env: &'a Env, dir: &'a Path, options: &'a Options },
}

/// What counts at one moment.
struct Listing {
    store: Uuid,
    catalog: Arc<Catalog>,
    logs: Vec<Log>,
    /// `None` while it is unknown what is in the manifest.
    list: Option<Written>,
    manifest: u64,
}

/// A log that counts.
#[derive(Clone, Copy)]
struct Log {
    number: u64,
    expect: ReplayExpect,
    /// The last seqno in it, where that is known.
    last_seqno: Option<SeqNo>,
}

/// Verifies the store that is open here.
pub(crate) fn verify_open(state: &State, tell: &mut dyn FnMut(VerifyProgress)) -> Result<Verification> {
    let walk = Walk::new(Subject::Open(state), state.tables.clone(), tell);
    walk.run()
}

/// Verifies the files of a store in `path`, whether or not somebody has it open, as [`Db::verify`](super::Db::verify) does: takes
/// no lock and changes nothing. A store that cannot be opened can be verified; where its list is damaged, that is all that is
/// found. Of [`Options`] none has to be as the store has it.
///
/// Errors: [`Error::NotAStore`], [`Error::NewerFormat`], [`Error::Overtaken`] where the writer replaces the list faster than it can
/// be read, and what the file system says of the directory and the list. Damage is no error, and neither is a table or log that
/// cannot be read.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("store");
/// use strata::db::{Db, verify_files};
/// use strata::env::Env;
/// use strata::options::Options;
///
/// let db = Db::open(&path)?;
/// db.put(b"ada", b"1815")?;
/// db.flush()?;
/// db.close()?;
/// assert!(verify_files(&Env::os(), &path, &Options::default(), &mut |_| ())?.is_sound());
///
/// let table = std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path());
/// let table = table.filter(|path| path.extension().is_some_and(|end| end == "sst")).next().unwrap();
/// let mut bytes = std::fs::read(&table).unwrap();
/// bytes[0] ^= 1;
/// std::fs::write(&table, bytes).unwrap();
/// let found = verify_files(&Env::os(), &path, &Options::default(), &mut |_| ())?;
/// println!("{}", found.damage[0]);
/// assert_eq!(found.damage.len(), 1);
/// # Ok::<(), strata::error::Error>(())
/// ```
pub fn verify_files(
    env: &Env,
    path: &Path,
    options: &Options,
    tell: &mut dyn FnMut(VerifyProgress),
) -> Result<Verification> {
    let options = Options { levels: LEVELS_MAX, create_if_missing: false, error_if_exists: false, ..options.clone() };
    super::recovery::survey_for(env, path, &options)?;
    let tables = Arc::new(TableCache::new(env.clone(), path.to_path_buf(), Arc::new(BlockCache::new(0))));
    Walk::new(Subject::Files { env, dir: path, options: &options }, tables, tell).run()
}

/// A verification on its way.
struct Walk<'a> {
    subject: Subject<'a>,
    tables: Arc<TableCache>,
    tell: &'a mut dyn FnMut(VerifyProgress),
    progress: VerifyProgress,
    found: Verification,
    /// Whether the list was read back.
    list_is_seen: bool,
}

impl<'a> Walk<'a> {
    fn new(subject: Subject<'a>, tables: Arc<TableCache>, tell: &'a mut dyn FnMut(VerifyProgress)) -> Walk<'a> {
        let found = Verification {
            files: BTreeMap::new(),
            tables: 0,
            entries: 0,
            blobs: 0,
            logs: 0,
            batches: 0,
            replaced: 0,
            damage: Vec::new(),
        };
        let progress = VerifyProgress { file: FileKind::Identity, bytes_done: 0, bytes_total: 0 };
        Walk { subject, tables, tell, progress, found, list_is_seen: true }
    }

    fn run(mut self) -> Result<Verification> {
        let begun = match self.subject.listing() {
            Ok(begun) => begun,
            Err(error) => {
                self.note_list(error)?;
                return Ok(self.found);
            }
        };
        let files = self.subject.files(&begun)?;
        self.progress.bytes_total = files.values().sum();
        self.see_list()?;
        let metas: Vec<(usize, Arc<TableMeta>)> =
            begun.catalog.tables().map(|(level, table)| (level, table.clone())).collect();
        let keyspaces: Vec<KeyspaceId> = begun.catalog.entries().iter().map(|entry| entry.id).collect();
        let blobs: Vec<BlobMeta> = begun.catalog.blobs().values().copied().collect();
        let (store, logs) = (begun.store, begun.logs);
        drop(begun.catalog);
        self.subject.let_go();
        for (level, meta) in metas {
            self.see_table(level, &meta)?;
        }
        for blob in blobs {
            self.see_blob(&blob)?;
        }
        let mut floor = 0;
        for log in logs {
            self.see_log(store, log, &mut floor)?;
        }
        for keyspace in keyspaces {
            self.see_order(keyspace)?;
        }
        let ended = self.subject.listing()?;
        let still = self.subject.files(&ended)?;
        let of_the_list = |name: &str| {
            matches!(FileKind::parse(name), Some(FileKind::Identity | FileKind::Current | FileKind::Manifest(_)))
        };
        let counts = |name: &str| still.contains_key(name) && (self.list_is_seen || !of_the_list(name));
        self.found.files = files.into_iter().filter(|(name, _)| counts(name)).collect();
        Ok(self.found)
    }

    fn note_list(&mut self, error: Error) -> Result<()> {
        let Error::Corruption(damage) = &error else { return Err(error) };
        let file = file_of(&damage.path).unwrap_or(FileKind::Current);
        self.note(file, error, None);
        Ok(())
    }

    fn note(&mut self, file: FileKind, cause: Error, of: Option<(usize, &TableMeta, KeyRange)>) {
        let remedy = remedy(file, matches!(self.subject, Subject::Open(_)));
        let mut damage = FoundDamage { file, cause, keyspace: None, level: None, keys: None, remedy };
        if let Some((level, meta, keys)) = of {
            (damage.keyspace, damage.level, damage.keys) = (Some(meta.keyspace), Some(level), Some(keys));
        }
        self.found.damage.push(damage);
    }

    /// So many bytes of a file were read.
    fn pace(&mut self, file: FileKind, bytes: u64) -> Result<()> {
        self.progress.file = file;
        self.progress.bytes_done += bytes;
        (self.tell)(self.progress);
        self.subject.pace(bytes)
    }

    /// IDENTITY, CURRENT and the manifest. Of files that nobody has open here they were read to know what counts.
    fn see_list(&mut self) -> Result<()> {
        let Subject::Open(state) = self.subject else { return Ok(()) };
        for _ in 0..ATTEMPTS_MAX {
            let Some(written) = state.versions.lock().written() else {
                sometimes!("a verification finds the manifest in doubt");
                break;
            };
            let read = written.read_back(&state.env, &state.dir, &state.options);
            state.ensure_open()?;
            let Err(error) = read else {
                let bytes = written.bytes() + (CURRENT_LEN + IDENTITY_LEN) as u64;
                return self.pace(FileKind::Manifest(written.manifest()), bytes);
            };
            let now = state.versions.lock().written();
            if now.is_some_and(|now| now.manifest() == written.manifest()) {
                let file = match &error {
                    Error::Corruption(damage) => file_of(&damage.path),
                    Error::Io(failure) => file_of(&failure.path),
                    _ => None,
                };
                self.note(file.unwrap_or(FileKind::Current), error, None);
                return Ok(());
            }
            sometimes!("a verification is overtaken by a new manifest");
        }
        self.found.replaced += 1;
        self.list_is_seen = false;
        Ok(())
    }

    fn see_table(&mut self, level: usize, meta: &TableMeta) -> Result<()> {
        let file = FileKind::Sst(meta.number);
        let (env, dir) = self.subject.place();
        let (env, path) = (env.clone(), file.path(dir));
        let mut damaged = Vec::new();
        let read = self.read_table(&env, &path, level, meta, &mut damaged);
        self.subject.ensure_open()?;
        match read {
            Ok(entries) if damaged.is_empty() => {
                self.found.tables += 1;
                self.found.entries += entries;
                return Ok(());
            }
            Ok(_) => {}
            Err(error @ Error::Closed) => return Err(error),
            Err(error) => {
                let all = (meta.smallest_user().to_vec(), meta.largest_user().to_vec());
                damaged.push((error, all));
            }
        }
        // F1.
        let now = self.subject.listing()?;
        let Some((level, _)) = now.catalog.tables().find(|(_, table)| table.number == meta.number) else {
            sometimes!("a table is replaced while it is verified");
            self.found.replaced += 1;
            return Ok(());
        };
        self.found.tables += 1;
        for (error, keys) in damaged {
            self.note(file, error, Some((level, meta, keys)));
        }
        Ok(())
    }

    /// Returns how many entries there are.
    fn read_table(
        &mut self,
        env: &Env,
        path: &Path,
        level: usize,
        meta: &TableMeta,
        damaged: &mut Vec<(Error, KeyRange)>,
    ) -> Result<u64> {
        let file = env.open(path, OpenMode::Read).map_err(|error| match error.is_not_found() {
            true => Error::corruption(path, 0, "the table that the manifest names, found no file"),
            false => error,
        })?;
        // Opened by its name, and read from the file: what the store has in memory of it says nothing.
        let table = Table::open(file, meta.number, meta.bytes, Arc::new(BlockCache::new(0)))?;
        let kind = FileKind::Sst(meta.number);
        let summary = table.read_back(&mut |bytes| self.pace(kind, bytes), &mut |error| {
            let Error::Corruption(damage) = &error else { unreachable!("only damage is handed on") };
            let all = || (meta.smallest_user().to_vec(), meta.largest_user().to_vec());
            let keys = table.keys_at(damage.offset).unwrap_or_else(all);
            damaged.push((error, keys));
        })?;
        let Some(summary) = summary else { return Ok(0) };
        let dir = path.parent().unwrap_or(path);
        compare_table(dir, level, meta, describe(meta.number, table.properties().keyspace, summary))?;
        Ok(meta.entries)
    }

    fn see_blob(&mut self, meta: &BlobMeta) -> Result<()> {
        let file = FileKind::Blob(meta.number);
        let (env, dir) = self.subject.place();
        let (env, path) = (env.clone(), file.path(dir));
        let read = match env.open(&path, OpenMode::Read) {
            Err(error) if error.is_not_found() => {
                Err(Error::corruption(&path, 0, "the blob file that the manifest names, found no file"))
            }
            opened => opened
                .and_then(|opened| BlobFile::open(opened, meta.number))
                .and_then(|opened| opened.verify(meta, &mut |bytes| self.pace(file, bytes))),
        };
        self.subject.ensure_open()?;
        // F1.
        match read {
            Err(error @ Error::Closed) => return Err(error),
            Err(_) if !self.subject.listing()?.catalog.blobs().contains_key(&meta.number) => {
                sometimes!("a blob file goes while it is verified");
                self.found.replaced += 1;
                return Ok(());
            }
            Err(error) => {
                self.note(file, error, None);
                if let Some(damage) = self.found.damage.last_mut() {
                    damage.keyspace = Some(meta.keyspace);
                }
            }
            Ok(()) => {}
        }
        self.found.blobs += 1;
        Ok(())
    }

    /// `floor` is the last seqno of the logs before this one.
    fn see_log(&mut self, store: Uuid, log: Log, floor: &mut SeqNo) -> Result<()> {
        let file = FileKind::Wal(log.number);
        let (env, dir) = self.subject.place();
        let (env, dir) = (env.clone(), dir.to_path_buf());
        let mut batches = 0;
        let read = replay(&env, &dir, log.number, store, log.expect, &mut |seqno, _, payload| {
            if seqno <= *floor {
                let expected = format!("batches behind seqno {floor}, where the log before it ended, found {seqno}");
                return Err(Error::corruption(&file.path(&dir), 0, expected));
            }
            batches += 1;
            self.pace(file, payload.len() as u64)
        });
        self.subject.ensure_open()?;
        let read = read.and_then(|read| match (log.last_seqno, read.last_seqno) {
            (Some(known), Some(last)) if known != last => {
                let expected = format!("a log that ends with seqno {known}, found {last}");
                Err(Error::corruption(&file.path(&dir), read.valid_bytes, expected))
            }
            _ => Ok(read),
        });
        *floor = log.last_seqno.unwrap_or(*floor);
        match read {
            Ok(read) => {
                *floor = read.last_seqno.unwrap_or(*floor);
                self.found.logs += 1;
                self.found.batches += batches;
                Ok(())
            }
            Err(error @ Error::Closed) => Err(error),
            Err(error) => {
                // F1.
                if self.subject.listing()?.logs.iter().any(|other| other.number == log.number) {
                    self.found.logs += 1;
                    self.note(file, error, None);
                } else {
                    sometimes!("a log goes while it is verified");
                    self.found.replaced += 1;
                }
                Ok(())
            }
        }
    }

    /// That of two versions of a key the newer lies above. Piece by piece, each with the tables that there are then.
    fn see_order(&mut self, keyspace: KeyspaceId) -> Result<()> {
        let mut damaged: BTreeSet<u64> = self.found.damage.iter().filter_map(|damage| table_of(damage.file)).collect();
        let mut from: Option<Vec<u8>> = None;
        loop {
            let catalog = self.subject.listing()?.catalog;
            let Some(entry) = catalog.get(keyspace) else { return Ok(()) };
            let (tables, version) = (self.tables.clone(), entry.version.clone());
            let (_, dir) = self.subject.place();
            let dir = dir.to_path_buf();
            let subject = &self.subject;
            let mut pace = |bytes| subject.pace(bytes);
            let walked = check_order_from((&tables, None), &dir, &version, from.as_deref(), &damaged, &mut pace);
            drop((catalog, version));
            self.subject.let_go();
            self.subject.ensure_open()?;
            match walked {
                Ok(None) => return Ok(()),
                Ok(next) => from = next,
                Err(error @ Error::Closed) => return Err(error),
                Err(error) => {
                    let path = match &error {
                        Error::Corruption(damage) => Some(damage.path.clone()),
                        Error::Io(failure) => Some(failure.path.clone()),
                        _ => None,
                    };
                    let number = path.as_deref().and_then(file_of).and_then(table_of);
                    let now = self.subject.listing()?;
                    let listed = now.catalog.tables().find(|(_, table)| Some(table.number) == number);
                    match (number, listed) {
                        // Not of one table: the piece is out of order as a whole.
                        (None, _) => {
                            self.note(FileKind::Manifest(now.manifest), error, None);
                            return Ok(());
                        }
                        (Some(number), Some((level, meta))) => {
                            let (meta, keys) =
                                (meta.clone(), (meta.smallest_user().to_vec(), meta.largest_user().to_vec()));
                            self.note(FileKind::Sst(number), error, Some((level, &meta, keys)));
                            damaged.insert(number);
                        }
                        (Some(_), None) => {}
                    }
                }
            }
        }
    }
}

impl Subject<'_> {
    fn place(&self) -> (&Env, &Path) {
        match self {
            Subject::Open(state) => (&state.env, &state.dir),
            Subject::Files { env, dir, .. } => (env, dir),
        }
    }

    fn listing(&self) -> Result<Listing> {
        match self {
            Subject::Open(state) => {
                state.ensure_open()?;
                let commit = state.commit.lock();
                let live = commit.wal.as_ref().map(|wal| (wal.number(), wal.bytes(), wal.last_seqno()));
                let versions = state.versions.lock();
                let logs = versions.wals().iter().filter_map(|(&number, closed)| match (closed, live) {
                    (Some(closed), _) => {
                        let expect = ReplayExpect::Written { bytes: closed.bytes };
                        Some(Log { number, expect, last_seqno: Some(closed.last_seqno) })
                    }
                    (None, Some((live, bytes, last_seqno))) if live == number => {
                        let expect = ReplayExpect::Written { bytes };
                        Some(Log { number, expect, last_seqno: Some(last_seqno) })
                    }
                    // It failed, and nobody knows what is in it: what counts of it is in memory, and on its way to a table.
                    (None, _) => None,
                });
                Ok(Listing {
                    store: state.store,
                    logs: logs.collect(),
                    catalog: versions.current().clone(),
                    list: versions.written(),
                    manifest: versions.manifest_number(),
                })
            }
            Subject::Files { env, dir, options } => {
                let mut cause = None;
                for _ in 0..ATTEMPTS_MAX {
                    let before = list_mark(env, dir);
                    let error = match VersionSet::recover(env, dir, options, &Events::default()) {
                        Ok(versions) => return Ok(Listing::of(&versions)),
                        Err(error) => error,
                    };
                    let after = list_mark(env, dir);
                    if !error.is_corruption() || matches!((before, after), (Ok(before), Ok(after)) if before == after) {
                        return Err(error);
                    }
                    cause = Some(Box::new(error));
                }
                Err(Error::Overtaken { attempts: ATTEMPTS_MAX, cause })
            }
        }
    }

    /// Files that count, each with its bytes that do.
    fn files(&self, listing: &Listing) -> Result<BTreeMap<String, u64>> {
        let (env, dir) = self.place();
        let mut files = BTreeMap::new();
        files.insert(FileKind::Identity.name(), IDENTITY_LEN as u64);
        if let Some(written) = &listing.list {
            files.insert(FileKind::Current.name(), CURRENT_LEN as u64);
            files.insert(FileKind::Manifest(written.manifest()).name(), written.bytes());
        } else if matches!(self, Subject::Files { .. }) {
            let manifest = FileKind::Manifest(listing.manifest);
            files.insert(FileKind::Current.name(), CURRENT_LEN as u64);
            files.insert(manifest.name(), env.file_len(&manifest.path(dir))?.unwrap_or(0));
        }
        for (_, table) in listing.catalog.tables() {
            files.insert(FileKind::Sst(table.number).name(), table.bytes);
        }
        for blob in listing.catalog.blobs().values() {
            files.insert(FileKind::Blob(blob.number).name(), blob.bytes);
        }
        for log in &listing.logs {
            let kind = FileKind::Wal(log.number);
            let bytes = match log.expect {
                ReplayExpect::Written { bytes } | ReplayExpect::Sealed { bytes } => bytes,
                ReplayExpect::Closed | ReplayExpect::Newest => env.file_len(&kind.path(dir))?.unwrap_or(0),
            };
            files.insert(kind.name(), bytes);
        }
        Ok(files)
    }

    /// F4.
    fn pace(&self, bytes: u64) -> Result<()> {
        let Subject::Open(state) = self else { return Ok(()) };
        state.ensure_open()?;
        if background::pay(state, bytes, &|| Urgency::Later) { Ok(()) } else { Err(Error::Closed) }
    }

    fn ensure_open(&self) -> Result<()> {
        match self {
            Subject::Open(state) => state.ensure_open(),
            Subject::Files { .. } => Ok(()),
        }
    }

    /// A version was let go of: what only it needed can go.
    fn let_go(&self) {
        if let Subject::Open(state) = self {
            state.work.lock().released = true;
            state.work_changed.notify_all();
        }
    }
}

impl Listing {
    /// What nobody has open here.
    fn of(versions: &VersionSet) -> Listing {
        let newest = versions.wals().keys().next_back().copied();
        let log = |(&number, closed): (&u64, &Option<crate::wal::ClosedWal>)| {
            let expect = match closed {
                Some(closed) => ReplayExpect::Written { bytes: closed.bytes },
                None if Some(number) == newest => ReplayExpect::Newest,
                None => ReplayExpect::Closed,
            };
            Log { number, expect, last_seqno: closed.map(|closed| closed.last_seqno) }
        };
        Listing {
            store: versions.uuid(),
            catalog: versions.current().clone(),
            logs: versions.wals().iter().map(log).collect(),
            list: None,
            manifest: versions.manifest_number(),
        }
    }
}

fn file_of(path: &Path) -> Option<FileKind> {
    FileKind::parse(path.file_name()?.to_str()?)
}

fn table_of(file: FileKind) -> Option<u64> {
    match file {
        FileKind::Sst(number) => Some(number),
        _ => None,
    }
}

/// What to do about damage in a file of a store that is open here, or is not.
fn remedy(file: FileKind, is_open: bool) -> &'static str {
    match (file, is_open) {
        (FileKind::Sst(_) | FileKind::Blob(_), _) => {
            "restore the file from a backup, or salvage the store; keys beside these can be read and written meanwhile"
        }
        (FileKind::Wal(_), true) => {
            "flush the store before it is closed: what the log holds is in memory as well, and a log whose entries are in tables \
             goes"
        }
        (FileKind::Wal(_), false) => {
            "if the store is open, have it flush; else restore it from a backup, or salvage it: what the log holds from there on is \
             nowhere else"
        }
        (_, true) => {
            "make a checkpoint or a backup before the store is closed: it has in memory what the file should say, and cannot be \
             opened without the file"
        }
        (_, false) => {
            "if the store is open, make a checkpoint or a backup of it before it is closed; else restore it from a backup, or \
             salvage it"
        }
    }
}
