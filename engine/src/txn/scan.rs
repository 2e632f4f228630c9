//! What a transaction sees of a range: the snapshot, with its own writes laid over it.

use super::writes::Writes;
use crate::db::{Db, Range, Snapshot};
use crate::error::Result;
use bytes::Bytes;

/// The first `limit` entries of the range, in key order.
pub(super) fn merged(
    db: &Db,
    snapshot: &Snapshot,
    writes: &Writes,
    range: &Range,
    limit: usize,
) -> Result<Vec<(Vec<u8>, Bytes)>> {
    let mut entries = Vec::new();
    let mut below = db.iter_at(snapshot, range.clone())?;
    below.seek_to_first()?;
    let mut above = writes.keys.iter().filter(|(key, _)| range.contains(key)).peekable();
    while entries.len() < limit {
        let own = match (above.peek(), below.valid()) {
            (None, false) => break,
            (Some((key, _)), true) => key.as_slice() <= below.key(),
            (own, _) => own.is_some(),
        };
        if !own {
            if !writes.deletes(below.key()) {
                entries.push((below.key().to_vec(), below.value().clone()));
            }
            below.next()?;
            continue;
        }
        let (key, written) = above.next().expect("peeked at");
        if below.valid() && below.key() == key.as_slice() {
            below.next()?;
        }
        if let Some(value) = written.value(snapshot.time_ms()) {
            entries.push((key.clone(), value.clone()));
        }
    }
    below.status()?;
    Ok(entries)
}
