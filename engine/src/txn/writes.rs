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
    /// Operands, oldest first, upon what had been written before, or else upon what the transaction found.
    Operands(Option<Box<Written>>, Vec<Bytes>),
}

/// What a transaction sees of its own writes to a key.
#[derive(Clone, Debug)]
pub(super) enum Seen {
    Value(Option<Bytes>),
    /// What these operands, oldest first, make of the value that it wrote before them, or else of the one that it found.
    Operands(Option<Option<Bytes>>, Vec<Bytes>),
}

impl Written {
    /// What it reads back itself, at this time. A lifetime does not begin before the transaction commits.
    pub(super) fn seen(&self, now_ms: u64) -> Seen {
        match self {
            Written::Operands(None, operands) => Seen::Operands(None, operands.clone()),
            Written::Operands(Some(before), operands) => Seen::Operands(Some(before.value(now_ms)), operands.clone()),
            written => Seen::Value(written.value(now_ms)),
        }
    }

    fn value(&self, now_ms: u64) -> Option<Bytes> {
        match self {
            Written::Delete => None,
            Written::Put(value) | Written::Expiring(value, Expiry::After(_) | Expiry::Never) => Some(value.clone()),
            Written::Expiring(value, Expiry::At(expires_ms)) => {
                (!has_expired(*expires_ms, now_ms)).then(|| value.clone())
            }
            Written::Operands(..) => unreachable!("operands are gathered, and never upon others"),
        }
    }

    pub(super) fn add_to(&self, batch: &mut WriteBatch, keyspace: KeyspaceId, key: &[u8]) {
        match self {
            Written::Delete => batch.delete_in(keyspace, key),
            Written::Put(value) => batch.put_in(keyspace, key, value),
            Written::Expiring(value, expiry) => batch.put_expiring_in(keyspace, key, value, *expiry),
            Written::Operands(before, operands) => {
                before.iter().for_each(|before| before.add_to(batch, keyspace, key));
                operands.iter().for_each(|operand| batch.merge_in(keyspace, key, operand));
            }
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
    pub(super) fn get(&self, key: &[u8], now_ms: u64) -> Option<Seen> {
        match self.keys.get(key) {
            Some(written) => Some(written.seen(now_ms)),
            None => self.deletes(key).then_some(Seen::Value(None)),
        }
    }

    /// What an operand makes of what was written to `key`.
    pub(super) fn with_operand(&self, key: &[u8], operand: &[u8]) -> Written {
        let operand = Bytes::copy_from_slice(operand);
        match self.keys.get(key).cloned() {
            Some(Written::Operands(before, mut operands)) => {
                operands.push(operand);
                Written::Operands(before, operands)
            }
            Some(before) => Written::Operands(Some(Box::new(before)), vec![operand]),
            None if self.deletes(key) => Written::Operands(Some(Box::new(Written::Delete)), vec![operand]),
            None => Written::Operands(None, vec![operand]),
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
