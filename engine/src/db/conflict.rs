//! Whether what a transaction rests on has been written since.
//!
//! The answer must hold at the moment at which the transaction's own batch gets its sequence numbers, so the last look is
//! taken by the leader of the group commit, under the commit lock. To be short there, [`Guard::new`] looks first, with no
//! lock, at everything up to the present; the leader then looks only at what came after that, which is nearly always in the
//! memtable.
//!
//! A version is never missed, because the transaction's snapshot keeps what is newer than it from being merged away, with
//! one exception that is none: a key that was absent, was written and deleted again, or has expired. Whoever read it would read
//! the same now.

use crate::batch::WriteBatch;
use crate::db::iter::{Range, before_all_of, internal_key};
use crate::db::state::{ReadView, State};
use crate::error::{Error, Result};
use crate::fragments::{Fragment, Fragments};
use crate::iter::InternalIterator;
use crate::key::{SEQNO_MAX, SeqNo};
use crate::mark::sometimes;
use std::collections::BTreeSet;
use std::ops::Bound;
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

    /// A key of these that it holds.
    fn first_of(&self, written: &Written) -> Option<Vec<u8>> {
        let holds = |key: &Vec<u8>| self.keys.contains(key) || self.ranges.iter().any(|range| range.contains(key));
        let key = written.keys.iter().find(|key| holds(key));
        key.cloned().or_else(|| written.ranges.iter().find_map(|(start, end)| self.first_in(start, end)))
    }

    /// A key of these from `start` up to `end` that it holds, or may hold.
    fn first_in(&self, start: &[u8], end: &[u8]) -> Option<Vec<u8>> {
        let within = (Bound::Included(start), Bound::Excluded(end));
        let key = self.keys.range::<[u8], _>(within).next().cloned();
        key.or_else(|| self.ranges.iter().any(|range| range.overlaps(start, end)).then(|| start.to_vec()))
    }
}

/// What a group writes before one of its batches.
#[derive(Default)]
pub(crate) struct Written {
    keys: BTreeSet<Vec<u8>>,
    ranges: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Written {
    /// Adds what a batch writes.
    pub(crate) fn add(&mut self, batch: &WriteBatch) {
        for (key, end) in batch.spans() {
            match end {
                None => {
                    self.keys.insert(key);
                }
                Some(end) => self.ranges.push((key, end)),
            }
        }
    }

    /// Whether that is nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.ranges.is_empty()
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

    /// Looks at the rest. Nobody may be writing meanwhile. `written` is what the same group has before this batch.
    pub(crate) fn hold(&self, state: &State, written: &Written) -> Result<()> {
        if let Some(key) = self.reads.first_of(written) {
            return Err(Error::Conflict { key });
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
        if memtable.has_range_deletes() {
            see_that_undeleted_in(&memtable.fragments(), reads, since)?;
        }
        see_that_unchanged_in(&mut memtable.iter(), &state.dir, reads, since)?;
    }
    for table in view.version.levels.iter().flatten().filter(|table| table.seqno_max > since) {
        sometimes!("a transaction looks into a table for conflicts");
        let table = state.tables.table(table.number, table.bytes)?;
        see_that_undeleted_in(table.fragments(), reads, since)?;
        let mut iter = table.iter(true);
        see_that_unchanged_in(&mut iter, &state.dir, reads, since)?;
    }
    Ok(())
}

fn see_that_undeleted_in(fragments: &Fragments, reads: &ReadSet, since: SeqNo) -> Result<()> {
    if fragments.is_empty() {
        return Ok(());
    }
    for key in &reads.keys {
        if fragments.newest(key, SEQNO_MAX).is_some_and(|deleted| deleted > since) {
            return Err(Error::Conflict { key: key.clone() });
        }
    }
    for range in &reads.ranges {
        let newer = |fragment: &&Fragment| fragment.seqnos[0] > since && range.overlaps(&fragment.start, &fragment.end);
        let ahead = fragments.from(range.lowest()).take_while(|fragment| !range.is_above(&fragment.start));
        if let Some(deleted) = ahead.into_iter().find(newer) {
            sometimes!("a transaction meets a range delete in what it read");
            return Err(Error::Conflict { key: deleted.start.to_vec() });
        }
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
