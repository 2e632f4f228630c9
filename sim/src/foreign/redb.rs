//! redb as a system under test, through its `StorageBackend`: one file.
//!
//! Beside the entries, each transaction writes the number of its last change into a table of its own, so that the oracle is
//! told sequence numbers that went the way of the data, and sees it when one table is recovered without the other.
//!
//! What the seam leaves to its user: that the name of the file is durable, and that reads and writes come to their end where
//! the system does less than was asked for. [`RedbKind`] does both. Every write is a transaction with
//! `Durability::Immediate`: redb's other level, `None`, does not even survive the end of the process, which no
//! [`SyncMode`] stands for.

use super::caught::{Caught, catch};
use super::{damages, invalid};
use crate::env::park_in;
use crate::fault::{FaultKind, FileClass};
use crate::store::{
    CheckReport, Commit, Failure, FailureKind, ScanResult, SnapshotId, Store, StoreKind, SyncMode, Write,
};
use crate::syscall::{LockGuard, OpenFile, OpenMode};
use crate::world::World;
use parking_lot::Mutex;
use redb::{BackendError, Builder, Database, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition};
use redb::{StorageBackend, TableError};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::ops::Bound;
use std::panic::Location;
use std::sync::Arc;

const DIR: &str = "db";
const FILE: &str = "db/data.redb";
/// Under which name a file waits that is not yet a database.
const NEW: &str = "db/data.new";

const ENTRIES: TableDefinition<&[u8], &[u8]> = TableDefinition::new("entries");
const NUMBERS: TableDefinition<&str, u64> = TableDefinition::new("numbers");
/// The key of the only number.
const LAST: &str = "last";

/// Opens redb.
#[derive(Clone, Copy, Debug, Default)]
pub struct RedbKind;

/// The options of this adapter.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Options {
    /// Bytes of redb's cache.
    cache_bytes: usize,
    /// Whether a commit syncs twice, the data before the pointer to it.
    two_phase_commit: bool,
    /// Whether a commit writes down what is free, so that opening need not look for it.
    quick_repair: bool,
    /// Where a new database is made.
    create: Create,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Create {
    /// Under another name; it gets its own once it is a database.
    Aside,
    /// Under its own name, as `Database::create` does.
    InPlace,
}

struct RedbStore {
    engine: Caught<Engine>,
}

struct Engine {
    snapshots: BTreeMap<SnapshotId, ReadTransaction>,
    next_snapshot: u64,
    /// The newest sequence number that a transaction was given, whatever became of it.
    newest: u64,
    options: Options,
    db: Database,
}

impl StoreKind for RedbKind {
    fn name(&self) -> &str {
        "redb"
    }

    /// Its one file is written before anything is acknowledged, and is therefore what others have in a log.
    fn classify(&self, file_name: &str) -> FileClass {
        match file_name {
            "data.redb" => FileClass::Wal,
            "data.new" => FileClass::Temp,
            _ => FileClass::Other,
        }
    }

    fn classes(&self) -> Vec<FileClass> {
        vec![FileClass::Wal, FileClass::Temp, FileClass::Directory]
    }

    /// Its checksums are looked at when it repairs itself, and not when it reads. It documents no promise about a disk that
    /// lies or damages what was synced.
    fn withstands(&self, fault: FaultKind) -> bool {
        !damages(fault)
    }

    fn open(&self, world: &World, options: &toml::Table) -> Result<Arc<dyn Store>, Failure> {
        park_in(world);
        let options = options_of(options).map_err(invalid)?;
        let db = open_file(world, options)?;
        let mut engine = Engine { snapshots: BTreeMap::new(), next_snapshot: 1, newest: 0, options, db };
        engine.newest = catch(|| engine.last_number())??;
        Ok(Arc::new(RedbStore { engine: Caught::new(engine) }))
    }

    fn default_options(&self) -> toml::Table {
        let text = "cache_bytes = 65536\ntwo_phase_commit = false\nquick_repair = false\ncreate = 'aside'";
        text.parse().expect("the options above are TOML")
    }

    fn option_names(&self) -> Vec<String> {
        self.default_options().keys().cloned().collect()
    }

    fn varied_options(&self) -> toml::Table {
        let text = "cache_bytes = [0, 1048576]\ntwo_phase_commit = [false, true]\nquick_repair = [false, true]";
        text.parse().expect("the options above are TOML")
    }

    fn is_durable_when_closed(&self) -> bool {
        true
    }

    fn locks(&self) -> bool {
        true
    }

    fn check_options(&self, options: &toml::Table) -> Result<(), String> {
        options_of(options).map(|_| ())
    }
}

fn options_of(table: &toml::Table) -> Result<Options, String> {
    table.clone().try_into().map_err(|error: toml::de::Error| error.message().to_string())
}

/// Opens the database, and makes it where it is missing. Its name is durable when this returns.
fn open_file(world: &World, options: Options) -> Result<Database, Failure> {
    let at = Location::caller();
    match world.create_dir(DIR, at) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error.into()),
        _ => world.sync_dir("", at)?,
    }
    let database = |backend: SimulatedFile| -> Result<Database, Failure> {
        let mut builder = Builder::new();
        builder.set_cache_size(options.cache_bytes);
        catch(|| builder.create_with_backend(backend))?.map_err(failure)
    };
    let file = match (world.open(FILE, OpenMode::Write, at), options.create) {
        (Err(error), Create::Aside) if error.kind() == io::ErrorKind::NotFound => {
            let new = world.open(NEW, OpenMode::CreateOrTruncate, at)?;
            let db = database(SimulatedFile::new(world, new, NEW))?;
            catch(|| db.close())?.map_err(failure)?;
            world.rename(NEW, FILE, at)?;
            world.open(FILE, OpenMode::Write, at)?
        }
        (Err(error), Create::InPlace) if error.kind() == io::ErrorKind::NotFound => {
            world.open(FILE, OpenMode::CreateNew, at)?
        }
        (file, _) => file?,
    };
    // Also where it was there already: the process that made it may have died before it came to this.
    world.sync_dir(DIR, at)?;
    database(SimulatedFile::new(world, file, FILE))
}

/// What a judge needs to know of an error.
fn failure(error: impl Into<redb::Error>) -> Failure {
    let error = error.into();
    let kind = match &error {
        redb::Error::Io(error) => match error.kind() {
            io::ErrorKind::StorageFull => FailureKind::OutOfSpace,
            // How redb says that a file is not one of its own.
            io::ErrorKind::InvalidData => FailureKind::Other,
            _ => FailureKind::Io,
        },
        redb::Error::PreviousIo => FailureKind::Unusable,
        redb::Error::Corrupted(_) => FailureKind::Corruption,
        redb::Error::DatabaseAlreadyOpen => FailureKind::Locked,
        redb::Error::DatabaseClosed => FailureKind::Closed,
        _ => FailureKind::Other,
    };
    Failure { kind, message: error.to_string(), file: None }
}

/// The table, where a transaction has made it.
fn present<T>(table: Result<T, TableError>) -> Result<Option<T>, Failure> {
    match table {
        Ok(table) => Ok(Some(table)),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(failure(error)),
    }
}

fn number_in(transaction: &ReadTransaction) -> Result<u64, Failure> {
    let Some(numbers) = present(transaction.open_table(NUMBERS))? else { return Ok(0) };
    let last = numbers.get(LAST).map_err(failure)?;
    Ok(last.map_or(0, |last| last.value()))
}

fn get_in(transaction: &ReadTransaction, key: &[u8]) -> Result<Option<Vec<u8>>, Failure> {
    let Some(entries) = present(transaction.open_table(ENTRIES))? else { return Ok(None) };
    let value = entries.get(key).map_err(failure)?;
    Ok(value.map(|value| value.value().to_vec()))
}

/// Whether no key lies within these bounds, whatever the keys are. A range of a tree must not end before it starts.
fn is_empty(from: Bound<&[u8]>, to: Bound<&[u8]>) -> bool {
    match (from, to) {
        (Bound::Included(from), Bound::Included(to)) => from > to,
        (Bound::Included(from) | Bound::Excluded(from), Bound::Included(to) | Bound::Excluded(to)) => from >= to,
        _ => false,
    }
}

fn scan_in(
    transaction: &ReadTransaction,
    (from, to): (Bound<&[u8]>, Bound<&[u8]>),
    reverse: bool,
    limit: usize,
) -> Result<ScanResult, Failure> {
    let at = Some(number_in(transaction)?);
    let mut entries = Vec::new();
    if let Some(table) = present(transaction.open_table(ENTRIES))?
        && !is_empty(from, to)
    {
        let mut range = table.range::<&[u8]>((from, to)).map_err(failure)?;
        while entries.len() < limit {
            let Some(entry) = (if reverse { range.next_back() } else { range.next() }) else { break };
            let (key, value) = entry.map_err(failure)?;
            entries.push((key.value().to_vec(), value.value().to_vec()));
        }
    }
    Ok(ScanResult { at, entries })
}

impl Engine {
    fn read(&self) -> Result<ReadTransaction, Failure> {
        self.db.begin_read().map_err(failure)
    }

    fn last_number(&self) -> Result<u64, Failure> {
        number_in(&self.read()?)
    }

    fn held(&self, id: SnapshotId) -> Result<&ReadTransaction, Failure> {
        self.snapshots.get(&id).ok_or_else(|| invalid(format!("no snapshot {} is held", id.0)))
    }

    /// A transaction with the batch in it. Nothing of it is in the file's tree before it is committed.
    fn write(&mut self, batch: &[Write], commit: &mut Commit) -> Result<(), Failure> {
        let mut transaction = self.db.begin_write().map_err(failure)?;
        transaction.set_two_phase_commit(self.options.two_phase_commit);
        transaction.set_quick_repair(self.options.quick_repair);
        let first = {
            let mut numbers = transaction.open_table(NUMBERS).map_err(failure)?;
            let last = numbers.get(LAST).map_err(failure)?.map_or(0, |last| last.value());
            let first = self.newest.max(last) + 1;
            numbers.insert(LAST, first + batch.len() as u64 - 1).map_err(failure)?;
            let mut entries = transaction.open_table(ENTRIES).map_err(failure)?;
            for write in batch {
                match write {
                    Write::Put { key, value } => entries.insert(key.as_slice(), value.as_slice()),
                    Write::Delete { key } => entries.remove(key.as_slice()),
                    Write::PutExpiring { .. } | Write::Merge { .. } | Write::DeleteRange { .. } => {
                        unreachable!("refused for a store without range deletes and expiry")
                    }
                }
                .map_err(failure)?;
            }
            first
        };
        self.newest = first + batch.len() as u64 - 1;
        commit.seq = Some(first);
        transaction.commit().map_err(failure)
    }

    fn check(&mut self) -> Result<CheckReport, Failure> {
        // It needs the database for itself.
        if self.snapshots.is_empty() && !self.db.check_integrity().map_err(failure)? {
            let message = "check_integrity has found something to repair in a database that is open".into();
            return Err(Failure { kind: FailureKind::Corruption, message, file: Some("data.redb".into()) });
        }
        Ok(CheckReport {
            shape: "one file".into(),
            files: vec!["data.redb".into()],
            debt: 0,
            last_seq: self.last_number()?,
            trouble: None,
            quarantined: Vec::new(),
        })
    }
}

impl Store for RedbStore {
    fn write(&self, batch: &[Write], _sync: SyncMode) -> Commit {
        let mut commit = Commit::new(None, Ok(()));
        commit.result = self.engine.call(|engine| engine.write(batch, &mut commit));
        commit
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Failure> {
        self.engine.call(|engine| get_in(&engine.read()?, key))
    }

    fn scan(
        &self,
        at: Option<SnapshotId>,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        reverse: bool,
        limit: usize,
    ) -> Result<ScanResult, Failure> {
        self.engine.call(|engine| match at {
            Some(id) => scan_in(engine.held(id)?, (from, to), reverse, limit),
            None => scan_in(&engine.read()?, (from, to), reverse, limit),
        })
    }

    fn snapshot(&self) -> Result<(SnapshotId, Option<u64>), Failure> {
        self.engine.call(|engine| {
            let transaction = engine.read()?;
            let number = number_in(&transaction)?;
            let id = SnapshotId(engine.next_snapshot);
            engine.next_snapshot += 1;
            engine.snapshots.insert(id, transaction);
            Ok((id, Some(number)))
        })
    }

    fn get_at(&self, snapshot: SnapshotId, key: &[u8]) -> Result<Option<Vec<u8>>, Failure> {
        self.engine.call(|engine| get_in(engine.held(snapshot)?, key))
    }

    fn release(&self, snapshot: SnapshotId) {
        // There is nothing to release in a store that was closed or has panicked.
        let _ = self.engine.call(|engine| {
            engine.snapshots.remove(&snapshot);
            Ok(())
        });
    }

    /// Whatever was acknowledged is durable already.
    fn sync(&self) -> Result<(), Failure> {
        Ok(())
    }

    /// The file as a whole; there are no ranges. It needs the database for itself, and is left out while a snapshot is held.
    fn compact(&self, _from: Option<&[u8]>, _to: Option<&[u8]>) -> Result<(), Failure> {
        self.engine.call(|engine| match engine.snapshots.is_empty() {
            true => engine.db.compact().map(|_| ()).map_err(failure),
            false => Ok(()),
        })
    }

    fn check(&self) -> Result<CheckReport, Failure> {
        self.engine.call(Engine::check)
    }

    fn close(&self) -> Result<(), Failure> {
        self.engine.close(|Engine { snapshots, db, .. }| {
            drop(snapshots);
            db.close().map_err(failure)
        })
    }
}

/// A file of the world under redb's trait.
struct SimulatedFile {
    world: World,
    path: &'static str,
    /// `None` once it is closed.
    file: Mutex<Option<Arc<OpenFile>>>,
    lock: Mutex<Option<LockGuard>>,
}

impl SimulatedFile {
    fn new(world: &World, file: OpenFile, path: &'static str) -> SimulatedFile {
        let file = Mutex::new(Some(Arc::new(file)));
        SimulatedFile { world: world.clone(), path, file, lock: Mutex::new(None) }
    }

    /// The file itself, so that no lock is held across a call.
    fn file(&self) -> io::Result<Arc<OpenFile>> {
        self.file.lock().clone().ok_or_else(|| io::Error::other("the file was closed"))
    }
}

impl fmt::Debug for SimulatedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimulatedFile({})", self.path)
    }
}

impl StorageBackend for SimulatedFile {
    fn len(&self) -> io::Result<u64> {
        self.file()?.len(Location::caller())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let file = self.file()?;
        let mut done = 0;
        while done < out.len() {
            match file.read_at(&mut out[done..], offset + done as u64, Location::caller()) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file()?.set_len(len, Location::caller())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file()?.sync_data(Location::caller())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let file = self.file()?;
        let mut done = 0;
        while done < data.len() {
            match file.write_at(&data[done..], offset + done as u64, Location::caller()) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        let (file, lock) = (self.file.lock().take(), self.lock.lock().take());
        drop((file, lock));
        Ok(())
    }

    /// Only the file as a whole can be locked, which is one of the ways that redb offers.
    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        if !matches!((start, end), (Bound::Unbounded | Bound::Included(0), Bound::Unbounded)) {
            return Err(BackendError::Unsupported);
        }
        match self.world.lock_file(self.path, Location::caller()) {
            Ok(lock) => {
                *self.lock.lock() = Some(lock);
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn unlock_range(&self, _start: Bound<u64>, _end: Bound<u64>) -> Result<(), BackendError> {
        let lock = self.lock.lock().take();
        drop(lock);
        Ok(())
    }
}
