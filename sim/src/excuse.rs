//! Excuses: which fault explains which error, which lost acknowledgement and which forgotten file. Pure functions of the two
//! ledgers, that of refused calls and that of damage.
//!
//! An excuse is bound to its fault: an error must name the file that was struck, a lost acknowledgement must have lain in the
//! damaged part of a log, a file that is left over must have been part of a call that failed. What no fault explains is a
//! finding.
//!
//! * E1 an input/output error is explained by a call that was refused in this life and took part in the file that is named;
//! * E2 so is a refusal of writes, by a call that would have changed something, and a refusal of everything, by any call;
//! * E3 a corruption is explained by damage in the file that is named; or by damage in the list of files, for then any other
//!   file may seem to be missing or too short;
//! * E4 acknowledgements may be forgotten from the call on that wrote what was damaged in a log, where the log cannot tell; and
//!   from the call on that promised what the disk then did not keep of a log. Where such a promise was about another file or
//!   about names, all of them may be, but for the promises about tables, whose loss is always noticed;
//! * E5 a file may be left over where a call on it failed, or one on the list of files, which leaves it unknown what counts;
//! * E6 the version of the format may go back where a promise about anything but logs, tables and blob files was not kept, or where
//!   what was done struck the file that says it, or what replaces a small file.

use crate::disk::{Damage, Harm};
use crate::fault::FileClass;
use crate::ledger::Refusal;
use crate::store::{Failure, FailureKind};
use std::io::ErrorKind;

/// Sentences that a finding quotes of what happened.
const SENTENCES_MAX: usize = 6;

/// What went wrong with the machine, as far as it can explain anything now.
pub struct Circumstances<'a> {
    /// Calls that were refused in this life.
    pub refusals: &'a [Refusal],
    /// Damage that was ever done.
    pub damage: &'a [Damage],
    /// What a file is to the store, by its name.
    pub classify: &'a dyn Fn(&str) -> FileClass,
}

impl Circumstances<'_> {
    /// Whether something explains this error.
    pub fn explain(&self, failure: &Failure, opening: bool) -> bool {
        let file = failure.file.as_deref();
        let refused = |fits: &dyn Fn(&Refusal) -> bool| {
            self.refusals.iter().any(|refusal| fits(refusal) && file.is_none_or(|name| refusal.names(name)))
        };
        match failure.kind {
            // E1.
            FailureKind::Io => refused(&|refusal| refusal.error != ErrorKind::StorageFull),
            FailureKind::OutOfSpace => refused(&|refusal| refusal.error == ErrorKind::StorageFull),
            // E2.
            FailureKind::ReadOnly => refused(&Refusal::changes),
            FailureKind::Unusable => refused(&|_| true),
            // E3.
            FailureKind::Corruption => self
                .live_damage()
                .any(|damage| file.is_none_or(|name| damage.name() == name) || self.is_of_the_list(damage)),
            FailureKind::Other => opening && self.live_damage().any(|damage| self.is_broken_list(damage)),
            FailureKind::Closed
            | FailureKind::Locked
            | FailureKind::Conflict
            | FailureKind::Stalled
            | FailureKind::TimedOut
            | FailureKind::Invalid
            | FailureKind::Panicked => false,
        }
    }

    /// Whether something explains that a store which looks for damage finds this. Stricter than an error that it meets by the way:
    /// the file that is named must be the one that was struck, whatever else is damaged.
    pub fn explain_found(&self, found: &Failure) -> bool {
        match (found.kind, found.file.as_deref()) {
            (FailureKind::Corruption, Some(name)) => self.live_damage().any(|damage| {
                let temporary = damage.name().strip_suffix(".tmp");
                damage.name() == name || temporary == Some(name)
            }),
            (FailureKind::Corruption, None) => false,
            _ => self.explain(found, false),
        }
    }

    /// Whether what explains this error lasts: whoever asks again gets it again.
    pub fn explain_for_good(&self, failure: &Failure, opening: bool) -> bool {
        let damage: Vec<Damage> = self.damage.iter().filter(|damage| damage.harm != Harm::WrongRead).cloned().collect();
        Circumstances { refusals: &[], damage: &damage, classify: self.classify }.explain(failure, opening)
    }

    /// E4: the call from which on acknowledgements may be forgotten, if there is one.
    pub fn forgiven_from(&self) -> Option<u64> {
        let cost = |damage: &Damage| match (damage.harm, (self.classify)(damage.name())) {
            (_, FileClass::Wal) => damage.forgives,
            (Harm::BrokenPromise { .. }, class) if !matches!(class, FileClass::Sst | FileClass::Blob) => {
                damage.forgives.map(|_| 0)
            }
            _ => None,
        };
        // Also of damage that is over: an opening may have met it whose end nobody saw.
        self.damage.iter().filter_map(cost).min()
    }

    /// Whether, since a store was last opened and found whole, a crash has broken what a sync that did nothing had promised, of
    /// whatever file.
    pub fn promise_is_broken(&self) -> bool {
        let broken = |damage: &Damage| matches!(damage.harm, Harm::BrokenPromise { .. }) && damage.forgives.is_some();
        self.damage.iter().any(broken)
    }

    /// E6: whether the store may show an older version of its format than it had.
    pub fn may_forget_its_version(&self) -> bool {
        self.damage.iter().any(|damage| match (self.classify)(damage.name()) {
            FileClass::Identity | FileClass::Temp => true,
            FileClass::Wal | FileClass::Sst | FileClass::Blob => false,
            _ => matches!(damage.harm, Harm::BrokenPromise { .. }),
        })
    }

    /// E5: whether the store may have left this file behind without being able to help it.
    pub fn may_be_left(&self, file: &str) -> bool {
        let of_the_list =
            |class| matches!(class, FileClass::Manifest | FileClass::Current | FileClass::Temp | FileClass::Directory);
        let failed = self.refusals.iter().filter(|refusal| refusal.changes());
        failed.into_iter().any(|refusal| refusal.names(file) || of_the_list(refusal.class))
    }

    /// What happened, in sentences.
    pub fn sentences(&self) -> Vec<String> {
        let refusals = self.refusals.iter().map(Refusal::to_string);
        let mut sentences: Vec<String> = refusals.chain(self.live_damage().map(Damage::to_string)).collect();
        if sentences.is_empty() {
            return vec![
                "no call was failed since the store was opened, and no byte that it can read is damaged".into(),
            ];
        }
        let more = sentences.len().saturating_sub(SENTENCES_MAX);
        if more > 0 {
            sentences.drain(..more);
            sentences.insert(0, format!("{more} other calls were failed since the store was opened"));
        }
        sentences
    }

    fn live_damage(&self) -> impl Iterator<Item = &Damage> {
        self.damage.iter().filter(|damage| !damage.over)
    }

    /// Damage of the list of files that count.
    fn is_of_the_list(&self, damage: &Damage) -> bool {
        (self.classify)(damage.name()) == FileClass::Manifest || self.is_broken_list(damage)
    }

    /// A broken promise about the list of files, or about their names.
    fn is_broken_list(&self, damage: &Damage) -> bool {
        use FileClass::{Current, Identity, Manifest, Temp};
        match damage.harm {
            Harm::BrokenPromise { of_names: true } => true,
            Harm::BrokenPromise { of_names: false } => {
                matches!((self.classify)(damage.name()), Manifest | Current | Identity | Temp)
            }
            Harm::Flip { .. } | Harm::LostWrite { .. } | Harm::StrayWrite { .. } | Harm::WrongRead => false,
        }
    }
}

#[cfg(test)]
mod tests;
