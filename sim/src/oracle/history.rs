//! One run without a crash as a judge of many crashes: what recovery may show at each moment of it.
//!
//! A sweep asks the same question thousands of times: is this the state at some `n` between the floor and the ceiling of
//! that moment? The run is over, so all of its writes and their sequence numbers are known, and so is the state after each
//! of them. Its rolling hash is kept once; an answer is a search for a hash, and no model is rebuilt.
//!
//! Only a state that is not among them is worth an oracle: it is built as it was at that moment, and says in its own words
//! what is wrong. That the two agree is asserted each time.
//!
//! What it does not know: writes that failed with an error, and values that expire. The run is one without faults, in which
//! values last.

use super::{Digest, Finding, Label, Observed, Oracle, Outcome, Promise, Restart, Tick, mix};
use crate::op::{KeyId, Stamp, TOMBSTONE, written_upon};

/// A moment of a run, as its oracle knew it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    tick: Tick,
    acked: u64,
    durable: u64,
}

impl Oracle {
    /// This moment.
    pub fn mark(&self) -> Mark {
        Mark { tick: self.tick, acked: self.acked, durable: self.durable }
    }
}

/// A write, and the state after it.
#[derive(Clone, Copy, Debug)]
struct Step {
    write: u32,
    invoked: Tick,
    last: u64,
    hash: u64,
}

/// See the head of this file.
#[derive(Debug)]
pub struct History {
    oracle: Oracle,
    /// In the order of sequence numbers; the first is the empty store.
    steps: Vec<Step>,
    /// (hash, index of the step), ascending.
    by_hash: Vec<(u64, u32)>,
}

impl History {
    /// Of the run that has made this oracle.
    pub fn new(oracle: Oracle) -> History {
        let mut order: Vec<u32> = (0..oracle.writes.len() as u32).collect();
        order.retain(|write| oracle.writes[*write as usize].first > 0);
        order.sort_by_key(|write| oracle.writes[*write as usize].first);
        let mut state = vec![TOMBSTONE; oracle.keys.count()];
        let mut hash = 0u64;
        let mut steps = Vec::with_capacity(order.len() + 1);
        steps.push(Step { write: u32::MAX, invoked: 0, last: 0, hash });
        for write in order {
            let record = &oracle.writes[write as usize];
            for (key, stamp) in &oracle.entries[record.start as usize..(record.start + record.count) as usize] {
                let stamp = written_upon(state[*key as usize], *stamp);
                let old = std::mem::replace(&mut state[*key as usize], stamp);
                hash = hash.wrapping_sub(mix(*key, old)).wrapping_add(mix(*key, stamp));
            }
            steps.push(Step {
                write,
                invoked: record.invoked,
                last: record.first + u64::from(record.numbers) - 1,
                hash,
            });
        }
        let mut by_hash: Vec<(u64, u32)> = steps.iter().zip(0..).map(|(step, index)| (step.hash, index)).collect();
        by_hash.sort_unstable();
        History { oracle, steps, by_hash }
    }

    /// Writes of the run.
    pub fn writes(&self) -> u64 {
        self.steps.len() as u64 - 1
    }

    /// The entries of a scan as numbers, or what is wrong with them in themselves.
    pub fn digest(&self, entries: &[(Vec<u8>, Vec<u8>)]) -> Result<Digest, Finding> {
        self.oracle.entries_as_numbers(entries, Label::HARNESS)
    }

    /// The hash of a state.
    pub fn hash_of(digest: &[(KeyId, Stamp)]) -> u64 {
        digest.iter().fold(0, |hash, (key, stamp)| hash.wrapping_add(mix(*key, *stamp)))
    }

    fn floor(mark: Mark, promise: Option<Promise>) -> u64 {
        match promise {
            Some(Promise::Acknowledged) => mark.acked,
            Some(Promise::Durable | Promise::BegunBehind(_)) => mark.durable,
            None => 0,
        }
    }

    /// The least sequence number at which the run was in a state of this hash, if recovery may show it after a crash at
    /// that moment. Without a promise, any earlier state will do.
    pub fn recognise(&self, hash: u64, mark: Mark, promise: Option<Promise>) -> Option<u64> {
        let floor = History::floor(mark, promise);
        let start = self.by_hash.partition_point(|(other, _)| *other < hash);
        self.by_hash[start..].iter().take_while(|(other, _)| *other == hash).find_map(|(_, index)| {
            let step = self.steps[*index as usize];
            (step.last >= floor && step.invoked <= mark.tick).then_some(step.last)
        })
    }

    /// Says what is wrong with a state that [`History::recognise`] does not know.
    pub fn explain(&self, mark: Mark, restart: Restart, promise: Option<Promise>, digest: Digest) -> Finding {
        let mut oracle = self.oracle_at(mark);
        let observed = Observed { digest, ..Observed::default() };
        // Where nothing is promised, all promises from the first call on are forgiven.
        let forgiven_from = promise.is_none().then_some(0);
        match oracle.recover(restart, promise.unwrap_or(Promise::Durable), forgiven_from, true, &observed) {
            Err(finding) => finding,
            Ok(recovered) => panic!("the history knows no such state, and the oracle does: {recovered:?}"),
        }
    }

    /// The oracle as it was then, with what was in flight lost.
    fn oracle_at(&self, mark: Mark) -> Oracle {
        let known = &self.oracle;
        let mut oracle = Oracle::new(known.keys.clone(), known.stamps.clone(), false);
        for step in self.steps[1..].iter().filter(|step| step.invoked <= mark.tick) {
            let record = &known.writes[step.write as usize];
            let own = record.start as usize..(record.start + record.count) as usize;
            let entries = known.entries[own.clone()].iter().zip(&known.numbers[own]);
            let entries = entries.map(|((key, stamp), number)| (*key, *stamp, *number, None));
            let ticket = oracle.begin(entries, record.label);
            let outcome = match step.last <= mark.acked {
                true => Outcome::Acknowledged { durable: step.last <= mark.durable },
                false => Outcome::Lost,
            };
            let placed = oracle.end_write(ticket, Some(record.first), outcome);
            assert!(placed.is_ok(), "the run had given these numbers: {placed:?}");
        }
        oracle
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::{Entry, Keys, Stamps, Value};

    /// A store of three keys, in which write `i` gives key `i % 3` the value `10 + i`, and each third write is durable.
    fn run() -> (Oracle, Vec<Mark>) {
        let keys = Keys::new(vec![b"a".to_vec(), b"b".to_vec(), b"c".to_vec()]);
        let mut stamps = Stamps::default();
        (10..30).for_each(|stamp| stamps.add(Value { stamp, bytes: 8 }));
        let mut oracle = Oracle::new(keys, stamps, false);
        let mut marks = vec![oracle.mark()];
        for i in 0..12 {
            let entry = Entry::new(i % 3, Some(Value { stamp: 10 + i, bytes: 8 }));
            let ticket = oracle.begin_write([entry], Label { client: 0, op: i });
            marks.push(oracle.mark());
            let durable = i % 3 == 2;
            oracle.end_write(ticket, Some(u64::from(i) + 1), Outcome::Acknowledged { durable }).expect("in order");
            marks.push(oracle.mark());
        }
        (oracle, marks)
    }

    fn state_after(writes: u32) -> Digest {
        (0..3).filter_map(|key| (0..writes).rev().find(|i| i % 3 == key).map(|i| (key, 10 + i))).collect()
    }

    #[test]
    fn history_and_oracle_agree_on_every_state_at_every_moment() {
        let (oracle, marks) = run();
        let history = History::new(oracle);
        assert_eq!(history.writes(), 12);
        for mark in marks {
            for (restart, promise) in
                [(Restart::PowerLoss, Promise::Durable), (Restart::Process, Promise::Acknowledged)]
            {
                for n in 0..=12 {
                    let digest = state_after(n);
                    let known = history.recognise(History::hash_of(&digest), mark, Some(promise));
                    let observed = Observed { digest: digest.clone(), ..Observed::default() };
                    let judged = history.oracle_at(mark).recover(restart, promise, None, true, &observed);
                    assert_eq!(known, judged.ok().map(|recovered| recovered.n), "{mark:?} {promise:?} {n}");
                    if known.is_none() {
                        let finding = history.explain(mark, restart, Some(promise), digest);
                        assert!(!finding.symptom.is_empty());
                    }
                }
            }
        }
    }

    #[test]
    fn a_state_that_never_was_is_not_recognised_whatever_is_promised() {
        let (oracle, marks) = run();
        let history = History::new(oracle);
        let mark = *marks.last().expect("marks");
        let digest = vec![(0, 10), (1, 11), (2, 15)];
        assert_eq!(history.recognise(History::hash_of(&state_after(1)), mark, None), Some(1));
        assert_eq!(history.recognise(History::hash_of(&digest), mark, None), None);
    }
}
