//! Walking over keys in either direction, as a reader at one seqno sees them.
//!
//! Beneath is one merged stream of internal entries: every version of every key, newest first within a key. This iterator
//! shows of each key the newest version that is not newer than its seqno, and no key whose version is a tombstone, has expired
//! or is older than a range delete that holds it. What lies in older places than a range delete is not even looked at: the cursors of
//! these places jump to its end.
//!
//! A value that lies in a blob file is read when its key is shown, and not before: of what a walk passes nothing is read but
//! keys and references.
//!
//! Where the inner cursor stands: after a step forward, on the entry that is shown; after a step backward, before all entries
//! of the key that is shown. A change of direction seeks.

use crate::compaction::readers::Reader;
use crate::db::deleted::DeletedRanges;
use crate::db::quarantine;
use crate::db::state::{ReadView, State};
use crate::error::{Error, Result};
use crate::event::Operation;
use crate::iter::InternalIterator;
use crate::iter::MergeIter;
use crate::iter::{ConcatIter, TableSource};
use crate::key::{
    EXPIRES_NEVER, InternalKey, KIND_FOR_SEEK, KeyspaceId, Kind, Lookup, SEQNO_MAX, SeqNo, Stored, prefix_end,
};
use crate::manifest::version::Version;
use crate::mark::sometimes;
use crate::operator::{MergeOperator, merged};
use bytes::Bytes;
use std::ops::{Bound, RangeBounds};
use std::path::Path;
use std::sync::Arc;

/// The keys that an iterator is allowed to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    lower: Bound<Vec<u8>>,
    upper: Bound<Vec<u8>>,
}

impl Range {
    /// All keys.
    pub fn all() -> Range {
        Range { lower: Bound::Unbounded, upper: Bound::Unbounded }
    }

    /// The keys that start with `prefix`.
    pub fn prefix(prefix: &[u8]) -> Range {
        Range {
            lower: Bound::Included(prefix.to_vec()),
            upper: prefix_end(prefix).map_or(Bound::Unbounded, Bound::Excluded),
        }
    }

    /// The keys within bounds, such as `Range::of(b"a".as_slice()..b"c")`. Bounds in the wrong order hold no key.
    pub fn of<'a>(bounds: impl RangeBounds<&'a [u8]>) -> Range {
        Range { lower: bounds.start_bound().map(|key| key.to_vec()), upper: bounds.end_bound().map(|key| key.to_vec()) }
    }

    /// The encoded internal key at which a walk forward begins; `None` for the first of all.
    pub(super) fn start(&self) -> Option<Vec<u8>> {
        match &self.lower {
            Bound::Unbounded => None,
            Bound::Included(key) => Some(before_all_of(key)),
            Bound::Excluded(key) => Some(behind_all_of(key)),
        }
    }

    /// A key that is not above any of its keys.
    pub(super) fn lowest(&self) -> &[u8] {
        match &self.lower {
            Bound::Unbounded => &[],
            Bound::Included(key) | Bound::Excluded(key) => key,
        }
    }

    /// Whether it holds this key.
    pub fn contains(&self, key: &[u8]) -> bool {
        !self.is_below(key) && !self.is_above(key)
    }

    /// Whether a key from `start` up to `end`, which is not one of them, may lie within.
    pub(super) fn overlaps(&self, start: &[u8], end: &[u8]) -> bool {
        let below = match &self.lower {
            Bound::Unbounded => false,
            Bound::Included(lower) | Bound::Excluded(lower) => end <= lower.as_slice(),
        };
        !below && !self.is_above(start)
    }

    /// The same up to this key, which is included.
    pub fn up_to(&self, key: &[u8]) -> Range {
        Range { lower: self.lower.clone(), upper: Bound::Included(key.to_vec()) }
    }

    fn is_below(&self, key: &[u8]) -> bool {
        match &self.lower {
            Bound::Unbounded => false,
            Bound::Included(lower) => key < lower.as_slice(),
            Bound::Excluded(lower) => key <= lower.as_slice(),
        }
    }

    pub(super) fn is_above(&self, key: &[u8]) -> bool {
        match &self.upper {
            Bound::Unbounded => false,
            Bound::Included(upper) => key > upper.as_slice(),
            Bound::Excluded(upper) => key >= upper.as_slice(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Forward,
    Backward,
}

/// Operands of one key in the active memtable from which on a reader has it flushed, which makes them one where their operator can.
/// Few enough that a read of all is over in microseconds, and so many that a flush is worth its table.
const OPERANDS_IN_MEMORY_MAX: usize = 1_000;

/// A cursor over the keys and values of a keyspace at one moment, in key order, in both directions.
///
/// It starts on no entry; seek first. After an error it is on no entry, and [`DbIter::status`] keeps saying so until the next
/// seek: a scan that met a damaged block never looks like one that came to its end. It pins what it reads, so let go of it.
pub struct DbIter {
    state: Arc<State>,
    view: Arc<ReadView>,
    inner: MergeIter,
    deleted: DeletedRanges,
    range: Range,
    at: Reader,
    operator: Option<Arc<dyn MergeOperator>>,
    /// Whether the first child of `inner` is the active memtable.
    begins_active: bool,
    direction: Direction,
    keys_only: bool,
    valid: bool,
    key: Vec<u8>,
    /// The allocation of a key that was shown before.
    spare: Vec<u8>,
    value: Bytes,
    /// Of the value, or of what the operands were merged upon that it is made of.
    expires_ms: u64,
    unmerged: Option<Unmerged>,
    failure: Option<Error>,
}

/// What the value of a key was made of: operands, and below them a value that expires. So the key has another value once that is gone:
/// what the operands make of nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unmerged {
    /// The value that expires.
    pub base: Bytes,
    /// What was merged upon it, oldest first.
    pub operands: Vec<Bytes>,
}

/// A value that a reader sees, and when it expires.
struct Seen {
    value: Bytes,
    expires_ms: u64,
}

impl DbIter {
    pub(crate) fn new(
        state: &Arc<State>,
        view: Arc<ReadView>,
        keyspace: KeyspaceId,
        at: Reader,
        range: Range,
    ) -> Result<DbIter> {
        let entry = view.keyspace(keyspace)?;
        let (version, operator) = (entry.version.clone(), entry.options.operator().cloned());
        let mut children: Vec<Box<dyn InternalIterator>> = Vec::new();
        let mut deleted = DeletedRanges::new(at.seqno);
        let mut begins_active = false;
        for memtable in view.memtables(keyspace) {
            begins_active |= view.memtable.of(keyspace).is_some_and(|active| Arc::ptr_eq(&active, &memtable));
            if memtable.has_range_deletes() {
                deleted.add(children.len(), memtable.fragments());
            }
            children.push(Box::new(memtable.iter()));
        }
        for table in &version.levels[0] {
            let table = state.tables.table(table.number, table.bytes);
            let table = table.inspect_err(|error| quarantine::suspect(state, error))?;
            deleted.add(children.len(), table.fragments().clone());
            children.push(Box::new(table.iter(true)));
        }
        for (level, tables) in version.levels.iter().enumerate().skip(1) {
            if !tables.is_empty() {
                if view.has_range_deletes {
                    deleted.add_level(children.len(), tables);
                }
                let run = LevelRun { state: state.clone(), version: version.clone(), level };
                children.push(Box::new(ConcatIter::new(run)));
            }
        }
        Ok(DbIter {
            state: state.clone(),
            view,
            inner: MergeIter::new(children),
            deleted,
            range,
            at,
            operator,
            begins_active,
            direction: Direction::Forward,
            keys_only: false,
            valid: false,
            key: Vec::new(),
            spare: Vec::new(),
            value: Bytes::new(),
            expires_ms: EXPIRES_NEVER,
            unmerged: None,
            failure: None,
        })
    }

    /// The same iterator, for whoever needs no values: none is read that lies apart from its key, and no operands are merged. To ask
    /// it for a value is a panic, and [`DbIter::into_forward`] gives empty ones. It stands on no entry until it goes to one.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let db = strata::db::Db::open(dir.path().join("store"))?;
    /// use strata::db::Range;
    ///
    /// db.put(b"photo/1", &vec![7; 1 << 20])?;
    /// db.put(b"photo/2", &vec![8; 1 << 20])?;
    /// let mut iter = db.iter(Range::prefix(b"photo/"))?.keys_only();
    /// iter.seek_to_first()?;
    /// let mut keys = 0;
    /// while iter.valid() {
    ///     keys += 1;
    ///     iter.next()?;
    /// }
    /// assert_eq!(keys, 2);
    /// # Ok::<(), strata::error::Error>(())
    /// ```
    #[must_use]
    pub fn keys_only(mut self) -> DbIter {
        (self.keys_only, self.valid) = (true, false);
        self
    }

    /// Whether it is on an entry.
    pub fn valid(&self) -> bool {
        self.valid
    }

    /// The error that ended the walk, if one did.
    pub fn status(&self) -> Result<()> {
        self.failure.clone().map_or(Ok(()), Err)
    }

    /// The key. Panics where the iterator is not [valid](DbIter::valid).
    pub fn key(&self) -> &[u8] {
        assert!(self.valid, "an iterator that is on no entry has no key");
        &self.key
    }

    /// The value; sharing it copies nothing, and keeps the block that it lies in. Panics where the iterator is not
    /// [valid](DbIter::valid), or shows [keys only](DbIter::keys_only).
    pub fn value(&self) -> &Bytes {
        assert!(self.valid, "an iterator that is on no entry has no value");
        assert!(!self.keys_only, "an iterator over keys only has no values");
        &self.value
    }

    /// When the value expires, in milliseconds since the Unix epoch by the [store's time](crate::db#time); `None` where it never
    /// does. Where operands were merged upon a value, this is when that one expires: see [`DbIter::unmerged`]. Panics where the
    /// iterator is not [valid](DbIter::valid).
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let db = strata::db::Db::open(dir.path().join("store"))?;
    /// use strata::batch::Expiry;
    /// use strata::db::Range;
    ///
    /// db.put(b"ada", b"for ever")?;
    /// db.put_expiring(b"session", b"token", Expiry::At(4_102_444_800_000))?;
    /// let mut iter = db.iter(Range::all())?;
    /// iter.seek_to_first()?;
    /// assert_eq!(iter.expires_at(), None);
    /// iter.next()?;
    /// assert_eq!(iter.expires_at(), Some(4_102_444_800_000), "in the year 2100");
    /// # Ok::<(), strata::error::Error>(())
    /// ```
    pub fn expires_at(&self) -> Option<u64> {
        assert!(self.valid, "an iterator that is on no entry has no expiry");
        Some(self.expires_ms).filter(|&expires_ms| expires_ms != EXPIRES_NEVER)
    }

    /// What the value was made of, where operands were merged upon a value that expires; `None` everywhere else. Panics where the
    /// iterator is not [valid](DbIter::valid).
    pub fn unmerged(&self) -> Option<&Unmerged> {
        assert!(self.valid, "an iterator that is on no entry has no operands");
        self.unmerged.as_ref()
    }

    /// The newest write that the iterator shows.
    pub fn seqno(&self) -> SeqNo {
        self.at.seqno
    }

    /// The store's time for which it shows what has not expired, in milliseconds since the Unix epoch.
    pub fn time_ms(&self) -> u64 {
        self.at.now_ms
    }

    /// Goes to the first key.
    pub fn seek_to_first(&mut self) -> Result<()> {
        let start = self.range.start();
        self.attempt(Operation::Seek, Direction::Forward, |iter| {
            match &start {
                None => iter.inner.seek_to_first()?,
                Some(start) => iter.inner.seek(start)?,
            }
            iter.show_next()
        })
    }

    /// Goes to the last key.
    pub fn seek_to_last(&mut self) -> Result<()> {
        let upper = self.range.upper.clone();
        self.attempt(Operation::Seek, Direction::Backward, |iter| {
            match &upper {
                Bound::Unbounded => iter.inner.seek_to_last()?,
                Bound::Included(key) => iter.inner.seek_before(&behind_all_of(key))?,
                Bound::Excluded(key) => iter.inner.seek_before(&before_all_of(key))?,
            }
            iter.show_previous()
        })
    }

    /// Goes to the first key that is not less than `key`.
    pub fn seek(&mut self, key: &[u8]) -> Result<()> {
        if self.range.is_below(key) {
            return self.seek_to_first();
        }
        self.attempt(Operation::Seek, Direction::Forward, |iter| {
            iter.inner.seek(&before_all_of(key))?;
            iter.show_next()
        })
    }

    /// Goes to the last key that is not greater than `key`.
    pub fn seek_for_prev(&mut self, key: &[u8]) -> Result<()> {
        if self.range.is_above(key) {
            return self.seek_to_last();
        }
        self.attempt(Operation::Seek, Direction::Backward, |iter| {
            iter.inner.seek_before(&behind_all_of(key))?;
            iter.show_previous()
        })
    }

    /// Goes to the next key, or off the end. Panics where the iterator is not [valid](DbIter::valid).
    #[expect(
        clippy::should_implement_trait,
        reason = "a cursor that also goes back is no `Iterator`; see `into_forward`"
    )]
    pub fn next(&mut self) -> Result<()> {
        assert!(self.valid, "an iterator that is on no entry has no next one");
        let key = std::mem::take(&mut self.key);
        let turn = self.direction == Direction::Backward;
        sometimes!("an iterator turns forward", if turn);
        let result = self.attempt(Operation::Step, Direction::Forward, |iter| {
            if turn {
                iter.inner.seek(&behind_all_of(&key))?;
            } else {
                while iter.inner.valid() && iter.inner_key()?.user == key.as_slice() {
                    iter.inner.next()?;
                }
            }
            iter.show_next()
        });
        self.reuse(key);
        result
    }

    /// Goes to the previous key, or off the front. Panics where the iterator is not [valid](DbIter::valid).
    pub fn prev(&mut self) -> Result<()> {
        assert!(self.valid, "an iterator that is on no entry has no previous one");
        let turn = self.direction == Direction::Forward;
        sometimes!("an iterator turns backward", if turn);
        self.attempt(Operation::Step, Direction::Backward, |iter| {
            if turn {
                iter.inner.seek_before(&before_all_of(&iter.key))?;
            }
            iter.show_previous()
        })
    }

    /// The rest of the walk forward, from the first key if it has not begun, as an [`Iterator`] that ends after the first
    /// error.
    pub fn into_forward(self) -> Entries {
        Entries { iter: self, begun: false, ended: false }
    }

    /// Keeps the allocation of a key that is no longer shown.
    fn reuse(&mut self, key: Vec<u8>) {
        match self.key.capacity() {
            0 => self.key = key,
            _ => self.spare = key,
        }
    }

    /// Moves; on an error the iterator is on no entry and remembers why.
    fn attempt(
        &mut self,
        operation: Operation,
        direction: Direction,
        step: impl FnOnce(&mut DbIter) -> Result<()>,
    ) -> Result<()> {
        let begun = self.state.meters.begin(operation);
        self.direction = direction;
        self.valid = false;
        self.failure = None;
        self.value = Bytes::new();
        self.expires_ms = EXPIRES_NEVER;
        self.unmerged = None;
        let result = step(self);
        if begun.is_some() {
            self.state.meters.end(operation, begun, &self.key, "tables");
        }
        if let Err(error) = &result {
            sometimes!("an iterator ends with an error");
            quarantine::suspect(&self.state, error);
            self.valid = false;
            self.failure = Some(error.clone());
        }
        result
    }

    fn inner_key(&self) -> Result<InternalKey<'_>> {
        internal_key(self.inner.key(), &self.state.dir)
    }

    /// The user key that the inner cursor is at, in an allocation that was used before where there is one.
    fn inner_user(&mut self) -> Result<Vec<u8>> {
        let mut user = std::mem::take(&mut self.spare);
        user.clear();
        user.extend_from_slice(self.inner_key()?.user);
        Ok(user)
    }

    /// The value that this reader sees in the entry that the inner cursor is at, where it lies, and when it expires.
    fn stored_here(&self, entry: InternalKey<'_>) -> Result<Option<(Stored, u64)>> {
        let Some(lookup) = Lookup::of(entry.kind, || self.inner.value()) else {
            let expected = format!("entries with values of their kinds, found {entry:?}");
            return Err(Error::corruption(&self.state.dir, 0, expected));
        };
        let expires_ms = lookup.expires_ms();
        let stored = lookup.seen_at(|| self.at.now_ms);
        sometimes!("an iterator passes an expired value", if stored.is_none() && expires_ms != EXPIRES_NEVER);
        Ok(stored.map(|stored| (stored, expires_ms)))
    }

    /// A value of this key from where it lies.
    fn seen(&self, key: &[u8], (stored, expires_ms): (Stored, u64)) -> Result<Seen> {
        let value = if self.keys_only { Bytes::new() } else { self.state.blobs.value(key, stored, false)? };
        Ok(Seen { value, expires_ms })
    }

    /// Stands on a key from now on, with what it has.
    fn show(&mut self, key: Vec<u8>, seen: Seen) {
        self.spare = std::mem::replace(&mut self.key, key);
        (self.value, self.expires_ms) = (seen.value, seen.expires_ms);
        self.valid = true;
    }

    /// From the inner cursor on: shows the first key that this reader sees. The cursor is on no version of a key that was
    /// shown already.
    fn show_next(&mut self) -> Result<()> {
        let mut hidden: Option<Vec<u8>> = None;
        while self.inner.valid() {
            let entry = self.inner_key()?;
            if self.range.is_above(entry.user) {
                return Ok(());
            }
            let is_hidden = hidden.as_deref() == Some(entry.user);
            sometimes!("an iterator passes a version that is too new", if entry.seqno > self.at.seqno);
            if entry.seqno <= self.at.seqno && !is_hidden {
                if !self.deleted.is_empty() && self.pass_if_deleted()? {
                    continue;
                }
                let entry = self.inner_key()?;
                if entry.kind == Kind::Merge {
                    let user = self.inner_user()?;
                    let seen = self.merged_from_here(&user)?;
                    self.show(user, seen);
                    return Ok(());
                }
                if let Some(stored) = self.stored_here(entry)? {
                    let user = self.inner_user()?;
                    let seen = self.seen(&user, stored)?;
                    self.show(user, seen);
                    return Ok(());
                }
                sometimes!("an iterator passes a tombstone");
                let key = hidden.get_or_insert_default();
                key.clear();
                key.extend_from_slice(InternalKey::decode(self.inner.key()).expect("decoded above").user);
            }
            self.inner.next()?;
        }
        Ok(())
    }

    /// From the inner cursor on, which is at the newest version of `key` that this reader sees, and that is an operand: what all
    /// its operands make of what is below them. Ends at an older version, or behind all of the key.
    fn merged_from_here(&mut self, key: &[u8]) -> Result<Seen> {
        sometimes!("a reader merges operands");
        let deleted = if self.deleted.is_empty() { None } else { self.deleted.at(&self.state, key)? };
        let (mut operands, mut base, mut active) = (Vec::new(), None, 0);
        while self.inner.valid() {
            let entry = self.inner_key()?;
            if entry.user != key || deleted.as_ref().is_some_and(|deleted| deleted.seqno > entry.seqno) {
                break;
            }
            if entry.kind != Kind::Merge {
                base = self.stored_here(entry)?;
                break;
            }
            active += usize::from(self.begins_active && self.inner.child() == 0);
            operands.push(self.inner.value());
            self.inner.next()?;
        }
        if active > OPERANDS_IN_MEMORY_MAX {
            self.view.memtable.tell_long_chain();
        }
        operands.reverse();
        let base = base.map(|stored| self.seen(key, stored)).transpose()?;
        self.merged(key, base, operands)
    }

    /// What these operands, oldest first, make of a value.
    fn merged(&mut self, key: &[u8], base: Option<Seen>, operands: Vec<Bytes>) -> Result<Seen> {
        let Some(operator) = &self.operator else {
            let expected = format!("no operands, for want of an operator, found one of {}", key.escape_ascii());
            return Err(Error::corruption(&self.state.dir, 0, expected));
        };
        let (base, expires_ms) = base.map_or((None, EXPIRES_NEVER), |seen| (Some(seen.value), seen.expires_ms));
        if self.keys_only {
            return Ok(Seen { value: Bytes::new(), expires_ms });
        }
        let value = merged(&**operator, key, base.as_deref(), &operands)?;
        self.unmerged = base.filter(|_| expires_ms != EXPIRES_NEVER).map(|base| Unmerged { base, operands });
        Ok(Seen { value, expires_ms })
    }

    /// Steps on if the current entry was deleted as part of a range.
    fn pass_if_deleted(&mut self) -> Result<bool> {
        let (key, seqno) = {
            let entry = self.inner_key()?;
            (entry.user.to_vec(), entry.seqno)
        };
        let Some(deleted) = self.deleted.at(&self.state, &key)?.filter(|deleted| deleted.seqno > seqno) else {
            return Ok(false);
        };
        if self.inner.child() <= deleted.place {
            self.inner.next()?;
        } else {
            sometimes!("an iterator jumps over a deleted range");
            self.inner.skip_to(deleted.place + 1, &before_all_of(&deleted.end))?;
        }
        Ok(true)
    }

    /// From the inner cursor back: shows the last key that this reader sees. The cursor is before all versions of the key
    /// that was shown last. Going back, the versions of a key come oldest first, so the last one that is not too new counts.
    fn show_previous(&mut self) -> Result<()> {
        while self.inner.valid() {
            let entry = self.inner_key()?;
            if self.range.is_below(entry.user) {
                return Ok(());
            }
            let key = self.inner_user()?;
            let mut found = None;
            let mut operands: Vec<(SeqNo, Bytes)> = Vec::new();
            while self.inner.valid() {
                let entry = self.inner_key()?;
                if entry.user != key.as_slice() {
                    break;
                }
                let seqno = entry.seqno;
                if seqno <= self.at.seqno && entry.kind == Kind::Merge {
                    operands.push((seqno, self.inner.value()));
                } else if seqno <= self.at.seqno {
                    operands.clear();
                    found = self.stored_here(entry)?.map(|stored| (seqno, stored));
                }
                self.inner.prev()?;
            }
            let newest = operands.last().map(|(seqno, _)| *seqno).or(found.as_ref().map(|(seqno, _)| *seqno));
            if let Some(newest) = newest
                && !self.deleted.is_empty()
                && let Some(deleted) = self.deleted.at(&self.state, &key)?
            {
                if deleted.seqno > newest {
                    sometimes!("an iterator jumps back over a deleted range");
                    self.inner.skip_to(deleted.place + 1, &before_all_of(&deleted.start))?;
                    continue;
                }
                operands.retain(|(seqno, _)| *seqno > deleted.seqno);
                found = found.filter(|(seqno, _)| *seqno > deleted.seqno);
            }
            let mut seen = found.map(|(_, stored)| self.seen(&key, stored)).transpose()?;
            if !operands.is_empty() {
                let operands: Vec<Bytes> = operands.into_iter().map(|(_, operand)| operand).collect();
                seen = Some(self.merged(&key, seen, operands)?);
            }
            if let Some(seen) = seen {
                self.show(key, seen);
                return Ok(());
            }
            self.spare = key;
        }
        Ok(())
    }
}

impl Drop for DbIter {
    fn drop(&mut self) {
        if !Arc::ptr_eq(&self.view, &self.state.view.load()) {
            // Tables that only this iterator needed can go now.
            self.state.work.lock().released = true;
            self.state.work_changed.notify_all();
        }
    }
}

/// Entries of a keyspace in key order, as an [`Iterator`].
pub struct Entries {
    iter: DbIter,
    begun: bool,
    ended: bool,
}

impl Iterator for Entries {
    type Item = Result<(Vec<u8>, Bytes)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let step = if self.iter.valid() && self.begun {
            self.iter.next()
        } else if self.begun || self.iter.valid() {
            Ok(())
        } else {
            self.iter.seek_to_first()
        };
        self.begun = true;
        if let Err(error) = step {
            self.ended = true;
            return Some(Err(error));
        }
        if !self.iter.valid() {
            self.ended = true;
            return None;
        }
        Some(Ok((self.iter.key().to_vec(), self.iter.value.clone())))
    }
}

/// The value of one key, of which a reader has found that the newest version is an operand.
pub(super) fn merged_value(
    state: &Arc<State>,
    view: &Arc<ReadView>,
    keyspace: KeyspaceId,
    key: &[u8],
    at: Reader,
) -> Result<Option<Bytes>> {
    let only = Range::of((Bound::Included(key), Bound::Included(key)));
    let mut iter = DbIter::new(state, view.clone(), keyspace, at, only)?;
    iter.inner.seek(&before_all_of(key))?;
    iter.show_next()?;
    Ok(iter.valid.then(|| iter.value.clone()))
}

/// What a cursor of the store in `dir` is at. Bytes that are no internal key are damage, never the end of a walk.
pub(super) fn internal_key<'a>(encoded: &'a [u8], dir: &Path) -> Result<InternalKey<'a>> {
    InternalKey::decode(encoded)
        .ok_or_else(|| Error::corruption(dir, 0, format!("whole internal keys, found {}", encoded.escape_ascii())))
}

/// The internal key before all versions of a user key.
pub(super) fn before_all_of(key: &[u8]) -> Vec<u8> {
    InternalKey::new(key, SEQNO_MAX, KIND_FOR_SEEK).encode()
}

/// The internal key behind all versions of a user key, but for one that cannot exist: seqno 0 is before every write.
fn behind_all_of(key: &[u8]) -> Vec<u8> {
    InternalKey::new(key, 0, Kind::Delete).encode()
}

/// One level below 0 as a run of disjoint tables.
struct LevelRun {
    state: Arc<State>,
    version: Arc<Version>,
    level: usize,
}

impl TableSource for LevelRun {
    fn count(&self) -> usize {
        self.version.levels[self.level].len()
    }

    fn smallest(&self, index: usize) -> &[u8] {
        &self.version.levels[self.level][index].smallest
    }

    fn largest(&self, index: usize) -> &[u8] {
        &self.version.levels[self.level][index].largest
    }

    fn open(&self, index: usize) -> Result<Box<dyn InternalIterator>> {
        let table = &self.version.levels[self.level][index];
        Ok(Box::new(self.state.tables.table(table.number, table.bytes)?.iter(true)))
    }
}
