//! Keys as the engine orders them: a user key, and behind it the sequence number and kind of the write.
//!
//! ```text
//! internal key   | user key (any bytes, also none) | trailer: 8 bytes |
//! trailer        !(seqno << 8 | kind), big-endian
//! ```
//!
//! The complement makes newer writes sort first among those of one user key, by plain comparison of the eight bytes. User
//! keys are compared first and on their own: one can be a prefix of another.
//!
//! ```text
//! value of kind 3   | expiry: 8 bytes, big-endian, milliseconds since the Unix epoch | the value that the user knows |
//! ```
//!
//! An entry of kind 3 says of its key what a put says, until the store's time has come to its expiry, and what a delete says
//! from then on: whatever lies further down stays hidden. The largest expiry never comes.
//!
//! ```text
//! value of kind 5   | expiry: 8 bytes, big-endian, as above; the largest where there is none
//! 32 bytes          | number of the blob file u64 | offset of the record u64 | length of the value u32 | checksum u32 |
//! ```
//!
//! An entry of kind 5 says what one of kind 3 says, and its value lies in a [blob file](crate::blob), in a record that carries
//! this checksum. Only tables hold such entries: a log has every value whole.
//!
//! U1. No two entries of one keyspace have the same user key, seqno and kind.

use crate::coding::{Decoder, put_varint};
use bytes::Bytes;
use std::cmp::Ordering;
use std::fmt;

/// The position of a write in the one history of a store; 56 bits. Zero is before every write.
pub type SeqNo = u64;

/// The largest sequence number.
pub const SEQNO_MAX: SeqNo = (1 << 56) - 1;

/// The number of a keyspace. None is given to two keyspaces of a store, not even after one was dropped.
pub type KeyspaceId = u32;

/// The keyspace that every store has.
pub const KEYSPACE_DEFAULT: KeyspaceId = 0;

/// What [`KEYSPACE_DEFAULT`] is called.
pub const KEYSPACE_DEFAULT_NAME: &str = "default";

/// The longest name of a keyspace, in bytes. The shortest has one.
pub const KEYSPACE_NAME_LEN_MAX: usize = 255;

/// The most keyspaces that a store can have beside [`KEYSPACE_DEFAULT`].
pub const KEYSPACES_MAX: usize = 1024;

/// Bytes behind the user key in an internal key.
pub const TRAILER_LEN: usize = 8;

/// The longest key, in bytes.
pub const KEY_LEN_MAX: usize = 64 * 1024;

/// The longest value, in bytes.
pub const VALUE_LEN_MAX: usize = 1024 * 1024 * 1024;

/// Bytes before the value of an entry of kind 3.
pub const EXPIRY_LEN: usize = 8;

/// The expiry, in milliseconds since the Unix epoch, that never comes.
pub const EXPIRES_NEVER: u64 = u64::MAX;

/// What an entry says of its key. The numbers are on disk for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    /// The key is absent.
    Delete = 0,
    /// The key has this value.
    Put = 1,
    /// All keys from this one up to another are absent.
    RangeDelete = 2,
    /// The key has this value until a time, and is absent from then on.
    PutExpiring = 3,
    /// An operand that is to be [merged](crate::operator) upon what is below.
    Merge = 4,
    /// The key has a value that lies in a blob file, perhaps until a time.
    BlobReference = 5,
    /// Reserved: a mark of a transaction.
    TransactionMark = 6,
}

impl Kind {
    /// The kind with this number, if there is one.
    pub fn from_u8(number: u8) -> Option<Kind> {
        Some(match number {
            0 => Kind::Delete,
            1 => Kind::Put,
            2 => Kind::RangeDelete,
            3 => Kind::PutExpiring,
            4 => Kind::Merge,
            5 => Kind::BlobReference,
            6 => Kind::TransactionMark,
            _ => return None,
        })
    }

    /// Whether this version of the library writes and understands it as an entry of one key. A store that holds others, but
    /// for range deletes in the places that are made for them, is newer.
    pub fn is_point(self) -> bool {
        matches!(self, Kind::Delete | Kind::Put | Kind::PutExpiring | Kind::Merge | Kind::BlobReference)
    }

    /// Whether this can be the value of an entry of this kind, as it is stored.
    pub fn admits_value(self, value: &[u8]) -> bool {
        match self {
            Kind::PutExpiring => (EXPIRY_LEN..=EXPIRY_LEN + VALUE_LEN_MAX).contains(&value.len()),
            Kind::BlobReference => BlobReference::decode(value).is_some(),
            _ => value.len() <= VALUE_LEN_MAX,
        }
    }

    /// When an entry of this kind with this value expires; `None` where it does not, or its value is none of that kind.
    pub fn expires_ms(self, value: &[u8]) -> Option<u64> {
        match self {
            Kind::PutExpiring => expiry_of(value),
            Kind::BlobReference => expiry_of(value).filter(|&expires_ms| expires_ms != EXPIRES_NEVER),
            _ => None,
        }
    }
}

/// The largest kind: a search for (key, seqno) with it finds the first entry at or below that seqno.
pub const KIND_FOR_SEEK: Kind = Kind::TransactionMark;

/// Bytes of the value of an entry of kind 5.
pub const REFERENCE_LEN: usize = 32;

/// Where a value lies that is not in its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlobReference {
    /// When it expires, in milliseconds since the Unix epoch; [`EXPIRES_NEVER`] where it does not.
    pub expires_ms: u64,
    /// The number of the blob file.
    pub file: u64,
    /// Where its record starts there.
    pub offset: u64,
    /// Bytes of the value, at most [`VALUE_LEN_MAX`].
    pub len: u32,
    /// The checksum that the record carries.
    pub checksum: u32,
}

impl BlobReference {
    /// As it is stored.
    pub fn encode(&self) -> [u8; REFERENCE_LEN] {
        let mut out = [0; REFERENCE_LEN];
        out[..8].copy_from_slice(&self.expires_ms.to_be_bytes());
        out[8..16].copy_from_slice(&self.file.to_le_bytes());
        out[16..24].copy_from_slice(&self.offset.to_le_bytes());
        out[24..28].copy_from_slice(&self.len.to_le_bytes());
        out[28..].copy_from_slice(&self.checksum.to_le_bytes());
        out
    }

    /// From what is stored; `None` where that is no reference.
    #[inline]
    pub fn decode(stored: &[u8]) -> Option<BlobReference> {
        let stored: &[u8; REFERENCE_LEN] = stored.try_into().ok()?;
        let (expiry, rest) = stored.split_first_chunk()?;
        let (file, rest) = rest.split_first_chunk()?;
        let (offset, rest) = rest.split_first_chunk()?;
        let (len, rest) = rest.split_first_chunk()?;
        let reference = BlobReference {
            expires_ms: u64::from_be_bytes(*expiry),
            file: u64::from_le_bytes(*file),
            offset: u64::from_le_bytes(*offset),
            len: u32::from_le_bytes(*len),
            checksum: u32::from_le_bytes(*rest.first_chunk()?),
        };
        (reference.len as usize <= VALUE_LEN_MAX).then_some(reference)
    }
}

/// A value that a reader sees, where it lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stored {
    /// Here.
    Here(Bytes),
    /// In a blob file.
    InBlob(BlobReference),
}

/// What one place (a memtable, a table) says of a key. Where it says nothing, the search goes on further down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// The key has this value.
    Found(Bytes),
    /// The key was deleted: it is absent, whatever lies further down.
    Deleted,
    /// The key has this value until the store's time has come to `expires_ms`, and is absent then, whatever lies further down.
    Expiring {
        /// In milliseconds since the Unix epoch.
        expires_ms: u64,
        /// The value.
        value: Bytes,
    },
    /// The key has the value that lies there, until its time has come.
    InBlob(BlobReference),
    /// What the key has is what this operand makes of older ones and of a value, which may lie here and further down.
    Operand,
}

impl Lookup {
    /// What a stored entry of one key says. `None` where it is of a kind that says nothing of one key, or where its value is
    /// none of that kind.
    #[inline]
    pub fn of(kind: Kind, value: impl FnOnce() -> Bytes) -> Option<Lookup> {
        match kind {
            Kind::Put => Some(Lookup::Found(value())),
            Kind::Delete => Some(Lookup::Deleted),
            Kind::PutExpiring => {
                let mut value = value();
                let expires_ms = expiry_of(&value)?;
                Some(Lookup::Expiring { expires_ms, value: value.split_off(EXPIRY_LEN) })
            }
            Kind::Merge => Some(Lookup::Operand),
            Kind::BlobReference => BlobReference::decode(&value()).map(Lookup::InBlob),
            _ => None,
        }
    }

    /// The value that a reader sees, for whom it is `now_ms`; that is asked for only where it matters. Not for an operand, which
    /// says too little.
    #[inline]
    pub fn seen_at(self, now_ms: impl FnOnce() -> u64) -> Option<Stored> {
        match self {
            Lookup::Found(value) => Some(Stored::Here(value)),
            Lookup::Deleted => None,
            Lookup::Operand => unreachable!("an operand alone has no value"),
            Lookup::Expiring { expires_ms, value } => {
                (!has_expired(expires_ms, now_ms())).then_some(Stored::Here(value))
            }
            Lookup::InBlob(reference) => {
                let lasts = reference.expires_ms == EXPIRES_NEVER || !has_expired(reference.expires_ms, now_ms());
                lasts.then_some(Stored::InBlob(reference))
            }
        }
    }

    /// When what it says of the key ends; [`EXPIRES_NEVER`] where it does not.
    #[inline]
    pub fn expires_ms(&self) -> u64 {
        match self {
            Lookup::Expiring { expires_ms, .. } => *expires_ms,
            Lookup::InBlob(reference) => reference.expires_ms,
            _ => EXPIRES_NEVER,
        }
    }
}

/// Whether an expiry has come.
#[inline]
pub fn has_expired(expires_ms: u64, now_ms: u64) -> bool {
    expires_ms <= now_ms && expires_ms != EXPIRES_NEVER
}

/// When a stored value of kind 3 expires; `None` where it is too short.
#[inline]
pub fn expiry_of(stored: &[u8]) -> Option<u64> {
    stored.first_chunk().map(|expiry| u64::from_be_bytes(*expiry))
}

/// What is known together of entries that expire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expiries {
    /// How many there are; at least 1.
    pub count: u64,
    /// When the first of them expires, in milliseconds since the Unix epoch.
    pub first_ms: u64,
    /// When the last of them does.
    pub last_ms: u64,
}

impl Expiries {
    /// Of one entry.
    pub fn of(expires_ms: u64) -> Expiries {
        Expiries { count: 1, first_ms: expires_ms, last_ms: expires_ms }
    }

    /// With one more.
    pub fn and(self, expires_ms: u64) -> Expiries {
        Expiries {
            count: self.count + 1,
            first_ms: self.first_ms.min(expires_ms),
            last_ms: self.last_ms.max(expires_ms),
        }
    }

    /// Whether this can be said of some of so many entries.
    pub fn can_be_among(self, entries: u64) -> bool {
        (1..=entries).contains(&self.count) && self.first_ms <= self.last_ms
    }

    /// Appends the encoded form: three varints.
    fn encode_into(&self, out: &mut Vec<u8>) {
        for number in [self.count, self.first_ms, self.last_ms] {
            put_varint(out, number);
        }
    }

    /// The same for some or none, in which case there is nothing, or three zeros where `more` follows.
    pub fn encode_before_blobs(expiring: Option<Expiries>, more: bool, out: &mut Vec<u8>) {
        match expiring {
            Some(expiring) => expiring.encode_into(out),
            None if more => Expiries { count: 0, first_ms: 0, last_ms: 0 }.encode_into(out),
            None => {}
        }
    }

    /// Reads what there is. What could have been left out is never written: none are three zeros, and more follows them.
    pub fn decode_before_blobs(decoder: &mut Decoder<'_>) -> Option<Option<Expiries>> {
        let found = Expiries { count: decoder.varint()?, first_ms: decoder.varint()?, last_ms: decoder.varint()? };
        if found.count > 0 {
            return Some(Some(found));
        }
        (found.first_ms == 0 && found.last_ms == 0 && !decoder.is_empty()).then_some(None)
    }
}

/// The internal key at which a range of keys ends that does not hold `end` itself: before every entry of `end`.
pub fn range_end(end: &[u8]) -> Vec<u8> {
    InternalKey::new(end, SEQNO_MAX, Kind::RangeDelete).encode()
}

/// Whether an encoded internal key is such an end.
#[inline]
pub fn is_range_end(encoded: &[u8]) -> bool {
    encoded.ends_with(&trailer(SEQNO_MAX, Kind::RangeDelete))
}

/// The trailer for a write.
#[inline]
pub fn trailer(seqno: SeqNo, kind: Kind) -> [u8; TRAILER_LEN] {
    debug_assert!(seqno <= SEQNO_MAX, "seqno {seqno} needs more than 56 bits");
    (!(seqno << 8 | kind as u64)).to_be_bytes()
}

/// An internal key in parts, borrowed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct InternalKey<'a> {
    /// The key that the user knows.
    pub user: &'a [u8],
    /// When it was written.
    pub seqno: SeqNo,
    /// What was written.
    pub kind: Kind,
}

impl<'a> InternalKey<'a> {
    /// In parts.
    pub fn new(user: &'a [u8], seqno: SeqNo, kind: Kind) -> InternalKey<'a> {
        InternalKey { user, seqno, kind }
    }

    /// Splits the encoded form. `None` where it is too short or of an unknown kind.
    #[inline]
    pub fn decode(encoded: &'a [u8]) -> Option<InternalKey<'a>> {
        let (user, trailer) = encoded.split_last_chunk::<TRAILER_LEN>()?;
        let packed = !u64::from_be_bytes(*trailer);
        Some(InternalKey { user, seqno: packed >> 8, kind: Kind::from_u8(packed as u8)? })
    }

    /// Appends the encoded form.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.user);
        out.extend_from_slice(&trailer(self.seqno, self.kind));
    }

    /// The encoded form.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.user.len() + TRAILER_LEN);
        self.encode_into(&mut out);
        out
    }
}

impl Ord for InternalKey<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.user.cmp(other.user).then_with(|| (other.seqno, other.kind).cmp(&(self.seqno, self.kind)))
    }
}

impl PartialOrd for InternalKey<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Debug for InternalKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}{:?}", self.user.escape_ascii(), self.seqno, self.kind)
    }
}

/// The user key of an encoded internal key. Only for keys that have been checked to be long enough.
#[inline]
pub fn user_key(encoded: &[u8]) -> &[u8] {
    &encoded[..encoded.len() - TRAILER_LEN]
}

/// Orders encoded internal keys: by user key, then newest first. Both must be long enough.
#[inline]
pub fn compare(a: &[u8], b: &[u8]) -> Ordering {
    let (a_user, a_trailer) = a.split_at(a.len() - TRAILER_LEN);
    let (b_user, b_trailer) = b.split_at(b.len() - TRAILER_LEN);
    a_user.cmp(b_user).then_with(|| a_trailer.cmp(b_trailer))
}

/// The first key behind all keys that start with `prefix`, or `None` where there is none (empty, or all 0xff).
pub fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|&byte| byte != 0xff)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_kind() -> impl Strategy<Value = Kind> {
        (0u8..=6).prop_map(|number| Kind::from_u8(number).expect("in range"))
    }

    proptest! {
        #[test]
        fn keys_round_trip_and_both_orders_agree(
            a: Vec<u8>, a_seqno in 0..=SEQNO_MAX, a_kind in any_kind(),
            b: Vec<u8>, b_seqno in 0..=SEQNO_MAX, b_kind in any_kind(),
        ) {
            let a = InternalKey::new(&a, a_seqno, a_kind);
            let b = InternalKey::new(&b, b_seqno, b_kind);
            let encoded = a.encode();
            prop_assert_eq!(InternalKey::decode(&encoded), Some(a));
            prop_assert_eq!(compare(&encoded, &b.encode()), a.cmp(&b));
        }

        #[test]
        fn the_end_of_a_prefix_is_behind_all_that_start_with_it(prefix: Vec<u8>, tail: Vec<u8>, other: Vec<u8>) {
            let with = [&prefix[..], &tail[..]].concat();
            match prefix_end(&prefix) {
                Some(end) => {
                    prop_assert!(with < end);
                    prop_assert!(other < end || !other.starts_with(&prefix));
                }
                None => prop_assert!(prefix.iter().all(|&byte| byte == 0xff)),
            }
        }
    }

    #[test]
    fn an_entry_that_expires_is_a_put_before_its_time_and_a_delete_from_then_on() {
        let stored = |expires_ms: u64| Bytes::from([&expires_ms.to_be_bytes()[..], b"value"].concat());
        let seen = |expires_ms, now_ms| {
            let lookup = Lookup::of(Kind::PutExpiring, || stored(expires_ms)).expect("long enough");
            lookup.seen_at(|| now_ms)
        };
        assert_eq!(seen(100, 99), Some(Stored::Here(Bytes::from_static(b"value"))));
        assert_eq!((seen(100, 100), seen(0, 0), seen(100, u64::MAX)), (None, None, None));
        assert!(seen(EXPIRES_NEVER, u64::MAX).is_some());
        assert_eq!(Lookup::of(Kind::PutExpiring, || Bytes::from_static(b"7 bytes")), None);
        assert_eq!(Lookup::of(Kind::TransactionMark, Bytes::new), None);
        assert!(Kind::PutExpiring.admits_value(&[0; EXPIRY_LEN]) && !Kind::PutExpiring.admits_value(&[0; 7]));
    }

    #[test]
    fn a_reference_reads_back_expires_like_its_value_and_nothing_else_is_one() {
        let reference =
            BlobReference { expires_ms: 100, file: 7, offset: 1 << 40, len: 1 << 30, checksum: 0xdead_beef };
        let encoded = reference.encode();
        assert_eq!(BlobReference::decode(&encoded), Some(reference));
        assert_eq!(expiry_of(&encoded), Some(100), "an expiry is read as in kind 3");
        assert_eq!(Kind::BlobReference.expires_ms(&encoded), Some(100));
        let lookup = Lookup::of(Kind::BlobReference, || Bytes::copy_from_slice(&encoded)).expect("a reference");
        assert_eq!(lookup.expires_ms(), reference.expires_ms);
        assert_eq!(lookup.clone().seen_at(|| 99), Some(Stored::InBlob(reference)));
        assert_eq!(lookup.seen_at(|| 100), None);

        let lasting = BlobReference { expires_ms: EXPIRES_NEVER, ..reference };
        assert_eq!(Lookup::InBlob(lasting).expires_ms(), EXPIRES_NEVER);
        assert!(Lookup::InBlob(lasting).seen_at(|| u64::MAX).is_some());
        assert_eq!(Kind::BlobReference.expires_ms(&lasting.encode()), None);

        let too_long = BlobReference { len: (1 << 30) + 1, ..reference };
        assert!(!Kind::BlobReference.admits_value(&too_long.encode()));
        assert!(!Kind::BlobReference.admits_value(&encoded[1..]) && Kind::BlobReference.admits_value(&encoded));
    }

    #[test]
    fn newer_sorts_first_and_prefixes_sort_by_user_key_alone() {
        let key = |user, seqno| InternalKey::new(user, seqno, Kind::Put).encode();
        assert_eq!(compare(&key(b"a", 9), &key(b"a", 3)), Ordering::Less);
        assert_eq!(compare(&key(b"a", 1), &key(b"a\0", 9)), Ordering::Less);
        assert_eq!(compare(&key(b"", 0), &key(b"\0", SEQNO_MAX)), Ordering::Less);
        assert_eq!(InternalKey::decode(b"short"), None);
    }
}
