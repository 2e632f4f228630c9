//! What a merge keeps and what it drops: a pure decision for each entry, in key order.
//!
//! Snapshots cut the history of a key into stripes: `(-, s1] (s1, s2] ... (sn, now]`. A reader at a snapshot, or now, sees
//! the newest version in its stripe or below. So of each stripe only the newest version of a key can ever be seen.
//!
//! D1. A version is dropped when a newer version of the same key lies in the same stripe.
//! D2. A tombstone is dropped, beyond D1, only when it lies in the oldest stripe and nothing older of its key lies below.
//! D3. A version is dropped when a newer range delete of the merge holds its key in the same stripe.
//! D4. Of the range deletes of a fragment the newest of each stripe stays, and that of the oldest stripe goes, too, where
//!     nothing older of its keys lies below.
//! D5. A value that has expired for everybody who can see it is a tombstone: it hides what is older, and goes as one.
//! D6. An operand hides nothing: what is below it in its stripe is what it is merged upon, so the first entry there that is no
//!     operand is not dropped but said to be that. See [`super::fold`], which does the merging.
//!
//! The snapshots must have been listed after the inputs were fixed: see [`super::readers`].

use crate::compaction::readers::Readers;
use crate::fragments::{Fragment, Fragments};
use crate::key::{InternalKey, Kind, SeqNo, has_expired};
use crate::mark::sometimes;

/// What becomes of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It stays as it is.
    Keep,
    /// A tombstone of the same sequence number takes its place.
    Bury,
    /// It goes.
    Drop,
    /// It is an operand, to be merged upon what comes next of its key in its stripe.
    Gather,
    /// The operands before it are merged upon its value, and it goes.
    MergeUpon,
    /// The operands before it are merged upon nothing, and it goes: the key was absent before them.
    MergeUponNothing,
}

/// Decides entry by entry, fed in key order.
pub struct Retention {
    readers: Readers,
    /// All range deletes of the merge.
    fragments: Fragments,
    key: Vec<u8>,
    /// The stripe of the last entry of `key`; `None` before the first entry.
    stripe: Option<usize>,
    /// Whether all entries of the key in that stripe were operands so far.
    gathering: bool,
    kept: u64,
    dropped: u64,
}

impl Retention {
    /// For these readers; `fragments` are the range deletes of all that is merged.
    pub fn new(readers: Readers, fragments: Fragments) -> Retention {
        Retention { readers, fragments, key: Vec::new(), stripe: None, gathering: false, kept: 0, dropped: 0 }
    }

    /// What becomes of this entry, with this value as it is stored. `older_below` says whether an older version of the key may
    /// lie outside the inputs; it is asked only for a tombstone that could go.
    pub fn keep(&mut self, entry: InternalKey<'_>, value: &[u8], older_below: impl FnOnce() -> bool) -> Verdict {
        let stripe = self.stripe_of(entry.seqno);
        let same_key = self.stripe.is_some() && self.key == entry.user;
        let same_stripe = same_key && self.stripe == Some(stripe);
        let gathering = same_stripe && self.gathering;
        let shadowed = same_stripe && !gathering;
        if !same_key {
            self.key.clear();
            self.key.extend_from_slice(entry.user);
        } else {
            assert!(Some(stripe) <= self.stripe, "entries of {entry:?} are fed newest first");
        }
        self.stripe = Some(stripe);
        let expires_ms = entry.kind.expires_ms(value);
        let expired = expires_ms.is_some_and(|expires_ms| self.has_expired(entry.seqno, expires_ms));
        let deletes = entry.kind == Kind::Delete || expired;
        let range_deleted = !self.fragments.is_empty() && self.is_range_deleted(entry.user, entry.seqno, stripe);
        sometimes!("a merge drops what a range delete holds", if range_deleted);
        self.gathering = entry.kind == Kind::Merge && !shadowed && !range_deleted;
        if self.gathering {
            self.kept += 1;
            return Verdict::Gather;
        }
        if gathering {
            return self.below_operands(deletes || range_deleted, expires_ms.is_some());
        }
        let keep = !shadowed && !range_deleted && (!deletes || stripe > 0 || older_below());
        sometimes!("a version is kept for a snapshot", if keep && same_key);
        sometimes!("a tombstone is kept for a snapshot", if keep && deletes && stripe > 0);
        sometimes!("a tombstone is kept for what may lie below", if keep && deletes && stripe == 0);
        sometimes!("a tombstone is dropped", if !keep && deletes && !shadowed && !range_deleted);
        sometimes!("an expired value becomes a tombstone", if keep && expired);
        sometimes!("an expired value is dropped", if !keep && expired && !shadowed && !range_deleted);
        if keep {
            self.kept += 1;
        } else {
            self.dropped += 1;
        }
        match (keep, expired) {
            (true, false) => Verdict::Keep,
            (true, true) => Verdict::Bury,
            (false, _) => Verdict::Drop,
        }
    }

    /// What becomes of the first entry below operands that is none (D6).
    fn below_operands(&mut self, is_absent: bool, expires: bool) -> Verdict {
        if is_absent {
            self.dropped += 1;
            return Verdict::MergeUponNothing;
        }
        // It will be absent one day, and what is merged upon it would not.
        if expires {
            sometimes!("operands wait for a value to expire");
            self.kept += 1;
            return Verdict::Keep;
        }
        self.dropped += 1;
        Verdict::MergeUpon
    }

    /// The range deletes that stay (D4), in order, and as one where they say the same side by side. `older_below` says whether
    /// anything older of a range may lie outside the inputs.
    pub fn range_deletes(&self, mut older_below: impl FnMut(&Fragment) -> bool) -> Vec<Fragment> {
        let mut kept = Vec::new();
        for fragment in self.fragments.iter() {
            let mut seqnos = Vec::new();
            let mut last_stripe = None;
            for &seqno in fragment.seqnos.iter() {
                let stripe = self.stripe_of(seqno);
                if last_stripe.replace(stripe) != Some(stripe) && (stripe > 0 || older_below(fragment)) {
                    seqnos.push(seqno);
                }
            }
            sometimes!("a range delete is dropped", if seqnos.is_empty());
            sometimes!("a range delete is kept for a snapshot", if seqnos.len() > 1);
            if !seqnos.is_empty() {
                Fragment { seqnos: seqnos.into(), ..fragment.clone() }.append_to(&mut kept);
            }
        }
        kept
    }

    fn is_range_deleted(&self, key: &[u8], seqno: SeqNo, stripe: usize) -> bool {
        let next = self.fragments.at(key).and_then(|fragment| fragment.oldest_above(seqno));
        next.is_some_and(|deleted| self.stripe_of(deleted) == stripe)
    }

    /// D5.
    fn has_expired(&self, seqno: SeqNo, expires_ms: u64) -> bool {
        let horizon_ms = self.readers.horizon_ms(seqno);
        sometimes!(
            "a value that has expired is kept for a snapshot",
            if !has_expired(expires_ms, horizon_ms) && has_expired(expires_ms, self.readers.now_ms())
        );
        has_expired(expires_ms, horizon_ms)
    }

    /// The stripe of a sequence number.
    pub(super) fn stripe_of(&self, seqno: SeqNo) -> usize {
        self.readers.stripe_of(seqno)
    }

    /// Entries kept and dropped so far.
    pub fn counts(&self) -> (u64, u64) {
        (self.kept, self.dropped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compaction::readers::Reader;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn snapshots_at(seqnos: &[SeqNo]) -> Readers {
        Readers::new(seqnos.iter().map(|&seqno| Reader { seqno, now_ms: 0 }).collect(), 0)
    }

    type History = BTreeMap<(u8, std::cmp::Reverse<SeqNo>), Option<u8>>;

    /// What a reader at `at` sees of `key`.
    fn seen(history: &History, key: u8, at: SeqNo) -> Option<u8> {
        let mut versions = history.range((key, std::cmp::Reverse(at))..=(key, std::cmp::Reverse(0)));
        versions.next().and_then(|(_, value)| *value)
    }

    fn merged(history: &History, snapshots: &[SeqNo], older_below: bool) -> History {
        let mut retention = Retention::new(snapshots_at(snapshots), Fragments::new());
        history
            .iter()
            .filter(|((key, seqno), value)| {
                let kind = if value.is_some() { Kind::Put } else { Kind::Delete };
                let user = [*key];
                retention.keep(InternalKey::new(&user, seqno.0, kind), b"", || older_below) == Verdict::Keep
            })
            .map(|(key, value)| (*key, *value))
            .collect()
    }

    proptest! {
        #[test]
        fn no_reader_sees_a_difference_and_nothing_needless_stays(
            writes in proptest::collection::btree_map(1u64..40, (0u8..4, proptest::option::of(any::<u8>())), 0..30),
            snapshots in proptest::collection::vec(0u64..40, 0..4),
            below: bool,
        ) {
            let history: History =
                writes.iter().map(|(seqno, (key, value))| ((*key, std::cmp::Reverse(*seqno)), *value)).collect();
            let after = merged(&history, &snapshots, below);
            for key in 0..4 {
                for at in snapshots.iter().copied().chain([SeqNo::MAX >> 8]) {
                    prop_assert_eq!(seen(&history, key, at), seen(&after, key, at));
                }
                let versions = after.range((key, std::cmp::Reverse(u64::MAX))..=(key, std::cmp::Reverse(0)));
                let kept: Vec<_> = versions.collect();
                prop_assert!(kept.len() <= snapshots.len() + 1, "one version for each reader at most");
                // With something below, the newest entry hides it as before: a tombstone must not vanish.
                let newest_before = history.range((key, std::cmp::Reverse(u64::MAX))..).next().filter(|(k, _)| k.0 == key);
                if below {
                    prop_assert_eq!(newest_before.map(|(k, _)| k.0), kept.first().map(|(k, _)| k.0));
                }
                if !below && snapshots.is_empty() {
                    prop_assert!(kept.iter().all(|(_, value)| value.is_some()), "no tombstone outlives its use");
                }
            }
            prop_assert_eq!(merged(&after, &snapshots, below), after, "a second merge changes nothing");
        }
    }

    /// What a reader at `at` sees of `key`, with range deletes beside the entries.
    fn seen_beside(history: &History, fragments: &Fragments, key: u8, at: SeqNo) -> Option<u8> {
        let mut versions = history.range((key, std::cmp::Reverse(at))..=(key, std::cmp::Reverse(0)));
        let ((_, written), value) = versions.next()?;
        if fragments.newest(&[key], at).is_some_and(|deleted| deleted > written.0) { None } else { *value }
    }

    proptest! {
        #[test]
        fn range_deletes_change_nothing_for_readers_when_they_are_merged(
            writes in proptest::collection::btree_map(1u64..60, (0u8..6, 0u8..4, proptest::option::of(any::<u8>())), 0..40),
            snapshots in proptest::collection::vec(0u64..60, 0..4),
            below: bool,
        ) {
            let mut history = History::new();
            let mut fragments = Fragments::new();
            for (&seqno, &(key, len, value)) in &writes {
                if len == 0 {
                    history.insert((key, std::cmp::Reverse(seqno)), value);
                } else {
                    let bytes = |key: u8| bytes::Bytes::copy_from_slice(&[key]);
                    fragments.add(bytes(key), bytes(key + len), seqno);
                }
            }
            let mut retention = Retention::new(snapshots_at(&snapshots), fragments.clone());
            let mut after = History::new();
            for (&(key, seqno), &value) in &history {
                let kind = if value.is_some() { Kind::Put } else { Kind::Delete };
                if retention.keep(InternalKey::new(&[key], seqno.0, kind), b"", || below) == Verdict::Keep {
                    after.insert((key, seqno), value);
                }
            }
            let mut kept = Fragments::new();
            retention.range_deletes(|_| below).into_iter().for_each(|fragment| kept.push(fragment));
            for key in 0..10 {
                for at in snapshots.iter().copied().chain([SeqNo::MAX >> 8]) {
                    let before = seen_beside(&history, &fragments, key, at);
                    prop_assert_eq!(before, seen_beside(&after, &kept, key, at));
                    // What lies further down is older than all this, and hidden or shown as before.
                    if below {
                        prop_assert_eq!(fragments.newest(&[key], at).is_some(), kept.newest(&[key], at).is_some());
                    }
                }
            }
            if snapshots.is_empty() {
                prop_assert!(below || kept.is_empty(), "no range delete outlives its use");
                prop_assert!(kept.iter().all(|fragment| fragment.seqnos.len() == 1));
            }
        }
    }

    /// Versions of keys: a value with the time at which it expires, or none.
    type Expiring = BTreeMap<(u8, std::cmp::Reverse<SeqNo>), Option<u64>>;

    /// What a reader sees of `key`: the expiry stands for the value.
    fn seen_in_time(history: &Expiring, key: u8, reader: Reader) -> Option<u64> {
        let mut versions = history.range((key, std::cmp::Reverse(reader.seqno))..=(key, std::cmp::Reverse(0)));
        versions.next().and_then(|(_, expires_ms)| *expires_ms).filter(|&expires_ms| reader.now_ms < expires_ms)
    }

    proptest! {
        #[test]
        fn what_expires_is_absent_for_the_same_readers_as_before(
            writes in proptest::collection::btree_map(1u64..40, (0u8..4, proptest::option::of(0u64..100)), 0..30),
            gaps in proptest::collection::vec((0u64..15, 0u64..30), 0..4),
            later in 0u64..40,
            below: bool,
        ) {
            let history: Expiring =
                writes.iter().map(|(&seqno, &(key, expiry))| ((key, std::cmp::Reverse(seqno)), expiry)).collect();
            // Seqnos and times grow together.
            let mut last = Reader { seqno: 0, now_ms: 0 };
            let mut readers: Vec<Reader> = gaps
                .iter()
                .map(|(seqnos, ms)| {
                    last = Reader { seqno: last.seqno + seqnos, now_ms: last.now_ms + ms };
                    last
                })
                .collect();
            let now_ms = last.now_ms + later;
            let mut retention = Retention::new(Readers::new(readers.clone(), now_ms), Fragments::new());
            let mut after = Expiring::new();
            for (&(key, seqno), &expiry) in &history {
                let (kind, value) = match expiry {
                    Some(expires_ms) => (Kind::PutExpiring, expires_ms.to_be_bytes().to_vec()),
                    None => (Kind::Delete, Vec::new()),
                };
                match retention.keep(InternalKey::new(&[key], seqno.0, kind), &value, || below) {
                    Verdict::Keep => {
                        after.insert((key, seqno), expiry);
                    }
                    Verdict::Bury => {
                        after.insert((key, seqno), None);
                    }
                    Verdict::Drop => {}
                    operands => panic!("{operands:?}, and there are none"),
                }
            }
            readers.extend([now_ms, now_ms + 20, 200].map(|now_ms| Reader { seqno: SeqNo::MAX >> 8, now_ms }));
            for key in 0..4 {
                for &reader in &readers {
                    prop_assert_eq!(seen_in_time(&history, key, reader), seen_in_time(&after, key, reader), "{:?}", reader);
                    let any_seen = |history: &Expiring| {
                        history.range((key, std::cmp::Reverse(reader.seqno))..=(key, std::cmp::Reverse(0))).next().is_some()
                    };
                    // What lies further down is older than all this, and hidden as before.
                    if below {
                        prop_assert_eq!(any_seen(&history), any_seen(&after));
                    }
                }
            }
            let stale = |expiry: &Option<u64>| expiry.is_some_and(|expires_ms| expires_ms <= now_ms);
            if gaps.is_empty() {
                prop_assert!(after.values().all(|expiry| !stale(expiry)), "nothing that has expired keeps its value");
                prop_assert!(below || after.values().all(Option::is_some), "no tombstone outlives its use");
            }
        }
    }
}
