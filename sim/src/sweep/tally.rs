//! What a sweep comes to: numbers that add up over its parts, and failures that ordinary runs repeat.
//!
//! A failure is known by its fingerprint; the first of each is kept, as a plan with fault rules that strike at its
//! boundaries, and the decisions that make the crashes leave its images. So whoever can replay and shrink a run can replay
//! and shrink it.

use super::boundaries::Boundary;
use super::cut::Cut;
use super::sweeper::Subject;
use crate::artifact::Artifact;
use crate::disk::{CrashKind, CrashReport};
use crate::fault::FaultRule;
use crate::oracle::Finding;
use crate::rng::{Decision, Decisions, Recording, Rest};
use crate::workload::Plan;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

/// See the head of this file.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Boundaries whose images were tried.
    pub boundaries: u64,
    /// Boundaries of the run.
    pub total: u64,
    /// Images that were judged, of the boundaries that were tried.
    pub images: u64,
    /// Images that there are, of the boundaries that were tried.
    pub images_legal: u64,
    /// Hashes of the images.
    pub distinct: BTreeSet<u64>,
    /// Recoveries, those within recoveries and second ones to tell more counted.
    pub recoveries: u64,
    /// Images that were found by exploring what recovery asks for.
    pub lazy: u64,
    /// Boundaries at which that came to its end.
    pub lazy_whole: u64,
    /// Images that were tried to find missing orders.
    pub paired: u64,
    /// Images of crashes within recoveries.
    pub nested: u64,
    /// Runs of the workload.
    pub recordings: u64,
    /// By fingerprint, the first failure and how many there were.
    pub failures: BTreeMap<String, (Found, u64)>,
}

impl Tally {
    /// Counts a failure; the first of its fingerprint is made and kept.
    pub(crate) fn found(&mut self, finding: Finding, found: impl FnOnce(Finding) -> Found) {
        match self.failures.entry(finding.fingerprint()) {
            Entry::Occupied(known) => known.into_mut().1 += 1,
            Entry::Vacant(unknown) => drop(unknown.insert((found(finding), 1))),
        }
    }

    /// Adds another part of the same sweep.
    pub fn merge(&mut self, other: Tally) {
        self.boundaries += other.boundaries;
        self.total = self.total.max(other.total);
        self.images += other.images;
        self.images_legal += other.images_legal;
        self.distinct.extend(other.distinct);
        self.recoveries += other.recoveries;
        self.lazy += other.lazy;
        self.lazy_whole += other.lazy_whole;
        self.paired += other.paired;
        self.nested += other.nested;
        self.recordings += other.recordings;
        for (fingerprint, (found, count)) in other.failures {
            self.failures.entry(fingerprint).or_insert((found, 0)).1 += count;
        }
    }
}

/// A failure.
#[derive(Clone, Debug)]
pub struct Found {
    /// What is wrong.
    pub finding: Finding,
    /// Where power went and what it left, crash by crash.
    pub crashes: Vec<String>,
    /// What the last crash kept and lost.
    pub report: Option<CrashReport>,
    /// Operations that had been started.
    pub ops: u64,
    /// The run that repeats it.
    pub artifact: Artifact,
}

impl Found {
    pub(crate) fn without_crash(subject: &Subject, finding: Finding, ops: u64, decisions: Vec<Decision>) -> Found {
        let artifact = artifact_of(subject, &finding, Vec::new(), decisions);
        Found { finding, crashes: Vec::new(), report: None, ops, artifact }
    }

    pub(super) fn after(
        subject: &Subject,
        decisions: &[Decision],
        crashes: &[(&Boundary, &Cut)],
        finding: Finding,
    ) -> Found {
        let (first, _) = crashes[0];
        let (last, last_cut) = crashes[crashes.len() - 1];
        let mut rules = Vec::new();
        let mut decisions = decisions[..first.decisions].to_vec();
        let mut asked: BTreeMap<String, u64> = BTreeMap::new();
        for (crash, (boundary, cut)) in (0..).zip(crashes) {
            rules.push(boundary.rule(cut.kind()));
            let answers = cut.answers(&boundary.disk);
            for (label, ordinal, value) in &answers {
                let ordinal = asked.get(*label).copied().unwrap_or(0) + ordinal;
                decisions.push(Decision { label: (*label).into(), ordinal, n: value + 1, value: *value });
            }
            if cut.kind() == CrashKind::TornPowerLoss {
                decisions.push(Decision { label: "fault.torn-write".into(), ordinal: crash, n: 2, value: 1 });
            }
            // How often this crash asks at each label, for the ordinals of the next.
            let script = answers.into_iter().map(|(label, ordinal, value)| ((label.to_string(), ordinal), value));
            let mut drawn = Decisions::scripted(script.collect(), Rest::Zero);
            drawn.record(Recording::All);
            let _ = boundary.disk.crash(cut.kind(), &mut drawn);
            drawn.recorded().into_iter().for_each(|decision| *asked.entry(decision.label).or_default() += 1);
        }
        if crashes.iter().any(|(_, cut)| cut.kind() == CrashKind::TornPowerLoss) {
            rules.push("kind = 'torn-write'".parse().expect("a rule without fields"));
        }
        let artifact = artifact_of(subject, &finding, rules, decisions);
        let words = crashes.iter().map(|(boundary, cut)| format!("{cut}, {boundary}")).collect();
        Found { finding, crashes: words, report: Some(last_cut.image(&last.disk).1), ops: first.ops, artifact }
    }
}

fn artifact_of(subject: &Subject, finding: &Finding, faults: Vec<FaultRule>, decisions: Vec<Decision>) -> Artifact {
    Artifact {
        symptom: finding.symptom.clone(),
        fingerprint: finding.fingerprint(),
        seed: Some(subject.seed),
        plan: Plan { faults, ..(*subject.plan).clone() },
        decisions,
    }
}
