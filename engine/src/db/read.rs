//! Looking up one key: newest place first, until one of them knows.
//!
//! An error in any place is the answer: a table that cannot be read may hold the key, so nothing below it is asked.

use crate::db::state::{ReadView, State};
use crate::error::Result;
use crate::key::{KeyspaceId, Lookup, SeqNo};
use crate::manifest::version::TableMeta;
use crate::mark::sometimes;
use bytes::Bytes;
use std::sync::Arc;

/// The value of `key` of a keyspace as a reader at `seqno` sees it. The reader's time is asked for when the key is found, and so
/// after the view was taken, and only if it matters.
pub(crate) fn get(
    state: &State,
    view: &ReadView,
    keyspace: KeyspaceId,
    key: &[u8],
    seqno: SeqNo,
    now_ms: impl FnOnce() -> u64,
) -> Result<Option<Bytes>> {
    let found = find(state, view, keyspace, key, seqno)?;
    let expires = matches!(found, Some(Lookup::Expiring { .. }));
    let value = found.and_then(|found| found.value_at(now_ms));
    sometimes!("a get finds an expired value", if expires && value.is_none());
    Ok(value)
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
