//! Merging operands while entries are rewritten: of each key and stripe the operands become one value where what they are merged
//! upon is known, and else one operand where their operator has one that stands for all.
//!
//! Stands between the entries of a merge and its output, and asks [`Retention`] about each. Keys without operands pass
//! through entry by entry. The operands of one key in one stripe are held back until what lies below them is met: it is next.
//!
//! F1. Operands of two stripes are never merged with each other: a snapshot lies between them.
//! F2. They are merged upon a value, a delete, or nothing, only where that is next below them in their stripe; upon nothing
//!     also where nothing older of the key is anywhere.
//! F3. They are not merged upon a value that will expire: what they are merged upon would last.
//! F4. Where the operator fails, all stays as it was. No operand is lost, and who reads the key is told.

use crate::compaction::merge::{Retention, Verdict};
use crate::error::Result;
use crate::fragments::Fragment;
use crate::key::{InternalKey, Kind, SeqNo, VALUE_LEN_MAX};
use crate::mark::sometimes;
use crate::operator::MergeOperator;
use bytes::Bytes;

/// Where entries go.
pub(super) type Sink<'a> = dyn FnMut(&[u8], &[u8]) -> Result<()> + 'a;

/// The value of an entry as the user knows it.
pub(super) type Whole<'a> = dyn Fn(InternalKey<'_>, &Bytes) -> Result<Bytes> + 'a;

/// See the module.
pub(super) struct Folding<'a> {
    retention: Retention,
    operator: Option<&'a dyn MergeOperator>,
    /// Whether anything older of a key may lie outside the inputs.
    older_below: &'a dyn Fn(&[u8]) -> bool,
    /// Asked for the value that operands are merged upon.
    whole: &'a Whole<'a>,
    /// The key of the operands that are held back, and their stripe.
    key: Vec<u8>,
    stripe: usize,
    /// Newest first.
    operands: Vec<(SeqNo, Bytes)>,
}

impl<'a> Folding<'a> {
    pub(super) fn new(
        retention: Retention,
        operator: Option<&'a dyn MergeOperator>,
        older_below: &'a dyn Fn(&[u8]) -> bool,
        whole: &'a Whole<'a>,
    ) -> Folding<'a> {
        Folding { retention, operator, older_below, whole, key: Vec::new(), stripe: 0, operands: Vec::new() }
    }

    /// Takes the next entry, in key order.
    pub(super) fn take(
        &mut self,
        encoded: &[u8],
        entry: InternalKey<'_>,
        value: &Bytes,
        sink: &mut Sink<'_>,
    ) -> Result<()> {
        let is_other_key = self.key != entry.user;
        if !self.operands.is_empty() && (is_other_key || self.retention.stripe_of(entry.seqno) != self.stripe) {
            self.let_go(is_other_key, sink)?;
        }
        match self.retention.keep(entry, value, || (self.older_below)(entry.user)) {
            Verdict::Keep => {
                self.let_go(false, sink)?;
                sink(encoded, value)
            }
            Verdict::Bury => sink(&buried(entry), b""),
            Verdict::Drop => Ok(()),
            Verdict::Gather => {
                if self.operands.is_empty() {
                    self.key.clear();
                    self.key.extend_from_slice(entry.user);
                    self.stripe = self.retention.stripe_of(entry.seqno);
                }
                self.operands.push((entry.seqno, value.clone()));
                Ok(())
            }
            Verdict::MergeUpon => {
                sometimes!("operands are merged upon a value");
                let base = (self.whole)(entry, value)?;
                if self.merge_upon(Some(&base), sink)? { Ok(()) } else { sink(encoded, value) }
            }
            Verdict::MergeUponNothing => {
                sometimes!("operands are merged upon what was deleted");
                // F4: what the entry hides stays hidden.
                if self.merge_upon(None, sink)? { Ok(()) } else { sink(&buried(entry), b"") }
            }
        }
    }

    /// There are no more entries.
    pub(super) fn finish(&mut self, sink: &mut Sink<'_>) -> Result<()> {
        self.let_go(true, sink)
    }

    /// The range deletes that stay: see [`Retention::range_deletes`].
    pub(super) fn range_deletes(&self, older_below: impl FnMut(&Fragment) -> bool) -> Vec<Fragment> {
        self.retention.range_deletes(older_below)
    }

    /// Entries kept and dropped so far; one that was merged into another counts as what it was before.
    pub(super) fn counts(&self) -> (u64, u64) {
        self.retention.counts()
    }

    /// Writes the operands that are held back, upon nothing that is known. `is_last`: no older entry of their key comes.
    fn let_go(&mut self, is_last: bool, sink: &mut Sink<'_>) -> Result<()> {
        if self.operands.is_empty() {
            return Ok(());
        }
        if is_last && !(self.older_below)(&self.key) {
            sometimes!("operands are merged upon nothing");
            return self.merge_upon(None, sink).map(|_| ());
        }
        if self.operands.len() > 1 {
            let merged = self.operator.map(|operator| operator.partial_merge(&self.key, &self.oldest_first()));
            if let Some(Ok(Some(merged))) = merged
                && merged.len() <= VALUE_LEN_MAX
            {
                sometimes!("operands become one");
                return self.replace(Kind::Merge, &merged, sink);
            }
        }
        self.write_as_they_are(sink)
    }

    /// Writes what the operands make of a value, or of none; or themselves where the operator fails. Returns whether it did not.
    fn merge_upon(&mut self, base: Option<&[u8]>, sink: &mut Sink<'_>) -> Result<bool> {
        let merged = self.operator.map(|operator| operator.merge(&self.key, base, &self.oldest_first()));
        match merged {
            Some(Ok(value)) if value.len() <= VALUE_LEN_MAX => self.replace(Kind::Put, &value, sink).map(|()| true),
            _ => {
                sometimes!("operands stay because their operator fails");
                self.write_as_they_are(sink).map(|()| false)
            }
        }
    }

    fn oldest_first(&self) -> Vec<Bytes> {
        self.operands.iter().rev().map(|(_, operand)| operand.clone()).collect()
    }

    /// Writes one entry, as new as the newest operand, in place of all.
    fn replace(&mut self, kind: Kind, value: &[u8], sink: &mut Sink<'_>) -> Result<()> {
        let (newest, _) = self.operands[0];
        self.operands.clear();
        sink(&InternalKey::new(&self.key, newest, kind).encode(), value)
    }

    fn write_as_they_are(&mut self, sink: &mut Sink<'_>) -> Result<()> {
        for (seqno, operand) in std::mem::take(&mut self.operands) {
            sink(&InternalKey::new(&self.key, seqno, Kind::Merge).encode(), &operand)?;
        }
        Ok(())
    }
}

/// The key of the tombstone that takes the place of an entry.
fn buried(entry: InternalKey<'_>) -> Vec<u8> {
    InternalKey { kind: Kind::Delete, ..entry }.encode()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compaction::readers::{Reader, Readers};
    use crate::fragments::Fragments;
    use crate::key::expiry_of;
    use crate::operator::Append;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// Appends, and has no operand that stands for several.
    struct Whole;

    impl MergeOperator for Whole {
        fn name(&self) -> &str {
            "whole"
        }

        fn merge(&self, key: &[u8], base: Option<&[u8]>, operands: &[Bytes]) -> std::result::Result<Vec<u8>, String> {
            Append.merge(key, base, operands)
        }
    }

    /// Appends, but for what has an odd letter in it.
    struct Picky;

    impl MergeOperator for Picky {
        fn name(&self) -> &str {
            "picky"
        }

        fn merge(&self, key: &[u8], base: Option<&[u8]>, operands: &[Bytes]) -> std::result::Result<Vec<u8>, String> {
            let odd = operands.iter().flatten().any(|byte| byte % 3 == 1);
            if odd { Err("odd".into()) } else { Append.merge(key, base, operands) }
        }

        fn partial_merge(&self, key: &[u8], operands: &[Bytes]) -> std::result::Result<Option<Vec<u8>>, String> {
            self.merge(key, None, operands).map(Some)
        }
    }

    #[derive(Clone, Debug, PartialEq)]
    enum Written {
        Put(Vec<u8>),
        Until(u64, Vec<u8>),
        Delete,
        Operand(Vec<u8>),
        DeleteUpTo(u8),
    }

    fn any_write() -> impl Strategy<Value = (u8, Written)> {
        let letter = (b'a'..=b'z').prop_map(|letter| vec![letter]);
        let written = prop_oneof![
            2 => letter.clone().prop_map(Written::Put),
            1 => (0u64..100, letter.clone()).prop_map(|(ms, value)| Written::Until(ms, value)),
            1 => Just(Written::Delete),
            5 => letter.prop_map(Written::Operand),
            1 => (1u8..4).prop_map(Written::DeleteUpTo),
        ];
        (0u8..4, written)
    }

    /// Entries by key, newest first.
    type Entries = BTreeMap<(u8, std::cmp::Reverse<SeqNo>), Written>;

    /// What a reader sees of `key`, where `below` lies under all this.
    fn seen(
        entries: &Entries,
        fragments: &Fragments,
        key: u8,
        reader: Reader,
        below: Option<&[u8]>,
    ) -> Option<Vec<u8>> {
        let deleted = fragments.newest(&[key], reader.seqno);
        let (mut operands, mut base) = (Vec::new(), below.map(<[u8]>::to_vec).filter(|_| deleted.is_none()));
        let versions = (key, std::cmp::Reverse(reader.seqno))..=(key, std::cmp::Reverse(0));
        for ((_, seqno), written) in entries.range(versions) {
            if deleted.is_some_and(|deleted| deleted > seqno.0) {
                base = None;
                break;
            }
            if let Written::Operand(operand) = written {
                operands.push(Bytes::copy_from_slice(operand));
                continue;
            }
            base = match written {
                Written::Put(value) => Some(value.clone()),
                Written::Until(ms, value) => (reader.now_ms < *ms).then(|| value.clone()),
                _ => None,
            };
            break;
        }
        operands.reverse();
        if operands.is_empty() { base } else { Append.merge(&[key], base.as_deref(), &operands).ok() }
    }

    fn folded(
        entries: &Entries,
        fragments: &Fragments,
        readers: Readers,
        operator: &dyn MergeOperator,
        below: bool,
    ) -> (Entries, Fragments) {
        let older_below = |_: &[u8]| below;
        let mut folding =
            Folding::new(Retention::new(readers, fragments.clone()), Some(operator), &older_below, &|_, value| {
                Ok(value.clone())
            });
        let mut after = Entries::new();
        let mut sink = |encoded: &[u8], value: &[u8]| {
            let entry = InternalKey::decode(encoded).expect("whole");
            let written = match entry.kind {
                Kind::Put => Written::Put(value.to_vec()),
                Kind::PutExpiring => Written::Until(expiry_of(value).expect("long enough"), value[8..].to_vec()),
                Kind::Merge => Written::Operand(value.to_vec()),
                _ => Written::Delete,
            };
            assert!(
                after.insert((entry.user[0], std::cmp::Reverse(entry.seqno)), written).is_none(),
                "{entry:?} twice"
            );
            Ok(())
        };
        for (&(key, seqno), written) in entries {
            let (kind, value) = match written {
                Written::Put(value) => (Kind::Put, value.clone()),
                Written::Until(ms, value) => (Kind::PutExpiring, [&ms.to_be_bytes()[..], value].concat()),
                Written::Operand(value) => (Kind::Merge, value.clone()),
                _ => (Kind::Delete, Vec::new()),
            };
            let entry = InternalKey::new(&[key], seqno.0, kind).encode();
            let decoded = InternalKey::decode(&entry).expect("whole");
            folding.take(&entry, decoded, &Bytes::from(value), &mut sink).expect("nothing fails");
        }
        folding.finish(&mut sink).expect("nothing fails");
        let (kept, dropped) = folding.counts();
        assert_eq!(kept + dropped, entries.len() as u64);
        let mut left = Fragments::new();
        folding.range_deletes(|_| below).into_iter().for_each(|fragment| left.push(fragment));
        (after, left)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        #[test]
        fn no_reader_sees_a_difference_when_operands_are_merged(
            writes in prop::collection::btree_map(1u64..50, any_write(), 0..40),
            gaps in prop::collection::vec((0u64..15, 0u64..30), 0..4),
            later in 0u64..40,
            which in 0usize..3,
            below: bool,
        ) {
            let mut entries = Entries::new();
            let mut fragments = Fragments::new();
            for (&seqno, (key, written)) in &writes {
                if let Written::DeleteUpTo(len) = written {
                    let bytes = |key: u8| Bytes::copy_from_slice(&[key]);
                    fragments.add(bytes(*key), bytes(key + len), seqno);
                } else {
                    entries.insert((*key, std::cmp::Reverse(seqno)), written.clone());
                }
            }
            let mut last = Reader { seqno: 0, now_ms: 0 };
            let mut readers: Vec<Reader> = gaps
                .iter()
                .map(|(seqnos, ms)| {
                    last = Reader { seqno: last.seqno + seqnos, now_ms: last.now_ms + ms };
                    last
                })
                .collect();
            let now_ms = last.now_ms + later;
            let operator: &dyn MergeOperator = [&Append as &dyn MergeOperator, &Whole, &Picky][which];
            let snapshots = Readers::new(readers.clone(), now_ms);
            let (after, left) = folded(&entries, &fragments, snapshots.clone(), operator, below);
            readers.extend([now_ms, now_ms + 20, 200].map(|now_ms| Reader { seqno: SeqNo::MAX >> 8, now_ms }));
            let under = below.then_some(&b"below"[..]);
            for key in 0..7 {
                for &reader in &readers {
                    prop_assert_eq!(
                        seen(&entries, &fragments, key, reader, under),
                        seen(&after, &left, key, reader, under),
                        "key {} of {:?}, {:?}", key, reader, after
                    );
                }
                let of_key: Vec<&Written> = after.iter().filter(|(place, _)| place.0 == key).map(|(_, it)| it).collect();
                let waits = of_key.iter().any(|written| matches!(written, Written::Until(..)));
                if which == 0 && !waits {
                    let operands = of_key.iter().filter(|written| matches!(written, Written::Operand(_))).count();
                    prop_assert!(operands <= gaps.len() + 1, "one for each stripe at most: {:?}", of_key);
                    prop_assert!(below || !gaps.is_empty() || operands == 0, "{:?}", of_key);
                }
            }
            let again = folded(&after, &left, snapshots, operator, below);
            for key in 0..7 {
                for &reader in &readers {
                    prop_assert_eq!(
                        seen(&after, &left, key, reader, under),
                        seen(&again.0, &again.1, key, reader, under)
                    );
                }
            }
        }
    }

    #[test]
    fn operands_of_one_stripe_become_one_and_those_of_two_do_not() {
        let operand = |letter: u8| Written::Operand(vec![letter]);
        let at = |seqno| (0u8, std::cmp::Reverse(seqno));
        let entries: Entries = (1..=6u64).map(|seqno| (at(seqno), operand(b'a' + seqno as u8))).collect();
        let readers = || Readers::new(vec![Reader { seqno: 3, now_ms: 0 }], 0);
        let (after, _) = folded(&entries, &Fragments::new(), readers(), &Append, true);
        let both = [(at(6), Written::Operand(b"efg".to_vec())), (at(3), Written::Operand(b"bcd".to_vec()))];
        assert_eq!(after, Entries::from(both));
        let (bottom, _) = folded(&after, &Fragments::new(), readers(), &Append, false);
        assert_eq!(bottom[&at(3)], Written::Put(b"bcd".to_vec()), "nothing lies below");
        let (gone, _) = folded(&bottom, &Fragments::new(), Readers::new(Vec::new(), 0), &Append, false);
        assert_eq!(gone, Entries::from([(at(6), Written::Put(b"bcdefg".to_vec()))]));
    }
}
