//! Every sequence of a small alphabet of operations, up to a length, crashed at every change of the disk: bounded exhaustive
//! testing.
//!
//! Most bugs of recovery need two or three operations in the right order and a crash at the right call (Mohan and others,
//! "Finding Crash-Consistency Bugs with Bounded Black-Box Crash Testing", OSDI 2018). Random workloads come to such an order
//! by chance; here all of them run, the shorter ones first, and each is recovered from every canonical image of each cut
//! ([`crate::sweep`]). After each operation everything is read, also from the snapshot.
//!
//! Three things keep it affordable, and each is sound for a reason:
//!
//! - **Cuts in the last operation only.** Every run decides the plainest everywhere, so that it depends on nothing but its
//!   operations, and up to its last one it is call by call the run of the sequence without it, whose cuts there were tried
//!   with that one. What background tasks still do after the last operation belongs to the next one, if there is one: where
//!   they go on, the sequences that are one longer are cut; at the full length, the final closing and opening are cut too.
//! - **One name for one key.** A sequence that names the second key and never the first is left out: it is the sequence that
//!   names the first instead, for a store that only compares keys, since with one key there is nothing to compare. Two keys
//!   are not exchanged: which of two is the smaller one can matter, and does in bugs of bounds and of blocks.
//! - **One recovery for one image.** All sequences of an exploration share what recoveries have shown, by the hash of the
//!   image. The stamps of the operation at a place are the same in every sequence, so that equal bytes mean equal values.
//!
//! A length in which something failed is gone through to its end, and is the last: longer sequences begin with these.
//!
//! Not covered: longer sequences; other schedules than the plain one; more keys, other sizes and options; faults beside one
//! crash; images that are not canonical.

use super::trial::spread;
use crate::campaign::real_now;
use crate::disk::Profile;
use crate::op::{Bounds, Keys, Op, Stamps};
use crate::oracle::{History, Oracle};
use crate::report::count;
use crate::rng::{Decisions, Rest};
use crate::scenario::Check;
use crate::scheduler::Policy;
use crate::store::StoreKind;
use crate::sweep::{Found, How, Images, Memory, Recoverer, Subject, Sweeper, Tally, quiet, record};
use crate::workload::Plan;
use alphabet::{Letter, Sequence};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Instant;

mod alphabet;

/// Sequences that one thread takes at a time. A part is a sum of its own, whatever the number of threads.
const PART: u64 = 64;

/// All sequences of one length.
#[derive(Clone, Debug, Default)]
pub struct Length {
    /// How many there are.
    pub total: u64,
    /// How many of them differ from another in the name of the only key, and are left out.
    pub renamed: u64,
    /// How many of the others ran, and were cut.
    pub covered: u64,
    /// Their cuts, images, recoveries and failures.
    pub tally: Tally,
}

/// What came of an exploration.
#[derive(Clone, Debug)]
pub struct Exhaust {
    /// What was asked for: the longest sequences.
    pub length: usize,
    /// What they are made of.
    letters: &'static [Letter],
    /// By length, from the empty sequence on; those that were not begun are missing.
    pub lengths: Vec<Length>,
    /// All lengths together.
    pub sum: Tally,
}

/// Goes through all sequences of at most so many operations.
pub fn explore(
    kind: &Arc<dyn StoreKind>,
    profile: Profile,
    length: usize,
    jobs: usize,
    deadline: Option<Instant>,
) -> Exhaust {
    let how = How { images: Images::Canonical, deadline, ..How::default() };
    let letters = Letter::of(kind.as_ref());
    let (memory, history) = (Memory::default(), Arc::new(every_value(letters, length)));
    let mut exhaust = Exhaust { length, letters, lengths: Vec::new(), sum: Tally::default() };
    for of in 0..=length {
        let total = Sequence::count(letters, of);
        let parts: Vec<u64> = (0..total).step_by(PART as usize).collect();
        let done = spread(&parts, jobs, deadline, |&first| {
            let last = of == length;
            let mut part =
                Part { kind, profile, letters, how: &how, memory: &memory, history: &history, sweeper: None, last };
            (first..total.min(first + PART)).fold(Length::default(), |sum, number| part.add(sum, of, number))
        });
        let mut sum = Length { total, ..Length::default() };
        for part in done.into_iter().flatten() {
            sum.renamed += part.renamed;
            sum.covered += part.covered;
            sum.tally.merge(part.tally);
        }
        exhaust.sum.merge(sum.tally.clone());
        let over = !sum.is_whole() || !sum.tally.failures.is_empty();
        exhaust.lengths.push(sum);
        if over {
            break;
        }
    }
    exhaust
}

/// A history that knows every value that a sequence of this length can write, and no write.
fn every_value(letters: &[Letter], length: usize) -> History {
    let ops: Vec<Op> = (0..length).flat_map(|place| letters.iter().map(move |letter| letter.op(place))).collect();
    History::new(Oracle::new(keys(), Stamps::of(&[ops]), false))
}

fn keys() -> Keys {
    Keys::new(vec![b"a".to_vec(), b"b".to_vec()])
}

/// The plan of a sequence, and how many operations of the plan come before its last one and the reads after that.
fn plan_of(sequence: &Sequence, kind: &dyn StoreKind, profile: Profile) -> (Plan, u64) {
    let mut ops = Vec::new();
    let mut before_last = 0;
    let all = |at| Op::Scan { bounds: Bounds::ALL, reverse: false, limit: None, at };
    for (place, letter) in sequence.letters().enumerate() {
        before_last = ops.len() as u64;
        ops.push(letter.op(place));
        ops.push(all(None));
        if sequence.holds_snapshot(place) {
            ops.push(all(Some(alphabet::SLOT)));
        }
    }
    let plan = Plan {
        scenario: "every-short-sequence".into(),
        store: kind.name().into(),
        profile,
        options: kind.default_options(),
        variants: Vec::new(),
        faults: Vec::new(),
        checks: Check::ALL.to_vec(),
        policy: Policy::default(),
        keys: keys(),
        clients: vec![ops],
    };
    (quiet(&plan, kind), before_last)
}

/// Some sequences of one length, on one thread.
struct Part<'a> {
    kind: &'a Arc<dyn StoreKind>,
    profile: Profile,
    letters: &'static [Letter],
    how: &'a How,
    memory: &'a Memory,
    history: &'a Arc<History>,
    sweeper: Option<Sweeper<'a>>,
    /// Whether no longer sequences follow.
    last: bool,
}

impl Part<'_> {
    fn add(&mut self, mut sum: Length, length: usize, number: u64) -> Length {
        let sequence = Sequence::new(self.letters, length, number);
        if sequence.is_renamed() {
            sum.renamed += 1;
        } else if self.how.deadline.is_none_or(|deadline| real_now() < deadline) {
            self.sweep(&sequence, &mut sum.tally);
            sum.covered += 1;
        }
        sum
    }

    fn sweep(&mut self, sequence: &Sequence, tally: &mut Tally) {
        let (plan, before_last) = plan_of(sequence, self.kind.as_ref(), self.profile);
        let ops = plan.ops() as u64;
        let subject = Subject { plan: Arc::new(plan), seed: 0, kind: self.kind.clone(), torn: false };
        let plainest = Decisions::scripted(BTreeMap::new(), Rest::Zero);
        let recording = record(subject.plan.clone(), &subject.kind, plainest, 0..u64::MAX);
        tally.recordings += 1;
        if let Some(failure) = &recording.report.failure {
            let decisions = recording.decisions.clone();
            let finding = failure.finding.clone();
            tally.found(finding, |finding| Found::without_crash(&subject, finding, failure.ops, decisions));
            return;
        }
        match &mut self.sweeper {
            Some(sweeper) => sweeper.turn_to(subject, &recording),
            None => {
                let recoverer = Recoverer::new(subject.plan.clone(), subject.kind.clone(), self.history.clone());
                let sweeper = Sweeper::new(subject, self.how, &recording, recoverer, self.memory.clone());
                self.sweeper = Some(sweeper);
            }
        }
        let sweeper = self.sweeper.as_mut().expect("made above");
        // The last operation of a quiet plan closes and opens the store: a sequence that is one longer does so as well.
        let first = if sequence.is_empty() { 0 } else { before_last + 1 };
        let end = if self.last { ops } else { ops - 1 };
        for boundary in recording.boundaries.iter().filter(|boundary| (first..=end).contains(&boundary.ops)) {
            sweeper.boundary(boundary, tally);
            tally.total += 1;
        }
    }
}

impl Length {
    /// Whether every sequence of the length ran, or is another under other names.
    pub fn is_whole(&self) -> bool {
        self.covered + self.renamed == self.total
    }
}

impl Exhaust {
    /// Sequences that ran.
    pub fn covered(&self) -> u64 {
        self.lengths.iter().map(|length| length.covered).sum()
    }

    /// Whether all sequences of the length and below ran.
    pub fn is_whole(&self) -> bool {
        self.lengths.len() == self.length + 1 && self.lengths.iter().all(Length::is_whole)
    }

    /// The first failure of each kind, with how many there were.
    pub fn found(&self) -> impl Iterator<Item = (&Found, u64)> {
        self.sum.failures.values().map(|(found, count)| (found, *count))
    }

    /// What was covered and what not, for people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let mut line = |line: String| writeln!(text, "{line}").expect("writing to a string");
        let words: Vec<String> = self.letters.iter().map(Letter::to_string).collect();
        line(format!("{} operations: {}", words.len(), words.join(", ")));
        for (length, sum) in self.lengths.iter().enumerate() {
            line(format!(
                "  of length {length}: {} of {} sequences covered, {} like one under another name; {} boundaries, {} images",
                count(sum.covered),
                count(sum.total),
                count(sum.renamed),
                count(sum.tally.boundaries),
                count(sum.tally.images),
            ));
        }
        line(format!(
            "{} sequences, {} boundaries, {} images, {} distinct, {} recoveries",
            count(self.covered()),
            count(self.sum.boundaries),
            count(self.sum.images),
            count(self.sum.distinct.len() as u64),
            count(self.sum.recoveries),
        ));
        line("not covered:".into());
        if let Some(last) = self.lengths.last().filter(|last| !last.is_whole()) {
            let left = last.total - last.renamed - last.covered;
            line(format!("  {} sequences of length {}: time was up", count(left), self.lengths.len() - 1));
        }
        if self.lengths.len() <= self.length {
            let why = if self.sum.failures.is_empty() { "time was up" } else { "shorter ones fail" };
            line(format!("  lengths {} to {}: {why}", self.lengths.len(), self.length));
        }
        if self.sum.images < self.sum.images_legal {
            line(format!("  {} canonical images: too many at one boundary", self.sum.images_legal - self.sum.images));
        }
        line(format!("  sequences of more than {} operations; other keys, sizes, options and schedules", self.length));
        text
    }

    /// The same, for programs.
    pub fn json(&self) -> serde_json::Value {
        let lengths: Vec<_> = self.lengths.iter().map(length_json).collect();
        let alphabet: Vec<String> = self.letters.iter().map(Letter::to_string).collect();
        serde_json::json!({
            "length": self.length, "alphabet": alphabet, "lengths": lengths,
            "sequences": self.covered(), "boundaries": self.sum.boundaries, "images": self.sum.images,
            "images_legal": self.sum.images_legal, "images_distinct": self.sum.distinct.len(),
            "recoveries": self.sum.recoveries, "whole": self.is_whole(),
        })
    }
}

fn length_json(length: &Length) -> serde_json::Value {
    serde_json::json!({
        "total": length.total, "renamed": length.renamed, "covered": length.covered,
        "boundaries": length.tally.boundaries, "images": length.tally.images,
        "images_distinct": length.tally.distinct.len(), "failures": length.tally.failures.len(),
    })
}

#[cfg(test)]
mod tests;
