//! The loop: every boundary, every image, each recovered once and judged each time.
//!
//! An image is known by the hash of all that can be read in it. Recovery of equal images shows the same, so what was shown
//! is kept by that hash ([`Memory`]); what was promised is another matter at each boundary, and an image that was met before
//! under a weaker promise is judged again. Only the judging is needed then, and it is a search for a number.

use super::boundaries::{Boundary, Recording, record};
use super::cut::Cut;
use super::lazy::{self, Log};
use super::nested::{self, Expected};
use super::pairs;
use super::recovery::{Recoverer, Shown};
use super::tally::{Found, Tally};
use crate::campaign::real_now;
use crate::disk::Disk;
use crate::oracle::{Finding, History, Promise};
use crate::rng::{Decision, Decisions};
use crate::runner::without_a_cause;
use crate::store::{FailureKind, StoreKind};
use crate::watch::Watch;
use crate::workload::Plan;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

/// Boundaries whose disks are held at once: the run is made anew for each so many.
const HELD: u64 = 1024;

/// Images of one boundary that are tried at most, spread evenly over all of them.
const IMAGES_MAX: usize = 512;

/// Logs of recoveries that are kept, for images that come again at the next boundaries.
const LOGS_MAX: usize = 4096;

/// What is swept.
#[derive(Clone)]
pub struct Subject {
    /// The quiet plan, see [`super::boundaries::quiet`].
    pub plan: Arc<Plan>,
    /// The seed that decides who runs when.
    pub seed: u64,
    /// The store.
    pub kind: Arc<dyn StoreKind>,
    /// Whether a write may be torn within a sector.
    pub torn: bool,
}

/// Which images of a boundary are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Images {
    /// The canonical ones.
    Canonical,
    /// Those that recovery can tell apart, within a budget.
    Lazy,
    /// Both.
    All,
}

/// How it is swept.
#[derive(Clone, Debug)]
pub struct How {
    /// Which images are tried.
    pub images: Images,
    /// Whether missing orders are looked for between each two changes.
    pub pairs: bool,
    /// Crashes in a row: 1 for none within a recovery.
    pub depth: u32,
    /// When to stop.
    pub deadline: Option<Instant>,
    /// Which boundaries; those that there are not do not count.
    pub range: Range<u64>,
}

impl Default for How {
    fn default() -> How {
        How { images: Images::All, pairs: false, depth: 1, deadline: None, range: 0..u64::MAX }
    }
}

/// Sweeps.
pub fn sweep(subject: &Subject, how: &How) -> Tally {
    let mut tally = Tally::default();
    let mut at = how.range.start;
    let mut end = how.range.end;
    let mut sweeper: Option<Sweeper<'_>> = None;
    while at < end {
        let until = end.min(at.saturating_add(HELD));
        let recording = record(subject.plan.clone(), &subject.kind, Decisions::from_seed(subject.seed), at..until);
        tally.total = recording.total;
        if let Some(failure) = &recording.report.failure {
            // Without any crash there is nothing that a sweep could add.
            let found = |finding| Found::without_crash(subject, finding, failure.ops, recording.decisions.clone());
            tally.found(failure.finding.clone(), found);
            return tally;
        }
        end = end.min(recording.total);
        let sweeper = sweeper.get_or_insert_with(|| {
            let (plan, kind, history) = (subject.plan.clone(), subject.kind.clone(), recording.history.clone());
            let recoverer = Recoverer::new(plan, kind, history);
            Sweeper::new(subject.clone(), how, &recording, recoverer, Memory::default())
        });
        for boundary in &recording.boundaries {
            if how.deadline.is_some_and(|deadline| real_now() >= deadline) {
                return tally;
            }
            sweeper.boundary(boundary, &mut tally);
        }
        tally.recordings += 1;
        at = until;
    }
    tally
}

/// The number of boundaries.
pub fn count(subject: &Subject) -> u64 {
    record(subject.plan.clone(), &subject.kind, Decisions::from_seed(subject.seed), 0..0).total
}

/// What recoveries have shown, by the hash of the image. It may be shared by sweeps of one store under one set of options,
/// also on several threads, in whose runs every stamp means the same value.
#[derive(Clone, Debug, Default)]
pub struct Memory(Arc<Mutex<BTreeMap<u64, Shown>>>);

/// See the head of this file.
pub struct Sweeper<'a> {
    subject: Subject,
    how: &'a How,
    history: Arc<History>,
    recoverer: Recoverer,
    /// What the run decided, for those who repeat it.
    decisions: Vec<Decision>,
    memory: Memory,
    /// What recovery asked of the newest images.
    logs: BTreeMap<u64, Arc<Mutex<Log>>>,
    /// Images of crashes within recoveries that were tried, each with what they must show.
    pub(super) nested: BTreeSet<(u64, Expected)>,
}

impl<'a> Sweeper<'a> {
    /// Of what was recorded of this subject. The recoverer knows the values of every run that shares the memory.
    pub fn new(
        subject: Subject,
        how: &'a How,
        recording: &Recording,
        recoverer: Recoverer,
        memory: Memory,
    ) -> Sweeper<'a> {
        Sweeper {
            subject,
            how,
            history: recording.history.clone(),
            recoverer,
            decisions: recording.decisions.clone(),
            memory,
            logs: BTreeMap::new(),
            nested: BTreeSet::new(),
        }
    }

    /// Goes on with another subject, as in [`Sweeper::new`].
    pub fn turn_to(&mut self, subject: Subject, recording: &Recording) {
        self.subject = subject;
        self.history = recording.history.clone();
        self.decisions.clone_from(&recording.decisions);
    }

    /// Tries the images of one boundary of the run that was recorded.
    pub fn boundary(&mut self, boundary: &Boundary, tally: &mut Tally) {
        tally.boundaries += 1;
        // Lazily first: that notes what each recovery asks for, and the canonical images are met again for nothing.
        if self.how.images != Images::Canonical {
            lazy::explore(self, boundary, tally);
        }
        if self.how.images != Images::Lazy {
            self.canonical(boundary, tally);
        }
        if self.how.pairs {
            pairs::sweep(self, boundary, tally);
        }
    }

    fn canonical(&mut self, boundary: &Boundary, tally: &mut Tally) {
        let mut cuts = Cut::all(&boundary.disk, self.subject.torn);
        tally.images_legal += cuts.len() as u64;
        if cuts.len() > IMAGES_MAX {
            let count = cuts.len();
            cuts = (0..IMAGES_MAX).map(|index| cuts[index * count / IMAGES_MAX].clone()).collect();
        }
        for cut in cuts {
            tally.images += 1;
            if let Err(finding) = self.try_cut(boundary, &cut, tally) {
                self.report(&[(boundary, &cut)], finding, tally);
            }
        }
    }

    /// Crashes, recovers and judges.
    pub(super) fn try_cut(&mut self, boundary: &Boundary, cut: &Cut, tally: &mut Tally) -> Result<(), Finding> {
        let (image, _) = cut.image(&boundary.disk);
        let hash = image.image_hash();
        self.judge_image(boundary, cut, &image, hash, tally)
    }

    /// Recovers an image, where that was not done before, and judges what it shows.
    pub(super) fn judge_image(
        &mut self,
        boundary: &Boundary,
        cut: &Cut,
        image: &Disk,
        hash: u64,
        tally: &mut Tally,
    ) -> Result<(), Finding> {
        let known = !tally.distinct.insert(hash);
        let remembered = self.memory.0.lock().get(&hash).cloned();
        let shown = match remembered {
            Some(shown) => shown,
            None => {
                let (shown, _) = self.recoverer.recover(image.fork(), hash, None);
                // Two threads may have met the image at once; one of them counts.
                let is_first = self.memory.0.lock().insert(hash, shown.clone()).is_none();
                tally.recoveries += u64::from(is_first);
                shown
            }
        };
        let state = match self.judge(&shown, boundary, cut) {
            Ok(state) => state,
            Err(Some(finding)) => return Err(finding),
            Err(None) => {
                let (_, digest) = self.recoverer.recover(image.fork(), hash, None);
                let promise = cut.promise(self.subject.plan.profile);
                return Err(self.history.explain(boundary.mark, cut.restart(), promise, digest));
            }
        };
        match state {
            Some(state) if !known && self.how.depth > 1 => nested::sweep(self, boundary, cut, image, state, tally),
            _ => {}
        }
        Ok(())
    }

    /// What the recovery of this image asks for.
    pub(super) fn log_of(&mut self, image: &Disk, hash: u64, tally: &mut Tally) -> Arc<Mutex<Log>> {
        if let Some(log) = self.logs.get(&hash) {
            return log.clone();
        }
        if self.logs.len() >= LOGS_MAX {
            self.logs.clear();
        }
        let (watch, log) = Log::watch();
        let shown = self.recover(image, hash, Some(watch), tally);
        self.memory.0.lock().insert(hash, shown);
        self.logs.insert(hash, log.clone());
        log
    }

    /// Takes down what was found after these crashes in a row, and with the first of its kind which orders are missing.
    pub(super) fn report(&mut self, crashes: &[(&Boundary, &Cut)], finding: Finding, tally: &mut Tally) {
        let mut finding = finding;
        if let ([(boundary, cut)], false) = (crashes, tally.failures.contains_key(&finding.fingerprint()))
            && **cut != Cut::Process
        {
            finding.details.extend(pairs::missing_orders(self, boundary, tally));
        }
        tally.found(finding, |finding| Found::after(&self.subject, &self.decisions, crashes, finding));
    }

    pub(super) fn recover(&mut self, image: &Disk, hash: u64, watch: Option<Watch>, tally: &mut Tally) -> Shown {
        tally.recoveries += 1;
        self.recoverer.recover(image.fork(), hash, watch).0
    }

    /// The hash of the state that was rightly shown, if one was; what is wrong, or nothing where only the history can say.
    fn judge(&self, shown: &Shown, boundary: &Boundary, cut: &Cut) -> Result<Option<u64>, Option<Finding>> {
        let promise = cut.promise(self.subject.plan.profile);
        match shown {
            Shown::Wrong(finding) => Err(Some(finding.clone())),
            Shown::Refused(failure, doing) => {
                let lied = !self.subject.plan.profile.syncs_are_honest();
                let damaged = matches!(failure.kind, FailureKind::Corruption | FailureKind::Other);
                if lied && damaged && *cut != Cut::Process {
                    return Ok(None);
                }
                Err(Some(without_a_cause(failure, doing)))
            }
            Shown::State { hash, last_seq } => match self.history.recognise(*hash, boundary.mark, promise) {
                None => Err(None),
                Some(n) if n > *last_seq => Err(Some(Finding::new(
                    "sequence-number-went-back",
                    "check",
                    format!("the store says that {last_seq} is its newest sequence number, and shows {n}"),
                ))),
                Some(_) => Ok(Some(*hash)),
            },
        }
    }

    pub(super) fn is_as_expected(&self, hash: u64, expected: Expected) -> bool {
        match expected {
            Expected::Exactly(state) => hash == state,
            Expected::Durable(mark) => self.history.recognise(hash, mark, Some(Promise::Durable)).is_some(),
        }
    }

    pub(super) fn depth(&self) -> u32 {
        self.how.depth
    }

    pub(super) fn subject(&self) -> &Subject {
        &self.subject
    }

    pub(super) fn is_late(&self) -> bool {
        self.how.deadline.is_some_and(|deadline| real_now() >= deadline)
    }
}
