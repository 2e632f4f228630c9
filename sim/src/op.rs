//! Operations, and the keys and values that they name: a workload as plain data.
//!
//! A key is a small number into a sorted table of byte strings, so that the order of numbers is the order of keys, and a
//! model of the store is an array. A value is a stamp and a length. Stamps are unique, and the bytes of a value follow from
//! its stamp: whoever reads bytes back can tell exactly which write they are from, or that no write ever wrote them. The one
//! exception is the empty value, which carries no stamp and so is the same value wherever it was written.
//!
//! Every operation has a line of text that reads like a sentence and parses back to the same operation. Artifacts and traces
//! are made of such lines:
//!
//! ```text
//! put k3 = #17:512 always            a put of value 17, 512 bytes, acknowledged when durable
//! hurry k3 = #17:512 within 5ms  a put that is given up when it has waited so long, or with no-wait, where it would have to
//! delete k3
//! batch [k3 = #18:64, k5 deleted, k7..k9 deleted] buffered       k9 is not among those that are deleted
//! batch [k3 = #19:64 for 250ms, k5 = #20:64 until 900ms]         from when it is written; from the beginning of the world
//! batch [k3 + #21:8, k3 + #22:8]     two operands, each appended to what the key has
//! get k3 at s1                       from snapshot 1
//! multi-get [k3, k1, k3] at s1       all as of one moment
//! scan >=k3 <k9 reverse limit 10
//! wait 30ms
//! snapshot s1   release s1   sync   flush   compact >=k1 <=k9   checkpoint   backup   export   import   reopen   check
//! restore-to   prune-archive         the last backup, to a point behind it; the archive, of what no backup needs
//! look   look anew                  through a handle beside the store that only reads, brought up to date or opened anew
//! release-table 3   discard-table 0  the file of one of the tables in quarantine is brought back; or it is given up
//! drop-keyspace 2                    all keys whose first byte is "2" are deleted at once
//! ```
//!
//! Nothing here knows how operations are chosen (`workload`) or judged (`oracle`).

use crate::clock::EPOCH_MS;
use crate::store::SyncMode;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Bound, Range};
use std::sync::OnceLock;

/// A key, as a number into [`Keys`].
pub type KeyId = u32;

/// The identity of a written value; see [`Value`].
pub type Stamp = u32;

/// The number of a keyspace is less than this: it is one digit.
pub const KEYSPACES_END: u8 = 10;

/// In place of a stamp: the key was deleted.
pub const TOMBSTONE: Stamp = 0;

/// The stamp that all empty values share.
pub const EMPTY: Stamp = 1;

/// The first stamp that belongs to one write alone.
pub const STAMP_FIRST: Stamp = 2;

/// Set in place of a stamp: what was written is an operand.
pub const OPERAND: Stamp = 1 << 30;

/// Set in the stamp of a value that came of operands: the others are a hash of what it came of. See [`written_upon`].
pub const MERGED: Stamp = 1 << 31;

/// What the bytes of an operand begin with; no value does, for no stamp is so large.
const OPERAND_MARK: [u8; 4] = [0xff; 4];

/// The stamp of what a key has when this was written to it, upon what it had: an operand is appended, all else takes its place.
/// A key that is absent has what one with the empty value has.
pub fn written_upon(before: Stamp, written: Stamp) -> Stamp {
    if written & MERGED != 0 || written & OPERAND == 0 {
        return written;
    }
    let before = if before == EMPTY { TOMBSTONE } else { before };
    let mut x = (u64::from(before) << 32 | u64::from(written)).wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    MERGED | (x >> 33) as Stamp
}

/// Whether `after` is what is left of `before` once the value has expired that its operands were appended to: all of these.
pub fn outlives(before: &[u8], after: &[u8]) -> bool {
    let is_operand = |bytes: &[u8]| bytes.starts_with(&OPERAND_MARK);
    let Some(value) = before.strip_suffix(after) else { return false };
    !value.is_empty() && is_operand(after) && !value.windows(OPERAND_MARK.len()).any(is_operand)
}

/// The shortest value that is not empty: its first bytes are the stamp.
pub const VALUE_BYTES_MIN: u32 = 4;

/// The longest value.
pub const VALUE_BYTES_MAX: u32 = 64 * 1024;

/// A value to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Value {
    /// Its identity.
    pub stamp: Stamp,
    /// Its length in bytes: 0 if and only if the stamp is [`EMPTY`], otherwise at least [`VALUE_BYTES_MIN`].
    pub bytes: u32,
}

/// Bytes from which values are cut. The first half does not compress and the second does, so that stores meet both.
fn pool() -> &'static [u8] {
    static POOL: OnceLock<Vec<u8>> = OnceLock::new();
    POOL.get_or_init(|| {
        let half = VALUE_BYTES_MAX as usize;
        let mut bytes = Vec::with_capacity(4 * half);
        let mut state = 0x5eed_u64;
        while bytes.len() < 2 * half {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            bytes.extend_from_slice(&(state >> 32).to_le_bytes()[..4]);
        }
        while bytes.len() < 4 * half {
            bytes.extend_from_slice(b"a value that says little, over and over again. ");
        }
        bytes.truncate(4 * half);
        bytes
    })
}

impl Value {
    /// The empty value.
    pub const NOTHING: Value = Value { stamp: EMPTY, bytes: 0 };

    fn filler(self) -> &'static [u8] {
        let len = (self.bytes - VALUE_BYTES_MIN) as usize;
        let room = pool().len() - VALUE_BYTES_MAX as usize;
        let start = (u64::from(self.stamp).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as usize % room;
        &pool()[start..start + len]
    }

    /// The bytes of the value.
    pub fn to_bytes(self) -> Vec<u8> {
        if self.bytes == 0 {
            return Vec::new();
        }
        let mut bytes = Vec::with_capacity(self.bytes as usize);
        bytes.extend_from_slice(&self.stamp.to_le_bytes());
        bytes.extend_from_slice(self.filler());
        bytes
    }

    /// The bytes of the operand that carries it.
    pub fn to_operand(self) -> Vec<u8> {
        [OPERAND_MARK.to_vec(), self.to_bytes()].concat()
    }

    /// Whether these are its bytes.
    pub fn is(self, bytes: &[u8]) -> bool {
        if bytes.len() != self.bytes as usize {
            return false;
        }
        self.bytes == 0 || (bytes[..4] == self.stamp.to_le_bytes() && &bytes[4..] == self.filler())
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.bytes == 0 { f.write_str("empty") } else { write!(f, "#{}:{}", self.stamp, self.bytes) }
    }
}

/// Lengths of all values of a plan, by stamp: what is needed to recognise a value that was read back.
#[derive(Clone, Debug, Default)]
pub struct Stamps {
    bytes: Vec<u32>,
}

impl Stamps {
    /// Of all values that these clients write.
    pub fn of(clients: &[Vec<Op>]) -> Stamps {
        let mut stamps = Stamps::default();
        for op in clients.iter().flatten() {
            op.each_entry(|entry| {
                if let Some(value) = entry.value {
                    stamps.add(value);
                }
            });
        }
        stamps
    }

    /// Makes a value known.
    pub fn add(&mut self, value: Value) {
        let index = value.stamp as usize;
        if self.bytes.len() <= index {
            self.bytes.resize(index + 1, 0);
        }
        self.bytes[index] = value.bytes;
    }

    /// The stamp of the value with these bytes; `None` if no write wrote them.
    pub fn recognise(&self, bytes: &[u8]) -> Option<Stamp> {
        self.recognise_by_steps(bytes, |_, _| ())
    }

    /// The same, and tells of each operand in it the stamps of what it was appended to and of what came of that.
    pub fn recognise_by_steps(&self, bytes: &[u8], mut step: impl FnMut(Stamp, Stamp)) -> Option<Stamp> {
        if bytes.is_empty() {
            return Some(EMPTY);
        }
        let (mut stamp, mut rest) =
            if bytes.starts_with(&OPERAND_MARK) { (TOMBSTONE, bytes) } else { self.first_of(bytes)? };
        while !rest.is_empty() {
            let (operand, behind) = self.first_of(rest.strip_prefix(&OPERAND_MARK)?)?;
            let before = stamp;
            (stamp, rest) = (written_upon(before, operand | OPERAND), behind);
            step(before, stamp);
        }
        Some(stamp)
    }

    /// The stamp of the value that these bytes begin with, and what is behind it.
    fn first_of<'b>(&self, bytes: &'b [u8]) -> Option<(Stamp, &'b [u8])> {
        let stamp = u32::from_le_bytes(bytes.get(..4)?.try_into().expect("four bytes"));
        let known = *self.bytes.get(stamp as usize).filter(|&&known| known >= VALUE_BYTES_MIN)?;
        let (value, rest) = bytes.split_at_checked(known as usize)?;
        Value { stamp, bytes: known }.is(value).then_some((stamp, rest))
    }

    /// The first stamp that nobody has, nor any above it.
    pub fn end(&self) -> Stamp {
        self.bytes.len() as Stamp
    }

    /// The value with this stamp.
    pub fn value(&self, stamp: Stamp) -> Value {
        Value { stamp, bytes: self.bytes.get(stamp as usize).copied().unwrap_or(0) }
    }
}

/// The keys of a plan, ascending: a [`KeyId`] is an index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keys {
    sorted: Vec<Vec<u8>>,
}

impl Keys {
    /// Of these byte strings, in any order; equal ones count once.
    pub fn new(mut keys: Vec<Vec<u8>>) -> Keys {
        keys.sort_unstable();
        keys.dedup();
        Keys { sorted: keys }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.sorted.len()
    }

    /// The bytes of a key.
    pub fn bytes(&self, key: KeyId) -> &[u8] {
        &self.sorted[key as usize]
    }

    /// Those of a keyspace, where there are several: their first byte is its number, as a digit.
    pub fn of_keyspace(&self, keyspace: u8) -> Range<KeyId> {
        let first = b'0' + keyspace;
        let start = self.sorted.partition_point(|key| key.first().is_none_or(|&byte| byte < first));
        let end = self.sorted.partition_point(|key| key.first().is_none_or(|&byte| byte <= first));
        start as KeyId..end as KeyId
    }

    /// The number of the first key that is not below these bytes.
    pub fn first_from(&self, bytes: &[u8]) -> KeyId {
        self.sorted.partition_point(|key| key.as_slice() < bytes) as KeyId
    }

    /// The number of a key, by its bytes.
    pub fn id(&self, bytes: &[u8]) -> Option<KeyId> {
        self.sorted.binary_search_by(|key| key.as_slice().cmp(bytes)).ok().map(|index| index as KeyId)
    }

    /// The number of a key that is likely to be `expected` or one of the next: a scan meets them in order.
    pub fn id_near(&self, bytes: &[u8], expected: KeyId) -> Option<KeyId> {
        match self.sorted.get(expected as usize) {
            Some(key) if key == bytes => Some(expected),
            _ => self.id(bytes),
        }
    }

    /// The keys that lie within the bounds, as a range of numbers.
    pub fn within(&self, bounds: &Bounds) -> Range<KeyId> {
        let (start, end) = match *bounds {
            Bounds::Prefix(prefix) => {
                let bytes = self.bytes(prefix);
                let rest = &self.sorted[prefix as usize..];
                (prefix, prefix + rest.partition_point(|key| key.starts_with(bytes)) as KeyId)
            }
            Bounds::Range(from, to) => {
                let start = match from {
                    Bound::Unbounded => 0,
                    Bound::Included(key) => key,
                    Bound::Excluded(key) => key + 1,
                };
                let end = match to {
                    Bound::Unbounded => self.sorted.len() as KeyId,
                    Bound::Included(key) => key + 1,
                    Bound::Excluded(key) => key,
                };
                (start, end)
            }
        };
        start..end.max(start)
    }
}

/// Which keys a scan or a compaction covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bounds {
    /// Between two keys.
    Range(Bound<KeyId>, Bound<KeyId>),
    /// All that start with the bytes of this key.
    Prefix(KeyId),
}

impl Bounds {
    /// Everything.
    pub const ALL: Bounds = Bounds::Range(Bound::Unbounded, Bound::Unbounded);

    /// The bounds as a store takes them. A range that ends before it starts stays as it is: a store must call it empty.
    pub fn to_bytes<'a>(&self, keys: &'a Keys, successor: &'a mut Vec<u8>) -> (Bound<&'a [u8]>, Bound<&'a [u8]>) {
        match *self {
            Bounds::Range(from, to) => (from.map(|key| keys.bytes(key)), to.map(|key| keys.bytes(key))),
            Bounds::Prefix(prefix) => {
                let from = Bound::Included(keys.bytes(prefix));
                successor.clear();
                successor.extend_from_slice(keys.bytes(prefix));
                while successor.last() == Some(&0xff) {
                    successor.pop();
                }
                match successor.last_mut() {
                    // Every key starts with nothing, and behind 0xFF..FF there is no next prefix.
                    None => (from, Bound::Unbounded),
                    Some(last) => {
                        *last += 1;
                        (from, Bound::Excluded(successor.as_slice()))
                    }
                }
            }
        }
    }

    fn keys(&self) -> Vec<KeyId> {
        match *self {
            Bounds::Prefix(key) => vec![key],
            Bounds::Range(from, to) => [from, to]
                .into_iter()
                .filter_map(|bound| match bound {
                    Bound::Unbounded => None,
                    Bound::Included(key) | Bound::Excluded(key) => Some(key),
                })
                .collect(),
        }
    }

    fn renamed(&self, name: &impl Fn(KeyId) -> KeyId) -> Bounds {
        match *self {
            Bounds::Prefix(key) => Bounds::Prefix(name(key)),
            Bounds::Range(from, to) => Bounds::Range(from.map(name), to.map(name)),
        }
    }
}

impl fmt::Display for Bounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Bounds::Prefix(key) => return write!(f, " prefix k{key}"),
            Bounds::Range(from, to) => {
                match from {
                    Bound::Unbounded => {}
                    Bound::Included(key) => write!(f, " >=k{key}")?,
                    Bound::Excluded(key) => write!(f, " >k{key}")?,
                }
                match to {
                    Bound::Unbounded => {}
                    Bound::Included(key) => write!(f, " <=k{key}")?,
                    Bound::Excluded(key) => write!(f, " <k{key}")?,
                }
            }
        }
        Ok(())
    }
}

/// How long a key keeps a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// For so many milliseconds after it is written.
    For(u32),
    /// Until so many milliseconds after the wall clock showed the first moment of the world.
    Until(u32),
}

impl Lifetime {
    /// The moment, in milliseconds since the Unix epoch, for a value that is written at this one.
    pub fn ends_at(self, written_ms: u64) -> u64 {
        match self {
            Lifetime::For(ms) => written_ms + u64::from(ms),
            Lifetime::Until(ms) => EPOCH_MS as u64 + u64::from(ms),
        }
    }
}

impl fmt::Display for Lifetime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Lifetime::For(ms) => write!(f, "for {ms}ms"),
            Lifetime::Until(ms) => write!(f, "until {ms}ms"),
        }
    }
}

/// One change within a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: KeyId,
    /// Its new value, or `None` for a deletion.
    pub value: Option<Value>,
    /// For a deletion of a range the key behind the last, which is behind `key`.
    pub end: Option<KeyId>,
    /// How long the key keeps a new value, if not for ever.
    pub lifetime: Option<Lifetime>,
    /// Whether the value is an operand, to be appended to what the key has.
    pub is_operand: bool,
}

impl Entry {
    /// Of one key.
    pub fn new(key: KeyId, value: Option<Value>) -> Entry {
        Entry { key, value, end: None, lifetime: None, is_operand: false }
    }

    /// The deletion of all keys from `key` up to `end`; of one key alone where `end` is not behind it.
    pub fn range(key: KeyId, end: KeyId) -> Entry {
        Entry { key, value: None, end: (end > key).then_some(end), lifetime: None, is_operand: false }
    }

    /// Of one key, which keeps the value for a time.
    pub fn expiring(key: KeyId, value: Value, lifetime: Lifetime) -> Entry {
        Entry { key, value: Some(value), end: None, lifetime: Some(lifetime), is_operand: false }
    }

    /// An operand for one key.
    pub fn operand(key: KeyId, value: Value) -> Entry {
        Entry { is_operand: true, ..Entry::new(key, Some(value)) }
    }

    /// The keys that it changes.
    pub fn touches(&self) -> Range<KeyId> {
        self.key..self.end.unwrap_or(self.key + 1)
    }

    fn renamed(&self, name: &impl Fn(KeyId) -> KeyId) -> Entry {
        match self.end {
            Some(end) => Entry::range(name(self.key), name(end)),
            None => Entry { key: name(self.key), ..*self },
        }
    }

    /// The stamp of the value, or [`TOMBSTONE`]; of an operand with [`OPERAND`] in it.
    pub fn stamp(&self) -> Stamp {
        self.value.map_or(TOMBSTONE, |value| if self.is_operand { value.stamp | OPERAND } else { value.stamp })
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.value, self.end) {
            (Some(value), _) => {
                write!(f, "k{} {} {value}", self.key, if self.is_operand { '+' } else { '=' })?;
                self.lifetime.map_or(Ok(()), |lifetime| write!(f, " {lifetime}"))
            }
            (None, Some(end)) => write!(f, "k{}..k{end} deleted", self.key),
            (None, None) => write!(f, "k{} deleted", self.key),
        }
    }
}

/// A place for a snapshot, of one client.
pub type Slot = u8;

/// One operation of one client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Writes a value.
    Put {
        /// The key.
        key: KeyId,
        /// The value.
        value: Value,
        /// What its acknowledgement promises.
        sync: SyncMode,
    },
    /// Writes a value, unless it would have to wait for the store's background work.
    Hurry {
        /// The key.
        key: KeyId,
        /// The value.
        value: Value,
        /// What its acknowledgement promises.
        sync: SyncMode,
        /// After how many milliseconds it is given up; `None` where it does not wait at all.
        within_ms: Option<u32>,
    },
    /// Deletes a key, which may be there or not.
    Delete {
        /// The key.
        key: KeyId,
        /// What its acknowledgement promises.
        sync: SyncMode,
    },
    /// Writes several changes as one. A key may occur more than once; the last change counts.
    Batch {
        /// The changes, at least one.
        entries: Vec<Entry>,
        /// What its acknowledgement promises.
        sync: SyncMode,
    },
    /// Reads keys and a range, then writes, and commits all of it as one.
    Transaction {
        /// Keys that it reads.
        reads: Vec<KeyId>,
        /// Whether it reads them in one call, and not one after the other.
        together: bool,
        /// A range that it reads after them, and at most how many entries.
        scan: Option<(Bounds, u32)>,
        /// What it writes, as [`each_once`] has it; there may be nothing.
        entries: Vec<Entry>,
        /// Whether its reads must still hold when it commits.
        serializable: bool,
        /// What its acknowledgement promises.
        sync: SyncMode,
    },
    /// Reads a key.
    Get {
        /// The key.
        key: KeyId,
        /// From the snapshot in this slot; nothing is done where the slot is empty.
        at: Option<Slot>,
    },
    /// Reads several keys as of one moment, in any order, some perhaps more than once; there may be none.
    MultiGet {
        /// The keys.
        keys: Vec<KeyId>,
        /// From the snapshot in this slot; nothing is done where the slot is empty.
        at: Option<Slot>,
    },
    /// Reads a range.
    Scan {
        /// The range.
        bounds: Bounds,
        /// Whether to go from the last key to the first.
        reverse: bool,
        /// At most so many entries.
        limit: Option<u32>,
        /// From the snapshot in this slot; nothing is done where the slot is empty.
        at: Option<Slot>,
    },
    /// Takes a snapshot into a slot; one that is there is released first.
    Snapshot {
        /// Where it is kept.
        slot: Slot,
    },
    /// Releases the snapshot in a slot, if there is one.
    Release {
        /// Where it is kept.
        slot: Slot,
    },
    /// Makes every acknowledged write durable.
    Sync,
    /// Moves memory into tables.
    Flush,
    /// Compacts a range.
    Compact {
        /// The range, of which the bounds are taken as inclusive.
        bounds: Bounds,
    },
    /// Drops a keyspace, and with it all its keys, durably.
    DropKeyspace {
        /// Its number, which is not 0.
        keyspace: u8,
    },
    /// Copies the store of one moment into a directory of its own, to be opened and looked at later.
    Checkpoint,
    /// Backs the store of one moment up beside earlier backups, to be restored and looked at later, and prunes the oldest.
    Backup,
    /// Writes the store of one moment to a file as one stream, of which a store is made later, and looked at.
    Export,
    /// Makes a store of what the client exported last, unless that was looked at already, to be looked at later.
    Import,
    /// Makes a store of what the client backed up last, unless that was looked at already, and of what the archive has behind it up to
    /// some point, to be looked at later.
    RestoreTo,
    /// Removes from the archive what no backup of the client needs.
    PruneArchive,
    /// Reads everything through a handle of the client that only reads, beside the store that is open: as another process does.
    Look {
        /// Whether it is opened anew, and not brought up to date where there is one.
        anew: bool,
    },
    /// Has the store read everything back that counts, while the other clients go on.
    Verify,
    /// Has the store raise the version of its format to the newest that it knows.
    Upgrade,
    /// Brings the file of one of those in quarantine back as it was, and has the store look at it, once all clients have paused.
    ReleaseTable {
        /// Which one, by its place among them; counted on from the first behind the last.
        nth: u8,
    },
    /// Has the store give one of the files in quarantine up, once all clients have paused.
    DiscardTable {
        /// Which one, as above.
        nth: u8,
    },
    /// Does nothing for so many milliseconds.
    Wait {
        /// Of virtual time.
        ms: u32,
    },
    /// Closes the store and opens it again, once all clients have paused.
    Reopen,
    /// Checks everything that must hold in a quiet moment, once all clients have paused.
    Check,
}

/// Kinds of [`Op`], as a scenario's workload names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OpKind {
    /// [`Op::Put`]
    Put,
    /// [`Op::Delete`]
    Delete,
    /// [`Op::Batch`]
    Batch,
    /// [`Op::Batch`] or [`Op::Transaction`] with deletions of ranges
    #[serde(rename = "delete-range")]
    DeleteRange,
    /// [`Op::Batch`] or [`Op::Transaction`] with values that expire
    #[serde(rename = "put-expiring")]
    PutExpiring,
    /// [`Op::Batch`] with operands, which are appended
    Merge,
    /// [`Op::Transaction`] with operands, that reads keys together
    #[serde(rename = "merge-transaction")]
    MergeTransaction,
    /// [`Op::Transaction`]
    Transaction,
    /// [`Op::Hurry`]
    Hurry,
    /// [`Op::Get`]
    Get,
    /// [`Op::MultiGet`]
    #[serde(rename = "multi-get")]
    MultiGet,
    /// [`Op::Scan`]
    Scan,
    /// [`Op::Snapshot`], and reads from it, and [`Op::Release`].
    Snapshot,
    /// [`Op::Sync`]
    Sync,
    /// [`Op::Flush`]
    Flush,
    /// [`Op::Compact`]
    Compact,
    /// [`Op::DropKeyspace`]
    #[serde(rename = "drop-keyspace")]
    DropKeyspace,
    /// [`Op::Checkpoint`]
    Checkpoint,
    /// [`Op::Backup`]
    Backup,
    /// [`Op::Export`]
    Export,
    /// [`Op::Import`]
    Import,
    /// [`Op::RestoreTo`]
    #[serde(rename = "restore-to")]
    RestoreTo,
    /// [`Op::PruneArchive`]
    #[serde(rename = "prune-archive")]
    PruneArchive,
    /// [`Op::Look`]
    Look,
    /// [`Op::Verify`]
    Verify,
    /// [`Op::Upgrade`]
    Upgrade,
    /// [`Op::ReleaseTable`]
    #[serde(rename = "release-table")]
    ReleaseTable,
    /// [`Op::DiscardTable`]
    #[serde(rename = "discard-table")]
    DiscardTable,
    /// [`Op::Wait`]
    Wait,
    /// [`Op::Reopen`]
    Reopen,
    /// [`Op::Check`]
    Check,
}

impl Op {
    /// Its kind.
    pub fn kind(&self) -> OpKind {
        match self {
            Op::Put { .. } => OpKind::Put,
            Op::Delete { .. } => OpKind::Delete,
            Op::Batch { .. } => OpKind::Batch,
            Op::Transaction { .. } => OpKind::Transaction,
            Op::Hurry { .. } => OpKind::Hurry,
            Op::Get { .. } => OpKind::Get,
            Op::MultiGet { .. } => OpKind::MultiGet,
            Op::Scan { .. } => OpKind::Scan,
            Op::Snapshot { .. } | Op::Release { .. } => OpKind::Snapshot,
            Op::Sync => OpKind::Sync,
            Op::Flush => OpKind::Flush,
            Op::Compact { .. } => OpKind::Compact,
            Op::DropKeyspace { .. } => OpKind::DropKeyspace,
            Op::Checkpoint => OpKind::Checkpoint,
            Op::Backup => OpKind::Backup,
            Op::Export => OpKind::Export,
            Op::Import => OpKind::Import,
            Op::RestoreTo => OpKind::RestoreTo,
            Op::PruneArchive => OpKind::PruneArchive,
            Op::Look { .. } => OpKind::Look,
            Op::Verify => OpKind::Verify,
            Op::Upgrade => OpKind::Upgrade,
            Op::ReleaseTable { .. } => OpKind::ReleaseTable,
            Op::DiscardTable { .. } => OpKind::DiscardTable,
            Op::Wait { .. } => OpKind::Wait,
            Op::Reopen => OpKind::Reopen,
            Op::Check => OpKind::Check,
        }
    }

    /// Calls `f` with each change that it writes, in order.
    pub fn each_entry(&self, mut f: impl FnMut(Entry)) {
        match self {
            Op::Put { key, value, .. } | Op::Hurry { key, value, .. } => f(Entry::new(*key, Some(*value))),
            Op::Delete { key, .. } => f(Entry::new(*key, None)),
            Op::Batch { entries, .. } | Op::Transaction { entries, .. } => entries.iter().for_each(|entry| f(*entry)),
            _ => {}
        }
    }

    /// The same operation, with values that last.
    pub fn lasting(&self) -> Op {
        let mut op = self.clone();
        if let Op::Batch { entries, .. } | Op::Transaction { entries, .. } = &mut op {
            entries.iter_mut().for_each(|entry| entry.lifetime = None);
        }
        op
    }

    /// The keys that it names.
    pub fn keys(&self) -> Vec<KeyId> {
        match self {
            Op::Get { key, .. } => vec![*key],
            Op::MultiGet { keys, .. } => keys.clone(),
            Op::Scan { bounds, .. } | Op::Compact { bounds } => bounds.keys(),
            Op::Transaction { reads, scan, entries, .. } => {
                let scanned = scan.iter().flat_map(|(bounds, _)| bounds.keys());
                let written = entries.iter().flat_map(|entry| [entry.key].into_iter().chain(entry.end));
                reads.iter().copied().chain(scanned).chain(written).collect()
            }
            _ => {
                let mut keys = Vec::new();
                self.each_entry(|entry| keys.extend([entry.key].into_iter().chain(entry.end)));
                keys
            }
        }
    }

    /// The same operation on other keys.
    pub fn renamed(&self, name: &impl Fn(KeyId) -> KeyId) -> Op {
        let mut op = self.clone();
        match &mut op {
            Op::Put { key, .. } | Op::Hurry { key, .. } | Op::Delete { key, .. } | Op::Get { key, .. } => {
                *key = name(*key)
            }
            Op::MultiGet { keys, .. } => keys.iter_mut().for_each(|key| *key = name(*key)),
            Op::Batch { entries, .. } => entries.iter_mut().for_each(|entry| *entry = entry.renamed(name)),
            Op::Scan { bounds, .. } | Op::Compact { bounds } => *bounds = bounds.renamed(name),
            Op::Transaction { reads, scan, entries, .. } => {
                reads.iter_mut().for_each(|key| *key = name(*key));
                scan.iter_mut().for_each(|(bounds, _)| *bounds = bounds.renamed(name));
                *entries = each_once(entries.iter().map(|entry| entry.renamed(name)));
            }
            _ => {}
        }
        op
    }

    /// Reads the line of text that [`Op`]'s `Display` writes. The error says what was expected.
    pub fn parse(line: &str) -> Result<Op, String> {
        let spaced = line.replace('[', " [ ").replace(']', " ] ").replace(',', " , ");
        let mut words = Words { words: spaced.split_whitespace().peekable(), line };
        let op = words.op()?;
        match words.words.next() {
            None => Ok(op),
            Some(word) => Err(format!("{line:?}: nothing more expected, found {word:?}")),
        }
    }
}

/// The changes as a transaction makes them: deletions of ranges, and then those of each key, keys ascending, if no range behind
/// them holds the key. Of a key these are the last that is no operand, if there is such a one, and the operands behind it. Operands
/// upon a key that a range has deleted are merged upon a deletion of the key.
pub fn each_once(entries: impl IntoIterator<Item = Entry>) -> Vec<Entry> {
    let mut ranges: Vec<Entry> = Vec::new();
    let mut last: BTreeMap<KeyId, Vec<Entry>> = BTreeMap::new();
    for entry in entries {
        if entry.end.is_some() {
            last.retain(|key, _| !entry.touches().contains(key));
            ranges.push(entry);
            continue;
        }
        let own = last.entry(entry.key).or_default();
        if !entry.is_operand {
            own.clear();
        } else if own.is_empty() && ranges.iter().any(|range| range.touches().contains(&entry.key)) {
            own.push(Entry::new(entry.key, None));
        }
        own.push(entry);
    }
    ranges.extend(last.into_values().flatten());
    ranges
}

fn sync_word(sync: SyncMode) -> &'static str {
    match sync {
        SyncMode::Default => "",
        SyncMode::Always => " always",
        SyncMode::Buffered => " buffered",
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Op::Put { key, value, sync } => write!(f, "put k{key} = {value}{}", sync_word(*sync)),
            Op::Hurry { key, value, sync, within_ms } => {
                write!(f, "hurry k{key} = {value}{}", sync_word(*sync))?;
                match within_ms {
                    None => f.write_str(" no-wait"),
                    Some(ms) => write!(f, " within {ms}ms"),
                }
            }
            Op::Delete { key, sync } => write!(f, "delete k{key}{}", sync_word(*sync)),
            Op::Batch { entries, sync } => {
                f.write_str("batch [")?;
                for (i, entry) in entries.iter().enumerate() {
                    write!(f, "{}{entry}", if i == 0 { "" } else { ", " })?;
                }
                write!(f, "]{}", sync_word(*sync))
            }
            Op::Transaction { reads, together, scan, entries, serializable, sync } => {
                f.write_str(if *serializable { "transaction reads [" } else { "transaction snapshot reads [" })?;
                for (i, key) in reads.iter().enumerate() {
                    write!(f, "{}k{key}", if i == 0 { "" } else { ", " })?;
                }
                f.write_str(if *together { "] together" } else { "]" })?;
                scan.map_or(Ok(()), |(bounds, limit)| write!(f, " scans{bounds} limit {limit}"))?;
                f.write_str(" writes [")?;
                for (i, entry) in entries.iter().enumerate() {
                    write!(f, "{}{entry}", if i == 0 { "" } else { ", " })?;
                }
                write!(f, "]{}", sync_word(*sync))
            }
            Op::Get { key, at } => {
                write!(f, "get k{key}")?;
                at.map_or(Ok(()), |slot| write!(f, " at s{slot}"))
            }
            Op::MultiGet { keys, at } => {
                f.write_str("multi-get [")?;
                for (i, key) in keys.iter().enumerate() {
                    write!(f, "{}k{key}", if i == 0 { "" } else { ", " })?;
                }
                f.write_str("]")?;
                at.map_or(Ok(()), |slot| write!(f, " at s{slot}"))
            }
            Op::Scan { bounds, reverse, limit, at } => {
                write!(f, "scan{bounds}{}", if *reverse { " reverse" } else { "" })?;
                limit.map_or(Ok(()), |limit| write!(f, " limit {limit}"))?;
                at.map_or(Ok(()), |slot| write!(f, " at s{slot}"))
            }
            Op::Snapshot { slot } => write!(f, "snapshot s{slot}"),
            Op::Release { slot } => write!(f, "release s{slot}"),
            Op::Sync => f.write_str("sync"),
            Op::Flush => f.write_str("flush"),
            Op::Compact { bounds } => write!(f, "compact{bounds}"),
            Op::DropKeyspace { keyspace } => write!(f, "drop-keyspace {keyspace}"),
            Op::Checkpoint => f.write_str("checkpoint"),
            Op::Backup => f.write_str("backup"),
            Op::Export => f.write_str("export"),
            Op::Import => f.write_str("import"),
            Op::RestoreTo => f.write_str("restore-to"),
            Op::PruneArchive => f.write_str("prune-archive"),
            Op::Look { anew } => f.write_str(if *anew { "look anew" } else { "look" }),
            Op::Verify => f.write_str("verify"),
            Op::Upgrade => f.write_str("upgrade"),
            Op::ReleaseTable { nth } => write!(f, "release-table {nth}"),
            Op::DiscardTable { nth } => write!(f, "discard-table {nth}"),
            Op::Wait { ms } => write!(f, "wait {ms}ms"),
            Op::Reopen => f.write_str("reopen"),
            Op::Check => f.write_str("check"),
        }
    }
}

/// The words of a line, taken one after the other.
struct Words<'a> {
    words: std::iter::Peekable<std::str::SplitWhitespace<'a>>,
    line: &'a str,
}

impl<'a> Words<'a> {
    fn next(&mut self, expected: &str) -> Result<&'a str, String> {
        self.words.next().ok_or_else(|| format!("{:?}: {expected} expected, found the end of the line", self.line))
    }

    fn take(&mut self, word: &str) -> bool {
        self.words.next_if(|next| *next == word).is_some()
    }

    fn word(&mut self, word: &str) -> Result<(), String> {
        if self.take(word) { Ok(()) } else { Err(format!("{:?}: {word:?} expected", self.line)) }
    }

    /// Things in brackets, with commas between them; there may be none.
    fn list<T>(&mut self, example: &str, item: impl Fn(&mut Self) -> Result<T, String>) -> Result<Vec<T>, String> {
        let mut items = Vec::new();
        if self.take("[") && !self.take("]") {
            items.push(item(self)?);
            while self.take(",") {
                items.push(item(self)?);
            }
            if !self.take("]") {
                return Err(format!("{:?}: a list such as {example} expected", self.line));
            }
        }
        Ok(items)
    }

    fn number<N: std::str::FromStr>(&self, word: &str, prefix: &str, expected: &str) -> Result<N, String> {
        word.strip_prefix(prefix)
            .and_then(|digits| digits.parse().ok())
            .ok_or_else(|| format!("{:?}: {expected} expected, found {word:?}", self.line))
    }

    fn key(&mut self) -> Result<KeyId, String> {
        let word = self.next("a key such as k3")?;
        self.number(word, "k", "a key such as k3")
    }

    fn slot(&mut self) -> Result<Slot, String> {
        let word = self.next("a snapshot such as s1")?;
        self.number(word, "s", "a snapshot such as s1")
    }

    fn at(&mut self) -> Result<Option<Slot>, String> {
        if self.take("at") { self.slot().map(Some) } else { Ok(None) }
    }

    fn sync(&mut self) -> SyncMode {
        if self.take("always") {
            SyncMode::Always
        } else if self.take("buffered") {
            SyncMode::Buffered
        } else {
            SyncMode::Default
        }
    }

    fn value(&mut self) -> Result<Value, String> {
        const EXPECTED: &str = "a value such as #17:512, or empty,";
        let word = self.next(EXPECTED)?;
        if word == "empty" {
            return Ok(Value::NOTHING);
        }
        let (stamp, bytes) =
            word.split_once(':').ok_or_else(|| format!("{:?}: {EXPECTED} expected, found {word:?}", self.line))?;
        let value = Value { stamp: self.number(stamp, "#", EXPECTED)?, bytes: self.number(bytes, "", EXPECTED)? };
        let lengths = VALUE_BYTES_MIN..=VALUE_BYTES_MAX;
        if value.stamp < STAMP_FIRST || !lengths.contains(&value.bytes) {
            return Err(format!(
                "{:?}: {word:?} is no value: stamps start at 2, lengths lie in {lengths:?}",
                self.line
            ));
        }
        Ok(value)
    }

    fn place(&mut self) -> Result<u8, String> {
        const EXPECTED: &str = "a place such as 2";
        let word = self.next(EXPECTED)?;
        self.number(word, "", EXPECTED)
    }

    fn ms(&mut self) -> Result<u32, String> {
        const EXPECTED: &str = "milliseconds such as 250ms";
        let word = self.next(EXPECTED)?;
        self.number(word.strip_suffix("ms").unwrap_or_default(), "", EXPECTED)
    }

    fn lifetime(&mut self) -> Result<Option<Lifetime>, String> {
        Ok(if self.take("for") {
            Some(Lifetime::For(self.ms()?))
        } else if self.take("until") {
            Some(Lifetime::Until(self.ms()?))
        } else {
            None
        })
    }

    fn entry(&mut self) -> Result<Entry, String> {
        if let Some((start, end)) = self.words.peek().and_then(|word| word.split_once("..")) {
            const EXPECTED: &str = "a range such as k3..k7";
            self.words.next();
            let (start, end) = (self.number(start, "k", EXPECTED)?, self.number(end, "k", EXPECTED)?);
            self.word("deleted")?;
            if end <= start {
                return Err(format!("{:?}: the range k{start}..k{end} is empty", self.line));
            }
            return Ok(Entry::range(start, end));
        }
        let key = self.key()?;
        if self.take("deleted") {
            return Ok(Entry::new(key, None));
        }
        if self.take("+") {
            let value = self.value()?;
            if value == Value::NOTHING {
                return Err(format!("{:?}: an operand is not empty", self.line));
            }
            return Ok(Entry::operand(key, value));
        }
        if !self.take("=") {
            return Err(format!("{:?}: '=', '+' or 'deleted' expected after k{key}", self.line));
        }
        let value = self.value()?;
        Ok(match self.lifetime()? {
            Some(lifetime) => Entry::expiring(key, value, lifetime),
            None => Entry::new(key, Some(value)),
        })
    }

    fn bounds(&mut self) -> Result<Bounds, String> {
        if self.take("prefix") {
            return self.key().map(Bounds::Prefix);
        }
        let (mut from, mut to) = (Bound::Unbounded, Bound::Unbounded);
        while let Some(word) = self.words.next_if(|word| word.starts_with(['<', '>'])) {
            const EXPECTED: &str = "a bound such as >=k3";
            let bound = match word.as_bytes().get(1) {
                Some(b'=') => Bound::Included(self.number(&word[2..], "k", EXPECTED)?),
                _ => Bound::Excluded(self.number(&word[1..], "k", EXPECTED)?),
            };
            if word.starts_with('>') {
                from = bound;
            } else {
                to = bound;
            }
        }
        Ok(Bounds::Range(from, to))
    }

    fn op(&mut self) -> Result<Op, String> {
        const EXPECTED: &str = "an operation such as put, get or flush";
        Ok(match self.next(EXPECTED)? {
            "put" => match self.entry()? {
                Entry { key, value: Some(value), lifetime: None, is_operand: false, .. } => {
                    Op::Put { key, value, sync: self.sync() }
                }
                Entry { value: Some(_), .. } => {
                    return Err(format!("{:?}: a put lasts, and takes the place of all; say batch", self.line));
                }
                Entry { .. } => return Err(format!("{:?}: a put has a value; say delete", self.line)),
            },
            "hurry" => match self.entry()? {
                Entry { key, value: Some(value), .. } => {
                    let sync = self.sync();
                    let within_ms = if self.take("no-wait") {
                        None
                    } else {
                        self.word("within")?;
                        let word = self.next("a time such as 5ms")?;
                        let digits = word.strip_suffix("ms").unwrap_or_default();
                        Some(self.number(digits, "", "a time such as 5ms")?)
                    };
                    Op::Hurry { key, value, sync, within_ms }
                }
                Entry { .. } => return Err(format!("{:?}: a hurried put has a value", self.line)),
            },
            "delete" => Op::Delete { key: self.key()?, sync: self.sync() },
            "batch" => {
                let entries = self.list("[k1 = #2:8, k2 deleted]", Words::entry)?;
                if entries.is_empty() {
                    return Err(format!("{:?}: a batch writes something", self.line));
                }
                Op::Batch { entries, sync: self.sync() }
            }
            "transaction" => {
                let serializable = !self.take("snapshot");
                self.word("reads")?;
                let reads = self.list("[k1, k2]", Words::key)?;
                let together = self.take("together");
                let scan = if self.take("scans") {
                    let bounds = self.bounds()?;
                    self.word("limit")?;
                    let word = self.next("a number")?;
                    Some((bounds, self.number(word, "", "a number")?))
                } else {
                    None
                };
                self.word("writes")?;
                let entries = each_once(self.list("[k1 = #2:8, k2 deleted]", Words::entry)?);
                Op::Transaction { reads, together, scan, entries, serializable, sync: self.sync() }
            }
            "get" => Op::Get { key: self.key()?, at: self.at()? },
            "multi-get" => Op::MultiGet { keys: self.list("[k1, k2]", Words::key)?, at: self.at()? },
            "scan" => {
                let bounds = self.bounds()?;
                let reverse = self.take("reverse");
                let limit = if self.take("limit") {
                    let word = self.next("a number")?;
                    Some(self.number(word, "", "a number")?)
                } else {
                    None
                };
                Op::Scan { bounds, reverse, limit, at: self.at()? }
            }
            "snapshot" => Op::Snapshot { slot: self.slot()? },
            "release" => Op::Release { slot: self.slot()? },
            "sync" => Op::Sync,
            "flush" => Op::Flush,
            "compact" => Op::Compact { bounds: self.bounds()? },
            "drop-keyspace" => {
                const EXPECTED: &str = "a keyspace such as 2";
                let word = self.next(EXPECTED)?;
                let keyspace = self.number(word, "", EXPECTED)?;
                if !(1..KEYSPACES_END).contains(&keyspace) {
                    return Err(format!("{:?}: {EXPECTED} expected, found {keyspace}", self.line));
                }
                Op::DropKeyspace { keyspace }
            }
            "checkpoint" => Op::Checkpoint,
            "backup" => Op::Backup,
            "export" => Op::Export,
            "import" => Op::Import,
            "restore-to" => Op::RestoreTo,
            "prune-archive" => Op::PruneArchive,
            "look" => Op::Look { anew: self.take("anew") },
            "verify" => Op::Verify,
            "upgrade" => Op::Upgrade,
            "release-table" => Op::ReleaseTable { nth: self.place()? },
            "discard-table" => Op::DiscardTable { nth: self.place()? },
            "wait" => Op::Wait { ms: self.ms()? },
            "reopen" => Op::Reopen,
            "check" => Op::Check,
            word => return Err(format!("{:?}: {EXPECTED} expected, found {word:?}", self.line)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_is_a_line_that_reads_back() {
        let lines = [
            "put k3 = #17:512",
            "put k0 = empty always",
            "delete k3 buffered",
            "batch [k3 = #18:64, k5 deleted, k3 = empty] always",
            "batch [k3..k5 deleted, k3 = empty]",
            "batch [k3 + #18:8, k3 + #19:4, k3 = #20:4] always",
            "batch [k3 = #18:64 for 250ms, k5 = #19:64 until 0ms, k6 = #20:4] buffered",
            "transaction reads [] writes [k2 = #7:64 for 1ms]",
            "wait 30ms",
            "transaction reads [] writes [k3..k5 deleted, k2 = #7:64]",
            "transaction reads [k1, k4] scans >=k3 <k9 limit 5 writes [k1 = #7:64, k4 deleted] buffered",
            "transaction snapshot reads [] writes []",
            "transaction reads [k1, k4, k1] together scans >=k3 limit 5 writes [k1 + #7:64, k1 + #8:4, k4 = #9:4, k4 + #10:4]",
            "transaction reads [] writes [k3..k5 deleted, k3 deleted, k3 + #7:64]",
            "get k3",
            "get k3 at s1",
            "multi-get []",
            "multi-get [k3, k1, k3] at s1",
            "scan",
            "scan >=k3 <k9 reverse limit 10 at s2",
            "scan >k3 <=k9",
            "scan prefix k4 limit 0",
            "snapshot s1",
            "release s255",
            "sync",
            "flush",
            "compact",
            "compact >=k1 <=k9",
            "drop-keyspace 2",
            "checkpoint",
            "backup",
            "export",
            "import",
            "restore-to",
            "prune-archive",
            "look",
            "look anew",
            "verify",
            "upgrade",
            "release-table 3",
            "discard-table 0",
            "reopen",
            "check",
        ];
        for line in lines {
            assert_eq!(Op::parse(line).expect(line).to_string(), line);
        }
    }

    #[test]
    fn a_transaction_has_of_each_key_what_counts() {
        let told = |line: &str| Op::parse(line).expect(line).to_string();
        insta::assert_snapshot!(
            told("transaction reads [] writes [k3 + #7:4, k3 = #8:4, k3 + #9:4, k2 + #10:4, k3 + #11:4]"),
            @"transaction reads [] writes [k2 + #10:4, k3 = #8:4, k3 + #9:4, k3 + #11:4]"
        );
        insta::assert_snapshot!(
            told("transaction reads [] writes [k3 + #7:4, k1..k4 deleted, k2 + #8:4, k4 + #9:4]"),
            @"transaction reads [] writes [k1..k4 deleted, k2 deleted, k2 + #8:4, k4 + #9:4]"
        );
    }

    #[test]
    fn a_line_that_is_no_operation_says_what_was_expected() {
        let message = |line: &str| Op::parse(line).expect_err("not an operation");
        insta::assert_snapshot!(message("putt k3"), @r#""putt k3": an operation such as put, get or flush expected, found "putt""#);
        insta::assert_snapshot!(message("put k3 = 5"), @r##""put k3 = 5": a value such as #17:512, or empty, expected, found "5""##);
        insta::assert_snapshot!(message("put k3 = #5:3"), @r##""put k3 = #5:3": "#5:3" is no value: stamps start at 2, lengths lie in 4..=65536"##);
        insta::assert_snapshot!(message("get 3"), @r#""get 3": a key such as k3 expected, found "3""#);
        insta::assert_snapshot!(message("batch []"), @r#""batch []": a batch writes something"#);
        insta::assert_snapshot!(message("drop-keyspace 0"), @r#""drop-keyspace 0": a keyspace such as 2 expected, found 0"#);
        insta::assert_snapshot!(message("sync now"), @r#""sync now": nothing more expected, found "now""#);
    }

    #[test]
    fn a_value_is_recognised_by_its_bytes_and_a_damaged_one_is_not() {
        let mut stamps = Stamps::default();
        for (stamp, bytes) in [(2, 4), (3, 5), (7, 4096), (8, VALUE_BYTES_MAX), (1_000_000, 512)] {
            let value = Value { stamp, bytes };
            stamps.add(value);
            let mut content = value.to_bytes();
            assert_eq!(content.len(), bytes as usize);
            assert_eq!(stamps.recognise(&content), Some(stamp));
            let last = content.len() - 1;
            content[last] ^= 1;
            assert_ne!(stamps.recognise(&content), Some(stamp));
            assert_eq!(stamps.recognise(&content[..last]), None);
        }
        let (base, one, other) =
            (Value { stamp: 7, bytes: 4096 }, Value { stamp: 2, bytes: 4 }, Value { stamp: 3, bytes: 5 });
        let appended = |parts: &[Vec<u8>]| stamps.recognise(&parts.concat());
        let both = written_upon(written_upon(7, 2 | OPERAND), 3 | OPERAND);
        assert_eq!(appended(&[base.to_bytes(), one.to_operand(), other.to_operand()]), Some(both));
        assert_ne!(appended(&[base.to_bytes(), other.to_operand(), one.to_operand()]), Some(both), "the order counts");
        assert_ne!(appended(&[one.to_operand(), other.to_operand()]), Some(both), "and so does the base");
        assert_eq!(appended(&[one.to_operand()]), Some(written_upon(TOMBSTONE, 2 | OPERAND)));
        assert_eq!(written_upon(EMPTY, 2 | OPERAND), written_upon(TOMBSTONE, 2 | OPERAND));
        let whole = [base.to_bytes(), one.to_operand(), other.to_operand()].concat();
        assert!(outlives(&whole, &[one.to_operand(), other.to_operand()].concat()));
        assert!(!outlives(&whole, &other.to_operand()), "one is missing");
        assert!(!outlives(&whole, &one.to_operand()), "the last is missing");
        assert!(!outlives(&whole, &whole) && !outlives(&whole, b"") && !outlives(&one.to_operand(), &one.to_operand()));
        assert_eq!((appended(&[base.to_bytes(), one.to_bytes()]), written_upon(both, 7)), (None, 7));
        assert_eq!(stamps.recognise(b""), Some(EMPTY));
        assert_eq!(stamps.recognise(&[0, 0, 0, 0]), None);
        assert_eq!(stamps.recognise(&[6, 0, 0, 0]), None, "a stamp that nobody wrote");
    }

    #[test]
    fn bounds_choose_the_same_keys_as_numbers_and_as_bytes() {
        let keys = Keys::new(
            [&b""[..], b"\0", b"a", b"a\0", b"aa", b"ab", b"b", b"\xfe", b"\xff", b"\xff\xff", b"\xff\xffz"]
                .map(<[u8]>::to_vec)
                .to_vec(),
        );
        let mut all = vec![Bounds::ALL];
        for key in 0..keys.count() as KeyId {
            all.push(Bounds::Prefix(key));
            for other in 0..keys.count() as KeyId {
                all.push(Bounds::Range(Bound::Included(key), Bound::Excluded(other)));
                all.push(Bounds::Range(Bound::Excluded(key), Bound::Included(other)));
            }
        }
        for bounds in all {
            let mut successor = Vec::new();
            let (from, to) = bounds.to_bytes(&keys, &mut successor);
            let by_bytes: Vec<KeyId> = (0..keys.count() as KeyId)
                .filter(|key| {
                    let key = keys.bytes(*key);
                    let above = match from {
                        Bound::Unbounded => true,
                        Bound::Included(from) => key >= from,
                        Bound::Excluded(from) => key > from,
                    };
                    let below = match to {
                        Bound::Unbounded => true,
                        Bound::Included(to) => key <= to,
                        Bound::Excluded(to) => key < to,
                    };
                    above && below
                })
                .collect();
            assert_eq!(keys.within(&bounds).collect::<Vec<_>>(), by_bytes, "{bounds}");
        }
    }
}
