//! What a transaction has written so far to one keyspace, which its own reads see.

use bytes::Bytes;
use std::collections::BTreeMap;

/// What a transaction has written to a keyspace.
#[derive(Debug, Default)]
pub(super) struct Writes {
    /// A value, or `None` for a delete. Those that a later range delete holds are not among them.
    pub(super) keys: BTreeMap<Vec<u8>, Option<Bytes>>,
    /// Range deletes, from the first key up to the one behind the last. `keys` count before them.
    pub(super) ranges: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Writes {
    /// What was written last to `key`, if anything was.
    pub(super) fn get(&self, key: &[u8]) -> Option<Option<Bytes>> {
        match self.keys.get(key) {
            Some(written) => Some(written.clone()),
            None => self.deletes(key).then_some(None),
        }
    }

    /// Whether a range delete holds `key`.
    pub(super) fn deletes(&self, key: &[u8]) -> bool {
        self.ranges.iter().any(|(begin, end)| begin.as_slice() <= key && key < end.as_slice())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.ranges.is_empty()
    }
}
