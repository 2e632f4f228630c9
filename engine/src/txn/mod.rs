//! Transactions: reads and writes that take effect as one, at one moment, or not at all.
//!
//! They are optimistic: nothing is locked, a transaction reads from a snapshot and keeps its writes to itself, and when it
//! commits, the store looks whether anybody has written meanwhile what the transaction rests on ([`Isolation`]). If so,
//! nothing is done and [`Error::Conflict`] says which key it was; begin anew, or let
//! [`transact`] do it. Right where conflicts are rare; where many writers fight over one key, most of the work is thrown
//! away.
//!
//! The rule is first committer wins, after H. T. Kung and J. T. Robinson, "On optimistic methods for concurrency control",
//! 1981 (backward validation).

mod scan;
#[cfg(test)]
mod tests;
mod writes;

use crate::batch::{Expiry, WriteBatch};
use crate::db::{Db, Keyspace, Range, ReadSet, Snapshot, WriteOptions};
use crate::error::{Error, Result};
use crate::key::{KeyspaceId, SeqNo};
use crate::operator;
use bytes::Bytes;
use std::collections::BTreeMap;
use writes::{Seen, Writes, Written};

/// What a transaction is protected from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Isolation {
    /// All transactions of this kind, and all plain writes, are as if they had run one after the other, in the order of
    /// their sequence numbers. What a transaction read, present or absent, and the ranges that it scanned, must not have
    /// been written by others before it commits.
    #[default]
    Serializable,
    /// It reads one moment, and no write of others is lost under its own; but two transactions may each read what the other
    /// writes and both commit (write skew). Only keys that it writes itself must not have been written by others.
    Snapshot,
}

/// Reads and writes that commit together or not at all, in whatever keyspaces. Dropping it does nothing to the store.
///
/// The methods that end with `in` are for a keyspace, the others for the default one. Where a keyspace that it read from is dropped
/// before it commits, that is a conflict; where one that it writes to is, that is
/// [`Error::NoSuchKeyspace`], and nothing was done.
///
/// Keeps its writes in memory until it commits, where they become one [`WriteBatch`] and have its limits; holds a
/// [`Snapshot`], so do not keep it for long.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # let db = strata::db::Db::open(dir.path().join("store"))?;
/// use strata::txn::{Isolation, transact};
///
/// db.put(b"alice", &[100])?;
/// db.put(b"bob", &[0])?;
/// transact(&db, Isolation::Serializable, 10, |txn| {
///     let amount = txn.get(b"alice")?.map_or(0, |value| value[0]);
///     txn.put(b"alice", &[0]);
///     txn.put(b"bob", &[amount]);
///     Ok(())
/// })?;
/// assert_eq!(db.get(b"bob")?.as_deref(), Some(&[100][..]));
/// # Ok::<(), strata::error::Error>(())
/// ```
pub struct Transaction<'a> {
    db: &'a Db,
    snapshot: Snapshot,
    isolation: Isolation,
    reads: ReadSet,
    default: Keyspace,
    own: BTreeMap<KeyspaceId, Writes>,
    /// What was written, the last at the end, to be taken back.
    undo: Vec<Undo>,
}

/// How to take back one write.
#[derive(Debug)]
enum Undo {
    /// The keyspace and the key, and what had been written to it before.
    Key(KeyspaceId, Vec<u8>, Option<Written>),
    /// The keyspace of the last range delete, and the writes to its keys before it.
    Range(KeyspaceId, BTreeMap<Vec<u8>, Written>),
}

/// A point inside a transaction that it can go back to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Savepoint(usize);

impl<'a> Transaction<'a> {
    /// Begins at the present moment.
    pub fn begin(db: &'a Db, isolation: Isolation) -> Transaction<'a> {
        Transaction {
            db,
            snapshot: db.snapshot(),
            isolation,
            reads: ReadSet::new(),
            default: Keyspace::default(),
            own: BTreeMap::new(),
            undo: Vec::new(),
        }
    }

    /// The newest write of others that it sees.
    pub fn seqno(&self) -> SeqNo {
        self.snapshot.seqno()
    }

    /// The value of `key`: what this transaction wrote last, else what was there when it began.
    pub fn get(&mut self, key: &[u8]) -> Result<Option<Bytes>> {
        self.get_in(&self.default.clone(), key)
    }

    /// The value of `key` of a keyspace.
    ///
    /// ```
    /// # use strata::txn::{Isolation, Transaction};
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let db = strata::db::Db::open(dir.path().join("store"))?;
    /// let people = db.create_keyspace("people", Default::default())?;
    /// let mut txn = Transaction::begin(&db, Isolation::Serializable);
    /// if txn.get_in(&people, b"ada")?.is_none() {
    ///     txn.put_in(&people, b"ada", b"1815");
    ///     txn.put(b"people", b"1");
    /// }
    /// txn.commit(Default::default())?;
    /// # Ok::<(), strata::error::Error>(())
    /// ```
    pub fn get_in(&mut self, keyspace: &Keyspace, key: &[u8]) -> Result<Option<Bytes>> {
        let own = self.own.get(&keyspace.id()).and_then(|own| own.get(key, self.snapshot.time_ms()));
        let operands = match own {
            None => Vec::new(),
            Some(Seen::Value(written)) => return Ok(written),
            Some(Seen::Operands(Some(before), operands)) => {
                return merged_in(&self.snapshot, keyspace, key, before, &operands).map(Some);
            }
            Some(Seen::Operands(None, operands)) => operands,
        };
        if self.isolation == Isolation::Serializable {
            self.reads.add_key_in(keyspace, key);
        }
        let found = self.db.get_in_at(keyspace, &self.snapshot, key)?;
        if operands.is_empty() {
            Ok(found)
        } else {
            merged_in(&self.snapshot, keyspace, key, found, &operands).map(Some)
        }
    }

    /// The values of many keys, in the order in which they are given: see [`Db::multi_get`].
    ///
    /// ```
    /// # use strata::txn::{Isolation, Transaction};
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let db = strata::db::Db::open(dir.path().join("store"))?;
    /// db.put(b"ada", b"1815")?;
    /// let mut txn = Transaction::begin(&db, Isolation::Serializable);
    /// txn.put(b"grace", b"1906");
    /// let born = txn.multi_get(&["grace", "nobody", "ada"])?;
    /// assert_eq!(born.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false, true]);
    /// # Ok::<(), strata::error::Error>(())
    /// ```
    pub fn multi_get<K: AsRef<[u8]>>(&mut self, keys: &[K]) -> Result<Vec<Option<Bytes>>> {
        self.multi_get_in(&self.default.clone(), keys)
    }

    /// The same of a keyspace.
    pub fn multi_get_in<K: AsRef<[u8]>>(&mut self, keyspace: &Keyspace, keys: &[K]) -> Result<Vec<Option<Bytes>>> {
        let now_ms = self.snapshot.time_ms();
        let own = self.own.get(&keyspace.id());
        let seen = keys.iter().map(|key| own.and_then(|own| own.get(key.as_ref(), now_ms)));
        let seen: Vec<Option<Seen>> = seen.collect();
        let rests_on_below = |seen: &Option<Seen>| matches!(seen, None | Some(Seen::Operands(None, _)));
        let below = keys.iter().zip(&seen).filter(|(_, seen)| rests_on_below(seen));
        let below: Vec<&[u8]> = below.map(|(key, _)| key.as_ref()).collect();
        if self.isolation == Isolation::Serializable {
            below.iter().for_each(|key| self.reads.add_key_in(keyspace, key));
        }
        let mut found = self.db.multi_get_in_at(keyspace, &self.snapshot, &below)?.into_iter();
        let mut next = || found.next().expect("as many were found as were asked for");
        let read = |(key, seen): (&K, Option<Seen>)| match seen {
            None => Ok(next()),
            Some(Seen::Value(written)) => Ok(written),
            Some(Seen::Operands(before, operands)) => {
                merged_in(&self.snapshot, keyspace, key.as_ref(), before.unwrap_or_else(&mut next), &operands).map(Some)
            }
        };
        keys.iter().zip(seen).map(read).collect()
    }

    /// The first `limit` entries of `range` in key order, the transaction's own writes among them. What it rests on ends with
    /// the last entry that was returned; it is the whole range where there were fewer than `limit`.
    pub fn scan(&mut self, range: Range, limit: usize) -> Result<Vec<(Vec<u8>, Bytes)>> {
        self.scan_in(&self.default.clone(), range, limit)
    }

    /// The same of a keyspace.
    pub fn scan_in(&mut self, keyspace: &Keyspace, range: Range, limit: usize) -> Result<Vec<(Vec<u8>, Bytes)>> {
        let below = self.db.iter_in_at(keyspace, &self.snapshot, range.clone())?;
        let own = self.own.entry(keyspace.id()).or_default();
        let merge = |key: &[u8], base, operands: &[Bytes]| merged_in(&self.snapshot, keyspace, key, base, operands);
        let entries = scan::merged(below, (own, self.snapshot.time_ms()), &range, limit, merge)?;
        if self.isolation == Isolation::Serializable && limit > 0 {
            let walked = match entries.last() {
                Some((last, _)) if entries.len() == limit => range.up_to(last),
                _ => range,
            };
            self.reads.add_range_in(keyspace, walked);
        }
        Ok(entries)
    }

    /// Gives `key` this value when the transaction commits. Too large a key or value is the error of [`Transaction::commit`].
    pub fn put(&mut self, key: &[u8], value: &[u8]) {
        self.put_in(&self.default.clone(), key, value);
    }

    /// The same for a keyspace.
    pub fn put_in(&mut self, keyspace: &Keyspace, key: &[u8], value: &[u8]) {
        self.write(keyspace.id(), key, Written::Put(Bytes::copy_from_slice(value)));
    }

    /// Gives `key` this value for a time when the transaction commits: see [`Db::put_expiring`]. A lifetime begins when the
    /// transaction commits; until then it reads the value itself. That what it has read expires meanwhile is no conflict.
    pub fn put_expiring(&mut self, key: &[u8], value: &[u8], expiry: impl Into<Expiry>) {
        self.put_expiring_in(&self.default.clone(), key, value, expiry);
    }

    /// The same for a keyspace.
    pub fn put_expiring_in(&mut self, keyspace: &Keyspace, key: &[u8], value: &[u8], expiry: impl Into<Expiry>) {
        self.write(keyspace.id(), key, Written::Expiring(Bytes::copy_from_slice(value), expiry.into()));
    }

    /// Merges an operand upon what `key` has when the transaction commits: see [`Db::merge`]. That is what others have made of it
    /// by then, so without a look at the key it is no conflict that they have; under [`Isolation::Snapshot`] it is.
    ///
    /// ```
    /// # use strata::db::Db;
    /// # use strata::env::Env;
    /// # use strata::options::Options;
    /// # use strata::txn::{Isolation, Transaction};
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("store");
    /// let options = Options { merge_operator: Some("strata.add".into()), ..Options::default() };
    /// let db = Db::open_with(&Env::os(), &path, options)?;
    /// let mut txn = Transaction::begin(&db, Isolation::Serializable);
    /// txn.put(b"job/7", b"done");
    /// txn.merge(b"jobs done", &1i64.to_le_bytes());
    /// db.merge(b"jobs done", &1i64.to_le_bytes())?;
    /// txn.commit(Default::default())?;
    /// assert_eq!(db.get(b"jobs done")?.as_deref(), Some(&2i64.to_le_bytes()[..]));
    /// # Ok::<(), strata::error::Error>(())
    /// ```
    pub fn merge(&mut self, key: &[u8], operand: &[u8]) {
        self.merge_in(&self.default.clone(), key, operand);
    }

    /// The same for a keyspace.
    pub fn merge_in(&mut self, keyspace: &Keyspace, key: &[u8], operand: &[u8]) {
        let written = self.own.entry(keyspace.id()).or_default().with_operand(key, operand);
        self.write(keyspace.id(), key, written);
    }

    /// Makes `key` absent when the transaction commits.
    pub fn delete(&mut self, key: &[u8]) {
        self.delete_in(&self.default.clone(), key);
    }

    /// The same for a keyspace.
    pub fn delete_in(&mut self, keyspace: &Keyspace, key: &[u8]) {
        self.write(keyspace.id(), key, Written::Delete);
    }

    /// Makes all keys from `begin` up to `end` absent when the transaction commits, `end` not among them; until then it sees
    /// them so itself. Where `end` is not behind `begin`, nothing happens. Under [`Isolation::Snapshot`] whatever others wrote
    /// to the range is a conflict.
    ///
    /// ```
    /// # use strata::txn::{Isolation, Transaction};
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let db = strata::db::Db::open(dir.path().join("store"))?;
    /// db.put(b"job/1", b"done")?;
    /// let mut txn = Transaction::begin(&db, Isolation::Serializable);
    /// txn.delete_range(b"job/", b"job0");
    /// txn.put(b"job/2", b"new");
    /// assert_eq!(txn.get(b"job/1")?, None);
    /// txn.commit(Default::default())?;
    /// assert_eq!(db.get(b"job/1")?, None);
    /// assert!(db.get(b"job/2")?.is_some());
    /// # Ok::<(), strata::error::Error>(())
    /// ```
    pub fn delete_range(&mut self, begin: &[u8], end: &[u8]) {
        self.delete_range_in(&self.default.clone(), begin, end);
    }

    /// The same for a keyspace.
    pub fn delete_range_in(&mut self, keyspace: &Keyspace, begin: &[u8], end: &[u8]) {
        if begin >= end {
            return;
        }
        let own = self.own.entry(keyspace.id()).or_default();
        let mut within = own.keys.split_off(begin);
        own.keys.append(&mut within.split_off(end));
        own.ranges.push((begin.to_vec(), end.to_vec()));
        self.undo.push(Undo::Range(keyspace.id(), within));
    }

    fn write(&mut self, keyspace: KeyspaceId, key: &[u8], written: Written) {
        let before = self.own.entry(keyspace).or_default().keys.insert(key.to_vec(), written);
        self.undo.push(Undo::Key(keyspace, key.to_vec(), before));
    }

    /// A point to go back to with [`Transaction::rollback_to`].
    pub fn savepoint(&self) -> Savepoint {
        Savepoint(self.undo.len())
    }

    /// Takes back all writes since `savepoint`, and savepoints after it with them. What was read since stays read: it may be
    /// the reason to go back. Panics where the savepoint was gone already.
    pub fn rollback_to(&mut self, savepoint: Savepoint) {
        assert!(savepoint.0 <= self.undo.len(), "the savepoint is gone: the transaction went back to one before it");
        for undo in self.undo.drain(savepoint.0..).rev() {
            let (Undo::Key(keyspace, ..) | Undo::Range(keyspace, _)) = &undo;
            let own = self.own.get_mut(keyspace).expect("what is taken back was written");
            match undo {
                Undo::Key(_, key, Some(written)) => {
                    own.keys.insert(key, written);
                }
                Undo::Key(_, key, None) => {
                    own.keys.remove(&key);
                }
                Undo::Range(_, mut within) => {
                    own.ranges.pop();
                    own.keys.append(&mut within);
                }
            }
        }
    }

    /// Writes everything as one batch, as durable as `options` say, and returns the sequence number of its first entry: keyspace
    /// by keyspace, range deletes as they were written, and then keys in order, one number each, and one for each operand. A transaction without writes commits at its
    /// snapshot and touches nothing.
    ///
    /// [`Error::Conflict`] means that nothing was done and another try may succeed. Any other
    /// error is one of [`Db::write`], and leaves the outcome as unknown as there.
    pub fn commit(self, options: WriteOptions) -> Result<SeqNo> {
        self.commit_as(&mut WriteBatch::new(), options)
    }

    /// The same through a batch of the caller's, which is cleared first: after an error it holds the writes, and
    /// [`WriteBatch::seqno`] tells whether they came to the log.
    pub fn commit_as(mut self, batch: &mut WriteBatch, options: WriteOptions) -> Result<SeqNo> {
        batch.clear();
        if self.own.values().all(Writes::is_empty) {
            return Ok(self.snapshot.seqno());
        }
        for (&keyspace, own) in &self.own {
            for (begin, end) in &own.ranges {
                if self.isolation == Isolation::Snapshot {
                    self.reads.add_range_in(keyspace, Range::of(begin.as_slice()..end.as_slice()));
                }
                batch.delete_range_in(keyspace, begin, end);
            }
            for (key, written) in &own.keys {
                if self.isolation == Isolation::Snapshot {
                    self.reads.add_key_in(keyspace, key);
                }
                written.add_to(batch, keyspace, key);
            }
        }
        self.db.write_unless_changed(batch, self.reads, &self.snapshot, options)
    }
}

/// What operands that a transaction wrote make of a value.
fn merged_in(
    snapshot: &Snapshot,
    keyspace: &Keyspace,
    key: &[u8],
    base: Option<Bytes>,
    operands: &[Bytes],
) -> Result<Bytes> {
    let Some(operator) = snapshot.operator_of(keyspace)? else {
        let what = format!("keyspace {:?} has no merge operator, and takes no operands", keyspace.name());
        return Err(Error::InvalidArgument(what));
    };
    operator::merged(&*operator, key, base.as_deref(), operands)
}

/// Runs `body` in a transaction and commits it, with the store's durability; begins anew after a conflict, `attempts` times in
/// all, and returns the last conflict where all of them met one. `body` may run several times, so it should do nothing else.
/// Any other error ends it at once, and so does one of `body`.
pub fn transact<T>(
    db: &Db,
    isolation: Isolation,
    attempts: usize,
    mut body: impl FnMut(&mut Transaction<'_>) -> Result<T>,
) -> Result<T> {
    let mut left = attempts.max(1);
    loop {
        left -= 1;
        let mut txn = Transaction::begin(db, isolation);
        let result = body(&mut txn)?;
        match txn.commit(WriteOptions::default()) {
            Err(error) if error.is_conflict() && left > 0 => {}
            Err(error) => return Err(error),
            Ok(_) => return Ok(result),
        }
    }
}

/// Replaces the value of `key` with `new`, if it is `expected`; `None` stands for an absent key, on both sides. Returns
/// whether it was, and was replaced. Reads, compares and writes as one step: of two who expect the same value one is told no.
pub fn compare_and_set(
    db: &Db,
    key: &[u8],
    expected: Option<&[u8]>,
    new: Option<&[u8]>,
    options: WriteOptions,
) -> Result<bool> {
    loop {
        let mut txn = Transaction::begin(db, Isolation::Serializable);
        if txn.get(key)?.as_deref() != expected {
            return Ok(false);
        }
        match new {
            Some(value) => txn.put(key, value),
            None => txn.delete(key),
        }
        match txn.commit(options) {
            // Somebody else has written the key, and so has made progress: look again what it is.
            Err(error) if error.is_conflict() => {}
            other => return other.map(|_| true),
        }
    }
}
