//! What a transaction sees of a range: the snapshot, with its own writes laid over it.

use super::writes::{Seen, Writes};
use crate::db::{DbIter, Range};
use crate::error::Result;
use bytes::Bytes;

/// The first `limit` entries of the range, in key order: those of `below`, a cursor over the snapshot, and what was written to the
/// same keyspace, as it is read at a time. `merge` says what operands make of a value.
pub(super) fn merged(
    mut below: DbIter,
    (writes, now_ms): (&Writes, u64),
    range: &Range,
    limit: usize,
    merge: impl Fn(&[u8], Option<Bytes>, &[Bytes]) -> Result<Bytes>,
) -> Result<Vec<(Vec<u8>, Bytes)>> {
    let mut entries = Vec::new();
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
        let mut found = None;
        if below.valid() && below.key() == key.as_slice() {
            found = Some(below.value().clone());
            below.next()?;
        }
        let value = match written.seen(now_ms) {
            Seen::Value(value) => value,
            Seen::Operands(before, operands) => Some(merge(key, before.unwrap_or(found), &operands)?),
        };
        entries.extend(value.map(|value| (key.clone(), value)));
    }
    below.status()?;
    Ok(entries)
}
