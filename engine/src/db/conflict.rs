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
use crate::key::{KEYSPACE_DEFAULT, KeyspaceId, SEQNO_MAX, SeqNo};
use crate::manifest::version::Version;
use crate::mark::sometimes;
use crate::memtable::Memtable;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

/// The keys and ranges that a transaction rests on, in whatever keyspaces: if any of them was written after its snapshot, or its
/// keyspace dropped, it must not commit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadSet {
    keyspaces: BTreeMap<KeyspaceId, Reads>,
}

/// Those of one keyspace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Reads {
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
        self.add_key_in(KEYSPACE_DEFAULT, key);
    }

    /// Adds all keys of a range, those that are absent too: a key that appears in it is a conflict. Checking a range takes
    /// time in proportion to what was written to it since the memtable was begun.
    pub fn add_range(&mut self, range: Range) {
        self.add_range_in(KEYSPACE_DEFAULT, range);
    }

    /// Adds a key of this keyspace.
    pub fn add_key_in(&mut self, keyspace: impl Into<KeyspaceId>, key: &[u8]) {
        let reads = self.keyspaces.entry(keyspace.into()).or_default();
        if !reads.keys.contains(key) && !reads.ranges.iter().any(|range| range.contains(key)) {
            reads.keys.insert(key.to_vec());
        }
    }

    /// Adds all keys of a range of this keyspace.
    pub fn add_range_in(&mut self, keyspace: impl Into<KeyspaceId>, range: Range) {
        let reads = self.keyspaces.entry(keyspace.into()).or_default();
        if !reads.ranges.contains(&range) {
            reads.ranges.push(range);
        }
    }

    /// A key of these that was written, with its keyspace.
    fn first_of(&self, written: &Written) -> Option<(KeyspaceId, Vec<u8>)> {
        let mut both = self.keyspaces.iter().filter_map(|(&id, reads)| Some((id, reads, written.keyspaces.get(&id)?)));
        both.find_map(|(id, reads, written)| Some((id, reads.first_of(written)?)))
    }
}

impl Reads {
    /// Any key of these.
    fn any(&self) -> Vec<u8> {
        let range = || self.ranges.first().map(|range| range.lowest().to_vec());
        self.keys.first().cloned().or_else(range).unwrap_or_default()
    }

    /// A key of these that was written.
    fn first_of(&self, written: &WrittenKeys) -> Option<Vec<u8>> {
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
    keyspaces: BTreeMap<KeyspaceId, WrittenKeys>,
}

/// To one keyspace.
#[derive(Default)]
struct WrittenKeys {
    keys: BTreeSet<Vec<u8>>,
    ranges: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Written {
    /// Adds what a batch writes.
    pub(crate) fn add(&mut self, batch: &WriteBatch) {
        for (keyspace, key, end) in batch.spans() {
            let written = self.keyspaces.entry(keyspace).or_default();
            match end {
                None => {
                    written.keys.insert(key);
                }
                Some(end) => written.ranges.push((key, end)),
            }
        }
    }

    /// Whether that is nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.keyspaces.is_empty()
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
        if let Some((keyspace, key)) = self.reads.first_of(written) {
            return Err(Error::Conflict { keyspace, key });
        }
        let held = see_that_unchanged(state, &state.view.load(), &self.reads, self.since);
        sometimes!("a transaction meets a write that came after its first look", if held.is_err());
        held
    }
}

/// [`Error::Conflict`] if any of `reads` has a version that is newer than `since`.
fn see_that_unchanged(state: &State, view: &ReadView, reads: &ReadSet, since: SeqNo) -> Result<()> {
    for (&keyspace, reads) in &reads.keyspaces {
        let Some(entry) = view.catalog.get(keyspace) else {
            sometimes!("a transaction rests on a keyspace that was dropped");
            return Err(Error::Conflict { keyspace, key: reads.any() });
        };
        let mut generations = vec![&view.memtable];
        generations
            .extend(view.frozen.iter().filter(|frozen| frozen.last_seqno > since).map(|frozen| &frozen.memtable));
        let memtables = generations.into_iter().filter_map(|generation| generation.of(keyspace));
        if let Some(key) = first_changed(state, memtables, &entry.version, reads, since)? {
            return Err(Error::Conflict { keyspace, key });
        }
    }
    Ok(())
}

/// A key of these that has a version that is newer than `since`.
fn first_changed(
    state: &State,
    memtables: impl Iterator<Item = Arc<Memtable>>,
    version: &Version,
    reads: &Reads,
    since: SeqNo,
) -> Result<Option<Vec<u8>>> {
    for memtable in memtables {
        let deleted =
            if memtable.has_range_deletes() { first_deleted_in(&memtable.fragments(), reads, since) } else { None };
        let changed = match deleted {
            None => first_changed_in(&mut memtable.iter(), &state.dir, reads, since)?,
            deleted => deleted,
        };
        if changed.is_some() {
            return Ok(changed);
        }
    }
    for table in version.levels.iter().flatten().filter(|table| table.seqno_max > since) {
        sometimes!("a transaction looks into a table for conflicts");
        let table = state.tables.table(table.number, table.bytes)?;
        let changed = match first_deleted_in(table.fragments(), reads, since) {
            None => first_changed_in(&mut table.iter(true), &state.dir, reads, since)?,
            deleted => deleted,
        };
        if changed.is_some() {
            return Ok(changed);
        }
    }
    Ok(None)
}

fn first_deleted_in(fragments: &Fragments, reads: &Reads, since: SeqNo) -> Option<Vec<u8>> {
    if fragments.is_empty() {
        return None;
    }
    for key in &reads.keys {
        if fragments.newest(key, SEQNO_MAX).is_some_and(|deleted| deleted > since) {
            return Some(key.clone());
        }
    }
    for range in &reads.ranges {
        let newer = |fragment: &&Fragment| fragment.seqnos[0] > since && range.overlaps(&fragment.start, &fragment.end);
        let ahead = fragments.from(range.lowest()).take_while(|fragment| !range.is_above(&fragment.start));
        if let Some(deleted) = ahead.into_iter().find(newer) {
            sometimes!("a transaction meets a range delete in what it read");
            return Some(deleted.start.to_vec());
        }
    }
    None
}

fn first_changed_in(
    iter: &mut dyn InternalIterator,
    dir: &Path,
    reads: &Reads,
    since: SeqNo,
) -> Result<Option<Vec<u8>>> {
    for key in &reads.keys {
        iter.seek(&before_all_of(key))?;
        if iter.valid() {
            let newest = internal_key(iter.key(), dir)?;
            if newest.user == key.as_slice() && newest.seqno > since {
                return Ok(Some(key.clone()));
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
                return Ok(Some(found.user.to_vec()));
            }
            iter.next()?;
        }
    }
    Ok(None)
}
