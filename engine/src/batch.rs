//! Several writes that happen together or not at all, and their bytes, which are the same in a log and in memory.
//!
//! ```text
//! payload  | entry | entry | ...
//! entry    kind u8 | keyspace varint | key length varint | key | value length varint | value     kind 1, put
//!          kind u8 | keyspace varint | key length varint | key                                   kind 0, delete
//!          kind u8 | keyspace varint | begin length varint | begin | end length varint | end     kind 2, range delete
//!          kind u8 | keyspace varint | key length varint | key | length varint | expiry u64, big-endian | value   kind 3, put
//!                                                                                       until a time; length counts both
//!          kind u8 | keyspace varint | key length varint | key | length varint | operand         kind 4, merge
//! ```
//!
//! A lifetime becomes an expiry when the batch is written, since a batch has no clock.
//!
//! How many entries there are is told beside the payload. Entry i of a batch has the batch's sequence number plus i.
//!
//! A batch gathers what it is given and never fails while it does; [`WriteBatch::check`] then refuses a key or value
//! that is too long, by name. Such an entry is not copied.

use crate::coding::{Decoder, put_bytes, put_varint};
use crate::error::{Error, Result};
use crate::key::{EXPIRES_NEVER, EXPIRY_LEN, KEY_LEN_MAX, KEYSPACE_DEFAULT, KeyspaceId, Kind, SeqNo, VALUE_LEN_MAX};
use bytes::Bytes;
use std::time::Duration;

/// The longest payload of a batch, in bytes: a record of a log holds it whole.
pub const BATCH_LEN_MAX: usize = 2 * 1024 * 1024 * 1024;

/// How long a key keeps a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// For so long after the batch is written, by the [store's time](crate::db#time), rounded up to milliseconds. No time at
    /// all means that the key is absent at once. A time too far away to be told is never.
    After(Duration),
    /// Until this moment of the store's time, in milliseconds since the Unix epoch. One that has passed makes the key absent.
    At(u64),
    /// For ever, whatever the store's [default](crate::options::Options::default_ttl_ms) is.
    Never,
}

impl From<Duration> for Expiry {
    fn from(lifetime: Duration) -> Expiry {
        Expiry::After(lifetime)
    }
}

impl Expiry {
    /// The moment, for a batch that is written at `now_ms`.
    pub fn at(self, now_ms: u64) -> u64 {
        match self {
            Expiry::After(lifetime) => now_ms.saturating_add(millis_of(lifetime)),
            Expiry::At(expires_ms) => expires_ms,
            Expiry::Never => EXPIRES_NEVER,
        }
    }
}

/// Rounded up.
fn millis_of(lifetime: Duration) -> u64 {
    u64::try_from(lifetime.as_nanos().div_ceil(1_000_000)).unwrap_or(EXPIRES_NEVER)
}

/// Puts, deletes and range deletes that are applied together or not at all, in whatever keyspaces. Later entries win over
/// earlier ones of the same key.
///
/// The methods that end with `in` take a keyspace of the store that the batch is for: its
/// [handle](crate::db::Keyspace), or its number. One that does not exist is refused when the batch is written.
///
/// ```
/// let mut batch = strata::batch::WriteBatch::new();
/// batch.put(b"from", b"90");
/// batch.put(b"to", b"110");
/// batch.delete(b"pending");
/// batch.delete_range(b"draft/", b"draft0");
/// assert_eq!(batch.count(), 4);
/// ```
#[derive(Clone, Debug, Default)]
pub struct WriteBatch {
    payload: Vec<u8>,
    count: u32,
    /// The keyspaces of its entries beside the default one, by number.
    keyspaces: Vec<KeyspaceId>,
    /// Those of its operands, the default one among them.
    merged: Vec<KeyspaceId>,
    refused: Option<String>,
    seqno: Option<SeqNo>,
    written_ms: Option<u64>,
    /// Where expiries lie in the payload that are lifetimes yet, and how long these are, in milliseconds.
    lifetimes: Vec<(usize, u64)>,
}

impl WriteBatch {
    /// An empty one.
    pub fn new() -> WriteBatch {
        WriteBatch::default()
    }

    /// Gives `key` this value.
    pub fn put(&mut self, key: &[u8], value: &[u8]) {
        self.put_in(KEYSPACE_DEFAULT, key, value);
    }

    /// Makes `key` absent.
    pub fn delete(&mut self, key: &[u8]) {
        self.delete_in(KEYSPACE_DEFAULT, key);
    }

    /// Makes all keys from `begin` up to `end` absent, `end` not among them. Where `end` is not behind `begin` there is no
    /// such key, and nothing is added.
    pub fn delete_range(&mut self, begin: &[u8], end: &[u8]) {
        self.delete_range_in(KEYSPACE_DEFAULT, begin, end);
    }

    /// Gives `key` of this keyspace this value.
    pub fn put_in(&mut self, keyspace: impl Into<KeyspaceId>, key: &[u8], value: &[u8]) {
        if value.len() > VALUE_LEN_MAX {
            self.refuse(format!(
                "the value of entry {} has {} bytes, and must have at most {VALUE_LEN_MAX}",
                self.count,
                value.len()
            ));
        } else if self.begin(Kind::Put, keyspace.into(), key, value.len()) {
            put_bytes(&mut self.payload, value);
        }
    }

    /// Gives `key` this value for a time, and makes it absent then. See [`Db::put_expiring`](crate::db::Db::put_expiring).
    pub fn put_expiring(&mut self, key: &[u8], value: &[u8], expiry: impl Into<Expiry>) {
        self.put_expiring_in(KEYSPACE_DEFAULT, key, value, expiry);
    }

    /// Gives `key` of this keyspace this value for a time.
    pub fn put_expiring_in(
        &mut self,
        keyspace: impl Into<KeyspaceId>,
        key: &[u8],
        value: &[u8],
        expiry: impl Into<Expiry>,
    ) {
        if value.len() > VALUE_LEN_MAX {
            self.refuse(format!(
                "the value of entry {} has {} bytes, and must have at most {VALUE_LEN_MAX}",
                self.count,
                value.len()
            ));
        } else if self.begin(Kind::PutExpiring, keyspace.into(), key, EXPIRY_LEN + value.len()) {
            put_varint(&mut self.payload, (EXPIRY_LEN + value.len()) as u64);
            let expiry = expiry.into();
            if let Expiry::After(lifetime) = expiry {
                self.lifetimes.push((self.payload.len(), millis_of(lifetime)));
            }
            self.payload.extend_from_slice(&expiry.at(0).to_be_bytes());
            self.payload.extend_from_slice(value);
        }
    }

    /// Merges an operand upon what `key` has. See [`Db::merge`](crate::db::Db::merge).
    pub fn merge(&mut self, key: &[u8], operand: &[u8]) {
        self.merge_in(KEYSPACE_DEFAULT, key, operand);
    }

    /// Merges an operand upon what `key` of this keyspace has.
    pub fn merge_in(&mut self, keyspace: impl Into<KeyspaceId>, key: &[u8], operand: &[u8]) {
        let keyspace = keyspace.into();
        if operand.len() > VALUE_LEN_MAX {
            self.refuse(format!(
                "the operand of entry {} has {} bytes, and must have at most {VALUE_LEN_MAX}",
                self.count,
                operand.len()
            ));
        } else if self.begin(Kind::Merge, keyspace, key, operand.len()) {
            put_bytes(&mut self.payload, operand);
            if let Err(index) = self.merged.binary_search(&keyspace) {
                self.merged.insert(index, keyspace);
            }
        }
    }

    /// Makes `key` of this keyspace absent.
    pub fn delete_in(&mut self, keyspace: impl Into<KeyspaceId>, key: &[u8]) {
        self.begin(Kind::Delete, keyspace.into(), key, 0);
    }

    /// Makes all keys of this keyspace from `begin` up to `end` absent, `end` not among them.
    pub fn delete_range_in(&mut self, keyspace: impl Into<KeyspaceId>, begin: &[u8], end: &[u8]) {
        if end.len() > KEY_LEN_MAX {
            self.refuse(format!(
                "the end of entry {} has {} bytes, and must have at most {KEY_LEN_MAX}",
                self.count,
                end.len()
            ));
        } else if begin < end && self.begin(Kind::RangeDelete, keyspace.into(), begin, end.len()) {
            put_bytes(&mut self.payload, end);
        }
    }

    /// Entries.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Bytes of the payload.
    pub fn bytes(&self) -> usize {
        self.payload.len()
    }

    /// Whether nothing was added.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Forgets all entries, and what was refused; keeps the memory.
    pub fn clear(&mut self) {
        self.payload.clear();
        self.count = 0;
        self.keyspaces.clear();
        self.merged.clear();
        self.refused = None;
        self.lifetimes.clear();
    }

    /// The sequence number of the first entry, as the last attempt to write the batch gave it: also after an attempt
    /// that failed, since what failed may still be found after a crash. `None` where the batch never came to a log.
    pub fn seqno(&self) -> Option<SeqNo> {
        self.seqno
    }

    /// What the store's time was when the last attempt to write the batch began, in milliseconds since the Unix epoch: what
    /// lifetimes are counted from. `None` where nothing in the batch expires.
    pub fn written_ms(&self) -> Option<u64> {
        self.written_ms
    }

    /// Begins an attempt to write the batch: counts lifetimes from the time that `now_ms` tells, which is asked only if there
    /// are any.
    pub(crate) fn begin_lifetimes(&mut self, now_ms: impl FnOnce() -> u64) {
        self.written_ms = (!self.lifetimes.is_empty()).then(now_ms);
        let Some(now_ms) = self.written_ms else { return };
        for &(place, ttl_ms) in &self.lifetimes {
            let expires_ms = now_ms.saturating_add(ttl_ms);
            self.payload[place..place + EXPIRY_LEN].copy_from_slice(&expires_ms.to_be_bytes());
        }
    }

    /// Whether it puts anything into a keyspace of this kind without a lifetime.
    pub(crate) fn puts_plainly_into(&self, is_meant: impl Fn(KeyspaceId) -> bool) -> bool {
        let mut decoder = Decoder::new(&self.payload);
        std::iter::from_fn(|| next_entry(&mut decoder))
            .any(|(keyspace, kind, _, _)| kind == Kind::Put && is_meant(keyspace))
    }

    /// The same batch with a lifetime for each plain put into a keyspace that has one by default.
    pub(crate) fn with_default_ttl(&self, default_ttl_ms: impl Fn(KeyspaceId) -> Option<u64>) -> WriteBatch {
        let mut made =
            WriteBatch { refused: self.refused.clone(), keyspaces: self.keyspaces.clone(), ..WriteBatch::default() };
        made.merged.clone_from(&self.merged);
        let mut lifetimes = self.lifetimes.iter().peekable();
        let mut decoder = Decoder::new(&self.payload);
        let mut at = 0;
        while let Some((keyspace, kind, key, value)) = next_entry(&mut decoder) {
            let end = self.payload.len() - decoder.rest().len();
            if let Some(ttl_ms) = default_ttl_ms(keyspace).filter(|_| kind == Kind::Put) {
                made.put_expiring_in(keyspace, key, value, Duration::from_millis(ttl_ms));
            } else {
                while let Some((place, ttl_ms)) = lifetimes.next_if(|(place, _)| *place < end) {
                    made.lifetimes.push((place - at + made.payload.len(), *ttl_ms));
                }
                made.payload.extend_from_slice(&self.payload[at..end]);
                made.count += 1;
            }
            at = end;
        }
        made
    }

    /// Takes over what an attempt to write this batch under another form has told.
    pub(crate) fn note_attempt(&mut self, attempt: &WriteBatch) {
        self.seqno = attempt.seqno;
        self.written_ms = attempt.written_ms;
    }

    /// Notes what an attempt to write the batch made of it.
    pub(crate) fn set_seqno(&mut self, seqno: Option<SeqNo>) {
        self.seqno = seqno;
    }

    /// The keyspaces of its entries, beside the default one, by number.
    pub fn keyspaces(&self) -> &[KeyspaceId] {
        &self.keyspaces
    }

    /// The keyspaces in which it merges, by number.
    pub(crate) fn merged_keyspaces(&self) -> &[KeyspaceId] {
        &self.merged
    }

    /// What it writes, in the order of its entries: the keyspace and the first key of each, and for a range delete the key
    /// behind its last.
    pub fn spans(&self) -> impl Iterator<Item = (KeyspaceId, Vec<u8>, Option<Vec<u8>>)> + '_ {
        let mut decoder = Decoder::new(&self.payload);
        std::iter::from_fn(move || {
            next_entry(&mut decoder).map(|(keyspace, kind, key, value)| {
                (keyspace, key.to_vec(), (kind == Kind::RangeDelete).then(|| value.to_vec()))
            })
        })
    }

    /// Whether it does nothing but make keys absent.
    pub(crate) fn only_deletes(&self) -> bool {
        let mut decoder = Decoder::new(&self.payload);
        std::iter::from_fn(|| next_entry(&mut decoder))
            .all(|(_, kind, _, _)| matches!(kind, Kind::Delete | Kind::RangeDelete))
    }

    /// Takes the entries out, without copying their bytes. The batch is empty then, and keeps its sequence number.
    pub(crate) fn take_entries(&mut self) -> Decode {
        self.lifetimes.clear();
        let count = std::mem::take(&mut self.count);
        self.keyspaces.clear();
        self.merged.clear();
        decode(std::mem::take(&mut self.payload).into(), count)
    }

    /// Refuses a batch that was given something too large, naming the first such thing and the limit.
    pub fn check(&self) -> Result<()> {
        match &self.refused {
            None => Ok(()),
            Some(reason) => Err(Error::InvalidArgument(reason.clone())),
        }
    }

    /// The entries, as bytes.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// The entries, as bytes that [`decode`] can share.
    pub fn into_bytes(self) -> Bytes {
        self.payload.into()
    }

    /// Appends all but the value, and says whether the value should follow.
    fn begin(&mut self, kind: Kind, keyspace: KeyspaceId, key: &[u8], value_len: usize) -> bool {
        if key.len() > KEY_LEN_MAX {
            self.refuse(format!(
                "the key of entry {} has {} bytes, and must have at most {KEY_LEN_MAX}",
                self.count,
                key.len()
            ));
            return false;
        }
        // An entry adds a kind and three varints, 26 bytes at the most.
        if self.payload.len() + key.len() + value_len + 26 > BATCH_LEN_MAX {
            self.refuse(format!(
                "a batch must have at most {BATCH_LEN_MAX} bytes, and entry {} would exceed that",
                self.count
            ));
            return false;
        }
        self.payload.reserve(key.len() + value_len + 26);
        self.payload.push(kind as u8);
        put_varint(&mut self.payload, u64::from(keyspace));
        put_bytes(&mut self.payload, key);
        self.count += 1;
        if keyspace != KEYSPACE_DEFAULT
            && let Err(index) = self.keyspaces.binary_search(&keyspace)
        {
            self.keyspaces.insert(index, keyspace);
        }
        true
    }

    fn refuse(&mut self, reason: String) {
        self.refused.get_or_insert(reason);
    }
}

/// One write of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchEntry {
    /// Where.
    pub keyspace: KeyspaceId,
    /// What: [`Kind::Put`], [`Kind::Delete`], [`Kind::RangeDelete`], [`Kind::PutExpiring`] or [`Kind::Merge`].
    pub kind: Kind,
    /// The user key; of a range delete the first.
    pub key: Bytes,
    /// The value or operand; empty for a delete, the key behind the last for a range delete, and with its expiry before it where it expires.
    pub value: Bytes,
}

/// The entries of a payload that holds `count` of them. An item `None` says that the payload is not one: it is the
/// last.
pub fn decode(payload: Bytes, count: u32) -> Decode {
    Decode { payload, at: 0, left: count, failed: false }
}

/// Whether a payload holds exactly `count` entries that this version understands.
pub fn is_valid(payload: &[u8], count: u32) -> bool {
    let mut decoder = Decoder::new(payload);
    (0..count).all(|_| next_entry(&mut decoder).is_some()) && decoder.is_empty()
}

/// Iterator made by [`decode`]. Keys and values share the payload's memory.
#[derive(Clone, Debug)]
pub struct Decode {
    payload: Bytes,
    at: usize,
    left: u32,
    failed: bool,
}

impl Iterator for Decode {
    type Item = Option<BatchEntry>;

    fn next(&mut self) -> Option<Option<BatchEntry>> {
        if self.failed || (self.left == 0 && self.at == self.payload.len()) {
            return None;
        }
        let entry = self.entry();
        self.failed = entry.is_none();
        Some(entry)
    }
}

impl Decode {
    fn entry(&mut self) -> Option<BatchEntry> {
        self.left = self.left.checked_sub(1)?;
        let mut decoder = Decoder::new(&self.payload[self.at..]);
        let (keyspace, kind, key, value) = next_entry(&mut decoder)?;
        let (key, value) = (self.payload.slice_ref(key), self.payload.slice_ref(value));
        self.at = self.payload.len() - decoder.rest().len();
        Some(BatchEntry { keyspace, kind, key, value })
    }
}

fn next_entry<'a>(decoder: &mut Decoder<'a>) -> Option<(KeyspaceId, Kind, &'a [u8], &'a [u8])> {
    let kind = Kind::from_u8(decoder.u8()?)?;
    let keyspace = decoder.varint_u32()?;
    let key = decoder.bytes()?;
    let value = match kind {
        Kind::Put | Kind::PutExpiring | Kind::Merge => decoder.bytes()?,
        Kind::Delete => &[],
        Kind::RangeDelete => decoder.bytes().filter(|end| key < *end && end.len() <= KEY_LEN_MAX)?,
        _ => return None,
    };
    (key.len() <= KEY_LEN_MAX && kind.admits_value(value)).then_some((keyspace, kind, key, value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(keyspace: KeyspaceId, key: &[u8], value: Option<&[u8]>) -> BatchEntry {
        BatchEntry {
            keyspace,
            kind: if value.is_some() { Kind::Put } else { Kind::Delete },
            key: Bytes::copy_from_slice(key),
            value: Bytes::copy_from_slice(value.unwrap_or_default()),
        }
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out_in_order(writes: Vec<(KeyspaceId, Vec<u8>, Option<Vec<u8>>)>) {
            let mut batch = WriteBatch::new();
            for (keyspace, key, value) in &writes {
                match value {
                    Some(value) => batch.put_in(*keyspace, key, value),
                    None => batch.delete_in(*keyspace, key),
                }
            }
            let same = batch.with_default_ttl(|_| None);
            prop_assert_eq!(same.payload(), batch.payload());
            prop_assert!(batch.check().is_ok());
            prop_assert!(is_valid(batch.payload(), batch.count()));
            let count = batch.count();
            let read: Option<Vec<BatchEntry>> = decode(batch.into_bytes(), count).collect();
            let expected: Vec<BatchEntry> =
                writes.iter().map(|(keyspace, key, value)| entry(*keyspace, key, value.as_deref())).collect();
            prop_assert_eq!(read, Some(expected));
        }

        #[test]
        fn a_range_delete_comes_out_unless_it_is_empty(keyspace: KeyspaceId, begin: Vec<u8>, end: Vec<u8>) {
            let mut batch = WriteBatch::new();
            batch.delete_range_in(keyspace, &begin, &end);
            let read: Option<Vec<BatchEntry>> = decode(batch.clone().into_bytes(), batch.count()).collect();
            let expected = BatchEntry { kind: Kind::RangeDelete, ..entry(keyspace, &begin, Some(&end)) };
            prop_assert_eq!(read, Some(if begin < end { vec![expected] } else { Vec::new() }));
            prop_assert!(batch.check().is_ok());
        }

        #[test]
        fn any_bytes_are_decoded_without_panic_and_both_readers_agree(bytes: Vec<u8>, count in 0u32..5) {
            let read: Option<Vec<BatchEntry>> = decode(Bytes::from(bytes.clone()), count).collect();
            prop_assert_eq!(read.is_some(), is_valid(&bytes, count));
        }
    }

    #[test]
    fn lifetimes_are_counted_from_each_attempt_and_defaults_go_to_plain_puts_alone() {
        let mut batch = WriteBatch::new();
        batch.put_expiring(b"after", b"1", Duration::from_micros(1_500));
        batch.put(b"plain", b"2");
        batch.put_expiring(b"at", b"3", Expiry::At(77));
        batch.delete(b"gone");
        batch.put_expiring(b"lasts", b"4", Expiry::Never);
        batch.put_expiring_in(9u32, b"far", b"5", Duration::MAX);
        batch.put_in(9u32, b"elsewhere", b"6");
        let expiries = |batch: &WriteBatch| -> Vec<(Vec<u8>, Option<u64>)> {
            let entries = decode(batch.clone().into_bytes(), batch.count()).map(|entry| entry.expect("whole"));
            let expiry = |entry: &BatchEntry| {
                (entry.kind == Kind::PutExpiring).then(|| crate::key::expiry_of(&entry.value).expect("long enough"))
            };
            entries.map(|entry| (entry.key.to_vec(), expiry(&entry))).collect()
        };
        let told = |first: Option<u64>, plain: Option<u64>| -> Vec<(Vec<u8>, Option<u64>)> {
            let expiries: [(&[u8], Option<u64>); 7] = [
                (b"after", first),
                (b"plain", plain),
                (b"at", Some(77)),
                (b"gone", None),
                (b"lasts", Some(EXPIRES_NEVER)),
                (b"far", Some(EXPIRES_NEVER)),
                (b"elsewhere", None),
            ];
            expiries.into_iter().map(|(key, expiry)| (key.to_vec(), expiry)).collect()
        };
        batch.begin_lifetimes(|| 1000);
        assert_eq!((expiries(&batch), batch.written_ms()), (told(Some(1002), None), Some(1000)));
        batch.begin_lifetimes(|| 2000);
        assert_eq!(expiries(&batch), told(Some(2002), None));
        let mut with_default = batch.with_default_ttl(|keyspace| (keyspace == KEYSPACE_DEFAULT).then_some(5));
        with_default.begin_lifetimes(|| 3000);
        assert_eq!(expiries(&with_default), told(Some(3002), Some(3005)));
        assert_eq!(with_default.count(), batch.count());
    }

    #[test]
    fn a_count_that_does_not_fit_the_payload_is_seen() {
        let mut batch = WriteBatch::new();
        batch.put(b"a", b"1");
        batch.delete(b"b");
        assert!(is_valid(batch.payload(), 2));
        assert!(!is_valid(batch.payload(), 1), "bytes are left over");
        assert!(!is_valid(batch.payload(), 3), "an entry is missing");
        let last = decode(batch.clone().into_bytes(), 1).last();
        assert_eq!(last, Some(None), "left over bytes are told by a last item");
    }

    #[test]
    fn what_is_too_long_is_refused_by_name_until_cleared() {
        let mut batch = WriteBatch::new();
        batch.put(b"fine", b"");
        batch.put(&vec![0; KEY_LEN_MAX + 1], b"");
        assert_eq!(batch.count(), 1, "the long key was not taken in");
        let message = batch.check().expect_err("refused").to_string();
        insta::assert_snapshot!(message, @"the key of entry 1 has 65537 bytes, and must have at most 65536");
        batch.clear();
        assert!(batch.check().is_ok() && batch.is_empty());
        batch.delete(&vec![0; KEY_LEN_MAX]);
        assert!(batch.check().is_ok());
        batch.delete_range(b"", &vec![0; KEY_LEN_MAX + 1]);
        let message = batch.check().expect_err("refused").to_string();
        insta::assert_snapshot!(message, @"the end of entry 1 has 65537 bytes, and must have at most 65536");
    }
}
