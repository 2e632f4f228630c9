//! Many sweeps on many threads: each is cut into parts, intervals of its boundaries, and a thread takes a part at a time.
//!
//! How many parts there are does not depend on how many threads there are, so neither do the numbers. The first parts of all
//! sweeps come before the second ones: when time runs out, each has had its share.

use super::sweeper::{How, Subject, count, sweep};
use super::tally::Tally;
use crate::campaign::real_now;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Parts of a sweep. Each makes the run of the workload anew, and recovers for itself what another has met.
const PARTS: u64 = 4;

/// Sweeps all of them, and tells of each part when it is done, by the index of its subject. `how.range` is of no account.
pub fn sweep_all(subjects: &[Subject], how: &How, jobs: usize, hear: impl FnMut(usize, Tally) + Send) {
    if subjects.is_empty() {
        return;
    }
    let next = AtomicUsize::new(0);
    let hear = Mutex::new(hear);
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let (part, index) = ((number / subjects.len()) as u64, number % subjects.len());
                    if part >= PARTS {
                        return;
                    }
                    let late = how.deadline.is_some_and(|deadline| real_now() >= deadline);
                    let total = count(&subjects[index]);
                    let range = total * part / PARTS..total * (part + 1) / PARTS;
                    let tally = match late {
                        true => Tally { total, ..Tally::default() },
                        false => sweep(&subjects[index], &How { range, ..how.clone() }),
                    };
                    (hear.lock())(index, tally);
                }
            });
        }
    });
}
