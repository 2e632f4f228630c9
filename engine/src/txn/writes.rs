//! What a transaction has written so far to one keyspace, which its own reads see.

use crate::batch::{Expiry, WriteBatch};
use crate::key::{KeyspaceId, has_expired};
use bytes::Bytes;
use std::collections::BTreeMap;

/// What a transaction has written to a key.
#[derive(Clone, Debug)]
pub(super) enum Written {
    Delete,
    Put(Bytes),
    Expiring(Bytes, Expiry),
}

impl Written {
    /// What it reads back itself, at this time. A lifetime does not begin before the transaction commits.
    pub(super) fn value(&self, now_ms: u64) -> Option<&Bytes> {
        match self {
            Written::Delete => None,
            Written::Put(value) | Written::Expiring(value, Expiry::After(_) | Expiry::Never) => Some(value),
            Written::Expiring(value, Expiry::At(expires_ms)) => (!has_expired(*expires_ms, now_ms)).then_some(value),
        }
    }

    pub(super) fn add_to(&self, batch: &mut WriteBatch, keyspace: KeyspaceId, key: &[u8]) {
        match self {
            Written::Delete => batch.delete_in(keyspace, key),
            Written::Put(value) => batch.put_in(keyspace, key, value),
            Written::Expiring(value, expiry) => batch.put_expiring_in(keyspace, key, value, *expiry),
        }
    }
}

/// What a transaction has written to a keyspace.
#[derive(Debug, Default)]
pub(super) struct Writes {
    /// Those that a later range delete holds are not among them.
    pub(super) keys: BTreeMap<Vec<u8>, Written>,
    /// Range deletes, from the first key up to the one behind the last. `keys` count before them.
    pub(super) ranges: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Writes {
    /// What was written last to `key`, if anything was, as it reads at this time.
    pub(super) fn get(&self, key: &[u8], now_ms: u64) -> Option<Option<Bytes>> {
        match self.keys.get(key) {
            Some(written) => Some(written.value(now_ms).cloned()),
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
