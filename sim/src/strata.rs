//! Strata as a system under test. Beside `env.rs`, the only file that knows Strata; its folder has what its files say.

mod health;
mod keyspaces;
mod protocol;
mod quarantine;
mod readers;

use crate::clock::EPOCH_MS;
use crate::env::{Crimes, strata_env, strata_env_to_read};
use crate::fault::FileClass;
use crate::op::{KEYSPACES_END, Lifetime, OpKind};
use crate::sanitizer::Protocol;
use crate::store::{
    CheckReport, Commit, Failure, FailureKind, Held, KEYSPACES, MultiGot, ScanResult, Script, ScriptScan, SnapshotId,
    Store, StoreKind, SyncMode, Transacted, Verified, Write,
};
use crate::watch::Level;
use crate::world::World;
use health::HealthLog;
use keyspaces::{Keyspaces, Part};
use parking_lot::Mutex;
use protocol::StrataProtocol;
use readers::Readers;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use strata::backup::{Backups, Point, checkpoint, export_file, import_file};
use strata::batch::{Expiry, WriteBatch};
use strata::db::{Db, DbIter, Keyspace, MultiGet, Range, Snapshot, Stats, WriteOptions};
use strata::error::Error;
use strata::event::{Event, Health, LevelShape, Listener, Trouble};
use strata::filename::FileKind;
use strata::key::KEY_LEN_MAX;
use strata::mark;
use strata::operator::{Append, MergeOperator};
use strata::options::{Compression, Durability, Options};
use strata::salvage::salvage;
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
    world: World,
    /// Let go of before the store is: a snapshot belongs to its handle. Never held across a call of the engine.
    snapshots: Mutex<BTreeMap<SnapshotId, Arc<Snapshot>>>,
    next_snapshot: AtomicU64,
    /// What the store has told of its health.
    health: Arc<HealthLog>,
    /// Bytes of the largest batch that it was given.
    largest_batch: AtomicU64,
    options: Options,
    keyspaces: Arc<Keyspaces>,
    readers: Readers,
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
                Some((number, "blob")) if is_number(number) => FileClass::Blob,
                _ => FileClass::Other,
            },
        }
    }

    fn open(&self, world: &World, options: &toml::Table) -> Result<Arc<dyn Store>, Failure> {
        let teller = world.clone();
        let listener = move |event: &Event| {
            if let Some(levels) = levels_of(event) {
                let level = |level: &LevelShape| Level { tables: level.tables as u64, bytes: level.bytes };
                teller.tell_levels(levels.iter().map(level).collect());
            }
            teller.note(0, || format!("strata: {}", words_of(event)));
        };
        open(world, DIR, options_of(options), listener)
    }

    /// A copy has what it was made from, so there is nothing to be created. Its levels are not those of the store.
    fn open_copy(&self, world: &World, dir: &str, options: &toml::Table) -> Result<Arc<dyn Store>, Failure> {
        let teller = world.clone();
        let listener = move |event: &Event| teller.note(0, || format!("strata: {}", words_of(event)));
        let options = options_of(options).map(|(count, options)| {
            // What is written to a copy is of no use in the archive.
            (count, Options { create_if_missing: false, archive: None, ..options })
        });
        open(world, dir, options, listener)
    }

    fn counts_as_store(&self, world: &World, dir: &str) -> Result<bool, Failure> {
        let current = FileKind::Current.path(Path::new(dir));
        strata_env(world).file_len(&current).map(|len| len.is_some()).map_err(failure)
    }

    fn restore(&self, world: &World, dir: &str, number: u64, target: &str) -> Result<(), Failure> {
        let backups = Backups::open(&strata_env(world), Path::new(dir)).map_err(failure)?;
        verified(&backups).map_err(failure)?;
        backups.restore(number, Path::new(target), &mut |_| ()).map(|_| ()).map_err(failure)
    }

    fn archive(&self, options: &toml::Table) -> Option<String> {
        options.get("archive")?.as_str().map(str::to_string)
    }

    fn recoverable(&self, world: &World, dir: &str, number: u64, archive: &str) -> Result<(u64, u64), Failure> {
        let backups = Backups::open(&strata_env(world), Path::new(dir)).map_err(failure)?;
        let found = backups.recoverable(Path::new(archive)).map_err(failure)?;
        let own = found.into_iter().find(|found| found.backup == number);
        own.map(|own| (own.first_seqno, own.last_seqno)).ok_or_else(|| Failure {
            kind: FailureKind::Invalid,
            message: format!("backup {number} is not among those that can be restored"),
            file: None,
        })
    }

    fn restore_to(&self, world: &World, dir: &str, archive: &str, seqno: u64, target: &str) -> Result<u64, Failure> {
        let point = Point::Seqno(seqno);
        let backups = Backups::open(&strata_env(world), Path::new(dir)).map_err(failure)?;
        let restored =
            backups.restore_to(Path::new(archive), point, Path::new(target), &mut |_| ()).map_err(failure)?;
        world.note(0, || format!("strata: restored to {point}: {restored:?}"));
        Ok(restored.seqno)
    }

    fn prune_archive(&self, world: &World, dir: &str, archive: &str) -> Result<usize, Failure> {
        let backups = Backups::open(&strata_env(world), Path::new(dir)).map_err(failure)?;
        backups.prune_archive(Path::new(archive)).map(|gone| gone.len()).map_err(failure)
    }

    fn import(&self, world: &World, file: &str, target: &str, options: &toml::Table) -> Result<(), Failure> {
        let options =
            options_of(options).map_err(|message| Failure { kind: FailureKind::Invalid, message, file: None })?.1;
        let imported = import_file(&strata_env(world), Path::new(file), Path::new(target), &options, &mut |_| ());
        imported.map(|_| ()).map_err(failure)
    }

    fn salvages(&self) -> bool {
        true
    }

    fn salvage(&self, world: &World, target: &str, options: &toml::Table) -> Result<(), Failure> {
        let options =
            options_of(options).map_err(|message| Failure { kind: FailureKind::Invalid, message, file: None })?.1;
        let crimes = Crimes::default();
        let env = strata_env_to_read(world, DIR, &crimes);
        let report = salvage(&env, Path::new(DIR), Path::new(target), options, &mut |_| ());
        readers::judge(&crimes)?;
        let report = report.map_err(failure)?;
        world.note(0, || format!("strata: salvaged; {report}"));
        Ok(())
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
            // Scenarios of full disks name one; the others have nothing to do with it.
            space_reserve_bytes: 0,
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

    fn specialities(&self) -> &'static [OpKind] {
        &[
            OpKind::Transaction,
            OpKind::DeleteRange,
            OpKind::PutExpiring,
            OpKind::Hurry,
            OpKind::MultiGet,
            OpKind::Merge,
            OpKind::MergeTransaction,
            OpKind::DropKeyspace,
            OpKind::Checkpoint,
            OpKind::Backup,
            OpKind::Look,
            OpKind::Verify,
            OpKind::Upgrade,
            OpKind::ReleaseTable,
            OpKind::DiscardTable,
            OpKind::Export,
            OpKind::Import,
            OpKind::RestoreTo,
            OpKind::PruneArchive,
        ]
    }

    fn merging_options(&self) -> Option<toml::Table> {
        Some(toml::Table::from_iter([("merge_operator".to_string(), Append.name().into())]))
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
            ways(&["memory_bytes = 8388608"]),
            ways(&["background_bytes_per_second = 500000"]),
            ways(&["space_reserve_bytes = 0", "space_reserve_bytes = 1", "space_reserve_bytes = 1048576"]),
            ways(&["slow_operation_ms = 1", "hot_keys = 4"]),
            ways(&["blob_threshold = 32", "blob_threshold = 100", "blob_threshold = 4096"]),
        ]
    }

    fn option_names(&self) -> Vec<String> {
        // One that is not there by default has no place in a table.
        table_of(&Options::default()).keys().cloned().chain(["archive".to_string()]).collect()
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

/// What was found wrong with the backups that are listed, as the error that it is. One that nobody was told of, because a crash
/// came before, is whole all the same.
fn verified(backups: &Backups) -> Result<(), Error> {
    for backup in backups.list()? {
        let found = backups.verify(backup.number, &mut |_| ())?;
        found.damage.into_iter().next().map_or(Ok(()), Err)?;
    }
    Ok(())
}

fn open(
    world: &World,
    dir: &str,
    options: Result<(u8, Options), String>,
    listener: impl Fn(&Event) + Send + Sync + 'static,
) -> Result<Arc<dyn Store>, Failure> {
    let (count, options) = options.map_err(|message| Failure { kind: FailureKind::Invalid, message, file: None })?;
    let (health, keyspaces) =
        (Arc::new(HealthLog::default()), Arc::new(Keyspaces::new(count, options.merge_operator.clone())));
    let (heard, known, teller) = (health.clone(), keyspaces.clone(), world.clone());
    let listener: Listener = Arc::new(move |event| {
        heard.hear(event);
        if let Event::KeyspaceDropping { keyspace, seqno } = event {
            known.dropping(*keyspace, *seqno, teller.current_task());
        }
        listener(event);
    });
    let db = Db::open_listening(&strata_env(world), Path::new(dir), options.clone(), listener).map_err(failure)?;
    keyspaces.opened(&db);
    let (snapshots, next_snapshot) = (Mutex::default(), AtomicU64::new(1));
    let world = world.clone();
    let largest_batch = AtomicU64::new(0);
    let readers = Readers::default();
    Ok(Arc::new(StrataStore {
        world,
        snapshots,
        next_snapshot,
        health,
        largest_batch,
        options,
        keyspaces,
        readers,
        db,
    }))
}

/// How many keyspaces there are, and the options of the engine.
fn options_of(table: &toml::Table) -> Result<(u8, Options), String> {
    let mut table = table.clone();
    let count = match table.remove(KEYSPACES) {
        None => 1,
        Some(count) => count
            .as_integer()
            .and_then(|count| u8::try_from(count).ok())
            .filter(|count| (1..=KEYSPACES_END).contains(count))
            .ok_or_else(|| format!("option {KEYSPACES} is {count}, and must be within 1 and {KEYSPACES_END}"))?,
    };
    let options: Options = table.try_into().map_err(|error: toml::de::Error| error.message().to_string())?;
    options.validate().map_err(|error| error.to_string())?;
    Ok((count, options))
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
        Error::Stalled { .. } => (FailureKind::Stalled, None),
        Error::TimedOut { .. } => (FailureKind::TimedOut, None),
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
    WriteOptions { durability, ..WriteOptions::default() }
}

/// What a memtable takes for entries beside their bytes.
const MEMORY_SLACK: u64 = 24 << 10;

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

    /// What is wrong with the memory that the store holds, where it has a budget: beyond it, or beyond half of it with what cannot
    /// be refused, there may be one group of writes and the last entry of a full memtable.
    fn exceeded(&self, stats: &Stats) -> Option<String> {
        let (memory, budget) = (stats.memory, self.options.memory_bytes);
        if budget == 0 {
            return None;
        }
        let most = budget.max(budget / 2 + memory.tables + memory.compactions);
        // A batch that is larger than a group is a group by itself.
        let group = self.options.group_commit_bytes_max.max(self.largest_batch.load(Ordering::Relaxed));
        let slack = 2 * group + MEMORY_SLACK;
        (memory.total() > most + slack)
            .then(|| format!("the store holds {memory:?}, {} bytes in all, with a budget of {budget}", memory.total()))
    }

    fn held(&self, id: SnapshotId) -> Result<Arc<Snapshot>, Failure> {
        self.snapshots.lock().get(&id).cloned().ok_or_else(|| Failure {
            kind: FailureKind::Invalid,
            message: format!("no snapshot {} is held", id.0),
            file: None,
        })
    }

    /// Adds a write to a batch; the keyspace that it is for is created if it is not there.
    /// Writes a batch, again where a keyspace of it was dropped in between. One that is given up must be as it was.
    fn commit(&self, batch: &[Write], options: WriteOptions) -> Commit {
        let mut tries = 0;
        loop {
            let mut entries = WriteBatch::new();
            let added = batch.iter().try_for_each(|write| self.add(&mut entries, write));
            let may_give_up = options.no_wait || options.deadline.is_some();
            let before = may_give_up.then(|| entries.payload().to_vec());
            self.largest_batch.fetch_max(entries.bytes() as u64, Ordering::Relaxed);
            let result = added.and_then(|()| self.db.write(&mut entries, options));
            tries += 1;
            match result {
                Err(Error::NoSuchKeyspace { .. }) if tries < TRIES_MAX => {}
                Err(Error::Stalled { .. } | Error::TimedOut { .. })
                    if before.as_deref().is_some_and(|was| was != entries.payload()) =>
                {
                    let message = "a write that was given up has not left its batch as it was".into();
                    return Commit::new(None, Err(Failure { kind: FailureKind::Other, message, file: None }));
                }
                result => {
                    let (seq, written_ms) = (entries.seqno(), entries.written_ms());
                    return Commit { seq, written_ms, result: result.map(|_| ()).map_err(failure) };
                }
            }
        }
    }

    fn add(&self, batch: &mut WriteBatch, write: &Write) -> Result<(), Error> {
        let (number, key) = self.keyspaces.split(write.key());
        let keyspace = &self.keyspaces.current_or_new(&self.db, number)?;
        match write {
            Write::Put { value, .. } => batch.put_in(keyspace, key, value),
            Write::PutExpiring { value, lifetime, .. } => {
                batch.put_expiring_in(keyspace, key, value, expiry(*lifetime));
            }
            Write::Merge { operand, .. } => batch.merge_in(keyspace, key, operand),
            Write::Delete { .. } => batch.delete_in(keyspace, key),
            Write::DeleteRange { end, .. } => batch.delete_range_in(keyspace, key, &self.end_in(number, end)),
        }
        Ok(())
    }

    /// The end of a range in a keyspace. One that is the first key of the next keyspace is behind all keys of this one.
    fn end_in(&self, number: u8, end: &[u8]) -> Vec<u8> {
        match self.keyspaces.split(end) {
            (other, key) if other == number => key.to_vec(),
            _ => vec![0xff; KEY_LEN_MAX],
        }
    }

    /// The values of several keys, which lie in several keyspaces, at a sequence number, at which `snapshot` is held.
    fn get_parts(&self, snapshot: &Snapshot, keys: &[&[u8]]) -> Result<MultiGot, Error> {
        let mut parts: BTreeMap<u8, Vec<usize>> = BTreeMap::new();
        for (index, key) in keys.iter().enumerate() {
            parts.entry(self.keyspaces.split(key).0).or_default().push(index);
        }
        let mut values = vec![None; keys.len()];
        for (number, part) in parts {
            let Some(keyspace) = self.keyspaces.at(&self.db, number, snapshot.seqno()) else { continue };
            let own: Vec<&[u8]> = part.iter().map(|&index| self.keyspaces.split(keys[index]).1).collect();
            for (index, value) in part.into_iter().zip(self.db.multi_get_in_at(&keyspace, snapshot, &own)?) {
                values[index] = value.map(|value| value.to_vec());
            }
        }
        Ok(MultiGot { at: Some(snapshot.seqno()), values })
    }

    /// The values of several keys of one keyspace as they are now; `None` where the keyspace is not there.
    fn get_now(&self, number: u8, keys: &[&[u8]]) -> Result<Option<MultiGot>, Error> {
        let own: Vec<&[u8]> = keys.iter().map(|key| self.keyspaces.split(key).1).collect();
        let found = match self.keyspaces.current(&self.db, number) {
            Some(_) if number == 0 => self.db.multi_get(&own),
            Some(keyspace) => self.db.multi_get_in(&keyspace, &own),
            None => return Ok(None),
        };
        match found {
            // Dropped since.
            Err(Error::NoSuchKeyspace { .. }) => Ok(None),
            Err(error) => Err(error),
            Ok(MultiGet { seqno, values }) => {
                let values = values.into_iter().map(|value| value.map(|value| value.to_vec())).collect();
                Ok(Some(MultiGot { at: Some(seqno), values }))
            }
        }
    }

    /// What a part of a range holds at a sequence number, at which `snapshot` is held.
    fn walk_part(
        &self,
        (number, from, to): Part<'_>,
        snapshot: &Snapshot,
        reverse: bool,
        limit: usize,
    ) -> Result<Entries, Failure> {
        let Some(keyspace) = self.keyspaces.at(&self.db, number, snapshot.seqno()) else { return Ok(Vec::new()) };
        let iter = self.db.iter_in_at(&keyspace, snapshot, Range::of((from, to))).map_err(failure)?;
        let entries = StrataStore::walk(iter, reverse, limit)?;
        Ok(entries.into_iter().map(|(key, value)| (self.keyspaces.join(number, &key), value)).collect())
    }

    /// The same for a range over several keyspaces.
    fn walk_parts(
        &self,
        mut parts: Vec<Part<'_>>,
        snapshot: &Snapshot,
        reverse: bool,
        limit: usize,
    ) -> Result<ScanResult, Failure> {
        if reverse {
            parts.reverse();
        }
        let mut entries = Vec::new();
        for part in parts {
            if entries.len() < limit {
                entries.extend(self.walk_part(part, snapshot, reverse, limit - entries.len())?);
            }
        }
        Ok(ScanResult { at: Some(snapshot.seqno()), entries })
    }

    /// The keyspaces of everything that a transaction names, as they are at its sequence number. `None` where one was dropped
    /// since it was made sure that it is there.
    fn named_by(&self, script: &Script<'_>, txn: &Transaction<'_>) -> Option<BTreeMap<u8, Keyspace>> {
        let numbers = self.numbers_of(script);
        numbers.into_iter().map(|number| Some((number, self.keyspaces.at(&self.db, number, txn.seqno())?))).collect()
    }

    fn numbers_of(&self, script: &Script<'_>) -> BTreeSet<u8> {
        let keys = script.reads.iter().copied().chain(script.writes.iter().map(Write::key));
        let mut numbers: BTreeSet<u8> = keys.map(|key| self.keyspaces.split(key).0).collect();
        let parts = script.scan.iter().flat_map(|scan| self.keyspaces.parts(scan.from, scan.to));
        numbers.extend(parts.map(|(number, ..)| number));
        numbers
    }

    /// The values of several keys, in their order, through a transaction that has these keyspaces: in one call for each of them, or one
    /// key after the other.
    fn read_through(
        &self,
        txn: &mut Transaction<'_>,
        keyspaces: &BTreeMap<u8, Keyspace>,
        keys: &[&[u8]],
        together: bool,
    ) -> Result<Vec<Option<Vec<u8>>>, Error> {
        let mut values = vec![None; keys.len()];
        if !together {
            for (value, key) in values.iter_mut().zip(keys) {
                let (number, key) = self.keyspaces.split(key);
                *value = txn.get_in(&keyspaces[&number], key)?.map(|value| value.to_vec());
            }
            return Ok(values);
        }
        for (number, keyspace) in keyspaces {
            let (part, own): (Vec<usize>, Vec<&[u8]>) = keys
                .iter()
                .enumerate()
                .map(|(index, key)| (index, self.keyspaces.split(key)))
                .filter(|(_, (other, _))| other == number)
                .map(|(index, (_, key))| (index, key))
                .unzip();
            for (index, value) in part.into_iter().zip(txn.multi_get_in(keyspace, &own)?) {
                values[index] = value.map(|value| value.to_vec());
            }
        }
        Ok(values)
    }

    /// A key that a transaction read in a keyspace.
    fn first_read_in(&self, script: &Script<'_>, number: u8) -> Option<Vec<u8>> {
        script.reads.iter().find(|key| self.keyspaces.split(key).0 == number).map(|key| key.to_vec())
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

/// What a transaction that has read these `values` must see of what it has written, key by key. Not of what rests on something that
/// it has not read: looking would count as a read.
fn own_writes<'s>(script: &'s Script<'_>, values: &[Option<Vec<u8>>]) -> BTreeMap<&'s [u8], Option<Vec<u8>>> {
    let mut seen = BTreeMap::new();
    let mut unknown = BTreeSet::new();
    for write in script.writes {
        let key = write.key();
        match write {
            Write::Put { value, .. } => _ = seen.insert(key, Some(value.clone())),
            // It may have expired already, by a time that only the store knows.
            Write::PutExpiring { lifetime: Lifetime::Until(_), .. } => _ = unknown.insert(key),
            Write::PutExpiring { value, .. } => _ = seen.insert(key, Some(value.clone())),
            Write::Delete { .. } | Write::DeleteRange { .. } => _ = seen.insert(key, None),
            Write::Merge { operand, .. } => {
                let read = || script.reads.iter().position(|read| *read == key).map(|at| values[at].clone());
                match seen.get(key).cloned().or_else(read) {
                    Some(base) => _ = seen.insert(key, Some([base.unwrap_or_default(), operand.clone()].concat())),
                    None => _ = unknown.insert(key),
                }
            }
        }
    }
    seen.retain(|key, _| !unknown.contains(key));
    seen
}

/// How often something is tried again because somebody dropped a keyspace in between: no run has so many drops.
const TRIES_MAX: usize = 1000;

impl Store for StrataStore {
    fn write(&self, batch: &[Write], sync: SyncMode) -> Commit {
        self.commit(batch, as_durable_as(sync))
    }

    fn write_hurried(&self, batch: &[Write], sync: SyncMode, within: Option<Duration>) -> Commit {
        self.commit(batch, WriteOptions { deadline: within, no_wait: within.is_none(), ..as_durable_as(sync) })
    }

    fn transact(&self, script: &Script<'_>) -> Result<Transacted, Failure> {
        let isolation = if script.serializable { Isolation::Serializable } else { Isolation::Snapshot };
        let (mut txn, keyspaces) = loop {
            for number in self.numbers_of(script) {
                self.keyspaces.current_or_new(&self.db, number).map_err(failure)?;
            }
            let txn = Transaction::begin(&self.db, isolation);
            if let Some(keyspaces) = self.named_by(script, &txn) {
                break (txn, keyspaces);
            }
        };
        let begun_at = txn.seqno();
        let split = |key| -> (&Keyspace, &[u8]) {
            let (number, key) = self.keyspaces.split(key);
            (&keyspaces[&number], key)
        };
        let values = self.read_through(&mut txn, &keyspaces, &script.reads, script.together).map_err(failure)?;
        let mut entries = Vec::new();
        if let Some(ScriptScan { from, to, limit }) = script.scan {
            for (number, from, to) in self.keyspaces.parts(from, to) {
                let left = limit - entries.len();
                let found = txn.scan_in(&keyspaces[&number], Range::of((from, to)), left).map_err(failure)?;
                for (key, value) in found {
                    entries.push((self.keyspaces.join(number, &key), value.to_vec()));
                }
            }
        }
        let start = txn.savepoint();
        // Everything is written, taken back and written again: what a savepoint forgets would be missing, or too much.
        for _ in 0..2 {
            txn.rollback_to(start);
            for write in script.writes {
                let (keyspace, key) = split(write.key());
                match write {
                    Write::Put { value, .. } => txn.put_in(keyspace, key, value),
                    Write::PutExpiring { value, lifetime, .. } => {
                        txn.put_expiring_in(keyspace, key, value, expiry(*lifetime));
                    }
                    Write::Merge { operand, .. } => txn.merge_in(keyspace, key, operand),
                    Write::Delete { .. } => txn.delete_in(keyspace, key),
                    Write::DeleteRange { end, .. } => {
                        let end = self.end_in(self.keyspaces.split(write.key()).0, end);
                        txn.delete_range_in(keyspace, key, &end);
                    }
                }
            }
        }
        let expected = own_writes(script, &values);
        let keys: Vec<&[u8]> = expected.keys().copied().collect();
        let found = self.read_through(&mut txn, &keyspaces, &keys, script.together).map_err(failure)?;
        for (found, (key, expected)) in found.into_iter().zip(&expected) {
            if found != *expected {
                let message = format!("a transaction does not read its own write of {}", key.escape_ascii());
                return Err(Failure { kind: FailureKind::Other, message, file: None });
            }
        }
        let mut batch = WriteBatch::new();
        let result = txn.commit_as(&mut batch, as_durable_as(script.sync));
        self.largest_batch.fetch_max(batch.bytes() as u64, Ordering::Relaxed);
        let (result, conflict) = match result {
            Ok(_) => (Ok(()), None),
            Err(Error::Conflict { keyspace: id, key }) => {
                let found = keyspaces.iter().find(|(_, keyspace)| keyspace.id() == id);
                let conflict = match found {
                    // All its keys went with it; the engine names one that it was asked for.
                    Some((number, keyspace)) if self.keyspaces.dropped_at(keyspace).is_some() => {
                        self.first_read_in(script, *number)
                    }
                    Some((number, _)) => Some(self.keyspaces.join(*number, &key)),
                    None => None,
                };
                (Err(failure(Error::Conflict { keyspace: id, key })), conflict)
            }
            // A keyspace that it writes to was dropped, which is a write of others to all its keys.
            Err(error @ Error::NoSuchKeyspace { .. }) => {
                let gone = |write: &&Write| {
                    let (number, _) = self.keyspaces.split(write.key());
                    self.keyspaces.dropped_at(&keyspaces[&number]).is_some()
                };
                let conflict = script.writes.iter().find(gone).map(|write| write.key().to_vec());
                (Err(Failure { kind: FailureKind::Conflict, ..failure(error) }), conflict)
            }
            Err(error) => (Err(failure(error)), None),
        };
        let commit = Commit { seq: batch.seqno(), written_ms: batch.written_ms(), result };
        Ok(Transacted { begun_at, values, entries, conflict, commit })
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Failure> {
        let (number, key) = self.keyspaces.split(key);
        let found = match self.keyspaces.current(&self.db, number) {
            Some(_) if number == 0 => self.db.get(key),
            Some(keyspace) => match self.db.get_in(&keyspace, key) {
                // Dropped since.
                Err(Error::NoSuchKeyspace { .. }) => Ok(None),
                found => found,
            },
            None => Ok(None),
        };
        found.map(|value| value.map(|value| value.to_vec())).map_err(failure)
    }

    fn multi_get(&self, at: Option<SnapshotId>, keys: &[&[u8]]) -> Result<MultiGot, Failure> {
        if let Some(id) = at {
            return self.get_parts(self.held(id)?.as_ref(), keys).map_err(failure);
        }
        let first = keys.first().map_or(0, |key| self.keyspaces.split(key).0);
        if keys.iter().all(|key| self.keyspaces.split(key).0 == first)
            && let Some(found) = self.get_now(first, keys).map_err(failure)?
        {
            return Ok(found);
        }
        self.get_parts(&self.db.snapshot(), keys).map_err(failure)
    }

    fn scan(
        &self,
        at: Option<SnapshotId>,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        reverse: bool,
        limit: usize,
    ) -> Result<ScanResult, Failure> {
        if self.keyspaces.are_many() {
            let parts = self.keyspaces.parts(from, to);
            let now = || Arc::new(self.db.snapshot());
            let snapshot = at.map_or_else(|| Ok(now()), |id| self.held(id))?;
            return self.walk_parts(parts, &snapshot, reverse, limit);
        }
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
        let (number, key) = self.keyspaces.split(key);
        let found = match self.keyspaces.at(&self.db, number, snapshot.seqno()) {
            Some(_) if number == 0 => self.db.get_at(&snapshot, key),
            Some(keyspace) => self.db.get_in_at(&keyspace, &snapshot, key),
            None => Ok(None),
        };
        found.map(|value| value.map(|value| value.to_vec())).map_err(failure)
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
        self.db.flush().map_err(failure)?;
        if self.options.archive.is_some() {
            // What comes of it is looked at later. That the archive fails is no failure of a flush.
            let _ = self.db.archive_now();
        }
        Ok(())
    }

    fn archive_now(&self) -> Result<u64, Failure> {
        self.db.archive_now().map_err(failure)
    }

    fn compact(&self, from: Option<&[u8]>, to: Option<&[u8]>) -> Result<(), Failure> {
        if !self.keyspaces.are_many() {
            return self.db.compact_range(from, to).map_err(failure);
        }
        let [from, to] = [from, to].map(|key| key.map_or(Bound::Unbounded, Bound::Included));
        for (number, from, to) in self.keyspaces.parts(from, to) {
            let key = |bound| match bound {
                Bound::Included(key) => Some(key),
                _ => None,
            };
            let Some(keyspace) = self.keyspaces.current(&self.db, number) else { continue };
            match self.db.compact_range_in(&keyspace, key(from), key(to)) {
                Err(Error::NoSuchKeyspace { .. }) => {}
                done => done.map_err(failure)?,
            }
        }
        Ok(())
    }

    fn drop_keyspace(&self, number: u8) -> Commit {
        loop {
            let keyspace = match self.keyspaces.current_or_new(&self.db, number) {
                Ok(keyspace) => keyspace,
                Err(error) => return Commit::new(None, Err(failure(error))),
            };
            match self.db.drop_keyspace(&keyspace) {
                Ok(seqno) => return Commit::new(Some(seqno), Ok(())),
                // Somebody else was first.
                Err(Error::NoSuchKeyspace { .. }) => {}
                Err(error) => {
                    let seq = self.keyspaces.drop_failed(&keyspace, self.world.current_task());
                    return Commit::new(seq, Err(failure(error)));
                }
            }
        }
    }

    fn checkpoint(&self, dir: &str) -> Result<Option<u64>, Failure> {
        checkpoint(&self.db, Path::new(dir)).map(|made| Some(made.seqno)).map_err(failure)
    }

    fn backup(&self, dir: &str, keep: usize) -> Result<(u64, Option<u64>), Failure> {
        let backups = Backups::create(self.db.env(), Path::new(dir)).map_err(failure)?;
        let made = backups.backup(&self.db, &mut |_| ()).map_err(failure)?;
        // Not each time: what a backup leaves undone is not for pruning to do.
        if made.number.is_multiple_of(2) {
            backups.prune(keep).map_err(failure)?;
        }
        Ok((made.number, Some(made.seqno)))
    }

    fn export(&self, file: &str) -> Result<Option<u64>, Failure> {
        let exported = export_file(&self.db.snapshot(), Path::new(file), &mut |_| ()).map_err(failure)?;
        Ok(Some(exported.seqno))
    }

    fn look(&self, client: u32, anew: bool) -> Result<ScanResult, Failure> {
        self.readers.look((&self.world, self.db.path(), &self.options), &self.keyspaces, client, anew)
    }

    fn verify(&self) -> Result<Verified, Failure> {
        let found = self.db.verify(&mut |_| ()).map_err(failure)?;
        let damage = found.damage.into_iter();
        let damage = damage.map(|damage| Failure { file: Some(damage.file.name()), ..failure(damage.cause) });
        Ok(Verified { damage: damage.collect(), files: found.files })
    }

    fn upgrade(&self) -> Result<(), Failure> {
        self.db.upgrade().map_err(failure)
    }

    fn format_version(&self) -> u32 {
        self.db.format_version()
    }

    fn quarantined(&self) -> Vec<String> {
        self.db.quarantined().iter().map(|table| FileKind::Sst(table.table).name()).collect()
    }

    fn release_quarantined(&self) -> Result<u64, Failure> {
        self.db.release_quarantined().map(|count| count as u64).map_err(failure)
    }

    fn discard_quarantined(&self, name: &str) -> Result<(), Failure> {
        let Some(FileKind::Sst(table)) = FileKind::parse(name) else {
            return Err(Failure { kind: FailureKind::Invalid, message: format!("{name} is no table"), file: None });
        };
        self.db.discard_quarantined(table).map_err(failure)
    }

    fn contents(&self, name: &str, path: &str) -> Result<Option<Vec<Held>>, Failure> {
        quarantine::contents(&self.world, &self.keyspaces, name, path).map_err(failure)
    }

    fn check(&self) -> Result<CheckReport, Failure> {
        // What they hold open would be held against the store.
        self.readers.close();
        let report = self.db.check().map_err(failure)?;
        self.keyspaces.check(&self.db)?;
        let stats = self.db.stats();
        let cache = &stats.cache;
        if cache.bytes > cache.capacity {
            let message = format!("the block cache holds {} bytes, and may hold {}", cache.bytes, cache.capacity);
            return Err(Failure { kind: FailureKind::Other, message, file: None });
        }
        if let Some(message) = self.exceeded(&stats) {
            return Err(Failure { kind: FailureKind::Other, message, file: None });
        }
        self.health.judge().map_err(|message| Failure { kind: FailureKind::Other, message, file: None })?;
        let health = self.db.health();
        let goes_around = !report.quarantined.is_empty();
        let expected = if goes_around { Health::Degraded(Trouble::Damage) } else { Health::Ok };
        Ok(CheckReport {
            shape: report.to_string(),
            files: report.files.iter().cloned().collect(),
            debt: report.debt as u64,
            last_seq: report.seqno,
            trouble: (health != expected).then(|| health.to_string()),
            quarantined: report.quarantined.iter().map(|&number| FileKind::Sst(number).name()).collect(),
        })
    }

    fn close(&self) -> Result<(), Failure> {
        let released = std::mem::take(&mut *self.snapshots.lock());
        drop(released);
        self.readers.close();
        self.db.close().map_err(failure)
    }
}

#[cfg(test)]
mod tests;
