//! What the time is for the store that is judged, as far as that can be known from outside.
//!
//! A store keeps values for a time. By which clock is its own affair, but not by any: at some instant of each call its time is
//! one that the clocks allow ([`Timing`]), it never goes back while the store is open, and it goes on at least as fast as the
//! monotonic clock. So of each call an interval is known in which the store's time lies. A value that is seen has not expired and
//! one that is not seen has, which narrows the interval; where nothing is left of it, the answer is wrong. What is read through
//! one snapshot is as of one time, and narrows one interval.
//!
//! What a call has shown holds for all that begin after it. It does not hold for the next opening of the store: that may begin
//! with an earlier time, where the clock was set back, but one scan must still be as of one time.

use super::{Oracle, ReadTicket, SnapshotMark, Version};
use crate::clock::Timing;
use crate::op::{Stamp, TOMBSTONE};

/// The expiry of what lasts.
pub(super) const NEVER: u64 = u64::MAX;

/// Times between these, in milliseconds since the Unix epoch, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    /// The earliest.
    pub(super) from_ms: u64,
    /// The latest.
    pub(super) to_ms: u64,
    /// What was seen has expired by this time, so that the store must have come to it. The wall clock may have been later, but
    /// nobody knows whether the store has looked.
    pub(super) proven_ms: u64,
}

impl Default for Span {
    /// Any time.
    fn default() -> Span {
        Span { from_ms: 0, to_ms: NEVER - 1, proven_ms: 0 }
    }
}

impl Span {
    fn is_possible(self) -> Option<Span> {
        (self.from_ms <= self.to_ms).then_some(self)
    }

    /// What is known where the time lies in one of two spans.
    pub(super) fn around(self, other: Span) -> Span {
        Span {
            from_ms: self.from_ms.min(other.from_ms),
            to_ms: self.to_ms.max(other.to_ms),
            proven_ms: self.proven_ms.min(other.proven_ms),
        }
    }
}

impl Version {
    /// The times at which this version reads as `stamp`, if there are any among these.
    pub(super) fn reads_as(&self, stamp: Stamp, span: Span) -> Option<Span> {
        if self.expires_ms == NEVER || self.stamp == self.then {
            return (self.stamp == stamp).then_some(span);
        }
        if stamp == self.then && self.doubtful {
            return Some(span);
        }
        if stamp == self.then {
            let (from_ms, proven_ms) = (span.from_ms.max(self.expires_ms), span.proven_ms.max(self.expires_ms));
            return Span { from_ms, proven_ms, ..span }.is_possible();
        }
        let last_ms = self.expires_ms.checked_sub(1).filter(|_| stamp == self.stamp)?;
        Span { to_ms: span.to_ms.min(last_ms), ..span }.is_possible()
    }

    /// What it reads as at this time, to one who has seen `seen`.
    pub(super) fn recovered_as(&self, seen: Stamp, now_ms: u64) -> Stamp {
        if self.doubtful && seen == self.then { self.then } else { self.at(now_ms) }
    }

    /// What it reads as at this time.
    pub(super) fn at(&self, now_ms: u64) -> Stamp {
        if self.expires_ms <= now_ms { self.then } else { self.stamp }
    }
}

pub(super) fn stamp_at(stamp: Stamp, expires_ms: u64, now_ms: u64) -> Stamp {
    if expires_ms <= now_ms { TOMBSTONE } else { stamp }
}

/// The time of a snapshot.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Moment {
    span: Span,
    /// When the call that took it had ended, by the monotonic clock.
    ended_ms: u64,
}

/// What is known of the store's time.
#[derive(Clone, Debug, Default)]
pub(super) struct StoreClock {
    /// The store's time is ahead of the monotonic clock by at least so many milliseconds, for calls that begin from now on.
    ahead_ms: Option<i64>,
    moments: Vec<Moment>,
}

impl StoreClock {
    /// Of a store that was opened anew.
    pub(super) fn restart(&mut self) {
        self.ahead_ms = None;
    }

    /// What a call that begins now can rely on.
    pub(super) fn ahead_ms(&self) -> Option<i64> {
        self.ahead_ms
    }

    /// It was this late at some instant before the monotonic clock showed `ended_ms`.
    pub(super) fn raise(&mut self, from_ms: u64, ended_ms: u64) {
        let ahead_ms = i64::try_from(from_ms).unwrap_or(i64::MAX).saturating_sub_unsigned(ended_ms);
        self.ahead_ms = self.ahead_ms.max(Some(ahead_ms));
    }
}

/// When a store that could rely on this looked at the clocks.
pub(super) fn span_of(timing: Timing, ahead_ms: Option<i64>) -> Span {
    let known_ms =
        ahead_ms.map_or(0, |ahead_ms| u64::try_from(ahead_ms.saturating_add_unsigned(timing.began_ms)).unwrap_or(0));
    Span { from_ms: timing.wall_min_ms.max(known_ms), to_ms: timing.time_max_ms, proven_ms: 0 }
}

impl ReadTicket {
    /// The same read, of which it is known now what its store can have read from the clocks.
    pub fn timed(self, timing: Timing) -> ReadTicket {
        ReadTicket { timing: Some(timing), ..self }
    }

    pub(super) fn span(&self) -> Span {
        self.timing.map_or_else(Span::default, |timing| span_of(timing, self.ahead_ms))
    }
}

impl Oracle {
    /// Values that are written without a lifetime last for so many milliseconds.
    pub fn set_default_ttl(&mut self, ttl_ms: Option<u32>) {
        self.default_ttl_ms = ttl_ms;
    }

    /// The same state, as it is shown by a store that was opened anew during a read.
    pub fn reopened(&mut self, mark: SnapshotMark, ticket: ReadTicket) -> SnapshotMark {
        let moment = self.take_moment(ReadTicket { ahead_ms: None, ..ticket });
        SnapshotMark { moment, ..mark }
    }

    /// The time of a snapshot that a call has taken.
    pub(super) fn take_moment(&mut self, ticket: ReadTicket) -> u32 {
        let ended_ms = ticket.timing.map_or(0, |timing| timing.ended_ms);
        self.clock.moments.push(Moment { span: ticket.span(), ended_ms });
        self.clock.moments.len() as u32 - 1
    }

    pub(super) fn span_at(&self, moment: u32) -> Span {
        self.clock.moments[moment as usize].span
    }

    /// More is known of the time of a snapshot.
    pub(super) fn narrow_moment(&mut self, moment: u32, span: Span) {
        let known = &mut self.clock.moments[moment as usize];
        known.span = span;
        let Moment { span, ended_ms } = *known;
        if span.proven_ms > 0 {
            self.clock.raise(span.proven_ms, ended_ms);
        }
    }

    /// More is known of the time of a call.
    pub(super) fn narrow(&mut self, ticket: ReadTicket, span: Span) {
        if let Some(timing) = ticket.timing.filter(|_| span.proven_ms > 0) {
            self.clock.raise(span.proven_ms, timing.ended_ms);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::clock::Timing;
    use crate::op::{Bounds, Entry, KeyId, Keys, Lifetime, Stamp, Stamps, Value};
    use crate::oracle::{Finding, Label, Observed, Oracle, Outcome, Promise, Restart};

    const NOBODY: Label = Label { client: 0, op: 0 };
    const FULL: (Bounds, bool, usize) = (Bounds::ALL, false, usize::MAX);

    /// Three keys; the values 2 to 9 of keys 0 to 2 were written at 1000 ms.
    fn oracle(values: &[(KeyId, Stamp, u32)]) -> Oracle {
        let mut stamps = Stamps::default();
        (2..10).for_each(|stamp| stamps.add(Value { stamp, bytes: 4 }));
        let mut oracle = Oracle::new(Keys::new(vec![b"a".to_vec(), b"b".to_vec(), b"c".to_vec()]), stamps, false);
        for (seq, &(key, stamp, ms)) in (1..).zip(values) {
            let entry = Entry::expiring(key, Value { stamp, bytes: 4 }, Lifetime::For(ms));
            let ticket = oracle.begin_write([entry], NOBODY);
            oracle.tell_written(&ticket, Some(1000), at(1000, 1000, 0)).expect("in time");
            oracle.end_write(ticket, Some(seq), Outcome::Acknowledged { durable: true }).expect("in order");
        }
        oracle
    }

    /// A call during which the wall clock was at least `from` and nothing was ever above `to`.
    fn at(from: u64, to: u64, monotonic: u64) -> Timing {
        Timing { wall_min_ms: from, time_max_ms: to, began_ms: monotonic, ended_ms: monotonic }
    }

    fn entries(seen: &[(KeyId, Stamp)]) -> Vec<(Vec<u8>, Vec<u8>)> {
        seen.iter().map(|&(key, stamp)| (vec![b'a' + key as u8], Value { stamp, bytes: 4 }.to_bytes())).collect()
    }

    fn get(oracle: &mut Oracle, timing: Timing, key: KeyId, stamp: Option<Stamp>) -> Result<(), Finding> {
        let ticket = oracle.begin_read(NOBODY).timed(timing);
        let value = stamp.map(|stamp| Value { stamp, bytes: 4 }.to_bytes());
        oracle.end_get(ticket, key, value.as_deref())
    }

    fn scan(oracle: &mut Oracle, timing: Timing, seq: u64, seen: &[(KeyId, Stamp)]) -> Result<(), Finding> {
        let ticket = oracle.begin_read(NOBODY).timed(timing);
        oracle.end_scan(ticket, FULL, Some(seq), &entries(seen))
    }

    fn class(result: Result<(), Finding>) -> String {
        result.expect_err("wrong").class.into_owned()
    }

    #[test]
    fn a_value_is_seen_before_its_time_and_not_from_then_on() {
        let mut oracle = oracle(&[(0, 2, 100)]);
        get(&mut oracle, at(1000, 1099, 0), 0, Some(2)).expect("before");
        assert_eq!(class(get(&mut oracle, at(1000, 1099, 0), 0, None)), "expired too early");
        get(&mut oracle, at(1099, 1100, 0), 0, Some(2)).expect("either");
        get(&mut oracle, at(1099, 1100, 0), 0, None).expect("either");
        assert_eq!(class(get(&mut oracle, at(1100, 1200, 0), 0, Some(2))), "expired value");
    }

    #[test]
    fn what_was_seen_expired_stays_so_when_the_clock_goes_back_and_the_time_goes_on() {
        let mut oracle = oracle(&[(0, 2, 100), (1, 3, 150)]);
        get(&mut oracle, at(2000, 2000, 7), 0, None).expect("its time has come");
        assert_eq!(class(get(&mut oracle, at(900, 2000, 7), 0, Some(2))), "expired value");
        get(&mut oracle, at(900, 2000, 7), 1, Some(3)).expect("nobody knows whether the store had looked at the clock");
        // The wall clock stands still at an early time; the other has gone on by 60 ms since 1100 was proven.
        let mut oracle = self::oracle(&[(0, 2, 100), (1, 3, 150)]);
        get(&mut oracle, at(900, 1120, 0), 0, None).expect("it may be 1100");
        get(&mut oracle, at(900, 1160, 49), 1, Some(3)).expect("it may still be 1149");
        assert_eq!(class(get(&mut oracle, at(900, 1180, 50), 1, Some(3))), "expired value");
    }

    #[test]
    fn one_scan_and_one_snapshot_are_of_one_time() {
        let mut oracle = oracle(&[(0, 2, 100), (1, 3, 150)]);
        let any = at(1000, 1500, 0);
        assert_eq!(class(scan(&mut oracle, any, 2, &[(0, 2)])), "expired too early");
        let mut oracle = self::oracle(&[(0, 2, 100), (1, 3, 150)]);
        let ticket = oracle.begin_read(NOBODY).timed(any);
        let mark = oracle.end_snapshot(ticket, Some(2)).expect("the newest");
        let late = oracle.begin_read(NOBODY).timed(at(9000, 9000, 0));
        oracle.end_get_at(late, mark, 0, None).expect("it may have been 1100");
        oracle.end_scan_at(late, mark, FULL, &entries(&[(1, 3)])).expect("and not 1150 yet");
        let back = oracle.end_scan_at(late, mark, FULL, &entries(&[(0, 2), (1, 3)]));
        assert_eq!(class(back), "expired value");
        assert_eq!(class(oracle.end_get_at(late, mark, 1, None)), "expired too early");
    }

    #[test]
    fn a_lifetime_begins_at_a_time_that_can_be() {
        let mut oracle = oracle(&[]);
        let ticket = oracle.begin_write([Entry::expiring(0, Value { stamp: 2, bytes: 4 }, Lifetime::For(5))], NOBODY);
        let told = oracle.tell_written(&ticket, Some(1001), at(900, 1000, 0));
        assert_eq!(told.expect_err("the future").check, "time-went-astray");
        let _ = oracle.end_write(ticket, None, Outcome::Failed);
    }

    #[test]
    fn recovery_is_of_one_time_which_may_be_earlier_than_before() {
        let recover = |seen: &[(KeyId, Stamp)], timing| {
            let mut oracle = oracle(&[(0, 2, 100), (1, 3, 150), (2, 4, 9000)]);
            scan(&mut oracle, at(5000, 5000, 3), 3, &[(2, 4)]).expect("two have expired");
            let observed = Observed { digest: seen.to_vec(), timing: Some(timing), ..Observed::default() };
            oracle.recover(Restart::PowerLoss, Promise::Durable, None, true, &observed).map(|_| oracle)
        };
        let back = at(1010, 5010, 5);
        recover(&[(0, 2), (1, 3), (2, 4)], back).expect("nothing of what had expired was dropped");
        let mut oracle = recover(&[(1, 3), (2, 4)], back).expect("it goes on from 1100 or later");
        assert_eq!(class(get(&mut oracle, at(1010, 5010, 60), 1, Some(3))), "expired value");
        recover(&[(0, 2), (2, 4)], back).expect_err("what expires later cannot be gone alone");
        recover(&[(1, 3)], back).expect_err("a value that lasts longer is lost");
        recover(&[(0, 2), (1, 3), (2, 4)], at(1100, 5010, 5)).expect_err("the clock itself says that it has expired");
    }

    /// The operand with this stamp, as it is appended to the value.
    fn appended(base: Option<Stamp>, operands: &[Stamp]) -> Vec<u8> {
        let base = base.map_or(Vec::new(), |stamp| Value { stamp, bytes: 4 }.to_bytes());
        let operands = operands.iter().map(|&stamp| Value { stamp, bytes: 4 }.to_operand());
        [base].into_iter().chain(operands).collect::<Vec<_>>().concat()
    }

    fn merge(oracle: &mut Oracle, seq: u64, key: KeyId, stamp: Stamp) {
        let ticket = oracle.begin_write([Entry::operand(key, Value { stamp, bytes: 4 })], NOBODY);
        oracle.tell_written(&ticket, Some(1000), at(1000, 1000, 0)).expect("in time");
        oracle.end_write(ticket, Some(seq), Outcome::Acknowledged { durable: true }).expect("in order");
    }

    #[test]
    fn operands_outlive_the_value_that_they_were_appended_to() {
        let judge = |timing: Timing, value: Option<Vec<u8>>| {
            let mut oracle = oracle(&[(0, 2, 100)]);
            merge(&mut oracle, 2, 0, 3);
            merge(&mut oracle, 3, 0, 4);
            let ticket = oracle.begin_read(NOBODY).timed(timing);
            oracle.end_get(ticket, 0, value.as_deref())
        };
        let (before, after, either) = (at(1000, 1099, 0), at(1100, 1200, 0), at(1099, 1100, 0));
        judge(before, Some(appended(Some(2), &[3, 4]))).expect("all of it");
        judge(after, Some(appended(None, &[3, 4]))).expect("the operands alone");
        judge(either, Some(appended(Some(2), &[3, 4]))).expect("still");
        judge(either, Some(appended(None, &[3, 4]))).expect("already");
        assert_eq!(class(judge(before, Some(appended(None, &[3, 4])))), "expired too early");
        assert_eq!(class(judge(after, Some(appended(Some(2), &[3, 4])))), "expired value");
        for timing in [before, after, either] {
            judge(timing, None).expect_err("operands do not expire");
            judge(timing, Some(appended(Some(2), &[4]))).expect_err("an operand is missing");
            judge(timing, Some(appended(None, &[4]))).expect_err("what expires takes no operand along");
            judge(timing, Some(appended(None, &[4, 3]))).expect_err("the order counts");
            judge(timing, Some(appended(Some(2), &[]))).expect_err("the operands are missing");
        }
    }

    #[test]
    fn a_value_that_is_written_over_operands_ends_them_and_expires_alone() {
        let mut oracle = oracle(&[(0, 2, 100)]);
        merge(&mut oracle, 2, 0, 3);
        let ticket = oracle.begin_write([Entry::expiring(0, Value { stamp: 5, bytes: 4 }, Lifetime::For(50))], NOBODY);
        oracle.tell_written(&ticket, Some(1000), at(1000, 1000, 0)).expect("in time");
        oracle.end_write(ticket, Some(3), Outcome::Acknowledged { durable: true }).expect("in order");
        get(&mut oracle, at(1000, 1049, 0), 0, Some(5)).expect("before");
        get(&mut oracle, at(1050, 1099, 0), 0, None).expect("what was below does not come back");
        assert_eq!(class(get(&mut oracle, at(1050, 1099, 0), 0, Some(5))), "expired value");
    }

    #[test]
    fn a_recovery_of_operands_upon_what_expires_is_of_one_time() {
        let recover = |value: Vec<u8>, other: Option<Stamp>, timing| {
            let mut oracle = oracle(&[(0, 2, 100), (1, 5, 100)]);
            merge(&mut oracle, 3, 0, 3);
            let mut entries = vec![(b"a".to_vec(), value)];
            entries.extend(other.map(|stamp| (b"b".to_vec(), Value { stamp, bytes: 4 }.to_bytes())));
            let digest = oracle.digest(&entries, NOBODY).expect("written");
            let observed = Observed { digest, timing: Some(timing), ..Observed::default() };
            oracle.recover(Restart::PowerLoss, Promise::Durable, None, true, &observed).map(|_| oracle)
        };
        let any = at(1000, 1500, 0);
        let (whole, rest) = (appended(Some(2), &[3]), appended(None, &[3]));
        recover(whole.clone(), Some(5), any).expect("before");
        let mut oracle = recover(rest.clone(), None, any).expect("after");
        let ticket = oracle.begin_read(NOBODY).timed(any);
        oracle.end_get(ticket, 0, Some(&whole)).expect_err("it is over");
        let ticket = oracle.begin_read(NOBODY).timed(any);
        oracle.end_get(ticket, 0, Some(&rest)).expect("it stays so");
        recover(rest, Some(5), any).expect_err("both expire at once");
        recover(whole.clone(), None, any).expect_err("both expire at once");
        recover(whole, None, at(1100, 1500, 0)).expect_err("the clock itself says that it has expired");
        recover(appended(Some(2), &[]), Some(5), any).expect_err("a durable operand is lost");
    }

    #[test]
    fn operands_upon_what_failed_and_expires_are_seen_with_it_until_its_time_or_upon_what_was_before() {
        let start = || {
            let mut oracle = oracle(&[(0, 5, 9000)]);
            let failed = Entry::expiring(0, Value { stamp: 2, bytes: 4 }, Lifetime::For(100));
            let ticket = oracle.begin_write([failed], NOBODY);
            oracle.tell_written(&ticket, Some(1000), at(1000, 1000, 0)).expect("in time");
            oracle.end_write(ticket, Some(2), Outcome::Failed).expect("in order");
            merge(&mut oracle, 3, 0, 3);
            oracle
        };
        let judge = |oracle: &mut Oracle, timing: Timing, base: Option<Stamp>| {
            let ticket = oracle.begin_read(NOBODY).timed(timing);
            oracle.end_get(ticket, 0, Some(&appended(base, &[3])))
        };
        let (before, after, either) = (at(1000, 1099, 0), at(1100, 1200, 0), at(1099, 1100, 0));
        for (timing, base, right) in [
            (before, Some(2), true),
            (before, Some(5), true),
            (before, None, false),
            (after, Some(2), false),
            (after, Some(5), true),
            (after, None, true),
            (either, Some(2), true),
            (either, None, true),
        ] {
            assert_eq!(judge(&mut start(), timing, base).is_ok(), right, "{timing:?} {base:?}");
        }
        let mut oracle = start();
        judge(&mut oracle, either, None).expect("it is there, and over");
        judge(&mut oracle.clone(), before, Some(5)).expect_err("it was there");
        judge(&mut oracle, at(900, 1150, 0), Some(2)).expect_err("it was over");
    }

    #[test]
    fn operands_keep_the_doubt_about_what_they_are_appended_to() {
        let mut oracle = oracle(&[(0, 2, 100)]);
        let ticket = oracle.begin_write([Entry::new(0, None)], NOBODY);
        oracle.end_write(ticket, Some(2), Outcome::Acknowledged { durable: false }).expect("in order");
        let recover = |oracle: &mut Oracle, digest: Vec<(KeyId, Stamp)>| {
            let observed = Observed { digest, timing: Some(at(1010, 1500, 0)), ..Observed::default() };
            oracle.recover(Restart::PowerLoss, Promise::Durable, None, true, &observed).map(|recovered| recovered.n)
        };
        assert_eq!(recover(&mut oracle, Vec::new()).expect("over, or deleted"), 1);
        merge(&mut oracle, 3, 0, 3);
        let alone = appended(None, &[3]);
        let ticket = oracle.begin_read(NOBODY).timed(at(1020, 1030, 0));
        oracle.end_get(ticket, 0, Some(&alone)).expect("it may have been deleted");
        let digest = oracle.digest(&[(b"a".to_vec(), alone)], NOBODY).expect("written");
        recover(&mut oracle, digest).expect("nobody knows");
    }

    #[test]
    fn what_expired_unseen_comes_back_with_the_clock_if_the_store_said_that_it_is_there() {
        let recovered = |newest: Option<u64>| {
            let mut oracle = oracle(&[(0, 2, 50)]);
            let ticket =
                oracle.begin_write([Entry::expiring(1, Value { stamp: 3, bytes: 4 }, Lifetime::For(50))], NOBODY);
            oracle.tell_written(&ticket, Some(1000), at(1000, 1000, 0)).expect("in time");
            oracle.end_write(ticket, Some(2), Outcome::Acknowledged { durable: false }).expect("in order");
            let mut recover = |timing: Timing, seen: &[(KeyId, Stamp)]| {
                let observed = Observed { digest: seen.to_vec(), newest, timing: Some(timing), ..Observed::default() };
                oracle.recover(Restart::PowerLoss, Promise::Durable, None, true, &observed).map(|recovered| recovered.n)
            };
            let first = recover(at(1010, 2000, 0), &[]).expect("expired, both of them");
            (first, recover(at(1010, 1010, 10), &[(0, 2), (1, 3)]))
        };
        assert_eq!(recovered(Some(2)), (2, Ok(2)));
        let (first, second) = recovered(Some(1));
        assert_eq!(first, 1);
        second.expect_err("it had said that the write is gone");
    }
}
