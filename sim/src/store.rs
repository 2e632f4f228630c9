//! The seam to a system under test: what a storage engine must offer to be shaken.
//!
//! [`Store`] is one open store, [`StoreKind`] is a way to open one on a [`World`]. An engine of your own needs these
//! two traits, and must reach its files, its clock and its tasks through the world (see [`crate::syscall`] for the
//! files and [`World::spawn`] for tasks). `examples/own_engine.rs` is a whole one. Nothing here knows a particular engine.
//!
//! Every operation may be called from any task, and several tasks call at once. None may panic because the world
//! failed.

use crate::fault::{FaultKind, FileClass};
use crate::op::{Lifetime, OpKind};
use crate::sanitizer::Protocol;
use crate::world::World;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;
use std::time::Duration;

/// The option, in the table that [`StoreKind::open`] gets, that says how many keyspaces there are where there are several.
pub const KEYSPACES: &str = "keyspaces";

/// One change within a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// The key has this value from now on.
    Put {
        /// The key.
        key: Vec<u8>,
        /// Its value.
        value: Vec<u8>,
    },
    /// The key has this value from now on and for a time, and none from then on. Only for stores that say
    /// [so](StoreKind::specialities).
    PutExpiring {
        /// The key.
        key: Vec<u8>,
        /// Its value.
        value: Vec<u8>,
        /// For how long.
        lifetime: Lifetime,
    },
    /// An operand is appended to what the key has, an absent one having nothing. Only for stores that say
    /// [so](StoreKind::merging_options).
    Merge {
        /// The key.
        key: Vec<u8>,
        /// The operand.
        operand: Vec<u8>,
    },
    /// The key has no value from now on.
    Delete {
        /// The key.
        key: Vec<u8>,
    },
    /// No key of a range has a value from now on. Only for stores that say [so](StoreKind::specialities).
    DeleteRange {
        /// The first key.
        begin: Vec<u8>,
        /// The first key behind.
        end: Vec<u8>,
    },
}

impl Write {
    /// The key that is written; of a range the first.
    pub fn key(&self) -> &[u8] {
        match self {
            Write::Put { key, .. }
            | Write::Merge { key, .. }
            | Write::PutExpiring { key, .. }
            | Write::Delete { key }
            | Write::DeleteRange { begin: key, .. } => key,
        }
    }

    /// Its new value, if it has one that is known.
    pub fn value(&self) -> Option<&[u8]> {
        match self {
            Write::Put { value, .. } | Write::PutExpiring { value, .. } => Some(value),
            Write::Merge { .. } | Write::Delete { .. } | Write::DeleteRange { .. } => None,
        }
    }
}

/// What an acknowledged write must survive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncMode {
    /// Power loss, once acknowledged.
    Always,
    /// The end of the process; power loss only after a later sync.
    Buffered,
    /// What the options of the store say.
    Default,
}

/// What came of a batch.
#[derive(Clone, Debug)]
pub struct Commit {
    /// The first sequence number of the batch, if it was given one; its entries take `seq`, `seq + 1` and so on. Known
    /// even where the write failed afterwards: such a batch is indeterminate. `None` beside an error means that the
    /// batch never reached a log and is surely absent; of a store that never tells numbers, see
    /// [`StoreKind::tells_sequence_numbers`], that it is indeterminate.
    pub seq: Option<u64>,
    /// What the time was for the store when it wrote the batch, from which lifetimes are counted, in milliseconds since the Unix
    /// epoch; where there are any.
    pub written_ms: Option<u64>,
    /// Whether it was acknowledged.
    pub result: Result<(), Failure>,
}

impl Commit {
    /// Of a batch without lifetimes.
    pub fn new(seq: Option<u64>, result: Result<(), Failure>) -> Commit {
        Commit { seq, written_ms: None, result }
    }
}

/// A transaction that a store is asked to run: it reads keys, then a range, then writes, then commits.
#[derive(Clone, Debug)]
pub struct Script<'a> {
    /// Keys to read, one after the other.
    pub reads: Vec<&'a [u8]>,
    /// Whether to read them in one call instead, as of [`Store::multi_get`].
    pub together: bool,
    /// A range to read after them.
    pub scan: Option<ScriptScan<'a>>,
    /// What to write, as [`each_once`](crate::op::each_once) has it; there may be nothing.
    pub writes: &'a [Write],
    /// Whether the reads must still hold when it commits. Otherwise only what it writes must not have been written by others.
    pub serializable: bool,
    /// What its acknowledgement promises.
    pub sync: SyncMode,
}

/// The scan of a [`Script`], in key order.
#[derive(Clone, Copy, Debug)]
pub struct ScriptScan<'a> {
    /// Where it starts.
    pub from: Bound<&'a [u8]>,
    /// Where it ends.
    pub to: Bound<&'a [u8]>,
    /// At most so many entries.
    pub limit: usize,
}

/// What came of a transaction whose reads succeeded.
#[derive(Clone, Debug)]
pub struct Transacted {
    /// The sequence number that it read at.
    pub begun_at: u64,
    /// What its keys had.
    pub values: Vec<Option<Vec<u8>>>,
    /// What its range had.
    pub entries: Vec<(Vec<u8>, Vec<u8>)>,
    /// The key that somebody else wrote, where the result says [`FailureKind::Conflict`].
    pub conflict: Option<Vec<u8>>,
    /// As for a batch. A transaction that writes nothing has no number.
    pub commit: Commit,
}

/// An error of the store, as far as a judge needs to understand it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What kind of error.
    pub kind: FailureKind,
    /// The store's own words.
    pub message: String,
    /// The file that it named, if it named one; of a panic, the line of source.
    pub file: Option<String>,
}

/// Kinds of [`Failure`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FailureKind {
    /// The file system failed.
    Io,
    /// The file system is full.
    OutOfSpace,
    /// Bytes are not what was written.
    Corruption,
    /// Writes are refused after an earlier failure; reads go on.
    ReadOnly,
    /// The store was closed.
    Closed,
    /// Somebody else has the store open.
    Locked,
    /// A transaction met another one. Nothing of it was done.
    Conflict,
    /// A write was not to wait, and would have had to. Nothing of it was done.
    Stalled,
    /// A write was to be given up after a time, which was over. Nothing of it was done.
    TimedOut,
    /// The caller asked for something that is not offered.
    Invalid,
    /// After an earlier failure neither reads nor writes go on, until the store is opened again.
    Unusable,
    /// Its code panicked, and whoever called it caught that. A bug, whatever the world did.
    Panicked,
    /// Anything else.
    Other,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.message)
    }
}

impl std::error::Error for Failure {}

impl Failure {
    fn not_offered(what: &str) -> Failure {
        Failure { kind: FailureKind::Invalid, message: format!("the store has no {what}"), file: None }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        let full = error.kind() == io::ErrorKind::StorageFull;
        let kind = if full { FailureKind::OutOfSpace } else { FailureKind::Io };
        Failure { kind, message: error.to_string(), file: None }
    }
}

/// A snapshot that the store keeps open until it is released.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SnapshotId(pub u64);

/// The result of a scan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScanResult {
    /// The sequence number at which the scan read, where the store tells.
    pub at: Option<u64>,
    /// Keys and values, in the order in which the scan met them.
    pub entries: Vec<(Vec<u8>, Vec<u8>)>,
}

/// The result of a get of several keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MultiGot {
    /// The sequence number at which it read, where the store tells.
    pub at: Option<u64>,
    /// The value of each key, in the order in which the keys were given.
    pub values: Vec<Option<Vec<u8>>>,
}

/// What a store's own check of itself found to be well, and its shape.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// The shape in a few words: `"L0:2 L1:3"`. Equal shapes read equal.
    pub shape: String,
    /// Names of the files that the store needs, in its directory.
    pub files: Vec<String>,
    /// Background work that is left to do, in whatever unit; 0 means none.
    pub debt: u64,
    /// The newest sequence number that was given to a write.
    pub last_seq: u64,
    /// What the store says is the matter with it; `None` where it is well, or never says such a thing. That it goes on around files
    /// in quarantine is none.
    pub trouble: Option<String>,
    /// Names of files that are damaged, that the store has noted for good as such, and that it goes on around.
    pub quarantined: Vec<String>,
}

/// What came of reading everything back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Everything that is not as it was written; each names its file.
    pub damage: Vec<Failure>,
    /// Files that counted from the beginning of the call to its end, each with how many of its bytes do.
    pub files: BTreeMap<String, u64>,
}

/// Something that a file holds: a version of a key, or of each key of a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The key; of a range the first.
    pub key: Vec<u8>,
    /// Of a range that was deleted, the first key behind.
    pub end: Option<Vec<u8>>,
    /// Its sequence number, if the file still knows it.
    pub seq: Option<u64>,
    /// Its value, if it has one.
    pub value: Option<Vec<u8>>,
}

/// An open store.
pub trait Store: Send + Sync {
    /// Applies the batch, whole or not at all.
    fn write(&self, batch: &[Write], sync: SyncMode) -> Commit;

    /// The same, but for the writer's patience: with a time, the write is given up ([`FailureKind::TimedOut`]) when it has waited
    /// for so long; without, it does not wait for background work at all ([`FailureKind::Stalled`]). What was given up has no
    /// number and is surely absent.
    fn write_hurried(&self, _batch: &[Write], _sync: SyncMode, _within: Option<Duration>) -> Commit {
        Commit::new(None, Err(Failure::not_offered("writes that do not wait")))
    }

    /// The newest value of the key.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Failure>;

    /// The values of several keys as of one moment, of the snapshot, or of now. The keys may be in any order, and the same more
    /// than once. A store that reads keys one by one leaves this as it is; its scenarios name no such gets.
    fn multi_get(&self, _at: Option<SnapshotId>, _keys: &[&[u8]]) -> Result<MultiGot, Failure> {
        Err(Failure::not_offered("gets of several keys"))
    }

    /// At most `limit` entries within the bounds, ascending, or descending where `reverse` says so; of the snapshot, or
    /// of now. The bounds are a range of keys either way: `from` is the lower one.
    fn scan(
        &self,
        at: Option<SnapshotId>,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        reverse: bool,
        limit: usize,
    ) -> Result<ScanResult, Failure>;

    /// Runs a transaction. An error is one of its reads, and nothing was done. A store without transactions leaves this as it
    /// is, and its scenarios name a workload without them.
    fn transact(&self, _script: &Script<'_>) -> Result<Transacted, Failure> {
        Err(Failure::not_offered("transactions"))
    }

    /// Freezes the present state for reading. The number is the sequence number of the newest write that it shows,
    /// where the store tells. A store without snapshots leaves the three as they are; its scenarios name a workload without
    /// them.
    fn snapshot(&self) -> Result<(SnapshotId, Option<u64>), Failure> {
        Err(Failure::not_offered("snapshots"))
    }

    /// The value that the key had when the snapshot was taken.
    fn get_at(&self, _snapshot: SnapshotId, _key: &[u8]) -> Result<Option<Vec<u8>>, Failure> {
        Err(Failure::not_offered("snapshots"))
    }

    /// Lets go of a snapshot.
    fn release(&self, _snapshot: SnapshotId) {}

    /// Makes every acknowledged write durable.
    fn sync(&self) -> Result<(), Failure>;

    /// Moves what is in memory into tables; a success makes every earlier acknowledged write durable. A store without tables
    /// syncs.
    fn flush(&self) -> Result<(), Failure> {
        self.sync()
    }

    /// Compacts a range of keys, all of it by `None`. A store that has nothing to compact is done.
    fn compact(&self, _from: Option<&[u8]>, _to: Option<&[u8]>) -> Result<(), Failure> {
        Ok(())
    }

    /// Makes the directory `dir`, which is not there, a copy of the store as it is at one moment of the call, and all of it
    /// durable, in the store as well. Returns the sequence number of the newest write that the copy holds, where the store
    /// tells. A store that cannot leaves this as it is; its scenarios name no checkpoints.
    fn checkpoint(&self, _dir: &str) -> Result<Option<u64>, Failure> {
        Err(Failure::not_offered("checkpoints"))
    }

    /// Adds a backup of the store as it is at one moment of the call to those in the directory `dir`, which is made where it is
    /// missing, and removes all but the newest `keep` then, now and again. Returns the number of the backup, and the sequence number of the
    /// newest write that it holds, where the store tells. As durable as a checkpoint, and as optional.
    fn backup(&self, _dir: &str, _keep: usize) -> Result<(u64, Option<u64>), Failure> {
        Err(Failure::not_offered("backups"))
    }

    /// Has everything that was written so far archived, where the store keeps an archive, and returns the sequence number of the last
    /// write in it. As optional as a checkpoint.
    fn archive_now(&self) -> Result<u64, Failure> {
        Err(Failure::not_offered("an archive"))
    }

    /// Writes the store as it is at one moment of the call to the file `file` as one stream, which is durable then; what of the
    /// store it holds need not be. Returns the sequence number of the newest write that it holds, where the store tells. As
    /// optional as a checkpoint.
    fn export(&self, _file: &str) -> Result<Option<u64>, Failure> {
        Err(Failure::not_offered("exports"))
    }

    /// Reads everything through a handle of this client that only reads, as another process would that looks at the store beside
    /// this one: opened where the client has none, or `anew`, and brought up to date otherwise. Nothing that is shown this way binds
    /// the store.
    fn look(&self, _client: u32, _anew: bool) -> Result<ScanResult, Failure> {
        Err(Failure::not_offered("handles that only read"))
    }

    /// Reads everything back that counts while the store is in use, and tells of all that is not as it was written.
    fn verify(&self) -> Result<Verified, Failure> {
        Err(Failure::not_offered("verification while it is open"))
    }

    /// Raises the version of the store's format to the newest that it knows, durably, while the other clients go on.
    fn upgrade(&self) -> Result<(), Failure> {
        Err(Failure::not_offered("versions of its format"))
    }

    /// The version of the store's format. It never goes back.
    fn format_version(&self) -> u32 {
        0
    }

    /// The names of the files in quarantine.
    fn quarantined(&self) -> Vec<String> {
        Vec::new()
    }

    /// Has the store look at the files in quarantine again. Returns how many are whole again and in it no more, durably.
    fn release_quarantined(&self) -> Result<u64, Failure> {
        Err(Failure::not_offered("quarantine"))
    }

    /// Gives a file in quarantine up, durably, with all that it holds and hides.
    fn discard_quarantined(&self, _name: &str) -> Result<(), Failure> {
        Err(Failure::not_offered("quarantine"))
    }

    /// What the file that lies at `path` holds, which is a whole copy of the one of this name. `None` where that cannot be told of
    /// all of it.
    fn contents(&self, _name: &str, _path: &str) -> Result<Option<Vec<Held>>, Failure> {
        Err(Failure::not_offered("quarantine"))
    }

    /// Checks whatever the store can check of itself, thoroughly. A store that cannot names no file either: either its scenarios
    /// leave out the check `invariants`, or its [`StoreKind::checks_itself`] says so.
    fn check(&self) -> Result<CheckReport, Failure> {
        Ok(CheckReport::default())
    }

    /// Drops a keyspace with all its keys, as one write of which the acknowledgement says that it is durable. What is written to
    /// it later finds it empty. See [`StoreKind::specialities`].
    fn drop_keyspace(&self, _keyspace: u8) -> Commit {
        Commit::new(None, Err(Failure::not_offered("keyspaces")))
    }

    /// Ends all tasks of the store and lets go of its files. Later calls fail with [`FailureKind::Closed`]. There are none
    /// where nothing has to be ended: then dropping the store closes it.
    fn close(&self) -> Result<(), Failure> {
        Ok(())
    }
}

/// A kind of store that can be opened on a world.
pub trait StoreKind: Send + Sync {
    /// Its name, as a scenario gives it.
    fn name(&self) -> &str;

    /// What a file in the store's directory is, by its last name. Faults of a scenario can be confined to classes.
    fn classify(&self, _file_name: &str) -> FileClass {
        FileClass::Other
    }

    /// What its files can be. A fault that is confined to other classes never strikes it.
    fn classes(&self) -> Vec<FileClass> {
        FileClass::ALL.to_vec()
    }

    /// Whether it promises anything where this goes wrong. A scenario in which something else goes wrong says nothing about it.
    fn withstands(&self, _fault: FaultKind) -> bool {
        true
    }

    /// Whether it tells the sequence number of each write that got one. The oracle counts the writes of a store that does not,
    /// in the order in which they return: such a store must do one call at a time.
    fn tells_sequence_numbers(&self) -> bool {
        true
    }

    /// Whether [`Store::check`] says which files the store needs, and its newest sequence number. There are no invariants to
    /// look at of a store that does not.
    fn checks_itself(&self) -> bool {
        true
    }

    /// What it can do beyond what each store can. A scenario that asks for more than the store offers says nothing about it,
    /// and is refused.
    ///
    /// - [`OpKind::Transaction`]: it has [`Store::transact`].
    /// - [`OpKind::DeleteRange`], for stores that have transactions as well: [`Write::DeleteRange`] means something to it.
    /// - [`OpKind::PutExpiring`], for stores that have transactions as well: [`Write::PutExpiring`] means something to it.
    /// - [`OpKind::Hurry`]: it has [`Store::write_hurried`].
    /// - [`OpKind::MultiGet`]: it has [`Store::multi_get`].
    /// - [`OpKind::Merge`]: [`Write::Merge`] means something to it, with [`StoreKind::merging_options`].
    /// - [`OpKind::MergeTransaction`], for stores that have these and transactions and [`Store::multi_get`]: its transactions take
    ///   operands, and read several keys in one call.
    /// - [`OpKind::Checkpoint`] and [`OpKind::Backup`]: copies of it can be made, and opened by [`StoreKind::open_copy`].
    /// - [`OpKind::Export`] and [`OpKind::Import`]: it has [`Store::export`], and [`StoreKind::import`] makes stores of that.
    /// - [`OpKind::RestoreTo`] and [`OpKind::PruneArchive`]: it has [`StoreKind::archive`], and what that says is offered then.
    /// - [`OpKind::DropKeyspace`]: it can hold several maps in one, which come and go; then the option [`KEYSPACES`] may say how
    ///   many. The first byte of each key is the number of its keyspace, as a digit, and no range delete goes over several.
    ///   Keyspace 0 is never dropped.
    /// - [`OpKind::Look`]: it has [`Store::look`].
    /// - [`OpKind::Verify`]: it has [`Store::verify`].
    /// - [`OpKind::Upgrade`]: it has [`Store::upgrade`] and [`Store::format_version`].
    /// - [`OpKind::ReleaseTable`] and [`OpKind::DiscardTable`]: it goes on around damaged files, and has
    ///   [`Store::release_quarantined`], [`Store::discard_quarantined`] and [`Store::contents`].
    fn specialities(&self) -> &'static [OpKind] {
        &[]
    }

    /// Options with which [`Write::Merge`] means something to it.
    fn merging_options(&self) -> Option<toml::Table> {
        None
    }

    /// How many milliseconds a value is kept under these options that is put without a lifetime, if not for ever.
    fn default_ttl_ms(&self, _options: &toml::Table) -> Option<u32> {
        None
    }

    /// Takes what [`StoreKind::default_ttl_ms`] finds out of options.
    fn drop_default_ttl(&self, _options: &mut toml::Table) {}

    /// Options as a scenario would name them, for scenarios that were written with another store in mind: a list is a choice
    /// that each seed makes.
    fn varied_options(&self) -> toml::Table {
        toml::Table::new()
    }

    /// Opens the store in the world's root directory `db`, creating it where it is missing. Called from a task. The
    /// options were checked by [`StoreKind::check_options`].
    fn open(&self, world: &World, options: &toml::Table) -> Result<Arc<dyn Store>, Failure>;

    /// Opens the copy of a store in this directory: what [`Store::checkpoint`] or [`StoreKind::restore`] has made.
    fn open_copy(&self, _world: &World, _dir: &str, _options: &toml::Table) -> Result<Arc<dyn Store>, Failure> {
        Err(Failure::not_offered("checkpoints"))
    }

    /// Whether this directory counts as a store, where making a copy in it was cut short. If it does, it must be a whole one.
    fn counts_as_store(&self, _world: &World, _dir: &str) -> Result<bool, Failure> {
        Ok(false)
    }

    /// Verifies all backups in the directory `dir`, and makes the missing directory `target` a store out of one.
    fn restore(&self, _world: &World, _dir: &str, _number: u64, _target: &str) -> Result<(), Failure> {
        Err(Failure::not_offered("backups"))
    }

    /// The directory in which a store with these options keeps its archive, if it does. [`Store::archive_now`],
    /// [`StoreKind::recoverable`], [`StoreKind::restore_to`] and [`StoreKind::prune_archive`] are offered then.
    fn archive(&self, _options: &toml::Table) -> Option<String> {
        None
    }

    /// To which sequence numbers a backup in the directory `dir` can be restored with an archive: from the first to the last.
    fn recoverable(&self, _world: &World, _dir: &str, _number: u64, _archive: &str) -> Result<(u64, u64), Failure> {
        Err(Failure::not_offered("an archive"))
    }

    /// Makes the missing directory `target` a store as it was at a sequence number, durably, out of a backup in the directory `dir`
    /// and an archive. Returns the sequence number of the last write in it. One that was cut short, by whatever, cannot be opened as a
    /// store, or is whole.
    fn restore_to(
        &self,
        _world: &World,
        _dir: &str,
        _archive: &str,
        _seqno: u64,
        _target: &str,
    ) -> Result<u64, Failure> {
        Err(Failure::not_offered("an archive"))
    }

    /// Removes from an archive what no backup in the directory `dir` needs. Returns how many files.
    fn prune_archive(&self, _world: &World, _dir: &str, _archive: &str) -> Result<usize, Failure> {
        Err(Failure::not_offered("an archive"))
    }

    /// Makes the missing directory `target` a store, durably, out of the stream in the file `file`. One that was cut short, by whatever,
    /// cannot be opened as a store, or is whole.
    fn import(&self, _world: &World, _file: &str, _target: &str, _options: &toml::Table) -> Result<(), Failure> {
        Err(Failure::not_offered("exports"))
    }

    /// Whether it offers [`StoreKind::salvage`].
    fn salvages(&self) -> bool {
        false
    }

    /// Makes the missing directory `target` a store of what is still whole of the damaged one in `db`, which is closed and must
    /// stay as it is.
    fn salvage(&self, _world: &World, _target: &str, _options: &toml::Table) -> Result<(), Failure> {
        Err(Failure::not_offered("salvage"))
    }

    /// The options that a simulation starts from: small limits, so that a few hundred operations flush and compact.
    fn default_options(&self) -> toml::Table {
        toml::Table::new()
    }

    /// Options that nobody would choose, for swarms: a list of things that can be set, each with the ways to set it. What
    /// depends on each other is set together; a store takes any of them in any combination, on top of its default options.
    fn wild_options(&self) -> Vec<Vec<toml::Table>> {
        Vec::new()
    }

    /// Names of all options, to find the nearest one to a misspelt name.
    fn option_names(&self) -> Vec<String> {
        Vec::new()
    }

    /// Whether, under these options, an acknowledged write that leaves it to the options ([`SyncMode::Default`])
    /// survives power loss.
    fn is_durable_by_default(&self, options: &toml::Table) -> bool {
        options.get("durability").is_none_or(|value| value.as_str() == Some("always"))
    }

    /// Where, under these options, an acknowledged write that leaves it to the options is synced later without being asked:
    /// after how long at most, on a disk that does not fail.
    fn syncs_within(&self, _options: &toml::Table) -> Option<Duration> {
        None
    }

    /// Whether everything that was acknowledged survives power loss once [`Store::close`] has returned `Ok`.
    fn is_durable_when_closed(&self) -> bool {
        false
    }

    /// Whether a store that is open refuses to be opened once more, with [`FailureKind::Locked`].
    fn locks(&self) -> bool {
        false
    }

    /// What its files say about each other, for the durability sanitizer. Without it, only descriptors are watched.
    fn protocol(&self) -> Option<Arc<dyn Protocol>> {
        None
    }

    /// Names of the places that runs should come to now and then. A store may have none.
    fn marks(&self) -> &'static [&'static str] {
        &[]
    }

    /// Counts marks from zero, on this OS thread.
    fn count_marks_from_zero(&self) {}

    /// How often this OS thread has reached each of [`StoreKind::marks`] since then. Counting must not change what a run does.
    fn mark_hits(&self) -> Vec<u32> {
        Vec::new()
    }

    /// Refuses options that the store would refuse, in words for the author of a scenario.
    fn check_options(&self, _options: &toml::Table) -> Result<(), String> {
        Ok(())
    }
}

/// The answer of [`Store::scan`] for a store that has its entries in a map.
pub fn scan_map(
    map: &BTreeMap<Vec<u8>, Vec<u8>>,
    from: Bound<&[u8]>,
    to: Bound<&[u8]>,
    reverse: bool,
    limit: usize,
) -> Vec<(Vec<u8>, Vec<u8>)> {
    // A range of a map must not end before it starts; a scan may ask for that, and finds nothing.
    let within = map.iter().filter(|(key, _)| RangeBounds::<[u8]>::contains(&(from, to), key.as_slice()));
    let mut entries: Vec<_> = within.map(|(key, value)| (key.clone(), value.clone())).collect();
    if reverse {
        entries.reverse();
    }
    entries.truncate(limit);
    entries
}
