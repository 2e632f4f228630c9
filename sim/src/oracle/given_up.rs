//! What is left when a file was given up: a store that cannot read a file may be told to go on without it.
//!
//! It is known what the file held: which versions of which keys, deletions among them. These are gone from then on, all of them,
//! and nothing else is. A key of which the newest version was not among them has it still. A key of which it was has nothing now,
//! or what that version had hidden, and then any older one of the key that was not in the file: which of them were still there is
//! known to nobody but the store, that may have dropped what was replaced. So the first read says which, and that is what the key
//! has from then on.
//!
//! Not verified: that what a key has then is the newest of those that were there.

use super::time::Span;
use super::{Finding, KeyId, Label, Oracle, Version, WriteRecord};
use crate::op::{Stamp, TOMBSTONE};
use std::ops::Range;

/// Something that a file held that was given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenUp {
    /// The keys of which it said something: one, or those of a range that was deleted.
    pub keys: Range<KeyId>,
    /// Which version of them it was, by its sequence number or another one of its write.
    pub seq: Option<u64>,
    /// Where the file did not know the number any more, by its value.
    pub stamp: Stamp,
}

impl Oracle {
    /// Keeps what is replaced, as far back as it goes: files may be given up.
    pub fn keep_replaced(&mut self) {
        self.keep_replaced = true;
    }

    /// What a file says that holds this of a key, or of the keys up to `end`. O8.
    pub fn held(
        &self,
        (key, end): (&[u8], Option<&[u8]>),
        seq: Option<u64>,
        value: Option<&[u8]>,
    ) -> Result<GivenUp, Finding> {
        let first = self.keys.first_from(key);
        let keys = first..end.map_or(first + 1, |end| self.keys.first_from(end).max(first));
        let stamp = self.recognise(first, value, Label::HARNESS)?;
        Ok(GivenUp { keys, seq, stamp })
    }

    /// A file with these contents was given up. Every call before has returned.
    pub fn give_up(&mut self, held: &[GivenUp]) {
        assert!(self.keep_replaced, "what was replaced is forgotten");
        for GivenUp { keys, seq, stamp } in held {
            for key in keys.clone() {
                let (versions, writes) = (&mut self.versions[key as usize], &self.writes);
                // A write to several keyspaces may number its entries in another order; it has one version of a key.
                let numbers = |write: &WriteRecord| write.first..write.first + u64::from(write.numbers);
                let is_it = |version: &Version| match seq {
                    Some(seq) => numbers(&writes[version.write as usize]).contains(seq),
                    None => version.stamp == *stamp,
                };
                // One that is not known any more was given up by a crash.
                let Some(at) = versions.iter().position(is_it) else { continue };
                versions[at].given_up = true;
                let gone = versions[at].stamp;
                // What has shown it since shows what lies further down.
                for above in versions[at + 1..].iter_mut().filter(|above| above.hollow && above.stamp == gone) {
                    above.given_up = true;
                }
            }
        }
    }

    /// The times at which a version of a key reads as `stamp`, if there are any among these.
    pub(super) fn reads_as(&self, key: KeyId, version: Version, stamp: Stamp, span: Span) -> Option<Span> {
        match version.given_up {
            true => self.lies_below(key, version.seq, stamp).then_some(span),
            false => version.reads_as(stamp, span),
        }
    }

    /// What it reads as at this time, to one who has seen `seen`.
    pub(super) fn recovered_as(&self, key: KeyId, version: &Version, seen: Stamp, now_ms: u64) -> Stamp {
        match version.given_up {
            true if self.lies_below(key, version.seq, seen) => seen,
            true => TOMBSTONE,
            false => version.recovered_as(seen, now_ms),
        }
    }

    /// Whether a key may have this where its version with this number is gone.
    fn lies_below(&self, key: KeyId, seq: u64, stamp: Stamp) -> bool {
        let mut older = self.versions[key as usize].iter().take_while(|version| version.seq < seq);
        stamp == TOMBSTONE || older.any(|version| !version.given_up && version.stamp == stamp)
    }

    /// It was seen what a key has in place of a version that is gone.
    pub(super) fn settle_given_up(&mut self, key: KeyId, seq: u64, stamp: Stamp) {
        let versions = &mut self.versions[key as usize];
        let at = versions.binary_search_by_key(&seq, |version| version.seq).expect("a version that was just read");
        if stamp != TOMBSTONE {
            // What lies between would have been seen.
            let between = versions[..at].iter_mut().rev();
            between.take_while(|version| version.stamp != stamp).for_each(|version| version.given_up = true);
        }
        (versions[at].stamp, versions[at].given_up, versions[at].hollow) = (stamp, false, true);
        let record = &self.writes[versions[at].write as usize];
        let own = record.start as usize..(record.start + record.count) as usize;
        let last = self.entries[own].iter_mut().rev().find(|(written, _)| *written == key);
        last.expect("its write wrote the key").1 = stamp;
    }

    /// The same for all keys of a store that was opened and read.
    pub(super) fn settle_recovered(&mut self, seen: &[Stamp], unreadable: &[KeyId]) {
        for (key, &stamp) in (0..).zip(seen) {
            let last = self.versions[key as usize].last().copied();
            if let Some(gone) = last.filter(|version| version.given_up && !unreadable.contains(&key)) {
                self.settle_given_up(key, gone.seq, stamp);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::{Bounds, Entry, Keys, Stamps, Value};
    use crate::oracle::{Finding, Label, Observed, Outcome, Promise, Restart};

    const NOBODY: Label = Label { client: 0, op: 0 };

    fn value(stamp: Stamp) -> Value {
        Value { stamp, bytes: 4 }
    }

    /// Key 0 was given the values 2, 3 and 4, key 1 the value 5 and then nothing, key 2 the value 7; at the sequence numbers 1 to 6.
    fn oracle() -> Oracle {
        let mut stamps = Stamps::default();
        (2..10).for_each(|stamp| stamps.add(value(stamp)));
        let mut oracle = Oracle::new(Keys::new(vec![b"a".to_vec(), b"b".to_vec(), b"c".to_vec()]), stamps, false);
        oracle.keep_replaced();
        for (seq, (key, stamp)) in
            (1..).zip([(0, Some(2)), (0, Some(3)), (0, Some(4)), (1, Some(5)), (1, None), (2, Some(7))])
        {
            write(&mut oracle, seq, key, stamp);
        }
        oracle
    }

    fn write(oracle: &mut Oracle, seq: u64, key: KeyId, stamp: Option<Stamp>) {
        let ticket = oracle.begin_write([Entry::new(key, stamp.map(value))], NOBODY);
        oracle.end_write(ticket, Some(seq), Outcome::Acknowledged { durable: true }).expect("in order");
    }

    fn held(key: KeyId, seq: u64) -> GivenUp {
        GivenUp { keys: key..key + 1, seq: Some(seq), stamp: TOMBSTONE }
    }

    fn get(oracle: &mut Oracle, key: KeyId, stamp: Option<Stamp>) -> Result<(), Finding> {
        let ticket = oracle.begin_read(NOBODY);
        oracle.end_get(ticket, key, stamp.map(|stamp| value(stamp).to_bytes()).as_deref())
    }

    fn scan(oracle: &mut Oracle, seen: &[(KeyId, Stamp)]) -> Result<(), Finding> {
        let ticket = oracle.begin_read(NOBODY);
        let entries: Vec<_> =
            seen.iter().map(|&(key, stamp)| (vec![b'a' + key as u8], value(stamp).to_bytes())).collect();
        let newest = oracle.newest();
        oracle.end_scan(ticket, (Bounds::ALL, false, usize::MAX), Some(newest), &entries)
    }

    #[test]
    fn what_is_gone_is_not_seen_and_what_it_hid_or_nothing_is() {
        for (seen, allowed) in [(Some(4), false), (Some(3), true), (Some(2), true), (None, true), (Some(7), false)] {
            let mut oracle = oracle();
            oracle.give_up(&[held(0, 3)]);
            assert_eq!(get(&mut oracle, 0, seen).is_ok(), allowed, "{seen:?}");
        }
        let mut oracle = oracle();
        oracle.give_up(&[held(0, 3), held(0, 2)]);
        get(&mut oracle, 0, Some(3)).expect_err("it was in the same file");
        get(&mut oracle, 0, Some(2)).expect("below both");
    }

    #[test]
    fn what_was_not_in_the_file_must_be_there() {
        let mut oracle = oracle();
        oracle.give_up(&[held(0, 2), held(1, 4)]);
        for seen in [None, Some(2), Some(3)] {
            assert!(get(&mut oracle, 0, seen).is_err(), "{seen:?} though 4 was elsewhere");
        }
        get(&mut oracle, 0, Some(4)).expect("the newest was elsewhere");
        get(&mut oracle, 1, Some(5)).expect_err("what deleted it was elsewhere");
        get(&mut oracle, 2, None).expect_err("nothing of this key was in the file");
    }

    #[test]
    fn a_deletion_that_is_gone_may_bring_back_what_it_had_deleted() {
        let mut oracle = oracle();
        oracle.give_up(&[GivenUp { keys: 0..3, seq: Some(5), stamp: TOMBSTONE }]);
        scan(&mut oracle, &[(0, 4), (2, 7)]).expect("it need not");
        scan(&mut oracle, &[(0, 4), (1, 5), (2, 7)]).expect_err("it was seen that it has not");
        let mut oracle = self::oracle();
        oracle.give_up(&[held(1, 5)]);
        scan(&mut oracle, &[(0, 4), (1, 5), (2, 7)]).expect("it may");
        get(&mut oracle, 1, None).expect_err("it was seen that it has");
    }

    #[test]
    fn what_was_seen_first_stays_until_it_is_written_anew_and_over_a_crash() {
        let mut oracle = oracle();
        oracle.give_up(&[held(0, 3)]);
        get(&mut oracle, 0, Some(2)).expect("3 was dropped before");
        get(&mut oracle, 0, Some(3)).expect_err("it was not there");
        get(&mut oracle, 0, None).expect_err("2 was there");
        let recover = |oracle: &mut Oracle, seen: &[(KeyId, Stamp)]| {
            let observed = Observed { digest: seen.to_vec(), ..Observed::default() };
            oracle.recover(Restart::PowerLoss, Promise::Durable, None, true, &observed).map(|_| ())
        };
        recover(&mut oracle.clone(), &[(0, 3), (2, 7)]).expect_err("nor was it after a crash");
        recover(&mut oracle.clone(), &[(2, 7)]).expect_err("and 2 still is");
        recover(&mut oracle, &[(0, 2), (2, 7)]).expect("as it was seen");
        write(&mut oracle, 7, 0, Some(8));
        get(&mut oracle, 0, Some(2)).expect_err("replaced");
        get(&mut oracle, 0, Some(8)).expect("the newest");
    }

    #[test]
    fn a_recovery_sees_what_is_gone_and_no_more() {
        let recover = |seen: &[(KeyId, Stamp)]| {
            let mut oracle = oracle();
            oracle.give_up(&[held(0, 3), held(2, 6)]);
            let observed = Observed { digest: seen.to_vec(), ..Observed::default() };
            oracle.recover(Restart::Process, Promise::Acknowledged, None, true, &observed).map(|_| oracle)
        };
        recover(&[(0, 4)]).expect_err("one came back");
        recover(&[(0, 3), (2, 7)]).expect_err("the other came back");
        recover(&[(0, 3), (1, 5)]).expect_err("a deletion that was elsewhere is gone");
        recover(&[]).expect("nothing was below");
        let mut oracle = recover(&[(0, 3)]).expect("what lay below");
        get(&mut oracle, 0, Some(2)).expect_err("it was seen that 3 was there");
        // What was replaced before a crash may come back when another file goes.
        oracle.give_up(&[GivenUp { keys: 0..1, seq: None, stamp: 3 }]);
        get(&mut oracle, 0, Some(2)).expect("below");
    }

    #[test]
    fn of_what_cannot_be_read_the_store_is_taken_at_its_word() {
        let recovered = |newest: Option<u64>, changed: KeyId| {
            let mut oracle = oracle();
            let ticket = oracle.begin_write([Entry::new(changed, Some(value(8)))], NOBODY);
            oracle.end_write(ticket, Some(7), Outcome::Acknowledged { durable: false }).expect("in order");
            let observed = Observed { digest: vec![(2, 7)], unreadable: vec![0], newest, ..Observed::default() };
            let recovered = oracle.recover(Restart::PowerLoss, Promise::Durable, None, true, &observed);
            (oracle, recovered.expect("the rest is as it was").n)
        };
        for (newest, n, shown, hidden) in [(Some(7), 7, 8, 4), (Some(6), 6, 4, 8), (None, 6, 4, 8)] {
            let (mut oracle, found) = recovered(newest, 0);
            assert_eq!(found, n, "{newest:?}");
            get(&mut oracle, 0, Some(hidden)).expect_err("not what it said");
            get(&mut oracle, 0, Some(shown)).expect("what it said");
        }
        let (_, found) = recovered(Some(7), 1);
        assert_eq!(found, 6, "key 1 can be read, and was not written");
    }

    #[test]
    fn a_failed_write_to_what_cannot_be_read_stays_unknown() {
        let recovered = |unreadable: Vec<KeyId>| {
            let mut oracle = oracle();
            let ticket = oracle.begin_write([0, 1].map(|key| Entry::new(key, Some(value(8)))), NOBODY);
            oracle.end_write(ticket, Some(7), Outcome::Failed).expect("in order");
            write(&mut oracle, 9, 2, Some(9));
            let observed = Observed { digest: vec![(2, 9)], unreadable, newest: Some(9), ..Observed::default() };
            oracle.recover(Restart::Process, Promise::Acknowledged, None, true, &observed).expect("as it was");
            oracle
        };
        let unknown = recovered(vec![0, 1]);
        get(&mut unknown.clone(), 0, Some(8)).expect("it may be there");
        get(&mut unknown.clone(), 0, Some(4)).expect("or not");
        scan(&mut unknown.clone(), &[(0, 8), (1, 8), (2, 9)]).expect("all of it");
        scan(&mut unknown.clone(), &[(0, 4), (1, 8), (2, 9)]).expect_err("a part of it");
        get(&mut recovered(vec![0]), 0, Some(8)).expect_err("the other key told that it is not there");
    }

    #[test]
    fn a_snapshot_shows_what_is_left_of_its_time() {
        let mut oracle = oracle();
        let ticket = oracle.begin_read(NOBODY);
        let mark = oracle.end_snapshot(ticket, Some(6)).expect("the newest");
        write(&mut oracle, 7, 0, Some(8));
        oracle.give_up(&[held(0, 3)]);
        get(&mut oracle, 0, Some(8)).expect("newer");
        let at = |oracle: &mut Oracle, stamp: Option<Stamp>| {
            let ticket = oracle.begin_read(NOBODY);
            oracle.end_get_at(ticket, mark, 0, stamp.map(|stamp| value(stamp).to_bytes()).as_deref())
        };
        at(&mut oracle, Some(4)).expect_err("gone");
        at(&mut oracle, Some(8)).expect_err("later");
        at(&mut oracle, Some(3)).expect("below");
        at(&mut oracle, None).expect_err("it was seen");
    }
}
