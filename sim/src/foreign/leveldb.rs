//! rusty-leveldb as a system under test, through its `Env`: a directory of logs, tables and manifests.
//!
//! Its `Env` has no sync: all that there is is `flush` of a `Write`, which does nothing in the `PosixDiskEnv` that comes with
//! it. So this adapter has three environments, see [`Syncs`], of which the kindest makes everything durable that the engine
//! lets out of its hands. Whatever is lost in that one is lost by the engine.
//!
//! Every write asks for `sync`, and counts as durable. The engine is made of `Rc`, and belongs to the OS thread that opened
//! it; all tasks of a simulation run on that one. It tells no sequence numbers of writes that fail, so that the oracle counts.

use super::caught::{Caught, catch};
use super::{damages, invalid};
use crate::env::park_in;
use crate::fault::{FaultKind, FileClass};
use crate::fiber::ThreadBound;
use crate::store::{Commit, Failure, FailureKind, ScanResult, SnapshotId, Store, StoreKind, SyncMode, Write};
use crate::syscall::{LockGuard, OpenFile, OpenMode};
use crate::world::World;
use rusty_leveldb::env::{Env, FileLock, Logger, RandomAccess};
use rusty_leveldb::{BloomPolicy, DB, DBIterator, LdbIterator, Options, Status, StatusCode, WriteBatch, infolog};
use serde::Deserialize;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::ops::{Bound, RangeBounds};
use std::panic::Location;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

const DIR: &str = "db";

/// By what an error tells that there is no space: the engine has one code for all errors of files.
const NO_SPACE: &str = "no space is left";

/// Behind every key.
const LAST_KEY: [u8; 1024] = [0xff; 1024];

/// What every key begins with where none may be empty.
const PREFIX: u8 = b'k';

/// A block that holds a table.
const BLOCK_BYTES_SPARED: usize = 1 << 20;

/// Opens rusty-leveldb.
#[derive(Clone, Copy, Debug, Default)]
pub struct LevelDbKind;

/// The options of this adapter. Those that Strata has too mean the same.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    memtable_bytes: usize,
    table_bytes: usize,
    block_bytes: usize,
    restart_interval: usize,
    cache_bytes: usize,
    filter_bits_per_key: u32,
    reuse_logs: bool,
    reuse_manifest: bool,
    syncs: Syncs,
    /// Whether it is spared what it does wrong without any fault, so that what it does wrong with one can be seen: no key is
    /// empty, a table is one block, and nothing walks backward.
    spared: bool,
}

/// When the environment makes something durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Syncs {
    /// Never, like `PosixDiskEnv`.
    Never,
    /// A `flush` makes the file durable; names are durable at once.
    Flush,
    /// So does letting go of the file.
    Close,
}

type Entries = Vec<(Vec<u8>, Vec<u8>)>;

type Get = dyn Fn(&mut DB, &[u8]) -> Result<Option<Vec<u8>>, Status>;
type Iter = dyn Fn(&mut DB) -> Result<DBIterator, Status>;

/// A snapshot, of which the engine does not let us name the type.
struct Held {
    get: Box<Get>,
    iter: Box<Iter>,
}

struct Engine {
    /// Let go of before the database is.
    snapshots: BTreeMap<SnapshotId, Held>,
    next_snapshot: u64,
    spared: bool,
    db: DB,
}

struct LevelDb {
    engine: Caught<ThreadBound<RefCell<Engine>>>,
}

impl StoreKind for LevelDbKind {
    fn name(&self) -> &str {
        "rusty-leveldb"
    }

    fn classify(&self, file_name: &str) -> FileClass {
        match file_name {
            "CURRENT" => FileClass::Current,
            "LOCK" => FileClass::Lock,
            name if name.starts_with("MANIFEST-") => FileClass::Manifest,
            name if name.ends_with(".log") => FileClass::Wal,
            name if name.ends_with(".ldb") => FileClass::Sst,
            name if name.ends_with(".dbtmp") => FileClass::Temp,
            _ => FileClass::Other,
        }
    }

    fn classes(&self) -> Vec<FileClass> {
        use FileClass::{Current, Directory, Lock, Manifest, Sst, Temp, Wal};
        vec![Wal, Sst, Manifest, Current, Temp, Lock, Directory]
    }

    /// It is not asked what it does with a disk that damages what was synced.
    fn withstands(&self, fault: FaultKind) -> bool {
        !damages(fault)
    }

    fn tells_sequence_numbers(&self) -> bool {
        false
    }

    fn checks_itself(&self) -> bool {
        false
    }

    fn open(&self, world: &World, options: &toml::Table) -> Result<Arc<dyn Store>, Failure> {
        park_in(world);
        let settings = settings_of(options).map_err(invalid)?;
        let db = catch(|| DB::open(DIR, options_of(world, settings)))?.map_err(failure)?;
        let engine = Engine { snapshots: BTreeMap::new(), next_snapshot: 1, spared: settings.spared, db };
        Ok(Arc::new(LevelDb { engine: Caught::new(ThreadBound::new(RefCell::new(engine))) }))
    }

    fn default_options(&self) -> toml::Table {
        let text = "memtable_bytes = 4096\ntable_bytes = 2048\nblock_bytes = 256\nrestart_interval = 4\n\
            cache_bytes = 16384\nfilter_bits_per_key = 10\nreuse_logs = true\nreuse_manifest = true\nsyncs = 'close'\nspared = true";
        text.parse().expect("the options above are TOML")
    }

    fn option_names(&self) -> Vec<String> {
        self.default_options().keys().cloned().collect()
    }

    fn varied_options(&self) -> toml::Table {
        let text = "reuse_logs = [true, false]\nreuse_manifest = [true, false]\nsyncs = ['close', 'flush']\n\
            spared = [true, false]";
        text.parse().expect("the options above are TOML")
    }

    fn is_durable_when_closed(&self) -> bool {
        true
    }

    fn locks(&self) -> bool {
        true
    }

    fn check_options(&self, options: &toml::Table) -> Result<(), String> {
        settings_of(options).map(|_| ())
    }
}

fn settings_of(table: &toml::Table) -> Result<Settings, String> {
    let settings: Settings = table.clone().try_into().map_err(|error: toml::de::Error| error.message().to_string())?;
    if settings.restart_interval == 0 || settings.block_bytes == 0 {
        return Err("a block has some bytes, and some keys between two restart points".into());
    }
    Ok(settings)
}

fn options_of(world: &World, settings: Settings) -> Options {
    let block_bytes = if settings.spared { BLOCK_BYTES_SPARED } else { settings.block_bytes };
    let env = Surroundings { world: world.clone(), syncs: settings.syncs, lock: RefCell::new(None) };
    Options {
        env: Rc::new(Box::new(env)),
        // What it tells of itself is not kept: its words are no part of the store.
        log: Some(Rc::new(RefCell::new(infolog::Logger(Box::new(io::sink()))))),
        write_buffer_size: settings.memtable_bytes,
        max_file_size: settings.table_bytes,
        block_size: block_bytes,
        block_restart_interval: settings.restart_interval,
        // It takes a cache that holds a block, and a filter of a bit, for granted.
        block_cache_capacity_bytes: settings.cache_bytes.max(block_bytes),
        filter_policy: Rc::new(Box::new(BloomPolicy::new(settings.filter_bits_per_key.max(1)))),
        reuse_logs: settings.reuse_logs,
        reuse_manifest: settings.reuse_manifest,
        ..Options::default()
    }
}

/// What a judge needs to know of an error.
fn failure(status: Status) -> Failure {
    let kind = match status.code {
        StatusCode::Corruption | StatusCode::InvalidData | StatusCode::CompressionError => FailureKind::Corruption,
        StatusCode::IOError if status.err.contains(NO_SPACE) => FailureKind::OutOfSpace,
        // The last is what it says whenever it cannot read CURRENT.
        StatusCode::IOError | StatusCode::PermissionDenied | StatusCode::InvalidArgument => FailureKind::Io,
        StatusCode::LockError => FailureKind::Locked,
        _ => FailureKind::Other,
    };
    Failure { kind, message: status.err, file: None }
}

fn bytes_of(bound: &Bound<Vec<u8>>) -> Bound<&[u8]> {
    bound.as_ref().map(Vec::as_slice)
}

/// Walks upward from the lower bound.
fn walk(iter: &mut DBIterator, (from, to): (Bound<&[u8]>, Bound<&[u8]>), limit: usize) -> Entries {
    match from {
        Bound::Unbounded => iter.seek_to_first(),
        Bound::Included(key) | Bound::Excluded(key) => iter.seek(key),
    }
    let mut entries = Vec::new();
    while entries.len() < limit {
        let Some((key, value)) = iter.current() else { break };
        if !RangeBounds::<[u8]>::contains(&(Bound::Unbounded, to), &key[..]) {
            break;
        }
        if RangeBounds::<[u8]>::contains(&(from, Bound::Unbounded), &key[..]) {
            entries.push((key.to_vec(), value.to_vec()));
        }
        if !iter.advance() {
            break;
        }
    }
    entries
}

/// Walks downward from the upper bound. There is no seek to the last entry, so that one is counted out.
fn walk_back(iter: &mut DBIterator, (from, to): (Bound<&[u8]>, Bound<&[u8]>), limit: usize) -> Entries {
    match to {
        Bound::Unbounded => {}
        Bound::Included(key) | Bound::Excluded(key) => iter.seek(key),
    }
    if !iter.valid() {
        let mut count = 0;
        iter.seek_to_first();
        while iter.valid() {
            count += 1;
            iter.advance();
        }
        iter.seek_to_first();
        (1..count).for_each(|_| {
            iter.advance();
        });
    }
    let mut entries = Vec::new();
    while entries.len() < limit {
        let Some((key, value)) = iter.current() else { break };
        if !RangeBounds::<[u8]>::contains(&(from, Bound::Unbounded), &key[..]) {
            break;
        }
        if RangeBounds::<[u8]>::contains(&(Bound::Unbounded, to), &key[..]) {
            entries.push((key.to_vec(), value.to_vec()));
        }
        if !iter.prev() {
            break;
        }
    }
    entries
}

impl Engine {
    /// A key as the engine gets it.
    fn key(&self, key: &[u8]) -> Vec<u8> {
        if self.spared { [&[PREFIX], key].concat() } else { key.to_vec() }
    }

    fn bounds(&self, from: Bound<&[u8]>, to: Bound<&[u8]>) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
        match (from, to) {
            (Bound::Unbounded, to) if self.spared => self.bounds(Bound::Included(b""), to),
            (from, Bound::Unbounded) if self.spared => {
                (from.map(|key| self.key(key)), Bound::Excluded(vec![PREFIX + 1]))
            }
            (from, to) => (from.map(|key| self.key(key)), to.map(|key| self.key(key))),
        }
    }

    fn write(&mut self, batch: &[Write]) -> Result<(), Status> {
        let mut entries = WriteBatch::default();
        for write in batch {
            let key = self.key(write.key());
            match write.value() {
                Some(value) => entries.put(&key, value),
                None => entries.delete(&key),
            }
        }
        self.db.write(entries, true)
    }

    fn get(&mut self, at: Option<SnapshotId>, key: &[u8]) -> Result<Option<Vec<u8>>, Failure> {
        let key = self.key(key);
        match at {
            Some(id) => (held(&self.snapshots, id)?.get)(&mut self.db, &key),
            None => {
                // Its `get` takes every error for a missing key, and says so.
                let now = self.db.get_snapshot();
                self.db.get_at(&now, &key).map(|value| value.map(|value| value.to_vec()))
            }
        }
        .map_err(failure)
    }

    fn scan(
        &mut self,
        at: Option<SnapshotId>,
        (from, to): (Bound<&[u8]>, Bound<&[u8]>),
        reverse: bool,
        limit: usize,
    ) -> Result<Entries, Failure> {
        let iter = match at {
            Some(id) => (held(&self.snapshots, id)?.iter)(&mut self.db),
            None => self.db.new_iter(),
        };
        let mut iter = iter.map_err(failure)?;
        let (from, to) = self.bounds(from, to);
        let bounds = (bytes_of(&from), bytes_of(&to));
        let mut entries = match (reverse, self.spared) {
            (false, _) => walk(&mut iter, bounds, limit),
            (true, false) => walk_back(&mut iter, bounds, limit),
            (true, true) => {
                let mut entries = walk(&mut iter, bounds, usize::MAX);
                entries.reverse();
                entries.truncate(limit);
                entries
            }
        };
        if self.spared {
            entries.iter_mut().for_each(|(key, _)| drop(key.drain(..1)));
        }
        Ok(entries)
    }

    fn hold(&mut self) -> SnapshotId {
        let snapshot = self.db.get_snapshot();
        let same = snapshot.clone();
        let held = Held {
            get: Box::new(move |db, key| Ok(db.get_at(&snapshot, key)?.map(|value| value.to_vec()))),
            iter: Box::new(move |db| db.new_iter_at(same.clone())),
        };
        let id = SnapshotId(self.next_snapshot);
        self.next_snapshot += 1;
        self.snapshots.insert(id, held);
        id
    }
}

impl LevelDb {
    fn call<R>(&self, call: impl FnOnce(&mut Engine) -> Result<R, Failure>) -> Result<R, Failure> {
        self.engine.call(|engine| call(&mut engine.get().borrow_mut()))
    }
}

impl Store for LevelDb {
    fn write(&self, batch: &[Write], _sync: SyncMode) -> Commit {
        Commit::new(None, self.call(|engine| engine.write(batch).map_err(failure)))
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Failure> {
        self.call(|engine| engine.get(None, key))
    }

    fn scan(
        &self,
        at: Option<SnapshotId>,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        reverse: bool,
        limit: usize,
    ) -> Result<ScanResult, Failure> {
        let entries = self.call(|engine| engine.scan(at, (from, to), reverse, limit))?;
        Ok(ScanResult { at: None, entries })
    }

    fn snapshot(&self) -> Result<(SnapshotId, Option<u64>), Failure> {
        self.call(|engine| Ok((engine.hold(), None)))
    }

    fn get_at(&self, snapshot: SnapshotId, key: &[u8]) -> Result<Option<Vec<u8>>, Failure> {
        self.call(|engine| engine.get(Some(snapshot), key))
    }

    fn release(&self, snapshot: SnapshotId) {
        // There is nothing to release in a store that was closed or has panicked.
        let _ = self.call(|engine| {
            engine.snapshots.remove(&snapshot);
            Ok(())
        });
    }

    fn sync(&self) -> Result<(), Failure> {
        self.call(|engine| engine.db.flush().map_err(failure))
    }

    fn compact(&self, from: Option<&[u8]>, to: Option<&[u8]>) -> Result<(), Failure> {
        self.call(|engine| {
            let (from, to) = (engine.key(from.unwrap_or_default()), engine.key(to.unwrap_or(&LAST_KEY)));
            // A range that ends before it starts is no range to the engine, and nobody offers it one.
            if from > to {
                return Ok(());
            }
            engine.db.compact_range(&from, &to).map_err(failure)
        })
    }

    fn close(&self) -> Result<(), Failure> {
        self.engine.close(|engine| {
            let result = {
                let mut engine = engine.get().borrow_mut();
                engine.snapshots.clear();
                engine.db.close().map_err(failure)
            };
            drop(engine);
            result
        })
    }
}

fn held(snapshots: &BTreeMap<SnapshotId, Held>, id: SnapshotId) -> Result<&Held, Failure> {
    snapshots.get(&id).ok_or_else(|| invalid(format!("no snapshot {} is held", id.0)))
}

/// The world under rusty-leveldb's trait.
struct Surroundings {
    world: World,
    syncs: Syncs,
    lock: RefCell<Option<LockGuard>>,
}

/// Where a file is in the world. The engine asks the real file system what its directory is really called, before it asks its
/// environment for anything; only the last name counts here.
fn path_of(path: &Path) -> String {
    let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    format!("{DIR}/{name}")
}

fn told(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::StorageFull => io::Error::new(io::ErrorKind::StorageFull, NO_SPACE),
        _ => error,
    }
}

impl Surroundings {
    fn writer(&self, file: OpenFile, offset: u64) -> Box<dyn io::Write> {
        Box::new(Appended { world: self.world.clone(), syncs: self.syncs, file, offset, failed: false })
    }

    fn sync_names(&self, dir: &str) -> io::Result<()> {
        match self.syncs {
            Syncs::Never => Ok(()),
            Syncs::Flush | Syncs::Close => self.world.sync_dir(dir, Location::caller()).map_err(told),
        }
    }
}

impl Env for Surroundings {
    fn open_sequential_file(&self, path: &Path) -> Result<Box<dyn Read>, Status> {
        let file = self.world.open(&path_of(path), OpenMode::Read, Location::caller())?;
        Ok(Box::new(Sequential { file, offset: 0 }))
    }

    fn open_random_access_file(&self, path: &Path) -> Result<Box<dyn RandomAccess>, Status> {
        Ok(Box::new(Random(self.world.open(&path_of(path), OpenMode::Read, Location::caller())?)))
    }

    fn open_writable_file(&self, path: &Path) -> Result<Box<dyn io::Write>, Status> {
        let file = self.world.open(&path_of(path), OpenMode::CreateOrTruncate, Location::caller()).map_err(told)?;
        self.sync_names(DIR)?;
        Ok(self.writer(file, 0))
    }

    fn open_appendable_file(&self, path: &Path) -> Result<Box<dyn io::Write>, Status> {
        let (path, at) = (path_of(path), Location::caller());
        let file = match self.world.open(&path, OpenMode::Write, at) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let file = self.world.open(&path, OpenMode::CreateNew, at).map_err(told)?;
                self.sync_names(DIR)?;
                file
            }
            file => file?,
        };
        let end = file.len(at)?;
        Ok(self.writer(file, end))
    }

    fn exists(&self, path: &Path) -> Result<bool, Status> {
        match self.world.file_len(&path_of(path), Location::caller()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
            found => Ok(found.is_ok()),
        }
    }

    fn children(&self, _dir: &Path) -> Result<Vec<PathBuf>, Status> {
        let items = self.world.read_dir(DIR, Location::caller())?;
        Ok(items.into_iter().map(|item| PathBuf::from(&*item.name)).collect())
    }

    fn size_of(&self, path: &Path) -> Result<usize, Status> {
        Ok(self.world.file_len(&path_of(path), Location::caller())? as usize)
    }

    fn delete(&self, path: &Path) -> Result<(), Status> {
        Ok(self.world.remove_file(&path_of(path), Location::caller()).map_err(told)?)
    }

    fn mkdir(&self, _dir: &Path) -> Result<(), Status> {
        match self.world.create_dir(DIR, Location::caller()) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(told(error).into()),
            _ => Ok(self.sync_names("")?),
        }
    }

    fn rmdir(&self, _dir: &Path) -> Result<(), Status> {
        Ok(self.world.remove_dir(DIR, Location::caller()).map_err(told)?)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), Status> {
        self.world.rename(&path_of(from), &path_of(to), Location::caller()).map_err(told)?;
        Ok(self.sync_names(DIR)?)
    }

    fn lock(&self, path: &Path) -> Result<FileLock, Status> {
        match self.world.lock_file(&path_of(path), Location::caller()) {
            Ok(lock) => {
                *self.lock.borrow_mut() = Some(lock);
                Ok(FileLock { id: path_of(path) })
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                Err(Status::new(StatusCode::LockError, "somebody else has the lock"))
            }
            Err(error) => Err(told(error).into()),
        }
    }

    fn unlock(&self, _lock: FileLock) -> Result<(), Status> {
        let lock = self.lock.borrow_mut().take();
        drop(lock);
        Ok(())
    }

    fn new_logger(&self, _path: &Path) -> Result<Logger, Status> {
        Ok(Logger::new(Box::new(io::sink())))
    }

    fn micros(&self) -> u64 {
        self.world.now().as_micros() as u64
    }

    fn sleep_for(&self, micros: u32) {
        self.world.sleep(Duration::from_micros(u64::from(micros)));
    }
}

/// A file that is read from its start to its end.
struct Sequential {
    file: OpenFile,
    offset: u64,
}

impl Read for Sequential {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buf, self.offset, Location::caller())?;
        self.offset += count as u64;
        Ok(count)
    }
}

/// A file that is read anywhere.
struct Random(OpenFile);

impl RandomAccess for Random {
    fn read_at(&self, offset: usize, buf: &mut [u8]) -> Result<usize, Status> {
        Ok(self.0.read_at(buf, offset as u64, Location::caller())?)
    }
}

/// A file that is written at its end.
struct Appended {
    world: World,
    syncs: Syncs,
    file: OpenFile,
    offset: u64,
    /// A sync of it has failed: what another one would say means nothing.
    failed: bool,
}

impl io::Write for Appended {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let count = self.file.write_at(buf, self.offset, Location::caller()).map_err(told)?;
        self.offset += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.syncs == Syncs::Never {
            return Ok(());
        }
        let result = self.file.sync_data(Location::caller()).map_err(told);
        self.failed |= result.is_err();
        result
    }
}

impl Drop for Appended {
    fn drop(&mut self) {
        if self.syncs == Syncs::Close && !self.failed && self.world.crashed().is_none() {
            // Like the error of a close, nobody hears of this one.
            let _ = self.file.sync_data(Location::caller());
        }
    }
}
