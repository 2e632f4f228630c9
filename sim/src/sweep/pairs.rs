//! Protocol pairs: which of two pending changes must be durable first, and is not made to be (after ALICE, OSDI 2014).
//!
//! For each two changes that are pending at the same moment there is an image with the later one and without the earlier
//! one. Where it is legal and recovery fails, an order is missing between them, and the lines of the store that made the two
//! are known. Three kinds of images are tried: all but one change, one change alone with what it rests on, and for each pair
//! everything up to the later one but the earlier one. The third kind tells which pair it was: an order is missing where
//! everything up to the later change is well, everything before it without the earlier one is well, and both at once is not.
//!
//! A failure of the sweep is explained in the same way, see [`missing_orders`].

use super::boundaries::Boundary;
use super::cut::Cut;
use super::sweeper::Sweeper;
use super::tally::Tally;
use crate::disk::PendingChange;
use std::collections::BTreeSet;

/// Pending changes up to which every pair is tried; of more, the newest ones.
const CHANGES_MAX: usize = 24;

/// The changes of a boundary, and what each rests on.
struct Protocol {
    changes: Vec<PendingChange>,
    needs: Vec<BTreeSet<usize>>,
    /// Changes before this one are kept in every image.
    first: usize,
}

impl Protocol {
    fn of(boundary: &Boundary) -> Protocol {
        let changes = boundary.disk.pending_changes();
        let needs = (0..changes.len()).map(|index| boundary.disk.rests_on(&changes, index)).collect();
        let first = changes.len().saturating_sub(CHANGES_MAX);
        Protocol { changes, needs, first }
    }

    /// The cut that keeps of the changes those that `keep` says, where what they rest on is kept.
    fn cut(&self, boundary: &Boundary, keep: impl Fn(usize) -> bool) -> Cut {
        let kept = |index: usize| index < self.first || self.needs[index].iter().all(|&need| keep(need));
        let lost = self.changes.iter().enumerate().filter(|(index, _)| !kept(*index)).map(|(_, change)| change);
        Cut::Losing(boundary.disk.losses_of(lost))
    }
}

/// Tries every pair at this boundary.
pub(super) fn sweep(sweeper: &mut Sweeper<'_>, boundary: &Boundary, tally: &mut Tally) {
    let protocol = Protocol::of(boundary);
    let range = protocol.first..protocol.changes.len();
    let mut cuts = Vec::new();
    for one in range.clone() {
        cuts.push(protocol.cut(boundary, |index| index != one));
        cuts.push(protocol.cut(boundary, |index| protocol.needs[one].contains(&index)));
        cuts.extend((one + 1..range.end).map(|other| protocol.cut(boundary, |i| i <= other && i != one)));
    }
    for cut in cuts {
        tally.paired += 1;
        if let Err(finding) = sweeper.try_cut(boundary, &cut, tally) {
            sweeper.report(&[(boundary, &cut)], finding, tally);
        }
    }
}

/// A sentence for each order that is missing at this boundary, between two changes or between one and a promise.
pub(super) fn missing_orders(sweeper: &mut Sweeper<'_>, boundary: &Boundary, tally: &mut Tally) -> Vec<String> {
    let protocol = Protocol::of(boundary);
    let mut sentences = Vec::new();
    let mut is_well = |keep: &dyn Fn(usize) -> bool| {
        let cut = protocol.cut(boundary, keep);
        sweeper.try_cut(boundary, &cut, tally).is_ok()
    };
    let range = protocol.first..protocol.changes.len();
    for one in range.clone() {
        if is_well(&|index| index <= one) && !is_well(&|index| index < one) {
            let one = &protocol.changes[one];
            sentences.push(format!("missing sync: {one} can be lost, and what was promised rests on it"));
            continue;
        }
        let fails = |other: &usize| {
            !protocol.needs[*other].contains(&one)
                && !is_well(&|index| index <= *other && index != one)
                && is_well(&|index| index <= *other)
                && is_well(&|index| index < *other && index != one)
        };
        if let Some(other) = (one + 1..range.end).find(fails) {
            let (one, other) = (&protocol.changes[one], &protocol.changes[other]);
            sentences.push(format!("missing order: {other} can be durable before {one}"));
        }
    }
    sentences
}
