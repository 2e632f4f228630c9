//! Crashes within a recovery: power goes at each change that opening makes, and what is opened then must show the same.
//!
//! Whatever a power cut left is durable, so a second one can take nothing away that the first has not taken: the state that
//! the first recovery shows is the one that every later one must show. Where only the process had died, pending changes are
//! still pending, and all that was promised durable must be there. Two images stand for all: as little as is legal, and
//! everything. The same again within the second recovery, where the depth allows.
//!
//! Left out: a disk that lies about syncs, where a recovery can lose what it recovered.

use super::boundaries::{Boundary, Calls};
use super::cut::Cut;
use super::recovery::Shown;
use super::sweeper::Sweeper;
use super::tally::Tally;
use crate::disk::{Disk, ImageChoice};
use crate::oracle::{Finding, Mark};
use crate::runner::without_a_cause;
use crate::watch::Watch;
use parking_lot::Mutex;
use std::mem;
use std::sync::Arc;

/// What recoveries after the first crash must show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Expected {
    /// The state of this hash.
    Exactly(u64),
    /// What was promised durable by then.
    Durable(Mark),
}

/// Crashes within the recovery of `image`, which a cut at this boundary has left, and which shows a state of this hash.
pub(super) fn sweep(
    sweeper: &mut Sweeper<'_>,
    boundary: &Boundary,
    cut: &Cut,
    image: &Disk,
    state: u64,
    tally: &mut Tally,
) {
    if sweeper.subject().plan.profile.syncs_are_honest() {
        let depth = sweeper.depth() - 1;
        let expected = match cut {
            Cut::Process => Expected::Durable(boundary.mark),
            Cut::Power(_) | Cut::Losing(_) => Expected::Exactly(state),
        };
        descend(sweeper, &[(boundary, cut)], image, expected, depth, tally);
    }
}

fn descend(
    sweeper: &mut Sweeper<'_>,
    crashes: &[(&Boundary, &Cut)],
    image: &Disk,
    expected: Expected,
    depth: u32,
    tally: &mut Tally,
) {
    let (last, _) = crashes[crashes.len() - 1];
    for boundary in boundaries_of_recovery(sweeper, image, last, tally) {
        for choice in [ImageChoice::Min, ImageChoice::All] {
            let cut = Cut::Power(choice);
            let (image, _) = cut.image(&boundary.disk);
            let hash = image.image_hash();
            if sweeper.is_late() || !sweeper.nested.insert((hash, expected)) {
                continue;
            }
            tally.nested += 1;
            let mut crashes = crashes.to_vec();
            crashes.push((&boundary, &cut));
            match sweeper.recover(&image, hash, None, tally) {
                Shown::State { hash, .. } if sweeper.is_as_expected(hash, expected) => {
                    if depth > 1 {
                        descend(sweeper, &crashes, &image, expected, depth - 1, tally);
                    }
                }
                Shown::State { .. } => {
                    let symptom = "a crash within the recovery changed what the next one recovers";
                    sweeper.report(&crashes, Finding::new("recovery-lost-what-it-found", "", symptom), tally);
                }
                Shown::Wrong(finding) => sweeper.report(&crashes, finding, tally),
                Shown::Refused(failure, doing) => sweeper.report(&crashes, without_a_cause(&failure, doing), tally),
            }
        }
    }
}

/// Recovers once more, and keeps the disk before each change.
fn boundaries_of_recovery(
    sweeper: &mut Sweeper<'_>,
    image: &Disk,
    last: &Boundary,
    tally: &mut Tally,
) -> Vec<Boundary> {
    let seen: Arc<Mutex<(Vec<Boundary>, Calls)>> = Arc::new(Mutex::new((Vec::new(), last.calls.clone())));
    let (mark, ops, decisions) = (last.mark, last.ops, last.decisions);
    let watch: Watch = {
        let seen = seen.clone();
        Box::new(move |sight| {
            if !sight.is_exposed || !sight.is_boundary() {
                return;
            }
            let (boundaries, calls) = &mut *seen.lock();
            *calls.entry((sight.op, sight.class)).or_default() += 1;
            let index = boundaries.len() as u64;
            boundaries.push(Boundary::new(sight, index, mark, ops, decisions, calls));
        })
    };
    sweeper.recover(image, image.image_hash(), Some(watch), tally);
    mem::take(&mut seen.lock().0)
}
