//! Whether what a transaction rests on has been written since.
//!
//! The answer must hold at the moment at which the transaction's own batch gets its sequence numbers, so the last look is
//! taken by the leader of the group commit, under the commit lock. To be short there, [`Guard::new`] looks first, with no
//! lock, at everything up to the present; the leader then looks only at what came after that, which is nearly always in the
//! memtable.
//!
//! A version is never missed, because the transaction's snapshot keeps what is newer than it from being merged away, with
//! one exception that is none: a key that was absent, was written and deleted again. Whoever read it would read the same now.

use crate::db::iter::{Range, before_all_of, internal_key};
use crate::db::state::{ReadView, State};
use crate::error::{Error, Result};
use crate::iter::InternalIterator;
use crate::key::SeqNo;
use crate::mark::sometimes;
use std::collections::BTreeSet;
use std::path::Path;

/// The keys and ranges that a transaction rests on: if any of them was written after its snapshot, it must not commit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadSet {
    keys: BTreeSet<Vec<u8>>,
    ranges: Vec<Range>,
}

impl ReadSet {
    /// Nothing: a transaction that rests on nothing always commits.
    pub fn new() -> ReadSet {
        ReadSet::default()
    }

    /// Adds a key, whether it is present or absent.
    pub fn add_key(&mut self, key: &[u8]) {
        if !self.keys.contains(key) && !self.ranges.iter().any(|range| range.contains(key)) {
            self.keys.insert(key.to_vec());
        }
    }

    /// Adds all keys of a range, those that are absent too: a key that appears in it is a conflict. Checking a range takes
    /// time in proportion to what was written to it since the memtable was begun.
    pub fn add_range(&mut self, range: Range) {
        if !self.ranges.contains(&range) {
            self.ranges.push(range);
        }
    }

    /// The first of these keys that it holds.
    fn first_of<'a>(&self, written: &'a BTreeSet<Vec<u8>>) -> Option<&'a Vec<u8>> {
        written.iter().find(|key| self.keys.contains(*key) || self.ranges.iter().any(|range| range.contains(key)))
    }
}

/// What a batch rests on, on its way to the log.
pub(crate) struct Guard {
    reads: ReadSet,
    /// Nothing up to here is in conflict.
    since: SeqNo,
}

impl Guard {
    /// Looks at what was written between the snapshot and now.
    pub(crate) fn new(state: &State, reads: ReadSet, snapshot: SeqNo) -> Result<Guard> {
        let (view, now) = state.consistent_view();
        see_that_unchanged(state, &view, &reads, snapshot)?;
        Ok(Guard { reads, since: now })
    }

    /// Looks at the rest. Nobody may be writing meanwhile. `written` are the keys that the same group has before this batch.
    pub(crate) fn hold(&self, state: &State, written: &BTreeSet<Vec<u8>>) -> Result<()> {
        if let Some(key) = self.reads.first_of(written) {
            return Err(Error::Conflict { key: key.clone() });
        }
        let held = see_that_unchanged(state, &state.view.load(), &self.reads, self.since);
        sometimes!("a transaction meets a write that came after its first look", if held.is_err());
        held
    }
}

/// [`Error::Conflict`] if any of `reads` has a version that is newer than `since`.
fn see_that_unchanged(state: &State, view: &ReadView, reads: &ReadSet, since: SeqNo) -> Result<()> {
    let mut memtables = vec![&view.memtable];
    memtables.extend(view.frozen.iter().filter(|frozen| frozen.last_seqno > since).map(|frozen| &frozen.memtable));
    for memtable in memtables {
        see_that_unchanged_in(&mut memtable.iter(), &state.dir, reads, since)?;
    }
    for table in view.version.levels.iter().flatten().filter(|table| table.seqno_max > since) {
        sometimes!("a transaction looks into a table for conflicts");
        let mut iter = state.tables.table(table.number, table.bytes)?.iter(true);
        see_that_unchanged_in(&mut iter, &state.dir, reads, since)?;
    }
    Ok(())
}

fn see_that_unchanged_in(iter: &mut dyn InternalIterator, dir: &Path, reads: &ReadSet, since: SeqNo) -> Result<()> {
    for key in &reads.keys {
        iter.seek(&before_all_of(key))?;
        if iter.valid() {
            let newest = internal_key(iter.key(), dir)?;
            if newest.user == key.as_slice() && newest.seqno > since {
                return Err(Error::Conflict { key: key.clone() });
            }
        }
    }
    for range in &reads.ranges {
        match range.start() {
            None => iter.seek_to_first()?,
            Some(start) => iter.seek(&start)?,
        }
        while iter.valid() {
            let found = internal_key(iter.key(), dir)?;
            // Behind all versions of an excluded lower bound there may be one more, of seqno 0, which is not newer.
            if range.is_above(found.user) {
                break;
            }
            if found.seqno > since && range.contains(found.user) {
                return Err(Error::Conflict { key: found.user.to_vec() });
            }
            iter.next()?;
        }
    }
    Ok(())
}
