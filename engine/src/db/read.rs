//! Looking up one key, or many at once: newest place first, until one of them knows.
//!
//! An error in any place is the answer: a table that cannot be read may hold the key, so nothing below it is asked.
//!
//! Many keys are sorted, and go from place to place together. Those of which a place knows stay behind, so that no older place
//! is asked for them; a table is found and opened once for all keys in its range, and a block that holds several is read once.

use crate::compaction::readers::Reader;
use crate::db::iter::merged_value;
use crate::db::state::{ReadView, State};
use crate::error::Result;
use crate::key::{EXPIRES_NEVER, KeyspaceId, Lookup, SeqNo};
use crate::manifest::version::TableMeta;
use crate::mark::sometimes;
use crate::sst::LastBlock;
use bytes::Bytes;
use std::ops::Range;
use std::sync::Arc;

/// What [`Db::multi_get`](crate::db::Db::multi_get) has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MultiGet {
    /// The newest write that it shows.
    pub seqno: SeqNo,
    /// The value of each key, in the order in which the keys were given.
    pub values: Vec<Option<Bytes>>,
}

/// A value up to this length that was looked up together with others is copied, so that an answer of many small values takes the
/// memory of these, and not of all the blocks that they lie in. A longer one is shared, as that of a single get.
const COPIED_BYTES_MAX: usize = 512;

/// The value of `key` of a keyspace as a reader at `seqno` sees it. The reader's time is asked for when the key is found, and so
/// after the view was taken, and only if it matters.
pub(crate) fn get(
    state: &Arc<State>,
    view: &Arc<ReadView>,
    keyspace: KeyspaceId,
    key: &[u8],
    seqno: SeqNo,
    now_ms: impl FnOnce() -> u64,
) -> Result<Option<Bytes>> {
    match find(state, view, keyspace, key, seqno)? {
        Some(Lookup::Operand) => merged_value(state, view, keyspace, key, Reader { seqno, now_ms: now_ms() }),
        Some(found) => value_of(state, key, found, now_ms),
        None => Ok(None),
    }
}

fn value_of(state: &State, key: &[u8], found: Lookup, now_ms: impl FnOnce() -> u64) -> Result<Option<Bytes>> {
    let expires = found.expires_ms() != EXPIRES_NEVER;
    let stored = found.seen_at(now_ms);
    sometimes!("a get finds an expired value", if expires && stored.is_none());
    stored.map(|stored| state.blobs.value(key, stored, true)).transpose()
}

fn find(state: &State, view: &ReadView, keyspace: KeyspaceId, key: &[u8], seqno: SeqNo) -> Result<Option<Lookup>> {
    let version = &view.keyspace(keyspace)?.version;
    let memtables = std::iter::once(&view.memtable).chain(view.frozen.iter().map(|frozen| &frozen.memtable));
    for memtable in memtables {
        if let Some(found) = memtable.get(keyspace, key, seqno) {
            sometimes!("a frozen memtable answers a get", if !Arc::ptr_eq(memtable, &view.memtable));
            return Ok(Some(found));
        }
    }
    for table in &version.levels[0] {
        if table.smallest_user() <= key
            && !table.ends_before(key)
            && let Some(found) = find_in(state, table, key, seqno)?
        {
            return Ok(Some(found));
        }
    }
    for level in 1..version.levels.len() {
        if let Some(table) = version.find(level, key)
            && let Some(found) = find_in(state, table, key, seqno)?
        {
            sometimes!("a level below 0 answers a get");
            return Ok(Some(found));
        }
    }
    Ok(None)
}

fn find_in(state: &State, table: &TableMeta, key: &[u8], seqno: SeqNo) -> Result<Option<Lookup>> {
    if seqno < table.seqno_min {
        return Ok(None);
    }
    state.tables.table(table.number, table.bytes)?.get(key, seqno)
}

/// The values of many keys of a keyspace as one reader sees them, in the order of `keys`, which is any.
pub(crate) fn get_many(
    state: &Arc<State>,
    view: &Arc<ReadView>,
    keyspace: KeyspaceId,
    keys: &[&[u8]],
    at: Reader,
) -> Result<Vec<Option<Bytes>>> {
    let version = &view.keyspace(keyspace)?.version;
    let mut search = Search::new(keys, at);
    for memtable in view.memtables(keyspace) {
        search.ask(state, 0..search.left.len(), |key| Ok(memtable.get(key, at.seqno)))?;
    }
    for table in &version.levels[0] {
        search.ask_table(state, table, 0)?;
    }
    for tables in version.levels.iter().skip(1) {
        let mut from = 0;
        while let Some(&first) = search.left.get(from) {
            let place = tables.partition_point(|table| table.ends_before(keys[first]));
            let Some(table) = tables.get(place) else { break };
            from = search.ask_table(state, table, from)?;
        }
    }
    for index in std::mem::take(&mut search.operands) {
        search.found[index] = merged_value(state, view, keyspace, keys[index], at)?;
    }
    Ok(search.values())
}

/// A search for many keys on its way down.
struct Search<'a> {
    keys: &'a [&'a [u8]],
    at: Reader,
    /// Every key by its index, in key order.
    sorted: Vec<usize>,
    /// The same, each key once, without those of which a place has known.
    left: Vec<usize>,
    /// Those of which the newest version is an operand.
    operands: Vec<usize>,
    found: Vec<Option<Bytes>>,
}

impl<'a> Search<'a> {
    fn new(keys: &'a [&'a [u8]], at: Reader) -> Search<'a> {
        let mut sorted: Vec<usize> = (0..keys.len()).collect();
        sorted.sort_unstable_by_key(|&index| keys[index]);
        let mut left = sorted.clone();
        left.dedup_by_key(|index| keys[*index]);
        sometimes!("one key is asked for twice at once", if left.len() < sorted.len());
        Search { keys, at, sorted, left, operands: Vec::new(), found: vec![None; keys.len()] }
    }

    /// Asks a place for a run of those keys that are left. Returns where those behind the run begin then.
    fn ask(
        &mut self,
        state: &State,
        run: Range<usize>,
        mut look_up: impl FnMut(&[u8]) -> Result<Option<Lookup>>,
    ) -> Result<usize> {
        let mut kept = run.start;
        for place in run.clone() {
            let index = self.left[place];
            match look_up(self.keys[index])? {
                Some(Lookup::Operand) => self.operands.push(index),
                Some(found) => {
                    let value = value_of(state, self.keys[index], found, || self.at.now_ms)?;
                    self.found[index] = value.map(copied_if_short);
                }
                None => {
                    self.left[kept] = index;
                    kept += 1;
                }
            }
        }
        self.left.drain(kept..run.end);
        Ok(kept)
    }

    /// Asks a table for those keys that are left, from this one on, that lie in its range. Returns where those behind it begin
    /// then.
    fn ask_table(&mut self, state: &State, table: &TableMeta, from: usize) -> Result<usize> {
        let start = from + self.left[from..].partition_point(|&index| self.keys[index] < table.smallest_user());
        let end = start + self.left[start..].partition_point(|&index| !table.ends_before(self.keys[index]));
        let seqno = self.at.seqno;
        if start == end || seqno < table.seqno_min {
            return Ok(end);
        }
        let table = state.tables.table(table.number, table.bytes)?;
        let mut last = LastBlock::default();
        self.ask(state, start..end, |key| table.get_near(key, seqno, &mut last))
    }

    /// What was found, for every key that was asked for.
    fn values(mut self) -> Vec<Option<Bytes>> {
        for pair in self.sorted.windows(2) {
            if self.keys[pair[0]] == self.keys[pair[1]] {
                self.found[pair[1]] = self.found[pair[0]].clone();
            }
        }
        self.found
    }
}

fn copied_if_short(value: Bytes) -> Bytes {
    if value.len() <= COPIED_BYTES_MAX { Bytes::copy_from_slice(&value) } else { value }
}
