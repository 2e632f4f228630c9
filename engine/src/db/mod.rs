//! An open store: [`Db`], and beneath it the parts that make one up.
//!
//! A write goes from [`mod@write`] (queue, log, memtable) to readers through [`state`]; [`background`] flushes and compacts what
//! has become due and installs the result through `state` again; [`obsolete`] removes what nobody sees any more. [`read`] and
//! [`iter`] look at an immutable view and wait for nobody. [`archiver`] brings logs that are not needed any more to the archive. [`recovery`] makes a state out of files, [`read_only`] makes one beside
//! a writer that goes on, and [`check`] looks at all of it at once. [`keyspace`] has the maps that a store holds beside its first one come and go.
//!
//! # Time
//!
//! Entries can [expire](Db::put_expiring). What that is measured against is the store's time: that of the clock on the wall,
//! which goes on with the monotonic clock, follows the wall clock forward, and does not go back when that is set back. A
//! get takes the time when it looks, one of many keys when it begins, an iterator when it is made, and a snapshot when it is
//! taken; all that is read through an iterator or a snapshot is as of that time. So what has been seen expired stays so as long as the store is open. It stays
//! so for later openings if it had expired when the store was opened, or when a flush or a compaction has come upon it; what
//! has expired since may be there again where the clock is set back between two openings, until its time comes again.

mod archiver;
mod background;
mod check;
mod conflict;
mod deleted;
mod health;
mod iter;
mod keyspace;
mod memory;
mod meter;
mod obsolete;
mod pin;
mod quarantine;
mod read;
mod read_only;
mod recovery;
mod reserve;
mod snapshot;
mod stall;
mod state;
mod stats;
mod time;
mod verify;
mod write;

pub use check::CheckReport;
pub use conflict::ReadSet;
pub use iter::{DbIter, Entries, Range, Unmerged};
pub use keyspace::{Keyspace, KeyspaceStats};
pub use memory::Memory;
pub use meter::{LevelWork, OperationStats};
pub use pin::{PinnedFile, PinnedFiles};
pub use quarantine::QuarantinedTable;
pub use read::MultiGet;
pub use read_only::ReadOnlyDb;
pub use snapshot::Snapshot;
pub use stats::{ArchiveStats, BlobStats, Stats};
pub use verify::{FoundDamage, Verification, VerifyProgress, verify_files};

use crate::batch::{Expiry, WriteBatch};
use crate::compaction::readers::Reader;
use crate::env::{Env, TaskHandle};
use crate::error::{Error, Result};
use crate::event::{Event, Events, Health, Listener, Operation};
use crate::key::{KEYSPACE_DEFAULT, KeyspaceId, SeqNo};
use crate::operator::MergeOperator;
use crate::options::{Durability, KeyspaceOptions, Options};
use crate::record::Uuid;
use crate::sync::Mutex;
use bytes::Bytes;
use conflict::Guard;
use stall::Patience;
use state::{Counters, State};
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use write::CommitQueue;

/// A store that is open: an ordered map from keys to values, on disk, safe to share between any number of threads. It can hold
/// further maps, [keyspaces](Db::create_keyspace), and write to several of them as one step.
///
/// Keys have up to 64 KiB and values up to 1 GiB, both may be empty. Writes are atomic by batch, ordered, and as durable as
/// [`Durability`] says. Reads never wait for writes, flushes or compactions.
///
/// **When a write fails**, its outcome is unknown: it is not visible, but a crash before the store is back at work may still
/// bring it to light. It can no longer appear once a later write with [`Durability::Always`] or a [`Db::sync`] has succeeded.
/// Meanwhile writes are refused with [`Error::ReadOnly`] or [`Error::OutOfSpace`], and the store tries in the background to
/// flush what it holds and to begin new files; reads go on.
///
/// Dropping the last owner closes the store, like [`Db::close`], but hides its errors.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("store");
/// use strata::db::{Db, Range};
///
/// let db = Db::open(&path)?;
/// db.put(b"fruit/apple", b"red")?;
/// db.put(b"fruit/banana", b"yellow")?;
/// assert_eq!(db.get(b"fruit/apple")?.as_deref(), Some(&b"red"[..]));
///
/// let snapshot = db.snapshot();
/// db.delete(b"fruit/apple")?;
/// assert_eq!(db.get_at(&snapshot, b"fruit/apple")?.as_deref(), Some(&b"red"[..]));
///
/// for entry in db.iter(Range::prefix(b"fruit/"))?.into_forward() {
///     let (key, value) = entry?;
///     println!("{} = {}", key.escape_ascii(), value.escape_ascii());
/// }
/// db.close()?;
/// # Ok::<(), strata::error::Error>(())
/// ```
pub struct Db {
    state: Arc<State>,
    queue: CommitQueue,
    tasks: Mutex<Vec<Box<dyn TaskHandle>>>,
}

/// What one write wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteOptions {
    /// How durable the write is when it is acknowledged; `None` for what [`Options::durability`] says.
    pub durability: Option<Durability>,
    /// How long the write may wait, from the call on, for background work and for its turn; then nothing is written and the
    /// error is [`Error::TimedOut`]. A write that has come to its turn is carried out, however long the disk takes. `None`:
    /// as long as it takes.
    pub deadline: Option<Duration>,
    /// Not to wait for background work at all, nor to be slowed down for its sake: where it would be, nothing is written and the
    /// error is [`Error::Stalled`]. The log, its syncs and the writers before are still waited for.
    pub no_wait: bool,
}

impl Db {
    /// Opens the store in `path` on the operating system's file system, with default options; starts a new one where the
    /// directory is missing or empty. The parent directory must exist. Reads the logs that the last run left, so it takes
    /// time in proportion to what was not flushed.
    pub fn open(path: impl AsRef<Path>) -> Result<Db> {
        Db::open_with(&Env::os(), path.as_ref(), Options::default())
    }

    /// Opens a store in any world with any options.
    ///
    /// Errors: [`Error::NotAStore`] for a directory that holds something else (or nothing, without
    /// [`Options::create_if_missing`]), [`Error::Locked`] while somebody has it open, [`Error::NewerFormat`],
    /// [`Error::Corruption`] where synced data is damaged or a file is missing, [`Error::InvalidArgument`] for an option that
    /// is out of range, and what the file system says. A store that could not be opened is as it was before.
    pub fn open_with(env: &Env, path: &Path, options: Options) -> Result<Db> {
        Db::open_events(env, path, options, Events::default())
    }

    /// Like [`Db::open_with`], and tells `listener` what happens inside, from recovery on.
    pub fn open_listening(env: &Env, path: &Path, options: Options, listener: Listener) -> Result<Db> {
        Db::open_events(env, path, options, Events::to(listener))
    }

    fn open_events(env: &Env, path: &Path, options: Options, events: Events) -> Result<Db> {
        let state = Arc::new(recovery::open(env, path, options, events)?);
        memory::balance(&state, 0);
        archiver::begin(&state);
        let tasks = background::start(&state, archiver::task)?;
        Ok(Db { state, queue: CommitQueue::new(), tasks: Mutex::new("the store's tasks", tasks) })
    }

    /// Opens the store in `path` to read it, with default options: see [`Db::open_read_only_with`].
    pub fn open_read_only(path: impl AsRef<Path>) -> Result<ReadOnlyDb> {
        Db::open_read_only_with(&Env::os(), path.as_ref(), Options::default())
    }

    /// Opens a store to read it, whether or not somebody else has it open and writes to it. Takes no lock, and creates, changes and
    /// removes nothing in the directory, then or later; what cannot be done without that, such as the flush of a log, is done in
    /// memory.
    ///
    /// Shows the store as it was after one of its writes, with every write that was acknowledged before the call, durable or not. It
    /// may show writes that were under way, and one that [failed](Db) until the writer is back at work: whatever the next opening
    /// after the end of the writer's process would show. A [refresh](ReadOnlyDb::refresh) shows newer ones.
    ///
    /// Of the options [`cache_bytes`](Options::cache_bytes) counts, and [`memory_bytes`](Options::memory_bytes) for what the logs
    /// take in memory (4 GiB where it is 0). Every table is held open, so as many files can be open as the store has tables; their
    /// space is not free before this is dropped, although the writer may have removed them.
    ///
    /// Errors: [`Error::NotAStore`], [`Error::NewerFormat`], [`Error::Corruption`] where the list of files stays the same and
    /// bytes are damaged, [`Error::Overtaken`] where the writer replaces files faster than they can be opened, a hundred times in
    /// a row, [`Error::InvalidArgument`] where the logs need more memory than they may take, and what the file system says.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("store");
    /// use strata::db::{Db, Range};
    ///
    /// let writer = Db::open(&path)?;
    /// writer.put(b"fruit/apple", b"red")?;
    ///
    /// let reader = Db::open_read_only(&path)?;
    /// assert_eq!(reader.get(b"fruit/apple")?.as_deref(), Some(&b"red"[..]));
    ///
    /// writer.delete(b"fruit/apple")?;
    /// assert_eq!(reader.iter(Range::prefix(b"fruit/"))?.into_forward().count(), 1);
    /// reader.refresh()?;
    /// assert_eq!(reader.get(b"fruit/apple")?, None);
    /// # Ok::<(), strata::error::Error>(())
    /// ```
    pub fn open_read_only_with(env: &Env, path: &Path, options: Options) -> Result<ReadOnlyDb> {
        ReadOnlyDb::open(env, path, options)
    }

    /// Gives `key` this value, replacing any other, for ever or as long as [`Options::default_ttl_ms`] says. Durable as
    /// [`Options::durability`] says.
    pub fn put(&self, key: &[u8], value: &[u8]) -> Result<SeqNo> {
        let mut batch = WriteBatch::new();
        batch.put(key, value);
        self.write(&mut batch, WriteOptions::default())
    }

    /// Gives `key` this value for a time: from then on the key is absent, as if it had been deleted, for gets and scans alike, and
    /// what it had before does not come back. `expiry` is a [`Duration`] from now, or one of [`Expiry`].
    /// Times are milliseconds of the [store's time](crate::db#time).
    ///
    /// Nothing has to be read or deleted to have the space back: compactions drop what has expired, and a table of which
    /// every entry has goes as a whole, unread. That an entry expires is no write: no transaction meets it as a conflict.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let db = strata::db::Db::open(dir.path().join("store"))?;
    /// use std::time::Duration;
    /// use strata::batch::Expiry;
    ///
    /// db.put_expiring(b"session/ada", b"token", Duration::from_secs(3600))?;
    /// db.put_expiring(b"session/bob", b"token", Duration::ZERO)?;
    /// db.put_expiring(b"session/eve", b"token", Expiry::At(1_000))?;
    /// assert!(db.get(b"session/ada")?.is_some());
    /// assert_eq!(db.get(b"session/bob")?, None);
    /// assert_eq!(db.get(b"session/eve")?, None, "that was in 1970");
    /// # Ok::<(), strata::error::Error>(())
    /// ```
    pub fn put_expiring(&self, key: &[u8], value: &[u8], expiry: impl Into<Expiry>) -> Result<SeqNo> {
        let mut batch = WriteBatch::new();
        batch.put_expiring(key, value, expiry);
        self.write(&mut batch, WriteOptions::default())
    }

    /// Writes an operand to `key`, without reading what it has: who reads the key is given what its [merge
    /// operator](crate::operator) makes of that and of all operands since, in the order in which they were written. A put, a
    /// delete or a range delete begins anew, and a value that has expired is none: the operands stay, which never expire.
    ///
    /// Flushes and compactions merge operands where no snapshot lies between; until then a read costs a look at each of them. Where a
    /// read meets more than a thousand in memory, the next writer has them flushed.
    ///
    /// [`Error::InvalidArgument`] where the keyspace has no merge operator: see [`Options::merge_operator`]. What the operator
    /// cannot merge, reads of the key are told of with [`Error::MergeFailed`].
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("store");
    /// use strata::db::Db;
    /// use strata::env::Env;
    /// use strata::options::Options;
    ///
    /// let options = Options { merge_operator: Some("strata.add".into()), ..Options::default() };
    /// let db = Db::open_with(&Env::os(), &path, options)?;
    /// for page in ["home", "help", "home"] {
    ///     db.merge(page.as_bytes(), &1i64.to_le_bytes())?;
    /// }
    /// assert_eq!(db.get(b"home")?.as_deref(), Some(&2i64.to_le_bytes()[..]));
    /// # Ok::<(), strata::error::Error>(())
    /// ```
    pub fn merge(&self, key: &[u8], operand: &[u8]) -> Result<SeqNo> {
        let mut batch = WriteBatch::new();
        batch.merge(key, operand);
        self.write(&mut batch, WriteOptions::default())
    }

    /// Makes `key` absent; one that is absent already stays so.
    pub fn delete(&self, key: &[u8]) -> Result<SeqNo> {
        let mut batch = WriteBatch::new();
        batch.delete(key);
        self.write(&mut batch, WriteOptions::default())
    }

    /// Makes all keys from `begin` up to `end` absent, `end` not among them, as one entry, however many keys there are. Where
    /// `end` is not behind `begin` nothing is written, and the newest number there is is returned.
    ///
    /// Readers pass over what was deleted without looking at it, and compactions give its space back.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let db = strata::db::Db::open(dir.path().join("store"))?;
    /// db.put(b"log/1", b"old")?;
    /// db.put(b"log/2", b"new")?;
    /// let before = db.snapshot();
    /// db.delete_range(b"log/", b"log/2")?;
    /// assert_eq!(db.get(b"log/1")?, None);
    /// assert_eq!(db.get(b"log/2")?.as_deref(), Some(&b"new"[..]));
    /// assert!(db.get_at(&before, b"log/1")?.is_some());
    /// # Ok::<(), strata::error::Error>(())
    /// ```
    pub fn delete_range(&self, begin: &[u8], end: &[u8]) -> Result<SeqNo> {
        let mut batch = WriteBatch::new();
        batch.delete_range(begin, end);
        self.write(&mut batch, WriteOptions::default())
    }

    /// Applies a batch as a whole: any reader, and any crash, sees all of it or nothing. Returns the sequence number of its
    /// first entry; the others follow one by one. An empty batch returns the newest number there is.
    ///
    /// Waits for the log, for a sync if the durability asks for one (shared with writers that come at the same time), and,
    /// where background work is behind, for that, as long as [`WriteOptions`] allow. On success the batch is empty and can be filled again. On an error it is as
    /// before, and [`WriteBatch::seqno`] tells whether it came to the log: see [`Db`] about writes that fail.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let db = strata::db::Db::open(dir.path().join("store"))?;
    /// use strata::batch::WriteBatch;
    /// use strata::db::WriteOptions;
    /// use strata::error::Error;
    ///
    /// let mut batch = WriteBatch::new();
    /// batch.put(b"key", b"value");
    /// match db.write(&mut batch, WriteOptions { no_wait: true, ..WriteOptions::default() }) {
    ///     Ok(seqno) => println!("written as {seqno}"),
    ///     Err(Error::Stalled { cause }) => println!("not now: {cause}; the batch still has {} entry", batch.count()),
    ///     Err(error) => return Err(error),
    /// }
    /// # Ok::<(), Error>(())
    /// ```
    pub fn write(&self, batch: &mut WriteBatch, options: WriteOptions) -> Result<SeqNo> {
        self.write_guarded(batch, None, options)
    }

    /// Like [`Db::write`], unless somebody has written any of `reads` since `snapshot` was taken: then nothing is done, and
    /// the error is [`Error::Conflict`]. The look and the write are one step, in which nobody else writes. What
    /// [`Transaction`](crate::txn::Transaction) is made of.
    ///
    /// Reads the newest version of each key of `reads`, and walks over what was written to its ranges; from the memtable,
    /// and from tables where a flush came between.
    pub fn write_unless_changed(
        &self,
        batch: &mut WriteBatch,
        reads: ReadSet,
        snapshot: &Snapshot,
        options: WriteOptions,
    ) -> Result<SeqNo> {
        self.refuse_foreign(snapshot)?;
        batch.set_seqno(None);
        let guard = Guard::new(&self.state, reads, snapshot.seqno())?;
        self.write_guarded(batch, Some(guard), options)
    }

    fn write_guarded(&self, batch: &mut WriteBatch, guard: Option<Guard>, options: WriteOptions) -> Result<SeqNo> {
        let durability = options.durability.unwrap_or(self.state.options.durability);
        let synced = durability == Durability::Always;
        let operation = if synced { Operation::WriteSynced } else { Operation::WriteUnsynced };
        let begun = self.state.meters.begin(operation);
        let until =
            options.deadline.map(|deadline| begun.unwrap_or_else(|| self.state.env.now()).saturating_add(deadline));
        let patience = Patience { until, no_wait: options.no_wait };
        let meters = &self.state.meters;
        if begun.is_some() && meters.counts_keys() {
            let keys: Vec<Vec<u8>> = batch.spans().map(|(_, key, _)| key).collect();
            meters.name_keys(keys.iter().map(Vec::as_slice));
        }
        let first = if meters.names_keys() { batch.spans().next().map(|(_, key, _)| key) } else { None };
        let (result, waited_for) = self.queue.write(&self.state, batch, durability, guard, patience);
        self.state.meters.end(operation, begun, &first.unwrap_or_default(), waited_for);
        result?;
        Ok(batch.seqno().unwrap_or_else(|| self.state.visible.load(Ordering::Acquire)))
    }

    /// Makes every write that was acknowledged before durable, whatever durability it had.
    pub fn sync(&self) -> Result<()> {
        let begun = self.state.meters.begin(Operation::Sync);
        let patience = Patience::default();
        let (result, waited_for) =
            self.queue.write(&self.state, &mut WriteBatch::new(), Durability::Always, None, patience);
        self.state.meters.end(Operation::Sync, begun, &[], waited_for);
        result
    }

    /// The value of `key`, or `None` where it is absent. The value is shared, not copied, and keeps the block or batch that
    /// it lies in.
    pub fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        self.look_up(KEYSPACE_DEFAULT, key)
    }

    /// The value of `key` as the snapshot shows it.
    pub fn get_at(&self, snapshot: &Snapshot, key: &[u8]) -> Result<Option<Bytes>> {
        self.refuse_foreign(snapshot)?;
        self.metered_get(key, || {
            let (view, _) = self.state.consistent_view();
            read::get(&self.state, &view, KEYSPACE_DEFAULT, key, snapshot.seqno(), || snapshot.time_ms())
        })
    }

    /// The values of many keys, in the order in which the keys are given, all as of one moment: what a batch wrote is there as a
    /// whole or not at all. The keys may be in any order, and the same more than once.
    ///
    /// Costs less than a get for each. The keys go from place to place together, in key order, so that each table is found once
    /// and each block read once; the more of them lie beside each other, the more is saved.
    ///
    /// Where one of the keys cannot be read, the error is the answer for all of them. Who wants the others then asks in smaller
    /// parts, from a [snapshot](Db::multi_get_at) if these are to be of one moment.
    ///
    /// Takes memory in proportion to the keys and their values. Values of more than 512 bytes are shared, as by [`Db::get`].
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let db = strata::db::Db::open(dir.path().join("store"))?;
    /// db.put(b"ada", b"1815")?;
    /// db.put(b"grace", b"1906")?;
    /// let born = db.multi_get(&["grace", "nobody", "ada"])?;
    /// assert_eq!(born.values[0].as_deref(), Some(&b"1906"[..]));
    /// assert_eq!(born.values[1], None);
    /// assert_eq!(born.values[2].as_deref(), Some(&b"1815"[..]));
    /// # Ok::<(), strata::error::Error>(())
    /// ```
    pub fn multi_get<K: AsRef<[u8]>>(&self, keys: &[K]) -> Result<MultiGet> {
        self.look_up_many(KEYSPACE_DEFAULT, keys)
    }

    /// The values of many keys as the snapshot shows them; like [`Db::multi_get`] otherwise.
    pub fn multi_get_at<K: AsRef<[u8]>>(&self, snapshot: &Snapshot, keys: &[K]) -> Result<Vec<Option<Bytes>>> {
        self.refuse_foreign(snapshot)?;
        self.metered_multi_get(keys, |keys| {
            let (view, _) = self.state.consistent_view();
            read::get_many(&self.state, &view, KEYSPACE_DEFAULT, keys, snapshot.at())
        })
    }

    fn look_up_many<K: AsRef<[u8]>>(&self, keyspace: KeyspaceId, keys: &[K]) -> Result<MultiGet> {
        self.state.ensure_open()?;
        self.metered_multi_get(keys, |keys| {
            let (view, seqno) = self.state.consistent_view();
            let at = Reader { seqno, now_ms: self.state.now_ms() };
            Ok(MultiGet { seqno, values: read::get_many(&self.state, &view, keyspace, keys, at)? })
        })
    }

    fn metered_multi_get<K: AsRef<[u8]>, T>(&self, keys: &[K], get: impl FnOnce(&[&[u8]]) -> Result<T>) -> Result<T> {
        let keys: Vec<&[u8]> = keys.iter().map(AsRef::as_ref).collect();
        let begun = self.state.meters.begin(Operation::MultiGet);
        Counters::add(&self.state.counters.multi_get_keys, keys.len() as u64);
        if self.state.meters.counts_keys() {
            self.state.meters.name_keys(keys.iter().copied());
        }
        let found = get(&keys).inspect_err(|error| quarantine::suspect(&self.state, error));
        self.state.meters.end(Operation::MultiGet, begun, keys.first().copied().unwrap_or_default(), "tables");
        found
    }

    #[inline]
    fn look_up(&self, keyspace: KeyspaceId, key: &[u8]) -> Result<Option<Bytes>> {
        self.state.ensure_open()?;
        self.metered_get(key, || {
            let (view, seqno) = self.state.consistent_view();
            read::get(&self.state, &view, keyspace, key, seqno, || self.state.now_ms())
        })
    }

    #[inline]
    fn metered_get(&self, key: &[u8], get: impl FnOnce() -> Result<Option<Bytes>>) -> Result<Option<Bytes>> {
        let begun = self.state.meters.begin(Operation::Get);
        if begun.is_some() && self.state.meters.counts_keys() {
            self.state.meters.name_keys(std::iter::once(key));
        }
        let found = get().inspect_err(|error| quarantine::suspect(&self.state, error));
        self.state.meters.end(Operation::Get, begun, key, "tables");
        found
    }

    /// A cursor over the keys of `range` as they are now, unmoved by later writes.
    pub fn iter(&self, range: Range) -> Result<DbIter> {
        self.state.ensure_open()?;
        let (view, seqno) = self.state.consistent_view();
        let at = Reader { seqno, now_ms: self.state.now_ms() };
        DbIter::new(&self.state, view, KEYSPACE_DEFAULT, at, range)
    }

    /// A cursor over the keys of `range` as the snapshot shows them.
    pub fn iter_at(&self, snapshot: &Snapshot, range: Range) -> Result<DbIter> {
        self.refuse_foreign(snapshot)?;
        let (view, _) = self.state.consistent_view();
        DbIter::new(&self.state, view, KEYSPACE_DEFAULT, snapshot.at(), range)
    }

    /// A consistent picture of the store as it is now, for as long as it is held.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::take(&self.state)
    }

    /// Writes everything that is in memory to tables, and returns once these are durable and in place. Writers go on
    /// meanwhile. An error means that the data is still in memory and in the log, and that the store tries again by itself.
    pub fn flush(&self) -> Result<()> {
        self.state.ensure_open()?;
        let failed_before = self.state.work.lock().flushes_failed;
        write::freeze_for_flush(&self.state)?;
        background::wait_for_flush(&self.state, failed_before)
    }

    /// Has everything that was written so far archived, and returns the last sequence number of it: up to there, a backup can be
    /// restored to any point. Flushes what is in memory, so that its log is needed no more; writers go on meanwhile.
    ///
    /// An error of a flush, or of the archive, means that the store tries again by itself. [`Error::InvalidArgument`] without
    /// [`Options::archive`].
    pub fn archive_now(&self) -> Result<SeqNo> {
        self.state.ensure_open()?;
        archiver::archive_now(&self.state)
    }

    /// Flushes, and compacts all keys of the default keyspace from `from` to `to`, both included (`None`: no bound), down to the last level that
    /// holds any of them: what was deleted or replaced, and no snapshot shows, gives its space back. Takes as long as it takes
    /// to rewrite them; writers go on.
    pub fn compact_range(&self, from: Option<&[u8]>, to: Option<&[u8]>) -> Result<()> {
        self.flush()?;
        background::compact_range(&self.state, KEYSPACE_DEFAULT, from, to)
    }

    /// Adds a keyspace: a map of its own within the store, with keys, tables, levels and, where `options` say so, options of its
    /// own. It shares with the others the log, the memory for new writes, the cache and the sequence numbers, so a [`WriteBatch`],
    /// a [`Snapshot`] and a [`Transaction`](crate::txn::Transaction) go across all keyspaces, and one in which nothing happens
    /// costs nearly nothing and holds no log back. Methods without a keyspace are for the default one, named `"default"`, which
    /// every store has.
    ///
    /// A name has 1 to 255 bytes and is that of one keyspace at a time; a store has at most 1024 beside the default one. The
    /// keyspace is durable when this returns. Writers wait for one write and sync of the manifest.
    ///
    /// [`Error::InvalidArgument`] for a name or option that cannot be, or a name that is taken. After an error of the file system
    /// there is no such keyspace, but a crash may bring one to light, empty.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let db = strata::db::Db::open(dir.path().join("store"))?;
    /// use strata::batch::WriteBatch;
    /// use strata::options::{Compression, KeyspaceOptions};
    ///
    /// let people = db.create_keyspace("people", KeyspaceOptions::default())?;
    /// let compression = Some(vec![Compression::Deflate]);
    /// let log = db.create_keyspace("log", KeyspaceOptions { compression, ..Default::default() })?;
    ///
    /// let mut batch = WriteBatch::new();
    /// batch.put_in(&people, b"ada", b"1815");
    /// batch.put_in(&log, b"1", b"ada came");
    /// db.write(&mut batch, Default::default())?;
    ///
    /// assert_eq!(db.get_in(&people, b"ada")?.as_deref(), Some(&b"1815"[..]));
    /// assert_eq!(db.get(b"ada")?, None);
    ///
    /// db.drop_keyspace(&log)?;
    /// assert!(db.put_in(&log, b"2", b"nobody came").is_err());
    /// assert_eq!(db.keyspace("people"), Some(people));
    /// # Ok::<(), strata::error::Error>(())
    /// ```
    pub fn create_keyspace(&self, name: &str, options: KeyspaceOptions) -> Result<Keyspace> {
        self.state.ensure_open()?;
        keyspace::create(&self.state, name, options)
    }

    /// Drops a keyspace with all that is in it, as one step that has a place among the writes: its sequence number is returned.
    /// Durable when this returns, and so is every write before it. Its name is free then, its number is never given again, and
    /// its files go when nobody reads them: snapshots that were taken before, and iterators, show it as it was.
    ///
    /// [`Error::NoSuchKeyspace`] where it is gone already, [`Error::InvalidArgument`] for the default one. After an error of the
    /// file system the outcome is unknown, as that of a [write that fails](Db): the keyspace is still there, writes to the store
    /// are refused until it has found its way back, and meanwhile a crash may bring to light that it is gone.
    pub fn drop_keyspace(&self, keyspace: &Keyspace) -> Result<SeqNo> {
        self.state.ensure_open()?;
        keyspace::drop_keyspace(&self.state, keyspace)
    }

    /// The keyspace with this name, if there is one.
    pub fn keyspace(&self, name: &str) -> Option<Keyspace> {
        self.state.view.load().catalog.named(name).map(Keyspace::from)
    }

    /// All keyspaces, the default one first, the others in the order in which they were created.
    pub fn keyspaces(&self) -> Vec<Keyspace> {
        self.state.view.load().catalog.entries().iter().map(Keyspace::from).collect()
    }

    /// What a keyspace has otherwise than the store.
    pub fn keyspace_options(&self, keyspace: &Keyspace) -> Result<KeyspaceOptions> {
        let view = self.state.view.load();
        view.keyspace(keyspace.id()).map(|entry| entry.own.clone()).map_err(|_| keyspace.missing())
    }

    /// The [merge operator](crate::operator) of a keyspace, if it has one.
    pub fn merge_operator(&self, keyspace: &Keyspace) -> Result<Option<Arc<dyn MergeOperator>>> {
        let view = self.state.view.load();
        view.keyspace(keyspace.id()).map(|entry| entry.options.operator().cloned()).map_err(|_| keyspace.missing())
    }

    /// Gives a keyspace other options in place of all that it had, for what is written from now on. Durable when it returns; after
    /// an error of the file system a crash may bring either to light. The default keyspace has the options of the store.
    pub fn set_keyspace_options(&self, keyspace: &Keyspace, options: KeyspaceOptions) -> Result<()> {
        self.state.ensure_open()?;
        keyspace::set_options(&self.state, keyspace, options)
    }

    /// Numbers about one keyspace as it is now. Cheap.
    pub fn keyspace_stats(&self, keyspace: &Keyspace) -> Result<KeyspaceStats> {
        keyspace::stats(&self.state, keyspace)
    }

    /// [`Db::put`] for a keyspace; [`Error::NoSuchKeyspace`] where it was dropped, as with all that follow.
    pub fn put_in(&self, keyspace: &Keyspace, key: &[u8], value: &[u8]) -> Result<SeqNo> {
        let mut batch = WriteBatch::new();
        batch.put_in(keyspace, key, value);
        self.write(&mut batch, WriteOptions::default())
    }

    /// [`Db::merge`] for a keyspace: see [`KeyspaceOptions::merge_operator`].
    pub fn merge_in(&self, keyspace: &Keyspace, key: &[u8], operand: &[u8]) -> Result<SeqNo> {
        let mut batch = WriteBatch::new();
        batch.merge_in(keyspace, key, operand);
        self.write(&mut batch, WriteOptions::default())
    }

    /// [`Db::delete`] for a keyspace.
    pub fn delete_in(&self, keyspace: &Keyspace, key: &[u8]) -> Result<SeqNo> {
        let mut batch = WriteBatch::new();
        batch.delete_in(keyspace, key);
        self.write(&mut batch, WriteOptions::default())
    }

    /// [`Db::delete_range`] for a keyspace.
    pub fn delete_range_in(&self, keyspace: &Keyspace, begin: &[u8], end: &[u8]) -> Result<SeqNo> {
        let mut batch = WriteBatch::new();
        batch.delete_range_in(keyspace, begin, end);
        self.write(&mut batch, WriteOptions::default())
    }

    /// [`Db::get`] for a keyspace.
    pub fn get_in(&self, keyspace: &Keyspace, key: &[u8]) -> Result<Option<Bytes>> {
        self.look_up(keyspace.id(), key)
    }

    /// [`Db::get_at`] for a keyspace, which the snapshot shows also where it was dropped since.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let db = strata::db::Db::open(dir.path().join("store"))?;
    /// let people = db.create_keyspace("people", Default::default())?;
    /// db.put_in(&people, b"ada", b"1815")?;
    /// let before = db.snapshot();
    /// db.drop_keyspace(&people)?;
    /// assert!(db.get_in_at(&people, &before, b"ada")?.is_some());
    /// assert!(db.get_in(&people, b"ada").is_err());
    /// # Ok::<(), strata::error::Error>(())
    /// ```
    pub fn get_in_at(&self, keyspace: &Keyspace, snapshot: &Snapshot, key: &[u8]) -> Result<Option<Bytes>> {
        self.refuse_foreign(snapshot)?;
        self.metered_get(key, || {
            let view = self.state.view_at(keyspace.id(), snapshot.seqno())?;
            read::get(&self.state, &view, keyspace.id(), key, snapshot.seqno(), || snapshot.time_ms())
        })
    }

    /// [`Db::multi_get`] for a keyspace.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let db = strata::db::Db::open(dir.path().join("store"))?;
    /// let people = db.create_keyspace("people", Default::default())?;
    /// db.put_in(&people, b"ada", b"1815")?;
    /// assert_eq!(db.multi_get_in(&people, &["nobody", "ada"])?.values[1].as_deref(), Some(&b"1815"[..]));
    /// # Ok::<(), strata::error::Error>(())
    /// ```
    pub fn multi_get_in<K: AsRef<[u8]>>(&self, keyspace: &Keyspace, keys: &[K]) -> Result<MultiGet> {
        self.look_up_many(keyspace.id(), keys)
    }

    /// [`Db::multi_get_at`] for a keyspace, which the snapshot shows also where it was dropped since. With one snapshot the keys of
    /// several keyspaces are read as of one moment.
    pub fn multi_get_in_at<K: AsRef<[u8]>>(
        &self,
        keyspace: &Keyspace,
        snapshot: &Snapshot,
        keys: &[K],
    ) -> Result<Vec<Option<Bytes>>> {
        self.refuse_foreign(snapshot)?;
        self.metered_multi_get(keys, |keys| {
            let view = self.state.view_at(keyspace.id(), snapshot.seqno())?;
            read::get_many(&self.state, &view, keyspace.id(), keys, snapshot.at())
        })
    }

    /// [`Db::iter`] for a keyspace. The cursor goes on also where the keyspace is dropped meanwhile.
    pub fn iter_in(&self, keyspace: &Keyspace, range: Range) -> Result<DbIter> {
        self.state.ensure_open()?;
        let (view, seqno) = self.state.consistent_view();
        let at = Reader { seqno, now_ms: self.state.now_ms() };
        DbIter::new(&self.state, view, keyspace.id(), at, range)
    }

    /// [`Db::iter_at`] for a keyspace, which the snapshot shows also where it was dropped since.
    pub fn iter_in_at(&self, keyspace: &Keyspace, snapshot: &Snapshot, range: Range) -> Result<DbIter> {
        self.refuse_foreign(snapshot)?;
        let view = self.state.view_at(keyspace.id(), snapshot.seqno())?;
        DbIter::new(&self.state, view, keyspace.id(), snapshot.at(), range)
    }

    /// [`Db::compact_range`] for a keyspace.
    pub fn compact_range_in(&self, keyspace: &Keyspace, from: Option<&[u8]>, to: Option<&[u8]>) -> Result<()> {
        self.flush()?;
        background::compact_range(&self.state, keyspace.id(), from, to)
    }

    /// Makes every write that was acknowledged durable, and holds the files that make up the store at this moment, so that they
    /// can be linked or copied while writes, flushes and compactions go on. Writers wait for one sync of the log. Refused where
    /// writes are refused.
    pub fn pin_files(&self) -> Result<PinnedFiles> {
        self.state.ensure_open()?;
        PinnedFiles::take(&self.state)
    }

    /// The format version of the store: how new a library must be to open it.
    pub fn format_version(&self) -> u32 {
        self.state.versions.lock().format_version()
    }

    /// Raises the format version of the store to the newest that this library writes, so that what came with it can be used; an
    /// older library cannot open the store then, and there is no way back but a backup. Does nothing where the version is the
    /// newest already. Nothing is rewritten: files that are there keep the version that they have.
    ///
    /// Durable when it returns, after two syncs; writes go on, and flushes and compactions wait for it. After an error the store
    /// may have either version when it is opened again, and can be used on.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("store");
    /// use strata::db::Db;
    /// use strata::env::Env;
    /// use strata::options::Options;
    ///
    /// let db = Db::open_with(&Env::os(), &path, Options { format_version: 1, ..Options::default() })?;
    /// db.put(b"written by", b"anybody")?;
    /// db.upgrade()?;
    /// assert_eq!(db.format_version(), 2);
    /// # Ok::<(), strata::error::Error>(())
    /// ```
    pub fn upgrade(&self) -> Result<()> {
        self.state.ensure_open()?;
        let mut versions = self.state.versions.lock();
        let from = versions.format_version();
        versions.upgrade()?;
        let to = versions.format_version();
        if to != from {
            self.state.events.tell(|| Event::Upgraded { from, to });
        }
        Ok(())
    }

    /// The world that the store lives in.
    pub fn env(&self) -> &Env {
        &self.state.env
    }

    /// The identity of the store: drawn when it was created, kept by its copies.
    pub fn uuid(&self) -> Uuid {
        self.state.store
    }

    /// The directory of the store.
    pub fn path(&self) -> &Path {
        &self.state.dir
    }

    /// Looks whether the tables are sound, by every checksum and every invariant, and whether every file is there and none too
    /// many; tells the shape of the store. Reads all tables; writers and readers go on. The first thing that is wrong is the
    /// error; what is [known](Db::quarantined) to be damaged is none, and the report names it. Logs, the manifest, and all that is wrong: [`Db::verify`].
    pub fn check(&self) -> Result<CheckReport> {
        self.state.ensure_open()?;
        check::check(&self.state).inspect_err(|error| quarantine::suspect(&self.state, error))
    }

    /// Reads everything back that counts while the store is in use, and finds all that is not as it was written: every block of
    /// every table, every record of every log (of the one that is being written up to where it has been), the manifest, CURRENT and
    /// IDENTITY; and that all of it fits together. Says of each damage where it is, which keys it touches, and what to do. Changes
    /// nothing.
    ///
    /// What is replaced meanwhile by a flush or a compaction need not be sound any more, and is not counted as damaged. What
    /// comes meanwhile is left to the next time. Tables that are damaged come into [quarantine](Db::quarantined).
    ///
    /// Reads every table twice, and shares [`Options::background_bytes_per_second`] with compactions, behind flushes; holds no
    /// lock while it reads. `tell` is called after each block and each batch. Closing the store ends it with [`Error::Closed`].
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let db = strata::db::Db::open(dir.path().join("store"))?;
    /// db.put(b"ada", b"1815")?;
    /// let found = db.verify(&mut |progress| println!("{} of {}", progress.bytes_done, progress.bytes_total))?;
    /// for damage in &found.damage {
    ///     eprintln!("{damage}");
    /// }
    /// assert!(found.is_sound());
    /// # Ok::<(), strata::error::Error>(())
    /// ```
    pub fn verify(&self, tell: &mut dyn FnMut(VerifyProgress)) -> Result<Verification> {
        self.state.ensure_open()?;
        let found = verify::verify_open(&self.state, tell)?;
        found.damage.iter().for_each(|damage| quarantine::suspect(&self.state, &damage.cause));
        Ok(found)
    }

    /// The tables in quarantine. A table that a read or a compaction finds damaged is read again as a whole, and if it is damaged
    /// indeed, it is noted in the manifest. From then on reads that need its damaged bytes fail as before, with
    /// [`Error::Corruption`], and reads beside them are right; writes, flushes and all compactions go on that do not have to take it
    /// or to pass it; its file is not removed. Of what lies above it as much is merged as can be. [`Db::health`] is degraded.
    ///
    /// The ways back are [`Db::release_quarantined`], [`Db::discard_quarantined`], and [`salvage`](crate::salvage).
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let db = strata::db::Db::open(dir.path().join("store"))?;
    /// for table in db.quarantined() {
    ///     eprintln!("table {}, {table}", table.table);
    /// }
    /// if !db.quarantined().is_empty() {
    ///     // Once the files were copied back from a backup, under their names:
    ///     let mended = db.release_quarantined()?;
    ///     println!("{mended} tables are whole again");
    /// }
    /// # Ok::<(), strata::error::Error>(())
    /// ```
    pub fn quarantined(&self) -> Vec<QuarantinedTable> {
        quarantine::list(&self.state.dir, &self.state.view.load().catalog)
    }

    /// Reads the files of all tables in quarantine again, and ends the quarantine of each that is what the manifest says, by its
    /// length, its checksum and all that is in it: because it was restored from a backup, to its name. Returns how many these
    /// are; it is durable then. Snapshots and iterators that are open may go on to meet the damage.
    pub fn release_quarantined(&self) -> Result<usize> {
        self.state.ensure_open()?;
        quarantine::release(&self.state)
    }

    /// Gives a table in quarantine up. **This loses data**: all that only this table holds is gone, and what it had deleted or
    /// replaced, down in older tables, comes back as if it were the newest. No more can be read of its range than before, but what
    /// is read is no more known to be right. What of it is whole can be had by a [`salvage`](crate::salvage) before.
    ///
    /// Durable when it returns. [`Error::InvalidArgument`] where the table is not in quarantine.
    pub fn discard_quarantined(&self, table: u64) -> Result<()> {
        self.state.ensure_open()?;
        quarantine::discard(&self.state, table)
    }

    /// How the store is: whether it takes writes, and whether its background work gets on. Cheap, and never waits for a write.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let db = strata::db::Db::open(dir.path().join("store"))?;
    /// use strata::event::Health;
    ///
    /// match db.health() {
    ///     Health::Ok => {}
    ///     Health::Degraded(why) | Health::ReadOnly(why) | Health::Failed(why) => eprintln!("the store is not well: {why}"),
    /// }
    /// # Ok::<(), strata::error::Error>(())
    /// ```
    pub fn health(&self) -> Health {
        self.state.vitals.look().0
    }

    /// Numbers about the store as it is now. Cheap.
    pub fn stats(&self) -> Stats {
        stats::stats(&self.state)
    }

    /// Ends background work, syncs and closes the log, lets go of the lock. What is in memory stays in the log, to be replayed
    /// by the next open. Every later call gets [`Error::Closed`]; iterators that are open go on. Closing again does nothing.
    pub fn close(&self) -> Result<()> {
        if self.state.closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        let tasks = std::mem::take(&mut *self.tasks.lock());
        background::stop(&self.state, tasks);
        let result = write::close_wal(&self.state);
        *self.state.lock.lock() = None;
        result
    }

    fn refuse_foreign(&self, snapshot: &Snapshot) -> Result<()> {
        self.state.ensure_open()?;
        if snapshot.belongs_to(&self.state) {
            return Ok(());
        }
        Err(Error::InvalidArgument("the snapshot was taken from another handle; snapshots end with theirs".into()))
    }
}

impl Drop for Db {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            self.state.tell_failure("closing the store", &error);
        }
    }
}

impl fmt::Debug for Db {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Db({})", self.state.dir.display())
    }
}
