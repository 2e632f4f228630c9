//! Strata as a system under test. Beside `env.rs`, the only file that knows Strata; its folder has what its files say.

mod protocol;

use crate::clock::EPOCH_MS;
use crate::env::strata_env;
use crate::fault::FileClass;
use crate::op::Lifetime;
use crate::sanitizer::Protocol;
use crate::store::{
    CheckReport, Commit, Failure, FailureKind, ScanResult, Script, ScriptScan, SnapshotId, Store, StoreKind, SyncMode,
    Transacted, Write,
};
use crate::watch::Level;
use crate::world::World;
use parking_lot::Mutex;
use protocol::StrataProtocol;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use strata::backup::{Backups, checkpoint};
use strata::batch::{Expiry, WriteBatch};
use strata::db::{Db, DbIter, Range, Snapshot, WriteOptions};
use strata::error::Error;
use strata::event::{Event, LevelShape, Listener};
use strata::mark;
use strata::options::{Compression, Durability, Options};
use strata::txn::{Isolation, Transaction};

/// The directory of the store, below the root of the world.
const DIR: &str = "db";

/// Keys and values of a scan.
type Entries = Vec<(Vec<u8>, Vec<u8>)>;

/// Opens Strata.
#[derive(Clone, Copy, Debug, Default)]
pub struct StrataKind;

/// An open Strata store, with the snapshots that clients hold.
struct StrataStore {
    /// Let go of before the store is: a snapshot belongs to its handle. Never held across a call of the engine.
    snapshots: Mutex<BTreeMap<SnapshotId, Arc<Snapshot>>>,
    next_snapshot: AtomicU64,
    db: Db,
}

impl StoreKind for StrataKind {
    fn name(&self) -> &str {
        "strata"
    }

    fn classify(&self, file_name: &str) -> FileClass {
        // By the letter of FORMAT.md, and not by asking the store: it may take a stranger's file for its own.
        let is_number = |digits: &str| {
            let padded = digits.len() == 6 || (digits.len() > 6 && !digits.starts_with('0'));
            padded && digits.bytes().all(|byte| byte.is_ascii_digit())
        };
        match file_name {
            "CURRENT" => FileClass::Current,
            "IDENTITY" => FileClass::Identity,
            "LOCK" => FileClass::Lock,
            "CURRENT.tmp" | "IDENTITY.tmp" => FileClass::Temp,
            _ if file_name.strip_prefix("MANIFEST-").is_some_and(is_number) => FileClass::Manifest,
            _ => match file_name.split_once('.') {
                Some((number, "wal")) if is_number(number) => FileClass::Wal,
                Some((number, "sst")) if is_number(number) => FileClass::Sst,
                _ => FileClass::Other,
            },
        }
    }

    fn open(&self, world: &World, options: &toml::Table) -> Result<Arc<dyn Store>, Failure> {
        let teller = world.clone();
        let listener: Listener = Arc::new(move |event| {
            if let Some(levels) = levels_of(event) {
                let level = |level: &LevelShape| Level { tables: level.tables as u64, bytes: level.bytes };
                teller.tell_levels(levels.iter().map(level).collect());
            }
            teller.note(0, || format!("strata: {}", words_of(event)));
        });
        open(world, DIR, options_of(options), listener)
    }

    /// A copy has what it was made from, so there is nothing to be created. Its levels are not those of the store.
    fn open_copy(&self, world: &World, dir: &str, options: &toml::Table) -> Result<Arc<dyn Store>, Failure> {
        let teller = world.clone();
        let listener: Listener = Arc::new(move |event| teller.note(0, || format!("strata: {}", words_of(event))));
        let options = options_of(options).map(|options| Options { create_if_missing: false, ..options });
        open(world, dir, options, listener)
    }

    fn restore(&self, world: &World, dir: &str, number: u64, target: &str) -> Result<(), Failure> {
        let backups = Backups::open(&strata_env(world), Path::new(dir)).map_err(failure)?;
        verified(&backups, number).map_err(failure)?;
        backups.restore(number, Path::new(target), &mut |_| ()).map(|_| ()).map_err(failure)
    }

    /// Limits so small that a few hundred writes flush several memtables, fill three levels and begin a new manifest.
    fn default_options(&self) -> toml::Table {
        let options = Options {
            memtable_bytes: 4 << 10,
            cache_bytes: 16 << 10,
            durability: Durability::Always,
            compression: vec![Compression::None, Compression::Lz4],
            background_tasks: 2,
            memtables_max: 3,
            group_commit_bytes_max: 16 << 10,
            wal_bytes_max: 32 << 10,
            l0_compaction_trigger: 2,
            l0_slowdown_trigger: 4,
            l0_stop_trigger: 8,
            levels: 4,
            level_base_bytes: 8 << 10,
            level_multiplier: 3,
            table_bytes: 2 << 10,
            block_bytes: 256,
            restart_interval: 4,
            manifest_bytes_min: 2 << 10,
            retry_ms: 100,
            ..Options::default()
        };
        table_of(&options)
    }

    fn syncs_within(&self, options: &toml::Table) -> Option<Duration> {
        let period = options.get("durability")?.get("periodic_ms")?.as_integer()?;
        u64::try_from(period).ok().map(Duration::from_millis)
    }

    fn is_durable_when_closed(&self) -> bool {
        true
    }

    fn locks(&self) -> bool {
        true
    }

    fn has_transactions(&self) -> bool {
        true
    }

    fn has_range_deletes(&self) -> bool {
        true
    }

    fn has_expiry(&self) -> bool {
        true
    }

    fn default_ttl_ms(&self, options: &toml::Table) -> Option<u32> {
        let ms = options.get("default_ttl_ms")?.as_integer()?;
        u32::try_from(ms).ok().filter(|&ms| ms > 0)
    }

    fn drop_default_ttl(&self, options: &mut toml::Table) {
        options.remove("default_ttl_ms");
    }

    /// The smallest and the largest that is allowed, sizes beside the edges of sectors and pages, and shapes of the tree that
    /// are one thing only: a file for each level, two levels, tables of one block.
    fn wild_options(&self) -> Vec<Vec<toml::Table>> {
        let ways = |texts: &[&str]| {
            let table = |text: &&str| text.parse().expect("the options below are TOML");
            texts.iter().map(table).collect::<Vec<toml::Table>>()
        };
        vec![
            ways(&["memtable_bytes = 1024", "memtable_bytes = 4097", "memtable_bytes = 1048576"]),
            ways(&["cache_bytes = 0", "cache_bytes = 1", "cache_bytes = 1073741824"]),
            ways(&["block_bytes = 64", "block_bytes = 511", "block_bytes = 4097", "block_bytes = 32768"]),
            ways(&["restart_interval = 1", "restart_interval = 2", "restart_interval = 1024"]),
            ways(&["filter_bits_per_key = 0", "filter_bits_per_key = 1", "filter_bits_per_key = 64"]),
            ways(&["compression = ['none']", "compression = ['lz4']", "compression = ['deflate']"]),
            ways(&[
                // One file for each level, which every compaction rewrites whole.
                "l0_compaction_trigger = 1\nl0_slowdown_trigger = 1\nl0_stop_trigger = 2\ntable_bytes = 4294967296",
                "table_bytes = 256\nlevel_base_bytes = 1024\nlevel_multiplier = 2\nlevels = 16",
                "levels = 2\nlevel_base_bytes = 1024",
                "l0_compaction_trigger = 1000\nl0_slowdown_trigger = 1000\nl0_stop_trigger = 2000",
            ]),
            ways(&["group_commit_bytes_max = 1", "group_commit_bytes_max = 1073741824"]),
            ways(&["wal_bytes_max = 4096"]),
            ways(&["manifest_bytes_min = 256"]),
            ways(&["memtables_max = 2", "memtables_max = 64"]),
            ways(&["background_tasks = 1", "background_tasks = 6"]),
            ways(&["retry_ms = 1", "retry_ms = 5000"]),
            ways(&["durability = 'always'", "durability = 'buffered'", "durability = { periodic_ms = 1 }"]),
        ]
    }

    fn option_names(&self) -> Vec<String> {
        table_of(&Options::default()).keys().cloned().collect()
    }

    fn protocol(&self) -> Option<Arc<dyn Protocol>> {
        Some(Arc::new(StrataProtocol::new()))
    }

    fn marks(&self) -> &'static [&'static str] {
        mark::MARKS
    }

    fn count_marks_from_zero(&self) {
        mark::count_from_zero();
    }

    fn mark_hits(&self) -> Vec<u32> {
        mark::hits()
    }

    fn check_options(&self, options: &toml::Table) -> Result<(), String> {
        options_of(options).map(|_| ())
    }
}

/// What was found wrong with a backup, as the error that it is.
fn verified(backups: &Backups, number: u64) -> Result<(), Error> {
    let found = backups.verify(number, &mut |_| ())?;
    found.damage.into_iter().next().map_or(Ok(()), Err)
}

fn open(
    world: &World,
    dir: &str,
    options: Result<Options, String>,
    listener: Listener,
) -> Result<Arc<dyn Store>, Failure> {
    let options = options.map_err(|message| Failure { kind: FailureKind::Invalid, message, file: None })?;
    let db = Db::open_listening(&strata_env(world), Path::new(dir), options, listener).map_err(failure)?;
    let (snapshots, next_snapshot) = (Mutex::default(), AtomicU64::new(1));
    Ok(Arc::new(StrataStore { snapshots, next_snapshot, db }))
}

fn options_of(table: &toml::Table) -> Result<Options, String> {
    let options: Options = table.clone().try_into().map_err(|error: toml::de::Error| error.message().to_string())?;
    options.validate().map_err(|error| error.to_string())?;
    Ok(options)
}

fn table_of(options: &Options) -> toml::Table {
    toml::Table::try_from(options).expect("options are numbers, words and lists of words")
}

/// The levels, where an event tells of them.
fn levels_of(event: &Event) -> Option<&[LevelShape]> {
    match event {
        Event::Opened { levels, .. } | Event::Flushed { levels, .. } | Event::Compacted { levels, .. } => Some(levels),
        _ => None,
    }
}

/// An event in a line.
fn words_of(event: &Event) -> String {
    let mut words = match event {
        Event::Opened { replayed, dropped_bytes, .. } => {
            format!("opened, {replayed} entries replayed, {dropped_bytes} bytes of torn tails dropped")
        }
        Event::Flushed { table: Some(table), bytes, .. } => format!("flushed to table {table} of {bytes} bytes"),
        Event::Flushed { table: None, .. } => "flushed, with nothing left to write".to_string(),
        Event::Compacted { level, moved: true, .. } => format!("moved a table down from level {level}"),
        Event::Compacted { level, inputs, outputs, .. } => {
            format!("compacted level {level}, {inputs} tables into {outputs}")
        }
        other => return format!("{other:?}"),
    };
    let levels = levels_of(event).unwrap_or_default().iter().enumerate();
    for (index, level) in levels.filter(|(_, level)| level.tables > 0) {
        let _ = write!(words, "; L{index}: {} in {} bytes", level.tables, level.bytes);
    }
    words
}

/// What a judge needs to know of an error.
fn failure(error: Error) -> Failure {
    let (kind, file) = kind_of(&error);
    Failure { kind, message: error.to_string(), file }
}

/// The kind of an error, and the file that it names.
fn kind_of(error: &Error) -> (FailureKind, Option<String>) {
    let file_of = |path: &PathBuf| path.file_name().and_then(|name| name.to_str()).map(str::to_string);
    match error {
        Error::Io(failure) => (FailureKind::Io, file_of(&failure.path)),
        Error::OutOfSpace(failure) => (FailureKind::OutOfSpace, file_of(&failure.path)),
        Error::Corruption(damage) => (FailureKind::Corruption, file_of(&damage.path)),
        Error::ReadOnly { cause } => (FailureKind::ReadOnly, kind_of(cause).1),
        Error::Closed => (FailureKind::Closed, None),
        Error::Locked { path } => (FailureKind::Locked, file_of(path)),
        Error::InvalidArgument(_) => (FailureKind::Invalid, None),
        Error::Conflict { .. } => (FailureKind::Conflict, None),
        Error::NotAStore { path, .. } | Error::NewerFormat { path, .. } => (FailureKind::Other, file_of(path)),
        _ => (FailureKind::Other, None),
    }
}

fn as_durable_as(sync: SyncMode) -> WriteOptions {
    let durability = match sync {
        SyncMode::Always => Some(Durability::Always),
        SyncMode::Buffered => Some(Durability::Buffered),
        SyncMode::Default => None,
    };
    WriteOptions { durability }
}

/// Where a walk turns round and seeks: at its third entry, and then at every so manieth, which is no multiple of what blocks
/// and restart points usually hold.
const TURN_FIRST: usize = 3;
const TURN_EVERY: usize = 13;

impl StrataStore {
    /// From the last of these entries back to the one before it and on again, by steps and by seeks in both directions. A
    /// cursor that loses its place by that is a failure that no fault explains.
    fn turn_round(iter: &mut DbIter, entries: &Entries) -> Result<(), Failure> {
        let [.., (before, _), (last, _)] = entries.as_slice() else { return Ok(()) };
        let must_be_at = |iter: &DbIter, key: &[u8], after: &str| {
            iter.status().map_err(failure)?;
            if iter.valid() && iter.key() == key {
                return Ok(());
            }
            let message = format!("a cursor lost its place by {after}: it is not at {}", key.escape_ascii());
            Err(Failure { kind: FailureKind::Other, message, file: None })
        };
        if before < last { iter.prev() } else { iter.next() }.map_err(failure)?;
        must_be_at(iter, before, "turning round")?;
        if before < last { iter.next() } else { iter.prev() }.map_err(failure)?;
        must_be_at(iter, last, "turning round twice")?;
        iter.seek(before).map_err(failure)?;
        must_be_at(iter, before, "a seek")?;
        iter.seek_for_prev(last).map_err(failure)?;
        must_be_at(iter, last, "a seek for the previous key")
    }

    fn held(&self, id: SnapshotId) -> Result<Arc<Snapshot>, Failure> {
        self.snapshots.lock().get(&id).cloned().ok_or_else(|| Failure {
            kind: FailureKind::Invalid,
            message: format!("no snapshot {} is held", id.0),
            file: None,
        })
    }

    fn walk(mut iter: DbIter, reverse: bool, limit: usize) -> Result<Entries, Failure> {
        let mut entries = Vec::new();
        if limit == 0 {
            return Ok(entries);
        }
        if reverse { iter.seek_to_last() } else { iter.seek_to_first() }.map_err(failure)?;
        while iter.valid() {
            entries.push((iter.key().to_vec(), iter.value().to_vec()));
            if entries.len() == limit {
                break;
            }
            if entries.len() % TURN_EVERY == TURN_FIRST {
                StrataStore::turn_round(&mut iter, &entries)?;
            }
            if reverse { iter.prev() } else { iter.next() }.map_err(failure)?;
        }
        iter.status().map_err(failure)?;
        Ok(entries)
    }
}

fn expiry(lifetime: Lifetime) -> Expiry {
    match lifetime {
        Lifetime::For(ms) => Expiry::After(Duration::from_millis(u64::from(ms))),
        Lifetime::Until(_) => Expiry::At(lifetime.ends_at(EPOCH_MS as u64)),
    }
}

/// Whether a write is of this key alone.
fn writes_one(write: &Write, key: &[u8]) -> bool {
    !matches!(write, Write::DeleteRange { .. }) && write.key() == key
}

impl Store for StrataStore {
    fn write(&self, batch: &[Write], sync: SyncMode) -> Commit {
        let mut entries = WriteBatch::new();
        for write in batch {
            match write {
                Write::Put { key, value } => entries.put(key, value),
                Write::PutExpiring { key, value, lifetime } => entries.put_expiring(key, value, expiry(*lifetime)),
                Write::Delete { key } => entries.delete(key),
                Write::DeleteRange { begin, end } => entries.delete_range(begin, end),
            }
        }
        let result = self.db.write(&mut entries, as_durable_as(sync));
        Commit { seq: entries.seqno(), written_ms: entries.written_ms(), result: result.map(|_| ()).map_err(failure) }
    }

    fn transact(&self, script: &Script<'_>) -> Result<Transacted, Failure> {
        let isolation = if script.serializable { Isolation::Serializable } else { Isolation::Snapshot };
        let mut txn = Transaction::begin(&self.db, isolation);
        let begun_at = txn.seqno();
        let mut values = Vec::new();
        for key in &script.reads {
            values.push(txn.get(key).map_err(failure)?.map(|value| value.to_vec()));
        }
        let mut entries = Vec::new();
        if let Some(ScriptScan { from, to, limit }) = script.scan {
            let found = txn.scan(Range::of((from, to)), limit).map_err(failure)?;
            entries = found.into_iter().map(|(key, value)| (key, value.to_vec())).collect();
        }
        let start = txn.savepoint();
        // Everything is written, taken back and written again: what a savepoint forgets would be missing, or too much.
        for _ in 0..2 {
            txn.rollback_to(start);
            for write in script.writes {
                match write {
                    Write::Put { key, value } => txn.put(key, value),
                    Write::PutExpiring { key, value, lifetime } => txn.put_expiring(key, value, expiry(*lifetime)),
                    Write::Delete { key } => txn.delete(key),
                    Write::DeleteRange { begin, end } => txn.delete_range(begin, end),
                }
            }
        }
        for write in script.writes {
            let (key, expected) = match write {
                Write::Put { key, value } => (key, Some(value.as_slice())),
                // It may have expired already, by a time that only the store knows.
                Write::PutExpiring { lifetime: Lifetime::Until(_), .. } => continue,
                Write::PutExpiring { key, value, .. } => (key, Some(value.as_slice())),
                Write::Delete { key } => (key, None),
                Write::DeleteRange { begin, .. } if script.writes.iter().any(|write| writes_one(write, begin)) => {
                    continue;
                }
                Write::DeleteRange { begin, .. } => (begin, None),
            };
            if txn.get(key).map_err(failure)?.as_deref() != expected {
                let message = format!("a transaction does not read its own write of {}", key.escape_ascii());
                return Err(Failure { kind: FailureKind::Other, message, file: None });
            }
        }
        let mut batch = WriteBatch::new();
        let result = txn.commit_as(&mut batch, as_durable_as(script.sync));
        let conflict = match &result {
            Err(Error::Conflict { key }) => Some(key.clone()),
            _ => None,
        };
        let commit =
            Commit { seq: batch.seqno(), written_ms: batch.written_ms(), result: result.map(|_| ()).map_err(failure) };
        Ok(Transacted { begun_at, values, entries, conflict, commit })
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Failure> {
        self.db.get(key).map(|value| value.map(|value| value.to_vec())).map_err(failure)
    }

    fn scan(
        &self,
        at: Option<SnapshotId>,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        reverse: bool,
        limit: usize,
    ) -> Result<ScanResult, Failure> {
        let range = Range::of((from, to));
        let iter = match at {
            Some(id) => self.db.iter_at(self.held(id)?.as_ref(), range),
            None => self.db.iter(range),
        };
        let iter = iter.map_err(failure)?;
        let at = Some(iter.seqno());
        let entries = StrataStore::walk(iter, reverse, limit)?;
        Ok(ScanResult { at, entries })
    }

    fn snapshot(&self) -> Result<(SnapshotId, Option<u64>), Failure> {
        let snapshot = self.db.snapshot();
        let seqno = snapshot.seqno();
        let id = SnapshotId(self.next_snapshot.fetch_add(1, Ordering::Relaxed));
        self.snapshots.lock().insert(id, Arc::new(snapshot));
        Ok((id, Some(seqno)))
    }

    fn get_at(&self, snapshot: SnapshotId, key: &[u8]) -> Result<Option<Vec<u8>>, Failure> {
        let snapshot = self.held(snapshot)?;
        self.db.get_at(&snapshot, key).map(|value| value.map(|value| value.to_vec())).map_err(failure)
    }

    fn release(&self, snapshot: SnapshotId) {
        // In two steps: letting go may wait for the engine's lock.
        let released = self.snapshots.lock().remove(&snapshot);
        drop(released);
    }

    fn sync(&self) -> Result<(), Failure> {
        self.db.sync().map_err(failure)
    }

    fn flush(&self) -> Result<(), Failure> {
        self.db.flush().map_err(failure)
    }

    fn compact(&self, from: Option<&[u8]>, to: Option<&[u8]>) -> Result<(), Failure> {
        self.db.compact_range(from, to).map_err(failure)
    }

    fn checkpoint(&self, dir: &str) -> Result<Option<u64>, Failure> {
        checkpoint(&self.db, Path::new(dir)).map(|made| Some(made.seqno)).map_err(failure)
    }

    fn backup(&self, dir: &str, keep: usize) -> Result<(u64, Option<u64>), Failure> {
        let backups = Backups::create(self.db.env(), Path::new(dir)).map_err(failure)?;
        let made = backups.backup(&self.db, &mut |_| ()).map_err(failure)?;
        backups.prune(keep).map_err(failure)?;
        Ok((made.number, Some(made.seqno)))
    }

    fn check(&self) -> Result<CheckReport, Failure> {
        let report = self.db.check().map_err(failure)?;
        let cache = self.db.stats().cache;
        if cache.bytes > cache.capacity {
            let message = format!("the block cache holds {} bytes, and may hold {}", cache.bytes, cache.capacity);
            return Err(Failure { kind: FailureKind::Other, message, file: None });
        }
        Ok(CheckReport {
            shape: report.to_string(),
            files: report.files.iter().cloned().collect(),
            debt: report.debt as u64,
            last_seq: report.seqno,
        })
    }

    fn close(&self) -> Result<(), Failure> {
        let released = std::mem::take(&mut *self.snapshots.lock());
        drop(released);
        self.db.close().map_err(failure)
    }
}

#[cfg(test)]
mod tests;
